"""The architecture as tests: who may include or import whom, and which code may use which ISA."""

from __future__ import annotations

import ast
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cpp_cases

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "cpp" / "src"
PUBLIC = ROOT / "cpp" / "include" / "adjoint"
BINDINGS = ROOT / "python" / "bindings"
PACKAGE = ROOT / "python" / "adjoint"

LAYERS = ["base", "tensor", "kernels", "graph", "ops", "transforms", "compile"]
# The package's parts above its core; each may use those before it.
PARTS = ["optim", "nn", "plot", "examples"]
TOP_LEVEL = {
    "CHANGELOG.md",
    "CMakeLists.txt",
    "CMakePresets.json",
    "LICENSE",
    "PKG-INFO",  # in a source distribution
    "README.md",
    "cpp",
    "pyproject.toml",
    "python",
    "tests",
}
MAX_LINES = 800

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def cpp_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in {".h", ".cpp"})


def quoted_includes(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in cpp_files(folder):
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT), name


# ---- C++ ----------------------------------------------------------------------------------------


def test_every_folder_of_the_library_is_a_layer() -> None:
    assert {path.parent.relative_to(SRC).parts[0] for path in cpp_files(SRC)} <= set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_includes_only_itself_and_those_to_its_left(layer: str) -> None:
    allowed = {"adjoint", *LAYERS[: LAYERS.index(layer) + 1]}
    wrong = [
        f'{path}: "{name}"'
        for path, name in quoted_includes(SRC / layer)
        if name.split("/")[0] not in allowed
    ]
    assert not wrong


def test_kernels_never_see_a_tensor() -> None:
    allowed = {"adjoint/dtype.h", "adjoint/error.h", "tensor/layout.h"}
    scratch = {"tensor/storage.h"}  # for the executors around the kernels, not for the kernels
    wrong = [
        f'{path}: "{name}"'
        for path, name in quoted_includes(SRC / "kernels")
        if name not in (allowed if path.parent.name == "isa" else allowed | scratch)
        and name.split("/")[0] not in {"base", "kernels"}
    ]
    assert not wrong


def test_public_headers_include_public_headers_only() -> None:
    names = list(quoted_includes(PUBLIC))
    assert [f'{path}: "{name}"' for path, name in names if not name.startswith("adjoint/")] == []
    missing = [n for _, n in names if not (PUBLIC.parent / n).exists()]
    assert not missing


def test_bindings_include_the_library_and_each_other() -> None:
    own = {path.name for path in cpp_files(BINDINGS)}
    allowed = {"adjoint", "bindings", *LAYERS, *own}
    wrong = [
        f'{path}: "{name}"'
        for path, name in quoted_includes(BINDINGS)
        if name.split("/")[0] not in allowed
    ]
    assert not wrong


def test_the_library_knows_nothing_of_python() -> None:
    wrong = [
        str(path)
        for folder in (SRC, PUBLIC)
        for path in cpp_files(folder)
        if re.search(r"#\s*include\s*<(Python\.h|pybind11/|numpy/)", path.read_text("utf-8"))
    ]
    assert not wrong


# ---- Python -------------------------------------------------------------------------------------


def imported_modules(path: Path) -> Iterator[str]:
    """Absolute names of all modules and members a file of the package imports."""
    package = ("adjoint", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def private_attributes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in {"ad", "adjoint"} and is_private(node.attr):
                yield f"{node.value.id}.{node.attr}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("part", PARTS)
def test_optim_nn_and_examples_use_public_names_only(part: str) -> None:
    own = f"adjoint.{part}"
    wrong = []
    for path in sorted((PACKAGE / part).rglob("*.py")):
        names = [
            name
            for name in imported_modules(path)
            if name.startswith("adjoint.")
            and not name.startswith(f"{own}.")
            and any(map(is_private, name.split(".")))
            # What is wrong with arguments and names, worded alike.
            and not name.startswith(("adjoint._arguments.", "adjoint._words."))
        ]
        wrong += [f"{path.relative_to(ROOT)}: {n}" for n in [*names, *private_attributes(path)]]
    assert not wrong


def test_the_package_imports_from_left_to_right() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0]
        if part == "__init__.py":  # it only gathers names
            continue
        later = PARTS[PARTS.index(part) + 1 :] if part in PARTS else PARTS
        for name in imported_modules(path):
            if any(f"{name}.".startswith(f"adjoint.{other}.") for other in later):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


