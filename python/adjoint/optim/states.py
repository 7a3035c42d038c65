"""What the tensors of a state belong to: to one parameter each, or to all of them together.

A state of this package is a NamedTuple whose fields say so by their types, which are the words
below. That of a transform of somebody else's is any pytree, in which a list with one entry for each
parameter holds what belongs to each.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_type_hints

import adjoint as ad

__all__ = [
    "Inner",
    "Parts",
    "PerParameter",
    "Shared",
    "StepCounts",
    "counts_of",
    "joined",
    "kinds",
    "named",
    "selected",
]

_PART, _NUMBER, _COUNT, _SHARED, _INNER = "part", "number", "count", "shared", "inner"

#: Tensors shaped as the parameters, one for each; None where a rule keeps none.
Parts = Annotated[Any, _PART]
#: 0-d tensors, one for each parameter.
PerParameter = Annotated[Any, _NUMBER]
#: 0-d tensors, one for each parameter, that follow from how many steps it has made. Where all have
#: made as many, they hold one handle again and again, and `scalars` works once.
StepCounts = Annotated[Any, _COUNT]
#: A tensor of all parameters together.
Shared = Annotated[ad.Tensor, _SHARED]
#: The state of another transform.
Inner = Annotated[Any, _INNER]


@functools.cache
def kinds(state_type: Any) -> dict[str, str]:
    """Return what each field of a state of this package holds; nothing of another class.

    Examples
    --------
    >>> from adjoint.optim import AdamState
    >>> from adjoint.optim.states import kinds
    >>> kinds(AdamState)
    {'steps': 'count', 'first': 'part', 'second': 'part', 'largest': 'part'}
    """
    if not hasattr(state_type, "_fields") or not state_type.__module__.startswith("adjoint.optim."):
        return {}
    hints = get_type_hints(state_type, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def counts_of(state: Any) -> Iterator[list[ad.Tensor]]:
    """Give the lists of a state that count steps, those within other states too."""
    if isinstance(state, tuple):
        known = kinds(type(state))
        for name, part in zip(_names(state), state, strict=True):
            if known.get(name) == _COUNT and isinstance(part, list):
                yield part
            else:
                yield from counts_of(part)


def joined(state: Any) -> Any:
    """Return a state in which counts of steps are one handle again and again."""
    if not isinstance(state, tuple):
        return state
    known = kinds(type(state))
    return _remade(
        state,
        [
            part[:1] * len(part)
            if known.get(name) == _COUNT and isinstance(part, list)
            else joined(part)
            for name, part in zip(_names(state), state, strict=True)
        ],
    )


def selected(state: Any, indices: list[int], of: int) -> Any:
    """Return the part of a state that belongs to some of the parameters, and to all of them.

    Examples
    --------
    >>> from adjoint.optim.states import selected
    >>> selected({"m": [1.0, 2.0, 3.0], "t": 4.0}, [0, 2], 3)
    {'m': [1.0, 3.0], 't': 4.0}
    """
    if isinstance(state, list):
        if len(state) == of:
            return [state[i] for i in indices]
        return [selected(part, indices, of) for part in state]
    if isinstance(state, tuple):
        return _remade(state, [selected(part, indices, of) for part in state])
    if type(state) is dict:
        return {name: selected(part, indices, of) for name, part in state.items()}
    leaves = ad.tree.leaves(state)
    if leaves and leaves[0] is not state:
        raise TypeError(
            f"[Optimizer.step] a parameter has no gradient, and what a state keeps for it is not "
            f"found in a {type(state).__name__}: use lists, tuples and dicts in the state of a "
            "transform of your own"
        )
    return state


def named(state: Any) -> Iterator[tuple[str, ad.Tensor]]:
    """Give the handles of a state with names: ``first.0`` of the first parameter, and so on.

    A name that two parts of a chain have gets the places of these parts in front.
    """
    found = list(_paths(state, ()))
    short = [".".join(p for p in path if not p.startswith("@")) for path, _ in found]
    times = Counter(short)
    for (path, handle), name in zip(found, short, strict=True):
        full = ".".join(part.lstrip("@") for part in path)
        yield (name if times[name] == 1 else full), handle


def _paths(state: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ad.Tensor]]:
    if isinstance(state, ad.Tensor):
        yield path, state
    elif isinstance(state, list):
        for i, part in enumerate(state):
            yield from _paths(part, (*path, str(i)))
    elif isinstance(state, tuple):
        for name, part in zip(_names(state), state, strict=True):
            yield from _paths(part, (*path, name if hasattr(state, "_fields") else f"@{name}"))
    elif state is not None:
        for i, leaf in enumerate(ad.tree.leaves(state)):
            yield (*path, str(i)), leaf


def _names(state: tuple[Any, ...]) -> Iterable[str]:
    return getattr(state, "_fields", None) or map(str, range(len(state)))


def _remade(state: Any, parts: list[Any]) -> Any:
    return type(state)._make(parts) if hasattr(state, "_make") else tuple(parts)
