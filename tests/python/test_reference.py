"""The reference is complete, and what it says of errors is so."""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as ad

DOCS = Path(__file__).resolve().parents[2] / "python" / "docs"
sys.path.insert(0, str(DOCS))
reference: Any = importlib.import_module("reference")
calls: Any = importlib.import_module("reference_calls")
cpp_reference: Any = importlib.import_module("cpp_reference")

NAMES = [(m, n) for m, n in reference.names() if callable(reference.find(m, n))]
FUNCTIONS = [
    (m, n)
    for m, n in NAMES
    if reference.kind_of(reference.find(m, n)) == "function"
    and not isinstance(reference.find(m, n), dict)
]
CLASSES = [(m, n) for m, n in NAMES if reference.kind_of(reference.find(m, n)) != "function"]
RECORDED = [(m, n) for m, n in FUNCTIONS if reference.record_name(m, n) in reference.RECORDS]

# States of optimizers: named tuples of tensors, made by `init` of what they belong to.
STATES = {n for m, n in CLASSES if m == "adjoint.optim" and n.endswith("State")}


def ids(entry: tuple[str, str]) -> str:
    return ".".join(entry) if isinstance(entry, tuple) else str(entry)


@pytest.mark.parametrize("entry", FUNCTIONS, ids=ids)
def test_a_function_is_explained(entry: tuple[str, str]) -> None:
    """Every parameter is named; results, errors and an example are told."""
    doc = reference.completed(*entry)
    function = reference.find(*entry)
    assert doc.strip()
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self",)]
    if parameters:
        section = reference.section_of(doc, "Parameters")
        lacking = [p for p in parameters if not reference.names_in(section) >= {p}]
        assert not lacking, f"python/docs: {entry} does not explain {lacking}"
        assert reference.has(doc, "Raises"), f"{entry}: errors"
    assert ">>>" in doc, f"{entry}: add an example to the docstring, or to reference_calls.py"
    if entry in RECORDED:
        assert "**Shapes:**" in doc and "**dtypes:**" in doc


@pytest.mark.parametrize("entry", CLASSES, ids=ids)
def test_a_class_is_explained(entry: tuple[str, str]) -> None:
    doc = inspect.getdoc(reference.find(*entry)) or ""
    assert doc.strip()
    if entry[1] not in STATES:
        assert ">>>" in doc, f"{entry}: an example"


@pytest.mark.parametrize("entry", RECORDED, ids=ids)
def test_the_example_of_a_record_runs(entry: tuple[str, str]) -> None:
    text = reference.completed(*entry)
    example = doctest.DocTestParser().get_doctest(text, {}, ids(entry), None, 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert not report, "".join(report)


def test_every_call_is_of_a_function_that_there_is() -> None:
    assert set(calls.EXAMPLES) <= set(reference.RECORDS)


# ---- What is said of errors ----------------------------------------------------------------------


@pytest.mark.parametrize("entry", RECORDED, ids=ids)
def test_what_is_no_tensor_raises_what_is_said(entry: tuple[str, str]) -> None:
    function, record = reference.find(*entry), reference.RECORDS[reference.record_name(*entry)]
    if record.parameters and record.parameters[0][1] in ("tensor", "known"):
        required = sum(not default for _, _, _, default in record.parameters)
        positional = [k for _, k, _, d in record.parameters if not d]
        fitting = {"tensor": 1.0, "known": 1, "integer": 1, "axis": 0, "shape": 1, "dtype": "int8"}
        rest = [fitting.get(kind, 1) for kind in positional[1:required]]
        with pytest.raises(TypeError):
            function(object(), *rest)


@pytest.mark.parametrize("entry", RECORDED, ids=ids)
def test_an_axis_out_of_range_raises_what_is_said(entry: tuple[str, str]) -> None:
    record = reference.RECORDS[reference.record_name(*entry)]
    call = calls.example_of(reference.record_name(*entry), len(record.parameters))
    axes = [name for name, kind, *_ in record.parameters if kind in ("axis", "axes")]
    if "axis" not in axes or call is None:
        return
    # The same call, with another axis.
    at = call.rfind(", axis=")
    wrong = f"{call[:at] if at >= 0 else call.removesuffix(')')}, axis=77)"
    with pytest.raises((IndexError, TypeError), match=r"axis|axes") as raised:
        eval(wrong, {"ad": ad, "np": np})
    if isinstance(raised.value, TypeError):  # some take no axis by name: as a method does not
        assert "axis" in str(raised.value)
    else:
        assert "out of range" in str(raised.value)


# ---- C++ ---------------------------------------------------------------------------------------


def test_the_cpp_reference_has_a_page_for_each_header() -> None:
    pages = cpp_reference.pages()
    headers = {path.stem for path in cpp_reference.HEADERS.glob("*.h")}
    assert {f"cpp_{name}.md" for name in headers} | {"cpp.md"} == set(pages)


@pytest.mark.parametrize(
    ("header", "code", "doc"),
    [
        ("tensor", "double item() const", "The single element as a double"),
        ("tensor", "Tensor(double value)", "A float64 scalar."),
        ("transforms", "Function grad(Function f)", "Gradient of a scalar-valued function"),
        ("functions", "Tensor sin(const Tensor& x)", "Sine; x in radians."),
        ("linalg", "Tensor solve(const Tensor& x1, const Tensor& x2)", "The solution x of"),
        ("error", "class Error : public std::runtime_error", "Every error the library raises"),
    ],
)
def test_declarations_are_read(header: str, code: str, doc: str) -> None:
    text = (cpp_reference.HEADERS / f"{header}.h").read_text(encoding="utf-8")
    found = {d.text: d.doc for d in cpp_reference.declarations(text)}
    assert found[code].startswith(doc)


def test_what_is_the_library_s_own_is_left_out() -> None:
    text = (cpp_reference.HEADERS / "tensor.h").read_text(encoding="utf-8")
    declared = [d.text for d in cpp_reference.declarations(text)]
    assert not any("detach_node" in d or "node_" in d for d in declared)
