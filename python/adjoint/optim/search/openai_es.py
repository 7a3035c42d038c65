"""The evolution strategy of Salimans et al.: a smoothed gradient from pairs of points, for Adam."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from adjoint._arguments import check_count
from adjoint.optim.options import check_range
from adjoint.optim.search.base import Array, Search, reflected

__all__ = ["OpenAIES"]


class OpenAIES(Search):
    """Evolution strategy with antithetic sampling [1]_.

    A generation evaluates pairs of points ``x + s e`` and ``x - s e`` with normal e, and for the
    record `x` itself. Their ranks, not their values, weigh the directions e into a gradient of the
    function smoothed over a width s, which Adam [2]_ follows. For thousands of variables, noisy
    values, and many workers.

    Parameters
    ----------
    x0, bounds, seed
        See `Search`. Points beyond the bounds are mirrored at them.
    scale : float or array_like of shape (n,), optional
        s per coordinate. By default a twentieth of what `CMAES` takes: a twentieth of a quarter of
        the distance between finite bounds, or of half of the larger of 1 and ``abs(x0)``.
    population_size : int, optional
        How many points in pairs, an even number; by default 4 + 3 log(n), at least 16, made even.
    learning_rate : float, default 1.0
        The length of a step of Adam in units of the scale.
    decay : float, default 1.0
        What scale and learning rate are multiplied by after each generation, in (0, 1]; below 1 the
        search converges, at 1 it keeps finding its way.
    beta1, beta2 : float
        Adam's, in [0, 1).

    References
    ----------
    .. [1] T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever, "Evolution strategies as a scalable
       alternative to reinforcement learning", arXiv:1703.03864, 2017.
    .. [2] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.search import OpenAIES
    >>> search = OpenAIES(np.ones(50), seed=0, decay=0.995)
    >>> for _ in range(1000):
    ...     xs = search.ask()
    ...     search.tell(xs, np.sum(xs**2, axis=1))
    >>> bool(search.best_f < 1e-2)
    True
    """

    _state: ClassVar[tuple[str, ...]] = ("_x", "_m", "_v", "_steps", "_width")

    def __init__(
        self,
        x0: Any,
        *,
        bounds: Any = None,
        seed: int | None = None,
        scale: Any = None,
        population_size: int | None = None,
        learning_rate: float = 1.0,
        decay: float = 1.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
    ) -> None:
        super().__init__(x0, bounds=bounds, seed=seed)
        n = self._x0.size
        self._scale = self._scales(scale) if scale is not None else 0.05 * self._scales(None)
        if population_size is None:
            population_size = 2 * max(8, round(2 + 1.5 * float(np.log(n))))
        self._size = check_count("OpenAIES", "population_size", population_size, 2)
        if self._size % 2:
            raise ValueError(f"[OpenAIES] population_size must be even, got {self._size}")
        self._rate = check_range("OpenAIES", "learning_rate", learning_rate, 0.0, math.inf)
        self._decay = check_range("OpenAIES", "decay", decay, 0.0, 1.0, above=True, closed=True)
        self._beta1 = check_range("OpenAIES", "beta1", beta1, 0.0, 1.0)
        self._beta2 = check_range("OpenAIES", "beta2", beta2, 0.0, 1.0)
        self._x = self._x0.copy()
        self._m, self._v, self._steps = np.zeros(n), np.zeros(n), 0
        self._width = 1.0
        self._drawn: Array | None = None  # the directions of the points that are asked

    @property
    def x(self) -> Array:
        """Where the search stands: with noise a better answer than `best_x`; a copy."""
        return self._x.copy()

    def _ask(self) -> Array:
        shape = (self._size // 2, self._x0.size)
        self._drawn = self._random().standard_normal(shape)
        step = self._width * self._scale * self._drawn
        xs = np.concatenate([self._x + step, self._x - step, self._x[None]])
        return reflected(xs, self._lower, self._upper)

    def _tell(self, xs: Array, values: Array) -> None:
        assert self._drawn is not None
        pairs = values[:-1]
        if np.all(pairs == pairs[0]):
            return  # flat, or nothing but nan: other directions are tried
        ranks = _centred_ranks(pairs)
        half = self._size // 2
        slope = (ranks[:half] - ranks[half:]) @ self._drawn / self._size
        self._steps += 1
        self._m = self._beta1 * self._m + (1.0 - self._beta1) * slope
        self._v = self._beta2 * self._v + (1.0 - self._beta2) * slope**2
        m = self._m / (1.0 - self._beta1**self._steps)
        v = self._v / (1.0 - self._beta2**self._steps)
        step = self._rate * self._width * self._scale * m / (np.sqrt(v) + 1e-12)
        self._x = self._within(self._x - step)
        self._width = max(self._width * self._decay, 1e-300)


def _centred_ranks(values: Array) -> Array:
    """Return ranks from -1/2 for the least to 1/2; equal values have equal ones."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values), np.searchsorted(ordered, values, side="right")
    ranks: Array = 0.5 * (first + last - 1) / (values.size - 1) - 0.5
    return ranks
