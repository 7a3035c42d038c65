"""Derivative-free searches: known minima, what the seed decides, saving, bounds, hostile values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gamma
from scipy.stats import qmc

import adjoint as ad
from adjoint.optim.search import SEARCHES, Search
from adjoint.optim.search.base import mirrored, reflected
from adjoint.optim.search.evolution import Evolution, Rates, orthogonal
from adjoint.optim.search.random import halton, permutations

Function = Callable[[Any], Any]

# One of each, and of each way there is to go about it.
METHODS: dict[str, dict[str, Any]] = {
    "cma-es": {},
    "cma-es diagonal": {"covariance": "diagonal"},
    "cma-es ipop": {"restarts": "ipop", "active": False},
    "differential-evolution": {},
    "differential-evolution best": {"strategy": "best1bin"},
    "differential-evolution rand": {"strategy": "rand1bin", "mutation": 0.6, "crossover": 0.8},
    "nelder-mead": {"restarts": 3},
    "nelder-mead plain": {"adaptive": False},
    "openai-es": {"decay": 0.99},
    "random-search": {},
    "random-search gaussian": {"sampling": "gaussian", "batch_size": 7},
    "random-search halton": {"sampling": "halton", "batch_size": 5},
    "random-search uniform": {"sampling": "uniform", "batch_size": 3},
    "spsa": {},
}


def made(method: str, x0: Any, **options: Any) -> Search:
    return SEARCHES[method.split()[0]](x0, **{**METHODS[method], **options})


def run(search: Search, f: Function, evaluations: int) -> Search:
    while search.nfev < evaluations and search.stop is None:
        xs = search.ask()
        search.tell(xs, f(xs))
    return search


def sphere(xs: Any) -> Any:
    return np.sum((xs - 0.3) ** 2, axis=-1)


def ellipsoid(xs: Any) -> Any:
    return np.sum(10.0 ** np.linspace(0, 6, xs.shape[-1]) * (xs - 0.3) ** 2, axis=-1)


def rosenbrock(xs: Any) -> Any:
    return np.sum(100 * (xs[..., 1:] - xs[..., :-1] ** 2) ** 2 + (1 - xs[..., :-1]) ** 2, axis=-1)


def rastrigin(xs: Any) -> Any:
    return np.sum(xs**2 - 10 * np.cos(2 * np.pi * xs) + 10, axis=-1)


# ---- Minima that are known -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "evaluations", "reached"),
    [
        ("cma-es", 3000, 1e-10),
        ("cma-es diagonal", 3000, 1e-10),
        ("cma-es ipop", 3000, 1e-10),
        ("differential-evolution", 20_000, 1e-9),
        ("differential-evolution best", 20_000, 1e-9),
        ("differential-evolution rand", 30_000, 1e-9),
        ("nelder-mead", 3000, 1e-10),
        ("nelder-mead plain", 3000, 1e-10),
        ("openai-es", 20_000, 1e-6),
        ("random-search", 3000, 1e-8),
        ("random-search gaussian", 20_000, 0.1),
        ("random-search halton", 20_000, 0.1),
        ("random-search uniform", 20_000, 0.1),
        ("spsa", 6000, 1e-2),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_sphere(method: str, evaluations: int, reached: float, seed: int) -> None:
    search = run(made(method, [0.6, -0.1, 0.0, 0.7], seed=seed), sphere, evaluations)
    assert search.best_f < reached
    assert search.best_f == sphere(search.best_x)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cma_es_learns_scales_and_directions(seed: int) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((8, 8)))
    search = made("cma-es", np.full(8, 2.0), seed=seed)
    run(search, lambda xs: ellipsoid((xs - 0.3) @ turn + 0.3), 12_000)
    assert search.best_f < 1e-9
    search = made("cma-es diagonal", np.full(8, 2.0), seed=seed)
    assert run(search, ellipsoid, 6000).best_f < 1e-9
    search = made("cma-es", np.zeros(6), seed=seed)
    assert run(search, rosenbrock, 15_000).best_f < 1e-9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_restarts_find_a_global_minimum(seed: int) -> None:
    for options in ({}, {"restarts": "ipop"}):
        search = made("cma-es", [3.4, -2.7, 1.8], seed=seed, scale=1.0, **options)
        assert run(search, rastrigin, 60_000).best_f < 1e-8
    for method in ("differential-evolution", "differential-evolution rand"):
        search = made(method, [3.4, -2.7, 1.8], bounds=(-5.12, 5.12), seed=seed)
        assert run(search, rastrigin, 60_000).best_f < 1e-8


def test_nelder_mead_goes_as_scipys() -> None:
    """The best value after each step, with the same first simplex and coefficients."""
    for adaptive in (False, True):
        for n, steps in ((2, 60), (5, 200)):
            x0 = np.linspace(-1.2, 1.0, n)
            search = made("nelder-mead plain", x0, adaptive=adaptive, tol=0.0)
            best: list[float] = []
            result = minimize(
                rosenbrock,
                x0,
                method="Nelder-Mead",
                options={
                    "adaptive": adaptive and n > 2,
                    "initial_simplex": search.ask(),
                    "maxiter": steps,
                    "xatol": 0.0,
                    "fatol": 0.0,
                },
                callback=lambda x, best=best: best.append(float(rosenbrock(x))),
            )
            seen = []
            while search.nfev < result.nfev:
                xs = search.ask()
                search.tell(xs, rosenbrock(xs))
                seen.append(search.best_f)
            # Ours knows of points too that another one of the same step has outdone.
            for value in best:
                assert min(abs(np.array(seen) / value - 1.0)) < 1e-9
            assert search.best_f == pytest.approx(best[-1], rel=1e-9)


def test_spsa_and_openai_es_stand_noise() -> None:
    noise = np.random.default_rng(0)

    def noisy(xs: Any) -> Any:
        return sphere(xs) + 0.01 * noise.standard_normal(len(xs))

    spsa = run(made("spsa", np.ones(10), seed=0), noisy, 8000)
    assert sphere(spsa.x) < 0.05  # type: ignore[attr-defined]
    strategy = run(made("openai-es", np.ones(10), seed=0), noisy, 20_000)
    assert sphere(strategy.x) < 0.05  # type: ignore[attr-defined]


# ---- The protocol --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_is_asked_depends_on_seed_and_values_alone(method: str) -> None:
    one, two = (made(method, [0.5, -1.0, 2.0], seed=7) for _ in range(2))
    other = made(method, [0.5, -1.0, 2.0], seed=8)
    differs = False
    for _ in range(40):
        xs = one.ask()
        np.testing.assert_array_equal(xs, one.ask())  # until it is told
        np.testing.assert_array_equal(xs, two.ask())
        np.random.default_rng().random()
        apart = other.ask()
        differs |= not np.array_equal(xs, apart)
        for search, points in ((one, xs), (two, xs), (other, apart)):
            search.tell(points, ellipsoid(points))
    assert differs or method.startswith("nelder-mead")
    assert one.nit == 40


@pytest.mark.parametrize("method", METHODS)
def test_a_search_that_was_saved_goes_on_to_the_bit(method: str, tmp_path: Any) -> None:
    first = made(method, [0.5, -1.0, 2.0], seed=3)
    run(first, rastrigin, 700)
    first.ask()  # asked for and not told
    path = tmp_path / "state.npz"
    ad.io.save(path, first.state_dict())
    second = made(method, [0.5, -1.0, 2.0], seed=99)
    second.load_state_dict(ad.io.load(path))
    assert second.seed == 3
    for _ in range(100):
        xs = first.ask()
        np.testing.assert_array_equal(xs, second.ask())
        first.tell(xs, rastrigin(xs))
        second.tell(xs, rastrigin(xs))
        assert first.best_f == second.best_f
        assert first.stop == second.stop
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value.dtype == two[key].dtype
        assert value.numpy().tobytes() == two[key].numpy().tobytes()


def test_a_snapshot_of_another_kind_is_refused_and_changes_nothing() -> None:
    search = run(made("cma-es", [1.0, 2.0], seed=0), sphere, 100)
    before = search.ask()
    state = search.state_dict()
    for wrong, error in (
        ({**state, "more": ad.tensor(1.0)}, KeyError),
        ({k: v for k, v in state.items() if k != "nit"}, KeyError),
        ({**state, "best_f": ad.tensor([1.0])}, TypeError),
        ({**state, "run.mean": ad.asarray([1, 2])}, TypeError),
        (made("cma-es", [1.0, 2.0, 3.0]).state_dict(), ValueError),
        (made("spsa", [1.0, 2.0]).state_dict(), KeyError),
        ([1, 2], TypeError),
    ):
        with pytest.raises(error, match=r"\[CMAES.load_state_dict\]"):
            search.load_state_dict(wrong)  # type: ignore[arg-type]
    np.testing.assert_array_equal(search.ask(), before)
    assert {k: v.tolist() for k, v in search.state_dict().items()} == {
        k: v.tolist() for k, v in state.items()
    }


def test_other_points_or_values_are_refused_and_change_nothing() -> None:
    for method in METHODS:
        search = made(method, [1.0, 2.0], seed=0)
        xs = search.ask()
        for points, values, error in (
            (xs + 1, np.zeros(len(xs)), ValueError),
            (xs[:, :1], np.zeros(len(xs)), ValueError),
            (xs, np.zeros(len(xs) + 1), ValueError),
            (xs, np.zeros((len(xs), 1)), ValueError),
            (xs, ["a"] * len(xs), TypeError),
            (xs, np.zeros(len(xs)) + 1j, TypeError),
            (xs, [None] * len(xs), TypeError),
        ):
            with pytest.raises(error, match=r"\.tell\]"):
                search.tell(points, values)
        assert search.nit == 0
        assert search.best_f == np.inf
        np.testing.assert_array_equal(search.ask(), xs)


# ---- Bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_points_lie_within_the_bounds(method: str) -> None:
    for lower, upper in (
        (np.array([-1.0, 0.0, 2.0]), np.array([1.0, 0.5, 2.0])),
        (np.array([0.0, -np.inf, -3.0]), np.array([np.inf, 0.5, np.inf])),
    ):
        x0 = np.clip([0.9, 0.1, 2.0], lower, upper)
        search = made(method, x0, bounds=(lower, upper), seed=1)
        for _ in range(150):
            xs = search.ask()
            assert np.all((xs >= lower) & (xs <= upper))
            search.tell(xs, np.sum((xs - [2.0, 1.0, 5.0]) ** 2, axis=1))
        assert np.all((search.best_x >= lower) & (search.best_x <= upper))


@pytest.mark.parametrize(
    ("method", "away"),
    [
        ("cma-es", 1e-6),
        ("cma-es diagonal", 1e-6),
        ("differential-evolution", 1e-6),
        ("nelder-mead", 1e-6),
        ("random-search", 1e-2),
        ("openai-es", 1e-2),
        ("spsa", 1e-2),
    ],
)
def test_a_minimum_at_a_bound_is_found(method: str, away: float) -> None:
    search = made(method, [0.5, 0.5], bounds=(0.0, 1.0), seed=2)
    run(search, lambda xs: (xs[:, 0] + 1) ** 2 + 3 * (xs[:, 1] - 0.25) ** 2, 6000)
    np.testing.assert_allclose(search.best_x, [0.0, 0.25], atol=away)


def test_mirrors() -> None:
    low, high = np.array([0.0, 1.0, -np.inf, 0.0]), np.array([1.0, np.inf, 2.0, 0.0])
    for x, wanted, odd in (
        ([0.25, 3.0, 1.0, 0.0], [0.25, 3.0, 1.0, 0.0], [0, 0, 0, 0]),
        ([-0.25, 0.0, 3.0, 0.0], [0.25, 2.0, 1.0, 0.0], [1, 1, 1, 0]),
        ([1.25, 1.0, 2.0, 0.0], [0.75, 1.0, 2.0, 0.0], [1, 0, 0, 0]),
        ([2.25, 5.0, -9.0, 0.0], [0.25, 5.0, -9.0, 0.0], [0, 0, 0, 0]),
        ([-3.75, 5.0, -9.0, 0.0], [0.25, 5.0, -9.0, 0.0], [0, 0, 0, 0]),
    ):
        found, parity = mirrored(np.array(x), low, high)
        np.testing.assert_allclose(found, wanted, rtol=1e-15)
        np.testing.assert_array_equal(parity, np.array(odd, dtype=bool))
        np.testing.assert_array_equal(reflected(np.array(x), low, high), found)


# ---- Hostile values ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_survived(method: str, bad: float) -> None:
    """Beyond a line, and for the first three times everywhere."""
    search = made(method, [0.6, 0.9], seed=4)
    for i in range(400):
        if search.stop is not None:
            break
        xs = search.ask()
        assert np.all(np.isfinite(xs))
        values = np.where(xs[:, 0] > 1.0, bad, sphere(xs))
        search.tell(xs, np.full(len(xs), bad) if i < 3 else values)
        assert not np.isnan(search.best_f)
        assert search.best_f > -np.inf
    assert np.isfinite(search.best_f)
    assert search.best_f == sphere(search.best_x)
    assert search.best_x[0] <= 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, 0.0, 1e308])
def test_a_function_that_is_the_same_everywhere_is_survived(method: str, value: float) -> None:
    search = made(method, [0.6, 0.9], seed=4)
    for _ in range(300):
        xs = search.ask()
        assert np.all(np.isfinite(xs))
        search.tell(xs, np.full(len(xs), value))
    assert search.best_f == (np.inf if np.isnan(value) else value)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_without_lower_limit_is_survived(method: str) -> None:
    search = made(method, [0.6, 0.9], seed=4)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(600):
            xs = search.ask()
            search.tell(xs, -np.exp(np.sum(np.abs(xs), axis=1)))
    assert np.isfinite(search.best_f)
    assert np.all(np.isfinite(search.best_x))


# ---- Bad calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_bad_arguments(method: str) -> None:
    make = SEARCHES[method]
    for x0, error in (
        ([[1.0]], ValueError),
        ([], ValueError),
        (1.0, ValueError),
        ([np.nan], ValueError),
        (["a"], TypeError),
        ([1 + 2j], TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match=rf"\[{make.__name__}\] x0"):
            make(x0)
    for bounds, error, message in (
        ((1.0, 0.0), ValueError, "crossed"),
        ((np.nan, 2.0), ValueError, "bounds of parameter 0 are crossed or nan"),
        ((1.5, 2.0), ValueError, "x0 lies outside of the bounds: parameter 0"),
        (([0.0, 0.0], 2.0), ValueError, "lower bound"),
        (3.0, TypeError, "bounds must be a tuple"),
        ((0.0, 1.0, 2.0), TypeError, "list of pairs"),
        (("a", 2.0), TypeError, "lower bound"),
    ):
        with pytest.raises(error, match=message):
            make([1.0], bounds=bounds)
    for seed, error in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("x", TypeError)):
        with pytest.raises(error, match=rf"\[{make.__name__}\] seed"):
            make([1.0], seed=seed)
    with pytest.raises(TypeError):
        make([1.0], no_such_option=1)
    if "scale" in make.options():
        for scale, error in ((0.0, ValueError), ([1.0, 2.0], ValueError), ("a", TypeError)):
            with pytest.raises(error, match="scale must be"):
                make([1.0], scale=scale)


@pytest.mark.parametrize(
    ("method", "options", "error"),
    [
        ("cma-es", {"covariance": "half"}, ValueError),
        ("cma-es", {"population_size": 3}, ValueError),
        ("cma-es", {"restarts": 3}, TypeError),
        ("cma-es", {"tol": -1.0}, ValueError),
        ("cma-es", {"active": "yes"}, TypeError),
        ("differential-evolution", {"strategy": "best"}, ValueError),
        ("differential-evolution", {"population_size": 4}, ValueError),
        ("differential-evolution", {"mutation": 3.0}, ValueError),
        ("differential-evolution", {"crossover": -0.1}, ValueError),
        ("nelder-mead", {"restarts": -1}, ValueError),
        ("nelder-mead", {"tol": np.nan}, ValueError),
        ("openai-es", {"population_size": 3}, ValueError),
        ("openai-es", {"decay": 0.0}, ValueError),
        ("openai-es", {"beta1": 1.0}, ValueError),
        ("random-search", {"sampling": "sobol"}, ValueError),
        ("random-search", {"batch_size": 0}, ValueError),
        ("spsa", {"perturbation": 0.0}, ValueError),
        ("spsa", {"learning_rate": -1.0}, ValueError),
    ],
)
def test_bad_options(method: str, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        SEARCHES[method]([1.0, 2.0], **options)


# ---- Parts ---------------------------------------------------------------------------------------


def test_the_halton_sequence_is_even() -> None:
    whole = halton(0, 256, permutations(6, np.random.default_rng(3)))
    parts = [halton(i, 64, permutations(6, np.random.default_rng(3))) for i in range(0, 256, 64)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.all((whole >= 0) & (whole < 1))
    plain = np.mean([qmc.discrepancy(np.random.default_rng(i).random((256, 6))) for i in range(5)])
    assert qmc.discrepancy(whole) < 0.3 * plain
    # In base 2 and 3 each of as many equal intervals has its share.
    assert np.all(np.histogram(whole[:, 0], 256, (0, 1))[0] == 1)
    assert np.all(np.histogram(whole[:243, 1], 243, (0, 1))[0] == 1)


def test_the_constants_of_cma_es_are_those_of_the_tutorial() -> None:
    """Table 1 in 10 dimensions with 10 points, worked out here by another route."""
    n, size = 10, 10
    raw = [np.log(5.5) - np.log(i) for i in range(1, 11)]
    best = raw[:5]
    mu_eff = sum(best) ** 2 / sum(w * w for w in best)
    rates = Rates(n, size, False, True)
    assert rates.mu_eff == pytest.approx(mu_eff, rel=1e-13)
    assert rates.c_1 == pytest.approx(2 / (11.3**2 + mu_eff), rel=1e-13)
    c_mu = 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / (144 + mu_eff)
    assert rates.c_mu == pytest.approx(c_mu, rel=1e-13)
    assert rates.c_sigma == pytest.approx((mu_eff + 2) / (mu_eff + 15), rel=1e-13)
    assert rates.d_sigma == pytest.approx(1 + rates.c_sigma, rel=1e-13)
    assert rates.c_c == pytest.approx((4 + mu_eff / 10) / (14 + mu_eff / 5), rel=1e-13)
    assert rates.chi == pytest.approx(np.sqrt(2) * gamma(5.5) / gamma(5), rel=1e-13)
    assert np.sum(rates.weights) == pytest.approx(1.0)
    assert np.all(rates.weights[5:] == 0)
    worse = raw[5:]
    mu_minus = sum(worse) ** 2 / sum(w * w for w in worse)
    limit = min(
        1 + rates.c_1 / c_mu,
        1 + 2 * mu_minus / (mu_eff + 2),
        (1 - rates.c_1 - c_mu) / (n * c_mu),
    )
    assert np.sum(rates.learned[5:]) == pytest.approx(-limit)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_distribution_is_the_same_in_a_mirror(diagonal: bool) -> None:
    """What is learned from mirrored steps is the mirror image of what is learned from steps."""
    random = np.random.default_rng(5)
    one = Evolution(np.array([0.2, 0.5, -0.1]), 1.0, 8, diagonal, True)
    sign = np.array([-1.0, 1.0, -1.0])
    for _ in range(20):
        steps = one.steps(random.standard_normal((8, 3)))
        one.update(steps, ellipsoid(one.mean + one.sigma * steps))
    two = Evolution(one.mean.copy(), one.sigma, 8, diagonal, True)
    for name in Evolution.state:
        setattr(two, name, np.copy(getattr(one, name)) if name != "population" else 8)
    two.generation, two.decomposed, two.sigma = one.generation, one.decomposed, one.sigma
    two.mirror(one.mean * sign, sign < 0)
    for _ in range(20):
        steps = one.steps(random.standard_normal((8, 3)))
        values = random.random(8)
        one.update(steps, values)
        two.update(steps * sign, values)
        np.testing.assert_allclose(two.mean, one.mean * sign, rtol=1e-9)
        assert two.sigma == pytest.approx(one.sigma, rel=1e-9)
    np.testing.assert_allclose(two.path_c, one.path_c * sign, rtol=1e-8)


def test_orthogonal_rows_keep_their_lengths() -> None:
    z = np.random.default_rng(0).standard_normal((11, 4))
    turned = orthogonal(z)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(z, axis=1))
    for first in (0, 4, 8):
        rows = turned[first : first + 4]
        gram = rows @ rows.T
        np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)
        np.testing.assert_allclose(rows[0], z[first], rtol=1e-12)
