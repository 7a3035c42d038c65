"""Transforms that scale, clip, decay, or collect: what stands around the rules in a chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_count, check_flag, check_number
from adjoint.optim.options import check_range
from adjoint.optim.states import Inner, Parts, PerParameter, Shared, StepCounts
from adjoint.optim.transform import (
    FLOAT64,
    AnyState,
    Leaves,
    Scalar,
    Tensors,
    Transform,
    as_dtype,
    as_transform,
    check_state,
    each,
    matched,
    next_steps,
    no_steps,
    pick,
    scalars,
    scaled,
    zeros,
)
from adjoint.tree import TreeDef

__all__ = [
    "AccumulateState",
    "MaskState",
    "ScheduleState",
    "accumulate",
    "add_decayed_weights",
    "clip_by_norm",
    "clip_by_value",
    "clip_grad_norm",
    "scale",
    "scale_by_learning_rate",
]


class scale(Scalar):
    """Multiply updates by a constant; ``scale(-1.0)`` of gradients maximizes.

    Parameters
    ----------
    factor : float
        Finite.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale(-1.0)
    >>> rule.update(ad.tensor(3.0), rule.init(ad.tensor(0.0)))[0].item()
    -3.0
    """

    def __init__(self, factor: float) -> None:
        self._number = check_number("scale", "factor", factor)
        if not math.isfinite(self._number):
            raise ValueError(f"[scale] factor must be finite, got {factor!r}")
        self._factor = ad.tensor(self._number, dtype=ad.float64)

    def _factor_of(self, state: AnyState) -> tuple[ad.Tensor, AnyState]:
        """Return the constant."""
        return self._factor, state

    def __repr__(self) -> str:
        return f"scale({self._number:g})"


# ---- Learning rates ------------------------------------------------------------------------------


class ScheduleState(NamedTuple):
    """State of a scheduled rate: how many steps it has given (0-d int64)."""

    calls: Shared


class scale_by_learning_rate(Scalar):
    r"""Multiply updates by :math:`-\eta`, so that adding them descends.

    Parameters
    ----------
    learning_rate : float, 0-d Tensor or schedule
        :math:`\eta \ge 0`. A number is copied into a tensor, which each step reads; a floating
        Tensor is that tensor itself, so that giving it another value reaches every step, compiled
        ones too, and derivatives reach it. A schedule is a function that is given the number of
        steps before this one, as a 0-d int64 Tensor, see `constant_schedule`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_learning_rate(lambda step: 1.0 / (step + 1.0))
    >>> state = rule.init(ad.tensor(0.0))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor(1.0), state)
    ...     print(updates.item())
    -1.0
    -0.5
    """

    def __init__(self, learning_rate: Any) -> None:
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> ad.Tensor | Callable[[ad.Tensor], Any]:
        """The tensor that is read, or the schedule."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._rate = checked_rate("scale_by_learning_rate", value)
        self._made = isinstance(self._rate, ad.Tensor) and self._rate is not value
        self.state_type = None if isinstance(self._rate, ad.Tensor) else ScheduleState

    def _takes(self, value: Any, new: Any) -> bool:
        """Give the tensor that is read a number, which reaches compiled steps.

        False, and nothing is done, where `new`, what a rate makes of `value`, is a Tensor of the
        caller's or a schedule, or this rate is one: then a rule is made anew.
        """
        old = self._rate
        if not isinstance(old, ad.Tensor) or not isinstance(new, ad.Tensor) or new is value:
            return False
        with ad.no_grad():
            old.rebind_(ad.astype(new, old.dtype))
        return True

    def _own(self) -> Transform:
        """Return one with another tensor for a number; a Tensor of the caller's is the same."""
        return scale_by_learning_rate(self._rate.item()) if self._made else self  # type: ignore[union-attr]

    def _start(self, params: Tensors) -> AnyState:
        """Return a count of zero for a schedule."""
        if isinstance(self._rate, ad.Tensor):
            return None
        return ScheduleState(ad.zeros((), dtype=ad.int64))

    def _rate_of(self, state: AnyState) -> ad.Tensor:
        """Return the rate of the next step as a 0-d Tensor."""
        rate = self._rate
        if isinstance(rate, ad.Tensor):
            return rate
        value = rate(state.calls)
        if not isinstance(value, ad.Tensor):
            value = ad.tensor(check_number("schedule", "what it returns", value), dtype=FLOAT64)
        if value.ndim or not ad.isdtype(value.dtype, "real floating"):
            raise ValueError(
                f"[schedule] a rate must be one real number, got shape {value.shape} and dtype "
                f"{value.dtype}"
            )
        _check_size("schedule", "what it returns", value)
        return value

    def _factor_of(self, state: AnyState) -> tuple[ad.Tensor, AnyState]:
        """Return the negative rate, and the state with the count one higher."""
        number = -self._rate_of(state)
        if number.dtype is not FLOAT64:
            number = ad.astype(number, FLOAT64)
        return number, None if state is None else ScheduleState(state.calls + 1)

    def __repr__(self) -> str:
        rate = self._rate
        shown = f"{rate.item():g}" if isinstance(rate, ad.Tensor) else repr(rate)
        return f"scale_by_learning_rate({shown})"


