"""One call for every method: the checks, the choice of a method, and the result."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.arguments import as_args, check_call, constants, make_limits
from adjoint.optim.bounds import centre, check_x0, read_bounds
from adjoint.optim.constraints import augmented_lagrangian, read_constraints
from adjoint.optim.drivers import first_order, run_first_order, run_search
from adjoint.optim.evaluation import as_workers
from adjoint.optim.functions import value_of
from adjoint.optim.implicit import attach_minimum
from adjoint.optim.methods import METHODS, Method, find_method
from adjoint.optim.objective import Flat, Limits, Objective, Stop
from adjoint.optim.options import check_known, read_options
from adjoint.optim.result import Result
from adjoint.optim.search import SEARCHES
from adjoint.optim.search.base import check_seed
from adjoint.optim.words import solver

__all__ = ["minimize"]

WHO = "minimize"
_COMMON = ("compile", "gradient")  # options of every method that takes gradients
_SEARCHED = ("target",)  # of every derivative-free search
_REQUIRED = inspect.Parameter.empty
_CONSTRAINED = "augmented-lagrangian"
# Where nothing is said: so many iterations, or evaluations per parameter.
_MOST_ITERATIONS = 10_000
_MOST_EVALUATIONS = 2000


@solver
def minimize(
    f: Callable[..., Any],
    x0: Any,
    method: str = "auto",
    args: tuple[Any, ...] = (),
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    maxiter: int | None = None,
    maxfun: int | None = None,
    maxtime: float | None = None,
    seed: int | None = None,
    callback: Callable[[Result], Any] | None = None,
    executor: Any = None,
    batch: bool | int | None = None,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
    *,
    has_aux: bool = False,
) -> Result:
    """Find parameters with a low value of a function.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns one number, as a tensor. For methods that take values only it may be
        written with anything, and return a float.
    x0 : number, array, Tensor, or pytree of them; None
        Where to start; None is the centre of bounds that are all finite. The result has the same
        structure, shapes and dtypes; a list of numbers stands for an array, integers for float64. A
        search in float32 stays in float32. A module comes back with parameters that require
        gradients where those of `x0` do.
    method : str, default "auto"
        See the table below. "auto" is "augmented-lagrangian" with constraints, "l-bfgs-b" with
        bounds, else "l-bfgs"; without a gradient "nelder-mead" in a few dimensions and "cma-es" in
        more. Other spellings ("L-BFGS-B", "Nelder-Mead", "trust_exact") are understood.
    args : tuple, optional
        Further arguments of `f`. The solution is differentiable in the tensors among them.
    bounds : tuple, list, array or object with lb and ub, optional
        A tuple ``(lower, upper)``, each a number or a tree like `x0`; or a pair for each element of
        `x0`, as SciPy's, in a list or an array of shape (n, 2). None or infinity stands for no
        bound. For two parameters a tuple of two pairs of numbers could be either, and is refused.
    constraints : dict or sequence of dict, optional
        ``{"type": "eq", "fun": c}`` asks for ``c(x) == 0``, ``"ineq"`` for ``c(x) >= 0``; `c`
        returns a tensor of any shape, and takes the further ``"args"`` if there are any.
    tol : float, optional
        When to be content: the largest part of the gradient, or what the method measures instead.
        By default 1e-5 (1e-4 in float32), and for "l-bfgs" and "l-bfgs-b" a change of the value by
        less than 1e7 roundings (1 in float32) of its size.
    maxiter, maxfun : int, optional
        How many iterations (by default 10,000) and evaluations there may be.
    maxtime : float, optional
        How many seconds; it is looked at between evaluations, but not within a compiled line
        search that is short beside it.
    seed : int, optional
        Of methods that draw random numbers. Their path depends on it alone.
    callback : callable, optional
        Called after each iteration with a `Result` of how things stand. Where it raises
        `StopIteration` the method ends.
    executor, batch : optional
        How methods that evaluate many points at once do so: by the ``map`` of an executor, or by
        `ad.vmap`; see `adjoint.optim.evaluate`.
    progress : bool, default False
        Draw a line on stderr: time, iterations, evaluations, the best value.
    options : mapping, optional
        The method's own options, and for methods with gradients ``compile`` (default True) and
        ``gradient``: "auto", "2-point" or "3-point" for finite differences, or a function of the
        same arguments that returns the gradient. Of derivative-free searches ``target``: a value
        that is low enough to stop.
    has_aux : bool, default False
        `f` returns ``(value, aux)``; `Result.aux` is that of the answer.

    Returns
    -------
    Result

    Raises
    ------
    TypeError, ValueError
        Before the first evaluation, if an argument does not fit; at the first one, if the objective
        is no scalar, or has no gradient and the method needs it.

    Notes
    -----
    The value, its gradient and, for "gradient-descent", "cg", "bfgs" and "l-bfgs", the whole
    iteration are compiled (`ad.compile`), once for each function; an objective that cannot be
    compiled, because it branches on values, runs as it is. What an objective does beside computing
    (printing, counting) happens only when it is traced: ``{"compile": False}`` says no. With "auto"
    it is called once more, to see whether it has a gradient.

    ====================  =============================================  ======
    method                                                               bounds
    ====================  =============================================  ======
    gradient-descent      against the gradient, with a line search
    cg                    nonlinear conjugate gradients (Hager-Zhang)
    bfgs                  quasi-Newton with the whole matrix
    l-bfgs                quasi-Newton of limited memory
    l-bfgs-b              the same within bounds                         yes
    projected-gradient    spectral projected gradients                   yes
    newton                the Hessian, made positive, and a line search
    newton-cg             Hessian-vector products and a line search
    trust-exact           the Hessian and a trust region
    trust-ncg             Hessian-vector products and a trust region
    augmented-lagrangian  for constraints, over l-bfgs-b                 yes
    sgd, adam, ...        the optimizers of this package                 yes
    nelder-mead, ...      searches, see `adjoint.optim.search`           yes
    ====================  =============================================  ======

    A value that is nan or infinite counts as too high. The best point evaluated is returned also
    where a limit or the callback ends the method; where the function or an executor raises, or
    Ctrl-C ends it, the exception has it as ``result``.

    Examples
    --------
    >>> import adjoint as ad
    >>> def rosenbrock(p):
    ...     return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> result = ad.optim.minimize(rosenbrock, [-1.2, 1.0], tol=1e-8)
    >>> result.success, [round(v, 6) for v in result.x.tolist()]
    (True, [1.0, 1.0])

    Parameters may be any pytree, and bounds are kept at every evaluation:

    >>> loss = lambda p: (p["a"] - 3.0) ** 2 + ad.sum((p["b"] - 3.0) ** 2)
    >>> start = {"a": 0.0, "b": ad.ones(2)}
    >>> result = ad.optim.minimize(loss, start, bounds=(-1.0, 2.0))
    >>> result.x["a"].item(), result.x["b"].tolist()
    (2.0, [2.0, 2.0])
    """
    args = as_args(args)
    check_call(WHO, "f", f, 1 + len(args), f"x0 and the {len(args)} of args")
    has_aux = check_flag(WHO, "has_aux", has_aux)
    limits = make_limits(WHO, maxiter, maxfun, maxtime, callback, progress, tol)
    flat = Flat(WHO, centre(WHO, bounds) if x0 is None else x0)
    box = read_bounds(WHO, bounds, flat)
    check_x0(WHO, flat, box)
    conditions = read_constraints(WHO, constraints)
    given = read_options(WHO, options)
    _check_places(given)
    if seed is not None:
        seed = check_seed(WHO, seed)
    workers = as_workers(executor, batch)
    chosen = _choose(f, args, flat, method, box, conditions, given, has_aux)
    kind = _kind(chosen)
    _check_method(chosen, kind, given, box, conditions)
    own = dict(given)
    compiled, gradient = own.pop("compile", True), own.pop("gradient", "auto")
    objective = Objective(
        f, flat, constants(args), limits, has_aux=has_aux, compiled=compiled, gradient=gradient
    )
    objective.bounds = box
    _set_defaults(limits, chosen, flat)
    try:
        if chosen in SEARCHES:
            target = own.pop("target", None)
            run_search(objective, kind, own, seed, workers, tol, target)
        elif chosen in first_order():
            run_first_order(objective, kind, own, _gtol(flat, tol))
        elif chosen == _CONSTRAINED:
            augmented_lagrangian(objective, conditions, **_tolerances(kind, own, flat, tol))
        else:
            kind.run(objective, **_tolerances(kind, own, flat, tol))
        raise AssertionError("a method ends by Stop")
    except Stop as end:
        stop = end
    except BaseException as error:
        objective.leave(error, chosen)
        raise
    finally:
        if workers is not executor:
            workers.close()
    result = objective.result(chosen, stop)
    limits.progress.close(result.nit, result.nfev, result.fun, result.reason)
    attach_minimum(result, objective, args, bounds, conditions, stop)
    flat.keep_trained(result.x)
    return result


def _set_defaults(limits: Limits, chosen: str, flat: Flat) -> None:
    """Limit what nobody has limited."""
    if chosen in SEARCHES:
        if limits.maxfun == math.inf:
            limits.maxfun = _MOST_EVALUATIONS * flat.size
    elif limits.maxiter == math.inf:
        limits.maxiter = _MOST_ITERATIONS


def _gtol(flat: Flat, tol: float | None) -> float:
    return (1e-4 if flat.single else 1e-5) if tol is None else float(tol)


def _tolerances(kind: Any, own: dict[str, Any], flat: Flat, tol: float | None) -> dict[str, Any]:
    """Return the method's options with the tolerances that are not among them."""
    known = kind.options()
    values = {"gtol": _gtol(flat, tol)}
    if tol is None:
        values["ftol"] = 1.2e-7 if flat.single else 1e7 * 2.2e-16
    else:
        values["ftol"] = 0.0
    return {name: v for name, v in values.items() if known.get(name) is _REQUIRED} | own


