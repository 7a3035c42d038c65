"""Arguments of the wrong kind are refused, by the right exception, before anything is done."""

import numpy as np
import pytest

import adjoint as ad
from adjoint import nn, optim
from adjoint.random import Generator

W = ad.tensor([1.0, 2.0], requires_grad=True)
X = ad.ones(2)
NAN, INF = float("nan"), float("inf")
NO_FLAG = ["no", "", 0, 1, None, 1.0, X]
NO_NUMBER = ["x", b"1", True, None, [0.1], (), 1j, X, np.bool_(True)]
NO_COUNT = ["x", 2.0, True, None, [1], np.float64(2)]
NO_FUNCTION = [3, "sin", None, X, [ad.sin]]


def each(values, call):
    return [(value, call) for value in values]


def refused(kind, *groups):
    cases = [case for group in groups for case in group]
    ids = [f"{i}-{value!r:.20}" for i, (value, _) in enumerate(cases)]
    return pytest.mark.parametrize(("value", "call", "kind"), [(*c, kind) for c in cases], ids=ids)


FLAGS = [
    lambda v: nn.Linear(1, 1, v),
    lambda v: nn.Linear(1, 1).train(v),
    lambda v: nn.Linear(1, 1).requires_grad_(v),
    lambda v: nn.Linear(1, 1).load_state_dict({}, strict=v),
    lambda v: nn.Linear(1, 1).register_buffer("b", X, persistent=v),
    lambda v: optim.SGD(nesterov=v, momentum=0.5),
    lambda v: ad.GradientTape(persistent=v),
    lambda v: ad.GradientTape(watch_accessed_variables=v),
    lambda v: ad.Variable(1.0, trainable=v),
    lambda v: ad.host_op(np.sin, shape=lambda x: x, vectorized=v),
    lambda v: ad.scan(lambda c, x: (c, x), X, X, reverse=v),
]
NUMBERS = [
    lambda v: optim.SGD(learning_rate=v),
    lambda v: optim.Adam([W], learning_rate=v),
    lambda v: setattr(optim.Adam([W]), "learning_rate", v),
    lambda v: optim.SGD(momentum=v),
    lambda v: optim.SGD(weight_decay=v),
    lambda v: optim.Adam(beta1=v),
    lambda v: optim.Adam(beta2=v),
    lambda v: optim.Adam(eps=v),
    lambda v: optim.Adam(weight_decay=v),
]
TOLERANCES = [
    lambda v: ad.testing.assert_close(1.0, 1.0, rtol=v),
    lambda v: ad.testing.assert_close(1.0, 1.0, atol=v),
    lambda v: ad.testing.check_grads(ad.sin, [X], eps=v),
    lambda v: ad.testing.check_grads(ad.sin, [X], rtol=v),
    lambda v: ad.testing.check_grads(ad.sin, [X], atol=v),
    lambda v: ad.custom_fixed_point(ad.cos, tol=v),
]
COUNTS = [
    lambda v: nn.Linear(v, 1),
    lambda v: nn.Linear(1, v),
    lambda v: ad.testing.check_grads(ad.sin, [X], order=v),
    lambda v: ad.taylor(ad.sin, (X,), (X,), v),
    lambda v: Generator(0).split(v),
    lambda v: Generator(0).uniform((2, v)),
    lambda v: Generator(0).integers(v, 9),
    lambda v: Generator(v),
]
OPTIONAL_COUNTS = [
    lambda v: ad.scan(lambda c, x: (c, x), X, length=v),
    lambda v: ad.while_loop(lambda c: c < 1, lambda c: c + 1, 0.0, max_steps=v),
    lambda v: ad.custom_fixed_point(ad.cos, max_steps=v),
]

