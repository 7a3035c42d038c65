"""A training step of a 784-256-128-10 classifier with relu, batch of 128."""

from contract import AtLeast
from workloads import network

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-5
BARS = (
    AtLeast(1.2, "torch"),
    AtLeast(1, "torch.compile", "adjoint compiled"),
    AtLeast(1, "jax.jit", "adjoint compiled"),
)
BATCH = 128


def data():
    return network.data((784, 256, 128, 10), BATCH, classes=True)


def reference(case):
    import numpy as np

    parameters, x, labels = data()

    def loss(y):
        e = np.exp(y - y.max(-1, keepdims=True))
        e /= e.sum(-1, keepdims=True)
        e[np.arange(BATCH), labels] -= 1.0
        return e / BATCH

    return network.reference(parameters, x, lambda v: np.maximum(v, 0.0), lambda v: v > 0, loss)


def adjoint(case, run=network.adjoint_run):
    import adjoint as ad

    parameters, x, labels = data()
    x, index, row = ad.asarray(x), ad.asarray(labels), ad.arange(BATCH)

    def loss(parameters):
        y = network.forward(parameters, x, lambda v: ad.maximum(v, 0.0))
        y = y - ad.max(y, axis=-1, keepdims=True)
        return ad.mean(ad.log(ad.sum(ad.exp(y), axis=-1)) - y[row, index])

    return run(parameters, loss)


def torch(case, compiled=False):
    import torch

    parameters, x, labels = data()
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)

    def loss(parameters):
        y = network.forward(parameters, x, torch.relu)
        return torch.nn.functional.cross_entropy(y, labels)

    return network.torch_run(parameters, loss, compiled)


def jax(case):
    import jax
    import jax.numpy as jnp

    parameters, x, labels = data()
    x, index = jnp.asarray(x), jnp.asarray(labels)[:, None]

    def loss(parameters):
        y = jax.nn.log_softmax(network.forward(parameters, x, jax.nn.relu))
        return -jnp.mean(jnp.take_along_axis(y, index, -1))

    return network.jax_run(parameters, loss)


VARIANTS = network.variants(adjoint, torch, jax)
