"""Small programs with state, each a point of a kind that was once wrong, with results by hand.

The random programs of `stateful_programs.py` look for more of each kind.
"""

from __future__ import annotations

from typing import Any

import pytest

PROGRAMS = {
    "an activation that is kept, and never read, for calls of several shapes": """
import adjoint as ad
class Net(ad.nn.Module):
    def __init__(self):
        self.scale = ad.tensor(3.0, requires_grad=True)
    def forward(self, x):
        self.hidden = self.scale * x
        return ad.sum(self.hidden)
net = Net()
c = ad.compile(net)
for n in (1, 2, 3, 1, 2):
    assert c(ad.ones((n,))).item() == net(ad.ones((n,))).item() == 3.0 * n
""",
    "a parameter that is thawed between the calls of a compiled step": """
import adjoint as ad
for kind, rate, want in (("SGD", 0.1, 0.64), ("Adam", 0.1, None)):
    found = []
    for wrap in (lambda f: f, ad.compile):
        a, b = (ad.tensor(1.0, requires_grad=True) for _ in range(2))
        optimizer = getattr(ad.optim, kind)([a, b], learning_rate=rate)
        step = wrap(optimizer.step)
        for trains in (False, True, False, True):
            b.requires_grad_(trains)
            optimizer.zero_grad()
            (a * a + b * b).backward()
            step()
        found.append((a.item(), b.item()))
    assert found[0] == found[1], found
    assert want is None or abs(found[1][1] - want) < 1e-12, found
""",
    "the gradient and the name of a handle that has none yet": """
import adjoint as ad
b = ad.tensor(3.0)
c = ad.compile(lambda x: x if b.grad is None else x + b.grad)
assert c(1.0).item() == 1.0
b.requires_grad_()
(b * b).backward()
assert c(1.0).item() == 7.0
def named(x):
    return x * (2.0 if b.name is None else float(len(b.name)))
c = ad.compile(named)
assert c(1.0).item() == 2.0
b.name = "abcde"
assert c(1.0).item() == 5.0
""",
    "an operand given back under no_grad, after it was assigned to": """
import adjoint as ad
h = ad.tensor(1.0)
def f(x):
    h.rebind_(2 * x)
    with ad.no_grad():
        kept = ad.asarray(h)
    y = kept * x
    h.rebind_(1.0)
    return y
x = ad.tensor(3.0)
slope = lambda g: ad.grad(g)(x).item()
push = lambda g: ad.jvp(g, (x,), (1.0,))[1].item()
found = [slope(f), slope(ad.compile(f)), ad.compile(ad.grad(f))(x).item(), slope(ad.checkpoint(f))]
found += [push(f), push(ad.compile(f)), push(ad.checkpoint(f))]
assert found == [6.0] * 7, found
""",
    "an argument given back under no_grad, in the second run of a checkpoint in a batch": """
import adjoint as ad
def f(x):
    with ad.no_grad():
        kept = ad.reshape(ad.asarray(x), (3,))
    return kept * x
x = ad.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
out, slope = ad.jvp(ad.vmap(ad.checkpoint(f)), (x,), (ad.ones((2, 3)),))
assert out.tolist() == [[1.0, 4.0, 9.0], [16.0, 25.0, 36.0]], out
assert slope.tolist() == x.tolist(), slope
""",
    "an item and then an operator on an argument": """
import adjoint as ad
x = ad.tensor([[1.0, 2.0], [3.0, 4.0]])
def f(x):
    x[1] = 1.0
    x -= 0.5
ad.compile(f)(x)
assert x.tolist() == [[0.5, 1.5], [0.5, 0.5]], x.tolist()
""",
    "a captured handle that is an argument twice": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def f(a, b):
    h.rebind_(b[::-1] * 1.0)
    return a + b
assert ad.compile(f)(h, h).tolist() == [4.0, 2.0]
""",
    "grad that is a view of a rebound handle": """
import adjoint as ad
h, w = ad.tensor([1.0, 2.0], requires_grad=True), ad.tensor(3.0, requires_grad=True)
def step():
    loss = h[0] * w
    w.zero_grad()
    h.zero_grad()
    loss.backward()
    with ad.no_grad():
        h.rebind_(h - 0.5 * h.grad)
c = ad.compile(step)
c()
c()
assert h.tolist() == [-2.0, 2.0] and w.grad.item() == -0.5, (h.tolist(), w.grad.item())
""",
    "a view made inside of a loop body": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def step(c, r):
    t = h[::1]
    t *= 2.0
    return c + ad.sum(t), c
assert ad.compile(lambda x: ad.scan(step, x, ad.zeros((2,)))[0])(0.0).item() == 12.0
""",
    "a view made by a helper of a loop body": """
import adjoint as ad
def helper(t):
    t[0] = 0.5
    return t * 1.0
def f(x):
    def more(s):
        k, c = s
        return k + 1, c + helper(x[:])
    return ad.while_loop(lambda s: s[0] < 2, more, (ad.asarray(0), x), max_steps=3)[1]
assert ad.compile(f)(ad.tensor([1.0, 2.0])).tolist() == [2.0, 6.0]
""",
    "a leaf moved under no_grad in compile": """
import adjoint as ad
w, v = ad.tensor(2.0, requires_grad=True), ad.tensor(3.0, requires_grad=True)
def f():
    with ad.no_grad():
        v.rebind_(v + 1.0)
    return w * v
out = ad.compile(f)()
out.backward()
assert (w.grad.item(), v.grad.item()) == (4.0, 2.0)
""",
    "jvp in compile assigns outside": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def f(x):
    h.rebind_(x * x)
    return x * h
def g(x):
    return ad.jvp(f, (x,), (ad.ones((2,)),))[1]
assert ad.compile(g)(ad.tensor([3.0, 4.0])).tolist() == [9.0, 16.0]  # h is constant to the jvp
assert h.tolist() == [9.0, 16.0]
""",
    "scan in scan in jvp in compile": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def f(x):
    def outer(c, r):
        def inner(s, q):
            return s, s * q
        return c, ad.scan(inner, h, x)[0]
    return ad.scan(outer, h, x)[1]
g = ad.compile(lambda x: ad.jvp(f, (x,), (x,))[1])
assert g(ad.tensor([3.0, 4.0])).tolist() == [[0.0, 0.0], [0.0, 0.0]]
""",
    "a handle assigned under grad": """
import adjoint as ad
h = ad.zeros((2,))
def f(x):
    h.rebind_(x * x)
    return ad.sum(h * x)
assert ad.grad(f)(ad.tensor([1.0, 2.0])).tolist() == [3.0, 12.0]
assert h.tolist() == [1.0, 4.0] and not h.requires_grad
""",
    "has_aux under an outer grad": """
import adjoint as ad
def g(x):
    (value, aux), _ = ad.value_and_grad(lambda x: (ad.sum(x * 2.0), x * 1.0), has_aux=True)(x)
    return value * 3.0 + ad.sum(aux)
assert ad.grad(g)(ad.tensor([1.0, 2.0])).tolist() == [7.0, 7.0]
""",
    "the identity under no_grad": """
import adjoint as ad
def f(x):
    with ad.no_grad():
        v = x[:]
    return ad.sum(v * x)
assert ad.grad(f)(ad.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
""",
    "a carry that starts as an argument of grad": """
import adjoint as ad
def step(c, r):
    c[0] = r
    return c * 2.0, c
g = ad.grad(lambda x: ad.sum(ad.scan(step, x, ad.tensor([1.0, 2.0]))[0]))(ad.tensor([1.0, 2.0]))
assert g.tolist() == [0.0, 4.0]
""",
    "a handle assigned under jvp": """
import adjoint as ad
h = ad.zeros((2,))
def f(x):
    h.rebind_(x * x)
    return x
ad.jvp(f, (ad.tensor([1.0, 2.0]),), (ad.ones((2,)),))
assert (h + 1).tolist() == [2.0, 5.0]
""",
    "a handle read back under jvp": """
import adjoint as ad
h = ad.zeros((2,))
def f(x):
    h.rebind_(x * x)
    return h * x
assert ad.jvp(f, (ad.tensor([1.0, 2.0]),), (ad.ones((2,)),))[1].tolist() == [1.0, 4.0]
""",
    "no_grad in forward mode": """
import adjoint as ad
def f(x):
    y = x * 1.0
    with ad.no_grad():
        y -= 1.5
        a, b = x
        t = ad.scan(lambda c, r: (c * r, c), x, x)[0]
    return ad.sum(y) + a * b + ad.sum(t)
assert ad.jvp(f, (ad.tensor([1.0, 2.0]),), (ad.ones((2,)),))[1].item() == 0.0
""",
    "vmap refuses what depends on the batch": """
import adjoint as ad
h = ad.zeros(())
def f(x):
    global h
    h += x
    return x
for g in (ad.vmap(f), ad.compile(ad.vmap(f))):
    try:
        g(ad.tensor([1.0, 2.0]))
    except Exception:
        pass
    else:
        raise AssertionError("did not raise")
    assert h.item() == 0.0
""",
    "vmap assigns what does not": """
import adjoint as ad
h, n = ad.zeros((2,)), ad.zeros(())
def f(x):
    global n
    n += 1.0
    def step(c, r):
        c += x
        return c, r
    return ad.scan(step, h, ad.zeros((3,)))[0]
assert ad.vmap(f)(ad.tensor([1.0, 2.0])).tolist() == [[3.0, 3.0], [6.0, 6.0]]
assert n.item() == 1.0 and h.tolist() == [0.0, 0.0]
""",
    "a carry in place": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def step(c, r):
    c[:1] += r
    return c, c
last, rows = ad.scan(step, h, ad.tensor([1.0, 1.0]))
assert h.tolist() == [1.0, 2.0] and rows.tolist() == [[2.0, 2.0], [3.0, 2.0]]
""",
    "two entries of a carry from one handle": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def step(c, r):
    a, b = c
    a += 1.0
    return (a, b), b
(a, b), rows = ad.scan(step, (h, h), ad.zeros((2,)))
assert (a.tolist(), b.tolist(), h.tolist()) == ([3.0, 4.0], [1.0, 2.0], [1.0, 2.0])
""",
    "the results of a loop are its own": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
a, b = ad.scan(lambda c, r: (c, r), (h, h), ad.zeros((2,)))[0]
b *= 5.0
start = (ad.asarray(0), h)
_, c = ad.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1]), start, max_steps=1)
c += 1.0
assert h.tolist() == [1.0, 2.0] and a.tolist() == [1.0, 2.0]
""",
    "an eager loop refuses": """
