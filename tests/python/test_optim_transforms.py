"""Transforms and chains, Lion, and bad input, against formulas written out here in NumPy."""

import numpy as np
import pytest

import adjoint as ad
from adjoint import optim

TREE = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array([0.3, -0.4])}


def tensors(tree=None):
    return {k: ad.tensor(v) for k, v in (tree or TREE).items()}


def arrays(tree):
    return {k: v.numpy() for k, v in tree.items()}


def assert_trees(found, wanted, rtol=1e-14):
    for k, value in wanted.items():
        np.testing.assert_allclose(found[k].numpy(), value, rtol=rtol, atol=1e-15)


def updates_of(rule, grads=None, params=None, calls=1):
    params = params or tensors()
    state = rule.init(params)
    for _ in range(calls):
        updates, state = rule.update(grads or tensors(), state, params)
    return updates


# ---- Single transforms ---------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_clip_by_norm_is_of_all_entries_together(ord, bound):
    every = np.concatenate([v.ravel() for v in TREE.values()])
    factor = min(1.0, bound / (np.linalg.norm(every, ord) + 1e-6))
    found = updates_of(optim.clip_by_norm(bound, ord))
    assert_trees(found, {k: v * factor for k, v in TREE.items()})


def test_clip_grad_norm_is_that_of_a_loop():
    a, b = (ad.tensor(v, requires_grad=True) for v in TREE.values())
    unused = ad.tensor(1.0, requires_grad=True)
    a.grad, b.grad = ad.tensor(TREE["w"]), ad.tensor(TREE["b"], dtype=ad.float64)
    norm = np.sqrt(sum((v**2).sum() for v in TREE.values()))
    assert optim.clip_grad_norm([a, b, unused], 0.5).item() == pytest.approx(norm, rel=1e-14)
    np.testing.assert_allclose(a.grad.numpy(), TREE["w"] * 0.5 / (norm + 1e-6), rtol=1e-14)
    assert unused.grad is None and optim.clip_grad_norm([unused], 1.0).item() == 0.0


def test_clip_by_value():
    found = updates_of(optim.clip_by_value(0.4))
    assert_trees(found, {k: np.clip(v, -0.4, 0.4) for k, v in TREE.items()})


MASKS = {
    "function": lambda p: p.ndim > 1,
    "tree": {"w": True, "b": False},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("place", ["before", "after", "alone"])
def test_decay_by_a_mask(mask, place):
    decay = optim.add_decayed_weights(0.1, mask)
    rate = optim.scale_by_learning_rate(0.5)
    kept = {"w": 0.1 * TREE["w"], "b": 0.0 * TREE["b"]}
    if place == "alone":
        wanted = {k: v + kept[k] for k, v in TREE.items()}
        assert_trees(updates_of(decay), wanted)
    elif place == "before":
        wanted = {k: -0.5 * (v + kept[k]) for k, v in TREE.items()}
        assert_trees(updates_of(optim.chain(decay, rate)), wanted)
    else:
        wanted = {k: -0.5 * (np.clip(v, -0.4, 0.4) + kept[k]) for k, v in TREE.items()}
        assert_trees(updates_of(optim.chain(optim.clip_by_value(0.4), decay, rate)), wanted)


def test_a_decay_keeps_its_scale_wherever_it_stands():
    """The factor at the end of a chain meets gradients once, whichever rules let it through."""
    decay, rate = optim.add_decayed_weights(0.1), optim.scale_by_learning_rate(0.5)
    wanted = {k: -0.5 * (v + 0.1 * v + 0.1 * v) for k, v in TREE.items()}
    for rule in (
        optim.chain(decay, optim.add_decayed_weights(0.1), rate),
        optim.chain(optim.chain(decay), optim.chain(optim.add_decayed_weights(0.1), rate)),
        optim.chain(decay, optim.scale(-0.5), optim.add_decayed_weights(0.1)),
    )[:2]:
        assert_trees(updates_of(rule), wanted)
    inner = optim.chain(decay, optim.scale(-0.5), optim.add_decayed_weights(0.1))
    assert_trees(updates_of(inner), {k: -0.5 * 1.1 * v + 0.1 * v for k, v in TREE.items()})
    outer = optim.chain(optim.accumulate(decay, 1), rate)
    assert_trees(updates_of(outer), {k: -0.5 * 1.1 * v for k, v in TREE.items()})


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.scale_by_adam(amsgrad=True),
        lambda: optim.scale_by_adamax(),
        lambda: optim.scale_by_nadam(),
        lambda: optim.scale_by_radam(0.9, 0.5),
        lambda: optim.scale_by_adagrad(learning_rate_decay=0.1),
        lambda: optim.scale_by_adadelta(),
        lambda: optim.scale_by_rms(centered=True),
        lambda: optim.scale_by_rprop(0.1),
        lambda: optim.scale_by_lion(),
        lambda: optim.trace(0.5, nesterov=True),
        lambda: optim.trace(0.5, dampening=0.5),
        lambda: optim.clip_by_norm(1.0),
        lambda: optim.clip_by_value(0.4),
        lambda: optim.accumulate(optim.trace(0.5), 2),
    ],
)
def test_a_rule_scaled_is_its_updates_scaled(make, scaled):
    """What a rule does with the factor it is handed is what a multiplication would do."""
    plain = updates_of(make(), calls=4)
    number = optim.scale(-0.25)
    rule = optim.chain(make(), number, number) if scaled else optim.chain(make(), number)
    factor = 0.0625 if scaled else -0.25
    wanted = {k: factor * v for k, v in arrays(plain).items()}
    assert_trees(updates_of(rule, calls=4), wanted, rtol=1e-14)


