"""Depthwise convolution: which kernel of strips serves a problem, and its launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Precision, Problem

from .cuda_direct_filter import add_parts
from .cuda_direct_shape import MULTIPROCESSORS, THREADS, Launch, Shape, defines, nhwc, shape_of
from .gpu import Source, by_value

STRIP, SHORT, ACROSS, BLOCK = 8, 4, 4, 128  # as in cuda_direct_depthwise.cu, cuda_direct_lines.cuh
TALL = {"3_1": 8, "3_2": 4, "5_1": 28, "5_2": 14}  # rows of a strip of packs
ENOUGH = 2 * MULTIPROCESSORS  # blocks: with fewer, no strip is taller than STRIP
MOST_FILTERS = 4  # of one channel; with more, tiles are faster
LONGEST = 8192  # terms that one thread adds up
BLOCKS = 8 * MULTIPROCESSORS

UNROLLED = {"forward": ("3_1", "3_2", "5_1", "5_2"), "backward": ("3_1", "5_1")}
UNROLLED["gradient"] = UNROLLED["forward"]  # filter and stride
PACKS = (2, 4, 8)


def serves(problem: Problem) -> bool:
    """Whether each group is one channel with few filters."""
    p = problem
    return p.groups > 1 and p.c == p.groups and p.k // p.groups <= MOST_FILTERS


def source(problem: Problem) -> Source:
    functions = [f"{kind}_{size}" for kind, sizes in UNROLLED.items() for size in ("any", *sizes)]
    functions += [f"packs_{size}_by{pack}" for size in UNROLLED["forward"] for pack in PACKS]
    return Source("cuda_direct_depthwise.cu", tuple(functions), defines(problem.precision, problem.layout))


def size(problem: Problem) -> str:
    """The filter and the stride for which kernels are unrolled, or any."""
    p = problem
    kind = {Direction.FWD: "forward", Direction.BWD_DATA: "backward"}.get(p.direction, "gradient")
    several = p.direction is Direction.BWD_DATA and p.k > p.groups
    square = p.r == p.s and p.stride[0] == p.stride[1] and p.dilation == (1, 1)
    found = f"{p.r}_{p.stride[0]}"
    return found if square and not several and found in UNROLLED[kind] else "any"


def strips(problem: Problem) -> Launch:
    """Forward or backward data."""
    return pack_strips(problem) if packs(problem) > 1 else single_strips(problem)


def packs(problem: Problem) -> int:
    """Neighbours in memory that a thread reads and writes at once: columns, in NHWC channels."""
    p = problem
    if size(p) == "any":
        return 1
    s = as_forward(p)
    if nhwc(p):
        whole, most = p.c, 4 if p.r == 3 and p.precision.itemsize == 2 else 2
        served = p.k == p.c and s.cols.y >= ACROSS
    else:
        whole, most = s.cols.y, 16 // p.precision.itemsize
        served = s.cols.pad == p.s // 2 and s.cols.x == s.cols.y * s.cols.stride
    return max((pack for pack in PACKS if served and pack <= most and whole % pack == 0), default=1)


def pack_strips(problem: Problem) -> Launch:
    p, s, pack = problem, as_forward(problem), packs(problem)
    channels, cols = (p.k // pack, -(-s.cols.y // ACROSS)) if nhwc(p) else (p.k, s.cols.y // pack)
    tall = min(TALL[size(p)], 28 if nhwc(p) or p.precision.itemsize == 2 else 14)
    enough = p.n * channels * cols * -(-s.rows.y // tall) >= ENOUGH * BLOCK
    down = -(-s.rows.y // (tall if enough else min(tall, STRIP)))
    s.pixel_tiles = down
    count = p.n * channels * down * cols
    arguments = by_value(s), count, -(-s.rows.y // down)
    return Launch(source(p), f"packs_{size(p)}_by{pack}", -(-count // BLOCK), arguments, threads=BLOCK)


def as_forward(problem: Problem) -> Shape:
    """Backward-data with stride 1 is a forward problem with turned filters."""
    shape = shape_of(problem)
    if problem.direction is Direction.BWD_DATA:
        shape.flip ^= 1
        for axis in shape.rows, shape.cols:
            axis.x, axis.y, axis.pad = axis.y, axis.x, axis.taps - 1 - axis.pad
    return shape


def single_strips(problem: Problem) -> Launch:
    p = problem
    backward = p.direction is Direction.BWD_DATA
    results = p.image if backward else p.output
    step = p.stride if backward else (1, 1)
    rows, cols = (-(-length // u) for length, u in zip(results, step, strict=True))
    down = -(-rows // STRIP)
    count = p.n * (p.groups if backward else p.k) * down * cols
    blocks = -(-count // THREADS) * (prod(map(min, p.stride, p.image)) if backward else 1)
    name = f"{'backward' if backward else 'forward'}_{size(p)}"
    return Launch(source(p), name, blocks, (by_value(shape_of(p, pixel_tiles=down)), count))


@dataclass(frozen=True)
class Gradient:
    """The gradient of all filters; the strips of a channel are cut into `parts`."""

    problem: Problem
    parts: int

    @property
    def workspace(self) -> int:
        itemsize = 8 if self.problem.precision is Precision.FP64 else 4
        return self.parts * self._weights * itemsize if self.parts > 1 else 0

    @property
    def _weights(self) -> int:
        return self.problem.k * self.problem.r * self.problem.s

    def launches(self) -> Iterator[Launch]:
        p = self.problem
        blocks = _lines(p) * self.parts * (p.r * p.s if size(p) == "any" else 1)
        shape = by_value(shape_of(p, pixel_tiles=-(-p.p // SHORT)))
        yield Launch(source(p), f"gradient_{size(p)}", blocks, (shape, self.parts))
        if self.parts > 1:
            yield add_parts(p, self._weights, self.parts)


def gradients(problem: Problem) -> list[Gradient]:
    """As many parts as fill the card, and one where a thread's sum stays short."""
    p = problem
    strips_of_channel = p.n * -(-p.p // SHORT) * p.q
    walkers = THREADS // (32 if nhwc(p) else 1)
    least = -(-strips_of_channel * SHORT // (walkers * LONGEST))
    most = -(-strips_of_channel // walkers)
    parts = max(least, min(most, -(-BLOCKS // _lines(p))))
    return [Gradient(p, parts), *([Gradient(p, 1)] if least == 1 < parts else [])]


def _lines(problem: Problem) -> int:
    """Blocks that hold all channels once."""
    return -(-problem.k // 32) if nhwc(problem) else problem.k
