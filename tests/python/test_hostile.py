"""Input that works against its reader: lists that change, buffers with holes, trees in themselves.

What could crash runs in an interpreter of its own, with freed memory overwritten, so that a crash
is a failure like another.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import numpy as np
import pytest

import adjoint as ad

PRELUDE = """
import adjoint as ad, numpy as np, gc

def fails(f, kinds=Exception):
    try: f()
    except kinds: return
    raise SystemExit(f"accepted: {f}")

def emptied(method, count=3, result=1):
    '''A list that is emptied when an entry of it is asked for `method`.'''
    entries = []
    def act(self, *args, **kwargs):
        entries.clear()
        entries.extend([0] * 100 for _ in range(50))
        entries.clear()
        gc.collect()
        return result
    kind = type("Entry", (), {method: act})
    entries.extend(kind() for _ in range(count))
    return entries

class Rebinding:
    '''Rebinds `x`, and writes over the memory that its value had, when it is converted.'''
    def __init__(self, x, answer):
        self.x, self.answer = x, answer
    def act(self):
        with ad.no_grad():
            self.x.rebind_(ad.zeros(self.x.shape, dtype=self.x.dtype) + 7)
        self.kept = [ad.tensor(float(i)) for i in range(3000)]
        self.kept += [ad.zeros(self.x.shape) - 1.0 for _ in range(50)]
    def __array__(self, *args, **kwargs):
        self.act()
        return np.asarray(self.answer)
    def __index__(self):
        self.act()
        return self.answer
"""


def fresh(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"ended by {done.returncode}\n{done.stdout}{done.stderr[-2000:]}"


# ---- Lists and dicts that change while they are read ---------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "ad.zeros(e)",
        "ad.full(e, 1.0)",
        "ad.reshape(x, e)",
        "x.reshape(e)",
        "ad.broadcast_to(x, e)",
        "ad.permute_dims(x, e)",
        "ad.moveaxis(x, e, (0, 1, 2))",
        "ad.squeeze(x, e)",
        "ad.flip(x, axis=e)",
        "ad.sum(x, axis=e)",
        "ad.max(x, axis=e)",
        "ad.mean(x, axis=e)",
        "ad.std(x, axis=e)",
        "ad.grad(lambda *a: a[0], argnums=e)(1.0, 2.0)",
        "ad.jacobian(lambda *a: a[0], argnums=e)(1.0, 2.0)",
        "ad.compile(lambda *a: a[0], static_argnums=e)(1.0, 2.0)",
        "ad.random.Generator(0).uniform(e)",
        "ad.random.Generator(0).normal(e)",
        "x[e]",
        "x[e, 0]",
        "x.__dlpack__(dl_device=e)",
        "ad.vmap(lambda *a: a[0], in_axes=e)(x, x, x)",
    ],
)
def test_lists_emptied_by_index(call: str) -> None:
    fresh(f"x = ad.ones((2, 3, 4))\ne = emptied('__index__')\ntry: {call}\nexcept Exception: pass")


@pytest.mark.parametrize(
    "call",
    [
        "ad.tensor(e)",
        "ad.asarray([e, e])",
        "ad.stack(e)",
        "ad.concat(e)",
        "ad.exp(e)",
        "ad.add(x, e)",
        "ad.grad(lambda p: ad.sum(p[0]))(e)",
        "ad.vjp(lambda p: p, e)",
        "ad.jvp(lambda p: p[0], (e,), (e,))",
        "ad.vmap(lambda p: p[0], in_axes=[0])(e)",
        "ad.vmap(lambda p: p[0])(e)",
        "ad.stop_gradient(e)",
        "ad.tree.map(ad.asarray, e)",
        "x.__setitem__(0, e)",
        "x.__setitem__(e, 1.0)",
        "ad.nn.mse_loss(e, e)",
    ],
)
def test_lists_emptied_by_array(call: str) -> None:
    fresh(
        "x = ad.ones((2,))\ne = emptied('__array__', result=np.ones(2))\n"
        f"try: {call}\nexcept Exception: pass"
    )


def test_dicts_that_change_while_they_are_read() -> None:
    fresh("""
