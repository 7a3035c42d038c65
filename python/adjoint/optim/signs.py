"""Rules that go by the signs of gradients: Rprop, with a step size per entry, and Lion."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import adjoint as ad
from adjoint.optim.adam import decoupled
from adjoint.optim.base import FirstOrder
from adjoint.optim.options import check_range
from adjoint.optim.scaling import ScheduleState, before, scale, scale_by_learning_rate
from adjoint.optim.states import Parts, StepCounts
from adjoint.optim.transform import (
    AnyState,
    Tensors,
    Transform,
    chain,
    each,
    next_steps,
    no_steps,
    scalars,
    scaled,
    zeros,
)

__all__ = ["Lion", "LionState", "Rprop", "RpropState", "scale_by_lion", "scale_by_rprop"]


class RpropState(NamedTuple):
    """State of Rprop: steps, the gradients before, and step sizes per entry."""

    steps: StepCounts
    previous: Parts
    sizes: Parts


class scale_by_rprop(Transform):
    """Rprop's rule, see `Rprop`: signs of gradients times step sizes that start at a rate.

    Parameters
    ----------
    learning_rate : float, 0-d Tensor or schedule
        The first step size of a parameter is its value then; later values change nothing.
    eta_minus, eta_plus, min_step, max_step
        As of `Rprop`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_rprop()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [0.01, -0.01]
    [0.012, -0.012]
    """

    state_type = RpropState

    def __init__(
        self,
        learning_rate: Any = 0.01,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        min_step: float = 1e-6,
        max_step: float = 50.0,
    ) -> None:
        who = "scale_by_rprop"
        given = isinstance(learning_rate, scale_by_learning_rate)
        self._rate = learning_rate if given else scale_by_learning_rate(learning_rate)
        self._eta_minus = check_range(who, "eta_minus", eta_minus, 0.0, 1.0, above=True)
        self._eta_plus = check_range(who, "eta_plus", eta_plus, 1.0, inf, above=True)
        self._min_step = check_range(who, "min_step", min_step, 0.0, inf)
        self._max_step = check_range(who, "max_step", max_step, self._min_step, inf)

    def _start(self, params: Tensors) -> AnyState:
        """Return previous gradients of zero."""
        return RpropState(no_steps(params), zeros(params), zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Grow or shrink the step sizes, and step."""

        shrink, grow = self._eta_minus, self._eta_plus

        def begin(t: ad.Tensor, _: int) -> tuple[ad.Tensor, ...]:
            rate = self._rate._rate_of(ScheduleState(t))
            return ad.where(t == 0, 1.0, 0.0), ad.astype(rate, ad.float64)

        updates, previous, sizes = [], [], []
        for g, last, size, (is_first, rate) in each(
            grads, state.previous, state.sizes, scalars(state.steps, grads, begin)
        ):
            agree = g * last
            size = ad.where(is_first > 0.0, rate, size)
            factor = ad.where(agree > 0.0, grow, ad.where(agree < 0.0, shrink, 1.0))
            size = ad.clip(size * ad.astype(factor, g.dtype), self._min_step, self._max_step)
            g = ad.where(agree < 0.0, 0.0, g)  # after a change of sign the entry waits
            updates.append(ad.sign(g) * size)
            previous.append(g)
            sizes.append(size)
        return scaled(updates, scale), RpropState(next_steps(state.steps), previous, sizes)


class Rprop(FirstOrder):
    r"""Resilient propagation: a step size per entry, that grows while the sign stays [1]_.

    Where the gradient has the sign of the one before, the size grows by :math:`\eta^+`; where it
    has the other, the size shrinks by :math:`\eta^-` and the entry waits for one step. For full
    batches: signs of noisy gradients say little.

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.01
        The first step size; a schedule is asked at step 0 of each parameter only.
    eta_minus : float, default 0.5
        In (0, 1).
    eta_plus : float, default 1.2
        Above 1.
    min_step, max_step : float, default 1e-6 and 50
        Bounds of the step sizes.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation
       learning: The RPROP algorithm", IEEE Int. Conf. on Neural Networks, 1993.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.Rprop([w], 0.5)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # only the sign counts
    2.5
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.01,
        *,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        min_step: float = 1e-6,
        max_step: float = 50.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            eta_minus=eta_minus,
            eta_plus=eta_plus,
            min_step=min_step,
            max_step=max_step,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        front = before(options.pop("maximize"), 0.0)
        return chain(*front, scale_by_rprop(rate, **options), scale(-1.0))


class LionState(NamedTuple):
    """State of Lion: the moment, structured as the parameters."""

    first: Parts


class scale_by_lion(Transform):
    """Lion's rule, see `Lion`.

    Parameters
    ----------
    beta1, beta2
        As of `Lion`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_lion()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [1.0, -1.0]
    [1.0, -1.0]
    """

    state_type = LionState

    def __init__(self, beta1: float = 0.9, beta2: float = 0.99) -> None:
        self._beta1 = check_range("scale_by_lion", "beta1", beta1, 0.0, 1.0)
        self._beta2 = check_range("scale_by_lion", "beta2", beta2, 0.0, 1.0)

    def _start(self, params: Tensors) -> AnyState:
        """Return a moment of zeros."""
        return LionState(zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Return the signs of a mean, and another mean."""
        beta1, beta2 = self._beta1, self._beta2
        new1, new2 = 1.0 - beta1, 1.0 - beta2
        updates = [ad.sign(m * beta1 + g * new1) for m, g in each(state.first, grads)]
        first = [m * beta2 + g * new2 for m, g in each(state.first, grads)]
        return scaled(updates, scale), LionState(first)


class Lion(FirstOrder):
    r"""Lion: the sign of a mean of gradients, with decoupled weight decay [1]_.

    .. math::
        \theta_t = \theta_{t-1} - \eta \left( \operatorname{sign}(\beta_1 m_{t-1} +
            (1-\beta_1) g_t) + \lambda \theta_{t-1} \right), \qquad
        m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 1e-4
        :math:`\eta \ge 0`: every step has its length in every entry, so it is three to ten times
        smaller than Adam's. See `scale_by_learning_rate`.
    beta1, beta2 : float, default 0.9 and 0.99
        Each in [0, 1).
    weight_decay : float, default 0.0
        :math:`\lambda`.
    mask : callable or pytree of bool, optional
        Which parameters decay; see `add_decayed_weights`.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS, 2023.
       arXiv:2302.06675.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.Lion([w], 0.5)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # only the sign counts
    2.5
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 1e-4,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        mask: Any = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            mask=mask,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        rule = scale_by_lion(options["beta1"], options["beta2"])
        decay, mask = options["weight_decay"], options["mask"]
        return decoupled(rule, rate, options["maximize"], decay, mask)
