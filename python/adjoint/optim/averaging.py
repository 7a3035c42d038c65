"""Averages of parameters over the steps: often better than the last of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import adjoint as ad
from adjoint.optim.base import load_handles
from adjoint.optim.groups import checked_params
from adjoint.optim.options import check_range
from adjoint.optim.states import Parts, Shared
from adjoint.optim.transform import Leaves, Tensors, each

__all__ = ["AverageState", "WeightAverage"]


class AverageState(NamedTuple):
    """State of `WeightAverage`: how many were averaged (0-d int64), and their average."""

    calls: Shared
    average: Parts


class WeightAverage:
    r"""The average of parameters over steps: of all alike, or exponentially decaying.

    Parameters
    ----------
    params : iterable or pytree of Tensor, optional
        What is averaged by `step`; leave it out to use `init` and `update`.
    decay : float, optional
        With :math:`d` in [0, 1): an exponential average (EMA),
        :math:`a_t = d\, a_{t-1} + (1-d)\, \theta_t`, that starts with the first parameters it
        sees. Without: the mean of all it sees, as in stochastic weight averaging [1]_ [2]_.

    Notes
    -----
    As of PyTorch's ``AveragedModel``. (optax's `ema` starts from zero and corrects for it.)

    References
    ----------
    .. [1] B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging",
       SIAM J. Control Optim. 30(4), 1992.
    .. [2] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov and A. G. Wilson, "Averaging weights
       leads to wider optima and better generalization", UAI, 2018. arXiv:1803.05407.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(0.0, requires_grad=True)
    >>> average = ad.optim.WeightAverage([w])
    >>> for value in (1.0, 2.0, 6.0):  # an optimizer's steps
    ...     with ad.no_grad():
    ...         _ = w.rebind_(ad.tensor(value))
    ...     average.step()
    >>> with average.swapped():  # evaluate with the averages
    ...     w.item()
    3.0
    >>> w.item()
    6.0
    """

    def __init__(self, params: Any = None, *, decay: float | None = None) -> None:
        who = "WeightAverage"
        self._decay = None if decay is None else check_range(who, "decay", decay, 0.0, 1.0)
        self._params: Tensors | None = None
        if params is not None:
            self._params = checked_params(who, params)
            with ad.no_grad():
                self._state = self.init(self._params)

    def init(self, params: Any) -> AverageState:
        """Return the state before the first step: the parameters, counted as none.

        Parameters
        ----------
        params : pytree of Tensor

        Returns
        -------
        AverageState
        """
        return AverageState(ad.zeros((), dtype=ad.int64), ad.tree.map(_copied, params))

    def update(self, params: Any, state: AverageState) -> tuple[Any, AverageState]:
        """Take parameters into the average; changes nothing.

        Parameters
        ----------
        params : pytree of Tensor
        state : AverageState
            From `init` or the previous `update`.

        Returns
        -------
        average : pytree of Tensor
            Structured as the parameters; of integers float64.
        state : AverageState
        """
        where = "WeightAverage.update"
        if not isinstance(state, AverageState):
            raise TypeError(f"[{where}] state is a {type(state).__name__}, not an AverageState")
        given = Leaves(where, "parameters", params)
        averages = self._next(given.tensors, given.like("average", state.average), state.calls)
        average = given.structure.unflatten(averages)
        kept = average
        if given.met_other_order:
            kept = ad.tree.map(lambda _, new: new, state.average, average)
        return average, AverageState(state.calls + 1, kept)

    def _next(self, params: Tensors, averages: Tensors, count: ad.Tensor) -> Tensors:
        seen = ad.astype(count, ad.float64)
        share = 1.0 / (seen + 1.0)
        if self._decay is not None:
            share = ad.where(seen > 0.0, 1.0 - self._decay, 1.0)
        shares = {a.dtype: ad.astype(share, a.dtype) for a in averages}
        first = count == 0
        return [
            # Exactly the parameters at first, also where an average was not finite.
            ad.where(first, p, a + (p - a) * shares[a.dtype])
            for p, a in each(params, averages)
        ]

    def step(self) -> None:
        """Take the parameters, as they are now, into the average; call it after the optimizer's."""
        params = self._loop("step")
        with ad.no_grad():
            _, state = self.update(params, self._state)
            for handle, value in each(ad.tree.leaves(self._state), ad.tree.leaves(state)):
                handle.rebind_(value)

    @property
    def average(self) -> list[ad.Tensor]:
        """The averages, one for each parameter."""
        self._loop("average")
        return [handle.detach() for handle in self._state.average]

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Within it, the parameters have the averages' values."""
        params = self._loop("swapped")
        before = [param.detach() for param in params]
        with ad.no_grad():
            for param, handle in each(params, self._state.average):
                param.rebind_(handle)
        try:
            yield
        finally:
            with ad.no_grad():
                for param, value in each(params, before):
                    param.rebind_(value)

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot: ``"calls"``, and ``"average.<i>"`` for each parameter."""
        self._loop("state_dict")
        return {name: handle.detach() for name, handle in self._handles().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a snapshot made by `state_dict`.

        Raises
        ------
        KeyError, ValueError, TypeError
            If an entry is missing, unknown, or of another shape or dtype. Nothing is changed then.
        """
        self._loop("load_state_dict")
        load_handles("WeightAverage.load_state_dict", self._handles(), state_dict)

    def _handles(self) -> dict[str, ad.Tensor]:
        averages = {f"average.{i}": x for i, x in enumerate(self._state.average)}
        return {"calls": self._state.calls, **averages}

    def _loop(self, method: str) -> Tensors:
        if self._params is None:
            raise RuntimeError(
                f"[WeightAverage.{method}] made without parameters: write "
                "WeightAverage(model.parameters()), or use the pure pair init and update"
            )
        return self._params


def _copied(leaf: Any) -> ad.Tensor:
    """Return a leaf to average in; the mean of integers is none."""
    copy = ad.asarray(leaf).detach()
    return ad.astype(copy, ad.float64) if ad.isdtype(copy.dtype, ("integral", "bool")) else copy
