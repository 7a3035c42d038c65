"""Layer normalisation over rows from primitives, with its three gradients, against torch's."""

from contract import AtLeast
from workloads import rows

CASES = rows.CASES
UNIT = "s"
TOLERANCE = 1e-4  # the parameters' gradients sum 9766 products in float32
BARS = (AtLeast(0.7, "torch", cases=rows.SMALL), AtLeast(1.5, "torch", cases=rows.LARGE))
EPS = 1e-5


def parameters(case):
    import numpy as np

    width = int(case.split("x")[1])
    scale = np.linspace(0.5, 1.5, width, dtype=np.float32)
    return scale, np.linspace(-1.0, 1.0, width, dtype=np.float32)


def reference(case):
    import numpy as np

    x, cotangent = (a.astype(np.float64) for a in rows.data(case))
    scale, shift = (a.astype(np.float64) for a in parameters(case))
    spread = np.sqrt(x.var(-1, keepdims=True) + EPS)
    z = (x - x.mean(-1, keepdims=True)) / spread
    dz = cotangent * scale
    dx = dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True)
    return z * scale + shift, dx / spread, (cotangent * z).sum(0), cotangent.sum(0)


def adjoint(case):
    import adjoint as ad

    def layernorm(x, scale, shift):
        centred = x - ad.mean(x, axis=-1, keepdims=True)
        variance = ad.mean(centred * centred, axis=-1, keepdims=True)
        return centred / ad.sqrt(variance + EPS) * scale + shift

    return rows.adjoint_run(layernorm, case, *parameters(case))


def torch(case):
    import torch

    def layernorm(x, scale, shift):
        return torch.nn.functional.layer_norm(x, scale.shape, scale, shift, EPS)

    return rows.torch_run(layernorm, case, *parameters(case))


def jax(case):
    import jax
    import jax.numpy as jnp

    def layernorm(x, scale, shift):
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPS) * scale + shift

    return rows.jax_run(layernorm, case, *parameters(case))


VARIANTS = {"adjoint": adjoint, "torch": torch, "jax.jit": jax}
