"""Element access from Python: the gradient of sum(x[i]**2), and recorded x[i] = v, 10^4 times.

Both must be linear in the length: neither may touch the whole array per element.
"""

from contract import AtMost

CASES = ("read", "write")
UNIT = "s"
TOLERANCE = 1e-14
BARS = (AtMost(2e-6),)
N = 10_000


def PER(case):
    return N


def values():
    import numpy as np

    return np.linspace(-1.0, 1.0, N)


def reference(case):
    import numpy as np

    x = values()
    return 2 * x if case == "read" else np.arange(1.0, N + 1)


def adjoint(case):
    import adjoint as ad

    if case == "read":
        x = ad.asarray(values())
        gradient = ad.grad(lambda x: sum(x[i] ** 2 for i in range(N)))
        return lambda: gradient(x)
    weights = ad.arange(1.0, N + 1)
    v = ad.tensor(values(), requires_grad=True)
    parts = [v[i] for i in range(N)]

    def run():
        v.grad = None
        x = ad.zeros(N)
        for i in range(N):
            x[i] = parts[i]
        ad.sum(x * weights).backward()
        return v.grad

    return run


def torch(case):
    import torch

    v = torch.from_numpy(values()).requires_grad_(True)
    if case == "read":

        def read():
            v.grad = None
            sum(v[i] ** 2 for i in range(N)).backward()
            return v.grad

        return read
    weights = torch.arange(1.0, N + 1, dtype=torch.float64)

    def write():
        v.grad = None
        parts = v.unbind()
        x = torch.zeros(N, dtype=torch.float64)
        for i in range(N):
            x[i] = parts[i]
        (x * weights).sum().backward()
        return v.grad

    return write


VARIANTS = {"adjoint": adjoint, "torch": torch}
