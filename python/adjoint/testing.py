"""Assertions for code built on adjoint: closeness with a report, derivatives by differences.

`check_grads` is for whoever writes an op, a custom rule or a model and wants to know that every
mode agrees with the function itself. Its directions come from a fixed seed: a failure repeats.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import adjoint as ad
from adjoint._arguments import check_at_least_zero, check_callable, check_count
from adjoint._diagnosis import Flat, Suspect, guess, like, moved

__all__ = ["assert_close", "check_grads"]

# Entries of one leaf that are checked one by one; of a larger leaf a random choice is.
_MOST_ENTRIES = 64


def assert_close(
    actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None
) -> None:
    """Raise unless two tensors, arrays, numbers or trees of them agree entry by entry.

    An entry agrees if ``|actual - expected| <= atol + rtol * |expected|``; nan agrees with nan and
    an infinity with itself.

    Parameters
    ----------
    actual, expected : Tensor, array_like, or equal trees of them
        Shapes must be equal; nothing is broadcast.
    rtol, atol : float, optional
        Default for each: ``eps**0.75`` of the less precise floating dtype, that is 6e-6 for float32
        and 2e-12 for float64; 0 where no floating dtype is involved.

    Raises
    ------
    AssertionError
        Telling how many entries disagree, and the worst one with its index and both values.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.testing.assert_close(ad.tensor([1.0, 2.0]), [1.0, 2.0])
    """
    for what, given in (("rtol", rtol), ("atol", atol)):
        if given is not None:
            check_at_least_zero("assert_close", what, given)
    actual_leaves, actual_def = ad.tree.flatten(_plain(actual))
    expected_leaves, expected_def = ad.tree.flatten(_plain(expected))
    if actual_def != expected_def:
        raise AssertionError(f"[assert_close] structures differ: {actual_def} and {expected_def}")
    for i, (left, right) in enumerate(zip(actual_leaves, expected_leaves, strict=True)):
        where = f"leaf {i}: " if len(actual_leaves) > 1 else ""
        _assert_leaf_close(where, left, right, rtol, atol)


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("rev", "fwd"),
    eps: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Compare derivatives of `f` with central differences, mode by mode and order by order.

    At each order every entry of every floating argument is moved in turn (of arguments with more
    than 64 entries a random choice is). Reverse mode is compared on a random weighted sum of the
    outputs, forward mode on each output. Higher orders apply the same check to the derivative in a
    random direction, so ``order=2`` covers every nesting of the chosen modes.

    Parameters
    ----------
    f : callable
        From trees of Tensors to a tree of floating Tensors; deterministic, and smooth within `eps`
        of the point.
    args : sequence
        The point. Floating leaves are moved, all others are held.
    order : int, default 2
    modes : sequence of {"rev", "fwd"}
    eps : float, optional
        Step, relative to ``max(1, |x|)``; default ``machine_eps ** (1/3)``.
    rtol, atol : float, optional
        Default for each: ``machine_eps ** (3/8)``, that is 1e-6 for float64. Prefer float64.

    Raises
    ------
    AssertionError
        Naming the nesting of modes, the argument (its name and the path in its tree), the entry and
        both numbers; with a guess of the cause: a kink within `eps`, rounding, a value that is not
        finite, a function that is not deterministic, a derivative that is cut off, of turned sign,
        off by a factor, or transposed.

    Examples
    --------
    >>> import adjoint as ad
    >>> ad.testing.check_grads(lambda x: ad.sin(x) * x, [ad.tensor([0.5, 2.0])])
    """
    check_callable("check_grads", f=f)
    if not isinstance(args, (list, tuple)):
        raise TypeError(
            "[check_grads] args must be a list or tuple with one entry per argument, not a "
            f"{type(args).__name__}"
        )
    order = check_count("check_grads", "order", order, least=1)
    if not isinstance(modes, (list, tuple)) or not modes or not {*modes} <= {*_DERIVATIVES}:
        raise ValueError(
            f"[check_grads] modes must be a sequence of 'rev' and 'fwd', got {modes!r}"
        )
    for what, given in (("eps", eps), ("rtol", rtol), ("atol", atol)):
        if given is not None:
            check_at_least_zero("check_grads", what, given, positive=what == "eps")
    flat, leaves, names = _flatten_function(f, args)
    machine = max(_machine_eps(leaf.dtype) for leaf in leaves)
    default = machine ** (3 / 8)
    check = _Check(
        names=names,
        modes=tuple(modes),
        eps=machine ** (1 / 3) if eps is None else eps,
        rtol=default if rtol is None else rtol,
        atol=default if atol is None else atol,
        rng=np.random.default_rng(20240101),
    )
    check.run(flat, leaves, order)


