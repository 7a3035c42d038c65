"""`minimize` by every method: the answers, the limits, and what is said of bad input."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim.methods import METHODS
from mgh_problems import PROBLEMS

minimize = ad.optim.minimize
GRADIENT = sorted(METHODS)
BOUNDED = [name for name, method in METHODS.items() if method.bounds]
PATIENT = {"maxiter": 50_000}  # gradient descent in a curved valley


def rosenbrock(p: Any) -> Any:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def quadratic(x: Any) -> Any:
    return ad.sum((x - ad.tensor([1.0, -2.0, 3.0])) ** 2 * ad.tensor([1.0, 4.0, 9.0]))


# ---- Answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_method_finds_a_minimum_in_the_dtype_of_x0(method: str, dtype: str) -> None:
    x0 = ad.tensor([-1.2, 1.0], dtype=getattr(ad, dtype))
    tol = 1e-7 if dtype == "float64" else 1e-4
    result = minimize(rosenbrock, x0, method, tol=tol, maxiter=50_000)
    assert result.x.dtype == x0.dtype
    # Gradient descent in float32 comes to a halt where its steps vanish beside the rounding of x.
    slow = method == "gradient-descent" and dtype == "float32"
    close = 2e-2 if slow else 1e-5 if dtype == "float64" else 2e-3
    np.testing.assert_allclose(result.x.numpy(), 1.0, atol=close)
    assert result.success or slow, result.reason
    assert result.method == method
    assert result.nit == len(result.history) and result.nfev >= result.nit


@pytest.mark.parametrize("method", GRADIENT)
def test_compiled_or_not_the_path_is_the_same(method: str) -> None:
    first = minimize(rosenbrock, [-1.2, 1.0], method, maxiter=40)
    second = minimize(rosenbrock, [-1.2, 1.0], method, maxiter=40, options={"compile": False})
    assert first.x.tolist() == second.x.tolist()
    assert [row[:4] for row in first.history] == [row[:4] for row in second.history]


@pytest.mark.parametrize("method", GRADIENT)
def test_a_function_that_branches_on_values(method: str) -> None:
    def huber(x: Any) -> Any:
        r = x - 3.0
        return 0.5 * r * r if abs(r) < 1 else ad.abs(r) - 0.5

    result = minimize(huber, 20.0, method, tol=1e-8)
    assert result.x.shape == ()
    assert abs(result.x.item() - 3.0) < 1e-6, result


def test_trees_keep_their_structure() -> None:
    class Line(NamedTuple):
        slope: Any
        offset: Any

    t = ad.linspace(0, 1, 30)

    def loss(p: Any) -> Any:
        line = p["line"]
        return ad.mean((line.slope * t + line.offset + p["more"][0][1, 0] - (2 * t + 1)) ** 2)

    start = {"line": Line(0.0, np.float32(0.0)), "more": [ad.zeros((2, 2))]}
    result = minimize(loss, start, tol=1e-6)
    assert isinstance(result.x["line"], Line)
    assert result.x["line"].offset.dtype == ad.float32
    assert result.x["more"][0].shape == (2, 2)
    assert abs(result.x["line"].slope.item() - 2) < 1e-4
    assert result.grad["more"][0].shape == (2, 2)


def test_lists_of_numbers_are_arrays() -> None:
    assert minimize(lambda x: ad.sum(x**2), [1, 2]).x.dtype == ad.float64
    assert minimize(lambda x: ad.sum(x**2), [[1.0, 2.0]]).x.shape == (1, 2)


def test_args_and_aux() -> None:
    result = minimize(
        lambda x, a, b: (ad.sum((x - a) ** 2) + b, {"seen": x * 1}),
        ad.zeros(2),
        args=(ad.tensor([1.0, 2.0]), 5),
        has_aux=True,
    )
    np.testing.assert_allclose(result.x.numpy(), [1, 2], atol=1e-5)
    assert abs(result.fun - 5) < 1e-9
    assert result.aux["seen"].tolist() == result.x.tolist()


@pytest.mark.parametrize("gradient", ["2-point", "3-point", "function"])
def test_gradients_of_other_sources(gradient: Any) -> None:
    def plain(x: Any) -> float:
        values = np.asarray(x)
        return float(np.sum((values - 1) ** 2 * [1, 10]))

    given = (lambda x: 2 * (x - 1) * ad.tensor([1.0, 10.0])) if gradient == "function" else gradient
    for method in ("bfgs", "l-bfgs", "l-bfgs-b", "trust-exact"):
        result = minimize(plain, [3.0, -2.0], method, options={"gradient": given})
        np.testing.assert_allclose(result.x.numpy(), 1, atol=1e-4)


@pytest.mark.parametrize("form", [list, tuple, np.array, lambda g: ad.stack(g)])
def test_a_given_gradient_may_be_a_list(form: Any) -> None:
    gradient = lambda x: form([2 * (x[0] - 1), 8 * (x[1] + 2)])  # noqa: E731
    f = lambda x: (x[0] - 1) ** 2 + 4 * (x[1] + 2) ** 2  # noqa: E731
    result = minimize(f, [0.0, 0.0], options={"gradient": gradient}, tol=1e-8)
    np.testing.assert_allclose(result.x.numpy(), [1, -2], atol=1e-7)


BAD_GRADIENTS: list[tuple[Any, Any, type[Exception], str]] = [
    ([1.0, 2.0], ad.ones(1), ValueError, "shapes (1,) and (2,)"),
    ([1.0, 2.0], ad.ones((2, 1)), ValueError, "shapes (2, 1) and (2,)"),
    ([1.0, 2.0], 1.0, ValueError, "shapes () and (2,)"),
    ([1.0, 2.0], None, TypeError, "does it return"),
    ([1.0, 2.0], ["a", "b"], TypeError, "must hold numbers"),
    ({"a": 1.0, "b": ad.ones(2)}, {"a": 1.0, "c": ad.ones(2)}, TypeError, "tree like x0"),
    ({"a": 1.0, "b": ad.ones(2)}, {"a": 1.0}, TypeError, "tree like x0"),
    ({"a": 1.0, "b": ad.ones(2)}, {"a": 1.0, "b": ad.ones(1)}, ValueError, "(1,) and (2,)"),
    ([1.0, 2.0], ad.ones(2, dtype=ad.bool), TypeError, "not bool"),
]


@pytest.mark.parametrize("case", range(len(BAD_GRADIENTS)))
def test_a_given_gradient_must_be_like_x0(case: int) -> None:
    x0, given, error, text = BAD_GRADIENTS[case]
    value = lambda x: sum(ad.sum(leaf * leaf) for leaf in ad.tree.leaves(x))  # noqa: E731
    with pytest.raises(error, match=r"^\[minimize\] the gradient") as caught:
        minimize(value, x0, "bfgs", options={"gradient": lambda x: given})
    assert text in str(caught.value)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_quasi_newton_lowers_the_problems_of_the_paper(problem: Any) -> None:
    start = [float(v) for v in problem.start]
    first = problem(ad.tensor(start)).item()
    result = minimize(problem, start, "l-bfgs")
    assert result.fun <= first
    reached = any(result.fun - m <= 1e-3 * (first - m) for m in problem.minima)
    hard = problem.name in ("Gaussian", "Powell badly scaled", "Meyer", "Brown almost-linear")
    assert reached or hard, result


def test_the_problems_have_the_minima_that_the_paper_states() -> None:
    for problem in PROBLEMS:
        best = math.inf
        for method in ("trust-exact", "bfgs", "newton"):
            start = [float(v) for v in problem.start]
            result = minimize(problem, start, method, maxiter=500, tol=1e-9)
            best = min(best, result.fun)
        near = min(abs(best - m) - 1e-5 * abs(m) for m in problem.minima)
        assert near < 1e-6 or problem.name == "Meyer", (problem.name, best)


# ---- Bounds and constraints ----------------------------------------------------------------------


@pytest.mark.parametrize("method", BOUNDED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bounds_hold_at_every_evaluation(method: str, dtype: str) -> None:
    seen: list[Any] = []

    def watched(x: Any) -> Any:
        seen.append(x.numpy())
        return quadratic(x)

    low, high = np.array([-1.0, -1.0, -math.inf]), np.array([0.5, math.inf, 2.0])
    x0 = ad.zeros(3, dtype=getattr(ad, dtype))
    options = {"compile": False}
    result = minimize(watched, x0, method, bounds=(low, high), options=options)
    # The minimum within a box of a sum of squares is the nearest point of the box.
    np.testing.assert_allclose(result.x.numpy(), np.clip([1, -2, 3], low, high), atol=1e-4)
    assert result.success, result
    for x in seen:
        assert np.all(x >= low) and np.all(x <= high)


def test_bounds_in_every_form() -> None:
    class Box:
        lb, ub = np.full(3, -1), np.full(3, 0.5)

    tree = {"a": ad.zeros(3)}
    forms = [
        (quadratic, ad.zeros(3), (-1, 0.5)),
        (quadratic, ad.zeros(3), [(-1, 0.5)] * 3),
        (quadratic, ad.zeros(3), Box()),
        (quadratic, ad.zeros(3), (-1, np.full(3, 0.5))),
        (lambda p: quadratic(p["a"]), tree, ({"a": -1}, {"a": ad.full((3,), 0.5)})),
    ]
    for f, x0, bounds in forms:
        x = ad.tree.leaves(minimize(f, x0, bounds=bounds).x)[0]
        np.testing.assert_allclose(x.numpy(), [0.5, -1, 0.5], atol=1e-6)
    free = minimize(quadratic, ad.zeros(3), bounds=[(None, 0.5), (None, None), (0, None)])
    np.testing.assert_allclose(free.x.numpy(), [0.5, -2, 3], atol=1e-5)


def test_equality_and_inequality_constraints() -> None:
    # Hock and Schittkowski 71: the minimum and the point are in their book.
    def f(x: Any) -> Any:
        return x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]

    constraints = [
        {"type": "ineq", "fun": lambda x: ad.prod(x) - 25},
        {"type": "eq", "fun": lambda x, total: ad.sum(x * x) - total, "args": (40,)},
    ]
    result = minimize(f, [1.0, 5, 5, 1], bounds=(1, 5), constraints=constraints, tol=1e-7)
    assert result.success, result
    assert abs(result.fun - 17.0140173) < 1e-5
    expected = [1, 4.7429994, 3.8211503, 1.3794082]
    np.testing.assert_allclose(result.x.numpy(), expected, atol=1e-4)
    assert result.violation < 1e-7
    assert abs(result.multipliers[0].item() - 0.5522937) < 1e-4


def test_the_constrained_method_without_constraints() -> None:
    result = minimize(quadratic, ad.zeros(3), "augmented-lagrangian", bounds=(None, 2.0))
    assert result.success and result.multipliers == []
    np.testing.assert_allclose(result.x.numpy(), [1, -2, 2], atol=1e-5)


@pytest.mark.parametrize("kind", [list, tuple])
def test_constraints_may_be_lists_of_numbers(kind: Any) -> None:
    # The nearest point to 0 with x0 + x1 = 1 and x0 >= 0.8.
    both = [
        {"type": "eq", "fun": lambda x: kind([x[0] + x[1] - 1.0])},
        {"type": "ineq", "fun": lambda x: kind([x[0] - 0.8, 4.0])},
    ]
    result = minimize(lambda x: ad.sum(x * x), [3.0, 2.0], constraints=both)
    np.testing.assert_allclose(result.x.numpy(), [0.8, 0.2], atol=1e-6)
    for wrong, error in ((lambda x: kind([]), ValueError), (lambda x: None, TypeError)):
        with pytest.raises(error, match=r"^\[minimize\] a constraint"):
            minimize(lambda x: ad.sum(x * x), [3.0], constraints={"type": "eq", "fun": wrong})


def test_constraints_that_cannot_be_met_are_told() -> None:
    constraint = {"type": "eq", "fun": lambda x: ad.sum(x * x) + 1}
    result = minimize(lambda x: ad.sum(x), [1.0, 1.0], constraints=constraint)
    assert not result.success
    assert result.violation >= 1


# ---- Hostile objectives --------------------------------------------------------------------------


@pytest.mark.parametrize("method", GRADIENT)
def test_a_value_that_is_not_finite_counts_as_too_high(method: str) -> None:
    def barrier(x: Any) -> Any:  # nan for x < 0
        return x - ad.log(x)

    result = minimize(barrier, 0.01, method, tol=1e-8, **PATIENT)
    assert abs(result.x.item() - 1) < 1e-5, result
    assert math.isfinite(result.fun)


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_reported(method: str, value: float) -> None:
    result = minimize(lambda x: ad.sum(x) * value, [1.0, 1.0], method)
    assert not result.success
    assert "not finite" in result.reason or str(value) in result.reason


@pytest.mark.parametrize("method", GRADIENT)
def test_a_start_without_a_finite_gradient_keeps_its_value(method: str) -> None:
    result = minimize(lambda p: ad.sum(ad.sqrt(p)), [0.0, 1.0], method)
    assert result.fun == 1.0 and result.x.tolist() == [0.0, 1.0]
    assert not result.success and result.reason.startswith("the gradient is not finite at x0")


@pytest.mark.parametrize("method", BOUNDED)
def test_the_best_value_counts_where_its_gradient_is_not_finite(method: str) -> None:
    result = minimize(lambda p: ad.sum(ad.sqrt(p)), [0.5, 1.0], method, bounds=(0, None))
    assert result.fun == 0.0 and result.x.tolist() == [0.0, 0.0]
    assert not result.success and "where the gradient is not finite" in result.reason


@pytest.mark.parametrize("method", GRADIENT)
def test_without_a_lower_bound_it_ends(method: str) -> None:
    result = minimize(lambda x: ad.sum(x), [1.0, 1.0], method, maxiter=200)
    assert not result.success
    assert math.isfinite(result.fun)


@pytest.mark.parametrize("method", GRADIENT)
def test_errors_of_the_objective_come_through(method: str) -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(broken, [1.0], method)


# ---- Limits, callback, progress ------------------------------------------------------------------


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("maxfun", [1, 7, 20])
def test_maxfun_is_obeyed(method: str, maxfun: int) -> None:
    values: list[float] = []

    def counted(x: Any) -> Any:
        value = rosenbrock(x)
        values.append(value.item())
        return value

    options = {"compile": False}
    result = minimize(counted, [-1.2, 1.0], method, maxfun=maxfun, options=options)
    assert result.nfev <= maxfun
    if method not in ("newton", "newton-cg", "trust-exact", "trust-ncg"):  # Hessians are besides
        assert len(values) == result.nfev
    assert not result.success and f"maxfun={maxfun}" in result.reason
    assert result.fun <= values[0]


@pytest.mark.parametrize("method", GRADIENT)
def test_maxiter_and_the_best_point(method: str) -> None:
    result = minimize(rosenbrock, [-1.2, 1.0], method, maxiter=3)
    assert result.nit == 3 and not result.success
    assert result.fun == min(row.fun for row in result.history)
    assert rosenbrock(result.x).item() == result.fun


@pytest.mark.parametrize("method", GRADIENT)
def test_a_callback_ends_any_method(method: str) -> None:
    seen: list[Any] = []

    def callback(intermediate_result: Any) -> None:
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    result = minimize(rosenbrock, [-1.2, 1.0], method, callback=callback)
    assert len(seen) == 3 and result.nit == 3 and "callback" in result.reason
    assert [r.nit for r in seen] == [1, 2, 3]
    assert seen[-1].x.shape == (2,)
    assert result.fun <= min(r.fun for r in seen)


def test_maxtime_is_obeyed() -> None:
    def slow(x: Any) -> Any:
        time.sleep(0.01)
        return ad.sum(x**4)

    begun = time.perf_counter()
    options = {"compile": False, "gradient": "2-point"}
    result = minimize(slow, ad.ones(3), "bfgs", maxtime=0.1, tol=0.0, options=options)
    assert "maxtime" in result.reason
    assert time.perf_counter() - begun < 5


def test_progress_is_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    minimize(rosenbrock, [-1.2, 1.0], progress=True)
    out, err = capsys.readouterr()
    assert not out
    assert "best" in err and "evaluations" in err and err.endswith("\n")
    minimize(rosenbrock, [-1.2, 1.0])
    assert capsys.readouterr().err == ""


# ---- Derivatives of solutions --------------------------------------------------------------------


def test_a_solution_is_differentiable_in_its_arguments() -> None:
    # min (x - a)^2 + x^4 / 4 has 2 (x - a) + x^3 = 0, so dx/da = 2 / (2 + 3 x^2).
    def solution(a: Any) -> Any:
        f = lambda x, a: (x - a) ** 2 + x**4 / 4  # noqa: E731
        return minimize(f, 0.0, args=(a,), tol=1e-12).x

    x = solution(ad.tensor(2.0)).item()
    assert abs(ad.grad(solution)(2.0).item() - 2 / (2 + 3 * x**2)) < 1e-9


def test_at_a_bound_the_solution_does_not_move() -> None:
    def solution(a: Any) -> Any:
        f = lambda x, a: ad.sum((x - a) ** 2)  # noqa: E731
        return minimize(f, ad.zeros(2), args=(a,), bounds=(-1, 1)).x

    jacobian = ad.jacobian(solution)(ad.tensor([0.5, 3.0]))
    np.testing.assert_allclose(jacobian.numpy(), [[1, 0], [0, 0]], atol=1e-12)


def test_what_is_differentiated_outside_must_be_an_argument() -> None:
    def solution(a: Any) -> Any:
        return minimize(lambda x: (x - a) ** 2, 0.0).x

    with pytest.raises(ValueError, match=r"\[minimize\].*args"):
        ad.grad(solution)(2.0)


# ---- Bad input -----------------------------------------------------------------------------------


def never(x: Any) -> Any:
    raise AssertionError("evaluated")


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: minimize(3, [1.0]), TypeError, "f must be a function"),
    (lambda: minimize(never, "text"), TypeError, "x0"),
    (lambda: minimize(never, []), ValueError, "x0 holds no numbers"),
    (lambda: minimize(never, [math.nan]), ValueError, "x0 must be finite"),
    (lambda: minimize(never, [True]), TypeError, "x0 must be real"),
    (lambda: minimize(never, [1.0], "bfsg"), ValueError, "did you mean 'bfgs'"),
    (lambda: minimize(never, [1.0], 7), TypeError, "method must be a name"),
    (lambda: minimize(never, [1.0], "l-bfgs", options={"memry": 3}), TypeError, "mean 'memory'"),
    (lambda: minimize(never, [1.0], "bfgs", options={"maxiter": 3}), TypeError, "parameter of min"),
    (lambda: minimize(never, [1.0], "l-bfgs-b", bounds=(2, 1)), ValueError, "crossed"),
    (lambda: minimize(never, [5.0], "l-bfgs-b", bounds=(0, 1)), ValueError, "outside of the bound"),
    (lambda: minimize(never, [1.0], "l-bfgs-b", bounds=[(0, 1)] * 2), ValueError, "2 bounds for 1"),
    (lambda: minimize(never, [1.0], "l-bfgs-b", bounds=(np.zeros(3), 1)), ValueError, "shapes"),
    (lambda: minimize(never, [1.0], "l-bfgs-b", bounds=7), TypeError, "bounds must be a tuple"),
    (lambda: minimize(never, [1.0], "bfgs", bounds=(0, 2)), ValueError, "takes no bounds"),
    (
        lambda: minimize(never, [1.0], "bfgs", constraints={"type": "eq", "fun": never}),
        ValueError,
        "takes no constraints",
    ),
    (lambda: minimize(never, [1.0], constraints={"typ": "eq"}), TypeError, "mean 'type'"),
    (lambda: minimize(never, [1.0], constraints={"type": "eq"}), ValueError, "needs 'type'"),
    (lambda: minimize(never, [1.0], "bfgs", maxiter=0), ValueError, "maxiter"),
    (lambda: minimize(never, [1.0], "bfgs", maxtime=-1), ValueError, "maxtime"),
    (lambda: minimize(never, [1.0], "bfgs", tol=-1), ValueError, "tol"),
    (lambda: minimize(never, [1.0], "bfgs", callback=3), TypeError, "callback"),
    (
        lambda: minimize(never, [1.0], "bfgs", options={"gradient": "4-point"}),
        ValueError,
        "gradient",
    ),
    (
        lambda: minimize(
            never,
            [1.0],
            constraints={"type": "eq", "fun": never},
            options={"gradient": lambda x: x},
        ),
        ValueError,
        "of no use",
    ),
    (lambda: minimize(lambda x: x, ad.ones(3), "bfgs"), ValueError, "one number"),
    (lambda: minimize(lambda x: float(np.sum(x.numpy())), [1.0], "bfgs"), TypeError, "nelder-mead"),
    (lambda: minimize(lambda x: "no", [1.0], "bfgs"), TypeError, "one number"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input_is_told_before_anything_is_evaluated(case: int) -> None:
    call, error, text = BAD[case]
    with pytest.raises(error, match=r"\[minimize\]") as caught:
        call()
    assert text in str(caught.value)
