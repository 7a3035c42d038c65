"""Random programs: every mode of differentiation, batching and running must tell the same.

`ADJOINT_RANDOM_PROGRAMS` is how many are drawn, and `ADJOINT_RANDOM_SEED` the first seed; without
them it is the same few in every run. A failure prints the program, which runs by itself. What they
found has a test of its own, beside those of the part that was wrong.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import adjoint as ad
import random_programs
from test_ops_table import FIRST

COUNT = int(os.environ.get("ADJOINT_RANDOM_PROGRAMS", "2000"))
FIRST_SEED = int(os.environ.get("ADJOINT_RANDOM_SEED", "0"))
PART = 100  # programs of one test
STEP = 3e-4  # small, as a kink may be a few hundredths away from an intermediate value


class Run:
    """One program, checked layer by layer from the inside."""

    def __init__(self, program):
        self.program = program
        self.scope = program.run()
        self.wide = program.run(narrow=False) if program.narrow else self.scope

    def check(self):
        with np.errstate(all="ignore"):
            self.modes(self.scope["f"])
            self.habits(self.scope["f"])
            if self.program.seed % 4 == 0:
                self.matrices(self.wide["f"], self.wide)
            h, wide = self.scope["f"], self.wide["f"]
            self.derivative(h, wide)
            for depth, layer in enumerate(self.program.layers):
                if layer.startswith("batch"):
                    self.batch(h, layer)
                elif depth and not layer.startswith("ad.compile"):
                    self.derivative(h, wide)
                h, wide = self.around(layer, h, self.scope), self.around(layer, wide, self.wide)
            self.modes(h)

    @staticmethod
    def around(layer, h, scope):
        return eval(layer.format("h"), {**scope, "h": h})

    def derivative(self, h, wide):
        """Along a direction: reverse mode, forward mode and differences."""
        if self.program.narrow:
            reverse, _, size = self.slopes(wide, self.wide)
            narrow = self.slopes(h, self.scope)
            bound = 3e-3 * (abs(reverse) + size) + 1e-6
            assert abs(narrow[0] - narrow[1]) <= bound, f"float32: reverse and forward {narrow}"
            assert abs(narrow[0] - reverse) <= 10 * bound, f"float32 {narrow[0]}, float64 {reverse}"
        reverse, forward, size = self.slopes(wide, self.wide)
        assert abs(reverse - forward) <= 1e-9 * (abs(reverse) + size) + 1e-13, (
            f"reverse mode {reverse}, forward mode {forward}, terms of size {size}"
        )
        if not self.program.large:
            numeric, noise = self.differences(wide)
            assert abs(reverse - numeric) <= 1e-6 * (abs(reverse) + size) + noise, (
                f"reverse mode {reverse}, differences {numeric} to {noise}, terms of size {size}"
            )

    @staticmethod
    def slopes(h, scope):
        """The slope by reverse and by forward mode, and the sum of the sizes of its terms."""
        xs, directions = scope["xs"], scope["directions"](scope["xs"])
        gradients = scope["rev"](h)(*xs)
        terms = [ad.astype(g, ad.float64) * d for g, d in zip(gradients, directions, strict=True)]
        reverse = sum(ad.sum(t).item() for t in terms)
        tangents = [np.asarray(t.numpy(), float) for t in ad.tree.leaves(scope["fwd"](h)(*xs))]
        parts = [t * scope["weights"](ad.asarray(t)).numpy() for t in tangents]
        forward = float(sum(p.sum() for p in parts))
        size = sum(ad.sum(ad.abs(t)).item() for t in terms) + sum(np.abs(p).sum() for p in parts)
        return reverse, forward, float(size)

    def differences(self, h):
        """Central differences of order 8, and what rounding may do to them."""
        xs, directions = self.wide["xs"], self.wide["directions"](self.wide["xs"])
        values, sizes = [], []
        for k in (1, 2, 3, 4, -1, -2, -3, -4):
            moved = [x + d * (k * STEP) for x, d in zip(xs, directions, strict=True)]
            leaves = [y.numpy() for y in ad.tree.leaves(h(*moved))]
            terms = [y * self.wide["weights"](ad.asarray(y)).numpy() for y in leaves]
            values.append(float(sum(t.sum() for t in terms)))
            sizes.append(float(sum(np.abs(t).sum() for t in terms)))
        pairs = zip(FIRST, values[:4], values[4:], strict=True)
        return sum(c * (a - b) for c, a, b in pairs) / STEP, 1e-7 * max(sizes) + 1e-10

    def habits(self, f):
        """Gradients by functions of functions, by leaves and by a tape: the same bits."""
        xs, weigh = self.scope["xs"], self.scope["weigh"]
        expected = leaves(self.scope["rev"](f)(*xs))
        owned = [ad.tensor(x, requires_grad=True) for x in xs]
        loss = weigh(f(*owned))
        if loss.requires_grad:
            loss.backward()
        handles = [ad.Variable(x) for x in xs]
        with ad.GradientTape() as tape:
            target = f(*handles)
        weights = ad.tree.map(self.scope["weights"], target)
        taped = tape.gradient(target, handles, output_gradients=weights)
        for x, by_tape, want in zip(owned, taped, expected, strict=True):
            by_leaf = ad.zeros_like(x) if x.grad is None else x.grad
            for name, actual in (("backward", by_leaf), ("tape", by_tape)):
                same = leaves(actual)[0].tobytes() == want.tobytes()
                assert same, f"{name}: {actual} and {want}"

    @staticmethod
    def matrices(f, scope):
        """Jacobian and Hessian times the direction, against products that build neither."""
        xs, every = scope["xs"], tuple(range(len(scope["xs"])))
        moves = scope["directions"](xs)

        def along(rows):
            pairs = [(m.numpy(), d.numpy()) for m, d in zip(rows, moves, strict=True)]
            return sum(np.tensordot(m, d, axes=d.ndim) for m, d in pairs)

        def agree(matrices, products, what):
            parts = [rows if isinstance(rows, tuple) else (rows,) for rows in matrices]
            for rows, product in zip(parts, ad.tree.leaves(products), strict=True):
                got, want = along(rows), product.numpy()
                bound = 1e-9 * (1 + np.abs(want).max(initial=0.0))
                np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=what)

        outputs = f(*xs)
        for mode, product in (("forward", "linear"), ("reverse", "fwd")):
            jacobian = ad.jacobian(f, every, mode=mode)(*xs)
            many = jacobian if isinstance(outputs, tuple) else (jacobian,)
            agree(many, scope[product](f)(*xs), f"jacobian, {mode} mode")
        hessian = ad.hessian(lambda *ys: scope["weigh"](f(*ys)), every)(*xs)
        agree(hessian, scope["curve"](f)(*xs), "hessian")

    def batch(self, h, layer):
        xs = self.scope["xs"]
        together = self.around(layer, h, self.scope)(*xs)
        one_by_one = self.around(layer.replace("batch", "loop"), h, self.scope)(*xs)
        for actual, expected in zip(leaves(together), leaves(one_by_one), strict=True):
            assert actual.dtype == expected.dtype and actual.shape == expected.shape
            scale = 1e-3 if self.program.narrow else 1e-9
            bound = scale * (1 + np.abs(expected).max(initial=0.0))
            np.testing.assert_allclose(actual, expected, rtol=scale, atol=bound, err_msg=layer)

    def modes(self, h):
        """Now, deferred and compiled."""
        xs = self.scope["xs"]
        with ad.deferral(False):
            now = leaves(h(*xs))
        for name, mode in (("deferred", h), ("compiled", ad.compile(h))):
            for actual, expected in zip(leaves(mode(*xs)), now, strict=True):
                assert actual.dtype == expected.dtype and actual.shape == expected.shape
                if self.program.exact:
                    same = actual.tobytes() == expected.tobytes()
                    assert same, f"{name}: other bits than now, {actual} and {expected}"
                else:
                    bound = 1e-4 if self.program.narrow else 1e-11
                    bound *= np.abs(expected).max(initial=1)
                    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound, err_msg=name)


def leaves(tree):
    return [np.ascontiguousarray(np.atleast_1d(x.numpy())) for x in ad.tree.leaves(tree)]


def failure(seed):
    """What is wrong with the program of this seed, or None."""
    program = None
    try:
        program = random_programs.write(seed)
        Run(program).check()
    except Exception as error:
        text = program.source + "print(h(*xs))" if program else repr(error.__cause__)
        return f"seed {seed}: {type(error).__name__}: {error}\n\n{text}"
    return None


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + COUNT, PART))
def test_random_programs(first):
    last = min(first + PART, FIRST_SEED + COUNT)
    reports = [report for seed in range(first, last) if (report := failure(seed))]
    if reports:
        pytest.fail(f"{len(reports)} of {last - first}; the first is\n{reports[0]}", pytrace=False)
