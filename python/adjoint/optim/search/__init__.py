"""Derivative-free searches: each asks for points and is told their values.

`SEARCHES` maps the names that `adjoint.optim.minimize` knows them by to the classes.
"""

from adjoint.optim.search.base import Search
from adjoint.optim.search.random import RandomSearch

__all__ = ["SEARCHES", "RandomSearch", "Search"]

SEARCHES: dict[str, type[Search]] = {
    "random-search": RandomSearch,
}
