"""The values of a function at many points: one by one, as a batch, or by workers.

Results come in the order of the points, whoever has finished first, so that what is made of them
does not depend on workers. A point that makes the function raise, or its process die, is named; the
other values are not lost.
"""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

import adjoint as ad
from adjoint._arguments import check_callable, check_choice, check_count
from adjoint.optim.search.base import Array
from adjoint.optim.words import warn

__all__ = ["EvaluationError", "EvaluationWarning", "Workers", "evaluate"]


class EvaluationError(RuntimeError):
    """A function could not be evaluated at a point.

    Attributes
    ----------
    point : object
        The first such point.
    index : int
        Its place among the points.
    values : ndarray of float64
        What has been evaluated all the same; nan elsewhere.
    result : Result, optional
        Of `minimize`: how far it had come, with the best point of all that were evaluated.

    Examples
    --------
    >>> import adjoint as ad
    >>> try:
    ...     ad.optim.evaluate(lambda x: 1 / x if x else None, [1.0, 0.0])
    ... except ad.optim.EvaluationError as error:
    ...     print(error.index, error.values)
    1 [ 1. nan]
    """

    result: Any = None

    def __init__(self, message: str, point: Any = None, index: int = -1, values: Any = None):
        super().__init__(message)
        self.point, self.index, self.values = point, index, values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.point, self.index, self.values)


class BatchError(EvaluationError):
    """A function fails on points together, and on none of them alone.

    Examples
    --------
    >>> from adjoint.optim.evaluation import BatchError, EvaluationError
    >>> issubclass(BatchError, EvaluationError)
    True
    """


class EvaluationWarning(RuntimeWarning):
    """A function could not be evaluated at a point, and its value there counts as nan.

    Examples
    --------
    >>> import adjoint as ad
    >>> issubclass(ad.optim.EvaluationWarning, RuntimeWarning)
    True
    """


def evaluate(
    f: Callable[..., Any],
    xs: Any,
    executor: Any = None,
    batch: bool | int | None = None,
    *,
    on_error: str = "raise",
) -> Array:
    """Return the values of a function at many points, in their order.

    Parameters
    ----------
    f : callable
        From a point to one real number: a float, or a tensor or array of one element.
    xs : array_like or sequence
        The points, along axis 0 of a tensor or NumPy array, or one by one.
    executor : optional
        Who evaluates: anything with the `submit` of `concurrent.futures` (a pool of processes or
        threads, that of `mpi4py`, a client of Dask), or with the `map` of a `multiprocessing` pool,
        or a function like `map`. To processes `f` and points are sent by pickling. A `Workers` has
        options of its own.
    batch : bool or int, optional
        True, or how many points at a time: `f` is called by `ad.vmap` on them, as an array.
    on_error : {"raise", "nan"}
        What happens where `f` raises, does not return a number, or the process dies in it: "raise"
        an EvaluationError that names the point, once the other points are evaluated that are under
        way; or a warning that does, and nan for its value.

    Returns
    -------
    ndarray of float64, shape (m,)

    Raises
    ------
    EvaluationError
        See `on_error`.

    Examples
    --------
    >>> import adjoint as ad
    >>> import numpy as np
    >>> ad.optim.evaluate(lambda x: ad.sum(x**2), np.array([[1.0, 2.0], [3.0, 0.0]]))
    array([5., 9.])
    >>> ad.optim.evaluate(lambda x: ad.sum(x**2), np.array([[1.0, 2.0], [3.0, 0.0]]), batch=True)
    array([5., 9.])
    """
    workers = as_workers(executor, batch, on_error)
    try:
        return workers(f, xs)
    finally:
        if workers is not executor:
            workers.close()


def as_workers(executor: Any, batch: Any = None, on_error: str = "raise") -> Workers:
    """Return the `Workers` that an executor is, or is used by: whoever made one closes it.

    Examples
    --------
    >>> from adjoint.optim.evaluation import as_workers
    >>> as_workers(map)([1.0, -2.0].__getitem__, [1, 0])
    array([-2.,  1.])
    """
    if not isinstance(executor, Workers):
        return Workers(executor, batch=batch, on_error=on_error)
    if batch is not None:
        raise ValueError("[evaluate] batch is given beside a Workers: give it to that one")
    return executor


