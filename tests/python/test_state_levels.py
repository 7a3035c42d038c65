"""Programs with state in nested transforms, in the form of `test_state.py`, with results by hand.

Each is a kind: at which level a handle was born, what a transform leaves in it, what stands under
`no_grad`, and what does not depend on a batch.
"""

from __future__ import annotations

from typing import Any

import pytest

PROGRAMS = {
    "captured values under no_grad in bodies that are traced while they are differentiated": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
def f1(x):
    def br(c):
        with ad.no_grad():
            v = x * x
        return v+c
    return ad.sum(ad.cond(ad.tensor(True), br, lambda c:c, one))
def f2(x):
    def step(c,r):
        with ad.no_grad():
            v = x * c
        return v*x, r
    return ad.sum(ad.scan(step, one, ad.ones(1))[0])
def f3(x):
    def body(s):
        k,c=s
        with ad.no_grad():
            v = x * c
        return k+1, v*x
    return ad.sum(ad.while_loop(lambda s:s[0]<1, body, (ad.asarray(0),one),max_steps=2)[1])
wants = {f1: [0.0, 0.0], f2: [1.0, 2.0], f3: [1.0, 2.0]}
for f, want in wants.items():
    push = lambda x: ad.jvp(f, (x,), (one,))[1]
    assert ad.grad(f)(x).tolist() == want
    assert ad.compile(ad.grad(f))(x).tolist() == want
    assert ad.grad(ad.compile(f))(x).tolist() == want
    assert ad.compile(ad.vmap(ad.grad(f)))(ad.stack([x, x])).tolist() == [want, want]
    assert push(x).item() == ad.compile(push)(x).item() == sum(want)
""",
    "an assignment in nested second runs knows where its handle was born": """
import adjoint as ad
x, one, e = ad.tensor([1.0, 2.0]), ad.ones(2), ad.tensor([0.0, 1.0])
calls = [
    lambda f: ad.checkpoint(f)(one),
    lambda f: ad.jvp(f, (one,), (one,)),
    lambda f: ad.linearize(f, one),
    lambda f: ad.jacobian(f, mode="forward")(one),
    lambda f: ad.hvp(lambda z: ad.sum(f(z)), one, one),
    lambda f: ad.taylor(f, (one,), (one,), 1),
    lambda f: ad.compile(f)(one),
]
for outer in calls:
    for inner in calls:
        def q(x):
            y = x * 1.0
            def assign(z):
                y[0] = 7.0
                return z
            outer(lambda z: (inner(assign), z)[1])
            return ad.sum(y * y)  # 49 + x[1]**2
        push = lambda x: ad.jvp(q, (x,), (e,))[1]
        assert ad.grad(q)(x).tolist() == [0.0, 4.0]
        assert push(x).item() == ad.compile(push)(x).item() == ad.vmap(push)(x[None]).item() == 4.0
        assert ad.jvp(ad.compile(q), (x,), (e,))[1].item() == ad.linearize(q, x)[1](e).item() == 4.0
        assert ad.hvp(q, x, e).tolist() == [0.0, 2.0] and ad.jvp(push, (x,), (e,))[1].item() == 2.0
        assert [d.item() for d in ad.taylor(q, (x,), (e,), 2)] == [53.0, 4.0, 2.0]
""",
    "a handle made between two levels loses the inner tangent alone": """
import adjoint as ad
x, v = ad.tensor([0.5, 2.0]), ad.tensor([1.0, 3.0])
wraps = [lambda f: f, ad.checkpoint, ad.compile, lambda f: ad.checkpoint(ad.checkpoint(f))]
wraps += [lambda f: ad.compile(ad.checkpoint(f)), lambda f: ad.checkpoint(ad.compile(f))]
inner = [
    lambda f, x: ad.jvp(f, (x,), (x,))[1],
    lambda f, x: ad.linearize(f, x)[1](x),
    lambda f, x: ad.taylor(f, (x,), (x,), 1)[1],
]
outer = [
    lambda f: ad.jvp(f, (x,), (v,))[1],
    lambda f: ad.linearize(f, x)[1](v),
    lambda f: ad.taylor(f, (x,), (v,), 1)[1],
    lambda f: ad.compile(lambda x: ad.jvp(f, (x,), (v,))[1])(x),
    lambda f: ad.jvp(ad.compile(f), (x,), (v,))[1],
    lambda f: ad.vmap(lambda x: ad.jvp(f, (x,), (v,))[1])(x[None])[0],
    lambda f: v * ad.grad(lambda x: ad.sum(f(x)))(x),
]
for wrap in wraps:
    for push in inner:
        def f(x):
            t = 3.0 * x
            def assign(z):
                t.rebind_(t * z)
                return t * z  # its tangent along z is t, 3 x**2, times x
            return push(wrap(assign), x), t
        for slope in outer:
            assert slope(lambda x: f(x)[0]).tolist() == [2.25, 108.0]  # of 3 x**3
            assert slope(lambda x: f(x)[1]).tolist() == [3.0, 36.0]  # of 3 x**2
""",
    "a compiled checkpoint keeps the primal, whatever was open when it was traced": """
import adjoint as ad
h, one = ad.ones(2), ad.ones(2)
def f(z):
    h.rebind_(h * z)
    return h * z
for first in (False, True):
    for wrap in (ad.compile, ad.checkpoint, lambda f: ad.compile(ad.checkpoint(f))):
        g = wrap(f)
        if first:
            g(one)
        for _ in range(2):
            h.rebind_(ad.tensor([1.0, 2.0]))
            assert ad.jvp(g, (one,), (one,))[1].tolist() == [1.0, 2.0] == h.tolist()
""",
    "a series leaves the primal in a handle from outside": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
h = ad.tensor([1.0, 2.0])
def f(c):
    h.rebind_(h * c * 3.0)
    return h * c
assert [d.tolist() for d in ad.taylor(f, (one,), (one,), 2)] == [[3.0, 6.0], [3.0, 6.0], [0.0, 0.0]]
assert h.tolist() == [3.0, 6.0] and not h.requires_grad
for wrap in (lambda f: f, ad.checkpoint, ad.compile, ad.vmap):
    def loss(x):
        y = x * 1.0
        def assign(c):
            y.rebind_(y * x)
            return c * c
        if wrap is ad.vmap:
            ad.vmap(lambda c: ad.taylor(assign, (c,), (c,), 1))(ad.ones((3, 2)))
        else:
            ad.taylor(wrap(assign), (one,), (one,), 1)
        return ad.sum(y)
    assert ad.grad(loss)(x).tolist() == [2.0, 4.0]
    assert ad.compile(ad.grad(loss))(x).tolist() == [2.0, 4.0]
    assert ad.grad(ad.compile(loss))(x).tolist() == [2.0, 4.0]
    assert ad.jvp(loss, (x,), (one,))[1].item() == 6.0
def mapped(c):
    h.rebind_(h * c)
    return c
try:
    ad.vmap(lambda c: ad.taylor(mapped, (c,), (c,), 1))(ad.ones((3, 2)))
except RuntimeError as error:
    assert "[vmap]" in str(error)
else:
    raise AssertionError("did not raise")
""",
    "what a series closes over keeps its own derivative, in loops too": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
positive = lambda c: ad.sum(c) > 0
fs = [  # all linear in the outer x at c = 1, with the slope 2 in the value and in the derivative
    lambda x: lambda c: c * x * 2.0,
    lambda x: lambda c: ad.scan(lambda s, r: (s * x * r, r), c, ad.tensor([2.0]))[0],
    lambda x: lambda c: ad.cond(positive(c), lambda: x * 2.0 * c, lambda: x * c),
    lambda x: lambda c: ad.cond(positive(c), lambda c: x * 2.0 * c, lambda c: x * c, c),
    lambda x: lambda c: ad.while_loop(lambda s: ad.max(s) < 2, lambda s: 2.0 * x * s, c, 1),
]
modes = [
    lambda f: ad.grad(f)(x),
    lambda f: ad.compile(ad.grad(f))(x),
    lambda f: ad.grad(ad.compile(f))(x),
    lambda f: ad.grad(ad.checkpoint(f))(x),
    lambda f: ad.vmap(ad.grad(f))(x[None])[0],
    lambda f: ad.jacobian(f, mode="forward")(x),
    lambda f: ad.compile(ad.jacobian(f, mode="forward"))(x),
]
for f in fs:
    for mode in modes:
        for order in (0, 1):
            loss = lambda x: ad.sum(ad.taylor(f(x), (one,), (one,), 1)[order])
            assert mode(loss).tolist() == [2.0, 2.0]
""",
    "a loop whose condition only later depends on what moves": """
import adjoint as ad
one = ad.ones(2)
for bound in (None, 20):
    cube = lambda c: ad.while_loop(lambda s: ad.sum(s) < 10, lambda s: s * (c + 1), one, bound)
    rows = ad.taylor(cube, (one,), (one,), 2)
    assert [d.tolist() for d in rows] == [[8.0] * 2, [12.0] * 2, [12.0] * 2]
    assert ad.jvp(cube, (one,), (one,))[1].tolist() == [12.0, 12.0]
one_step = lambda c: ad.while_loop(lambda s: ad.sum(s) < 10, lambda s: s * (c + 1), one, 1)
assert [d.tolist() for d in ad.taylor(one_step, (one,), (one,), 1)] == [[2.0, 2.0], [1.0, 1.0]]
""",
    "no_grad inside of a series": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
def inner(x):
    def f(c):
        with ad.no_grad():
            v = x * c
        return v + c
    return f
outside = lambda x: ad.sum(ad.taylor(inner(x), (one,), (one,), 1)[0]) + ad.sum(x)
through = lambda x: ad.sum(ad.taylor(inner(x), (x,), (one,), 1)[0])
for f in (outside, through):
    assert ad.grad(f)(x).tolist() == ad.compile(ad.grad(f))(x).tolist() == [1.0, 1.0]
    assert ad.grad(ad.compile(f))(x).tolist() == ad.grad(ad.checkpoint(f))(x).tolist() == [1.0, 1.0]
    assert ad.jvp(f, (x,), (one,))[1].item() == 2.0
assert ad.taylor(inner(x), (x,), (one,), 1)[1].tolist() == [1.0, 1.0]
""",
    "what is made under no_grad is a constant outside, whichever transform was open inside": """
import adjoint as ad
z0, one = ad.tensor([3.0, 5.0]), ad.ones(2)
def tape(q):
    u = ad.ones(2)
    with ad.GradientTape() as t:
        t.watch(u)
        y = q(u)
    assert t.gradient(y, u).tolist() == [2.0, 2.0]
transforms = [
    lambda q: ad.grad(q)(one), lambda q: ad.vjp(q, one), lambda q: ad.value_and_grad(q)(one),
    lambda q: ad.jacobian(q)(one), lambda q: ad.hvp(q, one, one),
    lambda q: ad.jvp(q, (one,), (one,)),
    lambda q: ad.linearize(q, one), lambda q: ad.taylor(q, (one,), (one,), 1),
    lambda q: ad.checkpoint(q)(one), lambda q: ad.grad(ad.checkpoint(q))(one), tape,
]
twice = ad.compile(lambda z: 2.0 * z)
ways = [
    lambda z, L, box: L.rebind_(2.0 * z),
    lambda z, L, box: L.__setitem__(slice(None), 2.0 * z),
    lambda z, L, box: box.append(ad.cumulative_sum(ad.stack([z, z]), axis=0)[1]),
    lambda z, L, box: box.append(twice(z)),
    lambda z, L, box: box.append(ad.checkpoint(lambda v: v + z)(z)),
    lambda z, L, box: box.append(ad.grad(lambda v: ad.sum(v * v))(z)),
    lambda z, L, box: box.append((z + z)[:]),
]
modes = [
    lambda f: ad.grad(f)(z0), lambda f: ad.jacobian(f, mode="forward")(z0),
    lambda f: ad.grad(lambda z: ad.jvp(f, (z,), (one,))[0])(z0),
    lambda f: ad.compile(ad.grad(f))(z0),
    lambda f: ad.stack([ad.taylor(f, (z0,), (e,), 1)[1] for e in ad.eye(2)]),
]
for run in transforms:
    for way in ways:
        L = ad.zeros(2)
        def f(z):
            box = []
            with ad.no_grad():
                def q(u):
                    way(z, L, box)
                    return ad.sum(u * u)
                run(q)
            return ad.sum((box[0] if box else L) * z)
        for mode in modes[: 3 if run is tape else None]:  # a tape in a trace watches no constant
            assert mode(f).tolist() == [6.0, 10.0]
""",
    "transforms nest under no_grad inside of others": """
import adjoint as ad
z0, one = ad.tensor([3.0, 5.0]), ad.ones(2)
inner = [
    lambda z: ad.hvp(lambda v: ad.sum(v * v * z) / 2, one, one),
    lambda z: ad.jvp(ad.grad(lambda v: ad.sum(v * v * z) / 2), (one,), (one,))[1],
    lambda z: ad.grad(lambda v: ad.sum(ad.jvp(lambda u: u * u * z / 2, (v,), (one,))[1]))(one),
    lambda z: ad.taylor(ad.grad(lambda u: ad.sum(u * u * z) / 2), (one,), (one,), 1)[1],
    lambda z: ad.vjp(lambda v: v, one)[1](z)[0],
    lambda z: ad.linearize(lambda v: v, one)[1](z * 1.0),
    lambda z: ad.taylor(lambda v: v, (one,), (z,), 1)[1],
]
modes = [
    lambda f: ad.grad(f)(z0), lambda f: ad.jacobian(f, mode="forward")(z0),
    lambda f: ad.compile(ad.grad(f))(z0), lambda f: ad.grad(ad.compile(f))(z0),
    lambda f: ad.stack([ad.taylor(f, (z0,), (e,), 1)[1] for e in ad.eye(2)]),
]
for value in inner:
    def f(z):
        with ad.no_grad():
            v = value(z)
        return ad.sum(v * z)
    for mode in modes:
        assert mode(f).tolist() == [3.0, 5.0]
""",
    "the argument of a transform under no_grad is a constant outside": """
import adjoint as ad
z0, one, L = ad.tensor([3.0, 5.0]), ad.ones(2), ad.zeros(2)
runs = [
    lambda q, z: ad.grad(q)(z), lambda q, z: ad.vjp(q, z), lambda q, z: ad.jvp(q, (z,), (z,)),
    lambda q, z: ad.linearize(q, z), lambda q, z: ad.taylor(q, (z,), (z,), 1),
]
for run in runs:
    def f(z):
        with ad.no_grad():
            run(lambda u: (L.rebind_(u), ad.sum(u * u))[1], z)
        return ad.sum(L * z)
    assert ad.grad(f)(z0).tolist() == ad.compile(ad.grad(f))(z0).tolist() == [3.0, 5.0]
    assert ad.jacobian(f, mode="forward")(z0).tolist() == [3.0, 5.0]
""",
    "a tape under no_grad sees values from before it, and nobody else sees them through it": """
import adjoint as ad
w = ad.Variable([1.0, 2.0])
box = []
def f(z):
    y = z * z
    with ad.no_grad(), ad.GradientTape(persistent=True) as tape:
        tape.watch(z)
        v = ad.sum(z * z * y * w)
        box.append(v)
    to_z, to_y, to_w = tape.gradient(v, [z, y, w])  # z y w twice, z**2 w, z**2 y
    assert to_z.tolist() == [2.0 * 27, 2.0 * 250] and to_y.tolist() == [9.0, 50.0], (to_z, to_y)
    assert to_w.tolist() == [81.0, 625.0]
    return ad.sum(z) * box[-1]
value = 81.0 + 2 * 625.0
assert ad.grad(f)(ad.tensor([3.0, 5.0])).tolist() == [value, value]
with ad.GradientTape() as outer:
    with ad.no_grad(), ad.GradientTape() as inner:
        v = w * w
    slope = inner.gradient(v, w)
    out = ad.sum(w * v * slope)
assert slope.tolist() == [2.0, 4.0]
assert outer.gradient(out, w).tolist() == [2.0, 16.0]  # v and slope are constants to it
""",
    "a leaf that a checkpoint updates inside of forward mode": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
p = ad.tensor([1.0, 1.0], requires_grad=True)
def f(x):
    def inner(z):
        with ad.no_grad():
            p.rebind_(p * 2.0)
        return z * p
    return ad.sum(ad.checkpoint(inner)(x) * x)  # p x**2
runs = [
    lambda x: ad.jvp(f, (x,), (one,))[1],
    lambda x: ad.linearize(f, x)[1](one),
    lambda x: ad.sum(ad.hvp(f, x, one)) * 1.5,  # 4 p
    lambda x: ad.sum(ad.jacobian(f, mode="forward")(x)),
]
for run in runs:
    for g in (run, ad.compile(run)):
        with ad.no_grad():
            p.rebind_(one)
        assert g(x).item() == 12.0 and p.tolist() == [2.0, 2.0] and p.is_leaf
""",
    "what a checkpoint assigns in a batch, and nothing of it depends on the batch": """
import adjoint as ad
q, one, batch = ad.tensor([2.0, 3.0]), ad.ones(2), ad.ones((3, 2))
for wrap in (lambda f: f, ad.compile):
    p = ad.tensor([1.0, 1.0], requires_grad=True)
    def update(z):
        with ad.no_grad():
            p.rebind_(p * q)
        return z * p
    assert wrap(ad.vmap(ad.checkpoint(update)))(batch).tolist() == [[2.0, 3.0]] * 3
    assert p.tolist() == [2.0, 3.0] and p.is_leaf
    def loss(x):
        h = ad.tensor([1.0, 1.0])
        def inner(z):
            h.rebind_(h * x)
            return z * x
        return ad.sum(ad.vmap(ad.checkpoint(inner))(batch)) + ad.sum(h * h)
    assert wrap(ad.grad(loss))(q).tolist() == ad.grad(wrap(loss))(q).tolist() == [7.0, 9.0]
    assert wrap(lambda q: ad.jvp(loss, (q,), (one,))[1])(q).item() == 16.0
    assert wrap(ad.hessian(loss))(q).tolist() == [[2.0, 0.0], [0.0, 2.0]]
    h = ad.tensor([1.0, 1.0])
    def differs(z):
        h.rebind_(h * z)
        return z
    try:
        wrap(ad.vmap(ad.checkpoint(differs)))(batch)
    except RuntimeError as error:
        assert "[vmap]" in str(error) and h.tolist() == [1.0, 1.0]
    else:
        raise AssertionError("did not raise")
""",
    "no_grad in a loop makes constants, and does not allow an assignment": """
import adjoint as ad
x, one, h = ad.tensor([1.0, 2.0]), ad.ones(2), ad.zeros(2)
def constant(c):
    with ad.no_grad():
        v = x * 1.0 + c
    return v
loops = [
    lambda f, c: ad.cond(ad.sum(c) > 0, lambda c: c + f(c), lambda c: c, c),
    lambda f, c: ad.scan(lambda s, r: (s + f(s), r), c, one[:1])[0],
    lambda f, c: ad.while_loop(lambda s: ad.sum(s) < 4, lambda s: s + f(s), c, max_steps=1),
]
for loop in loops:
    for wrap in (lambda f: f, ad.compile):
        g = wrap(lambda c: ad.sum(loop(constant, c)))
        assert ad.grad(g)(one).tolist() == [1.0, 1.0] and ad.jvp(g, (one,), (one,))[1].item() == 2.0
        def assign(c):
            with ad.no_grad():
                h.rebind_(c)
            return c
        try:
            wrap(lambda c: loop(assign, c))(one)
        except RuntimeError as error:
            assert "carry" in str(error)
        else:
            raise AssertionError("did not raise")
        assert h.tolist() == [0.0, 0.0]
""",
    "a rule that runs for a batch below another level draws once for each member": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0, 4.0]), ad.ones(3)
def functions(g):
    draw = lambda u: u * g.normal(())
    @ad.custom_jvp
    def jvp_rule(u):
        return draw(u)
    @jvp_rule.defjvp
    def _(primals, tangents):
        r = g.normal(())
        return primals[0] * r, tangents[0] * r
    @ad.custom_vjp
    def vjp_rule(u):
        return draw(u)
    vjp_rule.defvjp(lambda u: (u * (r := g.normal(())), r), lambda r, ct: (ct * r,))
    return {"plain": draw, "checkpoint": ad.checkpoint(draw), "jvp": jvp_rule, "vjp": vjp_rule}
g = ad.random.Generator(3)
for name, h in functions(g).items():
    h2 = lambda u: h(u)
    slopes = [
        lambda: ad.vmap(ad.value_and_grad(h2))(x),
        lambda: (lambda y, pull: (y, pull(one)[0]))(*ad.vjp(ad.vmap(h2), x)),
    ]
    if name != "vjp":
        slopes += [
            lambda: ad.jvp(ad.vmap(h2), (x,), (one,)),
            lambda: ad.jvp(ad.vmap(ad.vmap(h2)), (x[None],), (one[None],)),
            lambda: ad.vmap(lambda v: ad.jvp(h2, (v,), (ad.tensor(1.0),)))(x),
        ]
    for slope in slopes:
        y, d = (t.numpy().ravel() for t in slope())
        assert len(set(d)) == 3, (name, d)
        assert abs(y / x.numpy() - d).max() < 1e-15, (name, y, d)
""",
    "a checkpoint computes again with the variables that it has seen": """
import adjoint as ad
x = ad.tensor([1.0, 2.0])
def loss(wrap, x):
    h = x
    for _ in range(3):
        h = wrap(lambda p: ad.tanh(p * h))(h)
    return ad.sum(h)
def by_global(wrap, x):
    global h
    h = x
    for _ in range(3):
        h = wrap(named)(h)
    return ad.sum(h)
def named(p):
    return outer(p)
def outer(p):
    return ad.tanh(p * h)
def slope(x):  # h <- tanh(h * h), three times, by hand
    import numpy as np
    h, d = x, np.ones_like(x)
    for _ in range(3):
        t = np.tanh(h * h)
        h, d = t, (1 - t * t) * 2 * h * d
    return d
expected = slope(x.numpy())
scanned = lambda f: ad.checkpoint(
    lambda c: ad.scan(lambda a, _: (f(a), None), c, None, length=1)[0])
import functools
partial = lambda f: ad.checkpoint(functools.partial(lambda k, p: f(p * k), 1.0))
for f in (loss, by_global):
    for wrap in (ad.checkpoint, scanned, partial, lambda f: ad.checkpoint(ad.checkpoint(f))):
        g = lambda x: f(wrap, x)
        for derivative in (
            ad.grad(g), ad.compile(ad.grad(g)), ad.grad(ad.compile(g)),
            lambda x: ad.vmap(ad.grad(g))(x[None])[0],
            lambda x: ad.jacobian(g, mode="forward")(x),
        ):
            assert abs(derivative(x).numpy() - expected).max() < 1e-14
w = ad.tensor([1.0, 2.0], requires_grad=True)
total = 0.0
for _ in range(2):
    v = w * 1.0
    total = total + ad.checkpoint(lambda p: ad.sum(p * v))(ad.ones(2))
total.backward()
assert w.grad.tolist() == [2.0, 2.0]
""",
    "a second run that meets another tensor is an error": """
import adjoint as ad, types
o, memo, x = types.SimpleNamespace(), {}, ad.tensor([1.0, 2.0])
def by_attribute(x):
    o.h = x
    for _ in range(2):
        o.h = ad.checkpoint(lambda p: p * o.h)(o.h)
    return ad.sum(o.h)
def by_memo(x):
    def f(x):
        if "c" not in memo:
            memo["c"] = x * 2
        return memo["c"] * x
    return ad.sum(ad.checkpoint(f)(x))
for f in (by_attribute, by_memo):
    try:
        ad.grad(f)(x)
    except RuntimeError as error:
        assert "[checkpoint] the second run meets a tensor" in str(error)
    else:
        raise AssertionError("did not raise")
""",
    "what a compiled function or a branch returns is a handle of its own": """
import adjoint as ad
one = ad.ones(2)
for inner in (ad.compile(lambda x: c),
              lambda x: ad.cond(ad.tensor(True), lambda u: c, lambda u: u, x)):
    def f(x):
        v = inner(x)
        v += x
        return v * 1.0
    for run in (f, ad.compile(f), lambda x: ad.linearize(f, x), ad.grad(lambda x: ad.sum(f(x)))):
        c = ad.tensor([1.0, 2.0])
        run(one)
        assert c.tolist() == [1.0, 2.0]
w = ad.tensor([1.0, 2.0], requires_grad=True)
inner = ad.compile(lambda x: w)
@ad.compile
def g(x):
    with ad.no_grad():
        v = inner(x)
        v[0] = 99.0
        return v * 1.0
assert g(one).tolist() == [99.0, 2.0] and w.tolist() == [1.0, 2.0]
""",
    "what comes back unchanged from under no_grad is a constant": """
import adjoint as ad
x, one = ad.tensor([1.0, 2.0]), ad.ones(2)
for same in (
    ad.compile(lambda u: u),
    ad.compile(lambda u: [u]),
    lambda u: ad.while_loop(lambda q: ad.sum(q) < 0, lambda q: q * 2, u),
    lambda u: ad.scan(lambda q, _: (q, None), u, None, length=0)[0],
    lambda u: ad.scan(lambda q, _: (u, None), u * 0, None, length=1)[0],
    lambda u: ad.cond(ad.tensor(True), lambda q: u, lambda q: q, u),
):
    def f(u):
        with ad.no_grad():
            y = same(u)
        return ad.sum((y[0] if isinstance(y, list) else y) * u)
    for g in (f, ad.compile(f)):
        assert ad.grad(g)(x).tolist() == [1.0, 2.0]
        assert ad.jvp(g, (x,), (one,))[1].item() == 3.0
    assert ad.compile(ad.grad(f))(x).tolist() == [1.0, 2.0]
w = ad.tensor([1.0, 2.0], requires_grad=True)
v, z, b = w * 1.0, ad.zeros(2), ad.tensor([3.0, 4.0])
def assigns(x):
    def inner(u):
        b.rebind_(b - w)
        return ad.sum(u)
    return ad.grad(inner)(x)
with ad.no_grad():
    assert not ad.compile(lambda x: w)(x).requires_grad
    ad.compile(lambda x: (x.rebind_(v), x * 2.0)[1])(z)
    ad.compile(assigns)(one)
assert not z.requires_grad and z.tolist() == [1.0, 2.0]
assert not b.requires_grad and b.tolist() == [2.0, 2.0]
""",
    "has_aux gives an argument back without history": """
import adjoint as ad
x = ad.tensor([1.0, 2.0])
f = lambda x: (ad.sum(x * x), x)
for transform in (ad.grad, ad.value_and_grad, ad.hessian):
    aux = transform(f, has_aux=True)(x)
    aux = aux[0][1] if transform is ad.value_and_grad else aux[1]
    assert not aux.requires_grad and aux is not x
    aux += 1
assert x.tolist() == [1.0, 2.0]
nested = lambda x: (lambda g, a: ad.sum(g * a))(*ad.grad(f, has_aux=True)(x))
assert ad.grad(nested)(x).tolist() == [4.0, 8.0]
assert ad.jvp(nested, (x,), (ad.ones(2),))[1].item() == 12.0
w = ad.tensor([1.0, 2.0], requires_grad=True)
for same in (lambda u: u, lambda u: u * 1.0):
    assert not ad.vjp(same, x)[1](w)[0].requires_grad
    assert ad.grad(lambda w: ad.sum(ad.vjp(same, x)[1](w)[0] * w))(w).tolist() == [2.0, 4.0]
""",
    "an assignment that a loop refuses in a transform is an error and no end of the process": """
import adjoint as ad
s = ad.tensor(1.0)
def inner(z):
    w = z * 2.0
    s.rebind_(w)
    return w
two = ad.tensor(2.0)
for t in (
    lambda y: ad.jvp(ad.grad(inner), (y,), (y,))[1],
    lambda y: ad.hvp(inner, y, y),
    lambda y: ad.linearize(ad.grad(inner), y)[0],
):
    for loop in (
        lambda t, y: ad.cond(ad.tensor(True), t, lambda y: y, y),
        lambda t, y: ad.scan(lambda c, _: (t(c), None), y, None, length=2)[0],
        lambda t, y: ad.while_loop(lambda c: c < 3, t, y),
    ):
        for wrap in (lambda f: f, ad.compile):
            try:
                wrap(lambda y: loop(t, y))(two)
            except RuntimeError as error:
                assert "carry the value" in str(error)
            else:
                raise AssertionError("did not raise")
            assert s.item() == 1.0
""",
    "a loop's values that do not depend on a batch can be kept": """
import adjoint as ad
import numpy as np
X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])
last = ad.tensor(0.0)
def by_scan(x):
    (i, c), y = ad.scan(lambda s, r: ((s[0] + 1, s[1] * x[s[0]] + r), s[0]),
                        (ad.tensor(0), ad.tensor(1.0)), ad.arange(3.0))
    last.rebind_(i * 1.0)
    return c, y
def by_while(x):
    i, c = ad.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x[s[0]] + s[0]),
                         (ad.tensor(0), ad.tensor(1.0)), max_steps=5)
    last.rebind_(i * 1.0)
    return c, ad.arange(3)
def by_cond(x):
    c = 1.0
    for i in range(3):
        c, k = ad.cond(last >= 0, lambda c, v: (c * v + i, ad.tensor(3.0)),
                       lambda c, v: (c, ad.tensor(1.0)), c * ad.ones(()), x[i])
    last.rebind_(k)
    return c, ad.arange(3)
def value(x):
    c = 1.0
    for i in range(3):
        c = c * x[i] + i
    return c
def slope(x):
    return np.array([x[1] * x[2], (x[0]) * x[2], x[0] * x[1] + 1.0])
for f in (by_scan, by_while, by_cond):
    for g in (ad.vmap(f), ad.vmap(ad.compile(f)), ad.compile(ad.vmap(f))):
        last.rebind_(ad.tensor(0.0))
        c, rows = g(ad.tensor(X))
        assert np.allclose(c.numpy(), [value(x) for x in X], rtol=1e-15)
        assert rows.tolist() == [[0, 1, 2], [0, 1, 2]] and last.item() == 3.0
    first = lambda x: f(x)[0]
    for d in (ad.vmap(ad.grad(ad.compile(first))), ad.vmap(ad.compile(ad.grad(first))),
              ad.vmap(ad.jacobian(ad.compile(first), mode="forward"))):
        assert np.allclose(d(ad.tensor(X)).numpy(), [slope(x) for x in X], rtol=1e-14)
""",
    "a loop's only value that does not depend on a batch has its own history": """
import adjoint as ad
x, rows, c = ad.tensor([1.0, 2.0, 4.0]), ad.ones(4), ad.tensor([3.0, 5.0])
def by_cond(v):  # one result, which a branch does not compute from what it takes
    return ad.cond(c[0] > 0, lambda o: o, lambda o: (v, o)[1], c)
def by_scan(v):
    def step(carry, row):
        carry.rebind_(ad.asarray(0.76))
        return carry, carry
    return ad.scan(step, v, rows)[1]
for f, value in ((by_cond, [3.0, 5.0]), (by_scan, [0.76] * 4)):
    for g in (ad.vmap(f), ad.vmap(ad.compile(f)), ad.compile(ad.vmap(f))):
        assert g(x).tolist() == [value] * 3
        total = lambda x, c: ad.sum(g(x))
        assert ad.grad(total)(x, c).tolist() == [0.0] * 3
        assert ad.compile(ad.grad(total))(x, c).tolist() == [0.0] * 3
        assert ad.jvp(lambda x: total(x, c), (x,), (ad.ones(3),))[1].item() == 0.0
def outer(c):
    pick = lambda v: ad.cond(v > 9, lambda o: o * v, lambda o: o * c, c)
    fixed = lambda v: ad.scan(lambda s, r: (s * 2.0, (s * c, v)), c, rows)[0]
    return ad.sum(ad.vmap(fixed)(x) + ad.vmap(pick)(x))
for g in (outer, ad.compile(outer)):  # 3 (16 c + c^2), summed
    assert ad.grad(g)(c).tolist() == [3 * (16 + 2 * 3.0), 3 * (16 + 2 * 5.0)]
    assert ad.jvp(g, (c,), (ad.ones(2),))[1].item() == 3 * (32 + 16.0)
    assert ad.hessian(g)(c).tolist() == [[6.0, 0.0], [0.0, 6.0]]
""",
    "a cotangent that comes once for all members of a batch is counted once": """
import adjoint as ad
w, X = ad.tensor(0.5), ad.tensor([1.0, 2.0])
def by_cond(w, x):  # w x + w^2
    h, a = ad.cond(w > 0.2, lambda: (w * x, w * w), lambda: (x, w))
    return h + a
def by_scan(w, x):
    (h, a), _ = ad.scan(lambda c, _: ((c[0] * w + c[1] * x, c[1] * w), 0.0), (x, w), None, 2)
    return h + a  # x w^2 + 2 x w^2 + w^3
def by_while(w, x):
    z = ad.while_loop(lambda z: z[1] > 0.2, lambda z: (z[0] * w + x, z[1] * w), (x, w), 5)
    return z[0] * z[1]  # two steps: (x w^2 + x w + x) w^3
slopes = {
    by_cond: lambda w: 3 + 4 * w,
    by_scan: lambda w: 18 * w + 6 * w**2,
    by_while: lambda w: 3 * (5 * w**4 + 4 * w**3 + 3 * w**2),
}
for f, slope in slopes.items():
    v = ad.vmap(f, in_axes=(None, 0))
    for g in (v, ad.compile(v), ad.vmap(ad.compile(f), in_axes=(None, 0))):
        total = lambda w: ad.sum(g(w, X))
        for d in (ad.grad(total)(w), ad.compile(ad.grad(total))(w),
                  ad.jvp(total, (w,), (ad.tensor(1.0),))[1], ad.jacobian(total)(w)):
            assert abs(d.item() - slope(0.5)) < 1e-14, (f.__name__, d)
        e = 1e-5
        second = (slope(0.5 + e) - slope(0.5 - e)) / (2 * e)
        assert abs(ad.hessian(total)(w).item() - second) < 1e-8
""",
    "a cotangent for each member reaches a value that is one for all": """
import adjoint as ad
w, X = ad.tensor(2.0), ad.tensor([1.0, 3.0])
def by_cond(w, x):
    a, b = ad.cond(w > 0.2, lambda: (w * w, w * x), lambda: (w, x))
    return a * b  # w^3 x
def by_carry(w, x):
    (a, b), _ = ad.scan(lambda c, _: ((c[0] * w, c[1] * c[0]), None), (w, x), None, 2)
    return a * b  # w^3 w^3 x
def by_output(w, x):
    (a, b), ys = ad.scan(lambda c, _: ((c[0] * 0.5, c[1] * c[0]), c[0]), (w, x), None, 2)
    return x * ad.sum(ys) + b  # 1.5 w x + 0.5 w^2 x
def by_while(w, x):
    keep = lambda c: (c[0] + 1, c[1], c[1] * c[2])
    _, a, b = ad.while_loop(lambda c: c[0] < 2, keep, (0, w, x), 3)
    return a * b  # w^3 x
def nothing(w, x):
    (a, b), _ = ad.scan(lambda c, _: ((c[0], c[0] * c[1]), None), (w, x), None, 0)
    return a * b  # w x
first = {by_cond: lambda w: 3 * w**2, by_carry: lambda w: 6 * w**5,
         by_output: lambda w: 1.5 + w, by_while: lambda w: 3 * w**2, nothing: lambda w: 1.0}
second = {by_cond: 12.0, by_carry: 480.0, by_output: 1.0, by_while: 12.0, nothing: 0.0}
for f, slope in first.items():
    for g, want in ((ad.grad(f), slope(2.0)), (ad.jacobian(f), slope(2.0)),
                    (ad.hessian(f), second[f]), (ad.grad(ad.grad(f)), second[f]),
                    (lambda w, x: ad.jvp(ad.grad(f), (w, x), (1.0, 0.0))[1], second[f])):
        each = ad.vmap(g, in_axes=(None, 0))
        for h in (each, ad.compile(each), ad.vmap(ad.compile(g), in_axes=(None, 0))):
            assert h(w, X).tolist() == [want, 3 * want], (f.__name__, want, h(w, X))
    total = ad.compile(lambda w: ad.sum(ad.vmap(ad.grad(f), in_axes=(None, 0))(w, X)))
    assert ad.grad(total)(w).item() == 4 * second[f], f.__name__
""",
    "each further run of a checkpoint begins with the variables of the first": """
import adjoint as ad
import functools, math
SCALE = 2.0
x, one = ad.tensor(0.37), ad.tensor(1.0)
def by_nonlocal(x):
    n = 1.0
    def bump():
        nonlocal n
        n += 1.0
    def layer(a):
        bump()
        return ad.sin(a * n)
    return ad.checkpoint(layer)(x)
def by_partial(x):
    for k in (2.0,):
        y = ad.checkpoint(functools.partial(lambda a, b: ad.sin(a * b * k), b=1.0))(x)
    k = 7.0
    return y
def by_default(x):
    for k in (2.0,):
        g = lambda a: ad.sin(a * k)
        y = ad.checkpoint(lambda a, g=g: g(a))(x)
    k = 7.0
    return y
def by_globals(x):
    return ad.checkpoint(lambda a: ad.sin(a * globals().get("SCALE", 1.0)))(x)
def lost(x):
    total = 0.0
    def layer(a):
        nonlocal total
        total = total + a * a
        return ad.sin(a)
    return ad.checkpoint(layer)(x) + total
for derivative in (lambda f: ad.grad(f)(x), lambda f: ad.jvp(f, (x,), (one,))):
    try:
        derivative(lost)
    except RuntimeError as error:
        assert "under checkpoint and left it by" in str(error)
    else:
        raise AssertionError("did not raise")
slope, second = 2 * math.cos(0.74), -4 * math.sin(0.74)
for f in (by_nonlocal, by_partial, by_default, by_globals):
    pull = ad.vjp(f, x)[1]
    for _ in range(3):
        assert abs(pull(one)[0].item() - slope) < 1e-15
    assert abs(ad.hvp(f, x, one).item() - second) < 1e-14
    assert abs(ad.hessian(f)(x).item() - second) < 1e-14
    assert abs(ad.compile(ad.grad(f))(x).item() - slope) < 1e-15
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_state(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(compile(PROGRAMS[name], name, "exec"), scope)
