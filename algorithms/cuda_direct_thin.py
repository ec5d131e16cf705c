"""Few result channels a group: kernels that slide over the input, and their launch."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import ceil, gcd, prod

from convbench.api import Direction, Precision, Problem

from .cuda_direct_gather import LARGEST_SHARED, Gather
from .cuda_direct_shape import ALONE, Launch, defines, nhwc, rounds, shape_of
from .cuda_direct_walk import walks
from .gpu import Source, by_value

SLIDERS, TALL, MOST = 128, 2, 4  # as in cuda_direct_thin.cu; MOST channels of results a block
FEW = 16  # with more channels of results, tiles are filled well enough
FOUR, BANKS = 4, 8  # numbers of one access; a quarter of a warp makes its own at once, to so many places
TERMS = 4096  # summed until sums are put aside
NEVER = 2**30
FAR = 2**31
RESIDENT = {(2, 2): 4, (4, 1): 4, (3, 2): 3, (4, 2): 2}  # blocks of a multiprocessor by channels and phases
BRING, BESIDE = 8, 1.15  # instructions that bring a number of the region; that a product takes
ENOUGH = 4  # blocks of a multiprocessor; with fewer, each waits more than the others fill
AROUND = 1024  # bytes of shared memory that a block takes beside what it asks for
FULL = 0.7  # of the threads of a block, at least, where there are enough


class Region(ctypes.Structure):
    """As in cuda_direct_thin.cu."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("across", "down", "images", "col_tiles", "row_tiles", "image_tiles", "channel_tiles"),
            *("pitch", "part", "filters", "plane", "chunk"),
        )
    ]


@dataclass(frozen=True)
class Lines:
    """Rows (or columns) of results beside each other in a thread, and the largest region that they read."""

    phases: int  # of the stride, beside each other; 1: neighbours
    pairs: int  # blocks of phases
    step: int
    span: int
    taps: int  # in shared memory

    @property
    def summed(self) -> int:
        return self.taps if self.phases > 1 else self.taps * self.step


@lru_cache(maxsize=256)
def lines(problem: Problem, axis: int, beside: int) -> Lines:
    found = walks(problem, axis)
    if problem.direction is not Direction.BWD_DATA or problem.stride[axis] == 1:
        return Lines(1, 1, beside, found[0].taps + beside - 1, found[0].taps)
    pairs = [found[i : i + beside] for i in range(0, len(found), beside)]
    met = [[walk for walk in pair if walk.taps] for pair in pairs]
    spans = [max(w.start + w.taps for w in pair) - min(w.start for w in pair) for pair in met if pair]
    taps = max(sum(walk.taps for walk in pair) for pair in pairs)
    return Lines(beside, len(pairs), 1, max(spans, default=0), taps)


