"""Sliders that move parameters of a picture; where no kernel runs, the picture stands still."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adjoint.plot._support import axes_or_current, matplotlib_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Slider", "slider"]

_WIDGET = "application/vnd.jupyter.widget-view+json"


class Slider:
    """A picture with parameters that can be moved; `slider` makes one.

    As the last expression of a cell it shows sliders above the picture. What stays in the file
    when no kernel runs is the picture as it was.

    Attributes
    ----------
    ax : matplotlib Axes, or array of them
        Where it draws.
    values : dict
        The values of the parameters now.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: w**2 + 1
    >>> moved = ad.plot.slider(lambda ax, w: ad.plot.tangent(f, w, ax=ax), w=(-2, 2))
    >>> moved.set(w=1.5)
    >>> moved.values
    {'w': 1.5}
    """

    def __init__(
        self, draw: Callable[..., Any], ax: Any, ranges: dict[str, tuple[float, float, float]]
    ) -> None:
        self.ax = ax
        self.values = {name: start for name, (_, _, start) in ranges.items()}
        self._draw = draw
        self._ranges = ranges
        self._sliders: dict[str, Any] = {}
        self._box: Any = None
        self._image: Any = None
        self._message: Any = None
        self._redraw()

    def set(self, **values: float) -> None:
        """Move parameters, and draw the picture again.

        Parameters
        ----------
        **values : float
            Inside the range of the parameter.

        Raises
        ------
        ValueError
            If a name is that of no parameter, or a value is outside of the range. Nothing is
            changed then.
        """
        for name, value in values.items():
            if name not in self._ranges:
                known = ", ".join(self._ranges)
                raise ValueError(f"[plot.slider] there is no parameter {name!r}: there are {known}")
            low, high, _ = self._ranges[name]
            if not low <= value <= high:
                raise ValueError(f"[plot.slider] {name}={value} is not from {low} to {high}")
        moved = {name: float(value) for name, value in values.items()}
        if self._sliders:
            for name, value in moved.items():
                self._sliders[name].value = value  # which draws
        self.values.update(moved)
        self._redraw()

    def _redraw(self) -> None:
        for ax in _each(self.ax):
            ax.clear()
        self._draw(self.ax, **self.values)
        if self._image is not None:
            self._image.value = self.png()
        elif self._box is None:
            next(_each(self.ax)).figure.canvas.draw_idle()

    def png(self) -> bytes:
        """Return the picture as it is now, as the bytes of a PNG file."""
        buffer = io.BytesIO()
        next(_each(self.ax)).figure.savefig(buffer, format="png")
        return buffer.getvalue()

    # ---- In a notebook -----------------------------------------------------------------------

    def _widgets(self) -> Any:
        import ipywidgets

        if self._box is None:
            for name, (low, high, start) in self._ranges.items():
                self._sliders[name] = ipywidgets.FloatSlider(
                    value=start,
                    min=low,
                    max=high,
                    step=(high - low) / 200,
                    description=name,
                    layout=ipywidgets.Layout(width="420px"),
                )
                self._sliders[name].observe(self._moved, names="value")
            self._image = ipywidgets.Image(value=self.png(), format="png")
            self._message = ipywidgets.HTML()
            self._box = ipywidgets.VBox([*self._sliders.values(), self._image, self._message])
        return self._box

    def _moved(self, change: Any) -> None:
        self.values = {name: slider.value for name, slider in self._sliders.items()}
        try:
            self._redraw()
        except Exception as error:  # a callback's exception would be shown to nobody
            from html import escape

            self._message.value = f"<pre>{escape(f'{type(error).__name__}: {error}')}</pre>"
        else:
            self._message.value = ""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        image = base64.b64encode(self.png()).decode("ascii")
        bundle: dict[str, Any] = {"text/plain": repr(self), "image/png": image}
        if _kernel_has_widgets():
            box = self._widgets()
            bundle[_WIDGET] = box._repr_mimebundle_()[_WIDGET]
        return bundle

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value:.4g}" for name, value in self.values.items())
        return f"Slider({values})"


def _each(ax: Any) -> Iterator[Any]:
    """Yield the axes of one, an array, a dict or nested lists of them."""
    stack = [ax]
    while stack:
        top = stack.pop()
        if hasattr(top, "plot"):
            yield top
        elif hasattr(top, "ravel"):
            stack += [*top.ravel()][::-1]
        elif isinstance(top, Mapping):
            stack += [*top.values()][::-1]
        elif isinstance(top, (list, tuple)):
            stack += [*top][::-1]
        else:
            raise TypeError(
                f"[plot.slider] ax must be axes of matplotlib, not {type(top).__name__}"
            )


def _is_in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _kernel_has_widgets() -> bool:
    from importlib.util import find_spec

    return _is_in_kernel() and find_spec("ipywidgets") is not None


def _range_of(name: str, given: Any) -> tuple[float, float, float]:
    try:
        low, high, *rest = (float(x) for x in given)
        (start,) = rest or [(low + high) / 2]
    except (TypeError, ValueError):
        raise TypeError(
            f"[plot.slider] {name} must be (low, high) or (low, high, start), not {given!r}"
        ) from None
    if not low < high or not low <= start <= high:
        raise ValueError(f"[plot.slider] {name}={given!r} is no range with a start in it")
    return low, high, start


def slider(draw: Callable[..., Any], *, ax: Axes | Any = None, **ranges: Any) -> Slider:
    """Draw a picture whose parameters are moved with sliders.

    In a notebook the sliders are ipywidgets. Where no kernel runs, or ipywidgets is missing, the
    picture is drawn once, for the starting values.

    Parameters
    ----------
    draw : callable
        ``draw(ax, name=value, ...)`` draws the picture for some values, which are floats. The
        axes are cleared before.
    ax : matplotlib Axes, or array of them, optional
        Where to draw, as ``plt.subplots`` gives them; new axes by default in a notebook, and the
        current ones of pyplot elsewhere.
    **ranges : (low, high) or (low, high, start)
        The parameters; they start in the middle by default.

    Returns
    -------
    Slider
        It shows itself at the end of a cell; ``ax`` of it are the axes.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If there is no parameter, or a range is none.

    Examples
    --------
    >>> import adjoint as ad
    >>> f = lambda w: w**2 + 1
    >>> def picture(ax, w):
    ...     ad.plot.function(f, (-2, 2), ax=ax)
    ...     ad.plot.tangent(f, w, ax=ax)
    >>> ad.plot.slider(picture, w=(-2, 2, 1.5))
    Slider(w=1.5)
    """
    if not callable(draw):
        raise TypeError(f"[plot.slider] draw must be a function, not {type(draw).__name__}")
    if not ranges:
        raise TypeError("[plot.slider] needs a parameter, as in slider(draw, w=(-2, 2))")
    checked = {name: _range_of(name, given) for name, given in ranges.items()}
    if not _is_in_kernel():
        ax = axes_or_current(None) if ax is None else ax
    elif ax is None:
        ax = matplotlib_module("figure").Figure().add_subplot()
    else:  # else the cell would show the figure a second time, standing still
        matplotlib_module("pyplot").close(next(_each(ax)).figure)
    return Slider(draw, ax, checked)
