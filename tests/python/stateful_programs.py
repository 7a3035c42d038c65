"""Draws programs with state, as Python source that runs by itself.

A program makes handles (aliases, views, leaves, containers, a generator, a module, an optimizer),
functions that read and assign them, a nesting `F` of transforms around the last function, and calls
`F` a few times, changing what it closes over in between. After each call `look` keeps what can be
seen: the results and every handle. `plain_handles` says what the program must show: the same source
runs with it in adjoint's place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stateful_writer import Function, Name, Rules, Shape, Writer

HEADER = "import numpy as np\n\nimport adjoint as ad\n"

PRELUDE = '''
seen, watched = [], {}


def draw(seed, shape):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)


def look(label, results=None):
    """Keep what can be seen: the results, and every handle that is watched."""
    seen.append((label, "results", shown(results)))
    for name, x in watched.items():
        gradient = x.grad
        seen.append((label, name, x.numpy()))
        seen.append((label, name + ".grad", gradient if gradient is None else gradient.numpy()))
        seen.append((label, name + ".requires_grad", x.requires_grad))


def shown(node):
    if isinstance(node, (tuple, list)):
        return [shown(x) for x in node]
    if isinstance(node, dict):
        return {key: shown(x) for key, x in node.items()}
    return node.detach().numpy() if isinstance(node, ad.Tensor) else node


def call(label, f, *args):
    try:
        results = f(*args)
    except Exception as error:
        results = error
    look(label, results)
    return results


def weights(x):
    return np.cos(np.arange(1, int(np.prod(x.shape)) + 1)).reshape(x.shape)


def weigh(tree):
    return sum(ad.sum(x * weights(x)) for x in map(ad.asarray, ad.tree.leaves(tree)))


def rev(h):
    return lambda *xs: ad.grad(lambda *ys: weigh(h(*ys)), tuple(range(len(xs))))(*xs)


def aux(h):
    def both(*ys):
        out = h(*ys)
        return weigh(out), out

    return lambda *xs: ad.value_and_grad(both, 0, has_aux=True)(*xs)


def fwd(h):
    return lambda *xs: ad.jvp(h, xs, tuple(ad.asarray(np.sin(weights(x))) for x in xs))


def batch(h):
    return lambda *xs: ad.vmap(h)(*[ad.stack([x, 0.5 * x + 0.1]) for x in xs])


def partly(h):
    """Mapped over the first argument only."""

    def mapped(x, *others):
        stacked = ad.stack([x, 0.5 * x + 0.1])
        return ad.vmap(h, in_axes=(0, *[None for _ in others]))(stacked, *others)

    return mapped
'''


@dataclass(frozen=True)
class Program:
    """`source` needs `np` and `ad`; `layers` are the transforms of `F`, the innermost first."""

    seed: int
    source: str
    layers: tuple[str, ...]

    @property
    def wrapper(self) -> str:
        return " > ".join(reversed(self.layers)) or "plain"


BACKWARD = """
if isinstance(out, ad.Tensor):
    call("backward {}", lambda: out.backward())
