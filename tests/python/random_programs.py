"""Draws programs over the op table, as Python source that runs by itself.

A program is a function `f` of a few tensors, built line by line, and a nesting `h` of transforms
around it. While it is written each line is evaluated, so that the next one can be given operands
inside its domain: what is drawn is smooth near the point by construction. Kinks are kept at a
distance (a comparison is with a number in a gap between the values, a maximum is of values set
apart), never filtered out afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjoint as ad
from op_samples import ELEMENTWISE

PRELUDE = '''
import numpy as np
import adjoint as ad

low = ad.float32


def draw(seed, shape, bottom=-1.0, top=1.0):
    return np.random.default_rng(seed).uniform(bottom, top, shape)


def whole(seed, shape, top):
    return np.random.default_rng(seed).integers(0, top, shape)


def mask(seed, shape):
    return np.random.default_rng(seed).uniform(size=shape) < 0.6


def holds(seed, shape):
    """The positions of a mask."""
    return np.nonzero(mask(seed, shape))


def apart(seed, shape):
    """Numbers in random order, no two closer than 0.5."""
    count = int(np.prod(shape))
    return 0.5 * (np.random.default_rng(seed).permutation(count) - count // 2).reshape(shape)


def squash(x, bottom, top):
    """A smooth map of everything into an interval."""
    return bottom + (top - bottom) * ad.sigmoid(x)


def softmax(x, axis):
    e = ad.exp(x - ad.stop_gradient(ad.max(x, axis=axis, keepdims=True)))
    return e / ad.sum(e, axis=axis, keepdims=True)


def standardise(x, axis):
    centred = x - ad.mean(x, axis=axis, keepdims=True)
    return centred / ad.sqrt(ad.mean(centred * centred, axis=axis, keepdims=True) + 0.3)


def weights(x):
    """What the entries of a result count in its sum."""
    values = np.cos(np.arange(1, x.size + 1)).reshape(x.shape)
    return ad.asarray(values, dtype=x.dtype)


def weigh(tree):
    return sum(ad.sum(x * weights(x)) for x in ad.tree.leaves(tree))


def directions(xs):
    """The direction in which every input moves."""
    return tuple(
        ad.asarray(np.sin(np.arange(1, x.size + 1)).reshape(x.shape), dtype=x.dtype) for x in xs
    )


def rev(h):
    return lambda *xs: ad.grad(lambda *ys: weigh(h(*ys)), tuple(range(len(xs))))(*xs)


def pull(h):
    def derivative(*xs):
        out, pullback = ad.vjp(h, *xs)
        return pullback(ad.tree.map(weights, out))

    return derivative


def fwd(h):
    return lambda *xs: ad.jvp(h, xs, directions(xs))[1]


def linear(h):
    return lambda *xs: ad.linearize(h, *xs)[1](*directions(xs))


def curve(h):
    return lambda *xs: ad.hvp(lambda ys: weigh(h(*ys)), xs, directions(xs))


def batch(h, axis=0, shared=0):
    """Two points at once, stacked along an axis; the last `shared` inputs are the same for both."""

    def batched(*xs):
        own = len(xs) - shared
        stacked = [ad.stack([x, x + 0.001], axis=axis) for x in xs[:own]]
        return ad.vmap(h, in_axes=(axis,) * own + (None,) * shared)(*stacked, *xs[own:])

    return batched


def loop(h, axis=0, shared=0):
    """The same, one point after the other."""

    def looped(*xs):
        own = len(xs) - shared
        parts = [h(*xs), h(*[x + 0.001 for x in xs[:own]], *xs[own:])]
        return ad.tree.map(lambda *leaves: ad.stack(leaves), *parts)

    return looped
'''.lstrip()

DERIVATIVES = ("rev", "pull", "fwd", "linear", "curve")
SMALL, LARGE = 48, 40_000  # elements of a value at most


@dataclass(frozen=True)
class Program:
    """`source` defines `f`, its inputs `xs` and `h`, the nesting; `layers` make it."""

    seed: int
    source: str
    layers: tuple[str, ...]
    large: bool

    @property
    def narrow(self) -> bool:
        """Whether float32 takes part."""
        return self.source.count("low") > 1

    @property
    def exact(self) -> bool:
        """Whether every way of running it gives the same bits.

        A matrix product rounds by the layouts of its operands, and a compiled program may have a
        dense value where eager work has a view. The derivatives of compiled loops, and of functions
        that are traced to be linearised, add up their parts in an order of their own; so do those
        of a compiled function, which are programs of its graph.
        """
        if re.search(
            r"^h = ad.compile\(h\)\n(.*\n)*h = (rev|pull|fwd|linear|curve)", self.source, re.M
        ):
            return False
        rounding = ("@ ", "ad.matmul", "ad.scan", "ad.while_loop", "ad.cond", "ad.checkpoint")
        rounding += ("= linear(",)
        return not any(word in self.source for word in rounding)

    def run(self, narrow: bool = True) -> dict[str, Any]:
        """The program's names; with `narrow` off, float64 stands for every float32."""
        source = self.source if narrow else self.source.replace("ad.float32", "ad.float64", 1)
        scope: dict[str, Any] = {}
        exec(compile(source, f"<program {self.seed}>", "exec"), scope)
        return scope


