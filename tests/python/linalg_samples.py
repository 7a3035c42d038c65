"""Samples of linear algebra. Symmetric inputs are made so, since a gradient is that along symmetric
matrices; vectors are given the sign that makes their first entry positive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import adjoint as ad
from samples import Sample, floats, rng

# Errors of a factorisation are those of the whole matrix, not of each entry.
TOLERANCE = 2e-13


def _row(
    name: str,
    label: str,
    call: Callable[..., Any],
    reference: Callable[..., Any],
    *args: Any,
    smooth: bool = True,
    variable: tuple[int, ...] | None = None,
) -> Sample:
    return Sample(
        f"linalg.{name}",
        label,
        call,
        reference,
        args,
        smooth=smooth,
        same_bits=False,
        variable=variable,
        tolerance=TOLERANCE,
    )


def _same(name: str, label: str, arguments: tuple[Any, ...], /, *rest: Any, **kwargs: Any) -> Any:
    """A function that NumPy has under the same name, with the same further arguments."""
    ours, theirs = getattr(ad.linalg, name), getattr(np.linalg, name)
    return _row(
        name,
        label,
        lambda *t: ours(*t, *rest, **kwargs),
        lambda *a: theirs(*a, *rest, **kwargs),
        *arguments,
    )


def spread(*shape: int) -> Any:
    """Matrices whose singular values are far from each other and from 0."""
    x = floats(*shape)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return (u * (1.0 + np.arange(s.shape[-1])[::-1] + 0.1 * s)[..., None, :]) @ vh


def definite(*shape: int) -> Any:
    x = spread(*shape)
    return x @ np.swapaxes(x, -1, -2)


def both_halves(x: Any) -> Any:
    """The symmetric part, of a tensor or an array."""
    return (x + x.mT) / 2


def positive_first(vectors: Any, xp: Any) -> Any:
    return vectors * xp.sign(vectors[..., :1, :])


def _lines(*parts: Any) -> Any:
    """All entries of several results in one axis, after those of a stack."""
    xp = np if isinstance(parts[0], np.ndarray) else ad
    return xp.concat([xp.reshape(p, (-1,)) for p in parts])


def _factors() -> list[Sample]:
    s, stack = definite(4, 4), definite(2, 3, 3)
    out = []
    for upper in (False, True):
        for label, x in (("one", s), ("stack", stack)):
            out.append(
                _row(
                    "cholesky",
                    f"{label}-{upper}",
                    lambda t, u=upper: ad.linalg.cholesky(both_halves(t), upper=u),
                    lambda a, u=upper: np.linalg.cholesky(both_halves(a), upper=u),
                    x,
                )
            )

    def signed(q: Any, r: Any, xp: Any) -> Any:
        k = min(r.shape)
        sign = xp.sign(xp.linalg.diagonal(r))
        others = q[:, k:]
        return _lines(q[:, :k] * sign, others @ others.mT, r[:k] * sign[:, None], r[k:])

    for label, x in (("tall", spread(5, 3)), ("wide", spread(3, 5)), ("square", spread(3, 3))):
        out.append(
            _row(
                "qr",
                label,
                lambda t: signed(*ad.linalg.qr(t), ad),
                lambda a: signed(*np.linalg.qr(a), np),
                x,
            )
        )

    out.append(
        _row(
            "qr",
            "complete",
            lambda t: signed(*ad.linalg.qr(t, mode="complete"), ad),
            lambda a: signed(*np.linalg.qr(a, mode="complete"), np),
            spread(5, 2),
        )
    )
    return out


def _spectra() -> list[Sample]:
    s, stack = definite(4, 4), definite(2, 3, 3)

    def eigen(x: Any, xp: Any) -> Any:
        values, vectors = xp.linalg.eigh(both_halves(x))
        return _lines(values, positive_first(vectors, xp))

    def singular(x: Any, xp: Any, full: bool) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=full)
        k = s.shape[-1]
        sign = xp.sign(u[..., :1, :k])
        parts = [u[..., :k] * sign, s, vh[..., :k, :] * sign.mT]
        if full:
            left, right = u[..., k:], vh[..., k:, :]
            parts += [left @ left.mT, right.mT @ right]
        return _lines(*parts)

    out = [
        _row("eigh", "one", lambda t: eigen(t, ad), lambda a: eigen(a, np), s),
        _row(
            "eigvalsh",
            "stack",
            lambda t: ad.linalg.eigvalsh(both_halves(t)),
            lambda a: np.linalg.eigvalsh(both_halves(a)),
            stack,
        ),
        _same("svdvals", "tall", (spread(2, 5, 3),)),
        _same("svdvals", "wide", (spread(3, 4),)),
    ]
    for label, x in (("tall", spread(4, 3)), ("wide", spread(2, 4)), ("square", spread(3, 3))):
        for full in (False, True):
            out.append(
                _row(
                    "svd",
                    f"{label}-{full}",
                    lambda t, f=full: singular(t, ad, f),
                    lambda a, f=full: singular(a, np, f),
                    x,
                )
            )
    return out


def _systems() -> list[Sample]:
    a, stack, b = spread(4, 4), spread(2, 3, 3), floats(4, 2)
    out = [
        _same("solve", "vector", (a, floats(4))),
        _same("solve", "matrix", (a, b)),
        _same("solve", "stack", (stack, floats(3, 2))),
        _same("solve", "rights", (spread(3, 3), floats(2, 3, 2))),
        _same("inv", "one", (a,)),
        _same("inv", "stack", (stack,)),
    ]
    for k in range(8):
        options = {"lower": bool(k & 1), "trans": k >> 1 & 1, "unit_diagonal": bool(k >> 2)}
        out.append(
            _row(
                "solve_triangular",
                f"{k}",
                lambda t, r, o=options: ad.linalg.solve_triangular(t, r, **o),
                lambda m, r, o=options: scipy.linalg.solve_triangular(m, r, **o),
                floats(4, 4) + 3 * np.eye(4),
                floats(4) if k % 3 == 0 else b,
            )
        )
    for lower in (False, True):
        out.append(
            _row(
                "cho_solve",
                f"{lower}",
                lambda c, r, low=lower: ad.linalg.cho_solve(c, r, lower=low),
                lambda c, r, low=lower: scipy.linalg.cho_solve((c, low), r),
                np.linalg.cholesky(definite(4, 4), upper=not lower),
                b,
            )
        )

    def least_squares(a: Any, b: Any, xp: Any) -> Any:
        x, residuals, _, s = xp.linalg.lstsq(a, b)
        return _lines(x, residuals, s)

    for label, m, n in (("tall", 5, 3), ("wide", 3, 5), ("square", 3, 3)):
        args = spread(m, n), floats(m, 2)
        out.append(
            _row(
                "lstsq",
                label,
                lambda t, r: least_squares(t, r, ad),
                lambda m, r: least_squares(m, r, np),
                *args,
            )
        )
        out.append(_same("pinv", label, (args[0],)))
    out.append(
        _row(
            "pinv",
            "deficient",
            lambda t, u: ad.linalg.pinv(t @ u, rtol=1e-8),
            lambda m, n: np.linalg.pinv(m @ n, rtol=1e-8),
            spread(4, 2),
            spread(2, 3),
        )
    )
    return out


def _polynomials() -> list[Sample]:
    a, stack = spread(4, 4), spread(2, 3, 3)
    singular = spread(4, 4) @ np.diag([1.0, 1.0, 1.0, 0.0]) @ spread(4, 4)

    def parts(x: Any, xp: Any) -> Any:
        sign, logarithm = xp.linalg.slogdet(x)
        return sign + logarithm

    return [
        _same("det", "one", (a,)),
        _same("det", "stack", (stack,)),
        _same("det", "singular", (singular,)),
        _same("det", "zero", (np.zeros((2, 2)),)),
        _row("slogdet", "one", lambda t: parts(t, ad), lambda m: parts(m, np), a),
        _row("slogdet", "stack", lambda t: parts(t, ad), lambda m: parts(m, np), stack),
        *(_same("matrix_power", f"{n}", (a,), n) for n in (-2, -1, 0, 1, 3, 4)),
        _row("expm", "one", ad.linalg.expm, scipy.linalg.expm, floats(3, 3)),
        _row("expm", "stack", ad.linalg.expm, scipy.linalg.expm, 0.1 * floats(2, 3, 3)),
        _same("tensorinv", "two", (definite(6, 6).reshape(2, 3, 3, 2),)),
        _same("tensorinv", "one", (definite(6, 6).reshape(6, 2, 3),), ind=1),
        _same("tensorsolve", "two", (definite(6, 6).reshape(2, 3, 3, 2), floats(2, 3))),
        _same("tensorsolve", "axes", (definite(6, 6).reshape(2, 3, 3, 2), floats(3, 2)), (0, 1)),
        _row(
            "multi_dot",
            "four",
            lambda *t: ad.linalg.multi_dot(t),
            lambda *m: np.linalg.multi_dot(m),
            *(floats(3), floats(3, 5), floats(5, 2), floats(2, 4)),
        ),
        _row(
            "block_diag",
            "three",
            ad.linalg.block_diag,
            scipy.linalg.block_diag,
            *(floats(2, 3), floats(2), floats(1, 1)),
        ),
    ]


def _norms() -> list[Sample]:
    # No entry near 0, no sums near each other.
    a = spread(4, 3)
    x = np.sign(floats(2, 3, 4)) * (0.4 + 0.17 * rng.permutation(24).reshape(2, 3, 4))
    matrix: tuple[Any, ...] = ("fro", "nuc", np.inf, -np.inf, 1, -1, 2, -2)
    out = [_same("matrix_norm", f"{o}", (x,), ord=o) for o in matrix]
    uneven = np.array([[3.0, 0.5, 0.2], [0.3, -2.0, 0.4], [-0.6, 0.1, 1.0]])
    out += [_same("cond", f"{o}", (uneven,), o) for o in (None, *matrix)]
    out += [_same("norm", f"{o}", (x,), o, (0, -1), True) for o in matrix]
    for o in (2, 1, 3, 2.5, 0.5, -1, np.inf, -np.inf):
        out.append(_same("vector_norm", f"{o}", (x,), ord=o, axis=(0, 2)))
        out.append(_same("norm", f"vector {o}", (a,), o, axis=0, keepdims=True))
    return [
        *out,
        _same("norm", "all", (x,)),
        _same("norm", "matrix", (a,), "nuc"),
        _same("vector_norm", "all", (x,), keepdims=True),
        _same("matrix_norm", "keepdims", (x,), keepdims=True),
        _row(
            "vector_norm",
            "0",
            lambda t: ad.linalg.vector_norm(t, ord=0),
            lambda m: np.linalg.vector_norm(m, ord=0),
            np.eye(3) * a[:3],
            smooth=False,
        ),
        _row(
            "matrix_rank",
            "stack",
            ad.linalg.matrix_rank,
            np.linalg.matrix_rank,
            np.stack([np.eye(3), np.ones((3, 3)), np.zeros((3, 3))]),
            smooth=False,
        ),
    ]


def _arranged() -> list[Sample]:
    x, m, v = floats(2, 3, 4), floats(3, 4), floats(3)
    return [
        _same("diagonal", "stack", (x,), offset=1),
        _same("trace", "stack", (x,), offset=-1),
        _same("matmul", "stack", (x, floats(4, 2))),
        _same("matrix_transpose", "stack", (x,)),
        _same("outer", "vectors", (v, floats(2))),
        _same("cross", "stack", (floats(2, 3), v)),
        _same("tensordot", "one", (x, floats(4, 2)), axes=1),
        _same("vecdot", "axis", (x, m), axis=-1),
    ]


SAMPLES = [
    *_factors(),
    *_spectra(),
    *_systems(),
    *_polynomials(),
    *_norms(),
    *_arranged(),
]
