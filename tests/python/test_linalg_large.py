"""Linear algebra of matrices so large that it goes by blocks, and pseudo-inverses and least squares
on both sides of the choice between a factorisation and singular values.

References are NumPy, products that must give the matrix again, and finite differences.
"""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(23)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
ORDERS = (127, 128, 129, 160, 203)  # around the first that goes by blocks, and around whole panels


def random(*shape, dtype="float64"):
    return rng.normal(size=shape).astype(dtype)


def orthonormal(m, n):
    return np.linalg.qr(random(m, n))[0]


def difference(actual, expected):
    """Relative to the largest entry."""
    actual = np.asarray(actual, dtype="float64")
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@dtypes
@pytest.mark.parametrize("n", ORDERS)
def test_eigenvectors(n, dtype):
    x = random(n, n, dtype=dtype)
    a = (x + x.T) / 2
    bound = 10 * n * np.finfo(dtype).eps
    read = np.tril(a) + np.triu(np.full_like(a, 7.0), 1)  # only the lower triangle is
    w, v = (t.numpy() for t in ad.linalg.eigh(read))
    assert difference(w, np.linalg.eigvalsh(a.astype("float64"))) < bound
    assert difference((v * w) @ v.T, a) < bound
    assert np.abs(v.T @ v - np.eye(n)).max() < bound


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_eigenvectors_of_any_size(size):
    x = random(140, 140)
    a = (x + x.T) / np.abs(x + x.T).max()
    w, v = (t.numpy() for t in ad.linalg.eigh(a * size))
    assert difference(w / size, np.linalg.eigvalsh(a)) < 1e-13
    assert np.abs(v.T @ v - np.eye(140)).max() < 1e-13


def test_stacks_and_compiled_forms_have_the_same_eigenvectors():
    x = random(3, 130, 130)
    x = x + x.mT
    each = [ad.linalg.eigh(a).eigenvectors.numpy() for a in x]
    for out in (
        ad.linalg.eigh(x).eigenvectors,
        ad.vmap(lambda t: ad.linalg.eigh(t).eigenvectors)(ad.asarray(x)),
        ad.compile(lambda t: ad.linalg.eigh(t).eigenvectors)(ad.asarray(x)),
    ):
        np.testing.assert_array_equal(out.numpy(), each)


@pytest.mark.parametrize("n", ORDERS)
def test_gradients_of_eigenvalues_are_symmetric(n):
    v, w = orthonormal(n, n), np.linspace(1.0, 3.0, n)
    a = (v * w) @ v.T
    gradient = ad.grad(lambda t: ad.sum(ad.log(ad.linalg.eigh(t).eigenvalues)))(ad.asarray(a))
    assert difference(gradient.numpy(), (v / w) @ v.T) < 1e-12
    assert difference(gradient.numpy(), gradient.mT.numpy()) < 1e-14


@dtypes
@pytest.mark.parametrize("m", [128, 150])
@pytest.mark.parametrize("n", [1, 33, 128])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_orthogonal_factors(m, n, mode, dtype):
    x = random(m, n, dtype=dtype)
    q, r = (t.numpy() for t in ad.linalg.qr(x, mode=mode))
    bound = 10 * m * np.finfo(dtype).eps
    assert q.shape == (m, m if mode == "complete" else n)
    assert difference(q @ r, x) < bound
    assert np.abs(q.T @ q - np.eye(q.shape[1])).max() < bound
    np.testing.assert_array_equal(r, np.triu(r))
    assert difference(np.abs(r), np.abs(np.linalg.qr(x.astype("float64"), mode=mode)[1])) < bound


SHAPES = ((5, 5), (7, 4), (4, 7), (150, 150), (160, 40), (40, 160))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [1.0, 1e-6, 1e-10, 1e-13])
def test_singular_values_around_the_cutoff_count_as_numpy_says(shape, share):
    """The smallest one is `share` of the largest, and the cutoff a little above or below it."""
    k = min(shape)
    a = (orthonormal(shape[0], k) * np.geomspace(1.0, share, k)) @ orthonormal(shape[1], k).T
    for rtol in (share * 0.9, share * 1.1):
        expected = np.linalg.pinv(a, rtol=min(rtol, 0.99))
        bound = 1e-13 * max(shape) / share  # the condition of those that count, and more
        assert difference(ad.linalg.pinv(a, rtol=min(rtol, 0.99)), expected) < bound
        b = random(shape[0], 3)
        x, _, rank, s = np.linalg.lstsq(a, b, rcond=min(rtol, 0.99))
        found = ad.linalg.lstsq(a, b, rcond=min(rtol, 0.99))
        assert int(found.rank) == rank
        np.testing.assert_allclose(found.singular_values.numpy(), s, atol=1e-13)
        assert difference(found.solution, x) < bound
        assert difference(found.solution, expected @ b) < bound