def _choose(
    f: Any,
    args: Any,
    flat: Flat,
    method: Any,
    box: Any,
    conditions: Any,
    options: dict[str, Any],
    has_aux: bool,
) -> str:
    if not (isinstance(method, str) and method == "auto"):
        known = [*METHODS, _CONSTRAINED, *first_order(), *SEARCHES]
        return find_method(WHO, method, known)
    if conditions:
        return _CONSTRAINED
    with_gradient = "l-bfgs" if box is None else "l-bfgs-b"
    without = "nelder-mead" if flat.size <= 5 else "cma-es"
    # What fits neither is told before anything is evaluated.
    searched = {name: v for name, v in options.items() if name not in _SEARCHED}
    if all(name in SEARCHES[without].options() for name in searched):
        ends = None if box is None else tuple(np.asarray(end, float) for end in box)
        SEARCHES[without](flat.start.numpy().astype(float), bounds=ends, **searched)
    else:
        _check_method(with_gradient, _kind(with_gradient), options, box, conditions)
    if _is_auto(options.get("gradient", "auto")):
        return with_gradient if _has_gradient(f, args, flat, has_aux) else without
    return with_gradient


def _is_auto(gradient: Any) -> bool:
    return isinstance(gradient, str) and gradient == "auto"


def _has_gradient(f: Any, args: Any, flat: Flat, has_aux: bool) -> bool:
    """Whether the objective leads from tensors to a tensor that depends on them."""
    x = ad.stop_gradient(flat.start)
    connected = False

    def value(x: ad.Tensor) -> Any:
        nonlocal connected
        out = value_of(WHO, f(flat.unflatten(x), *args), has_aux)
        connected = isinstance(out, ad.Tensor) and out.requires_grad
        return out

    try:
        ad.grad(value)(x)
    except Exception:
        try:
            value(x)
        except Exception:
            return True  # the method will raise it again, at its line
    return connected


