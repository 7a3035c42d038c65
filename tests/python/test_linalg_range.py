"""Linear algebra far from 1, at scales at which squares and products of entries leave the range of
the dtype while what is asked for does not; and right sides and branches that must not reach one
another.

References are NumPy and finite differences at the scale 1, fractions, mpmath and formulas.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import mpmath
import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(23)
inf, nan = np.inf, np.nan
SCALES = [
    *(("float32", s) for s in (1e-30, 1e-25, 1e-19, 1e20, 1e22, 1e25, 1e30)),
    *(("float64", s) for s in (1e-250, 1e-200, 1e200, 1e250)),
]
scales = pytest.mark.parametrize(("dtype", "scale"), SCALES)


def slope(f: Any, x: np.ndarray, h: np.ndarray) -> float:
    """Of a function of arrays along h, by central differences of the fourth order."""
    d = 1e-3
    once, twice = f(x + d * h) - f(x - d * h), f(x + 2 * d * h) - f(x - 2 * d * h)
    return (8 * once - twice) / (12 * d)


# ---- singular vectors ---------------------------------------------------------------------------

SQUARE = np.array([[1.0, 0.2], [0.02, 3.0]])
TALL = np.array([[1.0, 0.2], [0.3, 3.0], [-0.5, 0.7]])
OF_VECTORS: dict[str, tuple[np.ndarray, Any]] = {
    "left": (SQUARE, lambda u, s, vh: u[:, 0] ** 2 @ np.array([1.0, 2.0])),
    "right": (SQUARE, lambda u, s, vh: vh[0] ** 2 @ np.array([1.0, 2.0])),
    "polar factor": (SQUARE, lambda u, s, vh: ((u @ vh) * np.array([[1.0, 2], [3, 5]])).sum()),
    "tall, left": (TALL, lambda u, s, vh: u[:, 1] ** 2 @ np.array([1.0, 2.0, 4.0])),
    "tall, right": (TALL, lambda u, s, vh: vh[1] ** 2 @ np.array([1.0, 2.0])),
    "wide, right": (TALL.T.copy(), lambda u, s, vh: vh[1] ** 2 @ np.array([1.0, 2.0, 4.0])),
}


def of_vectors(label: str, x: Any) -> Any:
    """The same in adjoint."""
    u, _, vh = ad.linalg.svd(x, full_matrices=False)
    weights = ad.asarray([1.0, 2.0, 4.0], dtype=x.dtype)
    if label == "polar factor":
        return ad.sum((u @ vh) * ad.asarray([[1.0, 2.0], [3.0, 5.0]], dtype=x.dtype))
    i = 0 if label in ("left", "right") else 1
    vector = u[:, i] if "left" in label else vh[i]
    return ad.sum(vector**2 * weights[: vector.shape[0]])


@scales
@pytest.mark.parametrize("label", OF_VECTORS)
def test_derivatives_of_singular_vectors_at_any_scale(label: str, dtype: Any, scale: float) -> None:
    """What does not change as the matrix is multiplied has a slope divided by the same number."""
    x, f = OF_VECTORS[label]

    def reference(a: np.ndarray) -> float:
        return float(f(*np.linalg.svd(a, full_matrices=False)))

    units = [np.where(np.arange(x.size).reshape(x.shape) == k, 1.0, 0.0) for k in range(x.size)]
    expected = np.reshape([slope(reference, x, h) for h in units], x.shape)
    tolerance = 3e-5 if dtype == "float32" else 1e-9
    a = ad.asarray(x * scale, dtype=dtype)
    gradient = ad.grad(lambda t: of_vectors(label, t))(a).numpy().astype("float64") * scale
    np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)
    h = rng.normal(size=x.shape)
    tangent = ad.asarray(h * scale, dtype=dtype)
    along = ad.jvp(lambda t: of_vectors(label, t), (a,), (tangent,))[1]
    assert along.item() == pytest.approx(np.sum(h * expected), rel=10 * tolerance, abs=tolerance)


def test_singular_vectors_of_values_that_are_0_have_no_derivative() -> None:
    for x in (np.zeros((2, 2)), np.diag([2.0, 0.0, 0.0])):
        weights = ad.asarray(rng.normal(size=len(x)))
        for last in (
            lambda t: ad.linalg.svd(t).U[:, -1],
            lambda t: ad.linalg.svd(t).Vh[-1],
        ):
            out = ad.grad(lambda t, f=last, w=weights: ad.sum(f(t) * w))(ad.asarray(x))
            assert not np.isfinite(out.numpy()).all()


@scales
def test_derivatives_of_pseudo_inverses_at_any_scale(dtype: Any, scale: float) -> None:
    """P(s x) = P(x) / s: of s P(s x) the slope is that of P, divided by s."""
    if not 1e-30 < scale < 1e30:
        scale = scale**0.7
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    for x in (SQUARE, TALL, TALL.T):
        weights, h = rng.normal(size=x.T.shape), rng.normal(size=x.shape)
        expected = slope(lambda a, w=weights: float(np.sum(np.linalg.pinv(a) * w)), x, h)
        a = ad.asarray(x * scale, dtype=dtype)
        w, along = ad.asarray(weights, dtype=dtype), ad.asarray(h, dtype=dtype)

        def f(t: Any, w: Any = w) -> Any:
            return ad.sum(ad.linalg.pinv(t) * scale * w)

        out = ad.sum(ad.grad(f)(a) * scale * along)
        assert out.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        out = ad.jvp(f, (a,), (along * scale,))[1]
        assert out.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)


# ---- determinants -------------------------------------------------------------------------------


def exact_det(x: np.ndarray) -> Fraction:
    """By elimination in fractions."""
    rows = [[Fraction(float(v)) for v in row] for row in x]
    out = Fraction(1)
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
        if pivot is None:
            return Fraction(0)
        if pivot != i:
            rows[i], rows[pivot] = rows[pivot], rows[i]
            out = -out
        out *= rows[i][i]
        for r in range(i + 1, len(rows)):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return out


def exact_cofactors(x: np.ndarray) -> np.ndarray:
    n = len(x)
    minors = [[np.delete(np.delete(x, i, 0), j, 1) for j in range(n)] for i in range(n)]
    return np.array(
        [[float((-1) ** (i + j) * exact_det(minors[i][j])) for j in range(n)] for i in range(n)]
    )


def blocks(n: int, high: float, low: float, dtype: Any) -> np.ndarray:
    x = np.zeros((2 * n, 2 * n))
    x[:n, :n] = rng.normal(size=(n, n)) * high
    x[n:, n:] = rng.normal(size=(n, n)) * low
    return x.astype(dtype)


FAR = {
    "falling": np.diag([1e200, 1e200, 1e-200, 1e-200]),
    "rising": np.diag([1e-200, 1e-200, 1e200, 1e200]),
    "float32": np.diag([1e20, 1e20, 1e-20]).astype("float32"),
    "float32, rising": np.diag([1e-20, 1e-20, 1e20, 1e20]).astype("float32"),
    "small": np.diag([1e-200, 1e-100]),
    "rows": np.array([[1e-150, 2e-150, 0], [3e150, 1e150, 1e150], [2.0, 5.0, -1.0]]),
    "columns": np.array([[1e-150, 2e150, 0], [3e-150, 1e150, 1.0], [2e-150, 5e150, -1.0]]),
    "rank 1": np.outer([1, 2, 3], [1, 5, 7]) * 2.0**300 * [2.0**-300, 2.0**-600, 1.0],
    "rank 1 of 2": np.array([[2.0**-300, 2.0**300], [2.0**-301, 2.0**299]]),
    "blocks": blocks(3, 1e100, 1e-100, "float64"),
}


@pytest.mark.parametrize("label", FAR)
def test_determinants_whose_partial_products_are_out_of_range(label: str) -> None:
    x = FAR[label]
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
    atol = 1e-14 if label == "rank 1" else 0.0  # of cofactors that are 0
    a = ad.asarray(x)
    expected = float(exact_det(x))
    assert ad.linalg.det(a).item() == pytest.approx(expected, rel=tolerance, abs=atol)
    gradient = ad.grad(ad.linalg.det)(a).numpy()
    with np.errstate(over="ignore"):
        cofactors = exact_cofactors(x).astype(x.dtype)
    np.testing.assert_allclose(gradient, cofactors, rtol=tolerance, atol=atol)
    for i, j in np.ndindex(x.shape):  # one entry at a time, as the slopes are far apart
        h = np.zeros_like(x)
        h[i, j] = 1
        out = ad.jvp(ad.linalg.det, (a,), (ad.asarray(h),))[1].item()
        assert out == pytest.approx(float(cofactors[i, j]), rel=tolerance, abs=atol)


def test_second_derivatives_of_determinants_out_of_range() -> None:
    """d² det / da_ii da_jj of a diagonal matrix is the product of the other entries."""
    d = np.array([1e-150, 1e-100, 1e150, 1e140])
    hessian = ad.hessian(ad.linalg.det)(ad.asarray(np.diag(d))).numpy()
    for i, j in permutations(range(4), 2):
        expected = float(math.prod(Fraction(d[k]) for k in range(4) if k not in (i, j)))
        assert hessian[i, i, j, j] == pytest.approx(expected, rel=1e-12, abs=0)
        assert hessian[i, j, j, i] == pytest.approx(-expected, rel=1e-12, abs=0)


@pytest.mark.parametrize(("n", "size", "dtype"), [(30, 1e3, "float32"), (30, 1e12, "float64")])
def test_large_determinants_of_blocks(n: int, size: float, dtype: Any) -> None:
    """Products of 10^90 or 10^360 on the way to a moderate one."""
    x = blocks(n, size, 1 / size, dtype)
    with mpmath.workdps(60):
        parts = (x[:n, :n], x[n:, n:])
        expected = math.prod(mpmath.det(mpmath.matrix(b.astype(float).tolist())) for b in parts)
    out = ad.linalg.det(ad.asarray(x)).item()
    tolerance = 1e-3 if dtype == "float32" else 1e-11
    assert out == pytest.approx(float(expected), rel=tolerance)
    # The determinant is linear in each row, of which its cofactors are the slopes.
    gradient = ad.grad(ad.linalg.det)(ad.asarray(x)).numpy().astype("float64")
    along_rows = np.sum(gradient * x, axis=1)
    np.testing.assert_allclose(
        along_rows, float(expected), rtol=1e-4 if dtype == "float32" else 1e-9
    )


def test_a_determinant_that_is_not_taken_contributes_nothing() -> None:
    """By a matrix of infinities in a stack; of the other the cofactors."""
    taken = ad.tensor([False, True])
    x = ad.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(t: Any) -> Any:
        return ad.sum(ad.where(taken, ad.linalg.det(ad.stack([t * inf, t])), 0.0))

    def determinants(t: Any) -> Any:
        return ad.sum(ad.where(taken, ad.linalg.det(t), 0.0))

    stack = ad.stack([x * inf, x])
    expected = np.array([[[0.0, 0.0], [0.0, 0.0]], [[4.0, -3.0], [-2.0, 1.0]]])
    np.testing.assert_allclose(ad.grad(determinants)(stack).numpy(), expected)
    np.testing.assert_allclose(ad.grad(f)(x).numpy(), expected[1])
    h = ad.asarray(rng.normal(size=(2, 2, 2)))
    along = ad.hvp(determinants, stack, h).numpy()
    d = h.numpy()[1]
    np.testing.assert_allclose(along[1], [[d[1, 1], -d[1, 0]], [-d[0, 1], d[0, 0]]])


# ---- norms --------------------------------------------------------------------------------------


def exact_norm(x: list[float], ord: float) -> float:
    with mpmath.workdps(40):
        total = mpmath.fsum(mpmath.mpf(v) ** ord for v in x)
        return float(total ** (1 / mpmath.mpf(ord)))


ORDERS = [-1000.0, -150.0, -64.0, -20.0, -3.0, -1.0, -0.5, 0.5, 3.0, 64.0, 65.0, 150.0, 1000.0, 1e5]


@pytest.mark.parametrize("ord", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "x", [[1e-8, 1e8], [0.95, 0.1], [1.9, 1.9, 1.2], [3e-30, 1.99e-30], [1.5e30, 7e29, 1.4e30]]
)
def test_vector_norms_of_any_order(x: list[float], dtype: Any, ord: float) -> None:
    given = np.array(x, dtype)
    numbers = [float(v) for v in given]
    expected = exact_norm(numbers, ord)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    a = ad.asarray(given)
    out = ad.linalg.vector_norm(a, ord=ord)
    assert out.item() == pytest.approx(expected, rel=tolerance, abs=0)
    # (|x| / norm)^(ord - 1) sign(x)
    with mpmath.workdps(40):
        slopes = [float((mpmath.mpf(v) / expected) ** (mpmath.mpf(ord) - 1)) for v in numbers]
    gradient = ad.grad(lambda t: ad.linalg.vector_norm(t, ord=ord))(a)
    bound = tolerance * max(1.0, abs(ord))
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=bound, atol=tolerance * 1e-3)
    moved = ad.jvp(lambda t: ad.linalg.vector_norm(t, ord=ord), (a,), (a,))[1]  # linear along x
    assert moved.item() == pytest.approx(expected, rel=bound)


@pytest.mark.parametrize("ord", [-150.0, -2.0, 3.0, 150.0])
def test_vector_norms_of_zeros_infinities_and_nan(ord: float) -> None:
    for x in ([0.0, 2.0], [0.0, 0.0], [inf, 1.0], [inf, inf], [nan, 1.0], [-inf, 0.0]):
        with np.errstate(all="ignore"):
            expected = np.linalg.norm(np.array(x), ord)
        out = ad.linalg.vector_norm(ad.tensor(x), ord=ord).item()
        assert out == pytest.approx(expected, nan_ok=True)
        if 0.0 in x and inf not in x and -inf not in x:
            gradient = ad.grad(lambda t: ad.linalg.vector_norm(t, ord=ord))(ad.tensor(x)).numpy()
            assert gradient[0] == 0 and np.isfinite(gradient).all()


# ---- right sides of their own -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [nan, inf])
@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3), (3, 3, "rank 2")])
def test_least_squares_keep_right_sides_apart(shape: Any, bad: float) -> None:
    a = rng.normal(size=shape[:2])
    if len(shape) == 3:
        a[2] = a[0] + a[1]
    b = rng.normal(size=(shape[0], 3))
    expected = np.linalg.lstsq(a, b, rcond=None)[0]
    b[1, 1] = bad
    out = ad.linalg.lstsq(a, b)
    assert np.isnan(out.solution.numpy()[:, 1]).all()
    np.testing.assert_allclose(out.solution.numpy()[:, [0, 2]], expected[:, [0, 2]], rtol=1e-9)
    if shape[0] > shape[1]:
        assert np.isnan(out.residuals.numpy()).tolist() == [False, True, False]
    # The solutions that are asked for have their derivatives along their right sides.
    gradient = ad.grad(lambda t: ad.sum(ad.linalg.lstsq(a, t).solution[:, [0, 2]]))(ad.asarray(b))
    slopes = np.linalg.pinv(a).sum(axis=0)
    np.testing.assert_allclose(gradient.numpy()[:, 0], slopes, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient.numpy()[:, 2], slopes, rtol=1e-9, atol=1e-12)


# ---- exponentials -------------------------------------------------------------------------------


def test_exponentials_of_matrices_whose_sums_overflow() -> None:
    """Of N with N² = 0 it is I + N; with large negative numbers on the diagonal it vanishes."""
    big = 1.2e308
    nilpotent = np.zeros((3, 3))
    nilpotent[0, 1:] = big
    out = ad.linalg.expm(nilpotent).numpy()
    np.testing.assert_allclose(out, np.eye(3) + nilpotent, rtol=1e-15, atol=1e-15)
    falling = np.array([[-big, big], [0.0, -big]])
    np.testing.assert_array_equal(ad.linalg.expm(falling).numpy(), np.zeros((2, 2)))
    rising = ad.linalg.expm(np.array([[big, big], [0.0, big]])).numpy()
    assert not np.isfinite(rising.diagonal()).any()
    along = ad.jvp(ad.linalg.expm, (ad.asarray(falling),), (ad.ones((2, 2)),))[1]
    np.testing.assert_array_equal(along.numpy(), np.zeros((2, 2)))


@pytest.mark.parametrize("size", [1e3, 1e10, 1e100, 1e200])
def test_exponentials_are_not_squared_more_than_the_powers_need(size: float) -> None:
    """By the norm alone they would be until nothing but rounding is left."""
    rotation = np.array([[0.0, size], [-1 / size, 0.0]])
    c, s = math.cos(1), math.sin(1)
    out = ad.linalg.expm(rotation).numpy()
    np.testing.assert_allclose(out, [[c, s * size], [-s / size, c]], rtol=1e-14)
    out = ad.linalg.expm(np.array([[1.0, size], [0.0, -1.0]])).numpy()
    expected = [[math.e, size * math.sinh(1)], [0.0, 1 / math.e]]
    np.testing.assert_allclose(out, expected, rtol=1e-13)
    nilpotent = np.array([[0.0, size, size], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    out = ad.linalg.expm(nilpotent).numpy()
    np.testing.assert_allclose(out, np.eye(3) + nilpotent + nilpotent @ nilpotent / 2, rtol=1e-14)
    # Along E the derivative at N is E + (N E + E N) / 2 + N E N / 6 where N² = 0.
    n, e = np.array([[0.0, 1e5], [0.0, 0.0]]), rng.normal(size=(2, 2))
    out = ad.jvp(ad.linalg.expm, (ad.asarray(n),), (ad.asarray(e),))[1].numpy()
    np.testing.assert_allclose(out, e + (n @ e + e @ n) / 2 + n @ e @ n / 6, rtol=1e-10)


# ---- names --------------------------------------------------------------------------------------


def test_errors_of_derivatives_bear_the_name_of_the_function() -> None:
    singular = ad.ones((2, 2))
    flat = ad.tensor([[1.0, 0.0], [0.0, 0.0]])
    cases: list[tuple[str, Any]] = [
        ("slogdet", lambda: ad.grad(lambda t: ad.linalg.slogdet(t).logabsdet)(singular)),
        (
            "slogdet",
            lambda: ad.jvp(lambda t: ad.linalg.slogdet(t).logabsdet, (singular,), (singular,)),
        ),
        ("qr", lambda: ad.grad(lambda t: ad.sum(ad.linalg.qr(t).R))(flat)),
        ("qr", lambda: ad.grad(lambda t: ad.sum(ad.linalg.qr(t).Q))(flat)),
        ("qr", lambda: ad.jvp(lambda t: ad.linalg.qr(t).Q, (flat,), (flat,))),
        ("cho_solve", lambda: ad.linalg.cho_solve(flat, ad.ones(2))),
        ("solve_triangular", lambda: ad.linalg.solve_triangular(flat, ad.ones(2))),
    ]
    for name, call in cases:
        with pytest.raises(ad.linalg.LinAlgError, match=rf"^\[{name}\] the matrix "):
            call()
    second = ad.grad(lambda t: ad.linalg.slogdet(t).logabsdet)
    with pytest.raises(
        ad.linalg.LinAlgError, match=r"\[slogdet\] matrix 1 of the stack is singular"
    ):
        ad.grad(lambda t: ad.sum(ad.linalg.slogdet(t).logabsdet))(ad.stack([ad.eye(2), singular]))
    np.testing.assert_allclose(second(2.0 * ad.eye(2)).numpy(), 0.5 * np.eye(2))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-9), (np.float32, 2e-3)])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e3, 1e5])
def test_exponentials_of_large_nilpotent_matrices(size, dtype, tolerance):
    """Both modes: the series of the derivative ends, and so is known exactly."""
    x = size * np.triu(np.arange(1.0, 10.0).reshape(3, 3), 1)
    weights = np.array([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0], [0.25, 2.0, 1.0]])
    for a in (x, x.T):
        powers = [np.eye(3), a.T, a.T @ a.T]
        want = sum(
            powers[i] @ weights @ powers[j] / math.factorial(i + j + 1)
            for i in range(3)
            for j in range(3)
        )
        f = lambda a: ad.sum(ad.linalg.expm(a) * ad.tensor(weights.astype(dtype)))  # noqa: E731
        for mode in ("reverse", "forward"):
            got = ad.jacobian(f, mode=mode)(ad.tensor(a.astype(dtype))).numpy()
            assert abs(got - want).max() <= tolerance * abs(want).max(), mode
