"""A training step of a character-level transformer: 2 layers of width 64, 4 heads, context 64.

adjoint builds normalisation, attention and GELU from primitives; torch and jax use their own.
"""

from contract import AtLeast
from workloads import network

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-4
BARS = (
    AtLeast(1.2, "torch"),
    AtLeast(1, "torch.compile", "adjoint compiled"),
    AtLeast(1, "jax.jit", "adjoint compiled"),
)
BATCH, CONTEXT, WIDTH, HEADS, LAYERS, VOCABULARY = 8, 64, 64, 4, 2, 65
EPS = 1e-5


def data():
    """Return the parameters, the tokens and the tokens that follow."""
    import numpy as np

    rng = np.random.default_rng(13)
    layer = [(WIDTH,), (WIDTH,), (WIDTH, 3 * WIDTH), (WIDTH, WIDTH)]
    layer += [(WIDTH,), (WIDTH,), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    shapes = [(VOCABULARY, WIDTH), (CONTEXT, WIDTH), *(layer * LAYERS), (WIDTH, VOCABULARY)]
    parameters = [rng.standard_normal(s) / s[0] ** 0.5 for s in shapes]
    for i, s in enumerate(shapes):
        if len(s) == 1:  # scale and shift of a normalisation, in turn
            parameters[i] = np.full(s, float(len(shapes[i + 1]) == 1))
    text = rng.integers(0, VOCABULARY, (BATCH, CONTEXT + 1))
    return [p.astype(np.float32) for p in parameters], text[:, :-1], text[:, 1:]


def causal_mask():
    import numpy as np

    return np.triu(np.full((CONTEXT, CONTEXT), -1e9, dtype=np.float32), 1)


def logits(parameters, tokens, mask, norm, softmax, gelu, permute):
    """The model, given four functions of a library."""
    embedding, position, *rest = parameters
    x = embedding[tokens] + position
    for n in range(LAYERS):
        g1, b1, qkv, out, g2, b2, up, down = rest[8 * n : 8 * n + 8]
        mixed = (norm(x, g1, b1) @ qkv).reshape((BATCH, CONTEXT, 3, HEADS, WIDTH // HEADS))
        mixed = permute(mixed, (2, 0, 3, 1, 4))
        q, k, v = mixed[0], mixed[1], mixed[2]
        weights = softmax(q @ permute(k, (0, 1, 3, 2)) * (WIDTH // HEADS) ** -0.5 + mask)
        y = permute(weights @ v, (0, 2, 1, 3)).reshape((BATCH, CONTEXT, WIDTH))
        x = x + y @ out
        x = x + gelu(norm(x, g2, b2) @ up) @ down
    return (x @ rest[-1]).reshape((BATCH * CONTEXT, VOCABULARY))


def reference(case):
    """The parameters after one step, by torch in float64."""
    import torch

    parameters, tokens, targets = data()
    parameters = [torch.from_numpy(p).double().requires_grad_(True) for p in parameters]
    torch_loss(tokens, targets, torch.float64)(parameters).backward()
    return [(p - network.RATE * p.grad).detach().numpy() for p in parameters]


def adjoint(case, run=network.adjoint_run):
    import adjoint as ad

    parameters, tokens, targets = data()
    tokens, mask = ad.asarray(tokens), ad.asarray(causal_mask())
    row, index = ad.arange(targets.size), ad.asarray(targets.reshape(-1))

    def norm(x, scale, shift):
        centred = x - ad.mean(x, axis=-1, keepdims=True)
        variance = ad.mean(centred * centred, axis=-1, keepdims=True)
        return centred / ad.sqrt(variance + EPS) * scale + shift

    def softmax(x):
        e = ad.exp(x - ad.max(x, axis=-1, keepdims=True))
        return e / ad.sum(e, axis=-1, keepdims=True)

    def gelu(x):
        return 0.5 * x * (1.0 + ad.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))

    def loss(parameters):
        y = logits(parameters, tokens, mask, norm, softmax, gelu, ad.permute_dims)
        y = y - ad.max(y, axis=-1, keepdims=True)
        return ad.mean(ad.log(ad.sum(ad.exp(y), axis=-1)) - y[row, index])

    return run(parameters, loss)


def torch_loss(tokens, targets, dtype):
    import torch
    from torch.nn import functional

    tokens, targets = torch.from_numpy(tokens), torch.from_numpy(targets).reshape(-1)
    mask = torch.from_numpy(causal_mask()).to(dtype)

    def loss(parameters):
        y = logits(
            parameters,
            tokens,
            mask,
            lambda x, scale, shift: functional.layer_norm(x, (WIDTH,), scale, shift, EPS),
            lambda x: torch.softmax(x, -1),
            lambda x: functional.gelu(x, approximate="tanh"),
            torch.permute,
        )
        return functional.cross_entropy(y, targets)

    return loss


def torch(case, compiled=False):
    import torch

    parameters, tokens, targets = data()
    return network.torch_run(parameters, torch_loss(tokens, targets, torch.float32), compiled)


def jax(case):
    import jax
    import jax.numpy as jnp

    parameters, tokens, targets = data()
    tokens, index, mask = jnp.asarray(tokens), jnp.asarray(targets).reshape(-1, 1), causal_mask()

    def norm(x, scale, shift):
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.var(x, axis=-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPS) * scale + shift

    def loss(parameters):
        y = logits(parameters, tokens, mask, norm, jax.nn.softmax, jax.nn.gelu, jnp.transpose)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(y), index, -1))

    return network.jax_run(parameters, loss)


VARIANTS = network.variants(adjoint, torch, jax)
