"""What a module holds: its attributes, and the containers in them, visited without recursion.

A tensor is a parameter where it is a leaf that requires grad, where it was one before it was
frozen, or where a pytree was put together with it as a leaf. Lists, tuples, named tuples, dicts,
dataclasses and registered pytrees are looked into; a module is visited once, whichever way leads
to it, so that shared modules and pointers to a parent are no trouble.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeGuard, TypeVar

import adjoint as ad
from adjoint.optim import Optimizer, ReduceOnPlateau, WeightAverage

if TYPE_CHECKING:
    from typing_extensions import Self

    from adjoint.nn.module import Module

__all__: list[str] = []

Path = tuple[Any, ...]  # the attribute, then a key per container
T = TypeVar("T")
Kind = Literal["parameter", "frozen", "buffer", "module", "constant", "open", "close"]

_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
_CODE = (
    type,
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    classmethod,
    property,
    staticmethod,
    # They refer to parameters that have their place elsewhere.
    Optimizer,
    ReduceOnPlateau,
    WeightAverage,
    ad.GradientTape,
)
_HOME = "adjoint.nn.module"
_TENSORS = frozenset({"parameter", "frozen", "buffer"})
_CLOSED = (set, frozenset, collections.deque, types.MappingProxyType)


# One thing found in a module. A container is opened, then its items come, then it closes.
Event = tuple[Kind, Path, Any]


def dotted(path: Path) -> str:
    """Return the name inside the module of what stands at a path."""
    return ".".join(map(str, path))


class Registry:
    """What a module knows of its attributes beyond their values."""

    def __init__(self) -> None:
        self.buffers: dict[str, bool] = {}  # name -> whether it belongs to the state
        # Where a pytree was put together with a leaf, which may be anything, and which leaf it was.
        self.slots: dict[Path, object] = {}
        # Tensors that were parameters when they were last seen, so that freezing loses none.
        self._seen: dict[int, weakref.ref[ad.Tensor]] = {}

    def see(self, tensor: ad.Tensor) -> None:
        """Keep in mind that a tensor is a parameter of the module."""
        key, seen = id(tensor), self._seen
        if key not in seen or seen[key]() is not tensor:
            seen[key] = weakref.ref(tensor, lambda _: seen.pop(key, None))

    def has_seen(self, tensor: ad.Tensor) -> bool:
        found = self._seen.get(id(tensor))
        return found is not None and found() is tensor

    def forget(self, name: str, value: Any = None) -> None:
        """Drop the slots of an attribute, or keep the one that a tensor takes over."""
        for path in [path for path in self.slots if path[0] == name]:
            if len(path) > 1 or not isinstance(value, ad.Tensor):
                del self.slots[path]

    def copy(self) -> Registry:
        other = Registry()
        other.__setstate__(self.__getstate__())
        return other

    def __getstate__(self) -> tuple[dict[str, bool], dict[Path, object], list[ad.Tensor]]:
        seen = [tensor for ref in self._seen.values() if (tensor := ref()) is not None]
        return dict(self.buffers), dict(self.slots), seen

    def __setstate__(
        self, state: tuple[dict[str, bool], dict[Path, object], list[ad.Tensor]]
    ) -> None:
        self.buffers, self.slots, seen = state
        self._seen = {}
        for tensor in seen:
            self.see(tensor)


class Holder:
    """What a `Module` is to the walk; here so that this file need not import it."""

    _registry: Registry

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"[{cls.__name__}] takes no arguments")
        # Here rather than in __init__, so that a subclass need not call super().__init__().
        self = super().__new__(cls)
        object.__setattr__(self, "_registry", Registry())
        return self


class _ByClass(Generic[T]):
    """What is remembered of classes, by their address, for as long as each of them lives."""

    def __init__(self) -> None:
        self.known: dict[int, T] = {}
        self._classes: dict[int, weakref.ref[type]] = {}

    def get(self, cls: type) -> T | None:
        return self.known.get(id(cls))

    def remember(self, cls: type, value: T) -> T:
        key = id(cls)
        known, classes = self.known, self._classes

        def forget(_: object) -> None:
            known.pop(key, None)
            classes.pop(key, None)

        if key not in classes:
            classes[key] = weakref.ref(cls, forget)
        known[key] = value
        return value


def _class_of(value: Any) -> str:
    """Return what the type of a value makes of it; asked so often that it is remembered."""
    cls = type(value)
    return _known_classes.get(id(cls)) or _classes.remember(cls, _classified(cls))


_classes = _ByClass[str]()
_known_classes = _classes.known


def _classified(cls: type) -> str:
    if cls in _PLAIN:
        return "plain"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "named tuple"
    if issubclass(cls, (list, tuple)):
        return "sequence"
    for base, name in ((ad.Tensor, "tensor"), (Holder, "module"), (dict, "dict")):
        if issubclass(cls, base):
            return name
    if issubclass(cls, _CODE):
        return "code"
    return "dataclass" if dataclasses.is_dataclass(cls) else "object"


def is_module(value: Any) -> TypeGuard[Module]:
    return isinstance(value, Holder)


def is_plain(value: Any) -> bool:
    """Return whether nothing can be in a value, at the speed of C for long lists of numbers."""
    cls = type(value)
    return cls in _PLAIN or ((cls is list or cls is tuple) and _PLAIN.issuperset(map(type, value)))


def is_trainable(value: Any) -> bool:
    """Return whether a value is a tensor that gradients accumulate in."""
    return _class_of(value) == "tensor" and value.requires_grad and value.is_leaf


def attributes(module: Module) -> list[tuple[str, Any]]:
    """Return the attributes that a module was given, those in slots of its class too."""
    found = [item for item in vars(module).items() if item[0] != "_registry"]
    for name in slot_names(type(module)):
        if hasattr(module, name):
            found.append((name, getattr(module, name)))
    return found


def events(module: Module) -> list[Event]:
    """Return what a module holds itself, in the order of assignment."""
    return events_of(module, attributes(module))


def events_of(module: Module, named: Iterable[tuple[str, Any]]) -> list[Event]:
    """Return what these attributes of a module hold, whether or not they are assigned yet."""
    found: list[Event] = []
    registry = module._registry
    above = {path[:k] for path in registry.slots for k in range(1, len(path))}
    for name, value in named:
        path = (name,)
        kind = _kind(registry, path, value)
        # Most attributes are numbers or tensors: nothing is in them.
        if kind != "constant" or type(value) in _PLAIN or _class_of(value) == "tensor":
            found.append((kind, path, value))
        elif path in above or not is_plain(value):
            _open(found, module, above, path, value)
        else:
            found.append((kind, path, value))
    return found


def _open(found: list[Event], module: Module, above: set[Path], path: Path, value: Any) -> None:
    """Find what is in a value, and in what is in it, if it is a container."""
    inside: set[int] = set()  # the containers that are open
    stack: list[tuple[Path, Any, bool]] = [(path, value, False)]
    while stack:
        path, value, closing = stack.pop()
        if closing:
            inside.discard(id(value))
            found.append(("close", path, value))
            continue
        kind = _kind(module._registry, path, value)
        items = None
        if kind == "constant" and (path in above or not is_plain(value)):
            items = contents(value)
        if items is None:
            found.append((kind, path, value))
            continue
        if id(value) in inside:
            raise ValueError(
                f"[{type(module).__name__}] the container at {dotted(path)!r} holds itself"
            )
        inside.add(id(value))
        found.append(("open", path, value))
        stack.append((path, value, True))
        stack += [((*path, key), item, False) for key, item in reversed(items)]


def _kind(registry: Registry, path: Path, value: Any) -> Kind:
    if registry.slots and path in registry.slots:
        return "parameter"
    cls = _known_classes.get(id(type(value))) or _class_of(value)
    if cls == "plain":
        return "constant"
    if cls == "tensor":
        if len(path) == 1 and path[0] in registry.buffers:
            return "buffer"
        if value.requires_grad and value.is_leaf:
            registry.see(value)
            return "parameter"
        return "frozen" if registry.has_seen(value) else "constant"
    return "module" if cls == "module" else "constant"


def contents(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the items of a container with their keys, None of what is not looked into."""
    cls = _class_of(value)
    if cls in ("plain", "tensor", "module", "code"):
        return None
    if cls == "dict":
        return list(value.items())
    if cls == "named tuple":
        return list(zip(value._fields, value, strict=True))
    if cls == "sequence":
        return list(enumerate(value))
    if cls == "dataclass":
        fields = dict.fromkeys(field.name for field in dataclasses.fields(value))
        names = fields | dict.fromkeys(getattr(value, "__dict__", ()))
        return [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    leaves = ad.tree.leaves(value)
    return None if len(leaves) == 1 and leaves[0] is value else list(enumerate(leaves))


class Place(NamedTuple):
    """A module found from a root, under the first of its names."""

    prefix: str  # empty or ending in a dot
    module: Module
    events: list[Event]
    children: list[tuple[str, Module]]


def survey(root: Module, check: bool = True) -> list[Place]:
    """Return every module that is reached from a root, once, parents first.

    With `check`, what a parameter hides in raises: an object that is not looked into.
    """
    places: list[Place] = []
    seen: set[int] = set()
    stack: list[tuple[str, Module]] = [("", root)]
    while stack:
        prefix, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found = events(module)
        children = [(dotted(path), value) for kind, path, value in found if kind == "module"]
        places.append(Place(prefix, module, found, children))
        stack += [(f"{prefix}{name}.", child) for name, child in reversed(children)]
    if check:
        _refuse_hidden(places, seen)
    return places


def state_names(root: Module) -> list[tuple[str, ad.Tensor]]:
    """Return parameters and lasting buffers under each of their names.

    Modules that refer to each other in a loop have the first of their names only.
    """
    known = {id(place.module): place for place in survey(root)}
    found: list[tuple[str, ad.Tensor]] = []
    above: dict[int, None] = {}
    done: set[int] = set()
    looping: set[int] = set()
    stack: list[tuple[str, Module] | None] = [("", root)]  # None: the last of above is done
    while stack:
        top = stack.pop()
        if top is None:
            done.add(above.popitem()[0])
            continue
        prefix, module = top
        if id(module) in above or (id(module) in done and id(module) in looping):
            looping.update(above)
            continue
        place = known[id(module)]
        above[id(module)] = None
        found += [
            (prefix + dotted(path), value)
            for kind, path, value in place.events
            if kind in _TENSORS and _lasts(module, kind, path)
        ]
        stack.append(None)
        stack += [(f"{prefix}{name}.", child) for name, child in reversed(place.children)]
    counts = collections.Counter(name for name, _ in found)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"[{type(root).__name__}] two tensors have the name {twice[0]!r}: rename an attribute "
            "or a key"
        )
    return found


