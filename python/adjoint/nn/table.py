"""A table of a model: its layers, the shapes they give, and how many parameters they hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import adjoint as ad
from adjoint.nn import module as _module
from adjoint.nn._walk import Place, is_module, survey
from adjoint.nn.module import Module

__all__ = ["Summary", "SummaryRow", "summary"]


class SummaryRow(NamedTuple):
    """One module of a `Summary`.

    Examples
    --------
    >>> import adjoint as ad
    >>> row = ad.nn.summary(ad.nn.Linear(3, 2)).rows[0]
    >>> row.kind, row.parameters, row.calls
    ('Linear', 8, 0)
    """

    name: str  # dotted, empty for the model itself
    kind: str  # the name of its class
    outputs: tuple[tuple[int, ...], ...]  # the shapes it gave when it was first called
    parameters: int  # numbers in parameters of its own, not those of its submodules
    calls: int


class Summary:
    """What `summary` returns: it prints as a table.

    Attributes
    ----------
    rows : list of SummaryRow
        The model and all modules in it, parents first.
    parameters, trainable : int
        Numbers in all parameters, each counted once, and in those that are not frozen.
    nbytes : int
        The memory they take.

    Examples
    --------
    >>> import adjoint as ad
    >>> model = ad.nn.Sequential(ad.nn.Linear(3, 2), ad.nn.Tanh())
    >>> table = ad.nn.summary(model, ad.ones((5, 3), dtype=ad.float32))
    >>> table.parameters, table.rows[0].outputs
    (8, ((5, 2),))
    """

    def __init__(
        self, rows: list[SummaryRow], parameters: int, trainable: int, nbytes: int
    ) -> None:
        self.rows = rows
        self.parameters = parameters
        self.trainable = trainable
        self.nbytes = nbytes

    def __str__(self) -> str:
        table = [("layer", "output", "parameters")]
        for row in self.rows:
            depth = row.name.count(".") + 1 if row.name else 0
            label = f"{row.name.rpartition('.')[2]}: {row.kind}" if row.name else row.kind
            outputs = ", ".join(map(str, row.outputs))
            times = f" ×{row.calls}" if row.calls > 1 else ""
            count = f"{row.parameters:,}" if row.parameters else ""
            table.append(("  " * depth + label, outputs + times, count))
        first, second, third = (max(len(line[i]) for line in table) for i in range(3))
        lines = [f"{a:<{first}}  {b:<{second}}  {c:>{third}}".rstrip() for a, b, c in table]
        lines.insert(1, "─" * (first + second + third + 4))
        frozen = self.parameters - self.trainable
        kept = f"{frozen:,} of them frozen" if frozen else "all trainable"
        lines.append(f"{self.parameters:,} parameters, {kept}: {_size_text(self.nbytes)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _size_text(nbytes: int) -> str:
    size, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{nbytes} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def summary(model: Module, *inputs: Any, **named: Any) -> Summary:
    """Return a table of the modules of a model: names, output shapes, numbers of parameters.

    Parameters
    ----------
    model : Module
    *inputs, **named
        What the model is called with, of any shapes and dtypes that it takes: once, without
        recording and in `Module.eval` mode. Modes and buffers are as before afterwards. With
        none, nothing is run and the shapes are left out.

    Returns
    -------
    Summary
        Prints as a table; a layer that was called several times is marked with the number, and
        the shapes are those of the first call.

    Raises
    ------
    TypeError
        If `model` is no Module.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint import nn
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> nn.summary(model, ad.ones((8, 64), dtype=ad.float32))
    layer        output   parameters
    ────────────────────────────────
    Sequential   (8, 10)
      0: Linear  (8, 32)       2,080
      1: ReLU    (8, 32)
      2: Linear  (8, 10)         330
    2,410 parameters, all trainable: 9.4 KiB
    """
    if not is_module(model):
        raise TypeError(f"[summary] the model must be a Module, not a {type(model).__name__}")
    places = survey(model)
    calls: dict[int, list[Any]] = {}
    if inputs or named:
        with _left_as_it_is(places), _observed(calls), ad.no_grad():
            model(*inputs, **named)
    counted: set[int] = set()
    rows, parameters, trainable, nbytes = [], 0, 0, 0
    for place in places:
        own = 0
        for kind, _, tensor in place.events:
            if kind not in ("parameter", "frozen") or id(tensor) in counted:
                continue
            counted.add(id(tensor))
            own += tensor.size
            nbytes += tensor.nbytes
            trainable += tensor.size if kind == "parameter" else 0
        parameters += own
        outputs = calls.get(id(place.module), [])
        shapes = outputs[0] if outputs else ()
        title = type(place.module).__name__
        rows.append(SummaryRow(place.prefix[:-1], title, shapes, own, len(outputs)))
    return Summary(rows, parameters, trainable, nbytes)


@contextmanager
def _observed(calls: dict[int, list[Any]]) -> Iterator[None]:
    thread = threading.get_ident()

    def note(module: Module, output: Any) -> None:
        if threading.get_ident() == thread:
            leaves = (x for x in ad.tree.leaves(output) if isinstance(x, ad.Tensor))
            calls.setdefault(id(module), []).append(tuple(x.shape for x in leaves))

    _module.observers.append(note)
    try:
        yield
    finally:
        _module.observers.remove(note)


@contextmanager
def _left_as_it_is(places: list[Place]) -> Iterator[None]:
    modes = [(place.module, place.module.training) for place in places]
    buffers = [
        (tensor, tensor.detach())
        for place in places
        for kind, _, tensor in place.events
        if kind == "buffer" and tensor is not None
    ]
    places[0].module.eval()
    try:
        yield
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
        with ad.no_grad():
            for buffer, value in buffers:
                buffer.rebind_(value)
