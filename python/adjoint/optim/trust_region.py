"""Newton's method with a trust region: the model is believed within a radius that success widens.

The search is one loop, `trust_region`; the descent is what minimizes the quadratic model within the
ball, exactly (`exact_step`) or by conjugate gradients that need products with the Hessian alone
(`steihaug_step`). After J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), chapter
4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from adjoint.optim.objective import Array, Objective, Stop
from adjoint.optim.options import check_order

__all__ = [
    "exact_step",
    "secular_shift",
    "steihaug_step",
    "truncated_cg",
    "trust_exact",
    "trust_ncg",
]

POOR, GOOD = 0.25, 0.75  # shares of the promised decrease that shrink and widen the radius
MOST_ITERATIONS = 100  # of the secular equation


class _Model(NamedTuple):
    """The Hessian at a point, whichever way it is known, and the step within a radius."""

    step: Callable[[float], Array]
    product: Callable[[Array], Array]


def exact_step(g: Array, hessian: Array, radius: float) -> Array:
    """Return the minimizer of ``g·p + p·H p / 2`` over the ball of a radius.

    J. J. Moré, D. C. Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4 (1983)
    553-572: p = -(H + shift)⁻¹ g with the shift from the secular equation. It is solved in the
    eigenvectors of H, where the hard case is seen by its zeros.

    Examples
    --------
    >>> from adjoint.optim.trust_region import exact_step
    >>> import numpy as np
    >>> exact_step(np.array([1.0, 0.0]), np.diag([2.0, 4.0]), 10.0).tolist()
    [-0.5, 0.0]
    >>> exact_step(np.array([0.0, 0.0]), np.diag([2.0, -4.0]), 3.0).tolist()  # a saddle
    [0.0, 3.0]
    """
    values, vectors = np.linalg.eigh(np.asarray(hessian, float))
    along = vectors.T @ np.asarray(g, float)
    scale = max(abs(values[0]), abs(values[-1]), 1e-300)
    floor = 4 * np.finfo(float).eps * scale
    if values[0] > floor:
        newton = -along / values
        if np.linalg.norm(newton) <= radius:
            return np.asarray(vectors @ newton)
    least = max(0.0, -values[0])
    lowest = values - values[0] <= floor
    # The hard case: g has no part along the lowest eigenvectors, and the rest is short enough.
    if values[0] <= floor and np.linalg.norm(along[lowest]) <= floor * radius:
        rest = np.where(lowest, 0.0, -along / np.where(lowest, 1.0, values + least))
        missing = radius**2 - float(rest @ rest)
        if missing >= 0:
            if values[0] < -floor:
                rest[0] += math.sqrt(missing)
            return np.asarray(vectors @ rest)
    shift = secular_shift(values, along, radius, least)
    return np.asarray(vectors @ (-along / (values + shift)))


def secular_shift(
    values: Array, along: Array, radius: float, least: float = 0.0, precision: float = 1e-10
) -> float:
    """Return the shift above `least` at which ``along / (values + shift)`` has a length.

    Examples
    --------
    >>> from adjoint.optim.trust_region import secular_shift
    >>> import numpy as np
    >>> shift = secular_shift(np.array([1.0, 2.0]), np.array([3.0, 0.0]), 1.0)
    >>> round(shift, 9)
    2.0
    """
    # In units, powers of two, in which no square overflows or vanishes.
    unit = _power_of_two(float(np.max(np.abs(along), initial=0.0)))
    scale = unit / _power_of_two(radius)
    if not 0.0 < scale < math.inf:
        return max(least, scale)
    along, values, least = along / unit, values / scale, least / scale
    return scale * _scaled_shift(values, along, radius / unit * scale, least, precision)


def _power_of_two(size: float) -> float:
    """Return the power of two next to a positive number, 1 for others."""
    return math.ldexp(1.0, math.frexp(size)[1] - 1) if 0.0 < size < math.inf else 1.0


def _scaled_shift(
    values: Array, along: Array, radius: float, least: float, precision: float
) -> float:
    size = float(np.linalg.norm(along))
    low, high = least, least + size / radius
    shift = max(high * 1e-3, low + 1e-3 * (high - low)) if low == 0 else low + 1e-3 * (high - low)
    for _ in range(MOST_ITERATIONS):
        scaled = along / (values + shift)
        length = float(np.linalg.norm(scaled))
        if abs(length - radius) <= precision * radius:
            break
        if length > radius:
            low = shift
        else:
            high = shift
        # Newton's method on 1/length - 1/radius, which is nearly linear in the shift.
        slope = float(np.sum(scaled**2 / (values + shift)))
        shift += (length - radius) / radius * length**2 / slope
        if not low < shift < high:
            shift = (
                max(math.sqrt(low * high), low + 0.01 * (high - low))
                if low > 0
                else 0.5 * (low + high)
            )
        if high - low <= 1e-15 * high:
            break
    return shift


def steihaug_step(g: Array, product: Callable[[Array], Array], radius: float) -> Array:
    """Return a step within the ball by conjugate gradients, cut off at the edge.

    T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization",
    SIAM J. Numer. Anal. 20 (1983) 626-637.

    Examples
    --------
    >>> from adjoint.optim.trust_region import steihaug_step
    >>> import numpy as np
    >>> steihaug_step(np.array([2.0, 0.0]), lambda d: 4.0 * d, 10.0).tolist()
    [-0.5, 0.0]
    >>> steihaug_step(np.array([2.0, 0.0]), lambda d: -d, 3.0).tolist()  # down to the edge
    [-3.0, 0.0]
    """
    p, d = truncated_cg(g, product, radius)
    return p if d is None else p + _to_edge(p, d, radius)


def truncated_cg(
    g: Array, product: Callable[[Array], Array], radius: float = math.inf
) -> tuple[Array, Array | None]:
    """Solve ``H p = -g`` by conjugate gradients, as far as it pays.

    Returns
    -------
    p : ndarray
        The solution, or how far it has come.
    d : ndarray or None
        The next direction, if that has no positive curvature or leads out of the ball.

    Examples
    --------
    >>> from adjoint.optim.trust_region import truncated_cg
    >>> import numpy as np
    >>> p, d = truncated_cg(np.array([2.0, 0.0]), lambda d: 4.0 * d)
    >>> p.tolist(), d
    ([-0.5, 0.0], None)
    """
    p = np.zeros_like(g)
    r, d = g.copy(), -g
    size = float(np.linalg.norm(g))
    tolerance = min(0.5, math.sqrt(size)) * size
    flat = 3 * float(np.finfo(g.dtype).eps)
    for _ in range(2 * g.size + 10):
        moved = product(d)
        curvature = float(d @ moved)
        if not curvature > flat * float(d @ d):
            return p, d
        squared = float(r @ r)
        alpha = squared / curvature
        ahead = p + alpha * d
        if float(np.linalg.norm(ahead)) >= radius:
            return p, d
        p, r = ahead, r + alpha * moved
        left = float(r @ r)
        if math.sqrt(left) <= tolerance:
            break
        d = left / squared * d - r
    return p, None


def _to_edge(p: Array, d: Array, radius: float) -> Array:
    """Return the step t d, of positive t, with ``|p + t d| = radius``."""
    size = float(np.max(np.abs(d), initial=0.0))
    if size == 0.0:
        return d
    u = d / size  # whose squares are in range, whatever those of d are
    a, b, c = float(u @ u), float(p @ u), float(p @ p) - radius**2
    root = math.sqrt(max(0.0, b * b - a * c))
    t = (root - b) / a if b <= 0 else -c / (b + root)
    return np.asarray(t * u)


def trust_exact(
    objective: Objective,
    *,
    gtol: float,
    initial_radius: float | None = None,
    max_radius: float = math.inf,
    accept: float = 0.15,
) -> None:
    """Newton's method with a trust region and the whole Hessian.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger.
    initial_radius : float, optional
        Of the trust region; by default the norm of x0, or 1, and at most `max_radius`.
    max_radius : float
        How far it may grow.
    accept : float
        A step is taken where the value falls by more than this share of what the model promises.

    Examples
    --------
    >>> import adjoint as ad
    >>> rosenbrock = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> result = ad.optim.minimize(rosenbrock, [-1.2, 1.0], "trust-exact", tol=1e-8)
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([1.0, 1.0], True)
    """

    def model(x: Array, g: Array) -> _Model:
        hessian = objective.hessian(x)
        if not np.isfinite(hessian).all():
            raise Stop("the Hessian is not finite")
        return _Model(lambda radius: exact_step(g, hessian, radius), lambda v: hessian @ v)

    _trust_region(objective, model, gtol, initial_radius, max_radius, accept)


def trust_ncg(
    objective: Objective,
    *,
    gtol: float,
    initial_radius: float | None = None,
    max_radius: float = math.inf,
    accept: float = 0.15,
) -> None:
    """Newton's method with a trust region and products with the Hessian.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger.
    initial_radius : float, optional
        Of the trust region; by default the norm of x0, or 1, and at most `max_radius`.
    max_radius : float
        How far it may grow.
    accept : float
        A step is taken where the value falls by more than this share of what the model promises.

    Examples
    --------
    >>> import adjoint as ad
    >>> rosenbrock = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> result = ad.optim.minimize(rosenbrock, [-1.2, 1.0], "trust-ncg", tol=1e-8)
    >>> [round(v, 6) for v in result.x.tolist()], result.success
    ([1.0, 1.0], True)
    """

    def model(x: Array, g: Array) -> _Model:
        def product(v: Array) -> Array:
            return objective.product(x, v)

        return _Model(lambda radius: steihaug_step(g, product, radius), product)

    _trust_region(objective, model, gtol, initial_radius, max_radius, accept)


def _trust_region(
    objective: Objective,
    model_at: Callable[[Array, Array], _Model],
    gtol: float,
    initial: float | None,
    max_radius: float,
    accept: float,
) -> None:
    x = objective.best_x
    if initial is not None:
        check_order(objective.who, initial_radius=initial, max_radius=max_radius)
    f, g = objective.value_and_grad(x)
    objective.check_start(f, g, gtol)
    radius = max(1.0, float(np.linalg.norm(x))) if initial is None else float(initial)
    radius = min(radius, max_radius, math.sqrt(float(np.finfo(x.dtype).max)))  # with its square
    eps = float(np.finfo(x.dtype).eps)
    model: Any = None
    while True:
        model = model_at(x, g) if model is None else model
        p = model.step(radius).astype(x.dtype)
        length = float(np.linalg.norm(p))
        promised = -float(g @ p + 0.5 * (p @ model.product(p)))
        rounding = 10 * eps * max(abs(f), float(np.finfo(x.dtype).tiny))
        trial = x + p
        f_trial, g_trial = objective.value_and_grad(trial)
        finite = math.isfinite(f_trial) and bool(np.isfinite(g_trial).all())
        if promised <= rounding and finite and abs(f_trial - f) <= rounding:
            # Values cannot tell any more: go by the gradient.
            ratio = 1.0 if np.max(np.abs(g_trial)) < np.max(np.abs(g)) else -1.0
        else:
            ratio = (f - f_trial) / promised if finite and promised > 0 else -1.0
        if ratio < POOR:
            radius = POOR * length
        elif ratio > GOOD and length >= 0.99 * radius:
            radius = min(2 * radius, max_radius, math.sqrt(float(np.finfo(x.dtype).max)))
        if ratio > accept:
            x, f, g, model = trial, f_trial, g_trial, None
        size = float(np.max(np.abs(g)))
        objective.step(x, f, size, g)
        if size <= gtol:
            met = f"the gradient is at most gtol={gtol:g}"
            objective.converged(met, x, f, g, gtol=gtol)
        if ratio <= accept and promised <= rounding:
            objective.give_up(size, hidden=True)
        if radius <= eps * max(float(np.linalg.norm(x)), float(np.finfo(x.dtype).tiny)):
            objective.give_up(size)
