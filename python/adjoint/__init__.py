"""NumPy-like tensors that record themselves, differentiated to any order by a compiled core.

>>> import adjoint as ad
>>> ad.grad(lambda w: w**2 + 1)(5.0).item()
10.0

Importing this package starts no thread, opens no BLAS and does not import NumPy; what is rarely
needed at once is imported at first use.
"""

from adjoint import _core, tree
from adjoint._core import *  # noqa: F403
from adjoint._core import __version__ as __version__

e = 2.718281828459045
pi = 3.141592653589793
inf = float("inf")
nan = float("nan")
newaxis = None

_MODULES = frozenset(
    ("examples", "fft", "io", "linalg", "nn", "optim", "plot", "random", "testing")
)
_NAMES = {
    "GradientTape": "_tape",
    "Variable": "_tape",
    "__array_namespace_info__": "_dtypes",
    "can_cast": "_dtypes",
    "finfo": "_dtypes",
    "iinfo": "_dtypes",
    "isdtype": "_dtypes",
    "result_type": "_dtypes",
}

__array_api_version__ = "2024.12"

__all__ = [  # noqa: PLE0604
    *(name for name in vars(_core) if not name.startswith("_")),
    *_NAMES,
    *sorted(_MODULES),
    "__version__",
    "e",
    "inf",
    "nan",
    "newaxis",
    "pi",
    "tree",
]


def __getattr__(name):
    from importlib import import_module

    if name in _MODULES:
        try:
            return import_module(f"adjoint.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"adjoint.{name}":
                raise
    elif name in _NAMES:
        value = getattr(import_module(f"adjoint.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'adjoint' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES, *_MODULES})