class Key:
    armed = False
    def __init__(self, d): self.d = d
    def __hash__(self): return 1
    def __eq__(self, other):
        if Key.armed:
            self.d.clear(); gc.collect()
        return self is other
def trap():
    Key.armed = False
    d = {}
    for _ in range(4): d[Key(d)] = ad.ones(3) * 2
    Key.armed = True
    return d
for f in (ad.tree.leaves, ad.tree.structure, ad.eval, lambda d: ad.tree.map(ad.exp, d, trap()),
          lambda d: ad.tree.map(ad.exp, trap(), d),
          lambda d: ad.vmap(lambda a: 1.0, in_axes=(trap(),))(d),
          lambda d: ad.tree.structure(d) == ad.tree.structure(trap()),
          lambda d: ad.tree.unflatten(ad.tree.structure(d), [1, 2, 3, 4])):
    try: f(trap())
    except Exception: pass
""")


def test_a_class_registered_anew_while_it_is_flattened() -> None:
    fresh("""
class Node:
    pass
def flatten(node):
    ad.tree.register(Node, lambda n: ((1.0,), None), lambda data, children: Node())
    gc.collect()
    return (2.0, 3.0), None
ad.tree.register(Node, flatten, lambda data, children: Node())
del flatten
assert ad.tree.leaves(Node()) == [2.0, 3.0]
assert ad.tree.leaves(Node()) == [1.0]
""")


# ---- Values borrowed across code of the user -----------------------------------------------------


@pytest.mark.parametrize("size", [3, 40000])
@pytest.mark.parametrize(
    "call",
    [
        "ad.add(x, r)",
        "ad.add(r, x)",
        "x + r",
        "ad.where(x > 0, x, r)",
        "ad.clip(x, 0.0, r)",
        "ad.clip(r, x, x)",
        "x == r",
        "x @ r",
        "ad.stack([x, r])",
        "ad.concat([x, r])",
        "ad.grad(lambda a, b: ad.sum(a * r))(x, 1.0)",
    ],
)
def test_an_operand_that_rebinds_the_other(call: str, size: int) -> None:
    """The value is that of before, or of after; never what lies where it was."""
    fresh(f"""
import contextlib
x = ad.tensor(np.full({size}, 2.0))
r = Rebinding(x, np.full({size}, 3.0))
y = {call}
values = np.unique(np.asarray(y))
possible = {{2.0, 3.0, 7.0, 5.0, 10.0, 0.0, 1.0, 6.0 * {size}, 21.0 * {size}}}
assert set(values.tolist()) <= possible, values
""")


@pytest.mark.parametrize("size", [3, 40000])
@pytest.mark.parametrize(
    "statement",
    [
        "x += r",
        "x *= r",
        "x[:] = r",
        "x[0] = k",
        "x[k] = 1.0",
        "x[k:] = 1.0",
        "x[m] = 5.0",
        "x[[k, k]] = 5.0",
        "x[k, None]",
        "x[:k]",
    ],
)
def test_an_assignment_whose_parts_rebind_the_tensor(statement: str, size: int) -> None:
    fresh(f"""
x = ad.tensor(np.full({size}, 2.0))
r = Rebinding(x, np.full({size}, 3.0))
k = Rebinding(x, 1)
m = Rebinding(x, np.arange({size}) == 0)
try:
    {statement}
except TypeError:
    pass
