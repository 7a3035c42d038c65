"""SciPy's own solvers take functions of this library, and their derivatives, as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as ad

scipy = pytest.importorskip("scipy.optimize")

START = [-1.2, 1.0]
BOUNDS = [(-2, 2)] * 2


def rosenbrock(p: Any) -> Any:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def residuals(x: Any) -> Any:
    return ad.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@pytest.mark.parametrize(
    "method",
    [
        "BFGS",
        "CG",
        "L-BFGS-B",
        "TNC",
        "SLSQP",
        "Newton-CG",
        "dogleg",
        "trust-ncg",
        "trust-krylov",
        "trust-exact",
        "trust-constr",
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore:delta_grad")
def test_minimize(method: str, compiled: bool) -> None:
    both, hessian = ad.value_and_grad(rosenbrock), ad.hessian(rosenbrock)
    if compiled:
        both, hessian = ad.compile(both), ad.compile(hessian)
    more = {"hess": hessian} if method[0] in "Ntd" else {}
    result = scipy.minimize(both, START, jac=True, method=method, **more)
    np.testing.assert_allclose(result.x, 1, atol=1e-2 if method == "CG" else 1e-3)
    result = scipy.minimize(rosenbrock, START, jac=ad.grad(rosenbrock), method=method, **more)
    np.testing.assert_allclose(result.x, 1, atol=1e-2)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares(method: str) -> None:
    jacobian = ad.jacobian(residuals)
    result = scipy.least_squares(residuals, START, jac=jacobian, method=method)
    np.testing.assert_allclose(result.x, 1, atol=1e-6)


@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_root(method: str) -> None:
    result = scipy.root(residuals, START, jac=ad.jacobian(residuals), method=method)
    np.testing.assert_allclose(result.x, 1, atol=1e-6)


@pytest.mark.parametrize("solver", ["brentq", "brenth", "bisect", "ridder", "toms748"])
def test_scalar_roots(solver: str) -> None:
    slope = ad.grad(lambda x, a: (x - a) ** 2)
    assert abs(getattr(scipy, solver)(slope, -1.0, 3.5, args=(1.0,)) - 1) < 1e-9
    assert abs(getattr(scipy, solver)(ad.compile(ad.cos), 0.0, 3.0) - np.pi / 2) < 1e-9


def test_newton_for_scalars() -> None:
    cube = lambda x: x**3 - 2  # noqa: E731
    assert abs(scipy.newton(cube, 1.0, fprime=ad.grad(cube)) - 2 ** (1 / 3)) < 1e-12
    found = scipy.root_scalar(ad.value_and_grad(cube), x0=1.0, fprime=True, method="newton")
    assert abs(found.root - 2 ** (1 / 3)) < 1e-12


@pytest.mark.parametrize("f", [rosenbrock, ad.compile(rosenbrock)])
def test_global_solvers(f: Any) -> None:
    found = scipy.differential_evolution(f, BOUNDS, seed=1)
    np.testing.assert_allclose(found.x, 1, atol=1e-4)
    np.testing.assert_allclose(scipy.dual_annealing(f, BOUNDS, maxiter=50, seed=1).x, 1, atol=1e-2)
    np.testing.assert_allclose(scipy.direct(f, BOUNDS).x, 1, atol=0.1)
    options = {"jac": True}
    both = ad.value_and_grad(rosenbrock)
    found = scipy.basinhopping(both, START, niter=3, minimizer_kwargs=options, rng=1)
    np.testing.assert_allclose(found.x, 1, atol=1e-3)


def test_constraints() -> None:
    inside = lambda x: 1 - ad.sum(ad.asarray(x) ** 2)  # noqa: E731
    constraint = {"type": "ineq", "fun": inside, "jac": ad.grad(inside)}
    both = ad.value_and_grad(rosenbrock)
    found = scipy.minimize(both, [0.1, 0.1], jac=True, method="SLSQP", constraints=constraint)
    assert abs(found.x @ found.x - 1) < 1e-6


def test_what_is_handed_to_other_code_is_an_array() -> None:
    plain = np.atleast_1d(ad.tensor(2.0))
    assert type(plain) is np.ndarray and plain.tolist() == [2.0]
    pair = np.atleast_2d(ad.ones(2), 3.0)
    assert [x.shape for x in pair] == [(1, 2), (1, 1)]
    # One whose derivative is asked for stays a tensor.
    slope = ad.grad(lambda x: ad.sum(np.atleast_1d(x) * 3.0))(2.0)
    assert slope.item() == 3.0
    w = ad.tensor(2.0, requires_grad=True)
    np.sum(np.atleast_2d(w)).backward()
    assert w.grad is not None and w.grad.item() == 1.0
