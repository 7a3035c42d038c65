"""Uniform draws lie in [low, high), whatever the limits."""

import math

import numpy as np
import pytest

import adjoint as ad


def numpy_type(dtype):
    return np.float32 if dtype == ad.float32 else np.float64


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (1000.0, 1001.0, ad.float32),
        (1.0, 1.0 + 2.0**-52, ad.float64),
        (1.0, 1.0 + 2.0**-23, ad.float32),
        (-1.0, -1.0 + 2.0**-24, ad.float32),
        (2.0**52, 2.0**52 + 3, ad.float64),
        (-1e30, 0.0, ad.float32),
        (-1.7e308, 1.7e308, ad.float64),
        (-3.4e38, 3.4e38, ad.float32),
        (1.0, 1.7976931348623157e308, ad.float64),
        (0, 3, ad.float32),
    ],
)
@pytest.mark.parametrize("tensors", [False, True])
def test_no_draw_is_high(low, high, dtype, tensors):
    limits = (ad.tensor(low, dtype=dtype), ad.tensor(high, dtype=dtype)) if tensors else (low, high)
    x = ad.random.Generator(0).uniform((100_000,), *limits, dtype=dtype).numpy()
    kind = numpy_type(dtype)
    assert x.dtype == kind
    assert np.isfinite(x).all()
    assert (x >= kind(low)).all()
    assert (x < kind(high)).all()


def test_the_limit_is_the_number_below():
    x = ad.random.Generator(0).uniform((1_000_000,), 1000.0, 1001.0, dtype=ad.float32).numpy()
    assert x.max() == np.nextafter(np.float32(1001), np.float32(0))
    y = ad.random.Generator(0).uniform((1000,), 1.0, 1.0 + 2.0**-51).numpy()
    assert set(y.tolist()) == {1.0, 1.0 + 2.0**-52}
    assert set(ad.random.Generator(0).uniform((10,), 3.0, 3.0).tolist()) == {3.0}


@pytest.mark.parametrize(("low", "high"), [(-2.0, 5.0), (0.0, 0.3), (1, 7), (-1e-3, 1e4), (0.5, 1)])
@pytest.mark.parametrize("dtype", [ad.float32, ad.float64])
def test_draws_are_those_of_the_formula(low, high, dtype):
    unit = ad.random.Generator(3).uniform((10_000,), dtype=dtype).numpy()
    x = ad.random.Generator(3).uniform((10_000,), low, high, dtype=dtype).numpy()
    kind = numpy_type(dtype)
    want = kind(low) + kind(high - low) * unit
    assert (x[want < kind(high)] == want[want < kind(high)]).all()


def test_derivatives_of_the_limits():
    def draw(low, high):
        return ad.random.Generator(1).uniform((1000,), low, high)

    unit = draw(0.0, 1.0)
    slopes = ad.jacobian(lambda b: draw(b[0], b[1]))(ad.tensor([2.0, 5.0])).numpy()
    assert np.allclose(slopes[:, 1], unit.numpy(), rtol=1e-14)
    assert np.allclose(slopes[:, 0], 1 - unit.numpy(), rtol=1e-14)
    narrow = ad.jacobian(lambda b: draw(b, 1.0 + 2.0**-52))(ad.tensor(1.0)).numpy()
    assert np.allclose(narrow, 1 - unit.numpy(), rtol=1e-14)  # where the value is limited, too
    wide = ad.jvp(lambda b: draw(-b, b), (ad.tensor(1.7e308),), (ad.tensor(1.0),))[1].numpy()
    assert np.allclose(wide, 2 * unit.numpy() - 1, rtol=1e-14)


def test_draws_between_limits_in_transforms():
    lows = ad.tensor([0.0, 10.0])
    mapped = ad.vmap(lambda b: ad.random.Generator(0).uniform((5,), b, b + 1))(lows).numpy()
    assert ((mapped >= [[0], [10]]) & (mapped < [[1], [11]])).all()
    f = ad.compile(lambda a, b: ad.random.Generator(0).uniform((50,), a, b))
    for a, b in ((1.0, 1.0 + 2.0**-52), (-1.7e308, 1.7e308), (2.0, 3.0), (0.0, 0.5)):
        assert f(a, b).tolist() == ad.random.Generator(0).uniform((50,), a, b).tolist()
    assert math.isclose(f(0.0, 2.0).numpy().mean(), 1.0, rel_tol=0.3)
