"""Derivatives given by hand, and values that are computed again instead of kept.

Each function here computes a value from inputs without history and then attaches a rule: `pull`
maps cotangents of the outputs to cotangents of the inputs, `push` tangents to tangents, and each
has the other as its transpose. Rules are made of ordinary operations, so their own derivatives,
their batches and their compiled forms come by themselves.

A rule must not keep tensors alive: what it needs is among its inputs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from adjoint import _core, tree
from adjoint._core import Tensor

__all__ = ["checkpoint", "custom_jvp", "custom_vjp"]

Tensors = list[Tensor]
Maybe = list[Tensor | None]
Pull = Callable[[Tensors, Tensors], Maybe]
Push = Callable[[Tensors, Maybe], Maybe]


# ---- What the rules are built from ---------------------------------------------------------------


def is_floating(x: Any) -> bool:
    """Whether `x` is a value that derivatives can reach."""
    return isinstance(x, Tensor) and x.dtype.kind == "real floating"


class Frame:
    """A tree without the floating tensors in it."""

    def __init__(self, leaves: list[Any], treedef: tree.TreeDef) -> None:
        self.treedef = treedef
        self._places = [i for i, x in enumerate(leaves) if is_floating(x)]
        self._leaves = [None if is_floating(x) else x for x in leaves]

    def fill(self, tensors: Sequence[Any]) -> Any:
        """Return the tree with these tensors."""
        leaves = list(self._leaves)
        for i, x in zip(self._places, tensors, strict=True):
            leaves[i] = x
        return tree.unflatten(self.treedef, leaves)

    def spread(self, tangents: Maybe, inputs: Tensors) -> Any:
        """Return the tree with tangents of `inputs`: zeros where they are None."""
        leaves: list[Any] = [0.0 if x is not None else None for x in self._leaves]
        for i, t, x in zip(self._places, tangents, inputs, strict=True):
            leaves[i] = _core.zeros_like(x) if t is None else t
        return tree.unflatten(self.treedef, leaves)

    def gather(self, given: Any, who: str) -> list[Any]:
        """Return the parts of `given`, a tree like this one, at the places of the tensors."""
        if given is None:
            return [None for _ in self._places]
        try:
            parts = self.treedef.flatten_up_to(given)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"[{who}] returned another structure than the value it is the derivative of: {error}"
            ) from None
        return [parts[i] for i in self._places]


def take_apart(value: Any) -> tuple[Frame, Tensors]:
    """Return a tree as its frame and its floating tensors."""
    leaves, treedef = tree.flatten(value)
    return Frame(leaves, treedef), [x for x in leaves if is_floating(x)]


def stopped(tensors: Sequence[Tensor]) -> Tensors:
    """Return the same values without history or tangents."""
    return [_core.stop_gradient(x) for x in tensors]


def transpose(linear: Callable[[Tensors], Maybe], zeros: Tensors, cotangents: Maybe) -> Maybe:
    """Apply the transpose of `linear`, which takes tensors like `zeros`, to `cotangents`."""
    outputs, leaves, start = _core._recorded_run(linear, zeros)
    pairs = [
        (y, ct)
        for y, ct in zip(outputs, cotangents, strict=True)
        if y is not None and ct is not None
    ]
    ys, cts = [y for y, _ in pairs], [ct for _, ct in pairs]
    return _core._sweep_since(ys, cts, leaves, [], start) if pairs else [None for _ in leaves]


def attach(values: Any, inputs: Tensors, pull: Pull | None, push: Push | None) -> Any:
    """Return the tree `values` with the derivative with respect to `inputs` that a rule gives.

    `pull(inputs, cotangents)` and `push(inputs, tangents)` speak of the floating tensors of
    `values`, in order; either may be None and is then the transpose of the other.
    """
    frame, outputs = take_apart(values)
    if not outputs:
        return values
    specs = [(y.shape, y.dtype) for y in outputs]

    def transposed_push(inputs: Tensors, cotangents: Tensors) -> Maybe:
        assert push is not None
        zeros = [_core.zeros_like(x) for x in inputs]
        return transpose(lambda ts: push(inputs, list(ts)), zeros, list(cotangents))

    def transposed_pull(inputs: Tensors, tangents: Maybe) -> Maybe:
        assert pull is not None
        zeros = [_core.zeros(shape, dtype=dtype) for shape, dtype in specs]
        return _transpose_pull(pull, inputs, zeros, tangents)

    rule = (pull or transposed_push, push or transposed_pull)
    return frame.fill(_core._attach_derivative(outputs, inputs, *rule))


def _transpose_pull(pull: Pull, inputs: Tensors, zeros: Tensors, tangents: Maybe) -> Maybe:
    return transpose(lambda cts: pull(inputs, cts), zeros, tangents)


def positional(
    f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the arguments of a call of `f` by position alone."""
    if not kwargs:
        return args
    bound = inspect.signature(f).bind(*args, **kwargs)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"[{_name(f)}] has a derivative given by hand and takes {', '.join(bound.kwargs)} by "
            "keyword alone: make them positional arguments"
        )
    return bound.args


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", "function")


