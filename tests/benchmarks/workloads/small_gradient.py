"""The gradient of w**2 + 1 at 5, the whole call: what a root finder pays per evaluation."""

from contract import AtMost

CASES = ("",)
UNIT = "s"
TOLERANCE = 0.0
BARS = (AtMost(2e-6),)


def reference(case):
    return 10.0


def adjoint(case):
    import adjoint as ad

    return lambda: ad.grad(lambda w: w**2 + 1)(5.0)


def torch(case):
    import torch

    def run():
        w = torch.tensor(5.0, requires_grad=True)
        (w**2 + 1).backward()
        return w.grad

    return run


def jax(case):
    import jax

    gradient = jax.jit(jax.grad(lambda w: w**2 + 1))
    return lambda: gradient(5.0).block_until_ready()


VARIANTS = {"adjoint": adjoint, "torch": torch, "jax.jit": jax}
