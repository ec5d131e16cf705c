"""What the CPU families share: number types, workspace blocks, views that forget the layout, threaded loops.

The families are written once for both layouts. They see tensors as (N, C, H, W) views whatever the memory
order is, and allocate their own blocks in the order of the layout, so that BLAS always finds a unit stride.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from convbench import threads
from convbench.api import Layout, Problem
from convbench.dtypes import compute_dtype, storage_dtype

__all__ = [
    "Block",
    "Floats",
    "block_bytes",
    "carve",
    "channels_first",
    "compute_dtype",
    "converts",
    "grouped",
    "nchw",
    "parallel",
    "storage_dtype",
    "taps_view",
]

Floats = NDArray[np.floating]
Block = tuple[tuple[int, ...], np.dtype]
ALIGNMENT = 64


def converts(problem: Problem) -> bool:
    """Whether operands have to be widened before the arithmetic."""
    return storage_dtype(problem.precision) != compute_dtype(problem.precision)


# ---- workspace ---------------------------------------------------------------------------------------------


def block_bytes(blocks: Mapping[str, Block]) -> int:
    """Bytes that `carve` needs for these blocks."""
    return sum(_aligned(prod(shape) * dtype.itemsize) for shape, dtype in blocks.values())


def carve(workspace: NDArray[np.uint8], blocks: Mapping[str, Block]) -> dict[str, Floats]:
    """Cut named arrays out of a byte buffer."""
    arrays, start = {}, 0
    for name, (shape, dtype) in blocks.items():
        size = prod(shape) * dtype.itemsize
        arrays[name] = workspace[start : start + size].view(dtype).reshape(shape)
        start += _aligned(size)
    return arrays


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


# ---- views -------------------------------------------------------------------------------------------------


def nchw(tensor: Floats, layout: Layout) -> Floats:
    """A view of x, y or w with the axes (N, C, H, W) or (K, C/g, R, S)."""
    return tensor if layout is Layout.NCHW else tensor.transpose(0, 3, 1, 2)


def grouped(tensor: Floats, problem: Problem) -> Floats:
    """A view of x or y as (N, G, channels, H, W)."""
    view, g = nchw(tensor, problem.layout), problem.groups
    return view.reshape(view.shape[0], g, view.shape[1] // g, *view.shape[2:])


def taps_view(filters: Floats, problem: Problem) -> Floats:
    """A view of w as (K, C/g, R, S) for cross-correlation: `flip` turns the taps around."""
    view = nchw(filters, problem.layout)
    return view[:, :, ::-1, ::-1] if problem.flip else view


def channels_first(problem: Problem) -> bool:
    return problem.layout is Layout.NCHW


# ---- threads -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="convbench")


def parallel(body: Callable[[slice], None], length: int) -> None:
    """Call `body` on equal parts of range(length), one a thread; NumPy copies release the GIL."""
    parts = min(threads.count(), length)
    if parts <= 1:
        body(slice(0, length))
        return
    cuts = [length * i // parts for i in range(parts + 1)]
    slices = [slice(lo, hi) for lo, hi in pairwise(cuts)]
    futures = [_pool(parts).submit(body, part) for part in slices[1:]]
    body(slices[0])
    for future in futures:
        future.result()
