"""Makes every C++ test case a pytest item: one command and one summary cover both languages.

Collecting this file builds tests/cpp in build/cpp-tests (incremental) and asks the binary for its
cases; each becomes `cpp_cases.py::<file>::<case>`. The binary then runs once for all selected
cases. A case that fails there, or that is missing because the run crashed, is run again alone: its
own output is the report, and a crash is charged to the case that caused it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cpp-tests"
BINARY = BUILD / "adjoint_tests"
MANY = 50  # beyond this many selected cases the whole binary runs: no filter gets too long
TIMEOUT = 900  # seconds, for one run of the binary

Key = tuple[str, str]  # file name, case name


class BuildError(Exception):
    """The C++ tests could not be built; the text says what to do."""


class CaseFailure(Exception):
    """A C++ case failed; the text is doctest's report."""


def tool(name: str) -> str | None:
    """Path of a program, this interpreter's environment first (it need not be activated)."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def run(
    *command: str | Path,
    timeout: float | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command with stderr joined to stdout and `env` added; a timeout is status 124."""
    try:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, f"no end after {timeout} s")


def generator() -> list[str]:
    """Options of cmake for a new folder: the ninja of the tests, as a machine may have no make."""
    ninja = tool("ninja")
    return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []


def _configure(cmake: str) -> None:
    command = [cmake, "-S", str(ROOT), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release"]
    command += ["-DADJOINT_BUILD_TESTS=ON", "-DADJOINT_WERROR=ON"]
    stale = (BUILD / "CMakeCache.txt").exists()
    if not stale:
        command += generator()
    done = run(*command)
    if done.returncode == 0:
        return
    if "doctest-dev" in done.stdout:
        raise BuildError("doctest/doctest.h not found: run `apt install doctest-dev`")
    if stale:  # the cache may name a compiler or a ninja that has gone
        shutil.rmtree(BUILD, ignore_errors=True)
        BUILD.mkdir(parents=True)
        return _configure(cmake)
    raise BuildError(f"configuring the C++ tests failed:\n{done.stdout[-4000:]}")


def _build() -> None:
    cmake = tool("cmake")
    if cmake is None:
        raise BuildError("cmake not found: run `pip install cmake`")
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD.parent / "cpp-tests.lock", "w") as lock:  # other test sessions may build too
        fcntl.flock(lock, fcntl.LOCK_EX)
        _configure(cmake)
        jobs = len(os.sched_getaffinity(0))
        done = run(cmake, "--build", str(BUILD), "--parallel", str(jobs))
        if done.returncode != 0:
            raise BuildError(f"building the C++ tests failed:\n{done.stdout[-8000:]}")


_outcome: list[BuildError | None] = []


def build() -> Path:
    """Builds library and C++ tests once per session; returns the build directory."""
    if not _outcome:
        try:
            _build()
            _outcome.append(None)
        except BuildError as error:
            _outcome.append(error)
    if _outcome[0] is not None:
        raise _outcome[0]
    return BUILD


def _list_cases() -> list[Key]:
    done = run(BINARY, "--list-test-cases", "--reporters=xml", timeout=60)
    if done.returncode != 0:
        raise BuildError(f"{BINARY.name} could not list its cases:\n{done.stdout[-4000:]}")
    return [_key(case) for case in ET.fromstring(done.stdout).iter("TestCase")]


def _key(case: ET.Element) -> Key:
    return Path(case.get("filename", "")).name, case.get("name", "")


def _filter(names: Iterable[str]) -> str:
    escaped = (name.replace("\\", "\\\\").replace(",", "\\,") for name in names)
    return "--test-case=" + ",".join(escaped)


def _results_together(keys: list[Key], everything: bool) -> dict[Key, bool]:
    """Runs these cases, given in doctest's order, in one process; whether each passed.

    Cases after a crash are absent from the result. The crash is charged to the case doctest names
    or, if it could not, to the first it did not report.
    """
    names = [] if everything else [_filter(name for _, name in keys)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(BINARY), "--reporters=xml", f"--out={report}", "--no-skip"]
        run(*command, *names, timeout=TIMEOUT)
        text = report.read_text(errors="replace") if report.exists() else ""
    parser = ET.XMLPullParser(events=("end",))
    parser.feed(text)
    results: dict[Key, bool] = {}
    charged = False
    try:
        for _, element in parser.read_events():
            end = element.find("OverallResultsAsserts") if element.tag == "TestCase" else None
            charged = charged or element.get("crash") == "true"
            if end is not None:
                results[_key(element)] = end.get("test_case_success") == "true"
    except ET.ParseError:
        pass  # cut short by a crash
    missing = [key for key in keys if key not in results]
    if missing and not charged:
        results[missing[0]] = False
    return results


def _failure_alone(key: Key) -> str | None:
    """Runs one case in a process of its own; doctest's report if it fails."""
    file, name = key
    done = run(
        BINARY,
        _filter([name]),
        f"--source-file=*{file}",
        "--no-skip",
        "--no-colors",
        "--no-version",
        timeout=TIMEOUT,
    )
    if done.returncode == 0 and "Status: SUCCESS" in done.stdout:
        return None
    how = f"killed by signal {-done.returncode}" if done.returncode < 0 else "failed"
    return f"{file}: {name}: {how}\n{done.stdout[-8000:]}"


class CppSuite(pytest.File):
    """The test binary; its children are source files, theirs are cases."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        self.results: dict[Key, bool] | None = None
        try:
            build()
            self.keys = _list_cases()
        except BuildError as error:
            yield CppBuildFailure.from_parent(self, name="cpp build", error=error)
            return
        for file in sorted({file for file, _ in self.keys}):
            yield CppFile.from_parent(self, name=file, suite=self)

    def results_together(self) -> dict[Key, bool]:
        if self.results is None:
            chosen = {item.key for item in self.session.items if isinstance(item, CppCase)}
            keys = [key for key in self.keys if key in chosen]
            everything = len(keys) == len(self.keys) or len(keys) > MANY
            self.results = _results_together(keys, everything)
        return self.results


class CppFile(pytest.Collector):
    """One source file of tests/cpp."""

    def __init__(self, *, suite: CppSuite, **kwargs) -> None:
        super().__init__(**kwargs)
        self.suite = suite

    def collect(self) -> Iterable[pytest.Item]:
        for file, name in dict.fromkeys(self.suite.keys):
            if file == self.name:
                yield CppCase.from_parent(self, name=name, suite=self.suite)


class CppCase(pytest.Item):
    """One doctest case."""

    def __init__(self, *, suite: CppSuite, **kwargs) -> None:
        super().__init__(**kwargs)
        self.suite = suite
        self.key: Key = (self.parent.name, self.name)
        self.add_marker("cpp")

    def runtest(self) -> None:
        passed = self.suite.results_together().get(self.key)
        if passed:
            return
        report = _failure_alone(self.key)
        if report is None and passed is None:
            return
        if report is None:
            file, name = self.key
            report = f"{file}: {name}: failed among the other cases, passed when run alone"
        raise CaseFailure(report)

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, CaseFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return ROOT / "tests" / "cpp" / self.parent.name, None, self.name


class CppBuildFailure(pytest.Item):
    """Stands for all C++ cases when there is no binary: it fails, it never skips."""

    def __init__(self, *, error: BuildError, **kwargs) -> None:
        super().__init__(**kwargs)
        self.error = error

    def runtest(self) -> None:
        raise self.error

    def repr_failure(self, excinfo, style=None):
        if excinfo.value is self.error:
            return str(self.error)
        return super().repr_failure(excinfo, style)