def checked_rate(who: str, value: Any) -> ad.Tensor | Callable[[ad.Tensor], Any]:
    """Return a learning rate as the tensor that steps read, or as a schedule; else raise."""
    if callable(value) and not isinstance(value, (ad.Tensor, type)):
        return value  # type: ignore[no-any-return]
    if isinstance(value, ad.Tensor) and not value.ndim and ad.isdtype(value.dtype, "real floating"):
        _check_size(who, "learning_rate", value)
        return value
    if isinstance(value, ad.Tensor) and value.ndim:
        raise TypeError(
            f"[{who}] learning_rate must be a real number, not a Tensor of shape {value.shape}: "
            "parameters with rates of their own are groups, see Optimizer"
        )
    number = check_number(who, "learning_rate", value)
    _check_size(who, "learning_rate", number)
    return ad.tensor(number, dtype=FLOAT64)


def _check_size(who: str, name: str, rate: ad.Tensor | float) -> None:
    """Raise where a rate is negative, infinite or nan; of what is traced nothing is known."""
    try:
        number = rate.item() if isinstance(rate, ad.Tensor) else rate
    except ad.TracedValueError:
        return
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(
            f"[{who}] {name} must be finite and not negative, got {number!r}: to ascend, give "
            "maximize=True"
        )


# ---- Weight decay --------------------------------------------------------------------------------


_DECAY = "add_decayed_weights"


class MaskState(NamedTuple):
    """State of a masked decay: whether it counts (0-d bool), structured as the parameters."""

    mask: PerParameter


class add_decayed_weights(Transform):
    """Add the parameters times a factor: to gradients an L2 penalty, after a rule decoupled decay.

    Parameters
    ----------
    weight_decay : float
        At least 0.
    mask : callable or pytree of bool, optional
        Which parameters decay: a function of a parameter, such as ``lambda p: p.ndim > 1``, or
        bools structured as the parameters. Where parameters are no pytree, as those of
        ``model.parameters()``, that is a list.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.add_decayed_weights(0.1, mask=lambda p: p.ndim > 0)
    >>> params = {"w": ad.ones(2), "b": ad.tensor(1.0)}
    >>> updates, _ = rule.update({"w": ad.zeros(2), "b": ad.tensor(0.0)}, rule.init(params), params)
    >>> updates["w"].tolist(), updates["b"].item()
    ([0.1, 0.1], 0.0)
    """

    needs_params = True
    keeps_scale = True

    def __init__(self, weight_decay: float, mask: Any = None) -> None:
        self.weight_decay = check_range(_DECAY, "weight_decay", weight_decay, 0.0, math.inf)
        self._mask = mask
        if mask is not None and not callable(mask):
            for flag in ad.tree.leaves(mask):
                check_flag(_DECAY, "an entry of mask", flag)
            self.state_type = MaskState

    def _begin(self, params: Tensors, structure: TreeDef) -> AnyState:
        """Return the mask, if it is one of bools."""
        if self.state_type is None:
            return None
        mask = self._mask
        flags = matched(structure, mask)
        if flags is None and isinstance(mask, (list, tuple)):  # a list and a tuple are as good
            other = tuple(mask) if isinstance(mask, list) else list(mask)
            flags = matched(structure, other)
        if flags is None:
            raise ValueError(
                f"[{_DECAY}] a mask of structure {ad.tree.structure(mask)} for {len(params)} "
                f"parameters of structure {structure}: give bools structured as the parameters, or "
                "a function of a parameter"
            )
        return MaskState([ad.tensor(bool(flag)) for flag in flags])

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Add decay."""
        assert params is not None
        decay: Any = self.weight_decay
        out, dtype, factor = [], None, decay
        for i, (grad, param) in enumerate(each(grads, params)):
            if scale is not None and param.dtype is not dtype:
                dtype = param.dtype
                factor = as_dtype(scale * decay, dtype)
            if state is not None:
                out.append(ad.where(state.mask[i], grad + param * factor, grad))
            elif self._mask is None or check_flag(_DECAY, "what mask returns", self._mask(param)):
                out.append(grad + param * factor)
            else:
                out.append(grad)
        return out, state

    def __repr__(self) -> str:
        masked = "" if self._mask is None else ", mask=..."
        return f"add_decayed_weights({self.weight_decay:g}{masked})"


# ---- Clipping ------------------------------------------------------------------------------------


class clip_by_norm(Transform):
    """Scale all updates down together where their norm is above a bound.

    Parameters
    ----------
    max_norm : float
        Positive.
    ord : float, default 2
        Which norm of all entries together: at least 1, ``inf`` for the largest absolute value.

    Notes
    -----
    The factor is ``min(1, max_norm / (norm + 1e-6))``, PyTorch's. An infinite or nan gradient makes
    all updates nan, so that it is noticed. Optimizers with several parameter groups clip each by
    itself; `clip_grad_norm` takes any parameters together.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML, 2013.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.clip_by_norm(1.0)
    >>> updates, _ = rule.update([ad.tensor(30.0), ad.tensor(40.0)], ())
    >>> [round(u.item(), 6) for u in updates]
    [0.6, 0.8]
    """

    def __init__(self, max_norm: float, ord: float = 2.0) -> None:
        self._max_norm, self._ord = _norm_options("clip_by_norm", max_norm, ord)

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Clip."""
        if not grads:
            return grads, state
        factor = _clipping(norm(grads, self._ord), self._max_norm)
        return scaled(grads, factor if scale is None else factor * scale), state

    def __repr__(self) -> str:
        return f"clip_by_norm({self._max_norm:g}, ord={self._ord:g})"


