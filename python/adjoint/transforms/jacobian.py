"""Jacobians and Hessians: forward or reverse mode, whichever needs fewer passes, or a few coloured.

Reverse mode is the core's. Forward mode is a batch of directional derivatives along the unit
vectors; the function itself is evaluated once for all of them. With a sparsity pattern the
directions are sums of unit vectors whose columns do not meet, see `_coloring`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from adjoint import _core, tree
from adjoint._arguments import check_choice
from adjoint._core import Tensor, _directions, jvp, vjp
from adjoint._pickling import Made

if TYPE_CHECKING:
    from adjoint._core import _Array, _Gradient
    from adjoint.transforms.coloring import Colouring, Pattern

__all__ = ["hessian", "jacobian"]

_MODES = ("auto", "forward", "reverse")


@overload
def jacobian(
    f: Callable[..., Tensor],
    argnums: Literal[0] = 0,
    has_aux: Literal[False] = False,
    *,
    mode: Literal["auto", "forward", "reverse"] = "auto",
) -> _Gradient: ...
@overload
def jacobian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    mode: Literal["auto", "forward", "reverse"] = "auto",
    sparsity: Any = None,
) -> Callable[..., Any]: ...
def jacobian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    mode: Literal["auto", "forward", "reverse"] = "auto",
    sparsity: Any = None,
) -> Callable[..., Any]:
    """Return the function that computes all first derivatives of `f`.

    Each has the shape ``output.shape + input.shape``. The result nests in the structure of the
    output, and in each of its leaves the structure of the input.

    Parameters
    ----------
    f : callable
        From floats, tensors or pytrees of them to a floating tensor or a pytree of them.
    argnums : int or sequence of int, default 0
        The arguments to differentiate by; a sequence gives a tuple of derivatives.
    has_aux : bool, default False
        `f` returns ``(output, aux)``; the result is ``(jacobian, aux)``.
    mode : {"auto", "forward", "reverse"}
        Forward mode costs a directional derivative per element of the input, reverse mode a
        pullback per element of the output, and either is one pass over all of them. "auto" is
        forward mode where the inputs have fewer elements than the outputs; which it is, is found by
        calling `f` in reverse mode, so the first call with given shapes may call `f` twice. What
        the call in vain has assigned, to a generator's state for instance, is taken back.
    sparsity : optional
        Where the derivative of the one output array by the one input array can differ from zero,
        as a matrix of flattened outputs by flattened inputs. The result has the form of the
        pattern:

        * a 2-D array of bools gives a tensor of the usual shape, with zeros elsewhere;
        * a pair ``(rows, cols)`` of integer arrays gives the entries at these places, in order;
        * a SciPy sparse matrix gives one of the same class.

        Columns without a common row are found together in forward mode, or rows without a common
        column in reverse mode; "auto" takes what needs fewer groups [1]_, [2]_. The groups are
        found once, here. A pattern that leaves out entries that are not zero makes others wrong.

    Returns
    -------
    callable
        Takes the arguments of `f`; with `has_aux` its result is a pair with what `f` gives besides.

    Raises
    ------
    TypeError
        If `f` is no function; at a call if an argument or the output is not floating.
    ValueError
        If `mode` is another word; at a call if `sparsity` does not fit the shapes.

    References
    ----------
    .. [1] A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian
       matrices", IMA J. Appl. Math. 13 (1974) 117-119.
    .. [2] T. F. Coleman, J. J. Moré, "Estimation of sparse Jacobian matrices and graph coloring
       problems", SIAM J. Numer. Anal. 20 (1983) 187-209.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.jacobian(ad.square)(ad.tensor([1.0, 3.0])).tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    >>> diagonal = ([0, 1], [0, 1])
    >>> ad.jacobian(ad.square, sparsity=diagonal)(ad.tensor([1.0, 3.0])).tolist()
    [2.0, 6.0]
    """
    check_choice("jacobian", "mode", mode, _MODES)
    reverse: Callable[..., Any] = _core._jacobian(f, argnums, has_aux)
    if sparsity is not None:
        sparse = _sparse_jacobian(f, mode, sparsity, argnums, has_aux)
        return Made(sparse, f, jacobian, argnums, has_aux, mode=mode, sparsity=sparsity)
    if mode == "reverse":
        return reverse
    tall: set[Any] = set()  # the shapes of inputs that gave more outputs than they have elements

    def derivative(*args: Any, **kwargs: Any) -> Any:
        call = _Call("jacobian", f, argnums, has_aux, args, kwargs)
        if call.size == 0:
            return reverse(*args, **kwargs)
        if mode == "auto" and call.shapes not in tall:
            try:
                return _core._jacobian(call.unless_tall, argnums, has_aux)(*args, **kwargs)
            except _Tall:
                tall.add(call.shapes)
        return call.forward()

    return Made(derivative, f, jacobian, argnums, has_aux, mode=mode)


@overload
def hessian(
    f: Callable[..., _Array], argnums: Literal[0] = 0, has_aux: Literal[False] = False
) -> _Gradient: ...
@overload
def hessian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    sparsity: Any = None,
) -> Callable[..., Any]: ...
def hessian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    sparsity: Any = None,
) -> Callable[..., Any]:
    """Return the function that computes the second derivatives of the scalar-valued `f`.

    Each has the shape ``x.shape + x.shape``.

    Parameters
    ----------
    f : callable
        From floats, tensors or pytrees of them to a floating scalar.
    argnums : int or sequence of int, default 0
        The arguments to differentiate by; a sequence gives a tuple of tuples.
    has_aux : bool, default False
        `f` returns ``(output, aux)``; the result is ``(hessian, aux)``.
    sparsity : optional
        Where the second derivatives by the one input array can differ from zero; forms and results
        are those of `jacobian`. Of an entry and its mirror image one need be given. The columns are
        grouped with the use of symmetry [1]_, [2]_, so that a matrix with a few full rows and
        columns needs few groups too; each costs a product of the Hessian and a vector.

    Returns
    -------
    callable
        Takes the arguments of `f`; with `has_aux` its result is a pair with what `f` gives besides.

    Raises
    ------
    TypeError
        If `f` is no function; at a call if an argument is not floating.
    ValueError
        At a call if the value is not one number, or `sparsity` does not fit the shapes.

    References
    ----------
    .. [1] T. F. Coleman, J. J. Moré, "Estimation of sparse Hessian matrices and graph coloring
       problems", Math. Program. 28 (1984) 243-270.
    .. [2] A. H. Gebremedhin, F. Manne, A. Pothen, "What color is your Jacobian? Graph coloring for
       computing derivatives", SIAM Rev. 47 (2005) 629-705.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.hessian(lambda x: x[0] * x[1])(ad.tensor([1.0, 3.0])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    >>> lower = ([0, 1, 1], [0, 0, 1])
    >>> ad.hessian(lambda x: x[0] ** 2 * x[1], sparsity=lower)(ad.tensor([1.0, 3.0])).tolist()
    [6.0, 2.0, 0.0]
    """
    if sparsity is None:
        # Reverse mode twice: forward mode over it costs more in every case but the widest losses.
        dense: Callable[..., Any] = _core._hessian(f, argnums, has_aux)
        return dense
    sparse = _sparse_hessian(f, sparsity, argnums, has_aux)
    return Made(sparse, f, hessian, argnums, has_aux, sparsity=sparsity)


class _Tall(Exception):
    """A function has more outputs than inputs."""


class _Call:
    """One call of `f`, as a function of the arguments by which it is differentiated."""

    def __init__(
        self,
        name: str,
        f: Callable[..., Any],
        argnums: Any,
        has_aux: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.name, self.f, self.has_aux = name, f, has_aux
        self.args, self.kwargs = args, kwargs
        self.single = not isinstance(argnums, (tuple, list))
        self.positions = [argnums] if self.single else list(argnums)
        for i in self.positions:
            if not -len(args) <= i < len(args):
                raise TypeError(
                    f"[{name}] argnums names positional argument {i}, the call has {len(args)}"
                )
        named = [i % len(args) for i in self.positions]
        if len(set(named)) < len(named):
            raise ValueError(f"[{name}] argnums names an argument twice, of the {len(args)}")
        self.primals = tuple(args[i] for i in self.positions)
        leaves, self.structure = tree.flatten(self.primals)
        self.leaves: list[Tensor] = [self._floating("an argument is", leaf) for leaf in leaves]
        self.shapes = tuple(leaf.shape for leaf in self.leaves)
        self.size = sum(leaf.size for leaf in self.leaves)

    def _floating(self, what: str, leaf: Any) -> Tensor:
        value = _core.asarray(leaf)
        if value.dtype not in (_core.float32, _core.float64):
            raise TypeError(
                f"[{self.name}] {what} of dtype {value.dtype.name}, which has no derivative: use "
                "a float or a tensor of float32 or float64"
            )
        return value

    def run(self, *chosen: Any) -> Any:
        args = list(self.args)
        for i, value in zip(self.positions, chosen, strict=True):
            args[i] = value
        return self.f(*args, **self.kwargs)

    def split(self, result: Any) -> tuple[Any, Any]:
        """Return output and aux, which is None if there is none."""
        if not self.has_aux:
            return result, None
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"[{self.name}] with has_aux=True the function must return (output, aux)"
            )
        return result

    def result(self, derivative: Any, aux: Any) -> Any:
        return (derivative, aux) if self.has_aux else derivative

    def unless_tall(self, *args: Any, **kwargs: Any) -> Any:
        """Call `f`; with more outputs than there are inputs undo what it assigned, and raise."""

        def is_tall(result: Any) -> bool:
            output, _ = self.split(result)
            return sum(getattr(leaf, "size", 1) for leaf in tree.leaves(output)) > self.size

        result, tall = _core._on_trial(lambda: self.f(*args, **kwargs), is_tall)
        if tall:
            raise _Tall
        return result

    def along(self, directions: Sequence[Any]) -> tuple[Any, Any]:
        """Return the derivatives along a batch of directions, with the batch as axis 0, and aux.

        As in reverse mode they are recorded inside of other recorders only.
        """
        if not _core._recorders_anywhere() and _core.is_grad_enabled():
            return cast("tuple[Any, Any]", _core._unrecorded(lambda: self.along(directions)))
        if not self.has_aux:
            derivatives = _directions(lambda *along: jvp(self.run, self.primals, along)[1])
            return derivatives(*directions), None
        seen: list[Any] = []

        def function(*chosen: Any) -> Any:
            output, aux = self.split(self.run(*chosen))
            seen[:] = tree.flatten(aux)
            return output, {i: x for i, x in enumerate(seen[0]) if isinstance(x, Tensor)}

        def derivative(*direction: Any) -> Any:
            (_, values), (result, _) = jvp(function, self.primals, direction)
            # Values do not depend on the direction, so they may leave the batch as they are.
            seen[0] = [values.get(i, x) for i, x in enumerate(seen[0])]
            return result

        batched = _directions(derivative)(*directions)
        leaves, structure = seen
        return batched, structure.unflatten(leaves)

    def forward(self) -> Any:
        """Return the Jacobian and aux, one direction per element of the inputs."""
        unit = _core.eye(self.size)
        directions = [
            _core.reshape(block.astype(x.dtype, copy=False), (self.size, *x.shape))
            for block, x in zip(self.cut(unit), self.leaves, strict=True)
        ]
        batched, aux = self.along(self.structure.unflatten(directions))

        def row(derivative: Tensor) -> Any:
            columns = _core.moveaxis(self._floating("the result is", derivative), 0, -1)
            parts = [
                _core.reshape(block, (*block.shape[:-1], *x.shape)).astype(x.dtype, copy=False)
                for block, x in zip(self.cut(columns), self.leaves, strict=True)
            ]
            rows = self.structure.unflatten(parts)
            return rows[0] if self.single else rows

        return self.result(tree.map(row, batched), aux)

    def cut(self, columns: Tensor) -> list[Tensor]:
        """Return the part of the last axis that belongs to each array of the inputs."""
        if len(self.leaves) == 1:
            return [columns]
        ends = itertools.accumulate((x.size for x in self.leaves), initial=0)
        return [columns[..., start:end] for start, end in itertools.pairwise(ends)]

    def one_array(self) -> Tensor:
        if not self.single or len(self.leaves) != 1:
            raise TypeError(
                f"[{self.name}] sparsity is for the derivative by one array, and there are "
                f"{len(self.leaves)}: leave it out, or put them into one"
            )
        return self.leaves[0]

    def one_output(self, output: Any) -> Tensor:
        leaves = tree.leaves(output)
        if len(leaves) != 1:
            raise TypeError(
                f"[{self.name}] sparsity is for the derivative of one array, and the function "
                f"returned {len(leaves)}: leave it out, or put them into one"
            )
        return self._floating("the result is", leaves[0])

    def pullback(self) -> tuple[Tensor, Callable[[Tensor], Tensor], Any]:
        """Return the one output, the function from its cotangent to that of the one input, aux."""
        aux: Any = None

        def function(*chosen: Any) -> Any:
            nonlocal aux
            output, aux = self.split(self.run(*chosen))
            return self.one_output(output)

        y, pull = vjp(function, *self.primals)
        return y, lambda cotangent: tree.leaves(pull(cotangent))[0], aux


def _sparse_jacobian(
    f: Callable[..., Any], mode: str, sparsity: Any, *how: Any
) -> Callable[..., Any]:
    from adjoint.transforms.coloring import Pattern, colour_columns, colour_either

    pattern = Pattern.read("jacobian", sparsity)
    rows, cols = pattern.rows, pattern.cols
    if mode == "auto":
        colouring, forward = colour_either(rows, cols)
    elif mode == "forward":
        colouring, forward = colour_columns(rows, cols), True
    else:
        colouring, forward = colour_columns(cols, rows), False
    return _sparse("jacobian", f, pattern, colouring, forward, *how)


def _sparse_hessian(f: Callable[..., Any], sparsity: Any, *how: Any) -> Callable[..., Any]:
    from adjoint.transforms.coloring import Pattern, colour_symmetric

    pattern = Pattern.read("hessian", sparsity)
    colouring = colour_symmetric(pattern.rows, pattern.cols)
    return _sparse("hessian", _core.grad(f, *how), pattern, colouring, True, *how)


def _sparse(
    name: str,
    f: Callable[..., Any],
    pattern: Pattern,
    colouring: Colouring,
    forward: bool,
    argnums: int | Sequence[int],
    has_aux: bool,
) -> Callable[..., Any]:
    from adjoint.transforms.coloring import constant

    places = functools.lru_cache(4)(colouring.places)
    seeds = functools.lru_cache(4)(colouring.seeds)

    def directions(like: Tensor) -> Tensor:
        rows = constant(seeds(like.size)).astype(like.dtype, copy=False)
        return _core.reshape(rows, (rows.shape[0], *like.shape))

    def derivative(*args: Any, **kwargs: Any) -> Any:
        call = _Call(name, f, argnums, has_aux, args, kwargs)
        x = call.one_array()
        if forward:
            batched, aux = call.along(call.structure.unflatten([directions(x)]))
            found = call.one_output(batched)
            output = found.shape[1:]
        else:
            y, pullback, aux = call.pullback()
            output = y.shape
            found = _directions(pullback)(directions(y))
        pattern.check(math.prod(output), x.size)
        where = constant(places(math.prod(found.shape[1:])))
        values = _core.take(_core.reshape(found, (-1,)), where, axis=0)
        values = values.astype(x.dtype, copy=False)
        return call.result(pattern.shaped(values, (*output, *x.shape)), aux)

    return derivative
