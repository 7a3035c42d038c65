"""tanh-GELU written in primitives on 10^7 float32: the value and the gradient of its sum."""

from contract import AtLeast

CASES = ("",)
UNIT = "s"
TOLERANCE = 5e-6  # float32 through some 25 roundings
BARS = (AtLeast(8, "torch"),)
N = 10_000_000
C = 0.7978845608028654


def sample():
    import numpy as np

    return np.random.default_rng(1).standard_normal(N, dtype=np.float32)


def reference(case):
    import numpy as np

    x = sample().astype(np.float64)
    t = np.tanh(C * (x + 0.044715 * x**3))
    slope = C * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope


def gelu(x, tanh):
    return 0.5 * x * (1 + tanh(C * (x + 0.044715 * x * x * x)))


def adjoint(case):
    import adjoint as ad

    x = ad.asarray(sample())
    x.requires_grad_(True)
    ones = ad.ones_like(x)

    def run():
        x.grad = None
        y = gelu(x, ad.tanh)
        y.backward(ones)
        ad.eval(y, x.grad)
        return y, x.grad

    return run


def numpy(case):
    """By hand, as without a framework."""
    import numpy as np

    x = sample()

    def run():
        x2 = x * x
        t = np.tanh(C * (x + 0.044715 * x2 * x))
        half = 0.5 * (1 + t)
        return x * half, half + 0.5 * x * (1 - t * t) * (C * (1 + 3 * 0.044715 * x2))

    return run


def torch_run(function):
    import torch

    x = torch.from_numpy(sample()).requires_grad_(True)
    ones = torch.ones_like(x)

    def run():
        x.grad = None
        y = function(x)
        y.backward(ones)
        return y, x.grad

    return run


def torch(case):
    import torch

    return torch_run(lambda x: gelu(x, torch.tanh))


def torch_compile(case):
    import torch

    return torch_run(torch.compile(lambda x: gelu(x, torch.tanh)))


def jax(case):
    import jax
    import jax.numpy as jnp

    @jax.jit
    def both(x):
        y, pullback = jax.vjp(lambda x: gelu(x, jnp.tanh), x)
        return y, pullback(jnp.ones_like(x))[0]

    x = jnp.asarray(sample())
    return lambda: jax.block_until_ready(both(x))


VARIANTS = {
    "adjoint": adjoint,
    "numpy": numpy,
    "torch": torch,
    "torch.compile": torch_compile,
    "jax.jit": jax,
}
