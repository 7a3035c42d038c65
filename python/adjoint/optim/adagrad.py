"""Adagrad and what came of it: steps divided by the size of gradients, without a first moment."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.base import FirstOrder
from adjoint.optim.options import check_range
from adjoint.optim.scaling import before, scale_by_learning_rate
from adjoint.optim.sgd import momentum
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

__all__ = [
    "Adadelta",
    "AdadeltaState",
    "Adagrad",
    "AdagradState",
    "RMSState",
    "RMSprop",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_rms",
]


class AdagradState(NamedTuple):
    """State of Adagrad: steps, and sums of squares structured as the parameters."""

    steps: StepCounts
    sums: Parts


class scale_by_adagrad(Transform):
    """Adagrad's rule, see `Adagrad`.

    Parameters
    ----------
    learning_rate_decay, initial_accumulator_value, eps
        As of `Adagrad`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_adagrad()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [1.0, -1.0]
    [0.707107, -0.707107]
    """

    state_type = AdagradState

    def __init__(
        self,
        learning_rate_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        who = "scale_by_adagrad"
        self._learning_rate_decay = check_range(
            who, "learning_rate_decay", learning_rate_decay, 0.0, inf
        )
        self._initial_accumulator_value = check_range(
            who, "initial_accumulator_value", initial_accumulator_value, 0.0, inf
        )
        self._eps = check_range(who, "eps", eps, 0.0, inf, above=True)

    def _start(self, params: Tensors) -> AnyState:
        """Return the initial sums."""
        initial = self._initial_accumulator_value
        return AdagradState(no_steps(params), [ad.full_like(p, initial) for p in params])

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Divide by the root of the sum of squares."""
        decay, eps = self._learning_rate_decay, self._eps
        over = 1.0 if scale is None else scale
        sums = [s + g * g for s, g in each(state.sums, grads)]
        rates = scalars(state.steps, grads, lambda t, _: (over / (1.0 + t * decay),))
        updates = [g * rate / (ad.sqrt(s) + eps) for g, s, (rate,) in each(grads, sums, rates)]
        return updates, AdagradState(next_steps(state.steps), sums)


class Adagrad(FirstOrder):
    r"""Adagrad: steps divided by the root of the sum of all squared gradients [1]_.

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        \theta_t = \theta_{t-1} - \frac{\eta}{1 + (t-1)\lambda} \frac{g_t}{\sqrt{s_t} + \epsilon} .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.01
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    learning_rate_decay : float, default 0.0
        :math:`\lambda`.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient.
    initial_accumulator_value : float, default 0.0
        :math:`s_0`.
    eps : float, default 1e-10
        Positive; added outside the root.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
       stochastic optimization", JMLR 12, 2011.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.Adagrad([w], 0.5)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # the first step has the length of the rate
    2.5
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.01,
        *,
        learning_rate_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            learning_rate_decay=learning_rate_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        names = ("learning_rate_decay", "initial_accumulator_value", "eps")
        rule = scale_by_adagrad(**{name: options[name] for name in names})
        return chain(*before(options["maximize"], options["weight_decay"]), rule, rate)


class AdadeltaState(NamedTuple):
    """State of Adadelta: means of squared gradients and of squared steps."""

    squares: Parts
    deltas: Parts


class scale_by_adadelta(Transform):
    """Adadelta's rule, see `Adadelta`.

    Parameters
    ----------
    rho, eps
        As of `Adadelta`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_adadelta()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [0.003162, -0.003161]
    [0.003244, -0.003243]
    """

    state_type = AdadeltaState

    def __init__(self, rho: float = 0.9, eps: float = 1e-6) -> None:
        who = "scale_by_adadelta"
        self._rho = check_range(who, "rho", rho, 0.0, 1.0, closed=True)
        self._eps = check_range(who, "eps", eps, 0.0, inf, above=True)

    def _start(self, params: Tensors) -> AnyState:
        """Return means of zero."""
        return AdadeltaState(zeros(params), zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Divide the mean step by the mean gradient."""
        rho, eps = self._rho, self._eps
        new = 1.0 - rho
        squares = [s * rho + g * g * new for s, g in each(state.squares, grads)]
        steps = [
            ad.sqrt(d + eps) / ad.sqrt(s + eps) * g
            for d, s, g in each(state.deltas, squares, grads)
        ]
        deltas = [d * rho + x * x * new for d, x in each(state.deltas, steps)]
        return scaled(steps, scale), AdadeltaState(squares, deltas)