def test_lion_follows_the_paper():
    values = {k: v.copy() for k, v in TREE.items()}
    moment = {k: np.zeros_like(v) for k, v in TREE.items()}
    opt = optim.Lion(learning_rate=0.01, beta1=0.8, beta2=0.95, weight_decay=0.1)
    params = tensors()
    state = opt.init(params)
    for step in range(30):
        grads = {k: np.cos(v + 0.3 * step) for k, v in values.items()}
        updates, state = opt.update(tensors(grads), state, params)
        params = optim.apply_updates(params, updates)
        for k, g in grads.items():
            direction = np.sign(0.8 * moment[k] + (1 - 0.8) * g) + 0.1 * values[k]
            values[k] = values[k] - 0.01 * direction
            moment[k] = 0.95 * moment[k] + (1 - 0.95) * g
    assert_trees(params, values, rtol=1e-12)


# ---- Accumulation --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("average", [True, False])
def test_accumulation_steps_by_the_mean(wrap, average):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((12, 3))
    rule = optim.accumulate(optim.Adam(learning_rate=0.1), 3, average=average)
    w, plain = (ad.tensor(np.ones(3), requires_grad=True) for _ in range(2))
    opt, reference = optim.Optimizer([w], rule), optim.Adam([plain], 0.1)
    step = wrap(opt.step)
    for i, g in enumerate(gradients):
        w.grad = ad.tensor(g)
        before = w.tolist()
        step()
        if i % 3 < 2:
            assert w.tolist() == before
    for group in gradients.reshape(4, 3, 3):
        plain.grad = ad.tensor(group.mean(axis=0) if average else group.sum(axis=0))
        reference.step()
    np.testing.assert_allclose(w.numpy(), plain.numpy(), rtol=1e-12)
    assert opt.state_dict()["inner.steps.0"].item() == 4 and opt.state_dict()["calls"].item() == 12
    assert opt.learning_rate == 0.1
    opt.learning_rate = 0.0
    before = w.tolist()
    for _ in range(3):
        step()
    assert w.tolist() == before
    with pytest.raises(ValueError, match=r"^\[Optimizer\] .* make a new chain"):
        opt.learning_rate = optim.constant_schedule(0.1)


