"""Derivatives where eigenvalues or singular values are equal: those that exist, and no wrong
numbers for those that do not, or that no sweep can find.

References are functions of the entries with the same values, and formulas by hand.
"""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(71)


def random(*shape):
    return rng.normal(size=shape)


def test_first_derivatives_of_equal_eigenvalues_and_singular_values():
    q = np.linalg.qr(random(4, 4))[0]
    a = ad.asarray(q @ np.diag([1.0, 1.0, 1.0, 2.0]) @ q.T)
    for matrix in (a, ad.eye(4), ad.zeros((4, 4))):
        gradient = ad.grad(lambda t: ad.sum(ad.linalg.eigvalsh(t)))(matrix)
        np.testing.assert_allclose(gradient.numpy(), np.eye(4), atol=1e-15)
        gradient = ad.grad(lambda t: ad.sum(ad.linalg.eigh(t).eigenvalues))(matrix)
        np.testing.assert_allclose(gradient.numpy(), np.eye(4), atol=1e-15)
        tangent = ad.jvp(lambda t: ad.sum(ad.linalg.eigh(t)[0]), (matrix,), (ad.ones((4, 4)),))[1]
        assert float(tangent) == pytest.approx(4, rel=1e-14)
    # The sum of squares of the singular values is that of the entries, whatever they are.
    for f in (ad.linalg.svdvals, lambda t: ad.linalg.svd(t).S):
        for matrix in (a, ad.eye(4)):
            gradient = ad.grad(lambda t, f=f: ad.sum(f(t) ** 2))(matrix)
            np.testing.assert_allclose(gradient.numpy(), 2 * matrix.numpy(), atol=1e-14)
    assert np.isfinite(
        ad.grad(lambda t: ad.sum(ad.linalg.svdvals(t)))(ad.zeros((3, 2))).numpy()
    ).all()


def test_second_derivatives_of_sums_of_equal_values():
    """The trace has no second derivative; that of the nuclear norm at the unit matrix along h is
    the sum of squares of the antisymmetric part of h over that of two values."""
    q = np.linalg.qr(random(4, 4))[0]
    h = random(4, 4)
    a = ad.asarray(q @ np.diag([1.0, 1.0, 1.0, 2.0]) @ q.T)
    for matrix in (a, ad.eye(4)):
        for f in (ad.linalg.eigvalsh, lambda t: ad.linalg.eigh(t).eigenvalues):
            along = ad.hvp(lambda t, f=f: ad.sum(f(t)), matrix, ad.asarray(h))
            np.testing.assert_allclose(np.asarray(along), np.zeros((4, 4)), atol=1e-13)
    orthogonal = ad.asarray(q)
    for f in (ad.linalg.svdvals, lambda t: ad.linalg.svd(t, full_matrices=False).S):
        along = ad.hvp(lambda t, f=f: ad.sum(f(t)), orthogonal, ad.asarray(h))
        inner = q.T @ h
        np.testing.assert_allclose(np.asarray(along), q @ (inner - inner.T) / 2, atol=1e-13)


ALONG = np.array([[1.0, 2.0], [3.0, 4.0]])
LINEAR = {
    "sum of eigenvalues": (lambda t: ad.sum(ad.linalg.eigvalsh(t)), np.zeros((2, 2))),
    "sum of values of eigh": (
        lambda t: ad.sum(ad.linalg.eigh(t).eigenvalues),
        np.zeros((2, 2)),
    ),
    "sum of singular values": (lambda t: ad.sum(ad.linalg.svdvals(t)), (ALONG - ALONG.T) / 2),
    "nuclear norm": (lambda t: ad.linalg.matrix_norm(t, ord="nuc"), (ALONG - ALONG.T) / 2),
}


