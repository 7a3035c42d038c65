"""Loops whose bodies are groups run in place: one memory is read and another written, step by step.

What can go wrong is which memory that is, so the bodies here move values about: they exchange
them, hand them on late or not at all, give one twice, or give what no step makes. NumPy's plain
loop is the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

Body = Callable[[Any, Any, Any], tuple[Any, Any]]

# Written for NumPy and for tensors alike: (carry of three, row, captured) -> (carry, result).
BODIES: dict[str, Body] = {
    "own": lambda c, x, k: ((c[0] + x, c[1] * k, c[2] - c[0]), c[0] * x),
    "exchanged": lambda c, x, k: ((c[1], c[0], c[2] + x), c[2]),
    "turned": lambda c, x, k: ((c[1], c[2], c[0]), c[0] + x),
    "late": lambda c, x, k: ((c[1], c[2], c[0] + c[1] * k), c[0]),
    "kept": lambda c, x, k: ((c[0], c[1], c[2] + c[0] * x), c[1]),
    "all kept": lambda c, x, k: (c, c[0] + x),
    "twice": lambda c, x, k: ((c[0] + x,) * 2 + (c[2] * k,), c[2]),
    "result is carry": lambda c, x, k: ((y := c[0] * k + x, c[1] + y, c[0]), y),
    "row": lambda c, x, k: ((x, c[0], c[1]), c[2]),
    "captured": lambda c, x, k: ((k, c[0] + k, c[1]), x),
    "constant": lambda c, x, k: ((c[0] * 0 + 2, c[0], c[1] + 1), c[2]),
    "in one group and another": lambda c, x, k: (
        ((c[0] - c[0].sum()) * k, c[1] + (c[0] * x).sum(), c[2] + c[1].max()),
        c[0].sum() + x,
    ),
}
SHAPES = [(), (1,), (2,), (3, 2), (5, 40), (3000,)]


def plain(body: Body, carry: Any, xs: Any, k: Any, reverse: bool) -> tuple[Any, Any]:
    rows = [None] * len(xs)
    for i in reversed(range(len(xs))) if reverse else range(len(xs)):
        carry, y = body(carry, xs[i], k)
        carry = tuple(np.broadcast_to(c, k.shape) for c in carry)
        rows[i] = np.broadcast_to(y, k.shape)
    return carry, np.array(rows)


def data(shape: tuple[int, ...], steps: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(len(shape) + steps)
    carry = tuple(rng.uniform(-1, 1, shape) for _ in range(3))
    return carry, rng.uniform(-1, 1, (steps, *shape)), rng.uniform(-0.5, 0.5, shape)


def shaped(body: Body) -> Body:
    def f(c: Any, x: Any, k: Any) -> tuple[Any, Any]:
        carry, y = body(c, x, k)
        return tuple(ad.broadcast_to(v, k.shape) for v in carry), ad.broadcast_to(y, k.shape)

    return f


def scanned(body: Body, reverse: bool) -> Any:
    @ad.compile
    def run(carry: Any, xs: Any, k: Any) -> Any:
        return ad.scan(lambda c, x: body(c, x, k), carry, xs, reverse=reverse)

    return run


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BODIES)
def test_scan(name: str, shape: tuple[int, ...]) -> None:
    body = shaped(BODIES[name])
    for steps in (1, 2, 3, 6):
        carry, xs, k = data(shape, steps)
        for reverse in (False, True):
            run = scanned(body, reverse)
            want, rows = plain(BODIES[name], carry, xs, k, reverse)
            given = [ad.tensor(c) for c in carry]
            for _ in range(2):  # and what was given is as it was
                last, ys = run(tuple(given), ad.tensor(xs), ad.tensor(k))
                for got, expected in zip((*last, ys), (*want, rows), strict=True):
                    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)
            for before, t in zip(carry, given, strict=True):
                np.testing.assert_array_equal(t.numpy(), before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BODIES)
def test_while_loop(name: str, shape: tuple[int, ...]) -> None:
    body = shaped(BODIES[name])
    carry, _, k = data(shape, 1)
    x = np.full(shape, 0.25)
    for steps in (0, 1, 2, 5):
        run = ad.compile(
            lambda carry, x, k, n: ad.while_loop(
                lambda s: s[0] < n, lambda s: (s[0] + 1, body(s[1], x, k)[0]), (0, carry)
            )
        )
        want: Any = carry
        for _ in range(steps):
            want = tuple(np.broadcast_to(c, shape) for c in BODIES[name](want, x, k)[0])
        i, last = run(tuple(map(ad.tensor, carry)), ad.tensor(x), ad.tensor(k), ad.tensor(steps))
        assert i.item() == steps
        for got, expected in zip(last, want, strict=True):
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BODIES)
def test_slopes_by_differences(name: str) -> None:
    """Of a sum over all results; the sweep's loop runs in place, too."""
    body = shaped(BODIES[name])
    carry, xs, k = data((2,), 4)
    weights = np.random.default_rng(3).uniform(0.5, 1, (4, 2))

    def value(carry: Any, xs: Any, k: Any) -> Any:
        last, ys = plain(BODIES[name], tuple(carry), xs, k, False)
        return (
            sum((w * c).sum() for w, c in zip(weights, last, strict=False)) + (weights * ys).sum()
        )

    @ad.compile
    def loss(carry: Any, xs: Any, k: Any) -> Any:
        last, ys = ad.scan(lambda c, x: body(c, x, k), (carry[0], carry[1], carry[2]), xs)
        w = ad.tensor(weights)
        return ad.sum(w[:3] * ad.stack(last)) + ad.sum(w * ys)

    point = [np.stack(carry), xs, k]
    got = ad.grad(loss, argnums=(0, 1, 2))(*map(ad.tensor, point))
    for at, slope in enumerate(got):
        want = np.empty_like(point[at])
        for index in np.ndindex(want.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [p.copy() for p in point]
                moved[at][index] += step
                sides.append(value(*moved))
            want[index] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(slope.numpy(), want, rtol=1e-7, atol=1e-8)


def test_strided_and_repeated_inputs() -> None:
    xs = np.arange(24.0).reshape(4, 3, 2)
    run = ad.compile(lambda c, xs, k: ad.scan(lambda c, x: (c * k + x, c - x), c, xs))
    start, k = ad.tensor(np.ones((3, 2))).T, ad.broadcast_to(ad.tensor(0.5), (2, 3))
    last, ys = run(start, ad.tensor(xs).mT, k)
    c, rows = np.ones((2, 3)), []
    for x in xs.transpose(0, 2, 1):
        rows.append(c - x)
        c = c * 0.5 + x
    np.testing.assert_array_equal(last.numpy(), c)
    np.testing.assert_array_equal(ys.numpy(), np.array(rows))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_dtypes(dtype: str) -> None:
    start = np.array([1, 0, 3]).astype(dtype)
    xs = np.array([[1, 2, 0], [0, 5, 7]]).astype(dtype)
    last, ys = ad.compile(lambda c, xs: ad.scan(lambda c, x: (ad.where(x > c, x, c), c), c, xs))(
        ad.tensor(start), ad.tensor(xs)
    )
    assert str(last.dtype).endswith(dtype)
    np.testing.assert_array_equal(last.numpy(), np.maximum(np.maximum(start, xs[0]), xs[1]))
    np.testing.assert_array_equal(ys.numpy(), np.array([start, np.maximum(start, xs[0])]))
