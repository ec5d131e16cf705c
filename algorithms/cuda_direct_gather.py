"""Forward and backward data as an implicit matrix product: its tiles and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Precision, Problem

from .cuda_direct_shape import DEPTH, Launch, Tile, defines, nhwc, shape_of
from .gpu import Source, by_value

LARGEST_SHARED = 227 * 1024
PACKED_ENTRIES = 1024
SLACK = 1.3  # tiles that may take this much longer than the best are offered too
MOST_TILES = 3

TILES = (
    Tile(128, 128, 1.0),
    Tile(96, 128, 0.95),
    Tile(64, 256, 1.0),
    Tile(64, 64, 0.55),
    Tile(32, 256, 0.75),
)


@dataclass(frozen=True)
class Gather:
    """The implicit matrix product of a forward or backward-data problem on one tile."""

    problem: Problem
    tile: Tile

    @property
    def backward(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @property
    def channels(self) -> tuple[int, int]:
        """Of one group: summed over, computed."""
        sides = self.problem.c // self.problem.groups, self.problem.k // self.problem.groups
        return sides[::-1] if self.backward else sides

    @property
    def phases(self) -> int:
        """Sub-problems: remainders of the pixels of x when divided by the stride."""
        p = self.problem
        return prod(map(min, p.stride, p.image)) if self.backward else 1

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of the largest sub-problem."""
        p = self.problem
        height, width = (-(-size // u) for size, u in zip(p.image, p.stride, strict=True))
        return (height, width) if self.backward else p.output

    @property
    def tiles(self) -> tuple[int, int]:
        return -(-self.channels[1] // self.tile.m), -(-self.problem.n * prod(self.pixels) // self.tile.n)

    @property
    def blocks(self) -> int:
        return prod(self.tiles) * self.phases * self.problem.groups

    @property
    def cycles(self) -> float:
        return self.tile.cycles(self.blocks)

    @property
    def images(self) -> int:
        """Images whose pixels of one row follow one another, so that a tile sees as few rows as it can."""
        most = max(1, self.tile.n // self.pixels[1])
        return max(i for i in range(1, min(most, self.problem.n) + 1) if self.problem.n % i == 0)

    @property
    def by_channel(self) -> bool:
        """Steps of 8 neighbouring channels, loaded four at a time."""
        reduced = self.channels[0]
        return nhwc(self.problem) and (reduced % 8 == 0 or (reduced % 4 == 0 and not self.packed))

    @property
    def packed(self) -> bool:
        """One table for the whole reduction, in the order of NHWC filters."""
        p = self.problem
        return nhwc(p) and self.channels[0] % 8 != 0 and self.channels[0] * p.r * p.s <= PACKED_ENTRIES

    @property
    def shared(self) -> int:
        """Two stages, where the results go, and the table of taps."""
        taps = self.problem.r * self.problem.s
        entries = self.channels[0] * taps if self.packed else taps if self.by_channel else max(taps, 14)
        size = 8 if self.problem.precision is Precision.FP64 else 4
        stage = DEPTH * (self.tile.m + self.tile.n + 8) * size
        return 2 * stage + 8 * self.tile.n + 16 * (entries + 2 * DEPTH)

    @property
    def steps(self) -> tuple[int, int]:
        """In the filters, from one summed channel and from one computed channel to the next."""
        taps, (reduced, outputs) = self.problem.r * self.problem.s, self.channels
        inner = 1 if nhwc(self.problem) else taps
        return (taps * outputs, inner) if self.backward else (inner, taps * reduced)

    def launch(self) -> Launch:
        p, outputs, (term, row) = self.problem, self.channels[1], self.steps
        neighbours = outputs if nhwc(p) else self.pixels[1] if self.phases == 1 else 1
        shape = shape_of(
            p, row_tiles=self.tiles[0], pixel_tiles=self.tiles[1], images=self.images,
            packed=int(self.packed), wide_out=int(neighbours % 4 == 0), term_step=term, row_step=row,
        )  # fmt: skip
        compiled = source(p, self.backward, self.by_channel)
        return Launch(compiled, f"tile{self.tile.size}", self.blocks, (by_value(shape),), self.shared)


def source(problem: Problem, backward: bool, by_channel: bool) -> Source:
    functions = tuple(f"tile{tile.size}" for tile in TILES)
    macros = ("BACKWARD", int(backward)), ("BY_CHANNEL", int(by_channel))
    return Source("cuda_direct_gather.cu", functions, defines(problem.precision, problem.layout) + macros)


def gathers(problem: Problem) -> Sequence[Gather]:
    """The best tile for this problem, and others that may be."""
    offered = [Gather(problem, tile) for tile in TILES]
    ranked = sorted(offered, key=lambda one: one.cycles)[:MOST_TILES]
    near = [one for one in ranked if one.cycles <= SLACK * ranked[0].cycles]
    return [one for one in near if one.shared <= LARGEST_SHARED]
