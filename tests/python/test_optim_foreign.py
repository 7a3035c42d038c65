"""What enters the optimizers from elsewhere: trees, transforms of one's own, shared rules."""

import numpy as np
import pytest

import adjoint as ad
from adjoint import optim

STATES = [
    lambda: optim.SGD(learning_rate=0.5, momentum=0.5, dampening=0.25),
    lambda: optim.Adam(learning_rate=0.5, amsgrad=True),
    lambda: optim.AdamW(learning_rate=0.5, weight_decay=0.5, mask={"b": False, "w": True}),
    lambda: optim.NAdam(learning_rate=0.5),
    lambda: optim.RMSprop(learning_rate=0.5, centered=True, momentum=0.5),
    lambda: optim.Rprop(learning_rate=0.5),
    lambda: optim.Lion(learning_rate=optim.constant_schedule(0.5)),
    lambda: optim.accumulate(optim.Adam(learning_rate=0.5), 2),
]


def two(*values, **more):
    return [ad.tensor(v, requires_grad=True, **more) for v in (values or (0.0, 0.0))]


# ---- Trees are matched by their keys -------------------------------------------------------------


@pytest.mark.parametrize("make", STATES)
def test_keys_in_another_order_are_the_same_tree(make):
    rule = make()
    params = {"w": ad.tensor([1.0, 2.0]), "b": ad.tensor(3.0)}
    grads = {"w": ad.tensor([0.1, -0.2]), "b": ad.tensor(0.3)}
    turned = {"b": grads["b"], "w": grads["w"]}
    state = other = rule.init(params)
    for _ in range(3):
        wanted, state = rule.update(grads, state, params)
        found, other = rule.update(turned, other, params)
        assert list(found) == ["b", "w"]
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key].numpy(), value.numpy())
        # The state keeps the order that it had, as a loop over it needs.
        assert ad.tree.structure(other) == ad.tree.structure(state)


def test_an_average_takes_parameters_in_another_order():
    average = optim.WeightAverage()
    state = average.init({"w": ad.tensor(1.0), "b": ad.tensor(2.0)})
    for w, b in ((1.0, 2.0), (3.0, 6.0)):
        found, state = average.update({"b": ad.tensor(b), "w": ad.tensor(w)}, state)
    assert (found["w"].item(), found["b"].item()) == (2.0, 4.0)
    assert list(state.average) == ["w", "b"]
    with pytest.raises(ValueError, match=r"average of shape .* where parameters have shape"):
        average.update({"w": ad.ones(2), "b": ad.tensor(1.0)}, state)


def test_the_mean_of_integers_is_one():
    average = optim.WeightAverage()
    state = average.init({"n": ad.tensor(3), "f": ad.tensor(True)})
    for n, f in ((5, True), (8, False)):
        mean, state = average.update({"n": ad.tensor(n), "f": ad.tensor(f)}, state)
    assert (mean["n"].item(), mean["f"].item(), mean["n"].dtype) == (6.5, 0.5, ad.float64)


@pytest.mark.parametrize("kind", [optim.AdamW, optim.Lion])
def test_a_mask_is_matched_by_its_keys(kind):
    params = {"w": ad.tensor(2.0), "b": ad.tensor(2.0)}
    zero = {"w": ad.tensor(0.0), "b": ad.tensor(0.0)}

    def update(mask):
        opt = kind(learning_rate=0.1, weight_decay=0.5, mask=mask)
        return {k: v.item() for k, v in opt.update(zero, opt.init(params), params)[0].items()}

    for mask in ({"w": True, "b": False}, {"b": False, "w": True}):
        assert update(mask) == {"w": -0.1, "b": 0.0}
        ws = {k: ad.tensor(2.0, requires_grad=True) for k in params}
        opt = kind(ws, 0.1, weight_decay=0.5, mask=mask)
        for w in ws.values():
            w.grad = ad.tensor(0.0)
        opt.step()
        assert (ws["w"].item(), ws["b"].item()) == (1.9, 2.0)
    for wrong in ({"weight": True, "bias": False}, (False, (True,)), [True, False], {"w": True}):
        with pytest.raises(ValueError, match="give bools structured as the parameters"):
            update(wrong)


