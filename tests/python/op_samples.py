"""One table of samples for every public operation: how to call it, a reference, inputs.

The references are NumPy's and SciPy's functions; `exact` is mpmath's, from which the correctly
rounded value follows. `test_ops_table.py` runs every generic test over the whole table, and asserts
that no operation of the package is missing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mpmath
import numpy as np
import scipy.special

import adjoint as ad
import axis_samples
import linalg_samples
import made_samples
from samples import Sample, apart, floats, rng

FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = INTEGERS + FLOATS
ALL = ("bool", *NUMBERS)

# Functions of the package that compute no new values from tensors: made from data, transforms,
# questions, state, and those of which values decide how many results there are. Other files test
# them.
NOT_OPERATIONS = frozenset(
    """tensor asarray zeros ones empty full zeros_like ones_like empty_like full_like arange
    nonzero argwhere flatnonzero logspace geomspace unique_all unique_counts unique_inverse
    unique_values tri tril_indices triu_indices diag_indices indices
    linspace eye from_dlpack grad value_and_grad jacobian hessian vjp jvp hvp vmap compile
    stop_gradient checkpoint eval is_grad_enabled blas_name memory_stats reset_peak_memory
    clear_cache set_cache_limit explain
    set_num_threads get_num_threads""".split()
)


@dataclass(frozen=True)
class Elementwise:
    """An operation that acts on each element alone.

    `domains` holds one interval per operand: inside it the function is smooth when `smooth` is
    set, and within `ulp` units in the last place of the exact value.
    """

    name: str
    reference: Callable[..., Any]
    domains: tuple[tuple[float, float], ...]
    exact: Callable[..., Any] | None = None
    ulp: tuple[float, float] = (0.5, 0.5)  # in float32 and in float64
    dtypes: tuple[str, ...] = FLOATS
    result: str = "same"  # or "floating" (integers become float64), or "bool"
    smooth: bool = True
    integer_divisor: bool = False  # NumPy's own result at 0 is not the one promised
    whole: int | None = None  # the operand, a constant, that takes whole numbers only

    @property
    def arity(self) -> int:
        return len(self.domains)

    @property
    def variable(self) -> tuple[int, ...] | None:
        """Which operands have derivatives; None: all floating ones."""
        if self.whole is None:
            return None
        return tuple(i for i in range(self.arity) if i != self.whole)

    def call(self, *args: Any) -> ad.Tensor:
        return getattr(ad, self.name)(*args)


def _unary(
    name: str,
    reference: Callable[..., Any],
    low: float,
    high: float,
    ulp: tuple[float, float],
    exact: Callable[..., Any],
    result: str = "floating",
    dtypes: tuple[str, ...] = ALL,
) -> Elementwise:
    return Elementwise(name, reference, ((low, high),), exact, ulp, dtypes, result)


def _steps(name: str, reference: Callable[..., Any], dtypes: tuple[str, ...], result: str = "same"):
    return Elementwise(name, reference, ((-3.4, 3.4),), dtypes=dtypes, result=result, smooth=False)


def _pair(
    name: str,
    reference: Callable[..., Any],
    *,
    low: float = -2,
    high: float = 2,
    dtypes: tuple[str, ...] = ALL,
    result: str = "same",
    smooth: bool = True,
    ulp: tuple[float, float] = (0.5, 0.5),
    exact: Callable[..., Any] | None = None,
) -> Elementwise:
    domains = ((low, high), (low, high))
    return Elementwise(name, reference, domains, exact, ulp, dtypes, result, smooth)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _mp_sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _mp_gelu(x: Any) -> Any:
    return x * _mp_sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))


def _gelu(x: Any) -> Any:
    return x * _sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def _sinc(x: Any) -> Any:
    """NumPy's, but for its rounding of pi where the result is 0."""
    return np.where(x == np.rint(x), x == 0, np.sinc(x))


def _mp_ndtri(p: Any) -> Any:
    return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)


def _scaled_bessel(n: int, x: Any) -> Any:
    return mpmath.besseli(n, x) * mpmath.exp(-abs(x))


