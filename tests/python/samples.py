"""A sample of an operation: how to call it, a reference, inputs; and how inputs are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjoint as ad


@dataclass(frozen=True)
class Sample:
    """One call: `call` on tensors and `reference` on arrays take the same `args`."""

    op: str
    label: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    args: tuple[Any, ...]
    smooth: bool = True
    same_bits: bool = True  # whatever the strides: not where a BLAS is asked
    tolerance: float = 4e-15  # of the value, relative
    variable: tuple[int, ...] | None = None  # which args have derivatives; None: all floating ones

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"

    @property
    def moved(self) -> tuple[int, ...]:
        if self.variable is not None:
            return self.variable
        return tuple(i for i, a in enumerate(self.args) if a.dtype.kind == "f")


rng = np.random.default_rng(7)


def floats(*shape: int, low: float = -1.5, high: float = 1.5) -> Any:
    return np.asarray(rng.uniform(low, high, shape))


def apart(*shape: int) -> Any:
    """Values in random order, no two closer than 0.3: no tie within a step of differences."""
    count = int(np.prod(shape))
    return (rng.permutation(count) * 0.3 - 0.15 * count).reshape(shape)


def same_as_numpy(
    name: str, label: str, arguments: tuple[Any, ...], /, *rest: Any, **kwargs: Any
) -> Sample:
    """A function that NumPy has under the same name, with the same further arguments."""
    ours, theirs = getattr(ad, name), getattr(np, name)
    return Sample(
        name,
        label,
        lambda *t: ours(*t, *rest, **kwargs),
        lambda *a: theirs(*a, *rest, **kwargs),
        arguments,
    )