""".strip()
SHAPES: list[Shape] = [(3,), (3,), (2, 3), (), (3, 3), (2,)]
TRANSFORMS = ("rev", "aux", "fwd", "batch", "partly")
LAYERS = (*TRANSFORMS, "ad.compile", "ad.compile", "ad.checkpoint")


class ProgramWriter(Writer):
    """The parts of a program, from its handles to its calls."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.scope: list[Name] = []
        self.numbers: list[str] = []
        self.boxes: list[tuple[str, Shape]] = []

    def array(self, shape: Shape) -> str:
        return f"draw({self.rng.integers(10_000)}, {shape})"

    def handle(self, shape: Shape, leaf: bool = False) -> Name:
        name = Name(f"h{len(self.scope)}", shape, outside=True, leaf=leaf)
        wanted = ", requires_grad=True" if leaf else ""
        self.put(f"{name.text} = ad.tensor({self.array(shape)}{wanted})")
        self.scope.append(name)
        return name

    def handles(self, leaves: int) -> None:
        """Handles, and what else holds or shares them."""
        for i in range(max(leaves, int(self.rng.integers(1, 4)))):
            self.handle(self.choose(SHAPES), i < leaves)
        if self.chance(0.3):
            old = self.choose(self.scope)
            self.put(f"h{len(self.scope)} = {old.text}")
            self.scope.append(Name(f"h{len(self.scope)}", old.shape, True, leaf=old.leaf))
        wide = [n for n in self.scope if n.shape and not n.leaf]
        if wide and self.chance(0.3):
            old = self.choose(wide)
            part, extent = self.choose(self.parts(old.shape[0]))
            self.put(f"h{len(self.scope)} = {old.text}[{part}]")
            self.scope.append(Name(f"h{len(self.scope)}", (extent, *old.shape[1:]), True))
        self.watched = [n.text for n in self.scope]
        free = [n for n in self.scope if not n.leaf]
        if free and self.chance(0.3):
            held = [self.choose(free) for _ in range(2)]
            if self.chance(0.5):
                self.put(f"box = [{held[0].text}, {held[1].text}]")
                entries = ["box[0]", "box[1]"]
            else:
                self.put(f'box = {{"a": {held[0].text}, "b": {held[1].text}}}')
                entries = ['box["a"]', 'box["b"]']
            self.boxes = [(text, n.shape) for text, n in zip(entries, held, strict=True)]
            self.scope += [Name(text, shape, True) for text, shape in self.boxes]
        if self.chance(0.3):
            self.put(f"k = {self.number()}")
            self.numbers.append("k")
            self.scope.append(Name("k", (), True, frozen=True, number=True))
        if self.chance(0.35):
            self.put(f"gen = ad.random.Generator({self.rng.integers(100)})")
            self.drawers.append("gen")
            self.watched.append("gen.state")

    def net(self, leaf: bool) -> None:
        """A module with a weight, a number and a buffer that it updates while it trains."""
        shape = self.choose([(3,), (), (2, 3)])
        wanted = ", requires_grad=True" if leaf else ""
        with self.block("class Net(ad.nn.Module):"):
            with self.block("def __init__(self):"):
                self.put(f"self.weight = ad.tensor({self.array(shape)}{wanted})")
                self.put(f"self.running = ad.tensor({self.array(shape)})")
                self.put(f"self.scale = {self.number()}")
            with self.block("def forward(self, x):"):
                with self.block("if self.training:"):
                    update = self.choose(
                        [
                            ["self.running.rebind_(0.9 * self.running + 0.1 * x)"],
                            ["self.running *= 0.9", "self.running += 0.1 * ad.mean(x)"],
                            ["self.running[...] = ad.tanh(x) + 0.5 * self.running"],
                        ]
                    )
                    constant = self.chance(0.6) or (leaf and not self.history)
                    with self.as_constant(constant):
                        for line in update:
                            self.put(line)
                self.put("return ad.sin(x * self.weight) * self.scale + self.running")
        self.put("m = Net()")
        self.modules.append(("m", shape))
        self.watched += ["m.weight", "m.running"]

    def closure(self) -> None:
        """A function that closes over a handle of the function around it."""
        shape, argument = self.choose(SHAPES), self.choose(SHAPES)
        c, f = f"h{len(self.scope)}", self.fresh("closed")
        with self.block("def make():"):
            self.put(f"c = ad.tensor({self.array(shape)})")
            rules = Rules(outside=0.6)
            names = [Name("c", shape, True), Name("x", argument, frozen=True)]
            with self.block(f"def {f}(x):"):
                at = len(self.lines)
                self.depth = 1
                inner = list(names)
                self.statements(inner, rules, int(self.rng.integers(1, 4)))
                self.depth = 0
                self.declare(at, {"c"} & set(rules.names), "nonlocal")
                self.put(f"return {self.tied(inner, argument, 'x')}")
            self.put(f"return {f}, c")
        self.put(f"{f}, {c} = make()")
        self.scope.append(Name(c, shape, True))
        self.watched.append(c)
        self.functions.append(Function(f, (argument,), argument, False, True))

    def function(
        self,
        name: str,
        takes: list[Shape],
        rules: Rules,
        frozen: bool,
        count: int,
        moved: Iterable[str] = (),
    ) -> list[Name]:
        """The head and the body of a function, which goes on to rebind `moved`; its scope."""
        args = [self.fresh("x") for _ in takes]
        self.put(f"def {name}({', '.join(args)}):")
        self.indent += 1
        at = len(self.lines)
        # An argument without axes may be a Python number where `calls` hands in such.
        numbers = [self.numbered and shape == () for shape in takes]
        own = [
            Name(x, shape, frozen=frozen, number=number)
            for x, shape, number in zip(args, takes, numbers, strict=True)
        ]
        inner = [*self.scope, *own, *own]
        self.statements(inner, rules, count)
        self.declare(at, {n for n in [*rules.names, *moved] if self.is_global(n)}, "global")
        return inner

    def a_helper(self, batched: bool, record: bool) -> None:
        name = self.fresh("helper")
        takes = [self.choose(SHAPES) for _ in range(int(self.rng.integers(1, 3)))]
        wrapper = self.choose(["", "ad.compile", "ad.compile", "ad.checkpoint"])
        touches = not batched and self.chance(0.5)
        mutates = wrapper != "ad.checkpoint" and self.chance(0.5)
        outside = 0.5 if touches else 0.0
        rules = Rules(outside=outside, draw=touches, batched=batched, record=record)
        self.touched = touches
        scope = self.function(name, takes, rules, not mutates, int(self.rng.integers(1, 4)))
        touches = self.touched
        x = next(n.text for n in scope if n.text.startswith("x"))
        self.put(f"return {self.tied(scope, takes[0], x)}")
        self.indent -= 1
        if wrapper:
            self.put(f"{name} = {wrapper}({name})")
        alone = wrapper == "ad.checkpoint"
        self.functions.append(Function(name, tuple(takes), takes[0], mutates, touches, alone))

    def results(self, scope: list[Name], bare: bool) -> str:
        """A tree of results; some are handles that exist already."""
        out = []
        for _ in range(int(self.choose([1, 1, 2, 3]))):
            name = self.choose([n for n in scope if not n.number])
            out.append(name.text if bare and self.chance(0.4) else self.given(scope, name.shape))
        if len(out) == 1:
            return out[0]
        if self.chance(0.3):
            return "{" + ", ".join(f'"r{i}": {text}' for i, text in enumerate(out)) + "}"
        return f"({', '.join(out)})"

    def watch(self) -> None:
        pairs = ", ".join(f'"{text}": {text}' for text in self.watched)
        self.put(f"watched = {{{pairs}}}")

    def change(self) -> None:
        """Something that happens between two calls."""
        kinds = ["assign", "assign", "assign"]
        kinds += ["number"] * bool(self.numbers) + ["box"] * bool(self.boxes)
        kinds += ["mode", "scale"] * bool(self.modules) + ["draw"] * bool(self.drawers)
        kind = self.choose(kinds)
        if kind == "number":
            self.put(f"k = {self.number()}")
        elif kind == "box":
            text, shape = self.choose(self.boxes)
            same = [n for n in self.scope if n.shape == shape and self.is_global(n.text)]
            same = [n for n in same if not n.leaf]
            if same:
                self.put(f"{text} = {self.choose(same).text}")
        elif kind == "mode":
            self.put(f"m.{self.choose(['eval', 'train'])}()")
        elif kind == "scale":
            self.put(f"m.scale = {self.number()}")
        elif kind == "draw":
            self.put("gen.uniform((2,))")
        else:
            target = self.choose([n for n in self.scope if not n.frozen])
            with self.as_constant(target.leaf or self.leaves > 0):
                self.write(target, self.scope, Rules())

    leaves = 0
    numbered = False
    alone = False  # arguments are new tensors: what checkpoint does to handles is not determined

    def argument(self, shape: Shape, extent: int, numbers: bool) -> str:
        """A handle, a temporary, a new tensor, or a number."""
        dims = tuple(extent if n == "n" else n for n in shape)
        same = [n for n in self.scope if n.shape == dims and not n.number and not n.leaf]
        if same and self.chance(0.7):
            return str(self.choose(same).text) + " + 0.0" * self.alone
        if not dims and numbers and self.chance(0.5):
            return self.number()
        if self.chance(0.2):
            return f"ad.tensor({self.array((2, *dims))})[1]"
        return f"ad.tensor({self.array(dims)})"

    def calls(self, takes: list[Shape], numbers: bool, then: str = "") -> None:
        for i in range(int(self.rng.integers(2, 5))):
            if i or self.chance(0.2):
                for _ in range(int(self.rng.integers(0, 3))):
                    self.change()
            extent = int(self.choose([2, 3, 3, 4]))
            args = [self.argument(shape, extent, numbers) for shape in takes]
            if len(args) == 2 and takes[0] == takes[1] and self.chance(0.2):
                args[1] = args[0]
            self.put(f'out = call("call {i}", F, {", ".join(args)})')
            if then:
                self.put(then.format(i))


