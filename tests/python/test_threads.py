"""Threads that compute on the same tensors, each with its own recording, levels and counters."""

from __future__ import annotations

import _thread
import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import adjoint as ad

THREADS = 4
N = 20_000


def together(work, count=THREADS):
    """Runs work(k) on `count` threads that start at once; raises the first error."""
    barrier = threading.Barrier(count)
    results, errors = [None] * count, []

    def run(k):
        try:
            barrier.wait()
            results[k] = work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def test_threads_ask_for_the_same_deferred_values():
    a = np.random.default_rng(0).normal(size=N)
    for _ in range(30):
        shared = [ad.exp(ad.asarray(a)) + 1.0]
        for _ in range(5):
            shared.append(ad.sin(shared[-1]) + shared[0])

        def work(k, shared=shared):
            order = shared if k % 2 else shared[::-1]
            return {id(t): t.numpy() for t in order}

        results = together(work)
        expected = [np.exp(a) + 1.0]
        for _ in range(5):
            expected.append(np.sin(expected[-1]) + expected[0])
        for tensor, array in zip(shared, expected, strict=True):
            np.testing.assert_allclose(results[0][id(tensor)], array, rtol=1e-13, atol=1e-13)
            for other in results[1:]:
                np.testing.assert_array_equal(other[id(tensor)], results[0][id(tensor)])


def test_threads_build_on_shared_deferred_values():
    a = np.random.default_rng(0).normal(size=(100, 200))
    for _ in range(20):
        base = ad.exp(ad.asarray(a))
        rows = ad.sum(base, axis=-1, keepdims=True)

        def work(k, base=base, rows=rows):
            y = base / rows * float(k + 1)
            return ad.sum(y, axis=-1).numpy()

        for k, result in enumerate(together(work)):
            np.testing.assert_allclose(result, np.full(100, k + 1.0), rtol=1e-13)


def test_threads_drop_shared_deferred_values():
    before = ad.memory_stats()
    for _ in range(30):
        base = ad.exp(ad.ones(N))
        boxes = [[base + float(k)] for k in range(THREADS)]
        del base

        def work(k, boxes=boxes):
            if k % 2:
                assert boxes[k][0][0].item() == pytest.approx(np.exp(1.0) + k, rel=1e-14)
            boxes[k].clear()

        together(work)
        del boxes, work
    after = ad.memory_stats()
    assert (after["live"], after["live_nodes"]) == (before["live"], before["live_nodes"])


def test_threads_sweep_the_same_graph():
    a = np.linspace(0.1, 1, N)
    x = ad.tensor(a, requires_grad=True)

    def f(v):
        return ad.sum(ad.log(v) * ad.sin(v))

    y = f(x)
    expected = np.sin(a) / a + np.log(a) * np.cos(a)
    for result in together(lambda k: ad.grad(f)(x.detach()).numpy()):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_threads_differentiate_at_their_own_levels():
    def work(k):
        out = []
        for i in range(200):
            x = 1.0 + k + i * 0.01
            outer = ad.grad(lambda v: ad.jvp(lambda u: u**3, (v,), (ad.asarray(1.0),))[1])
            out.append(outer(x).item() - 6 * x)
        return max(map(abs, out))

    assert max(together(work)) < 1e-12


def test_state_belongs_to_the_thread():
    inside = threading.Event()
    done = threading.Event()

    def work(k):
        if k == 0:
            with ad.no_grad():
                inside.set()
                done.wait(10)
                return ad.is_grad_enabled()
        inside.wait(10)
        enabled = ad.is_grad_enabled()
        done.set()
        return enabled

    assert together(work, 2) == [False, True]


