"""Directions of descent: what a line search follows.

Each is a pure pair on flat vectors. ``init(x, g) -> memory`` and ``update(memory, s, y, g, d) ->
(direction, memory)``, where the last step was `s`, along `d`, the gradient changed by `y` on it and
is now `g`. Written in operations on tensors: a whole iteration compiles.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import adjoint as ad

__all__ = ["BFGS", "LBFGS", "ConjugateGradient", "Descent", "SteepestDescent", "dot"]

Vector = ad.Tensor


def dot(a: Vector, b: Vector) -> Vector:
    """Return the sum of the products; as elementwise work it is fused with what is around it.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.descent import dot
    >>> dot(ad.tensor([1.0, 2.0]), ad.tensor([3.0, 4.0])).item()
    11.0
    """
    return ad.sum(a * b)


class Descent(abc.ABC):
    """How to find a direction from the steps before.

    Examples
    --------
    A step of length 1 against a gradient of 2 that has halved it, for ``f(x) = x**2 / 2``:

    >>> import adjoint as ad
    >>> from adjoint.optim.descent import BFGS
    >>> s, y, g = (ad.tensor([v]) for v in (-1.0, -1.0, 1.0))
    >>> rule = BFGS()
    >>> direction, memory = rule.update(rule.init(s, y), s, y, g, s)
    >>> direction.tolist()
    [-1.0]
    """

    unit_step: ClassVar[bool] = False  # whether 1 is the step to try first

    @abc.abstractmethod
    def init(self, x: Vector, g: Vector) -> Any:
        """Return the memory before the first step, which is along ``-g``."""

    @abc.abstractmethod
    def update(self, memory: Any, s: Vector, y: Vector, g: Vector, d: Vector) -> tuple[Vector, Any]:
        """Return the next direction and memory, after a step `s` along `d`."""


@dataclasses.dataclass(frozen=True)
class SteepestDescent(Descent):
    """Against the gradient (Cauchy 1847).

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.descent import SteepestDescent
    >>> s, y, g = ad.tensor([-1.0, 0.0]), ad.tensor([-4.0, 0.0]), ad.tensor([4.0, 2.0])
    >>> rule = SteepestDescent()
    >>> direction, memory = rule.update(rule.init(s, g), s, y, g, s)
    >>> direction.tolist()
    [-4.0, -2.0]
    """

    def init(self, x: Vector, g: Vector) -> Any:
        return ()

    def update(self, memory: Any, s: Vector, y: Vector, g: Vector, d: Vector) -> tuple[Vector, Any]:
        return -g, memory


@dataclasses.dataclass(frozen=True)
class ConjugateGradient(Descent):
    """Nonlinear conjugate gradients with a guaranteed descent.

    W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient
    line search", SIAM J. Optim. 16 (2005) 170-192, formulas 1.3 to 1.6.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.descent import ConjugateGradient
    >>> s, y, g = ad.tensor([-1.0, 0.0]), ad.tensor([-4.0, 0.0]), ad.tensor([4.0, 2.0])
    >>> rule = ConjugateGradient()
    >>> direction, memory = rule.update(rule.init(s, g), s, y, g, s)
    >>> direction.tolist()
    [-8.0, -2.0]
    """

    def init(self, x: Vector, g: Vector) -> Any:
        return ()

    def update(self, memory: Any, s: Vector, y: Vector, g: Vector, d: Vector) -> tuple[Vector, Any]:
        before = g - y
        along = dot(d, y)
        useful = along > 0
        safe = ad.where(useful, along, 1.0)
        beta = (dot(y, g) - 2.0 * dot(y, y) / safe * dot(d, g)) / safe
        least = -1.0 / (ad.sqrt(dot(d, d)) * ad.minimum(ad.sqrt(dot(before, before)), 0.01))
        beta = ad.where(useful, ad.maximum(beta, least), 0.0)
        return beta * d - g, memory


class _Inverse(NamedTuple):
    matrix: Vector
    fresh: Vector  # whether it is still to be scaled by what the first step shows


@dataclasses.dataclass(frozen=True)
class BFGS(Descent):
    """The inverse Hessian, corrected by each step (Broyden, Fletcher, Goldfarb, Shanno 1970).

    J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), formulas 6.17 and 6.20.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.descent import BFGS
    >>> s, y, g = ad.tensor([-1.0, 0.0]), ad.tensor([-4.0, 0.0]), ad.tensor([4.0, 2.0])
    >>> rule = BFGS()
    >>> direction, memory = rule.update(rule.init(s, g), s, y, g, s)
    >>> direction.tolist()
    [-1.0, -0.5]
    """

    unit_step = True

    def init(self, x: Vector, g: Vector) -> Any:
        return _Inverse(ad.eye(x.size, dtype=x.dtype), ad.ones((), dtype=ad.bool))

    def update(self, memory: Any, s: Vector, y: Vector, g: Vector, d: Vector) -> tuple[Vector, Any]:
        useful, along, scale = _curvature(s, y)
        matrix = ad.where(memory.fresh & useful, scale, 1.0) * memory.matrix
        moved = matrix @ y
        weight = 1.0 / along
        change = (1.0 + weight * dot(y, moved)) * weight * (s[:, None] * s) - weight * (
            moved[:, None] * s + s[:, None] * moved
        )
        matrix = matrix + ad.where(useful, change, 0.0)
        return -(matrix @ g), _Inverse(matrix, memory.fresh & ~useful)


class _Pairs(NamedTuple):
    steps: tuple[Vector, ...]  # the oldest first; a pair of weight 0 counts for nothing
    changes: tuple[Vector, ...]
    weights: tuple[Vector, ...]
    scale: Vector


@dataclasses.dataclass(frozen=True)
class LBFGS(Descent):
    """BFGS from the last few steps alone.

    J. Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35 (1980)
    773-782: the recursion of two loops.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.descent import LBFGS
    >>> s, y, g = ad.tensor([-1.0, 0.0]), ad.tensor([-4.0, 0.0]), ad.tensor([4.0, 2.0])
    >>> rule = LBFGS(memory=5)
    >>> direction, memory = rule.update(rule.init(s, g), s, y, g, s)
    >>> direction.tolist()
    [-1.0, -0.5]
    """

    memory: int = 10
    unit_step = True

    def init(self, x: Vector, g: Vector) -> Any:
        nothing = ad.zeros_like(x)
        zero, one = (ad.asarray(v, dtype=x.dtype) for v in (0.0, 1.0))
        count = self.memory
        return _Pairs((nothing,) * count, (nothing,) * count, (zero,) * count, one)

    def update(self, memory: Any, s: Vector, y: Vector, g: Vector, d: Vector) -> tuple[Vector, Any]:
        useful, along, scale = _curvature(s, y)
        pairs = _Pairs(
            (*memory.steps[1:], s),
            (*memory.changes[1:], y),
            (*memory.weights[1:], ad.where(useful, 1.0 / along, 0.0)),
            ad.where(useful, scale, memory.scale),
        )
        q = -g
        shares: list[Vector] = []
        for step, change, weight in reversed([*zip(*pairs[:3], strict=True)]):
            shares.append(weight * dot(step, q))
            q = q - shares[-1] * change
        q = pairs.scale * q
        for step, change, weight in zip(*pairs[:3], strict=True):
            q = q + (shares.pop() - weight * dot(change, q)) * step
        return q, pairs


def _curvature(s: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
    """Return whether the step shows positive curvature, s·y (or 1), and s·y / y·y."""
    along, size = dot(s, y), dot(y, y)
    useful = along > _least_share(s) * size
    return useful, ad.where(useful, along, 1.0), along / ad.where(useful, size, 1.0)


def _least_share(x: Vector) -> float:
    return 1e-7 if x.dtype == ad.float32 else 2.2e-16