@pytest.mark.parametrize("mask", [[False, True], (False, True)])
def test_a_mask_of_an_iterator_is_a_list(mask):
    a, b = two(1.0, 1.0)
    opt = optim.AdamW(iter([a, b]), 0.5, weight_decay=0.5, mask=mask)
    a.grad = b.grad = ad.tensor(0.0)
    opt.step()
    assert (a.item(), b.item()) == (1.0, 0.75)
    with pytest.raises(ValueError, match="give bools structured as the parameters"):
        optim.AdamW(iter(two()), mask={"a": True, "b": False})


def test_what_a_mask_returns_is_a_bool():
    w = ad.tensor(1.0, requires_grad=True)
    opt = optim.AdamW([w], mask=lambda p: "no")
    w.grad = ad.tensor(0.0)
    with pytest.raises(TypeError, match="what mask returns must be True or False"):
        opt.step()


# ---- A transform of one's own --------------------------------------------------------------------


class Momentum:
    """A decaying sum, with a state of a given shape."""

    def __init__(self, wrap=lambda m: {"m": m}, unwrap=lambda s: s["m"]):
        self.wrap, self.unwrap = wrap, unwrap

    def init(self, params):
        return self.wrap([ad.zeros_like(p) for p in params])

    def update(self, grads, state, params=None):
        m = [0.5 * a + g for a, g in zip(self.unwrap(state), grads, strict=True)]
        return m, self.wrap(m)


SHAPES = {
    "dict": (lambda m: {"m": m}, lambda s: s["m"]),
    "list": (lambda m: m, lambda s: s),
    "nested": (lambda m: {"deep": ({"m": m}, ad.tensor(1.0))}, lambda s: s["deep"][0]["m"]),
    "of three": (lambda m: [m, ad.tensor(1), None], lambda s: s[0]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_parameter_without_gradient_keeps_its_part_of_any_state(shape):
    a, b = two()
    rule = optim.chain(Momentum(*SHAPES[shape]), optim.scale_by_learning_rate(1.0))
    opt = optim.Optimizer([a, b], rule)
    velocities, places = np.zeros(2), np.zeros(2)
    for grads in ((1.0, 10.0), (None, 10.0), (2.0, None), (1.0, 1.0)):
        for i, (p, g) in enumerate(zip((a, b), grads, strict=True)):
            p.grad = None if g is None else ad.tensor(g)
            if g is not None:
                velocities[i] = 0.5 * velocities[i] + g
                places[i] -= velocities[i]
        opt.step()
    assert [a.item(), b.item()] == places.tolist()


def test_what_is_kept_where_nobody_finds_it_is_an_error():
    linear = ad.nn.Linear(1, 1)
    a, b = two()

    class Hidden:
        def init(self, params):
            return linear

        def update(self, grads, state, params=None):
            return grads, state

    opt = optim.Optimizer([a, b], optim.chain(Hidden()))
    a.grad = b.grad = ad.tensor(1.0)
    opt.step()
    b.grad = None
    with pytest.raises(TypeError, match="not found in a Linear"):
        opt.step()


class Counted:
    """Counts, from a number of Python's."""

    def init(self, params):
        return 0

    def update(self, grads, state, params=None):
        return [g * 0.5**state for g in grads], state + 1


def test_a_number_is_a_state():
    (w,) = (ad.tensor(0.0, requires_grad=True),)
    opt = optim.Optimizer([w], optim.chain(Counted(), optim.scale(-1.0)))
    for _ in range(3):
        w.grad = ad.tensor(1.0)
        opt.step()
    assert w.item() == -1.75


class Wrong:
    def __init__(self, updates=None, state=None, init=()):
        self.updates, self.state, self.begun = updates, state, init

    def init(self, params):
        return self.begun

    def update(self, grads, state, params=None):
        updates = grads if self.updates is None else self.updates(grads)
        return updates, state if self.state is None else self.state


WRONGS = {
    "few": (Wrong(lambda g: g[:1]), ValueError, "1 updates for 2 gradients"),
    "many": (Wrong(lambda g: [*g, g[0]]), ValueError, "3 updates for 2 gradients"),
    "shape": (Wrong(lambda g: [g[0], g[1] * ad.ones(3)]), ValueError, "update 1 must be like"),
    "dtype": (Wrong(lambda g: [g[0], ad.astype(g[1], ad.float32)]), ValueError, "dtypes float32"),
    "no list": (Wrong(lambda g: dict(enumerate(g))), TypeError, "updates must be a list"),
    "structure": (Wrong(None, {"m": ad.tensor(1.0)}), ValueError, "must keep its structure"),
    "state": (Wrong(None, [ad.ones(2)], [ad.ones(3)]), ValueError, "must keep its shape"),
    "state dtype": (Wrong(None, 0.5, 1), ValueError, "dtypes int64 and float64"),
}


@pytest.mark.parametrize("case", WRONGS)
@pytest.mark.parametrize("around", [lambda t: t, lambda t: optim.accumulate(optim.chain(t), 1)])
def test_a_wrong_transform_is_an_error_and_nothing_moves(case, around):
    wrong, error, text = WRONGS[case]
    a, b = two()
    opt = optim.Optimizer([a, b], optim.chain(around(wrong), optim.scale(-1.0)))
    before = {k: v.numpy().copy() for k, v in opt.state_dict().items()}
    a.grad = b.grad = ad.tensor(1.0)
    with pytest.raises(error, match=rf"\[Wrong.update\].*{text}"):
        opt.step()
    assert (a.item(), b.item()) == (0.0, 0.0)
    for key, value in opt.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])


