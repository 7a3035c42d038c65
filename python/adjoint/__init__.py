"""NumPy-like tensors that record themselves, differentiated to any order by a compiled core.

>>> import adjoint as ad
>>> ad.grad(lambda w: w**2 + 1)(5.0).item()
10.0

Importing this package starts no thread, opens no BLAS and does not import NumPy; what is rarely
needed at once is imported at first use.
"""

from adjoint import _core
from adjoint._core import *  # noqa: F403
from adjoint._core import __version__ as __version__

# isort: split
import adjoint.linalg as linalg  # over the core's own
import adjoint.tree as tree  # over the core's own, without TreeDef
from adjoint._libraries import announce_blas

announce_blas()
del announce_blas

e = 2.718281828459045
pi = 3.141592653589793
inf = float("inf")
nan = float("nan")
newaxis = None

_MODULES = frozenset(("examples", "io", "nn", "optim", "plot", "random", "testing"))
_NAMES = {
    "GradientTape": "_tape",
    "Variable": "_tape",
    "__array_namespace_info__": "_dtypes",
    "can_cast": "_dtypes",
    "checkpoint": "transforms.custom",
    "cond": "transforms.control",
    "custom_fixed_point": "transforms.implicit",
    "custom_jvp": "transforms.custom",
    "custom_root": "transforms.implicit",
    "custom_vjp": "transforms.custom",
    "finfo": "_dtypes",
    "hessian": "transforms.jacobian",
    "host_op": "transforms.host",
    "iinfo": "_dtypes",
    "isdtype": "_dtypes",
    "jacobian": "transforms.jacobian",
    "linearize": "transforms.forward",
    "result_type": "_dtypes",
    "scan": "transforms.control",
    "taylor": "transforms.forward",
    "while_loop": "transforms.control",
}

__array_api_version__ = "2024.12"

__all__ = [  # noqa: PLE0604
    *(name for name in vars(_core) if not name.startswith("_") and name not in ("linalg", "tree")),
    *_NAMES,
    *sorted(_MODULES),
    "__version__",
    "e",
    "inf",
    "linalg",
    "nan",
    "newaxis",
    "pi",
    "tree",
]


TYPE_CHECKING = False  # as in typing, which takes a while to import
if TYPE_CHECKING:
    from adjoint import examples as examples
    from adjoint import io as io
    from adjoint import nn as nn
    from adjoint import optim as optim
    from adjoint import plot as plot
    from adjoint import random as random
    from adjoint import testing as testing
    from adjoint._dtypes import __array_namespace_info__ as __array_namespace_info__
    from adjoint._dtypes import can_cast as can_cast
    from adjoint._dtypes import finfo as finfo
    from adjoint._dtypes import iinfo as iinfo
    from adjoint._dtypes import isdtype as isdtype
    from adjoint._dtypes import result_type as result_type
    from adjoint._tape import GradientTape as GradientTape
    from adjoint._tape import Variable as Variable
    from adjoint.transforms.control import cond as cond
    from adjoint.transforms.control import scan as scan
    from adjoint.transforms.control import while_loop as while_loop
    from adjoint.transforms.custom import checkpoint as checkpoint
    from adjoint.transforms.custom import custom_jvp as custom_jvp
    from adjoint.transforms.custom import custom_vjp as custom_vjp
    from adjoint.transforms.forward import linearize as linearize
    from adjoint.transforms.forward import taylor as taylor
    from adjoint.transforms.host import host_op as host_op
    from adjoint.transforms.implicit import custom_fixed_point as custom_fixed_point
    from adjoint.transforms.implicit import custom_root as custom_root
    from adjoint.transforms.jacobian import hessian as hessian
    from adjoint.transforms.jacobian import jacobian as jacobian


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt name for one of ours

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
        advice = ""
        if not name.startswith("_"):
            from adjoint._words import advise

            advice = advise(name)
        raise AttributeError(f"module 'adjoint' has no attribute {name!r}{advice}")


def __dir__() -> list[str]:
    return sorted(__all__)
