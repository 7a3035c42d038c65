"""A program that uses each area of the package as its users do: `test_stubs.py` has it checked
strictly. Its assertions on types are what an editor shows; it runs, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from typing_extensions import assert_type

import adjoint as ad
from adjoint import nn, optim


class Line(TypedDict):
    slope: ad.Tensor
    offset: ad.Tensor


def tensors() -> ad.Tensor:
    x = ad.tensor([1.0, 2.0], requires_grad=True, name="x")
    y = ad.sum(2 * x + np.ones(2) - ad.sin(x), axis=0)
    assert_type(y, ad.Tensor)
    y.backward()
    if x.grad is not None:
        values: list[float] = x.grad.tolist()
        assert len(values) == 2
    with ad.no_grad():
        x -= 0.1 * y
        x[0] = 3.0
    parts = ad.split(ad.arange(6), 3)
    assert_type(parts, list[ad.Tensor])
    assert_type(ad.topk(x, 1).values, ad.Tensor)
    assert_type(x.shape, tuple[int, ...])
    assert_type(x.dtype, ad.DType)
    return x.at[0].add(1.0)


def transforms() -> None:
    def square(w: ad.Tensor) -> ad.Tensor:
        return ad.sum(w**2)

    def fit(line: Line) -> ad.Tensor:
        return (line["slope"] - 1.0) ** 2 + line["offset"] ** 2

    x = ad.tensor([1.0, 2.0])
    assert_type(ad.grad(square)(x), ad.Tensor)
    assert_type(ad.grad(lambda w: w**2 + 1)(5.0), ad.Tensor)
    line: Line = ad.grad(fit)({"slope": ad.tensor(2.0), "offset": ad.tensor(0.0)})
    assert_type(line["slope"].item(), Any)
    value, slope = ad.value_and_grad(square)(x)
    assert_type(value, ad.Tensor)
    assert_type(slope, ad.Tensor)
    gradient, aux = ad.grad(lambda w: (ad.sum(w), 3), has_aux=True)(x)
    assert_type(aux, int)
    both = ad.grad(lambda a, b: a * b, argnums=(0, 1))(2.0, 3.0)
    assert len(both) == 2 and gradient is not None
    out, pullback = ad.vjp(square, x)
    assert_type(out, ad.Tensor)
    assert_type(pullback(ad.tensor(1.0)), tuple[Any, ...])
    assert_type(ad.jvp(square, (x,), (x,)), tuple[ad.Tensor, ad.Tensor])
    assert_type(ad.hvp(square, x, x), ad.Tensor)
    assert_type(ad.hessian(square)(x), ad.Tensor)
    assert_type(ad.jacobian(ad.sin)(x), ad.Tensor)
    assert_type(ad.vmap(square)(ad.eye(2)), ad.Tensor)
    assert_type(ad.checkpoint(square)(x), ad.Tensor)
    assert_type(ad.linearize(square, x)[0], ad.Tensor)
    total, sums = ad.scan(lambda c, row: (c + row, c), 0.0, x)
    assert ad.cond(total > 0, lambda: 1.0, lambda: 2.0) is not None and sums.shape == (2,)


def compiled() -> None:
    @ad.compile
    def step(w: ad.Tensor) -> tuple[ad.Tensor, dict[str, ad.Tensor]]:
        return w - 0.1, {"norm": ad.norm(w)}

    moved, told = step(ad.ones(3))
    assert_type(moved, ad.Tensor)
    assert_type(told, dict[str, ad.Tensor])
    assert_type(step.program(ad.ones(3)).stats(), dict[str, int])
    assert_type(ad.compile(ad.grad(lambda w: w**2))(2.0), ad.Tensor)


@ad.no_grad()
def without_record(w: ad.Tensor) -> ad.Tensor:
    return ad.mean(w**2)


def tape() -> Any:
    w = ad.Variable(5.0, name="w")
    with ad.GradientTape(persistent=True) as tape:
        z = w**2 + 1
    w.assign_sub(0.1 * tape.gradient(z, w))
    return w.value


class Net(nn.Module):
    def __init__(self) -> None:
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.register_buffer("seen", ad.tensor(0))

    def forward(self, x: ad.Tensor) -> ad.Tensor:
        result: ad.Tensor = self.layers(x)
        return result


def training() -> None:
    net = Net()
    opt = optim.AdamW(net.parameters(), optim.cosine_schedule(0.01, steps=10))
    x = ad.random.Generator(0).normal((4, 2), dtype=ad.float32)
    for _ in range(2):
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), ad.asarray([0, 1, 0, 1]))
        loss.backward()
        opt.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        ad.io.save(path, net.state_dict(), metadata={"steps": "2"})
        net.load_state_dict(ad.io.load(path))
    rule = optim.chain(optim.clip_by_norm(1.0), optim.scale(-0.1))
    assert rule.init([x]) is not None


def minima() -> None:
    result = optim.minimize(lambda p: ad.sum((p - 1.0) ** 2), [0.0, 1.5], bounds=(-2.0, 2.0))
    assert_type(result, optim.Result)
    reason: str = result.reason
    assert reason and optim.least_squares(lambda p: p - 1.0, [0.0]).success
    search = optim.search.CMAES([1.0, 2.0], seed=0)
    points = search.ask()
    search.tell(points, np.sum(points**2, axis=1))


def rest() -> None:
    a = ad.linalg.cholesky(2.0 * ad.eye(2))
    assert_type(ad.linalg.solve(a, ad.ones(2)), ad.Tensor)
    assert_type(ad.linalg.qr(a).Q, ad.Tensor)
    doubled = ad.tree.map(lambda leaf: 2 * leaf, {"a": a})
    assert_type(ad.tree.leaves(doubled), list[Any])
    ad.testing.check_grads(ad.sin, [ad.tensor(0.5)])
    ad.random.seed(0)
    assert_type(ad.random.uniform((2,)), ad.Tensor)
    assert_type(ad.finfo(ad.float32).eps, float)
    with ad.deferral(False), ad.detect_anomaly():
        ad.eval(a)


if __name__ == "__main__":
    tensors()
    transforms()
    compiled()
    without_record(ad.ones(2))
    tape()
    training()
    minima()
    rest()
