"""Optimizers: pure ``init``/``update`` pairs on pytrees that also drive a training loop."""

from adjoint.optim.adam import Adam, Adamax, AdamaxState, AdamState, AdamW, scale_by_adam
from adjoint.optim.base import Optimizer
from adjoint.optim.groups import ParamGroup
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
from adjoint.optim.sgd import SGD, TraceState, trace
from adjoint.optim.transform import Transform, apply_updates, chain, scaled

__all__ = ["SGD", "Adam", "AdamState", "Optimizer", "apply_updates"]
