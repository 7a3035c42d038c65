"""Resident bytes per recorded scalar operation: a chain of which only the end is held."""

from contract import AtMost, Measured
from workloads.resident import status

CASES = ("",)
UNIT = "B"
BARS = (AtMost(200),)
N = 500_000


def bytes_per_node(x):
    def measure():
        y = x + 1.0
        before = status("VmRSS")
        for _ in range(N):
            y = y + 1.0
        return (status("VmRSS") - before) / N

    # What an earlier chain left with the allocator would be used again: measure once.
    cost = measure()
    return Measured(lambda: cost)


def adjoint(case):
    import adjoint as ad

    return bytes_per_node(ad.tensor(0.5, requires_grad=True))


def torch(case):
    import torch

    return bytes_per_node(torch.tensor(0.5, dtype=torch.float64, requires_grad=True))


VARIANTS = {"adjoint": adjoint, "torch": torch}
