"""Equality and inequality constraints: the augmented Lagrangian.

A sequence of problems with bounds alone, whose objective is that of Powell, Hestenes and
Rockafellar; after each, the multipliers move by what is violated, and the penalty grows where that
did not become less. J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), section
17.4; E. G. Birgin, J. M. Martínez, "Practical Augmented Lagrangian Methods" (2014), algorithm 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import adjoint as ad
from adjoint._arguments import check_choice
from adjoint.optim.arguments import as_args, check_call, constants
from adjoint.optim.lbfgsb import l_bfgs_b
from adjoint.optim.objective import Array, Objective, Stop, check_scalar
from adjoint.optim.options import check_known

__all__ = ["Condition", "augmented_lagrangian", "read_constraints"]


WHO = "minimize"


class Condition(NamedTuple):
    """Some values that must be zero, or not negative.

    Examples
    --------
    >>> from adjoint.optim.constraints import read_constraints
    >>> (condition,) = read_constraints("minimize", {"type": "ineq", "fun": abs})
    >>> condition.equal, condition.args
    (False, ())
    """

    fun: Any
    equal: bool
    args: tuple[Any, ...]

    def value(self, x: Any) -> ad.Tensor:
        """Return the values at a point; a list or tuple of them stands for one array."""
        out = self.fun(x, *self.args)
        if isinstance(out, (list, tuple)):
            if not out:
                raise ValueError(f"[{WHO}] a constraint returns no values")
            return ad.concat([ad.reshape(ad.asarray(part), (-1,)) for part in out])
        try:
            return ad.asarray(out)
        except (TypeError, ValueError):
            raise TypeError(
                f"[{WHO}] a constraint must return a tensor, or a list of numbers, not a "
                f"{type(out).__name__}"
            ) from None


def read_constraints(who: str, constraints: Any) -> tuple[Condition, ...]:
    """Return the constraints as they are given to `minimize`, checked.

    Examples
    --------
    >>> from adjoint.optim.constraints import read_constraints
    >>> read_constraints("minimize", {"type": "eq"})
    Traceback (most recent call last):
        ...
    ValueError: [minimize] a constraint needs 'type' and 'fun'
    """
    if isinstance(constraints, Mapping):
        constraints = (constraints,)
    if not isinstance(constraints, Sequence):
        raise TypeError(
            f"[{who}] constraints must be dicts {{'type': 'eq' or 'ineq', 'fun': ...}}, not a "
            f"{type(constraints).__name__}"
        )
    found = []
    for given in constraints:
        if not isinstance(given, Mapping):
            raise TypeError(
                f"[{who}] a constraint must be a dict {{'type': 'eq' or 'ineq', 'fun': ...}}, not "
                f"a {type(given).__name__}"
            )
        check_known(who, "a constraint", map(str, given), ("type", "fun", "args"))
        if "type" not in given or "fun" not in given:
            raise ValueError(f"[{who}] a constraint needs 'type' and 'fun'")
        check_choice(who, "the type of a constraint", given["type"], ("eq", "ineq"))
        args = as_args(given.get("args", ()))
        which = f"x0 and the {len(args)} of its args"
        check_call(who, "the fun of a constraint", given["fun"], 1 + len(args), which)
        found.append(Condition(given["fun"], given["type"] == "eq", args))
    return tuple(found)


class _Lagrangian:
    """The objective of the inner problems; multipliers and penalty are arguments."""

    def __init__(self, f: Any, conditions: tuple[Condition, ...], has_aux: bool) -> None:
        self.f, self.conditions, self.has_aux = f, conditions, has_aux

    def __call__(self, x: Any, args: Any, multipliers: Any, penalty: Any) -> Any:
        out = self.f(x, *args)
        total = check_scalar("minimize", out[0] if self.has_aux else out)
        for condition, weight in zip(self.conditions, multipliers, strict=True):
            c = condition.value(x)
            if condition.equal:
                total = total + ad.sum(weight * c + 0.5 * penalty * c * c)
            else:
                pushed = ad.maximum(weight - penalty * c, 0.0)
                total = total + ad.sum(pushed * pushed - weight * weight) / (2.0 * penalty)
        return total


def augmented_lagrangian(
    objective: Objective,
    conditions: tuple[Condition, ...],
    *,
    gtol: float,
    ctol: float = 1e-8,
    penalty: float = 10.0,
    growth: float = 10.0,
    memory: int = 10,
) -> None:
    """Minimize under constraints.

    Parameters
    ----------
    objective : Objective
    conditions : tuple of Condition
    gtol : float
        Converged where no part of the gradient of the Lagrangian is larger, and
    ctol : float
        no constraint is violated by more.
    penalty, growth : float
        The first penalty, and its factor where a constraint did not become less violated.
    memory : int
        Of "l-bfgs-b", which solves the problems inside.

    Examples
    --------
    >>> import adjoint as ad
    >>> on_circle = {"type": "eq", "fun": lambda x: ad.sum(x**2) - 2.0}
    >>> result = ad.optim.minimize(lambda x: x[0] + x[1], [-1.0, 0.5], constraints=on_circle)
    >>> [round(v, 6) for v in result.x.tolist()], result.violation < 1e-8
    ([-1.0, -1.0], True)
    """
    fixed = tuple(c._replace(args=constants(c.args)) for c in conditions)
    _Outer(objective, fixed, gtol, ctol, penalty, growth, memory).run()


class _Outer:
    """The loop over multipliers and penalty."""

    def __init__(
        self,
        objective: Objective,
        conditions: tuple[Condition, ...],
        gtol: float,
        ctol: float,
        penalty: float,
        growth: float,
        memory: int,
    ) -> None:
        self.objective, self.conditions = objective, conditions
        self.gtol, self.penalty = gtol, penalty
        eps = float(np.finfo(objective.flat.np_dtype).eps)
        self.ctol = max(ctol, 100 * eps)
        self.growth, self.memory = growth, memory
        self.lagrangian = _Lagrangian(objective.f, conditions, objective.has_aux)
        self.best_violation = math.inf

    def values(self, x: Array) -> list[Array]:
        """Return the constraints at a point, each as an array."""
        flat, who = self.objective.flat, self.objective.who
        tree = flat.unflatten(x)
        out = [condition.value(tree) for condition in self.conditions]
        return [flat.numbers(who, "a constraint", c).astype(x.dtype) for c in out]

    def check_connected(self, x: Array) -> None:
        """Raise where objective or constraint is no tensor computed from x: it would not count."""
        outer = self.objective
        if outer.gradient != "auto":
            return
        tree = outer.flat.unflatten(ad.tensor(x, requires_grad=True))
        value = outer.f(tree, *outer.args)
        found = [("the objective", value[0] if outer.has_aux else value)]
        found += [("a constraint", c.value(tree)) for c in self.conditions]
        for name, out in found:
            if not (isinstance(out, ad.Tensor) and out.requires_grad):
                raise TypeError(
                    f"[{outer.who}] {name} must return a tensor that is computed from x, not a "
                    f"{type(out).__name__} that has no gradient: write it with this library's "
                    "functions, or take differences by options={'gradient': '2-point'}"
                )

    def run(self) -> None:
        """Alternate inner problems and multipliers until both are content."""
        outer = self.objective
        x = outer.best_x
        self.check_connected(x)
        found = self.values(x)
        multipliers = [np.zeros_like(c) for c in found]
        before, loose = math.inf, max(self.gtol, 1e-2)
        penalty = self.penalty
        stuck = 0
        while True:
            inner = self.inner(x, multipliers, penalty)
            try:
                l_bfgs_b(inner, gtol=loose, ftol=0.0, memory=self.memory)
            except Stop as end:
                stop = end
            x = inner.best_x
            self.take_over(inner)
            found = self.values(x)
            violation = max(
                (
                    self.violation(c, found_c)
                    for c, found_c in zip(self.conditions, found, strict=True)
                ),
                default=0.0,
            )
            self.keep(x, violation, multipliers, inner)
            if not (math.isfinite(inner.best_f) and math.isfinite(violation)):
                raise Stop(f"objective or constraints are not finite: {stop.reason}")
            if stop.reason.startswith(("maxfun", "maxtime", "maxiter", "the callback")):
                raise stop
            gap = self.complementarity(found, multipliers, penalty)
            multipliers = self.moved(found, multipliers, penalty)
            outer.violation, outer.multipliers = violation, [ad.asarray(m) for m in multipliers]
            if max(violation, gap) <= self.ctol and loose <= self.gtol:
                met = f"constraints are met to ctol={self.ctol:g}"
                if not stop.success:
                    raise Stop(f"{met}, but of the Lagrangian {stop.reason}")
                raise Stop(
                    f"{met}, and the gradient of the Lagrangian is at most gtol={self.gtol:g}", True
                )
            if max(violation, gap) > 0.25 * before:
                penalty = min(penalty * self.growth, 1e12)
                stuck += 1
            else:
                stuck = 0
            if stuck > 15:
                raise Stop(f"the constraints cannot be met better than to {violation:.3g}")
            before = max(violation, gap)
            loose = max(self.gtol, 0.1 * loose)

    def inner(self, x: Array, multipliers: list[Array], penalty: float) -> Objective:
        """Return the inner problem, which counts on from where the outer one stands."""
        outer = self.objective
        weights = [ad.asarray(m) for m in multipliers]
        scale = ad.asarray(penalty, dtype=outer.flat.dtype)
        inner = Objective(
            self.lagrangian,
            outer.flat,
            (outer.args, weights, scale),
            outer.limits,
            compiled=outer.compiles,
            gradient=outer.gradient,
        )
        inner.bounds, inner.best_x = outer.bounds, x
        inner.nit, inner.nfev, inner.ngev = outer.nit, outer.nfev, outer.ngev
        inner.history = outer.history
        return inner

    def take_over(self, inner: Objective) -> None:
        """Count what the inner problem has used."""
        outer = self.objective
        outer.nit, outer.nfev, outer.ngev = inner.nit, inner.nfev, inner.ngev
        outer.compiles = inner.compiles
        outer.captured = outer.captured or inner.captured

    def keep(self, x: Array, violation: float, multipliers: list[Array], inner: Objective) -> None:
        """Keep the better point: first by what is violated, then by the value."""
        outer = self.objective
        f = outer._value(x)
        if not math.isfinite(f):
            return
        content = max(violation, self.ctol) <= max(self.best_violation, self.ctol)
        if content or outer.best_f == math.inf:
            outer.best_x, outer.best_f, outer.best_g = x, f, None
            self.best_violation = violation

    @staticmethod
    def violation(condition: Condition, c: Array) -> float:
        """Return by how much a constraint is not met."""
        if not c.size:
            return 0.0
        worst = float(np.max(np.abs(c) if condition.equal else np.maximum(-c, 0.0)))
        return worst if math.isfinite(worst) else math.inf  # nan too

    def complementarity(
        self, found: list[Array], multipliers: list[Array], penalty: float
    ) -> float:
        """Return by how much inequalities with a multiplier are not active."""
        gaps = [
            float(np.max(np.abs(np.minimum(c, m / penalty))))
            if c.size and not condition.equal
            else 0.0
            for condition, c, m in zip(self.conditions, found, multipliers, strict=True)
        ]
        return max(gaps, default=0.0)

    def moved(self, found: list[Array], multipliers: list[Array], penalty: float) -> list[Array]:
        """Return the next multipliers, kept within what numbers can carry."""
        out = []
        for condition, c, m in zip(self.conditions, found, multipliers, strict=True):
            new = m + penalty * c if condition.equal else np.maximum(m - penalty * c, 0.0)
            out.append(np.clip(new, -1e20, 1e20).astype(c.dtype))
        return out
