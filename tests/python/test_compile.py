"""ad.compile: programs give the bits of the functions, and never a stale value."""

from __future__ import annotations

import gc
import math
import random
import threading
import time

import numpy as np
import pytest

import adjoint as ad


def bits(t):
    return np.asarray(t.detach()).tobytes()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def draw(*shape, seed=0, dtype="float64"):
    return ad.tensor(np.random.default_rng(seed).uniform(-2, 2, shape).astype(dtype))


def softmax(x):
    e = ad.exp(x - ad.max(x, axis=-1, keepdims=True))
    return e / ad.sum(e, axis=-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + ad.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def layer(x):
    centred = x - ad.mean(x, axis=-1, keepdims=True)
    return centred / ad.sqrt(ad.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


FUNCTIONS = {
    "softmax": softmax,
    "gelu": gelu,
    "gelu_gradient": ad.grad(lambda x: ad.sum(gelu(x))),
    "softmax_gradient": ad.grad(lambda x: ad.sum(softmax(x)[:, 0] * x[:, 1])),
    "layer": layer,
    "layer_gradient": ad.grad(lambda x: ad.sum(layer(x) ** 3)),
    "columns": lambda x: ad.sum(x * x, axis=0) / ad.max(x),
    "both_axes": lambda x: ad.sum(x, axis=0, keepdims=True) * ad.sum(x, axis=1, keepdims=True),
    "indexing": lambda x: (x[1:, ::2] * 2)[0] + x[0, ::2],
    "assignment": lambda x: _assigned(x),
    "matmul": lambda x: ad.tanh(x @ x.mT) @ x,
    "hessian": ad.hessian(lambda x: ad.sum(ad.sin(x[0, :3]) * x[1, :3])),
    "jvp": lambda x: ad.jvp(softmax, (x,), (x * x,))[1],
    "vmap": ad.vmap(lambda row: softmax(row) * ad.sum(row)),
    "where": lambda x: ad.where(x > 0, ad.sqrt(ad.abs(x)), -x),
    "created": lambda x: x + ad.zeros(x.shape) + ad.arange(x.shape[1]),
}


def _assigned(x):
    y = x * 1
    y[0] = 3.0
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(2, 4), (5, 33), (130, 257)])
def test_same_bits(name, shape):
    f = FUNCTIONS[name]
    if name == "hessian" and shape[0] > 100:
        shape = (3, 5)
    x = draw(*shape)
    compiled = ad.compile(f)
    for _ in range(2):
        assert same(compiled(x), f(x))
    y = draw(*shape, seed=1)
    assert same(compiled(y), f(y))
    assert compiled.cache_info() == {"hits": 2, "misses": 1, "programs": 1}


def random_function(seed, ndim):
    """A function of an array and a scalar that returns every value it passes through."""

    def f(x, s):
        choose = random.Random(seed)
        values = [x, s, x * s]
        for _ in range(25):
            a, b = choose.choice(values), choose.choice(values)
            kind, axis, keep = choose.randrange(10), choose.randrange(ndim), choose.random() < 0.6
            if kind == 0 and a.ndim:
                values.append(ad.sum(a, axis=-1, keepdims=keep))
            elif kind == 1 and a.ndim == ndim:
                values.append(ad.max(a, axis=axis, keepdims=True))
            elif kind == 2:
                values.append(ad.sum(a))
            elif kind == 3 and a.ndim >= 2:
                values.append(a.mT)
            elif kind == 4:
                values.append(ad.reshape(ad.tanh(a), (-1,)))
            elif a.shape == b.shape or 0 in (a.ndim, b.ndim):
                pair = [a + b, a * b, a / (ad.abs(b) + 1), ad.where(a > b, a, b), a - b]
                values.append(pair[kind % 5])
        return values[3:]

    return f


@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (4, 1), (1, 1), (2, 3, 4), (130, 70), (2, 1, 5)])
def test_random_programs(shape):
    for seed in range(12):
        f = random_function(seed, len(shape))
        x, s = draw(*shape, seed=seed), ad.tensor(0.7)
        expected = f(x, s)
        got = ad.compile(f)(x, s)
        assert all(same(a, b) for a, b in zip(got, expected, strict=True))
        gradient = ad.grad(lambda x, f=f, s=s: sum(ad.sum(v) for v in f(x, s)))
        assert same(ad.compile(gradient)(x), gradient(x))


