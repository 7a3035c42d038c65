"""What is written is true: examples run as they stand, tables are those of the data."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import adjoint as ad
import generate_docs
from adjoint import _core

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "python" / "docs").glob("*.md"))]
sys.path.insert(0, str(ROOT / "python" / "docs"))  # where the pictures' and pages' own code is
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_NDIFF
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_example(name: str, text: str, names: dict[str, Any]) -> None:
    """Runs one piece of text with prompts, in and into `names`."""
    example = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    example.globs = names  # not a copy: functions of one block see what a later one assigns
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append, clear_globs=False)
    assert not report, "".join(report)


# ---- Pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        if ">>>" in block:
            run_example(f"{page.name}, block {number}", block, names)
        else:
            exec(compile(block, f"{page.name}, block {number}", "exec"), names)


# A file to run, which its first line names, and what it prints.
SCRIPT = re.compile(r"^```py\n# (\w+\.py)\n(.*?)^```\n+```text\n(.*?)^```", re.M | re.S)
SCRIPTS = [m.groups() for page in PAGES for m in SCRIPT.finditer(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("name", "text", "output"), SCRIPTS, ids=[s[0] for s in SCRIPTS])
def test_the_files_of_a_page_run(name: str, text: str, output: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-P", "-W", "error", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


def test_there_are_files_to_run() -> None:
    written = sum(page.read_text(encoding="utf-8").count("```py\n") for page in PAGES)
    assert written == len(SCRIPTS) > 0


@pytest.mark.parametrize("page", [*PAGES, ROOT / "cpp" / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", sorted(generate_docs.TABLES))
def test_tables_are_those_of_the_data(name: str) -> None:
    written = (generate_docs.DOCS / name).read_text(encoding="utf-8")
    assert written == generate_docs.generate(name), "run python tests/python/generate_docs.py"


DRAWINGS = runpy.run_path(str(ROOT / "python" / "docs" / "drawings.py"))["DRAWINGS"]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_pictures_are_those_that_are_drawn(name: str) -> None:
    """To a third of a pixel: a path may end in other digits on another processor."""
    written = (ROOT / "python" / "docs" / "images" / name).read_text(encoding="utf-8")
    drawn = DRAWINGS[name]()
    assert NUMBER.sub("#", written) == NUMBER.sub("#", drawn), "run python python/docs/drawings.py"
    numbers = ([float(n) for n in NUMBER.findall(text)] for text in (written, drawn))
    assert all(abs(a - b) < 0.35 for a, b in zip(*numbers, strict=True))


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "cpp" / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"`([\w/-]+/[\w-]+\.(?:h|cpp|md|py))`", text):
        places = [ROOT, ROOT / "cpp", ROOT / "cpp" / "src"]
        assert any((place / path).exists() for place in places), path


def test_the_records_shown_in_the_architecture_are_those_of_the_sources() -> None:
    text = (ROOT / "cpp" / "README.md").read_text(encoding="utf-8")
    files = ["elementwise.cpp", "shape.cpp", "statistics.cpp"]
    files.append("../../../tests/cpp/custom_op/main.cpp")
    source = "".join((ROOT / "cpp/src/ops" / file).read_text(encoding="utf-8") for file in files)
    [*records] = re.findall(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert records
    for record in records:
        assert record in source


# ---- Docstrings ---------------------------------------------------------------------------------


def modules() -> list[str]:
    found = pkgutil.walk_packages(ad.__path__, "adjoint.")
    return ["adjoint", *(m.name for m in found if m.name != "adjoint._core")]


def documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public functions and classes that a module defines, and their public methods."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        if inspect.isclass(value):
            for key, member in vars(value).items():
                if inspect.isfunction(member) and not key.startswith("_"):
                    yield f"{name}.{key}", member


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        if test.examples:
            run_example(test.name, test.docstring or "", {})


@pytest.mark.parametrize("name", modules())
def test_everything_public_in_a_module_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    public = set(getattr(module, "__all__", ()))
    for entry, value in documented(module):
        method = "." in entry
        if entry.split(".")[0] in public and not (method and inherits_doc(module, entry)):
            assert value.__doc__, f"{name}.{entry}"


def inherits_doc(module: ModuleType, entry: str) -> bool:
    """Whether a method is documented where a base class declares it."""
    owner, method = entry.split(".")
    return any(
        getattr(vars(base).get(method), "__doc__", None)
        for base in getattr(module, owner).__mro__[1:]
    )


CORE = sorted(name for name in vars(_core) if not name.startswith("_"))


@pytest.mark.parametrize("name", CORE)
def test_everything_public_in_the_core_is_documented(name: str) -> None:
    value = getattr(_core, name)
    if not isinstance(value, ad.DType):
        assert inspect.getdoc(value)
        run_example(name, value.__doc__ or "", {})


@pytest.mark.parametrize("name", sorted(n for n in vars(ad.Tensor) if not n.startswith("_")))
def test_everything_public_of_a_tensor_is_documented(name: str) -> None:
    text = inspect.getdoc(getattr(ad.Tensor, name))
    assert text
    run_example(name, text, {})
