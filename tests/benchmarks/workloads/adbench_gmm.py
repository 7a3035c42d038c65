"""ADBench's Gaussian mixture: 1000 points in 10 dimensions, 200 components.

The log-likelihood with a Wishart prior on the precision matrices, each given by the logarithms of
the diagonal of its Cholesky factor and the entries below, column by column. The quadratic forms are
linear in the monomials of a point, so that all of them are one matrix product.
"""

import math

from workloads import adbench

CASES = ("objective", "gradient")
UNIT = "s"
TOLERANCE = adbench.TOLERANCE
BARS = adbench.BARS


def data(d=10, k=200, n=1000):
    """Return (logits, means, factors), the points, and the prior's gamma and m."""
    import numpy as np

    rng = np.random.default_rng(10)
    means = rng.uniform(size=(k, d))
    parameters = rng.standard_normal(k), means, rng.standard_normal((k, d * (d + 1) // 2))
    return parameters, rng.standard_normal((n, d)), 1.0, 0


def places(d):
    """Return where entry (row, column) of a factor is among its parameters; the last is a zero."""
    import numpy as np

    where = np.full((d, d), d * (d + 1) // 2)
    where[np.diag_indices(d)] = np.arange(d)
    columns, rows = np.triu_indices(d, 1)
    where[rows, columns] = np.arange(d, d * (d + 1) // 2)
    return where


def constant(n, d, k, gamma, m):
    """Return the terms without parameters."""
    freedom = d + m + 1
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi)
    log_gamma += sum(math.lgamma(0.5 * (freedom - j)) for j in range(d))
    prior = freedom * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma
    return -0.5 * n * d * math.log(2 * math.pi) - k * prior


def objective_of(xp, points, gamma, m):
    """Return the function of (logits, means, factors)."""
    import numpy as np

    n, d = points.shape
    upper = np.triu_indices(d)
    monomials = [points[:, upper[0]] * points[:, upper[1]], points, np.ones((n, 1))]
    monomials = xp.asarray(np.concatenate(monomials, axis=1))
    below = xp.asarray(places(d).reshape(-1))
    above = xp.asarray(upper[0] * d + upper[1])
    counts = xp.asarray(np.where(upper[0] == upper[1], -0.5, -1.0))

    def objective(logits, means, factors):
        k = means.shape[0]
        logs, rest = factors[:, :d], factors[:, d:]
        diagonal = xp.exp(logs)
        entries = xp.concat((diagonal, rest, 0.0 * logits[:, None]), 1)
        q = xp.reshape(xp.take(entries, below, 1), (k, d, d))
        precision = q.mT @ q
        linear = xp.sum(precision * means[:, None, :], axis=2)
        scale = logits + xp.sum(logs, axis=1) - 0.5 * xp.sum(linear * means, axis=1)
        quadratic = xp.take(xp.reshape(precision, (k, d * d)), above, 1) * counts
        weights = xp.concat((quadratic, linear, scale[:, None]), 1)
        likelihood = xp.sum(xp.logsumexp(monomials @ weights.T, 1)) - n * xp.logsumexp(logits, 0)
        squares = xp.sum(diagonal * diagonal) + xp.sum(rest * rest)
        prior = 0.5 * gamma**2 * squares - m * xp.sum(logs)
        return likelihood + prior + constant(n, d, k, gamma, m)

    return objective


def reference(case, instance=None):
    """The definition, point by component, and its derivatives by hand."""
    import numpy as np

    (logits, means, factors), x, gamma, m = instance or data()
    (k, d), n = means.shape, len(x)
    diagonal = np.exp(factors[:, :d])
    q = np.concatenate([diagonal, factors[:, d:], np.zeros((k, 1))], 1)[:, places(d)]
    centred = x[:, None, :] - means
    y = np.einsum("kij,nkj->nki", q, centred)
    terms = logits + factors[:, :d].sum(1) - 0.5 * (y * y).sum(-1)
    top = terms.max(1, keepdims=True)
    sums = np.exp(terms - top).sum(1, keepdims=True)
    total = np.exp(logits).sum()
    squares = (diagonal**2).sum() + (factors[:, d:] ** 2).sum()
    if case == "objective":
        value = (np.log(sums) + top).sum() - n * np.log(total) + 0.5 * gamma**2 * squares
        return value - m * factors[:, :d].sum() + constant(n, d, k, gamma, m)
    share = np.exp(terms - top) / sums
    by_logit = share.sum(0)
    by_means = np.einsum("nk,kij,nki->kj", share, q, y)
    by_q = -np.einsum("nk,nki,nkj->kij", share, y, centred)
    by_factors = np.zeros((k, d * (d + 1) // 2 + 1))
    by_factors[:, places(d)] = by_q
    by_factors = by_factors[:, :-1]
    by_factors[:, :d] = (by_factors[:, :d] + gamma**2 * diagonal) * diagonal - m
    by_factors[:, :d] += by_logit[:, None]
    by_factors[:, d:] += gamma**2 * factors[:, d:]
    return [by_logit - n * np.exp(logits) / total, by_means, by_factors]


def factory(library, compiled, case):
    _, xp = adbench.names(library)
    parameters, points, gamma, m = data()
    f = objective_of(xp, points, gamma, m)
    if case == "gradient":
        f = adbench.gradient(library, f, 3)
    return adbench.run(library, compiled, f, *map(xp.asarray, parameters))


VARIANTS = adbench.variants(factory)
