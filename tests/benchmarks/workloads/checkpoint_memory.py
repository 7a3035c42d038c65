"""Peak memory of the gradient of 100 layers, with blocks of 10 computed again against all kept.

In arrays of the size of one layer's value, beyond what is there before and the gradients.
"""

from contract import AtLeast, Measured
from workloads import layer_chain

CASES = ("",)
UNIT = "arrays"
BARS = (AtLeast(4.5, "adjoint kept"),)


def adjoint(case, way):
    import adjoint as ad

    x, run = layer_chain.adjoint(way)

    def peak():
        before = ad.memory_stats()["live"]
        ad.reset_peak_memory()
        gradients = sum(g.nbytes for g in run())
        return (ad.memory_stats()["peak"] - before - gradients) / x.nbytes

    cost = peak()
    return Measured(lambda: cost)


VARIANTS = {
    "adjoint": lambda case: adjoint(case, "checkpoint"),
    "adjoint kept": lambda case: adjoint(case, "kept"),
}
