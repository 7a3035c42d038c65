"""Adam and its nearest kin: one step size per entry from running moments."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.base import FirstOrder
from adjoint.optim.options import check_range
from adjoint.optim.scaling import add_decayed_weights, before, scale_by_learning_rate
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
    "Adam",
    "AdamState",
    "AdamW",
    "Adamax",
    "AdamaxState",
    "scale_by_adam",
    "scale_by_adamax",
]


def check_betas(who: str, beta1: Any, beta2: Any, eps: Any) -> tuple[float, float, float]:
    """Return the settings that all of Adam's kin have."""
    return (
        check_range(who, "beta1", beta1, 0.0, 1.0),
        check_range(who, "beta2", beta2, 0.0, 1.0),
        check_range(who, "eps", eps, 0.0, inf, above=True),
    )


def moments(
    grads: Tensors, first: Tensors, second: Tensors, beta1: float, beta2: float
) -> tuple[Tensors, Tensors]:
    """Return the running means of the gradients and of their squares."""
    new, square = 1.0 - beta1, 1.0 - beta2
    return (
        [m * beta1 + g * new for m, g in each(first, grads)],
        [v * beta2 + g * g * square for v, g in each(second, grads)],
    )


class AdamState(NamedTuple):
    """State of Adam: steps (0-d int64 each) and both moments, structured as the parameters.

    `largest` is what AMSGrad divides by, else None.
    """

    steps: StepCounts
    first: Parts
    second: Parts
    largest: Parts


class scale_by_adam(Transform):
    r"""Adam's rule: :math:`\hat m_t / (\sqrt{\hat v_t} + \epsilon)`, see `Adam`.

    Parameters
    ----------
    beta1, beta2, eps, amsgrad
        As of `Adam`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_adam()
    >>> params = ad.tensor([1.0, 1.0])
    >>> updates, _ = rule.update(ad.tensor([300.0, -0.1]), rule.init(params))
    >>> [round(u, 6) for u in updates.tolist()]
    [1.0, -1.0]
    """

    state_type = AdamState

    def __init__(
        self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, amsgrad: bool = False
    ) -> None:
        self._beta1, self._beta2, self._eps = check_betas("scale_by_adam", beta1, beta2, eps)
        self._amsgrad = check_flag("scale_by_adam", "amsgrad", amsgrad)

    def _start(self, params: Tensors) -> AnyState:
        """Return counts and moments of zero."""
        largest = zeros(params) if self._amsgrad else None
        return AdamState(no_steps(params), zeros(params), zeros(params), largest)

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Divide the first moment by the root of the second."""
        beta1, beta2, eps = self._beta1, self._beta2, self._eps
        steps = next_steps(state.steps)
        first, second = moments(grads, state.first, state.second, beta1, beta2)
        below, largest = second, None
        if self._amsgrad:
            pairs = each(state.largest, second)
            below = largest = [ad.maximum(high, v) for high, v in pairs]
        over = 1.0 if scale is None else scale
        # Both bias corrections are numbers per step, not work per entry.
        corrections = scalars(
            steps, grads, lambda t, _: (over / (1.0 - beta1**t), ad.sqrt(1.0 - beta2**t))
        )
        updates = [
            m * rate / (ad.sqrt(v) / root + eps)
            for m, v, (rate, root) in each(first, below, corrections)
        ]
        return updates, AdamState(steps, first, second, largest)


class Adam(FirstOrder):
    r"""Adam, Algorithm 1 of Kingma and Ba [1]_.

    With gradient :math:`g_t` (plus ``weight_decay`` times the parameter) and moments from zero,

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
        v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2, \qquad
        \theta_t = \theta_{t-1}
            - \eta \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon} .

    :math:`\epsilon` is added outside the square root, after the bias correction.

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.001
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moments, each in [0, 1).
    eps : float, default 1e-8
        Positive; keeps the quotient finite where gradients vanish.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient (not decoupled from the moments: `AdamW`).
    amsgrad : bool, default False
        Divide by the root of the largest :math:`v` so far [2]_; the maximum is taken before the
        bias correction.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A method for stochastic optimization", ICLR, 2015.
       arXiv:1412.6980.
    .. [2] S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR, 2018.
       arXiv:1904.09237.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(10.0, requires_grad=True)
    >>> opt = ad.optim.Adam([w], 0.5)
    >>> for _ in range(2):
    ...     opt.zero_grad()
    ...     (w**2 + 1).backward()
    ...     opt.step()
    >>> round(w.item(), 2)  # the first steps have the length of the learning rate
    9.0

    The whole step as a pure function, ready for ``ad.compile``:

    >>> opt = ad.optim.Adam(learning_rate=0.5)
    >>> def step(params, state):
    ...     grads = ad.grad(lambda p: p["w"] ** 2 + 1)(params)
    ...     updates, state = opt.update(grads, state)
    ...     return ad.optim.apply_updates(params, updates), state
    >>> params = {"w": ad.tensor(10.0)}
    >>> params, state = step(params, opt.init(params))
    >>> round(params["w"].item(), 2), state.steps["w"].item()
    (9.5, 1)
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
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        names = ("beta1", "beta2", "eps", "amsgrad")
        rule = scale_by_adam(**{name: options[name] for name in names})
        return chain(*before(options["maximize"], options["weight_decay"]), rule, rate)


