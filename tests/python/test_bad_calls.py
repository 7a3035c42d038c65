"""The sweep of bad calls: none crashes, hangs, speaks of the inside or changes a tensor.

Each worker is a process of its own, so that a crash is a failure with the number of the call that
made it. ``ADJOINT_BAD_CALLS`` asks for so many calls in place of the few seconds' worth of a usual
run; ``ADJOINT_BAD_CALLS_SEED`` for another sequence of them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import bad_calls
import bad_values

PROGRAM = Path(bad_calls.__file__)
WORKERS = 3
SECONDS = 5.0
SEED = int(os.environ.get("ADJOINT_BAD_CALLS_SEED", "20261127"))
COUNT = int(os.environ.get("ADJOINT_BAD_CALLS", "0")) // WORKERS


def sweep(seed: int, *options: str) -> list[str]:
    """Run a worker, and return the faults it found."""
    with tempfile.TemporaryFile() as progress:
        done = subprocess.run(
            [sys.executable, PROGRAM, str(seed), "--progress", str(progress.fileno()), *options],
            capture_output=True,
            text=True,
            pass_fds=(progress.fileno(),),
            errors="replace",
        )
        reached = os.pread(progress.fileno(), 12, 0).decode().strip()
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    faults = [
        f"{seed}:{x['call']} {x['fault']}: {x['shown']}: {x['error']} {x['where']}"
        for x in lines
        if "fault" in x
    ]
    if done.returncode != 0:
        how = f"ended by {done.returncode} in call {seed}:{reached}"
        faults.append(f"{how}\n{done.stderr[-3000:]}")
    return faults


@pytest.mark.parametrize("worker", range(WORKERS))
def test_bad_calls(worker: int) -> None:
    budget = ["--count", str(COUNT)] if COUNT else ["--seconds", str(SECONDS)]
    faults = sweep(SEED + worker, *budget)
    assert not faults, "\n".join(faults[:20])


def test_the_whole_namespace_is_called() -> None:
    names = set(bad_calls.targets())
    assert {
        "sum",
        "tree.map",
        "linalg.qr",
        "io.save",
        "nn.Linear",
        "optim.Adam",
        "Tensor.__getitem__",
    } <= names
    assert {"Variable.assign", "GradientTape.gradient", "Generator.normal", "leaf.grad ="} <= names
    assert len(names) > 350


def test_every_bad_value_can_be_made() -> None:
    for make in bad_values.BAD.values():
        make()


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (AttributeError("'list' object has no attribute 'shape'"), "AttributeError"),
        (TypeError("f(): incompatible function arguments."), "the inside"),
        (RuntimeError("std::bad_alloc"), "the inside"),
        (RuntimeError("no name"), "names no operation"),
        (RuntimeError("[sum] a name"), None),
        (MemoryError("[zeros]"), "small input"),
        (RecursionError(), "RecursionError"),
        (ValueError("anything"), None),
    ],
)
def test_what_the_sweep_takes_for_a_fault(error: Exception, complaint: str | None) -> None:
    call = bad_calls.Call("sum", lambda x: x, random.Random(0))
    call.labels = []
    found = bad_calls.complaint("sum", error, call)
    assert (found is None) if complaint is None else (found and complaint in found)
