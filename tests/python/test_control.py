"""Control flow: what a compiled call gives is what Python's own loop gives, in every mode.

Outside of `compile` the loops are Python's, whose derivatives other tests check; so the eager
result is the reference here, and closed forms stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

RNG = np.random.default_rng(20240607)
W = RNG.standard_normal((3, 3)) / 2
H = RNG.standard_normal((4, 3))
XS = RNG.standard_normal((5, 3))
V = np.array([0.5, 1.7, -0.9, 30.0])


def recurrent(reverse: bool) -> Callable[..., Any]:
    def loss(w: Any, h: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = ad.tanh(h @ w + x)
            return h, {"norm": ad.sum(h**2)}

        h, ys = ad.scan(step, h, xs, reverse=reverse)
        return ad.sum(h * ys["norm"][0]) + ad.sum(ys["norm"] * ad.arange(5.0))

    return loss


def growing(x: Any, y: Any) -> Any:
    def body(carry: Any) -> Any:
        i, v = carry
        return i + 1, v * y + ad.sin(v)

    return ad.while_loop(lambda c: (c[0] < 4) & (c[1] < 50.0), body, (0, x), max_steps=6)[1]


def branching(x: Any, y: Any) -> Any:
    return ad.cond(x > 0, lambda a: ad.sin(a) * y, lambda a: a**2 * y**2, x)


def nested(x: Any, y: Any) -> Any:
    """A choice in a loop over rows in a loop until a condition."""

    def row(c: Any, t: Any) -> Any:
        return ad.cond(c > 1, lambda c: ad.sqrt(c) * y, lambda c: c * t + y, c), c

    def body(v: Any) -> Any:
        last, rows = ad.scan(row, v, ad.tensor([0.5, 1.5, 1.0]))
        return last + 0.1 * ad.sum(rows)

    return ad.while_loop(lambda v: ad.abs(v) < 20, body, x, max_steps=5)


def same(f: Callable[..., Any], *args: Any) -> None:
    arguments = [ad.tensor(a) for a in args]
    expected = f(*arguments)
    ad.testing.assert_close(ad.compile(f)(*arguments), expected, rtol=1e-11, atol=1e-12)


LOOPS: dict[str, Callable[..., Callable[..., Any]]] = {
    "value": lambda f: f,
    "grad": lambda f: ad.grad(f, argnums=(0, 1, 2)),
    "jvp": lambda f: lambda *a: ad.jvp(f, a, a),
    "hessian": lambda f: lambda w, h, xs: ad.hessian(lambda h: f(w, h, xs))(h),
    "grad of grad": lambda f: ad.grad(
        lambda w, h, xs: ad.sum(ad.grad(lambda h: f(w, h, xs))(h) ** 2), argnums=(0, 1, 2)
    ),
    "hvp": lambda f: lambda w, h, xs: ad.hvp(lambda w: f(w, h, xs), w, w),
    "jvp of jvp": lambda f: lambda *a: ad.jvp(lambda *b: ad.jvp(f, b, b)[1], a, a),
    "vmap of grad": lambda f: lambda w, h, xs: ad.vmap(ad.grad(lambda t: f(w, t * h, xs)))(h),
    "vmap over rows": lambda f: (
        lambda w, h, xs: ad.vmap(ad.grad(lambda x: f(w, h, x)), in_axes=1, out_axes=1)(
            ad.stack([xs, 2 * xs], axis=1)
        )
    ),
    "grad of vmap": lambda f: ad.grad(
        lambda w, h, xs: ad.sum(ad.vmap(lambda t: f(w, t * h, xs))(h)), argnums=(0, 1, 2)
    ),
    "vmap of hessian": lambda f: (
        lambda w, h, xs: ad.vmap(ad.hessian(lambda h: f(w, h, xs)), in_axes=0)(ad.stack([h, -h]))
    ),
    "linearize": lambda f: lambda *a: ad.linearize(f, *a)[1](*a),
}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("nesting", LOOPS)
def test_scan(nesting: str, reverse: bool) -> None:
    same(LOOPS[nesting](recurrent(reverse)), W, H[0], XS)


SCALARS: dict[str, Callable[..., Callable[..., Any]]] = {
    "value": lambda f: f,
    "grad": lambda f: ad.grad(f, argnums=(0, 1)),
    "jvp": lambda f: lambda x, y: ad.jvp(f, (x, y), (y, x)),
    "grad of grad": lambda f: ad.grad(ad.grad(f), argnums=(0, 1)),
    "hvp": lambda f: lambda x, y: ad.jvp(ad.grad(f), (x, y), (y, x)),
    "jvp of jvp": lambda f: lambda *a: ad.jvp(lambda *b: ad.jvp(f, b, b)[1], a, a),
}


@pytest.mark.parametrize("x", V)
@pytest.mark.parametrize("nesting", SCALARS)
@pytest.mark.parametrize("f", [growing, branching, nested])
def test_loops_and_choices(f: Callable[..., Any], nesting: str, x: float) -> None:
    same(SCALARS[nesting](f), x, 1.3)


@pytest.mark.parametrize("nesting", SCALARS)
@pytest.mark.parametrize("f", [growing, branching, nested])
def test_each_member_of_a_batch_goes_its_own_way(f: Callable[..., Any], nesting: str) -> None:
    run = SCALARS[nesting](f)
    batch = ad.vmap(run, in_axes=(0, None))
    one_by_one = [run(ad.tensor(x), ad.tensor(1.3)) for x in V]
    expected = ad.tree.map(lambda *xs: ad.stack(xs), *one_by_one)
    for form in (batch, ad.compile(batch)):
        found = form(ad.tensor(V), ad.tensor(1.3))
        ad.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("f", [growing, branching, nested])
def test_what_is_not_mapped_collects_from_the_batch(f: Callable[..., Any]) -> None:
    same(ad.grad(lambda y, v: ad.sum(ad.vmap(lambda x: f(x, y))(v))), 1.3, V)


def test_closed_forms() -> None:
    powers = lambda x: ad.scan(lambda c, _: (c * x, c), 1.0, length=6)  # noqa: E731
    for run in (powers, ad.compile(powers)):
        last, rows = run(ad.tensor(2.0))
        assert last.item() == 64.0
        assert rows.tolist() == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
        assert ad.grad(lambda x, run=run: run(x)[0])(2.0).item() == 6 * 32.0
        assert ad.grad(ad.grad(lambda x, run=run: run(x)[0]))(2.0).item() == 30 * 16.0
    compiled = ad.compile(ad.grad(ad.grad(lambda x: powers(x)[0])))
    assert compiled(2.0).item() == 30 * 16.0
    double = lambda x: ad.while_loop(lambda y: y < 100, lambda y: 2 * y, x)  # noqa: E731
    assert ad.compile(lambda x: ad.jvp(double, (x,), (1.0,))[1])(3.0).item() == 64.0
    assert ad.grad(double)(3.0).item() == 64.0


def test_only_the_chosen_branch_counts() -> None:
    safe = lambda x: ad.cond(x > 0, lambda x: ad.sqrt(x), lambda x: 0.0 * x, x)  # noqa: E731
    for run in (safe, ad.compile(safe)):
        assert run(ad.tensor(0.0)).item() == 0.0
    for run in (ad.grad(safe), ad.compile(ad.grad(safe))):
        assert run(0.0).item() == 0.0
        assert run(4.0).item() == 0.25
    assert ad.vmap(ad.grad(safe))(ad.tensor([0.0, 4.0])).tolist() == [0.0, 0.25]


def test_derivatives_given_by_hand_and_stops_hold_inside_of_bodies() -> None:
    @ad.custom_vjp
    def slow(x: Any) -> Any:
        return x * 1.0

    slow.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (0.5 * ct,))
    f = lambda x: ad.scan(lambda c, _: (slow(c) * 2, None), x, length=3)[0]  # noqa: E731
    g = lambda x: ad.scan(lambda c, _: (c * ad.stop_gradient(c), None), x, length=2)[0]  # noqa: E731
    h = lambda x: ad.scan(lambda c, _: (ad.checkpoint(ad.sin)(c), None), x, length=2)[0]  # noqa: E731
    for compiled in (False, True):
        wrap = ad.compile if compiled else lambda f: f
        assert wrap(ad.grad(f))(1.0).item() == 1.0
        assert wrap(ad.grad(g))(3.0).item() == 27.0
        expected = np.cos(np.sin(0.4)) * np.cos(0.4)
        np.testing.assert_allclose(wrap(ad.grad(h))(0.4).item(), expected, rtol=1e-14)


def test_a_condition_is_asked_once_per_step() -> None:
    for limit, steps, asked in ((None, 4, 5), (2, 2, 2), (0, 0, 1)):
        calls = 0

        def below(x: Any) -> Any:
            nonlocal calls
            calls += 1
            return x < 4

        out = ad.while_loop(below, lambda x: x + 1, ad.tensor(0.0), max_steps=limit)
        assert (out.item(), calls) == (steps, asked)


def test_programs_do_not_grow_with_the_steps() -> None:
    def program(length: int) -> int:
        f = lambda x: ad.scan(lambda c, _: (ad.sin(c) * x, None), x, length=length)[0]  # noqa: E731
        return len(ad.compile(ad.grad(f)).program(0.5).graph)

    assert program(1000) == program(10)


def test_an_empty_scan_and_rows_of_few_bytes() -> None:
    total = lambda x: ad.scan(lambda c, r: (c + r, r * 2), 0.0, x)  # noqa: E731
    small = ad.tensor([1.5], dtype=ad.float32)
    carry, rows = ad.compile(
        lambda x: ad.scan(lambda c, r: (c + r, r), ad.zeros((), dtype=ad.float32), x)
    )(small)
    assert (carry.item(), rows.tolist()) == (1.5, [1.5])
    for run in (total, ad.compile(total)):
        carry, rows = run(ad.tensor(np.zeros(0)))
        assert carry.item() == 0.0
        assert rows.shape == (0,)


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"\[cond\] the condition must be one bool, not float64"):
        ad.cond(1.0, lambda: 1.0, lambda: 2.0)
    with pytest.raises(TypeError, match=r"\[cond\] both functions must return"):
        ad.compile(lambda x: ad.cond(x > 0, lambda: x, lambda: (x, x)))(1.0)
    changing = lambda x: ad.scan(lambda c, _: (ad.stack([c, c]), None), x, length=2)  # noqa: E731
    for run in (changing, ad.compile(changing)):
        with pytest.raises(TypeError, match=r"\[scan\] every step must return the carried value"):
            run(ad.tensor(1.0))
    with pytest.raises(ValueError, match=r"\[scan\] the number of steps is unknown"):
        ad.scan(lambda c, x: (c, x), 0.0)
    with pytest.raises(ValueError, match=r"\[scan\] the lengths differ: \[2, 3\]"):
        ad.scan(lambda c, x: (c, x), 0.0, (ad.ones(2), ad.ones(3)))
    with pytest.raises(TypeError, match=r"\[scan\] a step must return a pair"):
        ad.scan(lambda c, x: c, 0.0, ad.ones(2))
    unbounded = lambda x: ad.while_loop(lambda y: y < 9, lambda y: y * x, x)  # noqa: E731
    with pytest.raises(ValueError, match=r"\[while_loop\] reverse mode.*max_steps="):
        ad.compile(ad.grad(unbounded))(2.0)
    for run in (ad.compile, lambda f: f):
        with pytest.raises(ValueError, match=r"\[scan\] length must not be negative"):
            run(lambda x: ad.scan(lambda c, _: (c, c), x, length=-3))(1.0)
    with pytest.raises(TypeError, match=r"\[while_loop\] max_steps must be an int, not a float"):
        ad.while_loop(lambda y: y < 9, lambda y: y + 1, 1.0, max_steps=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_steps must not be negative"):
        ad.while_loop(lambda y: y < 9, lambda y: y, 1.0, max_steps=-1)


def test_a_body_may_not_assign_to_what_is_outside() -> None:
    total = ad.tensor(0.0)

    def step(c: Any, x: Any) -> Any:
        nonlocal total
        total += x
        return c, x

    with pytest.raises(RuntimeError, match=r"\[scan\] the function assigns to a tensor"):
        ad.compile(lambda x: ad.scan(step, 0.0, x))(ad.ones(3))
    assert total.item() == 0.0


# ---- Numbers and dtypes of the carried value -----------------------------------------------------

ROUNDED = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


def compiled_or_not(f: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [f, ad.compile(f)]


def test_a_number_takes_the_dtype_of_what_it_meets() -> None:
    sums = [np.float32(0.0)]
    for x in ROUNDED:
        sums.append(sums[-1] + x)

    def total(xs: Any, start: Any = 0.0) -> Any:
        return ad.scan(lambda c, x: (c + x, c), start, xs)

    for run in compiled_or_not(total):
        for args in ((ROUNDED,), (ROUNDED, 0.0)):
            last, before = run(*map(ad.asarray, args[:1]), *args[1:])
            assert last.dtype == before.dtype == ad.float32
            np.testing.assert_array_equal(before.numpy(), sums[:-1])
            assert last.item() == sums[-1]
        wide = run(ad.asarray(ROUNDED.astype(np.float64)))[0]
        assert wide.dtype == ad.float64 and wide.item() == np.cumsum(ROUNDED, dtype=float)[-1]
        none, _ = run(ad.asarray(ROUNDED[:0]))
        assert none.dtype == ad.float32 and none.item() == 0.0
        whole = run(ad.asarray(np.arange(3, dtype=np.int16)), 2)[0]
        assert whole.dtype == ad.int16 and whole.item() == 5
    slope = ad.grad(lambda xs: total(xs * xs, 1.0)[0])(ad.asarray(ROUNDED))
    np.testing.assert_array_equal(slope.numpy(), 2 * ROUNDED)


def test_numbers_that_meet_data_later() -> None:
    def fibonacci(xs: Any) -> Any:
        return ad.scan(lambda c, x: ((c[1], c[0] + c[1] + x), None), (0.0, 1.0), xs)[0]

    for run in compiled_or_not(fibonacci):
        a, b = run(ad.zeros(6, dtype=ad.float32))
        assert a.dtype == b.dtype == ad.float32 and (a.item(), b.item()) == (8.0, 13.0)

    def beside(x: Any) -> Any:
        return ad.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + c[1], c[1]), (0.0, x))[0]

    for run in compiled_or_not(beside):
        y = run(ad.tensor(0.3, dtype=ad.float32))
        three = np.float32(0.3)
        assert y.dtype == ad.float32 and y.item() == ((three + three) + three) + three


def test_a_number_that_meets_nothing_keeps_its_dtype() -> None:
    def doubled(xs: Any) -> Any:
        return ad.scan(lambda c, x: (c * 2, x), 0.1, xs)[0]

    def of_tensors(xs: Any) -> Any:
        return ad.scan(lambda c, x: (c.exp(), x), 0.0, xs[:1])[0]

    for f, want in ((doubled, 1.6), (of_tensors, 1.0)):
        for run in compiled_or_not(f):
            y = run(ad.asarray(ROUNDED))
            assert y.dtype == ad.float64 and y.item() == want


def test_errors_name_the_part_of_the_carry() -> None:
    xs = ad.asarray(ROUNDED)
    counted = lambda xs: ad.scan(  # noqa: E731
        lambda c, x: ({"a": c["a"], "b": c["b"] + x}, None), {"a": xs[0], "b": 0}, xs
    )
    text = r"carry\['b'\] is int64 in init and float32 after the step: start with .*0\.0"
    for run in compiled_or_not(counted):
        with pytest.raises(TypeError, match=text):
            run(xs)
    text = r"carry\[1\]\[0\] is float32 of shape \(\) in init and float32 of shape \(4,\) after"
    with pytest.raises(TypeError, match=text):
        ad.scan(lambda c, x: ((c[0], [c[1][0] + xs]), None), (1, [xs[0]]), xs)
    with pytest.raises(
        TypeError, match=r"\[while_loop\].*carry is int64 in init and float64 after"
    ):
        ad.while_loop(lambda c: c < 3, lambda c: c + 0.5, 0)
    with pytest.raises(TypeError, match=r"y is int64 after the first step and float64 after"):
        ad.scan(lambda c, x: (c + 1, 1 if int(c) == 0 else 1.0), 0, length=2)
    with pytest.raises(TypeError, match=r"the result is float64 from true_fn and int64 from false"):
        ad.compile(lambda x: ad.cond(x > 0, lambda: 1.0, lambda: 1))(1.0)


@ad.custom_vjp
def unwanted(k: Any) -> Any:
    return k * 1.0


def refused(k: Any, cotangent: Any) -> Any:
    raise AssertionError("this cotangent is asked for")


unwanted.defvjp(lambda k: (unwanted(k), k), refused)


def by_scan(w: Any, k: Any, xs: Any) -> Any:
    return ad.scan(lambda c, x: (ad.sin(c * w + unwanted(k) + x), c), w, xs)[0]


def by_while(w: Any, k: Any, xs: Any) -> Any:
    return ad.while_loop(
        lambda c: c < 100, lambda c: c * w + unwanted(k) + 2 * xs[0], w, max_steps=4
    )


def by_cond(w: Any, k: Any, xs: Any) -> Any:
    return ad.cond(w > 0, lambda: w * unwanted(k), lambda: w - unwanted(k) + xs[0])


@pytest.mark.parametrize("f", [by_scan, by_while, by_cond], ids=lambda f: f.__name__)
@pytest.mark.parametrize("mapped", [False, True], ids=["", "mapped"])
def test_what_is_captured_has_a_cotangent_only_where_it_is_wanted(f: Any, mapped: bool) -> None:
    """For a matrix that a loop only reads, the sum of its cotangents costs more than the rest."""
    w, k, xs = 0.7, 0.4, np.array([0.1, 0.2, 0.3])
    args = [ad.tensor(v) for v in (w, k, xs)]
    if mapped:
        each = [ad.stack([a, a + 0.01]) for a in args]
        slope = ad.compile(ad.vmap(ad.grad(f)))(*each)[0]
        loud = ad.compile(ad.vmap(ad.grad(f, argnums=1)))
        args = each
    else:
        slope = ad.compile(ad.grad(f))(*args)
        loud = ad.compile(ad.grad(f, argnums=1))

    def value(w: float) -> float:
        """By hand, as NumPy has no derivative that could be refused."""
        if f is by_cond:
            return w * k
        c = w
        for x in xs if f is by_scan else [0.2] * 4:
            c = np.sin(c * w + k + x) if f is by_scan else c * w + k + x
        return c

    difference = (value(w + 1e-6) - value(w - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope.item(), difference, rtol=1e-8)
    with pytest.raises(AssertionError, match="asked for"):
        loud(*args)
