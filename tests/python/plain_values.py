"""The values of the plain interpreter: arrays, and duals and batches of values, nested by level.

An operation peels the highest level among its operands: of a `Batch` it is applied to each member,
of a `Dual` to the primal, and its rule, written in operations, gives the tangent of each direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np


class Dual:
    """A primal and its tangents, one per direction; a missing one is not connected."""

    __slots__ = ("level", "primal", "tangents")

    def __init__(self, level: int, primal: Any, tangents: dict[Any, Any]) -> None:
        self.level, self.primal, self.tangents = level, primal, tangents


class Batch:
    """One value per member."""

    __slots__ = ("level", "members")

    def __init__(self, level: int, members: list[Any]) -> None:
        self.level, self.members = level, members


def level_of(value: Any) -> int:
    return value.level if isinstance(value, (Dual, Batch)) else -1


def shape_of(value: Any) -> tuple[int, ...]:
    while isinstance(value, (Dual, Batch)):
        value = value.primal if isinstance(value, Dual) else value.members[0]
    return np.shape(value)


def strip(value: Any, drop: Callable[[int], bool]) -> Any:
    """The value without the tangents of the levels that `drop` names."""
    if isinstance(value, Batch):
        return Batch(value.level, [strip(member, drop) for member in value.members])
    if not isinstance(value, Dual):
        return value
    primal = strip(value.primal, drop)
    if drop(value.level):
        return primal
    return Dual(value.level, primal, {k: strip(t, drop) for k, t in value.tangents.items()})


def kept(value: Any, level: int) -> Any:
    """The value as a handle from outside of forward mode keeps it: without the tangent itself.

    Derivatives that transforms inside take of the value are functions of the point as before.
    """
    if isinstance(value, Batch):
        return Batch(value.level, [kept(member, level) for member in value.members])
    if not isinstance(value, Dual):
        return value
    primal = kept(value.primal, level)
    return primal if value.level == level else Dual(value.level, primal, value.tangents)


def depends(value: Any, level: int) -> bool:
    """Whether the value differs along the batch of a level."""
    if isinstance(value, Batch):
        return value.level == level or any(depends(m, level) for m in value.members)
    if isinstance(value, Dual):
        return any(depends(v, level) for v in (value.primal, *value.tangents.values()))
    return False


def primitive(run: Callable[..., Any], rule: Callable[..., Any] | None = None) -> Any:
    """An operation on values: `run` on arrays, `rule(out, primals, tangents)` for one direction.

    A tangent of None is zero; without a rule there is no derivative.
    """

    def op(*xs: Any) -> Any:
        top = max(map(level_of, xs))
        if top < 0:
            return np.asarray(run(*xs))
        at = [level_of(x) == top for x in xs]
        if any(isinstance(x, Batch) for x, here in zip(xs, at, strict=True) if here):
            count = next(len(x.members) for x, here in zip(xs, at, strict=True) if here)
            pairs = list(zip(xs, at, strict=True))
            return Batch(
                top, [op(*[x.members[i] if h else x for x, h in pairs]) for i in range(count)]
            )
        primals = [x.primal if here else x for x, here in zip(xs, at, strict=True)]
        out = op(*primals)
        if rule is None:
            return out
        duals = [x.tangents if here else {} for x, here in zip(xs, at, strict=True)]
        keys = dict.fromkeys(itertools.chain(*duals))
        return Dual(top, out, {k: rule(out, primals, [d.get(k) for d in duals]) for k in keys})

    return op


def linear(run: Callable[..., Any]) -> Any:
    """An operation that is linear in its one operand."""
    op = primitive(run, lambda out, p, t: op(t[0]))
    return op


def spread(shape: tuple[int, ...]) -> Any:
    return linear(lambda x: np.broadcast_to(x, shape))


def terms(out: Any, *given: Any) -> Any:
    """The sum of the terms that are there, in the shape of the result."""
    there = [term for term in given if term is not None]
    total = there[0] if len(there) == 1 else add(*there)
    shape = shape_of(out)
    return total if shape_of(total) == shape else spread(shape)(total)


def times(tangent: Any, factor: Callable[[], Any]) -> Any:
    return None if tangent is None else multiply(tangent, factor())


add = primitive(np.add, lambda out, p, t: terms(out, *t))
negate = linear(np.negative)
subtract = primitive(
    np.subtract, lambda out, p, t: terms(out, t[0], None if t[1] is None else negate(t[1]))
)
multiply = primitive(
    np.multiply,
    lambda out, p, t: terms(out, times(t[0], lambda: p[1]), times(t[1], lambda: p[0])),
)
divide = primitive(
    np.true_divide,
    lambda out, p, t: terms(
        out,
        times(t[0], lambda: divide(np.asarray(1.0), p[1])),
        times(t[1], lambda: negate(divide(out, p[1]))),
    ),
)


def elementwise(run: Callable[..., Any], slope: Callable[[Any, Any], Any]) -> Any:
    """An elementwise operation of one operand; `slope(x, out)` is its derivative."""
    return primitive(run, lambda out, p, t: multiply(t[0], slope(p[0], out)))


ONE = np.asarray(1.0)
sin = elementwise(np.sin, lambda x, y: cos(x))
cos = elementwise(np.cos, lambda x, y: negate(sin(x)))
exp = elementwise(np.exp, lambda x, y: y)
log = elementwise(np.log, lambda x, y: divide(ONE, x))
tanh = elementwise(np.tanh, lambda x, y: subtract(ONE, multiply(y, y)))
sqrt = elementwise(np.sqrt, lambda x, y: divide(np.asarray(0.5), y))
square = elementwise(np.square, lambda x, y: multiply(np.asarray(2.0), x))
sigmoid = elementwise(lambda x: 1 / (1 + np.exp(-x)), lambda x, y: multiply(y, subtract(ONE, y)))


def power(n: int) -> Any:
    return elementwise(lambda x: x**n, lambda x, y: multiply(np.asarray(float(n)), power(n - 1)(x)))


matmul = primitive(
    np.matmul,
    lambda out, p, t: terms(
        out,
        None if t[0] is None else matmul(t[0], p[1]),
        None if t[1] is None else matmul(p[0], t[1]),
    ),
)


def filled(tangent: Any, value: Any) -> Any:
    return np.zeros(shape_of(value)) if tangent is None else tangent


where = primitive(np.where, lambda out, p, t: where(p[0], filled(t[1], p[1]), filled(t[2], p[2])))
greater = primitive(np.greater)
less = primitive(np.less)


def stack(values: list[Any]) -> Any:
    """Along a new first axis."""
    op = primitive(
        lambda *xs: np.stack(xs),
        lambda out, p, t: op(*[filled(ti, pi) for ti, pi in zip(t, p, strict=True)]),
    )
    return op(*values)


def take(value: Any, key: Any) -> Any:
    """Reading by an index, as a choice of positions."""
    positions = np.arange(int(np.prod(shape_of(value)))).reshape(shape_of(value))[key]
    return linear(lambda x: np.reshape(x, -1)[positions])(value)


def put(value: Any, key: Any, new: Any) -> Any:
    shape = shape_of(value)
    positions = np.arange(int(np.prod(shape))).reshape(shape)[key]

    def run(x: Any, v: Any) -> Any:
        out = np.array(x).reshape(-1)
        out[positions] = v
        return out.reshape(shape)

    op = primitive(run, lambda out, p, t: op(filled(t[0], p[0]), filled(t[1], p[1])))
    return op(value, new)


def put_where(value: Any, mask: Any, new: Any) -> Any:
    return where(mask, new, value)


def seeded(level: int, value: Any, name: Any) -> Dual:
    """The value with a direction for each of its entries."""
    shape = shape_of(value)
    units = np.eye(int(np.prod(shape)))
    return Dual(level, value, {(name, i): unit.reshape(shape) for i, unit in enumerate(units)})
