"""Runs programs with state in the library and in the plain interpreter, and compares.

    python tests/python/stateful_check.py FIRST COUNT [--reduce N] [--only WRAPPER] [--show SEED]

counts the differences by wrapper and kind. The programs run in a child process, so that one that
crashes or hangs is a difference like others; `--reduce` prints the first N of each kind made small.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

import plain_handles
from stateful_programs import write

LIMIT = 1e4  # larger values end the comparison: rounding would decide
TOLERANCE = 1e-8


class InvalidProgramError(Exception):
    """The plain interpreter cannot run the program: a fault of the writer's."""


@dataclass(frozen=True)
class Difference:
    kind: str
    where: str
    detail: str


def run(source: str, library: Any) -> tuple[list[Any], Exception | None]:
    """What the program shows, and what ended it."""
    scope: dict[str, Any] = {"np": np, "ad": library, "__name__": "program"}
    try:
        exec(compile(source, "<program>", "exec"), scope)
    except Exception as error:
        return scope.get("seen", []), error
    return scope["seen"], None


def expected(source: str) -> list[Any]:
    with np.errstate(all="ignore"):
        seen, error = run(source, plain_handles)
    if error is not None and not isinstance(error, plain_handles.Refused):
        raise InvalidProgramError(repr(error)) from error
    for _, name, value in seen:
        wrong = isinstance(value, Exception) and not isinstance(value, plain_handles.Refused)
        if wrong:
            raise InvalidProgramError(f"{name}: {value!r}") from value
    assert error is None, error
    return seen


def compare(source: str) -> Difference | None:
    """The first difference between the library and the plain interpreter."""
    import adjoint

    if "gen." in source and re.search(r"^F = (batch|partly)", source, re.MULTILINE):
        return None  # members draw numbers of their own, which the interpreter cannot know
    if "ad.checkpoint" in source and re.search(r"^m\.(eval|train|scale)", source, re.MULTILINE):
        return None  # the second run sees attributes of Python as they are then
    wanted = expected(source)
    got, error = run(source, adjoint)
    for want, have in zip(wanted, got, strict=False):
        if isinstance(want[2], list | dict | np.ndarray) and _large(want[2]):
            return None
        found = _differs(want, have)
        if found and not (_gives_history_at_once(source) and _is_more_history(want, have)):
            return found
    if error is not None:
        return Difference(f"raised {_brief(error)}", "between calls", str(error))
    return None


def _gives_history_at_once(source: str) -> bool:
    """Whether loops of a program have one rule for all that they return."""
    return bool(re.search(r"ad\.(scan|while_loop|cond)", source)) and "ad.compile" in source


def _is_more_history(want: Any, have: Any) -> bool:
    return bool(want[1].endswith("requires_grad") and not want[2] and have[2])


def _brief(error: Exception) -> str:
    """The type and the head of a message, without its numbers."""
    text = re.sub(r"[\d.]+", "#", str(error).splitlines()[0] if str(error) else "")
    return f"{type(error).__name__}: {text[:70]}"


def _differs(want: Any, have: Any) -> Difference | None:
    label, name, value = want
    got = have[2]
    where = f"{label}, {name}"
    if isinstance(value, Exception):
        if not isinstance(got, Exception):
            return Difference(f"did not raise: {value}", where, f"{value}; gave {got}")
        return None
    if isinstance(got, Exception):
        return Difference(f"raised {_brief(got)}", where, str(got))
    kind = name.rsplit(".")[-1] if name.endswith(("grad", "state", "results")) else "handle"
    if name.endswith("requires_grad"):
        same = value is got
    elif kind == "grad" and value is None and got is not None:
        # Rules of several results give zeros for what only unused results depend on.
        same = not np.any(got)
    elif value is None or got is None:
        same = value is got
    else:
        same = _close(value, got)
    return None if same else Difference(f"wrong {kind}", where, f"want {value}\ngot  {got}")


def _close(want: Any, got: Any) -> bool:
    if isinstance(want, list):
        return len(want) == len(got) and all(map(_close, want, got))
    if isinstance(want, dict):
        return want.keys() == got.keys() and all(_close(want[k], got[k]) for k in want)
    if want is None or got is None:
        return want is got
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape:
        return False
    if want.dtype == np.uint64:
        return bool(np.array_equal(want, got))
    return bool(np.all(np.abs(want - got) <= TOLERANCE * (1 + np.abs(want))))


def _large(node: Any) -> bool:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return any(map(_large, node))
    if node is None or np.asarray(node).dtype == np.uint64:
        return False
    return not bool(np.all(np.abs(np.asarray(node)) < LIMIT))


# ---- many programs -------------------------------------------------------------------------------


def _child(first: int, last: int, only: str, pipe: int) -> None:
    with os.fdopen(pipe, "w") as out:
        for seed in range(first, last):
            signal.alarm(30)
            program = write(seed)
            if only and only != program.wrapper:
                continue
            out.write(json.dumps([seed, program.wrapper, "begin", ""]) + "\n")
            out.flush()
            try:
                found = compare(program.source)
            except InvalidProgramError as error:
                found = Difference(f"invalid {error}", "", "")
            kind = found.kind if found else ""
            detail = f"{found.where}: {found.detail}" if found else ""
            out.write(json.dumps([seed, program.wrapper, kind, detail]) + "\n")


def survey(first: int, count: int, only: str = "") -> Any:
    """Yield (seed, wrapper, kind, detail) of each program; the kind is empty where all is right."""
    at, last = first, first + count
    while at < last:
        read, pipe = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(read)
                _child(at, last, only, pipe)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        os.close(pipe)
        begun = None
        with os.fdopen(read) as lines:
            for line in lines:
                seed, wrapper, kind, detail = json.loads(line)
                begun = (seed, wrapper) if kind == "begin" else None
                if kind != "begin":
                    yield seed, wrapper, kind, detail
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status) and begun:
            name = signal.Signals(os.WTERMSIG(status)).name
            yield *begun, f"killed by {name}", ""
            at = begun[0] + 1
        elif status:
            raise RuntimeError(f"the child ended with {status} after {begun}")
        else:
            at = last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--only", default="", help="programs of this wrapper")
    parser.add_argument("--reduce", type=int, default=0, help="so many of each kind, made small")
    parser.add_argument("--show", action="store_true", help="print the programs whole")
    given = parser.parse_args()
    counts: Any = collections.Counter()
    kinds: Any = collections.defaultdict(list)
    for seed, wrapper, kind, detail in survey(given.first, given.count, given.only):
        counts[wrapper, bool(kind)] += 1
        if kind:
            kinds[kind].append((seed, wrapper, detail))
        if given.show:
            print(write(seed).source, f"\n# {kind}: {detail}")
    for wrapper in sorted({w for w, _ in counts}, key=lambda w: -counts[w, True]):
        wrong, right = counts[wrapper, True], counts[wrapper, False]
        print(f"{wrong:6} of {wrong + right:6}  {wrapper}")
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        wrappers = collections.Counter(w for _, w, _ in found).most_common(4)
        print(f"{len(found):6}  {kind}  seeds {[s for s, _, _ in found[:5]]}  {wrappers}")
        for seed, wrapper, detail in found[: given.reduce]:
            from stateful_reduce import reduced

            print(f"---- seed {seed}, {wrapper}: {kind}\n{reduced(seed, kind)}\n# {detail}")
            sys.stdout.flush()
    total = sum(counts.values())
    print(f"{total - sum(map(len, kinds.values()))} of {total} programs without a difference")


if __name__ == "__main__":
    main()