import adjoint as ad
h, gen = ad.zeros(()), ad.random.Generator(0)
def assign(c, r):
    h.rebind_(h + 1.0)
    return c, r
def draw(c, r):
    return c + gen.uniform(), r
for step in (assign, draw):
    try:
        ad.scan(step, ad.zeros(()), ad.zeros((2,)))
    except Exception:
        pass
    else:
        raise AssertionError(f"{step.__name__} did not raise")
assert h.item() == 0.0 and gen.state.tolist() == [0, 0]
""",
    "checkpoint assigns once": """
import adjoint as ad
w, h = ad.tensor(2.0, requires_grad=True), ad.tensor(3.0)
def f(x):
    global h
    with ad.no_grad():
        h *= 2.0
    return ad.sin(w * h) * x
out = ad.checkpoint(f)(ad.tensor(1.0))
h += 100.0
out.backward()
assert h.item() == 106.0
import math
assert abs(w.grad.item() - 6.0 * math.cos(12.0)) < 1e-12
""",
    "a leaf moved in a checkpoint": """
import adjoint as ad
w = ad.tensor(2.0, requires_grad=True)
def f(x):
    with ad.no_grad():
        w.rebind_(w + 1.0)
    return w * w * x
out = ad.checkpoint(f)(ad.tensor(1.0))
out.backward()
assert w.item() == 3.0 and w.grad.item() == 6.0
""",
    "a generator in a checkpoint": """
