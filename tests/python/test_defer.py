"""Deferral: what is not computed yet is computed once, with the right values, whatever happens
between; errors, prints, assignments and aliases see eager semantics."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import adjoint as ad

N = 9000


@pytest.fixture
def x():
    return np.random.default_rng(5).normal(size=N)


def test_errors_are_raised_where_they_are_caused():
    t = ad.exp(ad.ones(N))
    with pytest.raises(ValueError, match=r"\[add\]"):
        t + ad.ones(N + 1)
    with pytest.raises(TypeError, match=r"\[bitwise_and\]"):
        t & t
    with pytest.raises(IndexError, match=r"\[sum\].*axis 3"):
        ad.sum(t, axis=3)


def test_every_demand_gives_the_value(x):
    t = ad.asarray(x)
    expected = np.exp(x) * 2.0
    for demand in (
        lambda y: y.numpy(),
        np.asarray,
        lambda y: np.array(y.tolist()),
        lambda y: np.array([y[i].item() for i in range(0, N, 1000)]),
        lambda y: np.frombuffer(memoryview(y).tobytes()),
        lambda y: np.from_dlpack(y),
    ):
        got = demand(ad.exp(t) * 2.0)
        np.testing.assert_allclose(got, expected if len(got) == N else expected[::1000], rtol=1e-14)
    assert "tensor" in repr(ad.exp(t) * 2.0).lower()
    assert bool(ad.all(ad.exp(t) > 0.0))
    assert float(ad.sum(ad.exp(t))) == pytest.approx(float(np.exp(x).sum()), rel=1e-13)


def test_intermediate_handles_are_computed_with_the_group(x):
    a = ad.exp(ad.asarray(x))
    b = a + 1.0
    c = ad.log(b)
    ad.eval(c)
    np.testing.assert_allclose(a.numpy(), np.exp(x), rtol=1e-14)
    np.testing.assert_allclose(b.numpy(), np.exp(x) + 1, rtol=1e-14)
    np.testing.assert_allclose(c.numpy(), np.log(np.exp(x) + 1), rtol=1e-13)
    d = b * c
    np.testing.assert_array_equal(d.numpy(), b.numpy() * c.numpy())


def test_donation_never_touches_a_value_in_use(x):
    base = ad.asarray(x, copy=True)
    y = base * 2.0
    ad.eval(y)
    kept = y.numpy().copy()
    z = y + 1.0
    w = ad.sin(y)
    ad.eval(z)
    np.testing.assert_array_equal(y.numpy(), kept)
    np.testing.assert_array_equal(z.numpy(), kept + 1.0)
    del y
    np.testing.assert_allclose(w.numpy(), np.sin(kept), rtol=0, atol=5e-16)
    np.testing.assert_array_equal(base.numpy(), x)


def test_donation_spares_exported_memory(x):
    y = ad.asarray(x) * 2.0
    seen = np.asarray(y)
    before = seen.copy()
    z = y + 1.0
    del y
    ad.eval(z)
    np.testing.assert_array_equal(seen, before)


def test_foreign_memory_is_read_when_the_operation_is_applied(x):
    source = x.copy()
    t = ad.asarray(source, copy=False)
    y = t + 1.0
    source[:] = 0.0
    np.testing.assert_array_equal(y.numpy(), x + 1.0)


def test_a_row_of_bounds(x):
    """Longer and wider than one group may be."""
    parts = [ad.asarray(x) * float(i) for i in range(300)]
    total = parts[0]
    for p in parts[1:]:
        total = total + p
    expected = np.zeros(N)
    for i in range(300):
        expected = expected + x * i
    np.testing.assert_array_equal(total.numpy(), expected)
    y = ad.asarray(x)
    for _ in range(500):
        y = y * 1.01
    expected = x
    for _ in range(500):
        expected = expected * 1.01
    np.testing.assert_array_equal(y.numpy(), expected)


def test_a_shared_diamond_is_linear():
    y = ad.asarray(np.ones(N))
    for _ in range(200):
        y = y + y * 0.5
        y = y - y * 0.3
    expected = 1.0
    for _ in range(200):
        expected = expected + expected * 0.5
        expected = expected - expected * 0.3
    assert y.numpy()[0] == expected and y.numpy()[-1] == expected


def test_reductions_of_the_same_data_in_both_directions():
    a = np.random.default_rng(1).normal(size=(120, 90))
    t = ad.exp(ad.asarray(a))
    rows, columns, whole = ad.sum(t, axis=1), ad.sum(t, axis=0), ad.sum(t)
    e = np.exp(a)
    np.testing.assert_allclose(rows.numpy(), e.sum(1), rtol=1e-13)
    np.testing.assert_allclose(columns.numpy(), e.sum(0), rtol=1e-13)
    np.testing.assert_allclose(whole.item(), e.sum(), rtol=1e-13)


def test_reductions_of_reductions():
    a = np.random.default_rng(1).normal(size=(30, 20, 40))
    t = ad.asarray(a) * 2.0
    y = ad.sum(ad.square(ad.sum(ad.exp(t), axis=-1)), axis=-1)
    expected = np.square(np.exp(2 * a).sum(-1)).sum(-1)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    z = ad.max(ad.sum(t, axis=(1, 2), keepdims=True) + t, axis=2)
    expected = (2 * a.sum((1, 2), keepdims=True) + 2 * a).max(2)
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_views_of_deferred_values():
    a = np.random.default_rng(2).normal(size=(100, 100))
    t = ad.sin(ad.asarray(a))
    flat = ad.reshape(t, (10_000,)) * 2.0
    wide = ad.broadcast_to(ad.reshape(ad.sum(t, axis=1), (100, 1)), (100, 100)) + t
    turned = ad.permute_dims(t, (1, 0)) + t
    s = t.numpy()
    np.testing.assert_array_equal(flat.numpy(), s.reshape(-1) * 2)
    np.testing.assert_allclose(wide.numpy(), s.sum(1, keepdims=True) + s, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(turned.numpy(), s.T + s)


def test_square_matrices_do_not_mix_rows_and_columns():
    a = np.random.default_rng(2).normal(size=(100, 100))
    t = ad.exp(ad.asarray(a))
    total = ad.sum(t, axis=1)  # (100,), and broadcasts along the last axis
    y = t / total
    e = np.exp(a)
    np.testing.assert_allclose(y.numpy(), e / e.sum(1), rtol=1e-13)
    z = ad.sum(t * total, axis=1) + total
    np.testing.assert_allclose(z.numpy(), (e * e.sum(1)).sum(1) + e.sum(1), rtol=1e-12)


def test_assignment_sees_the_order_of_statements(x):
    y = ad.asarray(x) + 1.0
    z = y * 2.0
    y[0] = 100.0
    assert z[0].item() == (x[0] + 1.0) * 2.0 and y[0].item() == 100.0
    y += 1.0
    assert z[1].item() == (x[1] + 1.0) * 2.0 and y[0].item() == 101.0


def test_derivatives_after_a_partial_evaluation(x):
    t = ad.tensor(x, requires_grad=True)
    a = ad.exp(t)
    b = ad.sin(a)
    ad.eval(b)
    c = b * a
    ad.sum(c).backward()
    e = np.exp(x)
    np.testing.assert_allclose(
        t.grad.numpy(), (np.cos(e) * e + np.sin(e)) * e, rtol=1e-10, atol=1e-10
    )


def test_a_graph_is_swept_twice(x):
    t = ad.tensor(x, requires_grad=True)
    y = ad.sum(ad.exp(t) * ad.sin(t))
    y.backward()
    first = t.grad.numpy().copy()
    y.backward()
    np.testing.assert_array_equal(t.grad.numpy(), 2 * first)


def test_integers_are_deferred_with_stated_results():
    i = np.arange(-N // 2, N // 2).astype("int32")
    t = ad.asarray(i)
    y = ad.floor_divide(t * 3, ad.remainder(t, 3)) + 1
    divisor = np.mod(i, 3)
    safe = np.where(divisor == 0, 1, divisor)
    expected = np.where(divisor == 0, 0, (i * 3) // safe) + 1
    np.testing.assert_array_equal(y.numpy(), expected)


def test_mixed_dtypes_in_one_group(x):
    t = ad.asarray(x.astype("float32"))
    y = ad.astype(t > 0, ad.float32) * t + ad.astype(ad.astype(t * 10, ad.int32), ad.float32)
    a = x.astype("float32")
    expected = (a > 0).astype("float32") * a + (a * np.float32(10)).astype("int32").astype(
        "float32"
    )
    np.testing.assert_array_equal(y.numpy(), expected)
    wide = y + ad.asarray(x)
    assert wide.dtype is ad.float64
    np.testing.assert_array_equal(wide.numpy(), expected.astype("float64") + x)


def test_the_environment_variable_turns_deferral_off():
    script = (
        "import adjoint as ad\n"
        "x = ad.ones(9000)\n"
        "y = ad.exp(x)\n"
        "print(ad.memory_stats()['live'] >= 2 * 9000 * 8)\n"
    )
    for value, expected in (("0", "True"), ("1", "False")):
        out = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "ADJOINT_DEFER": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == expected, f"ADJOINT_DEFER={value}"


def test_deferral_is_a_context_and_a_decorator(x):
    def live():
        return ad.memory_stats()["live"]

    t = ad.asarray(x, copy=True)
    start = live()
    with ad.deferral(False):
        y = ad.exp(t)
        assert live() > start
    z = ad.exp(t)
    middle = live()
    ad.eval(z)
    assert live() > middle
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    np.testing.assert_array_equal(ad.deferral(False)(ad.exp)(t).numpy(), z.numpy())


def layernorm(x, scale, shift):
    centred = x - ad.mean(x, axis=-1, keepdims=True)
    variance = ad.mean(centred * centred, axis=-1, keepdims=True)
    return centred / ad.sqrt(variance + 1e-5) * scale + shift


def layernorm_results(a, scale, shift, cotangent):
    leaves = [ad.tensor(v, requires_grad=True) for v in (a, scale, shift)]
    y = layernorm(*leaves)
    y.backward(ad.asarray(cotangent))
    results = [y, *(leaf.grad for leaf in leaves)]
    ad.eval(results)
    return [r.numpy() for r in results]


@pytest.mark.parametrize("shape", [(97, 130), (33, 1024), (5, 3000), (1000, 9), (2, 9001)])
def test_rows_and_columns_are_reduced_in_one_pass(shape):
    rng = np.random.default_rng(8)
    a, cotangent = rng.normal(size=shape), rng.normal(size=shape)
    scale, shift = rng.normal(size=shape[1]), rng.normal(size=shape[1])
    y, dx, dscale, dshift = layernorm_results(a, scale, shift, cotangent)
    spread = np.sqrt(a.var(-1, keepdims=True) + 1e-5)
    z = (a - a.mean(-1, keepdims=True)) / spread
    dz = cotangent * scale
    expected = (dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True)) / spread
    np.testing.assert_allclose(y, z * scale + shift, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dscale, (cotangent * z).sum(0), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dshift, cotangent.sum(0), rtol=1e-11, atol=1e-11)


def test_columns_have_the_same_bits_in_every_way_of_running():
    rng = np.random.default_rng(9)
    shape = (700, 300)
    args = [rng.normal(size=s).astype(np.float32) for s in (shape, shape[1:], shape[1:], shape)]
    found = [layernorm_results(*args)]
    with ad.deferral(False):
        found.append(layernorm_results(*args))
    before = ad.get_num_threads()
    for threads in (1, 3, 8):
        ad.set_num_threads(threads)
        found.append(layernorm_results(*args))
    ad.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_column_reductions_of_several_kinds():
    a = np.random.default_rng(10).normal(size=(260, 70))
    x = ad.asarray(a)
    doubled = x * 2.0
    results = [
        ad.sum(doubled, axis=0),
        ad.max(doubled, axis=0, keepdims=True),
        ad.sum(doubled, axis=1),
        ad.min(ad.reshape(doubled, (26, 10, 70)), axis=(0, 1)),
    ]
    ad.eval(results)
    expected = [(2 * a).sum(0), (2 * a).max(0, keepdims=True), (2 * a).sum(1), (2 * a).min(0)]
    for got, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint32", "int64", "bool"])
def test_narrow_integers_are_summed_in_64_bits(dtype, axis):
    a = (np.arange(20000).reshape(200, 100) % 7).astype(dtype)
    x = ad.asarray(a)
    expected = a.sum(axis)
    for function in (lambda x: ad.sum(x, axis=axis), ad.compile(lambda x: ad.sum(x, axis=axis))):
        got = function(x)
        assert str(got.dtype) == str(expected.dtype)
        np.testing.assert_array_equal(got.numpy(), expected)
    if dtype != "bool":
        np.testing.assert_array_equal(ad.sum(x + x, axis=axis).numpy(), (a + a).sum(axis))


def test_what_is_asked_for_together_does_not_wait_for_what_depends_on_it():
    a = np.random.default_rng(11).normal(size=(120, 120))
    x = ad.asarray(a)
    first = ad.exp(x)
    product = ad.matmul(first, x)
    last = first + product * 2.0
    total = ad.sum(last, axis=0)
    ad.eval([total, last, first])
    expected = np.exp(a) + np.exp(a) @ a * 2
    np.testing.assert_allclose(last.numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.numpy(), expected.sum(0), rtol=1e-11, atol=1e-11)


def test_a_cheap_value_is_computed_again_and_again():
    a = np.random.default_rng(12).normal(size=(100, 120))
    x = ad.tensor(a, requires_grad=True)
    y = ad.sum((x - ad.mean(x, axis=1, keepdims=True)) ** 2)
    for k in range(1, 4):
        y.backward()
        expected = 2 * k * (a - a.mean(1, keepdims=True))
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("pattern", [(1, 30, 1), (20, 1, 6), (1, 30, 6), (20, 30, 1), (1, 1, 6)])
def test_what_repeats_along_rows_of_several_axes_meets_a_value_per_row(pattern, keepdims, dtype):
    rng = np.random.default_rng(9)
    wide = np.asarray(rng.integers(-9, 9, (20, 30, 6, 5)), dtype)
    part = np.asarray(rng.integers(-9, 9, pattern + (1,) * keepdims), dtype)
    expected = np.abs(wide.sum(axis=-1, keepdims=keepdims) + part) * part[:, :1] - part

    def f(x, y):
        return ad.abs(ad.sum(x, axis=-1, keepdims=keepdims) + y) * y[:, :1] - y

    for run in (f, ad.compile(f)):
        np.testing.assert_array_equal(run(ad.asarray(wide), ad.asarray(part)).numpy(), expected)
    whole = ad.asarray(wide) - f(ad.asarray(wide), ad.asarray(part)).reshape((20, 30, 6, 1))
    np.testing.assert_array_equal(whole.numpy(), wide - expected.reshape(20, 30, 6, 1))
