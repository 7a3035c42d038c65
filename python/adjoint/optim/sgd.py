"""Stochastic gradient descent, with momentum if wanted: the yardstick for everything else."""

from __future__ import annotations

from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_flag
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
    scaled,
    zeros,
)

__all__ = ["SGD", "TraceState", "trace"]


class TraceState(NamedTuple):
    """State of `trace`: the velocity and, with dampening, steps; structured as the parameters."""

    steps: StepCounts
    velocity: Parts


class trace(Transform):
    r"""Momentum: a decaying sum of gradients, :math:`b_t = \mu b_{t-1} + (1-\tau) g_t`.

    Parameters
    ----------
    momentum : float
        :math:`\mu` in [0, 1).
    dampening : float, default 0.0
        :math:`\tau` in [0, 1]. The first gradient counts in full, :math:`b_1 = g_1`.
    nesterov : bool, default False
        Give :math:`g_t + \mu b_t` instead of :math:`b_t`; needs a momentum and no dampening.

    Examples
    --------
    >>> import adjoint as ad
    >>> rule = ad.optim.trace(0.5)
    >>> state = rule.init(ad.tensor(0.0))
    >>> for _ in range(3):
    ...     updates, state = rule.update(ad.tensor(1.0), state)
    >>> updates.item()
    1.75
    """

    state_type = TraceState

    def __init__(self, momentum: float, dampening: float = 0.0, nesterov: bool = False) -> None:
        self._momentum = check_range("trace", "momentum", momentum, 0.0, 1.0)
        self._dampening = check_range("trace", "dampening", dampening, 0.0, 1.0, closed=True)
        self._nesterov = check_flag("trace", "nesterov", nesterov)
        if self._nesterov and self._momentum == 0.0:
            raise ValueError("[trace] nesterov=True needs a momentum above 0")
        if self._nesterov and self._dampening:
            raise ValueError("[trace] nesterov=True needs a dampening of 0")

    def _start(self, params: Tensors) -> AnyState:
        """Return a velocity of zeros."""
        return TraceState(no_steps(params) if self._dampening else None, zeros(params))

    def _apply(
        self, grads: Tensors, state: AnyState, params: Tensors | None, scale: ad.Tensor | None
    ) -> tuple[Tensors, AnyState]:
        """Add to the velocity."""
        mu, steps, parts = self._momentum, state.steps, grads
        if steps is not None:
            share = 1.0 - self._dampening
            shares = scalars(steps, grads, lambda n, _: (ad.where(n == 0, 1.0, share),))
            parts = [g * s for g, (s,) in each(grads, shares)]
            steps = next_steps(steps)
        velocity = [b * mu + g for b, g in each(state.velocity, parts)]
        updates = velocity
        if self._nesterov:
            updates = [g + b * mu for g, b in each(grads, velocity)]
        return scaled(updates, scale), TraceState(steps, velocity)


def momentum(momentum: Any, dampening: Any = 0.0, nesterov: Any = False) -> list[Transform]:
    """Return the transform for a momentum, none where it is 0; all are checked.

    Examples
    --------
    >>> from adjoint.optim.sgd import momentum
    >>> momentum(0.0), momentum(0.9)
    ([], [trace(momentum=0.9, dampening=0.0, nesterov=False)])
    """
    rule = trace(momentum, dampening, nesterov)
    return [rule] if rule._momentum else []


class SGD(FirstOrder):
    r"""Gradient descent with classical or Nesterov momentum.

    With gradient :math:`g_t` (plus ``weight_decay`` times the parameter), velocity
    :math:`b_1 = g_1`, momentum :math:`\mu` and dampening :math:`\tau`,

    .. math::
        b_t = \mu b_{t-1} + (1-\tau) g_t, \qquad
        \theta_t = \theta_{t-1} - \eta\, d_t, \qquad
        d_t = b_t \ \text{ or, with Nesterov, } \ g_t + \mu b_t .

    Parameters
    ----------
    params : iterable or pytree of Tensor, or list of dicts; optional
        What `step` changes; leave it out to use `init` and `update`. See `Optimizer`.
    learning_rate : float, 0-d Tensor or schedule, default 0.01
        :math:`\eta \ge 0`; see `scale_by_learning_rate`.
    momentum : float, default 0.0
        :math:`\mu` in [0, 1). Zero keeps no state: gradient descent.
    dampening : float, default 0.0
        :math:`\tau` in [0, 1].
    nesterov : bool, default False
        Look ahead along the velocity; needs a momentum above zero and no dampening.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient.
    maximize : bool, default False
        Ascend instead.

    References
    ----------
    .. [1] H. Robbins and S. Monro, "A stochastic approximation method", Ann. Math. Statist. 22(3),
       1951.
    .. [2] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
       Comput. Math. Math. Phys. 4(5), 1964.
    .. [3] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML, 2013.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(10.0, requires_grad=True)
    >>> opt = ad.optim.SGD([w], learning_rate=0.25)
    >>> (w**2 + 1).backward()
    >>> opt.step()
    >>> w.item()
    5.0

    The same step by the pure pair:

    >>> opt = ad.optim.SGD(learning_rate=0.25)
    >>> params = {"w": ad.tensor(10.0)}
    >>> state = opt.init(params)
    >>> grads = ad.grad(lambda p: p["w"] ** 2 + 1)(params)
    >>> updates, state = opt.update(grads, state)
    >>> ad.optim.apply_updates(params, updates)["w"].item()
    5.0
    """

    def __init__(
        self,
        params: Any = None,
        learning_rate: Any = 0.01,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            learning_rate,
            momentum=momentum,
            dampening=dampening,
            nesterov=nesterov,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    @classmethod
    def _build(cls, rate: scale_by_learning_rate, **options: Any) -> Transform:
        """Return the rule."""
        front = before(options["maximize"], options["weight_decay"])
        names = ("momentum", "dampening", "nesterov")
        return chain(*front, *momentum(*[options[name] for name in names]), rate)
