"""Levenberg-Marquardt as a trust-region method, for sums of squares within bounds.

J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in
Mathematics 630 (1978) 105-116: the ball is an ellipsoid whose axes follow the largest columns of
the Jacobian so far. The step is found in the singular vectors of the scaled Jacobian, so that a
Jacobian without full rank is no special case.

Within bounds the model is minimized over the part of the ball that lies in the box: first along the
projected gradient, which finds the bounds that matter, then on the faces of the box that this leads
to (C.-J. Lin, J. J. Moré, "Newton's method for large bound-constrained optimization problems", SIAM
J. Optim. 9 (1999) 1100-1127). The step promises at least what the projected gradient does, so the
search ends only where no free variable leads down. Gauss-Newton takes the same step without a ball.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np

from adjoint.optim.objective import Array, Stop
from adjoint.optim.trust_region import secular_shift

__all__ = ["Tolerances", "gauss_newton", "levenberg_marquardt"]


EPS = float(np.finfo(float).eps)


MOST_HALVINGS = 50  # of a step along the projected gradient


class Tolerances(NamedTuple):
    """When to be content; each is relative.

    Examples
    --------
    >>> from adjoint.optim.levenberg_marquardt import Tolerances
    >>> Tolerances(ftol=1e-8, xtol=1e-8, gtol=0.0).xtol
    1e-08
    """

    ftol: float  # change of the sum of squares, found and expected
    xtol: float  # the radius, beside the scaled parameters
    gtol: float  # cosine between the residuals and a column of the Jacobian


class _Step(NamedTuple):
    step: Array
    length: float  # of the scaled step
    inside: bool  # whether it is that of Gauss and Newton


def _step(jacobian: Array, residuals: Array, scale: Array, radius: float) -> _Step:
    """Return the minimizer of ``|J p + r|`` over ``|scale p| <= radius``."""
    scaled = jacobian / scale
    if len(scaled) > 2 * scaled.shape[1]:
        q, scaled = np.linalg.qr(scaled)
        residuals = q.T @ residuals
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    along = u.T @ residuals
    cut = EPS * max(scaled.shape) * (s[0] if s.size else 0.0)
    kept = s > cut
    newton = np.where(kept, -along / np.where(kept, s, 1.0), 0.0)
    length = float(np.linalg.norm(newton))
    if length <= radius:
        return _Step((vt.T @ newton) / scale, length, True)
    weighted, squares = np.where(kept, along * s, 0.0), np.where(kept, s * s, 1.0)
    shift = secular_shift(squares, weighted, radius, precision=1e-8)
    q = np.where(kept, -along * s / (s * s + shift), 0.0)
    return _Step((vt.T @ q) / scale, float(np.linalg.norm(q)), False)


def _held(x: Array, g: Array, low: Array, high: Array) -> Array:
    """Whether each variable stands at a bound that the gradient pushes it against."""
    return ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))


class _Box(NamedTuple):
    """How far each variable may go from where it is."""

    down: Array
    up: Array

    def clip(self, p: Array) -> Array:
        return np.clip(p, self.down, self.up)

    def inside(self, p: Array) -> Array:
        """Whether each variable would lie strictly within its bounds."""
        return np.asarray((p > self.down) & (p < self.up))

    def share(self, p: Array, way: Array) -> float:
        """Return how much of a way from a point leads to the first bound, at most all of it."""
        room = np.where(way > 0, self.up - p, np.where(way < 0, self.down - p, math.inf))
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(way != 0, room / way, math.inf)
        return float(min(1.0, np.min(shares, initial=1.0)))


def _decrease(jacobian: Array, g: Array, p: Array) -> float:
    """Return by how much the model of half the sum of squares falls along a step."""
    moved = jacobian @ p
    return -float(g @ p) - 0.5 * float(moved @ moved)


def _cauchy(jacobian: Array, g: Array, scale: Array, radius: float, box: _Box) -> Array:
    """Return a step along the gradient, bent at the bounds, that lowers the model enough."""
    way = -g / scale**2
    moved = float(np.sum((jacobian @ way) ** 2))
    far = radius / max(float(np.linalg.norm(scale * way)), 1e-300)
    t = min(-float(g @ way) / moved, far) if moved > 0 else far
    if not math.isfinite(t):
        t = 1.0  # no curvature and no ball: a gradient of rounding errors
    for _ in range(MOST_HALVINGS):
        p = box.clip(t * way)
        if _decrease(jacobian, g, p) >= -0.01 * float(g @ p):
            break
        t *= 0.5
    return p


def _bounded_step(
    jacobian: Array, residuals: Array, scale: Array, radius: float, held: Array, box: _Box
) -> _Step:
    """Return a step that nearly minimizes ``|J p + r|`` over ``|scale p| <= radius`` and a box."""
    free = ~held
    p = np.zeros(scale.size)
    inner = _step(jacobian[:, free], residuals, scale[free], radius)
    p[free] = inner.step
    if np.array_equal(box.clip(p), p):
        return inner._replace(step=p)
    g = np.where(held, 0.0, jacobian.T @ residuals)
    p = _cauchy(jacobian, g, scale, radius, box)
    whole = False
    for _ in range(scale.size):
        free = ~held & box.inside(p)
        if not free.any():
            break
        rest = np.where(free, 0.0, p)
        left = radius**2 - float(np.sum((scale * rest) ** 2))
        if not left > 0:
            break
        inner = _step(jacobian[:, free], residuals + jacobian @ rest, scale[free], math.sqrt(left))
        target = rest
        target[free] = inner.step
        whole = inner.inside
        # Up to the first bound the model falls; clipped it may fall further, or rise.
        p = box.clip(p + box.share(p, target - p) * (target - p))
        clipped = box.clip(target)
        if _decrease(jacobian, g, clipped) >= _decrease(jacobian, g, p):
            p = clipped
        if np.array_equal(clipped, target):
            break
    return _Step(p, float(np.linalg.norm(scale * p)), whole)


class _Stand(NamedTuple):
    """Where a method stands: the weighted residuals and Jacobian, and what is made of them."""

    x: Array
    cost: float
    r: Array
    jacobian: Array
    g: Array
    held: Array
    cosine: float
    box: _Box

    def converged(self, problem: Any, reason: str, ftol: float = 0.0) -> NoReturn:
        """End the method here; a cost that is lower by `ftol` of its size is no other answer."""
        steepest = float(np.max(np.abs(np.where(self.held, 0.0, self.g))))
        problem.converged(reason, self.x, self.cost, gtol=steepest, ftol=ftol)
        raise AssertionError("it ends by Stop")


def _stand(problem: Any, x: Array) -> _Stand:
    """Return where a method stands that has come to a point: x0, or the last that was evaluated."""
    cost, r, jacobian = problem.arrive(x)
    low, high = (end.astype(float) for end in problem.box())
    g = jacobian.T @ r
    held = _held(x, g, low, high)
    cosine = _cosine(jacobian, r, held, cost)
    return _Stand(x, cost, r, jacobian, g, held, cosine, _Box(low - x, high - x))


def _cosine(jacobian: Array, residuals: Array, held: Array, cost: float) -> float:
    """Return the largest cosine between the residuals and a free column of the Jacobian.

    The size of the residuals is that of their cost: what weights a robust loss may be huge.
    """
    size = math.sqrt(2 * cost)
    columns = np.linalg.norm(jacobian, axis=0)
    products = np.abs(jacobian.T @ residuals)
    free = ~held & (columns > 0)
    if size == 0 or not free.any():
        return 0.0
    return float(np.max(products[free] / columns[free])) / size


def levenberg_marquardt(problem: Any, tolerances: Tolerances, factor: float = 1.0) -> None:
    """Minimize a sum of squares. Ends by `Stop`.

    Parameters
    ----------
    problem : Residuals
    tolerances : Tolerances
    factor : float
        The first radius beside the scaled parameters.

    Examples
    --------
    >>> import adjoint as ad
    >>> t = ad.linspace(0, 1, 20)
    >>> residuals = lambda p: p[0] * ad.exp(-p[1] * t) - 2.0 * ad.exp(-3.0 * t)
    >>> result = ad.optim.least_squares(residuals, [1.0, 1.0], "lm", options={"factor": 10.0})
    >>> [round(v, 6) for v in result.x.tolist()]
    [2.0, 3.0]
    """
    at = _stand(problem, problem.best_x.astype(float))
    scale = np.zeros(at.x.size)
    radius = 0.0
    fresh = True
    while True:
        if fresh:
            scale = np.maximum(scale, np.linalg.norm(at.jacobian, axis=0))
            scale = np.where(scale > 0, scale, 1.0)
            if at.cosine <= tolerances.gtol:
                at.converged(problem, _told("gtol", tolerances.gtol))
            if radius == 0.0:
                radius = factor * (float(np.linalg.norm(scale * at.x)) or 1.0)
        inner = _bounded_step(at.jacobian, at.r, scale, radius, at.held, at.box)
        trial = _reached(problem, at.x + inner.step)
        p = trial - at.x
        length = float(np.linalg.norm(scale * p))
        expected = _decrease(at.jacobian, at.g, p)
        trial_cost, _ = problem.residuals(trial)
        gained = at.cost - trial_cost if math.isfinite(trial_cost) else -math.inf
        ratio = gained / expected if expected > 0 else -1.0
        if ratio <= 0.25:
            radius = _shrunk(radius, length, gained, float(at.g @ p))
        elif ratio >= 0.75 or inner.inside:
            radius = max(radius, 2.0 * length) if inner.inside else 2.0 * length
        fresh = ratio > 1e-4
        size = float(np.linalg.norm(scale * at.x))
        before = at.cost
        if fresh:
            at = _stand(problem, trial)
            problem.step(at.x, at.cost, at.cosine)
        else:
            problem.check_time()
        if max(abs(gained), expected) <= tolerances.ftol * before and ratio <= 2:
            at.converged(problem, _told("ftol", tolerances.ftol), tolerances.ftol)
        if radius <= tolerances.xtol * size or length <= tolerances.xtol * 1e-3 * size:
            at.converged(problem, _told("xtol", tolerances.xtol), math.inf)
        if expected <= EPS * before and not fresh:
            at.converged(problem, _told("ftol", EPS), EPS)
        if at.cost == 0:
            at.converged(problem, "the residuals are all 0")


def _reached(problem: Any, x: Array) -> Array:
    """Return the nearest point within the bounds that the dtype of the search can hold."""
    low, high = problem.box()
    return np.asarray(np.clip(x.astype(problem.flat.np_dtype), low, high).astype(float))


def _shrunk(radius: float, length: float, gained: float, slope: float) -> float:
    """Return the radius after a step that has gained little, by the parabola along it."""
    share = 0.5 * slope / (slope + gained) if gained < 0 and slope < 0 else 0.5
    if not math.isfinite(gained) or not 0.1 <= share:
        share = 0.1
    return min(share, 0.5) * min(radius, 10.0 * length if length > 0 else radius)


def _told(name: str, value: float) -> str:
    what = {
        "ftol": "the sum of squares would change by",
        "xtol": "the parameters would change by",
        "gtol": "the cosine between residuals and Jacobian is",
    }[name]
    return f"{what} at most {name}={value:g}"


def gauss_newton(problem: Any, tolerances: Tolerances) -> None:
    """Minimize a sum of squares by Gauss-Newton steps, halved until they lead down.

    Parameters
    ----------
    problem : Residuals
    tolerances : Tolerances

    Examples
    --------
    >>> import adjoint as ad
    >>> line = lambda p: p[0] + p[1] * ad.arange(4.0) - ad.tensor([1.0, 3.0, 5.0, 7.0])
    >>> result = ad.optim.least_squares(line, [0.0, 0.0], "gauss-newton")
    >>> [round(v, 6) for v in result.x.tolist()], result.nit <= 2
    ([1.0, 2.0], True)
    """
    at = _stand(problem, problem.best_x.astype(float))
    while True:
        if at.cosine <= tolerances.gtol:
            at.converged(problem, _told("gtol", tolerances.gtol))
        p = _bounded_step(at.jacobian, at.r, np.ones(at.x.size), math.inf, at.held, at.box).step
        size = float(np.linalg.norm(at.x))
        step, slope, length = 1.0, float(at.g @ p), float(np.linalg.norm(p))
        while True:
            trial = _reached(problem, at.x + step * p)
            trial_cost, _ = problem.residuals(trial)
            if trial_cost <= at.cost + 1e-4 * step * slope:
                break
            if length <= tolerances.xtol * size:
                at.converged(problem, _told("xtol", tolerances.xtol), math.inf)
            if abs(slope) <= EPS * at.cost:
                at.converged(problem, _told("ftol", EPS), EPS)
            step *= 0.5
            if step < EPS:
                raise Stop("no lower sum of squares can be found along the step of Gauss-Newton")
        before, length = at.cost, float(np.linalg.norm(trial - at.x))
        at = _stand(problem, trial)
        problem.step(at.x, at.cost, at.cosine)
        if before - at.cost <= tolerances.ftol * before:
            at.converged(problem, _told("ftol", tolerances.ftol), tolerances.ftol)
        if length <= tolerances.xtol * size:
            at.converged(problem, _told("xtol", tolerances.xtol), math.inf)
