"""Layers and losses against NumPy; modules as containers, snapshots and pytrees."""

import copy
import doctest
import importlib
import math

import numpy as np
import pytest

import adjoint as ad
from adjoint import nn

RNG = np.random.default_rng(7)


def small_model(seed=0, dtype=None):
    g = ad.random.Generator(seed)
    return nn.Sequential(
        nn.Linear(3, 4, generator=g, dtype=dtype),
        nn.Tanh(),
        nn.Linear(4, 2, bias=False, generator=g, dtype=dtype),
    )


class Shelf(nn.Module):
    """Keeps modules in a list and a dict, beside a constant and a setting."""

    def __init__(self):
        self.scale = ad.tensor(2.0, requires_grad=True)
        self.constant = ad.tensor(1.0)
        self.layers = [nn.Linear(2, 2, dtype=ad.float64), nn.Linear(2, 2, dtype=ad.float64)]
        self.heads = {"left": nn.Linear(2, 1, dtype=ad.float64)}
        self.depth = 3

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["left"](x) * self.scale + self.constant


@pytest.mark.parametrize("name", ["nn.module", "nn.layers", "nn.functional", "testing"])
def test_documented_examples(name):
    result = doctest.testmod(importlib.import_module(f"adjoint.{name}"))
    assert result.attempted > 0 and result.failed == 0


def test_linear_is_the_affine_map():
    layer = nn.Linear(3, 2, dtype=ad.float64)
    x = RNG.normal(size=(4, 5, 3))
    expected = x @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(layer(ad.asarray(x)).numpy(), expected, rtol=1e-13)
    bare = nn.Linear(3, 2, bias=False, dtype=ad.float64)
    assert bare.bias is None and [name for name, _ in bare.named_parameters()] == ["weight"]
    np.testing.assert_allclose(bare(ad.asarray(x)).numpy(), x @ bare.weight.numpy().T, rtol=1e-13)


def test_linear_starts_uniform_within_the_bound():
    layer = nn.Linear(100, 200, generator=ad.random.Generator(1))
    assert layer.weight.shape == (200, 100) and layer.bias.shape == (200,)
    assert layer.weight.dtype == layer.bias.dtype == ad.float32
    assert layer.weight.requires_grad and layer.bias.requires_grad
    weight = layer.weight.numpy().astype(np.float64)
    bound = np.float32(0.1)
    assert np.abs(weight).max() <= bound and np.abs(layer.bias.numpy()).max() <= bound
    # 20,000 samples: the deviation of U(-b, b) is b/sqrt(3); both within five standard errors.
    assert abs(weight.mean()) < 5 * 0.1 / math.sqrt(3 * 20_000)
    assert weight.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)


