"""x[key] and x[key] = value against NumPy, in every mode.

`ADJOINT_RANDOM_INDICES` is how many keys are drawn, and `ADJOINT_RANDOM_SEED` the first seed. A
failure names its seed: `python tests/python/test_indexing.py SEED` runs it alone.
"""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import pytest

import adjoint as ad
from random_indices import Case, fits, is_index_array, put

COUNT = int(os.environ.get("ADJOINT_RANDOM_INDICES", "1000"))
FIRST_SEED = int(os.environ.get("ADJOINT_RANDOM_SEED", "0"))
PART = 100  # keys of one test
BATCH = 2


def layouts(a, rng):
    """The array as a tensor: contiguous, or a view with an offset and other strides."""
    x = ad.asarray(a)
    choice = int(rng.integers(5))
    if choice == 0 or a.ndim == 0:
        return x
    if choice == 1:
        return ad.flip(ad.asarray(np.flip(a).copy()))
    if choice == 2:
        wide = np.zeros((a.shape[0] + 2, *a.shape[1:]), a.dtype)
        wide[1:-1] = a
        return ad.asarray(wide)[1:-1]
    if choice == 3:
        axes = tuple(reversed(range(a.ndim)))
        return ad.permute_dims(ad.asarray(np.ascontiguousarray(a.transpose(axes))), axes)
    if x.dtype in (ad.float64, ad.float32):
        return ad.negative(ad.negative(x))  # deferred when it is large
    return x


def close(got, want):
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-11, atol=1e-11)


def added(shape, places, entries):
    """Zeros with the entries added at places of the flat array."""
    out = np.zeros(shape)
    np.add.at(out.reshape(-1), places, entries)
    return out


