"""The base of everything with parameters.

A module is an ordinary object. Assigning a tensor that requires a gradient makes a parameter of it,
assigning a module makes a submodule, wherever they sit in lists, tuples, dicts and dataclasses; the
values stay ordinary attributes, found again by walking them. Every module class is also a pytree
whose leaves are the parameters, so transformations and pure optimizers take a model where they take
a dict.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.nn import _pytree
from adjoint.nn._walk import (
    Holder,
    attributes,
    contents,
    dotted,
    events,
    events_of,
    is_module,
    is_plain,
    is_trainable,
    slot_names,
    state_names,
    survey,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Module"]

# Functions that are told of each module called and what it gave, while `summary` runs.
observers: list[Callable[[Module, Any], None]] = []


class Module(Holder, abc.ABC):
    """Base class of models and layers; a subclass defines `forward`.

    A *parameter* is a leaf that requires grad and that is assigned to an attribute, or put into a
    list, tuple, dict or dataclass there; after ``requires_grad_(False)`` it is a frozen one. What
    an operation made is no leaf, so an activation kept as an attribute is nothing to the module. A
    *buffer* is state without a gradient, such as a running mean; see `register_buffer`.

    Attributes
    ----------
    training : bool
        True from the start and after `train`, False after `eval`.

    Examples
    --------
    >>> import adjoint as ad
    >>> class Line(ad.nn.Module):
    ...     def __init__(self):
    ...         self.slope = ad.tensor(2.0, requires_grad=True)
    ...         self.offset = ad.tensor(1.0, requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.slope + self.offset
    >>> line = Line()
    >>> line(3.0).item()
    7.0
    >>> list(line.state_dict())
    ['slope', 'offset']
    >>> ad.grad(lambda model: model(3.0))(line).slope.item()
    3.0
    """

    training: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args, **kwargs)
        object.__setattr__(self, "training", True)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ad.tree.register(cls, _pytree.flatten, _pytree.unflatten)

    def __setattr__(self, name: str, value: Any) -> None:
        registry = self._registry
        if name in registry.buffers:
            self._assign_buffer(name, value)
            return
        kinds: Collection[str] = ()
        if not is_plain(value):
            found = events_of(self, [(name, value)])  # which sees the parameters in it
            kinds = {kind for kind, _, _ in found}
        if is_trainable(vars(self).get(name)):
            self._refuse_to_lose(name, value, kinds)
        if registry.slots:
            registry.forget(name, value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._registry.buffers.pop(name, None)
        self._registry.forget(name)

    def __copy__(self) -> Self:
        other = Holder.__new__(type(self))
        for name, value in attributes(self):
            object.__setattr__(other, name, value)
        object.__setattr__(other, "_registry", self._registry.copy())
        return other

    @abc.abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; called by ``module(...)``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        for observe in observers:
            observe(self, output)
        return output

    # ---- Registering -----------------------------------------------------------------------------

    def register_parameter(self, name: str, parameter: ad.Tensor | None) -> None:
        """Assign a parameter; as by ``self.name = parameter``, but a frozen one is taken too.

        Parameters
        ----------
        name : str
        parameter : Tensor or None
            A floating leaf. None makes an attribute that is no parameter.
        """
        op = f"{type(self).__name__}.register_parameter"
        self._check_name(op, name)
        if parameter is not None:
            if not isinstance(parameter, ad.Tensor):
                raise TypeError(f"[{op}] {name!r} is a {type(parameter).__name__}, not a Tensor")
            if not ad.isdtype(parameter.dtype, "real floating"):
                raise TypeError(
                    f"[{op}] {name!r} of dtype {parameter.dtype} can have no gradient: use "
                    "register_buffer for state"
                )
            if not parameter.is_leaf:
                raise ValueError(
                    f"[{op}] {name!r} is the result of an operation, not a leaf: give "
                    "x.detach().requires_grad_()"
                )
        self._registry.buffers.pop(name, None)
        self._registry.forget(name)
        object.__setattr__(self, name, parameter)
        if parameter is not None:
            self._registry.see(parameter)

    def register_buffer(self, name: str, tensor: ad.Tensor | None, persistent: bool = True) -> None:
        """Assign a buffer: a tensor that is state of the module, but no parameter.

        ``self.name`` is then one handle for good: assigning to it gives the handle the new value,
        which every transform and every compiled step sees, as it does ``self.name += x``. Do both
        under ``ad.no_grad()`` where the new value depends on parameters, or the buffer keeps that
        history.

        Parameters
        ----------
        name : str
        tensor : Tensor or None
            The first value, without history. None is a place to register or to delete later.
        persistent : bool, default True
            Whether it is in `state_dict`.

        Examples
        --------
        >>> import adjoint as ad
        >>> class Center(ad.nn.Module):
        ...     def __init__(self, size):
        ...         self.register_buffer("mean", ad.zeros(size))
        ...     def forward(self, x):
        ...         if self.training:
        ...             with ad.no_grad():
        ...                 self.mean = 0.5 * self.mean + 0.5 * ad.mean(x, axis=0)
        ...         return x - self.mean
        >>> center = Center(2)
        >>> center(ad.tensor([[2.0, 4.0]])).tolist()
        [[1.0, 2.0]]
        >>> center.state_dict()["mean"].tolist()
        [1.0, 2.0]
        """
        op = f"{type(self).__name__}.register_buffer"
        self._check_name(op, name)
        persistent = check_flag(op, "persistent", persistent)
        if is_trainable(vars(self).get(name)):
            raise ValueError(f"[{op}] {name!r} is a parameter: delete the attribute first")
        if tensor is not None:
            if not isinstance(tensor, ad.Tensor):
                raise TypeError(
                    f"[{op}] {name!r} is a {type(tensor).__name__}, not a Tensor: use ad.asarray"
                )
            if tensor.requires_grad:
                raise ValueError(
                    f"[{op}] {name!r} requires grad: give x.detach(), or register_parameter"
                )
        self._registry.forget(name)
        object.__setattr__(self, name, tensor)
        self._registry.buffers[name] = persistent

    def _refuse_to_lose(self, name: str, value: Any, kinds: Collection[str]) -> None:
        if value is None or not {"parameter", "frozen", "module"}.isdisjoint(kinds):
            return
        what = "a tensor that is" if isinstance(value, ad.Tensor) else f"a {type(value).__name__},"
        raise TypeError(
            f"[{type(self).__name__}] {name!r} is a parameter and would become {what} none: to "
            f"change its value use rebind_ under ad.no_grad(), else `del self.{name}` first"
        )

    def _check_name(self, op: str, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"[{op}] a name is a str, not a {type(name).__name__}")
        if not name or "." in name:
            raise ValueError(f"[{op}] {name!r} is no name: it must not be empty nor hold a dot")
        of_class = getattr(type(self), name, None)
        if name not in slot_names(type(self)) and (
            callable(of_class) or isinstance(of_class, property)
        ):
            raise ValueError(f"[{op}] {name!r} is a method of the class: take another name")
        value = vars(self).get(name)
        if name in ("_registry", "training") or is_module(value) or contents(value):
            raise ValueError(f"[{op}] {name!r} is taken: delete the attribute first")

    def _assign_buffer(self, name: str, value: Any) -> None:
        where = f"[{type(self).__name__}] buffer {name!r}"
        buffer = vars(self)[name]
        if value is buffer:  # after self.name += x
            return
        if value is not None and not isinstance(value, ad.Tensor):
            raise TypeError(
                f"{where} takes a Tensor, not a {type(value).__name__}: give ad.asarray(x), or "
                "delete the attribute first"
            )
        if value is None or buffer is None:
            self.register_buffer(name, value, self._registry.buffers[name])
            return
        if value.shape != buffer.shape:
            raise ValueError(
                f"{where} keeps its shape: shapes {buffer.shape} and {value.shape}; for another "
                "one register it again"
            )
        if value.dtype != buffer.dtype:
            raise TypeError(
                f"{where} keeps its dtype: {buffer.dtype} and {value.dtype}; convert with ad.astype"
            )
        buffer.rebind_(value)

    # ---- Walking ---------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the direct submodules with their names; those in a list are ``name.0``, ..."""
        return ((dotted(path), value) for kind, path, value in events(self) if kind == "module")

    def modules(self) -> Iterator[Module]:
        """Yield this module and every module inside it, each once, parents first."""
        return (place.module for place in survey(self, check=False))

    def named_parameters(self) -> Iterator[tuple[str, ad.Tensor]]:
        """Yield each parameter once with its dotted name, the frozen ones too.

        The order is that of assignment, those of a module before those of its submodules.

        Raises
        ------
        TypeError
            If an attribute cannot be looked into, such as a set or an object of a class of one's
            own, and a parameter is in it.
        """
        return self._named_once("parameter", "frozen")

    def parameters(self) -> Iterator[ad.Tensor]:
        """Yield each parameter once, as `named_parameters` does."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, ad.Tensor]]:
        """Yield each buffer once with its dotted name, those outside of `state_dict` too."""
        return self._named_once("buffer")

    def buffers(self) -> Iterator[ad.Tensor]:
        """Yield each buffer once, as `named_buffers` does."""
        return (buffer for _, buffer in self.named_buffers())

    def _named_once(self, *kinds: str) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for place in survey(self):
            for kind, path, value in place.events:
                if kind in kinds and id(value) not in seen:
                    seen.add(id(value))
                    yield place.prefix + dotted(path), value

    # ---- State -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of parameters and buffers by dotted name; later steps do not change it.

        A shared one is there under each of its names.
        """
        return {name: tensor.detach() for name, tensor in state_names(self)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Give parameters and buffers the values of a snapshot, keeping their handles.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array
        strict : bool, default True
            Demand the same names on both sides; otherwise take what is common to both.

        Raises
        ------
        KeyError, ValueError, TypeError
            If names (when strict), shapes or dtypes differ, or if what the model shares has two
            values. Nothing is changed then.
        """
        where = f"[{type(self).__name__}.load_state_dict]"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{where} takes a mapping, not a {type(state_dict).__name__}")
        strict = check_flag(f"{type(self).__name__}.load_state_dict", "strict", strict)
        own = dict(state_names(self))
        missing = [name for name in own if name not in state_dict]
        unknown = [name for name in state_dict if name not in own]
        if strict and (missing or unknown):
            raise KeyError(
                f"{where} missing {missing}, unknown {unknown}: load it into the model that saved "
                "it, or pass strict=False to take what both have"
            )
        values = {name: ad.asarray(state_dict[name]) for name in own if name in state_dict}
        chosen: dict[int, tuple[str, ad.Tensor]] = {}
        for name, value in values.items():
            _check_like(f"{where} {name!r}", value, own[name])
            first, other = chosen.setdefault(id(own[name]), (name, value))
            if not _same_values(other, value):
                raise ValueError(
                    f"{where} {first!r} and {name!r} are one tensor in the model and have two "
                    "values in the snapshot"
                )
        with ad.no_grad():
            for name, value in values.items():
                own[name].rebind_(value)

    # ---- Modes -----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in every submodule; return the module."""
        mode = check_flag(f"{type(self).__name__}.train", "mode", mode)
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Self:
        """Leave training mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze every parameter, or thaw it; return the module.

        A frozen parameter stays one: it is in `parameters` and `state_dict`. Optimizers leave it
        alone, and it is no leaf of the pytree, so transforms do too.
        """
        requires_grad = check_flag(
            f"{type(self).__name__}.requires_grad_", "requires_grad", requires_grad
        )
        for place in survey(self):
            registry = place.module._registry
            for kind, path, value in place.events:
                if kind in ("parameter", "frozen") and isinstance(value, ad.Tensor):
                    value.requires_grad_(requires_grad)
                    registry.see(value)
                    registry.slots.pop(path, None)
        return self

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter: each ``grad`` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    # ---- Printing --------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what the printed form shows between the parentheses, for a layer's settings."""
        return ""

    def __repr__(self) -> str:
        lines: list[str] = []
        seen: set[int] = set()
        stack: list[tuple[str, Module] | str] = [("", self)]
        while stack:
            top = stack.pop()
            if isinstance(top, str):
                lines.append(top)
                continue
            label, module = top
            pad = " " * (len(label) - len(label.lstrip()))
            children = list(module.children())
            if type(module).__repr__ is not Module.__repr__:
                lines.append(label + repr(module).replace("\n", "\n" + pad))
            elif children and id(module) in seen:
                lines.append(f"{label}{type(module).__name__}(...)")
            else:
                seen.add(id(module))
                settings = module.extra_repr().replace("\n", "\n" + pad)
                lines.append(f"{label}{type(module).__name__}({settings}" + ")" * (not children))
                stack += [pad + ")"] * bool(children)
                stack += [(f"{pad}  ({name}): ", child) for name, child in reversed(children)]
        return "\n".join(lines)


def _check_like(where: str, value: ad.Tensor, own: ad.Tensor) -> None:
    if value.shape != own.shape:
        raise ValueError(f"{where} has shape {value.shape}, the model's has {own.shape}")
    if value.dtype != own.dtype:
        raise TypeError(
            f"{where} has dtype {value.dtype}, the model's has {own.dtype}: convert it with "
            "ad.astype, or build the model with that dtype="
        )


def _same_values(left: ad.Tensor, right: ad.Tensor) -> bool:
    if left is right:
        return True
    same = (left == right) | ((left != left) & (right != right))
    return left.shape == right.shape and bool(ad.all(same).item())
