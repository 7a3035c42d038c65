"""NumPy's functions on tensors: NumPy's own value on arrays is what each must give."""

import operator
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import scipy.special

import adjoint as ad

RNG = np.random.default_rng(0)
A, B, C = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4)), RNG.standard_normal((2, 3, 4))
S, V = RNG.standard_normal((3, 3)), np.arange(5.0) + 1
WHOLE, MASK = np.arange(12).reshape(3, 4) + 1, A > 0
INDICES, HOLED = np.array([2, 0, 1]), np.where(A > 1, np.nan, A)

UFUNCS = sorted({u for u in vars(np).values() if isinstance(u, np.ufunc)}, key=lambda u: u.__name__)
# Of integers and bools these follow the library's rules for dtypes, not NumPy's.
OWN_DTYPE = {"reciprocal"}


def tensors(x):
    """The same nest with tensors in place of arrays."""
    if isinstance(x, np.ndarray):
        return ad.asarray(x)
    return type(x)(map(tensors, x)) if isinstance(x, (list, tuple)) else x


def check(got, want, dtype=True):
    if isinstance(want, (list, tuple)):
        assert isinstance(got, (list, tuple)) and len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            check(one, other, dtype)
        return
    if isinstance(want, (bool, int, str)):
        assert got == want
        return
    assert type(got) is ad.Tensor
    assert got.shape == np.shape(want)
    assert not dtype or got.dtype == np.asarray(want).dtype
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
@pytest.mark.parametrize(
    "operands", [(A, B), (np.abs(A) + 0.5, B), (WHOLE, 0 * WHOLE + 2), (S, S), (MASK, MASK)]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ufuncs(ufunc, operands):
    operands = operands[: ufunc.nin]
    try:
        want = ufunc(*operands)
    except (TypeError, ValueError):
        pytest.skip("NumPy has none of these operands")
    first = want if ufunc.nout == 1 else want[0]
    if first.dtype.name in ("float16", "int8"):
        pytest.skip("of bools NumPy makes the narrowest numbers")
    if ufunc.__name__ == "vecdot" and operands[0].dtype == bool:
        pytest.skip("a sum of bools is a count here, and a bool in NumPy's")
    given = [tensors(x) for x in operands]
    mixed = [given, [operands[0], *given[1:]], [given[0], *operands[1:]]][
        : 3 if ufunc.nin > 1 else 1
    ]
    for args in mixed:
        try:
            got = ufunc(*args)
        except TypeError as error:  # no such function, or none of these dtypes
            assert "no such function" in str(error) or "given;" in str(error)
            continue
        if ufunc.__name__ == "reciprocal" and operands[0].dtype.kind in "ib":
            want = 1.0 / operands[0]
        check(got, want, dtype=ufunc.__name__ not in OWN_DTYPE)


FUNCTIONS = [
    ("all", (MASK,), {"axis": 0}),
    ("allclose", (A, B), {}),
    ("amax", (A,), {}),
    ("any", (MASK,), {"axis": 1, "keepdims": True}),
    ("argmax", (A, 1), {}),
    ("argmin", (A,), {"axis": 0}),
    ("argsort", (A, 0), {}),
    ("argsort", (A,), {"kind": "stable"}),
    ("around", (A,), {}),
    ("around", (A, 2), {}),
    ("round", (A,), {"decimals": -1}),
    ("gradient", (A, 0.5), {"axis": 1}),
    ("insert", (A, 1, 0.5), {"axis": 0}),
    ("delete", (A, slice(None, None, 2)), {"axis": 1}),
    ("isin", (A, [1.0, 2.0]), {}),
    ("nanmedian", (A,), {"axis": 1}),
    ("digitize", (A, [-1.0, 0.0, 1.0]), {}),
    ("broadcast_arrays", (A, V[:4]), {}),
    ("broadcast_to", (V, (2, 5)), {}),
    ("clip", (A, -0.5, 0.5), {}),
    ("clip", (A,), {"a_min": -0.5, "a_max": 0.5}),
    ("concatenate", ([A, B],), {}),
    ("concatenate", ([A, B], 1), {}),
    ("concatenate", ((A, B),), {"axis": None}),
    ("copy", (A,), {}),
    ("corrcoef", (A,), {}),
    ("count_nonzero", (MASK, 1), {}),
    ("cov", (A,), {"ddof": 0}),
    ("cross", (A[:, :3], B[:, :3]), {}),
    ("cumprod", (A,), {}),
    ("cumsum", (A,), {}),
    ("cumsum", (A, 0), {}),
    ("diag", (S, 1), {}),
    ("diagonal", (C, 0, 1, 2), {}),
    ("diff", (A, 2), {}),
    ("diff", (A,), {"axis": 0}),
    ("dot", (A, B.T), {}),
    ("dot", (V,), {"b": V}),
    ("dstack", ([V, V],), {}),
    ("einsum", ("ij,kj->ik", A, B), {}),
    ("einsum", ("ij,kj,kl", A, B, B), {"optimize": True}),
    ("expand_dims", (A, 0), {}),
    ("flip", (A,), {}),
    ("fliplr", (A,), {}),
    ("full_like", (A, 3.0), {"dtype": np.float32}),
    ("hstack", ([A, B],), {}),
    ("inner", (A, B), {}),
    ("isclose", (A, B, 1e-3), {}),
    ("kron", (A, B), {}),
    ("max", (), {"a": A, "axis": (0, 1), "keepdims": True}),
    ("mean", (A, -1), {}),
    ("median", (A, 1), {}),
    ("meshgrid", (V, V), {"indexing": "ij"}),
    ("meshgrid", (V, V[:3]), {}),
    ("min", (A, 0), {}),
    ("moveaxis", (C, [0, 1], [1, 0]), {}),
    ("nan_to_num", (HOLED,), {"nan": 5.0}),
    ("nanmax", (HOLED,), {}),
    ("nanmean", (HOLED,), {"axis": 0}),
    ("ndim", (A,), {}),
    ("nonzero", (MASK,), {}),
    ("ones_like", (A, int), {}),
    ("outer", (V, V), {}),
    ("prod", (A, 0), {}),
    ("quantile", (A, [0.3, 0.5], 0), {}),
    ("quantile", (A, 0.3), {"method": "linear"}),
    ("ravel", (A, "C"), {}),
    ("repeat", (A, 2), {}),
    ("repeat", (V, [1, 2, 1, 0, 3]), {}),
    ("reshape", (A, (4, 3)), {}),
    ("reshape", (A, -1), {}),
    ("roll", (A, (1, 2), (0, 1)), {}),
    ("searchsorted", (V, A, "right"), {}),
    ("shape", (A,), {}),
    ("size", (A,), {}),
    ("size", (A, 0), {}),
    ("sort", (A, 0), {}),
    ("sort", (A,), {"kind": "mergesort"}),
    ("squeeze", (A[None],), {}),
    ("squeeze", (A[None], 0), {}),
    ("stack", ([A, B], -1), {}),
    ("std", (A,), {"ddof": 1}),
    ("sum", (A,), {}),
    ("sum", (A, (0, 1)), {}),
    ("sum", (), {"a": A, "axis": 1, "keepdims": True, "out": None}),
    ("swapaxes", (C, 0, 1), {}),
    ("take", (A, INDICES), {}),
    ("take", (A, INDICES, 1), {}),
    ("take_along_axis", (A, np.argsort(A, 1), 1), {}),
    ("tensordot", (A, B), {"axes": ([0], [0])}),
    ("tile", (A, (2, 1)), {}),
    ("trace", (S, 1), {}),
    ("transpose", (C,), {}),
    ("transpose", (C, (1, 0, 2)), {}),
    ("tril", (S, 1), {}),
    ("var", (A, 0), {"ddof": 1}),
    ("vstack", ([A, B],), {}),
    ("where", (MASK,), {}),
    ("where", (MASK, A, B), {}),
    ("where", (MASK, A, 0.0), {}),
    ("zeros_like", (A,), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), FUNCTIONS)
def test_functions(name, args, options):
    want = getattr(np, name)(*args, **options)
    got = getattr(np, name)(*tensors(args), **{k: tensors(v) for k, v in options.items()})
    check(got, want)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.around(t, out=np.zeros(2)),
        lambda t: np.cross(t, t, axisa=0),
        lambda t: np.sum(t, where=np.ones(3, bool)),
        lambda t: np.reshape(t, (3, 1), order="F"),
        lambda t: np.concatenate([t, t], dtype=np.float32),
        lambda t: np.fft.fft(t),
        lambda t: np.bincount(t),
        lambda t: scipy.special.jv(0, t),
        lambda t: np.frompyfunc(lambda x: x, 1, 1)(t),
        lambda t: np.add.at(t, [0], 1.0),
        lambda t: np.add.reduceat(t, [0, 1]),
        lambda t: np.subtract.reduce(t),
        lambda t: np.add.reduce(t, where=np.ones(3, bool)),
        lambda t: np.add(t, t, where=np.ones(3, bool)),
        lambda t: np.add(t, t, casting="no"),
        lambda t: np.add(t, t, dtype=int),
        lambda t: np.less(t, t, dtype=float),
        lambda t: np.add(t, t, order="F"),
        lambda t: np.add(t, 1.0, out=np.zeros(3)),
        lambda t: np.sum(t, out=np.zeros(())),
    ],
)
def test_refusals(call):
    t = ad.tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"^\[.*\] "):
        call(t)
    assert t.tolist() == [1.0, 2.0, 3.0]


