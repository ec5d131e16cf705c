"""Backward data with images innermost (CHWN): dy is turned around, multiplied, and dx turned back.

Where many images lie side by side a tile sees one pixel of them, so that what meets only padding is skipped
exactly, and every copy is of four neighbours. Both turned tensors and the filters are its workspace.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import ceil, prod

from convbench.api import Array, Direction, Layout, Precision, Problem

from .cuda_direct_shape import DEPTH, MULTIPROCESSORS, Tile, defines, shape_of
from .cuda_direct_walk import met, walks
from .gpu import Source, by_value, pointer

FUNCTIONS = ("turn", "pack", "chwn128x128", "chwn64x256", "chwn64x128", "turn_back")
TILES = (Tile(128, 128, 1.0), Tile(64, 256, 0.96), Tile(64, 128, 0.92, 3))
FOUR, TURN, THREADS, TILE_THREADS, ALIGNMENT = 4, 32, 256, 128, 256
SPAN = 4 * TURN  # elements that a block turns around
FEWEST = 32  # images: a warp's copies are then of whole lines; and computed channels, half of a tile
PARTS = (1, 2, 3, 4, 5, 6, 7, 8)  # of a reduction
RATE = 50e12  # of products of the best tile, in flops
TRAFFIC = 2e12  # bytes a second of a turn
ENTRIES = 14  # of the table of taps, at least
FAR = 2**31
LARGEST_GRID, MOST_IN_GRID = 2**31 - 1, 65535
LARGEST_SHARED = 227 * 1024


class BatchStruct(ctypes.Structure):
    _fields_ = (("parts", ctypes.c_int), ("pitch", ctypes.c_int), ("part", ctypes.c_longlong))


@dataclass(frozen=True)
class Batch:
    """The products of a problem on one tile; `parts` blocks share a tile's reduction."""

    problem: Problem
    tile: Tile
    parts: int = 1

    @property
    def name(self) -> str:
        return f"chwn{self.tile.size}" + (f"-parts{self.parts}" if self.parts > 1 else "")

    @property
    def channels(self) -> tuple[int, int]:
        """Of one group: summed over, computed."""
        return self.problem.k // self.problem.groups, self.problem.c // self.problem.groups

    @property
    def images(self) -> int:
        """With those that only fill up."""
        return ceil(self.problem.n / FOUR) * FOUR

    @property
    def pitch(self) -> int:
        """Of a row of filters."""
        return ceil(self.channels[1] / FOUR) * FOUR

    @property
    def lengths(self) -> tuple[int, int]:
        """Elements of one image: read, computed."""
        p = self.problem
        return p.k * prod(p.output), p.c * prod(p.image)

    @property
    def rows(self) -> int:
        """Of filters."""
        return self.problem.groups * self.channels[0] * prod(self.problem.taps)

    @property
    def part(self) -> int:
        """Results of a part."""
        return self.lengths[1] * self.images

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Where the turned tensor, the filters and the results begin, and where all of it ends."""
        sizes = self.lengths[0] * self.images, self.rows * self.pitch, self.parts * self.part
        return tuple(accumulate((_aligned(4 * size) for size in sizes), initial=0))

    @property
    def workspace(self) -> int:
        return self.places[-1]

    # ---- blocks --------------------------------------------------------------------------------------------

    @property
    def phases(self) -> int:
        """Sub-problems: remainders of the pixels of x when divided by the stride."""
        p = self.problem
        return prod(map(min, p.stride, p.image))

    @property
    def pixels(self) -> int:
        """Of the largest sub-problem."""
        p = self.problem
        return prod(-(-x // u) for x, u in zip(p.image, p.stride, strict=True))

    @property
    def tiles(self) -> tuple[int, int]:
        return ceil(self.channels[1] / self.tile.m), ceil(self.images * self.pixels / self.tile.n)

    @property
    def blocks(self) -> int:
        return prod(self.tiles) * self.phases * self.problem.groups * self.parts

    @property
    def seconds(self) -> float:
        """What rounds of blocks take, the longest of which start first, and the parts of the results."""
        mean, longest = (self.channels[0] * taps / DEPTH / self.parts for taps in self.taps)
        slots = MULTIPROCESSORS * self.tile.resident
        step = 2 * self.tile.m * self.tile.n * DEPTH * slots / (RATE * self.tile.rate)
        rounds = ceil(self.blocks / slots) * mean + (longest - mean) / 2
        return rounds * step + self.parts * 8 * self.part / TRAFFIC

    @property
    def taps(self) -> tuple[float, float]:
        """That a tile needs, on average and at most."""
        seen = max(1, self.tile.n // self.images)  # pixels of a row
        rows, cols = (walks(self.problem, axis) for axis in (0, 1))
        high, wide = [met(walk, 1) for walk in rows], [met(walk, seen) for walk in cols]
        sums = [sum(sum(phase) / len(phase) for phase in axis) / len(axis) for axis in (high, wide)]
        return prod(sums), prod(max(map(max, axis)) for axis in (high, wide))

    @property
    def shared(self) -> int:
        """Two stages, where the results go, and the table of taps."""
        stage = DEPTH * (self.tile.m + self.tile.n + 8) * 4
        return 2 * stage + 2 * self.tile.n + 16 * (max(prod(self.problem.taps), ENTRIES) + 2 * DEPTH)

    @property
    def source(self) -> Source:
        return source(self.problem)


class BatchPlan:
    """Four launches with everything but the arrays."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._kernels = batch, batch.source.load()
        self._tile = self._kernels[f"chwn{batch.tile.size}"]
        self._tile.allow_shared(batch.shared)
        padded = replace(batch.problem, n=batch.images)
        shape = shape_of(
            padded, row_tiles=batch.tiles[0], pixel_tiles=batch.tiles[1], images=batch.images, run=1,
            term_step=prod(batch.problem.taps), row_step=1,
        )  # fmt: skip
        self._shape = by_value(shape)
        self._struct = by_value(BatchStruct(batch.parts, batch.pitch, batch.part))

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        batch, kernels = self._batch, self._kernels
        data, filters, sums = (pointer(workspace) + place for place in batch.places[:3])
        n, padded = batch.problem.n, batch.images
        across, (read, computed) = ceil(padded / TURN), batch.lengths
        kernels["turn"]((ceil(read / SPAN), across), THREADS, a, data, n, padded, read)
        blocks = ceil(batch.rows * batch.pitch / THREADS)
        kernels["pack"](blocks, THREADS, b, filters, self._shape, self._struct)
        arrays = data, filters, sums, self._shape, self._struct
        self._tile(batch.blocks, TILE_THREADS, *arrays, shared=batch.shared)
        grid = ceil(computed / SPAN), across
        kernels["turn_back"](grid, THREADS, sums, out, n, computed, self._struct, padded)

    def close(self) -> None:
        pass


