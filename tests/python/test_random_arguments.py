"""Arguments of draws: those of other libraries, dtypes, and what would give nan."""

import inspect

import numpy as np
import pytest

import adjoint as ad


@pytest.mark.parametrize("draw", [ad.random.normal, ad.random.uniform, ad.random.exponential])
@pytest.mark.parametrize("args", [(0, 1), (np.int64(2), 3), (0.0, 1.0), (0.5,)])
def test_the_shape_comes_first(draw, args):
    with pytest.raises(
        TypeError, match=rf"\[{draw.__name__}\] the shape comes first, .*\(\(3,\), "
    ):
        draw(*args)


def test_three_numbers_are_no_shape_and_parameters():
    with pytest.raises(TypeError, match=r"normal\(\(3,\), 0, 1\)"):
        ad.random.normal(0, 1, 3)
    assert ad.random.uniform((3,), 0, 1).shape == ad.random.uniform(3, low=0).shape == (3,)
    signature = inspect.signature(ad.random.normal)
    assert list(signature.parameters) == ["shape", "mean", "std", "dtype"]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("bernoulli", ()),
        ("beta", (1, 2)),
        ("binomial", (3, 0.5)),
        ("categorical", ([1.0, 2.0],)),
        ("choice", (3,)),
        ("exponential", ()),
        ("gamma", (1,)),
        ("integers", (3,)),
        ("normal", ()),
        ("poisson", ()),
        ("truncated_normal", (-1, 1)),
        ("uniform", ()),
    ],
)
def test_size_is_called_shape(name, args):
    with pytest.raises(TypeError, match=rf"\[{name}\] the parameter is shape=, not size="):
        getattr(ad.random, name)(*args, size=3)
    assert getattr(ad.random, name)(*args, shape=(3,)).shape == (3,)


@pytest.mark.parametrize("wide", [np.float64, ad.tensor, np.array])
@pytest.mark.parametrize("dtype", [ad.float32, ad.float64])
def test_dtype_is_that_of_the_result(wide, dtype):
    one, two = wide(1.0), wide(2.0)
    for drawn in (
        ad.random.normal((2,), one, two, dtype=dtype),
        ad.random.uniform((2,), one, two, dtype=dtype),
        ad.random.exponential((2,), two, dtype=dtype),
        ad.random.gamma(one, two, (2,), dtype=dtype),
    ):
        assert drawn.dtype == dtype
    limits = ad.random.uniform((1000,), one, wide(1.0 + 2.0**-22), dtype=ad.float32).numpy()
    assert set(limits) == {np.float32(1.0), np.float32(1.0) + np.float32(2.0**-23)}
    slope = ad.grad(lambda m: ad.sum(ad.random.normal((3,), m, dtype=dtype)))(ad.tensor(1.0))
    assert slope.item() == 3.0


@pytest.mark.parametrize(
    ("name", "args", "dtype"),
    [
        ("uniform", ((), 0, float("inf")), None),
        ("uniform", ((), float("-inf"), 0), None),
        ("uniform", ((), 0.0, 1e300), "float32"),
        ("uniform", ((), 0, 10**400), None),
        ("normal", ((), float("nan"), 1), None),
        ("normal", ((), np.float64("nan"), 1), None),
        ("normal", ((), 0, float("inf")), None),
        ("normal", ((), 1e39, 1), "float32"),
        ("exponential", ((), float("inf")), None),
        ("gamma", (1.0, float("inf")), None),
    ],
)
def test_parameters_that_would_give_nan(name, args, dtype):
    with pytest.raises(ValueError, match=rf"\[{name}\] (low|high|mean|std|scale) must be a finite"):
        getattr(ad.random, name)(*args, dtype=dtype)


@pytest.mark.parametrize("make", [list, np.array, ad.tensor])
def test_entries_of_lists_and_arrays(make):
    entries = make([2.0, 3.0, 5.0])
    assert sorted(ad.random.permutation(entries).tolist()) == [2.0, 3.0, 5.0]
    assert sorted(ad.random.choice(entries, (3,), replace=False).tolist()) == [2.0, 3.0, 5.0]
    for draw in (ad.random.permutation, ad.random.choice):
        for axis in (1, -2):
            with pytest.raises(IndexError, match=rf"\[{draw.__name__}\] axis {axis} is out of"):
                draw(entries, axis=axis)


def test_the_seed_is_that_of_layers_too():
    def weights():
        ad.random.seed(11)
        return ad.nn.Linear(3, 2).weight.tolist()

    assert weights() == weights()
