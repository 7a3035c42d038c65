"""`a + b` of one-element float64 values from a Python loop, recorded and not recorded.

What a framework adds to every tiny operation: dispatch, one object and, recorded, one node.
"""

from contract import AtLeast, AtMost

CASES = ("not recorded", "recorded")
UNIT = "s"
TOLERANCE = 0.0
BARS = (AtMost(60e-9), AtLeast(20, "torch"), AtLeast(5, "numpy"))
LOOP = 10_000


def PER(case):
    return LOOP


def reference(case):
    return 3.75


def loop(a, b):
    def run():
        for _ in range(LOOP):
            c = a + b
        return c

    return run


def adjoint(case):
    import adjoint as ad

    recorded = case == "recorded"
    return loop(ad.tensor(1.5, requires_grad=recorded), ad.tensor(2.25, requires_grad=recorded))


def numpy(case):
    import numpy as np

    return loop(np.array(1.5), np.array(2.25))


def torch(case):
    import torch

    def make(value):
        return torch.tensor(value, dtype=torch.float64, requires_grad=case == "recorded")

    return loop(make(1.5), make(2.25))


def jax(case):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    add = jax.jit(lambda a, b: a + b)
    a, b = jnp.float64(1.5), jnp.float64(2.25)

    def run():
        for _ in range(LOOP):
            c = add(a, b)
        return c.block_until_ready()

    return run


VARIANTS = {"adjoint": adjoint, "numpy": numpy, "torch": torch, "jax.jit": jax}