def _lasts(module: Module, kind: Kind, path: Path) -> bool:
    return kind != "buffer" or module._registry.buffers[path[0]]


# ---- What cannot be registered -------------------------------------------------------------------


def _refuse_hidden(places: list[Place], modules: set[int]) -> None:
    suspects = [(place, name, value) for place in places for name, value in _unopened(place)]
    if not suspects:
        return
    own = {id(x) for place in places for kind, _, x in place.events if kind in _TENSORS}
    for place, name, value in suspects:
        for item in _hidden(value):
            if id(item) in own or id(item) in modules:
                continue
            if is_module(item) and not _is_left_out(item, modules):
                continue
            raise TypeError(_hidden_message(place, name, value, item))


def _unopened(place: Place) -> list[tuple[str, Any]]:
    """Return the objects of a module that were not looked into, and what its class holds."""
    found = [
        (dotted(path), value)
        for kind, path, value in place.events
        if (kind == "constant" or kind == "open") and _class_of(value) == "object"
    ]
    for cls in type(place.module).__mro__:
        if cls.__module__ == _HOME:
            break
        for name in _data_names(cls):
            if all(path[0] != name for _, path, _ in place.events):
                found.append((f"{cls.__name__}.{name}", [vars(cls)[name]]))
    return found


def _data_names(cls: type) -> tuple[str, ...]:
    """Return the attributes of a class that are no code; again where it has got more of them."""
    count, names = _data.get(cls) or (-1, ())
    if count != len(vars(cls)):
        names = tuple(
            name
            for name, value in vars(cls).items()
            if not name.startswith("__")
            and name != "_abc_impl"
            and _class_of(value) not in ("plain", "code")
        )
        _data.remember(cls, (len(vars(cls)), names))
    return names


