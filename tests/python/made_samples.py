"""Samples of the functions that are made of other operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.special

import adjoint as ad
from samples import Sample, apart, floats, rng, same_as_numpy


def _rows(*cases: tuple[str, str, Callable[..., Any], Callable[..., Any], tuple[Any, ...]]) -> Any:
    return [Sample(*case) for case in cases]


def _arrangements() -> list[Sample]:
    x, m = floats(2, 3, 4), floats(3, 4)
    return [
        *(same_as_numpy(f, f"{k}", (x,), k=k) for f in ("tril", "triu") for k in (-1, 0, 2)),
        same_as_numpy("swapaxes", "outer", (x,), 0, -1),
        same_as_numpy("ravel", "3-d", (x,)),
        *(same_as_numpy("diagonal", f"{k}", (x,), k, 1, 2) for k in (-2, 0, 3, 5)),
        same_as_numpy("diagonal", "first", (m,)),
        same_as_numpy("trace", "offset", (x,), 1, 2, 0),
        same_as_numpy("roll", "flat", (m,), 5),
        same_as_numpy("roll", "axis", (m,), -1, axis=1),
        same_as_numpy("roll", "several", (x,), (1, -7), axis=(0, 2)),
        same_as_numpy("tile", "2-d", (m,), (2, 3)),
        same_as_numpy("tile", "more", (m,), (2, 1, 2)),
        same_as_numpy("tile", "less", (m,), (2,)),
        same_as_numpy("repeat", "flat", (m,), 2),
        same_as_numpy("repeat", "axis", (m,), np.array([0, 2, 1]), axis=0),
        *_rows(
            (
                "unstack",
                "axis",
                lambda t: ad.stack(ad.unstack(t, axis=1), axis=0),
                lambda a: np.moveaxis(a, 1, 0),
                (x,),
            ),
            (
                "broadcast_arrays",
                "three",
                lambda *t: ad.stack(ad.broadcast_arrays(*t)),
                lambda *a: np.stack(np.broadcast_arrays(*a)),
                (floats(3, 1), floats(4), floats()),
            ),
            (
                "meshgrid",
                "xy",
                lambda *t: ad.stack(ad.meshgrid(*t)),
                lambda *a: np.stack(np.meshgrid(*a)),
                (floats(3), floats(2), floats(4)),
            ),
            (
                "meshgrid",
                "ij",
                lambda *t: ad.stack(ad.meshgrid(*t, indexing="ij")),
                lambda *a: np.stack(np.meshgrid(*a, indexing="ij")),
                (floats(3), floats(2)),
            ),
        ),
        same_as_numpy("diff", "last", (m,)),
        same_as_numpy("diff", "twice", (m,), axis=0, n=2),
        Sample(
            "diff",
            "ends",
            lambda t, p, q: ad.diff(t, prepend=p, append=q),
            lambda a, p, q: np.diff(a, prepend=p, append=q),
            (m, floats(3, 1), floats(3, 2)),
        ),
        Sample(
            "count_nonzero",
            "axis",
            lambda t: ad.count_nonzero(t, axis=1),
            lambda a: np.count_nonzero(a, axis=1),
            (np.eye(3, 4) * m,),
            smooth=False,
        ),
        Sample(
            "take_along_axis",
            "rows",
            lambda t, i: ad.take_along_axis(t, i, axis=1),
            lambda a, i: np.take_along_axis(a, i, axis=1),
            (m, np.array([[3, 0], [-1, -1], [1, 2]])),
        ),
        Sample(
            "take_along_axis",
            "broadcast",
            lambda t, i: ad.take_along_axis(t, i, axis=0),
            lambda a, i: np.take_along_axis(a, i, axis=0),
            (m, np.array([[2], [-3]])),
        ),
    ]


def _accumulations() -> list[Sample]:
    m = floats(3, 5)
    holed = m * np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    out = []
    for label, x, kwargs in (
        ("last", m, {"axis": -1}),
        ("zeros", holed, {"axis": 1}),
        ("initial", m, {"axis": 0, "include_initial": True}),
    ):
        call = partial(ad.cumulative_prod, **kwargs)
        reference = partial(np.cumulative_prod, **kwargs)
        out.append(Sample("cumulative_prod", label, call, reference, (x,), same_bits=True))
    return out


def _contractions() -> list[Sample]:
    x, y, m = floats(2, 3, 4), floats(4, 3), floats(3, 4)
    return [
        Sample("vecdot", "last", ad.vecdot, lambda a, b: np.sum(a * b, -1), (x, m)),
        Sample(
            "vecdot",
            "axis",
            lambda a, b: ad.vecdot(a, b, axis=-2),
            lambda a, b: np.sum(a * b, -2),
            (x, m),
        ),
        replace(same_as_numpy("tensordot", "one", (x, y), axes=1), same_bits=False),
        replace(
            same_as_numpy("tensordot", "lists", (x, y), axes=((1, 2), (1, 0))), same_bits=False
        ),
        replace(same_as_numpy("tensordot", "none", (floats(2), m), axes=0), same_bits=False),
        same_as_numpy("outer", "vectors", (floats(3), floats(2))),
    ]


def _normalized() -> list[Sample]:
    x = floats(3, 4)
    large = np.array([[1000.0, 999.0, -1000.0], [0.0, 1.0, 2.0]])
    out = []
    for name in ("logsumexp", "softmax", "log_softmax"):
        theirs = getattr(scipy.special, name)
        for label, a, axis in (("last", x, -1), ("first", x, 0), ("large", large, 1)):
            call = partial(getattr(ad, name), axis=axis)
            out.append(Sample(name, label, call, partial(theirs, axis=axis), (a,)))
    call = partial(ad.logsumexp, axis=(0, 1), keepdims=True)
    reference = partial(scipy.special.logsumexp, axis=(0, 1), keepdims=True)
    return [*out, Sample("logsumexp", "all", call, reference, (x,))]


def _joins() -> list[Sample]:
    def joined(name: str, label: str, *arrays: Any) -> Sample:
        ours, theirs = getattr(ad, name), getattr(np, name)
        return Sample(name, label, lambda *t: ours(t), lambda *a: theirs(a), arrays)

    x = floats(2, 3, 4)
    v, m = floats(3), floats(3, 4)
    return [
        joined("hstack", "vectors", v, floats(2)),
        joined("hstack", "matrices", m, floats(3, 1)),
        joined("vstack", "vectors", v, floats(3)),
        joined("vstack", "matrices", m, floats(1, 4)),
        joined("dstack", "vectors", v, floats(3)),
        joined("dstack", "matrices", m, floats(3, 4)),
        *(
            same_as_numpy(f, f"{a.ndim}", (a,))
            for f in ("atleast_1d", "atleast_2d", "atleast_3d")
            for a in (floats(), v, m, x)
        ),
        same_as_numpy("fliplr", "3-d", (x,)),
        same_as_numpy("flipud", "3-d", (x,)),
        *(same_as_numpy("diag", f"vector{k}", (v,), k) for k in (-2, 0, 1)),
        *(same_as_numpy("diag", f"matrix{k}", (m,), k) for k in (-1, 0, 2)),
    ]


def _products() -> list[Sample]:
    x, m, v = floats(2, 3, 4), floats(3, 4), floats(4)
    pairs = {
        "dot": ((v, floats(4)), (m, v), (m, floats(4, 2)), (floats(), m), (m, floats(2, 4, 3))),
        "inner": ((v, floats(4)), (m, v), (m, x), (floats(), m)),
        "kron": ((v, floats(2)), (m, floats(2, 2)), (m, v), (x, m)),
        "cross": ((floats(3), floats(3)), (floats(2, 3), floats(3))),
    }
    return [
        replace(same_as_numpy(name, f"{i}", pair), same_bits=False)
        for name, cases in pairs.items()
        for i, pair in enumerate(cases)
    ]


def _order_statistics() -> list[Sample]:
    x, holed = apart(3, 4), apart(3, 5)
    holed[1, 2] = np.nan
    out = []
    for label, kwargs in (
        ("all", {}),
        ("last", {"axis": -1}),
        ("first", {"axis": 0, "keepdims": True}),
        ("both", {"axis": (0, 1), "keepdims": True}),
    ):
        out.append(same_as_numpy("median", label, (x,), **kwargs))
        out.append(same_as_numpy("quantile", label, (x,), 0.3, **kwargs))
        out.append(
            same_as_numpy(
                "quantile", f"{label}-several", (x,), np.array([0.0, 0.55, 1.0]), **kwargs
            )
        )
    out.append(replace(same_as_numpy("median", "nan", (holed,), axis=1), smooth=False))
    out.append(replace(same_as_numpy("quantile", "nan", (holed,), 0.25, axis=1), smooth=False))
    for largest in (True, False):
        sign = -1 if largest else 1
        out.append(
            Sample(
                "topk",
                f"{largest}",
                lambda t, most=largest: ad.topk(t, 2, axis=0, largest=most).values,
                lambda a, s=sign: s * np.sort(s * a, axis=0)[:2],
                (x,),
            )
        )
    return out


def _about_nan() -> list[Sample]:
    x = apart(3, 4)
    holed = x.copy()
    holed[0, 1] = holed[2, 2] = np.nan
    endless = np.array([np.inf, -np.inf, np.nan, 1.5])
    a, b = np.array([1.0, np.inf, np.nan, 2.0]), np.array([1.0 + 1e-9, np.inf, np.nan, 2.1])
    rows = [
        same_as_numpy("nan_to_num", "default", (endless,)),
        same_as_numpy("nan_to_num", "given", (endless,), nan=1.0, posinf=2.0, neginf=-3.0),
        *(
            same_as_numpy(f, k, (holed,), **options)
            for f in ("nansum", "nanmean", "nanmax", "nanmin")
            for k, options in (("all", {}), ("axis", {"axis": 1, "keepdims": True}))
        ),
        *(same_as_numpy(f, "nan", (holed, x[::-1].copy())) for f in ("fmax", "fmin")),
        same_as_numpy("isclose", "default", (a, b)),
        same_as_numpy("isclose", "nan", (a, b), rtol=0.1, equal_nan=True),
        same_as_numpy("allclose", "default", (a, b)),
        same_as_numpy("allclose", "nan", (a, b), rtol=0.1, equal_nan=True),
    ]
    plain = [
        same_as_numpy(f, "plain", (x,))
        for f in ("nansum", "nanmean", "nanmax", "nanmin", "nan_to_num")
    ]
    plain += [
        same_as_numpy(f, "plain", (x, x + 0.11 * np.where(np.arange(4) % 2, 1, -1)))
        for f in ("fmax", "fmin")
    ]
    return [*(replace(row, smooth=False) for row in rows), *plain]


def _pointwise() -> list[Sample]:
    x, positive = floats(3, 4), np.abs(floats(3, 4)) + 0.2
    share = rng.uniform(0.1, 0.9, size=(5,))

    def special(name: str, *arguments: Any, label: str = "plain", smooth: bool = True) -> Sample:
        return Sample(
            name, label, getattr(ad, name), getattr(scipy.special, name), arguments, smooth
        )

    zero = np.array([0.0, 0.0, 1.0])
    return [
        same_as_numpy("deg2rad", "plain", (x,)),
        same_as_numpy("rad2deg", "plain", (x,)),
        same_as_numpy("heaviside", "plain", (apart(3), floats(3))),
        replace(
            same_as_numpy("heaviside", "zero", (np.array([0.0, np.nan, -1.0]), floats(3))),
            smooth=False,
        ),
        special("xlogy", x, positive),
        special("xlogy", zero, np.array([0.0, np.nan, 0.0]), label="zero", smooth=False),
        special("xlog1py", x, positive),
        special("xlog1py", zero, np.array([-1.0, np.nan, -1.0]), label="zero", smooth=False),
        special("entr", positive),
        special("entr", np.array([0.0, -1.0, np.nan]), label="edge", smooth=False),
        special("logit", share),
    ]


def _fractions() -> list[Sample]:
    x = np.array([[0.3, -5.0, 1.0], [1e-3, 700.0, -0.25]]) * 1.0001
    powers = np.array([3, -2, 0])
    return [
        same_as_numpy("ldexp", "row", (x, powers)),
        Sample(
            "frexp",
            "mantissa",
            lambda t: ad.frexp(t).mantissa,
            lambda a: a / 2.0 ** np.frexp(x)[1],
            (x,),
        ),
        Sample(
            "frexp",
            "exponent",
            lambda t: ad.frexp(t).exponent,
            lambda a: np.frexp(a)[1],
            (np.array([0.0, np.inf, np.nan, 5e-324, -3e300, 0.5]),),
            smooth=False,
        ),
        same_as_numpy("float_power", "floats", (np.abs(x) + 0.5, floats(3))),
        replace(same_as_numpy("float_power", "integers", (np.array([2, -3]),), -3), smooth=False),
    ]


def _integrals() -> list[Sample]:
    x, m = floats(3, 5), floats(4, 6)
    points = np.sort(floats(5))
    return [
        same_as_numpy("trapezoid", "steps", (x,), dx=0.3),
        Sample("trapezoid", "points", ad.trapezoid, np.trapezoid, (x, points)),
        Sample(
            "trapezoid",
            "axis",
            lambda t, p: ad.trapezoid(t, p, axis=0),
            lambda a, p: np.trapezoid(a, p, axis=0),
            (x, np.sort(floats(3))),
        ),
        replace(same_as_numpy("cov", "rows", (m,)), same_bits=False),
        replace(same_as_numpy("cov", "columns", (m,), rowvar=False, bias=True), same_bits=False),
        replace(same_as_numpy("cov", "vector", (points,), ddof=0), same_bits=False),
        replace(same_as_numpy("corrcoef", "rows", (m,)), same_bits=False),
        Sample(
            "one_hot",
            "classes",
            lambda i: ad.one_hot(i, 4),
            lambda i: (i[..., None] == np.arange(4)).astype(float),
            (np.array([[0, 3], [4, -1]]),),
            smooth=False,
        ),
    ]


def _each(name: str, label: str, arguments: tuple[Any, ...], *rest: Any, **kwargs: Any) -> Sample:
    """A function that gives pieces, which are joined again with weights of their own."""
    ours, theirs = getattr(ad, name), getattr(np, name)

    def joined(parts: Any, xp: Any) -> Any:
        return xp.concat([(k + 1.0) * xp.reshape(p, (-1,)) for k, p in enumerate(parts)])

    return Sample(
        name,
        label,
        lambda *t: joined(ours(*t, *rest, **kwargs), ad),
        lambda *a: joined(theirs(*a, *rest, **kwargs), np),
        arguments,
    )


def _pieces() -> list[Sample]:
    x, m, v = floats(4, 6, 2), floats(3, 4), floats(5)
    modes = ("edge", "reflect", "symmetric", "wrap")
    return [
        _each("split", "equal", (x,), 3, axis=1),
        _each("split", "bounds", (x,), [1, 1, -2], axis=1),
        _each("split", "unordered", (v,), [4, 2, 9]),
        _each("array_split", "uneven", (v,), 3),
        _each("array_split", "more", (v,), 7),
        _each("vsplit", "equal", (x,), 2),
        _each("hsplit", "equal", (x,), 3),
        _each("hsplit", "vector", (v,), [2]),
        _each("dsplit", "equal", (x,), 2),
        same_as_numpy("pad", "int", (m,), 2),
        same_as_numpy("pad", "pair", (m,), (1, 2)),
        same_as_numpy("pad", "pairs", (m,), ((1, 0), (0, 3)), constant_values=2.5),
        same_as_numpy("pad", "one-pair", (m,), ((2, 1),)),
        same_as_numpy("pad", "0-d", (floats(),), 3),
        *(same_as_numpy("pad", mode, (m,), ((1, 2), (2, 0)), mode=mode) for mode in modes),
        *(same_as_numpy("pad", f"{mode}-far", (floats(3),), (8, 9), mode=mode) for mode in modes),
        *(same_as_numpy("pad", f"{mode}-one", (floats(1),), (2, 3), mode=mode) for mode in modes),
        Sample(
            "pad",
            "value",
            lambda t, c: ad.pad(t, 1, constant_values=c),
            lambda a, c: np.pad(a, 1, constant_values=c),
            (v, floats()),
        ),
        *(same_as_numpy("rot90", f"{k}", (x,), k) for k in (-1, 0, 1, 2, 7)),
        same_as_numpy("rot90", "axes", (x,), 1, (2, 0)),
        same_as_numpy("append", "flat", (m, v)),
        same_as_numpy("append", "axis", (m, floats(2, 4)), axis=0),
        same_as_numpy("delete", "axis", (m,), [1, -1], axis=1),
        same_as_numpy("delete", "int", (m,), 1, 0),
        same_as_numpy("delete", "flat", (m,), [0, 5, 5]),
        same_as_numpy("vander", "square", (v,)),
        Sample("vander", "columns", lambda t: ad.vander(t, 3), lambda a: np.vander(a, 3), (v,)),
        same_as_numpy("vander", "increasing", (v,), 4, increasing=True),
        _flat("flatten", x),
        _flat("copy", m),
        _flat("clone", m),
    ]


def _flat(name: str, x: Any) -> Sample:
    reference = np.ravel if name == "flatten" else np.copy
    return Sample(name, "plain", getattr(ad, name), reference, (x,))


def _einsums() -> list[Sample]:
    a, b, c, s = floats(3, 4), floats(4, 5), floats(5, 3), floats(4, 4)
    x, y, v = floats(2, 3, 4), floats(2, 4, 5), floats(4)
    cases: dict[str, tuple[Any, ...]] = {
        "ij,jk->ik": (a, b),
        "ij,jk": (a, b),
        "ba": (a,),
        "ij->": (a,),
        "ij->j": (a,),
        "ii": (s,),
        "ii->i": (s,),
        "iij->ij": (floats(3, 3, 2),),
        "iii": (floats(3, 3, 3),),
        "i,i": (v, floats(4)),
        "i,j->ij": (v, floats(3)),
        "i,j->ji": (v, floats(3)),
        "bij,bjk->bik": (x, y),
        "bij,bjk->kb": (x, y),
        "bij,bij->b": (x, floats(2, 3, 4)),
        "...ij,...jk->...ik": (x, floats(4, 5)),
        "...ij,...jk": (floats(5, 1, 3, 4), floats(2, 4, 2)),
        "i...->...": (x,),
        "...": (x,),
        "...i->i...": (x,),
        " ij , kj -> ik ": (a, floats(2, 4)),
        "ij,jk,kl->il": (a, b, c),
        "ij,jk,ki->": (a, b, c),
        "ij,jk,ki,il->l": (a, b, c, floats(3, 2)),
        "ab,ab->ab": (a, floats(3, 4)),
        "ij,kl->": (a, floats(2, 2)),
        "ii,jj->ij": (s, floats(3, 3)),
        "Ab,bA->A": (a, floats(4, 3)),
        "ij,ij->ij": (floats(1, 4), a),
        ",ij->ij": (floats(), a),
        "ij,j->i": (floats(3, 0), floats(0)),
        "ij,->j": (a, floats()),
        "abc,cd,de->abe": (x, b, floats(5, 2)),
    }
    out = [
        Sample(
            "einsum",
            text.replace(" ", "_"),
            partial(ad.einsum, text),
            partial(np.einsum, text),
            arguments,
            same_bits=False,
        )
        for text, arguments in cases.items()
    ]
    for name in ("convolve", "correlate"):
        for mode in ("full", "same", "valid"):
            for n, m in ((7, 3), (3, 7), (6, 4), (4, 6), (5, 5), (4, 1), (40, 19)):
                call = partial(getattr(ad, name), mode=mode)
                reference = partial(getattr(np, name), mode=mode)
                pair = (floats(n), floats(m))
                out.append(Sample(name, f"{mode}-{n}-{m}", call, reference, pair, same_bits=False))
    return out


def _bins() -> list[Sample]:
    points, values = np.sort(apart(6)), floats(6)
    x = points[:-1] + 0.1
    numbers = np.array([1, 0, 3, 1, 1])
    data = floats(5, 2)
    y = apart(9)

    def segments(a: Any) -> Any:
        out = np.zeros((4, 2))
        np.add.at(out, numbers, a)
        return out

    def counted(a: Any, **kwargs: Any) -> Any:
        return np.histogram(y, weights=a, **kwargs)[0]

    hist = [
        Sample(
            "histogram",
            label,
            lambda w, k=kwargs: ad.histogram(y, weights=w, **k).hist,
            partial(counted, **kwargs),
            (floats(9),),
        )
        for label, kwargs in {
            "default": {},
            "range": {"bins": 4, "range": (-0.7, 0.9)},
            "edges": {"bins": np.array([-1.0, 0.0, 0.2, 2.0])},
        }.items()
    ]
    density = {"bins": 5, "density": True}
    return [
        Sample("interp", "inside", ad.interp, np.interp, (x, points, values)),
        Sample(
            "interp",
            "outside",
            ad.interp,
            np.interp,
            (np.array([[-9.0, 9.0], [0.02, 1e9]]), points, values),
        ),
        Sample(
            "interp",
            "sides",
            lambda *t: ad.interp(*t, left=-3.0, right=7.0),
            lambda *a: np.interp(*a, left=-3.0, right=7.0),
            (np.array([-9.0, 0.02, 9.0]), points, values),
        ),
        Sample("interp", "at-points", ad.interp, np.interp, (points, points, values), smooth=False),
        Sample(
            "interp",
            "nan",
            ad.interp,
            np.interp,
            (np.array([np.nan, 0.1]), points, values),
            smooth=False,
        ),
        Sample("interp", "one-point", ad.interp, np.interp, (x, points[:1], values[:1])),
        Sample(
            "bincount",
            "counts",
            lambda i: ad.bincount(i, length=6),
            lambda i: np.bincount(i, minlength=6),
            (numbers,),
            smooth=False,
        ),
        Sample(
            "bincount",
            "weights",
            lambda w: ad.bincount(numbers, w),
            lambda w: np.bincount(numbers, w),
            (floats(5),),
        ),
        Sample("segment_sum", "rows", lambda t: ad.segment_sum(t, numbers), segments, (data,)),
        *hist,
        Sample(
            "histogram",
            "density",
            lambda w: ad.histogram(y, weights=w, **density).hist,
            partial(counted, **density),
            (np.abs(floats(9)) + 0.5,),
        ),
        Sample(
            "histogram",
            "counts",
            lambda a: ad.histogram(a, 5).hist,
            lambda a: np.histogram(a, 5)[0],
            (y,),
            smooth=False,
        ),
        Sample(
            "histogram",
            "bin_edges",
            lambda a: ad.histogram(a, 5).bin_edges,
            lambda a: np.histogram(a, 5)[1],
            (y,),
            smooth=False,
        ),
    ]


def _averages() -> list[Sample]:
    x = apart(3, 4)
    return [
        same_as_numpy("percentile", "all", (x,), 30.0),
        same_as_numpy("percentile", "several", (x,), np.array([0.0, 12.5, 100.0]), axis=0),
        same_as_numpy("ptp", "all", (x,)),
        same_as_numpy("ptp", "axis", (x,), axis=1, keepdims=True),
        same_as_numpy("average", "all", (x,)),
        Sample(
            "average",
            "weights",
            lambda t, w: ad.average(t, weights=w),
            lambda a, w: np.average(a, weights=w),
            (x, np.abs(floats(3, 4)) + 0.1),
        ),
        Sample(
            "average",
            "axis",
            lambda t, w: ad.average(t, axis=1, weights=w, keepdims=True),
            lambda a, w: np.average(a, axis=1, weights=w, keepdims=True),
            (x, np.abs(floats(4)) + 0.1),
        ),
    ]


def _searches() -> list[Sample]:
    m, row = floats(3, 5), np.sort(floats(7))
    out = []
    for label, kwargs in (("last", {"axis": -1}), ("first", {"axis": 0, "include_initial": True})):
        call, reference = partial(ad.cumulative_sum, **kwargs), partial(np.cumulative_sum, **kwargs)
        out.append(Sample("cumulative_sum", label, call, reference, (m,)))
    for name in ("cumsum", "cumprod"):
        out += [same_as_numpy(name, "flat", (m,)), same_as_numpy(name, "axis", (m,), axis=0)]
    for side in ("left", "right"):
        found = partial(ad.searchsorted, side=side)
        reference = partial(np.searchsorted, side=side)
        values = np.concatenate([row[2:4], [-9.0, 9.0]]).reshape(2, 2)
        out.append(Sample("searchsorted", side, found, reference, (row, values), smooth=False))
    return out


def _other_names() -> list[Sample]:
    x, m, v = floats(2, 3), floats(4, 3), floats(3)
    angles = 9 * floats(3, 6)
    nearly = np.where(rng.random((4, 3)) < 0.1, 0.0, m)
    return [
        Sample("relu", "3-d", ad.relu, lambda a: np.where(a > 0, a, 0.0), (floats(2, 3, 4),)),
        Sample("norm", "all", ad.norm, np.linalg.norm, (x,)),
        Sample("norm", "axis", partial(ad.norm, axis=1), partial(np.linalg.norm, axis=1), (x,)),
        *(
            replace(same_as_numpy(name, label, (m, other)), smooth=False)
            for name in ("array_equal", "array_equiv")
            for label, other in (("same", m), ("other", nearly), ("row", m[:1]), ("misfit", x))
        ),
        Sample(
            "column_stack",
            "mixed",
            lambda *t: ad.column_stack(t),
            lambda *a: np.column_stack(a),
            (floats(4), m, floats(4)),
        ),
        same_as_numpy("vdot", "vectors", (v, floats(3))),
        same_as_numpy("vdot", "matrices", (m, floats(2, 6))),
        same_as_numpy("unwrap", "last", (angles,)),
        same_as_numpy("unwrap", "axis", (angles,), axis=0, period=3.0),
        same_as_numpy("unwrap", "discont", (angles,), discont=4.5),
    ]


SAMPLES = [
    *_arrangements(),
    *_accumulations(),
    *_contractions(),
    *_normalized(),
    *_joins(),
    *_products(),
    *_order_statistics(),
    *_about_nan(),
    *_pointwise(),
    *_fractions(),
    *_integrals(),
    *_searches(),
    *_pieces(),
    *_einsums(),
    *_bins(),
    *_averages(),
    *_other_names(),
]
