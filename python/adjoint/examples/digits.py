"""Train a small network on the 1,797 handwritten digits that come with scikit-learn.

Run ``python -m adjoint.examples.digits``; ``--help`` lists the options. The whole training step
(loss, gradient, Adam) is one compiled function. Written into the output folder: the learning
curves, a grid of the misclassified digits, and the weights as safetensors, which are loaded again
and must predict the same. One seed gives the same weights on every run, for any number of threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import adjoint as ad

__all__ = ["main"]

N = TypeVar("N", int, float)
TrainStep = Callable[[ad.Tensor, ad.Tensor], tuple[ad.Tensor, ad.Tensor]]


class Data(NamedTuple):
    """Images as rows of 64 float32 in [0, 1], labels as int64; one fifth is held out."""

    train_x: ad.Tensor
    train_y: ad.Tensor
    test_x: ad.Tensor
    test_y: ad.Tensor


class Epoch(NamedTuple):
    """What the learning curves show, after one pass over the training data."""

    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float


class UserError(Exception):
    """Something the user can mend; its message is the one line they see."""


def load_data(generator: ad.random.Generator) -> Data:
    """Load the digits and split them by a random permutation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = ad.asarray(digits.data, dtype=ad.float32) / 16.0
    y = ad.asarray(digits.target, dtype=ad.int64)
    order = generator.permutation(y.shape[0])
    held_out = y.shape[0] // 5
    test, train = order[:held_out], order[held_out:]
    return Data(
        train_x=ad.take(x, train, axis=0),
        train_y=ad.take(y, train, axis=0),
        test_x=ad.take(x, test, axis=0),
        test_y=ad.take(y, test, axis=0),
    )


def build_model(hidden: int, generator: ad.random.Generator) -> ad.nn.Module:
    """Return the network 64 - hidden - 10."""
    return ad.nn.Sequential(
        ad.nn.Linear(64, hidden, generator=generator),
        ad.nn.ReLU(),
        ad.nn.Linear(hidden, 10, generator=generator),
    )


def count_hits(logits: ad.Tensor, labels: ad.Tensor) -> ad.Tensor:
    """Return how many rows have their largest logit at the label."""
    return ad.sum(ad.astype(ad.argmax(logits, axis=1) == labels, ad.int64))


def make_train_step(model: ad.nn.Module, learning_rate: float, compiled: bool) -> TrainStep:
    """Return ``(x, y) -> (loss, hits)``, which also moves the model's parameters by one step."""
    optimizer = ad.optim.Adam(model.parameters(), learning_rate=learning_rate)

    def train_step(x: ad.Tensor, y: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        optimizer.zero_grad()
        logits = model(x)
        loss = ad.nn.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss.detach(), count_hits(logits.detach(), y)

    return ad.compile(train_step) if compiled else train_step


def train(
    model: ad.nn.Module, data: Data, options: argparse.Namespace, generator: ad.random.Generator
) -> list[Epoch]:
    """Run all epochs with a progress bar and return the learning curves."""
    from tqdm import tqdm

    step = make_train_step(model, options.learning_rate, options.compile)
    size = options.batch_size
    batches = data.train_y.shape[0] // size  # the permutation drops another remainder each time
    curves: list[Epoch] = []
    bar = tqdm(range(options.epochs), desc="training", unit="epoch", disable=options.quiet)
    for _ in bar:
        order = generator.permutation(data.train_y.shape[0])
        results = []
        for b in range(batches):
            rows = order[b * size : (b + 1) * size]
            x, y = ad.take(data.train_x, rows, axis=0), ad.take(data.train_y, rows, axis=0)
            results.append(step(x, y))
        with ad.no_grad():
            logits = model(data.test_x)
            test_loss = ad.nn.cross_entropy(logits, data.test_y)
        losses, hits = zip(*results, strict=True)
        epoch = Epoch(
            loss=float(ad.mean(ad.stack(losses)).item()),
            accuracy=float(ad.sum(ad.stack(hits)).item()) / (batches * size),
            test_loss=float(test_loss.item()),
            test_accuracy=float(count_hits(logits, data.test_y).item()) / data.test_y.shape[0],
        )
        curves.append(epoch)
        bar.set_postfix(loss=f"{epoch.loss:.4f}", accuracy=f"{epoch.test_accuracy:.4f}")
    return curves


def save_and_reload(model: ad.nn.Module, data: Data, hidden: int, path: Path) -> None:
    """Save the weights, load them into a new model and check that it predicts the same bits."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    save_file({name: np.array(value) for name, value in model.state_dict().items()}, path)
    copy = build_model(hidden, ad.random.Generator(0))
    copy.load_state_dict(load_file(path))
    with ad.no_grad():
        same = np.array_equal(model(data.test_x).numpy(), copy(data.test_x).numpy())
    if not same:
        raise UserError(f"the weights read back from {path} predict otherwise than those saved")


def plot_curves(curves: Sequence[Epoch], path: Path) -> None:
    """Draw loss and accuracy over the epochs, training beside held-out data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = range(1, len(curves) + 1)
    panels = zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True)
    for axes, what in panels:
        axes.plot(epochs, [getattr(epoch, what) for epoch in curves], label="training")
        axes.plot(epochs, [getattr(epoch, "test_" + what) for epoch in curves], label="held out")
        axes.set(xlabel="epoch", ylabel=what)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.axes[0].set_yscale("log")
    figure.savefig(path, dpi=120)


