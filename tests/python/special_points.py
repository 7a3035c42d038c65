"""The derivatives promised at special points: the table of the documentation, as data.

Every row is one expression in `x`, of shape (..., n): elementwise, or reducing the last axis; the
loss is the sum of all it gives. It is read by Python and, unless `python_only`, by C++: function
calls, operators and floating literals mean the same in both. Names that end in `_of` work on the
last axis. `gradient` is that of the loss at `x`, of shape (n,); `hessian` has shape (n, n), and is
None where order 2 is left open. All numbers are derived by hand from the promise, and `why` says
how.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import adjoint as ad

INF, NAN = float("inf"), float("nan")
TAIL = float(4e50 * np.exp(-120.0))  # 1e50 tanh'(60)
PEERS = Path(__file__).with_name("peer_special_points.json")

Vector = list[float]
Matrix = list[list[float]]


@dataclass(frozen=True)
class Point:
    expression: str
    x: Vector
    gradient: Vector
    hessian: Matrix | None
    why: str
    python_only: bool = False

    def __str__(self) -> str:
        return f"{self.shown} at {', '.join(f'{v:g}' for v in self.x)}"

    @property
    def shown(self) -> str:
        """The expression as the documentation has it."""
        return self.expression.replace("_of(", "(")

    @property
    def f(self) -> Callable[[Any], Any]:
        return self.read(NAMES)

    def read(self, names: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The expression as a function, its names taken from some library."""
        code = compile(self.expression, self.expression, "eval")
        return lambda x: eval(code, {**names, "x": x})


# ---- the names of the expressions ---------------------------------------------------------------


