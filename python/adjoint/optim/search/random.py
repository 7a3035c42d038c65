"""Random search: points from a distribution, or around the best one."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from adjoint._arguments import check_choice, check_count
from adjoint.optim.search.base import Array, Search, reflected

__all__ = ["RandomSearch"]

Digits = npt.NDArray[np.int64]
_SAMPLINGS = ("local", "gaussian", "uniform", "halton")


class RandomSearch(Search):
    """Random search: evaluate random points and keep the best.

    The first point is `x0` itself.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`.
    sampling : {"local", "gaussian", "uniform", "halton"}
        Where points come from:

        * "local": a normal distribution around the best point so far, whose width grows when a
          better one is found and shrinks when none is, so that about one step in five succeeds
          [1]_, [2]_;
        * "gaussian": a normal distribution around `x0`, of standard deviation `scale`;
        * "uniform": independent points of a box: the bounds where both are finite, else `x0` plus
          and minus `scale`;
        * "halton": a low-discrepancy sequence in the same box, Halton's with digits permuted at
          random [3]_: evenly spread, for any number of points.
    scale : float or array_like of shape (n,), optional
        A length per coordinate. By default a quarter of the distance between finite bounds, or
        half of the larger of 1 and ``abs(x0)``.
    batch_size : int, default 1
        How many points `ask` returns. "local" takes a batch as one step.

    References
    ----------
    .. [1] M. A. Schumer, K. Steiglitz, "Adaptive step size random search", IEEE Trans. Autom.
       Control 13 (1968) 270-276.
    .. [2] I. Rechenberg, "Evolutionsstrategie", Frommann-Holzboog, 1973.
    .. [3] A. B. Owen, "A randomized Halton algorithm in R", arXiv:1706.02808, 2017.

    Examples
    --------
    >>> from adjoint.optim.search import RandomSearch
    >>> search = RandomSearch([0.5], bounds=(0.0, 1.0), sampling="halton", seed=1, batch_size=5)
    >>> xs = search.ask()
    >>> xs.shape
    (5, 1)
    >>> search.tell(xs, xs[:, 0] ** 2)
    >>> bool(search.best_f == min(xs[:, 0] ** 2))
    True
    """

    _state: ClassVar[tuple[str, ...]] = ("_width", "_before")

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        sampling: str = "local",
        scale: Any = None,
        batch_size: int = 1,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        check_choice("RandomSearch", "sampling", sampling, _SAMPLINGS)
        self._sampling = sampling
        self._scale = self._scales(scale)
        self._batch_size = check_count("RandomSearch", "batch_size", batch_size, 1)
        self._width = 1.0  # of "local", in units of the scale
        self._before = math.inf  # the best value one step ago
        self._digits: tuple[int, list[list[Digits]]] | None = None  # of "halton", by the seed

    def _ask(self) -> Array:
        shape = (self._batch_size, self._x0.size)
        if self._sampling in ("uniform", "halton"):
            if self._sampling == "uniform":
                unit = self._random().random(shape)
            else:
                unit = halton(self._nfev, shape[0], self._permutations())
            low, high = self._region(self._scale)
            xs = self._within(low + (high - low) * unit)
        else:
            local = self._sampling == "local"
            step = self._scale * self._width if local else self._scale
            centre = self._best_x if local else self._x0
            moved = centre + step * self._random().standard_normal(shape)
            xs = self._within(moved) if local else reflected(moved, self._lower, self._upper)
        if self._nit == 0:
            xs[0] = self._x0
        return xs

    def _tell(self, xs: Array, values: Array) -> None:
        better = self._best_f < self._before
        self._before = self._best_f
        if self._nit:
            # In balance where one step in five is better.
            rate = 0.8 / math.sqrt(self._x0.size)
            self._width = max(self._width * math.exp(rate if better else -rate / 4.0), 1e-300)

    def _permutations(self) -> list[list[Digits]]:
        """Return the permutations of digits that all iterations use."""
        if self._digits is None or self._digits[0] != self._seed:
            random = np.random.Generator(np.random.Philox(key=[self._seed, 1]))
            self._digits = self._seed, permutations(self._x0.size, random)
        return self._digits[1]


def permutations(n: int, random: np.random.Generator) -> list[list[Digits]]:
    """Return a permutation for each place behind the point, in the bases of the first n primes."""
    return [
        [random.permutation(base) for _ in range(math.ceil(53 * math.log(2) / math.log(base)))]
        for base in _primes(n)
    ]


def halton(first: int, count: int, digits: list[list[Digits]]) -> Array:
    """Return `count` points of a randomized Halton sequence in the unit cube, from `first` on.

    Coordinate j has the digits of the index in base of the j-th prime, mirrored behind the point,
    each place with a permutation of its own.
    """
    points = np.zeros((count, len(digits)))
    for j, places in enumerate(digits):
        index, base = np.arange(first, first + count), len(places[0])
        weight = 1.0
        # The places behind the last digit count too: their zeros are permuted as well.
        for permuted in places:
            weight /= base
            points[:, j] += permuted[index % base] * weight
            index //= base
    return np.minimum(points, 1.0 - 2.0**-53)


def _primes(n: int) -> list[int]:
    """Return the first `n` primes."""
    found: list[int] = []
    number = 2
    while len(found) < n:
        if all(number % p for p in found if p * p <= number):
            found.append(number)
        number += 1
    return found
