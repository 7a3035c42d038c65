"""What draws of random numbers are given: shapes, parameters, limits, what to choose from.

Each check raises under the name of the draw, before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint import _core
from adjoint._arguments import check_count, check_entries, check_int
from adjoint._core import DType, Tensor
from adjoint._dtypes import finfo

Shape = int | Sequence[int]


def number_below(x: Tensor) -> Tensor:
    """Return the next number below, or the second next where that is subnormal or almost."""
    limits = finfo(x.dtype)
    half = limits.eps / 2  # Rump, Zimmermann, Boldo, Melquiond, BIT 49 (2009)
    return x - (_core.abs(x) * (half * (1 + limits.eps)) + limits.smallest_normal * limits.eps)


def between(low: Any, high: Any, unit: Tensor) -> Tensor:
    """Return low + (high - low) * unit, below `high`, where `unit` is in [0, 1)."""
    # By halves, which has the same bits unless they are subnormal: the difference could overflow.
    numbers = isinstance(low, (int, float)) and isinstance(high, (int, float))
    scale = 1.0 if numbers and max(abs(low), abs(high)) < 1e-30 else 0.5
    start, end = low * scale, high * scale
    drawn = start + (end - start) * unit
    with _core.no_grad():
        first, last, point = (
            _core.stop_gradient(_core.asarray(x, dtype=drawn.dtype)) for x in (start, end, drawn)
        )
        below = _core.maximum(number_below(last), first)
        excess = _core.where(point < last, 0.0, point - below)
    limited: Tensor = (drawn - excess) / scale
    return limited


def floating(op: str, dtype: Any) -> DType:
    """Return the floating dtype that was asked for, float64 by default."""
    chosen = _core.float64 if dtype is None else DType(dtype)
    if chosen.kind != "f":
        raise TypeError(f"[{op}] dtype must be floating, got {chosen}")
    return chosen


def check_seed(op: str, seed: int) -> int:
    """Return a seed, an int of 64 bits."""
    seed = check_int(op, "the seed", seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"[{op}] the seed must be in [0, 2**64), got {seed}")
    return seed


def dims_of(op: str, shape: Shape | None, *parameters: Any) -> tuple[int, ...]:
    """Return the shape that was asked for, to which parameters must broadcast, or theirs."""
    shapes = [shape_of(x) for x in parameters]
    shapes = [s for s in shapes if s]
    if shape is not None:
        one = hasattr(type(shape), "__index__")
        extents = (shape,) if one else check_entries("random", "shape", shape)
        dims = tuple(check_count("random", "an extent of shape", extent) for extent in extents)
        if not shapes or shapes == [dims]:
            return dims
        shapes.append(dims)
    ndim = max((len(s) for s in shapes), default=0)
    columns = zip(*((1,) * (ndim - len(s)) + s for s in shapes), strict=True)
    found = tuple(next((e for e in column if e != 1), 1) for column in columns)
    fits = all(e in (1, f) for s in shapes for e, f in zip(s[::-1], found[::-1], strict=False))
    if not fits or (shape is not None and found != dims):
        wanted = "" if shape is None else f" to {dims}"
        raise ValueError(
            f"[{op}] parameters of shapes {', '.join(map(str, shapes))} do not broadcast{wanted}"
        )
    return found


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of a parameter."""
    return () if isinstance(x, (int, float)) else _core.asarray(x).shape


def check_order(op: str, what: str, low: Any, other: str, high: Any) -> None:
    """Raise unless two limits are numbers in order; tensors are not looked into."""
    for name, value in ((what, low), (other, high)):
        if isinstance(value, (bool, str, bytes)) or value is None:
            raise TypeError(
                f"[{op}] {name} must be a number or a tensor, not a {type(value).__name__}"
            )
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and not low <= high:
        raise ValueError(f"[{op}] {other} must be at least {what}, got {low} and {high}")


def is_number(x: Any) -> bool:
    """Whether it is no tensor, array or sequence; of those an array has both methods too."""
    number = hasattr(type(x), "__index__") or hasattr(type(x), "__float__")
    return number and not isinstance(x, Tensor) and not getattr(x, "ndim", 0)


def parameter(op: str, name: str, value: Any, dtype: Any) -> Any:
    """Return what moves or stretches a draw in the dtype that was asked for."""
    if isinstance(value, (int, float)):
        chosen = floating(op, dtype)
        if not abs(value) <= finfo(chosen).max:  # nan neither
            shown = f", got {value}" if isinstance(value, float) else ""
            raise ValueError(f"[{op}] {name} must be a finite number of {chosen}{shown}")
    if dtype is None or type(value) in (int, float):
        return value
    return _core.astype(_core.asarray(value), DType(dtype))


def entries_of(op: str, name: str, a: Any, axis: Any) -> tuple[int, Tensor | None]:
    """Return how many entries there are to choose from, and what they are if they are no ints."""
    axis = check_int(op, "axis", axis)
    if hasattr(type(a), "__index__") and is_number(a):
        return check_count(op, name, a), None
    entries = _core.asarray(a)
    if entries.ndim == 0:
        raise TypeError(f"[{op}] {name} must be an int, or a tensor that has axes")
    if not -entries.ndim <= axis < entries.ndim:
        dimensions = "dimension" if entries.ndim == 1 else "dimensions"
        raise IndexError(
            f"[{op}] axis {axis} is out of range for a tensor of {entries.ndim} {dimensions}"
        )
    return entries.shape[axis], entries