@dataclass(frozen=True)
class _Check:
    """Settings of one `check_grads`, and the nesting of modes it has reached."""

    names: list[str]
    modes: tuple[str, ...]
    eps: float
    rtol: float
    atol: float
    rng: np.random.Generator
    nesting: str = ""

    def run(self, flat: Flat, leaves: list[ad.Tensor], order: int) -> None:
        size = flat(*leaves).size
        for mode in self.modes:
            label = f"{mode} over {self.nesting}" if self.nesting else mode
            weights = self.rng.uniform(0.5, 1.5, size)
            if mode == "rev":
                self._compare_rev(label, flat, leaves, weights)
            else:
                self._compare_fwd(label, flat, leaves)
            if order > 1:
                derivative = _DERIVATIVES[mode](flat, leaves, self.rng)
                replace(self, nesting=label).run(derivative, leaves, order - 1)

    def _compare_rev(
        self, label: str, flat: Flat, leaves: list[ad.Tensor], weights: npt.NDArray[Any]
    ) -> None:
        out, pullback = ad.vjp(flat, *leaves)
        gradients = pullback(like(weights, out))
        for k, gradient in enumerate(gradients):
            values = gradient.numpy().reshape(-1)
            for i in self._entries(leaves[k]):
                expected = float(np.dot(weights, self._difference(flat, leaves, k, i)))
                if not self._agree(float(values[i]), expected):
                    suspect = self._suspect(flat, leaves, k, i, weights, float(values[i]), True)
                    self._complain(label, suspect, expected)

    def _compare_fwd(self, label: str, flat: Flat, leaves: list[ad.Tensor]) -> None:
        for k, leaf in enumerate(leaves):
            for i in self._entries(leaf):
                unit = np.zeros(leaf.size)
                unit[i] = 1.0
                tangents = [ad.zeros_like(other) for other in leaves]
                tangents[k] = like(unit, leaf)
                tangent = ad.jvp(flat, tuple(leaves), tuple(tangents))[1].numpy()
                expected = self._difference(flat, leaves, k, i)
                for c, (actual, number) in enumerate(zip(tangent, expected, strict=True)):
                    if not self._agree(float(actual), float(number)):
                        one = np.eye(tangent.size)[c]
                        suspect = self._suspect(flat, leaves, k, i, one, float(actual), False)
                        self._complain(label, suspect, float(number))

    def _entries(self, leaf: ad.Tensor) -> list[int]:
        if leaf.size <= _MOST_ENTRIES:
            return list(range(leaf.size))
        return [int(i) for i in self.rng.choice(leaf.size, _MOST_ENTRIES, replace=False)]

    def _step(self, leaf: ad.Tensor, i: int) -> float:
        return self.eps * max(1.0, abs(float(leaf.numpy().reshape(-1)[i])))

    def _difference(
        self, flat: Flat, leaves: list[ad.Tensor], k: int, i: int
    ) -> npt.NDArray[np.float64]:
        step = self._step(leaves[k], i)
        sides, places = [], []
        for distance in (step, -step):
            args = moved(leaves, k, i, distance)
            sides.append(flat(*args).numpy().astype(np.float64))
            # As rounded, which is where the function was evaluated.
            places.append(float(args[k].numpy().reshape(-1)[i]))
        quotient: npt.NDArray[np.float64] = (sides[0] - sides[1]) / (places[0] - places[1])
        return quotient

    def _allowed(self, expected: float) -> float:
        return self.atol + self.rtol * abs(expected)

    def _agree(self, actual: float, expected: float) -> bool:
        return abs(actual - expected) <= self._allowed(expected)  # false for nan

    def _suspect(
        self,
        flat: Flat,
        leaves: list[ad.Tensor],
        k: int,
        i: int,
        weights: npt.NDArray[Any],
        derivative: float,
        reverse: bool,
    ) -> Suspect:
        step = self._step(leaves[k], i)
        allowed = self._allowed(derivative) if np.isfinite(derivative) else self.atol
        return Suspect(flat, leaves, k, i, weights, reverse, step, derivative, allowed)

    def _complain(self, label: str, s: Suspect, expected: float) -> None:
        entry = tuple(int(j) for j in np.unravel_index(s.entry, s.leaves[s.leaf].shape))
        with np.errstate(all="ignore"):
            cause = guess(s)
        raise AssertionError(
            f"[check_grads] {label}: {self.names[s.leaf]}, entry {entry}: derivative "
            f"{s.derivative:.10g}, central difference {expected:.10g}; they differ by "
            f"{abs(s.derivative - expected):.3g}, allowed {self._allowed(expected):.3g}\n"
            f"guess: {cause}"
        )


