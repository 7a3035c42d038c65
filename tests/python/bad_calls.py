"""Calls of the whole public namespace with arguments that nobody should pass.

Run as a program it makes the calls of one seed, in order, and prints a line of JSON per fault:

    python bad_calls.py SEED [--first N] [--count N] [--seconds T] [--only NAME]

A call takes a target (a function, or a method of a fresh object), arguments that fit it, and puts
others in the places of some of them. It must be accepted, or raise what `complaint` allows, and
leave the tensors it was given as they were. With --progress the number of each call is written to
a file descriptor before it is made, so that whoever started the program can name a call that ends
it.
"""

from __future__ import annotations

import argparse
import faulthandler
import inspect
import json
import os
import pathlib
import random
import re
import resource
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import adjoint as ad
from bad_values import BAD, Planted, Rebinds

# Longer than any call may take.
LIMIT_S = 60
MEMORY = 6 << 30


# ---- Values that fit -----------------------------------------------------------------------------


def small_function(*args: Any, **_kwargs: Any) -> Any:
    return ad.sum(ad.asarray(args[0]) * 2.0) if args else ad.tensor(1.0)


def at_most(n: int) -> Callable[..., bool]:
    left = [n]

    def goes_on(*_args: Any) -> bool:
        left[0] -= 1
        return left[0] > 0

    return goes_on


def tensor(rng: random.Random) -> Any:
    return rng.choice(
        [
            lambda: ad.tensor([1.0, 2.0, 3.0]),
            lambda: ad.tensor([[1.0, 2.0], [3.0, 4.0]]),
            lambda: ad.tensor(2.5),
            lambda: ad.asarray([1, 2, 3]),
            lambda: ad.asarray([True, False]),
            lambda: ad.tensor([1.0, 2.0], requires_grad=True),
            lambda: ad.ones((3, 4), dtype=ad.float32),
            lambda: ad.ones((80, 90)) * 1.5,
            lambda: np.arange(6.0).reshape(2, 3),
            lambda: 1.5,
            lambda: [1.0, 2.0],
        ]
    )()


