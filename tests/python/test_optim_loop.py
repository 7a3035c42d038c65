"""The habit of a training loop: rates, groups, frozen and late parameters, snapshots, compiling."""

import copy
import pickle

import numpy as np
import pytest

import adjoint as ad
import optim_problems as op
from adjoint import optim

ALL = {
    "SGD": {"momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01},
    "Adagrad": {"learning_rate_decay": 0.1},
    "Adadelta": {},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adam": {"amsgrad": True},
    "AdamW": {"mask": np.ndim},
    "NAdam": {"decoupled_weight_decay": True, "weight_decay": 0.1},
    "RAdam": {},
    "Adamax": {},
    "Rprop": {},
    "Lion": {"weight_decay": 0.1},
}
each_optimizer = pytest.mark.parametrize("name", ALL)


def options(name):
    found = dict(ALL[name])
    if "mask" in found:
        found["mask"] = lambda p: p.ndim > 0
    return found


def leaf(*value, dtype=ad.float64):
    return ad.tensor(value[0] if len(value) == 1 else value, dtype=dtype, requires_grad=True)


def params():
    return [leaf(1.0, -2.0), leaf(0.5), leaf([[0.3, 0.2], [-0.7, 1.0]])]


def loss(ps, which=(0, 1, 2)):
    return sum(
        ad.sum((p - 0.25) ** 2 + 0.1 * ad.sin(3.0 * p)) for i, p in enumerate(ps) if i in which
    )


def train(opt, ps, which=(0, 1, 2)):
    opt.zero_grad()
    loss(ps, which).backward()
    opt.step()


def values(ps):
    return [p.tolist() for p in ps]


# ---- Learning rates ------------------------------------------------------------------------------


@each_optimizer
def test_the_rate_may_be_positional(name):
    cls = getattr(optim, name)
    one, two = params(), params()
    train(cls(one, 0.05), one)
    train(cls(two, learning_rate=0.05), two)
    assert values(one) == values(two)
    with pytest.raises(TypeError, match=rf"\[{name}\] the parameter is learning_rate=, not lr="):
        cls(params(), lr=0.1)
    with pytest.raises(TypeError, match=r"'learnin_rate', did you mean 'learning_rate'"):
        cls(params(), learnin_rate=0.1)


@pytest.mark.parametrize(
    ("name", "word", "ours"),
    [("Adam", "betas", "beta1= and beta2="), ("Rprop", "etas", "eta_minus= and eta_plus=")],
)
def test_other_words_for_pairs(name, word, ours):
    with pytest.raises(TypeError, match=rf"\[{name}\] the parameter is {ours}, not {word}="):
        getattr(optim, name)(**{word: (0.5, 1.2)})


@each_optimizer
def test_a_rate_of_zero_moves_nothing(name):
    ps = params()
    opt = getattr(optim, name)(ps, 0.0, **({"min_step": 0.0} if name == "Rprop" else {}))
    before = values(ps)
    for _ in range(3):
        train(opt, ps)
    assert values(ps) == before


def test_a_tensor_as_a_rate_is_read_at_each_step():
    w, rate = leaf(1.0), ad.tensor(0.5, dtype=ad.float32)
    opt = optim.SGD([w], rate)
    step = ad.compile(opt.step)
    w.grad = ad.tensor(1.0)
    step()
    rate.rebind_(ad.tensor(0.25, dtype=ad.float32))
    step()
    assert w.item() == 0.25 and opt.learning_rate == 0.25
    opt.learning_rate = 0.125
    opt.step()
    assert rate.item() == 0.125 and w.item() == 0.125
    opt.learning_rate = other = ad.tensor(1.0)
    assert opt.learning_rate == 1.0
    other.rebind_(ad.tensor(0.0))
    assert opt.learning_rate == 0.0


def test_a_rate_of_several_numbers_is_refused():
    for rate in (ad.ones(2), ad.ones(1), "0.1", None, [0.1]):
        with pytest.raises(TypeError, match=r"\[Adam\] learning_rate must be a real number"):
            optim.Adam([leaf(1.0)], rate)


@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["eager", "compiled"])
def test_a_schedule_counts_steps(wrap):
    w = leaf(0.0)
    opt = optim.SGD([w], lambda t: 1.0 / (t + 1.0))
    step = wrap(opt.step)
    w.grad = ad.tensor(-1.0)
    for done, total in enumerate([1.0, 1.5, 1.5 + 1.0 / 3.0]):
        assert opt.learning_rate == pytest.approx(1.0 / (done + 1.0))
        step()
        assert w.item() == pytest.approx(total, rel=1e-15)
    assert opt.state_dict()["calls"].item() == 3


