"""Time of the gradient of 100 layers, with blocks of 10 computed again against all kept."""

from contract import AtLeast
from workloads import layer_chain

CASES = ("",)
UNIT = "s"
TOLERANCE = 1e-4
BARS = (AtLeast(1 / 1.5, "adjoint kept"), AtLeast(1, "torch"))

reference = layer_chain.reference

VARIANTS = {
    "adjoint": lambda case: layer_chain.adjoint("checkpoint")[1],
    "adjoint kept": lambda case: layer_chain.adjoint("kept")[1],
    "torch": lambda case: layer_chain.torch("checkpoint"),
}