def _mul0(a: Any, b: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.where((a == 0) | (b == 0), np.zeros_like(a * b), a * b)


def _whole(f: Callable[..., Any]) -> Callable[..., Any]:
    """Rounding that leaves integers and bools alone, as the array standard has it."""
    return lambda x: f(x) if x.dtype.kind == "f" else x


def _logaddexp(x: Any, y: Any) -> Any:
    return mpmath.log(mpmath.exp(x) + mpmath.exp(y))


ELEMENTWISE = [
    _unary("exp", np.exp, -20, 20, (1, 1.1), mpmath.exp),
    _unary("exp2", np.exp2, -20, 20, (1.1, 1.2), lambda x: mpmath.mpf(2) ** x),
    _unary("expm1", np.expm1, -5, 5, (1.5, 2.2), mpmath.expm1),
    _unary("log", np.log, 0.1, 20, (0.9, 0.9), mpmath.log),
    _unary("log2", np.log2, 0.1, 20, (0.9, 0.9), lambda x: mpmath.log(x, 2)),
    _unary("log10", np.log10, 0.1, 20, (0.8, 0.8), mpmath.log10),
    _unary("log1p", np.log1p, -0.8, 5, (1.5, 1.4), mpmath.log1p),
    _unary("sqrt", np.sqrt, 0.1, 100, (0.5, 0.5), mpmath.sqrt),
    _unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.2, 100, (1.5, 1.5), lambda x: 1 / mpmath.sqrt(x)),
    _unary("cbrt", np.cbrt, 0.1, 30, (0.51, 0.51), mpmath.cbrt),
    _unary("sin", np.sin, -100, 100, (2, 2), mpmath.sin),
    _unary("cos", np.cos, -100, 100, (2, 2), mpmath.cos),
    _unary("tan", np.tan, -1.2, 1.2, (2.4, 2.4), mpmath.tan),
    _unary("asin", np.arcsin, -0.8, 0.8, (2.4, 2.3), mpmath.asin),
    _unary("acos", np.arccos, -0.8, 0.8, (1.2, 1.2), mpmath.acos),
    _unary("atan", np.arctan, -5, 5, (2, 1.9), mpmath.atan),
    _unary("sinh", np.sinh, -5, 5, (2.2, 2.5), mpmath.sinh),
    _unary("cosh", np.cosh, -5, 5, (1.5, 1.6), mpmath.cosh),
    _unary("tanh", np.tanh, -5, 5, (1.6, 1.6), mpmath.tanh),
    _unary("asinh", np.arcsinh, -10, 10, (1.8, 1.8), mpmath.asinh),
    _unary("acosh", np.arccosh, 1.2, 10, (2.2, 2.2), mpmath.acosh),
    _unary("atanh", np.arctanh, -0.8, 0.8, (2.2, 2), mpmath.atanh),
    _unary("erf", scipy.special.erf, -3, 3, (1.3, 1.3), mpmath.erf),
    _unary("erfc", scipy.special.erfc, -3, 6, (1.4, 1.7), mpmath.erfc),
    _unary("lgamma", scipy.special.gammaln, 0.5, 12, (2.3, 2.2), mpmath.loggamma),
    _unary("digamma", scipy.special.digamma, 0.5, 12, (2.4, 2.5), mpmath.digamma),
    Elementwise(
        "polygamma",
        scipy.special.polygamma,
        ((1, 9), (0.5, 12)),
        lambda n, x: mpmath.polygamma(int(n), x),
        (0.51, 0.51),
        whole=0,
    ),
    _unary("sinc", _sinc, -6, 6, (0.51, 1.9), lambda x: mpmath.sincpi(x)),
    _unary("ndtr", scipy.special.ndtr, -6, 6, (0.51, 2), mpmath.ncdf),
    _unary(
        "log_ndtr", scipy.special.log_ndtr, -9, 6, (0.51, 2.2), lambda x: mpmath.log(mpmath.ncdf(x))
    ),
    _unary("erfinv", scipy.special.erfinv, -0.9, 0.9, (0.51, 3), mpmath.erfinv),
    _unary("ndtri", scipy.special.ndtri, 0.1, 0.9, (0.51, 3.1), _mp_ndtri),
    _unary("i0", scipy.special.i0, -12, 12, (0.51, 3.3), lambda x: mpmath.besseli(0, x)),
    _unary("i1", scipy.special.i1, -12, 12, (0.51, 3.2), lambda x: mpmath.besseli(1, x)),
    _unary("i0e", scipy.special.i0e, 0.2, 20, (0.51, 3), lambda x: _scaled_bessel(0, x)),
    _unary("i1e", scipy.special.i1e, 0.2, 20, (0.51, 3), lambda x: _scaled_bessel(1, x)),
    *(
        Elementwise(name, reference, ((1, 6), (0.5, 6)), exact, (0.51, 30), whole=0)
        for name, reference, exact in (
            ("igamma", scipy.special.gammainc, lambda a, x: mpmath.gammainc(a, 0, x, True)),
            (
                "igammac",
                scipy.special.gammaincc,
                lambda a, x: mpmath.gammainc(a, x, regularized=True),
            ),
        )
    ),
    _unary("sigmoid", scipy.special.expit, -20, 20, (2.5, 2.5), _mp_sigmoid),
    _unary(
        "softplus",
        lambda x: np.logaddexp(0, x),
        -20,
        20,
        (1.7, 1.7),
        lambda x: mpmath.log1p(mpmath.exp(x)),
    ),
    _unary(
        "silu",
        lambda x: x * scipy.special.expit(x),
        -20,
        20,
        (1.8, 1.8),
        lambda x: x * _mp_sigmoid(x),
    ),
    _unary("gelu", _gelu, -5, 5, (1.9, 2), _mp_gelu),
    _unary("reciprocal", np.reciprocal, 0.3, 3, (0.5, 0.5), lambda x: 1 / x),
    _unary("square", np.square, -2, 2, (0.5, 0.5), lambda x: x * x, "same", NUMBERS),
    Elementwise("abs", np.abs, ((0.1, 2),), dtypes=NUMBERS),
    Elementwise("negative", np.negative, ((-2, 2),), dtypes=NUMBERS),
    Elementwise("positive", lambda x: +x if x.dtype != bool else x, ((-2, 2),), dtypes=ALL),
    _steps("sign", np.sign, NUMBERS),
    _steps("floor", _whole(np.floor), ALL),
    _steps("ceil", _whole(np.ceil), ALL),
    _steps("trunc", _whole(np.trunc), ALL),
    _steps("round", _whole(np.round), ALL),
    _steps("isnan", np.isnan, FLOATS, "bool"),
    _steps("signbit", np.signbit, FLOATS, "bool"),
    _steps("isinf", np.isinf, FLOATS, "bool"),
    _steps("isfinite", np.isfinite, FLOATS, "bool"),
    _steps("logical_not", np.logical_not, ("bool",), "bool"),
    _steps("bitwise_invert", np.invert, ("bool", *INTEGERS)),
    _pair("add", np.add),
    _pair("subtract", np.subtract, dtypes=NUMBERS),
    _pair("multiply", np.multiply),
    _pair("divide", np.divide, low=0.3, high=3, result="floating"),
    _pair("maximum", np.maximum),
    _pair("minimum", np.minimum),
    _pair("mul0", _mul0, dtypes=FLOATS),
    _pair(
        "pow", np.power, low=0.3, high=2, dtypes=NUMBERS, ulp=(0.7, 1.3), exact=lambda x, y: x**y
    ),
    _pair("hypot", np.hypot, low=0.3, dtypes=FLOATS, ulp=(1.3, 1.3), exact=mpmath.hypot),
    _pair("logaddexp", np.logaddexp, low=0.3, dtypes=FLOATS, ulp=(1.5, 1.5), exact=_logaddexp),
    _pair("copysign", np.copysign, low=0.3, dtypes=FLOATS),
    _pair("nextafter", np.nextafter, low=0.3, dtypes=FLOATS, smooth=False),
    _pair("atan2", np.arctan2, low=0.3, dtypes=FLOATS, ulp=(2.1, 2.1), exact=mpmath.atan2),
    Elementwise(
        "floor_divide",
        np.floor_divide,
        ((2.2, 2.8), (1.2, 1.3)),
        dtypes=NUMBERS,
        integer_divisor=True,
    ),
    Elementwise(
        "remainder",
        np.remainder,
        ((2.7, 2.9), (1.2, 1.3)),
        dtypes=NUMBERS,
        integer_divisor=True,
    ),
    Elementwise("fmod", np.fmod, ((2.7, 2.9), (1.2, 1.3)), dtypes=NUMBERS, integer_divisor=True),
    _pair("gcd", np.gcd, dtypes=INTEGERS, smooth=False),
    _pair("lcm", np.lcm, dtypes=INTEGERS, smooth=False),
    *(
        _pair(name, getattr(np, name), result="bool", smooth=False)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    ),
    *(
        _pair(name, getattr(np, name), dtypes=("bool",), result="bool", smooth=False)
        for name in ("logical_and", "logical_or", "logical_xor")
    ),
    *(
        _pair(name, getattr(np, name), dtypes=("bool", *INTEGERS), smooth=False)
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    ),
    _pair("bitwise_left_shift", np.left_shift, dtypes=INTEGERS, smooth=False),
    _pair("bitwise_right_shift", np.right_shift, dtypes=INTEGERS, smooth=False),
    Elementwise("clip", np.clip, ((-2, 2), (-0.9, -0.8), (0.8, 0.9)), dtypes=NUMBERS),
]
BY_NAME = {row.name: row for row in ELEMENTWISE}


