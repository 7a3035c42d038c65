"""What every first-order optimizer shares: the habit of a training loop around a rule.

An optimizer is a pair of pure functions on pytrees, ``init(params) -> state`` and
``update(grads, state, params) -> (updates, state)``, so that a whole step can be compiled, batched
or differentiated. Given parameters at construction, the same object also serves the training-loop
habit: ``loss.backward()``, ``step()``, ``zero_grad()``. Both call the same rule; no optimizer has a
second implementation of it.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.groups import (
    ParamGroup,
    check_some_train,
    checked_params,
    split_groups,
    structure_of,
)
from adjoint.optim.options import check_entries, check_known
from adjoint.optim.scaling import ScheduleState, scale_by_learning_rate
from adjoint.optim.states import named
from adjoint.optim.transform import AnyState, Leaves, Tensors, Transform, as_transform, each
from adjoint.tree import TreeDef

__all__ = ["FirstOrder", "Optimizer"]


class Optimizer(Transform):
    """A transform of gradients with the habit of a training loop.

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes: ``model.parameters()``, a list, a dict, a module. Groups with options
        of their own are dicts, as PyTorch's: ``[{"params": a}, {"params": b, "learning_rate":
        0.1}]``. Leave it out to use the pure pair `init` and `update` only.
    rule : Transform
        A `chain`, or another optimizer made without parameters.

    Notes
    -----
    In the loop habit a parameter that is frozen or whose ``grad`` is None is left alone, as is
    everything the state keeps for it: steps are counted per parameter, so that one whose first
    gradient comes late starts then. A schedule counts the calls of `step`.

    All tensors of the state are handles that `step` rebinds, so the whole method can be compiled,
    and `state_dict` saved with ``ad.io.save``.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> clipped = ad.optim.chain(ad.optim.clip_by_value(1.0), ad.optim.SGD(learning_rate=0.5))
    >>> opt = ad.optim.Optimizer([w], clipped)
    >>> for _ in range(2):
    ...     opt.zero_grad()
    ...     (w**2).backward()
    ...     opt.step()
    >>> w.item()
    2.0
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor tell those who come from PyTorch what `lr` is called here."""
        super().__init_subclass__(**options)
        if "__init__" not in vars(cls):
            return
        make, name = vars(cls)["__init__"], cls.__name__
        own = inspect.signature(make).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in own.values())

        @functools.wraps(make)
        def init(self: Any, /, *args: Any, **kwargs: Any) -> None:
            if not takes_all:
                check_known(name, "it", kwargs, [n for n in own if n != "self"])
            make(self, *args, **kwargs)

        cls.__init__ = init  # type: ignore[assignment, method-assign]

    def __init__(self, params: Any = None, rule: Any = None) -> None:
        name = type(self).__name__
        if rule is None:
            raise TypeError(f"[{name}] a rule is needed: {name}(params, ad.optim.chain(...))")
        self._given = as_transform(name, rule)
        self._set(params, {})

    def _set(self, params: Any, options: dict[str, Any]) -> None:
        self._options = options
        self._groups: list[ParamGroup] | None = None
        # Before any group: options are checked, also those that all groups replace.
        self._made = self._make(**options)
        if params is not None:
            seen: set[int] = set()
            self._groups = [
                self._made_group(given, seen) for given in split_groups(type(self).__name__, params)
            ]
            check_some_train(type(self).__name__, self._all_params(self._groups))

    def _make(self, **options: Any) -> tuple[Transform, scale_by_learning_rate | None]:
        """Return the rule, and the part of it that has the learning rate."""
        if options:
            raise ValueError(
                f"[{type(self).__name__}] the rate of a chain can be given another number; for a "
                "schedule, or another Tensor, make a new chain"
            )
        rule = self._given._own()
        rates = [t for t in rule._parts() if isinstance(t, scale_by_learning_rate)]
        return rule, rates[0] if len(rates) == 1 else None

    def _made_group(self, given: dict[str, Any], seen: set[int]) -> ParamGroup:
        name = type(self).__name__
        check_known(name, "it", given, ["params", *self._options])
        params = checked_params(name, given["params"], seen)
        own = {k: v for k, v in given.items() if k != "params"}
        structure = structure_of(given["params"], params)
        return ParamGroup(params, structure, {**self._options, **own}, self._make)

    # ---- The pure pair ---------------------------------------------------------------------------

    def _pair(self) -> tuple[Transform, scale_by_learning_rate | None]:
        """Return rule and rate: those of the only group, so that both habits share them."""
        groups = self._groups
        if groups is None or len(groups) != 1:
            return self._made
        return groups[0]._rule, groups[0]._rate

    @property
    def _rule(self) -> Transform:
        return self._pair()[0]

    @property
    def needs_params(self) -> bool:  # type: ignore[override]
        """Whether the rule reads the parameters."""
        return self._rule.needs_params

    @property
    def rule(self) -> Transform:
        """What the optimizer does to gradients, as a transform without parameters."""
        return self._rule

    @property
    def has_state(self) -> bool:
        """Whether the rule has a state."""
        return self._rule.has_state

    def _begin(self, params: Tensors, structure: TreeDef) -> AnyState:
        """Return the state before the first step."""
        return self._rule._begin(params, structure)

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Turn gradients into updates."""
        return self._rule._apply(grads, state, params, scale)

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        """Return a state of lists as one of pytrees."""
        return self._rule._pack(state, structure)

    def _unpack(self, state: Any, given: Leaves) -> AnyState:
        """Return a state of pytrees as one of lists; raise unless it fits the gradients."""
        return self._rule._unpack(state, given)

    # ---- The loop --------------------------------------------------------------------------------

    def step(self, closure: None = None) -> None:
        """Move every parameter that has a gradient, by one update.

        Parameters keep their identity and dtype: each handle is rebound to its new value, and so
        is the state. Nothing is recorded, and the whole method can be compiled.

        Parameters
        ----------
        closure : None
            PyTorch's: nothing is called here, so there must be none.

        Raises
        ------
        TypeError
            If there is a closure.
        RuntimeError
            If the optimizer was made without parameters, or no parameter has a gradient.
        """
        if closure is not None:
            raise TypeError(
                f"[{type(self).__name__}.step] takes no closure: call it before, loss = closure(), "
                "then step(); where it is to be called again and again, use ad.optim.minimize"
            )
        groups = self._groups
        if groups is None:
            groups = self._loop_groups("step")
        with ad.no_grad():
            # All is known before anything is rebound: a schedule may raise.
            plans = [group._plan() for group in groups]
            if not (plans[0][0] or any(plan[0] for plan in plans)):
                raise RuntimeError(
                    f"[{type(self).__name__}.step] none of the {len(self._all_params(groups))} "
                    "parameters has a gradient: call loss.backward() first"
                )
            for params, updates, handles, values in plans:
                for param, update in each(params, updates):
                    param.rebind_(param + update)
                if handles:
                    for handle, value in each(handles, values):
                        handle.rebind_(value)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient of every parameter: each ``grad`` becomes None.

        Parameters
        ----------
        set_to_none : bool, default True
            PyTorch's. Zeros in its place would move a parameter that has no gradient, by momentum
            or decay: False is refused.
        """
        if not check_flag(f"{type(self).__name__}.zero_grad", "set_to_none", set_to_none):
            raise ValueError(
                f"[{type(self).__name__}.zero_grad] each grad becomes None: leave set_to_none out"
            )
        for group in self._loop_groups("zero_grad"):
            for param in group._params:
                param.grad = None

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """The groups of parameters, each with its options."""
        return tuple(self._loop_groups("param_groups"))

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Move more parameters from now on.

        Parameters
        ----------
        group : dict
            With ``"params"``, and options of its own; those of the constructor otherwise.
        """
        where = f"{type(self).__name__}.add_param_group"
        groups = self._loop_groups("add_param_group")
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"[{where}] a dict with 'params' is needed")
        seen = {id(param) for param in self._all_params(groups)}
        groups.append(self._made_group(dict(group), seen))

    @property
    def learning_rate(self) -> float:
        """The step size of the next step.

        Assign a number, a 0-d Tensor or a schedule; every group gets it. A number also reaches a
        compiled step. Where groups differ, ask them: ``opt.param_groups[0]["learning_rate"]``.
        """
        if self._groups is None:
            rate = self._made[1]
            if rate is None:
                raise AttributeError(f"[{type(self).__name__}] the rule has no learning rate")
            return float(rate._rate_of(ScheduleState(ad.zeros((), dtype=ad.int64))).item())
        rates = {group.learning_rate for group in self._groups}
        if len(rates) > 1:
            raise ValueError(
                f"[{type(self).__name__}] the groups have learning rates of their own: "
                'opt.param_groups[0]["learning_rate"]'
            )
        return rates.pop()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        with _named_as(type(self).__name__):
            new = scale_by_learning_rate(value).learning_rate
        for group in self._groups or ():
            group.learning_rate = value
        rate = self._made[1]
        if rate is None:
            raise AttributeError(f"[{type(self).__name__}] the rule has no learning rate")
        if not rate._takes(value, new):
            options = {**self._options, "learning_rate": new}
            self._made, self._options = self._make(**options), options

    def _rate_handles(self) -> list[ad.Tensor]:
        """Return the tensors that the groups' learning rates are; raise where one is a schedule."""
        rates = [group._rate and group._rate.learning_rate for group in self._loop_groups("rates")]
        out: list[ad.Tensor] = []
        for rate in rates:
            if not isinstance(rate, ad.Tensor):
                what = "no learning rate" if rate is None else "a schedule as its learning rate"
                raise ValueError(
                    f"[{type(self).__name__}] a group has {what}: a number or a Tensor is needed"
                )
            if all(rate is not other for other in out):
                out.append(rate)
        return out

    # ---- Snapshots -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of learning rates and state as a flat dict of Tensors.

        Keys are ``"learning_rate"``, or ``"calls"`` with a schedule, and ``"<field>.<i>"`` where
        the state has one entry per parameter. With several groups each key starts with the group's
        number, ``"1.first.0"``. Later steps do not change a snapshot; ``ad.io.save`` writes it.
        """
        groups = self._loop_groups("state_dict")
        return {name: handle.detach() for name, handle in self._handles(groups)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a snapshot made by `state_dict` of an optimizer over the same parameters.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array

        Raises
        ------
        KeyError, ValueError, TypeError
            If an entry is missing, unknown, or of another shape or dtype. Nothing is changed then.
        """
        groups = self._loop_groups("load_state_dict")
        where = f"{type(self).__name__}.load_state_dict"
        load_handles(where, dict(self._handles(groups)), state_dict, self._check_loaded)
        for group in groups:
            group._look_at_counts()

    def _check_loaded(self, name: str, value: ad.Tensor) -> None:
        if name.rpartition(".")[2] == "learning_rate":
            with _named_as(type(self).__name__):
                scale_by_learning_rate(value.item())

    def _handles(self, groups: list[ParamGroup]) -> Iterator[tuple[str, ad.Tensor]]:
        for i, group in enumerate(groups):
            prefix = f"{i}." if len(groups) > 1 else ""
            rate = group._rate and group._rate.learning_rate
            if isinstance(rate, ad.Tensor):
                yield f"{prefix}learning_rate", rate
            for name, handle in named(group._state):
                yield f"{prefix}{name}", handle

    def __repr__(self) -> str:
        held = []
        number = self._pair()[1]
        if number is not None:
            rate = number.learning_rate
            is_number = isinstance(rate, ad.Tensor) or self._groups is not None
            try:
                held.append(f"learning_rate={self.learning_rate:g}" if is_number else f"{rate!r}")
            except ValueError:
                held.append("learning_rate=...")
        if self._groups is not None:
            held.append(f"{len(self._all_params(self._groups))} parameters")
            held += [f"{len(self._groups)} groups"] * (len(self._groups) > 1)
        return f"{type(self).__name__}({', '.join(held)})"

    def _loop_groups(self, method: str) -> list[ParamGroup]:
        if self._groups is None:
            name = type(self).__name__
            raise RuntimeError(
                f"[{name}.{method}] this optimizer was made without parameters: write "
                f"{name}(model.parameters(), ...), or use the pure pair init and update"
            )
        return self._groups

    def _all_params(self, groups: list[ParamGroup]) -> Tensors:
        return [param for group in groups for param in group._params]


