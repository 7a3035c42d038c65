"""Linear algebra beyond its samples: exact values, special matrices, errors, derivatives where
factors have none, and a Gaussian process.

References are mpmath in high precision, exact fractions, NumPy, formulas and finite differences.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from fractions import Fraction
from itertools import combinations, permutations

import mpmath
import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(17)
DTYPES = ("float32", "float64")
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def random(*shape, dtype="float64"):
    return rng.normal(size=shape).astype(dtype)


def definite(n, *stack, dtype="float64"):
    x = random(*stack, n, n)
    return (x @ x.mT / n + np.eye(n)).astype(dtype)


def exactly(x):
    return mpmath.matrix(x.astype("float64").tolist())


def as_array(x):
    return np.array(x.tolist(), dtype="float64")


def relative(actual, expected):
    actual = np.asarray(actual, dtype="float64")
    assert actual.shape == expected.shape
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


# ---- values in high precision -------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("power", [0, 4])
def test_values_to_the_precision_that_the_condition_allows(dtype, power):
    """Singular values from 1 down to 10**-power."""
    n, eps = 8, float(np.finfo(dtype).eps)
    u, v = np.linalg.qr(random(n, n))[0], np.linalg.qr(random(n, n))[0]
    a = ((u * np.logspace(0, -power, n)) @ v).astype(dtype)
    b = random(n, dtype=dtype)
    bound = 20 * n * eps * 10.0**power
    with mpmath.workdps(40):
        exact = exactly(a)
        inverse = as_array(exact**-1)
        solution = as_array(mpmath.lu_solve(exact, exactly(b[:, None])))[:, 0]
        determinant = float(mpmath.det(exact))
        s = np.array(mpmath.svd_r(exact, compute_uv=False).tolist(), dtype="float64")[:, 0]
        exponential = as_array(mpmath.expm(exact))
    assert ad.linalg.inv(a).dtype.name == dtype
    assert relative(ad.linalg.inv(a), inverse) < bound
    assert relative(ad.linalg.pinv(a, rtol=1e-30), inverse) < bound
    assert relative(ad.linalg.solve(a, b), solution) < bound
    assert relative(ad.linalg.lstsq(a, b).solution, solution) < bound
    assert float(ad.linalg.det(a)) == pytest.approx(determinant, rel=bound)
    sign, logarithm = ad.linalg.slogdet(a)
    assert float(sign) == np.sign(determinant)
    assert float(logarithm) == pytest.approx(np.log(abs(determinant)), abs=bound)
    assert np.abs(ad.linalg.svdvals(a).numpy() - s).max() < 20 * eps
    assert relative(ad.linalg.expm(a), exponential) < 20 * eps


@dtypes
def test_factors_multiply_to_the_matrix(dtype):
    eps = float(np.finfo(dtype).eps)
    for m, n in ((7, 7), (9, 4), (4, 9)):
        a = random(2, m, n, dtype=dtype)
        k = min(m, n)
        for mode in ("reduced", "complete"):
            q, r = (t.numpy() for t in ad.linalg.qr(a, mode=mode))
            assert relative(q @ r, a) < 20 * eps
            assert np.abs(q.mT @ q - np.eye(q.shape[-1])).max() < 20 * eps
            assert not np.tril(r, -1).any()
        for full in (False, True):
            u, s, vh = (t.numpy() for t in ad.linalg.svd(a, full_matrices=full))
            assert relative(u[..., :k] * s[..., None, :] @ vh[..., :k, :], a) < 20 * eps
            for orthonormal in (u, vh.mT):
                unit = np.eye(orthonormal.shape[-1])
                assert np.abs(orthonormal.mT @ orthonormal - unit).max() < 20 * eps
            assert (np.diff(s) <= 0).all()
    p = definite(6, 3, dtype=dtype)
    lower = ad.linalg.cholesky(p).numpy()
    assert relative(lower @ lower.mT, p) < 20 * eps
    assert not np.triu(lower, 1).any()
    w, v = (t.numpy() for t in ad.linalg.eigh(p))
    assert relative(v * w[..., None, :] @ v.mT, p) < 40 * eps


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_norms_neither_overflow_nor_vanish(scale):
    x = np.array([[3.0, 4.0], [0.0, 12.0]])
    assert float(ad.linalg.matrix_norm(x * scale)) == pytest.approx(13 * scale, rel=1e-15)
    assert float(ad.linalg.vector_norm(x * scale, ord=4)) == pytest.approx(
        (81 + 256 + 20736) ** 0.25 * scale, rel=1e-14
    )
    gradient = ad.grad(lambda t: ad.linalg.vector_norm(t))(ad.asarray(x * scale))
    np.testing.assert_allclose(gradient.numpy(), x / 13, rtol=1e-15)


def test_large_exponentials():
    """Where squaring is needed: against the eigenvalues of a symmetric matrix, in 40 digits."""
    a = definite(5) * 20
    with mpmath.workdps(60):
        exact = as_array(mpmath.expm(exactly(a)))
    norm = np.linalg.norm(a, 2)
    assert relative(ad.linalg.expm(a), exact) < 5 * norm * np.finfo(float).eps
    np.testing.assert_array_equal(ad.linalg.expm(np.zeros((2, 2))).numpy(), np.eye(2))


# ---- shapes and dtypes --------------------------------------------------------------------------

EMPTY = {
    "cholesky": ((0, 0), (0, 2, 2)),
    "qr": ((0, 0), (3, 0), (0, 3), (0, 2, 2)),
    "eigh": ((0, 0), (0, 2, 2)),
    "eigvalsh": ((0, 0), (0, 2, 2), (2, 0, 0)),
    "svd": ((0, 0), (3, 0), (0, 3), (0, 2, 2)),
    "svdvals": ((0, 0), (3, 0), (0, 2, 2)),
    "inv": ((0, 0), (0, 2, 2)),
    "pinv": ((3, 0), (0, 3), (0, 2, 2)),
    "det": ((0, 0), (2, 0, 0), (0, 2, 2)),
    "slogdet": ((0, 0), (2, 0, 0), (0, 2, 2)),
    "matrix_rank": ((0, 2, 2),),
    "matrix_norm": ((0, 0), (0, 3), (0, 2, 2)),
    "vector_norm": ((0,), (2, 0)),
}


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, all_ in EMPTY.items() for s in all_])
def test_empty_matrices_and_stacks(name, shape):
    x = np.zeros(shape)
    given, expected = getattr(ad.linalg, name)(x), getattr(np.linalg, name)(x)
    if not isinstance(expected, tuple):
        given, expected = (given,), (expected,)
    for ours, theirs in zip(given, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(np.abs(ours.numpy()), np.abs(theirs))
    if name != "matrix_rank":
        f = getattr(ad.linalg, name)
        total = ad.grad(lambda t: sum(ad.sum(part) for part in ad.tree.leaves(f(t))))
        assert total(ad.asarray(x)).shape == shape


@pytest.mark.parametrize("name", ["solve", "lstsq"])
def test_empty_systems(name):
    f = getattr(ad.linalg, name)
    first = (lambda r: r) if name == "solve" else (lambda r: r.solution)
    for a, b, expected in (
        ((0, 0), (0,), (0,)),
        ((0, 0), (0, 3), (0, 3)),
        ((2, 2), (2, 0), (2, 0)),
        ((0, 2, 2), (2, 3), (0, 2, 3)),
        ((0, 2, 2), (2,), (0, 2, 1)),
    ):
        x = first(f(np.broadcast_to(np.eye(a[-1]), a), np.ones(b)))
        assert x.shape == (
            expected if b != (2,) else first(f(np.ones((0, 2, 2)), np.ones(2))).shape
        )


def test_integers_become_float64():
    a = np.array([[2, 1], [1, 3]])
    for name in ("cholesky", "inv", "det", "eigvalsh", "svdvals", "pinv", "expm", "matrix_norm"):
        out = getattr(ad.linalg, name)(a)
        assert out.dtype is ad.float64
        again = getattr(ad.linalg, name)(a.astype("float64"))
        np.testing.assert_array_equal(out.numpy(), again.numpy())
    assert ad.linalg.solve(a, np.array([1, 2])).dtype is ad.float64
    mixed = ad.linalg.solve(a.astype("float32"), np.array([1.0, 2.0]))
    assert mixed.dtype is ad.float64
    assert ad.linalg.matrix_power(a, 5).tolist() == np.linalg.matrix_power(a, 5).tolist()


def test_results_have_the_names_of_the_standard():
    a = definite(3)
    assert ad.linalg.eigh(a)._fields == ("eigenvalues", "eigenvectors")
    assert ad.linalg.qr(a)._fields == ("Q", "R")
    assert ad.linalg.slogdet(a)._fields == ("sign", "logabsdet")
    assert ad.linalg.svd(a)._fields == ("U", "S", "Vh")
    assert ad.linalg.lstsq(a, a)._fields == (*("solution", "residuals", "rank", "singular_values"),)
    again = pickle.loads(pickle.dumps(ad.linalg.qr(a)))
    assert again._fields == ("Q", "R") and isinstance(again, type(ad.linalg.qr(a)))
    assert pickle.loads(pickle.dumps(ad.linalg.qr)) is ad.linalg.qr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ad.linalg.inv(np.ones(3)), r"\[inv\].*matrix.*\(3,\)"),
        (lambda: ad.linalg.det(np.ones((2, 3))), r"\[det\].*square.*\(2, 3\)"),
        (lambda: ad.linalg.solve(np.eye(3), np.ones(2)), r"\[solve\] shapes \(3, 3\) and \(2,\)"),
        (lambda: ad.linalg.solve(np.eye(3), np.ones(())), r"\[solve\] shapes \(3, 3\) and \(\)"),
        (
            lambda: ad.linalg.solve(np.ones((2, 3, 3)), np.ones((4, 3, 1))),
            r"\[solve\].*\(2,\).*\(4,\)",
        ),
        (lambda: ad.linalg.qr(np.eye(2), mode="full"), r"\[qr\] mode.*'full'"),
        (lambda: ad.linalg.matrix_norm(np.eye(2), ord=3), r"\[matrix_norm\] ord is 3"),
        (lambda: ad.linalg.matrix_norm(np.eye(2), ord="f"), r"\[matrix_norm\] ord is 'f'"),
        (lambda: ad.linalg.norm(np.ones((2, 2, 2)), 1), r"\[norm\].*\(2, 2, 2\).*axis"),
        (lambda: ad.linalg.solve_triangular(np.eye(2), np.ones(2), trans=3), r"trans must be 0"),
        (lambda: ad.linalg.multi_dot([np.eye(2)]), r"\[multi_dot\].*two"),
        (lambda: ad.linalg.multi_dot([np.eye(2), np.ones((3, 2))]), r"2 columns.*\(3, 2\)"),
        (lambda: ad.linalg.pinv(np.eye(2), rtol=np.ones(3)), r"\[pinv\] rtol of shape \(3,\)"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- matrices that have no factors --------------------------------------------------------------


def failing(stack, *bad):
    """A stack of unit matrices, those at `bad` zero."""
    x = np.broadcast_to(np.eye(2), (*stack, 2, 2)).copy()
    for place in bad:
        x[place] = 0
    return x


FALLIBLE = {
    "cholesky": ad.linalg.cholesky,
    "inv": ad.linalg.inv,
    "solve": lambda x: ad.linalg.solve(x, np.ones(2)),
    "solve_triangular": lambda x: ad.linalg.solve_triangular(x, np.ones(2)),
}


@pytest.mark.parametrize("name", FALLIBLE)
def test_errors_name_the_matrix(name):
    f = FALLIBLE[name]
    for stack, bad, named in (
        ((), ((),), r"the matrix "),
        ((4,), (3, 2), r"matrix 2 of the stack"),
        ((2, 3), ((1, 2), (1, 0)), r"matrix \(1, 0\) of the stack"),
    ):
        x = ad.asarray(failing(stack, *bad))
        for run in (f, ad.compile(f)):
            with pytest.raises(ad.linalg.LinAlgError, match=rf"\[{name}\] {named}"):
                ad.eval(run(x))
    with pytest.raises(np.linalg.LinAlgError, match=r"matrix 1 of the stack"):
        ad.vmap(f)(ad.asarray(failing((3,), 1)))
    with pytest.raises(ValueError, match="the matrix"):
        ad.grad(lambda t: ad.sum(f(t)))(ad.zeros((2, 2)))


def test_errors_of_many_threads_name_the_first():
    x = failing((5000,), 4321, 1234, 3000)
    for count in (1, 2):
        before = ad.get_num_threads()
        ad.set_num_threads(count)
        try:
            with pytest.raises(ad.linalg.LinAlgError, match="matrix 1234 of"):
                ad.linalg.cholesky(x)
        finally:
            ad.set_num_threads(before)


def test_singular_matrices_without_errors():
    x = np.array([[1.0, 2.0], [2.0, 4.0]])
    sign, logarithm = ad.linalg.slogdet(x)
    assert float(sign) == 0 and float(logarithm) == -np.inf
    assert float(ad.linalg.det(x)) == 0
    assert float(ad.linalg.cond(x, 1)) == np.inf
    assert int(ad.linalg.matrix_rank(x)) == 1
    with pytest.raises(ad.linalg.LinAlgError, match="singular"):
        ad.grad(lambda t: ad.linalg.slogdet(t).logabsdet)(ad.asarray(x))
    solution, residuals, rank, _ = ad.linalg.lstsq(x, np.array([1.0, 1.0]))
    expected = np.linalg.lstsq(x, np.array([1.0, 1.0]))[0]
    np.testing.assert_allclose(solution.numpy(), expected, rtol=1e-14)
    assert int(rank) == 1 and residuals.shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["cholesky", "eigh", "eigvalsh", "svd", "svdvals", "pinv", "expm", "lstsq", "qr"]
)
def test_what_is_not_finite_gives_nan_and_no_hang(name, bad):
    x = np.stack([np.eye(5), np.eye(5)])
    x[1, 3, 2] = x[1, 2, 3] = bad
    f = getattr(ad.linalg, name)
    out = f(x, np.ones((5, 1))) if name == "lstsq" else f(x)
    for part in out if isinstance(out, tuple) else (out,):
        if not np.issubdtype(part.numpy().dtype, np.floating) or part.size == 0:
            continue
        assert np.isfinite(part.numpy()[0]).all()
        assert np.isnan(part.numpy()[1]).any()


@pytest.mark.parametrize("name", ["solve", "inv", "det", "slogdet"])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (2, 2)])
def test_nan_goes_through_elimination(name, place):
    """Also where the search for a pivot passes over it."""
    for matrix in (np.eye(3), np.ones((3, 3))):
        x = np.stack([np.eye(3), matrix])
        x[1][place] = np.nan
        f = getattr(ad.linalg, name)
        for run in (f, ad.compile(f)):
            out = run(x, np.ones((3, 1))) if name == "solve" else run(x)
            for part in out if isinstance(out, tuple) else (out,):
                assert np.isfinite(part.numpy()[0]).all()
                assert np.isnan(part.numpy()[1]).all()


def test_infinite_pivots_have_their_limits():
    x = np.array([[np.inf, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(ad.linalg.inv(x).numpy(), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(ad.linalg.solve(x, np.ones(2)).numpy(), [0, 1])
    assert float(ad.linalg.det(x)) == np.inf


@pytest.mark.parametrize("rcond", [None, -1, 0, 1e-8])
@pytest.mark.parametrize("least", [0, 1e-17, 5e-17, 1e-12, 1e-3])
def test_least_squares_are_differentiated_with_their_rank(rcond, least):
    """The solution is linear in the right side: its slopes are its values along it."""
    a, b = np.diag([1.0, least])[:, ::-1].copy(), np.eye(2)

    def solution(t):
        return ad.linalg.lstsq(a, t, rcond=rcond).solution

    expected, _, rank, _ = np.linalg.lstsq(a, b, rcond=rcond)
    assert int(ad.linalg.lstsq(a, b, rcond=rcond).rank) == rank
    np.testing.assert_allclose(solution(b).numpy(), expected, rtol=1e-14)
    zero = ad.zeros(2)
    for jacobian in (ad.jacobian(solution)(zero), ad.vmap(ad.linearize(solution, zero)[1])(b).mT):
        np.testing.assert_allclose(jacobian.numpy(), expected, rtol=1e-14)
    with pytest.raises(ValueError, match=r"\[lstsq\] rcond must be below 1, got"):
        ad.linalg.lstsq(a, b, rcond=1.5)


def test_cholesky_and_its_solution_fit_together():
    a = random(3, 3)
    a = a @ a.T + np.eye(3)
    b = random(3)
    c = ad.linalg.cholesky(a)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(ad.linalg.cho_solve(c, b).numpy(), expected, rtol=1e-12)
    upper = ad.linalg.cholesky(a, upper=True)
    out = ad.linalg.cho_solve(upper, b, lower=False)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12)
    with pytest.raises(TypeError, match=r"\[cho_solve\] c must be one tensor.*lower=True\)"):
        ad.linalg.cho_solve((c, True), b)


# ---- derivatives where factors have none --------------------------------------------------------


def determinant_series(a, h):
    """Coefficients of det(a + t h), exact: by minors of fractions."""
    n = len(a)
    coefficients = [Fraction(0)] * (n + 1)
    for chosen in (set(c) for k in range(n + 1) for c in combinations(range(n), k)):
        for p in permutations(range(n)):
            inversions = sum(p[i] > p[j] for i, j in combinations(range(n), 2))
            term = Fraction((-1) ** inversions)
            for i in range(n):
                term *= (h if i in chosen else a)[i][p[i]]
            coefficients[len(chosen)] += term
    return coefficients


def whole(x):
    return [[Fraction(int(v)) for v in row] for row in x]


SINGULAR = {
    "regular": np.array([[2, 1, 0, 1], [1, 3, 1, 0], [0, 1, 4, 1], [1, 0, 1, 5]]),
    "rank 3": np.array([[2, 1, 0, 3], [1, 3, 1, 5], [0, 1, 4, 5], [1, 0, 1, 2]]),
    "rank 2": np.array([[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, 7]]),
    "rank 1": np.outer([1, 2, -1, 3], [2, 1, 1, -1]),
    "zero": np.zeros((4, 4), int),
    "small": np.array([[2, 1], [4, 2]]),
    "one": np.array([[0]]),
}


@pytest.mark.parametrize("label", SINGULAR)
def test_every_derivative_of_determinants(label):
    """Along a direction det is a polynomial, and its derivatives are the coefficients."""
    a = SINGULAR[label]
    n = len(a)
    h = rng.integers(-3, 4, size=(n, n))
    exact = determinant_series(whole(a), whole(h))
    point, direction = ad.asarray(a.astype(float)), ad.asarray(h.astype(float))

    def forward(f):
        return lambda x: ad.jvp(f, (x,), (direction,))[1]

    def reverse(f):
        return lambda x: ad.sum(ad.grad(f)(x) * direction)

    for step in (forward, reverse):
        f, factorial = ad.linalg.det, 1
        for k in range(1, min(n, 4) + 1):
            f, factorial = step(f), factorial * k
            expected = float(exact[k] * factorial)
            scale = 1e-11 * (1 + abs(expected) + float(np.abs(h).max()) ** n)
            assert float(f(point)) == pytest.approx(expected, abs=scale), (k, step)
    cofactors = ad.grad(ad.linalg.det)(point).numpy()
    for i in range(n):
        for j in range(n):
            minor = np.delete(np.delete(a, i, 0), j, 1)
            expected = (-1) ** (i + j) * np.linalg.det(minor.astype(float)) if n > 1 else 1.0
            assert cofactors[i, j] == pytest.approx(expected, abs=1e-12)


def test_gradient_of_a_nearly_singular_determinant():
    """In exact arithmetic: cofactors of a Hilbert matrix, which is singular to double precision."""
    n = 14
    a = np.array([[1 / (i + j + 1) for j in range(n)] for i in range(n)])
    with mpmath.workdps(60):
        exact = exactly(a)
        expected = as_array(mpmath.det(exact) * (exact**-1).T)
    gradient = ad.grad(ad.linalg.det)(ad.asarray(a)).numpy()
    # Relative to the largest: the second smallest singular value decides the error.
    s = np.linalg.svd(a, compute_uv=False)
    bound = 100 * np.finfo(float).eps * s[0] / s[-2]
    assert np.abs(gradient - expected).max() <= bound * np.abs(expected).max()


def test_derivatives_of_pseudo_inverses_keep_the_rank():
    """Along a curve of matrices of rank 2, against differences of NumPy's."""
    left, right = random(4, 2), random(2, 3)
    dl, dr = random(4, 2), random(2, 3)

    def curve(t):
        return (left + t * dl) @ (right + t * dr)

    step = 1e-5
    expected = np.linalg.pinv(curve(step), rtol=1e-8) - np.linalg.pinv(curve(-step), rtol=1e-8)
    a, da = ad.asarray(curve(0.0)), ad.asarray(dl @ right + left @ dr)
    tangent = ad.jvp(lambda t: ad.linalg.pinv(t, rtol=1e-8), (a,), (da,))[1].numpy()
    np.testing.assert_allclose(tangent, expected / (2 * step), rtol=1e-6, atol=1e-7)
    weights = ad.asarray(random(3, 4))
    gradient = ad.grad(lambda t: ad.sum(weights * ad.linalg.pinv(t, rtol=1e-8)))(a)
    along = float(ad.sum(gradient * da))
    assert along == pytest.approx(float(np.sum(weights.numpy() * tangent)), rel=1e-11)
    b = random(4)
    deficient = ad.jvp(lambda t: ad.linalg.lstsq(t, b, rcond=1e-8).solution, (a,), (da,))[1]
    np.testing.assert_allclose(deficient.numpy(), tangent @ b, rtol=1e-9)