# ---- The tree -----------------------------------------------------------------------------------


def ignored_entries() -> set[str]:
    """Names at the top that version control leaves out: builds, and what the examples write."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return {line.strip("/") for line in lines if line.startswith("/")}


def test_top_level_entries() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - ignored_entries() <= TOP_LEVEL


def test_what_the_examples_write_by_default_is_ignored() -> None:
    # Run in a checkout, as the README says, they must leave the tests as they were.
    sources = (PACKAGE / "examples").glob("*.py")
    folders = {
        name
        for path in sources
        for name in re.findall(r'add\("--out",.*default=Path\("(.+?)"\)', path.read_text("utf-8"))
    }
    assert folders and folders <= ignored_entries()


def test_no_file_is_too_long() -> None:
    long = []
    for folder in ("cpp", "python", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".h", ".cpp", ".py"}:
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > MAX_LINES:
                    long.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not long


# ---- Instruction sets ---------------------------------------------------------------------------
# A processor without AVX must never meet an AVX instruction. Two things could bring it there: a
# flag on the wrong file, and an inline function of a shared header compiled in an ISA object,
# whose copy the linker may keep for everyone.

LEVELS = ["baseline", "v3", "v4"] if platform.machine() == "x86_64" else ["neon"]


def objects(build: Path, target: str) -> list[Path]:
    found = sorted((build / "CMakeFiles" / f"{target}.dir").rglob("*.o"))
    assert found, f"no objects of {target} in {build}"
    return found


def binutils(name: str, *arguments: str | Path) -> str:
    program = cpp_cases.tool(name)
    assert program, f"{name} not found: run `apt install binutils`"
    done = cpp_cases.run(program, *arguments)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


# What tells an instruction of a level: from v3 on the encodings of AVX, whose mnemonics start with
# v, and the ones that came with it; from v4 on masks, wide registers and the upper half of them.
V3 = re.compile(r"v(?!er[rw])\w+ |(andn|bextr|mulx|pdep|pext|rorx|sarx|shlx|shrx|movbe|lzcnt) ")
V4 = re.compile(r".*%(zmm|k[0-7]|[xy]mm(1[6-9]|2\d|3[01]))")


def users_of(build: Path, target: str, instruction: re.Pattern[str]) -> set[str]:
    """The target's functions that have such an instruction, as object:symbol."""
    found = set()
    for path in objects(build, target):
        function = ""
        for line in binutils("objdump", "--disassemble", "--no-show-raw-insn", path).splitlines():
            if line.endswith(">:"):
                function = line[line.index("<") + 1 : -2]
            elif instruction.match(line.partition("\t")[2]):
                found.add(f"{path.name}:{function}")
    return found


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions are those of x86-64")
def test_instructions_of_a_level_appear_only_in_the_code_meant_for_them(cpp_build: Path) -> None:
    # A function outside the ISA objects may carry a target of its own if the level in use chooses
    # it at run time and its symbol is local, so that nobody else can be given it.
    chosen_at_run_time = re.compile(r"gemm\.cpp\.o:_ZN7adjoint7kernels12_GLOBAL__N_1\w+tile_fma\w+")
    higher = users_of(cpp_build, "adjoint", V3)
    assert not [name for name in higher if not chosen_at_run_time.fullmatch(name)]
    assert not users_of(cpp_build, "adjoint", V4)
    assert not users_of(cpp_build, "adjoint_isa_baseline", V3)
    assert not users_of(cpp_build, "adjoint_isa_baseline", V4)
    assert not users_of(cpp_build, "adjoint_isa_v3", V4)
    # The check itself can see: each level does use its instructions.
    assert users_of(cpp_build, "adjoint_isa_v3", V3)
    assert users_of(cpp_build, "adjoint_isa_v4", V4)


@pytest.mark.parametrize("level", LEVELS)
def test_kernel_objects_define_functions_of_their_level_only(cpp_build: Path, level: str) -> None:
    own = f"{len(level)}{level}"  # the namespace as it stands in a mangled name
    foreign = []
    for path in objects(cpp_build, f"adjoint_isa_{level}"):
        for line in binutils("nm", "--defined-only", "--extern-only", path).splitlines():
            _, kind, name = line.split()
            if kind in "TWi" and own not in name:
                foreign.append(f"{path.name}: {name}")
    assert not foreign
