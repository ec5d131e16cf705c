"""Few channels forward on Hopper, in one pass: x is read as it is, nothing in between is stored.

A block goes down a band of rows of y. The rows of x that it meets lie in shared memory, as halves; what the
taps of a pixel meet is put together in registers. The filters it applies stay in shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from convbench.api import Array, Direction, Problem

from .cuda_implicit_bands import AHEAD, ALIGNMENT, FULLEST, PIXELS, Banded, serves, worth_it
from .cuda_implicit_operands import Launch, ceil
from .cuda_implicit_products import MULTIPROCESSORS, PRODUCTS_A_CYCLE
from .cuda_implicit_tiles import Hopper
from .gpu import Source, pointer

WORKERS, LOADERS, SPLITTERS = 256, 128, 512  # as in cuda_implicit_lines.cu
TERMS, FACTORS = 64, 16
FILTERS = (64, 96, 128)  # of a block
PICK_CYCLES, TILE_CYCLES, BLOCK_CYCLES = 500, 600, 8000  # 64 terms; 128 pixels; a block
FILTER_BYTES_A_CYCLE = 40


@dataclass(frozen=True)
class Lines(Banded):
    """One variant; a tile is 128 pixels of a row of y."""

    most_grid: ClassVar[int] = 16 * MULTIPROCESSORS  # for the sake of whole rounds of blocks

    @property
    def name(self) -> str:
        return f"lines{self.tile}"

    @property
    def tile(self) -> str:
        return f"{self.m}x{PIXELS}"

    @property
    def pairs(self) -> int:
        """Of the taps of a row."""
        return ceil(self.problem.s, 2)

    @property
    def blocks(self) -> int:
        """Of the reduction."""
        return ceil(self.problem.c * self.problem.r * self.pairs * 2, TERMS)

    @property
    def own(self) -> tuple[int, int]:
        return self.blocks, self.pairs

    @property
    def width(self) -> int:
        p = self.problem
        return (self.tiles * PIXELS - 1) * p.stride[1] + (2 * self.pairs - 1) * p.dilation[1] + 1

    @property
    def filter_bytes(self) -> int:
        """Of a unit: halves, and a factor for each channel."""
        return self.blocks * self.m * 128 * self.copies + 4 * FACTORS

    @property
    def workspace(self) -> int:
        return self.units * self.filter_bytes

    @property
    def shared(self) -> int:
        tables = 4 * AHEAD * self.blocks * (TERMS // 2)
        rows = 4 * self.problem.c * self.ring * self.width
        return ALIGNMENT + self.filter_bytes + 16 + 16 * AHEAD + tables + rows

    @property
    def grid(self) -> int:
        return self.problem.n * self.units * ceil(self.problem.p, self.height)

    @property
    def cycles(self) -> float:
        products = 3 if self.copies == 2 else 1
        block = max(PICK_CYCLES, PIXELS * self.m * TERMS * products / PRODUCTS_A_CYCLE)
        rows = self.height * self.tiles * (self.blocks * block + TILE_CYCLES)
        first = BLOCK_CYCLES + self.filter_bytes / FILTER_BYTES_A_CYCLE
        return ceil(self.grid, MULTIPROCESSORS) * (rows + first)

    def plan(self) -> LinesPlan:
        return LinesPlan(self)


def suits(problem: Problem) -> bool:
    """Whether rows of y fill tiles, and the filters and some rows of x fit into shared memory."""
    p = problem
    full = p.q >= FULLEST * PIXELS * ceil(p.q, PIXELS)
    return serves(p) and p.s > 1 and full and p.direction is Direction.FWD and bool(possible(p))


def possible(problem: Problem) -> list[Lines]:
    whole = [Lines(problem, m) for m in FILTERS]
    return [one for one in whole if one.fits]


@lru_cache(maxsize=256)
def forms(problem: Problem) -> dict[str, Lines]:
    return worth_it(possible(problem))


def source(m: int, count: int) -> Source:
    macros = (("FILTERS", m), ("COPIES", count))
    return Hopper("cuda_implicit_lines.cu", ("multiply_lines", "split_lines"), macros)


def sources() -> Iterator[Source]:
    yield from (source(m, count) for m in FILTERS for count in (1, 2))


class LinesPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Lines) -> None:
        kernels, arguments = source(form.m, form.copies).load(), form.arguments()
        split, multiply = kernels["split_lines"], kernels["multiply_lines"]
        splits, grid, threads, shared = form.units * form.blocks, form.grid, WORKERS + LOADERS, form.shared
        multiply.allow_shared(shared)
        self._split: Launch = lambda *arrays: split(splits, SPLITTERS, *arrays, arguments)
        self._multiply: Launch = lambda *arrays: multiply(grid, threads, *arrays, arguments, shared=shared)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        filters = pointer(workspace)
        self._split(pointer(b), filters)
        self._multiply(pointer(a), filters, pointer(out))

    def close(self) -> None:
        pass
