"""What was recorded to compute a tensor, as an object that prints as a tree and draws itself.

The walk over the graph is the core's; here its rows become nodes, lines of text and steps, and
`_graph_picture` draws them. A graph of any size is cut to the nodes that are shown first, and
nothing here recurses.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import adjoint as ad
from adjoint import _core
from adjoint._arguments import check_count
from adjoint._core import DType, Tensor

__all__ = ["GraphNode", "GraphStep", "RecordedGraph", "graph"]

_DEEPEST = 24  # levels of a printed tree


@dataclasses.dataclass(frozen=True, eq=False)
class GraphNode:
    """One value of a `RecordedGraph`: data, or the result of an operation.

    Attributes
    ----------
    number : int
        Its place among all nodes; operands have lower numbers than results.
    op : str or None
        The operation that made it; None for data.
    attrs : str
        Parameters of the operation, as in ``" axes=[0]"``.
    inputs : tuple
        The numbers of the operands. One that no derivative needs is not kept, in its place stands
        a Tensor with its value if it is a number, or None.
    shape, dtype
        Of the value.
    name : str or None
        What the value is called.
    requires_grad : bool
        Whether a derivative passes through it.
    value, adjoint : Tensor or None
        The value, and the derivative of the output with respect to it.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True, name="w")
    >>> node = (w * w).graph().nodes[-1]
    >>> node.op, node.value.item()
    ('multiply', 9.0)
    """

    number: int
    op: str | None
    attrs: str
    inputs: tuple[int | Tensor | None, ...]
    shape: tuple[int, ...]
    dtype: DType
    name: str | None
    requires_grad: bool
    value: Tensor | None = None
    adjoint: Tensor | None = None

    @property
    def is_literal(self) -> bool:
        """Whether it is a number without a name, which is written into the operation it enters."""
        return (
            self.op is None
            and self.name is None
            and not self.requires_grad
            and self.shape == ()
            and self.value is not None
        )


@dataclasses.dataclass(frozen=True, eq=False)
class GraphStep:
    """One step through a `RecordedGraph`: an operation run, or an adjoint completed.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True, name="w")
    >>> for step in (w * w).graph().steps():
    ...     print(step.phase, step.text)
    forward multiply(w, w) = 9
    backward the adjoint of multiply(w, w) is 1; it goes on to w
    backward the adjoint of w is 6
    """

    phase: str  # "forward" or "backward"
    node: GraphNode
    text: str


class RecordedGraph:
    """What was recorded to compute a tensor; `Tensor.graph` makes one.

    It prints as a tree, and draws itself in a notebook, with buttons that step forwards through
    the operations and backwards through the adjoints. ``len`` is the number of all nodes.

    Attributes
    ----------
    nodes : tuple of GraphNode
        Those that are shown, operands before results; the last is the tensor itself.
    hidden : dict
        How many others there are, by the name of the operation; data is under ``""``.

    Examples
    --------
    >>> import adjoint as ad
    >>> w = ad.tensor(3.0, requires_grad=True, name="w")
    >>> print((w**2 + 1.0).graph())
    add(·, 1)  float64 ()  = 10  adjoint 1
    └─ square  float64 ()  = 9   adjoint 1
       └─ w    float64 ()  = 3   adjoint 6
    """

    def __init__(self, size: int, nodes: tuple[GraphNode, ...], hidden: dict[str, int]) -> None:
        self.nodes = nodes
        self.hidden = hidden
        self._size = size
        self._by_number = {node.number: node for node in nodes}

    @property
    def output(self) -> GraphNode:
        """The tensor whose graph this is."""
        return self.nodes[-1]

    def __len__(self) -> int:
        return self._size

    def find(self, number: int) -> GraphNode | None:
        """Return the node of this number, or None if it is not shown."""
        return self._by_number.get(number)

    def operands(self, node: GraphNode) -> list[GraphNode | int]:
        """Return the operands of a node that are values of the graph, each once: nodes, or the
        numbers of those that are not shown. Numbers without a name are part of the operation.
        """
        found = {i: self.find(i) for i in node.inputs if isinstance(i, int)}
        return [o or i for i, o in found.items() if o is None or not o.is_literal]

    def _literal(self, operand: int | Tensor | None) -> str | None:
        """Return the text of an operand that is written into the operation, None of others."""
        if operand is None:
            return "?"
        if isinstance(operand, Tensor):
            return value_text(operand)
        found = self.find(operand)
        return value_text(found.value) if found and found.is_literal else None

    # ---- Words -----------------------------------------------------------------------------

    def title(self, node: GraphNode, *, with_attrs: bool = True) -> str:
        """Return what a node is called: its name, its operation with the numbers in it, or both."""
        if node.op is None:
            return node.name or ("parameter" if node.requires_grad else "data")
        operation = f"{node.op}{self._literals(node)}{node.attrs if with_attrs else ''}"
        return f"{node.name} = {operation}" if node.name else operation

    def _literals(self, node: GraphNode) -> str:
        texts = [self._literal(operand) for operand in node.inputs]
        if all(text is None for text in texts):
            return ""
        return f"({', '.join(text or '·' for text in texts)})"

    def _phrase(self, node: GraphNode | int) -> str:
        if isinstance(node, int):
            return "…"
        return node.name or (node.op and self._application(node)) or self.title(node)

    def _application(self, node: GraphNode) -> str:
        def word(operand: int | Tensor | None) -> str:
            literal = self._literal(operand)
            if literal is not None:
                return literal
            found = self.find(operand) if isinstance(operand, int) else None
            return (found.name or found.op or self.title(found)) if found else "…"

        operands = ", ".join(word(operand) for operand in node.inputs)
        return f"{node.op}({operands}{',' if operands and node.attrs else ''}{node.attrs})"

    # ---- Steps -----------------------------------------------------------------------------

    def steps(self) -> list[GraphStep]:
        """Return the steps of a run: each operation forwards, then each adjoint backwards.

        When the sweep comes to a node its adjoint is complete, for all that read the value have
        had their turn.

        Returns
        -------
        list of GraphStep
        """
        out = []
        for node in self.nodes:
            if node.op is None:
                continue
            name = f"{node.name} = " if node.name else ""
            value = f" = {value_text(node.value)}" if node.value is not None else ""
            out.append(GraphStep("forward", node, f"{name}{self._application(node)}{value}"))
        for node in reversed(self.nodes):
            if node.adjoint is None:
                continue
            onward = self.operands(node)
            names = [self._phrase(o) for o in onward if isinstance(o, int) or o.requires_grad]
            text = f"the adjoint of {self._phrase(node)} is {value_text(node.adjoint)}"
            if names:
                text += f"; it goes on to {_listed(names)}"
            out.append(GraphStep("backward", node, text))
        return out

    # ---- Text ------------------------------------------------------------------------------

    def __str__(self) -> str:
        rows = self._tree_rows()
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if self.hidden:
            lines.append(f"… {self.hidden_text()}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _tree_rows(self) -> list[tuple[str, str, str, str]]:
        rows = []
        printed: set[int] = set()
        shared = self._shared()
        stack = [(self.output.number, "", "", 0)]
        while stack:
            number, lead, below, depth = stack.pop()
            node = self._by_number[number]
            mark = f" #{number}" if number in shared else ""
            if number in printed:
                rows.append((f"{lead}{self.title(node)}{mark}", "(above)", "", ""))
                continue
            printed.add(number)
            children = [o.number for o in self.operands(node) if isinstance(o, GraphNode)]
            cut = depth == _DEEPEST and children
            value, adjoint = node.value, node.adjoint
            rows.append(
                (
                    f"{lead}{self.title(node)}{mark}{' …' if cut else ''}",
                    f"{node.dtype} {node.shape}",
                    "" if value is None else f"= {value_text(value)}",
                    "" if adjoint is None else f"adjoint {value_text(adjoint)}",
                )
            )
            for i, child in reversed(list(enumerate([] if cut else children))):
                last = i == len(children) - 1
                branch, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
                stack.append((child, below + branch, below + rest, depth + 1))
        return rows

    def _shared(self) -> set[int]:
        once: set[int] = set()
        more: set[int] = set()
        for node in self.nodes:
            for operand in self.operands(node):
                if isinstance(operand, GraphNode) and (operand.op or operand.name is None):
                    (more if operand.number in once else once).add(operand.number)
        return more

    def hidden_text(self) -> str:
        """Return what is not shown, in words."""
        parts = sorted(self.hidden.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{count} {name or 'data'}" for name, count in parts[:3]]
        if len(parts) > 3:
            shown.append(f"{sum(count for _, count in parts[3:])} others")
        return f"{sum(self.hidden.values())} more nodes: {', '.join(shown)}"

    # ---- Pictures --------------------------------------------------------------------------

    def svg(self, step: int | None = None) -> str:
        """Return a picture of the graph as SVG.

        Parameters
        ----------
        step : int, optional
            Show what is known after so many of the `steps`, and mark the last of them. All by
            default.

        Returns
        -------
        str

        Examples
        --------
        >>> import adjoint as ad
        >>> w = ad.tensor(3.0, requires_grad=True, name="w")
        >>> (w * w).graph().svg()[:4]
        '<svg'
        """
        from adjoint._graph_picture import draw

        count = len(self.steps())
        if step is not None and not 0 <= step <= count:
            raise ValueError(f"[graph] step must be from 0 to {count}, not {step}")
        return draw(self, step)

    def html(self) -> str:
        """Return the picture with buttons that step through it, as a piece of HTML.

        It needs nothing from outside. Where scripts do not run, the whole picture is shown.

        Returns
        -------
        str
        """
        from adjoint._graph_picture import page_part

        return page_part(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path
            Ends with ``.svg``, or with ``.html`` for one with buttons that step through it.

        Raises
        ------
        ValueError
            If the name ends with something else.
        """
        kind = os.path.splitext(os.fspath(path))[1].lower()
        if kind == ".svg":
            text = self.svg()
        elif kind in (".html", ".htm"):
            text = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>graph</title>\n{self.html()}'
        else:
            raise ValueError(f"[graph] a picture is saved as .svg or .html, not {kind or 'no'!r}")
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return self.html()


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _number_text(value: bool | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _entries_text(entries: Any, depth: int) -> str:
    if depth == 0:
        return _number_text(entries)
    return f"[{', '.join(_entries_text(e, depth - 1) for e in entries)}]"  # a level per axis


def value_text(value: Tensor | None) -> str:
    """Return a value in a few characters: small ones in full, others by their range."""
    if value is None:
        return ""
    if value.size <= 4:
        text = _entries_text(value.tolist(), value.ndim)
        if len(text) <= 32:
            return text
    if value.size == 0:
        return "[]"
    if value.dtype == ad.bool:
        return f"{ad.sum(value).item()} of {value.size} true"
    return f"{_number_text(ad.min(value).item())} … {_number_text(ad.max(value).item())}"


def graph(
    tensor: Tensor,
    *,
    values: bool = True,
    adjoints: bool = True,
    grad: Any = None,
    names: Mapping[str, Any] | None = None,
    max_nodes: int = 60,
) -> RecordedGraph:
    """Return the graph of a tensor: see `Tensor.graph`."""
    max_nodes = check_count("graph", "max_nodes", max_nodes, 1)
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(
            "[graph] names must map names to tensors, as dict(w=w) or locals() do, not "
            f"{type(names).__name__}"
        )
    called = {}
    if names is not None:
        called = {name: t for name, t in names.items() if isinstance(t, Tensor) and name != "_"}
    size, rows, hidden = _core._recorded_graph(
        tensor, max_nodes, bool(values), bool(adjoints), grad, called
    )
    nodes = tuple(GraphNode(**{**row, "inputs": tuple(row["inputs"])}) for row in rows)
    return RecordedGraph(size, nodes, hidden)
