"""The derivatives promised at special points: the table of the documentation, as data.

`f` maps an array of shape (..., n) elementwise, or reduces its last axis; the loss is the sum of
all it returns. `gradient` is its gradient at `x`, of shape (n,); `hessian` has shape (n, n), and
is None where order 2 is left undefined. All numbers are derived by hand from the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjoint as ad

INF = float("inf")


@dataclass(frozen=True)
class Point:
    case: str
    f: Callable[..., Any]
    x: list[float]
    gradient: list[float]
    hessian: list[list[float]] | None

    def __str__(self) -> str:
        return self.case


def _elementwise(
    case: str,
    f: Callable[..., Any],
    x: float,
    first: float,
    second: float | None,
) -> Point:
    return Point(case, f, [x], [first], None if second is None else [[second]])


def _last(reduction: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: reduction(x, axis=-1)


def norm(x: Any) -> Any:
    return ad.sqrt(ad.sum(ad.square(x), axis=-1))


def logsumexp(x: Any) -> Any:
    top = ad.max(x, axis=-1, keepdims=True)
    top = ad.stop_gradient(ad.where(ad.isfinite(top), top, 0.0))
    return ad.log(ad.sum(ad.exp(x - top), axis=-1)) + ad.squeeze(top, -1)


def softmax_entropy(x: Any) -> Any:
    """-sum p log p at p with zeros: each such term and its slope in x count 0."""
    e = ad.exp(x - ad.stop_gradient(ad.max(x, axis=-1, keepdims=True)))
    p = e / ad.sum(e, axis=-1, keepdims=True)
    return -ad.sum(ad.mul0(p, ad.log(p)), axis=-1)


def _pick(x: Any, *indices: int) -> Any:
    """The sum of squares of the entries named, which may repeat."""
    return ad.sum(ad.square(ad.take(x, ad.asarray(np.array(indices)), axis=-1)), axis=-1)


def zeros(n: int) -> list[list[float]]:
    return [[0.0] * n for _ in range(n)]


def diagonal(*entries: float) -> list[list[float]]:
    return [[v if i == j else 0.0 for j in range(len(entries))] for i, v in enumerate(entries)]


POINTS = [
    # A branch that is not taken contributes exactly 0.
    _elementwise(
        "where(x > 0, sqrt(x), 0) at 0", lambda x: ad.where(x > 0, ad.sqrt(x), 0.0), 0, 0, 0
    ),
    _elementwise("where(x > 0, log(x), x) at 0", lambda x: ad.where(x > 0, ad.log(x), x), 0, 1, 0),
    _elementwise(
        "where(x < 1, x**2, sqrt(x - 2)) at 0.5",
        lambda x: ad.where(x < 1, x**2, ad.sqrt(x - 2)),
        0.5,
        1,
        2,
    ),
    _elementwise(
        "where(x > 0, lgamma(x), x) at 0", lambda x: ad.where(x > 0, ad.lgamma(x), x), 0, 1, 0
    ),
    _elementwise(
        "where(x == 0, 1, sin(x) / x) at 0", lambda x: ad.where(x == 0, 1.0, ad.sin(x) / x), 0, 0, 0
    ),
    # Zero times infinity meets as 0, and never as a branch on the cotangent.
    _elementwise("(sqrt(x) - 1)**2 at 1", lambda x: (ad.sqrt(x) - 1) ** 2, 1, 0, 0.5),
    _elementwise("(log(x))**2 at 1", lambda x: ad.square(ad.log(x)), 1, 0, 2),
    _elementwise("sqrt(x**2) at 0", lambda x: ad.sqrt(x**2), 0, 0, None),
    _elementwise("sqrt(square(x)) at 0", lambda x: ad.sqrt(ad.square(x)), 0, 0, None),
    _elementwise("0 * sqrt(x) at 0", lambda x: 0 * ad.sqrt(x), 0, 0, 0),
    _elementwise("0 * log(x) at 0", lambda x: ad.mul0(ad.zeros_like(x), ad.log(x)), 0, 0, 0),
    # Kinks.
    _elementwise("abs at 0", ad.abs, 0, 0, 0),
    _elementwise("abs(x) * x at 0", lambda x: ad.abs(x) * x, 0, 0, 0),
    _elementwise("sign at 0", ad.sign, 0, 0, 0),
    _elementwise("sign at 2", ad.sign, 2, 0, 0),
    _elementwise("relu from where at 0", lambda x: ad.where(x > 0, x, 0.0), 0, 0, 0),
    _elementwise("relu from maximum at 0 is a tie", lambda x: ad.maximum(x, 0.0), 0, 0.5, 0),
    _elementwise("maximum(x, x)", lambda x: ad.maximum(x, x), 3, 1, 0),
    _elementwise("minimum(x, 2x) at 0", lambda x: ad.minimum(x, 2 * x), 0, 1.5, 0),
    _elementwise("maximum(x**2, x) at 1", lambda x: ad.maximum(x**2, x), 1, 1.5, 1),
    _elementwise("maximum with a larger nan-free side", lambda x: ad.maximum(x, 5.0), 3, 0, 0),
    _elementwise("clip at its lower edge", lambda x: ad.clip(x, -1.0, 1.0), -1, 1, 0),
    _elementwise("clip at its upper edge", lambda x: ad.clip(x**2, -1.0, 1.0), 1, 2, 2),
    _elementwise("clip outside", lambda x: ad.clip(x**2, -1.0, 1.0), 2, 0, 0),
    _elementwise(
        "floor, ceil, trunc, round",
        lambda x: ad.floor(x) + ad.ceil(x) + ad.trunc(x) + ad.round(x),
        1.5,
        0,
        0,
    ),
    _elementwise("remainder inside a period", lambda x: ad.remainder(x, 2.0) ** 2, 2.5, 1, 2),
    _elementwise("comparison as a number", lambda x: x * ad.astype(x > 0, ad.float64), 0, 0, 0),
    # Powers.
    _elementwise("x**0 at 0", lambda x: x**0, 0, 0, 0),
    _elementwise("x**0.0 at 0", lambda x: ad.pow(x, 0.0), 0, 0, 0),
    _elementwise("x**1 at 0", lambda x: x**1, 0, 1, 0),
    _elementwise("x**2 at 0", lambda x: x**2, 0, 0, 2),
    _elementwise("x**3 at 0", lambda x: x**3, 0, 0, 0),
    _elementwise("x**3 at -2", lambda x: x**3, -2, 12, -12),
    _elementwise("0**y at 2", lambda y: ad.pow(ad.zeros_like(y), y), 2, 0, 0),
    _elementwise("0**y at 0.5", lambda y: ad.pow(0.0, y), 0.5, 0, 0),
    _elementwise("1**y", lambda y: ad.pow(1.0, y), 2, 0, 0),
    _elementwise("x * x at 0", lambda x: x * x, 0, 0, 2),
    # Norms.
    Point("norm at 0", norm, [0, 0, 0], [0, 0, 0], None),
    Point("norm squared at 0", lambda x: norm(x) ** 2, [0, 0], [0, 0], None),
    Point("norm at (3, 4)", norm, [3, 4], [0.6, 0.8], [[0.128, -0.096], [-0.096, 0.072]]),
    _elementwise("hypot(x, x) at 0", lambda x: ad.hypot(x, x), 0, 0, None),
    _elementwise("hypot(x, 0) at 2", lambda x: ad.hypot(x, 0.0), 2, 1, 0),
    Point("std of a constant", _last(ad.std), [2, 2, 2], [0, 0, 0], None),
    Point("var of a constant", _last(ad.var), [2, 2], [0, 0], [[0.5, -0.5], [-0.5, 0.5]]),
    # Ties share, and the shares sum to one.
    Point("max of ties", _last(ad.max), [1, 3, 3, 2], [0, 0.5, 0.5, 0], zeros(4)),
    Point("min of three ties", _last(ad.min), [1, 1, 1], [1 / 3] * 3, zeros(3)),
    Point(
        "max squared of ties", lambda x: ad.max(x, axis=-1) ** 2, [2, 2], [2, 2], [[0.5] * 2] * 2
    ),
    Point("max of -inf", _last(ad.max), [-INF, -INF], [0.5, 0.5], None),
    # Log-sum-exp, its maximum a constant.
    Point("logsumexp of all -inf", logsumexp, [-INF, -INF, -INF], [0, 0, 0], None),
    Point("logsumexp with one -inf", logsumexp, [0, -INF], [1, 0], zeros(2)),
    Point(
        "logsumexp of ties",
        logsumexp,
        [1, 1],
        [0.5, 0.5],
        [[0.25, -0.25], [-0.25, 0.25]],
    ),
    Point("logsumexp of large values", logsumexp, [1000, 0], [1, 0], zeros(2)),
    Point("entropy with an impossible event", softmax_entropy, [0, -INF], [0, 0], None),
    # Repeated indices accumulate.
    Point("repeated indices", lambda x: _pick(x, 1, 1, 0, 1), [2, 3], [4, 18], diagonal(2, 6)),
    Point(
        "repeated reads",
        lambda x: x[..., 0] * x[..., 0] + x[..., 0] * x[..., 1],
        [2, 3],
        [7, 2],
        [[2, 1], [1, 0]],
    ),
    # No connection is zeros.
    Point("an unused entry", lambda x: x[..., 1] ** 2, [2, 3], [0, 6], diagonal(0, 2)),
    _elementwise("a constant", lambda x: ad.ones_like(x), 2, 0, 0),
    _elementwise("stop_gradient", lambda x: ad.stop_gradient(x) * x, 3, 3, 0),
    # Products: of the others, exactly.
    Point(
        "prod with one zero",
        _last(ad.prod),
        [0, 2, 3],
        [6, 0, 0],
        [[0, 3, 2], [3, 0, 0], [2, 0, 0]],
    ),
    Point(
        "prod with two zeros",
        _last(ad.prod),
        [0, 0, 3],
        [0, 0, 0],
        [[0, 3, 0], [3, 0, 0], [0, 0, 0]],
    ),
    Point("prod with three zeros", _last(ad.prod), [0, 0, 0], [0, 0, 0], zeros(3)),
]
