"""The function to be minimized, as the methods see it: of one flat vector, counted and limited.

A method asks an `Objective` for values, gradients, Hessians and products with them, tells it each
iteration, and is stopped by it where a limit is reached or the callback asks for it. What has been
evaluated is never lost: the objective keeps the best point.
"""

from __future__ import annotations

import math
import numbers
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

import adjoint as ad
from adjoint.optim.progress import Progress
from adjoint.optim.result import Iteration, Result
from adjoint.transforms.custom import connected_before, differentiated, work_so_far

__all__ = [
    "Flat",
    "Limits",
    "Objective",
    "Stop",
    "check_scalar",
    "difference_points",
    "is_array",
    "kept_functions",
    "pure_functions",
]

Array = np.ndarray[Any, Any]


class Stop(Exception):
    """Ends a method from inside: it has converged, or somebody or something said so.

    Examples
    --------
    >>> from adjoint.optim.objective import Stop
    >>> stop = Stop("the gradient is at most gtol=1e-05", True)
    >>> stop.success, stop.reason
    (True, 'the gradient is at most gtol=1e-05')
    """

    def __init__(self, reason: str, success: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.success = reason, success


class Flat:
    """How a tree of floating tensors and one vector stand for each other.

    Parameters
    ----------
    who, name : str
        Of whom an error speaks, and what it calls `x0`.
    x0 : number, array, Tensor, or pytree of them
        Integers stand for float64; a list of numbers stands for an array.

    Attributes
    ----------
    start : Tensor, shape (size,)
        The vector of `x0`.
    dtype : dtype
        Of the vector: the promoted one of the leaves, float32 at least.

    Examples
    --------
    >>> from adjoint.optim.objective import Flat
    >>> flat = Flat("minimize", {"a": 1, "b": [[2.0, 3.0]]})
    >>> flat.start.tolist(), flat.unflatten([4.0, 5.0, 6.0])["a"].item()
    ([1.0, 2.0, 3.0], 4.0)
    """

    def __init__(self, who: str, x0: Any, name: str = "x0") -> None:
        try:
            given, self.treedef = ad.tree.flatten(ad.asarray(x0) if is_array(x0) else x0)
            leaves = [ad.asarray(leaf) for leaf in given]
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"[{who}] {name} must be a number, an array or a tree of them: {error}"
            ) from None
        if not leaves:
            raise ValueError(f"[{who}] {name} holds no numbers")
        leaves = [ad.astype(x, ad.float64) if x.dtype.kind in "iu" else x for x in leaves]
        for leaf in leaves:
            if not ad.isdtype(leaf.dtype, "real floating"):
                raise TypeError(f"[{who}] {name} must be real numbers, not {leaf.dtype}")
        self.shapes = tuple(leaf.shape for leaf in leaves)
        self.dtypes = tuple(leaf.dtype for leaf in leaves)
        self.sizes = tuple(leaf.size for leaf in leaves)
        self.size = sum(self.sizes)
        self.dtype = ad.result_type(*self.dtypes)
        if self.dtype not in (ad.float32, ad.float64):
            self.dtype = ad.float32  # a half precision is too coarse to search in
        self.np_dtype = np.dtype(str(self.dtype))
        self.single = self.dtype == ad.float32
        self.plain = len(leaves) == 1 and len(self.shapes[0]) == 1 and leaves[0].dtype == self.dtype
        self.start = self.flatten(leaves)
        self.name = name
        trained = {id(p) for module in _modules(x0) for p in module.parameters() if p.requires_grad}
        self.trained = tuple(id(leaf) in trained for leaf in given)
        if self.size == 0:
            raise ValueError(f"[{who}] {name} holds no numbers")

    @property
    def key(self) -> Any:
        """What two of them have in common that do the same."""
        return (repr(self.treedef), self.shapes, tuple(map(str, self.dtypes)))

    def flatten(self, leaves: Sequence[Any]) -> ad.Tensor:
        """Return the vector of some leaves."""
        parts = [
            ad.reshape(ad.astype(ad.stop_gradient(ad.asarray(x)), self.dtype), (-1,))
            for x in leaves
        ]
        return ad.concat(parts) if len(parts) > 1 else parts[0]

    def vector(self, value: Any) -> Array:
        """Return the vector of a tree as a NumPy array of its own."""
        return np.array(self.flatten(ad.tree.leaves(value)).numpy())

    def vector_like(self, who: str, name: str, value: Any) -> Array:
        """Return the vector of a tree that must be like x0; a list may stand for a vector."""
        if value is None:
            raise TypeError(f"[{who}] {name} must be like x0, not None: does it return?")
        single = len(self.shapes) == 1
        if single and isinstance(value, (list, tuple)) and len(self.shapes[0]) <= 1:
            value = self._listed(who, name, value)
        leaves, treedef = ad.tree.flatten(value)
        if treedef != self.treedef and not (single and len(leaves) == 1):
            raise TypeError(f"[{who}] {name} must be a tree like x0, {self.treedef}, not {treedef}")
        try:
            leaves = [ad.asarray(leaf) for leaf in leaves]
        except (TypeError, ValueError) as error:
            raise TypeError(f"[{who}] {name} must hold numbers, as x0 does: {error}") from None
        for leaf, shape in zip(leaves, self.shapes, strict=True):
            if leaf.shape != shape and not leaf.size == math.prod(shape) == 1:
                raise ValueError(f"[{who}] {name} must be like x0: shapes {leaf.shape} and {shape}")
            if not ad.isdtype(leaf.dtype, ("real floating", "integral")):
                raise TypeError(f"[{who}] {name} must be real numbers, not {leaf.dtype}")
        return np.array(self.flatten(leaves).numpy())

    @staticmethod
    def _listed(who: str, name: str, value: Any) -> Any:
        try:
            return ad.stack([ad.asarray(part) for part in value]) if len(value) else ad.zeros(0)
        except (TypeError, ValueError) as error:
            raise TypeError(f"[{who}] {name} must hold numbers, as x0 does: {error}") from None

    def unflatten(self, vector: Any) -> Any:
        """Return the tree of a vector, by differentiable operations."""
        vector = ad.asarray(vector)
        if self.plain:
            return ad.tree.unflatten(self.treedef, [vector])
        leaves, at = [], 0
        for size, shape, dtype in zip(self.sizes, self.shapes, self.dtypes, strict=True):
            part = ad.reshape(vector[at : at + size], shape)
            leaves.append(part if dtype == self.dtype else ad.astype(part, dtype))
            at += size
        return ad.tree.unflatten(self.treedef, leaves)

    def keep_trained(self, tree: Any) -> None:
        """Let the parameters of a module require gradients where those of x0 do."""
        if any(self.trained):
            for leaf, trained in zip(ad.tree.leaves(tree), self.trained, strict=True):
                if trained and not leaf.requires_grad:
                    leaf.requires_grad_()

    def spread(self, who: str, name: str, value: Any, unset: float | None = None) -> Array:
        """Return one number per parameter, from a number or a tree like x0.

        `unset` is what None stands for, as a number or as an entry of the tree.
        """
        parts = []
        for entry, shape in zip(self._entries(who, name, value), self.shapes, strict=True):
            part = self.numbers(who, name, entry if unset is None else _filled(entry, unset))
            try:
                parts.append(np.broadcast_to(part, shape).reshape(-1))
            except ValueError:
                raise ValueError(
                    f"[{who}] {name} does not fit {self.name}: shapes {part.shape} and {shape}"
                ) from None
        return np.concatenate(parts).astype(self.np_dtype)

    def _entries(self, who: str, name: str, value: Any) -> list[Any]:
        """Return what a tree like x0 has in the places of the arrays; a number is in all."""
        if value is None or isinstance(value, (numbers.Real, np.ndarray, ad.Tensor)):
            return [value] * len(self.shapes)
        try:
            return list(self.treedef.flatten_up_to(value))
        except (TypeError, ValueError, KeyError):
            raise ValueError(
                f"[{who}] {name} must be a number or a tree like {self.name}, "
                f"{self.treedef}, not {ad.tree.structure(value)}"
            ) from None

    @staticmethod
    def numbers(who: str, name: str, value: Any) -> Array:
        """Return real numbers as an array of float64."""
        try:
            array = np.asarray(value.numpy() if isinstance(value, ad.Tensor) else value)
            if array.dtype.kind in "fiub":
                return array.astype(float)
        except (TypeError, ValueError, OverflowError):
            pass
        raise TypeError(f"[{who}] {name} must be a real number, or an array of them")