FITS: dict[str, list[Callable[[random.Random], Any]]] = {
    "f": [lambda r: small_function, lambda r: ad.sum, lambda r: lambda *a: a[0]],
    "axis": [lambda r: 0, lambda r: -1, lambda r: (0,), lambda r: None],
    "shape": [lambda r: (2, 3), lambda r: 6, lambda r: [1]],
    "dtype": [lambda r: ad.float64, lambda r: "float32", lambda r: None, lambda r: np.int64],
    "flag": [lambda r: True, lambda r: False],
    "n": [lambda r: 3, lambda r: 0],
    "number": [lambda r: 0.5, lambda r: 0.001],
    "key": [lambda r: 0, lambda r: slice(None), lambda r: (0,), lambda r: ..., lambda r: [0, 1]],
    "tree": [tensor, lambda r: {"a": tensor(r), "b": (tensor(r), None)}, lambda r: [tensor(r)]],
    "tensor": [tensor],
    "many": [lambda r: [tensor(r), tensor(r)], lambda r: (ad.ones(2), ad.ones(2))],
    "name": [lambda r: "name", lambda r: None],
    "axes": [lambda r: (0, 1), lambda r: (1, 0), lambda r: 0],
    "point": [lambda r: (ad.tensor([1.0, 2.0]),), lambda r: (2.0,)],
    "dict": [lambda r: {"a": ad.ones(2)}, lambda r: {}],
    "goes_on": [lambda r: at_most(3)],
    "steps": [lambda r: 2],
    "data": [tensor, lambda r: [[1, 2], [3, 4]], lambda r: np.arange(4)],
    "cls": [lambda r: type("Node", (), {})],
    "start": [lambda r: ad.tensor([1.0, 2.0]), lambda r: {"a": ad.ones(2)}, lambda r: 0.5],
}
LARGE = ("tensor large",)
KINDS = {
    "start": "x0 p0",
    "f": "f fun func solver true_fn false_fn body_fn flatten unflatten vjp forward backward rule",
    "goes_on": "cond_fn pred",
    "axis": "axis argnums in_axes out_axes static_argnums donate_argnums",
    "axes": "axes source destination",
    "shape": "shape",
    "dtype": "dtype type from_ to",
    "flag": "keepdims requires_grad has_aux copy endpoint descending enabled forward_ inf bias "
    "trainable persistent watch_accessed_variables create_graph mode strict reverse vectorized",
    "n": "n num n_rows n_cols k length size in_features out_features seed low high order limit "
    "correction",
    "number": "learning_rate momentum beta1 beta2 eps weight_decay rtol atol step stop start mean "
    "std fill_value min max",
    "key": "key index",
    "tree": "tree trees params grads updates init xs operands target sources treedef state",
    "many": "arrays layers leaves",
    "name": "name names device stream api_version path",
    "point": "primals tangents args",
    "dict": "tensors metadata state_dict",
    "steps": "max_steps",
    "cls": "cls",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


# ---- Targets -------------------------------------------------------------------------------------

Maker = Callable[[random.Random], Callable[..., Any]]

OPEN: list[ad.GradientTape] = []  # tapes that were entered, for their methods to be called

# Not called, or not by this name: what they do outlives the call.
LEFT_OUT = {
    "tree.register",
    "set_num_threads",
    "examples",
    "testing.check_grads",
    "__getattr__",
    "__dir__",
}
# Python's own, or with an effect on the process.
SKIPPED_METHODS = {
    *(
        "__class__",
        "__new__",
        "__init__",
        "__init_subclass__",
        "__subclasshook__",
        "__getattribute__",
    ),
    *(
        "__getattr__",
        "__setattr__",
        "__delattr__",
        "__dir__",
        "__sizeof__",
        "__reduce__",
        "__doc__",
    ),
    *("__reduce_ex__", "__getstate__", "__hash__", "__enter__", "__exit__", "__del__", "__dict__"),
    *("__weakref__", "__module__", "__annotations__", "__abstractmethods__", "__orig_bases__"),
    *("__parameters__", "__class_getitem__", "__slots__", "__match_args__", "__array_ufunc__"),
    *("__array_priority__", "__dictoffset__", "__weaklistoffset__", "__subclasses__"),
}


def objects() -> dict[str, Maker]:
    """Makers of objects whose methods are called."""

    def leaf(_: random.Random) -> Any:
        return ad.tensor([1.0, 2.0], requires_grad=True)

    def tape(_: random.Random) -> Any:
        OPEN.append(ad.GradientTape(persistent=True))
        return OPEN[-1].__enter__()

    def custom(kind: Any) -> Maker:
        return lambda _: kind(lambda *a: a[0] * 2.0)

    def adam(_: random.Random) -> Any:
        return ad.optim.Adam([ad.tensor([1.0], requires_grad=True)])

    return {
        "Tensor": lambda r: ad.asarray(tensor(r)) + 0,
        "leaf": leaf,
        "Variable": lambda r: ad.Variable([1.0, 2.0]),
        "GradientTape": tape,
        "Generator": lambda r: ad.random.Generator(1),
        "Linear": lambda r: ad.nn.Linear(3, 2, dtype=ad.float64),
        "ReLU": lambda r: ad.nn.ReLU(),
        "Sequential": lambda r: ad.nn.Sequential(ad.nn.Linear(3, 2), ad.nn.Tanh()),
        "Adam": adam,
        "SGD": lambda r: ad.optim.SGD([ad.tensor([1.0], requires_grad=True)], learning_rate=0.1),
        "TreeDef": lambda r: ad.tree.structure({"a": 1.0, "b": (2.0, None)}),
        "DType": lambda r: ad.float64,
        "Explanation": lambda r: ad.explain(ad.ones(5000) * 2.0),
        "custom_vjp": custom(ad.custom_vjp),
        "custom_jvp": custom(ad.custom_jvp),
        "Compiled": lambda r: ad.compile(lambda *a: a[0]),
    }


def functions() -> dict[str, Maker]:
    """What is called itself: public functions and classes, and functions that they make."""
    out: dict[str, Maker] = {}
    spaces = {"": ad, "tree.": ad.tree, "io.": ad.io, "nn.": ad.nn, "optim.": ad.optim}
    spaces |= {"linalg.": ad.linalg, "random.": ad.random, "testing.": ad.testing}
    for prefix, space in spaces.items():
        for name in getattr(space, "__all__", ()):
            value = getattr(space, name)
            if callable(value) and prefix + name not in LEFT_OUT and not inspect.ismodule(value):
                if not (isinstance(value, type) and issubclass(value, BaseException)):
                    out[prefix + name] = lambda r, value=value: value
    square: Callable[..., Any] = lambda *a: ad.sum(ad.asarray(a[0]) ** 2)  # noqa: E731
    for name in ("grad", "value_and_grad", "jacobian", "hessian", "vmap", "compile", "checkpoint"):
        make = getattr(ad, name)
        out[f"{name}(f)"] = lambda r, make=make: make(square)
    out["vmap(f, in_axes)"] = lambda r: ad.vmap(square, in_axes=bad_value(r)[1])
    chosen = [0, 1, (0, 1), -1, 5, (0, 0), (0, -1), (-2, 0, 1)]
    for name in ("grad", "value_and_grad", "jacobian"):
        make = getattr(ad, name)
        out[f"{name}(f, argnums)"] = lambda r, make=make: make(square, argnums=r.choice(chosen))
    out["compile(f, static)"] = lambda r: ad.compile(lambda *a: a[0], static_argnums=0)
    out["pullback"] = lambda r: ad.vjp(lambda a, b: {"y": a * b}, 2.0, ad.ones(2))[1]
    out["pushforward"] = lambda r: ad.linearize(lambda a: a * a, ad.ones(2))[1]
    out["host_op(f)"] = lambda r: ad.host_op(lambda *a: a[0] * 2, shape=lambda *s: s[0])
    out["custom_root(f)"] = lambda r: ad.custom_root(lambda x, a: x - a, lambda g, x: x - g(x))
    out["no_grad()(f)"] = lambda r: ad.no_grad()(small_function)
    return out


def setter(o: Any, name: str) -> Callable[..., Any]:
    def set_attribute(value: Any) -> None:
        setattr(o, name, value)

    return set_attribute


def targets() -> dict[str, Maker]:
    out = functions()
    for owner, make in objects().items():
        sample = make(random.Random(0))
        for name in dir(type(sample)):
            described = getattr(type(sample), name, None)
            if name in SKIPPED_METHODS or (name[0] == "_" and not name.endswith("__")):
                continue
            if isinstance(described, (property, types.GetSetDescriptorType)):
                out[f"{owner}.{name} ="] = lambda r, m=make, n=name: setter(m(r), n)
            elif callable(described):
                out[f"{owner}.{name}"] = lambda r, m=make, n=name: getattr(m(r), n)
    reset_modes()
    return out


# ---- Calls ---------------------------------------------------------------------------------------


def bad_value(rng: random.Random) -> tuple[str, Any]:
    label = rng.choice(list(BAD))
    return label, BAD[label]()


def fitting(name: str, rng: random.Random) -> Any:
    return rng.choice(FITS[KIND_OF.get(name, "tensor")])(rng)


def parameters_of(target: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        kind = inspect.Parameter.POSITIONAL_ONLY
        return [inspect.Parameter(n, kind, default=None) for n in ("x", "y")]


def is_too_long(name: str, parameter: str, label: str) -> bool:
    """Whether a call is right to take forever: a count of steps that is huge, but a count.

    Solvers with dense matrices are right to take minutes for thousands of parameters.
    """
    if name.startswith("optim.") and label in LARGE:
        return True
    return parameter in ("order", "length", "max_steps") and label in ("2147483648", "7", "None")


def is_differentiable(x: Any) -> bool:
    return isinstance(x, ad.Tensor) and x.dtype.kind == "f"


def under(context: Any) -> Callable[..., Any]:
    def run(f: Callable[..., Any], x: Any) -> Any:
        with context():
            return f(x)

    return run


MODES: dict[str, Callable[..., Any]] = {
    "grad": lambda f, x: ad.grad(f)(x),
    "jvp": lambda f, x: ad.jvp(f, (x,), (ad.ones_like(x),)),
    "vmap": lambda f, x: ad.vmap(f)(ad.stack([x, x])),
    "compile": lambda f, x: ad.compile(f)(x),
    "grad of compile": lambda f, x: ad.grad(ad.compile(f))(x),
    "vmap of grad": lambda f, x: ad.vmap(ad.grad(f))(ad.stack([x, x])),
    "no_grad": under(ad.no_grad),
    "detect_anomaly": under(ad.detect_anomaly),
    "no deferral": under(lambda: ad.deferral(False)),
    "tape": under(ad.GradientTape),
}


class Call:
    """One call: its arguments are made here, and what they were like before."""

    def __init__(self, name: str, target: Callable[..., Any], rng: random.Random) -> None:
        self.name = name
        self.target = target
        self.shown: list[str] = []
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.labels: list[str] = []
        share = rng.choice([0.0, 0.3, 0.3, 0.7])
        must = rng.random() < 0.9
        for p in parameters_of(target):
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                named = p.kind == p.VAR_KEYWORD
                for k in range(rng.randrange(3)):
                    self._add(name, p.name, f"unknown{k}" if named else None, share, rng)
                continue
            if p.default is not p.empty and rng.random() < 0.6:
                continue
            keyword = p.kind == p.KEYWORD_ONLY or (
                p.kind == p.POSITIONAL_OR_KEYWORD and rng.random() < 0.2
            )
            self._add(name, p.name, p.name if keyword or self.kwargs else None, share, rng)
        if must and not self.labels and (self.args or self.kwargs):
            self._replace_one(rng)
        if rng.random() < 0.05:
            self._add(name, "extra", None, 1.0, rng)
        if rng.random() < 0.03:
            self._add(name, "extra", rng.choice(["unknown", "\ud800", "axis"]), 0.5, rng)
        if rng.random() < 0.03 and self.args:
            self.args.pop()
        self._plant_rebinding(rng)
        self.mode = rng.choice(list(MODES)) if rng.random() < 0.15 else None
        self.before = [(t, state_of(t)) for t in self._tensors()]

    def _add(
        self, name: str, parameter: str, keyword: str | None, share: float, rng: random.Random
    ) -> None:
        value = fitting(parameter, rng)
        if rng.random() < share:
            label, bad = bad_value(rng)
            if not is_too_long(name, parameter, label):
                value = bad
                self.labels.append(label)
        if keyword is None:
            self.args.append(value)
        else:
            self.kwargs[keyword] = value

    def _replace_one(self, rng: random.Random) -> None:
        label, bad = bad_value(rng)
        places: list[Any] = [*range(len(self.args)), *self.kwargs]
        at = rng.choice(places)
        if is_too_long(self.name, at if isinstance(at, str) else "", label):
            return
        self.labels.append(label)
        if isinstance(at, str):
            self.kwargs[at] = bad
        else:
            self.args[at] = bad

    def _plant_rebinding(self, rng: random.Random) -> None:
        """Let an argument rebind a tensor that is another argument, or the owner of the method."""
        if rng.random() > 0.05 or not self.args:
            return
        owner = getattr(self.target, "__self__", None)
        known = [x for x in (owner, *self.args) if isinstance(x, ad.Tensor)]
        if known:
            self.labels.append("rebinds")
            self.args[rng.randrange(len(self.args))] = Rebinds(rng.choice(known))

    def _tensors(self) -> list[ad.Tensor]:
        found = [x for x in (*self.args, *self.kwargs.values()) if isinstance(x, ad.Tensor)]
        owner = getattr(self.target, "__self__", None)
        return [*found, owner] if isinstance(owner, ad.Tensor) else found

    def make(self) -> Any:
        if self.mode is None:
            return self.target(*self.args, **self.kwargs)
        found = [k for k, x in enumerate(self.args) if is_differentiable(x)]
        if not found:
            return MODES[self.mode](lambda _: self._called(), ad.ones((2,)))
        return MODES[self.mode](lambda x: self._called(found[0], x), self.args[found[0]])

    def _called(self, k: int = -1, x: Any = None) -> Any:
        """Call, with a value of a transform in the place of argument k."""
        args = [x if i == k else value for i, value in enumerate(self.args)]
        self.target(*args, **self.kwargs)
        return ad.sum(ad.ones((2,)) if x is None else x)

    def text(self) -> str:
        """The arguments as far as they print."""
        parts = [plain(x) for x in self.args]
        parts += [f"{k!r}={plain(x)}" for k, x in self.kwargs.items()]
        within = f" in {self.mode}" if self.mode else ""
        return f"({', '.join(parts)}){within} bad: {self.labels}"

    def changed(self) -> str | None:
        """Which of the tensors a failed call has changed."""
        if "rebinds" in self.labels:
            return None
        for t, before in self.before:
            if state_of(t) != before:
                return f"changed {before} to {state_of(t)}"
        return None

    def may_be_large(self) -> bool:
        return any(label.lstrip("-").isdigit() and len(label) > 8 for label in self.labels) or any(
            label in ("10**5000", "7", "np.uint64", "tensor wide ints", "ctypes char")
            for label in self.labels
        )


def plain(x: Any) -> str:
    try:
        text = repr(x)
    except BaseException:
        text = "?"
    text = re.sub(r"\s+", " ", text)
    return text if len(text) < 80 else f"{text[:60]}... {type(x).__name__}"


def state_of(t: ad.Tensor) -> Any:
    """Value, dtype, shape, and what belongs to a leaf."""
    grad = t.grad
    kept = None if grad is None else grad.numpy().tobytes()
    return (t.shape, t.dtype.name, t.numpy().tobytes()[:4096], t.requires_grad, t.name, kept)


# ---- What a call may raise -----------------------------------------------------------------------

ALLOWED = (TypeError, ValueError, IndexError, OverflowError, BufferError, Planted)
LEAKS = re.compile(
    r"std::|bad_alloc|pybind11|incompatible function|incompatible constructor|Invoked with"
    r"|Unable to cast|basic_string|vector::|_M_|error return without exception|NULL|C\+\+"
)
# Names whose documentation says more.
EXTRA: dict[str, tuple[type[BaseException], ...]] = {
    "load_state_dict": (KeyError,),
    "testing.": (AssertionError,),
    "io.": (OSError,),
    "optim.": (ad.optim.EvaluationError,),
    "__delitem__": (KeyError,),
}


def complaint(name: str, error: BaseException, call: Call) -> str | None:
    """What is wrong with the way in which a call failed."""
    text = str(error)
    if LEAKS.search(text):
        return "its message speaks of the inside"
    extra = tuple(e for key, kinds in EXTRA.items() if key in name for e in kinds)
    if isinstance(error, (*ALLOWED, *extra, ad.TracedValueError, ad.AnomalyError)):
        return None
    if type(error) is RuntimeError:
        return None if text.startswith("[") else "a RuntimeError that names no operation"
    if isinstance(error, MemoryError):
        return None if call.may_be_large() else "out of memory for small input"
    read_only = "__" not in text or text.endswith("is not writable")
    if isinstance(error, AttributeError) and name.endswith(" =") and read_only:
        return None  # an attribute that is only read
    return f"{type(error).__name__} is no answer"


def where(error: BaseException) -> str:
    """The innermost lines of the package on the way to the error."""
    lines = []
    tb = error.__traceback__
    while tb:
        file = tb.tb_frame.f_code.co_filename
        if "adjoint" in file and "tests" not in file:
            lines.append(f"{pathlib.Path(file).name}:{tb.tb_lineno}")
        tb = tb.tb_next
    return " ".join(lines[-3:])


def run(options: argparse.Namespace) -> None:
    only = options.only
    names = {n: m for n, m in sorted(targets().items()) if only is None or only in n}
    end = time.monotonic() + options.seconds
    made = 0
    for i in range(options.first, options.first + options.count):
        if time.monotonic() > end:
            break
        if options.progress is not None:
            os.pwrite(options.progress, f"{i:<12}".encode(), 0)
        fault = one_call(f"{options.seed}:{i}", names)
        made += 1
        if fault:
            print(json.dumps({"seed": options.seed, "call": i, **fault}), flush=True)
    print(json.dumps({"made": made}), flush=True)


def one_call(seed: str, names: dict[str, Maker]) -> dict[str, str] | None:
    rng = random.Random(seed)
    name = rng.choice(list(names))
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    error: BaseException | None = None
    try:
        call = Call(name, names[name](rng), rng)
    except Exception:  # a target made with a bad value: its own call is in the table
        faulthandler.cancel_dump_traceback_later()
        reset_modes()
        return None
    shown = f"{name}{call.text()}"
    try:
        result = call.make()
        plain(result)
    except Exception as raised:
        error = raised
    finally:
        faulthandler.cancel_dump_traceback_later()
    ad.set_cache_limit(None)
    reset_modes()
    if error is None:
        return None
    what = complaint(name, error, call) or call.changed()
    if not what:
        return None
    message = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:300]
    return {"fault": what, "shown": shown, "error": message, "where": where(error)}


def reset_modes() -> None:
    """Leave what a call, or the making of its target, has entered."""
    while OPEN:
        OPEN.pop().__exit__(None, None, None)
    if not ad.is_grad_enabled():
        ad.enable_grad().__enter__()


def limit_memory() -> None:
    """A sanitizer's shadow takes terabytes of addresses, and it limits allocations itself."""
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    if taken < MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--only")
    parser.add_argument("--progress", type=int)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(options)
        os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
