"""NumPy's functions on tensors: `np.sin(t)`, `np.sum(t, axis=0)`, `array @ t`, `np.linalg.inv(t)`.

NumPy hands calls with a tensor among their arguments over to `__array_function__`, those of its
ufuncs to `__array_ufunc__`, and both end here. Each becomes a call of the function of the same name
in `adjoint`, through which derivatives, batches and traces pass; a few names and the spelling of
arguments differ. What has no counterpart raises a TypeError: nothing is converted unasked.

The core imports this module at the first such call, when NumPy is there already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, Signature, signature
from math import prod
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

import adjoint as ad
from adjoint._core import DType, Tensor
from adjoint._words import NUMPY_NAMES

__all__ = ["array_function", "array_ufunc"]

_OTHER_PARAMETERS = {"ddof": "correction"}
# Of NumPy only, and without a say in the result: sorting here is stable, which every kind allows,
# and the order of contractions is chosen in any case.
_IDLE_PARAMETERS = {"sort": {"kind"}, "argsort": {"kind"}, "einsum": {"optimize"}}

_REDUCTIONS = {
    "add": "sum",
    "logaddexp": "logsumexp",
    "logical_and": "all",
    "logical_or": "any",
    "maximum": "max",
    "minimum": "min",
    "multiply": "prod",
}
_ACCUMULATIONS = {
    "add": "cumulative_sum",
    "logaddexp": "logcumsumexp",
    "maximum": "cummax",
    "minimum": "cummin",
    "multiply": "cumulative_prod",
}

# Their results are texts and files, so that a call is a request for the numbers, as np.asarray is.
_EXITS = {"array2string", "array_repr", "array_str", "save", "savetxt", "savez", "savez_compressed"}

# They count, so that no derivative is lost with an array; one that is being recorded is refused.
_COUNTS = {"histogram2d", "histogramdd"}

# What stands for "not given" in NumPy's signatures.
_ABSENT = (None, getattr(np, "_NoValue", None))


def _is_absent(value: Any) -> bool:
    return any(value is absent for absent in _ABSENT)


# ---- Functions that mean another thing when something is left out -------------------------------


def _cumulative(name: str) -> Callable[..., Any]:
    def flat_unless_told(a: Any, axis: Any = None, dtype: Any = None) -> Any:
        x = ad.asarray(a)
        flat = ad.reshape(x, (-1,)) if axis is None else x
        return getattr(ad, name)(flat, axis=0 if axis is None else axis, dtype=dtype)

    return flat_unless_told


def _at_least(name: str) -> Callable[..., Any]:
    """Return a function that NumPy describes as converting to arrays, and that solvers call for it.

    SciPy's take what a function returns through it, and hand it to C. Where nothing is lost that
    way, an array it is; a tensor whose derivative is asked for stays one.
    """

    def of_values(ary: Any) -> Any:
        try:
            return getattr(np, name)(np.asarray(ary))
        except (TypeError, RuntimeError):
            return getattr(ad, name)(ary)

    return of_values


def _broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    """Matplotlib calls it with None among the numbers, for what was left out."""
    if all(x is not None for x in args):
        return ad.broadcast_arrays(*args)
    shape = np.broadcast_shapes(*(np.shape(x) for x in args))
    return tuple(
        np.broadcast_to(np.asarray(x), shape) if x is None else ad.broadcast_to(x, shape)
        for x in args
    )


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    limits = [
        named if _is_absent(value) else value for value, named in ((a_min, min), (a_max, max))
    ]
    return ad.clip(a, *limits)


def _divmod(x1: Any, x2: Any, /) -> tuple[Any, Any]:
    return ad.floor_divide(x1, x2), ad.remainder(x1, x2)


def _floating(x: Any) -> Tensor:
    t = ad.asarray(x)
    return t if t.dtype.kind == "f" else ad.astype(t, ad.float64)


def _in_floats(name: str) -> Callable[..., Any]:
    return lambda x, /: getattr(ad, name)(_floating(x))


def _of_memory(name: str) -> Callable[..., Any]:
    """Return a function that asks for nothing but where the elements lie."""

    def of_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
        blocks = (x.numpy() if isinstance(x, Tensor) else x for x in (a, b))
        return bool(getattr(np, name)(*blocks, max_work=max_work))

    return of_memory


def _ordered(name: str) -> Callable[..., Any]:
    def flat_for_none(a: Any, axis: Any = -1, *, stable: Any = None) -> Any:
        x = ad.asarray(a)
        return getattr(ad, name)(ad.reshape(x, (-1,)) if axis is None else x, axis=axis or 0)

    return flat_for_none


def _size(a: Any, axis: Any = None) -> int:
    if axis is None:
        return int(a.size)
    return prod(a.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def _expand_dims(a: Any, axis: Any) -> Any:
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    dims = np.ndim(a) + len(axes)
    places = sorted(i + dims if i < 0 else i for i in axes)
    if len(set(places)) < len(places):
        raise ValueError(f"[numpy.expand_dims] axis {tuple(axes)} names an axis twice")
    for i in places:
        a = ad.expand_dims(a, i)
    return a


def _modf(x: Any, /) -> tuple[Any, Any]:
    x = _floating(x)
    whole = ad.trunc(x)
    return ad.copysign(ad.where(ad.isinf(x), 0, x - whole), x), whole


def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: None = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """Nan is one value for NumPy, and each nan its own in the array standard."""
    if axis is not None:
        raise TypeError("[numpy.unique] axis= is not supported for tensors")
    values, indices, inverse, counts = ad.unique_all(ad.asarray(ar))
    nans = int(ad.sum(ad.isnan(values))) if equal_nan and values.dtype.kind == "f" else 0
    if nans > 1:  # they come last
        kept = values.size - nans + 1
        counts = ad.concat([counts[: kept - 1], ad.sum(counts[kept - 1 :], keepdims=True)])
        values, indices, inverse = values[:kept], indices[:kept], ad.clip(inverse, None, kept - 1)
    asked = ((return_index, indices), (return_inverse, inverse), (return_counts, counts))
    more = tuple(result for wanted, result in asked if wanted)
    return (values, *more) if more else values


def _squeeze(a: Any, axis: Any = None) -> Any:
    units = tuple(i for i, extent in enumerate(np.shape(a)) if extent == 1)
    return ad.squeeze(a, units if axis is None else axis)


def _take(a: Any, indices: Any, axis: int | None = None) -> Any:
    return (
        ad.take(ad.reshape(a, (-1,)), indices, axis=0)
        if axis is None
        else ad.take(a, indices, axis=axis)
    )


def _transpose(a: Any, axes: Any = None) -> Any:
    return ad.permute_dims(a, tuple(reversed(range(np.ndim(a)))) if axes is None else axes)


def _where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None and y is None:
        return ad.nonzero(condition)
    return ad.where(condition, x, y)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "argsort": _ordered("argsort"),
    "array_equal": lambda a1, a2, equal_nan=False: bool(ad.array_equal(a1, a2, equal_nan)),
    "array_equiv": lambda a1, a2: bool(ad.array_equiv(a1, a2)),
    "atleast_1d": _at_least("atleast_1d"),
    "atleast_2d": _at_least("atleast_2d"),
    "atleast_3d": _at_least("atleast_3d"),
    "broadcast_arrays": _broadcast_arrays,
    "clip": _clip,
    "conjugate": lambda x, /: ad.positive(x),  # there are real numbers only
    "copy": lambda a: ad.asarray(a, copy=True),
    "cumprod": _cumulative("cumulative_prod"),
    "cumsum": _cumulative("cumulative_sum"),
    "divmod": _divmod,
    "expand_dims": _expand_dims,
    "fabs": _in_floats("abs"),
    "iscomplexobj": lambda x: False,
    "isrealobj": lambda x: True,
    "imag": lambda val: ad.zeros_like(val),
    "may_share_memory": _of_memory("may_share_memory"),
    "modf": _modf,
    "ndim": lambda a: a.ndim,
    "real": lambda val: ad.positive(val),
    "rint": _in_floats("round"),
    "round": lambda a, decimals=0: ad.around(a, decimals),
    "shape": lambda a: a.shape,
    "shares_memory": _of_memory("shares_memory"),
    "size": _size,
    "sort": _ordered("sort"),
    "squeeze": _squeeze,
    "take": _take,
    "transpose": _transpose,
    "unique": _unique,
    "where": _where,
}


# ---- Which function it is -----------------------------------------------------------------------


def _find(name: str, home: ModuleType) -> tuple[str, Callable[..., Any]] | None:
    """Return the function that NumPy calls `name`, from a namespace here, and its name."""
    for own in (name, NUMPY_NAMES.get(name, name)):
        found = getattr(home, own, None)
        if callable(found) and not isinstance(found, type):
            return f"{home.__name__}.{own}".replace("adjoint", "ad", 1), found
    return None


def _raise_unknown(title: str, name: str, home: ModuleType | None) -> NoReturn:
    near = get_close_matches(
        name, [n for n in (dir(home) if home else ()) if not n.startswith("_")], 3
    )
    shown = f" (the nearest names are {', '.join('ad.' + n for n in near)})" if near else ""
    raise TypeError(
        f"[{title}] there is no such function of tensors{shown}: write it with those of `ad`, or "
        "take the values by t.numpy(), which no derivative passes"
    )


def _namespace_of(module: str, title: str, name: str) -> ModuleType:
    """Return what stands for numpy, or for numpy.linalg, here."""
    home: Any = ad
    for part in module.split(".")[1:]:
        home = getattr(home, part, None)
        if not isinstance(home, ModuleType):
            _raise_unknown(title, name, None)
    return home  # type: ignore[no-any-return]


# ---- Array functions ----------------------------------------------------------------------------


class _Call:
    """A function of NumPy on tensors: the function here, and what its arguments are called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        name, module = function.__name__, function.__module__
        self.title = f"{module}.{name}"
        self.idle = _IDLE_PARAMETERS.get(name, set())
        if module == "numpy" and name in _SPECIAL:
            self.own, self.function = self.title, _SPECIAL[name]
        else:
            home = _namespace_of(module, self.title, name)
            self.own, self.function = _find(name, home) or _raise_unknown(self.title, name, home)
        self.theirs = _signature_of(function)
        ours = signature(self.function).parameters.values()
        known = self.theirs.parameters if self.theirs else {}
        self.named = {
            p.name: p for p in ours if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD
        }
        # Those that NumPy calls by other names, and gives in the same order.
        self.leading = [
            p
            for p in ours
            if p.kind is p.POSITIONAL_ONLY
            or (p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in known)
        ]
        self.takes_many = any(p.kind is p.VAR_POSITIONAL for p in ours)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.theirs is None:
            return self.function(*args, **kwargs)
        given = self.theirs.bind(*args, **kwargs).arguments
        out = given.pop("out", None)
        if out is not None:
            _check_outs(self.title, (out,))
        leading = iter(self.leading)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for p in self.theirs.parameters.values():
            if p.kind is p.VAR_POSITIONAL:
                positional += given.get(p.name, ())
            elif p.kind is p.VAR_KEYWORD:  # of np.pad, whose parameters depend on the mode
                for name, value in given.get(p.name, {}).items():
                    if name not in self.named:
                        self._refuse(name)
                    named[name] = value
            elif p.name != "out":
                self._add(p, given, leading, positional, named)
        result = self._apply(positional, named)
        return result if out is None else _write(self.title, out, result)

    def _add(
        self,
        p: Parameter,
        given: Mapping[str, Any],
        leading: Iterator[Parameter],
        positional: list[Any],
        named: dict[str, Any],
    ) -> None:
        """Hand on one argument of NumPy's, or its default where that is not ours."""
        if p.name in self.idle:
            return
        own = _OTHER_PARAMETERS.get(p.name, p.name)
        target = self.named.get(p.name) or self.named.get(own)
        if target is None:
            target = next(leading, None)
        value = given.get(p.name, p.default)
        stated = p.name in given and not (value is p.default and _is_absent(value))
        if target is None:
            if stated and not _same(value, p.default):
                self._refuse(p.name)
        elif target.kind is not target.POSITIONAL_ONLY:
            if stated or not (_is_absent(p.default) or _same(p.default, target.default)):
                named[target.name] = value
        elif stated or not _is_absent(p.default):
            if self.leading.index(target) != len(positional):  # one before it was left out
                self._refuse(p.name)
            positional.append(value)

    def _apply(self, positional: list[Any], named: dict[str, Any]) -> Any:
        one_by_one = len(self.leading) == 1 and not self.takes_many and len(positional) > 1
        if one_by_one:  # np.atleast_1d(t, u)
            return tuple(self.function(x, **named) for x in positional)
        return self.function(*positional, **named)

    def _refuse(self, name: str) -> NoReturn:
        raise TypeError(
            f"[{self.title}] {name}= is not supported for tensors: {self.own} has the parameters "
            f"{signature(self.function)}"
        )


