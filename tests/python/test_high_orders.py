"""Derivatives of orders 1 to 8 of composed scalar functions, against mpmath at 50 digits."""

from __future__ import annotations

from types import SimpleNamespace

import mpmath
import pytest

import adjoint as ad

ORDERS = 8

ours = ad
exact = SimpleNamespace(
    **{name: getattr(mpmath, name) for name in "exp log sin cos tan tanh sqrt erf atan".split()},
    **{name: getattr(mpmath, name) for name in "expm1 log1p asin acosh sinh digamma".split()},
    lgamma=mpmath.loggamma,
    pow=lambda x, y: mpmath.mpmathify(x) ** y,
    square=lambda x: x * x,
    reciprocal=lambda x: 1 / x,
    rsqrt=lambda x: 1 / mpmath.sqrt(x),
    cbrt=mpmath.cbrt,
    sigmoid=lambda x: 1 / (1 + mpmath.exp(-x)),
    softplus=lambda x: mpmath.log(1 + mpmath.exp(x)),
    hypot=mpmath.hypot,
    atan2=mpmath.atan2,
    exp2=lambda x: mpmath.mpf(2) ** x,
)

# name -> (a function of a library and a number, where)
FUNCTIONS = {
    "exp(sin x)": (lambda m, x: m.exp(m.sin(x)), 0.7),
    "log(1 + x²)": (lambda m, x: m.log(1 + x * x), 0.6),
    "tanh(x) / x": (lambda m, x: m.tanh(x) / x, 0.9),
    "x^x": (lambda m, x: m.pow(x, x), 1.3),
    "√(1 + e^x)": (lambda m, x: m.sqrt(1 + m.exp(x)), 0.4),
    "erf(x) cos x": (lambda m, x: m.erf(x) * m.cos(x), 0.5),
    "lgamma(2 + x²)": (lambda m, x: m.lgamma(2 + x * x), 0.8),
    "atan(x³)": (lambda m, x: m.atan(x * x * x), 0.9),
    "1 / (1 + sin² x)": (lambda m, x: 1 / (1 + m.square(m.sin(x))), 0.3),
    "tan(x / 2) log x": (lambda m, x: m.tan(x / 2) * m.log(x), 1.4),
    "σ(x) softplus(x)": (lambda m, x: m.sigmoid(x) * m.softplus(x), -0.3),
    "x^2.5 / ∛x": (lambda m, x: m.pow(x, 2.5) / m.cbrt(x), 1.7),
    "asin(x / 3) sinh x": (lambda m, x: m.asin(x / 3) * m.sinh(x), 0.8),
    "expm1(x) log1p(x)": (lambda m, x: m.expm1(x) * m.log1p(x), 0.5),
    "acosh(1 + e^x)": (lambda m, x: m.acosh(1 + m.exp(x)), 0.2),
    "hypot(x, e^x) atan2(x, 2 + x)": (lambda m, x: m.hypot(x, m.exp(x)) * m.atan2(x, 2 + x), 0.6),
    "2^x rsqrt(x + 1)": (lambda m, x: m.exp2(x) * m.rsqrt(x + 1), 0.9),
    "digamma(x) reciprocal(x)": (lambda m, x: m.digamma(x) * m.reciprocal(x), 2.3),
}


def reverse(f):
    return ad.grad(f)


def forward(f):
    return lambda x: ad.jvp(f, (x,), (ad.ones_like(x),))[1]


NESTINGS = {
    "reverse": [reverse] * ORDERS,
    "forward": [forward] * ORDERS,
    "forward over reverse": [reverse, forward] * (ORDERS // 2),
    "reverse over forward": [forward, reverse] * (ORDERS // 2),
    "reverse inside": [reverse] * 4 + [forward] * 4,
    "forward inside": [forward] * 4 + [reverse] * 4,
}


@pytest.fixture(scope="module")
def derivatives():
    """The exact ones, by function."""
    found = {}
    with mpmath.workdps(50):
        for name, (f, x) in FUNCTIONS.items():
            series = mpmath.taylor(lambda t, f=f: f(exact, t), mpmath.mpf(x), ORDERS)
            found[name] = [float(c * mpmath.factorial(n)) for n, c in enumerate(series)]
    return found


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_orders_one_to_eight(name, nesting, derivatives):
    f, at = FUNCTIONS[name]
    derivative = lambda x: f(ours, x)  # noqa: E731
    x = ad.tensor(at)
    assert derivative(x).item() == pytest.approx(derivatives[name][0], rel=1e-14)
    for order, step in enumerate(NESTINGS[nesting], 1):
        derivative = step(derivative)
        assert derivative(x).item() == pytest.approx(derivatives[name][order], rel=1e-10), order


@pytest.mark.parametrize("name", FUNCTIONS)
def test_taylor_series(name, derivatives):
    f, at = FUNCTIONS[name]
    series = ad.taylor(lambda x: f(ours, x), (at,), (1.0,), ORDERS)
    for order, value in enumerate(series):
        assert value.item() == pytest.approx(derivatives[name][order], rel=1e-10), order
