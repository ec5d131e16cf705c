"""Few result channels a group: kernels that slide over the input, and their launch."""

from __future__ import annotations

import ctypes
from math import gcd

from convbench.api import Precision, Problem

from .cuda_direct_gather import LARGEST_SHARED, Gather
from .cuda_direct_shape import THREADS, Launch, defines, shape_of
from .gpu import Source, by_value

DEEP, HIGH, WIDE, MOST = 4, 2, 4, 4  # as in cuda_direct_thin.cu; MOST channels of results a block
FEW = 16  # with more channels of results, tiles are filled well enough
WIDEST = 32  # threads across: 128 pixels


class Region(ctypes.Structure):
    """As in cuda_direct_thin.cu."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in ("across", "down", "images", "col_tiles", "row_tiles", "image_tiles", "channel_tiles")
    ]


def serves(gather: Gather) -> bool:
    """Whether results are few enough a group, and neighbours read neighbours."""
    p = gather.problem
    near = p.dilation == (1, 1) and p.stride == (1, 1)
    if gather.backward:
        near = all(d == gcd(u, d) for u, d in zip(p.stride, p.dilation, strict=True))
    return near and gather.channels[1] <= FEW and shared(gather) <= LARGEST_SHARED


def region_of(gather: Gather) -> Region:
    """As many threads across and down as the pixels need, then several images."""
    rows, cols = gather.pixels
    across = min(_power(-(-cols // WIDE)), WIDEST)
    down = min(_power(-(-rows // HIGH)), THREADS // across)
    images = THREADS // (across * down)
    counts = -(-cols // (WIDE * across)), -(-rows // (HIGH * down)), -(-gather.problem.n // images)
    return Region(across, down, images, *counts, -(-gather.channels[1] // MOST))


def _power(size: int) -> int:
    """The power of two that is not below."""
    return 1 << (size - 1).bit_length()


def shared(gather: Gather) -> int:
    """Bytes for the filters and the input region of a block."""
    p, g = gather.problem, region_of(gather)
    rows, cols = map(_taps, p.taps, p.stride, p.dilation) if gather.backward else p.taps
    plane: int = (g.down * HIGH + rows - 1) * 4 * (g.across + -(-cols // 4))
    size = 8 if p.precision is Precision.FP64 else 4
    return DEEP * (rows * cols * MOST + int(g.images) * plane) * size


def _taps(taps: int, stride: int, dilation: int) -> int:
    """Taps that the pixels of one phase meet, at most."""
    return -(-taps // (stride // gcd(stride, dilation)))


def launch(gather: Gather) -> Launch:
    p, g = gather.problem, region_of(gather)
    blocks = g.col_tiles * g.row_tiles * g.image_tiles * g.channel_tiles * gather.phases * p.groups
    term, row = gather.steps
    shape = shape_of(p, term_step=term, row_step=row)
    name = f"{'backward' if gather.backward else 'forward'}_{min(gather.channels[1], MOST)}"
    return Launch(source(p), name, blocks, (by_value(shape), by_value(g)), shared(gather))


def source(problem: Problem) -> Source:
    functions = tuple(f"{kind}_{m}" for kind in ("forward", "backward") for m in range(1, MOST + 1))
    return Source("cuda_direct_thin.cu", functions, defines(problem.precision, problem.layout))