import adjoint as ad, numpy as np
w, gen, same = ad.tensor(2.0, requires_grad=True), ad.random.Generator(0), ad.random.Generator(0)
out = ad.checkpoint(lambda x: ad.sin(w * gen.uniform()) * x)(ad.tensor(1.0))
out.backward()
u = same.uniform().item()
assert gen.state.tolist() == same.state.tolist() and abs(w.grad.item() - u * np.cos(2 * u)) < 1e-12
""",
    "checkpoint of a derivative": """
import adjoint as ad, numpy as np
f = lambda x: ad.value_and_grad(lambda x: (ad.sum(ad.tanh(x)), ad.tanh(x)), has_aux=True)(x)
(v, aux), g = ad.checkpoint(f)(ad.tensor([0.5, 1.0]))
assert np.allclose(aux.numpy(), np.tanh([0.5, 1.0])), aux
""",
    "an inner gradient in a checkpoint": """
import adjoint as ad, math
w = ad.tensor(0.3, requires_grad=True)
f = lambda x: ad.sin(w) + ad.grad(lambda z: ad.sin(z * w))(x)
ad.sum(f(ad.tensor(0.7))).backward()
plain = w.grad.item()
w.zero_grad()
ad.sum(ad.checkpoint(f)(ad.tensor(0.7))).backward()
assert w.grad.item() == plain, (plain, w.grad.item())
""",
    "a gradient changed through a handle on it": """
