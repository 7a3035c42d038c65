"""Why a derivative may differ from the differences: the guess in an error of `check_grads`.

Every usual cause leaves a trace in a few more evaluations around the point. They are looked for in
an order in which none hides another: what makes differences worthless comes before what is wrong
with a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

import adjoint as ad

Flat = Callable[..., ad.Tensor]  # leaves in, one 1-D tensor out
Array = npt.NDArray[np.float64]

# Up to this many derivatives of an argument are compared entry by entry.
_MOST_PAIRS = 1 << 14
# Jacobians closer than this, relative to their size, are taken for the same.
_CLOSE = 1e-3


@dataclass(frozen=True)
class Suspect:
    """An entry of an argument whose derivative disagrees.

    `weights` are those of the outputs in the sum that was differentiated, `derivative` is what
    reverse (`reverse`) or forward mode gave for it, and `step` is what the entry was moved by.
    """

    flat: Flat
    leaves: list[ad.Tensor]
    leaf: int
    entry: int
    weights: Array
    reverse: bool
    step: float
    derivative: float
    allowed: float

    def outputs(self, entry: int, distance: float) -> Array:
        """Return all outputs with an entry of the argument moved."""
        args = moved(self.leaves, self.leaf, entry, distance)
        return np.asarray(self.flat(*args).numpy(), np.float64)

    def at(self, distance: float) -> float:
        """Return the sum with the entry moved."""
        return float(np.dot(self.weights, self.outputs(self.entry, distance)))

    @cached_property
    def values(self) -> Array:
        """The sum at evenly spaced places, up to a step to both sides."""
        return np.array([self.at(k * self.step / 16) for k in range(-16, 17)])

    @cached_property
    def noise(self) -> float:
        """The size of what rounding adds to the sum.

        It is in all third differences, where a kink is in two and a jump in three of them.
        """
        rough = np.sort(np.abs(np.diff(self.values, 3)))[:-6]
        least = float(np.finfo(np.float64).eps) * float(np.abs(self.values).max())
        return max(least, float(rough.mean()) / 3)

    @cached_property
    def jacobians(self) -> tuple[Array, Array] | None:
        """All derivatives in the argument, by the mode and by differences; None if too many."""
        m, n = self.weights.size, self.leaves[self.leaf].size
        if m * n > _MOST_PAIRS:
            return None
        by_rule = self._by_rows(m) if self.reverse else self._by_columns(n)
        h = self.step
        columns = [(self.outputs(j, h) - self.outputs(j, -h)) / (2 * h) for j in range(n)]
        return by_rule, np.stack(columns, axis=1)

    def _by_rows(self, m: int) -> Array:
        out, pullback = ad.vjp(self.flat, *self.leaves)
        rows = [pullback(like(np.eye(m)[i], out))[self.leaf].numpy().reshape(-1) for i in range(m)]
        return np.stack(rows).astype(np.float64)

    def _by_columns(self, n: int) -> Array:
        tangents = [ad.zeros_like(x) for x in self.leaves]
        columns = []
        for j in range(n):
            tangents[self.leaf] = like(np.eye(n)[j], self.leaves[self.leaf])
            columns.append(ad.jvp(self.flat, tuple(self.leaves), tuple(tangents))[1].numpy())
        return np.stack(columns, axis=1).astype(np.float64)


def guess(suspect: Suspect) -> str:
    """Say in a sentence what the cause may be."""
    for look in (
        _not_deterministic,
        _not_finite,
        _jump,
        _rounding,
        _kink,
        _cut_off,
        _factor,
        _transposed,
    ):
        cause = look(suspect)
        if cause:
            return cause
    return (
        "the function is smooth here, so the rule itself; no simple factor or transpose explains it"
    )


def _not_deterministic(s: Suspect) -> str | None:
    first, second = s.at(0.0), s.at(0.0)
    if first == second or (math.isnan(first) and math.isnan(second)):
        return None
    return (
        "the function is not deterministic: twice at the same point it gave "
        f"{first:.10g} and {second:.10g}"
    )


def _not_finite(s: Suspect) -> str | None:
    if not np.isfinite(s.values).all():
        where = "at the point" if not math.isfinite(float(s.values[16])) else "within eps of it"
        return f"the function is not finite {where}"
    if math.isfinite(s.derivative):
        return None
    return (
        "the function is finite, its rule is not: an infinity within meets another one or a 0; "
        "keep operands inside their domains, as by ad.where around the operand"
    )


def _jump(s: Suspect) -> str | None:
    """One difference of neighbours that stands out by far."""
    differences = np.diff(s.values)
    apart = np.sort(np.abs(differences - np.median(differences)))
    if apart[-1] < max(20 * apart[-2], s.allowed * s.step) or 4 * s.noise > apart[-1]:
        return None
    return f"a jump within eps of the point: the function changes by {apart[-1]:.3g} at once"


def _rounding(s: Suspect) -> str | None:
    error = 2 * s.noise / s.step
    slope = (s.values[-1] - s.values[0]) / (2 * s.step)
    if error < s.allowed / 4 or abs(s.derivative - slope) > 10 * error:
        return None
    narrow = s.leaves[s.leaf].dtype == ad.float32
    advice = "use float64" if narrow else "does it compute in float32 inside?"
    return (
        f"rounding: the values carry noise of about {s.noise:.1g}, differences over a step of "
        f"{s.step:.1g} make {error:.1g} of it; {advice}"
    )


def _kink(s: Suspect) -> str | None:
    """On a smooth function the one-sided differences approach each other as the step shrinks."""
    middle = s.at(0.0)
    gaps = []
    for part in (4, 2, 1):
        h = s.step / part
        above, below = (s.at(h) - middle) / h, (middle - s.at(-h)) / h
        gaps.append(part * (above - below))
    allowed = 0.3 * abs(gaps[-1]) + 32 * s.noise / s.step
    if abs(gaps[-1]) <= s.allowed or max(abs(g - gaps[-1]) for g in gaps) <= allowed:
        return None
    return (
        "a kink within eps of the point: the differences to the left and to the right are "
        f"{below:.10g} and {above:.10g}"
    )


def _cut_off(s: Suspect) -> str | None:
    if s.derivative != 0:
        return None
    if s.jacobians is not None and s.jacobians[0].any():
        return "nothing reaches this entry, though others are reached: an index or a mask?"
    return (
        "no derivative reaches the argument: stop_gradient, detach, item, numpy, no_grad, or a "
        "cast to integers on the way"
    )


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= _CLOSE * np.abs(b).max())


def _factor(s: Suspect) -> str | None:
    if s.jacobians is None:
        return None
    rule, numeric = s.jacobians
    square = float((numeric * numeric).sum())
    ratio = float((rule * numeric).sum()) / square if square else 0.0
    if ratio == 0 or not _same(rule, ratio * numeric) or _same(rule, numeric):
        return None
    if abs(ratio + 1) < _CLOSE:
        return "the sign is turned"
    m, n = s.weights.size, s.leaves[s.leaf].size
    for size, name in ((m, "the number of outputs"), (n, "the number of entries")):
        if size > 2 and abs(ratio - size) < _CLOSE * size:
            return f"too large by {name}, {size}: a sum in place of a mean?"
        if size > 2 and abs(ratio * size - 1) < _CLOSE:
            return f"too small by {name}, {size}: a mean in place of a sum?"
    return f"off by a constant factor of {ratio:.6g}"


def _transposed(s: Suspect) -> str | None:
    if s.jacobians is None:
        return None
    rule, numeric = s.jacobians
    if _same(rule, numeric.T):
        return "transposed: it maps as the transpose of the Jacobian does"
    shape = s.leaves[s.leaf].shape
    if len(shape) >= 2:
        parts = numeric.reshape(len(numeric), *shape).swapaxes(-1, -2)
        if _same(rule, parts.reshape(numeric.shape)):
            return "transposed: the last two axes of the argument are exchanged"
    if _same(np.sort(rule, axis=1), np.sort(numeric, axis=1)):
        return "the right numbers in another order: a permutation, or a wrong reshape"
    return None


def moved(leaves: Sequence[ad.Tensor], k: int, i: int, distance: float) -> list[ad.Tensor]:
    """Return the leaves with entry `i` of leaf `k` moved."""
    values = leaves[k].numpy().reshape(-1).copy()
    values[i] += distance
    return [*leaves[:k], like(values, leaves[k]), *leaves[k + 1 :]]


def like(values: npt.NDArray[Any], x: ad.Tensor) -> ad.Tensor:
    """Return values as a tensor of the shape and dtype of another."""
    return ad.reshape(ad.asarray(values, dtype=x.dtype), x.shape)
