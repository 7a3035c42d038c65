"""`GradientTape` and `Variable`: the habit of TensorFlow on the same graph.

A tape owns no nodes. Operations on leaves are recorded whether or not a tape is open; the tape is
a start and a stop mark in that record, a set of watched handles, and a pause.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from adjoint import _core, tree
from adjoint._arguments import check_choice, check_flag
from adjoint._core import Tensor, TreeDef
from adjoint._dtypes import is_differentiable

__all__ = ["GradientTape", "Variable"]

# id of a handle that tapes made a leaf -> how many of them watch it still
_watchers: dict[int, int] = {}


class GradientTape:
    """Record operations for automatic differentiation.

    Parameters
    ----------
    persistent : bool, default False
        Allow more than one call of `gradient`, `jacobian` and `batch_jacobian`.
    watch_accessed_variables : bool, default True
        Differentiate with respect to any trainable `Variable` read inside; otherwise only what
        `watch` names.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.Variable(5.0)
    >>> with ad.GradientTape() as tape:
    ...     loss = w**2 + 1
    >>> tape.gradient(loss, w).item()
    10.0

    A tape inside another records for derivatives of higher order:

    >>> with ad.GradientTape() as outer:
    ...     with ad.GradientTape() as inner:
    ...         loss = w**3
    ...     slope = inner.gradient(loss, w)
    >>> outer.gradient(slope, w).item()
    30.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = check_flag("GradientTape", "persistent", persistent)
        self._watch_accessed = check_flag(
            "GradientTape", "watch_accessed_variables", watch_accessed_variables
        )
        self._scope = _core._TapeScope()
        self._start: int | None = None
        self._used = False
        self._clear()

    def _clear(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        # id -> (the user's handle, a handle on the same leaf that outlives the watching)
        self._watched: dict[int, tuple[Tensor, Tensor]] = {}
        self._made_leaves: list[Tensor] = []
        self._accessed: dict[int, Variable] = {}

    # ---- Recording -------------------------------------------------------------------------------

    def __enter__(self) -> GradientTape:
        if self._start is not None:
            raise RuntimeError("[GradientTape] this tape is already recording")
        if self._used and not self._persistent:
            self._clear()
            self._used = False
        self._resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pause()
        for x in self._made_leaves:
            _watchers[id(x)] -= 1
            if _watchers[id(x)] == 0:
                del _watchers[id(x)]
                x.requires_grad_(False)
        self._made_leaves = []

    def _resume(self) -> None:
        self._scope.enter(self._accessed)
        self._start = _core._mark_order() + 1

    def _pause(self) -> None:
        if self._start is not None:
            self._ranges.append((self._start, _core._mark_order() + 1))
            self._start = None
            self._scope.exit()

    def watch(self, tensor: Any) -> None:
        """Differentiate with respect to a tensor, or every tensor of a pytree.

        The handle is a leaf from here to the end of the ``with`` block.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.tensor(3.0)
        >>> with ad.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.gradient(y, x).item()
        6.0
        """
        if self._start is None:
            raise RuntimeError(
                "[GradientTape.watch] the tape is not recording: call it inside the with block"
            )
        for x in tree.leaves(tensor):
            if not isinstance(x, Tensor):
                raise TypeError(
                    f"[GradientTape.watch] needs a Tensor, not a {type(x).__name__}: make it one "
                    "by ad.tensor"
                )
            if id(x) in self._watched:
                continue
            if id(x) in _watchers or not x.requires_grad:
                x.requires_grad_(True)
                _watchers[id(x)] = _watchers.get(id(x), 0) + 1
                self._made_leaves.append(x)
            self._watched[id(x)] = (x, _core._share(x))

    def stop_recording(self) -> _Pause:
        """Return a context manager inside which this tape records nothing.

        Examples
        --------
        >>> import adjoint as ad
        >>> w = ad.Variable(2.0)
        >>> with ad.GradientTape() as tape:
        ...     y = w * w
        ...     with tape.stop_recording():
        ...         scale = w * 10.0  # a constant to the tape
        ...     y = y * scale
        >>> tape.gradient(y, w).item()
        80.0
        """
        if self._start is None:
            raise RuntimeError("[GradientTape.stop_recording] the tape is not recording")
        return _Pause(self)

    def reset(self) -> None:
        """Forget everything recorded and watched; keep recording if inside the block."""
        recording = self._start is not None
        self.__exit__(None, None, None)
        self._clear()
        self._used = False
        if recording:
            self._resume()

    def watched_variables(self) -> tuple[Variable, ...]:
        """Return the variables this tape differentiates with respect to, in order of first use."""
        found: dict[int, Variable] = {}
        for key, (x, _) in self._watched.items():
            if isinstance(x, Variable):
                found[key] = x
        if self._watch_accessed:
            found |= self._accessed
        return tuple(found.values())

    # ---- Differentiating -------------------------------------------------------------------------

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: str = "zero",
    ) -> Any:
        """Return the derivatives of `target` with respect to `sources`.

        Parameters
        ----------
        target : pytree of Tensor
            What is differentiated; the elements of all of it are summed.
        sources : pytree of Tensor
            A source that is a leaf stands for every value it had while the tape recorded.
        output_gradients : pytree of Tensor, optional
            Weights of the sum, structured as `target`.
        unconnected_gradients : {"zero", "error"}
            What a source gives that `target` does not depend on. Never None.

        Returns
        -------
        pytree of Tensor
            Structured as `sources`.
        """
        sweep = self._sweep_of("gradient", target, sources, unconnected_gradients)
        weights = [_core.ones_like(y) for y in sweep.targets]
        if output_gradients is not None:
            weights = [_core.asarray(w) for w in tree.leaves(output_gradients)]
        if [w.shape for w in weights] != [y.shape for y in sweep.targets]:
            raise ValueError(
                "[GradientTape.gradient] output_gradients must have the shapes of target: "
                f"{[w.shape for w in weights]} and {[y.shape for y in sweep.targets]}"
            )
        self._used = True
        return sweep.result(sweep.pull(weights))

    def jacobian(self, target: Tensor, sources: Any, unconnected_gradients: str = "zero") -> Any:
        """Return the derivatives of every element of `target` with respect to `sources`.

        One sweep gives all of them, as a batch.

        Parameters
        ----------
        target : Tensor
        sources : pytree of Tensor
            As for `gradient`.
        unconnected_gradients : {"zero", "error"}
            As for `gradient`.

        Returns
        -------
        pytree of Tensor
            Structured as `sources`; each of shape ``target.shape + source.shape``.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.Variable([1.0, 2.0])
        >>> with ad.GradientTape() as tape:
        ...     y = x * ad.sum(x)
        >>> tape.jacobian(y, x).tolist()
        [[4.0, 1.0], [2.0, 5.0]]
        """
        sweep = self._sweep_of("jacobian", target, sources, unconnected_gradients)
        (y,) = sweep.targets
        units = _core.reshape(_core.eye(y.size, dtype=y.dtype), (y.size, *y.shape))
        self._used = True
        rows = sweep.pull_each(units)
        shapes = [y.shape + x.shape for x in sweep.handles]
        return sweep.result([_core.reshape(r, s) for r, s in zip(rows, shapes, strict=True)])

    def batch_jacobian(
        self, target: Tensor, source: Tensor, unconnected_gradients: str = "zero"
    ) -> Tensor:
        """Return the Jacobian of each example: of ``target[i]`` with respect to ``source[i]``.

        One sweep per batch, over the elements of one example; right only if ``target[i]`` depends
        on no other example than ``source[i]``.

        Parameters
        ----------
        target, source : Tensor
            Of the same length along axis 0.
        unconnected_gradients : {"zero", "error"}
            As for `gradient`.

        Returns
        -------
        Tensor
            Of shape ``(batch,) + target.shape[1:] + source.shape[1:]``.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.Variable([[1.0, 2.0], [3.0, 4.0]])
        >>> with ad.GradientTape() as tape:
        ...     y = x * x
        >>> tape.batch_jacobian(y, x).tolist()
        [[[2.0, 0.0], [0.0, 4.0]], [[6.0, 0.0], [0.0, 8.0]]]
        """
        sweep = self._sweep_of("batch_jacobian", target, source, unconnected_gradients)
        (y,), (x,) = sweep.targets, sweep.handles
        if y.ndim == 0 or x.ndim == 0 or y.shape[0] != x.shape[0]:
            raise ValueError(
                "[GradientTape.batch_jacobian] target and source must have the same length along "
                f"axis 0: shapes {y.shape} and {x.shape}"
            )
        self._used = True
        entries = math.prod(y.shape[1:])
        units = _core.reshape(_core.eye(entries, dtype=y.dtype), (entries, 1, *y.shape[1:]))
        (rows,) = sweep.pull_each(_core.broadcast_to(units, (entries, *y.shape)))
        jacobian: Tensor = _core.reshape(_core.moveaxis(rows, 0, 1), y.shape + x.shape[1:])
        return jacobian

    def _sweep_of(self, op: str, target: Any, sources: Any, unconnected: str) -> _Sweep:
        """Check what a method was given, and that the tape may still be used."""
        who = f"GradientTape.{op}"
        check_choice(who, "unconnected_gradients", unconnected, ("zero", "error"))
        if self._used and not self._persistent:
            raise RuntimeError(
                f"[GradientTape.{op}] a tape that is not persistent gives one gradient: use "
                "GradientTape(persistent=True), or ask for all sources in one call"
            )
        if op != "gradient" and not isinstance(target, Tensor):
            raise TypeError(
                f"[GradientTape.{op}] target must be one Tensor, not a {type(target).__name__}"
            )
        if op == "batch_jacobian" and not isinstance(sources, Tensor):
            raise TypeError(
                f"[GradientTape.{op}] source must be one Tensor, not a {type(sources).__name__}"
            )
        targets = _checked(op, target, "target")
        handles = _checked(op, sources, "sources")
        ranges = list(self._ranges)
        if self._start is not None:
            ranges.append((self._start, _core._mark_order() + 1))
        must_connect = unconnected == "error"
        asked = [self._source(op, x, must_connect) for x in handles]
        structure = tree.structure(sources)
        return _Sweep(targets, handles, structure, asked, ranges, must_connect, self._scope)

    def _source(self, op: str, x: Tensor, must_connect: bool) -> Tensor | None:
        """Return the handle to sweep to, or None if the tape does not look at `x`."""
        if id(x) in self._watched:
            return self._watched[id(x)][1]
        if isinstance(x, Variable) and not self._watch_accessed:
            if must_connect:
                raise ValueError(
                    f"[GradientTape.{op}] a source is not watched: call tape.watch(variable) "
                    "inside the block, or leave watch_accessed_variables on"
                )
            return None
        return x


