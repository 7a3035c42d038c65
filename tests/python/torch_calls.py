"""How the operations that PyTorch's samples exercise are written here.

`CALLS` has, for each name in PyTorch's table of operations that NumPy users would look for, a
function with PyTorch's parameters. Most of them hand on to one function of the package; where
PyTorch alone has a name, an expression in a line or two stands for it. `DIFFERENT` says where
results differ on purpose, `DECIDED` which names are not given, and why. `test_torch_samples.py`
compares values and derivatives with those that `torch_samples.py` recorded.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Sequence
from typing import Any

import adjoint as ad

Call = Callable[..., Any]


def as_truth(x: Any) -> Any:
    """Logic is of bools here."""
    return x if x.dtype == ad.bool else x != 0


def of_truth(f: Call) -> Call:
    return lambda *x: f(*map(as_truth, x))


def of_lists(f: Call) -> Call:
    return lambda *x: [f(t) for t in x[0]] if isinstance(x[0], (list, tuple)) else f(*x)


def reduction(f: Call) -> Call:
    return lambda x, dim=None, keepdim=False, **options: f(x, axis=dim, keepdims=keepdim, **options)


def spread(f: Call) -> Call:
    """var and std: `unbiased` may be the second argument."""

    def call(
        x: Any,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        correction: Any = None,
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        taken = (1 if unbiased else 0) if correction is None else correction
        axis = None if dim in ([], ()) else dim
        return f(x, axis=axis, correction=taken, keepdims=keepdim)

    return call


def mean_and(f: Call) -> Call:
    reduced = spread(f)

    def call(x: Any, dim: Any = None, *args: Any, keepdim: bool = False, **options: Any) -> Any:
        axis = None if isinstance(dim, bool) or dim in ([], ()) else dim
        mean = ad.mean(x, axis=axis, keepdims=keepdim)
        return reduced(x, dim, *args, keepdim=keepdim, **options), mean

    return call


def along(f: Call) -> Call:
    return lambda x, dim=-1, **options: f(x, axis=dim, **options)


def extreme(reduce: Call, where: Call, of_two: Call) -> Call:
    """max and min: of all, along an axis with indices, or of two tensors."""

    def call(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return reduce(x)
        if isinstance(dim, ad.Tensor):
            return of_two(x, dim)
        index = where(x, axis=dim, keepdims=True)
        value = x if x.ndim == 0 else ad.take_along_axis(x, index, axis=dim)
        if keepdim or x.ndim == 0:
            return value, index
        return ad.squeeze(value, dim), ad.squeeze(index, dim)

    return call


def over_all(f: Call) -> Call:
    """The places of what is not zero, where a scalar counts as one entry."""
    return lambda x: f(ad.reshape(x, (1,)))[:, :0] if x.ndim == 0 else f(x)


def middle(f: Call) -> Call:
    """PyTorch's median is the lower one of two, NumPy's their mean."""

    def call(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return f(ad.ravel(x), 0, False)
        if x.ndim == 0:
            return x
        return f(x, dim, keepdim)

    return call


def lower_median(x: Any, dim: int, keepdim: bool) -> Any:
    rows = ad.sort(x, axis=dim)
    value = ad.take(rows, ad.asarray([(x.shape[dim] - 1) // 2]), axis=dim)
    return value if keepdim else ad.squeeze(value, dim)


def lower_nanmedian(x: Any, dim: int, keepdim: bool) -> Any:
    rows = ad.sort(x, axis=dim)
    count = ad.sum(~ad.isnan(x), axis=dim, keepdims=True)
    value = ad.take_along_axis(rows, ad.maximum((count - 1) // 2, 0), axis=dim)
    return value if keepdim else ad.squeeze(value, dim)


def quantile(f: Call) -> Call:
    def call(
        x: Any, q: Any, dim: Any = None, keepdim: bool = False, interpolation: str = "linear"
    ) -> Any:
        return f(x, q, axis=dim, keepdims=keepdim, method=interpolation)

    return call


def reverse(f: Call) -> Call:
    return lambda x, y: f(y, x)


def divide(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return ad.divide(x, y)
    return ad.floor_divide(x, y) if rounding_mode == "floor" else ad.trunc(ad.divide(x, y))


def split(x: Any, size: Any, dim: int = 0) -> Any:
    """Pieces of a length, where NumPy asks for their number, or of several lengths."""
    n = x.shape[dim]
    lengths = list(size) if isinstance(size, (list, tuple)) else [size] * (-(-n // size))
    ends = [min(sum(lengths[: i + 1]), n) for i in range(len(lengths) - 1)]
    return ad.split(x, ends, axis=dim)


def chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    n = x.shape[dim]
    return split(x, max(-(-n // chunks), 1), dim)


def tensor_split(x: Any, sections: Any, dim: int = 0) -> Any:
    return ad.array_split(x, sections, axis=dim)


def expand(x: Any, *shape: Any) -> Any:
    sizes = shape[0] if shape and isinstance(shape[0], (list, tuple)) else shape
    lead = len(sizes) - x.ndim
    return ad.broadcast_to(
        x, tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes))
    )


def lengths(shape: tuple[Any, ...]) -> Any:
    return shape[0] if shape and isinstance(shape[0], (list, tuple)) else shape


def norm(x: Any, p: Any = None, dim: Any = None, keepdim: bool = False) -> Any:
    if p in (None, "fro"):
        return ad.linalg.vector_norm(x, axis=dim, keepdims=keepdim)
    if p == "nuc":
        axis = (-2, -1) if dim is None else tuple(dim)
        return ad.linalg.norm(x, ord="nuc", axis=axis, keepdims=keepdim)
    return ad.linalg.vector_norm(x, ord=p, axis=dim, keepdims=keepdim)


def places(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """The key that names x[..., index, ...] along an axis."""
    return (slice(None),) * (dim % max(x.ndim, 1)) + (index,)


def elements(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """The key of the elements that `index`, of as many axes as x, names along one axis."""
    grid = ad.meshgrid(*(ad.arange(n) for n in index.shape), indexing="ij")
    return tuple(index if i == dim % x.ndim else g for i, g in enumerate(grid))


def scatter(x: Any, dim: int, index: Any, src: Any, *, reduce: str | None = None) -> Any:
    if x.ndim == 0:
        return scatter(ad.reshape(x, (1,)), 0, index.reshape((-1,)), src, reduce=reduce)[0]
    if isinstance(src, ad.Tensor):
        src = src[tuple(slice(n) for n in index.shape)] if src.ndim else src
    at = x.at[elements(x, dim, index)]
    how = {None: at.set, "add": at.add, "multiply": at.mul}
    return how[reduce](src)


def gather(x: Any, dim: int, index: Any) -> Any:
    if x.ndim == 0 or index.ndim == 0:
        return ad.reshape(gather(ad.atleast_1d(x), dim, ad.atleast_1d(index)), index.shape)
    return x[elements(x, dim, index)]


def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    flat, at = ad.ravel(x), ad.ravel(index)
    values = ad.ravel(source)
    done = flat.at[at].add(values) if accumulate else flat.at[at].set(values)
    return ad.reshape(done, x.shape)


def index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    at = x.at[tuple(indices)]
    return at.add(values) if accumulate else at.set(values)


def diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    n = x.shape[-1] + abs(offset)
    i = ad.arange(x.shape[-1])
    out = ad.zeros((*x.shape[:-1], n, n), dtype=x.dtype)
    out = out.at[..., i + max(-offset, 0), i + max(offset, 0)].set(x)
    return ad.moveaxis(out, (-2, -1), (dim1, dim2))


def block_diag(*parts: Any) -> Any:
    return ad.linalg.block_diag(*(ad.atleast_2d(p) for p in parts))


def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: Any = None) -> Any:
    apart = ad.expand_dims(x1, -2) - ad.expand_dims(x2, -3)
    return ad.linalg.vector_norm(apart, ord=p, axis=-1)


def lerp(x: Any, end: Any, weight: Any) -> Any:
    return x + weight * (end - x)


def dist(x: Any, y: Any, p: float = 2) -> Any:
    return ad.linalg.vector_norm(x - y, ord=p)


def multigammaln(x: Any, p: int) -> Any:
    terms = [ad.lgamma(x - j / 2) for j in range(p)]
    return sum(terms[1:], terms[0]) + p * (p - 1) / 4 * math.log(math.pi)


def unflatten(x: Any, dim: int, sizes: Any) -> Any:
    at = dim % x.ndim
    return ad.reshape(x, (*x.shape[:at], *sizes, *x.shape[at + 1 :]))


def flatten(x: Any, start: int = 0, end: int = -1, **names: int) -> Any:
    start, end = names.get("start_dim", start), names.get("end_dim", end)
    if x.ndim == 0:
        return ad.reshape(x, (1,))
    first, last = start % x.ndim, end % x.ndim
    return ad.reshape(x, (*x.shape[:first], -1, *x.shape[last + 1 :]))


def squeeze(x: Any, dim: Any = None) -> Any:
    axes = range(x.ndim) if dim is None else ([dim] if isinstance(dim, int) else dim)
    ones = tuple(a for a in axes if x.ndim and x.shape[a] == 1)
    return ad.squeeze(x, ones)


def repeat(x: Any, *times: Any) -> Any:
    return ad.tile(x, tuple(lengths(times)))


def triangular_solve(
    b: Any, a: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    x = ad.linalg.solve_triangular(
        ad.matrix_transpose(a) if transpose else a,
        b,
        lower=upper == transpose,
        unit_diagonal=unitriangular,
    )
    return x


def pinv(
    x: Any, rcond: Any = None, *, rtol: Any = None, atol: float = 0.0, hermitian: bool = False
) -> Any:
    if isinstance(rcond, ad.Tensor) and rcond.ndim >= 2:  # of a product of low rank
        return ad.linalg.pinv(x @ rcond.mT)
    if hermitian:
        x = ad.tril(x) + ad.tril(x, k=-1).mT
    return ad.linalg.pinv(x, rtol=rcond if rtol is None else rtol)


def matrix_rank(
    x: Any, tol: Any = None, *, hermitian: bool = False, atol: Any = None, rtol: Any = None
) -> Any:
    """A least singular value for all is asked of these."""
    if hermitian:
        x = ad.tril(x) + ad.tril(x, k=-1).mT
    least = tol if tol is not None else atol
    if least is None:
        return ad.linalg.matrix_rank(x, rtol=rtol)
    s = ad.linalg.svdvals(x)
    if rtol is not None:
        least = ad.maximum(least, rtol * s[..., :1])
    return ad.count_nonzero(s > least, axis=-1)


def of_rows(rows: Any, x: Any, right: bool, sorter: Any) -> Any:
    """searchsorted; that of many rows is the batch of one."""
    side = "right" if right else "left"
    if rows.ndim == 1:
        return ad.searchsorted(rows, x, side=side, sorter=sorter)
    if sorter is None:
        return ad.vmap(lambda r, v: of_rows(r, v, right, None))(rows, x)
    return ad.vmap(lambda r, v, s: of_rows(r, v, right, s))(rows, x, sorter)


def unique(
    x: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: Any = None,
) -> Any:
    values, _, inverse, counts = ad.unique_all(x)
    parts = [values] + [inverse] * return_inverse + [counts] * return_counts
    return parts


def repeat_interleave(x: Any, repeats: Any, dim: Any = None, **options: Any) -> Any:
    return ad.repeat(x if x.ndim else ad.reshape(x, (1,)), repeats, axis=dim)


def solve(a: Any, b: Any, *, left: bool = True) -> Any:
    """A stack of vectors is told from a matrix by the number of axes alone here."""
    vectors = b.ndim == a.ndim - 1 and b.shape == a.shape[:-1] and b.ndim > 1
    if not left:
        return solve(a.mT, b if vectors else b.mT) if vectors else solve(a.mT, b.mT).mT
    return solve(a, b[..., None])[..., 0] if vectors else ad.linalg.solve(a, b)


def multi_dot(matrices: Sequence[Any]) -> Any:
    return ad.linalg.multi_dot(matrices)


def unit(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    return x / ad.maximum(ad.linalg.vector_norm(x, ord=p, axis=dim, keepdims=True), eps)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return ad.where(mask, value, x)


def renorm(x: Any, p: float, dim: int, maxnorm: float) -> Any:
    axes = tuple(i for i in range(x.ndim) if i != dim % x.ndim)
    length = ad.linalg.vector_norm(x, ord=p, axis=axes, keepdims=True)
    return ad.where(length > maxnorm, x * (maxnorm / (length + 1e-7)), x)


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return ad.where(x * beta > threshold, x, ad.softplus(x * beta) / beta)


def isclose(f: Call) -> Call:
    return lambda a, b, rtol=1e-05, atol=1e-08, equal_nan=False: f(
        a, b, rtol, atol, equal_nan=equal_nan
    )


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    return ad.clip(x, min, max)


def rounded(x: Any, *, decimals: int = 0) -> Any:
    return ad.around(x, decimals)


def trapezoid(f: Call) -> Call:
    return lambda y, x=None, *, dim=-1, dx=1.0: f(y, x=x, dx=dx, axis=dim)


def gradient(x: Any, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> Any:
    axes = tuple(range(x.ndim)) if dim is None else dim
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    spacing = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    return ad.gradient(x, *steps, axis=axes, edge_order=edge_order)


def scan_with_places(f: Call) -> Call:
    return lambda x, dim: (x, ad.zeros((), dtype=ad.int64)) if x.ndim == 0 else f(x, axis=dim)


SAME = """abs acos acosh asin asinh atan atan2 atanh ceil
column_stack copysign cos cosh deg2rad diag diagonal digamma dot dstack erf erfc erfinv exp
exp2 expm1 fliplr flipud float_power floor floor_divide fmax fmin fmod frexp gcd heaviside hstack
hypot i0 igamma igammac inner isfinite isin isinf isnan isneginf isposinf kron lcm lgamma
log log10 log1p log2 logaddexp logaddexp2 logit
matmul maximum minimum nan_to_num nextafter outer positive rad2deg ravel
reciprocal remainder rsqrt sigmoid sign signbit sin sinc sinh sqrt square tan tanh
trace trunc unravel_index vdot vstack xlogy bitwise_and bitwise_or bitwise_xor
bitwise_left_shift bitwise_right_shift""".split()

LOGICAL = ("logical_and", "logical_not", "logical_or", "logical_xor")

CALLS: dict[str, Call] = {
    **{name: getattr(ad, name) for name in SAME},
    # ---- under another name
    "mul": ad.multiply,
    "sub": lambda x, y, *, alpha=1: ad.subtract(x, ad.multiply(y, alpha)),
    "add": lambda x, y, *, alpha=1: ad.add(x, ad.multiply(y, alpha)),
    "rsub": lambda x, y, *, alpha=1: ad.subtract(y, ad.multiply(x, alpha)),
    "div": divide,
    "true_divide": ad.divide,
    "neg": ad.negative,
    "pow": ad.pow,
    "eq": ad.equal,
    "ne": ad.not_equal,
    "lt": ad.less,
    "le": ad.less_equal,
    "gt": ad.greater,
    "ge": ad.greater_equal,
    "equal": ad.array_equal,
    **{name: of_truth(getattr(ad, name)) for name in LOGICAL},
    **{name: of_lists(getattr(ad, name)) for name in ("atleast_1d", "atleast_2d", "atleast_3d")},
    "where": lambda x, condition, y: ad.where(as_truth(condition), x, y),
    "argwhere": over_all(ad.argwhere),
    "nonzero": lambda x, *, as_tuple=False: (
        ad.nonzero(ad.atleast_1d(x)) if as_tuple else over_all(ad.argwhere)(x)
    ),
    "ldexp": lambda x, n: x * ad.exp2(n),
    "tensordot": lambda x, y, dims: ad.tensordot(x, y, axes=dims),
    "clamp": clamp,
    "clamp_max": lambda x, top: ad.minimum(x, top),
    "clamp_min": lambda x, bottom: ad.maximum(x, bottom),
    "bitwise_not": ad.bitwise_invert,
    "bmm": ad.matmul,
    "mm": ad.matmul,
    "mv": ad.matmul,
    "cat": lambda xs, dim=0: ad.concat(xs, axis=dim),
    "stack": lambda xs, dim=0: ad.stack(xs, axis=dim),
    "unbind": lambda x, dim=0: ad.unstack(x, axis=dim),
    "clone": lambda x, **options: ad.clone(x),
    "permute": lambda x, *dims: ad.permute_dims(x, tuple(lengths(dims))),
    "movedim": ad.moveaxis,
    "transpose": lambda x, a, b: x if x.ndim == 0 else ad.swapaxes(x, a, b),
    "T": lambda x: ad.permute_dims(x, tuple(reversed(range(x.ndim)))),
    "mT": lambda x: x.mT,
    "t": lambda x: ad.permute_dims(x, tuple(reversed(range(x.ndim)))),
    "unsqueeze": ad.expand_dims,
    "squeeze": squeeze,
    "reshape": ad.reshape,
    "view": lambda x, *shape: ad.reshape(x, tuple(lengths(shape))),
    "flatten": flatten,
    "unflatten": unflatten,
    "expand": expand,
    "broadcast_to": ad.broadcast_to,
    "broadcast_tensors": lambda *xs: ad.broadcast_arrays(*xs),
    "meshgrid": lambda *xs, indexing="ij": ad.meshgrid(*lengths(xs), indexing=indexing),
    "split": split,
    "split_with_sizes": split,
    "chunk": chunk,
    "tensor_split": tensor_split,
    "hsplit": ad.hsplit,
    "vsplit": ad.vsplit,
    "dsplit": ad.dsplit,
    "tile": lambda x, *dims: ad.tile(x, tuple(lengths(dims))),
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "flip": lambda x, dims: ad.flip(x, axis=tuple(dims) if len(dims) else ()),
    "roll": lambda x, shifts, dims=None: ad.roll(
        x, shifts, axis=None if dims is None or dims == () else dims
    ),
    "rot90": lambda x, k=1, dims=(0, 1): ad.rot90(x, k, axes=tuple(dims)),
    "narrow": lambda x, dim, start, length: ad.take(x, ad.arange(length) + start, axis=dim),
    "select": lambda x, dim, index: x[places(x, dim, index)],
    "slice": lambda x, dim=0, start=None, end=None, step=1: x[
        places(x, dim, slice(start, end, step))
    ],
    "__getitem__": lambda x, key: x[key],
    "masked_select": lambda x, mask: ad.broadcast_to(x, ad.broadcast_arrays(x, mask)[0].shape)[
        ad.broadcast_to(mask, ad.broadcast_arrays(x, mask)[0].shape)
    ],
    "masked_fill": masked_fill,
    "masked_scatter": lambda x, mask, source: (
        lambda y, m: y.at[m].set(ad.ravel(source)[: int(ad.count_nonzero(m))])
    )(*ad.broadcast_arrays(x, mask)),
    "index_select": lambda x, dim, index: (
        x if x.ndim == 0 else ad.take(x, ad.atleast_1d(index), axis=dim)
    ),
    "index_fill": lambda x, dim, index, value: (
        value + 0.0 * x if x.ndim == 0 else x.at[places(x, dim, index)].set(value)
    ),
    "index_copy": lambda x, dim, index, source: (
        ad.reshape(source, x.shape) if x.ndim == 0 else x.at[places(x, dim, index)].set(source)
    ),
    "index_add": lambda x, dim, index, source, *, alpha=1: (
        x + alpha * ad.reshape(source, x.shape)
        if x.ndim == 0
        else x.at[places(x, dim, index)].add(alpha * source)
    ),
    "index_put": index_put,
    "gather": gather,
    "take_along_dim": lambda x, index, dim=None: (
        ad.take(ad.ravel(x), ad.ravel(index), axis=0)
        if dim is None
        else ad.take_along_axis(x, index, axis=dim)
    ),
    "scatter": scatter,
    "scatter_add": lambda x, dim, index, src: scatter(x, dim, index, src, reduce="add"),
    "take": lambda x, index: ad.take(ad.ravel(x), index, axis=0),
    "put": put,
    "diag_embed": diag_embed,
    "diagflat": lambda x, offset=0: ad.diagflat(x, offset),
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: ad.diagonal(x, offset, dim1, dim2),
    "linalg.diagonal": lambda x, *, offset=0, dim1=-2, dim2=-1: ad.diagonal(x, offset, dim1, dim2),
    "tril": lambda x, diagonal=0: ad.tril(x, k=diagonal),
    "triu": lambda x, diagonal=0: ad.triu(x, k=diagonal),
    "fill": lambda x, value: ad.full_like(x, 1.0) * value,
    "trace": ad.trace,
    # ---- reductions
    "sum": reduction(ad.sum),
    "prod": reduction(ad.prod),
    "mean": reduction(ad.mean),
    "all": reduction(ad.all),
    "any": reduction(ad.any),
    "amax": reduction(ad.max),
    "amin": reduction(ad.min),
    "argmax": reduction(ad.argmax),
    "argmin": reduction(ad.argmin),
    "nansum": reduction(ad.nansum),
    "nanmean": reduction(ad.nanmean),
    "count_nonzero": reduction(ad.count_nonzero),
    "aminmax": lambda x, *, dim=None, keepdim=False: (
        ad.min(x, axis=dim, keepdims=keepdim),
        ad.max(x, axis=dim, keepdims=keepdim),
    ),
    "max": extreme(ad.max, ad.argmax, ad.maximum),
    "min": extreme(ad.min, ad.argmin, ad.minimum),
    "var": spread(ad.var),
    "std": spread(ad.std),
    "var_mean": mean_and(ad.var),
    "std_mean": mean_and(ad.std),
    "median": middle(lower_median),
    "nanmedian": middle(lower_nanmedian),
    "quantile": quantile(ad.quantile),
    "nanquantile": quantile(ad.nanquantile),
    "cummax": scan_with_places(ad.cummax),
    "cummin": scan_with_places(ad.cummin),
    "logcumsumexp": along(ad.logcumsumexp),
    "cumulative_trapezoid": trapezoid(ad.cumulative_trapezoid),
    "gradient": gradient,
    "logsumexp": lambda x, dim, keepdim=False: ad.logsumexp(x, axis=dim, keepdims=keepdim),
    "norm": norm,
    "dist": dist,
    "cumsum": along(ad.cumulative_sum),
    "cumprod": along(ad.cumulative_prod),
    "diff": lambda x, n=1, dim=-1, prepend=None, append=None: ad.diff(
        x, axis=dim, n=n, prepend=prepend, append=append
    ),
    "trapezoid": trapezoid(ad.trapezoid),
    "trapz": trapezoid(ad.trapezoid),
    "cov": lambda x, *, correction=1, fweights=None, aweights=None: ad.cov(
        x, ddof=correction, fweights=fweights, aweights=aweights
    ),
    "corrcoef": ad.corrcoef,
    "softmax": lambda x, dim, dtype=None: ad.softmax(x, axis=dim),
    "log_softmax": lambda x, dim, dtype=None: ad.log_softmax(x, axis=dim),
    "nn.functional.softmin": lambda x, dim, dtype=None: ad.softmax(-x, axis=dim),
    # ---- order
    "sort": lambda x, dim=-1, descending=False, *, stable=False: (
        (x, ad.zeros((), dtype=ad.int64))
        if x.ndim == 0
        else (
            ad.sort(x, axis=dim, descending=descending),
            ad.argsort(x, axis=dim, descending=descending),
        )
    ),
    "msort": lambda x: ad.sort(x, axis=0),
    "argsort": lambda x, dim=-1, descending=False, *, stable=False: ad.argsort(
        x, axis=dim, descending=descending
    ),
    "topk": lambda x, k, dim=-1, largest=True, sorted=True: ad.topk(
        x, k, axis=dim, largest=largest
    ),
    "kthvalue": lambda x, k, dim=-1, keepdim=False: (
        lambda y: y if keepdim else ad.squeeze(y, dim)
    )(ad.take(ad.sort(x, axis=dim), ad.asarray([k - 1]), axis=dim)),
    "searchsorted": lambda rows, x, *, right=False, side="left", sorter=None, **options: of_rows(
        rows, x, right or side == "right", sorter
    ),
    "bucketize": lambda x, rows, *, right=False, **options: ad.searchsorted(
        rows, x, side="right" if right else "left"
    ),
    "unique": unique,
    "bincount": lambda x, weights=None, minlength=0: ad.bincount(x, weights, minlength=minlength),
    # ---- products
    "addmm": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * (a @ b),
    "addmv": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * (a @ b),
    "baddbmm": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * (a @ b),
    "addbmm": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * ad.sum(a @ b, axis=0),
    "addr": lambda x, a, b, *, beta=1, alpha=1: beta * x + alpha * ad.outer(a, b),
    "addcmul": lambda x, a, b, *, value=1: x + value * a * b,
    "addcdiv": lambda x, a, b, *, value=1: x + value * a / b,
    "einsum": lambda operands, equation: ad.einsum(equation, *operands),
    "cross": lambda x, y, dim=-1: ad.cross(x, y, axis=dim),
    "linalg.cross": lambda x, y, *, dim=-1: ad.linalg.cross(x, y, axis=dim),
    "linalg.vecdot": lambda x, y, *, dim=-1: ad.linalg.vecdot(x, y, axis=dim),
    "linalg.multi_dot": multi_dot,
    "block_diag": block_diag,
    "cdist": cdist,
    "lerp": lerp,
    "renorm": renorm,
    "__rmatmul__": reverse(ad.matmul),
    "__radd__": reverse(ad.add),
    "__rmul__": reverse(ad.multiply),
    "__rsub__": reverse(ad.subtract),
    "__rdiv__": reverse(ad.divide),
    "__rpow__": reverse(ad.pow),
    "__rmod__": reverse(ad.remainder),
    "__rand__": reverse(ad.bitwise_and),
    "__ror__": reverse(ad.bitwise_or),
    "__rxor__": reverse(ad.bitwise_xor),
    "nn.functional.linear": lambda x, w, b=None: (
        ad.matmul(x, ad.matrix_transpose(w))
        if b is None
        else ad.matmul(x, ad.matrix_transpose(w)) + b
    ),
    # ---- elementwise
    "real": ad.real,
    "conj": ad.conj,
    "conj_physical": ad.conj,
    "frac": lambda x: x - ad.trunc(x),
    "sgn": ad.sign,
    "round": rounded,
    "isclose": isclose(ad.isclose),
    "allclose": isclose(ad.allclose),
    "mvlgamma": multigammaln,
    "polygamma": lambda x, n: ad.polygamma(n, x),
    "special.polygamma": lambda x, n: ad.polygamma(n, x),
    "special.i0e": ad.i0e,
    "special.i1": ad.i1,
    "special.i1e": ad.i1e,
    "special.ndtr": ad.ndtr,
    "special.ndtri": ad.ndtri,
    "special.log_ndtr": ad.log_ndtr,
    "special.xlog1py": ad.xlog1py,
    "special.entr": ad.entr,
    "logit": lambda x, eps=None: ad.logit(x if eps is None else ad.clip(x, eps, 1 - eps)),
    "nn.functional.relu": ad.relu,
    "nn.functional.relu6": lambda x: ad.clip(x, 0, 6),
    "nn.functional.silu": ad.silu,
    "nn.functional.gelu": lambda x, approximate="none": (
        ad.gelu(x) if approximate == "tanh" else x * ad.ndtr(x)
    ),
    "nn.functional.softplus": softplus,
    "nn.functional.logsigmoid": lambda x: -ad.softplus(-x),
    "nn.functional.softsign": lambda x: x / (1 + ad.abs(x)),
    "nn.functional.tanhshrink": lambda x: x - ad.tanh(x),
    "nn.functional.one_hot": lambda x, num_classes=-1: ad.one_hot(
        x, int(ad.max(x)) + 1 if num_classes == -1 else num_classes, dtype=ad.int64
    ),
    "nn.functional.normalize": unit,
    "nn.functional.mse_loss": lambda x, y, reduction="mean": {
        "mean": ad.mean,
        "sum": ad.sum,
        "none": lambda z: z,
    }[reduction](ad.square(x - y)),
    # ---- linear algebra
    "cholesky": lambda x, upper=False: ad.linalg.cholesky(x, upper=upper),
    "cholesky_inverse": lambda x, upper=False: ad.linalg.cho_solve(
        x, ad.eye(x.shape[-1]), lower=not upper
    ),
    "cholesky_solve": lambda b, x, upper=False: ad.linalg.cho_solve(x, b, lower=not upper),
    "linalg.cholesky": lambda x, *, upper=False: ad.linalg.cholesky(x, upper=upper),
    "linalg.det": ad.linalg.det,
    "linalg.slogdet": ad.linalg.slogdet,
    "logdet": lambda x: (lambda r: ad.where(r[0] > 0, r[1], math.nan))(ad.linalg.slogdet(x)),
    "linalg.inv": ad.linalg.inv,
    "linalg.tensorinv": ad.linalg.tensorinv,
    "linalg.tensorsolve": lambda a, b, dims=None: ad.linalg.tensorsolve(a, b, axes=dims),
    "linalg.solve": solve,
    "linalg.solve_triangular": lambda a, b, *, upper, left=True, unitriangular=False: (
        ad.linalg.solve_triangular(a, b, lower=not upper, unit_diagonal=unitriangular)
        if left
        else ad.matrix_transpose(
            ad.linalg.solve_triangular(
                ad.matrix_transpose(a),
                ad.matrix_transpose(b),
                lower=upper,
                unit_diagonal=unitriangular,
            )
        )
    ),
    "triangular_solve": triangular_solve,
    "linalg.qr": lambda x, mode="reduced": ad.linalg.qr(x, mode=mode),
    "qr": lambda x, some=True: ad.linalg.qr(x, mode="reduced" if some else "complete"),
    "linalg.svd": lambda x, full_matrices=True: ad.linalg.svd(x, full_matrices=full_matrices),
    "linalg.svdvals": ad.linalg.svdvals,
    "linalg.eigh": lambda x, UPLO="L": ad.linalg.eigh(x if UPLO == "L" else x.mT),
    "linalg.eigvalsh": lambda x, UPLO="L": ad.linalg.eigvalsh(x if UPLO == "L" else x.mT),
    "linalg.pinv": pinv,
    "pinverse": pinv,
    "linalg.matrix_power": ad.linalg.matrix_power,
    "matrix_exp": ad.linalg.expm,
    "linalg.norm": lambda x, ord=None, dim=None, keepdim=False: ad.linalg.norm(
        x, ord=ord, axis=dim, keepdims=keepdim
    ),
    "linalg.matrix_norm": lambda x, ord="fro", dim=(-2, -1), keepdim=False: ad.linalg.norm(
        x, ord=ord, axis=tuple(dim), keepdims=keepdim
    ),
    "linalg.vector_norm": lambda x, ord=2, dim=None, keepdim=False: ad.linalg.vector_norm(
        x, ord=ord, axis=dim, keepdims=keepdim
    ),
    "linalg.cond": lambda x, p=None: ad.linalg.cond(x, p),
    "linalg.matrix_rank": matrix_rank,
    "linalg.lstsq": lambda a, b, driver=None: ad.linalg.lstsq(a, b),
    "linalg.vander": lambda x, *, N=None: (
        x[..., None] ** ad.astype(ad.arange(x.shape[-1] if N is None else N), x.dtype)
    ),
}
# Names of which some samples differ on purpose, and are left out.
DIFFERENT = {
    "cat": "PyTorch joins an empty vector to anything; shapes must fit here",
    "cholesky_inverse": "PyTorch gives entries that the function does not read a derivative",
    "cholesky_solve": "PyTorch gives entries that the function does not read a derivative",
    "gather": "PyTorch takes an empty index of any number of axes",
    "einsum": "an ellipsis that the result lacks is summed by PyTorch; it raises here, as in NumPy",
    "linalg.norm": "where a norm has no derivative: see special_points.md and linalg.md",
    "linalg.pinv": "PyTorch's derivative of hermitian=True is along matrices that are not",
    "linalg.vander": "a scalar is no vector here",
    "tensordot": "axes of lengths 1 and n are summed as one by PyTorch; it raises here",
    "unique": "rows and columns are no values here: PyTorch's dim",
}
# Besides: PyTorch lets axis 0 of a scalar stand for none. It raises IndexError here.
AXIS_OF_A_SCALAR = "tensor of 0 dimensions"

# Names that are not given, by reason. A star stands for what begins so.
DECIDED = {
    "there are no complex numbers": """angle complex H imag linalg.eig linalg.eigvals mH polar
        resolve_conj resolve_neg view_as_complex view_as_real cdouble cfloat chalf fft.* stft
        istft""",
    "a value has no memory of its own to speak of": """alias_copy as_strided as_strided_copy
        as_strided_scatter contiguous diagonal_copy empty_permuted empty_strided expand_copy
        narrow_copy new_empty_strided permute_copy resize_ resize_as_ split_with_sizes_copy
        squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsafe_chunk unsafe_split
        unsqueeze_copy view_copy zero_""",
    "made from nothing, or a conversion: tested elsewhere": """arange bool byte char double
        bfloat16 empty empty_like eye float full full_like half int item linspace logspace long
        new_empty new_full new_ones new_zeros ones ones_like scalar_tensor short to tril_indices
        triu_indices zeros zeros_like""",
    "random": """bernoulli cauchy exponential geometric log_normal multinomial normal rand_like
        randint randint_like randn randn_like uniform nn.functional.*dropout*""",
    "of shapes, or of another tensor's shape": """broadcast_shapes expand_as reshape_as
        sum_to_size view_as""",
    "x.at[i].set, of a part that a key names": "diagonal_scatter select_scatter slice_scatter",
    "x.at[i].mul, .max and .min count x itself": "index_reduce scatter_reduce",
    "a network is built of layers, in adjoint.nn": """nn.functional.* native_* constant_pad_nd
        max_pool2d_with_indices_backward grid_sampler_*""",
    "factors in a form that only other routines read": """geqrf ormqr linalg.householder_product
        linalg.ldl_factor linalg.ldl_factor_ex linalg.ldl_solve linalg.lu linalg.lu_factor
        linalg.lu_factor_ex linalg.lu_solve lu lu_solve lu_unpack linalg.cholesky_ex
        linalg.inv_ex linalg.solve_ex""",
    "an approximation by random projections": "pca_lowrank svd_lowrank",
    "special functions without a derivative in PyTorch, or not given yet": """special.airy_ai
        special.bessel_* special.*chebyshev_* special.hermite_* special.laguerre_*
        special.legendre_* special.*modified_bessel_* special.spherical_bessel_j0 special.zeta
        special.erfcx""",
    "counts in a form of PyTorch's own; `histogram` and `bincount` are NumPy's": """histc
        histogram histogramdd""",
    "sparse tensors, masked tensors and windows": "sparse.* to_sparse masked.* signal.*",
    "PyTorch's own machinery": "_* torch.* jiterator_* hash_tensor nonzero_static",
    "rarely asked for": """cartesian_prod combinations isreal mode svd unfold
        unique_consecutive""",
}


def decided(name: str) -> bool:
    """Whether a name of PyTorch's table is left out, for a reason."""
    return any(
        fnmatch.fnmatchcase(name, pattern)
        for names in DECIDED.values()
        for pattern in names.split()
    )


def comparable(name: str, result: Any, library: Any) -> Any:
    """What of a result is determined: of eigenvectors and singular vectors, not the sign."""
    if name == "linalg.eigh":
        return [library.abs(part) for part in result]
    if name == "linalg.svd":
        u, s, vh = result
        k = s.shape[-1]
        return library.abs(u[..., :k]), s, library.abs(vh[..., :k, :])
    if name in ("linalg.lstsq", "triangular_solve", "median", "nanmedian", "kthvalue"):
        return result[0] if isinstance(result, tuple) else result
    return result
