"""Special functions over all that a dtype holds, against mpmath, and at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from mpmath import mp

import adjoint as ad
from derivative_range import bessel, bessel_moment, excess, quantile

rng = np.random.default_rng(5)


def spread(low: float, high: float) -> Any:
    """Magnitudes between two powers of ten."""
    return 10 ** rng.uniform(low, high, 200)


def signed(values: Any) -> Any:
    return values * rng.choice([-1, 1], values.shape)


def ndtr(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def log_ndtr(x: Any) -> Any:
    if x < -30:
        return -x * x / 2 - mp.log(2 * mp.pi) / 2 - mp.log(excess(x) - x)
    return mp.log1p(-ndtr(-x)) if x > 0 else mp.log(ndtr(x))


def scaled_bessel_1(x: Any) -> Any:
    return mp.sign(x) * (bessel_moment(0, x) - bessel_moment(1, x))


WIDE = [rng.uniform(-9, 9, 200), rng.uniform(-40, 40, 200), signed(spread(-300, 3))]
# The exact function, the points, and the bounds in ulp that the documentation states.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Any, tuple[float, float]]] = {
    "sinc": (
        lambda x: mp.sinpi(x) / (mp.pi * x),
        [*WIDE, signed(spread(0, 5))],
        (0.51, 1.9),
    ),
    "ndtr": (ndtr, [*WIDE[:2], signed(spread(-300, 0)), -spread(0, 1.55)], (0.51, 2)),
    "log_ndtr": (log_ndtr, [*WIDE, -spread(0, 150)], (0.51, 2.2)),
    "erfinv": (
        mp.erfinv,
        [rng.uniform(-1, 1, 200), signed(1 - spread(-15, -1)), signed(spread(-300, 0))],
        (0.51, 3),
    ),
    "ndtri": (
        quantile,
        [rng.uniform(0, 1, 200), spread(-307, 0), 1 - spread(-15, -1), 0.5 + spread(-15, -1)],
        (0.51, 3.1),
    ),
    "i0": (lambda x: bessel(0, x), [*WIDE[:2], signed(spread(-300, 2.84))], (0.51, 3.3)),
    "i1": (lambda x: bessel(1, x), [*WIDE[:2], signed(spread(-300, 2.84))], (0.51, 3.2)),
    "i0e": (lambda x: bessel_moment(0, x), [*WIDE, signed(spread(0, 300))], (0.51, 3)),
    "i1e": (scaled_bessel_1, [*WIDE, signed(spread(0, 300))], (0.51, 3)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_over_the_whole_range(name: str, dtype: str) -> None:
    exact, points, bounds = FUNCTIONS[name]
    kind = np.finfo(dtype)
    with np.errstate(over="ignore"):
        x = np.concatenate(points).astype(dtype)
    x = x[np.isfinite(x) & (x != 0)]
    if name in ("erfinv", "ndtri"):
        x = x[(np.abs(x) < 1)]
    got = getattr(ad, name)(ad.asarray(x)).numpy()
    least = mp.mpf(float(kind.smallest_subnormal))
    with mp.workdps(400):  # differences of nearly equal numbers too
        wanted = [exact(mp.mpf(float(v))) for v in x]
        for value, want, at in zip(got, wanted, x, strict=True):
            if abs(want) > float(kind.max):
                assert np.isinf(value) and (value > 0) == (want > 0), at
                continue
            exponent = mp.frexp(want)[1] if want else -10000
            unit = max(mp.ldexp(1, exponent - 1 - kind.nmant), least)
            error = abs(mp.mpf(float(value)) - want) / unit
            assert error <= bounds[dtype == "float64"], (at, value)


EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -1e300, 1e300]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("sinc", "i0", "i1")])
def test_edges(name: str) -> None:
    x = np.array(EDGES)
    expected = getattr(scipy.special, name)(x)
    np.testing.assert_allclose(getattr(ad, name)(ad.asarray(x)).numpy(), expected, rtol=1e-14)


def test_edges_that_peers_leave_open() -> None:
    x = ad.asarray(np.array([np.inf, -np.inf, np.nan, 0.0, 1e300, -1e300]))
    np.testing.assert_array_equal(ad.sinc(x).numpy(), [0, 0, np.nan, 1, 0, 0])
    np.testing.assert_array_equal(ad.i0(x).numpy(), [np.inf, np.inf, np.nan, 1, np.inf, np.inf])
    np.testing.assert_array_equal(ad.i1(x).numpy(), [np.inf, -np.inf, np.nan, 0, np.inf, -np.inf])


def orders(f: Callable[..., Any], count: int) -> list[Callable[..., Any]]:
    out = [f]
    for _ in range(count):
        out.append(ad.grad(out[-1]))
    return out


def test_derivatives_at_zero() -> None:
    """From the power series: sinc is 1 - (pi x)^2/6 + ..., I0 is 1 + x^2/4 + x^4/64 + ..."""
    pi2 = np.pi**2
    expected = {
        "sinc": [1, 0, -pi2 / 3, 0, pi2**2 / 5],
        "i0": [1, 0, 1 / 2, 0, 3 / 8],
        "i1": [0, 1 / 2, 0, 3 / 8, 0],
        "erfinv": [0, np.sqrt(np.pi) / 2, 0, np.pi**1.5 / 4, 0],
    }
    for name, values in expected.items():
        for n, f in enumerate(orders(getattr(ad, name), 4)):
            assert float(f(ad.tensor(0.0))) == pytest.approx(values[n], rel=1e-14, abs=0), (name, n)


@pytest.mark.parametrize("x", [0.0, 1e-8, 0.4, -1.3, 2.6, 17.25])
def test_high_orders_of_sinc(x: float) -> None:
    """sinc(x) is the mean of cos(pi x t) over t in [0, 1], and so are its derivatives."""
    with mp.workdps(40):
        for n, f in enumerate(orders(ad.sinc, 6)):
            exact = mp.quad(
                lambda t, n=n: (mp.pi * t) ** n * mp.cos(mp.pi * x * t + n * mp.pi / 2),
                mp.linspace(0, 1, 30),
            )
            assert float(f(ad.tensor(x))) == pytest.approx(float(exact), rel=2e-14, abs=1e-13), n


@pytest.mark.parametrize("x", [-1e8, -300.0, -20.0, -4.0, -0.7, 0.5, 3.0])
def test_the_far_tail_of_log_ndtr(x: float) -> None:
    with mp.workdps(60):
        m = excess(mp.mpf(x))
        h = m - x
        exact = [log_ndtr(mp.mpf(x)), h, -h * m]
    for n, f in enumerate(orders(ad.log_ndtr, 2)):
        assert float(f(ad.tensor(x))) == pytest.approx(float(exact[n]), rel=2e-15), n


def shapes_and_arguments() -> tuple[Any, Any]:
    """From the series at small a to the expansion next to large ones."""
    a = 10 ** rng.uniform(-6, 2.9, 250)
    x = np.where(rng.random(250) < 0.5, a * 10 ** rng.uniform(-1.5, 1.5, 250), spread(-5, 2.8)[0])
    wide = 10 ** rng.uniform(0, 4, 150)
    near = np.abs(wide + 2 * np.sqrt(wide) * rng.normal(size=150))
    return np.concatenate([a, wide]), np.concatenate([x, near])


def test_incomplete_gamma_functions() -> None:
    a, x = shapes_and_arguments()
    lower, upper = ad.igamma(a, x).numpy(), ad.igammac(a, x).numpy()
    with mp.workdps(50):
        for i in range(len(a)):
            shape, at = mp.mpf(float(a[i])), mp.mpf(float(x[i]))
            exact = (
                mp.gammainc(shape, 0, at, regularized=True),
                mp.gammainc(shape, at, mp.inf, regularized=True),
            )
            for value, want in zip((lower[i], upper[i]), exact, strict=True):
                if want > 1e-100:
                    assert abs(mp.mpf(float(value)) / want - 1) < 1e-14, (a[i], x[i])


def test_edges_of_incomplete_gamma_functions() -> None:
    a = np.array([0, 0, 1, np.inf, 1, -1, 2, np.nan, 2, 1e5, 1e8, np.inf])
    x = np.array([0, 1, 0, 1, np.inf, 1, -1, 1, np.nan, 1.01e5, 1.0001e8, np.inf])
    for ours, theirs in (
        (ad.igamma, scipy.special.gammainc),
        (ad.igammac, scipy.special.gammaincc),
    ):
        np.testing.assert_allclose(ours(a, x).numpy(), theirs(a, x), rtol=1e-13)


@pytest.mark.parametrize(("a", "x"), [(0.3, 0.2), (1.0, 0.7), (2.5, 1.3), (40.0, 55.0)])
def test_derivatives_of_incomplete_gamma_functions(a: float, x: float) -> None:
    """x^(a-1) e^-x / Gamma(a), times (a - 1) / x - 1, and the square of that less (a - 1) / x^2."""
    with mp.workdps(40):
        density = mp.mpf(x) ** (a - 1) * mp.exp(-mp.mpf(x)) / mp.gamma(a)
        rise = (a - 1) / mp.mpf(x) - 1
        exact = [density, density * rise, density * (rise**2 - (a - 1) / mp.mpf(x) ** 2)]
    for sign, f in ((1, ad.igamma), (-1, ad.igammac)):
        for n, slope in enumerate(orders(lambda t, f=f: f(a, t), 3)[1:]):
            wanted = sign * float(exact[n])
            assert float(slope(ad.tensor(x))) == pytest.approx(wanted, rel=1e-13), n


@pytest.mark.parametrize(
    ("a", "x", "order", "exact"),
    [
        (2.0, 0.0, 2, 1.0),
        (1.5, 0.0, 2, math.inf),
        (1.0, 0.0, 2, -1.0),
        (0.5, 0.0, 2, -math.inf),
        (3.0, 0.0, 2, 0.0),
        (3.0, 0.0, 3, 1.0),
        (2.0, 0.0, 3, -2.0),
        (1.0, 0.0, 3, 1.0),
        (1.5, 1e-300, 1, 1e-150 / math.gamma(1.5)),
        (2.0, 1e-300, 1, 1e-300),
        (3.0, 1e-110, 2, 1e-110),
        (4.0, 1e-110, 2, 0.5e-220),
        (5.0, 1e-110, 3, 0.5e-220),
        (3.0, 1e-160, 3, 1.0),
    ],
)
def test_derivatives_of_incomplete_gamma_functions_at_and_near_0(
    a: float, x: float, order: int, exact: float
) -> None:
    """x^(a-1) / Gamma(a) and its derivatives, which are there where the values have vanished."""
    for sign, f in ((1, ad.igamma), (-1, ad.igammac)):
        slope = orders(lambda t, f=f: f(a, t), order)[order]
        assert float(slope(ad.tensor(x))) == pytest.approx(sign * exact, rel=1e-13)


SHAPES = [  # and arguments: of the power series, the fraction, and the expansion for large shapes
    *((a, x) for a in (1e-8, 0.3, 2.0, 7.5, 120.0) for x in (1e-6, 0.2, 0.9, 3.0, 40.0)),
    *((120.0, x) for x in (90.0, 119.0, 121.5, 150.0)),
    *((a, a * r) for a in (1500.0, 2e4) for r in (0.6, 0.93, 0.9999, 1.0, 1.004, 1.1)),
]


@pytest.mark.parametrize(("a", "x"), SHAPES)
def test_derivatives_of_incomplete_gamma_functions_in_a(a: float, x: float) -> None:
    lower = orders(lambda t: ad.igamma(t, x), 4)
    upper = orders(lambda t: ad.igammac(t, x), 4)
    at = ad.tensor(a)
    with mp.workdps(400):
        exact = mp.taylor(lambda s: mp.gammainc(s, 0, mp.mpf(x), regularized=True), mp.mpf(a), 4)
        wanted = [float(c * mp.factorial(n)) for n, c in enumerate(exact)]
    for n in range(1, 5):
        bound = 1e-12 * 10**n  # of terms that cancel, more at each order
        least = bound * max(map(abs, wanted[1:n]), default=0.0)
        for sign, slope in ((1, lower), (-1, upper)):
            got = float(slope[n](at))
            assert got == pytest.approx(sign * wanted[n], rel=bound, abs=max(least, 1e-300)), n


def test_mixed_derivatives_of_incomplete_gamma_functions() -> None:
    """In a and x, and x and a: those of the density, by differences of its formula."""

    def density(a: Any, x: Any) -> Any:
        return x ** (a - 1) * mp.exp(-x) / mp.gamma(a)

    for a, x in ((0.4, 0.7), (2.5, 6.0), (30.0, 21.0), (1600.0, 1590.0)):
        with mp.workdps(40):
            wanted = float(mp.diff(density, (mp.mpf(a), mp.mpf(x)), (1, 0)))
            further = float(mp.diff(density, (mp.mpf(a), mp.mpf(x)), (2, 1)))
        a_first = ad.grad(lambda x, a=a: ad.grad(ad.igamma)(a, x))
        x_first = ad.grad(lambda a, x=x: ad.grad(ad.igamma, 1)(a, x))
        assert float(a_first(ad.tensor(x))) == pytest.approx(wanted, rel=1e-11)
        assert float(x_first(ad.tensor(a))) == pytest.approx(wanted, rel=1e-11)
        of_a = ad.grad(ad.grad(ad.grad(ad.grad(ad.igamma, 1), 1), 0), 0)
        assert float(of_a(ad.tensor(a), ad.tensor(x))) == pytest.approx(further, rel=1e-9)


def test_edges_of_derivatives_of_incomplete_gamma_functions_in_a() -> None:
    slope = ad.grad(ad.igamma)
    for a, x in ((2.0, 0.0), (2.0, np.inf), (np.inf, 2.0), (1.0, 0.0)):
        assert float(slope(ad.tensor(a), ad.tensor(x))) == 0
    for a, x in ((-1.0, 2.0), (2.0, -1.0), (np.nan, 1.0), (0.0, 0.0)):
        assert math.isnan(float(slope(ad.tensor(a), ad.tensor(x))))
    # At a = 0, where P is 1, its slope is minus the exponential integral.
    assert float(slope(ad.tensor(0.0), ad.tensor(0.5))) == pytest.approx(
        -float(mp.e1(0.5)), rel=1e-13
    )
    assert float(slope(ad.tensor(0.0), ad.tensor(5.0))) == pytest.approx(
        -float(mp.e1(5)), rel=1e-13
    )


def test_ldexp_rounds_once_and_reaches_the_ends() -> None:
    x = np.array([1.5, -3.7, 2.0**-1074, 1.9 * 2.0**1000, 0.0, np.inf])
    for n in (-2500, -2060, -1075, -60, 3, 900, 2090, 2500):
        with np.errstate(over="ignore"):
            expected = np.ldexp(x, n)
        np.testing.assert_array_equal(ad.ldexp(ad.asarray(x), n).numpy(), expected)
    with pytest.raises(TypeError, match=r"\[ldexp\] the exponent x2 must be integers"):
        ad.ldexp(1.0, 2.0)
    assert float(ad.grad(lambda t: ad.ldexp(t, 3))(ad.tensor(1.5))) == 8.0


def test_frexp_puts_numbers_together_again() -> None:
    x = signed(spread(-320, 308))
    for dtype in ("float32", "float64"):
        with np.errstate(over="ignore", under="ignore"):
            given = x.astype(dtype)
        mantissa, exponent = ad.frexp(ad.asarray(given))
        wanted = np.frexp(given)
        finite = np.isfinite(given)
        np.testing.assert_array_equal(mantissa.numpy()[finite], wanted[0][finite])
        np.testing.assert_array_equal(exponent.numpy()[finite], wanted[1][finite])
        assert exponent.dtype is ad.int32 and mantissa.numpy().dtype == dtype


def test_divisors_at_the_ends_of_the_types() -> None:
    for dtype in ("int8", "uint8", "int64", "uint64"):
        ends = np.iinfo(dtype)
        a = np.array([ends.min, ends.max, 0, 12, 1, ends.max], dtype)
        b = np.array([2, 3, 0, 18, 0, ends.max], dtype)
        np.testing.assert_array_equal(ad.gcd(ad.asarray(a), ad.asarray(b)).numpy(), np.gcd(a, b))
    pairs = np.array([4, -6, 0, 21]), np.array([6, 4, 5, -14])
    np.testing.assert_array_equal(ad.lcm(*map(ad.asarray, pairs)).numpy(), np.lcm(*pairs))
    with pytest.raises(TypeError, match=r"\[gcd\].*float64"):
        ad.gcd(ad.tensor(1.0), ad.tensor(2.0))


def test_the_sign_of_fmod_is_that_of_the_first() -> None:
    a, b = np.array([7.5, -7.5, 7.5, -0.0, 5.0]), np.array([2.0, 2.0, -2.0, 3.0, np.inf])
    got = ad.fmod(ad.asarray(a), ad.asarray(b)).numpy()
    np.testing.assert_array_equal(got, np.fmod(a, b))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.fmod(a, b)))
    i, j = np.array([7, -7, 7, -7, 6]), np.array([2, 2, -2, -2, 0])
    got = ad.fmod(ad.asarray(i), ad.asarray(j)).numpy()
    np.testing.assert_array_equal(got, [1, -1, 1, -1, 0])
    slope = ad.grad(lambda y: ad.sum(ad.fmod(ad.asarray(a), y)))(ad.asarray(b)).numpy()
    np.testing.assert_array_equal(slope, -np.trunc(a / b))
