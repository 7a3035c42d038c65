"""The tables and the bar chart of a run, and those of the recorded run that the pages show."""

from __future__ import annotations

import importlib
import math
import statistics
from pathlib import Path
from typing import Any

from contract import AtLeast, AtMost, GeometricMean
from measure import Series, ratio

UNITS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "arrays": ((1.0, "arrays"),),
    "ratio": ((1.0, "×"),),
}


def amount(value: float, unit: str) -> str:
    fitting = [entry for entry in UNITS[unit] if abs(value) >= entry[0]]
    scale, name = fitting[0] if fitting else UNITS[unit][-1]
    return f"{value / scale:.3g} {name}"


def _own(series: Series, rows: list[Series], variant: str = "adjoint") -> Series | None:
    for row in rows:
        if row.case == series.case and row.variant == variant and not row.note:
            return row
    return None


def markdown(rows: list[Series]) -> str:
    """Return one table per workload; costs are per operation, ratios are peer over adjoint."""
    parts = []
    for name in dict.fromkeys(row.workload for row in rows):
        module = importlib.import_module(f"workloads.{name}")
        of_workload = [row for row in rows if row.workload == name]
        title = (module.__doc__ or name).strip().splitlines()[0]
        lines = [f"## {name}", "", title, ""]
        lines += ["| case | variant | minimum | median | × adjoint, minima | × adjoint, medians |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in of_workload:
            lines.append(_row(row, _own(row, of_workload)))
        verdicts = [f"* {text}" for text in judge(module, of_workload)]
        parts.append("\n".join([*lines, "", *verdicts] if verdicts else lines))
    return "\n\n".join(parts) + "\n"


def _row(row: Series, own: Series | None) -> str:
    if row.note:
        note = " ".join(row.note.split()).replace("|", "/")
        return f"| {row.case} | {row.variant} | {note} | | | |"
    cells = [row.case, row.variant, amount(row.minimum, row.unit), amount(row.median, row.unit)]
    if own is None or own is row:
        cells += ["", ""]
    else:
        pairs = [p / o for p, o in zip(row.minima, own.minima, strict=True)]
        cells.append(f"{statistics.median(pairs):.3g} ({min(pairs):.3g} to {max(pairs):.3g})")
        cells.append(f"{ratio(row.medians, own.medians):.3g}")
    return "| " + " | ".join(cells) + " |"


def _opponent(row: Series, rows: list[Series]) -> Series | None:
    """What of ours a peer is compared with: a program with programs, eager work with eager work."""
    if ".jit" in row.variant or ".compile" in row.variant:
        for variant in ("adjoint compiled", "adjoint scan"):
            if own := _own(row, rows, variant):
                return own
    return _own(row, rows)


def cell(row: Series | None, rows: list[Series]) -> str:
    """A cost and, of a peer, how many times ours it is; bold where the peer is cheaper."""
    if row is None or row.note:
        return ""
    text = amount(row.median, row.unit)
    own = _opponent(row, rows)
    if row.variant.startswith("adjoint") or own is None:
        return text
    times = ratio(row.minima, own.minima)
    factor = f"{times:.0f}×" if times >= 100 else f"{times:.2g}×"
    return f"{text}, {f'**{factor}**' if row.minimum < own.minimum else factor}"


def page(rows: list[Series], conditions: dict[str, str]) -> str:
    """Return a table per workload, its variants side by side."""
    told = "; ".join(f"{name} {value}" for name, value in conditions.items())
    parts = [f"Recorded on {told}."]
    for name in dict.fromkeys(row.workload for row in rows):
        module = importlib.import_module(f"workloads.{name}")
        title = (module.__doc__ or name).strip().split("\n\n")[0].replace("\n", " ")
        of_workload = [row for row in rows if row.workload == name]
        found = {(row.case, row.variant): row for row in of_workload}
        variants = [v for v in module.VARIANTS if any(found[c, v].minima for c, _ in found)]
        head = [name.replace("_", " "), *variants]
        lines = [f"### {name.replace('_', ' ')}", "", title, ""]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for case in dict.fromkeys(row.case for row in of_workload):
            cells = [cell(found.get((case, v)), of_workload) for v in variants]
            lines.append("| " + " | ".join([case.replace("|", "/") or "the whole", *cells]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


# What the README shows, wins and losses: a workload, its case, and the words for it.
HIGHLIGHTS = (
    ("small_gradient", "", "`ad.grad(lambda w: w**2 + 1)(5.0)`, the whole call"),
    ("gelu", "", "tanh-GELU from primitives, 10⁷ float32, value and gradient"),
    ("mlp_digits", "", "training step, 784-256-128-10 network, batch 128"),
    ("adbench_gmm", "gradient", "ADBench's Gaussian mixtures, gradient"),
    ("adam", "1 x 1e7", "a step of Adam in plain Python, one parameter of 10⁷"),
)


def highlights(rows: list[Series]) -> str:
    """Return the few rows of the README."""
    lines = ["| work | adjoint | compiled | others |", "|---|---|---|---|"]
    for workload, case, words in HIGHLIGHTS:
        of_case = [r for r in rows if (r.workload, r.case) == (workload, case) and not r.note]
        own = {r.variant: cell(r, of_case) for r in of_case if r.variant.startswith("adjoint")}
        peers = [f"{r.variant} {cell(r, of_case)}" for r in of_case if r.variant not in own]
        ours = [own.get(variant, "") for variant in ("adjoint", "adjoint compiled")]
        lines.append(f"| {words} | {ours[0]} | {ours[1]} | {'; '.join(peers)} |")
    return "\n".join(lines) + "\n"


def judge(module: Any, rows: list[Series]) -> list[str]:
    """Return a line per bar and case."""
    verdicts = []
    for bar in getattr(module, "BARS", ()):
        if isinstance(bar, GeometricMean):
            verdicts += _judge_mean(bar, rows)
            continue
        for row in rows:
            applies = bar.cases is None or row.case in bar.cases
            if row.variant == bar.variant and applies:
                verdicts.append(_judge(bar, row, rows))
    return [text for text in verdicts if text]


def _judge(bar: AtMost | AtLeast, row: Series, rows: list[Series]) -> str:
    what = f"{row.variant} {row.case}".strip()
    if row.note:
        return f"NOT MEASURED: {what}"
    if isinstance(bar, AtMost):
        cost = statistics.median(row.minima)
        word = "reached" if cost <= bar.limit else "MISSED"
        return f"{word}: {what} {amount(cost, row.unit)}, bar {amount(bar.limit, row.unit)}"
    peer = _own(row, rows, bar.peer)
    if peer is None:
        return ""
    factor = ratio(peer.minima, row.minima)
    word = "reached" if factor >= bar.factor else "MISSED"
    return f"{word}: {what} {factor:.3g} × faster than {bar.peer}, bar {bar.factor:g}"


def _judge_mean(bar: GeometricMean, rows: list[Series]) -> list[str]:
    factors = {}
    for row in rows:
        if row.variant != bar.variant or row.note:
            continue
        peers = [p for p in rows if p.case == row.case and p is not row and not p.note]
        if peers:
            factors[row.case] = min(ratio(p.minima, row.minima) for p in peers)
    if not factors:
        return []
    mean = math.exp(statistics.fmean(math.log(f) for f in factors.values()))
    case = min(factors, key=lambda c: factors[c])
    reached = "reached" if mean >= bar.factor else "MISSED"
    worst = "reached" if factors[case] >= bar.worst else "MISSED"
    return [
        f"{reached}: geometric mean over the best peer {mean:.3g}, bar {bar.factor:g}",
        f"{worst}: least, {case}, {factors[case]:.3g}, bar {bar.worst:g}",
    ]


def chart(rows: list[Series], path: Path) -> None:
    """Draw how many times adjoint's cost every peer has, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bars = []
    for row in rows:
        same = [r for r in rows if r.workload == row.workload]
        own = _own(row, same)
        if own is not None and own is not row and not row.note:
            bars.append((f"{row.workload} {row.case}".strip(), row.variant, own, row))
    if not bars:
        return
    variants = sorted({variant for _, variant, _, _ in bars})
    colours = {v: plt.get_cmap("tab10")(i % 10) for i, v in enumerate(variants)}
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.2 * len(bars)), layout="constrained")
    labels = []
    for y, (label, variant, own, row) in enumerate(bars):
        axes.barh(y, ratio(row.minima, own.minima) - 1, left=1, color=colours[variant])
        labels.append(label if y == 0 or bars[y - 1][0] != label else "")
    axes.set_yticks(range(len(bars)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("cost relative to adjoint (right of 1: adjoint is cheaper), one thread")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[v]) for v in variants]
    axes.legend(handles, variants, loc="best", fontsize=8)
    figure.savefig(path, dpi=130)