def draw(row: Elementwise, operand: int, shape: Any, dtype: str, seed: int = 0) -> Any:
    """Values of the operand's domain; integers are small, and fit shifts and divisors."""
    rng = np.random.default_rng([seed, operand, sum(map(ord, row.name))])
    low, high = row.domains[operand]
    if dtype in FLOATS:
        values = np.asarray(rng.uniform(low, high, shape), dtype=dtype)
        return np.floor(values) if row.whole == operand else values
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), dtype=bool)
    bottom = 0 if dtype in UNSIGNED or "shift" in row.name or row.name == "pow" else -7
    values = np.asarray(rng.integers(bottom, 8, shape), dtype=dtype)
    if row.integer_divisor and operand == 1:
        values = np.where(values == 0, np.asarray(3, dtype), values)
    if row.name == "pow":
        values = np.asarray(values % (8 if operand == 0 else 3), dtype)
    return np.asarray(values, dtype)


def _elementwise_samples() -> list[Sample]:
    shapes: dict[int, dict[str, tuple[Any, ...]]] = {
        1: {"matrix": ((2, 3),), "0-d": ((),), "empty": ((0, 3),)},
        2: {
            "matrix": ((2, 3), (2, 3)),
            "row": ((2, 3), (3,)),
            "outer": ((2, 1, 2), (3, 1)),
            "0-d": ((), ()),
            "scalar": ((), (4,)),
            "empty": ((0, 3), (1, 3)),
        },
        3: {
            "matrix": ((2, 3), (2, 3), (2, 3)),
            "scalars": ((2, 3), (), ()),
            "outer": ((2, 1, 2), (3, 1), (2,)),
            "empty": ((2, 0), (), (1, 1)),
        },
    }
    out = []
    for row in ELEMENTWISE:
        for label, pattern in shapes[row.arity].items():
            dtype = "float64" if "float64" in row.dtypes else row.dtypes[-1]
            args = tuple(draw(row, i, shape, dtype) for i, shape in enumerate(pattern))
            sample = Sample(row.name, label, row.call, row.reference, args, row.smooth)
            out.append(replace(sample, variable=row.variable))
    return out


