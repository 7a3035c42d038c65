"""When derivative-free searches are content: a target value, and restarts that find nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim import minimize
from adjoint.optim.search import CMAES, SEARCHES


def bowl(x: Any) -> Any:
    return ad.sum((x - 1.0) ** 2)


def rastrigin(x: Any) -> Any:
    return ad.sum(x**2 - 10 * ad.cos(2 * ad.pi * x) + 10)


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_every_search_stops_at_a_target(method: str) -> None:
    values: list[float] = []

    def f(x: Any) -> float:
        values.append(float(np.sum((np.asarray(x) - 1.0) ** 2)))
        return values[-1]

    result = minimize(f, [3.0, 2.0], method, seed=1, options={"target": 2.0})
    assert result.success and result.reason == "the value is at most target=2"
    assert result.fun == min(values) <= 2.0
    assert result.nfev == len(values) < 2000
    # Nothing but the last batch was evaluated after the first value that was low enough.
    first = next(i for i, v in enumerate(values) if v <= 2.0)
    assert len(values) - first <= 100
    assert result.history[-1].nfev == result.nfev


def test_a_target_that_is_met_within_the_last_evaluations_counts() -> None:
    # maxfun cuts the first generation, of which x0 itself is low enough.
    result = minimize(
        lambda x: float(np.asarray(x)[0] ** 2),
        [0.0],
        "nelder-mead",
        maxfun=1,
        options={"target": 0},
    )
    assert result.success and result.nfev == 1


def test_target_of_auto_and_of_wrong_kinds() -> None:
    result = minimize(
        lambda x: float(np.sum(np.asarray(x) ** 2)), [3.0, 2.0], options={"target": 1.0}
    )
    assert result.method == "nelder-mead" and result.success and result.fun <= 1.0
    with pytest.raises(TypeError, match=r"\[minimize\] target must be a real number, not a str"):
        minimize(bowl, [1.0], "cma-es", options={"target": "low"})
    with pytest.raises(TypeError, match="no option 'target'"):
        minimize(bowl, [1.0], "l-bfgs", options={"target": 1.0})


def test_restarts_end_where_they_find_nothing_better() -> None:
    # The minimum 0 is at the origin, among local ones at all integers.
    result = minimize(rastrigin, [3.4, -2.7], "cma-es", seed=1, tol=1e-9, maxfun=50_000, batch=True)
    assert result.success and "nothing better" in result.reason
    assert result.fun < 1e-9 and result.nfev < 50_000
    # Without a tolerance it goes on, as before.
    result = minimize(rastrigin, [3.4, -2.7], "cma-es", seed=1, maxfun=20_000, batch=True)
    assert not result.success and result.reason.startswith("maxfun")


@pytest.mark.parametrize("restarts", ["ipop", "bipop"])
def test_patience_counts_doublings_and_is_saved(restarts: str) -> None:
    def run(search: CMAES, most: float = math.inf) -> None:
        while search.stop is None and search.nit < most:
            xs = search.ask()
            search.tell(xs, np.sum(xs**2, axis=1))

    options: dict[str, Any] = {"seed": 3, "patience": 2, "restarts": restarts}
    search = CMAES([2.0, 1.0], **options)
    run(search)
    assert search.stop == "2 runs of doubled populations in turn have found nothing better"
    half = CMAES([2.0, 1.0], **options)
    run(half, search.nit // 2)
    other = CMAES([2.0, 1.0], **options)
    other.load_state_dict(half.state_dict())
    run(other)
    assert other.nit == search.nit and other.stop == search.stop
    with pytest.raises(ValueError, match="patience must be at least 1"):
        CMAES([1.0], patience=0)
