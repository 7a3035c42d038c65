"""The controller: restarts the variants, interleaves their samples and pairs the results.

Of every restart the minimum and the median of each variant are kept; ratios are taken within a
restart, where both sides saw the same machine, and the median over the restarts is reported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ONE_THREAD = {
    "ADJOINT_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass
class Effort:
    """How much is measured."""

    restarts: int = 5
    samples: int = 25
    seconds: float = 1.5  # of one variant of one case in one restart; one sample is always taken


@dataclass
class Series:
    """What one variant cost in one case, one entry per restart."""

    workload: str
    case: str
    variant: str
    unit: str
    minima: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def minimum(self) -> float:
        return min(self.minima)

    @property
    def median(self) -> float:
        return statistics.median(self.medians)


def ratio(peer: list[float], own: list[float]) -> float:
    """Return the median over the restarts of how many times more the peer cost."""
    return statistics.median(p / o for p, o in zip(peer, own, strict=True))


class Worker:
    """A variant's process."""

    def __init__(self, workload: str, variant: str) -> None:
        command = [sys.executable, str(Path(__file__).parent), "--worker", workload, variant]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD,
            text=True,
        )

    def ask(self, **request: str) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the process ended with code {self._process.wait()}"}
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()


def measure(name: str, effort: Effort, only: list[str] | None = None) -> list[Series]:
    """Run one workload; return its series in the order of its cases and variants."""
    module = importlib.import_module(f"workloads.{name}")
    variants = [v for v in module.VARIANTS if only is None or v in only]
    table = {
        (case, variant): Series(name, case, variant, module.UNIT)
        for case in module.CASES
        for variant in variants
    }
    for restart in range(effort.restarts):
        workers = {v: Worker(name, v) for v in variants}
        try:
            for case in module.CASES:
                # Whoever runs first may find the caches or the clock otherwise: take turns.
                order = variants if restart % 2 == 0 else variants[::-1]
                _measure_case(table, case, [(v, workers[v]) for v in order], effort)
        finally:
            for worker in workers.values():
                worker.close()
    return list(table.values())


def _measure_case(
    table: dict[tuple[str, str], Series],
    case: str,
    workers: list[tuple[str, Worker]],
    effort: Effort,
) -> None:
    costs: dict[str, list[float]] = {}
    spent: dict[str, float] = {}
    running = dict(workers)
    for variant, worker in workers:
        series = table[case, variant]
        reply = {"error": series.note} if series.note else worker.ask(do="prepare", case=case)
        if reply:
            series.note = reply.get("missing") or reply["error"]
            del running[variant]
        else:
            costs[variant], spent[variant] = [], 0.0
    for _ in range(effort.samples):
        for variant, worker in list(running.items()):
            if spent[variant] > effort.seconds and costs[variant]:
                continue
            start = time.perf_counter()
            reply = worker.ask(do="sample")
            spent[variant] += time.perf_counter() - start
            if "cost" in reply:
                costs[variant].append(reply["cost"])
            else:
                table[case, variant].note = reply["error"]
                del running[variant]
    for variant, found in costs.items():
        if variant in running:
            table[case, variant].minima.append(min(found))
            table[case, variant].medians.append(statistics.median(found))


def as_json(series: list[Series]) -> str:
    return json.dumps([asdict(s) for s in series], indent=1)


RECORD = Path(__file__).resolve().parent / "recorded.json"


def record(series: list[Series]) -> None:
    """Keep a run as the one that the pages show: workloads that it has not keep what they had.

    Four digits are kept, which is more than a run repeats.
    """
    rows, _ = recorded() if RECORD.exists() else ([], {})
    measured = {s.workload for s in series}
    kept = [s for s in rows if s.workload not in measured] + series
    texts = []
    for s in kept:
        row = asdict(s)
        for key in ("minima", "medians"):
            row[key] = [float(f"{value:.4g}") for value in row[key]]
        texts.append(json.dumps(row))
    head, lines = json.dumps(conditions(), ensure_ascii=False), ",\n".join(texts)
    text = f'{{"conditions": {head}, "rows": [\n{lines}\n]}}\n'
    RECORD.write_text(text, encoding="utf-8")


def recorded() -> tuple[list[Series], dict[str, str]]:
    """The run that the pages show, and what it was measured on."""
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    return [Series(**row) for row in found["rows"]], found["conditions"]


def conditions() -> dict[str, str]:
    """The date, the processor and the versions, as the pages tell them."""
    told = {"the": time.strftime("%d %B %Y")}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            told["processor"] = line.split(":", 1)[1].strip()
            break
    told["Python"] = sys.version.split()[0]
    for package, name in (("numpy", "NumPy"), ("torch", "PyTorch"), ("jax", "JAX")):
        try:
            told[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return told