def source(problem: Problem) -> Source:
    return Source("cuda_direct_batch.cu", FUNCTIONS, defines(problem.precision, problem.layout))


def serves(problem: Problem) -> bool:
    """Whether there are images to lie side by side, and offsets fit into 32 bits."""
    p = problem
    if p.direction is not Direction.BWD_DATA or p.n < FEWEST:
        return False
    if p.precision not in (Precision.FP32, Precision.TF32) or p.layout is not Layout.NCHW:
        return False
    one = Batch(p, TILES[0])
    if one.channels[1] < FEWEST or one.images > MOST_IN_GRID * TURN:
        return False
    planes = max(prod(p.image), prod(p.output)) * one.images
    return max(planes, prod(p.taps) * one.pitch) * (2 * DEPTH + 2) < FAR


def batches(problem: Problem) -> Sequence[Batch]:
    """The two best tiles for this problem, in their best number of parts."""
    found = [Batch(problem, tile, parts) for tile in TILES for parts in PARTS]
    fitting = (one for one in found if one.shared <= LARGEST_SHARED and one.blocks <= LARGEST_GRID)
    best: dict[Tile, Batch] = {}
    for one in sorted(fitting, key=lambda one: one.seconds):
        best.setdefault(one.tile, one)
    return list(best.values())[:2]


def _aligned(size: int) -> int:
    return ceil(size / ALIGNMENT) * ALIGNMENT