def decoupled(
    rule: Transform, rate: scale_by_learning_rate, maximize: Any, decay: Any, mask: Any = None
) -> Transform:
    """Return a rule with a decay that does not pass through it."""
    after = add_decayed_weights(decay, mask)
    return chain(*before(maximize, 0.0), rule, *[after] * (after.weight_decay != 0.0), rate)


class AdamW(FirstOrder):
    r"""Adam with decoupled weight decay [1]_.

    As `Adam`, but the decay :math:`-\eta \lambda \theta_{t-1}` is a part of the step that the
    moments do not see. It is multiplied by the learning rate, schedule included, as in PyTorch.

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.001
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    beta1, beta2, eps, amsgrad, maximize
        As of `Adam`.
    weight_decay : float, default 0.01
        :math:`\lambda`.
    mask : callable or pytree of bool, optional
        Which parameters decay; see `add_decayed_weights`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR, 2019.
       arXiv:1711.05101.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(1.0, requires_grad=True)
    >>> opt = ad.optim.AdamW([w], 0.1, weight_decay=0.5)
    >>> (0.0 * w).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # where the gradient is zero only the decay is left
    0.95
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
        mask: Any = None,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            mask=mask,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        names = ("beta1", "beta2", "eps", "amsgrad")
        rule = scale_by_adam(**{name: options[name] for name in names})
        decay, mask = options["weight_decay"], options["mask"]
        return decoupled(rule, rate, options["maximize"], decay, mask)


class AdamaxState(NamedTuple):
    """State of Adamax: steps, the first moment and the decaying maximum."""

    steps: StepCounts
    first: Parts
    largest: Parts


class scale_by_adamax(Transform):
    r"""Adamax's rule: :math:`\hat m_t / u_t`, see `Adamax`.

    Parameters
    ----------
    beta1, beta2, eps
        As of `Adamax`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_adamax()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [1.0, -1.0]
    [1.0, -1.0]
    """

    state_type = AdamaxState

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self._beta1, self._beta2, self._eps = check_betas("scale_by_adamax", beta1, beta2, eps)

    def _start(self, params: Tensors) -> AnyState:
        """Return counts, moments and maxima of zero."""
        return AdamaxState(no_steps(params), zeros(params), zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Divide the first moment by the decaying maximum."""
        beta1, beta2, eps = self._beta1, self._beta2, self._eps
        steps, new = next_steps(state.steps), 1.0 - beta1
        first = [m * beta1 + g * new for m, g in each(state.first, grads)]
        largest = [ad.maximum(u * beta2, ad.abs(g) + eps) for u, g in each(state.largest, grads)]
        over = 1.0 if scale is None else scale
        rates = scalars(steps, grads, lambda t, _: (over / (1.0 - beta1**t),))
        updates = [m * rate / u for m, u, (rate,) in each(first, largest, rates)]
        return updates, AdamaxState(steps, first, largest)


class Adamax(FirstOrder):
    r"""Adamax, Algorithm 2 of Kingma and Ba [1]_: Adam with a norm of infinite order.

    .. math::
        u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1-\beta_1^t} \frac{m_t}{u_t} .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.002
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    beta1, beta2, eps, weight_decay, maximize
        As of `Adam`.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A method for stochastic optimization", ICLR, 2015.
       arXiv:1412.6980.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.Adamax([w], 0.5)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # the first step has the length of the rate
    2.5
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
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        rule = scale_by_adamax(options["beta1"], options["beta2"], options["eps"])
        return chain(*before(options["maximize"], options["weight_decay"]), rule, rate)
