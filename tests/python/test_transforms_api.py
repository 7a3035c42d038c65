"""The Python face of the transforms: argument numbers, pytrees, aux, nesting, decorators."""

import inspect
import threading
from typing import NamedTuple

import numpy as np
import pytest

import adjoint as ad


def cube(x):
    return x**3


def test_grad_of_a_float():
    assert ad.grad(lambda w: w**2 + 1)(5.0).item() == 10.0
    g = ad.grad(cube)(2.0)
    assert type(g) is ad.Tensor and g.shape == () and g.dtype is ad.float64
    assert not g.requires_grad


def test_grad_of_tensors_and_arrays():
    x = np.array([1.0, 2.0, 3.0])
    for arg in (ad.tensor(x), x, [1.0, 2.0, 3.0]):
        g = ad.grad(lambda v: ad.sum(ad.asarray(v) ** 2))(arg)
        g = ad.asarray(g)
        np.testing.assert_allclose(g.numpy(), 2 * x)
    assert ad.grad(lambda v: ad.sum(v * v))(ad.tensor([1.0], dtype=ad.float32)).dtype is ad.float32


def test_orders():
    f = cube
    expected = [8.0, 12.0, 12.0, 6.0, 0.0]
    for value in expected:
        assert float(f(2.0)) == value
        f = ad.grad(f) if value != 8.0 else ad.grad(cube)


def test_argnums():
    def f(a, b, c):
        return a * b + c

    assert ad.grad(f, argnums=1)(2.0, 3.0, 4.0).item() == 2.0
    assert [g.item() for g in ad.grad(f, argnums=(0, 2))(2.0, 3.0, 4.0)] == [3.0, 1.0]
    assert ad.grad(f, argnums=-1)(2.0, 3.0, 4.0).item() == 1.0
    assert ad.grad(f)(2.0, b=3.0, c=1.0).item() == 3.0


def test_pytrees():
    class Point(NamedTuple):
        x: float
        y: float

    def f(p):
        return p["a"][0] * p["b"].x + p["b"].y

    g = ad.grad(f)({"a": [2.0, None], "b": Point(3.0, 5.0)})
    assert g["a"][0].item() == 3.0 and g["a"][1] is None
    assert type(g["b"]) is Point and g["b"].x.item() == 2.0 and g["b"].y.item() == 1.0


def test_aux_and_value():
    def f(x):
        return x * x, {"seen": 7}

    g, aux = ad.grad(f, has_aux=True)(3.0)
    assert g.item() == 6.0 and aux == {"seen": 7}
    (value, aux), g = ad.value_and_grad(f, has_aux=True)(3.0)
    assert value.item() == 9.0 and aux == {"seen": 7} and g.item() == 6.0
    value, g = ad.value_and_grad(cube)(2.0)
    assert value.item() == 8.0 and g.item() == 12.0


def test_constant_functions():
    assert ad.grad(lambda x: 3.0)(1.0).item() == 0.0
    assert ad.grad(lambda x: ad.tensor(3.0))(1.0).item() == 0.0


def test_outer_leaves_are_left_alone():
    w = ad.tensor(2.0, requires_grad=True)
    g = ad.grad(lambda x: x * w)(3.0)
    assert g.item() == 2.0 and w.grad is None
    assert ad.grad(lambda x: x * x)(w).item() == 4.0 and w.requires_grad


def test_under_no_grad():
    with ad.no_grad():
        assert ad.grad(cube)(2.0).item() == 12.0
        w = ad.tensor(1.0, requires_grad=True)
        assert not (w * 2).requires_grad
    assert (w * 2).requires_grad


def test_no_grad_as_decorator_and_nested():
    @ad.no_grad()
    def f(x):
        "Doc."
        assert not ad.is_grad_enabled()
        return x * 2

    w = ad.tensor(1.0, requires_grad=True)
    assert f.__name__ == "f" and f.__doc__ == "Doc."
    assert not f(w).requires_grad
    with ad.no_grad():
        with ad.enable_grad():
            assert (w * 2).requires_grad
        assert not (w * 2).requires_grad
    with pytest.raises(ZeroDivisionError), ad.no_grad():
        1 / 0  # noqa: B018
    assert ad.is_grad_enabled()