@pytest.mark.parametrize("label", LINEAR)
def test_second_derivatives_do_not_depend_on_what_else_is_differentiated(label):
    """A factor that requires grad, or is batched, traced or moved itself, changes no value."""
    f, expected = LINEAR[label]
    x, h, weights = ad.eye(2), ad.asarray(ALONG), np.array([[1.0, 10.0], [100.0, 1000.0]])
    ways = {
        "reverse over reverse": lambda g: ad.grad(lambda t: ad.sum(ad.grad(g)(t) * h))(x),
        "hvp": lambda g: ad.hvp(g, x, h),
    }
    for way in ways.values():
        np.testing.assert_allclose(way(f).numpy(), expected, atol=1e-14)

        def of_factor(p, way=way):
            return ad.sum(way(lambda t: p * f(t)) * weights)

        value = 3.0 * np.sum(expected * weights)
        p = ad.tensor(3.0)
        outs = [
            of_factor(p),
            of_factor(ad.tensor(3.0, requires_grad=True)),
            ad.value_and_grad(of_factor)(p)[0],
            ad.jvp(of_factor, (p,), (ad.tensor(1.0),))[0],
            ad.vmap(of_factor)(ad.stack([p, p]))[1],
            ad.compile(of_factor)(p),
        ]
        np.testing.assert_allclose([o.item() for o in outs], value, atol=1e-12)
        moved = ad.jvp(of_factor, (p,), (ad.tensor(1.0),))[1]
        assert moved.item() == pytest.approx(value / 3, abs=1e-12)


OF_VALUES = {
    "squares of eigenvalues": lambda t: ad.sum(ad.linalg.eigvalsh(t) ** 2),
    "logarithms of eigenvalues": lambda t: ad.sum(ad.log(ad.linalg.eigvalsh(t))),
    "cubes of values of eigh": lambda t: ad.sum(ad.linalg.eigh(t).eigenvalues ** 3),
    "squares of singular values": lambda t: ad.sum(ad.linalg.svdvals(t) ** 2),
    "cubes of values of svd": lambda t: ad.sum(ad.linalg.svd(t, full_matrices=False).S ** 3),
    "squares of those of lstsq": lambda t: ad.sum(ad.linalg.lstsq(t, np.ones(2))[3] ** 2),
}
TWICE = {
    "forward over reverse": lambda f, x, h: ad.jvp(ad.grad(f), (x,), (h,))[1],
    "reverse over reverse": lambda f, x, h: ad.grad(lambda t: ad.sum(ad.grad(f)(t) * h))(x),
    "reverse over forward": lambda f, x, h: ad.grad(lambda t: ad.jvp(f, (t,), (h,))[1])(x),
    "forward over forward": lambda f, x, h: ad.jvp(lambda t: ad.jvp(f, (t,), (h,))[1], (x,), (h,))[
        1
    ],
    "hvp": ad.hvp,
    "compiled": lambda f, x, h: ad.compile(lambda t: ad.hvp(f, t, h))(x),
    "batched": lambda f, x, h: ad.vmap(lambda t: ad.hvp(f, t, h))(ad.stack([x, x])),
}


@pytest.mark.parametrize("way", TWICE)
@pytest.mark.parametrize("label", OF_VALUES)
def test_second_derivatives_at_equal_values_are_no_wrong_numbers(label, way):
    """That of the sum of squares along h is 2 h, which a sweep through the values cannot find."""
    out = TWICE[way](OF_VALUES[label], ad.eye(2), ad.asarray(ALONG))
    assert not np.isfinite(np.asarray(out)).any()
    # Of values that differ it can, and its derivative along multiples of the matrix.
    x = ad.asarray(np.diag([1.0, 2.0]))
    out = np.asarray(TWICE[way](OF_VALUES["squares of singular values"], x, ad.asarray(ALONG)))
    expected = 2 * np.sum(ALONG**2) if way == "forward over forward" else 2 * ALONG
    np.testing.assert_allclose(out, np.broadcast_to(expected, out.shape), rtol=1e-14)


@pytest.mark.parametrize("way", TWICE)
def test_second_derivatives_of_equal_values_along_what_keeps_them_equal(way):
    """Along the unit matrix nothing turns: there sum(g(w)) has the second derivative g''."""
    q = np.linalg.qr(random(4, 4))[0]
    x, h = ad.asarray(q @ np.diag([0.5, 0.5, 0.5, 2.0]) @ q.T), ad.eye(4)
    bends = q @ np.diag([-4.0, -4.0, -4.0, -0.25]) @ q.T
    for values in (ad.linalg.eigvalsh, ad.linalg.svdvals):
        out = np.asarray(TWICE[way](lambda t, f=values: ad.sum(ad.log(f(t))), x, h))
        expected = np.trace(bends) if way == "forward over forward" else bends
        np.testing.assert_allclose(
            out, np.broadcast_to(expected, out.shape), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("values", [ad.linalg.eigvalsh, ad.linalg.svdvals])
def test_hessian_of_a_log_determinant_by_its_values(values):
    """log det (t0 J + t1 I) of order n is log(n t0 + t1) + (n - 1) log t1."""

    def f(t):
        return ad.sum(ad.log(values(t[0] * ad.ones((4, 4)) + t[1] * ad.eye(4))))

    once = -1 / (4 * 0.7 + 0.3) ** 2
    expected = [[16 * once, 4 * once], [4 * once, once - 3 / 0.3**2]]
    hessian = ad.hessian(f)(ad.tensor([0.7, 0.3]))
    np.testing.assert_allclose(hessian.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3)])