def is_array(x0: Any) -> bool:
    """Whether lists stand for an array: they hold numbers, and nothing else.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.objective import is_array
    >>> is_array([[1, 2.0]]), is_array([1, ad.ones(2)]), is_array({"a": 1})
    (True, False, False)
    """
    if not isinstance(x0, (list, tuple)) or hasattr(x0, "_fields"):
        return False
    return bool(x0) and all(
        isinstance(v, numbers.Real) or (isinstance(v, (list, tuple)) and is_array(v)) for v in x0
    )


def _modules(tree: Any) -> list[ad.nn.Module]:
    """Return the modules in some containers."""
    found, left = [], [tree]
    while left:
        part = left.pop()
        if isinstance(part, ad.nn.Module):
            found.append(part)
        elif isinstance(part, (dict, list, tuple)):
            left += part.values() if isinstance(part, dict) else part
    return found


_MOST_AXES = 64  # of an array of NumPy; a list that contains itself has more


def _filled(value: Any, unset: float, depth: int = 0) -> Any:
    """Return a number for None, also in lists."""
    if isinstance(value, (list, tuple)) and depth <= _MOST_AXES:
        return [_filled(entry, unset, depth + 1) for entry in value]
    return unset if value is None else value


class Limits:
    """How long a solver may go on, and who is told of it.

    Examples
    --------
    >>> from adjoint.optim.arguments import make_limits
    >>> limits = make_limits("minimize", 10, 400, None, None, False, None)
    >>> limits.used(nit=3, nfev=200)
    0.5
    """

    def __init__(
        self,
        maxiter: int | None,
        maxfun: int | None,
        maxtime: float | None,
        callback: Callable[[Result], Any] | None,
        progress: Progress,
    ) -> None:
        self.maxiter = math.inf if maxiter is None else maxiter
        self.maxfun = math.inf if maxfun is None else maxfun
        self.maxtime = math.inf if maxtime is None else maxtime
        self.callback, self.progress = callback, progress
        self.begun = time.perf_counter()

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self.begun

    def used(self, nit: int, nfev: int) -> float:
        """Return the share of the nearest limit on counts that is used up."""
        return min(
            1.0,
            max(
                nit / self.maxiter if self.maxiter else 1.0,
                nfev / self.maxfun if self.maxfun else 1.0,
            ),
        )


