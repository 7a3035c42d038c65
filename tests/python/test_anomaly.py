"""Anomaly mode finds planted nans and infinities: operation, line, direction, and which was first.

Lines are told by marks: the line that ends in ``# at: name`` is the one to be reported.
"""

from __future__ import annotations

import gc
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as ad

HERE = Path(__file__)
MARKS = {
    match.group(1): number
    for number, text in enumerate(HERE.read_text(encoding="utf-8").splitlines(), 1)
    if (match := re.search(r"# at: (\w+)$", text))
}


def line(mark: str) -> str:
    return f"{HERE}:{MARKS[mark]}"


def zeros_and_more() -> ad.Tensor:
    return ad.tensor([0.0, 1.0, 4.0])


LARGE = 20_000  # elements: deferred outside of the block


@dataclass(frozen=True)
class Case:
    """A planted anomaly; `mark` names its line, `lines` are others the message must have."""

    mark: str
    call: Callable[[], Any]
    op: str
    way: str  # forward, backward or forward mode
    found: str
    lines: tuple[str, ...] = ()


# ---- Planted forward ----------------------------------------------------------------------------


def log_of_zero():
    return ad.exp(ad.log(zeros_and_more()) * 2.0)  # at: log


def sqrt_of_negative():
    y = ad.sqrt(ad.tensor([[1.0, -4.0], [-1.0, 0.0]]))  # at: sqrt
    return ad.sum(y) + 1.0


def one_by_zero():
    x = zeros_and_more()
    return 1.0 / x  # at: divide


def zero_by_zero():
    x = zeros_and_more()
    return x / x  # at: zero_by_zero


def negative_power():
    return zeros_and_more() ** -1.0  # at: pow


def exp_overflow():
    return ad.exp(ad.tensor([1.0, 710.0]))  # at: exp


def exp_overflow_32():
    return ad.exp(ad.tensor([1.0, 100.0], dtype=ad.float32))  # at: exp32


def product_overflow_32():
    x = ad.tensor(1e30, dtype=ad.float32)
    return x * x  # at: product32


def sum_overflow():
    return ad.sum(ad.full((2, 3), 1e308), axis=1)  # at: sum


def prod_overflow():
    return ad.prod(ad.full((40,), 1e10))  # at: prod


def matmul_overflow():
    return ad.full((2, 3), 1e200) @ ad.full((3, 2), 1e200)  # at: matmul


def cast_overflow():
    return ad.astype(ad.tensor([1e300, 1.0]), ad.float32)  # at: astype


def of_large():
    x = ad.arange(LARGE, dtype=ad.float64)
    y = ad.log(x + 0.0)  # at: large
    return ad.sum(ad.tanh(y))


def helper(x):
    def inner(v):
        return ad.log(v)  # at: helper

    return inner(x) + 1.0


def in_a_helper():
    return helper(zeros_and_more())


@ad.compile
def compiled(x):
    y = ad.log(x)  # at: compiled
    return y * 2.0


def in_compiled():
    return compiled(zeros_and_more())


def under_vmap():
    return ad.vmap(lambda row: ad.log(row[1]))(ad.tensor([[1.0, 0.0], [1.0, 2.0]]))  # at: vmap


def under_grad():
    return ad.grad(lambda x: ad.sum(ad.log(x)))(zeros_and_more())  # at: grad


def under_jvp():
    x = zeros_and_more()
    return ad.jvp(lambda v: ad.log(v) * v, (x,), (x,))  # at: jvp_forward


def in_the_package():
    prediction = ad.full((3,), 1e200)
    return ad.nn.functional.mse_loss(prediction, ad.zeros((3,)))  # at: package


def in_place():
    x = zeros_and_more()
    x /= 0.0  # at: in_place
    return x


def indexed():
    x = zeros_and_more()
    return ad.take(1e200 * x, ad.tensor([2])) * 1e200  # at: indexed


def data_nan():
    x = ad.tensor([ad.nan, 1.0])
    y = x[::-1]
    return y * 2.0  # at: data


def number_inf():
    return zeros_and_more() + ad.inf  # at: number


