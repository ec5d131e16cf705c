"""1x1 convolutions on Hopper, forward and backward data, as products that read fp32 images (nchw) as such.

No pass over images is needed: their halves are made in registers, on the way to the tensor cores. Filters
alone are split beforehand.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from . import cuda_implicit_operands as operands
from .cuda_implicit_choice import best, good
from .cuda_implicit_operands import Filters, Launch, ceil, copies
from .cuda_implicit_products import MEMORY_BYTES_A_CYCLE, MULTIPROCESSORS, added_cycles, details, overlapped
from .cuda_implicit_tiles import Hopper
from .gpu import Source, by_value, pointer

PIXELS, DEPTH = 128, 64  # as in cuda_implicit_point.cu
WORKERS, LOADERS, FACTOR_BYTES, PADDING, STAGE_MEMORY, BARRIERS = 256, 128, 4, 1024, 205_000, 128
SPLITTERS, CHUNK = 1024, 8  # as in cuda_implicit_point_filters.cu
TILES = 128, 64  # channels
ALIGNMENT = 256
STAGE_CYCLES = {128: 2850, 64: 2000}  # by channels of a tile: of an H200, as the rest
APART = 1.8  # times that where pixels are copied one by one
TILE_CYCLES = 3700  # before the first stage and after the last
CACHE_BYTES_A_CYCLE = 3000  # where images are read again for other channels
FEWEST_STAGES, MOST_ROUNDS = 3, 8


class Shape(ctypes.Structure):
    """As in cuda_implicit_point.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "depth", "m_tiles", "tiles", "parts", "length")),
        *((name, ctypes.c_uint) for name in ("pixels", "plane", "cols")),
        *((name, ctypes.c_int) for name in ("in_row", "in_col", "rows")),
        *((name, ctypes.c_int) for name in ("width", "cell_rows", "cell_cols")),
        *((name, ctypes.c_longlong) for name in ("in_image", "in_channel")),
        *((name, ctypes.c_longlong) for name in ("out_image", "out_channel", "results")),
    ]


