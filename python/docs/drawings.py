"""Draws the pictures of the pages: ``python python/docs/drawings.py`` writes them to images/.

What they show is computed: paths are those of the library's own methods, the graph is drawn by
`Tensor.graph`, groups are read from `ad.explain`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import adjoint as ad
from svg import COLOURS, INK, SOFT, Drawing, Point

IMAGES = Path(__file__).resolve().parent / "images"

# ---- Four searches on one function ---------------------------------------------------------------


def valley(p: ad.Tensor) -> ad.Tensor:
    """A banana: Rosenbrock's function with a milder factor, minimum at (1, 1)."""
    return (1 - p[0]) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2


def path(method: str, steps: int) -> tuple[list[list[float]], int, float]:
    """The points a method goes through from the same start, its evaluations, and the value."""
    start = [-1.2, 1.0]
    points = [start]
    result = ad.optim.minimize(
        valley,
        start,
        method,
        maxiter=steps,
        seed=3,
        callback=lambda intermediate_result: points.append(intermediate_result.x.tolist()),
    )
    return points, result.nfev, float(result.fun)


def level_lines(
    values: np.ndarray, xs: np.ndarray, ys: np.ndarray, level: float
) -> list[tuple[Point, Point]]:
    """Where a function on a grid crosses a level, by marching squares: pieces of one cell each."""

    def cross(i: int, j: int, k: int, m: int) -> Point:
        a, b = values[i, j], values[k, m]
        t = (level - a) / (b - a)
        return xs[j] + t * (xs[m] - xs[j]), ys[i] + t * (ys[k] - ys[i])

    pieces = []
    above = values > level
    for i in range(len(ys) - 1):
        for j in range(len(xs) - 1):
            corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
            edges = [(corners[e], corners[(e + 1) % 4]) for e in range(4)]
            met = [cross(*a, *b) for a, b in edges if above[a] != above[b]]
            pieces += [(met[e], met[e + 1]) for e in range(0, len(met) - 1, 2)]
    return pieces


def descent() -> str:
    """Methods that know values, slopes and curvature, on the same valley."""
    width, height, margin = 720.0, 400.0, 16.0
    picture = Drawing(width, height, "Four methods on one function, from the same start")
    xs, ys = np.linspace(-1.75, 1.75, 71), np.linspace(-0.75, 2.0, 56)
    plot = 500.0

    def place(x: float, y: float) -> Point:
        across = (x - xs[0]) / (xs[-1] - xs[0])
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return margin + across * (plot - margin), height - margin - up * (height - 2 * margin)

    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    values = ad.vmap(valley)(ad.asarray(grid)).numpy().reshape(len(ys), len(xs))
    for level in (0.1, 0.4, 1.0, 2.5, 6.0, 14.0, 30.0, 60.0):
        pieces = [(place(*a), place(*b)) for a, b in level_lines(values, xs, ys, level)]
        picture.segments(pieces, SOFT, 0.7)
    runs = (
        ("values", "cma-es"),
        ("slopes", "gradient-descent"),
        ("slopes, and remembers them", "l-bfgs"),
        ("curvature", "newton"),
    )
    for row, (knows, method) in enumerate(runs):
        points, evaluations, end = path(method, 22)
        colour = COLOURS[row]
        picture.line([place(*p) for p in points], colour, 1.8)
        for p in points:
            picture.dot(place(*p), 2.6, colour)
        top = 60 + 84 * row
        told = "f < 1e-9" if end < 1e-9 else f"f = {end:.1g}"
        picture.dot((plot + 22, top - 4), 5, colour)
        picture.text((plot + 36, top), method, anchor="start", bold=True, size=15)
        picture.text((plot + 36, top + 19), f"knows {knows}", anchor="start")
        cost = f"{evaluations} evaluations, {told}"
        picture.text((plot + 36, top + 37), cost, anchor="start", colour=SOFT)
    picture.dot(place(1.0, 1.0), 5, INK)
    picture.text((place(1.0, 1.0)[0] + 10, place(1.0, 1.0)[1] - 8), "minimum", anchor="start")
    return picture.svg()


