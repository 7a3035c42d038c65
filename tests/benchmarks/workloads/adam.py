"""One step of Adam in float32: many small parameters, and one large one.

adjoint's optimizer is plain Python over primitives; torch's is run as it comes and fused.
"""

from contract import AtLeast

CASES = ("100 x 1e4", "1 x 1e7")
UNIT = "s"
TOLERANCE = 1e-5
RATE = 1e-3
BARS = (
    AtLeast(0.9, "torch fused", cases=CASES[:1]),
    AtLeast(0.7, "torch fused", cases=CASES[1:]),
    AtLeast(5, "torch"),
)


def data(case):
    import numpy as np

    count, size = (int(float(n)) for n in case.split(" x "))
    rng = np.random.default_rng(4)
    make = [rng.standard_normal((count, size), dtype=np.float32) for _ in range(2)]
    return [list(part) for part in make]


def reference(case):
    """The first step from zero moments: both corrections cancel against the decay."""
    import numpy as np

    parameters, gradients = data(case)
    return [
        p.astype(np.float64) - RATE * g.astype(np.float64) / (np.abs(g.astype(np.float64)) + 1e-8)
        for p, g in zip(parameters, gradients, strict=True)
    ]


def adjoint(case):
    import adjoint as ad

    parameters, gradients = data(case)
    parameters = [ad.tensor(ad.asarray(p), requires_grad=True) for p in parameters]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = ad.asarray(g)
    optimizer = ad.optim.Adam(parameters, learning_rate=RATE)

    def run():
        optimizer.step()
        ad.eval(parameters)
        return parameters

    return run


def torch_run(case, **options):
    import torch

    parameters, gradients = data(case)
    parameters = [torch.from_numpy(p).requires_grad_(True) for p in parameters]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = torch.optim.Adam(parameters, lr=RATE, **options)

    def run():
        optimizer.step()
        return parameters

    return run


VARIANTS = {
    "adjoint": adjoint,
    "torch": lambda case: torch_run(case),
    "torch fused": lambda case: torch_run(case, fused=True),
}
