"""Roots of systems of equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.optim.arguments import as_args, check_call, make_limits
from adjoint.optim.functions import Derived
from adjoint.optim.implicit import attach_root
from adjoint.optim.objective import Flat
from adjoint.optim.options import read_options
from adjoint.optim.residuals import solve
from adjoint.optim.result import Result
from adjoint.optim.words import solver

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
    close = (1e-5 if flat.single else 1e-10) if tol is None else float(tol)

    def attach(result: Result, problem: Any, args: tuple[Any, ...], _: Any) -> None:
        _judge(result, flat, close)
        result.method = "newton"
        attach_root(result, problem, f, args)

    square = _Square(f, said=flat.size)
    how = ("lm", args, None, "linear", 1.0, None, limits, given)
    return solve(WHO, square, x0, *how, attach=attach)


class _Square(Derived):
    """The function, which must have as many values as variables."""

    def __call__(self, x: Any, *args: Any) -> Any:
        out = self.functions[0](x, *args)
        count = sum(ad.asarray(leaf).size for leaf in ad.tree.leaves(out))
        if count != self.said:
            raise ValueError(
                f"[{WHO}] there are {count} equations for {self.said} unknowns: both must be "
                "equal, or use least_squares"
            )
        return out


def _judge(result: Result, flat: Flat, tol: float) -> None:
    """Decide whether what was found is a root, not merely a lowest sum of squares."""
    values = np.abs(np.array(result.fun.numpy(), float))
    if not (values.size and np.isfinite(values).all()):
        return
    size = np.ones_like(values)
    if result.jac is not None:  # it is not known where it is infinite, as that of a square root
        x = np.abs(flat.vector(result.x).astype(float))
        size = np.maximum(1.0, np.abs(np.array(result.jac.numpy(), float)) @ x)
    worst = float(np.max(values / size))
    if worst <= tol:
        result.success = True
        result.reason = f"the equations hold to {float(values.max(initial=0.0)):.3g}"
    elif result.success:
        result.success = False
        result.reason = (
            f"the values are smallest here, but not zero: the largest is {values.max():.3g}; "
            "try another start"
        )
