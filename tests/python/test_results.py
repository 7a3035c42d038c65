"""Applications with several results of different shapes and dtypes, in every nesting.

One function, written plainly and in every form that makes one application of it. Of its results,
one is used twice, one never, one is an integer; or only one of them is used at all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

X = np.array([0.3, 1.2, -0.7])
Y = np.array([2.0, 0.5, 1.5])


def plain(x: Any, y: Any) -> Any:
    """Return an array, a number in float32, an array that nothing uses, and places."""
    return ad.sin(x) * y, ad.astype(ad.sum(x * y), ad.float32), x * x, ad.argsort(x)


def pull(inputs: Any, cotangents: Any) -> Any:
    x, y = inputs
    a, b, c, _ = cotangents
    b = ad.astype(b, ad.float64)
    return a * ad.cos(x) * y + b * y + 2 * c * x, a * ad.sin(x) + b * x


@ad.custom_vjp
def by_vjp(x: Any, y: Any) -> Any:
    return plain(x, y)


by_vjp.defvjp(lambda x, y: (plain(x, y), (x, y)), pull)


@ad.custom_jvp
def by_jvp(x: Any, y: Any) -> Any:
    return plain(x, y)


@by_jvp.defjvp
def _rule(primals: Any, tangents: Any) -> Any:
    (x, y), (s, t) = primals, tangents
    out = plain(x, y)
    slope = s * ad.cos(x) * y + ad.sin(x) * t, ad.astype(ad.sum(s * y + x * t), ad.float32)
    return out, (*slope, 2 * x * s, out[3])


by_host = ad.host_op(
    lambda x, y: (np.sin(x) * y, np.sum(x * y).astype("f4"), x * x, np.argsort(x)),
    shape=lambda x, y: [x, ((), ad.float32), x, (x.shape, ad.int64)],
    vjp=lambda inputs, _, ct: pull(inputs, ct),
)


def by_scan(x: Any, y: Any) -> Any:
    """Return the same from one step of a loop, whose rows are the results."""
    _, rows = ad.scan(lambda c, _: (c, plain(*c)), (x, y), length=1)
    return tuple(row[0] for row in rows)


FORMS = {
    "vjp": by_vjp,
    "jvp": by_jvp,
    "checkpoint": ad.checkpoint(plain),
    "host": by_host,
    "compiled": ad.compile(plain),
    "scan": ad.compile(by_scan),
}


def mixed(f: Callable[..., Any]) -> Callable[..., Any]:
    def loss(x: Any, y: Any) -> Any:
        a, b, _, order = f(x, y)
        return ad.sum(a * a) * ad.astype(b, ad.float64) + a[order[0]]

    return loss


def alone(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: ad.astype(f(x, y)[1], ad.float64) ** 2


def unused(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: (f(x, y), ad.sum(x * y))[1]


def directional(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: ad.jvp(f, (x, y), (y, x))[1]


def rows(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: ad.vmap(f)(ad.stack([x, 2 * x]), ad.stack([y, x]))


NESTINGS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "value": lambda f: f,
    "grad": lambda f: ad.grad(f, argnums=(0, 1)),
    "jvp": directional,
    "hessian": lambda f: ad.hessian(f, argnums=(0, 1)),
    "jvp of jvp": lambda f: directional(directional(f)),
    "grad of jvp": lambda f: ad.grad(directional(f), argnums=(0, 1)),
    "vmap": rows,
    "vmap of grad": lambda f: rows(ad.grad(f, argnums=(0, 1))),
    "vmap of hessian": lambda f: rows(ad.hessian(f)),
    "grad of vmap": lambda f: ad.grad(lambda x, y: ad.sum(rows(f)(x, y)), argnums=(0, 1)),
    "one mapped": lambda f: (
        lambda x, y: ad.vmap(ad.grad(f, argnums=(0, 1)), in_axes=(0, None))(ad.stack([x, y]), y)
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["now", "compiled"])
@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("use", [mixed, alone, unused], ids=lambda use: use.__name__)
@pytest.mark.parametrize("form", FORMS)
def test_every_nesting(form: str, use: Any, nesting: str, compiled: bool) -> None:
    transform = NESTINGS[nesting]
    expected = transform(use(plain))(ad.tensor(X), ad.tensor(Y))
    run = transform(use(FORMS[form]))
    if compiled:
        run = ad.compile(run)
    ad.testing.assert_close(run(ad.tensor(X), ad.tensor(Y)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_results_are_as_they_should_be(form: str) -> None:
    for f in (FORMS[form], ad.compile(FORMS[form])):
        for out, want in zip(f(ad.tensor(X), ad.tensor(Y)), plain(X, Y), strict=True):
            assert (out.dtype, out.shape) == (want.dtype, want.shape)
            assert out.tolist() == want.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_backward_adds_up_what_came_in_turn(form: str) -> None:
    x, y = ad.tensor(X, requires_grad=True), ad.tensor(Y, requires_grad=True)
    out = FORMS[form](x, y)
    ad.sum(out[0]).backward()
    out[1].backward()
    ad.sum(out[0]).backward()
    assert x.grad is not None and y.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.cos(X) * Y + Y, rtol=1e-13)
    np.testing.assert_allclose(y.grad.numpy(), 2 * np.sin(X) + X, rtol=1e-13)
    assert not out[3].requires_grad
    tape = ad.GradientTape(persistent=True)
    with tape:
        first, *_ = FORMS[form](x, y)
        twice = ad.sum(first * first)
    np.testing.assert_allclose(tape.gradient(twice, first).numpy(), 2 * first.numpy(), rtol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_behind(form: str) -> None:
    def run() -> None:
        x = ad.tensor(X, requires_grad=True)
        kept = [FORMS[form](x, ad.tensor(Y)) for _ in range(3)]
        (ad.sum(kept[0][0]) + kept[1][2][1]).backward()

    run()
    gc.collect()
    before = ad.memory_stats()["live_nodes"]
    gc.disable()
    try:
        for _ in range(5):
            run()
        assert ad.memory_stats()["live_nodes"] == before
    finally:
        gc.enable()


def test_a_result_lets_go_of_the_others() -> None:
    big = 1 << 20

    def parts(x: Any) -> Any:
        return x * 2, ad.sum(x)

    for f in (
        ad.compile(parts),
        ad.host_op(lambda x: (x * 2, np.sum(x)), lambda x: [x, ((), x.dtype)]),
    ):
        x = ad.ones(big)
        f(x)
        before = ad.memory_stats()["live"]
        total = f(x)[1]
        assert ad.memory_stats()["live"] - before < big
        assert total.item() == big


@pytest.mark.parametrize(
    "call",
    [
        lambda r: ad.sum(r),
        lambda r: ad.exp(r),
        lambda r: r - ad.ones(2),
        lambda r: ad.ones(2) * r,
        lambda r: ad.asarray(r),
        lambda r: ad.tensor([r, r]),
        lambda r: ad.ones(2).at[0].set(r),
    ],
)
def test_several_results_are_no_operand(call: Callable[[Any], Any]) -> None:
    """Their values and indices would be rows of one tensor."""
    x = ad.tensor([1.0, 3.0, 2.0])
    with pytest.raises(TypeError, match=r"TopkResult holds several .* \(\.values, \.indices\)"):
        call(ad.topk(x, 2))
    with pytest.raises(TypeError, match=r"\(\.eigenvalues, \.eigenvectors\)"):
        call(ad.linalg.eigh(ad.eye(2)))
    assert ad.sum(ad.topk(x, 2).values).item() == 5.0


@pytest.mark.parametrize("call", [np.sum, np.mean, np.sin, np.asarray])
def test_numpy_does_not_take_several_results_for_rows(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"TopkResult holds several .* \(\.values, \.indices\)"):
        call(ad.topk(ad.tensor([1.0, 3.0, 2.0]), 2))
