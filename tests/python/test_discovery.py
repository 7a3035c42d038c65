"""What a user finds by typing: tab completion, misspelt names, the words of errors."""

from __future__ import annotations

import importlib
import types
from typing import Any

import pytest

import adjoint as ad

MODULES = (
    "adjoint",
    "adjoint.examples",
    "adjoint.examples.digits",
    "adjoint.examples.first_steps",
    "adjoint.io",
    "adjoint.linalg",
    "adjoint.nn",
    "adjoint.nn.functional",
    "adjoint.optim",
    "adjoint.optim.search",
    "adjoint.plot",
    "adjoint.random",
    "adjoint.testing",
    "adjoint.tree",
)


def test_every_module_is_listed() -> None:
    """Whatever is a module in the public names of one that is listed."""
    for name in MODULES:
        module = importlib.import_module(name)
        for entry in dir(module):
            if isinstance(getattr(module, entry), types.ModuleType):
                assert f"{name}.{entry}" in MODULES or f"adjoint.{entry}" in MODULES, entry


@pytest.mark.parametrize("name", MODULES)
def test_completion_shows_public_names_only(name: str) -> None:
    module = importlib.import_module(name)
    offered = [entry for entry in dir(module) if not entry.startswith("__")]
    public = [entry for entry in getattr(module, "__all__", ()) if not entry.startswith("__")]
    assert offered == sorted(public)
    for entry in offered:
        assert not entry.startswith("_")
        home = getattr(getattr(module, entry), "__module__", None) or "adjoint"
        assert home.split(".")[0] == "adjoint", f"{entry} is from {home}"


def test_a_tensor_offers_public_names_only() -> None:
    assert [n for n in dir(ad.ones(2)) if n.startswith("_") and not n.startswith("__")] == []


UNKNOWN = [
    ("ad.summ", r"'adjoint' has no attribute 'summ': the nearest names are ad\.sum"),
    ("ad.jit", r"the name here is ad\.compile"),
    ("ad.optim.adam", "the name here is Adam"),
    ("ad.linalg.solv", r"'adjoint\.linalg' has no attribute 'solv': the nearest names are solve"),
    ("ad.linalg.logsumexp", r": it is ad\.logsumexp"),
    ("ad.random.randn", ": the name here is normal"),
    ("ad.random.default_rng", ": the name here is Generator"),
    ("ad.nn.Parameter", r": the name here is ad\.tensor\(\.\.\., requires_grad=True\)"),
    ("ad.nn.Linaer", ": the nearest names are Linear"),
    ("ad.nn.softmax", r": it is ad\.softmax"),
    ("ad.tree.tree_map", ": the name here is map"),
    ("ad.io.safe", ": the nearest names are save"),
    ("ad.testing.gradcheck", ": the name here is check_grads"),
    ("ad.tree._nothing", "'_nothing'$"),
]


@pytest.mark.parametrize(("expression", "message"), UNKNOWN)
def test_a_name_that_is_not_there_leads_to_one_that_is(expression: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        eval(expression)


@pytest.mark.parametrize("name", ["Compiled", "Explanation", "Graph", "Program", "TreeDef"])
def test_what_only_the_library_makes_says_so(name: str) -> None:
    cls: Any = getattr(ad, name)
    with pytest.raises(TypeError, match=name) as raised:
        cls()
    assert "constructor defined" not in str(raised.value)


def test_a_wrong_call_is_told_in_words_of_our_own() -> None:
    with pytest.raises(TypeError) as raised:
        ad.vmap(ad.sin, in_dims=0)  # type: ignore[call-arg]
    text = str(raised.value)
    assert text.startswith("[vmap] takes (f, in_axes=0, out_axes=0), got (")
    assert "in_dims=int" in text
