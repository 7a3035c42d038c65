"""Threads that compute on the same tensors, each with its own recording, levels and counters."""

from __future__ import annotations

import gc
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