def test_rank_deficient_qr_raises_only_for_its_derivative():
    x = ad.asarray(np.ones((3, 2)))
    assert ad.linalg.qr(x).R.numpy()[1, 1] == pytest.approx(0, abs=1e-15)
    zero = ad.asarray(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ad.linalg.LinAlgError, match=r"\[qr\] the matrix has columns"):
        ad.grad(lambda t: ad.sum(ad.linalg.qr(t).Q))(zero)


def test_norms_at_zero():
    zero = ad.zeros((2, 2))
    for f in (
        ad.linalg.vector_norm,
        ad.linalg.matrix_norm,
        ad.linalg.norm,
        lambda t: ad.linalg.vector_norm(t, ord=3),
        lambda t: ad.linalg.vector_norm(t, ord=1),
        *(lambda t, p=p: ad.linalg.matrix_norm(t, ord=p) for p in ("nuc", 1, -1, 2, -2, np.inf)),
    ):
        np.testing.assert_array_equal(ad.grad(f)(zero).numpy(), np.zeros((2, 2)))
        tangent = ad.jvp(f, (zero,), (ad.ones((2, 2)),))[1]
        assert float(tangent) == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 3)])
@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf])
def test_norms_of_nothing(shape, ord):
    x = np.zeros(shape)
    try:
        expected = np.linalg.matrix_norm(x, ord=ord)
    except ValueError:
        with pytest.raises(ValueError, match=r"\[matrix_norm\] there is no smallest number"):
            ad.linalg.matrix_norm(x, ord=ord)
        with pytest.raises(ValueError, match=r"\[norm\] there is no smallest number"):
            ad.linalg.norm(x, ord, axis=(-2, -1))
    else:
        np.testing.assert_array_equal(ad.linalg.matrix_norm(x, ord=ord).numpy(), expected)
        np.testing.assert_array_equal(ad.linalg.norm(x, ord, axis=(-2, -1)).numpy(), expected)
    assert float(ad.linalg.vector_norm(ad.zeros(0), ord=np.inf)) == 0
    with pytest.raises(ValueError, match=r"\[vector_norm\] there is no smallest number"):
        ad.linalg.vector_norm(ad.zeros(0), ord=-np.inf)
    with pytest.raises(ValueError, match=r"\[cond\] a matrix without elements"):
        ad.linalg.cond(x)


