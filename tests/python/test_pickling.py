"""Functions made of functions pickle where those do, with their options, and copy as methods do."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjoint as ad


def cubes(x: Any) -> Any:
    return x**3


def loss(x: Any) -> Any:
    return ad.sum(x**3)


def two(a: Any, b: Any) -> Any:
    return ad.sum(a * b**2)


def with_aux(x: Any) -> Any:
    return ad.sum(x**3), x + 1


def newton(g: Any, x: Any) -> Any:
    for _ in range(8):
        x = x - g(x) / ad.grad(g)(x)
    return x


def square_minus(x: Any, a: Any) -> Any:
    return x * x - a


def cosine(x: Any, a: Any) -> Any:
    return ad.cos(a * x)


def same_spec(x: Any) -> Any:
    return x


def power(x: Any, n: Any) -> Any:
    return x**n


@ad.compile
def compiled(x: Any) -> Any:
    return 2 * x


@ad.grad
def gradient(x: Any) -> Any:
    return ad.sum(x**2)


@ad.checkpoint
def checkpointed(x: Any) -> Any:
    return ad.sum(x**2)


@ad.custom_vjp
def ruled(x: Any) -> Any:
    return ad.sum(x**2)


def _forward(x: Any) -> Any:
    return ruled(x), x


def _backward(x: Any, cotangent: Any) -> Any:
    return (7 * cotangent * x,)


ruled.defvjp(_forward, _backward)


class Model:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, x: Any) -> Any:
        return self.weight * x

    @ad.compile
    def method(self, x: Any) -> Any:
        return self.weight * x


X = np.array([1.0, 2.0])
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])
BAND = ([0, 1], [0, 1])
# Each with arguments and what it gives, by hand.
MADE: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "grad": (ad.grad(loss), (X,), [3.0, 12.0]),
    "grad argnums": (ad.grad(two, argnums=(1, 0)), (3.0, 2.0), (12.0, 4.0)),
    "grad aux": (ad.grad(with_aux, has_aux=True), (X,), ([3.0, 12.0], [2.0, 3.0])),
    "value_and_grad": (ad.value_and_grad(loss), (X,), (9.0, [3.0, 12.0])),
    "vmap": (ad.vmap(loss), (ROWS,), [9.0, 91.0]),
    "vmap axes": (ad.vmap(cubes, in_axes=1, out_axes=1), (ROWS,), [[1.0, 8.0], [27.0, 64.0]]),
    "jacobian": (ad.jacobian(cubes), (X,), [[3.0, 0.0], [0.0, 12.0]]),
    "jacobian reverse": (ad.jacobian(cubes, mode="reverse"), (X,), [[3.0, 0.0], [0.0, 12.0]]),
    "jacobian forward": (ad.jacobian(power, 1, mode="forward"), (1.0, 2.0), 0.0),
    "jacobian sparse": (ad.jacobian(cubes, sparsity=BAND), (X,), [3.0, 12.0]),
    "hessian": (ad.hessian(loss), (X,), [[6.0, 0.0], [0.0, 12.0]]),
    "hessian sparse": (ad.hessian(loss, sparsity=BAND), (X,), [6.0, 12.0]),
    "compile": (ad.compile(loss), (X,), 9.0),
    "compile static": (ad.compile(power, static_argnums=1), (X, 2), [1.0, 4.0]),
    "compile of grad": (ad.compile(ad.grad(loss)), (X,), [3.0, 12.0]),
    "grad of compile": (ad.grad(ad.compile(loss)), (X,), [3.0, 12.0]),
    "compile of an object": (ad.compile(Model(3.0)), (2.0,), 6.0),
    "checkpoint": (ad.checkpoint(loss), (X,), 9.0),
    "custom_root": (ad.custom_root(square_minus, newton), (1.0, 4.0), 2.0),
    "custom_fixed_point": (
        ad.custom_fixed_point(cosine, tol=1e-15),
        (0.5, 1.0),
        0.73908513321516064,
    ),
    "host_op": (ad.host_op(np.exp2, same_spec), (np.array([1.0, 3.0]),), [2.0, 8.0]),
    "by name, compile": (compiled, (2.0,), 4.0),
    "by name, grad": (gradient, (X,), [2.0, 4.0]),
    "by name, checkpoint": (checkpointed, (X,), 5.0),
    "by name, custom_vjp": (ad.grad(ruled), (X,), [7.0, 14.0]),
    "by name, method": (Model(3.0).method, (2.0,), 6.0),
}


def check(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        for part, wanted in zip(found, expected, strict=True):
            check(part, wanted)
    else:
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickled(name: str, protocol: int) -> None:
    f, args, expected = MADE[name]
    check(pickle.loads(pickle.dumps(f, protocol))(*args), expected)


@pytest.mark.parametrize("name", MADE)
def test_copied(name: str) -> None:
    f, args, expected = MADE[name]
    for other in (copy.copy(f), copy.deepcopy(f)):
        check(other(*args), expected)


def test_in_processes_that_are_spawned() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        futures = {name: pool.submit(f, *args) for name, (f, args, _) in MADE.items()}
        for name, future in futures.items():
            check(future.result(timeout=120), MADE[name][2])


def test_what_a_module_holds_by_name_is_pickled_as_itself() -> None:
    for f in (compiled, gradient, checkpointed, ruled):
        assert pickle.loads(pickle.dumps(f)) is f
        assert copy.copy(f) is f
        assert copy.deepcopy({"f": f})["f"] is f


def test_copies_are_the_function_itself_unless_what_is_inside_is_copied() -> None:
    for f in (ad.grad(loss), ad.compile(loss), ad.jacobian(loss), ad.checkpoint(loss)):
        assert copy.copy(f) is f
        assert copy.deepcopy(f) is f
    model = Model(3.0)
    for made in (ad.compile(model), ad.grad(model), ad.jacobian(model), ad.checkpoint(model)):
        assert copy.copy(made) is made
        pair = copy.deepcopy({"model": model, "made": made})
        pair["model"].weight = 5.0
        assert pair["made"].__wrapped__ is pair["model"]
        inner = made.__wrapped__
        assert inner is model
    value = copy.deepcopy(ad.compile(model))
    model.weight = 1.0
    assert value(2.0).item() == 6.0


def test_a_function_without_a_name_is_refused_as_elsewhere() -> None:
    for made in (ad.grad(lambda x: x), ad.compile(lambda x: x), ad.jacobian(lambda x: x)):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(made)


def test_the_options_are_those_of_the_first() -> None:
    f = pickle.loads(pickle.dumps(ad.compile(power, static_argnums=-1)))
    with pytest.raises(TypeError, match="static_argnums names an argument that is a tensor"):
        f(X, ad.tensor(2.0))
    donating = pickle.loads(pickle.dumps(ad.compile(cubes, donate_argnums=0)))
    x = ad.tensor(np.full(1000, 2.0)) * 1.0
    donating(x)
    with pytest.raises(RuntimeError, match="donate_argnums"):
        x.tolist()


def test_made_functions_look_like_what_they_are_made_of() -> None:
    for made in (ad.jacobian(loss), ad.checkpoint(loss), ad.grad(loss)):
        assert made.__name__ == "loss"
        assert made.__wrapped__ is loss
    assert repr(ad.jacobian(loss)).startswith("<jacobian of <function loss")


class Pair(NamedTuple):
    one: Any
    two: Any


@pytest.mark.parametrize(
    "tree",
    [0, None, [], {"a": 1.0, "b": [2.0, (3.0, None)]}, Pair(1.0, {"x": 2.0}), ad.nn.Linear(2, 1)],
)
def test_the_structure_of_a_tree_is_pickled(tree: Any) -> None:
    structure = ad.tree.structure(tree)
    again = pickle.loads(pickle.dumps(structure))
    assert again == structure
    leaves = list(range(structure.num_leaves))
    assert ad.tree.leaves(again.unflatten(leaves)) == leaves
    assert type(again.unflatten(leaves)) is type(tree)


class Holder:
    derivative = ad.jacobian(lambda self, x: x**2, argnums=1)


def test_a_made_function_is_bound_as_a_method() -> None:
    assert Holder().derivative(3.0).item() == 6.0


def test_a_checkpoint_sees_the_variables_of_a_jacobian_as_they_were() -> None:
    def step(x: Any) -> Any:
        scale = 2.0
        slope = ad.jacobian(lambda y: scale * y**3)

        def run(y: Any) -> Any:
            return ad.checkpoint(lambda z: slope(z))(y)

        out = run(x)
        scale = 100.0
        return out

    assert ad.grad(step)(1.0).item() == 12.0
