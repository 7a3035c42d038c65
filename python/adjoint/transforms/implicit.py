"""Derivatives of what an equation defines: roots and fixed points.

Where ``f(x, *args) = 0``, a change of the arguments moves x by ``J dx = -df`` with J the derivative
in x (the implicit function theorem). So the derivative of a root is one linear solve, whatever the
solver did to find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint import _core, linalg, tree
from adjoint._arguments import check_at_least_zero, check_callable, check_count
from adjoint._core import Tensor
from adjoint._dtypes import is_differentiable
from adjoint._pickling import Made
from adjoint.transforms.control import while_loop
from adjoint.transforms.custom import (
    Frame,
    Maybe,
    Tensors,
    attach,
    differentiated,
    floats,
    pull_at,
    push_at,
    refuse_captured,
    stopped,
    take_apart,
)

__all__ = ["custom_fixed_point", "custom_root"]

Matvec = Callable[[Tensor], Tensor]
LinearSolve = Callable[[Matvec, Tensor], Tensor]


def custom_root(
    f: Callable[..., Any],
    solver: Callable[[Callable[[Any], Any], Any], Any],
    linear_solve: LinearSolve | None = None,
) -> Callable[..., Any]:
    """Return the function that solves ``f(x, *args) = 0`` for `x`, with its derivative in `args`.

    The derivative is that of the equation (the implicit function theorem), not of the solver's
    steps: the solver may be anything, and nothing of its work is kept.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns a tree like `x`. It must not close over values that are
        differentiated: pass them in `args`.
    solver : callable
        ``solver(g, x0)`` returns a root of ``g(x) = f(x, *args)``, starting at `x0`.
    linear_solve : callable, optional
        ``linear_solve(matvec, b)`` returns the `u` with ``matvec(u) = b``, both vectors. By default
        the matrix is formed and factorised. For derivatives of second order it must itself be made
        of differentiable operations.

    Returns
    -------
    callable
        ``root(x0, *args)``; the result does not depend on `x0` as far as derivatives go.

    Raises
    ------
    ValueError
        If `f` returns another structure or shape than `x`, or the derivative of `f` in `x` is
        singular.

    Examples
    --------
    >>> import adjoint as ad
    >>> def newton(g, x):
    ...     for _ in range(8):
    ...         x = x - g(x) / ad.grad(g)(x)
    ...     return x
    >>> square_root = ad.custom_root(lambda x, a: x * x - a, newton)
    >>> round(ad.grad(lambda a: square_root(1.0, a))(4.0).item(), 12)
    0.25
    """
    solve = _dense_solve("custom_root") if linear_solve is None else linear_solve
    root = _implicit("custom_root", f, f, solver, solve)
    return Made(root, f, custom_root, solver, linear_solve)


def _implicit(
    who: str,
    f: Callable[..., Any],
    given_to_solver: Callable[..., Any],
    solver: Callable[[Callable[[Any], Any], Any], Any],
    solve: LinearSolve,
) -> Callable[..., Any]:
    """Return the function that solves ``f(x, *args) = 0`` by what the solver finds."""
    check_callable(who, f=given_to_solver, solver=solver, linear_solve=solve)

    def root(x0: Any, *args: Any) -> Any:
        frame, given = take_apart(args)
        fixed = frame.fill(stopped(given))
        start = tree.map(lambda x: _core.stop_gradient(_core.asarray(x)), x0)
        found = tree.map(_core.asarray, solver(lambda x: given_to_solver(x, *fixed), start))
        _check_root(who, start, found)
        out, values = take_apart(found)
        values = stopped(values)
        begun = _core._order()
        refuse_captured(take_apart(f(out.fill(values), *fixed))[1], begun, who)
        values = _with_implicit_derivative(who, f, out, frame, values, given, solve)
        return out.fill(values)

    return root


def _check_root(who: str, start: Any, found: Any) -> None:
    leaves = tree.leaves(found)
    if not leaves or not all(is_differentiable(x) for x in leaves):
        raise TypeError(f"[{who}] x must be floating tensors, got {[x.dtype for x in leaves]}")
    if tree.structure(start) != tree.structure(found):
        raise TypeError(
            f"[{who}] the solver must return a tree like x0, not a {type(found).__name__}"
        )


def _with_implicit_derivative(
    who: str,
    f: Callable[..., Any],
    out: Frame,
    frame: Frame,
    root: Tensors,
    args: Tensors,
    solve: LinearSolve,
) -> Tensors:
    """Return the root with its derivative in `args`."""
    if not differentiated(args):
        return root
    count = len(args)
    sizes = [_core.zeros(shape, dtype=dtype).size for shape, dtype in out.specs]

    def residual(x: Tensors, args: Tensors) -> Tensors:
        leaves = take_apart(f(out.fill(x), *frame.fill(args)))[1]
        if [y.shape for y in leaves] != [shape for shape, _ in out.specs]:
            raise ValueError(
                f"[{who}] the equation must return a tree like x: shapes "
                f"{[y.shape for y in leaves]} and {[shape for shape, _ in out.specs]}"
            )
        return leaves

    def point(inputs: Tensors) -> tuple[Tensors, Tensors]:
        args, x = inputs[:count], inputs[count:]
        return _with_implicit_derivative(who, f, out, frame, x, args, solve), args

    def flat(parts: Maybe) -> Tensor:
        filled = [
            _core.zeros(size, dtype=dtype) if p is None else _core.reshape(p, (size,))
            for p, size, (_, dtype) in zip(parts, sizes, out.specs, strict=True)
        ]
        return _core.concat(filled)

    def parts(vector: Tensor) -> Tensors:
        pieces, start = [], 0
        for size, (shape, _) in zip(sizes, out.specs, strict=True):
            pieces.append(_core.reshape(vector[start : start + size], shape))
            start += size
        return pieces

    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        x, args = point(inputs)

        def transposed(u: Tensor) -> Tensor:
            return flat(pull_at(lambda x: residual(x, args), x, list(parts(u))))

        u = solve(transposed, -flat(list(cotangents)))
        to_args = pull_at(lambda args: residual(x, args), args, list(parts(u)))
        return to_args + [None for _ in x]

    def push(inputs: Tensors, tangents: Maybe) -> Maybe:
        x, args = point(inputs)
        moved = push_at(lambda args: residual(x, args), args, tangents[:count])[1]

        def forward(u: Tensor) -> Tensor:
            return flat(list(push_at(lambda x: residual(x, args), x, list(parts(u)))[1]))

        return list(parts(solve(forward, -flat(list(moved)))))

    return attach(root, args + root, pull, push)


def custom_fixed_point(
    f: Callable[..., Any],
    solver: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    linear_solve: LinearSolve | None = None,
    *,
    tol: float = 1e-12,
    max_steps: int = 1000,
) -> Callable[..., Any]:
    """Return the function that solves ``x = f(x, *args)`` for `x`, with its derivative in `args`.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns a tree like `x`. It must not close over values that are
        differentiated: pass them in `args`.
    solver : callable, optional
        ``solver(g, x0)`` returns a fixed point of ``g(x) = f(x, *args)``. By default `g` is applied
        until no entry changes by more than ``tol * max(1, |entry|)``.
    linear_solve : callable, optional
        As for `custom_root`.
    tol : float, default 1e-12
    max_steps : int, default 1000
        The default solver stops after so many steps, converged or not.

    Returns
    -------
    callable
        ``fixed_point(x0, *args)``.

    Raises
    ------
    ValueError
        If `f` returns another structure or shape than `x`, or the derivative of ``x - f(x)`` is
        singular.

    Examples
    --------
    >>> import adjoint as ad
    >>> cosine = ad.custom_fixed_point(lambda x, a: ad.cos(a * x))
    >>> round(ad.grad(lambda a: cosine(0.5, a))(1.0).item(), 9)
    -0.297474342
    """
    check_at_least_zero("custom_fixed_point", "tol", tol)
    max_steps = check_count("custom_fixed_point", "max_steps", max_steps)

    def iterate(g: Callable[[Any], Any], x0: Any) -> Any:
        def moves(state: tuple[Any, Any]) -> Tensor:
            pairs = zip(*(floats(tree.leaves(x)) for x in state), strict=True)
            far = [_core.any(_core.abs(a - b) > tol * _core.maximum(abs(b), 1.0)) for a, b in pairs]
            return _core.any(_core.stack(far))

        first = g(x0)
        if tree.structure(first) != tree.structure(x0):
            name = type(first).__name__
            raise ValueError(f"[custom_fixed_point] f must return a tree like x, not a {name}")
        return while_loop(moves, lambda state: (g(state[0]), state[0]), (first, x0), max_steps)[0]

    def residual(x: Any, *args: Any) -> Any:
        return tree.map(lambda a, b: a - b, x, f(x, *args))

    solve = _dense_solve("custom_fixed_point") if linear_solve is None else linear_solve
    found = _implicit(
        "custom_fixed_point", residual, f, iterate if solver is None else solver, solve
    )
    how = {"linear_solve": linear_solve, "tol": tol, "max_steps": max_steps}
    return Made(found, f, custom_fixed_point, solver, **how)


# ---- The default linear solve --------------------------------------------------------------------


def _dense_solve(who: str) -> LinearSolve:
    def solve(matvec: Matvec, b: Tensor) -> Tensor:
        identity = _core.eye(b.size, dtype=b.dtype)
        columns = _core._directions(matvec)(identity)
        try:
            solved: Tensor = linalg.solve(_core.matrix_transpose(columns), b)
        except linalg.LinAlgError:
            raise ValueError(
                f"[{who}] the derivative of f in x is singular at the root: it does not define x"
            ) from None
        return solved

    return solve