FUNCTIONS = [
    lambda v: ad.custom_vjp(v),
    lambda v: ad.custom_jvp(v),
    lambda v: ad.custom_vjp(ad.sin).defvjp(v, ad.sin),
    lambda v: ad.custom_vjp(ad.sin).defvjp(ad.sin, v),
    lambda v: ad.custom_jvp(ad.sin).defjvp(v),
    lambda v: ad.checkpoint(v),
    lambda v: ad.custom_root(v, ad.sin),
    lambda v: ad.custom_root(ad.sin, v),
    lambda v: ad.custom_fixed_point(v),
    lambda v: ad.host_op(v, shape=lambda x: x),
    lambda v: ad.host_op(np.sin, shape=v),
    lambda v: ad.linearize(v, X),
    lambda v: ad.taylor(v, (X,), (X,), 1),
    lambda v: ad.cond(True, v, ad.sin, X),
    lambda v: ad.cond(True, ad.sin, v, X),
    lambda v: ad.scan(v, X, X),
    lambda v: ad.while_loop(v, ad.sin, X),
    lambda v: ad.while_loop(lambda c: False, v, X),
    lambda v: ad.testing.check_grads(v, [X]),
    lambda v: ad.jacobian(v),
    lambda v: ad.hessian(v),
    lambda v: nn.Sequential(v),
]
OPTIONAL_FUNCTIONS = [
    lambda v: ad.host_op(np.sin, shape=lambda x: x, vjp=v),
    lambda v: ad.custom_root(ad.sin, ad.sin, linear_solve=v),
    lambda v: ad.custom_fixed_point(ad.cos, solver=v),
    lambda v: ad.custom_fixed_point(ad.cos, linear_solve=v),
]
MAPPINGS = [
    lambda v: nn.Linear(1, 1).load_state_dict(v),
    lambda v: optim.SGD([W]).load_state_dict(v),
]


def all_of(values, calls):
    return [case for call in calls for case in each(values, call)]


def given(values):
    return [value for value in values if value is not None]


@refused(
    TypeError,
    all_of(NO_FLAG, FLAGS),
    all_of(NO_NUMBER, NUMBERS),
    all_of(given(NO_NUMBER), TOLERANCES),
    all_of(NO_COUNT, COUNTS),
    all_of(given(NO_COUNT), OPTIONAL_COUNTS),
    all_of(NO_FUNCTION, FUNCTIONS),
    all_of(given(NO_FUNCTION), OPTIONAL_FUNCTIONS),
    all_of([5, "ab", None, X, [("weight", X)]], MAPPINGS),
    each(["x", None, True], lambda v: Generator(0).uniform((), v, 2.0)),
    each(["x", None, True], lambda v: Generator(0).normal((), 0.0, v)),
    each(["ab", 2.0, {2}, True, (2.0,)], lambda v: Generator(0).uniform(v)),
    each(["int64", "x", 3], lambda v: Generator(0).normal((), dtype=v)),
    each(["float32", "bool", "x"], lambda v: Generator(0).integers(3, dtype=v)),
    each([3, "x", {"a": X}, X, None], lambda v: ad.testing.check_grads(ad.sin, v)),
    each(["x", object()], lambda v: ad.testing.assert_close(1.0, v)),
    each(["x", [1.0], None], lambda v: optim.Adam().update(X, v)),
    each(["x", 3, {"a": 3}, [W, "x"], nn.Linear, object()], optim.SGD),
    each(["x", ad.int64, 3], lambda v: nn.Linear(1, 1, dtype=v)),
    each([0, "x", np.random.default_rng(0)], lambda v: nn.Linear(1, 1, generator=v)),
    each(["x", None], lambda v: nn.cross_entropy(v, ad.asarray([0]))),
    each(["x", None], lambda v: nn.mse_loss(X, v)),
    each([(3,), (3, "junk"), ("x",)], lambda v: nn.ReLU(*v)),
    each([(3,), (None,)], lambda v: nn.Tanh(*v)),
    each([{"x": 1}], lambda v: nn.ReLU(**v)),
)
def test_another_kind_is_a_type_error(value, call, kind):
    with pytest.raises(kind, match=r"^\["):
        call(value)


