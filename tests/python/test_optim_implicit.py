"""Derivatives of solutions: by closed formulas and by differences of SciPy's solutions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import adjoint as ad

minimize, least_squares, curve_fit = ad.optim.minimize, ad.optim.least_squares, ad.optim.curve_fit
scipy = pytest.importorskip("scipy.optimize")

T = np.linspace(0, 2, 12)
Y = 2 * np.exp(-T) + 0.3 + 0.1 * np.sin(7 * T)
TIGHT = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}


def differences(f: Callable[[Any], Any], at: Any, h: float) -> Any:
    """Return the Jacobian by central differences."""
    columns = [(f(at + h * e) - f(at - h * e)) / (2 * h) for e in np.eye(at.size)]
    return np.stack(columns, -1)


def model(p: Any, library: Any) -> Any:
    return p[0] * library.exp(-p[1] * T) + p[2]


# ---- Least squares -------------------------------------------------------------------------------


def test_a_linear_fit_moves_by_its_pseudoinverse() -> None:
    matrix = np.random.default_rng(0).normal(size=(7, 3))
    a, y = ad.tensor(matrix), ad.tensor(np.arange(7.0))

    def fit(y: Any) -> Any:
        return least_squares(lambda x, y: a @ x - y, ad.zeros(3), args=(y,))

    inverse: Any = np.linalg.pinv(matrix)
    left: Any = matrix @ inverse - np.eye(7)
    np.testing.assert_allclose(ad.jacobian(lambda y: fit(y).x)(y).numpy(), inverse, atol=1e-12)
    np.testing.assert_allclose(ad.jacobian(lambda y: fit(y).fun)(y).numpy(), left, atol=1e-12)
    cost = ad.grad(lambda y: fit(y).cost)(y)
    np.testing.assert_allclose(cost.numpy(), -left @ y.numpy(), atol=1e-12)
    second = ad.hessian(lambda y: fit(y).cost)(y)
    np.testing.assert_allclose(second.numpy(), -left, atol=1e-12)


@pytest.mark.parametrize("box", [None, (np.zeros(3), np.array([5, 1.2, 0.25]))])
@pytest.mark.parametrize("loss", ["linear", "soft_l1", "cauchy"])
def test_solutions_of_least_squares_move_as_scipys(loss: str, box: Any) -> None:
    def ours(y: Any) -> Any:
        r = lambda p, y: model(p, ad) - y  # noqa: E731
        how = {"loss": loss, "loss_scale": 0.1, "bounds": box, "tol": 1e-13}
        return least_squares(r, [1.0, 1.0, 0.0], args=(y,), **how).x

    def theirs(y: Any) -> Any:
        bounds = (-np.inf, np.inf) if box is None else box
        how = {"loss": loss, "f_scale": 0.1, "bounds": bounds, **TIGHT}
        jac = lambda p: np.stack(  # noqa: E731
            [np.exp(-p[1] * T), -p[0] * T * np.exp(-p[1] * T), np.ones_like(T)], 1
        )
        return scipy.least_squares(lambda p: model(p, np) - y, [1.0, 1.0, 0.0], jac, **how).x

    found = ad.jacobian(ours)(ad.tensor(Y)).numpy()
    np.testing.assert_allclose(found, differences(theirs, Y, 1e-3), atol=2e-3)
    pushed = ad.jvp(ours, (ad.tensor(Y),), (ad.ones(12),))[1].numpy()
    np.testing.assert_allclose(pushed, found.sum(1), atol=1e-9)


def test_a_fitted_line_and_its_covariance_move_by_the_normal_equations() -> None:
    x = np.linspace(0, 1, 9)
    y = 2 * x + 1 + 0.1 * np.cos(9 * x)
    sigma = 0.1 + 0.05 * x

    def fit(y: Any, sigma: Any) -> Any:
        return curve_fit(lambda x, a, b: a * x + b, x, y, sigma=sigma)

    def by_hand(y: Any, sigma: Any) -> Any:
        matrix = np.stack([x, np.ones_like(x)], 1) / sigma[:, None]
        inverse = np.linalg.inv(matrix.T @ matrix)
        p = inverse @ matrix.T @ (y / sigma)
        left = matrix @ p - y / sigma
        return np.concatenate([p, (inverse * (left @ left) / 7).reshape(-1)])

    def ours(y: Any, sigma: Any) -> Any:
        return ad.concat([ad.reshape(part, (-1,)) for part in fit(y, sigma)])

    in_y = ad.jacobian(lambda y: ours(y, sigma))(ad.tensor(y)).numpy()
    np.testing.assert_allclose(in_y, differences(lambda y: by_hand(y, sigma), y, 1e-5), atol=1e-7)
    in_sigma = ad.jacobian(lambda s: ours(y, s))(ad.tensor(sigma)).numpy()
    right = differences(lambda s: by_hand(y, s), sigma, 1e-6)
    np.testing.assert_allclose(in_sigma, right, atol=1e-6)


def test_the_jacobian_at_a_root_moves_with_the_root() -> None:
    # x^3 = a has the slope 3 x^2 = 3 a^(2/3) there, whose derivative is 2 a^(-1/3).
    slope = lambda a: ad.sum(ad.optim.root(lambda x, a: x**3 - a, 1.0, (a,)).jac)  # noqa: E731
    assert abs(ad.grad(slope)(8.0).item() - 1.0) < 1e-10


# ---- Minima --------------------------------------------------------------------------------------


def objective(x: Any, a: Any) -> Any:
    return ad.sum((x - a) ** 2) / 2 + x[0] ** 4 / 4


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("l-bfgs", {}),
    ("l-bfgs", {"compile": False}),
    ("l-bfgs", {"gradient": "3-point"}),
    ("l-bfgs", {"gradient": lambda x, a: ad.grad(objective)(x, a)}),
    ("adam", {"learning_rate": 0.05}),
    ("nelder-mead", {}),
    ("cma-es", {}),
]


@pytest.mark.parametrize(("method", "options"), WAYS)
def test_minima_of_every_method_move(method: str, options: dict[str, Any]) -> None:
    # x0 - a0 + x0^3 = 0 and x1 = a1, so dx0/da0 = 1 / (1 + 3 x0^2) and df/da = a - x.
    def solve(a: Any) -> Any:
        return minimize(objective, [0.0, 0.0], method, args=(a,), options=options, tol=1e-9, seed=0)

    a = ad.tensor([2.0, -1.0])  # so that x0 = 1
    found = ad.jacobian(lambda a: solve(a).x)(a).numpy()
    np.testing.assert_allclose(found, [[0.25, 0.0], [0.0, 1.0]], atol=1e-5)
    found = ad.grad(lambda a: solve(a).fun)(a).numpy()
    np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-5)


def test_what_comes_beside_the_value_moves_with_the_solution() -> None:
    f = lambda x, a: ((x - a) ** 2, x * x * a)  # noqa: E731
    aux = lambda a: minimize(f, 0.0, args=(a,), has_aux=True, tol=1e-10).aux  # noqa: E731
    assert abs(ad.grad(aux)(2.0).item() - 12.0) < 1e-7  # of a^3


@pytest.mark.parametrize("options", [{}, {"compile": False}])
def test_an_objective_that_branches_on_values_keeps_its_derivative(options: Any) -> None:
    def huber(x: Any, a: Any) -> Any:
        r = x - a
        return 0.5 * r * r if abs(r) < 1 else ad.abs(r) - 0.5

    solve = lambda a: minimize(huber, 7.0, args=(a,), options=options, tol=1e-9).x  # noqa: E731
    assert abs(ad.grad(solve)(2.0).item() - 1.0) < 1e-9


def test_outside_of_derivatives_values_are_numbers() -> None:
    result = minimize(lambda x, a: (x - a) ** 2, 0.0, args=(ad.tensor(2.0),))
    assert isinstance(result.fun, float) and not result.x.requires_grad


# ---- No derivative is an error, not zero ---------------------------------------------------------

SUM_IS_ONE = {"type": "eq", "fun": lambda x: ad.sum(x) - 1.0}
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "constraints": (
        lambda a: minimize(objective, ad.zeros(2), args=(a,), constraints=SUM_IS_ONE).x[0],
        "under constraints",
    ),
    "value under constraints": (
        lambda a: minimize(objective, ad.zeros(2), args=(a,), constraints=SUM_IS_ONE).fun,
        "under constraints",
    ),
    "args of a constraint": (
        lambda a: minimize(
            lambda x: ad.sum(x * x),
            ad.zeros(2),
            constraints={"type": "eq", "fun": lambda x, a: ad.sum(x) - a, "args": (a,)},
        ).x[0],
        "under constraints",
    ),
    "bound of SciPy": (
        lambda a: minimize(lambda x: (x - 3) ** 2, 0.0, bounds=SimpleNamespace(lb=-9.0, ub=a)).x,
        "in its bounds",
    ),
    "bound": (lambda a: minimize(lambda x: (x - 3) ** 2, 0.0, bounds=(None, a)).x, "in its bounds"),
    "bound of residuals": (
        lambda a: least_squares(lambda x: x - 3, 0.0, bounds=(-9.0, a)).x,
        "in its bounds",
    ),
    "closure of residuals": (lambda a: least_squares(lambda x: x - a, 0.0).x, "give them in args"),
    "closure of a search": (
        lambda a: minimize(lambda x: (x - a) ** 2, 0.0, "nelder-mead").x,
        "give them in args",
    ),
    "closure of a batched search": (
        lambda a: minimize(lambda x: (x - a) ** 2, 0.0, "nelder-mead", batch=True).fun,
        "give them in args",
    ),
    "closure under differences": (
        lambda a: minimize(lambda x: (x - a) ** 2, 0.0, "bfgs", options={"gradient": "2-point"}).x,
        "give them in args",
    ),
    "closure not compiled": (
        lambda a: minimize(lambda x: (x - a) ** 2, 0.0, "bfgs", options={"compile": False}).x,
        "give them in args",
    ),
    "other libraries": (
        lambda a: (
            minimize(
                lambda x, a: float((x.numpy() - a.numpy()) ** 2), 0.0, "nelder-mead", args=(a,)
            ).x
        ),
        "no tensor that was computed from x",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_no_rule_holds_a_derivative_is_refused(name: str) -> None:
    solve, text = REFUSED[name]
    with pytest.raises(ValueError, match=r"^\[(minimize|least_squares)\]") as caught:
        ad.grad(solve)(1.0)
    assert text in str(caught.value)
    with pytest.raises(ValueError, match=r"^\[(minimize|least_squares)\]"):
        ad.jvp(solve, (1.0,), (1.0,))