assert np.isin(x.numpy(), [1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 10.0, 21.0]).all(), x
""")


def test_a_leaf_made_while_the_value_is_read_is_not_replaced() -> None:
    x = ad.tensor([1.0, 2.0])

    class MakesALeaf:
        def __array__(self, *args, **kwargs):
            x.requires_grad_(True)
            return np.ones(2)

    with pytest.raises(RuntimeError, match="no_grad"):
        x[:] = MakesALeaf()
    assert x.tolist() == [1.0, 2.0]


def test_exceptions_of_the_user_come_through() -> None:
    class Own(Exception):
        pass

    def fail(*args):
        raise Own

    names = ("__array__", "__dlpack__", "dtype", "__getattr__")
    for name in names:
        value = property(fail) if name == "dtype" else fail
        hostile = type("Hostile", (), {name: value})()
        if name == "dtype":
            continue
        with pytest.raises(Own):
            ad.asarray(hostile)
        with pytest.raises(Own):
            ad.ones(2) + hostile
    with pytest.raises(Own):
        ad.zeros([type("Hostile", (), {"__index__": fail})()])


# ---- Buffers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: (ctypes.c_double * 3)(1, 2, 3), [1.0, 2.0, 3.0]),
        (lambda: ((ctypes.c_int16 * 2) * 2)((1, 2), (3, 4)), [[1, 2], [3, 4]]),
        (lambda: ctypes.c_float(2.5), 2.5),
        (lambda: (ctypes.c_uint8 * 0)(), []),
        (lambda: (ctypes.c_bool * 2)(True, False), [True, False]),
        (lambda: memoryview(b"\1\2"), [1, 2]),
        (lambda: memoryview(np.arange(6.0)[::-2]), [5.0, 3.0, 1.0]),
        (lambda: np.int32(7), 7),
        (lambda: np.float64(0.5), 0.5),
        (lambda: np.bool_(True), True),
    ],
)
def test_buffers_of_other_makers(make, expected) -> None:
    assert ad.asarray(make()).tolist() == expected
    assert ad.asarray(make(), copy=True).tolist() == expected


def test_a_ctypes_array_shares_its_memory_on_request() -> None:
    array = (ctypes.c_double * 3)(1, 2, 3)
    shared = ad.asarray(array, copy=False)
    array[0] = 5.0
    assert shared.tolist() == [5.0, 2.0, 3.0]
    del array
    gc.collect()
    assert shared.tolist() == [5.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.datetime64("2026-01-01"),
        lambda: np.datetime64("NaT"),
        lambda: np.timedelta64(1, "s"),
        lambda: np.array(["2026-01-01"], "M8[D]"),
        lambda: np.complex64(1),
        lambda: np.float16(1),
        lambda: np.array([None]),
        lambda: ctypes.create_string_buffer(b"abc"),
        lambda: type("S", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_int)]})(),
    ],
)
def test_element_types_without_a_counterpart(make) -> None:
    for call in (ad.asarray, ad.exp, lambda v: ad.ones(2) + v, lambda v: ad.stack([v, v])):
        with pytest.raises(TypeError):
            call(make())
    x = ad.ones(2)
    with pytest.raises(TypeError):
        x[0] = make()
    assert x.tolist() == [1.0, 1.0]


def test_a_buffer_of_more_dimensions_than_a_tensor_has() -> None:
    kind: type = ctypes.c_double
    for _ in range(70):
        kind = kind * 1
    with pytest.raises(TypeError):
        ad.asarray(kind())


# ---- Bools of other bytes than 0 and 1 -----------------------------------------------------------

ODD = np.array([2, 0, 255, 1, 128, 0], "u1")
RIGHT = [True, False, True, True, True, False]


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "make",
    [
        lambda: ad.asarray(ODD.view(bool)),
        lambda: ad.asarray(np.tile(ODD, 10000).view(bool))[-6:],
        lambda: ad.asarray(read_only(ODD.copy().view(bool))),
        lambda: ad.asarray(ODD.view(bool), copy=True),
        lambda: ad.asarray(ODD.view(bool)[::-1])[::-1],
        lambda: ad.asarray(ODD.view(bool).reshape(2, 3).T).mT.reshape(6),
        lambda: ad.from_dlpack(ODD.view(bool)),
        lambda: ad.from_dlpack(ODD.view(bool), copy=True),
        lambda: ad.asarray((ctypes.c_bool * 6).from_buffer_copy(ODD.tobytes())),
        lambda: ad.asarray(memoryview(ODD.view(bool))),
        lambda: ad.stack([ad.asarray(x) for x in ODD.view(bool)]),
        lambda: ad._core._rebuild(ad.Tensor, ad.bool, (6,), ODD.tobytes(), False, None, None),
    ],
)
def test_odd_bools_are_true_once_imported(make) -> None:
    x = make()
    assert x.numpy().view("u1").tolist() == [int(v) for v in RIGHT]
    assert (~x).tolist() == [not v for v in RIGHT]
    assert ad.sum(x).item() == 4
    assert ad.astype(x, ad.int64).tolist() == [int(v) for v in RIGHT]
    assert ad.asarray(np.arange(6))[x].tolist() == [0, 2, 3, 4]
    assert (x == ad.asarray(RIGHT)).tolist() == [True] * 6


def test_odd_bools_are_not_shared() -> None:
    with pytest.raises(ValueError, match="other bytes than 0 and 1"):
        ad.asarray(ODD.view(bool), copy=False)
    with pytest.raises(ValueError, match="other bytes than 0 and 1"):
        ad.from_dlpack(ODD.view(bool), copy=False)
    plain = np.array(RIGHT)
    assert ad.asarray(plain, copy=False).numpy().__array_interface__["data"] == (
        plain.__array_interface__["data"][0],
        True,
    )


def test_odd_bools_of_a_file_are_refused(tmp_path) -> None:
    path = tmp_path / "odd.safetensors"
    ad.io.save(path, {"m": ad.asarray(RIGHT)})
    content = path.read_bytes()
    path.write_bytes(content[:-6] + ODD.tobytes())
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        ad.io.load(path)


# ---- DLPack --------------------------------------------------------------------------------------


class Capsule:
    """A producer whose capsule is made by NumPy and changed on the way."""

    def __init__(self, array, change):
        self.array, self.change = array, change

    def __dlpack__(self, **kwargs):
        capsule = self.array.__dlpack__(**kwargs)
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        # version, manager, deleter, flags; data, device, ndim, type, shape, strides, offset
        words = (ctypes.c_uint64 * 11).from_address(get(capsule, b"dltensor_versioned"))
        self.change(words)
        return capsule


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda w: w.__setitem__(5, 2), BufferError),  # another device
        (lambda w: w.__setitem__(6, (w[6] & ~0xFFFFFFFF) | 99), BufferError),  # dimensions
        (lambda w: w.__setitem__(6, (w[6] & ~0xFFFFFFFF) | 0xFFFFFFFF), BufferError),
        (lambda w: w.__setitem__(6, (w[6] & 0xFFFFFFFF) | (5 << 32)), TypeError),  # complex
        (lambda w: w.__setitem__(7, 0), BufferError),  # no shape
        (lambda w: w.__setitem__(4, 0), BufferError),  # no data
        (lambda w: w.__setitem__(0, 9), BufferError),  # version
    ],
)
def test_capsules_that_are_refused_are_released_once(change, kind) -> None:
    array = np.ones(4)
    before = sys.getrefcount(array)
    with pytest.raises(kind):
        ad.from_dlpack(Capsule(array, change))
    gc.collect()
    assert sys.getrefcount(array) == before


def test_a_capsule_is_used_once() -> None:
    capsule = np.ones(3).__dlpack__(max_version=(1, 0))
    producer = type("Producer", (), {"__dlpack__": lambda self, **k: capsule})()
    assert ad.from_dlpack(producer).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(BufferError, match="fresh"):
        ad.from_dlpack(producer)


# ---- Trees ---------------------------------------------------------------------------------------


def cycles():
    one: list = []
    one.append(one)
    two: dict = {"a": 1.0}
    two["b"] = (2.0, [two])
    three: list = [1.0]
    three.append(({"x": three},))
    deep: list = []
    inner = deep
    for _ in range(100):
        inner.append([1.0])
        inner = inner[-1]
    inner.append(deep)
    return [one, two, three, deep]


@pytest.mark.parametrize(
    "call",
    [
        ad.tree.leaves,
        ad.tree.flatten,
        ad.tree.structure,
        lambda t: ad.tree.map(lambda x: x, t),
        ad.eval,
        ad.explain,
        lambda t: ad.grad(lambda x: x)(t),
        lambda t: ad.vjp(lambda x: x, t),
        lambda t: ad.jvp(lambda x: x, (t,), (t,)),
        lambda t: ad.vmap(lambda x: x)(t),
        lambda t: ad.vmap(lambda x: x, in_axes=(t,))(t),
        lambda t: ad.vmap(lambda x: t)(ad.ones(2)),
        lambda t: ad.compile(lambda x: 1.0)(t),
        lambda t: ad.compile(lambda x: t)(1.0),
        lambda t: ad.checkpoint(lambda x: 1.0)(t),
        lambda t: ad.stop_gradient(t),
        lambda t: ad.jacobian(lambda x: x)(t),
        lambda t: ad.linearize(lambda x: x, t),
        lambda t: ad.scan(lambda c, x: (c, x), t, ad.ones(2)),
        lambda t: ad.cond(True, lambda x: x, lambda x: x, t) and ad.tree.leaves(t),
        lambda t: ad.custom_vjp(lambda x: 1.0)(t),
        lambda t: ad.optim.Adam(t),
        lambda t: ad.optim.apply_updates(t, t),
        lambda t: ad.testing.assert_close(t, t),
    ],
)
def test_trees_that_contain_themselves(call) -> None:
    for tree in cycles():
        with pytest.raises(ValueError, match=r"contains itself|64 deep"):
            call(tree)


def test_what_occurs_twice_does_not_contain_itself() -> None:
    shared = [1.0, (2.0,)]
    tree = [shared, {"a": shared, "b": [shared] * 20}]
    assert ad.tree.leaves(tree) == [1.0, 2.0] * 22
    assert ad.tree.map(lambda x: x, tree) == tree


def test_classes_that_make_new_containers() -> None:
    """A container that is gone may leave its address to the next."""

    class Chain:
        def __init__(self, n):
            self.n = n

    ad.tree.register(
        Chain, lambda c: ([Chain(c.n - 1)] if c.n else [1.0], None), lambda data, children: children
    )
    assert ad.tree.leaves(Chain(5000)) == [1.0]


def test_deep_trees_need_no_stack() -> None:
    fresh("""
