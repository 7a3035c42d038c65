"""Arguments that nobody should pass: wrong kinds, extremes, and objects that work against us.

`BAD` has a maker of each, by the name that reports show.
"""

from __future__ import annotations

import array
import collections
import contextlib
import ctypes
import datetime
import decimal
import fractions
import gc
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import adjoint as ad


class Planted(Exception):
    """What hostile objects raise: it must come out as it went in."""


# ---- Hostile objects -----------------------------------------------------------------------------


def planted(*_args: Any, **_kwargs: Any) -> Any:
    raise Planted("by a hostile object")


def hostile_class(base: type, **methods: Any) -> type:
    return type("Hostile", (base,), methods)


class EmptiesItsList:
    """An entry that empties the list it stands in, whichever way it is looked at."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = entries

    def act(self) -> None:
        self.entries.clear()
        self.entries.extend([0] * 50 for _ in range(20))
        self.entries.clear()
        gc.collect(0)

    def __index__(self) -> int:
        self.act()
        return 1

    __int__ = __index__

    def __float__(self) -> float:
        self.act()
        return 1.0

    def __bool__(self) -> bool:
        self.act()
        return True

    def __hash__(self) -> int:
        self.act()
        return 1

    def __eq__(self, other: object) -> bool:
        self.act()
        return self is other

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self.act()
        return np.ones(2)

    def __len__(self) -> int:
        self.act()
        return 2

    def __getitem__(self, i: Any) -> float:
        self.act()
        if i > 3:
            raise IndexError
        return 1.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.act()
        return ad.ones(2)


def self_emptying() -> list[Any]:
    entries: list[Any] = []
    entries.extend(EmptiesItsList(entries) for _ in range(3))
    return entries


class EmptiesItsDict:
    def __init__(self, entries: dict[Any, Any]) -> None:
        self.entries = entries

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        if self.entries.pop("armed", None):
            self.entries.clear()
            gc.collect(0)
        return self is other


def self_emptying_dict() -> dict[Any, Any]:
    entries: dict[Any, Any] = {}
    for _ in range(3):
        entries[EmptiesItsDict(entries)] = ad.ones(2)
    entries["armed"] = 1.0
    return entries


class Rebinds:
    """Rebinds a tensor, and makes garbage where its value was, when it is converted."""

    def __init__(self, target: ad.Tensor) -> None:
        self.target = target

    def act(self) -> None:
        with contextlib.suppress(Exception), ad.no_grad():
            self.target.rebind_(self.target * 0 + 5)
        for i in range(20):
            ad.tensor(float(i))
        gc.collect(0)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self.act()
        return np.ones(self.target.shape, self.target.dtype.name)

    def __index__(self) -> int:
        self.act()
        return 0

    def __float__(self) -> float:
        self.act()
        return 1.0


class LyingSequence(collections.abc.Sequence):
    """Its length is not the number of its entries."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: Any) -> Any:
        if i >= 2:
            raise IndexError(i)
        return 1.0


class GrowingIterable:
    def __iter__(self) -> Iterator[float]:
        yield 1.0
        planted()


def loop_list() -> list[Any]:
    r: list[Any] = [1.0]
    r.append(r)
    return r


def loop_dict() -> dict[str, Any]:
    d: dict[str, Any] = {"a": 1.0}
    d["self"] = d
    return d


def loop_tuple() -> tuple[Any, ...]:
    inner: list[Any] = []
    outer = (1.0, inner)
    inner.append(outer)
    return outer


def deep_list(depth: int) -> list[Any]:
    r: list[Any] = [1.0]
    for _ in range(depth):
        r = [r]
    return r


def raises_in(*names: str) -> Any:
    return hostile_class(object, **dict.fromkeys(names, planted))()


class WeirdAttributes:
    def __getattr__(self, name: str) -> Any:
        raise Planted(name)


def refusing_keys() -> Any:
    class Keys(dict):  # type: ignore[type-arg]
        __getitem__ = keys = items = __iter__ = planted

    return Keys(a=1.0)


# ---- Bad values ----------------------------------------------------------------------------------

HUGE = {2**31, 2**40, 2**63, -(2**63), 2**64, 10**30, -(10**30)}

