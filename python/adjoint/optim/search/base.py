"""What every derivative-free search shares: ask for points, tell their values.

A search is a state and two steps: ``ask()`` returns points, changing nothing; ``tell(xs, values)``
takes the values at these points, in their order, and moves on. Whoever drives it decides where and
in which order the values are computed, so the points depend on the seed and on the values alone.

Random numbers are drawn from NumPy's counter-based Philox generator, whose counter is the number of
the iteration: nothing of a generator has to be kept, and a search that was saved goes on bit by bit
as the one that was not.
"""

from __future__ import annotations

import abc
import functools
import inspect
import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import adjoint as ad
from adjoint._arguments import check_int
from adjoint.optim.bounds import check_box, read_bounds
from adjoint.optim.objective import Flat
from adjoint.optim.options import check_entries
from adjoint.optim.words import check_keywords

__all__ = ["Array", "Search"]

Array = npt.NDArray[np.float64]
_WIDEST = 1e307


class Search(abc.ABC):
    """Base of the derivative-free searches, which minimize a function known by its values.

    Parameters
    ----------
    x0 : array_like, shape (n,)
        Where to start; converted to float64.
    bounds : tuple, list or array, optional
        A tuple ``(lower, upper)``, each a number or of shape (n,), or a pair ``(lower, upper)`` for
        each coordinate, in a list or an array of shape (n, 2); None or infinite where there is
        none. Every point that is asked for lies within them.
    seed : int, optional
        From 0 to 2**64 - 1; from the operating system's entropy if it is left out. What is asked
        for depends on it and on the values that are told, on nothing else.

    Notes
    -----
    Bounds that are further apart than 1e307, such as 0 and the largest float, are as good as none
    where points are sampled between them.

    A subclass names its options as keyword-only parameters, the attributes that make up its state
    in `_state`, those of them that are arrays of no fixed length in `_growing`, those that may come
    to be nan in `_breakable`, and defines `_ask` and `_tell`.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint.optim.search import RandomSearch
    >>> search = RandomSearch([3.0, -2.0], seed=0)
    >>> for _ in range(300):
    ...     xs = search.ask()
    ...     search.tell(xs, np.sum(xs**2, axis=1))
    >>> bool(search.best_f < 1e-3)
    True
    """

    _state: ClassVar[tuple[str, ...]] = ()  # names of attributes: arrays, floats, ints and bools
    _growing: ClassVar[frozenset[str]] = frozenset()
    _breakable: ClassVar[frozenset[str]] = frozenset()
    _shared: ClassVar[tuple[str, ...]] = (
        *("_seed", "_nit", "_nfev", "_best_x", "_best_f", "_worst_f"),
    )

    def __init__(self, x0: Any, *, bounds: Any = None, seed: int | None = None) -> None:
        self._x0 = _start(self._name(), x0)
        self._lower, self._upper = _box(self._name(), bounds, self._x0)
        check_box(self._name(), self._x0, (self._lower, self._upper))
        self._seed = check_seed(self._name(), seed)
        self._nit = 0
        self._nfev = 0
        self._best_x = self._x0.copy()
        self._best_f = math.inf
        self._worst_f = -math.inf  # of the finite values
        self._asked: Array | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor tell those who come from elsewhere what a keyword is called here."""
        super().__init_subclass__(**options)
        make = vars(cls).get("__init__")
        if make is None:
            return
        parameters = [*inspect.signature(make).parameters.values()][1:]
        known = [p.name for p in parameters]

        @functools.wraps(make)
        def init(self: Any, /, *args: Any, **kwargs: Any) -> None:
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                check_keywords(cls.__name__, kwargs, known, "search")
            make(self, *args, **kwargs)

        cls.__init__ = init  # type: ignore[assignment, method-assign]

    # ---- The two steps ---------------------------------------------------------------------------

    def ask(self) -> Array:
        """Return the points whose values are wanted next.

        Returns
        -------
        ndarray of float64, shape (m, n)
            The same ones until `tell` is called; a copy.
        """
        if self._asked is None:
            self._asked = np.ascontiguousarray(self._ask(), dtype=np.float64)
        return self._asked.copy()

    def tell(self, xs: Any, values: Any) -> None:
        """Take the values of the points that `ask` returned.

        Parameters
        ----------
        xs : array_like, shape (m, n)
            What `ask` returned.
        values : array_like, shape (m,)
            One per point, in their order. One that is nan or infinite counts as worst.

        Raises
        ------
        ValueError, TypeError
            If there are other points, or not one real number for each. Nothing is changed then.
        """
        who = f"{self._name()}.tell"
        asked = self.ask() if self._asked is None else self._asked
        points = _numbers(who, "xs", xs)
        if not np.array_equal(points, asked):
            raise ValueError(
                f"[{who}] xs of shape {points.shape} are not the points, of shape {asked.shape}, "
                "that ask returned: give them as they were, in their order"
            )
        told = _numbers(who, "values", values)
        if told.shape != (len(asked),):
            raise ValueError(
                f"[{who}] values of shape {told.shape} for {len(asked)} points: one number for "
                f"each is wanted, shape ({len(asked)},)"
            )
        told = np.where(np.isfinite(told), told, math.inf)
        self._asked = None
        self._worst_f = max(
            self._worst_f, float(np.max(told, initial=-math.inf, where=told < math.inf))
        )
        best = int(np.argmin(told))
        if told[best] < self._best_f:
            self._best_x, self._best_f = asked[best].copy(), float(told[best])
        self._tell(asked, told)
        self._nit += 1
        self._nfev += len(asked)

    @abc.abstractmethod
    def _ask(self) -> Array:
        """Return the next points; a function of the state that changes nothing."""

    @abc.abstractmethod
    def _tell(self, xs: Array, values: Array) -> None:
        """Move on by the values of the points asked for, each a finite number or inf."""

    # ---- What is known ---------------------------------------------------------------------------

    @property
    def best_x(self) -> Array:
        """The best point told so far, `x0` before there is one with a finite value; a copy."""
        return self._best_x.copy()

    @property
    def best_f(self) -> float:
        """The value at `best_x`: finite, or inf as long as no told value was."""
        return self._best_f

    @property
    def nit(self) -> int:
        """How often values have been told."""
        return self._nit

    @property
    def nfev(self) -> int:
        """How many values have been told."""
        return self._nfev

    @property
    def seed(self) -> int:
        """The seed, also where it was drawn."""
        return self._seed

    @property
    def stop(self) -> str | None:
        """Why nothing more is to be expected, as a sentence, or None; it may be driven on."""
        return None

    # ---- Saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, ad.Tensor]:
        """Return a snapshot of the state as a flat dict of tensors, which `ad.io` can save."""
        return {key: _packed(attrgetter(name)(self)) for key, name in self._names().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a snapshot that `state_dict` of a search with the same arguments has made.

        What is asked for next, and ever after, is equal to the bit.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array

        Raises
        ------
        KeyError, ValueError, TypeError
            If an entry is missing, unknown, or of another kind. Nothing is changed then.
        """
        who = f"{self._name()}.load_state_dict"
        names = self._names()
        check_entries(who, state_dict, names, "the same method")
        if np.shape(state_dict["best_x"]) != self._x0.shape:
            raise ValueError(
                f"[{who}] the snapshot is of a search in {np.size(state_dict['best_x'])} "
                f"dimensions, this one is in {self._x0.size}"
            )
        loaded = {
            attribute: _unpacked(
                *(who, name, state_dict[name], attrgetter(attribute)(self)),
                growing=attribute in self._growing,
                nan=attribute in self._breakable,
            )
            for name, attribute in names.items()
        }
        self._check_loaded(who, loaded)
        for attribute, value in loaded.items():
            owner, _, last = attribute.rpartition(".")
            setattr(attrgetter(owner)(self) if owner else self, last, value)
        self._asked = None

    def __repr__(self) -> str:
        return f"{self._name()}(n={self._x0.size}, nit={self._nit}, best_f={self._best_f:.6g})"

    # ---- For subclasses --------------------------------------------------------------------------

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """The names of the options that the method has, beside bounds and seed."""
        parameters = inspect.signature(cls).parameters.values()
        keywords = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        return tuple(name for name in keywords if name not in ("bounds", "seed"))

    @classmethod
    def _name(cls) -> str:
        return cls.__name__

    def _names(self) -> dict[str, str]:
        """Return what makes up the state: keys of `state_dict` to attributes, perhaps dotted."""
        return {name.lstrip("_"): name for name in self._shared + self._state}

    def _check_loaded(self, who: str, loaded: Mapping[str, Any]) -> None:
        """Raise where parts of a state, by their attributes, are none that a search comes to."""
        if loaded["_nfev"] < loaded["_nit"]:
            raise ValueError(f"[{who}] 'nfev' must not be below 'nit': each has a point at least")

    def _value_scale(self) -> float:
        """Return what a tolerance of values is meant for: 1, or less where all values differ less.

        So a tolerance means the same for a function whose values are of a size of 1 or more, and is
        none that a function with values of 1e-12 meets before it begins.
        """
        span = self._worst_f - self._best_f
        return min(1.0, span) if math.isfinite(span) else 1.0

    def _random(self, stream: int = 0) -> np.random.Generator:
        """Return the generator of this iteration; each stream has one of its own."""
        return np.random.Generator(
            np.random.Philox(key=[self._seed, stream], counter=[0, 0, 0, self._nit])
        )

    def _within(self, xs: Array) -> Array:
        """Return the nearest points within the bounds."""
        return np.clip(xs, self._lower, self._upper)

    def _region(self, half: Array) -> tuple[Array, Array]:
        """Return the box to sample: of the bounds, or of `x0` and half a width around it."""
        bounded = np.isfinite(_width(self._lower, self._upper))
        half = np.minimum(half, 0.5 * _WIDEST)
        low = np.where(bounded, self._lower, self._x0 - half)
        high = np.where(bounded, self._upper, self._x0 + half)
        return self._within(low), self._within(high)

    def _scales(self, scale: Any) -> Array:
        """Return an option for lengths per coordinate, of shape (n,), with what stands for None."""
        if scale is None:
            width = _width(self._lower, self._upper)
            free = 0.5 * np.maximum(1.0, np.abs(self._x0))
            return np.where(np.isfinite(width) & (width > 0.0), 0.25 * width, free)
        array = _numbers(self._name(), "scale", scale)
        if array.shape not in ((), self._x0.shape):
            raise ValueError(
                f"[{self._name()}] scale must be a number or of the shape of x0, {self._x0.shape},"
                f" not of shape {array.shape}"
            )
        if not np.all((array > 0) & np.isfinite(array)):
            raise ValueError(f"[{self._name()}] scale must be positive and finite")
        return np.broadcast_to(array, self._x0.shape).copy()


