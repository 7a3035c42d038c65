"""Methods that follow directions of descent: one loop, a direction, and a line search.

An iteration is a pure function of tensors, line search included. Where the objective compiles, many
iterations are one program, with no Python between them; the chunks grow until they take
milliseconds, so that limits of time and a progress bar still work. Where it does not, the same
function runs operation by operation.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

import adjoint as ad
from adjoint.optim.descent import Descent, dot
from adjoint.optim.line_search import MOST_TRIALS, Line, Wolfe, advance, begin
from adjoint.optim.objective import Objective
from adjoint.optim.result import Iteration

__all__ = ["follow"]

ROWS = 64  # iterations in one program, at most
SECONDS = 0.01  # that one should take, at most
SHARE_OF_TIME = 0.01  # of what there is, that a line search without a look at the clock may take

RUNNING, GRADIENT, VALUE, HIDDEN, STUCK, BUDGET = range(6)


class _Lowest(NamedTuple):
    """The point with the lowest finite value of all that were tried."""

    f: ad.Tensor
    x: ad.Tensor
    g: ad.Tensor


class _State(NamedTuple):
    x: ad.Tensor
    f: ad.Tensor
    g: ad.Tensor
    d: ad.Tensor
    memory: Any
    lowest: _Lowest
    promise: ad.Tensor  # of the last step: its length times the slope
    low: ad.Tensor  # the best step along `d` where the last line search gave up
    first: ad.Tensor  # the first step is to be tried with the length of the gradient in mind
    nfev: ad.Tensor
    status: ad.Tensor


class _Rules(NamedTuple):
    gtol: float
    ftol: float
    maxfun: int
    rows: int


def _size(g: ad.Tensor) -> ad.Tensor:
    return ad.max(ad.abs(g))


class _Namespace:
    """What the line search needs, on tensors."""

    where = staticmethod(ad.where)
    sqrt = staticmethod(ad.sqrt)
    abs = staticmethod(ad.abs)
    isfinite = staticmethod(ad.isfinite)
    minimum = staticmethod(ad.minimum)
    maximum = staticmethod(ad.maximum)

    @staticmethod
    def divide(a: Any, b: Any) -> Any:
        return a / b


_TENSORS = _Namespace()

ValueAndGrad = Callable[[ad.Tensor], tuple[ad.Tensor, ad.Tensor]]


class _Found(NamedTuple):
    """Where a line search has ended: what it says of itself, and the last point it has tried."""

    good: Any
    step: Any
    slope: Any
    low: Any
    value: ad.Tensor
    grad: ad.Tensor
    lowest: _Lowest
    nfev: Any


def _iterate(
    state: _State, f: ValueAndGrad, descent: Descent, wolfe: Wolfe, rules: _Rules
) -> _State:
    """Search along the direction, go there, and find the next direction."""
    x, g, d = state.x, state.g, state.d
    slope = dot(g, d)
    infinity = ad.asarray(math.inf, dtype=x.dtype)
    line = begin(state.f, slope, _first_step(state, slope, descent), infinity)
    fixed = (line.f0, line.slope0)  # not carried from trial to trial

    def searching(trial: tuple[Any, ...]) -> Any:
        return (trial[0][-1] == 0) & (trial[-1] < rules.maxfun)

    def try_step(trial: tuple[Any, ...]) -> tuple[Any, ...]:
        line = Line(*fixed, *trial[0])
        point = x + line.step * d
        value, grad = f(point)
        line = advance(line, value, dot(grad, d), wolfe, _TENSORS)
        lowest = _lower(trial[3], _Lowest(value, point, grad))
        return (*line[2:],), value, grad, lowest, trial[-1] + 1

    moving, value, grad, lowest, nfev = ad.while_loop(
        searching, try_step, ((*line[2:],), state.f, g, state.lowest, state.nfev)
    )
    line = Line(*fixed, *moving)
    found = _Found(line.good, line.step, slope, line.low, value, grad, lowest, nfev)
    return _finish(state, found, descent, rules)


def _lower(lowest: _Lowest, trial: _Lowest) -> _Lowest:
    """Return the lower of two points, the first where the other is not finite."""
    better = ad.isfinite(trial.f) & (trial.f < lowest.f)
    return _Lowest(*(ad.where(better, a, b) for a, b in zip(trial, lowest, strict=True)))


def _finish(state: _State, found: _Found, descent: Descent, rules: _Rules) -> _State:
    """Go where the line search has ended, if it is a good point, and find the next direction."""
    x, g, d, value, grad = state.x, state.g, state.d, found.value, found.grad
    good = found.good > 0
    point = x + found.step * d
    direction, memory = descent.update(state.memory, point - x, grad - g, grad, d)
    # A direction that does not lead down, by rounding, is replaced.
    falls = dot(direction, grad) < 0.0
    direction = ad.where(falls, direction, -grad)
    largest = ad.maximum(ad.maximum(ad.abs(state.f), ad.abs(value)), 1.0)
    small = state.f - value <= rules.ftol * largest
    # Without a tolerance, equal values are rounding: then the gradient at least must fall.
    vain = (state.f <= value) & (_size(grad) >= _size(g))
    status = ad.where(
        ~good,
        ad.where(found.good < 0, STUCK, BUDGET),
        ad.where(
            _size(grad) <= rules.gtol,
            GRADIENT,
            ad.where(
                rules.ftol > 0.0,
                ad.where(small, VALUE, RUNNING),
                ad.where(vain, HIDDEN, RUNNING),
            ),
        ),
    )
    return _State(
        ad.where(good, point, x),
        ad.where(good, value, state.f),
        ad.where(good, grad, g),
        ad.where(good, direction, d),
        memory,
        found.lowest,
        found.step * found.slope,
        found.low,
        ~falls,
        found.nfev,
        status,
    )


@functools.lru_cache(maxsize=32)
def _compiled_finish(descent: Descent) -> Callable[[_State, _Found, _Rules], _State]:
    """Return the second half of an iteration as a program, for objectives that are none."""
    return ad.compile(lambda state, found, rules: _finish(state, found, descent, rules))


def _iterate_in_python(
    state: _State, objective: Objective, descent: Descent, wolfe: Wolfe, rules: _Rules
) -> _State:
    """Make the same iteration with the line search on Python's numbers.

    The objective counts, keeps the lowest point, and stops the search wherever a limit is reached.
    """
    x, d, dtype = state.x, state.d, state.x.dtype
    slope = dot(state.g, d)
    line = begin(state.f.item(), slope.item(), _first_step(state, slope, descent).item())
    value, grad = state.f, state.g
    while line.good == 0:
        f, g = objective.value_and_grad((x + line.step * d).numpy())
        value, grad = ad.asarray(f, dtype=dtype), ad.asarray(g)
        line = advance(line, f, dot(grad, d).item(), wolfe)
    step, low = (ad.asarray(v, dtype=dtype) for v in (line.step, line.low))
    good, count = (ad.asarray(v, dtype=ad.int64) for v in (line.good, objective.nfev))
    lowest = _lowest_of(objective, state)
    found = _Found(good, step, slope, low, value, grad, lowest, count)
    return _compiled_finish(descent)(state, found, rules)


def _lowest_of(objective: Objective, state: _State) -> _Lowest:
    """Return the lowest point that the objective knows, as it stands in a state."""
    f, g = objective.best_f, objective.best_g
    return _Lowest(
        ad.asarray(f, dtype=state.x.dtype),
        ad.asarray(objective.best_x),
        state.lowest.g if g is None else ad.asarray(g),
    )


def _first_step(state: _State, slope: ad.Tensor, descent: Descent) -> ad.Tensor:
    length = ad.sqrt(dot(state.d, state.d))
    cautious = ad.minimum(1.0, 1.0 / length)
    if descent.unit_step:
        return ad.where(state.first, cautious, 1.0)
    return ad.where(state.first, cautious, state.promise / slope)


def _chunk(
    f: Callable[..., Any], descent: Descent, wolfe: Wolfe
) -> Callable[[_State, tuple[Any, ...], _Rules], Any]:
    """Return the function that makes some iterations, and a row for each."""

    def chunk(state: _State, args: tuple[Any, ...], rules: _Rules) -> Any:
        places = ad.arange(ROWS)[:, None]

        def more(carry: Any) -> Any:
            return (carry[1] < rules.rows) & (carry[0].status == RUNNING)

        def body(carry: Any) -> Any:
            state, row, told = carry
            state = _iterate(state, lambda x: f(x, args), descent, wolfe, rules)
            return state, row + 1, ad.where(places == row, _row(state), told)

        told = ad.zeros((ROWS, 3), dtype=ad.float64)
        return ad.while_loop(more, body, (state, ad.asarray(0), told))

    return chunk


class _Program:
    """Some iterations, compiled, and how many of them take a few milliseconds."""

    def __init__(self, chunk: Callable[..., Any]) -> None:
        self.rows = 1
        self._compiled = ad.compile(chunk)

    def __call__(self, *args: Any) -> Any:
        return self._compiled(*args)


def _row(state: _State) -> ad.Tensor:
    """Return what the history tells of an iteration."""
    parts = (state.f, _size(state.g), state.nfev)
    return ad.stack([ad.astype(part, ad.float64) for part in parts])


def _begin(x: Any, f: float, g: Any, descent: Descent, nfev: int) -> _State:
    x, g = ad.asarray(x), ad.asarray(g)
    value = ad.asarray(f, dtype=x.dtype)
    zero = ad.zeros((), dtype=x.dtype)
    yes = ad.ones((), dtype=ad.bool)
    running, count = (ad.asarray(v, dtype=ad.int64) for v in (RUNNING, nfev))
    lowest = _Lowest(value, x, g)
    return _State(x, value, g, -g, descent.init(x, g), lowest, zero, zero, yes, count, running)


def follow(
    objective: Objective,
    descent: Descent,
    *,
    gtol: float,
    ftol: float,
    wolfe: Wolfe,
) -> None:
    """Minimize along directions of descent. Ends by `Stop`.

    Parameters
    ----------
    objective : Objective
    descent : Descent
    gtol : float
        Converged where no part of the gradient is larger.
    ftol : float
        Converged also where the value changes by at most this share of its size, or of 1.
    wolfe : Wolfe
        What the line search asks of a step.

    Examples
    --------
    >>> import adjoint as ad
    >>> from adjoint.optim.line_method import follow
    >>> from adjoint.optim.line_search import Wolfe
    >>> from adjoint.optim.objective import Objective, Stop
    >>> from adjoint.optim.arguments import make_limits
    >>> from adjoint.optim.descent import BFGS
    >>> from adjoint.optim.objective import Flat
    >>> limits = make_limits("minimize", 100, None, None, None, False, None)
    >>> bowl = Objective(lambda x: ad.sum((x - 1.0) ** 2), Flat("minimize", [3.0, 4.0]), (), limits)
    >>> try:
    ...     follow(bowl, BFGS(), gtol=1e-6, ftol=0.0, wolfe=Wolfe())
    ... except Stop as stop:
    ...     print(stop.reason)
    the gradient is at most gtol=1e-06
    """
    _Follower(objective, descent, gtol, ftol, wolfe).run()


class _Follower:
    """The loop in Python around the chunks."""

    def __init__(
        self, objective: Objective, descent: Descent, gtol: float, ftol: float, wolfe: Wolfe
    ) -> None:
        self.objective, self.descent, self.wolfe = objective, descent, wolfe
        self.gtol, self.ftol = gtol, ftol
        self.name = f"chunk {descent!r} {wolfe!r}"
        # What a call before has found out of its pace is not relied on where time matters.
        program = self._program()
        self.timed = objective.limits.maxtime < math.inf
        told = self.timed or objective.limits.progress.shown
        self.rows = 1 if program is None or told else program.rows
        self.patient = not self.timed  # whether a line search is short beside the time there is

    def run(self) -> None:
        objective = self.objective
        f, g = objective.value_and_grad(objective.best_x)
        objective.check_start(f, g, self.gtol)
        state = _begin(objective.best_x, f, g, self.descent, objective.nfev)
        steepest = True
        while True:
            state = self._some(state)
            status = state.status.item()
            if status == RUNNING:
                steepest = False
                continue
            self._end(state, status)
            x, f, g = self._after(state, steepest)
            state = _begin(x, f, g, self.descent, objective.nfev)
            steepest = True

    def _after(self, state: _State, steepest: bool) -> tuple[Any, float, Any]:
        """Return where to go on after a search in vain, by the gradient alone; else give up."""
        objective, f = self.objective, state.f.item()
        known = objective.best_g is not None and bool(np.isfinite(objective.best_g).all())
        if known and objective.best_f < f:
            best = objective.best_x, objective.best_f, objective.best_g
        elif state.low.item() > 0:
            x = np.array((state.x + state.low * state.d).numpy())
            best = (x, *objective.value_and_grad(x))
        elif steepest or self._hidden(state):
            self._give_up(state)
        else:
            return state.x, f, state.g
        x, value, g = best
        assert g is not None
        if objective.is_far(x) and not self._hidden(state):
            objective.run_away()  # it falls without end
        size = float(np.max(np.abs(g)))
        objective.step(x, value, size, g)
        if size <= self.gtol:
            self._converged(x, value, g)
        if not value < f:
            self._give_up(state)
        return best

    def _hidden(self, state: _State) -> bool:
        """Whether rounding hides what the last search could still bring."""
        rounding = 10 * float(np.finfo(self.objective.flat.np_dtype).eps)
        return bool(abs(state.promise.item()) <= rounding * abs(state.f.item()))

    def _give_up(self, state: _State) -> NoReturn:
        self.objective.give_up(_size(state.g).item(), self._hidden(state))

    def _converged(self, x: Any, f: float, g: Any) -> NoReturn:
        reason = f"the gradient is at most gtol={self.gtol:g}"
        self.objective.converged(reason, x, f, g, gtol=self.gtol)

    def _some(self, state: _State) -> _State:
        """Make some iterations, and tell of them."""
        objective, limits = self.objective, self.objective.limits
        program = self._program() if self.patient else None
        rows = 1 if limits.callback is not None else self.rows
        rows = int(min(rows, limits.maxiter - objective.nit))
        maxfun = int(min(limits.maxfun, 2**62))
        rules = _Rules(self.gtol, self.ftol, maxfun, rows)
        begun, before = time.perf_counter(), objective.nfev
        state, made, told = self._call(program, state, rules)
        passed = time.perf_counter() - begun
        if program is not None and rows == self.rows and limits.callback is None:
            if passed < SECONDS / 2:
                self.rows = program.rows = min(2 * rows, ROWS)
            elif passed > 2 * SECONDS:
                self.rows = program.rows = max(1, rows // 2)
        if self.timed and not self.patient:
            each = passed / max(1, objective.nfev - before)
            self.patient = each * MOST_TRIALS < SHARE_OF_TIME * limits.maxtime
        self._note(state, made, told)
        return state

    def _program(self) -> _Program | None:
        """Return the program of some iterations, None where the objective does not compile."""
        objective = self.objective
        if not (objective.compiles and objective.automatic):
            return None
        if self.name not in objective.functions:
            both = objective.functions["value_and_grad"]
            objective.functions[self.name] = _Program(_chunk(both, self.descent, self.wolfe))
        program = objective.functions[self.name]
        assert isinstance(program, _Program)
        return program

    def _call(self, program: _Program | None, state: _State, rules: _Rules) -> Any:
        objective = self.objective
        if program is not None:
            objective.functions["watch"].begin()
            try:
                after, made, told = program(state, objective.args, rules)
            except Exception as error:
                objective.run_plainly(self.name, error)
            else:
                objective.count_program(self.name, after.nfev.item())
                lowest = after.lowest
                objective.see(lowest.x.numpy(), lowest.f.item(), lowest.g.numpy())
                return after, made.item(), told.tolist()
        state = _iterate_in_python(state, objective, self.descent, self.wolfe, rules)
        return state, 1, [_row(state).tolist()]

    def _note(self, state: _State, made: int, told: list[Any]) -> None:
        objective = self.objective
        if state.status.item() in (STUCK, BUDGET):
            made -= 1
        seconds = objective.limits.seconds()
        for f, norm, nfev in told[:made]:
            objective.nit += 1
            objective.history.append(Iteration(objective.nit, int(nfev), f, norm, seconds))
        if made:
            objective.tell(state.x, state.f.item(), state.g)

    def _end(self, state: _State, status: int) -> None:
        x, f, g = state.x.numpy(), state.f.item(), state.g.numpy()
        if status == GRADIENT:
            self._converged(x, f, g)
        if status == VALUE:
            reason = f"the value changed by at most ftol={self.ftol:g} of its size"
            self.objective.converged(reason, x, f, g, ftol=self.ftol)
        if status == HIDDEN:
            self.objective.give_up(_size(state.g).item(), hidden=True)
        if status == BUDGET:
            self.objective.out_of_evaluations()
