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


def idle(name: str) -> str | None:
    """Why nothing would run on a device by default: it is missing, or every algorithm refuses it."""
    if reason := missing(name):
        return reason
    from convbench import registry
    from convbench.problem import Problem

    problem = Problem.parse("n1c8h8k8r3p1")
    reasons = [entry.algorithm.reject(problem) for entry in registry.select(name)]
    if None in reasons:
        return None
    return f"no algorithm can run on {name}: {'; '.join(map(str, dict.fromkeys(reasons))) or 'there is none'}"


def choose(name: str | None) -> str:
    """The device asked for, or else the best on which something can run."""
    if name is None:
        return next(device for device in NAMES if idle(device) is None)
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
