"""What a module holds: its attributes, and the containers in them, visited without recursion.

A tensor is a parameter where it is a leaf that requires grad, where it was one before it was
frozen, or where a pytree was put together with it as a leaf. Lists, tuples, named tuples, dicts,
dataclasses and registered pytrees are looked into; a module is visited once, whichever way leads
to it, so that shared modules and pointers to a parent are no trouble.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeGuard

import adjoint as ad
from adjoint.optim import Optimizer

if TYPE_CHECKING:
    from typing_extensions import Self

    from adjoint.nn.module import Module

__all__: list[str] = []

Path = tuple[Any, ...]  # the attribute, then a key per container
Kind = Literal["parameter", "frozen", "buffer", "module", "constant", "open", "close"]

_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
_CODE = (
    type,
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    # They refer to parameters that have their place elsewhere.
    Optimizer,
    ad.GradientTape,
)
_CLOSED = (set, frozenset, collections.deque, types.MappingProxyType)


class Event(NamedTuple):
    """One thing found in a module; a container is opened, then its items come, then it closes."""

    kind: Kind
    path: Path
    value: Any

    @property
    def name(self) -> str:
        """The dotted name inside the module."""
        return ".".join(map(str, self.path))


class Registry:
    """What a module knows of its attributes beyond their values."""

    def __init__(self) -> None:
        self.buffers: dict[str, bool] = {}  # name -> whether it belongs to the state
        # Where a pytree was put together with a leaf, which may be anything, and which leaf it was.
        self.slots: dict[Path, object] = {}
        # Tensors that were parameters when they were last seen, so that freezing loses none.
        self._seen: weakref.WeakValueDictionary[int, ad.Tensor] = weakref.WeakValueDictionary()

    def see(self, tensor: ad.Tensor) -> None:
        """Keep in mind that a tensor is a parameter of the module."""
        self._seen[id(tensor)] = tensor

    def has_seen(self, tensor: ad.Tensor) -> bool:
        return self._seen.get(id(tensor)) is tensor

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
        return dict(self.buffers), dict(self.slots), list(self._seen.values())

    def __setstate__(
        self, state: tuple[dict[str, bool], dict[Path, object], list[ad.Tensor]]
    ) -> None:
        self.buffers, self.slots, seen = state
        self._seen = weakref.WeakValueDictionary((id(x), x) for x in seen)


class Holder(abc.ABC):
    """What a `Module` is to the walk; here so that this file need not import it."""

    _registry: Registry

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"[{cls.__name__}] takes no arguments")
        # Here rather than in __init__, so that a subclass need not call super().__init__().
        self = super().__new__(cls)
        object.__setattr__(self, "_registry", Registry())
        return self


def is_module(value: Any) -> TypeGuard[Module]:
    return isinstance(value, Holder)


def is_trainable(value: Any) -> bool:
    """Return whether a value is a tensor that gradients accumulate in."""
    return isinstance(value, ad.Tensor) and value.requires_grad and value.is_leaf


def attributes(module: Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that a module was given, those in slots of its class too."""
    for name, value in vars(module).items():
        if name != "_registry":
            yield name, value
    for name in slot_names(type(module)):
        if hasattr(module, name):
            yield name, getattr(module, name)


def events(module: Module) -> list[Event]:
    """Return what a module holds itself, in the order of assignment."""
    return events_of(module, attributes(module))


def events_of(module: Module, named: Iterable[tuple[str, Any]]) -> list[Event]:
    """Return what these attributes of a module hold, whether or not they are assigned yet."""
    found: list[Event] = []
    registry = module._registry
    above = {path[:k] for path in registry.slots for k in range(1, len(path))}
    inside: set[int] = set()  # the containers that are open
    stack: list[Event] = [Event("open", (name,), value) for name, value in named]
    stack.reverse()
    while stack:
        event = stack.pop()
        path, value = event.path, event.value
        if event.kind == "close":
            inside.discard(id(value))
            found.append(event)
            continue
        kind = _kind(registry, path, value)
        items = None
        if kind == "constant" and (path in above or not _is_plain(value)):
            items = contents(value)
        if items is None:
            found.append(Event(kind, path, value))
            continue
        if id(value) in inside:
            raise ValueError(
                f"[{type(module).__name__}] the container at {event.name!r} holds itself"
            )
        inside.add(id(value))
        found.append(event)
        stack.append(Event("close", path, value))
        stack += [Event("open", (*path, key), item) for key, item in reversed(items)]
    return found


