"""Least squares, curve fits and roots, against certified values and closed formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from nist_problems import Problem, problems

least_squares, curve_fit, root = ad.optim.least_squares, ad.optim.curve_fit, ad.optim.root
NIST = problems()


def digits(found: Any, certified: Any) -> float:
    relative = np.abs(np.asarray(found) - certified) / np.abs(certified)
    return float(-np.log10(np.max(np.maximum(relative, 1e-16))))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("problem", NIST, ids=lambda p: p.name)
def test_certified_parameters_are_reached(problem: Problem, start: int) -> None:
    result = least_squares(problem.residuals, problem.starts[start])
    assert result.success, result
    assert digits(result.x.numpy(), problem.certified) >= 6
    if problem.squares > 1e-20:
        assert abs(2 * result.cost / problem.squares - 1) < 1e-6


@pytest.mark.parametrize("problem", [p for p in NIST if p.name != "Nelson"], ids=lambda p: p.name)
def test_certified_standard_deviations_are_reached(problem: Problem) -> None:
    model = lambda x, *b: problem.model(x, b)  # noqa: E731
    popt, pcov = curve_fit(model, problem.x, problem.y, problem.starts[1])
    assert digits(popt.numpy(), problem.certified) >= 6
    if problem.squares > 1e-20:  # of Lanczos1 they are rounding errors of the data
        deviations = np.sqrt(np.diag(pcov.numpy()))
        assert digits(deviations, problem.deviations) >= 4


def test_gauss_newton_on_a_straight_line() -> None:
    t = ad.linspace(0, 1, 10)
    y = ad.sin(3 * t)
    result = least_squares(lambda p: p[0] + p[1] * t - y, ad.zeros(2), "gauss-newton")
    slope, offset = np.polyfit(t.numpy(), y.numpy(), 1)
    np.testing.assert_allclose(result.x.numpy(), [offset, slope], rtol=1e-10)
    np.testing.assert_allclose(result.grad.numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses_mind_outliers_less(loss: str) -> None:
    scipy = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(3)
    t = np.linspace(0, 4, 60)
    y = 2 * np.exp(-1.2 * t) + 0.5 + 0.02 * rng.normal(size=60)
    y[::9] += 3.0
    ours = least_squares(
        lambda p: p[0] * ad.exp(-p[1] * ad.tensor(t)) + p[2] - ad.tensor(y),
        [1.0, 1.0, 0.0],
        loss=loss,
        loss_scale=0.1,
    )
    theirs = scipy.least_squares(
        lambda p: p[0] * np.exp(-p[1] * t) + p[2] - y,
        [1.0, 1.0, 0.0],
        loss=loss,
        f_scale=0.1,
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-12,
    )
    assert abs(ours.cost / theirs.cost - 1) < 1e-6
    np.testing.assert_allclose(ours.x.numpy(), theirs.x, rtol=1e-3)


def test_bounds_of_least_squares() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    matrix = np.random.default_rng(0).normal(size=(12, 5))
    target = matrix @ np.array([3.0, -2, 0.2, 4, -0.1])
    bounds = (np.full(5, -1.0), np.full(5, 2.0))
    theirs = scipy.lsq_linear(matrix, target, bounds, tol=1e-14)
    a, b = ad.tensor(matrix), ad.tensor(target)
    result = least_squares(lambda x: a @ x - b, ad.zeros(5), bounds=bounds)
    assert result.success, result
    np.testing.assert_allclose(result.x.numpy(), theirs.x, atol=1e-7)


@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_linear_problems_within_a_box_reach_the_exact_minimum(method: str) -> None:
    scipy = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(7)
    for _ in range(40):
        matrix, target = rng.normal(size=(8, 4)), 2 * rng.normal(size=8)
        theirs = scipy.lsq_linear(matrix, target, (-0.3, 0.4), method="bvls", tol=1e-14)
        a, b = ad.tensor(matrix), ad.tensor(target)
        x0 = rng.uniform(-0.3, 0.4, 4)
        result = least_squares(lambda x, a, b: a @ x - b, x0, method, (a, b), bounds=(-0.3, 0.4))
        assert result.success, result
        np.testing.assert_allclose(result.x.numpy(), theirs.x, atol=1e-7)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_within_a_box_no_free_variable_leads_down(method: str, loss: str) -> None:
    rng = np.random.default_rng(11)
    t, size = np.linspace(0, 4, 20), 0.1
    slopes = {  # of the losses, by the residual itself
        "linear": lambda r: r,
        "soft_l1": lambda r: r / np.sqrt(1 + (r / size) ** 2),
        "huber": lambda r: np.clip(r, -size, size),
        "cauchy": lambda r: r / (1 + (r / size) ** 2),
        "arctan": lambda r: r / (1 + (r / size) ** 4),
    }
    for _ in range(12):
        a, b, c = rng.uniform([0.5, 0.2, -1], [4, 3, 1])
        y = a * np.exp(-b * t) + c + 0.05 * rng.normal(size=20)
        high = rng.uniform([1, 0.5, 0.1], [4, 3, 1])
        result = least_squares(
            lambda p, t, y: p[0] * ad.exp(-p[1] * t) + p[2] - y,
            np.minimum([1.0, 1.0, 0.0], high),
            method,
            (ad.tensor(t), ad.tensor(y)),
            bounds=(np.zeros(3), high),
            loss=loss,
            loss_scale=size,
        )
        assert result.success, result
        x = result.x.numpy()
        decay = np.exp(-x[1] * t)
        jacobian = np.stack([decay, -x[0] * t * decay, np.ones_like(t)], 1)
        g = jacobian.T @ slopes[loss](x[0] * decay + x[2] - y)
        np.testing.assert_allclose(np.clip(x - g, 0, high), x, atol=2e-5)


def test_a_bound_that_matters_stops_no_search_early() -> None:
    # Moving along the bound of the offset lowers the cost to a tenth; from SciPy's trf.
    t = ad.linspace(0, 4, 20)
    y = 3 * ad.exp(-t) + 1
    result = least_squares(
        lambda p: p[0] * ad.exp(-p[1] * t) + p[2] - y,
        [1.0, 1.0, 0.0],
        bounds=(0.0, np.array([5, 5, 0.5])),
    )
    np.testing.assert_allclose(result.x.numpy(), [3.2340325, 0.6038771, 0.5], atol=1e-6)
    assert abs(result.cost - 0.22765031551784726) < 1e-9


def test_float32_stays_and_converges() -> None:
    t = ad.linspace(0, 1, 20, dtype=ad.float32)
    y = 2.0 * ad.exp(-3.0 * t)
    x0 = ad.ones(2, dtype=ad.float32)
    result = least_squares(lambda p: p[0] * ad.exp(-p[1] * t) - y, x0)
    assert result.x.dtype == ad.float32 and result.success
    np.testing.assert_allclose(result.x.numpy(), [2, 3], rtol=1e-5)


def test_jacobians_of_other_sources() -> None:
    for jacobian in ("2-point", "3-point", lambda x: ad.tensor([[2.0, 0], [0, 2]])):
        options = {"jacobian": jacobian}
        result = least_squares(lambda x: 2 * x - 4, [0.0, 1.0], options=options)
        np.testing.assert_allclose(result.x.numpy(), 2, rtol=1e-7)


def test_a_jacobian_has_the_axes_of_residuals_and_parameters() -> None:
    # Residuals of shape (2, 2), parameters of shape (3,): 4 rows and 3 columns, in either form.
    matrix = np.random.default_rng(0).normal(size=(2, 2, 3))
    flat, target = matrix.reshape(4, 3), np.arange(4.0).reshape(2, 2)
    right = np.linalg.lstsq(flat, target.reshape(-1), rcond=None)[0]
    a, b = ad.tensor(matrix), ad.tensor(target)
    for given in (matrix, flat, a, flat.tolist()):
        options = {"jacobian": lambda x, given=given: given}
        result = least_squares(lambda x: a @ x - b, ad.zeros(3), options=options)
        np.testing.assert_allclose(result.x.numpy(), right, atol=1e-9)
    bad: list[tuple[Any, type[Exception], str]] = [
        (flat.T, ValueError, "transposed"),
        (flat[:3], ValueError, "shapes (3, 3) and (4, 3)"),
        (flat.reshape(-1), ValueError, "shapes (12,) and (4, 3)"),
        (None, TypeError, "NoneType"),
        ({"a": 1}, TypeError, "dict"),
    ]
    for given, error, text in bad:
        options = {"jacobian": lambda x, given=given: given}
        with pytest.raises(error, match=r"^\[least_squares\] the Jacobian must") as caught:
            least_squares(lambda x: a @ x - b, ad.zeros(3), options=options)
        assert text in str(caught.value)


def test_callback_and_limits_of_least_squares() -> None:
    problem = next(p for p in NIST if p.name == "Eckerle4")

    def stop(intermediate_result: Any) -> None:
        raise StopIteration

    assert least_squares(problem.residuals, problem.starts[0], callback=stop).nit == 1
    result = least_squares(problem.residuals, problem.starts[0], maxfun=5)
    assert result.nfev == 5 and not result.success


def test_curve_fit_with_weights_as_scipy() -> None:
    scipy = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(1)
    x = np.linspace(0, 3, 25)
    sigma = 0.05 + 0.1 * x
    y = 1.5 * np.exp(-x) + 0.3 + sigma * rng.normal(size=25)
    cov = np.diag(sigma**2) + 0.001

    def theirs(x: Any, a: Any, b: Any, c: Any) -> Any:
        return a * np.exp(-b * x) + c

    def ours(x: Any, a: Any, b: Any, c: Any) -> Any:
        return a * ad.exp(-b * x) + c

    for weights in (None, sigma, cov):
        for absolute in (False, True):
            tight = {"xtol": 1e-13, "ftol": 1e-13}
            p, c = scipy.curve_fit(theirs, x, y, sigma=weights, absolute_sigma=absolute, **tight)
            popt, pcov = curve_fit(ours, x, y, sigma=weights, absolute_sigma=absolute)
            np.testing.assert_allclose(popt.numpy(), p, rtol=1e-5)
            np.testing.assert_allclose(pcov.numpy(), c, rtol=1e-4)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
@pytest.mark.parametrize("absolute", [False, True])
def test_covariances_under_a_robust_loss_as_scipy(loss: str, absolute: bool) -> None:
    scipy = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(4)
    x = np.linspace(0, 3, 40)
    y = 1.5 * np.exp(-x) + 0.3 + 0.05 * rng.normal(size=40)
    y[::8] += 1.0
    start, common = [1.0, 1.0, 0.0], {"absolute_sigma": absolute, "loss": loss}
    sigma = np.full(40, 0.05)
    popt, pcov = curve_fit(
        lambda x, a, b, c: a * ad.exp(-b * x) + c, x, y, start, sigma, loss_scale=2.0, **common
    )
    tight = {"xtol": 1e-13, "ftol": 1e-13, "gtol": 1e-13}
    p, c = scipy.curve_fit(
        lambda x, a, b, c: a * np.exp(-b * x) + c,
        x,
        y,
        start,
        sigma,
        method="trf",
        f_scale=2.0,
        **common,
        **tight,
    )
    np.testing.assert_allclose(popt.numpy(), p, rtol=1e-4)
    np.testing.assert_allclose(pcov.numpy(), c, rtol=1e-3)


@pytest.mark.parametrize("xdata", [[0, 1, 2, 3], (0.0, 1.0, 2.0, 3.0), [np.float64(0), 1, 2, 3]])
def test_curve_fit_takes_lists_of_numbers(xdata: Any) -> None:
    popt, _ = curve_fit(lambda x, a, b: a * x + b, xdata, [1, 3, 5, 7.0])
    np.testing.assert_allclose(popt.numpy(), [2, 1], atol=1e-9)


def test_curve_fit_passes_trees_of_arrays_on() -> None:
    t = np.arange(4.0)
    popt, _ = curve_fit(lambda x, a, b: a * x[0] + b * x[1], (t, t * t), 2 * t + 3 * t * t)
    np.testing.assert_allclose(popt.numpy(), [2, 3], atol=1e-9)


def test_curve_fit_with_a_tree() -> None:
    x = ad.linspace(0, 2, 20)
    y = 3 * x + 1
    popt, pcov = curve_fit(lambda x, p: p["a"] * x + p["b"], x, y, {"a": 0.0, "b": 0.0})
    assert abs(popt["a"].item() - 3) < 1e-9 and pcov.shape == (2, 2)


def test_curve_fit_says_what_is_not_determined() -> None:
    x = ad.linspace(0, 1, 5)
    with pytest.warns(RuntimeWarning, match="curve_fit"):
        _, pcov = curve_fit(lambda x, a, b: (a + b) * x, x, 2 * x)
    assert bool(ad.all(ad.isinf(pcov)))


@pytest.mark.parametrize("size", [1, 4, 30])
def test_roots(size: int) -> None:
    # Broyden's tridiagonal function has a root near -0.57 ... -0.42.
    def f(x: Any) -> Any:
        edge = ad.zeros(1)
        y = ad.concat([edge, x, edge])
        return (3 - 2 * x) * x - y[:-2] - 2 * y[2:] + 1

    result = root(f, -ad.ones(size))
    assert result.success, result
    assert float(np.max(np.abs(f(result.x).numpy()))) < 1e-12


def test_a_least_value_that_is_not_zero_is_no_root() -> None:
    result = root(lambda x: x * x + 1, 1.0)
    assert not result.success


def test_a_root_is_differentiable() -> None:
    cube_root = lambda a: root(lambda x, a: x**3 - a, 1.0, args=(a,)).x  # noqa: E731
    assert abs(ad.grad(cube_root)(8.0).item() - 1 / 12) < 1e-12
    assert abs(ad.grad(ad.grad(cube_root))(8.0).item() + 2 / 9 * 8 ** (-5 / 3)) < 1e-10


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: least_squares(3, [1.0]), TypeError, "must be a function"),
        (lambda: least_squares(abs, [1.0], "lmm"), ValueError, "method"),
        (lambda: least_squares(abs, [1.0], loss="cauchi"), ValueError, "loss"),
        (lambda: least_squares(abs, [1.0], options={"ftoll": 1}), TypeError, "mean 'ftol'"),
        (lambda: least_squares(abs, [1.0], bounds=(2, 3)), ValueError, "outside"),
        (lambda: root(lambda x: ad.sum(x), ad.ones(2)), ValueError, "1 equations for 2"),
        (lambda: curve_fit(lambda x, *p: x, [1.0], [1.0]), ValueError, "give p0"),
        (lambda: curve_fit(lambda x, a: a * x, [1.0, 2], [1.0, math.nan]), ValueError, "finite"),
        (
            lambda: curve_fit(lambda x, a: a * x, [1.0, 2], [1.0, 2], sigma=[0, 1.0]),
            ValueError,
            "positive",
        ),
        (lambda: curve_fit(lambda x, a: a, [1.0], [1.0], los="huber"), TypeError, "mean 'loss'"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=r"^\[(least_squares|root|curve_fit)\]") as caught:
        call()
    assert text in str(caught.value)
