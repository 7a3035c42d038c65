"""Every C++ case at every instruction-set level this processor has: all levels are the product."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

import cpp_cases


def lower_levels() -> list[str]:
    """Levels below the best one here, which the ordinary run of the cases covers."""
    if platform.machine() != "x86_64":
        return []
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return [
        level
        for level, feature_above in (("baseline", "avx2"), ("v3", "avx512vl"))
        if feature_above in flags
    ]


@pytest.mark.parametrize("level", lower_levels())
def test_cpp_cases_at_isa_level(cpp_build: Path, level: str) -> None:
    done = cpp_cases.run(
        cpp_build / "adjoint_tests",
        "--no-colors",
        timeout=cpp_cases.TIMEOUT,
        env={"ADJOINT_ISA": level},
    )
    assert done.returncode == 0, done.stdout[-8000:]


@pytest.mark.parametrize("level", lower_levels())
def test_stated_errors_at_isa_level(level: str) -> None:
    """The bounds of the documentation, from Python; the best level is that of the ordinary run."""
    done = cpp_cases.run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("test_ops_table.py", "-k", "values_in_ulp or same_bits"),
        timeout=cpp_cases.TIMEOUT,
        env={"ADJOINT_ISA": level},
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def test_an_unknown_level_is_refused_by_name(cpp_build: Path) -> None:
    done = cpp_cases.run(
        cpp_build / "adjoint_tests",
        "--no-colors",
        timeout=cpp_cases.TIMEOUT,
        env={"ADJOINT_ISA": "no-such-level"},
    )
    assert done.returncode != 0
    assert "ADJOINT_ISA=no-such-level" in done.stdout
