"""The simplex method of Nelder and Mead, with coefficients for many dimensions, and restarts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from adjoint._arguments import check_count, check_flag
from adjoint.optim.options import check_range
from adjoint.optim.search.base import Array, Search

__all__ = ["NelderMead"]

_BEGIN, _REFLECT, _EXPAND, _OUTSIDE, _INSIDE, _SHRINK = range(6)


class NelderMead(Search):
    """Simplex search of Nelder and Mead [1]_, as Lagarias et al. state it [2]_.

    A simplex of n + 1 points moves by replacing its worst one. For functions of few variables that
    need not be smooth; it converges to a local minimum, and in more than about ten dimensions
    slowly.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`. Points beyond the bounds are moved to the nearest within; the seed matters to
        restarts only.
    scale : float or array_like of shape (n,), optional
        Edge of the first simplex per coordinate, from `x0`. By default a twentieth of ``x0`` where
        that is not 0, else 0.00025.
    adaptive : bool, default True
        Coefficients that depend on the dimension [3]_; in two dimensions they are the usual ones.
    restarts : int, default 0
        How often to begin again when the simplex has collapsed: first around the best point, to
        leave a place that is none of a minimum [4]_, and where that finds nothing better, around a
        random point of the box: of the bounds where they are finite, else of `x0` plus and minus
        twice the larger of 1 and the scale. A simplex that gathers where values are worse than the
        best ones known is given up early.
    tol : float, default 1e-8
        The simplex has collapsed when its values differ by at most `tol` and its points by at most
        `tol` times the larger of 1 and their size. Where all values told so far lie closer together
        than 1, or `x0` and `scale` are smaller, what they differ by, and their size, stand for 1.

    References
    ----------
    .. [1] J. A. Nelder, R. Mead, "A simplex method for function minimization", Comput. J. 7 (1965)
       308-313.
    .. [2] J. C. Lagarias, J. A. Reeds, M. H. Wright, P. E. Wright, "Convergence properties of the
       Nelder-Mead simplex method in low dimensions", SIAM J. Optim. 9 (1998) 112-147.
    .. [3] F. Gao, L. Han, "Implementing the Nelder-Mead simplex algorithm with adaptive
       parameters", Comput. Optim. Appl. 51 (2012) 259-277.
    .. [4] C. T. Kelley, "Detection and remediation of stagnation in the Nelder-Mead algorithm using
       a sufficient decrease condition", SIAM J. Optim. 10 (1999) 43-55.

    Examples
    --------
    >>> from adjoint.optim.search import NelderMead
    >>> search = NelderMead([-1.2, 1.0])
    >>> while search.stop is None:
    ...     xs = search.ask()
    ...     x, y = xs.T
    ...     search.tell(xs, 100 * (y - x**2) ** 2 + (1 - x) ** 2)
    >>> bool(abs(search.best_x - 1.0).max() < 1e-6)
    True
    """

    _state: ClassVar[tuple[str, ...]] = (
        *("_phase", "_simplex", "_values", "_moved", "_moved_value"),
        *("_restarted", "_local", "_known"),
    )

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        scale: Any = None,
        adaptive: bool = True,
        restarts: int = 0,
        tol: float = 1e-8,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        x0, n = self._x0, self._x0.size
        if scale is None:
            self._scale = np.where(x0 == 0.0, 0.00025, 0.05 * np.abs(x0))
        else:
            self._scale = self._scales(scale)
        size = (
            float(np.max(np.abs(x0)))
            if scale is None
            else float(max(np.max(np.abs(x0)), np.max(self._scale)))
        )
        self._size = min(1.0, size or 1.0)  # what a tolerance of points is meant for
        self._tol = check_range("NelderMead", "tol", tol, 0.0, math.inf, closed=True)
        self._most = check_count("NelderMead", "restarts", restarts)
        if check_flag("NelderMead", "adaptive", adaptive):
            m = max(n, 2)
            self._expand, self._contract, self._shrink = 1 + 2 / m, 0.75 - 0.5 / m, 1 - 1 / m
        else:
            self._expand, self._contract, self._shrink = 2.0, 0.5, 0.5
        self._phase = _BEGIN
        self._simplex = self._around(x0, self._scale)
        self._values = np.full(n + 1, math.inf)
        self._moved = x0.copy()  # the point of reflection, while another one is tried
        self._moved_value = math.inf
        self._restarted = 0
        self._local = False  # whether it has begun again around the best point
        self._known = math.inf  # the best value when it began so

    def _check_loaded(self, who: str, loaded: Mapping[str, Any]) -> None:
        """Raise where the phase is none."""
        super()._check_loaded(who, loaded)
        if loaded["_phase"] > _SHRINK:
            raise ValueError(f"[{who}] 'phase' must be at most {_SHRINK}")

    def _around(self, x: Array, edges: Array) -> Array:
        """Return a simplex at a point, with right angles, whose edges lead into the bounds."""
        steps = np.where(x + edges > self._upper, -edges, edges)
        return self._within(np.vstack([x, x + np.diag(steps)]))

    def _ask(self) -> Array:
        simplex, n = self._simplex, self._x0.size
        if self._phase in (_BEGIN, _SHRINK):
            return simplex.copy() if self._phase == _BEGIN else simplex[1:].copy()
        centre = simplex[:n].mean(axis=0)
        away = centre - simplex[n]
        step = {
            _REFLECT: 1.0,
            _EXPAND: self._expand,
            _OUTSIDE: self._contract,
            _INSIDE: -self._contract,
        }[self._phase]
        return self._within(centre + step * away)[None]

    def _tell(self, xs: Array, values: Array) -> None:
        if self._phase == _BEGIN:
            self._values = values.copy()
        elif self._phase == _SHRINK:
            self._values = np.append(self._values[0], values)
        elif not self._try(xs[0], float(values[0])):
            return
        self._order()
        self._phase = _REFLECT
        if self._restarted < self._most and (self._collapsed() or self._hopeless()):
            self._restart()

    def _try(self, x: Array, value: float) -> bool:
        """Take a point in the place of the worst one, or change the phase; True if it took one."""
        values = self._values
        if self._phase == _REFLECT:
            if values[0] <= value < values[-2]:
                return self._replace(x, value)
            self._moved, self._moved_value = x, value
            if value < values[0]:
                self._phase = _EXPAND
            else:
                self._phase = _OUTSIDE if value < values[-1] else _INSIDE
            return False
        if self._phase == _EXPAND:
            if value < self._moved_value:
                return self._replace(x, value)
            return self._replace(self._moved, self._moved_value)
        if value <= self._moved_value if self._phase == _OUTSIDE else value < values[-1]:
            return self._replace(x, value)
        best = self._simplex[0]
        self._simplex = self._within(best + self._shrink * (self._simplex - best))
        self._phase = _SHRINK
        return False

    def _replace(self, x: Array, value: float) -> bool:
        self._simplex = np.vstack([self._simplex[:-1], x])
        self._values = np.append(self._values[:-1], value)
        return True

    def _order(self) -> None:
        order = np.argsort(self._values, kind="stable")
        self._simplex, self._values = self._simplex[order], self._values[order]

    def _collapsed(self) -> str | None:
        simplex, values = self._simplex, self._values
        if self._phase != _REFLECT:
            return None
        best = simplex[0]
        apart = np.max(np.abs(simplex[1:] - best))
        near = apart <= self._tol * max(self._size, float(np.max(np.abs(best))))
        with np.errstate(invalid="ignore"):
            equal = values[-1] - values[0] <= self._tol * self._value_scale()
        if near and (equal or not np.isfinite(values[0])):
            return "the simplex has collapsed: points and values differ by less than tol"
        if apart <= 4e-16 * np.max(np.abs(best)):
            return "the points of the simplex differ by less than the precision of the numbers"
        return None

    def _hopeless(self) -> bool:
        """Whether the simplex gathers where values are worse than the best ones before it."""
        low, high = self._values[0], self._values[-1]
        return math.isfinite(low) and bool(high - low < 0.01 * (low - self._known))

    def _restart(self) -> None:
        """Begin again, around the best point or, where that has found no better one, elsewhere."""
        self._restarted += 1
        again = not self._local or self._best_f < self._known - 1e-3 * abs(self._known)
        self._local = again and np.isfinite(self._best_f)
        self._known = self._best_f
        random = self._random(1)
        if self._local:
            centre = self._best_x
        else:
            low, high = self._region(2.0 * np.maximum(1.0, self._scale))
            centre = low + (high - low) * random.random(self._x0.size)
        self._simplex, self._phase = self._around(centre, self._scale), _BEGIN
        self._values = np.full(self._x0.size + 1, math.inf)

    @property
    def stop(self) -> str | None:
        """Why the simplex has collapsed for the last time, or None."""
        return self._collapsed() if self._restarted >= self._most else None
