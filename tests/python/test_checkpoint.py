"""What leaves a function under checkpoint, and what its runs see.

The second run computes what the first has; a value that leaves by another way than as a result has
no history outside, so that using it where a derivative is wanted is an error. References are by
hand: of sin(x), times numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import adjoint as ad

X = 0.37

Kept = Callable[[SimpleNamespace, ad.Tensor], None]
KEEPERS: dict[str, tuple[Kept, Callable[[SimpleNamespace], ad.Tensor]]] = {
    "attribute": (lambda m, h: setattr(m, "hidden", h), lambda m: m.hidden),
    "list": (lambda m, h: m.items.append(h), lambda m: m.items[0]),
    "dict": (lambda m, h: m.table.update(h=h), lambda m: m.table["h"]),
    "derived": (lambda m, h: setattr(m, "hidden", h[None]), lambda m: m.hidden[0]),
}


def leaving(how: str, use: Callable[[ad.Tensor, ad.Tensor], ad.Tensor]) -> Callable[..., Any]:
    """Return x -> use(2 sin(x), sin(x)), of which the second leaves a checkpoint in this way."""
    keep, kept = KEEPERS[how]

    def f(x: ad.Tensor) -> ad.Tensor:
        m = SimpleNamespace(items=[], table={})

        def layer(a: ad.Tensor) -> ad.Tensor:
            h = ad.sin(a)
            keep(m, h)
            return 2 * h

        y = ad.checkpoint(layer)(x)
        return use(y, kept(m))

    return f


def backward(f: Callable[..., ad.Tensor]) -> ad.Tensor:
    v = ad.Variable(X)
    f(v).backward()
    assert v.grad is not None
    return v.grad


def taped(f: Callable[..., ad.Tensor]) -> Any:
    v = ad.Variable(X)
    with ad.GradientTape() as tape:
        y = f(v)
    return tape.gradient(y, v)


MODES: dict[str, Callable[[Callable[..., Any]], ad.Tensor]] = {
    "grad": lambda f: ad.grad(f)(X),
    "backward": backward,
    "tape": taped,
    "jvp": lambda f: ad.jvp(f, (ad.tensor(X),), (ad.tensor(1.0),))[1],
    "compiled": lambda f: ad.compile(ad.grad(f))(X),
    "batched": lambda f: ad.vmap(ad.grad(f))(ad.tensor([X, X]))[0],
    "vjp": lambda f: ad.vjp(f, ad.tensor(X))[1](ad.tensor(1.0))[0],
}
USES: dict[str, Callable[[ad.Tensor, ad.Tensor], ad.Tensor]] = {
    "with the result": lambda y, h: y + 10 * h,
    "alone": lambda y, h: 10 * h,
    "as it is": lambda y, h: h,
    "in a view": lambda y, h: y + h[None][0],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", KEEPERS)
def test_a_value_that_has_left_is_no_constant(how: str, use: str, mode: str) -> None:
    with pytest.raises(RuntimeError, match=r"left it by an attribute|transform that has ended"):
        MODES[mode](leaving(how, USES[use]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["attribute", "list", "dict"])
def test_a_detached_value_is_a_constant(how: str, mode: str) -> None:
    def under_no_grad(y: ad.Tensor, h: ad.Tensor) -> ad.Tensor:
        with ad.no_grad():
            twice = 2 * h
        return y * ad.stop_gradient(twice)

    if mode == "jvp" and how != "list":
        pytest.skip("the second run has put a value of its own in the place")
    by_hand = 2 * math.cos(X) * 2 * math.sin(X)
    assert float(MODES[mode](leaving(how, under_no_grad))) == pytest.approx(by_hand, rel=1e-14)


@pytest.mark.parametrize("how", KEEPERS)
def test_values_that_leave_are_there_where_nothing_is_differentiated(how: str) -> None:
    f = leaving(how, lambda y, h: y + 10 * h)
    assert f(ad.tensor(X)).item() == pytest.approx(12 * math.sin(X), rel=1e-15)
    assert ad.compile(f)(ad.tensor(X)).item() == pytest.approx(12 * math.sin(X), rel=1e-15)
    batch = ad.vmap(f)(ad.tensor([X, 1.0])).tolist()
    assert batch == pytest.approx([12 * math.sin(X), 12 * math.sin(1.0)], rel=1e-15)


def slope_of_a_loop(step: Callable[[ad.Tensor, float], ad.Tensor]) -> float:
    def f(x: ad.Tensor) -> ad.Tensor:
        for k in (1.0, 2.0, 3.0):
            x = step(x, k)
        return x

    return float(ad.grad(f)(X))


def by_hand() -> float:
    """d/dx of sin(3 sin(2 sin(x)))."""
    a = math.sin(X)
    b = math.sin(2 * a)
    return math.cos(3 * b) * 3 * math.cos(2 * a) * 2 * math.cos(X)


def late(wrap: Callable[[Any], Any]) -> Callable[[], float]:
    """Checkpoints in a loop whose function reads the loop's variable through `wrap`."""

    def run() -> float:
        def f(x: ad.Tensor) -> ad.Tensor:
            for k in (1.0, 2.0, 3.0):
                g = wrap(lambda a: ad.sin(a * k))  # noqa: B023
                x = ad.checkpoint(lambda a: g(a))(x)  # noqa: B023
            return x

        return float(ad.grad(f)(X))

    return run