def test_gradients_are_symmetric_and_read_one_triangle():
    a = definite(4)
    full, lower = ad.asarray(a), ad.asarray(np.tril(a))
    for f in (
        lambda t: ad.sum(ad.log(ad.linalg.diagonal(ad.linalg.cholesky(t)))),
        lambda t: ad.sum(ad.linalg.eigvalsh(t) ** 2),
    ):
        gradient = ad.grad(f)(full).numpy()
        np.testing.assert_allclose(gradient, gradient.T, atol=1e-13)
        np.testing.assert_array_equal(ad.grad(f)(lower).numpy(), gradient)
    # Half the logarithm of the determinant has half the inverse as its gradient.
    half = ad.grad(lambda t: ad.sum(ad.log(ad.linalg.diagonal(ad.linalg.cholesky(t)))))(full)
    np.testing.assert_allclose(half.numpy(), np.linalg.inv(a) / 2, rtol=1e-11, atol=1e-13)


def test_power_series():
    """Coefficients of functions of a + t h, which are products of a's inverse and h."""
    a, h, b = definite(4), random(4, 4), random(4)
    inverse, order = np.linalg.inv(a), 5

    def along(f):
        line = lambda t: f(ad.asarray(a) + t * ad.asarray(h))  # noqa: E731
        return [v.numpy() for v in ad.taylor(line, (ad.tensor(0.0),), (ad.tensor(1.0),), order)]

    factor, power = 1.0, np.eye(4)
    inverses = along(ad.linalg.inv)
    solutions = along(lambda x: ad.linalg.solve(x, b))
    determinants = along(lambda x: ad.linalg.slogdet(x).logabsdet)
    lower = np.linalg.inv(np.tril(a))
    halves = along(lambda x: ad.linalg.solve_triangular(x, b, lower=True))
    half = np.eye(4)
    for k in range(order + 1):
        np.testing.assert_allclose(inverses[k], factor * power @ inverse, rtol=1e-10)
        np.testing.assert_allclose(solutions[k], factor * power @ inverse @ b, rtol=1e-10)
        np.testing.assert_allclose(halves[k], factor * half @ lower @ b, rtol=1e-9, atol=1e-12)
        power, half = power @ inverse @ h, half @ lower @ np.tril(h)
        if k < order:
            expected = factor * np.trace(np.linalg.matrix_power(inverse @ h, k + 1))
            assert float(determinants[k + 1]) == pytest.approx(expected, rel=1e-10)
        factor *= -(k + 1)


