"""Optimizers: pure ``init``/``update`` pairs on pytrees that also drive a training loop.

`minimize` is the one call for every method. `search` holds the derivative-free methods; both are
imported at first use, as they need NumPy.
"""

from adjoint.optim.adam import Adam, AdamState
from adjoint.optim.base import Optimizer, apply_updates
from adjoint.optim.sgd import SGD, SGDState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from adjoint.optim import search as search
    from adjoint.optim.evaluation import EvaluationError as EvaluationError
    from adjoint.optim.evaluation import EvaluationWarning as EvaluationWarning
    from adjoint.optim.evaluation import Workers as Workers
    from adjoint.optim.evaluation import evaluate as evaluate
    from adjoint.optim.fit import curve_fit as curve_fit
    from adjoint.optim.minimization import minimize as minimize
    from adjoint.optim.residuals import least_squares as least_squares
    from adjoint.optim.result import Iteration as Iteration
    from adjoint.optim.result import Result as Result
    from adjoint.optim.roots import root as root

_MODULES = frozenset(("search",))
_NAMES = {
    "EvaluationError": "evaluation",
    "EvaluationWarning": "evaluation",
    "Iteration": "result",
    "Result": "result",
    "Workers": "evaluation",
    "curve_fit": "fit",
    "evaluate": "evaluation",
    "least_squares": "residuals",
    "minimize": "minimization",
    "root": "roots",
}

__all__ = [  # noqa: PLE0604
    "SGD",
    "Adam",
    "AdamState",
    "Optimizer",
    "SGDState",
    "apply_updates",
    *sorted(_MODULES),
    *_NAMES,
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"adjoint.optim.{name}")
    if name in _NAMES:
        value = getattr(import_module(f"adjoint.optim.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'adjoint.optim' has no attribute {name!r}")