class FirstOrder(Optimizer):
    """Base of the optimizers with a name: a rule that follows from options.

    A subclass says in `_build` which chain its options stand for.
    """

    def __init__(self, params: Any = None, learning_rate: Any = 0.001, **options: Any) -> None:
        self._set(params, {"learning_rate": learning_rate, **options})

    @classmethod
    @abc.abstractmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule; raise where an option is out of its range.

        Parameters
        ----------
        rate : scale_by_learning_rate
            To be put at the end, or to be read.
        **options
            The constructor's keywords.
        """

    def _make(self, **options: Any) -> tuple[Transform, scale_by_learning_rate | None]:
        with _named_as(type(self).__name__):
            rate = scale_by_learning_rate(options.pop("learning_rate"))
            return self._build(rate, **options), rate


class _named_as:
    """Errors of a transform's options name the optimizer that was given them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind in (TypeError, ValueError) and str(error).startswith("["):
            raise kind(f"[{self._name}]{str(error).partition(']')[2]}") from None


def load_handles(
    where: str,
    handles: dict[str, ad.Tensor],
    state_dict: Mapping[str, Any],
    check: Callable[[str, ad.Tensor], None] = lambda name, value: None,
) -> None:
    """Give handles the values of a snapshot, once all entries are known to fit."""
    source = "the same optimizer with the same settings over the same parameters"
    check_entries(where, state_dict, handles, source)
    values = {name: ad.asarray(state_dict[name]) for name in handles}
    for name, handle in handles.items():
        if values[name].shape != handle.shape:
            raise ValueError(
                f"[{where}] {name!r} has shape {values[name].shape}, expected {handle.shape}"
            )
        if values[name].dtype != handle.dtype:
            raise TypeError(
                f"[{where}] {name!r} has dtype {values[name].dtype}, expected {handle.dtype}: "
                "convert it with ad.astype"
            )
        check(name, values[name])
    with ad.no_grad():
        for name, handle in handles.items():
            handle.rebind_(values[name])
