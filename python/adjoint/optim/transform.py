"""Transforms of gradients, and what puts them together.

A transform is a pair of pure functions on pytrees, ``init(params) -> state`` and
``update(grads, state, params) -> (updates, state)``. One that is written here says what it does to
*lists* of tensors, by `_start` and `_apply`: one loop over the parameters, no walk through
containers per operation. The pair on pytrees is made of these two once, in `Transform`; a training
loop, which keeps its parameters in lists anyway, calls them as they are. There is no second form of
any rule.

A state is a NamedTuple, whose fields say what they hold by the types of `states`. In lists, a field
is a list with one entry per parameter, None, or a tensor of all parameters together (the count of
calls); on pytrees such a list has the structure of the parameters.

What comes from elsewhere, pytrees and the results of a transform of somebody else's, is checked
once where it comes in: `Leaves` and `_Pair`.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable
from typing import Any

import adjoint as ad
from adjoint.optim.states import kinds
from adjoint.tree import TreeDef

__all__ = ["Transform", "apply_updates", "chain"]

AnyState = Any  # None, or a NamedTuple as above, or a tuple of such
Tensors = list[ad.Tensor]

FLOAT64 = ad.float64  # an attribute of a module is looked up at each use

# For lists with one entry per parameter, whose lengths are known to be equal: to check that again
# in each loop costs as much as several operations on a small parameter.
each = zip


class Transform(abc.ABC):
    """Base of what turns gradients into updates: a pair of pure functions, `init` and `update`.

    The package's transforms and optimizers derive from it. One of your own is any object with such
    a pair, see `chain`.

    Examples
    --------
    >>> import adjoint as ad
    >>> isinstance(ad.optim.Adam(learning_rate=0.1), ad.optim.Transform)
    True
    """

    #: The NamedTuple that states are, None without one.
    state_type: type[Any] | None = None
    #: Whether `_apply` reads the parameters.
    needs_params: bool = False
    #: Whether a number goes through: updates come scaled already, `_apply` is told by what.
    keeps_scale: bool = False

    def _start(self, params: Tensors) -> AnyState:
        """Return the state before the first step; None if there is none.

        Parameters
        ----------
        params : list of Tensor

        Returns
        -------
        NamedTuple of lists with one Tensor per parameter, or None
        """
        return None

    def _begin(self, params: Tensors, structure: TreeDef) -> AnyState:
        """Return the state before the first step of parameters that come from a pytree.

        What is made of other transforms, or was given a pytree, defines it; else `_start` does.
        """
        return self._start(params)

    @abc.abstractmethod
    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Turn gradients into updates; must not look at values, and changes nothing.

        Parameters
        ----------
        grads : list of Tensor
        state : what `_start` or the previous call returned
        params : list of Tensor or None
            Where `needs_params` is true, never None.
        scale : 0-d float64 Tensor or None
            What the updates are to be multiplied by, see `scaled`. A rule that multiplies by a
            number of its own multiplies the two numbers, instead of every entry twice.

        Returns
        -------
        updates : list of Tensor
        state
            For the next call; the argument is left as it is.
        """

    def init(self, params: Any) -> Any:
        """Return the state before the first step.

        Parameters
        ----------
        params : pytree of Tensor

        Returns
        -------
        pytree of Tensor
            To be handed to `update`. Parts that are kept per parameter have the structure of
            `params`.
        """
        leaves, structure = ad.tree.flatten(params)
        return self._pack(self._begin([ad.asarray(leaf) for leaf in leaves], structure), structure)

    def update(self, grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Turn gradients into updates; changes nothing.

        Parameters
        ----------
        grads : pytree of Tensor
            Gradients, structured as the parameters.
        state : pytree of Tensor
            From `init` or the previous `update`.
        params : pytree of Tensor, optional
            The current parameters; needed with weight decay, and by rules that say so.

        Returns
        -------
        updates : pytree of Tensor
            What to add to the parameters, see `apply_updates`.
        state
            For the next call.
        """
        where = f"{type(self).__name__}.update"
        given = Leaves(where, "gradients", grads)
        parts = self._unpack(state, given)
        values = None
        if params is not None:
            values = given.like("parameters", params)
        elif self.needs_params:
            raise ValueError(f"[{where}] weight_decay needs params: update(grads, state, params)")
        updates, parts = self._apply(given.tensors, parts, values, None)
        after = self._pack(parts, given.structure)
        if given.met_other_order:
            after = ad.tree.map(lambda _, new: new, state, after)
        return given.structure.unflatten(updates), after

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        """Return a state of lists as one of pytrees."""
        if state is None:
            return ()
        parts = (structure.unflatten(part) if isinstance(part, list) else part for part in state)
        return type(state)._make(parts)

    def _unpack(self, state: Any, given: Leaves) -> AnyState:
        """Return a state of pytrees as one of lists; raise unless it fits the gradients."""
        state_type: Any = self.state_type
        if state_type is None:
            check_state(given.where, state, tuple)
            return None
        check_state(given.where, state, state_type)
        known = kinds(state_type)
        return state_type._make(
            part
            if part is None or known[name] == "shared"
            else given.like(name, part, shapes=known[name] == "part")
            for name, part in zip(state_type._fields, state, strict=True)
        )

    def _found(self, part: Transform, state: AnyState) -> tuple[AnyState, ...]:
        """Return the state, in lists, of a transform that this one is made of: none, or one."""
        return (state,) if part is self else ()

    def _own(self) -> Transform:
        """Return a transform whose numbers that can be assigned to are no other one's."""
        return self

    def _parts(self) -> list[Transform]:
        """Return what it is made of: itself, and the transforms in it."""
        return [self]

    @property
    def has_state(self) -> bool:
        """Whether there is anything to keep from one step to the next."""
        return self.state_type is not None

    def __repr__(self) -> str:
        plain = (bool, float, tuple)
        shown = (f"{k[1:]}={v!r}" for k, v in vars(self).items() if isinstance(v, plain))
        return f"{type(self).__name__}({', '.join(shown)})"


class Scalar(Transform):
    """A transform that multiplies all updates by one number; at the end of a chain, by `scale`."""

    @abc.abstractmethod
    def _factor_of(self, state: AnyState) -> tuple[ad.Tensor, AnyState]:
        """Return the 0-d float64 number, and the next state."""

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Return the gradients times the number."""
        factor, state = self._factor_of(state)
        return scaled(grads, factor if scale is None else factor * scale), state


class chain(Transform):
    """Transforms applied one after another.

    Parameters
    ----------
    *transforms : Transform
        Also an `Optimizer` without parameters, or any object with ``init(params)`` and
        ``update(grads, state, params)``: these are given lists of tensors. Its state may be any
        pytree, with lists for what there is one of for each parameter.

    Notes
    -----
    Without transforms, updates are the gradients. The state is ``()`` if no transform has one, the
    state of the only one that has, or a tuple of those that have. A chain in a chain is as if its
    transforms stood there.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.chain(
    ...     ad.optim.clip_by_norm(1.0),
    ...     ad.optim.trace(0.9),
    ...     ad.optim.scale_by_learning_rate(0.5),
    ... )
    >>> params = ad.tensor([30.0, 40.0])
    >>> updates, state = rule.update(params, rule.init(params))
    >>> [round(u, 6) for u in updates.tolist()]
    [-0.3, -0.4]

    A transform of your own: updates that have the gradients' signs.

    >>> class Signs:
    ...     def init(self, params):
    ...         return ()
    ...
    ...     def update(self, grads, state, params=None):
    ...         return [ad.sign(g) for g in grads], state
    >>> signs = ad.optim.chain(Signs(), ad.optim.scale_by_learning_rate(0.5))
    >>> updates, _ = signs.update(params, signs.init(params))
    >>> updates.tolist()
    [-0.5, -0.5]

    With the habit of a training loop:

    >>> w = ad.tensor([30.0, 40.0], requires_grad=True)
    >>> opt = ad.optim.Optimizer([w], rule)
    >>> ad.sum(w**2).backward()
    >>> opt.step()
    >>> [round(x, 6) for x in w.tolist()]
    [29.7, 39.6]
    """

    def __init__(self, *transforms: Any) -> None:
        members: list[Transform] = []
        for i, given in enumerate(transforms):
            members += _members(f"[chain] transform {i}", given)
        self._transforms = members
        self.needs_params = any(t.needs_params for t in members)
        end = len(members)
        while end and isinstance(members[end - 1], Scalar):
            end -= 1
        # The number at the end is handed to the last of the others, and past what keeps it.
        first = end - 1
        while first > 0 and members[first].keeps_scale:
            first -= 1
        # What keeps it cannot put it on: what comes first has it put on before.
        self._early = end == 0 or (first == 0 and members[0].keeps_scale)
        self._kept = [t for t in members if t.has_state]
        # A transform may stand there twice, with a state at each place.
        numbers = itertools.count()
        slots = [next(numbers) if t.has_state else -1 for t in members]
        self._rules = tuple((t, slots[i], i >= first) for i, t in enumerate(members[:end]))
        self._numbers: tuple[Any, ...] = tuple(zip(members[end:], slots[end:], strict=True))

    def _parts(self) -> list[Transform]:
        """Return the chain and the transforms in it."""
        return [self, *(part for t in self._transforms for part in t._parts())]

    @property
    def has_state(self) -> bool:
        """Whether a transform of the chain has a state."""
        return bool(self._kept)

    def _begin(self, params: Tensors, structure: TreeDef) -> AnyState:
        """Return the states of those that have one."""
        states = [t._begin(params, structure) for t in self._kept]
        return states[0] if len(states) == 1 else tuple(states)

    def _found(self, part: Transform, state: AnyState) -> tuple[AnyState, ...]:
        """Return the state of a transform of the chain."""
        states = (state,) if len(self._kept) == 1 else state
        held = zip(self._kept, states, strict=True)
        return tuple(found for t, own in held for found in t._found(part, own))[:1]

    def _own(self) -> Transform:
        """Return a chain of transforms whose numbers are theirs."""
        return chain(*[t._own() for t in self._transforms])

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Apply one after another."""
        alone = len(self._kept) == 1
        states = [state] if alone else list(state)
        for number, slot in self._numbers:
            factor, after = number._factor_of(states[slot] if slot >= 0 else None)
            scale = factor if scale is None else factor * scale
            if slot >= 0:
                states[slot] = after
        if self._early:
            grads = scaled(grads, scale)
        for rule, slot, is_scaled in self._rules:
            part = states[slot] if slot >= 0 else None
            grads, part = rule._apply(grads, part, params, scale if is_scaled else None)
            if slot >= 0:
                states[slot] = part
        return grads, states[0] if alone else tuple(states)

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        """Return a state of lists as one of pytrees."""
        if len(self._kept) == 1:
            return self._kept[0]._pack(state, structure)
        return tuple(t._pack(s, structure) for t, s in zip(self._kept, state, strict=True))

    def _unpack(self, state: Any, given: Leaves) -> AnyState:
        """Return a state of pytrees as one of lists; raise unless it fits the gradients."""
        if len(self._kept) == 1:
            return self._kept[0]._unpack(state, given)
        if not isinstance(state, tuple) or len(state) != len(self._kept):
            raise TypeError(
                f"[{given.where}] state must be the tuple of {len(self._kept)} states that init or "
                f"the last update returned, not a {type(state).__name__}"
            )
        return tuple(t._unpack(s, given) for t, s in zip(self._kept, state, strict=True))

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self._transforms))})"


