"""What is asked of the arguments of the package's own functions, with one wording for all."""

from __future__ import annotations

import operator
from typing import Any

__all__ = [
    "check_callable",
    "check_choice",
    "check_count",
    "check_entries",
    "check_flag",
    "check_int",
    "check_kind",
]


def check_choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless the argument is one of some words."""
    check_kind(who, name, value, str)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"[{who}] {name} must be one of {listed}, not {value!r}")


def check_callable(who: str, **functions: Any) -> None:
    """Raise unless every argument is a function."""
    for name, f in functions.items():
        if not callable(f):
            raise TypeError(f"[{who}] {name} must be a function, not a {type(f).__name__}")


def check_flag(who: str, name: str, value: Any) -> bool:
    """Return a bool of Python or NumPy as one of Python; nothing else stands for one."""
    if not isinstance(value, bool):
        kind = type(value)
        if kind.__module__ != "numpy" or kind.__name__ not in ("bool", "bool_"):
            raise TypeError(f"[{who}] {name} must be True or False, not {kind.__name__}")
    return bool(value)


def check_count(who: str, name: str, value: Any) -> int:
    """Return a number of something as an int."""
    count = check_int(who, name, value)
    if count < 0:
        raise ValueError(f"[{who}] {name} must not be negative, got {count}")
    return count


def check_int(who: str, name: str, value: Any) -> int:
    """Return what stands for an int as one; bools do not."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"[{who}] {name} must be an int, not a {type(value).__name__}")
    return operator.index(value)


def check_entries(who: str, name: str, value: Any) -> tuple[Any, ...]:
    """Return the entries of a list or tuple."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"[{who}] {name} must be a list or tuple, not a {type(value).__name__}")
    return tuple(value)


def check_kind(who: str, name: str, value: Any, kind: type) -> None:
    """Raise unless the argument is an instance of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"[{who}] {name} must be a {kind.__name__}, not a {type(value).__name__}")
