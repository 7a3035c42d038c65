"""Neural networks: modules that hold parameters, and losses as plain functions."""

from adjoint.nn.functional import cross_entropy, mse_loss
from adjoint.nn.layers import Linear, ReLU, Sequential, Tanh
from adjoint.nn.module import Module
from adjoint.nn.table import summary

__all__ = [
    "Linear",
    "Module",
    "ReLU",
    "Sequential",
    "Tanh",
    "cross_entropy",
    "mse_loss",
    "summary",
]


TYPE_CHECKING = False  # as in typing, which takes a while to import

if not TYPE_CHECKING:  # see that of `adjoint`

    def __getattr__(name):
        from adjoint._words import unknown

        raise unknown("nn", name)


def __dir__() -> list[str]:
    return sorted(__all__)