def test_a_schedule_given_later_counts_from_then_and_keeps_the_state():
    w = leaf(0.0)
    opt = optim.SGD([w], 1.0, momentum=0.5)
    w.grad = ad.tensor(-1.0)
    opt.step()
    opt.learning_rate = lambda t: 10.0 ** (t + 1.0)
    opt.step()  # velocity -1.5
    assert w.item() == 1.0 + 15.0 and opt.learning_rate == 100.0
    opt.learning_rate = 2.0
    opt.step()  # velocity -1.75
    assert w.item() == 16.0 + 3.5 and "calls" not in opt.state_dict()


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        (lambda t: ad.ones(2), ValueError),
        (lambda t: "x", TypeError),
        (lambda t: ad.asarray(1), ValueError),
    ],
)
def test_a_schedule_must_give_one_number(schedule, error):
    w = leaf(1.0)
    good = leaf(1.0)
    opt = optim.SGD([{"params": [good]}, {"params": [w], "learning_rate": schedule}], 0.1)
    w.grad = good.grad = ad.tensor(1.0)
    with pytest.raises(error, match=r"^\[schedule\]"):
        opt.step()
    assert w.item() == good.item() == 1.0


# ---- Groups --------------------------------------------------------------------------------------


def test_groups_have_options_of_their_own():
    a, b = leaf(1.0), leaf(1.0)
    groups = [{"params": [a]}, {"params": b, "learning_rate": 0.5, "weight_decay": 0.5}]
    opt = optim.SGD(groups, 0.1)
    a.grad = b.grad = ad.tensor(1.0)
    opt.step()
    assert a.item() == pytest.approx(0.9) and b.item() == pytest.approx(1.0 - 0.5 * 1.5)
    assert [g["learning_rate"] for g in opt.param_groups] == [0.1, 0.5]
    assert [g["weight_decay"] for g in opt.param_groups] == [0.0, 0.5]
    assert opt.param_groups[0]["params"][0] is a and "momentum" in opt.param_groups[0]
    with pytest.raises(ValueError, match="learning rates of their own"):
        _ = opt.learning_rate
    opt.param_groups[1]["learning_rate"] = 0.1
    assert opt.learning_rate == pytest.approx(0.1)
    opt.learning_rate = 0.2
    assert [g.learning_rate for g in opt.param_groups] == [0.2, 0.2]
    assert set(opt.state_dict()) == {"0.learning_rate", "1.learning_rate"}


def test_options_of_a_group_change_and_the_state_stays():
    w = leaf(0.0)
    opt = optim.SGD([w], 1.0, momentum=0.5)
    w.grad = ad.tensor(-1.0)
    opt.step()
    opt.param_groups[0]["momentum"] = 0.25
    opt.step()
    assert w.item() == 1.0 + 1.25
    with pytest.raises(ValueError, match="make a new optimizer"):
        opt.param_groups[0]["momentum"] = 0.0
    with pytest.raises(ValueError, match=r"\[SGD\] momentum must lie in"):
        opt.param_groups[0]["momentum"] = 1.0
    with pytest.raises(TypeError, match="did you mean 'momentum'"):
        opt.param_groups[0]["momentun"] = 0.5
    assert opt.param_groups[0]["momentum"] == 0.25
    opt.step()
    assert w.item() == 2.25 + 1.3125


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (lambda w: [{"params": [w]}, {"param": [w]}], TypeError, "entry 1 of the groups has no"),
        (lambda w: [{"params": [w], "lr": 1.0}], TypeError, "learning_rate=, not lr="),
        (lambda w: [{"params": [w], "momentun": 1.0}], TypeError, "did you mean 'momentum'"),
        (lambda w: [{"params": [w]}, {"params": [w]}], ValueError, "given twice"),
        (lambda w: [{"params": []}], ValueError, "no parameters given"),
        (lambda w: [{"params": [w], "momentum": 2.0}], ValueError, "momentum must lie in"),
        (lambda w: [{"params": [w], "learning_rate": -1}], ValueError, "learning_rate must be"),
    ],
)
def test_bad_groups(groups, error, message):
    with pytest.raises(error, match=rf"^\[SGD\] .*{message}"):
        optim.SGD(groups(leaf(1.0)))


def test_a_group_added_later():
    a, b = leaf(1.0), leaf(1.0)
    opt = optim.SGD([a], 0.5)
    opt.add_param_group({"params": [b], "learning_rate": 0.25})
    a.grad = b.grad = ad.tensor(1.0)
    opt.step()
    assert (a.item(), b.item()) == (0.5, 0.75)
    with pytest.raises(ValueError, match="given twice"):
        opt.add_param_group({"params": [a]})
    with pytest.raises(TypeError, match="a dict with 'params' is needed"):
        opt.add_param_group([a])


