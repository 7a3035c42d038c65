"""Run the Array API test suite (https://github.com/data-apis/array-api-tests) against adjoint.

    python tests/array_api/run.py CHECKOUT [argument of pytest ...]

CHECKOUT is a clone of the suite with its submodule `array-api`, of which `array-api/spec` and
`array-api/src` are read. Needed besides adjoint: pytest, pytest-json-report, hypothesis, ndindex.
Complex numbers and `fft` are left out, and two tests of what the standard leaves open;
`suite_namespace.py` lists and explains them.

Checked with the suite at 55fcc60 and the standard at 5f847a38: a minute on two cores with `-n 2`
(pytest-xdist) and `--max-examples 20`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    checkout = Path(arguments[0]).resolve()
    if not (checkout / "array_api_tests").is_dir():
        print(f"{checkout} is no checkout of the suite: it has no array_api_tests")
        return 2
    if not (checkout / "array-api" / "spec").is_dir():
        print(f"{checkout}/array-api is empty: git submodule update --init")
        return 2
    paths = [str(HERE), str(checkout), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ,
        "ARRAY_API_TESTS_MODULE": "suite_namespace",
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
    }
    command = [sys.executable, "-P", "-m", "pytest", "array_api_tests", "-q", "--tb=short"]
    plugins = ["-p", "suite_namespace", "-p", "no:cacheprovider", "--disable-deadline"]
    return subprocess.call([*command, *plugins, *arguments[1:]], cwd=checkout, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