class Adadelta(FirstOrder):
    r"""Adadelta: steps in the units of the parameters [1]_.

    .. math::
        s_t = \rho s_{t-1} + (1-\rho) g_t^2, \quad
        \Delta_t = \frac{\sqrt{d_{t-1} + \epsilon}}{\sqrt{s_t + \epsilon}} g_t, \quad
        d_t = \rho d_{t-1} + (1-\rho) \Delta_t^2, \quad
        \theta_t = \theta_{t-1} - \eta \Delta_t .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 1.0
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    rho : float, default 0.9
        Decay of both means, in [0, 1].
    eps : float, default 1e-6
        Positive; added inside the roots.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] M. D. Zeiler, "ADADELTA: An adaptive learning rate method", 2012. arXiv:1212.5701.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.Adadelta([w], 1.0)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # it starts slowly, at any scale
    2.996838
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 1.0,
        *,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, learning_rate, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        rule = scale_by_adadelta(options["rho"], options["eps"])
        return chain(*before(options["maximize"], options["weight_decay"]), rule, rate)


class RMSState(NamedTuple):
    """State of `scale_by_rms`: means of squares and, if centered, of gradients, else None."""

    squares: Parts
    means: Parts


class scale_by_rms(Transform):
    """RMSprop's rule without its momentum, see `RMSprop`.

    Parameters
    ----------
    alpha, eps, centered
        As of `RMSprop`.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.scale_by_rms()
    >>> state = rule.init(ad.tensor([1.0, 1.0]))
    >>> for _ in range(2):
    ...     updates, state = rule.update(ad.tensor([300.0, -0.1]), state)
    ...     print([round(u, 6) for u in updates.tolist()])
    [10.0, -9.99999]
    [7.088812, -7.088807]
    """

    state_type = RMSState

    def __init__(self, alpha: float = 0.99, eps: float = 1e-8, centered: bool = False) -> None:
        who = "scale_by_rms"
        self._alpha = check_range(who, "alpha", alpha, 0.0, 1.0, closed=True)
        self._eps = check_range(who, "eps", eps, 0.0, inf, above=True)
        self._centered = check_flag(who, "centered", centered)

    def _start(self, params: Tensors) -> AnyState:
        """Return means of zero."""
        return RMSState(zeros(params), zeros(params) if self._centered else None)

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Divide by the root of the mean of squares."""
        alpha, eps, new = self._alpha, self._eps, 1.0 - self._alpha
        squares = [s * alpha + g * g * new for s, g in each(state.squares, grads)]
        below, means = squares, None
        if self._centered:
            means = [m * alpha + g * new for m, g in each(state.means, grads)]
            # A variance is not below 0, but by rounding the difference may be.
            below = [ad.maximum(s - m * m, 0.0) for s, m in each(squares, means)]
        tops = scaled(grads, scale)
        updates = [g / (ad.sqrt(s) + eps) for g, s in each(tops, below)]
        return updates, RMSState(squares, means)


class RMSprop(FirstOrder):
    r"""RMSprop: gradients divided by the root of their mean square [1]_.

    .. math::
        s_t = \alpha s_{t-1} + (1-\alpha) g_t^2, \qquad
        b_t = \mu b_{t-1} + \frac{g_t}{\sqrt{s_t} + \epsilon}, \qquad
        \theta_t = \theta_{t-1} - \eta b_t .

    Centered [2]_, the square of a mean of gradients, made as :math:`s` is, is taken off :math:`s`
    before the root.

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.01
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    alpha : float, default 0.99
        Decay of the means, in [0, 1].
    eps : float, default 1e-8
        Positive; added outside the root, as PyTorch does (optax and TensorFlow: inside).
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient.
    momentum : float, default 0.0
        :math:`\mu` in [0, 1).
    centered : bool, default False
        Divide by an estimate of the standard deviation.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp", Neural networks for machine learning,
       2012.
    .. [2] A. Graves, "Generating sequences with recurrent neural networks", 2013. arXiv:1308.0850.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True)
    >>> opt = ad.optim.RMSprop([w], 0.01)
    >>> (w**2).backward()
    >>> opt.step()
    >>> round(w.item(), 6)  # the root of the mean is 0.1 of the first gradient
    2.9
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        front = before(options["maximize"], options["weight_decay"])
        rule = scale_by_rms(options["alpha"], options["eps"], options["centered"])
        return chain(*front, rule, *momentum(options["momentum"]), rate)