class Run:
    """One key in all modes."""

    def __init__(self, case):
        self.case = case
        self.places = [j for j, k in enumerate(case.key) if is_index_array(k)]
        self.keys = (case.key, case.other)
        self.positions = [case.positions(key) for key in self.keys]
        self.x = layouts(case.array, case.rng)

    def arrays(self, key):
        indices = [ad.asarray(key[j]) for j in self.places]
        return [i + 0 for i in indices] if self.case.large else indices  # deferred

    def filled(self, indices):
        """The key with these in place of its index arrays."""
        key = list(self.case.key)
        for j, i in zip(self.places, indices, strict=True):
            key[j] = i
        return key[0] if len(key) == 1 and self.case.seed % 2 else tuple(key)

    def raises(self, error, f, *args):
        try:
            out = f(*args)
            ad.eval(out)
        except error:
            return
        raise AssertionError(f"no {error}, but {out!r}")

    # ---- reading

    def read(self, x, *indices):
        return x[self.filled(indices)]

    def check_reads(self):
        a, x, key = self.case.array, self.x, self.case.key
        indices = self.arrays(key)
        constants = [key[j] for j in self.places]
        runs = {
            "eager": lambda: self.read(x, *constants),
            "tensors": lambda: self.read(x, *indices),
            "compiled": lambda: ad.compile(self.read)(x, *indices),
            "constant key": lambda: ad.compile(lambda x: self.read(x, *constants))(x),
            "loop": lambda: ad.scan(lambda c, _: (c, self.read(x, *indices)), 0.0, length=1)[1][0],
        }
        for mode, run in runs.items():
            if self.positions[0] is IndexError:
                self.raises(IndexError, run)
            else:
                np.testing.assert_array_equal(
                    run().numpy(), a.reshape(-1)[self.positions[0]], mode, strict=True
                )

    def batches(self):
        """Batches of x and of the indices: (name, in_axes of x, of the indices)."""
        yield "batch of x", int(self.case.rng.integers(self.case.array.ndim + 1)), None
        if self.places:
            yield "batch of indices", None, 0
            yield "batch of both", 0, 0

    def check_batches(self, f, expected, extra=None):
        """f(x[, value], *indices) under vmap; `expected` takes an array and which key and value."""
        a = self.case.array
        arrays = [a, np.flip(a).copy()]
        for mode, x_axis, i_axis in self.batches():
            x = ad.asarray(a if x_axis is None else np.stack(arrays, axis=x_axis))
            pairs = list(zip(*(self.arrays(key) for key in self.keys), strict=True))
            indices = [p[0] if i_axis is None else ad.stack(p) for p in pairs]
            values = [] if extra is None else [ad.asarray(np.stack(extra))]
            axes = (x_axis, *(0 for _ in values), *(i_axis for _ in indices))
            g = ad.vmap(f, in_axes=axes)
            g = [g, ad.compile(g), ad.vmap(ad.compile(f), in_axes=axes)][self.case.below(3)]
            wanted = [
                expected(arrays[0 if x_axis is None else b], 0 if i_axis is None else b, b)
                for b in range(BATCH)
            ]
            if any(isinstance(w, type) for w in wanted):
                self.raises((IndexError, ValueError), g, x, *values, *indices)
            else:
                got = g(x, *values, *indices).numpy()
                np.testing.assert_allclose(got, np.stack(wanted), 1e-11, 1e-11, err_msg=mode)

    def check_read_batches(self):
        def expected(array, k, _):
            p = self.positions[k]
            return p if p is IndexError else array.reshape(-1)[p]

        self.check_batches(self.read, expected)

    def check_read_derivatives(self):
        """Of sum(w x[key]^3): reverse, forward, twice; the indices are arguments of the program."""
        p, rng = self.positions[0], self.case.rng
        x, indices = self.x, self.arrays(self.case.key)
        a = self.case.array
        w, v = rng.normal(size=p.shape), rng.normal(size=a.shape)

        def f(x, *i):
            return ad.sum(self.read(x, *i) ** 3 * w)

        def slopes(array, k=0, _=0):
            p = self.positions[k]
            if p is IndexError:
                return p
            entries = array.reshape(-1)[p]
            return added(array.shape, p.reshape(-1), (3 * w * entries**2).reshape(-1))

        first = ad.grad(f) if self.case.chance(0.5) else ad.compile(ad.grad(f))
        close(first(x, *indices), slopes(a))
        self.check_batches(ad.grad(f), slopes)
        entries, along = a.reshape(-1)[p], v.reshape(-1)[p]
        close(ad.jvp(lambda x: self.read(x, *indices), (x,), (ad.asarray(v),))[1], along)
        curved = added(a.shape, p.reshape(-1), (6 * w * entries * along).reshape(-1))

        def twice(x, v, *i):
            return ad.grad(lambda x: ad.sum(ad.grad(f)(x, *i) * v))(x)

        second = twice if self.case.chance(0.5) else ad.compile(twice)
        close(second(x, ad.asarray(v), *indices), curved)
        close(ad.hvp(lambda x: f(x, *indices), x, ad.asarray(v)), curved)

    # ---- assignment

    def write(self, x, value, *indices):
        y = x + 0 if self.case.dtype != "bool" else x & True
        y[self.filled(indices)] = value
        return y

    def write_in_place(self, x, value, *indices):
        y = ad.reshape(ad.stack([x]), x.shape)  # memory of its own
        del x
        y[self.filled(indices)] = value
        return y

    def numpy_takes(self, value):
        try:
            self.case.array.copy()[self.case.key] = value
        except (IndexError, TypeError, ValueError):
            return False
        return True

    def check_writes(self):
        a, p = self.case.array, self.positions[0]
        value = self.case.draw_value(() if p is IndexError else p.shape)
        fit = p is not IndexError and fits(value, p.shape)
        if fit and not self.numpy_takes(value):
            return None  # a mask of the whole array: NumPy then wants values of one axis
        indices = self.arrays(self.case.key)
        constants = [self.case.key[j] for j in self.places]
        given = (
            value.tolist()
            if value.ndim == 0 and self.case.dtype == "float64" and self.case.chance(0.5)
            else ad.asarray(value)
        )
        runs = {
            "eager": lambda: self.write(self.x, given, *constants),
            "in place": lambda: self.write_in_place(self.x, given, *constants),
            "compiled": lambda: ad.compile(self.write)(self.x, given, *indices),
            "constant key": lambda: ad.compile(lambda x, v: self.write(x, v, *constants))(
                self.x, given
            ),
        }
        want, shown = put(a, p, value) if fit else (None, None)
        for mode, run in runs.items():
            if fit:
                np.testing.assert_array_equal(run().numpy(), want, mode, strict=True)
            else:
                self.raises((IndexError, ValueError), run)
        np.testing.assert_array_equal(self.x.numpy(), a)
        return (value, shown) if fit else None

    def check_write_batches(self, value):
        values = [value, np.flip(value).copy()]

        def expected(array, k, b):
            p = self.positions[k]
            return p if p is IndexError else put(array, p, values[b])[0]

        self.check_batches(self.write, expected, extra=values)

    def check_write_derivatives(self, value, shown):
        """Only what was written last shows, in the value and in the derivatives."""
        a, rng = self.case.array, self.case.rng
        indices = self.arrays(self.case.key)
        w = rng.normal(size=a.shape)

        def f(x, v, *i):
            return ad.sum(self.write(x, v, *i) ** 2 * w)

        def slopes(array, value, k):
            written, shown = put(array, self.positions[k], value)
            slope = (2 * written * w).reshape(-1)
            seen = shown >= 0
            into = added(value.shape, shown[seen], slope[seen])
            return np.where(seen, 0.0, slope).reshape(a.shape), into

        g = ad.grad(f, argnums=(0, 1))
        g = g if self.case.chance(0.5) else ad.compile(g)
        dx, dv = g(self.x, ad.asarray(value), *indices)
        for got, want in zip((dx, dv), slopes(a, value, 0), strict=True):
            close(got, want)
        values = [value, np.flip(value).copy()]
        for n in range(2):

            def expected(array, k, b, n=n):
                p = self.positions[k]
                return p if p is IndexError else slopes(array, values[b], k)[n]

            self.check_batches(ad.grad(f, argnums=n), expected, extra=values)
        tx, tv = rng.normal(size=a.shape), rng.normal(size=value.shape)
        tangent = put(tx, self.positions[0], tv)[0]
        primals, tangents = (self.x, ad.asarray(value)), (ad.asarray(tx), ad.asarray(tv))
        close(ad.jvp(lambda x, v: self.write(x, v, *indices), primals, tangents)[1], tangent)
        both = ad.jvp(lambda x, v: g(x, v, *indices), primals, tangents)[1]
        bent = (2 * tangent * w).reshape(-1)
        close(both[0], np.where(shown < 0, bent, 0.0).reshape(a.shape))
        close(both[1], added(value.shape, shown[shown >= 0], bent[shown >= 0]))

    def check(self):
        self.check_reads()
        differentiable = self.case.dtype == "float64" and not self.case.large
        if not self.case.large:
            self.check_read_batches()
        if differentiable and self.positions[0] is not IndexError:
            self.check_read_derivatives()
        written = self.check_writes()
        if written and not self.case.large:
            self.check_write_batches(written[0])
        if written and differentiable:
            self.check_write_derivatives(*written)


