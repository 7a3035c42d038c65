"""Tensors in files, in the safetensors format: a JSON header and raw data, no code to execute.

>>> import adjoint as ad, os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
>>> ad.io.save(path, {"w": ad.tensor([1.0, 2.0])})
>>> ad.io.load(path)["w"].numpy().tolist()
[1.0, 2.0]
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any

from adjoint import _core
from adjoint._arguments import check_kind
from adjoint._core import DType, Tensor

__all__ = ["load", "load_metadata", "save"]

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


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors by name; an existing file is replaced only once the new one is complete.

    Parameters
    ----------
    path : str or path-like
    tensors : mapping of str to Tensor
        For a model, ``model.state_dict()``.
    metadata : mapping of str to str, optional
    """
    path = _checked(path)
    check_kind("io.save", "tensors", tensors, Mapping)
    header: dict[str, Any] = {}
    if metadata is not None:
        check_kind("io.save", "metadata", metadata, Mapping)
    if metadata:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError("[io.save] metadata maps str to str")
        header["__metadata__"] = dict(metadata)
    parts, offset = [], 0
    for name, tensor in tensors.items():
        check_kind("io.save", "the name of a tensor", name, str)
        if name == "__metadata__":
            raise TypeError(f"[io.save] {name!r} cannot name a tensor")
        tensor = _core.asarray(tensor).detach()
        data = memoryview(tensor).tobytes()
        end = offset + len(data)
        code = _CODES[tensor.dtype.name]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        parts.append(data)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            file.writelines(parts)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file.

    Raises
    ------
    ValueError
        If the file is not well formed; every size and offset is checked before it is used.
    """
    header, data = _read(path)
    header.pop("__metadata__", None)
    spans = []
    tensors = {}
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(name, entry, len(data))
        spans.append((begin, end))
        tensors[name] = _core._rebuild(
            Tensor, dtype, shape, bytes(data[begin:end]), False, None, None
        )
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError("[io.load] the data has gaps or overlaps")
        position = end
    if position != len(data):
        raise ValueError("[io.load] the file does not end with its data")
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata of a safetensors file."""
    metadata = _read(path)[0].get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("[io.load] the metadata does not map str to str")
    return metadata


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], memoryview]:
    with open(_checked(path), "rb") as file:
        content = file.read()
    if len(content) < 8:
        raise ValueError("[io.load] the file is too short for a header")
    length = int.from_bytes(content[:8], "little")
    if length > min(len(content) - 8, _MOST_HEADER):
        raise ValueError(f"[io.load] a header of {length} bytes does not fit the file")
    try:
        header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"[io.load] the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("[io.load] the header is not an object")
    return header, memoryview(content)[8 + length :]


def _checked(path: str | os.PathLike[str]) -> str:
    name: object = os.fspath(path)  # an int would be taken for an open file
    if not isinstance(name, str):
        raise TypeError(f"[io] the path must be a str, not {type(name).__name__}")
    return name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("[io.load] a name occurs twice in the header")
    return result


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _entry(name: str, entry: Any, available: int) -> tuple[DType, tuple[int, ...], int, int]:
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
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise wrong("its offsets are not two sizes")
    begin, end = offsets
    if not begin <= end <= available or end - begin != prod(shape) * dtype.itemsize:
        raise wrong(f"{end - begin} bytes at {begin} do not hold shape {tuple(shape)} of {dtype}")
    return dtype, tuple(shape), begin, end