class _Pair(Transform):
    """Any object with ``init`` and ``update``, on lists; its state is any pytree of tensors."""

    needs_params = False

    def __init__(self, pair: Any) -> None:
        self._pair = pair
        self._who = type(pair).__name__

    @property
    def has_state(self) -> bool:
        return True

    def _start(self, params: Tensors) -> AnyState:
        return self._tensors("init", self._pair.init(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        out = self._pair.update(grads, state, params)
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"[{self._who}.update] must return (updates, state), not a {type(out).__name__}"
            )
        updates = self._updates(grads, out[0])
        return scaled(updates, scale), self._next(state, self._tensors("update", out[1]))

    def _tensors(self, method: str, state: AnyState) -> AnyState:
        """Return a state with tensors for its numbers."""
        try:
            return ad.tree.map(ad.asarray, state)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"[{self._who}.{method}] the state must be a pytree of tensors: {error}"
            ) from None

    def _updates(self, grads: Tensors, updates: Any) -> Tensors:
        """Return updates as a list; raise unless there is one like each gradient."""
        where = f"[{self._who}.update]"
        if not isinstance(updates, (list, tuple)):
            raise TypeError(f"{where} updates must be a list, not a {type(updates).__name__}")
        if len(updates) != len(grads):
            raise ValueError(
                f"{where} {len(updates)} updates for {len(grads)} gradients: one for each is wanted"
            )
        found = [ad.asarray(update) for update in updates]
        for i, (grad, update) in enumerate(each(grads, found)):
            if update.shape != grad.shape or update.dtype is not grad.dtype:
                raise ValueError(
                    f"{where} update {i} must be like its gradient: shapes {update.shape} and "
                    f"{grad.shape}, dtypes {update.dtype} and {grad.dtype}"
                )
        return found

    def _next(self, state: AnyState, after: AnyState) -> AnyState:
        """Return the next state; raise unless it is structured, and shaped, as the last one."""
        old, structure = ad.tree.flatten(state)
        new, own = ad.tree.flatten(after)
        if own != structure:
            raise ValueError(
                f"[{self._who}.update] the state must keep its structure: {structure} before and "
                f"{own} after"
            )
        for before, now in each(map(ad.asarray, old), new):
            if before.shape != now.shape or before.dtype is not now.dtype:
                raise ValueError(
                    f"[{self._who}.update] a part of the state must keep its shape and dtype: "
                    f"shapes {before.shape} and {now.shape}, dtypes {before.dtype} and {now.dtype}"
                )
        return after

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        return state

    def _unpack(self, state: Any, given: Leaves) -> AnyState:
        return state

    def __repr__(self) -> str:
        return repr(self._pair)


