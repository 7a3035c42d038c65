"""Records what PyTorch gives for its own samples: ``python torch_samples.py [--all]``.

Run by hand where PyTorch is installed; values and derivatives go into `torch_samples.npz`, from
which `test_torch_samples.py` checks ours. For each name in `torch_calls.CALLS` a few samples are
kept, the smallest ones of every form. With `--all` all samples of PyTorch are drawn and compared
at once, nothing is written, and the names that differ are printed.
"""

from __future__ import annotations

# First: the others use up the memory for thread-local state of libraries.
import test_torch_samples as ours

# isort: split
import sys
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

from torch_calls import AXIS_OF_A_SCALAR, CALLS, DIFFERENT, comparable

warnings.simplefilter("ignore")

LARGEST = 40  # elements of an array that is kept,
LARGER = 1500  # and of one where there is no other
KEPT = 3  # samples of a variant that are kept


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves(part)]
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    return []


def tensors(tree: Any) -> list[Any]:
    """Those of a result, in which a number may stand for one."""
    if isinstance(tree, (bool, int, float)):
        return [torch.tensor(tree)]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in tensors(part)]
    return [tree]


def plain(tree: Any) -> Any:
    """Tensors as arrays; of what else there is, what the functions here understand."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().numpy(force=True).copy()
    if isinstance(tree, tuple):
        return tuple(plain(part) for part in tree)
    if isinstance(tree, list):
        return [plain(part) for part in tree]
    if isinstance(tree, dict):
        return {name: plain(part) for name, part in tree.items()}
    if isinstance(tree, slice):
        return ours.Slice(tree.start, tree.stop, tree.step)
    if tree is Ellipsis:
        return ours.DOTS
    if isinstance(tree, torch.dtype):
        return ours.DTypeName(str(tree).removeprefix("torch."))
    if isinstance(tree, (str, bool, int, float, type(None))):
        return tree
    raise NotImplementedError(f"an argument of type {type(tree).__name__}")


def weighted(outputs: list[Any]) -> Any:
    total = torch.zeros((), dtype=torch.float64)
    for i, y in enumerate(outputs):
        if y.dtype == torch.float64 and y.requires_grad:
            w = torch.as_tensor(ours.weights(i, tuple(y.shape)))
            total = total + (y * w).sum()
    return total


def record_of(op: Any, sample: Any) -> dict[str, Any] | None:
    args = [sample.input, *sample.args]
    inputs = [t for t in leaves([args, sample.kwargs]) if t.dtype.is_floating_point]
    for t in inputs:
        if t.dtype != torch.float64:
            return None
    with torch.no_grad():
        kept = plain(args), plain(sample.kwargs)
    moved = [i for i, t in enumerate(inputs) if t.requires_grad]
    sources = [inputs[i] for i in moved]
    out = comparable(op.name, op(*args, **sample.kwargs), torch)
    outputs = tensors(out)
    record: dict[str, Any] = {
        "name": op.name,
        "variant": op.variant_test_name,
        "args": kept[0],
        "kwargs": kept[1],
        "moved": moved,
        "values": [plain(y) for y in outputs],
        "first": None,
        "second": None,
    }
    total = weighted(outputs)
    if not total.requires_grad:
        return record
    first = torch.autograd.grad(total, sources, create_graph=True, allow_unused=True)
    first = [torch.zeros_like(t) if g is None else g for t, g in zip(sources, first, strict=True)]
    record["first"] = [plain(g) for g in first]
    try:
        total = weighted(first)
        if total.requires_grad:
            second = torch.autograd.grad(total, sources, allow_unused=True)
            record["second"] = [
                plain(torch.zeros_like(t) if g is None else g)
                for t, g in zip(sources, second, strict=True)
            ]
        else:
            record["second"] = [np.zeros(tuple(t.shape)) for t in sources]
    except RuntimeError:
        pass  # PyTorch has no second derivative of this one
    return record


def drawn(op: Any) -> Any:
    dtype = torch.float64
    for candidate in (torch.float64, torch.int64, torch.bool):
        if candidate in op.dtypes:
            dtype = candidate
            break
    differentiable = op.supports_autograd and dtype == torch.float64
    yield from op.sample_inputs("cpu", dtype, requires_grad=differentiable, set_seed=False)


def smaller(sample: Any) -> Any:
    """Corners of large tensors, where there are no small ones."""

    def corner(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        part = x.detach()[tuple(slice(5 if n > 12 else n) for n in x.shape)].clone()
        return part.requires_grad_(x.requires_grad)

    sample.input, sample.args = corner(sample.input), tuple(map(corner, sample.args))
    return sample


def size_of(record: dict[str, Any]) -> int:
    arrays = ours.arrays_of([record["args"], record["kwargs"], record["values"]])
    return max([a.size for a in arrays], default=0)


def form_of(record: dict[str, Any]) -> Any:
    """Samples of one form differ in numbers only."""

    def form(tree: Any) -> Any:
        if isinstance(tree, np.ndarray):
            return ("array", tree.ndim)
        if isinstance(tree, (list, tuple)):
            return ("list", *map(form, tree))
        if isinstance(tree, dict):
            return tuple((k, repr(v) if not isinstance(v, np.ndarray) else "array")
                         for k, v in tree.items())  # fmt: skip
        return type(tree).__name__

    return form(record["args"]), form(record["kwargs"])


def results(
    names: Collection[str], corners: bool = False
) -> Iterator[tuple[Any, dict[str, Any], str]]:
    """Each sample of the operations, as a record, and how ours differs from it, if it does."""
    for op in op_db:
        if op.name not in names:
            continue
        torch.manual_seed(7)
        for sample in drawn(op):
            try:
                record = record_of(op, smaller(sample) if corners else sample)
            except (NotImplementedError, RuntimeError) as error:
                print(f"{op.name}: no record: {error}"[:200])
                continue
            if record is None:
                continue
            try:
                ours.check(record)
            except Exception as error:
                yield op, record, f"{type(error).__name__} {' '.join(str(error).split())}"
            else:
                yield op, record, ""


def compare_all(chosen: Collection[str]) -> None:
    names = chosen or CALLS.keys()
    told: dict[str, list[str]] = {}
    partly = set()
    for op, record, difference in results(names):
        found = told.setdefault(op.name, [])
        if not difference:
            continue
        if AXIS_OF_A_SCALAR in difference or op.name in DIFFERENT:
            partly.add(op.name)
            continue
        found.append(difference[:230])
        if chosen:
            print(record["args"], record["kwargs"])
    differ = {name for name, found in told.items() if found}
    for name in sorted(differ):
        print(f"{name}: {len(told[name])} samples differ")
        for difference in list(dict.fromkeys(told[name]))[:4]:
            print("    ", difference)
    print(
        f"{len(told)} operations: {len(told) - len(differ)} agree, of which {len(partly)} but for "
        f"what was decided; {len(differ)} differ"
    )


def main() -> None:
    if "--all" in sys.argv:
        compare_all(sys.argv[sys.argv.index("--all") + 1 :])
        return
    kept: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def keep(names: Collection[str], corners: bool) -> None:
        for op, record, difference in results(names, corners):
            if not difference and size_of(record) <= (LARGER if corners else LARGEST):
                kept.setdefault((op.name, op.variant_test_name), []).append(record)

    keep(CALLS.keys(), False)
    keep(CALLS.keys() - {name for name, _ in kept}, True)
    records = []
    for found in kept.values():
        forms: dict[str, dict[str, Any]] = {}
        for record in sorted(found, key=size_of, reverse=True):
            forms.setdefault(str(form_of(record)), record)
        kept_forms = list(forms.values())
        records += kept_forms[:KEPT] if size_of(kept_forms[0]) <= LARGEST else kept_forms[-1:]
    ours.save(records, sorted({op.name for op in op_db}), torch.__version__)


if __name__ == "__main__":
    main()
