"""What this library calls what NumPy, SciPy, PyTorch and JAX have other names for.

NumPy's functions on tensors are found by it, and whoever types another library's name is told ours.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches

__all__ = ["NUMPY_NAMES", "advise"]

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

# Of any library, as it is written here.
_OTHER_NAMES = {
    **{theirs: f"ad.{own}" for theirs, own in NUMPY_NAMES.items()},
    "array": "ad.tensor or ad.asarray",
    "as_tensor": "ad.asarray",
    "bmm": "ad.matmul",
    "cat": "ad.concat",
    "clamp": "ad.clip",
    "detach": "ad.stop_gradient",
    "fabs": "ad.abs",
    "fori_loop": "ad.scan or ad.while_loop",
    "from_numpy": "ad.asarray",
    "jacfwd": "ad.jacobian(f, mode='forward')",
    "jacrev": "ad.jacobian(f, mode='reverse')",
    "jit": "ad.compile",
    "manual_seed": "ad.random.seed",
    "mm": "ad.matmul",
    "ndarray": "ad.Tensor",
    "Parameter": "ad.tensor(..., requires_grad=True)",
    "permute": "ad.permute_dims",
    "rand": "ad.random.uniform",
    "randint": "ad.random.integers",
    "randn": "ad.random.normal",
    "randperm": "ad.random.permutation",
    "rint": "ad.round",
    "transpose": "ad.permute_dims",
    "tree_flatten": "ad.tree.flatten",
    "tree_leaves": "ad.tree.leaves",
    "tree_map": "ad.tree.map",
    "tree_unflatten": "ad.tree.unflatten",
    "unsqueeze": "ad.expand_dims",
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
