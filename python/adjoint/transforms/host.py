"""Operations whose values are computed by a Python function on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from adjoint import _core
from adjoint._arguments import check_callable, check_flag
from adjoint._core import DType, Tensor
from adjoint._dtypes import is_differentiable
from adjoint._pickling import Made
from adjoint.transforms.custom import Maybe, Tensors, attach, differentiated, repeated, stopped

__all__ = ["host_op"]


class Spec(NamedTuple):
    """The shape and dtype of a tensor, its value aside."""

    shape: tuple[int, ...]
    dtype: Any


def host_op(
    f: Callable[..., Any],
    shape: Callable[..., Any],
    vjp: Callable[..., Any] | None = None,
    *,
    vectorized: bool = False,
) -> Callable[..., Any]:
    """Return an operation whose values a Python function computes from NumPy arrays.

    It works like any other: in every transform, among deferred work, and in a compiled function,
    whose program calls `f` at each run.

    Parameters
    ----------
    f : callable
        From arrays to one array, or to a tuple of arrays. It must not change its arguments, which
        are read-only, and should depend on nothing else.
    shape : callable
        From one ``(shape, dtype)`` per argument, as named tuples, to the ``(shape, dtype)`` of the
        result, or a list of them for a tuple.
    vjp : callable, optional
        ``vjp(inputs, output, cotangent)`` returns a tuple with one cotangent per input, None for
        zero. All are tensors (of several results, tuples of them), and `vjp` is made of adjoint's
        own functions or further host operations; so it can be differentiated again, and forward
        mode is its transpose. Without it the operation has no derivative, and asking for one
        raises.
    vectorized : bool, default False
        Under `vmap`, `f` gets arrays that all have the batch as a further axis 0, and `shape` is
        not asked again. Otherwise it is called once per member.

    Returns
    -------
    callable
        From tensors to a tensor, or a tuple of tensors.

    Raises
    ------
    TypeError, ValueError
        By a call, if `f` returns another number, shape or dtype than `shape` says.

    Examples
    --------
    >>> import adjoint as ad
    >>> import numpy as np
    >>> sinc = ad.host_op(
    ...     np.sinc,
    ...     shape=lambda x: x,
    ...     vjp=lambda x, y, ct: (ct * (ad.cos(ad.pi * x[0]) - y) / x[0],),
    ... )
    >>> round(ad.grad(sinc)(0.5).item(), 12)
    -1.273239544735
    """
    check_callable("host_op", f=f, shape=shape)
    if vjp is not None:
        check_callable("host_op", vjp=vjp)
    vectorized = check_flag("host_op", "vectorized", vectorized)
    name = getattr(f, "__name__", "host_op")

    def op(*args: Any) -> Any:
        inputs = [_core.asarray(x) for x in args]
        answer = shape(*(Spec(x.shape, x.dtype) for x in inputs))
        single = not isinstance(answer, list)
        specs = [_spec(s, name) for s in ([answer] if single else answer)]
        values = _values(f, name, specs, stopped(inputs), vectorized)
        if differentiated(inputs):
            values = attach(
                values, inputs + stopped(values), _pull(op, vjp, name, len(inputs)), None
            )
        return values[0] if single else tuple(values)

    op.__name__ = op.__qualname__ = name
    return Made(op, f, host_op, shape, vjp, vectorized=vectorized)


def _spec(answer: Any, name: str) -> Spec:
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], tuple):
        if all(isinstance(n, int) for n in answer[0]) and isinstance(answer[1], DType):
            return Spec(*answer)
    raise TypeError(
        f"[{name}] shape= must return a pair (shape, dtype), or a list of pairs for several "
        f"results, not a {type(answer).__name__}"
    )


def _pull(
    op: Callable[..., Any], vjp: Callable[..., Any] | None, name: str, count: int
) -> Callable[[Tensors, Tensors], Maybe]:
    def pull(inputs: Tensors, cotangents: Tensors) -> Maybe:
        if vjp is None:
            raise TypeError(
                f"[{name}] the host operation has no derivative: give it vjp=, or pass its "
                "arguments through ad.stop_gradient"
            )
        point, outputs = inputs[:count], inputs[count:]
        if differentiated(point):  # then so are the outputs
            again = op(*point)
            outputs = list(again) if isinstance(again, tuple) else [again]
        rest = iter(cotangents)
        slopes = [next(rest) if is_differentiable(y) else _core.zeros_like(y) for y in outputs]
        one = len(outputs) == 1
        found = vjp(
            tuple(point), *((outputs[0], slopes[0]) if one else (tuple(outputs), tuple(slopes)))
        )
        if not isinstance(found, (tuple, list)) or len(found) != count:
            raise TypeError(f"[{name}] vjp must return a tuple with one entry per input: {count}")
        pairs = zip(found, point, strict=True)
        kept = [
            None if ct is None or not is_differentiable(x) else _core.asarray(ct) for ct, x in pairs
        ]
        return kept + [None for _ in outputs]

    return pull


def _values(
    f: Callable[..., Any], name: str, specs: Sequence[Spec], inputs: Tensors, vectorized: bool
) -> Tensors:
    """Return the results of `f` as one call of the graph."""

    def run(tensors: Tensors) -> Tensors:
        result = f(*[x.numpy() for x in tensors])
        parts = list(result) if isinstance(result, tuple) else [result]
        if len(parts) != len(specs):
            raise TypeError(
                f"[{name}] returned {len(parts)} results where shape= says {len(specs)}"
            )
        return [_checked(part, spec, name) for part, spec in zip(parts, specs, strict=True)]

    def batch(inner: Tensors, mapped: list[bool], size: int) -> Tensors:
        whole = [Spec((size, *s.shape), s.dtype) for s in specs]
        if size == 0 and not vectorized:
            return [_core.zeros(s.shape, dtype=s.dtype) for s in whole]
        rows = repeated(inner, mapped, size)
        return _values(f if vectorized else _member_by_member(f), name, whole, rows, vectorized)

    return list(_core._call_host(run, [tuple(s) for s in specs], batch, inputs))


def _checked(part: Any, spec: Spec, name: str) -> Tensor:
    out = _core.asarray(part)
    if out.shape != spec.shape or out.dtype != spec.dtype:
        raise ValueError(
            f"[{name}] returned {out.dtype} of shape {out.shape} where shape= says {spec.dtype} of "
            f"shape {spec.shape}"
        )
    return out


def _member_by_member(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arrays: Any) -> Any:
        import numpy as np

        results = [f(*row) for row in zip(*arrays, strict=True)]
        if isinstance(results[0], tuple):
            return tuple(np.stack(column) for column in zip(*results, strict=True))
        return np.stack(results)

    return run
