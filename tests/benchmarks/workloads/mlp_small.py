"""A training step of a 2-16-16-1 network with tanh, batch of 32: overhead and nothing else."""

from contract import AtLeast
from workloads import network

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-5
BARS = (AtLeast(10, "torch"), AtLeast(1.5, "jax.jit", "adjoint compiled"))


def data():
    return network.data((2, 16, 16, 1), 32, classes=False)


def reference(case):
    import numpy as np

    parameters, x, target = data()
    return network.reference(
        parameters, x, np.tanh, lambda v: 1 - v * v, lambda y: 2 * (y - target) / target.size
    )


def loss(x, target, tanh):
    def squares(parameters):
        error = network.forward(parameters, x, tanh) - target
        return (error * error).mean()

    return squares


def adjoint(case, run=network.adjoint_run):
    import adjoint as ad

    parameters, x, target = data()
    x, target = ad.asarray(x), ad.asarray(target)

    def squares(parameters):
        error = network.forward(parameters, x, ad.tanh) - target
        return ad.mean(error * error)

    return run(parameters, squares)


def torch(case):
    import torch

    parameters, x, target = data()
    return network.torch_run(
        parameters, loss(torch.from_numpy(x), torch.from_numpy(target), torch.tanh)
    )


def jax(case):
    import jax.numpy as jnp

    parameters, x, target = data()
    return network.jax_run(parameters, loss(jnp.asarray(x), jnp.asarray(target), jnp.tanh))


VARIANTS = {
    "adjoint": adjoint,
    "adjoint compiled": lambda case: adjoint(case, network.adjoint_compiled_run),
    "torch": torch,
    "jax.jit": jax,
}
