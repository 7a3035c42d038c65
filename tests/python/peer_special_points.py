"""Records what PyTorch and JAX give at the special points: ``python peer_special_points.py``.

Run by hand where both are installed; the answers, with the versions that gave them, go into
`peer_special_points.json`, from which the documentation's table is made. Each library evaluates the
row's own expression. Where it has a function for a name (`norm`, `logsumexp`, `softmax`) that is
taken, else the plain formula.
"""

from __future__ import annotations

# First: the others use up the memory for thread-local state of libraries.
from special_points import PEERS, POINTS

# isort: split
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

warnings.simplefilter("ignore")
jax.config.update("jax_enable_x64", True)

INVERSE = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh"}
INVERSE |= {"atan": "arctan", "atanh": "arctanh", "atan2": "arctan2"}
PLAIN = """abs acos acosh asin asinh atan atan2 atanh ceil erf erfc exp expm1 floor floor_divide
greater equal hypot isfinite isnan less lgamma log log10 log1p log2 maximum minimum pow reciprocal
remainder round rsqrt sigmoid sign sin sqrt square tanh trunc where clip softplus silu gelu
ones_like
""".split()


def torch_names() -> dict[str, Any]:
    def lifted(f: Callable[..., Any]) -> Callable[..., Any]:
        """Numbers as tensors, which most functions of PyTorch insist on."""
        return lambda *args: f(*(torch.as_tensor(a, dtype=torch.float64) if isinstance(a, float)
                                 else a for a in args))  # fmt: skip

    functions = torch.nn.functional
    special = {
        "clip": torch.clamp,
        "equal": torch.eq,
        "less": torch.lt,
        "greater": torch.gt,
        "softplus": functions.softplus,
        "silu": functions.silu,
        "gelu": lambda x: functions.gelu(x, approximate="tanh"),
    }
    names = {name: lifted(special.get(name) or getattr(torch, name)) for name in PLAIN}
    return {
        **names,
        "cbrt": lambda x: torch.sign(x) * torch.pow(torch.abs(x), 1 / 3),
        "stop_gradient": lambda x: x.detach(),
        "sum_of": lambda x: x.sum(-1),
        "prod_of": lambda x: x.prod(-1),
        "max_of": lambda x: torch.amax(x, -1),
        "min_of": lambda x: torch.amin(x, -1),
        "mean_of": lambda x: x.mean(-1),
        "var_of": lambda x: torch.var(x, -1, correction=0),
        "std_of": lambda x: torch.std(x, -1, correction=0),
        "sort_of": lambda x: torch.sort(x, dim=-1, stable=True).values,
        "norm_of": lambda x: torch.linalg.vector_norm(x, dim=-1),
        "logsumexp_of": lambda x: torch.logsumexp(x, -1),
        "softmax_of": lambda x: torch.softmax(x, -1),
        "entropy_of": lambda x: torch.special.entr(torch.softmax(x, -1)).sum(-1),
        "pick_of": lambda x, *i: x[..., list(i)],
        "entry_of": lambda x, i: x[..., i],
        "number": lambda c: c.to(torch.float32),
        "whole": lambda x: x.to(torch.int64).to(torch.float32),
        "inf": math.inf,
        "nan": math.nan,
    }


def jax_names() -> dict[str, Any]:
    special = {
        "erf": jax.scipy.special.erf,
        "erfc": jax.scipy.special.erfc,
        "lgamma": jax.scipy.special.gammaln,
        "rsqrt": jax.lax.rsqrt,
        "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus,
        "silu": jax.nn.silu,
        "gelu": jax.nn.gelu,
        "clip": jnp.clip,
        "pow": jnp.power,
    }
    names = {name: special.get(name) or getattr(jnp, INVERSE.get(name, name)) for name in PLAIN}
    return {
        **names,
        "cbrt": jnp.cbrt,
        "stop_gradient": jax.lax.stop_gradient,
        **{
            f"{n}_of": (lambda f: lambda x: f(x, axis=-1))(getattr(jnp, n))
            for n in "sum prod max min mean var std sort".split()
        },
        "norm_of": lambda x: jnp.linalg.norm(x, axis=-1),
        "logsumexp_of": lambda x: jax.nn.logsumexp(x, axis=-1),
        "softmax_of": lambda x: jax.nn.softmax(x, axis=-1),
        "entropy_of": lambda x: jax.scipy.special.entr(jax.nn.softmax(x, axis=-1)).sum(-1),
        "pick_of": lambda x, *i: x[..., jnp.array(i)],
        "entry_of": lambda x, i: x[..., i],
        "number": lambda c: c.astype(jnp.float32),
        "whole": lambda x: x.astype(jnp.int64).astype(jnp.float32),
        "inf": math.inf,
        "nan": math.nan,
    }


def by_torch(f: Callable[[Any], Any], x: list[float]) -> tuple[Any, Any]:
    """Gradient and Hessian, by reverse mode over reverse mode; None for what it does not have."""
    at = torch.tensor(x, dtype=torch.float64)
    found = []
    for derive in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        try:
            found.append(derive(lambda y: f(y).sum(), at).tolist())
        except RuntimeError:
            found.append(None)
    return found[0], found[1]


def by_jax(f: Callable[[Any], Any], x: list[float]) -> tuple[Any, Any]:
    loss = lambda y: jnp.sum(f(y))  # noqa: E731
    at = jnp.array(x, dtype=jnp.float64)
    return jax.grad(loss)(at).tolist(), jax.jacrev(jax.grad(loss))(at).tolist()


def record() -> str:
    """The file: one line per row and library."""
    libraries = {
        "PyTorch": (torch.__version__.split("+")[0], by_torch, torch_names()),
        "JAX": (jax.__version__, by_jax, jax_names()),
    }
    parts = []
    for name, (version, derive, names) in libraries.items():
        lines = [f' "version": "{version}"']
        for point in POINTS:
            known = "mul0" not in point.expression  # which is a function of this library alone
            answers = derive(point.read(names), point.x) if known else (None, None)
            lines.append(f" {json.dumps(str(point), ensure_ascii=False)}: {json.dumps(answers)}")
        parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        PEERS.write_text(record(), encoding="utf-8")
