"""CMA-ES: the evolution strategy that learns the shape of the valley, with restarts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from adjoint._arguments import check_choice, check_count, check_flag
from adjoint.optim.options import check_range
from adjoint.optim.search.base import Array, Search, mirrored, reflected
from adjoint.optim.search.evolution import Evolution, orthogonal

__all__ = ["CMAES"]

_RESTARTS = ("bipop", "ipop", "none")
_LARGE, _SMALL = 0, 1


class CMAES(Search):
    r"""Covariance matrix adaptation evolution strategy [1]_.

    A generation of points is drawn from a normal distribution; the better half, and with negative
    weights the other half [2]_, move its mean, its width and its covariance matrix. Where functions
    are badly scaled, rotated, rugged or noisy, and evaluations are not counted by the dozen, this
    is the first method to try. Points are drawn in orthogonal directions [6]_, and a run that
    gathers where values are worse than the best ones known is given up early.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`. Points beyond the bounds are mirrored at them.
    scale : float or array_like of shape (n,), optional
        The standard deviation of the first generation, per coordinate: about a quarter of the range
        where the minimum is expected. By default a quarter of the distance between finite bounds,
        or half of the larger of 1 and ``abs(x0)``.
    population_size : int, optional
        How many points a generation has in the first run, at least 4; by default
        ``4 + floor(3 log(n))``.
    covariance : {"full", "diagonal"}
        "diagonal" learns the n variances only [3]_: for separable functions, or for thousands of
        dimensions.
    active : bool, default True
        Learn from the bad half too.
    restarts : {"bipop", "ipop", "none"}
        What happens when a run has converged. "ipop" [4]_ starts again with the population doubled.
        "bipop" [5]_ does so by turns with runs of small populations and widths, each kind using
        about half of the evaluations. New runs start from a random point of the box: of the bounds
        where they are finite, else of `x0` plus and minus twice the scale. With "none" `stop` tells
        why the run has ended.
    max_restarts : int, default 9
        How often the population is doubled before `stop` tells why the last run has ended.
    patience : int, optional
        When the population has been doubled so often in turn without finding anything better, by
        more than `tol`, no other run follows and `stop` says so. By default only `max_restarts`
        counts; `minimize` takes 2 where it is given a `tol`.
    tol : float, default 1e-11
        A run has converged when the best values of many generations differ by less; where all
        values told so far lie closer together than 1, by less than `tol` times what they differ by.
    xtol : float, default 1e-12
        A run has converged when the standard deviations are less than `xtol` times the first.

    References
    ----------
    .. [1] N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, 2016.
    .. [2] G. A. Jastrebski, D. V. Arnold, "Improving evolution strategies through active covariance
       matrix adaptation", CEC, 2006.
    .. [3] R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space
       complexity", PPSN, 2008.
    .. [4] A. Auger, N. Hansen, "A restart CMA evolution strategy with increasing population size",
       CEC, 2005.
    .. [5] N. Hansen, "Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed",
       GECCO, 2009.
    .. [6] H. Wang, M. Emmerich, T. Bäck, "Mirrored orthogonal sampling for covariance matrix
       adaptation evolution strategies", Evol. Comput. 27 (2019) 699-725.

    Examples
    --------
    >>> from adjoint.optim.search import CMAES
    >>> search = CMAES([-1.0, 2.0, 0.5], seed=1, restarts="none")
    >>> while search.stop is None:
    ...     xs = search.ask()
    ...     search.tell(xs, ((xs[:, 1:] - xs[:, :-1] ** 2) ** 2).sum(1) + ((1 - xs) ** 2).sum(1))
    >>> bool(abs(search.best_x - 1.0).max() < 1e-5)
    True
    """

    _state: ClassVar[tuple[str, ...]] = (
        *("_doublings", "_regime", "_budgets", "_limit", "_begun", "_known", "_vain"),
    )

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        scale: Any = None,
        population_size: int | None = None,
        covariance: str = "full",
        active: bool = True,
        restarts: str = "bipop",
        max_restarts: int = 9,
        patience: int | None = None,
        tol: float = 1e-11,
        xtol: float = 1e-12,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        n = self._x0.size
        check_choice("CMAES", "covariance", covariance, ("full", "diagonal"))
        check_choice("CMAES", "restarts", restarts, _RESTARTS)
        self._scale = self._scales(scale)
        if population_size is None:
            population_size = 4 + math.floor(3 * math.log(n))
        self._population = check_count("CMAES", "population_size", population_size, 4)
        self._diagonal = covariance == "diagonal"
        self._active = check_flag("CMAES", "active", active)
        self._restarts = restarts
        self._most = check_count("CMAES", "max_restarts", max_restarts)
        self._patience = (
            math.inf if patience is None else check_count("CMAES", "patience", patience, 1)
        )
        self._tol = check_range("CMAES", "tol", tol, 0.0, math.inf, closed=True)
        self._xtol = check_range("CMAES", "xtol", xtol, 0.0, 1.0, closed=True)
        self._doublings = 0
        self._regime = _LARGE
        self._budgets = np.zeros(2)  # evaluations spent by runs of either kind after the first
        self._limit = math.inf  # evaluations that the present run may spend
        self._begun = 0  # evaluations before the present run
        self._known = math.inf  # the best value before the present run
        self._vain = 0  # doublings in turn that have found nothing better
        self._run = self._evolution(self._x0 / self._scale, 1.0, self._population)
        self._steps: Array | None = None

    # A distribution may break down; `stop` says so then.
    _breakable = frozenset(f"_run.{name}" for name in Evolution.state)
    _growing = frozenset(f"_run.{name}" for name in Evolution.growing)

    def _names(self) -> dict[str, str]:
        return super()._names() | {f"run.{name}": f"_run.{name}" for name in Evolution.state}

    def _check_loaded(self, who: str, loaded: Mapping[str, Any]) -> None:
        """Raise where the population is none."""
        super()._check_loaded(who, loaded)
        if loaded["_run.population"] < 4:
            raise ValueError(f"[{who}] 'run.population' must be at least 4")

    def _evolution(self, mean: Array, sigma: float, population: int) -> Evolution:
        return Evolution(mean, sigma, population, self._diagonal, self._active)

    def _ask(self) -> Array:
        run = self._run
        z = self._random().standard_normal((run.population, self._x0.size))
        self._steps = run.steps(orthogonal(z))
        xs = self._scale * (run.mean + run.sigma * self._steps)
        return reflected(xs, self._lower, self._upper)

    def _tell(self, xs: Array, values: Array) -> None:
        assert self._steps is not None
        steps, self._steps = self._steps, None
        told = self._nfev + len(xs)
        if np.any(np.isfinite(values)):  # else the same distribution is tried again
            self._run.update(steps, values)
            self._fold()
        used = told - self._begun
        if self._ended() or used >= self._limit:
            if self._best_f < self._known - self._tol * self._value_scale():
                self._vain = 0
            elif self._regime == _LARGE:  # a run of a small population was not likely to
                self._vain += 1
            if self._may_restart():
                self._restart(told)

    def _fold(self) -> None:
        """Bring the mean back within the bounds, by the mirrors in which its points were seen."""
        run = self._run
        mean, odd = mirrored(run.mean, *self._ends())
        if mean is not run.mean:
            run.mirror(mean, odd)

    def _ends(self) -> tuple[Array, Array]:
        """Return the bounds in units of the scale; what is no finite number of them is none."""
        with np.errstate(over="ignore"):
            return self._lower / self._scale, self._upper / self._scale

    # ---- Restarts --------------------------------------------------------------------------------

    def _ended(self) -> str | None:
        return self._run.done(self._tol * self._value_scale(), self._xtol, self._known)

    def _may_restart(self) -> bool:
        """Whether another run follows; the last one is that of the largest population."""
        if self._restarts == "none" or self._vain >= self._patience:
            return False
        return self._regime == _SMALL or self._doublings < self._most

    def _restart(self, told: int) -> None:
        """Begin the next run; of its kind less evaluations have been spent so far."""
        used = told - self._begun
        if self._doublings:
            self._budgets[self._regime] += used
        random = self._random(1)
        large, small = self._budgets
        if self._restarts == "ipop" or not self._doublings or small >= large:
            self._doublings += 1
            self._regime, self._limit = _LARGE, math.inf
            population, sigma = self._population * 2**self._doublings, 1.0
        else:
            self._regime, self._limit = _SMALL, max(0.5 * large, 1.0)
            ratio = 0.5 * 2.0**self._doublings
            population = math.floor(self._population * ratio ** (random.random() ** 2))
            sigma = 10.0 ** (-2.0 * random.random())
        self._begun = told
        self._known = self._best_f
        low, high = self._region(2.0 * self._scale)
        start = low + (high - low) * random.random(self._x0.size)
        self._run = self._evolution(start / self._scale, sigma, population)

    @property
    def stop(self) -> str | None:
        """Why the last run has ended, or None as long as it goes on or another one follows."""
        if self._restarts != "none" and self._vain >= self._patience:
            return f"{self._vain} runs of doubled populations in turn have found nothing better"
        return None if self._may_restart() else self._ended()
