"""L-BFGS-B: a quasi-Newton method of limited memory within bounds.

R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained
optimization", SIAM J. Sci. Comput. 16 (1995) 1190-1208, with the projection of the subspace step of
J. L. Morales, J. Nocedal, "Remark on algorithm 778", ACM Trans. Math. Softw. 38 (2011).
"""

from __future__ import annotations

import math

import numpy as np

from adjoint.optim.bounds import projected_size
from adjoint.optim.line_search import Wolfe, search_line
from adjoint.optim.objective import Array, Objective
from adjoint.optim.options import check_order

__all__ = ["l_bfgs_b", "projected_gradient"]


class _Matrix:
    """The Hessian in compact form: ``theta - W M Wᵀ``, from the last few steps."""

    def __init__(self, size: int, memory: int) -> None:
        self._memory = memory
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Forget all steps."""
        self.theta = 1.0
        self._s: list[Array] = []
        self._y: list[Array] = []
        self.w = np.zeros((self._size, 0))
        self.m = np.zeros((0, 0))

    @property
    def empty(self) -> bool:
        """Whether nothing is known yet."""
        return not self._s

    def update(self, s: Array, y: Array) -> None:
        """Take in a step and the change of the gradient on it."""
        s, y = s.astype(float), y.astype(float)
        along, size = float(s @ y), float(y @ y)
        if not along > np.finfo(float).eps * size:
            return
        self._s, self._y = [*self._s, s][-self._memory :], [*self._y, y][-self._memory :]
        self.theta = size / along
        steps, changes = np.array(self._s).T, np.array(self._y).T
        products = steps.T @ changes
        lower = np.tril(products, -1)
        middle = np.block(
            [
                [-np.diag(np.diag(products)), lower.T],
                [lower, self.theta * (steps.T @ steps)],
            ]
        )
        try:
            self.m = np.linalg.inv(middle)
            self.w = np.hstack([changes, self.theta * steps])
        except np.linalg.LinAlgError:
            self.reset()


def l_bfgs_b(objective: Objective, *, gtol: float, ftol: float, memory: int = 10) -> None:
    """Minimize within bounds; stops where the projected gradient is small.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the projected gradient is larger; by default 1e-5 (1e-4 in
        float32).
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1; by
        default 1e7 roundings (1 in float32), and 0 where `tol` is given.
    memory : int
        How many of the last steps are known.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda x: (x[0] - 2.0) ** 2 + (x[1] + 1.0) ** 2
    >>> result = ad.optim.minimize(f, [0.5, 0.5], "l-bfgs-b", bounds=(0.0, 1.0))
    >>> result.x.tolist()
    [1.0, 0.0]
    """
    x = objective.best_x
    low, high = objective.box()
    f, g = objective.value_and_grad(x)
    size = projected_size(x, g, low, high)
    objective.check_start(f, g, gtol, size)
    matrix = _Matrix(x.size, memory)
    wolfe = Wolfe(1e-3, 0.9, rounding=10 * float(np.finfo(x.dtype).eps))
    while True:
        cauchy, at, c = _cauchy_point(x, g, low, high, matrix)
        target = _subspace(x, g, low, high, matrix, cauchy, at, c)
        d = target - x
        if not float(g @ d) < 0:
            d = cauchy - x
        found = None
        if float(g @ d) < 0:
            step = min(1.0, 1.0 / float(np.linalg.norm(d))) if matrix.empty else 1.0
            found = search_line(objective, x, f, g, d, wolfe, step, _room(x, d, low, high))
        if found is None:
            if not matrix.empty:
                matrix.reset()
                continue
            objective.give_up(size, hidden=abs(float(g @ d)) <= wolfe.rounding * abs(f))
        before, f_before, g_before, size_before = x, f, g, size
        x, f, g = found
        size = projected_size(x, g, low, high)
        objective.step(x, f, size, g)
        if size <= gtol:
            met = f"the projected gradient is at most gtol={gtol:g}"
            objective.converged(met, x, f, g, gtol=gtol)
        if ftol > 0 and f_before - f <= ftol * max(abs(f_before), abs(f), 1.0):
            met = f"the value changed by at most ftol={ftol:g} of its size"
            objective.converged(met, x, f, g, ftol=ftol)
        if f >= f_before and size >= size_before:  # equal values are rounding
            objective.give_up(size, hidden=True)
        matrix.update(x - before, g - g_before)


def _cauchy_point(
    x: Array, g: Array, low: Array, high: Array, matrix: _Matrix
) -> tuple[Array, Array, Array]:
    """Return the first minimum of the model along the projected gradient, algorithm CP.

    With it come whether each variable stands at a bound there, and Wᵀ (cauchy - x).
    """
    g = g.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = np.where(g < 0, (x - high) / g, np.where(g > 0, (x - low) / g, math.inf))
    d = np.where(ways > 0, -g, 0.0)
    point, at = x.astype(float), ways <= 0
    theta, w, m = matrix.theta, matrix.w, matrix.m
    p = w.T @ d
    c = np.zeros_like(p)
    first = -float(d @ d)
    if first == 0:
        return point, at, c
    second = -theta * first - float(p @ m @ p)
    tiny = np.finfo(float).eps * -theta * first
    best = -first / max(second, tiny)
    passed = 0.0
    for b in np.argsort(ways, kind="stable"):
        t = float(ways[b])
        if t <= 0:
            continue
        if best < t - passed or not math.isfinite(t):
            break
        gap = t - passed
        point[b] = high[b] if d[b] > 0 else low[b]
        at[b] = True
        moved = point[b] - x[b]
        c = c + gap * p
        row = w[b]
        gb = g[b]
        first += gap * second + gb**2 + theta * gb * moved - gb * float(row @ m @ c)
        second += -theta * gb**2 - 2 * gb * float(row @ m @ p) - gb**2 * float(row @ m @ row)
        p = p + gb * row
        d[b] = 0.0
        passed = t
        if not d.any():
            best = 0.0
            break
        best = max(-first / max(second, tiny), 0.0)
    best = max(best, 0.0)
    total = passed + best
    moving = d != 0
    point[moving] = x[moving] + total * d[moving]
    return np.clip(point, low, high), at, c + best * p


def _subspace(
    x: Array,
    g: Array,
    low: Array,
    high: Array,
    matrix: _Matrix,
    cauchy: Array,
    at: Array,
    c: Array,
) -> Array:
    """Return the minimum of the model over the variables that are free at the Cauchy point."""
    free = ~at
    if matrix.empty or not free.any():
        return cauchy
    theta, m = matrix.theta, matrix.m
    w = matrix.w[free]
    r = g[free] + theta * (cauchy[free] - x[free]) - w @ (m @ c)
    inner = np.eye(m.shape[0]) - m @ (w.T @ w) / theta
    try:
        v = np.linalg.solve(inner, m @ (w.T @ r))
    except np.linalg.LinAlgError:
        return cauchy
    d = -(r + w @ v / theta) / theta
    if not np.isfinite(d).all():
        return cauchy
    target = cauchy.copy()
    target[free] = np.clip(cauchy[free] + d, low[free], high[free])
    if float(g @ (target - x)) < 0:
        return target
    # The projection leads up: cut the step back instead.
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(d > 0, high[free] - cauchy[free], low[free] - cauchy[free]) / d
    share = min(1.0, float(np.min(np.where(d == 0, math.inf, room))))
    target[free] = cauchy[free] + share * d
    return target


def _room(x: Array, d: Array, low: Array, high: Array) -> float:
    """Return how long a step along a direction may be within the bounds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(d > 0, (high - x) / d, np.where(d < 0, (low - x) / d, math.inf))
    return float(np.min(room))


