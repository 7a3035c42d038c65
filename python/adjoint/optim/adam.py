"""Adam: the default choice for networks, one step size per entry from running moments."""

from __future__ import annotations

from typing import Any, NamedTuple

import adjoint as ad
from adjoint.optim.base import Optimizer, cast_per_dtype, check_range, check_shapes, check_state

__all__ = ["Adam", "AdamState"]


class AdamState(NamedTuple):
    """State of `Adam`: steps taken (0-d int64) and both moments, structured as the parameters."""

    steps: ad.Tensor
    first: Any
    second: Any


class Adam(Optimizer[AdamState]):
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
    params : iterable or pytree of Tensor, optional
        What `step` changes; leave it out to use `init` and `update`.
    learning_rate : float, default 0.001
        :math:`\eta > 0`.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the moments, each in [0, 1).
    eps : float, default 1e-8
        Positive; keeps the quotient finite where gradients vanish.
    weight_decay : float, default 0.0
        Factor of the L2 penalty, added to the gradient (not decoupled from the moments).

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A method for stochastic optimization", ICLR, 2015.
       arXiv:1412.6980.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(10.0, requires_grad=True)
    >>> opt = ad.optim.Adam([w], learning_rate=0.5)
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
    >>> round(params["w"].item(), 2), state.steps.item()
    (9.5, 1)
    """

    def __init__(
        self,
        params: Any = None,
        *,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self._beta1 = check_range("Adam", "beta1", beta1, 0.0, 1.0)
        self._beta2 = check_range("Adam", "beta2", beta2, 0.0, 1.0)
        self._weight_decay = check_range("Adam", "weight_decay", weight_decay, 0.0, float("inf"))
        self._eps = check_range("Adam", "eps", eps, 0.0, float("inf"))
        if self._eps == 0.0:
            raise ValueError("[Adam] eps must be positive, got 0")
        super().__init__(params, learning_rate=learning_rate)

    def init(self, params: Any) -> AdamState:
        """Return a step count of zero and moments of zeros."""
        return AdamState(
            steps=ad.zeros((), dtype=ad.int64),
            first=ad.tree.map(ad.zeros_like, params),
            second=ad.tree.map(ad.zeros_like, params),
        )

    def update(self, grads: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        """Return the step of Algorithm 1 and the new moments; see `Optimizer.update`."""
        check_state("Adam.update", state, AdamState)
        check_shapes("Adam.update", grads, state.first, state.second)
        beta1, beta2, eps, decay = self._beta1, self._beta2, self._eps, self._weight_decay
        if decay:
            if params is None:
                raise ValueError(
                    "[Adam.update] weight_decay needs params: update(grads, state, params)"
                )
            check_shapes("Adam.update", grads, params)
            grads = ad.tree.map(lambda g, p: g + decay * p, grads, params)

        steps = state.steps + 1
        first = ad.tree.map(lambda g, m: beta1 * m + (1.0 - beta1) * g, grads, state.first)
        second = ad.tree.map(lambda g, v: beta2 * v + (1.0 - beta2) * (g * g), grads, state.second)

        # Both bias corrections are scalars of the step, not work per entry.
        t = ad.astype(steps, ad.float64)
        rate = cast_per_dtype(-self._rate / (1.0 - beta1**t))
        root = cast_per_dtype(ad.sqrt(1.0 - beta2**t))
        updates = ad.tree.map(
            lambda m, v: rate(m) * m / (ad.sqrt(v) / root(v) + eps), first, second
        )
        return updates, AdamState(steps, first, second)
