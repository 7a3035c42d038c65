"""The functions of a problem, of one flat vector; those of the last few problems are kept.

Compiling takes a while, so that a problem that comes again finds its functions again. What makes
two problems one is asked narrowly: the same function object, and trees that are equal, settings of
modules included. A function that is made anew by each call of a solver, such as the residuals of a
fit, says what it is made of (`Derived`).
"""

from __future__ import annotations

import numbers
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.transforms.custom import connected_before, work_so_far

__all__ = ["Derived", "Watch", "check_scalar", "kept_functions", "pure_functions", "value_of"]

Functions = dict[str, Any]


class Watch:
    """What the values of an objective depended on where a derivative was last taken of them.

    It is learnt while the function runs, or is traced; a compiled program tells nothing any more.

    Attributes
    ----------
    connected : bool
        Whether the value is a tensor that was computed from x.
    captured : bool
        Whether it depends on something else that is differentiated, which no derivative would
        reach.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.functions import Watch
    >>> watch, a = Watch(), ad.tensor(2.0, requires_grad=True)
    >>> watch.begin()
    >>> x = ad.tensor(3.0, requires_grad=True)
    >>> watch.look(a * x)
    >>> watch.connected, watch.captured
    (True, True)
    """

    def __init__(self) -> None:
        self.connected, self.captured = True, False
        self._thread = threading.local()

    def begin(self) -> None:
        """Mark what there is before the function is called."""
        self._thread.mark = work_so_far()

    def look(self, out: Any) -> None:
        """Look at what the function returns."""
        self.connected = isinstance(out, ad.Tensor) and out.requires_grad
        mark = getattr(self._thread, "mark", None)
        self.captured = self.connected and mark is not None and connected_before([out], mark)


def value_of(who: str, out: Any, has_aux: bool) -> Any:
    """Return the value among what an objective has returned, a 0-d tensor or a float.

    Examples
    --------
    >>> from adjoint.optim.functions import value_of
    >>> value_of("minimize", (2.0, "more"), True)
    2.0
    """
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"[{who}] with has_aux=True the function must return (value, aux), not a "
                f"{type(out).__name__}" + (f" of {len(out)}" if isinstance(out, tuple) else "")
            )
        out = out[0]
    return check_scalar(who, out)


def pure_functions(f: Callable[..., Any], flat: Any, has_aux: bool, who: str) -> Functions:
    """Return the objective and its derivatives as functions of ``(vector, args)``.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.functions import pure_functions
    >>> from adjoint.optim.objective import Flat
    >>> flat = Flat("minimize", [1.0, 2.0])
    >>> functions = pure_functions(lambda x, a: a * ad.sum(x**2), flat, False, "minimize")
    >>> value, gradient = functions["value_and_grad"](flat.start, (3.0,))
    >>> value.item(), gradient.tolist()
    (15.0, [6.0, 12.0])
    """
    watch = Watch()

    def value(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
        return value_of(who, f(flat.unflatten(vector), *args), has_aux)

    def watched(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
        out = value(vector, args)
        watch.look(out)
        return out

    def product(vector: ad.Tensor, args: tuple[Any, ...], v: ad.Tensor) -> Any:
        return ad.hvp(lambda x: value(x, args), vector, v)

    return {
        "value": value,
        "value_and_grad": ad.value_and_grad(watched),
        "hessian": ad.hessian(value),
        "product": product,
        "watch": watch,
    }


def check_scalar(who: str, out: Any) -> Any:
    """Return the one real value of an objective: a 0-d tensor if it is a tensor, else a float.

    Examples
    --------
    >>> import adjoint as ad
    >>> import numpy as np
    >>> from adjoint.optim.functions import check_scalar
    >>> check_scalar("minimize", ad.ones((1,))).shape, check_scalar("minimize", np.float32(2))
    ((), 2.0)
    >>> check_scalar("minimize", np.ones(3))
    Traceback (most recent call last):
        ...
    ValueError: [minimize] the objective must return one number, not an array of shape (3,)
    """
    if isinstance(out, ad.Tensor):
        if out.size != 1:
            raise ValueError(
                f"[{who}] the objective must return one number, not an array of shape {out.shape}: "
                "reduce it, by ad.sum or ad.mean, or use least_squares"
            )
        if not ad.isdtype(out.dtype, ("real floating", "integral", "bool")):
            raise TypeError(f"[{who}] the objective must return a real number, not {out.dtype}")
        return ad.reshape(out, ()) if out.shape else out
    number = np.asarray(out if isinstance(out, (numbers.Real, np.generic, np.ndarray)) else None)
    if number.dtype.kind not in "fiub":
        pair = isinstance(out, (tuple, list))
        hint = ": say has_aux=True for (value, aux); of (value, gradient) give the value alone, as "
        hint = hint + "gradients are taken automatically" if pair else ""
        raise TypeError(
            f"[{who}] the objective must return one number, not a {type(out).__name__}{hint}"
        )
    if number.size != 1:
        raise ValueError(
            f"[{who}] the objective must return one number, not an array of shape {number.shape}"
        )
    return float(number.reshape(()))


# ---- What is kept between calls ------------------------------------------------------------------


class Derived:
    """A function that a solver makes of the caller's anew in each call.

    Parameters
    ----------
    *functions : callable
        The caller's, in their order.
    said : hashable
        What else it depends on.

    Examples
    --------
    >>> from adjoint.optim.functions import Derived, kept_functions
    >>> class Doubled(Derived):
    ...     def __call__(self, x):
    ...         return 2 * self.functions[0](x)
    >>> first = kept_functions(Doubled(abs), "example", lambda: {"value": abs})
    >>> kept_functions(Doubled(abs), "example", lambda: {}) is first
    True
    """

    def __init__(self, *functions: Callable[..., Any], said: Any = None) -> None:
        self.functions, self.said = functions, said


_MOST_KEPT = 16
_kept: dict[Any, tuple[Any, Functions]] = {}
_keeping = threading.Lock()


def kept_functions(f: Callable[..., Any], more: Any, make: Callable[[], Functions]) -> Functions:
    """Return the functions of a problem; the last few are kept, as compiling takes a while.

    The same function is the same object, or the same method of the same object: what objects say of
    being equal may leave out what matters here.

    Examples
    --------
    >>> from adjoint.optim.functions import kept_functions
    >>> def f(x):
    ...     return x
    >>> first = kept_functions(f, "example", lambda: {"value": f})
    >>> kept_functions(f, "example", lambda: {}) is first
    True
    """
    key = (_key(f), more)
    with _keeping:
        found = _kept.pop(key, None)
        if found is not None:
            _kept[key] = found
            return found[1]
    made = make()
    with _keeping:
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = (f, made)  # the function is kept too, so that no other has its id
    return made


def _key(f: Any) -> Any:
    if isinstance(f, Derived):
        return (type(f), tuple(map(_key, f.functions)), f.said)
    if isinstance(f, types.MethodType):
        return (type(f), id(f.__self__), id(f.__func__))
    return (type(f), id(f))