def reflected(xs: Array, lower: Array, upper: Array) -> Array:
    """Return points with what is out of the bounds mirrored at them, as often as it needs."""
    return mirrored(xs, lower, upper)[0]


def mirrored(xs: Array, lower: Array, upper: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return `reflected` points, and where the number of mirrors was odd."""
    within = (xs >= lower) & (xs <= upper)
    if np.all(within):
        return xs, np.zeros(xs.shape, dtype=bool)
    width = _width(lower, upper)
    both = np.isfinite(width) & (width > 0.0)
    low, width = np.where(both, lower, 0.0), np.where(both, width, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # of coordinates that are near no bound
        way = np.mod(xs - low, 2.0 * width)
        folded = low + np.minimum(way, 2.0 * width - way)
        end = np.where(xs < lower, lower, upper)
        once = 2.0 * end - xs
    moved = np.where(within, xs, np.where(both, folded, once))
    odd = ~within & (~both | (way > width))
    # What is too far out to be mirrored comes to lie at the bound.
    return np.clip(np.where(np.isnan(moved), end, moved), lower, upper), odd


def _width(lower: Array, upper: Array) -> Array:
    """Return the distance of bounds; inf also where steps of such a length would overflow."""
    with np.errstate(over="ignore"):
        width = upper - lower
    return np.where(width <= _WIDEST, width, np.inf)


def _numbers(who: str, name: str, value: Any) -> Array:
    """Return real numbers as a float64 array."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise ValueError(f"[{who}] {name} must be an array, its rows differ in length") from None
    if array.dtype.kind not in "fiub" and not array.size:
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"[{who}] {name} must be real numbers, not of dtype {array.dtype}")
    return array.astype(np.float64)


