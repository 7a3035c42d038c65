"""Equality and inequality constraints: the augmented Lagrangian.

A sequence of problems with bounds alone, whose objective is that of Powell, Hestenes and
Rockafellar; after each, the multipliers move by what is violated, and the penalty grows where that
did not become less. J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), section
17.4; E. G. Birgin, J. M. Martínez, "Practical Augmented Lagrangian Methods" (2014), algorithm 4.1.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

import adjoint as ad
from adjoint._arguments import check_choice
from adjoint.optim.arguments import as_args, check_call, constants
from adjoint.optim.functions import Derived, Functions, Watch, kept_functions, value_of
from adjoint.optim.lbfgsb import l_bfgs_b
from adjoint.optim.objective import Array, Flat, Objective, Stop
from adjoint.optim.options import check_known
from adjoint.optim.result import Result

__all__ = ["Condition", "augmented_lagrangian", "read_constraints"]


WHO = "minimize"
MOST_PENALTY = 1e12
MOST_IN_VAIN = 15  # inner problems that leave the constraints no better met


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


class _Lagrangian(Derived):
    """The objective of the inner problems; multipliers and penalty are arguments.

    It returns the value and what that is made of: the objective alone and the constraints.
    """

    def __init__(self, f: Any, conditions: tuple[Condition, ...], has_aux: bool) -> None:
        equal = tuple(c.equal for c in conditions)
        super().__init__(f, *(c.fun for c in conditions), said=(equal, has_aux))

    def __call__(
        self, x: Any, args: Any, more: Any, scales: Any, multipliers: Any, penalty: Any
    ) -> Any:
        equal, has_aux = self.said
        value = value_of(WHO, self.functions[0](x, *args), has_aux)
        total, found = value, []
        for fun, is_equal, own, scale, weight in zip(
            self.functions[1:], equal, more, scales, multipliers, strict=True
        ):
            c = Condition(fun, is_equal, own).value(x)
            found.append(c)
            c = scale * c
            if is_equal:
                total = total + ad.sum(weight * c + 0.5 * penalty * c * c)
            else:
                pushed = ad.maximum(weight - penalty * c, 0.0)
                total = total + ad.sum(pushed * pushed - weight * weight) / (2.0 * penalty)
        return total, (value, found)

    def pure(self, flat: Flat) -> Functions:
        """Return it and its gradient as functions of ``(vector, args)``.

        ``"loose"`` lists what was no tensor that was computed from x when they were last traced.
        """
        watch = Watch()
        loose: list[tuple[str, str]] = []

        def value(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
            return self(flat.unflatten(vector), *args)

        def watched(vector: ad.Tensor, args: tuple[Any, ...]) -> Any:
            total, (f, found) = value(vector, args)
            watch.look(total)
            named = [("the objective", f), *(("a constraint", c) for c in found)]
            loose[:] = [
                (name, type(out).__name__)
                for name, out in named
                if not (isinstance(out, ad.Tensor) and out.requires_grad)
            ]
            return total, (f, found)

        return {
            "value": value,
            "value_and_grad": ad.value_and_grad(watched, has_aux=True),
            "watch": watch,
            "loose": loose,
        }


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
    >>> [round(v, 5) for v in result.x.tolist()], result.violation < 1e-8
    ([-1.0, -1.0], True)
    """
    fixed = tuple(c._replace(args=constants(c.args)) for c in conditions)
    _Outer(objective, fixed, gtol, ctol, penalty, growth, memory).run()


