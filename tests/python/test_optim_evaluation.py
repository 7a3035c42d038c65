"""Values at many points: whoever computes them, in order, and what is said where there is none."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim import EvaluationError, EvaluationWarning, Workers, evaluate
from adjoint.optim.search import SEARCHES

XS = np.random.default_rng(0).uniform(-2, 2, (23, 3))
WANTED = np.sum(XS**2, axis=1)


def plain(x: Any) -> float:
    return float(np.sum(np.asarray(x) ** 2))


def of_tensors(x: Any) -> ad.Tensor:
    return ad.sum(ad.asarray(x) ** 2)


def late_first(x: Any) -> float:
    time.sleep(0.02 if np.array_equal(x, XS[0]) else 0.0)
    return plain(x)


def raising(x: Any) -> float:
    if np.array_equal(np.asarray(x), XS[5]):
        raise ZeroDivisionError("at the fifth")
    return plain(x)


def dying(x: Any) -> float:
    if np.array_equal(x, XS[7]):
        os._exit(3)
    return plain(x)


def always_dying(x: Any) -> float:
    os._exit(3)


class Odd(Exception):
    """One that cannot be made from its message."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def raising_odd(x: Any) -> float:
    raise Odd("very ", "odd")


def pool(count: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("forkserver"))


# ---- Values --------------------------------------------------------------------------------------


