"""Softmax over rows from primitives, value and gradient, against torch's hand-fused kernel."""

from contract import AtLeast
from workloads import rows

CASES = rows.CASES
UNIT = "s"
TOLERANCE = 1e-5
BARS = (AtLeast(0.9, "torch", cases=rows.SMALL), AtLeast(1.5, "torch", cases=rows.LARGE))


def reference(case):
    import numpy as np

    x, cotangent = (a.astype(np.float64) for a in rows.data(case))
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, y * (cotangent - (cotangent * y).sum(-1, keepdims=True))


def adjoint(case):
    import adjoint as ad

    def softmax(x):
        e = ad.exp(x - ad.max(x, axis=-1, keepdims=True))
        return e / ad.sum(e, axis=-1, keepdims=True)

    return rows.adjoint_run(softmax, case)


def torch(case):
    import torch

    return rows.torch_run(lambda x: torch.softmax(x, -1), case)


def jax(case):
    import jax

    return rows.jax_run(lambda x: jax.nn.softmax(x, -1), case)


VARIANTS = {"adjoint": adjoint, "torch": torch, "jax.jit": jax}