def _last(reduction: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: reduction(x, axis=-1)


def norm_of(x: Any) -> Any:
    return ad.sqrt(ad.sum(ad.square(x), axis=-1))


def logsumexp_of(x: Any) -> Any:
    top = ad.max(x, axis=-1, keepdims=True)
    top = ad.stop_gradient(ad.where(ad.isfinite(top), top, 0.0))
    return ad.log(ad.sum(ad.exp(x - top), axis=-1)) + ad.squeeze(top, -1)


def softmax_of(x: Any) -> Any:
    e = ad.exp(x - ad.stop_gradient(ad.max(x, axis=-1, keepdims=True)))
    return e / ad.sum(e, axis=-1, keepdims=True)


def entropy_of(x: Any) -> Any:
    p = softmax_of(x)
    return -ad.sum(ad.mul0(p, ad.log(p)), axis=-1)


def pick_of(x: Any, *indices: int) -> Any:
    return ad.take(x, ad.asarray(np.array(indices)), axis=-1)


NAMES: dict[str, Any] = {
    **{name: getattr(ad, name) for name in ad._core.__dict__ if not name.startswith("_")},
    **{f"{name}_of": _last(getattr(ad, name)) for name in "sum prod max min mean std var".split()},
    "sort_of": lambda x: ad.sort(x, axis=-1),
    "norm_of": norm_of,
    "logsumexp_of": logsumexp_of,
    "softmax_of": softmax_of,
    "entropy_of": entropy_of,
    "pick_of": pick_of,
    "entry_of": lambda x, i: x[..., i],
    "number": lambda condition: ad.astype(condition, ad.float32),
    "whole": lambda x: ad.astype(ad.astype(x, ad.int64), ad.float32),
    "inf": INF,
    "nan": NAN,
}


# ---- the table ----------------------------------------------------------------------------------


def zeros(n: int) -> Matrix:
    return [[0.0] * n for _ in range(n)]


def diagonal(*entries: float) -> Matrix:
    return [[v if i == j else 0.0 for j in range(len(entries))] for i, v in enumerate(entries)]


def _one(
    expression: str, x: float, first: float, second: float | None, why: str, **more: bool
) -> Point:
    return Point(expression, [x], [first], None if second is None else [[second]], why, **more)


# title -> rows
TABLE: dict[str, list[Point]] = {
    "The branch not taken contributes exactly 0": [
        _one("where(greater(x, 0.0), sqrt(x), 0.0)", 0, 0, 0, "0 is taken, √'s slope ∞ is not"),
        _one("where(greater(x, 0.0), log(x), x)", 0, 1, 0, "x is taken"),
        _one("where(less(x, 1.0), x * x, sqrt(x - 2.0))", 0.5, 1, 2, "x² is taken, √ of -1.5 not"),
        _one("where(greater(x, 0.0), lgamma(x), x)", 0, 1, 0, "x is taken at the pole"),
        _one("where(greater(x, 0.0), lgamma(x), x)", -1, 1, 0, "x is taken at another pole"),
        _one("where(equal(x, 0.0), 1.0, sin(x) / x)", 0, 0, 0, "1 is taken, a constant"),
        _one("where(greater(x, 0.0), x * log(x), 0.0)", 0, 0, 0, "0 is taken, a constant"),
        _one("where(less(x, 1.0), x, atanh(x))", 0.5, 1, 0, "x is taken"),
        _one("where(less(x, 1.0), acosh(x), 2.0 * x)", 1, 2, 0, "2x is taken; acosh has slope ∞"),
        _one("where(isnan(x), 0.0, x * x)", NAN, 0, 0, "0 is taken; 2x is nan"),
        _one("where(isfinite(x), x - x, 0.0)", INF, 0, 0, "0 is taken; ∞ - ∞ is nan"),
        _one("where(greater(x, 0.0), pow(x, -2.0), x * x)", 0, 0, 2, "x² is taken"),
    ],
    "Zero times infinity is 0 inside a rule, never a test of the cotangent": [
        _one("square(sqrt(x) - 1.0)", 1, 0, 0.5, "(√x - 1)² = x - 2√x + 1"),
        _one("square(log(x))", 1, 0, 2, "2 log x / x; its slope is 2 at 1"),
        _one("sqrt(square(x))", 0, 0, None, "the cotangent of x² is ∞, its partial 0"),
        _one("sqrt(x * x)", 0, 0, None, "as √(x²)"),
        _one("0.0 * sqrt(x)", 0, 0, 0, "cotangent 0 meets ∞"),
        _one("0.0 * log(x)", 0, 0, 0, "cotangent 0 meets ∞"),
        _one("0.0 * reciprocal(x)", 0, 0, 0, "cotangent 0 meets -∞"),
        _one("0.0 * pow(x, 0.5)", 0, 0, 0, "cotangent 0 meets ∞"),
        _one("0.0 * acos(x)", 1, 0, 0, "cotangent 0 meets -∞"),
        _one("mul0(0.0, log(x))", 0, 0, 0, "0 times anything is 0"),
    ],
    "Kinks": [
        _one("abs(x)", 0, 0, 0, "between -1 and 1"),
        _one("abs(x) * x", 0, 0, 0, "the slope 2|x| has a kink of its own"),
        _one("sign(x)", 0, 0, 0, "flat to both sides"),
        _one("sign(x)", 2, 0, 0, "flat"),
        _one("where(greater(x, 0.0), x, 0.0)", 0, 0, 0, "0 is taken: this is relu"),
        _one("maximum(x, 0.0)", 0, 0.5, 0, "a tie is shared"),
        _one("maximum(x, -x)", 0, 0, 0, "a tie: (1 - 1) / 2"),
        _one("sqrt(abs(x))", 0, 0, None, "∞ of √ meets 0 of |x|"),
        _one("remainder(x, 2.0)", 2, 1, 0, "x - 2⌊x/2⌋: the floor is flat"),
        _one("square(remainder(x, 2.0))", 2.5, 1, 2, "(x - 2)²"),
        _one("remainder(5.0, x)", 2.5, -2, 0, "5 - x⌊5/x⌋: the floor is 2"),
    ],
    "Steps": [
        _one("floor(x) + ceil(x) + trunc(x) + round(x)", 1.5, 0, 0, "flat; round jumps here"),
        _one("floor(x) + ceil(x) + trunc(x) + round(x)", 2, 0, 0, "flat beside the jumps"),
        _one("x * floor(x)", 2, 2, 0, "the floor is a constant"),
        _one("floor_divide(x, 2.0)", 2.5, 0, 0, "flat"),
        _one("x * number(greater(x, 0.0))", 0, 0, 0, "a comparison is a constant, here 0"),
        _one("x * whole(x)", 2.5, 2, 0, "an integer is a constant, here 2"),
    ],
    "Ties share, the weights sum to 1": [
        _one("maximum(x, x)", 3, 1, 0, "½ + ½"),
        _one("minimum(x, 2.0 * x)", 0, 1.5, 0, "½·1 + ½·2"),
        _one("maximum(square(x), x)", 1, 1.5, 1, "½·2x + ½·1"),
        _one("maximum(x, 5.0)", 3, 0, 0, "no tie: 5 is larger"),
        _one("minimum(x, inf)", 3, 1, 0, "no tie: x is smaller"),
        Point("max_of(x)", [1, 3, 3, 2], [0, 0.5, 0.5, 0], zeros(4), "two of four share"),
        Point("min_of(x)", [1, 1, 1], [1 / 3] * 3, zeros(3), "three share"),
        Point("square(max_of(x))", [2, 2], [2, 2], [[0.5, 0.5]] * 2, "2 max · ½; slope 2 · ½ · ½"),
        Point("max_of(x)", [-INF, -INF], [0.5, 0.5], None, "-∞ ties with itself"),
        Point("max_of(x)", [INF, 1], [1, 0], zeros(2), "no tie"),
        Point("entry_of(sort_of(x), 0)", [2, 2], [1, 0], zeros(2), "equal ones keep their order"),
        Point("entry_of(sort_of(x), 1)", [3, 1, 3], [1, 0, 0], zeros(3), "the first 3 comes first"),
    ],
    "clip counts its edges as inside": [
        _one("clip(x, -1.0, 1.0)", -1, 1, 0, "inside"),
        _one("clip(square(x), -1.0, 1.0)", 1, 2, 2, "x² inside"),
        _one("clip(square(x), -1.0, 1.0)", 2, 0, 0, "outside: the limit is a constant"),
        _one("clip(x, 0.0, 0.0)", 0, 1, 0, "inside, at both edges"),
        _one("clip(0.5, x, 1.0)", 0.5, 0, 0, "the edge belongs to the 0.5"),
        _one("clip(0.5, x, 1.0)", 0.75, 1, 0, "the limit is what is returned"),
        _one("clip(x, 2.0, 1.0)", 0, 0, 0, "the limits cross: the upper one is returned"),
        _one("clip(0.0, x, 1.0)", 2, 0, 0, "the limits cross: the upper one is returned"),
        _one("clip(0.0, 2.0, x)", 1, 1, 0, "the limits cross: the upper one is returned"),
    ],
    "Powers": [
        _one("pow(x, 0.0)", 0, 0, 0, "x⁰ is 1 everywhere"),
        _one("pow(x, 1.0)", 0, 1, 0, "the identity"),
        _one("pow(x, 2.0)", 0, 0, 2, "2x; 2"),
        _one("pow(x, 3.0)", 0, 0, 0, "3x²; 6x"),
        _one("pow(x, 3.0)", -2, 12, -12, "3x²; 6x"),
        _one("pow(x, -1.0)", -2, -0.25, -0.25, "-x⁻²; 2x⁻³"),
        _one("pow(x, -2.0)", -2, 0.25, 0.375, "-2x⁻³; 6x⁻⁴"),
        _one("pow(x, 1.5)", 0, 0, INF, "1.5√x; its slope is ∞"),
        _one("pow(0.0, x)", 2, 0, 0, "0 for every positive exponent"),
        _one("pow(0.0, x)", 0.5, 0, 0, "0 for every positive exponent"),
        _one("pow(1.0, x)", 2, 0, 0, "log 1 = 0"),
        _one("x**0", 0, 0, 0, "1 everywhere", python_only=True),
        _one("x**2", 0, 0, 2, "2x; 2", python_only=True),
        _one("x**3", -2, 12, -12, "3x²; 6x", python_only=True),
        _one("x * x", 0, 0, 2, "2x; 2"),
        _one("mul0(x, log(x))", 1, 1, 1, "1 + log x; 1/x"),
    ],
    "Products are of the others, exactly": [
        Point("prod_of(x)", [0, 2, 3], [6, 0, 0], [[0, 3, 2], [3, 0, 0], [2, 0, 0]], "yz, xz, xy"),
        Point("prod_of(x)", [0, 0, 3], [0, 0, 0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]], "yz, xz, xy"),
        Point("prod_of(x)", [0, 0, 0], [0, 0, 0], zeros(3), "yz, xz, xy"),
        Point("prod_of(x)", [1e-200, 1e200], [1e200, 1e-200], [[0, 1], [1, 0]], "no quotient"),
    ],
    "Norms are flat at 0": [
        Point("norm_of(x)", [0, 0, 0], [0, 0, 0], None, "the mean over all directions"),
        Point("square(norm_of(x))", [0, 0], [0, 0], None, "2‖x‖ times that"),
        Point(
            "norm_of(x)",
            [3, 4],
            [0.6, 0.8],
            [[0.128, -0.096], [-0.096, 0.072]],
            "x/‖x‖; (I - xxᵀ/‖x‖²)/‖x‖",
        ),
        _one("hypot(x, x)", 0, 0, None, "a norm at 0"),
        _one("hypot(x, 0.0)", 0, 0, None, "a norm at 0"),
        _one("hypot(x, 0.0)", 2, 1, 0, "|x|"),
        _one("hypot(x, x)", 1e200, 2**0.5, None, "√2 |x|, though the squares overflow"),
        Point("std_of(x)", [2, 2, 2], [0, 0, 0], None, "a norm at 0"),
        Point("std_of(x)", [1e-162, -1e-162], [0.5, -0.5], None, "½|a - b|, whose square vanishes"),
        Point("std_of(x)", [1e200, -1e200], [0.5, -0.5], None, "½|a - b|, whose square overflows"),
        Point("var_of(x)", [2, 2], [0, 0], [[0.5, -0.5], [-0.5, 0.5]], "(a - b)²/4"),
    ],
    "Log-sum-exp and softmax, their maximum a constant": [
        Point("logsumexp_of(x)", [-INF, -INF, -INF], [0, 0, 0], None, "no term contributes"),
        Point("logsumexp_of(x)", [0, -INF], [1, 0], zeros(2), "softmax: (1, 0)"),
        Point("logsumexp_of(x)", [1, 1], [0.5, 0.5], [[0.25, -0.25], [-0.25, 0.25]], "p; p(1 - p)"),
        Point("logsumexp_of(x)", [1000, 0], [1, 0], zeros(2), "softmax: (1, 0); no overflow"),
        Point("entry_of(softmax_of(x), 0)", [2, 2], [0.25, -0.25], zeros(2), "σ(a - b) at 0"),
        Point("entry_of(softmax_of(x), 0)", [0, -INF], [0, 0], zeros(2), "p(1 - p) at p = 1"),
        Point("entry_of(softmax_of(x), 0)", [800, -800], [0, 0], zeros(2), "p(1 - p) at p = 1"),
        Point("entropy_of(x)", [0, -INF], [0, 0], None, "0 log 0 counts 0, so does its slope"),
        Point("entropy_of(x)", [1, 1], [0, 0], [[-0.25, 0.25], [0.25, -0.25]], "its maximum"),
    ],
    "Far out, where a naive formula overflows": [
        _one("sigmoid(x)", 800, 0, 0, "σ(1 - σ) at σ = 1"),
        _one("sigmoid(x)", -800, 0, 0, "σ(1 - σ) at σ = 0"),
        _one("softplus(x)", 800, 1, 0, "σ"),
        _one("softplus(x)", -800, 0, 0, "σ"),
        _one("-softplus(-x)", -800, 1, 0, "log σ(x) is x here"),
        _one("-softplus(-x)", 800, 0, 0, "log σ(x) is 0 here"),
        _one("tanh(x)", 800, 0, 0, "1 - tanh²"),
        _one("tanh(x)", -800, 0, 0, "1 - tanh²"),
        _one("silu(x)", 800, 1, 0, "x here"),
        _one("silu(x)", -800, 0, 0, "0 here"),
        _one("gelu(x)", 800, 1, 0, "x here"),
        _one("gelu(x)", -800, 0, 0, "0 here"),
        _one("erf(x)", 30, 0, 0, "2/√π exp(-x²)"),
        _one("erfc(x)", -30, 0, 0, "-2/√π exp(-x²)"),
        _one("exp(x)", -INF, 0, 0, "exp itself"),
        _one("tanh(x)", INF, 0, 0, "1 - tanh²"),
        _one("sigmoid(x)", -INF, 0, 0, "σ(1 - σ)"),
        _one("atan(x)", INF, 0, 0, "1/(1 + x²)"),
        _one("reciprocal(x)", INF, 0, 0, "-1/x²"),
        _one("log(x)", INF, 0, 0, "1/x"),
        _one("expm1(x)", 0, 1, 1, "exp"),
        _one("log1p(x)", 0, 1, -1, "1/(1 + x)"),
        _one("1e50 * tanh(x)", 60, TAIL, -2 * TAIL, "4 exp(-2x); a tail is not 1 - 1²"),
        _one("1e200 * asinh(x)", 1e200, 1, 0, "1/√(1 + x²) is 1/x here, though x² overflows"),
        _one("1e200 * acosh(x)", 1e200, 1, 0, "1/√(x² - 1) is 1/x here, though x² overflows"),
        _one("1e300 * atan(x)", 1e100, 1e100, -2, "1/(1 + x²) is 1/x² here; its slope -2/x³"),
        _one("1e12 * asin(x)", 1e-12, 1e12, 1, "1/√(1 - x²); its slope is x here"),
        _one("1e12 * atanh(x)", 1e-12, 1e12, 2, "1/(1 - x²); its slope is 2x here"),
        _one("1e12 * tanh(x)", 1e-12, 1e12, -2, "1 - tanh²; its slope is -2x here"),
    ],
    "Where the slope is infinite it is, with its sign": [
        _one("sqrt(x)", 0, INF, None, "½ x^-½ from the right"),
        _one("log(x)", 0, INF, None, "1/x from the right"),
        _one("log2(x) + log10(x)", 0, INF, None, "1/x from the right"),
        _one("log1p(x)", -1, INF, None, "1/(1 + x) from the right"),
        _one("reciprocal(x)", 0, -INF, None, "-1/x²"),
        _one("rsqrt(x)", 0, -INF, None, "-½ x^-3/2 from the right"),
        _one("cbrt(x)", 0, INF, None, "⅓ x^-⅔"),
        _one("pow(x, 0.5)", 0, INF, None, "½ x^-½ from the right"),
        _one("asin(x)", 1, INF, None, "1/√(1 - x²) from the left"),
        _one("acos(x)", 1, -INF, None, "-1/√(1 - x²) from the left"),
        _one("acosh(x)", 1, INF, None, "1/√(x² - 1) from the right"),
        _one("atanh(x)", 1, INF, None, "1/(1 - x²) from the left"),
        _one("mul0(x, log(x))", 0, -INF, None, "1 + log x from the right"),
    ],
    "Angles": [
        _one("atan2(x, 1.0)", 0, 1, 0, "1/(1 + x²); its slope is 0"),
        _one("atan2(x, -1.0)", 0, -1, 0, "on the cut, as beside it: -1/(1 + x²)"),
        _one("atan2(0.0, x)", -1, 0, 0, "along the cut the angle is π"),
        _one("atan2(x, 0.0)", 2, 0, 0, "along the axis the angle is π/2"),
        _one("atan2(x, x)", 0, 0, None, "no direction is special: as for norms"),
        _one("atan2(x, 1e-200)", 1e-200, 5e199, None, "y/(x² + y²), though the squares vanish"),
    ],
    "Repeated entries accumulate, others get 0": [
        Point("square(pick_of(x, 1, 1, 0, 1))", [2, 3], [4, 18], diagonal(2, 6), "1·2x, 3·2y"),
        Point(
            "entry_of(x, 0) * entry_of(x, 0) + entry_of(x, 0) * entry_of(x, 1)",
            [2, 3],
            [7, 2],
            [[2, 1], [1, 0]],
            "2x + y, x",
        ),
        Point(
            "x[..., [0, 0, 1]] * x[..., [1, 1, 1]]",
            [2, 3],
            [6, 10],
            [[0, 2], [2, 2]],
            "2xy + y²",
            python_only=True,
        ),
        Point("square(entry_of(x, 1))", [2, 3], [0, 6], diagonal(0, 2), "x is not used"),
        _one("ones_like(x)", 2, 0, 0, "a constant", python_only=True),
        _one("stop_gradient(x) * x", 3, 3, 0, "the first factor is a constant"),
    ],
}
POINTS = [point for rows in TABLE.values() for point in rows]


def peers() -> dict[str, Any]:
    """What other libraries give, as `peer_special_points.py` recorded it."""
    found: dict[str, Any] = json.loads(PEERS.read_text(encoding="utf-8"))
    return found