def test_threads_hand_tensors_over():
    """Nodes are freed by threads that did not make them."""
    gc.collect()
    before = ad.memory_stats()["live_nodes"]
    made = together(lambda k: [ad.tensor(float(i)) * 2.0 for i in range(2000)])

    def consume(k):
        mine = made[(k + 1) % THREADS]
        total = sum(t.item() for t in mine)
        mine.clear()
        return total

    assert together(consume) == [2.0 * sum(range(2000))] * THREADS
    assert ad.memory_stats()["live_nodes"] == before


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    a = np.random.default_rng(4).normal(size=(500, 700)).astype("float32")

    def run():
        x = ad.tensor(a, requires_grad=True)
        y = ad.sum(ad.tanh(x) * ad.mean(ad.exp(x), axis=0), axis=1)
        ad.sum(ad.square(y)).backward()
        product = ad.matmul(x.detach(), ad.matrix_transpose(x.detach()))
        return y.detach().numpy(), x.grad.numpy(), product.numpy()

    before = ad.get_num_threads()
    try:
        ad.set_num_threads(1)
        expected = run()
        ad.set_num_threads(threads)
        actual = run()
    finally:
        ad.set_num_threads(before)
    for left, right in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_one_program_runs_on_many_threads():
    f = ad.compile(ad.value_and_grad(lambda x: ad.sum(ad.exp(x) * ad.sin(x))))
    a = np.random.default_rng(4).normal(size=(THREADS, N))
    f(ad.asarray(a[0]))

    def work(k):
        for _ in range(20):
            value, slope = f(ad.asarray(a[k]))
        return value.item(), slope.numpy()

    for k, (value, slope) in enumerate(together(work)):
        e, s, c = np.exp(a[k]), np.sin(a[k]), np.cos(a[k])
        assert value == pytest.approx(float((e * s).sum()), rel=1e-11)
        np.testing.assert_allclose(slope, e * (s + c), rtol=1e-11, atol=1e-12)


def in_thread(f):
    return together(lambda k: f(), count=1)[0]


