"""How bounds may be written, and that nothing is read in another way than it was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim import curve_fit, least_squares, minimize
from adjoint.optim.search import SEARCHES

TARGET = np.array([-3.0, 0.25, 7.0])
LOW, HIGH = np.array([0.0, -1.0, 2.0]), np.array([1.0, 1.0, 5.0])
# The nearest point of a box to a target is the target, clipped to it.
NEAREST = np.clip(TARGET, LOW, HIGH)


def _minimize(bounds: Any) -> Any:
    return minimize(lambda x: ad.sum((x - TARGET) ** 2), [0.5, 0.0, 3.0], bounds=bounds).x


def _search(bounds: Any) -> Any:
    def f(x: Any) -> Any:
        return ad.sum((x - TARGET) ** 2)

    return minimize(f, [0.5, 0.0, 3.0], "nelder-mead", bounds=bounds, maxfun=3000).x


def _least_squares(bounds: Any) -> Any:
    return least_squares(lambda x: x - TARGET, [0.5, 0.0, 3.0], bounds=bounds).x


def _curve_fit(bounds: Any) -> Any:
    def model(x: Any, a: Any, b: Any, c: Any) -> Any:
        return ad.stack([a, b, c]) + 0.0 * x

    return curve_fit(model, np.zeros(3), TARGET, [0.5, 0.0, 3.0], bounds=bounds)[0]


SOLVERS = [_minimize, _search, _least_squares, _curve_fit]
FORMS = [
    (LOW, HIGH),
    (LOW.tolist(), HIGH.tolist()),
    (tuple(LOW), tuple(HIGH)),
    (ad.tensor(LOW), HIGH),
    [*zip(LOW, HIGH, strict=True)],
    [list(pair) for pair in zip(LOW, HIGH, strict=True)],
    tuple(zip(LOW, HIGH, strict=True)),
    np.stack([LOW, HIGH], 1),
    ad.tensor(np.stack([LOW, HIGH], 1)),
]


@pytest.mark.filterwarnings("ignore:.*covariance")
@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("form", range(len(FORMS)))
def test_every_form_of_every_solver(solve: Callable[[Any], Any], form: int) -> None:
    np.testing.assert_allclose(np.asarray(solve(FORMS[form])), NEAREST, atol=1e-4)


def test_none_is_no_bound_wherever_it_stands() -> None:
    def f(x: Any) -> Any:
        return ad.sum((x - np.array([-1.0, 4.0])) ** 2)

    for bounds, wanted in (
        (((0, None), (0, None)), [0, 4]),  # SciPy's habit: two pairs
        ([(0, None), (None, 2)], [0, 2]),
        (((None, -2), (None, None)), [-2, 4]),
        ((0, None), [0, 4]),
        ((None, 2), [-1, 2]),
        ((None, None), [-1, 4]),
    ):
        x = minimize(f, [-2.0 if wanted[0] == -2 else 1.0, 1.0], bounds=bounds).x
        np.testing.assert_allclose(x.numpy(), wanted, atol=1e-5)
    three = ([0, None, 0], [1, 1, None])
    x = minimize(lambda x: ad.sum((x - TARGET) ** 2), [0.5, 0.5, 0.5], bounds=three).x
    np.testing.assert_allclose(x.numpy(), [0, 0.25, 7], atol=1e-5)


@pytest.mark.parametrize("pairs", [((0, 5), (1, 3)), ([0, 5], [1, 3]), ((0.0, 0.0), (1.0, 1.0))])
def test_two_pairs_for_two_parameters_are_refused(pairs: Any) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("evaluated")

    calls: list[Callable[[], Any]] = [
        lambda: minimize(never, [0.5, 2.0], bounds=pairs),
        lambda: least_squares(never, [0.5, 2.0], bounds=pairs),
        lambda: curve_fit(never, [1.0], [1.0], [0.5, 2.0], bounds=pairs),
        *(lambda make=make: make([0.5, 2.0], bounds=pairs) for make in SEARCHES.values()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"write a list, \[\("):
            call()


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_searches_read_a_list_as_pairs(method: str) -> None:
    for bounds in ([(0, 1), (2, 3)], np.array([[0, 1], [2, 3]])):
        search = SEARCHES[method]([0.5, 2.5], bounds=bounds, seed=0)
        for _ in range(20):
            xs = search.ask()
            assert np.all((xs >= [0, 2]) & (xs <= [1, 3]))
            search.tell(xs, np.sum((xs - [5, -5]) ** 2, axis=1))


def test_trees_are_read_by_their_names() -> None:
    def f(p: Any) -> Any:
        return (p["a"] - 9.0) ** 2 + ad.sum((p["b"] + 9.0) ** 2)

    start = {"a": 0.5, "b": ad.zeros(2)}
    bounds = ({"b": [-1, -2], "a": None}, {"b": 4.0, "a": 3.0})  # in another order
    x = minimize(f, start, bounds=bounds).x
    assert abs(x["a"].item() - 3.0) < 1e-6
    np.testing.assert_allclose(x["b"].numpy(), [-1, -2], atol=1e-6)
    for wrong in ({"a": 0.0}, {"a": 0.0, "c": 0.0}, [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="the lower bound must be a number or a tree like x0"):
            minimize(f, start, bounds=(wrong, 5.0))


def test_arrays_of_another_shape_are_refused() -> None:
    for bounds, error, message in (
        (np.array([[0, 0, 0], [1, 1, 1]]), ValueError, r"shape \(3, 2\), not \(2, 3\)"),
        ([[0, 0, 0], [1, 1, 1]], TypeError, "list of pairs"),
        ([(0, 1), (0, 1)], ValueError, "2 bounds for 3"),
        (np.array([0, 1]), ValueError, r"not \(2,\)"),
    ):
        with pytest.raises(error, match=message):
            _minimize(bounds)


def test_a_list_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="the lower bound must be a real number, or an array"):
        _minimize((endless, 9.0))
