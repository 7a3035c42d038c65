"""Checks of arguments that are plain Python: functions, flags, numbers and counts."""

from __future__ import annotations

import numbers
import operator
from typing import Any

__all__: list[str] = []


def check_function(who: str, what: str, value: Any) -> None:
    """Raise unless a value can be called."""
    if not callable(value):
        raise TypeError(f"[{who}] {what} must be a function, not {value!r}")


def check_flag(who: str, what: str, value: Any) -> None:
    """Raise unless a value is True or False: the text "no" would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"[{who}] {what} must be True or False, not {value!r}")


def as_count(who: str, what: str, value: Any, least: int = 0) -> int:
    """Return a value as an int that is at least `least`; a bool is none."""
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise TypeError(f"[{who}] {what} must be an int, not a {type(value).__name__}")
    if count < least:
        least_text = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"[{who}] {what} must {least_text}, got {count}")
    return count


def check_at_least_zero(who: str, what: str, value: Any, *, positive: bool = False) -> None:
    """Raise unless a value is a number from 0 (or above it) and not nan."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"[{who}] {what} must be a number, not {value!r}")
    number = float(value)
    if not (number > 0 if positive else number >= 0):
        least = "above 0" if positive else "at least 0"
        raise ValueError(f"[{who}] {what} must be {least}, got {value!r}")
