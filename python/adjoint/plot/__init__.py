"""Pictures of functions and of how they are minimized, on matplotlib's axes.

Functions, tangents, families `F(x; w)`, contours, the way of an optimizer, its convergence, and
sliders that move a parameter. Each function draws into `ax`, or into the current axes of pyplot, so
that calls one after the other draw on top of each other; and returns the axes. Matplotlib is
imported at the first call.

>>> import adjoint as ad
>>> f = lambda w: w**2 + 1
>>> ax = ad.plot.function(f, (-2, 2))
>>> ax = ad.plot.tangent(f, 1.5, ax=ax)
"""

from adjoint.plot.curves import contour, family, function, tangent
from adjoint.plot.runs import convergence, trajectory
from adjoint.plot.sliders import Slider, slider

__all__ = [
    "Slider",
    "contour",
    "convergence",
    "family",
    "function",
    "slider",
    "tangent",
    "trajectory",
]


def __dir__() -> list[str]:
    return sorted(__all__)
