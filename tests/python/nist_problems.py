"""NIST's reference problems of nonlinear regression: the models, and their data in nist.json.

The Statistical Reference Datasets of the National Institute of Standards and Technology
(https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml) are works of the United States government,
in the public domain. ``python tests/python/nist_problems.py FOLDER`` makes ``data/nist.json`` of
the files as NIST publishes them: the data, both starts, certified parameters and standard
deviations.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import adjoint as ad

DATA = Path(__file__).parent / "data" / "nist.json"
PI = 3.141592653589793


def _two_peaks(x: Any, b: Any) -> Any:
    first = b[2] * ad.exp(-((x - b[3]) ** 2) / b[4] ** 2)
    return b[0] * ad.exp(-b[1] * x) + first + b[5] * ad.exp(-((x - b[6]) ** 2) / b[7] ** 2)


def _three_decays(x: Any, b: Any) -> Any:
    return b[0] * ad.exp(-b[1] * x) + b[2] * ad.exp(-b[3] * x) + b[4] * ad.exp(-b[5] * x)


def _cubics(x: Any, b: Any) -> Any:
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return above / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _enso(x: Any, b: Any) -> Any:
    year, second, third = 2 * PI * x / 12, 2 * PI * x / b[3], 2 * PI * x / b[6]
    out = b[0] + b[1] * ad.cos(year) + b[2] * ad.sin(year)
    out = out + b[4] * ad.cos(second) + b[5] * ad.sin(second)
    return out + b[7] * ad.cos(third) + b[8] * ad.sin(third)


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": lambda x, b: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": lambda x, b: b[0] * (1 - ad.exp(-b[1] * x)),
    "Chwirut1": lambda x, b: ad.exp(-b[0] * x) / (b[1] + b[2] * x),
    "Chwirut2": lambda x, b: ad.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda x, b: b[0] * x ** b[1],
    "ENSO": _enso,
    "Eckerle4": lambda x, b: b[0] / b[1] * ad.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _two_peaks,
    "Gauss2": _two_peaks,
    "Gauss3": _two_peaks,
    "Hahn1": _cubics,
    "Kirby2": lambda x, b: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _three_decays,
    "Lanczos2": _three_decays,
    "Lanczos3": _three_decays,
    "MGH09": lambda x, b: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda x, b: b[0] * ad.exp(b[1] / (x + b[2])),
    "MGH17": lambda x, b: b[0] + b[1] * ad.exp(-x * b[3]) + b[2] * ad.exp(-x * b[4]),
    "Misra1a": lambda x, b: b[0] * (1 - ad.exp(-b[1] * x)),
    "Misra1b": lambda x, b: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda x, b: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda x, b: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda x, b: b[0] - b[1] * x[0] * ad.exp(-b[2] * x[1]),
    "Rat42": lambda x, b: b[0] / (1 + ad.exp(b[1] - b[2] * x)),
    "Rat43": lambda x, b: b[0] / (1 + ad.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda x, b: b[0] - b[1] * x - ad.atan(b[2] / (x - b[3])) / PI,
    "Thurber": _cubics,
}


class Problem(NamedTuple):
    """One data set with its model."""

    name: str
    level: str
    model: Callable[[Any, Any], Any]
    x: Any
    y: ad.Tensor
    starts: list[list[float]]
    certified: list[float]
    deviations: list[float]
    squares: float

    def residuals(self, b: Any) -> ad.Tensor:
        return self.model(self.x, b) - self.y


def problems() -> list[Problem]:
    """All problems, by their names."""
    out = []
    for name, row in json.loads(DATA.read_text(encoding="utf-8")).items():
        x = [ad.tensor(column) for column in row["x"]]
        y = ad.tensor(row["y"])
        y = ad.log(y) if name == "Nelson" else y
        out.append(
            Problem(
                name,
                row["level"],
                MODELS[name],
                x[0] if len(x) == 1 else x,
                y,
                row["starts"],
                row["certified"],
                row["deviations"],
                row["squares"],
            )
        )
    return out


def read(path: Path) -> dict[str, Any]:
    """One file of NIST's."""
    text = path.read_text(encoding="latin-1")
    parameters = re.findall(r"^\s*b\d+ =\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", text, re.M)
    level = re.search(r"(Lower|Average|Higher) Level of Difficulty", text)
    squares = re.search(r"Residual Sum of Squares:\s+(\S+)", text)
    table = text[text.rindex("Data:") :].splitlines()[1:]
    rows = [[float(v) for v in line.split()] for line in table if line.strip()]
    y, *x = map(list, zip(*rows, strict=True))
    columns = [[float(v) for v in column] for column in zip(*parameters, strict=True)]
    assert level and squares
    return {
        "level": level[1].lower(),
        "starts": columns[:2],
        "certified": columns[2],
        "deviations": columns[3],
        "squares": float(squares[1]),
        "y": y,
        "x": x,
    }


if __name__ == "__main__":
    found = {path.stem: read(path) for path in sorted(Path(sys.argv[1]).glob("*.dat"))}
    lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(row)}" for n, row in found.items())
    DATA.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