def test_an_array_is_not_written_to():
    array, t = np.ones(3), ad.tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="Write a = a \\+ t"):
        array += t
    assert array.tolist() == [1.0, 1.0, 1.0]


def test_out_is_given_the_result():
    t, alias = ad.tensor([1.0, 2.0, 3.0]), None
    alias = t
    assert np.multiply(t, 2, out=t) is t
    assert alias.tolist() == [2.0, 4.0, 6.0]
    np.add(t, 1.0, out=t, where=np.array([True, False, True]))
    assert alias.tolist() == [3.0, 4.0, 7.0]
    total = ad.tensor(0.0)
    assert np.sum(t, out=total) is total and total.item() == 14.0
    with pytest.raises(ValueError, match="keeps its shape"):
        np.add(t, np.ones((2, 3)), out=t)
    with pytest.raises(TypeError, match="keeps its dtype"):
        np.less(t, 1.0, out=t)


def test_dtype_is_of_the_operands():
    t = ad.tensor([0.1, 1.7])
    got = np.add(t, np.array([0.2, 2.6]), dtype=np.float32)
    want = np.add(t.numpy(), np.array([0.2, 2.6]), dtype=np.float32)
    assert got.dtype == ad.float32 and got.tolist() == want.tolist()
    assert np.add(t, t, dtype=int, casting="unsafe").tolist() == [0, 2]
    assert ad.grad(lambda x: np.sum(np.multiply(x, x, dtype=np.float32)))(t).dtype == ad.float64