def _checked(outcome: Any) -> _Outcome:
    """Return what an executor has given back, if that is what the function returned."""
    if not isinstance(outcome, _Outcome):
        raise TypeError(
            "[evaluate] executor must give back what the function returns for each point, not a "
            f"{type(outcome).__name__}"
        )
    return outcome


class Workers:
    """An executor and how it is used, to be given to `evaluate` or `minimize` as the executor.

    Where a process of a `concurrent.futures.ProcessPoolExecutor` dies, the pool is of no use any
    more. The points that it was evaluating are then evaluated again, each in a process of its own:
    the one that kills it once more is named. With ``on_error="nan"`` a pool of the same kind takes
    the place of the first from there on.

    Parameters
    ----------
    executor, batch, on_error
        See `evaluate`. With a batch the executor is given so many points at a time.
    max_pending : int, optional
        How many tasks are handed to the executor at a time; by default twice its workers.

    Examples
    --------
    >>> import adjoint as ad
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     workers = ad.optim.Workers(pool, on_error="nan")
    ...     ad.optim.evaluate(abs, [-1.0, 2.0, -3.0], workers)
    array([1., 2., 3.])
    """

    def __init__(
        self,
        executor: Any = None,
        *,
        batch: bool | int | None = None,
        on_error: str = "raise",
        max_pending: int | None = None,
    ) -> None:
        check_choice("evaluate", "on_error", on_error, ("raise", "nan"))
        if isinstance(executor, Workers):
            raise TypeError("[evaluate] executor is a Workers already")
        if not (executor is None or callable(executor) or hasattr(executor, "map")):
            if not hasattr(executor, "submit"):
                raise TypeError(
                    "[evaluate] executor must have submit or map, or be a function like map, not "
                    f"a {type(executor).__name__}"
                )
        self._executor = executor
        self.batch = _batch_size(batch)
        self._on_error = on_error
        if max_pending is None:
            known = getattr(executor, "_max_workers", None)
            max_pending = 2 * known if isinstance(known, int) else 64
        self._pending = check_count("evaluate", "max_pending", max_pending, 1)
        self._own: ProcessPoolExecutor | None = None  # in the place of one that broke

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Shut down the pool that took the place of one that broke; the first is the caller's."""
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)
            self._own = None

    def __call__(self, f: Callable[..., Any], xs: Any) -> Array:
        """Return the values of `f` at the points; see `evaluate`."""
        return self.watched(f, xs)

    def watched(
        self,
        f: Callable[..., Any],
        xs: Any,
        *,
        seen: Callable[[int, float], None] | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> Array:
        """Return the values at the points, and tell of them meanwhile.

        Parameters
        ----------
        f, xs
            See `evaluate`.
        seen : callable, optional
            ``seen(index, value)`` is called with each value as soon as it is known here.
        enough : callable, optional
            Asked before each further task; where it is true no more is begun, and the rest is nan.

        Examples
        --------
        >>> import adjoint as ad
        >>> known = {}
        >>> workers, enough = ad.optim.Workers(), lambda: len(known) == 2
        >>> workers.watched(abs, [-1.0, 2.0, -3.0], seen=known.setdefault, enough=enough)
        array([ 1.,  2., nan])
        >>> known
        {0: 1.0, 1: 2.0}
        """
        check_callable("evaluate", f=f)
        points: Any = xs if hasattr(type(xs), "shape") else list(xs)
        count = len(points)
        size = 1 if self.batch is None else min(self.batch, max(count, 1))
        tasks = [range(i, min(i + size, count)) for i in range(0, count, size)]
        call = _Single(f) if self.batch is None else _Together(f)
        given = [points[t[0]] if self.batch is None else _rows(points, t) for t in tasks]
        values = np.full(count, np.nan)
        failed: list[tuple[int, BaseException]] = []

        def note(i: int, outcome: _Outcome) -> None:
            task = tasks[i]
            if outcome.error is None:
                values[task.start : task.stop] = outcome.value
                if seen is not None:
                    for place in task:
                        seen(place, float(values[place]))

        watch = _Watch(note, enough or _never)
        for task, outcome in zip(tasks, self._run(call, given, watch), strict=False):
            if outcome is None or outcome.error is None:  # not begun, or noted
                continue
            if self.batch is None:
                failed.append((task[0], outcome.error))
            else:
                failed += self._one_by_one(f, points, task, values, outcome.error, seen)
        for i, error in failed:
            self._report(points[i], i, error, values)
            if seen is not None:
                seen(i, math.nan)
        return values

    def _one_by_one(
        self,
        f: Callable[..., Any],
        points: Any,
        task: range,
        values: Array,
        error: BaseException,
        seen: Callable[[int, float], None] | None,
    ) -> list[tuple[int, BaseException]]:
        """Evaluate the points of a batch that failed; return those that fail themselves."""

        def note(place: int, outcome: _Outcome) -> None:
            if outcome.error is None:
                values[task[place]] = outcome.value
                if seen is not None:
                    seen(task[place], float(outcome.value))

        outcomes = list(self._run(_Single(f), [points[i] for i in task], _Watch(note, _never)))
        failed = []
        for i, outcome in zip(task, outcomes, strict=False):
            if outcome is not None and outcome.error is not None:
                failed.append((i, outcome.error))
        if not failed:
            raise BatchError(
                "[evaluate] the function fails on a batch and not on its points alone: write it so "
                f"that ad.vmap takes it, or leave out batch. {_told(error)}",
                points[task[0]],
                task[0],
                values,
            ) from error
        return failed

    def _report(self, point: Any, index: int, error: BaseException, values: Array) -> None:
        message = f"[evaluate] no value at point {index}, {_shown(point)}: {_told(error)}"
        if self._on_error == "raise":
            raise EvaluationError(message, point, index, values) from error
        warn(message, EvaluationWarning)

    # ---- Running ---------------------------------------------------------------------------------

    def _run(
        self, call: Callable[[Any], Any], given: Sequence[Any], watch: _Watch
    ) -> list[_Outcome | None]:
        executor = self._own or self._executor
        guarded = _Guarded(call)
        if executor is None:
            outcomes: list[_Outcome | None] = [None] * len(given)
            for i, x in enumerate(given):
                if i and watch.enough():
                    break
                outcomes[i] = outcome = guarded(x)
                watch.note(i, outcome)
                if outcome.error is not None and self._on_error == "raise":
                    break
            return outcomes
        if hasattr(executor, "submit"):
            return self._submit(executor, guarded, given, watch)
        mapped = list((executor if callable(executor) else executor.map)(guarded, given))
        if len(mapped) != len(given):
            raise TypeError(
                f"[evaluate] executor must map a function over the points: it gave {len(mapped)} "
                f"results for {len(given)}"
            )
        outcomes = [_checked(outcome) for outcome in mapped]
        for i, outcome in enumerate(mapped):
            watch.note(i, outcome)
        return outcomes

    def _submit(
        self, executor: Any, call: _Guarded, given: Sequence[Any], watch: _Watch
    ) -> list[_Outcome | None]:
        """Hand tasks to an executor, not many more than it has workers, and collect in order."""
        slots = threading.Semaphore(self._pending)
        stopped = threading.Event()
        futures: list[Any] = []

        def done(future: Any) -> None:
            if self._on_error == "raise" and not future.cancelled():
                if future.exception() is not None or future.result().error is not None:
                    stopped.set()
            slots.release()

        def hand_over() -> None:
            for x in given:
                slots.acquire()
                if stopped.is_set() or (futures and watch.enough()):
                    break
                future = executor.submit(call, x)
                futures.append(future)
                if hasattr(future, "add_done_callback"):
                    future.add_done_callback(done)
                else:
                    slots.release()

        broken: BaseException | None = None
        try:
            try:
                hand_over()
            except BrokenExecutor as error:
                broken = error
            outcomes: list[_Outcome | None] = []
            for i, future in enumerate(futures):
                outcome = self._outcome(future)
                outcomes.append(outcome)
                watch.note(i, outcome)
        except BaseException:  # an interrupt
            for future in futures:
                future.cancel()
            raise
        rest = range(len(futures), len(given))
        outcomes += [None for _ in rest]
        lost = [i for i, o in enumerate(outcomes) if o is not None and _died(o)]
        if isinstance(executor, ProcessPoolExecutor):
            if lost or broken:
                self._after_death(call, given, outcomes, lost, executor, watch)
        elif broken:  # of another kind, which nothing is known to replace
            for i in rest:
                outcomes[i] = _Outcome(None, broken)
        return outcomes

    def _outcome(self, future: Any) -> _Outcome:
        try:
            outcome = future.result()
        except Exception as error:  # pickling failed, or the process is gone
            return _Outcome(None, error)
        return _checked(outcome)

    def _after_death(
        self,
        call: _Guarded,
        given: Sequence[Any],
        outcomes: list[_Outcome | None],
        lost: list[int],
        executor: Any,
        watch: _Watch,
    ) -> None:
        """Find out which of the points that are lost killed a process, and evaluate the others."""
        for i in lost:
            with _like(executor, 1) as single:
                outcomes[i] = outcome = self._outcome(single.submit(call, given[i]))
                watch.note(i, outcome)
        if self._on_error == "raise" and any(o is not None and o.error for o in outcomes):
            return
        self.close()
        self._own = _like(executor)
        rest = [i for i, o in enumerate(outcomes) if o is None]
        again = _Watch(lambda place, outcome: watch.note(rest[place], outcome), watch.enough)
        ended = self._run(call.f, [given[i] for i in rest], again)
        for i, late in zip(rest, ended, strict=True):
            outcomes[i] = late


class _Outcome(NamedTuple):
    """What came of a task: a value, or an error."""

    value: Any
    error: BaseException | None


class _Watch(NamedTuple):
    """Who is told of outcomes as they come, by their places, and who says that they are enough."""

    note: Callable[[int, _Outcome], None]
    enough: Callable[[], bool]


def _never() -> bool:
    return False


class _Guarded:
    """A function that returns what it raises; it is sent to other processes."""

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def __call__(self, x: Any) -> _Outcome:
        try:
            return _Outcome(self.f(x), None)
        except Exception as error:
            return _Outcome(None, _portable(error))


class _Single:
    """A function of a point as one that returns a float."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f

    def __call__(self, x: Any) -> float:
        return float(_real(self.f(x), ()))


class _Together:
    """A function of a point as one of an array of points."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f

    def __call__(self, xs: Any) -> Array:
        return _real(ad.vmap(self.f)(xs), (len(ad.tree.leaves(xs)[0]),))


def _real(value: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value.detach().numpy() if isinstance(value, ad.Tensor) else value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the function returned {_kind(value, array)}: one real number is wanted")
    if array.size != int(np.prod(shape)):
        raise ValueError(
            f"the function returned an array of shape {array.shape}: one number is wanted"
        )
    return array.astype(np.float64).reshape(shape)


def _kind(value: Any, array: Any) -> str:
    return f"a {type(value).__name__}" + (f" of dtype {array.dtype}" if array.ndim else "")


def _rows(points: Any, task: range) -> Any:
    rows = points[task.start : task.stop]
    if isinstance(rows, np.ndarray):
        return ad.asarray(rows)
    if isinstance(rows, list):
        return ad.tree.map(lambda *parts: ad.stack([ad.asarray(p) for p in parts]), *rows)
    return rows


def _batch_size(batch: bool | int | None) -> int | None:
    if batch is None or batch is False:
        return None
    if batch is True:
        return 2**62
    return check_count("evaluate", "batch", batch, 1)


def _portable(error: Exception) -> Exception:
    """Return an error that survives pickling, with what is known of where it was raised."""
    import pickle

    lines = "".join(traceback.format_exception(error)[-3:])
    try:
        if isinstance(pickle.loads(pickle.dumps(error)), type(error)):
            return error
    except Exception:
        pass
    return RuntimeError(f"{type(error).__name__}, raised in the function:\n{lines}")


def _died(outcome: _Outcome) -> bool:
    return isinstance(outcome.error, BrokenExecutor)


def _like(executor: Any, workers: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of processes like another one."""
    return ProcessPoolExecutor(
        workers or getattr(executor, "_max_workers", None),
        getattr(executor, "_mp_context", None),
        getattr(executor, "_initializer", None),
        getattr(executor, "_initargs", ()),
    )


def _told(error: BaseException) -> str:
    if isinstance(error, BrokenExecutor):
        return "the process that was evaluating it has died, or the executor is broken otherwise"
    return f"{type(error).__name__}: {error}"


def _shown(point: Any) -> str:
    with np.printoptions(threshold=20, precision=17):
        text = repr(point)
    return text if len(text) <= 500 else text[:500] + "…"
