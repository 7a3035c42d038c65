"""What the four problems of the ADBench suite share: how a library runs one of their cases.

The problems are those of F. Srajer, Z. Kukelova, A. Fitzgibbon, "A benchmark of selected
algorithmic differentiation tools on some problems in computer vision and machine learning", Optim.
Methods Softw. 33 (2018) 889-906, at sizes of its data. Each objective is written once, with the
names that the libraries have in common; what they name differently is handed in.
"""

from types import SimpleNamespace

from contract import AtLeast

TOLERANCE = 1e-10
BEYOND_TORCH = (AtLeast(1, "torch"), AtLeast(1, "torch", "adjoint compiled"))
BARS = (*BEYOND_TORCH, AtLeast(1, "jax.jit", "adjoint compiled"))


def names(library):
    """Return the functions of a library, by one set of names, and its float64 constructor."""
    if library == "adjoint":
        import adjoint as ad

        # The maximum is a constant here, as it is inside the peers' logsumexp.
        def logsumexp(x, axis):
            top = ad.stop_gradient(ad.max(x, axis=axis, keepdims=True))
            return ad.log(ad.sum(ad.exp(x - top), axis=axis)) + ad.squeeze(top, axis=axis)

        return ad, SimpleNamespace(
            **{name: getattr(ad, name) for name in _COMMON},
            asarray=ad.asarray,
            concat=lambda parts, axis: ad.concat(parts, axis=axis),
            stack=lambda parts, axis: ad.stack(parts, axis=axis),
            take=lambda x, places, axis: ad.take(x, places, axis=axis),
            logsumexp=logsumexp,
            sigmoid=ad.sigmoid,
        )
    if library == "torch":
        import torch

        return torch, SimpleNamespace(
            **{name: getattr(torch, name) for name in _COMMON},
            asarray=torch.as_tensor,
            concat=torch.cat,
            stack=torch.stack,
            take=lambda x, places, axis: torch.index_select(x, axis, places),
            logsumexp=torch.logsumexp,
            sigmoid=torch.sigmoid,
        )
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax, SimpleNamespace(
        **{name: getattr(jax.numpy, name) for name in _COMMON},
        asarray=jax.numpy.asarray,
        concat=jax.numpy.concatenate,
        stack=jax.numpy.stack,
        take=jax.numpy.take,
        logsumexp=jax.scipy.special.logsumexp,
        sigmoid=jax.nn.sigmoid,
    )


_COMMON = ("cos", "exp", "log", "mean", "reshape", "sin", "sqrt", "sum", "tanh", "where")


def run(library, compiled, f, *arguments):
    """Return `run` for a function of tensors, given how the library is used."""
    if library == "adjoint":
        import adjoint as ad

        call = ad.compile(f) if compiled else f

        def forced():
            result = call(*arguments)
            ad.eval(result)
            return result

        return forced
    if library == "torch":
        return lambda: f(*arguments)
    import jax

    call = jax.jit(f)
    return lambda: jax.block_until_ready(call(*arguments))


def gradient(library, objective, count):
    """Return the function that gives the gradients by the first `count` arguments."""
    numbers = tuple(range(count))
    if library == "adjoint":
        import adjoint as ad

        return ad.grad(objective, argnums=numbers)
    if library == "torch":
        import torch

        def by_tape(*arguments):
            leaves = [a.detach().requires_grad_() for a in arguments[:count]]
            return torch.autograd.grad(objective(*leaves, *arguments[count:]), leaves)

        return by_tape
    import jax

    return jax.grad(objective, argnums=numbers)


def variants(factory, *, jax=True):
    """Return the four ways a case is run, given `factory(library, compiled, case)`."""
    found = {
        "adjoint": lambda case: factory("adjoint", False, case),
        "adjoint compiled": lambda case: factory("adjoint", True, case),
        "torch": lambda case: factory("torch", False, case),
    }
    if jax:
        found["jax.jit"] = lambda case: factory("jax", True, case)
    return found


def complex_step(f, x):
    """Return the derivatives of `f` by the entries of a vector, on a last axis, to full precision.

    `f` is written in NumPy and real analytic.
    """
    import numpy as np

    columns = []
    for j in range(x.size):
        moved = x.astype(complex)
        moved[j] += 1e-100j
        columns.append(np.asarray(f(moved)).imag / 1e-100)
    return np.stack(columns, axis=-1)