# ---- stacks, threads, transforms ----------------------------------------------------------------

STACKED = {
    "cholesky": lambda x: ad.linalg.cholesky(x),
    "solve": lambda x: ad.linalg.solve(x, x.mT),
    "inv": ad.linalg.inv,
    "det": ad.linalg.det,
    "slogdet": lambda x: ad.linalg.slogdet(x).logabsdet,
    "qr": lambda x: ad.linalg.qr(x).Q,
    "eigh": lambda x: ad.linalg.eigh(x).eigenvectors,
    "svd": lambda x: ad.linalg.svd(x).U,
    "svdvals": ad.linalg.svdvals,
    "pinv": ad.linalg.pinv,
    "lstsq": lambda x: ad.linalg.lstsq(x, x.mT).solution,
    "expm": ad.linalg.expm,
}


@pytest.mark.parametrize("name", STACKED)
def test_stacks_have_the_bits_of_their_matrices_on_any_number_of_threads(name):
    f, x = STACKED[name], ad.asarray(definite(12, 300))
    before = ad.get_num_threads()
    results = []
    for count in (1, 2):
        ad.set_num_threads(count)
        try:
            results.append((f(x).numpy(), ad.grad(lambda t: ad.sum(f(t)))(x).numpy()))
        finally:
            ad.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(ad.vmap(f)(x).numpy(), results[0][0])
    for i in (0, 137, 299):
        np.testing.assert_array_equal(f(x[i]).numpy(), results[0][0][i])
    np.testing.assert_array_equal(f(x[:1]).numpy(), results[0][0][:1])


