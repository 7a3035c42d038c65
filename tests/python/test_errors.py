"""Bad input: the exception, the words that help, and that nothing was changed by it."""

import inspect
import operator
import re
from pathlib import Path

import numpy as np
import pytest

import adjoint as ad
from adjoint import _words

FLOATS = [1.0, 2.0, 3.0]


class NotData:
    pass


# (expression, exception, fragment of the message); x is a float vector, m a matrix, k an integer
# vector, w a leaf.
TABLE = [
    ("x + ad.ones((4,))", ValueError, r"\[add\].*\(3,\).*\(4,\)"),
    ("m @ ad.ones((5, 2))", ValueError, r"\[matmul\].*\(2, 3\).*\(5, 2\)"),
    ("x + 'a'", TypeError, "unsupported operand"),
    ("x + [1, 2, 3]", TypeError, r"\[add\] a list is no operand: .*ad.asarray"),
    ("k * [1, 2, 3]", TypeError, r"\[multiply\] a list is no operand"),
    ("k[1] * [1, 2, 3]", TypeError, r"\[multiply\] a list is no operand"),
    ("[1, 2, 3] * k[1]", TypeError, r"\[multiply\] a list is no operand"),
    ("x * (1, 2, 3)", TypeError, r"\[multiply\] a tuple is no operand"),
    ("'a' * k[1]", TypeError, r"\[multiply\] a str is no operand"),
    ("k[1] * b'a'", TypeError, r"\[multiply\] a bytes is no operand"),
    ("k == [1, 2, 3]", TypeError, r"\[equal\] a list is no operand"),
    ("(1, 2, 3) != k", TypeError, r"\[not_equal\] a tuple is no operand"),
    ("[1, 2, 3] < k", TypeError, r"\[greater\] a list is no operand"),
    ("[1, 2, 3] ** k", TypeError, r"\[pow\] a list is no operand"),
    ("[1, 2, 3] - x", TypeError, r"\[subtract\] a list is no operand"),
    ("[1, 2, 3] & k", TypeError, r"\[bitwise_and\] a list is no operand"),
    ("[1, 2] + x", TypeError, "can only concatenate list"),
    ("ad.ones(2, 3)", TypeError, r"pass the shape as a tuple: ones\(\(2, 3\)\)"),
    ("ad.zeros(2, 3, dtype=ad.int8)", TypeError, r": zeros\(\(2, 3\)\)"),
    ("ad.full(2, 3, 1.5)", TypeError, r"pass the shape as a tuple: full\(\(2, 3\), \.\.\.\)"),
    ("ad.reshape(m, 3, 2)", TypeError, r": reshape\(x, \(3, 2\)\)"),
    ("ad.broadcast_to(x, 2, 3)", TypeError, r": broadcast_to\(x, \(2, 3\)\)"),
    ("ad.permute_dims(m, 1, 0)", TypeError, r"pass the axes as a tuple: permute_dims\(x, \(1, 0\)"),
    ("ad.tril(m, -1)", TypeError, r"\[tril\].*the rest goes by name, k="),
    ("ad.roll(m, 1, 0)", TypeError, r"\[roll\].*the rest goes by name, axis="),
    ("ad.sum(x, dim=0)", TypeError, r"\[sum\] .*'dim': here it is called axis="),
    ("m.mean(keepdim=True)", TypeError, "'keepdim': here it is called keepdims="),
    ("x.std(ddof=1)", TypeError, "'ddof': here it is called correction="),
    ("ad.permute_dims(m, dims=(1, 0))", TypeError, "'dims': here it is called axes="),
    ("ad.sum(x, what=1)", TypeError, r"'what'$"),
    ("ad.optim.Adam(lr=0.1)", TypeError, r"\[Adam\] the parameter is learning_rate=, not lr="),
    ("ad.optim.SGD(lr=0.1)", TypeError, r"\[SGD\] the parameter is learning_rate=, not lr="),
    ("ad.random.categorical([1.0], dim=0)", TypeError, "the parameter is axis=, not dim="),
    ("ad.sum((x, m))", ValueError, r"\[sum\] the entries of the list have .* \(3,\) and \(2, 3\)"),
    ("ad.sin([x, x[:2]])", ValueError, r"\[sin\] the entries of the list have the shapes"),
    (
        "ad.io.save('x', {'model': {'w': x}})",
        TypeError,
        r"\[io.save\] 'model' holds a dict.*model\.",
    ),
    ("ad.io.save('x', {'name': 'a'})", TypeError, r"\[io.save\] 'name' is no tensor"),
    ("ad.compile(lambda v: v[v > 0])(x)", TypeError, r"mask.*NumPy array of bools.*ad\.where"),
    ("ad.vmap(lambda v: v[v > 0])(m)", TypeError, r"mask.*NumPy array of bools.*ad\.where"),
    ("ad.grad(lambda v: v.__iadd__(1))(2.0)", RuntimeError, r"write a = a \+ b for a \+= b"),
    ("w.__imul__(2)", RuntimeError, r"write a = a \* b for a \*= b"),
    ("x + (1 + 2j)", TypeError, "unsupported operand"),
    ("x + np.ones(3, dtype=complex)", TypeError, "complex128"),
    ("x + np.ones(3, dtype='>f8')", TypeError, "native byte order"),
    ("ad.tensor(np.zeros(2, dtype=[('a', int), ('b', float)]))", TypeError, "cannot become"),
    ("ad.tensor(np.array(['a']))", TypeError, "cannot become"),
    ("ad.tensor('abc')", TypeError, "str"),
    ("ad.tensor(NotData())", TypeError, "NotData"),
    ("ad.tensor([[1, 2], [3]])", ValueError, "ragged"),
    ("ad.tensor([1, [2]])", ValueError, "ragged"),
    ("ad.tensor([1.5], dtype=ad.int64)", TypeError, "int64"),
    ("ad.tensor(300, dtype=ad.uint8)", OverflowError, "300 does not fit uint8"),
    ("ad.tensor(10**30)", OverflowError, "int64"),
    ("ad.tensor([1.0], dtype='float16')", TypeError, "float16"),
    ("ad.tensor([1], requires_grad=True)", TypeError, "int64"),
    ("ad.exp(x, x)", TypeError, r"takes 1 positional argument, got 2"),
    ("ad.exp(x=x)", TypeError, "no keyword"),
    ("ad.sum(x, axis=1)", IndexError, r"\[sum\]"),
    ("ad.sum(x, 0, True)", TypeError, "goes by name"),
    ("ad.sum(x, axis=True)", TypeError, "must be an int, not bool"),
    ("ad.sum(x, keepdims=1)", TypeError, "True or False, not int"),
    ("ad.deferral('off')", TypeError, r"\[deferral\] enabled must be True or False, not str"),
    ("ad.detect_anomaly(inf='no')", TypeError, r"\[detect_anomaly\] inf must be True or False"),
    ("x.requires_grad_('no')", TypeError, "True or False, not str"),
    ("ad.sum(w).backward(create_graph='no')", TypeError, "True or False, not str"),
    ("ad.GradientTape(persistent='no')", TypeError, "True or False, not str"),
    ("ad.Variable(1.0, trainable='no')", TypeError, "True or False, not str"),
    ("ad.from_dlpack(np.ones(2), copy='no')", TypeError, "True or False, not str"),
    ("ad.zeros((2,), device='gpu')", ValueError, "only device is 'cpu'"),
    ("ad.zeros(b'ab')", TypeError, "shape must be .*, not .*bytes"),
    ("ad.random.Generator(0).uniform(b'ab')", TypeError, "shape must be .*, not .*bytes"),
    ("ad.eval('1+1')", TypeError, r"\[eval\].*not str"),
    ("ad.no_grad()(3)", TypeError, r"\[no_grad\].*a function"),
    (
        "ad.custom_fixed_point(lambda v: (v, v))(1.0)",
        ValueError,
        "f must return a tree like x, not",
    ),
    ("ad.custom_vjp(abs).defvjp(abs, 3)", TypeError, "backward must be a function, not a int"),
    ("ad.custom_jvp(abs).defjvp(3)", TypeError, "rule must be a function, not a int"),
    ("ad.io.load(3)", TypeError, "PathLike|path"),
    ("ad.tree.map(3, x)", TypeError, r"\[tree\.map\] f must be a function, not a int"),
    ("ad.tree.map()", TypeError, r"\[tree\.map\] takes \(f, tree, \*args\), got \(\)"),
    ("ad.deferral()", TypeError, r"\[deferral\] takes \(enabled\), got \(\)"),
    ("ad.vjp(abs, 1.0)[1](1, b=2)", TypeError, r"\[pullback\] takes .*, got \(int, b=int\)"),
    ("ad.concat([x, x], axis=2**32)", IndexError, r"\[concat\]"),
    ("ad.zeros((2, 10**30))", OverflowError, r"\[zeros\] shape .* does not fit 64 bits"),
    ("ad.tensor(10**5000)", OverflowError, "very many digits"),
    ("x[10**30]", IndexError, "out of range"),
    ("x.__format__(3)", TypeError, r"\[format\]"),
    ("x + np.datetime64('2026-01-01')", TypeError, "datetime64"),
    ("ad.tensor(np.timedelta64(3, 'D'))", TypeError, "timedelta64"),
    ("ad.sum(m, axis=(0, 0))", ValueError, "twice"),
    ("ad.sum(x, axes=0)", TypeError, "no keyword argument 'axes'"),
    ("ad.reshape(x, (2, 2))", ValueError, r"\[reshape\]"),
    ("ad.stack([x, m])", ValueError, r"\[stack\]"),
    ("ad.concat(x, m)", TypeError, r"\[concat\]"),
    ("x[5]", IndexError, "5"),
    ("x[0, 0]", IndexError, "too many"),
    ("x[1.0]", TypeError, "ind"),
    ("x['a']", TypeError, "ind"),
    ("x[ad.tensor([0.0])]", TypeError, "float64"),
    ("x[ad.tensor([True])]", IndexError, "mask|shape"),
    ("x[np.array([7])]", IndexError, "7|out of"),
    ("x.__setitem__(0, ad.ones((2,)))", ValueError, "shape"),
    ("x.__setitem__(9, 1.0)", IndexError, "9"),
    ("x.__delitem__(0)", TypeError, "del"),
    ("k.__iadd__(1.5)", TypeError, "dtype"),
    ("x.__iadd__(ad.ones((2, 3)))", ValueError, "shape"),
    ("w.__imul__(2.0)", RuntimeError, "no_grad"),
    ("w.__setitem__(0, 2.0)", RuntimeError, "no_grad"),
    ("w.rebind_(x)", RuntimeError, "no_grad"),
    ("x.rebind_(m)", ValueError, r"\(3,\) and \(2, 3\)"),
    ("x.rebind_(k)", TypeError, "int64"),
    ("bool(x)", ValueError, "any"),
    ("float(m)", TypeError, r"\(2, 3\)"),
    ("m.item()", ValueError, r"\(2, 3\)"),
    ("[1, 2][ad.tensor(1.0)]", TypeError, "index"),
    ("x.T", ValueError, "two dimensions"),
    ("x.missing", AttributeError, "missing"),
    ("ad.missing", AttributeError, "missing"),
    ("w.backward()", ValueError, "backward|one element|scalar"),
    ("x.backward()", (RuntimeError, ValueError), "backward"),
    ("setattr(w, 'grad', m)", ValueError, "grad"),
    ("setattr(x, 'grad', x)", RuntimeError, "require"),
    ("setattr(x, 'name', 3)", TypeError, "name"),
    ("setattr(k, 'requires_grad', True)", TypeError, "int64"),
    ("ad.grad(3)", TypeError, "needs a function"),
    ("ad.grad(lambda a: a * a)(3)", TypeError, r"use a float, as in 3\.0"),
    ("ad.grad(lambda a: a * a)(k)", TypeError, "int64"),
    ("ad.grad(lambda a: a * a)('s')", TypeError, "str"),
    ("ad.grad(lambda a: a * a)(x)", ValueError, r"scalar.*\(3,\).*ad\.sum"),
    ("ad.grad(lambda a: None)(1.0)", TypeError, "None"),
    ("ad.grad(lambda a: a, argnums=1)(1.0)", TypeError, "argument 1"),
    ("ad.grad(lambda a: a, argnums=())(1.0)", ValueError, "empty"),
    ("ad.grad(lambda a: a, has_aux=True)(1.0)", TypeError, "aux"),
    ("ad.grad(lambda a: ad.sum(a > 0))(x)", TypeError, "no derivative"),
    ("ad.grad(lambda a: float(a))(1.0)", TypeError, r"\.item\(\)"),
    ("ad.grad(lambda a: float(a))(1.0)", RuntimeError, r"\.detach\(\)"),
    ("ad.vjp(lambda a: a)", TypeError, "point"),
    ("ad.vjp(lambda a: a, x)[1](m)", ValueError, "shape"),
    ("ad.jvp(lambda a: a, (x,), ())", ValueError, "tangents"),
    ("ad.jvp(lambda a: a, (x,), (m,))", ValueError, "shape"),
    ("ad.jvp(lambda a: a, x, x)", TypeError, "tuple"),
    ("ad.vmap(lambda a: a)(1.0)", ValueError, "0-d"),
    ("ad.vmap(lambda a, b: a)(x, ad.ones((2,)))", ValueError, "lengths 3 and 2"),
    ("ad.vmap(lambda a: a, in_axes=None)(x)", ValueError, "no argument is mapped"),
    ("ad.vmap(lambda a: bool(a > 0))(x)", TypeError, "ad.where"),
    ("ad.zeros((-1,))", ValueError, "negative|-1"),
    ("ad.zeros((2**40, 2**40))", MemoryError, "memory"),
    ("ad.zeros('a')", TypeError, "shape"),
    ("ad.arange(0, 1, 0)", ValueError, "step"),
    ("ad.set_num_threads(0)", ValueError, "1"),
    ("ad.tree.map(lambda a, b: a, (1, 2), [1, 2])", ValueError, "tuple"),
    ("ad.tree.unflatten(ad.tree.structure((1, 2)), [1])", ValueError, "2 leaves"),
    ("memoryview(x).__setitem__(0, 1.0)", TypeError, "read-only"),
    ("np.asarray(x).__setitem__(0, 1.0)", ValueError, "read-only"),
    ("x.__dlpack__()", BufferError, "read-only"),
    ("ad.asarray([1.0], copy=False)", ValueError, "copy"),
]


