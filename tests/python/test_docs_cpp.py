"""What the pages say to C++ programmers: the CMake project as pasted, and each program with what it
prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cpp_cases

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "python" / "docs" / "cpp.md"]
CMAKE = re.compile(r"^```cmake\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```cpp\n(.*?)^```(?:\n+```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
PROGRAMS = [
    (page, number, *found.groups())
    for page in PAGES
    for number, found in enumerate(PROGRAM.finditer(page.read_text(encoding="utf-8")), 1)
]


@pytest.fixture(scope="module")
def prefix(cpp_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("prefix")
    cmake("--install", cpp_build, "--prefix", folder)
    return folder


def cmake(*arguments: str | Path) -> None:
    program = cpp_cases.tool("cmake")
    assert program
    done = cpp_cases.run(program, *arguments)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize(
    ("page", "number", "program", "output"), PROGRAMS, ids=[f"{p[0].stem}-{p[1]}" for p in PROGRAMS]
)
def test_a_program_of_a_page_runs(
    prefix: Path, tmp_path: Path, page: Path, number: int, program: str, output: str | None
) -> None:
    """With the project of its page, to which nothing is added."""
    [project] = CMAKE.findall(page.read_text(encoding="utf-8"))
    (tmp_path / "CMakeLists.txt").write_text(project, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(program, encoding="utf-8")
    build = tmp_path / "build"
    where = f"-DCMAKE_PREFIX_PATH={prefix}"
    flags = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"
    cmake("-S", tmp_path, "-B", build, where, flags, *cpp_cases.generator())
    cmake("--build", build)
    done = cpp_cases.run(build / "my_program", timeout=60)
    assert done.returncode == 0, done.stdout
    # Without a block of output a page says in a comment what is printed.
    assert done.stdout == (
        output or "".join(f"{v}\n" for v in re.findall("// (.*)$", program, re.M))
    )
