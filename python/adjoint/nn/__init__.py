"""Neural networks: modules that hold parameters, and losses as plain functions."""

from adjoint.nn.functional import cross_entropy, mse_loss
from adjoint.nn.layers import Linear, ReLU, Sequential, Tanh
from adjoint.nn.module import Module

__all__ = ["Linear", "Module", "ReLU", "Sequential", "Tanh", "cross_entropy", "mse_loss"]