FORWARD = [
    Case(
        "log",
        log_of_zero,
        "log",
        "forward",
        "1 inf in 3 values",
        (
            "input 0: float64 (3,), from 0 to 4",
            f"result: float64 (3,), from 0 to {np.log(4.0):.6g}, 1 inf",
        ),
    ),
    Case(
        "sqrt",
        sqrt_of_negative,
        "sqrt",
        "forward",
        "2 nan in 4 values",
        ("input 0: float64 (2, 2), from -4 to 1", "result: float64 (2, 2), from 0 to 1, 2 nan"),
    ),
    Case("divide", one_by_zero, "divide", "forward", "1 inf in 3 values"),
    Case(
        "zero_by_zero",
        zero_by_zero,
        "divide",
        "forward",
        "1 nan in 3 values",
        ("input 0: float64 (3,), from 0 to 4", "input 1: float64 (3,), from 0 to 4"),
    ),
    Case("pow", negative_power, "pow", "forward", "1 inf in 3 values"),
    Case("exp", exp_overflow, "exp", "forward", "1 inf in 2 values"),
    Case(
        "exp32",
        exp_overflow_32,
        "exp",
        "forward",
        "1 inf in 2 values",
        ("input 0: float32 (2,), from 1 to 100", "result: float32 (2,), from 2.71828 to 2.71828"),
    ),
    Case(
        "product32",
        product_overflow_32,
        "multiply",
        "forward",
        "1 inf in 1 value",
        ("result: float32 (), 1 inf",),
    ),
    Case("sum", sum_overflow, "sum", "forward", "2 inf in 2 values", ("input 0: float64 (2, 3)",)),
    Case("prod", prod_overflow, "prod", "forward", "1 inf in 1 value"),
    Case(
        "matmul",
        matmul_overflow,
        "matmul",
        "forward",
        "4 inf in 4 values",
        ("input 0: float64 (2, 3)", "input 1: float64 (3, 2)"),
    ),
    Case(
        "astype",
        cast_overflow,
        "astype",
        "forward",
        "1 inf in 2 values",
        ("input 0: float64 (2,), from 1 to 1e+300", "result: float32 (2,), from 1 to 1, 1 inf"),
    ),
    Case(
        "large",
        of_large,
        "log",
        "forward",
        f"1 inf in {LARGE} values",
        (f"input 0: float64 ({LARGE},), from 0 to {LARGE - 1}",),
    ),
    Case("helper", in_a_helper, "log", "forward", "1 inf in 3 values"),
    Case("compiled", in_compiled, "log", "forward", "1 inf in 3 values"),
    Case(
        "vmap",
        under_vmap,
        "log",
        "forward",
        "1 inf in 2 values",
        ("input 0: float64 (2,), from 0 to 2", "inside vmap: batch axes come first"),
    ),
    Case("grad", under_grad, "log", "forward", "1 inf in 3 values"),
    Case("jvp_forward", under_jvp, "log", "forward", "1 inf in 3 values"),
    Case("package", in_the_package, "multiply", "forward", "3 inf in 3 values"),
    Case("in_place", in_place, "divide", "forward", "1 nan and 2 inf in 3 values"),
    Case("indexed", indexed, "multiply", "forward", "1 inf in 1 value"),
]
MET = [
    Case(
        "data",
        data_nan,
        "multiply",
        "forward",
        "1 nan in 2 values",
        ("input 0: float64 (2,), from 1 to 1, 1 nan",),
    ),
    Case("number", number_inf, "add", "forward", "3 inf in 3 values", ("input 1: float64 ()",)),
]

# ---- Planted in derivatives ---------------------------------------------------------------------


def sqrt_at_zero():
    x = ad.tensor([0.0, 4.0], requires_grad=True)
    y = ad.sqrt(x)  # at: sqrt_back
    loss = ad.sum(y * 3.0)
    loss.backward()


def norm_at_zero():
    def norm(x):
        total = ad.sum(x * x)
        return ad.sqrt(total)  # at: norm

    return ad.grad(norm)(ad.zeros((3,)))


def root_at_zero():
    return ad.grad(lambda x: ad.sum(x**0.5))(zeros_and_more())  # at: root


def with_a_tape():
    w = ad.Variable(0.0)
    with ad.GradientTape() as tape:
        y = ad.sqrt(w)  # at: tape
        z = y * 2.0
    return tape.gradient(z, w)


def cotangent_overflow_32():
    x = ad.tensor(1e-38, dtype=ad.float32, requires_grad=True)
    y = x * 1e30  # at: cotangent32
    z = y * 1e30
    z.backward()


def sum_of_cotangents():
    x = ad.tensor(0.1, requires_grad=True)
    y = x * 1e308  # at: cotangents
    z = x * 1e308
    (y + z).backward()


