"""The types say what the module does: the stub is up to date, agrees with it, and checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import generate_header
import generate_stubs

ROOT = Path(__file__).resolve().parents[2]

# Where a stub must say something else than the module: a submodule is a value in a stub of one
# file, a buffer has a method from Python 3.12 on only, pybind11's classes have its metaclass.
ALLOWED = r"""
adjoint\._core\.tree
adjoint\._core\.Tensor\.__buffer__
adjoint\._core\.(Explanation|Graph|Program|TreeDef|_Linear|_Apart|_TapeScope|_At|_AtPlace)
adjoint\._core\.(deferral|detect_anomaly|enable_grad|no_grad)
adjoint\._core\.(Explanation|Graph|Program|TreeDef|_Apart|_Linear|_At|_AtPlace)\.__init__
adjoint\._core\.\w+\.__pybind11_module_local_.*
"""

# A program that uses the package as its users do: it must check as strictly as the package.
PROGRAM = """
import adjoint as ad
import numpy as np

x: ad.Tensor = ad.tensor([1.0, 2.0], requires_grad=True)
y: ad.Tensor = ad.sum(2 * x + np.ones(2) - ad.sin(x), axis=0)
y.backward()
if x.grad is not None:
    values: list[float] = x.grad.tolist()
x[0] = 3.0
shape: tuple[int, ...] = x.shape
low: bool = bool(y < 0)
kind: ad.DType = ad.float32
with ad.no_grad():
    x -= 0.1 * y


@ad.no_grad()
def loss(w: ad.Tensor) -> ad.Tensor:
    return ad.mean(w**2)


reveal_type(loss(x))
w = ad.Variable(5.0)
with ad.GradientTape() as tape:
    z = w**2 + 1
tape.gradient(z, w)
model = ad.nn.Sequential(ad.nn.Linear(2, 1), ad.nn.ReLU())
reveal_type(ad.random.Generator(0).normal((2,)))
ad.tree.map(lambda leaf: leaf, {"a": x})
ad.exp("text")
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


def test_a_program_checks(tmp_path: Path) -> None:
    pytest.importorskip("adjoint.nn")
    (tmp_path / "program.py").write_text(PROGRAM)
    out = mypy("mypy", "--strict", "program.py", cwd=tmp_path)
    lines = [line for line in out.splitlines() if "program.py" in line]
    notes = [line for line in lines if "Revealed type" in line]
    assert all("Tensor" in note for note in notes) and len(notes) == 2, out
    [error] = [line for line in lines if "error" in line]
    assert 'Argument 1 to "exp" has incompatible type "str"' in error
