"""What Sphinx is told: ``pip install '.[docs]' && sphinx-build -W python/docs build/docs``.

The references are written for each build, from docstrings and from headers, into api/; they are not
kept in the repository. Links that leave the folder, as to the architecture, are served by copies.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import adjoint  # noqa: E402
import cpp_reference  # noqa: E402
import reference  # noqa: E402

project = "adjoint"
author = copyright = "the adjoint authors"
version = release = adjoint.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
default_role = "code"
html_theme = "furo"
html_title = f"adjoint {version}"
html_copy_source = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "none"  # the sections name the types; signatures stay short
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

API = HERE / "api"
OUTSIDE = {"cpp/README.md": "architecture.md", ".github/CONTRIBUTING.md": "contributing.md"}
REPOSITORY_FILE = re.compile(r"\]\((?:\.\./)+([\w./-]+?)(#[\w-]+)?\)")


def write_pages() -> None:
    """Fill api/ anew: the two references, and copies of what lies outside of this folder."""
    shutil.rmtree(API, ignore_errors=True)
    API.mkdir()
    for name, text in {**reference.pages(), **cpp_reference.pages()}.items():
        (API / name).write_text(text, encoding="utf-8")
    for source, name in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        folder = (ROOT / source).parent
        (API / name).write_text(moved_links(text, folder), encoding="utf-8")


def moved_links(text: str, folder: Path) -> str:
    """The relative links of a page in `folder`, for a copy of it in api/."""

    def moved(found: re.Match[str]) -> str:
        label, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found.group()
        path, _, anchor = target.partition("#")
        place = (folder / path).resolve()
        if HERE not in place.parents or place.suffix != ".md":
            return label  # a file of the repository: its name says where it is
        inside = place.relative_to(HERE)
        return f"[{label}](../{inside}{'#' + anchor if anchor else ''})"

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", moved, text)


def prepare(app: Any, name: str, source: list[str]) -> None:
    """Lead links that leave the folder to the copies, where there is one.

    The empty line that ends an example, as prompts want it, is not shown.
    """

    def led(found: re.Match[str]) -> str:
        path, anchor = found.group(1), found.group(2) or ""
        return f"](/api/{OUTSIDE[path]}{anchor})" if path in OUTSIDE else "](#)"

    if not name.startswith("api/"):
        source[0] = REPOSITORY_FILE.sub(led, source[0])
    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.MULTILINE)


def setup(app: Any) -> None:
    write_pages()
    app.connect("source-read", prepare)
    app.connect("autodoc-process-docstring", reference.complete, priority=100)  # napoleon is next