def large_backward():
    def loss(x):
        return ad.sum(ad.tanh(ad.sqrt(x)))  # at: large_back

    return ad.grad(loss)(ad.arange(LARGE, dtype=ad.float64))


def backward_in_compiled():
    @ad.compile
    def step(x):
        return ad.grad(lambda v: ad.sum(ad.sqrt(v)))(x)  # at: compiled_back

    return step(zeros_and_more())


def vmap_of_grad():
    return ad.vmap(ad.grad(lambda v: ad.sqrt(v)))(zeros_and_more())  # at: vmap_back


def grad_of_vmap():
    f = lambda x: ad.sum(ad.vmap(lambda v: ad.sqrt(v))(x))  # noqa: E731  # at: grad_vmap
    return ad.grad(f)(zeros_and_more())


def tangent():
    x = zeros_and_more()
    return ad.jvp(lambda v: ad.sqrt(v), (x,), (ad.ones((3,)),))  # at: tangent


def second_order():
    return ad.grad(ad.grad(lambda v: v**1.5))(0.0)  # at: second


def in_hessian():
    f = lambda v: ad.sum(v**1.5)  # noqa: E731  # at: hessian
    return ad.hessian(f)(ad.tensor([0.0, 1.0]))


def jvp_of_grad():
    f = ad.grad(lambda v: ad.sum(v**1.5))  # at: jvp_grad
    return ad.jvp(f, (zeros_and_more(),), (ad.ones((3,)),))


def division_backward():
    a = ad.tensor([1.0, 2.0])
    b = ad.tensor([1e-160, 1.0])
    return ad.grad(lambda b: ad.sum(a / b))(b)  # at: division_back


DERIVATIVES = [
    Case(
        "sqrt_back",
        sqrt_at_zero,
        "sqrt",
        "backward",
        "1 inf in 2 values",
        (
            "cotangent: float64 (2,), from 3 to 3",
            "result: float64 (2,), from 0 to 2",
            "cotangent of input 0: float64 (2,), from 0.75 to 0.75, 1 inf",
            "first met inside its rule: `divide`",
        ),
    ),
    Case("norm", norm_at_zero, "sqrt", "backward", "1 inf in 1 value"),
    Case("root", root_at_zero, "pow", "backward", "1 inf in 3 values"),
    Case("tape", with_a_tape, "sqrt", "backward", "1 inf in 1 value"),
    Case(
        "cotangent32",
        cotangent_overflow_32,
        "multiply",
        "backward",
        "1 inf in 1 value",
        ("cotangent: float32 (), from 1e+30 to 1e+30", "input 1: float32 (), from 1e+30 to 1e+30"),
    ),
    Case(
        "large_back",
        large_backward,
        "sqrt",
        "backward",
        f"1 inf in {LARGE} values",
        (f"cotangent: float64 ({LARGE},)",),
    ),
    Case("compiled_back", backward_in_compiled, "sqrt", "backward", "1 inf in 3 values"),
    Case("vmap_back", vmap_of_grad, "sqrt", "backward", "1 inf in 3 values"),
    Case("grad_vmap", grad_of_vmap, "sqrt", "backward", "1 inf in 3 values"),
    Case(
        "tangent",
        tangent,
        "sqrt",
        "forward mode",
        "1 inf in 3 values",
        (
            "tangent of input 0: float64 (3,), from 1 to 1",
            "input 0: float64 (3,), from 0 to 4",
            "tangent of the result: float64 (3,), from 0.25 to 0.5, 1 inf",
        ),
    ),
    Case(
        "second",
        second_order,
        "pow",
        "backward",
        "1 inf in 1 value",
        ("cotangent: float64 (), from 1.5 to 1.5",),
    ),
    Case(
        "jvp_grad",
        jvp_of_grad,
        "pow",
        "backward",
        "1 inf in 3 values",
    ),
    Case("division_back", division_backward, "divide", "backward", "1 inf in 2 values"),
]


def raised(call: Callable[[], Any], **options: bool) -> str:
    with pytest.raises(ad.AnomalyError) as caught, ad.detect_anomaly(**options):
        call()
    return str(caught.value)


@pytest.mark.parametrize("case", FORWARD, ids=lambda case: case.mark)
def test_forward(case: Case) -> None:
    text = raised(case.call)
    head, way, *_ = text.splitlines()
    assert head == f"[{case.op}] gave {case.found} from finite inputs"
    assert way == f"  forward, at {line(case.mark)}"
    for expected in case.lines:
        assert f"\n  {expected}" in text


