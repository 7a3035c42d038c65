"""The derivative of a solution in what the problem depends on, by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adjoint as ad
from adjoint.optim.objective import Array, Flat
from adjoint.optim.result import Result

__all__ = ["attach_solution"]


def attach_solution(
    result: Result,
    f: Callable[..., Any],
    flat: Flat,
    args: tuple[Any, ...],
    box: tuple[Array, Array] | None,
    conditions: Any,
    has_aux: bool,
) -> None:
    """Make ``result.x`` a differentiable function of the tensors among `args`.

    What holds at a minimum is ``grad f(x, *args) = 0``; within bounds it is that a step against the
    gradient, clipped to the bounds, leads nowhere.

    Examples
    --------
    >>> import adjoint as ad
    >>> def nearest(a):
    ...     return ad.optim.minimize(lambda x, a: (x - a) ** 2 + x**2, 0.0, args=(a,)).x
    >>> round(ad.grad(nearest)(3.0).item(), 9)
    0.5
    """
    tensors = [a for a in ad.tree.leaves(args) if isinstance(a, ad.Tensor)]
    if conditions or not any(ad.isdtype(a.dtype, "real floating") for a in tensors):
        return

    def value(x: Any, *args: Any) -> Any:
        out = f(flat.unflatten(x), *args)
        return ad.reshape(out[0] if has_aux else out, ())

    def equation(x: ad.Tensor, *args: Any) -> ad.Tensor:
        g: ad.Tensor = ad.grad(value)(x, *args)
        if box is None:
            return g
        return x - ad.clip(x - g, ad.asarray(box[0]), ad.asarray(box[1]))

    leaves = [ad.stop_gradient(x) for x in ad.tree.leaves(result.x)]
    found = flat.flatten(leaves)
    root = ad.custom_root(equation, lambda g, x: found)
    result.x = flat.unflatten(root(found, *args))