class _Inner(Objective):
    """The Lagrangian at some multipliers and penalty, as "l-bfgs-b" sees it.

    Each point that it evaluates is one of the outer problem too: it is offered as the answer, and
    history and callback are told of the objective there, not of the Lagrangian.
    """

    def __init__(self, outer: _Outer, x: Array, multipliers: list[Array], penalty: float) -> None:
        whole = outer.objective
        weights, scales = ([ad.asarray(m) for m in each] for each in (multipliers, outer.scales))
        scale = ad.asarray(penalty, dtype=whole.flat.dtype)
        given = whole.gradient
        super().__init__(
            outer.lagrangian,
            whole.flat,
            (whole.args, tuple(c.args for c in outer.conditions), scales, weights, scale),
            whole.limits,
            compiled=whole.compiles,
            # One of the objective alone is taken where there is nothing else.
            gradient=(lambda x, args, *_: given(x, *args)) if callable(given) else given,
            functions=outer.functions,
        )
        self.outer, self.weights, self.penalty = outer, multipliers, penalty
        self.bounds, self.history = whole.bounds, whole.history
        self.start = self.best_x = self.at = x
        self.nit, self.nfev, self.ngev = whole.nit, whole.nfev, whole.ngev
        self.size = math.inf  # of the gradient where it stands
        self._asked = x
        self._known: dict[bytes, tuple[float, list[Array]]] = {}

    def value_and_grad(self, x: Array) -> tuple[float, Array]:
        """Return the value and the gradient at a point."""
        self._asked = x
        if not self.automatic:
            return super().value_and_grad(x)
        self._count(f=1, g=1)
        (value, parts), grad = self.call("value_and_grad", ad.asarray(x))
        self.outer.check_connected(self.functions["loose"])
        self._note(x, parts)
        g = grad.numpy()
        return self.see(x, value.item(), g), g

    def _value(self, x: Array) -> float:
        value, parts = self.call("value", ad.asarray(x))
        self.note_captured(value)
        self._note(x, parts)
        return value if isinstance(value, float) else float(value.item())

    def _note(self, x: Array, parts: Any) -> None:
        value, found = parts
        f = value if isinstance(value, float) else float(value.item())
        numbers = self.outer.numbers(found)
        if x is self._asked:
            self._known[x.tobytes()] = f, numbers
        self.outer.offer(x, f, numbers, self.weights, self.penalty)

    def parts(self, x: Array) -> tuple[float, list[Array]]:
        """Return objective and constraints where the method stands."""
        return self._known[x.tobytes()]

    def step(self, x: Any, f: float, grad_norm: float | None = None, g: Any = None) -> None:
        """Note an iteration, with the value of the objective."""
        self.at, self.size = x, math.inf if grad_norm is None else grad_norm
        here = self.parts(x)
        self._known = {x.tobytes(): here}
        super().step(x, here[0], grad_norm)

    def intermediate(self, x: Any, f: float, g: Any = None) -> Result:
        """Return how things stand, with what is violated."""
        out = super().intermediate(x, f)
        out.violation = self.outer.worst(self.parts(x)[1])
        return out

    def check_start(self, f: float, g: Array, gtol: float, size: float | None = None) -> None:
        """Stop where nothing is left to do."""
        self.size = float(np.max(np.abs(g))) if size is None else size
        super().check_start(f, g, gtol, size)

    def find_captured(self) -> None:
        """Remember whether the values depend on what is differentiated elsewhere."""
        if not self.captured and self.functions["watch"].captured:
            self.note_captured(self.functions["value"](ad.asarray(self.at), self.args)[0])


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
        self.scales: list[Array] = []
        flat = objective.flat
        self.lagrangian = _Lagrangian(objective.f, conditions, objective.has_aux)
        self.functions = kept_functions(
            self.lagrangian, ("lagrangian", flat.key), lambda: self.lagrangian.pure(flat)
        )

    def run(self) -> None:
        """Alternate inner problems and multipliers until both are content."""
        x = self.objective.start
        self.scales = self.find_scales(x)
        multipliers = [np.zeros_like(s) for s in self.scales]
        before, least, loose = math.inf, math.inf, max(self.gtol, 1e-2)
        penalty = self.penalty
        stuck = 0
        while True:
            inner = _Inner(self, x, multipliers, penalty)
            stop = self.solve(inner, loose)
            x = inner.at
            if stop.end.final:
                raise stop
            f, found = inner.parts(x)
            violation = self.worst(found)
            if not (math.isfinite(f) and math.isfinite(violation)):
                raise Stop(f"objective or constraints are not finite: {stop.reason}")
            left = max(violation, self.complementarity(found, multipliers, penalty))
            multipliers = self.moved(found, multipliers, penalty)
            if left <= self.ctol and loose <= self.gtol:
                self.conclude(inner, stop, f, multipliers)
            if left > 0.25 * before:
                penalty = min(penalty * self.growth, MOST_PENALTY)
            stuck = stuck + 1 if left > 0.9 * least else 0
            if stuck > MOST_IN_VAIN:
                self.give_up(stop)
            before, least = left, min(left, least)
            loose = max(self.gtol, 0.1 * loose)

    def solve(self, inner: _Inner, gtol: float) -> Stop:
        """Solve an inner problem, and take over what it has used, however it ends."""
        outer = self.objective
        try:
            l_bfgs_b(inner, gtol=gtol, ftol=0.0, memory=self.memory)
        except Stop as end:
            inner.find_captured()
            return end
        finally:
            outer.nit, outer.nfev, outer.ngev = inner.nit, inner.nfev, inner.ngev
            outer.compiles = inner.compiles
            outer.captured = outer.captured or inner.captured
        raise AssertionError("a method ends by Stop")

    def conclude(self, inner: _Inner, stop: Stop, f: float, multipliers: list[Array]) -> NoReturn:
        """End where the constraints are met: with success if the Lagrangian is stationary too."""
        met = f"constraints are met to ctol={self.ctol:g}"
        if inner.size > self.gtol:
            raise Stop(f"{met}, but of the Lagrangian {stop.reason}")
        outer = self.objective
        # What is violated by less than ctol lowers the value by as much, times the multiplier.
        pairs = zip(multipliers, self.scales, strict=True)
        slack = self.ctol * sum(float(np.sum(np.abs(m * s))) for m, s in pairs)
        before = outer.best_x
        met = f"{met}, and the gradient of the Lagrangian is at most gtol={self.gtol:g}"
        try:
            outer.converged(met, inner.at, f, gtol=self.gtol, slack=2 * slack)
        finally:
            if outer.best_x is not before:
                self.describe(inner.parts(inner.at)[1], multipliers)

    def give_up(self, stop: Stop) -> NoReturn:
        """End where neither multipliers nor the penalty lead further."""
        violation = math.inf if self.objective.violation is None else self.objective.violation
        if violation <= self.ctol:
            raise Stop(f"constraints are met to ctol={self.ctol:g}, but {stop.reason}")
        raise Stop(
            f"the constraints are not met better than to {violation:.3g}: they contradict each "
            "other near here, or their values are too small beside those of the function"
        )

    # ---- The best point -------------------------------------------------------------------------

    def offer(
        self, x: Array, f: float, found: list[Array], multipliers: list[Array], penalty: float
    ) -> None:
        """Keep the better point: by what is violated, and where that is nothing by the value."""
        outer, violation = self.objective, self.worst(found)
        if not (math.isfinite(f) and math.isfinite(violation)):
            return
        best = math.inf if outer.violation is None else outer.violation
        rank, kept = (max(v, self.ctol) for v in (violation, best))
        if rank < kept or (rank == kept and f < outer.best_f):
            outer.replace_best(x, f)
            self.describe(found, self.moved(found, multipliers, penalty))

    def describe(self, found: list[Array], multipliers: list[Array]) -> None:
        """Say of the best point how the constraints stand there."""
        self.objective.violation = self.worst(found)
        pairs = zip(multipliers, self.scales, strict=True)
        self.objective.multipliers = [ad.asarray(m * s) for m, s in pairs]

    # ---- Constraints ----------------------------------------------------------------------------

    def check_connected(self, loose: list[tuple[str, str]]) -> None:
        """Raise where objective or constraint is no tensor computed from x: it would not count."""
        for name, kind in loose:
            raise TypeError(
                f"[{WHO}] {name} must return a tensor that is computed from x, not a {kind} that "
                "has no gradient: write it with this library's functions, or take differences by "
                "options={'gradient': '2-point'}"
            )

    def find_scales(self, x: Array) -> list[Array]:
        """Return a factor for each value of the constraints: it makes no slope at x0 above 1.

        Birgin and Martínez, section 12.4. Where no derivative is taken the factors are 1.
        """
        flat, scales = self.objective.flat, []
        for condition in self.conditions:

            def value(vector: ad.Tensor, condition: Condition = condition) -> Any:
                return ad.reshape(condition.value(flat.unflatten(vector)), (-1,))

            (c,) = self.numbers([condition.value(flat.unflatten(x))])
            scale = np.ones_like(c)
            if self.objective.automatic and c.size:
                with contextlib.suppress(Exception):  # it is told where all is evaluated
                    slopes = np.abs(ad.jacobian(value)(ad.asarray(x)).numpy()).max(axis=1)
                    slopes = np.where(np.isfinite(slopes), slopes, 1.0).reshape(c.shape)
                    scale = (1.0 / np.maximum(slopes, 1.0)).astype(c.dtype)
            scales.append(scale)
        return scales

    def numbers(self, found: list[ad.Tensor]) -> list[Array]:
        """Return values of the constraints, each as an array."""
        flat = self.objective.flat
        return [flat.numbers(WHO, "a constraint", c).astype(flat.np_dtype) for c in found]

    def worst(self, found: list[Array]) -> float:
        """Return by how much the worst constraint is not met; nan is not met at all."""
        worst = 0.0
        for condition, c in zip(self.conditions, found, strict=True):
            if c.size:
                off = np.abs(c) if condition.equal else np.maximum(-c, 0.0)
                worst = max(worst, float(np.max(np.where(np.isfinite(c), off, math.inf))))
        return worst

    def complementarity(
        self, found: list[Array], multipliers: list[Array], penalty: float
    ) -> float:
        """Return by how much inequalities with a multiplier are not active."""
        gaps = [
            float(np.max(np.abs(np.minimum(s * c, m / penalty))))
            if c.size and not condition.equal
            else 0.0
            for condition, c, s, m in zip(
                self.conditions, found, self.scales, multipliers, strict=True
            )
        ]
        return max(gaps, default=0.0)

    def moved(self, found: list[Array], multipliers: list[Array], penalty: float) -> list[Array]:
        """Return the next multipliers, kept within what numbers can carry."""
        out = []
        for condition, c, s, m in zip(
            self.conditions, found, self.scales, multipliers, strict=True
        ):
            way = penalty * s * c
            new = m + way if condition.equal else np.maximum(m - way, 0.0)
            out.append(np.clip(new, -1e20, 1e20).astype(c.dtype))
        return out