def test_one_by_one() -> None:
    for xs in (XS, list(XS), ad.asarray(XS), iter(XS)):
        np.testing.assert_allclose(evaluate(of_tensors, xs), WANTED, rtol=1e-14)
    trees = [{"a": x[0], "b": ad.asarray(x[1:])} for x in XS]
    found = evaluate(lambda p: p["a"] ** 2 + ad.sum(p["b"] ** 2), trees)
    np.testing.assert_allclose(found, WANTED, rtol=1e-14)
    assert evaluate(plain, np.empty((0, 3))).shape == (0,)
    assert evaluate(lambda x: 3, XS).tolist() == [3.0] * len(XS)
    assert evaluate(lambda x: ad.ones((1,)), XS[:2]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("batch", [True, 1, 7, 100])
def test_batches(batch: Any) -> None:
    sizes = []

    def f(x: Any) -> Any:
        sizes.append(1)
        return ad.sum(x**2)

    for xs in (XS, ad.asarray(XS), list(XS)):
        sizes.clear()
        np.testing.assert_allclose(evaluate(f, xs, batch=batch), WANTED, rtol=1e-14)
        assert len(sizes) == (1 if batch is True else -(-len(XS) // batch))
    trees = [{"a": x[0], "b": ad.asarray(x[1:])} for x in XS]
    found = evaluate(lambda p: p["a"] ** 2 + ad.sum(p["b"] ** 2), trees, batch=batch)
    np.testing.assert_allclose(found, WANTED, rtol=1e-14)
    assert evaluate(f, np.empty((0, 3)), batch=batch).shape == (0,)


def test_executors() -> None:
    with pool() as processes, ThreadPoolExecutor(3) as threads:
        for executor in (processes, threads, map, Workers(processes, max_pending=1)):
            np.testing.assert_array_equal(evaluate(plain, XS, executor), [plain(x) for x in XS])
        found = evaluate(of_tensors, XS, processes, batch=5)
        np.testing.assert_allclose(found, WANTED, rtol=1e-14)
        np.testing.assert_array_equal(evaluate(late_first, XS, processes), evaluate(plain, XS))
    with multiprocessing.pool.ThreadPool(2) as threads_too:
        np.testing.assert_array_equal(evaluate(plain, XS, threads_too), evaluate(plain, XS))


def test_no_more_is_handed_over_than_asked() -> None:
    class Counting:
        """Finishes what it was given when as much as may be pending has been handed over."""

        def __init__(self) -> None:
            self.open, self.most = 0, 0
            self.lock = threading.Lock()

        def submit(self, f: Any, x: Any) -> Future[Any]:
            with self.lock:
                self.open += 1
                self.most = max(self.most, self.open)
            future: Future[Any] = Future()

            def finish() -> None:
                with self.lock:
                    self.open -= 1
                future.set_result(f(x))

            threading.Timer(0.01, finish).start()
            return future

    executor = Counting()
    evaluate(plain, XS, Workers(executor, max_pending=4))
    assert 1 <= executor.most <= 4


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_a_search_goes_the_same_way_with_any_workers(method: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        ends = []
        for executor in (None, threads):
            search = SEARCHES[method]([1.0, 2.0, 0.5], seed=5)
            for _ in range(15):
                xs = search.ask()
                search.tell(xs, evaluate(plain, xs, executor))
            ends.append(search.ask())
    np.testing.assert_array_equal(*ends)


# ---- In minimize ---------------------------------------------------------------------------------


def bowl(x: Any) -> Any:
    return ad.sum((x - 0.5) ** 2)


def bowl_with_hole(x: Any) -> Any:
    value = bowl(x)
    if float(value.item()) < 0.01:
        os._exit(3)
    return value


def bowl_that_raises(x: Any) -> Any:
    value = bowl(x)
    if float(value.item()) < 0.01:
        raise ValueError("too low")
    return value


def test_minimize_goes_the_same_way_with_any_workers() -> None:
    found = []
    with pool() as processes, ThreadPoolExecutor(3) as threads:
        for how in (
            {},
            {"executor": processes},
            {"executor": threads},
            {"executor": map},
            {"executor": Workers(processes, max_pending=1)},
        ):
            result = ad.optim.minimize(
                bowl,
                np.ones(3),
                "cma-es",
                seed=2,
                maxfun=300,
                **how,  # type: ignore[arg-type]
            )
            found.append([*result.x.tolist(), result.fun, result.nfev])
    assert all(f == found[0] for f in found)
    batched = ad.optim.minimize(bowl, np.ones(3), "cma-es", seed=2, maxfun=300, batch=True)
    np.testing.assert_allclose(batched.x.tolist(), found[0][:3], rtol=1e-6)


def test_minimize_stops_or_goes_on_where_there_is_no_value() -> None:
    with pytest.raises(EvaluationError, match="ValueError: too low") as info:
        ad.optim.minimize(bowl_that_raises, np.ones(3), "cma-es", seed=2, maxfun=300)
    result = info.value.result
    assert 0.01 <= result.fun < 0.75
    assert result.fun == bowl(result.x).item()
    assert not result.success
    with pool() as processes, Workers(processes, on_error="nan") as workers:
        with pytest.warns(EvaluationWarning, match="has died"):
            result = ad.optim.minimize(
                bowl_with_hole, np.ones(2), "nelder-mead", maxfun=60, executor=workers
            )
    assert 0.01 <= result.fun < 0.1


# ---- What has no value ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["serial", "processes", "threads", "map"])
def test_a_function_that_raises(kind: str) -> None:
    executor: Any = {"processes": pool, "threads": lambda: ThreadPoolExecutor(2)}.get(kind)
    executor = executor() if executor else map if kind == "map" else None
    with pytest.raises(EvaluationError, match=r"point 5, array\(.*ZeroDivisionError: at") as info:
        evaluate(raising, XS, executor)
    assert info.value.index == 5
    np.testing.assert_array_equal(info.value.point, XS[5])
    known = np.isfinite(info.value.values)
    assert known[:4].all()
    assert not known[5]
    np.testing.assert_allclose(info.value.values[known], WANTED[known], rtol=1e-14)
    with pytest.warns(EvaluationWarning, match="ZeroDivisionError: at the fifth"):
        values = evaluate(raising, XS, executor, on_error="nan")
    assert np.flatnonzero(np.isnan(values)).tolist() == [5]
    np.testing.assert_allclose(np.delete(values, 5), np.delete(WANTED, 5), rtol=1e-14)
    if hasattr(executor, "shutdown"):
        executor.shutdown()


def test_a_point_that_makes_its_batch_raise() -> None:
    batches = iter(range(10))

    def f(x: Any) -> Any:
        if isinstance(x, np.ndarray):  # alone
            return raising(x)
        if next(batches) == 1:  # that of the points 4 to 7
            raise RuntimeError("one of them")
        return ad.sum(x**2)

    with pytest.warns(EvaluationWarning, match=r"point 5, .*at the fifth"):
        values = evaluate(f, XS, batch=4, on_error="nan")
    assert np.flatnonzero(np.isnan(values)).tolist() == [5]
    np.testing.assert_allclose(np.delete(values, 5), np.delete(WANTED, 5), rtol=1e-14)


def test_a_function_that_no_batch_can_enter() -> None:
    def f(x: Any) -> Any:
        return ad.sum(x) if float(x[0]) > 0 else ad.sum(-x)

    with pytest.raises(EvaluationError, match="leave out batch"):
        evaluate(f, XS, batch=True)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.ones(2), r"shape \(2,\): one number is wanted"),
        (ad.ones((2, 1)), r"shape \(2, 1\)"),
        (None, "a NoneType: one real number"),
        ("1.0", "a str: one real number"),
        (1j, "a complex: one real number"),
        (np.array([]), r"shape \(0,\)"),
    ],
)
def test_a_function_that_returns_no_number(value: Any, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        evaluate(lambda x: value, XS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_values(value: float) -> None:
    np.testing.assert_array_equal(evaluate(lambda x: value, XS[:2]), [value, value])


def test_an_error_that_cannot_be_sent_is_told() -> None:
    with pool(1) as executor, pytest.raises(EvaluationError, match="Odd, raised in the function"):
        evaluate(raising_odd, XS, executor)


def test_what_cannot_be_pickled_is_told() -> None:
    with pool(1) as executor, pytest.raises(EvaluationError, match=r"(?i)pickle|local"):
        evaluate(lambda x: 1.0, XS, executor)


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_a_process_that_dies(on_error: str) -> None:
    with pool() as executor, Workers(executor, on_error=on_error) as workers:
        if on_error == "raise":
            with pytest.raises(EvaluationError, match=r"point 7, .*has died") as info:
                evaluate(dying, XS, workers)
            np.testing.assert_array_equal(info.value.point, XS[7])
            known = np.isfinite(info.value.values)
            assert known[:7].all()
            np.testing.assert_array_equal(
                info.value.values[known], np.array([plain(x) for x in XS])[known]
            )
        else:
            for _ in range(2):  # the second time with the pool that took its place
                with pytest.warns(EvaluationWarning, match=r"point 7, .*has died"):
                    values = evaluate(dying, XS, workers)
                assert np.flatnonzero(np.isnan(values)).tolist() == [7]
            np.testing.assert_array_equal(evaluate(plain, XS, workers), [plain(x) for x in XS])


def test_processes_that_always_die() -> None:
    with pool(1) as executor, pytest.warns(EvaluationWarning, match="has died"):
        values = evaluate(always_dying, XS[:3], executor, on_error="nan")
    assert np.isnan(values).all()


def test_an_executor_that_breaks_and_cannot_be_replaced() -> None:
    def fail() -> None:
        raise RuntimeError("no worker starts")

    for on_error, expected in (("raise", pytest.raises), ("nan", pytest.warns)):
        kind = EvaluationError if on_error == "raise" else EvaluationWarning
        with ThreadPoolExecutor(1, initializer=fail) as threads:
            with expected(kind, match="the executor is broken"):
                values = evaluate(plain, XS, threads, on_error=on_error)
                assert np.isnan(values).all()


def test_a_pool_that_is_broken_already() -> None:
    with pool(1) as executor:
        with pytest.raises(EvaluationError, match="has died"):
            evaluate(always_dying, XS, executor)
        np.testing.assert_array_equal(evaluate(plain, XS, executor), [plain(x) for x in XS])


def test_an_interrupt_is_not_taken_for_an_error() -> None:
    def f(x: Any) -> float:
        raise KeyboardInterrupt

    for on_error in ("raise", "nan"):
        with pytest.raises(KeyboardInterrupt):
            evaluate(f, XS, on_error=on_error)


def test_bad_arguments() -> None:
    for call, error in (
        (lambda: evaluate(3, XS), TypeError),  # type: ignore[arg-type]
        (lambda: evaluate(plain, XS, 3), TypeError),
        (lambda: evaluate(plain, XS, batch=0), ValueError),
        (lambda: evaluate(plain, XS, batch="x"), TypeError),  # type: ignore[arg-type]
        (lambda: evaluate(plain, XS, on_error="stop"), ValueError),
        (lambda: Workers(Workers()), TypeError),
        (lambda: Workers(max_pending=0), ValueError),
        (lambda: evaluate(plain, XS, Workers(), batch=3), ValueError),
    ):
        with pytest.raises(error, match=r"\[evaluate\]"):
            call()


def test_errors_are_pickled_with_what_they_know() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(EvaluationError("message", XS[0], 3, WANTED)))
    assert (str(error), error.index) == ("message", 3)
    np.testing.assert_array_equal(error.values, WANTED)
