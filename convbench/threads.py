"""How many CPU threads to use; fixed before NumPy is imported, because BLAS reads it only once."""

from __future__ import annotations

import os
import sys

from convbench.errors import UsageError

# Idle OpenBLAS threads spin for 2^26 cycles and so keep a core from the NumPy copies that follow. With 2^20
# they still catch the next product of a loop; with 2^16 they do not, and times scatter by half.
SPIN = ("OPENBLAS_THREAD_TIMEOUT", "20")
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def available() -> int:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count() -> int:
    """Threads that every implementation uses."""
    value = os.environ.get(VARIABLES[0], "").split(",")[0]
    return int(value) if value.isdecimal() and int(value) > 0 else available()


def fix(wanted: int | None = None) -> int:
    """Set the number of threads for BLAS, OpenMP and our own loops."""
    if wanted is None:
        wanted = count()
    elif "numpy" in sys.modules and wanted != count():
        raise UsageError(
            f"{wanted} threads: NumPy is loaded already; set {VARIABLES[0]}={wanted} before starting"
        )
    for variable in VARIABLES:
        os.environ[variable] = str(wanted)
    os.environ.setdefault(*SPIN)
    return wanted
