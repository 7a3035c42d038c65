"""The derivative of a solution in what the problem depends on, by the implicit function theorem.

Whatever a result holds is made a function of the tensors that are differentiated: `x` by the
condition of a minimum, the rest by evaluating it there once more. Where no rule holds, the values
refuse to be differentiated: a derivative that is silently zero would be worse than none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adjoint as ad
from adjoint.optim.arguments import constants
from adjoint.optim.bounds import ends_of, projected_size
from adjoint.optim.objective import Array, End, Objective, Stop
from adjoint.optim.result import Result
from adjoint.transforms.custom import attach, differentiated

__all__ = ["attach_least_squares", "attach_minimum", "attach_root", "tensors_of"]

SMALL = 1e-3  # a gradient, beside the value, where a method that did not converge is near enough
_PARTS = ("x", "fun", "grad", "cost", "jac", "multipliers", "aux")


def tensors_of(*trees: Any) -> list[ad.Tensor]:
    """Return the floating tensors in some trees.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.implicit import tensors_of
    >>> tensors_of({"a": ad.ones(2), "b": 3.0}, [ad.arange(3)])
    [Tensor([1., 1.], shape=(2,), dtype=float64)]
    """
    leaves = [x for tree in trees for x in ad.tree.leaves(tree)]
    return [x for x in leaves if isinstance(x, ad.Tensor) and ad.isdtype(x.dtype, "real floating")]


def attach_minimum(
    result: Result,
    objective: Objective,
    args: tuple[Any, ...],
    bounds: Any,
    conditions: Any,
    stop: Stop,
) -> None:
    """Make what `minimize` has found a differentiable function of `args`.

    `stop` says how the method has ended: elsewhere than at a minimum there is no rule.

    Examples
    --------
    >>> import adjoint as ad
    >>> def nearest(a):
    ...     return ad.optim.minimize(lambda x, a: (x - a) ** 2 + x**2, 0.0, args=(a,)).x
    >>> round(ad.grad(nearest)(3.0).item(), 9)
    0.5
    """
    objective.find_captured()
    inputs = tensors_of(args, ends_of(bounds), [c.args for c in conditions]) + objective.captured
    if not differentiated(inputs):
        return
    pure = objective.functions["value"]

    def value(x: ad.Tensor, *args: Any) -> Any:
        return pure(x, args)

    def rest(x: ad.Tensor) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        if objective.has_aux:
            parts["fun"], parts["aux"] = objective.f(objective.flat.unflatten(x), *args)
            parts["fun"] = ad.reshape(parts["fun"], ())
        else:
            parts["fun"] = value(x, *args)
        if result.grad is not None:
            parts["grad"] = objective.flat.unflatten(ad.grad(value)(x, *args))
        return parts

    reason = _no_rule(objective, bounds)
    if conditions:
        reason = "a minimum under constraints has no derivative here"
    sure = stop.end in (End.CONVERGED, End.HIDDEN)
    _attach(result, objective, value, args, inputs, rest, reason, sure)


def attach_least_squares(result: Result, problem: Any, args: tuple[Any, ...], bounds: Any) -> None:
    """Make what `least_squares` has found a differentiable function of `args`.

    Examples
    --------
    >>> import adjoint as ad
    >>> def half(y):
    ...     return ad.optim.least_squares(lambda x, y: 2.0 * x - y, 0.0, args=(y,)).x
    >>> ad.grad(half)(3.0).item()
    0.5
    """
    inputs = tensors_of(args, ends_of(bounds)) + problem.captured
    if not differentiated(inputs):
        return
    functions = problem.functions

    def cost(x: ad.Tensor, *args: Any) -> Any:
        return problem.total(functions["value"](x, args))

    def rest(x: ad.Tensor) -> dict[str, Any]:
        parts = {"fun": functions["value"](x, args), "cost": cost(x, *args)}
        if result.jac is not None:
            parts["jac"] = functions["jacobian"](x, args)
            parts["grad"] = problem.flat.unflatten(ad.grad(cost)(x, *args))
        return parts

    reason = _no_rule(problem, bounds)
    _attach(result, problem, cost, args, inputs, rest, reason, result.success)


def attach_root(result: Result, problem: Any, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Make what `root` has found a differentiable function of `args`.

    Examples
    --------
    >>> import adjoint as ad
    >>> square_root = lambda a: ad.optim.root(lambda x, a: x * x - a, 1.0, args=(a,)).x
    >>> round(ad.grad(square_root)(4.0).item(), 9)
    0.25
    """
    inputs = tensors_of(args) + problem.captured
    if not differentiated(inputs):
        return
    reason = _no_rule(problem, None)
    if reason is None and not result.success:
        reason = f"what is no root has no derivative: {result.reason}"
    if reason is not None:
        _refuse(result, inputs, f"[{problem.who}] {reason}")
        return
    flat, functions = problem.flat, problem.functions
    leaves = [ad.stop_gradient(x) for x in ad.tree.leaves(result.x)]
    found = ad.tree.unflatten(flat.treedef, leaves)
    result.x = ad.custom_root(f, lambda g, x: found)(found, *args)
    x = ad.concat([ad.reshape(leaf, (-1,)) for leaf in ad.tree.leaves(result.x)])
    result.fun = functions["value"](x, args)
    result.cost = 0.5 * ad.sum(result.fun * result.fun)
    if result.jac is not None:
        result.jac = functions["jacobian"](x, args)


