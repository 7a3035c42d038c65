"""Derivatives given by hand, and values that are computed again instead of kept.

Each function here computes a value from inputs without history and then attaches a rule: `pull`
maps cotangents of the outputs to cotangents of the inputs, `push` tangents to tangents, and each
has the other as its transpose. Rules are made of ordinary operations, so their own derivatives,
their batches and their compiled forms come by themselves.

A rule must not keep tensors alive: what it needs is among its inputs.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from adjoint import _core, tree
from adjoint._arguments import check_callable
from adjoint._core import Tensor, TreeDef
from adjoint._dtypes import is_differentiable
from adjoint._pickling import Made, PickledByName
from adjoint.transforms.snapshot import Snapshot

__all__ = ["checkpoint", "custom_jvp", "custom_vjp"]

_R = TypeVar("_R")
Tensors = list[Tensor]
Maybe = list[Tensor | None]
Pull = Callable[[Tensors, Tensors], Maybe]
Push = Callable[[Tensors, Maybe], Maybe]


# ---- What the rules are built from ---------------------------------------------------------------


class Frame:
    """A tree without the tensors in it."""

    def __init__(self, leaves: list[Any], treedef: TreeDef) -> None:
        self._treedef = treedef
        self._places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        self._leaves = [None if isinstance(x, Tensor) else x for x in leaves]
        tensors = [leaves[i] for i in self._places]
        self.specs = [(x.shape, x.dtype) for x in tensors]
        self.floating = [is_differentiable(x) for x in tensors]

    def fill(self, tensors: Sequence[Any]) -> Any:
        """Return the tree with these tensors."""
        leaves = list(self._leaves)
        for i, x in zip(self._places, tensors, strict=True):
            leaves[i] = x
        return tree.unflatten(self._treedef, leaves)

    def others(self) -> list[Any]:
        """Return what stands in the tree beside tensors; None in their places."""
        return self._leaves

    def with_others(self, others: list[Any]) -> Frame:
        """Return the same frame with these in the places of `others`."""
        frame = copy.copy(self)
        frame._leaves = others
        return frame

    def spread(self, floats: Sequence[Tensor | None]) -> Any:
        """Return the tree with these values for the floating tensors; None and others are zeros."""
        given = iter(floats)
        values = [next(given) if is_float else None for is_float in self.floating]
        return self.fill(
            [
                _core.zeros(shape, dtype=dtype) if x is None else x
                for x, (shape, dtype) in zip(values, self.specs, strict=True)
            ]
        )

    def gather(self, given: Any, who: str) -> list[Any]:
        """Return the parts of `given`, a tree like this one: one per tensor, None if not floating.

        A None in `given` stands for None in all of its places.
        """
        try:
            parts = self._parts(given)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"[{who}] must return a tree like the value whose derivative it gives: {error}"
            ) from None
        chosen = [parts[i] for i in self._places]
        return [x if is_float else None for x, is_float in zip(chosen, self.floating, strict=True)]

    def _parts(self, given: Any) -> list[Any]:
        # One level below the top, where a None may stand for a whole argument.
        if given is None:
            return [None for _ in self._leaves]
        whole = tree.unflatten(self._treedef, list(range(len(self._leaves))))
        if not isinstance(whole, tuple) or not isinstance(given, tuple):
            return self._treedef.flatten_up_to(given)
        if len(whole) != len(given):
            raise ValueError(f"{len(given)} entries given, {len(whole)} wanted")
        parts: list[Any] = []
        for entry, value in zip(whole, given, strict=True):
            leaves, treedef = tree.flatten(entry)
            parts += [None for _ in leaves] if value is None else treedef.flatten_up_to(value)
        return parts


def take_apart(value: Any) -> tuple[Frame, Tensors]:
    """Return a tree as its frame and its tensors.

    A number among the arguments of a compiled function is no tensor: its value is asked for.
    """
    leaves, treedef = tree.flatten(value)
    _core._ask_numbers(leaves)
    return Frame(leaves, treedef), [x for x in leaves if isinstance(x, Tensor)]


def floats(values: Sequence[Any]) -> Tensors:
    """Return the floating tensors among the values."""
    return [x for x in values if is_differentiable(x)]


def differentiated(values: Sequence[Any]) -> bool:
    """Whether a derivative with respect to any of the values is wanted, now or of a traced body."""
    moving = floats(values)
    return _core._any_differentiated(moving) or _core._any_in_body(moving)


def work_so_far() -> int:
    """Return a mark between what has been recorded and what will be."""
    return _core._order()


def connected_before(values: Sequence[Tensor], mark: int) -> bool:
    """Whether any of the values depends on what was recorded before a mark."""
    return _core._any_connected(list(values), mark)


def refuse_captured(values: Sequence[Any], start: int, who: str) -> None:
    """Raise if values made since `start` from stopped arguments have a derivative all the same.

    It would be lost at the second order, where the arguments move it.
    """
    if _core._any_connected(floats(values), start):
        raise ValueError(
            f"[{who}] the function closes over a value that is differentiated: pass it as an "
            "argument"
        )


def stopped(tensors: Sequence[Tensor]) -> Tensors:
    """Return the same values without history or tangents."""
    return [_core.stop_gradient(x) for x in tensors]


def flatten_tensors(value: Any) -> tuple[Tensors, TreeDef]:
    """Return the leaves of a tree, all made tensors, and its structure."""
    leaves, treedef = tree.flatten(value)
    return [_core.asarray(x) for x in leaves], treedef


def replaced(values: Sequence[Any], moving: Iterable[Any]) -> list[Any]:
    """Return the values with others in the places of the floating tensors."""
    rest = iter(moving)
    return [next(rest) if is_differentiable(x) else x for x in values]


def placed(values: Sequence[Any], moving: Iterable[Any]) -> list[Any]:
    """Return `moving` in the places of the floating tensors among the values, None elsewhere."""
    rest = iter(moving)
    return [next(rest) if is_differentiable(x) else None for x in values]


def filled(values: Sequence[Tensor], slopes: Maybe) -> Tensors:
    """Return the slopes of the floating values, zeros where they are None."""
    pairs = zip(values, slopes, strict=True)
    return [_core.zeros_like(x) if t is None else t for x, t in pairs if is_differentiable(x)]


def repeated(values: Tensors, mapped: Sequence[bool], size: int) -> Tensors:
    """Return the values of a batch of `size`, all with the batch as axis 0."""
    pairs = zip(values, mapped, strict=True)
    return [x if has else _core.broadcast_to(x, (size, *x.shape)) for x, has in pairs]


def pull_at(
    f: Callable[[Tensors], Sequence[Tensor | None]],
    point: Tensors,
    cotangents: Sequence[Tensor | None],
    alone: bool = False,
) -> Maybe:
    """Return the cotangents of the inputs of `f` at `point`.

    `cotangents` has one entry per floating output; what is not floating gets None. With `alone`,
    gradients that `f` takes have no history.
    """

    def run(moving: Tensors) -> Maybe:
        outputs = f(replaced(point, moving))
        return [x for x in outputs if x is None or is_differentiable(x)]

    outputs, leaves, start = _core._recorded_run(run, floats(point), alone)
    pairs = [
        (y, c) for y, c in zip(outputs, cotangents, strict=True) if y is not None and c is not None
    ]
    if not pairs:
        return [None for _ in point]
    found = _core._sweep_since([y for y, _ in pairs], [c for _, c in pairs], leaves, start)
    return placed(point, found)


def push_at(
    f: Callable[[Tensors], Sequence[Tensor]], point: Tensors, tangents: Maybe, again: bool = False
) -> tuple[Tensors, Tensors]:
    """Return the outputs of `f` at `point`, and the tangents of the floating ones.

    With `again`, `f` has been run before: its handles know the level whose tangents are asked for.
    """

    def run(moving: Tensors) -> Tensors:
        return list(f(replaced(point, moving)))

    push = _core._push_again if again else _core.jvp
    values, slopes = push(run, (floats(point),), (filled(point, tangents),))
    return values, floats(slopes)


def attach(values: Tensors, inputs: Tensors, pull: Pull | None, push: Push | None) -> Tensors:
    """Return the values with the derivative with respect to `inputs` that a rule gives.

    `pull(inputs, cotangents)` and `push(inputs, tangents)` speak of the floating ones among
    `values`, in order; either may be None and is then the transpose of the other.
    """
    outputs = floats(values)
    if not outputs:
        return values
    specs = [(y.shape, y.dtype) for y in outputs]

    def transposed_push(inputs: Tensors, cotangents: Tensors) -> Maybe:
        assert push is not None

        def linear(tangents: Tensors) -> Maybe:
            return push(inputs, placed(inputs, tangents))

        zeros = [_core.zeros_like(x) for x in floats(inputs)]
        return placed(inputs, pull_at(linear, zeros, list(cotangents)))

    def transposed_pull(inputs: Tensors, tangents: Maybe) -> Maybe:
        assert pull is not None
        zeros = [_core.zeros(shape, dtype=dtype) for shape, dtype in specs]
        moving = [t for x, t in zip(inputs, tangents, strict=True) if is_differentiable(x)]

        def linear(cotangents: Tensors) -> Maybe:
            found = pull(inputs, cotangents)
            return [c for x, c in zip(inputs, found, strict=True) if is_differentiable(x)]

        return pull_at(linear, zeros, moving)

    rule = (pull or transposed_push, push or transposed_pull)
    marks = _core._marks_of_batches(outputs, inputs)
    if marks:
        rule = _with_marks(*rule, len(inputs), [None for _ in marks])
    return replaced(values, _core._attach_derivative(outputs, inputs + marks, *rule))


def _with_marks(pull: Pull, push: Push, count: int, none: list[None]) -> tuple[Pull, Push]:
    """Return the rule for inputs behind which others follow that it does not know."""
    return (
        lambda inputs, cotangents: [*pull(inputs[:count], cotangents), *none],
        lambda inputs, tangents: push(inputs[:count], tangents[:count]),
    )


class Positional:
    """How the arguments of a function are given by position alone, defaults included."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self._name = _name(f)
        try:
            self._signature: inspect.Signature | None = inspect.signature(f)
        except (TypeError, ValueError):  # some built-in functions have none
            self._signature = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return the positional arguments of a call."""
        if self._signature is None and not kwargs:
            return args
        if self._signature is None:
            raise TypeError(f"[{self._name}] takes no arguments by name here")
        if not kwargs and len(args) == len(self._signature.parameters):
            return args
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"[{self._name}] has a derivative given by hand and takes "
                f"{', '.join(bound.kwargs)} by keyword alone: make them positional arguments"
            )
        return bound.args


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", "function")


# ---- The public functions ------------------------------------------------------------------------


class _Custom(PickledByName):
    """A function that has a rule where a derivative is wanted, and is itself elsewhere."""

    def __init__(self, f: Callable[..., Any]) -> None:
        kind = type(self).__name__
        check_callable(kind, f=f)
        functools.update_wrapper(self, f)
        self._f = f
        self._positional = Positional(f)
        self._who = f"{kind} of {_name(f)}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``f(*args)``."""
        args = self._positional(args, kwargs)
        frame, tensors = take_apart(args)
        return self._by_rule(frame, tensors) if differentiated(tensors) else self._f(*args)

    def _by_rule(self, frame: Frame, tensors: Tensors) -> Any:
        raise NotImplementedError

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


