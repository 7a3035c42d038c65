"""Solvers called wrongly: one clear error before anything is evaluated, or a proper result."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim.methods import METHODS
from mgh_problems import PROBLEMS

optim = ad.optim
minimize, least_squares = optim.minimize, optim.least_squares
ITERATIVE = [*METHODS, "adam", "nelder-mead", "cma-es", "augmented-lagrangian"]


class Odd:
    """An object that is nothing a solver could want."""


HOSTILE: list[Any] = [
    "x",
    b"x",
    -1,
    1.5,
    True,
    1j,
    math.nan,
    -math.inf,
    10**400,
    Odd(),
    Odd,
    [],
    {},
    {"a": 1},
    set(),
    [1, [2, 3]],
    [None],
    [(0,)],
    (1, 0),
    (math.nan, 1),
    ("a", "b"),
    ([0, 0], [1, 1, 1]),
    (np.zeros(2), np.zeros((2, 2))),
    lambda: None,
    np.ones(3),
    np.ones((2, 2)),
    np.array(["a"]),
    np.array([1j, 2]),
    np.array([1, Odd()], dtype=object),
    np.zeros(0),
    ad.ones(2),
    ad.asarray(2.5),
]
EVALUATED: list[Any] = []


def bowl(x: Any) -> Any:
    EVALUATED.append(x)
    return ad.sum((x - 1.0) ** 2)


def gaps(x: Any) -> Any:
    EVALUATED.append(x)
    return x - 1.0


def line(x: Any, a: Any, b: Any) -> Any:
    EVALUATED.append(a)
    return a * x + b


DATA = np.linspace(0, 1, 5)
SOLVERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "minimize": (
        {"f": bowl, "x0": [0.3, 0.4]},
        "f method args bounds constraints tol maxiter maxfun maxtime seed callback executor batch "
        "progress options has_aux".split(),
    ),
    "least_squares": (
        {"residuals": gaps, "x0": [0.3, 0.4]},
        "residuals method args bounds loss loss_scale tol maxiter maxfun maxtime callback progress "
        "options".split(),
    ),
    "root": (
        {"f": gaps, "x0": [0.3, 0.4]},
        "f args tol maxiter maxfun maxtime callback progress options".split(),
    ),
    "curve_fit": (
        {"model": line, "xdata": DATA, "ydata": 2 * DATA + 1, "p0": [1.0, 1.0]},
        "model p0 sigma absolute_sigma bounds method full_output loss loss_scale tol maxiter "
        "maxfun maxtime callback progress options".split(),
    ),
}
# What is no mistake.
FINE = {
    ("maxtime", "1.5"),
    ("maxtime", repr(ad.asarray(2.5))),
    ("tol", "1.5"),
    ("tol", repr(ad.asarray(2.5))),
    ("loss_scale", "1.5"),
    ("loss_scale", repr(ad.asarray(2.5))),
    ("sigma", "1.5"),
    ("sigma", "True"),
    ("sigma", repr(ad.asarray(2.5))),
    *((flag, "True") for flag in ("progress", "absolute_sigma", "full_output", "batch", "has_aux")),
    *((count, repr(10**400)) for count in ("maxiter", "maxfun", "batch")),
    ("p0", "(1, 0)"),
    ("p0", repr(ad.ones(2))),
    ("options", "{}"),
    ("constraints", "[]"),
    ("bounds", repr(np.ones((2, 2)))),  # a row for each parameter
}


@pytest.mark.parametrize("which", range(len(HOSTILE)))
@pytest.mark.parametrize(
    ("solver", "name"), [(s, name) for s, (_, names) in SOLVERS.items() for name in names]
)
def test_hostile_arguments(solver: str, name: str, which: int, capsys: Any) -> None:
    value = HOSTILE[which]
    if (name, repr(value)) in FINE or (name == "executor" and callable(value)):
        return
    EVALUATED.clear()
    with pytest.raises((TypeError, ValueError), match=rf"^\[({solver}|evaluate)\] .") as caught:
        getattr(optim, solver)(**SOLVERS[solver][0] | {name: value})
    assert not EVALUATED, "it was evaluated first"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("x0", [h for h in HOSTILE if not isinstance(h, (tuple, np.ndarray))])
def test_hostile_starts(x0: Any) -> None:
    if isinstance(x0, ad.Tensor) or x0 in (-1, 1.5) or x0 in ([(0,)], {"a": 1}):
        return  # which can be started from
    for solver, f in ((minimize, bowl), (least_squares, gaps), (optim.root, gaps)):
        with pytest.raises((TypeError, ValueError), match=rf"^\[{solver.__name__}\] x0 "):
            solver(f, x0)


OPTIONS = {
    "accept": (-0.1, 0.25),
    "compile": (1, None),
    "ctol": (-1.0, math.nan),
    "curvature": (0.0, 1.0),
    "decrease": (0.0, 0.5),
    "ftol": (-1.0, "x"),
    "gradient": (None, "4-point", 3),
    "growth": (1.0, math.inf),
    "gtol": (-1e-9, math.nan, None, [1e-5]),
    "initial_radius": (0.0, -1.0),
    "max_length": (0.0, "x"),
    "max_radius": (0, math.nan),
    "memory": (0, 1.5, True, None),
    "min_curvature": (0.0, 1j),
    "min_length": (0.0, -1.0),
    "penalty": (0.0, -1.0),
}


@pytest.mark.parametrize("method", [*METHODS, "augmented-lagrangian"])
def test_values_of_options(method: str) -> None:
    on_line = {"type": "eq", "fun": lambda x: x[0] - x[1]}
    conditions = (on_line,) if method == "augmented-lagrangian" else ()
    known = [*METHODS[method].options()] if method in METHODS else ["ctol", "penalty", "growth"]
    for name in [*known, "compile", "gradient"]:
        for value in OPTIONS[name]:
            EVALUATED.clear()
            with pytest.raises((TypeError, ValueError), match=rf"^\[minimize\] {name} "):
                minimize(bowl, [0.3, 0.4], method, constraints=conditions, options={name: value})
            assert not EVALUATED


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"\[minimize\] decrease=0.4 must not be above curvature"):
        minimize(bowl, [1.0], "l-bfgs", options={"decrease": 0.4, "curvature": 0.3})
    with pytest.raises(ValueError, match=r"\[minimize\] min_length=2 must not be above max_length"):
        minimize(bowl, [1.0], "projected-gradient", options={"min_length": 2, "max_length": 1})


def test_options_of_least_squares() -> None:
    for name in ("ftol", "xtol", "gtol", "factor", "compile", "jacobian"):
        for value in (-1.0, "x", None, [1.0], math.nan):
            with pytest.raises((TypeError, ValueError), match=rf"^\[least_squares\] {name} "):
                least_squares(gaps, [0.3], options={name: value})


def test_words_of_other_libraries() -> None:
    with pytest.raises(TypeError, match=r"the parameter is learning_rate=, not lr="):
        minimize(bowl, [1.0], "adam", options={"lr": 0.1})
    with pytest.raises(TypeError, match=r"\[Adagrad\] the parameter is learning_rate_decay="):
        optim.Adagrad([ad.ones(1)], lr_decay=0.1)
    with pytest.raises(TypeError, match=r"\[curve_fit\] the parameter is loss_scale=, not f_scale"):
        optim.curve_fit(line, DATA, DATA, f_scale=2.0)


def test_what_is_called_counts_not_what_it_wraps() -> None:
    def scaled(x: Any, factor: float) -> Any:
        return factor * ad.sum((x - 1.0) ** 2)

    @functools.wraps(scaled)
    def doubled(x: Any) -> Any:
        return scaled(x, 2.0)

    class Bowl:
        def value(self, x: Any, shift: float = 1.0) -> Any:
            return ad.sum((x - shift) ** 2)

        __call__ = value

    made = [doubled, functools.partial(scaled, factor=2.0), Bowl(), Bowl().value, ad.compile(bowl)]
    for f in made:
        np.testing.assert_allclose(minimize(f, [0.3, 0.4]).x.numpy(), 1.0, atol=1e-6)
    for f in (Bowl(), Bowl().value):
        np.testing.assert_allclose(minimize(f, [0.3], args=(3.0,)).x.numpy(), 3.0, atol=1e-6)
        with pytest.raises(TypeError, match=r"\[minimize\] f cannot be called with x0 and the 2"):
            minimize(f, [0.3], args=(3.0, 4.0))


# ---- What functions return -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *ITERATIVE])
@pytest.mark.parametrize(
    "returned", [None, "a", 1j, {"a": 1.0}, [1.0], (ad.ones(()), 2), ad.ones(3), ad.zeros(0), bowl]
)
def test_an_objective_must_return_a_number(method: str, returned: Any) -> None:
    on_line = {"type": "eq", "fun": lambda x: x[0] - x[1]}
    conditions = (on_line,) if method == "augmented-lagrangian" else ()
    wanted = "one number|a tensor that is computed"
    with pytest.raises((TypeError, ValueError, optim.EvaluationError), match=wanted):
        minimize(lambda x: returned, [0.3, 0.4], method, constraints=conditions)


@pytest.mark.parametrize("method", ["auto", *ITERATIVE])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_objective_that_is_never_finite(method: str, value: float) -> None:
    on_line = {"type": "eq", "fun": lambda x: x[0] - x[1]}
    conditions = (on_line,) if method == "augmented-lagrangian" else ()
    result = minimize(
        lambda x: value * ad.sum(x * x + 1), [0.3, 0.4], method, maxfun=50, constraints=conditions
    )
    assert not result.success and "finite" in result.reason
    assert math.isnan(result.fun) and result.x.tolist() == [0.3, 0.4]


@pytest.mark.parametrize("function", [lambda x: x.numpy() - 1, lambda x: np.ones(3), lambda x: 2.0])
@pytest.mark.parametrize("method", ["lm", "gauss-newton"])
def test_residuals_without_a_jacobian_are_refused(function: Any, method: str) -> None:
    with pytest.raises(TypeError, match=r"\[least_squares\] the Jacobian is needed.*'2-point'"):
        least_squares(function, [0.3, 0.4], method)


def test_residuals_of_numpy_by_differences() -> None:
    result = least_squares(lambda x: x.numpy() - 1, [0.3, 0.4], options={"jacobian": "3-point"})
    np.testing.assert_allclose(result.x.numpy(), 1.0, rtol=1e-9)
    # A residual that does not depend on x counts as such where others do.
    assert least_squares(lambda x: [x - 1, np.ones(2)], [0.3, 0.4]).cost == pytest.approx(1.0)


def test_residuals_that_are_none() -> None:
    for out in ([], ad.zeros(0), ()):
        with pytest.raises(
            ValueError, match=r"\[least_squares\] the function returns no residuals"
        ):
            least_squares(lambda x, out=out: out, [0.3])
    with pytest.raises(TypeError, match=r"\[least_squares\] the function must return numbers"):
        least_squares(lambda x: "a", [0.3])


@pytest.mark.parametrize(
    "given", [lambda x: None, lambda x: np.ones(3), lambda x: {"a": x, "b": x}]
)
def test_gradients_of_another_shape(given: Callable[..., Any]) -> None:
    expected = r"\[minimize\] the gradient must be (a tree )?like x0"
    with pytest.raises((TypeError, ValueError), match=expected):
        minimize(bowl, [0.3, 0.4], options={"gradient": given})


@pytest.mark.parametrize("given", [np.ones(3), np.ones((3, 2)), np.ones((2, 3)), 1.0])
def test_jacobians_of_another_shape(given: Any) -> None:
    with pytest.raises(ValueError, match=r"\[least_squares\] the Jacobian must have a row"):
        least_squares(gaps, [0.3, 0.4], options={"jacobian": lambda x: given})


@pytest.mark.parametrize("method", ["auto", *METHODS, "adam", "nelder-mead", "cma-es"])
def test_what_a_callback_raises_comes_through(method: str) -> None:
    def callback(result: Any) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(bowl, [0.3, 0.4], method, callback=callback, maxiter=5)


# ---- Constraints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["eq", "ineq"])
@pytest.mark.parametrize(
    "fun", [lambda x: float(x.numpy()[0]) - 1, lambda x: ad.zeros(()), lambda x: None]
)
def test_constraints_without_a_gradient_are_refused(kind: str, fun: Any) -> None:
    with pytest.raises(TypeError, match=r"\[minimize\] a constraint must return a tensor"):
        minimize(bowl, [0.3, 0.4], constraints={"type": kind, "fun": fun})


def test_an_objective_without_a_gradient_is_no_constant() -> None:
    on_line = {"type": "eq", "fun": lambda x: ad.sum(x) - 1}
    with pytest.raises(TypeError, match=r"\[minimize\] the objective must return a tensor"):
        minimize(lambda x: float(np.sum(x.numpy() ** 2)), [0.3, 0.4], constraints=on_line)
    with pytest.raises(ValueError, match=r"a gradient of the objective alone is of no use"):
        minimize(bowl, [0.3, 0.4], constraints=on_line, options={"gradient": lambda x: 2 * x})
    result = minimize(
        lambda x: float(np.sum(x.numpy() ** 2)),
        [0.3, 0.4],
        constraints={"type": "eq", "fun": lambda x: float(np.sum(x.numpy())) - 1},
        options={"gradient": "3-point"},
    )
    np.testing.assert_allclose(result.x.numpy(), 0.5, atol=1e-5)


@pytest.mark.parametrize("kind", ["eq", "ineq"])
@pytest.mark.parametrize("gradient", ["auto", "2-point"])
def test_constraints_that_are_never_finite(kind: str, gradient: str) -> None:
    condition = {"type": kind, "fun": lambda x: x[0] * math.nan}
    result = minimize(bowl, [0.3, 0.4], constraints=condition, options={"gradient": gradient})
    assert not result.success and "not finite" in result.reason


@pytest.mark.parametrize(
    ("given", "error"), [(3, TypeError), ({"type": "eq", "fun": 3}, TypeError)]
)
def test_constraints_of_another_kind(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^\[minimize\] "):
        minimize(bowl, [0.3, 0.4], constraints=given)


# ---- Data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 1), (1,), (4,), ()])
def test_a_model_is_not_broadcast_against_the_data(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[curve_fit\] the model must return what is like ydata"):
        optim.curve_fit(line, DATA, np.ones(shape), [1.0, 1.0])


def test_lists_of_numbers_are_data() -> None:
    popt, _ = optim.curve_fit(lambda x, a, b: a * x + b, [0, 1, 2.0], [1, 3, 5])
    np.testing.assert_allclose(popt.numpy(), [2.0, 1.0], rtol=1e-9)


def test_a_model_of_one_number() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        popt, pcov = optim.curve_fit(lambda x, a: a, DATA, [1.0, 2.0, 3.0, 4.0, 5.0], [0.0])
    assert popt.item() == pytest.approx(3.0) and pcov.item() == pytest.approx(2.5 / 5)


def test_data_and_starts_of_curves() -> None:
    for name, value in (("xdata", "x"), ("ydata", None), ("xdata", [1, math.inf]), ("ydata", 1j)):
        given = {"xdata": DATA, "ydata": DATA} | {name: value}
        with pytest.raises((TypeError, ValueError), match=rf"\[curve_fit\] {name} must be"):
            optim.curve_fit(line, p0=[1.0, 1.0], **given)
    with pytest.raises(TypeError, match=r"\[curve_fit\] model cannot be called with xdata and the"):
        optim.curve_fit(line, DATA, DATA, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"\[curve_fit\] p0 lies outside of the bounds"):
        optim.curve_fit(line, DATA, DATA, [1.0, 1.0], bounds=(2.0, 3.0))


# ---- Success -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["trust-exact", "trust-ncg", "newton", "newton-cg", "bfgs"])
def test_success_means_that_the_test_of_convergence_was_met(method: str) -> None:
    """Meyer's function, of size 1e9 at the start: rounding ends some methods above the minimum."""
    problem = next(p for p in PROBLEMS if p.name == "Meyer")
    result = minimize(problem, [float(v) for v in problem.start], method, maxiter=20_000)
    largest = float(np.max(np.abs(result.grad.numpy())))
    assert result.success == (largest <= 1e-5)
    assert result.success or "no lower value" in result.reason or "maxiter" in result.reason


def test_gauss_newton_that_finds_nothing_lower_has_not_converged() -> None:
    result = least_squares(
        lambda x: x - 1.0, [3.0], "gauss-newton", options={"jacobian": lambda x: [[-1.0]]}
    )
    assert not result.success and "no lower sum" in result.reason


# ---- A point given for argnums -------------------------------------------------------------------


@pytest.mark.parametrize("make", [ad.grad, ad.value_and_grad, ad.jacobian, ad.hessian])
@pytest.mark.parametrize(
    "point", [1.0, np.ones(2), ad.ones(2), ad.asarray(3), [1.0, 2.0], (0, 0.5), {"a": 1.0}, "x"]
)
def test_a_point_in_the_place_of_argnums(make: Any, point: Any) -> None:
    name = make.__name__
    message = rf"\[{name}\] argnums must be an int.*write {name}\(f\)\(x\).*minimize\(f, x0\)"
    with pytest.raises(TypeError, match=message):
        make(bowl, point)
