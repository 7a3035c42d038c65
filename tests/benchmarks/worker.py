"""One variant of one workload in a process of its own, sampled when the controller asks.

Requests and answers are lines of JSON on standard input and output. The controller lets one
worker run at a time, so all of them are pinned to the same core.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from typing import Any

from contract import Measured, Run, to_float64

# A sample is long against the clock's own cost, and short enough to be interleaved finely.
SAMPLE_SECONDS = 0.01


class WrongResult(Exception):
    """A result disagrees with the float64 reference."""


class Sampler:
    """One case, checked once and then timed in batches of a fixed number of calls."""

    def __init__(self, module: Any, variant: str, case: str) -> None:
        self._per = module.PER(case) if hasattr(module, "PER") else 1
        prepared = module.VARIANTS[variant](case)
        self._measured: Measured | None = None
        if isinstance(prepared, Measured):
            self._measured = prepared
            return
        self._run: Run = prepared
        check(module, case, self._run())
        self._number = 1
        # Twice: the first calls also fill caches and compile.
        for _ in range(2):
            seconds = self._time()
            self._number = max(1, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-9)))

    def _time(self) -> float:
        run = self._run
        start = time.process_time()
        for _ in range(self._number):
            run()
        return (time.process_time() - start) / self._number

    def sample(self) -> float:
        """Return the cost of one operation."""
        cost = self._time() if self._measured is None else self._measured.measure()
        return cost / self._per


def check(module: Any, case: str, result: Any) -> None:
    """Compare every array of a result with the reference, relative to its largest entry."""
    import numpy as np

    actual, expected = to_float64(result), to_float64(module.reference(case))
    if len(actual) != len(expected):
        raise WrongResult(f"{len(actual)} results where {len(expected)} are expected")
    for got, want in zip(actual, expected, strict=True):
        if got.shape != want.shape:
            raise WrongResult(f"shape {got.shape} where {want.shape} is expected")
        error, size = np.abs(got - want).max(), np.abs(want).max()
        if not error <= module.TOLERANCE * size:
            raise WrongResult(f"off by {error:.2e} where the largest entry is {size:.2e}")


def answer(module: Any, variant: str, sampler: Sampler | None, request: Any) -> Any:
    if request["do"] == "sample":
        assert sampler is not None
        return sampler, {"cost": sampler.sample()}
    try:
        return Sampler(module, variant, request["case"]), {}
    except ModuleNotFoundError as error:
        return None, {"missing": f"{error.name} is missing"}
    except Exception as error:
        return None, {"error": f"{type(error).__name__}: {error}"}


def main(name: str, variant: str) -> None:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    module = importlib.import_module(f"workloads.{name}")
    sampler: Sampler | None = None
    for line in sys.stdin:
        sampler, reply = answer(module, variant, sampler, json.loads(line))
        print(json.dumps(reply), file=answers, flush=True)