def test_ufunc_methods():
    t = ad.asarray(A)
    check(np.add.reduce(t), np.add.reduce(A))
    check(
        np.multiply.reduce(t, axis=1, keepdims=True), np.multiply.reduce(A, axis=1, keepdims=True)
    )
    check(
        np.maximum.reduce(t, axis=None, initial=0.5), np.maximum.reduce(A, axis=None, initial=0.5)
    )
    check(np.add.reduce(t, 1, initial=4), np.add.reduce(A, 1, initial=4))
    check(np.logical_or.reduce(t > 1), np.logical_or.reduce(A > 1))
    check(np.add.accumulate(t), np.add.accumulate(A))
    check(np.multiply.accumulate(t, axis=1), np.multiply.accumulate(A, axis=1))
    for ufunc in (np.maximum, np.minimum, np.logaddexp):
        check(ufunc.accumulate(t), ufunc.accumulate(A))
        check(ufunc.accumulate(t, axis=1), ufunc.accumulate(A, axis=1))
    check(np.subtract.outer(t, V), np.subtract.outer(A, V))
    check(np.power.outer(V, ad.asarray(INDICES)), np.power.outer(V, INDICES))


BINARY = "add sub mul truediv floordiv mod pow lt le eq ne gt ge".split()


@pytest.mark.parametrize("name", BINARY)
def test_operators_in_both_orders(name):
    op, t = getattr(operator, name), ad.asarray(V)
    x = V[::-1].copy()
    check(op(x, t), op(x, V))
    check(op(t, x), op(V, x))
    check(op(np.float64(3), t), op(np.float64(3), V))
    check(op(np.float32(3), t), op(np.float64(3), V))


