"""Filter gradients as an implicit matrix product over all pixels: its tiles, parts and launches."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from convbench.api import Precision, Problem

from .cuda_direct_shape import (
    DEPTH,
    MULTIPROCESSORS,
    THREADS,
    Launch,
    Tile,
    defines,
    nhwc,
    shape_of,
    tile_threads,
)
from .gpu import Source, by_value

CHUNK = 1024 // DEPTH  # steps after which float sums are put aside
MOST_FILLS = 32  # blocks that a multiprocessor computes one after the other, where we may choose
FEWEST_STEPS = 12  # what a block does before and after its steps takes as long as so many
ABSURD = 8  # times slower than the best: not worth timing where there is memory
BYTES_A_CYCLE, SECOND_KERNEL = 700, 4000  # of workspace written and read; cycles

TILES = (
    Tile(128, 128, 1.0),
    Tile(96, 128, 1.0),
    Tile(64, 128, 0.98, 3),
    Tile(64, 64, 0.86, 4),
    Tile(32, 128, 0.8, 4),
)


class Cut(ctypes.Structure):
    """As in cuda_direct_filter.cu."""

    _fields_ = [
        *(
            (name, ctypes.c_int)
            for name in ("parts", "length", "chunk", "col_tiles", "images", "rows", "cols")
        ),
        *((name, ctypes.c_longlong) for name in ("x_image", "y_step", "y_gap")),
    ]


@dataclass(frozen=True)
class Filter:
    """The implicit matrix product of a filter gradient on one tile, its pixels cut into `parts`."""

    problem: Problem
    tile: Tile
    parts: int = 1

    @property
    def columns(self) -> int:
        p = self.problem
        return p.c // p.groups * p.r * p.s

    @property
    def tiles(self) -> tuple[int, int]:
        return -(-self.problem.k // self.problem.groups // self.tile.m), -(-self.columns // self.tile.n)

    @property
    def steps(self) -> int:
        return -(-self.problem.reduction // DEPTH)

    @property
    def length(self) -> int:
        return -(-self.steps // self.parts)

    @property
    def workspace(self) -> int:
        size = 8 if self.problem.precision is Precision.FP64 else 4
        return self.parts * self.problem.k * self.columns * size if self.parts > 1 else 0

    @property
    def blocks(self) -> int:
        return prod(self.tiles) * self.problem.groups * self.parts

    @property
    def cycles(self) -> float:
        """Clock cycles: products, what a block does before them, and parts written and read again."""
        products = self.tile.cycles(self.blocks) * (self.length + FEWEST_STEPS)
        return products + (self.workspace / BYTES_A_CYCLE + SECOND_KERNEL if self.parts > 1 else 0)

    def launches(self) -> Iterator[Launch]:
        p = self.problem
        plane, sums_float = p.p * p.q, p.precision is not Precision.FP64
        aside = sums_float and (self.parts > 1 or p.precision.itemsize == 4)
        cut = Cut(
            parts=self.parts, length=self.length, chunk=CHUNK if aside else 2**30, col_tiles=self.tiles[1],
            images=DEPTH // plane, rows=DEPTH // p.q % p.p, cols=DEPTH % p.q,
            x_image=p.c * p.h * p.w, y_step=DEPTH * p.k, y_gap=0 if nhwc(p) else (p.k - 1) * plane,
        )  # fmt: skip
        shape = by_value(shape_of(p, row_tiles=self.tiles[0]))
        threads = tile_threads(p)
        yield Launch(source(p), f"tile{self.tile.size}", self.blocks, (shape, by_value(cut)), threads=threads)
        if self.parts > 1:
            yield add_parts(p, p.k * self.columns, self.parts)


def source(problem: Problem) -> Source:
    functions = *(f"tile{tile.size}" for tile in TILES), "add_parts"
    return Source("cuda_direct_filter.cu", functions, defines(problem.precision, problem.layout))


def add_parts(problem: Problem, count: int, parts: int) -> Launch:
    """Adds the parts of a gradient in order."""
    return Launch(source(problem), "add_parts", -(-count // THREADS), (count, parts))


def filters(problem: Problem, limit: int | None) -> Sequence[Filter]:
    """The best tile and number of parts; the best within the limit; without workspace, if not absurd."""
    whole = [Filter(problem, tile) for tile in TILES]
    cuts = [replace(one, parts=parts) for one in whole for parts in _parts(one)]
    within = [cut for cut in cuts if limit is not None and cut.workspace <= limit]
    best, small, bare = (min(offered, key=_cycles) for offered in (whole + cuts, whole + within, whole))
    bounded = [small] if limit is not None and best.workspace > limit else []
    return list(dict.fromkeys([best, *bounded, *([bare] if bare.cycles < ABSURD * best.cycles else [])]))


def _cycles(one: Filter) -> float:
    return one.cycles


def _parts(whole: Filter) -> list[int]:
    """Numbers of parts whose blocks fill every multiprocessor a whole number of times."""
    fills = (fill * MULTIPROCESSORS // whole.blocks for fill in range(1, MOST_FILLS + 1))
    return sorted({parts for parts in fills if 1 < parts <= whole.steps})