def _where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b)


def _reductions() -> list[Sample]:
    cases: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
        "all": ((2, 3), {}),
        "0-d": ((), {}),
        "last": ((2, 3, 2), {"axis": -1}),
        "first": ((3, 4), {"axis": 0, "keepdims": True}),
        "outer-two": ((2, 3, 2), {"axis": (0, 2)}),
        "trailing-two": ((2, 3, 2), {"axis": (1, 2), "keepdims": True}),
        "no-axis": ((2, 3), {"axis": ()}),
    }
    out = []
    for name in ("sum", "prod", "max", "min", "mean", "var", "std", "any", "all"):
        boolean = name in ("any", "all")
        for label, (shape, kwargs) in cases.items():
            if name == "std" and label in ("0-d", "no-axis"):
                continue  # one value has no spread: a special point
            x = apart(*shape) + 0.07 if not boolean else rng.uniform(size=shape) < 0.6
            call = partial(getattr(ad, name), **kwargs)
            reference = partial(getattr(np, name), **kwargs)
            out.append(Sample(name, label, call, reference, (np.asarray(x),), not boolean))
        if name in ("sum", "prod", "any", "all"):
            x = np.zeros((0, 3), bool if boolean else float)
            call = partial(getattr(ad, name), axis=0)
            reference = partial(getattr(np, name), axis=0)
            out.append(Sample(name, "empty", call, reference, (x,), not boolean))
    for name in ("var", "std"):
        call = partial(getattr(ad, name), axis=1, correction=1)
        reference = partial(getattr(np, name), axis=1, ddof=1)
        out.append(Sample(name, "corrected", call, reference, (floats(3, 5),)))
    for name in ("argmax", "argmin"):
        for label, kwargs in {"all": {}, "axis": {"axis": 1}}.items():
            call = partial(getattr(ad, name), **kwargs)
            reference = partial(getattr(np, name), **kwargs)
            out.append(Sample(name, label, call, reference, (apart(3, 4),), smooth=False))
    return out