def _norm_options(who: str, max_norm: Any, ord: Any) -> tuple[float, float]:
    """Return a bound and the order of a norm; raise where they are none."""
    bound = check_range(who, "max_norm", max_norm, 0.0, math.inf, above=True)
    order = check_number(who, "ord", ord)
    if not order >= 1.0:
        raise ValueError(f"[{who}] ord must be at least 1, got {ord!r}")
    return bound, order


def _clipping(size: ad.Tensor, bound: float) -> ad.Tensor:
    """Return the factor for gradients of a norm; times nan all of them are nan."""
    factor = ad.minimum(bound / (size + 1e-6), 1.0)
    return ad.where(ad.isfinite(size), factor, math.nan)


def norm(tensors: Tensors, ord: float = 2.0) -> ad.Tensor:
    """Return the norm of all entries of some tensors, in float64."""
    norms = [ad.astype(ad.linalg.vector_norm(t, ord=ord), ad.float64) for t in tensors]
    total: ad.Tensor = ad.linalg.vector_norm(ad.stack(norms), ord=ord)
    return total


def clip_grad_norm(params: Any, max_norm: float, ord: float = 2.0) -> ad.Tensor:
    """Scale the gradients of some parameters down together, before `Optimizer.step`.

    Parameters
    ----------
    params : iterable or pytree of Tensor
        ``model.parameters()``. Those without a gradient are left out.
    max_norm, ord : float
        As for `clip_by_norm`.

    Returns
    -------
    Tensor
        The norm that the gradients had, 0-d float64; 0 if there were none.

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor([1.0, 1.0], requires_grad=True)
    >>> ad.sum(w * ad.tensor([30.0, 40.0])).backward()
    >>> ad.optim.clip_grad_norm([w], 1.0).item()
    50.0
    >>> [round(g, 6) for g in w.grad.tolist()]
    [0.6, 0.8]
    """
    from adjoint.optim.groups import checked_params

    bound, order = _norm_options("clip_grad_norm", max_norm, ord)
    found = [p for p in checked_params("clip_grad_norm", params) if p.grad is not None]
    if not found:
        return ad.zeros((), dtype=ad.float64)
    grads = [p.grad for p in found if p.grad is not None]
    with ad.no_grad():
        total = norm(grads, order)
        for param, grad in each(found, scaled(grads, _clipping(total, bound))):
            param.grad = grad
    return total


