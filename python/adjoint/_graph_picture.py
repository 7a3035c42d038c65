"""Pictures of a `RecordedGraph`: SVG, and HTML with buttons that step through it, drawn right here.

Values flow from left to right. There are as many layers as the longest chain has nodes; each node
stands as far to the right as what reads it allows. Edges over several layers pass through places of
their own, which are ordered with the nodes so that few edges cross (the layered drawing of
Sugiyama, Tagawa and Toda, 1981: sweeps that order each layer by the mean of its neighbours).
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import json
import secrets
from html import escape

from adjoint._graph import GraphNode, RecordedGraph, value_text

__all__ = ["draw", "page_part"]

_CHARACTER = 7.25  # width of a character of the font, at its size of 12
_LINE = 16
_PADDING = 9
_BETWEEN_LAYERS = 46
_BETWEEN_ROWS = 16
_MARGIN = 10
_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 24
_FOLD = -1  # the number of the card that stands for what is not shown

_STYLE = (
    ".g text{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#24292f}"
    ".g .k{fill:#6e7781}.g .v{fill:#0b5394}.g .a{fill:#b3261e}.g .t{font-weight:bold}"
    ".g rect{fill:#fff;stroke:#8c959f}.g .leaf rect{fill:#eef6ee;stroke:#4f8a55}"
    ".g .data rect{fill:#f6f8fa}.g .fold rect{stroke-dasharray:5 4;fill:#f6f8fa}"
    ".g .now rect{stroke:#d08700;stroke-width:2.5;fill:#fff8e5}"
    ".g path{fill:none;stroke:#8c959f;stroke-width:1.2}.g .tip{fill:#8c959f;stroke:none}"
)


@dataclasses.dataclass
class _Text:
    words: str
    kind: str  # the class: title, shape, value or adjoint
    step: int = 0  # the first step in which it is known


@dataclasses.dataclass
class _Card:
    """A box, or with no texts a place that an edge passes through."""

    texts: list[_Text]
    kind: str = ""
    steps: tuple[int, ...] = ()  # in which it is the one at work
    below: list[int] = dataclasses.field(default_factory=list)  # neighbours in the layer before
    above: list[int] = dataclasses.field(default_factory=list)  # in the layer after
    layer: int = 0
    x: float = 0.0
    y: float = 0.0  # of the middle

    width: float = 0.0

    def __post_init__(self) -> None:
        if self.texts:
            self.width = max(len(t.words) for t in self.texts) * _CHARACTER + 2 * _PADDING

    @property
    def height(self) -> float:
        return len(self.texts) * _LINE + 10.0 if self.texts else 4.0


def _cards(graph: RecordedGraph) -> dict[int, _Card]:
    steps: dict[int, dict[str, int]] = {}
    for number, step in enumerate(graph.steps(), 1):
        steps.setdefault(step.node.number, {})[step.phase] = number
    cards = {}
    for node in graph.nodes:
        if node.is_literal and node is not graph.output:
            continue
        at = steps.get(node.number, {})
        texts = [
            _Text(graph.title(node, with_attrs=False), "t"),
            _Text(f"{node.dtype} {node.shape}", "k"),
        ]
        if node.attrs:
            texts.insert(1, _Text(node.attrs.strip(), "k"))
        if node.value is not None:
            texts.append(_Text(value_text(node.value), "v", at.get("forward", 0)))
        if node.adjoint is not None:
            texts.append(_Text(f"∂ {value_text(node.adjoint)}", "a", at["backward"]))
        kind = "op" if node.op else "leaf" if node.requires_grad else "data"
        cards[node.number] = _Card(texts, kind, tuple(at.values()))
    if any(number not in cards for node in graph.nodes for number in _drawn_inputs(graph, node)):
        count, _, what = graph.hidden_text().partition(": ")
        lines = [_Text(f"… {count}", "t"), *(_Text(part, "k") for part in what.split(", "))]
        cards[_FOLD] = _Card(lines, "fold")
    return cards


def _drawn_inputs(graph: RecordedGraph, node: GraphNode) -> list[int]:
    return [o if isinstance(o, int) else o.number for o in graph.operands(node)]


def _edges(graph: RecordedGraph, cards: dict[int, _Card]) -> list[tuple[int, int]]:
    edges = {
        (number if number in cards else _FOLD, node.number): None
        for node in graph.nodes
        if node.number in cards
        for number in _drawn_inputs(graph, node)
    }
    return list(edges)


def _assign_layers(cards: dict[int, _Card], edges: list[tuple[int, int]]) -> None:
    readers: dict[int, list[int]] = {}
    for source, target in edges:  # ascending by target: operands have their layer by then
        cards[target].layer = max(cards[target].layer, cards[source].layer + 1)
        readers.setdefault(source, []).append(target)
    for number in sorted(readers, reverse=True):  # to the right, next to what reads them
        cards[number].layer = min(cards[reader].layer for reader in readers[number]) - 1
    first = min(card.layer for card in cards.values())
    for card in cards.values():
        card.layer -= first


class _Drawing:
    """Cards in layers, and the chains of cards and points that the edges run along."""

    def __init__(self, graph: RecordedGraph) -> None:
        by_number = _cards(graph)
        edges = _edges(graph, by_number)
        _assign_layers(by_number, edges)
        numbers = {number: i for i, number in enumerate(by_number)}
        self.cards = list(by_number.values())
        self.chains = [self._chain(numbers[a], numbers[b]) for a, b in edges]
        self.layers: list[list[int]] = [[] for _ in range(max(c.layer for c in self.cards) + 1)]
        for i, card in enumerate(self.cards):
            self.layers[card.layer].append(i)
        self._order()
        self._place()

    def _chain(self, source: int, target: int) -> list[int]:
        chain = [source]
        for layer in range(self.cards[source].layer + 1, self.cards[target].layer):
            self.cards.append(_Card([], layer=layer))
            chain.append(len(self.cards) - 1)
        chain.append(target)
        for a, b in itertools.pairwise(chain):
            self.cards[a].above.append(b)
            self.cards[b].below.append(a)
        return chain

    def _order(self) -> None:
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(_ORDER_SWEEPS):
            rightwards = sweep % 2 == 1
            layers = self.layers[1:] if rightwards else self.layers[-2::-1]
            for layer in layers:
                place = self._places()
                sides = {
                    i: self.cards[i].below if rightwards else self.cards[i].above for i in layer
                }
                means = {
                    i: sum(place[n] for n in near) / len(near) if near else float(place[i])
                    for i, near in sides.items()
                }
                layer.sort(key=means.__getitem__)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _places(self) -> dict[int, int]:
        return {i: place for layer in self.layers for place, i in enumerate(layer)}

    def _crossings(self) -> int:
        place = self._places()
        count = 0
        for layer in self.layers:
            ends = [end for i in layer for end in sorted(place[n] for n in self.cards[i].above)]
            sorted_ends: list[int] = []
            for end in ends:  # inversions: edges that begin above and end below
                at = bisect.bisect_right(sorted_ends, end)
                count += len(sorted_ends) - at
                sorted_ends.insert(at, end)
        return count

    def _place(self) -> None:
        x = float(_MARGIN)
        for layer in self.layers:
            width = max(self.cards[i].width for i in layer)
            for i in layer:
                card = self.cards[i]
                if not card.texts:  # the edge goes straight past the boxes
                    card.width = width
                card.x = x + (width - card.width) / 2
            x += width + _BETWEEN_LAYERS
        self.width = x - _BETWEEN_LAYERS + _MARGIN
        for layer in self.layers:
            self._separate(layer, [0.0] * len(layer))
        for sweep in range(_PLACE_SWEEPS):
            for layer in self.layers if sweep % 2 == 0 else self.layers[::-1]:
                self._separate(layer, [self._wish(self.cards[i]) for i in layer])
        top = min(c.y - c.height / 2 for c in self.cards)
        for card in self.cards:
            card.y += _MARGIN - top
        self.height = max(c.y + c.height / 2 for c in self.cards) + _MARGIN

    def _wish(self, card: _Card) -> float:
        near = [self.cards[i].y for i in (*card.below, *card.above)]
        return sum(near) / len(near) if near else card.y

    def _separate(self, layer: list[int], wishes: list[float]) -> None:
        """Place a layer as near to the wishes as its order and the gaps allow: the mean of the
        arrangement that gives way downwards and the one that gives way upwards."""
        cards = [self.cards[i] for i in layer]
        pairs = itertools.pairwise(cards)
        gaps = [(a.height + b.height) / 2 + _BETWEEN_ROWS for a, b in pairs]
        down, up = list(wishes), list(wishes)
        for i, gap in enumerate(gaps, 1):
            down[i] = max(down[i], down[i - 1] + gap)
        for i, gap in reversed(list(enumerate(gaps))):
            up[i] = min(up[i], up[i + 1] - gap)
        for card, a, b in zip(cards, down, up, strict=True):
            card.y = (a + b) / 2


def _edge_path(cards: list[_Card]) -> str:
    first, last = cards[0], cards[-1]
    x, y = first.x + first.width, first.y
    path = [f"M{x:.1f} {y:.1f}"]
    for card in cards[1:]:
        end = card.x - (7 if card is last else 0)
        bend = (end - x) / 2
        path.append(f"C{x + bend:.1f} {y:.1f} {end - bend:.1f} {card.y:.1f} {end:.1f} {card.y:.1f}")
        x, y = end, card.y
        if card is not last:
            x += card.width
            path.append(f"H{x:.1f}")
    return f'<path d="{" ".join(path)}"/><path class="tip" d="M{x + 6:.1f} {y:.1f}l-7 -3.5v7z"/>'


def _card_svg(card: _Card, step: int | None) -> str:
    now = " now" if step is not None and step in card.steps else ""
    at = " ".join(map(str, card.steps))
    top = card.y - card.height / 2
    lines = [
        f'<g class="{card.kind}{now}" data-at="{at}">'
        f'<rect x="{card.x:.1f}" y="{top:.1f}" width="{card.width:.1f}" '
        f'height="{card.height:.1f}" rx="5"/>'
    ]
    for i, text in enumerate(card.texts, 1):
        unknown = ' visibility="hidden"' if step is not None and text.step > step else ""
        lines.append(
            f'<text class="{text.kind}" data-step="{text.step}"{unknown} '
            f'x="{card.x + _PADDING:.1f}" y="{top + i * _LINE + 1:.1f}">{escape(text.words)}</text>'
        )
    return "".join(lines) + "</g>"


def draw(graph: RecordedGraph, step: int | None = None) -> str:
    """Return the graph as SVG, after so many of its steps."""
    drawing = _Drawing(graph)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" width="{drawing.width:.0f}" '
        f'height="{drawing.height:.0f}" viewBox="0 0 {drawing.width:.1f} {drawing.height:.1f}">'
        f"<style>{_STYLE}</style>"
    ]
    parts += (_edge_path([drawing.cards[i] for i in chain]) for chain in drawing.chains)
    parts += (_card_svg(card, step) for card in drawing.cards if card.texts)
    return "\n".join(parts) + "\n</svg>"


_SCRIPT = """(() => {
  const root = document.getElementById("ID"), words = WORDS;
  const all = root.querySelector("input"), text = root.querySelector("output");
  const show = (step) => {
    all.value = step;
    text.textContent = words[step];
    for (const e of root.querySelectorAll("[data-step]"))
      e.setAttribute("visibility", +e.dataset.step <= step ? "visible" : "hidden");
    for (const e of root.querySelectorAll("[data-at]"))
      e.classList.toggle("now", e.dataset.at.split(" ").includes(String(step)));
  };
  root.querySelector("div").style.display = "";
  all.addEventListener("input", () => show(+all.value));
  const [back, on] = root.querySelectorAll("button");
  back.addEventListener("click", () => show(Math.max(0, +all.value - 1)));
  on.addEventListener("click", () => show(Math.min(+all.max, +all.value + 1)));
  text.textContent = words[words.length - 1] + "; step back with the buttons";
})();"""


def page_part(graph: RecordedGraph) -> str:
    """Return the picture as HTML, with controls where scripts run."""
    steps = graph.steps()
    forward = sum(step.phase == "forward" for step in steps)
    words = ["before the first step"]
    for i, step in enumerate(steps):
        of = (i + 1, forward) if i < forward else (i + 1 - forward, len(steps) - forward)
        words.append(f"{step.phase} {of[0]} of {of[1]}: {step.text}")
    name = f"graph-{secrets.token_hex(4)}"  # others may be on the page
    script = _SCRIPT.replace("ID", name).replace("WORDS", _safe_json(words))
    return (
        f'<div id="{name}" style="max-width:100%;overflow-x:auto">'
        '<div style="display:none;font:13px sans-serif;margin:4px 0">'
        '<button type="button" aria-label="one step back">◀</button> '
        f'<input type="range" min="0" max="{len(steps)}" value="{len(steps)}" '
        'style="vertical-align:middle;width:220px" aria-label="step"> '
        '<button type="button" aria-label="one step on">▶</button> '
        f"<output></output></div>\n{draw(graph)}\n</div>\n<script>{script}</script>"
    )


def _safe_json(words: list[str]) -> str:
    return json.dumps(words).replace("<", "\\u003c")  # nothing in it ends the script