def test_other_operators():
    t = ad.asarray(WHOLE)
    check(WHOLE @ tensors(WHOLE.T), WHOLE @ WHOLE.T)
    check(divmod(WHOLE + 5, t), divmod(WHOLE + 5, WHOLE))
    for op in (operator.and_, operator.or_, operator.xor, operator.lshift):
        check(op(WHOLE, t), op(WHOLE, WHOLE))


def test_derivatives_pass():
    point = np.array([0.3, 1.2, 0.7])
    t = ad.tensor(point)

    def f(x):
        both = np.concatenate([np.sin(x) * point, np.where(x > 0.5, np.exp(x), point)])
        return np.sum(both) + point @ x + np.add.reduce(np.power(x, 3))

    want = np.cos(point) * point + np.where(point > 0.5, np.exp(point), 0) + point + 3 * point**2
    np.testing.assert_allclose(ad.grad(f)(t).numpy(), want, rtol=1e-13)
    np.testing.assert_allclose(ad.jvp(f, (t,), (t,))[1].item(), want @ point, rtol=1e-13)
    np.testing.assert_allclose(ad.grad(ad.compile(f))(t).numpy(), want, rtol=1e-13)
    rows = ad.vmap(ad.grad(f))(ad.tensor([point, point]))
    np.testing.assert_allclose(rows.numpy(), [want, want], rtol=1e-13)
    leaf = ad.tensor(point, requires_grad=True)
    f(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), want, rtol=1e-13)
    second = -np.sin(point) * point + np.where(point > 0.5, np.exp(point), 0) + 6 * point
    np.testing.assert_allclose(ad.hessian(f)(t).numpy(), np.diag(second), rtol=1e-13, atol=1e-13)


def test_nothing_leaves_a_transform():
    for call in (np.array_repr, np.array2string, np.asarray):
        with pytest.raises(ad.TracedValueError):
            ad.grad(lambda x, call=call: (call(x), np.sum(x))[1])(ad.ones(3))
    t = ad.asarray(V)
    assert np.array_repr(t) == np.array_repr(V)
    assert np.array2string(t) == np.array2string(V)


def test_creation_like_a_tensor():
    t = ad.ones(2)
    check(np.ones(3, like=t), np.ones(3))
    check(np.eye(2, like=t), np.eye(2))
    check(np.arange(1, 3, like=t), np.arange(1, 3))
    check(np.full((2,), 7, like=t), np.full((2,), 7))
    check(np.asarray([1.0, 2.0], like=t), np.asarray([1.0, 2.0]))
    check(np.zeros((2, 2), dtype=np.int8, like=t), np.zeros((2, 2), np.int8))


def test_functions_of_scipy():
    check(scipy.special.erf(ad.asarray(V)), scipy.special.erf(V))
    check(scipy.special.expit(ad.asarray(V)), scipy.special.expit(V))
    check(scipy.special.xlogy(V, ad.asarray(V)), scipy.special.xlogy(V, V))


def test_others_with_a_say():
    class Loud:
        def __array_ufunc__(self, *args, **options):
            return "ufunc"

        def __array_function__(self, *args):
            return "function"

    assert np.add(ad.ones(2), Loud()) == "ufunc"
    assert np.stack([ad.ones(2), Loud()]) == "function"

    class Mine(ad.Tensor):
        pass

    assert type(np.sin(Mine([1.0]))) is ad.Tensor
    assert type(np.stack([Mine([1.0]), ad.ones(1)])) is ad.Tensor


def test_numpy_is_not_imported_for_it():
    code = "import adjoint, sys; adjoint.ones(2) + 1; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["bool", "int8", "int64", "uint16", "float32", "float64"])
