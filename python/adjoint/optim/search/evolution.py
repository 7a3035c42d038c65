"""One run of CMA-ES: the distribution of its points, how it is adapted, and when it is done.

After N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, 2016, whose names of
constants and default values are kept; the equations' numbers are its own.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from adjoint.optim.search.base import Array

__all__ = ["Evolution", "Rates"]


class Rates:
    """Weights and learning rates, which follow from dimension and population size (Table 1)."""

    def __init__(self, n: int, population: int, diagonal: bool, active: bool) -> None:
        ranks = np.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
        positive, negative = np.maximum(ranks, 0.0), np.minimum(ranks, 0.0)
        self.mu_eff = float(np.sum(positive) ** 2 / np.sum(positive**2))
        mu_eff, c_1 = self.mu_eff, 2.0 / ((n + 1.3) ** 2 + self.mu_eff)
        c_mu = 2.0 * (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / ((n + 2.0) ** 2 + mu_eff)
        if diagonal:  # fewer numbers are learned sooner: Ros and Hansen, PPSN 2008
            c_1, c_mu = c_1 * (n + 2.0) / 3.0, c_mu * (n + 2.0) / 3.0
            c_1 = min(c_1, 0.5)
        c_mu = min(1.0 - c_1, c_mu)
        self.c_1, self.c_mu = c_1, c_mu
        self.c_c = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n)
        self.c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0)
        excess = math.sqrt((mu_eff - 1.0) / (n + 1.0)) - 1.0
        self.d_sigma = 1.0 + 2.0 * max(0.0, excess) + self.c_sigma
        # The expected length of a normal vector, of which the tutorial's expansion is near.
        self.chi = math.sqrt(2.0) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
        self.weights = positive / np.sum(positive)  # of the mean
        self.learned = self.weights.copy()  # of the covariance, some of them negative
        if active and np.any(negative) and c_mu > 0.0:
            mu_minus = float(np.sum(negative) ** 2 / np.sum(negative**2))
            limit = min(
                1.0 + c_1 / c_mu,
                1.0 + 2.0 * mu_minus / (mu_eff + 2.0),
                (1.0 - c_1 - c_mu) / (n * c_mu),  # keeps the matrix positive definite
            )
            self.learned += negative / np.sum(np.abs(negative)) * max(0.0, limit)
        # Between decompositions so many generations pass that they cost little per generation.
        self.lazy = max(1, math.floor(1.0 / (10.0 * n * (c_1 + c_mu))))


def orthogonal(z: Array) -> Array:
    """Return normal rows turned so that each n in turn are orthogonal, with the lengths they had.

    Such points tell more of the directions there are: the orthogonal sampling of H. Wang,
    M. Emmerich, T. Bäck, "Mirrored orthogonal sampling for covariance matrix adaptation evolution
    strategies", Evol. Comput. 27 (2019) 699-725.
    """
    turned = []
    for rows in (z[i : i + z.shape[1]] for i in range(0, len(z), z.shape[1])):
        q, r = np.linalg.qr(rows.T)
        lengths = np.linalg.norm(rows, axis=1)
        turned.append((q * np.where(np.diagonal(r) < 0.0, -lengths, lengths)).T)
    return np.concatenate(turned)


class Evolution:
    """A normal distribution that learns where good points lie, in units of the scale.

    Parameters
    ----------
    mean : ndarray of shape (n,)
    sigma : float
    population : int
        How many points a generation has.
    diagonal : bool
        Learn variances only.
    active : bool
        Learn from bad points too, with negative weights.
    """

    state: ClassVar[tuple[str, ...]] = (
        *("mean", "sigma", "sigma_0", "population", "covariance", "axes", "lengths", "decomposed"),
        *("path_sigma", "path_c", "generation", "bests", "medians", "flat"),
    )
    growing: ClassVar[tuple[str, ...]] = ("bests", "medians", "flat")

    def __init__(
        self, mean: Array, sigma: float, population: int, diagonal: bool, active: bool
    ) -> None:
        n = mean.size
        self.diagonal, self.active = diagonal, active
        self.mean, self.sigma, self.sigma_0, self.population = mean, sigma, sigma, population
        self.covariance = np.ones(n) if diagonal else np.eye(n)
        self.axes = np.zeros((0, 0)) if diagonal else np.eye(n)  # B of (2)
        self.lengths = np.ones(n)  # the diagonal of D
        self.decomposed = 0  # the generation it was done in
        self.path_sigma, self.path_c = np.zeros(n), np.zeros(n)
        self.generation = 0
        self.bests, self.medians = np.zeros(0), np.zeros(0)  # of the values, oldest first
        self.flat = np.zeros(0)  # whether the best of a generation equalled much of it

    @property
    def rates(self) -> Rates:
        """Return the constants, found again where the population has changed."""
        known: tuple[int, Rates] | None = getattr(self, "_rates", None)
        if known is None or known[0] != self.population:
            rates = Rates(self.mean.size, self.population, self.diagonal, self.active)
            self._rates = known = (self.population, rates)
        return known[1]

    def steps(self, z: Array) -> Array:
        """Return steps of the distribution, before sigma, from standard normal rows: y of (39)."""
        scaled: Array = z * self.lengths
        return scaled if self.diagonal else scaled @ self.axes.T

    def mirror(self, folded: Array, flip: npt.NDArray[np.bool_]) -> None:
        """Move to the mirror image in some coordinates: of the mean, and of all around it."""
        self.mean = folded
        sign = np.where(flip, -1.0, 1.0)
        self.path_c = self.path_c * sign
        if self.diagonal:
            self.path_sigma = self.path_sigma * sign
        else:
            self.covariance = self.covariance * np.outer(sign, sign)
            self.axes = self.axes * sign[:, None]
            self.path_sigma = self.path_sigma * sign

    def update(self, y: Array, values: Array) -> None:
        """Learn from the steps of a generation and their values (41 to 47)."""
        order = np.argsort(values, kind="stable")
        y, values, rates, n = y[order], values[order], self.rates, self.mean.size
        chosen = rates.weights @ y
        self.mean = self.mean + self.sigma * chosen
        self.generation += 1
        # The path of sigma, in coordinates in which steps are isotropic.
        c, mu_eff = rates.c_sigma, rates.mu_eff
        self.path_sigma = (1.0 - c) * self.path_sigma + math.sqrt(
            c * (2.0 - c) * mu_eff
        ) * self._whitened(chosen)
        length = float(np.linalg.norm(self.path_sigma))
        settled = math.sqrt(1.0 - (1.0 - c) ** (2 * self.generation))
        h = 1.0 if length / settled < (1.4 + 2.0 / (n + 1.0)) * rates.chi else 0.0
        c_c = rates.c_c
        self.path_c = (1.0 - c_c) * self.path_c + h * math.sqrt(c_c * (2.0 - c_c) * mu_eff) * chosen
        self._learn(y, h)
        growth = (rates.c_sigma / rates.d_sigma) * (length / rates.chi - 1.0)
        self.sigma = self.sigma * math.exp(min(1.0, growth))
        self._note(values)

    def _whitened(self, y: Array) -> Array:
        """Return steps, as rows or one alone, times the inverse root of the covariance."""
        if self.diagonal:
            return np.asarray(y / self.lengths)
        return np.asarray(((y @ self.axes) / self.lengths) @ self.axes.T)

    def _learn(self, y: Array, h: float) -> None:
        """Move the covariance to the path and to the steps (46, 47)."""
        rates, n = self.rates, self.mean.size
        weights = rates.learned.copy()
        bad = weights < 0.0
        if np.any(bad):
            lengths = np.sum(self._whitened(y[bad]) ** 2, axis=1)
            weights[bad] *= n / np.maximum(lengths, 1e-300)
        c_1, c_mu, c_c = rates.c_1, rates.c_mu, rates.c_c
        kept = 1.0 + c_1 * (1.0 - h) * c_c * (2.0 - c_c) - c_1 - c_mu * float(np.sum(rates.learned))
        if self.diagonal:
            learned = c_1 * self.path_c**2 + c_mu * (weights @ y**2)
            self.covariance = kept * self.covariance + learned
            self.lengths = np.sqrt(self.covariance)
            return
        learned = c_1 * np.outer(self.path_c, self.path_c) + c_mu * ((y.T * weights) @ y)
        self.covariance = kept * self.covariance + learned
        if self.generation - self.decomposed >= rates.lazy:
            self._decompose()

    def _decompose(self) -> None:
        self.decomposed = self.generation
        symmetric = 0.5 * (self.covariance + self.covariance.T)
        if not np.all(np.isfinite(symmetric)):
            return  # `done` says so
        squares, axes = np.linalg.eigh(symmetric)
        least = max(squares[-1], 1e-300) * 1e-16
        if squares[0] < least:  # by rounding alone
            squares = np.maximum(squares, least)
            symmetric = (axes * squares) @ axes.T
        self.covariance, self.axes, self.lengths = symmetric, axes, np.sqrt(squares)

    def _note(self, values: Array) -> None:
        """Keep the values that tell whether it still goes on; as many as `done` looks at."""
        third = values[min(len(values) - 1, math.ceil(0.1 + self.population / 4))]
        kept = min(20_000, 120 + int(0.2 * self.generation) + self._horizon(30))
        self.bests = np.append(self.bests, values[0])[-kept:]
        self.medians = np.append(self.medians, values[len(values) // 2])[-kept:]
        self.flat = np.append(self.flat, float(values[0] == third))[-max(self.mean.size, 3) :]

    def _horizon(self, factor: int) -> int:
        return math.ceil(factor * self.mean.size / self.population)

    def done(self, tol: float, xtol: float, known: float = math.inf) -> str | None:
        """Return why the run has ended, as a sentence, or None (appendix B.3).

        `known` is the best value of earlier runs.
        """
        spread = self.sigma * np.sqrt(
            self.covariance if self.diagonal else np.diagonal(self.covariance)
        )
        if not (np.all(np.isfinite(spread)) and np.all(np.isfinite(self.mean))):
            return "the distribution has become infinite"
        if np.all(spread < xtol * self.sigma_0) and np.all(
            self.sigma * np.abs(self.path_c) < xtol * self.sigma_0
        ):
            return "the points lie closer together than xtol"
        recent = self.bests[-(10 + self._horizon(30)) :]
        if len(recent) == 10 + self._horizon(30) and np.isfinite(recent).all():
            if np.ptp(recent) <= tol and abs(self.medians[-1] - self.bests[-1]) <= tol:
                return "the values have become equal within tol"
        if self._hopeless(known):
            return "the points gather where values are worse than the best ones known"
        if len(self.flat) == max(self.mean.size, 3) and np.mean(self.flat) > 1 / 3:
            return "much of the points have equal values"
        if self.sigma * np.max(self.lengths) > 1e8 * self.sigma_0:
            return "the points diverge"
        if np.max(self.lengths) > 1e7 * np.min(self.lengths):
            return "the covariance matrix has a condition number above 1e14"
        return self._without_effect(spread) or self._stagnant()

    def _hopeless(self, known: float) -> bool:
        """Whether the run converges to a worse value than that of an earlier run.

        Near a minimum values fall geometrically, so that at most as much is left to fall as they
        have fallen of late, where that is long enough for them to halve.
        """
        enough = 10 + self._horizon(5)
        recent = self.bests[-enough:]
        if len(recent) < enough or not np.isfinite(recent).all():
            return False
        wanting = np.min(recent) - known
        fallen = max(np.ptp(recent), self.medians[-1] - self.bests[-1])
        return bool(fallen < 0.5 * wanting)

    def _without_effect(self, spread: Array) -> str | None:
        if np.any(self.mean == self.mean + 0.2 * spread):
            return "a step in a coordinate is below the precision of the numbers"
        i = self.generation % self.mean.size
        axis = self.lengths[i] * (np.eye(self.mean.size)[i] if self.diagonal else self.axes[:, i])
        if np.array_equal(self.mean, self.mean + 0.1 * self.sigma * axis):
            return "a step along an axis is below the precision of the numbers"
        return None

    def _stagnant(self) -> str | None:
        """Whether neither bests nor medians of the newest third are below those of the oldest."""
        enough = 120 + self._horizon(30)
        if len(self.bests) < enough or self.generation < enough:
            return None
        part = int(0.3 * len(self.bests))
        for told in (self.bests, self.medians):
            if np.median(told[-part:]) < np.median(told[:part]):
                return None
        return "the values no longer fall"
