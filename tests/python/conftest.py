"""What all tests share: the C++ cases as pytest items, their build, and the Hypothesis profiles."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

import cpp_cases

# The same examples in every run, so that a failure is the change's; `--hypothesis-profile=long`
# searches anew.
hypothesis.settings.register_profile("default-run", derandomize=True, deadline=None)
hypothesis.settings.register_profile("long", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("default-run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cpp: a C++ test case")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path == Path(cpp_cases.__file__):
        return cpp_cases.CppSuite.from_parent(parent, path=file_path)
    return None


@pytest.fixture(scope="session")
def cpp_build() -> Path:
    """The build directory of the library and its C++ tests, up to date."""
    try:
        return cpp_cases.build()
    except cpp_cases.BuildError as error:
        pytest.fail(str(error), pytrace=False)
