"""Where the matrices of im2col lie in device memory, and the kernels that fill them and sum them up."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from convbench.api import Direction, Layout, Precision, Problem

from .gpu import C_TYPES, Kernel, Source, by_value

FUNCTIONS = ("lower_planes", "lower_rows", "raise_planes", "raise_rows", "move_rows", "sum_parts")
ALIGNMENT = 256
CHANNELS, RUN = 8, 32  # of one thread, as in cuda_im2col.cu
PAIRS = {2: (2, 2)}  # by bytes of an element: pixels written at once, and how often
THREADS = 256
FEWEST_BLOCKS = 4096  # several waves on any GPU
MOST_IN_GRID = 65535
LARGEST = 2**31 - 1


class Axis(ctypes.Structure):
    """Tap t of output o reads pixel o stride + first + t step."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("size", "outputs", "taps", "stride", "first", "step"))


class Shape(ctypes.Structure):
    _fields_ = (
        ("rows", Axis),
        ("cols", Axis),
        *((name, ctypes.c_int) for name in ("images", "channels", "groups")),
        *((name, ctypes.c_longlong) for name in ("matrix", "pitch")),
    )


def source(precision: Precision) -> Source:
    return Source("cuda_im2col.cu", FUNCTIONS, (("ELEMENT", C_TYPES[precision]),))


def axis(problem: Problem, index: int) -> Axis:
    """`flip` reverses the taps, so that filters are never copied."""
    taps, dilation, before = problem.taps[index], problem.dilation[index], problem.pad[index][0]
    first, step = -before, dilation
    if problem.flip:
        first, step = (taps - 1) * dilation - before, -dilation
    return Axis(problem.image[index], problem.output[index], taps, problem.stride[index], first, step)


@dataclass(frozen=True)
class Matrix:
    """Channels or taps x pixels: elements from one stored row, group, matrix or pixel to the next."""

    leading: int
    group: int
    matrix: int
    pixel: int


