"""A thousand steps of gradient descent on w**2 + 1 from 10: the whole loop, optimizer included."""

from contract import AtMost

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-12
STEPS = 1000
RATE = 1e-3
BARS = (AtMost(3e-6), AtMost(1e-7, "adjoint scan"))


def PER(case):
    return STEPS


def reference(case):
    return 10.0 * (1.0 - 2.0 * RATE) ** STEPS


def adjoint(case):
    import adjoint as ad

    def run():
        w = ad.tensor(10.0, requires_grad=True)
        optimizer = ad.optim.SGD([w], RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (w**2 + 1).backward()
            optimizer.step()
        return w

    return run


def adjoint_scan(case):
    import adjoint as ad

    optimizer = ad.optim.SGD(learning_rate=RATE)
    gradient = ad.grad(lambda w: w**2 + 1)

    def step(w, _):
        updates, _ = optimizer.update(gradient(w), (), w)
        return ad.optim.apply_updates(w, updates), None

    loop = ad.compile(lambda w: ad.scan(step, w, length=STEPS)[0])
    start = ad.tensor(10.0)
    return lambda: loop(start)


def torch(case):
    import torch

    def run():
        w = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (w**2 + 1).backward()
            optimizer.step()
        return w

    return run


def jax(case):
    import jax

    jax.config.update("jax_enable_x64", True)
    gradient = jax.grad(lambda w: w**2 + 1)

    @jax.jit
    def loop(w):
        return jax.lax.scan(lambda w, _: (w - RATE * gradient(w), None), w, length=STEPS)[0]

    return lambda: loop(10.0).block_until_ready()


VARIANTS = {"adjoint": adjoint, "adjoint scan": adjoint_scan, "torch": torch, "jax.jit": jax}
