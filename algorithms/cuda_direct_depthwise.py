"""Depthwise convolution: which kernel of strips serves a problem, and its launches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Precision, Problem

from .cuda_direct_filter import add_parts
from .cuda_direct_shape import MULTIPROCESSORS, THREADS, Launch, defines, nhwc, shape_of
from .gpu import Source, by_value

STRIP, SHORT = 8, 4  # as in cuda_direct_depthwise.cu
BESIDE = (2, 4)  # neighbouring results of a thread
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
    wide = [
        f"{kind}_{size}_by{cols}"
        for kind in ("forward", "backward")
        for size in UNROLLED[kind]
        for cols in BESIDE
    ]
    known = functions if nhwc(problem) else functions + wide
    return Source("cuda_direct_depthwise.cu", tuple(known), defines(problem.precision, problem.layout))


def function(problem: Problem) -> str:
    """The kernel for this size of filter, or the one for any."""
    p = problem
    kind = {Direction.FWD: "forward", Direction.BWD_DATA: "backward"}.get(p.direction, "gradient")
    several = p.direction is Direction.BWD_DATA and p.k > p.groups
    square = p.r == p.s and p.stride[0] == p.stride[1] and p.dilation == (1, 1)
    size = f"{p.r}_{p.stride[0]}"
    if not square or several or size not in UNROLLED[kind]:
        return f"{kind}_any"
    cols = beside(p)
    return f"{kind}_{size}" + (f"_by{cols}" if cols > 1 else "")


def beside(problem: Problem) -> int:
    """Neighbouring results of a thread: where rows are whole packs, and padded by half the filter."""
    p = problem
    half = p.pad[0][0] == p.pad[1][0] == p.r // 2 and p.output == tuple(
        -(-x // u) for x, u in zip(p.image, p.stride, strict=True)
    )
    if nhwc(p) or p.direction is Direction.BWD_FILTER or not half:
        return 1
    fitting = (cols for cols in BESIDE if cols * p.precision.itemsize <= 16)
    return max((cols for cols in fitting if p.image[1] % cols == p.output[1] % cols == 0), default=1)


def strips(problem: Problem) -> Launch:
    """Forward or backward data."""
    p = problem
    backward = p.direction is Direction.BWD_DATA
    size = p.image if backward else p.output
    step = p.stride if backward else (1, 1)
    rows, cols = (-(-length // u) for length, u in zip(size, step, strict=True))
    down = -(-rows // STRIP)
    name = function(p)
    cols //= beside(p) if "_by" in name else 1
    count = p.n * (p.groups if backward else p.k) * down * cols
    blocks = -(-count // THREADS) * (prod(map(min, p.stride, p.image)) if backward else 1)
    return Launch(source(p), name, blocks, (by_value(shape_of(p, pixel_tiles=down)), count))


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
