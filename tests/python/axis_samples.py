"""Samples of functions that put entries into an axis and take them out, go along it, order it, or
pass over nan in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy.integrate
import scipy.special

import adjoint as ad
from samples import Sample, apart, floats, rng, same_as_numpy

METHODS = ("lower", "higher", "midpoint", "nearest")


def _fixed(sample: Sample) -> Sample:
    """Without derivatives."""
    return replace(sample, smooth=False)


def _inserted(label: str, x: Any, obj: Any, values: Any, axis: int | None) -> Sample:
    return Sample(
        "insert",
        label,
        lambda t, v: ad.insert(t, obj, v, axis),
        lambda a, v: np.insert(a, obj, v, axis),
        (x, values),
    )


def _entries() -> list[Sample]:
    m, v = floats(3, 4), floats(5)
    x = floats(2, 3, 4)
    mask = np.array([True, False, True, True])
    return [
        _inserted("int", v, 2, floats(), 0),
        _inserted("end", v, 5, floats(2), 0),
        _inserted("negative", v, -1, floats(3), 0),
        _inserted("flat", m, [1, 7, 12], floats(3), None),
        _inserted("row", m, 1, floats(4), 0),
        _inserted("column", m, 1, floats(3), 1),
        _inserted("columns", m, [1], floats(3, 2), 1),
        _inserted("unordered", m, [3, 0, 3, -1], floats(3, 4), 1),
        _inserted("slice", x, slice(None, None, 2), floats(3, 1), 2),
        _inserted("mask", m, mask, floats(3), 1),
        _inserted("none", m, [], floats(), 0),
        same_as_numpy("delete", "slice", (m,), slice(None, None, -2), 1),
        same_as_numpy("delete", "mask", (m,), mask, axis=1),
        same_as_numpy("delete", "negative", (m,), -1, 0),
        same_as_numpy("delete", "none", (m,), [], 0),
        same_as_numpy("diagflat", "matrix", (m,), 1),
        same_as_numpy("partition", "last", (apart(3, 5),), 4),
        *(
            Sample(
                "partition",
                f"{axis}",
                lambda t, at=axis: ad.partition(t, (1, -1), at),
                lambda a, at=axis: np.sort(a, at),
                (apart(3, 4),),
            )
            for axis in (0, None)
        ),
        Sample(
            "argpartition",
            "first",
            lambda t: ad.argpartition(t, 1, 0),
            lambda a: np.argsort(a, 0),
            (apart(3, 4),),
            smooth=False,
        ),
    ]


def _places() -> list[Sample]:
    i = np.array([[0, 23], [7, 12]])
    spots = (np.array([1, 0]), np.array([2, 1]), np.array([[3], [0]]))
    a, few = rng.integers(0, 6, (3, 4)), np.array([[4, 1], [5, 4]])
    holed = np.array([1.0, np.nan, -0.0, 2.0])
    a_falling = np.array([2.0, 1.5, 0.5])
    out = [
        Sample(
            "unravel_index",
            "grid",
            lambda t: ad.stack(ad.unravel_index(t, (2, 3, 4))),
            lambda a: np.stack(np.unravel_index(a, (2, 3, 4))),
            (i,),
        ),
        Sample(
            "ravel_multi_index",
            "grid",
            lambda *t: ad.ravel_multi_index(t, (2, 3, 4)),
            lambda *a: np.ravel_multi_index(np.broadcast_arrays(*a), (2, 3, 4)),
            spots,
        ),
        *(
            same_as_numpy("digitize", f"{label}-{right}", (a / 2.0, bins), right)
            for label, bins in (("rising", np.array([0.5, 1.0, 2.5])), ("falling", a_falling))
            for right in (False, True)
        ),
        *(same_as_numpy("isin", f"{invert}", (a, few), invert=invert) for invert in (False, True)),
        same_as_numpy("isin", "floats", (holed, np.array([np.nan, 0.0, 2.0]))),
        same_as_numpy("isin", "empty", (holed, np.array([]))),
    ]
    return [_fixed(sample) for sample in out]


def _extremes_so_far(x: Any, axis: int, largest: bool) -> Any:
    return (np.maximum if largest else np.minimum).accumulate(x, axis)


def _values_of(name: str, axis: int) -> Callable[..., Any]:
    return lambda t: getattr(ad, name)(t, axis=axis).values


def _places_of(name: str) -> Callable[..., Any]:
    return lambda t: getattr(ad, name)(t).indices


def _running() -> list[Sample]:
    x, m = apart(3, 7), floats(3, 5)
    holed = x.copy()
    holed[1, 3] = np.nan
    equal = np.array([[1, 1, 0, 1, 2, 2, -1]])
    points = np.sort(floats(5))
    out = []
    for name, largest in (("cummax", True), ("cummin", False)):
        for label, a, axis in (("last", x, -1), ("first", x, 0), ("nan", holed, 1)):
            call = _values_of(name, axis)
            reference = partial(_extremes_so_far, axis=axis, largest=largest)
            out.append(Sample(name, label, call, reference, (a,), smooth=label != "nan"))
        places = [0, 1, 1, 3, 4, 5, 5] if largest else [0, 1, 2, 2, 2, 2, 6]
        out.append(
            Sample(
                name,
                "places",
                _places_of(name),
                lambda a, at=places: np.array([at]),
                (equal,),
                smooth=False,
            )
        )
    for axis in (0, 1):
        out.append(
            Sample(
                "logcumsumexp",
                f"{axis}",
                partial(ad.logcumsumexp, axis=axis),
                partial(np.logaddexp.accumulate, axis=axis),
                (m,),
            )
        )
    far = np.array([-np.inf, -1000.0, 5.0, 1000.0])
    out.append(
        _fixed(Sample("logcumsumexp", "far", ad.logcumsumexp, np.logaddexp.accumulate, (far,)))
    )
    integral = scipy.integrate.cumulative_trapezoid
    for label, options in (("steps", {"dx": 0.3}), ("initial", {"axis": 0, "initial": 0})):
        out.append(
            Sample(
                "cumulative_trapezoid",
                label,
                partial(ad.cumulative_trapezoid, **options),
                partial(integral, **options),
                (m,),
            )
        )
    out.append(
        Sample("cumulative_trapezoid", "points", ad.cumulative_trapezoid, integral, (m, points))
    )
    return out


def _slopes() -> list[Sample]:
    x, v = floats(4, 5), floats(6)
    rows, columns = np.sort(apart(4)), np.sort(apart(5))

    def both(label: str, *spacing: Any, **options: Any) -> Sample:
        return Sample(
            "gradient",
            label,
            lambda t: ad.stack(ad.gradient(t, *spacing, **options)),
            lambda a: np.stack(np.gradient(a, *spacing, **options)),
            (x,),
        )

    return [
        same_as_numpy("gradient", "vector", (v,)),
        same_as_numpy("gradient", "two", (floats(2),)),
        same_as_numpy("gradient", "second-order", (v,), 0.5, edge_order=2),
        same_as_numpy("gradient", "axis", (x,), axis=1),
        both("both"),
        both("numbers", 0.5, 2.0),
        both("points", rows, columns),
        both("order", rows, 0.5, edge_order=2),
        both("axes", columns, rows, axis=(1, 0)),
        Sample(
            "gradient",
            "moving",
            lambda t, p: ad.gradient(t, p, edge_order=2),
            lambda a, p: np.gradient(a, p, edge_order=2),
            (floats(4), np.sort(apart(4))),
        ),
    ]


def _order_statistics() -> list[Sample]:
    x, holed = apart(3, 4), apart(4, 5)
    holed[1, 2] = holed[3, 0] = holed[3, 4] = np.nan
    lost = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, np.nan]])
    q = np.array([0.0, 0.35, 1.0])
    out = [
        *(same_as_numpy("quantile", f"{m}-one", (x,), 0.3, axis=0, method=m) for m in METHODS),
        *(same_as_numpy("quantile", f"{m}-all", (x,), q, method=m, keepdims=True) for m in METHODS),
        *(same_as_numpy("percentile", m, (x,), 40.0, axis=1, method=m) for m in METHODS),
    ]
    for label, options in (("all", {}), ("axis", {"axis": 1, "keepdims": True})):
        out += [
            same_as_numpy("nanmedian", label, (x,), **options),
            same_as_numpy("nanquantile", label, (x,), q, **options),
            same_as_numpy("nanquantile", f"{label}-lower", (x,), 0.3, method="lower", **options),
            same_as_numpy("nanpercentile", label, (x,), 30.0, **options),
            _fixed(same_as_numpy("nanmedian", f"{label}-nan", (holed,), **options)),
            _fixed(same_as_numpy("nanquantile", f"{label}-nan", (holed,), q, **options)),
            _fixed(
                same_as_numpy("nanquantile", f"{label}-nearest", (holed,), 0.5, method="nearest")
            ),
        ]
    out.append(
        Sample(
            "nanquantile",
            "lost",
            lambda t: ad.nanquantile(t, q, axis=1),
            lambda a: np.stack([np.quantile(a[0, ::2], q), np.full(3, np.nan)], axis=1),
            (lost,),
            smooth=False,
        )
    )
    return out


def _about_nan() -> list[Sample]:
    x, holed = floats(3, 4), floats(4, 5)
    holed[1, 2] = holed[3, 0] = holed[3, 4] = np.nan
    out = []
    for label, options in (("all", {}), ("axis", {"axis": 1, "keepdims": True})):
        for name in ("nanprod", "nanvar", "nanstd"):
            out.append(same_as_numpy(name, label, (x,), **options))
            out.append(_fixed(same_as_numpy(name, f"{label}-nan", (holed,), **options)))
        for name in ("nanargmax", "nanargmin"):
            out.append(_fixed(same_as_numpy(name, f"{label}-nan", (holed,), **options)))
    for name in ("nanvar", "nanstd"):
        theirs = partial(getattr(np, name), axis=0, ddof=1)
        call = partial(getattr(ad, name), axis=0, correction=1)
        out.append(Sample(name, "correction", call, theirs, (x,)))
    for name in ("nancumsum", "nancumprod"):
        out += [same_as_numpy(name, "flat", (x,)), same_as_numpy(name, "axis", (x,), axis=0)]
        out.append(_fixed(same_as_numpy(name, "nan", (holed,), axis=1)))
    return out


def _pointwise() -> list[Sample]:
    x, endless = 40 * floats(3, 4), np.array([np.inf, -np.inf, np.nan, 1.0])
    whole = np.array([15, -25, 149, 151])
    return [
        *(_fixed(same_as_numpy(name, "edges", (endless,))) for name in ("isposinf", "isneginf")),
        *(same_as_numpy(name, "plain", (x,)) for name in ("real", "imag", "conj")),
        same_as_numpy("polyval", "cubic", (floats(4), floats(2, 3))),
        Sample(
            "select",
            "two",
            lambda t, u: ad.select([t > 31, t > 1], [t * t, u]),
            lambda a, b: np.select([a > 31, a > 1], [a * a, b]),
            (40 * apart(3, 4), floats(4)),
        ),
        Sample(
            "select",
            "default",
            lambda t: ad.select([t > 31], [t * t], -2.5),
            lambda a: np.select([a > 31], [a * a], -2.5),
            (40 * apart(3, 4),),
        ),
        same_as_numpy("logaddexp2", "pair", (floats(3), floats(3))),
        same_as_numpy("logaddexp2", "far", (x, floats(4))),
        *(_fixed(same_as_numpy("around", f"{k}", (x,), k)) for k in (0, 2, -1)),
        _fixed(same_as_numpy("around", "integers", (whole,), -1)),
        _fixed(
            Sample(
                "around",
                "edges",
                lambda t: ad.around(t, 2),
                lambda a: np.where(np.isfinite(a) & (a < 1e300), np.round(a, 2), a),
                (np.append(endless, [1e308, 0.125]),),
            )
        ),
        Sample(
            "igamma",
            "both",
            ad.igamma,
            scipy.special.gammainc,
            (np.array([0.3, 2.5, 6.0]), np.array([0.4, 1.0, 9.0])),
            tolerance=4e-14,
        ),
        Sample(
            "igammac",
            "both",
            ad.igammac,
            scipy.special.gammaincc,
            (np.array([0.3, 2.5, 6.0]), np.array([0.4, 1.0, 9.0])),
            tolerance=4e-14,
        ),
    ]


def _weighted() -> list[Sample]:
    m, shares = floats(3, 6), rng.uniform(0.2, 1.0, 6)
    counts = np.array([1, 2, 1, 3, 1, 1])
    out = [
        Sample(
            "cov",
            "shares",
            lambda t, w: ad.cov(t, aweights=w),
            lambda a, w: np.cov(a, aweights=w),
            (m, shares),
        ),
        Sample(
            "cov",
            "both",
            lambda t, w: ad.cov(t, aweights=w, fweights=ad.asarray(counts), ddof=2),
            lambda a, w: np.cov(a, aweights=w, fweights=counts, ddof=2),
            (m, shares),
        ),
        same_as_numpy("cov", "counts", (m,), fweights=counts),
    ]
    return [replace(sample, same_bits=False, tolerance=1e-14) for sample in out]


SAMPLES = [
    *_entries(),
    *_places(),
    *_running(),
    *_slopes(),
    *_order_statistics(),
    *_about_nan(),
    *_pointwise(),
    *_weighted(),
]
