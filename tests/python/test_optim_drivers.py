"""`minimize` by the optimizers of first order and by derivative-free searches."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim.drivers import first_order
from adjoint.optim.search import SEARCHES

minimize = ad.optim.minimize
RATES = {"sgd": 0.05, "adagrad": 0.5, "adadelta": 1.0, "rmsprop": 0.01, "lion": 0.003}


def bowl(x: Any) -> Any:
    return ad.sum((x - ad.tensor([1.0, -2.0])) ** 2 * ad.tensor([1.0, 4.0]))


@pytest.mark.parametrize("method", sorted(first_order()))
def test_first_order_methods_go_down(method: str) -> None:
    options = {"learning_rate": RATES.get(method, 0.05)}
    result = minimize(bowl, ad.zeros(2), method, maxiter=400, options=options)
    assert result.fun < 0.3 * 17 and result.nit <= 400, result
    again = minimize(bowl, ad.zeros(2), method, maxiter=400, options={**options, "compile": False})
    assert again.x.tolist() == result.x.tolist()
    if method == "sgd":
        np.testing.assert_allclose(result.x.numpy(), [1, -2], atol=1e-5)


def test_a_first_order_step_is_that_of_the_optimizer() -> None:
    opt = ad.optim.Adam(learning_rate=0.1)
    x = ad.zeros(2)
    state = opt.init(x)
    path = []
    for _ in range(5):
        updates, state = opt.update(ad.grad(bowl)(x), state, x)
        x = ad.optim.apply_updates(x, updates)
        path.append(bowl(x).item())
    result = minimize(bowl, [0.0, 0.0], "adam", maxiter=5, options={"learning_rate": 0.1})
    np.testing.assert_allclose([row.fun for row in result.history], path, rtol=1e-14)


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_first_order_methods_within_bounds(method: str) -> None:
    options = {"learning_rate": 0.05}
    result = minimize(bowl, [0.0, 0.0], method, bounds=(-1, 0.5), options=options)
    np.testing.assert_allclose(result.x.numpy(), [0.5, -1], atol=1e-6)
    assert result.success, result


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_searches_through_minimize(method: str) -> None:
    seen: list[Any] = []

    def counted(x: Any) -> float:  # any Python will do
        seen.append(np.array(x))
        return float((seen[-1][0] - 1) ** 2 + 4 * (seen[-1][1] + 2) ** 2)

    result = minimize(counted, [0.0, 0.0], method, bounds=(-4, 4), seed=5, maxfun=250)
    assert len(seen) == result.nfev <= 250
    assert result.fun < 17 and result.grad is None
    assert all(np.all(np.abs(x) <= 4) for x in seen)
    values = [(x[0] - 1) ** 2 + 4 * (x[1] + 2) ** 2 for x in seen]
    assert result.fun == min(values)  # nothing that was evaluated is lost
    again = minimize(counted, [0.0, 0.0], method, bounds=(-4, 4), seed=5, maxfun=250)
    assert again.x.tolist() == result.x.tolist()


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_how_points_are_evaluated_does_not_matter(method: str) -> None:
    options = {"seed": 3, "maxfun": 100}
    plain = minimize(bowl, ad.zeros(2), method, **options)
    batch = minimize(bowl, ad.zeros(2), method, batch=True, **options)
    with ThreadPoolExecutor(3) as pool:
        workers = minimize(bowl, ad.zeros(2), method, executor=pool, **options)
    assert plain.x.tolist() == batch.x.tolist() == workers.x.tolist()


@pytest.mark.parametrize("method", ["adam", "nelder-mead", "cma-es"])
def test_callback_and_nan(method: str) -> None:
    calls = 0

    def callback(intermediate_result: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise StopIteration

    result = minimize(bowl, [0.0, 0.0], method, seed=0, callback=callback)
    assert calls == result.nit == 4 and "callback" in result.reason

    def holes(x: Any) -> Any:
        return ad.where(x[0] < 0.4, ad.log(x[0] - 0.4), bowl(x))

    result = minimize(holes, [0.5, 0.0], method, seed=0, maxiter=60)
    assert math.isfinite(result.fun)


def test_without_a_gradient_the_method_is_one_of_values() -> None:
    result = minimize(lambda x: float(np.sum(np.asarray(x) ** 2)), np.ones(2))
    assert result.method == "nelder-mead" and result.success
    assert minimize(lambda x: float(np.sum(x.numpy() ** 2)), np.ones(2)).method == "nelder-mead"
    np.testing.assert_allclose(result.x.numpy(), 0, atol=1e-3)
    assert minimize(lambda x: ad.sum(x**2), np.ones(2)).method == "l-bfgs"
    assert minimize(lambda x: ad.sum(x**2), np.ones(2), bounds=(0, 2)).method == "l-bfgs-b"


def test_options_are_those_of_the_method() -> None:
    with pytest.raises(TypeError, match=r"\[minimize\].*did you mean 'learning_rate'"):
        minimize(bowl, [0.0, 0.0], "adam", options={"learning_rte": 0.1})
    with pytest.raises(TypeError, match=r"\[minimize\] the method 'cma-es' has no option"):
        minimize(bowl, [0.0, 0.0], "cma-es", options={"popsze": 3})