def first_of(
    f: Callable[[Any], Any], of: Callable[[ad.Tensor], ad.Tensor]
) -> Callable[[ad.Tensor], Any]:
    return lambda a: f(of(a))[0]


def with_rule(f: Callable[[ad.Tensor], ad.Tensor]) -> Callable[[ad.Tensor], ad.Tensor]:
    made = ad.custom_jvp(f)
    made.defjvp(lambda primals, tangents: ad.jvp(f, primals, tangents))
    return made


def argument() -> float:
    return slope_of_a_loop(
        lambda x, k: ad.checkpoint(lambda a, g: g(a))(x, lambda a: ad.sin(a * k))
    )


def argument_of_a_later_value() -> float:
    def f(x: ad.Tensor) -> ad.Tensor:
        for k in (1.0, 2.0, 3.0):
            x = ad.checkpoint(lambda a, fs: fs["g"][0](a))(x, {"g": [lambda a: ad.sin(a * k)]})  # noqa: B023
        return x

    return float(ad.grad(f)(X))


def partial() -> float:
    def f(x: ad.Tensor) -> ad.Tensor:
        for k in (1.0, 2.0, 3.0):
            x = ad.checkpoint(functools.partial(lambda a, b: ad.sin(a * b * k), b=1.0))(x)  # noqa: B023
        return x

    return float(ad.grad(f)(X))


LATE = {
    "a function": late(lambda g: g),
    "compile": late(ad.compile),
    "vmap": late(lambda g: first_of(ad.vmap(g), lambda a: ad.stack([a, a]))),
    "value_and_grad": late(lambda g: first_of(ad.value_and_grad(g), lambda a: a)),
    "checkpoint": late(ad.checkpoint),
    "custom_jvp": late(lambda g: with_rule(g)),
    "partial": partial,
    "an argument": argument,
    "a later value in an argument": argument_of_a_later_value,
}


