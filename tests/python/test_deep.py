"""Depth: graphs of a million nodes in a thread with a small stack, and transforms in transforms."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import adjoint as ad

LENGTH = 1_000_000
STACK = 512 * 1024


@pytest.fixture(autouse=True)
def no_garbage_of_others():
    """What earlier tests left in cycles is not freed, and counted, in the middle of these."""
    gc.collect()


def in_small_thread(f):
    """The result of f(), run in a thread whose stack a recursion over a graph would overflow."""
    result = []
    before = threading.stack_size(STACK)
    try:
        thread = threading.Thread(target=lambda: result.append(f()))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert result, "the thread ended with an exception"
    return result[0]


# ---- long chains --------------------------------------------------------------------------------


def chain(x, length=LENGTH):
    y = x
    for _ in range(length):
        y = y + 1.0
    return y


def test_a_million_operations_are_built_differentiated_and_freed():
    nodes = ad.memory_stats()["live_nodes"]

    def run():
        x = ad.tensor(2.0, requires_grad=True)
        y = chain(x)
        assert y.item() == LENGTH + 2.0
        y.backward()
        return x.grad.item()

    assert in_small_thread(run) == 1.0
    assert ad.memory_stats()["live_nodes"] == nodes


def test_a_million_saved_values_are_freed_without_a_sweep():
    nodes = ad.memory_stats()["live_nodes"]

    def run():
        y = ad.tensor(1.0, requires_grad=True)
        for _ in range(LENGTH):
            y = y * 1.0000001
        return y.item()

    assert in_small_thread(run) == pytest.approx(np.exp(0.1), rel=1e-6)
    assert ad.memory_stats()["live_nodes"] == nodes


def test_a_million_operations_on_vectors_with_second_order():
    def run():
        x = ad.tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        for _ in range(LENGTH // 10):
            y = y + x
        (first,) = (ad.grad(lambda v: ad.sum(v * v * v)),)
        ad.sum(y).backward()
        return x.grad.numpy().tolist(), first(ad.tensor([1.0, 2.0])).numpy().tolist()

    sweep, other = in_small_thread(run)
    assert sweep == [LENGTH // 10 + 2.0, LENGTH // 10 + 4.0] and other == [3.0, 12.0]


def test_a_long_recorded_sweep_is_swept_and_freed():
    length = 100_000

    def run():
        def f(x):
            y = x
            for _ in range(length):
                y = y * 1.0
            return y * x

        return ad.grad(ad.grad(f))(3.0).item()

    assert in_small_thread(run) == 2.0


def test_a_long_chain_forward_mode_and_batched():
    def run():
        value, tangent = ad.jvp(lambda x: chain(x, 100_000), (ad.tensor(2.0),), (ad.tensor(1.0),))
        batch = ad.vmap(lambda x: chain(x, 20_000))(ad.tensor([1.0, 2.0]))
        return value.item(), tangent.item(), batch.numpy().tolist()

    assert in_small_thread(run) == (100_002.0, 1.0, [20_001.0, 20_002.0])


def test_long_deferred_chains():
    size, length = 9000, 3000

    def run():
        x = ad.asarray(np.arange(size) * 1.0)
        return chain(x, length).numpy().tolist()

    assert in_small_thread(run) == [length + i for i in range(size)]


def test_long_deferred_recorded_chains():
    size, length = 9000, 3000

    def run():
        x = ad.tensor(np.arange(size) * 1.0, requires_grad=True)
        y = chain(x, length)
        ad.sum(y * y).backward()
        return np.array_equal(x.grad.numpy(), 2 * (length + np.arange(size)))

    assert in_small_thread(run)


@pytest.mark.parametrize("recorded", [False, True])
def test_long_deferred_chains_nobody_asks_for(recorded):
    before = ad.memory_stats()

    def run():
        x = ad.tensor(np.ones(9000), requires_grad=recorded)
        y = chain(x, 20_000)
        del y
        return True

    assert in_small_thread(run)
    after = ad.memory_stats()
    assert (after["live_nodes"], after["live"]) == (before["live_nodes"], before["live"])


def test_a_wide_sum_and_a_wide_join():
    def run():
        x = ad.tensor(1.0, requires_grad=True)
        y = ad.stack([x * float(i) for i in range(20_000)])
        ad.sum(y).backward()
        return x.grad.item()

    assert in_small_thread(run) == sum(range(20_000))


def test_a_long_chain_is_compiled():
    length = 20_000

    def run():
        f = ad.compile(ad.value_and_grad(lambda x: chain(x, length) * x))
        value, slope = f(ad.tensor(3.0))
        return value.item(), slope.item()

    assert in_small_thread(run) == ((length + 3.0) * 3.0, length + 6.0)


# ---- transforms in transforms -------------------------------------------------------------------


def d(f):
    """The derivative of a function of one number, by forward mode."""
    return lambda x: ad.jvp(f, (ad.asarray(x),), (ad.asarray(1.0),))[1]


DERIVATIVES = {"forward": d, "reverse": ad.grad}
modes = pytest.mark.parametrize("outer", DERIVATIVES)
inner_modes = pytest.mark.parametrize("inner", DERIVATIVES)


@modes
@inner_modes
def test_perturbations_are_not_confused(outer, inner):
    outer, inner = DERIVATIVES[outer], DERIVATIVES[inner]
    # d/dx [x * d/dy (x + y)] = 1, not 2
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0).item() == 1.0
    # d/dx [x * d/dy (x * y)] = d/dx x**2
    assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0).item() == 6.0
    # the inner point depends on the outer variable: d/dx [3 x**2] at 2
    assert outer(lambda x: inner(lambda y: y**3)(x))(2.0).item() == 12.0
    # both: d/dx [d/dy (x * y**2) at y = x] = d/dx 2 x**2
    assert outer(lambda x: inner(lambda y: x * y * y)(x))(5.0).item() == 20.0
    # the inner derivative does not depend on the outer variable
    assert outer(lambda x: inner(lambda y: y * y)(3.0) + 0 * x)(1.0).item() == 0.0


@modes
@inner_modes
@pytest.mark.parametrize("middle", DERIVATIVES)
def test_three_levels(outer, middle, inner):
    outer, middle, inner = DERIVATIVES[outer], DERIVATIVES[middle], DERIVATIVES[inner]
    f = lambda x: middle(lambda y: inner(lambda z: x**2 * y**3 * z**4)(y))(x)  # noqa: E731
    # d/dz: 4 x^2 y^3 z^3 at z = y is 4 x^2 y^6; d/dy: 24 x^2 y^5 at y = x is 24 x^7
    assert outer(f)(1.5).item() == pytest.approx(168 * 1.5**6, rel=1e-13)


def test_an_outer_variable_in_an_inner_tangent():
    def f(x):
        return ad.jvp(lambda y: y * y, (ad.tensor(3.0),), (x,))[1]

    assert ad.grad(f)(5.0).item() == 6.0 and d(f)(5.0).item() == 6.0


MATRIX = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.5, -1.0, 1.0]])
VECTOR = np.array([0.3, -0.7, 1.1])


def quartic(x):
    return ad.sum(ad.square(ad.matmul(ad.asarray(MATRIX), x)) ** 2)


def quartic_gradient(x):
    return MATRIX.T @ (4 * (MATRIX @ x) ** 3)


def quartic_hessian(x):
    return MATRIX.T @ np.diag(12 * (MATRIX @ x) ** 2) @ MATRIX


def test_hessian_against_the_formula():
    x = ad.asarray(VECTOR)
    close = lambda a, b: np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12)  # noqa: E731
    close(ad.grad(quartic)(x), quartic_gradient(VECTOR))
    close(ad.hessian(quartic)(x), quartic_hessian(VECTOR))
    close(ad.jacobian(ad.grad(quartic))(x), quartic_hessian(VECTOR))
    v = np.array([1.0, -2.0, 0.5])
    close(ad.hvp(quartic, x, ad.asarray(v)), quartic_hessian(VECTOR) @ v)
    slope = lambda y: ad.jvp(quartic, (y,), (ad.asarray(v),))[1]  # noqa: E731
    close(ad.grad(slope)(x), quartic_hessian(VECTOR) @ v)


def test_batches_of_gradients_of_batches():
    points = np.stack([VECTOR, 2 * VECTOR, VECTOR - 1])
    x = ad.asarray(points)
    expected = np.stack([quartic_gradient(p) for p in points])
    batch = ad.vmap(ad.grad(quartic))(x)
    np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-12)
    of_batch = ad.grad(lambda y: ad.sum(ad.vmap(quartic)(y)))(x)
    np.testing.assert_allclose(of_batch.numpy(), expected, rtol=1e-12)
    hessians = ad.vmap(ad.hessian(quartic))(x)
    np.testing.assert_allclose(
        hessians.numpy(), np.stack([quartic_hessian(p) for p in points]), rtol=1e-12
    )


def test_two_batch_levels():
    a, b = np.arange(3.0), np.arange(4.0) + 1
    table = ad.vmap(lambda x: ad.vmap(lambda y: x * y + ad.sin(x))(ad.asarray(b)))(ad.asarray(a))
    np.testing.assert_allclose(table.numpy(), a[:, None] * b + np.sin(a)[:, None], rtol=1e-15)


def test_a_gradient_inside_a_batch_through_an_outer_gradient():
    def f(w):
        slopes = ad.vmap(lambda x: ad.grad(lambda y: w * y**3)(x))(ad.tensor([1.0, 2.0]))
        return ad.sum(slopes * w)

    # sum of 3 w^2 x^2 = 15 w^2
    assert ad.grad(f)(2.0).item() == 60.0
    assert d(f)(2.0).item() == 60.0


def test_a_compiled_function_inside_transforms():
    f = ad.compile(quartic)
    x = ad.asarray(VECTOR)
    np.testing.assert_allclose(ad.grad(f)(x).numpy(), quartic_gradient(VECTOR), rtol=1e-12)
    np.testing.assert_allclose(ad.hessian(f)(x).numpy(), quartic_hessian(VECTOR), rtol=1e-12)
    batch = ad.vmap(f)(ad.asarray(np.stack([VECTOR, 2 * VECTOR])))
    np.testing.assert_allclose(batch.numpy()[1], 16 * batch.numpy()[0], rtol=1e-12)


def test_a_box_that_escapes_is_named():
    kept = []
    ad.jvp(lambda x: kept.append(x) or x, (ad.tensor(1.0),), (ad.tensor(1.0),))
    with pytest.raises(RuntimeError, match="transform that has ended"):
        kept[0] + 1.0
