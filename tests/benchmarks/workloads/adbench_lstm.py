"""ADBench's LSTM: two layers of 14 units without mixing, over 1024 characters of 14 bits.

Its units work element by element: the forget and output gates see the input, the other two the
layer's own last output, so that all steps of a layer have their first two gates at once and only
the rest is a recurrence. The loss is the cross-entropy of the next character's bits, where ADBench
adds 2 to the sum of exponentials.
"""

import itertools

from workloads import adbench

CASES = ("objective", "gradient")
UNIT = "s"
TOLERANCE = adbench.TOLERANCE
BARS = adbench.BEYOND_TORCH


def data(layers=2, characters=1024, bits=14):
    """Return the main parameters (layer, weights and biases, gate), the read-in and read-out
    (3, bits), the state (layer, output and cell), and the characters."""
    import numpy as np

    rng = np.random.default_rng(14)
    main, extra = rng.uniform(size=(layers, 2, 4, bits)), rng.uniform(size=(3, bits))
    state = rng.uniform(size=(layers, 2, bits))
    codes = rng.integers(32, 127, characters)
    return (main, extra), state, 1.0 * (codes[:, None] >> np.arange(bits)[::-1] & 1)


def recurrence(xp, forget, output, write, h, c):
    """Return the outputs of all steps; `write` has the weights and biases of the own gates."""
    (w_in, w_change), (b_in, b_change) = write
    outputs = []
    for f, o in zip(forget, output, strict=True):
        c = c * f + xp.sigmoid(h * w_in + b_in) * xp.tanh(h * w_change + b_change)
        h = o * xp.tanh(c)
        outputs.append(h)
    return xp.stack(outputs, 0)


def scanned(scan):
    """Return the same by a library's loop that compiles as one step."""

    def steps(xp, forget, output, write, h, c):
        (w_in, w_change), (b_in, b_change) = write

        def step(carried, gates):
            (h, c), (f, o) = carried, gates
            c = c * f + xp.sigmoid(h * w_in + b_in) * xp.tanh(h * w_change + b_change)
            h = o * xp.tanh(c)
            return (h, c), h

        return scan(step, (h, c), (forget, output))[1]

    return steps


def objective_of(xp, state, characters, steps=recurrence):
    """Return the function of the main and the extra parameters."""
    state, characters = xp.asarray(state), xp.asarray(characters)

    def objective(main, extra):
        x = characters[:-1] * extra[0]
        for layer in range(len(state)):
            # The gates in ADBench's order: forget, in, out, change.
            (w_forget, w_in, w_out, w_change) = (main[layer, 0, gate] for gate in range(4))
            (b_forget, b_in, b_out, b_change) = (main[layer, 1, gate] for gate in range(4))
            forget = xp.sigmoid(x * w_forget + b_forget)
            output = xp.sigmoid(x * w_out + b_out)
            write = (w_in, w_change), (b_in, b_change)
            x = steps(xp, forget, output, write, state[layer, 0], state[layer, 1])
        y = x * extra[1] + extra[2]
        norm = xp.log(2.0 + xp.sum(xp.exp(y), axis=1))
        return -xp.sum(characters[1:] * (y - norm[:, None])) / (y.shape[0] * y.shape[1])

    return objective


def loss_by_definition(parameters, shape, state, characters):
    """The definition, character by character, for parameters with axes in front."""
    import numpy as np

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    layers, bits = state.shape[0], state.shape[2]
    main = parameters[..., : shape[0]].reshape(*parameters.shape[:-1], layers, 2, 4, bits)
    extra = parameters[..., shape[0] :].reshape(*parameters.shape[:-1], 3, bits)
    hidden = [state[k, 0] for k in range(layers)]
    cell = [state[k, 1] for k in range(layers)]
    total = 0.0
    for now, then in itertools.pairwise(characters):
        x = now * extra[..., 0, :]
        for k in range(layers):
            w, b = main[..., k, 0, :, :], main[..., k, 1, :, :]
            forget = sigmoid(x * w[..., 0, :] + b[..., 0, :])
            write = sigmoid(hidden[k] * w[..., 1, :] + b[..., 1, :])
            output = sigmoid(x * w[..., 2, :] + b[..., 2, :])
            change = np.tanh(hidden[k] * w[..., 3, :] + b[..., 3, :])
            cell[k] = cell[k] * forget + write * change
            x = hidden[k] = output * np.tanh(cell[k])
        y = x * extra[..., 1, :] + extra[..., 2, :]
        norm = np.log(2 + np.exp(y).sum(-1, keepdims=True))
        total = total + (then * (y - norm)).sum(-1)
    return -total / characters[1:].size


def reference(case, instance=None):
    """The definition; its derivative by complex steps, all at once."""
    import numpy as np

    (main, extra), state, characters = instance or data()
    flat = np.concatenate([main.ravel(), extra.ravel()])
    shape = main.size, extra.size
    if case == "objective":
        return loss_by_definition(flat, shape, state, characters)
    moved = flat + 1e-100j * np.eye(flat.size)
    slopes = loss_by_definition(moved, shape, state, characters).imag / 1e-100
    return [slopes[: main.size].reshape(main.shape), slopes[main.size :].reshape(extra.shape)]


def factory(library, compiled, case, scan=False):
    module, xp = adbench.names(library)
    parameters, state, characters = data()
    steps = recurrence
    if scan:
        steps = scanned(module.lax.scan if library == "jax" else module.scan)
    f = objective_of(xp, state, characters, steps)
    if case == "gradient":
        f = adbench.gradient(library, f, 2)
    return adbench.run(library, compiled, f, *map(xp.asarray, parameters))


# The loop written out takes jax.jit minutes to compile.
VARIANTS = {
    **adbench.variants(factory, jax=False),
    "adjoint compiled, scan": lambda case: factory("adjoint", True, case, scan=True),
    "jax.jit, scan": lambda case: factory("jax", True, case, scan=True),
}