def test_value():
    f = ad.compile(lambda x: x * x + 1.0)
    assert f(ad.tensor(3.0)).item() == 10.0
    program = f.program(ad.tensor(3.0))
    assert "%1 = multiply %0 %0 : float64 ()" in str(program.graph)
    assert program.stats()["nodes"] == 2
    assert len(program.graph) == 4
    assert program.graph.rows[0] == ("input", (), ad.float64, (), "")
    assert program.graph.rows[1][:4] == ("multiply", (0, 0), ad.float64, ())


def test_the_graph_shows_the_lines_of_the_user():
    def helper(x):
        return ad.exp(x) + 1.0  # the helper

    def f(x):
        y = helper(x)
        y = ad.nn.functional.mse_loss(y, x)  # the loss
        return y * 2.0

    first = helper.__code__.co_firstlineno + 1
    second = f.__code__.co_firstlineno + 2
    program = ad.compile(f).program(draw(3))
    places = {row[0]: row[4] for row in program.graph.rows if row[0] in ("exp", "subtract")}
    assert places == {"exp": f"{__file__}:{first}", "subtract": f"{__file__}:{second}"}
    lines = str(program.graph).splitlines()
    at = lines.index(f"# {__file__}:{first}  return ad.exp(x) + 1.0  # the helper")
    assert lines[at + 1].startswith("%1 = exp %0 : float64 (3,)")
    assert f"# {__file__}:{second}  y = ad.nn.functional.mse_loss(y, x)  # the loss" in lines


def test_a_function_without_a_file_has_no_line_to_show():
    names = {"ad": ad}
    exec("def f(x):\n    return ad.exp(x)", names)
    assert "%1 = exp %0" in str(ad.compile(names["f"]).program(draw(3)).graph)
    assert "%1 = exp %0" in str(ad.compile(ad.exp).program(draw(3)).graph)


def test_stats_count_by_hand():
    w = draw(40, 40, seed=3)

    def f(x):
        return ad.exp(x @ w) * 2.0 @ w

    # matmul, then exp and multiply in one group, then matmul; each 40 x 40 of float64
    stats = ad.compile(f).program(draw(40, 40)).stats()
    assert stats == {
        "nodes": 4,
        "groups": 1,
        "instructions": 3,
        "bytes_moved": 8 * 40 * 40 * (3 + 2 + 3) + 8,
        "bytes_planned": 0,
    }

    def g(x):
        sums = ad.sum(ad.exp(x), axis=0)  # ends its group: 40 values pass to the next
        return ad.sum(ad.tanh(ad.reshape(ad.sin(sums), (4, 10))), axis=0)

    assert ad.compile(g).program(draw(30, 40)).stats()["bytes_planned"] == 8 * 40

    def h(x):  # (40, 40) and one scalar pass between two groups
        y = ad.exp(x) * 2.0
        return ad.sum(y), ad.sum(y * ad.sum(y, axis=1), axis=1)

    stats = ad.compile(h).program(draw(40, 40)).stats()
    assert stats["groups"] >= 2
    assert stats["bytes_planned"] >= 8 * 40 * 40


def test_the_cache_is_bounded_and_holds_no_values():
    traces = []

    def f(x, n=0):
        traces.append(n)
        return x + n

    compiled = ad.compile(f, static_argnums=1)
    x = draw(3)
    for n in range(100):
        assert same(compiled(x, n), x + n)
    assert compiled.cache_info()["programs"] == 64
    compiled(x, 99)
    assert len(traces) == 100
    compiled(x, 0)  # the oldest were dropped
    assert len(traces) == 101

    gc.collect()
    once = ad.compile(lambda x: ad.sum(x * 2.0))
    before = ad.memory_stats()
    big = draw(1000, 100)
    for _ in range(3):
        once(big * 1.0)
    del big
    gc.collect()
    assert ad.memory_stats()["live"] <= before["live"]


def test_arguments_by_number():
    def f(x, n, y, *, k=1):
        return x * n + y * k

    compiled = ad.compile(f, static_argnums=(1,), donate_argnums=(0, 2))
    x, y = draw(2000), draw(2000, seed=1)
    a, b = x * 1.0, y * 1.0
    expected = f(x, 3, y, k=2)
    assert same(compiled(a, 3, b, k=2), expected)
    taken = 0
    for t in (a, b):
        try:
            np.asarray(t)
        except RuntimeError:
            taken += 1
    assert taken == 1  # one result, so one of the two
    assert same(compiled(x * 1.0, n=3, y=y, k=2), expected)
    assert same(ad.compile(f, static_argnums=-1)(x, 3, 4, k=2), f(x, 3, 4, k=2))
    with pytest.raises(ValueError, match="donate_argnums"):
        ad.compile(f, donate_argnums=-1)


