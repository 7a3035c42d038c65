"""Functions as they are now, for a run that comes later.

Variables of a closure, and globals, may be given other values before a checkpoint computes again:
`for layer in layers: h = ad.checkpoint(lambda x: layer(x + h))(x)`. The second run has to see what
the first has seen.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from adjoint._pickling import PickledByName

Function = types.FunctionType
Of = Callable[[Function], Function]


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> frozenset[str]:
    """Return the names that the code, and functions inside of it, take from outside."""
    found, codes = set[str](), [code]
    while codes:
        code = codes.pop()
        found.update(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(found)


def _is_of_library(f: Function) -> bool:
    return (f.__module__ or "").partition(".")[0] == "adjoint"


def _is_made(value: Any) -> bool:
    """Whether it is a function that a transform has made of another."""
    return hasattr(type(value), "_recipe") or isinstance(value, PickledByName)


def _with_functions(value: Any, of: Of) -> Any:
    """Return a value with `of` each function in it; what is no function is taken as it is."""
    if isinstance(value, types.MethodType):
        return types.MethodType(_with_functions(value.__func__, of), value.__self__)
    if type(value) is functools.partial:
        return functools.partial(
            _with_functions(value.func, of),
            *(_with_functions(v, of) for v in value.args),
            **{name: _with_functions(v, of) for name, v in value.keywords.items()},
        )
    if hasattr(type(value), "_recipe"):
        make, (function, *rest), options = value._recipe()
        other = _with_functions(function, of)
        return value if other is function else make(other, *rest, **options)
    if isinstance(value, PickledByName):  # with rules by hand
        held = {name: _with_functions(part, of) for name, part in vars(value).items()}
        if all(held[name] is part for name, part in vars(value).items()):
            return value
        other = copy.copy(value)
        vars(other).update(held)
        return other
    return of(value) if isinstance(value, Function) else value


_NOTHING = object()  # stands in an empty cell, and where a module has no such name
_LOOKS_UP = frozenset(("eval", "exec", "globals", "vars"))  # variables that code does not name


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _NOTHING


class _Seen:
    """What a function sees: its defaults, and the variables of its closure and its module."""

    def __init__(self, f: Function) -> None:
        self._f = f
        self.defaults, self.named = f.__defaults__, f.__kwdefaults__
        self.closure = [_content(cell) for cell in f.__closure__ or ()]
        names = () if _is_of_library(f) else _names(f.__code__)
        self.module = {name: f.__globals__.get(name, _NOTHING) for name in names}
        # Code that looks names up may ask for any.
        self.everything = dict(f.__globals__) if _LOOKS_UP & self.module.keys() else None

    def is_followed(self, value: Any) -> bool:
        """Whether a variable of the module holds a function whose own variables count."""
        return getattr(value, "__globals__", None) is self._f.__globals__ or _is_made(value)

    def functions(self) -> Iterator[Any]:
        """Yield the values in which there may be functions."""
        yield from self.defaults or ()
        yield from (self.named or {}).values()
        yield from self.closure
        yield from filter(self.is_followed, self.module.values())

    def unchanged(self) -> bool:
        """Whether the function would see the same by now."""
        if self.everything is not None:
            return False
        cells, module = self._f.__closure__ or (), self._f.__globals__
        return all(
            _content(cell) is before for cell, before in zip(cells, self.closure, strict=True)
        ) and all(module.get(name, _NOTHING) is before for name, before in self.module.items())


class Snapshot:
    """Functions, and what they and those they call by name see now.

    What is no function, method, `functools.partial` or made of a function is taken as it is.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = list(values)
        self._seen: dict[Function, _Seen] = {}
        waiting = list(self._values)

        def meet(f: Function) -> Function:
            if f not in self._seen:
                self._seen[f] = _Seen(f)
                waiting.extend(self._seen[f].functions())
            return f

        while waiting:
            _with_functions(waiting.pop(), meet)

    def values(self) -> list[Any]:
        """Return the functions themselves where they would see the same, else copies that do.

        What a copy assigns to its variables, no other run sees.
        """
        if all(seen.unchanged() for seen in self._seen.values()):
            return self._values
        copies = _Copies(self._seen)
        return [copies.of(value) for value in self._values]


class _Copies:
    """Copies of functions, which see what they have seen."""

    def __init__(self, seen: dict[Function, _Seen]) -> None:
        self._cells: dict[int, types.CellType] = {}  # functions may share one
        self._globals: dict[int, dict[str, Any]] = {}
        # Functions may refer to each other: all are there before one is filled.
        self._copies = {f: self._copy(f, then) for f, then in seen.items()}
        for f, then in seen.items():
            self._fill(f, then)

    def of(self, value: Any) -> Any:
        """Return what stands for a value that a variable held."""
        return _with_functions(value, lambda f: self._copies.get(f, f))

    def _copy(self, f: Function, then: _Seen) -> Function:
        module = f.__globals__
        if not _is_of_library(f):
            if then.everything is not None or id(module) not in self._globals:
                seen = self._globals.setdefault(id(module), {})
                seen.update(then.everything or module)
            module = self._globals[id(module)]
        cells = tuple(self._cells.setdefault(id(c), types.CellType()) for c in f.__closure__ or ())
        made = Function(f.__code__, module, f.__name__, None, cells)
        made.__qualname__, made.__module__ = f.__qualname__, f.__module__
        made.__dict__.update(f.__dict__)
        return made

    def _fill(self, f: Function, then: _Seen) -> None:
        made = self._copies[f]
        made.__defaults__ = then.defaults and tuple(map(self.of, then.defaults))
        made.__kwdefaults__ = then.named and {n: self.of(v) for n, v in then.named.items()}
        for cell, before in zip(made.__closure__ or (), then.closure, strict=True):
            if before is not _NOTHING:
                cell.cell_contents = self.of(before)
        for name, before in then.module.items():
            if before is _NOTHING:
                made.__globals__.pop(name, None)
            else:
                made.__globals__[name] = self.of(before) if then.is_followed(before) else before
