"""One step of Adam in float32: many small parameters, one large one, and those of two networks.

adjoint's optimizer is plain Python over primitives; torch's is run as it comes on a CPU (one
parameter after another), all parameters per operation, and fused.
"""

import itertools

from contract import AtLeast

CASES = ("100 x 1e4", "1 x 1e7", "784-256-128-10", "2-16-16-1")
UNIT = "s"
TOLERANCE = 1e-5
RATE = 1e-3
BARS = (
    AtLeast(0.9, "torch fused", cases=CASES[:1]),
    AtLeast(0.8, "torch fused", cases=CASES[1:2]),
    AtLeast(1, "torch fused", cases=CASES[2:]),
    AtLeast(5, "torch", cases=CASES[:2]),
)


def data(case):
    import numpy as np

    rng = np.random.default_rng(4)
    if " x " in case:
        count, size = (int(float(n)) for n in case.split(" x "))
        shapes = [(size,)] * count
    else:
        layers = itertools.pairwise(map(int, case.split("-")))
        shapes = [shape for n, m in layers for shape in ((n, m), (m,))]
    return [[rng.standard_normal(s, dtype=np.float32) for s in shapes] for _ in range(2)]


def reference(case):
    """The first step from zero moments: both corrections cancel against the decay."""
    import numpy as np

    parameters, gradients = data(case)
    return [
        p.astype(np.float64) - RATE * g.astype(np.float64) / (np.abs(g.astype(np.float64)) + 1e-8)
        for p, g in zip(parameters, gradients, strict=True)
    ]


def adjoint(case, wrap=lambda f: f):
    import adjoint as ad

    parameters, gradients = data(case)
    parameters = [ad.tensor(ad.asarray(p), requires_grad=True) for p in parameters]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = ad.asarray(g)
    optimizer = ad.optim.Adam(parameters, learning_rate=RATE)

    step = wrap(optimizer.step)

    def run():
        step()
        ad.eval(parameters)
        return parameters

    return run


def adjoint_compiled(case):
    import adjoint as ad

    return adjoint(case, ad.compile)


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
    "adjoint compiled": adjoint_compiled,
    "torch": lambda case: torch_run(case),
    "torch foreach": lambda case: torch_run(case, foreach=True),
    "torch fused": lambda case: torch_run(case, fused=True),
}