@pytest.mark.parametrize("state", ["a text", [object()]])
def test_a_state_that_holds_no_tensors_is_named(state):
    with pytest.raises(TypeError, match=r"\[Wrong.init\] the state must be a pytree of tensors"):
        optim.Optimizer(two(), optim.chain(Wrong(init=state)))


def test_update_must_return_two_things():
    class One(Wrong):
        def update(self, grads, state, params=None):
            return grads

    rule = optim.chain(One())
    with pytest.raises(TypeError, match=r"\[One.update\] must return \(updates, state\)"):
        rule.update(ad.tensor(1.0), rule.init(ad.tensor(1.0)))


# ---- The same thing at two places ----------------------------------------------------------------

TWICE = {
    "trace": lambda: optim.trace(0.5),
    "adam": lambda: optim.scale_by_adam(),
    "rms": lambda: optim.scale_by_rms(),
    "own": lambda: Momentum(),
    "accumulate": lambda: optim.accumulate(optim.trace(0.5), 2),
    "rate": lambda: optim.scale_by_learning_rate(lambda t: 1.0 / (1.0 + t)),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_transform_may_stand_twice_in_a_chain(name):
    once = TWICE[name]()
    rules = [optim.chain(once, once), optim.chain(TWICE[name](), TWICE[name]())]
    found = []
    for rule in rules:
        params = [ad.tensor([1.0, 2.0]), ad.tensor(3.0)]
        state, out = rule.init(params), []
        for k in range(5):
            updates, state = rule.update([ad.tensor([1.0, -k]), ad.tensor(2.0 * k)], state, params)
            out += [u.tolist() for u in updates]
        found.append(out)
    assert found[0] == found[1]


def test_momentum_twice_by_hand():
    t = optim.trace(0.5)
    rule = optim.chain(t, t)
    state, out = rule.init(ad.tensor(0.0)), []
    for _ in range(3):
        u, state = rule.update(ad.tensor(1.0), state)
        out.append(u.item())
    assert out == [1.0, 2.0, 2.75]


RULES = {
    "rule": lambda: optim.chain(optim.trace(0.9), optim.scale_by_learning_rate(0.1)),
    "optimizer": lambda: optim.SGD(learning_rate=0.1),
    "deep": lambda: optim.chain(optim.accumulate(optim.SGD(learning_rate=0.1), 1)),
}


@pytest.mark.parametrize("name", RULES)
def test_optimizers_of_one_rule_have_rates_of_their_own(name):
    rule = RULES[name]()
    a, b = two()
    one, other = optim.Optimizer([a], rule), optim.Optimizer([b], rule)
    saved = one.state_dict()
    one.learning_rate = 0.5
    assert (one.learning_rate, other.learning_rate) == (0.5, 0.1)
    assert rule.update(ad.tensor(1.0), rule.init(a))[0].item() == -0.1
    other.load_state_dict(one.state_dict())
    assert other.learning_rate == 0.5
    one.load_state_dict(saved)
    assert (one.learning_rate, other.learning_rate) == (0.1, 0.5)
    groups = optim.Optimizer([{"params": [a]}, {"params": [b]}], rule)
    groups.param_groups[0]["learning_rate"] = 0.25
    assert [g["learning_rate"] for g in groups.param_groups] == [0.25, 0.1]


def test_a_tensor_of_the_callers_stays_the_rate_of_all():
    rate = ad.tensor(0.1)
    a, b = two()
    rule = optim.chain(optim.scale_by_learning_rate(rate))
    optimizers = [optim.Optimizer([a], rule), optim.Optimizer([b], rule)]
    rate.rebind_(ad.tensor(0.7))
    assert [opt.learning_rate for opt in optimizers] == [0.7, 0.7]


@pytest.mark.parametrize("value", [0.5, ad.tensor(0.5), optim.constant_schedule(0.5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_rate_that_is_assigned_is_that_of_the_pure_pair(value, groups):
    params = two()
    given = params if groups == 1 else [{"params": [p]} for p in params]
    opt = optim.SGD(given, 0.1)
    opt.learning_rate = value
    zero = ad.tensor(0.0)
    assert opt.update(ad.tensor(1.0), opt.init(zero))[0].item() == -0.5
    assert opt.rule.update(ad.tensor(1.0), opt.rule.init(zero))[0].item() == -0.5
    assert opt.learning_rate == 0.5


def test_the_rate_of_the_only_group_is_that_of_the_pure_pair():
    opt = optim.SGD(two(), 0.1)
    opt.param_groups[0]["learning_rate"] = 0.5
    assert opt.update(ad.tensor(1.0), opt.init(ad.tensor(0.0)))[0].item() == -0.5
    opt.param_groups[0]["weight_decay"] = 0.5
    with pytest.raises(ValueError, match="needs params"):
        opt.update(ad.tensor(1.0), ())
    assert opt.update(ad.tensor(1.0), (), ad.tensor(2.0))[0].item() == -1.0


# ---- Rates that change ---------------------------------------------------------------------------


def test_a_plateau_lowers_the_rates_that_there_are():
    a, b = two()
    opt = optim.SGD([a], 1.0)
    plateau = optim.ReduceOnPlateau(opt, factor=0.5, patience=0)
    opt.add_param_group({"params": [b]})
    for _ in range(3):
        plateau.step(1.0)
    assert [g["learning_rate"] for g in opt.param_groups] == [0.25, 0.25]
    for group in opt.param_groups:
        group["learning_rate"] = ad.tensor(1.0)
    plateau.step(1.0)
    assert [g["learning_rate"] for g in opt.param_groups] == [0.5, 0.5]
    before = [v.item() for v in plateau.state_dict().values()]
    opt.param_groups[1]["learning_rate"] = optim.constant_schedule(0.1)
    with pytest.raises(ValueError, match="a schedule as its learning rate"):
        plateau.step(1.0)
    assert opt.param_groups[0]["learning_rate"] == 0.5
    assert [v.item() for v in plateau.state_dict().values()] == before


BAD_RATES = [lambda t: -0.1, lambda t: float("nan"), lambda t: float("inf"), lambda t: -t - 1.0]


@pytest.mark.parametrize("schedule", BAD_RATES)
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.Rprop, optim.Lion])
def test_a_schedule_below_zero_is_an_error_and_nothing_moves(schedule, kind):
    w = ad.tensor(1.0, requires_grad=True)
    opt = kind([w], schedule)
    w.grad = ad.tensor(1.0)
    with pytest.raises(ValueError, match="what it returns must be finite and not negative"):
        opt.step()
    assert w.item() == 1.0


def test_a_schedule_is_asked_for_its_size_in_no_trace():
    opt = optim.SGD(learning_rate=lambda t: 1.0 / (1.0 + t))
    step = ad.compile(lambda g, s: opt.update(g, s))
    state, out = opt.init(ad.tensor(0.0)), []
    for _ in range(3):
        update, state = step(ad.tensor(1.0), state)
        out.append(update.item())
    assert out == [-1.0, -0.5, -1.0 / 3.0]


def test_the_rate_is_read_at_its_own_count():
    w = ad.tensor(0.0, requires_grad=True)
    inner = optim.accumulate(optim.trace(0.5), 2)
    warmup = optim.linear_schedule(1.0, start=0.0, steps=10)
    rule = optim.chain(
        optim.scale_by_learning_rate(warmup),
        optim.accumulate(optim.chain(optim.trace(0.5), inner), 3),
    )
    opt = optim.Optimizer([w], rule)
    deep = optim.Optimizer([w], optim.accumulate(optim.SGD(learning_rate=warmup), 2))
    for k in range(5):
        assert opt.learning_rate == pytest.approx(k / 10)
        assert deep.learning_rate == pytest.approx((k // 2) / 10)
        w.grad = ad.tensor(1.0)
        opt.step()
        deep.step()


@pytest.mark.parametrize("average", [True, False])
def test_a_parameter_that_is_left_out_keeps_its_gradients_for_a_mean(average):
    a, b = two()
    rule = optim.accumulate(optim.SGD(learning_rate=1.0), 2, average=average)
    opt = optim.Optimizer([a, b], rule)
    for ga, gb in ((1.0, 1.0), (3.0, None), (1.0, 2.0), (1.0, 6.0), (None, 5.0), (2.0, 7.0)):
        a.grad = None if ga is None else ad.tensor(ga)
        b.grad = None if gb is None else ad.tensor(gb)
        opt.step()
    if average:  # a: (1 + 3) / 2, (1 + 1) / 2, 2;  b: (1 + 2 + 6) / 3, (5 + 7) / 2
        assert (a.item(), b.item()) == (-5.0, -9.0)
    else:
        assert (a.item(), b.item()) == (-8.0, -21.0)


# ---- Numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("ord", [1.0, 2.0, float("inf")])
def test_gradients_that_are_not_finite_make_all_updates_nan(bad, ord):
    grads = [ad.tensor([bad, 1.0, 0.0]), ad.tensor(2.0, dtype=ad.float32)]
    updates, _ = optim.clip_by_norm(1.0, ord).update(grads, ())
    ws = [ad.tensor(g.tolist(), dtype=g.dtype, requires_grad=True) for g in grads]
    for w, g in zip(ws, grads, strict=True):
        w.grad = g
    assert not np.isfinite(optim.clip_grad_norm(ws, 1.0, ord).item())
    for found in (*updates, *(w.grad for w in ws)):
        assert np.isnan(found.numpy()).all()


def test_the_norm_of_large_gradients_is_one():
    updates, _ = optim.clip_by_norm(1.0).update([ad.tensor([3e200, 4e200])], ())
    np.testing.assert_allclose(updates[0].numpy(), [0.6, 0.8], rtol=1e-14)


def test_the_bound_of_a_norm_is_that_of_the_function():
    with pytest.raises(ValueError, match=r"\[clip_grad_norm\] max_norm must be positive"):
        optim.clip_grad_norm(two(), -1.0)


@pytest.mark.parametrize("dtype", [ad.float32, ad.float64])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9])
def test_a_constant_gradient_has_a_variance_of_zero_and_not_below(dtype, alpha):
    """In exact numbers s_t - m_t**2 = g**2 alpha**t (1 - alpha**t)."""
    g, eps, rate, exact = 0.3, 1e-3, 1e-3, 0.0
    w = ad.tensor(0.0, dtype=dtype, requires_grad=True)
    opt = optim.RMSprop([w], rate, centered=True, alpha=alpha, eps=eps)
    for t in range(1, 101):
        w.grad = ad.tensor(g, dtype=dtype)
        opt.step()
        exact -= rate * g / (g * np.sqrt(alpha**t * (1.0 - alpha**t)) + eps)
    assert w.item() == pytest.approx(exact, rel=0.3 if dtype == ad.float32 else 1e-3)


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSprop])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_an_option_may_be_a_tensor_of_one_number(kind, momentum):
    moved = []
    for given in (momentum, ad.tensor(momentum)):
        w = ad.tensor(1.0, requires_grad=True)
        opt = kind([w], 0.1, momentum=given, weight_decay=ad.tensor(0.25))
        for _ in range(3):
            w.grad = ad.tensor(1.0)
            opt.step()
        moved.append(w.item())
    assert moved[0] == moved[1]