def test_second_derivatives_at_singular_values_of_0_are_no_wrong_numbers(shape):
    h = ad.asarray(random(*shape))
    for way in ("forward over reverse", "reverse over reverse", "reverse over forward"):
        out = TWICE[way](lambda t: ad.sum(ad.linalg.svdvals(t) ** 2), ad.zeros(shape), h)
        assert not np.isfinite(np.asarray(out)).any()


def test_matrix_functions_by_equal_factors_are_no_wrong_numbers():
    """The slope of sum(b * log(t)) at the unit matrix is b, which neither the slopes of the values
    nor those of the vectors show."""
    b = ad.asarray(np.array([[0.0, 1.0], [1.0, 0.0]]))

    def by_eigh(t):
        w, v = ad.linalg.eigh(t)
        return ad.sum(b * ((v * ad.log(w)) @ v.mT))

    def by_svd(t):
        u, s, vh = ad.linalg.svd(t, full_matrices=False)
        return ad.sum(b * ((u * ad.log(s)) @ vh))

    def tall(t):  # the identity
        u, s, vh = ad.linalg.svd(t, full_matrices=False)
        return ad.sum(((u * s) @ vh) ** 2 + (u * s) @ vh)

    for f in (by_eigh, by_svd):
        assert not np.isfinite(ad.grad(f)(ad.eye(2)).numpy()).any()
    assert not np.isfinite(ad.grad(tall)(ad.asarray(np.eye(3, 2) * [1.0, 0.0])).numpy()).all()


def test_derivatives_of_vectors_of_equal_eigenvalues_are_not_finite():
    """It is no number, rather than a wrong one: the true slope of the square root at 1 is t / 2."""

    def root(t):
        w, v = ad.linalg.eigh(t)
        return (v * ad.sqrt(w)) @ v.mT

    out = ad.jvp(root, (ad.eye(2),), (ad.ones((2, 2)),))[1].numpy()
    assert not np.isfinite(out).all()
    # A tangent that keeps the vectors has its derivative.
    out = ad.jvp(root, (ad.eye(2),), (ad.asarray(np.diag([2.0, 4.0])),))[1].numpy()
    np.testing.assert_array_equal(out, np.diag([1.0, 2.0]))


PROJECTOR = np.diag([1.0, 1.0, 0.0])


def of_projector(t):
    """The projector on the space of the two equal eigenvalues, against fixed weights."""
    v = ad.linalg.eigh(t).eigenvectors[:, :2]
    return ad.sum((v @ v.mT) * ad.asarray(np.arange(9.0).reshape(3, 3)))


def test_what_equal_vectors_span_has_its_derivative_in_reverse_mode():
    """The projector P on the eigenvalue 1, beside 3, turns along H by P H (I - P) / (1 - 3) and its
    transpose. In forward mode the vectors have tangents of their own, which do not exist."""
    a = ad.asarray(np.diag([1.0, 1.0, 3.0]))
    weights = np.arange(9.0).reshape(3, 3)
    across = PROJECTOR @ (weights + weights.T) @ (np.eye(3) - PROJECTOR) / (1 - 3) / 2
    for q in (np.eye(3), np.linalg.qr(random(3, 3))[0]):
        turned = ad.asarray(q @ a.numpy() @ q.T)

        def f(t, q=q):
            return of_projector(ad.asarray(q.T) @ t @ ad.asarray(q))

        expected = q @ (across + across.T) @ q.T
        np.testing.assert_allclose(ad.grad(f)(turned).numpy(), expected, atol=1e-12)
    h = random(3, 3)
    assert np.isnan(ad.jvp(of_projector, (a,), (ad.asarray(h + h.T),))[1].item())
    # Along what does not turn them into one another it is finite in both.
    kept = np.zeros((3, 3))
    kept[0, 2] = kept[2, 0] = 1.0
    out = ad.jvp(of_projector, (a,), (ad.asarray(kept),))[1]
    assert out.item() == pytest.approx(np.sum((across + across.T) * kept), rel=1e-13)
