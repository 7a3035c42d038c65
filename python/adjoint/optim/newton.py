"""Newton's method with a line search: with the whole Hessian, or products with it alone."""

from __future__ import annotations

import numpy as np

from adjoint.optim.line_search import Wolfe, search_line
from adjoint.optim.objective import Array, Objective, Stop
from adjoint.optim.trust_region import truncated_cg

__all__ = ["newton", "newton_cg"]


def newton(objective: Objective, *, gtol: float, min_curvature: float = 1e-8) -> None:
    """Newton's method whose Hessian is made positive definite by the size of its eigenvalues.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger.
    min_curvature : float
        Curvatures below this share of the largest count as such.

    Examples
    --------
    >>> import adjoint as ad
    >>> rosenbrock = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> result = ad.optim.minimize(rosenbrock, [-1.2, 1.0], "newton", tol=1e-8)
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([1.0, 1.0], True)

    References
    ----------
    J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), section 3.4.
    """

    def direction(x: Array, g: Array) -> Array:
        hessian = objective.hessian(x)
        if not np.isfinite(hessian).all():
            raise Stop("the Hessian is not finite")
        values, vectors = np.linalg.eigh(hessian.astype(float))
        sizes = np.abs(values)
        # Where there is hardly any curvature, a step is at most a thousand times what x is.
        longest = 1e3 * max(1.0, float(np.linalg.norm(x)))
        least = max(min_curvature * float(sizes.max()), float(np.linalg.norm(g)) / longest)
        sizes = np.maximum(sizes, least)
        return np.asarray(-(vectors @ ((vectors.T @ g) / sizes)), x.dtype)

    _follow(objective, direction, gtol)


def newton_cg(objective: Objective, *, gtol: float) -> None:
    """Newton's method whose equation is solved by conjugate gradients, as far as it pays.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger.

    Examples
    --------
    >>> import adjoint as ad
    >>> rosenbrock = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> result = ad.optim.minimize(rosenbrock, [-1.2, 1.0], "newton-cg", tol=1e-8)
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([1.0, 1.0], True)

    References
    ----------
    J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithm 7.1.
    """

    def direction(x: Array, g: Array) -> Array:
        p, _ = truncated_cg(g, lambda d: objective.product(x, d))
        return p if p.any() else -g

    _follow(objective, direction, gtol)


def _follow(objective: Objective, direction: object, gtol: float) -> None:
    x = objective.best_x
    f, g = objective.value_and_grad(x)
    objective.check_start(f, g, gtol)
    wolfe = Wolfe(rounding=10 * float(np.finfo(x.dtype).eps))
    while True:
        d = direction(x, g)  # type: ignore[operator]
        if not float(g @ d) < 0:
            d = -g
        found = search_line(objective, x, f, g, d, wolfe)
        if found is None:
            hidden = abs(float(g @ d)) <= wolfe.rounding * abs(f)
            objective.give_up(float(np.max(np.abs(g))), hidden)
        x, f, g = found
        size = float(np.max(np.abs(g)))
        objective.step(x, f, size, g)
        if size <= gtol:
            met = f"the gradient is at most gtol={gtol:g}"
            objective.converged(met, x, f, g, gtol=gtol)
