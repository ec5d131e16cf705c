"""Forward and backward data of 16-bit nhwc tensors as a stream of tiles: filters times pixels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

from convbench.api import Direction

from . import gpu_maps
from .cuda_implicit_gather import Gather, Walk, walks
from .cuda_implicit_operands import Launch
from .cuda_implicit_products import is_bfloat, pixels_map
from .cuda_implicit_stream_tiles import BLOCK, ROW_BYTES, Streamed, source
from .gpu import by_value
from .gpu_maps import Map


class GatherShape(ctypes.Structure):
    """struct Shape of cuda_implicit_stream.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "depth", "row_tiles", "pixel_tiles")),
        *((name, ctypes.c_int) for name in ("tiles", "stored_cols", "width", "groups")),
        ("pixels", ctypes.c_longlong),
        ("rows", Walk),
        ("cols", Walk),
    ]


@dataclass(frozen=True)
class StreamedGather(Streamed, Gather):
    """Forward, or the gradient of x."""

    @cached_property
    def walks(self) -> tuple[list[Walk], list[Walk]]:
        """Along rows that are longer where windows need it."""
        rows, cols = walks(self.problem, 0), walks(self.problem, 1)
        for walk in cols:
            walk.count += self.extension
        return rows, cols

    @property
    def takes_filters(self) -> bool:
        return True

    def cuts(self, fewest: int = 1) -> Iterator[Self]:
        yield self

    @property
    def pixels(self) -> int:
        p = self.problem
        return p.n * prod(p.image if p.direction is Direction.BWD_DATA else p.output)

    @property
    def copied(self) -> float:
        wide, neighbours = self.wide, min(2, self.side_tiles[0])
        return ROW_BYTES * (wide.m + wide.n / wide.taps / neighbours)

    def maps(self, a: int, b: int) -> tuple[Map, Map]:
        p, wide, depth = self.problem, self.wide, self.filters.sides[1]
        image = pixels_map(p, a, p.groups * depth, self.images, self.spans, wide.n + wide.spare)
        row = prod(p.taps) * p.c // p.groups
        rows = BLOCK if self.filters.backward else wide.m
        return image, Map(b, is_bfloat(p), (row, p.k), (2 * row,), rows)

    def arguments(self) -> Any:
        p, (outputs, depth), ((rows, *_), (cols, *_)) = self.problem, self.filters.sides, self.walks
        return by_value(GatherShape(
            outputs, depth, *self.side_tiles, self.tiles, p.s, cols.count - self.extension, p.groups,
            self.pixels, rows, cols,
        ))  # fmt: skip

    def result_map(self, address: int) -> Map:
        """Of the channels and pixels of every group."""
        p, width = self.problem, self.filters.sides[0]
        sizes, strides = (width, self.pixels, p.groups), (2 * width * p.groups, 2 * width)
        return Map(address, is_bfloat(p), sizes, strides, self.wide.stored)

    def launch(self) -> Launch:
        kernel = source(self.problem, self.tile)["stream_tiles"]
        shared, arguments = self.tile.shared(self.engine), self.arguments()
        kernel.allow_shared(shared)
        maps: dict[int, Any] = {}

        def multiply(image: Any, filter_: Any, out: int, *_: int) -> None:
            if out not in maps:
                maps[out] = gpu_maps.encode(self.result_map(out))
            kernel(self.grid, self.tile.threads, image, filter_, maps[out], out, arguments, shared=shared)

        return multiply
