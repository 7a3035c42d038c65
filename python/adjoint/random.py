"""Random numbers whose state is a tensor, so that drawing can be compiled and is reproducible.

The numbers come from Philox4x32-10, a counter-based generator: a draw is a function of (key,
counter) alone, the same on every machine and for every number of threads.

>>> import adjoint as ad
>>> ad.random.Generator(0).uniform((2, 3)).shape
(2, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from adjoint import _core
from adjoint._arguments import check_count, check_entries, check_int
from adjoint._core import DType, Tensor

__all__ = ["Generator"]

Shape = int | Sequence[int]


class Generator:
    """A stream of random tensors.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1. Equal seeds give equal streams.

    Attributes
    ----------
    state : Tensor
        Key and counter, two uint64 words; each draw rebinds it to the next counter.

    Examples
    --------
    >>> import adjoint as ad
    >>> a, b = ad.random.Generator(7), ad.random.Generator(7)
    >>> bool(ad.all(a.normal((3,)) == b.normal((3,))))
    True
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"[Generator] the seed must be an int, not {type(seed).__name__}")
        seed = seed.__index__()
        if not 0 <= seed < 2**64:
            raise ValueError(f"[Generator] the seed must be in [0, 2**64), got {seed}")
        self.state = _core.asarray([seed, 0], dtype=_core.uint64)

    def uniform(
        self, shape: Shape = (), low: Any = 0.0, high: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the uniform distribution on [low, high)."""
        unit = _core._random_uniform(*self._next(shape), _floating("uniform", dtype))
        if type(low) is float and type(high) is float and (low, high) == (0.0, 1.0):
            return unit
        scaled: Tensor = low + (high - low) * unit
        return scaled

    def normal(
        self, shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the normal distribution."""
        unit = _core._random_normal(*self._next(shape), _floating("normal", dtype))
        if type(mean) is float and type(std) is float and (mean, std) == (0.0, 1.0):
            return unit
        scaled: Tensor = mean + std * unit
        return scaled

    def integers(
        self, low: int, high: int | None = None, shape: Shape = (), *, dtype: Any = None
    ) -> Tensor:
        """Draw integers from [low, high), or from [0, low) when `high` is left out."""
        low = check_int("integers", "low", low)
        low, high = (0, low) if high is None else (low, check_int("integers", "high", high))
        if not low < high:
            raise ValueError(f"[integers] needs low < high, got {low} and {high}")
        drawn = _core._random_integers(*self._next(shape), low, high)
        return drawn if dtype is None else _core.astype(drawn, DType(dtype))

    def permutation(self, n: int) -> Tensor:
        """Return the integers below `n` in random order."""
        n = check_count("permutation", "n", n)
        keys = self.uniform((n,))
        if hasattr(_core, "argsort"):
            return _core.argsort(keys)
        numbers = keys.tolist()
        return _core.asarray(sorted(range(n), key=numbers.__getitem__), dtype=_core.int64)

    def _next(self, shape: Shape) -> tuple[Tensor, tuple[int, ...]]:
        """Return the state to draw `shape` from, and step over what the draw uses."""
        extents = (
            (shape,)
            if hasattr(type(shape), "__index__")
            else check_entries("random", "shape", shape)
        )
        dims = tuple(check_count("random", "an extent of shape", n) for n in extents)
        state = self.state.detach()
        # One block of the cipher gives four 32-bit words; two are kept per element.
        blocks = prod(dims) // 2 + 1
        self.state.rebind_(state + _core.asarray([0, blocks], dtype=_core.uint64))
        return state, dims

    def __repr__(self) -> str:
        return f"Generator(state={self.state.tolist()})"


def _floating(op: str, dtype: Any) -> DType:
    chosen = _core.float64 if dtype is None else DType(dtype)
    if chosen.kind != "real floating":
        raise TypeError(f"[{op}] dtype must be floating, got {chosen}")
    return chosen
