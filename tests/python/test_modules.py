"""What a module holds: parameters wherever they sit, buffers, sharing, loops, copies."""

import collections
import copy
import dataclasses
import functools
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjoint as ad
from adjoint import nn


def leaf(*values):
    return ad.tensor(values or (1.0,), requires_grad=True)


class Net(nn.Module):
    """Takes its attributes by keyword."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return x


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Options:
    scale: Any
    note: str = "kept"


@dataclasses.dataclass(frozen=True)
class Fixed:
    scale: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    scale: Any


class Numbers(list):
    pass


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


ad.tree.register(Point, lambda p: ((p.x, p.y), None), lambda _, xy: Point(*xy))


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class WithSlot(Net):
    __slots__ = ("w",)


class Running(nn.Module):
    """Subtracts a running mean and counts its calls."""

    def __init__(self, size=2, dtype=None):
        self.scale = ad.tensor(np.ones(size), dtype=dtype, requires_grad=True)
        self.register_buffer("mean", ad.zeros(size, dtype=dtype))
        self.register_buffer("calls", ad.asarray(0))

    def forward(self, x):
        if self.training:
            with ad.no_grad():
                self.mean = 0.5 * self.mean + 0.5 * ad.mean(x, axis=0)
                self.calls += 1
        return self.scale * (x - self.mean)


def names(module):
    return [name for name, _ in module.named_parameters()]


# ---- Where a parameter can sit -------------------------------------------------------------------

PLACES = {
    "attribute": (lambda w: w, "a"),
    "list": (lambda w: [1, w], "a.1"),
    "tuple": (lambda w: (w, None), "a.0"),
    "dict": (lambda w: {"w": w, "f": ad.tanh}, "a.w"),
    "dict of ints": (lambda w: {7: w}, "a.7"),
    "ordered dict": (lambda w: collections.OrderedDict(w=w), "a.w"),
    "default dict": (lambda w: collections.defaultdict(list, w=w), "a.w"),
    "list class": (lambda w: Numbers([w]), "a.0"),
    "named tuple": (lambda w: Pair(3, w), "a.right"),
    "dataclass": (lambda w: Options(w), "a.scale"),
    "frozen dataclass": (lambda w: Fixed(w), "a.scale"),
    "dataclass with slots": (lambda w: Slotted(w), "a.scale"),
    "registered": (lambda w: Point(2.0, w), "a.1"),
    "nested": (lambda w: [{"x": ({"y": Pair([w], 1)},)}], "a.0.x.0.y.left.0"),
    "module": (lambda w: Net(w=w), "a.w"),
    "module in list": (lambda w: [[Net(w=w)], ad.tanh], "a.0.0.w"),
    "module in dict": (lambda w: {"f": ad.tanh, "m": Net(w=[w])}, "a.m.w.0"),
    "module in dataclass": (lambda w: Options(Net(w=w)), "a.scale.w"),
}
each_place = pytest.mark.parametrize("place", PLACES)


@each_place
def test_a_parameter_is_found_wherever_it_sits(place):
    put, name = PLACES[place]
    w = leaf(1.0, 2.0)
    net = Net(a=put(w))
    assert [p is w for p in net.parameters()] == [True]
    assert names(net) == [name] == list(net.state_dict())
    assert ad.tree.leaves(net) == [w] or ad.tree.leaves(net)[0] is w
    net.load_state_dict({name: np.array([5.0, 6.0])})
    assert w.tolist() == [5.0, 6.0]
    net.requires_grad_(False)
    assert names(net) == [name] == list(net.state_dict()) and not w.requires_grad
    assert ad.tree.leaves(net) == []


@each_place
def test_a_pytree_of_the_module_is_put_together_alike(place):
    put, name = PLACES[place]
    net = Net(a=put(leaf(1.0, 2.0)), setting=[1, 2], other="x")
    doubled = ad.tree.map(lambda p: 2.0 * p, net)
    assert type(doubled.a) is type(net.a)
    assert names(doubled) == [name] == names(net)
    assert next(doubled.parameters()).tolist() == [2.0, 4.0]
    assert next(net.parameters()).tolist() == [1.0, 2.0]
    assert ad.tree.structure(doubled) == ad.tree.structure(net)
    numbers = ad.tree.map(lambda p: 0, doubled)
    assert ad.tree.leaves(numbers) == [0]
    assert ad.tree.structure(numbers) == ad.tree.structure(net)
    net.setting.append(3)
    assert ad.tree.structure(doubled) == ad.tree.structure(net)  # one list: nothing varies in it
    net.setting = [1, 2]
    assert ad.tree.structure(doubled) != ad.tree.structure(net)


@each_place
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("frozen", [False, True])
def test_copies_keep_the_parameter(place, duplicate, frozen):
    put, name = PLACES[place]
    net = Net(a=put(leaf(1.0, 2.0)))
    net.requires_grad_(not frozen)
    twin = duplicate(net)
    assert names(twin) == [name]
    [w], [v] = net.parameters(), twin.parameters()
    assert v is not w and v.tolist() == [1.0, 2.0] and v.requires_grad is not frozen
    assert len(ad.tree.leaves(twin)) == (not frozen)


def test_a_shallow_copy_shares_handles_and_registers_for_itself():
    net = Running()
    twin = copy.copy(net)
    assert twin.scale is net.scale and twin.mean is net.mean
    twin.register_buffer("more", ad.zeros(1))
    del twin.calls
    assert [n for n, _ in twin.named_buffers()] == ["mean", "more"]
    assert [n for n, _ in net.named_buffers()] == ["mean", "calls"]


def test_attributes_in_slots_of_the_class_are_found():
    net = WithSlot(w=leaf(3.0))
    assert names(net) == ["w"] == names(copy.copy(net)) == names(copy.deepcopy(net))
    assert ad.tree.map(lambda p: 2 * p, net).w.tolist() == [6.0]


def test_what_is_no_leaf_is_no_parameter():
    class Keeps(Net):
        def forward(self, x):
            self.hidden = ad.tanh(x * self.w)
            self.trace = [self.hidden, {"again": self.hidden}]
            return ad.sum(self.hidden)

    net = Keeps(w=leaf(1.0, 2.0))
    for run in (
        net,
        lambda x: ad.grad(lambda m: m(x))(net),
        ad.grad(net),
        ad.vmap(net),
        lambda x: ad.jvp(net, (x,), (x,)),
    ):
        run(ad.ones(2) if run is net else ad.ones((2, 2)))
        assert names(net) == ["w"] == list(net.state_dict())
        assert [n for n, _ in net.named_buffers()] == []
        assert len(ad.tree.leaves(net)) == 1


def test_a_compiled_function_may_keep_activations():
    class Keeps(Net):
        def forward(self, x):
            self.hidden = ad.tanh(x * self.w)
            return ad.sum(self.hidden)

    net = Keeps(w=leaf(1.0, 2.0))
    step = ad.compile(lambda x: net(x))
    for _ in range(2):
        assert step(ad.ones(2)).item() == pytest.approx(np.tanh([1.0, 2.0]).sum())
        assert names(net) == ["w"] == list(net.state_dict())


def test_a_tensor_becomes_a_parameter_when_it_requires_grad():
    net = Net(a=ad.ones(2), more=[ad.ones(1)])
    assert names(net) == []
    net.a.requires_grad_()
    net.more[0].requires_grad_()
    assert names(net) == ["a", "more.0"]
    net.a.requires_grad_(False)
    assert names(net) == ["a", "more.0"]


def test_parameters_are_replaced_deleted_and_set_to_none():
    net = Net(a=leaf(1.0), b=leaf(2.0))
    other = leaf(3.0)
    net.a = other
    assert [p is other for p in net.parameters()] == [True, False]
    net.a = None
    assert names(net) == ["b"]
    del net.b
    assert names(net) == []
    net.b = [leaf(4.0)]
    net.b = {"x": Net(w=leaf(5.0))}
    assert names(net) == ["b.x.w"]


@pytest.mark.parametrize(
    "value", [lambda w: 2.0 * w, lambda w: w.detach(), lambda w: 1.0, lambda w: [], np.ones]
)
def test_a_parameter_is_not_lost_by_assignment(value):
    net = Net(w=leaf(1.0))
    w = net.w
    new = value(w) if value is not np.ones else np.ones(1)
    with pytest.raises(TypeError, match=r"'w' is a parameter and would become .* none.*rebind_"):
        net.w = new
    assert net.w is w and names(net) == ["w"]
    del net.w
    net.w = new
    assert names(net) == []


def test_gradients_in_a_module_may_be_changed():
    net = Net(a=leaf(1.0), b=[leaf(2.0)])
    gradient = ad.grad(lambda m: ad.sum(m.a**2 + m.b[0] ** 2))(net)
    gradient.a = 0.5 * gradient.a
    assert names(gradient) == ["a", "b.0"]
    assert [x.tolist() for x in ad.tree.leaves(gradient)] == [[1.0], [4.0]]


# ---- What cannot be registered -------------------------------------------------------------------

HIDING = {
    "set": lambda w: {Net(w=w)},
    "frozenset": lambda w: frozenset({Net(w=w)}),
    "deque": lambda w: collections.deque([w]),
    "object": lambda w: Plain(w=w),
    "object with a list": lambda w: Plain(ws=[{"w": w}]),
    "object with a module": lambda w: Plain(layer=Net(w=w)),
    "partial": lambda w: functools.partial(ad.multiply, w),
    "mapping": lambda w: type(vars(Plain))({"w": w}),
    "object in a list": lambda w: [1, Plain(w=w)],
    "registered with a module": lambda w: Point(1.0, Net(w=w)),
}
USES = {
    "parameters": lambda m: list(m.parameters()),
    "state_dict": lambda m: m.state_dict(),
    "load": lambda m: m.load_state_dict({}, strict=False),
    "tree": ad.tree.leaves,
    "grad": lambda m: ad.grad(lambda m: ad.sum(ad.ones(1)))(m),
    "optimizer": ad.optim.SGD,
    "average": ad.optim.WeightAverage,
    "requires_grad_": lambda m: m.requires_grad_(False),
}


@pytest.mark.parametrize("hiding", HIDING)
@pytest.mark.parametrize("use", USES)
def test_a_parameter_that_would_be_left_out_raises(hiding, use):
    net = Net(inner=Net(a=HIDING[hiding](leaf(1.0))), other=leaf(1.0))
    with pytest.raises(TypeError, match=r"\[Net\] inner\.a.* holds .* would be no parameter"):
        USES[use](net)


def test_a_parameter_of_the_class_raises():
    class Shared(Net):
        w = leaf(1.0)

    with pytest.raises(TypeError, match=r"Shared\.w is a tensor .* assign it in __init__"):
        list(Shared().parameters())
    assert names(Shared(w=leaf(2.0))) == ["w"]


def test_objects_that_refer_to_parameters_found_elsewhere_are_fine():
    net = Net(w=leaf(1.0), layers=[Net(w=leaf(2.0))])
    net.optimizer = ad.optim.SGD(net.parameters())
    net.plateau = ad.optim.ReduceOnPlateau(net.optimizer)
    net.average = ad.optim.WeightAverage(net.parameters())
    net.tape = ad.GradientTape()
    net.layers[0].trainer = Plain(model=net, ws=[net.w])
    net.layers[0].act = functools.partial(ad.clip, min=0.0)
    net.f = lambda x: x * net.w
    net.array, net.thing = np.ones(3), object()
    assert names(net) == ["w", "layers.0.w"]
    del net.layers[0].trainer.ws
    assert names(net.layers[0]) == ["w"]  # the object leads to a parent, which leaves nothing out


def test_a_container_that_holds_itself_raises():
    loop = [leaf(1.0)]
    loop.append(loop)
    with pytest.raises(ValueError, match="holds itself"):
        Net(a=loop)


def test_two_tensors_of_one_name_raise():
    net = Net(a={"b": leaf(1.0)})
    setattr(net, "a.b", leaf(2.0))
    with pytest.raises(ValueError, match=r"two tensors have the name 'a\.b'"):
        net.state_dict()
    with pytest.raises(ValueError, match=r"two tensors have the name 'a\.1'"):
        Net(a={"1": leaf(1.0), 1: leaf(2.0)}).state_dict()


# ---- Sharing and loops ---------------------------------------------------------------------------


def shared_net():
    w, inner = leaf(1.0, 2.0), Net(w=leaf(3.0, 4.0))
    ws = [w]
    net = Net(a=w, b=[w, {"c": w}], first=inner, second=inner, ws=ws, alias=ws)
    net.forward = None
    del net.forward
    return net


@pytest.mark.parametrize(
    "rebuilt",
    [
        lambda m: ad.tree.map(lambda p: 2.0 * p, m),
        lambda m: ad.tree.map(lambda p: 0, m),
        lambda m: ad.tree.map(lambda p: 2.0 * p, ad.tree.map(lambda p: 0.5, m)),
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: copy.deepcopy(ad.tree.map(lambda p: 0, m)),
        ad.grad(lambda m: ad.sum(m.a * m.first.w)),
    ],
)
def test_sharing_survives(rebuilt):
    net = rebuilt(shared_net())
    assert net.a is net.b[0] is net.b[1]["c"] is net.ws[0]
    assert net.first is net.second and net.ws is net.alias
    assert len(ad.tree.leaves(net)) == 2
    assert ad.tree.structure(net) == ad.tree.structure(ad.tree.map(lambda p: p, net))


def test_the_gradient_of_a_shared_parameter_is_the_sum_once():
    net = shared_net()

    def loss(m):
        return ad.sum(3.0 * m.a + m.b[0] ** 2 + m.ws[0] * m.b[1]["c"] + m.first.w * m.second.w)

    gradient = ad.grad(loss)(net)
    by_hand = [3.0 + 4.0 * np.array([1.0, 2.0]), 2.0 * np.array([3.0, 4.0])]
    assert [x.tolist() for x in ad.tree.leaves(gradient)] == [g.tolist() for g in by_hand]
    assert gradient.a is gradient.ws[0] and gradient.first is gradient.second
    loss(net).backward()
    assert [p.grad.tolist() for p in net.parameters()] == [g.tolist() for g in by_hand]
    ad.optim.SGD(net.parameters(), learning_rate=1.0).step()
    assert net.a.tolist() == [1.0 - by_hand[0][0], 2.0 - by_hand[0][1]]


def test_shared_modules_have_each_of_their_names_in_the_state():
    net = shared_net()
    assert names(net) == ["a", "first.w"]
    state = net.state_dict()
    assert list(state) == ["a", "b.0", "b.1.c", "ws.0", "alias.0", "first.w", "second.w"]
    assert [m for m in net.modules()] == [net, net.first]
    assert [name for name, _ in net.children()] == ["first", "second"]
    net.load_state_dict({name: 2.0 * value for name, value in state.items()})
    assert net.second.w.tolist() == [6.0, 8.0]
    before = {name: value.tolist() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"'first.w' and 'second.w' are one tensor"):
        net.load_state_dict({**state, "second.w": ad.zeros(2)})
    assert {name: value.tolist() for name, value in net.state_dict().items()} == before


def ring(count):
    """A parent whose children know it, their neighbours and all of their siblings."""
    root = Net(layers=[Net(w=leaf(float(i))) for i in range(count)])
    for i, child in enumerate(root.layers):
        child.parent = root
        child.next = root.layers[(i + 1) % count]
        child.siblings = root.layers
        child.others = [c for c in root.layers if c is not child]
    return root


def test_modules_may_refer_to_each_other():
    root = ring(12)
    assert len(list(root.modules())) == 13 and len(names(root)) == 12 == len(root.state_dict())
    assert root.eval().layers[3].training is False
    assert "Net(...)" in repr(root)
    gradient = ad.grad(lambda m: ad.sum(m.layers[2].w * m.layers[1].next.parent.layers[5].w))(root)
    assert gradient.layers[2].w.tolist() == [5.0] and gradient.layers[5].w.tolist() == [2.0]
    assert gradient.layers[4].parent is gradient and gradient.layers[0].siblings is gradient.layers
    twin = copy.deepcopy(root)
    assert twin.layers[7].next.parent is twin and len(twin.state_dict()) == 12
    assert ad.tree.structure(gradient) == ad.tree.structure(twin)
    names_of_child = names(root.layers[0])
    assert len(names_of_child) == 12 and names_of_child[0] == "w"


def test_a_pointer_to_the_parent_changes_no_name():
    root = Net(layers=[Net(w=leaf(1.0)), Net(w=leaf(2.0))])
    for child in root.layers:
        child.parent = root
    assert list(root.state_dict()) == ["layers.0.w", "layers.1.w"]


def test_deep_modules_do_not_recurse():
    net = Net(w=leaf(1.0))
    for _ in range(5000):
        net = Net(inner=net)
    assert len(list(net.modules())) == 5001
    assert len(names(net)) == 1 and len(net.state_dict()) == 1
    assert len(ad.tree.leaves(ad.tree.map(lambda p: 2.0 * p, net))) == 1
    assert repr(net.eval()).count("Net(") == 5001
    while hasattr(net, "inner"):  # or freeing it recurses
        net = net.inner


def test_the_order_is_own_first_then_submodules():
    net = Net(first=Net(w=leaf(1.0), v=leaf(2.0)), own=leaf(3.0), last=[Net(w=leaf(4.0))])
    assert names(net) == ["own", "first.w", "first.v", "last.0.w"] == list(net.state_dict())
    assert [x.item() for x in ad.tree.leaves(net)] == [3.0, 1.0, 2.0, 4.0]
    assert [m is n for m, n in zip(net.modules(), [net, net.first, net.last[0]], strict=True)]


# ---- Freezing ------------------------------------------------------------------------------------


def test_frozen_parameters_stay_and_are_skipped():
    net = Net(a=leaf(1.0), ws=[leaf(2.0), leaf(3.0)])
    net.ws[0].requires_grad_(False)
    kept = net.ws[0]
    assert names(net) == ["a", "ws.0", "ws.1"] == list(net.state_dict())
    assert len(ad.tree.leaves(net)) == 2
    doubled = ad.tree.map(lambda p: 2.0 * p, net)
    assert doubled.ws[0] is kept and names(doubled) == ["a", "ws.0", "ws.1"]
    gradient = ad.grad(lambda m: ad.sum(m.a * m.ws[0] * m.ws[1]))(net)
    assert [g.tolist() for g in ad.tree.leaves(gradient)] == [[6.0], [2.0]]
    assert net.requires_grad_() is net and len(ad.tree.leaves(net)) == 3


def test_freezing_reaches_what_was_only_just_assigned():
    w = leaf(1.0)
    net = Net(ws=[w])
    w.requires_grad_(False)
    assert names(net) == ["ws.0"]


@pytest.mark.parametrize("cls", [ad.optim.SGD, ad.optim.Adam])
@pytest.mark.parametrize("given", [lambda m: m, lambda m: m.parameters(), lambda m: [m]])
def test_optimizers_skip_what_is_frozen_until_it_is_thawed(cls, given):
    net = Net(a=leaf(1.0), b=leaf(1.0), unused=leaf(1.0))
    net.b.requires_grad_(False)
    opt = cls(given(net), learning_rate=0.1)

    def step():
        opt.zero_grad()
        ad.sum(net.a * net.b).backward()
        opt.step()

    step()
    assert net.a.item() == pytest.approx(0.9) and net.b.item() == 1.0
    net.b.requires_grad_()
    step()
    assert net.b.item() < 1.0
    frozen_at = net.a.item()
    ad.sum(net.a * net.b).backward()
    net.a.requires_grad_(False)  # with a gradient from before
    before = net.b.item()
    opt.step()
    assert net.a.item() == frozen_at and net.b.item() < before and net.unused.item() == 1.0
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


# ---- Buffers -------------------------------------------------------------------------------------


def test_buffers_are_state_and_no_parameters():
    net = Net(inner=[Running(), Running()])
    net.register_buffer("scratch", ad.zeros(3), persistent=False)
    assert names(net) == ["inner.0.scale", "inner.1.scale"]
    everything = ["scratch", "inner.0.mean", "inner.0.calls", "inner.1.mean", "inner.1.calls"]
    assert [n for n, _ in net.named_buffers()] == everything
    assert len(list(net.buffers())) == 5
    saved = net.state_dict()
    assert set(saved) == set(names(net)) | set(everything[1:])
    net.inner[0](ad.ones((4, 2)))
    assert saved["inner.0.mean"].tolist() == [0.0, 0.0]
    mean = net.inner[0].mean
    assert mean.tolist() == [0.5, 0.5] and net.inner[0].calls.item() == 1
    net.load_state_dict(saved)
    assert net.inner[0].mean is mean and mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("wrong", [{"mean": ad.ones(3)}, {"calls": ad.asarray(1.0)}])
def test_a_bad_buffer_in_a_snapshot_changes_nothing(wrong):
    net = Running()
    state = {**net.state_dict(), "scale": ad.zeros(2), **wrong}
    with pytest.raises((ValueError, TypeError), match=f"'{next(iter(wrong))}' has"):
        net.load_state_dict(state)
    with pytest.raises(KeyError, match=r"missing \['calls'\]"):
        net.load_state_dict({"scale": ad.zeros(2), "mean": ad.zeros(2)})
    assert net.scale.tolist() == [1.0, 1.0] and net.mean.tolist() == [0.0, 0.0]
    net.load_state_dict({"mean": np.array([7.0, 8.0])}, strict=False)
    assert net.mean.tolist() == [7.0, 8.0]


def test_assigning_to_a_buffer_gives_its_handle_the_value():
    net = Running()
    mean = net.mean
    net.mean = ad.ones(2)
    net.mean += 1.0
    assert net.mean is mean and mean.tolist() == [2.0, 2.0]
    with pytest.raises(
        ValueError, match=r"buffer 'mean' keeps its shape: shapes \(2,\) and \(3,\)"
    ):
        net.mean = ad.ones(3)
    with pytest.raises(TypeError, match="buffer 'mean' keeps its dtype"):
        net.mean = ad.ones(2, dtype=ad.float32)
    with pytest.raises(TypeError, match="takes a Tensor, not a float"):
        net.mean = 1.0
    net.mean = None
    assert "mean" not in net.state_dict()
    net.mean = ad.ones(3)
    assert net.state_dict()["mean"].shape == (3,)
    del net.mean
    net.mean = 5
    assert "mean" not in net.state_dict()


def test_a_buffer_with_history_is_still_a_buffer():
    net = Running()
    net.mean = net.scale * 2.0
    assert net.mean.requires_grad and "mean" in net.state_dict()
    assert not net.state_dict()["mean"].requires_grad
    assert names(net) == ["scale"]
    assert ad.sum(net.mean).backward() is None and net.scale.grad.tolist() == [2.0, 2.0]


BATCH = np.array([[2.0, 4.0], [4.0, 8.0]])
RUNS = {
    "eager": lambda net, x: net(x),
    "backward": lambda net, x: ad.sum(net(x)).backward(),
    "grad of the module": lambda net, x: ad.grad(lambda m: ad.sum(m(x)))(net),
    "grad of the input": lambda net, x: ad.grad(lambda v: ad.sum(net(v)))(x),
    "value_and_grad": lambda net, x: ad.value_and_grad(lambda m: ad.sum(m(x)))(net),
    "vjp": lambda net, x: ad.vjp(lambda m: m(x), net),
    "jvp": lambda net, x: ad.jvp(net, (x,), (x,)),
    "jvp of the module": lambda net, x: ad.jvp(lambda m: m(x), (net,), (net,)),
    "checkpoint": lambda net, x: ad.grad(lambda v: ad.sum(ad.checkpoint(net)(v)))(x),
    "compile": lambda net, x: ad.compile(net)(x),
    "compiled with the module": lambda net, x: ad.compile(lambda m, v: m(v))(net, x),
    "compiled grad": lambda net, x: ad.compile(ad.grad(lambda m: ad.sum(m(x))))(net),
    "grad of compiled": lambda net, x: ad.grad(lambda m: ad.sum(ad.compile(lambda v: m(v))(x)))(
        net
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_buffers_follow_the_table_of_assignments(run):
    net = Running()
    mean, calls = net.mean, net.calls
    by_hand = np.zeros(2)
    for i in range(3):
        RUNS[run](net, ad.asarray(BATCH))
        by_hand = 0.5 * by_hand + 0.5 * BATCH.mean(axis=0)
        assert net.mean is mean and net.calls is calls
        assert mean.tolist() == by_hand.tolist() and calls.item() == i + 1
        assert not mean.requires_grad


def test_a_compiled_training_step_writes_the_buffers():
    eager, compiled = Running(), Running()
    results = []
    for net in (eager, compiled):
        opt = ad.optim.SGD(net, learning_rate=0.1)

        def step(x, net=net, opt=opt):
            opt.zero_grad()
            loss = ad.mean(net(x) ** 2)
            loss.backward()
            opt.step()
            return loss.detach()

        run = ad.compile(step) if net is compiled else step
        results.append([run(ad.asarray(BATCH)).item() for _ in range(4)])
    assert results[0] == results[1]
    assert compiled.mean.tolist() == eager.mean.tolist() and compiled.calls.item() == 4
    np.testing.assert_array_equal(compiled.scale.numpy(), eager.scale.numpy())


def test_vmap_refuses_a_buffer_that_would_depend_on_the_batch():
    net = Running()
    with pytest.raises((RuntimeError, ValueError, TypeError), match="vmap"):
        ad.vmap(net)(ad.asarray(BATCH[None]))


def test_registering_checks():
    net = Net(w=leaf(1.0), list=[leaf(1.0)])
    w = leaf(2.0)
    wrong = [
        (TypeError, lambda: net.register_buffer(3, ad.ones(1))),
        (ValueError, lambda: net.register_buffer("a.b", ad.ones(1))),
        (ValueError, lambda: net.register_buffer("", ad.ones(1))),
        (ValueError, lambda: net.register_buffer("forward", ad.ones(1))),
        (ValueError, lambda: net.register_buffer("training", ad.ones(1))),
        (ValueError, lambda: net.register_buffer("w", ad.ones(1))),
        (ValueError, lambda: net.register_buffer("list", ad.ones(1))),
        (TypeError, lambda: net.register_buffer("b", [1.0])),
        (TypeError, lambda: net.register_buffer("b", ad.ones(1), persistent="no")),
        (ValueError, lambda: net.register_buffer("b", w)),
        (ValueError, lambda: net.register_buffer("b", w * 2)),
        (TypeError, lambda: net.register_parameter("p", 1.0)),
        (TypeError, lambda: net.register_parameter("p", ad.asarray(1))),
        (ValueError, lambda: net.register_parameter("p", w * 2)),
        (TypeError, lambda: net.register_parameter(None, w)),
        (TypeError, lambda: net.train("no")),
        (TypeError, lambda: net.requires_grad_(1)),
        (TypeError, lambda: net.load_state_dict(5)),
        (TypeError, lambda: net.load_state_dict({}, strict="no")),
    ]
    for kind, call in wrong:
        with pytest.raises(kind, match=r"^\[Net\."):
            call()
    assert list(net.state_dict()) == ["w", "list.0"]
    net.register_parameter("p", ad.ones(1))
    net.register_parameter("q", None)
    assert names(net) == ["w", "list.0", "p"] and net.q is None
    assert len(ad.tree.leaves(net)) == 2  # what does not require grad is frozen
