"""The function to be minimized, as the methods see it: of one flat vector, counted and limited.

A method asks an `Objective` for values, gradients, Hessians and products with them, tells it each
iteration, and is stopped by it where a limit is reached or the callback asks for it. The objective
alone counts evaluations and keeps the best of all points that were evaluated, and it alone says
that a method has converged: of the point that is returned.
"""

from __future__ import annotations

import contextlib
import enum
import math
import numbers
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

import adjoint as ad
from adjoint.optim.differences import difference_points, gradient_step
from adjoint.optim.functions import Functions, kept_functions, pure_functions
from adjoint.optim.progress import Progress
from adjoint.optim.result import Iteration, Result
from adjoint.transforms.custom import connected_before, differentiated, work_so_far

__all__ = ["End", "Flat", "Limits", "Objective", "Stop", "is_array"]

Array = np.ndarray[Any, Any]


class End(enum.Enum):
    """What kind of end a method has come to."""

    CONVERGED = enum.auto()
    TARGET = enum.auto()  # the value is low enough, whatever the point is
    HIDDEN = enum.auto()  # rounding hides what is left to gain
    FAILED = enum.auto()
    LIMIT = enum.auto()  # this one and the next two end whatever is around the method, too
    CALLBACK = enum.auto()
    UNBOUNDED = enum.auto()

    @property
    def final(self) -> bool:
        """Whether nothing more is to be tried from there."""
        return self in (End.LIMIT, End.CALLBACK, End.UNBOUNDED)


