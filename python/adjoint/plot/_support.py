"""What the pictures share: the import of matplotlib, axes, domains, and values of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import adjoint as ad

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__: list[str] = []


def matplotlib_module(name: str) -> Any:
    """Import a part of matplotlib, or say how to get it."""
    from importlib import import_module

    try:
        return import_module(f"matplotlib.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "matplotlib":
            raise ImportError(
                "[plot] needs matplotlib: pip install 'adjoint[notebook]', or matplotlib alone",
                name="matplotlib",
            ) from None
        raise


def axes_or_current(ax: Axes | None) -> Axes:
    """Return the axes given, or the current ones of pyplot."""
    if ax is None:
        return matplotlib_module("pyplot").gca()  # type: ignore[no-any-return]
    if not hasattr(ax, "plot"):
        raise TypeError(f"[plot] ax must be axes of matplotlib, not {type(ax).__name__}")
    return ax


def domain_of(op: str, domain: Any) -> tuple[float, float]:
    """Return the two ends of an interval."""
    try:
        low, high = (float(end) for end in domain)
    except (TypeError, ValueError):
        raise TypeError(
            f"[plot.{op}] a domain is a pair of numbers, (low, high), not {domain!r}"
        ) from None
    if not low < high or high - low == ad.inf:
        raise ValueError(f"[plot.{op}] the domain ({low}, {high}) is no interval from low to high")
    return low, high


def count_of(op: str, name: str, value: Any) -> int:
    """Return a number of points that a grid can have."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise ValueError(f"[plot.{op}] {name} must be an int of at least 2, not {value!r}")
    return value


def check_function(op: str, f: Any) -> None:
    if not callable(f):
        raise TypeError(f"[plot.{op}] needs a function, not {type(f).__name__}")


def plain(values: Any) -> Any:
    """Return tensors as arrays, those that require grad too: a picture has no derivative."""
    return values.detach().numpy() if isinstance(values, ad.Tensor) else values


def number_at(op: str, f: Callable[..., Any], point: Any) -> float:
    """Return the value of a function as a float."""
    value = f(point)
    size = getattr(value, "size", 1)
    if size != 1:
        raise ValueError(
            f"[plot.{op}] the function must give one number per point, not shape {value.shape}"
        )
    return float(value.item() if isinstance(value, ad.Tensor) else value)


def numbers_at(op: str, f: Callable[..., Any], points: ad.Tensor) -> Any:
    """Return the values of a function at points along axis 0, as an array.

    They are computed all at once where the function can be batched, else one by one.
    """
    import numpy as np

    check_function(op, f)
    with ad.no_grad():
        try:
            values = ad.vmap(f)(points)
        except Exception:  # whatever it is, it is raised again below if it is the function's
            values = None
        if isinstance(values, ad.Tensor) and values.size == points.shape[0]:
            return ad.astype(values, ad.float64).numpy().reshape(-1)
        return np.array([number_at(op, f, point) for point in points])


def rows_of(values: Any) -> Iterable[Any]:
    """Return the entries along axis 0 of an array or a tensor, or the items of a list."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"[plot] needs a sequence, not {type(values).__name__}")
    return values.detach() if isinstance(values, ad.Tensor) else values
