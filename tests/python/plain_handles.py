"""A plain interpreter of programs with state: adjoint's names on NumPy arrays, and nothing of it.

A handle holds a value of `plain_values`. Each transform that is open has a level of its own, higher
than those it stands in; level 0 is that of the recorded leaves. A gradient is read off the tangents
of all entries at once, so functions run once, as state demands; a batch is a list of its members.
`compile` and `checkpoint` call their function. What assignment means in each of them is decided in
`_assign` and nowhere else.

Only the numbers of a `Generator` are asked of the library, drawn eagerly from the state at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

import plain_values as values
from plain_values import Batch, Dual


class Refused(Exception):
    """The library must raise here."""


# ---- levels --------------------------------------------------------------------------------------


class _State:
    """What is open: (level, kind) of transforms, levels that `no_grad` hides, (level, size) of
    batches, journals to undo."""

    def __init__(self) -> None:
        self.count = 0
        self.open: list[tuple[int, str]] = []
        self.hidden: list[int] = []
        self.batches: list[tuple[int, int]] = []
        self.journals: list[list[Callable[[], None]]] = []

    @property
    def top(self) -> int:
        return self.open[-1][0] if self.open else 0

    def is_open(self, level: int) -> bool:
        return level == 0 or any(level == one for one, _ in self.open)


_state = _State()


@contextmanager
def _level_of(kind: str, size: int | None = None) -> Iterator[int]:
    _state.count += 1
    _state.open.append((_state.count, kind))
    batches = _state.batches
    if size is not None:
        _state.batches = [*batches, (_state.count, size)]
    try:
        yield _state.count
    finally:
        _state.open.pop()
        _state.batches = batches


class no_grad:
    """What is computed inside is constant to every level that was open outside."""

    def __enter__(self) -> None:
        _state.hidden.append(_state.count)

    def __exit__(self, *args: object) -> None:
        _state.hidden.pop()


def _seen(value: Any) -> Any:
    """The value as `no_grad` lets it be seen."""
    if _state.hidden and values.level_of(value) >= 0:
        edge = _state.hidden[-1]
        return values.strip(value, lambda level: level <= edge)
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
            return values.seeded(0, self._value, self.leaf)
        while values.level_of(self._value) > 0 and not _state.is_open(self._value.level):
            self._value = self._value.primal
        return self._value

    # -- reading --
    @property
    def shape(self) -> tuple[int, ...]:
        return values.shape_of(self._value)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def requires_grad(self) -> bool:
        return values.level_of(self.value) >= 0

    def numpy(self) -> Any:
        value = values.strip(self.value, lambda level: True)
        assert values.level_of(value) < 0, "a batch has left its transform"
        return np.array(value)

    def item(self) -> Any:
        return self.numpy().item()

    @property
    def T(self) -> Tensor:
        return _wrap(values.linear(np.transpose)(self.value))

    def detach(self) -> Tensor:
        return Tensor(values.strip(self.value, lambda level: True))

    def __getitem__(self, key: Any) -> Tensor:
        return _wrap(values.take(self.value, _plain_key(key)))

    def __len__(self) -> int:
        return self.shape[0]

    def __add__(self, other: Any) -> Tensor:
        return _wrap(values.add(self.value, _raw(other)))

    def __sub__(self, other: Any) -> Tensor:
        return _wrap(values.subtract(self.value, _raw(other)))

    def __mul__(self, other: Any) -> Tensor:
        return _wrap(values.multiply(self.value, _raw(other)))

    def __truediv__(self, other: Any) -> Tensor:
        return _wrap(values.divide(self.value, _raw(other)))

    def __matmul__(self, other: Any) -> Tensor:
        return _wrap(values.matmul(self.value, _raw(other)))

    def __radd__(self, other: Any) -> Tensor:
        return _wrap(values.add(_raw(other), self.value))

    def __rsub__(self, other: Any) -> Tensor:
        return _wrap(values.subtract(_raw(other), self.value))

    def __rmul__(self, other: Any) -> Tensor:
        return _wrap(values.multiply(_raw(other), self.value))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _wrap(values.divide(_raw(other), self.value))

    def __pow__(self, n: int) -> Tensor:
        return _wrap(values.power(n)(self.value))

    def __neg__(self) -> Tensor:
        return _wrap(values.negate(self.value))

    def __gt__(self, other: Any) -> Tensor:
        return _wrap(values.greater(self.value, _raw(other)))

    def __lt__(self, other: Any) -> Tensor:
        return _wrap(values.less(self.value, _raw(other)))

    # -- assigning --
    def __setitem__(self, key: Any, new: Any) -> None:
        new = _raw(new)
        if isinstance(key, Tensor) and _raw_dtype(key.value).kind == "b":
            _assign(self, values.put_where(self.value, key.value, new))
        else:
            _assign(self, values.put(self.value, _plain_key(key), new))

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
        if values.level_of(value) != 0 or _state.hidden:
            raise Refused("nothing to differentiate")
        assert values.shape_of(value) == () or self.size == 1
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
    if values.shape_of(value) != handle.shape:
        raise Refused(f"{handle.shape} is rebound to {values.shape_of(value)}")
    value = _seen(value)
    if handle.leaf is not None:
        value = values.strip(value, lambda level: level == 0)
    outside = [(level, kind) for level, kind in _state.open if level > handle.birth]
    for level, kind in reversed(outside):
        if kind == "loop":
            raise Refused("a loop assigns to a handle from outside")
        if kind == "jvp":
            value = values.kept(value, level)
        if kind == "vmap" and values.depends(value, level):
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


sin, cos, exp, log = _unary(values.sin), _unary(values.cos), _unary(values.exp), _unary(values.log)
tanh, sqrt, square, sigmoid = (
    _unary(values.tanh),
    _unary(values.sqrt),
    _unary(values.square),
    _unary(values.sigmoid),
)
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
    return Tensor(np.zeros(values.shape_of(_raw(x))))


def where(c: Any, a: Any, b: Any) -> Tensor:
    return _wrap(values.where(_raw(c), _raw(a), _raw(b)))


def sum(x: Any, axis: int | None = None) -> Tensor:
    return _wrap(values.linear(lambda v: np.sum(v, axis=axis))(_raw(x)))


def mean(x: Any, axis: int | None = None) -> Tensor:
    return _wrap(values.linear(lambda v: np.mean(v, axis=axis))(_raw(x)))


def reshape(x: Any, shape: Any) -> Tensor:
    return _wrap(values.linear(lambda v: np.reshape(v, shape))(_raw(x)))


def stack(xs: Any) -> Tensor:
    return _wrap(values.stack([_raw(x) for x in xs]))


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


def _leave(value: Any, level: int | None = None, of_reverse: bool = False) -> Tensor:
    """What a transform returns: without its level, and without history unless one is open still.

    Derivatives of a reverse transform have one only for another that is open around it.
    """
    around = [kind for _, kind in _state.open if kind == "grad" or not of_reverse]
    inside = {level} if around else {level, 0}
    return Tensor(values.strip(value, inside.__contains__))


def _differentiate(f: Any, argnums: Any, has_aux: bool, args: tuple[Any, ...]) -> Any:
    chosen = (argnums,) if isinstance(argnums, int) else argnums
    with _level_of("grad") as level:
        inner = [Tensor(_raw(x)) if k in chosen else x for k, x in enumerate(args)]
        for k in chosen:
            inner[k] = Tensor(values.seeded(level, inner[k].value, k))
        out, aux = f(*inner) if has_aux else (f(*inner), None)
        raw, aux = _raw(out), _map(_raw, aux)
    assert values.shape_of(raw) == ()
    tangents = raw.tangents if values.level_of(raw) == level else {}
    parts = []
    for k in chosen:
        shape = values.shape_of(_raw(args[k]))
        entries = [tangents.get((k, i), np.zeros(())) for i in range(int(np.prod(shape)))]
        parts.append(
            _leave(
                values.linear(lambda v, s=shape: np.reshape(v, s))(values.stack(entries)),
                of_reverse=True,
            )
        )
    gradient = parts[0] if isinstance(argnums, int) else tuple(parts)
    left = [_map(lambda x: _leave(x, level, of_reverse=True), part) for part in (raw, aux)]
    return left[0], gradient, left[1]


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
        found = value.tangents.get(0) if values.level_of(value) == level else None
        return _leave(np.zeros(values.shape_of(value)) if found is None else found)

    return _map(lambda v: _leave(v, level), out), _map(slope, out)


def vmap(f: Any, in_axes: Any = 0) -> Any:
    def call(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        sizes = {
            values.shape_of(_raw(x))[a] for x, a in zip(args, axes, strict=True) if a is not None
        }
        (size,) = sizes

        def member(x: Any, axis: int, i: int) -> Any:
            return values.linear(lambda v: np.take(v, i, axis=axis))(x)

        with _level_of("vmap", size) as level:
            inner = []
            for x, axis in zip(args, axes, strict=True):
                raw = _raw(x)
                if axis is not None:
                    raw = Batch(level, [member(raw, axis, i) for i in range(size)])
                inner.append(Tensor(raw))
            out = _map(_raw, f(*inner))

        def together(value: Any) -> Tensor:
            same = values.level_of(value) != level
            return Tensor(values.stack([value] * size if same else value.members))

        return _map(together, out)

    return call


def compile(f: Any) -> Any:
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
    if [values.shape_of(_raw(x)) for x in _leaves(a)] != [
        values.shape_of(_raw(x)) for x in _leaves(b)
    ]:
        raise Refused("a step changes a shape")


def scan(
    f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> Any:
    count = _leaves(xs)[0].shape[0] if length is None else length
    carry, rows = _map(_raw, init), []
    for t in reversed(range(count)) if reverse else range(count):
        with _level_of("loop"):
            row = _map(lambda x, i=t: Tensor(values.take(_raw(x), i)), xs)
            new, y = f(_map(Tensor, carry), row)
            _same(carry, new)
            carry = _map(_raw, new)
            rows.append(_map(_raw, y))
    if reverse:
        rows.reverse()
    columns = [
        _wrap(values.stack(list(column))) for column in zip(*map(_leaves, rows), strict=True)
    ]
    cursor = iter(columns)
    return _map(_wrap, carry), _map(lambda _: next(cursor), rows[0])


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
    return _map(_wrap, carry)


def cond(pred: Any, yes: Any, no: Any, *operands: Any) -> Any:
    chosen = values.strip(_raw(pred), lambda level: True)
    with _level_of("loop"):
        if values.level_of(chosen) < 0:
            out = (yes if chosen else no)(*operands)
            return _map(lambda x: _wrap(_raw(x)), out)
        first, second = yes(*operands), no(*operands)
    others = iter(_leaves(second))
    return _map(lambda a: Tensor(_choose(chosen, _raw(a), _raw(next(others)))), first)


def _any(flag: Any) -> bool:
    flag = values.strip(flag, lambda level: True)
    return any(map(_any, flag.members)) if isinstance(flag, Batch) else bool(flag)


def _choose(flag: Any, new: Any, old: Any) -> Any:
    flag = values.strip(flag, lambda level: True)
    return values.where(flag, new, old) if values.level_of(flag) >= 0 else (new if flag else old)


# ---- generators, modules, optimizers -------------------------------------------------------------


def _to_members(numbers: Any, batches: list[tuple[int, int]]) -> Any:
    if not batches:
        return numbers
    *around, (level, _) = batches
    members = np.moveaxis(numbers, len(around), 0)
    return values.Batch(level, [_to_members(member, around) for member in members])


class Generator:
    """Draws of the library's own stream, in an order of its own: a member of a batch is a row."""

    def __init__(self, seed: int) -> None:
        self.state = Tensor(np.array([seed, 0], dtype=np.uint64))

    def _draw(self, how: str, shape: Any) -> Tensor:
        import adjoint

        stream = adjoint.random.Generator(0)
        stream.state.rebind_(adjoint.asarray(self.state.numpy()))
        dims = (*[size for _, size in _state.batches], *shape)
        numbers = getattr(stream, how)(dims).numpy()
        blocks = int(np.prod(dims)) // 2 + 1
        _assign(self.state, self.state.numpy() + np.array([0, blocks], dtype=np.uint64))
        return Tensor(_to_members(np.array(numbers), _state.batches))

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
