"""The four problems of the ADBench suite against its published values and derivatives.

`adbench.json` has the numbers of one small instance per problem (github.com/microsoft/ADBench) with
the values and Jacobians its tests expect, to twelve digits. The objectives are those that the
benchmarks measure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import adjoint as ad

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "benchmarks"))

from workloads import adbench, adbench_ba, adbench_gmm, adbench_hand, adbench_lstm  # noqa: E402

PUBLISHED = json.loads((HERE / "adbench.json").read_text(encoding="utf-8"))
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
_, XP = adbench.names("adjoint")


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-8, atol=1e-8)


def agree(results, expected):
    """Compare with a benchmark's reference, which is written in NumPy."""
    expected = expected if isinstance(expected, list) else [expected]
    for a, b in zip(ad.tree.leaves(results), expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-9, atol=1e-11 * np.abs(b).max())


def check_differences(f, arguments):
    """Compare the gradient of a random sum of outputs with a central difference along a line."""
    rng = np.random.default_rng(3)
    along = [rng.standard_normal(a.shape) for a in arguments]

    def total(*xs):
        y = f(*xs)
        weights = np.cos(np.arange(y.size)).reshape(y.shape)
        return ad.sum(y * ad.asarray(weights))

    numbers = tuple(range(len(arguments)))
    gradients = ad.grad(total, numbers)(*map(ad.asarray, arguments))
    slope = sum((g.numpy() * v).sum() for g, v in zip(gradients, along, strict=True))
    h = 1e-5
    ends = [
        total(*(ad.asarray(a + s * h * v) for a, v in zip(arguments, along, strict=True))).item()
        for s in (1, -1)
    ]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), slope, rtol=1e-6, atol=1e-9)


def called(f, compiled, *arguments):
    return (ad.compile(f) if compiled else f)(*map(ad.asarray, arguments))


# ---- Gaussian mixture ----------------------------------------------------------------------------


def mixture():
    p = PUBLISHED["gmm"]
    shapes = {"alphas": (3,), "means": (3, 2), "icf": (3, 3), "x": (1, 2)}
    logits, means, factors, x = (np.reshape(p[name], shape) for name, shape in shapes.items())
    return (logits, means, factors), x, p["gamma"], p["m"]


@COMPILED
def test_gmm(compiled):
    instance = mixture()
    f = adbench_gmm.objective_of(XP, *instance[1:])
    close(called(f, compiled, *instance[0]), PUBLISHED["gmm"]["objective"])
    gradients = called(ad.grad(f, (0, 1, 2)), compiled, *instance[0])
    close(np.concatenate([g.numpy().ravel() for g in gradients]), PUBLISHED["gmm"]["gradient"])


def test_gmm_of_more_points():
    instance = (*adbench_gmm.data(3, 4, 20)[:2], 1.3, 2)
    f = adbench_gmm.objective_of(XP, *instance[1:])
    at = list(map(ad.asarray, instance[0]))
    agree(f(*at), adbench_gmm.reference("objective", instance))
    agree(ad.grad(f, (0, 1, 2))(*at), adbench_gmm.reference("gradient", instance))
    check_differences(f, instance[0])


# ---- Bundle adjustment ---------------------------------------------------------------------------


def bundle():
    p = PUBLISHED["ba"]
    count = p["observations"]
    k = np.arange(count)
    parameters = (
        np.tile(p["camera"], (p["cameras"], 1)),
        np.tile(p["point"], (p["points"], 1)),
        np.full(count, p["weight"]),
    )
    seen = np.stack([k % p["cameras"], k % p["points"]])
    return parameters, seen, np.tile(p["feature"], (count, 1))


@COMPILED
def test_ba(compiled):
    p = PUBLISHED["ba"]
    parameters, *rest = bundle()
    errors, of_weights = called(
        adbench_ba.function_of("adjoint", "objective", *rest), compiled, *parameters
    )
    close(errors, [p["reprojection"]] * 10)
    close(of_weights, [p["weight_error"]] * 10)
    blocks, of_weights = called(
        adbench_ba.function_of("adjoint", "jacobian", *rest), compiled, *parameters
    )
    close(blocks, [p["jacobian"]] * 10)
    close(of_weights, [p["weight_jacobian"]] * 10)


