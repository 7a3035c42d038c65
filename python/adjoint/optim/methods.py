"""The methods that `minimize` knows by name, and what each needs and takes.

A method is a function of an `Objective` and of keyword-only options; it ends by `Stop`. What the
options are called, and what they are by default, is in its signature alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

import adjoint as ad
from adjoint.optim.descent import BFGS, LBFGS, ConjugateGradient, SteepestDescent
from adjoint.optim.lbfgsb import l_bfgs_b, projected_gradient
from adjoint.optim.line_method import follow
from adjoint.optim.line_search import Wolfe
from adjoint.optim.newton import newton, newton_cg
from adjoint.optim.objective import Objective
from adjoint.optim.trust_region import trust_exact, trust_ncg

__all__ = ["METHODS", "Method", "find_method", "suggest"]


@functools.cache
def _keyword_options(run: Callable[..., None]) -> dict[str, Any]:
    parameters = inspect.signature(run).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


class Method(NamedTuple):
    """One way to minimize."""

    run: Callable[..., None]
    bounds: bool = False
    hessian: bool = False

    def options(self) -> dict[str, Any]:
        """Return the names of the options, with their defaults where they have one."""
        return _keyword_options(self.run)


def _rounding(objective: Objective) -> float:
    return 1e-6 if objective.flat.dtype == ad.float32 else 1e-14


def gradient_descent(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> None:
    """Steepest descent with a line search."""
    wolfe = Wolfe(decrease, curvature, _rounding(objective))
    follow(objective, SteepestDescent(), gtol=gtol, ftol=ftol, wolfe=wolfe)


def conjugate_gradient(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.1,
) -> None:
    """Nonlinear conjugate gradients of Hager and Zhang."""
    wolfe = Wolfe(decrease, curvature, _rounding(objective))
    follow(objective, ConjugateGradient(), gtol=gtol, ftol=ftol, wolfe=wolfe)


def bfgs(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> None:
    """BFGS with the whole matrix."""
    wolfe = Wolfe(decrease, curvature, _rounding(objective))
    follow(objective, BFGS(), gtol=gtol, ftol=ftol, wolfe=wolfe)


def l_bfgs(
    objective: Objective,
    *,
    gtol: float,
    ftol: float,
    memory: int = 10,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> None:
    """BFGS of limited memory, without bounds."""
    wolfe = Wolfe(decrease, curvature, _rounding(objective))
    follow(objective, LBFGS(memory), gtol=gtol, ftol=ftol, wolfe=wolfe)


METHODS: dict[str, Method] = {
    "bfgs": Method(bfgs),
    "cg": Method(conjugate_gradient),
    "gradient-descent": Method(gradient_descent),
    "l-bfgs": Method(l_bfgs),
    "l-bfgs-b": Method(l_bfgs_b, bounds=True),
    "newton": Method(newton, hessian=True),
    "newton-cg": Method(newton_cg),
    "projected-gradient": Method(projected_gradient, bounds=True),
    "trust-exact": Method(trust_exact, hessian=True),
    "trust-ncg": Method(trust_ncg),
}

# The same under other names, without hyphens and in lower case.
_ALIASES = {
    "gd": "gradient-descent",
    "steepestdescent": "gradient-descent",
    "conjugategradient": "cg",
    "nonlinearcg": "cg",
    "trustregion": "trust-exact",
    "trustregionexact": "trust-exact",
    "trustncgsteihaug": "trust-ncg",
    "steihaug": "trust-ncg",
    "spg": "projected-gradient",
    "auglag": "augmented-lagrangian",
    "de": "differential-evolution",
    "cma": "cma-es",
    "cmaes": "cma-es",
}


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def find_method(who: str, name: Any, known: list[str]) -> str:
    """Return the method's own name, from any spelling of it; raise with the nearest if unknown."""
    if not isinstance(name, str):
        raise TypeError(f"[{who}] method must be a name, not a {type(name).__name__}")
    if name in known:
        return name
    plain = {_plain(one): one for one in known} | {k: v for k, v in _ALIASES.items() if v in known}
    found = plain.get(_plain(name))
    if found is None:
        near = get_close_matches(_plain(name), plain, 1, 0.5)
        hint = f", did you mean {plain[near[0]]!r}?" if near else "."
        raise ValueError(
            f"[{who}] unknown method {name!r}{hint} There are {', '.join(sorted(known))}"
        )
    return found


def suggest(who: str, what: str, given: str, known: list[str]) -> TypeError:
    """Return the error for a name that is not known."""
    near = get_close_matches(given, known, 1, 0.4)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return TypeError(
        f"[{who}] {what} has no option {given!r}{hint} There are {', '.join(sorted(known))}"
    )