def test_accumulation_with_a_schedule_counts_steps_of_the_rule():
    rule = optim.accumulate(optim.SGD(learning_rate=lambda t: 10.0**t), 2)
    w = ad.tensor(0.0)
    state = rule.init(w)
    found = []
    for _ in range(6):
        updates, state = rule.update(ad.tensor(-1.0), state)
        found.append(updates.item())
    assert found == [0.0, 1.0, 0.0, 10.0, 0.0, 100.0]


# ---- Chains --------------------------------------------------------------------------------------


def test_a_chain_of_an_optimizer_and_of_objects_with_a_pair():
    class Halve:
        """As another library's pair of functions."""

        def init(self, params):
            return [ad.zeros_like(p) for p in params]

        def update(self, grads, state, params=None):
            return [0.5 * g for g in grads], [s + 1.0 for s in state]

    w = ad.tensor([2.0, 4.0], requires_grad=True)
    opt = optim.Optimizer([w], optim.chain(Halve(), optim.SGD(learning_rate=0.5)))
    w.grad = ad.tensor([4.0, 8.0])
    opt.step()
    assert w.tolist() == [1.0, 2.0] and opt.learning_rate == 0.5
    assert [v.tolist() for k, v in opt.state_dict().items() if k != "learning_rate"] == [[1.0, 1.0]]


def test_equal_names_in_a_chain_are_told_apart():
    w = ad.tensor(1.0, requires_grad=True)
    rule = optim.chain(optim.scale_by_adam(), optim.scale_by_radam(), optim.scale(-0.1))
    names = set(optim.Optimizer([w], rule).state_dict())
    assert {"0.steps.0", "1.steps.0", "0.first.0", "1.second.0"} <= names


def test_an_empty_chain_gives_the_gradients():
    assert_trees(updates_of(optim.chain()), TREE)


@pytest.mark.parametrize(
    ("given", "hint"),
    [(3, "int without init"), (optim.Adam, r"write Adam\(\.\.\.\)"), (None, "NoneType")],
)
def test_what_a_chain_does_not_take(given, hint):
    with pytest.raises(TypeError, match=rf"^\[chain\] transform 1 .*{hint}"):
        optim.chain(optim.scale(1.0), given)
    with pytest.raises(TypeError, match=r"^\[(accumulate|Optimizer)\]"):
        optim.accumulate(given, 2)
    with pytest.raises(TypeError, match=r"^\[Optimizer\]"):
        optim.Optimizer([ad.tensor(1.0, requires_grad=True)], given)


# ---- Bad input -----------------------------------------------------------------------------------

P = ad.ones(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.trace(1.0),
        lambda: optim.trace(0.5, dampening=1.5),
        lambda: optim.trace(0.5, dampening=0.5, nesterov=True),
        lambda: optim.scale(float("nan")),
        lambda: optim.clip_by_norm(0.0),
        lambda: optim.clip_by_norm(1.0, 0.5),
        lambda: optim.clip_by_norm(1.0, float("nan")),
        lambda: optim.clip_by_value(-1.0),
        lambda: optim.accumulate(optim.trace(0.5), 0),
        lambda: optim.scale_by_rprop(0.1, 1.5),
        lambda: optim.scale_by_rprop(0.1, 0.5, 0.9),
        lambda: optim.scale_by_rprop(0.1, min_step=1.0, max_step=0.5),
        lambda: optim.scale_by_rms(1.5),
        lambda: optim.add_decayed_weights(0.1, {"w": True}).init([P, P]),
        lambda: optim.add_decayed_weights(0.1).update(P, ()),
        lambda: optim.Adam().update([P, P], optim.Adam().init([P])),
        lambda: optim.constant_schedule(-1.0),
        lambda: optim.linear_schedule(1.0, steps=0),
        lambda: optim.multi_step_schedule(1.0, milestones=[3, 1]),
        lambda: optim.sequence_schedule([optim.constant_schedule(1.0)], [3]),
        lambda: optim.sequence_schedule([], []),
        lambda: optim.one_cycle_schedule(1.0, steps=5, warmup=0.1),
        lambda: optim.one_cycle_schedule(1.0, steps=1),
        lambda: optim.WeightAverage(decay=1.0),
        lambda: optim.ReduceOnPlateau(factor=1.0),
        lambda: optim.ReduceOnPlateau(mode="most"),
        lambda: optim.ReduceOnPlateau().update(P, optim.ReduceOnPlateau().init(), 0.1),
        lambda: optim.ReduceOnPlateau(optim.SGD([ad.Variable(1.0)], optim.constant_schedule(1.0))),
    ],
)
def test_a_bad_value_is_a_value_error(call):
    with pytest.raises(ValueError, match=r"^\["):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.scale("x"),
        lambda: optim.accumulate(optim.trace(0.5), 2.0),
        lambda: optim.add_decayed_weights(0.1, [1, 0]),
        lambda: optim.Adam().update(P, ()),
        lambda: optim.chain(optim.trace(0.5), optim.scale_by_adam()).update(P, ()),
        lambda: optim.scale_by_adam(amsgrad="yes"),
        lambda: optim.step_schedule(1.0, step_size=2.5),
        lambda: optim.multi_step_schedule(1.0, milestones=3),
        lambda: optim.sequence_schedule([1.0], []),
        lambda: optim.constant_schedule(1.0)("x"),
        lambda: optim.ReduceOnPlateau(optim.SGD),
        lambda: optim.WeightAverage().update(P, ()),
        lambda: optim.Optimizer([ad.Variable(1.0)]),
    ],
)
def test_a_bad_kind_is_a_type_error(call):
    with pytest.raises(TypeError, match=r"^\["):
        call()


