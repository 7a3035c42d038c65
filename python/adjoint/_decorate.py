"""Decorator forms of the context managers of the core; apart, as most programs need none."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def inside(context: Callable[[], Any], f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` so that each call runs inside a fresh ``context()``."""
    if inspect.isgeneratorfunction(f) or inspect.iscoroutinefunction(f):
        raise TypeError(
            f"[{getattr(f, '__name__', 'context')}] the body of a generator or coroutine runs "
            "after the call: use `with` inside of it instead of the decorator"
        )

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return f(*args, **kwargs)

    return call
