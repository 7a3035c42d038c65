"""How `minimize` drives the optimizers of first order and the derivative-free searches."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import adjoint as ad
from adjoint.optim.base import Optimizer
from adjoint.optim.bounds import projected_size
from adjoint.optim.evaluation import Workers
from adjoint.optim.functions import value_of
from adjoint.optim.objective import End, Objective, Stop
from adjoint.optim.result import Iteration
from adjoint.optim.transform import apply_updates
from adjoint.transforms.custom import differentiated

__all__ = ["FirstOrderMethod", "first_order", "run_first_order", "run_search"]


_PATIENCE = 2  # of a search that begins again and again, where a tolerance is given


class FirstOrderMethod:
    """An optimizer of this package under the name of a method.

    Examples
    --------
    >>> from adjoint.optim.drivers import FirstOrderMethod
    >>> from adjoint.optim import SGD
    >>> FirstOrderMethod(SGD).options()[:2]
    ['learning_rate', 'momentum']
    """

    def __init__(self, make: Callable[..., Optimizer]) -> None:
        self.make = make

    def options(self) -> list[str]:
        """Return the names of its options."""
        parameters = inspect.signature(self.make).parameters
        return [*[name for name in parameters if name != "params"], "gtol"]


@functools.cache
def first_order() -> dict[str, FirstOrderMethod]:
    """Return the optimizers of the package by their names in lower case.

    Examples
    --------
    >>> from adjoint.optim.drivers import first_order
    >>> first_order()["adam"].make
    <class 'adjoint.optim.adam.Adam'>
    """
    import adjoint.optim as package

    found = {}
    for name in package.__all__:
        thing = getattr(package, name, None)
        if isinstance(thing, type) and issubclass(thing, Optimizer) and thing is not Optimizer:
            found[name.lower()] = FirstOrderMethod(thing)
    return found


def run_first_order(
    objective: Objective, method: FirstOrderMethod, options: dict[str, Any], gtol: float
) -> None:
    """Step until the gradient is small; within bounds each step is projected.

    Examples
    --------
    >>> import adjoint as ad
    >>> options = {"learning_rate": 0.1, "momentum": 0.5}
    >>> f = lambda x: (x[0] - 2.0) ** 2 + x[1] ** 2
    >>> result = ad.optim.minimize(f, [0.0, 1.0], "sgd", bounds=(0.0, 1.0), options=options)
    >>> [round(v, 4) for v in result.x.tolist()]
    [1.0, 0.0]
    """
    gtol = options.pop("gtol", gtol)
    if options.pop("maximize", False):
        raise ValueError("[minimize] maximize is no option here: minimize the negative function")
    optimizer = method.make(**options)
    x = ad.asarray(objective.best_x)
    state = optimizer.init(x)
    box = objective.box()
    low, high = map(ad.asarray, box)
    clipped = objective.bounds is not None

    def move(x: ad.Tensor, g: ad.Tensor, state: Any) -> tuple[ad.Tensor, Any]:
        updates, state = optimizer.update(g, state, x)
        x = apply_updates(x, updates)
        return (ad.clip(x, low, high) if clipped else x), state

    if objective.compiles:
        move = ad.compile(move)
    f, g = objective.value_and_grad(x.numpy())
    objective.check_start(f, g, gtol, projected_size(x.numpy(), g, *box))
    while True:
        x, state = move(x, ad.asarray(g), state)
        point = x.numpy()
        f, g = objective.value_and_grad(point)
        size = projected_size(point, g, *box)
        objective.step(point, f, size, g)
        if size <= gtol:
            met = f"the gradient is at most gtol={gtol:g}"
            objective.converged(met, point, f, g, gtol=gtol)
        if not np.isfinite(point).all() or (math.isnan(f) and math.isnan(size)):
            raise Stop("the steps have left the finite numbers: try a lower learning rate")


def run_search(
    objective: Objective,
    search_class: Any,
    options: dict[str, Any],
    seed: int | None,
    workers: Workers,
    tol: float | None,
    target: float | None = None,
) -> None:
    """Ask, evaluate and tell until the search, the target or a limit says stop.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda x: ad.sum((x - 1.0) ** 2)
    >>> result = ad.optim.minimize(f, [3.0, 3.0], "cma-es", seed=1, batch=True)
    >>> [round(v, 4) for v in result.x.tolist()]
    [1.0, 1.0]
    """
    flat, limits = objective.flat, objective.limits
    if tol is not None:
        stops = {"tol": tol, "patience": _PATIENCE}
        options = {n: v for n, v in stops.items() if n in search_class.options()} | options
    bounds = (
        None if objective.bounds is None else tuple(np.asarray(b, float) for b in objective.bounds)
    )
    search = search_class(objective.best_x.astype(float), bounds=bounds, seed=seed, **options)
    function = _Pointwise(objective.f, flat, objective.args, objective.has_aux)
    function.captured = objective.captured if workers.batch is None else None
    if workers.batch is not None:
        with contextlib.suppress(Exception):  # then it is raised where the point is evaluated
            objective._value(objective.best_x)
    while True:
        asked = search.ask()
        room = limits.maxfun - objective.nfev
        # The points that fit are evaluated, so that the best among them is not lost.
        xs = asked[: int(min(max(room, 0), len(asked)))]
        values = np.empty(0)
        if len(xs):
            seen = functools.partial(_see, objective, xs)
            values = workers.watched(function, xs, seen=seen, enough=objective.out_of_time)
        met = target is not None and objective.best_f <= target
        if not met:
            objective.check_time()
            if len(xs) < len(asked):
                objective.out_of_evaluations()
            search.tell(xs, values)
        objective.nit += 1
        row = Iteration(objective.nit, objective.nfev, objective.best_f, None, limits.seconds())
        objective.history.append(row)
        if met:
            raise Stop(f"the value is at most target={target:g}", True, End.TARGET)
        objective.tell(objective.best_x, objective.best_f)
        if search.stop is not None:
            objective.converged(str(search.stop), objective.best_x, objective.best_f)


def _see(objective: Objective, xs: Any, i: int, value: float) -> None:
    """Count the value of a point, and keep the best."""
    objective.nfev += 1
    objective.see(xs[i].astype(objective.flat.np_dtype), value)


class _Pointwise:
    """The objective as a function of one flat vector; it can be sent to other processes."""

    def __init__(
        self, f: Callable[..., Any], flat: Any, args: tuple[Any, ...], has_aux: bool
    ) -> None:
        self.f, self.flat, self.args, self.has_aux = f, flat, args, has_aux
        # Where to remember a value that depends on what is differentiated elsewhere.
        self.captured: list[ad.Tensor] | None = None

    def __call__(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x = ad.asarray(x)
        if x.dtype != self.flat.dtype:
            x = ad.astype(x, self.flat.dtype)
        out = value_of("minimize", self.f(self.flat.unflatten(x), *self.args), self.has_aux)
        if self.captured == [] and isinstance(out, ad.Tensor) and differentiated([out]):
            self.captured.append(out)
        return out