@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7)])
@pytest.mark.parametrize("deficient", [False, True])
@pytest.mark.parametrize("sides", [1, 2])
def test_least_squares_to_the_second_order(shape, deficient, sides):
    """Along a curve of matrices of one rank, against differences of NumPy's solution."""
    m, n = shape
    rank = min(m, n) - deficient
    left, right, b = random(m, rank), random(rank, n), random(m, sides)
    dl, dr, db = random(m, rank), random(rank, n), random(m, sides)

    def along(xp, t):
        return (left + t * dl) @ (right + t * dr), b + t * db

    def loss(xp, t):
        solution = xp.linalg.lstsq(*along(xp, t), rcond=1e-8)[0]
        return xp.sum(xp.sin(solution))

    step = 1e-4
    low, mid, high = (float(loss(np, t)) for t in (-step, 0.0, step))
    slope = ad.grad(lambda t: loss(ad, t))
    first = (high - low) / (2 * step)
    second = (high - 2 * mid + low) / step**2
    scale = 1 + abs(first) + abs(second)
    zero = ad.tensor(0.0)
    assert float(slope(zero)) == pytest.approx(first, abs=1e-4 * scale)
    tangent = ad.jvp(lambda t: loss(ad, t), (zero,), (ad.tensor(1.0),))[1]
    assert float(tangent) == pytest.approx(float(slope(zero)), rel=1e-9)
    assert float(ad.grad(slope)(zero)) == pytest.approx(second, abs=1e-3 * scale)
    forward = ad.jvp(slope, (zero,), (ad.tensor(1.0),))[1]
    assert float(forward) == pytest.approx(float(ad.grad(slope)(zero)), rel=1e-8)


def test_least_squares_of_one_matrix_and_many_right_sides():
    a, b = random(6, 3), random(4, 6, 2)
    weights = random(4, 3, 2)

    def loss(t, u):
        return ad.sum(weights * ad.linalg.lstsq(t, u).solution)

    of_a, of_b = ad.grad(loss, argnums=(0, 1))(ad.asarray(a), ad.asarray(b))
    each = [
        ad.grad(lambda t, u, w=w: ad.sum(w * ad.linalg.lstsq(t, u).solution), argnums=(0, 1))(
            ad.asarray(a), ad.asarray(u)
        )
        for u, w in zip(b, weights, strict=True)
    ]
    np.testing.assert_allclose(of_a.numpy(), sum(g[0].numpy() for g in each), rtol=1e-12)
    np.testing.assert_allclose(of_b.numpy(), [g[1].numpy() for g in each], rtol=1e-12)
    np.testing.assert_allclose(
        of_b.numpy(), np.einsum("knm,knj->kmj", np.stack([np.linalg.pinv(a)] * 4), weights)
    )


@pytest.mark.parametrize("where", ["a", "b"])
def test_least_squares_of_what_is_not_finite_are_nan(where):
    a, b = random(2, 5, 3), random(2, 5)
    (a if where == "a" else b)[1, 2] = np.inf
    found = ad.vmap(lambda t, u: ad.linalg.lstsq(t, u).solution)(ad.asarray(a), ad.asarray(b))
    np.testing.assert_allclose(found.numpy()[0], np.linalg.lstsq(a[0], b[0])[0])
    assert np.isnan(found.numpy()[1]).all()


def test_triangular_factors_of_large_matrices():
    """Gradients of cholesky and qr against differences along a direction."""
    x, direction, weights = random(140, 140), random(140, 140), random(140, 140)
    a, da = x @ x.T / 140 + np.eye(140), direction + direction.T

    def factor(t):
        return np.sum(weights * np.linalg.cholesky(t))

    step = 1e-6
    expected = (factor(a + step * da) - factor(a - step * da)) / (2 * step)
    gradient = ad.grad(lambda t: ad.sum(weights * ad.linalg.cholesky(t)))(ad.asarray(a))
    assert float(ad.sum(gradient * da)) == pytest.approx(expected, rel=1e-6)
    lower = ad.jvp(ad.linalg.cholesky, (ad.asarray(a),), (ad.asarray(da),))[1].numpy()
    np.testing.assert_array_equal(lower, np.tril(lower))
    assert float(np.sum(weights * lower)) == pytest.approx(expected, rel=1e-6)
