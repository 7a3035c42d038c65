"""Derivatives by finite differences, within bounds.

A step balances what the difference leaves out against the rounding of the values, which is known of
them: that of the function itself, or that of a gradient that is a difference already.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["difference_points", "gradient_step"]

Array = np.ndarray[Any, Any]


def difference_points(
    x: Array, i: int, central: bool, low: Array, high: Array
) -> tuple[Array, Array]:
    """Return the points whose values tell the derivative in one coordinate, within the bounds.

    The second is `x` itself where the difference is one-sided; both are where the bounds leave no
    room at all.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.differences import difference_points
    >>> x, end = np.array([1.0, 2.0]), np.full(2, np.inf)
    >>> ahead, behind = difference_points(x, 1, True, -end, end)
    >>> bool(ahead[1] > 2.0 > behind[1]), difference_points(x, 1, False, -end, end)[1] is x
    (True, True)
    >>> ahead, behind = difference_points(x, 1, True, x, x)
    >>> ahead is x, behind is x
    (True, True)
    """
    eps = float(np.finfo(x.dtype).eps)
    share = eps ** (1 / 3) if central else 0.67 * eps**0.5
    h = share * max(1.0, 0.1 * abs(float(x[i])))
    way = 1.0 if x[i] >= 0 else -1.0
    up, down = float(high[i]) - float(x[i]), float(x[i]) - float(low[i])
    room, other = (up, down) if way > 0 else (down, up)
    if h > room and (other >= h or other > room):
        way, room, other = -way, other, room
    ahead = _moved(x, i, way * min(h, room), low, high)
    if ahead[i] == x[i]:
        return x, x
    if central and other >= h:
        return ahead, _moved(x, i, float(x[i]) - float(ahead[i]), low, high)
    return ahead, x


def _moved(x: Array, i: int, h: float, low: Array, high: Array) -> Array:
    point = x.copy()
    point[i] = np.clip(x.dtype.type(float(x[i]) + h), low[i], high[i])
    return point


# The rounding of a gradient, as a power of that of values: it is a value's, divided by the step.
_ROUNDING = {"2-point": 1 / 2, "3-point": 2 / 3}


def gradient_step(x: Array, v: Array, gradient: Any) -> float:
    """Return how far along `v` central differences of a gradient go.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.differences import gradient_step
    >>> x, v = np.ones(2), np.array([0.0, 2.0])
    >>> steps = [gradient_step(x, v, g) for g in (np.square, "3-point", "2-point")]
    >>> steps == sorted(steps)
    True
    """
    power = _ROUNDING.get(gradient, 1.0) if isinstance(gradient, str) else 1.0
    rounding = float(np.finfo(x.dtype).eps) ** power
    size = float(np.linalg.norm(v)) or 1.0
    scale = max(1.0, 0.1 * float(np.abs(x) @ np.abs(v)) / size)
    return float(rounding ** (1 / 3) * scale / size)
