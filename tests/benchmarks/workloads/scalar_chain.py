"""A chain of 1000 scalar operations, forward and backward.

y <- y * x + x, 500 times: the reference carries the derivative along by hand.
"""

from contract import AtMost

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-12
BARS = (AtMost(0.15e-6), AtMost(20e-9, "adjoint compiled"))
X = 0.75
STEPS = 500


def PER(case):
    return 2 * STEPS


def reference(case):
    y, dy = X, 1.0
    for _ in range(STEPS):
        y, dy = y * X + X, dy * X + y + 1.0
    return dy


def chain(x):
    y = x
    for _ in range(STEPS):
        y = y * x + x
    return y


def adjoint(case):
    import adjoint as ad

    x = ad.tensor(X, requires_grad=True)

    def run():
        x.grad = None
        chain(x).backward()
        return x.grad

    return run


def adjoint_compiled(case):
    import adjoint as ad

    gradient = ad.compile(ad.grad(chain))
    x = ad.tensor(X)
    return lambda: gradient(x)


def torch(case):
    import torch

    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)

    def run():
        x.grad = None
        chain(x).backward()
        return x.grad

    return run


def jax(case):
    import jax

    jax.config.update("jax_enable_x64", True)
    gradient = jax.jit(jax.grad(chain))
    x = jax.numpy.float64(X)
    return lambda: gradient(x).block_until_ready()


VARIANTS = {
    "adjoint": adjoint,
    "adjoint compiled": adjoint_compiled,
    "torch": torch,
    "jax.jit": jax,
}
