"""What the row-wise workloads share: the shapes, the data and one recorded step per library."""

CASES = ("256x1024", "4096x1024", "9766x1024")
SMALL = CASES[:1]  # below 32 MB with the gradient at hand
LARGE = CASES[1:]


def data(case):
    """Return the input and the cotangent of a result of its shape, in float32."""
    import numpy as np

    shape = tuple(int(n) for n in case.split("x"))
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape, dtype=np.float32)
    return x, rng.standard_normal(shape, dtype=np.float32)


def adjoint_run(function, case, *parameters):
    """`function(x, *parameters)` and the gradients of all of them, for the fixed cotangent."""
    import adjoint as ad

    x, cotangent = data(case)
    leaves = [ad.tensor(ad.asarray(a), requires_grad=True) for a in (x, *parameters)]
    cotangent = ad.asarray(cotangent)

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(cotangent if y.ndim else None)
        results = [y, *(leaf.grad for leaf in leaves)]
        ad.eval(results)
        return results

    return run


def torch_run(function, case, *parameters):
    import torch

    x, cotangent = data(case)
    leaves = [torch.from_numpy(a).requires_grad_(True) for a in (x, *parameters)]
    cotangent = torch.from_numpy(cotangent)

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(cotangent if y.ndim else None)
        return [y, *(leaf.grad for leaf in leaves)]

    return run


def jax_run(function, case, *parameters):
    import jax
    import jax.numpy as jnp

    x, cotangent = data(case)
    leaves = [jnp.asarray(a) for a in (x, *parameters)]

    @jax.jit
    def both(cotangent, *leaves):
        y, pullback = jax.vjp(function, *leaves)
        return y, pullback(cotangent if y.ndim else jnp.ones_like(y))

    cotangent = jnp.asarray(cotangent)
    return lambda: jax.block_until_ready(both(cotangent, *leaves))
