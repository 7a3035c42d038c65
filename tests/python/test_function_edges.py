"""What functions give at nan, infinities, -0.0 and where parts of a result leave the range."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest

import adjoint as ad

INF, NAN = math.inf, math.nan


def nth(f: Callable[..., Any], order: int) -> Callable[..., Any]:
    for _ in range(order):
        f = ad.grad(f)
    return f


def along(f: Callable[..., Any], argument: int) -> Callable[..., Any]:
    """The derivative in one argument by forward mode."""

    def slope(*args: Any) -> Any:
        primals = tuple(map(ad.asarray, args))
        tangents = tuple(
            ad.ones(()) if i == argument else ad.zeros(()) for i in range(len(primals))
        )
        return ad.jvp(f, primals, tangents)[1]

    return slope


# ---- products -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_short_products_go_from_element_to_element(axis):
    for row in (
        [1e200, 1e-200, 1e200, 1e-200],
        [1e200, 1e-200] * 4,
        [1e200, 1e200, 1e-200],
        [0.0, 1e200, 1e200],
        [1e-200, 1e-200, 1e200],
    ):
        x = np.array([row, row[::-1]])
        x = x if axis == 1 else x.T
        with np.errstate(all="ignore"):
            expected = np.array([np.multiply.accumulate(r)[-1] for r in (x if axis == 1 else x.T)])
        for f in (partial(ad.prod, axis=axis), ad.compile(partial(ad.prod, axis=axis))):
            assert np.array_equal(f(ad.tensor(x)).numpy(), expected, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivatives_of_a_product_are_the_products_of_the_others(dtype):
    big = 1e200 if dtype == "float64" else 1e25
    small = 1 / big
    for x in (
        [big, small, big, small],
        [big, big, small, small],
        [small, small, big, big, 1.0],
        [big, big, small, small, 0.0],
        [small, -big, small, big, small, big, 3.0],
        [0.0, big, 0.0],
        [1.0] * 90,
    ):
        values = np.array(x, dtype)
        exact = [mpmath.mpf(float(v)) for v in values]
        expected = [float(mpmath.fprod(exact[:i] + exact[i + 1 :])) for i in range(len(x))]
        slope = ad.grad(ad.prod)(ad.tensor(values))
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(slope.numpy(), expected, rtol=len(x) * eps)
        unit = np.zeros(len(x), dtype)
        unit[0] = 1
        pushed = ad.jvp(ad.prod, (ad.tensor(values),), (ad.tensor(unit),))[1].item()
        np.testing.assert_allclose(pushed, expected[0], rtol=len(x) * eps)
    x = ad.tensor([2.0, 3.0, 5.0, 7.0])
    others = [[0 if i == j else 210 / (x[i] * x[j]).item() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(ad.hessian(ad.prod)(x).numpy(), others, rtol=1e-14)
    cube = np.arange(1.0, 9).reshape(2, 2, 2)
    whole = ad.grad(lambda t: ad.sum(ad.prod(t, axis=(0, 2))))(ad.tensor(cube)).numpy()
    np.testing.assert_allclose(whole, np.prod(cube, axis=(0, 2), keepdims=True) / cube, rtol=1e-14)


def test_running_products_stay_zero_after_a_zero():
    for x in (
        [0.0] + [1e100] * 8,
        [1e200, 1e-200, 1e200, 1e200, 1e-200],
        [1e-200, 1e200, 1e200, 1e-200, 1e-200, 1e-200],
        [2.0, -0.0, 3.0, -1.0],
        [NAN, 0.0, 2.0],
        [INF, 0.5, -1.0],
    ):
        with np.errstate(all="ignore"):
            expected = np.cumprod(x)
        for f in (ad.cumprod, ad.compile(ad.cumprod), ad.nancumprod):
            if f is ad.nancumprod:
                with np.errstate(all="ignore"):
                    expected = np.nancumprod(x)
            assert np.array_equal(f(ad.tensor(x)).numpy(), expected, equal_nan=True), x
    table = np.random.default_rng(0).normal(size=(3, 4, 5))
    for axis in (0, 1, 2):
        got = ad.cumulative_prod(ad.tensor(table), axis=axis)
        assert np.array_equal(got.numpy(), np.cumprod(table, axis=axis))
    whole = np.array([[3, 7, 11], [2**40, 2**30, 5]])
    assert np.array_equal(ad.cumprod(ad.tensor(whole), 1).numpy(), np.cumprod(whole, 1))


WEIGHTS = ad.tensor([1.0, 10.0, 100.0, 1000.0])
DIRECTION = ad.tensor([1.0, -2.0, 0.5, 3.0])


def running(t: Any) -> Any:
    return ad.sum(ad.cumprod(t) * WEIGHTS)


def written_out(t: Any) -> Any:
    a, b, c, d = (t[i] for i in range(4))
    return ad.sum(ad.stack([a, a * b, a * b * c, a * b * c * d]) * WEIGHTS)


@pytest.mark.parametrize(
    "values", [[2.0, 0.0, 3.0, -1.5], [0.0, 0.0, 2.0, 4.0], [1.5, 2.0, -0.5, 3.0], [0.0] * 4]
)
def test_derivatives_of_running_products_with_zeros(values):
    """Those of the polynomials that they are, in every mode and to order three."""
    x = ad.tensor(values)
    expected = [
        [np.prod(np.delete(values[: k + 1], i)) if i <= k else 0.0 for i in range(4)]
        for k in range(4)
    ]
    for mode in ("reverse", "forward"):
        np.testing.assert_allclose(ad.jacobian(ad.cumprod, mode=mode)(x).numpy(), expected)
    for transform in (
        ad.grad,
        ad.hessian,
        lambda f: lambda t: ad.hvp(f, t, DIRECTION),
        lambda f: ad.jacobian(ad.hessian(f), mode="forward"),
        lambda f: ad.jacobian(ad.hessian(f), mode="reverse"),
        lambda f: ad.compile(ad.hessian(f)),
    ):
        got, peer = transform(running)(x), transform(written_out)(x)
        np.testing.assert_allclose(got.numpy(), peer.numpy(), atol=1e-12)
    rows = ad.stack([x, 2.0 * x])
    batched = ad.vmap(ad.grad(running))(rows).numpy()
    np.testing.assert_allclose(batched[1], ad.grad(written_out)(rows[1]).numpy(), atol=1e-12)
