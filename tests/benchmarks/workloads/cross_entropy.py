"""Mean cross-entropy over rows from primitives, with gradient, against torch's fused kernel."""

from contract import AtLeast
from workloads import rows

CASES = rows.CASES
UNIT = "s"
TOLERANCE = 1e-5
BARS = (AtLeast(1.2, "torch", cases=rows.SMALL), AtLeast(1.5, "torch", cases=rows.LARGE))


def labels(case):
    import numpy as np

    count, classes = (int(n) for n in case.split("x"))
    return np.random.default_rng(3).integers(0, classes, count)


def reference(case):
    import numpy as np

    x = rows.data(case)[0].astype(np.float64)
    picked = np.arange(len(x)), labels(case)
    shifted = x - x.max(-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(-1, keepdims=True)
    gradient = e / total
    gradient[picked] -= 1.0
    return (np.log(total[:, 0]) - shifted[picked]).mean(), gradient / len(x)


def adjoint(case):
    import adjoint as ad

    index = ad.asarray(labels(case))
    row = ad.arange(index.size)

    def cross_entropy(x):
        shifted = x - ad.max(x, axis=-1, keepdims=True)
        return ad.mean(ad.log(ad.sum(ad.exp(shifted), axis=-1)) - shifted[row, index])

    return rows.adjoint_run(cross_entropy, case)


def torch(case):
    import torch

    index = torch.from_numpy(labels(case))
    return rows.torch_run(lambda x: torch.nn.functional.cross_entropy(x, index), case)


def jax(case):
    import jax
    import jax.numpy as jnp

    index = jnp.asarray(labels(case))[:, None]

    def cross_entropy(x):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x, -1), index, -1))

    return rows.jax_run(cross_entropy, case)


VARIANTS = {"adjoint": adjoint, "torch": torch, "jax.jit": jax}
