"""Transforms that scale, clip, decay, or collect: what stands around the rules in a chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_count, check_flag, check_number
from adjoint.optim.options import check_range
from adjoint.optim.transform import (
    AnyState,
    Scalar,
    Tensors,
    Transform,
    as_dtype,
    as_transform,
    check_state,
    each,
    like,
    pick,
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

_FLOAT64 = ad.float64


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

    calls: ad.Tensor


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
            value = ad.tensor(check_number("schedule", "what it returns", value), dtype=ad.float64)
        if value.ndim or not ad.isdtype(value.dtype, "real floating"):
            raise ValueError(
                f"[schedule] a rate must be one real number, got shape {value.shape} and dtype "
                f"{value.dtype}"
            )
        return value

    def _factor_of(self, state: AnyState) -> tuple[ad.Tensor, AnyState]:
        """Return the negative rate, and the state with the count one higher."""
        number = -self._rate_of(state)
        if number.dtype is not _FLOAT64:
            number = ad.astype(number, _FLOAT64)
        return number, None if state is None else ScheduleState(state.calls + 1)

    def __repr__(self) -> str:
        rate = self._rate
        shown = f"{rate.item():g}" if isinstance(rate, ad.Tensor) else repr(rate)
        return f"scale_by_learning_rate({shown})"


def checked_rate(who: str, value: Any) -> ad.Tensor | Callable[[ad.Tensor], Any]:
    """Return a learning rate as the tensor that steps read, or as a schedule; else raise."""
    if callable(value) and not isinstance(value, (ad.Tensor, type)):
        return value  # type: ignore[no-any-return]
    live: ad.Tensor | None = None
    if isinstance(value, ad.Tensor) and not value.ndim and ad.isdtype(value.dtype, "real floating"):
        live = value
    try:
        number = check_number(who, "learning_rate", value)
    except ad.TracedValueError:
        if live is None:
            raise
        return live  # what is traced has no value that could be checked
    if not (number >= 0.0 and math.isfinite(number)):
        raise ValueError(
            f"[{who}] learning_rate must be finite and not negative, got {number!r}: to ascend, "
            "give maximize=True"
        )
    return ad.tensor(number, dtype=ad.float64) if live is None else live


# ---- Weight decay --------------------------------------------------------------------------------


class MaskState(NamedTuple):
    """State of a masked decay: whether it counts (0-d bool), structured as the parameters."""

    mask: Any


class add_decayed_weights(Transform):
    """Add the parameters times a factor: to gradients an L2 penalty, after a rule decoupled decay.

    Parameters
    ----------
    weight_decay : float
        At least 0.
    mask : callable or pytree of bool, optional
        Which parameters decay: a function of a parameter, such as ``lambda p: p.ndim > 1``, or
        bools structured as the parameters.

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
        who = "add_decayed_weights"
        self.weight_decay = check_range(who, "weight_decay", weight_decay, 0.0, math.inf)
        self._mask = mask
        if mask is not None and not callable(mask):
            for flag in ad.tree.leaves(mask):
                check_flag(who, "an entry of mask", flag)
            self.state_type = MaskState

    def _start(self, params: Tensors) -> AnyState:
        """Return the mask, if it is one of bools."""
        if self.state_type is None:
            return None
        flags = ad.tree.leaves(self._mask)
        if len(flags) != len(params):
            raise ValueError(
                f"[add_decayed_weights] a mask of {len(flags)} bools for {len(params)} parameters"
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
            elif self._mask is None or self._mask(param):
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
        self._max_norm = check_range(
            "clip_by_norm", "max_norm", max_norm, 0.0, math.inf, above=True
        )
        self._ord = check_number("clip_by_norm", "ord", ord)
        if not self._ord >= 1.0:
            raise ValueError(f"[clip_by_norm] ord must be at least 1, got {ord!r}")

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Clip."""
        if not grads:
            return grads, state
        factor = self._max_norm / (norm(grads, self._ord) + 1e-6)
        factor = ad.minimum(factor, 1.0)
        return scaled(grads, factor if scale is None else factor * scale), state

    def __repr__(self) -> str:
        return f"clip_by_norm({self._max_norm:g}, ord={self._ord:g})"


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

    rule = clip_by_norm(max_norm, ord)
    found = [p for p in checked_params("clip_grad_norm", params) if p.grad is not None]
    if not found:
        return ad.zeros((), dtype=ad.float64)
    grads = [p.grad for p in found if p.grad is not None]
    with ad.no_grad():
        total = norm(grads, rule._ord)
        clipped, _ = rule._apply(grads, None, None, None)
        for param, grad in each(found, clipped):
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
    """State of `accumulate`: calls (0-d int64), sums of gradients, and the rule's own state."""

    calls: ad.Tensor
    sums: Any
    inner: Any


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

    def _start(self, params: Tensors) -> AnyState:
        """Return sums of zeros around the rule's state."""
        calls = ad.zeros((), dtype=ad.int64)
        return AccumulateState(calls, zeros(params), self._rule._start(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Collect, and step at every n-th call."""
        calls = state.calls + 1
        sums = [s + g for s, g in each(state.sums, grads)]
        means = [s / float(self._n) for s in sums] if self._average else sums
        # Both are computed and one is chosen: a batch of states may be at different calls.
        updates, inner = self._rule._apply(means, state.inner, params, scale)
        ready = calls % self._n == 0
        updates = [ad.where(ready, update, 0.0) for update in updates]
        sums = [ad.where(ready, 0.0, s) for s in sums]
        return updates, AccumulateState(calls, sums, pick(ready, inner, state.inner))

    def _parts(self) -> list[Transform]:
        """Return itself and what the rule is made of."""
        return [self, *self._rule._parts()]

    def _pack(self, state: AnyState, structure: TreeDef) -> Any:
        """Return a state of lists as one of pytrees."""
        sums = structure.unflatten(state.sums)
        return AccumulateState(state.calls, sums, self._rule._pack(state.inner, structure))

    def _unpack(self, state: Any, grads: Tensors, structure: TreeDef, where: str) -> AnyState:
        """Return a state of pytrees as one of lists; raise unless it fits the gradients."""
        check_state(where, state, AccumulateState)
        sums = like(where, grads, structure, "sums", state.sums)
        return AccumulateState(
            state.calls, sums, self._rule._unpack(state.inner, grads, structure, where)
        )

    def __repr__(self) -> str:
        return f"accumulate({self._rule!r}, {self._n})"


def before(maximize: bool, weight_decay: float, mask: Any = None) -> list[Transform]:
    """Return what stands before a rule: a change of sign, and an L2 penalty, where wanted."""
    out: list[Transform] = [scale(-1.0)] if check_flag("chain", "maximize", maximize) else []
    decay = add_decayed_weights(weight_decay, mask)  # checked also where it is 0
    return [*out, decay] if decay.weight_decay else out
