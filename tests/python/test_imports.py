"""Importing beside other libraries, in both orders, each in a process of its own.

An interpreter that has loaded many libraries has little static space left for thread-locals, and
C++ runtimes, OpenMP runtimes and BLAS libraries of others may come first.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys

import pytest

import adjoint._core
from cpp_cases import run

# A call of each, since some load their libraries at the first.
OTHERS = {
    "matplotlib.pyplot": "matplotlib.pyplot.figure()",
    "scipy.fft": "scipy.fft.fft([1.0, 2.0])",
    "scipy.optimize": "scipy.optimize.minimize(lambda x: float(x[0]) ** 2, [1.0])",
    "scipy.spatial": "scipy.spatial.Delaunay([[0, 0], [0, 1], [1, 0]])",
    "sklearn.linear_model": "sklearn.linear_model.LinearRegression().fit([[0.0], [1.0]], [0, 1])",
    "torch": "torch.ones(3, 3) @ torch.ones(3, 3)",
}
OWN = """
x = adjoint.ones((200, 200))
assert adjoint.grad(lambda w: adjoint.sum(w @ w))(x)[0, 0].item() == 400.0
"""


@pytest.mark.parametrize("adjoint_first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("other", OTHERS)
def test_import_beside(other: str, adjoint_first: bool) -> None:
    if importlib.util.find_spec(other.partition(".")[0]) is None:
        pytest.skip(f"{other} is not installed")
    theirs = f"import {other}\n{OTHERS[other]}\n"
    ours = f"import adjoint\n{OWN}"
    program = ours + theirs + OWN if adjoint_first else theirs + ours + OTHERS[other]
    done = run(sys.executable, "-c", program, timeout=300, env={"MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stdout[-2000:]


def test_all_others_at_once() -> None:
    """The static space that is left is least here."""
    found = [o for o in OTHERS if importlib.util.find_spec(o.partition(".")[0]) is not None]
    program = "".join(f"import {other}\n" for other in found) + f"import adjoint\n{OWN}"
    done = run(sys.executable, "-c", program, timeout=300, env={"MPLBACKEND": "agg"})
    assert done.returncode == 0, done.stdout[-2000:]


def test_only_own_thread_locals_take_static_space() -> None:
    """A relocation of the model initial-exec that names a symbol is a thread-local of another
    library: what is defined here is hidden and has none."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not installed")
    done = run(readelf, "--wide", "--relocs", "--segments", adjoint._core.__file__)
    assert done.returncode == 0, done.stdout[-2000:]
    model = re.compile(r"R_(X86_64_TPOFF64|AARCH64_TLS_TPREL\w*)")
    fields = [line.split() for line in done.stdout.splitlines() if model.search(line)]
    assert fields, "the pointers of threads are expected to be of this model"
    assert [f for f in fields if len(f) > 4] == []  # the fifth is a symbol
    space = re.search(r"^ +TLS(?: +0x[0-9a-f]+){4} +(0x[0-9a-f]+)", done.stdout, re.M)
    assert space is not None
    assert int(space[1], 16) <= 64  # of some 500 bytes that all libraries share
