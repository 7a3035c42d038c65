"""Functions as they are now, for a run that comes later.

Variables of a closure, and globals, may be given other values before a checkpoint computes again:
`for layer in layers: h = ad.checkpoint(lambda x: layer(x + h))(x)`. The second run has to see what
the first has seen.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from adjoint._pickling import Made


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> frozenset[str]:
    """Return the names that the code, and functions inside of it, take from outside."""
    found, codes = set[str](), [code]
    while codes:
        code = codes.pop()
        found.update(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(found)


def _is_of_library(f: types.FunctionType) -> bool:
    return (f.__module__ or "").partition(".")[0] == "adjoint"


class Snapshot:
    """Functions with the variables that they, and those they call by name, see as they are now.

    What is no function, method or `functools.partial` is taken as it is.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._functions: dict[types.FunctionType, types.FunctionType] = {}
        self._cells: dict[int, types.CellType] = {}  # functions may share one
        self._globals: dict[int, dict[str, Any]] = {}
        self._before: dict[int, Any] = {}  # by cell
        self._waiting: list[types.FunctionType] = []
        self.values: list[Any] = [self._of(value) for value in values]
        while self._waiting:
            self._fill(self._waiting.pop())

    def assigned(self) -> Iterator[tuple[str, Any]]:
        """Yield the variables that hold another object by now, and what they hold."""
        for f in self._functions:
            for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
                try:
                    now = cell.cell_contents
                except ValueError:  # an empty cell
                    continue
                if now is not self._before.get(id(cell), self):
                    yield name, now
            if id(f.__globals__) not in self._globals:
                continue
            before = self._globals[id(f.__globals__)]
            for name in _names(f.__code__):
                now = f.__globals__.get(name)
                if not isinstance(now, types.FunctionType) and now is not before.get(name):
                    yield name, now

    def _of(self, value: Any) -> Any:
        """Return what stands for a value that a variable holds."""
        if isinstance(value, types.MethodType):
            function = self._of(value.__func__)
            return types.MethodType(function, value.__self__)
        if type(value) is functools.partial:
            return functools.partial(
                self._of(value.func),
                *map(self._of, value.args),
                **{name: self._of(v) for name, v in value.keywords.items()},
            )
        if isinstance(value, Made):
            return value.mapped(self._of)
        if not isinstance(value, types.FunctionType):
            return value
        if value not in self._functions:
            self._functions[value] = self._copy(value)
            self._waiting.append(value)
        return self._functions[value]

    def _copy(self, f: types.FunctionType) -> types.FunctionType:
        seen = self._seen_by(f)
        cells = tuple(self._cells.setdefault(id(c), types.CellType()) for c in f.__closure__ or ())
        copy = types.FunctionType(f.__code__, seen, f.__name__, f.__defaults__, cells)
        copy.__qualname__, copy.__module__ = f.__qualname__, f.__module__
        copy.__dict__.update(f.__dict__)
        return copy

    def _seen_by(self, f: types.FunctionType) -> dict[str, Any]:
        if _is_of_library(f):
            return f.__globals__
        module = f.__globals__
        if id(module) not in self._globals:
            self._globals[id(module)] = dict(module)
        return self._globals[id(module)]

    def _fill(self, f: types.FunctionType) -> None:
        copy, named = self._functions[f], f.__kwdefaults__
        copy.__defaults__ = f.__defaults__ and tuple(map(self._of, f.__defaults__))
        copy.__kwdefaults__ = named and {name: self._of(value) for name, value in named.items()}
        for before, now in zip(f.__closure__ or (), copy.__closure__ or (), strict=True):
            try:
                self._before[id(before)] = before.cell_contents
                now.cell_contents = self._of(before.cell_contents)
            except ValueError:  # an empty cell
                continue
        if _is_of_library(f):
            return
        module, seen = f.__globals__, self._globals[id(f.__globals__)]
        for name in _names(f.__code__):
            value = module.get(name)
            if isinstance(value, types.FunctionType) and value.__globals__ is module:
                seen[name] = self._of(value)


def snapshot(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` with its variables as they are now."""
    function: Callable[..., Any] = Snapshot([f]).values[0]
    return function
