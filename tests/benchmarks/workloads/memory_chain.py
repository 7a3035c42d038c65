"""Peak of a recorded chain of 100 additions on 10 MB, in arrays, the input among them.

An addition saves nothing, so nothing of the chain but its two ends need exist.
"""

from contract import AtMost, Measured
from workloads.resident import peak_over_now

CASES = ("",)
UNIT = "arrays"
BARS = (AtMost(3.1),)  # three, and the pages the interpreter touches meanwhile
N = 1_310_720  # float64: 10 MiB


def chain(x, force):
    y = x
    for _ in range(100):
        y = y + 1.0
    force(y)
    assert y[0] == 101.0 and y[-1] == 101.0


def peak(x, force):
    # Measured once: what the chain leaves with an allocator is resident at the next.
    cost = 1 + peak_over_now(lambda: chain(x, force)) / (8 * N)
    return Measured(lambda: cost)


def adjoint(case):
    import adjoint as ad

    x = ad.tensor(ad.ones(N), requires_grad=True)

    # Memory kept from making x is resident: used again, it would not show.
    ad.clear_cache()
    return peak(x, ad.eval)


def torch(case):
    import torch

    return peak(torch.ones(N, dtype=torch.float64, requires_grad=True), lambda y: None)


VARIANTS = {"adjoint": adjoint, "torch": torch}
