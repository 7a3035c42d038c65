"""Elementary functions of 2^20 elements, allocation included; costs are per element."""

from contract import GeometricMean

# Name, and the range of the arguments.
FUNCTIONS = {
    "exp": (-10, 10),
    "log": (1e-6, 1e6),
    "tanh": (-10, 10),
    "sin": (-10, 10),
    "cos": (-10, 10),
    "erf": (-4, 4),
    "sigmoid": (-10, 10),
    "sqrt": (0, 1e6),
    "add": (-10, 10),
    "pow": (1e-3, 1e3),
}
CASES = tuple(f"{name} {dtype}" for dtype in ("float32", "float64") for name in FUNCTIONS)
UNIT = "s"
TOLERANCE = 1e-6
BARS = (GeometricMean(1.2, 0.4),)
N = 1 << 20
EXPONENT = 1.7


def PER(case):
    return N


def data(case):
    import numpy as np

    name, dtype = case.split()
    x = np.random.default_rng(7).uniform(*FUNCTIONS[name], N).astype(dtype)
    second = {"add": [x[::-1].copy()], "pow": [np.full(N, EXPONENT, dtype)]}
    return [x, *second.get(name, [])]


def reference(case):
    import math

    import numpy as np

    name = case.split()[0]
    arguments = [a.astype(np.float64) for a in data(case)]
    if name == "sigmoid":
        return 1 / (1 + np.exp(-arguments[0]))
    if name == "erf":
        return np.array([math.erf(v) for v in arguments[0]])
    return getattr(np, {"pow": "power"}.get(name, name))(*arguments)


def adjoint(case):
    import adjoint as ad

    function, arguments = getattr(ad, case.split()[0]), [ad.asarray(a) for a in data(case)]

    def run():
        y = function(*arguments)
        ad.eval(y)
        return y

    return run


def numpy(case):
    import numpy as np

    name = case.split()[0]
    if name in ("erf", "sigmoid"):
        raise ModuleNotFoundError(name=f"NumPy's {name}")
    function, arguments = getattr(np, {"pow": "power"}.get(name, name)), data(case)
    return lambda: function(*arguments)


def torch(case):
    import torch

    function = getattr(torch, case.split()[0])
    arguments = [torch.from_numpy(a) for a in data(case)]
    return lambda: function(*arguments)


VARIANTS = {"adjoint": adjoint, "numpy": numpy, "torch": torch}