def _checked(op: str, value: Any, what: str) -> list[Tensor]:
    leaves: list[Tensor] = tree.leaves(value)
    for x in leaves:
        if not isinstance(x, Tensor):
            raise TypeError(f"[GradientTape.{op}] {what} must be Tensors, not {type(x).__name__}")
        if not is_differentiable(x):
            raise TypeError(
                f"[GradientTape.{op}] {what} of dtype {x.dtype} has no derivative: use a floating "
                "tensor"
            )
    return leaves


@dataclass(frozen=True)
class _Sweep:
    """What one call of `gradient`, `jacobian` or `batch_jacobian` sweeps over."""

    targets: list[Tensor]
    handles: list[Tensor]  # the sources as the user gave them
    treedef: TreeDef
    asked: list[Tensor | None]  # the sources to sweep to; None: the tape does not look at it
    ranges: list[tuple[int, int]]
    must_connect: bool
    scope: Any

    def pull(self, cotangents: list[Tensor]) -> list[Tensor]:
        """Return one gradient per source."""
        reached = [x for x in self.asked if x is not None]
        swept = iter(
            _core._sweep(
                self.targets, cotangents, reached, self.ranges, self.must_connect, self.scope
            )
            if reached
            else ()
        )
        return [
            next(swept) if x is not None else _core.zeros_like(handle)
            for x, handle in zip(self.asked, self.handles, strict=True)
        ]

    def pull_each(self, cotangents: Tensor) -> list[Tensor]:
        """Return the gradients of every cotangent of a stack, stacked."""
        count = cotangents.shape[0]
        if count == 0 or not self.handles:
            return [_core.zeros((count, *x.shape), dtype=x.dtype) for x in self.handles]
        rows: list[Tensor] = _core._directions(lambda ct: self.pull([ct]))(cotangents)
        return rows

    def result(self, gradients: list[Tensor]) -> Any:
        """Return the gradients structured as the sources."""
        return tree.unflatten(self.treedef, gradients)