def plot_mistakes(model: ad.nn.Module, data: Data, path: Path, most: int = 24) -> int:
    """Draw the misclassified held-out digits, at most `most`, and return how many there are."""
    import numpy as np
    from matplotlib.figure import Figure

    with ad.no_grad():
        predicted = ad.argmax(model(data.test_x), axis=1).numpy()
    labels, images = data.test_y.numpy(), data.test_x.numpy().reshape(-1, 8, 8)
    wrong = np.flatnonzero(predicted != labels)
    shown, columns = wrong[:most], 8
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(columns * 1.1, rows * 1.4 + 0.4), layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(labels)} held-out digits misclassified")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, i in zip(grid, shown, strict=False):
        axes.imshow(images[i], cmap="gray_r", vmin=0.0, vmax=1.0)
        axes.set_title(f"{labels[i]} read as {predicted[i]}", fontsize=8)
    figure.savefig(path, dpi=120)
    return len(wrong)


def run(options: argparse.Namespace) -> None:
    """Train, report and write everything the module promises."""
    require_extras()
    out = prepare_folder(options.out)
    if options.threads is not None:
        ad.set_num_threads(options.threads)
    generator = ad.random.Generator(options.seed)
    data = load_data(generator)
    if options.batch_size > data.train_y.shape[0]:
        raise UserError(
            f"--batch-size {options.batch_size} exceeds the {data.train_y.shape[0]} training images"
        )
    model = build_model(options.hidden, generator)
    start = time.perf_counter()
    curves = train(model, data, options, generator)
    seconds = time.perf_counter() - start
    save_and_reload(model, data, options.hidden, out / "weights.safetensors")
    plot_curves(curves, out / "learning_curves.png")
    mistakes = plot_mistakes(model, data, out / "mistakes.png")
    count = data.test_y.shape[0]
    print(f"trained on {data.train_y.shape[0]} digits for {options.epochs} epochs: {seconds:.2f} s")
    print(f"test accuracy {curves[-1].test_accuracy:.4f}: {mistakes} mistakes in {count} digits")
    print(f"written to {out}: weights.safetensors, learning_curves.png, mistakes.png")


def require_extras() -> None:
    """Raise with the command to run if a package that only examples need is missing."""
    try:
        import matplotlib.figure  # noqa: F401
        import safetensors.numpy  # noqa: F401
        import sklearn.datasets  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}: run pip install 'adjoint[examples]'") from error


def prepare_folder(path: Path) -> Path:
    """Create the output folder and make sure, before any work, that it can be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(f"cannot write to --out {path}: {error.strerror}") from error


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="adjoint.examples.digits", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--epochs", type=positive_int, default=40, help="passes over the data (%(default)s)")
    add("--batch-size", type=positive_int, default=64, help="images per step (%(default)s)")
    add("--learning-rate", type=positive_float, default=0.003, help="of Adam (%(default)s)")
    add("--seed", type=natural_int, default=0, help="of split, weights and order (%(default)s)")
    add("--hidden", type=positive_int, default=128, help="width of the hidden layer (%(default)s)")
    add("--out", type=Path, default=Path("digits-out"), help="output folder (%(default)s)")
    add("--threads", type=positive_int, help="worker threads (all cores)")
    add("--no-compile", dest="compile", action="store_false", help="run the step eagerly")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def positive_int(text: str) -> int:
    return _number(text, int, lambda value: value > 0, "a positive integer")


def natural_int(text: str) -> int:
    return _number(text, int, lambda value: value >= 0, "an integer from 0")


def positive_float(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < float("inf"), "a positive number")


def _number(text: str, convert: Callable[[str], N], accept: Callable[[N], bool], wanted: str) -> N:
    try:
        value = convert(text)
        if accept(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return its exit code."""
    options = parse_options(arguments)
    try:
        run(options)
    except UserError as error:
        print(f"adjoint.examples.digits: error: {error}", file=sys.stderr)
        return 2
    return 0


def __dir__() -> list[str]:
    return sorted(__all__)


if __name__ == "__main__":
    raise SystemExit(main())