def test_dtypes_answer_as_numpys(name):
    ours, theirs = getattr(ad, name), np.dtype(name)
    for attribute in ("kind", "itemsize", "name", "type"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert np.dtype(ours) == theirs == ours == theirs.type and not ours != theirs
    assert hash(ours) == hash(name) and {name: 1}[ours] == 1
    assert np.zeros(1, ours).dtype == theirs
    assert np.issubdtype(ours, np.floating) == np.issubdtype(theirs, np.floating)
    assert np.result_type(ours, np.int8) == np.result_type(theirs, np.int8)
    assert ours != "complex128" and ours != np.dtype("complex128") and ours != 3


def test_memory():
    a = np.arange(6.0)
    shared, own = ad.asarray(a, copy=False), ad.asarray(a)
    for ask in (np.shares_memory, np.may_share_memory):
        assert ask(shared, a) is True and ask(a, shared[2:]) is True
        assert ask(own, a) is False and ask(shared[:2], shared[2:]) is False
        assert ask(shared, a, max_work=1) is True


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "float64"])
def test_dtype_attributes(dtype):
    for name in ("name", "kind", "char", "num", "itemsize", "type"):
        assert getattr(ad.DType(dtype), name) == getattr(np.dtype(dtype), name)


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "bsr_array", "dia_array"])
def test_sparse_matrices(kind):
    m = getattr(scipy.sparse, kind)(S)
    for vector in (V[:3], B.T[:3]):
        np.testing.assert_allclose(m @ ad.asarray(vector), S @ vector, rtol=1e-13)
    np.testing.assert_allclose(ad.asarray(A[:, :3]) @ m, A[:, :3] @ S, rtol=1e-13)


MIXED = np.array([[3.0, 1.0, np.nan], [np.nan, 1.0, -0.0]])


@pytest.mark.parametrize("equal_nan", [True, False])
@pytest.mark.parametrize("more", [(), ("index",), ("inverse", "counts"), ("index", "counts")])
def test_unique(more, equal_nan):
    options = {f"return_{name}": True for name in more} | {"equal_nan": equal_nan}
    want, got = (np.unique(x, **options) for x in (MIXED, ad.tensor(MIXED)))
    for a, b in zip(*((x if more else (x,)) for x in (want, got)), strict=True):
        assert isinstance(b, ad.Tensor)
        np.testing.assert_array_equal(b.numpy(), a, strict=True)
    with pytest.raises(TypeError, match=r"\[numpy.unique\] axis="):
        np.unique(ad.tensor(MIXED), axis=0)


FORMS = {
    "sort": lambda x: np.sort(x, axis=None),
    "sort last": np.sort,
    "sort first": lambda x: np.sort(x, 0),
    "argsort": lambda x: np.argsort(x, axis=None, kind="stable"),
    "expand_dims": lambda x: np.expand_dims(x, (0, -1)),
    "nan_to_num": lambda x: np.nan_to_num(x, copy=True),
    "pad": lambda x: np.pad(x, 1, constant_values=7.0),
    "pad apart": lambda x: np.pad(x, [(1, 0), (0, 2)]),
    "gammainc": lambda x: scipy.special.gammainc(2.0, x),
    "gammaincc": lambda x: scipy.special.gammaincc(2.0, x),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_numpy(form):
    want, got = (FORMS[form](x) for x in (MIXED, ad.tensor(MIXED)))
    assert isinstance(got, ad.Tensor)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-13, strict=True)


def test_modf_and_size():
    x = np.array([1.5, -2.25, np.inf, -np.inf, -0.0, np.nan, 3.0])
    for want, got in zip(np.modf(x), np.modf(ad.tensor(x)), strict=True):
        np.testing.assert_array_equal(got.numpy(), want)
        np.testing.assert_array_equal(np.signbit(got.numpy()), np.signbit(want))
    assert ad.grad(lambda x: ad.sum(np.modf(x)[0] ** 2))(ad.tensor([1.5, -2.25])).tolist() == [
        1,
        -0.5,
    ]
    assert np.size(ad.tensor(MIXED), axis=(0, 1)) == 6 and np.size(ad.tensor(MIXED), 1) == 3
    with pytest.raises(TypeError, match="end_values= is not supported"):
        np.pad(ad.tensor(MIXED), 1, end_values=3)
    with pytest.raises(ValueError, match="names an axis twice"):
        np.expand_dims(ad.tensor(MIXED), (0, 0))