def test_decorator_keeps_the_name():
    @ad.compile
    def area(r):
        """Of a disc."""
        return 3.0 * r * r

    assert area.__name__ == "area"
    assert area.__doc__ == "Of a disc."
    assert area(2.0).item() == 12.0


def test_decorated_method():
    class Scale:
        def __init__(self, k):
            self.k = k

        @ad.compile
        def __call__(self, x):
            return x * self.k

    two, three = Scale(2.0), Scale(3.0)
    assert two(ad.tensor(5.0)).item() == 10.0
    assert three(ad.tensor(5.0)).item() == 15.0


def test_one_program_per_kind_of_call():
    f = ad.compile(lambda x: x + 1)
    f(draw(3))
    f(draw(4))
    f(draw(3, dtype="float32"))
    f(draw(3))
    assert f.cache_info() == {"hits": 1, "misses": 3, "programs": 3}


def test_trees_and_keywords():
    def f(tree, *, scale, mode="plus", flag=True):
        a, b = tree["a"], tree["rest"][0]
        out = a + b if mode == "plus" else a - b
        return {"out": out * scale, "rest": [a, None, "text", 3, flag]}

    compiled = ad.compile(f)
    tree = {"a": draw(3), "rest": (np.ones(3), None)}
    got = compiled(tree, scale=2.0)
    assert same(got["out"], f(tree, scale=2.0)["out"])
    assert got["rest"][1:] == [None, "text", 3, True]
    assert same(compiled(tree, scale=2.0, mode="minus")["out"], f(tree, scale=2.0, mode="")["out"])
    assert compiled(tree, scale=3.0, flag=False)["rest"][-1] is False
    assert compiled.cache_info()["misses"] == 3


def test_python_numbers_are_weak_inputs():
    def f(x, rate, n):
        return x * (rate * 2) - rate / n + n

    compiled = ad.compile(f)
    for dtype in ("float32", "float64"):
        x = draw(4, dtype=dtype)
        for rate, n in [(0.1, 3), (0.7, 5), (-1e-3, 7)]:
            assert same(compiled(x, rate, n), f(x, rate, n))
    assert compiled.cache_info()["misses"] == 2
    ints = ad.asarray([1, 2, 3])
    assert same(compiled(ints, 0.5, 2), f(ints, 0.5, 2))

    clip = ad.compile(lambda x, low: ad.clip(x, low, 1.0))
    assert clip(draw(4, dtype="float32"), -0.5).dtype == ad.float32

    def in_place(x, rate):
        y = x * 1
        y += rate
        return y

    assert same(
        ad.compile(in_place)(draw(3, dtype="float32"), 0.1), in_place(draw(3, dtype="float32"), 0.1)
    )


def test_a_number_in_a_branch_is_part_of_the_key():
    f = ad.compile(lambda x, up: x + 1 if up else x - 1)
    assert f(ad.tensor(1.0), True).item() == 2.0
    assert f(ad.tensor(1.0), False).item() == 0.0
    assert f(ad.tensor(1.0), 1).item() == 2.0
    assert f(ad.tensor(1.0), 0).item() == 0.0
    assert f.cache_info()["programs"] == 4


def test_static_argnums():
    f = ad.compile(lambda x, n: x * math.factorial(n), static_argnums=1)
    assert f(ad.tensor(2.0), 3).item() == 12.0
    assert f(ad.tensor(2.0), 4).item() == 48.0
    with pytest.raises(TypeError, match="hashable"):
        f(ad.tensor(2.0), bytearray(b"no"))


def test_donated_argument_is_taken():
    f = ad.compile(lambda x: ad.exp(x) + 1, donate_argnums=0)
    x = draw(1000)
    expected = ad.exp(x) + 1
    kept = x * 1
    assert same(f(x), expected)
    with pytest.raises(RuntimeError, match="released"):
        np.asarray(x)
    again = kept.detach()  # the same storage: not taken
    assert same(f(kept), expected)
    assert same(ad.exp(again) + 1, expected)


@pytest.mark.parametrize(
    "leak",
    [bool, float, lambda x: x.item(), np.asarray, lambda x: x.numpy(), math.sin, range],
)
def test_traced_values_cannot_be_read(leak):
    with pytest.raises((TypeError, RuntimeError)):
        ad.compile(lambda x: leak(x))(ad.tensor(1.0))
    with pytest.raises(ad.TracedValueError, match=r"where|compile"):
        ad.compile(lambda x: x if x > 0 else -x)(ad.tensor(1.0))


