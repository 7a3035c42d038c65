"""The tables for those who come from other libraries: every name on our side exists and is called
as it can be.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import adjoint as ad

PAGE = Path(__file__).resolve().parents[2] / "python" / "docs" / "coming_from.md"
HEAD = re.compile(r"^\| [A-Z].* \| here \|", re.MULTILINE)


def cells() -> list[str]:
    """The pieces of code in the second column of every table of equivalents."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not HEAD.match(line):
            _, _, ours, _, _ = re.split(r"(?<!\\)\|", line)
            found += re.findall(r"`([^`]+)`", ours)
    return found


def resolve(node: ast.expr) -> Any:
    """What `ad.a.b`, or an attribute of a tensor `x`, stands for; None of a local name."""
    if isinstance(node, ast.Name):
        return {"ad": ad, "x": ad.Tensor, "y": ad.Tensor}.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolve(node.value)
        if owner is None and isinstance(node.value, ast.Subscript):  # x.at[i].add
            return getattr(type(ad.zeros(2).at[0]), node.attr)
        return None if owner is None else getattr(owner, node.attr)
    return None


def test_there_are_tables_of_four_libraries() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(HEAD.findall(text)) == 4
    assert len(cells()) > 180


@pytest.mark.parametrize("cell", sorted(set(cells())))
def test_what_stands_on_our_side_exists(cell: str) -> None:
    for node in ast.walk(ast.parse(cell)):
        if isinstance(node, ast.Attribute):
            resolve(node)
        if isinstance(node, ast.Call):
            f = resolve(node.func)
            if f is not None:
                check_call(f, node)


def check_call(f: Any, call: ast.Call) -> None:
    """That the arguments fit the signature: how many by position, which names."""
    owner = () if inspect.isclass(f) or not is_method(call) else (None,)
    signature = inspect.signature(f)
    keywords = {k.arg: None for k in call.keywords if k.arg}
    signature.bind(*owner, *[None] * len(call.args), **keywords)


def is_method(call: ast.Call) -> bool:
    """Whether it is called on a tensor, rather than found in a module."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return isinstance(owner, ast.Subscript) or (isinstance(owner, ast.Name) and owner.id in "xy")