# ---- The public functions ------------------------------------------------------------------------


class custom_vjp:  # noqa: N801: a decorator
    """Give a function a reverse-mode derivative of your own.

    Decorate `f` and then name the two halves of the rule by `defvjp`. Every transform uses the
    rule: forward mode its transpose, `vmap` its batch; derivatives of higher order differentiate
    `forward` and `backward` themselves.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors. What it closes over keeps its own derivative;
        what the rule speaks of are the arguments.

    Examples
    --------
    >>> import adjoint as ad
    >>> @ad.custom_vjp
    ... def log1pexp(x):
    ...     return ad.log(1 + ad.exp(x))
    >>> def forward(x):
    ...     return log1pexp(x), x
    >>> def backward(x, cotangent):
    ...     return (cotangent * (1 - 1 / (1 + ad.exp(x))),)
    >>> log1pexp.defvjp(forward, backward)
    >>> ad.grad(log1pexp)(100.0).item()
    1.0
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        if not callable(f):
            raise TypeError(f"[custom_vjp] needs a function, not a {type(f).__name__}")
        functools.update_wrapper(self, f)
        self._f = f
        self._rule: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the rule.

        Parameters
        ----------
        forward : callable
            ``forward(*args)`` returns ``(f(*args), residuals)``; residuals are any tree.
        backward : callable
            ``backward(residuals, cotangent)`` returns a tuple with one cotangent per argument of
            `f`, each a tree like the argument or None for zero. It must be linear in `cotangent`,
            a tree like the output.
        """
        self._rule = (forward, backward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``f(*args)``."""
        args = positional(self._f, args, kwargs)
        frame, tensors = take_apart(args)
        if not _core._any_differentiated(tensors):
            return self._f(*args)
        who = f"custom_vjp of {_name(self._f)}"
        if self._rule is None:
            raise RuntimeError(f"[{who}] has no rule: call defvjp(forward, backward) first")
        forward, backward = self._rule
        values, residuals = _pair(forward(*frame.fill(stopped(tensors))), f"{who}: forward")
        kept, saved = take_apart(residuals)
        out, _ = take_apart(values)
        count = len(tensors)

        def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
            point, at = inputs[:count], kept.fill(inputs[count:])
            if _core._any_differentiated(point):  # the residuals' own derivatives are wanted
                at = _pair(forward(*frame.fill(point)), who)[1]
            given = backward(at, out.spread(list(cotangents), list(cotangents)))
            if isinstance(given, list):
                given = tuple(given)
            return frame.gather(given, f"{who}: backward") + [None] * len(saved)

        return attach(values, tensors + stopped(saved), pull, None)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def _pair(result: Any, who: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"[{who}] must return a pair (output, residuals)")
    return result


class custom_jvp:  # noqa: N801: a decorator
    """Give a function a forward-mode derivative of your own.

    Decorate `f` and then name the rule by `defjvp`. Every transform uses it: reverse mode its
    transpose, `vmap` its batch; derivatives of higher order differentiate the rule itself.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors. What it closes over keeps its own derivative;
        what the rule speaks of are the arguments.

    Examples
    --------
    >>> import adjoint as ad
    >>> @ad.custom_jvp
    ... def cube(x):
    ...     return x**3
    >>> @cube.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return cube(x), 3 * x**2 * t
    >>> ad.grad(cube)(2.0).item()
    12.0
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        if not callable(f):
            raise TypeError(f"[custom_jvp] needs a function, not a {type(f).__name__}")
        functools.update_wrapper(self, f)
        self._f = f
        self._rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule, and return it.

        Parameters
        ----------
        rule : callable
            ``rule(primals, tangents)``, both tuples with one entry per argument of `f`, returns
            ``(output, tangent)``. It must be linear in `tangents`, which are zeros where an
            argument does not vary.
        """
        self._rule = rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``f(*args)``."""
        args = positional(self._f, args, kwargs)
        frame, tensors = take_apart(args)
        if not _core._any_differentiated(tensors):
            return self._f(*args)
        who = f"custom_jvp of {_name(self._f)}"
        if self._rule is None:
            raise RuntimeError(f"[{who}] has no rule: call defjvp(rule) first")
        rule = self._rule
        values = self._f(*frame.fill(stopped(tensors)))
        out, _ = take_apart(values)

        def push(inputs: Tensors, tangents: Maybe) -> Maybe:
            _, given = _pair(rule(frame.fill(inputs), frame.spread(tangents, inputs)), who)
            return out.gather(given, f"{who}: rule")

        return attach(values, tensors, None, push)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` so that its intermediate values are computed again when they are needed.

    Reverse mode keeps the arguments of the call instead of every intermediate value in it: memory
    falls, and the work of the call is done twice (Griewank and Walther, 2000). The result and all
    derivatives are those of `f`, which must give the same values when it is run again. Tensors
    that `f` closes over are differentiated too; under `vmap` pass them as arguments, or their part
    of the work is kept.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors.

    Returns
    -------
    callable
        With the signature of `f`.

    Examples
    --------
    >>> import adjoint as ad
    >>> layer = ad.checkpoint(lambda x: ad.tanh(3 * x))
    >>> ad.grad(lambda x: layer(layer(x)))(0.0).item()
    9.0
    """
    if not callable(f):
        raise TypeError(f"[checkpoint] needs a function, not a {type(f).__name__}")

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        frame, tensors = take_apart((args, kwargs))

        def run(inputs: Sequence[Tensor]) -> Any:
            args, kwargs = frame.fill(inputs)
            return f(*args, **kwargs)

        start = _core._order()
        values = run(stopped(tensors))
        out, outputs = take_apart(values)
        captured: Tensors = []
        if not _core._any_boxed(tensors + outputs):
            captured = _core._captured_before(outputs, start)
            values = out.fill(stopped(outputs))
        inputs = tensors + captured
        if not _core._any_differentiated(inputs):
            return values
        return attach(values, inputs, *_recomputation(run, len(tensors)))

    return call


def _recomputation(run: Callable[[Sequence[Tensor]], Any], count: int) -> tuple[Pull, Push]:
    """Return the rule that runs the function again; `count` inputs are its arguments."""

    def outputs(inputs: Sequence[Tensor]) -> Tensors:
        return take_apart(run(inputs))[1]

    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        ys, leaves, start = _core._recorded_run(outputs, _core._barrier(inputs[:count]))
        found: Maybe = _core._sweep_since(ys, cotangents, leaves, inputs[count:], start)
        return found

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        given = [_core.zeros_like(x) if t is None else t for x, t in zip(inputs, tangents, strict=True)]
        out: Maybe = list(_core.jvp(outputs, (inputs[:count],), (given[:count],))[1])
        return out

    return pull, push
