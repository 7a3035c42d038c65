"""What is asked of the arguments of the package's own functions, with one wording for all.

A message names the kind of a refused argument, not its value: the value may refuse to be shown.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Iterable
from typing import Any

from adjoint import _core

__all__ = [
    "check_at_least_zero",
    "check_callable",
    "check_choice",
    "check_count",
    "check_entries",
    "check_flag",
    "check_int",
    "check_kind",
    "check_number",
    "check_words",
]


def check_kind(who: str, name: str, value: Any, kind: type) -> None:
    """Raise unless the argument is an instance of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"[{who}] {name} must be a {kind.__name__}, not a {type(value).__name__}")


def check_callable(who: str, **functions: Any) -> None:
    """Raise unless every argument is a function."""
    for name, f in functions.items():
        if not callable(f):
            raise TypeError(f"[{who}] {name} must be a function, not a {type(f).__name__}")


def check_choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless the argument is one of some words."""
    check_kind(who, name, value, str)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"[{who}] {name} must be one of {listed}, not {value!r}")


def check_entries(who: str, name: str, value: Any) -> tuple[Any, ...]:
    """Return the entries of a list or tuple."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"[{who}] {name} must be a list or tuple, not a {type(value).__name__}")
    return tuple(value)


def check_flag(who: str, name: str, value: Any) -> bool:
    """Return a bool of Python or NumPy as one of Python; the text "no" would count as true."""
    if not isinstance(value, bool):
        kind = type(value)
        if kind.__module__ != "numpy" or kind.__name__ not in ("bool", "bool_"):
            raise TypeError(f"[{who}] {name} must be True or False, not {kind.__name__}")
    return bool(value)


def check_int(who: str, name: str, value: Any) -> int:
    """Return what stands for an int as one; bools do not, nor do arrays of anything else."""
    try:
        if not isinstance(value, bool) and hasattr(type(value), "__index__"):
            return operator.index(value)
    except _core.TracedValueError:
        raise
    except TypeError:
        pass
    raise TypeError(f"[{who}] {name} must be an int, not a {type(value).__name__}")


def check_count(who: str, name: str, value: Any, least: int = 0) -> int:
    """Return a number of something as an int that is at least `least`."""
    count = check_int(who, name, value)
    if count < least:
        wanted = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"[{who}] {name} must {wanted}, got {count}")
    return count


def check_number(who: str, name: str, value: Any) -> float:
    """Return a real number as a float; a 0-d Tensor is one, a bool or a text is none."""
    number = value
    if isinstance(value, _core.Tensor) and value.ndim == 0 and value.dtype != _core.bool:
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"[{who}] {name} must be a real number, not a {type(value).__name__}")
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"[{who}] {name} is too large for a float") from None


def check_at_least_zero(who: str, name: str, value: Any, *, positive: bool = False) -> None:
    """Raise unless the argument is a number from 0 (or above it) and not nan."""
    number = check_number(who, name, value)
    if not (number > 0 if positive else number >= 0):
        least = "above 0" if positive else "at least 0"
        raise ValueError(f"[{who}] {name} must be {least}, got {number!r}")


def check_words(who: str, given: Iterable[str], **words: str) -> None:
    """Raise where a parameter is given by another library's word for it."""
    for word in given:
        if word in words:
            raise TypeError(f"[{who}] the parameter is {words[word]}=, not {word}=")