def test_leaked_value_says_so():
    def keeper():
        kept = []
        while True:
            kept.append((yield kept))

    keep = keeper()  # nobody sees what is in it
    kept = next(keep)

    def f(x):
        keep.send(x + 1)
        return x

    ad.compile(f)(ad.tensor(1.0))
    with pytest.raises(RuntimeError, match="ended"):
        kept[0] + 1


def test_captured_handles_are_read_at_each_call():
    w = ad.tensor([1.0, 2.0])
    f = ad.compile(lambda x: x * w)
    assert f(ad.tensor(3.0)).tolist() == [3.0, 6.0]
    w *= 10
    assert f(ad.tensor(3.0)).tolist() == [30.0, 60.0]
    assert f.cache_info()["misses"] == 1
    w.rebind_(ad.tensor([5.0, 6.0]))
    assert f(ad.tensor(1.0)).tolist() == [5.0, 6.0]


def test_rebound_variable_is_seen():
    scale = 2.0
    w = ad.tensor(1.0)

    def f(x):
        return x * w * scale

    compiled = ad.compile(f)
    assert compiled(ad.tensor(3.0)).item() == 6.0
    scale = 5.0
    assert compiled(ad.tensor(3.0)).item() == 15.0
    w = ad.tensor(10.0)
    assert compiled(ad.tensor(3.0)).item() == 150.0


def test_rebound_captures_are_written_back():
    count = ad.tensor(0)
    total = ad.zeros((3,))

    @ad.compile
    def add(x):
        nonlocal total
        count.rebind_(count + 1)
        total += x
        return count * 1

    for i in range(1, 4):
        assert add(ad.ones((3,))).item() == i
    assert count.item() == 3
    assert total.tolist() == [3.0, 3.0, 3.0]


def test_retrace_when_a_capture_starts_to_require_grad():
    w = ad.tensor([1.0, 2.0])
    f = ad.compile(lambda: ad.sum(w * w))
    assert not f().requires_grad
    w.requires_grad_()
    f().backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_generator_state():
    a, b = ad.random.Generator(3), ad.random.Generator(3)
    f = ad.compile(lambda x: x + b.normal((4,)))
    x = draw(4)
    for _ in range(3):
        assert same(f(x), x + a.normal((4,)))
    assert a.state.tolist() == b.state.tolist()
    assert f.cache_info()["misses"] == 1


def network(seed, dtype="float64"):
    parameters = [
        draw(3, 8, seed=seed, dtype=dtype),
        draw(8, seed=seed + 1, dtype=dtype),
        draw(8, 1, seed=seed + 2, dtype=dtype),
    ]
    return [ad.tensor(p, requires_grad=True) for p in parameters]


def train_step(p, optimizer):
    def step(x, y):
        loss = ad.mean((ad.tanh(x @ p[0] + p[1]) @ p[2] - y) ** 2)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_step(dtype):
    p, q = network(1, dtype), network(1, dtype)
    one = ad.optim.Adam(p, learning_rate=1e-2)
    two = ad.optim.Adam(q, learning_rate=1e-2)
    eager, compiled = train_step(p, one), ad.compile(train_step(q, two))
    for i in range(6):
        x, y = draw(16, 3, seed=i, dtype=dtype), draw(16, 1, seed=i + 50, dtype=dtype)
        assert same(compiled(x, y), eager(x, y))
        for a, b in zip(p, q, strict=True):
            assert same(a, b)
            assert b.requires_grad
            assert b.grad is None
        if i == 3:
            one.learning_rate = two.learning_rate = 1e-3
    assert compiled.cache_info() == {"hits": 5, "misses": 1, "programs": 1}
    assert not compiled(x, y).requires_grad


def test_gradients_accumulate_across_calls():
    w = ad.tensor([1.0, 2.0], requires_grad=True)

    @ad.compile
    def accumulate(x):
        ad.sum(w * w * x).backward()

    x = ad.tensor([1.0, 10.0])
    for i in range(1, 4):
        assert accumulate(x) is None
        assert w.grad.tolist() == [2.0 * i, 40.0 * i]
    assert accumulate.cache_info()["programs"] == 2  # from None, and from a gradient


def test_captured_parameters_are_recorded():
    w = ad.tensor(3.0, requires_grad=True)
    f = ad.compile(lambda x: w * w * x)
    y = f(ad.tensor(2.0))
    y.backward()
    assert w.grad.item() == 12.0
    with ad.no_grad():
        assert f(ad.tensor(2.0)).item() == 18.0
        assert f.program(ad.tensor(2.0)).stats()["nodes"] == 2


