"""The Python reference: which names there are, and the docstring of each with what completes it.

A function that has a record says in a line or two what it computes. What else there is to know
follows from the record and from the function itself, and is found out here: what its parameters
take, which dtype each dtype gives, how shapes go together, what is raised, a call and its value.
Names without a record say all of it in their docstrings. `tests/python/test_reference.py` sees that
nothing is missing, and that what is said of errors is so.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import adjoint as ad
from adjoint import _core
from reference_calls import example_of

MODULES = {
    "adjoint": "Tensors, functions of them, and transforms of functions.",
    "adjoint.linalg": "Linear algebra; see also the page on [linear algebra](../linalg.md).",
    "adjoint.random": "Random numbers.",
    "adjoint.nn": "Networks; see also [modules](../modules.md).",
    "adjoint.optim": "Optimizers; see also [which one](../choosing.md).",
    "adjoint.optim.search": "Searches by values alone; see also [their page](../searches.md).",
    "adjoint.plot": "Pictures; see also [their page](../plot.md).",
    "adjoint.tree": "Nested containers.",
    "adjoint.io": "Tensors in files.",
    "adjoint.testing": "Comparing, and checking derivatives.",
}
DTYPES = [d for d in ad.__array_namespace_info__().dtypes().values()]


class Record(NamedTuple):
    """What the record of a function says."""

    doc: str
    parameters: list[tuple[str, str, bool, str]]  # name, kind, whether None will do, default
    results: str


RECORDS = {name: Record(doc, p, results) for name, doc, p, results, _ in _core._records()}

# What a parameter of each kind takes.
KINDS = {
    "tensor": "Tensor, array or number",
    "tensors": "sequence of tensors, arrays or numbers",
    "axis": "int; from the end if negative",
    "axes": "int or tuple of ints; from the end if negative",
    "shape": "int or tuple of ints",
    "pairs": "int, or a pair of lists of ints",
    "integer": "int",
    "diagonal": "int; above the main one if positive",
    "integers": "int or list of ints",
    "known": "Tensor, array, number or list, whose values must be known: not traced",
    "places": "int, list of ints, slice, or mask of bools",
    "number": "float",
    "flag": "bool",
    "dtype": "DType, or what names one",
    "text": "str",
    "order": "int, float or str",
    "device": "'cpu', the only device",
    "copy": "bool",
}

# What is raised for a wrong argument of each kind; {} stands for the parameters of that kind.
NO_TENSOR = ("TypeError", "If {} is no tensor, array or number, or of a dtype that is not listed.")
NO_INTEGER = ("TypeError", "If {} is of another type than the one named.")
RAISES = {
    **dict.fromkeys(("tensor", "tensors", "known"), NO_TENSOR),
    **dict.fromkeys(("axis", "axes"), ("IndexError", "If {} is out of range.")),
    **dict.fromkeys(("shape", "integer", "number", "flag", "dtype"), NO_INTEGER),
    "text": ("ValueError", "If {} is not among the words named."),
}
SHAPES = ("ValueError", "If the shapes do not go together.")


# ---- Names --------------------------------------------------------------------------------------


def names() -> Iterator[tuple[str, str]]:
    """Every public name: the module in which it is found, and the name."""
    for module in MODULES:
        loaded = importlib.import_module(module)
        inside = {m.rpartition(".")[2] for m in MODULES}
        for name in sorted(n for n in dir(loaded) if not n.startswith("_")):
            if name not in inside and not inspect.ismodule(getattr(loaded, name)):
                yield module, name


def find(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def record_name(module: str, name: str) -> str:
    return name if module == "adjoint" else f"{module.removeprefix('adjoint.')}.{name}"


def kind_of(value: Any) -> str:
    """The word of Sphinx for a value."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) and not isinstance(value, ad.DType) else "data"


# ---- What is found out --------------------------------------------------------------------------


def tensors_in(value: Any) -> list[ad.Tensor]:
    parts = ad.tree.leaves(tuple(value) if hasattr(value, "_fields") else value)
    return [part for part in parts if isinstance(part, ad.Tensor)]


def called_with(call: str, dtype: ad.DType) -> Any:
    """The value of an example whose tensors have another dtype."""

    def made(data: Any, **_: Any) -> ad.Tensor:
        finite = ad.nan_to_num(ad.asarray(data)) if not ad.isdtype(dtype, "real floating") else data
        return ad.astype(ad.asarray(finite), dtype)

    stand_in = SimpleNamespace(**{n: getattr(ad, n) for n in dir(ad) if not n.startswith("__")})
    stand_in.tensor = stand_in.asarray = made
    return eval(call, {"ad": stand_in})