def _start(who: str, x0: Any) -> Array:
    start = _numbers(who, "x0", x0)
    if start.ndim != 1 or not start.size:
        raise ValueError(
            f"[{who}] x0 must be a vector with at least one entry, not of shape {start.shape}: "
            "adjoint.optim.minimize takes any shape"
        )
    return start


def _box(who: str, bounds: Any, x0: Array) -> tuple[Array, Array]:
    """Return lower and upper bounds, of the shape of `x0`."""
    box = read_bounds(who, bounds, Flat(who, x0))
    if box is None:
        return np.full_like(x0, -np.inf), np.full_like(x0, np.inf)
    return box


def check_seed(who: str, seed: int | None) -> int:
    """Return a seed, one from the operating system's entropy in the place of None."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    number = check_int(who, "seed", seed)
    if not 0 <= number < 2**64:
        raise ValueError(f"[{who}] seed must lie in [0, 2**64), got {number}")
    return number


def _packed(value: Any) -> ad.Tensor:
    """Return a copy of a part of a state as a tensor."""
    if isinstance(value, bool):
        return ad.asarray(value)
    if isinstance(value, int):
        return ad.asarray(value, dtype=ad.uint64)
    if isinstance(value, float):
        return ad.asarray(value, dtype=ad.float64)
    return ad.asarray(np.array(value))


def _unpacked(who: str, name: str, given: Any, like: Any, *, growing: bool, nan: bool) -> Any:
    """Return a part of a state of the kind that it has now."""
    array = np.array(given)  # a copy
    wanted = np.asarray(_packed(like))
    if array.dtype != wanted.dtype or array.ndim != wanted.ndim:
        raise TypeError(
            f"[{who}] {name!r} is an array of dtype {array.dtype} with {array.ndim} axes, expected "
            f"{wanted.dtype} with {wanted.ndim}"
        )
    if array.shape != wanted.shape and not growing:
        raise ValueError(
            f"[{who}] {name!r} has shape {array.shape}, expected {wanted.shape}: the snapshot must "
            "come from a search with the same arguments"
        )
    if array.dtype.kind == "f" and np.isnan(array).any() and not nan:
        raise ValueError(f"[{who}] {name!r} must not be nan")
    if isinstance(like, np.ndarray):
        return array
    return type(like)(array.item())
