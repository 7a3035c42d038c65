"""What every first-order optimizer shares.

An optimizer is a pair of pure functions on pytrees, ``init(params) -> state`` and
``update(grads, state, params) -> (updates, state)``, so that a whole step can be compiled, batched
or differentiated. Given parameters at construction, the same object also serves the training-loop
habit: ``loss.backward()``, ``step()``, ``zero_grad()``. The loop methods are written on top of the
pair; no optimizer has a second implementation of its rule.
"""

from __future__ import annotations

import abc
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import adjoint as ad
from adjoint._arguments import check_number, check_words

__all__ = ["Optimizer", "apply_updates"]

StateT = TypeVar("StateT", bound=NamedTuple)


def apply_updates(params: Any, updates: Any) -> Any:
    """Add updates to parameters, leaf by leaf.

    Parameters
    ----------
    params : pytree of Tensor
    updates : pytree of Tensor
        The first result of `Optimizer.update`; same structure and shapes as `params`.

    Returns
    -------
    pytree of Tensor
        ``params + updates``; the arguments are left as they are.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.optim.apply_updates({"w": ad.tensor(1.0)}, {"w": ad.tensor(0.5)})["w"].item()
    1.5
    """

    def add(param: ad.Tensor, update: ad.Tensor) -> ad.Tensor:
        param, update = ad.asarray(param), ad.asarray(update)
        if param.shape != update.shape:
            raise ValueError(
                f"[apply_updates] an update of shape {update.shape} for a parameter of shape "
                f"{param.shape}: both must be equal, updates do not broadcast"
            )
        if ad.result_type(param, update) != param.dtype:
            raise TypeError(
                f"[apply_updates] an update of dtype {update.dtype} would change the dtype of a "
                f"parameter, {param.dtype}: convert it with ad.astype"
            )
        return param + update

    return ad.tree.map(add, params, updates)