# Each is 2 x at z = 1, or that divided by 2 where the value is asked for, in another thread.
INSIDE = {
    "grad": lambda x: ad.grad(lambda z: z * z * x)(1.0),
    "compiled grad": lambda x: ad.compile(lambda x: ad.grad(lambda z: z * z * x)(1.0))(x),
    "value": lambda x: 2 * ad.value_and_grad(lambda z: z * z * x)(1.0)[0],
    "aux": lambda x: 2 * ad.grad(lambda z: (z * z * x, z * x), has_aux=True)(1.0)[1],
    "pullback": lambda x: ad.vjp(lambda z: z * z * x, 1.0)[1](1.0)[0],
    "value of vjp": lambda x: 2 * ad.vjp(lambda z: z * z * x, 1.0)[0],
    "jvp": lambda x: ad.jvp(lambda z: z * z * x, (1.0,), (1.0,))[1],
    "forward jacobian": lambda x: ad.jacobian(lambda z: z * z * x, mode="forward")(1.0),
    "jacobian": lambda x: ad.jacobian(lambda z: z * z * x)(1.0),
    "hessian": lambda x: ad.hessian(lambda z: z * z * x)(1.0),
    "hvp": lambda x: ad.hvp(lambda z: z * z * x, 1.0, 1.0),
    "checkpoint": lambda x: ad.checkpoint(lambda x: ad.grad(lambda z: z * z * x)(1.0))(x),
    "checkpoint that closes over x": lambda x: ad.checkpoint(
        lambda: ad.grad(lambda z: z * z * x)(1.0)
    )(),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_derivative_in_a_thread_belongs_to_the_transform_around_it(name):
    inner = INSIDE[name]

    def outer(x):
        return in_thread(lambda: inner(x))

    assert ad.grad(outer)(3.0).item() == 2.0
    assert ad.grad(lambda x: outer(x**2))(3.0).item() == 12.0  # by a history of its own
    x, w = ad.tensor(3.0), ad.Variable(3.0)
    with ad.GradientTape() as tape:
        tape.watch(x)
        y = outer(x)
    assert tape.gradient(y, x).item() == 2.0
    with ad.GradientTape() as tape:
        y = outer(w)
    assert tape.gradient(y, w).item() == 2.0
    assert not in_thread(lambda: inner(x)).requires_grad  # nothing is open


def test_the_input_of_a_derivative_in_a_thread_keeps_its_history():
    slope = ad.grad(lambda x: in_thread(lambda: ad.grad(lambda z: z**3)(x)))
    assert slope(3.0).item() == 18.0


def test_a_backward_and_a_tape_in_a_thread():
    def swept(x):
        w = ad.tensor(1.0, requires_grad=True)
        (w * w * x).backward()
        return w.grad

    assert ad.grad(lambda x: in_thread(lambda: swept(x)))(3.0).item() == 2.0
    w = ad.Variable(3.0)

    def taped():
        with ad.GradientTape() as tape:
            y = w**3
        return tape.gradient(y, w)

    with ad.GradientTape() as outer:
        slope = in_thread(taped)
    assert outer.gradient(slope, w).item() == 18.0


def test_a_tape_sees_what_other_threads_record_while_it_is_open():
    def chain(x, length):
        for _ in range(length):
            x = x * 1.0
        return x

    w = ad.Variable(3.0)
    chain(w * 1.0, 100)  # this thread counts on
    for length in (1, 1000):
        with ad.GradientTape() as tape:
            y = in_thread(lambda: chain(w * w, length))  # noqa: B023
        assert tape.gradient(y, w).item() == 6.0
    with ad.GradientTape() as tape:
        y = in_thread(lambda: w * w)
        with tape.stop_recording():
            scale = in_thread(lambda: chain(w * 10.0, 100))
        y = in_thread(lambda: y * scale)
    assert tape.gradient(y, w).item() == 180.0
    before = in_thread(lambda: chain(w * w, 100))
    with ad.GradientTape() as tape:
        y = before * w
    assert tape.gradient(y, w).item() == 9.0


DRAWS = {
    "now": lambda g: g.uniform(()),
    "between limits": lambda g: g.uniform((), 1.0, 2.0),
    "integers": lambda g: g.integers(2**62),
    "checkpoint": lambda g: ad.checkpoint(lambda: g.uniform(()))(),
    "grad": lambda g: ad.grad(lambda x: x * g.uniform(()))(1.0),
    "jvp": lambda g: ad.jvp(lambda x: x * g.uniform(()), (1.0,), (1.0,))[1],
    "jacobian": lambda g: ad.jacobian(lambda x: x * g.uniform(()), mode="forward")(1.0),
    "vmap": lambda g: ad.vmap(lambda x: x * g.uniform(()))(ad.ones(1))[0],
}


@pytest.mark.parametrize("name", [*DRAWS, "compiled"])
def test_a_generator_gives_threads_different_numbers(name):
    g = ad.random.Generator(5)
    draw = DRAWS.get(name, DRAWS["now"])
    run = ad.compile(lambda: draw(g)) if name == "compiled" else lambda: draw(g)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        count = 2000
        found = together(lambda k: [run().item() for _ in range(count)])
    finally:
        sys.setswitchinterval(interval)
    assert len({x for part in found for x in part}) == THREADS * count
    assert g.state.tolist() == [5, THREADS * count]


def test_a_draw_that_fails_uses_nothing():
    g, same = ad.random.Generator(5), ad.random.Generator(5)
    with pytest.raises(TypeError):
        g.uniform((2,), low=ad.tensor([1.0, 2.0]), high="x")
    with pytest.raises(MemoryError):
        g.uniform((2**60,))
    assert g.uniform((3,)).tolist() == same.uniform((3,)).tolist()


WORK = {
    "deferred work": "ad.eval(ad.exp(x) * ad.sin(x) + x)",
    "a gradient": "ad.grad(lambda y: ad.sum(ad.exp(y) * y))(x)",
    "functions of Python": "ad.grad(lambda y: ad.sum(sum(y[i:i+3] for i in range(9))))(x)",
    "a program": "f(x)",
    "a rule by hand": "ad.grad(lambda y: ad.sum(rule(y)))(x)",
}


@pytest.mark.parametrize("name", WORK)
def test_the_interpreter_may_end_while_a_daemon_thread_works(name):
    code = f"""
import threading, adjoint as ad
@ad.custom_vjp
def rule(x):
    return ad.exp(x)
rule.defvjp(lambda x: (ad.exp(x), x), lambda x, ct: (ct * ad.exp(x),))
f = ad.compile(lambda x: ad.exp(x) * ad.sin(x) + x)
turns = threading.Semaphore(0)
def work():
    x = ad.linspace(0.0, 1.0, 300_000)
    while True:
        {WORK[name]}
        turns.release()
threading.Thread(target=work, daemon=True).start()
for _ in range(3):
    turns.acquire()
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
        assert done.returncode == 0 and not done.stderr, done.stderr.decode()


def test_transforms_in_a_thread_after_very_many():
    """A cell knows the thread that made it, in a number that has to last."""
    idle = threading.Semaphore(0)

    def touch():
        ad.ones(2) + 1
        idle.release()

    for _ in range(2**17 // 64 + 1):
        for _ in range(64):
            _thread.start_new_thread(touch, ())
        for _ in range(64):
            idle.acquire()
    found = []

    def work():
        def f(x):
            y = x * 1.0
            y[0] = x[1] * 3.0
            return ad.sum(y * y)

        x = ad.tensor([1.0, 2.0])
        found.append(ad.jvp(f, (x,), (ad.ones(2),))[1].item())
        found.append(ad.compile(f)(x).item())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [40.0, 40.0]
