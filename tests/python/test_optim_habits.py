"""What people who know SciPy, PyTorch or optax try first: it works, or is told what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint.optim import curve_fit, least_squares, minimize, root


def bowl(x: Any) -> Any:
    return ad.sum((x - 1.0) ** 2)


# ---- Modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
def test_a_module_comes_back_as_trainable_as_it_was(given: bool) -> None:
    ad.random.seed(0)
    x, y = ad.tensor([[1.0], [2.0], [3.0]]), ad.tensor([[3.0], [5.0], [7.0]])
    start = ad.nn.Linear(1, 1, dtype=ad.float64)
    start.bias.requires_grad = False

    def loss(m: Any, *args: Any) -> Any:
        return ad.mean((m(x) - y) ** 2)

    def residuals(m: Any, *args: Any) -> Any:
        return m(x) - y

    args = (x,) if given else ()
    for result in (
        minimize(loss, start, args=args),
        minimize(loss, start, "nelder-mead", args=args),
        minimize(lambda p, *args: loss(p["m"]), {"m": start}, args=args),
        least_squares(residuals, start, args=args),
    ):
        found = result.x["m"] if isinstance(result.x, dict) else result.x
        assert found.weight.requires_grad and not found.bias.requires_grad
        assert start.weight is not found.weight
        loss(found).backward()
        rest = found.weight.item() * x.numpy() + found.bias.item() - y.numpy()
        slope = 2 * np.mean(rest * x.numpy())
        assert abs(found.weight.grad.item() - slope) < 1e-12
    assert not minimize(bowl, ad.zeros(2)).x.requires_grad