def _reverse_in_a_direction(flat: Flat, leaves: list[ad.Tensor], rng: np.random.Generator) -> Flat:
    weights = rng.uniform(0.5, 1.5, flat(*leaves).size)

    def derivative(*args: ad.Tensor) -> ad.Tensor:
        out, pullback = ad.vjp(flat, *args)
        return _joined(pullback(like(weights, out)))

    return derivative


def _forward_in_a_direction(flat: Flat, leaves: list[ad.Tensor], rng: np.random.Generator) -> Flat:
    tangents = tuple(like(rng.uniform(0.5, 1.5, leaf.size), leaf) for leaf in leaves)

    def derivative(*args: ad.Tensor) -> ad.Tensor:
        _, tangent = ad.jvp(flat, args, tangents)
        return ad.asarray(tangent)

    return derivative


_DERIVATIVES: dict[str, Callable[[Flat, list[ad.Tensor], np.random.Generator], Flat]] = {
    "rev": _reverse_in_a_direction,
    "fwd": _forward_in_a_direction,
}


def _flatten_function(
    f: Callable[..., Any], args: Sequence[Any]
) -> tuple[Flat, list[ad.Tensor], list[str]]:
    """Return `f` as a function of its floating leaves alone, those leaves, and their names."""
    all_leaves, treedef = ad.tree.flatten(tuple(args))
    parameters = _parameter_names(f, len(args))
    all_names = [
        f"argument {i}{path}" if name is None else f"{name}{path} (argument {i})"
        for i, (name, arg) in enumerate(zip(parameters, args, strict=True))
        for path in _paths(arg)
    ]
    fixed = [ad.asarray(leaf).detach() for leaf in all_leaves]
    moved = [i for i, leaf in enumerate(fixed) if ad.isdtype(leaf.dtype, "real floating")]
    if not moved:
        raise TypeError("[check_grads] no argument has a real floating dtype")

    def flat(*leaves: ad.Tensor) -> ad.Tensor:
        full: list[Any] = list(fixed)
        for i, leaf in zip(moved, leaves, strict=True):
            full[i] = leaf
        outputs = ad.tree.leaves(f(*ad.tree.unflatten(treedef, full)))
        if not outputs:
            raise TypeError("[check_grads] f returns no tensor: is a return missing?")
        return _joined(outputs)

    return flat, [fixed[i] for i in moved], [all_names[i] for i in moved]


