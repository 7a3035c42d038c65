"""What other libraries call what the solvers take, and the word for it here.

Whoever types SciPy's keyword, or its name of a method, is told ours, not that it is unknown.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import adjoint as ad

__all__ = ["METHODS_ELSEWHERE", "advise", "check_keywords", "hint", "nearest", "solver", "warn"]

P = ParamSpec("P")
R = TypeVar("R")

# Keywords of any solver, from SciPy, pycma and their like.
_WORDS = {
    "disp": "progress=True draws a line on stderr",
    "func": "the function is the first argument, give it by its place",
    "fun": "the function is the first argument, give it by its place",
    "iter": "write maxiter=",
    "iprint": "progress=True draws a line on stderr",
    "kwargs": "write args=, or a lambda that holds them",
    "max_iter": "write maxiter=",
    "max_nfev": "write maxfun=",
    "maxfev": "write maxfun=",
    "maxls": "there is no limit of its own on a line search",
    "n_iter": "write maxiter=",
    "num_steps": "write maxiter=",
    "random_state": "write seed=",
    "rng": "write seed=",
    "timeout": "write maxtime=",
    "tolerance": "write tol=",
    "verbose": "progress=True draws a line on stderr",
    "workers": "write executor=, an executor of concurrent.futures; or batch=True for ad.vmap",
}
_OPTION = "write options={{{0!r}: ...}}".format
_NO_HESSIAN = (
    "second derivatives are taken automatically by the methods that use them, leave it out"
)
_MINIMIZE = {
    "constraint": "write constraints=",
    "eps": "write options={'gradient': '2-point'}, whose steps are chosen for each parameter",
    "f_tol": "write options={'ftol': ...}, or tol=",
    "finite_diff_rel_step": "the steps of options={'gradient': '2-point'} are chosen automatically",
    "fprime": "the gradient is taken automatically; one of your own is options={'gradient': g}",
    "grad": "the gradient is taken automatically; one of your own is options={'gradient': g}",
    "gradient": "write options={'gradient': ...}",
    "hess": _NO_HESSIAN,
    "hessp": _NO_HESSIAN,
    "jac": "the gradient is taken automatically of f, which returns the value alone; one of your "
    "own is options={'gradient': g}",
    "lr": "write options={'learning_rate': ...}",
    "maxcor": "write options={'memory': ...}",
    "minimizer_kwargs": "write options=",
    "mutation": _OPTION("mutation"),
    "pgtol": "write options={'gtol': ...}, or tol=",
    "popsize": "write options={'population_size': ...}, the number of points itself",
    "recombination": "write options={'crossover': ...}",
    "sigma0": "write options={'scale': ...}",
    "strategy": _OPTION("strategy"),
    "xatol": "write tol=",
    "fatol": "write tol=",
    **{name: _OPTION(name) + ", or tol=" for name in ("ftol", "gtol", "xtol")},
    **{name: _OPTION(name) for name in ("compile", "learning_rate", "memory", "population_size")},
    **{name: _OPTION(name) for name in ("restarts", "scale", "target")},
}
_JACOBIAN = "the Jacobian is taken automatically; one of your own is options={'jacobian': g}"
_RESIDUALS = {
    "diff_step": "write options={'jacobian': '2-point'}, whose steps are chosen automatically",
    "Dfun": _JACOBIAN,
    "f_scale": "write loss_scale=",
    "fprime": _JACOBIAN,
    "jac": _JACOBIAN,
    "jac_sparsity": "Jacobians are dense here, leave it out",
    "tr_options": "write options=",
    "tr_solver": "there is one way to solve for a step, leave it out",
    "x_scale": "parameters are scaled by their columns of the Jacobian, leave it out",
    **{name: _OPTION(name) + ", or tol=" for name in ("ftol", "gtol", "xtol")},
    **{name: _OPTION(name) for name in ("compile", "factor", "jacobian")},
}
_SEARCH = {
    "CR": "write crossover=",
    "F": "write mutation=",
    "initial_simplex": "write scale=, the edges of a simplex at x0",
    "maxiter": "minimize has it; who asks and tells stops when he likes",
    "maxfun": "minimize has it; who asks and tells stops when he likes",
    "mean": "write x0=, the first argument",
    "popsize": "write population_size=, the number of points itself",
    "random_state": "write seed=",
    "recombination": "write crossover=",
    "rng": "write seed=",
    "sigma": "write scale=",
    "sigma0": "write scale=",
    "xatol": "write tol=",
    "fatol": "write tol=",
    "target": "compare best_f to it; minimize has it as an option",
    "tolfun": "write tol=",
    "tolx": "write xtol=",
}
_OF_SOLVERS = {
    "minimize": _MINIMIZE,
    "least_squares": _RESIDUALS,
    "root": {**_RESIDUALS, "method": "there is one method, leave it out", "xtol": "write tol="},
    "curve_fit": {
        **_RESIDUALS,
        "check_finite": "data must be finite, leave it out",
        "f": "the model is the first argument, give it by its place",
        "nan_policy": "data must be finite: leave out what is nan before",
    },
    "search": _SEARCH,
}
# Methods of SciPy's that have another name here, or something near to them; without hyphens.
METHODS_ELSEWHERE = {
    "basinhopping": "'cma-es' or 'differential-evolution'",
    "brute": "'random-search' with options={'sampling': 'halton'}",
    "cobyla": "'augmented-lagrangian'",
    "cobyqa": "'augmented-lagrangian'",
    "direct": "'differential-evolution' or 'cma-es'",
    "dogleg": "'trust-exact'",
    "dualannealing": "'cma-es' or 'differential-evolution'",
    "powell": "'nelder-mead' or 'cma-es'",
    "shgo": "'differential-evolution' or 'cma-es'",
    "slsqp": "'augmented-lagrangian'",
    "tnc": "'l-bfgs-b' or 'projected-gradient'",
    "trustconstr": "'augmented-lagrangian'",
    "trustkrylov": "'trust-ncg'",
}


# Names of PyTorch's, optax's and SciPy's modules of optimization.
_NAMES = {
    "ASGD": "WeightAverage",
    "AveragedModel": "WeightAverage",
    "ConstantLR": "constant_schedule",
    "CosineAnnealingLR": "cosine_schedule",
    "CosineAnnealingWarmRestarts": "cosine_restarts_schedule",
    "ExponentialLR": "exponential_schedule",
    "LBFGS": "minimize, with the method 'l-bfgs'",
    "LambdaLR": "any function of the number of steps, as learning_rate",
    "LinearLR": "linear_schedule",
    "MultiStepLR": "multi_step_schedule",
    "MultiSteps": "accumulate",
    "OneCycleLR": "one_cycle_schedule",
    "OptimizeResult": "Result",
    "OptimizeWarning": "EvaluationWarning",
    "PolynomialLR": "polynomial_schedule",
    "ReduceLROnPlateau": "ReduceOnPlateau",
    "SequentialLR": "sequence_schedule",
    "StepLR": "step_schedule",
    "apply_every": "accumulate",
    "basinhopping": "minimize, with the method 'cma-es' or 'differential-evolution'",
    "brentq": "root",
    "clip": "clip_by_value",
    "clip_by_global_norm": "clip_by_norm",
    "clip_grad_norm_": "clip_grad_norm",
    "clip_grad_value_": "clip_by_value, in a chain",
    "cosine_decay_schedule": "cosine_schedule",
    "differential_evolution": "minimize, with the method 'differential-evolution'",
    "dual_annealing": "minimize, with the method 'cma-es' or 'differential-evolution'",
    "ema": "WeightAverage",
    "exponential_decay": "exponential_schedule",
    "fmin": "minimize, with the method 'nelder-mead'",
    "fsolve": "root",
    "join_schedules": "sequence_schedule",
    "leastsq": "least_squares",
    "lr_scheduler": "a schedule as learning_rate, such as cosine_schedule",
    "minimize_scalar": "minimize",
    "onecycle_schedule": "one_cycle_schedule",
    "cosine_onecycle_schedule": "one_cycle_schedule",
    "piecewise_constant_schedule": "multi_step_schedule",
    "root_scalar": "root",
    "scale_by_momentum": "trace",
    "scale_by_schedule": "scale_by_learning_rate",
    "swa_utils": "WeightAverage",
    "LinearConstraint": "a dict {'type': 'eq' or 'ineq', 'fun': ...} in constraints=",
    "NonlinearConstraint": "a dict {'type': 'eq' or 'ineq', 'fun': ...} in constraints=",
    "Bounds": "a tuple (lower, upper)",
}


def advise(name: str) -> str:
    """Return what to say of a name that ``ad.optim`` has not: ours for it, or the nearest.

    Examples
    --------
    >>> from adjoint.optim.words import advise
    >>> advise("clip_grad_norm_"), advise("adamw")
    (': the name here is clip_grad_norm', ': the name here is AdamW')
    """
    import adjoint.optim as package

    same = [own for own in package.__all__ if own.lower() == name.lower()]
    found = _NAMES.get(name, same[0] if same else None)
    if found is not None:
        return f": the name here is {found}"
    if name in package.search.__all__:
        return f": the name here is ad.optim.search.{name}"
    from difflib import get_close_matches

    near = get_close_matches(name, package.__all__, 3)
    return f": the nearest names are {', '.join(near)}" if near else ""


def nearest(word: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """Return the name that is most like a word, None where none has this share in common.

    Examples
    --------
    >>> from adjoint.optim.words import nearest
    >>> nearest("bfsg", ["bfgs", "cg"])
    'bfgs'
    """
    from difflib import get_close_matches  # seldom needed

    found = get_close_matches(word, [*known], 1, least)
    return found[0] if found else None


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something at the line outside of this package that has led to it.

    Examples
    --------
    >>> import warnings
    >>> from adjoint.optim.words import warn
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     warn("look here", RuntimeWarning)
    >>> str(seen[0].message)
    'look here'
    """
    within = os.path.dirname(ad.__file__) + os.sep
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(within):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def hint(kind: str, word: str, *, option: bool = False) -> str | None:
    """Return what to write for a keyword of another library, or None where nobody has it.

    Parameters
    ----------
    kind : str
        The name of a solver, or "search".
    word : str
    option : bool, default False
        Whether it was given as an option; what is one, of another method, has no hint then.

    Examples
    --------
    >>> from adjoint.optim.words import hint
    >>> hint("least_squares", "f_scale")
    'write loss_scale='
    """
    words = _OF_SOLVERS.get(kind)
    if words is None:
        return None
    said = words.get(word, _WORDS.get(word))
    return None if option and said is not None and said.startswith(_OPTION(word)) else said