def _transformed(w: ProgramWriter) -> tuple[str, ...]:
    """A function with state inside of transforms."""
    kind = w.rng.uniform()
    count = 0 if kind < 0.08 else 1 if kind < 0.45 else 2 if kind < 0.9 else 3
    layers = tuple(w.choose(LAYERS) for _ in range(count))
    if count == 1 and w.chance(0.4):
        layers = ("ad.compile",)
    batched = "batch" in layers or "partly" in layers
    w.bold = w.chance(0.06)
    w.handles(0)
    if w.chance(0.25):
        w.net(False)
    if w.chance(0.2) and not batched:
        w.closure()
    for _ in range(int(w.choose([0, 0, 1, 1, 2]))):
        w.a_helper(batched, False)
    w.watch()
    shapes: list[Shape] = [*SHAPES, ("n",), (2, "n")]
    takes = [w.choose(shapes) for _ in range(int(w.rng.integers(1, 4)))]
    w.alone = "ad.checkpoint" in layers
    own = {"rev", "aux", "ad.checkpoint"}.isdisjoint(layers)
    numbers = not own and {"fwd", "batch", "partly"}.isdisjoint(layers)
    w.numbered = numbers
    free = batched and not w.bold
    rules = Rules(outside=w.choose([0.0, 0.3, 0.5]), draw=not free, batched=free)
    scope = w.function("f", takes, rules, not own, int(w.rng.integers(1, 7)))
    w.put(f"return {w.results(scope, True)}")
    w.indent -= 1
    w.put("F = f")
    for layer in layers:
        w.put(f"F = {layer}(F)")
    w.calls(takes, numbers)
    return tuple(layer.removeprefix("ad.") for layer in layers)


