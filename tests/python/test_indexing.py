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

COUNT = int(os.environ.get("ADJOINT_RANDOM_INDICES", "400"))
FIRST_SEED = int(os.environ.get("ADJOINT_RANDOM_SEED", "0"))
PART = 50  # keys of one test
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
    return -(-x) if x.dtype in (ad.float64, ad.float32) else x  # deferred when it is large


class Run:
    """One key in all modes."""

    def __init__(self, case):
        self.case = case
        self.places = [j for j, k in enumerate(case.key) if is_index_array(k)]
        self.keys = (case.key, case.other)
        self.positions = [case.positions(key) for key in self.keys]
        self.x = layouts(case.array, case.rng)

    def arrays(self, key):
        return [ad.asarray(key[j]) for j in self.places]

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
                np.testing.assert_array_equal(run().numpy(), a.reshape(-1)[self.positions[0]], mode, strict=True)

    def batches(self):
        """Batches of x and of the indices: (name, in_axes of x, of the indices)."""
        yield "batch of x", int(self.case.rng.integers(self.case.array.ndim + 1)), None
        if self.places:
            yield "batch of indices", None, 0
            yield "batch of both", 0, 0

    def check_batches(self, f, expected, extra=None):
        """f(x[, value], *indices) under vmap against one call each; `expected(array, key number, value number)`."""
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
            wanted = [expected(arrays[0 if x_axis is None else b], 0 if i_axis is None else b, b) for b in range(BATCH)]
            if any(isinstance(w, type) for w in wanted):
                self.raises((IndexError, ValueError), g, x, *values, *indices)
            else:
                np.testing.assert_array_equal(g(x, *values, *indices).numpy(), np.stack(wanted), mode)

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
        f = lambda x, *i: ad.sum(self.read(x, *i) ** 3 * w)
        entries, slopes = a.reshape(-1)[p], np.zeros(a.size)
        np.add.at(slopes, p.reshape(-1), (3 * w * entries**2).reshape(-1))
        close = lambda got, want: np.testing.assert_allclose(got.numpy(), want, rtol=1e-11, atol=1e-11)
        first = ad.grad(f) if self.case.chance(0.5) else ad.compile(ad.grad(f))
        close(first(x, *indices), slopes.reshape(a.shape))
        along = v.reshape(-1)[p]
        close(ad.jvp(lambda x: self.read(x, *indices), (x,), (ad.asarray(v),))[1], along)
        curved = np.zeros(a.size)
        np.add.at(curved, p.reshape(-1), (6 * w * entries * along).reshape(-1))
        twice = lambda x, v, *i: ad.grad(lambda x: ad.sum(ad.grad(f)(x, *i) * v))(x)
        twice = twice if self.case.chance(0.5) else ad.compile(twice)
        close(twice(x, ad.asarray(v), *indices), curved.reshape(a.shape))
        close(ad.hvp(lambda x: f(x, *indices), x, ad.asarray(v)), curved.reshape(a.shape))

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
        given = value.tolist() if value.ndim == 0 and self.case.dtype == "float64" and self.case.chance(0.5) else ad.asarray(value)
        runs = {
            "eager": lambda: self.write(self.x, given, *constants),
            "in place": lambda: self.write_in_place(self.x, given, *constants),
            "compiled": lambda: ad.compile(self.write)(self.x, given, *indices),
            "constant key": lambda: ad.compile(lambda x, v: self.write(x, v, *constants))(self.x, given),
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
        f = lambda x, v, *i: ad.sum(self.write(x, v, *i) ** 2 * w)
        want, _ = put(a, self.positions[0], value)
        slope = (2 * want * w).reshape(-1)
        close = lambda got, want: np.testing.assert_allclose(got.numpy(), want, rtol=1e-11, atol=1e-11)
        g = ad.grad(f, argnums=(0, 1))
        g = g if self.case.chance(0.5) else ad.compile(g)
        dx, dv = g(self.x, ad.asarray(value), *indices)
        close(dx, np.where(shown < 0, slope, 0.0).reshape(a.shape))
        into = np.zeros(value.size)
        np.add.at(into, shown[shown >= 0], slope[shown >= 0])
        close(dv, into.reshape(value.shape))
        tx, tv = rng.normal(size=a.shape), rng.normal(size=value.shape)
        tangent = put(tx, self.positions[0], tv)[0]
        primals, tangents = (self.x, ad.asarray(value)), (ad.asarray(tx), ad.asarray(tv))
        close(ad.jvp(lambda x, v: self.write(x, v, *indices), primals, tangents)[1], tangent)
        both = ad.jvp(lambda x, v: g(x, v, *indices), primals, tangents)[1]
        bent = (2 * tangent * w).reshape(-1)
        close(both[0], np.where(shown < 0, bent, 0.0).reshape(a.shape))
        into = np.zeros(value.size)
        np.add.at(into, shown[shown >= 0], bent[shown >= 0])
        close(both[1], into.reshape(value.shape))

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


if __name__ == "__main__":
    check_seed(int(sys.argv[1]))
