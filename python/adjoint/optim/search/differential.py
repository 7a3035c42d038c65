"""Differential evolution, whose parameters adapt themselves."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from adjoint._arguments import check_choice, check_count
from adjoint.optim.options import check_range
from adjoint.optim.search.base import Array, Search

__all__ = ["DifferentialEvolution"]

_STRATEGIES = ("best1bin", "rand1bin", "current-to-pbest1bin")


class DifferentialEvolution(Search):
    """Differential evolution [1]_: points move along differences of others.

    For rugged functions of up to some dozens of variables, with bounds. Each member of the
    population has a challenger, made of other members, which takes its place if it is not worse;
    all challengers of a generation are evaluated together.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`. The first population is a Latin hypercube over the box of the bounds where
        both are finite, else over `x0` plus and minus `scale`; `x0` is one of its members. A
        coordinate of a challenger beyond the bounds is put half-way from its member to the bound.
    scale : float or array_like of shape (n,), optional
        Half the width of the box where bounds are not finite; by default half of the larger of 1
        and ``abs(x0)``.
    population_size : int, optional
        At least 5; by default ``max(20, min(10 * n, 100))``.
    strategy : {"best1bin", "rand1bin", "current-to-pbest1bin"}
        What a challenger is made of before its crossover with the member: "best1bin" the best one
        and a difference of two others, fast; "rand1bin" three others, thorough;
        "current-to-pbest1bin" the member itself moved towards one of the best tenth and along a
        difference [3]_.
    mutation : float, optional
        The factor of differences, in (0, 2]. By default each member has one of its own, which
        changes at random now and then and is kept where its challenger wins [2]_.
    crossover : float, optional
        The probability that a coordinate comes from the mutant, in [0, 1]; by default as with
        `mutation`.
    tol : float, default 1e-10
        `stop` says so when the values of the population differ by at most `tol` times their size,
        or `tol` itself; where all values told so far lie closer together than 1, `tol` times what
        they differ by.

    References
    ----------
    .. [1] R. Storn, K. Price, "Differential evolution: a simple and efficient heuristic for global
       optimization over continuous spaces", J. Glob. Optim. 11 (1997) 341-359.
    .. [2] J. Brest, S. Greiner, B. Bošković, M. Mernik, V. Žumer, "Self-adapting control parameters
       in differential evolution", IEEE Trans. Evol. Comput. 10 (2006) 646-657.
    .. [3] J. Zhang, A. C. Sanderson, "JADE: adaptive differential evolution with optional external
       archive", IEEE Trans. Evol. Comput. 13 (2009) 945-958.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.search import DifferentialEvolution
    >>> search = DifferentialEvolution([3.0, 3.0], bounds=(-5.0, 5.0), seed=0)
    >>> while search.stop is None:
    ...     xs = search.ask()
    ...     search.tell(xs, np.sum(xs**2 - 10 * np.cos(2 * np.pi * xs) + 10, axis=1))
    >>> bool(search.best_f < 1e-8)
    True
    """

    _state: ClassVar[tuple[str, ...]] = (
        *("_population", "_values", "_factors", "_rates", "_begun"),
    )

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        scale: Any = None,
        population_size: int | None = None,
        strategy: str = "current-to-pbest1bin",
        mutation: float | None = None,
        crossover: float | None = None,
        tol: float = 1e-10,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        n, who = self._x0.size, "DifferentialEvolution"
        check_choice(who, "strategy", strategy, _STRATEGIES)
        self._strategy = strategy
        if population_size is None:
            population_size = max(20, min(10 * n, 100))
        self._size = check_count(who, "population_size", population_size, 5)
        self._mutation, self._crossover = mutation, crossover
        if mutation is not None:
            self._mutation = check_range(
                who, "mutation", mutation, 0.0, 2.0, above=True, closed=True
            )
        if crossover is not None:
            self._crossover = check_range(who, "crossover", crossover, 0.0, 1.0, closed=True)
        self._tol = check_range(who, "tol", tol, 0.0, math.inf, closed=True)
        self._scale = self._scales(scale)
        self._factors = np.full(self._size, 0.5 if mutation is None else self._mutation)
        self._rates = np.full(self._size, 0.9 if crossover is None else self._crossover)
        self._population = self._first()
        self._values = np.full(self._size, math.inf)
        self._begun = False
        self._drawn = self._factors, self._rates  # what the challengers that are asked have

    def _first(self) -> Array:
        random, shape = self._random(1), (self._size, self._x0.size)
        strata = random.permuted(np.tile(np.arange(shape[0])[:, None], shape[1]), axis=0)
        unit = (strata + random.random(shape)) / shape[0]
        low, high = self._region(self._scale)
        population = low + (high - low) * unit
        population[0] = self._x0
        return population

    def _ask(self) -> Array:
        return self._challengers() if self._begun else self._population.copy()

    def _challengers(self) -> Array:
        """Return the challengers, and keep the factors and rates that they are made with."""
        random, members = self._random(), self._population
        size, n = members.shape
        self._drawn = factors, rates = self._changed(random)
        one, two, three = _others(random, size)
        f = factors[:, None]
        best = members[np.argmin(self._values)]
        with np.errstate(over="ignore", invalid="ignore"):  # of members at the ends of the numbers
            if self._strategy == "best1bin":
                mutants = best + f * (members[one] - members[two])
            elif self._strategy == "rand1bin":
                mutants = members[three] + f * (members[one] - members[two])
            else:
                leaders = np.argsort(self._values, kind="stable")[: max(2, size // 10)]
                chosen = members[leaders[random.integers(len(leaders), size=size)]]
                mutants = members + f * (chosen - members) + f * (members[one] - members[two])
        mutants = np.where(np.isfinite(mutants), mutants, members)
        crossed = random.random((size, n)) < rates[:, None]
        crossed[np.arange(size), random.integers(n, size=size)] = True
        trial = np.where(crossed, mutants, members)
        trial = np.where(trial < self._lower, 0.5 * members + 0.5 * self._lower, trial)
        trial = np.where(trial > self._upper, 0.5 * members + 0.5 * self._upper, trial)
        return self._within(trial)

    def _changed(self, random: np.random.Generator) -> tuple[Array, Array]:
        """Return factors and rates, one in ten drawn afresh."""
        draws = random.random((4, self._size))
        factors, rates = self._factors, self._rates
        if self._mutation is None:
            factors = np.where(draws[0] < 0.1, 0.1 + 0.9 * draws[1], factors)
        if self._crossover is None:
            rates = np.where(draws[2] < 0.1, draws[3], rates)
        return factors, rates

    def _tell(self, xs: Array, values: Array) -> None:
        if not self._begun:
            self._begun, self._values = True, values.copy()
            return
        factors, rates = self._drawn
        won = values <= self._values
        self._population = np.where(won[:, None], xs, self._population)
        self._values = np.where(won, values, self._values)
        self._factors = np.where(won, factors, self._factors)
        self._rates = np.where(won, rates, self._rates)

    @property
    def stop(self) -> str | None:
        """Why nothing more is to be expected: the values, or the points, have become equal."""
        low, high = float(np.min(self._values)), float(np.max(self._values))
        if math.isfinite(high) and high - low <= self._tol * max(self._value_scale(), abs(low)):
            return "the values of the population have become equal within tol"
        if self._begun and np.all(np.ptp(self._population, axis=0) == 0.0):
            return "the points of the population have become equal"
        return None


def _others(random: np.random.Generator, size: int) -> Any:
    """Return three members for each, all of them different and different from it."""
    ranks = np.argsort(random.random((size, size - 1)), axis=1, kind="stable")[:, :3]
    return (ranks + (ranks >= np.arange(size)[:, None])).T
