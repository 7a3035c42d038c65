"""Reductions beyond the sample table: over no axes, into a dtype asked for, of integers at the ends
of their range, and standard deviations whose squares leave the range."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import adjoint as ad

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SAME = ("sum", "prod", "max", "min", "mean")
SIZES = (3, 20_000)  # now, and deferred


@pytest.fixture(autouse=True)
def quiet_numpy():
    with np.errstate(all="ignore"):
        yield


def table(rows, n):
    return np.random.default_rng(5).uniform(0.5, 2, (rows, n))


# ---- over no axes -------------------------------------------------------------------------------

VIEWS = {
    "row": lambda x: x[1],
    "column": lambda x: x[:, 1],
    "transposed": lambda x: ad.matrix_transpose(x),
    "every other": lambda x: x[::2, 1:],
    "entry": lambda x: x[1, 2],
    "flipped": lambda x: ad.flip(x, axis=1),
    "broadcast": lambda x: ad.broadcast_to(x[0], (2, x.shape[1])),
    "computed": lambda x: x * 2.0 + 1.0,
}
views = pytest.mark.parametrize("view", VIEWS)


@views
@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("n", SIZES)
def test_over_no_axes_is_the_input(name, view, n):
    x = ad.asarray(table(4, n))
    part = VIEWS[view]
    want = part(x).numpy()

    def f(x):
        return getattr(ad, name)(part(x), axis=())

    np.testing.assert_array_equal(f(x).numpy(), want)
    np.testing.assert_array_equal(ad.compile(f)(x).numpy(), want)
    np.testing.assert_array_equal((f(x) + 0.0).numpy(), want)  # as a member of a group
    np.testing.assert_array_equal(getattr(ad, name)(part(x), axis=(), keepdims=True).numpy(), want)
    batch = ad.stack([x, x * 3.0])
    expected = np.stack([part(b).numpy() for b in (x, x * 3.0)])
    np.testing.assert_array_equal(ad.vmap(f)(batch).numpy(), expected)


@views
@pytest.mark.parametrize("name", SAME)
def test_derivative_over_no_axes_is_that_of_the_input(name, view):
    x = ad.asarray(table(4, 3))
    part = VIEWS[view]

    def reduced(x):
        return ad.sum(getattr(ad, name)(part(x), axis=()) ** 2)

    def plain(x):
        return ad.sum(part(x) ** 2)

    want = ad.grad(plain)(x).numpy()
    np.testing.assert_allclose(ad.grad(reduced)(x).numpy(), want, rtol=1e-14)
    np.testing.assert_allclose(ad.compile(ad.grad(reduced))(x).numpy(), want, rtol=1e-14)
    along = ad.jvp(reduced, (x,), (ad.ones(x.shape),))[1].item()
    np.testing.assert_allclose(along, want.sum(), rtol=1e-13)


def test_numbers_are_reduced_over_no_axes_in_a_batch():
    """An element of the batch has no axes, so that none is reduced."""
    x = ad.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for name in ("sum", "prod", "max", "min", "mean"):
        f = getattr(ad, name)
        got = ad.vmap(lambda c, f=f: f(c[1]), in_axes=1)(x)
        assert got.tolist() == [3.0, 4.0], name
        slope = ad.vmap(ad.grad(lambda c, f=f: f(c[1]) ** 2), in_axes=1)(x)
        assert slope.tolist() == [[0.0, 6.0, 0.0], [0.0, 8.0, 0.0]], name


# ---- dtypes -------------------------------------------------------------------------------------


def extremes(dtype):
    ends = np.iinfo(dtype)
    values = [ends.min, ends.min + 1, ends.max, ends.max - 1, 0, 1, 3, 5, ends.max // 2]
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_integers_at_the_ends_of_their_range(name, dtype):
    a = np.stack([extremes(dtype), extremes(dtype)[::-1]])
    for axis in (None, 0, 1, ()):
        want = np.asarray(getattr(np, name)(a, axis=axis))
        got = getattr(ad, name)(ad.asarray(a), axis=axis).numpy()
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("into", ["bool", *INTEGERS, "float32", "float64"])
@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, "float64"])
@pytest.mark.parametrize("name", ["sum", "prod"])
def test_a_dtype_asked_for_is_that_of_the_result(name, dtype, into):
    rng = np.random.default_rng(1)
    a = np.asarray(rng.integers(0, 100 if dtype in ("int8", "float64") else 200, (3, 4)), dtype)
    for axis in (None, 1, ()):
        want = np.asarray(getattr(np, name)(a, axis=axis, dtype=into))

        def f(x, axis=axis):
            return getattr(ad, name)(x, axis=axis, dtype=getattr(ad, into))

        for g in (f, ad.compile(lambda x, f=f: f(x))):
            got = g(ad.asarray(a)).numpy()
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=2e-7 if into == "float32" else 1e-15)


def test_sums_into_a_dtype_are_differentiable():
    x = ad.tensor([1.0, 2.0, 3.0])
    assert ad.grad(lambda x: ad.sum(x * x, dtype=ad.float32))(x).tolist() == [2.0, 4.0, 6.0]
    whole = ad.grad(lambda x: ad.astype(ad.sum(x, dtype=ad.int64), ad.float64) * ad.sum(x))(x)
    assert whole.tolist() == [6.0, 6.0, 6.0]  # the integer sum is a constant


# ---- standard deviations ------------------------------------------------------------------------

SPREADS = [
    [1e-162, -1e-162, 3e-162],
    [1e200, -1e200, 5e199],
    [1e-300, 4e-300, 2e-300, 1e-301],
    [5e-324, 0.0, 1e-323],
    [1.0, 2.0, 4.0],
]


@pytest.mark.parametrize("values", SPREADS)
@pytest.mark.parametrize("correction", [0.0, 1.0])
def test_std_whose_squares_leave_the_range(values, correction):
    def f(x):
        return ad.std(x, correction=correction)

    with mpmath.workdps(50):
        m = [mpmath.mpf(v) for v in values]
        mean = mpmath.fsum(m) / len(m)
        divisor = len(m) - correction
        exact = mpmath.sqrt(mpmath.fsum((v - mean) ** 2 for v in m) / divisor)
        slope = [float((v - mean) / (divisor * exact)) for v in m]
    x = ad.tensor(values)
    tiny = max(values) < 1e-300  # the mean itself is rounded to a subnormal number
    tolerance = dict(rtol=1e-13, atol=0.2 if tiny else 1e-15)
    exact_tolerance = dict(rtol=1e-13, atol=5e-324)
    for g in (f, ad.compile(f), lambda x: ad.vmap(f)(ad.stack([x, x]))[1]):
        np.testing.assert_allclose(g(x).item(), float(exact), **exact_tolerance)
        np.testing.assert_allclose(ad.grad(g)(x).numpy(), slope, **tolerance)
    ones = ad.ones(len(values))
    np.testing.assert_allclose(ad.jvp(f, (x,), (ones,))[1].item(), 0.0, atol=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_std_is_the_root_of_var_bit_for_bit_where_nothing_is_lost(n):
    x = ad.asarray(table(4, n))
    for axis in (None, 0, 1):
        want = ad.sqrt(ad.var(x, axis=axis)).tolist()
        assert ad.std(x, axis=axis).tolist() == want
        assert ad.compile(lambda x, axis=axis: ad.std(x, axis=axis))(x).tolist() == want


def test_std_of_nothing_and_of_what_is_not_finite_is_nan():
    assert np.isnan(ad.std(ad.ones((2, 0)), axis=1).numpy()).all()
    assert ad.std(ad.ones((0, 2)), axis=1).shape == (0,)
    for x in ([np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf]):
        assert np.isnan(ad.std(ad.tensor(x)).item())
    assert ad.std(ad.ones((2, 3)), axis=1, keepdims=True).shape == (2, 1)
    assert ad.std(ad.tensor([1, 2, 3, 4])).item() == np.std([1, 2, 3, 4])
