"""Levenberg-Marquardt as a trust-region method, for sums of squares within bounds.

J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in
Mathematics 630 (1978) 105-116: the ball is an ellipsoid whose axes follow the largest columns of
the Jacobian so far. The step is found in the singular vectors of the scaled Jacobian, so that a
Jacobian without full rank is no special case. Variables at a bound that want to leave it are held;
a step that crosses a bound is cut off there, and judged as it is then.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from adjoint.optim.objective import Array, Stop
from adjoint.optim.trust_region import secular_shift

__all__ = ["Tolerances", "gauss_newton", "levenberg_marquardt"]


EPS = float(np.finfo(float).eps)


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


def _cosine(jacobian: Array, residuals: Array, held: Array) -> float:
    """Return the largest cosine between the residuals and a free column of the Jacobian."""
    size = float(np.linalg.norm(residuals))
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
    x = problem.best_x.astype(float)
    low, high = (end.astype(float) for end in problem.box())
    cost, r, jacobian = problem.begin(x)
    scale = np.zeros(x.size)
    radius = 0.0
    fresh = True
    while True:
        if fresh:
            columns = np.linalg.norm(jacobian, axis=0)
            scale = np.maximum(scale, columns)
            scale = np.where(scale > 0, scale, 1.0)
            g = jacobian.T @ r
            held = _held(x, g, low, high)
            cosine = _cosine(jacobian, r, held)
            if cosine <= tolerances.gtol:
                raise Stop(_told("gtol", tolerances.gtol), True)
            if radius == 0.0:
                radius = factor * (float(np.linalg.norm(scale * x)) or 1.0)
        free = ~held
        p = np.zeros_like(x)
        inner = _step(jacobian[:, free], r, scale[free], radius)
        p[free] = inner.step
        trial = np.clip(x + p, low, high).astype(problem.flat.np_dtype).astype(float)
        p = trial - x
        length = float(np.linalg.norm(scale * p))
        moved = jacobian @ p
        expected = -float(g @ p) - 0.5 * float(moved @ moved)
        trial_cost, trial_r = problem.residuals(trial)
        gained = cost - trial_cost if math.isfinite(trial_cost) else -math.inf
        ratio = gained / expected if expected > 0 else -1.0
        if ratio <= 0.25:
            radius = _shrunk(radius, length, gained, float(g @ p))
        elif ratio >= 0.75 or inner.inside:
            radius = max(radius, 2.0 * length) if inner.inside else 2.0 * length
        fresh = ratio > 1e-4
        size = float(np.linalg.norm(scale * x))
        before = cost
        if fresh:
            x, cost, r = trial, trial_cost, trial_r
            jacobian = problem.jacobian(x)
            r, jacobian = problem.weighted(r, jacobian)
            problem.step(x, cost, cosine)
        else:
            problem.check_time()
        small = max(abs(gained), expected) <= tolerances.ftol * before and ratio <= 2
        if small:
            raise Stop(_told("ftol", tolerances.ftol), True)
        if radius <= tolerances.xtol * size or length <= tolerances.xtol * 1e-3 * size:
            raise Stop(_told("xtol", tolerances.xtol), True)
        if expected <= EPS * before and not fresh:
            raise Stop(_told("ftol", EPS), True)
        if cost == 0:
            raise Stop("the residuals are all 0", True)


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
    >>> [round(v, 6) for v in result.x.tolist()], result.nit
    ([1.0, 2.0], 1)
    """
    x = problem.best_x.astype(float)
    low, high = (end.astype(float) for end in problem.box())
    cost, r, jacobian = problem.begin(x)
    while True:
        g = jacobian.T @ r
        held = _held(x, g, low, high)
        cosine = _cosine(jacobian, r, held)
        if cosine <= tolerances.gtol:
            raise Stop(_told("gtol", tolerances.gtol), True)
        p = np.zeros_like(x)
        p[~held] = np.linalg.lstsq(jacobian[:, ~held], -r, rcond=None)[0]
        size = float(np.linalg.norm(x))
        step, slope, length = 1.0, float(g @ p), float(np.linalg.norm(p))
        while True:
            trial = np.clip(x + step * p, low, high)
            trial_cost, trial_r = problem.residuals(trial)
            if trial_cost <= cost + 1e-4 * step * slope:
                break
            if length <= tolerances.xtol * size:
                raise Stop(_told("xtol", tolerances.xtol), True)
            if abs(slope) <= EPS * cost:
                raise Stop(_told("ftol", EPS), True)
            step *= 0.5
            if step < EPS:
                raise Stop("no lower sum of squares can be found along the step of Gauss-Newton")
        before = cost
        length = float(np.linalg.norm(trial - x))
        x, cost = trial, trial_cost
        r, jacobian = problem.weighted(trial_r, problem.jacobian(x))
        problem.step(x, cost, cosine)
        if before - cost <= tolerances.ftol * before:
            raise Stop(_told("ftol", tolerances.ftol), True)
        if length <= tolerances.xtol * size:
            raise Stop(_told("xtol", tolerances.xtol), True)