@refused(
    ValueError,
    all_of([-1.0, NAN, INF, np.float32(-1)], NUMBERS[:3]),
    all_of([-1.0, NAN, INF], NUMBERS[3:]),
    all_of([1, 1.5], [NUMBERS[3], *NUMBERS[5:7]]),
    all_of([-1.0, NAN], TOLERANCES),
    all_of([-1], COUNTS[:-2]),
    all_of([-1], OPTIONAL_COUNTS),
    all_of([0], COUNTS[:3]),
    each([3.0, NAN], lambda v: Generator(0).uniform((), v, 2.0)),
    each([-1.0, NAN], lambda v: Generator(0).normal((), 0.0, v)),
    each([9, 10], lambda v: Generator(0).integers(v, 9)),
    each([257, 2**70], lambda v: Generator(0).integers(0, v, dtype="uint8")),
    each([-1], lambda v: Generator(0).integers(v, 3, dtype="uint8")),
    each([2**63, 2**64], lambda v: Generator(0).integers(v)),
    each(["rev", [], (), ["x"], 3, None], lambda v: ad.testing.check_grads(ad.sin, [X], modes=v)),
    each([[], {}, (), iter(()), nn.ReLU()], optim.SGD),
    each([[X], X, {"a": [X]}, [W * 2.0], W[0], [ad.asarray(1)], [W, W]], optim.SGD),
    each([ad.ones(3), ad.ones(1), 1.0], lambda v: optim.Adam().update(v, optim.Adam().init(X))),
    each([ad.ones(1)], lambda v: optim.SGD(weight_decay=0.1).update(v, optim.SGD().init(X), X)),
    each(["gpu", "cpu:0", 0], lambda v: ad.__array_namespace_info__().dtypes(device=v)),
    each(["gpu"], lambda v: ad.__array_namespace_info__().default_dtypes(device=v)),
)
def test_another_value_is_a_value_error(value, call, kind):
    with pytest.raises(kind, match=r"^\["):
        call(value)


def test_numbers_of_every_library_are_numbers():
    for rate in (0.5, 1, np.float32(0.5), np.int64(1), ad.tensor(0.5), ad.tensor(1)):
        assert optim.SGD([W], learning_rate=rate).learning_rate == float(rate)
    assert nn.Linear(np.int32(2), ad.asarray(3)).weight.shape == (3, 2)
    assert Generator(np.uint64(3)).uniform(np.int64(2)).shape == (2,)
    assert Generator(3).uniform([2, np.int8(3)]).shape == (2, 3)


def test_parameters_may_come_in_any_iterable():
    for params in (W, [W], (W,), {"w": W}, {"w": [{"v": W}]}, {"w": W}.values(), iter([W])):
        assert "1 parameters" in repr(optim.SGD(params))


def test_an_update_keeps_the_dtype():
    with pytest.raises(TypeError, match="would change the dtype of a parameter"):
        optim.apply_updates(ad.ones(2, dtype=ad.float32), ad.ones(2))


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: g.uniform((2, -1)),
        lambda g: g.uniform("ab"),
        lambda g: g.uniform(2**62),
        lambda g: g.uniform(2, [1.0, 2.0, 3.0]),
        lambda g: g.uniform(2, object()),
        lambda g: g.uniform(2, dtype=ad.int64),
        lambda g: g.normal(2, 0.0, [1.0, 2.0, 3.0]),
        lambda g: g.normal((2,), {}),
        lambda g: g.integers(5, 5),
        lambda g: g.integers(5, shape=(2**40, 2**40)),
        lambda g: g.permutation(-1),
    ],
)
def test_a_draw_that_fails_uses_no_numbers(draw):
    generator = Generator(3)
    with pytest.raises((TypeError, ValueError, OverflowError, MemoryError)):
        draw(generator)
    assert generator.state.tolist() == [3, 0]
    assert generator.uniform(4).tolist() == Generator(3).uniform(4).tolist()
