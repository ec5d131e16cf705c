"""Tensor maps: how Hopper's copy engine finds boxes and pixels of a tensor in global memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Map", "encode"]

BYTES, ALIGNMENT = 128, 64
ROW = 64  # numbers of a row in shared memory: 128 bytes, which are swizzled
FP16, BF16 = 6, 9  # CU_TENSOR_MAP_DATA_TYPE_FLOAT16, _BFLOAT16
SWIZZLE_128B, PROMOTE_256B = 3, 3


@dataclass(frozen=True)
class Map:
    """A tensor of 16-bit numbers, innermost first: sizes, and bytes from one index to the next but the first.

    A copy takes 64 numbers of each of `rows` rows. With `low` it is of pixels, whose indices are channel,
    column, row and image: positions run from `low` to the last pixel plus `high`, `step` apart, along
    columns, then down the rows, then through images.
    """

    address: int
    bfloat: bool
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    rows: int
    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    step: tuple[int, ...] = ()


def encode(tensor: Map) -> NDArray[np.void]:
    """The kernel argument of a map (128 bytes, by value)."""
    raw = (ctypes.c_char * (BYTES + ALIGNMENT))()
    start = -ctypes.addressof(raw) % ALIGNMENT
    place, rank = ctypes.addressof(raw) + start, len(tensor.sizes)
    about = ctypes.c_void_p(place), BF16 if tensor.bfloat else FP16, rank, ctypes.c_void_p(tensor.address)
    shape = _array(ctypes.c_uint64, tensor.sizes), _array(ctypes.c_uint64, tensor.strides)
    end = 0, SWIZZLE_128B, PROMOTE_256B, 0
    if tensor.low:
        corners = _array(ctypes.c_int, tensor.low), _array(ctypes.c_int, tensor.high)
        steps = _array(ctypes.c_uint32, (1, *tensor.step, 1))
        status = _driver().cuTensorMapEncodeIm2col(*about, *shape, *corners, ROW, tensor.rows, steps, *end)
    else:
        box = _array(ctypes.c_uint32, (ROW, tensor.rows, *([1] * (rank - 2))))
        steps = _array(ctypes.c_uint32, [1] * rank)
        status = _driver().cuTensorMapEncodeTiled(*about, *shape, box, steps, *end)
    if status:
        raise RuntimeError(f"the driver refuses to encode {tensor}: CUresult {status}")
    return np.frombuffer(raw.raw[start : start + BYTES], dtype=f"V{BYTES}")


def _array(kind: Any, values: Sequence[int]) -> Any:
    return (kind * len(values))(*values)


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")