class _Run:
    """How a run that counts is made again: it reads what it has read, and assigns nothing.

    So a generator that it draws from gives the same numbers, and its state moves once.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._apart = _core._Apart(who, False)
        self._start = _core._order()

    def first(self, run: Callable[[Tensors], Any], tensors: Tensors) -> tuple[Any, Tensors]:
        """Return the result of `run` at the tensors without history, and what it has read."""
        handles = stopped(tensors)
        apart = self._apart
        try:
            result = apart.run(lambda: run(handles), handles)
        finally:  # what was assigned before an error stays
            apart.write(apart.written())
        self._again = apart.again()
        del self._apart  # it keeps what it has read
        return result, stopped(apart.read()[len(handles) :])

    def without_history(self, values: Tensors) -> Tensors:
        """Return values of the run; raise if one has a derivative, which is not by an argument."""
        refuse_captured(values, self._start, self._who)
        return stopped(values)

    def again(self, run: Callable[[Tensors], Any], inputs: Tensors) -> Any:
        """Return the result of `run` at other tensors, followed in `inputs` by what was read."""

        def read(given: Tensors) -> Any:
            # What the handles hold, before the run is over and they hold something else.
            frame, values = take_apart(run(given))
            return frame.fill(_core._fresh(values))

        return self._again(read, inputs)[0]


class custom_vjp(_Custom):
    """Give a function a reverse-mode derivative of your own.

    Decorate `f` and then name the two halves of the rule by `defvjp`. Every transform uses the
    rule: forward mode its transpose, `vmap` its batch; derivatives of higher order differentiate
    `forward` and `backward` themselves.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors. The rule speaks of its arguments, so it must not
        close over values that are differentiated.

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
        super().__init__(f)
        self._rule: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the rule.

        Parameters
        ----------
        forward : callable
            ``forward(*args)`` returns ``(f(*args), residuals)``; residuals are any tree.
            Derivatives of higher order run it again: it reads then what it has read, numbers of a
            generator included, and what it assigns is dropped.
        backward : callable
            ``backward(residuals, cotangent)`` returns a tuple with one cotangent per argument of
            `f`, each a tree like the argument or None for zero. It must be linear in `cotangent`,
            a tree like the output.
        """
        check_callable(f"{self._who}: defvjp", forward=forward, backward=backward)
        self._rule = (forward, backward)

    def _by_rule(self, frame: Frame, tensors: Tensors) -> Any:
        who = self._who
        if self._rule is None:
            raise RuntimeError(f"[{who}] has no rule: call defvjp(forward, backward) first")
        forward, backward = self._rule

        def run(given: Tensors) -> tuple[Any, Any]:
            return _pair(forward(*frame.fill(given)), f"{who}: forward")

        once = _Run(who)
        (result, residuals), read = once.first(run, tensors)
        kept, saved = take_apart(residuals)
        out, values = take_apart(result)
        values, saved = once.without_history(values), once.without_history(saved)
        count = len(tensors)
        end = count + len(read)

        def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
            at = kept.fill(inputs[end:])
            if differentiated(inputs[:count]):  # then those of the residuals are wanted too
                at = once.again(run, inputs[:end])[1]
            given = backward(at, out.spread(cotangents))
            given = tuple(given) if isinstance(given, list) else given
            return frame.gather(given, f"{who}: backward") + [None for _ in inputs[count:]]

        return out.fill(attach(values, tensors + read + saved, pull, None))


def _pair(result: Any, who: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"[{who}] must return a pair (output, residuals)")
    return result


class custom_jvp(_Custom):
    """Give a function a forward-mode derivative of your own.

    Decorate `f` and then name the rule by `defjvp`. Every transform uses it: reverse mode its
    transpose, `vmap` its batch; derivatives of higher order differentiate the rule itself.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors. The rule speaks of its arguments, so it must not
        close over values that are differentiated.

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
        super().__init__(f)
        self._rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule, and return it.

        Parameters
        ----------
        rule : callable
            ``rule(primals, tangents)``, both tuples with one entry per argument of `f`, returns
            ``(output, tangent)``. It must be linear in `tangents`, which are zeros where an
            argument does not vary. Where a derivative is wanted it is run in place of `f`, for the
            value with zeros as tangents; a run for tangents reads what that one has read, numbers
            of a generator included, and what it assigns is dropped.
        """
        check_callable(f"{self._who}: defjvp", rule=rule)
        self._rule = rule
        return rule

    def _by_rule(self, frame: Frame, tensors: Tensors) -> Any:
        who, now = self._who, self._rule
        if now is None:
            raise RuntimeError(f"[{who}] has no rule: call defjvp(rule) first")
        taken = Snapshot([now])
        count = len(tensors)

        def run(
            given: Tensors, moving: Maybe, rule: Callable[..., Any] | None = None
        ) -> tuple[Any, Any]:
            rule = rule or taken.values()[0]
            return _pair(rule(frame.fill(given), frame.spread(moving)), f"{who}: rule")

        still: Maybe = [None for _ in floats(tensors)]
        once = _Run(who)
        (result, _), read = once.first(lambda given: run(given, still, now), tensors)
        out, values = take_apart(result)
        values = once.without_history(values)

        def push(inputs: Tensors, tangents: Maybe) -> Maybe:
            given = zip(tangents[:count], frame.floating, strict=True)
            moving = [t for t, moves in given if moves]
            _, found = once.again(lambda point: run(point, moving), inputs)
            return list(floats(out.gather(found, f"{who}: rule")))

        return out.fill(attach(values, tensors + read, None, push))


def checkpoint(f: Callable[..., _R]) -> Callable[..., _R]:
    """Return `f` so that its intermediate values are computed again when they are needed.

    Reverse mode keeps the arguments of the call instead of every intermediate value in it: memory
    falls, and the work of the call is done twice (Griewank and Walther, 2000). The result and all
    derivatives are those of `f`. Tensors that `f` closes over, and generators, count as arguments:
    the second run reads what the first has read. What `f` assigns to tensors is assigned once, when
    the first run is over.

    The second run sees the variables of `f`, and of the functions it calls, as they were at the
    call. Other Python objects it sees as they are by then, and changes again: a number that is an
    attribute, a list that is appended to, an array whose entries are given other values.

    Parameters
    ----------
    f : callable
        From trees of tensors to a tree of tensors.

    Returns
    -------
    callable
        With the signature of `f`.

    Raises
    ------
    RuntimeError
        Where a derivative is wanted of a value that has left `f` in another way than as a result:
        by an attribute, an entry, a variable, or an error. Where the second run meets a tensor that
        the first has not met.

    Examples
    --------
    >>> import adjoint as ad
    >>> layer = ad.checkpoint(lambda x: ad.tanh(3 * x))
    >>> ad.grad(lambda x: layer(layer(x)))(0.0).item()
    9.0
    """
    check_callable("checkpoint", f=f)

    def call(*args: Any, **kwargs: Any) -> Any:
        frame, tensors = take_apart((args, kwargs))
        handles = list({id(x): x for x in tensors}.values())
        places = {id(x): i for i, x in enumerate(handles)}
        order = [places[id(x)] for x in tensors]
        apart = _core._Apart("checkpoint", True)

        now = [f, *frame.others()]
        taken = Snapshot(now)

        def run_with(now: list[Any], given: Tensors) -> tuple[Frame, Tensors]:
            args, kwargs = frame.with_others(now[1:]).fill([given[i] for i in order])
            out, values = take_apart(now[0](*args, **kwargs))
            return out, _core._fresh(values)

        def run(given: Tensors) -> tuple[Frame, Tensors]:
            return run_with(taken.values(), given)

        try:
            out, values = apart.run(lambda: run_with(now, handles), handles)
        except BaseException:  # what was assigned before an error stays, as without a checkpoint
            apart.write(apart.written())
            raise
        again, alone = apart.again(), not _core._recorded_outside(apart.read())
        moving = [True for _ in values]
        written = []
        for x, moves in zip(apart.written(), apart.moving(), strict=True):
            if x is not None:
                written.append(x)
                moving.append(moves)
        inputs = apart.read()
        shadows = values + written
        everything = stopped(shadows)
        # Shadows know what would be recorded; what moves in forward mode may be more.
        forward = _core._any_moving(inputs) or _core._any_in_body(floats(inputs))
        chosen = [
            i
            for i, x in enumerate(shadows)
            if is_differentiable(x) and (x.requires_grad or (forward and moving[i]))
        ]

        def once_more(inputs: Tensors, group: list[int]) -> Tensors:
            (_, values), written = again(run, inputs)
            outputs = values + [x for x in written if x is not None]
            return [outputs[i] for i in group]

        for group, given in _by_batches(shadows, chosen, inputs):
            if differentiated(given):
                rule = recomputation(functools.partial(once_more, group=group), alone)
                moved = attach([everything[i] for i in group], given, *rule)
                for i, x in zip(group, moved, strict=True):
                    everything[i] = x
        values, fresh = everything[: len(values)], iter(everything[len(values) :])
        apart.write([None if x is None else next(fresh) for x in apart.written()])
        return out.fill(values)

    return Made(call, f, checkpoint)


def _by_batches(
    values: Tensors, chosen: list[int], inputs: Tensors
) -> Iterable[tuple[list[int], Tensors]]:
    """Return the chosen values by the batches along which they differ, and inputs for each group.

    A value that is the same for every member must not get the derivative of one that differs: zeros
    stand for inputs on which it does not depend.
    """
    groups: dict[tuple[frozenset[int], int], list[int]] = {}
    for i in chosen:
        groups.setdefault(_core._batch_levels(values[i]), []).append(i)
    for (levels, trace), group in groups.items():

        def may_enter(x: Tensor, levels: frozenset[int] = levels, trace: int = trace) -> bool:
            return all(level in levels or level < trace for level in _core._batch_levels(x)[0])

        yield group, [x if may_enter(x) else _core.zeros(x.shape, dtype=x.dtype) for x in inputs]


def recomputation(run: Callable[[Tensors], Tensors], alone: bool = False) -> tuple[Pull, Push]:
    """Return the rule that runs a function of lists again."""

    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        return pull_at(run, _core._barrier(inputs), list(cotangents), alone)

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        return list(push_at(run, inputs, tangents, again=True)[1])

    return pull, push