@pytest.mark.parametrize("name", STACKED)
def test_compiled_and_nested_transforms_agree(name):
    f, x = STACKED[name], ad.asarray(definite(4, 3))
    weights = ad.asarray(random(*f(x).shape))
    loss = lambda t: ad.sum(f((t + t.mT) / 2) * weights)  # noqa: E731
    hessian_vector = lambda t: ad.hvp(loss, t, ad.sin(t))  # noqa: E731
    for g in (f, ad.grad(loss), hessian_vector):
        for value, again in zip(
            ad.tree.leaves(ad.compile(g)(x)), ad.tree.leaves(g(x)), strict=True
        ):
            np.testing.assert_array_equal(value.numpy(), again.numpy())


def test_broadcast_systems():
    a, b = random(2, 1, 3, 3), random(4, 3, 2)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(ad.linalg.solve(a, b).numpy(), expected, rtol=1e-12)

    def loss(a, b):
        return ad.sum(ad.linalg.solve(a, b) ** 2)

    of_a, of_b = ad.grad(loss, (0, 1))(ad.asarray(a), ad.asarray(b))
    assert of_a.shape == a.shape and of_b.shape == b.shape
    whole_a = np.broadcast_to(a, (2, 4, 3, 3)).copy()
    whole_b = np.broadcast_to(b, (2, 4, 3, 2)).copy()
    each_a, each_b = ad.grad(loss, (0, 1))(ad.asarray(whole_a), ad.asarray(whole_b))
    np.testing.assert_allclose(of_a.numpy(), each_a.numpy().sum(1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(of_b.numpy(), each_b.numpy().sum(0), rtol=1e-10)
    one = ad.vmap(ad.linalg.solve, in_axes=(None, 0))(ad.asarray(a[0, 0]), ad.asarray(b))
    np.testing.assert_allclose(one.numpy(), np.linalg.solve(a[0, 0], b), rtol=1e-12)


def test_other_threads_run_meanwhile():
    """Long work lets go of the interpreter: another thread counts while a spectrum is computed."""
    x = definite(500)
    done = threading.Event()
    worker = threading.Thread(target=lambda: (ad.eval(ad.linalg.svd(x)), done.set()))
    worker.start()
    counted = 0
    while not done.is_set():
        counted += 1
    worker.join()
    assert counted > 1


# ---- where LAPACK comes from --------------------------------------------------------------------


def run(program, *options, **environment):
    import os

    command = [sys.executable, *options, "-c", program]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_products_of_their_own_loops_still_find_lapack():
    program = "import adjoint as ad; print(ad.blas_name(), ad.linalg.det(ad.eye(2) * 2).item())"
    done = run(program, ADJOINT_BLAS="builtin")
    assert done.stdout.split() == ["built-in", "4.0"], done.stderr


def test_without_any_lapack_the_error_says_what_to_install():
    from ctypes.util import find_library

    if find_library("lapack") or find_library("openblas"):
        pytest.skip("this system has a LAPACK")
    folder = str(__import__("pathlib").Path(ad.__file__).parents[1])
    program = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        f"sys.path.insert(0, {folder!r})\n"
        "sys.modules['numpy'] = None\n"
        "import os; isdir = os.path.isdir\n"
        "os.path.isdir = lambda p: 'numpy.libs' not in p and isdir(p)\n"
        "os.path.isfile = lambda p: False\n"
        "import adjoint as ad\n"
        "try: ad.linalg.inv(ad.eye(2))\n"
        "except RuntimeError as error: print(error)\n"
    )
    done = run(program, "-S", ADJOINT_BLAS="builtin")
    assert "[inv] needs LAPACK" in done.stdout and "install" in done.stdout, done.stderr


# ---- a Gaussian process -------------------------------------------------------------------------


def test_gaussian_process_by_its_marginal_likelihood():
    n = 300
    x = np.sort(rng.uniform(-3, 3, n))
    y = ad.asarray(np.sin(2 * x) + 0.1 * rng.normal(size=n))
    squares = ad.asarray((x[:, None] - x[None, :]) ** 2)

    def loss(p):
        """The negative logarithm of the likelihood, of logarithmic length, size and noise."""
        length, size, noise = ad.exp(p)
        k = size * ad.exp(-squares / (2 * length**2)) + noise * ad.eye(n)
        lower = ad.linalg.cholesky(k)
        z = ad.linalg.solve_triangular(lower, y, lower=True)
        return 0.5 * z @ z + ad.sum(ad.log(ad.linalg.diagonal(lower)))

    p, gradient = ad.tensor([0.0, 0.0, -2.0]), ad.compile(ad.grad(loss))
    before = float(loss(p))
    for h in np.eye(3) * 1e-5:
        difference = (loss(p + ad.asarray(h)) - loss(p - ad.asarray(h))) / 2e-5
        assert float(ad.sum(gradient(p) * ad.asarray(h)) / 1e-5) == pytest.approx(
            float(difference), rel=1e-6
        )
    k = np.exp(-squares.numpy() / 2) + np.exp(-2.0) * np.eye(n)
    expected = 0.5 * y.numpy() @ np.linalg.solve(k, y.numpy()) + 0.5 * np.linalg.slogdet(k)[1]
    assert before == pytest.approx(expected, rel=1e-10)
    for _ in range(60):
        p = p - 2e-3 * gradient(p)
    assert float(loss(p)) < before - 50
    assert np.exp(float(p[2])) == pytest.approx(0.01, rel=0.5)