@dataclass(frozen=True)
class Thin:
    """A launch whose blocks have `across` x `down` threads for each of `images` images."""

    gather: Gather
    across: int
    down: int
    images: int

    @property
    def side(self) -> int:
        """Pixels of a thread beside each other."""
        return 4 if self.gather.problem.precision is Precision.FP64 else 8

    @property
    def channels(self) -> int:
        return min(self.gather.channels[1], MOST)

    @property
    def rows(self) -> Lines:
        return lines(self.gather.problem, 0, TALL)

    @property
    def cols(self) -> Lines:
        return lines(self.gather.problem, 1, _phases(self.gather))

    @property
    def height(self) -> int:
        return (self.down - 1) * self.rows.step + self.rows.span

    @property
    def entries(self) -> int:
        """Numbers of the region."""
        return self.images * self.height * (self.across * self.side + max(0, self.cols.span - 1))

    @property
    def filters(self) -> int:
        """Numbers of the filters."""
        row = self.cols.span * _phases(self.gather) * self.channels
        return self.rows.taps * ceil(row / FOUR) * FOUR

    @property
    def part(self) -> int:
        """Fours of a row that lie side by side: every one, or every other one where a thread has two."""
        fours = self.side // FOUR
        return self.across + ceil(ceil(self.cols.span / FOUR) / fours)

    @cached_property
    def pitch(self) -> int:
        """Fours from one row of the region to the next: fewest collisions, then fewest."""
        least = self.side // FOUR * self.part
        return min(range(least, least + BANKS), key=lambda pitch: (self._collisions(pitch), pitch))

    def _collisions(self, pitch: int) -> int:
        slots = ((i // self.across, i % self.across) for i in range(BANKS))
        row = ((y // self.down * self.height + y % self.down * self.rows.step, x) for y, x in slots)
        return max(Counter((at * pitch + x) % BANKS for at, x in row).values())

    @property
    def plane(self) -> int:
        """Of a channel, in shared memory."""
        return self.images * self.height * self.pitch * FOUR

    @property
    def shared(self) -> int:
        size = 8 if self.gather.problem.precision is Precision.FP64 else 4
        tables = 4 * self.filters + 6 * self.entries
        return 2 * (self.filters + self.plane) * size + tables

    @property
    def tiles(self) -> tuple[int, int, int, int]:
        """Of columns, rows, images and channels."""
        high, wide = _patches(self.gather, self.side)
        images = self.gather.problem.n
        wanted = (wide, self.across), (high, self.down), (images, self.images)
        cols, rows, sets = (ceil(size / part) for size, part in wanted)
        return cols, rows, sets, ceil(self.gather.channels[1] / MOST)

    @property
    def blocks(self) -> int:
        return prod(self.tiles) * self.rows.pairs * self.cols.pairs * self.gather.problem.groups

    @property
    def cost(self) -> float:
        """Instructions of a thread for a channel, times rounds of blocks."""
        phases = _phases(self.gather)
        products = self.side * self.channels * phases * self.rows.summed * self.cols.span
        work = BESIDE * products + BRING * self.entries / SLIDERS
        held = max(1, min(RESIDENT.get((self.channels, phases), 5), LARGEST_SHARED // (self.shared + AROUND)))
        waiting: float = max(1.0, ENOUGH / held) ** ALONE
        return rounds(self.blocks, held) * work * waiting

    @property
    def region(self) -> Region:
        p = self.gather.problem
        taps = max(1, self.rows.taps * self.cols.span)
        aside = p.precision in (Precision.FP32, Precision.TF32)
        chunk = max(1, TERMS // taps) if aside else NEVER
        sizes = self.across, self.down, self.images, *self.tiles, self.pitch * FOUR, self.part
        return Region(*sizes, self.filters, self.plane, chunk)

    def launch(self) -> Launch:
        p, (term, row) = self.gather.problem, self.gather.steps
        _, wide = p.image if self.gather.backward else p.output
        phases = _phases(self.gather)
        ordered = self.cols.pairs == 1 and (not self.gather.backward or p.stride[1] == phases)
        wide_out = int(ordered and not nhwc(p) and wide % FOUR == 0)
        shape = shape_of(p, term_step=term, row_step=row, wide_out=wide_out)
        kind = ("backward" if phases == 1 else "strided") if self.gather.backward else "forward"
        arguments = by_value(shape), by_value(self.region)
        name = f"{kind}_{self.channels}"
        return Launch(source(p), name, self.blocks, arguments, self.shared, threads=SLIDERS)


def _phases(gather: Gather) -> int:
    """Of columns, beside each other in a thread."""
    return 2 if gather.backward and gather.problem.stride[1] > 1 else 1


def _patches(gather: Gather, side: int) -> tuple[int, int]:
    """Of results that one thread has, down and across."""
    rows, cols = gather.pixels
    strided = gather.backward and gather.problem.stride[0] > 1
    return rows if strided else ceil(rows / TALL), ceil(cols / side)


@lru_cache(maxsize=64)
def best(gather: Gather) -> Thin | None:
    """The blocks that take least time, if any fit."""
    fitting = [one for one in _offered(gather) if one.shared + AROUND <= LARGEST_SHARED]
    return min(fitting, key=lambda one: one.cost, default=None)


def _offered(gather: Gather) -> Iterator[Thin]:
    p, side = gather.problem, 4 if gather.problem.precision is Precision.FP64 else 8
    high, wide = _patches(gather, side)
    images = max(1, min(p.n, FAR // (max(p.c, p.k) * max(prod(p.image), prod(p.output)))))
    enough = min(FULL * SLIDERS, high * wide * images)
    for across in range(1, min(wide, SLIDERS) + 1):
        for down in range(1, min(high, SLIDERS // across) + 1):
            one = Thin(gather, across, down, min(images, SLIDERS // (across * down)))
            if across * down * one.images >= enough:
                yield one


def serves(gather: Gather) -> bool:
    """Whether results are few enough a group, and neighbours read neighbours."""
    p = gather.problem
    near = p.dilation == (1, 1) and p.stride == (1, 1)
    if gather.backward:
        near = all(d == gcd(u, d) for u, d in zip(p.stride, p.dilation, strict=True))
    return near and gather.channels[1] <= FEW and best(gather) is not None


def launch(gather: Gather) -> Launch:
    found = best(gather)
    assert found is not None
    return found.launch()


def source(problem: Problem) -> Source:
    kinds, channels = ("forward", "backward", "strided"), range(1, MOST + 1)
    functions = tuple(f"{kind}_{m}" for kind in kinds for m in channels)
    return Source("cuda_direct_thin.cu", functions, defines(problem.precision, problem.layout))
