"""First and second derivatives of the elementary functions over all that a dtype holds, in relative
error: in the tails, near zero, at the edges of the domain, for the largest numbers and the least.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import mp

import adjoint as ad
from derivative_range import ALL, Slopes, arguments

every_function = pytest.mark.parametrize("name", ALL)
both_floats = pytest.mark.parametrize("dtype", ["float32", "float64"])


def derivative(name, path, args):
    """The derivative of the sum in the operands of `path`, one after another."""
    f = getattr(ad, name)
    for i in path:
        f = (lambda g, i: lambda *x: ad.grad(lambda *x: ad.sum(g(*x)), i)(*x))(f, i)
    return f(*args)


def errors(slopes: Slopes, path, points, got, dtype):
    """In ulp of the exact value, beyond what `slopes` says is lost; 0 where it overflows as it
    should."""
    kind = np.finfo(dtype)
    largest, normal = float(kind.max), float(kind.smallest_normal)
    least, digits = float(kind.smallest_subnormal), kind.nmant
    out = np.zeros(len(got))
    order = len(path)
    with mp.workdps(60):
        for n, (x, value) in enumerate(zip(zip(*points, strict=True), got, strict=True)):
            x = tuple(mp.mpf(float(v)) for v in x)
            exact = slopes.exact[path](*x)
            parts = slopes.parts(order, *x)
            if any(p != 0 and not normal <= abs(p) <= largest for p in parts):
                continue
            if np.isinf(value) and abs(exact) > largest / 4 and (value > 0) == (exact > 0):
                continue
            if not np.isfinite(value):
                out[n] = np.inf
                continue
            size = abs((slopes.terms or {}).get(path, slopes.exact[path])(*x))
            _, exponent = mpmath.frexp(size) if size else (0, -10000)
            ulp = max(mp.ldexp(1, exponent - 1 - digits), mp.mpf(least) * slopes.floor)
            out[n] = max(float(abs(mp.mpf(float(value)) - exact) / ulp) - slopes.lost(*x), 0)
    return out


@both_floats
@every_function
def test_derivatives_keep_their_digits(name, dtype):
    slopes = ALL[name]
    points = arguments(slopes, dtype)
    args = [ad.asarray(p) for p in points]
    for path in slopes.exact:
        got = derivative(name, path, args).numpy()
        error = errors(slopes, path, points, got, dtype)
        worst = int(np.argmax(error))
        bound = slopes.bounds[len(path) - 1]
        assert error[worst] <= bound, (
            f"d{path} {name} at {[p[worst] for p in points]}: {got[worst]!r} is {error[worst]} ulp "
            f"off, the bound is {bound}; {int((error > bound).sum())} of {len(error)} points"
        )
