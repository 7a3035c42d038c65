"""ad.testing: what the assertions accept, and what the gradient check says of planted mistakes."""

from __future__ import annotations

import collections
import functools
import itertools
import math

import numpy as np
import pytest

import adjoint as ad
from adjoint.testing import check_grads

A = np.array([[1.0, 2.0, 0.5], [-1.0, 3.0, 2.0], [0.25, -2.0, 1.0]])


def planted(value, rule):
    """A function with the values of one and the derivatives of another."""

    def f(*args):
        wrong = rule(*args)
        return wrong - ad.stop_gradient(wrong) + ad.stop_gradient(value(*args))

    return f


def complaint(f, *args, **kwargs):
    with pytest.raises(AssertionError) as caught:
        check_grads(f, [ad.asarray(a) for a in args], **kwargs)
    return str(caught.value)


modes = pytest.mark.parametrize("mode", ["rev", "fwd"])


@modes
def test_a_function_that_is_right_passes(mode):
    check_grads(lambda x: ad.tanh(A @ x), [ad.tensor([0.1, 0.2, 0.3])], order=3, modes=[mode])


@modes
def test_a_kink(mode):
    relu = lambda x: ad.where(x > 1.0, x, 1.0)  # noqa: E731
    message = complaint(relu, [0.0, 1.0], order=1, modes=["fwd"])
    assert "entry (1,): derivative 0, central difference 0.5;" in message
    assert "guess: a kink within eps" in message and "to the right are 0 and 1" in message
    assert "guess: a kink within eps" in complaint(relu, [0.0, 1.0], modes=[mode])


def test_a_kink_beside_the_point_and_a_jump():
    for distance in (1e-6, 2e-6, 5e-6, -3e-6):
        beside = complaint(lambda x, d=distance: ad.maximum(x, 1.0 + d), 1.0)
        assert "guess: a kink within eps" in beside
    jump = complaint(lambda x: ad.where(x > 1.0, x + 3.0, x), 1.0, modes=["fwd"])
    assert "guess: a jump within eps of the point: the function changes by 3 at once" in jump


def test_a_kink_of_the_derivative_is_found_at_order_two():
    message = complaint(lambda x: ad.where(x > 0.0, 0.1 * x**2, 0.0), 0.0)
    assert "over" in message and "a kink within eps" in message


@modes
def test_float32_is_too_coarse(mode):
    x = ad.tensor([0.5, 1.5], dtype=ad.float32)
    message = complaint(lambda x: ad.sin(x) + 1e4, x, order=1, modes=[mode], rtol=1e-4, atol=1e-4)
    assert "guess: rounding" in message and "use float64" in message


def test_float32_inside():
    def f(x):
        return ad.astype(ad.astype(x, ad.float32) ** 2, ad.float64)

    assert "does it compute in float32 inside?" in complaint(f, 1.3)


@modes
def test_values_that_are_not_finite(mode):
    assert "not finite at the point" in complaint(ad.log, [1.0, -1.0], modes=[mode])
    assert "not finite within eps" in complaint(lambda x: ad.sqrt(x - 1.0), 1.0, modes=[mode])
    assert "its rule is not" in complaint(ad.cbrt, 0.0, order=1, modes=[mode])


def test_a_function_that_is_not_deterministic():
    calls = itertools.count()
    message = complaint(lambda x: x * (1.0 + next(calls)), 1.0)
    assert "guess: the function is not deterministic" in message


@modes
def test_a_derivative_that_is_cut_off(mode):
    message = complaint(lambda x: ad.stop_gradient(x) ** 2 + 0.0 * x, [1.0, 2.0], modes=[mode])
    assert "derivative 0," in message and "guess: no derivative reaches the argument" in message
    rounded = planted(lambda x: x, lambda x: ad.astype(ad.astype(x, ad.int64), ad.float64))
    assert "a cast to integers" in complaint(rounded, [1.0, 2.0], modes=[mode])


@modes
def test_an_entry_that_is_cut_off(mode):
    f = planted(ad.square, lambda x: ad.square(x) * np.array([1.0, 0.0]))
    message = complaint(f, [1.0, 2.0], modes=[mode])
    assert "entry (1,)" in message and "nothing reaches this entry" in message


@modes
@pytest.mark.parametrize(
    "factor, cause",
    [
        (-1.0, "the sign is turned"),
        (2.5, "off by a constant factor of 2.5"),
        (-0.5, "off by a constant factor of -0.5"),
        (1 / 3, "too small by the number of outputs, 3: a mean in place of a sum?"),
        (3.0, "too large by the number of outputs, 3: a sum in place of a mean?"),
    ],
)
def test_a_constant_factor(mode, factor, cause):
    f = planted(ad.sin, lambda x: factor * ad.sin(x))
    assert f"guess: {cause}" in complaint(f, [0.1, 0.7, 2.0], modes=[mode])


