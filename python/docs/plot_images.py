"""Make the images of plot.md with the code of that page: ``python python/docs/plot_images.py``.

An image is the current figure after the code above it; one whose name ends with .svg is the
graph that the code has named `graph`.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import matplotlib

PAGE = Path(__file__).with_name("plot.md")
PIECE = re.compile(r"^```python\n(.*?)^```|!\[[^]]*\]\((images/[^)]+)\)", re.M | re.S)


def run(code: str, names: dict[str, Any]) -> None:
    """Run one piece of code, with prompts or without."""
    if ">>>" in code:
        code = "".join(e.source for e in doctest.DocTestParser().get_examples(code))
    exec(compile(code, PAGE.name, "exec"), names)


def main() -> None:
    """Write every image of the page."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    for code, image in PIECE.findall(PAGE.read_text(encoding="utf-8")):
        if code:
            run(code, names)
        elif image.endswith(".svg"):
            names["graph"].save(PAGE.parent / image)
        else:
            pyplot.savefig(PAGE.parent / image, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