def _no_rule(objective: Objective, bounds: Any) -> str | None:
    """Return why there is no derivative whatever the objective is, None if there may be one."""
    if differentiated(tensors_of(ends_of(bounds))):
        return "the solution has no derivative in its bounds"
    if differentiated(objective.captured):
        return (
            "the function uses values that are differentiated outside of it, and no derivative "
            "passes: give them in args"
        )
    return None


def _attach(
    result: Result,
    objective: Objective,
    value: Callable[..., Any],
    args: tuple[Any, ...],
    inputs: list[ad.Tensor],
    rest: Callable[[ad.Tensor], dict[str, Any]],
    reason: str | None,
    sure: bool,
) -> None:
    """Attach the rule of a minimum, or refuse; `sure`: the method says that it has found one."""
    if reason is None:
        found = objective.flat.flatten(ad.tree.leaves(result.x))
        try:
            g = _gradient(value, found, args)
            if not sure and _size(objective, found, g) > SMALL * (1.0 + abs(objective.best_f)):
                raise ValueError(f"no minimum was reached, as {result.reason}")
            root = ad.custom_root(_equation(value, objective.bounds), lambda g, x: found)
            vector = root(found, *args)
            parts = rest(vector)
        except (TypeError, ValueError) as error:
            reason = f"the solution has no derivative: {error}"
        else:
            result.x = objective.flat.unflatten(vector)
            for name, part in parts.items():
                setattr(result, name, part)
            return
    _refuse(result, inputs, f"[{objective.who}] {reason}")


def _size(objective: Objective, x: ad.Tensor, g: ad.Tensor) -> float:
    return projected_size(x.numpy(), g.numpy(), *objective.box())


def _gradient(value: Callable[..., Any], x: ad.Tensor, args: tuple[Any, ...]) -> ad.Tensor:
    """Return the gradient; raise if a function of x does not lead from tensors to a tensor."""
    connected = False

    def watched(x: ad.Tensor, *args: Any) -> Any:
        nonlocal connected
        out = value(x, *args)
        connected = isinstance(out, ad.Tensor) and out.requires_grad
        return out

    g: ad.Tensor = ad.grad(watched)(x, *constants(args))
    if not connected:
        raise TypeError("the function returns no tensor that was computed from x")
    if not bool(ad.all(ad.isfinite(g))):
        raise ValueError("the gradient is not finite there")
    return g


def _equation(
    value: Callable[..., Any], box: tuple[Array, Array] | None
) -> Callable[..., ad.Tensor]:
    """Return what is zero at a minimum.

    That is the gradient; within bounds, for a variable that a step against it would lead out, it is
    the distance to that bound.
    """

    def equation(x: ad.Tensor, *args: Any) -> ad.Tensor:
        g: ad.Tensor = ad.grad(value)(x, *args)
        if box is None:
            return g
        low, high = ad.asarray(box[0]), ad.asarray(box[1])
        left = ad.where(x - g > high, x - high, g)
        return ad.where(x - g < low, x - low, left)

    return equation


def _refuse(result: Result, inputs: list[ad.Tensor], message: str) -> None:
    """Make every number of a result raise where its derivative is asked for."""

    def pull(inputs: list[ad.Tensor], cotangents: list[ad.Tensor]) -> Any:
        raise ValueError(message)

    def refuse(part: Any) -> Any:
        if isinstance(part, float):
            part = ad.asarray(part)
        if not isinstance(part, ad.Tensor) or not tensors_of(part):
            return part
        return attach([ad.stop_gradient(part)], inputs, pull, None)[0]

    for name in _PARTS:
        part = getattr(result, name)
        if part is not None:
            setattr(result, name, ad.tree.map(refuse, part))
