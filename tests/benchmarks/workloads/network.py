"""What the two perceptron workloads share: data, and one training step per library.

A step is the forward pass, the loss, the gradients and plain gradient descent.
"""

import itertools

RATE = 1e-2


def data(sizes, batch, classes):
    """Return the weights and biases in order, the inputs, and targets or labels."""
    import numpy as np

    rng = np.random.default_rng(6)
    parameters = []
    for n, m in itertools.pairwise(sizes):
        parameters.append((rng.standard_normal((n, m)) / n**0.5).astype(np.float32))
        parameters.append((0.1 * rng.standard_normal(m)).astype(np.float32))
    x = rng.standard_normal((batch, sizes[0])).astype(np.float32)
    if classes:
        return parameters, x, rng.integers(0, sizes[-1], batch)
    return parameters, x, rng.standard_normal((batch, sizes[-1])).astype(np.float32)


def forward(parameters, x, activation):
    for i in range(0, len(parameters) - 2, 2):
        x = activation(x @ parameters[i] + parameters[i + 1])
    return x @ parameters[-2] + parameters[-1]


def reference(parameters, x, activation, slope, loss):
    """The parameters after one step: `slope` of the activation's value, `loss` gives (y, dy)."""
    import numpy as np

    parameters = [p.astype(np.float64) for p in parameters]
    values = [x.astype(np.float64)]
    for i in range(0, len(parameters) - 2, 2):
        values.append(activation(values[-1] @ parameters[i] + parameters[i + 1]))
    cotangent = loss(values[-1] @ parameters[-2] + parameters[-1])
    stepped = [None] * len(parameters)
    for i in range(len(parameters) - 2, -1, -2):
        stepped[i] = parameters[i] - RATE * values[i // 2].T @ cotangent
        stepped[i + 1] = parameters[i + 1] - RATE * cotangent.sum(0)
        cotangent = (cotangent @ parameters[i].T) * slope(values[i // 2])
    return stepped


def adjoint_run(parameters, loss):
    import adjoint as ad

    parameters = [ad.tensor(ad.asarray(p), requires_grad=True) for p in parameters]

    def run():
        loss(parameters).backward()
        with ad.no_grad():
            for p in parameters:
                p -= RATE * p.grad
                p.grad = None
        ad.eval(parameters)
        return parameters

    return run


def adjoint_compiled_run(parameters, loss):
    import adjoint as ad

    state = [ad.asarray(p) for p in parameters]
    gradients = ad.grad(loss)
    step = ad.compile(lambda ps: [p - RATE * g for p, g in zip(ps, gradients(ps), strict=True)])

    def run():
        state[:] = step(state)
        return state

    return run


def torch_run(parameters, loss, compiled=False):
    import torch

    parameters = [torch.from_numpy(p).requires_grad_(True) for p in parameters]
    value = torch.compile(loss) if compiled else loss

    def run():
        value(parameters).backward()
        with torch.no_grad():
            for p in parameters:
                p -= RATE * p.grad
                p.grad = None
        return parameters

    return run


def jax_run(parameters, loss):
    import jax
    import jax.numpy as jnp

    state = [jnp.asarray(p) for p in parameters]
    gradients = jax.grad(loss)
    step = jax.jit(lambda ps: [p - RATE * g for p, g in zip(ps, gradients(ps), strict=True)])

    def run():
        state[:] = step(state)
        return jax.block_until_ready(state)

    return run


def variants(adjoint, torch, jax):
    """Return the ways a training step is run, given a factory of each library."""
    return {
        "adjoint": adjoint,
        "adjoint compiled": lambda case: adjoint(case, adjoint_compiled_run),
        "torch": torch,
        "torch.compile": lambda case: torch(case, compiled=True),
        "jax.jit": jax,
    }
