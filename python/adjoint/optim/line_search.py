"""The search along a line: a step that meets the strong Wolfe conditions.

One rule, `advance`, takes the value and the slope at the step that was asked for and says which
step to try next, or that this one is good. It is written without branches and with the functions of
a namespace, so that the same lines run on Python floats (`FLOATS`) and on tensors, also in a
compiled loop. It brackets and interpolates as in [1]_; where rounding hides the change of the value
it goes by slopes alone, as in [2]_, which is what lets it work in float32 and near a minimum.

References
----------
.. [1] J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithms 3.5 and 3.6.
.. [2] W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an
   efficient line search", SIAM J. Optim. 16 (2005) 170-192.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from adjoint.optim.objective import Array, Objective

__all__ = ["FLOATS", "Line", "Wolfe", "advance", "begin", "search_line"]

MOST_TRIALS = 20
EXPAND_LEAST, EXPAND_MOST = 2.0, 10.0  # how far to look while no bracket is known
INSIDE_UNKNOWN = 0.25  # where to look in a bracket of which one end has no finite value
SHRINK = 0.66  # a bracket that shrinks by less in two trials is halved


class Wolfe(NamedTuple):
    """What makes a step good enough.

    Examples
    --------
    >>> from adjoint.optim.line_search import Wolfe
    >>> Wolfe(curvature=0.1)
    Wolfe(decrease=0.0001, curvature=0.1, rounding=1e-14)
    """

    decrease: float = 1e-4  # of the value, as a share of what the slope promises
    curvature: float = 0.9  # of the slope: at most this share of the first one
    rounding: float = 1e-14  # relative; values closer than that are not told apart


class Line(NamedTuple):
    """One search: the value and slope at 0, the ends of the interval, and the step to try.

    Examples
    --------
    >>> from adjoint.optim.line_search import begin
    >>> line = begin(f0=9.0, slope0=-36.0, step=1.0)
    >>> line.step, line.good
    (1.0, 0)
    """

    f0: Any
    slope0: Any
    low: Any  # the lowest point that decreases the value enough, 0 to begin with
    f_low: Any
    slope_low: Any
    high: Any  # the other end; inf while there is none
    f_high: Any
    slope_high: Any
    width: Any  # of the interval before, and the one before that
    width_before: Any
    step: Any  # to try next
    trials: Any
    good: Any  # 1 where `step` has been found good, -1 where the search gave up, else 0


class _Floats:
    """The functions of a namespace that `advance` uses, for Python floats."""

    inf = math.inf

    @staticmethod
    def where(condition: bool, a: Any, b: Any) -> Any:
        return a if condition else b

    @staticmethod
    def sqrt(x: float) -> float:
        return math.sqrt(x) if x >= 0 else math.nan

    @staticmethod
    def divide(a: float, b: float) -> float:
        return a / b if b else math.nan

    abs = abs
    isfinite = math.isfinite
    minimum = min
    maximum = max


FLOATS = _Floats()


def begin(f0: Any, slope0: Any, step: Any, infinity: Any = math.inf) -> Line:
    """Return the search along a line with this value and slope at 0 that tries `step` first.

    Examples
    --------
    >>> from adjoint.optim.line_search import begin
    >>> begin(f0=9.0, slope0=-36.0, step=0.25).step
    0.25
    """
    zero = 0.0 * step
    return Line(
        f0=f0,
        slope0=slope0,
        low=zero,
        f_low=f0,
        slope_low=slope0,
        high=infinity,
        f_high=infinity,
        slope_high=infinity,
        width=infinity,
        width_before=infinity,
        step=step,
        trials=zero,
        good=0,
    )


def advance(line: Line, f: Any, slope: Any, rule: Wolfe, xp: Any = FLOATS) -> Line:
    """Return the search after the value and slope at ``line.step`` have been found.

    A value that is not finite counts as too high. Where the search gives up, `step` is the best one
    known, and 0 if there is none.

    Examples
    --------
    Along ``(3 - 6 t)**2``, whose minimum is at 0.5:

    >>> from adjoint.optim.line_search import Wolfe, advance, begin
    >>> line = begin(f0=9.0, slope0=-36.0, step=1.0)
    >>> while line.good == 0:
    ...     t = line.step
    ...     line = advance(line, (3 - 6 * t) ** 2, -12 * (3 - 6 * t), Wolfe(curvature=0.1))
    >>> line.step
    0.5
    """
    step, slope0 = line.step, line.slope0
    finite = xp.isfinite(f) & xp.isfinite(slope)
    close = finite & (xp.abs(f - line.f0) <= rule.rounding * xp.abs(line.f0))
    enough = f <= line.f0 + rule.decrease * step * slope0
    enough = finite & (enough | (close & (slope <= (2 * rule.decrease - 1) * slope0)))
    good = enough & (xp.abs(slope) <= -rule.curvature * slope0)

    # The interval: the trial replaces one end, or both ends change their places.
    lower = enough & ((f < line.f_low) | close)
    turned = lower & (slope * (line.high - line.low) >= 0)
    low, f_low, slope_low = (
        xp.where(lower, new, old)
        for new, old in ((step, line.low), (f, line.f_low), (slope, line.slope_low))
    )
    high, f_high, slope_high = (
        xp.where(turned, old_low, xp.where(lower, old, new))
        for new, old_low, old in (
            (step, line.low, line.high),
            (f, line.f_low, line.f_high),
            (slope, line.slope_low, line.slope_high),
        )
    )
    width = xp.abs(high - low)
    inside = _between(low, f_low, slope_low, high, f_high, slope_high, close, xp)
    halve = width > SHRINK * line.width_before
    middle = low + 0.5 * (high - low)
    inside = xp.where(halve, middle, inside)
    known = xp.isfinite(f_high) & xp.isfinite(slope_high)
    inside = xp.where(known, inside, low + INSIDE_UNKNOWN * (high - low))

    outside = _beyond(line, step, f, slope, xp)
    bracketed = xp.isfinite(width)
    chosen = xp.where(bracketed, inside, outside)
    trials = line.trials + 1.0
    # Where rounding hides all that the interval could still bring, nothing more is to be found.
    narrow = width <= 1e-14 * xp.maximum(low, high)
    narrow = narrow | (width * xp.abs(slope0) <= 0.1 * rule.rounding * xp.abs(line.f0))
    worn = (trials >= MOST_TRIALS) | (bracketed & narrow)
    return Line(
        line.f0,
        slope0,
        low,
        f_low,
        slope_low,
        high,
        f_high,
        slope_high,
        xp.where(bracketed, width, line.width),
        line.width,
        xp.where(good, step, xp.where(worn, low, chosen)),
        trials,
        xp.where(good, 1, xp.where(worn, -1, 0)),
    )


def _between(a: Any, fa: Any, sa: Any, b: Any, fb: Any, sb: Any, close: Any, xp: Any) -> Any:
    """Return where the cubic through both ends is lowest, or by slopes alone where values fail."""
    cubic = _cubic(a, fa, sa, b, fb, sb, xp)
    secant = a - sa * xp.divide(b - a, sb - sa)
    found = xp.where(close | (xp.isfinite(cubic) ^ True), secant, cubic)
    within = (found > xp.minimum(a, b)) & (found < xp.maximum(a, b))
    return xp.where(within, found, a + 0.5 * (b - a))


def _beyond(line: Line, step: Any, f: Any, slope: Any, xp: Any) -> Any:
    """Return a step beyond the last one, where the value still falls."""
    cubic = _cubic(line.low, line.f_low, line.slope_low, step, f, slope, xp)
    gained = step - line.low
    least, most = step + (EXPAND_LEAST - 1) * gained, step + (EXPAND_MOST - 1) * gained
    fits = cubic > step
    return xp.where(fits, xp.minimum(xp.maximum(cubic, least), most), most)


def _cubic(a: Any, fa: Any, sa: Any, b: Any, fb: Any, sb: Any, xp: Any) -> Any:
    width = b - a
    first = sa + sb - 3.0 * xp.divide(fb - fa, width)
    # Scaled, so that large slopes do not overflow when they are squared.
    scale = xp.maximum(xp.abs(first), xp.maximum(xp.abs(sa), xp.abs(sb)))
    ratio = xp.divide(first, scale)
    root = ratio * ratio - xp.divide(sa, scale) * xp.divide(sb, scale)
    second = xp.where(width > 0, scale, -scale) * xp.sqrt(root)
    return b - width * xp.divide(sb + second - first, sb - sa + 2.0 * second)


# ---- On vectors of NumPy -------------------------------------------------------------------------


def search_line(
    objective: Objective,
    x: Array,
    f: float,
    g: Array,
    d: Array,
    wolfe: Wolfe,
    step: float = 1.0,
    most: float = math.inf,
) -> tuple[Array, float, Array] | None:
    """Return a point along a direction with its value and gradient, None if none is lower.

    No step is longer than `most`, that is, to the bounds; where the value still falls there, it is
    the one.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.line_search import Wolfe, search_line
    >>> from adjoint.optim.objective import Objective
    >>> from adjoint.optim.arguments import make_limits
    >>> from adjoint.optim.objective import Flat
    >>> limits = make_limits("minimize", None, None, None, None, False, None)
    >>> square = Objective(lambda x: x[0] ** 2, Flat("minimize", [3.0]), (), limits)
    >>> f, g = square.value_and_grad(np.array([3.0]))
    >>> x, f, g = search_line(square, np.array([3.0]), f, g, -g, Wolfe(curvature=0.1))
    >>> abs(f) < 1e-9
    True
    """
    line = begin(f, float(g @ d), min(step, most))
    low, high = objective.box()
    known: dict[float, tuple[Array, float, Array]] = {}
    while line.good == 0:
        with np.errstate(over="ignore", invalid="ignore"):
            point = np.clip(x + line.step * d, low, high).astype(x.dtype)
        value, grad = objective.value_and_grad(point)
        known[line.step] = point, value, grad
        with np.errstate(over="ignore", invalid="ignore"):
            slope = float(grad @ d)
        line = advance(line, value, slope, wolfe)
        if line.good == 0 and line.step > most:
            stands = line.low == most  # lower still beyond the bound
            line = line._replace(step=most, good=-1 if stands else 0)
    if line.good < 0 and line.high == math.inf and objective.is_far(point):
        objective.run_away()  # it falls without end
    return known.get(line.step) if line.step > 0 else None
