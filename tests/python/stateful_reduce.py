"""Makes a failing program small: deletes statements and replaces expressions by their parts.

A smaller program counts when the plain interpreter runs it and the difference has the same kind.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import signal
import time
import warnings
from collections.abc import Iterator
from typing import Any

import plain_handles
from stateful_check import compare, run
from stateful_programs import HEADER, write

BODIES = ("body", "orelse")
COMPOUND = (ast.BinOp, ast.Call, ast.Tuple, ast.UnaryOp, ast.Subscript)


def still_fails(source: str, kind: str) -> bool:
    """Whether the kind of difference stays; asked in a child, which may crash or hang."""
    read, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            os.close(read)
            warnings.simplefilter("ignore")
            found = compare(source)
            os.write(pipe, (found.kind if found else "").encode())
        except BaseException:  # what is no program shows no difference
            os._exit(1)
        finally:
            os._exit(0)
    os.close(pipe)
    with os.fdopen(read) as answer:
        got = answer.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        got = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return got == kind


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in BODIES:
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield body


def _without_statements(tree: ast.Module) -> Iterator[ast.Module]:
    """The program with runs of statements deleted, the longest first, or blocks opened."""
    count = sum(1 for _ in _bodies(tree))
    for which in range(count):
        length = len(list(_bodies(tree))[which])
        for size in sorted({length // 2, 4, 1} - {0}, reverse=True):
            for start in range(length - size, -1, -size):
                smaller = copy.deepcopy(tree)
                body = list(_bodies(smaller))[which]
                del body[start : start + size]
                if not body and which:
                    continue
                yield smaller
    for which in range(count):
        for at, statement in enumerate(list(_bodies(tree))[which]):
            if isinstance(statement, ast.With | ast.For | ast.If):
                smaller = copy.deepcopy(tree)
                body = list(_bodies(smaller))[which]
                body[at : at + 1] = body[at].body  # type: ignore[attr-defined]
                yield smaller


def _slots(tree: ast.AST) -> Iterator[tuple[Any, str, int | None, ast.expr]]:
    """Where expressions stand: the node, its field, the place in a list, the expression."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("draw", "ad.tensor", "call"):
            continue
        for name, value in ast.iter_fields(node):
            entries = enumerate(value) if isinstance(value, list) else [(None, value)]
            for place, entry in entries:
                read = isinstance(getattr(entry, "ctx", ast.Load()), ast.Load)
                if isinstance(entry, COMPOUND) and read:
                    yield node, name, place, entry


def _parts(expression: ast.expr) -> list[ast.expr]:
    if isinstance(expression, ast.BinOp):
        return [expression.left, expression.right]
    if isinstance(expression, ast.Call):
        return list(expression.args)
    if isinstance(expression, ast.Tuple):
        return expression.elts if len(expression.elts) == 1 else []
    if isinstance(expression, ast.Subscript):
        return [expression.value]
    return [expression.operand] if isinstance(expression, ast.UnaryOp) else []


def _with_parts(tree: ast.Module) -> Iterator[ast.Module]:
    """The program with one expression replaced by one of its parts, or by a number."""
    for which in range(sum(1 for _ in _slots(tree))):
        expression = list(_slots(tree))[which][3]
        options: list[ast.expr] = [*_parts(expression), ast.Constant(0.5)]
        for option in options:
            smaller = copy.deepcopy(tree)
            node, name, place, _ = list(_slots(smaller))[which]
            if place is None:
                setattr(node, name, copy.deepcopy(option))
            else:
                getattr(node, name)[place] = copy.deepcopy(option)
            yield smaller


def _settle(tree: ast.Module, kind: str, prelude: str, end: float) -> ast.Module:
    changed = True
    while changed:
        changed = False
        for options in (_without_statements, _with_parts):
            again = True
            while again and time.monotonic() < end:
                again = False
                for smaller in options(tree):
                    if time.monotonic() > end:
                        break
                    if still_fails(prelude + ast.unparse(smaller), kind):
                        tree, again, changed = smaller, True, True
                        break
    return tree


def reduced(seed: int, kind: str, seconds: float = 20) -> str:
    """The program of a seed made small, without the prelude's functions that it does not use."""
    source = write(seed).source
    cut = source.rindex("return mapped\n") + len("return mapped\n")
    prelude, own = source[:cut], source[cut:]
    end = time.monotonic() + seconds
    return ast.unparse(_settle(ast.parse(own), kind, prelude, end))


def standing_alone(seed: int, kind: str) -> str:
    """The small program with its header, prelude and what it must show."""
    prelude = write(seed).source
    prelude = prelude[: prelude.rindex("return mapped\n") + len("return mapped\n")]
    own = reduced(seed, kind)
    wanted = run(prelude + own, plain_handles)[0]
    lines = [f"# {label}, {name}: {value}" for label, name, value in wanted]
    text = re.sub(r"\n{3,}", "\n\n\n", f"{HEADER}\n{prelude}\n\n{own}\n")
    return text + "\nfor entry in seen:\n    print(*entry)\n" + "\n".join(lines) + "\n"