def _members(what: str, given: Any) -> list[Transform]:
    """Return what one argument of `chain` stands for; `what` begins the text of an error."""
    rule = getattr(given, "rule", given) if isinstance(given, Transform) else given
    if isinstance(rule, chain):
        return rule._transforms
    if isinstance(rule, Transform):
        return [rule]
    if callable(getattr(rule, "init", None)) and callable(getattr(rule, "update", None)):
        if not isinstance(rule, type):
            return [_Pair(rule)]
    hint = f": write {rule.__name__}(...)" if isinstance(rule, type) else ""
    raise TypeError(f"{what} is a {type(given).__name__} without init and update{hint}")


def as_transform(who: str, given: Any) -> chain:
    """Return a chain of one transform."""
    return chain(*_members(f"[{who}] the rule", given))


# ---- Numbers per parameter -----------------------------------------------------------------------


def scaled(updates: Tensors, scale: ad.Tensor | None) -> Tensors:
    """Multiply updates by one number, in the dtype of each.

    Parameters
    ----------
    updates : list of Tensor
    scale : 0-d Tensor or None
        None stands for 1.

    Returns
    -------
    list of Tensor
    """
    if scale is None:
        return updates
    out, factor, dtype = [], scale, scale.dtype
    for update in updates:
        if update.dtype is not dtype:
            dtype = update.dtype
            factor = as_dtype(scale, dtype)
        out.append(update * factor)
    return out


