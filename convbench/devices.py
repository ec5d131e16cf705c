"""Which devices there are, and which one a run gets."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from convbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from convbench.device import Device

NAMES = ("cuda", "cpu")


def missing(name: str) -> str | None:
    """Why a device cannot be used here, or None."""
    if name == "cpu":
        return None
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver: nvidia-smi is not on the PATH"
    return "this version of convbench measures on the CPU only"


def choose(name: str | None) -> str:
    """The device asked for, or else the best that works."""
    if name is None:
        return next(device for device in NAMES if missing(device) is None)
    if name not in NAMES:
        raise unknown("device", name, NAMES)
    if reason := missing(name):
        raise UsageError(f"device '{name}' cannot be used: {reason}; --device cpu works everywhere")
    return name


def open_device(name: str) -> Device:
    """The device itself; loads its array library."""
    from convbench.device_cpu import CpuDevice

    return CpuDevice()
