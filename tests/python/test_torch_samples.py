"""Values, gradients and second derivatives against those of PyTorch, for its own samples.

`torch_samples.py` recorded them in `torch_samples.npz`; `torch_calls.py` says how each operation is
written here, and which are not given. The gradient is that of a weighted sum of all results, the
second derivative that of a weighted sum of the gradient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from torch_calls import CALLS, DIFFERENT, comparable, decided

STORE = Path(__file__).with_name("torch_samples.npz")


@dataclass(frozen=True)
class Slice:
    start: Any
    stop: Any
    step: Any


@dataclass(frozen=True)
class DTypeName:
    name: str


class Dots:
    pass


DOTS = Dots()


def weights(i: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    return np.cos(1.3 * np.arange(count) + i).reshape(shape)


# ---- how samples are stored ---------------------------------------------------------------------


def arrays_of(tree: Any) -> list[Any]:
    if isinstance(tree, np.ndarray):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in arrays_of(part)]
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in arrays_of(part)]
    return []


class Writer:
    """Arrays become places in one long row for each kind of number."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {}
        self.lengths: dict[str, int] = {}

    def write(self, tree: Any) -> Any:
        if isinstance(tree, np.ndarray):
            kind = tree.dtype.name
            at = self.lengths.get(kind, 0)
            self.rows.setdefault(kind, []).append(tree.reshape(-1))
            self.lengths[kind] = at + tree.size
            return {"kind": kind, "at": at, "shape": list(tree.shape)}
        if isinstance(tree, list):
            return [self.write(part) for part in tree]
        if isinstance(tree, dict):
            return {"dict": {name: self.write(part) for name, part in tree.items()}}
        if isinstance(tree, tuple):
            return {"tuple": [self.write(part) for part in tree]}
        if isinstance(tree, Slice):
            return {"slice": [tree.start, tree.stop, tree.step]}
        if isinstance(tree, DTypeName):
            return {"dtype": tree.name}
        if tree is DOTS:
            return {"dots": True}
        if isinstance(tree, float):
            return {"number": tree.hex()}
        return tree


def save(records: list[dict[str, Any]], names: list[str], version: str) -> None:
    writer = Writer()
    table = [[record["name"], writer.write(record)] for record in records]
    content = {"torch": version, "names": names, "records": table}
    text = json.dumps(content, separators=(",", ":"))
    rows = {kind: np.concatenate(parts) for kind, parts in writer.rows.items()}
    np.savez_compressed(STORE, table=np.frombuffer(text.encode(), np.uint8), **rows)


def read(tree: Any, rows: Any) -> Any:
    if isinstance(tree, list):
        return [read(part, rows) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "kind" in tree:
        shape = tree["shape"]
        count = int(np.prod(shape))
        return rows[tree["kind"]][tree["at"] : tree["at"] + count].reshape(shape)
    if "dict" in tree:
        return {name: read(part, rows) for name, part in tree["dict"].items()}
    if "tuple" in tree:
        return tuple(read(part, rows) for part in tree["tuple"])
    if "slice" in tree:
        return Slice(*tree["slice"])
    if "dtype" in tree:
        return DTypeName(tree["dtype"])
    if "number" in tree:
        return float.fromhex(tree["number"])
    return DOTS


def stored() -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The samples of each operation, and all names of PyTorch's table."""
    with np.load(STORE) as file:
        rows = {name: file[name] for name in file.files}
    content = json.loads(rows["table"].tobytes())
    out: dict[str, list[dict[str, Any]]] = {}
    for name, tree in content["records"]:
        out.setdefault(name, []).append(read(tree, rows))
    return out, content["names"]


# ---- how they are checked -----------------------------------------------------------------------


def tensors_of(tree: Any, tensors: Any) -> Any:
    """The arguments, in which each array is the next one of the tensors."""
    if isinstance(tree, np.ndarray):
        return next(tensors)
    if isinstance(tree, (list, tuple)):
        return type(tree)(tensors_of(part, tensors) for part in tree)
    if isinstance(tree, dict):
        return {name: tensors_of(part, tensors) for name, part in tree.items()}
    if isinstance(tree, Slice):
        return slice(tree.start, tree.stop, tree.step)
    if isinstance(tree, DTypeName):
        return getattr(ad, {"bool": "bool"}.get(tree.name, tree.name))
    return Ellipsis if tree is DOTS else tree


def results_of(tree: Any) -> list[Any]:
    if isinstance(tree, ad.Tensor):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in results_of(part)]
    return [ad.asarray(tree)]


def is_real(a: Any) -> bool:
    return bool(a.dtype == np.float64)


def weighted(results: list[Any]) -> Any:
    total = ad.zeros(())
    for i, y in enumerate(results):
        if y.dtype == ad.float64:
            total = total + ad.sum(y * ad.asarray(weights(i, y.shape)))
    return total


def check(record: dict[str, Any]) -> None:
    name = record["name"]
    arrays = arrays_of([record["args"], record["kwargs"]])
    real = [i for i, a in enumerate(arrays) if is_real(a)]
    moved = [real[i] for i in record["moved"]]

    def results(*sources: Any) -> list[Any]:
        given = dict(zip(moved, sources, strict=True))
        every = iter(given[i] if i in given else ad.asarray(a) for i, a in enumerate(arrays))
        args = tensors_of(record["args"], every)
        kwargs = tensors_of(record["kwargs"], every)
        return results_of(comparable(name, CALLS[name](*args, **kwargs), ad))

    sources = [ad.asarray(arrays[i], copy=True) for i in moved]
    tolerance = dict(rtol=1e-9, atol=1e-9)
    values = results(*sources)
    assert len(values) == len(record["values"])
    for value, expected in zip(values, record["values"], strict=True):
        assert value.shape == expected.shape, (value.shape, expected.shape)
        np.testing.assert_allclose(value.numpy(), expected, **tolerance, err_msg="value")
    if record["first"] is None:
        return
    which = tuple(range(len(sources)))

    def first(*x: Any) -> Any:
        return ad.grad(lambda *y: weighted(results(*y)), argnums=which)(*x)

    gradients = first(*sources)
    for gradient, expected in zip(gradients, record["first"], strict=True):
        np.testing.assert_allclose(gradient.numpy(), expected, **tolerance, err_msg="first")
    if record["second"] is None:
        return
    gradients = ad.grad(lambda *x: weighted(list(first(*x))), argnums=which)(*sources)
    for gradient, expected in zip(gradients, record["second"], strict=True):
        np.testing.assert_allclose(
            gradient.numpy(), expected, rtol=1e-7, atol=1e-8, err_msg="second"
        )


RECORDS, NAMES = stored() if STORE.exists() else ({}, [])


@pytest.mark.parametrize("name", RECORDS)
def test_as_pytorch(name: str) -> None:
    with np.errstate(all="ignore"):
        for record in RECORDS[name]:
            check(record)


def test_every_name_is_given_or_decided() -> None:
    assert len(RECORDS) >= 300
    assert RECORDS.keys() == CALLS.keys() >= DIFFERENT.keys()
    assert not [n for n in NAMES if n not in CALLS and not decided(n)]
    assert not [n for n in CALLS if n not in NAMES]


@pytest.mark.parametrize("part", ["values", "first", "second"])
def test_a_wrong_number_is_seen(part: str) -> None:
    """Of every kind: so that the comparison itself is one that can fail."""
    record = next(r for r in RECORDS["tanh"] if r["second"] is not None)
    wrong = {**record, part: [a + 1e-6 for a in record[part]]}
    with pytest.raises(AssertionError):
        check(wrong)
