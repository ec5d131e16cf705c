"""CUDA kernels of our own: a .cu file compiled with given macros, and its functions ready to be launched.

A module with kernels lists every compilation it can ask for in `sources()`: tests compile them all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convbench import cuda
from convbench.api import Precision

__all__ = ["C_SUMS", "C_TYPES", "Kernel", "Source", "by_value", "missing", "pointer"]

HERE = Path(__file__).parent
DEFAULT_SHARED = 48 * 1024  # more has to be asked for before the launch
LARGEST_GRID = (2**31 - 1, 65535, 65535)

# What tensors are stored in and what products are summed in, as macros for kernels.
C_TYPES = {
    Precision.FP64: "double",
    Precision.FP32: "float",
    Precision.TF32: "float",
    Precision.FP16: "__half",
    Precision.BF16: "__nv_bfloat16",
}
C_SUMS = {precision: "double" if precision is Precision.FP64 else "float" for precision in Precision}


def missing() -> str | None:
    """Why no kernel can run here, or None."""
    return cuda.missing()


@dataclass(frozen=True)
class Source:
    """One compilation: a .cu file beside this one, its `extern "C"` kernels and the macros it is given."""

    file: str
    functions: tuple[str, ...]
    defines: tuple[tuple[str, str | int], ...] = ()

    architecture: ClassVar[str] = ""  # of the current device

    @property
    def path(self) -> Path:
        return HERE / self.file

    @property
    def macros(self) -> tuple[str, ...]:
        return tuple(f"{name}={value}" for name, value in self.defines)

    def load(self) -> Mapping[str, Kernel]:
        """The kernels by name, compiled and resident on the current device."""
        import cupy

        return _load(self, cupy.cuda.runtime.getDevice())

    def __getitem__(self, function: str) -> Kernel:
        return self.load()[function]


@lru_cache(maxsize=512)
def _load(source: Source, device: int) -> dict[str, Kernel]:
    functions = cuda.kernels(source.path, source.functions, source.macros, source.architecture)
    return {name: Kernel(function) for name, function in zip(source.functions, functions, strict=True)}


class Kernel:
    """A function on the device. It is loaded now: behind a held stream loading would wait forever."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._shared = DEFAULT_SHARED
        self.registers = int(function.num_regs)  # asking loads it
        self.spilled_bytes = int(function.local_size_bytes)

    def allow_shared(self, size: int) -> None:
        """Let launches have this much dynamic shared memory; call it in `prepare`."""
        if size > self._shared:
            self._function.max_dynamic_shared_size_bytes = size
            self._shared = size

    def __call__(
        self, grid: int | tuple[int, ...], block: int | tuple[int, ...], *arguments: Any, shared: int = 0
    ) -> None:
        """Launch on CuPy's current stream.

        Arguments: arrays and integers (which fit every integer parameter, and pointers); NumPy scalars of the
        exact type for floating-point parameters; `by_value` for structs.
        """
        grid = grid if isinstance(grid, tuple) else (grid,)
        block = block if isinstance(block, tuple) else (block,)
        if any(size > most for size, most in zip(grid, LARGEST_GRID, strict=False)):
            raise ValueError(f"grid {grid} is above {LARGEST_GRID}: let threads loop instead")
        if prod(grid):
            self._function(grid, block, arguments, shared_mem=shared)


def by_value(structure: ctypes.Structure) -> NDArray[np.void]:
    """A kernel argument that is a struct; ctypes lays it out as the C compiler does."""
    return np.frombuffer(bytes(structure), dtype=f"V{ctypes.sizeof(structure)}")


def pointer(array: Any, offset: int = 0) -> int:
    """The device address of an element, counted in elements."""
    return int(array.data.ptr) + offset * int(array.itemsize)
