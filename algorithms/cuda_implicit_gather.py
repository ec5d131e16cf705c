"""Forward and backward data as an implicit matrix product on tensor cores: filters times pixels."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any

from convbench.api import Direction, Layout, Problem

from .cuda_implicit_operands import CHUNK, Filters, Images, ceil, copies
from .cuda_implicit_products import Product, Span, is_bfloat, pixels_map
from .gpu import by_value
from .gpu_maps import Map

MOST_PHASES = 8  # as in cuda_implicit_gather.cu


class Walk(ctypes.Structure):
    """As in cuda_implicit_gather.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("first", "every", "count", "step", "start")),
        *((name, ctypes.c_int) for name in ("dilation", "taps", "tap", "tap_step", "size")),
    ]


def walks(problem: Problem, axis: int) -> list[Walk]:
    """Which pixels results along an axis read: one walk, or one for each remainder by the stride."""
    p, d, u = problem, problem.dilation[axis], problem.stride[axis]
    taps, pad, x, y = p.taps[axis], p.pad[axis][0], p.image[axis], p.output[axis]
    turn = -1 if p.flip else 1
    if p.direction is Direction.FWD:
        return [Walk(0, 1, y, u, -pad, d, taps, taps - 1 if p.flip else 0, turn, x)]
    every = u // gcd(u, d)  # taps that meet pixels of one remainder
    found = []
    for phase in range(min(u, x)):
        first = next((t for t in range(min(every, taps)) if (phase + pad - t * d) % u == 0), taps)
        start, tap = (phase + pad - first * d) // u, taps - 1 - first if p.flip else first
        count = ceil(taps - first, every)
        found.append(
            Walk(phase, u, ceil(x - phase, u), 1, start, -d * every // u, count, tap, turn * every, y)
        )
    return found


class Shape(ctypes.Structure):
    """As in cuda_implicit_gather.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("images", "groups", "outputs", "chunks")),
        *((name, ctypes.c_int) for name in ("row_tiles", "pixel_tiles", "row_phases", "col_phases")),
        *((name, ctypes.c_int) for name in ("parts", "length", "stored", "stored_cols")),
        *((name, ctypes.c_longlong) for name in ("image_copy", "filter_copy", "image", "channel")),
        *((name, ctypes.c_longlong) for name in ("row", "pixel", "results")),
        ("rows", Walk * MOST_PHASES),
        ("cols", Walk * MOST_PHASES),
    ]


@dataclass(frozen=True)
class Gather(Product):
    """Forward, or the gradient of x."""

    @cached_property
    def walks(self) -> tuple[list[Walk], list[Walk]]:
        return walks(self.problem, 0), walks(self.problem, 1)

    @property
    def filters(self) -> Filters:
        return Filters(self.problem)

    @property
    def side_tiles(self) -> tuple[int, int]:
        """Along the channels; along the pixels of the largest phase."""
        rows, cols = (max(walk.count for walk in axis) for axis in self.walks)
        return ceil(self.filters.sides[0], self.tile.m), ceil(self.images * rows * cols, self.tile.n)

    @property
    def tiles(self) -> int:
        return prod(self.side_tiles) * prod(map(len, self.walks)) * self.problem.groups

    @property
    def steps(self) -> int:
        taps = prod(max(walk.taps for walk in axis) for axis in self.walks)
        return ceil(taps * self.filters.chunks * CHUNK, self.depth)

    @property
    def results(self) -> int:
        return prod(self.problem.shapes[2]) // self.problem.n * self.images

    @property
    def spans(self) -> list[Span]:
        """Of rows and of columns, where there is one phase."""
        return [_span(axis[0]) for axis in self.walks]

    def suits_bulk(self) -> bool:
        whole = self.filters.sides[1] % self.depth == 0
        return whole and prod(map(len, self.walks)) == 1 and all(span.allowed for span in self.spans)

    def maps(self, a: int, b: int) -> tuple[Map, Map]:
        p, filters = self.problem, self.filters
        depth = copies(p.precision) * filters.chunks * CHUNK
        row, rows = filters.taps * depth, p.groups * filters.sides[0]
        taps = Map(b, is_bfloat(p), (row, rows), (2 * row,), self.tile.m)
        return pixels_map(p, a, p.groups * depth, self.images, self.spans, self.tile.n), taps

    def arguments(self) -> Any:
        p, filters, (rows, cols) = self.problem, self.filters, self.walks
        image = Images(p, "y" if filters.backward else "x", self.images)
        height, width = p.image if filters.backward else p.output
        outputs, last = filters.sides[0] * p.groups, p.layout is Layout.NHWC
        channel, row, pixel = (1, width * outputs, outputs) if last else (height * width, width, 1)
        return by_value(Shape(
            self.images, p.groups, filters.sides[0], filters.chunks, *self.side_tiles, len(rows), len(cols),
            self.parts, self.length, filters.taps, p.s, image.copy, filters.copy,
            height * width * outputs, channel, row, pixel, self.results,
            (Walk * MOST_PHASES)(*rows), (Walk * MOST_PHASES)(*cols),
        ))  # fmt: skip


def _span(walk: Walk) -> Span:
    reach = (walk.taps - 1) * walk.dilation
    return Span(walk.start + min(0, reach), walk.step, walk.count, walk.size, abs(reach))
