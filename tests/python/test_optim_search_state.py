"""Searches: snapshots that do not fit, bounds at the ends of the numbers, values of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim.search import CMAES, SEARCHES, DifferentialEvolution, NelderMead, RandomSearch
from adjoint.optim.search.random import halton, permutations

SETTINGS: dict[str, Callable[..., Any]] = {
    **{name: cls for name, cls in SEARCHES.items() if name != "random-search"},
    "diagonal": lambda x0, **more: CMAES(x0, covariance="diagonal", **more),
    "best1bin": lambda x0, **more: DifferentialEvolution(x0, strategy="best1bin", **more),
    "rand1bin": lambda x0, **more: DifferentialEvolution(x0, strategy="rand1bin", **more),
    **{
        sampling: lambda x0, s=sampling, **more: RandomSearch(x0, sampling=s, batch_size=3, **more)
        for sampling in ("local", "gaussian", "uniform", "halton")
    },
}


def sphere(xs: Any) -> Any:
    return np.sum((xs - 0.3) ** 2, axis=1)


def drive(search: Any, asks: int, f: Callable[[Any], Any] = sphere) -> Any:
    for _ in range(asks):
        xs = search.ask()
        search.tell(xs, f(xs))
    return search


# ---- Snapshots -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_every_array_of_a_snapshot_has_its_shape(name: str) -> None:
    make = SETTINGS[name]
    saved = drive(make([1.0, 2.0], seed=1), 4).state_dict()
    search = make([1.0, 2.0], seed=2)
    before = search.state_dict()
    growing = {"run.bests", "run.medians", "run.flat"}
    for key, value in saved.items():
        if not value.size or not value.ndim or key in growing:
            continue
        wrong = np.concatenate([value.numpy(), value.numpy()])
        with pytest.raises(ValueError, match=r"load_state_dict\] (.* has shape|the snapshot is)"):
            search.load_state_dict({**saved, key: wrong})
        for kept, then in before.items():
            np.testing.assert_array_equal(search.state_dict()[kept].numpy(), then.numpy())
    search.load_state_dict(saved)
    wanted = drive(make([1.0, 2.0], seed=1), 4)
    for _ in range(5):
        np.testing.assert_array_equal(search.ask(), wanted.ask())
        drive(search, 1), drive(wanted, 1)


DAMAGED = [
    (NelderMead, "phase", 77, "'phase' must be at most 5"),
    (CMAES, "run.population", 1, "'run.population' must be at least 4"),
    (RandomSearch, "nfev", 0, "'nfev' must not be below 'nit'"),
]


@pytest.mark.parametrize(("cls", "key", "value", "text"), DAMAGED)
def test_a_number_that_no_search_comes_to_is_refused(
    cls: Any, key: str, value: int, text: str
) -> None:
    saved = drive(cls([1.0, 2.0], seed=1), 3).state_dict()
    with pytest.raises(ValueError, match=text):
        cls([1.0, 2.0]).load_state_dict({**saved, key: ad.asarray(value, dtype=ad.uint64)})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_number_that_is_nan_is_refused(name: str) -> None:
    saved = drive(SETTINGS[name]([1.0, 2.0], seed=1), 4).state_dict()
    for key, value in saved.items():
        if value.dtype == ad.float64 and value.size and not key.startswith("run."):
            with pytest.raises(ValueError, match=rf"'{key}' must not be nan"):
                SETTINGS[name]([1.0, 2.0]).load_state_dict({**saved, key: value * float("nan")})


def test_a_population_of_another_size_is_refused() -> None:
    saved = drive(DifferentialEvolution([1.0, 2.0], population_size=20), 3).state_dict()
    with pytest.raises(ValueError, match=r"'population' has shape \(20, 2\), expected \(30, 2\)"):
        DifferentialEvolution([1.0, 2.0], population_size=30).load_state_dict(saved)


def test_the_digits_of_halton_are_those_of_the_seed() -> None:
    one, other = (RandomSearch([0.5, 0.5], sampling="halton", seed=s) for s in (1, 2))
    drive(one, 3), drive(other, 5)
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other.ask(), one.ask())


def test_halton_without_permutations_is_the_radical_inverse() -> None:
    class Identity:
        def permutation(self, base: int) -> Any:
            return np.arange(base)

    found = halton(0, 6, permutations(2, Identity()))  # type: ignore[arg-type]
    np.testing.assert_allclose(found[:, 0], [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8], atol=1e-15)
    np.testing.assert_allclose(found[:, 1], [0, 1 / 3, 2 / 3, 1 / 9, 4 / 9, 7 / 9], atol=1e-15)


# ---- Bounds --------------------------------------------------------------------------------------

BIG = float(np.finfo(np.float64).max)


@pytest.mark.parametrize("bounds", [(-BIG, BIG), (-1.0, BIG), (-BIG, 3.0), (-0.6 * BIG, 0.3 * BIG)])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.filterwarnings("error")
def test_bounds_at_the_ends_of_the_numbers(name: str, bounds: tuple[float, float]) -> None:
    search = SETTINGS[name]([1.0, 2.0], bounds=bounds, seed=0)
    for _ in range(30):
        xs = search.ask()
        assert (xs >= bounds[0]).all() and (xs <= bounds[1]).all()
        assert np.abs(xs).max() < 1e6  # they are as good as none
        search.tell(xs, np.minimum(np.sum(np.abs(xs) / 2.0, axis=1), BIG))


@pytest.mark.parametrize("strategy", ["best1bin", "rand1bin", "current-to-pbest1bin"])
@pytest.mark.filterwarnings("error")
def test_members_at_the_ends_of_the_numbers(strategy: str) -> None:
    search = DifferentialEvolution([0.0, 0.0], scale=BIG, strategy=strategy, seed=3)
    for _ in range(20):
        xs = search.ask()
        assert np.isfinite(xs).all()
        search.tell(xs, np.max(np.abs(xs), axis=1))


# ---- Values of any size --------------------------------------------------------------------------

PRECISE: dict[str, Callable[[], Any]] = {
    "differential-evolution": lambda: DifferentialEvolution([3.0, 3.0], seed=0),
    "cma-es": lambda: CMAES([3.0, 3.0], seed=0, restarts="none"),
    "cma-es with patience": lambda: CMAES([3.0, 3.0], seed=0, patience=1),
    "nelder-mead": lambda: NelderMead([3.0, 3.0]),
}


@pytest.mark.parametrize("size", [1e-300, 1e-100, 1e-12, 1e-3, 1.0, 1e6, 1e100])
@pytest.mark.parametrize("name", PRECISE)
def test_a_search_ends_near_the_minimum_whatever_the_size_of_values(name: str, size: float) -> None:
    search = PRECISE[name]()
    while search.stop is None:
        xs = search.ask()
        search.tell(xs, size * sphere(xs))
        assert search.nfev < 20_000
    assert np.abs(search.best_x - 0.3).max() < 1e-4


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e9])
def test_a_simplex_ends_near_the_minimum_whatever_the_size_of_points(size: float) -> None:
    search = NelderMead([3.0 * size, 3.0 * size])
    while search.stop is None:
        xs = search.ask()
        search.tell(xs, sphere(xs / size))
        assert search.nfev < 5_000
    assert np.abs(search.best_x / size - 0.3).max() < 1e-4


@pytest.mark.parametrize("f", [lambda xs: np.zeros(len(xs)), lambda xs: np.full(len(xs), -7e-12)])
def test_a_population_of_equal_values_has_nothing_to_find(f: Callable[[Any], Any]) -> None:
    search = drive(DifferentialEvolution([1.0, 2.0], seed=0), 1, f)
    assert search.stop == "the values of the population have become equal within tol"


def test_a_function_that_fails_in_a_batch_is_not_a_solver_in_a_trace() -> None:
    def f(x: ad.Tensor) -> Any:
        return ad.sum(x**2) if float(x[0].item()) < 9.0 else 0.0

    with pytest.raises(ad.optim.EvaluationError, match="fails on a batch and not on its points"):
        ad.optim.minimize(f, [1.0, 2.0], "cma-es", batch=True, seed=1)
