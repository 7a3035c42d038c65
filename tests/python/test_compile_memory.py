"""What a compiled function keeps: nothing that the cyclic collector cannot free, and no more kinds
of programs than are bounded."""

import gc
import threading
import weakref

import numpy as np
import pytest

import adjoint as ad


def plain(s, x):
    return x * s.w


def checkpointed(s, x):
    return ad.checkpoint(lambda y: ad.tanh(s.w * y))(x)


def by_vjp(s, x):
    f = ad.custom_vjp(lambda u: u * s.k)
    f.defvjp(lambda u: (u * s.k, None), lambda _, ct: (ct * s.k,))
    return f(x)


def by_jvp(s, x):
    f = ad.custom_jvp(lambda u: u * s.k)
    f.defjvp(lambda p, t: (p[0] * s.k, t[0] * s.k))
    return f(x)


def on_host(s, x):
    op = ad.host_op(
        lambda a: a * s.k, shape=lambda x: x, vjp=lambda x, y, ct: (ct * s.k,), vectorized=True
    )
    return op(x)


def in_cond(s, x):
    return ad.cond(ad.sum(x) > 0, lambda u: u * s.w, lambda u: u, x)


def in_scan(s, x):
    return ad.scan(lambda c, _: (c * s.w, None), x, length=2)[0]


KINDS = [plain, checkpointed, by_vjp, by_jvp, on_host, in_cond, in_scan]


class Model:
    k = 2.0

    def __init__(self, run):
        self.w = ad.tensor([1.0, 1.0, 1.0], requires_grad=True)
        self.run = lambda x: run(self, x)
        self.f = ad.compile(self.run)


def total(f):
    return lambda x: ad.sum(f(x))


USES = {
    "called": lambda f, x: f(x),
    "recorded": lambda f, x: ad.sum(f(x.detach().requires_grad_())).backward(),
    "grad": lambda f, x: ad.grad(total(f))(x),
    "second order": lambda f, x: ad.grad(total(ad.grad(total(f))))(x),
    "jvp": lambda f, x: ad.jvp(f, (x,), (x,)),
    "vmap": lambda f, x: ad.vmap(f)(ad.stack([x, x])),
    "vmap of grad": lambda f, x: ad.vmap(ad.grad(total(f)))(ad.stack([x, x])),
}


@pytest.mark.parametrize("run", KINDS, ids=lambda run: run.__name__)
@pytest.mark.parametrize("use", USES)
def test_cycles_through_programs_are_collected(run, use):
    model = Model(run)
    x = ad.tensor([0.5, 1.0, 2.0])
    for _ in range(2):
        USES[use](model.f, x)
        gc.collect()  # while it is alive nothing is lost
    want = ad.compile(model.run)(x).tolist()
    assert model.f(x).tolist() == want
    gone = weakref.ref(model)
    del model
    gc.collect()
    gc.collect()
    assert gone() is None


def test_cycles_through_the_attributes_of_a_captured_tensor_are_collected():
    class Owner:
        def __init__(self):
            self.w = ad.Variable(ad.ones(3))
            self.w.owner = self
            self.f = ad.compile(lambda x: x * self.w)

    owner = Owner()
    assert owner.f(ad.ones(3)).tolist() == [1.0, 1.0, 1.0]
    gc.collect()
    assert owner.f(ad.ones(3)).tolist() == [1.0, 1.0, 1.0]
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("run", [checkpointed, by_vjp], ids=lambda run: run.__name__)
def test_a_record_keeps_what_its_rules_need(run):
    model = Model(run)
    x = ad.tensor([0.5, 1.0, 2.0], requires_grad=True)
    y = ad.sum(model.f(x))
    want = ad.grad(total(model.run))(x.detach()).tolist()
    del model
    gc.collect()
    junk = [Model(run) for _ in range(20)]
    y.backward()
    assert x.grad.tolist() == pytest.approx(want, rel=1e-15)
    del junk


def test_collections_while_other_threads_differentiate():
    model = Model(checkpointed)
    x = ad.tensor(np.linspace(-1.0, 1.0, 3))
    want = ad.vmap(ad.grad(total(model.run)))(ad.stack([x] * 2)).tolist()
    stop = threading.Event()
    wrong = []

    def work(n):
        while not stop.is_set():
            f = ad.compile(model.run)
            for batch in range(2, 5):
                got = ad.vmap(ad.grad(total(f)))(ad.stack([x] * batch))
                if not np.allclose(got[0].numpy(), want[0]):
                    wrong.append(got)
                if not np.allclose(
                    ad.vmap(ad.grad(total(model.f)))(ad.stack([x] * (batch + n))).numpy()[0],
                    want[0],
                ):
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        gc.collect()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4  # KiB


def test_batch_sizes_are_not_kept_for_ever():
    f = ad.compile(lambda x: ad.sum(ad.sin(x)))
    g = ad.vmap(ad.grad(f))
    for n in range(1, 200):
        g(ad.ones((n, 2)))
    gc.collect()
    nodes = ad.memory_stats()["live_nodes"]
    before = resident()
    for n in range(200, 500):
        g(ad.ones((n, 2)))
    gc.collect()
    assert ad.memory_stats()["live_nodes"] <= nodes + 50
    assert resident() - before < 1000  # 300 sizes took 3000 KiB
    assert np.allclose(g(ad.ones((3, 2))).numpy(), np.cos(1.0))
