"""First and second derivatives of the elementary functions over all that a dtype holds, in relative
error: in the tails, near zero, at the edges of the domain, for the largest numbers and the least.
"""

from __future__ import annotations

import functools

import mpmath
import numpy as np
import pytest
from mpmath import mp

import adjoint as ad
from derivative_range import ALL, UNARY, arguments

every_function = pytest.mark.parametrize("name", ALL)
both_floats = pytest.mark.parametrize("dtype", ["float32", "float64"])


def derivative(name, path, args):
    """The derivative of the sum in the operands of `path`, one after another."""

    def of(f, i):
        return ad.grad(lambda *x: ad.sum(f(*x)), i)

    return functools.reduce(of, path, getattr(ad, name))(*args)


@functools.cache
def exact_values(name, path, dtype):
    """For each point the exact value, the ulp to count in, and whether something is promised."""
    slopes, kind = ALL[name], np.finfo(dtype)
    largest, normal = float(kind.max), float(kind.smallest_normal)
    least, digits = float(kind.smallest_subnormal), kind.nmant
    out = []
    with mp.workdps(60):
        for x in zip(*arguments(slopes, dtype), strict=True):
            x = tuple(mp.mpf(float(v)) for v in x)
            exact = slopes.exact[path](*x)
            parts = slopes.parts(len(path), *x)
            kept = all(p == 0 or normal <= abs(p) <= largest for p in parts)
            size = abs((slopes.terms or {}).get(path, slopes.exact[path])(*x))
            exponent = mpmath.frexp(size)[1] if size else -10000
            ulp = max(mp.ldexp(1, exponent - 1 - digits), mp.mpf(least) * slopes.floor)
            out.append((exact, ulp, slopes.lost(*x), kept))
    return out


def errors(name, path, got, dtype):
    """In ulp of the exact value, beyond what the table says is lost."""
    largest = float(np.finfo(dtype).max)
    out = np.zeros(len(got))
    for n, (value, point) in enumerate(zip(got, exact_values(name, path, dtype), strict=True)):
        exact, ulp, lost, kept = point
        overflows = abs(exact) > largest / 4 and np.isinf(value) and (value > 0) == (exact > 0)
        if not kept or overflows:
            continue
        if not np.isfinite(value):
            out[n] = np.inf
            continue
        with mp.workdps(60):
            out[n] = max(float(abs(mp.mpf(float(value)) - exact) / ulp) - lost, 0)
    return out


@both_floats
@every_function
def test_derivatives_keep_their_digits(name, dtype):
    slopes = ALL[name]
    points = arguments(slopes, dtype)
    args = [ad.asarray(p) for p in points]
    for path in slopes.exact:
        got = derivative(name, path, args).numpy()
        error = errors(name, path, got, dtype)
        worst = int(np.argmax(error))
        bound = slopes.bounds[len(path) - 1]
        assert error[worst] <= bound, (
            f"d{path} {name} at {[p[worst] for p in points]}: {got[worst]!r} is {error[worst]} ulp "
            f"off, the bound is {bound}; {int((error > bound).sum())} of {len(error)} points"
        )


def same_bits(a, b):
    return np.array_equal(a.view(np.uint8), b.view(np.uint8))


@both_floats
@every_function
def test_bits_do_not_depend_on_the_way_it_runs(name, dtype):
    """Few elements run now; many are deferred, and fused with what is around them."""
    points = arguments(ALL[name], dtype)
    few = [ad.asarray(p) for p in points]
    copies = (1 << 15) // len(points[0]) + 1
    many = [ad.asarray(np.tile(p, copies)) for p in points]
    for path in ALL[name].exact:
        want = derivative(name, path, few).numpy()
        compiled = ad.compile(lambda *x, path=path: derivative(name, path, x))
        for way, got in (
            ("deferred", derivative(name, path, many)),
            ("compiled", compiled(*few)),
            ("compiled and large", compiled(*many)),
        ):
            rows = got.numpy().reshape(-1, len(want))
            # The sign of a nan is nobody's promise.
            assert same_bits(np.nan_to_num(rows), np.nan_to_num(np.tile(want, (len(rows), 1)))), way


@both_floats
@pytest.mark.parametrize("name", UNARY)
def test_forward_mode_keeps_the_digits_too(name, dtype):
    slopes = ALL[name]
    points = arguments(slopes, dtype)
    x = ad.asarray(points[0])
    f = getattr(ad, name)
    first = ad.jvp(f, (x,), (ad.ones_like(x),))[1]
    second = ad.jvp(lambda x: ad.jvp(f, (x,), (ad.ones_like(x),))[1], (x,), (ad.ones_like(x),))[1]
    for path, got in (((0,), first), ((0, 0), second)):
        error = errors(name, path, got.numpy(), dtype)
        assert error.max() <= slopes.bounds[len(path) - 1], points[0][int(np.argmax(error))]


@pytest.mark.parametrize("f", [ad.tanh, ad.sigmoid, ad.silu, ad.erf, ad.atan, ad.asinh, ad.hypot])
def test_higher_orders_at_zero(f):
    """Even functions of the argument's size have derivatives at 0 that a rule in |x| would lose."""
    exact = {
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "erf": mp.erf,
        "atan": mp.atan,
        "asinh": mp.asinh,
        "hypot": lambda x: mp.sqrt(x * x + 1),
    }[f.__name__]
    g = (lambda x: ad.hypot(x, 1.0)) if f is ad.hypot else f
    series = [d.item() for d in ad.taylor(g, (0.0,), (1.0,), 7)]
    nested = g
    with mp.workdps(40):
        for order in range(6):
            want = float(mp.diff(exact, 0, order))
            assert abs(nested(0.0).item() - want) < 1e-9 * max(1, abs(want)), order
            assert abs(series[order] - want) < 1e-9 * max(1, abs(want)), order
            nested = ad.grad(nested)


@both_floats
def test_the_difference_in_logaddexp_is_not_rounded(dtype):
    """A power of e of a rounded difference would lose as many ulp as that is large."""
    rng = np.random.default_rng(5)
    reach = 80 if dtype == "float32" else 690
    a = np.concatenate([[-64.85, -577.4][dtype == "float64" :][:1], rng.uniform(-reach, 0, 300)])
    b = np.concatenate([[0.332, 0.666][dtype == "float64" :][:1], rng.uniform(0, 5, 300)])
    a, b = a.astype(dtype), b.astype(dtype)
    eps = float(np.finfo(dtype).eps)
    slope, curve = (
        derivative("logaddexp", path, [ad.asarray(a), ad.asarray(b)]).numpy()
        for path in ((0,), (0, 1))
    )
    with mp.workdps(50):
        for x, y, first, second in zip(a, b, slope, curve, strict=True):
            s = 1 / (1 + mp.exp(mp.mpf(float(y)) - mp.mpf(float(x))))
            assert abs(mp.mpf(float(first)) / s - 1) < 5 * eps, (x, y)
            assert abs(mp.mpf(float(second)) / (s * (s - 1)) - 1) < 8 * eps, (x, y)
