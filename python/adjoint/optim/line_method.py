"""Methods that follow directions of descent: one loop, a direction, and a line search.

An iteration is a pure function of tensors, line search included. Where the objective compiles, many
iterations are one program, with no Python between them; the chunks grow until they take
milliseconds, so that limits of time and a progress bar still work. Where it does not, the same
function runs operation by operation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import adjoint as ad
from adjoint.optim.descent import Descent, dot
from adjoint.optim.line_search import Line, Wolfe, advance, begin
from adjoint.optim.objective import Objective, Stop
from adjoint.optim.result import Iteration

__all__ = ["follow"]

ROWS = 64  # iterations in one program, at most
SECONDS = 0.01  # that one should take, at most

RUNNING, GRADIENT, VALUE, STUCK, BUDGET = range(5)


class _State(NamedTuple):
    x: ad.Tensor
    f: ad.Tensor
    g: ad.Tensor
    d: ad.Tensor
    memory: Any
    promise: ad.Tensor  # of the last step: its length times the slope
    low: ad.Tensor  # where the last line search stood when it gave up, and the value there
    f_low: ad.Tensor
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
    f_low: Any
    value: ad.Tensor
    grad: ad.Tensor
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
        return (trial[0][-1] == 0) & (trial[3] < rules.maxfun)

    def try_step(trial: tuple[Any, ...]) -> tuple[Any, ...]:
        line = Line(*fixed, *trial[0])
        value, grad = f(x + line.step * d)
        line = advance(line, value, dot(grad, d), wolfe, _TENSORS)
        return (*line[2:],), value, grad, trial[3] + 1

    moving, value, grad, nfev = ad.while_loop(
        searching, try_step, ((*line[2:],), state.f, g, state.nfev)
    )
    line = Line(*fixed, *moving)
    found = _Found(line.good, line.step, slope, line.low, line.f_low, value, grad, nfev)
    return _finish(state, found, descent, rules)


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
    status = ad.where(
        ~good,
        ad.where(found.good < 0, STUCK, BUDGET),
        ad.where(
            _size(grad) <= rules.gtol,
            GRADIENT,
            ad.where(state.f - value <= rules.ftol * largest, VALUE, RUNNING),
        ),
    )
    return _State(
        ad.where(good, point, x),
        ad.where(good, value, state.f),
        ad.where(good, grad, g),
        direction,
        memory,
        found.step * found.slope,
        found.low,
        found.f_low,
        ~falls,
        found.nfev,
        status,
    )


_finishing: dict[str, Callable[[_State, _Found, _Rules], _State]] = {}


def _compiled_finish(descent: Descent) -> Callable[[_State, _Found, _Rules], _State]:
    """Return the second half of an iteration as a program, for objectives that are none."""
    name = repr(descent)
    if name not in _finishing:
        _finishing[name] = ad.compile(
            lambda state, found, rules: _finish(state, found, descent, rules)
        )
    return _finishing[name]


def _iterate_in_python(
    state: _State, f: ValueAndGrad, descent: Descent, wolfe: Wolfe, rules: _Rules
) -> _State:
    """Make the same iteration with the line search on Python's numbers."""
    x, d, dtype = state.x, state.d, state.x.dtype
    slope = dot(state.g, d)
    line = begin(state.f.item(), slope.item(), _first_step(state, slope, descent).item())
    value, grad, nfev = state.f, state.g, state.nfev.item()
    while line.good == 0 and nfev < rules.maxfun:
        value, grad = f(x + line.step * d)
        nfev += 1
        line = advance(line, value.item(), dot(grad, d).item(), wolfe)
    numbers = (ad.asarray(v, dtype=dtype) for v in (line.step, line.low, line.f_low))
    step, low, f_low = numbers
    counts = (ad.asarray(v, dtype=ad.int64) for v in (line.good, nfev))
    good, count = counts
    found = _Found(good, step, slope, low, f_low, value, grad, count)
    return _compiled_finish(descent)(state, found, rules)


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