class FiltersShape(ctypes.Structure):
    """struct Shape of cuda_implicit_point_filters.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "depth", "output_step", "depth_step")),
        *((name, ctypes.c_int) for name in ("tile", "tiles", "copies")),
    ]


def suits(problem: Problem) -> bool:
    """Whether all that a pixel of the result needs are the channels of one pixel."""
    p = problem
    stored = p.layout is Layout.NCHW and p.precision in (Precision.FP32, Precision.TF32)
    return stored and p.taps == (1, 1) and p.groups == 1 and not any(map(any, p.pad))


@dataclass(frozen=True)
class Point:
    """One variant: tiles of `m` channels x 128 pixels, the reduction cut into parts."""

    problem: Problem
    m: int
    parts: int = 1

    @property
    def name(self) -> str:
        return f"point{self.m}x{PIXELS}" + (f"-parts{self.parts}" if self.parts > 1 else "")

    @property
    def backward(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @property
    def sides(self) -> tuple[int, int]:
        """Channels computed, and summed over."""
        return Filters(self.problem).sides

    @property
    def copies(self) -> int:
        return copies(self.problem.precision)

    @property
    def pixels(self) -> int:
        """With products; of a gradient others are zero."""
        return self.problem.n * prod(self.problem.output)

    @property
    def neighbours(self) -> bool:
        """Whether pixels are copied by fours."""
        dense = self.backward or self.problem.stride == (1, 1)
        return dense and prod(self.problem.output) % 4 == 0

    @property
    def m_tiles(self) -> int:
        return ceil(self.sides[0], self.m)

    @property
    def tiles(self) -> int:
        return self.m_tiles * ceil(self.pixels, PIXELS) * self.parts

    @property
    def stages(self) -> int:
        """Of the whole reduction."""
        return ceil(self.sides[1], DEPTH)

    @property
    def filter_bytes(self) -> int:
        """Of a stage."""
        return self.copies * self.m * DEPTH * 2 + DEPTH * FACTOR_BYTES

    @property
    def results(self) -> int:
        return prod(self.problem.shapes[2])

    @property
    def areas(self) -> tuple[int, int]:
        """Bytes of filters, and of parts of sums."""
        filters = self.m_tiles * self.stages * self.filter_bytes
        return ceil(filters, ALIGNMENT) * ALIGNMENT, 4 * self.results * self.parts * (self.parts > 1)

    @property
    def workspace(self) -> int:
        return sum(self.areas)

    @property
    def cycles(self) -> float:
        """Clock cycles of products and of copies, which hide each other but for a share, and of parts."""
        stage = STAGE_CYCLES[self.m] * (self.copies + 1) / 3 * (1 if self.neighbours else APART)
        rounds = ceil(self.tiles, MULTIPROCESSORS)
        computed = rounds * (ceil(self.stages, self.parts) * stage + TILE_CYCLES)
        images = 4 * self.pixels * self.sides[1]
        copied = (images + 4 * self.results) / MEMORY_BYTES_A_CYCLE
        copied += images * (self.m_tiles - 1) / CACHE_BYTES_A_CYCLE
        return overlapped(computed, copied) + added_cycles(self.areas[1])

    def cuts(self) -> Iterator[Point]:
        """In one part; in as many as fill every multiprocessor a whole number of times."""
        yield self
        most = self.stages // FEWEST_STAGES
        for filled in range(1, MOST_ROUNDS + 1):
            parts = min(filled * MULTIPROCESSORS // self.tiles, most)
            if parts > 1:
                yield replace(self, parts=ceil(self.stages, ceil(self.stages, parts)))

    def variant(self) -> Variant:
        return Variant(self.name, self.workspace, details=details(self.problem, f"{self.m}x{PIXELS}"))

    def plan(self) -> PointPlan:
        return PointPlan(self)

    def arguments(self) -> Any:
        p, (outputs, depth), plane = self.problem, self.sides, prod(self.problem.output)
        dense = p.stride == (1, 1)
        rows, width = p.image if self.backward else p.output
        image = plane if self.backward else prod(p.image)
        steps = (0, 0) if dense or self.backward else (p.stride[0] * p.image[1], p.stride[1])
        cell = p.stride if self.backward else (1, 1)
        return by_value(Shape(
            outputs, depth, self.m_tiles, self.tiles, self.parts, ceil(self.stages, self.parts),
            self.pixels, plane, p.output[1], *steps, rows, width, *cell,
            depth * image, image, outputs * rows * width, rows * width, self.results,
        ))  # fmt: skip

    def filters(self) -> Launch:
        """(w, halves)"""
        outputs, depth = self.sides
        steps = (1, outputs) if self.backward else (depth, 1)
        kernel = FILTERS["split_filters"]
        struct = by_value(FiltersShape(outputs, depth, *steps, self.m, self.m_tiles, self.copies))
        return lambda *arrays: kernel(self.stages * DEPTH // CHUNK, SPLITTERS, *arrays, struct)


FILTERS = Source("cuda_implicit_point_filters.cu", ("split_filters",))


def source(m: int, count: int) -> Source:
    return Hopper("cuda_implicit_point.cu", ("multiply_points",), (("TILE_M", m), ("COPIES", count)))


def sources() -> Iterator[Source]:
    yield FILTERS
    yield from (source(m, count) for m in TILES for count in (1, 2))


def forms(problem: Problem, limit: int | None) -> dict[str, Point]:
    """The best, others that are nearly as good, and what takes the least memory."""
    whole = [Point(problem, m) for m in TILES]
    offered = good(best(one.cuts()) for one in whole)
    if limit is not None and not any(one.workspace <= limit for one in offered):
        offered.append(min(whole, key=lambda one: (one.workspace, one.cycles)))
    return {one.name: one for one in offered}


class PointPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Point) -> None:
        self._form, p = form, form.problem
        stage = 4 * PIXELS * DEPTH + form.filter_bytes - DEPTH * FACTOR_BYTES + PADDING
        shared = STAGE_MEMORY // stage * stage + PADDING + BARRIERS
        self._kernel = source(form.m, form.copies)["multiply_points"]
        self._kernel.allow_shared(shared)
        blocks, threads, arguments = min(form.tiles, MULTIPROCESSORS), WORKERS + LOADERS, form.arguments()
        self._multiply: Launch = lambda *arrays: self._kernel(
            blocks, threads, *arrays, arguments, shared=shared
        )
        self._filters = form.filters()
        self._add = operands.add(p, form.results, form.parts)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        filters = pointer(workspace)
        partial = filters + self._form.areas[0]
        self._filters(pointer(b), filters)
        self._multiply(pointer(a), filters, pointer(out), partial)
        if self._form.parts > 1:
            self._add(partial, pointer(out), 0)

    def close(self) -> None:
        pass