def projected_gradient(
    objective: Objective,
    *,
    gtol: float,
    memory: int = 10,
    min_length: float = 1e-10,
    max_length: float = 1e10,
) -> None:
    """Spectral projected gradients, with a line search that looks at the last few values.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the projected gradient is larger.
    memory : int
        Of how many of the last values one may be exceeded.
    min_length, max_length : float
        Between what the spectral length of a step, relative to the gradient, is kept.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda x: (x[0] - 2.0) ** 2 + (x[1] + 1.0) ** 2
    >>> result = ad.optim.minimize(f, [0.5, 0.5], "projected-gradient", bounds=(0.0, 1.0))
    >>> result.x.tolist()
    [1.0, 0.0]

    References
    ----------
    E. G. Birgin, J. M. Martínez, M. Raydan, "Nonmonotone spectral projected gradient methods on
    convex sets", SIAM J. Optim. 10 (2000) 1196-1211.
    """
    check_order(objective.who, min_length=min_length, max_length=max_length)
    x = objective.best_x
    low, high = objective.box()
    f, g = objective.value_and_grad(x)
    size = projected_size(x, g, low, high)
    objective.check_start(f, g, gtol, size)
    values = [f]
    length = min(max_length, max(min_length, 1.0 / size))
    while True:
        found = _search_back(objective, x, f, g, length, max(values[-memory:]))
        if found is None:
            objective.give_up(size)
        point, value, grad = found
        s, y = (point - x).astype(float), (grad - g).astype(float)
        along = float(s @ y)
        length = float(s @ s) / along if along > 0 else max_length
        length = min(max_length, max(min_length, length))
        x, f, g = point, value, grad
        values.append(f)
        size = projected_size(x, g, low, high)
        objective.step(x, f, size, g)
        if size <= gtol:
            met = f"the projected gradient is at most gtol={gtol:g}"
            objective.converged(met, x, f, g, gtol=gtol)


def _search_back(
    objective: Objective, x: Array, f: float, g: Array, length: float, highest: float
) -> tuple[Array, float, Array] | None:
    """Return a point along the projected gradient that is low enough, None if there is none."""
    low, high = objective.box()
    most = float(np.finfo(x.dtype).max) / 4
    # The step must be finite in the dtype of x, else all that is made of it is nan.
    length = min(length, most / float(np.max(np.abs(g))))
    d = np.clip(x - length * g, low, high) - x
    slope = float(g.astype(float) @ d.astype(float))
    step, reach = 1.0, float(np.max(np.abs(d)))
    least = float(np.finfo(x.dtype).eps) * float(np.max(np.abs(x)) + 1e-300)
    while True:
        point = np.clip(x + step * d, low, high).astype(x.dtype)
        value, grad = objective.value_and_grad(point)
        finite = math.isfinite(value) and bool(np.isfinite(grad).all())
        if finite and value <= highest + 1e-4 * step * slope:
            return point, value, grad
        if not step * reach > least or np.array_equal(point, x):
            return None
        curved = value - f - step * slope
        better = -0.5 * slope * step * step / curved if math.isfinite(value) and curved > 0 else 0
        step = better if 0.1 * step <= better <= 0.9 * step else 0.5 * step