def _parameter_names(f: Callable[..., Any], count: int) -> list[str | None]:
    """Return the names of the first parameters of `f`, None where they cannot be known."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some callables of extensions have no signature
        parameters = []
    names: list[str | None] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(count - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [*names[:count], *[None] * (count - len(names))]


def _paths(arg: Any) -> Iterator[str]:
    """Yield how to reach each leaf of a tree, as it would be written after its name."""
    children: list[tuple[str, Any]]
    if isinstance(arg, dict):
        children = [(f"[{key!r}]", value) for key, value in arg.items()]
    elif isinstance(arg, tuple) and hasattr(arg, "_fields"):
        children = [(f".{name}", getattr(arg, name)) for name in arg._fields]
    elif isinstance(arg, (tuple, list)):
        children = [(f"[{i}]", value) for i, value in enumerate(arg)]
    else:
        yield from _paths_of_object(arg)
        return
    for step, value in children:
        for path in _paths(value):
            yield step + path


def _paths_of_object(arg: Any) -> Iterator[str]:
    """Yield the same for a leaf, or for an instance of a registered class."""
    leaves = ad.tree.leaves(arg)
    if len(leaves) == 1 and leaves[0] is arg:
        yield ""
        return
    attributes = {
        id(leaf): f".{name}{path}"
        for name, value in getattr(arg, "__dict__", {}).items()
        for path, leaf in zip(_paths(value), ad.tree.leaves(value), strict=True)
    }
    for j, leaf in enumerate(leaves):
        yield attributes.get(id(leaf), f", leaf {j}")


def _joined(tensors: Sequence[ad.Tensor]) -> ad.Tensor:
    parts = [ad.reshape(tensor, (-1,)) for tensor in tensors]
    return parts[0] if len(parts) == 1 else ad.concat(parts)


def _machine_eps(dtype: ad.DType) -> float:
    return float(ad.finfo(dtype).eps)


def _plain(tree: Any) -> Any:
    """Return `tree` with bare nested number lists, as in ``[1.0, 2.0]``, made into arrays."""
    if isinstance(tree, (list, tuple)) and all(
        isinstance(leaf, (bool, int, float, complex)) for leaf in ad.tree.leaves(tree)
    ):
        return np.asarray(tree)
    return tree


def _assert_leaf_close(
    where: str, actual: Any, expected: Any, rtol: float | None, atol: float | None
) -> None:
    left = actual.numpy() if isinstance(actual, ad.Tensor) else np.asarray(actual)
    right = expected.numpy() if isinstance(expected, ad.Tensor) else np.asarray(expected)
    for side in (left, right):
        if side.dtype.kind not in "biufc":
            raise TypeError(f"[assert_close] {where}{side.dtype} is no number to compare")
    if left.shape != right.shape:
        raise AssertionError(f"[assert_close] {where}shapes differ: {left.shape} and {right.shape}")
    floating = [a.dtype for a in (left, right) if np.issubdtype(a.dtype, np.inexact)]
    default = max((float(np.finfo(dtype).eps) ** 0.75 for dtype in floating), default=0.0)
    rtol = default if rtol is None else rtol
    atol = default if atol is None else atol
    close = np.isclose(left, right, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        wide = np.result_type(left, right, np.float64)
        distance = np.abs(left.astype(wide) - right.astype(wide))
    excess = np.where(close, -np.inf, np.nan_to_num(distance, nan=np.inf))
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), left.shape))
    raise AssertionError(
        f"[assert_close] {where}{int((~close).sum())} of {left.size} entries differ; worst at "
        f"{worst}: actual {left[worst]!s}, expected {right[worst]!s}, distance "
        f"{distance[worst]:.3g}, allowed {atol + rtol * abs(right[worst]):.3g} "
        f"(rtol={rtol:.3g}, atol={atol:.3g})"
    )


if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from adjoint._words import unknown

        raise unknown("testing", name)


def __dir__() -> list[str]:
    return sorted(__all__)
