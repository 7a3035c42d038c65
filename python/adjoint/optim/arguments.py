"""What the arguments of `minimize`, `least_squares`, `curve_fit` and `root` have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import adjoint as ad
from adjoint._arguments import (
    check_at_least_zero,
    check_callable,
    check_count,
    check_flag,
    check_number,
)
from adjoint.optim.objective import Limits
from adjoint.optim.progress import Progress

__all__ = ["as_args", "check_call", "constants", "make_limits"]


def as_args(args: Any) -> tuple[Any, ...]:
    """Return further arguments as a tuple; one alone may be given as it is.

    Examples
    --------
    >>> from adjoint.optim.arguments import as_args
    >>> as_args(2.0), as_args((1.0, 2.0))
    ((2.0,), (1.0, 2.0))
    """
    return args if isinstance(args, tuple) else (args,)


def constants(args: tuple[Any, ...]) -> Any:
    """Return further arguments as they are while a solution is looked for: without derivative.

    Examples
    --------
    >>> from adjoint.optim.arguments import constants
    >>> import adjoint as ad
    >>> (a,) = constants((ad.tensor(2.0, requires_grad=True),))
    >>> a.requires_grad
    False
    """
    return ad.tree.map(lambda a: ad.stop_gradient(a) if isinstance(a, ad.Tensor) else a, args)


def check_call(who: str, name: str, f: Callable[..., Any], count: int, which: str) -> None:
    """Raise unless a function takes a number of positional arguments, described by `which`.

    Examples
    --------
    >>> from adjoint.optim.arguments import check_call
    >>> check_call("minimize", "f", lambda x, a: a * x, 1, "x0")
    Traceback (most recent call last):
        ...
    TypeError: [minimize] f cannot be called with x0: missing a required argument: 'a'
    """
    check_callable(who, **{name: f})
    code = getattr(f, "__code__", None)
    if code is not None and not code.co_kwonlyargcount:  # quicker than a signature
        least = code.co_argcount - len(getattr(f, "__defaults__", None) or ())
        if least <= count <= code.co_argcount and not hasattr(f, "__self__"):
            return
    try:
        signature = inspect.signature(f, follow_wrapped=False)  # what is called, not what it hides
    except (TypeError, ValueError):  # of a function in C, which does not tell
        return
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"[{who}] {name} cannot be called with {which}: {error}") from None


def make_limits(
    who: str, maxiter: Any, maxfun: Any, maxtime: Any, callback: Any, progress: Any, tol: Any
) -> Limits:
    """Return the limits of a solver; they and its tolerance are checked.

    Examples
    --------
    >>> from adjoint.optim.arguments import make_limits
    >>> limits = make_limits("minimize", 100, None, 2.5, None, False, 1e-6)
    >>> limits.maxiter, limits.maxfun, limits.maxtime
    (100, inf, 2.5)
    """
    if tol is not None:
        check_at_least_zero(who, "tol", tol)
    if maxiter is not None:
        maxiter = check_count(who, "maxiter", maxiter, 1)
    if maxfun is not None:
        maxfun = check_count(who, "maxfun", maxfun, 1)
    if maxtime is not None:
        check_at_least_zero(who, "maxtime", maxtime, positive=True)
        maxtime = check_number(who, "maxtime", maxtime)
    if callback is not None:
        check_call(who, "callback", callback, 1, "the Result so far")
    bar = Progress(who, seconds=maxtime, shown=check_flag(who, "progress", progress))
    return Limits(maxiter, maxfun, maxtime, callback, bar)
