"""What a figure depends on besides the cell: machine, threads, libraries."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convbench import __version__, threads
from convbench.record import canonical

LIBRARIES = ("numpy", "scipy", "ml-dtypes", "torch")


def collect() -> dict[str, Any]:
    """The environment record. `identity` decides whether two figures may be of the same cell."""
    identity = {
        "cpu": cpu_model(),
        "threads": threads.count(),
        "libraries": {name: version_of(name) for name in LIBRARIES},
        "blas": _blas(),
    }
    return {
        "id": hashlib.sha256(canonical(identity)).hexdigest()[:12],
        "identity": identity,
        "convbench": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host": platform.node(),
        "cpus": threads.available(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "memory": total_memory(),
    }


def cpu_model() -> str:
    """The processor's own name for itself."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _meminfo(field: str) -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def total_memory() -> int | None:
    return _meminfo("MemTotal")


def free_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not say."""
    available = _meminfo("MemAvailable")
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if available is not None and limit.strip().isdigit() and used.strip().isdigit():
        return min(available, int(limit) - int(used))
    return available


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\n")
    except OSError:
        return ""


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _blas() -> str:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"
