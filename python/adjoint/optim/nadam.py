"""NAdam and RAdam: Adam with Nesterov's momentum, and with a warm-up that follows from theory."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.adam import check_betas, decoupled, moments
from adjoint.optim.base import FirstOrder
from adjoint.optim.options import check_range
from adjoint.optim.scaling import before, scale_by_learning_rate
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
    zeros,
)

__all__ = [
    "NAdam",
    "NAdamState",
    "RAdam",
    "RAdamState",
    "scale_by_nadam",
    "scale_by_radam",
]


class NAdamState(NamedTuple):
    """State of NAdam: steps, products of the momenta so far (0-d float64 each), both moments."""

    steps: StepCounts
    products: StepCounts
    first: Parts
    second: Parts


class scale_by_nadam(Transform):
    """NAdam's rule, see `NAdam`.

    Parameters
    ----------
    beta1, beta2, eps, momentum_decay
        As of `NAdam`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_nadam()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [1.056452, -1.056452]
    [0.783684, -0.783684]
    """

    state_type = NAdamState

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        momentum_decay: float = 0.004,
    ) -> None:
        who = "scale_by_nadam"
        self._beta1, self._beta2, self._eps = check_betas(who, beta1, beta2, eps)
        self._momentum_decay = check_range(who, "momentum_decay", momentum_decay, 0.0, inf)

    def _start(self, params: Tensors) -> AnyState:
        """Return counts and moments of zero, products of one."""
        ones = [ad.ones((), dtype=ad.float64)] * len(params)
        return NAdamState(no_steps(params), ones, zeros(params), zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Mix the gradient with the first moment."""
        beta1, beta2, eps = self._beta1, self._beta2, self._eps
        decay, products = self._momentum_decay, state.products
        over = 1.0 if scale is None else scale

        def momentum(t: ad.Tensor) -> ad.Tensor:
            return beta1 * (1.0 - 0.5 * 0.96 ** (t * decay))

        def numbers(t: ad.Tensor, i: int) -> tuple[ad.Tensor, ...]:
            now, following = momentum(t), momentum(t + 1)
            product = products[i] * now
            made.append(product)
            now_rate = over * (1.0 - now) / (1.0 - product)
            next_rate = over * following / (1.0 - product * following)
            return now_rate, next_rate, 1.0 - beta2**t

        made: list[ad.Tensor] = []
        steps = next_steps(state.steps)
        first, second = moments(grads, state.first, state.second, beta1, beta2)
        updates = []
        for g, m, v, (now, following, bias) in each(
            grads, first, second, scalars(steps, grads, numbers)
        ):
            below = ad.sqrt(v / bias) + eps
            updates.append(g * now / below + m * following / below)
        parts = iter(made)
        last, after = None, []
        for count in steps:
            if count is not last:
                last, product = count, next(parts)
            after.append(product)
        return updates, NAdamState(steps, after, first, second)


