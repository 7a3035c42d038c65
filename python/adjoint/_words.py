"""What this library calls what NumPy, SciPy, PyTorch and JAX have other names for.

NumPy's functions on tensors are found by it, and whoever types another library's name is told ours.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches

__all__ = ["NUMPY_NAMES", "advise", "unknown"]

# What a function is called here, where nothing here has NumPy's or SciPy's name of it.
NUMPY_NAMES = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "array": "asarray",
    "asanyarray": "asarray",
    "concatenate": "concat",
    "degrees": "rad2deg",
    "expit": "sigmoid",
    "fix": "trunc",
    "gammainc": "igamma",
    "gammaincc": "igammac",
    "gammaln": "lgamma",
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "psi": "digamma",
    "radians": "deg2rad",
    "right_shift": "bitwise_right_shift",
    "row_stack": "vstack",
    "trapz": "trapezoid",
    **{f"arc{rest}": f"a{rest}" for rest in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
}

_REDUCTIONS = ("all", "any", "logsumexp", "max", "mean", "min", "prod", "std", "sum")

# Of any library, as it is written here.
_OTHER_NAMES = {
    **{theirs: f"ad.{own}" for theirs, own in NUMPY_NAMES.items()},
    "array": "ad.tensor or ad.asarray",
    "as_tensor": "ad.asarray",
    "bmm": "ad.matmul",
    "cast": "ad.astype",
    "cat": "ad.concat",
    "clamp": "ad.clip",
    "clip_by_value": "ad.clip",
    "clip_grad_norm_": "ad.optim.clip_grad_norm",
    "constant": "ad.tensor",
    "convert_to_tensor": "ad.asarray",
    "detach": "ad.stop_gradient",
    "fabs": "ad.abs",
    "fori_loop": "ad.scan or ad.while_loop",
    "from_numpy": "ad.asarray",
    "function": "ad.compile",
    "gamma": "ad.random.gamma, and ad.exp(ad.lgamma(x)) the function",
    "gather": "ad.take, and ad.take_along_axis that of torch",
    "index_select": "ad.take",
    "inverse": "ad.linalg.inv",
    "jacfwd": "ad.jacobian(f, mode='forward')",
    "jacrev": "ad.jacobian(f, mode='reverse')",
    "jit": "ad.compile",
    "logdet": "ad.linalg.slogdet, whose second result it is",
    "map": "ad.vmap, and ad.tree.map for trees",
    "map_fn": "ad.vmap",
    "manual_seed": "ad.random.seed",
    "masked_fill": "ad.where(mask, value, x)",
    "mm": "ad.matmul",
    "ndarray": "ad.Tensor",
    "Parameter": "ad.tensor(..., requires_grad=True)",
    "permute": "ad.permute_dims",
    "rand": "ad.random.uniform",
    "randint": "ad.random.integers",
    "randn": "ad.random.normal",
    "randperm": "ad.random.permutation",
    **{f"reduce_{own}": f"ad.{own}" for own in _REDUCTIONS},
    "remat": "ad.checkpoint",
    "reverse": "ad.flip",
    "rint": "ad.round",
    "scatter_add": "x.at[i].add(v)",
    "set_random_seed": "ad.random.seed",
    "tensor_scatter_nd_update": "x.at[i].set(v)",
    "transpose": "ad.permute_dims",
    "tree_flatten": "ad.tree.flatten",
    "tree_leaves": "ad.tree.leaves",
    "tree_map": "ad.tree.map",
    "tree_unflatten": "ad.tree.unflatten",
    "unsqueeze": "ad.expand_dims",
}
# The same within a module.
_IN_MODULES = {
    "nn": {
        "CrossEntropyLoss": "cross_entropy, a function",
        "Dense": "Linear",
        "MSELoss": "mse_loss, a function",
        "Parameter": "ad.tensor(..., requires_grad=True)",
    },
    "random": {
        "PRNGKey": "Generator",
        "RandomState": "Generator",
        "default_rng": "Generator",
        "key": "Generator",
        "manual_seed": "seed",
        "multinomial": "categorical",
        "rand": "uniform",
        "randint": "integers",
        "randn": "normal",
        "random": "uniform",
        "randperm": "permutation",
        "set_seed": "seed",
        "shuffle": "permutation",
        "split": "Generator.split, a method",
        "standard_normal": "normal",
    },
    "testing": {
        "allclose": "assert_close",
        "assert_allclose": "assert_close",
        "assert_array_equal": "assert_close(..., rtol=0, atol=0)",
        "gradcheck": "check_grads",
    },
    "tree": {
        **{f"tree_{name}": name for name in ("flatten", "leaves", "map", "unflatten")},
        "register_pytree_node": "register",
        "tree_structure": "structure",
    },
}
_NAMESPACES = ("linalg", "random", "nn", "optim", "tree", "io")  # none of which needs NumPy


def advise(name: str) -> str:
    """Return what to say of a name that the module has not: ours for it, or the nearest ones."""
    ad = sys.modules["adjoint"]
    if name in _OTHER_NAMES:
        return f": the name here is {_OTHER_NAMES[name]}"
    homes = [n for n in _NAMESPACES if name in getattr(getattr(ad, n), "__all__", ())]
    if homes:
        return f": the name here is ad.{homes[0]}.{name}"
    near = get_close_matches(name, [n for n in dir(ad) if not n.startswith("_")], 3)
    return f": the nearest names are {', '.join('ad.' + n for n in near)}" if near else ""


def unknown(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module has not; it says which one is meant."""
    text = f"module 'adjoint.{module}' has no attribute {name!r}"
    if name.startswith("_"):
        return AttributeError(text)
    ad = sys.modules["adjoint"]
    own = getattr(sys.modules[f"adjoint.{module}"], "__all__", ())
    if name in _IN_MODULES.get(module, {}):
        text += f": the name here is {_IN_MODULES[module][name]}"
    elif name in ad.__all__:
        text += f": it is ad.{name}"
    elif near := get_close_matches(name, own, 3):
        text += f": the nearest names are {', '.join(near)}"
    return AttributeError(text)
