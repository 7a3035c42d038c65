"""Values of a few bytes live in their node, unless they are part of a larger one: no view shows it.

A view of the one kind is a copy, of the other it is strided. Every view, alone and followed by
others, is taken of both, in every mode; NumPy says what it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

DTYPES = ["float64", "float32", "int64", "int32", "bool"]
SHAPES = [(1,), (2,), (3,), (4,), (5,), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 4)]

# For NumPy and for tensors alike.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "flip": lambda x: x[::-1],
    "transpose": lambda x: x.T if x.ndim == 2 else x,
    "last": lambda x: x[-1:],
    "every other": lambda x: x[::2],
    "column": lambda x: x[..., :1],
    "back columns": lambda x: x[..., ::-1],
    "axis": lambda x: x[None],
    "line": lambda x: x.reshape((-1,)),
}


def places(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The same value, in its node and in three ways as a part of a larger one."""
    rows = np.stack([np.ones_like(value), value, np.zeros_like(value)])
    wide = np.stack([value, np.ones_like(value)], axis=-1)
    return {
        "own": ad.tensor(value),
        "row": ad.tensor(rows)[1],
        "strided": ad.tensor(wide)[..., 0],
        "turned": ad.tensor(np.ascontiguousarray(rows[:, ::-1]))[1][::-1],
    }


def run(x: Any, first: Any, second: Any) -> tuple[Any, Any, Any]:
    y = first(x)
    z = second(y)
    w = ad.where(z == z, z, z) if isinstance(x, ad.Tensor) else z
    return y, z, w


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_views(shape: tuple[int, ...], dtype: str) -> None:
    value = (np.arange(np.prod(shape)).reshape(shape) % 3).astype(dtype)
    for first in VIEWS.values():
        for second in VIEWS.values():
            want = run(value, first, second)
            now = lambda x, a=first, b=second: run(x, a, b)  # noqa: E731
            compiled = ad.compile(now)
            for name, x in places(value).items():
                for mode in (now, compiled, ad.vmap(now), ad.compile(ad.vmap(now))):
                    mapped = mode not in (now, compiled)
                    got = mode(x[None] if mapped else x)
                    for a, b in zip(got, want, strict=True):
                        a = a[0] if mapped else a
                        assert a.shape == b.shape, (name, mode)
                        np.testing.assert_array_equal(a.numpy(), b, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slopes(shape: tuple[int, ...]) -> None:
    """Of sum(sin(x - view(x))): a group reads a view by the strides that the plan has."""
    rng = np.random.default_rng(5)
    value = rng.standard_normal(shape)
    for view in (v for n, v in VIEWS.items() if n in ("flip", "back columns", "transpose")):
        if view(value).shape != shape:
            continue
        weights = rng.standard_normal(shape)
        f = lambda x, v=view, w=weights: ad.sum(ad.sin(x - v(x)) * ad.tensor(w))  # noqa: E731
        slope = np.cos(value - view(value)) * weights
        want = slope - view(slope)  # each of these views is its own inverse
        for x in places(value).values():
            for mode in (ad.grad(f), ad.compile(ad.grad(f)), ad.grad(ad.compile(f))):
                np.testing.assert_allclose(mode(x).numpy(), want, rtol=1e-13, atol=1e-13)