def test_what_was_made_without_parameters_says_so():
    for call in (
        optim.Adam().step,
        optim.Adam().zero_grad,
        optim.Adam().state_dict,
        optim.WeightAverage().step,
        lambda: optim.ReduceOnPlateau().step(1.0),
    ):
        with pytest.raises(RuntimeError, match=r"^\[.*made without"):
            call()


# ---- Averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [None, 0.9])
def test_an_average_goes_on_from_a_file(decay, tmp_path):
    w = ad.tensor([1.0, 2.0], requires_grad=True)
    average = optim.WeightAverage([w], decay=decay)
    opt = optim.SGD([w], 0.1)

    def train():
        opt.zero_grad()
        ad.sum(w**2).backward()
        opt.step()
        average.step()

    for _ in range(3):
        train()
    ad.io.save(tmp_path / "average", average.state_dict())
    other = optim.WeightAverage([w], decay=decay)
    other.load_state_dict(ad.io.load(tmp_path / "average"))
    opt.step()
    average.step()
    other.step()
    assert average.average[0].tolist() == other.average[0].tolist()
    assert not average.average[0].requires_grad


def test_an_average_is_left_after_an_error_too():
    w = ad.tensor(1.0, requires_grad=True)
    average = optim.WeightAverage([w])
    average.step()
    with ad.no_grad():
        w.rebind_(ad.tensor(5.0))
    with pytest.raises(ZeroDivisionError), average.swapped():
        assert w.item() == 1.0
        raise ZeroDivisionError
    assert w.item() == 5.0


def test_a_pure_average_is_that_of_the_loop():
    average = optim.WeightAverage(decay=0.5)
    state = average.init({"w": ad.tensor(7.0)})
    for value in (1.0, 2.0, 4.0):
        mean, state = average.update({"w": ad.tensor(value)}, state)
    assert mean["w"].item() == 0.5 * (0.5 * 1.0 + 0.5 * 2.0) + 0.5 * 4.0


def test_the_cosine_with_restarts_begins_each_period_exactly():
    for steps, growth in [(1, 2), (3, 2), (7, 3), (5, 10), (1, 7)]:
        schedule = optim.cosine_restarts_schedule(1.0, steps=steps, growth=growth)
        begin, before, length = 0, 0, steps
        while begin < 10**9:
            assert schedule(begin).item() == 1.0
            if begin:
                last = 0.5 * (1.0 + np.cos(np.pi * (before - 1) / before))
                assert schedule(begin - 1).item() == pytest.approx(last, abs=1e-12)
            begin, before, length = begin + length, length, length * growth