def test_a_dict_named_params_is_a_tree_of_parameters():
    w = leaf(1.0)
    assert "1 parameters" in repr(optim.SGD({"params": w}))
    assert "2 groups" in repr(optim.SGD(iter([{"params": w}, {"params": leaf(1.0)}])))


# ---- Late and frozen parameters ------------------------------------------------------------------


@each_optimizer
@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["eager", "compiled"])
def test_a_late_parameter_moves_as_if_it_were_alone(name, wrap):
    """Whatever the others do: each has counts and moments of its own."""
    seen = [(0, 1, 2), (0,), (0, 2), (1,), (0, 1, 2), (0, 1, 2), (1, 2), (0, 1, 2)]
    ps, alone = params(), params()
    opt = getattr(optim, name)(ps, 0.05, **options(name))
    singles = [getattr(optim, name)([p], 0.05, **options(name)) for p in alone]

    def step(which):
        train(opt, ps, which)

    step = wrap(step)
    for which in seen:
        step(which)
        for i in which:
            train(singles[i], alone, (i,))
    for p, q in zip(ps, alone, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@each_optimizer
def test_frozen_parameters_and_their_state_are_left_alone(name):
    ps = params()
    opt = getattr(optim, name)(ps, 0.05, **options(name))
    train(opt, ps)
    ps[1].requires_grad_(False)
    kept = {k: v.tolist() for k, v in opt.state_dict().items() if k.endswith(".1")}
    before = ps[1].item()
    train(opt, ps)
    train(opt, ps)
    now = opt.state_dict()
    assert ps[1].item() == before and kept == {k: now[k].tolist() for k in kept}
    other = getattr(optim, name)(params(), 0.05, **options(name))
    other.load_state_dict(now)
    ps[1].requires_grad_()
    train(opt, ps)
    assert ps[1].item() != before


def test_steps_are_counted_per_parameter():
    ps = params()
    opt = optim.Adam(ps)
    for which in [(0, 1, 2), (0,), (0, 2)]:
        train(opt, ps, which)
    assert [opt.state_dict()[f"steps.{i}"].item() for i in range(3)] == [3, 1, 2]


# ---- Snapshots -----------------------------------------------------------------------------------


@each_optimizer
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["eager", "compiled"])
def test_save_load_and_go_on_bit_equal(name, late, wrap, tmp_path):
    ps = params()
    schedule = optim.cosine_schedule(0.05, steps=20)

    def make(ps):
        groups = [{"params": ps[:1], "learning_rate": schedule}, {"params": ps[1:]}]
        return getattr(optim, name)(groups, 0.05, **options(name))

    opt = make(ps)
    for i in range(5):
        train(opt, ps, (0, 2) if late and i < 3 else (0, 1, 2))
    ad.io.save(tmp_path / "opt.safetensors", opt.state_dict())
    copied = [ad.tensor(p.numpy(), requires_grad=True) for p in ps]
    other = make(copied)
    step = wrap(lambda: train(other, copied))
    train(other, copied)  # all together, before it takes over what is not
    with ad.no_grad():
        for p, q in zip(copied, ps, strict=True):
            p.rebind_(q)
    other.load_state_dict(ad.io.load(tmp_path / "opt.safetensors"))
    for _ in range(5):
        train(opt, ps)
        step()
        for p, q in zip(ps, copied, strict=True):
            np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert values(opt.state_dict().values()) == values(other.state_dict().values())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_go_on_alike_and_apart(clone):
    ps = params()
    opt = optim.AdamW(ps, optim.linear_schedule(0.1), weight_decay=0.1)
    train(opt, ps, (0, 2))
    other, copied = clone((opt, ps))
    train(opt, ps)
    before = values(copied)
    train(other, copied)
    assert values(ps) == values(copied) != before
    assert values(opt.state_dict().values()) == values(other.state_dict().values())


def test_a_bad_snapshot_of_a_schedule_changes_nothing():
    opt = optim.Adam([leaf(1.0)], optim.constant_schedule(0.1))
    good = opt.state_dict()
    with pytest.raises(KeyError, match=r"missing entries \['calls'\]"):
        opt.load_state_dict({k: v for k, v in good.items() if k != "calls"})
    rates = optim.SGD([leaf(1.0)])
    with pytest.raises(ValueError, match="learning_rate must be finite"):
        rates.load_state_dict({"learning_rate": ad.tensor(-1.0)})
    assert rates.learning_rate == 0.01


# ---- Derivatives ---------------------------------------------------------------------------------


def test_gradients_pass_through_an_update():
    """One step of descent on w**2, then the loss: (w - 2 r w)**2, by hand."""

    def after(rate, w):
        opt = optim.SGD(learning_rate=rate)
        grad = ad.grad(lambda p: p**2)(w)
        updates, _ = opt.update(grad, opt.init(w))
        return optim.apply_updates(w, updates) ** 2

    by_rate, by_weight = ad.grad(after, argnums=(0, 1))(ad.tensor(0.1), ad.tensor(3.0))
    assert by_rate.item() == pytest.approx(2 * (3.0 - 0.6) * -6.0)
    assert by_weight.item() == pytest.approx(2 * (3.0 - 0.6) * 0.8)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam"])
