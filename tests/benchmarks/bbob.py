"""Solvers on the BBOB functions of COCO, beside SciPy's and pycma's: how many problems are solved.

``python tests/benchmarks/bbob.py [solvers] [--dimensions 2,5,10] [--seeds 1,2,3,4,5]`` prints a
row per solver. It needs ``coco-experiment``, and ``cma`` and ``scipy`` for the peers; those that
are not installed are left out.

A problem is one of the 24 noiseless functions [1]_ in an instance of 1 and 2: 48 in each dimension.
In n dimensions a solver may spend 1000 n evaluations, and has solved a problem when COCO says that
the last target, 1e-8 above the minimum, is hit. Values are all it is given. Every solver starts at
the origin, with a scale of 2 where it has one, and starts again, whenever it has converged, from
points that are drawn from the box of 4 around it: by itself where it can, else by this program.

.. [1] N. Hansen, S. Finck, R. Ros, A. Auger, "Real-parameter black-box optimization benchmarking
   2009: noiseless functions definitions", INRIA RR-6829, 2009.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.optim.search import SEARCHES

BUDGET = 1000  # evaluations per dimension
SUITE = "instance_indices: 1-2 dimensions: {}"
Solver = Callable[[Callable[[Any], float], int, int, int], None]


class Enough(Exception):
    """The problem is solved, or the evaluations are used up."""


def starts(n: int, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    yield np.zeros(n)
    random = np.random.default_rng(seed)
    while True:
        yield random.uniform(-4.0, 4.0, n)


# ---- Solvers: each runs until it has had enough --------------------------------------------------


def search(method: str, **options: Any) -> Solver:
    def solve(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
        found = SEARCHES[method](np.zeros(n), seed=seed, scale=2.0, **options)
        while found.stop is None:
            xs = found.ask()
            found.tell(xs, [f(x) for x in xs])

    return solve


def minimize(method: str) -> Solver:
    def solve(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
        options = {"gradient": "2-point", "compile": False}

        def objective(x: Any) -> float:
            return f(x.numpy() if isinstance(x, ad.Tensor) else x)

        for x0 in starts(n, seed):
            ad.optim.minimize(
                objective, x0, method=method, tol=1e-9, maxfun=budget, options=options
            )

    return solve


def scipy(method: str, **options: Any) -> Solver:
    def solve(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
        from scipy.optimize import minimize

        for x0 in starts(n, seed):
            minimize(f, x0, method=method, options=options)

    return solve


def scipy_wide(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
    """SciPy's simplex method with the scale and the coefficients that ours has here."""
    from scipy.optimize import minimize

    for x0 in starts(n, seed):
        simplex = np.vstack([x0, x0 + 2.0 * np.eye(n)])
        options = {"initial_simplex": simplex, "adaptive": True, "xatol": 1e-9, "fatol": 1e-9}
        minimize(f, x0, method="Nelder-Mead", options={**options, "maxfev": budget})


def scipy_evolution(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
    from scipy.optimize import differential_evolution

    for k in range(seed, 10**9, 1000):
        differential_evolution(f, [(-5.0, 5.0)] * n, rng=k, maxiter=budget, polish=False)


def pycma(bipop: bool) -> Solver:
    def solve(f: Callable[[Any], float], n: int, budget: int, seed: int) -> None:
        import cma

        points = starts(n, seed)
        options = {"seed": seed, "verbose": -9, "maxfevals": budget}
        cma.fmin2(f, lambda: next(points), 2.0, options, restarts=9, bipop=bipop)

    return solve


SOLVERS: dict[str, tuple[str | None, Solver]] = {
    "adjoint cma-es": (None, search("cma-es")),
    "adjoint cma-es ipop": (None, search("cma-es", restarts="ipop")),
    "pycma bipop": ("cma", pycma(True)),
    "pycma ipop": ("cma", pycma(False)),
    "adjoint nelder-mead": (None, search("nelder-mead", restarts=10**9, tol=1e-9)),
    "scipy nelder-mead": ("scipy", scipy("Nelder-Mead", xatol=1e-9, fatol=1e-9, maxfev=10**9)),
    "scipy nelder-mead wide": ("scipy", scipy_wide),
    "adjoint differential-evolution": (None, search("differential-evolution", tol=0.0)),
    "scipy differential-evolution": ("scipy", scipy_evolution),
    "adjoint l-bfgs-b": (None, minimize("l-bfgs-b")),
    "scipy l-bfgs-b": ("scipy", scipy("L-BFGS-B")),
    "adjoint bfgs": (None, minimize("bfgs")),
    "scipy bfgs": ("scipy", scipy("BFGS")),
}


# ---- The bench -----------------------------------------------------------------------------------


def solved(problem: Any, solver: Solver, seed: int) -> bool:
    budget = BUDGET * problem.dimension

    def f(x: Any) -> float:
        if problem.final_target_hit or problem.evaluations >= budget:
            raise Enough
        return float(problem(np.asarray(x, dtype=np.float64)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            solver(f, problem.dimension, budget, seed)
        except Enough:
            pass
    return bool(problem.final_target_hit)


def counts(name: str, dimension: int, seeds: list[int], each: bool) -> list[int]:
    """Return how many problems are solved with each seed."""
    import cocoex

    needs, solver = SOLVERS[name]
    if needs is not None and find_spec(needs) is None:
        return []
    totals, functions = [], np.zeros(25, dtype=int)
    for seed in seeds:
        total = 0
        for problem in cocoex.Suite("bbob", "", SUITE.format(dimension)):
            hit = solved(problem, solver, seed)
            total += hit
            functions[problem.id_function] += hit
        totals.append(total)
    if each:
        print("    by function:", *functions[1:], flush=True)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("solvers", nargs="*", help=f"some of: {', '.join(SOLVERS)}")
    parser.add_argument("--dimensions", default="2,5,10")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--functions", action="store_true", help="counts of each function too")
    given = parser.parse_args()
    for name in given.solvers:
        if name not in SOLVERS:
            parser.error(f"{name!r} is none of {', '.join(SOLVERS)}")
    seeds = [int(s) for s in given.seeds.split(",")]
    print("| solver | dimension | mean | by seed | seconds |\n| --- | --- | --- | --- | --- |")
    for dimension in map(int, given.dimensions.split(",")):
        for name in given.solvers or SOLVERS:
            begun = time.perf_counter()
            totals = counts(name, dimension, seeds, given.functions)
            if totals:
                took = f"{time.perf_counter() - begun:.0f}"
                row = [name, dimension, f"{np.mean(totals):.1f}", " ".join(map(str, totals)), took]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
