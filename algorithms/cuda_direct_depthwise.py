"""Depthwise convolution: which kernel of strips serves a problem, and its launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Precision, Problem

from .cuda_direct_filter import add_parts
from .cuda_direct_shape import MULTIPROCESSORS, THREADS, Launch, defines, nhwc, shape_of
from .gpu import Source, by_value

STRIP, SHORT, ACROSS, BLOCK = 8, 4, 4, 128  # as in cuda_direct_depthwise.cu
PACKS = (2, 4, 8)  # neighbouring results of a thread
MOST_FILTERS = 4  # of one channel; with more, tiles are faster
LONGEST = 8192  # terms that one thread adds up
BLOCKS = 8 * MULTIPROCESSORS

UNROLLED = {"forward": ("3_1", "3_2", "5_1", "5_2"), "backward": ("3_1", "5_1")}
UNROLLED["gradient"] = UNROLLED["forward"]


def serves(problem: Problem) -> bool:
    """Whether each group is one channel with few filters."""
    p = problem
    return p.groups > 1 and p.c == p.groups and p.k // p.groups <= MOST_FILTERS


def source(problem: Problem) -> Source:
    functions = [f"{kind}_{size}" for kind, sizes in UNROLLED.items() for size in ("any", *sizes)]
    unrolled = [f"{kind}_{size}" for kind in ("forward", "backward") for size in UNROLLED[kind]]
    functions += [f"{name}_by{pack}" for name in unrolled for pack in PACKS]
    return Source("cuda_direct_depthwise.cu", tuple(functions), defines(problem.precision, problem.layout))


def function(problem: Problem) -> str:
    """The kernel for this size of filter, or the one for any."""
    p = problem
    kind = {Direction.FWD: "forward", Direction.BWD_DATA: "backward"}.get(p.direction, "gradient")
    several = p.direction is Direction.BWD_DATA and p.k > p.groups
    square = p.r == p.s and p.stride[0] == p.stride[1] and p.dilation == (1, 1)
    size = f"{p.r}_{p.stride[0]}"
    if not square or several or size not in UNROLLED[kind]:
        return f"{kind}_any"
    pack = packs(p)
    return f"{kind}_{size}" + (f"_by{pack}" if pack > 1 else "")


def packs(problem: Problem) -> int:
    """Neighbours in memory that a thread reads and writes at once: columns, in NHWC channels."""
    p = problem
    if p.direction is Direction.BWD_FILTER:
        return 1
    if nhwc(p):
        whole, most = [p.c], 4 if p.r == 3 and p.precision.itemsize == 2 else 2
        served = p.k == p.c and (p.image if p.direction is Direction.BWD_DATA else p.output)[1] >= ACROSS
    else:
        whole, most = [p.image[1], p.output[1]], 16 // p.precision.itemsize
        halved = tuple(-(-x // u) for x, u in zip(p.image, p.stride, strict=True))
        served = p.pad[0][0] == p.pad[1][0] == p.r // 2 and p.output == halved
    fitting = (pack for pack in PACKS if served and pack <= most and not any(x % pack for x in whole))
    return max(fitting, default=1)


def strips(problem: Problem) -> Launch:
    """Forward or backward data."""
    p = problem
    backward = p.direction is Direction.BWD_DATA
    size = p.image if backward else p.output
    step = p.stride if backward else (1, 1)
    rows, cols = (-(-length // u) for length, u in zip(size, step, strict=True))
    channels, threads, down = p.groups if backward else p.k, THREADS, -(-rows // STRIP)
    name = function(p)
    if "_by" in name:
        threads, pack = BLOCK, packs(p)
        channels, cols = (channels // pack, -(-cols // ACROSS)) if nhwc(p) else (channels, cols // pack)
    count = p.n * channels * down * cols
    blocks = -(-count // threads) * (prod(map(min, p.stride, p.image)) if backward else 1)
    arguments = by_value(shape_of(p, pixel_tiles=down)), count
    return Launch(source(p), name, blocks, arguments, threads=threads)


@dataclass(frozen=True)
class Gradient:
    """The gradient of all filters; the strips of a channel are cut into `parts`."""

    problem: Problem
    parts: int

    @property
    def workspace(self) -> int:
        size = 8 if self.problem.precision is Precision.FP64 else 4
        return self.parts * self._weights * size if self.parts > 1 else 0

    @property
    def _weights(self) -> int:
        return self.problem.k * self.problem.r * self.problem.s

    def launches(self) -> Iterator[Launch]:
        p = self.problem
        name = function(p)
        blocks = _lines(p) * self.parts * (p.r * p.s if name.endswith("any") else 1)
        shape = by_value(shape_of(p, pixel_tiles=-(-p.p // SHORT)))
        yield Launch(source(p), name, blocks, (shape, self.parts))
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
