"""What implicit matrix products on tensor cores multiply: channels innermost, in one or two 16-bit copies."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Layout, Precision, Problem

from .gpu import C_TYPES, Source, by_value

CHUNK, THREADS, TILE, SLICE = 8, 256, 64, 2048  # as in cuda_implicit_operands.cu
CHUNK_BYTES = 16
SIDE_BY_SIDE = 4  # chunks of high, then of low
FUNCTIONS = (
    *("row_maxima", "column_maxima", "scales"),
    *("last_chunks", "first_chunks", "filter_chunks", "add_parts"),
)

Launch = Callable[..., None]


def source(precision: Precision) -> Source:
    return Source("cuda_implicit_operands.cu", FUNCTIONS, (("ELEMENT", C_TYPES[precision]),))


def sources() -> Iterator[Source]:
    yield from (source(precision) for precision in (Precision.FP32, Precision.FP16, Precision.BF16))


def ceil(size: int, step: int) -> int:
    return -(-size // step)


def copies(precision: Precision) -> int:
    """Halves of a number; one is enough for TF32's digits."""
    return 2 if precision is Precision.FP32 else 1


def scaled(precision: Precision) -> bool:
    """Whether powers of two bring numbers into the range of fp16."""
    return precision.itemsize == 4


def ready(problem: Problem, depth: int) -> bool:
    """Whether channels of NHWC tensors are chunks as they are."""
    return problem.layout is Layout.NHWC and problem.precision.itemsize == 2 and depth % CHUNK == 0


def low_of(problem: Problem, copy: int, bulk: bool) -> int:
    """Chunks from high to low: the next copy, or side by side in a row of 128 bytes for copies in bulk."""
    if copies(problem.precision) == 1:
        return 0
    return SIDE_BY_SIDE if bulk and problem.direction is not Direction.BWD_FILTER else copy


class ImageStruct(ctypes.Structure):
    """struct Image of cuda_implicit_operands.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("images", "groups", "depth", "chunks", "plane", "by_image")),
        ("low", ctypes.c_longlong),
    ]


class FiltersStruct(ctypes.Structure):
    """struct Filters of cuda_implicit_operands.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("groups", "outputs", "depth", "chunks", "taps")),
        *((name, ctypes.c_int) for name in ("output_step", "depth_step", "tap_step", "group_step", "order")),
        ("low", ctypes.c_longlong),
    ]


@dataclass(frozen=True)
class Images:
    """x or y ("y" is also dy) of some images as an operand."""

    problem: Problem
    name: str
    images: int
    bulk: bool = False

    @property
    def channels(self) -> int:
        return self.problem.c if self.name == "x" else self.problem.k

    @property
    def depth(self) -> int:
        return self.channels // self.problem.groups

    @property
    def plane(self) -> int:
        return prod(self.problem.image if self.name == "x" else self.problem.output)

    @property
    def ready(self) -> bool:
        return ready(self.problem, self.depth)

    @property
    def chunks(self) -> int:
        """Of one pixel, all groups."""
        return self.problem.groups * ceil(self.depth, CHUNK)

    @property
    def copy(self) -> int:
        """Chunks from one copy to the next."""
        return self.images * self.plane * self.chunks

    @property
    def bytes(self) -> int:
        return 0 if self.ready else copies(self.problem.precision) * self.copy * CHUNK_BYTES

    @property
    def low(self) -> int:
        """Chunks from high to low."""
        return low_of(self.problem, self.copy, self.bulk)

    @property
    def by_image(self) -> bool:
        """Filter gradients sum over pixels: each image has its scale."""
        return self.problem.direction is Direction.BWD_FILTER

    def convert(self) -> Launch:
        """(tensor, operand, exponents or 0)"""
        p, last = self.problem, self.problem.layout is Layout.NHWC
        struct = ImageStruct(
            self.images,
            p.groups,
            self.depth,
            self.chunks // p.groups,
            self.plane,
            int(self.by_image),
            self.low,
        )
        kernel = source(p.precision)["last_chunks" if last else "first_chunks"]
        turned = ceil(self.plane, TILE) * ceil(self.chunks * CHUNK, TILE)
        blocks = ceil(self.copy, THREADS) if last else self.images * turned
        return lambda *arrays: kernel(blocks, THREADS, *arrays, by_value(struct))

    def maxima(self) -> Launch:
        """(tensor, maxima) of all images."""
        p = self.problem
        if self.by_image:
            return _row_maxima(p, p.n, self.channels * self.plane, p.n, p.n)
        if p.layout is Layout.NCHW:
            return _row_maxima(p, p.n * self.channels, self.plane, p.n * self.channels, self.channels)
        return _column_maxima(p, p.n * self.plane, p.n * self.plane, self.channels)


