"""Derivatives given by hand, recomputation, operations on the host, roots and fixed points.

Each case is one function written twice: by plain operations, and with a rule of its own. The plain
one is checked against closed forms here and by differences elsewhere; the other must agree with it
in every nesting of transforms.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

X = np.array([0.3, 1.2, -0.7])
Y = np.array([2.0, 0.5, 1.5])


def plain(x: Any, y: Any) -> Any:
    return ad.sin(x) * y


@ad.custom_vjp
def by_vjp(x: Any, y: Any) -> Any:
    return ad.sin(x) * y


by_vjp.defvjp(
    lambda x, y: (ad.sin(x) * y, (x, y)),
    lambda residuals, ct: (ct * ad.cos(residuals[0]) * residuals[1], ct * ad.sin(residuals[0])),
)


@ad.custom_jvp
def by_jvp(x: Any, y: Any) -> Any:
    return ad.sin(x) * y


@by_jvp.defjvp
def _rule(primals: Any, tangents: Any) -> Any:
    (x, y), (s, t) = primals, tangents
    return ad.sin(x) * y, s * ad.cos(x) * y + ad.sin(x) * t


by_host = ad.host_op(
    lambda x, y: np.sin(x) * y,
    shape=lambda x, y: x,
    vjp=lambda inputs, out, ct: (ct * ad.cos(inputs[0]) * inputs[1], ct * ad.sin(inputs[0])),
)

FORMS = {
    "vjp": by_vjp,
    "jvp": by_jvp,
    "checkpoint": ad.checkpoint(plain),
    "host": by_host,
}


def loss(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: ad.sum(f(x, y) ** 2)


def directional(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: ad.jvp(f, (x, y), (y, x))[1]


# name -> a transform of f(x, y); each is applied to both forms of f.
NESTINGS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "value": lambda f: f,
    "grad": lambda f: ad.grad(loss(f), argnums=(0, 1)),
    "jvp": directional,
    "hessian": lambda f: lambda x, y: ad.hessian(lambda x: loss(f)(x, y))(x),
    "hvp": lambda f: lambda x, y: ad.hvp(lambda x: loss(f)(x, x * y), x, y),
    "jvp of jvp": lambda f: directional(directional(f)),
    "grad of jvp": lambda f: ad.grad(lambda x, y: ad.sum(directional(f)(x, y)), argnums=(0, 1)),
    "jvp of vmap": lambda f: directional(ad.vmap(f)),
    "vmap of grad": lambda f: ad.vmap(ad.grad(lambda a, b: f(a, b) ** 2)),
    "vmap, one mapped": lambda f: (
        lambda x, y: ad.vmap(
            ad.grad(lambda a, b: ad.sum(f(a * y, b) ** 2), argnums=(0, 1)), in_axes=(0, None)
        )(x, y)
    ),
    "grad of vmap": lambda f: ad.grad(
        lambda x, y: ad.sum(ad.vmap(lambda a: f(a, y[0]) ** 2)(x)), argnums=(0, 1)
    ),
    "vmap of grad of grad": lambda f: ad.vmap(ad.grad(ad.grad(lambda a, b: f(a, b) ** 2))),
    "third order": lambda f: (
        lambda x, y: ad.vmap(ad.grad(ad.grad(ad.grad(lambda a, b: f(a, a * b)))))(x, y)
    ),
    "linearize": lambda f: lambda x, y: ad.linearize(f, x, y)[1](y, x),
    "taylor": lambda f: lambda x, y: ad.taylor(f, (x, y), (y, x), 3),
    "vjp": lambda f: lambda x, y: ad.vjp(f, x, y)[1](x),
    "jacobian forward": lambda f: lambda x, y: ad.jacobian(f, mode="forward")(x, y),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["now", "compiled"])
@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("form", FORMS)
def test_a_rule_serves_every_nesting(form: str, nesting: str, compiled: bool) -> None:
    transform = NESTINGS[nesting]
    expected = transform(plain)(ad.tensor(X), ad.tensor(Y))
    run = transform(FORMS[form])
    if compiled:
        run = ad.compile(run)
    ad.testing.assert_close(run(ad.tensor(X), ad.tensor(Y)), expected, rtol=1e-12, atol=1e-13)


def test_the_plain_function_has_its_closed_forms() -> None:
    gx, gy = ad.grad(loss(plain), argnums=(0, 1))(ad.tensor(X), ad.tensor(Y))
    np.testing.assert_allclose(gx.numpy(), np.sin(2 * X) * Y**2, rtol=1e-13)
    np.testing.assert_allclose(gy.numpy(), 2 * np.sin(X) ** 2 * Y, rtol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_rules_work_among_deferred_values(form: str) -> None:
    x = np.linspace(-1, 1, 1 << 17)
    gx = ad.grad(lambda x: ad.sum(2 * FORMS[form](3 * x, x + 1)))(ad.tensor(x))
    expected = 6 * np.cos(3 * x) * (x + 1) + 2 * np.sin(3 * x)
    np.testing.assert_allclose(gx.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_leaves_and_backward_see_the_rule_twice(form: str) -> None:
    x = ad.tensor(X, requires_grad=True)
    ad.sum(FORMS[form](x, ad.tensor(Y))).backward(create_graph=True)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), np.cos(X) * Y, rtol=1e-13)
    first, x.grad = x.grad, None
    ad.sum(first).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), -np.sin(X) * Y, rtol=1e-13)


def test_the_rule_is_used_and_not_the_function() -> None:
    @ad.custom_vjp
    def clipped(x: Any) -> Any:
        return x * 1.0

    clipped.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (ad.clip(ct, -1, 1),))
    assert ad.grad(lambda x: 5 * clipped(x))(2.0).item() == 1.0
    assert ad.grad(lambda x: 0.5 * clipped(x))(2.0).item() == 0.5


def test_residuals_are_differentiated_at_second_order() -> None:
    @ad.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, 3 * x**2), lambda slope, ct: (ct * slope,))
    assert ad.grad(ad.grad(cube))(2.0).item() == 12.0
    assert ad.grad(ad.grad(ad.grad(cube)))(2.0).item() == 6.0


def test_several_results_trees_and_arguments_without_derivative() -> None:
    @ad.custom_vjp
    def f(tree: Any, n: int, index: Any) -> Any:
        return {"p": tree["a"] * n, "q": (ad.sum(tree["b"][index]), index)}

    def backward(n: int, ct: Any) -> Any:
        return {"a": ct["p"] * n, "b": ct["q"][0] * ad.ones(3)}, None, None

    f.defvjp(lambda tree, n, index: (f(tree, n, index), n), backward)
    index = ad.tensor([0, 2])
    for run in (f, lambda *args: ad.compile(lambda t, i: f(t, 2, i))(args[0], args[2])):
        out = ad.grad(
            lambda t, run=run: ad.sum(run(t, 2, index)["p"]) + 7 * run(t, 2, index)["q"][0]
        )
        g = out({"a": ad.tensor(X), "b": ad.tensor(Y)})
        assert g["a"].tolist() == [2.0, 2.0, 2.0]
        assert g["b"].tolist() == [7.0, 7.0, 7.0]


def test_a_differentiated_value_must_be_an_argument() -> None:
    weight = ad.tensor(3.0, requires_grad=True)
    f = ad.custom_jvp(lambda x: weight * x)
    f.defjvp(lambda p, t: (weight * p[0], weight * t[0]))
    with pytest.raises(
        ValueError, match=r"\[custom_jvp.*closes over a value that is differentiated"
    ):
        f(ad.tensor(5.0, requires_grad=True))
    g = ad.custom_vjp(lambda x: weight * x)
    g.defvjp(lambda x: (weight * x, None), lambda _, ct: (weight * ct,))
    with pytest.raises(ValueError, match=r"\[custom_vjp.*pass it as an argument"):
        g(ad.tensor(5.0, requires_grad=True))
    root = ad.custom_root(lambda x, a: x - a * weight, lambda g, x: ad.tensor(6.0))
    with pytest.raises(ValueError, match=r"\[custom_root\] the function closes over"):
        ad.grad(lambda a: root(1.0, a))(2.0)


def test_checkpoint_of_a_function_that_closes_over_the_input() -> None:
    # f(x) = sin(x) x: 2 cos(x) - x sin(x) and its derivative, whichever modes give them.
    x = 0.7
    f = lambda x: ad.checkpoint(lambda t: ad.sin(t) * x)(x)  # noqa: E731
    r, d = ad.grad, lambda f: lambda x: ad.jvp(f, (x,), (1.0,))[1]
    second = 2 * np.cos(x) - x * np.sin(x)
    third = -3 * np.sin(x) - x * np.cos(x)
    for a in (r, d):
        for b in (r, d):
            np.testing.assert_allclose(a(b(f))(x).item(), second, rtol=1e-13)
            for c in (r, d):
                np.testing.assert_allclose(a(b(c(f)))(x).item(), third, rtol=1e-13)
    batch = ad.grad(lambda x: ad.sum(ad.vmap(f)(x)))(ad.tensor([x, x]))
    np.testing.assert_allclose(batch.numpy(), [np.cos(x) * x + np.sin(x)] * 2, rtol=1e-13)


def test_checkpoint_in_batches_of_batches() -> None:
    x = np.array([[0.3, 1.2], [-0.7, 2.0]])
    f = ad.vmap(ad.vmap(ad.checkpoint(ad.sin)))
    tangent = ad.jvp(f, (ad.tensor(x),), (ad.ones((2, 2)),))[1]
    np.testing.assert_allclose(tangent.numpy(), np.cos(x), rtol=1e-15)


def test_methods_and_keywords() -> None:
    class Layer:
        @ad.custom_jvp
        def scale(self, x: Any, factor: Any = 2.0) -> Any:
            return x * factor

    Layer.scale.defjvp(lambda p, t: (p[1] * p[2], t[1] * p[2]))
    assert ad.grad(lambda x: Layer().scale(x, factor=4.0))(1.0).item() == 4.0
    assert Layer.scale.__name__ == "scale"


# ---- checkpoint ----------------------------------------------------------------------------------


def chain(layer: Callable[..., Any], depth: int, x: Any, weights: Any) -> Any:
    for i in range(depth):
        x = layer(x, weights[i])
    return ad.sum(x)


def test_checkpoint_keeps_less() -> None:
    depth, n = 64, 1 << 14
    w = ad.tensor(np.linspace(0.5, 1.5, depth))
    x = ad.tensor(np.linspace(-1, 1, n))

    def block(x: Any, w: Any) -> Any:
        for i in range(8):
            x = ad.tanh(x * w[i])
        return x

    def run(layer: Callable[..., Any]) -> tuple[np.ndarray[Any, Any], int]:
        loss = lambda x: chain(layer, depth // 8, x, ad.reshape(w, (8, 8)))  # noqa: E731
        with ad.deferral(False):
            before = ad.memory_stats()["live"]
            ad.reset_peak_memory()
            g = ad.grad(loss)(x).numpy()
        return g, ad.memory_stats()["peak"] - before

    plain_grad, plain_peak = run(block)
    kept_grad, kept_peak = run(ad.checkpoint(block))
    np.testing.assert_array_equal(kept_grad, plain_grad)
    assert kept_peak < plain_peak / 2


def test_checkpoint_reaches_parameters_it_closes_over() -> None:
    w = ad.tensor(X, requires_grad=True)
    layer = ad.checkpoint(lambda x: ad.sin(w * x))
    ad.sum(layer(ad.tensor(Y))).backward()
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), np.cos(X * Y) * Y, rtol=1e-13)


def test_checkpoint_runs_again_with_what_it_has_read() -> None:
    w = ad.tensor(X, requires_grad=True)
    out = ad.sum(ad.checkpoint(lambda x: ad.sin(w * x))(ad.tensor(Y)))
    with ad.no_grad():
        w -= 1.0
    out.backward()
    ad.testing.assert_close(w.grad, np.cos(X * Y) * Y)


def test_checkpoint_under_a_tape_that_has_ended() -> None:
    x = ad.tensor(2.0)
    with ad.GradientTape() as tape:
        tape.watch(x)
        y = ad.checkpoint(lambda a: ad.sin(a) * x)(x)
    ad.testing.assert_close(tape.gradient(y, x), np.sin(2.0) + 2.0 * np.cos(2.0))


def test_checkpoint_in_a_program_computes_again() -> None:
    f = ad.checkpoint(lambda x: ad.sin(x) * x)
    text = str(ad.compile(ad.grad(lambda x: ad.sum(f(f(x))))).program(ad.tensor(X)))
    assert text.count("sin ") > 2
    assert "barrier" in text


# ---- Roots and fixed points ----------------------------------------------------------------------


def newton(g: Callable[[Any], Any], x: Any) -> Any:
    for _ in range(40):
        step = np.linalg.solve(ad.jacobian(g)(x).numpy(), g(x).numpy())
        x = x - ad.asarray(step)
    return x


def equations(x: Any, a: Any) -> Any:
    return ad.stack([x[0] ** 3 + x[1] - a[0], x[1] ** 3 - x[0] - a[1]])


def cg(matvec: Callable[[Any], Any], b: Any) -> Any:
    """Conjugate gradients on the normal equations would do; two unknowns are solved directly."""
    columns = [matvec(ad.tensor([1.0, 0.0])), matvec(ad.tensor([0.0, 1.0]))]
    (p, q), (r, s) = columns
    det = p * s - q * r
    return ad.stack([(s * b[0] - r * b[1]) / det, (p * b[1] - q * b[0]) / det])


@pytest.mark.parametrize("linear_solve", [None, cg], ids=["dense", "own"])
def test_root_has_the_derivative_of_the_equation(linear_solve: Any) -> None:
    root = ad.custom_root(equations, newton, linear_solve)
    start, a = ad.tensor([1.0, 1.0]), ad.tensor([2.0, 3.0])
    x = root(start, a).numpy()
    inverse = np.linalg.inv(np.array([[3 * x[0] ** 2, 1], [-1, 3 * x[1] ** 2]]))
    for mode in ("forward", "reverse"):
        found = ad.jacobian(lambda a: root(start, a), mode=mode)(a)
        np.testing.assert_allclose(found.numpy(), inverse, rtol=1e-12)
    # d2x_k = -sum_m inverse[k, m] * 6 x_m * dx_m dx_m
    second = -np.einsum("km,m,mi,mj->kij", inverse, 6 * x, inverse, inverse)
    found = ad.jacobian(ad.jacobian(lambda a: root(start, a)))(a)
    np.testing.assert_allclose(found.numpy(), second, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("found", [2.0, np.float64(2.0), np.array(2.0)])
def test_solvers_may_return_plain_numbers(found: Any) -> None:
    root = ad.custom_root(lambda x, a: x * x - a, lambda g, x: found)
    for run in (ad.grad(lambda a: 3 * a + root(1.0, a)), lambda a: 3 + ad.grad(root, 1)(1.0, a)):
        assert run(4.0).item() == 3.25


def test_a_root_must_be_floating_and_like_its_start() -> None:
    with pytest.raises(TypeError, match=r"\[custom_root\] x must be floating"):
        ad.custom_root(lambda x, a: x * x - a, lambda g, x: ad.tensor(2))(1.0, 4.0)
    with pytest.raises(TypeError, match=r"\[custom_root\] the solver must return a tree like x0"):
        ad.custom_root(lambda x, a: x[0] - a, lambda g, x: x[0])((1.0,), 4.0)
    with pytest.raises(TypeError, match=r"\[custom_fixed_point\]"):
        ad.custom_fixed_point(lambda x, a: x, lambda g, x: x)(1, 3.0)


def test_singular_root_is_an_error() -> None:
    root = ad.custom_root(lambda x, a: x * 0 + a, lambda g, x: x)
    with pytest.raises(ValueError, match=r"\[custom_root\].*singular"):
        ad.grad(lambda a: root(1.0, a))(0.0)
    fixed = ad.custom_fixed_point(lambda x, a: x + 0.0 * a, lambda g, x: x)
    with pytest.raises(ValueError, match=r"\[custom_fixed_point\].*singular"):
        ad.grad(lambda a: fixed(1.0, a))(0.0)
    with pytest.raises(ValueError, match="singular"):
        ad.compile(ad.grad(lambda a: fixed(1.0, a)))(0.0)


def test_errors_name_the_function_that_was_called() -> None:
    fixed = ad.custom_fixed_point(lambda x, a: x + a * ad.ones(2), lambda g, x: x)
    with pytest.raises(ValueError, match=r"\[custom_fixed_point\] the equation must return"):
        ad.grad(lambda a: fixed(1.0, a))(0.0)


def test_fixed_point_of_the_cosine() -> None:
    fixed = ad.custom_fixed_point(lambda x, a: ad.cos(a * x))
    x = 0.7390851332151607  # the Dottie number
    first = -x * np.sin(x) / (1 + np.sin(x))
    for run in (ad.grad(lambda a: fixed(0.5, a)), ad.compile(ad.grad(lambda a: fixed(0.5, a)))):
        np.testing.assert_allclose(run(1.0).item(), first, rtol=1e-11)
    batch = ad.vmap(ad.grad(lambda a: fixed(0.5, a)))(ad.tensor([1.0, 1.0]))
    np.testing.assert_allclose(batch.numpy(), [first, first], rtol=1e-11)
    # x(a) = cos(a x): x'' from differentiating -sin(u) u' twice, u = a x.
    u1 = x + first
    second = -(np.cos(x) * u1**2 + np.sin(x) * 2 * first) / (1 + np.sin(x))
    np.testing.assert_allclose(
        ad.grad(ad.grad(lambda a: fixed(0.5, a)))(1.0).item(), second, rtol=1e-10
    )


# ---- Errors, and what is kept --------------------------------------------------------------------


def test_the_rule_may_call_its_function_in_every_trace() -> None:
    @ad.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (cube(x), x), lambda x, ct: (ct * 3 * x**2,))
    assert [d.item() for d in ad.taylor(cube, (2.0,), (1.0,), 3)] == [8.0, 12.0, 12.0, 6.0]
    chosen = lambda x: ad.cond(x > 0, cube, cube, x)  # noqa: E731
    twice = lambda x: ad.scan(lambda c, _: (cube(c), None), x, length=2)[0]  # noqa: E731
    assert ad.compile(ad.grad(chosen))(2.0).item() == 12.0
    assert ad.compile(ad.grad(twice))(2.0).item() == 9 * 2.0**8


def test_a_rule_in_a_trace_must_not_close_over_it() -> None:
    def scaled(w: Any) -> Any:
        f = ad.custom_vjp(lambda x: x * w)
        f.defvjp(lambda x: (x * w, None), lambda _, ct: (ct * w,))
        return f

    with pytest.raises(ValueError, match="closes over a value that is differentiated"):
        ad.taylor(lambda w: scaled(w)(w), (5.0,), (1.0,), 2)
    step = lambda c, _: (scaled(c)(c), None)  # noqa: E731
    with pytest.raises(ValueError, match="closes over a value that is differentiated"):
        ad.compile(lambda x: ad.scan(step, x, length=2)[0])(2.0)


def test_defaults_are_arguments_of_the_rule() -> None:
    power = ad.custom_vjp(lambda x, n=2: x**n)
    power.defvjp(lambda x, n: (x**n, (x, n)), lambda r, ct: (ct * r[1] * r[0] ** (r[1] - 1), None))
    assert ad.grad(power)(3.0).item() == 6.0
    assert ad.grad(lambda x: power(x=x))(3.0).item() == 6.0


@pytest.mark.parametrize("vectorized", [False, True])
def test_host_operations_of_empty_batches(vectorized: bool) -> None:
    op = ad.host_op(lambda x: x, shape=lambda x: x, vectorized=vectorized)
    assert ad.vmap(op)(ad.zeros((0, 3))).shape == (0, 3)


def test_host_operations_say_what_shape_must_return() -> None:
    for answer in (lambda x: (x, x), lambda x: x.shape):
        with pytest.raises(TypeError, match=r"shape= must return a pair"):
            ad.host_op(np.exp, shape=answer)(1.0)


def test_errors_name_the_function_and_the_fix() -> None:
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return x * 2

    with pytest.raises(RuntimeError, match=r"\[custom_vjp of f\] has no rule: call defvjp"):
        ad.grad(f)(1.0)
    f.defvjp(lambda x: x * 2, lambda _, ct: (ct,))
    with pytest.raises(TypeError, match=r"forward\] must return a pair"):
        ad.grad(f)(1.0)
    f.defvjp(lambda x: (x * 2, None), lambda _, ct: (ct, ct))
    with pytest.raises(ValueError, match=r"backward\] must return a tree like"):
        ad.grad(f)(1.0)
    f.defvjp(lambda x: (x * 2, None), lambda _, ct: (ad.stack([ct, ct]),))
    with pytest.raises(ValueError, match=r"shape \(2,\).*shape \(\)"):
        ad.grad(f)(1.0)
    constant = ad.host_op(np.exp, shape=lambda x: x)
    assert constant(1.0).item() == np.exp(1.0)
    with pytest.raises(TypeError, match=r"\[exp\].*no derivative.*vjp="):
        ad.grad(constant)(1.0)
    wrong = ad.host_op(lambda x: x[:1], shape=lambda x: x)
    with pytest.raises(ValueError, match=r"shape \(1,\) where shape= says float64 of shape \(3,\)"):
        wrong(X)
    with pytest.raises(TypeError, match=r"\[checkpoint\] f must be a function"):
        ad.checkpoint(3)  # type: ignore[arg-type]


def test_a_failing_callback_keeps_its_exception() -> None:
    def fail(x: Any) -> Any:
        raise KeyError("mine")

    op = ad.host_op(fail, shape=lambda x: x)
    for run in (op, ad.compile(lambda x: op(x) + 1)):
        with pytest.raises(KeyError, match="mine"):
            run(ad.tensor(X))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_behind(form: str) -> None:
    f = FORMS[form]

    def work() -> None:
        ad.grad(ad.grad(lambda x: ad.sum(f(x, x) ** 2 * 0.5)))(0.3)
        ad.jvp(ad.grad(lambda x: f(x, x)), (0.3,), (1.0,))

    work()
    gc.collect()
    gc.disable()
    try:
        before = ad.memory_stats()["live_nodes"]
        for _ in range(50):
            work()
        assert ad.memory_stats()["live_nodes"] == before
    finally:
        gc.enable()


def test_a_deep_chain_of_rules_is_freed_without_recursion() -> None:
    depth = 20 * sys.getrecursionlimit()

    def loss(x: Any) -> Any:
        for _ in range(depth):
            x = by_vjp(x, 1.0)
        return x

    assert 0 < ad.grad(loss)(0.5).item() < 1


# ---- linear parts --------------------------------------------------------------------------------


def test_equal_values_of_different_history_stay_apart_in_a_linear_part():
    def slope(a, b):
        return ad.linearize(lambda a, b: a * b, a, b)[1](1.0, 1.0)

    for value in (0.5, 1.0, 0.0):  # 1 is the unit of the product
        assert [g.item() for g in ad.grad(slope, (0, 1))(value, value)] == [1.0, 1.0]

    def f(x):
        return ad.exp(x - ad.stop_gradient(x)) * x * x  # with slope x² + 2x

    linear = ad.grad(lambda x: ad.linearize(f, x)[1](1.0))(0.3)
    assert linear.item() == pytest.approx(0.3**2 + 2 * 0.3 + 2 * 0.3 + 2, rel=1e-14)
