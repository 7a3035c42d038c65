"""Square float32 matrix products, not recorded: what lies between Python and the BLAS."""

import ctypes
import importlib.util
from pathlib import Path

from contract import AtLeast

CASES = ("16", "32", "64", "127", "128", "256", "512", "1024")
UNIT = "s"
TOLERANCE = 1e-5
BARS = (
    AtLeast(3, "torch", cases=("16",)),
    AtLeast(0.95, "OpenBLAS", cases=("127", "128", "256", "512", "1024")),
)


def data(case):
    import numpy as np

    n = int(case)
    return np.random.default_rng(5).standard_normal((2, n, n), dtype=np.float32)


def reference(case):
    a, b = data(case).astype("float64")
    return a @ b


def adjoint(case):
    import adjoint as ad

    a, b = (ad.asarray(m) for m in data(case))
    return lambda: a @ b


def numpy(case):
    a, b = data(case)
    return lambda: a @ b


def torch(case):
    import torch

    a, b = (torch.from_numpy(m) for m in data(case))
    return lambda: a @ b


def openblas(case):
    """The library itself, writing into the same result again and again."""
    import numpy as np

    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None:
        raise ModuleNotFoundError(name="scipy_openblas32")
    (folder,) = spec.submodule_search_locations
    (path,) = Path(folder).glob("lib/libscipy_openblas.*")
    sgemm = ctypes.CDLL(str(path)).scipy_cblas_sgemm
    integer, real, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    sgemm.argtypes = (
        [integer] * 6
        + [real, pointer, integer, pointer, integer, real]
        + [
            pointer,
            integer,
        ]
    )
    sgemm.restype = None
    n, (a, b) = int(case), data(case)
    c = np.empty_like(a)
    row_major, plain = 101, 111
    arguments = (
        *(row_major, plain, plain, n, n, n),
        *(1.0, a.ctypes.data, n, b.ctypes.data, n),
        *(0.0, c.ctypes.data, n),
    )

    def run():
        sgemm(*arguments)
        return a, b, c  # a and b stay alive as long as their addresses are used

    def product():
        return run()[2]

    return product


VARIANTS = {"adjoint": adjoint, "numpy": numpy, "torch": torch, "OpenBLAS": openblas}
