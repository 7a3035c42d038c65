"""Jacobians and Hessians in every mode, and from a pattern of where they are not zero.

Expected values are formulas, or derivatives taken one direction at a time.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse

import adjoint as ad
from adjoint.transforms import jacobian
from adjoint.transforms.coloring import Pattern, colour_columns, colour_either, colour_symmetric

MODES = ("auto", "forward", "reverse")
X = np.array([0.5, -1.25, 2.0, 0.75, -0.5])


def close(actual, expected, rtol=1e-12):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=1e-13)


# ---- Modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_tall_wide_and_square(mode):
    a = np.arange(12.0).reshape(4, 3)
    for matrix in (a, a.T, a[:3]):
        x = X[: matrix.shape[1]]

        def f(v, matrix=matrix):
            return ad.asarray(matrix) @ ad.sin(v)

        close(ad.jacobian(f, mode=mode)(ad.asarray(x)), matrix * np.cos(x))


@pytest.mark.parametrize("mode", MODES)
def test_shapes(mode):
    def f(x):
        return ad.stack([x, x * x, x**3], axis=1)  # (2, 3, 2) from (2, 2)

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    jacobian = ad.jacobian(f, mode=mode)(ad.asarray(x))
    assert jacobian.shape == (2, 3, 2, 2, 2) and jacobian.dtype is ad.float64
    expected = np.zeros((2, 3, 2, 2, 2))
    for i, j in itertools.product(range(2), repeat=2):
        expected[i, :, j, i, j] = 1, 2 * x[i, j], 3 * x[i, j] ** 2
    close(jacobian, expected)


@pytest.mark.parametrize("mode", MODES)
def test_scalars_and_empty_arrays(mode):
    assert ad.jacobian(lambda x: x**3, mode=mode)(2.0).item() == 12.0
    close(ad.jacobian(lambda x: ad.stack([x, x * x]), mode=mode)(3.0), [1.0, 6.0])
    empty = ad.zeros((0,))
    assert ad.jacobian(lambda x: ad.stack([ad.sum(x)] * 2), mode=mode)(empty).shape == (2, 0)
    assert ad.jacobian(lambda x: x[:0], mode=mode)(ad.ones((2,))).shape == (0, 2)


@pytest.mark.parametrize("mode", MODES)
def test_float32(mode):
    x = ad.asarray(np.float32([1, 2]))
    jacobian = ad.jacobian(lambda x: ad.concat([x * x, x]), mode=mode)(x)
    assert jacobian.dtype is ad.float32
    close(jacobian, [[2, 0], [0, 4], [1, 0], [0, 1]])


class Point(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize("mode", MODES)
def test_pytrees(mode):
    def f(p, scale):
        product = p["a"] * p["b"].x * scale
        return [product, {"square": p["b"].y ** 2, "none": None}]

    p = {"a": ad.tensor([1.0, 2.0]), "b": Point(3.0, ad.tensor([4.0]))}
    product, rest = ad.jacobian(f, mode=mode)(p, scale=10.0)
    close(product["a"], [[30.0, 0.0], [0.0, 30.0]])
    close(product["b"].x, [10.0, 20.0])
    assert product["b"].y.shape == (2, 1) and not product["b"].y.numpy().any()
    assert type(rest["square"]["b"]) is Point and rest["none"] is None
    close(rest["square"]["b"].y, [[8.0]])
    close(rest["square"]["a"], [[0.0, 0.0]])


@pytest.mark.parametrize("mode", MODES)
def test_argnums_and_aux(mode):
    def f(a, b, c):
        return ad.stack([a * b, b * c, a * c, a]), {"sum": a + b + c, "note": "text", "n": 3}

    (da, dc), aux = ad.jacobian(f, (0, -1), True, mode=mode)(2.0, 3.0, 5.0)
    close(da, [3, 0, 5, 1])
    close(dc, [0, 3, 2, 0])
    assert aux["sum"].item() == 10.0 and aux["note"] == "text" and aux["n"] == 3
    db, _ = ad.jacobian(f, argnums=1, has_aux=True, mode=mode)(2.0, 3.0, 5.0)
    close(db, [2, 5, 0, 0])
    (only,), _ = ad.jacobian(f, [1], True, mode=mode)(2.0, 3.0, 5.0)
    close(only, [2, 5, 0, 0])


def test_auto_takes_the_mode_with_fewer_passes():
    calls = []

    def f(x, rows):
        calls.append(rows)
        return ad.asarray(np.ones((rows, 3))) @ x

    x = ad.ones((3,))
    derivative = ad.jacobian(f)
    assert derivative(x, 2).shape == (2, 3) and len(calls) == 1  # reverse at once
    assert derivative(x, 5).shape == (5, 3) and len(calls) == 3  # reverse, then forward
    assert derivative(x, 5).shape == (5, 3) and len(calls) == 4  # forward at once


@pytest.mark.parametrize("mode", MODES)
def test_nesting(mode):
    def f(x):
        return ad.stack([x[0] * x[1], x[0] ** 2 * x[1], x[1] ** 3])

    def expected(x):
        a, b = x
        return np.array([[b, a], [2 * a * b, a * a], [0, 3 * b * b]])

    def second(x):
        a, b = x
        return np.array([[[0, 1], [1, 0]], [[2 * b, 2 * a], [2 * a, 0]], [[0, 0], [0, 6 * b]]])

    x, v = np.array([2.0, 3.0]), np.array([1.0, -1.0])
    at = ad.asarray(x)
    derivative = ad.jacobian(f, mode=mode)
    close(derivative(at), expected(x))
    close(ad.compile(derivative)(at), expected(x))
    rows = np.stack([x, 2 * x, -x])
    close(ad.vmap(derivative)(ad.asarray(rows)), [expected(r) for r in rows])
    close(ad.compile(ad.vmap(derivative))(ad.asarray(rows)), [expected(r) for r in rows])
    close(ad.jvp(derivative, (at,), (ad.asarray(v),))[1], second(x) @ v)
    close(
        ad.grad(lambda x: ad.sum(derivative(x) ** 2))(at),
        2 * np.einsum("ij,ijk", expected(x), second(x)),
    )
    for outer in MODES:
        close(ad.jacobian(derivative, mode=outer)(at), second(x))
        close(ad.compile(ad.jacobian(derivative, mode=outer))(at), second(x))
    aux = ad.vmap(ad.jacobian(lambda x: (f(x), x * 2), has_aux=True, mode=mode))(ad.asarray(rows))
    close(aux[1], 2 * rows)


@pytest.mark.parametrize("mode", MODES)
def test_no_perturbation_is_confused(mode):
    def inner(x):
        return ad.sum(ad.jacobian(lambda y: x * y, mode=mode)(ad.ones((2,))))

    close(ad.jacobian(lambda x: x * inner(x), mode=mode)(ad.tensor(3.0)), 2 * 2 * 3.0)


def test_under_a_tape():
    w = ad.tensor([1.0, 2.0], requires_grad=True)
    for mode in MODES:
        with ad.GradientTape() as tape:
            y = ad.sum(ad.jacobian(lambda x: w * x**2, mode=mode)(ad.tensor([3.0, 4.0])))
        close(tape.gradient(y, w), [6.0, 8.0])


def test_it_is_like_the_function():
    class Model:
        def __init__(self):
            self.scale = 2.0

        def value(self, x):
            "Doc."
            return ad.stack([self.scale * x, x])

    for mode in MODES:
        derivative = ad.jacobian(Model().value, mode=mode)
        assert derivative.__name__ == "value" and derivative.__doc__ == "Doc."
        close(derivative(1.0), [2.0, 1.0])


# ---- Hessians ------------------------------------------------------------------------------------


def test_hessian_of_trees():
    def f(p, k):
        return k * p["a"] ** 2 * ad.sum(p["b"]) + ad.sum(p["b"] ** 3), "aux"

    p = {"a": 2.0, "b": ad.tensor([1.0, 3.0])}
    h, aux = ad.hessian(f, has_aux=True)(p, 10.0)
    assert aux == "aux"
    close(h["a"]["a"], 80.0)
    close(h["a"]["b"], [40.0, 40.0])
    close(h["b"]["a"], [40.0, 40.0])
    close(h["b"]["b"], np.diag([6.0, 18.0]))
    (aa, ab), (ba, bb) = ad.hessian(lambda a, b: a * b**2, argnums=(0, 1))(2.0, 3.0)
    assert [t.item() for t in (aa, ab, ba, bb)] == [0.0, 6.0, 6.0, 4.0]


# ---- Patterns ------------------------------------------------------------------------------------


def residuals(pattern, order=2):
    """A function whose Jacobian has exactly this pattern, and the Jacobian by hand."""
    weights = np.random.default_rng(5).uniform(0.5, 2.0, pattern.shape) * pattern

    def f(x):
        return ad.asarray(weights) @ ad.reshape(x, (-1,)) ** order

    def jacobian(x):
        return weights * order * x.reshape(-1) ** (order - 1)

    return f, jacobian


def band(n, lower, upper):
    i, j = np.indices((n, n))
    return (j - i <= upper) & (i - j <= lower)


def arrow(n):
    pattern = np.eye(n, dtype=bool)
    pattern[0] = pattern[:, 0] = True
    return pattern


RNG = np.random.default_rng(17)
PATTERNS = {
    "tridiagonal": band(12, 1, 1),
    "upper band": band(11, 0, 3),
    "blocks": np.kron(np.eye(4), np.ones((3, 2))) > 0,
    "arrow": arrow(9),
    "one row": np.ones((1, 6), bool),
    "one column": np.ones((6, 1), bool),
    "empty rows and columns": np.pad(band(4, 1, 0), ((2, 1), (1, 2))),
    "nothing": np.zeros((3, 4), bool),
    "full": np.ones((4, 5), bool),
    **{f"random {k}": RNG.uniform(size=(14, 11)) < density for k, density in enumerate((0.1, 0.3))},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_gives_the_dense_jacobian(name, mode):
    pattern = PATTERNS[name]
    f, jacobian = residuals(pattern)
    x = RNG.uniform(0.5, 2.0, pattern.shape[1])
    expected, at = jacobian(x), ad.asarray(x)
    close(ad.jacobian(f, mode=mode, sparsity=pattern)(at), expected)
    rows, cols = np.nonzero(pattern)
    shuffled = RNG.permutation(rows.size)
    rows, cols = rows[shuffled], cols[shuffled]
    values = ad.jacobian(f, mode=mode, sparsity=(rows, cols))(at)
    assert values.shape == rows.shape
    close(values, expected[rows, cols])
    for make in (scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.lil_array):
        sparse = ad.jacobian(f, mode=mode, sparsity=make(pattern))(at)
        assert type(sparse) is make and sparse.shape == pattern.shape
        close(sparse.toarray(), expected)


@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (1, 1), (2, 1), (0, 3), (3, 3)])
def test_a_band_takes_as_many_colours_as_it_is_wide(lower, upper):
    rows, cols = np.nonzero(band(40, lower, upper))
    assert colour_columns(rows, cols).count == lower + upper + 1
    assert colour_columns(cols, rows).count == lower + upper + 1


def test_blocks_and_full_rows():
    rows, cols = np.nonzero(PATTERNS["blocks"])
    assert colour_columns(rows, cols).count == 2 and colour_columns(cols, rows).count == 3
    rows, cols = np.nonzero(np.ones((2, 30)))
    assert colour_columns(rows, cols).count == 30 and colour_columns(cols, rows).count == 2
    for pattern in PATTERNS.values():
        rows, cols = np.nonzero(pattern)
        best, forward = colour_either(rows, cols)
        counts = colour_columns(rows, cols).count, colour_columns(cols, rows).count
        assert best.count == min(counts) and forward == (counts[0] <= counts[1])


def test_columns_of_a_colour_do_not_meet():
    for pattern in PATTERNS.values():
        colouring = colour_columns(*np.nonzero(pattern))
        seeds = colouring.seeds(pattern.shape[1])
        assert (pattern @ seeds.T).max(initial=0) <= 1
        assert (seeds.sum(0) == pattern.any(0)).all()


def test_large_bands_are_coloured_in_linear_time():
    n = 100_000
    i = np.arange(n - 1)
    rows, cols = np.concatenate([i, i + 1, i]), np.concatenate([i, i, i + 1])
    assert colour_columns(rows, cols).count == 3
    assert colour_symmetric(rows, cols).count == 3
    # All columns meet in a full row, and in a symmetric matrix that needs no more than two colours.
    full = np.zeros(n, int)
    assert colour_symmetric(full, np.arange(n)).count == 2


@pytest.mark.parametrize("mode", MODES)
def test_arrays_of_more_dimensions(mode):
    pattern = np.kron(np.eye(3), np.ones((2, 2))) > 0
    f, jacobian = residuals(pattern)
    x = RNG.uniform(0.5, 2.0, (2, 3))
    derivative = ad.jacobian(lambda x: ad.reshape(f(x), (3, 2)), mode=mode, sparsity=pattern)
    close(derivative(ad.asarray(x)), jacobian(x).reshape(3, 2, 2, 3))
    low = derivative(ad.asarray(np.float32(x)))
    assert low.shape == (3, 2, 2, 3) and low.dtype is ad.float32  # that of the argument


def test_float32_stays():
    x = ad.asarray(np.float32([1, 2, 3]))
    for mode in MODES:
        for sparsity in (np.eye(3, dtype=bool), (np.arange(3), np.arange(3))):
            assert ad.jacobian(ad.square, mode=mode, sparsity=sparsity)(x).dtype is ad.float32


def test_places_may_repeat():
    rows, cols = [0, 1, 0], [0, 1, 0]
    close(ad.jacobian(ad.square, sparsity=(rows, cols))(ad.tensor([1.0, 3.0])), [2, 6, 2])
    twice = scipy.sparse.coo_array((np.ones(3), (rows, cols)))
    close(ad.jacobian(ad.square, sparsity=twice)(ad.tensor([1.0, 3.0])).toarray(), np.diag([2, 6]))


@pytest.mark.parametrize("mode", MODES)
def test_aux_argnums_and_names_with_a_pattern(mode):
    def f(scale, x, *, shift):
        return scale * x**2 + shift, (x, "note")

    derivative = ad.jacobian(f, 1, True, mode=mode, sparsity=([0, 1], [0, 1]))
    values, (x, note) = derivative(3.0, ad.tensor([1.0, 2.0]), shift=1.0)
    close(values, [6.0, 12.0])
    assert x.tolist() == [1.0, 2.0] and note == "note"


@pytest.mark.parametrize("form", ["dense", "pairs"])
@pytest.mark.parametrize("mode", MODES)
def test_nesting_with_a_pattern(mode, form):
    pattern = band(6, 1, 0)
    f, jacobian = residuals(pattern, order=3)
    places = np.nonzero(pattern)
    chosen = (lambda a: a[(..., *places)]) if form == "pairs" else (lambda a: a)
    derivative = ad.jacobian(f, mode=mode, sparsity=places if form == "pairs" else pattern)
    xs = RNG.uniform(0.5, 2.0, (4, 6))
    expected = np.stack([chosen(jacobian(x)) for x in xs])
    at = ad.asarray(xs)
    for k in range(2):  # the first call must leave nothing of its trace
        close(ad.compile(derivative)(at[k]), expected[k])
        close(ad.vmap(derivative)(at), expected)
        close(ad.compile(ad.vmap(derivative))(at), expected)
    # The entry of column j is 3 w x_j^2.
    second = 2 * jacobian(xs[0]) / xs[0]
    v = RNG.uniform(size=6)
    close(ad.jvp(derivative, (at[0],), (ad.asarray(v),))[1], chosen(second * v))
    close(ad.grad(lambda x: ad.sum(derivative(x)))(at[0]), second.sum(0))


def coupled(pattern):
    """A function whose Hessian has this pattern, and the Hessian by hand."""
    rows, cols = np.nonzero(np.triu(pattern | pattern.T))
    weights = np.random.default_rng(7).uniform(0.5, 2.0, rows.size)

    def f(x):
        return ad.sum(ad.asarray(weights) * x[ad.asarray(rows)] ** 2 * x[ad.asarray(cols)] ** 2)

    def hessian(x):
        h = np.zeros((x.size, x.size))
        for w, i, j in zip(weights, rows, cols, strict=True):
            if i == j:
                h[i, i] += 12 * w * x[i] ** 2
            else:
                h[i, i] += 2 * w * x[j] ** 2
                h[j, j] += 2 * w * x[i] ** 2
                h[i, j] += 4 * w * x[i] * x[j]
                h[j, i] += 4 * w * x[i] * x[j]
        return h

    return f, hessian


def symmetric(n, density):
    half = np.triu(RNG.uniform(size=(n, n)) < density)
    return half | half.T | np.eye(n, dtype=bool)


SYMMETRIC = {
    "diagonal": np.eye(5, dtype=bool),
    "tridiagonal": band(12, 1, 1),
    "band": band(15, 3, 3),
    "arrow": arrow(9),
    "two arrows": np.kron(np.eye(2), arrow(6)) > 0,
    "blocks": np.kron(np.eye(4), np.ones((3, 3))) > 0,
    "full": np.ones((5, 5), bool),
    **{f"random {k}": symmetric(16, density) for k, density in enumerate((0.05, 0.1, 0.2, 0.4))},
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_pattern_gives_the_dense_hessian(name):
    pattern = SYMMETRIC[name]
    f, hessian = coupled(pattern)
    x = RNG.uniform(0.5, 2.0, len(pattern))
    expected, at = hessian(x), ad.asarray(x)
    close(ad.hessian(f)(at), expected)
    close(ad.hessian(f, sparsity=pattern)(at), expected)
    places = np.nonzero(np.tril(pattern))
    close(ad.hessian(f, sparsity=places)(at), expected[places])
    sparse = ad.hessian(f, sparsity=scipy.sparse.csc_matrix(pattern))(at)
    assert type(sparse) is scipy.sparse.csc_matrix
    close(sparse.toarray(), expected)
    close(ad.compile(ad.hessian(f, sparsity=pattern))(at), expected)
    both = ad.vmap(ad.hessian(f, sparsity=places))(ad.stack([at, 2 * at]))
    close(both, [expected[places], 4 * expected[places]])


@pytest.mark.parametrize("name", SYMMETRIC)
def test_no_path_of_four_has_two_colours(name):
    pattern = SYMMETRIC[name]
    found = colour_symmetric(*np.nonzero(pattern)).colours
    linked = pattern & ~np.eye(len(pattern), dtype=bool)
    edges = list(zip(*np.nonzero(linked), strict=True))
    assert all(found[a] != found[b] for a, b in edges)
    for b, c in edges:
        for a, d in itertools.product(np.flatnonzero(linked[b]), np.flatnonzero(linked[c])):
            if a != c and d != b and a != d:
                assert not (found[a] == found[c] and found[b] == found[d])


def test_symmetry_saves_colours():
    rows, cols = np.nonzero(arrow(50))
    assert colour_columns(rows, cols).count == 50
    assert colour_symmetric(rows, cols).count == 2
    for width in (1, 2, 4):
        rows, cols = np.nonzero(band(60, width, width))
        assert colour_symmetric(rows, cols).count <= 2 * width + 1


def test_a_hessian_takes_one_gradient_per_call():
    calls = []

    def f(x):
        calls.append(x)
        return ad.sum(x**4)

    derivative = ad.hessian(f, sparsity=np.eye(7, dtype=bool))
    for _ in range(2):
        close(derivative(ad.asarray(np.full(7, 2.0))), np.diag(np.full(7, 48.0)))
    assert len(calls) == 2


@pytest.fixture
def passes(monkeypatch):
    """The sizes of the batches of directions, as they are run."""
    sizes = []

    def spy(f):
        def mapped(*directions):
            sizes.append(ad.tree.leaves(directions)[0].shape[0])
            return ad.vmap(f)(*directions)

        return mapped

    monkeypatch.setattr(jacobian, "_directions", spy)
    return sizes


def test_a_direction_is_run_per_colour(passes):
    x = ad.asarray(np.linspace(1.0, 2.0, 30))
    for lower, upper in ((1, 1), (0, 2), (4, 3)):
        pattern = band(30, lower, upper)
        for mode in MODES:
            ad.jacobian(residuals(pattern)[0], mode=mode, sparsity=pattern)(x)
        assert passes == [lower + upper + 1] * 3
        passes.clear()
    tall = np.kron(np.ones((5, 1)), np.eye(30)) > 0
    ad.jacobian(residuals(tall)[0], sparsity=tall)(x)
    ad.jacobian(residuals(tall.T)[0], sparsity=tall.T)(ad.ones((150,)))
    ad.hessian(coupled(arrow(30))[0], sparsity=arrow(30))(x)
    assert passes == [1, 1, 2]
    passes.clear()
    ad.jacobian(lambda x: ad.concat([x, x], axis=0))(x)
    assert passes == [30]


def test_hessian_with_a_pattern_aux_and_a_tree():
    def f(k, p):
        return k * ad.sum(p["x"] ** 3), (k, "note")

    derivative = ad.hessian(f, argnums=1, has_aux=True, sparsity=np.eye(2, dtype=bool))
    h, (k, note) = derivative(2.0, {"x": ad.tensor([1.0, 3.0])})
    close(h, np.diag([12.0, 36.0]))
    assert k == 2.0 and note == "note"


@pytest.mark.parametrize("mode", MODES)
def test_constant_functions(mode):
    x = ad.ones((2,))
    for f in (lambda x: 3.0, lambda x: ad.ones((3,))):
        assert not ad.jacobian(f, mode=mode)(x).numpy().any()
    assert not ad.jacobian(lambda x: ad.ones((2,)), mode=mode, sparsity=([0], [1]))(x).item()


@pytest.mark.parametrize("mode", MODES)
def test_empty_derivatives(mode):
    x = ad.zeros((0,))
    for shape in ((0,), (2,)):
        f = ad.square if shape == (0,) else lambda x: ad.zeros((2,)) + ad.sum(x)
        pattern = np.zeros((*shape, 0), bool)
        for given in (pattern, None):
            assert ad.jacobian(f, mode=mode, sparsity=given)(x).shape == (*shape, 0)
        sparse = ad.jacobian(f, mode=mode, sparsity=scipy.sparse.csr_array(pattern))(x)
        assert sparse.shape == (*shape, 0) and sparse.nnz == 0
        assert ad.jacobian(f, mode=mode, sparsity=([], []))(x).shape == (0,)
    none = ad.jacobian(lambda x: x[:0], mode=mode, sparsity=np.zeros((0, 2), bool))
    assert none(ad.ones((2,))).shape == (0, 2)


def test_empty_hessians():
    f, x = lambda x: ad.sum(x * x), ad.zeros((0,))
    assert ad.hessian(f)(x).shape == (0, 0)
    assert ad.hessian(f, sparsity=np.zeros((0, 0), bool))(x).shape == (0, 0)


@pytest.mark.parametrize(
    "transform",
    [
        ad.grad,
        ad.value_and_grad,
        ad.hessian,
        functools.partial(ad.jacobian, mode="reverse"),
        functools.partial(ad.jacobian, mode="forward"),
        ad.jacobian,
    ],
)
@pytest.mark.parametrize("argnums", [(0, 0), (0, -2), [1, 0, -1]])
def test_an_argument_is_named_once(transform, argnums):
    with pytest.raises(ValueError, match=r"argnums names .* twice"):
        transform(lambda a, b: a * b, argnums=argnums)(2.0, 3.0)


def test_patterns_are_read_once():
    pattern = Pattern.read("jacobian", ad.asarray(np.eye(3) > 0))
    assert pattern.shape == (3, 3) and pattern.rows.tolist() == [0, 1, 2]
    assert Pattern.read("jacobian", ([], [])).rows.size == 0
    assert Pattern.read("jacobian", [[True, False], [True, True]]).shape == (2, 2)


# ---- Errors --------------------------------------------------------------------------------------


X3 = ad.ones((3,))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "mode must be one of", lambda: ad.jacobian(ad.square, mode="both")),
        (TypeError, "needs a function", lambda: ad.jacobian(3.0)),
        (TypeError, "needs a function", lambda: ad.jacobian(3.0, sparsity=np.eye(2) > 0)),
        (TypeError, "needs a function", lambda: ad.hessian(3.0, sparsity=np.eye(2) > 0)),
        (TypeError, "int64", lambda: ad.jacobian(ad.square, mode="forward")(3)),
        (TypeError, "no derivative", lambda: ad.jacobian(lambda x: x > 0, mode="forward")(X3)),
        (TypeError, "argument 1", lambda: ad.jacobian(ad.square, argnums=1, mode="forward")(X3)),
        (
            TypeError,
            "must return \\(output, aux\\)",
            lambda: ad.jacobian(ad.square, has_aux=True, mode="forward")(X3),
        ),
        (ValueError, "dtype float64", lambda: ad.jacobian(ad.square, sparsity=np.eye(3))),
        (ValueError, "one length", lambda: ad.jacobian(ad.square, sparsity=([0, 1], [0]))),
        (ValueError, "negative", lambda: ad.jacobian(ad.square, sparsity=([0, -1], [0, 1]))),
        (
            ValueError,
            r"shape \(2, 3\), the matrix of derivatives has shape \(3, 3\)",
            lambda: ad.jacobian(ad.square, sparsity=np.ones((2, 3), bool))(X3),
        ),
        (
            ValueError,
            r"indices up to \(3, 1\)",
            lambda: ad.jacobian(ad.square, sparsity=([3], [1]))(X3),
        ),
        (
            ValueError,
            r"\[hessian\] sparsity has shape \(4, 4\)",
            lambda: ad.hessian(lambda x: ad.sum(x**2), sparsity=np.eye(4) > 0)(X3),
        ),
        (
            TypeError,
            "there are 2",
            lambda: ad.jacobian(lambda a, b: a * b, (0, 1), sparsity=np.eye(3) > 0)(X3, X3),
        ),
        (
            TypeError,
            "returned 2",
            lambda: ad.jacobian(lambda x: (x, x), sparsity=np.eye(3) > 0)(X3),
        ),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_a_sparse_matrix_is_no_tensor():
    derivative = ad.jacobian(ad.square, sparsity=scipy.sparse.eye_array(3, format="csr"))
    with pytest.raises(ad.TracedValueError):
        ad.grad(lambda x: ad.sum(ad.asarray(derivative(x).data)))(X3)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("n", [2, 3])
def test_leaves_see_no_more_of_a_jacobian_than_of_a_gradient(n, mode):
    w = ad.tensor(3.0, requires_grad=True)
    x = ad.ones(n)
    found = ad.jacobian(lambda x: w * ad.concat([x, x])[:3] ** 2, mode=mode)(x)
    assert not found.requires_grad
    with ad.GradientTape() as tape:
        y = ad.sum(ad.jacobian(lambda x: w * ad.concat([x, x])[:3] ** 2, mode=mode)(x))
    assert tape.gradient(y, w).item() == 6.0