def _signature_of(function: Callable[..., Any]) -> Signature | None:
    try:
        return signature(function)
    except ValueError:  # the functions that are written in C, before NumPy 2.4
        dispatched = _C_SIGNATURES.get(function.__name__)
        return signature(dispatched) if dispatched else None


_C_SIGNATURES: dict[str, Callable[..., Any]] = {
    "concatenate": lambda arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind": None,
    "dot": lambda a, b, out=None: None,
    "empty_like": lambda prototype, /, dtype=None, order="K", subok=True, shape=None: None,
}


def _same(value: Any, default: Any) -> bool:
    """Whether two arguments are plain and equal."""
    if value is default:
        return True
    return (
        type(value) is type(default) and isinstance(value, (int, float, str)) and value == default
    )


_call_of = lru_cache(maxsize=None)(_Call)


def array_function(
    function: Callable[..., Any], types: Iterable[type], args: Any, kwargs: dict[str, Any]
) -> Any:
    """Answer `Tensor.__array_function__`."""
    named = all(isinstance(getattr(function, a, None), str) for a in ("__name__", "__module__"))
    if not (callable(function) and named and isinstance(args, tuple) and isinstance(kwargs, dict)):
        raise TypeError("[__array_function__] takes a function, types, a tuple and a dict")
    if not all(_is_known(t) for t in types):
        return NotImplemented
    if function.__name__ in _EXITS:
        with ad.no_grad():
            arrays = [np.asarray(a) if isinstance(a, Tensor) else a for a in args]
            return function._implementation(*arrays, **kwargs)  # type: ignore[attr-defined]
    if function.__name__ in _COUNTS:
        arrays = [np.asarray(a) if isinstance(a, Tensor) else a for a in args]
        options = {k: np.asarray(a) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        return function._implementation(*arrays, **options)  # type: ignore[attr-defined]
    return _call_of(function)(args, kwargs)


def _is_known(t: type) -> bool:
    """Whether this module speaks for a class; any other may know better what to do."""
    if issubclass(t, Tensor) or t in (np.ndarray, np.memmap):
        return True
    return issubclass(t, np.ma.MaskedArray)  # to be told that it would lose its mask


# ---- Writing to what is given as out ------------------------------------------------------------


def _check_outs(title: str, outs: tuple[Any, ...]) -> None:
    for out in outs:
        if out is not None and not isinstance(out, Tensor):
            raise TypeError(
                f"[{title}] out= must be a Tensor, not {type(out).__name__}: NumPy's memory holds "
                "no derivative. Write a = a + t for a += t, or compute with t.numpy()"
            )


def _write(title: str, out: Tensor, result: Any) -> Tensor:
    if not isinstance(result, Tensor):
        raise TypeError(f"[{title}] out= is for one tensor, the result is {type(result).__name__}")
    out.rebind_(result)
    return out


# ---- Ufuncs -------------------------------------------------------------------------------------


# What each ufunc is here, if it was asked for: where the core looks first.
FUNCTIONS: dict[np.ufunc, Callable[..., Any]] = {}


def _function_of(title: str, ufunc: np.ufunc) -> Callable[..., Any]:
    if ufunc not in FUNCTIONS:
        FUNCTIONS[ufunc] = _find_ufunc(title, ufunc)
    return FUNCTIONS[ufunc]


def _find_ufunc(title: str, ufunc: np.ufunc) -> Callable[..., Any]:
    name = ufunc.__name__
    for module, home in (("numpy", ad), ("scipy.special", getattr(ad, "special", ad))):
        # The very object: the name alone is anyone's to give.
        if getattr(sys.modules.get(module), name, None) is not ufunc:
            continue
        if module == "numpy" and name in _SPECIAL:
            return _SPECIAL[name]
        return (_find(name, home) or _find(name, ad) or _raise_unknown(title, name, home))[1]
    raise TypeError(
        f"[{title}] a ufunc that adjoint does not know cannot take a tensor: use ad.host_op to "
        "give it a derivative, or t.numpy() for the values"
    )


def array_ufunc(ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """Answer `Tensor.__array_ufunc__`."""
    outs = options.pop("out", ())
    if not all(_lets_us(x) for x in (*inputs, *outs)):
        return NotImplemented
    title = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    function = _function_of(title, ufunc)
    _check_outs(title, outs)
    inputs, dtype = _converted(title, ufunc, inputs, options)
    where = options.pop("where", True) if method == "__call__" else True
    if where is not True and not (len(outs) == 1 and outs[0] is not None):
        raise TypeError(
            f"[{title}] where= without out= leaves elements undefined: use ad.where(mask, result, "
            "others)"
        )
    if method == "__call__":
        result = _plain_call(title, function, inputs, options)
    elif method in _METHODS:
        result = _METHODS[method](title, ufunc, function, inputs, options)
    else:
        raise TypeError(f"[{title}] is not supported for tensors: {_INSTEAD[method]}")
    if dtype is not None and not (isinstance(result, Tensor) and result.dtype == dtype):
        raise TypeError(f"[{title}] does not give dtype {dtype}: convert with ad.astype")
    return _deliver(title, result, outs, where)


def _lets_us(x: Any) -> bool:
    override = getattr(type(x), "__array_ufunc__", None)
    return override is None or isinstance(x, Tensor) or override is np.ndarray.__array_ufunc__


def _converted(
    title: str, ufunc: np.ufunc, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], DType | None]:
    """Convert the operands as dtype= and casting= say."""
    for name, free in (("order", ("K", "C", "A")), ("subok", (True, False)), ("signature", ())):
        if name in options and (value := options.pop(name)) not in free:
            raise TypeError(f"[{title}] {name}={value!r} is not supported for tensors")
    casting = options.pop("casting", "same_kind")
    dtype = options.pop("dtype", None)
    if dtype is None:
        if casting not in ("same_kind", "unsafe"):
            raise TypeError(f"[{title}] casting={casting!r} needs dtype= for tensors")
        return inputs, None
    wanted = DType(dtype)
    converted = []
    for x in inputs:
        if type(x) in (bool, int, float):
            converted.append(x)
            continue
        tensor = ad.asarray(x)
        if not np.can_cast(np.dtype(tensor.dtype.name), np.dtype(wanted.name), casting):
            raise TypeError(f"[{title}] casting={casting!r} keeps {tensor.dtype} from {wanted}")
        converted.append(ad.astype(tensor, wanted))
    return tuple(converted), wanted


def _plain_call(
    title: str, function: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    if options:  # of generalised ufuncs, such as the axis of np.vecdot
        known = signature(function).parameters
        for name in options:
            if name not in known or known[name].kind is Parameter.POSITIONAL_ONLY:
                raise TypeError(f"[{title}] {name}= is not supported for tensors")
    return function(*inputs, **options)


def _reduce(
    title: str,
    ufunc: np.ufunc,
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    reduction = _named(title, ufunc, _REDUCTIONS)
    initial = options.pop("initial", None)
    result = reduction(
        inputs[0], axis=options.pop("axis", 0), keepdims=bool(options.pop("keepdims", False))
    )
    _refuse_rest(title, options)
    return result if _is_absent(initial) else function(result, initial)


def _accumulate(
    title: str,
    ufunc: np.ufunc,
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    accumulation = _named(title, ufunc, _ACCUMULATIONS)
    result = accumulation(inputs[0], axis=options.pop("axis", 0))
    _refuse_rest(title, options)
    return getattr(result, "values", result)  # of cummax without its places


def _outer(
    title: str,
    ufunc: np.ufunc,
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:
    _refuse_rest(title, options)
    x1, x2 = inputs
    trailing = (1,) * np.ndim(x2)
    return function(ad.reshape(x1, (*np.shape(x1), *trailing)) if trailing else x1, x2)


def _named(title: str, ufunc: np.ufunc, names: dict[str, str]) -> Callable[..., Any]:
    if ufunc.__name__ not in names:
        raise TypeError(f"[{title}] is not supported for tensors: only that of {', '.join(names)}")
    return getattr(ad, names[ufunc.__name__])  # type: ignore[no-any-return]


def _refuse_rest(title: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if not (name == "where" and value is True):
            raise TypeError(f"[{title}] {name}= is not supported for tensors")


_METHODS = {"accumulate": _accumulate, "outer": _outer, "reduce": _reduce}
_INSTEAD = {
    "at": "a tensor changes by assignment, t[index] = value, or by what it is computed from",
    "reduceat": "reduce the slices one by one",
}


def _deliver(title: str, result: Any, outs: tuple[Any, ...], where: Any) -> Any:
    if all(out is None for out in outs):
        return result
    if len(outs) == 1:
        kept = result if where is True else ad.where(where, result, outs[0])
        return _write(title, outs[0], kept)
    return tuple(
        part if out is None else _write(title, out, part)
        for part, out in zip(result, outs, strict=True)
    )
