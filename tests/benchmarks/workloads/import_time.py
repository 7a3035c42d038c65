"""CPU time of the import in a fresh interpreter, over that of a bare one."""

import resource
import subprocess
import sys

from contract import AtMost, Measured

CASES = ("",)
UNIT = "s"
BARS = (AtMost(15e-3),)


def cpu(code):
    """Return the least of three runs."""
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(costs)


def importing(name):
    def prepare(case):
        __import__(name)  # missing packages are reported here
        return Measured(lambda: cpu(f"import {name}") - cpu("pass"))

    return prepare


VARIANTS = {name: importing(name) for name in ("adjoint", "numpy", "torch", "jax")}
