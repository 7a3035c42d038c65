"""What a compiled function puts into attributes, variables and containers.

State that is made when first needed, memos, lists that grow, kept activations: each call does what
the function does uncompiled, whose results stand here by hand.
"""

from __future__ import annotations

import collections
import operator
import types

import pytest

import adjoint as ad


def _places():
    class Slots:
        __slots__ = ("h",)

    class Class:
        h = None

    box, slots, last = types.SimpleNamespace(), Slots(), collections.deque([None])
    items, table = [None], {"h": None}

    def variable():
        h = None

        def get():
            return h

        def put(v):
            nonlocal h
            h = v

        return get, put

    return {
        "attribute": (lambda: box.h, lambda v: setattr(box, "h", v)),
        "slot": (lambda: slots.h, lambda v: setattr(slots, "h", v)),
        "class": (lambda: Class.h, lambda v: setattr(Class, "h", v)),
        "list": (lambda: items[0], lambda v: operator.setitem(items, 0, v)),
        "deque": (lambda: last[0], lambda v: operator.setitem(last, 0, v)),
        "dict": (lambda: table["h"], lambda v: operator.setitem(table, "h", v)),
        "variable": variable(),
    }


@pytest.mark.parametrize("place", _places())
def test_a_tensor_put_in_the_place_of_another_is_put_there_by_each_call(place):
    get, put = _places()[place]

    def f(x, n=2, fail=False, read=False):
        if read:
            x = x + get()
        put(x * 2)
        if fail:
            raise KeyError("inside")
        return x**n

    g = ad.compile(f)
    put(ad.tensor(1.0))  # held by nothing else
    for x in (3.0, 4.0):
        assert g(ad.tensor(x)).item() == x * x
        assert get().item() == 2 * x
    assert g.cache_info()["misses"] == 1
    with pytest.raises(KeyError, match="inside"):
        g(ad.tensor(3.0), fail=True)
    assert get().item() == 8.0
    assert g(ad.tensor(3.0), 3).item() == 27.0  # traced again for the value of a number
    assert get().item() == 6.0
    with pytest.raises(RuntimeError, match=r"instead of putting another in its place"):
        g(ad.tensor(5.0), read=True)
    assert get().item() == 6.0


@pytest.mark.parametrize("place", _places())
def test_state_is_made_by_the_first_call_and_changed_by_the_next(place):
    get, put = _places()[place]

    def f(g):
        if get() is None:
            put(g * 0.0)
        get()[...] = 0.5 * get() + g
        return get() * 1.0

    f_compiled = ad.compile(f)
    for _ in range(2):  # and when it is given up
        put(None)
        assert [f_compiled(ad.tensor(v)).item() for v in (1.0, 5.0, 9.0, 2.0)] == [
            1.0,
            5.5,
            11.75,
            7.875,
        ]
        assert get().item() == 7.875
    assert f_compiled.cache_info()["misses"] <= 4


def test_what_a_call_leaves_behind_is_one_handle_in_all_places():
    s = types.SimpleNamespace()

    def f(x):
        s.x, s.pair = x, (x + 1, "name", x * 2)
        s.first = s.pair[0]
        return s.first, s.pair

    g = ad.compile(f)
    for v in (1.0, 2.0):
        x = ad.tensor(v)
        first, pair = g(x)
        assert s.x is x
        assert pair[0] is first
        assert s.pair[0] is s.first
        assert s.first is not first  # what is returned is a handle of its own
        assert s.first.item() == v + 1
        assert (first.item(), s.pair[1], s.pair[2].item()) == (v + 1, "name", v * 2)


def test_memos_and_lists_grow_as_they_do_uncompiled():
    def functions():
        memo, rows, s = {}, [], types.SimpleNamespace(h=0.0)

        def by_key(x):
            if "c" not in memo:
                memo["c"] = x * 2
            return memo["c"] + x

        def by_row(x):
            rows.append(x * 2)
            return rows[0] + len(rows) * x

        def by_number(x):
            if isinstance(s.h, float):
                s.h = x + s.h
            s.h[...] = s.h + x
            return s.h * 1.0

        def by_object(x):
            if not hasattr(s, "inner"):
                s.inner = types.SimpleNamespace(v=x * 3)
            return s.inner.v + x

        return by_key, by_row, by_number, by_object

    for plain, traced in zip(functions(), map(ad.compile, functions()), strict=True):
        inputs = [ad.tensor(v) for v in (1.0, 5.0, 2.0)]
        expected = {
            "by_key": [3.0, 7.0, 4.0],
            "by_row": [3.0, 12.0, 8.0],
            "by_number": [2.0, 7.0, 9.0],
            "by_object": [4.0, 8.0, 5.0],
        }[plain.__name__]
        assert [plain(x).item() for x in inputs] == expected
        assert [traced(x).item() for x in inputs] == expected