@pytest.mark.parametrize("case", MET, ids=lambda case: case.mark)
def test_what_is_not_finite_from_the_start(case: Case) -> None:
    text = raised(case.call)
    head, way, *_, last = text.splitlines()
    assert head == f"[{case.op}] met an input that is not finite, and gave {case.found}"
    assert way == f"  forward, at {line(case.mark)}"
    assert "data" in last
    for expected in case.lines:
        assert f"\n  {expected}" in text


@pytest.mark.parametrize("case", DERIVATIVES, ids=lambda case: case.mark)
def test_derivatives(case: Case) -> None:
    text = raised(case.call)
    head, way, *_ = text.splitlines()
    assert head == f"[{case.op}] its derivative gave {case.found}"
    assert way.startswith(f"  {case.way}, in the derivative of `{case.op}`, applied ")
    assert way.endswith(f" at {line(case.mark)}")
    for expected in case.lines:
        assert f"\n  {expected}" in text


def test_the_derivative_of_a_derivative_says_so() -> None:
    assert "applied by the derivative of `pow`, at" in raised(second_order)


def test_hessian() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ad.AnomalyWarning)
        text = raised(in_hessian)
    assert text.startswith("[pow] its derivative gave 1 inf in 4 values")
    assert f"by the derivative of `pow`, at {line('hessian')}" in text
    assert "cotangent: float64 (2, 2)" in text and "batch axes come first" in text


def test_a_sum_of_cotangents() -> None:
    text = raised(sum_of_cotangents)
    assert text.startswith("[add] gave 1 inf in 1 value from finite inputs\n  backward, ")
    assert f"in the derivative of `multiply`, applied at {line('cotangents')}" in text
    assert "where cotangents are added up" in text


def test_no_anomaly() -> None:
    with ad.detect_anomaly():
        x = ad.tensor([1.0, 4.0], requires_grad=True)
        ad.sum(ad.sqrt(x)).backward()
        assert ad.hessian(lambda v: ad.sum(v**3))(ad.ones((2,))).tolist() == [[6, 0], [0, 6]]
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.25]


# ---- The first ----------------------------------------------------------------------------------


def test_what_passes_through_is_not_reported() -> None:
    """Whatever comes after, in either direction, the first one is named."""

    def forward():
        y = ad.log(zeros_and_more())  # at: first_forward
        z = y * 2.0
        return ad.exp(z - z)

    assert raised(forward).startswith("[log]")
    assert line("first_forward") in raised(forward)

    def backward():
        x = ad.tensor([0.0, 1.0], requires_grad=True)
        y = x * 3.0 + 1.0 - 1.0
        z = ad.sqrt(y * y)  # at: first_backward
        ad.sum(ad.tanh(z)).backward()

    text = raised(backward)
    assert text.startswith("[sqrt]") and line("first_backward") in text


def test_a_cotangent_that_is_not_finite_from_the_start() -> None:
    def call():
        _, pullback = ad.vjp(lambda x: x * 2.0, 3.0)  # at: seed
        pullback(ad.nan)

    text = raised(call)
    assert text.startswith("[multiply] its derivative gave 1 nan in 1 value, from a cotangent that")
    assert line("seed") in text


def test_an_operation_recorded_before_the_block() -> None:
    x = ad.tensor(0.0, requires_grad=True)
    y = ad.sqrt(x)
    text = raised(lambda: y.backward())
    assert text.startswith("[sqrt] its derivative gave 1 inf in 1 value")
    assert "applied before the block was opened" in text
    assert x.grad is None


def test_memory_of_nodes_that_is_used_again() -> None:
    def call():
        for _ in range(100):
            x = ad.tensor(1.0, requires_grad=True)
            ad.sqrt(x * 2.0).backward()
        x = ad.tensor(0.0, requires_grad=True)
        ad.sqrt(x * 2.0).backward()  # at: again

    assert line("again") in raised(call)


# ---- Derivatives given by hand ------------------------------------------------------------------


@ad.custom_vjp
def by_hand(x):
    return x * x


def by_hand_forward(x):
    return x * x, x


def by_hand_backward(x, cotangent):
    slope = 1.0 / x  # at: hand_rule
    return (cotangent * slope,)


