"""Where the BLAS may lie.

The core opens it at the first product that is worth it; importing the packages that bring one
would cost more than everything else here, so their folders are only looked at.
"""

import os
import sys

from adjoint import _core

__all__: list[str] = []


def announce_blas() -> None:
    """Name the libraries of scipy-openblas32 and NumPy to the core, in this order."""
    own, shared = [], []
    for folder in sys.path:
        library = os.path.join(folder, "scipy_openblas32", "lib", "libscipy_openblas.so")
        if os.path.isfile(library):
            own.append(library)
        beside_numpy = os.path.join(folder, "numpy.libs")
        if os.path.isdir(beside_numpy):
            shared += [
                os.path.join(beside_numpy, name)
                for name in sorted(os.listdir(beside_numpy))
                if name.startswith("libscipy_openblas64_")
            ]
    for library in own:
        _core._set_blas_candidate(library, "scipy_", "", False)
    for library in shared:
        _core._set_blas_candidate(library, "scipy_", "64_", True)
