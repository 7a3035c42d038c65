"""`copy.copy` and `copy.deepcopy` of a tensor.

A computed tensor gives a clone: the identity, through which derivatives, batches and traces pass.
Any other is copied as pickling would, a leaf to another leaf.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any

from adjoint import _core
from adjoint._core import Tensor


def copied(x: Tensor, memo: dict[int, Any] | None = None) -> Tensor:
    """Return a copy, deep where there is a memo."""
    made: Tensor
    if _core._is_connected(x) or _is_watched(x):
        made, state = _core._connected_copy(x), vars(x)
        made.name = x.name
    else:
        reduced: Any = x.__reduce_ex__(4)
        rebuild, args, state, *_ = reduced
        made = rebuild(*args)
    if memo is not None:
        memo[id(x)] = made  # before what the attributes hold, which may be `x` again
        state = deepcopy(state, memo)
    if state and hasattr(made, "__setstate__"):
        made.__setstate__(state)
    elif state:
        vars(made).update(state)
    return made


def _is_watched(x: Tensor) -> bool:
    """Whether it is a leaf for a while only, as long as a tape watches it."""
    tape = sys.modules.get("adjoint._tape")
    return tape is not None and id(x) in tape._watchers