class clip_by_value(Transform):
    """Move every entry of an update into ``[-max_value, max_value]``.

    Parameters
    ----------
    max_value : float
        Positive.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.optim.clip_by_value(1.0).update(ad.tensor([0.5, -3.0]), ())[0].tolist()
    [0.5, -1.0]
    """

    def __init__(self, max_value: float) -> None:
        self._bound = check_range(
            "clip_by_value", "max_value", max_value, 0.0, math.inf, above=True
        )

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Clip."""
        bound = self._bound
        return scaled([ad.clip(grad, -bound, bound) for grad in grads], scale), state

    def __repr__(self) -> str:
        return f"clip_by_value({self._bound:g})"


# ---- Accumulation --------------------------------------------------------------------------------


class AccumulateState(NamedTuple):
    """State of `accumulate`: calls (0-d int64), sums of gradients, and the rule's own state.

    `collected` counts the gradients in each sum (0-d int64 each).
    """

    calls: Shared
    collected: StepCounts
    sums: Parts
    inner: Inner


class accumulate(Transform):
    """Collect gradients over several calls, and take one step with their mean.

    Parameters
    ----------
    rule : Transform
        What takes the steps, such as ``Adam(learning_rate=1e-3)`` or a `chain`.
    n : int
        Calls per step. In between updates are zero and the rule's state, counts of steps and
        schedule included, stays.
    average : bool, default True
        Whether the rule gets the mean of the gradients, or their sum.

    Notes
    -----
    It goes around a rule rather than before it, as a rule that was given no gradient would still
    move by its momentum.

    In the loop habit a parameter without a gradient is left out of a call. The mean is of those
    gradients that it had since its last step; where it is left out of the call that steps, it keeps
    them for the next.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.accumulate(ad.optim.SGD(learning_rate=0.5), 2)
    >>> state = rule.init(ad.tensor(0.0))
    >>> for gradient in (1.0, 3.0, 5.0):
    ...     updates, state = rule.update(ad.tensor(gradient), state)
    ...     print(updates.item())
    0.0
    -1.0
    0.0
    """

    state_type = AccumulateState

    def __init__(self, rule: Transform, n: int, *, average: bool = True) -> None:
        self._rule = as_transform("accumulate", rule)
        self._n = check_count("accumulate", "n", n, 1)
        self._average = check_flag("accumulate", "average", average)
        self.needs_params = self._rule.needs_params

    def _begin(self, params: Tensors, structure: TreeDef) -> AnyState:
        """Return sums of zeros around the rule's state."""
        calls, inner = ad.zeros((), dtype=ad.int64), self._rule._begin(params, structure)
        return AccumulateState(calls, no_steps(params), zeros(params), inner)

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Collect, and step at every n-th call."""
        calls, collected = state.calls + 1, next_steps(state.collected)
        sums = [s + g for s, g in each(state.sums, grads)]
        means = sums
        if self._average:
            numbers = scalars(collected, grads, lambda n, _: (ad.astype(n, FLOAT64),))
            means = [s / n for s, (n,) in each(sums, numbers)]
        # Both are computed and one is chosen: a batch of states may be at different calls.
        updates, inner = self._rule._apply(means, state.inner, params, scale)
        ready = calls % self._n == 0
        updates = [ad.where(ready, update, 0.0) for update in updates]
        sums = [ad.where(ready, 0.0, s) for s in sums]
        collected = pick(ready, no_steps(grads), collected)
        return updates, AccumulateState(calls, collected, sums, pick(ready, inner, state.inner))

    def _parts(self) -> list[Transform]:
        """Return itself and what the rule is made of."""
        return [self, *self._rule._parts()]

    def _found(self, part: Transform, state: AnyState) -> tuple[AnyState, ...]:
        """Return its own state, or that of a transform in the rule."""
        return (state,) if part is self else self._rule._found(part, state.inner)

    def _own(self) -> Transform:
        """Return one around a rule whose numbers are its own."""
        return accumulate(self._rule._own(), self._n, average=self._average)

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        """Return a state of lists as one of pytrees."""
        collected, sums = map(structure.unflatten, (state.collected, state.sums))
        inner = self._rule._pack(state.inner, structure)
        return AccumulateState(state.calls, collected, sums, inner)

    def _unpack(self, state: Any, given: Leaves) -> AnyState:
        """Return a state of pytrees as one of lists; raise unless it fits the gradients."""
        check_state(given.where, state, AccumulateState)
        collected = given.like("collected", state.collected, shapes=False)
        sums = given.like("sums", state.sums)
        inner = self._rule._unpack(state.inner, given)
        return AccumulateState(state.calls, collected, sums, inner)

    def __repr__(self) -> str:
        return f"accumulate({self._rule!r}, {self._n})"


def before(maximize: bool, weight_decay: float, mask: Any = None) -> list[Transform]:
    """Return what stands before a rule: a change of sign, and an L2 penalty, where wanted."""
    out: list[Transform] = [scale(-1.0)] if check_flag("chain", "maximize", maximize) else []
    decay = add_decayed_weights(weight_decay, mask)  # checked also where it is 0
    return [*out, decay] if decay.weight_decay else out
