"""The promised derivatives at special points: orders 1 and 2 in every mode and nesting."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest

import adjoint as ad
from generate_docs import CPP_POINTS, cpp_points
from special_points import POINTS, TABLE, peers

COPIES = 3
points = pytest.mark.parametrize("point", POINTS, ids=str)
second_points = pytest.mark.parametrize(
    "point", [p for p in POINTS if p.hessian is not None], ids=str
)


@pytest.fixture(autouse=True)
def quiet_numpy():
    with np.errstate(all="ignore"):
        yield


def loss_of(point):
    return lambda x: ad.sum(point.f(x))


def at(point):
    return ad.asarray(np.array(point.x, dtype=float))


def many(point):
    """Enough copies that elementwise work and reductions are deferred."""
    rows = (1 << 15) // len(point.x) + 1
    return ad.asarray(np.tile(np.array(point.x, dtype=float), (rows, 1)))


def basis(x):
    for i in range(x.shape[-1]):
        unit = np.zeros(x.shape)
        unit[..., i] = 1.0
        yield ad.asarray(unit)


def check(actual, expected, what):
    np.testing.assert_allclose(
        np.asarray(actual),
        np.broadcast_to(expected, actual.shape),
        rtol=1e-13,
        atol=1e-14,
        err_msg=what,
    )


# ---- the table itself ---------------------------------------------------------------------------


def test_every_row_is_told_apart_and_has_a_reason():
    names = [str(point) for point in POINTS]
    assert len(set(names)) == len(names) >= 45
    for point in POINTS:
        n = len(point.x)
        assert len(point.gradient) == n and point.why, point
        assert point.hessian is None or np.array(point.hessian).shape == (n, n), point
        if point.hessian is not None:
            np.testing.assert_array_equal(np.array(point.hessian), np.array(point.hessian).T)


def test_the_peers_were_asked_about_every_row():
    names = [str(point) for point in POINTS]
    for library, answers in peers().items():
        assert list(answers) == ["version", *names], f"{library}: run peer_special_points.py"


def test_cpp_tests_the_same_table():
    assert CPP_POINTS.read_text(encoding="utf-8") == cpp_points(), "run generate_docs.py"
    assert sum(not point.python_only for rows in TABLE.values() for point in rows) > 100


# ---- order 1 ------------------------------------------------------------------------------------


@points
def test_reverse(point):
    check(ad.grad(loss_of(point))(at(point)), point.gradient, "grad")
    x = ad.tensor(at(point), requires_grad=True)
    loss = loss_of(point)(x)
    if loss.requires_grad:
        loss.backward()
        check(x.grad, point.gradient, "backward")


@points
def test_forward(point):
    x = at(point)
    for direction, expected in zip(basis(x), point.gradient, strict=True):
        check(ad.jvp(loss_of(point), (x,), (direction,))[1], expected, "jvp")


@points
def test_linearized(point):
    x = at(point)
    push = ad.linearize(loss_of(point), x)[1]
    for direction, expected in zip(basis(x), point.gradient, strict=True):
        check(push(direction), expected, "linearize")
    for mode in ("forward", "reverse"):
        check(ad.jacobian(loss_of(point), mode=mode)(x), point.gradient, f"jacobian, {mode} mode")


@points
def test_batched(point):
    x = ad.asarray(np.tile(np.array(point.x, dtype=float), (COPIES, 1)))
    check(ad.vmap(ad.grad(loss_of(point)))(x), point.gradient, "vmap of grad")
    check(ad.grad(lambda v: ad.sum(ad.vmap(loss_of(point))(v)))(x), point.gradient, "grad of vmap")


@points
def test_deferred(point):
    x = many(point)
    check(ad.grad(loss_of(point))(x), point.gradient, "grad")
    tangents = (next(iter(basis(x))),)
    rows = x.shape[0]
    actual = ad.jvp(loss_of(point), (x,), tangents)[1]
    assert float(actual) == pytest.approx(rows * point.gradient[0], rel=1e-12, abs=1e-12)


@points
def test_compiled(point):
    check(ad.compile(ad.grad(loss_of(point)))(at(point)), point.gradient, "compiled")
    check(ad.compile(ad.grad(loss_of(point)))(many(point)), point.gradient, "compiled and fused")


# ---- order 2 ------------------------------------------------------------------------------------


def reverse_over_reverse(f, x, v):
    return ad.grad(lambda y: ad.sum(ad.grad(f)(y) * v))(x)


def forward_over_reverse(f, x, v):
    return ad.jvp(ad.grad(f), (x,), (v,))[1]


def reverse_over_forward(f, x, v):
    return ad.grad(lambda y: ad.jvp(f, (y,), (v,))[1])(x)


def forward_over_forward(f, x, v):
    """Row by row: a jvp gives one number."""
    rows = []
    for w in basis(x):
        rows.append(ad.jvp(lambda y, w=w: ad.jvp(f, (y,), (w,))[1], (x,), (v,))[1])
    return ad.stack(rows)


NESTS = [reverse_over_reverse, forward_over_reverse, reverse_over_forward, forward_over_forward]


@pytest.mark.parametrize("nest", NESTS, ids=lambda f: f.__name__)
@second_points
def test_second_order(point, nest):
    x = at(point)
    for direction, expected in zip(basis(x), point.hessian, strict=True):
        check(nest(loss_of(point), x, direction), expected, nest.__name__)


@second_points
def test_second_order_hessian(point):
    check(ad.hessian(loss_of(point))(at(point)), np.array(point.hessian), "hessian")


@pytest.mark.parametrize("nest", NESTS[:3], ids=lambda f: f.__name__)
@second_points
def test_second_order_batched(point, nest):
    x = ad.asarray(np.tile(np.array(point.x, dtype=float), (COPIES, 1)))
    for direction, expected in zip(basis(at(point)), point.hessian, strict=True):
        batch = ad.vmap(lambda row, v=direction: nest(loss_of(point), row, v))(x)
        check(batch, expected, nest.__name__)


@pytest.mark.parametrize("nest", NESTS[:3], ids=lambda f: f.__name__)
@second_points
def test_second_order_deferred(point, nest):
    x = many(point)
    for direction, expected in zip(basis(x), point.hessian, strict=True):
        check(nest(loss_of(point), x, direction), expected, nest.__name__)


@pytest.mark.parametrize("nest", NESTS[:3], ids=lambda f: f.__name__)
@second_points
def test_second_order_compiled(point, nest):
    f = ad.compile(lambda x, v: nest(loss_of(point), x, v))
    for x in (at(point), many(point)):
        for direction, expected in zip(basis(x), point.hessian, strict=True):
            check(f(x, direction), expected, nest.__name__)


@points
def test_order_two_never_raises(point):
    """Where the value is left undefined, asking for it still gives a value."""
    x = at(point)
    for nest in NESTS:
        nest(loss_of(point), x, next(iter(basis(x)))).numpy()


# ---- order 3, and points of float32 -------------------------------------------------------------


def test_third_order():
    cube = ad.grad(ad.grad(ad.grad(lambda x: x**3)))
    assert cube(0.0).item() == 6.0
    assert ad.grad(ad.grad(ad.grad(lambda x: (ad.sqrt(x) - 1) ** 2)))(1.0).item() == -0.75


@pytest.mark.parametrize("x", [0.3, 2.5, 40.0, -0.5, -3.25])
def test_lgamma_has_every_order(x):
    """Against the polygamma functions of mpmath; both modes, one inside the other."""
    reverse = forward = ad.lgamma
    for order in range(5):
        reverse = ad.grad(reverse)
        forward = lambda v, f=forward: ad.jvp(f, (v,), (ad.ones_like(v),))[1]  # noqa: E731
        exact = float(mpmath.polygamma(order, x))
        assert reverse(x).item() == pytest.approx(exact, rel=1e-14)
        assert forward(ad.tensor(x)).item() == pytest.approx(exact, rel=1e-14)


def test_third_order_of_prod_with_zeros():
    x = ad.tensor([0.0, 0.0, 0.0, 5.0])
    third = ad.jacobian(ad.hessian(ad.prod))(x).numpy()
    expected = np.zeros((4, 4, 4))
    for index in itertools.permutations(range(3)):
        expected[index] = 5.0
    np.testing.assert_array_equal(third, expected)


@pytest.mark.parametrize("point", [p for p in POINTS if "1e" not in str(p)], ids=str)
def test_float32(point):
    x = ad.asarray(np.array(point.x, dtype="float32"))
    actual = ad.grad(loss_of(point))(x)
    assert actual.dtype is ad.float32
    np.testing.assert_allclose(actual.numpy(), point.gradient, rtol=1e-6, atol=1e-7)


# ---- what has no derivative ---------------------------------------------------------------------


def test_the_gradient_of_an_integer_tensor_is_an_error():
    with pytest.raises(TypeError, match="int64 has no derivative"):
        ad.grad(lambda x: ad.sum(x))(ad.tensor([1, 2]))
    with pytest.raises(TypeError, match="int64"):
        ad.tensor([1, 2], requires_grad=True)


def test_integer_and_bool_results_have_derivative_zero():
    def f(x):
        steps = ad.astype(ad.astype(x, ad.int64), ad.float64)
        return ad.sum(steps * x) + ad.sum(ad.astype(ad.argmax(x), ad.float64))

    assert ad.grad(f)(ad.tensor([1.5, 2.5])).numpy().tolist() == [1.0, 2.0]
    assert ad.jvp(f, (ad.tensor([1.5, 2.5]),), (ad.tensor([1.0, 10.0]),))[1].item() == 21.0


def test_an_unconnected_gradient_is_zeros():
    g = ad.grad(lambda x, y: ad.sum(y), argnums=(0, 1))(ad.ones(3), ad.ones(2))
    assert g[0].numpy().tolist() == [0, 0, 0] and g[1].numpy().tolist() == [1, 1]
