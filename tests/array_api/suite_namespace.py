"""What the Array API test suite is given: `adjoint`, with stand-ins for complex numbers.

The suite cannot be imported without two complex dtypes and `conj`. So this module has two, of which
no array can be made, and as a plugin of pytest it takes them out of the lists that examples are
drawn from, before the rest of the suite reads these. It also skips what asks for complex numbers,
and says at the end what failed, by cause.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

import adjoint

# What is left out, and why: the first that is found in a test's name.
SKIPS = {
    r"imag\(x_i\)|__complex__|vecdot_conj|\[elementwise-(conj|real|imag)\]"
    r"|signature\[(conj|real|imag)\]": ("there are no complex numbers"),
    r"test_fft|\[fft-": "there is no fft",
    r"floor_?div.*(infinity and isfinite\(x2_i\)|-> -0\])": (
        "the standard allows Python's value, nan or -1.0, which is given"
    ),
    r"::test_dunder_dlpack": (
        "memory is read-only, which a consumer that does not ask for DLPack 1.0 is not told"
    ),
}


class _NoDType:
    """Equal to itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}, which adjoint does not have>"


complex64 = _NoDType("complex64")
complex128 = _NoDType("complex128")
conj = adjoint.positive  # of real numbers


@wraps(adjoint.asarray)
def asarray(obj: Any, **options: Any) -> Any:
    """Answer otherwise where the suite asks for the default complex dtype."""
    if type(obj) is complex:
        return SimpleNamespace(dtype=complex128)
    return adjoint.asarray(obj, **options)


def __getattr__(name: str) -> Any:
    return getattr(adjoint, name)


# ---- As a plugin --------------------------------------------------------------------------------


def pytest_configure() -> None:
    """Leave complex dtypes out of what the suite draws from."""
    from array_api_tests import dtype_helpers as dh

    gone = dh.complex_dtypes
    for name, value in vars(dh).items():
        if isinstance(value, tuple) and any(d in gone for d in value):
            setattr(dh, name, tuple(d for d in value if d not in gone))
    dh.promotion_table = dh.EqualityMapping(
        [
            (pair, met)
            for pair, met in dh.promotion_table.items()
            if not any(d in gone for d in pair)
        ]
    )
    for kind, dtypes in dh.kind_to_dtypes.items():
        dh.kind_to_dtypes[kind] = tuple(d for d in dtypes if d not in gone)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for pattern, reason in SKIPS.items():
            if re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=reason))
                break


def pytest_terminal_summary(terminalreporter: Any) -> None:
    causes = defaultdict(list)
    for kind in ("failed", "error"):
        for report in terminalreporter.getreports(kind):
            lines = re.findall(
                r"^(?:E|\s+\|)\s+(\w*(?:Error|Exception): .*)", report.longreprtext, re.M
            )
            causes[lines[0] if lines else "no message"].append(report.nodeid.split("::", 1)[1])
    if causes:
        terminalreporter.section("failures by cause")
    for cause, tests in sorted(causes.items(), key=lambda item: -len(item[1])):
        terminalreporter.line(f"{cause[:160]}")
        for test in tests:
            terminalreporter.line(f"    {test}")
