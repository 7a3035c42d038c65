"""Taylor series through steps, and where a coefficient or a factorial leaves the range of the
dtype."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from mpmath import mp

import adjoint as ad

# f, and its derivatives of all orders at 2.5 but for the value's own: it is constant nearby.
STEPS = {
    "cast": (lambda x: ad.astype(ad.astype(x, ad.int64), ad.float64), 2.0),
    "narrow cast": (lambda x: ad.astype(ad.astype(x * 10, ad.uint8), ad.float64), 25.0),
    "cast to bool": (lambda x: ad.astype(ad.astype(x, ad.bool), ad.float64), 1.0),
    "integer arithmetic": (
        lambda x: ad.astype(ad.astype(x * 7, ad.int32) // 2 + 1, ad.float64),
        9.0,
    ),
    "comparison": (lambda x: ad.astype(x > 1.0, ad.float64), 1.0),
    "floor": (ad.floor, 2.0),
    "ceil": (ad.ceil, 3.0),
    "round": (ad.round, 2.0),
    "trunc": (ad.trunc, 2.0),
    "sign": (ad.sign, 1.0),
    "floor_divide": (lambda x: ad.floor_divide(x, 0.7), 3.0),
    "rounded cast": (lambda x: ad.astype(ad.round(ad.astype(x, ad.int64)), ad.float64), 2.0),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_constants_of_the_series(name):
    step, height = STEPS[name]

    def f(x):
        return step(x) * ad.exp(x)

    got = [d.item() for d in ad.taylor(f, (2.5,), (1.0,), 4)]
    np.testing.assert_allclose(got, height * math.exp(2.5), rtol=1e-14)
    nested = f
    for want in got:
        assert nested(2.5).item() == pytest.approx(want, rel=1e-14)
        nested = ad.grad(nested)
    alone = [d.tolist() for d in ad.taylor(step, (2.5,), (1.0,), 3)]
    assert alone == [height, 0, 0, 0]


def test_integer_results_have_no_slope():
    got = ad.taylor(lambda x: ad.astype(x, ad.int64), (2.5,), (1.0,), 3)
    assert [d.item() for d in got] == [2, 0, 0, 0]


def beyond(derivative, dtype):
    """The exact derivative where it is a number of the dtype, else infinity with its sign."""
    limits = np.finfo(dtype)
    if abs(derivative) > limits.max:
        return math.copysign(math.inf, derivative)
    return float(derivative) if abs(derivative) >= limits.smallest_subnormal else 0.0


# Function, point, and derivative of order k at the point.
HIGH = {
    "exp": (ad.exp, 0.0, lambda k: mp.mpf(1)),
    "exp of more": (lambda x: ad.exp(x * 30.0), 0.0, lambda k: mp.mpf(30) ** k),
    "sin": (ad.sin, 0.0, lambda k: mp.mpf((0, 1, 0, -1)[k % 4])),
    "cosh": (ad.cosh, 0.0, lambda k: mp.mpf(1 - k % 2)),
    "1 / (1 + x)": (lambda x: 1.0 / (1.0 + x), 0.0, lambda k: (-1) ** k * mp.factorial(k)),
    "1 / (100 - x)": (
        lambda x: 1.0 / (100.0 - x),
        0.0,
        lambda k: mp.factorial(k) / mp.mpf(100) ** (k + 1),
    ),
    "log": (
        ad.log,
        1.0,
        lambda k: (-1) ** (k - 1) * mp.factorial(k - 1) if k else mp.mpf(0),
    ),
    "polynomial": (
        lambda x: x * x * x,
        2.0,
        lambda k: mp.mpf((8, 12, 12, 6)[k] if k < 4 else 0),
    ),
}


@pytest.mark.parametrize("name", HIGH)
@pytest.mark.parametrize(("dtype", "order"), [("float64", 230), ("float32", 80)])
def test_orders_whose_factorial_overflows(name, dtype, order):
    f, at, exact = HIGH[name]
    kind = getattr(ad, dtype)
    point, unit = ad.tensor(at, dtype=kind), ad.tensor(1.0, dtype=kind)
    got = [d.item() for d in ad.taylor(f, (point,), (unit,), order)]
    with mp.workdps(30):
        want = [beyond(exact(k), dtype) for k in range(order + 1)]
    rtol = 1e-11 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(got, want, rtol=rtol, atol=4 * np.finfo(dtype).smallest_subnormal)


def test_orders_below_have_the_bits_of_one_factorial():
    """Whatever the highest order: what is asked for beyond changes nothing before."""
    few = ad.taylor(ad.tanh, (0.3,), (1.0,), 40)
    many = ad.taylor(ad.tanh, (0.3,), (1.0,), 200)
    assert [d.item() for d in many[:41]] == [d.item() for d in few]
    with mpmath.workdps(60):
        for k in (3, 10, 20):
            assert few[k].item() == pytest.approx(float(mp.diff(mp.tanh, 0.3, k)), rel=1e-9)


def test_a_factor_of_zero_hides_an_infinite_slope():
    """As in forward and reverse mode: 0 times what has an infinite slope is 0 to every order."""
    for f, point, want in (
        (lambda x: 0.0 * ad.sqrt(x), 0.0, [0.0, 0.0, 0.0]),
        (lambda x: 0.0 / x, 1e-200, [0.0, 0.0, 0.0]),
        (lambda x: ad.sum(ad.tensor([0.0, 2.0]) * ad.stack([ad.cbrt(x), x])), 0.0, [0.0, 2.0, 0.0]),
    ):
        for mode in (
            ad.taylor,
            lambda f, *rest: ad.compile(lambda x: ad.taylor(f, (x,), *rest[1:]))(*rest[0]),
        ):
            assert [t.item() for t in mode(f, (ad.tensor(point),), (ad.tensor(1.0),), 2)] == want