def _structural() -> list[Sample]:
    index = np.array([2, 0, 2])
    x = floats(2, 3, 4)
    rows: list[tuple[str, str, Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = [
        ("reshape", "infer", lambda t: ad.reshape(t, (4, -1)), lambda a: a.reshape(4, -1), (x,)),
        (
            "reshape",
            "0-d",
            lambda t: ad.reshape(t, (1, 1)),
            lambda a: a.reshape(1, 1),
            (floats(),),
        ),
        (
            "reshape",
            "of-transposed",
            lambda t: ad.reshape(ad.permute_dims(t, (2, 0, 1)), (8, 3)),
            lambda a: a.transpose(2, 0, 1).reshape(8, 3),
            (x,),
        ),
        (
            "permute_dims",
            "3-d",
            lambda t: ad.permute_dims(t, (2, 0, 1)),
            lambda a: a.transpose(2, 0, 1),
            (x,),
        ),
        ("matrix_transpose", "3-d", ad.matrix_transpose, lambda a: np.swapaxes(a, -1, -2), (x,)),
        (
            "expand_dims",
            "middle",
            lambda t: ad.expand_dims(t, axis=1),
            lambda a: np.expand_dims(a, 1),
            (x,),
        ),
        (
            "squeeze",
            "one",
            lambda t: ad.squeeze(t, 1),
            lambda a: np.squeeze(a, 1),
            (floats(3, 1, 2),),
        ),
        ("squeeze", "every", ad.squeeze, np.squeeze, (floats(3, 1, 2, 1),)),
        (
            "clip",
            "below",
            lambda t: ad.clip(t, min=0.1),
            lambda a: np.clip(a, 0.1, None),
            (apart(3, 4),),
        ),
        (
            "clip",
            "above",
            lambda t, h: ad.clip(t, max=h),
            lambda a, h: np.clip(a, None, h),
            (apart(3, 4), 0.11 * np.arange(4.0) + 0.013),
        ),
        (
            "broadcast_to",
            "rows",
            lambda t: ad.broadcast_to(t, (2, 4, 3)),
            lambda a: np.broadcast_to(a, (2, 4, 3)),
            (floats(4, 1),),
        ),
        (
            "moveaxis",
            "first-to-last",
            lambda t: ad.moveaxis(t, 0, -1),
            lambda a: np.moveaxis(a, 0, -1),
            (x,),
        ),
        ("flip", "all", ad.flip, np.flip, (x,)),
        ("flip", "axis", lambda t: ad.flip(t, axis=1), lambda a: np.flip(a, 1), (x,)),
        (
            "concat",
            "axis-1",
            lambda *t: ad.concat(t, axis=1),
            lambda *a: np.concatenate(a, axis=1),
            (floats(2, 3), floats(2, 1), floats(2, 0)),
        ),
        (
            "concat",
            "flat",
            lambda *t: ad.concat(t, axis=None),
            lambda *a: np.concatenate(a, axis=None),
            (floats(2, 3), floats(2)),
        ),
        (
            "stack",
            "axis-1",
            lambda *t: ad.stack(t, axis=1),
            lambda *a: np.stack(a, axis=1),
            (floats(2, 3), floats(2, 3)),
        ),
        (
            "take",
            "repeated",
            lambda t, i: ad.take(t, i, axis=1),
            lambda a, i: np.take(a, i, axis=1),
            (x, index),
        ),
        ("astype", "same", lambda t: ad.astype(t, ad.float64), lambda a: a, (floats(3),)),
        ("where", "matrix", ad.where, _where, (x > 0, x, floats(2, 3, 4))),
        ("where", "broadcast", ad.where, _where, (x[0] > 0, floats(), floats(2, 1, 4))),
        ("where", "empty", ad.where, _where, (np.zeros((0,), bool), floats(1), floats())),
    ]
    return [Sample(*row) for row in rows]


def _matmuls() -> list[Sample]:
    shapes = {
        "matrices": ((3, 4), (4, 2)),
        "vectors": ((4,), (4,)),
        "matrix-vector": ((3, 4), (4,)),
        "vector-matrix": ((4,), (4, 2)),
        "stacks": ((2, 1, 3, 4), (5, 4, 2)),
        "stack-matrix": ((2, 3, 4), (4, 2)),
        "stack-vector": ((2, 3, 4), (4,)),
        "empty": ((3, 0), (0, 2)),
    }
    return [
        Sample("matmul", label, ad.matmul, np.matmul, (floats(*a), floats(*b)), same_bits=False)
        for label, (a, b) in shapes.items()
    ]


def _orders() -> list[Sample]:
    x = apart(3, 5)
    rows = []
    for descending in (False, True):
        sign = -1 if descending else 1
        call = partial(ad.sort, axis=-1, descending=descending)
        rows.append(
            Sample("sort", f"{descending}", call, lambda a, s=sign: s * np.sort(s * a), (x,))
        )
        call = partial(ad.argsort, axis=0, descending=descending)
        reference = lambda a, s=sign: np.argsort(s * a, axis=0)  # noqa: E731
        rows.append(Sample("argsort", f"{descending}", call, reference, (x,), smooth=False))
    return rows


SAMPLES = [
    *_elementwise_samples(),
    *_reductions(),
    *_structural(),
    *_matmuls(),
    *_orders(),
    *made_samples.SAMPLES,
    *axis_samples.SAMPLES,
    *linalg_samples.SAMPLES,
]
SMOOTH = [s for s in SAMPLES if s.smooth and all(a.size for a in s.args)]


def public_operations() -> set[str]:
    """Every function of the package that computes tensors from tensors."""
    names = {n for n in vars(ad._core) if not n.startswith("_")}
    functions = {
        n for n in names if callable(getattr(ad, n)) and not isinstance(getattr(ad, n), type)
    }
    dtypes = {n for n in functions if isinstance(getattr(ad, n), ad.DType)}
    of_matrices = {f"linalg.{n}" for n in ad.linalg.__all__} - {"linalg.LinAlgError"}
    return (functions - dtypes - NOT_OPERATIONS) | of_matrices