def test_the_parameters_of_a_group_are_no_list_to_change():
    params = two()
    group = optim.Adam(params).param_groups[0]
    assert group["params"] == group.params and isinstance(group["params"], tuple)


REPRS = [
    *("scale(-2)", "scale_by_learning_rate(0.1)", "clip_by_value(1)", "clip_by_norm(1, ord=2)"),
    "scale_by_rprop(eta_minus=0.5, eta_plus=1.2, min_step=1e-06, max_step=50.0)",
    "scale_by_adam(beta1=0.9, beta2=0.999, eps=1e-08, amsgrad=False)",
    "scale_by_adamax(beta1=0.9, beta2=0.999, eps=1e-08)",
    "scale_by_nadam(beta1=0.9, beta2=0.999, eps=1e-08, momentum_decay=0.004)",
    "scale_by_radam(beta1=0.9, beta2=0.999, eps=1e-08)",
    "scale_by_adagrad(learning_rate_decay=0.0, initial_accumulator_value=0.0, eps=1e-10)",
    "scale_by_adadelta(rho=0.9, eps=1e-06)",
    "scale_by_rms(alpha=0.99, eps=1e-08, centered=False)",
    "scale_by_lion(beta1=0.9, beta2=0.99)",
    "trace(momentum=0.9, dampening=0.0, nesterov=False)",
    "add_decayed_weights(0.1)",
]


