"""Derivative-free searches: each asks for points and is told their values.

`SEARCHES` maps the names that `adjoint.optim.minimize` knows them by to the classes.
"""

from adjoint.optim.search.base import Search
from adjoint.optim.search.cmaes import CMAES
from adjoint.optim.search.differential import DifferentialEvolution
from adjoint.optim.search.nelder_mead import NelderMead
from adjoint.optim.search.openai_es import OpenAIES
from adjoint.optim.search.random import RandomSearch
from adjoint.optim.search.spsa import SPSA

__all__ = [
    "CMAES",
    "SEARCHES",
    "SPSA",
    "DifferentialEvolution",
    "NelderMead",
    "OpenAIES",
    "RandomSearch",
    "Search",
]

SEARCHES: dict[str, type[Search]] = {
    "cma-es": CMAES,
    "differential-evolution": DifferentialEvolution,
    "nelder-mead": NelderMead,
    "openai-es": OpenAIES,
    "random-search": RandomSearch,
    "spsa": SPSA,
}


def __dir__() -> list[str]:
    return sorted(__all__)
