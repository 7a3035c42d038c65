"""A module as a node of pytrees: its leaves are its parameters, all else is structure.

The whole of what is reached from a module is one node, so that a parameter, a module or a container
found in several places is one leaf or one object in whatever is put together again. Buffers and
frozen parameters stay the handles they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import adjoint as ad
from adjoint.nn._walk import Holder, Path, Place, is_item_by_item, survey

if TYPE_CHECKING:
    from adjoint.nn.module import Module

__all__: list[str] = []

# ("leaf" | "module" | "box", index); ("list", (a list of plain values, what was in it)); or
# ("same", what is there as it is)
Spec = tuple[str, Any]


class Box(NamedTuple):
    """A container: what it is, the specs of its items, and what to make another like it from."""

    cls: type
    keys: list[Any]
    items: list[Spec]
    varies: bool  # whether a leaf or a module is in it; else it is taken over as it is
    made_from: Any


class Record(NamedTuple):
    """All of one module but its leaves."""

    cls: type
    attributes: list[tuple[str, Spec]]
    buffers: dict[str, bool]
    slots: list[tuple[Path, int]]
    frozen: list[ad.Tensor]


class Frame:
    """All of what is reached from a module but the leaves: equal for modules of one structure."""

    def __init__(self, records: list[Record], boxes: list[Box]) -> None:
        self.records = records
        self.boxes = boxes  # what one holds comes before it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        if len(self.records) != len(other.records) or len(self.boxes) != len(other.boxes):
            return False
        records = zip(self.records, other.records, strict=True)
        boxes = zip(self.boxes, other.boxes, strict=True)
        return all(_same_record(*pair) for pair in records) and all(_same_box(*p) for p in boxes)

    def __hash__(self) -> int:
        names = (name for record in self.records for name, _ in record.attributes)
        return hash((tuple(record.cls for record in self.records), tuple(names)))


def flatten(module: Module) -> tuple[list[Any], Frame]:
    """Return the parameters that are not frozen, each once, and all the rest."""
    places = survey(module)
    flattening = _Flattening(places)
    records = [flattening.record(place) for place in places]
    return flattening.leaves, Frame(records, flattening.boxes)


class _Flattening:
    """The leaves and containers met so far while modules are taken apart."""

    def __init__(self, places: list[Place]) -> None:
        self.leaves: list[Any] = []
        self.boxes: list[Box] = []
        self._leaf_of: dict[Any, int] = {}
        self._box_of: dict[int, int] = {}
        self._module_of = {id(place.module): i for i, place in enumerate(places)}

    def record(self, place: Place) -> Record:
        registry = place.module._registry
        slots: list[tuple[Path, int]] = []
        attributes: list[tuple[Any, Spec]] = []
        contents = [attributes]  # of the containers that are open
        for kind, path, value in place.events:
            if kind == "open":
                contents.append([])
                continue
            if kind == "parameter":
                index = self._leaf(value, registry.slots.get(path))
                slots.append((path, index))
                spec: Spec = ("leaf", index)
            elif kind == "close":
                spec = self._box(value, contents.pop())
            elif kind == "module":
                spec = ("module", self._module_of[id(value)])
            elif type(value) is list:  # which may change in place
                spec = ("list", (value, tuple(value)))
            else:
                spec = ("same", value)
            contents[-1].append((path[-1], spec))
        frozen = [value for kind, _, value in place.events if kind == "frozen"]
        return Record(type(place.module), attributes, dict(registry.buffers), slots, frozen)

    def _leaf(self, value: Any, slot: object) -> int:
        # Equal numbers may be one object by chance; a leaf of both is one if it was one before.
        key = id(value) if isinstance(value, ad.Tensor) else (id(slot), id(value))
        if key not in self._leaf_of:
            self._leaf_of[key] = len(self.leaves)
            self.leaves.append(value)
        return self._leaf_of[key]

    def _box(self, value: Any, content: list[tuple[Any, Spec]]) -> Spec:
        if id(value) not in self._box_of:
            keys, items = [key for key, _ in content], [spec for _, spec in content]
            varies = any(
                kind in ("leaf", "module") or (kind == "box" and self.boxes[what].varies)
                for kind, what in items
            )
            made_from = _model_of(value, keys) if varies else value
            self._box_of[id(value)] = len(self.boxes)
            self.boxes.append(Box(type(value), keys, items, varies, made_from))
        return "box", self._box_of[id(value)]


def _model_of(value: Any, keys: list[Any]) -> Any:
    """Return what another container of the kind is made from; without the items, to free them."""
    if type(value) in (dict, list) or isinstance(value, tuple):
        return None
    if not is_item_by_item(value):
        return ad.tree.structure(value)
    model = copy.copy(value)
    for key in keys:
        _set_item(model, key, None)
    return model


def unflatten(frame: Frame, leaves: Sequence[Any]) -> Module:
    """Return the first module of a frame with other leaves, and all that is reached from it."""
    modules: list[Any] = [Holder.__new__(record.cls) for record in frame.records]
    boxes: list[Any] = []

    def build(spec: Spec) -> Any:
        kind, what = spec
        if kind == "leaf":
            return leaves[what]
        if kind == "module":
            return modules[what]
        if kind == "box":
            return boxes[what]
        return what[0] if kind == "list" else what

    for box in frame.boxes:
        boxes.append(_build_box(box, list(map(build, box.items))) if box.varies else box.made_from)
    tokens = [object() for _ in leaves]
    for module, record in zip(modules, frame.records, strict=True):
        registry = module._registry
        registry.buffers = dict(record.buffers)
        registry.slots = {path: tokens[index] for path, index in record.slots}
        for tensor in record.frozen:
            registry.see(tensor)
        for name, spec in record.attributes:
            object.__setattr__(module, name, build(spec))
    root: Module = modules[0]
    return root


def _build_box(box: Box, items: list[Any]) -> Any:
    cls: Any = box.cls
    if cls is list:
        return items
    if cls is dict:
        return dict(zip(box.keys, items, strict=True))
    if issubclass(cls, tuple):
        return cls._make(items) if hasattr(cls, "_make") else cls(items)
    if isinstance(box.made_from, ad.tree.TreeDef):
        return ad.tree.unflatten(box.made_from, items)
    other = copy.copy(box.made_from)
    for key, item in zip(box.keys, items, strict=True):
        _set_item(other, key, item)
    return other


def _set_item(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, (dict, list)):
        container[key] = value
    else:  # a dataclass, maybe a frozen one
        object.__setattr__(container, key, value)


# ---- Equal structure -----------------------------------------------------------------------------


def _same_record(left: Record, right: Record) -> bool:
    return (
        left.cls is right.cls
        and left.buffers == right.buffers
        and [name for name, _ in left.attributes] == [name for name, _ in right.attributes]
        and _same_specs([s for _, s in left.attributes], [s for _, s in right.attributes])
    )


def _same_box(left: Box, right: Box) -> bool:
    return (
        left.cls is right.cls and left.keys == right.keys and _same_specs(left.items, right.items)
    )


def _same_specs(left: list[Spec], right: list[Spec]) -> bool:
    return len(left) == len(right) and all(map(_same_spec, left, right))


def _same_spec(left: Spec, right: Spec) -> bool:
    (kind, a), (other, b) = left, right
    if kind != other:
        return False
    if kind == "list":
        return len(a[1]) == len(b[1]) and all(map(_same_value, a[1], b[1]))
    return _same_value(a, b)


def _same_value(a: Any, b: Any) -> bool:
    # Identity first: a handle is what it is whatever its value, and an array kept as a setting has
    # no truth value when compared. 1, 1.0 and True are equal and mean different programs.
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, ad.Tensor):
        return False
    if isinstance(a, float):
        return float.hex(a) == float.hex(b)  # tells -0.0 from 0.0, and not nan from nan
    if type(a) is tuple:
        return len(a) == len(b) and all(map(_same_value, a, b))
    try:
        return bool(a == b)
    except Exception:  # what cannot be compared is not the same
        return False