# ---- The graph of one function -------------------------------------------------------------------


def graph() -> str:
    """What is recorded of (w * w + 1) * sin(w), with the values at 2 and the adjoints."""
    w = ad.tensor(2.0, requires_grad=True, name="w")
    return ((w * w + 1) * ad.sin(w)).graph().svg()


# ---- Deferral ------------------------------------------------------------------------------------


def deferral() -> str:
    """The passes over memory of exp(-x * x) * sin(x), now and deferred."""
    x = ad.linspace(-1.0, 1.0, 100_000)
    group = str(ad.explain(ad.exp(-x * x) * ad.sin(x)))
    steps = [line.split()[2] for line in group.splitlines()[2:]]
    picture = Drawing(720, 250, "exp(-x * x) * sin(x): five passes over memory, or one")
    step, left = 118, 110
    for row, title in ((60, "now"), (180, "deferred")):
        picture.text((20, row + 6), title, anchor="start", bold=True, size=15)
        for k, name in enumerate(steps):
            picture.box(left + step * k, row - 18, 84, 36)
            picture.text((left + step * k + 42, row + 5), name, mono=True)
            if k + 1 < len(steps) and row == 180:
                picture.arrow((left + step * k + 84, row), (left + step * (k + 1), row))
    # Now: each operation reads from memory and writes to it.
    picture.line([(left - 16, 112), (left + step * len(steps) - 14, 112)], COLOURS[1], 3)
    picture.text((left + step * len(steps) - 14, 128), "memory", anchor="end", colour=COLOURS[1])
    for k in range(len(steps)):
        picture.arrow((left + step * k + 26, 112), (left + step * k + 26, 79), COLOURS[1])
        picture.arrow((left + step * k + 58, 79), (left + step * k + 58, 111), COLOURS[1])
    # Deferred: one reads, one writes, what lies between stays in registers.
    picture.line([(left - 16, 232), (left + step * len(steps) - 14, 232)], COLOURS[1], 3)
    picture.arrow((left + 26, 232), (left + 26, 199), COLOURS[1])
    last = left + step * (len(steps) - 1)
    picture.arrow((last + 58, 199), (last + 58, 231), COLOURS[1])
    picture.text(
        (left + step * len(steps) / 2 - 17, 222),
        "a tile at a time, in registers",
        colour=SOFT,
        size=12,
    )
    return picture.svg()


# ---- Three ways to run ---------------------------------------------------------------------------


def ways() -> str:
    """From a line of Python to a kernel: now, deferred, compiled."""
    picture = Drawing(720, 210, "Three ways from a line of Python to the same kernels")

    def box(x: float, y: float, title: str, words: str, width: float = 150) -> None:
        picture.box(x, y, width, 46)
        picture.text((x + width / 2, y + 20), title, bold=True)
        picture.text((x + width / 2, y + 37), words, size=11, colour=SOFT)

    box(10, 82, "x * y", "your line", 90)
    box(140, 82, "apply", "check, infer, record")
    box(350, 10, "now", "small, or can fail")
    box(350, 82, "deferred", "waits in the graph")
    box(350, 154, "traced", "inside ad.compile")
    box(560, 46, "kernels", "tiles, BLAS, LAPACK")
    box(560, 154, "program", "fused, memory planned")
    picture.arrow((100, 105), (140, 105))
    for y in (33, 105, 177):
        picture.arrow((290, 105), (350, y))
    picture.arrow((500, 33), (560, 62))
    picture.arrow((500, 105), (560, 78))
    picture.arrow((500, 177), (560, 177))
    picture.arrow((635, 154), (635, 92))
    return picture.svg()


DRAWINGS: dict[str, Callable[[], str]] = {
    "descent.svg": descent,
    "graph.svg": graph,
    "deferral.svg": deferral,
    "ways.svg": ways,
}

if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (IMAGES / name).write_text(draw(), encoding="utf-8")