def _begin(x: ad.Tensor, f: ad.Tensor, g: ad.Tensor, descent: Descent, nfev: int) -> _State:
    zero = ad.zeros((), dtype=x.dtype)
    yes = ad.ones((), dtype=ad.bool)
    running, count = (ad.asarray(v, dtype=ad.int64) for v in (RUNNING, nfev))
    memory = descent.init(x, g)
    return _State(x, f, g, -g, memory, zero, zero, f, yes, count, running)


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
        self.pure = objective.gradient == "auto"
        self.name = f"chunk {descent!r} {wolfe!r}"
        # What a call before has found out of its pace is not relied on where time matters.
        program = self._program()
        timed = objective.limits.maxtime < math.inf or objective.limits.progress.shown
        self.rows = 1 if program is None or timed else program.rows

    def run(self) -> None:
        objective = self.objective
        f, g = objective.value_and_grad(objective.best_x)
        objective.check_start(f, g, self.gtol)
        dtype = objective.flat.dtype
        x, gradient = ad.asarray(objective.best_x), ad.asarray(g)
        state = _begin(x, ad.asarray(f, dtype=dtype), gradient, self.descent, objective.nfev)
        steepest = True
        while True:
            state = self._some(state)
            status = state.status.item()
            if status == RUNNING:
                steepest = False
                continue
            self._end(state, status)
            # The search has found nothing: go to the best it knows, or try against the gradient.
            if state.low.item() > 0:
                x = state.x + state.low * state.d
                f, g = objective.value_and_grad(np.array(x.numpy()))
                size = float(np.max(np.abs(g)))
                objective.step(x, f, size, g)
                if size <= self.gtol:
                    self._end(state, GRADIENT)
                if not f < state.f.item():
                    self._give_up(state)
            elif steepest or self._hidden(state):
                self._give_up(state)
            else:
                x, f, g = state.x, state.f.item(), state.g.numpy()
            state = _begin(
                x, ad.asarray(f, dtype=dtype), ad.asarray(g), self.descent, objective.nfev
            )
            steepest = True

    def _hidden(self, state: _State) -> bool:
        """Whether rounding hides what the last search could still bring."""
        rounding = 10 * float(np.finfo(self.objective.flat.np_dtype).eps)
        return bool(abs(state.promise.item()) <= rounding * abs(state.f.item()))

    def _give_up(self, state: _State) -> None:
        self.objective.give_up(_size(state.g).item(), self._hidden(state))

    def _some(self, state: _State) -> _State:
        """Make some iterations, and tell of them."""
        objective, limits = self.objective, self.objective.limits
        program = self._program()
        rows = 1 if limits.callback is not None else self.rows
        rows = int(min(rows, limits.maxiter - objective.nit))
        maxfun = int(min(limits.maxfun, 2**62))
        rules = _Rules(self.gtol, self.ftol, maxfun, rows)
        begun = time.perf_counter()
        state, made, told = self._call(program, state, rules)
        passed = time.perf_counter() - begun
        if program is not None and rows == self.rows and limits.callback is None:
            if passed < SECONDS / 2:
                self.rows = program.rows = min(2 * rows, ROWS)
            elif passed > 2 * SECONDS:
                self.rows = program.rows = max(1, rows // 2)
        self._note(state, made, told)
        return state

    def _program(self) -> _Program | None:
        """Return the program of some iterations, None where the objective does not compile."""
        objective = self.objective
        if not (objective.compiles and self.pure):
            return None
        if self.name not in objective.functions:
            both = objective.functions["value_and_grad"]
            objective.functions[self.name] = _Program(_chunk(both, self.descent, self.wolfe))
        program = objective.functions[self.name]
        assert isinstance(program, _Program)
        return program

    def _call(self, program: _Program | None, state: _State, rules: _Rules) -> Any:
        if program is not None:
            try:
                state, made, told = program(state, self.objective.args, rules)
                return state, made.item(), told.tolist()
            except (KeyboardInterrupt, MemoryError):
                raise
            except Exception:
                self.objective.compiles = False
        state = _iterate_in_python(state, self._evaluate, self.descent, self.wolfe, rules)
        return state, 1, [_row(state).tolist()]

    def _evaluate(self, x: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        if self.pure:
            value, grad = self.objective.functions["value_and_grad"](x, self.objective.args)
            return value, grad
        f, g = self.objective.value_and_grad(x.numpy())
        return ad.asarray(f, dtype=x.dtype), ad.asarray(g)

    def _note(self, state: _State, made: int, told: list[Any]) -> None:
        objective = self.objective
        objective.ngev += state.nfev.item() - objective.nfev
        objective.nfev = state.nfev.item()
        objective._seen(state.x.numpy(), state.f.item(), state.g.numpy())
        if state.status.item() in (STUCK, BUDGET):
            made -= 1
        seconds = objective.limits.seconds()
        for f, norm, nfev in told[:made]:
            objective.nit += 1
            objective.history.append(Iteration(objective.nit, int(nfev), f, norm, seconds))
        if made:
            objective.tell(state.x, state.f.item(), state.g)

    def _end(self, state: _State, status: int) -> None:
        if status == GRADIENT:
            raise Stop(f"the gradient is at most gtol={self.gtol:g}", True)
        if status == VALUE:
            raise Stop(f"the value changed by at most ftol={self.ftol:g} of its size", True)
        if status == BUDGET:
            low, f = state.low.item(), state.f_low.item()
            if low > 0 and f < self.objective.best_f:
                self.objective._seen((state.x + low * state.d).numpy(), f)
            raise Stop(f"maxfun={self.objective.limits.maxfun} evaluations are used up")
