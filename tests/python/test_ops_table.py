"""Every operation of the package, driven from the sample table of `op_samples.py`.

Values, dtypes, broadcasting, strides, empty and 0-d inputs, derivatives of orders 1 and 2, batches,
and equal bits now, deferred, compiled and on two threads.
"""

from __future__ import annotations

import contextlib

import mpmath
import numpy as np
import pytest

import adjoint as ad
import op_samples
from op_samples import ELEMENTWISE, SAMPLES, SMOOTH

samples = pytest.mark.parametrize("sample", SAMPLES, ids=str)
smooth_samples = pytest.mark.parametrize("sample", SMOOTH, ids=str)
elementwise = pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def quiet_numpy():
    """The references may divide by zero: the results are compared, not the warnings."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def dirty_memory():
    """Fills memory kept for reuse with a value no test expects, so that an element that was never
    written is seen."""
    sizes = [*range(2, 40, 2), 48, 64, 96, 120, 97 * 101, 97 * 101 // 2, 97 * 101 // 8, 90 * 101]
    held = [ad.asarray(np.full(n, -7.25e77)) for n in sizes for _ in range(3)]
    del held


def tensors(args):
    return tuple(ad.asarray(a, copy=True) for a in args)


def assert_same_bits(actual, expected):
    left, right = np.asarray(actual), np.asarray(expected)
    assert left.dtype == right.dtype and left.shape == right.shape
    if left.tobytes() == right.tobytes():
        return
    differ = (left != right) & ~(np.isnan(left) & np.isnan(right))
    differ |= np.signbit(left) != np.signbit(right) if left.dtype.kind == "f" else False
    where = tuple(int(i[0]) for i in np.nonzero(differ)) if differ.any() else ()
    pytest.fail(
        f"{int(differ.sum())} of {left.size} differ, first at {where}: "
        f"{left[where]!r} and {right[where]!r}"
    )


# ---- the table is complete ----------------------------------------------------------------------


def test_no_operation_escapes():
    assert op_samples.public_operations() == {s.op for s in SAMPLES}


def test_every_number_type_of_an_elementwise_row_is_accepted():
    for row in ELEMENTWISE:
        for dtype in row.dtypes:
            row.call(*(ad.asarray(op_samples.draw(row, i, (2,), dtype)) for i in range(row.arity)))


# ---- values -------------------------------------------------------------------------------------


def exact_values(row, columns):
    """The exact values as longdouble: enough digits beyond float64 to measure a distance in ulp."""
    out = np.empty(len(columns[0]), dtype=np.longdouble)
    with mpmath.workprec(160):
        for i, operands in enumerate(zip(*columns, strict=True)):
            exact = row.exact(*(mpmath.mpf(float(v)) for v in operands))
            high = float(exact)
            out[i] = np.longdouble(high) + np.longdouble(float(exact - mpmath.mpf(high)))
    return out


@pytest.mark.parametrize(
    ("row", "dtype"),
    [(row, t) for row in ELEMENTWISE for t in op_samples.FLOATS if t in row.dtypes],
    ids=lambda value: getattr(value, "name", value),
)
def test_values_in_ulp(row, dtype):
    columns = [op_samples.draw(row, i, (120,), dtype, seed=1) for i in range(row.arity)]
    actual = row.call(*map(ad.asarray, columns)).numpy()
    if row.exact is None:
        np.testing.assert_array_equal(actual, row.reference(*columns))
        return
    exact = exact_values(row, columns)
    unit = np.spacing(np.abs(exact.astype(dtype))).astype(np.longdouble)
    distance = np.abs(actual.astype(np.longdouble) - exact) / unit
    worst = int(np.argmax(distance))
    bound = row.ulp[dtype == "float64"]
    assert distance[worst] <= bound + 1e-3, [column[worst] for column in columns]


@samples
def test_value(sample):
    actual = sample.call(*tensors(sample.args)).numpy()
    expected = np.asarray(sample.reference(*sample.args))
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    tolerance = sample.tolerance
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance / 4)


@elementwise
def test_integers_and_bools(row):
    for dtype in row.dtypes:
        if dtype in op_samples.FLOATS:
            continue
        args = [op_samples.draw(row, i, (50,), dtype, seed=2) for i in range(row.arity)]
        actual = row.call(*map(ad.asarray, args)).numpy()
        if row.result == "floating":
            expected = row.reference(*(a.astype("float64") for a in args))
            np.testing.assert_allclose(actual, expected, rtol=2e-14, err_msg=dtype)
        else:
            expected = row.reference(*args)
            assert actual.dtype == expected.dtype, dtype
            np.testing.assert_array_equal(actual, expected, err_msg=dtype)


def test_integer_results_that_machines_leave_open():
    lowest = np.iinfo("int32").min
    x = ad.asarray(np.array([7, -7, 0, lowest], "int32"))
    zero, minus = ad.asarray(np.int32(0)), ad.asarray(np.int32(-1))
    assert ad.floor_divide(x, zero).numpy().tolist() == [0, 0, 0, 0]
    assert ad.floor_divide(x, minus).numpy().tolist() == [-7, 7, 0, lowest]
    assert ad.remainder(x, minus).numpy().tolist() == [0, 0, 0, 0]
    assert ad.abs(x).numpy().tolist() == [7, 7, 0, lowest]
    shift = ad.asarray(np.array([31, 32, 64, 40], "int32"))
    assert ad.bitwise_left_shift(ad.asarray(np.int32(1)), shift).numpy().tolist() == [
        lowest,
        0,
        0,
        0,
    ]
    assert ad.bitwise_right_shift(x, shift).numpy().tolist() == [0, -1, 0, -1]
    special = ad.tensor([np.nan, np.inf, -np.inf, 3.9, -3.9])
    assert ad.astype(special, ad.int32).numpy().tolist() == [0, 2**31 - 1, lowest, 3, -3]


# ---- dtypes -------------------------------------------------------------------------------------


def promoted(a, b):
    """The rules of the array standard, and beyond them: an integer with a float takes the float,
    int64 with uint64 float64, and bool gives way."""
    if "bool" in (a, b):
        return b if a == "bool" else a
    kinds = {name: np.dtype(name).kind for name in (a, b)}
    if "f" in kinds.values() and set(kinds.values()) != {"f"}:
        return a if kinds[a] == "f" else b
    return np.promote_types(a, b).name


@pytest.mark.parametrize("name", ["add", "maximum", "where", "less", "divide"])
def test_promotion(name):
    for a in op_samples.ALL:
        for b in op_samples.ALL:
            x, y = (ad.asarray(np.array([1, 0, 1]).astype(t)) for t in (a, b))
            if name == "where":
                out = ad.where(ad.tensor([True, False, True]), x, y)
            else:
                out = getattr(ad, name)(x, y)
            expected = promoted(a, b)
            if name == "less":
                expected = "bool"
            elif name == "divide" and np.dtype(expected).kind != "f":
                expected = "float64"
            assert out.dtype.name == expected, (a, b)


def test_python_numbers_are_weak():
    expected = {"bool": "int64", "float32": "float32", "float64": "float64"}
    for dtype in op_samples.ALL:
        x = ad.asarray(np.ones(2, dtype))
        assert (x + 1).dtype.name == expected.get(dtype, dtype)
        assert (1.5 * x).dtype.name == ("float32" if dtype == "float32" else "float64")
        assert ad.maximum(x, True).dtype.name == dtype
        assert (x + np.float64(1)).dtype.name == "float64"


def test_what_has_no_kernel_raises_and_names_the_way_out():
    with pytest.raises(TypeError, match=r"\[subtract\].*bool.*astype"):
        ad.subtract(ad.tensor([True]), ad.tensor([False]))
    with pytest.raises(TypeError, match=r"\[bitwise_and\].*float64"):
        ad.bitwise_and(ad.tensor([1.0]), ad.tensor([1.0]))
    with pytest.raises(TypeError, match=r"\[logical_and\].*compare"):
        ad.logical_and(ad.tensor([1.0]), ad.tensor([1.0]))
    with pytest.raises(ValueError, match=r"\[add\].*\(2, 3\).*\(4,\)"):
        ad.add(ad.zeros((2, 3)), ad.zeros(4))


# ---- layouts ------------------------------------------------------------------------------------


def transposed(a):
    axes = tuple(reversed(range(a.ndim)))
    return ad.permute_dims(ad.asarray(a.T.copy()), axes)


def reversed_(a):
    every = (slice(None, None, -1),) * a.ndim
    return ad.asarray(np.asarray(a[every]).copy())[every]


def sliced(a):
    wide = np.zeros(tuple(2 * n + 1 for n in a.shape), a.dtype)
    odd = (slice(1, None, 2),) * a.ndim
    wide[odd] = a
    return ad.asarray(wide)[odd]


def repeated(a):
    """The first entry of the last axis in place of all, without a copy."""
    if a.ndim == 0 or a.size == 0:
        return ad.asarray(a)
    return ad.broadcast_to(ad.asarray(a[..., :1].copy()), a.shape)


def dense(tensor):
    """The same elements in memory of their own, in order."""
    return ad.asarray(np.array(tensor.numpy(), order="C"), copy=True)


@pytest.mark.parametrize("layout", [transposed, reversed_, sliced], ids=lambda f: f.__name__)
@samples
def test_strides_do_not_matter(sample, layout):
    strided = [layout(a) for a in sample.args]
    for tensor, array in zip(strided, sample.args, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    expected = sample.call(*tensors(sample.args)).numpy()
    if sample.same_bits:
        assert_same_bits(sample.call(*strided), expected)
    else:
        np.testing.assert_allclose(sample.call(*strided).numpy(), expected, rtol=1e-14, atol=1e-15)


@elementwise
def test_repeated_elements(row):
    dtype = row.dtypes[-1]
    args = [op_samples.draw(row, i, (3, 4), dtype) for i in range(row.arity)]
    views = [repeated(a) for a in args]
    expected = row.call(*(dense(v) for v in views)).numpy()
    assert_same_bits(row.call(*views), expected)


@pytest.mark.parametrize("layout", [transposed, reversed_, sliced, repeated])
@elementwise
def test_strides_of_large_inputs(row, layout):
    dtype = row.dtypes[-1]
    args = [op_samples.draw(row, i, (90, 101), dtype) for i in range(row.arity)]
    strided = [layout(a) for a in args]
    copies = [dense(t) for t in strided]
    expected = row.call(*copies).numpy()
    assert_same_bits(row.call(*strided), expected)
    assert_same_bits(row.call(strided[0], *copies[1:]), expected)


# ---- now = deferred = compiled, one thread = two ------------------------------------------------


def now(f, *args):
    with ad.deferral(False):
        return f(*args)


def deferred(f, *args):
    return f(*args)


def compiled(f, *args):
    return ad.compile(f)(*args)


@contextlib.contextmanager
def threads(count):
    before = ad.get_num_threads()
    ad.set_num_threads(count)
    try:
        yield
    finally:
        ad.set_num_threads(before)


# Tuples of the shapes of up to three operands; all are large enough to be deferred.
LARGE_SHAPES = {
    "equal": ((97, 101),) * 3,
    "row": ((97, 101), (101,), (1, 101)),
    "column": ((97, 101), (97, 1), (97, 101)),
    "scalar": ((97, 101), (), ()),
    "outer": ((97, 1), (1, 101), ()),
    "3-d": ((9, 11, 101), (11, 1), (9, 1, 101)),
}


@pytest.mark.parametrize("mode", [deferred, compiled], ids=lambda f: f.__name__)
@elementwise
def test_same_bits_in_every_mode(row, mode):
    for label, shapes in LARGE_SHAPES.items():
        if row.arity == 1 and label not in ("equal", "3-d"):
            continue
        for dtype in {row.dtypes[0], row.dtypes[-1]}:
            args = [op_samples.draw(row, i, shapes[i], dtype) for i in range(row.arity)]
            expected = now(row.call, *tensors(args)).numpy()
            assert_same_bits(mode(row.call, *tensors(args)), expected)


@elementwise
def test_small_and_large_inputs_have_the_same_bits(row):
    for dtype in {row.dtypes[0], row.dtypes[-1]}:
        args = [op_samples.draw(row, i, (97, 101), dtype) for i in range(row.arity)]
        large = row.call(*tensors(args)).numpy()
        for line in (0, 50, 96):
            small = row.call(*tensors([a[line] for a in args]))
            assert_same_bits(small, large[line])


@pytest.mark.parametrize("sample", SMOOTH, ids=str)
def test_compiled_small_samples(sample):
    args = tensors(sample.args)
    expected = sample.call(*args).numpy()
    assert_same_bits(ad.compile(sample.call)(*args), expected)


@elementwise
def test_two_threads(row):
    args = [op_samples.draw(row, i, (256, 600), row.dtypes[-1]) for i in range(row.arity)]
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(np.asarray(row.call(*tensors(args))))
    assert_same_bits(*results)


def softmax(x):
    e = ad.exp(x - ad.stop_gradient(ad.max(x, axis=-1, keepdims=True)))
    return e / ad.sum(e, axis=-1, keepdims=True)


def layernorm(x):
    centred = x - ad.mean(x, axis=-1, keepdims=True)
    return centred / ad.sqrt(ad.mean(ad.square(centred), axis=-1, keepdims=True) + 1e-5)


def logsumexp(x):
    top = ad.stop_gradient(ad.max(x, axis=-1, keepdims=True))
    return ad.log(ad.sum(ad.exp(x - top), axis=-1)) + ad.squeeze(top, -1)


def gelu(x):
    return 0.5 * x * (1.0 + ad.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


# Chains that a group may fuse, with NumPy's formula for each.
def np_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def np_layernorm(x):
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)


def np_logsumexp(x):
    top = x.max(-1, keepdims=True)
    return np.log(np.exp(x - top).sum(-1)) + top[..., 0]


def np_gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


CHAINS = {
    "softmax": (softmax, np_softmax),
    "layernorm": (layernorm, np_layernorm),
    "logsumexp": (logsumexp, np_logsumexp),
    "gelu": (gelu, np_gelu),
    "variance": (lambda x: ad.var(x, axis=-1), lambda x: x.var(-1)),
    "deviation-of-all": (lambda x: ad.std(x), lambda x: x.std()),
    "bias": (
        lambda x: ad.tanh(x + x[..., :1, :]),
        lambda x: np.tanh(x + x[..., :1, :]),
    ),
    "columns": (
        lambda x: ad.sum(ad.exp(x) * 2.0, axis=-2) + 1.0,
        lambda x: (np.exp(x) * 2).sum(-2) + 1,
    ),
    "rows-and-columns": (
        lambda x: (
            ad.sum(ad.sin(x), axis=-1, keepdims=True) * ad.mean(ad.sin(x), axis=-2, keepdims=True)
        ),
        lambda x: np.sin(x).sum(-1, keepdims=True) * np.sin(x).mean(-2, keepdims=True),
    ),
    "two-readers": (
        lambda x: ad.exp(x) * ad.sum(ad.exp(x), axis=-1, keepdims=True) + ad.exp(x),
        lambda x: np.exp(x) * np.exp(x).sum(-1, keepdims=True) + np.exp(x),
    ),
    "compare": (
        lambda x: ad.where(x > 0, x, 0.1 * x) + ad.astype(x > 1, x.dtype),
        lambda x: np.where(x > 0, x, x.dtype.type(0.1) * x) + (x > 1).astype(x.dtype),
    ),
    "transposed": (
        lambda x: ad.exp(x) + ad.matrix_transpose(ad.reshape(x, (*x.shape[:-2], x.shape[-1], -1))),
        lambda x: np.exp(x) + np.swapaxes(x.reshape(*x.shape[:-2], x.shape[-1], -1), -1, -2),
    ),
}
CHAIN_SHAPES = [(33, 300), (2, 40, 128), (3000, 3), (2, 9000), (1, 9001), (9001, 1)]
chains = pytest.mark.parametrize("name", CHAINS)
chain_shapes = pytest.mark.parametrize("shape", CHAIN_SHAPES, ids=str)


def chain_input(shape, dtype):
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", op_samples.FLOATS)
@chain_shapes
@chains
def test_deferred_chains(name, shape, dtype):
    f, reference = CHAINS[name]
    x = chain_input(shape, dtype)
    expected = now(f, ad.asarray(x)).numpy()
    assert_same_bits(deferred(f, ad.asarray(x)), expected)
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(
        expected, reference(x.astype("float64")), rtol=tolerance, atol=tolerance
    )


def weighted_gradient(f, shape):
    """x -> gradient of a weighted sum of f."""

    def loss(x):
        y = f(x)
        weights = ad.reshape(ad.linspace(0.5, 1.5, y.size, dtype=y.dtype), y.shape)
        return ad.sum(y * weights)

    return ad.grad(loss)


@pytest.mark.parametrize("mode", [deferred, compiled], ids=lambda f: f.__name__)
@chain_shapes
@chains
def test_gradients_of_chains_have_the_same_bits(name, shape, mode):
    f = weighted_gradient(CHAINS[name][0], shape)
    x = chain_input(shape, "float64")
    expected = now(f, ad.asarray(x)).numpy()
    assert_same_bits(mode(f, ad.asarray(x)), expected)


@chain_shapes
@chains
def test_compiled_chains(name, shape):
    f = CHAINS[name][0]
    x = chain_input(shape, "float32")
    expected = now(f, ad.asarray(x)).numpy()
    assert_same_bits(compiled(f, ad.asarray(x)), expected)


@chains
def test_chains_on_two_threads(name):
    f = weighted_gradient(CHAINS[name][0], None)
    x = chain_input((300, 400), "float32")
    results = []
    for count in (1, 2):
        with threads(count):
            results.append((f(ad.asarray(x)).numpy(), CHAINS[name][0](ad.asarray(x)).numpy()))
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


# ---- derivatives --------------------------------------------------------------------------------

# Central differences of order 8: from the point, to both sides, at k steps.
STEP = 0.01
FIRST = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
SECOND = (-205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560)


def differences(phi):
    """First and second derivative of a function of one number, at 0."""
    above = [phi(k * STEP) for k in range(1, 5)]
    below = [phi(-k * STEP) for k in range(1, 5)]
    first = sum(c * (a - b) for c, a, b in zip(FIRST, above, below, strict=True)) / STEP
    second = SECOND[0] * phi(0.0) + sum(
        c * (a + b) for c, a, b in zip(SECOND[1:], above, below, strict=True)
    )
    return first, second / STEP**2


class Problem:
    """A sample as a scalar function of its moved arguments, with a direction to move them in."""

    def __init__(self, sample):
        self.sample = sample
        rng = np.random.default_rng(11)
        value = np.asarray(sample.reference(*sample.args))
        self.weights = rng.uniform(0.5, 1.5, value.shape)
        self.directions = [rng.uniform(0.2, 1.0, sample.args[i].shape) for i in sample.moved]
        self.points = tuple(ad.asarray(sample.args[i]) for i in sample.moved)
        self.tangents = tuple(ad.asarray(d) for d in self.directions)

    def arrays(self, t):
        args = list(self.sample.args)
        for i, d in zip(self.sample.moved, self.directions, strict=True):
            args[i] = args[i] + t * d
        return args

    def phi(self, t):
        return float(np.sum(self.weights * self.sample.reference(*self.arrays(t))))

    def outputs(self, *moved):
        args = [ad.asarray(a) for a in self.sample.args]
        for i, x in zip(self.sample.moved, moved, strict=True):
            args[i] = x
        return self.sample.call(*args)

    def loss(self, *moved):
        return ad.sum(self.outputs(*moved) * ad.asarray(self.weights))

    def along(self, gradients):
        total = 0.0
        for g, d in zip(gradients, self.tangents, strict=True):
            total = total + ad.sum(g * d)
        return total

    def slope(self, *moved):
        """Reverse mode: the derivative along the direction."""
        return self.along(ad.grad(self.loss, argnums=tuple(range(len(moved))))(*moved))

    def push(self, *moved):
        """Forward mode: the same."""
        return ad.jvp(self.loss, moved, self.tangents)[1]


def close(actual, expected):
    assert float(actual) == pytest.approx(expected, rel=2e-6, abs=2e-7)


@smooth_samples
def test_first_derivative(sample):
    problem = Problem(sample)
    first, _ = differences(problem.phi)
    close(problem.slope(*problem.points), first)
    close(problem.push(*problem.points), first)


@smooth_samples
def test_second_derivative(sample):
    problem = Problem(sample)
    _, second = differences(problem.phi)
    scale = 1.0 + abs(second)
    every = tuple(range(len(problem.points)))
    nests = {
        "reverse over reverse": problem.along(ad.grad(problem.slope, every)(*problem.points)),
        "reverse over forward": problem.along(ad.grad(problem.push, every)(*problem.points)),
        "forward over reverse": ad.jvp(problem.slope, problem.points, problem.tangents)[1],
        "forward over forward": ad.jvp(problem.push, problem.points, problem.tangents)[1],
    }
    for nest, value in nests.items():
        assert abs(float(value) - second) <= 2e-5 * scale, nest


@smooth_samples
def test_each_gradient_entry_agrees_with_forward_mode(sample):
    problem = Problem(sample)
    out, pullback = ad.vjp(problem.outputs, *problem.points)
    gradients = pullback(ad.asarray(problem.weights))
    assert out.shape == problem.weights.shape
    for k, (point, gradient) in enumerate(zip(problem.points, gradients, strict=True)):
        assert gradient.shape == point.shape and gradient.dtype is point.dtype
        actual = np.asarray(gradient.numpy(), dtype=float)
        for index in list(np.ndindex(point.shape))[:4]:
            unit = np.zeros(point.shape)
            unit[index] = 1.0
            tangents = [ad.zeros_like(p) for p in problem.points]
            tangents[k] = ad.asarray(unit)
            tangent = ad.jvp(problem.outputs, problem.points, tuple(tangents))[1]
            expected = float(np.sum(problem.weights * tangent.numpy()))
            assert actual[index] == pytest.approx(expected, rel=1e-12, abs=1e-13)


@smooth_samples
def test_compiled_gradient(sample):
    problem = Problem(sample)
    every = tuple(range(len(problem.points)))
    gradient = ad.grad(problem.loss, every)
    for actual, expected in zip(
        ad.compile(gradient)(*problem.points), gradient(*problem.points), strict=True
    ):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.smooth], ids=str)
def test_derivatives_of_empty_and_all_inputs_have_the_inputs_shapes(sample):
    problem = Problem(sample)
    every = tuple(range(len(problem.points)))
    for gradient, point in zip(
        ad.grad(problem.loss, every)(*problem.points), problem.points, strict=True
    ):
        assert gradient.shape == point.shape
    value, tangent = ad.jvp(problem.outputs, problem.points, problem.tangents)
    assert tangent.shape == value.shape


# ---- batches ------------------------------------------------------------------------------------


def batched_args(sample):
    """Three versions of every moved argument: the sample's, and shifted by a little."""
    out = []
    for i, a in enumerate(sample.args):
        if i in sample.moved:
            out.append(np.stack([a, a + 0.001, a - 0.002]))
        else:
            out.append(np.stack([a] * 3))
    return out


