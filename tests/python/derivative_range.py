"""Exact first and second derivatives of the elementary functions, and where to ask for them.

The arguments go over all that a dtype holds: every power of two from the least subnormal number to
the largest one, random ones between them, and what lies next to the edges of the domain. The
derivatives are closed forms in mpmath, written such that they lose no digits themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import scipy.special
from mpmath import mp

Function = Callable[..., Any]


@dataclass(frozen=True)
class Slopes:
    """Derivatives of a function of one or two numbers, by the operands they are taken in.

    `bounds` are the largest errors of orders 1 and 2, in units in the last place of the result, or
    of `terms` where the derivative is a sum of terms that may cancel. `lost(x)` adds to them what
    the rounding of an intermediate value costs, and `floor` is the least unit that counts, in
    subnormal steps. Nothing is promised where one of `parts(order, x)`, of which the derivative is
    made, overflows or is subnormal.
    """

    exact: dict[tuple[int, ...], Function]
    bounds: tuple[float, float]
    domain: tuple[float, float] = (-np.inf, np.inf)
    edges: tuple[float, ...] = (0.0,)
    terms: dict[tuple[int, ...], Function] | None = None
    lost: Callable[..., float] = lambda *x: 0.0
    floor: float = 8
    parts: Callable[..., tuple[Any, ...]] = lambda order, *x: ()

    @property
    def arity(self) -> int:
        return 1 + max(max(key) for key in self.exact)


def arguments(slopes: Slopes, dtype: str, seed: int = 3) -> list[np.ndarray]:
    """Operands of one length; pairs are every magnitude against every other."""
    kind = np.finfo(dtype)
    rng = np.random.default_rng(seed)
    low = int(np.log2(float(kind.smallest_subnormal)))
    stride = 41 if slopes.arity == 2 else 2 if dtype == "float32" else 11
    powers = 2.0 ** np.arange(low, kind.maxexp, stride)
    spread = powers * rng.uniform(1, 2, powers.shape)
    if slopes.arity == 1:
        near = [
            e + s * float(kind.eps) * 2.0**k
            for e in slopes.edges
            for s in (-1, 1)
            for k in range(0, 24, 3)
        ]
        points = np.concatenate(
            [powers, spread, rng.uniform(-8, 8, 100), rng.uniform(0.1, 40, 60), near]
        )
        points = np.concatenate([points, -points]).astype(dtype)
        inside = (points > slopes.domain[0]) & (points < slopes.domain[1]) & np.isfinite(points)
        return [points[inside]]
    sides = np.concatenate([spread, rng.uniform(0.2, 5, 4)]).astype(dtype)
    a, b = (side.ravel() for side in np.meshgrid(sides, sides))
    signs = rng.choice([-1, 1], (2, a.size)).astype(dtype)
    a = a if slopes.domain[0] == 0 else a * signs[0]
    keep = np.isfinite(a) & np.isfinite(b)
    return [a[keep], (b * signs[1])[keep]]


def sech2(x: Any) -> Any:
    return 4 / (mp.exp(x) + mp.exp(-x)) ** 2


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def density(x: Any) -> Any:
    """sigmoid'."""
    return sech2(x / 2) / 4


def bent(x: Any) -> Any:
    """sigmoid''."""
    return -density(x) * mp.tanh(x / 2)


def bell(x: Any) -> Any:
    return 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)


def one(first: Function, second: Function, bounds: tuple[float, float], **more: Any) -> Slopes:
    return Slopes({(0,): first, (0, 0): second}, bounds, **more)


GELU = 2 * mp.sqrt(2 / mp.pi)
CUBIC = mp.mpf("0.044715")


def gelu_terms(x: Any) -> tuple[Any, ...]:
    u, du, ddu = (
        GELU * x * (1 + CUBIC * x * x),
        GELU * (1 + 3 * CUBIC * x * x),
        6 * GELU * CUBIC * x,
    )
    first = sigmoid(u), x * density(u) * du
    return first, (2 * density(u) * du, x * bent(u) * du * du, x * density(u) * ddu)


def silu_terms(x: Any) -> tuple[Any, ...]:
    return (sigmoid(x), x * density(x)), (2 * density(x), x * bent(x))


def of_terms(terms: Function, bounds: tuple[float, float], **more: Any) -> Slopes:
    return Slopes(
        {(0,): lambda x: mp.fsum(terms(x)[0]), (0, 0): lambda x: mp.fsum(terms(x)[1])},
        bounds,
        terms={
            (0,): lambda x: mp.fsum(terms(x)[0], absolute=True),
            (0, 0): lambda x: mp.fsum(terms(x)[1], absolute=True),
        },
        **more,
    )


