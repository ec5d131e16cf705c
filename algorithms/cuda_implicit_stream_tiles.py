"""Streams of 16-bit nhwc tensors: tiles, the kernels compiled for each, and what products have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from convbench.api import Direction, Precision, Problem

from .cuda_implicit_operands import ceil
from .cuda_implicit_products import MULTIPROCESSORS, PRODUCTS_A_CYCLE, Product
from .cuda_implicit_tiles import Engine, Hopper, Tile
from .gpu import C_TYPES

MEMORY, ALIGNMENT = 231_000, 1024  # as in cuda_implicit_stream.cuh
BLOCK, ROW_BYTES = 64, 128  # channels or positions; bytes of so many
SPARE = 8  # rows of a window beyond those for one tap, as in cuda_implicit_stream.cuh
WRITE_CYCLES, FIXED_CYCLES = 1500, 3000  # of a tile; of a block
COPIED_A_CYCLE = 56  # bytes, by each multiprocessor


@dataclass(frozen=True)
class Wide(Tile):
    """M x N results of some warpgroups, `sides` of them along the columns; a window serves `taps` taps."""

    sides: int = 1
    taps: int = 1

    @property
    def threads(self) -> int:
        return 128 * (self.m // 64 * self.sides + 1)

    @property
    def resident(self) -> int:
        return 1

    def shared(self, engine: Engine) -> int:
        return MEMORY + ALIGNMENT

    @property
    def spare(self) -> int:
        """Rows of a window beyond those for one tap."""
        return SPARE if self.taps > 1 else 0

    @property
    def stored(self) -> int:
        """Pixels that are written at once."""
        return 32 if self.n // self.sides % 64 else 64


# Tensor cores limit all of these; the rates are of an H200.
TILES = (
    *(Wide(128, 256, 1.0), Wide(128, 192, 0.99), Wide(128, 128, 0.95), Wide(64, 384, 0.94, 2)),
    *(Wide(64, 512, 0.95, 2, 3), Wide(64, 256, 0.95, 2, 3)),
)
GRADIENT_TILES = (
    *(Wide(128, 256, 1.0), Wide(128, 192, 0.99), Wide(128, 128, 0.83), Wide(64, 256, 0.75, 2)),
    Wide(64, 576, 1.0, 3, 3),
)


def source(problem: Problem, tile: Tile) -> Hopper:
    assert isinstance(tile, Wide)
    functions, defines = ("stream_tiles",), macros(problem.precision, tile)
    if problem.direction is Direction.BWD_FILTER:
        return Hopper("cuda_implicit_stream_filter.cu", functions, defines)
    turned = int(problem.direction is Direction.BWD_DATA)
    return Hopper("cuda_implicit_stream.cu", functions, (*defines, ("TURNED", turned)))


def macros(precision: Precision, tile: Wide) -> tuple[tuple[str, str | int], ...]:
    """Of cuda_implicit_stream.cuh."""
    bfloat = int(precision is Precision.BF16)
    sizes = ("TILE_M", tile.m), ("TILE_N", tile.n), ("SIDES", tile.sides), ("TAPS", tile.taps)
    return ("ELEMENT", C_TYPES[precision]), ("BFLOAT", bfloat), *sizes


def sources() -> Iterator[Hopper]:
    for precision in (Precision.FP16, Precision.BF16):
        for direction, tiles in (("fwd", TILES), ("bwd-data", TILES), ("bwd-filter", GRADIENT_TILES)):
            problem = Problem.parse("n1c1h1k1r1", direction=direction, precision=precision)
            yield from (source(problem, tile) for tile in tiles)


# ---- products ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Streamed(Product):
    """What both kinds have in common."""

    @property
    def wide(self) -> Wide:
        assert isinstance(self.tile, Wide)
        return self.tile

    @property
    def name(self) -> str:
        kind = "window" if self.wide.taps > 1 else "stream"
        return super().name.replace(self.engine.name, kind)

    @property
    def grid(self) -> int:
        return min(self.blocks, MULTIPROCESSORS)

    @property
    def cycles(self) -> float:
        tile = self.tile
        products = tile.m * tile.n * self.depth / PRODUCTS_A_CYCLE / tile.rate
        step = max(products, self.copied / COPIED_A_CYCLE)
        items = ceil(self.blocks, MULTIPROCESSORS)
        return items * (self.length * step + WRITE_CYCLES) + FIXED_CYCLES + self.added

    @property
    def copied(self) -> float:
        """Bytes of a step that others do not ask for at the same time."""
        return 0

    @property
    def extension(self) -> int:
        """Positions of a row beyond those of results."""
        return (self.wide.taps - 1) * self.problem.dilation[1]

    def suits_window(self) -> bool:
        """Whether taps of a row meet neighbouring pixels, not too far apart."""
        p = self.problem
        return self.wide.taps == 1 or (p.s > 1 and p.stride[1] == 1 and self.extension <= SPARE)
