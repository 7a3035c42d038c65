"""Writes the statements of programs with state: what reads, defines and assigns handles.

Shapes are known while a program is written ("n" stands for the extent of an argument that differs
between calls), values are not: all operations are smooth and bounded enough everywhere. What one
may do where is asked of `Rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Name:
    """What an expression can read. An `outside` one belongs to no function of the moment."""

    text: str
    shape: Shape
    outside: bool = False
    frozen: bool = False  # never assigned to
    leaf: bool = False
    number: bool = False  # a Python number

    @property
    def root(self) -> str:
        return re.split(r"\W", self.text)[0]


@dataclass(frozen=True)
class Function:
    """A helper that can be called: the shapes of its arguments and of its result."""

    text: str
    takes: tuple[Shape, ...]
    gives: Shape
    mutates: bool  # assigns to its arguments
    touches: bool  # assigns to handles from outside, or draws
    alone: bool = False  # its arguments are new tensors


@dataclass
class Rules:
    """What the statements of a function may do."""

    outside: float = 0.0  # how likely an assignment goes to a handle from outside
    draw: bool = False
    batched: bool = False  # values from outside are only given what comes from outside
    record: bool = False
    names: list[str] = field(default_factory=list)  # rebound by operators: declared global


class Writer:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 20_270_114])
        self.count = 0
        self.lines: list[str] = []
        self.indent = 0
        self.functions: list[Function] = []
        self.drawers: list[str] = []
        self.modules: list[tuple[str, Shape]] = []
        self.containers: list[tuple[str, Shape]] = []
        self.depth = 0
        self.branches = True  # whether `cond` is written

    # -- choices and text --
    def chance(self, probability: float) -> bool:
        return bool(self.rng.uniform() < probability)

    def choose(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self) -> str:
        return f"{self.rng.uniform(0.2, 1.2):.2f}"

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def put(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.put(head)
        self.indent += 1
        yield
        self.indent -= 1

    # -- expressions --
    def atoms(self, scope: list[Name], shape: Shape) -> list[str]:
        """Readings of names that have the shape."""
        out = []
        for name in scope:
            x, own = name.text, name.shape
            if own == shape:
                out += [x] * 4
            if not own:
                continue
            for axis in range(len(own)):
                if own[:axis] + own[axis + 1 :] == shape:
                    how = self.choose(["sum", "mean"])
                    out.append(f"ad.{how}({x}, axis={axis})")
            if own[1:] == shape:
                out += [f"{x}[{self.index(own[0])}]"] * 2
            if len(own) == 2 and own[0:1] == shape:
                out.append(f"{x}[:, {self.index(own[1])}]")
            if own[::-1] == shape and len(own) == 2:
                out.append(f"{x}.T")
            if len(own) == len(shape) and own[1:] == shape[1:]:
                out += [f"{x}[{part}]" for part, extent in self.parts(own[0]) if extent == shape[0]]
            if shape == ():
                out.append(f"ad.{self.choose(['sum', 'mean'])}({x})")
                if len(own) == 2:
                    out.append(f"{x}[{self.index(own[0])}, {self.index(own[1])}]")
        return out

    def index(self, extent: Any) -> int:
        if extent == 1 or extent in ("n-1", 0):
            return int(self.choose([0, -1]))
        top = 2 if extent == "n" else int(extent)
        return int(self.rng.integers(-top, top))

    def parts(self, extent: Any) -> list[tuple[str, Any]]:
        """Indices of one axis that keep it, and the extents they leave."""
        if extent == "n":
            return [("1:", "n-1"), (":-1", "n-1"), ("::-1", "n"), ("[1, 0]", 2), (":", "n")]
        if extent == "n-1" or extent < 2:
            return [(":", extent)]
        picks = [int(i) for i in self.rng.permutation(extent)[:2]]
        out = [("1:", extent - 1), (":-1", extent - 1), ("::-1", extent), (":", extent)]
        out += [(str(picks), 2), ("::2", (extent + 1) // 2)]
        return [*out, (f"np.array({picks})", 2)]

    def atom(self, scope: list[Name], shape: Shape) -> str:
        options = self.atoms(scope, shape)
        if options:
            return str(self.choose(options))
        if shape == ():
            return self.number()
        assert "n" not in shape and "n-1" not in shape, shape
        return f"ad.zeros({shape})"

    def expression(self, scope: list[Name], shape: Shape, depth: int = 2) -> str:
        """An expression of exactly the shape."""
        a = self.atom(scope, shape)
        if depth == 0 or self.chance(0.1):
            return a
        if self.chance(0.5):
            a = self.expression(scope, shape, depth - 1)
        kind = int(self.rng.integers(0, 18))
        if kind < 6:
            b = self.partner(scope, shape, depth - 1)
            return f"({a} {'+-*+-*'[kind]} {b})"
        c = self.number()
        if kind < 13:
            forms = ["ad.sin({a})", "ad.tanh({a})", "ad.cos({a})", "{c} * {a}", "ad.sigmoid({a})"]
            forms += ["ad.exp(-ad.square({a}))", "ad.log(1.5 + ad.square({a}))"]
            return str(forms[kind - 6]).format(a=a, c=c)
        b = self.partner(scope, shape, 0)
        if kind == 13:
            return f"{a} / (1.5 + ad.square({b}))"
        if kind == 14:
            return f"ad.where({a} > 0.{self.rng.integers(100, 999)}, {a}, {c} * {a} + {b})"
        if kind == 15:
            return f"ad.tanh({a}) ** {self.choose([2, 3])}"
        if kind == 16:
            return f"ad.stop_gradient({a})" if self.chance(0.3) else f"({c} - {a})"
        if len(shape) == 1:
            pairs = [
                f"{m.text} @ {v.text}"
                for m in scope
                for v in scope
                if len(m.shape) == 2 and m.shape[:1] == shape and v.shape == m.shape[1:]
            ]
            if pairs:
                return f"ad.tanh({self.choose(pairs)})"
        return f"ad.sqrt(1.0 + ad.square({a}))"

    def partner(self, scope: list[Name], shape: Shape, depth: int) -> str:
        """A second operand that broadcasts against the shape."""
        start = int(self.rng.integers(0, len(shape) + 1)) if self.chance(0.4) else 0
        if start and not self.atoms(scope, shape[start:]):
            start = 0
        return self.expression(scope, shape[start:], depth)

    # -- statements --
    def statements(self, scope: list[Name], rules: Rules, count: int) -> None:
        """Append statements; new names come into the scope."""
        before = len(self.lines)
        for _ in range(count):
            options = [(5, self.assign), (5, self.define), (1, self.alias)]
            if self.depth < 2:
                options += [(1, self.unrolled), (1, self.constant), (1, self.inner)]
                options += [(1, self.loop), (0.7, self.repeat)]
                options += [(0.7, self.branch)] * self.branches
            if self.functions:
                options.append((2.5, self.helper))
            if rules.draw and self.drawers:
                options.append((1.5, self.draw))
            if self.modules and (rules.outside or not rules.batched):
                options.append((2, self.module))
            chances = np.array([c for c, _ in options])
            rule = options[int(self.rng.choice(len(options), p=chances / chances.sum()))][1]
            rule(scope, rules)
        if len(self.lines) == before:
            self.put("pass")

    def targets(self, scope: list[Name], rules: Rules) -> list[Name]:
        own = [n for n in scope if not n.outside and not n.frozen]
        outside = [n for n in scope if n.outside and not n.frozen]
        return outside if outside and self.chance(rules.outside) else own

    def source_of(self, scope: list[Name], target: Name, rules: Rules) -> list[Name]:
        """The names that the new value of a target is made from."""
        if rules.batched and target.outside:
            return [n for n in scope if n.outside]
        return scope

    def define(self, scope: list[Name], rules: Rules) -> None:
        shape = self.choose(scope).shape
        if shape and self.chance(0.2):
            part, extent = self.choose(self.parts(shape[0]))
            base = self.choose([n for n in scope if n.shape == shape])
            name = self.fresh("v")
            self.put(f"{name} = {base.text}[{part}]")
            scope.append(Name(name, (extent, *shape[1:])))
            return
        text = self.expression(scope, shape)
        # A bare name would be an alias.
        name = self.fresh("t")
        self.put(f"{name} = {text} * {self.number()}" if self.bare(text) else f"{name} = {text}")
        number = not self.is_tensor(scope, text)
        scope.append(Name(name, shape, frozen=number, number=number))

    @staticmethod
    def is_tensor(scope: list[Name], text: str) -> bool:
        words = set(re.findall(r"[A-Za-z_]\w*", text))
        return "ad" in words or any(n.root in words for n in scope if not n.number)

    @staticmethod
    def bare(text: str) -> bool:
        return "(" not in text and " " not in text

    def alias(self, scope: list[Name], rules: Rules) -> None:
        options = [n for n in scope if n.text.isidentifier()]
        if options:
            old = self.choose(options)
            name = self.fresh("a")
            self.put(f"{name} = {old.text}")
            scope.append(replace(old, text=name))

    def assign(self, scope: list[Name], rules: Rules) -> None:
        targets = self.targets(scope, rules)
        if not targets:
            return self.define(scope, rules)
        target = self.choose(targets)
        constant = target.leaf or (rules.record and target.outside and not self.history)
        with self.as_constant(constant):
            self.write(target, self.source_of(scope, target, rules), rules)
        return None

    @contextmanager
    def as_constant(self, wanted: bool) -> Iterator[None]:
        if not wanted:
            yield
            return
        with self.block("with ad.no_grad():"):
            yield

    def write(self, target: Name, scope: list[Name], rules: Rules) -> None:
        x, shape = target.text, target.shape
        kind = self.choose(["operator", "operator", "item", "item", "item", "rebind", "mask"])
        if kind == "mask" and shape:
            test = f"{x} > 0.{self.rng.integers(100, 999)}"
            self.put(f"{x}[{test}] = {self.atom(scope, ())}")
        elif kind == "item" and shape:
            if self.chance(0.4):
                key, rest = str(self.index(shape[0])), shape[1:]
            else:
                part, extent = self.choose(self.parts(shape[0]))
                key, rest = part, (extent, *shape[1:])
            if self.chance(0.15):
                key, rest = "...", shape
            value = self.expression(scope, rest if self.fits(scope, rest) else (), 1)
            sign = self.choose(["=", "=", "+=", "*="])
            value = f"ad.tanh({value})" if sign == "*=" else value
            self.put(f"{x}[{key}] {sign} {value}")
        elif kind == "operator" and (target.text.isidentifier() or target.text.endswith("]")):
            rules.names.append(target.text)
            sign = self.choose(["+=", "-=", "*=", "/="])
            value = self.partner(scope, shape, 1)
            if sign == "*=":
                value = f"ad.cos({value})"
            elif sign == "/=":
                value = f"(1.2 + ad.square({value}))"
            self.put(f"{x} {sign} {value}")
        else:
            value = self.expression(scope, shape, 2)
            if not any(n.text in value for n in scope) or self.bare(value):
                value = f"{value} + 0.0 * {x}"
            self.put(f"{x}.rebind_({value})")

    def fits(self, scope: list[Name], shape: Shape) -> bool:
        return shape == () or bool(self.atoms(scope, shape))

    def unrolled(self, scope: list[Name], rules: Rules) -> None:
        i, inner = self.fresh("i"), list(scope)
        with self.block(f"for {i} in range(2):"):
            for n in scope:
                if n.shape and n.shape[0] in (2, 3, "n") and n.text.isidentifier():
                    inner.append(Name(f"{n.text}[{i}]", n.shape[1:], n.outside, frozen=True))
            targets = [n for n in self.targets(scope, rules) if n.shape and not n.leaf]
            targets = [n for n in targets if n.shape[0] in (2, 3, "n")]
            if rules.record and not self.history:
                targets = [n for n in targets if not n.outside]
            if targets and self.chance(0.7):
                target = self.choose(targets)
                sources = self.source_of(inner, target, rules)
                self.put(f"{target.text}[{i}] = {self.expression(sources, target.shape[1:], 1)}")
            self.depth += 1
            self.statements(inner, rules, int(self.rng.integers(1, 3)))
            self.depth -= 1

    def constant(self, scope: list[Name], rules: Rules) -> None:
        self.depth += 1
        with self.block("with ad.no_grad():"):
            self.statements(scope, rules, int(self.rng.integers(1, 3)))
        self.depth -= 1

    def within(self, scope: list[Name], rules: Rules, own: list[Name], count: int) -> list[Name]:
        """The body of a function inside of the function; return its scope."""
        inner = [*[replace(n, frozen=True) for n in scope], *own]
        loop = Rules(batched=rules.batched)
        if self.bold and self.chance(0.3):
            inner = [*[replace(n, outside=True) for n in scope], *own]
            loop = Rules(outside=0.5, batched=False, draw=rules.draw)
        self.depth += 1
        self.in_loop += 1
        at, functions = len(self.lines), self.functions
        if not loop.outside:
            self.functions = [f for f in functions if not f.touches]
        self.statements(inner, loop, count)
        self.functions = functions
        around = {n.text for n in scope} & set(loop.names)
        self.declare(at, {n for n in around if not self.is_global(n)}, "nonlocal")
        self.declare(at, {n for n in around if self.is_global(n)}, "global")
        self.in_loop -= 1
        self.depth -= 1
        return inner

    @staticmethod
    def is_global(name: str) -> bool:
        return re.fullmatch(r"h\d+", name) is not None

    def declare(self, at: int, names: set[str], how: str) -> None:
        """Say in front of line `at` that these names, rebound by operators, are from outside."""
        names = {name for name in names if name.isidentifier()}
        if names:
            self.lines.insert(at, "    " * self.indent + f"{how} {', '.join(sorted(names))}")

    def inner(self, scope: list[Name], rules: Rules) -> None:
        """A derivative inside of the function."""
        points = [n for n in scope if "[" not in n.text and not n.leaf]
        if not points:
            return
        point = self.choose(points)
        f, z = self.fresh("g"), self.fresh("z")
        kind = self.choose(["grad", "vmap"] if rules.record else ["grad", "jvp", "vmap"])
        if kind == "vmap" and (not point.shape or point.shape[0] in ("n-1", 0, 1)):
            kind = "grad"
        shape = point.shape[1:] if kind == "vmap" else point.shape
        with self.block(f"def {f}({z}):"):
            own = self.fresh("y")
            self.put(f"{own} = {z} * {self.number()}")
            names = [Name(own, shape), Name(z, shape, frozen=True)]
            batched = replace(rules, batched=rules.batched or kind == "vmap")
            seen = self.within(scope, batched, names, int(self.rng.integers(0, 3)))
            if kind == "grad":
                self.put(f"return ad.sum({self.tied(seen, shape, own)})")
            else:
                self.put(f"return {self.tied(seen, shape, own)}")
        name = self.fresh("t")
        if kind == "grad":
            self.put(f"{name} = ad.grad({f})({point.text})")
        elif kind == "vmap":
            self.put(f"{name} = ad.vmap({f})({point.text})")
        else:
            self.put(f"{name} = ad.jvp({f}, ({point.text},), (ad.cos({point.text}),))[1]")
        scope.append(Name(name, point.shape))

    def tied(self, scope: list[Name], shape: Shape, name: str) -> str:
        """An expression in which `name`, of this shape, takes part."""
        return f"{name} * {self.number()} + ad.sin({self.expression(scope, shape)})"

    def loop(self, scope: list[Name], rules: Rules) -> None:
        rows = [n for n in scope if n.shape and n.shape[0] in (2, 3, "n")]
        carries = [n for n in scope if "[" not in n.text]
        if not rows or not carries:
            return
        row, start = self.choose(rows), self.choose(carries)
        f, c, r, y = (self.fresh(s) for s in ("step", "c", "r", "y"))
        double = self.chance(0.3)
        with self.block(f"def {f}({'p' + c if double else c}, {r}):"):
            own = [Name(c, start.shape), Name(r, row.shape[1:], frozen=self.chance(0.5))]
            if double:
                self.put(f"{c}, {c}b = p{c}")
                own.append(Name(f"{c}b", start.shape))
            inner = self.within(scope, rules, own, int(self.rng.integers(1, 4)))
            shapes = [n.shape for n in inner if "n" not in n.shape and "n-1" not in n.shape]
            out = self.choose([start.shape, *shapes])
            last = self.expression([n for n in inner if not n.leaf], start.shape, 1)
            carry = c if self.chance(0.5) else f"ad.tanh({c} + {last})"
            emitted = c if out == start.shape and self.chance(0.5) else self.given(inner, out)
            carry = f"({carry}, {c}b)" if double else carry
            self.put(f"return {carry}, {emitted}")
        init = start.text if self.chance(0.6) else f"ad.tanh({start.text})"
        init = f"({init}, {start.text})" if double else init
        reverse = ", reverse=True" if self.chance(0.2) else ""
        name = f"t{c}, t{c}b" if double else f"t{c}"
        name = f"({name})" if double else name
        self.put(f"{name}, {y} = ad.scan({f}, {init}, {row.text}{reverse})")
        scope.append(Name(f"t{c}", start.shape))
        if double:
            scope.append(Name(f"t{c}b", start.shape))
        scope.append(Name(y, (row.shape[0], *out)))

    def given(self, scope: list[Name], shape: Shape) -> str:
        """An expression that is a tensor of its own."""
        text = self.expression(scope, shape, 1)
        return f"ad.asarray({text}) * {self.number()}"

    def repeat(self, scope: list[Name], rules: Rules) -> None:
        starts = [n for n in scope if "[" not in n.text]
        if not starts:
            return
        start = self.choose(starts)
        f, k, c = self.fresh("more"), self.fresh("k"), self.fresh("c")
        with self.block(f"def {f}({k}c):"):
            self.put(f"{k}, {c} = {k}c")
            own = [Name(c, start.shape)]
            inner = self.within(scope, rules, own, int(self.rng.integers(1, 3)))
            more = self.expression(inner, start.shape, 1)
            carry = c if self.chance(0.5) else f"ad.tanh({c} + {more})"
            self.put(f"return {k} + 1, {carry}")
        count = int(self.rng.integers(1, 4))
        test = f"lambda {k}c: {k}c[0] < {count}"
        self.put(
            f"_, t{c} = ad.while_loop({test}, {f}, (ad.asarray(0), {start.text}), max_steps=3)"
        )
        scope.append(Name(f"t{c}", start.shape))

    def branch(self, scope: list[Name], rules: Rules) -> None:
        operands = [n for n in scope if "[" not in n.text]
        if not operands:
            return
        operand = self.choose(operands)
        names = []
        for stem in ("yes", "no"):
            f, o = self.fresh(stem), self.fresh("o")
            names.append(f)
            with self.block(f"def {f}({o}):"):
                own = [Name(o, operand.shape, frozen=True)]
                bold, self.bold = self.bold, False
                inner = self.within(scope, rules, own, int(self.rng.integers(0, 3)))
                self.bold = bold
                self.put(f"return {self.tied(inner, operand.shape, o)}")
        name = self.fresh("t")
        test = f"{self.atom(scope, ())} > 0.{self.rng.integers(100, 999)}"
        self.put(f"{name} = ad.cond({test}, {names[0]}, {names[1]}, {operand.text})")
        scope.append(Name(name, operand.shape))

    bold = False  # now and then assigns where it must not
    history = False  # handles that are no leaves may be given values with history
    touched = False  # whether what was written assigns to handles from outside
    in_loop = 0

    def helper(self, scope: list[Name], rules: Rules) -> None:
        fitting = []
        for f in self.functions:
            if f.touches and (self.in_loop or rules.batched or not rules.outside) and not self.bold:
                continue
            fitting.append(f)
        if not fitting:
            return
        f = self.choose(fitting)
        self.touched |= f.touches
        args = []
        for shape in f.takes:
            options = [n for n in scope if n.shape == shape and not n.number]
            if f.mutates:
                options = [n for n in options if not n.frozen and not n.leaf]
                if rules.batched or not rules.outside:
                    options = [n for n in options if not n.outside]
            if options and not f.alone and self.chance(0.8):
                args.append(self.choose(options).text)
            else:
                args.append(f"ad.asarray({self.expression(scope, shape, 1)}) * 0.9")
        name = self.fresh("t")
        self.put(f"{name} = {f.text}({', '.join(args)})")
        scope.append(Name(name, f.gives))

    def draw(self, scope: list[Name], rules: Rules) -> None:
        if (self.in_loop or rules.batched) and not self.bold:
            return
        self.touched = True
        shape = self.choose([(), (2,), (3,), (2, 3)])
        name = self.fresh("t")
        how = self.choose(["uniform", "normal"])
        self.put(f"{name} = {self.choose(self.drawers)}.{how}({shape})")
        scope.append(Name(name, shape))

    def module(self, scope: list[Name], rules: Rules) -> None:
        if (self.in_loop or rules.batched) and not self.bold:
            return
        self.touched = True
        text, shape = self.choose(self.modules)
        name = self.fresh("t")
        self.put(f"{name} = {text}(ad.asarray({self.expression(scope, shape, 1)}))")
        scope.append(Name(name, shape))
