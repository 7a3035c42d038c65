"""Control flow that compiles: a choice, a loop over the rows of arrays, a loop until a condition.

Outside of `compile` these are Python's own `if`, `for` and `while`, and the operations inside are
differentiated as they ran. Inside, where values are not known, each function is traced once into a
graph and a single call runs it; its derivatives and its batch are calls of the same kind. Here
functions of trees become functions of lists, and are told when they are not alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint import _core, tree
from adjoint._arguments import check_callable, check_count, check_flag
from adjoint._core import Tensor, TreeDef
from adjoint.transforms.custom import Tensors, flatten_tensors, take_apart

__all__ = ["cond", "scan", "while_loop"]


class _Shape:
    """What all results of one function must be like: the structure, the shapes and the dtypes."""

    def __init__(self, who: str, value: Any, what: str, where: tuple[str, str, str]) -> None:
        self._who, self._what, self._where = who, what, where
        self.tensors, self.treedef = flatten_tensors(value)

    def like(self, value: Any) -> Tensors:
        """Return the tensors of `value`; raise unless it is like the first one."""
        tensors, treedef = flatten_tensors(value)
        if treedef != self.treedef:
            raise TypeError(
                f"[{self._who}] {self._what}: {self._text(self.treedef, self.tensors)} and "
                f"{self._text(treedef, tensors)}"
            )
        for i, (x, y) in enumerate(zip(self.tensors, tensors, strict=True)):
            if x.shape != y.shape or x.dtype != y.dtype:
                raise TypeError(f"[{self._who}] {self._what}: {self._difference(i, x, y)}")
        return tensors

    def _difference(self, i: int, x: Tensor, y: Tensor) -> str:
        name, first, second = self._where
        parts = [f"{t.dtype}{'' if x.shape == y.shape else f' of shape {t.shape}'}" for t in (x, y)]
        hint = ""
        if second == _CARRY[2] and x.shape == y.shape:
            whole = x.shape == () and x.dtype.kind in "iub" and y.dtype.kind == "f"
            hint = ": start with a float, such as 0.0" if whole else ": convert one by astype"
        return f"{name}{_path(self.treedef, i)} is {parts[0]} {first} and {parts[1]} {second}{hint}"

    @staticmethod
    def _text(treedef: TreeDef, tensors: Tensors) -> str:
        return repr(tree.unflatten(treedef, [f"{x.dtype}{x.shape}" for x in tensors]))


def _path(treedef: TreeDef, leaf: int) -> str:
    """Return how to reach one leaf, as in ``['b'][0]``."""
    node, path = tree.unflatten(treedef, list(range(treedef.num_leaves))), ""
    while not isinstance(node, int):
        entries: Any = ()
        if isinstance(node, dict):
            entries = [(f"[{key!r}]", part) for key, part in node.items()]
        elif isinstance(node, (list, tuple)):
            names = getattr(node, "_fields", None)
            keys = [f".{n}" for n in names] if names else [f"[{i}]" for i in range(len(node))]
            entries = list(zip(keys, node, strict=True))
        inside = [(key, part) for key, part in entries if leaf in tree.leaves(part)]
        if not inside:  # a class that was registered
            return f"{path} (leaf {leaf})"
        path, node = path + inside[0][0], inside[0][1]
    return path


def _predicate(value: Any, who: str) -> Tensor:
    pred = _core.asarray(value)
    if pred.shape != () or pred.dtype != _core.bool:
        raise TypeError(
            f"[{who}] the condition must be one bool, not {pred.dtype} of shape {pred.shape}: "
            "compare first, and reduce by ad.all or ad.any"
        )
    return pred


_SAME = "every step must return the carried value in the structure, shapes and dtypes of init"
_CARRY = ("carry", "in init", "after the step")
_ALIKE = "both functions must return values alike"
_BRANCHES = ("the result", "from true_fn", "from false_fn")


def _begin(who: str, init: Any, others: Tensors, step: Callable[[Any], Any]) -> Any:
    """Return `init` with its numbers in the dtypes that a step makes of them.

    A number takes the dtype of what it meets, as in Python's own loop, where the carried value is
    the number itself in the first step. Only beside values of a narrower dtype does that matter,
    and is a step made in advance; it assigns to nothing outside.
    """
    leaves, treedef = tree.flatten(init)
    numbers = [i for i, x in enumerate(leaves) if _core._is_number(x)]
    rest = [_core.asarray(x) for i, x in enumerate(leaves) if i not in numbers]
    if not any(x.dtype.kind != "b" and x.dtype.itemsize < 8 for x in (*rest, *others)):
        return init
    for _ in range(len(numbers)):
        try:
            found, after = tree.flatten(
                _core._refusing(who, lambda: step(treedef.unflatten(leaves)))
            )
        except Exception:  # it takes tensors only, or raises again in what follows
            break
        if after != treedef:
            break
        decided = [i for i in numbers if _is_narrower(found[i], leaves[i])]
        for i in decided:
            leaves[i] = _core.asarray(leaves[i], dtype=found[i].dtype)
        numbers = [i for i in numbers if i not in decided]
        if not decided:
            break
    return treedef.unflatten(leaves)


def _is_narrower(result: Any, number: Any) -> bool:
    if _core._is_number(result) or not isinstance(result, Tensor):
        return False
    own = _core.asarray(number).dtype
    return result.dtype != own and result.dtype.kind in ("f" if own.kind == "f" else "iu")


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
        shape = _Shape("cond", run(true_fn), _ALIKE, _BRANCHES)
        second = shape.like(run(false_fn))
        chosen = [_core.where(pred, a, b) for a, b in zip(shape.tensors, second, strict=True)]
        return tree.unflatten(shape.treedef, chosen)
    if not _core._is_traced(pred):
        return _core._own_result(lambda: run(true_fn if _core._any_true(pred) else false_fn))
    shapes: list[_Shape] = []

    def of(function: Callable[..., Any]) -> Callable[[Tensors], Tensors]:
        def traced(values: Tensors) -> Tensors:
            out = function(*frame.fill(values))
            if not shapes:
                shapes.append(_Shape("cond", out, _ALIKE, _BRANCHES))
            return shapes[0].like(out)

        return traced

    chosen = _core._choose(pred, of(true_fn), of(false_fn), tensors)
    return tree.unflatten(shapes[0].treedef, list(chosen))


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
        The first `carry`; every step keeps its structure, shapes and dtypes. A Python number takes
        the dtype that a step makes of it, as in a loop of Python's: beside values of a narrower
        dtype than its own, `f` is called once more to find out.
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
    rows, rows_def = flatten_tensors(xs)
    steps = _scan_length(rows, length)

    def first(carry: Any) -> Any:
        row = [x[0] if steps else _core.zeros(x.shape[1:], dtype=x.dtype) for x in rows]
        return f(carry, tree.unflatten(rows_def, _core._fresh(row)))[0]

    carry = _Shape("scan", _begin("scan", init, rows, first), _SAME, _CARRY)
    ys: list[_Shape] = []

    def step(values: Tensors, row: Tensors) -> tuple[Tensors, Tensors]:
        def run() -> Any:
            given = tree.unflatten(carry.treedef, _core._fresh(values))
            return f(given, tree.unflatten(rows_def, _core._fresh(row)))

        result = _core._refusing("scan", run)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError("[scan] a step must return a pair (carry, y)")
        if not ys:
            where = ("y", "after the first step", "after another")
            ys.append(_Shape("scan", result[1], "every step must return y values alike", where))
        return carry.like(result[0]), _core._fresh(ys[0].like(result[1]))

    state = carry.tensors
    if _core._tracing():

        def run(values: Tensors) -> Tensors:
            carried, row = step(values[: len(carry.tensors)], values[len(carry.tensors) :])
            return carried + row

        out = list(_core._loop(run, state, rows, steps, reverse))
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
        As for `scan`; a number takes the dtype that `body_fn` makes of it.
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
    carry = _Shape("while_loop", _begin("while_loop", init, [], body_fn), _SAME, _CARRY)

    def run(function: Callable[[Any], Any], values: Tensors) -> Any:
        def call() -> Any:
            return function(tree.unflatten(carry.treedef, _core._fresh(values)))

        return _core._refusing("while_loop", call)

    def goes_on(values: Tensors) -> Tensor:
        return _predicate(run(cond_fn, values), "while_loop")

    def step(values: Tensors) -> Tensors:
        return carry.like(run(body_fn, values))

    state, taken = carry.tensors, 0
    going = None if _core._tracing() else goes_on(state)
    while taken != max_steps:
        if going is None or _core._is_traced(going):  # a series may have known the first steps
            limit = -1 if max_steps is None else max_steps - taken
            state = list(_core._repeat(lambda xs: [goes_on(xs)], step, state, limit))
            return tree.unflatten(carry.treedef, state)
        if not _core._any_true(going):
            break
        fresh = step(state)
        if _core._is_batched(going):
            fresh = [_core.where(going, new, x) for x, new in zip(state, fresh, strict=True)]
        state = fresh
        taken += 1
        if taken != max_steps:
            going = goes_on(state)
    return tree.unflatten(carry.treedef, _core._fresh(state))
