"""No derivative is lost unseen: conversions by other libraries, copies and pickles of tensors."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import scipy.special

import adjoint as ad

COPIES = [copy.copy, copy.deepcopy]


def leaf():
    return ad.tensor([1.0, 2.0], requires_grad=True)


# ---- Conversions ---------------------------------------------------------------------------------


def assign(x):
    np.zeros(2)[...] = x


CONVERSIONS = {
    "asarray": np.asarray,
    "array": np.array,
    "list": lambda x: np.array([x[0], x[1]]),
    "nested": lambda x: np.array([[1.0, x[0]], [2.0, 3.0]]),
    "full": lambda x: np.full(2, x[0]),
    "assignment": assign,
    "method": lambda x: np.ones(2).dot(x),
    "memoryview": memoryview,
    "masked": lambda x: np.ma.masked_array([1.0, 2.0], [True, False]) * x,
    "scipy": scipy.special.logsumexp,
    "sparse": lambda x: scipy.sparse.csr_matrix(np.eye(2)) @ ad.reshape(x, (2, 1)),
}


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
@pytest.mark.parametrize("made", [leaf, lambda: leaf() * 2.0, lambda: ad.Variable([1.0, 2.0])])
def test_conversion_of_what_requires_grad(convert, made):
    x = made()
    for way in (r"x\.detach\(\)", r"x\.numpy\(\)", r"with ad\.no_grad\(\)"):
        with pytest.raises(TypeError, match=way):
            convert(x)
    with ad.no_grad():
        convert(x)
    convert(x.numpy())


def test_conversions_that_are_asked_for(tmp_path):
    x = leaf()
    want = np.array([1.0, 2.0])
    for got in (x.numpy(), np.from_dlpack(x), np.asarray(x.detach()), np.array(x.tolist())):
        np.testing.assert_array_equal(got, want)
    assert float(x[1]) == x[1].item() == 2.0 and f"{x[1]:.1f}" == "2.0"
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x, named=x)
    stored = np.load(tmp_path / "x.npz")
    for got in (np.load(tmp_path / "x.npy"), stored["arr_0"], stored["named"]):
        np.testing.assert_array_equal(got, want)
    assert np.array2string(x) == np.array2string(want)


def test_what_requires_no_grad_converts():
    x = ad.tensor([1, 2])
    with ad.no_grad():
        y = leaf() * 2.0
    np.testing.assert_array_equal(np.array([x[0], x[1]]), [1, 2])
    np.testing.assert_array_equal(np.asarray(y), [2.0, 4.0])


# ---- Masked arrays -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        ad.tensor,
        ad.asarray,
        ad.sin,
        lambda m: ad.tensor([m, m]),
        lambda m: ad.ones(2) + m,
        lambda m: ad.ones(2) @ m,
        lambda m: m @ ad.ones(2),
        lambda m: np.add(m, ad.ones(2)),
        lambda m: np.concatenate([ad.ones(2), m]),
    ],
)
@pytest.mark.parametrize("mask", [[True, False], False])
def test_masked_arrays(use, mask):
    with pytest.raises(TypeError, match=r"\.filled\(value\)"):
        use(np.ma.masked_array([1.0, 2.0], mask))


def test_a_masked_array_keeps_its_mask_as_left_operand():
    got = np.ma.masked_array([1.0, 2.0], [True, False]) * ad.full(2, 3.0)
    assert got.mask.tolist() == [True, False] and got[1] == 6.0


# ---- Copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", COPIES)
def test_copy_of_a_computed_tensor_is_the_identity(copied):
    x = leaf()
    y = copied(x * 3.0)
    ad.sum(y * y).backward()
    assert x.grad.tolist() == [18.0, 36.0]

    with ad.GradientTape() as tape:
        point = ad.tensor(3.0)
        tape.watch(point)
        z = copied(point) ** 2
    assert tape.gradient(z, point).item() == 6.0


@pytest.mark.parametrize("copied", COPIES)
def test_copy_inside_transforms(copied):
    def f(x):
        return ad.sum(copied(x) ** 3)

    at, along = ad.tensor([1.0, 2.0]), ad.tensor([1.0, 10.0])
    assert ad.grad(f)(at).tolist() == [3.0, 12.0]
    assert ad.jvp(f, (at,), (along,))[1].item() == 123.0
    assert ad.hessian(f)(at).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert ad.vmap(f)(ad.stack([at, along])).tolist() == [9.0, 1001.0]
    assert ad.compile(f)(at).item() == 9.0
    assert ad.grad(ad.compile(f))(at).tolist() == [3.0, 12.0]


@pytest.mark.parametrize("copied", COPIES)
def test_copy_of_a_leaf_is_another_leaf(copied):
    x = ad.tensor([1.0, 2.0], requires_grad=True, name="x")
    x.tag = [1]
    y = copied(x)
    assert y.is_leaf and y.requires_grad and y.name == "x" and y.tag == [1]
    assert (y.tag is x.tag) == (copied is copy.copy)
    ad.sum(y * y).backward()
    assert x.grad is None and y.grad.tolist() == [2.0, 4.0]
    assert type(copied(ad.Variable(1.0))) is ad.Variable


@pytest.mark.parametrize("copied", COPIES)
def test_copy_keeps_attributes_and_class(copied):
    class Own(ad.Tensor):
        pass

    x = leaf() * 2.0
    x.tag, x.name = [1], "y"
    y = copied(x)
    assert y.tag == [1] and y.name == "y" and (y.tag is x.tag) == (copied is copy.copy)
    z = Own([1.0])
    z.itself = z
    other = copied(z)
    assert type(other) is Own and other.itself is (z if copied is copy.copy else other)


def test_pickle_of_a_computed_tensor():
    y = leaf() * 2.0
    with pytest.raises(RuntimeError, match=r"x\.detach\(\)"):
        pickle.dumps(y)
    assert pickle.loads(pickle.dumps(y.detach())).tolist() == [2.0, 4.0]
    assert pickle.loads(pickle.dumps(leaf())).requires_grad


@pytest.mark.parametrize(
    "run",
    [
        lambda f: ad.grad(f)(2.0),
        lambda f: ad.jvp(f, (ad.tensor(2.0),), (ad.tensor(1.0),)),
        lambda f: ad.vmap(f)(ad.ones(2)),
        lambda f: ad.compile(f)(ad.ones(2)),
    ],
)
def test_pickle_inside_transforms(run):
    with pytest.raises(RuntimeError):
        run(lambda x: pickle.loads(pickle.dumps(x)) * 1.0)


@pytest.mark.parametrize(
    "use",
    [
        lambda n: ad.arange(n),
        lambda n: [1, 2, 3][n],
        lambda n: ad.ones(5)[:n],
        lambda n: ad.topk(ad.ones(5), n),
        lambda n: float(n),
        lambda n: np.array([n, n]),
    ],
)
def test_what_has_no_value_yet_is_not_told_to_be_read(use):
    """The advice for values that exist, `x.item()`, would end in the next error here."""
    for transform, x, where in (
        (ad.compile, ad.tensor(2), "inside compile a tensor has no value yet"),
        (ad.vmap, ad.tensor([1, 2]), "inside vmap a tensor stands for a whole batch"),
    ):
        with pytest.raises(ad.TracedValueError, match=where):
            transform(lambda n: use(n + 1))(x)