@dataclass(frozen=True)
class Filters:
    """w as an operand: rows are the channels that are computed."""

    problem: Problem
    bulk: bool = False

    @property
    def backward(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @property
    def sides(self) -> tuple[int, int]:
        """Channels of a group: computed, summed over."""
        sides = self.problem.k // self.problem.groups, self.problem.c // self.problem.groups
        return sides[::-1] if self.backward else sides

    @property
    def ready(self) -> bool:
        return not self.backward and ready(self.problem, self.sides[1])

    @property
    def taps(self) -> int:
        return prod(self.problem.taps)

    @property
    def chunks(self) -> int:
        """Of one tap."""
        return ceil(self.sides[1], CHUNK)

    @property
    def copy(self) -> int:
        """Chunks from one copy to the next."""
        return self.problem.groups * self.sides[0] * self.taps * self.chunks

    @property
    def low(self) -> int:
        """Chunks from high to low."""
        return low_of(self.problem, self.copy, self.bulk)

    @property
    def bytes(self) -> int:
        return 0 if self.ready else copies(self.problem.precision) * self.copy * CHUNK_BYTES

    def convert(self) -> Launch:
        """(tensor, operand, exponents or 0)"""
        p, (outputs, depth) = self.problem, self.sides
        channels, last = p.c // p.groups, p.layout is Layout.NHWC
        k_step, c_step, tap_step = channels * self.taps, 1 if last else self.taps, channels if last else 1
        output_step, depth_step = (c_step, k_step) if self.backward else (k_step, c_step)
        struct = FiltersStruct(
            p.groups, outputs, depth, self.chunks, self.taps, output_step, depth_step, tap_step,
            p.k // p.groups * k_step, 2 * self.backward + (not last),
            self.low,
        )  # fmt: skip
        kernel, blocks = source(p.precision)["filter_chunks"], ceil(self.copy, THREADS)
        return lambda *arrays: kernel(blocks, THREADS, *arrays, by_value(struct))

    def maxima(self) -> Launch:
        """(tensor, maxima)"""
        p, channels = self.problem, self.problem.c // self.problem.groups
        if self.backward:
            return _row_maxima(p, p.k, channels * self.taps, p.k, p.k)
        filters = p.k // p.groups
        if p.layout is Layout.NCHW:
            return _column_maxima(p, p.k, filters, channels * self.taps, self.taps)
        return _column_maxima(p, p.k * self.taps, filters * self.taps, channels)


def _row_maxima(problem: Problem, rows: int, inner: int, period: int, width: int) -> Launch:
    kernel = source(problem.precision)["row_maxima"]
    blocks = ceil(rows * ceil(inner, SLICE), THREADS // 32)
    return lambda *arrays: kernel(blocks, THREADS, *arrays, rows, inner, period, width)


def _column_maxima(problem: Problem, rows: int, period: int, width: int, inner: int = 1) -> Launch:
    kernel, slice_ = source(problem.precision)["column_maxima"], SLICE // 16
    blocks = rows // period * ceil(period, slice_) * ceil(width, 32)
    return lambda *arrays: kernel(blocks, THREADS, *arrays, period, width, inner, slice_)


def add(problem: Problem, results: int, parts: int) -> Launch:
    """(parts, result, exponent or 0)"""
    kernel, blocks = source(problem.precision)["add_parts"], ceil(results, THREADS)
    return lambda *arrays: kernel(blocks, THREADS, *arrays, results, parts)
