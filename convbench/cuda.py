"""CUDA through CuPy: kernels from .cu files, and the facts about a device."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


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
    uuid: str
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
        uuid=_uuid(bytes(properties["uuid"])),
        capability=(properties["major"], properties["minor"]),
        multiprocessors=properties["multiProcessorCount"],
        clock_hz=clock_rate * 1e3,
        l2_bytes=properties["l2CacheSize"],
        memory_bytes=properties["totalGlobalMem"],
        driver=runtime.driverGetVersion(),
        runtime=runtime.runtimeGetVersion(),
    )


def _uuid(raw: bytes) -> str:
    digits = raw[:16].hex()
    return "GPU-" + "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@lru_cache(maxsize=64)
def module(file: Path, definitions: tuple[str, ...] = ()) -> Any:
    """A compiled .cu file. CuPy's disk cache is blind to headers, so their content becomes a macro."""
    import cupy

    source = file.read_text()
    headers = hashlib.sha256(b"".join(h.read_bytes() for h in sorted(file.parent.glob("*.cuh")))).hexdigest()
    options = (f"-I{file.parent}", f"-DHEADERS={int(headers[:8], 16)}", *(f"-D{d}" for d in definitions))
    return cupy.RawModule(code=source, options=("-std=c++17", *options))


def kernels(file: Path, names: Sequence[str], definitions: tuple[str, ...] = ()) -> list[Any]:
    """Functions of a .cu file by name."""
    compiled = module(file, definitions)
    return [compiled.get_function(name) for name in names]