def pure_functions(
    f: Callable[..., Any], flat: Flat, has_aux: bool, who: str
) -> dict[str, Callable[..., Any]]:
    """Return the objective and its derivatives as functions of ``(vector, args)``.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.objective import Flat, pure_functions
    >>> flat = Flat("minimize", [1.0, 2.0])
    >>> functions = pure_functions(lambda x, a: a * ad.sum(x**2), flat, False, "minimize")
    >>> value, gradient = functions["value_and_grad"](flat.start, (3.0,))
    >>> value.item(), gradient.tolist()
    (15.0, [6.0, 12.0])
    """

    def value(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
        out = f(flat.unflatten(vector), *args)
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise TypeError(
                    f"[{who}] with has_aux=True the function must return (value, aux), not a "
                    f"{type(out).__name__}"
                )
            out = out[0]
        return check_scalar(who, out)

    def product(vector: ad.Tensor, args: tuple[Any, ...], v: ad.Tensor) -> Any:
        return ad.hvp(lambda x: value(x, args), vector, v)

    def connected(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
        out = value(vector, args)
        connected.found = isinstance(out, ad.Tensor) and out.requires_grad  # type: ignore[attr-defined]
        return out

    return {
        "value": value,
        "connected": connected,
        "value_and_grad": ad.value_and_grad(connected),
        "hessian": ad.hessian(value),
        "product": product,
    }


def check_scalar(who: str, out: Any) -> Any:
    """Return the one real value of an objective: a 0-d tensor if it is a tensor, else a float.

    Examples
    --------
    >>> import adjoint as ad
    >>> import numpy as np
    >>> from adjoint.optim.objective import check_scalar
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


_RUN_AWAY = "the parameters grow without bound: there is no minimum, or the steps are too long"


class Objective:
    """A function of one flat vector that counts, keeps the best point, and knows when to stop.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` of trees like `x0`.
    flat : Flat
    args : tuple
        Constants: derivatives are taken in x alone.
    limits : Limits
    who : str
        Of whom an error speaks.
    has_aux, compiled, gradient
        As `minimize` takes them, `compiled` as its option ``compile``.
    functions : dict of callable, optional
        What `pure_functions` returns, if it is not to be looked up by `f`.

    Examples
    --------
    >>> import adjoint as ad
    >>> import numpy as np
    >>> from adjoint.optim.objective import Flat, Objective
    >>> from adjoint.optim.arguments import make_limits
    >>> limits = make_limits("minimize", None, None, None, None, False, None)
    >>> objective = Objective(lambda x: ad.sum(x**2), Flat("minimize", [3.0, 4.0]), (), limits)
    >>> f, g = objective.value_and_grad(np.array([3.0, 4.0]))
    >>> f, g.tolist(), objective.nfev, objective.best_f
    (25.0, [6.0, 8.0], 1, 25.0)
    """

    _missing: ClassVar[str] = "this method needs the gradient, and the objective gives none"
    _ways_out: ClassVar[str] = (
        "Write it with this library's functions, or use a method without gradients, such as "
        "method='nelder-mead', or options={'gradient': '2-point'} for finite differences"
    )

    def __init__(
        self,
        f: Callable[..., Any],
        flat: Flat,
        args: tuple[Any, ...],
        limits: Limits,
        *,
        who: str = "minimize",
        has_aux: bool = False,
        compiled: bool = True,
        gradient: Any = "auto",
        functions: dict[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.f, self.flat, self.args, self.limits = f, flat, args, limits
        self.who, self.has_aux, self.gradient = who, has_aux, gradient
        self.compiles = compiled
        self.functions = functions or kept_functions(
            f, (flat.key, has_aux, who), lambda: pure_functions(f, flat, has_aux, who)
        )
        self.nit = self.nfev = self.ngev = self.nhev = 0
        self.best_f = math.inf
        self.best_x: Array = np.array(flat.start.numpy())
        self._begun = float(np.max(np.abs(self.best_x)))
        self.best_g: Array | None = None
        # The best point without a finite gradient: an answer, but no method can go on from there.
        self.edge_f, self.edge_x = math.inf, self.best_x
        self.history: list[Iteration] = []
        self.captured: list[ad.Tensor] = []  # a value whose derivative leads out of the objective
        self.bounds: tuple[Array, Array] | None = None
        self.violation: float | None = None  # these two with constraints
        self.multipliers: list[ad.Tensor] | None = None

    # ---- Evaluations ----------------------------------------------------------------------------

    def value(self, x: Array) -> float:
        """Return the value at a point."""
        self._count(f=1)
        return self._seen(x, self._value(x))

    def _value(self, x: Array) -> float:
        out = self.call("value", ad.asarray(x))
        self.note_captured(out)
        return out if isinstance(out, float) else float(out.item())

    def note_captured(self, out: Any) -> None:
        """Remember that a value depends on what is differentiated elsewhere."""
        if not self.captured and isinstance(out, ad.Tensor) and differentiated([out]):
            self.captured.append(out)

    def value_and_grad(self, x: Array) -> tuple[float, Array]:
        """Return the value and the gradient at a point."""
        if self.gradient != "auto":
            return self._given_gradient(x)
        self._count(f=1, g=1)
        begun = work_so_far()
        value, grad = self.call("value_and_grad", ad.asarray(x))
        if self.nfev == 1:
            self._check_connected(value, begun)
        g = grad.numpy()
        return self._seen(x, value.item(), g), g

    def _check_connected(self, value: ad.Tensor, begun: int) -> None:
        """Raise if there is no gradient, or one that would get lost."""
        if not getattr(self.functions["connected"], "found", True):
            self.no_gradient("what it returns is no tensor that was computed from x")
        # Without compiling, an outer derivative records that of x too: what is asked is whether the
        # value is connected with what was there before.
        if differentiated([value]) if self.compiles else connected_before([value], begun):
            raise ValueError(
                f"[{self.who}] the objective uses values that are differentiated outside of it, "
                "and no derivative would pass: give them in args"
            )

    def hessian(self, x: Array) -> Array:
        """Return the matrix of second derivatives at a point."""
        self._count(h=1)
        if self.gradient != "auto":
            return self._difference_hessian(x)
        return np.array(self.call("hessian", ad.asarray(x)).numpy())

    def product(self, x: Array, v: Array) -> Array:
        """Return the Hessian at a point times a vector."""
        self._count(h=1)
        if self.gradient != "auto":
            size = float(np.linalg.norm(v)) or 1.0
            h = math.sqrt(np.finfo(x.dtype).eps) * max(1.0, float(np.linalg.norm(x))) / size
            ahead, behind = (self.value_and_grad(x + h * s * v)[1] for s in (1.0, -1.0))
            return np.asarray((ahead - behind) / (2 * h))
        return np.array(self.call("product", ad.asarray(x), ad.asarray(v)).numpy())

    def call(self, name: str, vector: ad.Tensor, *more: ad.Tensor) -> Any:
        """Call one of the functions, compiled where that works."""
        if self.compiles and name != "value":
            compiled = self.functions.get("compiled " + name)
            if compiled is None:
                compiled = self.functions["compiled " + name] = ad.compile(self.functions[name])
            try:
                return compiled(vector, self.args, *more)
            except (KeyboardInterrupt, MemoryError):
                raise
            except Exception:  # branches on values, or is wrong: then it raises again, at its line
                self.compiles = False
        try:
            return self.functions[name](vector, self.args, *more)
        except Exception as error:
            if name != "value":
                self._explain(error, vector)
            raise

    def _explain(self, error: Exception, vector: ad.Tensor) -> None:
        """Raise what helps if it is only the derivative that fails."""
        try:
            self.functions["value"](vector, self.args)
        except Exception:
            return
        self.no_gradient(str(error), error)

    def no_gradient(self, why: str, error: Exception | None = None) -> NoReturn:
        """Raise as the function has no derivatives, and a method needs them."""
        raise TypeError(f"[{self.who}] {self._missing}: {why}. {self._ways_out}") from error

    def _given_gradient(self, x: Array) -> tuple[float, Array]:
        if callable(self.gradient):
            self._count(f=1, g=1)
            given = self.gradient(self.flat.unflatten(x), *self.args)
            grad = self.flat.vector_like(self.who, "the gradient", given)
            return self._seen(x, self._value(x), grad), grad
        self._count(f=1)
        f = self._seen(x, self._value(x))
        grad = np.empty_like(x)
        low, high = self.box()
        for i in range(x.size):
            ahead, behind = difference_points(x, i, self.gradient == "3-point", low, high)
            f_behind = f
            if behind is not x:
                self._count(f=1)
                f_behind = self._seen(behind, self._value(behind))
            self._count(f=1)
            grad[i] = (self._seen(ahead, self._value(ahead)) - f_behind) / (ahead[i] - behind[i])
        return f, grad

    def _difference_hessian(self, x: Array) -> Array:
        columns = [self.product(x, e) for e in np.eye(x.size, dtype=x.dtype)]
        matrix = np.array(columns)
        return np.asarray((matrix + matrix.T) / 2)

    def _count(self, f: int = 0, g: int = 0, h: int = 0) -> None:
        if f and self.nfev + f > self.limits.maxfun:
            raise Stop(f"maxfun={self.limits.maxfun} evaluations are used up")
        self.nfev, self.ngev, self.nhev = self.nfev + f, self.ngev + g, self.nhev + h
        if self.limits.maxtime < math.inf:
            self.check_time()

    def check_time(self) -> None:
        """Stop where the time is used up."""
        if self.nfev > 1 and self.limits.seconds() > self.limits.maxtime:
            raise Stop(f"maxtime={self.limits.maxtime} seconds are used up")

    def _seen(self, x: Array, f: float, g: Array | None = None) -> float:
        if g is not None and not np.isfinite(g).all():
            if math.isfinite(f) and f < self.edge_f:
                self.edge_f, self.edge_x = f, np.array(x)
        elif f < self.best_f:
            self.best_f, self.best_x, self.best_g = f, np.array(x), g
        return f

    # ---- Iterations -----------------------------------------------------------------------------

    def check_start(self, f: float, g: Array, gtol: float, size: float | None = None) -> None:
        """Stop at x0 where nothing can be begun, or nothing is left to do."""
        if not math.isfinite(f):
            raise Stop(f"the objective is {f} at x0")
        if not np.isfinite(g).all():
            raise Stop(
                "the gradient is not finite at x0: start elsewhere, or use a method that takes "
                "values alone, such as 'nelder-mead'"
            )
        if (float(np.max(np.abs(g))) if size is None else size) <= gtol:
            raise Stop(f"the gradient is at most gtol={gtol:g} at x0", True)

    def box(self) -> tuple[Array, Array]:
        """Return the bounds, infinite where there are none."""
        if self.bounds is None:
            open_end = np.full(self.flat.size, math.inf, self.flat.np_dtype)
            return -open_end, open_end
        return self.bounds

    def step(self, x: Any, f: float, grad_norm: float | None = None, g: Any = None) -> None:
        """Note an iteration that has led to a point; stop where that is asked for."""
        self.nit += 1
        self.history.append(Iteration(self.nit, self.nfev, f, grad_norm, self.limits.seconds()))
        self.tell(x, f, g)
        if not float(np.max(np.abs(np.asarray(x)))) < self._far(20):
            self.stop(_RUN_AWAY)

    def tell(self, x: Any, f: float, g: Any = None) -> None:
        """Tell callback and progress where the method stands; stop where that is asked for."""
        limits = self.limits
        limits.progress.update(
            self.nit, self.nfev, min(f, self.best_f), limits.used(self.nit, self.nfev)
        )
        if limits.callback is not None:
            try:
                limits.callback(self.intermediate(x, f, g))
            except StopIteration:
                self.stop("the callback raised StopIteration")
        if self.nit >= limits.maxiter:
            self.stop(f"maxiter={limits.maxiter} iterations are done")
        self.check_time()

    def _far(self, decades: int) -> float:
        """Return a size that parameters reach only where there is no minimum."""
        return (1.0 + self._begun) * 10.0**decades

    def stop(self, reason: str) -> NoReturn:
        """End the method."""
        raise Stop(reason)

    def give_up(self, size: float, hidden: bool = False) -> NoReturn:
        """End a method that finds no lower value, with a gradient of this size.

        `hidden`: what could still be gained is less than the rounding of the value. That is no
        success either: the gradient is above the tolerance, and the minimum may be elsewhere.
        """
        why = ", as rounding hides what is left to gain" if hidden else ""
        self.stop(
            f"no lower value can be found{why}; the largest part of the gradient is {size:.3g}"
        )

    def intermediate(self, x: Any, f: float, g: Any = None) -> Result:
        """Return what a callback is given."""
        return Result(
            x=self.flat.unflatten(x),
            fun=f,
            grad=None if g is None else self.flat.unflatten(g),
            nit=self.nit,
            nfev=self.nfev,
            ngev=self.ngev,
            nhev=self.nhev,
            reason="running",
            history=self.history,
        )

    def result(self, method: str, stop: Stop) -> Result:
        """Return the outcome: the best point seen, and why it ended."""
        success, reason = stop.success, stop.reason
        if self.edge_f < self.best_f:
            self.best_f, self.best_x, self.best_g = self.edge_f, self.edge_x, None
            if success or self.nfev > 1:
                reason = f"the lowest value was met where the gradient is not finite; {reason}"
            success = False
        if success and float(np.max(np.abs(self.best_x))) > self._far(15):
            success, reason = False, _RUN_AWAY
        if not math.isfinite(self.best_f):
            success, reason = False, f"no finite value was found; {reason}"
        out = self.intermediate(self.best_x, self.best_f, self.best_g)
        if not math.isfinite(self.best_f):
            out.fun = math.nan
        out.success, out.reason, out.method = success, reason, method
        out.violation, out.multipliers = self.violation, self.multipliers
        if self.has_aux:
            out.aux = self.f(out.x, *self.args)[1]
        return out


def difference_points(
    x: Array, i: int, central: bool, low: Array, high: Array
) -> tuple[Array, Array]:
    """Return the points whose values tell the derivative in one coordinate, within the bounds.

    The second is `x` itself where the difference is one-sided.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.objective import difference_points
    >>> x, end = np.array([1.0, 2.0]), np.full(2, np.inf)
    >>> ahead, behind = difference_points(x, 1, True, -end, end)
    >>> bool(ahead[1] > 2.0 > behind[1]), difference_points(x, 1, False, -end, end)[1] is x
    (True, True)
    """
    eps = float(np.finfo(x.dtype).eps)
    share = eps ** (1 / 3) if central else 0.67 * eps**0.5
    h = share * max(1.0, 0.1 * abs(float(x[i])))
    ahead, behind = x.copy(), x
    ahead[i] += h if x[i] >= 0 else -h
    if not low[i] <= ahead[i] <= high[i]:
        ahead[i] = 2 * x[i] - ahead[i]
    if central:
        behind = x.copy()
        behind[i] -= ahead[i] - x[i]
        if not low[i] <= behind[i] <= high[i]:
            behind = x
    return ahead, behind


# ---- What is kept between calls ------------------------------------------------------------------

_MOST_KEPT = 16
_kept: dict[Any, tuple[Any, dict[str, Callable[..., Any]]]] = {}


def kept_functions(
    f: Callable[..., Any], more: Any, make: Callable[[], dict[str, Callable[..., Any]]]
) -> dict[str, Callable[..., Any]]:
    """Return the functions of a problem; the last few are kept, as compiling takes a while.

    The same function is the same object, or the same method of the same object: what objects say of
    being equal may leave out what matters here.

    Examples
    --------
    >>> from adjoint.optim.objective import kept_functions
    >>> def f(x):
    ...     return x
    >>> first = kept_functions(f, "example", lambda: {"value": f})
    >>> kept_functions(f, "example", lambda: {}) is first
    True
    """
    held = getattr(f, "identity", f)
    if isinstance(held, types.MethodType):
        key = (type(f), id(held.__self__), id(held.__func__), more)
    else:
        key = (type(f), id(held), 0, more)
    found = _kept.pop(key, None)
    if found is None:
        found = (held, make())  # the function is kept too, so that no other has its id
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)), None)
    _kept[key] = found
    return found[1]
