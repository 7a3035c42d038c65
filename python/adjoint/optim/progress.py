"""A line on stderr that says how far a solver is: time, iterations, evaluations, best value."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]

INTERVAL = 0.1  # seconds between two drawings, however short the steps are
WIDTH = 20


class Progress:
    r"""Draws over its own line, at most ten times a second; the last state is always drawn.

    Parameters
    ----------
    label : str
        What the line begins with.
    seconds : float, optional
        How long there is, for the bar.
    shown : bool
        Nothing is drawn if it is False.

    Examples
    --------
    >>> from adjoint.optim.progress import Progress
    >>> import contextlib, io
    >>> with contextlib.redirect_stderr(io.StringIO()) as drawn:
    ...     line = Progress("minimize")
    ...     line.update(3, 8, best=0.25, done=0.5)
    ...     line.close(4, 9, best=0.125, reason="converged")
    >>> print(drawn.getvalue().split(" s  ")[-1].rstrip())
    4 iterations  9 evaluations  best 0.125  converged
    """

    def __init__(
        self,
        label: str,
        seconds: float | None = None,
        *,
        shown: bool = True,
    ) -> None:
        self._label = label
        self._seconds = seconds
        self.shown = shown
        self._begun = time.perf_counter()
        self._next = 0.0
        self._length = 0

    def update(self, nit: int, nfev: int, best: float, done: float = 0.0) -> None:
        """Draw, unless that was done just now; `done` is the share of a limit that is used up."""
        if self.shown and time.perf_counter() >= self._next:
            self._draw(nit, nfev, best, done)

    def close(self, nit: int, nfev: int, best: float, reason: str) -> None:
        """Draw the last state and end the line."""
        if self.shown:
            self._draw(nit, nfev, best, None, f"  {reason}")
            self._stream().write("\n")
            self._stream().flush()

    def _draw(self, nit: int, nfev: int, best: float, done: float | None, more: str = "") -> None:
        now = time.perf_counter()
        self._next = now + INTERVAL
        passed = now - self._begun
        if self._seconds and done is not None:
            done = max(done, min(1.0, passed / self._seconds))
        bar = ""
        if done:
            full = round(WIDTH * done)
            bar = f" [{'=' * full}{' ' * (WIDTH - full)}]"
        text = f"{self._label}{bar} {passed:.1f} s  {nit} iterations  {nfev} evaluations  "
        text += f"best {best:.8g}{more}"
        self._stream().write("\r" + text.ljust(self._length))
        self._stream().flush()
        self._length = len(text)

    @staticmethod
    def _stream() -> TextIO:
        return sys.stderr
