"""What functions give at nan, infinities, -0.0 and where parts of a result leave the range."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.integrate

import adjoint as ad

INF, NAN = math.inf, math.nan


def nth(f: Callable[..., Any], order: int) -> Callable[..., Any]:
    for _ in range(order):
        f = ad.grad(f)
    return f


def along(f: Callable[..., Any], argument: int) -> Callable[..., Any]:
    """The derivative in one argument by forward mode."""

    def slope(*args: Any) -> Any:
        primals = tuple(map(ad.asarray, args))
        tangents = tuple(
            ad.ones(()) if i == argument else ad.zeros(()) for i in range(len(primals))
        )
        return ad.jvp(f, primals, tangents)[1]

    return slope


# ---- shares between values ----------------------------------------------------------------------


def test_interpolation_at_nan_is_nan_on_flat_pieces_too():
    x = np.array([NAN, -1.0, 0.0, 0.5, 1.5, 2.0, 3.0])
    points = np.array([0.0, 1.0, 2.0])
    for values in ([5.0, 3.0, 3.0], [3.0, 3.0, 3.0], [0.0, 0.0, 1.0], [5.0, 3.0, 1.0]):
        expected = np.interp(x, points, values)
        got = ad.interp(ad.tensor(x), ad.tensor(points), ad.tensor(values)).numpy()
        assert np.array_equal(got, expected, equal_nan=True), values
    assert math.isnan(ad.interp(ad.tensor(NAN), ad.tensor([1.0]), ad.tensor([2.0])).item())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_two_huge_values_does_not_overflow(dtype):
    most = 1.75 * 2.0 ** (np.finfo(dtype).maxexp - 1)
    x = ad.tensor([most, most * 0.875, most * 0.75], dtype=dtype)
    for one in (ad.nanmedian, ad.median):
        assert one(x[:1]).item() == most
        assert one(x[:2]).item() == most * 0.9375
        assert one(x).item() == most * 0.875
        assert ad.grad(one)(x[:2]).tolist() == [0.5, 0.5]
        assert one(-x[:2]).item() == -most * 0.9375
    for method, expected in (("midpoint", most * 0.8125), ("linear", most * 0.8125)):
        for quantile in (ad.quantile, ad.nanquantile):
            assert quantile(x, 0.25, method=method).item() == expected
    assert ad.trapezoid(x[:2]).item() == most * 0.9375
    assert ad.median(ad.tensor([INF, INF], dtype=dtype)).item() == INF
    assert math.isnan(ad.median(ad.tensor([-INF, INF], dtype=dtype)).item())
    small = np.array([1.0, 3.0, 2.0, 7.5, NAN], dtype)
    assert ad.nanmedian(ad.tensor(small)).item() == np.nanmedian(small)


# ---- coordinates ----------------------------------------------------------------------------


def test_slopes_over_coordinates_that_need_more_digits_than_the_values():
    values = np.array([1, 2, 4, 8, 3], np.float32)
    for times in (
        1.7e9 + np.array([0.0, 1.0, 2.0, 2.5, 4.0]),
        1_700_000_000_000_000_000 + np.array([0, 1, 2, 3, 5]),
        np.array([250, 200, 100, 3, 1], np.uint8),
        np.array([-100, -50, 0, 50, 100], np.int8),
        np.array([2**64 - 1, 2**64 - 2, 2**64 - 4, 2**63, 1], np.uint64),
        np.array([0.0, 1e-60, 2e-60, 4e-60, 1e-59]),
    ):
        whole = [int(t) for t in times] if times.dtype.kind in "iu" else times
        steps = np.array([b - a for a, b in itertools.pairwise(whole)], float)
        place = np.concatenate([[0.0], np.cumsum(steps)])
        got = ad.gradient(ad.tensor(values), ad.tensor(times))
        assert got.dtype == ad.float32
        with np.errstate(over="ignore"):
            expected = np.gradient(values.astype(float), place).astype(np.float32)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
        heights = (values[1:] + values[:-1]).astype(float) / 2
        area = ad.trapezoid(ad.tensor(values), ad.tensor(times)).item()
        np.testing.assert_allclose(area, np.sum(heights * steps), rtol=1e-14)


def test_coordinates_broadcast_with_values():
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 4))
    z = rng.normal(size=(2, 1, 1))
    for axis, at in ((-1, x), (2, x), (-2, x), (1, x), (0, z), (-1, x[0]), (1, x[:, 0])):
        whole = at if at.ndim == 1 else np.broadcast_to(at, y.shape)
        expected = np.trapezoid(y, whole, axis=axis)
        np.testing.assert_allclose(ad.trapezoid(y, at, axis=axis).numpy(), expected, atol=1e-14)
    got = ad.cumulative_trapezoid(y, x)
    expected = scipy.integrate.cumulative_trapezoid(y, np.broadcast_to(x, y.shape))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-14)
    with pytest.raises(ValueError, match=r"\[trapezoid\] x of shape \(3, 4\) has no axis beside"):
        ad.trapezoid(y, x, axis=0)


def test_numbers_are_joined_to_every_row():
    x = np.array([[1.0, 3.0], [2.0, 7.0]])
    for options in (
        {"prepend": 0},
        {"append": 9.5},
        {"prepend": 1.0, "append": 2, "axis": 0},
        {"prepend": 0, "n": 2},
        {"prepend": np.array([[1.0], [2.0]])},
    ):
        assert np.array_equal(ad.diff(ad.tensor(x), **options).numpy(), np.diff(x, **options))
    assert ad.diff(ad.tensor(x.astype("float32")), prepend=0.0).dtype == ad.float32
    assert ad.diff(ad.tensor([1, 3]), prepend=0.5).tolist() == [0.5, 2.0]
    assert ad.grad(lambda p: ad.sum(ad.diff(ad.tensor(x), prepend=p)))(0.0).item() == -2.0
    with pytest.raises(IndexError, match="0 dimensions"):
        ad.diff(ad.tensor(1.0), prepend=0.0)


# ---- special functions --------------------------------------------------------------------------


def lower(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, 0, x, regularized=True)


def upper(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, x, mpmath.inf, regularized=True)


OF_TWO: dict[str, tuple[Callable[[Any, Any], Any], list[tuple[float, float]]]] = {
    "igamma": (lower, [(1, 0.3), (1, 2), (2, 2), (3, 1.5), (0.5, 0.5)]),
    "igammac": (upper, [(1, 2), (2, 0.3), (3, 1.5)]),
    "xlogy": (lambda x, y: x * mpmath.log(y), [(0, 2), (0, 1), (1, 1)]),
    "xlog1py": (lambda x, y: x * mpmath.log1p(y), [(0, 2), (0, 0), (1, 0)]),
    "logaddexp": (lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)), [(0, 0), (1, 1)]),
    "hypot": (lambda x, y: mpmath.sqrt(x * x + y * y), [(0, 1), (1, 0), (3, 4)]),
    "atan2": (mpmath.atan2, [(0, 1), (1, 0), (1, 1)]),
    "pow": (lambda x, y: x**y, [(1, 0), (1, 1), (2, 0), (2, 3)]),
}


@pytest.mark.parametrize("name", OF_TWO)
def test_mixed_derivatives_of_functions_of_two_arguments(name):
    reference, points = OF_TWO[name]
    for point in points:
        a, x = map(mpmath.mpf, point)
        for order in (1, 2, 3):
            for path in itertools.product((0, 1), repeat=order):
                with mpmath.workdps(40):
                    expected = float(mpmath.diff(reference, (a, x), (path.count(0), path.count(1))))
                backward = forward = getattr(ad, name)
                for argument in path:
                    backward = ad.grad(backward, argnums=argument)
                    forward = along(forward, argument)
                for mode, f in (("reverse", backward), ("forward", forward)):
                    got = f(float(a), float(x)).item()
                    assert got == pytest.approx(expected, rel=1e-9, abs=1e-12), (mode, point, path)


def test_the_gamma_density_at_its_edge():
    """At shape 1 it is exp(-x), also at x = 0; d/da of its slope is infinite there, as log x is."""
    density = ad.grad(ad.igamma, argnums=1)
    slope = ad.grad(density, argnums=1)
    assert density(1.0, 0.0).item() == 1.0
    assert slope(1.0, 0.0).item() == -1.0
    assert slope(2.0, 0.0).item() == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_of_log_ndtr_keep_their_digits(dtype):
    def reference(x: Any) -> Any:
        return mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)

    eps = float(np.finfo(dtype).eps)
    for x in (-30.0, -10.0, -4.0, -3.0, -2.5, -1.0, -0.25, 0.0, 0.5, 3.0, 9.0):
        for order in (1, 2, 3, 4, 5):
            with mpmath.workdps(60):
                expected = float(mpmath.diff(reference, mpmath.mpf(x), order))
            got = nth(ad.log_ndtr, order)(ad.tensor(x, dtype=dtype)).item()
            assert got == pytest.approx(expected, rel=max(2 * eps, 2e-13)), (x, order)
    # Far out log Phi is -x**2 / 2 - log(-x) and a constant.
    for x in (-1e8, -1e5) if dtype == "float64" else (-1e8, -1e5, -1e10):
        for order, expected in ((2, -1.0), (3, -2 / x**3), (4, 6 / x**4), (5, -24 / x**5)):
            got = nth(ad.log_ndtr, order)(ad.tensor(x, dtype=dtype)).item()
            expected = float(np.asarray(expected, dtype))
            assert got == pytest.approx(expected, rel=max(2 * eps, 2e-9)), (x, order)
    for order, low in ((1, INF), (2, -1.0), (3, 0.0)):
        assert nth(ad.log_ndtr, order)(ad.tensor(-INF, dtype=dtype)).item() == low
        assert nth(ad.log_ndtr, order)(ad.tensor(INF, dtype=dtype)).item() == 0.0
        assert math.isnan(nth(ad.log_ndtr, order)(ad.tensor(NAN, dtype=dtype)).item())


@pytest.mark.parametrize("x", [1e-200, 1e-3, 2.0, 1e155, 1e200, 1e300])
def test_second_derivatives_of_entr_in_every_mode(x):
    slope, push = ad.grad(ad.entr), along(ad.entr, 0)
    assert push(x).item() == pytest.approx(-math.log(x) - 1, rel=1e-14)
    for second in (ad.grad(slope), along(slope, 0), ad.grad(push), along(push, 0)):
        assert second(x).item() == pytest.approx(-1 / x, rel=1e-14)


# ---- the sign of zero, infinities ---------------------------------------------------------------


def test_copysign_has_the_slope_of_abs():
    for x1 in (-INF, -2.0, -0.0, 0.0, 3.0, INF):
        for x2 in (-INF, -1.0, -0.0, 0.0, 1.0, INF):
            expected = float(np.sign(x1) * np.copysign(1.0, x2))
            for slope in (ad.grad(ad.copysign), along(ad.copysign, 0)):
                assert slope(x1, x2).item() == expected, (x1, x2)
            assert ad.grad(ad.copysign, argnums=1)(x1, x2).item() == 0.0
    assert ad.grad(ad.copysign)(0.0, 1.0).item() == ad.grad(ad.abs)(0.0).item() == 0.0


@pytest.mark.parametrize("name", ["sqrt", "log", "log2", "log10", "entr", "cbrt"])
def test_a_slope_that_is_infinite_at_zero_has_one_sign(name):
    f = getattr(ad, name)
    for zero in (0.0, -0.0):
        assert ad.grad(f)(zero).item() == INF
        assert along(f, 0)(zero).item() == INF


def test_functions_of_two_infinities_have_their_limits():
    half = math.sqrt(0.5)
    for sign1, sign2 in itertools.product((1.0, -1.0), repeat=2):
        slopes = ad.grad(ad.hypot, argnums=(0, 1))(sign1 * INF, sign2 * INF)
        assert [s.item() for s in slopes] == pytest.approx([sign1 * half, sign2 * half], rel=1e-15)
        for pair in ((INF, INF), (INF, 2.0), (2.0, INF)):
            slopes = ad.grad(ad.atan2, argnums=(0, 1))(sign1 * pair[0], sign2 * pair[1])
            assert [s.item() for s in slopes] == [0.0, 0.0], pair
    assert [s.item() for s in ad.grad(ad.hypot, argnums=(0, 1))(-INF, 1.0)] == [-1.0, 0.0]
    assert all(math.isnan(s.item()) for s in ad.grad(ad.hypot, argnums=(0, 1))(INF, NAN)[:1])


def test_the_derivative_of_an_extreme_that_is_nan_goes_to_the_nan():
    for reduction, of_two in ((ad.max, ad.maximum), (ad.min, ad.minimum)):
        for x in ([1.0, NAN], [NAN, 1.0]):
            both = [s.item() for s in ad.grad(of_two, argnums=(0, 1))(*x)]
            assert (
                ad.grad(reduction)(ad.tensor(x)).tolist()
                == both
                == [0.0 + math.isnan(v) for v in x]
            )
        assert ad.grad(reduction)(ad.tensor([NAN, 2.0, NAN])).tolist() == [0.5, 0.0, 0.5]
        tangent = ad.tensor([3.0, 5.0, 7.0])
        assert ad.jvp(reduction, (ad.tensor([1.0, NAN, 2.0]),), (tangent,))[1].item() == 5.0
        table = ad.tensor([[1.0, 2.0], [NAN, 2.0]])
        rows = ad.grad(lambda t, f=reduction: ad.sum(f(t, axis=1)))(table).tolist()
        assert rows == [[0.0, 1.0] if reduction is ad.max else [1.0, 0.0], [1.0, 0.0]]


def test_nan_has_no_part_in_an_extreme_of_infinities():
    for reduction, end in ((ad.nanmax, -INF), (ad.nanmin, INF)):
        assert reduction(ad.tensor([NAN, end])).item() == end
        for x, expected in (
            ([NAN, end], [0.0, 1.0]),
            ([end, NAN, end], [0.5, 0.0, 0.5]),
            ([NAN, end, 3.0], [0.0, 0.0, 1.0]),
            ([NAN, 2.0, 2.0], [0.0, 0.5, 0.5]),
            ([NAN, -end, end], [0.0, 1.0, 0.0]),
            ([NAN, NAN], [0.0, 0.0]),
        ):
            assert ad.grad(reduction)(ad.tensor(x)).tolist() == expected, x
            tangent = ad.tensor([4.0, 8.0, 16.0][: len(x)])
            pushed = ad.jvp(reduction, (ad.tensor(x),), (tangent,))[1].item()
            assert pushed == np.dot(expected, tangent.numpy())
        assert math.isnan(reduction(ad.tensor([NAN, NAN])).item())
        assert reduction(ad.tensor([[NAN, end], [1.0, 2.0]]), axis=1, keepdims=True).shape == (2, 1)


def test_rounding_is_flat_where_the_decimals_overflow():
    for x in (1e308, -1e307, 12.345, INF):
        for decimals in (2, 300, -2):
            assert ad.grad(lambda z, d=decimals: ad.around(z, d))(x).item() == 0.0
    assert ad.around(1e308, 2).item() == 1e308


# ---- products -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_short_products_go_from_element_to_element(axis):
    for row in (
        [1e200, 1e-200, 1e200, 1e-200],
        [1e200, 1e-200] * 4,
        [1e200, 1e200, 1e-200],
        [0.0, 1e200, 1e200],
        [1e-200, 1e-200, 1e200],
    ):
        x = np.array([row, row[::-1]])
        x = x if axis == 1 else x.T
        with np.errstate(all="ignore"):
            expected = np.array([np.multiply.accumulate(r)[-1] for r in (x if axis == 1 else x.T)])
        for f in (partial(ad.prod, axis=axis), ad.compile(partial(ad.prod, axis=axis))):
            assert np.array_equal(f(ad.tensor(x)).numpy(), expected, equal_nan=True)
            many = np.concatenate([x] * 9, axis=1 - axis)  # rows that are taken together
            assert np.array_equal(f(ad.tensor(many)).numpy(), np.tile(expected, 9), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivatives_of_a_product_are_the_products_of_the_others(dtype):
    big = 1e200 if dtype == "float64" else 1e25
    small = 1 / big
    for x in (
        [big, small, big, small],
        [big, big, small, small],
        [small, small, big, big, 1.0],
        [big, big, small, small, 0.0],
        [small, -big, small, big, small, big, 3.0],
        [0.0, big, 0.0],
        [1.0] * 90,
    ):
        values = np.array(x, dtype)
        exact = [mpmath.mpf(float(v)) for v in values]
        expected = [float(mpmath.fprod(exact[:i] + exact[i + 1 :])) for i in range(len(x))]
        slope = ad.grad(ad.prod)(ad.tensor(values))
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(slope.numpy(), expected, rtol=len(x) * eps)
        unit = np.zeros(len(x), dtype)
        unit[0] = 1
        pushed = ad.jvp(ad.prod, (ad.tensor(values),), (ad.tensor(unit),))[1].item()
        np.testing.assert_allclose(pushed, expected[0], rtol=len(x) * eps)
    x = ad.tensor([2.0, 3.0, 5.0, 7.0])
    others = [[0 if i == j else 210 / (x[i] * x[j]).item() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(ad.hessian(ad.prod)(x).numpy(), others, rtol=1e-14)
    cube = np.arange(1.0, 9).reshape(2, 2, 2)
    whole = ad.grad(lambda t: ad.sum(ad.prod(t, axis=(0, 2))))(ad.tensor(cube)).numpy()
    np.testing.assert_allclose(whole, np.prod(cube, axis=(0, 2), keepdims=True) / cube, rtol=1e-14)


def test_running_products_stay_zero_after_a_zero():
    for x in (
        [0.0] + [1e100] * 8,
        [1e200, 1e-200, 1e200, 1e200, 1e-200],
        [1e-200, 1e200, 1e200, 1e-200, 1e-200, 1e-200],
        [2.0, -0.0, 3.0, -1.0],
        [NAN, 0.0, 2.0],
        [INF, 0.5, -1.0],
    ):
        with np.errstate(all="ignore"):
            expected = np.cumprod(x)
        for f in (ad.cumprod, ad.compile(ad.cumprod), ad.nancumprod):
            if f is ad.nancumprod:
                with np.errstate(all="ignore"):
                    expected = np.nancumprod(x)
            assert np.array_equal(f(ad.tensor(x)).numpy(), expected, equal_nan=True), x
    table = np.random.default_rng(0).normal(size=(3, 4, 5))
    for axis in (0, 1, 2):
        got = ad.cumulative_prod(ad.tensor(table), axis=axis)
        assert np.array_equal(got.numpy(), np.cumprod(table, axis=axis))
    whole = np.array([[3, 7, 11], [2**40, 2**30, 5]])
    assert np.array_equal(ad.cumprod(ad.tensor(whole), 1).numpy(), np.cumprod(whole, 1))


WEIGHTS = ad.tensor([1.0, 10.0, 100.0, 1000.0])
DIRECTION = ad.tensor([1.0, -2.0, 0.5, 3.0])


def running(t: Any) -> Any:
    return ad.sum(ad.cumprod(t) * WEIGHTS)


def written_out(t: Any) -> Any:
    a, b, c, d = (t[i] for i in range(4))
    return ad.sum(ad.stack([a, a * b, a * b * c, a * b * c * d]) * WEIGHTS)


@pytest.mark.parametrize(
    "values", [[2.0, 0.0, 3.0, -1.5], [0.0, 0.0, 2.0, 4.0], [1.5, 2.0, -0.5, 3.0], [0.0] * 4]
)
def test_derivatives_of_running_products_with_zeros(values):
    """Those of the polynomials that they are, in every mode and to order three."""
    x = ad.tensor(values)
    expected = [
        [np.prod(np.delete(values[: k + 1], i)) if i <= k else 0.0 for i in range(4)]
        for k in range(4)
    ]
    for mode in ("reverse", "forward"):
        np.testing.assert_allclose(ad.jacobian(ad.cumprod, mode=mode)(x).numpy(), expected)
    for transform in (
        ad.grad,
        ad.hessian,
        lambda f: lambda t: ad.hvp(f, t, DIRECTION),
        lambda f: ad.jacobian(ad.hessian(f), mode="forward"),
        lambda f: ad.jacobian(ad.hessian(f), mode="reverse"),
        lambda f: ad.compile(ad.hessian(f)),
    ):
        got, peer = transform(running)(x), transform(written_out)(x)
        np.testing.assert_allclose(got.numpy(), peer.numpy(), atol=1e-12)
    rows = ad.stack([x, 2.0 * x])
    batched = ad.vmap(ad.grad(running))(rows).numpy()
    np.testing.assert_allclose(batched[1], ad.grad(written_out)(rows[1]).numpy(), atol=1e-12)


# ---- arguments ----------------------------------------------------------------------------------


def test_indices_beyond_int64_are_out_of_range():
    far = np.array([2**64 - 1], np.uint64)
    x = ad.tensor([1.0, 2.0, 3.0])
    for call in (
        lambda i: ad.delete(x, i),
        lambda i: ad.insert(x, i, 1.0),
        lambda i: ad.take(x, i),
        lambda i: ad.take_along_axis(x, i),
        lambda i: ad.segment_sum(x[:1], i, 2),
    ):
        with pytest.raises(IndexError, match="out of range"):
            call(ad.tensor(far))
    for call in (
        lambda i: ad.partition(x, i),
        lambda i: ad.argpartition(x, i),
        lambda i: ad.unravel_index(ad.tensor(i), (2, 3)),
        lambda i: ad.bincount(ad.tensor(i)),
        lambda i: ad.pad(x, i),
    ):
        with pytest.raises(ValueError, match=r"lies outside|is 9223372036854775807|too large"):
            call(far)
    for got, expected in zip(ad.split(x, far), np.split(x.numpy(), far), strict=True):
        assert np.array_equal(got.numpy(), expected)


def test_numbers_in_lists_take_the_dtype_of_the_tensors_beside_them():
    x = np.array([1.0, -2.0], np.float32)
    t = ad.tensor(x)
    for choices, default in (
        ([t * t], 1.0),
        ([2.5], t),
        ([t, 3], 0),
        ([1.5, t], 0.5),
        ([t] * 9, 0.5),
    ):
        conditions = [t > 0] * len(choices)
        got = ad.select(conditions, choices, default)
        expected = np.select(
            [x > 0] * len(choices),
            [c.numpy() if isinstance(c, ad.Tensor) else c for c in choices],
            default.numpy() if isinstance(default, ad.Tensor) else default,
        )
        assert got.dtype == ad.float32
        assert np.array_equal(got.numpy(), expected)
    compiled = ad.compile(lambda c, y, n: ad.select([c], [y], n))
    assert compiled(t > 0, t, 2.5).dtype == ad.float32
    assert compiled(t > 0, t, 2.5).tolist() == [1.0, 2.5]
    assert ad.select([t > 0], [1], 0).dtype == ad.int64
    assert ad.select([t > 0], [1], 0.5).tolist() == [1.0, 0.5]
    assert ad.select([t > 0], [t], ad.tensor(1.0)).dtype == ad.float64


def test_weights_of_covariances_are_checked():
    m = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 1.0]])
    for options, error in (
        ({"fweights": [1, -1, 1]}, ValueError),
        ({"fweights": [1.0, 0.5, 1.0]}, TypeError),
        ({"fweights": [1.0, NAN, 1.0]}, TypeError),
        ({"aweights": [1.0, -0.5, 1.0]}, ValueError),
    ):
        with pytest.raises(error):
            np.cov(m, **{k: np.array(v) for k, v in options.items()})
        with pytest.raises(error, match=r"\[cov\] [fa]weights"):
            ad.cov(ad.tensor(m), **{k: ad.tensor(v) for k, v in options.items()})
    for options in ({"fweights": [1, 0, 3]}, {"fweights": [1, 2, 1], "aweights": [0.5, 0.0, 2.0]}):
        arrays = {k: np.array(v) for k, v in options.items()}
        np.testing.assert_allclose(ad.cov(m, **arrays).numpy(), np.cov(m, **arrays), rtol=1e-14)
    doubled = ad.cov(ad.tensor(m), fweights=ad.tensor([2.0, 2.0, 2.0])).numpy()
    np.testing.assert_allclose(doubled, np.cov(m, fweights=[2, 2, 2]), rtol=1e-14)


def test_messages_name_the_function_and_no_sign_of_nan():
    for call in (ad.geomspace, ad.logspace):
        with pytest.raises(ValueError, match=rf"\[{call.__name__}\] num must not be negative"):
            call(1.0, 2.0, -1)
    nan = np.array([-NAN, 1.0])
    with pytest.raises(ValueError, match="got nan"):
        ad.random.categorical(ad.tensor(nan))
    with pytest.raises(ValueError, match="got nan"):
        ad.quantile(ad.ones(3), ad.sqrt(ad.tensor(-1.0)))
    for call in (lambda: ad.repeat(ad.ones(3), 2**60), lambda: ad.tile(ad.ones(3), 2**60)):
        with pytest.raises(MemoryError):
            call()
