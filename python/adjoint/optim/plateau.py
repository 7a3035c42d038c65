"""A learning rate that falls when a metric stops getting better: it has a state, not a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import adjoint as ad
from adjoint._arguments import check_choice, check_count, check_kind
from adjoint.optim.base import Optimizer, load_handles
from adjoint.optim.options import check_range

__all__ = ["PlateauState", "ReduceOnPlateau"]


class PlateauState(NamedTuple):
    """State of `ReduceOnPlateau`: the best metric, and counts (0-d tensors)."""

    best: ad.Tensor
    bad: ad.Tensor
    cooldown: ad.Tensor


class ReduceOnPlateau:
    """Multiply learning rates by a factor when a metric has stopped getting better.

    Parameters
    ----------
    optimizer : Optimizer, optional
        Whose rates fall; they must be numbers. Leave it out to use `init` and `update`.
    mode : {"min", "max"}, default "min"
        Whether a metric is better when it is lower.
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        How many calls in a row without improvement are let pass.
    threshold : float, default 1e-4
        What counts as an improvement.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether `threshold` is a part of the best value, or a difference to it.
    cooldown : int, default 0
        Calls after a reduction in which nothing is counted.
    min_learning_rate : float, default 0.0
        Rates fall no further.
    eps : float, default 1e-8
        A reduction by no more than this is left out.

    Notes
    -----
    The rules are those of PyTorch's ``ReduceLROnPlateau``. Nothing looks at values, so a training
    step that calls it compiles. A metric of nan is not an improvement.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(1.0, requires_grad=True)
    >>> opt = ad.optim.SGD([w], 0.5)
    >>> plateau = ad.optim.ReduceOnPlateau(opt, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0):
    ...     plateau.step(loss)
    ...     print(opt.learning_rate)
    0.5
    0.5
    0.5
    0.25
    0.25
    """

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        *,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        who = "ReduceOnPlateau"
        check_choice(who, "mode", mode, ("min", "max"))
        check_choice(who, "threshold_mode", threshold_mode, ("rel", "abs"))
        self._sign = 1.0 if mode == "min" else -1.0
        self._factor = check_range(who, "factor", factor, 0.0, 1.0, above=True)
        self._patience = check_count(who, "patience", patience)
        self._threshold = check_range(who, "threshold", threshold, 0.0, math.inf)
        self._relative = threshold_mode == "rel"
        self._cooldown = check_count(who, "cooldown", cooldown)
        self._least = check_range(who, "min_learning_rate", min_learning_rate, 0.0, math.inf)
        self._eps = check_range(who, "eps", eps, 0.0, math.inf)
        self._state = self.init()
        self._optimizer = optimizer
        if optimizer is not None:
            check_kind(who, "optimizer", optimizer, Optimizer)
            optimizer._rate_handles()  # raises where there are none

    def init(self) -> PlateauState:
        """Return the state before the first metric."""
        worst = ad.tensor(self._sign * math.inf, dtype=ad.float64)
        return PlateauState(worst, ad.zeros((), dtype=ad.int64), ad.zeros((), dtype=ad.int64))

    def update(self, metric: Any, state: PlateauState, rate: Any) -> tuple[ad.Tensor, PlateauState]:
        """Return the next rate and state; changes nothing.

        Parameters
        ----------
        metric : float or 0-d Tensor
        state : PlateauState
            From `init` or the previous `update`.
        rate : float or 0-d Tensor

        Returns
        -------
        rate : 0-d Tensor
            Of the dtype of the given one.
        state : PlateauState
        """
        state, falls = self._judge(metric, state)
        return self._lowered(ad.asarray(rate), falls), state

    def _judge(self, metric: Any, state: PlateauState) -> tuple[PlateauState, ad.Tensor]:
        """Return the next state, and whether rates fall."""
        metric = ad.astype(ad.asarray(metric), ad.float64)
        if metric.ndim:
            raise ValueError(
                f"[ReduceOnPlateau] metric must be one number, got shape {metric.shape}"
            )
        sign, best = self._sign, state.best
        bound = best - sign * self._threshold
        if self._relative:
            bound = best * (1.0 - sign * self._threshold)
        better = sign * metric < sign * bound
        bad = ad.where(better, 0, state.bad + 1)
        waits = state.cooldown > 0
        bad = ad.where(waits, 0, bad)
        cooldown = ad.where(waits, state.cooldown - 1, state.cooldown)
        falls = bad > self._patience
        best = ad.where(better, metric, best)
        bad, cooldown = ad.where(falls, 0, bad), ad.where(falls, self._cooldown, cooldown)
        return PlateauState(best, bad, cooldown), falls

    def _lowered(self, rate: ad.Tensor, falls: ad.Tensor) -> ad.Tensor:
        lower = ad.maximum(rate * self._factor, self._least)
        return ad.where(falls & (rate - lower > self._eps), lower, rate)

    def step(self, metric: Any) -> None:
        """Look at the metric of an epoch, and lower the optimizer's rates if it is time.

        Parameters
        ----------
        metric : float or 0-d Tensor

        Raises
        ------
        ValueError
            If a group's rate has become a schedule. Nothing is changed then.
        """
        if self._optimizer is None:
            raise RuntimeError(
                "[ReduceOnPlateau.step] made without an optimizer: write ReduceOnPlateau(optimizer)"
            )
        # Asked for each time: groups may have been added, and rates assigned to.
        rates = self._optimizer._rate_handles()
        with ad.no_grad():
            state, falls = self._judge(metric, self._state)
            for rate in rates:
                rate.rebind_(self._lowered(rate, falls))
            for handle, value in zip(self._state, state, strict=True):
                handle.rebind_(value)

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of the state; the rates are in the optimizer's."""
        return {name: handle.detach() for name, handle in self._state._asdict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a snapshot made by `state_dict`.

        Raises
        ------
        KeyError, ValueError, TypeError
            If an entry is missing, unknown, or of another shape or dtype. Nothing is changed then.
        """
        load_handles("ReduceOnPlateau.load_state_dict", self._state._asdict(), state_dict)
