"""How functions made of functions are pickled and copied: as functions are, or made again.

What a module holds by its own name, as where `compile` or `grad` decorates a definition, is pickled
by that name. Any other is what its maker makes of the pickled function and options, so that
``ad.grad(f)`` pickles where `f` does. A copy is the function itself; a deep copy is made again only
where the function inside is copied, as the method of an object is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from copy import deepcopy
from types import MethodType
from typing import Any

from adjoint._arguments import check_kind

__all__ = ["Made", "PickledByName"]


def name_of(made: Any) -> str | None:
    """Return the name by which its module holds an object, or None."""
    module = sys.modules.get(getattr(made, "__module__", None) or "")
    name: str | None = getattr(made, "__qualname__", None)
    found: Any = module
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return name if name and found is made else None


def reduced(made: Any) -> str | tuple[Any, ...]:
    """Return what `__reduce__` does."""
    return name_of(made) or (_made, made._recipe())


def copied(made: Any, memo: dict[int, Any]) -> Any:
    """Return what `__deepcopy__` does."""
    check_kind("deepcopy", "memo", memo, dict)
    make, args, kwargs = made._recipe()
    again = deepcopy(args, memo)
    return made if again[0] is args[0] or name_of(made) else make(*again, **kwargs)


def _made(make: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return make(*args, **kwargs)


class PickledByName:
    """Base of what is kept by name where it decorates a definition, else by its attributes."""

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        return name_of(self) or super().__reduce_ex__(protocol)


class Made:
    """The function that `make` makes of `f`, which looks like `f`.

    Parameters
    ----------
    call : callable
        What it does.
    f : callable
    make : callable
        Makes the same again, as ``make(f, *args, **kwargs)``.
    """

    def __init__(
        self, call: Callable[..., Any], f: Callable[..., Any], make: Any, *args: Any, **kwargs: Any
    ) -> None:
        functools.update_wrapper(self, f)
        self._call = call
        self._how = make, args, kwargs

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{getattr(self._how[0], '__name__', 'function')} of {vars(self)['__wrapped__']!r}>"

    def _recipe(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        make, args, kwargs = self._how
        return make, (vars(self)["__wrapped__"], *args), kwargs

    def __copy__(self) -> Made:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copied(self, memo)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return reduced(self)