def test_captured_history_goes_on():
    w = ad.tensor(3.0, requires_grad=True)
    squared = w * w

    @ad.compile
    def sweep(x):
        (squared * x).backward()

    sweep(ad.tensor(2.0))
    assert w.grad.item() == 12.0


def test_inside_transforms():
    f = ad.compile(lambda x: x**3)
    assert ad.grad(f)(2.0).item() == 12.0
    assert ad.grad(ad.grad(f))(2.0).item() == 12.0
    assert ad.vmap(f)(ad.tensor([1.0, 2.0])).tolist() == [1.0, 8.0]
    assert ad.jvp(f, (ad.tensor(2.0),), (ad.tensor(1.0),))[1].item() == 12.0
    assert ad.compile(lambda x: f(x) + 1)(2.0).item() == 9.0
    x = ad.tensor(2.0, requires_grad=True)
    f(x).backward()
    assert x.grad.item() == 12.0


def test_rebound_argument_belongs_to_the_caller():
    def f(x):
        x += 1
        return x * 2

    x = ad.tensor(1.0)
    compiled = ad.compile(f)
    for i in range(2, 5):
        assert compiled(x).item() == 2.0 * i
        assert x.item() == i


def test_an_error_leaves_everything_as_it_was():
    w = ad.tensor([1.0, 2.0], requires_grad=True)
    count = ad.tensor(0)

    @ad.compile
    def f(x):
        count.rebind_(count + 1)
        ad.sum(w * x).backward()
        with ad.no_grad():
            w.rebind_(w - w.grad)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        f(ad.tensor(1.0))
    assert count.item() == 0
    assert w.tolist() == [1.0, 2.0]
    assert w.grad is None
    assert w.requires_grad
    with pytest.raises(ValueError, match="shapes"):
        ad.compile(lambda x: x + w)(draw(3))
    assert (w + 1).tolist() == [2.0, 3.0]


def test_not_a_function():
    with pytest.raises(TypeError, match=r"ad\.compile\(f\)\(x\)"):
        ad.compile(3)


def test_threads():
    w = draw(64, 64)
    f = ad.compile(lambda x: softmax(x @ w))
    inputs = [draw(64, 64, seed=i) for i in range(4)]
    expected = [softmax(x @ w) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(20):
            if not same(f(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_compile_time_is_linear():
    def chain(n):
        def f(x):
            for _ in range(n // 2):
                x = x * 0.5 + 0.25
            return x

        start = time.process_time()
        result = ad.compile(f)(ad.tensor(0.5)).item()
        assert result == 0.5
        return (time.process_time() - start) / n

    chain(1000)
    small = min(chain(10_000) for _ in range(3))
    assert chain(200_000) < 8 * small


def test_nothing_leaks():
    def once():
        p = network(5)
        step = ad.compile(train_step(p, ad.optim.Adam(p, learning_rate=1e-2)))
        for _ in range(2):
            step(draw(4, 3), draw(4, 1))

    once()
    gc.collect()
    before = ad.memory_stats()
    for _ in range(3):
        once()
    gc.collect()
    after = ad.memory_stats()
    assert after["live_nodes"] == before["live_nodes"]


def test_columns_are_reduced_in_the_groups_of_a_program():
    def step(x, scale, shift, cotangent):
        def loss(x, scale, shift):
            centred = x - ad.mean(x, axis=-1, keepdims=True)
            spread = ad.sqrt(ad.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
            return ad.sum((centred / spread * scale + shift) * cotangent)

        return ad.grad(loss, argnums=(0, 1, 2))(x, scale, shift)

    args = [draw(70, 90), draw(90, seed=1), draw(90, seed=2), draw(70, 90, seed=3)]
    compiled = ad.compile(step)
    a, scale, _, cotangent = (t.numpy() for t in args)
    spread = np.sqrt(a.var(-1, keepdims=True) + 1e-5)
    z = (a - a.mean(-1, keepdims=True)) / spread
    dz = cotangent * scale
    dx = (dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True)) / spread
    expected = (dx, (cotangent * z).sum(0), cotangent.sum(0))
    for got, eager, value in zip(compiled(*args), step(*args), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(got.numpy(), eager.numpy())
    assert compiled.program(*args).stats()["groups"] <= 2


@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("make", [ad.asarray, ad.tensor])
def test_an_array_made_of_a_number_has_a_dtype_of_its_own(make, dtype):
    x = ad.ones(3, dtype=ad.float32)

    def f(n):
        return make(n, dtype=dtype) * x

    assert f(2.0).dtype == ad.compile(f)(2.0).dtype == ad.float64