@pytest.mark.parametrize("way", LATE)
def test_the_second_run_sees_the_variables_of_the_first(way: str) -> None:
    assert LATE[way]() == pytest.approx(by_hand(), rel=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_an_argument_of_a_compiled_function_that_is_captured_too(mode: str, depth: int) -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        u = ad.sin(x)
        g: Callable[[ad.Tensor], ad.Tensor] = lambda c: c * u  # noqa: E731
        for _ in range(depth):
            g = ad.checkpoint(functools.partial(lambda inner, c: inner(c), g))
        return ad.compile(g)(u)

    assert float(MODES[mode](f)) == pytest.approx(2 * math.sin(X) * math.cos(X), rel=1e-14)


Y = [0.3, -0.7, 1.1]


def left(x: ad.Tensor) -> ad.Tensor:
    """Return sin(x) as it has left a checkpoint."""
    kept: list[ad.Tensor] = []

    def layer(a: ad.Tensor) -> ad.Tensor:
        kept.append(ad.sin(a))
        return a

    ad.checkpoint(layer)(x)
    return kept[0]


def rebound(wrap: Callable[[Any], Any]) -> Callable[[ad.Tensor], ad.Tensor]:
    def f(x: ad.Tensor) -> ad.Tensor:
        y = x * 1.0

        def assign(z: ad.Tensor) -> ad.Tensor:
            y.rebind_(left(z))
            return ad.sum(z)

        wrap(assign)(x)
        return ad.sum(y * y)

    return f


def stopped_by_an_error(x: ad.Tensor) -> ad.Tensor:
    y = ad.sin(x)

    def assign(a: ad.Tensor) -> ad.Tensor:
        y.rebind_(a * a)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ad.checkpoint(assign)(x)
    return ad.sum(y)


ONE = ad.ones(3)
SLOPES: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: ad.grad(lambda x: ad.sum(f(x)))(ad.tensor(Y)),
    "jvp": lambda f: ad.jvp(f, (ad.tensor(Y),), (ONE,))[1],
    "linearize": lambda f: ad.linearize(f, ad.tensor(Y))[1](ONE),
    "grad of compiled": lambda f: ad.grad(lambda x: ad.sum(ad.compile(f)(x)))(ad.tensor(Y)),
    "jvp of compiled": lambda f: ad.jvp(ad.compile(f), (ad.tensor(Y),), (ONE,))[1],
    "jvp of checkpoint": lambda f: ad.jvp(ad.checkpoint(f), (ad.tensor(Y),), (ONE,))[1],
    "grad of vmap": lambda f: ad.grad(lambda x: ad.sum(ad.vmap(f)(x)))(ad.tensor([Y])),
    "grad of jvp": lambda f: ad.grad(lambda x: ad.sum(ad.jvp(f, (x,), (ONE,))[0]))(ad.tensor(Y)),
    "jvp of vjp": lambda f: ad.jvp(lambda x: ad.vjp(f, x)[0], (ad.tensor(Y),), (ONE,))[1],
}
LEAVING: dict[str, Callable[[ad.Tensor], ad.Tensor]] = {
    "as the result": left,
    "as a carry": lambda x: ad.scan(lambda c, _: (left(c), None), x, length=1)[0],
    "as an output of a loop": lambda x: ad.scan(lambda c, _: (c, left(c)), x, length=1)[1],
    "from a branch": lambda x: ad.cond(ad.sum(x) > 0, left, lambda z: z, x),
    "into a handle": rebound(lambda f: f),
    "into a handle, compiled": rebound(ad.compile),
    "into a handle, from a checkpoint": rebound(ad.checkpoint),
    "by an error": stopped_by_an_error,
}


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("way", LEAVING)
def test_a_value_that_has_left_crosses_no_boundary_unseen(way: str, slope: str) -> None:
    with pytest.raises(RuntimeError, match="under checkpoint and left it"):
        SLOPES[slope](LEAVING[way])


def test_the_gradient_with_respect_to_a_value_that_has_left() -> None:
    v, kept = ad.Variable(Y), []
    with ad.GradientTape() as tape:
        loss = ad.sum(ad.checkpoint(lambda a: (kept.append(ad.sin(a)), 2 * kept[0])[1])(v))
    with pytest.raises(
        RuntimeError, match=r"\[gradient\] a value was computed in a function under"
    ):
        tape.gradient(loss, kept[0])


def test_a_value_that_has_left_may_be_looked_at_when_all_is_over() -> None:
    kept: list[ad.Tensor] = []

    def f(x: ad.Tensor) -> ad.Tensor:
        return ad.sum(ad.checkpoint(lambda a: (kept.append(ad.sin(a)), a * a)[1])(x))

    assert ad.grad(f)(ad.tensor(Y)).tolist() == [2 * y for y in Y]
    sines = [math.sin(y) for y in Y]
    assert (2 * kept[0]).tolist() == pytest.approx([2 * s for s in sines], rel=1e-15)
    assert ad.max(kept[0] * 1).item() == pytest.approx(max(sines), rel=1e-15)
    assert ad.grad(lambda w: ad.sum(w * kept[0]))(ONE).tolist() == pytest.approx(sines, rel=1e-15)