def dtype_rule(call: str) -> str:
    """Which dtypes the tensors of an example may have, and what they give."""
    outcomes: dict[str, list[str]] = {}
    for dtype in DTYPES:
        try:
            results = tensors_in(called_with(call, dtype))
            given = ["the same" if t.dtype == dtype else t.dtype.name for t in results]
            outcome = given[0] if len(set(given)) == 1 else ", ".join(given)
        except (TypeError, OverflowError):
            outcome = "TypeError"
        except (ValueError, IndexError, ArithmeticError):
            continue  # the values of the example do not fit this dtype
        outcomes.setdefault(outcome or "no tensor", []).append(dtype.name)
    groups = [f"{listed(dtypes)} → {outcome}" for outcome, dtypes in outcomes.items()]
    return "; ".join(groups)


def listed(dtypes: list[str]) -> str:
    """Names of dtypes, families of them by one word."""
    text = " ".join(dtypes) + " "
    for family, members in (
        ("signed integers", "int8 int16 int32 int64 "),
        ("unsigned integers", "uint8 uint16 uint32 uint64 "),
        ("floating types", "float32 float64 "),
    ):
        text = text.replace(members, family.replace(" ", "_") + " ")
    text = text.replace("signed_integers unsigned_integers ", "integers ")
    return ", ".join(word.replace("_", " ") for word in text.split())


def shape_rule(function: Callable[..., Any], record: Record, call: str) -> str:
    """How the shapes of operands and result go together."""
    operands = [p for p in record.parameters if p[1] == "tensor" and not p[2] and not p[3]]
    alone = len(operands) == len(record.parameters)
    try:
        if alone and len(operands) == 1 and function(ad.ones((2, 3))).shape == (2, 3):
            if function(ad.ones((2,))).shape == (2,) and function(ad.ones(())).shape == ():
                return "any; the result has the shape of the operand."
        if alone and len(operands) > 1:
            shapes = [(2, 1), (3,), ()]
            if function(*[ad.ones(s) for s in shapes[: len(operands)]]).shape == (2, 3):
                return "the operands broadcast, and the result has their common shape."
    except (TypeError, ValueError, IndexError, AttributeError):
        pass
    given = [tuple(eval(c, {"ad": ad}).shape) for c in outermost_tensors(call)]
    results = [str(t.shape) for t in tensors_in(eval(call, {"ad": ad}))]
    taken = ", ".join(map(str, given))
    there = f"{taken} → " if taken else ""
    return f"in the example {there}{', '.join(results) if results else 'numbers'}."


def outermost_tensors(call: str) -> list[str]:
    """The tensors that an example is given, as they are written."""
    return re.findall(r"ad\.(?:tensor|asarray)\((?:\[.*?\])\)(?=[,)\] ]|$)", call)


def raised(record: Record) -> list[tuple[str, str]]:
    """Exceptions and their causes, by the kinds of the parameters."""
    of_cause: dict[tuple[str, str], list[str]] = {}
    for name, kind, *_ in record.parameters:
        if kind in RAISES:
            of_cause.setdefault(RAISES[kind], []).append(name)
    kinds = [kind for _, kind, *_ in record.parameters]
    if kinds.count("tensor") > 1 or "tensors" in kinds:
        of_cause[SHAPES] = []
    told: dict[str, str] = {}
    for (error, cause), which in of_cause.items():
        told[error] = f"{told.get(error, '')} {cause.format(' or '.join(which))}".strip()
    return list(told.items())


def returned(record: Record, value: Any) -> str:
    """What comes back, by the kind of result and, of named ones, the value of the example."""
    if record.results == "fields" and hasattr(value, "_fields"):
        return f"Named tuple of Tensors: {', '.join(value._fields)}"
    plain = {
        "one": "Tensor",
        "list": "list of Tensors",
        "one or tuple": "Tensor, or a tuple of them",
    }
    return plain.get(record.results, "tuple of Tensors")


# ---- Docstrings ---------------------------------------------------------------------------------

SECTION = re.compile(
    r"^(Parameters|Returns|Raises|Examples|Attributes|Notes|References)\n-+$", re.M
)


def has(doc: str, section: str) -> bool:
    return any(found.group(1) == section for found in SECTION.finditer(doc))


def section_of(doc: str, section: str) -> str:
    """The text of a section of a docstring, "" if it has none."""
    marks = [*SECTION.finditer(doc)]
    ends = [*(mark.start() for mark in marks[1:]), len(doc)]
    for mark, end in zip(marks, ends, strict=False):
        if mark.group(1) == section:
            return doc[mark.end() : end]
    return ""


