"""The problems of J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization
software", ACM Trans. Math. Softw. 7 (1981) 17-41, by the numbers and formulas of that paper.

Each is a vector of residuals whose squares are summed, a standard start, and the values of its
known minima. Where the paper leaves the size open, it is the one that its own tests use, or a usual
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import adjoint as ad

PI = math.pi


class Problem(NamedTuple):
    """A sum of squares."""

    name: str
    residuals: Callable[[ad.Tensor], ad.Tensor]
    start: list[float]
    minima: tuple[float, ...]  # the lowest first, then those that descent may end in

    def __call__(self, x: ad.Tensor) -> ad.Tensor:
        r = self.residuals(x)
        return ad.sum(r * r)


def grid(count: int, first: int = 1) -> ad.Tensor:
    return ad.arange(first, count + first, dtype=ad.float64)


def rosenbrock(x: Any) -> Any:
    return ad.concat([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def freudenstein_roth(x: Any) -> Any:
    a, b = x[0], x[1]
    return ad.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Any) -> Any:
    return ad.stack([1e4 * x[0] * x[1] - 1, ad.exp(-x[0]) + ad.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Any) -> Any:
    return ad.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Any) -> Any:
    return ad.tensor([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** grid(3))


def jennrich_sampson(x: Any) -> Any:
    i = grid(10)
    return 2 + 2 * i - (ad.exp(i * x[0]) + ad.exp(i * x[1]))


def helical_valley(x: Any) -> Any:
    angle = ad.atan(x[1] / x[0]) / (2 * PI) + ad.where(x[0] < 0, 0.5, 0.0)
    return ad.stack([10 * (x[2] - 10 * angle), 10 * (ad.hypot(x[0], x[1]) - 1), x[2]])


BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]


def bard(x: Any) -> Any:
    u = grid(15)
    v = 16 - u
    return ad.tensor(BARD) - (x[0] + u / (v * x[1] + ad.minimum(u, v) * x[2]))


HALF = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]


def gaussian(x: Any) -> Any:
    t = (8 - grid(15)) / 2
    return x[0] * ad.exp(-x[1] * (t - x[2]) ** 2 / 2) - ad.tensor([*HALF, 0.3989, *HALF[::-1]])


MEYER = [
    34780.0,
    28610,
    23650,
    19630,
    16370,
    13720,
    11540,
    9744,
    8261,
    7030,
    6005,
    5147,
    4427,
    3820,
]


def meyer(x: Any) -> Any:
    t = 45 + 5 * grid(16)
    return x[0] * ad.exp(x[1] / (t + x[2])) - ad.tensor([*MEYER, 3307, 2872])


def gulf(x: Any) -> Any:
    t = grid(99) / 100
    y = 25 + (-50 * ad.log(t)) ** (2 / 3)
    return ad.exp(-(ad.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x: Any) -> Any:
    t = grid(10) / 10
    return ad.exp(-t * x[0]) - ad.exp(-t * x[1]) - x[2] * (ad.exp(-t) - ad.exp(-10 * t))


def powell_singular(x: Any) -> Any:
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    parts = [a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2]
    return ad.concat(parts)


def wood(x: Any) -> Any:
    a, b, c, d = (x[i] for i in range(4))
    return ad.stack(
        [
            10 * (b - a**2),
            1 - a,
            90**0.5 * (d - c**2),
            1 - c,
            10**0.5 * (b + d - 2),
            (b - d) / 10**0.5,
        ]
    )


KOWALIK = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
KOWALIK_U = [4.0, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]


def kowalik_osborne(x: Any) -> Any:
    u = ad.tensor(KOWALIK_U)
    return ad.tensor(KOWALIK) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Any) -> Any:
    t = grid(20) / 5
    return (x[0] + t * x[1] - ad.exp(t)) ** 2 + (x[2] + x[3] * ad.sin(t) - ad.cos(t)) ** 2


OSBORNE_1 = [844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580]
OSBORNE_1 += [558, 538, 522, 506, 490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406]


def osborne_1(x: Any) -> Any:
    t = 10 * (grid(33) - 1)
    y = ad.tensor([v / 1000 for v in OSBORNE_1])
    return y - (x[0] + x[1] * ad.exp(-t * x[3]) + x[2] * ad.exp(-t * x[4]))


def biggs(x: Any) -> Any:
    t = grid(13) / 10
    y = ad.exp(-t) - 5 * ad.exp(-10 * t) + 3 * ad.exp(-4 * t)
    return x[2] * ad.exp(-t * x[0]) - x[3] * ad.exp(-t * x[1]) + x[5] * ad.exp(-t * x[4]) - y


OSBORNE_2 = [1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606]
OSBORNE_2 += [602, 626, 651, 724, 649, 649, 694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395]
OSBORNE_2 += [375, 372, 391, 396, 405, 428, 429, 523, 562, 607, 653, 672, 708, 633, 668, 645, 632]
OSBORNE_2 += [591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54]


def osborne_2(x: Any) -> Any:
    t = (grid(65) - 1) / 10
    y = ad.tensor([v / 1000 for v in OSBORNE_2])
    out = x[0] * ad.exp(-t * x[4])
    for i in (1, 2, 3):
        out = out + x[i] * ad.exp(-((t - x[7 + i]) ** 2) * x[4 + i])
    return y - out


def watson(x: Any) -> Any:
    n = x.shape[0]
    t, j = grid(29)[:, None] / 29, grid(n)
    first = ad.sum((j[1:] - 1) * x[1:] * t ** (j[1:] - 2), axis=1)
    second = ad.sum(x * t ** (j - 1), axis=1)
    return ad.concat([first - second**2 - 1, x[:1], x[1:2] - x[:1] ** 2 - 1])


def penalty_1(x: Any) -> Any:
    return ad.concat([1e-5**0.5 * (x - 1), ad.reshape(ad.sum(x * x) - 0.25, (1,))])


def penalty_2(x: Any) -> Any:
    n = x.shape[0]
    i = grid(n)[1:]
    y = ad.exp(i / 10) + ad.exp((i - 1) / 10)
    a = 1e-5**0.5
    last = ad.sum((n - grid(n) + 1) * x * x) - 1
    return ad.concat(
        [
            x[:1] - 0.2,
            a * (ad.exp(x[1:] / 10) + ad.exp(x[:-1] / 10) - y),
            a * (ad.exp(x[1:] / 10) - math.exp(-0.1)),
            ad.reshape(last, (1,)),
        ]
    )


def variably_dimensioned(x: Any) -> Any:
    s = ad.sum(grid(x.shape[0]) * (x - 1))
    return ad.concat([x - 1, ad.stack([s, s * s])])


def trigonometric(x: Any) -> Any:
    n = x.shape[0]
    return n - ad.sum(ad.cos(x)) + grid(n) * (1 - ad.cos(x)) - ad.sin(x)


def brown_almost_linear(x: Any) -> Any:
    n = x.shape[0]
    return ad.concat([x[:-1] + ad.sum(x) - (n + 1), ad.reshape(ad.prod(x) - 1, (1,))])


def discrete_boundary(x: Any) -> Any:
    n = x.shape[0]
    h = 1 / (n + 1)
    edge = ad.zeros(1)
    y = ad.concat([edge, x, edge])
    return 2 * x - y[:-2] - y[2:] + h**2 * (x + h * grid(n) + 1) ** 3 / 2


def discrete_integral(x: Any) -> Any:
    n = x.shape[0]
    h = 1 / (n + 1)
    t = h * grid(n)
    cubes = (x + t + 1) ** 3
    left = (1 - t) * ad.cumulative_sum(t * cubes)
    other = (1 - t) * cubes
    right = t * (ad.sum(other) - ad.cumulative_sum(other))
    return x + h * (left + right) / 2


def broyden_tridiagonal(x: Any) -> Any:
    edge = ad.zeros(1)
    y = ad.concat([edge, x, edge])
    return (3 - 2 * x) * x - y[:-2] - 2 * y[2:] + 1


def broyden_banded(x: Any) -> Any:
    n = x.shape[0]
    i, j = grid(n)[:, None], grid(n)
    band = ad.astype((j != i) & (j >= i - 5) & (j <= i + 1), ad.float64)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def linear_full(x: Any) -> Any:
    n, m = x.shape[0], 20
    total = 2 * ad.sum(x) / m + 1
    return ad.concat([x - total, -total * ad.ones(m - n)])


def linear_rank_1(x: Any) -> Any:
    return grid(20) * ad.sum(grid(x.shape[0]) * x) - 1


def linear_rank_1_zeros(x: Any) -> Any:
    n = x.shape[0]
    s = ad.sum(grid(n)[1:-1] * x[1:-1])
    return ad.concat([-ad.ones(1), grid(18) * s - 1, -ad.ones(1)])


def chebyquad(x: Any) -> Any:
    n = x.shape[0]
    y = 2 * x - 1
    before, now = ad.ones(n), y
    out = []
    for i in range(1, n + 1):
        exact = -1 / (i * i - 1) if i % 2 == 0 else 0.0
        out.append(ad.mean(now) - exact)
        before, now = now, 2 * y * now - before
    return ad.stack(out)


def _ramp(n: int) -> list[float]:
    return [1 - (i + 1) / n for i in range(n)]


def _boundary(n: int) -> list[float]:
    t = [(i + 1) / (n + 1) for i in range(n)]
    return [v * (v - 1) for v in t]


PROBLEMS = [
    Problem("Rosenbrock", rosenbrock, [-1.2, 1], (0.0,)),
    Problem("Freudenstein-Roth", freudenstein_roth, [0.5, -2], (0.0, 48.98425367924)),
    Problem("Powell badly scaled", powell_badly_scaled, [0, 1], (0.0,)),
    Problem("Brown badly scaled", brown_badly_scaled, [1, 1], (0.0,)),
    Problem("Beale", beale, [1, 1], (0.0,)),
    Problem("Jennrich-Sampson", jennrich_sampson, [0.3, 0.4], (124.3621823556,)),
    Problem("helical valley", helical_valley, [-1, 0, 0], (0.0,)),
    Problem("Bard", bard, [1, 1, 1], (8.2148773065789e-3, 17.42869333)),
    Problem("Gaussian", gaussian, [0.4, 1, 0], (1.12793276961e-8,)),
    Problem("Meyer", meyer, [0.02, 4000, 250], (87.94585517057,)),
    Problem("Gulf", gulf, [5, 2.5, 0.15], (0.0,)),
    Problem("Box", box, [0, 10, 20], (0.0,)),
    Problem("Powell singular", powell_singular, [3, -1, 0, 1], (0.0,)),
    Problem("Wood", wood, [-3, -1, -3, -1], (0.0,)),
    Problem(
        "Kowalik-Osborne", kowalik_osborne, [0.25, 0.39, 0.415, 0.39], (3.0750560385e-4, 1.02734e-3)
    ),
    Problem("Brown-Dennis", brown_dennis, [25, 5, -5, -1], (85822.20162635,)),
    Problem("Osborne 1", osborne_1, [0.5, 1.5, -1, 0.01, 0.02], (5.46489469748e-5,)),
    Problem("Biggs", biggs, [1, 2, 1, 1, 1, 1], (0.0, 5.6556499255e-3)),
    Problem(
        "Osborne 2",
        osborne_2,
        [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
        (4.0137736293548e-2,),
    ),
    Problem("Watson 6", watson, [0] * 6, (2.28767005355e-3,)),
    Problem("Watson 9", watson, [0] * 9, (1.399760138e-6,)),
    Problem("extended Rosenbrock", rosenbrock, [-1.2, 1] * 10, (0.0,)),
    Problem("extended Powell singular", powell_singular, [3, -1, 0, 1] * 5, (0.0,)),
    Problem("penalty I", penalty_1, [float(i + 1) for i in range(10)], (7.08765146709e-5,)),
    Problem("penalty II", penalty_2, [0.5] * 10, (2.93660537458e-4,)),
    Problem("variably dimensioned", variably_dimensioned, _ramp(10), (0.0,)),
    Problem("trigonometric", trigonometric, [0.1] * 10, (0.0, 2.79506122e-5)),
    Problem("Brown almost-linear", brown_almost_linear, [0.5] * 10, (0.0, 1.0)),
    Problem("discrete boundary", discrete_boundary, _boundary(10), (0.0,)),
    Problem("discrete integral", discrete_integral, _boundary(10), (0.0,)),
    Problem("Broyden tridiagonal", broyden_tridiagonal, [-1] * 10, (0.0,)),
    Problem("Broyden banded", broyden_banded, [-1] * 10, (0.0,)),
    Problem("linear, full rank", linear_full, [1] * 10, (10.0,)),
    Problem("linear, rank 1", linear_rank_1, [1] * 10, (20 * 19 / (2 * 41.0),)),
    Problem("linear, rank 1, zeros", linear_rank_1_zeros, [1] * 10, ((400 + 60 - 6) / (2 * 37.0),)),
    Problem("Chebyquad 8", chebyquad, [(i + 1) / 9 for i in range(8)], (3.51687372568e-3,)),
]
