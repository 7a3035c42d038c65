"""Order statistics, interpolation and counts where values are infinite, out of range or missing."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import adjoint as ad

INF = math.inf
WAYS: dict[str, Callable[[Callable[..., Any], Any], Any]] = {
    "now": lambda f, x: f(x),
    "compiled": lambda f, x: ad.eval(ad.compile(f)(x)),
    "batched": lambda f, x: ad.vmap(f)(ad.stack([x, x])),
    "differentiated": lambda f, x: ad.jvp(f, (x,), (ad.ones_like(x),)),
}


# ---- quantiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("q", [-0.1, 1.5, math.nan, INF, [0.5, 2.0]])
def test_shares_outside_raise_in_every_mode(way: str, q: Any) -> None:
    x = ad.tensor([3.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"\[quantile\] q must be from 0 to 1, got"):
        WAYS[way](lambda q: ad.quantile(x, q), ad.tensor(q))
    with pytest.raises(ValueError, match=r"\[percentile\] q must be from 0 to 100, got"):
        WAYS[way](lambda q: ad.percentile(x, q), 100 * ad.tensor(q))
    assert ad.quantile(x, [0, 1]).tolist() == [1.0, 3.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "q", "expected"),
    [
        ([-INF, 1, 2], 0.25, -INF),
        ([-INF, 1], 0.5, -INF),
        ([1, INF], 0.25, INF),
        ([INF, INF], 0.5, INF),
        ([-INF, INF], 0.0, -INF),
        ([-INF, INF], 1.0, INF),
        ([-INF, INF], 0.5, math.nan),
        ([1, INF], 0.0, 1),
        ([-INF, 1], 1.0, 1),
    ],
)
def test_quantiles_of_infinities(dtype: Any, x: Any, q: float, expected: float) -> None:
    a = np.array(x, dtype)
    np.testing.assert_array_equal(ad.quantile(a, q).numpy(), dtype(expected))
    if q == 0.5:
        np.testing.assert_array_equal(ad.median(a).numpy(), dtype(expected))


def test_quantiles_between_the_largest_numbers() -> None:
    for dtype in (np.float32, np.float64):
        most = np.finfo(dtype).max
        assert float(ad.quantile(np.array([-most, most], dtype), 0.5)) == 0
        quarter = float(ad.quantile(np.array([-most, most], dtype), 0.25))
        assert quarter == pytest.approx(-0.5 * float(most), rel=1e-6)


@pytest.mark.parametrize("name", ["median", "quantile", "percentile"])
def test_order_statistics_of_nothing(name: str) -> None:
    more = () if name == "median" else (0.5,)
    f = getattr(ad, name)
    for shape, axis in (((4, 0), 0), ((2, 0, 3), 2), ((2, 0, 3), (0, 2))):
        for keepdims in (False, True):
            got = f(ad.zeros(shape), *more, axis=axis, keepdims=keepdims)
            assert got.shape == np.sum(np.zeros(shape), axis=axis, keepdims=keepdims).shape
    for shape, axis in (((4, 0), 1), ((0,), None), ((4, 0), None)):
        with pytest.raises(ValueError, match=rf"\[{name}\] axis . of shape .* is empty"):
            f(ad.zeros(shape), *more, axis=axis)


# ---- interpolation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "xp", "fp"),
    [
        ([0.2, 9.5], [0, 1, 9, 10], [-INF, 0.1, 0.9, INF]),
        ([0.2, 9.5], [-INF, 1, 9, INF], [0, 0.1, 0.9, 1]),
        ([0.5], [0, 1], [INF, INF]),
        ([2.5], [2, 3], [-INF, 4]),
        ([0.5], [0, 1], [-INF, INF]),
        ([-INF, 0, INF], [-INF, INF], [1, 1]),
        ([-INF, 0, INF, 1], [-INF, 1, INF], [1, 2, 3]),
        ([0, 1, 2, math.nan], [0, 1, 2], [-INF, 3, INF]),
        ([-INF, INF], [0, 1], [2, 3]),
    ],
)
def test_interp_with_infinities_is_numpys(x: Any, xp: Any, fp: Any) -> None:
    arrays = [np.array(a, float) for a in (x, xp, fp)]
    with np.errstate(all="ignore"):
        expected = np.interp(*arrays)
    np.testing.assert_array_equal(ad.interp(*arrays).numpy(), expected)
    np.testing.assert_array_equal(ad.compile(ad.interp)(*map(ad.asarray, arrays)), expected)


def test_interp_between_the_largest_numbers() -> None:
    xp, fp = ad.tensor([-1e308, 1e308]), ad.tensor([0.0, 1.0])
    assert ad.interp(ad.tensor([0.0, 5e307]), xp, fp).tolist() == [0.5, 0.75]
    assert float(ad.interp(0.5, [0.0, 1.0], [-1e308, 1e308])) == 0


# ---- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["now", "compiled", "batched"])
def test_numbers_outside_are_shown_as_given(way: str) -> None:
    ids = ad.asarray([0, -1, 1])
    with pytest.raises(IndexError, match=r"\[segment_sum\].*from 0 to 2, got -1"):
        WAYS[way](lambda i: ad.segment_sum(ad.ones(3), i, 3), ids)
    with pytest.raises(IndexError, match=r"\[bincount\].*from 0 to 3, got -1"):
        WAYS[way](lambda i: ad.bincount(i, length=4), ids)
    with pytest.raises(IndexError, match=r"\[segment_sum\].*of none, got 0"):
        WAYS[way](lambda i: ad.segment_sum(ad.ones(3), i, 0), ids)


@pytest.mark.parametrize("way", ["now", "compiled"])
def test_histograms_without_a_range_raise(way: str) -> None:
    for bad in (math.nan, INF):
        with pytest.raises(ValueError, match=r"\[histogram\] the values must be finite"):
            WAYS[way](lambda x: ad.histogram(x, 3).hist, ad.tensor([1.0, bad]))
    for low, high in ((5.0, 1.0), (0.0, math.nan), (0.0, INF)):
        with pytest.raises(ValueError, match=r"\[histogram\] the bounds of range"):
            WAYS[way](lambda x, b=(low, high): ad.histogram(x, 3, b).hist, ad.ones(2))
    x = np.array([1.0, math.nan, 0.5, 7.0])
    expected = np.histogram(x, 3, (0.0, 2.0))[0]
    np.testing.assert_array_equal(ad.histogram(x, 3, (0.0, 2.0)).hist, expected)


# ---- log-sum-exp ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "value", "slope"),
    [
        ([INF, 1.0], INF, [1.0, 0.0]),
        ([-INF, INF], INF, [0.0, 1.0]),
        ([INF, INF, 0.0], INF, [0.5, 0.5, 0.0]),
        ([-INF, -INF], -INF, [0.0, 0.0]),
        ([math.nan, INF], math.nan, [math.nan, math.nan]),
    ],
)
def test_log_sum_exp_of_infinities(x: Any, value: float, slope: Any) -> None:
    """Two terms are logaddexp, whose slopes are those of the larger term."""
    assert scipy.special.logsumexp(x) == pytest.approx(value, nan_ok=True)
    t = ad.tensor(x)
    for f in (ad.logsumexp, ad.compile(ad.logsumexp)):
        np.testing.assert_array_equal(f(t), value)
    np.testing.assert_array_equal(ad.grad(ad.logsumexp)(t), slope)
    columns = ad.vmap(lambda h: ad.jvp(ad.logsumexp, (t,), (h,))[1])(ad.eye(len(x)))
    np.testing.assert_array_equal(columns, slope)
    if len(x) == 2:
        pair = ad.grad(lambda t: ad.logaddexp(t[0], t[1]))(t)
        if math.isfinite(min(x)):
            np.testing.assert_array_equal(pair, slope)


def test_log_sum_exp_and_softmax_of_nothing() -> None:
    for shape, axis in (((0,), None), ((2, 0), 1), ((2, 0), 0), ((0, 3), (0, 1))):
        for keepdims in (False, True):
            got = ad.logsumexp(ad.zeros(shape), axis=axis, keepdims=keepdims).numpy()
            with np.errstate(divide="ignore"):
                sums = np.log(np.sum(np.exp(np.zeros(shape)), axis=axis, keepdims=keepdims))
            np.testing.assert_array_equal(got, sums)
    assert ad.softmax(ad.zeros((2, 0))).shape == ad.log_softmax(ad.zeros((2, 0))).shape == (2, 0)
    assert ad.grad(lambda x: ad.sum(ad.logsumexp(x, axis=1)))(ad.zeros((2, 0))).shape == (2, 0)
    assert np.isnan(ad.softmax(ad.tensor([INF, 1.0])).numpy()).all()  # as SciPy and PyTorch


# ---- repetitions ---------------------------------------------------------------------------------


def test_repetitions_are_numpys() -> None:
    x = np.arange(6.0).reshape(2, 3)
    for repeats in (0, 1, 3):
        for axis in (None, 0, 1, -1):
            expected = np.repeat(x, repeats, axis)
            np.testing.assert_array_equal(ad.repeat(x, repeats, axis=axis), expected)
    np.testing.assert_array_equal(ad.repeat(x, [2, 0, 1], axis=1), np.repeat(x, [2, 0, 1], 1))
    np.testing.assert_array_equal(ad.repeat(x, [2], axis=1), np.repeat(x, [2], 1))
    assert ad.repeat(ad.tensor(4.0), 3).tolist() == [4.0, 4.0, 4.0]
    assert ad.repeat(ad.zeros(0), 7).shape == (0,)
    slope = ad.grad(lambda t: ad.sum(ad.repeat(t, 2, axis=1) * ad.arange(6.0)))(ad.asarray(x))
    assert slope.tolist() == [[1.0, 5.0, 9.0]] * 2
    for count in (2**60, 2**62):
        with pytest.raises(MemoryError, match=r"\[repeat\]"):
            ad.repeat(x, count)


@pytest.mark.parametrize("mode", [lambda f: f, ad.compile])
def test_the_variance_of_an_infinity_is_nan(mode: Callable[..., Any]) -> None:
    for x in ([INF, INF], [INF, 1.0, 2.0], [-INF, math.nan, 3.0]):
        for f in (ad.nanvar, ad.nanstd):
            assert math.isnan(mode(f)(ad.tensor(x)).item())
    kept = ad.tensor([1.0, math.nan, 4.0])
    assert mode(ad.nanvar)(kept).item() == 2.25
    assert ad.grad(ad.nanvar)(kept).tolist() == [-1.5, 0.0, 1.5]


@pytest.mark.parametrize("way", WAYS)
def test_edges_that_fall_are_refused(way: str) -> None:
    x = ad.tensor([1.0, 1.5])
    for edges in ([2.0, 1.0], [0.0, 2.0, 1.0]):
        with pytest.raises(ValueError, match=r"\[histogram\] the edges .* must not fall"):
            WAYS[way](lambda x, e=edges: ad.histogram(x, bins=e)[0] + 0.0 * ad.sum(x), x)
    with pytest.raises(ValueError, match=r"\[digitize\] .* either rise or fall"):
        WAYS[way](lambda x: ad.digitize(x, [0.0, 2.0, 1.0]) * 1.0, x)
    for edges in ([0.0, 1.0, 1.0, 2.0], [2.0, 1.5, 0.0], [1.0, 1.0]):
        for right in (False, True):
            want = np.digitize(x.numpy(), edges, right)
            assert ad.digitize(x, edges, right).tolist() == want.tolist()
    assert ad.histogram(x, [0.0, 1.0, 1.0, 2.0])[0].tolist() == [0, 0, 2]


def test_correlations_stay_within_one() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        a = rng.standard_normal(3)
        r = ad.corrcoef(ad.tensor(np.stack([a, 3 * a, -a])))
        assert abs(r.numpy()).max() <= 1.0
        np.testing.assert_allclose(r.numpy(), np.corrcoef(np.stack([a, 3 * a, -a])), rtol=1e-14)


def test_adding_nothing_to_nothing_has_no_slope() -> None:
    x = ad.tensor([-INF, -INF, 1.0, INF])
    for f in (lambda x: ad.logaddexp(x, -INF), lambda x: ad.logaddexp(-INF, x)):
        assert ad.grad(lambda x, f=f: ad.sum(f(x)))(x).tolist() == [0.0, 0.0, 1.0, 1.0]
    start = ad.tensor([-INF, -INF, 0.0])
    slopes = ad.grad(lambda x: ad.sum(ad.exp(ad.logcumsumexp(x))))(start)
    assert slopes.tolist() == [0.0, 0.0, 1.0]


# ---- correlations and convolutions ---------------------------------------------------------------


CORRELATED = np.array([[1.0, 2.0, 4.0, 3.0], [2.0, 3.0, 1.0, 0.5], [5.0, 5.5, 5.1, 4.0]])


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", s) for s in (1e-37, 1e-25, 1e20, 1e37)]
    + [("float64", s) for s in (1e-300, 1e-170, 1e170, 1e307)],
)
def test_correlations_at_any_scale(dtype: Any, scale: float) -> None:
    """They do not change with the scale, and their slopes are divided by it."""
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    m = CORRELATED * np.array([[1.0], [1.0 / scale], [1.0]])
    for rowvar in (True, False):
        x = ad.asarray((m if rowvar else m.T) * scale, dtype=dtype)
        out = ad.corrcoef(x, rowvar=rowvar).numpy()
        np.testing.assert_allclose(out, np.corrcoef(CORRELATED), rtol=tolerance, atol=tolerance)
        assert (np.abs(out) <= 1).all()
    x = ad.asarray(CORRELATED * scale, dtype=dtype)
    # dr_01 / dx_0 = (z_1 - r z_0) / |x_0 - mean|, of the rows centred and divided by their norms.
    centred = CORRELATED - CORRELATED.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    z = centred / norms[:, None]
    r = z[0] @ z[1]
    slopes = (z[1] - r * z[0]) / norms[0]
    gradient = ad.grad(lambda t: ad.corrcoef(t)[0, 1])(x).numpy()[0].astype("float64")
    np.testing.assert_allclose(gradient * scale, slopes, rtol=10 * tolerance, atol=tolerance)


def test_second_derivatives_of_correlations() -> None:
    """At a scale and at 1, against differences of the formula for the slope."""
    h = np.array([0.3, -0.2, 0.5, 0.1])

    def slopes(x: Any) -> Any:
        c = x - x.mean()
        z, w = c / np.linalg.norm(c), CORRELATED[1] - CORRELATED[1].mean()
        w = w / np.linalg.norm(w)
        return (w - (z @ w) * z) / np.linalg.norm(c)

    d = 1e-5
    expected = (slopes(CORRELATED[0] + d * h) - slopes(CORRELATED[0] - d * h)) / (2 * d)
    other = ad.asarray(CORRELATED[1])
    for scale in (1.0, 1e60, 1e-60):
        x = ad.asarray(CORRELATED[0] * scale)
        out = ad.hvp(lambda t: ad.corrcoef(ad.stack([t, other]))[0, 1], x, ad.asarray(h * scale))
        np.testing.assert_allclose(out.numpy() * scale, expected, rtol=1e-8, atol=1e-9)


def test_correlations_without_variables_or_of_too_many_axes() -> None:
    assert math.isnan(ad.corrcoef(ad.tensor([[1.0, 1.0], [1.0, 2.0]]))[0, 1].item())
    assert ad.corrcoef(ad.tensor([1.0, 2.0, 4.0])).item() == pytest.approx(1.0)
    assert np.isnan(ad.corrcoef(ad.tensor([[INF, 1.0], [1.0, 2.0]])).numpy()[0]).all()
    assert ad.corrcoef(ad.zeros((0, 3))).shape == (0, 0)
    with pytest.raises(ValueError, match=r"\[corrcoef\] needs a vector or a matrix"):
        ad.corrcoef(ad.zeros((2, 2, 2)))


@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("n", "m"), [(3, 2), (5, 5), (2, 6), (40, 20), (20, 40), (30, 30), (9, 1)])
def test_no_number_meets_what_lies_beyond_a_sequence(name: str, mode: Any, n: int, m: int) -> None:
    """Infinities and nan at every place: they reach the sums in which they are a factor."""
    rng = np.random.default_rng(5)
    for k in range(max(n, m)):
        for bad in (INF, math.nan):
            a, v = rng.uniform(1, 2, n), rng.uniform(1, 2, m)
            v[k % m] = bad
            if k % 3 == 0:
                a[k % n] = -INF
            expected = sums_of_products(lambda p, q: getattr(np, name)(p, q, mode=mode), a, v)
            x, y = ad.asarray(a), ad.asarray(v)
            out = getattr(ad, name)(x, y, mode=mode).numpy()
            np.testing.assert_allclose(out, expected, rtol=1e-12)
            out = ad.compile(lambda s, t: getattr(ad, name)(s, t, mode=mode))(x, y)
            np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12)


def sums_of_products(call: Any, a: Any, v: Any) -> Any:
    """By how many products of each kind there are: those are convolutions of finite numbers."""

    def count(of_a: Any, of_v: Any) -> Any:
        return call(of_a.astype(float), of_v.astype(float))

    unknown = count(np.isnan(a), np.ones_like(v)) + count(np.ones_like(a), np.isnan(v))
    above = count(np.isfinite(a), v == INF)
    below = count(a == -INF, ~np.isnan(v))
    finite = call(np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(v), v, 0.0))
    out = np.where(above > 0.5, INF, np.where(below > 0.5, -INF, finite))
    return np.where((unknown > 0.5) | ((above > 0.5) & (below > 0.5)), math.nan, out)


def test_derivatives_of_convolutions_at_the_ends() -> None:
    """Of the elements that no infinity meets; the slopes of 3 = 3 · 1 are its factors."""
    a, v = ad.tensor([1.0, 2.0, 3.0]), ad.tensor([INF, 1.0])
    of_a, of_v = ad.grad(lambda s, t: ad.convolve(s, t)[3], argnums=(0, 1))(a, v)
    assert of_a.tolist() == [0.0, 0.0, 1.0]
    assert of_v.tolist() == [0.0, 3.0]
    long = ad.asarray(np.concatenate([[INF], np.ones(20)]))
    of_a, of_v = ad.grad(lambda s, t: ad.convolve(s, t)[-1], argnums=(0, 1))(ad.ones(30), long)
    assert of_a.tolist() == [0.0] * 29 + [1.0]
    assert of_v.tolist() == [0.0] * 20 + [1.0]


MIXED = {
    "logaddexp2": np.logaddexp2,
    "xlogy": scipy.special.xlogy,
    "xlog1py": scipy.special.xlog1py,
    "heaviside": np.heaviside,
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_operands_are_taken_together(name: str) -> None:
    """In the dtype of both: the narrower one is not rounded, and an integer widens nothing."""
    f = getattr(ad, name)
    a, b = np.float32([1.4461961, 0.0, 3.25]), np.array([1.5808961029682005, 0.1, 1e-3])
    for x, y in ((a, b), (b, a)):
        got = f(ad.tensor(x), ad.tensor(y))
        want = MIXED[name](x.astype(np.float64), y.astype(np.float64))
        assert got.dtype == ad.float64
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)
    n = ad.tensor([1, 0, 2], dtype=ad.int32)
    assert f(n, ad.tensor(a)).dtype == f(ad.tensor(a), n).dtype == ad.float32
    assert f(n, n).dtype == ad.float64


def test_an_average_weighs_in_the_dtype_of_both() -> None:
    x, w = np.array([1.0, 2.0, 4.0]), np.float32([0.1, 0.2, 0.3])
    got = ad.average(ad.tensor(x), weights=ad.tensor(w)).item()
    assert abs(got - np.average(x, weights=w.astype(np.float64))) < 1e-15
    assert ad.average(ad.tensor(w), weights=ad.tensor([1, 2, 3])).dtype == ad.float32


def test_further_variables() -> None:
    r = np.random.default_rng(0)
    vector, other, two, three = (r.normal(size=s) for s in (7, 7, (2, 7), (3, 7)))
    for x, y in ((vector, other), (two, three), (vector, three), (two, other)):
        for name in ("cov", "corrcoef"):
            want = getattr(np, name)(x, y)
            for module in (ad, np):
                got = getattr(module, name)(ad.tensor(x), ad.tensor(y))
                np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    want = np.cov(two.T, three.T, rowvar=False, ddof=0, aweights=abs(vector))
    got = ad.cov(ad.tensor(two.T), ad.tensor(three.T), rowvar=False, ddof=0, aweights=abs(vector))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    slope = ad.grad(lambda y: ad.cov(ad.tensor(vector), y)[0, 1])(ad.tensor(other))
    np.testing.assert_allclose(slope.numpy(), (vector - vector.mean()) / 6, rtol=1e-12)
    with pytest.raises(ValueError, match=r"\[cov\] the variables have 7 and 3 observations"):
        ad.cov(vector, other[:3])
