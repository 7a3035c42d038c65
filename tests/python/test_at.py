"""x.at[key].add(values) and its like against NumPy's ufunc.at, in every transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad

rng = np.random.default_rng(11)

UFUNCS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "multiply": np.multiply,
    "mul": np.multiply,
    "divide": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}
KEYS: dict[str, Any] = {
    "integer": 1,
    "slice": slice(None, None, -2),
    "pair": (slice(1, 3), 0),
    "list": [0, 2, 2, -1],
    "repeated": [1, 1, 1, 1, 1],
    "column": (slice(None), [2, 0, 2]),
    "places": ([0, 1, 0, 3], [2, 2, 2, 0]),
    "matrix": np.array([[0, 0], [3, 0]]),
    "apart": ([0, 0, 2], slice(None), [1, 1, 0]),
    "new axis": (None, [3, 3]),
    "mask": np.array([True, False, True, True]),
    "ellipsis": (..., [0, 1, 1]),
    "nothing": np.array([], dtype=int),
}
every_key = pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))


def start(key: Any) -> Any:
    shape = (4, 3, 2) if isinstance(key, tuple) and len(key) == 3 else (4, 3)
    return rng.permutation(np.prod(shape)).reshape(shape) * 0.25 - 1.6


def expected_update(name: str, x: Any, key: Any, values: Any) -> Any:
    out = x.copy()
    if name == "set":
        out[key] = values
    elif name == "power":  # raised to the product of the values
        exponent = np.ones_like(x)
        np.multiply.at(exponent, key, values)
        out = out**exponent
    else:
        UFUNCS[name].at(out, key, values)
    return out


@pytest.mark.parametrize("name", [*UFUNCS, "set", "power"])
@every_key
def test_values(name: str, key: Any) -> None:
    x = start(key)
    x = np.abs(x) + 0.1 if name == "power" else x
    values = rng.permutation(x[key].size).reshape(x[key].shape) * 0.3 - 1.05
    for v in (values, 1.7, values.ravel()[:1]):
        if np.size(v) == 0:
            continue
        before = ad.asarray(x, copy=True)
        got = getattr(before.at[key], name)(ad.asarray(v) if np.ndim(v) else v)
        np.testing.assert_allclose(got.numpy(), expected_update(name, x, key, v), rtol=1e-14)
        np.testing.assert_array_equal(before.numpy(), x)
    np.testing.assert_array_equal(ad.asarray(x).at[key].get().numpy(), x[key])


def test_a_tensor_as_a_key_and_integers() -> None:
    x = ad.asarray(np.arange(5))
    i = ad.asarray(np.array([4, 4, 0], dtype="uint8"))
    assert x.at[i].add(1).tolist() == [1, 1, 2, 3, 6]
    assert x.at[i].multiply(ad.asarray([2, 3, 7])).tolist() == [0, 1, 2, 3, 24]
    assert x.at[i].max(3).tolist() == [3, 1, 2, 3, 4]
    assert x.at[x > 2].min(2).tolist() == [0, 1, 2, 2, 2]


# ---- derivatives ---------------------------------------------------------------------------------


def differences(f: Callable[..., float], x: Any, h: float = 1e-4) -> Any:
    """Central differences of order 4 in every entry."""
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[place] = h
        near, far = f(x + unit) - f(x - unit), f(x + 2 * unit) - f(x - 2 * unit)
        out[place] = (8 * near - far) / (12 * h)
    return out


@pytest.mark.parametrize("name", [*UFUNCS, "set", "power"])
@every_key
def test_derivatives_of_both_orders(name: str, key: Any) -> None:
    x = start(key)
    x = np.abs(x) + 0.6 if name == "power" else x
    values = rng.permutation(x[key].size).reshape(x[key].shape) * 0.11 + 0.613
    weights = rng.uniform(0.5, 1.5, x.shape)

    def loss(t: Any, v: Any) -> Any:
        return ad.sum(ad.square(getattr(t.at[key], name)(v)) * ad.asarray(weights))

    def reference(t: Any, v: Any) -> float:
        return float(np.sum(expected_update(name, t, key, v) ** 2 * weights))

    t, v = ad.asarray(x), ad.asarray(values)
    of_x, of_v = ad.grad(loss, (0, 1))(t, v)
    np.testing.assert_allclose(
        of_x.numpy(), differences(lambda a: reference(a, values), x), rtol=1e-7, atol=1e-8
    )
    np.testing.assert_allclose(
        of_v.numpy(), differences(lambda a: reference(x, a), values), rtol=1e-7, atol=1e-8
    )
    # Forward mode, and the derivative of the derivative along a direction.
    dx, dv = rng.normal(size=x.shape), rng.normal(size=values.shape)
    pushed = ad.jvp(loss, (t, v), (ad.asarray(dx), ad.asarray(dv)))[1]
    along = float(np.sum(of_x.numpy() * dx) + np.sum(of_v.numpy() * dv))
    assert float(pushed) == pytest.approx(along, rel=1e-11, abs=1e-12)
    gradient = ad.grad(loss, (0, 1))

    def slope(a: float) -> float:
        gx, gv = gradient(ad.asarray(x + a * dx), ad.asarray(values + a * dv))
        return float(np.sum(gx.numpy() * dx) + np.sum(gv.numpy() * dv))

    h = 1e-5
    wanted = (slope(h) - slope(-h)) / (2 * h)

    def moved(t: Any, v: Any) -> Any:
        gx, gv = gradient(t, v)
        return ad.sum(gx * ad.asarray(dx)) + ad.sum(gv * ad.asarray(dv))

    second = ad.grad(moved, (0, 1))(t, v)
    found = float(np.sum(second[0].numpy() * dx) + np.sum(second[1].numpy() * dv))
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_the_last_of_equal_indices_has_the_derivative_of_set() -> None:
    x, v = ad.tensor([1.0, 2.0, 3.0]), ad.tensor([10.0, 20.0, 30.0])

    def f(x: Any, v: Any) -> Any:
        return ad.sum(x.at[[1, 1, 0]].set(v) * ad.tensor([5.0, 7.0, 11.0]))

    assert f(x, v).item() == 5 * 30 + 7 * 20 + 11 * 3
    of_x, of_v = ad.grad(f, (0, 1))(x, v)
    assert of_x.tolist() == [0.0, 0.0, 11.0]
    assert of_v.tolist() == [0.0, 7.0, 5.0]


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_derivative_equally(name: str) -> None:
    x, v = ad.tensor([2.0, 1.0]), ad.tensor([2.0, 2.0, 1.0])

    def f(x: Any, v: Any) -> Any:
        return ad.sum(getattr(x.at[[0, 0, 1]], name)(v) * ad.tensor([6.0, 8.0]))

    of_x, of_v = ad.grad(f, (0, 1))(x, v)
    assert of_x.tolist() == [2.0, 4.0]  # three have the value at 0, two at 1
    assert of_v.tolist() == [2.0, 2.0, 4.0]
    ones = ad.ones_like
    assert ad.jvp(f, (x, v), (ones(x), ones(v)))[1].item() == pytest.approx(14.0)
    hessian = ad.hessian(lambda x: f(x, v))(x)
    assert hessian.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_zeros_among_the_factors() -> None:
    """The derivative of a product in one factor is the product of the others."""
    x, v = ad.tensor([3.0, 5.0]), ad.tensor([0.0, 2.0, 0.0, 4.0])
    of_x, of_v = ad.grad(lambda x, v: ad.sum(x.at[[0, 0, 1, 1]].multiply(v)), (0, 1))(x, v)
    assert of_x.tolist() == [0.0, 0.0]
    assert of_v.tolist() == [6.0, 0.0, 20.0, 0.0]


# ---- transforms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*UFUNCS, "set", "power"])
def test_batches_and_programs(name: str) -> None:
    x = np.abs(rng.normal(size=(3, 5))) + 0.2
    i = np.array([[0, 4, 4], [1, 1, 1], [2, 0, -1]])
    v = rng.permutation(9).reshape(3, 3) * 0.21 + 0.3

    def f(x: Any, i: Any, v: Any) -> Any:
        return getattr(x.at[i], name)(v)

    expected = np.stack([expected_update(name, a, b, c) for a, b, c in zip(x, i, v, strict=True)])
    args = [ad.asarray(a) for a in (x, i, v)]
    np.testing.assert_allclose(ad.vmap(f)(*args).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(
        ad.vmap(f, in_axes=(None, 0, None))(args[0][0], args[1], args[2][0]).numpy(),
        np.stack([expected_update(name, x[0], b, v[0]) for b in i]),
        rtol=1e-14,
    )
    now = f(args[0][0], args[1][0], args[2][0])
    program = ad.compile(f)(args[0][0], args[1][0], args[2][0])
    assert now.numpy().tobytes() == program.numpy().tobytes()

    def loss(x: Any, v: Any) -> Any:
        return ad.sum(ad.square(ad.vmap(f)(x, args[1], v)))

    plain = ad.grad(loss, (0, 1))(args[0], args[2])
    compiled = ad.compile(ad.grad(loss, (0, 1)))(args[0], args[2])
    for a, b in zip(plain, compiled, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_a_mask_that_is_not_known_yet() -> None:
    f = ad.compile(lambda x, m: x.at[m].add(1.0))
    x = np.arange(4.0)
    assert f(ad.asarray(x), ad.asarray(x > 1)).tolist() == [0.0, 1.0, 3.0, 4.0]


# ---- errors --------------------------------------------------------------------------------------


def test_errors_are_those_of_brackets() -> None:
    x = ad.zeros(3)
    with pytest.raises(IndexError, match=r"\[index\] index 3 is out of range for axis 0"):
        x.at[3].add(1.0)
    with pytest.raises(IndexError, match=r"\[index\] index -4 is out of range for axis 0"):
        x.at[[0, -4]].multiply(1.0)
    with pytest.raises(ValueError, match=r"does not fit the indexed part"):
        x.at[[0, 1]].add(ad.ones(3))
    with pytest.raises(TypeError, match=r"dtype float64 does not fit a tensor of int64"):
        ad.asarray([1, 2]).at[0].add(ad.tensor(0.5))
    with pytest.raises(TypeError, match=r"\[at\] a tensor of int64 does not hold quotients"):
        ad.asarray([1, 2]).at[0].divide(2)
    assert x.tolist() == [0.0, 0.0, 0.0]