def test_ba_as_one_sparse_jacobian():
    """The whole matrix at once, from its pattern."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    (cams, points, weights), seen, measured = bundle()
    f = adbench_ba.function_of("adjoint", "objective", seen, measured)
    n, m, count = len(cams), len(points), len(weights)

    def errors(x):
        parts = x[: 11 * n], x[11 * n : 11 * n + 3 * m], x[11 * n + 3 * m :]
        both = f(ad.reshape(parts[0], (n, 11)), ad.reshape(parts[1], (m, 3)), parts[2])
        return ad.concat([ad.reshape(both[0], (-1,)), both[1]], axis=0)

    each = np.arange(count)[:, None]
    columns = np.concatenate(
        [11 * seen[0][:, None] + np.arange(11), 11 * n + 3 * seen[1][:, None] + np.arange(3)], 1
    )
    columns = np.concatenate([columns, 11 * n + 3 * m + each], 1)
    rows = np.concatenate([np.repeat(np.arange(2 * count), 15), 2 * count + np.arange(count)])
    cols = np.concatenate([np.repeat(columns, 2, axis=0).ravel(), 11 * n + 3 * m + each.ravel()])
    pattern = scipy_sparse.csr_array((np.ones(rows.size), (rows, cols)))
    x = np.concatenate([cams.ravel(), points.ravel(), weights])
    jacobian = ad.jacobian(errors, sparsity=pattern)(ad.asarray(x))
    assert jacobian.shape == (30, 62) and jacobian.nnz == 310
    p = PUBLISHED["ba"]
    close(jacobian.data, [*np.ravel([p["jacobian"]] * 10), *[p["weight_jacobian"]] * 10])


def test_ba_of_more_cameras():
    instance = adbench_ba.data(3, 5, 12)
    at = list(map(ad.asarray, instance[0]))
    for case in adbench_ba.CASES:
        f = adbench_ba.function_of("adjoint", case, *instance[1:])
        agree(f(*at), adbench_ba.reference(case, instance))
    f = adbench_ba.function_of("adjoint", "objective", *instance[1:])
    check_differences(lambda *xs: f(*xs)[0], instance[0])


# ---- Hand tracking -------------------------------------------------------------------------------


def hand(kind):
    p = PUBLISHED["hand"]
    case = p[kind]

    def homogeneous(rows):
        # They come as float32.
        upper = np.float64(np.float32(rows)).reshape(-1, 3, 4)
        lower = np.tile([0.0, 0.0, 0.0, 1.0], (len(upper), 1, 1))
        return np.concatenate([upper, lower], axis=1)

    weights = np.zeros((22, len(p["vertices"])))
    for vertex, of_bones in enumerate(p["weights"]):
        for bone, weight in of_bones.items():
            weights[int(bone), vertex] = weight
    model = adbench_hand.Model(
        p["parents"],
        homogeneous(p["base_relatives"]),
        homogeneous(p["inverse_base_absolutes"]),
        np.float64(np.float32(p["vertices"])),
        weights,
    )
    corners = case.get("triangles") or [[c] * 3 for c in case["correspondences"]]
    coordinates = np.array(case.get("us", np.zeros((2, 2))))
    theta, points = np.array(case["theta"]), np.array(case["points"])
    return model, (theta, coordinates), np.array(corners), points


@COMPILED
@pytest.mark.parametrize("kind", ["simple", "complicated"])
def test_hand(kind, compiled):
    p = PUBLISHED["hand"][kind]
    f, x = adbench_hand.function_of("adjoint", f"{kind} objective", hand(kind))
    close(called(f, compiled, x), p["objective"])
    f, x = adbench_hand.function_of("adjoint", f"{kind} jacobian", hand(kind))
    close(called(f, compiled, x), np.transpose(p["jacobian"]))


@pytest.mark.parametrize("case", adbench_hand.CASES)
def test_hand_of_more_points(case):
    instance = adbench_hand.data()
    f, x = adbench_hand.function_of("adjoint", case, instance)
    agree(f(x), adbench_hand.reference(case, instance))
    if case.endswith("objective"):
        check_differences(f, [x.numpy()])


# ---- LSTM ----------------------------------------------------------------------------------------


def text():
    p = PUBLISHED["lstm"]
    codes = np.array([ord(c) for c in p["text"]])
    characters = 1.0 * (codes[:, None] >> np.arange(14)[::-1] & 1)
    main, extra = np.reshape(p["main"], (2, 2, 4, 14)), np.reshape(p["extra"], (3, 14))
    return (main, extra), np.reshape(p["state"], (2, 2, 14)), characters


@COMPILED
@pytest.mark.parametrize("scan", [False, True], ids=["loop", "scan"])
def test_lstm(compiled, scan):
    parameters, *rest = text()
    steps = adbench_lstm.scanned(ad.scan) if scan else adbench_lstm.recurrence
    f = adbench_lstm.objective_of(XP, *rest, steps)
    close(called(f, compiled, *parameters), PUBLISHED["lstm"]["objective"])
    gradients = called(ad.grad(f, (0, 1)), compiled, *parameters)
    close(np.concatenate([g.numpy().ravel() for g in gradients]), PUBLISHED["lstm"]["gradient"])


def test_lstm_of_fewer_characters():
    instance = adbench_lstm.data(3, 20, 5)
    f = adbench_lstm.objective_of(XP, *instance[1:])
    at = list(map(ad.asarray, instance[0]))
    agree(f(*at), adbench_lstm.reference("objective", instance))
    agree(ad.grad(f, (0, 1))(*at), adbench_lstm.reference("gradient", instance))
    check_differences(f, instance[0])
