"""Tiles of implicit matrix products on tensor cores, and the kernels that are compiled for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from convbench import cuda
from convbench.api import Direction, Precision, Problem

from .cuda_implicit_operands import copies
from .gpu import C_TYPES, Source

STAGE_MEMORY = {True: 205_000, False: 150_000}  # as in cuda_implicit.cuh: with WGMMA and without
ROW_BYTES, TABLE_BYTES, ALIGNMENT, BARRIERS = 128, 24, 1024, 128
HOPPER = 90


@dataclass(frozen=True)
class Engine:
    """What multiplies, and what copies."""

    wgmma: bool
    bulk: bool

    @property
    def name(self) -> str:
        return "bulk" if self.bulk else "tile"


ENGINES = Engine(wgmma=False, bulk=False), Engine(wgmma=True, bulk=False), Engine(wgmma=True, bulk=True)


@dataclass(frozen=True)
class Tile:
    """M channels times N pixels (or columns of filters) of a block; `rate` is relative to the best."""

    m: int
    n: int
    rate: float

    @property
    def size(self) -> str:
        return f"{self.m}x{self.n}"

    @property
    def threads(self) -> int:
        return 2 * self.m

    @property
    def resident(self) -> int:
        """Blocks of a multiprocessor."""
        return 2 if self.m == 64 else 1

    def shared(self, engine: Engine) -> int:
        """Stages; for each column where it comes from and goes to; barriers; what aligns them."""
        stage = (self.m + self.n) * ROW_BYTES
        stages = STAGE_MEMORY[engine.wgmma] // self.resident // stage * stage
        return stages + TABLE_BYTES * self.n + ALIGNMENT + BARRIERS


# By whether filters are computed, and by copies of an operand: sums of split numbers take up more registers.
# The rates are of an H200.
TILES = {
    (False, 1): (Tile(128, 256, 1.0), Tile(128, 128, 0.95), Tile(64, 192, 0.68), Tile(64, 128, 0.65)),
    (False, 2): (Tile(128, 192, 1.0), Tile(128, 128, 0.97), Tile(64, 192, 0.9), Tile(64, 128, 0.8)),
    (True, 1): (Tile(128, 256, 1.0), Tile(128, 128, 0.65), Tile(64, 192, 0.75), Tile(64, 128, 0.75)),
    (True, 2): (Tile(128, 192, 0.87), Tile(128, 128, 0.87), Tile(64, 192, 1.0), Tile(64, 128, 0.8)),
}


def tiles(problem: Problem, engine: Engine) -> Sequence[Tile]:
    """Warps do with two sizes; threads that copy filters have to divide a row evenly."""
    gradient = problem.direction is Direction.BWD_FILTER
    offered = TILES[gradient, copies(problem.precision)]
    if not engine.wgmma:
        return [tile for tile in offered if tile.n == 128]
    return [tile for tile in offered if engine.bulk or not gradient or tile.n != 192]


def capability() -> int:
    """Of the current device."""
    major, minor = cuda.facts().capability
    return 10 * major + minor


# ---- compilations ------------------------------------------------------------------------------------------


def source(problem: Problem, tile: Tile, engine: Engine) -> Source:
    """The kernel `multiply` for this tile."""
    gradient, precision = problem.direction is Direction.BWD_FILTER, problem.precision
    macros: dict[str, str | int] = {
        "ELEMENT": C_TYPES[precision],
        "BFLOAT": int(precision is Precision.BF16),
        "COPIES": copies(precision),
        "TILE_M": tile.m,
        "TILE_N": tile.n,
        "WGMMA": int(engine.wgmma),
        "BULK": int(engine.bulk),
    }
    file = f"cuda_implicit_{'filter' if gradient else 'gather'}.cu"
    return (Hopper if engine.wgmma else Source)(file, ("multiply",), tuple(macros.items()))


def sources() -> Iterator[Source]:
    kinds = [precision for precision in Precision if precision is not Precision.FP64]
    for direction, precision, engine in product(("fwd", "bwd-filter"), kinds, ENGINES):
        problem = Problem.parse("n1c1h1k1r1", direction=direction, precision=precision)
        yield from (source(problem, tile, engine) for tile in tiles(problem, engine))


class Hopper(Source):
    """Compiled for Hopper's own instructions, which plain sm_90 does not have."""

    architecture = "sm_90a"
