"""The programs this project grew out of, from random search to a tape.

Run ``python -m adjoint.examples.first_steps``. Each function is one program with a known answer.
"""

from __future__ import annotations

from typing import NamedTuple

import adjoint as ad

__all__ = [
    "Fit",
    "fit_line",
    "gradient_descent",
    "parabola",
    "random_search",
    "same_gradient_three_ways",
    "tape_cell",
]


def parabola(w: ad.Tensor) -> ad.Tensor:
    """``F(; w) = w**2 + 1``, whose minimum 1 lies at 0."""
    return w**2 + 1


def random_search(samples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Minimise the parabola on [-10, 10] by trying random points.

    Returns
    -------
    w, value : float
        The best point met and the parabola there.
    """
    w = ad.random.Generator(seed).uniform((samples,), -10.0, 10.0, dtype=ad.float64)
    values = parabola(w)
    best = int(ad.argmin(values).item())
    return float(w[best].item()), float(values[best].item())


def gradient_descent(rate: float = 0.001, steps: int = 10_000, seed: int = 0) -> float:
    """Minimise the parabola by following its gradient down from a random start.

    Returns
    -------
    float
        The last point; each step shrinks it by ``1 - 2 * rate``.
    """
    gradient = ad.grad(parabola)
    w = ad.random.Generator(seed).uniform((), -10.0, 10.0, dtype=ad.float64)
    for _ in range(steps):
        w = w - rate * gradient(w)
    return float(w.item())


class Fit(NamedTuple):
    """A fitted line, with the first gradient by adjoint and by hand."""

    w1: float
    w2: float
    gradient: tuple[float, float]
    gradient_by_hand: tuple[float, float]


def fit_line(rate: float = 0.02, steps: int = 2_000) -> Fit:
    """Fit ``F(x; w1, w2) = x*w1 + w2`` to four points of ``y = x + 1`` by least squares.

    By hand, with residuals ``r = x*w1 + w2 - y``, the sum of squares has the partial derivatives
    ``2 * sum(r * x)`` and ``2 * sum(r)``.
    """
    points = ((1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 5.0))
    x = ad.tensor([point[0] for point in points])
    y = ad.tensor([point[1] for point in points])

    def loss(w1: ad.Tensor, w2: ad.Tensor) -> ad.Tensor:
        return ad.sum((x * w1 + w2 - y) ** 2)

    gradient = ad.grad(loss, argnums=(0, 1))
    w1, w2 = ad.tensor(-0.5), ad.tensor(3.0)
    residuals = [px * -0.5 + 3.0 - py for px, py in points]
    by_hand = (
        2.0 * sum(r * px for r, (px, _) in zip(residuals, points, strict=True)),
        2.0 * sum(residuals),
    )
    first = gradient(w1, w2)
    for _ in range(steps):
        d1, d2 = gradient(w1, w2)
        w1, w2 = w1 - rate * d1, w2 - rate * d2
    return Fit(
        w1=float(w1.item()),
        w2=float(w2.item()),
        gradient=(float(first[0].item()), float(first[1].item())),
        gradient_by_hand=by_hand,
    )


def tape_cell() -> float:
    """Differentiate ``w1**2 + 1`` at 10 with a tape, in TensorFlow's words."""
    import adjoint as tf

    w1 = tf.Variable(10.0, name="x", trainable=True, dtype=tf.float32)
    with tf.GradientTape() as tape:
        f = w1**2 + 1
    return float(tape.gradient(f, w1).numpy())


def same_gradient_three_ways() -> tuple[float, float, float]:
    """Differentiate the parabola at 10 by a tape, by `ad.grad` and by ``backward``."""
    w = ad.tensor(10.0, requires_grad=True, name="w")
    parabola(w).backward()
    assert w.grad is not None
    return tape_cell(), float(ad.grad(parabola)(ad.tensor(10.0)).item()), float(w.grad.item())


def main() -> None:
    """Run every program and print what it found."""
    w, value = random_search()
    print(f"random search      F({w:+.5f}) = {value:.8f}")
    print(f"gradient descent   w = {gradient_descent():+.3e}")
    fit = fit_line()
    print(f"line               y = {fit.w1:.12f} * x + {fit.w2:.12f}")
    print(f"  first gradient   {fit.gradient}, by hand {fit.gradient_by_hand}")
    tape, grad, backward = same_gradient_three_ways()
    print(f"dF/dw at 10        tape {tape}, grad {grad}, backward {backward}")


def __dir__() -> list[str]:
    return sorted(__all__)


if __name__ == "__main__":
    main()
