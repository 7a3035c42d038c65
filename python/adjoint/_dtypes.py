"""Questions about dtypes, as the Python Array API standard asks them."""

from __future__ import annotations

from typing import Any, NamedTuple

from adjoint import _core
from adjoint._core import DType, Tensor

__all__ = ["can_cast", "finfo", "iinfo", "isdtype", "result_type"]


def is_differentiable(x: Any) -> bool:
    """Whether `x` is a tensor that derivatives can reach."""
    return isinstance(x, Tensor) and x.dtype.kind == "f"


_ALL = tuple(
    DType(name)
    for name in (
        "bool",
        *(f"int{bits}" for bits in (8, 16, 32, 64)),
        *(f"uint{bits}" for bits in (8, 16, 32, 64)),
        "float32",
        "float64",
    )
)
# The standard's names of kinds, by NumPy's letters.
_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "",
    "numeric": "iuf",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Say whether a dtype is of a kind: a dtype, a name such as "real floating", or a tuple.

    Parameters
    ----------
    dtype : DType or what names one
    kind : DType, str or tuple of these
        "bool", "signed integer", "unsigned integer", "integral", "real floating",
        "complex floating" or "numeric"; of a tuple any.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If a kind is none of these.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.isdtype(ad.int8, "integral"), ad.isdtype(ad.int8, ("bool", "real floating"))
    (True, False)
    """
    own = DType(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(own, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"[isdtype] unknown kind {kind!r}: one of {', '.join(_KINDS)}")
        return own.kind in _KINDS[kind]
    return bool(own == DType(kind))


class finfo_object(NamedTuple):
    """What `finfo` returns."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


class iinfo_object(NamedTuple):
    """What `iinfo` returns."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(x: Any) -> DType:
    return x.dtype if isinstance(x, Tensor) else DType(x)


def finfo(type: Any, /) -> finfo_object:
    """Return the limits of a floating dtype, or of a tensor's.

    Parameters
    ----------
    type : DType, what names one, or Tensor

    Returns
    -------
    finfo_object
        `bits`, `eps`, `max`, `min`, `smallest_normal` and `dtype`.

    Raises
    ------
    TypeError
        If the dtype is not floating.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.finfo(ad.float32).eps == 2.0**-23
    True
    """
    dtype = _dtype_of(type)
    if dtype.kind != "f":
        raise TypeError(f"[finfo] {dtype} is not a floating dtype: use iinfo")
    digits, exponent = (24, 128) if dtype.itemsize == 4 else (53, 1024)
    largest = (2.0 - 2.0 ** (1 - digits)) * 2.0 ** (exponent - 1)
    return finfo_object(
        bits=8 * dtype.itemsize,
        eps=2.0 ** (1 - digits),
        max=largest,
        min=-largest,
        smallest_normal=2.0 ** (2 - exponent),
        dtype=dtype,
    )


def iinfo(type: Any, /) -> iinfo_object:
    """Return the limits of an integer dtype, or of a tensor's.

    Parameters
    ----------
    type : DType, what names one, or Tensor

    Returns
    -------
    iinfo_object
        `bits`, `max`, `min` and `dtype`.

    Raises
    ------
    TypeError
        If the dtype is no integer.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.iinfo(ad.uint8).max
    255
    """
    dtype = _dtype_of(type)
    if not isdtype(dtype, "integral"):
        raise TypeError(f"[iinfo] {dtype} is not an integer dtype: use finfo")
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        return iinfo_object(bits, 2**bits - 1, 0, dtype)
    return iinfo_object(bits, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), dtype)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Return the dtype that tensors, dtypes and Python numbers meet in; numbers are weak.

    Parameters
    ----------
    *arrays_and_dtypes : Tensor, DType, what names one, or Python number

    Returns
    -------
    DType

    Raises
    ------
    TypeError
        If there is no argument, or one is none of these.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.result_type(ad.float32, ad.int64), ad.result_type(ad.int8, 2.5)
    (adjoint.float32, adjoint.float64)
    """
    if not arrays_and_dtypes:
        raise TypeError("[result_type] needs at least one argument")
    strong = [_dtype_of(x) for x in arrays_and_dtypes if not isinstance(x, (bool, int, float))]
    weak = [x for x in arrays_and_dtypes if isinstance(x, (bool, int, float))]
    if not strong:
        return _core.asarray(list(weak)).dtype
    result = strong[0]
    for dtype in strong[1:]:
        result = _core._promote(result, dtype)
    for number in weak:
        result = _core._promote_weak(result, number)
    return result


def can_cast(from_: Any, to: Any, /) -> bool:
    """Say whether promotion can turn one dtype (or a tensor's) into the other.

    Parameters
    ----------
    from_ : DType, what names one, or Tensor
    to : DType or what names one

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If an argument is none of these.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.can_cast(ad.int32, ad.float64), ad.can_cast(ad.float64, ad.float32)
    (True, False)
    """
    target = DType(to)
    return bool(_core._promote(_dtype_of(from_), target) == target)


def _check_device(who: str, device: Any) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"[{who}] the only device is 'cpu', not {device!r}")


class __array_namespace_info__:
    """What the standard's inspection functions answer."""

    def capabilities(self) -> dict[str, Any]:
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return "cpu"

    def devices(self) -> list[str]:
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        _check_device("default_dtypes", device)
        return {
            "real floating": DType("float64"),
            "integral": DType("int64"),
            "indexing": DType("int64"),
        }

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, DType]:
        _check_device("dtypes", device)
        return {d.name: d for d in _ALL if kind is None or isdtype(d, kind)}
