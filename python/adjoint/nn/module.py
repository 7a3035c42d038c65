"""The base of everything with parameters.

A module is an ordinary object. Assigning a Tensor that requires a gradient makes a parameter of it,
assigning a module (or a list, tuple or dict of modules) makes a submodule; the values stay ordinary
attributes, found again by walking them. Every module class is also a pytree whose leaves are the
parameters, so transformations and pure optimizers take a model where they take a dict.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import adjoint as ad

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Module"]


class Module(abc.ABC):
    """Base class of models and layers; a subclass defines `forward`.

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
    _parameter_names: dict[str, None]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        # Here rather than in __init__, so that a subclass need not call super().__init__().
        self = super().__new__(cls)
        object.__setattr__(self, "_parameter_names", {})
        object.__setattr__(self, "training", True)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ad.tree.register(cls, _flatten, _unflatten)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ad.Tensor):
            if value.requires_grad:
                self._parameter_names[name] = None
        else:
            self._parameter_names.pop(name, None)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._parameter_names.pop(name, None)

    @abc.abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; called by ``module(...)``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the direct submodules with their names; those in a list are ``name.0``, ..."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif _holds_modules(value):
                for key, module in _items(value):
                    yield f"{name}.{key}", module

    def modules(self) -> Iterator[Module]:
        """Yield this module and every module inside it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_parameters(self) -> Iterator[tuple[str, ad.Tensor]]:
        """Yield each parameter once with its dotted name, in the order of assignment."""
        seen: set[int] = set()
        for name, parameter in self._named():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[ad.Tensor]:
        """Yield each parameter once, in the order of assignment."""
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of the parameters by dotted name; later steps do not change it."""
        return {name: parameter.detach() for name, parameter in self._named()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Give the parameters the values of a snapshot, keeping their handles.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array
        strict : bool, default True
            Demand the same names on both sides; otherwise take what is common to both.

        Raises
        ------
        KeyError, ValueError, TypeError
            If names (when strict), shapes or dtypes differ. Nothing is changed then.
        """
        where = f"[{type(self).__name__}.load_state_dict]"
        own = dict(self._named())
        missing = [name for name in own if name not in state_dict]
        unknown = [name for name in state_dict if name not in own]
        if strict and (missing or unknown):
            raise KeyError(
                f"{where} missing parameters {missing}, unknown parameters {unknown}: load it into "
                "the model that saved it, or pass strict=False to take what both have"
            )
        values = {name: ad.asarray(state_dict[name]) for name in own if name in state_dict}
        for name, value in values.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{where} {name!r} has shape {value.shape}, the model's has {own[name].shape}"
                )
            if value.dtype != own[name].dtype:
                raise TypeError(
                    f"{where} {name!r} has dtype {value.dtype}, the model's has {own[name].dtype}: "
                    "convert it with ad.astype, or build the model with that dtype="
                )
        with ad.no_grad():
            for name, value in values.items():
                own[name].rebind_(value)

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in every submodule; return the module."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Self:
        """Leave training mode: ``train(False)``."""
        return self.train(False)

    def extra_repr(self) -> str:
        """Return what the printed form shows between the parentheses, for a layer's settings."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.children():
            lines.append(f"  ({name}): " + repr(child).replace("\n", "\n  "))
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ")" if not lines else "\n".join([head, *lines, ")"])

    def _named(self) -> Iterator[tuple[str, ad.Tensor]]:
        """Yield every (name, parameter), a shared one under each of its names."""
        for name in self._parameter_names:
            yield name, getattr(self, name)
        for prefix, child in self.children():
            for name, parameter in child._named():
                yield f"{prefix}.{name}", parameter


def _holds_modules(value: Any) -> bool:
    if not isinstance(value, (list, tuple, dict)) or not value:
        return False
    return all(isinstance(entry, Module) for _, entry in _items(value))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value))


class _Frame:
    """All of a module but its leaves: what two modules must share to have the same structure."""

    def __init__(self, module: Module) -> None:
        self.cls = type(module)
        self.names: list[str] = []
        self.rest: dict[str, Any] = {}
        for name, value in vars(module).items():
            dynamic = (
                name in module._parameter_names
                or isinstance(value, Module)
                or _holds_modules(value)
            )
            if dynamic:
                self.names.append(name)
            else:
                self.rest[name] = value
        self.rest["_parameter_names"] = dict(module._parameter_names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Frame):
            return NotImplemented
        return (
            self.cls is other.cls
            and self.names == other.names
            and self.rest.keys() == other.rest.keys()
            and all(_same(value, other.rest[name]) for name, value in self.rest.items())
        )

    def __hash__(self) -> int:
        return hash((self.cls, tuple(self.names)))


def _same(left: Any, right: Any) -> bool:
    # Identity first: an array or a Tensor kept as a setting has no truth value when compared.
    return left is right or (not isinstance(left, ad.Tensor) and bool(left == right))


def _flatten(module: Module) -> tuple[list[Any], _Frame]:
    frame = _Frame(module)
    return [getattr(module, name) for name in frame.names], frame


def _unflatten(frame: _Frame, children: list[Any]) -> Module:
    module = frame.cls.__new__(frame.cls)
    for name, value in {**frame.rest, **dict(zip(frame.names, children, strict=True))}.items():
        object.__setattr__(module, name, value)
    object.__setattr__(module, "_parameter_names", dict(frame.rest["_parameter_names"]))
    return module
