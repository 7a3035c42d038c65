"""Random numbers whose state is a tensor, so that drawing can be compiled and is reproducible.

The numbers come from Philox4x32-10, a counter-based generator: a draw is a function of (key,
counter) alone, the same for every number of threads, and in eager and compiled work. It is the same
on every machine too, except that `normal`, and what is computed with functions of `ad`, may differ
in the last digits between instruction-set levels.

A `Generator` is a stream; each of its methods is also a function of this module, which draws from
the default stream. That one starts where the operating system's entropy puts it, until `seed`, and
is what `ad.nn` takes the parameters of its layers from where no generator is given. A process that
is forked goes on with the state it was forked with: parent and children draw the same numbers,
until each child seeds its own, or takes one of the generators that `split` made before.

>>> import adjoint as ad
>>> ad.random.Generator(0).uniform((2, 3)).shape
(2, 3)
>>> ad.random.seed(0)
>>> ad.random.uniform().item() == ad.random.Generator(0).uniform().item()
True
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from adjoint import _core
from adjoint._arguments import check_count, check_int, check_words
from adjoint._core import DType, Tensor
from adjoint._draws import (
    Shape,
    between,
    check_order,
    check_seed,
    dims_of,
    entries_of,
    floating,
    is_number,
    parameter,
)
from adjoint._dtypes import iinfo

__all__ = [
    "Generator",
    "bernoulli",
    "beta",
    "binomial",
    "categorical",
    "choice",
    "exponential",
    "gamma",
    "integers",
    "normal",
    "permutation",
    "poisson",
    "seed",
    "truncated_normal",
    "uniform",
]

P = ParamSpec("P")
Draw = Callable[Concatenate["Generator", P], Tensor]


def _draw_method(method: Draw[P]) -> Draw[P]:
    """Let a method say what is meant where NumPy's or Python's own arguments come to it."""
    name = method.__name__

    @wraps(method)
    def checked(self: Generator, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if kwargs:
            check_words(name, kwargs, size="shape", dim="axis")
        return method(self, *args, **kwargs)

    return checked


def _shape_first(method: Draw[P]) -> Draw[P]:
    """Refuse a number for the shape before parameters: elsewhere the parameters come first."""
    name, checked = method.__name__, _draw_method(method)

    @wraps(method)
    def told(self: Generator, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if args and is_number(args[0]) and (len(args) > 1 or isinstance(args[0], float)):
            rest = "2.0" if name == "exponential" else "0, 1"
            raise TypeError(f"[{name}] the shape comes first, as a tuple: {name}((3,), {rest})")
        return checked(self, *args, **kwargs)

    return told


class Generator:
    """A stream of random tensors.

    `shape` is the shape of the result; left out, it is that of the parameters, which are numbers or
    tensors and broadcast to it.

    A draw is differentiable in the parameters that move or stretch it, as the drawn number itself
    moves: the limits of `uniform` and `truncated_normal`, `mean`, `std` and `scale`. The shape
    parameters of `gamma` and `beta` have no derivative, and asking for one raises. Counts,
    positions and truth values are integers and bools, which count as constants.

    Parameters that no distribution has raise a ValueError: numbers always, tensors where a draw is
    accepted or rejected by their values (`gamma`, `beta`, `poisson`, `binomial`, `bernoulli`,
    `categorical`, `truncated_normal`), inside `compile` and `vmap` too.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1. Equal seeds give equal streams.

    Attributes
    ----------
    state : Tensor
        Key and counter, two uint64 words; each draw rebinds it to the next counter, in one step
        with reading it, so that threads may share a generator: no two draws give the same numbers.
        Inside `vmap` each member of the batch gets numbers of its own from a generator that was
        made outside.

    Examples
    --------
    >>> import adjoint as ad
    >>> a, b = ad.random.Generator(7), ad.random.Generator(7)
    >>> bool(ad.all(a.normal((3,)) == b.normal((3,))))
    True
    """

    def __init__(self, seed: int) -> None:
        self.state = _core.asarray([check_seed("Generator", seed), 0], dtype=_core.uint64)

    def seed(self, seed: int) -> None:
        """Start over, as a new generator of this seed would.

        Parameters
        ----------
        seed : int
            From 0 to 2**64 - 1.

        Raises
        ------
        TypeError
            If it is no int.
        ValueError
            If it is out of range.

        Examples
        --------
        >>> import adjoint as ad
        >>> ad.random.seed(1)
        >>> first = ad.random.uniform().item()
        >>> ad.random.seed(1)
        >>> ad.random.uniform().item() == first
        True
        """
        fresh = _core.asarray([check_seed("seed", seed), 0], dtype=_core.uint64)
        self.state.rebind_(fresh)

    def split(self, n: int = 2) -> list[Generator]:
        """Return `n` generators whose streams are independent of each other and of this one.

        Their keys are the next `n` words of 64 bits of this stream, and their counters start at 0:
        the cipher is a pseudo-random function of its key, so streams of different keys are as good
        as independent (Salmon, Moraes, Dror, Shaw, SC 2011; Claessen and Palka, "Splittable
        pseudorandom number generators using cryptographic hashing", Haskell 2013). Two of m streams
        that are split off have the same key with a probability of m**2 / 2**65.
        """
        n = check_count("split", "n", n)
        keys = self._draw(_core._random_bits, (n,))
        children = []
        for i in range(n):
            child = Generator.__new__(Generator)
            child.state = _core.stack([keys[i], _core.zeros_like(keys[i])])
            children.append(child)
        return children

    # ---- Real numbers --------------------------------------------------------------------------

    @_shape_first
    def uniform(
        self, shape: Shape | None = None, low: Any = 0.0, high: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the uniform distribution on [low, high).

        No value equals `high`: one that rounding would take there is the largest number below it.
        Where there is no number of the dtype between the limits, all values are `low`.

        Parameters
        ----------
        shape : int or tuple of int, optional
            That of the parameters by default.
        low, high : number or Tensor, default 0 and 1
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).uniform((1000,), -1.0, 1.0)
        >>> bool(ad.all((-1.0 <= x) & (x < 1.0)))
        True
        """
        check_order("uniform", "low", low, "high", high)
        chosen = floating("uniform", dtype)
        first, last = (
            parameter("uniform", "low", low, dtype),
            parameter("uniform", "high", high, dtype),
        )
        plain = type(low) is float and type(high) is float and (low, high) == (0.0, 1.0)
        moved = None if plain else lambda unit: between(first, last, unit)
        dims = dims_of("uniform", shape, low, high)
        return self._draw(_core._random_uniform, dims, chosen, moved=moved)

    @_shape_first
    def normal(
        self, shape: Shape | None = None, mean: Any = 0.0, std: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the normal distribution.

        Parameters
        ----------
        shape : int or tuple of int, optional
            That of the parameters by default.
        mean, std : number or Tensor, default 0 and 1
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).normal((10_000,), 5.0, 0.1)
        >>> abs(ad.mean(x).item() - 5.0) < 0.01
        True
        """
        check_order("normal", "0", 0, "std", std)
        chosen = floating("normal", dtype)
        shift, scale = (
            parameter("normal", "mean", mean, dtype),
            parameter("normal", "std", std, dtype),
        )
        plain = type(mean) is float and type(std) is float and (mean, std) == (0.0, 1.0)
        moved = None if plain else lambda unit: shift + scale * unit
        dims = dims_of("normal", shape, mean, std)
        return self._draw(_core._random_normal, dims, chosen, moved=moved)

    @_draw_method
    def truncated_normal(
        self, lower: Any, upper: Any, shape: Shape | None = None, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the standard normal distribution between two limits, which may be infinite.

        `mean + std * truncated_normal((low - mean) / std, (high - mean) / std)` lies between `low`
        and `high`. The distribution function is inverted, in the tails by its logarithm, so that
        limits far out are as good as others.

        Parameters
        ----------
        lower, upper : number or Tensor
        shape : int or tuple of int, optional
            That of the parameters by default.
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).truncated_normal(8.0, ad.inf, (100,))
        >>> bool(ad.all(x >= 8.0))
        True
        """
        chosen = floating("truncated_normal", dtype)
        dims = dims_of("truncated_normal", shape, lower, upper)
        kind = _core._random_truncated_normal
        return _core.astype(self._variate(kind, dims, lower, upper), chosen)

    @_shape_first
    def exponential(
        self, shape: Shape | None = None, scale: Any = 1.0, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the exponential distribution of mean `scale`.

        Parameters
        ----------
        shape : int or tuple of int, optional
            That of the parameters by default.
        scale : number or Tensor, default 1
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).exponential((10_000,), 2.0)
        >>> abs(ad.mean(x).item() - 2.0) < 0.1
        True
        """
        check_order("exponential", "0", 0, "scale", scale)
        chosen = floating("exponential", dtype)
        factor = parameter("exponential", "scale", scale, dtype)
        dims = dims_of("exponential", shape, scale)
        unit: Tensor = _core.astype(self._variate(_core._random_exponential, dims), chosen)
        drawn: Tensor = unit * factor
        return drawn

    @_draw_method
    def gamma(
        self, a: Any, scale: Any = 1.0, shape: Shape | None = None, *, dtype: Any = None
    ) -> Tensor:
        """Draw from the gamma distribution of shape parameter `a`, of mean ``a * scale``.

        A small `a` gives numbers below the smallest of the dtype, which are 0; and `a` = 0 only
        these. Marsaglia and Tsang (2000). Not differentiable in `a`.

        Parameters
        ----------
        a : number or Tensor
        scale : number or Tensor, default 1
        shape : int or tuple of int, optional
            That of the parameters by default.
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).gamma(3.0, 2.0, (10_000,))
        >>> abs(ad.mean(x).item() - 6.0) < 0.2
        True
        """
        check_order("gamma", "0", 0, "scale", scale)
        chosen = floating("gamma", dtype)
        factor = parameter("gamma", "scale", scale, dtype)
        dims = dims_of("gamma", shape, a, scale)
        unit: Tensor = _core.astype(self._variate(_core._random_gamma, dims, a), chosen)
        drawn: Tensor = unit * factor
        return drawn

    @_draw_method
    def beta(self, a: Any, b: Any, shape: Shape | None = None, *, dtype: Any = None) -> Tensor:
        """Draw from the beta distribution; not differentiable in `a` and `b`.

        Parameters
        ----------
        a, b : number or Tensor
        shape : int or tuple of int, optional
            That of the parameters by default.
        dtype : DType, optional
            Floating; float64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).beta(2.0, 2.0, (10_000,))
        >>> abs(ad.mean(x).item() - 0.5) < 0.02
        True
        """
        chosen = floating("beta", dtype)
        dims = dims_of("beta", shape, a, b)
        return _core.astype(self._variate(_core._random_beta, dims, a, b), chosen)

    # ---- Counts and choices --------------------------------------------------------------------

    @_draw_method
    def integers(
        self, low: int, high: int | None = None, shape: Shape = (), *, dtype: Any = None
    ) -> Tensor:
        """Draw integers from [low, high), or from [0, low) when `high` is left out.

        Parameters
        ----------
        low, high : int
        shape : int or tuple of int, default ()
        dtype : DType, optional
            int64 by default.

        Returns
        -------
        Tensor of `shape` and `dtype`

        Raises
        ------
        TypeError
            If a limit is no int.
        ValueError
            If the interval is empty, or does not fit the dtype.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).integers(1, 7, (1000,))
        >>> ad.unique_values(x).tolist()
        [1, 2, 3, 4, 5, 6]
        """
        low = check_int("integers", "low", low)
        low, high = (0, low) if high is None else (low, check_int("integers", "high", high))
        if not low < high:
            raise ValueError(f"[integers] needs low < high, got {low} and {high}")
        chosen = _core.int64 if dtype is None else DType(dtype)
        limits, drawn_in = iinfo(chosen), iinfo(_core.int64)
        if low < max(limits.min, drawn_in.min) or high > min(limits.max + 1, drawn_in.max):
            least, most = max(limits.min, drawn_in.min), min(limits.max + 1, drawn_in.max)
            raise ValueError(
                f"[integers] [{low}, {high}) reaches beyond what is drawn for {chosen}: "
                f"low must be at least {least}, and high at most {most}"
            )
        drawn = self._draw(_core._random_integers, dims_of("integers", shape), low, high)
        return drawn if dtype is None else _core.astype(drawn, chosen)

    @_draw_method
    def bernoulli(self, p: Any = 0.5, shape: Shape | None = None) -> Tensor:
        """Draw bools that are True with probability `p`.

        Parameters
        ----------
        p : number or Tensor, default 0.5
        shape : int or tuple of int, optional
            That of the parameters by default.

        Returns
        -------
        Tensor of bools, of `shape`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).bernoulli(0.9, (10_000,))
        >>> abs(ad.mean(ad.astype(x, ad.float64)).item() - 0.9) < 0.02
        True
        """
        return self._variate(_core._random_bernoulli, dims_of("bernoulli", shape, p), p)

    @_draw_method
    def binomial(self, n: Any, p: Any, shape: Shape | None = None) -> Tensor:
        """Draw how many of `n` are true, each with probability `p`, as int64; `n` up to 2**53.

        Hoermann's BTRS (1993) where ``n * min(p, 1 - p)`` is 10 or more, else by inversion.

        Parameters
        ----------
        n, p : number or Tensor
        shape : int or tuple of int, optional
            That of the parameters by default.

        Returns
        -------
        Tensor of int64, of `shape`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).binomial(10, 0.5, (10_000,))
        >>> abs(ad.mean(x).item() - 5.0) < 0.1
        True
        """
        return self._variate(_core._random_binomial, dims_of("binomial", shape, n, p), n, p)

    @_draw_method
    def poisson(self, lam: Any = 1.0, shape: Shape | None = None) -> Tensor:
        """Draw counts of mean `lam`, as int64.

        Hoermann's PTRS (1993) where `lam` is 10 or more, else by inversion.

        Parameters
        ----------
        lam : number or Tensor, default 1
        shape : int or tuple of int, optional
            That of the parameters by default.

        Returns
        -------
        Tensor of int64, of `shape`

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> x = ad.random.Generator(0).poisson(4.0, (10_000,))
        >>> abs(ad.mean(x).item() - 4.0) < 0.1
        True
        """
        return self._variate(_core._random_poisson, dims_of("poisson", shape, lam), lam)

    @_draw_method
    def categorical(self, logits: Any, axis: int = -1, shape: Shape | None = None) -> Tensor:
        """Draw positions along `axis`, with probabilities ``softmax(logits, axis)``, as int64.

        `shape` is that of the result; it ends in, or is broadcast from, the shape of the other axes
        of `logits`, which it is when left out.

        Parameters
        ----------
        logits : Tensor or array
        axis : int, default -1
        shape : int or tuple of int, optional

        Returns
        -------
        Tensor of int64

        Raises
        ------
        TypeError
            If a parameter is no number or tensor.
        ValueError
            If the distribution has no such parameter, or shapes do not broadcast.

        Examples
        --------
        >>> import adjoint as ad
        >>> ad.random.Generator(0).categorical([0.0, -ad.inf, -ad.inf], shape=(4,)).tolist()
        [0, 0, 0, 0]
        """
        with _core.no_grad():
            rows = _core.moveaxis(_core.stop_gradient(_core.asarray(logits)), axis, -1)
            rows = _core.astype(rows, _core.float64)
            weights = _core.exp(rows - _core.max(rows, axis=-1, keepdims=True))
        return self._categorical(weights, shape)

    @_draw_method
    def choice(
        self,
        a: Any,
        shape: Shape = (),
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
    ) -> Tensor:
        """Draw entries of the tensor `a` along `axis`, or integers below the int `a`.

        With probabilities in proportion to the numbers `p`, or all alike. With `replace=False` none
        comes twice; with `p` besides, each next one is drawn from those that are left, in
        proportion (Efraimidis and Spirakis, 2006), and the values of `p` must be known: inside
        `vmap` and `compile` it has to be a list or an array. Differentiable in `a`.

        Parameters
        ----------
        a : int, Tensor or array
        shape : int or tuple of int, default ()
        replace : bool, default True
        p : sequence of numbers, optional
        axis : int, default 0

        Returns
        -------
        Tensor
            `shape` stands in the place of `axis`; of an int integers.

        Raises
        ------
        TypeError
            If `a` is no int and has no axes.
        ValueError
            If there are too few to choose from, or `p` has another shape or is negative.
        IndexError
            If `axis` is out of range.

        Examples
        --------
        >>> import adjoint as ad
        >>> ad.random.Generator(0).choice(ad.tensor([1.5, 2.5]), (3,), p=[0.0, 1.0]).tolist()
        [2.5, 2.5, 2.5]
        """
        n, entries = entries_of("choice", "a", a, axis)
        dims = dims_of("choice", shape)
        if n == 0 and prod(dims) > 0:
            raise ValueError("[choice] there is nothing to choose from")
        weights = None if p is None else _core.astype(_core.asarray(p), _core.float64)
        if weights is not None and weights.shape != (n,):
            raise ValueError(f"[choice] p must have shape ({n},), got {weights.shape}")
        if not replace:
            places = _core.reshape(self._distinct(n, prod(dims), p), dims)
        elif weights is None:
            places = self.integers(0, max(n, 1), dims)
        else:
            places = self._categorical(_core.stop_gradient(weights), dims)
        if entries is None:
            return places
        found = _core.take(entries, _core.reshape(places, (-1,)), axis=axis)
        at = axis % entries.ndim
        return _core.reshape(found, (*entries.shape[:at], *dims, *entries.shape[at + 1 :]))

    def permutation(self, x: Any, axis: int = 0) -> Tensor:
        """Return the integers below `x`, or a tensor's entries along `axis`, in random order.

        Parameters
        ----------
        x : int, Tensor or array
        axis : int, default 0

        Returns
        -------
        Tensor
            Of int64 below an int, else of the shape and dtype of `x`.

        Raises
        ------
        TypeError
            If `x` is no int and has no axes.
        IndexError
            If `axis` is out of range.

        Examples
        --------
        >>> import adjoint as ad
        >>> sorted(ad.random.Generator(0).permutation(4).tolist())
        [0, 1, 2, 3]
        """
        n, entries = entries_of("permutation", "x", x, axis)
        order = _core.argsort(self.uniform((n,)))
        return order if entries is None else _core.take(entries, order, axis=axis)

    # ---- What they are made of -----------------------------------------------------------------

    def _distinct(self, n: int, count: int, p: Any) -> Tensor:
        """Return `count` different places below `n`."""
        known = None
        if p is not None:  # read before a trace that is open takes it in
            known = p.tolist() if hasattr(p, "tolist") else [float(weight) for weight in p]
        if known is not None and not all(0 <= w < float("inf") for w in known):
            raise ValueError("[choice] p must be finite and at least 0")
        possible = n if known is None else sum(w > 0 for w in known)
        if count > possible:
            raise ValueError(
                f"[choice] {count} different ones of {possible} possible: use replace=True"
            )
        if known is None:
            return self.permutation(n)[:count]
        keys = self.exponential((n,)) / _core.asarray(known, dtype=_core.float64)
        return _core.argsort(keys)[:count]

    def _categorical(self, weights: Tensor, shape: Shape | None) -> Tensor:
        rows = weights.shape[:-1]
        dims = rows if shape is None else dims_of("categorical", shape)
        tail = dims[len(dims) - len(rows) :]
        if len(dims) < len(rows) or any(r not in (1, d) for r, d in zip(rows, tail, strict=True)):
            raise ValueError(f"[categorical] shape {dims} does not end in that of the rows, {rows}")
        if rows != tail:
            weights = _core.broadcast_to(weights, (*tail, weights.shape[-1]))
        choose = _core._random_categorical
        return self._draw(_core._random_bits, dims, moved=lambda bits: choose(bits, weights))

    def _variate(self, kind: Callable[..., Tensor], dims: tuple[int, ...], *given: Any) -> Tensor:
        """Draw bits and make of each, and its parameters, what `kind` does."""
        parameters = []
        for x in given:
            wide = _core.astype(_core.asarray(x), _core.float64)
            parameters.append(wide if wide.shape == dims else _core.broadcast_to(wide, dims))
        return self._draw(_core._random_bits, dims, moved=lambda bits: kind(bits, *parameters))

    def _draw(
        self,
        kind: Callable[..., Tensor],
        dims: tuple[int, ...],
        *parameters: Any,
        moved: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Step over what a draw of `dims` uses, and draw; one that fails uses nothing.

        Each member of a batch that the generator is from outside of gets numbers of its own.
        """
        handle = self.state
        dims = (*_core._batches_of(handle), *dims)
        state, left = _core._reserve_draw(handle, dims)
        try:
            drawn = _core._as_batched(kind(state, dims, *parameters), handle)
            return drawn if moved is None else moved(drawn)
        except BaseException:
            _core._give_back_draw(handle, state, left)
            raise

    def __repr__(self) -> str:
        return f"Generator(state={self.state.tolist()})"


def _default_generator() -> Generator:
    generator = Generator.__new__(Generator)
    generator.state = _core._default_random_state
    return generator


_default = _default_generator()

bernoulli = _default.bernoulli
beta = _default.beta
binomial = _default.binomial
categorical = _default.categorical
choice = _default.choice
exponential = _default.exponential
gamma = _default.gamma
integers = _default.integers
normal = _default.normal
permutation = _default.permutation
poisson = _default.poisson
seed = _default.seed
truncated_normal = _default.truncated_normal
uniform = _default.uniform


if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from adjoint._words import unknown

        raise unknown("random", name)


def __dir__() -> list[str]:
    return sorted(__all__)