import adjoint as ad
w = ad.tensor([3.0, 4.0], requires_grad=True)
ad.sum(w * w / 2).backward()
g = w.grad
g *= 0.5
assert w.grad.tolist() == [1.5, 2.0]
w.grad[0] = 0.0
assert w.grad.tolist() == [0.0, 2.0]
""",
    "a tensor kept in an attribute by compile": """
import adjoint as ad
class Net(ad.nn.Module):
    def __init__(self):
        self.h = ad.zeros(2)
    def forward(self, x):
        self.h = self.h + x
        return self.h * 1
net = Net()
try:
    ad.compile(net)(ad.ones(2))
except RuntimeError as error:
    assert "[compile]" in str(error)
else:
    raise AssertionError("did not raise")
assert net.h.tolist() == [0.0, 0.0]
""",
    "what a traced function can see is noticed": """
import types
import numpy as np
import adjoint as ad
class K:
    k = 1.0
class S:
    __slots__ = ("k",)
a, o, p, n, q = np.ones(2), S(), K(), types.SimpleNamespace(a=1.0), {1}
o.k = 1.0
d = dict(a=1.0, b=2.0)
fs = [lambda x: x * K.k, lambda x: x * p.k, lambda x: x * o.k, lambda x: x * n.a,
      lambda x: x * getattr(p, "z", 1.0), lambda x: x * len(q), lambda x: x * list(d.values())[0],
      lambda x: ad.sum(x * a)]
cs = [ad.compile(f) for f in fs]
for c in cs:
    c(2.0)
K.k, p.k, p.z, o.k, n.a, a[0] = 5.0, 3.0, 4.0, 9.0, 2.0, 7.0
q.add(2)
d["a"] = d.pop("a")
got = [c(2.0).item() for c in cs]
assert got == [10.0, 6.0, 18.0, 4.0, 8.0, 4.0, 4.0, 16.0], got
""",
    "a compiled branch runs whole or not at all": """
import adjoint as ad
x = ad.arange(4.0)
f = ad.compile(lambda i: ad.cond(i < 4, lambda: x[i], lambda: ad.tensor(-1.0)))
assert f(ad.tensor(9)).item() == -1.0 and f(ad.tensor(2)).item() == 2.0
""",
    "enable_grad in a function compiled under no_grad": """
import adjoint as ad
w = ad.tensor(3.0, requires_grad=True)
def f(x):
    with ad.enable_grad():
        return w * x
c = ad.compile(f)
with ad.no_grad():
    y = c(2.0)
y.backward()
assert w.grad.item() == 2.0
""",
    "requires_grad alone is noticed": """
