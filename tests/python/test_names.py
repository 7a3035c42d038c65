"""Names that users of NumPy and PyTorch type: errors, dtypes, methods, what samples leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(3)


# ---- einsum --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("ij,jk", ((2, 3),), r"2 terms for 1 operands"),
        ("ij", ((2, 3, 4),), r"term 0 has 2 letters for an operand of shape \(2, 3, 4\)"),
        ("ijk", ((2, 3),), r"term 0 has 3 letters for an operand of shape \(2, 3\)"),
        ("ij,jk->ik", ((2, 3), (4, 5)), r"'j' has the lengths 3 and 4, the second in operand 1"),
        ("ii", ((2, 3),), r"'i' is twice in term 0, for axes of different lengths: shape \(2, 3\)"),
        ("ii", ((1, 3),), r"'i' is twice in term 0"),
        ("j,...ii->...i", ((2,), (4, 3, 1)), r"'i' is twice in term 1"),
        ("ij->k", ((2, 3),), r"'k' of the result is in no operand"),
        ("ij->ii", ((2, 3),), r"'i' is twice in the result"),
        ("i.j", ((2, 3),), r"'\.' is out of place"),
        ("i1", ((2, 3),), r"'1' is out of place"),
        ("......", ((2, 3),), r"'\.' is out of place"),
        ("...i->i", ((2, 3),), r"lacks the ellipsis"),
        ("...,...->...", ((2,), (3,)), r"\.\.\. has the lengths 2 and 3"),
        ("i", (), r"needs at least one operand"),
    ],
)
def test_einsum_says_what_is_wrong(text: str, shapes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"\[einsum\].*" + message):
        ad.einsum(text, *(ad.ones(s) for s in shapes))


def test_einsum_takes_what_arrays_there_are() -> None:
    a, b = rng.integers(-5, 5, (3, 4)), rng.normal(size=(4, 2)).astype("float32")
    got = ad.einsum("ij,jk", a, ad.asarray(b))
    assert got.dtype is ad.float32
    np.testing.assert_allclose(got.numpy(), np.einsum("ij,jk", a, b), rtol=1e-5)
    small = a.astype("int8")
    assert ad.einsum("ij->j", small).dtype is ad.int8
    np.testing.assert_array_equal(ad.einsum("ij->j", small).numpy(), np.einsum("ij->j", small))
    with pytest.raises(TypeError, match=r"\[einsum\] operands must be numbers, not bool"):
        ad.einsum("i->", ad.tensor([True]))
    with pytest.raises(TypeError, match=r"\[einsum\] subscripts must be a str, not adjoint.Tensor"):
        ad.einsum(ad.ones(2), [0])
    with pytest.raises(TypeError, match=r"\[einsum\] lacks the argument 'subscripts'"):
        ad.einsum()


def test_einsum_of_many_operands_stays_small() -> None:
    """A chain of products: in the order of the operands, or all at once, it would not fit."""
    n = 300
    v = [rng.normal(size=n) for _ in range(6)]
    a = rng.normal(size=(n, n)) / n
    text = "a,b,c,d,e,f,ab,bc,cd,de,ef->"
    got = ad.einsum(text, *v, *([a] * 5))
    row = v[0]
    for k in range(1, 6):
        row = (row @ a) * v[k]
    assert float(got) == pytest.approx(row.sum(), rel=1e-11)


# ---- pieces --------------------------------------------------------------------------------------


def test_pieces_are_lists_of_views() -> None:
    x = ad.arange(6)
    parts = ad.split(x, 3)
    assert isinstance(parts, list) and [p.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"\[split\].*length 6 has no 4 equal sections.*array_sp"):
        ad.split(x, 4)
    with pytest.raises(ValueError, match=r"\[array_split\].*must be positive"):
        ad.array_split(x, 0)
    with pytest.raises(TypeError, match=r"\[split\] indices_or_sections must be an int or a list"):
        ad.split(x, 2.0)
    with pytest.raises(ValueError, match=r"\[vsplit\] needs at least 2 dimensions"):
        ad.vsplit(x, 2)


def test_pad_says_what_is_wrong() -> None:
    x = ad.ones((2, 3))
    with pytest.raises(ValueError, match=r"\[pad\] pad_width of shape \(3,\) for 2 dimensions"):
        ad.pad(x, (1, 2, 3))
    with pytest.raises(ValueError, match=r"\[pad\] pad_width of shape \(3, 2\)"):
        ad.pad(x, ((1, 2),) * 3)
    with pytest.raises(ValueError, match=r"\[pad\] a pad width is negative"):
        ad.pad(x, -1)
    with pytest.raises(TypeError, match=r"\[pad\] pad_width must be integers"):
        ad.pad(x, 1.5)
    with pytest.raises(ValueError, match=r"\[pad\] mode must be 'constant'.*not 'mirror'"):
        ad.pad(x, 1, "mirror")
    with pytest.raises(ValueError, match=r"\[pad\] axis 0 is empty"):
        ad.pad(ad.ones(0), 1, "edge")
    with pytest.raises(TypeError, match=r"\[pad\] constant_values of dtype float64 do not fit"):
        ad.pad(ad.asarray([1, 2]), 1, constant_values=ad.tensor(0.5))
    assert ad.pad(ad.ones(1, dtype=ad.float32), 1).dtype is ad.float32


def test_grids_and_triangles() -> None:
    for n, k, m in ((3, 0, None), (4, -1, 2), (2, 1, 5), (0, 0, None)):
        np.testing.assert_array_equal(ad.tri(n, m, k=k).numpy(), np.tri(n, m, k))
        for name in ("tril_indices", "triu_indices"):
            ours, theirs = getattr(ad, name)(n, k, m), getattr(np, name)(n, k, m)
            assert isinstance(ours, tuple)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)
    x = rng.normal(size=(4, 4))
    np.testing.assert_array_equal(ad.asarray(x)[ad.tril_indices(4)].numpy(), x[np.tril_indices(4)])
    for a, b in zip(ad.diag_indices(3, 3), np.diag_indices(3, 3), strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    for shape in ((2, 3), (4,), (), (2, 0, 3)):
        np.testing.assert_array_equal(ad.indices(shape).numpy(), np.indices(shape))
    for f in (ad.tril_indices, ad.triu_indices):
        with pytest.raises(ValueError, match=r"needs extents from 0 to 16777216, got -1 and 3"):
            f(-1, 0, 3)
    picked = ad.compile(lambda t: t[ad.tril_indices(4, -1)])(ad.asarray(x))
    np.testing.assert_array_equal(picked.numpy(), x[np.tril_indices(4, -1)])
    with pytest.raises(ValueError, match=r"\[tri\] an extent is negative"):
        ad.tri(-1)


def test_delete_and_rot90_refuse() -> None:
    with pytest.raises(IndexError, match=r"\[delete\] index 3 is out of range for axis 0"):
        ad.delete(ad.ones(3), [3])
    with pytest.raises(ValueError, match=r"\[rot90\] the two axes must differ"):
        ad.rot90(ad.ones((2, 2)), axes=(0, -2))
    with pytest.raises(ValueError, match=r"\[rot90\] needs at least 2 dimensions"):
        ad.rot90(ad.ones(2))


# ---- values by places ----------------------------------------------------------------------------


def test_the_slope_of_interp_is_that_of_the_segment_after_a_point() -> None:
    xp, fp = ad.tensor([0.0, 1.0, 3.0]), ad.tensor([0.0, 2.0, -2.0])
    slope = ad.grad(lambda x: ad.sum(ad.interp(x, xp, fp)))
    x = ad.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    assert slope(x).tolist() == [0.0, 2.0, 2.0, -2.0, -2.0, 0.0, 0.0]
    weights = ad.grad(lambda fp: ad.sum(ad.interp(ad.tensor([0.25, 5.0]), xp, fp)))(fp)
    assert weights.tolist() == [0.75, 0.25, 1.0]
    steps = ad.interp(ad.tensor([0.5, 1.0, 1.5]), [0.0, 1.0, 1.0, 2.0], [0.0, 0.0, 4.0, 4.0])
    assert steps.tolist() == [0.0, 4.0, 4.0]
    with pytest.raises(ValueError, match=r"\[interp\] xp and fp must be vectors of one length"):
        ad.interp(x, xp, fp[:2])


def test_numbers_outside_raise_in_every_mode() -> None:
    ids = ad.asarray([0, 2])
    data = ad.ones(2)
    with pytest.raises(IndexError, match="out of range"):
        ad.segment_sum(data, ids, 2)
    with pytest.raises(IndexError, match="out of range"):
        ad.segment_sum(data, ad.asarray([0, -1]), 2)
    with pytest.raises(IndexError, match="out of range"):
        ad.compile(lambda i: ad.segment_sum(data, i, 2))(ids)
    with pytest.raises(ValueError, match=r"\[bincount\].*not negative, got -1"):
        ad.bincount(ad.asarray([0, -1]))
    with pytest.raises(ad.TracedValueError):
        ad.compile(ad.bincount)(ids)
    with pytest.raises(TypeError, match=r"\[bincount\] x must be integers, not float64"):
        ad.bincount(data)
    with pytest.raises(ValueError, match=r"\[segment_sum\].*shapes \(2,\) and \(3,\)"):
        ad.segment_sum(ad.ones(3), ids)


def test_counts_against_numpy() -> None:
    x = np.array([3, 0, 3, 1])
    for kwargs in ({}, {"minlength": 9}, {"minlength": 2}):
        np.testing.assert_array_equal(
            ad.bincount(ad.asarray(x), **kwargs).numpy(), np.bincount(x, **kwargs)
        )
    assert ad.bincount(ad.asarray(np.array([], dtype=int))).shape == (0,)
    for y in (np.full(4, 2.5), rng.normal(size=100), np.array([]), np.arange(11.0)):
        for kwargs in ({}, {"bins": 3}, {"bins": 4, "range": (-1.0, 1.0)}):
            ours, theirs = ad.histogram(y, **kwargs), np.histogram(y, **kwargs)
            np.testing.assert_array_equal(ours.hist.numpy(), theirs[0])
            np.testing.assert_allclose(ours.bin_edges.numpy(), theirs[1], rtol=1e-15)
    with pytest.raises(ValueError, match=r"\[histogram\] bins must be an int, or the edges"):
        ad.histogram(ad.ones(3), 2.5)
    with pytest.raises(ValueError, match=r"\[average\] weights of shape \(2,\) for shape \(3,\)"):
        ad.average(ad.ones(3), weights=ad.ones(2))


# ---- methods -------------------------------------------------------------------------------------


def test_methods_are_numpys() -> None:
    a = rng.normal(size=(2, 3, 4))
    x = ad.asarray(a)
    calls: dict[str, tuple[Any, ...]] = {
        "flatten": (),
        "ravel": (),
        "copy": (),
        "clip": (-0.5, 0.5),
        "cumsum": (1,),
        "cumprod": (),
        "repeat": (2,),
        "take": (np.array([1, 0]), 2),
        "transpose": (2, 0, 1),
        "squeeze": (),
        "round": (),
        "sort": (),
    }
    for name, args in calls.items():
        theirs = a.copy()
        expected = getattr(theirs, name)(*args)
        expected = theirs if expected is None else expected
        got = getattr(x, name)(*args).numpy()
        np.testing.assert_allclose(got, expected, rtol=2e-15, err_msg=name)
    np.testing.assert_array_equal(x.transpose().numpy(), a.T)
    np.testing.assert_array_equal(x.transpose((1, 0, 2)).numpy(), a.transpose(1, 0, 2))
    np.testing.assert_array_equal(x.view(4, -1).numpy(), a.reshape(4, -1))
    np.testing.assert_array_equal(x.view((6, 4)).numpy(), a.reshape(6, 4))
    assert x.numel() == 24
    for ours, theirs in zip(x.nonzero(), a.nonzero(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    np.testing.assert_array_equal(x.clip(max=0.1).numpy(), a.clip(max=0.1))
    np.testing.assert_array_equal(x.clip(0.1).numpy(), a.clip(0.1))
    with pytest.raises(TypeError, match=r"\[view\] takes extents"):
        x.view(ad.float32)
    with pytest.raises(ValueError, match=r"\[transpose\] 2 axes for shape.*swapaxes"):
        x.transpose(0, 1)


def test_clip_with_one_limit_keeps_the_dtype() -> None:
    for dtype in ("int8", "uint8", "int64", "uint64", "float32"):
        ends = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else np.finfo(dtype)
        a = np.array([ends.min, 3, ends.max], dtype)
        for limits in ({"min": 4}, {"max": 4}, {"min": None, "max": None}):
            got = ad.clip(ad.asarray(a), **limits)
            expected = np.clip(a, limits.get("min"), limits.get("max"))
            assert got.numpy().dtype == a.dtype
            np.testing.assert_array_equal(got.numpy(), expected)
    slope = ad.grad(lambda x: ad.sum(ad.clip(x, min=1.0)))(ad.tensor([0.0, 1.0, 2.0]))
    assert slope.tolist() == [0.0, 1.0, 1.0]


def test_a_clone_is_connected_and_apart() -> None:
    x = ad.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    assert not y.is_leaf
    ad.sum(y * y).backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 4.0]
    z = ad.tensor([1.0, 2.0])
    other = z.copy()
    z[0] = 9.0
    assert other.tolist() == [1.0, 2.0]


# ---- Names of a few lines ------------------------------------------------------------------------


def test_relu_keeps_nan_and_dtypes():
    x = ad.tensor([-1.0, 0.0, 2.0, float("nan")])
    np.testing.assert_array_equal(ad.relu(x).numpy(), [0.0, 0.0, 2.0, np.nan])
    np.testing.assert_array_equal(ad.grad(lambda x: ad.sum(x.relu()))(x).numpy(), [0, 0, 1, 1])
    for dtype in (ad.int8, ad.int64, ad.float32):
        y = ad.relu(ad.asarray([-3, 5], dtype=dtype))
        assert y.dtype == dtype and y.tolist() == [0, 5]


def test_arrays_are_equal():
    x = np.array([1.0, np.nan])
    assert not ad.array_equal(x, x) and ad.array_equal(x, x, equal_nan=True)
    assert not ad.array_equal([1.0, 2.0], x, equal_nan=True)
    assert ad.array_equal([1, 2], [1.0, 2.0]) and not ad.array_equal([1, 2], [1, 2, 3])
    assert ad.array_equal([np.nan], [np.nan], True)
    both = ad.vmap(ad.array_equal)(ad.tensor([[1, 2], [3, 4]]), ad.tensor([[1, 2], [3, 5]]))
    assert both.tolist() == [True, False]
    t = ad.asarray(x)
    assert np.array_equal(t, x, equal_nan=True) is True and np.array_equal(t, x) is False
    assert np.array_equiv(t[:1], np.ones((3, 1))) is True


def test_places():
    x = rng.integers(0, 2, (3, 4, 2))
    np.testing.assert_array_equal(ad.argwhere(x).numpy(), np.argwhere(x))
    np.testing.assert_array_equal(ad.flatnonzero(x).numpy(), np.flatnonzero(x))


@pytest.mark.parametrize(
    "kwargs", [{}, {"num": 5}, {"num": 4, "base": 2.0}, {"num": 3, "endpoint": False}, {"num": 0}]
)
def test_logspace(kwargs):
    got, want = ad.logspace(-1, 2, **kwargs), np.logspace(-1, 2, **kwargs)
    assert got.dtype == ad.float64
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)
    assert ad.logspace(0, 2, 3, dtype=ad.int32).tolist() == [1, 10, 100]


def test_unwrap():
    steps = rng.integers(-9, 10, (5, 200)).astype(float)
    for kwargs in ({"period": 4.0}, {"period": 4.0, "discont": 3.0}, {"period": 3.5, "axis": 0}):
        got = ad.unwrap(ad.asarray(steps), **kwargs)
        np.testing.assert_allclose(got.numpy(), np.unwrap(steps, **kwargs), atol=1e-11)
    with pytest.raises(ValueError, match=r"\[unwrap\] period must be positive"):
        ad.unwrap([1.0, 2.0], period=0.0)


def test_vdot_needs_equal_sizes():
    with pytest.raises(ValueError, match=r"\[vdot\].*\(2,\) and \(1,\)"):
        ad.vdot(ad.ones(2), ad.ones(1))


def test_relu_at_zero():
    at = ad.tensor(0.0)
    assert ad.grad(ad.relu)(at).item() == 0.0
    assert ad.jvp(ad.relu, (at,), (ad.tensor(1.0),))[1].item() == 0.0
    assert ad.grad(ad.grad(lambda x: ad.relu(x) ** 2))(at).item() == 0.0
    assert ad.grad(ad.compile(ad.relu))(at).item() == 0.0


# ---- entries of an axis --------------------------------------------------------------------------


def test_entries_that_are_named_wrongly() -> None:
    x = ad.arange(12, dtype=ad.float64).reshape((3, 4))
    with pytest.raises(IndexError, match=r"\[delete\] index 4 is out of range for axis 1 of len"):
        ad.delete(x, [0, 4], 1)
    with pytest.raises(
        ValueError, match=r"\[delete\] a mask of shape \(3,\) for axis 1 of length 4"
    ):
        ad.delete(x, np.array([True, False, True]), axis=1)
    with pytest.raises(TypeError, match=r"\[delete\] obj must be an int, .* not float64"):
        ad.delete(x, ad.tensor([1.0]), axis=1)
    with pytest.raises(TypeError, match=r"\[delete\] obj must be an int, a list of ints, a slice"):
        ad.delete(x, None, axis=1)
    with pytest.raises(IndexError, match=r"\[insert\] index 5 is out of range for axis 1 of len"):
        ad.insert(x, 5, 0.0, axis=1)
    with pytest.raises(ValueError, match=r"\[insert\] values of shape \(2,\) do not broadcast to"):
        ad.insert(x, [1, 2], ad.ones(2), axis=0)
    with pytest.raises(ValueError, match=r"\[insert\] values of shape \(1, 1, 1\) have more dim"):
        ad.insert(x, 1, ad.ones((1, 1, 1)), axis=0)
    with pytest.raises(ValueError, match=r"\[partition\] kth is 4 for an axis of length 4"):
        ad.partition(x, 4)


def test_entries_of_integers_stay_integers() -> None:
    i = np.array([3, 1, 2])
    np.testing.assert_array_equal(
        ad.insert(i, (0, 3), [7, 8]).numpy(), np.insert(i, (0, 3), [7, 8])
    )
    assert ad.insert(ad.asarray(i), 1, 0.5).dtype is ad.float64
    assert ad.insert(ad.asarray(i), 1, 5).dtype is ad.int64
    assert ad.delete(i, (0, 2)).tolist() == [1]


def test_a_diagonal_beyond_64_bits_is_none() -> None:
    x = np.ones((2, 3))
    for k in (2**63, -(2**64), 2**100):
        assert not ad.eye(2, 3, k=k).numpy().any()
        np.testing.assert_array_equal(ad.tril(x, k=k).numpy(), x if k > 0 else 0 * x)
        np.testing.assert_array_equal(ad.triu(x, k=k).numpy(), 0 * x if k > 0 else x)
        assert ad.diagonal(x, k).shape == (0,) and float(ad.trace(x, k)) == 0
    with pytest.raises(TypeError, match=r"\[eye\] k must be an int, not float"):
        ad.eye(2, k=1.0)


def test_places_outside_of_a_shape() -> None:
    with pytest.raises(
        ValueError, match=r"\[unravel_index\] an index lies outside of shape \(2, 3\)"
    ):
        ad.unravel_index([0, 6], (2, 3))
    with pytest.raises(ValueError, match=r"\[ravel_multi_index\] an index lies outside of axis 1"):
        ad.ravel_multi_index(([0], [3]), (2, 3))
    with pytest.raises(ValueError, match=r"\[ravel_multi_index\] 1 tensors of indices for shape"):
        ad.ravel_multi_index(([0],), (2, 3))
    with pytest.raises(TypeError, match=r"\[unravel_index\] needs integers, not float64"):
        ad.unravel_index(1.0, (2, 3))


# ---- along an axis -------------------------------------------------------------------------------


def test_slopes_that_cannot_be_taken() -> None:
    x = ad.ones((2, 5))
    with pytest.raises(
        ValueError, match=r"\[gradient\] axis 0 of length 2 is too short: 3 entries"
    ):
        ad.gradient(x, edge_order=2)
    with pytest.raises(
        ValueError, match=r"\[gradient\] spacing of shape \(4,\) for axis 1 of leng"
    ):
        ad.gradient(x, ad.arange(4), axis=1)
    with pytest.raises(ValueError, match=r"\[gradient\] 3 spacings for 2 axes"):
        ad.gradient(x, 1, 2, 3)
    with pytest.raises(ValueError, match=r"\[gradient\] edge_order must be 1 or 2, got 3"):
        ad.gradient(x, edge_order=3)
    both = ad.gradient(x)
    assert isinstance(both, tuple) and isinstance(ad.gradient(x, axis=1), ad.Tensor)


def test_quantiles_of_an_unknown_method() -> None:
    with pytest.raises(ValueError, match=r"\[quantile\] method must be 'linear', .* not 'hazen'"):
        ad.quantile([1.0, 2.0], 0.5, method="hazen")
    with pytest.raises(ValueError, match=r"\[nanargmax\] where all entries are nan"):
        ad.nanargmax([[1.0, 2.0], [np.nan, np.nan]], axis=1)
    with pytest.raises(TypeError, match=r"\[std\].*'ddof'.*correction="):
        ad.std([1.0, 2.0], ddof=1)


def test_geometric_steps() -> None:
    for start, stop, options in (
        (1.0, 1000.0, {"num": 4}),
        (-2.0, -1e-3, {}),
        (3.0, 5.0, {"num": 7, "endpoint": False}),
        (1e-300, 1e300, {"num": 13}),
        (2.0, 3.0, {"num": 1}),
    ):
        expected = np.geomspace(start, stop, **options)
        got = ad.geomspace(start, stop, **options).numpy()
        np.testing.assert_allclose(got, expected, rtol=3e-13)
        assert got[0] == start
        if options.get("endpoint", True) and got.size > 1:
            assert got[-1] == stop
    assert ad.geomspace(1, 256, 9, dtype=ad.float32).dtype is ad.float32
    for start, stop in ((0.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(
            ValueError, match=r"\[geomspace\] start and stop must have the same sign"
        ):
            ad.geomspace(start, stop)


def test_running_extremes_in_a_program_and_a_batch() -> None:
    x = rng.normal(size=(3, 9))
    expected = np.maximum.accumulate(x, axis=1)
    f = lambda t: ad.cummax(t).values  # noqa: E731
    np.testing.assert_array_equal(ad.compile(f)(x).numpy(), expected)
    np.testing.assert_array_equal(ad.vmap(f)(x).numpy(), expected)
    slope = ad.grad(lambda t: ad.sum(f(t) * ad.arange(9.0)))(ad.asarray(x)).numpy()
    counted = np.zeros_like(x)
    for row in range(3):
        for k in range(9):
            counted[row, int(np.argmax(x[row, : k + 1]))] += k
    np.testing.assert_array_equal(slope, counted)
