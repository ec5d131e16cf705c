"""What our code uses of CuPy, over NumPy arrays and emulated kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .compile import EmulatedKernel, compile_kernels

ALIGNMENT = 512
STREAM = 0x57  # of the current stream
PROPERTIES = {
    "name": b"emulator",
    "major": 9,
    "minor": 0,
    "multiProcessorCount": 132,
    "l2CacheSize": 50 << 20,
    "totalGlobalMem": 1 << 34,
    "sharedMemPerBlockOptin": 227 << 10,
}
_allowed = [True]


class AllocatesError(RuntimeError):
    """Device memory was asked for inside `run`."""


class Pointer:
    """cupy.cuda.MemoryPointer, as far as anyone looks at it."""

    def __init__(self, address: int, owner: Any = None) -> None:
        self.ptr, self.mem = address, owner


class ndarray(np.ndarray):
    """A NumPy array whose address is asked for as CuPy's is."""

    @property
    def data(self) -> Any:
        return Pointer(self.ctypes.data)

    def get(self, stream: Any = None) -> np.ndarray:
        return np.array(self)


@contextmanager
def no_allocation() -> Iterator[None]:
    """As the harness has it while a plan runs."""
    _allowed.append(False)
    try:
        yield
    finally:
        _allowed.pop()


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Aligned as CUDA's memory is; full of NaN."""
    if not _allowed[-1]:
        raise AllocatesError(f"{shape} elements were asked for inside a timed call")
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.full(size + ALIGNMENT, 0xFF, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(kind).reshape(shape).view(ndarray)


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    made = empty(shape, dtype)
    made[...] = 0
    return made


def asarray(values: Any, dtype: Any = None) -> ndarray:
    source = np.asarray(values, dtype)
    made = empty(source.shape, source.dtype)
    made[...] = source
    return made


def alloc(size: int) -> Pointer:
    memory = empty(size, np.uint8)
    return Pointer(memory.ctypes.data, memory)


class Generator:
    """cupy.random.Generator."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def random(self, shape: Any, dtype: Any = float) -> ndarray:
        return asarray(self._rng.random(shape, dtype))


class RawModule:
    """Compiled at the first function asked for, as CuPy's."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._code, self._options = code, options

    def get_function(self, name: str) -> EmulatedKernel:
        return EmulatedKernel(self._library, name)

    @cached_property
    def _library(self) -> ctypes.CDLL:
        return compile_kernels(self._code, self._options)


class Device:
    """The one there is."""

    attributes = {"ClockRate": 1_980_000}  # noqa: RUF012
    compute_capability = "90"

    def __init__(self, device: int | None = None) -> None:
        self.id = 0


def modules() -> dict[str, ModuleType]:
    """What to put into sys.modules."""
    runtime = SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: PROPERTIES,
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        memsetAsync=lambda address, value, size, stream: ctypes.memset(address, value, size),
        memcpyAsync=lambda to, source, size, kind, stream: ctypes.memmove(to, source, size),
    )
    cuda = _module(
        "cupy.cuda",
        Device=Device,
        MemoryPointer=Pointer,
        alloc=alloc,
        runtime=runtime,
        get_current_stream=lambda: SimpleNamespace(ptr=STREAM),
    )
    names = {"RawModule": RawModule, "array": asarray, "asarray": asarray, "cuda": cuda, "empty": empty}
    top = _module("cupy", **names, ndarray=ndarray, zeros=zeros)
    random = _module("cupy.random", default_rng=Generator)
    vars(top)["random"] = random
    return {"cupy": top, "cupy.cuda": cuda, "cupy.random": random}


def _module(name: str, **contents: Any) -> ModuleType:
    from importlib.machinery import ModuleSpec

    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(contents)
    return made
