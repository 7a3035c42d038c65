"""Roots of systems of equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.optim.arguments import as_args, check_call, make_limits
from adjoint.optim.implicit import tensors_of
from adjoint.optim.objective import Flat
from adjoint.optim.options import read_options
from adjoint.optim.residuals import pure_residuals, solve
from adjoint.optim.result import Result
from adjoint.optim.words import solver
from adjoint.transforms.custom import differentiated

__all__ = ["root"]

WHO = "root"


@solver
def root(
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    tol: float | None = None,
    maxiter: int | None = None,
    maxfun: int | None = None,
    maxtime: float | None = None,
    callback: Callable[[Result], Any] | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Solve ``f(x, *args) = 0`` by Newton's method within a trust region.

    Parameters
    ----------
    f : callable
        Returns as many numbers as `x` has, in a tensor or a pytree.
    x0 : number, array, Tensor, or pytree of them
        Where to start; the result is like it.
    args : tuple, optional
        Further arguments of `f`. The root is differentiable in the tensors among them.
    tol : float, optional
        The largest value that counts as zero, beside what rounding makes of `f` at the root; by
        default 1e-10 (1e-5 in float32), relative to ``max(1, |J| |x|)`` with J the Jacobian.
    maxiter, maxfun, maxtime, callback, progress
        As for `minimize`.
    options : mapping, optional
        As for `least_squares`, whose method "lm" does the work.

    Returns
    -------
    Result
        `fun` are the values at `x`, `jac` is the Jacobian.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or an option unknown.

    Examples
    --------
    >>> import adjoint as ad
    >>> result = ad.optim.root(lambda x: ad.cos(x) - x, 1.0)
    >>> round(result.x.item(), 9)
    0.739085133
    >>> square_root = lambda a: ad.optim.root(lambda x, a: x * x - a, 1.0, args=(a,)).x
    >>> round(ad.grad(square_root)(4.0).item(), 9)
    0.25
    """
    args = as_args(args)
    check_call(WHO, "f", f, 1 + len(args), f"x0 and the {len(args)} of args")
    limits = make_limits(WHO, maxiter, maxfun, maxtime, callback, progress, tol)
    flat = Flat(WHO, x0)
    tight = {"ftol": 0.0, "xtol": 1e-7 if flat.single else 1e-15, "gtol": 0.0}
    given = tight | read_options(WHO, options)
    result = solve(WHO, _Square(f, flat), x0, "lm", args, None, "linear", 1.0, None, limits, given)
    _judge(result, flat, (1e-5 if flat.single else 1e-10) if tol is None else float(tol))
    result.method = "newton"
    if any(isinstance(a, ad.Tensor) for a in ad.tree.leaves(args)):
        leaves = ad.tree.leaves(result.x)
        found = ad.tree.unflatten(flat.treedef, [ad.stop_gradient(x) for x in leaves])
        result.x = ad.custom_root(f, lambda g, x: found)(found, *args)
        if result.jac is not None and differentiated(tensors_of(args)):
            x = ad.concat([ad.reshape(leaf, (-1,)) for leaf in ad.tree.leaves(result.x)])
            functions = pure_residuals(f, flat, WHO)
            result.fun, result.jac = (functions[n](x, args) for n in ("value", "jacobian"))
            result.cost = 0.5 * ad.sum(result.fun * result.fun)
        flat.keep_trained(result.x)
    return result


class _Square:
    """The function, which must have as many values as variables."""

    def __init__(self, f: Callable[..., Any], flat: Flat) -> None:
        self.f, self.size = f, flat.size
        self.identity = f  # what is kept of one call serves the next one

    def __call__(self, x: Any, *args: Any) -> Any:
        out = self.f(x, *args)
        count = sum(ad.asarray(leaf).size for leaf in ad.tree.leaves(out))
        if count != self.size:
            raise ValueError(
                f"[{WHO}] there are {count} equations for {self.size} unknowns: both must be "
                "equal, or use least_squares"
            )
        return out


def _judge(result: Result, flat: Flat, tol: float) -> None:
    """Decide whether what was found is a root, not merely a lowest sum of squares."""
    if result.jac is None:
        return
    values = np.abs(np.array(result.fun.numpy(), float))
    x = np.abs(flat.vector(result.x).astype(float))
    size = np.maximum(1.0, np.abs(np.array(result.jac.numpy(), float)) @ x)
    worst = float(np.max(values / size)) if values.size else 0.0
    if worst <= tol:
        result.success = True
        result.reason = f"the equations hold to {float(values.max(initial=0.0)):.3g}"
    elif result.success:
        result.success = False
        result.reason = (
            f"the values are smallest here, but not zero: the largest is {values.max():.3g}; "
            "try another start"
        )
