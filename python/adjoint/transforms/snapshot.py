"""Functions as they are now, for a run that comes later.

Variables of a closure, and globals, may be given other values before a checkpoint computes again:
`for layer in layers: h = ad.checkpoint(lambda x: layer(x + h))(x)`. The second run has to see what
the first has seen.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterable
from typing import Any

from adjoint._pickling import PickledByName


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


def _is_made(value: Any) -> bool:
    """Whether it is a function that a transform has made of another."""
    return hasattr(type(value), "_recipe") or isinstance(value, PickledByName)


_NOTHING = object()  # stands in an empty cell, and where a module has no such name
_LOOKS_UP = frozenset(("eval", "exec", "globals", "vars"))  # variables that code does not name


class _Variable:
    """A variable of a closure or a module, and what it held."""

    def __init__(self, name: str, where: types.CellType | dict[str, Any]) -> None:
        self.name, self._where = name, where
        self.before = self.now()

    def now(self) -> Any:
        if isinstance(self._where, dict):
            return self._where.get(self.name, _NOTHING)
        try:
            return self._where.cell_contents
        except ValueError:
            return _NOTHING


class Snapshot:
    """Functions with the variables that they, and those they call by name, see as they are now.

    What is no function, method or `functools.partial` is taken as it is.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._functions: dict[types.FunctionType, types.FunctionType] = {}
        self._cells: dict[int, types.CellType] = {}  # functions may share one
        self._globals: dict[int, dict[str, Any]] = {}
        self._variables: list[_Variable] = []
        self._waiting: list[types.FunctionType] = []
        self.values: list[Any] = [self._of(value) for value in values]
        while self._waiting:
            self._fill(self._waiting.pop())

    def unchanged(self) -> bool:
        """Whether the functions themselves would see the same."""
        if any(_names(f.__code__) & _LOOKS_UP for f in self._functions):
            return False
        return all(variable.now() is variable.before for variable in self._variables)

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
        if hasattr(type(value), "_recipe"):
            make, (function, *rest), options = value._recipe()
            other = self._of(function)
            return value if other is function else make(other, *rest, **options)
        if isinstance(value, PickledByName):  # with rules by hand
            held = {name: self._of(part) for name, part in vars(value).items()}
            if all(held[name] is part for name, part in vars(value).items()):
                return value
            other = copy.copy(value)
            vars(other).update(held)
            return other
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
        for name, outer, inner in zip(
            f.__code__.co_freevars, f.__closure__ or (), copy.__closure__ or (), strict=True
        ):
            held = _Variable(name, outer)
            self._variables.append(held)
            if held.before is not _NOTHING:
                inner.cell_contents = self._of(held.before)
        if _is_of_library(f):
            return
        module, seen = f.__globals__, self._globals[id(f.__globals__)]
        for name in _names(f.__code__):
            held = _Variable(name, module)
            self._variables.append(held)
            if getattr(held.before, "__globals__", None) is module or _is_made(held.before):
                seen[name] = self._of(held.before)


def snapshot(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` with its variables as they are now."""
    function: Callable[..., Any] = Snapshot([f]).values[0]
    return function
