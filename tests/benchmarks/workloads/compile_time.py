"""Tracing and compiling a function of 10^5 operations: linear in its length, with no other program.

The function is a chain of scalar operations; the first call traces, simplifies, plans and runs.
"""

from contract import AtMost

CASES = ("1e4", "1e5")
UNIT = "s"
TOLERANCE = 1e-12
BARS = (AtMost(2e-6),)
X = 0.75


def PER(case):
    return int(float(case))


def reference(case):
    y = X
    for _ in range(PER(case) // 2):
        y = y * X + X
    return y


def chain(x, steps):
    y = x
    for _ in range(steps):
        y = y * x + x
    return y


def adjoint(case):
    import adjoint as ad

    x = ad.tensor(X)
    return lambda: ad.compile(lambda x: chain(x, PER(case) // 2))(x)


def jax(case):
    import jax

    jax.config.update("jax_enable_x64", True)
    x = jax.numpy.float64(X)
    if case != "1e4":
        raise ImportError("takes minutes")
    return lambda: jax.jit(lambda x: chain(x, PER(case) // 2))(x).block_until_ready()


VARIANTS = {"adjoint": adjoint, "jax.jit": jax}
