"""What `curve_fit` finds out by itself, and what it refuses, against SciPy where that agrees."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import adjoint as ad

scipy = pytest.importorskip("scipy.optimize")
curve_fit = ad.optim.curve_fit


# ---- What curve_fit finds out by itself ----------------------------------------------------------

SIGNATURES = {
    "keyword": lambda x, a, *, b=5.0: a * x + b,
    "keywords": lambda x, a, **more: a * x + 5.0,
    "partial": functools.partial(lambda x, a, b: a * x + b, b=5.0),
    "positional": lambda x, a, /: a * x + 5.0,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_are_what_a_model_takes_by_position(name: str) -> None:
    x = np.array([1.0, 2.0, 3.0])
    popt, _ = curve_fit(SIGNATURES[name], x, 2.0 * x + 5.0)
    assert popt.shape == (1,) and popt[0].item() == pytest.approx(2.0)


@pytest.mark.parametrize("model", [lambda x, *p: x, lambda x: x, lambda x, *, a: x])
def test_a_model_that_tells_no_number_needs_p0(model: Any) -> None:
    with pytest.raises(ValueError, match=r"\[curve_fit\] the number of parameters is not known"):
        curve_fit(model, [1.0], [1.0])


@pytest.mark.parametrize(
    ("bounds", "start"),
    [
        (None, 1.0),
        ((0.0, 10.0), 1.0),
        ((2.0, 10.0), 6.0),
        ((2.0, np.inf), 3.0),
        ((-np.inf, -2.0), -3.0),
        ((1.0, 1.0), 1.0),
        ((1.5e308, 1.7e308), 1.6e308),
    ],
)
def test_curve_fit_starts_within_the_bounds(bounds: Any, start: float) -> None:
    seen = []

    def model(x: ad.Tensor, a: ad.Tensor) -> ad.Tensor:
        seen.append(a.detach().item())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        curve_fit(model, [1.0, 2.0], [1.0, 2.0], bounds=bounds)
    assert seen[0] == pytest.approx(start)


def test_curve_fit_within_bounds_and_without_p0_as_scipy() -> None:
    x = np.linspace(0, 4, 30)
    y = 2.5 * np.exp(-1.3 * x) + 0.5
    low, high = [1.5, 0.0, 0.0], [3.0, 1.4, 0.9]
    wanted, _ = scipy.curve_fit(lambda x, a, b, c: a * np.exp(-b * x) + c, x, y, bounds=(low, high))
    popt, _ = curve_fit(
        lambda x, a, b, c: a * ad.exp(-b * x) + c, x, y, bounds=[*zip(low, high, strict=True)]
    )
    np.testing.assert_allclose(popt.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("empty", [[], (), np.empty(0), ad.ones((0,))])
def test_no_data_are_an_error(empty: Any) -> None:
    with pytest.raises(ValueError, match=r"\[curve_fit\] ydata must have at least one element"):
        curve_fit(lambda x, a: a * x, empty, empty)


@pytest.mark.parametrize("sigma", [np.triu(np.ones((3, 3))), np.tril(np.ones((3, 3)))])
def test_a_covariance_of_data_is_symmetric(sigma: Any) -> None:
    x = np.array([1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match=r"\[curve_fit\] sigma as a matrix must be symmetric"):
        curve_fit(lambda x, a: a * x, x, x, sigma=sigma)
    half = np.array([[1.0, 0.0, 0.0], [0.3, 2.0, 0.0], [0.1, 0.2, 0.7]]) / 3.0
    rounded = half @ half.T
    rounded[0, 1] *= 1.0 + 1e-15
    ours = curve_fit(lambda x, a: a * x, x, x + 0.1, sigma=rounded, absolute_sigma=True)
    wanted = scipy.curve_fit(lambda x, a: a * x, x, x + 0.1, sigma=rounded, absolute_sigma=True)
    np.testing.assert_allclose(ours[1].numpy(), wanted[1], rtol=1e-6)


def test_curve_fit_warns_at_the_line_that_called_it() -> None:
    with pytest.warns(RuntimeWarning, match="do not determine") as seen:
        curve_fit(lambda x, a, b: a * b * x, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert seen[0].filename == __file__
