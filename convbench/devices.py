"""Which devices there are, and which one a run gets."""

from __future__ import annotations

import shutil
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from convbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from convbench.device import Device

NAMES = ("cuda", "cpu")


def missing(name: str) -> str | None:
    """Why a device cannot be used here, or None."""
    if name == "cpu":
        return None
    if shutil.which("nvidia-smi") is None and find_spec("cupy") is None:
        return "no NVIDIA driver: nvidia-smi is not on the PATH"
    from convbench import cuda

    return cuda.missing()


def choose(name: str | None) -> str:
    """The device asked for, or else the best that works."""
    if name is None:
        return next(device for device in NAMES if missing(device) is None)
    if name not in NAMES:
        raise unknown("device", name, NAMES)
    if reason := missing(name):
        raise UsageError(f"device '{name}' cannot be used: {reason}; --device cpu works everywhere")
    return name


@lru_cache(maxsize=4)
def open_device(name: str, cache: str = "cold") -> Device:
    """The device itself; loads its array library."""
    if name == "cuda":
        from convbench.device_cuda import CudaDevice

        return CudaDevice(cache)
    from convbench.device_cpu import CpuDevice

    return CpuDevice()
