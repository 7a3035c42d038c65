"""Pictures of how an optimizer went: its way, and its convergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import adjoint as ad
from adjoint.optim import Iteration, Result
from adjoint.plot._support import axes_or_current, numbers_at, plain, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["convergence", "trajectory"]

# What is drawn and against what, as columns of a history, and what the axes are called.
_ALONG = {"nit": "iterations", "nfev": "evaluations", "seconds": "seconds"}
_WHAT = {"fun": "value", "grad_norm": "largest component of the gradient"}


def trajectory(
    points: Any,
    f: Callable[..., Any] | None = None,
    *,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the way that an optimizer took: a line through its points, the last of them marked.

    Parameters
    ----------
    points : sequence of Tensor, Tensor or array
        The points in order: vectors of two numbers, as on a `contour`, or single numbers.
    f : callable, optional
        For single numbers the function that is minimized: the points are on its graph. Without
        it they are drawn over their places in the sequence.
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
        If the points have other shapes.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: ad.sum(w**2)
    >>> w, way = ad.tensor([2.0, 1.0]), []
    >>> for _ in range(5):
    ...     way.append(w)
    ...     w = w - 0.3 * ad.grad(f)(w)
    >>> ax = ad.plot.trajectory(way)
    """
    import numpy as np

    places = np.array([np.asarray(plain(p), dtype=float) for p in rows_of(points)])
    if places.ndim == 3 and places.shape[2] == 1:
        places = places[..., 0]
    if places.ndim == 2 and places.shape[1] == 2:
        x, y = places[:, 0], places[:, 1]
    elif places.ndim == 1 or (places.ndim == 2 and places.shape[1] == 1):
        x = places.reshape(-1)
        if f is None:
            x, y = np.arange(len(x)), x
        else:
            y = numbers_at("trajectory", f, ad.asarray(x))
    else:
        raise ValueError(
            "[plot.trajectory] the points must be single numbers or vectors of two, not of shape "
            f"{places.shape[1:]}"
        )
    ax = axes_or_current(ax)
    style = {"marker": ".", "linewidth": 1.2, **style}
    (line,) = ax.plot(x, y, **style)
    ax.plot(x[-1:], y[-1:], "o", color=line.get_color(), markeredgecolor="black", zorder=3)
    return ax


def convergence(
    runs: Any,
    *,
    by: Literal["nit", "nfev", "seconds"] = "nit",
    value: Literal["fun", "grad_norm"] = "fun",
    optimum: float | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw how far solvers have come after each iteration.

    The axis is logarithmic where all that is drawn is positive.

    Parameters
    ----------
    runs : Result, history, sequence or mapping of them
        What `minimize` and its like return, or their `history`; several of them in a list, or
        under names in a dict. A run may also be a sequence of numbers, such as losses.
    by : {"nit", "nfev", "seconds"}
        Against what: iterations, evaluations of the function, or time.
    value : {"fun", "grad_norm"}
        What: the value of the function, or the largest component of the gradient.
    optimum : float, optional
        The least value there is: what is drawn is how far above it the function is.
    ax : matplotlib Axes, optional
        Where to draw; the current axes of pyplot by default.
    **style
        For `Axes.plot`.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If `by` or `value` is another word, or there is nothing to draw.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: ad.sum((w - 1.0) ** 4)
    >>> runs = [ad.optim.minimize(f, ad.zeros(2), m) for m in ("bfgs", "newton")]
    >>> ax = ad.plot.convergence(runs, by="nfev")
    """
    import numpy as np

    for name, word, known in (("by", by, _ALONG), ("value", value, _WHAT)):
        if word not in known:
            words = ", ".join(map(repr, known))
            raise ValueError(f"[plot.convergence] there is no {name}={word!r}: there are {words}")
    curves = [(name, *_curve(run, by, value)) for name, run in _named_runs(runs)]
    curves = [(name, x, y if optimum is None else y - optimum) for name, x, y in curves]
    if not curves or not any(len(x) for _, x, _ in curves):
        raise ValueError(f"[plot.convergence] no run has a {value} to draw")
    ax = axes_or_current(ax)
    for name, x, y in curves:
        ax.plot(x, y, **{**({"label": name} if name else {}), **style})
    if all(np.all(y[np.isfinite(y)] >= 0) and np.any(y > 0) for _, _, y in curves):
        ax.set_yscale("log")
    ax.set_xlabel(_ALONG[by])
    ax.set_ylabel(_WHAT[value] + (" above the optimum" if optimum is not None else ""))
    return ax


def _named_runs(runs: Any) -> list[tuple[str, Any]]:
    if isinstance(runs, Result) or _is_run(runs):
        return [(getattr(runs, "method", ""), runs)]
    if isinstance(runs, Mapping):
        return [(str(name), run) for name, run in runs.items()]
    if isinstance(runs, Sequence):
        return [(getattr(run, "method", ""), run) for run in runs]
    raise TypeError(
        "[plot.convergence] needs a Result, its history, numbers, or several of these, not "
        f"{type(runs).__name__}"
    )


def _is_run(runs: Any) -> bool:
    """Return whether it is one history, or one sequence of numbers."""
    if isinstance(runs, ad.Tensor) or hasattr(runs, "__array__"):
        return True
    if not isinstance(runs, Sequence) or isinstance(runs, (str, bytes)) or not runs:
        return False
    first = runs[0]
    return isinstance(first, (Iteration, int, float)) or getattr(first, "ndim", 1) == 0


def _curve(run: Any, by: str, value: str) -> tuple[Any, Any]:
    import numpy as np

    rows = run.history if isinstance(run, Result) else list(rows_of(run))
    if rows and not isinstance(rows[0], Iteration):
        if value != "fun" or by == "seconds":
            raise ValueError(f"[plot.convergence] numbers alone have no {by} and {value}")
        return np.arange(len(rows)), np.array([float(plain(row)) for row in rows])
    found = [(getattr(r, by), getattr(r, value)) for r in rows if getattr(r, value) is not None]
    x, y = zip(*found, strict=True) if found else ((), ())
    return np.array(x, dtype=float), np.array([float(plain(v)) for v in y])