def names_in(section: str) -> set[str]:
    """The parameters that a section explains; "a, b : float" names two, and "*args" has a star."""
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :|$)", section, re.MULTILINE)
    return {name.lstrip("*") for head in heads for name in head.split(", ")}


def completed(module: str, name: str) -> str:
    """The docstring of a name, with the sections that it lacks."""
    value = find(module, name)
    doc = inspect.getdoc(value) or ""
    full = record_name(module, name)
    record = RECORDS.get(full)
    if record is None or not callable(value):
        return doc
    call = example_of(full, len(record.parameters))
    if call is None:
        return doc
    result = eval(call, {"ad": ad})
    first = SECTION.search(doc)
    head, sections = (doc[: first.start()], doc[first.start() :]) if first else (doc, "")
    parts = [head.replace("|", r"\|").strip(), f"**Shapes:** {shape_rule(value, record, call)}"]
    if any(kind in ("tensor", "tensors", "known") for _, kind, *_ in record.parameters):
        parts.append(f"**dtypes:** as in the example, {dtype_rule(call)}.")
    else:
        parts.append(f"**dtypes:** {tensors_in(result)[0].dtype.name}, unless told otherwise.")
    explained = names_in(section_of(doc, "Parameters"))
    lines = [
        f"{n} : {KINDS[kind]}{', or None' if optional else ''}"
        + (f", default {default}" if default else "")
        for n, kind, optional, default in record.parameters
        if n not in explained
    ]
    if explained:  # the others stand behind those that the docstring explains
        given = section_of(doc, "Parameters").strip("\n")
        sections = sections.replace(given, "\n".join([given, *lines]), 1)
    elif lines:
        parts.append("Parameters\n----------\n" + "\n".join(lines))
    parts.append(sections.strip())
    if not has(doc, "Returns"):
        parts.append("Returns\n-------\n" + returned(record, result))
    if not has(doc, "Raises"):
        lines = [f"{exception}\n    {why}" for exception, why in raised(record)]
        parts.append("Raises\n------\n" + "\n".join(lines))
    if ">>>" not in doc:
        parts.append(f"Examples\n--------\n>>> import adjoint as ad\n>>> {call}\n{result!r}")
    return "\n\n".join(part for part in parts if part)


def complete(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's hook: puts the completed docstring in the place of the short one.

    A source is marked [1] in the text and in the list of sources, as footnotes of different
    docstrings would meet on one page.
    """
    module, _, last = name.rpartition(".")
    if module in MODULES and record_name(module, last) in RECORDS:
        lines[:] = completed(module, last).splitlines()
    text = re.sub(r"\[(\d+)\]_", r"[\1]", "\n".join(lines))
    text = re.sub(r"^( *)\.\. \[(\d+)\] ", r"\n\1| [\2] ", text, flags=re.M)
    lines[:] = text.splitlines()


# ---- Pages --------------------------------------------------------------------------------------


def page(module: str, seen: set[int]) -> str:
    """The page of a module: its names, and what to say of each; `seen` are in the index already."""
    own = [(name, find(module, name)) for home, name in names() if home == module]
    lines = [f"# {module}", "", MODULES[module], ""]
    for kind, title in (
        ("function", "Functions"),
        ("class", "Classes"),
        ("exception", "Exceptions"),
        ("data", "Constants and dtypes"),
    ):
        these = [name for name, value in own if kind_of(value) == kind]
        if not these:
            continue
        lines += [f"## {title}", ""]
        for name in these:
            body = directive(kind, module, name)
            if kind != "data" and id(find(module, name)) in seen:
                body.insert(1, "   :no-index:")
            seen.add(id(find(module, name)))
            lines += [f"### {name}", "", "```{eval-rst}", *body, "```", ""]
    return "\n".join(lines)


def directive(kind: str, module: str, name: str) -> list[str]:
    full = f"{module}.{name}"
    if kind == "data":
        value = find(module, name)
        return [f".. py:data:: {full}", "", f"   {value!r}"]
    lines = [f".. auto{kind}:: {full}"]
    if kind == "class":
        lines += ["   :members:"]
    return lines


def pages() -> dict[str, str]:
    """The pages by file name, and one that lists them."""
    seen: set[int] = set()
    made = {f"{module}.md": page(module, seen) for module in MODULES}
    entries = "\n".join(MODULES)
    made["python.md"] = (
        "# Python reference\n\nMade from the docstrings: what `help(ad.sum)` shows, and what "
        "follows from the record of a function.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    )
    return made
