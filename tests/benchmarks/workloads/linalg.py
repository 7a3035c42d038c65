"""Factors and solutions of float64 matrices, not recorded, as they are called from Python."""

from contract import AtLeast

NAMES = ("cholesky", "solve", "inv", "det", "qr", "eigh", "svd", "svdvals", "pinv", "lstsq")
SIZES = (8, 64, 512)
CASES = tuple(f"{name} {n}" for name in NAMES for n in SIZES)
UNIT = "s"
TOLERANCE = 1e-9
BARS = (AtLeast(1, "numpy"), AtLeast(1, "torch"))


def parts(n):
    """Orthonormal columns twice, and singular values that lie apart."""
    import numpy as np

    rng = np.random.default_rng(5)
    u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return u, np.linspace(2.0, 1.0, n) ** (8 / n), v


def data(case):
    """The matrix, symmetric where it has to be, and for systems a right side."""
    import numpy as np

    name, n = case.split()
    u, s, v = parts(int(n))
    if name in ("cholesky", "eigh"):
        v = u
    a = (u * s) @ v.T
    if name in ("solve", "lstsq"):
        return a, a @ np.ones(int(n))
    return (a,)


def reference(case):
    """Of products whose factors are known."""
    import numpy as np

    name, n = case.split()
    u, s, v = parts(int(n))
    a = data(case)[0]
    if name in ("solve", "lstsq"):
        return np.ones(int(n))
    if name in ("inv", "pinv"):
        return (v / s) @ u.T
    if name == "det":
        signs = [np.sign(np.linalg.slogdet(x)[0]) for x in (u, v)]
        return np.prod(s) * signs[0] * signs[1]
    if name == "eigh":
        return s[::-1]
    if name in ("svd", "svdvals"):
        return s
    return columns_of_factor(a if name == "cholesky" else a.T @ a)


def columns_of_factor(a):
    """The diagonal of the Cholesky factor, by elimination."""
    import numpy as np

    a = a.copy()
    found = []
    for k in range(len(a)):
        found.append(np.sqrt(a[k, k]))
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :]) / a[k, k]
    return np.array(found)


def chosen(name, xp):
    """What is called, and the part of its result that is compared."""
    calls = {
        "cholesky": lambda a: xp.linalg.diagonal(xp.linalg.cholesky(a)),
        "qr": lambda a: abs(xp.linalg.diagonal(xp.linalg.qr(a)[1])),
        "eigh": lambda a: xp.linalg.eigh(a)[0],
        "svd": lambda a: xp.linalg.svd(a)[1],
        "lstsq": lambda a, b: xp.linalg.lstsq(a, b)[0],
    }
    return calls.get(name) or getattr(xp.linalg, name)


def adjoint(case):
    import adjoint as ad

    given = [ad.asarray(x) for x in data(case)]
    f = chosen(case.split()[0], ad)
    return lambda: f(*given)


def numpy(case):
    import numpy as np

    given = data(case)
    f = chosen(case.split()[0], np)
    return lambda: f(*given)


def torch(case):
    import torch

    given = [torch.as_tensor(x) for x in data(case)]
    name = case.split()[0]
    if name == "lstsq":  # of PyTorch's drivers the one that NumPy and adjoint use
        return lambda: torch.linalg.lstsq(given[0], given[1][:, None], driver="gelsd")[0][:, 0]
    f = chosen(name, torch)
    return lambda: f(*given)


VARIANTS = {"adjoint": adjoint, "numpy": numpy, "torch": torch}
