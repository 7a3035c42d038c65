"""Optimizers: pure ``init``/``update`` pairs on pytrees that also drive a training loop.

`search` holds the derivative-free methods; it is imported at first use, as it needs NumPy.
"""

from adjoint.optim.adam import Adam, AdamState
from adjoint.optim.base import Optimizer, apply_updates
from adjoint.optim.sgd import SGD, SGDState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from adjoint.optim import search as search

__all__ = ["SGD", "Adam", "AdamState", "Optimizer", "SGDState", "apply_updates", "search"]

_MODULES = frozenset(("search",))


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"adjoint.optim.{name}")
    raise AttributeError(f"module 'adjoint.optim' has no attribute {name!r}")