import adjoint as ad
w = ad.tensor(3.0, requires_grad=True)
f = ad.compile(lambda x: x * (2 if w.requires_grad else 3))
assert f(1.0).item() == 2.0
w.requires_grad_(False)
assert f(1.0).item() == 3.0
""",
    "the value beside a gradient has no history in compile either": """
import adjoint as ad
w = ad.tensor(2.0, requires_grad=True)
f = lambda x: ad.value_and_grad(lambda v: v * w * w)(x)[0] + w
for g in (f, ad.compile(f)):
    w.zero_grad()
    g(3.0).backward()
    assert w.grad.item() == 1.0, w.grad
""",
    "what a compiled function assigns inside forward mode is recorded around it": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def double(x):
    h.rebind_(2.0 * x)
for g in (double, ad.compile(double)):
    def loss(x):
        ad.jvp(g, (x,), (x,))
        return ad.sum(h * h)
    assert ad.grad(loss)(ad.tensor([3.0, 4.0])).tolist() == [24.0, 32.0]
""",
    "what is the same along a batch has a derivative that is": """
import adjoint as ad
h = ad.tensor([1.0, 2.0])
def f(x, y):
    h[0] = 3.0 * y
    return x * y
for g in (f, ad.compile(f)):
    h.rebind_(ad.tensor([1.0, 2.0]))
    mapped = ad.vmap(g, in_axes=(0, None))
    x, y = ad.tensor([1.0, 2.0]), ad.tensor(5.0)
    assert ad.jvp(mapped, (x, y), (x, y))[1].tolist() == [10.0, 20.0]
    assert h.tolist() == [15.0, 2.0]
    grad = ad.grad(lambda y: ad.sum(mapped(x, y)) + h[0])(y)
    assert grad.item() == 6.0, grad
""",
    "a derived program does not depend on what first asked for it": """
import adjoint as ad
x, one = ad.tensor(2.0), ad.tensor(1.0)
c = ad.compile(lambda x: x**4)
h = lambda x: ad.hvp(c, x, one)
assert h(x).item() == 48.0
assert ad.grad(h)(x).item() == 48.0
leaf = ad.tensor(2.0, requires_grad=True)
c = ad.compile(lambda x: x**4)
ad.grad(lambda x: ad.hvp(c, x, one))(2.0)
assert not ad.hvp(c, leaf, one).requires_grad
""",
    "a checkpoint's argument that is captured too": """
import adjoint as ad
twice = lambda f: ad.checkpoint(ad.checkpoint(f))
both = lambda f: ad.compile(ad.checkpoint(f))
other = lambda f: ad.checkpoint(ad.compile(f))
for wrap in (lambda f: f, ad.compile, ad.checkpoint, twice, both, other):
    h = ad.tensor([1.0, 2.0])
    def f(a):
        a[0] = 10.0
        h[1] = 20.0
        return h + a
    assert wrap(f)(h).tolist() == [20.0, 40.0] and h.tolist() == [10.0, 20.0]
    w, state = ad.tensor(2.0, requires_grad=True), ad.tensor(1.0)
    def layer(x, s):
        state.rebind_(state * x)
        return s * x
    out = wrap(layer)(w, state)
    out.backward()
    assert out.item() == 4.0 and w.grad.item() == 4.0
    leaf = ad.tensor([1.0, 2.0], requires_grad=True)
    def step(w, x):
        y = ad.sum(w * x)
        with ad.no_grad():
            w.rebind_(w * 2)
        return y
    wrap(step)(leaf, ad.tensor([1.0, 3.0])).backward()
    assert leaf.tolist() == [2.0, 4.0] and leaf.grad.tolist() == [1.0, 3.0] and leaf.is_leaf
    if wrap is not ad.checkpoint:
        h = ad.tensor(1.0)
        def product(a):
            h.rebind_(h * a)
            return h * a
        assert ad.grad(ad.compile(wrap(product)))(ad.tensor(2.0)).item() == 4.0
""",
    "what the outermost grad has assigned has no history in any mode": """
import adjoint as ad
for wrap in (lambda f: f, ad.compile, ad.checkpoint):
    for value in (lambda w, y: w * y, lambda w, y: w, lambda w, y: y):
        w, h = ad.tensor(3.0, requires_grad=True), ad.tensor(1.0)
        def loss(y):
            h.rebind_(value(w, y))
            return y * y
        assert wrap(ad.grad(loss))(ad.tensor(2.0)).item() == 4.0
        assert not (h * 1.0).requires_grad and w.requires_grad and w.is_leaf
""",
    "an inner level of forward mode takes its own tangent only": """
import adjoint as ad
x, v = ad.tensor([0.5, 2.0]), ad.tensor([1.0, 3.0])
for wrap in (lambda f: f, ad.compile):
    def inner(x):
        t = 3.0 * x
        def assign(z):
            t.rebind_(t * z)
            return z
        ad.jvp(wrap(assign), (x,), (x,))
        return t  # 3 x**2
    assert ad.jvp(inner, (x,), (v,))[1].tolist() == [3.0, 36.0]
    slope = ad.grad(lambda x: ad.sum(inner(x)))
    assert ad.jvp(slope, (x,), (v,))[1].tolist() == [6.0, 18.0]
""",
    "an inner level of forward mode takes its own tangent only, in a batch too": """
import adjoint as ad
x, v = ad.asarray([0.5, 2.0]), ad.asarray([1.0, 3.0])
def inner(x):
    t = 3.0 * x
    def assign(z):
        def loss(u):
            t.rebind_(t * z * u)  # what the grad records stays with it until it is over
            return u * z
        ad.grad(loss)(1.0)
        return z
    ad.jvp(assign, (x,), (x,))
    return t  # 3 x**2
def mapped(x):
    return ad.vmap(inner)(x)
assert ad.jvp(mapped, (x,), (v,))[1].tolist() == [3.0, 36.0]
assert ad.vmap(lambda x, v: ad.jvp(inner, (x,), (v,))[1])(x, v).tolist() == [3.0, 36.0]
""",
    "a constant that a checkpoint assigns is one inside of compile": """
import adjoint as ad
for wrap in (lambda f: f, ad.compile):
    h, w = ad.tensor([1.0, 1.0]), ad.tensor([1.0, 2.0], requires_grad=True)
    def helper(x):
        with ad.no_grad():
            h.rebind_(h + x)
    wrap(lambda: ad.checkpoint(helper)(w))()
    assert h.tolist() == [2.0, 3.0] and not h.requires_grad
""",
    "an argument that is assigned inside forward mode keeps the primal, compiled or not": """
import adjoint as ad
for wrap in (lambda f: f, ad.compile):
    h = ad.tensor([1.0, 2.0])
    def scale(a, x):
        global h
        h *= x
        return a
    scale = wrap(scale)
    out, slope = ad.jvp(lambda x: scale(h, x), (ad.tensor(3.0),), (ad.tensor(1.0),))
    assert out.tolist() == [3.0, 6.0] and slope.tolist() == [0.0, 0.0], slope
""",
    "a jacobian is of one run, that draws and assigns once": """
import numpy as np
import adjoint as ad
A = np.arange(1.0, 7.0).reshape(3, 2)
x, once = ad.tensor([1.0, 2.0]), ad.random.Generator(3)
u = once.uniform(()).item()
full = np.ones((3, 2), dtype=bool)
modes = [{}, {"mode": "forward"}, {"mode": "reverse"}]
modes += [{"mode": "forward", "sparsity": full}, {"mode": "reverse", "sparsity": full}]
for wrap in (lambda f: f, ad.compile):
    for how in modes:
        g, count = ad.random.Generator(3), ad.tensor(0.0)
        def f(x):
            count.rebind_(count + 1.0)
            return (ad.asarray(A) @ x) * g.uniform(())
        found = wrap(ad.jacobian(f, **how))(x).numpy()
        np.testing.assert_allclose(found, A * u, rtol=1e-15, err_msg=str(how))
        assert g.state.tolist() == once.state.tolist() and count.item() == 1.0, how
""",
    "a hessian, a tape's jacobian, a solve and a rule's rows are of one run too": """
import numpy as np
import adjoint as ad
x, once = ad.tensor([1.0, 2.0]), ad.random.Generator(3)
u = once.uniform(()).item()
g = None
def loss(x):
    return ad.sum(x**3) * g.uniform(())
def tape(x):
    x = ad.Variable(x)
    with ad.GradientTape() as t:
        y = x**2 * g.uniform(())
    return t.jacobian(y, x) * 3
@ad.custom_vjp
def rule(x):
    return 3 * x**2
rule.defvjp(lambda x: (3 * x**2, x), lambda x, ct: (6 * x * ct * g.uniform(()),))
square = np.ones((2, 2), dtype=bool)
for run in (
    ad.hessian(loss),
    ad.hessian(loss, sparsity=square),
    ad.jacobian(ad.grad(loss), mode="forward"),
    ad.jacobian(ad.jacobian(loss, mode="forward"), mode="forward"),
    tape,
    ad.jacobian(rule, mode="reverse"),
    ad.jacobian(rule, mode="forward"),
    ad.jacobian(rule, mode="reverse", sparsity=square),
    ad.jacobian(ad.checkpoint(lambda x: 3 * x**2 * g.uniform(())), mode="forward"),
):
    g = ad.random.Generator(3)
    np.testing.assert_allclose(run(x).numpy(), np.diag([6 * u, 12 * u]), rtol=1e-14)
    assert g.state.tolist() == once.state.tolist()
""",
    "in a vmap around a jacobian each member draws its own": """
import numpy as np
import adjoint as ad
A = np.arange(1.0, 7.0).reshape(3, 2)
rows, once = ad.tensor([[1.0, 2.0], [3.0, 4.0]]), ad.random.Generator(3)
u = once.uniform((2,)).numpy()
for how in ({}, {"mode": "forward"}, {"mode": "reverse"}):
    g = ad.random.Generator(3)
    f = lambda x: (ad.asarray(A) @ x) * g.uniform(())
    found = ad.vmap(ad.jacobian(f, **how))(rows).numpy()
    np.testing.assert_allclose(found, u[:, None, None] * A, rtol=1e-15)
    assert g.state.tolist() == once.state.tolist()
""",
    "a rule by hand: value and derivative are of one draw, state changes once": """
import numpy as np
import adjoint as ad
once = ad.random.Generator(3)
u = once.uniform(()).item()
x, e = ad.tensor([1.0, 2.0]), ad.tensor([1.0, 0.0])
def by_jvp(g, count):
    @ad.custom_jvp
    def f(x):
        count.rebind_(count + 1.0)
        return ad.sum(x**3) * g.uniform(())
    @f.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        count.rebind_(count + 1.0)
        u = g.uniform(())
        return ad.sum(x**3) * u, ad.sum(3 * x**2 * t) * u
    return f
def by_vjp(g, count):
    @ad.custom_vjp
    def f(x):
        count.rebind_(count + 1.0)
        return ad.sum(x**3) * g.uniform(())
    def forward(x):
        count.rebind_(count + 1.0)
        u = g.uniform(())
        return ad.sum(x**3) * u, (x, u)
    f.defvjp(forward, lambda kept, ct: (3 * kept[0] ** 2 * kept[1] * ct,))
    return f
slope, curve = [3.0, 12.0], [[6.0, 0.0], [0.0, 12.0]]
cases = {
    "plain": (lambda f: f(x), 9.0),
    "jvp": (lambda f: ad.jvp(f, (x,), (e,))[1], 3.0),
    "grad": (lambda f: ad.grad(f)(x), slope),
    "value": (lambda f: ad.value_and_grad(f)(x)[0], 9.0),
    "jacobian": (lambda f: ad.jacobian(f, mode="forward")(x), slope),
    "hvp": (lambda f: ad.hvp(f, x, e), [6.0, 0.0]),
    "hessian": (lambda f: ad.hessian(f)(x), curve),
    "forward over reverse": (lambda f: ad.jacobian(ad.grad(f), mode="forward")(x), curve),
    "linearize": (lambda f: ad.linearize(f, x)[1](e), 3.0),
    "grad of compiled": (lambda f: ad.grad(ad.compile(f))(x), slope),
    "checkpoint": (lambda f: ad.grad(ad.checkpoint(f))(x), slope),
}
for make in (by_jvp, by_vjp):
    for wrap in (lambda f: f, ad.compile):
        for name, (run, want) in cases.items():
            g, count = ad.random.Generator(3), ad.tensor(0.0)
            f = make(g, count)
            found = wrap(lambda: run(f))().numpy()
            np.testing.assert_allclose(found, np.multiply(want, u), rtol=1e-14, err_msg=name)
            assert g.state.tolist() == once.state.tolist(), name
            assert count.item() == 1.0, name
    rows, us = ad.tensor([[1.0, 2.0], [3.0, 4.0]]), ad.random.Generator(3).uniform((2,)).numpy()
    want = 3 * rows.numpy() ** 2 * us[:, None]
    for run in (lambda f: ad.vmap(ad.grad(f)), lambda f: ad.grad(lambda x: ad.sum(ad.vmap(f)(x)))):
        g, count = ad.random.Generator(3), ad.tensor(0.0)
        np.testing.assert_allclose(run(make(g, count))(rows).numpy(), want, rtol=1e-14)
        assert count.item() == 1.0
""",
    "a rule whose arguments are not of the batch that it draws in": """
import numpy as np
import adjoint as ad
x, b = ad.tensor([1.0, 2.0]), np.array([1.0, 10.0])
us = ad.random.Generator(3).uniform((2,)).numpy()
g = None
@ad.custom_vjp
def by_vjp(x):
    return ad.sum(x**2) * g.uniform(())
by_vjp.defvjp(
    lambda x: (lambda u: (ad.sum(x**2) * u, (x, u)))(g.uniform(())),
    lambda kept, ct: (2 * kept[0] * kept[1] * ct,),
)
@ad.custom_jvp
def by_jvp(x):
    return ad.sum(x**2) * g.uniform(())
@by_jvp.defjvp
def rule(primals, tangents):
    u = g.uniform(())
    return ad.sum(primals[0] ** 2) * u, ad.sum(2 * primals[0] * tangents[0]) * u
again = ad.checkpoint(lambda x: ad.sum(x**2) * g.uniform(()))
for f in (by_vjp, by_jvp, again):
    for wrap in (lambda f: f, ad.compile):
        def loss(x):
            return ad.sum(ad.vmap(lambda b: b * f(x))(ad.asarray(b)))
        g = ad.random.Generator(3)
        value, slope = wrap(ad.value_and_grad(loss))(x)
        np.testing.assert_allclose(value.item(), 5 * (b @ us), rtol=1e-14)
        np.testing.assert_allclose(slope.numpy(), [2 * (b @ us), 4 * (b @ us)], rtol=1e-14)
""",
    "a program does not write to arrays among its arguments, and says so": """
import numpy as np
import adjoint as ad
def by_item(a):
    a[0] = 5.0
    return a * 1.0
def by_operator(a):
    a += 5.0
    return a * 1.0
for f in (by_item, by_operator):
    a = np.array([1.0, 2.0])
    try:
        ad.compile(f)(a)
    except TypeError as error:
        assert "ndarray" in str(error) and "ad.tensor" in str(error), error
    else:
        raise AssertionError("TypeError expected")
    assert a.tolist() == [1.0, 2.0]
    t = ad.tensor(a)
    found = ad.compile(f)(t)
    assert found.tolist() == t.tolist() == ([5.0, 2.0] if f is by_item else [6.0, 7.0])
assert ad.compile(lambda a: a + 5.0)(np.array([1.0, 2.0])).tolist() == [6.0, 7.0]
""",
    "numbers as Python has them": """
import adjoint as ad
assert ad.compile(lambda x, n: x * len(str(n)))(1.0, 7).item() == 1.0
cases = [(lambda n: 1 / n, 0.0, ZeroDivisionError), (lambda n: n**2, 1e308, OverflowError)]
for f, n, error in cases:
    try:
        ad.compile(f)(n)
    except error:
        pass
    else:
        raise AssertionError(f"{error} expected")
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_state(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(compile(PROGRAMS[name], name, "exec"), scope)
