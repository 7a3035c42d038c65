"""Ctrl-C stops long work between its steps, and everything can be used afterwards.

Each case is a process that sends itself SIGINT shortly after the work has begun. The work would
take seconds; it is the same again afterwards, in full, against a value known without it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

COMMON = """
import os, signal, threading
import numpy as np
import adjoint as ad

ad.set_num_threads(1)
# A process started in the background may have inherited that the signal is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted(work):
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
    return False

def same(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()

rng = np.random.default_rng(0)
"""

CASES = {
    "deferred work": """
        a = rng.uniform(size=500_000)
        x = ad.asarray(a)
        values = [ad.sin(x * float(i)) for i in range(1000)]
        assert interrupted(lambda: ad.eval(values))
        for i in (0, 499, 999):
            np.testing.assert_allclose(values[i].numpy(), np.sin(a * i), rtol=0, atol=1e-12)
        assert ad.sum(x + 1.0).item() > 500_000
    """,
    "a group that is bounded": """
        a = rng.uniform(size=500_000)
        x, y, expected = ad.asarray(a), ad.asarray(a), a
        def build():
            global y
            for i in range(20_000):
                y = ad.cos(y)
            ad.eval(y)
        assert interrupted(build)
        z = ad.cos(x) * 2.0
        np.testing.assert_allclose(z.numpy(), np.cos(a) * 2, rtol=1e-14)
        assert np.isfinite(y.numpy()).all()
    """,
    "a backward": """
        w = ad.tensor(rng.normal(size=(300, 300)) / 17, requires_grad=True)
        y = w
        for i in range(200):
            y = y @ w
        loss = ad.sum(y)
        ad.sum(w * 2.0).backward()
        assert interrupted(loss.backward)
        assert (w.grad.numpy() == 2.0).all()  # as it was
        loss.backward()
        v = ad.tensor(w.detach(), requires_grad=True)
        z = v
        for i in range(200):
            z = z @ v
        ad.sum(v * 2.0).backward()
        ad.sum(z).backward()
        assert same(w.grad, v.grad)
    """,
    "a deep backward of scalars": """
        x = ad.tensor(0.5, requires_grad=True)
        y = x
        for i in range(500_000):
            y = y * 1.0000001 + 0.0
        for i in range(20):
            if interrupted(lambda: [y.backward() for _ in range(100)]):
                break
        else:
            raise AssertionError("never interrupted")
        x.grad = None
        y.backward()
        assert abs(x.grad.item() - 1.0000001**500_000) < 1e-9
    """,
    "a compiled program": """
        w = ad.tensor(rng.normal(size=(400, 400)) / 20)
        count = ad.tensor(0)
        def f(x):
            count.rebind_(count + 1)
            for i in range(300):
                x = ad.tanh(x @ w)
            return x
        step = ad.compile(f)
        x = ad.asarray(rng.normal(size=(400, 400)))
        step.program(x)
        assert interrupted(lambda: [step(x) for _ in range(100)])
        done = count.item()
        result = step(x)
        assert count.item() == done + 1
        assert step.cache_info()["programs"] == 1
        assert same(result, f(x))
    """,
    "a handler of the user": """
        class Stop(Exception):
            pass
        def handler(number, frame):
            assert ad.sum(ad.ones((300, 300))).item() == 90_000.0  # work inside of work
            raise Stop
        signal.signal(signal.SIGINT, handler)
        x = ad.asarray(rng.uniform(size=500_000))
        values = [ad.sin(x * float(i)) for i in range(1000)]
        try:
            interrupted(lambda: ad.eval(values))
        except Stop:
            pass
        else:
            raise AssertionError("not stopped")
        np.testing.assert_allclose(values[999].numpy(), np.sin(x.numpy() * 999), atol=1e-12)
    """,
}


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c(case):
    script = COMMON + textwrap.dedent(CASES[case])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