@pytest.mark.parametrize(("expression", "kind", "message"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input(expression, kind, message):
    names = {
        "ad": ad,
        "np": np,
        "NotData": NotData,
        "x": ad.tensor(FLOATS),
        "m": ad.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        "k": ad.tensor([1, 2, 3]),
        "w": ad.tensor(FLOATS, requires_grad=True),
    }
    before = {n: v.tolist() for n, v in names.items() if isinstance(v, ad.Tensor)}
    with pytest.raises(kind, match=message):
        eval(expression, names)
    assert {n: names[n].tolist() for n in before} == before
    assert not names["x"].requires_grad and not names["k"].requires_grad
    assert names["w"].grad is None
    # The thread is as it was: recording, and with no transform open.
    assert ad.is_grad_enabled()
    assert float(names["w"][0]) == 1.0


def test_an_exception_of_the_users_function_passes_through():
    class Mine(Exception):
        pass

    def f(x):
        raise Mine("boom")

    for call in (
        lambda: ad.grad(f)(1.0),
        lambda: ad.grad(lambda a, b: f(a), argnums=(0, 1))(1.0, 2.0),
        lambda: ad.vjp(f, 1.0),
        lambda: ad.jvp(f, (1.0,), (1.0,)),
        lambda: ad.vmap(f)(ad.ones((3,))),
        lambda: ad.hessian(f)(ad.ones((3,))),
    ):
        with pytest.raises(Mine, match="boom"):
            call()
    assert ad.grad(lambda a: a * a)(3.0).item() == 6.0


def test_read_only_message_names_the_way_out():
    with pytest.raises(BufferError, match=r"numpy\(\)\.copy\(\)"):
        ad.tensor([1.0]).__dlpack__()


def test_leaking_a_traced_value():
    kept = []
    ad.jvp(lambda a: kept.append(a) or a, (1.0,), (1.0,))
    with pytest.raises(RuntimeError, match="ended"):
        kept[0] + 1.0


# ---- Lines of the program that are known where something fails later ----------------------------
# A line is found by the comment at its end.

HERE = Path(__file__)
MUCH = (10**13,)


def line(comment):
    lines = HERE.read_text(encoding="utf-8").splitlines()
    [number] = [i for i, text in enumerate(lines, 1) if text.endswith(f"  # {comment}")]
    return f"{HERE}:{number}"


class Refusal(Exception):
    pass


@ad.custom_vjp
def refusing(x):
    return x * 2.0


def refuse(residuals, cotangent):
    raise Refusal("no")


refusing.defvjp(lambda x: (x * 2.0, None), refuse)


def notes_of(error):
    return "".join(getattr(error, "__notes__", ()))


def test_an_operation_that_fails_in_a_compiled_function_names_its_line():
    @ad.compile
    def pick(x, i):
        y = ad.sin(x)
        return ad.take(y, i)  # taken

    assert pick(ad.zeros((3,)), ad.tensor([1])).tolist() == [0.0]
    with pytest.raises(IndexError, match=r"\[take\] index 5 is out of range") as caught:
        pick(ad.ones((3,)), ad.tensor([5]))
    assert str(caught.value).endswith(f"\n  in a compiled function: `take` at {line('taken')}")
    assert pick(ad.zeros((3,)), ad.tensor([2])).tolist() == [0.0]


def test_memory_that_is_short_in_a_compiled_function():
    @ad.compile
    def large(x):
        wide = ad.broadcast_to(x, MUCH)
        return ad.exp(wide)  # too much

    with pytest.raises(MemoryError, match="could not allocate") as caught:
        large(ad.tensor(1.0))
    assert f"a group of operations that ends with `exp` at {line('too much')}" in str(caught.value)


def test_memory_that_is_short_in_deferred_work():
    y = ad.exp(ad.broadcast_to(ad.tensor(1.0), MUCH))
    with pytest.raises(MemoryError, match="could not allocate") as caught:
        ad.eval(y)
    assert "in deferred work that ends with `exp` of shape (10000000000000,)" in str(caught.value)


def test_a_rule_that_fails_in_a_sweep():
    """The line is known in anomaly mode; without it, the message says so."""

    def call():
        w = ad.tensor(1.0, requires_grad=True)
        wide = ad.broadcast_to(w, MUCH)
        y = ad.sum(wide[:3])  # sliced
        y.backward()

    with pytest.raises(MemoryError, match="could not allocate") as caught:
        call()
    where = "in a backward sweep, in the derivative of `slice`"
    assert f"{where}, whose line anomaly mode (detect_anomaly) tells" in str(caught.value)
    with pytest.raises(MemoryError) as caught, ad.detect_anomaly():
        call()
    assert f"{where}, applied at {line('sliced')}" in str(caught.value)


def test_an_exception_of_the_user_in_a_sweep_keeps_its_type():
    def call():
        return ad.grad(refusing)(1.0)  # refused

    with pytest.raises(Refusal, match="no") as caught:
        call()
    with pytest.raises(Refusal, match="no") as watched, ad.detect_anomaly():
        call()
    if hasattr(caught.value, "add_note"):
        assert "in a backward sweep, in a derivative given by hand" in notes_of(caught.value)
        assert f"applied at {line('refused')}" in notes_of(watched.value)


def test_sweeps_inside_of_sweeps_add_their_lines_outwards():
    def call():
        w = ad.tensor(1.0, requires_grad=True)

        def inner(v):
            return ad.sum(ad.broadcast_to(v, MUCH)[:3])

        ad.grad(inner)(w).backward()

    with pytest.raises(MemoryError) as caught:
        call()
    assert str(caught.value).count("\n") == 1


def test_an_exception_of_a_callback_in_a_compiled_function():
    def limited(x):
        if np.sum(x) > 10:
            raise Refusal("too large")
        return np.sin(x)

    called = ad.host_op(limited, shape=lambda x: x)

    @ad.compile
    def f(x):
        return called(x * 1.0) + 1.0  # called

    assert f(ad.zeros((3,))).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(Refusal, match="too large") as caught:
        f(ad.full((3,), 100.0))
    if hasattr(caught.value, "add_note"):
        assert notes_of(caught.value).endswith(f" at {line('called')}")
    assert f(ad.zeros((3,))).tolist() == [1.0, 1.0, 1.0]


def test_an_operation_that_fails_in_a_loop_of_a_compiled_function_names_both_lines():
    @ad.compile
    def loop(x, indices):
        def step(total, i):
            return total + ad.take(x, i), i  # in the loop

        return ad.scan(step, 0.0, indices)[0]  # the loop

    assert loop(ad.ones((3,)), ad.tensor([1, 2])).item() == 2.0
    with pytest.raises(IndexError, match=r"\[take\] index 7") as caught:
        loop(ad.ones((3,)), ad.tensor([1, 7]))
    _, inner, outer = str(caught.value).splitlines()
    assert inner.endswith(f"`take` at {line('in the loop')}")
    assert outer.endswith(f" at {line('the loop')}")


def test_foreign_objects_compare_unequal():
    x = ad.tensor([1, 2])
    for other in (None, "a", object(), {1: 2}, {1}, Ellipsis):
        assert (x == other) is False and (other == x) is False
        assert (x != other) is True and (other != x) is True


def test_a_class_of_sequence_with_operators_of_its_own_is_asked():
    class Vector(tuple):
        def __rmul__(self, other):
            return "mine"

    assert ad.tensor(2) * Vector((1, 2)) == "mine"


def test_a_list_is_extended_by_a_tensor():
    entries = [1]
    entries += ad.tensor([2, 3])
    assert [int(x) for x in entries] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("concatenate", "the name here is ad.concat"),
        ("array", "the name here is ad.tensor or ad.asarray"),
        ("jacfwd", r"the name here is ad.jacobian\(f, mode='forward'\)"),
        ("manual_seed", "the name here is ad.random.seed"),
        ("det", "the name here is ad.linalg.det"),
        ("Adam", "the name here is ad.optim.Adam"),
        ("logsumexpp", "the nearest names are ad.logsumexp"),
        ("zzzzzz", "has no attribute 'zzzzzz'$"),
        ("__wrapped__", "has no attribute '__wrapped__'$"),
    ],
)
def test_names_of_other_libraries(name, text):
    assert not hasattr(ad, name) and name not in dir(ad)
    with pytest.raises(AttributeError, match=text):
        getattr(ad, name)


def test_every_name_that_is_told_of_exists():
    for theirs, told in _words._OTHER_NAMES.items():
        assert not hasattr(ad, theirs)
        for own in re.findall(r"ad\.[\w.]+", told):
            assert callable(operator.attrgetter(own[3:])(ad))


def test_optimizers_keep_their_signatures():
    parameters = inspect.signature(ad.optim.Adam).parameters
    assert list(parameters)[:2] == ["params", "learning_rate"]

    class Own(ad.optim.SGD):
        def __init__(self, lr):
            super().__init__(learning_rate=2 * lr)

    assert float(Own(lr=0.5).learning_rate) == 1.0