def third(x: Any, p: Any) -> Any:
    return mp.sign(x) * abs(x) ** (mp.mpf(p) / 3)


def sinc_slope(n: int, x: Any) -> Any:
    """The derivative of order n of sin(pi x) / (pi x), n = 0, 1, 2; near 0 from its series."""
    if abs(x) < 1:
        return mp.fsum(
            (-1) ** k
            * mp.pi ** (2 * k)
            * x ** (2 * k - n)
            * mp.ff(2 * k, n)
            / mp.factorial(2 * k + 1)
            for k in range((n + 1) // 2, 40)
        )
    turned = (mp.sinpi(x), mp.pi * mp.cospi(x), -(mp.pi**2) * mp.sinpi(x))[n] / (mp.pi * x)
    return turned - n * sinc_slope(n - 1, x) / x if n else turned


def sinc_terms(n: int, x: Any) -> Any:
    """The size of the terms that cancel, of which there are none near 0."""
    if abs(x) < HALF:
        return abs(sinc_slope(n, x))
    return mp.pi ** (n - 1) / abs(x) + n * (sinc_terms(n - 1, x) if n > 1 else 1) / abs(x)


def normal(x: Any) -> Any:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def excess(x: Any) -> Any:
    """x + phi(x) / Phi(x): far out in the left tail by Laplace's continued fraction."""
    if x > -30:
        return x + 2 * normal(x) / mp.erfc(-x / mp.sqrt(2))
    value = -x
    for k in range(120, 1, -1):
        value = -x + k / value
    return 1 / value


def mills(x: Any) -> Any:
    return excess(x) - x if x < 0 else 2 * normal(x) / mp.erfc(-x / mp.sqrt(2))


def quantile(p: Any) -> Any:
    """The inverse of Phi, by Newton's method on its logarithm."""
    if p > HALF:
        return -quantile(1 - p)
    z = mp.mpf(scipy.special.ndtri(float(p)))
    for _ in range(8):
        below = mp.erfc(-z / mp.sqrt(2)) / 2
        z -= mp.log(below / p) * below / normal(z)
    return z


def bessel_moment(n: int, x: Any) -> Any:
    """The mean of (1 - cos)^n e^(-x (1 - cos)); far out from its series in 1 / x."""
    x = abs(x)
    if x > 100:
        terms = (
            mp.rf(HALF, k) * mp.gamma(n + HALF + k) / (mp.factorial(k) * (2 * x) ** k)
            for k in range(60)
        )
        return mp.fsum(terms) / (mp.pi * x**n * mp.sqrt(2 * x))
    scale = 2**n * mp.beta(n + HALF, HALF) / mp.pi
    return scale * mp.exp(-2 * x) * mp.hyp1f1(HALF, n + 1, 2 * x)


def bessel(n: int, x: Any) -> Any:
    """I_n; beyond 2000, where it overflows, that of 2000."""
    return mp.besseli(n, x if abs(x) < 2000 else mp.sign(x) * 2000)


POSITIVE = (0.0, np.inf)
INSIDE = (-1.0, 1.0)
ONE = mp.mpf(1)
HALF = ONE / 2
LN2, LN10 = mp.log(2), mp.log(10)

UNARY: dict[str, Slopes] = {
    "exp": one(mp.exp, mp.exp, (2, 2)),
    "exp2": one(lambda x: LN2 * 2**x, lambda x: LN2**2 * 2**x, (3, 4)),
    "expm1": one(mp.exp, mp.exp, (2, 2)),
    "log": one(lambda x: 1 / x, lambda x: -1 / x**2, (1, 2), domain=POSITIVE),
    "log2": one(lambda x: 1 / (x * LN2), lambda x: -1 / (x * x * LN2), (2, 3), domain=POSITIVE),
    "log10": one(lambda x: 1 / (x * LN10), lambda x: -1 / (x * x * LN10), (2, 3), domain=POSITIVE),
    "log1p": one(
        lambda x: 1 / (1 + x),
        lambda x: -1 / (1 + x) ** 2,
        (2, 4),
        domain=(-1, np.inf),
        edges=(0.0, -1.0),
    ),
    "sqrt": one(
        lambda x: HALF * x**-HALF, lambda x: -(x ** (-3 * HALF)) / 4, (2, 5), domain=POSITIVE
    ),
    "rsqrt": one(
        lambda x: -HALF * x ** (-3 * HALF),
        lambda x: 3 * x ** (-5 * HALF) / 4,
        (6, 12),
        domain=POSITIVE,
    ),
    "cbrt": one(
        lambda x: 1 / (3 * abs(x) ** (ONE * 2 / 3)), lambda x: -2 * third(x, -5) / 9, (3, 8)
    ),
    "sin": one(mp.cos, lambda x: -mp.sin(x), (2, 2)),
    "cos": one(lambda x: -mp.sin(x), lambda x: -mp.cos(x), (2, 2)),
    "tan": one(lambda x: mp.sec(x) ** 2, lambda x: 2 * mp.tan(x) * mp.sec(x) ** 2, (6, 9)),
    "asin": one(
        lambda x: 1 / mp.sqrt(1 - x * x),
        lambda x: x * (1 - x * x) ** (-3 * HALF),
        (3, 8),
        domain=INSIDE,
        edges=(0.0, 1.0),
    ),
    "acos": one(
        lambda x: -1 / mp.sqrt(1 - x * x),
        lambda x: -x * (1 - x * x) ** (-3 * HALF),
        (3, 8),
        domain=INSIDE,
        edges=(0.0, 1.0),
    ),
    "atan": one(lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2, (5, 9)),
    "sinh": one(mp.cosh, mp.sinh, (2, 3)),
    "cosh": one(mp.sinh, mp.cosh, (3, 2)),
    "tanh": one(sech2, lambda x: -2 * mp.tanh(x) * sech2(x), (4, 7)),
    "asinh": one(
        lambda x: 1 / mp.sqrt(1 + x * x), lambda x: -x * (1 + x * x) ** (-3 * HALF), (3, 8)
    ),
    "acosh": one(
        lambda x: 1 / mp.sqrt(x * x - 1),
        lambda x: -x * (x * x - 1) ** (-3 * HALF),
        (5, 12),
        domain=(1, np.inf),
        edges=(1.0,),
    ),
    "atanh": one(
        lambda x: 1 / (1 - x * x),
        lambda x: 2 * x / (1 - x * x) ** 2,
        (3, 6),
        domain=INSIDE,
        edges=(0.0, 1.0),
    ),
    "erf": one(bell, lambda x: -2 * x * bell(x), (3, 4)),
    "erfc": one(lambda x: -bell(x), lambda x: 2 * x * bell(x), (3, 4)),
    "lgamma": one(mp.digamma, lambda x: mpmath.polygamma(1, x), (3, 1), domain=POSITIVE),
    "digamma": one(
        lambda x: mpmath.polygamma(1, x), lambda x: mpmath.polygamma(2, x), (1, 1), domain=POSITIVE
    ),
    "sigmoid": one(density, bent, (4, 7)),
    "softplus": one(sigmoid, density, (3, 4)),
    "silu": of_terms(silu_terms, (7, 12)),
    "gelu": of_terms(
        gelu_terms, (9, 20), floor=3e5, lost=lambda x: 3 * min(x * x * (1 + x * x / 22), 800)
    ),
    "sinc": one(
        lambda x: sinc_slope(1, x),
        lambda x: sinc_slope(2, x),
        (5, 4),
        terms={(0,): lambda x: sinc_terms(1, x), (0, 0): lambda x: sinc_terms(2, x)},
    ),
    "ndtr": one(normal, lambda x: -x * normal(x), (3, 4)),
    "log_ndtr": one(mills, lambda x: -mills(x) * excess(x), (3, 5)),
    "erfinv": one(
        lambda y: mp.sqrt(mp.pi) / 2 * mp.exp(mp.erfinv(y) ** 2),
        lambda y: mp.pi / 2 * mp.erfinv(y) * mp.exp(2 * mp.erfinv(y) ** 2),
        (4, 6),
        domain=INSIDE,
        edges=(0.0, 1.0),
    ),
    "ndtri": one(
        lambda p: 1 / normal(quantile(p)),
        lambda p: quantile(p) / normal(quantile(p)) ** 2,
        (4, 6),
        domain=(0.0, 1.0),
        edges=(0.0, 1.0),
    ),
    "i0": one(lambda x: bessel(1, x), lambda x: (bessel(0, x) + bessel(2, x)) / 2, (3, 10)),
    "i1": one(
        lambda x: (bessel(0, x) + bessel(2, x)) / 2,
        lambda x: (3 * bessel(1, x) + bessel(3, x)) / 4,
        (10, 11),
    ),
    "i0e": one(
        lambda x: -mp.sign(x) * bessel_moment(1, x), lambda x: bessel_moment(2, x), (10, 11)
    ),
    "i1e": one(
        lambda x: bessel_moment(2, x) - bessel_moment(1, x),
        lambda x: mp.sign(x) * (bessel_moment(2, x) - bessel_moment(3, x)),
        (10, 11),
        terms={
            (0,): lambda x: bessel_moment(2, x) + bessel_moment(1, x),
            (0, 0): lambda x: bessel_moment(2, x) + bessel_moment(3, x),
        },
    ),
    "square": one(lambda x: 2 * x, lambda x: mp.mpf(2), (0.5, 0.5)),
    "reciprocal": one(lambda x: -1 / x**2, lambda x: 2 / x**3, (2, 4)),
}


def turned(a: Any, b: Any) -> Any:
    return a * a + b * b


def directions(order: int, a: Any, b: Any) -> tuple[Any, ...]:
    h = mp.hypot(a, b)
    return (a / h, b / h, 1 / h)


def power(a: Any, b: Any) -> Any:
    """a**b, far outside of every dtype limited to what is still fast to work out."""
    return mp.exp(max(min(b * mp.log(a), 10_000), -10_000))


def between(a: Any, b: Any) -> Any:
    """a - b, limited to where its exponential is still fast to work out."""
    return max(min(a - b, 10_000), -10_000)


BINARY: dict[str, Slopes] = {
    "divide": Slopes(
        {
            (0,): lambda a, b: 1 / b,
            (1,): lambda a, b: -a / b**2,
            (0, 1): lambda a, b: -1 / b**2,
            (1, 1): lambda a, b: 2 * a / b**3,
        },
        (2, 4),
        parts=lambda order, a, b: (a / b, 1 / b),
    ),
    "hypot": Slopes(
        {
            (0,): lambda a, b: a / mp.hypot(a, b),
            (1,): lambda a, b: b / mp.hypot(a, b),
            (0, 0): lambda a, b: b * b / mp.hypot(a, b) ** 3,
            (0, 1): lambda a, b: -a * b / mp.hypot(a, b) ** 3,
            (1, 1): lambda a, b: a * a / mp.hypot(a, b) ** 3,
        },
        (3, 10),
        parts=directions,
    ),
    "atan2": Slopes(
        {
            (0,): lambda a, b: b / turned(a, b),
            (1,): lambda a, b: -a / turned(a, b),
            (0, 0): lambda a, b: -2 * a * b / turned(a, b) ** 2,
            (0, 1): lambda a, b: (a * a - b * b) / turned(a, b) ** 2,
            (1, 1): lambda a, b: 2 * a * b / turned(a, b) ** 2,
        },
        (5, 14),
        terms={(0, 1): lambda a, b: 1 / turned(a, b)},
        parts=lambda order, a, b: (*directions(order, a, b), mp.hypot(a, b) ** -order),
    ),
    "logaddexp": Slopes(
        {
            (0,): lambda a, b: sigmoid(between(a, b)),
            (1,): lambda a, b: sigmoid(between(b, a)),
            (0, 0): lambda a, b: density(between(a, b)),
            (0, 1): lambda a, b: -density(between(a, b)),
            (1, 1): lambda a, b: density(between(a, b)),
        },
        (5, 8),
        parts=lambda order, a, b: (mp.exp(-abs(between(a, b))),),
    ),
    "pow": Slopes(
        {
            (0,): lambda a, b: b * power(a, b - 1),
            (1,): lambda a, b: power(a, b) * mp.log(a),
            (0, 0): lambda a, b: b * (b - 1) * power(a, b - 2),
            (0, 1): lambda a, b: power(a, b - 1) * (1 + b * mp.log(a)),
            (1, 1): lambda a, b: power(a, b) * mp.log(a) ** 2,
        },
        (4, 8),
        domain=POSITIVE,
        terms={(0, 1): lambda a, b: power(a, b - 1) * (1 + abs(b * mp.log(a)))},
        lost=lambda a, b: float((2 + abs(b)) * abs(mp.log(a))),
        floor=1e6,
        parts=lambda order, a, b: (power(a, b - order),),
    ),
}
ALL = {**UNARY, **BINARY}
