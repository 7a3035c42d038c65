"""The methods that `minimize` knows by name, and what each needs and takes.

A method is a function of an `Objective` and of keyword-only options; it ends by `Stop`. What the
options are called, and what they are by default, is in its signature alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from adjoint.optim.descent import BFGS, LBFGS, ConjugateGradient, SteepestDescent
from adjoint.optim.lbfgsb import l_bfgs_b, projected_gradient
from adjoint.optim.line_method import follow
from adjoint.optim.line_search import Wolfe
from adjoint.optim.newton import newton, newton_cg
from adjoint.optim.objective import Objective
from adjoint.optim.options import check_order
from adjoint.optim.trust_region import trust_exact, trust_ncg
from adjoint.optim.words import METHODS_ELSEWHERE, nearest

__all__ = ["METHODS", "Method", "find_method"]


@functools.cache
def _keyword_options(run: Callable[..., None]) -> dict[str, Any]:
    parameters = inspect.signature(run).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


class Method(NamedTuple):
    """One way to minimize.

    Parameters
    ----------
    run : callable
        ``run(objective, **options)``, which ends by `Stop`.
    bounds : bool
        Whether it keeps bounds.
    hessian : bool
        Whether it asks for Hessians.

    Examples
    --------
    >>> from adjoint.optim.methods import METHODS
    >>> METHODS["l-bfgs-b"].bounds, METHODS["l-bfgs-b"].options()["memory"]
    (True, 10)
    """

    run: Callable[..., None]
    bounds: bool = False
    hessian: bool = False

    def options(self) -> dict[str, Any]:
        """Return the names of the options, with their defaults where they have one."""
        return _keyword_options(self.run)


def _wolfe(objective: Objective, decrease: float, curvature: float) -> Wolfe:
    check_order(objective.who, decrease=decrease, curvature=curvature)
    return Wolfe(decrease, curvature, 1e-6 if objective.flat.single else 1e-14)


def gradient_descent(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> None:
    """Steepest descent with a line search.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger; by default 1e-5 (1e-4 in float32).
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1.
    decrease, curvature : float
        What the line search asks of a step, the strong Wolfe conditions: a decrease of the value by
        this share of what the slope promises, and a slope of at most this share of the first one.

    Examples
    --------
    >>> import adjoint as ad
    >>> bowl = lambda x: ad.sum((x - ad.tensor([1.0, 2.0])) ** 2 * ad.tensor([1.0, 10.0]))
    >>> result = ad.optim.minimize(bowl, [0.0, 0.0], "gradient-descent", options={"curvature": 0.1})
    >>> [round(v, 4) for v in result.x.tolist()], result.success
    ([1.0, 2.0], True)
    """
    wolfe = _wolfe(objective, decrease, curvature)
    follow(objective, SteepestDescent(), gtol=gtol, ftol=ftol, wolfe=wolfe)


def conjugate_gradient(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.1,
) -> None:
    """Nonlinear conjugate gradients of Hager and Zhang.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger; by default 1e-5 (1e-4 in float32).
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1.
    decrease, curvature : float
        What the line search asks of a step, the strong Wolfe conditions: a decrease of the value by
        this share of what the slope promises, and a slope of at most this share of the first one.

    Examples
    --------
    >>> import adjoint as ad
    >>> bowl = lambda x: ad.sum((x - ad.tensor([1.0, 2.0])) ** 2 * ad.tensor([1.0, 10.0]))
    >>> result = ad.optim.minimize(bowl, [0.0, 0.0], "cg")
    >>> [round(v, 4) for v in result.x.tolist()], result.success
    ([1.0, 2.0], True)
    """
    wolfe = _wolfe(objective, decrease, curvature)
    follow(objective, ConjugateGradient(), gtol=gtol, ftol=ftol, wolfe=wolfe)


def bfgs(
    objective: Objective,
    *,
    gtol: float,
    ftol: float = 0.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> None:
    """BFGS with the whole matrix.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger; by default 1e-5 (1e-4 in float32).
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1.
    decrease, curvature : float
        What the line search asks of a step, the strong Wolfe conditions: a decrease of the value by
        this share of what the slope promises, and a slope of at most this share of the first one.

    Examples
    --------
    >>> import adjoint as ad
    >>> bowl = lambda x: ad.sum((x - ad.tensor([1.0, 2.0])) ** 2 * ad.tensor([1.0, 10.0]))
    >>> result = ad.optim.minimize(bowl, [0.0, 0.0], "bfgs", options={"gtol": 1e-8})
    >>> [round(v, 4) for v in result.x.tolist()], result.success
    ([1.0, 2.0], True)
    """
    wolfe = _wolfe(objective, decrease, curvature)
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
    """BFGS of limited memory, without bounds.

    Parameters
    ----------
    objective : Objective
    gtol : float
        Converged where no part of the gradient is larger; by default 1e-5 (1e-4 in float32).
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1; by
        default 1e7 roundings (1 in float32), and 0 where `tol` is given.
    memory : int
        How many of the last steps are known.
    decrease, curvature : float
        What the line search asks of a step, the strong Wolfe conditions: a decrease of the value by
        this share of what the slope promises, and a slope of at most this share of the first one.

    Examples
    --------
    >>> import adjoint as ad
    >>> bowl = lambda x: ad.sum((x - ad.tensor([1.0, 2.0])) ** 2 * ad.tensor([1.0, 10.0]))
    >>> result = ad.optim.minimize(bowl, [0.0, 0.0], "l-bfgs", options={"memory": 5})
    >>> [round(v, 4) for v in result.x.tolist()], result.success
    ([1.0, 2.0], True)
    """
    wolfe = _wolfe(objective, decrease, curvature)
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
    """Return the method's own name, from any spelling of it; raise with the nearest if unknown.

    Examples
    --------
    >>> from adjoint.optim.methods import find_method
    >>> find_method("minimize", "L-BFGS-B", ["l-bfgs", "l-bfgs-b"])
    'l-bfgs-b'
    >>> find_method("minimize", "bfsg", ["bfgs", "cg"])
    Traceback (most recent call last):
        ...
    ValueError: [minimize] unknown method 'bfsg', did you mean 'bfgs'? There are bfgs, cg
    """
    if not isinstance(name, str):
        raise TypeError(f"[{who}] method must be a name, not a {type(name).__name__}")
    if name in known:
        return name
    plain = {_plain(one): one for one in known} | {k: v for k, v in _ALIASES.items() if v in known}
    found = plain.get(_plain(name))
    if found is None:
        if _plain(name) in METHODS_ELSEWHERE:
            raise ValueError(
                f"[{who}] there is no method {name!r} here: use {METHODS_ELSEWHERE[_plain(name)]}"
            )
        near = nearest(_plain(name), plain)
        hint = f", did you mean {plain[near]!r}?" if near else "."
        raise ValueError(
            f"[{who}] unknown method {name!r}{hint} There are {', '.join(sorted(known))}"
        )
    return found
