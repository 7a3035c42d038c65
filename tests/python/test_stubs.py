"""The types say what the module does: the stub is up to date, agrees with it, and checks."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import generate_header
import generate_stubs

ROOT = Path(__file__).resolve().parents[2]

# Where a stub must say something else than the module: a submodule is a value in a stub of one
# file and left out of what a star imports, a buffer has a method from Python 3.12 on only,
# pybind11's classes have its metaclass.
ALLOWED = r"""
adjoint\._core\.__all__
adjoint\._core\.tree
adjoint\._core\.Tensor\.__buffer__
adjoint\._core\.(Explanation|Graph|Program|TreeDef|_Linear|_Apart|_TapeScope|_At|_AtPlace)
adjoint\._core\.(deferral|detect_anomaly|enable_grad|no_grad)
adjoint\._core\.(Explanation|Graph|Program|TreeDef|_Apart|_Linear|_At|_AtPlace)\.__init__
adjoint\._core\.\w+\.__pybind11_module_local_.*
"""

# Slips that a checker tells of: each is one line, and the error is at it.
SLIPS = (
    "ad.summ(x)",
    "ad.linalg.solv(x, x)",
    "ad.optim.Adamm([x])",
    "ad.random.randn(3)",
    "ad.nn.Linar(2, 3)",
    "ad.tree.mapp(f, x)",
    "x.summ()",
    "ad.sum(x, dim=0)",
    'ad.exp("text")',
    "ad.grad(x, x)",
    "ad.grad(f)(x).gradient",
    "ad.compile(f)(x).shap",
    'ad.zeros((2, 3), device="gpu")',
    "ad.optim.SGD([x], lr=0.1)",
    "ad.optim.minimize(f, x).minimum",
    "ad.vmap(f)(x) + None",
)
PROLOGUE = """\
import adjoint as ad

def f(w: ad.Tensor) -> ad.Tensor:
    return ad.sum(w**2)

x = ad.ones(3)
"""


def mypy(*arguments: str | Path, cwd: Path) -> str:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


def test_the_public_headers_are_up_to_date() -> None:
    for path, text in generate_header.generate().items():
        written = path.read_text(encoding="utf-8")
        assert written == text, "run python tests/python/generate_header.py"


def test_the_stub_is_up_to_date() -> None:
    for path, text in generate_stubs.all_stubs().items():
        written = path.read_text(encoding="utf-8")
        assert written == text, "run python tests/python/generate_stubs.py"


@pytest.mark.parametrize("module", ["adjoint._core", "adjoint.linalg"])
def test_the_stub_agrees_with_the_module(tmp_path: Path, module: str) -> None:
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(ALLOWED)
    options = ("--allowlist", allowed, "--ignore-unused-allowlist", "--ignore-disjoint-bases")
    out = mypy("mypy.stubtest", module, *options, "--concise", cwd=tmp_path)
    assert not [line for line in out.splitlines() if line.startswith("adjoint")], out


def test_the_package_checks(tmp_path: Path) -> None:
    config = ROOT / "pyproject.toml"
    out = mypy("mypy", "--config-file", config, "--cache-dir", tmp_path / "cache", cwd=ROOT)
    assert "Success" in out, out


CLIENT = Path(__file__).resolve().parent / "client.py"


def test_a_program_checks(tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(CLIENT.read_text(encoding="utf-8"), encoding="utf-8")
    out = mypy("mypy", "--strict", "client.py", cwd=tmp_path)
    assert "Success" in out, out


def test_the_program_runs() -> None:
    runpy.run_path(str(CLIENT), run_name="__main__")


def test_slips_are_told(tmp_path: Path) -> None:
    (tmp_path / "slips.py").write_text(PROLOGUE + "\n".join(SLIPS) + "\n", encoding="utf-8")
    out = mypy("mypy", "--strict", "slips.py", cwd=tmp_path)
    found = {int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line}
    first = PROLOGUE.count("\n") + 1
    assert [SLIPS[i] for i in range(len(SLIPS)) if first + i not in found] == [], out
    assert min(found) == first, out
