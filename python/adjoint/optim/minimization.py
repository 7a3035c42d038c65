"""One call for every method: the checks, the choice of a method, and the result."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import adjoint as ad
from adjoint._arguments import check_at_least_zero, check_callable, check_count, check_flag
from adjoint.optim.constraints import augmented_lagrangian, read_constraints
from adjoint.optim.drivers import first_order, run_first_order, run_search
from adjoint.optim.evaluation import EvaluationError
from adjoint.optim.implicit import attach_minimum
from adjoint.optim.methods import METHODS, Method, find_method, suggest
from adjoint.optim.objective import Array, Flat, Limits, Objective, Stop, stopped
from adjoint.optim.progress import Progress
from adjoint.optim.result import Result
from adjoint.optim.search import SEARCHES

__all__ = ["check_start", "make_limits", "minimize", "read_bounds"]

WHO = "minimize"
_COMMON = {"compile": True, "gradient": "auto"}
_GRADIENTS = ("auto", "2-point", "3-point")
_REQUIRED = inspect.Parameter.empty
_CONSTRAINED = "augmented-lagrangian"
# Where nothing is said: so many iterations, or evaluations per parameter.
_MOST_ITERATIONS = 10_000
_MOST_EVALUATIONS = 2000


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
    x0 : number, array, Tensor, or pytree of them
        Where to start. The result has the same structure, shapes and dtypes; a list of numbers
        stands for an array, integers for float64. A search in float32 stays in float32.
    method : str, default "auto"
        See the table below. "auto" is "augmented-lagrangian" with constraints, "l-bfgs-b" with
        bounds, else "l-bfgs"; without a gradient "nelder-mead" in a few dimensions and "cma-es" in
        more. Other spellings ("L-BFGS-B", "Nelder-Mead", "trust_exact") are understood.
    args : tuple, optional
        Further arguments of `f`. The solution is differentiable in the tensors among them.
    bounds : tuple, list or object with lb and ub, optional
        A tuple ``(lower, upper)``, each a number or a tree like `x0`, or a list of pairs, one for
        each element of `x0`, as SciPy's. None or infinity stands for no bound.
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
        How many seconds; it is looked at between evaluations.
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
        same arguments that returns the gradient.
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

    ====================  =================================================  ======
    method                                                                   bounds
    ====================  =================================================  ======
    gradient-descent      against the gradient, with a line search
    cg                    nonlinear conjugate gradients (Hager-Zhang)
    bfgs                  quasi-Newton with the whole matrix
    l-bfgs                quasi-Newton of limited memory
    l-bfgs-b              the same within bounds                             yes
    projected-gradient    spectral projected gradients                       yes
    newton                the Hessian, made positive, and a line search
    newton-cg             Hessian-vector products and a line search
    trust-exact           the Hessian and a trust region
    trust-ncg             Hessian-vector products and a trust region
    augmented-lagrangian  for constraints, over l-bfgs-b                     yes
    sgd, adam, ...        the optimizers of this package                     yes
    nelder-mead, ...      derivative-free searches, see `adjoint.optim.search`  yes
    ====================  =================================================  ======

    A value that is nan or infinite counts as too high. The best point evaluated is returned also
    where a limit, an interrupt of the callback or a failure ends the method.

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
    check_callable(WHO, f=f)
    args = as_args(args)
    has_aux = check_flag(WHO, "has_aux", has_aux)
    limits = make_limits(WHO, maxiter, maxfun, maxtime, callback, progress)
    if tol is not None:
        check_at_least_zero(WHO, "tol", tol)
    flat = Flat(WHO, x0)
    box = read_bounds(WHO, bounds, flat)
    check_start(WHO, flat, box)
    conditions = read_constraints(WHO, constraints)
    given = {} if options is None else dict(options)
    chosen = _choose(f, args, flat, method, box, conditions, given, has_aux)
    kind, own = _options(chosen, given)
    if box is not None and isinstance(kind, Method) and not kind.bounds:
        raise ValueError(
            f"[{WHO}] the method {chosen!r} takes no bounds: use 'l-bfgs-b', 'projected-gradient', "
            "a first-order optimizer or a derivative-free search"
        )
    if conditions and chosen != _CONSTRAINED:
        raise ValueError(
            f"[{WHO}] the method {chosen!r} takes no constraints: use {_CONSTRAINED!r}"
        )
    fixed = ad.tree.map(stopped, args)
    common = {name: own.pop(name, default) for name, default in _COMMON.items()}
    _check_common(common)
    objective = Objective(
        f,
        flat,
        fixed,
        limits,
        has_aux=has_aux,
        compiled=common["compile"],
        gradient=common["gradient"],
    )
    objective.bounds = box
    if limits.maxiter == math.inf and chosen not in SEARCHES:
        limits.maxiter = _MOST_ITERATIONS
    elif limits.maxfun == math.inf and chosen in SEARCHES:
        limits.maxfun = _MOST_EVALUATIONS * flat.size
    stop = Stop("nothing was done")
    try:
        if chosen in SEARCHES:
            run_search(objective, SEARCHES[chosen], own, seed, executor, batch, tol)
        elif chosen in first_order():
            run_first_order(objective, first_order()[chosen], own, _gtol(flat, tol))
        elif chosen == _CONSTRAINED:
            augmented_lagrangian(objective, conditions, **_tolerances(kind, own, flat, tol))
        else:
            kind.run(objective, **_tolerances(kind, own, flat, tol))
    except Stop as end:
        stop = end
    except EvaluationError as error:
        error.result = objective.result(chosen, Stop(str(error)))
        raise
    result = objective.result(chosen, stop)
    limits.progress.close(result.nit, result.nfev, result.fun, result.reason)
    attach_minimum(result, objective, args, bounds, conditions)
    return result


def as_args(args: Any) -> tuple[Any, ...]:
    """Return further arguments as a tuple; one alone may be given as it is."""
    return args if isinstance(args, tuple) else (args,)


def make_limits(
    who: str, maxiter: Any, maxfun: Any, maxtime: Any, callback: Any, progress: Any
) -> Limits:
    """Return the limits of a solver, checked."""
    for name, value in (("maxiter", maxiter), ("maxfun", maxfun)):
        if value is not None:
            check_count(who, name, value, 1)
    if maxtime is not None:
        check_at_least_zero(who, "maxtime", maxtime, positive=True)
    if callback is not None:
        check_callable(who, callback=callback)
    bar = Progress(who, seconds=maxtime, shown=check_flag(who, "progress", progress))
    return Limits(maxiter, maxfun, maxtime, callback, bar)


def _gtol(flat: Flat, tol: float | None) -> float:
    return (1e-4 if flat.dtype == ad.float32 else 1e-5) if tol is None else float(tol)


def _tolerances(kind: Any, own: dict[str, Any], flat: Flat, tol: float | None) -> dict[str, Any]:
    """Return the method's options with the tolerances that are not among them."""
    known = kind.options()
    values = {"gtol": _gtol(flat, tol)}
    if tol is None:
        values["ftol"] = 1.2e-7 if flat.dtype == ad.float32 else 1e7 * 2.2e-16
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
    known = [*METHODS, _CONSTRAINED, *first_order(), *SEARCHES]
    if method != "auto":
        return find_method(WHO, method, known)
    if conditions:
        return _CONSTRAINED
    if options.get("gradient", "auto") == "auto" and not _has_gradient(f, args, flat, has_aux):
        few = "nelder-mead" if flat.size <= 5 else "cma-es"
        return few if few in SEARCHES else next(iter(SEARCHES))
    return "l-bfgs" if box is None else "l-bfgs-b"


