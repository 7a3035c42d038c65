"""The digits example as a user runs it: files, accuracy, repeatability and error lines."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("sklearn", reason="needs the examples extra")
pytest.importorskip("matplotlib", reason="needs the examples extra")
pytest.importorskip("safetensors", reason="needs the examples extra")
pytest.importorskip("tqdm", reason="needs the examples extra")

PNG = b"\x89PNG\r\n\x1a\n"
FILES = {"weights.safetensors", "learning_curves.png", "mistakes.png"}


def digits(
    *arguments, code="import sys; from adjoint.examples.digits import main; sys.exit(main())"
):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def trained_weights(out, *arguments):
    done = digits("--out", out, "--epochs", 2, "--quiet", *arguments)
    assert done.returncode == 0, done.stderr
    return (out / "weights.safetensors").read_bytes()


def test_defaults_reach_the_promised_accuracy(tmp_path):
    command = [sys.executable, "-m", "adjoint.examples.digits", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"test accuracy (\d\.\d+): (\d+) mistakes in 359 digits", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 0.97
    assert float(accuracy[1]) == pytest.approx(1.0 - int(accuracy[2]) / 359, abs=1e-4)
    seconds = re.search(r"epochs: ([\d.]+) s", done.stdout)
    assert seconds and float(seconds[1]) < 10.0
    assert "accuracy=" in done.stderr  # the progress bar
    assert {path.name for path in tmp_path.iterdir()} == FILES
    for name in ("learning_curves.png", "mistakes.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_one_seed_one_result(tmp_path):
    first = trained_weights(tmp_path / "a", "--threads", 1)
    assert trained_weights(tmp_path / "b", "--threads", 1) == first
    assert trained_weights(tmp_path / "c", "--threads", 2) == first
    assert trained_weights(tmp_path / "d", "--no-compile") == first
    assert trained_weights(tmp_path / "e", "--seed", 1) != first


def test_quiet_is_quiet(tmp_path):
    done = digits("--out", tmp_path, "--epochs", 1, "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "must be a positive integer, got '0'"),
        (["--batch-size", "many"], "must be a positive integer, got 'many'"),
        (["--learning-rate", "-1"], "--learning-rate"),
        (["--learning-rate", "nan"], "must be a positive number, got 'nan'"),
        (["--seed", "-1"], "--seed"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
        (["--batch-size", "5000"], "exceeds the 1438 training images"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, tmp_path):
    done = digits("--out", tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = digits("--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "cannot write to --out" in done.stderr


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "safetensors", "tqdm"])
def test_a_missing_extra_is_one_line(package, tmp_path):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from adjoint.examples.digits import main; sys.exit(main())"
    )
    done = digits("--out", tmp_path, code=code)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'adjoint[examples]'" in done.stderr
