"""Solvers beside SciPy's: how many problems are solved, at what number of evaluations and cost.

``python -m tests.benchmarks.solvers [mgh] [nist] [steps]`` prints the tables of the docs page on
`minimize`. The problems are those of tests/python: Moré, Garbow and Hillstrom's, and NIST's.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "python")]

import adjoint as ad  # noqa: E402
from mgh_problems import PROBLEMS  # noqa: E402
from nist_problems import problems  # noqa: E402

PAIRS = [
    ("l-bfgs", "L-BFGS-B"),
    ("l-bfgs-b", "L-BFGS-B"),
    ("bfgs", "BFGS"),
    ("trust-exact", "trust-exact"),
    ("trust-ncg", "trust-ncg"),
    ("newton-cg", "Newton-CG"),
    ("cg", "CG"),
]
SHARE = 1e-7  # solved: all but this share of the way from the start down to a known minimum


def table(head: list[str], rows: list[list[Any]]) -> None:
    for row in [head, ["---"] * len(head), *rows]:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print()


# ---- Moré, Garbow and Hillstrom ------------------------------------------------------------------


def is_solved(problem: Any, value: float) -> bool:
    first = problem(ad.tensor([float(v) for v in problem.start])).item()
    return bool(
        np.isfinite(value)
        and any(value - m <= SHARE * (first - m) for m in problem.minima)
        and value > min(problem.minima) - 1e-6 * max(1e-3, min(map(abs, problem.minima)))
    )


def by_scipy(problem: Any, method: str) -> tuple[float, int]:
    """The value found and the number of values and gradients that were asked for."""
    count = 0
    compiled = ad.compile(ad.value_and_grad(problem))
    hessian = ad.compile(ad.hessian(problem))

    def both(x: Any) -> Any:
        nonlocal count
        count += 1
        value, grad = compiled(ad.asarray(x))
        return value.item(), np.array(grad.numpy())

    more: dict[str, Any] = {}
    if method.startswith(("trust", "Newton")):
        more["hess"] = lambda x: np.array(hessian(ad.asarray(x)).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = np.array(problem.start, float)
        result = scipy.optimize.minimize(both, start, jac=True, method=method, **more)
    return float(result.fun), count


def by_us(problem: Any, method: str) -> tuple[float, int]:
    result = ad.optim.minimize(problem, [float(v) for v in problem.start], method)
    return float(result.fun), result.nfev


def mgh() -> None:
    """Solved problems and evaluations, with default settings on both sides."""
    runs: dict[tuple[str, Callable[..., Any]], list[tuple[float, int]]] = {}
    for own, theirs in PAIRS:
        for run, method in ((by_us, own), (by_scipy, theirs)):
            if (method, run) not in runs:
                runs[method, run] = [run(problem, method) for problem in PROBLEMS]

    def told(found: list[tuple[float, int]]) -> list[Any]:
        solved = sum(is_solved(p, f) for p, (f, _) in zip(PROBLEMS, found, strict=True))
        return [f"{solved} of {len(PROBLEMS)}", sum(n for _, n in found)]

    rows = [
        [f"`{own}`", *told(runs[own, by_us]), theirs, *told(runs[theirs, by_scipy])]
        for own, theirs in PAIRS
    ]
    head = ["method", "solved", "evaluations", "SciPy's", "solved", "evaluations"]
    table(head, rows)


# ---- NIST ----------------------------------------------------------------------------------------


def nist() -> None:
    """Starts from which every certified parameter is reached to six digits."""

    def reached(found: Any, certified: list[float]) -> bool:
        return bool(np.all(np.abs(found - certified) <= 1e-6 * np.abs(certified)))

    counts: dict[str, list[int]] = {}
    for problem in problems():
        f, jacobian = ad.compile(problem.residuals), ad.compile(ad.jacobian(problem.residuals))
        calls = (
            lambda x, f=f: np.array(f(ad.asarray(x)).numpy()),
            lambda x, j=jacobian: np.array(j(ad.asarray(x)).numpy()),
        )
        for start in problem.starts:
            result = ad.optim.least_squares(problem.residuals, start)
            found = {"`least_squares`": (result.x.numpy(), result.nfev)}
            for method in ("trf", "lm"):
                tight = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-14)
                try:
                    theirs = scipy.optimize.least_squares(
                        calls[0], start, calls[1], method=method, max_nfev=10_000, **tight
                    )
                    found[f"SciPy's {method}"] = theirs.x, theirs.nfev
                except (ValueError, np.linalg.LinAlgError):
                    found[f"SciPy's {method}"] = np.full(len(start), np.nan), 0
            for name, (x, evaluations) in found.items():
                row = counts.setdefault(name, [0, 0])
                row[0] += reached(x, problem.certified)
                row[1] += evaluations
    rows = [
        [name, f"{solved} of 54", evaluations] for name, (solved, evaluations) in counts.items()
    ]
    table(["method", "starts", "evaluations"], rows)


# ---- Cost of a step ------------------------------------------------------------------------------


def rosenbrock(p: Any) -> Any:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def rosenbrock_gradient(p: Any) -> Any:
    b = p[1] - p[0] ** 2
    return np.array([-2 * (1 - p[0]) - 400 * p[0] * b, 200 * b])


def steps() -> None:
    """Microseconds per iteration on Rosenbrock's function in two dimensions, least of 30."""
    x0 = np.array([-1.2, 1.0])
    start = ad.tensor(x0)

    def cost(run: Callable[[], Any]) -> str:
        best = np.inf
        for _ in range(30):
            begun = time.thread_time_ns()
            iterations = run().nit
            best = min(best, (time.thread_time_ns() - begun) / iterations / 1e3)
        return f"{best:.1f}"

    minimize = ad.optim.minimize
    rows = []
    for own, theirs in PAIRS[:4]:
        by_hand = {"jac": rosenbrock_gradient, "method": theirs}
        if theirs == "trust-exact":
            compiled = ad.compile(ad.hessian(rosenbrock))
            by_hand["hess"] = lambda x, h=compiled: np.array(h(ad.asarray(x)).numpy())
        rows.append(
            [
                f"`{own}`",
                cost(lambda m=own: minimize(rosenbrock, start, m)),
                cost(lambda m=own: minimize(rosenbrock, start, m, options={"compile": False})),
                cost(lambda k=by_hand: scipy.optimize.minimize(rosenbrock, x0, **k)),
            ]
        )
    table(["method", "compiled, µs", "not compiled, µs", "SciPy, gradient by hand, µs"], rows)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["mgh", "nist", "steps"]:
        {"mgh": mgh, "nist": nist, "steps": steps}[name]()