def test_vjp():
    def f(a, b):
        return {"p": a * b, "s": a + b}

    out, pullback = ad.vjp(f, ad.tensor([1.0, 2.0]), ad.tensor([3.0, 4.0]))
    assert out["p"].tolist() == [3.0, 8.0]
    ct = {"p": ad.tensor([1.0, 1.0]), "s": ad.tensor([10.0, 10.0])}
    for _ in range(2):
        a, b = pullback(ct)
        assert a.tolist() == [13.0, 14.0] and b.tolist() == [11.0, 12.0]


def test_jvp():
    y, t = ad.jvp(lambda a, b: a * b, (2.0, 3.0), (1.0, 10.0))
    assert y.item() == 6.0 and t.item() == 23.0
    y, t = ad.jvp(lambda x: {"c": 5.0, "x": x}, (2.0,), (1.0,))
    assert t["c"].item() == 0.0 and t["x"].item() == 1.0


def test_perturbation_confusion():
    # d/dx [x d/dy (x + y)] = 1, not 2.
    def inner(x):
        return ad.jvp(lambda y: x + y, (1.0,), (1.0,))[1]

    assert ad.jvp(lambda x: x * inner(x), (1.0,), (1.0,))[1].item() == 1.0
    assert ad.grad(lambda x: x * ad.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0


def test_hessian_jacobian_hvp():
    a = np.array([[2.0, 1.0], [1.0, 4.0]])

    def f(x):
        return 0.5 * ad.sum(x * (ad.tensor(a) @ x)) + ad.sum(x**3)

    x = np.array([1.0, 2.0])
    expected = a + np.diag(6 * x)
    np.testing.assert_allclose(ad.hessian(f)(ad.tensor(x)).numpy(), expected)
    v = np.array([1.0, -1.0])
    np.testing.assert_allclose(ad.hvp(f, ad.tensor(x), ad.tensor(v)).numpy(), expected @ v)
    jac = ad.jacobian(lambda x: ad.stack([x[0] * x[1], x[0] ** 2, x[1]]))(ad.tensor(x))
    np.testing.assert_allclose(jac.numpy(), [[2.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    tree = ad.jacobian(lambda p: p["a"] * p["b"])({"a": ad.tensor([1.0, 2.0]), "b": 3.0})
    np.testing.assert_allclose(tree["a"].numpy(), [[3.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(tree["b"].numpy(), [1.0, 2.0])


def test_vmap():
    a, b = np.arange(6.0).reshape(3, 2), np.arange(2.0)
    out = ad.vmap(lambda x, y: ad.sum(x * y), in_axes=(0, None))(ad.tensor(a), ad.tensor(b))
    np.testing.assert_allclose(out.numpy(), a @ b)
    out = ad.vmap(lambda x: x * 2, in_axes=1, out_axes=1)(ad.tensor(a))
    np.testing.assert_allclose(out.numpy(), a * 2)
    out = ad.vmap(lambda d: d["x"] + d["k"], in_axes=({"x": 0, "k": None},))(
        {"x": ad.tensor(a), "k": 1.0}
    )
    np.testing.assert_allclose(out.numpy(), a + 1)
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(ad.vmap(ad.grad(cube))(ad.tensor(x)).numpy(), 3 * x**2)
    nested = ad.vmap(ad.vmap(lambda p, q: p * q, in_axes=(None, 0)), in_axes=(0, None))
    np.testing.assert_allclose(nested(ad.tensor(x), ad.tensor(b)).numpy(), np.outer(x, b))


def test_explicit_exits_give_the_value():
    seen = []

    def f(x):
        seen.append(x.item())
        seen.append(float(x.numpy()))
        assert bool(x > 0)
        assert not x.detach().requires_grad
        return x * x.detach()

    assert ad.grad(f)(3.0).item() == 3.0
    assert seen == [3.0, 3.0]
    ad.jvp(f, (3.0,), (1.0,))
    assert seen == [3.0] * 4


@pytest.mark.parametrize(
    "leave",
    [float, int, np.asarray, np.array_repr, memoryview],
    ids=["float", "int", "asarray", "array_repr", "memoryview"],
)
def test_implicit_exits_raise(leave):
    def f(x):
        leave(x)
        return x

    with pytest.raises((TypeError, RuntimeError, BufferError)):
        ad.jvp(f, (3.0,), (1.0,))
    if leave is float:
        with pytest.raises(ad.TracedValueError, match=r"\.item\(\)"):
            ad.grad(f)(3.0)


def test_printing_inside_transforms():
    texts = []

    def f(x):
        texts.append(repr(x))
        return x * 2

    ad.grad(f)(1.5)
    ad.jvp(f, (1.5,), (1.0,))
    ad.vmap(f)(ad.ones((2,)))
    assert "1.5" in texts[0] and "1.5" in texts[1] and "vmap" in texts[2]


def test_stop_gradient():
    assert ad.grad(lambda x: x * ad.stop_gradient(x))(3.0).item() == 3.0


def test_control_flow_on_values():
    def f(x):
        return x * x if x > 0 else -x

    assert ad.grad(f)(3.0).item() == 6.0 and ad.grad(f)(-3.0).item() == -1.0


def test_methods_and_names():
    class Model:
        @ad.grad
        def slope(self, x):
            return self * x

        @staticmethod
        def f(x):
            return x

    g = ad.grad(cube)
    assert g.__name__ == "cube" and g.__wrapped__ is cube
    assert list(inspect.signature(g).parameters) == ["x"]
    assert "grad of" in repr(g)
    bound = ad.grad(Model.slope.__wrapped__).__get__(2.0)
    assert bound(3.0).item() == 3.0


def test_threads_have_their_own_state():
    results = []

    def work():
        results.append(ad.is_grad_enabled())
        results.append(ad.grad(cube)(2.0).item())

    with ad.no_grad():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results == [True, 12.0]


def test_tree_functions():
    tree = {"b": (1, [2, None]), "a": 3}
    leaves, treedef = ad.tree.flatten(tree)
    assert leaves == [1, 2, 3] and ad.tree.unflatten(treedef, leaves) == tree
    assert list(ad.tree.unflatten(treedef, leaves)) == ["b", "a"]
    assert ad.tree.map(lambda x, y: x + y, tree, {"a": 10, "b": (20, [30, None])}) == {
        "b": (21, [32, None]),
        "a": 13,
    }
    assert treedef == ad.tree.structure(tree) and hash(treedef) == hash(ad.tree.structure(tree))
    assert treedef != ad.tree.structure({"a": 1})
    assert treedef.num_leaves == 3 and "Ellipsis" in repr(treedef)


def test_registered_classes():
    class Pair:
        def __init__(self, a, b, tag):
            self.a, self.b, self.tag = a, b, tag

    ad.tree.register(
        Pair, lambda p: ([p.a, p.b], p.tag), lambda tag, children: Pair(*children, tag)
    )
    g = ad.grad(lambda p: p.a * p.b)(Pair(2.0, 3.0, "t"))
    assert type(g) is Pair and g.a.item() == 3.0 and g.b.item() == 2.0 and g.tag == "t"


def test_deferral_gives_the_same_bits():
    x = ad.tensor(np.linspace(-3, 3, 20_000))

    def f(v):
        return ad.sum(ad.exp(-v * v) * ad.sin(v) + v)

    deferred = ad.grad(f)(x).numpy()
    with ad.deferral(False):
        now = ad.grad(f)(x).numpy()
    np.testing.assert_array_equal(deferred, now)
    y = ad.exp(x)
    assert ad.eval(y, {"a": [y]}) is None


def test_state_functions():
    stats = ad.memory_stats()
    assert set(stats) == {"live", "cached", "peak", "live_nodes"}
    n = ad.get_num_threads()
    ad.set_num_threads(2)
    assert ad.get_num_threads() == 2
    ad.set_num_threads(n)


def test_deep_chain_in_a_small_thread():
    failures = []

    def work():
        try:
            x = w = ad.tensor(1.0, requires_grad=True)
            for _ in range(100_000):
                x = x + 1.0
            x.backward()
            assert w.grad.item() == 1.0
            del x
        except BaseException as error:
            failures.append(error)

    threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
    assert not failures


def test_gradients_of_every_value_a_leaf_had_are_added():
    w = ad.tensor(2.0, requires_grad=True)
    y = w * 2.0
    with ad.no_grad():
        w += 1.0
    z = y + w * 3.0
    z.backward()
    assert w.grad.item() == 5.0
    z.backward()
    assert w.grad.item() == 10.0
