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
