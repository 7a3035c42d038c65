"""Pictures of functions: graphs, tangents, families, contours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import adjoint as ad
from adjoint.plot._support import (
    axes_or_current,
    check_function,
    count_of,
    domain_of,
    matplotlib_module,
    number_at,
    numbers_at,
    rows_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contour", "family", "function", "tangent"]


def function(
    f: Callable[..., Any],
    domain: Any,
    *,
    points: int = 201,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the graph of a function of one number.

    Parameters
    ----------
    f : callable
        From a float64 scalar tensor to one number. It is called on all points at once by `vmap`
        where it can be, else point by point, so that it may branch on its argument.
    domain : pair of float
        The ends of the interval.
    points : int, default 201
        At how many equidistant points it is computed.
    ax : matplotlib Axes, optional
        Where to draw; the current axes of pyplot by default.
    **style
        For `Axes.plot`, such as ``label`` and ``color``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If `f` gives more than one number, or `domain` is no interval.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: w**2 + 1
    >>> ax = ad.plot.function(f, (-2, 2))
    >>> ax = ad.plot.function(ad.grad(f), (-2, 2), ax=ax, label="slope")
    """
    low, high = domain_of("function", domain)
    x = ad.linspace(low, high, count_of("function", "points", points))
    y = numbers_at("function", f, x)
    ax = axes_or_current(ax)
    ax.plot(x.numpy(), y, **style)
    return ax


def tangent(
    f: Callable[..., Any],
    at: Any,
    *,
    length: float | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the tangent of a function of one number, and the point where it touches.

    Its slope is the derivative, by `grad`; it is the label of the line, for ``ax.legend()``.

    Parameters
    ----------
    f : callable
        From a float64 scalar tensor to one number, differentiable.
    at : float or scalar Tensor
        Where.
    length : float, optional
        Over which interval around the point the line goes; across the picture by default.
    ax : matplotlib Axes, optional
        Where to draw; the current axes of pyplot by default.
    **style
        For the line, such as ``color``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `f` has no derivative there to be computed, as of a function of NumPy's numbers.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: w**2 + 1
    >>> ax = ad.plot.tangent(f, 1.5)
    >>> ax.get_legend_handles_labels()[1][-1]
    'slope 3'
    """
    check_function("tangent", f)
    try:
        x = float(at.item() if isinstance(at, ad.Tensor) else at)
    except (TypeError, ValueError):
        raise TypeError(f"[plot.tangent] at must be one number, not {at!r}") from None
    y = number_at("tangent", f, ad.tensor(x))
    slope = float(ad.grad(f)(x).item())
    style = {"color": "C1", "label": f"slope {slope:.4g}", **style}
    ax = axes_or_current(ax)
    if length is None:
        ax.axline((x, y), slope=slope, **style)
    else:
        half = float(length) / 2
        ax.plot([x - half, x + half], [y - slope * half, y + slope * half], **style)
    ax.plot([x], [y], "o", color=style["color"], zorder=3)
    return ax


def family(
    F: Callable[..., Any],
    domain: Any,
    parameters: Any,
    *,
    points: int = 201,
    ax: Axes | None = None,
    cmap: Any = "viridis",
    **style: Any,
) -> Axes:
    """Draw members of a family of functions F(x; w), one for each of the parameters.

    Parameters
    ----------
    F : callable
        ``F(x, w)``: x a float64 scalar tensor, w an entry of `parameters`; gives one number.
    domain : pair of float
        The interval of x.
    parameters : sequence, array or Tensor
        The values of w, along axis 0: numbers, vectors, or anything that F takes.
    points : int, default 201
        At how many equidistant points each is computed.
    ax : matplotlib Axes, optional
        Where to draw; the current axes of pyplot by default.
    cmap : str or Colormap, default "viridis"
        From which the lines are coloured, in order; a ``color`` among the style replaces it.
    **style
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import adjoint as ad
    >>> line = lambda x, w: w[0] + w[1] * x
    >>> ax = ad.plot.family(line, (-1, 1), [(0.0, 1.0), (0.5, 2.0)])
    """
    low, high = domain_of("family", domain)
    x = ad.linspace(low, high, count_of("family", "points", points))
    check_function("family", F)
    members = list(rows_of(parameters))
    ax = axes_or_current(ax)
    colors = matplotlib_module("pyplot").get_cmap(cmap)
    for i, w in enumerate(members):
        own = {"color": colors(0.9 * i / max(len(members) - 1, 1)), **style}
        ax.plot(x.numpy(), numbers_at("family", lambda t, w=w: F(t, w), x), **own)
    return ax


def contour(
    f: Callable[..., Any],
    x_domain: Any,
    y_domain: Any,
    *,
    points: int = 101,
    levels: Any = 20,
    log: bool = False,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw lines of equal value of a function of two numbers.

    Parameters
    ----------
    f : callable
        From a float64 tensor of shape (2,) to one number.
    x_domain, y_domain : pair of float
        The intervals of the two numbers.
    points : int, default 101
        Of the grid, along each axis.
    levels : int or sequence of float, default 20
        How many lines, or their values.
    log : bool, default False
        Space the lines by a constant factor above the least value on the grid, which shows the
        floor of a narrow valley. `levels` is an int then.
    ax : matplotlib Axes, optional
        Where to draw; the current axes of pyplot by default.
    **style
        For `Axes.contour`, such as ``cmap``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If `f` gives more than one number, or a domain is no interval.

    Examples
    --------
    >>> import adjoint as ad
    >>> valley = lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    >>> ax = ad.plot.contour(valley, (-2, 2), (-1, 3), log=True)
    """
    import numpy as np

    count = count_of("contour", "points", points)
    x = ad.linspace(*domain_of("contour", x_domain), count)
    y = ad.linspace(*domain_of("contour", y_domain), count)
    xs, ys = ad.meshgrid(x, y)
    grid = ad.stack([ad.reshape(xs, -1), ad.reshape(ys, -1)], axis=1)
    z = numbers_at("contour", f, grid).reshape(count, count)
    if log:
        if not isinstance(levels, int):
            raise TypeError("[plot.contour] with log=True levels is the number of lines, an int")
        low, high = np.nanmin(z), np.nanmax(z[np.isfinite(z)])
        levels = low + (high - low) * np.geomspace(1e-4, 1.0, levels) if high > low else 1
    ax = axes_or_current(ax)
    style = {"cmap": "viridis", "linewidths": 0.8, **style}
    if "colors" in style:
        del style["cmap"]
    if log and "norm" not in style:
        style["norm"] = matplotlib_module("colors").PowerNorm(0.25)
    ax.contour(x.numpy(), y.numpy(), z, levels=levels, **style)
    return ax
