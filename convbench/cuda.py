"""CUDA through CuPy: kernels from .cu files, and the facts about a device."""

from __future__ import annotations

import ctypes
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
INCLUDED = re.compile(r'(?m)^#include "(\w+\.cuh)"')


def missing() -> str | None:
    """Why CUDA cannot be used here, with the command that fixes it, or None."""
    if find_spec("cupy") is None:
        return "CuPy is not installed; pip install 'convbench[cuda13]' (or cuda12)"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, a driver too old, no permission: CuPy raises its own kinds
        return f"CUDA does not answer: {str(error).splitlines()[0]}"
    return None if count else "CUDA sees no device; check CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Facts:
    """What the device says of itself."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock_hz: float
    l2_bytes: int
    memory_bytes: int
    driver: int
    runtime: int


@lru_cache(maxsize=8)
def facts(device: int = 0) -> Facts:
    """Properties of a device; `clock_hz` is its highest SM clock."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(device)
    clock_rate = cupy.cuda.Device(device).attributes["ClockRate"]  # kHz
    return Facts(
        name=properties["name"].decode(),
        capability=(properties["major"], properties["minor"]),
        multiprocessors=properties["multiProcessorCount"],
        clock_hz=clock_rate * 1e3,
        l2_bytes=properties["l2CacheSize"],
        memory_bytes=properties["totalGlobalMem"],
        driver=runtime.driverGetVersion(),
        runtime=runtime.runtimeGetVersion(),
    )


def uuid(device: int = 0, driver: Any = None) -> str:
    """What the driver calls a device; the properties that CuPy gives end at the first byte that is zero."""
    driver = driver or ctypes.CDLL(DRIVER)
    handle, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(handle), device),
        driver.cuDeviceGetUuid_v2(raw, handle),
    ):
        if status:
            raise RuntimeError(f"the driver does not tell the UUID of device {device}: CUDA error {status}")
    digits = bytes(raw).hex()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@lru_cache(maxsize=128)
def module(file: Path, definitions: tuple[str, ...] = (), architecture: str = "") -> Any:
    """A compiled .cu file. CuPy's disk cache is blind to headers, so their content becomes a macro."""
    import cupy

    code = file.read_text()
    content = hashlib.sha256("".join(headers(code, file.parent).values()).encode()).hexdigest()
    options = ["-std=c++17", f"-I{file.parent}", f"-DHEADERS={int(content[:8], 16)}"]
    options += [f"-D{definition}" for definition in definitions]
    options += [f"-arch={architecture}"] * bool(architecture)
    return cupy.RawModule(code=code, options=tuple(options))


def headers(code: str, folder: Path) -> dict[str, str]:
    """The .cuh files that code includes from a folder, directly or not, and their text."""
    found: dict[str, str] = {}
    left = [code]
    while left:
        for name in sorted(set(INCLUDED.findall(left.pop())) - set(found)):
            found[name] = (folder / name).read_text()
            left.append(found[name])
    return found


def kernels(
    file: Path, names: Sequence[str], definitions: tuple[str, ...] = (), architecture: str = ""
) -> list[Any]:
    """Functions of a .cu file by name."""
    compiled = module(file, definitions, architecture)
    return [compiled.get_function(name) for name in names]
