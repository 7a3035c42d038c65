"""Optimizers: pure ``init``/``update`` pairs on pytrees that also drive a training loop."""

from adjoint.optim.adam import Adam, AdamState
from adjoint.optim.base import Optimizer, apply_updates
from adjoint.optim.sgd import SGD, SGDState

__all__ = ["SGD", "Adam", "AdamState", "Optimizer", "SGDState", "apply_updates"]
