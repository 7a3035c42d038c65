"""Tensors in files, in the safetensors format: a JSON header and raw data, no code to execute.

>>> import adjoint as ad, os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
>>> ad.io.save(path, {"w": ad.tensor([1.0, 2.0])})
>>> ad.io.load(path)["w"].numpy().tolist()
[1.0, 2.0]
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from math import prod
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from adjoint import _core
from adjoint._arguments import check_kind
from adjoint._core import DType, Tensor

__all__ = ["load", "load_metadata", "save"]

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float32": "F32",
    "float64": "F64",
}
_NAMES = {code: name for name, code in _CODES.items()}
_MOST_HEADER = 100_000_000
_CHUNK = 1 << 24


# ---- Saving --------------------------------------------------------------------------------------


def save(
    path: AnyPath, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name; an existing file is replaced only once the new one is complete.

    A link is followed, and the file it leads to keeps its mode. Until the new file is complete it
    has a name of its own in the same folder, which must be writable. What is no ordinary file (a
    device, a pipe) is written to directly.

    Parameters
    ----------
    path : str, bytes or path-like
    tensors : mapping of str to Tensor
        For a model, ``model.state_dict()``.
    metadata : mapping of str to str, optional

    Raises
    ------
    TypeError, ValueError
        If path, names, tensors or metadata are not of these kinds. Nothing is written then.
    OSError
        If the file cannot be written. An existing one is as it was.

    Examples
    --------
    >>> import adjoint as ad
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> ad.io.save(path, {"w": ad.tensor([1.0, 2.0])}, metadata={"epoch": "3"})
    >>> ad.io.load(path)["w"].tolist()
    [1.0, 2.0]
    """
    target = _path("save", path)
    views = _views(tensors)
    text = _header(views, {} if metadata is None else metadata)
    chunks: list[bytes | memoryview] = [len(text).to_bytes(8, "little"), text]
    chunks += [view if view.c_contiguous else view.tobytes() for _, _, view in views if view.nbytes]
    try:
        found: os.stat_result | None = os.stat(target)
    except FileNotFoundError:
        found = None
    ordinary = stat.S_ISREG(found.st_mode) if found else os.path.basename(target) != ""
    if ordinary:
        _replace(_followed(target), chunks, found)
        return
    with open(target, "wb") as file:  # which says what is wrong with a folder
        file.writelines(chunks)


def _path(op: str, path: AnyPath) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"[io.{op}] the path must be a str, bytes or os.PathLike, not a {type(path).__name__}"
        ) from None


def _followed(path: str) -> str:
    """Return what a link leads to, there or not; `os.stat` has refused a loop of links."""
    while os.path.islink(path):
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return path


View = tuple[str, Tensor, memoryview]


def _views(tensors: Mapping[str, Any]) -> list[View]:
    if not isinstance(tensors, Mapping):
        raise TypeError(
            f"[io.save] tensors must map str to Tensor, not be a {type(tensors).__name__}: name a "
            'tensor, as {"x": x}, and those of a tree by their places, '
            "{str(i): x for i, x in enumerate(ad.tree.leaves(tree))}"
        )
    views = []
    for name, tensor in tensors.items():
        _check_text("a name", name)
        if name == "__metadata__":
            raise ValueError("[io.save] '__metadata__' cannot name a tensor: use metadata=")
        if isinstance(tensor, Mapping):
            raise TypeError(
                f"[io.save] {name!r} holds a {type(tensor).__name__}, not a tensor: a file has one "
                f"level of names, such as '{name}.weight'"
            )
        try:
            value = _core.asarray(tensor).detach()
        except (TypeError, ValueError) as error:
            if isinstance(error, _core.TracedValueError):
                raise
            raise type(error)(f"[io.save] {name!r} is no tensor: {error}") from None
        views.append((name, value, memoryview(value)))
    return views


def _header(views: list[View], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"[io.save] metadata maps str to str, not a {type(metadata).__name__}")
    for key, value in metadata.items():
        _check_text("metadata", key)
        _check_text("metadata", value)
        header.setdefault("__metadata__", {})[key] = value
    offset = 0
    for name, tensor, view in views:
        end = offset + view.nbytes
        code = _CODES[tensor.dtype.name]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER:
        raise ValueError(f"[io.save] a header of {len(text)} bytes: at most {_MOST_HEADER} can be")
    return text


def _check_text(what: str, value: object) -> None:
    check_kind("io.save", what, value, str)
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ValueError(f"[io.save] {what} is no Unicode text: {value!r}") from None