def check_range(where: str, name: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float if ``low <= value < high``, else raise with both named."""
    number = check_number(where, name, value)
    if not low <= number < high:
        raise ValueError(f"[{where}] {name} must lie in [{low:g}, {high:g}), got {value!r}")
    return number


def check_state(where: str, state: Any, cls: type) -> None:
    """Raise unless a state is one of `cls`."""
    if not isinstance(state, cls):
        raise TypeError(
            f"[{where}] state is a {type(state).__name__}, not the {cls.__name__} that init or the "
            "last update returned"
        )


def check_shapes(where: str, grads: Any, *others: Any) -> None:
    """Raise unless the gradients are shaped as other trees are, leaf by leaf."""

    def check(grad: Any, *likes: Any) -> None:
        shape = ad.asarray(grad).shape
        for like in likes:
            if shape != ad.asarray(like).shape:
                raise ValueError(
                    f"[{where}] a gradient of shape {shape} where parameters or state have shape "
                    f"{ad.asarray(like).shape}: both must be equal"
                )

    ad.tree.map(check, grads, *others)


def cast_per_dtype(scalar: ad.Tensor) -> Callable[[ad.Tensor], ad.Tensor]:
    """Return ``like -> scalar as like's dtype``, converting once per dtype met.

    Step sizes are computed once per step in float64; parameters keep their own dtype, and a 0-d
    tensor is not a weak scalar, so each dtype needs its own copy of the number.
    """
    known: dict[ad.DType, ad.Tensor] = {}

    def cast(like: ad.Tensor) -> ad.Tensor:
        dtype = like.dtype
        if dtype not in known:
            known[dtype] = ad.astype(scalar, dtype)
        return known[dtype]

    return cast


class Optimizer(abc.ABC, Generic[StateT]):
    """Base of the first-order optimizers.

    Parameters
    ----------
    params : iterable or pytree of Tensor, optional
        What `step` changes: ``model.parameters()``, a list, a dict, a module. Leave it out to use
        the pure pair `init` and `update` only.
    learning_rate : float
        Positive. Read from a Tensor at each step, so assigning to `learning_rate` between two calls
        also reaches a compiled step.

    Notes
    -----
    A subclass defines `init` and `update`. Its state is a NamedTuple whose fields are either None,
    a 0-d Tensor, or a pytree with the structure of `params`. `update` must not look at values, so
    that it can be compiled.

    In the loop habit a parameter that is frozen or whose ``grad`` is None is left alone, as is
    everything the state keeps for it; counts of steps are shared by all parameters.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor tell those who come from PyTorch what `lr` is called here."""
        super().__init_subclass__(**options)
        if "__init__" not in vars(cls):
            return
        make, name = vars(cls)["__init__"], cls.__name__

        @functools.wraps(make)
        def init(self: Any, /, *args: Any, **kwargs: Any) -> None:
            check_words(name, kwargs.keys() - own, lr="learning_rate")
            make(self, *args, **kwargs)

        own = inspect.signature(make).parameters.keys()
        cls.__init__ = init  # type: ignore[assignment, method-assign]

    def __init__(self, params: Any = None, *, learning_rate: float) -> None:
        self._rate = ad.tensor(self._checked_rate(learning_rate), dtype=ad.float64)
        self._params: list[ad.Tensor] | None = None
        self._state: StateT | None = None
        if params is not None:
            self._params = _checked_params(type(self).__name__, params)
            with ad.no_grad():
                self._state = self.init(self._params)

    @abc.abstractmethod
    def init(self, params: Any) -> StateT:
        """Return the state before the first step.

        Parameters
        ----------
        params : pytree of Tensor

        Returns
        -------
        NamedTuple
            A pytree, to be handed to `update`.
        """

    @abc.abstractmethod
    def update(self, grads: Any, state: StateT, params: Any = None) -> tuple[Any, StateT]:
        """Turn gradients into updates; changes nothing.

        Parameters
        ----------
        grads : pytree of Tensor
            Gradients, structured as the parameters.
        state : NamedTuple
            From `init` or the previous `update`.
        params : pytree of Tensor, optional
            The current parameters; needed only with weight decay.

        Returns
        -------
        updates : pytree of Tensor
            What to add to the parameters, see `apply_updates`.
        state : NamedTuple
            For the next call.
        """

    @property
    def learning_rate(self) -> float:
        """The step size; assign to it to follow a schedule."""
        return float(self._rate.item())

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rate = ad.tensor(self._checked_rate(value), dtype=ad.float64)
        with ad.no_grad():
            self._rate.rebind_(rate)

    def step(self) -> None:
        """Move every parameter that has a gradient, by one update.

        Parameters keep their identity and dtype: each handle is rebound to its new value, and so
        is the state. Nothing is recorded, and the whole method can be compiled.

        Raises
        ------
        RuntimeError
            If the optimizer was made without parameters, or no parameter has a gradient.
        """
        params, state = self._loop_parts("step")
        grads = [param.grad for param in params]
        present = [
            i for i, grad in enumerate(grads) if grad is not None and params[i].requires_grad
        ]
        if not present:
            raise RuntimeError(
                f"[{type(self).__name__}.step] none of the {len(params)} parameters has a gradient:"
                " call loss.backward() first"
            )
        if len(present) < len(params):
            params = [params[i] for i in present]
            grads = [grads[i] for i in present]
            state = _select(state, present)
        with ad.no_grad():
            updates, new_state = self.update(grads, state, params)
            for param, update in zip(params, updates, strict=True):
                param.rebind_(param + update)
            _rebind(state, new_state)

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter: each ``grad`` becomes None."""
        params, _ = self._loop_parts("zero_grad")
        for param in params:
            param.grad = None

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of learning rate and state as a flat dict of Tensors.

        Keys are ``"learning_rate"``, the state's field names, and ``"<field>.<i>"`` where a field
        has one entry per parameter. Later steps do not change a snapshot.
        """
        _, state = self._loop_parts("state_dict")
        return {name: handle.detach() for name, handle in self._handles(state)}

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
        _, state = self._loop_parts("load_state_dict")
        where = f"[{type(self).__name__}.load_state_dict]"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{where} takes a mapping, not a {type(state_dict).__name__}")
        handles = dict(self._handles(state))
        missing = [name for name in handles if name not in state_dict]
        unknown = [name for name in state_dict if name not in handles]
        if missing or unknown:
            raise KeyError(
                f"{where} missing entries {missing}, unknown entries {unknown}: the snapshot must "
                "come from the same optimizer with the same settings over the same parameters"
            )
        values = {name: ad.asarray(state_dict[name]) for name in handles}
        for name, handle in handles.items():
            if values[name].shape != handle.shape:
                raise ValueError(
                    f"{where} {name!r} has shape {values[name].shape}, expected {handle.shape}"
                )
            if values[name].dtype != handle.dtype:
                raise TypeError(
                    f"{where} {name!r} has dtype {values[name].dtype}, expected {handle.dtype}: "
                    "convert it with ad.astype"
                )
        self._checked_rate(float(values["learning_rate"].item()))
        with ad.no_grad():
            for name, handle in handles.items():
                handle.rebind_(values[name])

    def __repr__(self) -> str:
        held = "" if self._params is None else f", {len(self._params)} parameters"
        return f"{type(self).__name__}(learning_rate={self.learning_rate:g}{held})"

    def _checked_rate(self, value: Any) -> float:
        number = check_number(type(self).__name__, "learning_rate", value)
        if not (number > 0.0 and math.isfinite(number)):
            raise ValueError(
                f"[{type(self).__name__}] learning_rate must be positive and finite, got {value!r}"
            )
        return number

    def _loop_parts(self, method: str) -> tuple[list[ad.Tensor], StateT]:
        if self._params is None or self._state is None:
            name = type(self).__name__
            raise RuntimeError(
                f"[{name}.{method}] this optimizer was made without parameters: write "
                f"{name}(model.parameters(), ...), or use the pure pair init and update"
            )
        return self._params, self._state

    def _handles(self, state: StateT) -> Iterator[tuple[str, ad.Tensor]]:
        yield "learning_rate", self._rate
        for field, value in zip(_fields(state), state, strict=True):
            if isinstance(value, list):
                yield from ((f"{field}.{i}", handle) for i, handle in enumerate(value))
            elif value is not None:
                yield field, value


def _checked_params(owner: str, params: Any) -> list[ad.Tensor]:
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
    seen: set[int] = set()
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
    # Some may be frozen for now; if all are, more likely somebody forgot.
    if not any(leaf.requires_grad for leaf in leaves):
        raise ValueError(
            f"[{owner}] parameter 0 of shape {leaves[0].shape} does not require a gradient, nor "
            "does another: make them by ad.tensor(..., requires_grad=True) or ad.Variable(...)"
        )
    return leaves


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


def _fields(state: StateT) -> tuple[str, ...]:
    return type(state)._fields


def _select(state: StateT, indices: list[int]) -> StateT:
    """Return the part of a loop state (fields per parameter are lists) that `indices` name."""
    parts = ([value[i] for i in indices] if isinstance(value, list) else value for value in state)
    return type(state)._make(parts)


def _rebind(state: StateT, new_state: StateT) -> None:
    """Rebind the handles in `state`: a compiled step sees rebound handles, not new attributes."""
    handles, values = ad.tree.leaves(state), ad.tree.leaves(new_state)
    for handle, value in zip(handles, values, strict=True):
        handle.rebind_(value)