def test_a_kept_activation_has_its_history():
    class Net(ad.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = None

        def forward(self, x):
            self.hidden = x * w
            return ad.sum(self.hidden)

    w = ad.tensor([2.0, 3.0], requires_grad=True)
    net = Net()
    g = ad.compile(net)
    for k in (1.0, 2.0, 3.0):
        g(ad.tensor([k, k]))
        w.zero_grad()
        ad.sum(net.hidden**2).backward()
        assert w.grad.tolist() == [2 * k * k * 2.0, 2 * k * k * 3.0]
    assert g.cache_info()["misses"] == 2


def test_a_parameter_made_while_tracing_is_refused():
    s = types.SimpleNamespace()

    def f(x):
        if not hasattr(s, "w"):
            s.w = ad.ones(2).requires_grad_()
        return s.w * x

    with pytest.raises(RuntimeError, match="before the first call"):
        ad.compile(f)(ad.tensor(1.0))
    assert not hasattr(s, "w")


def test_a_queue_of_tensors_moves_on():
    q = collections.deque([ad.tensor(1.0), ad.tensor(2.0)], maxlen=2)

    def f(x):
        q.append(x * 2)
        return x

    g = ad.compile(f)
    for x, expected in ((3.0, [2.0, 6.0]), (4.0, [6.0, 8.0]), (5.0, [8.0, 10.0])):
        assert g(ad.tensor(x)).item() == x
        assert [t.item() for t in q] == expected


def test_handles_that_move_between_places():
    s = types.SimpleNamespace(cur=ad.tensor(10.0), old=ad.tensor(20.0), rows=[ad.tensor(7.0)])

    def swap(x):
        s.cur, s.old = s.old, s.cur
        return s.cur + x

    def shift(x):
        s.old, s.cur = s.cur, x * 2
        return x

    def insert(x):
        s.rows.insert(0, x * 2)
        return x

    def rotate(x):
        s.rows.append(s.rows.pop(0))
        return s.rows[0] + x

    g = ad.compile(swap)
    assert [g(0.0).item() for _ in range(5)] == [20.0, 10.0, 20.0, 10.0, 20.0]
    g = ad.compile(shift)
    for x, expected in ((1.0, (20.0, 2.0)), (2.0, (2.0, 4.0)), (3.0, (4.0, 6.0))):
        g(x)
        assert (s.old.item(), s.cur.item()) == expected
    g = ad.compile(insert)
    for x in (1.0, 2.0):
        g(x)
    assert [t.item() for t in s.rows] == [4.0, 2.0, 7.0]
    g = ad.compile(rotate)
    assert [g(0.0).item() for _ in range(7)] == [2.0, 7.0, 4.0, 2.0, 7.0, 4.0, 2.0]


def test_containers_in_what_is_left():
    s, memo = types.SimpleNamespace(table={}), collections.OrderedDict()

    def f(x):
        s.h, s.e = (x, [x * 2]), (x, {"a": x * 3})
        s.table["k"] = [x, [x * 2]]
        memo["a"] = x * 2
        return x

    g = ad.compile(f)
    for v in (1.0, 2.0, 3.0):
        g(ad.tensor(v))
        assert s.h[0].item() == v
        assert [t.item() for t in s.h[1]] == [2 * v]
        assert s.e[1]["a"].item() == 3 * v
        assert (s.table["k"][0].item(), s.table["k"][1][0].item()) == (v, 2 * v)
        assert [(key, t.item()) for key, t in memo.items()] == [("a", 2 * v)]


def test_a_call_that_raises_puts_everything_back():
    s = types.SimpleNamespace(p=ad.tensor(1.0), q=ad.tensor(2.0), rows=[ad.tensor(3.0)])
    p, q, row = s.p, s.q, s.rows[0]

    def f(x):
        s.q, s.r = s.p, x * 2
        s.rows[0] = s.p
        s.rows.append(x)
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        ad.compile(f)(ad.tensor(1.0))
    assert s.p is p
    assert s.q is q
    assert len(s.rows) == 1
    assert s.rows[0] is row
    assert not hasattr(s, "r")
