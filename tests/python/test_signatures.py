"""What `inspect.signature` and `help` say of every public name."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import types
from collections.abc import Iterator
from typing import Any

import pytest

import adjoint as ad


def public(module: types.ModuleType, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in sorted(vars(module)):
        value = vars(module)[name]
        if name.startswith("_"):
            continue
        if isinstance(value, types.ModuleType):
            if value.__name__.startswith("adjoint.") and value.__name__.count(".") == 1:
                yield from public(value, f"{prefix}.{name}")
        elif callable(value) and getattr(value, "__module__", "").startswith("adjoint"):
            yield f"{prefix}.{name}", value
            if isinstance(value, type):
                for attribute in sorted(vars(value)):
                    member = getattr(value, attribute)
                    if not attribute.startswith("_") and callable(member):
                        yield f"{prefix}.{name}.{attribute}", member


for part in ("io", "nn", "optim", "random", "testing", "tree"):
    importlib.import_module(f"adjoint.{part}")
NAMES = dict(public(ad, "ad"))


def can_be_called(value: Any) -> bool:
    """Classes that only the library makes instances of have no signature; exceptions Python's."""
    if not isinstance(value, type):
        return True
    if issubclass(value, BaseException):
        return False
    try:
        value()
    except TypeError as error:
        return "cannot create" not in str(error) and "no constructor" not in str(error)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_signature(name: str) -> None:
    value = NAMES[name]
    if can_be_called(value):
        parameters = inspect.signature(value).parameters
        assert all(p.annotation != "object" for p in parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_help(name: str) -> None:
    if not isinstance(NAMES[name], type):  # of a class it prints the bases, pybind11's among them
        text = pydoc.plain(pydoc.render_doc(NAMES[name]))
        assert "pybind11" not in text and ": object" not in text, text
    assert (NAMES[name].__doc__ or "").strip(), f"{name} has no docstring"


def test_the_names_are_found() -> None:
    assert {"ad.grad", "ad.tree.map", "ad.nn.Linear.forward", "ad.Tensor.backward"} < NAMES.keys()
    assert str(inspect.signature(ad.hvp)) == "(f, x, v)"
    assert str(inspect.signature(ad.vmap)) == "(f, in_axes=0, out_axes=0)"
    assert str(inspect.signature(ad.deferral)) == "(enabled)"