def check_seed(seed):
    case = Case(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            Run(case).check()
    except BaseException as error:
        raise AssertionError(f"{case}\n{error}") from error


@pytest.mark.parametrize("part", range((COUNT + PART - 1) // PART))
def test_random_keys(part):
    first = FIRST_SEED + part * PART
    for seed in range(first, min(first + PART, FIRST_SEED + COUNT)):
        check_seed(seed)


GRID = np.arange(12.0).reshape(3, 4)


def out_of_range():
    """Reads and writes with an index beyond axis 1; the key is data where it can be."""
    x, j, k = ad.asarray(GRID), ad.asarray([0, 1]), ad.asarray([7, 5])

    def put(x, *key):
        y = x + 0.0
        y[key] = 0.0
        return y

    def loop(x, j, k):
        return ad.scan(lambda c, _: (c, x[j, k]), 0.0, length=2)[1]

    return {
        "eager": lambda: x[j, k],
        "one array": lambda: x[:, k],
        "compiled": lambda: ad.compile(lambda x, j, k: x[j, k])(x, j, k),
        "compiled, one array": lambda: ad.compile(lambda x, k: x[:, k])(x, k),
        "compiled, a constant": lambda: ad.compile(lambda x: x[:, [7, 5]])(x),
        "batch of indices": lambda: ad.vmap(lambda j, k: x[j, k])(j, k),
        "batch of both": lambda: ad.vmap(lambda x, k: x[:, k])(ad.stack([x, x]), k),
        "loop": lambda: loop(x, j, k),
        "compiled loop": lambda: ad.compile(loop)(x, j, k),
        "gradient": lambda: ad.grad(lambda x: ad.sum(x[j, k]))(x),
        "compiled gradient": lambda: ad.compile(ad.grad(lambda x, k: ad.sum(x[:, k])))(x, k),
        "forward": lambda: ad.jvp(lambda x: x[j, k], (x,), (x,)),
        "assignment": lambda: put(x, j, k),
        "compiled assignment": lambda: ad.compile(put)(x, j, k),
        "batch of assignments": lambda: ad.vmap(put, in_axes=(None, 0, 0))(x, j, k),
    }


@pytest.mark.parametrize("mode", out_of_range())
def test_an_index_out_of_range_names_the_axis_in_every_mode(mode):
    with pytest.raises(
        IndexError, match=r"\[index\] index 7 is out of range for axis 1 of length 4"
    ):
        ad.eval(out_of_range()[mode]())


@pytest.mark.parametrize("index", [2**63, 2**64 - 1])
def test_unsigned_indices_do_not_wrap_around(index):
    x, i = ad.asarray(GRID), ad.asarray(np.array([0, index], np.uint64))
    for read in (
        lambda: x[i],
        lambda: x[i, i],
        lambda: x[i[1]],
        lambda: ad.take(x, i, axis=1),
        lambda: ad.compile(lambda x, i: x[i])(x, i),
        lambda: ad.vmap(lambda i: x[i])(i),
        lambda: ad.vmap(lambda x, i: ad.take(x, i, axis=0))(
            ad.stack([x, x]), ad.reshape(i, (2, 1))
        ),
    ):
        with pytest.raises(IndexError, match=f"index {index} is out of range"):
            ad.eval(read())


@pytest.mark.parametrize("index", [2**63, -(2**63) - 1, 2**100])
def test_python_ints_of_any_size_are_out_of_range(index):
    with pytest.raises(IndexError, match=f"index {index} is out of range"):
        ad.asarray(GRID)[index]


def test_take_speaks_of_its_own_axis():
    x, i = ad.asarray(GRID), ad.asarray([[0], [4]])
    for f in (
        lambda: ad.vmap(lambda i: ad.take(x, i, axis=1))(i),
        lambda: ad.vmap(lambda x, i: ad.take(x, i, axis=-1))(ad.stack([x, x]), i),
        lambda: ad.compile(lambda x, i: ad.take(x, i, axis=1))(x, i),
    ):
        with pytest.raises(
            IndexError, match=r"\[take\] index 4 is out of range for axis 1 of length 4"
        ):
            ad.eval(f())


@pytest.mark.parametrize(
    "mask",
    [
        np.array([True, False, True]),
        [True, False, True],
        (True, False, True),
        [np.bool_(True), np.bool_(False), np.bool_(True)],
        np.arange(12).reshape(3, 4) % 2 == 0,
        np.bool_(True),
        False,
    ],
    ids=str,
)
def test_masks_of_python_and_numpy_are_constants_of_a_program(mask):
    mask = mask if not isinstance(mask, tuple) else (mask,)
    x = ad.asarray(GRID)
    want = GRID[mask]
    np.testing.assert_array_equal(ad.compile(lambda x: x[mask])(x).numpy(), want)
    slopes = ad.compile(ad.grad(lambda x: ad.sum(x[mask] * 2.0)))(x).numpy()
    put = GRID * 0
    put[mask] = 2.0
    np.testing.assert_array_equal(slopes, put)


def test_a_mask_that_is_not_known_is_refused():
    x = ad.asarray(GRID)
    for f in (
        ad.compile(lambda x: x[x > 3]),
        ad.vmap(lambda x: x[x > 3]),
        ad.compile(lambda x: x[ad.all(x > 3)]),
    ):
        with pytest.raises(ad.TracedValueError, match="index by a mask"):
            f(x)
    np.testing.assert_array_equal(ad.jvp(lambda x: x[x > 3], (x,), (x,))[1].numpy(), GRID[GRID > 3])


def test_assignment_by_a_mask_that_is_not_known():
    """Possible where the value does not depend on how many places the mask chooses."""

    def f(x, v):
        y = x + 0.0
        y[x > 3] = -1.0
        y[..., y[0] > 1] = 5.0
        y[ad.sum(x, axis=1) > 30] = v
        return y

    want = GRID.copy()
    want[want > 3] = -1.0
    want[..., want[0] > 1] = 5.0
    want[GRID.sum(axis=1) > 30] = [9.0, 8.0, 7.0, 6.0]
    x, v = ad.asarray(GRID), ad.asarray([9.0, 8.0, 7.0, 6.0])
    np.testing.assert_array_equal(f(x, v).numpy(), want)
    np.testing.assert_array_equal(ad.compile(f)(x, v).numpy(), want)
    np.testing.assert_array_equal(ad.vmap(f, in_axes=(0, None))(ad.stack([x]), v).numpy()[0], want)

    def refused(x, v):
        x[x > 3] = v
        return x

    with pytest.raises(ad.TracedValueError, match="index by a mask"):
        ad.compile(refused)(x, ad.arange(8.0))


@pytest.mark.parametrize(
    "key", [range(2), [], [[]], range(0), ([[0, 1], [2, 0]],), np.int8(-1)], ids=str
)
def test_sequences_index_as_arrays_do(key):
    np.testing.assert_array_equal(ad.asarray(GRID)[key].numpy(), GRID[key])


@pytest.mark.parametrize(
    "bad",
    [1.0, "a", {}, np.array([]), np.array(1.0), [0.5], object()],
    ids=lambda bad: type(bad).__name__,
)
def test_what_is_no_index(bad):
    with pytest.raises(TypeError, match="index"):
        ad.asarray(GRID)[bad]


def test_a_key_may_rebind_the_tensor_that_it_indexes():
    x = ad.asarray(np.arange(20000.0))

    class Rebinds:
        def __index__(self):
            x.rebind_(ad.asarray(np.arange(20000.0) + 1))
            return 3

    assert x[Rebinds()].item() == 4
    x[Rebinds()] = 7.0
    assert x[2:5].tolist() == [3, 7, 5]


@pytest.mark.parametrize(
    ("bounds", "dtype"),
    [
        ((2**60, 2**60 + 3), "int64"),
        ((-(2**63), -(2**63) + 5, 2), "int64"),
        ((2**63 - 1, 2**63 - 8, -3), "int64"),
        ((2**64 - 3, 2**64), "uint64"),
        ((0, 2**64, 2**62), "uint64"),
        ((2**53, 2**53 + 5), "float64"),
        ((2**24, 2**24 + 5), "float32"),
        ((5, 0), "int8"),
        ((-128, 128, 51), "int8"),
        ((np.int64(2), np.uint8(9)), "int64"),
    ],
    ids=str,
)
def test_arange_of_integers_is_exact(bounds, dtype):
    want = list(range(*map(int, bounds)))
    for f in (ad.arange, ad.compile(lambda *a, **k: ad.arange(*bounds, dtype=getattr(ad, dtype)))):
        got = f(*bounds, dtype=getattr(ad, dtype)) if f is ad.arange else f()
        assert got.dtype.name == dtype
        assert got.tolist() == [getattr(np, dtype)(v).item() for v in want]


def test_arange_refuses():
    for bounds, dtype, error in (
        ((0, 300), ad.int8, OverflowError),
        ((-1, 3), ad.uint64, OverflowError),
        ((2**63, 2**63 + 2), None, OverflowError),
        ((2**80,), None, OverflowError),
        ((2**62,), None, MemoryError),
        ((0, 3, 0), None, ValueError),
        ((0, 3, 0.0), None, ValueError),
        ((0, float("inf")), None, ValueError),
    ):
        with pytest.raises(error, match=r"\[arange\]"):
            ad.arange(*bounds, dtype=dtype)


def test_arange_is_of_integers_when_its_bounds_are():
    for bounds in ((True, 3), (np.array(3),), (np.int8(3),), (ad.asarray(3),)):
        assert ad.arange(*bounds).dtype == ad.int64
    for bounds in ((np.array(0.5), 3), (np.float32(0.5), 3), (ad.asarray(0.5), 3), (0, 3, 1.0)):
        assert ad.arange(*bounds).dtype == ad.float64
    rng = np.random.default_rng(0)
    for start, stop, step in rng.normal(size=(200, 3)):
        assert ad.arange(start, stop, step).shape == np.arange(start, stop, step).shape


def test_linspace_of_integers_rounds_down_exactly():
    assert ad.linspace(2**60, 2**60 + 2, 3, dtype=ad.int64).tolist() == [
        2**60,
        2**60 + 1,
        2**60 + 2,
    ]
    for start, stop, num, endpoint in (
        (-7, 5, 4, True),
        (0, 10, 4, False),
        (5, -6, 7, True),
        (3, 9, 1, True),
    ):
        steps = max(num - endpoint, 1)
        want = [start + i * (stop - start) // steps for i in range(num)]
        assert ad.linspace(start, stop, num, endpoint=endpoint, dtype=ad.int64).tolist() == want
    np.testing.assert_array_equal(
        ad.linspace(-1.0, 1.0, 4, dtype=ad.int64).numpy(), np.linspace(-1, 1, 4, dtype=int)
    )


if __name__ == "__main__":
    check_seed(int(sys.argv[1]))


@pytest.mark.parametrize(("shape", "mask"), [((3,), (0,)), ((2, 3), (0, 3)), ((2, 3), (2, 0))])
def test_a_mask_with_an_empty_axis_fits_any_length(shape, mask):
    x, chosen = np.arange(np.prod(shape)).reshape(shape), np.zeros(mask, bool)
    t = ad.asarray(x, copy=True)
    np.testing.assert_array_equal(t[chosen].numpy(), x[chosen])
    t[chosen] = 7
    np.testing.assert_array_equal(t.numpy(), x)
    with pytest.raises(IndexError, match="a mask must have the shape of what it masks"):
        t[np.zeros((1, *mask[1:]), bool)]


@pytest.mark.parametrize("transform", [lambda f: f, ad.compile, ad.vmap])
@pytest.mark.parametrize(
    "view", ["x.T", "x.mT", "x.reshape(-1)", "x.ravel()", "x.swapaxes(0, 1)", "x.view(-1)", "x[0]"]
)
def test_an_assignment_to_a_view_of_a_temporary_is_told(view, transform):
    scope = {"ad": ad}
    exec(f"def lost(x):\n    {view}[0] = 1.0\n    return x", scope)
    exec(f"def kept(x):\n    y = {view}\n    y[0] = 1.0\n    return x, y", scope)
    x = ad.zeros((2, 3, 3)) if transform is ad.vmap else ad.zeros((3, 3))
    with pytest.raises(RuntimeError, match="assigns to a temporary and would be lost"):
        transform(scope["lost"])(x)
    same, changed = transform(scope["kept"])(x)
    assert ad.sum(same).item() == 0.0 and ad.sum(changed).item() > 0.0
