"""SPSA: descent along a gradient estimated from two values, whatever the dimension."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from adjoint._arguments import check_count
from adjoint.optim.options import check_range
from adjoint.optim.search.base import Array, Search

__all__ = ["SPSA"]


class SPSA(Search):
    """Simultaneous perturbation stochastic approximation [1]_.

    Step k evaluates the function at ``x + c_k d`` and ``x - c_k d``, with random signs d, and moves
    against the slope between the two along d, ``x -= a_k g``, where
    ``a_k = a / (k + 1 + A)**0.602`` and ``c_k = c / (k + 1)**0.101`` [2]_. For noisy functions of
    many variables; where values are exact, other methods are faster.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`. Points beyond the bounds are moved to the nearest within.
    scale : float or array_like of shape (n,), optional
        What counts as a length of 1 in each coordinate, as for badly scaled variables. By default
        a quarter of the distance between finite bounds, or half of the larger of 1 and ``abs(x0)``.
    perturbation : float, default 0.1
        c, in units of the scale; with noise about its standard deviation over the slope.
    learning_rate : float, optional
        a, in units of the scale squared. By default it is such that the first step is about
        `first_step`, from the slopes of ten pairs of points at `x0` [2]_.
    first_step : float, default 0.1
        In units of the scale.
    stability : float, default 50.0
        A, about a tenth of the steps that are planned.
    average : int, default 1
        How many pairs of points a gradient is averaged over.

    References
    ----------
    .. [1] J. C. Spall, "Multivariate stochastic approximation using a simultaneous perturbation
       gradient approximation", IEEE Trans. Autom. Control 37 (1992) 332-341.
    .. [2] J. C. Spall, "Implementation of the simultaneous perturbation algorithm for stochastic
       optimization", IEEE Trans. Aerosp. Electron. Syst. 34 (1998) 817-823.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.search import SPSA
    >>> search = SPSA(np.ones(20), seed=0)
    >>> for _ in range(1000):
    ...     xs = search.ask()
    ...     search.tell(xs, np.sum(xs**2, axis=1))
    >>> bool(np.sum(search.x**2) < 0.1)
    True
    """

    _state: ClassVar[tuple[str, ...]] = ("_x", "_rate", "_steps")

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        scale: Any = None,
        perturbation: float = 0.1,
        learning_rate: float | None = None,
        first_step: float = 0.1,
        stability: float = 50.0,
        average: int = 1,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        self._scale = self._scales(scale)
        self._c = check_range("SPSA", "perturbation", perturbation, 0.0, math.inf, above=True)
        self._first = check_range("SPSA", "first_step", first_step, 0.0, math.inf, above=True)
        self._stability = check_range("SPSA", "stability", stability, 0.0, math.inf)
        self._average = check_count("SPSA", "average", average, 1)
        self._x = self._x0.copy()
        self._rate = 0.0  # a; 0 until it has been found
        self._steps = 0  # steps taken
        self._drawn: Array | None = None  # the signs of the points that are asked
        if learning_rate is not None:
            self._rate = check_range(
                "SPSA", "learning_rate", learning_rate, 0.0, math.inf, above=True
            )

    @property
    def x(self) -> Array:
        """Where the descent stands: with noise a better answer than `best_x`; a copy."""
        return self._x.copy()

    def _ask(self) -> Array:
        self._drawn = self._signs()
        step = self._c / (self._steps + 1.0) ** 0.101 * self._scale * self._drawn
        return self._within(np.concatenate([self._x + step, self._x - step]))

    def _signs(self) -> Array:
        pairs = self._average if self._rate else max(10, self._average)
        bits = self._random().integers(2, size=(pairs, self._x0.size))
        return bits.astype(np.float64) * 2.0 - 1.0

    def _tell(self, xs: Array, values: Array) -> None:
        assert self._drawn is not None
        pairs = len(xs) // 2
        with np.errstate(invalid="ignore"):
            rises = values[:pairs] - values[pairs:]
        known = np.isfinite(rises)
        if not np.any(known):
            return  # nothing is known of the slope: other signs are tried
        signs = self._drawn[known]
        # The length between the points, which the bounds may have shortened, in units of the scale.
        between = np.sum((xs[:pairs] - xs[pairs:])[known] / self._scale * signs, axis=1)
        lengths = np.maximum(between, 1e-300) / self._x0.size
        slope = np.mean((rises[known] / lengths)[:, None] * signs, axis=0)
        if not self._rate:
            size = float(np.mean(np.abs(slope)))
            if not (size > 0.0 and math.isfinite(size)):
                return
            self._rate = self._first * (self._stability + 1.0) ** 0.602 / size
        rate = self._rate / (self._steps + 1.0 + self._stability) ** 0.602
        # A step is no longer than the scale in any coordinate: values may rise without limit.
        step = np.clip(rate * slope, -1.0, 1.0)
        self._x = self._within(self._x - self._scale * step)
        self._steps += 1
