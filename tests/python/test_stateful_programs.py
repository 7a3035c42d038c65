"""Programs with state show what a plain interpreter on NumPy arrays shows.

ADJOINT_RANDOM_PROGRAMS says how many are drawn and ADJOINT_RANDOM_SEED from which seed on; see
`stateful_check` for a survey of many. The interpreter itself is held against finite differences and
against cells of the table of assignment inside transforms, worked out by hand.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import plain_handles as plain
from stateful_check import InvalidProgramError, compare, expected
from stateful_programs import HEADER, Program, write
from stateful_reduce import reduced

PROGRAMS = int(os.environ.get("ADJOINT_RANDOM_PROGRAMS", "900"))
SEED = int(os.environ.get("ADJOINT_RANDOM_SEED", "0"))

FAMILIES = (
    *("plain", "compile", "transforms", "compile in transforms", "checkpoint"),
    *("step", "loss", "history in state"),
)


def family(program: Program) -> str:
    """What a program is about: its most particular layer."""
    layers = set(program.layers)
    for name in ("step", "loss"):
        if name in layers:
            return name
    if any("history" in layer for layer in layers):
        return "history in state"
    if "checkpoint" in layers:
        return "checkpoint"
    if layers <= {"compile"}:
        return "compile" if layers else "plain"
    return "compile in transforms" if "compile" in layers else "transforms"


@pytest.fixture(scope="session")
def programs() -> dict[str, list[Program]]:
    drawn: dict[str, list[Program]] = {name: [] for name in FAMILIES}
    for seed in range(SEED, SEED + PROGRAMS):
        program = write(seed)
        drawn[family(program)].append(program)
    return drawn


@pytest.mark.parametrize("name", FAMILIES)
def test_a_program_shows_what_the_plain_interpreter_shows(
    name: str, programs: dict[str, list[Program]]
) -> None:
    for program in programs[name]:
        found = compare(program.source)
        if found:
            small = reduced(program.seed, found.kind)
            pytest.fail(f"seed {program.seed}, {program.wrapper}: {found}\n{HEADER}{small}")


def test_every_program_runs_in_the_plain_interpreter(programs: dict[str, list[Program]]) -> None:
    for program in (p for some in programs.values() for p in some[:40]):
        try:
            expected(program.source)
        except InvalidProgramError as error:
            pytest.fail(f"seed {program.seed}: {error}\n{program.source}")


def test_a_seed_gives_the_same_program() -> None:
    assert write(5) == write(5)


# ---- the interpreter itself ----------------------------------------------------------------------

W = np.array([[0.3, -0.7, 0.2], [0.5, 0.1, -0.4]])
SMOOTH: dict[str, Any] = {
    "arithmetic": lambda x: (x + 2) * (1 - x) / (x * x + 1.5) - 0.3 * x,
    "elementwise": lambda x: plain.sin(x) * plain.exp(x) + plain.tanh(x) * plain.cos(2 * x),
    "roots": lambda x: plain.sqrt(1 + plain.square(x)) + plain.log(1.5 + x * x) + plain.sigmoid(x),
    "power": lambda x: x**3 - x**2,
    "where": lambda x: plain.where(x > 0.1, plain.sin(x), x * x),
    "reductions": lambda x: plain.mean(x * x) * x + plain.sum(plain.cos(x), axis=0),
    "products": lambda x: plain.tensor(W) @ (x * x) + plain.tensor(W)[0, 1] * x[:2],
    "indexing": lambda x: x[[2, 0, 2]] * x[::-1] + plain.stack([x, x * x]).T[1, 1],
    "assignment": lambda x: _assigned(x * 1.0),
    "scan": lambda x: plain.scan(lambda c, r: (plain.sin(c) + r, c * r), x, plain.stack([x, x]))[1],
    "batch": lambda x: plain.vmap(lambda r: plain.sum(r * x))(plain.stack([x, x * x])),
}


def _assigned(y: Any) -> Any:
    y[1] = y[0] * y[2]
    y[1:] += plain.sin(y[:2])
    y *= y[0]
    y[y > 0.2] = y[1] * 0.5
    return y


@pytest.mark.parametrize("name", SMOOTH)
def test_tangents_of_the_interpreter_against_finite_differences(name: str) -> None:
    f, x, v, h = SMOOTH[name], np.array([0.35, -0.6, 0.8]), np.array([1.0, -0.5, 0.7]), 1e-5

    def slope(x: Any) -> Any:
        return plain.jvp(f, (plain.tensor(x),), (plain.tensor(v),))[1].numpy()

    def value(x: Any) -> Any:
        return f(plain.tensor(x)).numpy()

    near = (value(x + h * v) - value(x - h * v)) / (2 * h)
    np.testing.assert_allclose(slope(x), near, rtol=1e-7, atol=1e-8)
    gradient = plain.grad(lambda x: plain.sum(f(x) * f(x)))(plain.tensor(x)).numpy()
    np.testing.assert_allclose(gradient @ v, 2 * np.sum(value(x) * near), rtol=1e-7)

    def curve(x: Any) -> Any:
        return plain.jvp(lambda x: plain.jvp(f, (x,), (v,))[1], (plain.tensor(x),), (v,))[1]

    np.testing.assert_allclose(
        curve(x).numpy(), (slope(x + h * v) - slope(x - h * v)) / (2 * h), rtol=1e-6, atol=1e-7
    )


def test_assignment_under_grad_holds_the_history_until_the_end() -> None:
    kept = plain.zeros((2,))

    def f(x: Any) -> Any:
        kept.rebind_(x * x)
        return plain.sum(kept * x)

    x = plain.tensor([1.0, 2.0])
    np.testing.assert_array_equal(plain.grad(f)(x).numpy(), [3.0, 12.0])
    np.testing.assert_array_equal(kept.numpy(), [1.0, 4.0])
    assert not kept.requires_grad


def test_assignment_under_jvp_keeps_the_primal() -> None:
    kept = plain.zeros((2,))

    def f(x: Any) -> Any:
        kept.rebind_(x * x)
        return kept * x

    x = plain.tensor([1.0, 2.0])
    np.testing.assert_array_equal(plain.jvp(f, (x,), (x,))[1].numpy(), [1.0, 8.0])


def test_assignment_of_what_differs_along_a_batch_is_refused() -> None:
    kept, count = plain.zeros(()), plain.zeros(())

    def f(x: Any) -> Any:
        nonlocal count, kept
        count += 1.0
        kept += x
        return x

    with pytest.raises(plain.Refused):
        plain.vmap(f)(plain.tensor([1.0, 2.0]))
    assert (count.item(), kept.item()) == (1.0, 0.0)
    with pytest.raises(plain.Refused):
        plain.compile(plain.vmap(f))(plain.tensor([1.0, 2.0]))
    assert count.item() == 1.0, "a trace that raises leaves nothing behind"


def test_a_loop_owns_its_carry() -> None:
    def step(c: Any, x: Any) -> Any:
        c += x
        return c, c

    start = plain.zeros(())
    last, rows = plain.scan(step, start, plain.tensor([1.0, 2.0, 3.0]))
    assert rows.numpy().tolist() == [1.0, 3.0, 6.0]
    assert (start.item(), last.item()) == (0.0, 6.0)


def test_no_grad_is_constant_to_what_was_open_outside() -> None:
    def f(x: Any) -> Any:
        with plain.no_grad():
            inner = plain.grad(lambda y: y * y * x)(x)  # 2x², a constant
        return inner * x

    x = plain.tensor(3.0)
    assert plain.grad(f)(x).item() == 18.0
    assert plain.jvp(f, (x,), (plain.tensor(1.0),))[1].item() == 18.0


def test_leaves_accumulate_over_their_values() -> None:
    w = plain.tensor([1.0, 2.0], requires_grad=True)
    early = plain.sum(w * w)
    with pytest.raises(plain.Refused):
        w += 1.0
    with plain.no_grad():
        w += 1.0
    (early + plain.sum(3.0 * w)).backward()
    assert w.grad.numpy().tolist() == [5.0, 7.0]
