"""Forward and backward data as an implicit matrix product: its tiles and launches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

from convbench import cuda
from convbench.api import Direction, Precision, Problem
from convbench.problem import LONGEST

from .cuda_direct_filter import BYTES_A_CYCLE, SECOND_KERNEL, add_parts
from .cuda_direct_shape import DEPTH, Launch, Tile, defines, nhwc, shape_of, tile_threads
from .cuda_direct_walk import met, walks
from .gpu import Source, by_value, missing

LARGEST_SHARED = 227 * 1024
PACKED_ENTRIES = 1024
MOST_MASKED = 31  # rows and columns of taps
SLACK = 1.3  # tiles that may take this much longer than the best are offered too
MOST_TILES = 3
NEAR = 1.05  # a tile that needs a workspace is offered if it may take this much longer than the best
FIXED, ADDED = 4, 14  # steps that take as long as what a block does around its own; as adding up parts
PARTS = (2, 4, 8)  # of a reduction in a cluster
CUTS = (2, 3, 4, 5, 6, 7, 8)  # of a reduction in a workspace
TWO_PIXELS = 0.88  # the rate that is left where a thread loads the channels of two pixels

TILES = (
    Tile(128, 128, 1.0),
    Tile(96, 128, 1.0, 3),
    Tile(64, 256, 0.98),
    Tile(64, 128, 0.93, 3),
    Tile(64, 64, 0.8, 4),
    Tile(32, 256, 0.88, 3),
)
CROWDED = ("96x128", "32x256")  # tiles without registers for what cells need
SPLIT = ("128x128", "64x128", "64x64")  # tiles whose reduction can be shared
RUNS = {0: 1.0, 4: 0.9, 2: 0.85}  # columns that follow one another, and the rate that is left


@dataclass(frozen=True)
class Gather:
    """The implicit matrix product of a forward or backward-data problem on one tile.

    run    columns after which the next image follows, so that a tile sees few columns; 0: all
    parts  blocks, a cluster, that share a tile's reduction
    cuts   blocks that share it by way of a workspace
    """

    problem: Problem
    tile: Tile
    run: int = 0
    parts: int = 1
    cuts: int = 1

    @property
    def name(self) -> str:
        split = f"-split{self.parts}" if self.parts > 1 else f"-parts{self.cuts}" if self.cuts > 1 else ""
        return f"tile{self.tile.size}{split}" + (f"-run{self.run}" if self.run else "")

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
        return prod(map(min, p.stride, p.image)) if self.backward and not self.cells else 1

    @property
    def cells(self) -> bool:
        """Whether phase 0 alone has taps, and its blocks write the zeros of the others too."""
        p = self.problem
        whole = all(x % u == 0 for x, u in zip(p.image, p.stride, strict=True))
        if not self.backward or p.stride == (1, 1) or not whole:
            return False
        if p.precision is Precision.FP64 or self.tile.size in CROWDED:
            return False
        return all(phase.taps == 0 for axis in (0, 1) for phase in walks(p, axis)[1:])

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of the largest sub-problem."""
        p = self.problem
        height, width = (-(-size // u) for size, u in zip(p.image, p.stride, strict=True))
        return (height, width) if self.backward else p.output

    @property
    def tiles(self) -> tuple[int, int]:
        rows, cols = self.pixels
        across = -(-cols // self.run) * self.run if self.run else cols
        return -(-self.channels[1] // self.tile.m), -(-self.problem.n * rows * across // self.tile.n)

    @property
    def blocks(self) -> int:
        return prod(self.tiles) * self.phases * self.problem.groups * self.parts * self.cuts

    @property
    def results(self) -> int:
        p = self.problem
        return p.n * (p.c * prod(p.image) if self.backward else p.k * prod(p.output))

    @property
    def workspace(self) -> int:
        return self.cuts * self.results * self.problem.precision.itemsize if self.cuts > 1 else 0

    @property
    def cycles(self) -> float:
        """Clock cycles: rounds of blocks with an average reduction, and at the end one with the longest."""
        mean, longest = (self.channels[0] * taps / DEPTH / self.parts / self.cuts for taps in self.taps)
        around = FIXED + (ADDED if self.parts > 1 else 0)
        scattered = self.by_channel and self.tile.n > tile_threads(self.problem)
        rounds = self.tile.cycles(self.blocks) / (RUNS[self.run] * (TWO_PIXELS if scattered else 1))
        adding = self.workspace / BYTES_A_CYCLE + SECOND_KERNEL if self.cuts > 1 else 0
        return rounds * (mean + around) + self.tile.cycles(1) * (longest - mean) + adding

    @property
    def taps(self) -> tuple[float, float]:
        """That a tile needs, on average and at most."""
        line = self.images * (self.run or self.pixels[1])  # pixels of one row, and of one run, side by side
        seen = -(-self.tile.n // line) + (line % self.tile.n > 0)
        rows, cols = (walks(self.problem, axis)[: 1 if self.cells else None] for axis in (0, 1))
        high = [met(walk, seen) for walk in rows]
        wide = [met(walk, self.run or walk.count) for walk in cols]
        sums = [sum(sum(phase) / len(phase) for phase in axis) / len(axis) for axis in (high, wide)]
        return prod(sums), prod(max(map(max, axis)) for axis in (high, wide))

    @property
    def images(self) -> int:
        """Images whose pixels of one row follow one another, so that a tile sees as few rows as it can."""
        line, images = self.run or self.pixels[1], range(1, self.problem.n + 1)
        divisors = [i for i in images if self.problem.n % i == 0]
        whole = (i for i in divisors if i * line % self.tile.n == 0)
        return next(whole, max(i for i in divisors if i == 1 or i * line <= self.tile.n))

    @property
    def skips(self) -> bool:
        """Whether short runs, if asked for, save taps."""
        if not self.run:
            return True
        return self.images * self.run % self.tile.n == 0 and self.taps[0] < replace(self, run=0).taps[0]

    @property
    def masks(self) -> bool:
        """Whether bits say which taps meet a pixel."""
        single = self.problem.precision.itemsize == 4
        return single and not self.by_channel and sum(self.problem.taps) <= MOST_MASKED

    @property
    def by_channel(self) -> bool:
        """Steps of 8 neighbouring channels, loaded four at a time."""
        reduced = self.channels[0]
        return nhwc(self.problem) and (reduced % 8 == 0 or (reduced % 4 == 0 and not self.packed))

    @property
    def can_split(self) -> bool:
        """Whether there are kernels whose blocks share a reduction."""
        single = self.problem.precision.itemsize == 4
        return single and self.tile.size in SPLIT and (self.by_channel if nhwc(self.problem) else self.masks)

    @property
    def fours(self) -> int:
        """1: four neighbouring pixels of a tile lie beside each other and meet the same taps; 2: filters."""
        p = self.problem
        if nhwc(p) or p.precision.itemsize != 4 or p.r * p.s > 1:
            return 0
        one = p.p == 1 and p.stride == (1, 1) and p.pad == ((0, 0), (0, 0)) and not self.run
        return int(one and p.q % 4 == 0) + 2 * int(self.backward and self.channels[1] % 4 == 0)

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
        totals = self.tile.m * self.tile.n * size if self.parts > 1 else 0
        return 2 * stage + totals + 8 * self.tile.n + 16 * (entries + 2 * DEPTH)

    @property
    def steps(self) -> tuple[int, int]:
        """In the filters, from one summed channel and from one computed channel to the next."""
        taps, (reduced, outputs) = self.problem.r * self.problem.s, self.channels
        inner = 1 if nhwc(self.problem) else taps
        return (taps * outputs, inner) if self.backward else (inner, taps * reduced)

    def launches(self) -> Iterator[Launch]:
        yield self.launch()
        if self.cuts > 1:
            yield add_parts(self.problem, self.results, self.cuts)

    def launch(self) -> Launch:
        p, outputs, (term, row) = self.problem, self.channels[1], self.steps
        beside = gcd(self.pixels[1], self.run) if self.phases == 1 else 1
        pack = 2 if self.cells and not nhwc(p) else 4
        shape = shape_of(
            p, row_tiles=self.tiles[0], pixel_tiles=self.tiles[1], images=self.images, run=self.run,
            packed=int(self.packed), wide_out=int((outputs if nhwc(p) else beside) % pack == 0),
            term_step=term, row_step=row, fours=self.fours, cells=int(self.cells),
            cuts=self.cuts, cut=self.results,
        )  # fmt: skip
        name = f"tile{self.tile.size}"
        return Launch(self.source, name, self.blocks, (by_value(shape),), self.shared, tile_threads(p))

    @property
    def source(self) -> Source:
        return source(self.problem, self.backward, self.by_channel, self.masks, self.parts)


def source(problem: Problem, backward: bool, by_channel: bool, masks: bool, parts: int) -> Source:
    tiles = tuple(tile for tile in TILES if parts == 1 or tile.size in SPLIT)
    macros = (
        ("BACKWARD", int(backward)),
        ("BY_CHANNEL", int(by_channel)),
        ("MASKS", int(masks)),
        ("PARTS", parts),
    )
    functions = tuple(f"tile{tile.size}" for tile in tiles)
    return Source("cuda_direct_gather.cu", functions, defines(problem.precision, problem.layout) + macros)


def problem_sources(problem: Problem) -> Iterator[Source]:
    """Every compilation for this precision and layout."""
    single = problem.precision.itemsize == 4
    for backward, by_channel in product((False, True), (False, True) if nhwc(problem) else (False,)):
        yield source(problem, backward, by_channel, False, 1)
        if single and not by_channel:
            yield source(problem, backward, by_channel, True, 1)
        if single and by_channel == nhwc(problem):
            yield from (source(problem, backward, by_channel, not by_channel, parts) for parts in PARTS)


def clusters() -> bool:
    """Whether blocks of this GPU can form clusters."""
    return missing() is None and cuda.facts().capability >= (9, 0)


def flat(problem: Problem) -> Problem:
    """Where pixels meet only themselves, all rows are one: most of its pixels then come in fours."""
    p = problem
    alone = p.r == p.s == 1 and p.stride == (1, 1) and p.pad == ((0, 0), (0, 0))
    return replace(p, h=1, w=p.h * p.w) if alone and p.h * p.w <= LONGEST else p


def gathers(problem: Problem, split: bool) -> Sequence[Gather]:
    """The best tile for this problem, and others that may be."""
    whole = [Gather(flat(problem), tile, run) for tile in TILES for run in RUNS]
    whole = [one for one in whole if one.skips]
    cuts = [replace(one, parts=parts) for one in whole for parts in PARTS if split and one.can_split]
    fitting = [one for one in whole + cuts if one.shared <= LARGEST_SHARED]
    cost = {one: one.cycles for one in fitting}
    ranked = sorted(fitting, key=cost.__getitem__)[:MOST_TILES]
    return [one for one in ranked if cost[one] <= SLACK * cost[ranked[0]]]


def cuts(best: Gather) -> Sequence[Gather]:
    """The best tile with its reduction cut into parts in a workspace, if that is better still."""
    problem = best.problem
    if problem.precision.itemsize != 4:
        return []
    found = [Gather(problem, tile, run, cuts=cuts) for tile in TILES for run in RUNS for cuts in CUTS]
    cost = {one: one.cycles for one in found if one.skips and one.shared <= LARGEST_SHARED}
    return [one for one in sorted(cost, key=cost.__getitem__)[:1] if cost[one] < NEAR * best.cycles]
