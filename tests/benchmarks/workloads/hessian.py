"""The Hessian of Rosenbrock's function in 100 dimensions, as a dense matrix.

It is tridiagonal, which one variant is told.
"""

from contract import AtLeast

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-13
BARS = (AtLeast(10, "torch"), AtLeast(1, "jax.jit", "adjoint compiled"))


def point():
    import numpy as np

    return np.random.default_rng(100).uniform(-1.5, 1.5, 100)


def reference(case):
    import numpy as np

    x = point()
    diagonal = np.zeros(x.size)
    diagonal[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    diagonal[1:] += 200
    return np.diag(diagonal) + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def adjoint(case, compiled=False, sparsity=None):
    import adjoint as ad

    def f(x):
        return ad.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    x = ad.asarray(point())
    hessian = ad.hessian(f, sparsity=sparsity)
    if compiled:
        hessian = ad.compile(hessian)

    def run():
        h = hessian(x)
        ad.eval(h)
        return h

    return run


def torch(case):
    import torch

    x = torch.from_numpy(point())
    hessian = torch.func.hessian(rosenbrock)
    return lambda: hessian(x)


def jax(case):
    import jax

    jax.config.update("jax_enable_x64", True)
    x = jax.numpy.asarray(point())
    hessian = jax.jit(jax.hessian(rosenbrock))
    return lambda: hessian(x).block_until_ready()


VARIANTS = {
    "adjoint": adjoint,
    "adjoint compiled": lambda case: adjoint(case, compiled=True),
    "adjoint compiled, pattern": lambda case: adjoint(case, True, reference(case) != 0),
    "torch": torch,
    "jax.jit": jax,
}
