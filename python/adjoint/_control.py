"""Control flow that compiles: a choice, a loop over the rows of arrays, a loop until a condition.

Outside of `compile` these are Python's own `if`, `for` and `while`, and the operations inside are
differentiated as they ran. Inside, where values are not known, each function is traced once into a
graph and a single call runs it. The derivatives and the batch of such a call are calls of the same
kind on derivatives and batches of the graph, so they nest and compile as the call itself does.
Reverse mode keeps the carried values of a loop's steps and computes the rest again.

In the first half are the calls, on lists of tensors; in the second the public functions, on trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adjoint import _core, tree
from adjoint._arguments import check_callable, check_count, check_flag
from adjoint._core import Tensor, TreeDef
from adjoint._custom import (
    Maybe,
    Tensors,
    attach,
    differentiated,
    filled,
    flatten_tensors,
    floats,
    placed,
    pull_at,
    push_at,
    recomputation,
    repeated,
    stopped,
    take_apart,
)

__all__ = ["cond", "scan", "while_loop"]

Body = Any  # a traced function: `replay(inputs)`, `outputs`
ListFunction = Callable[[Tensors], Tensors]
Step = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]  # (carried, row) -> (carried, row)


def _split(values: Sequence[Any], *counts: int) -> list[list[Any]]:
    """Return consecutive parts of these lengths, and the rest."""
    parts, start = [], 0
    for n in counts:
        parts.append(list(values[start : start + n]))
        start += n
    return [*parts, list(values[start:])]


def _batched(f: ListFunction, mapped: Sequence[bool], size: int) -> ListFunction:
    """Return `f` over a batch on axis 0 of the values that `mapped` marks; all results have it."""
    axes = tuple(0 if has else None for has in mapped)

    def run(values: Tensors) -> Tensors:
        if any(mapped):
            return list(_core.vmap(lambda *xs: f(list(xs)), in_axes=axes)(*values))
        outputs = f(values)
        return repeated(outputs, [False for _ in outputs], size)

    return run


def _pull_all(f: ListFunction, point: Tensors, cotangents: Tensors) -> Maybe:
    """Return as `pull_at` does, with zeros for floating inputs that lead to no output."""
    found = pull_at(f, point, cotangents)
    return placed(point, filled(point, found))


def _aligned(flags: Tensor, x: Tensor) -> Tensor:
    """Return one flag per member of the batch in a shape that broadcasts against `x`."""
    return _core.reshape(flags, (*flags.shape, *[1 for _ in x.shape[1:]]))


def _bind(run: ListFunction, inputs: Tensors, pull: Any, push: Any) -> Tensors:
    """Return what `run` gives, with the derivative of the rule where one is wanted."""
    values = run(stopped(inputs))
    return attach(values, inputs, pull, push) if differentiated(inputs) else values


# ---- A choice ------------------------------------------------------------------------------------


def _choose(pred: Tensor, f: ListFunction, g: ListFunction, shared: Tensors) -> Tensors:
    """Return ``f(shared)`` where `pred` holds, else ``g(shared)``; `pred` is one traced bool."""
    if_true, of_true = _core._trace_body(f, shared, "cond")
    if_false, of_false = _core._trace_body(g, shared, "cond")
    if if_true.outputs != if_false.outputs:
        raise TypeError(
            "[cond] both functions must return the same shapes and dtypes, not "
            f"{if_true.outputs} and {if_false.outputs}"
        )
    return _cond(if_true, if_false, [pred, *shared, *of_true, *of_false], len(shared), len(of_true))


def _cond(if_true: Body, if_false: Body, inputs: Tensors, shared: int, of_true: int) -> Tensors:
    def parts(values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        _, both, own, other = _split(values, 1, shared, of_true)
        return both, own, other

    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        both, own, other = parts(inputs)

        def first(ts: Tensors) -> Tensors:
            found = _pull_all(if_true.replay, [*both, *own], ts)
            return floats(found) + [_core.zeros_like(x) for x in floats(other)]

        def second(ts: Tensors) -> Tensors:
            found = _pull_all(if_false.replay, [*both, *other], ts)
            of_both, of_other = _split(found, shared)
            zeros = [_core.zeros_like(x) for x in floats(own)]
            return floats(of_both) + zeros + floats(of_other)

        return placed(inputs, _choose(inputs[0], first, second, list(cotangents)))

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        both, own, other = parts(inputs)
        of_both, of_own, of_other = parts(tangents)
        return list(
            _choose(
                inputs[0],
                lambda _: push_at(if_true.replay, [*both, *own], [*of_both, *of_own])[1],
                lambda _: push_at(if_false.replay, [*both, *other], [*of_both, *of_other])[1],
                [],
            )
        )

    def batch(inner: Tensors, mapped: list[bool], size: int) -> Tensors:
        both, own, other = parts(inner)
        has_both, has_own, has_other = parts(mapped)
        first = _batched(if_true.replay, has_both + has_own, size)
        second = _batched(if_false.replay, has_both + has_other, size)
        if mapped[0]:
            outputs = zip(first([*both, *own]), second([*both, *other]), strict=True)
            return [_core.where(_aligned(inner[0], a), a, b) for a, b in outputs]
        return _choose(
            inner[0], lambda _: first([*both, *own]), lambda _: second([*both, *other]), []
        )

    def run(inputs: Tensors) -> Tensors:
        return list(_core._call_cond(if_true, if_false, shared, batch, inputs))

    return _bind(run, inputs, pull, push)


# ---- A loop over rows ----------------------------------------------------------------------------


def _loop(step: Step, carry: Tensors, rows: Tensors, length: int, reverse: bool) -> Tensors:
    """Return the carried values after all steps, then the stacked rows that the steps return."""
    count = len(carry)
    examples = carry + [_core.zeros(x.shape[1:], dtype=x.dtype) for x in rows]

    def run(values: Tensors) -> Tensors:
        carried, row = step(values[:count], values[count:])
        return carried + row

    body, captured = _core._trace_body(run, examples, "scan")
    return _scan(body, [*carry, *rows, *captured], count, len(rows), length, reverse)


def _scan(
    body: Body, inputs: Tensors, carried: int, rows: int, length: int, reverse: bool
) -> Tensors:
    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        carry, arrays, fixed = _split(inputs, carried, rows)
        moving = len(floats(carry))
        of_carry, of_rows = _split(cotangents, moving)

        def forward(c: Tensors, x: Tensors) -> tuple[Tensors, Tensors]:
            return body.replay([*c, *x, *fixed])[:carried], c

        def back(state: Tensors, row: Tensors) -> tuple[Tensors, Tensors]:
            ct, total = _split(state, moving)
            point, ct_row = _split(row, carried + rows)
            found = _pull_all(body.replay, [*point, *fixed], [*ct, *ct_row])
            to_carry, to_row, to_fixed = _split(found, carried, rows)
            sums = [a + b for a, b in zip(total, floats(to_fixed), strict=True)]
            return floats(to_carry) + sums, floats(to_row)

        kept = _loop(forward, carry, arrays, length, reverse)[carried:]
        zeros = [_core.zeros_like(x) for x in floats(fixed)]
        out = _loop(back, of_carry + zeros, kept + arrays + of_rows, length, not reverse)
        to_carry, to_fixed, to_rows = _split(out, moving, len(zeros))
        return placed(inputs, to_carry + to_rows + to_fixed)

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        carry, arrays, fixed = _split(inputs, carried, rows)
        of_carry, of_rows, of_fixed = _split(tangents, carried, rows)
        moving = len(floats(carry))

        def step(state: Tensors, row: Tensors) -> tuple[Tensors, Tensors]:
            c, tc = _split(state, carried)
            x, tx = _split(row, rows)
            slopes = [*placed(c, tc), *placed(x, tx), *of_fixed]
            values, out = push_at(body.replay, [*c, *x, *fixed], slopes)
            return values[:carried] + out[:moving], out[moving:]

        start = carry + filled(carry, of_carry)
        out = _loop(step, start, arrays + filled(arrays, of_rows), length, reverse)
        return list(out[carried:])

    def batch(inner: Tensors, mapped: list[bool], size: int) -> Tensors:
        carry, arrays, fixed = _split(inner, carried, rows)
        over = _batched(body.replay, [True for _ in carry] + mapped[carried:], size)

        def step(c: Tensors, x: Tensors) -> tuple[Tensors, Tensors]:
            outputs = over([*c, *x, *fixed])
            return outputs[:carried], outputs[carried:]

        has_row = mapped[carried : carried + rows]
        pairs = zip(arrays, has_row, strict=True)
        arrays = [_core.moveaxis(x, 0, 1) if has else x for x, has in pairs]
        out = _loop(step, repeated(carry, mapped[:carried], size), arrays, length, reverse)
        return out[:carried] + [_core.moveaxis(y, 0, 1) for y in out[carried:]]

    def run(inputs: Tensors) -> Tensors:
        return list(_core._call_scan(body, carried, rows, length, reverse, batch, inputs))

    return _bind(run, inputs, pull, push)


# ---- A loop until a condition --------------------------------------------------------------------


def _repeat(
    condition: Callable[[Tensors], Tensor], step: ListFunction, carry: Tensors, limit: int
) -> Tensors:
    """Return the carried values after the last step; `limit` is negative without a bound."""
    test, of_test = _core._trace_body(lambda xs: [condition(xs)], carry, "while_loop")
    body, of_body = _core._trace_body(step, carry, "while_loop")
    return _while(test, body, [*carry, *of_test, *of_body], len(carry), len(of_test), limit)


def _while(
    test: Body, body: Body, inputs: Tensors, carried: int, of_test: int, limit: int
) -> Tensors:
    def bounded(inputs: Tensors) -> Tensors:
        carry, tested, fixed = _split(inputs, carried, of_test)

        def step(c: Tensors, _: Tensors) -> tuple[Tensors, Tensors]:
            (goes_on,) = test.replay([*c, *tested])
            return _choose(goes_on, lambda c: body.replay([*c, *fixed]), lambda c: c, c), []

        return _loop(step, carry, [], limit, False)

    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        if limit < 0:
            raise ValueError(
                "[while_loop] reverse mode must keep every step and needs a bound on their number "
                "inside of compile: pass max_steps=, or use forward mode"
            )
        return recomputation(bounded)[0](inputs, cotangents)

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        carry, tested, fixed = _split(inputs, carried, of_test)
        of_carry, _, of_fixed = _split(tangents, carried, of_test)

        def step(state: Tensors) -> Tensors:
            c, tc = _split(state, carried)
            values, slopes = push_at(body.replay, [*c, *fixed], [*placed(c, tc), *of_fixed])
            return values + slopes

        start = carry + filled(carry, of_carry)
        out = _repeat(lambda s: test.replay([*s[:carried], *tested])[0], step, start, limit)
        return list(out[carried:])

    def batch(inner: Tensors, mapped: list[bool], size: int) -> Tensors:
        carry, tested, fixed = _split(inner, carried, of_test)
        has_test, has_fixed = _split(mapped[carried:], of_test)
        all_carried = [True for _ in carry]
        test_all = _batched(test.replay, all_carried + has_test, size)
        step_all = _batched(body.replay, all_carried + has_fixed, size)

        def goes_on(c: Tensors) -> Tensor:
            return _core.any(test_all([*c, *tested])[0])

        def step(c: Tensors) -> Tensors:
            (going,) = test_all([*c, *tested])
            pairs = zip(c, step_all([*c, *fixed]), strict=True)
            return [_core.where(_aligned(going, x), new, x) for x, new in pairs]

        return _repeat(goes_on, step, repeated(carry, mapped[:carried], size), limit)

    def run(inputs: Tensors) -> Tensors:
        return list(_core._call_while(test, body, carried, limit, batch, inputs))

    return _bind(run, inputs, pull, push)


# ---- The public functions ------------------------------------------------------------------------


class _Shape:
    """What all results of one function must be like: the structure, the shapes and the dtypes."""

    def __init__(self, who: str, value: Any, what: str) -> None:
        self._who, self._what = who, what
        self.tensors, self.treedef = flatten_tensors(value)

    def like(self, value: Any) -> Tensors:
        """Return the tensors of `value`; raise unless it is like the first one."""
        tensors, treedef = flatten_tensors(value)
        if treedef != self.treedef or self._specs(tensors) != self._specs(self.tensors):
            raise TypeError(
                f"[{self._who}] {self._what}: {self._text(self.treedef, self.tensors)} and "
                f"{self._text(treedef, tensors)}"
            )
        return tensors

    @staticmethod
    def _specs(tensors: Tensors) -> list[Any]:
        return [(x.shape, x.dtype) for x in tensors]

    @staticmethod
    def _text(treedef: TreeDef, tensors: Tensors) -> str:
        return repr(tree.unflatten(treedef, [f"{x.dtype}{x.shape}" for x in tensors]))


def _predicate(value: Any, who: str) -> Tensor:
    pred = _core.asarray(value)
    if pred.shape != () or pred.dtype != _core.bool:
        raise TypeError(
            f"[{who}] the condition must be one bool, not {pred.dtype} of shape {pred.shape}: "
            "compare first, and reduce by ad.all or ad.any"
        )
    return pred


_SAME = "every step must return the carried value in the structure, shapes and dtypes of init"


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any
) -> Any:
    """Return ``true_fn(*operands)`` where `pred` holds, else ``false_fn(*operands)``.

    Only the chosen function runs, also inside of `compile`; where `pred` differs along a batch of
    `vmap` both do, and the values are selected.

    Parameters
    ----------
    pred : bool, or bool tensor of shape ()
    true_fn, false_fn : callable
        From trees of tensors to trees of tensors, which must be alike inside of `compile` and
        `vmap`. They may close over tensors.
    *operands : trees of tensors

    Raises
    ------
    TypeError
        If `pred` is not one bool, or the results are not alike.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda x: ad.cond(x > 0, lambda x: x**2, lambda x: -x, x)
    >>> ad.compile(ad.grad(f))(3.0).item()
    6.0
    """
    check_callable("cond", true_fn=true_fn, false_fn=false_fn)
    pred = _predicate(pred, "cond")
    frame, tensors = take_apart(operands)

    def run(function: Callable[..., Any]) -> Any:
        return _core._refusing("cond", lambda: function(*frame.fill(_core._fresh(tensors))))

    if _core._is_batched(pred):
        shape = _Shape("cond", run(true_fn), "both functions must return values alike")
        second = shape.like(run(false_fn))
        chosen = [_core.where(pred, a, b) for a, b in zip(shape.tensors, second, strict=True)]
        return tree.unflatten(shape.treedef, chosen)
    if not _core._is_traced(pred):
        return run(true_fn if _core._any_true(pred) else false_fn)
    shapes: list[_Shape] = []

    def of(function: Callable[..., Any]) -> ListFunction:
        def traced(values: Tensors) -> Tensors:
            out = function(*frame.fill(values))
            if not shapes:
                shapes.append(_Shape("cond", out, "both functions must return values alike"))
            return shapes[0].like(out)

        return traced

    chosen = _choose(pred, of(true_fn), of(false_fn), tensors)
    return tree.unflatten(shapes[0].treedef, chosen)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run ``carry, y = f(carry, x)`` over the rows of `xs`.

    Inside of `compile` the step is traced once, so a program does not grow with the number of
    steps; its reverse mode keeps the carried value of each step.

    Parameters
    ----------
    f : callable
        One step, on trees of tensors.
    init : tree of tensors
        The first `carry`; every step keeps its structure, shapes and dtypes.
    xs : tree of tensors, optional
        Each step gets one row, along axis 0, of every tensor.
    length : int, optional
        The number of steps, needed without `xs`.
    reverse : bool, default False
        Take the rows from the last to the first; the `y` stay in the order of `xs`.

    Returns
    -------
    (carry, ys)
        The last `carry`, and the `y` of all steps stacked along a new axis 0.

    Raises
    ------
    TypeError
        If a step changes the structure, a shape or a dtype of `carry`.
    ValueError
        If the lengths differ, or are unknown.

    Examples
    --------
    >>> import adjoint as ad
    >>> total, sums = ad.scan(lambda c, x: (c + x, c + x), 0.0, ad.tensor([1.0, 2.0, 3.0]))
    >>> total.item(), sums.tolist()
    (6.0, [1.0, 3.0, 6.0])
    """
    check_callable("scan", f=f)
    reverse = check_flag("scan", "reverse", reverse)
    carry = _Shape("scan", init, _SAME)
    rows, rows_def = flatten_tensors(xs)
    steps = _scan_length(rows, length)
    ys: list[_Shape] = []

    def step(values: Tensors, row: Tensors) -> tuple[Tensors, Tensors]:
        def run() -> Any:
            given = tree.unflatten(carry.treedef, _core._fresh(values))
            return f(given, tree.unflatten(rows_def, _core._fresh(row)))

        result = _core._refusing("scan", run)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError("[scan] a step must return a pair (carry, y)")
        if not ys:
            ys.append(_Shape("scan", result[1], "every step must return y values alike"))
        return carry.like(result[0]), _core._fresh(ys[0].like(result[1]))

    state = carry.tensors
    if _core._tracing():
        out = _loop(step, state, rows, steps, reverse)
        stacked = out[len(state) :]
        state = out[: len(state)]
    else:
        kept: list[Tensors] = []
        for t in reversed(range(steps)) if reverse else range(steps):
            state, y = step(state, [x[t] for x in rows])
            kept.append(y)
        if reverse:
            kept.reverse()
        stacked = [_core.stack(column) for column in zip(*kept, strict=True)]
        if not kept:  # one step on zeros tells what its rows are like
            _, y = step(state, [_core.zeros(x.shape[1:], dtype=x.dtype) for x in rows])
            stacked = [_core.zeros((0, *part.shape), dtype=part.dtype) for part in y]
    last = tree.unflatten(carry.treedef, _core._fresh(state))
    return last, tree.unflatten(ys[0].treedef, stacked)


