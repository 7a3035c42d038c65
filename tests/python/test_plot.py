"""Pictures: what is drawn where, and tensors in the calls of matplotlib itself."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402

import adjoint as ad  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def no_figures_are_left() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def parabola(w: Any) -> Any:
    return w**2 + 1


def curve(ax: Any, i: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = ax.lines[i].get_data()
    return np.asarray(x, float), np.asarray(y, float)


# ---- Functions ----------------------------------------------------------------------------------


def test_a_function_is_drawn_over_its_domain() -> None:
    ax = ad.plot.function(parabola, (-2, 3), points=51, label="f", color="red")
    x, y = curve(ax)
    np.testing.assert_allclose(x, np.linspace(-2, 3, 51))
    np.testing.assert_allclose(y, x**2 + 1, rtol=1e-15)
    assert ax.lines[0].get_label() == "f" and ax.lines[0].get_color() == "red"
    assert ad.plot.function(ad.grad(parabola), (-2, 3)) is ax  # the current axes
    np.testing.assert_allclose(curve(ax, 1)[1], 2 * curve(ax, 1)[0])
    other = plt.figure().add_subplot()
    assert ad.plot.function(parabola, (0, 1), ax=other) is other
    assert len(ax.lines) == 2


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (lambda w: w * 2 if w > 0 else -w, lambda x: np.where(x > 0, 2 * x, -x)),
        (lambda w: 3.0, lambda x: np.full_like(x, 3.0)),
        (lambda w: float(np.sin(w.item())), np.sin),
        (lambda w: ad.sum(ad.stack([w, w**2])), lambda x: x + x**2),
        (lambda w: ad.reshape(w, (1,)), lambda x: x),
        (ad.Variable(2.0).__mul__, lambda x: 2 * x),
    ],
    ids=["branch", "constant", "host", "sum", "one", "variable"],
)
def test_any_function_is_drawn(f: Callable[..., Any], reference: Callable[..., Any]) -> None:
    x, y = curve(ad.plot.function(f, (-1.5, 1.5), points=20))
    np.testing.assert_allclose(y, reference(x), rtol=1e-15)


def test_the_tangent_touches() -> None:
    ax = ad.plot.tangent(parabola, 1.5, length=2.0)
    x, y = curve(ax)
    np.testing.assert_allclose(x, [0.5, 2.5])
    np.testing.assert_allclose(y, [3.25 - 3.0, 3.25 + 3.0])  # f(1.5) = 3.25, f'(1.5) = 3
    assert curve(ax, 1) == ([1.5], [3.25])
    assert ax.get_legend_handles_labels()[1] == ["slope 3"]
    ax = plt.figure().add_subplot()
    line = ad.plot.tangent(parabola, ad.tensor(-1.0), ax=ax, color="C5").lines[0]
    assert line.get_slope() == -2.0 and line.get_xy1() == (-1.0, 2.0)
    assert line.get_color() == ax.lines[1].get_color() == "C5"


def test_a_family_is_drawn_member_by_member() -> None:
    def line(x: Any, w: Any) -> Any:
        return w[0] + w[1] * x

    members = np.array([[0.0, 1.0], [1.0, -2.0], [0.5, 0.0]])
    for given in (members, ad.tensor(members), members.tolist(), [ad.tensor(m) for m in members]):
        ax = ad.plot.family(line, (-1, 1), given, ax=plt.figure().add_subplot(), points=11)
        assert len(ax.lines) == 3
        for i, (a, b) in enumerate(members):
            x, y = curve(ax, i)
            np.testing.assert_allclose(y, a + b * x, atol=1e-15)
        assert len({ax.lines[i].get_color() for i in range(3)}) == 3
    ax = ad.plot.family(
        lambda x, w: w["s"] * x, (0, 1), [{"s": 2.0}], color="C1", ax=plt.figure().gca()
    )
    assert ax.lines[0].get_color() == "C1" and curve(ax)[1][-1] == 2.0


def test_contours_are_where_the_function_has_their_value() -> None:
    def bowl(w: Any) -> Any:
        return w[0] ** 2 + 4 * w[1] ** 2

    ax = ad.plot.contour(bowl, (-2, 2), (-1.5, 1.5), levels=[0.5, 1.0, 2.0])
    (lines,) = ax.collections
    assert list(lines.levels) == [0.5, 1.0, 2.0]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        x, y = path.vertices.T
        np.testing.assert_allclose(x**2 + 4 * y**2, level, rtol=0.01)
    ax = ad.plot.contour(bowl, (-2, 2), (-1, 1), log=True, ax=plt.figure().add_subplot(), levels=6)
    steps = np.diff(np.log(ax.collections[0].levels))  # the least value on the grid is 0
    np.testing.assert_allclose(steps, steps[0])
    branches = ad.plot.contour(lambda w: w[0] if w[0] > w[1] else w[1], (0, 1), (0, 1), points=9)
    assert branches is plt.gca()


# ---- Runs ---------------------------------------------------------------------------------------


def test_trajectories() -> None:
    points = np.array([[2.0, 1.0], [1.0, 0.5], [0.0, 0.0]])
    for given in (points, ad.tensor(points, requires_grad=True), [ad.tensor(p) for p in points]):
        ax = ad.plot.trajectory(given, ax=plt.figure().add_subplot(), label="way")
        np.testing.assert_array_equal(np.stack(curve(ax), axis=1), points)
        np.testing.assert_array_equal(curve(ax, 1), ([0.0], [0.0]))
        assert ax.get_legend_handles_labels()[1] == ["way"]
    for given in ([3.0, 1.0, 0.0], ad.tensor([[3.0], [1.0], [0.0]])):
        ax = ad.plot.trajectory(given, parabola, ax=plt.figure().add_subplot())
        np.testing.assert_array_equal(curve(ax), ([3.0, 1.0, 0.0], [10.0, 2.0, 1.0]))
    ax = ad.plot.trajectory([ad.tensor(5.0), ad.tensor(4.0)], ax=plt.figure().add_subplot())
    np.testing.assert_array_equal(curve(ax), ([0, 1], [5.0, 4.0]))
    with pytest.raises(ValueError, match=r"vectors of two, not of shape \(3,\)"):
        ad.plot.trajectory(np.zeros((4, 3)))


def test_convergence() -> None:
    def quartic(w: Any) -> Any:
        return ad.sum((w - 1.0) ** 4)

    runs = [ad.optim.minimize(quartic, ad.zeros(2), m) for m in ("bfgs", "newton")]
    ax = ad.plot.convergence(runs, by="nfev")
    for i, run in enumerate(runs):
        x, y = curve(ax, i)
        np.testing.assert_array_equal(x, [row.nfev for row in run.history])
        np.testing.assert_array_equal(y, [row.fun for row in run.history])
    assert ax.get_legend_handles_labels()[1] == ["bfgs", "newton"]
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "evaluations"

    def drawn(*args: Any, **kwargs: Any) -> Any:
        return ad.plot.convergence(*args, ax=plt.figure().add_subplot(), **kwargs)

    norms = drawn({"N": runs[1].history}, value="grad_norm", by="seconds")
    expected = [r.grad_norm for r in runs[1].history if r.grad_norm is not None]
    np.testing.assert_array_equal(curve(norms)[1], expected)
    assert norms.lines[0].get_label() == "N"
    for losses in ([3.0, 2.0, -1.0], ad.tensor([3.0, 2.0, -1.0]), [ad.tensor(3.0), 2.0, -1.0]):
        ax = drawn(losses)
        np.testing.assert_array_equal(curve(ax), ([0, 1, 2], [3.0, 2.0, -1.0]))
        assert ax.get_yscale() == "linear"
    above = drawn([3.0, 2.0, -1.0], optimum=-1.0)
    np.testing.assert_array_equal(curve(above)[1], [4.0, 3.0, 0.0])
    assert above.get_yscale() == "log"


# ---- Sliders ------------------------------------------------------------------------------------


def test_a_slider_without_a_kernel_is_a_picture_that_can_be_moved() -> None:
    drawn = []

    def picture(ax: Any, w: float, h: float) -> None:
        drawn.append((w, h))
        ad.plot.tangent(parabola, w, ax=ax)
        ax.set_title(f"{h}")

    slider = ad.plot.slider(picture, w=(-2, 2, 1.5), h=(0, 1))
    assert drawn == [(1.5, 0.5)] and slider.values == {"w": 1.5, "h": 0.5}
    assert slider.ax is plt.gca() and slider.ax.get_title() == "0.5"
    before = slider.png()
    slider.set(w=-1.0)
    assert drawn[-1] == (-1.0, 0.5) and slider.ax.lines[0].get_slope() == -2.0
    assert len(slider.ax.lines) == 2  # what was there before is cleared
    assert before.startswith(PNG) and slider.png() != before
    bundle = slider._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == slider.png()
    assert bundle["text/plain"] == "Slider(w=-1, h=0.5)"
    for wrong in ({"v": 1.0}, {"w": 3.0}, {"w": float("nan")}):
        with pytest.raises(ValueError, match=r"\[plot\.slider\]"):
            slider.set(**wrong)
    assert drawn[-1] == (-1.0, 0.5)


def test_a_slider_draws_into_several_axes() -> None:
    _figure, axes = plt.subplots(1, 2)

    def picture(axes: Any, w: float) -> None:
        ad.plot.function(lambda x: w * x, (0, 1), ax=axes[0])
        axes[1].plot([w], [w], "o")

    slider = ad.plot.slider(picture, ax=axes, w=(0, 1))
    slider.set(w=0.25)
    assert curve(axes[0])[1][-1] == 0.25 and len(axes[0].lines) == len(axes[1].lines) == 1


# ---- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ad.plot.function(3.0, (0, 1)), TypeError, "needs a function, not float"),
        (lambda: ad.plot.function(parabola, 5), TypeError, "a pair of numbers"),
        (lambda: ad.plot.function(parabola, (1, 0)), ValueError, "no interval"),
        (lambda: ad.plot.function(parabola, (0, ad.inf)), ValueError, "no interval"),
        (lambda: ad.plot.function(parabola, (0, 1), points=1), ValueError, "points must be"),
        (lambda: ad.plot.function(parabola, (0, 1), ax="left"), TypeError, "axes of matplotlib"),
        (
            lambda: ad.plot.function(lambda w: ad.stack([w, w]), (0, 1)),
            ValueError,
            r"one number per point, not shape \(2,\)",
        ),
        (lambda: ad.plot.tangent(parabola, [1.0, 2.0]), TypeError, "at must be one number"),
        (lambda: ad.plot.family(parabola, (0, 1), 3.0), TypeError, "needs a sequence"),
        (
            lambda: ad.plot.contour(lambda w: w[0], (0, 1), (0, 1), log=True, levels=[1.0]),
            TypeError,
            "number of lines",
        ),
        (lambda: ad.plot.convergence([1.0], by="time"), ValueError, "there is no by='time'"),
        (lambda: ad.plot.convergence([1.0], by="seconds"), ValueError, "numbers alone have no"),
        (lambda: ad.plot.convergence([]), ValueError, "to draw"),
        (lambda: ad.plot.convergence(3), TypeError, "needs a Result"),
        (lambda: ad.plot.slider(parabola), TypeError, "needs a parameter"),
        (lambda: ad.plot.slider(None, w=(0, 1)), TypeError, "draw must be a function"),
        (lambda: ad.plot.slider(parabola, w=3), TypeError, r"w must be \(low, high\)"),
        (lambda: ad.plot.slider(parabola, w=(0, 1, 2)), ValueError, "no range"),
        (lambda: ad.plot.slider(parabola, ax=[1], w=(0, 1)), TypeError, "axes of matplotlib"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[], Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert not plt.get_fignums() or not plt.gca().lines  # nothing was drawn


def test_errors_of_the_function_are_its_own() -> None:
    def broken(w: Any) -> Any:
        raise LookupError("of the user")

    with pytest.raises(LookupError, match="of the user"):
        ad.plot.function(broken, (0, 1))


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_without_matplotlib_the_extra_is_named() -> None:
    done = python(
        "import sys; sys.modules['matplotlib'] = None\n"
        "import adjoint as ad\n"
        "names = [n for n in dir(ad.plot) if n[0].islower()]\n"
        "try: ad.plot.function(lambda w: w, (0, 1))\n"
        "except ImportError as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "[plot] needs matplotlib: pip install 'adjoint[notebook]', or matplotlib alone\n"
    )


def test_matplotlib_comes_with_the_first_picture() -> None:
    done = python(
        "import sys, adjoint as ad\n"
        "ad.plot.function\n"
        "print(any(m.partition('.')[0] in ('matplotlib', 'IPython') for m in sys.modules))"
    )
    assert done.stdout == "False\n", done.stderr


# ---- Tensors in matplotlib's own calls ----------------------------------------------------------

X = ad.linspace(0.0, 1.0, 5)
GRID_X, GRID_Y = ad.meshgrid(X, X)
Z = GRID_X * GRID_Y
LIMITS = ad.tensor([0.0, 2.0])
S = ad.tensor(0.25)
CALLS: dict[str, Callable[..., Any]] = {
    "annotate": lambda ax, c: ax.annotate("a", xy=c(LIMITS), xytext=(c(S), c(S)), arrowprops={}),
    "arrow": lambda ax, c: ax.arrow(c(LIMITS)[0], c(LIMITS)[1], c(S), c(S)),
    "axhline": lambda ax, c: ax.axhline(c(S)),
    "axhspan": lambda ax, c: ax.axhspan(c(S), c(LIMITS)[1]),
    "axis": lambda ax, c: ax.axis(c(ad.tensor([0.0, 1.0, 0.0, 1.0]))),
    "axline": lambda ax, c: ax.axline(c(LIMITS), slope=c(S)),
    "axvline": lambda ax, c: ax.axvline(c(S)),
    "bar": lambda ax, c: ax.bar(c(X), c(X) + 1, width=c(S)),
    "barbs": lambda ax, c: ax.barbs(c(GRID_X), c(GRID_Y), c(Z), c(Z)),
    "barh": lambda ax, c: ax.barh(c(X), c(X) + 1),
    "boxplot": lambda ax, c: ax.boxplot(c(Z)),
    "circle": lambda ax, c: ax.add_patch(plt.Circle(c(LIMITS), c(S))),
    "contour": lambda ax, c: ax.contour(c(GRID_X), c(GRID_Y), c(Z), levels=c(X)),
    "contourf": lambda ax, c: ax.contourf(c(X), c(X), c(Z)),
    "ecdf": lambda ax, c: ax.ecdf(c(X)),
    "errorbar": lambda ax, c: ax.errorbar(c(X), c(X), yerr=c(X)),
    "eventplot": lambda ax, c: ax.eventplot(c(X)),
    "fill": lambda ax, c: ax.fill(c(X), c(X) ** 2),
    "fill_between": lambda ax, c: ax.fill_between(c(X), c(X), c(S), where=c(X) > 0.2),
    "hexbin": lambda ax, c: ax.hexbin(c(X), c(X), gridsize=5),
    "hist": lambda ax, c: ax.hist(c(X), bins=c(X)),
    "hist2d": lambda ax, c: ax.hist2d(c(X), c(X)),
    "hlines": lambda ax, c: ax.hlines(c(X), c(X), c(X) + 1),
    "imshow": lambda ax, c: ax.imshow(c(Z), vmin=c(S), vmax=c(LIMITS)[1]),
    "inset_axes": lambda ax, c: ax.inset_axes(c(ad.tensor([0.1, 0.1, 0.2, 0.2]))),
    "loglog": lambda ax, c: ax.loglog(c(X) + 1, c(X) + 1),
    "pcolormesh": lambda ax, c: ax.pcolormesh(c(GRID_X), c(GRID_Y), c(Z)),
    "pie": lambda ax, c: ax.pie(c(X) + 1),
    "plot": lambda ax, c: ax.plot(c(X), c(Z), linewidth=c(S)),
    "plot one": lambda ax, c: ax.plot(c(S), c(S), "o"),
    "polygon": lambda ax, c: ax.add_patch(plt.Polygon(c(ad.stack([X, X**2], axis=1)))),
    "quiver": lambda ax, c: ax.quiver(c(GRID_X), c(GRID_Y), c(Z), c(Z)),
    "scatter": lambda ax, c: ax.scatter(c(X), c(X), c=c(X), s=c(X) * 10),
    "set_data": lambda ax, c: ax.plot([0.0], [0.0])[0].set_data(c(X), c(X)),
    "set_offsets": lambda ax, c: ax.scatter([0.0], [0.0]).set_offsets(c(Z)[:, :2]),
    "stackplot": lambda ax, c: ax.stackplot(c(X), c(X), c(X)),
    "stairs": lambda ax, c: ax.stairs(c(X)),
    "stem": lambda ax, c: ax.stem(c(X), c(X)),
    "step": lambda ax, c: ax.step(c(X), c(X)),
    "streamplot": lambda ax, c: ax.streamplot(c(X), c(X), c(Z) + 1, c(Z)),
    "text": lambda ax, c: ax.text(c(S), c(S), "t"),
    "tripcolor": lambda ax, c: ax.tripcolor(c(X), c(X) ** 2, c(X)),
    "violinplot": lambda ax, c: ax.violinplot(c(X)),
    "vlines": lambda ax, c: ax.vlines(c(X), c(S), c(X)),
    "xlim": lambda ax, c: ax.set_xlim(c(LIMITS)),
    "xlim two": lambda ax, c: plt.xlim(c(LIMITS)[0], c(LIMITS)[1]),
    "xticks": lambda ax, c: ax.set_xticks(c(X)),
    "ylim": lambda ax, c: ax.set_ylim(top=c(S)),
}


@pytest.mark.parametrize("name", CALLS)
def test_matplotlib_takes_tensors_as_arrays(name: str) -> None:
    pictures = []
    for convert in (lambda t: t, lambda t: np.array(t)):
        plt.figure(figsize=(2, 2), dpi=50)
        ax = plt.subplot()
        CALLS[name](ax, convert)
        ax.figure.canvas.draw()
        pictures.append(np.asarray(ax.figure.canvas.buffer_rgba()))
    np.testing.assert_array_equal(*pictures)


def test_matplotlib_takes_tensors_in_three_dimensions() -> None:
    pictures = []
    for convert in (lambda t: t, lambda t: np.array(t)):
        ax = plt.figure(figsize=(2, 2), dpi=50).add_subplot(projection="3d")
        ax.plot_surface(convert(GRID_X), convert(GRID_Y), convert(Z))
        ax.plot(convert(X), convert(X), convert(X))
        ax.scatter(convert(X), convert(X), convert(X))
        ax.figure.canvas.draw()
        pictures.append(np.asarray(ax.figure.canvas.buffer_rgba()))
    np.testing.assert_array_equal(*pictures)


def test_strides_are_those_of_the_array() -> None:
    x = ad.reshape(ad.arange(24), (2, 3, 4))
    for t in (x, x[::-1, :, 1::2], ad.permute_dims(x, (2, 0, 1)), ad.astype(x, ad.float32)):
        assert t.strides == t.numpy().strides
    assert ad.tensor(1.0).strides == ()


def test_counts_of_tensors_refuse_what_is_differentiated() -> None:
    x = ad.tensor([0.1, 0.4, 0.4])
    counts, edges, _ = np.histogram2d(x, x, bins=3)
    expected = np.histogram2d(np.array(x), np.array(x), bins=3)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(edges, expected[1])
    with pytest.raises(TypeError, match="derivative would be lost"):
        np.histogram2d(ad.tensor([0.1], requires_grad=True), [0.2])