def _has_gradient(f: Any, args: Any, flat: Flat, has_aux: bool) -> bool:
    """Whether the objective leads from tensors to a tensor that depends on them."""
    x = ad.stop_gradient(flat.start)
    connected = False

    def value(x: ad.Tensor) -> Any:
        nonlocal connected
        out = f(flat.unflatten(x), *args)
        out = out[0] if has_aux else out
        connected = isinstance(out, ad.Tensor) and out.requires_grad
        return out

    try:
        ad.grad(value)(x)
    except Exception:
        try:
            out = value(x)
        except Exception:
            return True  # the method will raise it again, at its line
        return isinstance(out, ad.Tensor) and out.size != 1
    return connected


def _options(chosen: str, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the record of a method, and its options, checked."""
    common = list(_COMMON)
    kind: Any
    if chosen in SEARCHES:
        kind = SEARCHES[chosen]
        known, common = list(kind.options()), []
    elif chosen in first_order():
        kind = first_order()[chosen]
        known = kind.options()
    else:
        kind = (
            Method(augmented_lagrangian, bounds=True) if chosen == _CONSTRAINED else METHODS[chosen]
        )
        known = list(kind.options())
    for name in given:
        if name in ("maxiter", "maxfun", "maxtime", "seed", "callback", "tol"):
            raise TypeError(f"[{WHO}] {name} is a parameter of minimize itself, not an option")
        if name not in known + common:
            raise suggest(WHO, f"the method {chosen!r}", str(name), known + common)
    return kind, given


def _check_common(common: dict[str, Any]) -> None:
    check_flag(WHO, "compile", common["compile"])
    gradient = common["gradient"]
    if not callable(gradient) and gradient not in _GRADIENTS:
        listed = ", ".join(map(repr, _GRADIENTS))
        raise ValueError(
            f"[{WHO}] gradient must be a function or one of {listed}, not {gradient!r}"
        )


def read_bounds(who: str, bounds: Any, flat: Flat) -> tuple[Array, Array] | None:
    """Return lower and upper bounds as vectors, None if there are none."""
    if bounds is None:
        return None
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)
    elif isinstance(bounds, list) or (isinstance(bounds, tuple) and len(bounds) != 2):
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in bounds):
            raise TypeError(
                f"[{who}] bounds must be a tuple (lower, upper), or a list of pairs (lower, upper)"
            )
        if len(bounds) != flat.size:
            raise ValueError(f"[{who}] there are {len(bounds)} bounds for {flat.size} parameters")
        ends = []
        for i, unset in enumerate((-math.inf, math.inf)):
            numbers = [unset if pair[i] is None else pair[i] for pair in bounds]
            ends.append(np.array(numbers, float).astype(flat.np_dtype))
        return _ordered(who, ends[0], ends[1])
    if not isinstance(bounds, tuple):
        raise TypeError(
            f"[{who}] bounds must be a tuple (lower, upper), or a list of pairs, not a "
            f"{type(bounds).__name__}"
        )
    low, high = (
        unset if end is None else end
        for end, unset in zip(bounds, (-math.inf, math.inf), strict=True)
    )
    return _ordered(
        who, flat.spread(who, "the lower bound", low), flat.spread(who, "the upper bound", high)
    )


def _ordered(who: str, low: Array, high: Array) -> tuple[Array, Array]:
    wrong = np.flatnonzero(~(low <= high))
    if wrong.size:
        i = wrong[0]
        raise ValueError(
            f"[{who}] the bounds of parameter {i} are crossed: lower {low[i]:g}, upper {high[i]:g}"
        )
    return low, high


def check_start(who: str, flat: Flat, box: tuple[Array, Array] | None) -> None:
    """Raise unless x0 is finite and within the bounds."""
    x = flat.start.numpy()
    wrong = np.flatnonzero(~np.isfinite(x))
    if wrong.size:
        raise ValueError(f"[{who}] x0 must be finite, parameter {wrong[0]} is {x[wrong[0]]}")
    if box is not None:
        wrong = np.flatnonzero((x < box[0]) | (x > box[1]))
        if wrong.size:
            i = wrong[0]
            raise ValueError(
                f"[{who}] x0 lies outside of the bounds: parameter {i} is {x[i]:g}, not in "
                f"[{box[0][i]:g}, {box[1][i]:g}]"
            )
