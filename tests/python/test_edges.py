"""Values at the edges of dtypes, domains and lists, against NumPy, SciPy and mpmath."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.special

import adjoint as ad


def test_einsum_sums_in_the_dtype_of_its_result():
    narrow = np.full(4, 100, np.int8)
    for subscripts, arrays in (
        ("i,j->j", (narrow, np.ones(1))),
        ("i,i,->", (narrow, narrow, np.int64(1))),
        ("i,j->j", (np.full(2, 3e38, np.float32), np.ones(1))),
        ("i,j->j", (np.full(3, 2**30, np.int32), np.ones(1))),
        ("ij,j,k->k", (np.full((2, 2), 100, np.uint8), np.full(2, 200, np.uint8), np.ones(2))),
    ):
        wide = np.result_type(*arrays)
        expected = np.einsum(subscripts, *(np.asarray(a, wide) for a in arrays))
        assert np.array_equal(ad.einsum(subscripts, *map(ad.tensor, arrays)).numpy(), expected)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
def test_only_a_factor_of_zero_hides_the_logarithm(name):
    f, peer = getattr(ad, name), getattr(scipy.special, name)
    for x in (math.nan, math.inf, -math.inf, 0.0, -0.0, 2.0):
        for y in (1.0, 0.0, math.nan, math.inf, 0.5, -0.5, -1.0, -2.0, -math.inf):
            with np.errstate(all="ignore"):
                assert np.array_equal(f(x, y).item(), peer(x, y), equal_nan=True), (x, y)
    assert math.isnan(ad.grad(f, argnums=1)(math.nan, 1.0).item())


@pytest.mark.parametrize("x", [5e-324, 1e-310, 2.3e-308, 1e-300, 0.3, 7.0])
def test_entropy_of_the_smallest_numbers(x):
    slope, second = ad.grad(ad.entr), ad.grad(ad.grad(ad.entr))
    assert math.isclose(slope(x).item(), float(-mpmath.log(x) - 1), rel_tol=1e-14)
    expected = -1 / mpmath.mpf(x)
    assert math.isclose(
        second(x).item(), float(expected) if abs(expected) < 1.7e308 else -math.inf, rel_tol=1e-14
    )
    assert math.isclose(ad.entr(x).item(), float(-x * mpmath.log(x)), rel_tol=1e-15, abs_tol=1e-323)


def test_entropy_and_logit_values():
    x = np.array([0.0, -1.0, np.nan, np.inf, 0.5])
    assert np.array_equal(ad.entr(ad.tensor(x)).numpy(), scipy.special.entr(x), equal_nan=True)
    assert math.copysign(1.0, ad.entr(0.0).item()) == 1.0
    for p in (1e-300, 1e-5, 0.2, 0.3, 0.4999161, 0.49999999, 0.5, 0.6, 0.7, 0.99, 1 - 1e-15):
        with mpmath.workdps(40):
            value = mpmath.log(mpmath.mpf(p) / (1 - mpmath.mpf(p)))
        assert math.isclose(ad.logit(p).item(), float(value), rel_tol=2e-15), p
        slope = 1 / (mpmath.mpf(p) * (1 - mpmath.mpf(p)))
        assert math.isclose(ad.grad(ad.logit)(p).item(), float(slope), rel_tol=1e-14), p
    assert ad.logit(ad.tensor([0.0, 1.0])).tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "uint8", "uint64", "float32"])
def test_padding_takes_the_dtype_of_the_tensor(dtype):
    x = np.array([[1, 0], [1, 1]], dtype)
    for value in (0, 1):
        expected = np.pad(x, 1, constant_values=value)
        got = ad.pad(ad.tensor(x), 1, constant_values=value).numpy()
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)
    if dtype != "float32":
        with pytest.raises(TypeError, match="do not fit"):
            ad.pad(ad.tensor(x), 1, constant_values=0.5)


def test_more_degrees_of_freedom_than_numbers():
    x = np.array([1.0, 2.0])
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        assert ad.var(ad.tensor(x), correction=3).item() == np.var(x, ddof=3)
        assert ad.std(ad.tensor(x), correction=3).item() == np.std(x, ddof=3)
        assert ad.cov(ad.tensor(x), ddof=3).item() == np.cov(x, ddof=3)
    assert math.isnan(ad.cov(ad.zeros(0)).item())


def test_nothing_to_do():
    x = ad.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert ad.roll(x, 1, axis=()).tolist() == x.tolist()
    assert ad.roll(x, (), axis=()).tolist() == x.tolist()
    assert ad.diff(x, n=0, append=ad.ones((2, 1))).tolist() == x.tolist()
    assert [part.tolist() for part in ad.split(x, [])] == [x.tolist()]
    assert ad.delete(x, [], axis=0).tolist() == x.tolist()
    with pytest.raises(ValueError, match="sorter of shape"):
        ad.searchsorted(ad.tensor([1.0, 2.0]), ad.tensor([1.0]), sorter=ad.tensor([0]))


SIGNED = np.array([2**63 - 1, -1, 5, -(2**63), 0, 2**62])
UNSIGNED = np.array([2**63, 2**64 - 1, 5, 0, 1, 2**62 + 1], np.uint64)


@pytest.mark.parametrize("name", "equal not_equal less less_equal greater greater_equal".split())
def test_signed_and_unsigned_integers_are_compared_exactly(name):
    f, peer = getattr(ad, name), getattr(np, name)
    for x, y in ((SIGNED, UNSIGNED), (UNSIGNED, SIGNED)):
        rows, columns = x.astype(object)[:, None], y.astype(object)
        want = peer(rows, columns).astype(bool)
        a, b = ad.tensor(x), ad.tensor(y)
        for table in (
            f(a[:, None], b),
            ad.compile(lambda a, b: f(a[:, None], b))(a, b),
            ad.vmap(f, in_axes=(0, None))(a, b),
        ):
            np.testing.assert_array_equal(table.numpy(), want)
        np.testing.assert_array_equal(f(a.astype(ad.int8), b.astype(ad.uint8)).numpy(),
                                      peer(x.astype("i1"), y.astype("u1")))  # fmt: skip


def test_members_among_signed_and_unsigned_integers():
    for x, y in ((SIGNED, UNSIGNED), (UNSIGNED, SIGNED)):
        want = [v in y.tolist() for v in x.tolist()]
        assert ad.isin(ad.tensor(x), ad.tensor(y)).tolist() == want
        assert ad.isin(ad.tensor(x), ad.tensor(y), invert=True).tolist() == [not w for w in want]
    assert not ad.array_equal(ad.tensor([2**53 + 1]), ad.tensor(np.array([2**53], np.uint64)))


def test_a_product_reads_a_constant_as_it_lies():
    """A transpose of captured data gives the same bits compiled."""
    rng = np.random.default_rng(0)
    for shape in ((25, 3), (7, 40), (100, 64)):
        data, z = rng.standard_normal(shape), ad.tensor(rng.standard_normal(shape[0]))
        for f in (lambda z, d=data: ad.asarray(d).T @ z, lambda z, d=data: z @ ad.asarray(d)):
            want = f(z)
            np.testing.assert_allclose(want.numpy(), data.T @ z.numpy(), rtol=1e-12)
            assert ad.compile(f)(z).tolist() == want.tolist()
        g = ad.grad(lambda b, d=data: ad.sum(ad.sin(d @ b)))
        b = ad.tensor(rng.standard_normal(shape[1]))
        assert ad.compile(g)(b).tolist() == g(b).tolist()


STRIDED = {
    "transpose": lambda a: a.T,
    "reversed": lambda a: a[::-1],
    "columns": lambda a: a[:, ::2],
    "rows": lambda a: a[::2],
}
PRODUCTS = {
    "matrix @ vector": lambda a, v: a @ v[: a.shape[1]],
    "vector @ matrix": lambda a, v: v[: a.shape[0]] @ a,
    "transposed": lambda a, v: a.mT @ v[: a.shape[0]],
    "einsum": lambda a, v: ad.einsum("ij,j->i", a, v[: a.shape[1]]),
    "reshaped": lambda a, v: ad.reshape(a, (1, *a.shape)) @ v[: a.shape[1]],
    "gram": lambda a, v: a @ a.mT,
    "triangular": lambda a, v: ad.linalg.solve_triangular(
        ad.tril(a[:20, :20]) + 20 * ad.eye(20), v[:20], lower=True
    ),
    "triangle as given": lambda a, v: ad.linalg.solve_triangular(a[:20, :20], v[:20], lower=True),
    "decomposed": lambda a, v: ad.linalg.qr(a)[0],
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("layout", STRIDED)
def test_products_of_strided_arguments_have_the_same_bits(layout, product):
    rng = np.random.default_rng(1)
    whole = ad.tensor(rng.standard_normal((44, 44)) + 9 * np.eye(44))
    a, v = STRIDED[layout](whole), ad.tensor(rng.standard_normal(44))
    f = PRODUCTS[product]
    assert ad.compile(f)(a, v).tolist() == f(a, v).tolist()
    slopes = ad.grad(lambda a, v: ad.sum(ad.sin(f(a, v))), argnums=(0, 1))
    for want, got in zip(slopes(a, v), ad.compile(slopes)(a, v), strict=True):
        assert want.tolist() == got.tolist()
    if product == "matrix @ vector":
        want = a.numpy() @ v.numpy()[: a.shape[1]]
        np.testing.assert_allclose(f(a, v).numpy(), want, rtol=1e-12)


def test_more_differences_than_there_are():
    for n in (2, 3, 4, 2**62):
        want = np.diff(np.arange(6.0).reshape(2, 3), n=min(n, 9)).shape
        assert ad.diff(ad.arange(6.0).reshape(2, 3), n=n).shape == want
        assert ad.diff(ad.ones(0), n=n).shape == (0,)
