"""`linearize` and `taylor`, against mpmath and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import adjoint as ad

ORDER = 20

# name -> (the function, the same in mpmath, the point, the relative error allowed at order 20:
# 1e-10 where the function's own conditioning permits it).
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float, float]] = {
    "sin(exp(x))": (lambda x: ad.sin(ad.exp(x)), lambda x: mp.sin(mp.exp(x)), 0.4, 1e-11),
    "tanh(x)": (ad.tanh, mp.tanh, 0.9, 1e-10),
    "x**2.5 log(x)": (lambda x: x**2.5 * ad.log(x), lambda x: x**2.5 * mp.log(x), 1.3, 1e-10),
    "erf(sqrt(x))": (lambda x: ad.erf(ad.sqrt(x)), lambda x: mp.erf(mp.sqrt(x)), 0.8, 1e-12),
    "atan(x*x) + asin(x/2)": (
        lambda x: ad.atan(x * x) + ad.asin(x / 2),
        lambda x: mp.atan(x * x) + mp.asin(x / 2),
        0.7,
        1e-11,
    ),
    "lgamma(x*x + 1)": (
        lambda x: ad.lgamma(x * x + 1),
        lambda x: mp.loggamma(x * x + 1),
        0.7,
        1e-9,
    ),
    "exp(x) / (1 + x*x)": (
        lambda x: ad.exp(x) / (1 + x * x),
        lambda x: mp.exp(x) / (1 + x * x),
        0.2,
        1e-10,
    ),
    "x**x": (lambda x: x**x, lambda x: x**x, 1.3, 1e-11),
    "prod": (
        lambda x: ad.prod(ad.stack([x, x * x, ad.sin(x)])),
        lambda x: x**3 * mp.sin(x),
        0.6,
        1e-12,
    ),
    "matmul": (
        lambda x: ad.stack([x, x * x]) @ ad.stack([ad.sin(x), ad.exp(x)]),
        lambda x: x * mp.sin(x) + x * x * mp.exp(x),
        0.6,
        1e-12,
    ),
    "logsumexp": (
        lambda x: ad.log(ad.sum(ad.exp(ad.stack([x, x * x, ad.sin(x)])))),
        lambda x: mp.log(mp.exp(x) + mp.exp(x * x) + mp.exp(mp.sin(x))),
        0.6,
        1e-9,
    ),
    "max": (lambda x: ad.max(ad.stack([ad.cos(x), x])), mp.cos, 0.3, 1e-12),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_taylor_to_order_20(name: str) -> None:
    f, reference, x, rtol = FUNCTIONS[name]
    with mp.workdps(60):
        expected = [
            c * mp.factorial(k) for k, c in enumerate(mp.taylor(reference, mp.mpf(x), ORDER))
        ]
    found = ad.taylor(f, (x,), (1.0,), ORDER)
    assert len(found) == ORDER + 1
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert abs(mp.mpf(a.item()) - b) <= rtol * abs(b), f"order {k}: {a.item()} and {b}"


def test_taylor_along_a_direction() -> None:
    # f(x + t v) = sum (x + t v)^3: derivatives 3 x^2 v, 6 x v^2, 6 v^3, 0.
    x, v = np.array([1.0, -2.0, 0.0]), np.array([0.5, 1.0, 3.0])
    out = ad.taylor(lambda x: {"s": ad.sum(x**3)}, (ad.tensor(x),), (ad.tensor(v),), 4)
    expected = [x**3, 3 * x**2 * v, 6 * x * v**2, 6 * v**3, 0 * x]
    np.testing.assert_allclose([d["s"].item() for d in out], [e.sum() for e in expected])


def test_taylor_inside_of_other_transforms() -> None:
    f = lambda x: ad.sin(x) * ad.exp(x)  # noqa: E731
    # The k-th derivative of sin(x) exp(x) is 2^(k/2) sin(x + k pi/4) exp(x).
    kth = lambda k, x: 2 ** (k / 2) * np.sin(x + k * np.pi / 4) * np.exp(x)  # noqa: E731
    third = lambda x: ad.taylor(f, (x,), (1.0,), 3)[3]  # noqa: E731
    xs = np.array([0.3, -1.1])
    np.testing.assert_allclose(ad.grad(third)(0.3).item(), kth(4, 0.3), rtol=1e-13)
    np.testing.assert_allclose(ad.jvp(third, (0.3,), (1.0,))[1].item(), kth(4, 0.3), rtol=1e-13)
    for run in (ad.vmap(third), ad.compile(ad.vmap(third))):
        np.testing.assert_allclose(run(ad.tensor(xs)).numpy(), kth(3, xs), rtol=1e-13)
    nested = ad.taylor(lambda x: ad.taylor(f, (x,), (1.0,), 2)[2], (0.3,), (1.0,), 2)[2]
    np.testing.assert_allclose(nested.item(), kth(4, 0.3), rtol=1e-13)


def test_taylor_follows_what_the_function_closes_over() -> None:
    a = ad.tensor(2.0, requires_grad=True)
    ad.taylor(lambda x: ad.sin(a * x), (0.5,), (1.0,), 2)[2].backward()
    assert a.grad is not None  # d/da of -a^2 sin(a x)
    np.testing.assert_allclose(a.grad.item(), -4 * np.sin(1.0) - 4 * 0.5 * np.cos(1.0), rtol=1e-14)


@pytest.mark.parametrize(
    "f, expected",
    [
        (lambda x: ad.sin(ad.floor(x)), [np.sin(1.0), 0, 0]),
        (lambda x: ad.exp(ad.round(x)) * x, [1.5 * np.exp(2.0), np.exp(2.0), 0]),
        (
            lambda x: ad.cond(x > 0, lambda x: ad.sin(x), lambda x: x, x),
            [np.sin(1.5), np.cos(1.5), -np.sin(1.5)],
        ),
        (lambda x: ad.scan(lambda c, _: (c * x, None), x, length=3)[0], [1.5**4, 13.5, 27.0]),
        (
            lambda x: ad.while_loop(lambda y: y < 5, lambda y: y * y, x, max_steps=5),
            [1.5**4, 13.5, 27.0],
        ),
        (
            lambda x: ad.custom_root(lambda r, a: r**2 - a, lambda g, r: 1.5)(1.0, x * x),
            [1.5, 1.0, 0.0],
        ),
    ],
)
def test_taylor_of_steps_branches_loops_and_roots(f: Any, expected: list[float]) -> None:
    found = [d.item() for d in ad.taylor(f, (1.5,), (1.0,), 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def work(order: int) -> int:
    """Nodes that one more run of `taylor` makes."""
    f = lambda x: ad.exp(ad.sin(x)) / (1 + x * x)  # noqa: E731
    return len(ad.compile(lambda x: ad.taylor(f, (x,), (1.0,), order)[order]).program(0.4).graph)


def test_the_work_of_taylor_is_quadratic_in_the_order() -> None:
    assert work(40) - work(20) < 4.5 * (work(20) - work(10))


def test_linearize_runs_the_function_once() -> None:
    calls = 0

    def f(x: Any, y: Any) -> Any:
        nonlocal calls
        calls += 1
        if x[0] > 0:  # the values are there
            return ad.sin(x) * y, ad.sum(x)
        return x, ad.sum(y)

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    (value, total), push = ad.linearize(f, ad.tensor(x), ad.tensor(y))
    np.testing.assert_allclose(value.numpy(), np.sin(x) * y, rtol=1e-15)
    assert total.item() == 3.0
    for s, t in ((x, y), (y, x), (0 * x, x)):
        tangent, total = push(ad.tensor(s), ad.tensor(t))
        np.testing.assert_allclose(tangent.numpy(), np.cos(x) * y * s + np.sin(x) * t, rtol=1e-14)
        np.testing.assert_allclose(total.item(), s.sum())
    assert calls == 1


def test_linearize_in_other_transforms() -> None:
    x = np.array([1.0, 2.0])
    _, push = ad.linearize(lambda x: ad.sin(x) * x, ad.tensor(x))
    slope = np.cos(x) * x + np.sin(x)
    np.testing.assert_allclose(ad.vmap(push)(ad.eye(2)).numpy(), np.diag(slope), rtol=1e-14)
    np.testing.assert_allclose(
        ad.vjp(push, ad.ones(2))[1](ad.ones(2))[0].numpy(), slope, rtol=1e-14
    )
    again = ad.grad(lambda x: ad.sum(ad.linearize(lambda x: ad.sin(x) * x, x)[1](x)))
    second = 2 * np.cos(x) - x * np.sin(x)
    for run in (again, ad.compile(again)):
        np.testing.assert_allclose(run(ad.tensor(x)).numpy(), second * x + slope, rtol=1e-14)


def test_linearize_tells_a_value_from_its_stopped_copy() -> None:
    f = lambda x: ad.sum(ad.exp(x - ad.stop_gradient(x)) * x * x)  # noqa: E731
    found = ad.grad(lambda x: ad.linearize(f, x)[1](ad.tensor([1.0])))(ad.tensor([0.3]))
    # The tangent is exp(x - s) (x^2 + 2 x); its derivative at s = x is x^2 + 2 x + 2 x + 2.
    np.testing.assert_allclose(found.numpy(), [0.3**2 + 4 * 0.3 + 2], rtol=1e-14)


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"\[linearize\] a primal of dtype int64"):
        ad.linearize(lambda x: x, 1)
    with pytest.raises(TypeError, match=r"\[taylor\] needs the point"):
        ad.taylor(lambda: 1.0, (), (), 2)
    with pytest.raises(TypeError, match=r"\[taylor\] primals must be a tuple"):
        ad.taylor(ad.sin, 1.0, 1.0, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[taylor\] 1 primals, but 2 tangents"):
        ad.taylor(ad.sin, (1.0,), (1.0, 2.0), 2)
    with pytest.raises(ValueError, match=r"\[taylor\] order must not be negative"):
        ad.taylor(ad.sin, (1.0,), (1.0,), -1)
    with pytest.raises(ValueError, match=r"\[pushforward\].*shapes \(3,\) and \(2,\)"):
        ad.linearize(ad.sin, ad.ones(2))[1](ad.ones(3))
    with pytest.raises(TypeError, match="no value yet"):
        ad.taylor(lambda x: x if x > 0 else -x, (1.0,), (1.0,), 2)