def _scan_length(rows: Tensors, length: int | None) -> int:
    if any(x.shape == () for x in rows):
        raise ValueError("[scan] xs must have an axis 0 to take rows from; an entry is 0-d")
    lengths = {x.shape[0] for x in rows}
    if length is not None:
        lengths.add(check_count("scan", "length", length))
    if len(lengths) != 1:
        raise ValueError(
            "[scan] the number of steps is unknown: pass xs or length"
            if not lengths
            else f"[scan] the lengths differ: {sorted(lengths)}"
        )
    return lengths.pop()


def while_loop(
    cond_fn: Callable[[Any], Any],
    body_fn: Callable[[Any], Any],
    init: Any,
    max_steps: int | None = None,
) -> Any:
    """Run ``carry = body_fn(carry)`` while ``cond_fn(carry)`` holds.

    Parameters
    ----------
    cond_fn : callable
        From the carried tree to one bool. Under `vmap` each member of the batch stops by its own.
    body_fn : callable
        One step; it keeps the structure, shapes and dtypes.
    init : tree of tensors
    max_steps : int, optional
        The loop ends after so many steps at the latest. Reverse mode inside of `compile` needs it,
        as it keeps the carried value of so many steps.

    Returns
    -------
    tree of tensors
        The last carried value.

    Raises
    ------
    TypeError
        If the condition is not one bool, or a step changes the structure, a shape or a dtype.
    ValueError
        In reverse mode inside of `compile`, without `max_steps`.

    Examples
    --------
    >>> import adjoint as ad
    >>> double = lambda x: ad.while_loop(lambda y: y < 100, lambda y: 2 * y, x)
    >>> ad.jvp(ad.compile(double), (3.0,), (1.0,))[1].item()
    64.0
    """
    check_callable("while_loop", cond_fn=cond_fn, body_fn=body_fn)
    if max_steps is not None:
        max_steps = check_count("while_loop", "max_steps", max_steps)
    carry = _Shape("while_loop", init, _SAME)

    def run(function: Callable[[Any], Any], values: Tensors) -> Any:
        def call() -> Any:
            return function(tree.unflatten(carry.treedef, _core._fresh(values)))

        return _core._refusing("while_loop", call)

    def goes_on(values: Tensors) -> Tensor:
        return _predicate(run(cond_fn, values), "while_loop")

    def step(values: Tensors) -> Tensors:
        return carry.like(run(body_fn, values))

    state = carry.tensors
    going = None if _core._tracing() else goes_on(state)
    if going is None or _core._is_traced(going):
        state = _repeat(goes_on, step, state, -1 if max_steps is None else max_steps)
        return tree.unflatten(carry.treedef, state)
    taken = 0
    while taken != max_steps and _core._any_true(going):
        fresh = step(state)
        if _core._is_batched(going):
            fresh = [_core.where(going, new, x) for x, new in zip(state, fresh, strict=True)]
        state = fresh
        taken += 1
        if taken != max_steps:
            going = goes_on(state)
    return tree.unflatten(carry.treedef, _core._fresh(state))