@pytest.mark.parametrize("axis", [0, -1])
@samples
def test_batch_against_a_loop(sample, axis):
    stacked = batched_args(sample)
    batch = ad.vmap(sample.call, in_axes=axis)(
        *(ad.asarray(np.moveaxis(a, 0, axis)) for a in stacked)
    )
    loop = [sample.call(*(ad.asarray(a[i].copy()) for a in stacked)).numpy() for i in range(3)]
    np.testing.assert_allclose(batch.numpy(), np.stack(loop), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if len(s.args) > 1], ids=str)
def test_batch_of_one_argument_at_a_time(sample):
    stacked = batched_args(sample)
    for k in range(len(stacked)):
        axes = tuple(0 if i == k else None for i in range(len(stacked)))
        args = [ad.asarray(s if i == k else s[0].copy()) for i, s in enumerate(stacked)]
        batch = ad.vmap(sample.call, in_axes=axes)(*args)
        for i in range(3):
            one = [s[i].copy() if j == k else s[0].copy() for j, s in enumerate(stacked)]
            expected = sample.call(*tensors(one)).numpy()
            np.testing.assert_allclose(batch.numpy()[i], expected, rtol=1e-14, atol=1e-15)


@smooth_samples
def test_gradient_of_a_batch_and_batch_of_gradients(sample):
    problem = Problem(sample)
    every = tuple(range(len(problem.points)))
    stacks = [np.stack([sample.args[i], sample.args[i] + 0.001]) for i in sample.moved]
    gradient = ad.grad(problem.loss, every)
    batch = ad.vmap(gradient)(*map(ad.asarray, stacks))
    of_batch = ad.grad(lambda *xs: ad.sum(ad.vmap(problem.loss)(*xs)), every)(
        *map(ad.asarray, stacks)
    )
    for i in range(2):
        loop = gradient(*(ad.asarray(s[i].copy()) for s in stacks))
        for one, together, expected in zip(batch, of_batch, loop, strict=True):
            for actual in (one, together):
                np.testing.assert_allclose(
                    actual.numpy()[i], expected.numpy(), rtol=1e-12, atol=1e-13
                )
