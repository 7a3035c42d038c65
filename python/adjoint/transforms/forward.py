"""Forward passes over a whole function: its linear part at a point, and Taylor series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from adjoint import _core, tree
from adjoint._arguments import check_callable, check_count
from adjoint._core import TreeDef
from adjoint._dtypes import is_differentiable
from adjoint.transforms.custom import Tensors, flatten_tensors

__all__ = ["linearize", "taylor"]

_R = TypeVar("_R")


def linearize(f: Callable[..., _R], *primals: Any) -> tuple[_R, Callable[..., _R]]:
    """Return ``(f(*primals), pushforward)``: the value, and the derivative as a linear function.

    The function runs once; the pushforward then costs what depends on the tangents alone, and may
    be called as often as wanted, inside other transforms too. With few tangents `jvp` is cheaper.

    Parameters
    ----------
    f : callable
        From trees of floating tensors to a tree of tensors.
    *primals : trees of floating tensors
        The point.

    Returns
    -------
    (out, pushforward)
        ``pushforward(*tangents)`` takes trees like the primals and returns a tree like `out`.

    Raises
    ------
    TypeError
        If a primal is not floating.
    ValueError
        If a tangent has another structure, shape or dtype than its primal.

    Examples
    --------
    >>> import adjoint as ad
    >>> out, pushforward = ad.linearize(lambda a, b: a * b, 2.0, 3.0)
    >>> out.item(), pushforward(1.0, 10.0).item()
    (6.0, 23.0)
    """
    check_callable("linearize", f=f)
    point, treedef = _point(primals, "linearize")
    listed = _Listed(f, treedef)
    outputs, linear = _core._linearize(listed, point)
    specs = [(x.shape, x.dtype) for x in point]

    def pushforward(*tangents: Any) -> Any:
        given = _tangents(treedef, tangents, specs, "pushforward")
        return _core._constant(listed.tree(linear.replay(given)))

    return _core._constant(listed.tree(outputs)), pushforward


def taylor(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], order: int
) -> Any:
    """Return ``f(*primals)`` and its first `order` derivatives along a direction.

    Entry k of the result is the k-th derivative of ``f(primals + t * tangents)`` in `t` at 0, from
    one pass that carries truncated power series; nested `jvp` gives the same at a cost that doubles
    with every order.

    Parameters
    ----------
    f : callable
        From trees of floating tensors to a tree of tensors. It is traced: a Python branch on a
        value raises.
    primals, tangents : sequences
        One tree per argument of `f`; a tangent is like its primal.
    order : int
        The number of derivatives.

    Returns
    -------
    list
        ``order + 1`` trees like the output of `f`.

    Raises
    ------
    TypeError
        If a primal is not floating.
    ValueError
        If `order` is negative, or a tangent is not like its primal.

    References
    ----------
    A. Griewank and A. Walther, "Evaluating Derivatives", 2nd ed., SIAM 2008, chapter 13.

    Examples
    --------
    >>> import adjoint as ad
    >>> [d.item() for d in ad.taylor(lambda x: x**3, (2.0,), (1.0,), 4)]
    [8.0, 12.0, 12.0, 6.0, 0.0]
    """
    check_callable("taylor", f=f)
    order = check_count("taylor", "order", order)
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"[taylor] {what} must be a tuple with one entry per argument")
    if len(primals) != len(tangents):
        raise ValueError(f"[taylor] {len(primals)} primals, but {len(tangents)} tangents")
    point, treedef = _point(tuple(primals), "taylor")
    specs = [(x.shape, x.dtype) for x in point]
    direction = _tangents(treedef, tuple(tangents), specs, "taylor")
    listed = _Listed(f, treedef)
    rows = _core._taylor(listed, point, direction, order)
    return [_core._constant(listed.tree(row)) for row in rows]


class _Listed:
    """A function of trees as one of lists, which remembers the structure of what it returned."""

    def __init__(self, f: Callable[..., Any], treedef: TreeDef) -> None:
        self._f, self._treedef = f, treedef
        self._out: TreeDef | None = None

    def __call__(self, inputs: Tensors) -> Tensors:
        tensors, self._out = flatten_tensors(self._f(*tree.unflatten(self._treedef, inputs)))
        return tensors

    def tree(self, tensors: Tensors) -> Any:
        """Return a list of outputs as the function would."""
        assert self._out is not None
        return tree.unflatten(self._out, tensors)


def _point(primals: tuple[Any, ...], who: str) -> tuple[Tensors, TreeDef]:
    point, treedef = flatten_tensors(primals)
    if not point:
        raise TypeError(f"[{who}] needs the point at which to differentiate: ad.{who}(f, x)")
    for x in point:
        if not is_differentiable(x):
            raise TypeError(
                f"[{who}] a primal of dtype {x.dtype} has no derivative: use a floating tensor"
            )
    return point, treedef


def _tangents(treedef: TreeDef, tangents: tuple[Any, ...], specs: list[Any], who: str) -> Tensors:
    parts = treedef.flatten_up_to(tangents)
    out = []
    for part, (shape, dtype) in zip(parts, specs, strict=True):
        t = _core.asarray(part, dtype=dtype)
        if t.shape != shape:
            raise ValueError(
                f"[{who}] a tangent has the shape of its primal: shapes {t.shape} and {shape}"
            )
        out.append(t)
    return out
