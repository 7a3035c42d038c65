"""What a workload file states: its cases, one factory per library, a reference and its bars.

A workload is a module in `workloads/` with

    CASES       the cases it is run for, by name ("" if there is only one)
    UNIT        "s" (CPU seconds), "B" (bytes), "arrays" or "ratio"
    VARIANTS    label -> factory; a factory takes a case, sets up, and returns `run`
    reference   case -> the expected result of the first run(), in float64 and by another route
    TOLERANCE   largest deviation allowed, relative to the largest entry of each array
    PER         case -> how many operations one run() makes (default 1)
    BARS        what must be reached

`run()` does the work once and returns its result, forced, so that what is checked is what is
timed. Where CPU time is not the cost in question, a factory returns `Measured(function)` instead.
A label of the form "adjoint compiled" is a second way of the same library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["AtLeast", "AtMost", "GeometricMean", "Measured", "Run", "to_float64"]

Run = Callable[[], Any]


@dataclass(frozen=True)
class Measured:
    """A cost that is read off rather than timed, in the workload's unit."""

    measure: Callable[[], float]


@dataclass(frozen=True)
class AtMost:
    """The cost per operation of one variant."""

    limit: float
    variant: str = "adjoint"
    cases: tuple[str, ...] | None = None


@dataclass(frozen=True)
class AtLeast:
    """How many times cheaper than a peer one variant is, of the minima."""

    factor: float
    peer: str
    variant: str = "adjoint"
    cases: tuple[str, ...] | None = None


@dataclass(frozen=True)
class GeometricMean:
    """The same against the best peer of each case: the mean over cases, and the worst of them."""

    factor: float
    worst: float
    variant: str = "adjoint"


def to_float64(result: Any) -> list[Any]:
    """Flatten a result of any of the libraries into NumPy arrays of float64."""
    import numpy as np

    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [array for part in result for array in to_float64(part)]
    if hasattr(result, "detach"):
        result = result.detach()
    return [np.asarray(result, dtype=np.float64)]