class Stop(Exception):
    """Ends a method from inside: it has converged, or somebody or something said so.

    Examples
    --------
    >>> from adjoint.optim.objective import Stop
    >>> stop = Stop("the gradient is at most gtol=1e-05", True)
    >>> stop.success, stop.reason
    (True, 'the gradient is at most gtol=1e-05')
    """

    def __init__(self, reason: str, success: bool = False, end: End | None = None) -> None:
        super().__init__(reason)
        self.reason, self.success = reason, success
        self.end = end or (End.CONVERGED if success else End.FAILED)


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
        return (self.treedef, self.shapes, self.dtypes)

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

    Attributes
    ----------
    best_x, best_f, best_g
        The point with the lowest finite value of all that were evaluated, `x0` before; and its
        gradient, None where it is not known. `see` and `converged` alone write them.

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
        functions: Functions | None = None,
    ) -> None:
        self.f, self.flat, self.args, self.limits = f, flat, args, limits
        self.who, self.has_aux, self.gradient = who, has_aux, gradient
        self.automatic = isinstance(gradient, str) and gradient == "auto"
        self.compiles = compiled
        self.functions = functions or kept_functions(
            f, (flat.key, has_aux, who), lambda: pure_functions(f, flat, has_aux, who)
        )
        self.nit = self.nfev = self.ngev = self.nhev = 0
        self.best_f = math.inf
        self.best_x: Array = np.array(flat.start.numpy())
        self.best_g: Array | None = None
        self.start = self._begun = self.best_x
        self.history: list[Iteration] = []
        self.captured: list[ad.Tensor] = []  # a value whose derivative leads out of the objective
        self.bounds: tuple[Array, Array] | None = None
        self.violation: float | None = None  # these two with constraints
        self.multipliers: list[ad.Tensor] | None = None
        self._ran: set[str] = set()

    # ---- Evaluations ----------------------------------------------------------------------------

    def value(self, x: Array) -> float:
        """Return the value at a point."""
        self._count(f=1)
        return self.see(x, self._value(x))

    def _value(self, x: Array) -> float:
        out = self.call("value", ad.asarray(x))
        self.note_captured(out)
        return out if isinstance(out, float) else float(out.item())

    def note_captured(self, out: Any) -> None:
        """Remember that a value depends on what is differentiated elsewhere."""
        if not self.captured and isinstance(out, ad.Tensor) and differentiated([out]):
            self.captured.append(out)

    def find_captured(self) -> None:
        """Remember it also where gradients alone were asked for, which tell it in passing."""
        if not self.captured and self.functions["watch"].captured:
            self.note_captured(self.functions["value"](ad.asarray(self.best_x), self.args))

    def value_and_grad(self, x: Array) -> tuple[float, Array]:
        """Return the value and the gradient at a point."""
        if not self.automatic:
            return self._given_gradient(x)
        self._count(f=1, g=1)
        begun = work_so_far()
        value, grad = self.call("value_and_grad", ad.asarray(x))
        if self.nfev == 1:
            self._check_connected(value, begun)
        g = grad.numpy()
        return self.see(x, value.item(), g), g

    def _check_connected(self, value: ad.Tensor, begun: int) -> None:
        """Raise if there is no gradient, or one that would get lost."""
        if not self.functions["watch"].connected:
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
        if self.automatic:
            self._count(h=1)
            return np.array(self.call("hessian", ad.asarray(x)).numpy())
        matrix = np.array([self.product(x, e) for e in np.eye(x.size, dtype=x.dtype)])
        return np.asarray((matrix + matrix.T) / 2)

    def product(self, x: Array, v: Array) -> Array:
        """Return the Hessian at a point times a vector."""
        self._count(h=1)
        if self.automatic:
            return np.array(self.call("product", ad.asarray(x), ad.asarray(v)).numpy())
        h = gradient_step(x, v, self.gradient)
        ahead, behind = ((x + s * v).astype(x.dtype) for s in (h, -h))
        return np.asarray(
            (self.value_and_grad(ahead)[1] - self.value_and_grad(behind)[1]) / (2 * h)
        )

    def call(self, name: str, vector: ad.Tensor, *more: ad.Tensor) -> Any:
        """Call one of the functions, compiled where that works."""
        if name == "value_and_grad":
            self.functions["watch"].begin()
        if self.compiles and self._to_compile(name):
            compiled = self.functions.get("compiled " + name)
            if compiled is None:
                compiled = self.functions["compiled " + name] = ad.compile(self.functions[name])
            try:
                out = compiled(vector, self.args, *more)
            except Exception as error:
                self.run_plainly(name, error)
            else:
                self._ran.add(name)
                return out
        try:
            return self.functions[name](vector, self.args, *more)
        except Exception as error:
            if name != "value":
                self._explain(error, vector)
            raise

    def _to_compile(self, name: str) -> bool:
        return name != "value"  # which is all that some methods ask for, of any Python

    def run_plainly(self, name: str, error: Exception) -> None:
        """Compile no more after an error: it branches on values, or is wrong and raises again.

        What has run as a program before is not taken for one that cannot be: the error is another,
        such as that of a handler of signals.
        """
        if isinstance(error, MemoryError):
            raise error
        if name in self._ran and not isinstance(error, ad.TracedValueError):
            raise error
        self.compiles = False

    def _explain(self, error: Exception, vector: ad.Tensor) -> None:
        """Raise what helps if it is only the derivative that fails.

        Only what code says of a tensor that it cannot take is looked into: any other error may have
        been for once, and the function is not called again for it.
        """
        if not isinstance(
            error, (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError)
        ):
            return
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
            value = self._value(x)
            given = self.gradient(self.flat.unflatten(x), *self.args)
            grad = self.flat.vector_like(self.who, "the gradient", given)
            return self.see(x, value, grad), grad
        f = self.value(x)
        grad = np.zeros_like(x)
        low, high = self.box()
        for i in range(x.size):
            ahead, behind = difference_points(x, i, self.gradient == "3-point", low, high)
            if ahead is not x:
                f_behind = f if behind is x else self.value(behind)
                grad[i] = (self.value(ahead) - f_behind) / float(ahead[i] - behind[i])
        if f == self.best_f and np.array_equal(x, self.best_x):
            self.best_g = grad
        return f, grad

    def _count(self, f: int = 0, g: int = 0, h: int = 0) -> None:
        if f and self.nfev + f > self.limits.maxfun:
            self.out_of_evaluations()
        if self.limits.maxtime < math.inf:
            self.check_time()
        self.nfev, self.ngev, self.nhev = self.nfev + f, self.ngev + g, self.nhev + h

    def count_program(self, name: str, nfev: int) -> None:
        """Take over the count of a program that has made whole iterations."""
        self._ran.add(name)
        self.nfev, self.ngev = nfev, self.ngev + nfev - self.nfev

    def out_of_evaluations(self) -> NoReturn:
        """Stop as there may be no more evaluations."""
        raise Stop(f"maxfun={self.limits.maxfun} evaluations are used up", end=End.LIMIT)

    def out_of_time(self) -> bool:
        """Whether the time is used up; something is evaluated in any case."""
        return self.nfev > 0 and self.limits.seconds() > self.limits.maxtime

    def check_time(self) -> None:
        """Stop where the time is used up."""
        if self.out_of_time():
            raise Stop(f"maxtime={self.limits.maxtime} seconds are used up", end=End.LIMIT)

    # ---- The best point -------------------------------------------------------------------------

    def see(self, x: Array, f: float, g: Array | None = None) -> float:
        """Keep a point that was evaluated, if no finite value was lower; return the value."""
        if f < self.best_f and math.isfinite(f):
            self._keep(x, f, g)
        return f

    def replace_best(self, x: Array, f: float) -> None:
        """Keep a point that is better by what the method knows, as with constraints."""
        self._keep(x, f, None)

    def _keep(self, x: Array, f: float, g: Array | None) -> None:
        self.best_f, self.best_x, self.best_g = f, np.array(x), g

    def converged(
        self,
        reason: str,
        x: Any,
        f: float,
        g: Array | None = None,
        *,
        gtol: float = 0.0,
        ftol: float = 0.0,
        slack: float = 0.0,
    ) -> NoReturn:
        """End the method at a point that meets a test of convergence: `reason` says which.

        It is the answer, unless a lower value was met elsewhere. One that rounding does not tell
        from this is not lower, nor is one near by that a gradient of `gtol` explains, or `slack`;
        and where the test was one of values, `ftol` of their size is no difference.
        """
        if not math.isfinite(f):
            self.stop(f"the steps have led to where the value is {f}")
        x = np.array(x)
        if float(np.max(np.abs(x))) > self._far(15) and not self._rises_beyond(x, f):
            self.run_away()
        eps = float(np.finfo(self.flat.np_dtype).eps)
        size = max(abs(f), abs(self.best_f))
        explained = min(gtol * float(np.sum(np.abs(x - self.best_x))), math.sqrt(eps) * (1 + size))
        if f - self.best_f <= max(10 * eps * size, explained, slack):
            self._keep(x, f, g)
        elif f - self.best_f > ftol * max(1.0, size):
            self.stop(f"{reason}, but a lower value was met before, at another point")
        raise Stop(reason, True)

    def _rises_beyond(self, x: Array, f: float) -> bool:
        """Whether the value is higher as far again from x0: else there need not be a minimum."""
        with np.errstate(over="ignore", invalid="ignore"):
            beyond = np.clip(x + (x - self._begun), *self.box()).astype(x.dtype)
        try:
            value = self.value(beyond)
        except Stop:
            return False
        return not value <= f

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
            reason = f"the gradient is at most gtol={gtol:g} at x0"
            self.converged(reason, self.start, f, g, gtol=gtol)

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
                raise Stop("the callback raised StopIteration", end=End.CALLBACK) from None
        if self.nit >= limits.maxiter:
            raise Stop(f"maxiter={limits.maxiter} iterations are done", end=End.LIMIT)
        self.check_time()
        if not float(np.max(np.abs(np.asarray(x)))) < self._far(20):
            self.run_away()

    def is_far(self, x: Array) -> bool:
        """Whether parameters are of a size that they seldom reach where there is a minimum."""
        return not float(np.max(np.abs(x))) <= self._far(15)

    def _far(self, decades: int) -> float:
        return (1.0 + float(np.max(np.abs(self._begun)))) * 10.0**decades

    def run_away(self) -> NoReturn:
        """End a method whose parameters grow without bound."""
        why = "the parameters grow without bound: there is no minimum, or the steps are too long"
        raise Stop(why, end=End.UNBOUNDED)

    def stop(self, reason: str) -> NoReturn:
        """End the method."""
        raise Stop(reason)

    def give_up(self, size: float, hidden: bool = False) -> NoReturn:
        """End a method that finds no lower value, with a gradient of this size.

        `hidden`: what could still be gained is less than the rounding of the value. That is no
        success either: the gradient is above the tolerance, and the minimum may be elsewhere.
        """
        why = ", as rounding hides what is left to gain" if hidden else ""
        raise Stop(
            f"no lower value can be found{why}; the largest part of the gradient is {size:.3g}",
            end=End.HIDDEN if hidden else End.FAILED,
        )

    # ---- Results --------------------------------------------------------------------------------

    def intermediate(self, x: Any, f: float, g: Any = None) -> Result:
        """Return how things stand, in numbers of its own: a callback may write to them."""
        return Result(
            x=self._tree(x),
            fun=f,
            grad=None if g is None else self._tree(g),
            nit=self.nit,
            nfev=self.nfev,
            ngev=self.ngev,
            nhev=self.nhev,
            reason="running",
            history=list(self.history),
        )

    def _tree(self, vector: Any) -> Any:
        array = vector.numpy() if isinstance(vector, ad.Tensor) else vector
        return self.flat.unflatten(np.array(array, self.flat.np_dtype))

    def result(self, method: str, stop: Stop, *, whole: bool = True) -> Result:
        """Return the outcome: the best point seen, and why it ended.

        What takes a call of the function is left out unless it is wanted `whole`.
        """
        success, reason, g = stop.success, stop.reason, self.best_g
        if g is not None and not np.isfinite(g).all():
            g = None
            if success or self.nfev > 1:
                reason = f"the lowest value was met where the gradient is not finite; {reason}"
            success = False
        known = math.isfinite(self.best_f)
        if not known:
            success, reason = False, f"no finite value was found; {reason}"
        out = self.intermediate(self.best_x, self.best_f if known else math.nan, g)
        out.success, out.reason, out.method = success, reason, method
        out.violation, out.multipliers = self.violation, self.multipliers
        if self.has_aux and whole:
            out.aux = self.f(out.x, *self.args)[1]
        return out

    def leave(self, error: BaseException, method: str) -> None:
        """Give an exception the best point so far, as ``result``."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, KeyboardInterrupt):
            reason = "it was interrupted"
        with contextlib.suppress(Exception):  # of a class that takes no attributes
            error.result = self.result(method, Stop(reason), whole=False)  # type: ignore[attr-defined]
