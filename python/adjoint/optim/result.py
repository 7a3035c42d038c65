"""What a solver returns: the answer, why it stopped, and how it went."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["Iteration", "Result"]


class Iteration(NamedTuple):
    """One line of `Result.history`.

    Examples
    --------
    >>> import adjoint as ad
    >>> result = ad.optim.minimize(lambda x: (x - 1.0) ** 2, 3.0, maxiter=1)
    >>> row = result.history[0]
    >>> row.nit, row.nfev == result.nfev, row.fun == result.fun
    (1, True, True)
    """

    nit: int
    nfev: int
    fun: float
    grad_norm: float | None  # the largest component, of what counts for convergence
    seconds: float  # since the start


# What SciPy's results have, and where it stands here.
_ELSEWHERE = {
    "allvecs": "history, or a callback",
    "constr_violation": "violation",
    "constraint_violation": "violation",
    "flag": "success",
    "hess": "ad.hessian(f)(result.x)",
    "hess_inv": "ad.linalg.inv(ad.hessian(f)(result.x))",
    "loss": "fun",
    "message": "reason",
    "maxcv": "violation",
    "niter": "nit",
    "njev": "ngev",
    "optimality": "history[-1].grad_norm",
    "params": "x",
    "population": "search.ask(), of a search driven by hand",
    "status": "success and reason",
    "v": "multipliers",
    "value": "fun",
}


# Two results are the same object or different: their tensors have no single truth of being equal.
@dataclasses.dataclass(eq=False)
class Result:
    """The outcome of `minimize`, `least_squares` or `root`.

    Attributes
    ----------
    x : pytree of Tensor
        The best point found, in the structure, shapes and dtypes of `x0`.
    fun : float or Tensor
        The value there; for `least_squares` and `root` the residuals. Where the solution is
        differentiated, this and `cost` are tensors.
    grad : pytree of Tensor, or None
        The gradient there, where the method knows it; under constraints it does not.
    nit, nfev, ngev, nhev : int
        Iterations; evaluations of the function, of gradients (or Jacobians), and of Hessians or
        products with one. A value that comes with its gradient counts in both.
    success : bool
        Whether a test of convergence was met at `x`, which `reason` names: the gradient, within
        bounds its projection on them, is at most ``gtol``; or the value, or sum of squares, changes
        by at most ``ftol`` of its size, or the parameters by ``xtol``; the constraints hold to
        ``ctol`` as well; a derivative-free search says that nothing more is to be expected, or has
        reached its ``target``; the equations of `root` hold. It is False where a limit or the
        callback has ended the method, and where no lower value is found though the gradient is
        above ``gtol``, as where rounding hides what is left to gain: `x` may be as good as the
        dtype allows then, or may not.
    reason : str
        Why it stopped, in words.
    method : str
        The method that was used.
    history : list of Iteration
        ``(nit, nfev, fun, grad_norm, seconds)`` after each iteration.
    cost : float or Tensor, optional
        Of `least_squares`: half the sum of squares, or what the robust loss makes of it.
    jac : Tensor, optional
        Of `least_squares` and `root`: the Jacobian at `x`, by the flattened parameters.
    violation : float, optional
        With constraints: by how much the worst of them is not met.
    multipliers : list of Tensor, optional
        With constraints: a Lagrange multiplier m for each of their values c. The gradient of `fun`
        plus that of ``m * c`` is 0 for equalities; that of `fun` minus that of ``m * c`` for
        inequalities ``c >= 0``, whose m is at least 0. (With bounds: but for what they hold back.)
    aux : optional
        With ``has_aux=True``: what the function returned beside its value, at `x`.

    Examples
    --------
    >>> import adjoint as ad
    >>> result = ad.optim.minimize(lambda x: (x - 1.0) ** 2, 3.0, "newton")
    >>> result.x.item(), result.fun, result.success, result.reason
    (1.0, 0.0, True, 'the gradient is at most gtol=1e-05')
    """

    x: Any
    fun: Any
    grad: Any = None
    nit: int = 0
    nfev: int = 0
    ngev: int = 0
    nhev: int = 0
    success: bool = False
    reason: str = ""
    method: str = ""
    history: list[Iteration] = dataclasses.field(default_factory=list, repr=False)
    cost: Any = None
    jac: Any = None
    violation: float | None = None
    multipliers: Any = None
    aux: Any = None

    def __repr__(self) -> str:
        shown = (f.name for f in dataclasses.fields(self) if f.repr)
        lines = [(name, getattr(self, name)) for name in shown]
        body = "\n".join(f"  {name:>11}: {value!r}" for name, value in lines if value is not None)
        return f"Result(\n{body}\n)"

    if not TYPE_CHECKING:  # a checker that saw it would take every name for one of ours

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            here = f": it is {_ELSEWHERE[name]} here" if name in _ELSEWHERE else _listed()
            raise AttributeError(f"[Result] there is no {name!r}{here}")

    def __getitem__(self, name: Any) -> Any:
        raise TypeError(f"[Result] its parts are attributes: write result.{name}")


def _listed() -> str:
    return f": there are {', '.join(f.name for f in dataclasses.fields(Result))}"