import threading
def run():
    tree = 1.0
    for _ in range(300_000): tree = (tree,)
    leaves, structure = ad.tree.flatten(tree)
    assert leaves == [1.0]
    again = structure.unflatten([2.0])
    assert ad.tree.leaves(again) == [2.0]
    repr(structure)
    other = ad.tree.structure(again)
    assert other == structure and hash(other) == hash(structure)
    ad.eval(tree)
threading.stack_size(512 * 1024)
t = threading.Thread(target=run); t.start(); t.join()
""")


def test_lists_that_contain_themselves_are_no_data() -> None:
    for tree in cycles():
        if isinstance(tree, list):
            with pytest.raises(ValueError, match=r"contains itself|ragged"):
                ad.asarray(tree)


# ---- More inputs than a mask of 32 bits has ------------------------------------------------------


@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 100])
def test_operations_of_many_inputs(count: int) -> None:
    """Values that die in the operation may give it their memory: a mask of 32 bits says which."""

    def joined(x):
        return ad.concat([ad.sort(x * float(k)) for k in range(count)])

    x = np.array([3.0, 1.0, 2.0])
    expected = np.concatenate([np.sort(x * k) for k in range(count)])
    assert joined(ad.asarray(x)).tolist() == expected.tolist()
    assert ad.compile(joined)(ad.asarray(x)).tolist() == expected.tolist()
    total = count * (count - 1) / 2
    for f in (joined, ad.compile(joined)):
        assert ad.grad(lambda x, f=f: ad.sum(f(x)))(ad.asarray(x)).tolist() == [total] * 3