@dataclass(frozen=True)
class Chunk:
    """Some images lowered at once; `merged` puts them side by side into one matrix.

    In nchw an image is channels x pixels, and so are its columns. Merging makes products of better sizes, but
    then y has to be brought into this order too. In nhwc all pixels follow each other and merging is free.
    """

    problem: Problem
    images: int
    merged: bool

    @property
    def planes(self) -> bool:
        return self.problem.layout is Layout.NCHW

    @property
    def itemsize(self) -> int:
        return self.problem.precision.itemsize

    @property
    def wide_itemsize(self) -> int:
        """Of sums."""
        return max(4, self.itemsize)

    @property
    def lowers(self) -> bool:
        """A plain 1x1 convolution is a matrix product as it stands, unless its images are to be merged."""
        p = self.problem
        plain = p.taps == p.stride == (1, 1) and p.pad == ((0, 0), (0, 0))
        return not plain or self.copies_y

    @cached_property
    def plane(self) -> int:
        """Pixels of one output image."""
        return prod(self.problem.output)

    @cached_property
    def length(self) -> int:
        """Taps of one filter: C/g R S."""
        return self.problem.c // self.problem.groups * prod(self.problem.taps)

    @property
    def matrices(self) -> int:
        return 1 if self.merged else self.images

    @property
    def pixels(self) -> int:
        """Columns of each matrix."""
        return self.images * self.plane // self.matrices

    @cached_property
    def pitch(self) -> int:
        """Rows of columns begin at 16 bytes, where tensor cores and vectors want them."""
        step = 16 // self.itemsize
        return ceil(self.pixels / step) * step

    @property
    def copies_y(self) -> bool:
        """Whether y has to change its order for the product."""
        return self.planes and self.merged and self.images > 1

    @cached_property
    def columns(self) -> Matrix:
        p, g = self.problem, self.problem.groups
        if not self.lowers:
            return self._tensor(p.c)
        if self.planes:
            return Matrix(self.pitch, self.length * self.pitch, g * self.length * self.pitch, 1)
        return Matrix(g * self.length, self.length, 0, g * self.length)

    @cached_property
    def y(self) -> Matrix:
        if self.copies_y:
            return Matrix(self.pitch, self.problem.k // self.problem.groups * self.pitch, 0, 1)
        return self._tensor(self.problem.k)

    def _tensor(self, channels: int) -> Matrix:
        """A tensor with as many pixels as y, in place."""
        each = channels // self.problem.groups
        if self.planes:
            return Matrix(self.plane, each * self.plane, channels * self.plane, 1)
        return Matrix(channels, each, 0, channels)

    def blocks(self) -> dict[str, int]:
        """Bytes of each part of the workspace; partial filter gradients come on top."""
        found = {}
        if self.lowers:
            sums = self.problem.direction is Direction.BWD_DATA
            size = self.wide_itemsize if sums else self.itemsize
            row = self.pitch if self.planes else self.pixels
            found["columns"] = self.matrices * self.problem.groups * self.length * row * size
        if self.copies_y:
            found["y"] = self.problem.k * self.pitch * self.itemsize
        return found


class Lowering:
    """The kernels for one chunk, all arguments but the addresses made ready."""

    def __init__(self, chunk: Chunk, kernels: Mapping[str, Kernel]) -> None:
        self.chunk, self._kernels = chunk, kernels
        p = chunk.problem
        images, matrix = chunk.images // chunk.matrices, chunk.columns.matrix
        self._shape = by_value(Shape(axis(p, 0), axis(p, 1), images, p.c, p.groups, matrix, chunk.pitch))

    def lower(self, x: int, columns: int) -> None:
        p, chunk = self.chunk.problem, self.chunk
        if chunk.planes:
            pair, groups = PAIRS.get(chunk.itemsize, (1, 4))
            groups = groups if chunk.pixels > THREADS * pair * groups // 2 else 1
            grid = self._grid(ceil(chunk.pixels / (THREADS * pair * groups)), p.c)
            self._kernels["lower_planes"](grid, THREADS, x, columns, self._shape, groups)
            return
        vector = _vector(p.c // p.groups * chunk.itemsize)
        row = p.groups * chunk.length * chunk.itemsize // vector
        across = min(THREADS, ceil(row / 32) * 32)
        down = THREADS // across
        runs = chunk.images * p.p * ceil(p.q / RUN)
        blocks = ceil(runs / down), ceil(row / across)
        self._kernels["lower_rows"](blocks, (across, down), x, columns, self._shape, vector)

    def raise_(self, columns: int, x: int) -> None:
        """Sum columns into the images of the chunk."""
        p, chunk = self.chunk.problem, self.chunk
        pixels = chunk.images // chunk.matrices * prod(p.image)
        if chunk.planes:
            grid = self._grid(ceil(pixels / THREADS), ceil(p.c / CHANNELS))
            self._kernels["raise_planes"](grid, THREADS, columns, x, self._shape)
            return
        count = 16 // chunk.wide_itemsize
        vectors = p.c // p.groups % count == 0
        across = min(THREADS, 1 << (p.c // (count if vectors else 1) - 1).bit_length())
        down = THREADS // across
        block = (across, down)
        self._kernels["raise_rows"](ceil(pixels / down), block, columns, x, self._shape, int(vectors))

    def _grid(self, blocks: int, channels: int) -> tuple[int, int, int]:
        """Blocks along pixels, channels and matrices; where pixels are too few, channels are shared out."""
        matrices = self.chunk.matrices
        parts = min(channels, ceil(FEWEST_BLOCKS / (blocks * matrices)), MOST_IN_GRID)
        return blocks, parts, matrices

    def gather_y(self, y: int, block: int) -> None:
        """(N, K, P Q) as (K, N P Q)."""
        plane, k = self.chunk.plane, self.chunk.problem.k
        self._move(y, block, plane, k * plane, self.chunk.pitch, plane)

    def scatter_y(self, block: int, y: int) -> None:
        plane, k = self.chunk.plane, self.chunk.problem.k
        self._move(block, y, self.chunk.pitch, plane, plane, k * plane)

    def _move(self, source: int, target: int, *strides: int) -> None:
        """Strides along K and N of source and target."""
        chunk = self.chunk
        rows, threads = chunk.problem.k * chunk.images, min(THREADS, ceil(chunk.plane / 32) * 32)
        self._kernels["move_rows"](rows, threads, source, target, chunk.images, chunk.plane, *strides)

    def sum_parts(self, parts: int, dw: int, count: int) -> None:
        size = prod(self.chunk.problem.w_shape)
        grid = min(ceil(size / THREADS), FEWEST_BLOCKS)
        self._kernels["sum_parts"](grid, THREADS, parts, dw, size, count)


def _vector(row: int) -> int:
    """The largest access that divides a row of bytes."""
    return next(size for size in (16, 8, 4, 2) if row % size == 0)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
