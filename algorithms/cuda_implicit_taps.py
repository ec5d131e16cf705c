"""Gradients of filters with few channels on Hopper, in one pass: x and dy are read as they are.

A block goes down a band of rows of dy. The rows of x that it meets lie in shared memory, as halves; what taps
meet at 64 pixels is put together in registers. Every block leaves sums of all taps, which are added in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import ClassVar

from convbench.api import Array, Direction, Problem

from .cuda_implicit_bands import AHEAD, ALIGNMENT, FULLEST, PIXELS, Banded, serves, worth_it
from .cuda_implicit_operands import Launch, ceil, copies
from .cuda_implicit_parts import adding
from .cuda_implicit_products import BYTES_A_CYCLE, MULTIPROCESSORS, PRODUCTS_A_CYCLE
from .cuda_implicit_tiles import Hopper
from .gpu import Source, pointer

WORKERS, LOADERS = 256, 256  # as in cuda_implicit_taps.cu
FILTERS = {1: (64,), 2: (48, 64)}  # of a block, by copies: those that need no more registers than there are
TILES = 3  # of 64 taps, of a warpgroup
FEWEST_TAPS = 128  # with fewer taps most registers would be idle
PICK_CYCLES, TILE_CYCLES, BLOCK_CYCLES = 500, 400, 8000  # 64 taps at 64 pixels; 128 pixels; a block


@dataclass(frozen=True)
class Taps(Banded):
    """One variant; a tile is 128 pixels of a row of dy."""

    most_grid: ClassVar[int] = 8 * MULTIPROCESSORS  # each block leaves a part

    @property
    def name(self) -> str:
        return f"taps{self.m}x{64 * self.row_tiles}"

    @property
    def tile(self) -> str:
        return f"{self.m}x{64 * TILES}"

    @property
    def taps(self) -> int:
        return self.problem.c * prod(self.problem.taps)

    @property
    def row_tiles(self) -> int:
        """Of 64 taps."""
        return ceil(self.taps, 64)

    @property
    def apart(self) -> bool:
        """Whether a warpgroup has room for all taps, and so does half of the pixels."""
        return self.row_tiles <= TILES

    @property
    def own(self) -> tuple[int, int]:
        return self.taps, int(self.apart)

    @property
    def width(self) -> int:
        p = self.problem
        return (self.tiles * PIXELS - 1) * p.stride[1] + (p.s - 1) * p.dilation[1] + 1

    @property
    def blocks(self) -> int:
        return self.problem.n * ceil(self.problem.p, self.height)

    @property
    def parts(self) -> int:
        return self.blocks * (2 if self.apart else 1)

    @property
    def workspace(self) -> int:
        return 4 * self.parts * self.problem.k * self.taps

    @property
    def shared(self) -> int:
        operands = 2 * 2 * self.m * 128 * self.copies + 2 * self.m * PIXELS * 4
        rows = 4 * self.problem.c * self.ring * self.width
        small = 4 * 20 + 16 * (AHEAD + 2) + 4 * AHEAD * 128 * TILES
        return ALIGNMENT + operands + small + rows

    @property
    def grid(self) -> int:
        return self.blocks * self.units

    @property
    def cycles(self) -> float:
        products = 3 if self.copies == 2 else 1
        step = max(PICK_CYCLES, 2 * 64 * self.m * 64 * products / PRODUCTS_A_CYCLE)
        steps = TILES * (1 if self.apart else 2)
        rows = self.height * self.tiles * (steps * step + TILE_CYCLES)
        added = 2 * self.workspace / BYTES_A_CYCLE
        return ceil(self.grid, MULTIPROCESSORS) * (rows + BLOCK_CYCLES) + added

    def plan(self) -> TapsPlan:
        return TapsPlan(self)


def suits(problem: Problem) -> bool:
    """Whether rows of dy fill a tile, all taps fill registers, and shared memory holds some rows of x."""
    p = problem
    full = FULLEST * PIXELS <= p.q <= PIXELS and FEWEST_TAPS <= p.c * prod(p.taps) <= 2 * 64 * TILES
    return serves(p) and full and p.direction is Direction.BWD_FILTER and bool(possible(p))


def possible(problem: Problem) -> list[Taps]:
    whole = [Taps(problem, m) for m in FILTERS[copies(problem.precision)]]
    return [one for one in whole if one.row_tiles <= 2 * TILES and one.fits]


@lru_cache(maxsize=256)
def forms(problem: Problem) -> dict[str, Taps]:
    return worth_it(possible(problem))


def source(m: int, count: int) -> Source:
    macros = (("FILTERS", m), ("COPIES", count))
    return Hopper("cuda_implicit_taps.cu", ("multiply_taps", "add_parts"), macros)


def sources() -> Iterator[Source]:
    yield from (source(m, count) for count, filters in FILTERS.items() for m in filters)


class TapsPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Taps) -> None:
        kernels, arguments = source(form.m, form.copies).load(), form.arguments()
        multiply = kernels["multiply_taps"]
        grid, threads, shared = form.grid, WORKERS + LOADERS, form.shared
        multiply.allow_shared(shared)
        self._multiply: Launch = lambda *arrays: multiply(grid, threads, *arrays, arguments, shared=shared)
        self._add = adding(kernels["add_parts"], form.problem.k * form.taps, form.parts)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        partial = pointer(workspace)
        self._multiply(pointer(a), pointer(b), partial)
        self._add(partial, pointer(out))

    def close(self) -> None:
        pass
