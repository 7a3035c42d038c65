"""Newton's method with a line search: with the whole Hessian, or products with it alone."""

from __future__ import annotations

import math

import numpy as np

from adjoint.optim.line_search import Wolfe, advance, begin
from adjoint.optim.objective import Array, Objective, Stop

__all__ = ["newton", "newton_cg", "search_line", "slope_along"]


def search_line(
    objective: Objective, x: Array, f: float, g: Array, d: Array, wolfe: Wolfe, step: float = 1.0
) -> tuple[Array, float, Array] | None:
    """Return a point along a direction with its value and gradient, None if none is lower."""
    slope = float(g @ d)
    line = begin(f, slope, step)
    known: dict[float, tuple[Array, float, Array]] = {}
    while line.good == 0:
        at = line.step
        with np.errstate(over="ignore", invalid="ignore"):
            point = (x + at * d).astype(x.dtype)
        value, grad = objective.value_and_grad(point)
        known[at] = point, value, grad
        line = advance(line, value, slope_along(grad, d), wolfe)
    return known[line.step] if line.step > 0 else None


def slope_along(g: Array, d: Array) -> float:
    """Return the slope along a direction, nan where the gradient is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(g @ d)


def _wolfe(x: Array) -> Wolfe:
    return Wolfe(rounding=10 * float(np.finfo(x.dtype).eps))


def newton(objective: Objective, *, gtol: float, least_curvature: float = 1e-8) -> None:
    """Newton's method whose Hessian is made positive definite by the size of its eigenvalues.

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
        least = max(least_curvature * float(sizes.max()), float(np.linalg.norm(g)) / longest)
        sizes = np.maximum(sizes, least)
        return np.asarray(-(vectors @ ((vectors.T @ g) / sizes)), x.dtype)

    _follow(objective, direction, gtol)


def newton_cg(objective: Objective, *, gtol: float) -> None:
    """Newton's method whose equation is solved by conjugate gradients, as far as it pays.

    J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithm 7.1.
    """

    def direction(x: Array, g: Array) -> Array:
        size = float(np.linalg.norm(g))
        tolerance = min(0.5, math.sqrt(size)) * size
        p = np.zeros_like(g)
        r, d = g.copy(), -g
        for i in range(2 * g.size + 10):
            moved = objective.product(x, d)
            curvature = float(d @ moved)
            if not curvature > 3 * float(np.finfo(x.dtype).eps) * float(d @ d):
                return -g if i == 0 else p
            squared = float(r @ r)
            alpha = squared / curvature
            p, r = p + alpha * d, r + alpha * moved
            left = float(r @ r)
            if math.sqrt(left) <= tolerance:
                break
            d = left / squared * d - r
        return p

    _follow(objective, direction, gtol)


def _follow(objective: Objective, direction: object, gtol: float) -> None:
    x = objective.best_x
    f, g = objective.value_and_grad(x)
    objective.check_start(f, g, gtol)
    wolfe = _wolfe(x)
    while True:
        d = direction(x, g)  # type: ignore[operator]
        if not float(g @ d) < 0:
            d = -g
        found = search_line(objective, x, f, g, d, wolfe)
        if found is None:
            expected = abs(float(g @ d))
            size = float(np.max(np.abs(g)))
            if expected <= wolfe.rounding * max(abs(f), float(np.finfo(x.dtype).tiny)):
                raise Stop("the value can no longer be told from lower ones, by rounding", True)
            raise Stop(f"no lower value can be found; the gradient is {size:.3g}")
        x, f, g = found
        size = float(np.max(np.abs(g)))
        objective.step(x, f, size, g)
        if size <= gtol:
            raise Stop(f"the gradient is at most gtol={gtol:g}", True)
