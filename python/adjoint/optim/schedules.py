"""Learning rates as functions of the step, computed with tensors, so that they compile.

A schedule is given how many steps were taken before this one: 0 at the first. It is a
`functools.partial` of a function of this file, so it prints its settings and can be pickled.
Conventions are PyTorch's; where optax has others, the function says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import adjoint as ad
from adjoint._arguments import (
    check_callable,
    check_choice,
    check_count,
    check_entries,
    check_flag,
    check_int,
    check_number,
)
from adjoint.optim.options import check_range

__all__ = [
    "constant_schedule",
    "cosine_restarts_schedule",
    "cosine_schedule",
    "exponential_schedule",
    "linear_schedule",
    "multi_step_schedule",
    "one_cycle_schedule",
    "polynomial_schedule",
    "sequence_schedule",
    "step_schedule",
]

Schedule = Callable[[Any], ad.Tensor]


def _counted(step: Any) -> ad.Tensor:
    """Return a step as a float64 tensor; of a batch of steps each."""
    if not isinstance(step, ad.Tensor):
        step = ad.asarray(check_int("schedule", "the step", step))
    return ad.astype(step, ad.float64)


def _schedule(f: Callable[..., ad.Tensor], **settings: Any) -> Schedule:
    return functools.partial(f, **settings)


def _checked(who: str, learning_rate: Any) -> float:
    return check_range(who, "learning_rate", learning_rate, 0.0, math.inf)


# ---- Constant, linear, polynomial ----------------------------------------------------------------


def constant_schedule(learning_rate: float, *, factor: float = 1.0, steps: int = 0) -> Schedule:
    """A constant rate, which may be another for the first steps (``ConstantLR``).

    Parameters
    ----------
    learning_rate : float
        The rate.
    factor : float, default 1.0
        What the rate is multiplied by before `steps`.
    steps : int, default 0
        From which step on it is not.

    Returns
    -------
    function of the step
        An int or an integer Tensor; the rate is a float64 Tensor of its shape.

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.constant_schedule(0.5, factor=0.1, steps=2)
    >>> [rate(t).item() for t in range(4)]
    [0.05, 0.05, 0.5, 0.5]
    """
    who = "constant_schedule"
    rate = _checked(who, learning_rate)
    factor = check_range(who, "factor", factor, 0.0, math.inf)
    steps = check_count(who, "steps", steps)
    return _schedule(_constant, rate=rate, factor=factor, steps=steps)


def _constant(step: Any, *, rate: float, factor: float, steps: int) -> ad.Tensor:
    return rate * ad.where(_counted(step) < steps, factor, 1.0)


def linear_schedule(
    learning_rate: float, *, start: float = 1.0 / 3.0, end: float = 1.0, steps: int = 5
) -> Schedule:
    """From one factor to another along a line: a warm-up by default (``LinearLR``).

    Parameters
    ----------
    learning_rate : float
        The rate that the factors multiply.
    start, end : float, default 1/3 and 1
        The factors at step 0, and from step `steps` on.
    steps : int, default 5
        At least 1.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> warmup = ad.optim.linear_schedule(0.5, start=0.0, steps=4)
    >>> [warmup(t).item() for t in range(6)]
    [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    """
    who = "linear_schedule"
    rate = _checked(who, learning_rate)
    start = check_range(who, "start", start, 0.0, math.inf)
    end = check_range(who, "end", end, 0.0, math.inf)
    steps = check_count(who, "steps", steps, 1)
    return _schedule(_linear, rate=rate, start=start, end=end, steps=steps)


def _linear(step: Any, *, rate: float, start: float, end: float, steps: int) -> ad.Tensor:
    t = ad.minimum(_counted(step), float(steps))
    return rate * (start + (end - start) * t / steps)


def polynomial_schedule(learning_rate: float, *, steps: int = 5, power: float = 1.0) -> Schedule:
    r"""Down to zero along a power, :math:`\eta (1 - t/T)^p` (``PolynomialLR``).

    Parameters
    ----------
    learning_rate : float
        The rate at step 0.
    steps : int, default 5
        :math:`T`, from which on the rate is 0. (optax names a final rate, which
        `linear_schedule` has.)
    power : float, default 1.0
        :math:`p > 0`.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.polynomial_schedule(1.0, steps=4, power=2.0)
    >>> [rate(t).item() for t in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    who = "polynomial_schedule"
    rate = _checked(who, learning_rate)
    steps = check_count(who, "steps", steps, 1)
    power = check_range(who, "power", power, 0.0, math.inf, above=True)
    return _schedule(_polynomial, rate=rate, steps=steps, power=power)


def _polynomial(step: Any, *, rate: float, steps: int, power: float) -> ad.Tensor:
    left: ad.Tensor = 1.0 - ad.minimum(_counted(step), float(steps)) / steps
    return rate * left**power


# ---- Steps and exponentials ----------------------------------------------------------------------


def step_schedule(learning_rate: float, *, step_size: int, gamma: float = 0.1) -> Schedule:
    """Times `gamma` after every `step_size` steps (``StepLR``).

    Parameters
    ----------
    learning_rate : float
        The rate at first.
    step_size : int
        At least 1.
    gamma : float, default 0.1
        Above 0.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.step_schedule(1.0, step_size=2, gamma=0.5)
    >>> [rate(t).item() for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    who = "step_schedule"
    rate = _checked(who, learning_rate)
    step_size = check_count(who, "step_size", step_size, 1)
    gamma = check_range(who, "gamma", gamma, 0.0, math.inf, above=True)
    return _schedule(_step, rate=rate, step_size=step_size, gamma=gamma)


def _step(step: Any, *, rate: float, step_size: int, gamma: float) -> ad.Tensor:
    return rate * gamma ** ad.floor(_counted(step) / step_size)


def multi_step_schedule(
    learning_rate: float, *, milestones: Sequence[int], gamma: float = 0.1
) -> Schedule:
    """Times `gamma` at every milestone (``MultiStepLR``).

    Parameters
    ----------
    learning_rate : float
        The rate at first.
    milestones : list of int
        Not decreasing; one that stands twice counts twice.
    gamma : float, default 0.1
        Above 0.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.multi_step_schedule(1.0, milestones=[1, 3], gamma=0.5)
    >>> [rate(t).item() for t in range(5)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    who = "multi_step_schedule"
    rate = _checked(who, learning_rate)
    marks = _milestones(who, milestones)
    gamma = check_range(who, "gamma", gamma, 0.0, math.inf, above=True)
    return _schedule(_multi_step, rate=rate, milestones=marks, gamma=gamma)


def _multi_step(step: Any, *, rate: float, milestones: tuple[int, ...], gamma: float) -> ad.Tensor:
    t = _counted(step)
    passed = ad.zeros_like(t)
    for mark in milestones:
        passed = passed + ad.where(t >= mark, 1.0, 0.0)
    return rate * gamma**passed


def _milestones(who: str, milestones: Any) -> tuple[int, ...]:
    marks = tuple(
        check_count(who, "a milestone", m) for m in check_entries(who, "milestones", milestones)
    )
    if any(a > b for a, b in pairwise(marks)):
        raise ValueError(f"[{who}] milestones must not decrease, got {list(marks)}")
    return marks


def exponential_schedule(learning_rate: float, *, gamma: float) -> Schedule:
    r"""Times `gamma` at every step, :math:`\eta \gamma^t` (``ExponentialLR``).

    Parameters
    ----------
    learning_rate : float
        The rate at step 0.
    gamma : float
        Above 0.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.exponential_schedule(1.0, gamma=0.5)
    >>> rate(ad.asarray([0, 1, 2])).tolist()
    [1.0, 0.5, 0.25]
    """
    who = "exponential_schedule"
    rate = _checked(who, learning_rate)
    gamma = check_range(who, "gamma", gamma, 0.0, math.inf, above=True)
    return _schedule(_exponential, rate=rate, gamma=gamma)


def _exponential(step: Any, *, rate: float, gamma: float) -> ad.Tensor:
    return rate * gamma ** _counted(step)


# ---- Cosines -------------------------------------------------------------------------------------


def _cosine_between(high: float, low: float, part: ad.Tensor) -> ad.Tensor:
    """From one value to another along half a cosine, as `part` goes from 0 to 1."""
    return low + (high - low) * (1.0 + ad.cos(math.pi * part)) / 2.0


def cosine_schedule(learning_rate: float, *, steps: int, end: float = 0.0) -> Schedule:
    r"""Down along half a cosine (``CosineAnnealingLR``) [1]_.

    Parameters
    ----------
    learning_rate : float
        The rate at step 0.
    steps : int
        Steps until `end` is reached. As in PyTorch the rate rises again after that, along the
        cosine; optax stays at the end. Follow it by a constant with `sequence_schedule`.
    end : float, default 0.0
        The least rate.

    Returns
    -------
    function of the step

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts",
       ICLR, 2017. arXiv:1608.03983.

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.cosine_schedule(1.0, steps=2)
    >>> [round(rate(t).item(), 12) for t in range(4)]
    [1.0, 0.5, 0.0, 0.5]
    """
    who = "cosine_schedule"
    rate, end = _checked(who, learning_rate), check_range(who, "end", end, 0.0, math.inf)
    return _schedule(_cosine, rate=rate, steps=check_count(who, "steps", steps, 1), end=end)


def _cosine(step: Any, *, rate: float, steps: int, end: float) -> ad.Tensor:
    return _cosine_between(rate, end, _counted(step) / steps)


def cosine_restarts_schedule(
    learning_rate: float, *, steps: int, growth: int = 1, end: float = 0.0
) -> Schedule:
    """Down along half a cosine, again and again (``CosineAnnealingWarmRestarts``) [1]_.

    Parameters
    ----------
    learning_rate : float
        The rate at each restart.
    steps : int
        Length of the first period.
    growth : int, default 1
        How many times longer each period is than the one before.
    end : float, default 0.0
        What a period goes down to.

    Returns
    -------
    function of the step

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts",
       ICLR, 2017. arXiv:1608.03983.

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.cosine_restarts_schedule(1.0, steps=2, growth=2)
    >>> [round(rate(t).item(), 3) for t in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    who = "cosine_restarts_schedule"
    rate, end = _checked(who, learning_rate), check_range(who, "end", end, 0.0, math.inf)
    steps, growth = check_count(who, "steps", steps, 1), check_count(who, "growth", growth, 1)
    return _schedule(_cosine_restarts, rate=rate, steps=steps, growth=growth, end=end)


def _cosine_restarts(step: Any, *, rate: float, steps: int, growth: int, end: float) -> ad.Tensor:
    t = _counted(step)
    if growth == 1:
        return _cosine_between(rate, end, t % steps / steps)

    def begin(period: ad.Tensor) -> ad.Tensor:
        begun: ad.Tensor = steps * (growth**period - 1.0) / (growth - 1.0)
        return begun

    # A logarithm may be off by one where a period begins; the begins themselves are whole numbers.
    period = ad.floor(ad.log1p(t / steps * (growth - 1)) / math.log(growth))
    period = ad.where(begin(period) > t, period - 1.0, period)
    period = ad.where(begin(period + 1.0) <= t, period + 1.0, period)
    part: ad.Tensor = (t - begin(period)) / (steps * float(growth) ** period)
    return _cosine_between(rate, end, part)


def one_cycle_schedule(
    learning_rate: float,
    *,
    steps: int,
    warmup: float = 0.3,
    anneal: str = "cosine",
    start_div: float = 25.0,
    end_div: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Up, and then down to nearly nothing (``OneCycleLR``) [1]_.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    steps : int
        Steps of the whole cycle, at least 2; after it the rate stays as it is at the last.
        (PyTorch raises there.)
    warmup : float, default 0.3
        Which part of the cycle goes up, in (0, 1).
    anneal : {"cosine", "linear"}, default "cosine"
        Along what.
    start_div : float, default 25.0
        The first rate is the highest divided by this.
    end_div : float, default 1e4
        The last rate is the first divided by this.
    three_phase : bool, default False
        Down to the first rate as fast as up, and then to the last.

    Returns
    -------
    function of the step

    References
    ----------
    .. [1] L. N. Smith and N. Topin, "Super-convergence: Very fast training of neural networks using
       large learning rates", 2017. arXiv:1708.07120.

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.one_cycle_schedule(1.0, steps=5, warmup=0.6, start_div=2.0, end_div=5.0)
    >>> [round(rate(t).item(), 3) for t in range(5)]
    [0.5, 0.75, 1.0, 0.55, 0.1]
    """
    who = "one_cycle_schedule"
    rate, steps = _checked(who, learning_rate), check_count(who, "steps", steps, 2)
    warmup = check_range(who, "warmup", warmup, 0.0, 1.0, above=True)
    check_choice(who, "anneal", anneal, ("cosine", "linear"))
    first = rate / check_range(who, "start_div", start_div, 0.0, math.inf, above=True)
    last = first / check_range(who, "end_div", end_div, 0.0, math.inf, above=True)
    up = warmup * steps - 1.0
    phases = [(up, first, rate)]
    if check_flag(who, "three_phase", three_phase):
        phases.append((2.0 * warmup * steps - 2.0, rate, first))
    phases.append((steps - 1.0, phases[-1][2], last))
    ends = [0.0, *(end for end, _, _ in phases)]
    if any(a >= b for a, b in pairwise(ends)):
        raise ValueError(
            f"[{who}] a warmup of {warmup:g} of {steps} steps leaves a phase without a step: give "
            "more steps, or another warmup"
        )
    return _schedule(_one_cycle, phases=tuple(phases), anneal=anneal)


def _one_cycle(
    step: Any, *, phases: tuple[tuple[float, float, float], ...], anneal: str
) -> ad.Tensor:
    t = ad.minimum(_counted(step), phases[-1][0])
    begins = [0.0, *(end for end, _, _ in phases)]
    rate = ad.zeros_like(t)
    for begin, (end, high, low) in reversed(list(zip(begins, phases, strict=False))):
        part = (t - begin) / (end - begin)
        here = (low - high) * part + high
        if anneal == "cosine":
            here = _cosine_between(high, low, part)
        rate = here if end == phases[-1][0] else ad.where(t <= end, here, rate)
    return rate


# ---- One after another ---------------------------------------------------------------------------


def sequence_schedule(
    schedules: Sequence[Callable[[Any], Any]], milestones: Sequence[int]
) -> Schedule:
    """Schedules one after another, each beginning anew at its milestone (``SequentialLR``).

    Parameters
    ----------
    schedules : list of schedules
        Any functions of the step.
    milestones : list of int
        Where each but the first begins; it is given the number of steps since then.

    Returns
    -------
    function of the step

    Raises
    ------
    TypeError, ValueError
        If a setting is of another type, or out of range.

    Examples
    --------
    >>> import adjoint as ad
    >>> rate = ad.optim.sequence_schedule(
    ...     [
    ...         ad.optim.linear_schedule(1.0, start=0.5, steps=2),
    ...         ad.optim.cosine_schedule(1.0, steps=2),
    ...         ad.optim.constant_schedule(0.0),
    ...     ],
    ...     milestones=[2, 4],
    ... )
    >>> [round(rate(t).item(), 12) for t in range(6)]
    [0.5, 0.75, 1.0, 0.5, 0.0, 0.0]
    """
    who = "sequence_schedule"
    parts = check_entries(who, "schedules", schedules)
    for part in parts:
        check_callable(who, schedule=part)
    marks = _milestones(who, milestones)
    if not parts or len(marks) != len(parts) - 1:
        raise ValueError(
            f"[{who}] {len(parts)} schedules need {max(len(parts) - 1, 0)} milestones, one before "
            f"each but the first; got {len(marks)}"
        )
    return _schedule(_sequence, schedules=parts, milestones=marks)


def _sequence(
    step: Any, *, schedules: tuple[Callable[[Any], Any], ...], milestones: tuple[int, ...]
) -> ad.Tensor:
    t = step if isinstance(step, ad.Tensor) else ad.asarray(check_int("schedule", "the step", step))
    rate = _value(schedules[0](t))
    for mark, schedule in zip(milestones, schedules[1:], strict=True):
        # The later ones are asked before their time too: at no step below 0.
        rate = ad.where(t >= mark, _value(schedule(ad.maximum(t - mark, 0))), rate)
    return rate


def _value(rate: Any) -> ad.Tensor:
    if isinstance(rate, ad.Tensor):
        return ad.astype(rate, ad.float64)
    return ad.tensor(check_number("schedule", "what it returns", rate), dtype=ad.float64)