def as_dtype(number: ad.Tensor, dtype: ad.DType) -> ad.Tensor:
    """Return a number in the dtype of what it meets: a 0-d tensor is not a weak scalar."""
    return number if number.dtype is dtype else ad.astype(number, dtype)


def scalars(
    steps: Tensors, likes: Tensors, make: Callable[[ad.Tensor, int], tuple[ad.Tensor, ...]]
) -> list[tuple[ad.Tensor, ...]]:
    """Return ``make(count, i)`` in its dtype for each parameter, once where neighbours share both.

    Step sizes follow from counts in float64; parameters keep their own dtype.
    """
    out: list[tuple[ad.Tensor, ...]] = []
    last, dtype = None, None
    made: tuple[ad.Tensor, ...] = ()
    entry: tuple[ad.Tensor, ...] = ()
    for i, count in enumerate(steps):
        if count is not last:
            last, dtype = count, None
            entry = made = make(count, i)
        if likes[i].dtype is not dtype:
            dtype = likes[i].dtype
            entry = made if dtype is FLOAT64 else tuple([ad.astype(x, dtype) for x in made])
        out.append(entry)
    return out


def no_steps(params: Tensors) -> Tensors:
    """Return a count of zero for each parameter: one handle for all, as they are equal."""
    return [ad.zeros((), dtype=ad.int64)] * len(params)


