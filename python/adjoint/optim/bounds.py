"""Bounds: how they are given, whether a start lies within them, and the gradient at them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.optim.objective import Array, Flat

__all__ = ["centre", "check_box", "check_x0", "ends_of", "projected_size", "read_bounds"]

_FORMS = (
    "a tuple (lower, upper), a list of pairs (lower, upper), one for each parameter, or an array "
    "of them, of shape (n, 2)"
)
_UNSET = (-math.inf, math.inf)


def read_bounds(who: str, bounds: Any, flat: Flat) -> tuple[Array, Array] | None:
    """Return lower and upper bounds as vectors, None if there are none.

    A form that may be read in two ways is refused: for two parameters, SciPy's `minimize` takes
    ``((a, b), (c, d))`` for two pairs, and its `least_squares` for the lower and the upper ends.

    Examples
    --------
    >>> from adjoint.optim.bounds import read_bounds
    >>> from adjoint.optim.objective import Flat
    >>> low, high = read_bounds("minimize", [(0, None), (-1, 1)], Flat("minimize", [0.5, 0.5]))
    >>> low.tolist(), high.tolist()
    ([0.0, -1.0], [inf, 1.0])
    """
    if bounds is None:
        return None
    ends = ends_of(bounds)
    if ends is not bounds:  # what names its ends cannot be read in two ways
        bounds = ends
    elif isinstance(bounds, (np.ndarray, ad.Tensor)):
        return _read_rows(who, bounds, flat)
    elif isinstance(bounds, list) or (isinstance(bounds, tuple) and len(bounds) != 2):
        return _read_pairs(who, bounds, flat)
    elif isinstance(bounds, tuple) and flat.size == 2 and all(map(_is_pair, bounds)):
        return _read_two_pairs(who, bounds, flat)
    if not isinstance(bounds, tuple):
        raise TypeError(f"[{who}] bounds must be {_FORMS}, not a {type(bounds).__name__}")
    names = ("the lower bound", "the upper bound")
    low, high = (
        flat.spread(who, name, end, unset)
        for name, end, unset in zip(names, bounds, _UNSET, strict=True)
    )
    return low, high


def ends_of(bounds: Any) -> Any:
    """Return the ends of SciPy's `Bounds` as a tuple; bounds in another form as they are.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from adjoint.optim.bounds import ends_of
    >>> ends_of(SimpleNamespace(lb=0.0, ub=1.0)), ends_of([(0.0, 1.0)])
    ((0.0, 1.0), [(0.0, 1.0)])
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    return bounds


def centre(who: str, bounds: Any) -> Array:
    """Return the middle of bounds, where a search starts that is given no x0.

    Examples
    --------
    >>> from adjoint.optim.bounds import centre
    >>> centre("minimize", [(0, 1), (-2, 4)]).tolist()
    [0.5, 1.0]
    """
    bounds = ends_of(bounds)
    size = 0
    if isinstance(bounds, tuple) and len(bounds) == 2:
        size = max(np.size(Flat.numbers(who, "a bound", end)) for end in bounds)
    elif isinstance(bounds, (list, tuple, np.ndarray, ad.Tensor)):
        size = len(bounds)
    if not size:
        raise TypeError(f"[{who}] x0 is None: give one, or finite bounds for every parameter")
    box = read_bounds(who, bounds, Flat(who, np.zeros(size)))
    if box is None or not np.isfinite(box).all():
        raise ValueError(f"[{who}] x0 is None, so all bounds must be finite")
    return np.asarray(box[0] + 0.5 * (box[1] - box[0]))


def _is_pair(entry: Any) -> bool:
    """Whether it is a list or tuple of two numbers or Nones."""
    return (
        isinstance(entry, (tuple, list))
        and len(entry) == 2
        and all(end is None or np.ndim(end) == 0 for end in entry)
    )


def _read_rows(who: str, rows: Any, flat: Flat) -> tuple[Array, Array]:
    array = flat.numbers(who, "a bound", rows)
    if array.shape != (flat.size, 2):
        raise ValueError(
            f"[{who}] bounds as an array hold a row (lower, upper) for each of {flat.size} "
            f"parameters, shape {(flat.size, 2)}, not {array.shape}: write (lower, upper) as a "
            "tuple"
        )
    low, high = array.T.astype(flat.np_dtype)
    return low, high


def _read_two_pairs(who: str, pairs: Any, flat: Flat) -> tuple[Array, Array]:
    """Read what is either the bounds of two parameters, or lower and upper ones of both."""
    (a, b), (c, d) = pairs
    if any(end is None for end in (a, b, c, d)) or b == c:  # a pair, or both readings are the same
        return _read_pairs(who, pairs, flat)
    raise ValueError(
        f"[{who}] bounds={pairs!r} for two parameters may be lower and upper bounds, or a pair "
        f"for each parameter: write a list, {[(a, b), (c, d)]!r}, for pairs, or arrays for ends, "
        f"(np.array({[a, b]!r}), np.array({[c, d]!r}))"
    )


def _read_pairs(who: str, pairs: Any, flat: Flat) -> tuple[Array, Array]:
    if not all(isinstance(pair, (tuple, list, np.ndarray)) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"[{who}] bounds must be {_FORMS}")
    if len(pairs) != flat.size:
        raise ValueError(
            f"[{who}] there are {len(pairs)} bounds for {flat.size} parameters; bounds must be "
            f"{_FORMS}"
        )
    ends = []
    for i, unset in enumerate(_UNSET):
        numbers = [unset if pair[i] is None else pair[i] for pair in pairs]
        ends.append(flat.numbers(who, "a bound", numbers).astype(flat.np_dtype))
    return ends[0], ends[1]


def check_x0(who: str, flat: Flat, box: tuple[Array, Array] | None) -> None:
    """Raise unless x0 is finite and within the bounds.

    Examples
    --------
    >>> from adjoint.optim.bounds import check_x0
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
    >>> from adjoint.optim.bounds import check_box
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
    >>> from adjoint.optim.bounds import projected_size
    >>> import numpy as np
    >>> projected_size(np.zeros(2), np.array([3.0, -0.5]), np.zeros(2), np.ones(2))
    0.5
    """
    with np.errstate(over="ignore"):
        part = np.where(g > 0, np.minimum(g, x - low), np.maximum(g, x - high))
    return float(np.max(np.abs(part)))
