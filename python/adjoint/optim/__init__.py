"""Optimizers: pure ``init``/``update`` pairs on pytrees that also drive a training loop.

`minimize` is the one call for every method. `search` holds the derivative-free methods; both are
imported at first use, as they need NumPy.
"""

from adjoint.optim.adagrad import (
    Adadelta,
    AdadeltaState,
    Adagrad,
    AdagradState,
    RMSprop,
    RMSState,
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_rms,
)
from adjoint.optim.adam import (
    Adam,
    Adamax,
    AdamaxState,
    AdamState,
    AdamW,
    scale_by_adam,
    scale_by_adamax,
)
from adjoint.optim.averaging import AverageState, WeightAverage
from adjoint.optim.base import Optimizer
from adjoint.optim.nadam import (
    NAdam,
    NAdamState,
    RAdam,
    RAdamState,
    scale_by_nadam,
    scale_by_radam,
)
from adjoint.optim.plateau import PlateauState, ReduceOnPlateau
from adjoint.optim.scaling import (
    AccumulateState,
    MaskState,
    ScheduleState,
    accumulate,
    add_decayed_weights,
    clip_by_norm,
    clip_by_value,
    clip_grad_norm,
    scale,
    scale_by_learning_rate,
)
from adjoint.optim.schedules import (
    constant_schedule,
    cosine_restarts_schedule,
    cosine_schedule,
    exponential_schedule,
    linear_schedule,
    multi_step_schedule,
    one_cycle_schedule,
    polynomial_schedule,
    sequence_schedule,
    step_schedule,
)
from adjoint.optim.sgd import SGD, TraceState, trace
from adjoint.optim.signs import (
    Lion,
    LionState,
    Rprop,
    RpropState,
    scale_by_lion,
    scale_by_rprop,
)
from adjoint.optim.transform import Transform, apply_updates, chain

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    "AccumulateState",
    "Adadelta",
    "AdadeltaState",
    "Adagrad",
    "AdagradState",
    "Adam",
    "AdamState",
    "AdamW",
    "Adamax",
    "AdamaxState",
    "AverageState",
    "Lion",
    "LionState",
    "MaskState",
    "NAdam",
    "NAdamState",
    "Optimizer",
    "PlateauState",
    "RAdam",
    "RAdamState",
    "RMSState",
    "RMSprop",
    "ReduceOnPlateau",
    "Rprop",
    "RpropState",
    "ScheduleState",
    "TraceState",
    "Transform",
    "WeightAverage",
    "accumulate",
    "add_decayed_weights",
    "apply_updates",
    "chain",
    "clip_by_norm",
    "clip_by_value",
    "clip_grad_norm",
    "constant_schedule",
    "cosine_restarts_schedule",
    "cosine_schedule",
    "exponential_schedule",
    "linear_schedule",
    "multi_step_schedule",
    "one_cycle_schedule",
    "polynomial_schedule",
    "scale",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rprop",
    "sequence_schedule",
    "step_schedule",
    "trace",
    *sorted(_MODULES),
    *_NAMES,
]


if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"adjoint.optim.{name}")
        if name in _NAMES:
            value = getattr(import_module(f"adjoint.optim.{_NAMES[name]}"), name)
            globals()[name] = value
            return value
        from adjoint.optim.words import advise

        raise AttributeError(f"module 'adjoint.optim' has no attribute {name!r}{advise(name)}")


def __dir__() -> list[str]:
    return sorted(__all__)


# Elsewhere `adam(...)` makes an optimizer: who writes that is to be told of Adam, not of a module.
for _name in ("adagrad", "adam", "nadam", "sgd"):
    globals().pop(_name, None)
