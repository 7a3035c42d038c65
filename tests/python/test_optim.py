"""Optimizers against the formulas of their papers, iterated here in plain NumPy float64."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import adjoint as ad

START = {"w": np.array([[1.5, -2.0], [0.25, 3.0]]), "b": np.array([0.5, -1.0])}
# Each parameter is pulled towards its target with a curvature of its own per entry.
TARGET = {"w": np.array([[0.0, 1.0], [-1.0, 2.0]]), "b": np.array([2.0, 0.0])}
CURVATURE = {"w": np.array([[1.0, 4.0], [0.5, 2.0]]), "b": np.array([3.0, 0.1])}


def loss_of(params):
    terms = [
        ad.sum(
            ad.asarray(CURVATURE[k], dtype=p.dtype)
            * (p - ad.asarray(TARGET[k], dtype=p.dtype)) ** 2
        )
        for k, p in params.items()
    ]
    return terms[0] + terms[1]


def gradient_by_hand(values):
    return {k: 2.0 * CURVATURE[k] * (v - TARGET[k]) for k, v in values.items()}


def sgd_by_hand(steps, rate, momentum=0.0, nesterov=False, decay=0.0):
    values = {k: v.copy() for k, v in START.items()}
    velocity = {k: np.zeros_like(v) for k, v in START.items()}
    for _ in range(steps):
        for k, g in gradient_by_hand(values).items():
            g = g + decay * values[k]
            velocity[k] = momentum * velocity[k] + g
            direction = g + momentum * velocity[k] if nesterov else velocity[k]
            values[k] = values[k] - rate * direction
    return values


def adam_by_hand(steps, rate, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    values = {k: v.copy() for k, v in START.items()}
    m = {k: np.zeros_like(v) for k, v in START.items()}
    v = {k: np.zeros_like(v) for k, v in START.items()}
    for t in range(1, steps + 1):
        for k, g in gradient_by_hand(values).items():
            g = g + decay * values[k]
            m[k] = beta1 * m[k] + (1 - beta1) * g
            v[k] = beta2 * v[k] + (1 - beta2) * g**2
            m_hat, v_hat = m[k] / (1 - beta1**t), v[k] / (1 - beta2**t)
            values[k] = values[k] - rate * m_hat / (np.sqrt(v_hat) + eps)
    return values


CASES = [
    (ad.optim.SGD, sgd_by_hand, {}, {}),
    (ad.optim.SGD, sgd_by_hand, {"momentum": 0.9}, {"momentum": 0.9}),
    (
        ad.optim.SGD,
        sgd_by_hand,
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.8, "nesterov": True, "decay": 0.1},
    ),
    (ad.optim.Adam, adam_by_hand, {}, {}),
    (
        ad.optim.Adam,
        adam_by_hand,
        {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.2},
        {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "decay": 0.2},
    ),
]
IDS = ["sgd", "momentum", "nesterov-decay", "adam", "adam-settings"]
each_case = pytest.mark.parametrize(("cls", "by_hand", "settings", "hand_settings"), CASES, ids=IDS)


def make_params(dtype=None, requires_grad=True):
    dtype = ad.float64 if dtype is None else dtype
    return {k: ad.tensor(v, dtype=dtype, requires_grad=requires_grad) for k, v in START.items()}


def run_loop(params, opt, steps, step=None):
    def eager():
        opt.zero_grad()
        loss_of(params).backward()
        opt.step()

    for _ in range(steps):
        (step or eager)()


def assert_all_close(params, expected, rtol=1e-12, atol=1e-12):
    for k, p in params.items():
        np.testing.assert_allclose(p.numpy(), expected[k], rtol=rtol, atol=atol)


MODULES = [m.name for m in pkgutil.iter_modules(ad.optim.__path__) if not m.ispkg]
NO_EXAMPLES = {"groups"}  # of which only `Optimizer.param_groups` gives objects


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name):
    result = doctest.testmod(importlib.import_module(f"adjoint.optim.{name}"))
    assert result.failed == 0 and (result.attempted > 0 or name in NO_EXAMPLES)


@each_case
def test_loop_follows_the_paper(cls, by_hand, settings, hand_settings):
    params = make_params()
    run_loop(params, cls(params, learning_rate=0.05, **settings), 25)
    assert_all_close(params, by_hand(25, 0.05, **hand_settings))


@each_case
def test_pure_pair_follows_the_paper(cls, by_hand, settings, hand_settings):
    opt = cls(learning_rate=0.05, **settings)
    params = make_params(requires_grad=False)
    before = {k: p.numpy().copy() for k, p in params.items()}
    first, state = params, opt.init(params)
    for _ in range(25):
        updates, state = opt.update(ad.grad(loss_of)(params), state, params)
        params = ad.optim.apply_updates(params, updates)
    assert_all_close(params, by_hand(25, 0.05, **hand_settings))
    assert_all_close(first, before, rtol=0, atol=0)


@each_case
def test_float32_stays_float32(cls, by_hand, settings, hand_settings):
    params = make_params(ad.float32)
    opt = cls(params, learning_rate=0.05, **settings)
    run_loop(params, opt, 25)
    assert all(p.dtype == ad.float32 and p.requires_grad for p in params.values())
    assert_all_close(params, by_hand(25, 0.05, **hand_settings), rtol=2e-5, atol=2e-5)


@each_case
def test_compiled_step_gives_the_same_bits(cls, by_hand, settings, hand_settings):
    eager, compiled = make_params(), make_params()
    run_loop(eager, cls(eager, learning_rate=0.05, **settings), 10)
    opt = cls(compiled, learning_rate=0.05, **settings)

    @ad.compile
    def step():
        opt.zero_grad()
        loss_of(compiled).backward()
        opt.step()

    run_loop(compiled, opt, 10, step)
    for k in START:
        np.testing.assert_array_equal(compiled[k].numpy(), eager[k].numpy())
    assert_all_close(compiled, by_hand(10, 0.05, **hand_settings))


@each_case
def test_compiled_pure_step(cls, by_hand, settings, hand_settings):
    opt = cls(learning_rate=0.05, **settings)

    @ad.compile
    def step(params, state):
        updates, state = opt.update(ad.grad(loss_of)(params), state, params)
        return ad.optim.apply_updates(params, updates), state

    params = make_params(requires_grad=False)
    state = opt.init(params)
    for _ in range(10):
        params, state = step(params, state)
    assert_all_close(params, by_hand(10, 0.05, **hand_settings))


def test_first_adam_step_has_the_length_of_the_learning_rate():
    # m_hat = g and v_hat = g**2 at the first step, whatever the gradient.
    w = ad.tensor([10.0, -1e-3, 400.0], requires_grad=True)
    opt = ad.optim.Adam([w], learning_rate=0.5, eps=1e-30)
    ad.sum(w * ad.tensor([2.0, -5.0, 1e-6])).backward()
    opt.step()
    np.testing.assert_allclose(w.numpy(), [9.5, 0.499, 399.5], rtol=1e-12)


def test_eps_is_added_outside_the_square_root():
    w = ad.tensor(1.0, requires_grad=True)
    opt = ad.optim.Adam([w], learning_rate=1.0, eps=3.0)
    w.backward()
    opt.step()
    assert w.item() == pytest.approx(1.0 - 1.0 / (1.0 + 3.0), abs=1e-12)


def test_learning_rate_can_follow_a_schedule():
    w = ad.tensor(1.0, requires_grad=True)
    opt = ad.optim.SGD([w], learning_rate=0.5)

    @ad.compile
    def step():
        opt.zero_grad()
        w.backward()
        opt.step()

    step()
    assert w.item() == 0.5
    opt.learning_rate = 0.25
    step()
    assert w.item() == 0.25
    assert opt.learning_rate == 0.25


def test_parameters_keep_their_identity():
    w = ad.tensor([1.0, 2.0], requires_grad=True, name="weight")
    alias = w
    opt = ad.optim.SGD([w], learning_rate=1.0)
    ad.sum(w).backward()
    opt.step()
    assert alias is w and w.name == "weight" and w.requires_grad
    np.testing.assert_array_equal(alias.numpy(), [0.0, 1.0])


def test_variables_are_parameters():
    w = ad.Variable(10.0, name="x", trainable=True, dtype=ad.float32)
    opt = ad.optim.SGD([w], learning_rate=0.25)
    (w**2 + 1).backward()
    opt.step()
    assert isinstance(w, ad.Variable) and w.numpy() == np.float32(5.0)


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = (ad.tensor(1.0, requires_grad=True) for _ in range(2))
    opt = ad.optim.Adam([unused, used], learning_rate=0.1, weight_decay=0.5)
    (used * 3.0).backward()
    opt.step()
    assert unused.item() == 1.0
    assert used.item() == pytest.approx(0.9, abs=1e-7)
    snapshot = opt.state_dict()
    assert snapshot["first.0"].item() == 0.0
    assert snapshot["first.1"].item() == pytest.approx(0.1 * 3.5, rel=1e-12)


def test_zero_grad_forgets():
    w = ad.tensor(1.0, requires_grad=True)
    opt = ad.optim.SGD([w])
    (w * 2.0).backward()
    assert w.grad.item() == 2.0
    opt.zero_grad()
    assert w.grad is None


@each_case
def test_resuming_from_a_snapshot_changes_nothing(cls, by_hand, settings, hand_settings):
    params = make_params()
    opt = cls(params, learning_rate=0.05, **settings)
    run_loop(params, opt, 10)
    saved = opt.state_dict()
    resumed = {k: ad.tensor(p.numpy(), requires_grad=True) for k, p in params.items()}
    run_loop(params, opt, 5)

    other = cls(resumed, learning_rate=1.0, **settings)
    other.load_state_dict({name: value.numpy() for name, value in saved.items()})
    assert other.learning_rate == 0.05
    run_loop(resumed, other, 5)
    for k in START:
        np.testing.assert_array_equal(resumed[k].numpy(), params[k].numpy())


def test_a_bad_snapshot_changes_nothing():
    w = ad.tensor([1.0, 2.0], requires_grad=True)
    opt = ad.optim.Adam([w], learning_rate=0.1)
    good = opt.state_dict()
    with pytest.raises(KeyError, match=r"missing entries \['second.0'\]"):
        opt.load_state_dict({k: v for k, v in good.items() if k != "second.0"})
    with pytest.raises(KeyError, match=r"unknown entries \['third.0'\]"):
        opt.load_state_dict({**good, "third.0": good["first.0"]})
    with pytest.raises(ValueError, match=r"'second.0' has shape \(3,\), expected \(2,\)"):
        opt.load_state_dict({**good, "first.0": ad.ones(2), "second.0": ad.ones(3)})
    with pytest.raises(TypeError, match=r"'second\.0' has dtype"):
        wrong = ad.ones(2, dtype=ad.float32)
        opt.load_state_dict({**good, "first.0": ad.ones(2), "second.0": wrong})
    np.testing.assert_array_equal(opt.state_dict()["first.0"].numpy(), [0.0, 0.0])


@pytest.mark.parametrize("cls", [ad.optim.SGD, ad.optim.Adam])
@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_learning_rate_must_not_be_negative(cls, rate):
    with pytest.raises(
        ValueError, match=rf"\[{cls.__name__}\] learning_rate must be finite and not"
    ):
        cls(learning_rate=rate)
    opt = cls(learning_rate=0.5)
    with pytest.raises(
        ValueError, match=rf"\[{cls.__name__}\] learning_rate must be finite and not"
    ):
        opt.learning_rate = rate
    assert opt.learning_rate == 0.5


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (ad.optim.SGD, {"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        (ad.optim.SGD, {"nesterov": True}, "needs a momentum above 0"),
        (ad.optim.SGD, {"weight_decay": -0.1}, "weight_decay must be at least 0"),
        (ad.optim.Adam, {"beta1": -0.1}, "beta1 must lie in"),
        (ad.optim.Adam, {"beta2": 1.0}, "beta2 must lie in"),
        (ad.optim.Adam, {"eps": 0.0}, "eps must be positive"),
    ],
)
def test_settings_are_checked(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_parameters_are_checked():
    w = ad.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="no parameters given"):
        ad.optim.SGD([])
    with pytest.raises(TypeError, match=r"write Adam\(learning_rate=0.001\)"):
        ad.optim.Adam(1e-3)
    with pytest.raises(TypeError, match="parameter 1 is a float"):
        ad.optim.SGD([w, 1.0])
    with pytest.raises(ValueError, match=r"parameter 0 of shape .* does not require a gradient"):
        ad.optim.SGD([ad.tensor(1.0)])
    with pytest.raises(ValueError, match="given twice"):
        ad.optim.SGD([w, w])


def test_a_generator_of_parameters_is_taken():
    w = ad.tensor(1.0, requires_grad=True)
    assert "1 parameters" in repr(ad.optim.SGD(p for p in [w]))


def test_step_needs_parameters_and_gradients():
    with pytest.raises(RuntimeError, match="made without parameters"):
        ad.optim.SGD().step()
    with pytest.raises(RuntimeError, match=r"none of the 1 parameters .* loss.backward\(\) first"):
        ad.optim.SGD([ad.tensor(1.0, requires_grad=True)]).step()


@pytest.mark.parametrize("cls", [ad.optim.SGD, ad.optim.Adam])
def test_weight_decay_asks_for_the_parameters(cls):
    opt = cls(weight_decay=0.1)
    params = ad.tensor(1.0)
    with pytest.raises(ValueError, match="weight_decay needs params"):
        opt.update(ad.tensor(1.0), opt.init(params))


def test_updates_do_not_broadcast():
    with pytest.raises(ValueError, match=r"shape \(3,\) for a parameter of shape \(1,\)"):
        ad.optim.apply_updates(ad.ones(1), ad.ones(3))


@pytest.mark.parametrize("kind", ["list", "dict", "both"])
def test_parameters_in_a_container_that_contains_itself_are_refused(kind):
    weight = ad.tensor([1.0], requires_grad=True)
    entries, named = [weight], {"w": weight}
    if kind != "dict":
        entries.append(entries if kind == "list" else named)
    if kind != "list":
        named["self"] = named if kind == "dict" else [entries]
    with pytest.raises(ValueError, match=r"\[SGD\] a \w+ among the parameters contains itself"):
        ad.optim.SGD(entries if kind == "list" else named)
    twice = [[weight]] * 2
    with pytest.raises(ValueError, match="given twice"):
        ad.optim.SGD(twice)


def test_parameters_that_are_no_containers_of_tensors():
    class Endless:
        def __iter__(self):
            return iter([Endless()])

    matrix = np.ones((1, 2)).view(np.matrix)  # its rows are matrices
    for given in (matrix, np.ones((2, 2)), "weights", b"weights", [np.ones(2)]):
        with pytest.raises(TypeError, match=r"\[Adam\] parameter 0 is a \w+, not a Tensor"):
            ad.optim.Adam(given)
    with pytest.raises(TypeError, match=r"\[Adam\] the entries of a Endless .* without end"):
        ad.optim.Adam(Endless())
    deep = w = ad.Variable(1.0)
    for _ in range(10_000):
        deep = [deep]
    assert ad.optim.Adam(deep).state_dict()["learning_rate"].item() == 0.001
    assert w.trainable