by_hand.defvjp(by_hand_forward, by_hand_backward)


def test_a_rule_given_by_hand_has_lines_of_its_own() -> None:
    def call():
        return ad.grad(by_hand)(0.0)  # at: hand_call

    text = raised(call)
    head, way, *_ = text.splitlines()
    assert head == "[divide] gave 1 inf in 1 value from finite inputs"
    assert way == (
        f"  backward, at {line('hand_rule')}, in a derivative given by hand, "
        f"applied at {line('hand_call')}"
    )
    text = raised(call, forward=False)
    assert text.startswith("[derivative_carrier] its derivative gave 1 inf in 1 value")
    assert line("hand_call") in text


def test_a_checkpoint() -> None:
    @ad.checkpoint
    def block(x):
        y = ad.sqrt(x)  # at: checkpoint
        return y * 2.0

    text = raised(lambda: ad.grad(lambda x: ad.sum(block(x)))(zeros_and_more()))
    assert text.startswith("[sqrt] its derivative gave 1 inf in 3 values\n  backward")
    assert line("checkpoint") in text
    with ad.detect_anomaly():
        g = ad.grad(lambda x: ad.sum(block(x)))(ad.tensor([1.0, 4.0]))
    assert g.tolist() == [1.0, 0.5]


# ---- Zero times what is not finite --------------------------------------------------------------


def test_where_that_hides_an_infinity() -> None:
    """The derivative is right, and told of."""

    def f(x):
        y = ad.log(x)  # at: hidden
        return ad.sum(ad.where(x > 0, y, 0.0))

    x = zeros_and_more()
    assert line("hidden") in raised(lambda: ad.grad(f)(x))
    with pytest.warns(ad.AnomalyWarning) as caught, ad.detect_anomaly(forward=False):
        g = ad.grad(f)(x)
    assert g.tolist() == [0.0, 1.0, 0.25]
    [warning] = caught
    text = str(warning.message)
    assert text.startswith("[mul0] 0 met a factor that is not finite in 1 element,")
    assert f"backward, in the derivative of `log`, applied at {line('hidden')}" in text
    assert "input 0: float64 (3,), from 0 to 1" in text
    assert (warning.filename, warning.lineno) == (str(HERE), MARKS["hidden"])


def test_zeros_and_infinities_that_broadcast() -> None:
    """A row of partials, two of them infinite, meets three rows of cotangents, one of zeros."""
    mask = ad.tensor([[True], [False], [True]])
    rows = ad.vmap(ad.grad(lambda x, m: ad.sum(ad.where(m, ad.sqrt(x), 0.0))), in_axes=(None, 0))
    with (
        pytest.warns(ad.AnomalyWarning, match=r"in 2 elements.*\n.*`sqrt`"),
        ad.detect_anomaly(inf=False),
    ):
        g = rows(ad.tensor([0.0, 0.0, 4.0]), mask)
    assert g.tolist() == [[ad.inf, ad.inf, 0.25], [0.0] * 3, [ad.inf, ad.inf, 0.25]]


def test_a_warning_may_be_an_error() -> None:
    def f(x):
        return ad.where(x > 0, ad.sqrt(x), 0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ad.AnomalyWarning)
        with pytest.raises(ad.AnomalyWarning), ad.detect_anomaly():
            ad.grad(f)(0.0)
    assert ad.grad(f)(0.0).item() == 0.0


def test_finite_factors_are_silent() -> None:
    with warnings.catch_warnings(), ad.detect_anomaly():
        warnings.simplefilter("error")
        assert ad.grad(lambda x: ad.where(x > 0, ad.sqrt(x), 0.0))(4.0).item() == 0.25
        assert ad.grad(lambda x: ad.sum(x * 0.0))(ad.ones((3,))).tolist() == [0.0] * 3


# ---- What one may do inside ---------------------------------------------------------------------


def test_options() -> None:
    with ad.detect_anomaly(inf=False):
        masked = ad.where(ad.tensor([True, False]), ad.tensor([1.0, 2.0]), -ad.inf)
        weights = ad.exp(masked - ad.max(masked))
        assert (weights / ad.sum(weights)).tolist() == [1.0, 0.0]
    assert raised(lambda: ad.log(ad.tensor([-1.0, 0.0])), inf=False).startswith("[log] gave 1 nan")
    with ad.detect_anomaly(backward=False):
        assert ad.grad(lambda x: ad.sqrt(x))(0.0).item() == ad.inf
    with ad.detect_anomaly(forward=False, backward=False):
        assert ad.log(0.0).item() == -ad.inf


