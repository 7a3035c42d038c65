"""Pictures as SVG, from nothing but the standard library: boxes, arrows, lines, text.

Colours read on white and on black, so that a page may be either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

INK, SOFT, FILL = "#57606a", "#8c959f", "#8c959f22"
COLOURS = ("#1f77b4", "#e8590c", "#2b8a3e", "#9c36b5")
FONT = "font-family='ui-sans-serif,system-ui,Helvetica,Arial,sans-serif'"

Point = tuple[float, float]


def short(value: float) -> str:
    """A coordinate to a tenth, without a sign that says nothing."""
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


class Drawing:
    """A picture of a given size; every method adds to it."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.size = (width, height)
        self.title = title
        self.parts: list[str] = []

    def line(self, points: Iterable[Point], colour: str = INK, width: float = 1.2) -> None:
        path = " ".join(f"{short(x)},{short(y)}" for x, y in points)
        self.parts.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='{width:g}'"
            " stroke-linejoin='round'/>"
        )

    def segments(self, pairs: Sequence[tuple[Point, Point]], colour: str, width: float) -> None:
        """Many short lines as one path."""
        path = "".join(f"M{short(a)} {short(b)}L{short(c)} {short(d)}" for (a, b), (c, d) in pairs)
        self.parts.append(
            f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='{width:g}'/>"
        )

    def arrow(self, start: Point, end: Point, colour: str = INK) -> None:
        """A line with a head at its end."""
        (x0, y0), (x1, y1) = start, end
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        neck = (x1 - 7 * dx, y1 - 7 * dy)
        self.line([start, neck], colour)
        wings = [(neck[0] - 3.5 * dy, neck[1] + 3.5 * dx), (neck[0] + 3.5 * dy, neck[1] - 3.5 * dx)]
        path = " ".join(f"{short(x)},{short(y)}" for x, y in [end, *wings])
        self.parts.append(f"<polygon points='{path}' fill='{colour}'/>")

    def dot(self, at: Point, radius: float, colour: str) -> None:
        self.parts.append(
            f"<circle cx='{short(at[0])}' cy='{short(at[1])}' r='{radius:g}' fill='{colour}'/>"
        )

    def box(self, left: float, top: float, width: float, height: float, colour: str = INK) -> None:
        self.parts.append(
            f"<rect x='{short(left)}' y='{short(top)}' width='{short(width)}'"
            f" height='{short(height)}' rx='6' fill='{FILL}' stroke='{colour}'/>"
        )

    def text(
        self,
        at: Point,
        words: str,
        *,
        size: float = 13,
        anchor: str = "middle",
        colour: str = INK,
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        font = "font-family='ui-monospace,Menlo,Consolas,monospace'" if mono else FONT
        weight = " font-weight='600'" if bold else ""
        self.parts.append(
            f"<text x='{short(at[0])}' y='{short(at[1])}' font-size='{size:g}' {font}{weight}"
            f" text-anchor='{anchor}' fill='{colour}'>{escape(words)}</text>"
        )

    def svg(self) -> str:
        width, height = (short(v) for v in self.size)
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'"
            f" width='{width}' height='{height}' role='img'>"
        )
        return "\n".join([head, f"<title>{escape(self.title)}</title>", *self.parts, "</svg>\n"])