def _kind(registry: Registry, path: Path, value: Any) -> Kind:
    if path in registry.slots:
        return "parameter"
    if isinstance(value, ad.Tensor):
        if len(path) == 1 and path[0] in registry.buffers:
            return "buffer"
        if is_trainable(value):
            registry.see(value)
            return "parameter"
        return "frozen" if registry.has_seen(value) else "constant"
    return "module" if is_module(value) else "constant"


def _is_plain(value: Any) -> bool:
    """Return whether nothing can be in a value, at the speed of C for long lists of numbers."""
    kind = type(value)
    return kind in _PLAIN or (
        (kind is list or kind is tuple) and _PLAIN.issuperset(map(type, value))
    )


def contents(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the items of a container with their keys, None of what is not looked into."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, (ad.Tensor, Holder)):
        return None
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, _CODE):
        return None
    if dataclasses.is_dataclass(value):
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

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((event.name, event.value) for event in self.events if event.kind == "module")


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
        place = Place(prefix, module, events(module))
        places.append(place)
        stack += [(f"{prefix}{name}.", child) for name, child in reversed([*place.children()])]
    if check:
        _refuse_hidden(places, seen)
    return places


def state_names(root: Module) -> list[tuple[str, ad.Tensor]]:
    """Return parameters and lasting buffers under each of their names.

    Modules that refer to each other in a loop have the first of their names only.
    """
    known = {id(place.module): place for place in survey(root)}
    found: list[tuple[str, ad.Tensor]] = []
    path: dict[int, None] = {}
    done: set[int] = set()
    looping: set[int] = set()
    stack: list[tuple[str, Module] | None] = [("", root)]  # None: the last module of path is done
    while stack:
        top = stack.pop()
        if top is None:
            done.add(path.popitem()[0])
            continue
        prefix, module = top
        if id(module) in path or (id(module) in done and id(module) in looping):
            looping.update(path)
            continue
        place = known[id(module)]
        path[id(module)] = None
        found += [
            (prefix + event.name, event.value) for event in place.events if _lasts(place, event)
        ]
        stack.append(None)
        stack += [(f"{prefix}{name}.", child) for name, child in reversed([*place.children()])]
    counts = collections.Counter(name for name, _ in found)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"[{type(root).__name__}] two tensors have the name {twice[0]!r}: rename an attribute "
            "or a key"
        )
    return found


def _lasts(place: Place, event: Event) -> bool:
    if event.kind == "buffer":
        return place.module._registry.buffers[event.path[0]]
    return event.kind in ("parameter", "frozen")


def _is_tensor(event: Event) -> bool:
    return event.kind in ("parameter", "frozen", "buffer")


# ---- What cannot be registered -------------------------------------------------------------------


def _refuse_hidden(places: list[Place], modules: set[int]) -> None:
    own = {id(e.value) for place in places for e in place.events if _is_tensor(e)}
    for place in places:
        for name, value in _unopened(place):
            for item in _hidden(value):
                if id(item) in own or id(item) in modules:
                    continue
                if is_module(item) and not _is_left_out(item, modules):
                    continue
                raise TypeError(_hidden_message(place, name, value, item))


def _unopened(place: Place) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a module that were not looked into, and what its class holds."""
    for event in place.events:
        registered = event.kind == "open" and not is_item_by_item(event.value)
        if registered or (event.kind == "constant" and type(event.value) not in _PLAIN):
            yield event.name, event.value
    own = {event.path[0] for event in place.events}
    for cls in type(place.module).__mro__:
        if cls is Holder:
            break
        for name, value in vars(cls).items():
            if name not in own and type(value) not in _PLAIN and not isinstance(value, _CODE):
                yield f"{cls.__name__}.{name}", [value]


def is_item_by_item(value: Any) -> bool:
    """Return whether a container has items of its own, rather than those its pytree gives it."""
    return isinstance(value, (dict, list, tuple)) or dataclasses.is_dataclass(value)


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
    if isinstance(value, _CODE) or isinstance(value, ad.Tensor):
        return ()
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
    return any(_is_tensor(event) for place in places for event in place.events)


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
    names: list[str] = []
    for base in reversed(cls.__mro__):
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name in ("__dict__", "__weakref__"):
                continue
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(names)
