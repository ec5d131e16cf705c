"""Launches that may begin before the kernel ahead of them in the stream has ended (Hopper and later).

Blocks then start as soon as there is room, so that a chain of short kernels has no gaps. The kernel has to
wait itself (griddepcontrol.wait) before it touches what the one ahead writes, and every kernel of a chain has
to, since the last one waits for its neighbour only.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .gpu import Kernel

__all__ = ["launch"]

PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CUlaunchAttributeID


class Attribute(ctypes.Structure):
    """CUlaunchAttribute; of its value the first number alone is used here."""

    _fields_ = [
        ("id", ctypes.c_int),
        ("pad", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_int * 15),
    ]


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("count", ctypes.c_uint),
    ]


EARLY = Attribute(PROGRAMMATIC_STREAM_SERIALIZATION, 0, 1)


def launch(
    kernel: Kernel,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *arguments: Any,
    shared: int = 0,
) -> None:
    """On CuPy's current stream, with the arguments that a plain launch takes, which it is where emulated."""
    loaded = getattr(kernel._function, "kernel", None)  # of CuPy's RawKernel
    if loaded is None or not prod(grid):
        kernel(grid, block, *arguments, shared=shared)
        return
    import cupy

    stream = cupy.cuda.get_current_stream().ptr
    config = Config(*_three(grid), *_three(block), shared, stream, ctypes.pointer(EARLY), 1)
    kept = [_encoded(argument) for argument in arguments]
    pointers = (ctypes.c_void_p * len(kept))(*(value.ctypes.data for value in kept))
    status = _driver().cuLaunchKernelEx(ctypes.byref(config), ctypes.c_void_p(loaded.ptr), pointers, None)
    if status:
        raise RuntimeError(
            f"the driver refuses to launch {grid} blocks of {block} threads: CUresult {status}"
        )


def _encoded(argument: Any) -> np.ndarray[Any, Any]:
    """An argument's bytes. Those of integers begin with the low ones, and so fit parameters of any size."""
    if isinstance(argument, np.ndarray | np.generic) and type(argument).__module__ == "numpy":
        return np.ascontiguousarray(argument)
    return np.array([getattr(getattr(argument, "data", None), "ptr", argument)], np.int64)


def _three(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*sizes, 1, 1)[:3]


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
