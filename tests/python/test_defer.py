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