@pytest.mark.parametrize("text", REPRS)
def test_what_a_transform_shows_makes_it(text):
    assert repr(eval(text, vars(optim))) == text


@pytest.mark.parametrize(
    ("beta2", "eps", "decay"), [(0.999, 1e-8, 0.004), (0.0, 1e-3, 0.5), (0.9, 1e-4, 0.0)]
)
def test_the_product_of_nadam_is_float64(beta2, eps, decay):
    """Dozat's formulas in NumPy; with a product in float32 they are 1e-11 off, and more."""
    beta1, rate, slopes = 0.9, 0.002, np.array([2.0, 1.0])
    w = ad.tensor([3.0, -2.0], requires_grad=True)
    opt = optim.NAdam([w], rate, beta1=beta1, beta2=beta2, eps=eps, momentum_decay=decay)
    x, m, v, product = np.array([3.0, -2.0]), np.zeros(2), np.zeros(2), 1.0
    for t in range(1, 101):
        w.grad = ad.asarray(w.numpy() * slopes)
        opt.step()
        g = x * slopes
        now, after = (beta1 * (1.0 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
        product *= now
        m, v = beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * g**2
        mixed = (1.0 - now) * g / (1.0 - product) + after * m / (1.0 - product * after)
        x = x - rate * mixed / (np.sqrt(v / (1.0 - beta2**t)) + eps)
    np.testing.assert_allclose(w.numpy(), x, rtol=1e-13)