# Makers of one value each. The label is what a report shows.
BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "object()": object,
    "type": lambda: int,
    "module": lambda: math,
    "0": lambda: 0,
    "-1": lambda: -1,
    "7": lambda: 7,
    "-7": lambda: -7,
    "1.5": lambda: 1.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "-0.0": lambda: -0.0,
    **{f"{n}": (lambda n=n: n) for n in sorted(HUGE)},
    "10**5000": lambda: 10**5000,
    "1e308": lambda: 1e308,
    "complex": lambda: 1 + 2j,
    "Fraction": lambda: fractions.Fraction(1, 3),
    "Decimal": lambda: decimal.Decimal("1.5"),
    "Decimal nan": lambda: decimal.Decimal("nan"),
    "str": lambda: "off",
    "str ''": lambda: "",
    "str digits": lambda: "12",
    "str surrogate": lambda: "\ud800",
    "str nul": lambda: "cpu\0",
    "bytes": lambda: b"ab",
    "bytearray": lambda: bytearray(b"ab"),
    "memoryview": lambda: memoryview(b"abcd"),
    "memoryview f": lambda: memoryview(array.array("d", [1.0, 2.0])),
    "memoryview 0": lambda: memoryview(array.array("d", [])),
    "array.array": lambda: array.array("d", [1.0, 2.0]),
    "array.array u": lambda: array.array("u", "ab"),
    "ctypes double": lambda: (ctypes.c_double * 3)(1, 2, 3),
    "ctypes 2d": lambda: ((ctypes.c_float * 2) * 3)(),
    "ctypes scalar": lambda: ctypes.c_double(1.0),
    "ctypes char": lambda: ctypes.create_string_buffer(b"abc"),
    "ctypes struct": lambda: type("S", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_int)]})(),
    "ctypes bool": lambda: (ctypes.c_bool * 2).from_buffer_copy(b"\x02\xff"),
    "empty list": list,
    "empty tuple": tuple,
    "empty dict": dict,
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset((1, 2)),
    "range": lambda: range(3),
    "generator": lambda: (i for i in (1.0, 2.0)),
    "iterator": lambda: iter([1.0, 2.0]),
    "map": lambda: map(float, "12"),
    "dict": lambda: {"a": 1.0, 2: None},
    "dict of mixed keys": lambda: {1: 1.0, "b": 2.0, None: 3.0},
    "dict items": lambda: {"a": 1.0}.items(),
    "OrderedDict": lambda: collections.OrderedDict(a=1.0),
    "deque": lambda: collections.deque([1.0]),
    "namespace": lambda: types.SimpleNamespace(shape=(2,), dtype="float64"),
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "ragged deeper": lambda: [1.0, [2.0]],
    "list of None": lambda: [None, None],
    "list of str": lambda: ["a", "b"],
    "mixed list": lambda: [1, 2.5, True],
    "list of tensors": lambda: [ad.ones(2), ad.ones(3)],
    "list of arrays": lambda: [np.ones(2), np.ones(2, "f4")],
    "tuple of bools": lambda: (True, False),
    "tuple of -1": lambda: (-1, -1),
    "tuple of 70": lambda: (1,) * 70,
    "deep list": lambda: deep_list(100),
    "very deep list": lambda: deep_list(20000),
    "list in itself": loop_list,
    "dict in itself": loop_dict,
    "tuple in itself": loop_tuple,
    "emptied list": self_emptying,
    "emptied list in a tuple": lambda: (1.0, self_emptying()),
    "emptied dict": self_emptying_dict,
    "lying sequence": LyingSequence,
    "half an iterable": GrowingIterable,
    "dict that refuses": refusing_keys,
    "datetime64": lambda: np.datetime64("2026-01-01"),
    "timedelta64": lambda: np.timedelta64(3, "D"),
    "datetime64 array": lambda: np.array(["2026-01-01"], "M8[D]"),
    "datetime": lambda: datetime.datetime(2026, 1, 1),
    "object array": lambda: np.array([1, None, "a"], dtype=object),
    "structured array": lambda: np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "str array": lambda: np.array(["a", "b"]),
    "complex array": lambda: np.ones(2, complex),
    "half array": lambda: np.ones(2, "f2"),
    "swapped array": lambda: np.ones(2, ">f8"),
    "odd bools": lambda: np.array([2, 0, 255], "u1").view(bool),
    "unaligned array": lambda: np.frombuffer(b"\0" * 25, "u1")[1:].view("f8"),
    "reversed array": lambda: np.arange(3.0)[::-1],
    "0-d array": lambda: np.array(1.5),
    "nan array": lambda: np.array([math.nan, 1.0]),
    "empty array": lambda: np.zeros((0, 3)),
    "masked array": lambda: np.ma.array([1.0, 2.0], mask=[0, 1]),
    "np.float16": lambda: np.float16(1),
    "np.longdouble": lambda: np.longdouble(1),
    "np.complex128": lambda: np.complex128(1),
    "np.str_": lambda: np.str_("a"),
    "np.bool": lambda: np.True_,
    "np.int64": lambda: np.int64(1),
    "np.uint64": lambda: np.uint64(2**63),
    "np.float64": lambda: np.float64(0.5),
    "np.dtype": lambda: np.dtype("f8"),
    "np.dtype U": lambda: np.dtype("U3"),
    "DType": lambda: ad.int8,
    "tensor": lambda: ad.tensor([1.0, 2.0]),
    "tensor 0-d": lambda: ad.tensor(2.0),
    "tensor int": lambda: ad.asarray([1, 2]),
    "tensor bool": lambda: ad.asarray([True, False, True]),
    "tensor leaf": lambda: ad.tensor([1.0, 2.0, 3.0], requires_grad=True),
    "tensor empty": lambda: ad.zeros((0, 2)),
    "tensor nan": lambda: ad.tensor([math.nan, math.inf, 0.0]),
    "tensor large": lambda: ad.ones((100, 200)) * 2.0,
    "tensor 6-d": lambda: ad.ones((1, 2, 1, 2, 1, 2)),
    "tensor wide ints": lambda: ad.asarray([2**62, -(2**63)]),
    "Variable": lambda: ad.Variable([1.0, 2.0]),
    "Tensor type": lambda: ad.Tensor,
    "raises __index__": lambda: raises_in("__index__"),
    "raises __float__": lambda: raises_in("__float__"),
    "raises __array__": lambda: raises_in("__array__"),
    "raises __len__": lambda: raises_in("__len__", "__getitem__"),
    "raises __iter__": lambda: raises_in("__iter__"),
    "raises __bool__": lambda: raises_in("__bool__"),
    "raises __eq__": lambda: raises_in("__eq__", "__hash__", "__ne__"),
    "raises __dlpack__": lambda: raises_in("__dlpack__", "__dlpack_device__"),
    "raises __call__": lambda: raises_in("__call__"),
    "raises __repr__": lambda: raises_in("__repr__", "__str__"),
    "raises __fspath__": lambda: raises_in("__fspath__"),
    "raises __getattr__": WeirdAttributes,
    "list that raises": lambda: hostile_class(
        list, __len__=planted, __iter__=planted, __getitem__=planted
    )([1.0]),
    "tuple that raises": lambda: hostile_class(tuple, __len__=planted, __iter__=planted)((1, 2)),
    "float subclass": lambda: hostile_class(float, __repr__=planted, __float__=planted)(1.5),
    "int subclass": lambda: hostile_class(int, __repr__=planted, __index__=planted)(10**20),
    "str subclass": lambda: hostile_class(str, __eq__=planted, __hash__=planted)("x"),
    "lies __array__": lambda: hostile_class(object, __array__=lambda s, *a, **k: "no array")(),
    "lies __array__ itself": lambda: hostile_class(object, __array__=lambda s, *a, **k: s)(),
    "lies __index__": lambda: hostile_class(object, __index__=lambda s: 1.5)(),
    "lies __float__": lambda: hostile_class(object, __float__=lambda s: "1")(),
    "lies __len__": lambda: hostile_class(object, __len__=lambda s: -1, __getitem__=planted)(),
    "lies __dlpack__": lambda: hostile_class(object, __dlpack__=lambda s, **k: 3)(),
    "lies __iter__": lambda: hostile_class(object, __iter__=lambda s: 3)(),
    "lambda": lambda: lambda *a, **k: ad.ones(2),
    "lambda None": lambda: lambda *a, **k: None,
    "lambda str": lambda: lambda *a, **k: "text",
    "lambda loop": lambda: lambda *a, **k: loop_list(),
    "lambda no arguments": lambda: lambda: 1.0,
    "lambda planted": lambda: planted,
    "lambda argument": lambda: lambda *a, **k: a[0] if a else 1.0,
    "lambda generator": lambda: lambda *a, **k: (x for x in a),
    "builtin": lambda: len,
    "class": lambda: collections.Counter,
}
