"""The options of methods: which there are, and what each may be.

A word means the same wherever it is an option, so what it may be stands here once. The optimizers
of first order and the derivative-free searches check their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from adjoint._arguments import check_count, check_flag, check_number
from adjoint.optim.words import hint as hint_of
from adjoint.optim.words import nearest

__all__ = [
    "DERIVATIVES",
    "WORDS",
    "check_entries",
    "check_known",
    "check_order",
    "check_range",
    "read_options",
]

# What others call an option, and what it is called here.
WORDS = {
    "betas": ("beta1", "beta2"),
    "etas": ("eta_minus", "eta_plus"),
    "f_scale": ("loss_scale",),
    "jac": ("jacobian",),
    "lr": ("learning_rate",),
    "lr_decay": ("learning_rate_decay",),
    "popsize": ("population_size",),
    "step_sizes": ("min_step", "max_step"),
    "tolx": ("xtol",),
}
DERIVATIVES = ("auto", "2-point", "3-point")  # where they come from, if not from a function


def read_options(who: str, options: Any) -> dict[str, Any]:
    """Return options as a dict of their own, with values that are what their names ask for.

    Examples
    --------
    >>> from adjoint.optim.options import read_options
    >>> read_options("minimize", {"memory": 5, "gtol": 1})
    {'memory': 5, 'gtol': 1.0}
    >>> read_options("minimize", {"memory": 0})
    Traceback (most recent call last):
        ...
    ValueError: [minimize] memory must be at least 1, got 0
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(
            f"[{who}] options must be a dict from names to values, not a {type(options).__name__}"
        )
    for name in options:
        if not isinstance(name, str):
            raise TypeError(f"[{who}] options has a name that is no text but a {_kind(name)}")
    return {
        name: _RULES[name](who, name, value) if name in _RULES else value
        for name, value in options.items()
    }


def check_known(who: str, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise where an option is none of those that there are.

    Examples
    --------
    >>> from adjoint.optim.options import check_known
    >>> check_known("minimize", "it", ["gtoll"], ["gtol", "ftol"])
    Traceback (most recent call last):
        ...
    TypeError: [minimize] it has no option 'gtoll', did you mean 'gtol'? There are ftol, gtol
    """
    listed = [*known]
    for name in given:
        if name in listed:
            continue
        if name in WORDS and WORDS[name][0] in listed:
            words = "= and ".join(WORDS[name])
            raise TypeError(f"[{who}] the parameter is {words}=, not {name}=")
        said = hint_of(who, name, option=True)
        if said is not None:
            raise TypeError(f"[{who}] {what} has no option {name!r}: {said}")
        near = nearest(str(name), listed, 0.4)
        hint = f", did you mean {near!r}?" if near else "."
        there = ", ".join(sorted(listed))
        raise TypeError(f"[{who}] {what} has no option {name!r}{hint} There are {there}")


def check_entries(who: str, given: Any, wanted: Collection[str], source: str) -> None:
    """Raise unless a snapshot has the entries that are wanted; `source` says whence one has.

    Examples
    --------
    >>> from adjoint.optim.options import check_entries
    >>> check_entries("SPSA.load_state_dict", [], ["nit", "seed"], "the same method")
    Traceback (most recent call last):
        ...
    TypeError: [SPSA.load_state_dict] takes a mapping, not a list
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"[{who}] takes a mapping, not a {type(given).__name__}")
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        raise KeyError(
            f"[{who}] missing entries {missing}, unknown entries {unknown}: the snapshot must come "
            f"from {source}"
        )


def check_order(who: str, **pair: float) -> None:
    """Raise unless the first of two options is at most the second.

    Examples
    --------
    >>> from adjoint.optim.options import check_order
    >>> check_order("minimize", decrease=0.2, curvature=0.1)
    Traceback (most recent call last):
        ...
    ValueError: [minimize] decrease=0.2 must not be above curvature=0.1
    """
    (first, low), (second, high) = pair.items()
    if not low <= high:
        raise ValueError(f"[{who}] {first}={low:g} must not be above {second}={high:g}")


def check_range(
    who: str,
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    above: bool = False,
    closed: bool = False,
) -> float:
    """Return `value` as a float if ``low <= value < high``, else raise with both named.

    ``above=True`` leaves `low` out, ``closed=True`` takes `high` in.

    Examples
    --------
    >>> from adjoint.optim.options import check_range
    >>> check_range("SGD", "momentum", 1.5, 0.0, 1.0)
    Traceback (most recent call last):
        ...
    ValueError: [SGD] momentum must lie in [0, 1), got 1.5
    """
    number = check_number(who, name, value)
    if low < number < high or (number == low and not above) or (number == high and closed):
        return number
    if high == math.inf and not math.isnan(number) and number <= low:
        least = "positive" if low == 0.0 else f"above {low:g}"
        raise ValueError(
            f"[{who}] {name} must be {least if above else f'at least {low:g}'}, got {value!r}"
        )
    ends = "(" if above else "[", "]" if closed else ")"
    raise ValueError(
        f"[{who}] {name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}, got {value!r}"
    )


# ---- What an option may be -----------------------------------------------------------------------

Rule = Callable[[str, str, Any], Any]


def _kind(value: Any) -> str:
    return type(value).__name__


def _size(who: str, name: str, value: Any) -> float:
    return check_range(who, name, value, 0.0, math.inf, closed=True)


def _positive(who: str, name: str, value: Any) -> float:
    return check_range(who, name, value, 0.0, math.inf, above=True, closed=True)


def _perhaps(rule: Rule) -> Rule:
    return lambda who, name, value: None if value is None else rule(who, name, value)


def _within(low: float, high: float, *, above: bool = True) -> Rule:
    return lambda who, name, value: check_range(who, name, value, low, high, above=above)


def _at_least_one(who: str, name: str, value: Any) -> int:
    return check_count(who, name, value, 1)


def _source(who: str, name: str, value: Any) -> Any:
    if not callable(value):
        listed = ", ".join(map(repr, DERIVATIVES))
        if not isinstance(value, str):
            raise TypeError(
                f"[{who}] {name} must be a function or one of {listed}, not a {_kind(value)}"
            )
        if value not in DERIVATIVES:
            raise ValueError(f"[{who}] {name} must be a function or one of {listed}, not {value!r}")
    return value


def _target(who: str, name: str, value: Any) -> float:
    return check_range(who, name, value, -math.inf, math.inf, closed=True)


_RULES: dict[str, Rule] = {
    "accept": _within(0.0, 0.25, above=False),
    "compile": check_flag,
    "ctol": _size,
    "curvature": _within(0.0, 1.0),
    "decrease": _within(0.0, 0.5),
    "factor": _positive,
    "ftol": _size,
    "gradient": _source,
    "growth": _within(1.0, math.inf),
    "gtol": _size,
    "initial_radius": _perhaps(_positive),
    "jacobian": _source,
    "max_length": _positive,
    "max_radius": _positive,
    "memory": _at_least_one,
    "min_curvature": _positive,
    "min_length": _positive,
    "penalty": _positive,
    "target": _target,
    "xtol": _size,
}
