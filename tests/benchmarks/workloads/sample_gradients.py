"""The gradient of a 2-16-16-1 network's loss for each of 1000 samples: one pass against a loop."""

from contract import AtLeast
from workloads import network

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-4
SAMPLES = 1000
BARS = (
    AtLeast(20, "adjoint loop"),
    AtLeast(1, "torch"),
    AtLeast(1, "jax.jit", "adjoint compiled"),
)


def data():
    return network.data((2, 16, 16, 1), SAMPLES, classes=False)


def reference(case):
    """By back-propagation written out, with the samples as the first axis."""
    import numpy as np

    parameters, x, target = data()
    parameters = [p.astype(np.float64) for p in parameters]
    values = [x.astype(np.float64)]
    for i in (0, 2):
        values.append(np.tanh(values[-1] @ parameters[i] + parameters[i + 1]))
    cotangent = 2 * (values[-1] @ parameters[4] + parameters[5] - target)
    found = []
    for i in (4, 2, 0):
        found = [np.einsum("ni,nj->nij", values[i // 2], cotangent), cotangent, *found]
        cotangent = (cotangent @ parameters[i].T) * (1 - values[i // 2] ** 2)
    return found


def loss_of(tanh):
    def loss(parameters, x, target):
        return ((network.forward(parameters, x, tanh) - target) ** 2)[0]

    return loss


def adjoint(case, way):
    import adjoint as ad

    parameters, x, target = data()
    parameters, x, target = [ad.asarray(p) for p in parameters], ad.asarray(x), ad.asarray(target)
    gradient = ad.grad(loss_of(ad.tanh))
    mapped = ad.vmap(gradient, in_axes=(None, 0, 0))

    def run():
        if way == "loop":
            each = [gradient(parameters, x[i], target[i]) for i in range(SAMPLES)]
            found = [ad.stack([g[k] for g in each]) for k in range(len(parameters))]
        else:
            found = mapped(parameters, x, target)
        ad.eval(found)
        return found

    if way == "compiled":
        mapped = ad.compile(mapped)
    return run


def torch(case):
    import torch

    parameters, x, target = data()
    parameters = [torch.from_numpy(p) for p in parameters]
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    gradient = torch.func.vmap(torch.func.grad(loss_of(torch.tanh)), in_dims=(None, 0, 0))
    return lambda: gradient(parameters, x, target)


def jax(case):
    import jax

    parameters, x, target = data()
    parameters, x, target = jax.tree.map(jax.numpy.asarray, (parameters, x, target))
    gradient = jax.grad(loss_of(jax.numpy.tanh))
    gradient = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))
    return lambda: jax.block_until_ready(gradient(parameters, x, target))


VARIANTS = {
    "adjoint": lambda case: adjoint(case, "mapped"),
    "adjoint loop": lambda case: adjoint(case, "loop"),
    "adjoint compiled": lambda case: adjoint(case, "compiled"),
    "torch": torch,
    "jax.jit": jax,
}
