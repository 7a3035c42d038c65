"""Bounds: how they are given, whether a start lies within them, and the gradient at them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint.optim.objective import Array, Flat

__all__ = ["check_box", "check_x0", "projected_size", "read_bounds"]

_FORMS = "a tuple (lower, upper), or a list of pairs (lower, upper), one for each parameter"


def read_bounds(who: str, bounds: Any, flat: Flat) -> tuple[Array, Array] | None:
    """Return lower and upper bounds as vectors, None if there are none.

    Examples
    --------
    >>> from adjoint.optim.objective import Flat
    >>> low, high = read_bounds("minimize", [(0, None), (-1, 1)], Flat("minimize", [0.5, 0.5]))
    >>> low.tolist(), high.tolist()
    ([0.0, -1.0], [inf, 1.0])
    """
    if bounds is None:
        return None
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)
    elif isinstance(bounds, list) or (isinstance(bounds, tuple) and len(bounds) != 2):
        return _read_pairs(who, bounds, flat)
    if not isinstance(bounds, tuple):
        raise TypeError(f"[{who}] bounds must be {_FORMS}, not a {type(bounds).__name__}")
    low, high = (
        unset if end is None else end
        for end, unset in zip(bounds, (-math.inf, math.inf), strict=True)
    )
    return flat.spread(who, "the lower bound", low), flat.spread(who, "the upper bound", high)


def _read_pairs(who: str, pairs: Any, flat: Flat) -> tuple[Array, Array]:
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"[{who}] bounds must be {_FORMS}")
    if len(pairs) != flat.size:
        raise ValueError(f"[{who}] there are {len(pairs)} bounds for {flat.size} parameters")
    ends = []
    for i, unset in enumerate((-math.inf, math.inf)):
        numbers = [unset if pair[i] is None else pair[i] for pair in pairs]
        ends.append(flat.numbers(who, "a bound", numbers).astype(flat.np_dtype))
    return ends[0], ends[1]


def check_x0(who: str, flat: Flat, box: tuple[Array, Array] | None) -> None:
    """Raise unless x0 is finite and within the bounds.

    Examples
    --------
    >>> from adjoint.optim.objective import Flat
    >>> import numpy as np
    >>> check_x0("minimize", Flat("minimize", [2.0]), (np.zeros(1), np.ones(1)))
    Traceback (most recent call last):
        ...
    ValueError: [minimize] x0 lies outside of the bounds: parameter 0 is 2, not in [0, 1]
    """
    check_box(who, flat.start.numpy(), box, flat.name)


def check_box(who: str, x0: Array, box: tuple[Array, Array] | None, name: str = "x0") -> None:
    """Raise unless a vector is finite, and lies between bounds that are not crossed.

    Examples
    --------
    >>> import numpy as np
    >>> check_box("minimize", np.zeros(2), (np.array([0.0, 1.0]), np.array([1.0, 0.0])))
    Traceback (most recent call last):
        ...
    ValueError: [minimize] the bounds of parameter 1 are crossed or nan: lower 1, upper 0
    """
    wrong = np.flatnonzero(~np.isfinite(x0))
    if wrong.size:
        raise ValueError(f"[{who}] {name} must be finite, parameter {wrong[0]} is {x0[wrong[0]]}")
    if box is None:
        return
    low, high = box
    wrong = np.flatnonzero(~(low <= high))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"[{who}] the bounds of parameter {i} are crossed or nan: lower {low[i]:g}, upper "
            f"{high[i]:g}"
        )
    wrong = np.flatnonzero((x0 < low) | (x0 > high))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"[{who}] {name} lies outside of the bounds: parameter {i} is {x0[i]:g}, not in "
            f"[{low[i]:g}, {high[i]:g}]"
        )


def projected_size(x: Array, g: Array, low: Array, high: Array) -> float:
    """Return the largest part of the projected gradient: what a step against it would change.

    Examples
    --------
    >>> import numpy as np
    >>> projected_size(np.zeros(2), np.array([3.0, -0.5]), np.zeros(2), np.ones(2))
    0.5
    """
    with np.errstate(over="ignore"):
        part = np.where(g > 0, np.minimum(g, x - low), np.maximum(g, x - high))
    return float(np.max(np.abs(part)))
