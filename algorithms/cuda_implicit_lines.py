"""Few channels forward on Hopper, in one pass: x is read as it is, nothing in between is stored.

A block goes down a band of rows of y. The rows of x that it meets lie in shared memory, as halves; what the
taps of a pixel meet is put together in registers. The filters it applies stay in shared memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from .cuda_implicit_operands import Launch, ceil, copies
from .cuda_implicit_products import MULTIPROCESSORS, PRODUCTS_A_CYCLE
from .cuda_implicit_tiles import Hopper
from .gpu import Source, by_value, pointer

PIXELS, WORKERS, LOADERS, SPLITTERS = 128, 256, 128, 512  # as in cuda_implicit_lines.cu
TERMS, AHEAD, FACTORS = 64, 3, 16
FILTERS = (64, 96, 128)  # of a block
MEMORY, ALIGNMENT, STATIC = 227 << 10, 1024, 64  # bytes of shared memory
MOST_CHANNELS = 8
FULLEST = 0.5  # of a tile's pixels, at least
MOST_GRID = 16 * MULTIPROCESSORS  # for the sake of whole rounds of blocks
SLACK = 1.25  # tiles that may take this much longer than the best are offered too
PICK_CYCLES, TILE_CYCLES, BLOCK_CYCLES = 500, 600, 8000  # 64 terms; 128 pixels; a block
FILTER_BYTES_A_CYCLE = 40


class Axis(ctypes.Structure):
    """As in cuda_implicit_lines.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "taps", "pad", "stride", "dilation")]


class Shape(ctypes.Structure):
    """As in cuda_implicit_lines.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("filters", "channels", "units", "bands", "height", "tiles")),
        *((name, ctypes.c_int) for name in ("blocks", "pairs", "ring", "width", "flip")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class Lines:
    """One variant: `m` filters of a block, `bands` of an image."""

    problem: Problem
    m: int
    bands: int = 1

    @property
    def name(self) -> str:
        return f"lines{self.m}x{PIXELS}"

    @property
    def copies(self) -> int:
        return copies(self.problem.precision)

    @property
    def units(self) -> int:
        return ceil(self.problem.k, self.m)

    @property
    def height(self) -> int:
        return ceil(self.problem.p, self.bands)

    @property
    def tiles(self) -> int:
        """Of a row of y."""
        return ceil(self.problem.q, PIXELS)

    @property
    def pairs(self) -> int:
        """Of the taps of a row."""
        return ceil(self.problem.s, 2)

    @property
    def blocks(self) -> int:
        """Of the reduction."""
        return ceil(self.problem.c * self.problem.r * self.pairs * 2, TERMS)

    @property
    def ring(self) -> int:
        """Rows of x in shared memory."""
        p = self.problem
        return (p.r - 1) * p.dilation[0] + 1 + AHEAD * p.stride[0]

    @property
    def width(self) -> int:
        """Of these rows, with what pads them."""
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

    def variant(self) -> Variant:
        split = self.copies == 2
        details = {
            "flops": self.problem.flops * (3 if split else 1),
            "deterministic": True,
            "math": "3xfp16" if split else "fp16",
            "arithmetic": "fp16",
            "family": "implicit",
            "tile": f"{self.m}x{PIXELS}",
            "engine": "wgmma",
        }
        return Variant(self.name, self.workspace, details=details)

    def plan(self) -> LinesPlan:
        return LinesPlan(self)

    def arguments(self) -> Any:
        p = self.problem
        axes = (
            Axis(p.image[i], p.output[i], p.taps[i], p.pad[i][0], p.stride[i], p.dilation[i]) for i in (0, 1)
        )
        return by_value(Shape(
            p.k, p.c, self.units, ceil(p.p, self.height), self.height, self.tiles,
            self.blocks, self.pairs, self.ring, self.width, int(p.flip), *axes,
        ))  # fmt: skip


def suits(problem: Problem) -> bool:
    """Whether rows of y fill tiles, and the filters and some rows of x fit into shared memory."""
    p = problem
    stored = p.layout is Layout.NCHW and p.precision in (Precision.FP32, Precision.TF32)
    few = p.c <= MOST_CHANNELS and p.groups == 1 and p.s > 1
    full = p.q >= FULLEST * PIXELS * ceil(p.q, PIXELS)
    return stored and few and full and p.direction is Direction.FWD and bool(possible(p))


def possible(problem: Problem) -> list[Lines]:
    whole = [Lines(problem, m) for m in FILTERS]
    return [one for one in whole if one.shared + STATIC <= MEMORY]


@lru_cache(maxsize=256)
def forms(problem: Problem) -> dict[str, Lines]:
    """The best, and others that are nearly as good."""
    best = sorted((_cut(one) for one in possible(problem)), key=_cycles)
    return {one.name: one for one in best if one.cycles <= SLACK * best[0].cycles}


def _cut(whole: Lines) -> Lines:
    """Into as many bands as fill the GPU best."""
    most = max(1, min(whole.problem.p, MOST_GRID // whole.grid))
    return min((Lines(whole.problem, whole.m, bands) for bands in range(1, most + 1)), key=_cycles)


def _cycles(one: Lines) -> float:
    return one.cycles


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