def check_keywords(
    who: str, given: Iterable[str], known: Iterable[str], kind: str | None = None
) -> None:
    """Raise where a keyword is none of a function's, with the word for it here.

    Examples
    --------
    >>> from adjoint.optim.words import check_keywords
    >>> check_keywords("CMAES", ["sigma0"], ["bounds", "scale"], "search")
    Traceback (most recent call last):
        ...
    TypeError: [CMAES] the parameter is scale=, not sigma0=
    """
    names = [*known]
    for word in given:
        if word in names:
            continue
        said = hint(kind or who, word)
        if said is None:
            near = nearest(word, names)
            said = f"did you mean {near}=?" if near else f"there are {', '.join(names)}"
        ours = said.removeprefix("write ")
        if ours.endswith("=") and ours[:-1].isidentifier():
            raise TypeError(f"[{who}] the parameter is {ours}, not {word}=")
        raise TypeError(f"[{who}] there is no parameter {word}=: {said}")


def solver(f: Callable[P, R]) -> Callable[P, R]:
    """Let a solver say what is wrong with its keywords, and with being called in a trace.

    Examples
    --------
    >>> from adjoint.optim.words import solver
    >>> @solver
    ... def least_squares(residuals, loss_scale=1.0): ...
    >>> least_squares(None, f_scale=0.1)
    Traceback (most recent call last):
        ...
    TypeError: [least_squares] the parameter is loss_scale=, not f_scale=
    """
    who, parameters = f.__name__, inspect.signature(f).parameters.values()
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    open_ended = len(known) < len(parameters)  # it checks the rest itself, by names of options

    @functools.wraps(f)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        words = [w for w in kwargs if not open_ended or hint(who, w) is not None]
        check_keywords(who, words, known)
        try:
            return f(*args, **kwargs)
        except Exception as error:
            traced = _traced(error)
            if traced is None:
                raise
            raise ad.TracedValueError(
                f"[{who}] a solver decides by values, so it cannot run within ad.compile or "
                "ad.vmap: if it is called there, call it outside, in a loop over a batch; it "
                f"compiles its function by itself. It met: {traced}"
            ) from error

    return checked


def _traced(error: BaseException) -> ad.TracedValueError | None:
    """Return the error of a tensor that has no value within a trace: this one or the cause of it.

    A value that would leave a derivative raises the same class, but has an advice of its own. An
    objective that fails in a batch only, which is a trace too, has said what is wrong.
    """
    from adjoint.optim.evaluation import BatchError  # which is built on this

    if isinstance(error, BatchError):
        return None
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ad.TracedValueError):
        seen = seen.__cause__
    said = str(seen)
    inside = "inside compile" in said or "inside vmap" in said
    return seen if inside and "a solver decides" not in said else None
