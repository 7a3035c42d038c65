"""Gradients of numbers made by factors and solutions of float64 matrices, the value included.

Each has a formula in the inverse of the matrix, or in the matrix itself.
"""

from contract import AtLeast
from workloads import linalg

NAMES = ("cholesky", "solve", "inv", "slogdet", "qr", "eigh", "svd", "svdvals", "pinv", "lstsq")
SIZES = linalg.SIZES
CASES = tuple(f"{name} {n}" for name in NAMES for n in SIZES)
UNIT = "s"
TOLERANCE = 1e-8
BARS = (AtLeast(1.5, "torch"),)


def reference(case):
    import numpy as np

    name, n = case.split()
    u, s, v = linalg.parts(int(n))
    if name in ("cholesky", "eigh"):
        v = u
    a, inverse = (u * s) @ v.T, (v / s) @ u.T
    ones = np.ones(int(n))
    if name in ("solve", "lstsq"):  # of the sum of the solution, which is all ones
        return -np.outer(inverse.T @ ones, ones)
    if name in ("inv", "pinv"):
        return -np.outer(inverse.T @ ones, inverse @ ones)
    if name in ("eigh", "svd", "svdvals"):
        return 2 * a
    return inverse.T


def loss_of(name, xp):
    """The sum of a result, its squares, or its logarithms."""
    diagonal = xp.linalg.diagonal
    losses = {
        "cholesky": lambda a: 2 * xp.sum(xp.log(diagonal(xp.linalg.cholesky(a)))),
        "slogdet": lambda a: xp.linalg.slogdet(a)[1],
        "qr": lambda a: xp.sum(xp.log(abs(diagonal(xp.linalg.qr(a)[1])))),
        "eigh": lambda a: xp.sum(xp.linalg.eigh(a)[0] ** 2),
        "svd": lambda a: xp.sum(xp.linalg.svd(a)[1] ** 2),
        "svdvals": lambda a: xp.sum(xp.linalg.svdvals(a) ** 2),
    }
    f = getattr(xp.linalg, name)
    if name == "lstsq":
        return lambda a, b: xp.sum(f(a, b)[0])
    return losses.get(name) or (lambda *given: xp.sum(f(*given)))


def adjoint(case):
    import adjoint as ad

    given = [ad.asarray(x) for x in linalg.data(case)]
    gradient = ad.grad(loss_of(case.split()[0], ad))
    return lambda: gradient(*given)


def torch(case):
    import torch

    a, *rest = [torch.as_tensor(x) for x in linalg.data(case)]
    if case.startswith("lstsq"):
        rest = [rest[0][:, None]]
    a.requires_grad_()
    loss = loss_of(case.split()[0], torch)
    return lambda: torch.autograd.grad(loss(a, *rest), a)[0]


VARIANTS = {"adjoint": adjoint, "torch": torch}
