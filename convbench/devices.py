"""Which devices there are, and which one a run gets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from convbench.errors import CannotRunError, UsageError, one_line, unknown

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


def choose(name: str | None, cache: str = "cold") -> str:
    """The device asked for, or else the best on which something can run."""
    if name is None:
        chosen = next(device for device in NAMES if idle(device) is None)
    elif name not in NAMES:
        raise unknown("device", name, NAMES)
    elif reason := missing(name):
        raise UsageError(f"device '{name}' cannot be used: {reason}; --device cpu works everywhere")
    else:
        chosen = name
    if chosen == "cpu" and cache != "cold":
        raise UsageError(f"--cache {cache} is for GPUs; on the CPU calls follow each other as in a program")
    return chosen


def why(name: str | None) -> str:
    """What to say about a device that was not asked for."""
    if name is not None or choose(None) != "cpu":
        return ""
    return f"measuring on the CPU ({idle('cuda')})"


def identity(name: str, index: int | None = None) -> str:
    """What tells a device from every other of this machine; the CPU may stand for several, for tests."""
    if name == "cpu":
        return "cpu" if index is None else f"cpu-{index}"
    from convbench import cuda

    return cuda.uuid()


def gpus() -> list[str]:
    """UUIDs of the GPUs that CUDA shows, in its order; asked in another process, which may use CUDA."""
    command = [sys.executable, "-P", "-m", "convbench.devices"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise CannotRunError(f"GPUs cannot be listed: {done.stderr.strip().splitlines()[-1:]}")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def pick(text: str, present: Sequence[object]) -> list[int]:
    """The places in a list that `0,1` or `all` names."""
    if text == "all":
        return list(range(len(present)))
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        raise UsageError(f"--devices '{one_line(text)}': numbers from 0 as in 0,1, or all")
    chosen = list(dict.fromkeys(map(int, text.split(","))))
    if beyond := [index for index in chosen if index >= len(present)]:
        raise UsageError(f"--devices {text}: there is no device {beyond[0]}, there are {len(present)}")
    return chosen


@lru_cache(maxsize=4)
def open_device(name: str, cache: str = "cold") -> Device:
    """The device itself; loads its array library."""
    if name == "cuda":
        from convbench.device_cuda import CudaDevice

        return CudaDevice(cache)
    from convbench.device_cpu import CpuDevice

    return CpuDevice()


def _list_gpus() -> list[str]:
    if missing("cuda"):
        return []
    import cupy

    from convbench import cuda

    return [cuda.uuid(index) for index in range(cupy.cuda.runtime.getDeviceCount())]


if __name__ == "__main__":
    print(json.dumps(_list_gpus()))
