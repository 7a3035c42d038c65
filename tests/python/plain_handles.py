"""A plain interpreter of programs with state: adjoint's names on NumPy arrays, and nothing of it.

A handle holds a value; a value is an array, or a `Dual` or a `Batch` of values at a level. Each
transform that is open has a level of its own, higher than those it stands in; level 0 is that of
the recorded leaves. A gradient is read off the tangents of all entries at once, so functions run
once, as state demands; a batch is a list of its members. `compile` and `checkpoint` call their
function. What assignment means in each of them is decided in `_assign` and nowhere else.

Only the numbers of a `Generator` are asked of the library, drawn eagerly from the state at hand.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np


class Refused(Exception):
    """The library must raise here."""


# ---- values --------------------------------------------------------------------------------------


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


def _level(value: Any) -> int:
    return value.level if isinstance(value, (Dual, Batch)) else -1


def _shape(value: Any) -> tuple[int, ...]:
    while isinstance(value, (Dual, Batch)):
        value = value.primal if isinstance(value, Dual) else value.members[0]
    return np.shape(value)


def _strip(value: Any, drop: Callable[[int], bool]) -> Any:
    """The value without the tangents of the levels that `drop` names."""
    if isinstance(value, Batch):
        return Batch(value.level, [_strip(member, drop) for member in value.members])
    if not isinstance(value, Dual):
        return value
    primal = _strip(value.primal, drop)
    if drop(value.level):
        return primal
    return Dual(value.level, primal, {k: _strip(t, drop) for k, t in value.tangents.items()})


def _depends(value: Any, level: int) -> bool:
    """Whether the value differs along the batch of a level."""
    if isinstance(value, Batch):
        return value.level == level or any(_depends(m, level) for m in value.members)
    if isinstance(value, Dual):
        return any(_depends(v, level) for v in (value.primal, *value.tangents.values()))
    return False


def _primitive(run: Callable[..., Any], rule: Callable[..., Any] | None = None) -> Any:
    """An operation on values: `run` on arrays, `rule(out, primals, tangents)` for one direction.

    A tangent of None is zero; without a rule there is no derivative.
    """

    def op(*xs: Any) -> Any:
        top = max(map(_level, xs))
        if top < 0:
            return np.asarray(run(*xs))
        at = [_level(x) == top for x in xs]
        if any(isinstance(x, Batch) for x, here in zip(xs, at, strict=True) if here):
            count = next(len(x.members) for x, here in zip(xs, at, strict=True) if here)
            pairs = list(zip(xs, at, strict=True))
            return Batch(top, [op(*[x.members[i] if h else x for x, h in pairs]) for i in range(count)])
        primals = [x.primal if here else x for x, here in zip(xs, at, strict=True)]
        out = op(*primals)
        if rule is None:
            return out
        duals = [x.tangents if here else {} for x, here in zip(xs, at, strict=True)]
        keys = dict.fromkeys(itertools.chain(*duals))
        return Dual(top, out, {k: rule(out, primals, [d.get(k) for d in duals]) for k in keys})

    return op


def _linear(run: Callable[..., Any]) -> Any:
    """An operation that is linear in its one operand."""
    op = _primitive(run, lambda out, p, t: op(t[0]))
    return op


def _spread(shape: tuple[int, ...]) -> Any:
    return _linear(lambda x: np.broadcast_to(x, shape))


def _terms(out: Any, *terms: Any) -> Any:
    """The sum of the terms that are there, in the shape of the result."""
    there = [term for term in terms if term is not None]
    total = there[0] if len(there) == 1 else _add(*there)
    shape = _shape(out)
    return total if _shape(total) == shape else _spread(shape)(total)


def _times(tangent: Any, factor: Callable[[], Any]) -> Any:
    return None if tangent is None else _multiply(tangent, factor())


_add = _primitive(np.add, lambda out, p, t: _terms(out, *t))
_negate = _linear(np.negative)
_subtract = _primitive(
    np.subtract, lambda out, p, t: _terms(out, t[0], None if t[1] is None else _negate(t[1]))
)
_multiply = _primitive(
    np.multiply,
    lambda out, p, t: _terms(out, _times(t[0], lambda: p[1]), _times(t[1], lambda: p[0])),
)
_divide = _primitive(
    np.true_divide,
    lambda out, p, t: _terms(
        out,
        _times(t[0], lambda: _divide(np.asarray(1.0), p[1])),
        _times(t[1], lambda: _negate(_divide(out, p[1]))),
    ),
)


def _slope(run: Callable[..., Any], slope: Callable[[Any, Any], Any]) -> Any:
    """An elementwise operation of one operand; `slope(x, out)` is its derivative."""
    return _primitive(run, lambda out, p, t: _multiply(t[0], slope(p[0], out)))


_one = np.asarray(1.0)
_sin = _slope(np.sin, lambda x, y: _cos(x))
_cos = _slope(np.cos, lambda x, y: _negate(_sin(x)))
_exp = _slope(np.exp, lambda x, y: y)
_log = _slope(np.log, lambda x, y: _divide(_one, x))
_tanh = _slope(np.tanh, lambda x, y: _subtract(_one, _multiply(y, y)))
_sqrt = _slope(np.sqrt, lambda x, y: _divide(np.asarray(0.5), y))
_square = _slope(np.square, lambda x, y: _multiply(np.asarray(2.0), x))
_sigmoid = _slope(lambda x: 1 / (1 + np.exp(-x)), lambda x, y: _multiply(y, _subtract(_one, y)))


def _power(n: int) -> Any:
    return _slope(lambda x: x**n, lambda x, y: _multiply(np.asarray(float(n)), _power(n - 1)(x)))


_matmul = _primitive(
    np.matmul,
    lambda out, p, t: _terms(
        out,
        None if t[0] is None else _matmul(t[0], p[1]),
        None if t[1] is None else _matmul(p[0], t[1]),
    ),
)


def _zero(tangent: Any, value: Any) -> Any:
    return np.zeros(_shape(value)) if tangent is None else tangent


_where = _primitive(
    np.where, lambda out, p, t: _where(p[0], _zero(t[1], p[1]), _zero(t[2], p[2]))
)
_greater = _primitive(np.greater)
_less = _primitive(np.less)


def _stack(values: list[Any]) -> Any:
    """Along a new first axis."""
    op = _primitive(
        lambda *xs: np.stack(xs),
        lambda out, p, t: op(*[_zero(ti, pi) for ti, pi in zip(t, p, strict=True)]),
    )
    return op(*values)


def _take(value: Any, key: Any) -> Any:
    """Reading by an index, as a choice of positions."""
    positions = np.arange(int(np.prod(_shape(value)))).reshape(_shape(value))[key]
    return _linear(lambda x: np.reshape(x, -1)[positions])(value)


def _put(value: Any, key: Any, new: Any) -> Any:
    shape = _shape(value)
    positions = np.arange(int(np.prod(shape))).reshape(shape)[key]

    def run(x: Any, v: Any) -> Any:
        out = np.array(x).reshape(-1)
        out[positions] = v
        return out.reshape(shape)

    op = _primitive(run, lambda out, p, t: op(_zero(t[0], p[0]), _zero(t[1], p[1])))
    return op(value, new)


def _put_where(value: Any, mask: Any, new: Any) -> Any:
    return _where(mask, new, value)


def _seed(level: int, value: Any, name: Any) -> Dual:
    """The value with a direction for each of its entries."""
    shape = _shape(value)
    units = np.eye(int(np.prod(shape)))
    return Dual(level, value, {(name, i): unit.reshape(shape) for i, unit in enumerate(units)})


# ---- levels --------------------------------------------------------------------------------------


class _State:
    """What is open: (level, kind) of transforms, levels that `no_grad` hides, journals to undo."""

    def __init__(self) -> None:
        self.count = 0
        self.open: list[tuple[int, str]] = []
        self.hidden: list[int] = []
        self.journals: list[list[Callable[[], None]]] = []

    @property
    def top(self) -> int:
        return self.open[-1][0] if self.open else 0

    def is_open(self, level: int) -> bool:
        return level == 0 or any(level == one for one, _ in self.open)


_state = _State()


@contextmanager
def _level_of(kind: str) -> Iterator[int]:
    _state.count += 1
    _state.open.append((_state.count, kind))
    try:
        yield _state.count
    finally:
        _state.open.pop()


class no_grad:  # noqa: N801
    """What is computed inside is constant to every level that was open outside."""

    def __enter__(self) -> None:
        _state.hidden.append(_state.count)

    def __exit__(self, *args: object) -> None:
        _state.hidden.pop()


def _seen(value: Any) -> Any:
    """The value as `no_grad` lets it be seen."""
    if _state.hidden and _level(value) >= 0:
        edge = _state.hidden[-1]
        return _strip(value, lambda level: level <= edge)
    return value


# ---- handles -------------------------------------------------------------------------------------


class Leaf:
    """What a handle owns that wants gradients."""

    def __init__(self) -> None:
        self.grad: Any = None


class Tensor:
    __slots__ = ("_value", "birth", "leaf")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None

    def __init__(self, value: Any, leaf: Leaf | None = None) -> None:
        self._value, self.leaf, self.birth = value, leaf, _state.top

    @property
    def value(self) -> Any:
        if self.leaf is not None:
            return _seed(0, self._value, self.leaf)
        while _level(self._value) > 0 and not _state.is_open(self._value.level):
            self._value = self._value.primal
        return self._value

    # -- reading --
    @property
    def shape(self) -> tuple[int, ...]:
        return _shape(self._value)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def requires_grad(self) -> bool:
        return _level(self.value) >= 0

    def numpy(self) -> Any:
        value = _strip(self.value, lambda level: True)
        assert _level(value) < 0, "a batch has left its transform"
        return np.array(value)

    def item(self) -> Any:
        return self.numpy().item()

    @property
    def T(self) -> Tensor:  # noqa: N802
        return _wrap(_linear(np.transpose)(self.value))

    def detach(self) -> Tensor:
        return Tensor(_strip(self.value, lambda level: True))

    def __getitem__(self, key: Any) -> Tensor:
        return _wrap(_take(self.value, _plain_key(key)))

    def __len__(self) -> int:
        return self.shape[0]

    def __add__(self, other: Any) -> Tensor:
        return _wrap(_add(self.value, _raw(other)))

    def __sub__(self, other: Any) -> Tensor:
        return _wrap(_subtract(self.value, _raw(other)))

    def __mul__(self, other: Any) -> Tensor:
        return _wrap(_multiply(self.value, _raw(other)))

    def __truediv__(self, other: Any) -> Tensor:
        return _wrap(_divide(self.value, _raw(other)))

    def __matmul__(self, other: Any) -> Tensor:
        return _wrap(_matmul(self.value, _raw(other)))

    def __radd__(self, other: Any) -> Tensor:
        return _wrap(_add(_raw(other), self.value))

    def __rsub__(self, other: Any) -> Tensor:
        return _wrap(_subtract(_raw(other), self.value))

    def __rmul__(self, other: Any) -> Tensor:
        return _wrap(_multiply(_raw(other), self.value))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _wrap(_divide(_raw(other), self.value))

    def __pow__(self, n: int) -> Tensor:
        return _wrap(_power(n)(self.value))

    def __neg__(self) -> Tensor:
        return _wrap(_negate(self.value))

    def __gt__(self, other: Any) -> Tensor:
        return _wrap(_greater(self.value, _raw(other)))

    def __lt__(self, other: Any) -> Tensor:
        return _wrap(_less(self.value, _raw(other)))

    # -- assigning --
    def __setitem__(self, key: Any, new: Any) -> None:
        new = _raw(new)
        if isinstance(key, Tensor) and _raw_dtype(key.value) == bool:
            _assign(self, _put_where(self.value, key.value, new))
        else:
            _assign(self, _put(self.value, _plain_key(key), new))

    def rebind_(self, new: Any) -> Tensor:
        _assign(self, _raw(new))
        return self

    def __iadd__(self, other: Any) -> Tensor:
        return self.rebind_(self + other)

    def __isub__(self, other: Any) -> Tensor:
        return self.rebind_(self - other)

    def __imul__(self, other: Any) -> Tensor:
        return self.rebind_(self * other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self.rebind_(self / other)

    # -- gradients --
    @property
    def grad(self) -> Tensor | None:
        return None if self.leaf is None or self.leaf.grad is None else Tensor(self.leaf.grad)

    def zero_grad(self) -> None:
        if self.leaf is not None:
            _set_grad(self.leaf, None)

    def backward(self) -> None:
        value = self.value
        if _level(value) != 0 or _state.hidden:
            raise Refused("nothing to differentiate")
        assert _shape(value) == () or self.size == 1
        leaves = dict.fromkeys(leaf for leaf, _ in value.tangents)
        for leaf in leaves:
            parts = [t.reshape(()) for (one, _), t in value.tangents.items() if one is leaf]
            new = np.array(parts).reshape(leaf.shape)  # type: ignore[attr-defined]
            _set_grad(leaf, new if leaf.grad is None else leaf.grad + new)


def _set_grad(leaf: Leaf, new: Any) -> None:
    old = leaf.grad
    for journal in _state.journals:
        journal.append(lambda: setattr(leaf, "grad", old))
    leaf.grad = new


def _assign(handle: Tensor, value: Any) -> None:
    """Rebind the handle, as the table of assignment inside transforms has it."""
    if handle.leaf is not None and not _state.hidden:
        raise Refused("a leaf is rebound while operations are recorded")
    if _shape(value) != handle.shape:
        raise Refused(f"{handle.shape} is rebound to {_shape(value)}")
    value = _seen(value)
    if handle.leaf is not None:
        value = _strip(value, lambda level: level == 0)
    outside = [(level, kind) for level, kind in _state.open if level > handle.birth]
    for level, kind in reversed(outside):
        if kind == "loop":
            raise Refused("a loop assigns to a handle from outside")
        if kind == "jvp":
            value = _strip(value, functools.partial(int.__eq__, level))
        if kind == "vmap" and _depends(value, level):
            raise Refused("vmap assigns what differs along the batch to a handle from outside")
    old = handle._value
    for journal in _state.journals:
        journal.append(lambda: setattr(handle, "_value", old))
    handle._value = value


def _raw_dtype(value: Any) -> Any:
    while isinstance(value, (Dual, Batch)):
        value = value.primal if isinstance(value, Dual) else value.members[0]
    return np.asarray(value).dtype


def _plain_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_plain_key, key))
    return key.numpy() if isinstance(key, Tensor) else key


def _raw(x: Any) -> Any:
    if isinstance(x, (Dual, Batch)):
        return x
    return x.value if isinstance(x, Tensor) else np.asarray(x)


def _wrap(value: Any) -> Tensor:
    return Tensor(_seen(value))


def _unary(op: Any) -> Callable[[Any], Tensor]:
    return lambda x: _wrap(op(_raw(x)))


sin, cos, exp, log = _unary(_sin), _unary(_cos), _unary(_exp), _unary(_log)
tanh, sqrt, square, sigmoid = _unary(_tanh), _unary(_sqrt), _unary(_square), _unary(_sigmoid)
float64 = np.float64


def tensor(data: Any, requires_grad: bool = False) -> Tensor:
    leaf = Leaf() if requires_grad else None
    value = np.array(data)
    if leaf is not None:
        leaf.shape = value.shape  # type: ignore[attr-defined]
    return Tensor(value, leaf)


def asarray(data: Any) -> Tensor:
    return data if isinstance(data, Tensor) else tensor(data)


def zeros(shape: Any) -> Tensor:
    return Tensor(np.zeros(shape))


def zeros_like(x: Any) -> Tensor:
    return Tensor(np.zeros(_shape(_raw(x))))


def where(c: Any, a: Any, b: Any) -> Tensor:
    return _wrap(_where(_raw(c), _raw(a), _raw(b)))


def sum(x: Any, axis: int | None = None) -> Tensor:  # noqa: A001
    return _wrap(_linear(lambda v: np.sum(v, axis=axis))(_raw(x)))


def mean(x: Any, axis: int | None = None) -> Tensor:
    return _wrap(_linear(lambda v: np.mean(v, axis=axis))(_raw(x)))


def reshape(x: Any, shape: Any) -> Tensor:
    return _wrap(_linear(lambda v: np.reshape(v, shape))(_raw(x)))


def stack(xs: Any) -> Tensor:
    return _wrap(_stack([_raw(x) for x in xs]))


def stop_gradient(x: Any) -> Tensor:
    return asarray(x).detach()


# ---- trees ---------------------------------------------------------------------------------------


def _map(f: Callable[[Any], Any], node: Any) -> Any:
    if isinstance(node, (tuple, list)):
        return type(node)(_map(f, x) for x in node)
    if isinstance(node, dict):
        return {k: _map(f, x) for k, x in node.items()}
    return node if node is None else f(node)


def _leaves(node: Any) -> list[Any]:
    out: list[Any] = []
    _map(out.append, node)
    return out


tree = SimpleNamespace(map=_map, leaves=_leaves)


# ---- transforms ----------------------------------------------------------------------------------


def _leave(value: Any, level: int | None = None) -> Tensor:
    """What a transform returns: without its level, and without history unless one is open still."""
    inside = {level} if _state.open else {level, 0}
    return Tensor(_strip(value, inside.__contains__))


def _differentiate(f: Any, argnums: Any, has_aux: bool, args: tuple[Any, ...]) -> Any:
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    with _level_of("grad") as level:
        inner = [Tensor(_raw(x)) if k in chosen else x for k, x in enumerate(args)]
        for k in chosen:
            inner[k] = Tensor(_seed(level, inner[k].value, k))
        out, aux = f(*inner) if has_aux else (f(*inner), None)
        raw, aux = _raw(out), _map(_raw, aux)
    assert _shape(raw) == ()
    tangents = raw.tangents if _level(raw) == level else {}
    parts = []
    for k in chosen:
        shape = _shape(_raw(args[k]))
        entries = [tangents.get((k, i), np.zeros(())) for i in range(int(np.prod(shape)))]
        parts.append(_leave(_linear(lambda v, s=shape: np.reshape(v, s))(_stack(entries))))
    gradient = parts[0] if isinstance(argnums, int) else tuple(parts)
    return _leave(raw, level), gradient, _map(lambda x: _leave(x, level), aux)


def grad(f: Any, argnums: Any = 0, has_aux: bool = False) -> Any:
    def call(*args: Any) -> Any:
        _, gradient, aux = _differentiate(f, argnums, has_aux, args)
        return (gradient, aux) if has_aux else gradient

    return call


def value_and_grad(f: Any, argnums: Any = 0, has_aux: bool = False) -> Any:
    def call(*args: Any) -> Any:
        value, gradient, aux = _differentiate(f, argnums, has_aux, args)
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return call


def jvp(f: Any, primals: Any, tangents: Any) -> Any:
    with _level_of("jvp") as level:
        pairs = zip(primals, tangents, strict=True)
        inner = [Tensor(Dual(level, _raw(x), {0: _raw(t)})) for x, t in pairs]
        out = _map(_raw, f(*inner))

    def slope(value: Any) -> Tensor:
        found = value.tangents.get(0) if _level(value) == level else None
        return _leave(np.zeros(_shape(value)) if found is None else found)

    return _map(lambda v: _leave(v, level), out), _map(slope, out)


def vmap(f: Any, in_axes: Any = 0) -> Any:
    def call(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        sizes = {_shape(_raw(x))[a] for x, a in zip(args, axes, strict=True) if a is not None}
        (size,) = sizes

        def member(x: Any, axis: int, i: int) -> Any:
            return _linear(lambda v: np.take(v, i, axis=axis))(x)

        with _level_of("vmap") as level:
            inner = []
            for x, axis in zip(args, axes, strict=True):
                raw = _raw(x)
                if axis is not None:
                    raw = Batch(level, [member(raw, axis, i) for i in range(size)])
                inner.append(Tensor(raw))
            out = _map(_raw, f(*inner))

        def together(value: Any) -> Tensor:
            same = _level(value) != level
            return Tensor(_stack([value] * size if same else value.members))

        return _map(together, out)

    return call


def compile(f: Any) -> Any:  # noqa: A001
    """The function itself; a call that raises leaves no trace."""

    def call(*args: Any) -> Any:
        journal: list[Callable[[], None]] = []
        _state.journals.append(journal)
        try:
            return f(*args)
        except Exception:
            for undo in reversed(journal):
                undo()
            raise
        finally:
            _state.journals.pop()

    return call


def checkpoint(f: Any) -> Any:
    return f


# ---- loops ---------------------------------------------------------------------------------------


def _own(node: Any) -> Any:
    return _map(lambda x: Tensor(_raw(x)), node)


def _same(a: Any, b: Any) -> None:
    if [_shape(_raw(x)) for x in _leaves(a)] != [_shape(_raw(x)) for x in _leaves(b)]:
        raise Refused("a step changes a shape")


def scan(f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> Any:
    count = _leaves(xs)[0].shape[0] if length is None else length
    carry, rows = _map(_raw, init), []
    for t in reversed(range(count)) if reverse else range(count):
        with _level_of("loop"):
            row = _map(lambda x, i=t: Tensor(_take(_raw(x), i)), xs)
            new, y = f(_map(Tensor, carry), row)
            _same(carry, new)
            carry = _map(_raw, new)
            rows.append(_map(_raw, y))
    if reverse:
        rows.reverse()
    columns = [_wrap(_stack(list(column))) for column in zip(*map(_leaves, rows), strict=True)]
    cursor = iter(columns)
    return _map(Tensor, carry), _map(lambda _: next(cursor), rows[0])


def while_loop(goes_on: Any, body: Any, init: Any, max_steps: int) -> Any:
    carry = _map(_raw, init)
    for _ in range(max_steps):
        with _level_of("loop"):
            going = _raw(goes_on(_map(Tensor, carry)))
            if not _any(going):
                break
            new = body(_map(Tensor, carry))
            _same(carry, new)
        fresh = iter(_leaves(new))
        carry = _map(lambda old: _choose(going, _raw(next(fresh)), old), carry)  # noqa: B023
    return _map(Tensor, carry)


def cond(pred: Any, yes: Any, no: Any, *operands: Any) -> Any:
    chosen = _strip(_raw(pred), lambda level: True)
    with _level_of("loop"):
        if _level(chosen) < 0:
            out = (yes if chosen else no)(*operands)
            return _map(lambda x: Tensor(_raw(x)), out)
        first, second = yes(*operands), no(*operands)
    others = iter(_leaves(second))
    return _map(lambda a: Tensor(_choose(chosen, _raw(a), _raw(next(others)))), first)


def _any(flag: Any) -> bool:
    flag = _strip(flag, lambda level: True)
    return any(map(_any, flag.members)) if isinstance(flag, Batch) else bool(flag)


def _choose(flag: Any, new: Any, old: Any) -> Any:
    flag = _strip(flag, lambda level: True)
    return _where(flag, new, old) if _level(flag) >= 0 else (new if flag else old)


# ---- generators, modules, optimizers -------------------------------------------------------------


class Generator:
    def __init__(self, seed: int) -> None:
        self.state = Tensor(np.array([seed, 0], dtype=np.uint64))

    def _draw(self, how: str, shape: Any) -> Tensor:
        import adjoint

        stream = adjoint.random.Generator(0)
        stream.state.rebind_(adjoint.asarray(self.state.numpy()))
        numbers = getattr(stream, how)(shape).numpy()
        blocks = int(np.prod(shape)) // 2 + 1
        _assign(self.state, self.state.numpy() + np.array([0, blocks], dtype=np.uint64))
        return Tensor(np.array(numbers))

    def uniform(self, shape: Any = ()) -> Tensor:
        return self._draw("uniform", shape)

    def normal(self, shape: Any = ()) -> Tensor:
        return self._draw("normal", shape)


class Module:
    training = True

    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)  # type: ignore[attr-defined]

    def parameters(self) -> list[Tensor]:
        return [x for x in vars(self).values() if isinstance(x, Tensor) and x.leaf is not None]

    def train(self, mode: bool = True) -> Module:
        self.training = mode
        return self

    def eval(self) -> Module:
        return self.train(False)


class _Optimizer:
    def __init__(self, params: Any, learning_rate: float) -> None:
        self.params, self.learning_rate = list(params), learning_rate
        self.slots = [self.start(p) for p in self.params]

    def start(self, p: Tensor) -> list[Tensor]:
        return [zeros(p.shape), zeros(p.shape)]

    def zero_grad(self) -> None:
        for p in self.params:
            p.zero_grad()

    def step(self) -> None:
        if all(p.grad is None for p in self.params):
            raise Refused("no parameter has a gradient")
        with no_grad():
            self.before()
            for p, slots in zip(self.params, self.slots, strict=True):
                if p.grad is not None:
                    p.rebind_(p + self.update(p.grad, slots))

    def before(self) -> None:
        pass


class SGD(_Optimizer):
    def __init__(self, params: Any, learning_rate: float = 0.01, momentum: float = 0.0) -> None:
        super().__init__(params, learning_rate)
        self.momentum = momentum

    def update(self, g: Tensor, slots: list[Tensor]) -> Tensor:
        velocity = slots[0].rebind_(self.momentum * slots[0] + g)
        return -self.learning_rate * velocity


class Adam(_Optimizer):
    def __init__(self, params: Any, learning_rate: float = 0.001) -> None:
        super().__init__(params, learning_rate)
        self.steps = zeros(())

    def before(self) -> None:
        self.steps += 1.0

    def update(self, g: Tensor, slots: list[Tensor]) -> Tensor:
        first = slots[0].rebind_(0.9 * slots[0] + (1 - 0.9) * g)
        second = slots[1].rebind_(0.999 * slots[1] + (1 - 0.999) * g * g)
        t = self.steps.item()
        unbiased = sqrt(second / (1 - 0.999**t))
        return -self.learning_rate * (first / (1 - 0.9**t)) / (unbiased + 1e-8)


random = SimpleNamespace(Generator=Generator)
nn = SimpleNamespace(Module=Module)
optim = SimpleNamespace(SGD=SGD, Adam=Adam)
