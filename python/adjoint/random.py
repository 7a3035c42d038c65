"""Random numbers whose state is a tensor, so that drawing can be compiled and is reproducible.

The numbers come from Philox4x32-10, a counter-based generator: a draw is a function of (key,
counter) alone, the same on every machine and for every number of threads.

>>> import adjoint as ad
>>> ad.random.Generator(0).uniform((2, 3)).shape
(2, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from adjoint import _core
from adjoint._arguments import check_count, check_entries, check_int
from adjoint._core import DType, Tensor
from adjoint._dtypes import finfo, iinfo

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
        Key and counter, two uint64 words; each draw rebinds it to the next counter. Inside `vmap`
        each member of the batch gets numbers of its own from a generator that was made outside.

    Examples
    --------
    >>> import adjoint as ad
    >>> a, b = ad.random.Generator(7), ad.random.Generator(7)
    >>> bool(ad.all(a.normal((3,)) == b.normal((3,))))
    True
    """

    def __init__(self, seed: int) -> None:
        seed = check_int("Generator", "the seed", seed)
        if not 0 <= seed < 2**64:
            raise ValueError(f"[Generator] the seed must be in [0, 2**64), got {seed}")
        self.state = _core.asarray([seed, 0], dtype=_core.uint64)

    def uniform(
        self, shape: Shape = (), low: Any = 0.0, high: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the uniform distribution on [low, high).

        No value equals `high`: one that rounding would take there is the largest number below it.
        Where there is no number of the dtype between the limits, all values are `low`.
        """
        _check_order("uniform", "low", low, "high", high)
        plain = type(low) is float and type(high) is float and (low, high) == (0.0, 1.0)
        moved = None if plain else lambda unit: _between(low, high, unit)
        return self._draw(_core._random_uniform, shape, _floating("uniform", dtype), moved=moved)

    def normal(
        self, shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the normal distribution."""
        _check_order("normal", "0", 0, "std", std)
        plain = type(mean) is float and type(std) is float and (mean, std) == (0.0, 1.0)
        moved = None if plain else lambda unit: mean + std * unit
        return self._draw(_core._random_normal, shape, _floating("normal", dtype), moved=moved)

    def integers(
        self, low: int, high: int | None = None, shape: Shape = (), *, dtype: Any = None
    ) -> Tensor:
        """Draw integers from [low, high), or from [0, low) when `high` is left out."""
        low = check_int("integers", "low", low)
        low, high = (0, low) if high is None else (low, check_int("integers", "high", high))
        if not low < high:
            raise ValueError(f"[integers] needs low < high, got {low} and {high}")
        chosen = _core.int64 if dtype is None else DType(dtype)
        limits, drawn_in = iinfo(chosen), iinfo(_core.int64)
        if low < max(limits.min, drawn_in.min) or high > min(limits.max + 1, drawn_in.max):
            raise ValueError(f"[integers] [{low}, {high}) does not fit {chosen}, or int64")
        drawn = self._draw(_core._random_integers, shape, low, high)
        return drawn if dtype is None else _core.astype(drawn, chosen)

    def permutation(self, n: int) -> Tensor:
        """Return the integers below `n` in random order."""
        n = check_count("permutation", "n", n)
        keys = self.uniform((n,))
        if hasattr(_core, "argsort"):
            return _core.argsort(keys)
        numbers = keys.tolist()
        return _core.asarray(sorted(range(n), key=numbers.__getitem__), dtype=_core.int64)

    def _draw(
        self,
        kind: Callable[..., Tensor],
        shape: Shape,
        *parameters: Any,
        moved: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Draw `shape`, then step over what the draw has used; one that fails uses nothing.

        Each member of a batch that the generator is from outside of gets numbers of its own.
        """
        one = hasattr(type(shape), "__index__")
        extents = (shape,) if one else check_entries("random", "shape", shape)
        dims = tuple(check_count("random", "an extent of shape", extent) for extent in extents)
        dims = (*_core._batches_of(self.state), *dims)
        state = self.state.detach()
        # One block of the cipher gives four 32-bit words; two are kept per element.
        blocks = prod(dims) // 2 + 1
        drawn = _core._as_batched(kind(state, dims, *parameters), self.state)
        if moved is not None:
            drawn = moved(drawn)
        self.state.rebind_(state + _core.asarray([0, blocks], dtype=_core.uint64))
        return drawn

    def __repr__(self) -> str:
        return f"Generator(state={self.state.tolist()})"


def _number_below(x: Tensor) -> Tensor:
    """Return the next number below, or the second next where that is subnormal or almost."""
    limits = finfo(x.dtype)
    half = limits.eps / 2  # Rump, Zimmermann, Boldo, Melquiond, BIT 49 (2009)
    return x - (_core.abs(x) * (half * (1 + limits.eps)) + limits.smallest_normal * limits.eps)


def _between(low: Any, high: Any, unit: Tensor) -> Tensor:
    """Return low + (high - low) * unit, below `high`, where `unit` is in [0, 1)."""
    # By halves, which has the same bits unless they are subnormal: the difference could overflow.
    numbers = isinstance(low, (int, float)) and isinstance(high, (int, float))
    scale = 1.0 if numbers and max(abs(low), abs(high)) < 1e-30 else 0.5
    start, end = low * scale, high * scale
    drawn = start + (end - start) * unit
    with _core.no_grad():
        first, last, point = (
            _core.stop_gradient(_core.asarray(x, dtype=drawn.dtype)) for x in (start, end, drawn)
        )
        below = _core.maximum(_number_below(last), first)
        excess = _core.where(point < last, 0.0, point - below)
    limited: Tensor = (drawn - excess) / scale
    return limited


def _floating(op: str, dtype: Any) -> DType:
    chosen = _core.float64 if dtype is None else DType(dtype)
    if chosen.kind != "f":
        raise TypeError(f"[{op}] dtype must be floating, got {chosen}")
    return chosen


def _check_order(op: str, what: str, low: Any, other: str, high: Any) -> None:
    """Raise unless two limits are numbers in order; tensors are not looked into."""
    for name, value in ((what, low), (other, high)):
        if isinstance(value, (bool, str, bytes)) or value is None:
            raise TypeError(
                f"[{op}] {name} must be a number or a tensor, not a {type(value).__name__}"
            )
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and not low <= high:
        raise ValueError(f"[{op}] {other} must be at least {what}, got {low} and {high}")