def _training(w: ProgramWriter) -> tuple[str, ...]:
    """A step that runs backward and moves the leaves, or a loss whose backward runs outside."""
    w.leaves = int(w.rng.integers(1, 3))
    w.history = w.chance(0.2)
    w.handles(w.leaves)
    if w.chance(0.35):
        w.net(True)
    params = [n.text for n in w.scope if n.leaf][: w.leaves]
    params += ["m.weight"] if w.modules else []
    optimizer = w.chance(0.5)
    if optimizer:
        kinds = ["SGD([{}], learning_rate=0.1)", "Adam([{}], learning_rate=0.1)"]
        kind = w.choose([*kinds, "SGD([{}], learning_rate=0.05, momentum=0.9)"])
        w.put(f"opt = ad.optim.{kind.format(', '.join(params))}")
        # A leaf that only the other branch reads has a gradient of zeros in a compiled function,
        # as is documented, and none outside: these move by their own state.
        w.branches = kind.startswith("SGD") and "momentum" not in kind
    for _ in range(int(w.choose([0, 0, 1, 2]))):
        w.a_helper(False, True)
    w.watch()
    inside = w.chance(0.65)
    layers = w.choose(["", "ad.compile", "ad.compile", "ad.compile"])
    if not inside:
        layers = w.choose([layers, layers, "ad.checkpoint", "ad.compile ad.checkpoint"])
    w.alone = "checkpoint" in layers
    takes = [w.choose([*SHAPES, ("n",)]) for _ in range(int(w.rng.integers(1, 3)))]
    rules = Rules(outside=w.choose([0.0, 0.3]), draw=True, record=True)
    scope = w.function("f", takes, rules, True, int(w.rng.integers(0, 4)), params)
    _loss(w, scope, params)
    if inside:
        _descend(w, params, optimizer)
    w.put("return loss")
    w.indent -= 1
    w.put("F = f")
    for layer in layers.split():
        w.put(f"F = {layer}(F)")
    w.calls(takes, False, "" if inside else BACKWARD)
    named = [layer.removeprefix("ad.") for layer in layers.split()]
    return (("step" if inside else "loss") + " with history" * w.history, *named)


def _loss(w: ProgramWriter, scope: list[Name], params: list[str]) -> None:
    kept = [p for p in params if w.chance(0.8)] or params
    terms = [f"ad.sum(ad.sin({p}))" for p in kept]
    shape = w.choose(scope).shape
    terms.append(f"ad.sum({w.expression(scope, shape)})")
    if w.modules:
        terms.append(f"ad.mean(m(ad.asarray({w.expression(scope, w.modules[0][1], 1)})))")
    w.put(f"loss = {' + '.join(terms)}")


def _descend(w: ProgramWriter, params: list[str], optimizer: bool) -> None:
    cleared = w.choose(["", "before", "after"])
    clear = ["opt.zero_grad()"] if optimizer else [f"{p}.zero_grad()" for p in params]
    if cleared == "before":
        for line in clear:
            w.put(line)
    w.put("loss.backward()")
    if w.chance(0.2):
        w.put("(loss * loss).backward()")
    if optimizer:
        w.put("opt.step()")
    else:
        with w.block("with ad.no_grad():"):
            for p in params:
                with w.block(f"if {p}.grad is not None:"):
                    step = f"0.1 * {p}.grad"
                    forms = [f"{p} -= {step}", f"{p}.rebind_({p} - {step})"]
                    w.put(w.choose([*forms, f"{p}[...] = {p} - {step}"]))
    if cleared == "after":
        for line in clear:
            w.put(line)


def write(seed: int) -> Program:
    w = ProgramWriter(seed)
    layers = _training(w) if w.chance(0.3) else _transformed(w)
    return Program(seed, PRELUDE.lstrip() + "\n\n" + "\n".join(w.lines) + "\n", layers)