class Writer:
    """The lines of one function, and what they evaluate to."""

    def __init__(self, seed: int, large: bool) -> None:
        self.rng = np.random.default_rng([seed, 20_261_123])
        self.large = large
        self.inputs: list[str] = []
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {}
        exec(PRELUDE, self.scope)
        self.floats: list[str] = []

    def chance(self, probability: float) -> bool:
        return bool(self.rng.uniform() < probability)

    def choose(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def seed(self) -> int:
        return int(self.rng.integers(10_000))

    def value(self, name: str) -> Any:
        return self.scope[name]

    def array(self, name: str) -> Any:
        return np.asarray(self.scope[name].numpy(), dtype=float)

    def pick(self) -> str:
        """A floating value, the latest more often than others."""
        return self.floats[-1] if self.chance(0.4) else self.choose(self.floats)

    def emit(self, expression: str, then: str | None = None) -> str:
        """Append an assignment, and a statement on it; return the name."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        if then:
            self.lines.append(then.format(name))
        for line in self.lines[-2 if then else -1 :]:
            exec(line, self.scope)
        value = self.scope[name]
        if isinstance(value, ad.Tensor) and value.dtype.kind == "f":
            self.floats.append(name)
        return name

    def inside(self, name: str, bottom: float, top: float) -> str:
        """An expression of `name` whose values lie in the interval, away from its ends."""
        values = self.array(name)
        margin = 0.1 * (top - bottom)
        if values.size and bottom + margin < values.min() and values.max() < top - margin:
            return name
        size = float(np.abs(values).max(initial=0.0))
        scaled = name if size < 3 else f"{name} / {np.ceil(size)}"
        return f"squash({scaled}, {bottom}, {top})"

    def tame(self) -> None:
        """Bring the last value back to moderate size."""
        name = self.floats[-1]
        values = self.array(name)
        assert np.isfinite(values).all(), f"{self.lines[-1]} is not finite"
        if values.size > (LARGE if self.large else SMALL):
            axis = int(np.argmax(values.shape))
            self.emit(f"ad.mean({name}, axis={axis})")
            values = self.array(self.floats[-1])
        if np.abs(values).max(initial=0.0) > 4:
            self.emit(self.inside(self.floats[-1], -2, 2))
            self.floats.remove(self.floats[-2])

    def gap(self, name: str) -> float:
        """A number that no value is close to, between some of them if possible."""
        values = np.unique(self.array(name))
        if self.large or values.size == 0:
            return round(float(np.median(values)), 3) if values.size else 0.0
        wide = [i for i in range(values.size - 1) if values[i + 1] - values[i] > 0.2]
        if not wide:
            return round(float(values[-1]) + 0.5, 3)
        i = self.choose(wide)
        return round(float(values[i] + values[i + 1]) / 2, 3)

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that meets `shape`: axes dropped from the left, others set to 1, some added."""
        out = [1 if self.chance(0.25) else n for n in shape]
        out = out[int(self.rng.integers(0, 2)) :] if self.chance(0.4) else out
        if self.chance(0.1) and not self.large:
            return (2, *((1,) * (len(shape) - len(out))), *out)
        return tuple(out)

    def partner(self, name: str, bottom: float, top: float) -> str:
        """A second operand for `name`, in an interval: a value or a new constant."""
        shape = self.value(name).shape
        fitting = [n for n in self.floats if _meets(self.value(n).shape, shape)]
        if fitting and self.chance(0.6):
            return self.inside(self.choose(fitting), bottom, top)
        if self.chance(0.2):
            return f"{self.rng.uniform(bottom, top):.3f}"
        return f"ad.asarray(draw({self.seed()}, {self.broadcastable(shape)}, {bottom}, {top}))"


def _meets(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return bool(np.prod(np.broadcast_shapes(a, b)) <= LARGE)
    except ValueError:
        return False


# ---- what a line can be --------------------------------------------------------------------------

Rule = Callable[[Writer], None]
ROWS = [r for r in ELEMENTWISE if r.smooth and "float64" in r.dtypes]
# Rows whose kinks lie inside their domains have rules of their own.
ROWS = [r for r in ROWS if r.name not in ("maximum", "minimum", "clip", "floor_divide")]


def elementwise(w: Writer) -> None:
    row = w.choose(ROWS)
    first = w.pick()
    operands = []
    for i, (bottom, top) in enumerate(row.domains):
        bottom, top = max(bottom, -3.0), min(top, 3.0)
        if row.whole == i:
            operands.append(str(w.choose([1.0, 2.0, 3.0])))
        elif row.arity == 1 or i == (row.whole is not None):
            operands.append(w.inside(first, bottom, top))
        else:
            operands.append(w.partner(first, bottom, top))
    w.emit(f"ad.{row.name}({', '.join(operands)})")


def operator(w: Writer) -> None:
    a = w.pick()
    form = w.choose(["{a} + {b}", "{a} - {b}", "{a} * {b}", "{b} * {a}", "-{a}", "{a} / {c}"])
    form = w.choose(
        [form, "2 - {a}", "{a} ** 2", "{a} ** 3", "3 / {d}", "{d} ** 0.5", "1.5 ** {a}"]
    )
    b, c = w.partner(a, -2, 2), w.partner(a, 0.5, 2)
    w.emit(form.format(a=a, b=f"({b})", c=f"({c})", d=f"({w.inside(a, 0.5, 2)})"))


def extreme(w: Writer) -> None:
    """Between values that are set apart, so that no tie is near."""
    a = w.pick()
    name = w.choose(["maximum", "minimum", "clip", "abs"])
    c = w.gap(a)
    if name == "clip":
        w.emit(
            f"ad.clip({a}, {c}, {c + 0.7 if w.large else max(c, w.array(a).max(initial=0)) + 1})"
        )
    elif name == "abs":
        w.emit(f"abs({a} - {c})")
    elif w.chance(0.5):
        w.emit(f"ad.{name}({a}, {c})")
    else:
        d = w.emit(f"{a} - {w.partner(a, -1, 1)}")
        w.emit(f"ad.{name}({d} * 0.5, {d} - {w.gap(d) / 2:.4f})")


def axes_of(w: Writer, ndim: int, single: bool = False) -> str:
    if ndim == 0 or (not single and w.chance(0.25)):
        return "None"
    if ndim > 1 and not single and w.chance(0.3):
        return str(tuple(int(i) for i in w.rng.permutation(ndim)[:2]))
    return str(int(w.rng.integers(-ndim, ndim)))


def reduction(w: Writer) -> None:
    a = w.pick()
    x = w.value(a)
    name = w.choose(["sum", "mean", "prod", "var", "std", "max", "min"])
    axis, keepdims = axes_of(w, x.ndim), w.chance(0.5)
    if x.size == 0:
        name = w.choose(["sum", "prod"])
    elif w.large and name == "prod":
        name = "mean"
    operand = a
    if name == "prod":
        operand = w.inside(a, 0.7, 1.3)
    elif name in ("max", "min", "std", "var"):
        operand = f"{w.inside(a, 0.0, 0.3)} + apart({w.seed()}, {x.shape})"
    if name == "std" and _count(x.shape, axis) < 2:
        name = "sum"
    w.emit(f"ad.{name}({operand}, axis={axis}, keepdims={keepdims})")


def _count(shape: tuple[int, ...], axis: str) -> int:
    chosen = eval(axis)
    every = range(len(shape)) if chosen is None else np.atleast_1d(chosen)
    return int(np.prod([shape[i] for i in every]))


def normalise(w: Writer) -> None:
    """Chains that run as one group."""
    a = w.pick()
    if 0 in (w.value(a).shape or (0,)):
        return operator(w)
    axis = axes_of(w, w.value(a).ndim, single=True)
    w.emit(f"{w.choose(['softmax', 'standardise'])}({a}, {axis})")


def shaping(w: Writer) -> None:
    a = w.pick()
    shape = w.value(a).shape
    n, size = len(shape), int(np.prod(shape))
    order = tuple(int(i) for i in w.rng.permutation(n))
    options = [f"ad.reshape({a}, (-1,))", f"ad.expand_dims({a}, axis={w.choose([0, -1])})"]
    if size and size % 2 == 0:
        options.append(f"ad.reshape({a}, (2, {size // 2}))")
    if n:
        options += [f"ad.permute_dims({a}, {order})", f"ad.flip({a}, axis={order[0]})"]
        options += [f"ad.moveaxis({a}, {order[0]}, {order[-1]})", f"ad.flip({a})"]
    if n >= 2:
        options += [f"{a}.mT", f"ad.matrix_transpose({a})"]
    if size <= 12:
        options += [f"ad.broadcast_to({a}, (3, {', '.join(map(str, shape))}))"]
    if 1 in shape:
        options += [f"ad.squeeze({a}, {shape.index(1)})"] * 2
    w.emit(w.choose(options))


def joining(w: Writer) -> None:
    a = w.pick()
    shape = w.value(a).shape
    same = [n for n in w.floats if w.value(n).shape == shape]
    parts = [w.choose(same) for _ in range(int(w.rng.integers(1, 4)))]
    name = w.choose(["stack", "concat"]) if shape else "stack"
    axis = int(w.rng.integers(0, len(shape) + (name == "stack")))
    w.emit(f"ad.{name}([{', '.join([a, *parts])}], axis={axis})")


def index_of(w: Writer, shape: tuple[int, ...]) -> str:
    parts = []
    for n in shape[: int(w.rng.integers(1, len(shape) + 1))]:
        options = ["1:", ":-1", "::2", "::-1", ":", str(int(w.rng.integers(-n, n)))]
        parts.append(w.choose(options) if n > 1 else w.choose([":", "0"]))
    if w.chance(0.2):
        parts.insert(int(w.rng.integers(0, len(parts) + 1)), "None")
    if w.chance(0.2):
        parts.append("...")
    return ", ".join(parts)


def indexing(w: Writer) -> None:
    a = w.pick()
    shape = w.value(a).shape
    if not shape or 0 in shape:
        return shaping(w)
    kind = w.choose(["basic", "fancy", "pairs", "mask", "take", "set"])
    count = int(w.rng.integers(1, 6))
    axis = int(w.rng.integers(0, len(shape)))
    before = ":, " * axis
    picks = f"whole({w.seed()}, ({count},), {shape[axis]})"
    if kind == "basic":
        w.emit(f"{a}[{index_of(w, shape)}]")
    elif kind == "fancy":
        w.emit(f"{a}[{before}{picks}]")
    elif kind == "pairs" and len(shape) > 1:
        other = f"whole({w.seed()}, ({count},), {shape[1]})"
        w.emit(f"{a}[whole({w.seed()}, (2, {count}), {shape[0]}), {other}]")
    elif kind == "mask":
        w.emit(f"{a}[holds({w.seed()}, {shape})]")
    elif kind == "set":
        key = index_of(w, shape)
        part = np.empty(shape)[eval(f"np.s_[{key}]")].shape
        new = f"ad.astype(draw({w.seed()}, {part}) * ad.mean({a}), {a}.dtype)"
        w.emit(f"ad.positive({a})", then=f"{{}}[{key}] = {new}")
    else:
        w.emit(f"ad.take({a}, ad.asarray({picks}), axis={axis})")


def product(w: Writer) -> None:
    a = w.pick()
    shape = w.value(a).shape
    if not shape or 0 in shape:
        return elementwise(w)
    columns = int(w.rng.integers(1, 4))
    others = [n for n in w.floats if w.value(n).ndim and w.value(n).shape[0] == shape[-1]]
    others = [n for n in others if w.value(n).ndim <= 2]
    other = f"ad.asarray(draw({w.seed()}, ({shape[-1]}, {columns})))"
    if others and w.chance(0.5):
        other = w.choose(others)
    elif len(shape) >= 2 and w.chance(0.3) and shape[-2] < 64:
        other = f"{a}.mT"
    w.emit(f"{a} @ {other}" if w.chance(0.5) else f"ad.matmul({a}, {other})")


def branch(w: Writer) -> None:
    """The branch that is not taken may be nan or infinite, and so may its derivative."""
    a = w.pick()
    c = w.gap(a)
    condition = w.choose([f"{a} > {c}", f"{a} >= {c}", f"ad.logical_not({a} < {c})"])
    safe = w.partner(a, -1, 1)
    form = w.choose(["ad.sqrt({0})", "ad.log({0})", "({0}) ** 1.5", "ad.rsqrt({0})", "ad.sin({0})"])
    if w.chance(0.3):
        w.emit(f"ad.where(mask({w.seed()}, {w.value(a).shape}), {a}, {safe})")
    elif w.large:
        w.emit(f"ad.where({condition}, {a} * {a}, {safe})")
    else:
        w.emit(f"ad.where({condition}, {form.format(f'{a} - {c}')}, {safe})")


def casting(w: Writer) -> None:
    a = w.pick()
    shape = w.value(a).shape
    ints = f"ad.asarray(whole({w.seed()}, {shape}, 4))"
    step = w.choose(["floor", "ceil", "trunc", "sign"])
    options = [
        f"ad.astype({a}, low)",
        f"ad.astype({a}, ad.float64)",
        f"ad.{step}({w.inside(a, 0.2, 0.8)} + whole({w.seed()}, {shape}, 4)) * {a}",
        f"ad.astype({w.inside(a, 0.2, 0.8)} * 1.0 + {ints}, ad.int64) * {a}",
        f"({ints} % 3 - 1) * {a}",
        f"ad.astype({a} > {w.gap(a)}, ad.float64) * {a}",
        f"({a} > {w.gap(a)}) * {a}",
        f"ad.remainder({w.inside(a, 0.2, 0.8)} + {ints}, 1.0)",
    ]
    w.emit(w.choose(options))


def ordering(w: Writer) -> None:
    a = w.pick()
    x = w.value(a)
    if x.ndim == 0 or x.size == 0:
        return elementwise(w)
    set_apart = f"{w.inside(a, 0.0, 0.3)} + apart({w.seed()}, {x.shape})"
    axis = int(w.rng.integers(-x.ndim, x.ndim))
    if w.chance(0.5):
        w.emit(f"ad.sort({set_apart}, axis={axis}, descending={w.chance(0.5)})")
    else:
        order = w.emit(f"ad.argsort(ad.reshape({set_apart}, (-1,)))")
        w.emit(f"ad.take(ad.reshape({a}, (-1,)), {order})")


def control(w: Writer) -> None:
    """Branches and loops, whose bodies close over values of the program."""
    a = w.pick()
    x = w.value(a)
    other = w.choose([n for n in w.floats if w.value(n).dtype == x.dtype])
    outer = f"ad.mean({other})" if w.value(other).size else "0.5"
    body = w.choose(
        ["ad.sin({0}) * {1}", "ad.tanh({0} + {1})", "{0} * 0.9 + {1}", "{0} * {0} * {1}"]
    )
    step = body.format("t", outer)
    kind = w.choose(["cond", "while", "scan", "checkpoint"])
    if kind == "cond":
        far = round(float(w.array(a).sum()) + w.choose([-0.5, 0.5]), 3)
        yes, no = f"lambda t: {step}", "lambda t: 0.5 * t"
        w.emit(f"ad.cond(ad.sum({a}) > {far}, {yes}, {no}, {a})")
    elif kind == "while":
        count = w.choose([0, 1, 3])
        more, once = f"lambda c: c[0] < {count}", f"lambda c: (c[0] + 1, (lambda t: {step})(c[1]))"
        w.emit(f"ad.while_loop({more}, {once}, (ad.asarray(0), {a}), max_steps=4)[1]")
    elif kind == "scan" and x.ndim and 0 < x.shape[0] < 8:
        backwards = w.chance(0.3)
        pair = f"lambda t, row: ({step} + 0.3 * row, t * row)"
        w.emit(f"ad.scan({pair}, {a}[0], {a}, reverse={backwards})[{w.choose([0, 1])}]")
    else:
        w.emit(f"ad.checkpoint(lambda t: {body.format('t', '0.7')})({a})")


RULES: list[tuple[int, Rule]] = [
    (6, elementwise),
    (3, operator),
    (1, extreme),
    (3, reduction),
    (1, normalise),
    (2, shaping),
    (1, joining),
    (2, indexing),
    (2, product),
    (1, branch),
    (1, casting),
    (1, ordering),
    (1, control),
]
CHANCES = np.array([chance for chance, _ in RULES]) / sum(chance for chance, _ in RULES)


# ---- a whole program -----------------------------------------------------------------------------


def _input_shape(w: Writer) -> tuple[int, ...]:
    if w.large:
        return tuple(w.choose([(90, 100), (9000,), (3, 50, 70), (100, 1), (1, 110), (120, 80)]))
    extents = [1, 2, 3, 3, 4] if w.chance(0.97) else [0, 2]
    return tuple(int(w.choose(extents)) for _ in range(int(w.rng.integers(0, 4))))


def _layers(w: Writer, inputs: int) -> tuple[str, ...]:
    """Calls of PRELUDE's transforms, the innermost first."""
    out: list[str] = []
    for _ in range(int(w.rng.integers(1, 4))):
        layer = w.choose([*DERIVATIVES, "fwd", "rev", "batch", "compile"])
        if layer == "batch":
            shared = int(w.rng.integers(0, inputs))
            layer = f"batch({{}}, axis={w.choose([0, -1])}, shared={shared})"
        else:
            layer = "ad.compile({})" if layer == "compile" else layer + "({})"
        out.append(layer)
    return tuple(out[:2] if w.large else out)


def write(seed: int) -> Program:
    """The program of this seed; one in eight works on arrays large enough to be deferred."""
    w = Writer(seed, large=seed % 8 == 7)
    count = int(w.rng.integers(1, 4))
    for i in range(count):
        dtype = ", dtype=low" if w.chance(0.1) else ""
        w.inputs.append(f"x{i} = ad.asarray(draw({w.seed()}, {_input_shape(w)}){dtype})")
        exec(w.inputs[-1], w.scope)
        w.floats.append(f"x{i}")
    try:
        with ad.deferral(False):
            for _ in range(int(w.choose([1, 3, 4, 5, 6, 8, 10, 16]))):
                rule = RULES[int(w.rng.choice(len(RULES), p=CHANCES))][1]
                rule(w)
                w.tame()
    except Exception as error:
        raise RuntimeError(f"while written:\n{_source(w, [w.floats[-1]], ())}") from error
    results = [w.floats[-1], *(w.choose(w.floats) for _ in range(w.choose([0, 0, 1, 2])))]
    layers = _layers(w, count)
    return Program(seed, _source(w, results, layers), layers, w.large)


def _source(w: Writer, results: list[str], layers: tuple[str, ...]) -> str:
    names = ", ".join(f"x{i}" for i in range(len(w.inputs)))
    body = "\n".join(f"    {line}" for line in _alive(w.lines, results))
    inputs = "\n".join(w.inputs)
    steps = "".join(f"h = {layer.format('h')}\n" for layer in layers)
    return (
        f"{PRELUDE}\n\ndef f({names}):\n{body}\n    return {', '.join(results)}\n\n\n"
        f"{inputs}\nxs = ({names},)\nh = f\n{steps}"
    )


def _alive(lines: list[str], results: list[str]) -> list[str]:
    """The lines that the results depend on."""
    wanted, kept = set(results), []
    for line in reversed(lines):
        target = re.match(r"t\d+", line)
        if target and target[0] in wanted:
            kept.append(line)
            wanted |= set(re.findall(r"\bt\d+\b", line))
    return kept[::-1]
