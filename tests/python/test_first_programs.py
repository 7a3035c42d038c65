"""The programs the project grew out of, with their known answers."""

import subprocess
import sys

import numpy as np
import pytest

from adjoint.examples import first_steps


def test_random_search_finds_the_minimum():
    w, value = first_steps.random_search(samples=10_000)
    assert -10.0 <= w <= 10.0
    assert value == w**2 + 1
    assert 1.0 <= value <= 1.0001


def test_gradient_descent_reaches_the_minimum():
    assert abs(first_steps.gradient_descent(rate=0.001, steps=10_000)) < 1e-7


def test_the_line_is_found_and_its_gradients_are_those_by_hand():
    fit = first_steps.fit_line()
    assert fit.w1 == pytest.approx(1.0, abs=1e-9)
    assert fit.w2 == pytest.approx(1.0, abs=1e-9)
    # At w1 = -0.5, w2 = 3 the residuals are 0.5, -1, -2.5, -4:
    # 2 * (0.5*1 - 1*2 - 2.5*3 - 4*4) = -50 and 2 * (0.5 - 1 - 2.5 - 4) = -14.
    assert fit.gradient == pytest.approx((-50.0, -14.0), abs=1e-12)
    assert fit.gradient_by_hand == pytest.approx((-50.0, -14.0), abs=1e-12)


def test_the_tensorflow_cell_runs_as_it_was_written():
    import adjoint as tf

    w1 = tf.Variable(10.0, name="x", trainable=True, dtype=tf.float32)
    with tf.GradientTape() as tape:
        f = w1**2 + 1
    gradient = tape.gradient(f, w1).numpy()

    assert gradient == 20.0
    assert gradient.dtype == np.float32


def test_every_habit_gives_the_same_gradient():
    assert first_steps.same_gradient_three_ways() == (20.0, 20.0, 20.0)


def test_the_programs_run_from_the_command_line():
    command = [sys.executable, "-m", "adjoint.examples.first_steps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "tape 20.0, grad 20.0, backward 20.0" in done.stdout