def _check_places(options: dict[str, Any]) -> None:
    """Raise where a parameter of `minimize` is given as an option."""
    for name in options:
        if name in inspect.signature(minimize).parameters:
            raise TypeError(f"[{WHO}] {name} is a parameter of minimize itself, not an option")


def _kind(chosen: str) -> Any:
    """Return the record of a method, which knows its options."""
    if chosen == _CONSTRAINED:
        return Method(augmented_lagrangian, bounds=True)
    return (METHODS | first_order() | SEARCHES)[chosen]


def _check_method(chosen: str, kind: Any, options: Any, box: Any, conditions: Any) -> None:
    """Raise unless a method knows the options, and takes the bounds and constraints."""
    for name in options:
        if name in _COMMON and chosen in SEARCHES:
            raise TypeError(
                f"[{WHO}] the method {chosen!r} has no option {name!r}: it takes no gradients, and "
                "calls the function as it is"
            )
    common = _SEARCHED if chosen in SEARCHES else _COMMON
    check_known(WHO, f"the method {chosen!r}", options, [*kind.options(), *common])
    if box is not None and isinstance(kind, Method) and not kind.bounds:
        raise ValueError(
            f"[{WHO}] the method {chosen!r} takes no bounds: use 'l-bfgs-b', 'projected-gradient', "
            "a first-order optimizer or a derivative-free search"
        )
    if conditions and chosen != _CONSTRAINED:
        raise ValueError(
            f"[{WHO}] the method {chosen!r} takes no constraints: use {_CONSTRAINED!r}"
        )
    if conditions and callable(options.get("gradient")):
        raise ValueError(
            f"[{WHO}] with constraints a gradient of the objective alone is of no use: leave it "
            "out, or take differences by options={'gradient': '2-point'}"
        )