def _replace(target: str, chunks: Iterable[bytes | memoryview], old: os.stat_result | None) -> None:
    """Write an ordinary file under another name, then give it the name of the target."""
    if old is not None:
        os.close(os.open(target, os.O_WRONLY | os.O_CLOEXEC))  # may it be written?
    while True:
        # 64 random bits: a file of that name is either of this call, or refused by O_EXCL.
        name = f".adjoint-{secrets.token_hex(8)}.tmp"
        temporary = os.path.join(os.path.dirname(target), name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                descriptor = os.open(temporary, flags, 0o666)
            except FileExistsError:
                continue
            with open(descriptor, "wb") as file:
                file.writelines(chunks)
                if old is not None:
                    _take_over(file.fileno(), old)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            return
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            if isinstance(error, OSError) and error.filename is not None:
                error.filename, error.filename2 = target, None
            raise


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """Give a file the owner, as far as one may, and the mode of another."""
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


# ---- Loading -------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int


def load(path: AnyPath) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file.

    Parameters
    ----------
    path : str, bytes or path-like

    Raises
    ------
    ValueError
        If the file is not well formed, or has a dtype that is not supported. Every size and offset
        is checked before it is used.
    OSError
        If the file cannot be read.
    TypeError
        If the path is none.

    Returns
    -------
    dict of str to Tensor

    Examples
    --------
    >>> import adjoint as ad
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> ad.io.save(path, {"w": ad.tensor([1.0, 2.0])})
    >>> {name: w.tolist() for name, w in ad.io.load(path).items()}
    {'w': [1.0, 2.0]}
    """
    with open(_path("load", path), "rb") as file:
        header, available = _read_header(file)
        entries = {name: _entry(name, entry, available) for name, entry in header.items()}
        size = _data_size(entries)
        data = _read(file, size + 1)
    if len(data) != size:
        raise ValueError(f"[io.load] the header describes {size} bytes, the file has others")
    return {name: _tensor(name, entry, memoryview(data)) for name, entry in entries.items()}


def load_metadata(path: AnyPath) -> dict[str, str]:
    """Read the metadata of a safetensors file; raises as `load` does.

    Parameters
    ----------
    path : str, bytes or path-like

    Returns
    -------
    dict of str to str

    Raises
    ------
    ValueError, OSError, TypeError
        As of `load`.

    Examples
    --------
    >>> import adjoint as ad
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
    >>> ad.io.save(path, {"w": ad.ones(2)}, metadata={"epoch": "3"})
    >>> ad.io.load_metadata(path)
    {'epoch': '3'}
    """
    with open(_path("load_metadata", path), "rb") as file:
        return _read_header(file, want_metadata=True)[0]


def _read_header(file: IO[bytes], want_metadata: bool = False) -> tuple[dict[str, Any], int]:
    """Return the entries of the tensors, or the metadata, and how many bytes of data there may be.

    A pipe does not know its length; it may have as many as it likes.
    """
    info = os.fstat(file.fileno())
    left = info.st_size - 8 if stat.S_ISREG(info.st_mode) else 2**62
    start = _read(file, 8)
    if len(start) < 8:
        raise ValueError("[io.load] the file is too short for a header")
    length = int.from_bytes(start, "little")
    if length > min(left, _MOST_HEADER):
        raise ValueError(f"[io.load] a header of {length} bytes does not fit the file")
    text = _read(file, length)
    if len(text) < length:
        raise ValueError(f"[io.load] a header of {length} bytes does not fit the file")
    header = _parsed(bytes(text))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("[io.load] the metadata does not map str to str")
    return (metadata if want_metadata else header), left - length


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        # A lone surrogate can be escaped in JSON, and is no text.
        json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"[io.load] the header is not JSON: {error}") from None
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise ValueError("[io.load] the header is not an object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _read(file: IO[bytes], size: int) -> bytearray:
    """Read until there are `size` bytes or no more; memory is taken for what is there alone."""
    data = bytearray()
    while len(data) < size:
        chunk = file.read(min(size - len(data), _CHUNK))
        if not chunk:
            break
        data += chunk
    return data


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _entry(name: str, entry: Any, available: int) -> _Entry:
    def wrong(what: str) -> ValueError:
        return ValueError(f"[io.load] tensor {name!r}: {what}")

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong("its entry needs exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _NAMES:
        raise wrong(f"dtype {code!r} is not supported")
    dtype = DType(_NAMES[code])
    if not isinstance(shape, list) or len(shape) > 64 or not all(map(_is_size, shape)):
        raise wrong("its shape is not a list of sizes")
    # Of nothing too: an extent of 0 makes no room for the others.
    if prod(extent for extent in shape if extent) * dtype.itemsize >= 2**62:
        raise wrong(f"shape {tuple(shape)} is too large")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise wrong("its offsets are not two sizes")
    begin, end = offsets
    if not begin <= end <= available or end - begin != prod(shape) * dtype.itemsize:
        raise wrong(f"{end - begin} bytes at {begin} do not hold shape {tuple(shape)} of {dtype}")
    return _Entry(dtype, tuple(shape), begin, end)


def _data_size(entries: Mapping[str, _Entry]) -> int:
    """Return how many bytes of data the tensors fill, side by side and without gaps."""
    position = 0
    for begin, end in sorted((entry.begin, entry.end) for entry in entries.values()):
        if begin != position:
            raise ValueError("[io.load] the data has gaps or overlaps")
        position = end
    return position


def _tensor(name: str, entry: _Entry, data: memoryview) -> Tensor:
    content = bytes(data[entry.begin : entry.end])
    if entry.dtype == "bool" and content.translate(None, b"\0\1"):
        raise ValueError(f"[io.load] tensor {name!r}: a bool is neither 0 nor 1")
    tensor: Tensor = _core._rebuild(Tensor, entry.dtype, entry.shape, content, False, None, None)
    return tensor


if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from adjoint._words import unknown

        raise unknown("io", name)


def __dir__() -> list[str]:
    return sorted(__all__)