def test_generators_make_layers_repeatable():
    one, same, other = (nn.Linear(4, 4, generator=ad.random.Generator(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.weight.numpy(), same.weight.numpy())
    assert not np.array_equal(one.weight.numpy(), other.weight.numpy())
    assert not np.array_equal(nn.Linear(4, 4).weight.numpy(), nn.Linear(4, 4).weight.numpy())


def test_linear_names_the_fix():
    layer = nn.Linear(3, 2)
    with pytest.raises(
        TypeError, match=r"float64.*ad\.astype\(x, ad\.float32\).*dtype=ad\.float64"
    ):
        layer(ad.ones((4, 3)))
    with pytest.raises(ValueError, match=r"shape \(4, 5\).*in_features=3"):
        layer(ad.ones((4, 5), dtype=ad.float32))
    with pytest.raises(ValueError, match="in_features=3"):
        layer(ad.ones((), dtype=ad.float32))
    with pytest.raises(ValueError, match="must be at least 1"):
        nn.Linear(0, 2)
    with pytest.raises(TypeError, match="real floating"):
        nn.Linear(2, 2, dtype=ad.int64)


def test_activations():
    x = [-2.0, -0.0, 0.0, 3.0, math.nan, math.inf, -math.inf]
    relu = nn.ReLU()(ad.tensor(x)).numpy()
    np.testing.assert_array_equal(relu, [0.0, 0.0, 0.0, 3.0, math.nan, math.inf, 0.0])
    gradient = ad.grad(lambda t: ad.sum(nn.ReLU()(t)))(ad.tensor([-2.0, -0.0, 0.0, 3.0]))
    np.testing.assert_array_equal(gradient.numpy(), [0.0, 0.0, 0.0, 1.0])
    tanh = nn.Tanh()(ad.tensor([0.5])).numpy()
    np.testing.assert_allclose(tanh, [math.tanh(0.5)], rtol=1e-15)
    assert nn.ReLU()(ad.ones(2, dtype=ad.float32)).dtype == ad.float32


def test_sequential_composes():
    model = small_model()
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    first, last = model[0], model[-1]
    hidden = np.tanh(x @ first.weight.numpy().T + first.bias.numpy())
    expected = hidden @ last.weight.numpy().T
    np.testing.assert_allclose(model(ad.asarray(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert len(model) == 3 and [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight"]
    with pytest.raises(TypeError, match="layer 1 is a function"):
        nn.Sequential(nn.ReLU(), lambda x: x)


def test_attributes_are_registered():
    shelf = Shelf()
    names = [name for name, _ in shelf.named_parameters()]
    assert names == [
        "scale",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "heads.left.weight",
        "heads.left.bias",
    ]
    assert all(p.requires_grad for p in shelf.parameters())
    del shelf.scale
    shelf.heads = None
    assert next(name for name, _ in shelf.named_parameters()) == "layers.0.weight"
    assert len(list(shelf.parameters())) == 4


def test_a_shared_parameter_is_listed_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_training_mode_reaches_every_submodule():
    shelf = Shelf()
    assert shelf.training
    assert shelf.eval() is shelf
    assert not any(module.training for module in shelf.modules())
    assert len(list(shelf.modules())) == 4
    assert shelf.train().layers[1].training


def test_repr_shows_the_tree():
    assert repr(small_model()) == (
        "Sequential(\n"
        "  (0): Linear(3, 4, bias=True)\n"
        "  (1): Tanh()\n"
        "  (2): Linear(4, 2, bias=False)\n"
        ")"
    )


def test_a_module_needs_forward():
    with pytest.raises(TypeError, match="forward"):
        nn.Module()


def test_snapshots_stay_and_load():
    model, other = small_model(0), small_model(1)
    x = ad.asarray(RNG.normal(size=(5, 3)), dtype=ad.float32)
    saved = model.state_dict()
    before = {name: value.numpy().copy() for name, value in saved.items()}
    expected = model(x).numpy().copy()
    weight = other[0].weight
    other.load_state_dict({name: value.numpy() for name, value in saved.items()})
    assert other[0].weight is weight and weight.requires_grad
    np.testing.assert_array_equal(other(x).numpy(), expected)

    opt = ad.optim.SGD(model.parameters(), learning_rate=1.0)
    ad.sum(model(x)).backward()
    opt.step()
    assert not np.array_equal(model(x).numpy(), expected)
    for name, value in saved.items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_a_bad_snapshot_changes_nothing():
    model = small_model()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    zeros = {name: ad.zeros_like(value) for name, value in model.state_dict().items()}
    with pytest.raises(KeyError, match=r"missing \['2.weight'\]"):
        model.load_state_dict({k: v for k, v in zeros.items() if k != "2.weight"})
    with pytest.raises(KeyError, match=r"unknown \['2.bias'\]"):
        model.load_state_dict({**zeros, "2.bias": ad.ones(2)})
    with pytest.raises(ValueError, match=r"'2.weight' has shape \(4, 2\).*has \(2, 4\)"):
        model.load_state_dict({**zeros, "2.weight": ad.zeros((4, 2), dtype=ad.float32)})
    with pytest.raises(TypeError, match=r"'2.weight' has dtype.*float64"):
        model.load_state_dict({**zeros, "2.weight": ad.zeros((2, 4))})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])

    model.load_state_dict({"0.bias": zeros["0.bias"], "unknown": ad.ones(1)}, strict=False)
    np.testing.assert_array_equal(model[0].bias.numpy(), np.zeros(4))
    np.testing.assert_array_equal(model[0].weight.numpy(), before["0.weight"])


def test_a_module_is_a_pytree_of_its_parameters():
    shelf = Shelf()
    leaves, treedef = ad.tree.flatten(shelf)
    assert len(leaves) == 7
    doubled = ad.tree.map(lambda p: p * 2.0, shelf)
    assert type(doubled) is Shelf and doubled.depth == 3
    assert doubled.scale.item() == 4.0 and shelf.scale.item() == 2.0
    assert doubled.heads["left"] is not shelf.heads["left"]
    assert [n for n, _ in doubled.named_parameters()] == [n for n, _ in shelf.named_parameters()]
    assert ad.tree.flatten(doubled)[1] == treedef
    doubled.depth = 4
    assert ad.tree.flatten(doubled)[1] != treedef


def test_gradients_by_module_by_backward_and_by_hand():
    model = small_model(dtype=ad.float64)
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
    w, b, v = (p.numpy() for p in model.parameters())
    hidden = np.tanh(x @ w.T + b)
    residual = 2.0 * (hidden @ v.T - y) / y.size
    through = (residual @ v) * (1.0 - hidden**2)
    by_hand = [through.T @ x, through.sum(axis=0), residual.T @ hidden]

    def loss(net):
        return nn.mse_loss(net(ad.asarray(x)), ad.asarray(y))

    gradient = ad.grad(loss)(model)
    loss(model).backward()
    assert type(gradient) is nn.Sequential
    for pure, parameter, expected in zip(
        gradient.parameters(), model.parameters(), by_hand, strict=True
    ):
        np.testing.assert_allclose(pure.numpy(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_a_module_can_be_copied():
    model = small_model()
    twin = copy.deepcopy(model)
    assert list(twin.state_dict()) == list(model.state_dict())
    twin.load_state_dict({k: ad.zeros_like(v) for k, v in twin.state_dict().items()})
    assert np.abs(model[0].weight.numpy()).max() > 0


def cross_entropy_by_hand(logits, labels):
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1.0
    return -log_p[rows, labels].mean(), gradient / len(labels)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_cross_entropy_and_its_gradient(scale):
    logits = RNG.normal(size=(8, 5)) * scale
    labels = np.array([0, 4, 2, 2, 1, 3, 0, 4])
    value, gradient = cross_entropy_by_hand(logits, labels)
    loss, grad = ad.value_and_grad(nn.cross_entropy)(ad.asarray(logits), ad.asarray(labels))
    assert loss.shape == () and loss.item() == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(grad.numpy(), gradient, rtol=1e-12, atol=1e-15)


def test_cross_entropy_of_impossible_classes_and_small_label_types():
    logits = ad.tensor([[0.0, -math.inf, 0.0], [-math.inf, 1.0, -math.inf]])
    loss = nn.cross_entropy(logits, ad.asarray([2, 1]))
    assert loss.item() == pytest.approx(math.log(2.0) / 2.0, rel=1e-15)
    wide = ad.zeros((1, 300))
    label = ad.asarray(np.array([7], dtype=np.int8))
    assert nn.cross_entropy(wide, label).item() == pytest.approx(math.log(300.0), rel=1e-14)


LOSSES = {
    "eager": nn.cross_entropy,
    "grad": ad.grad(nn.cross_entropy),
    "jvp": lambda z, y: ad.jvp(lambda v: nn.cross_entropy(v, y), (z,), (z,)),
    "vmap": lambda z, y: ad.vmap(nn.cross_entropy)(ad.stack([z, z]), ad.stack([0 * y, y])),
    "compile": ad.compile(nn.cross_entropy),
    "compiled grad": ad.compile(ad.grad(nn.cross_entropy)),
}


@pytest.mark.parametrize("mode", LOSSES)
@pytest.mark.parametrize("labels", [[0, -1], [-1, 0], [3, 0], [0, 3], [0, 2**40], [-3, 0]])
def test_a_label_that_is_no_class_raises(mode, labels):
    LOSSES[mode](ad.zeros((2, 3)), ad.asarray([0, 2]))
    with pytest.raises(IndexError, match=r"a label is none of the 3 classes|\[take\]|\[add_at\]"):
        ad.eval(LOSSES[mode](ad.zeros((2, 3)), ad.asarray(labels)))


def test_cross_entropy_checks_its_input():
    logits = ad.zeros((2, 3))
    with pytest.raises(TypeError, match=r"integer class indices.*float64.*ad\.astype"):
        nn.cross_entropy(logits, ad.ones(2))
    with pytest.raises(TypeError, match="logits must be floating"):
        nn.cross_entropy(ad.zeros((2, 3), dtype=ad.int64), ad.asarray([0, 1]))
    for labels in ([0], [[0, 1]], [0, 1, 2]):
        with pytest.raises(ValueError, match=r"\(N, C\).*\(N,\), got shapes \(2, 3\) and"):
            nn.cross_entropy(logits, ad.asarray(labels))
    with pytest.raises(ValueError, match="got shapes"):
        nn.cross_entropy(ad.zeros(3), ad.asarray([1]))


def test_mse_loss():
    pred, target = ad.tensor([[1.0, 2.0], [3.0, 4.0]]), ad.tensor([[0.0, 2.0], [5.0, 1.0]])
    assert nn.mse_loss(pred, target).item() == (1.0 + 0.0 + 4.0 + 9.0) / 4.0
    with pytest.raises(ValueError, match=r"\(4, 1\) and target of shape \(4,\)"):
        nn.mse_loss(ad.ones((4, 1)), ad.ones(4))


def test_losses_pass_the_gradient_check():
    labels = ad.asarray([1, 0, 2])
    logits = ad.asarray(RNG.normal(size=(3, 4)))
    ad.testing.check_grads(lambda z: nn.cross_entropy(z, labels), [logits])
    target = ad.asarray(RNG.normal(size=(3, 4)))
    ad.testing.check_grads(nn.mse_loss, [logits, target])
