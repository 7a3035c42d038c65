"""ad.explain: what it says is what then happens, and saying it changes nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

import adjoint as ad

ROWS, COLS = 100, 90


def data(seed=0, shape=(ROWS, COLS)):
    return ad.asarray(np.random.default_rng(seed).uniform(0.5, 2, shape), copy=True)


def layer(x):
    centred = x - ad.mean(x, axis=-1, keepdims=True)
    return centred / ad.sqrt(ad.mean(ad.square(centred), axis=-1, keepdims=True) + 1e-5)


def operations(group):
    return [v["made_by"] for v in group["operations"]]


def stored(explanation):
    """Bytes beyond what lives in the node itself."""
    sizes = (
        v["dtype"].itemsize * int(np.prod(v["shape"]))
        for g in explanation.groups
        for v in g["operations"]
        if v["note"].startswith("stored")
    )
    return sum(size for size in sizes if size > 8)


def test_a_layer_norm_is_one_group():
    x = data()
    [group] = ad.explain(layer(x)).groups
    assert group["space"] == (ROWS, COLS) and group["reduced"] == 1
    assert sorted(operations(group)) == sorted(
        ["sum", "divide", "subtract", "square", "sum", "divide", "add", "sqrt", "divide"]
    )
    assert [v["made_by"] for v in group["operations"] if v["note"] == "stored"] == ["divide"]
    assert {v["made_by"] for v in group["reads"]} == {"memory"}


def test_the_text():
    x = data()
    y = ad.exp(x)
    z = y / ad.sum(y, axis=1, keepdims=True)
    del y
    assert str(ad.explain(z)) == (
        f"group 1 over ({ROWS}, {COLS}), reducing the last axis: 3 operations\n"
        f"  %0 = memory : float64 ({ROWS}, {COLS})\n"
        f"  %1 = exp %0 : float64 ({ROWS}, {COLS})\n"
        f"  %2 = sum %1 axes=[1] keepdims=true : float64 ({ROWS}, 1)\n"
        f"  %3 = divide %1 %2 : float64 ({ROWS}, {COLS})  # stored"
    )
    ad.eval(z)
    assert str(ad.explain(z)) == "nothing is deferred"
    assert len(ad.explain(z, {"a": [x, 3, None]})) == 0


def test_a_live_handle_is_stored():
    x = data()
    y = ad.exp(x)
    z = ad.sqrt(y)
    notes = {v["made_by"]: v["note"] for v in ad.explain(z).groups[0]["operations"]}
    assert notes == {"exp": "stored", "sqrt": "stored"}
    del y
    notes = {v["made_by"]: v["note"] for v in ad.explain(z).groups[0]["operations"]}
    assert notes == {"exp": "", "sqrt": "stored"}


def test_what_is_computed_again_says_so():
    """Values that only a derivative will read are cheaper to compute again than to store."""
    x = ad.tensor(data(), requires_grad=True)
    y = ad.sum(ad.exp(x) * 2.0)
    [group] = ad.explain(y).groups
    notes = {v["made_by"]: v["note"] for v in group["operations"]}
    assert notes == {"exp": "recomputed when asked for", "multiply": "", "sum": "stored"}
    ad.eval(y)
    y.backward()
    [group] = ad.explain(x.grad).groups
    [note] = [v["note"] for v in group["operations"] if v["made_by"] == "exp"]
    assert "recomputed" in note
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(x.detach().numpy()), rtol=1e-14)


def sums(x):
    return ad.sum(x, axis=1, keepdims=True)


ENDS = {
    "reduces other axes": lambda x: sums(ad.exp(x)) * ad.sum(x) + x,
    "does not fit the iteration space": lambda x: ad.reshape(ad.exp(x), (-1,)) * 2.0,
    "do not broadcast along the rows": lambda x: ad.sum(x, axis=1) * sums(x),
    "the group is full": lambda x: _wide(x, 300),
    "a reduction of a reduction": lambda x: ad.max(sums(ad.reshape(x, (-1, 1))), axis=1),
}


@pytest.mark.parametrize("reason", ENDS)
def test_why_a_group_ends(reason):
    x = data(shape=(100, 100))
    y = ENDS[reason](x)
    notes = [v["note"] for g in ad.explain(y).groups for v in g["reads"]]
    assert any(reason in note for note in notes), ad.explain(y)


def _wide(x, n):
    terms = [ad.sin(x * float(i)) for i in range(n)]
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[
            len(terms) // 2 * 2 :
        ]
    return terms[0]


def random_work(seed, x):
    """The values of a random program; as all of them are kept, what is stored stays."""
    choose = random.Random(seed)
    half = ad.asarray(0.5)
    values = [x, x * half]
    for _ in range(20):
        a, b = choose.choice(values), choose.choice(values)
        kind = choose.randrange(8)
        if kind == 0:
            values.append(ad.sum(a, axis=-1, keepdims=True) if a.ndim else a * half)
        elif kind == 1:
            values.append(ad.sum(a))
        elif kind == 2 and a.ndim == 2:
            values.append(ad.sum(a, axis=-1))
        elif kind == 3 and a.ndim != 1:
            values.append(ad.broadcast_to(a, x.shape))
        elif {a.ndim, b.ndim} != {1, 2}:
            values.append((a + b, a * b, a - b)[kind % 3])
    return values


@pytest.mark.parametrize("recorded", [False, True])
def test_it_foretells_what_is_stored(recorded):
    for seed in range(60):
        x = data(seed)
        if recorded:
            x = ad.tensor(x, requires_grad=True)
        everything = random_work(seed, x)
        for y in (everything[-1], everything[3:5], everything):
            before = ad.memory_stats()
            explanation = ad.explain(y)
            assert str(ad.explain(y)) == str(explanation)
            after = ad.memory_stats()
            assert (after["live"], after["live_nodes"]) == (before["live"], before["live_nodes"])
            ad.eval(y)
            assert ad.memory_stats()["live"] - before["live"] == stored(explanation), seed
            assert len(ad.explain(y)) == 0


def test_forward_mode_explains_the_primal():
    seen = []

    def f(x):
        y = ad.exp(x) * 2.0
        seen.append(len(ad.explain(y)))
        return y

    x = data()
    ad.jvp(f, (x,), (x,))
    assert seen == [1]
    assert len(ad.explain(3, None)) == 0


def test_the_groups_of_a_program():
    w = data(1, (COLS, 4))

    def f(x):
        h = layer(x) @ w
        return ad.sum(ad.tanh(h) * 2.0), ad.sum(x * x, axis=0)

    groups = ad.compile(f).program(data()).groups
    reads = [[(v["made_by"], v["note"]) for v in g["reads"]] for g in groups.groups]
    assert ("input 0", "") in reads[0]
    assert ("matmul", "an operation that runs on its own") in [r for group in reads for r in group]
    [last] = [g for g in groups.groups if "tanh" in operations(g)]
    assert operations(last) == ["tanh", "multiply", "sum"]
    assert last["space"] == (ROWS, 4) and last["reduced"] == 2
    assert "reducing the last 2 axes: 3 operations" in str(groups)


def test_deferred_and_compiled_work_fall_into_the_same_groups():
    """One rule decides for both."""

    def f(x):
        return layer(x) * ad.sum(ad.exp(x), axis=-1, keepdims=True)

    x = data()
    compiled = ad.compile(f).program(x).groups.groups
    deferred = ad.explain(f(x)).groups
    assert [sorted(operations(g)) for g in compiled] == [sorted(operations(g)) for g in deferred]


def test_columns_are_reduced_in_the_pass_that_makes_them():
    x = data()
    y = ad.exp(x)
    rows, columns = ad.sum(y, axis=1), ad.sum(y, axis=0)
    del y
    [group] = ad.explain(rows, columns).groups
    assert (group["space"], group["reduced"], group["lead"]) == ((ROWS, COLS), 1, 1)
    text = str(ad.explain(rows, columns))
    assert text.startswith(
        f"group 1 over ({ROWS}, {COLS}), reducing the last axis and the first axis: 3 operations"
    )
    a = np.exp(x.numpy())
    np.testing.assert_allclose(rows.numpy(), a.sum(1), rtol=1e-13)
    np.testing.assert_allclose(columns.numpy(), a.sum(0), rtol=1e-13)
