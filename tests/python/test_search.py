"""Functions of which values decide how many results there are, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as ad

ARRAYS = {
    "floats": np.array([[2.0, 1.0, 2.0], [0.5, 0.0, 2.0]]),
    "integers": np.array([[3, 1, 3], [2, 0, 3]]),
    "bools": np.array([True, False, True]),
    "empty": np.zeros((0, 2)),
    "one": np.array([7.0]),
    "nan": np.array([np.nan, 1.0, np.nan, -0.0, 0.0]),
}
arrays = pytest.mark.parametrize("a", ARRAYS.values(), ids=ARRAYS)


@arrays
def test_nonzero(a):
    found = ad.nonzero(ad.asarray(a))
    expected = np.nonzero(a)
    assert len(found) == len(expected)
    for places, wanted in zip(found, expected, strict=True):
        assert places.dtype == ad.int64
        np.testing.assert_array_equal(places.numpy(), wanted)


@arrays
def test_unique(a):
    x = ad.asarray(a)
    values, first, inverse, counts = np.unique(
        a, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    found = ad.unique_all(x)
    np.testing.assert_array_equal(found.values.numpy(), values)
    assert found.inverse_indices.shape == a.shape
    if not np.isnan(a.astype(float)).any():  # which nan is which is NumPy's own affair
        np.testing.assert_array_equal(found.indices.numpy(), first)
        np.testing.assert_array_equal(found.inverse_indices.numpy().ravel(), inverse.ravel())
    np.testing.assert_array_equal(found.counts.numpy(), counts)
    np.testing.assert_array_equal(ad.unique_values(x).numpy(), values)
    np.testing.assert_array_equal(ad.unique_counts(x).counts.numpy(), counts)
    back = ad.take(ad.unique_inverse(x).values, ad.ravel(ad.unique_inverse(x).inverse_indices))
    np.testing.assert_array_equal(back.numpy(), a.ravel())


def test_unique_values_are_differentiable():
    slope = ad.grad(lambda x: ad.sum(ad.unique_values(x) * ad.asarray([1.0, 10.0])))
    assert slope(ad.asarray([3.0, 2.0, 3.0])).tolist() == [10.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["nonzero", "unique_all", "unique_values"])
def test_values_have_to_be_known(name):
    f = getattr(ad, name)
    with pytest.raises(ad.TracedValueError, match=name):
        ad.compile(f)(ad.asarray([1.0, 0.0]))
    with pytest.raises(ad.TracedValueError, match=name):
        ad.vmap(f)(ad.eye(2))


def test_searchsorted_takes_a_sorter_and_refuses_what_it_cannot_use():
    row = np.array([3.0, 1.0, 2.0])
    order = np.argsort(row)
    got = ad.searchsorted(ad.asarray(row), ad.asarray([2.0, 9.0]), sorter=ad.asarray(order))
    assert got.tolist() == np.searchsorted(row, [2.0, 9.0], sorter=order).tolist()
    with pytest.raises(ValueError, match="side"):
        ad.searchsorted([1.0], [1.0], side="middle")
    with pytest.raises(ValueError, match="one dimension"):
        ad.searchsorted([[1.0]], [1.0])
