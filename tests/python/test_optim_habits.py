"""What people who know SciPy, PyTorch or optax try first: it works, or is told what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim import curve_fit, least_squares, minimize, root


def bowl(x: Any) -> Any:
    return ad.sum((x - 1.0) ** 2)


# ---- Modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
def test_a_module_comes_back_as_trainable_as_it_was(given: bool) -> None:
    ad.random.seed(0)
    x, y = ad.tensor([[1.0], [2.0], [3.0]]), ad.tensor([[3.0], [5.0], [7.0]])
    start = ad.nn.Linear(1, 1, dtype=ad.float64)
    start.bias.requires_grad = False

    def loss(m: Any, *args: Any) -> Any:
        return ad.mean((m(x) - y) ** 2)

    def residuals(m: Any, *args: Any) -> Any:
        return m(x) - y

    args = (x,) if given else ()
    for result in (
        minimize(loss, start, args=args),
        minimize(loss, start, "nelder-mead", args=args),
        minimize(lambda p, *args: loss(p["m"]), {"m": start}, args=args),
        least_squares(residuals, start, args=args),
    ):
        found = result.x["m"] if isinstance(result.x, dict) else result.x
        assert found.weight.requires_grad and not found.bias.requires_grad
        assert start.weight is not found.weight
        loss(found).backward()
        rest = found.weight.item() * x.numpy() + found.bias.item() - y.numpy()
        slope = 2 * np.mean(rest * x.numpy())
        assert abs(found.weight.grad.item() - slope) < 1e-12
    assert not minimize(bowl, ad.zeros(2)).x.requires_grad


# ---- Other libraries' words ----------------------------------------------------------------------


def never(*args: Any) -> Any:
    raise AssertionError("evaluated")


KEYWORDS = [
    (minimize, {"jac": True}, "options={'gradient': g}"),
    (minimize, {"hess": never}, "leave it out"),
    (minimize, {"disp": True}, "progress=True"),
    (minimize, {"popsize": 15}, "options={'population_size': ...}"),
    (minimize, {"workers": 2}, "executor="),
    (minimize, {"ftol": 1e-9}, "options={'ftol': ...}, or tol="),
    (minimize, {"metod": "bfgs"}, "did you mean method=?"),
    (least_squares, {"f_scale": 0.1}, "the parameter is loss_scale=, not f_scale="),
    (least_squares, {"max_nfev": 10}, "the parameter is maxfun=, not max_nfev="),
    (least_squares, {"jac": "2-point"}, "options={'jacobian': g}"),
    (least_squares, {"x_scale": "jac"}, "leave it out"),
    (least_squares, {"ftol": 1e-9}, "or tol="),
    (least_squares, {"verbose": 2}, "progress=True"),
    (root, {"method": "hybr"}, "there is one method"),
    (root, {"jac": True}, "options={'jacobian': g}"),
]


@pytest.mark.parametrize(("solve", "keywords", "advice"), KEYWORDS)
def test_keywords_of_scipy_are_answered_by_ours(
    solve: Callable[..., Any], keywords: dict[str, Any], advice: str
) -> None:
    with pytest.raises(TypeError) as caught:
        solve(never, [1.0, 2.0], **keywords)
    assert str(caught.value).startswith(f"[{solve.__name__}] the")
    assert advice in str(caught.value)


def test_keywords_of_curve_fit_and_of_searches() -> None:
    for keywords, advice in (
        ({"maxfev": 5}, "the parameter is maxfun=, not maxfev="),
        ({"f_scale": 2.0}, "the parameter is loss_scale=, not f_scale="),
        ({"check_finite": False}, "there is no parameter check_finite=: .* leave it out"),
    ):
        with pytest.raises(TypeError, match=rf"\[curve_fit\] {advice}"):
            curve_fit(never, [1.0], [1.0], [1.0], **keywords)
    for keywords, advice in (
        ({"sigma0": 0.5}, "the parameter is scale=, not sigma0="),
        ({"popsize": 8}, "there is no parameter popsize=: write population_size="),
        ({"sede": 1}, "there is no parameter sede=: did you mean seed="),
    ):
        with pytest.raises(TypeError, match=rf"\[CMAES\] {advice}"):
            ad.optim.search.CMAES([1.0, 2.0], **keywords)


@pytest.mark.parametrize(
    ("method", "options", "advice"),
    [
        ("cma-es", {"sigma0": 0.5}, r"options={'scale': ...}"),
        ("cma-es", {"disp": True}, "progress=True"),
        ("cma-es", {"memory": 5}, "There are active"),  # of another method: no advice to write it
        ("l-bfgs", {"maxcor": 5}, r"options={'memory': ...}"),
        ("l-bfgs", {"maxfev": 5}, "maxfun="),
        ("nelder-mead", {"compile": False}, "calls the function as it is"),
        ("nelder-mead", {"gradient": "2-point"}, "takes no gradients"),
    ],
)
def test_options_of_elsewhere(method: str, options: dict[str, Any], advice: str) -> None:
    with pytest.raises(TypeError) as caught:
        minimize(never, [1.0, 2.0], method, options=options)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("SLSQP", "augmented-lagrangian"),
        ("trust-constr", "augmented-lagrangian"),
        ("COBYLA", "augmented-lagrangian"),
        ("dogleg", "trust-exact"),
        ("TNC", "l-bfgs-b"),
        ("Powell", "nelder-mead"),
    ],
)
def test_methods_of_scipy_are_answered_by_one_that_can_do_it(method: str, ours: str) -> None:
    with pytest.raises(ValueError, match=f"there is no method '{method}' here: use '{ours}'"):
        minimize(never, [1.0, 2.0], method)


def test_functions_of_numpy_are_told_what_the_solver_has() -> None:
    def gap(x: Any) -> Any:
        return np.array([np.asarray(x)[0] ** 2 - 4.0])

    for solve in (least_squares, root):
        with pytest.raises(TypeError, match=r"options=\{'jacobian': '2-point'\}") as caught:
            solve(gap, [1.0])
        assert "nelder-mead" not in str(caught.value) and "'gradient'" not in str(caught.value)
        x = solve(gap, [1.0], options={"jacobian": "2-point"}).x
        assert abs(x.item() - 2.0) < 1e-6


@pytest.mark.parametrize("method", ["auto", "bfgs", "nelder-mead"])
def test_a_pair_of_value_and_gradient_is_explained(method: str) -> None:
    with pytest.raises(
        (TypeError, ad.optim.EvaluationError), match="gradients are taken automatically"
    ):
        minimize(ad.value_and_grad(bowl), [1.0, 2.0], method)


# ---- Transforms over solvers ---------------------------------------------------------------------


@pytest.mark.parametrize("transform", [ad.compile, ad.vmap])
@pytest.mark.parametrize("given", [True, False])
def test_a_solver_in_a_trace_says_so(transform: Any, given: bool) -> None:
    def gap(x: Any, a: Any) -> Any:
        return x * x - a

    def square(x: Any, a: Any) -> Any:
        return ad.sum(gap(x, a) ** 2)

    solvers: dict[str, Callable[..., Any]] = {
        "minimize": lambda f, args: minimize(f, 1.0, args=args),
        "least_squares": lambda f, args: least_squares(f, 1.0, args=args),
        "root": lambda f, args: root(f, 1.0, args=args),
    }
    for name, solve in solvers.items():
        plain = square if name == "minimize" else gap

        def found(a: Any, solve: Any = solve, plain: Any = plain) -> Any:
            return solve(plain, (a,)).x if given else solve(lambda x: plain(x, a), ()).x

        with pytest.raises(ad.TracedValueError, match=rf"^\[{name}\] a solver decides by values"):
            transform(found)(ad.tensor([4.0, 9.0]))
    with pytest.raises(ad.TracedValueError, match=r"^\[minimize\] a solver"):
        transform(lambda a: minimize(square, 1.0, "nelder-mead", args=(a,)).x)(ad.ones(2))
    with pytest.raises(ad.TracedValueError, match=r"^\[curve_fit\] a solver"):
        transform(lambda a: curve_fit(lambda x, p: p * x, a, a, [1.0])[0])(ad.ones((2, 3)))


def test_what_else_a_function_does_wrong_is_told_as_ever() -> None:
    def taken_out(x: Any) -> Any:
        return ad.asarray(np.asarray(x) ** 2 - 4.0)

    with pytest.raises(TypeError, match=r"^\[least_squares\] the Jacobian is needed"):
        least_squares(taken_out, [1.0])


def test_a_solver_within_the_objective_of_another_runs() -> None:
    # The inner minimum is at y = x, so that the outer function is (x - 3)**2 + x**2.
    def outer(x: Any) -> Any:
        y = minimize(lambda y, x: (y - x) ** 2, 0.0, args=(x,), tol=1e-10).x
        return (y - 3.0) ** 2 + x**2

    assert abs(minimize(outer, 0.0).x.item() - 1.5) < 1e-5


# ---- The training loop and the package -----------------------------------------------------------


def test_habits_of_a_training_loop() -> None:
    w = ad.tensor(3.0, requires_grad=True)
    opt = ad.optim.SGD([w], 0.25)
    (w * w).backward()
    with pytest.raises(TypeError, match=r"\[SGD.step\] takes no closure: call it before"):
        opt.step(lambda: w * w)  # type: ignore[arg-type]
    assert w.item() == 3.0
    opt.step()
    assert w.item() == 1.5
    opt.zero_grad(set_to_none=True)
    assert w.grad is None
    with pytest.raises(ValueError, match=r"\[SGD.zero_grad\] each grad becomes None"):
        opt.zero_grad(set_to_none=False)
    with pytest.raises(KeyError, match="'lr' is called learning_rate here"):
        opt.param_groups[0]["lr"]
    assert "lr" not in opt.param_groups[0]


def test_groups_are_compared_by_identity() -> None:
    params = [ad.tensor([1.0, 2.0], requires_grad=True), ad.tensor([1.0, 2.0], requires_grad=True)]
    opt = ad.optim.SGD([{"params": [p]} for p in params], 0.1)
    first, second = opt.param_groups
    assert first == first and first != second and second in opt.param_groups
    assert opt.param_groups.index(second) == 1 and len({first, second}) == 2


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("adam", "Adam"),
        ("sgd", "SGD"),
        ("adamw", "AdamW"),
        ("clip_grad_norm_", "clip_grad_norm"),
        ("clip_by_global_norm", "clip_by_norm"),
        ("ReduceLROnPlateau", "ReduceOnPlateau"),
        ("cosine_decay_schedule", "cosine_schedule"),
        ("fsolve", "root"),
        ("CMAES", "ad.optim.search.CMAES"),
    ],
)
def test_names_of_elsewhere(name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"'{name}': the name here is {ours}$"):
        getattr(ad.optim, name)


def test_every_advised_name_is_there_and_dir_lists_the_public_ones() -> None:
    from adjoint.optim import words

    for ours in words._NAMES.values():
        first = ours.split(",")[0].split(" ")[0]
        assert first in ad.optim.__all__ or first in ("a", "any"), ours
    for methods in words.METHODS_ELSEWHERE.values():
        name = methods.split("'")[1]
        constraints = {"type": "eq", "fun": lambda x: x[0]} if name.startswith("aug") else ()
        minimize(bowl, [0.5, 2.0], name, constraints=constraints, maxiter=1)
    assert dir(ad.optim) == sorted(ad.optim.__all__)


# ---- Results -------------------------------------------------------------------------------------


def test_results_are_compared_by_identity_and_name_their_parts() -> None:
    result, other = minimize(bowl, [3.0, 2.0]), minimize(bowl, [3.0, 2.0])
    assert result == result and result != other and len({result, other}) == 2
    for theirs, ours in (
        ("message", "reason"),
        ("status", "success"),
        ("njev", "ngev"),
        ("hess_inv", "ad.hessian"),
    ):
        with pytest.raises(AttributeError, match=f"there is no '{theirs}': it is .*{ours}"):
            getattr(result, theirs)
        assert not hasattr(result, theirs)
    with pytest.raises(AttributeError, match="there are x, fun"):
        result.nonsense  # noqa: B018
    with pytest.raises(TypeError, match=r"write result\.x"):
        result["x"]


@pytest.mark.parametrize("method", ["nelder-mead", "l-bfgs"])
def test_an_interrupt_carries_the_best_point(method: str) -> None:
    seen: list[tuple[float, list[float]]] = []

    def f(x: Any) -> Any:
        if len(seen) == 6:
            raise KeyboardInterrupt
        value = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
        seen.append((value.item(), x.tolist()))
        return value

    options = {} if method == "nelder-mead" else {"gradient": "2-point"}
    with pytest.raises(KeyboardInterrupt) as caught:
        minimize(f, [-1.2, 1.0], method, options=options)
    result = caught.value.result  # type: ignore[attr-defined]
    assert (result.fun, result.x.tolist()) == min(seen)
    assert not result.success and result.reason == "it was interrupted"


def test_x0_may_be_left_to_the_bounds() -> None:
    points: list[list[float]] = []

    def f(x: Any) -> Any:
        points.append(np.asarray(x).tolist())
        return float(np.sum((np.asarray(x) - [1.0, 2.0]) ** 2))

    result = minimize(f, None, "differential-evolution", bounds=[(0, 4), (-1, 5)], seed=0)
    np.testing.assert_allclose(result.x.numpy(), [1, 2], atol=1e-4)
    assert [2.0, 2.0] in points[:20]  # the centre is one of the first population
    for bounds in (np.array([[0, 4], [-1, 5]]), (np.array([0, -1]), np.array([4, 5.0]))):
        result = minimize(bowl, None, bounds=bounds, maxiter=1)
        assert result.x.shape == (2,)
    for bounds, error in ((None, TypeError), ([(0, None)], ValueError), (({"a": 1}, 2), TypeError)):
        with pytest.raises(error, match=r"\[minimize\] "):
            minimize(never, None, bounds=bounds)


@pytest.mark.parametrize("kind", ["eq", "ineq"])
def test_the_sign_of_multipliers(kind: str) -> None:
    # Of x**2 + y**2 with x + y = 2, or at least 2: at (1, 1) the gradient is (2, 2), that of the
    # constraint (1, 1); equalities add, inequalities subtract.
    constraint = {"type": kind, "fun": lambda p: p[0] + p[1] - 2.0}
    result = minimize(lambda p: ad.sum(p**2), [3.0, 0.0], constraints=constraint)
    np.testing.assert_allclose(result.x.numpy(), [1, 1], atol=1e-5)
    assert abs(result.multipliers[0].item() - (-2.0 if kind == "eq" else 2.0)) < 1e-4
