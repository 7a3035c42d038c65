"""Which tensors an optimizer moves: parameters found in what it was given, and groups of them."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import adjoint as ad
from adjoint.optim.options import WORDS, check_known
from adjoint.optim.scaling import ScheduleState, scale_by_learning_rate
from adjoint.optim.states import counts_of, joined, named, selected
from adjoint.optim.transform import AnyState, Tensors, Transform
from adjoint.tree import TreeDef

__all__ = ["ParamGroup"]


class ParamGroup(Mapping[str, Any]):
    """Parameters that an optimizer moves by the same options.

    A mapping, as PyTorch's are: ``"params"`` gives the parameters, and each option stands under its
    name. Options are assigned to in the same way, ``group["learning_rate"] = 0.1``; the state
    stays. ``"learning_rate"`` reads what the next step will use, also of a schedule.
    """

    def __init__(
        self,
        params: Tensors,
        structure: TreeDef,
        options: dict[str, Any],
        make: Callable[..., tuple[Transform, Any]],
    ) -> None:
        self._params = params
        self._structure = structure
        self._make = make
        self._options = options
        self._rule, self._rate = make(**options)
        self._options.pop("learning_rate", None)  # the rule has it
        with ad.no_grad():
            self._take(self._rule._begin(params, structure))

    def _take(self, state: AnyState) -> None:
        """Keep a state in handles of its own, which compiled steps read and write."""
        leaves, structure = ad.tree.flatten(state)
        self._handles: Tensors = [leaf.detach() for leaf in leaves]
        self._state = structure.unflatten(self._handles)
        # The same while all parameters have made equally many steps: their counts are one.
        self._together = True
        self._joint = joined(self._state)

    def _look_at_counts(self) -> None:
        """Find out anew whether all parameters have made equally many steps."""
        self._together = all(
            len({count.item() for count in counts}) == 1 for counts in counts_of(self._state)
        )

    # ---- A step ----------------------------------------------------------------------------------

    def _plan(self) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        """Return parameters and their updates, handles of the state and their values."""
        params, handles = self._params, self._handles
        # Those that have a gradient and are not frozen.
        grads = [g for p in params if (g := p.grad) is not None and p.requires_grad]
        if len(grads) == len(params):
            state = self._joint if self._together else self._state
        else:
            if grads:
                self._together = False  # never read on this way, so that it compiles as it runs
            present = [i for i, p in enumerate(params) if p.grad is not None and p.requires_grad]
            state = selected(self._state, present, len(params))
            handles = ad.tree.leaves(state)
            params = [params[i] for i in present]
        updates, state = self._rule._apply(grads, state, params, None)
        return params, updates, handles, ad.tree.leaves(state) if handles else handles

    # ---- Options ---------------------------------------------------------------------------------

    @property
    def params(self) -> tuple[ad.Tensor, ...]:
        """The parameters."""
        return tuple(self._params)

    @property
    def learning_rate(self) -> float:
        """What the next step will use; assign a number, a 0-d Tensor or a schedule."""
        if self._rate is None:
            raise AttributeError("[ParamGroup] the rule has no learning rate")
        return float(self._rate._rate_of(self._rate_state()).item())

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self._rate is None:
            raise AttributeError("[ParamGroup] the rule has no learning rate")
        new = scale_by_learning_rate(value).learning_rate
        if not self._rate._takes(value, new):
            self._options["learning_rate"] = new
            self._change()

    def _change(self) -> None:
        """Make the rule of the options anew, and keep what there is of the state."""
        rate = self._options.pop("learning_rate", self._rate and self._rate.learning_rate)
        options = self._options if rate is None else {**self._options, "learning_rate": rate}
        rule, number = self._make(**options)
        with ad.no_grad():
            fresh = rule._begin(self._params, self._structure)
            kept = dict(named(self._state))
            names = dict(named(fresh))
            lost = [n for n in kept if n not in names and n != "calls"]
            added = [n for n in names if n not in kept and n != "calls"]
            if lost or added:
                raise ValueError(
                    f"[ParamGroup] with these options the state gains {added} and loses {lost}: "
                    "make a new optimizer"
                )
            together = self._together
            self._rule, self._rate = rule, number
            self._take(fresh)
            for name, handle in named(self._state):
                if name in kept:
                    handle.rebind_(kept[name])
            self._together = together

    def _rate_state(self) -> AnyState:
        found = self._rule._found(self._rate, self._state)
        # A constant has no state, and a rate that only a first step reads has none of its own.
        return found[0] if found else ScheduleState(ad.zeros((), dtype=ad.int64))

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.params
        if name == "learning_rate" and self._rate is not None:
            return self.learning_rate
        if name in WORDS and name not in self._options:
            raise KeyError(f"[ParamGroup] {name!r} is called {' and '.join(WORDS[name])} here")
        return self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        check_known("ParamGroup", "it", [name], [n for n in self if n != "params"])
        if name == "learning_rate":
            self.learning_rate = value
            return
        before = dict(self._options)
        try:
            self._options[name] = value
            self._change()
        except BaseException:
            self._options = before
            raise

    def __iter__(self) -> Iterator[str]:
        yield "params"
        if self._rate is not None:
            yield "learning_rate"
        yield from self._options

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # By identity: to compare parameters by value gives a tensor, which has no single truth.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.items() if k != "params")
        return f"ParamGroup({len(self._params)} parameters{', ' * bool(shown)}{shown})"


# ---- Parameters in containers --------------------------------------------------------------------


def split_groups(owner: str, params: Any) -> list[dict[str, Any]]:
    """Return the groups that were given, or one of all parameters."""
    if isinstance(params, Iterator):
        params = list(params)
    if not isinstance(params, (list, tuple)):
        return [{"params": params}]
    is_group = [isinstance(entry, Mapping) and "params" in entry for entry in params]
    if not any(is_group):
        return [{"params": params}]
    if not all(is_group):
        raise TypeError(
            f"[{owner}] entry {is_group.index(False)} of the groups has no 'params': give a list "
            "of dicts, each with 'params' and options of its own"
        )
    return [dict(entry) for entry in params]


def checked_params(owner: str, params: Any, seen: set[int] | None = None) -> list[ad.Tensor]:
    """Return the floating leaves that some containers hold; raise at anything else."""
    if isinstance(params, numbers.Number):
        raise TypeError(
            f"[{owner}] the first argument is the parameters, got {params!r}: "
            f"write {owner}(learning_rate={params!r})"
        )
    leaves = [leaf for part in _parts(owner, params) for leaf in ad.tree.leaves(part)]
    if not leaves:
        raise ValueError(
            f"[{owner}] no parameters given: is the model empty, or an iterator used up?"
        )
    seen = set() if seen is None else seen
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, ad.Tensor):
            raise TypeError(f"[{owner}] parameter {i} is a {type(leaf).__name__}, not a Tensor")
        if not leaf.is_leaf or not ad.isdtype(leaf.dtype, "real floating"):
            what = "the result of an operation" if not leaf.is_leaf else f"of dtype {leaf.dtype}"
            raise ValueError(
                f"[{owner}] parameter {i} of shape {leaf.shape} is {what}, so no gradient "
                "accumulates in it: give floating leaves, as ad.tensor and ad.Variable make them"
            )
        if id(leaf) in seen:
            raise ValueError(f"[{owner}] parameter {i} of shape {leaf.shape} is given twice")
        seen.add(id(leaf))
    return leaves


def structure_of(given: Any, params: Tensors) -> TreeDef:
    """Return the structure in which parameters were given, that of a list where it has others."""
    leaves, structure = ad.tree.flatten(given)
    same = len(leaves) == len(params) and all(a is b for a, b in zip(leaves, params, strict=True))
    return structure if same else ad.tree.structure(params)


def check_some_train(owner: str, params: list[ad.Tensor]) -> None:
    """Some may be frozen for now; if all are, more likely somebody forgot."""
    if not any(param.requires_grad for param in params):
        raise ValueError(
            f"[{owner}] parameter 0 of shape {params[0].shape} does not require a gradient, nor "
            "does another: make them by ad.tensor(..., requires_grad=True) or ad.Variable(...)"
        )


class _Left(NamedTuple):
    """Stands below the entries of a container, which is left when it is reached."""

    container: Any


_MOST_NESTED = 100_000  # containers in each other: in a string and its like each entry is another


def _is_container(part: Any) -> bool:
    """Whether there may be parameters among its entries; those of an array are none."""
    if isinstance(part, (ad.Tensor, str, bytes)) or hasattr(type(part), "__array__"):
        return False
    return isinstance(part, Iterable)


def _parts(owner: str, params: Any) -> list[Any]:
    """Return pytrees that make up the parameters: models as theirs, the frozen ones included."""
    found: list[Any] = []
    stack = [params]
    within: set[int] = set()
    while stack:
        part = stack.pop()
        if isinstance(part, _Left):
            within.remove(id(part.container))
        elif id(part) in within:
            raise ValueError(
                f"[{owner}] a {type(part).__name__} among the parameters contains itself"
            )
        elif callable(getattr(part, "parameters", None)) and not isinstance(part, type):
            found += part.parameters()
        elif _is_container(part):
            if len(within) == _MOST_NESTED:
                raise TypeError(
                    f"[{owner}] the entries of a {type(part).__name__} among the parameters have "
                    "entries themselves, and so on without end: give Tensors in lists, tuples or "
                    "dicts"
                )
            within.add(id(part))
            entries = part.values() if isinstance(part, Mapping) else part
            stack += [_Left(part), *reversed([*entries])]
        else:
            found.append(part)
    return found
