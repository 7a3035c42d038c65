"""Run the benchmarks: all of them, or those named.

python tests/benchmarks [names] [options], or the same by python -m tests.benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Both ways of starting find the neighbours by the same names, and so do the worker processes.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import measure
import report
import worker

WORKLOADS = (
    "scalar_add",
    "scalar_chain",
    "small_gradient",
    "gelu",
    "indexing",
    "deep_chain",
    "compile_time",
    "import_time",
    "wheel_size",
    "node_size",
    "memory_chain",
    "softmax",
    "cross_entropy",
    "layernorm",
    "adam",
    "descent",
    "matmul",
    "linalg",
    "linalg_gradients",
    "mlp_small",
    "mlp_digits",
    "lstm",
    "hessian",
    "sample_gradients",
    "derivative_cost",
    "checkpoint_memory",
    "checkpoint_time",
    "adbench_gmm",
    "adbench_ba",
    "adbench_hand",
    "adbench_lstm",
    "char_gpt",
    "vector_math",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(WORKLOADS))
    parser.add_argument("--only", help="the variants to run, separated by commas")
    parser.add_argument("--restarts", type=int, default=measure.Effort.restarts)
    parser.add_argument("--samples", type=int, default=measure.Effort.samples)
    parser.add_argument("--seconds", type=float, default=measure.Effort.seconds)
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--record", action="store_true", help="keep as the run of the pages")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.names) - set(WORKLOADS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return chosen


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--worker":
        worker.main(sys.argv[2], sys.argv[3])
        return
    chosen = arguments()
    effort = measure.Effort(chosen.restarts, chosen.samples, chosen.seconds)
    only = chosen.only.split(",") if chosen.only else None
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows: list[measure.Series] = []
    for name in chosen.names or WORKLOADS:
        found = measure.measure(name, effort, only)
        print(report.markdown(found), flush=True)
        rows += found
        # Written as they come: a run over all of them takes long enough to be interrupted.
        (chosen.out / "benchmarks.md").write_text(report.markdown(rows), encoding="utf-8")
        (chosen.out / "benchmarks.json").write_text(measure.as_json(rows), encoding="utf-8")
    if chosen.record:
        measure.record(rows)
    try:
        report.chart(rows, chosen.out / "benchmarks.png")
    except ModuleNotFoundError as error:
        print(f"no chart: {error.name} is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