@modes
def test_a_transposed_rule(mode):
    f = planted(lambda x: A @ x, lambda x: A.T @ x)
    message = complaint(f, [1.0, 2.0, 3.0], modes=[mode])
    assert "guess: transposed: it maps as the transpose" in message
    square = np.array([[1.0, 2.0], [5.0, 3.0]])
    f = planted(lambda x: ad.sum(x * square), lambda x: ad.sum(x * square.T))
    message = complaint(f, [[1.0, 1.0], [1.0, 1.0]], modes=[mode])
    assert "entry (0, 1)" in message and "the last two axes of the argument" in message
    weights = np.arange(6.0).reshape(2, 3)
    f = planted(lambda x: ad.sum(x * weights), lambda x: ad.sum(x * weights[::-1]))
    assert "the right numbers in another order" in complaint(f, np.ones((2, 3)), modes=[mode])


def test_a_rule_that_is_simply_wrong():
    message = complaint(planted(ad.sin, lambda x: ad.cos(x) * x), [0.3, 0.9])
    assert "guess: the function is smooth here, so the rule itself" in message


def test_mistakes_in_large_arguments_are_told_without_a_guess_of_their_form():
    f = planted(ad.sin, lambda x: 2 * ad.sin(x))
    assert "the rule itself" in complaint(f, np.linspace(0.1, 1.0, 200))


# ---- names --------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "left right")


def test_the_argument_is_named_with_its_path():
    def loss(scale, params):
        good = ad.sum(params["layers"][0] ** 2) + ad.sum(params["pair"].left) * scale
        return good + ad.sum(ad.stop_gradient(params["pair"].right) ** 2)

    params = {
        "layers": [ad.tensor([1.0, 2.0])],
        "pair": Pair(ad.tensor(1.0), ad.tensor([[1.0, 2.0]])),
    }
    with pytest.raises(AssertionError) as caught:
        check_grads(loss, [ad.tensor(2.0), params])
    assert "rev: params['pair'].right (argument 1), entry (0, 0): derivative 0, central " in str(
        caught.value
    )


def test_parameters_of_a_module_are_named_by_attribute():
    class Half(ad.nn.Module):
        def __init__(self):
            self.inner = ad.nn.Linear(2, 1, dtype=ad.float64)
            self.scale = ad.tensor(2.0, requires_grad=True)

        def forward(self, x):
            return self.inner(x) * ad.stop_gradient(self.scale)

    def loss(model):
        return ad.sum(model(ad.ones((1, 2))))

    with pytest.raises(AssertionError, match=r"rev: model\.scale \(argument 0\), entry \(\)"):
        check_grads(loss, [Half()])


def test_names_of_parameters():
    def several(first, *others):
        return first + ad.stop_gradient(others[1]) ** 2 + others[0]

    assert "rev: others[1] (argument 2), entry ()" in complaint(several, 1.0, 2.0, 3.0)
    bound = functools.partial(several, ad.tensor(1.0))
    assert "rev: others[1] (argument 1)" in complaint(bound, 2.0, 3.0)

    class Nameless:
        __signature__ = "none"

        def __call__(self, x):
            return ad.stop_gradient(x) * x

    assert "rev: argument 0, entry ()" in complaint(Nameless(), 2.0)


def test_the_gradient_check_reaches_second_order():
    def first_order_only(x):
        # Right value and gradient at every point, but the gradient itself is cut off.
        slope = ad.stop_gradient(2.0 * x)
        return ad.stop_gradient(x * x) + slope * (x - ad.stop_gradient(x))

    ad.testing.check_grads(first_order_only, [ad.tensor(1.5)], order=1)
    with pytest.raises(AssertionError, match=r"over (rev|fwd): x \(argument 0\)"):
        ad.testing.check_grads(first_order_only, [ad.tensor(1.5)], order=2)


def test_the_gradient_check_takes_trees_and_holds_integers():
    def f(params, index):
        return {"y": ad.sin(params["a"]) * params["b"][0] * ad.astype(index, ad.float64)}

    params = {"a": ad.tensor([0.3, 0.7]), "b": [ad.tensor(2.0)]}
    ad.testing.check_grads(f, [params, ad.asarray(3)])
    with pytest.raises(TypeError, match="no argument has a real floating dtype"):
        ad.testing.check_grads(lambda i: i, [ad.asarray(3)])
    with pytest.raises(ValueError, match="modes must be"):
        ad.testing.check_grads(f, [params, ad.asarray(3)], modes=["reverse"])
    with pytest.raises(ValueError, match="order must be at least 1"):
        ad.testing.check_grads(f, [params, ad.asarray(3)], order=0)


# ---- closeness ----------------------------------------------------------------------------------


def test_assert_close_reports_the_worst_entry():
    ad.testing.assert_close(ad.tensor([1.0, math.nan, math.inf]), [1.0, math.nan, math.inf])
    ad.testing.assert_close({"a": ad.tensor(1.0)}, {"a": np.float64(1.0)})
    with pytest.raises(AssertionError, match=r"2 of 3 entries differ; worst at \(2,\): actual 3.5"):
        ad.testing.assert_close(ad.tensor([1.0, 2.1, 3.5]), [1.0, 2.0, 3.0])
    with pytest.raises(AssertionError, match=r"shapes differ: \(2,\) and \(1,\)"):
        ad.testing.assert_close(ad.ones(2), [1.0])
    with pytest.raises(AssertionError, match="structures differ"):
        ad.testing.assert_close({"a": ad.ones(2)}, {"b": ad.ones(2)})
    ad.testing.assert_close(ad.tensor(1.001), 1.0, rtol=0.01, atol=0.0)
