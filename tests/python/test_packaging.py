"""What a user installs: one version everywhere, types, a light import, and the C++ package."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cpp_cases

ROOT = Path(__file__).resolve().parents[2]


def stated_version() -> str:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    match = re.search(r"project\(adjoint VERSION (\d+\.\d+\.\d+)", text)
    assert match
    return match.group(1)


def python(code: str) -> str:
    """Output of a fresh interpreter that does not see the source tree."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def package_folder() -> Path:
    return Path(python("import adjoint; print(adjoint.__file__)")).parent


# ---- The Python package -------------------------------------------------------------------------


def test_every_version_is_the_one_in_cmakelists() -> None:
    assert importlib.metadata.version("adjoint") == stated_version()
    assert python("import adjoint; print(adjoint.__version__)") == stated_version()
    assert python("import adjoint._core as c; print(c.__version__)") == stated_version()


def test_the_citation_is_of_the_version() -> None:
    text = (ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {stated_version()}\n" in text


def test_licence() -> None:
    metadata = importlib.metadata.metadata("adjoint")
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_the_types_are_installed() -> None:
    folder = package_folder()
    assert (folder / "py.typed").is_file()
    assert (folder / "_core.pyi").is_file()


def test_the_extension_is_small() -> None:
    extension = Path(python("import adjoint._core as c; print(c.__file__)"))
    assert extension.stat().st_size < 10e6  # about 5 MB in a wheel


def test_import_opens_neither_numpy_nor_a_blas_and_starts_no_thread() -> None:
    code = """
import os, sys
import adjoint
print(len(os.listdir("/proc/self/task")), "numpy" in sys.modules, "scipy_openblas32" in sys.modules)
print("openblas" in open("/proc/self/maps").read())
"""
    assert python(code).split() == ["1", "False", "False", "False"]


# ---- The C++ package ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefix(cpp_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("prefix")
    cmake("--install", cpp_build, "--prefix", folder)
    return folder


def cmake(*arguments: str | Path) -> str:
    program = cpp_cases.tool("cmake")
    assert program
    done = cpp_cases.run(program, *arguments)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("project", ["client", "custom_op", "static_objects"])
def test_the_installed_library_serves_a_cmake_project(
    prefix: Path, tmp_path: Path, project: str
) -> None:
    source = ROOT / "tests/cpp" / project
    where = f"-DCMAKE_PREFIX_PATH={prefix}"
    cmake("-S", source, "-B", tmp_path, where, *cpp_cases.generator())
    cmake("--build", tmp_path)
    done = cpp_cases.run(tmp_path / project, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout


def test_the_installed_library_states_the_version(prefix: Path) -> None:
    [file] = prefix.rglob("adjointConfigVersion.cmake")
    assert f'set(PACKAGE_VERSION "{stated_version()}")' in file.read_text(encoding="utf-8")


def test_every_public_header_compiles_alone(prefix: Path, tmp_path: Path) -> None:
    compiler = cpp_cases.tool("c++") or cpp_cases.tool("g++")
    assert compiler
    for header in sorted((prefix / "include" / "adjoint").glob("*.h")):
        source = tmp_path / f"{header.stem}.cpp"
        source.write_text(f"#include <adjoint/{header.name}>\n")
        flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        done = cpp_cases.run(compiler, *flags, f"-I{prefix / 'include'}", source)
        assert done.returncode == 0, f"{header.name}:\n{done.stdout[-4000:]}"


# ---- The test command ---------------------------------------------------------------------------


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    start = script.index("# The README's test command:")
    command = [line for line in script[start + 1 :] if line]
    assert command
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(command) in readme