class NAdam(FirstOrder):
    r"""NAdam: Adam with Nesterov's momentum [1]_.

    With :math:`\mu_t = \beta_1 (1 - \tfrac12 0.96^{t\psi})`, moments as of `Adam`, and
    :math:`\hat v_t = v_t / (1-\beta_2^t)`,

    .. math::
        \theta_t = \theta_{t-1} - \frac{\eta}{\sqrt{\hat v_t} + \epsilon} \left(
            \frac{(1-\mu_t) g_t}{1 - \prod_{i \le t} \mu_i}
            + \frac{\mu_{t+1} m_t}{1 - \prod_{i \le t+1} \mu_i} \right) .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.002
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    beta1, beta2, eps, weight_decay, maximize
        As of `Adam`.
    momentum_decay : float, default 0.004
        :math:`\psi`.
    decoupled_weight_decay : bool, default False
        Decay as `AdamW` does.

    References
    ----------
    .. [1] T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR Workshop, 2016.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.NAdam([w], 0.5)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)
    2.471774
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.002,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 0.004,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        names = ("beta1", "beta2", "eps", "momentum_decay")
        return _decayed(scale_by_nadam(**{name: options[name] for name in names}), rate, options)


class RAdamState(NamedTuple):
    """State of RAdam: steps and both moments, structured as the parameters."""

    steps: StepCounts
    first: Parts
    second: Parts


class scale_by_radam(Transform):
    """RAdam's rule, see `RAdam`.

    Parameters
    ----------
    beta1, beta2, eps
        As of `RAdam`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_radam()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [300.0, -0.1]
    [300.0, -0.1]
    """

    state_type = RAdamState

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self._beta1, self._beta2, self._eps = check_betas("scale_by_radam", beta1, beta2, eps)

    def _start(self, params: Tensors) -> AnyState:
        """Return counts and moments of zero."""
        return RAdamState(no_steps(params), zeros(params), zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Rectify, or leave the second moment out while it is unreliable."""
        beta1, beta2, eps = self._beta1, self._beta2, self._eps
        longest = 2.0 / (1.0 - beta2) - 1.0
        over = 1.0 if scale is None else scale

        def numbers(t: ad.Tensor, _: int) -> tuple[ad.Tensor, ...]:
            decayed = beta2**t
            bias = 1.0 - decayed
            length = longest - 2.0 * t * decayed / bias
            sure = length > 5.0
            safe = ad.where(sure, length, 6.0)  # the root of the branch not taken
            top = (safe - 4.0) * (safe - 2.0) * longest
            share = top / ((longest - 4.0) * (longest - 2.0) * safe)
            factor = ad.where(sure, ad.sqrt(share * bias), 1.0)
            return over / (1.0 - beta1**t) * factor, ad.where(sure, 1.0, 0.0)

        steps = next_steps(state.steps)
        first, second = moments(grads, state.first, state.second, beta1, beta2)
        updates = [
            m * rate / ad.where(sure > 0.0, ad.sqrt(v) + eps, 1.0)
            for m, v, (rate, sure) in each(first, second, scalars(steps, grads, numbers))
        ]
        return updates, RAdamState(steps, first, second)


class RAdam(FirstOrder):
    r"""RAdam: Adam whose step is rectified while few gradients have been seen [1]_.

    With :math:`\rho_\infty = 2/(1-\beta_2) - 1` and
    :math:`\rho_t = \rho_\infty - 2t\beta_2^t/(1-\beta_2^t)`, the step is that of momentum alone,
    :math:`\eta \hat m_t`, while :math:`\rho_t \le 5`, and then

    .. math::
        \theta_t = \theta_{t-1} - \eta\, \hat m_t\, r_t
            \frac{\sqrt{1-\beta_2^t}}{\sqrt{v_t} + \epsilon}, \qquad
        r_t^2 = \frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t} .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.001
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    beta1, beta2, eps, weight_decay, maximize
        As of `Adam`.
    decoupled_weight_decay : bool, default False
        Decay as `AdamW` does.

    References
    ----------
    .. [1] L. Liu, H. Jiang, P. He, W. Chen, X. Liu, J. Gao and J. Han, "On the variance of the
       adaptive learning rate and beyond", ICLR, 2020. arXiv:1908.03265.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.RAdam([w], 0.1)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # at first it is descent
    2.4
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        rule = scale_by_radam(options["beta1"], options["beta2"], options["eps"])
        return _decayed(rule, rate, options)


def _decayed(rule: Transform, rate: scale_by_learning_rate, options: dict[str, Any]) -> Transform:
    """Return a chain with the decay where the options want it."""
    maximize, decay = options["maximize"], options["weight_decay"]
    if check_flag("chain", "decoupled_weight_decay", options["decoupled_weight_decay"]):
        return decoupled(rule, rate, maximize, decay)
    return chain(*before(maximize, decay), rule, rate)
