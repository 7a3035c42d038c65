"""Size of the package as a wheel: its files stripped and compressed as `pip` would be sent them."""

import importlib.util
import io
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from contract import AtMost, Measured

CASES = ("",)
UNIT = "B"
BARS = (AtMost(5e6),)


def stripped(path):
    data = path.read_bytes()
    if path.suffix == ".so" and shutil.which("strip"):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(data)
            subprocess.run(["strip", str(copy)], check=True)
            data = copy.read_bytes()
    return data


def size():
    spec = importlib.util.find_spec("adjoint")
    (folder,) = spec.submodule_search_locations
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in sorted(Path(folder).glob("**/*")):
            if path.is_file() and "__pycache__" not in path.parts:
                wheel.writestr(str(path.relative_to(folder)), stripped(path))
    return float(len(packed.getvalue()))


VARIANTS = {"adjoint": lambda case: Measured(size)}
