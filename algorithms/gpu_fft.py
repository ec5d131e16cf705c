"""Batched real 2-D Fourier transforms by cuFFT, whose work area is the caller's.

CuPy's plans take their work area from its pool, where no workspace limit sees it. So cuFFT is called
directly, out of the library that CuPy itself is linked to.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import lru_cache
from typing import Any

import numpy as np

from convbench.problem import Pair

KINDS = {
    ("float32", False): "R2C",
    ("float32", True): "C2R",
    ("float64", False): "D2Z",
    ("float64", True): "Z2D",
}
CODES = {"R2C": 0x2A, "C2R": 0x2C, "D2Z": 0x6A, "Z2D": 0x6C}
STATUS = {2: "ALLOC_FAILED", 4: "INVALID_VALUE", 5: "INTERNAL_ERROR", 6: "EXEC_FAILED", 8: "INVALID_SIZE"}


class CufftError(RuntimeError):
    """cuFFT is not there, or one of its functions did not succeed."""


@lru_cache(maxsize=1)
def library() -> Any:
    """cuFFT: CuPy's own module is linked to it, so its functions are found through that."""
    try:
        from cupy.cuda import cufft

        return ctypes.CDLL(cufft.__file__)
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CufftError(f"cuFFT cannot be loaded ({reason}); pip install nvidia-cufft") from None


class Transforms:
    """`batch` transforms of `shape`, one behind the other, to half spectra or (`inverse`) back; unscaled.

    `work_bytes` is the exact size of the work area that every run is given.
    """

    def __init__(self, shape: Pair, batch: int, dtype: str, inverse: bool) -> None:
        self._kind, self._shape, self._batch, self._dtype = KINDS[dtype, inverse], shape, batch, dtype
        handle = ctypes.c_int()
        _call("cufftCreate", ctypes.byref(handle))
        self._handle = handle.value
        weakref.finalize(self, _call, "cufftDestroy", self._handle).atexit = False
        _call("cufftSetAutoAllocation", self._handle, 0)
        size, sizes = ctypes.c_size_t(), (ctypes.c_longlong * 2)(*shape)
        _call(
            "cufftMakePlanMany64", self._handle, 2, sizes, None, *map(ctypes.c_longlong, (1, 0)), None,
            *map(ctypes.c_longlong, (1, 0)), CODES[self._kind], ctypes.c_longlong(batch), ctypes.byref(size),
        )  # fmt: skip
        self.work_bytes = size.value

    def run(self, source: int, target: int, work: int) -> None:
        """Transform on CuPy's current stream; addresses. The inverse may spoil its source."""
        import cupy

        _call("cufftSetStream", self._handle, ctypes.c_void_p(cupy.cuda.get_current_stream().ptr))
        _call("cufftSetWorkArea", self._handle, ctypes.c_void_p(work))
        _call(f"cufftExec{self._kind}", self._handle, ctypes.c_void_p(source), ctypes.c_void_p(target))

    def warm_up(self) -> None:
        """Run once on memory of its own: what cuFFT loads late must not be loaded behind a held stream."""
        import cupy

        half = self._shape[0] * (self._shape[1] // 2 + 1)
        memory = cupy.zeros((2, 2 * half * self._batch), self._dtype)
        work = cupy.empty(max(1, self.work_bytes), np.uint8)  # never a null pointer
        self.run(memory[0].data.ptr, memory[1].data.ptr, work.data.ptr)


def _call(function: str, *arguments: Any) -> None:
    status = getattr(library(), function)(*arguments)
    if status:
        raise CufftError(f"{function}: {STATUS.get(status, f'status {status}')}")


@lru_cache(maxsize=64)
def transforms(shape: Pair, batch: int, dtype: str, inverse: bool) -> Transforms:
    """A plan of this size; making one takes milliseconds, and its size is asked for more than once."""
    return Transforms(shape, batch, dtype, inverse)