class _Pause:
    """Context manager of `GradientTape.stop_recording`."""

    def __init__(self, tape: GradientTape) -> None:
        self._tape = tape

    def __enter__(self) -> None:
        self._tape._pause()

    def __exit__(self, *error: object) -> None:
        self._tape._resume()


class Variable(Tensor):
    """A tensor that is meant to change: its value is replaced by `assign`.

    Parameters
    ----------
    initial_value : array-like, or a function that returns it
    trainable : bool, default True
        Whether gradients reach it; integer variables are never reached.
    name : str, optional
    dtype : DType, optional

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.Variable([1.0, 2.0])
    >>> w.assign_add([0.5, 0.5]).numpy().tolist()
    [1.5, 2.5]
    """

    _trainable: bool

    def __new__(
        cls, initial_value: Any, trainable: bool = True, name: str | None = None, dtype: Any = None
    ) -> Variable:
        trainable = check_flag("Variable", "trainable", trainable)
        if callable(initial_value):
            initial_value = initial_value()
        self = super().__new__(cls, _core.asarray(initial_value, dtype=dtype).detach())
        self._trainable = trainable
        self.name = name
        if trainable and is_differentiable(self):
            self.requires_grad_(True)
        return self

    @property
    def trainable(self) -> bool:
        """Whether gradients reach it."""
        return self._trainable

    def assign(self, value: Any) -> Variable:
        """Replace the value by another of the same shape and dtype; return the variable."""
        with _core.no_grad():
            self.rebind_(value)
        return self

    def assign_add(self, delta: Any) -> Variable:
        """Add to the value; return the variable."""
        with _core.no_grad():
            self.rebind_(_core.add(self, delta))
        return self

    def assign_sub(self, delta: Any) -> Variable:
        """Subtract from the value; return the variable."""
        with _core.no_grad():
            self.rebind_(_core.subtract(self, delta))
        return self

    def value(self) -> Tensor:
        """Return the current value as a tensor that later assignments do not change."""
        return _core.positive(self)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "[Variable] does not support item assignment: build the new value and use "
            "variable.assign(value)"
        )

    def _refuse_in_place(self, other: Any) -> NoReturn:
        raise TypeError(
            "[Variable] does not support in-place operators: use variable.assign_add(x) for += , "
            "variable.assign_sub(x) for -= , else variable.assign(...)"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = _refuse_in_place
    __imod__ = __ipow__ = __imatmul__ = __iand__ = __ior__ = __ixor__ = _refuse_in_place
    __ilshift__ = __irshift__ = _refuse_in_place


GradientTape.__module__ = Variable.__module__ = "adjoint"
