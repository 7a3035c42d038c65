"""Tensors made from numbers that are differentiated, mapped or traced: functions of them in every
mode, or an error, never a silent zero."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as ad

# A function of one number, and its slope by hand.
MADE = {
    "linspace from": (lambda v: ad.linspace(v, 1.0, 3), lambda v: [1.0, 0.5, 0.0]),
    "linspace to": (lambda v: ad.linspace(0, v, 4, endpoint=False), lambda v: [0, 0.25, 0.5, 0.75]),
    "linspace between": (lambda v: ad.linspace(v, v * v, 3), lambda v: [1, 0.5 + v, 2 * v]),
    "linspace of one": (lambda v: ad.linspace(v, 9.0, 1), lambda v: [1.0]),
    "linspace of none": (lambda v: ad.linspace(v, 9.0, 0), lambda v: []),
    "full": (lambda v: ad.full((3,), v), lambda v: [1, 1, 1]),
    "full_like": (lambda v: ad.full_like(ad.ones(2), v * v), lambda v: [2 * v, 2 * v]),
    "tensor": (lambda v: ad.tensor(v), lambda v: 1.0),
    "list": (lambda v: ad.tensor([v, 1.0, v * v]), lambda v: [1, 0, 2 * v]),
    "nested list": (lambda v: ad.asarray([[v, 1.0], [2.0, v * v]]), lambda v: [[1, 0], [0, 2 * v]]),
    "list as float32": (lambda v: ad.asarray([v, 1.0], dtype=ad.float32), lambda v: [1, 0]),
    "stack": (lambda v: ad.stack([v, v * v]), lambda v: [1, 2 * v]),
    "array times": (lambda v: np.array([2.0, 3.0]) * v, lambda v: [2, 3]),
    "exponent": (lambda v: ad.pow(ad.tensor([1.0, 2.0]), v), lambda v: [0, 2**v * np.log(2.0)]),
    "limit": (lambda v: ad.clip(ad.tensor([0.1, 0.9]), 0.2, v), lambda v: [0, 1]),
    "generator": (
        lambda v: ad.random.Generator(0).normal((2,), v, 1.0),
        lambda v: [1.0, 1.0],
    ),
}
made = pytest.mark.parametrize("name", MADE)
AT = 0.5


def differentiated_by_tape(f):
    v = ad.Variable(AT, dtype=ad.float64)
    with ad.GradientTape() as tape:
        y = f(v)
    return tape.jacobian(y, v)


MODES = {
    "reverse": lambda f: ad.jacobian(f, mode="reverse")(AT),
    "forward": lambda f: ad.jvp(f, (AT,), (1.0,))[1],
    "tape": differentiated_by_tape,
    "batched": lambda f: ad.vmap(ad.jacobian(f))(ad.tensor([AT, AT]))[0],
    "compiled": lambda f: ad.compile(ad.jacobian(f))(ad.tensor(AT)),
    "over compiled": lambda f: ad.jacobian(ad.compile(f))(ad.tensor(AT)),
}


@made
@pytest.mark.parametrize("mode", MODES)
def test_what_is_made_of_a_number_is_a_function_of_it(name, mode):
    f, slope = MADE[name]
    np.testing.assert_allclose(np.asarray(MODES[mode](f)), slope(AT), rtol=1e-12)


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("dtype", [ad.float32, ad.float64])
@pytest.mark.parametrize("num", [0, 1, 2, 7, 20_000])
def test_linspace_of_tensors_has_the_numbers_of_plain_ends(num, dtype, endpoint):
    plain = ad.linspace(-0.3, 1.7, num, endpoint=endpoint, dtype=dtype)
    ends = ad.tensor(-0.3), ad.tensor(1.7)
    made_of = ad.linspace(*ends, num, endpoint=endpoint, dtype=dtype)
    assert made_of.dtype == dtype and made_of.tolist() == plain.tolist()
    traced = ad.compile(lambda a, b: ad.linspace(a, b, num, endpoint=endpoint, dtype=dtype))
    assert traced(*ends).tolist() == plain.tolist()


def test_dtype_of_linspace_follows_its_ends():
    single, whole = ad.tensor(1.0, dtype=ad.float32), ad.tensor(2)
    assert ad.linspace(single, 2.0, 3).dtype == ad.float32  # a Python number is weak
    assert ad.linspace(single, whole, 3).dtype == ad.float64
    assert ad.linspace(whole, whole, 3).dtype == ad.float64
    assert ad.linspace(single, 5, 3, dtype=ad.int64).tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match=r"\[linspace\] stop must be one number, shape \(2,\)"):
        ad.linspace(0.0, ad.ones(2), 3)


REFUSED = {
    "arange, start": lambda v: ad.arange(v, 3.0),
    "arange, stop": lambda v: ad.arange(v * 4),
    "arange, step": lambda v: ad.arange(0, 2, v),
    "var, correction": lambda v: ad.var(ad.tensor([1.0, 2.0, 3.0]), correction=v),
    "std, correction": lambda v: ad.std(ad.tensor([1.0, 2.0, 3.0]), correction=v),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("mode", MODES)
def test_numbers_whose_derivative_would_be_lost_are_refused(case, mode):
    op, argument = case.split(", ")
    with pytest.raises(ad.TracedValueError, match=rf"\[{op}\] {argument} must be a plain number"):
        MODES[mode](REFUSED[case])


def test_numbers_of_constant_tensors_are_taken():
    v = ad.Variable(3.0, dtype=ad.float64)
    with ad.no_grad():
        assert ad.arange(v).tolist() == [0, 1, 2]
    assert ad.arange(v.item()).tolist() == [0, 1, 2]
    assert ad.arange(ad.tensor(3.0)).dtype == ad.float64
    assert ad.arange(ad.tensor(3)).dtype == ad.int64


@pytest.mark.parametrize(
    "bounds",
    [(2**53 + 1, 2**53 + 4), (-(2**63), 2**63 - 1, 2**61), (2**62 + 3, 2**62 - 9, -5), (3, 3)],
)
def test_arange_of_integers_is_exact(bounds):
    assert ad.arange(*bounds).tolist() == list(range(*bounds))
    assert ad.compile(lambda: ad.arange(*bounds))().tolist() == list(range(*bounds))
    if list(range(*bounds)):
        with pytest.raises(OverflowError, match="does not fit uint8"):
            ad.arange(*bounds, dtype=ad.uint8)


def test_linspace_reaches_the_largest_numbers():
    most = np.finfo(np.float64).max
    assert ad.linspace(-1e308, 1e308, 3).tolist() == [-1e308, 0.0, 1e308]
    np.testing.assert_allclose(
        ad.linspace(most, -most, 5).numpy() / most, [1, 0.5, 0, -0.5, -1], rtol=1e-15
    )
    np.testing.assert_allclose(
        ad.linspace(-most, most, 4, endpoint=False).numpy() / most, [-1, -0.5, 0, 0.5], rtol=1e-15
    )
    assert ad.linspace(2.0, np.inf, 3).tolist() == [2.0, np.inf, np.inf]
    ends = ad.tensor(-1e308), ad.tensor(1e308)
    assert ad.linspace(*ends, 3).tolist() == [-1e308, 0.0, 1e308]
    assert ad.linspace(ad.tensor(2.0), np.inf, 3).tolist() == [2.0, np.inf, np.inf]
    assert ad.linspace(ad.tensor(-1.5), 1.5, 3, dtype=ad.int64).tolist() == [-2, 0, 1]
    assert ad.linspace(-1.5, 1.5, 3, dtype=ad.int64).tolist() == [-2, 0, 1]


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_makes_no_integers(number):
    for bounds in ((0, number), (number, 0.0)):
        with pytest.raises(ValueError, match=r"\[linspace\] -?(inf|nan) is no int64"):
            ad.linspace(*bounds, 3, dtype=ad.int64)
    assert ad.linspace(1.0, number, 1, dtype=ad.int64).tolist() == [1]


def test_integers_from_floats_fit_their_dtype():
    with pytest.raises(OverflowError, match=r"\[linspace\].*does not fit int8"):
        ad.linspace(0.0, 300.5, 3, dtype=ad.int8)
    with pytest.raises(OverflowError, match=r"\[linspace\].*does not fit int64"):
        ad.linspace(0.0, 1e30, 3, dtype=ad.int64)
    with pytest.raises(OverflowError, match=r"\[arange\].*does not fit int8"):
        ad.arange(0.0, 1000.0, 300.0, dtype=ad.int8)
    assert ad.arange(-0.5, 2.0, dtype=ad.uint8).tolist() == [0, 0, 1]
