"""Stochastic gradient descent, with momentum if wanted: the yardstick for everything else."""

from __future__ import annotations

from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_flag
from adjoint.optim.base import Optimizer, cast_per_dtype, check_range, check_shapes, check_state

__all__ = ["SGD", "SGDState"]


class SGDState(NamedTuple):
    """State of `SGD`: the velocity, structured as the parameters, or None without momentum."""

    velocity: Any


class SGD(Optimizer[SGDState]):
    r"""Gradient descent with classical or Nesterov momentum.

    With gradient :math:`g_t` (plus ``weight_decay`` times the parameter), velocity :math:`b_0 = 0`
    and momentum :math:`\mu`,

    .. math::
        b_t = \mu b_{t-1} + g_t, \qquad
        \theta_t = \theta_{t-1} - \eta\, d_t, \qquad
        d_t = b_t \ \text{ or, with Nesterov, } \ g_t + \mu b_t .

    Parameters
    ----------
    params : iterable or pytree of Tensor, optional
        What `step` changes; leave it out to use `init` and `update`.
    learning_rate : float, default 0.01
        :math:`\eta > 0`.
    momentum : float, default 0.0
        :math:`\mu` in [0, 1). Zero keeps no state.
    nesterov : bool, default False
        Look ahead along the velocity; needs a momentum above zero.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient.

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
        *,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self._momentum = check_range("SGD", "momentum", momentum, 0.0, 1.0)
        self._weight_decay = check_range("SGD", "weight_decay", weight_decay, 0.0, float("inf"))
        nesterov = check_flag("SGD", "nesterov", nesterov)
        self._nesterov = nesterov
        if nesterov and self._momentum == 0.0:
            raise ValueError("[SGD] nesterov=True needs a momentum above 0")
        super().__init__(params, learning_rate=learning_rate)

    def init(self, params: Any) -> SGDState:
        """Return a velocity of zeros, or None without momentum."""
        if self._momentum == 0.0:
            return SGDState(velocity=None)
        return SGDState(velocity=ad.tree.map(ad.zeros_like, params))

    def update(self, grads: Any, state: SGDState, params: Any = None) -> tuple[Any, SGDState]:
        """Return ``-learning_rate * direction`` and the new velocity; see `Optimizer.update`."""
        check_state("SGD.update", state, SGDState)
        mu, decay = self._momentum, self._weight_decay
        if decay:
            if params is None:
                raise ValueError(
                    "[SGD.update] weight_decay needs params: update(grads, state, params)"
                )
            check_shapes("SGD.update", grads, params)
            grads = ad.tree.map(lambda g, p: g + decay * p, grads, params)
        direction, velocity = grads, state.velocity
        if mu:
            check_shapes("SGD.update", grads, velocity)
            velocity = ad.tree.map(lambda g, b: mu * b + g, grads, velocity)
            direction = velocity
            if self._nesterov:
                direction = ad.tree.map(lambda g, b: g + mu * b, grads, velocity)
        rate = cast_per_dtype(-self._rate)
        return ad.tree.map(lambda d: rate(d) * d, direction), SGDState(velocity)