_data = _ByClass[tuple[int, tuple[str, ...]]]()


def is_item_by_item(value: Any) -> bool:
    """Return whether a container has items of its own, rather than those its pytree gives it."""
    return _class_of(value) != "object"


def _hidden(value: Any) -> Iterator[Any]:
    """Yield the trainable tensors and the modules that an object holds, itself or in containers."""
    seen: set[int] = set()
    stack: list[Any] = [*_parts(value)]
    while stack:
        item = stack.pop()
        if id(item) in seen or type(item) in _PLAIN:
            continue
        seen.add(id(item))
        if is_trainable(item) or is_module(item):
            yield item
        elif isinstance(item, _CLOSED):
            stack += _parts(item)
        else:
            stack += [x for _, x in contents(item) or ()]


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, types.MappingProxyType):
        return [*value.values()]
    if isinstance(value, (*_CLOSED, list)):
        return [*value]
    parts = [*getattr(value, "__dict__", {}).values()]
    parts += [getattr(value, name) for name in slot_names(type(value)) if hasattr(value, name)]
    if isinstance(value, functools.partial):
        parts += [*value.args, *value.keywords.values()]
    return parts


def _is_left_out(module: Module, modules: set[int]) -> bool:
    """Return whether a hidden module has tensors of its own, and is no parent of those found."""
    places = survey(module, check=False)
    if any(id(place.module) in modules for place in places):
        return False
    return any(kind in _TENSORS for place in places for kind, _, _ in place.events)


def _hidden_message(place: Place, name: str, value: Any, item: Any) -> str:
    what = "a module with parameters" if is_module(item) else "a tensor that requires grad"
    where = f"[{type(place.module).__name__}] {place.prefix}{name}"
    if isinstance(value, list):  # see _unopened
        return (
            f"{where} is {what} on the class, no parameter of the instance: assign it in __init__"
        )
    return (
        f"{where} is a {type(value).__name__} and holds {what}, which would be no parameter: keep "
        "it in a Module, list, tuple, dict or dataclass, or outside of the module"
    )


def slot_names(cls: type) -> tuple[str, ...]:
    known = _slots.get(cls)
    return _slots.remember(cls, tuple(_slot_names(cls))) if known is None else known


_slots = _ByClass[tuple[str, ...]]()


def _slot_names(cls: type) -> Iterator[str]:
    for base in reversed(cls.__mro__):
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name