def test_gradients_through_several_steps_are_those_of_differences(name):
    def after(rate):
        opt = getattr(optim, name)(learning_rate=rate)
        w = {"w": ad.tensor([1.0, -2.0])}
        state = opt.init(w)
        for _ in range(4):
            grads = ad.grad(lambda p: ad.sum(ad.cosh(p["w"])))(w)
            updates, state = opt.update(grads, state, w)
            w = optim.apply_updates(w, updates)
        return ad.sum(ad.cosh(w["w"]))

    step = 1e-6
    by_difference = (after(0.1 + step).item() - after(0.1 - step).item()) / (2 * step)
    assert ad.grad(after)(ad.tensor(0.1)).item() == pytest.approx(by_difference, rel=1e-6)


def test_an_ensemble_by_vmap_is_each_by_itself():
    opt = optim.Adam(learning_rate=0.1)

    def train_one(w):
        state = opt.init(w)
        for _ in range(3):
            updates, state = opt.update(ad.grad(lambda v: ad.sum(v**4))(w), state, w)
            w = w + updates
        return w

    starts = ad.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, 0.1]])
    found = ad.vmap(train_one)(starts)
    for i in range(3):
        np.testing.assert_array_equal(found[i].numpy(), train_one(starts[i]).numpy())


# ---- Compiling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", range(len(op.SETTINGS)))
@pytest.mark.parametrize("problem", op.PROBLEMS)
def test_a_compiled_step_is_the_eager_one_for_100_steps(setting, problem):
    name, theirs = op.SETTINGS[setting]
    found = []
    for wrap in (lambda f: f, ad.compile):
        ps = [ad.tensor(s, requires_grad=True) for s in op.STARTS[problem]]
        opt = getattr(optim, name)(ps, **op.ours(theirs))

        def step(late, ps=ps, opt=opt):
            opt.zero_grad()
            when = op.LATE if late else 1
            op.objective(problem, ad, ad.tensor, ps, when, theirs).backward()
            opt.step()

        step = wrap(step)
        for i in range(1, op.STEPS + 1):
            step(i >= op.LATE)
        found.append(values([*ps, *opt.state_dict().values()]))
    assert found[0] == found[1]


@pytest.mark.parametrize("schedule", [s for s in optim.__all__ if s.endswith("_schedule")])
def test_a_compiled_step_with_a_schedule_is_the_eager_one(schedule):
    settings = {
        "cosine_restarts_schedule": {"steps": 5, "growth": 2},
        "cosine_schedule": {"steps": 30},
        "exponential_schedule": {"gamma": 0.9},
        "multi_step_schedule": {"milestones": [4, 9]},
        "one_cycle_schedule": {"steps": 40},
        "step_schedule": {"step_size": 6},
    }
    if schedule == "sequence_schedule":
        rate = optim.sequence_schedule(
            [optim.linear_schedule(0.1), optim.cosine_schedule(0.1, steps=20)], [5]
        )
    else:
        rate = getattr(optim, schedule)(0.1, **settings.get(schedule, {}))
    found = []
    for wrap in (lambda f: f, ad.compile):
        ps = params()
        opt = optim.AdamW(ps, rate)
        step = wrap(lambda ps=ps, opt=opt: train(opt, ps))
        for _ in range(50):
            step()
        found.append(values([*ps, *opt.state_dict().values()]))
    assert found[0] == found[1]


def test_float32_parameters_beside_float64_ones():
    ps = [leaf(1.0, -2.0, dtype=ad.float32), leaf(1.0, -2.0)]
    opt = optim.Adam(ps, 0.05, weight_decay=0.1)
    for _ in range(20):
        opt.zero_grad()
        (ad.sum(ps[0] ** 2) + ad.sum(ps[1] ** 2)).backward()
        opt.step()
    assert [p.dtype for p in ps] == [ad.float32, ad.float64]
    np.testing.assert_allclose(ps[0].numpy(), ps[1].numpy(), rtol=1e-5)
    assert opt.state_dict()["first.0"].dtype == ad.float32


def test_a_compiled_update_is_one_pass_over_a_parameter():
    """The numbers of a step are made first: no array waits for them outside of its group."""
    w = ad.tensor(np.ones(5000), requires_grad=True)
    w.grad = ad.ones(5000)
    step = ad.compile(optim.Adam([w], 0.5).step)
    step()
    assert step.program().stats()["groups"] == 2
    np.testing.assert_allclose(w.numpy(), 0.5, rtol=1e-7)