def test_reading_and_testing_what_is_not_finite() -> None:
    x = ad.tensor([ad.nan, 1.0, -ad.inf])
    with ad.detect_anomaly():
        assert repr(x) == "Tensor([ nan,   1., -inf], shape=(3,), dtype=float64)"
        assert x[1].item() == 1.0 and np.isnan(x.tolist()[0])
        assert ad.isnan(x).tolist() == [True, False, False]
        assert ad.where(ad.isfinite(x), x, 0.0).tolist() == [0.0, 1.0, 0.0]
        assert ad.exp(x[2]).item() == 0.0
        assert x[::-1].reshape((3, 1)).shape == (3, 1)


def test_blocks_nest() -> None:
    def outer_line():
        x = ad.tensor(0.0, requires_grad=True)
        y = ad.sqrt(x)  # at: nested
        with ad.detect_anomaly(backward=True):
            y.backward()

    assert line("nested") in raised(outer_line, forward=False, backward=False)
    with ad.detect_anomaly():
        with ad.detect_anomaly(forward=False):
            assert ad.log(0.0).item() == -ad.inf
        with pytest.raises(ad.AnomalyError):
            ad.log(0.0)
    assert ad.log(0.0).item() == -ad.inf


def test_decorator() -> None:
    @ad.detect_anomaly(forward=False)
    def f(x):
        return ad.grad(ad.sqrt)(x)

    with pytest.raises(ad.AnomalyError, match=r"\[sqrt\]"):
        f(0.0)
    assert f(4.0).item() == 0.25
    assert ad.log(0.0).item() == -ad.inf


def test_the_exception_is_a_floating_point_error() -> None:
    assert issubclass(ad.AnomalyError, FloatingPointError)
    assert issubclass(ad.AnomalyWarning, RuntimeWarning)


def test_nothing_waits_inside() -> None:
    x = ad.linspace(0.0, 1.0, LARGE)
    with ad.detect_anomaly():
        assert len(ad.explain(ad.exp(x) + 1.0)) == 0
    assert len(ad.explain(ad.exp(x) + 1.0)) == 1


def test_work_that_waits_when_the_block_is_opened() -> None:
    y = ad.log(ad.arange(LARGE, dtype=ad.float64))
    text = raised(lambda: y + 1.0)
    assert text.startswith(f"[add] met an input that is not finite, and gave 1 inf in {LARGE}")


def test_inside_a_function_that_is_being_compiled() -> None:
    @ad.compile
    def f(x):
        with ad.detect_anomaly():
            return ad.log(x)

    with pytest.raises(RuntimeError, match="around its call"):
        f(ad.tensor([1.0]))
    assert ad.log(0.0).item() == -ad.inf


def test_a_compiled_function_has_its_program_afterwards() -> None:
    calls = []

    @ad.compile
    def f(x):
        calls.append(1)
        return x * 2.0

    for _ in range(3):
        f(zeros_and_more())
    with ad.detect_anomaly():
        f(zeros_and_more())
    f(zeros_and_more())
    assert len(calls) == 2


def test_gradients_are_as_they_were() -> None:
    w = ad.tensor([1.0, 0.0], requires_grad=True)
    (w * 2.0).backward(ad.ones((2,)))
    with pytest.raises(ad.AnomalyError), ad.detect_anomaly():
        ad.sum(ad.sqrt(w)).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [2.0, 2.0]
    w.zero_grad()
    ad.sum(w * w).backward()
    assert w.grad.tolist() == [2.0, 0.0]


def test_other_threads_are_left_alone() -> None:
    seen = []
    with ad.detect_anomaly():
        thread = threading.Thread(target=lambda: seen.append(ad.log(0.0).item()))
        thread.start()
        thread.join()
    assert seen == [-ad.inf]


def test_leaving_too_often() -> None:
    block = ad.detect_anomaly()
    with block:
        pass
    with pytest.raises(RuntimeError, match="left more often"):
        block.__exit__(None, None, None)


def test_nothing_leaks() -> None:
    def run():
        for case in DERIVATIVES:
            raised(case.call)

    run()
    gc.collect()  # tracebacks hold frames
    before = ad.memory_stats()["live_nodes"]
    run()
    gc.collect()
    assert ad.memory_stats()["live_nodes"] == before