def test_inner_forward_mode_in_a_checkpoint_is_no_leaving() -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        y = ad.sin(x)
        return ad.sum(ad.jvp(ad.checkpoint(lambda a: a * y), (ONE,), (x,))[1])

    by_hand = [math.sin(y) + y * math.cos(y) for y in Y]
    assert ad.grad(ad.checkpoint(f))(ad.tensor(Y)).tolist() == pytest.approx(by_hand, rel=1e-14)


@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile])
def test_loops_in_checkpointed_steps_in_batches(wrap: Callable[[Any], Any]) -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        def member(m: ad.Tensor) -> ad.Tensor:
            def step(c: ad.Tensor, _: None) -> tuple[ad.Tensor, ad.Tensor]:
                inner = ad.scan(lambda k, _: (x * m, None), ad.zeros(3), length=1)[0]
                return c, ad.sum(inner)

            return ad.sum(ad.scan(ad.checkpoint(step), ad.tensor(0.0), length=1)[1])

        return ad.sum(ad.vmap(member)(x))

    by_hand = [2 * sum(Y)] * 3  # of the square of the sum
    assert wrap(ad.grad(f))(ad.tensor(Y)).tolist() == pytest.approx(by_hand, rel=1e-14)


def one_of_a_batch(f: Callable[[ad.Tensor], ad.Tensor]) -> Callable[[ad.Tensor], ad.Tensor]:
    return lambda x: ad.vmap(f)(x[None])[0]


@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile, one_of_a_batch])
def test_a_table_that_is_made_when_first_needed(wrap: Callable[[Any], Any]) -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        o = SimpleNamespace(table=None)

        def layer(a: ad.Tensor) -> ad.Tensor:
            if o.table is None:
                o.table = ad.tensor([1.0, 2.0, 3.0])
            return ad.sum(a * a * o.table)

        return ad.checkpoint(layer)(x)

    found = wrap(ad.grad(f))(ad.tensor(Y))
    assert found.tolist() == pytest.approx([2 * k * y for k, y in zip((1, 2, 3), Y, strict=True)])


def test_a_table_that_changes_with_each_run_is_refused() -> None:
    o = SimpleNamespace(count=ad.tensor(0.0))

    def layer(a: ad.Tensor) -> ad.Tensor:
        o.count = (o.count + 1).detach()
        return ad.sum(a * o.count)

    with pytest.raises(RuntimeError, match="the second run meets a tensor that the first did not"):
        ad.grad(ad.checkpoint(layer))(ad.tensor(Y))


@pytest.mark.parametrize("mode", MODES)
def test_an_argument_of_a_compiled_function_that_is_passed_on_twice(mode: str) -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        u = ad.sin(x)
        return ad.compile(lambda a: ad.checkpoint(lambda p, q: p * q)(a, u))(u)

    assert float(MODES[mode](f)) == pytest.approx(2 * math.sin(X) * math.cos(X), rel=1e-14)


def inner_vjp(y: ad.Tensor, c: ad.Tensor) -> ad.Tensor:
    return ad.vjp(lambda z: z * (y * y), c)[0]


def inner_grad(y: ad.Tensor, c: ad.Tensor) -> ad.Tensor:
    return (
        c
        * ad.grad(lambda z: (ad.sum(z * y * y * y) / 3, ad.cos(z * y)), has_aux=True)(y)[0]
        * 3
        / y
    )


@pytest.mark.parametrize("step", [inner_vjp, inner_grad])
@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile])
def test_transforms_in_checkpointed_steps_of_loops(wrap: Callable[[Any], Any], step: Any) -> None:
    def f(x: ad.Tensor) -> ad.Tensor:
        y = ad.sin(x)
        rows = ad.checkpoint(lambda c, _: (step(y, c), None))
        return ad.sum(ad.scan(rows, x, length=1)[0])

    by_hand = [math.sin(t) ** 2 + t * math.sin(2 * t) for t in Y]  # of t sin(t)**2
    assert wrap(ad.grad(f))(ad.tensor(Y)).tolist() == pytest.approx(by_hand, rel=1e-13)
