"""Gradients of filters with few channels on Hopper, in one pass: x and dy are read as they are.

A block goes down a band of rows of dy. The rows of x that it meets lie in shared memory, as halves; what taps
meet at 64 pixels is put together in registers. Every block leaves sums of all taps, which are added in order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from .cuda_implicit_operands import Launch, ceil, copies
from .cuda_implicit_products import BYTES_A_CYCLE, MULTIPROCESSORS, PRODUCTS_A_CYCLE
from .cuda_implicit_tiles import Hopper
from .gpu import Source, by_value, pointer

PIXELS, WORKERS, LOADERS, AHEAD = 128, 256, 256, 3  # as in cuda_implicit_taps.cu
ADDERS, ADDED = 256, 32  # threads; results of a block
FILTERS = {1: (64,), 2: (48, 64)}  # of a block, by copies: those that need no more registers than there are
TILES = 3  # of 64 taps, of a warpgroup
MEMORY, ALIGNMENT, STATIC = 227 << 10, 1024, 64  # bytes of shared memory
MOST_CHANNELS, FEWEST_TAPS = 8, 128  # with fewer taps most registers would be idle
FULLEST = 0.5  # of a tile's pixels, at least
MOST_GRID = 8 * MULTIPROCESSORS  # each block leaves a part
SLACK = 1.25  # tiles that may take this much longer than the best are offered too
PICK_CYCLES, TILE_CYCLES, BLOCK_CYCLES = 500, 400, 8000  # 64 taps at 64 pixels; 128 pixels; a block


class Axis(ctypes.Structure):
    """As in cuda_implicit_taps.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "taps", "pad", "stride", "dilation")]


class Shape(ctypes.Structure):
    """As in cuda_implicit_taps.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("filters", "channels", "units", "bands", "height", "tiles")),
        *((name, ctypes.c_int) for name in ("taps", "apart", "ring", "width", "flip")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class Taps:
    """One variant: `m` filters of a block, `bands` of an image."""

    problem: Problem
    m: int
    bands: int = 1

    @property
    def name(self) -> str:
        return f"taps{self.m}x{64 * self.row_tiles}"

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
        """Of a row of dy."""
        return ceil(self.problem.q, PIXELS)

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
    def ring(self) -> int:
        """Rows of x in shared memory."""
        p = self.problem
        return (p.r - 1) * p.dilation[0] + 1 + AHEAD * p.stride[0]

    @property
    def width(self) -> int:
        """Of these rows, with what pads them."""
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

    def variant(self) -> Variant:
        split = self.copies == 2
        details = {
            "flops": self.problem.flops * (3 if split else 1),
            "deterministic": True,
            "math": "3xfp16" if split else "fp16",
            "arithmetic": "fp16",
            "family": "implicit",
            "tile": f"{self.m}x{64 * TILES}",
            "engine": "wgmma",
        }
        return Variant(self.name, self.workspace, details=details)

    def plan(self) -> TapsPlan:
        return TapsPlan(self)

    def arguments(self) -> Any:
        p = self.problem
        axes = (
            Axis(p.image[i], p.output[i], p.taps[i], p.pad[i][0], p.stride[i], p.dilation[i]) for i in (0, 1)
        )
        return by_value(Shape(
            p.k, p.c, self.units, ceil(p.p, self.height), self.height, self.tiles,
            self.taps, int(self.apart), self.ring, self.width, int(p.flip), *axes,
        ))  # fmt: skip


def suits(problem: Problem) -> bool:
    """Whether rows of dy fill a tile, all taps fill registers, and shared memory holds some rows of x."""
    p = problem
    stored = p.layout is Layout.NCHW and p.precision in (Precision.FP32, Precision.TF32)
    few = p.c <= MOST_CHANNELS and p.groups == 1 and prod(p.taps) > 1
    full = FULLEST * PIXELS <= p.q <= PIXELS and FEWEST_TAPS <= p.c * prod(p.taps) <= 2 * 64 * TILES
    return stored and few and full and p.direction is Direction.BWD_FILTER and bool(possible(p))


def possible(problem: Problem) -> list[Taps]:
    whole = [Taps(problem, m) for m in FILTERS[copies(problem.precision)]]
    return [one for one in whole if one.row_tiles <= 2 * TILES and one.shared + STATIC <= MEMORY]


@lru_cache(maxsize=256)
def forms(problem: Problem) -> dict[str, Taps]:
    """The best, and others that are nearly as good."""
    best = sorted((_cut(one) for one in possible(problem)), key=_cycles)
    return {one.name: one for one in best if one.cycles <= SLACK * best[0].cycles}


def _cut(whole: Taps) -> Taps:
    """Into as many bands as fill the GPU best."""
    most = max(1, min(whole.problem.p, MOST_GRID // whole.grid))
    return min((Taps(whole.problem, whole.m, bands) for bands in range(1, most + 1)), key=_cycles)


def _cycles(one: Taps) -> float:
    return one.cycles


def source(m: int, count: int) -> Source:
    macros = (("FILTERS", m), ("COPIES", count))
    return Hopper("cuda_implicit_taps.cu", ("multiply_taps", "add_taps"), macros)


def sources() -> Iterator[Source]:
    yield from (source(m, count) for count, filters in FILTERS.items() for m in filters)


class TapsPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Taps) -> None:
        kernels, arguments = source(form.m, form.copies).load(), form.arguments()
        multiply, add = kernels["multiply_taps"], kernels["add_taps"]
        grid, threads, shared = form.grid, WORKERS + LOADERS, form.shared
        results, parts = form.problem.k * form.taps, form.parts
        multiply.allow_shared(shared)
        self._multiply: Launch = lambda *arrays: multiply(grid, threads, *arrays, arguments, shared=shared)
        self._add: Launch = lambda *arrays: add(ceil(results, ADDED), ADDERS, *arrays, results, parts)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        partial = pointer(workspace)
        self._multiply(pointer(a), pointer(b), partial)
        self._add(partial, pointer(out))

    def close(self) -> None:
        pass
