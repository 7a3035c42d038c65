"""A training step of an LSTM written from primitives: 32 steps of 128 units, batch of 32."""

from contract import AtLeast
from workloads import network

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-4  # float32 through 32 steps
BARS = (
    AtLeast(1.2, "torch"),
    AtLeast(1, "torch.compile", "adjoint compiled"),
    AtLeast(1, "jax.jit", "adjoint compiled"),
)
STEPS, BATCH, INPUTS, UNITS = 32, 32, 32, 128


def data():
    """Return the parameters (input, recurrent, bias, read-out), the inputs and the targets."""
    import numpy as np

    rng = np.random.default_rng(12)
    shapes = ((INPUTS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,), (UNITS, 1))
    parameters = [rng.standard_normal(s) / max(s[0], 16) ** 0.5 for s in shapes]
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    y = rng.standard_normal((BATCH, 1))
    return [p.astype(np.float32) for p in parameters], x.astype(np.float32), y.astype(np.float32)


def parts(gates):
    return [gates[:, i * UNITS : (i + 1) * UNITS] for i in range(4)]


def run_cells(parameters, x, h, c, sigmoid, tanh):
    w, u, b, v = parameters
    for t in range(STEPS):
        i, f, g, o = parts(x[t] @ w + h @ u + b)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
    return h @ v


def reference(case):
    """The parameters after one step, by back-propagation through time written out."""
    import numpy as np

    def sigmoid(a):
        return 1.0 / (1.0 + np.exp(-a))

    parameters, x, y = data()
    w, u, b, v = (p.astype(np.float64) for p in parameters)
    x = x.astype(np.float64)
    h = c = np.zeros((BATCH, UNITS))
    saved = []
    for t in range(STEPS):
        i, f, g, o = parts(x[t] @ w + h @ u + b)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        saved.append((h, c, i, f, g, o))
        c = f * c + i * g
        saved[-1] += (np.tanh(c),)
        h = o * saved[-1][-1]
    out = 2.0 * (h @ v - y) / y.size
    dw, du, db, dv = np.zeros_like(w), np.zeros_like(u), np.zeros_like(b), h.T @ out
    dh, dc = out @ v.T, np.zeros_like(c)
    for t in reversed(range(STEPS)):
        before, cell, i, f, g, o, squashed = saved[t]
        dc = dc + dh * o * (1 - squashed**2)
        di, df, dg = dc * g * i * (1 - i), dc * cell * f * (1 - f), dc * i * (1 - g**2)
        gates = np.concatenate([di, df, dg, dh * squashed * o * (1 - o)], axis=1)
        dw, du, db = dw + x[t].T @ gates, du + before.T @ gates, db + gates.sum(0)
        dh, dc = gates @ u.T, dc * f
    steps = zip((w, u, b, v), (dw, du, db, dv), strict=True)
    return [p - network.RATE * g for p, g in steps]


def adjoint(case, run=network.adjoint_run):
    import adjoint as ad

    parameters, x, y = data()
    x, y, zero = ad.asarray(x), ad.asarray(y), ad.zeros((BATCH, UNITS), dtype=ad.float32)

    def loss(parameters):
        error = run_cells(parameters, x, zero, zero, ad.sigmoid, ad.tanh) - y
        return ad.mean(error * error)

    return run(parameters, loss)


def torch(case, compiled=False):
    import torch

    parameters, x, y = data()
    x, y, zero = torch.from_numpy(x), torch.from_numpy(y), torch.zeros(BATCH, UNITS)

    def loss(parameters):
        error = run_cells(parameters, x, zero, zero, torch.sigmoid, torch.tanh) - y
        return (error * error).mean()

    return network.torch_run(parameters, loss, compiled)


def jax(case):
    import jax
    import jax.numpy as jnp

    parameters, x, y = data()
    x, y, zero = jnp.asarray(x), jnp.asarray(y), jnp.zeros((BATCH, UNITS), jnp.float32)

    def loss(parameters):
        error = run_cells(parameters, x, zero, zero, jax.nn.sigmoid, jnp.tanh) - y
        return jnp.mean(error * error)

    return network.jax_run(parameters, loss)


VARIANTS = network.variants(adjoint, torch, jax)
