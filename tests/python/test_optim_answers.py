"""What a solver answers: the best point of all that it evaluated, with its value and counts.

A function that writes down its own calls is the reference: it is kept from compiling, so that it
sees every point.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim.drivers import first_order
from adjoint.optim.methods import METHODS

minimize, least_squares, root = ad.optim.minimize, ad.optim.least_squares, ad.optim.root
GRADIENT = sorted(METHODS)
FIRST = sorted(first_order())
SEARCHED = ["nelder-mead", "cma-es", "differential-evolution", "spsa"]
DISK = {"type": "ineq", "fun": lambda x: 2.0 - ad.sum(x * x)}


class Recorded:
    """A function that keeps its points and values, and may fail at one of its calls."""

    def __init__(self, f: Any, error: BaseException | None = None, at: int = 0) -> None:
        self.f, self.error, self.at = f, error, at
        self.points: list[Any] = []
        self.values: list[float] = []

    def __call__(self, x: Any) -> Any:
        if self.error is not None and len(self.values) + 1 == self.at:
            raise self.error
        value = self.f(x)
        self.points.append(x.tolist())
        self.values.append(float(value.item()) if isinstance(value, ad.Tensor) else value)
        return value

    def lowest(self) -> float:
        return min(v for v in self.values if math.isfinite(v))


def rosenbrock(p: Any) -> Any:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def corner(x: Any) -> Any:
    return ad.sum(ad.abs(x - ad.tensor([0.3, -0.7])) * ad.tensor([1.0, 3.0]))


def waves(x: Any) -> Any:
    return ad.sum((x - 1.7) ** 4) + 2.0 * ad.sum(ad.sin(3.1 * x))


def half(x: Any) -> Any:
    return ad.sum(ad.sqrt(x))  # nan below 0, where the first steps lead


FUNCTIONS = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0]),
    "corner": (corner, [1.0, 1.0]),
    "waves": (waves, [-0.44, 2.1]),
    "half": (half, [1.0, 2.0]),
    "norm": (ad.linalg.norm, [-1.2, 1.0]),
}


def check_answer(result: Any, f: Recorded, where: str) -> None:
    """The value is that of the point, the point was evaluated, and no value was lower."""
    assert result.x.tolist() in f.points, where
    assert result.fun == f.values[f.points.index(result.x.tolist())], where
    size = max(abs(result.fun), abs(f.lowest()))
    assert result.fun - f.lowest() <= 1e-9 * max(1.0, size), where


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("method", GRADIENT)
def test_the_answer_is_the_best_point_evaluated_wherever_a_limit_ends(
    method: str, name: str
) -> None:
    function, x0 = FUNCTIONS[name]
    for maxfun in (1, 2, 3, 5, 7, 11, 22, None):
        f = Recorded(function)
        result = minimize(f, x0, method, maxfun=maxfun, maxiter=60, options={"compile": False})
        check_answer(result, f, f"{method} {name} {maxfun}")
        assert maxfun is None or result.nfev <= maxfun
        assert result.nhev or result.nfev == len(f.values)
        again = minimize(function, x0, method, maxfun=maxfun, maxiter=60)  # compiled
        assert (again.fun, again.x.tolist()) == (result.fun, result.x.tolist())
        assert (again.nfev, again.ngev) == (result.nfev, result.ngev)


@pytest.mark.parametrize("differences", ["2-point", "3-point"])
@pytest.mark.parametrize("method", [*GRADIENT, "adam"])
def test_differences_are_counted_and_limited(method: str, differences: str) -> None:
    for maxfun in (1, 30, 100):
        f = Recorded(rosenbrock)
        options = {"gradient": differences}
        result = minimize(f, [-1.2, 1.0], method, maxfun=maxfun, options=options)
        assert result.nfev == len(f.values) <= maxfun
        assert result.ngev == 0
        check_answer(result, f, f"{method} {maxfun}")


@pytest.mark.parametrize("constraints", [(), DISK])
def test_calls_under_constraints_are_counted_and_the_violation_is_that_of_x(
    constraints: Any,
) -> None:
    for maxfun in (1, 5, 10, 30, 80, None):
        f = Recorded(rosenbrock)
        how: Any = {"constraints": constraints, "maxfun": maxfun, "options": {"compile": False}}
        result = minimize(f, [-2.0, 1.0], "augmented-lagrangian", **how)
        assert result.nfev == len(f.values) and (maxfun is None or result.nfev <= maxfun)
        off = max(0.0, float(np.sum(result.x.numpy() ** 2)) - 2.0) if constraints else 0.0
        assert result.violation == pytest.approx(off, abs=1e-12)
        assert result.fun == rosenbrock(result.x).item()
    assert result.success


def test_a_callback_under_constraints_is_told_of_the_objective() -> None:
    told = []
    minimize(
        lambda x: (x[0] - 3) ** 2 + (x[1] - 2) ** 2,
        [-1.0, 0.5],
        constraints=DISK,
        callback=lambda r: told.append((r.fun, r.x.numpy().copy(), r.violation)),
    )
    for fun, x, violation in told:
        assert fun == pytest.approx((x[0] - 3) ** 2 + (x[1] - 2) ** 2, rel=1e-14)
        assert violation == pytest.approx(max(0.0, float(x @ x) - 2), abs=1e-12)


@pytest.mark.parametrize("differences", ["auto", "2-point"])
def test_residuals_are_counted_and_the_best_are_kept(differences: str) -> None:
    t = np.linspace(0, 1, 20)
    y = 2 * np.exp(-3 * t) + 0.1 * np.sin(20 * t)
    costs: list[float] = []

    def residuals(p: Any) -> Any:
        r = p[0] * ad.exp(-p[1] * t) - y
        costs.append(0.5 * float((r.detach().numpy() ** 2).sum()))
        return r

    for maxfun in (1, 4, 9, None):
        costs.clear()
        options = {"compile": False, "jacobian": differences}
        result = least_squares(residuals, [1.0, 1.0], maxfun=maxfun, options=options)
        if differences != "auto":
            assert result.nfev == len(costs)
        assert result.cost <= min(costs) * (1 + 1e-12)


def test_the_callback_of_residuals_is_told_what_the_result_will_say() -> None:
    t = np.linspace(0, 1, 20, dtype=np.float32)
    told: list[Any] = []
    f = lambda p: p[0] * ad.exp(-p[1] * t) - ad.asarray(2 * np.exp(-3 * t))  # noqa: E731
    least_squares(f, ad.ones(2, dtype=ad.float32), callback=told.append)
    for row in told:
        p = row.x.numpy()
        assert row.x.dtype == ad.float32 and row.fun.shape == (20,)
        r = p[0] * np.exp(-p[1] * t) - 2 * np.exp(-3 * t)
        np.testing.assert_allclose(row.fun.numpy(), r, atol=1e-6)
        assert row.cost == pytest.approx(0.5 * float(r @ r), rel=1e-3, abs=1e-10)
    jacobian = np.stack([np.exp(-p[1] * t), -p[0] * t * np.exp(-p[1] * t)], 1)
    np.testing.assert_allclose(told[-1].jac.numpy(), jacobian, atol=1e-6)


def test_the_history_of_residuals_has_the_cosine_of_its_own_point() -> None:
    t = np.linspace(0, 1, 20)
    y = 2 * np.exp(-3 * t) + 0.1 * np.sin(20 * t)
    points: list[Any] = []
    result = least_squares(
        lambda p: p[0] * ad.exp(-p[1] * t) - y, [1.0, 1.0], callback=lambda r: points.append(r.x)
    )
    for row, x in zip(result.history[:3], points, strict=False):
        p = x.numpy()
        r = p[0] * np.exp(-p[1] * t) - y
        jacobian = np.stack([np.exp(-p[1] * t), -p[0] * t * np.exp(-p[1] * t)], 1)
        cosines = np.abs(jacobian.T @ r) / np.linalg.norm(jacobian, axis=0) / np.linalg.norm(r)
        assert row.grad_norm == pytest.approx(cosines.max(), rel=1e-6)


# ---- Values and gradients that are not finite ----------------------------------------------------


@pytest.mark.parametrize("method", [*GRADIENT, "sgd", *SEARCHED, "augmented-lagrangian"])
def test_minus_infinity_counts_as_too_high(method: str) -> None:
    f = lambda x: ad.where(x < 0.5, -math.inf, x**2)  # noqa: E731
    result = minimize(f, 3.0, method, maxfun=200, maxiter=100, seed=0)
    assert math.isfinite(result.fun) and result.fun <= 9.0
    assert result.fun == result.x.item() ** 2


@pytest.mark.parametrize("method", ["l-bfgs", "bfgs", "cg", "gradient-descent", "l-bfgs-b"])
def test_a_finite_value_is_kept_where_the_gradient_is_infinite(method: str) -> None:
    result = minimize(lambda x: 2 * ad.sqrt(x), 1.0, method)  # the first step is to 0
    assert (result.x.item(), result.fun, result.success) == (0.0, 0.0, False)
    assert "the gradient is not finite" in result.reason


@pytest.mark.parametrize("method", ["adam", "sgd", "rprop", "lion"])
def test_a_zero_gradient_where_the_value_is_nan_is_no_success(method: str) -> None:
    f = lambda x: ad.where(x > 0, x * x + x, math.nan)  # noqa: E731
    result = minimize(f, 1.0, method, maxiter=500, options={"learning_rate": 0.1})
    assert not result.success and 0 < result.x.item() <= 1


# ---- Success speaks of the answer ----------------------------------------------------------------


@pytest.mark.parametrize("method", [*GRADIENT, "adam"])
@pytest.mark.parametrize("level", [10.0, 1e5])
def test_success_by_the_gradient_is_that_of_the_answer(method: str, level: float) -> None:
    centre = np.array([1.3, -0.7], np.float32)
    options = {"learning_rate": 0.3} if method == "adam" else None
    for start in np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32) * 2:
        f = lambda x: level + ad.sum((x - centre) ** 2) + 0.1 * ad.sum((x - centre) ** 4)  # noqa: E731
        result = minimize(f, start, method, maxiter=500, options=options)
        if result.success and "gradient is at most" in result.reason:
            off = result.x.numpy() - centre
            assert np.max(np.abs(2 * off + 0.4 * off**3)) <= 1.2e-4


def test_a_method_that_came_to_rest_above_what_it_met_has_not_converged() -> None:
    f = lambda x: 0.05 * (x - 3.0) ** 2 * ((x + 0.5) ** 2 + 0.2)  # noqa: E731
    options = {"learning_rate": 0.02, "momentum": 0.9}
    result = minimize(f, -6.0, "sgd", options=options, maxiter=20_000)
    x = result.x.item()
    slope = 0.1 * (x - 3) * ((x + 0.5) ** 2 + 0.2) + 0.1 * (x - 3) ** 2 * (x + 0.5)
    assert abs(slope) <= 1e-5 or (not result.success and "a lower value was met" in result.reason)


@pytest.mark.parametrize("method", ["l-bfgs", "bfgs", "cg", "gradient-descent", "l-bfgs-b"])
def test_equal_values_are_no_convergence_where_no_tolerance_is_given(method: str) -> None:
    for f in (lambda x: 1e15 + rosenbrock(x), lambda x: 1e20 + ad.sum((x - 1) ** 2)):
        result = minimize(f, [-1.2, 1.0], method, tol=1e-8, maxiter=2000)
        assert not result.success or np.max(np.abs(result.grad.numpy())) <= 1e-8, result


@pytest.mark.parametrize("method", ["bfgs", "newton", "l-bfgs", "l-bfgs-b"])
def test_a_minimum_far_away_is_one_and_none_at_infinity(method: str) -> None:
    result = minimize(lambda x: (x / 1e17 - 1) ** 2 * 1e20, 1.0, method, maxiter=200)
    assert result.success and abs(result.x.item() / 1e17 - 1) < 1e-6, result
    result = minimize(lambda x: -(x**3), 1.0, method, maxiter=200)
    assert not result.success and result.nit < 200, result


def test_constraints_of_large_and_small_slopes() -> None:
    rescaled = {"type": "eq", "fun": lambda x: 1e10 * (ad.sum(x**2) - 1)}
    result = minimize(rosenbrock, [2.0, 2.0], constraints=rescaled)
    np.testing.assert_allclose(result.x.numpy(), [0.786415, 0.617698], atol=1e-5)  # SLSQP's
    radius = 1e5
    circle = {"type": "eq", "fun": lambda x: ad.sum(x**2) - radius**2}
    for start in ([1.0, 0.5], [-0.3, 1.1]):
        result = minimize(lambda x: x[0] + x[1], [radius * v for v in start], constraints=circle)
        x = result.x.numpy()
        np.testing.assert_allclose(x, -radius / math.sqrt(2), rtol=1e-5)
        (m,) = result.multipliers
        assert not result.success or np.max(np.abs(1 + 2 * m.item() * x)) <= 1e-4
    small = {"type": "eq", "fun": lambda x: 1e-6 * (x[0] - 1.0)}
    result = minimize(lambda x: ad.sum(x**2), [3.0, 1.0], constraints=small)
    assert result.success == (abs(result.x[0].item() - 1) <= 1e-2)


# ---- Bounds, differences and steps ---------------------------------------------------------------


@pytest.mark.parametrize("differences", ["2-point", "3-point"])
@pytest.mark.parametrize("width", [0.0, 1e-9])
@pytest.mark.parametrize("method", ["l-bfgs-b", "projected-gradient", "adam", "least_squares"])
def test_differences_stay_within_narrow_bounds(method: str, width: float, differences: str) -> None:
    seen: list[float] = []
    bounds = [(0.0, 1.0), (0.25, 0.25 + width)]

    def f(x: Any) -> Any:
        seen.append(x.numpy()[1])
        return x if method == "least_squares" else float((x.numpy() ** 2).sum())

    if method == "least_squares":
        options = {"jacobian": differences, "compile": False}
        result = least_squares(f, [0.5, 0.25], bounds=bounds, options=options)
    else:
        options = {"gradient": differences}
        result = minimize(f, [0.5, 0.25], method, bounds=bounds, options=options, maxiter=30)
    assert min(seen) >= 0.25 and max(seen) <= 0.25 + width
    assert 0.25 <= result.x[1].item() <= 0.25 + width


@pytest.mark.parametrize("gradient", ["2-point", "3-point", "own"])
def test_hessians_of_differences(gradient: str) -> None:
    from adjoint.optim.arguments import make_limits
    from adjoint.optim.objective import Flat, Objective

    own = lambda p: [2 * (p[0] - 1), 2e4 * (p[1] - 1)]  # noqa: E731
    objective = Objective(
        lambda p: (p[0] - 1) ** 2 + 1e4 * (p[1] - 1) ** 2,
        Flat("minimize", [-1.2, 1.0]),
        (),
        make_limits("minimize", None, None, None, None, False, None),
        gradient=own if gradient == "own" else gradient,
    )
    found = objective.hessian(np.array([-1.2, 1.0]))
    np.testing.assert_allclose(found, np.diag([2.0, 2e4]), atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("method", ["trust-exact", "trust-ncg"])
def test_no_step_is_longer_than_the_largest_radius(method: str) -> None:
    f = Recorded(lambda x: ad.sum((x - 100.0) ** 2))
    minimize(f, [30.0, 0.0], method, maxiter=4, options={"compile": False, "max_radius": 1.0})
    assert np.max(np.linalg.norm(np.diff(f.points, axis=0), axis=1)) <= 1 + 1e-12
    with pytest.raises(ValueError, match="initial_radius=2 must not be above max_radius=1"):
        minimize(f, [0.0, 0.0], method, options={"initial_radius": 2.0, "max_radius": 1.0})


@pytest.mark.parametrize("scale", [1e300, 1.0, 1e-300])
@pytest.mark.parametrize("radius", [1e-320, 1e-200, 1.0, 1e200, math.inf])
def test_trust_regions_of_any_size(scale: float, radius: float) -> None:
    f = lambda x: scale * ad.sum((x - ad.tensor([1.0, 2.0])) ** 2)  # noqa: E731
    options = {"initial_radius": radius}
    result = minimize(f, [0.0, 0.0], "trust-exact", options=options, maxiter=50, tol=1e-9 * scale)
    assert result.fun <= 5 * scale


def test_a_projected_gradient_that_overflows_ends() -> None:
    x0 = ad.tensor([1.0, 2.0], dtype=ad.float32)
    f = lambda x: ad.sum(x**3) * 1e27  # noqa: E731
    result = minimize(f, x0, "projected-gradient", maxiter=50, maxfun=5000)
    assert result.nfev < 5000


# ---- What is kept between calls ------------------------------------------------------------------


class Net(ad.nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.w = ad.tensor(0.5, requires_grad=True)
        self.act = act

    def forward(self, x: Any) -> Any:
        return self.act(self.w)


def net_loss(net: Any) -> Any:
    return (net(None) - 0.5) ** 2


def net_residual(net: Any) -> Any:
    return net(None) - 0.5


def net_mode(net: Any) -> Any:
    return (net.w - (5.0 if net.training else -5.0)) ** 2


def test_modules_with_other_settings_are_other_problems() -> None:
    for act, right in ((ad.tanh, math.atanh(0.5)), (ad.sigmoid, 0.0)):
        assert minimize(net_loss, Net(act), tol=1e-10).x.w.item() == pytest.approx(right, abs=1e-6)
        assert least_squares(net_residual, Net(act)).x.w.item() == pytest.approx(right, abs=1e-6)
        assert root(net_residual, Net(act)).x.w.item() == pytest.approx(right, abs=1e-6)
    net = Net(ad.tanh)
    for options in ({}, {"compile": False}):
        for mode, right in ((True, 5.0), (False, -5.0)):
            net.train(mode)
            found = minimize(net_mode, net, options=options).x.w.item()
            assert found == pytest.approx(right, abs=1e-5)


def test_an_attribute_of_a_callable_object_does_not_stand_for_it() -> None:
    class Loss:
        identity = "mean square"

        def __init__(self, target: float) -> None:
            self.target = target

        def __call__(self, x: Any) -> Any:
            return x - self.target

    for target in (1.0, 5.0):
        loss = Loss(target)
        assert least_squares(loss, 0.0).x.item() == pytest.approx(target)
        assert root(loss, 0.0).x.item() == pytest.approx(target)


def test_a_fit_of_the_same_model_is_compiled_once() -> None:
    from adjoint.optim import functions

    x = ad.linspace(0, 1, 9)
    model = lambda x, a, b: a * x + b  # noqa: E731
    ad.optim.curve_fit(model, x, 2 * x + 1)
    before = len(functions._kept), [made for _, made in functions._kept.values()][-1]
    for slope in (3.0, 4.0):
        popt, _ = ad.optim.curve_fit(model, x, slope * x + 1)
        np.testing.assert_allclose(popt.numpy(), [slope, 1.0], atol=1e-9)
        after = len(functions._kept), [made for _, made in functions._kept.values()][-1]
        assert after[0] == before[0] and after[1] is before[1]


# ---- What ends a method from outside -------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("lost")])
@pytest.mark.parametrize("method", ["l-bfgs", "newton", "adam", *SEARCHED, "augmented-lagrangian"])
def test_an_exception_has_the_best_point_so_far(method: str, error: BaseException) -> None:
    f = Recorded(rosenbrock, error, at=9)
    options = {} if method in SEARCHED else {"compile": False}
    with pytest.raises(BaseException) as caught:
        minimize(f, [-1.2, 1.0], method, seed=1, options=options)
    result = caught.value.result  # type: ignore[attr-defined]
    assert result.fun == f.lowest() and not result.success
    assert len(f.values) == 8 and result.nfev + result.nhev in (8, 9)


def test_a_callback_may_write_to_what_it_is_given() -> None:
    def spoil(result: Any) -> None:
        result.x *= 0.0
        if result.grad is not None:
            result.grad *= 0.0
        result.history.clear()

    for method in [*GRADIENT, "adam"]:
        first = minimize(rosenbrock, [-1.2, 1.0], method, maxiter=20)
        second = minimize(rosenbrock, [-1.2, 1.0], method, maxiter=20, callback=spoil)
        assert (first.fun, first.nfev, first.nit) == (second.fun, second.nfev, second.nit), method
        assert len(second.history) == second.nit


@pytest.mark.parametrize("method", ["cg", "bfgs", "l-bfgs-b", "differential-evolution"])
def test_the_clock_is_looked_at_between_evaluations(method: str) -> None:
    clock = [0.0]

    def f(x: Any) -> Any:
        clock[0] += 1.0
        return -x[0]

    options = {} if method == "differential-evolution" else {"compile": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock[0])
        result = minimize(f, [1.0, 2.0], method, maxtime=3.5, options=options, seed=0)
    # With "auto" nothing is called beside: the fourth evaluation is the first to be too late.
    assert result.nfev == clock[0] == 4 and result.reason.startswith("maxtime=3.5")


@pytest.mark.parametrize("method", ["adam", "l-bfgs", "l-bfgs-b", "newton", "trust-ncg"])
def test_an_error_that_came_once_is_told_as_it_is(method: str) -> None:
    """What is no matter of tensors is not looked into by another call."""
    calls = 0

    def f(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError("sensor lost for a moment")
        return ad.sum(x**2 * ad.tensor([1.0, 30.0])) + ad.sum(x**4)

    with pytest.raises(OSError, match=r"^sensor lost"):
        ad.optim.minimize(f, [1.0, 2.0], method, options={"compile": False})
    assert calls == 4


@pytest.mark.parametrize("scale", [1e-200, 1e-300, 1e-24])
def test_steps_to_the_edge_of_directions_whose_squares_underflow(scale: float) -> None:
    start = np.zeros(2, np.float32 if scale == 1e-24 else np.float64)
    result = ad.optim.minimize(
        lambda x: scale * ad.sum((x - 1.5) ** 2), start, "trust-ncg", tol=0.0
    )
    assert 0 <= result.fun < scale * 4.5  # lower than at the start