def next_steps(steps: Tensors) -> Tensors:
    """Return counts that are one higher; where neighbours share a handle, they share the next."""
    out: Tensors = []
    last: ad.Tensor | None = None
    for count in steps:
        out.append(out[-1] if count is last else count + 1)
        last = count
    return out


def zeros(params: Tensors) -> Tensors:
    """Return zeros shaped as the parameters."""
    return [ad.zeros_like(param) for param in params]


# ---- Checks --------------------------------------------------------------------------------------


def check_state(where: str, state: Any, cls: type) -> None:
    """Raise unless a state is one of `cls`."""
    if not isinstance(state, cls):
        raise TypeError(
            f"[{where}] state is a {type(state).__name__}, not the {cls.__name__} that init or the "
            "last update returned"
        )


class Leaves:
    """The leaves of a pytree, which others must be structured as; dicts are matched by their keys.

    Parameters
    ----------
    where : str
        Of what an error speaks.
    name : str
        What the leaves are.
    tree : pytree of Tensor

    Attributes
    ----------
    tensors : list of Tensor
    structure : TreeDef
    met_other_order : bool
        Whether a tree had its keys in another order.
    """

    def __init__(self, where: str, name: str, tree: Any) -> None:
        leaves, self.structure = ad.tree.flatten(tree)
        self.where, self.name = where, name
        self.tensors = [ad.asarray(leaf) for leaf in leaves]
        self.met_other_order = False

    def like(self, name: str, tree: Any, *, shapes: bool = True) -> Tensors:
        """Return the leaves of a tree in the order of these; raise where it does not fit."""
        leaves, own = ad.tree.flatten(tree)
        if own != self.structure:
            found = matched(self.structure, tree)
            if found is None:
                raise ValueError(
                    f"[{self.where}] {self.name} of structure {self.structure} with {name} of "
                    f"structure {own}: both must be equal"
                )
            leaves, self.met_other_order = found, True
        leaves = [ad.asarray(leaf) for leaf in leaves]
        for tensor, leaf in zip(self.tensors, leaves, strict=True):
            if shapes and tensor.shape != leaf.shape:
                raise ValueError(
                    f"[{self.where}] {name} of shape {leaf.shape} where {self.name} have shape "
                    f"{tensor.shape}: both must be equal"
                )
        return leaves


def matched(structure: TreeDef, tree: Any) -> list[Any] | None:
    """Return the leaves of a tree in the order of a structure, None where it has another one.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.transform import matched
    >>> matched(ad.tree.structure({"w": 0, "b": 0}), {"b": 1, "w": 2})
    [2, 1]
    """
    try:
        found = structure.flatten_up_to(tree)
    except (TypeError, ValueError):
        return None
    return found if ad.tree.structure(found) == ad.tree.structure([0] * len(found)) else None


# ---- Applying updates ----------------------------------------------------------------------------


def apply_updates(params: Any, updates: Any) -> Any:
    """Add updates to parameters, leaf by leaf.

    Parameters
    ----------
    params : pytree of Tensor
    updates : pytree of Tensor
        The first result of `Transform.update`; same structure and shapes as `params`.

    Returns
    -------
    pytree of Tensor
        ``params + updates``; the arguments are left as they are.

    Raises
    ------
    ValueError
        If the updates have another structure, or other shapes, than the parameters.

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


def pick(flag: ad.Tensor, new: AnyState, old: AnyState) -> AnyState:
    """Return one of two states, by a 0-d bool."""
    leaves, structure = ad.tree.flatten(new)
    chosen: dict[tuple[int, int], ad.Tensor] = {}  # what is one handle in both stays one
    out = []
    for pair in zip(leaves, ad.tree.leaves(old), strict=True):
        key = id(pair[0]), id(pair[1])
        if key not in chosen:
            chosen[key] = ad.where(flag, *pair)
        out.append(chosen[key])
    return structure.unflatten(out)
