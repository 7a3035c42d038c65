"""What derivatives cost: a gradient in evaluations of the loss, a Hessian product in gradients.

The losses are a Gaussian mixture's, an LSTM's and a perceptron's, in float64. The two cotangents of
a matrix product are matrix products too, so where these are all the work, a gradient costs three
times the loss, less the cotangents of data.
"""

import time

from contract import AtMost, Measured, to_float64
from workloads import adbench, adbench_gmm, lstm, network

CASES = ("gmm gradient", "gmm hvp", "lstm gradient", "lstm hvp", "mlp gradient", "mlp hvp")
UNIT = "ratio"
BARS = (AtMost(2.5), AtMost(2.5, "adjoint compiled"))
ROUNDS = 12


def loss_of(name, xp):
    """Return a function of a list of parameters, and these as NumPy arrays."""
    import numpy as np

    if name == "gmm":
        parameters, points, gamma, m = adbench_gmm.data()
        mixture = adbench_gmm.objective_of(xp, points, gamma, m)
        return lambda p: mixture(*p), list(parameters)
    if name == "lstm":
        parameters, x, y = lstm.data()
        zero = xp.asarray(np.zeros((lstm.BATCH, lstm.UNITS)))

        def outputs(p):
            return lstm.run_cells(p, x, zero, zero, xp.sigmoid, xp.tanh)
    else:
        parameters, x, y = network.data((784, 256, 128, 10), 128, classes=False)

        def outputs(p):
            return network.forward(p, x, xp.tanh)

    x, y = xp.asarray(x.astype(np.float64)), xp.asarray(y.astype(np.float64))

    def loss(p):
        error = outputs(p) - y
        return xp.mean(error * error)

    return loss, [p.astype(np.float64) for p in parameters]


def functions(library, loss):
    """Return the loss, its gradient and its Hessian's product with `v`, as functions of (p, v)."""
    if library == "adjoint":
        import adjoint as ad

        gradient = ad.grad(loss)
        return lambda p, v: loss(p), lambda p, v: gradient(p), lambda p, v: ad.hvp(loss, p, v)
    if library == "torch":
        import torch

        def value(p, v):
            with torch.no_grad():
                return loss(p)

        def slopes(p, v, **options):
            p = [x.requires_grad_() for x in p]
            return torch.autograd.grad(loss(p), p, **options)

        def product(p, v):
            along = zip(slopes(p, v, create_graph=True), v, strict=True)
            return torch.autograd.grad(sum((g * w).sum() for g, w in along), p)

        return value, slopes, product
    import jax

    gradient = jax.grad(loss)
    return (
        lambda p, v: loss(p),
        lambda p, v: gradient(p),
        lambda p, v: jax.jvp(gradient, (p,), (v,))[1],
    )


def check(value, derivative, p, v):
    """Compare the derivative along `v`, a number, with a central difference."""
    import numpy as np

    step = 1e-5
    ends = [value([a + s * step * w for a, w in zip(p, v, strict=True)]) for s in (1, -1)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), derivative(p), rtol=1e-5)


def factory(library, compiled, case):
    import numpy as np

    name, _, order = case.partition(" ")
    if library == "jax" and name == "lstm":
        raise ImportError("takes minutes to compile")
    _, xp = adbench.names(library)
    loss, parameters = loss_of(name, xp)
    rng = np.random.default_rng(1)
    directions = [rng.standard_normal(p.shape) / p.size**0.5 for p in parameters]
    p, v = [xp.asarray(a) for a in parameters], [xp.asarray(a) for a in directions]
    lower, upper = functions(library, loss)[0 if order == "gradient" else 1 :][:2]

    def number(f):
        """Return `f` of NumPy arrays as a number: its value, or its product with the directions."""

        def call(arrays):
            found = to_float64(f([xp.asarray(a) for a in arrays], v))
            if len(found) == 1:
                return float(found[0])
            return sum((g * w).sum() for g, w in zip(found, directions, strict=True))

        return call

    check(number(lower), number(upper), parameters, directions)
    runs = [adbench.run(library, compiled, f, p, v) for f in (lower, upper)]

    def measure():
        costs = []
        for run in runs * ROUNDS:
            start = time.process_time()
            run()
            costs.append(time.process_time() - start)
        return min(costs[1::2]) / min(costs[::2])

    measure()
    return Measured(measure)


VARIANTS = adbench.variants(factory)
