"""A chain of 10^6 operations built, differentiated and freed in a thread with a 512 kB stack."""

import threading

from contract import AtMost

CASES = ("",)
UNIT = "s"
TOLERANCE = 0.0
BARS = (AtMost(0.6),)
N = 1_000_000


def reference(case):
    return 1.0


def in_small_thread(make):
    def run():
        found = []
        before = threading.stack_size(512 * 1024)
        thread = threading.Thread(target=lambda: found.append(build(make())))
        thread.start()
        threading.stack_size(before)
        thread.join()
        return found[0]

    return run


def build(x):
    y = x
    for _ in range(N):
        y = y + 1.0
    y.backward()
    return x.grad


def adjoint(case):
    import adjoint as ad

    return in_small_thread(lambda: ad.tensor(0.5, requires_grad=True))


def torch(case):
    import torch

    return in_small_thread(lambda: torch.tensor(0.5, dtype=torch.float64, requires_grad=True))


VARIANTS = {"adjoint": adjoint, "torch": torch}
