"""Filter gradients as an implicit matrix product on tensor cores: dy times shifted x, summed over pixels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Self

from convbench.api import Layout

from .cuda_implicit_operands import CHUNK, Images, ceil, copies
from .cuda_implicit_products import Product, Span, is_bfloat, pixels_map
from .gpu import by_value
from .gpu_maps import Map

BLOCK = 64  # channels that are copied in bulk
LONGEST = {1: 1 << 14, 2: 1 << 16}  # pixels summed by one block, by copies: longer sums lose digits


class Axis(ctypes.Structure):
    """As in cuda_implicit_filter.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "taps", "pad", "stride", "dilation")]


class Shape(ctypes.Structure):
    """As in cuda_implicit_filter.cu."""

    _fields_ = [
        *(
            (name, ctypes.c_int)
            for name in ("images", "groups", "outputs", "out_chunks", "channels", "chunks")
        ),
        *((name, ctypes.c_int) for name in ("row_tiles", "col_tiles", "parts", "length", "flip", "last")),
        *((name, ctypes.c_longlong) for name in ("x_copy", "y_copy", "results")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class Filter(Product):
    """The gradient of filters. Chunks of images add to the same parts."""

    @property
    def partly(self) -> bool:
        return self.parts > 1 or self.images < self.problem.n

    @property
    def side_tiles(self) -> tuple[int, int]:
        """Along the filters; along chunks of channels, tap by tap."""
        p = self.problem
        columns = ceil(p.c // p.groups, CHUNK) * CHUNK * prod(p.taps)
        return ceil(p.k // p.groups, self.tile.m), ceil(columns, self.tile.n)

    @property
    def tiles(self) -> int:
        return prod(self.side_tiles) * self.problem.groups

    @property
    def pixels(self) -> int:
        return self.images * prod(self.problem.output)

    @property
    def steps(self) -> int:
        return ceil(self.pixels, self.depth)

    @property
    def results(self) -> int:
        return prod(self.problem.w_shape)

    def cuts(self, fewest: int = 1) -> Iterator[Self]:
        longest = LONGEST[copies(self.problem.precision)] // self.depth
        yield from super().cuts(max(fewest, ceil(self.steps, longest)))

    @property
    def spans(self) -> list[Span]:
        """Of rows and of columns."""
        p = self.problem
        reach = [(taps - 1) * d for taps, d in zip(p.taps, p.dilation, strict=True)]
        return [Span(-p.pad[i][0], p.stride[i], p.output[i], p.image[i], reach[i]) for i in (0, 1)]

    def suits_bulk(self) -> bool:
        whole = self.problem.c // self.problem.groups % BLOCK == 0
        return whole and all(span.allowed for span in self.spans)

    def maps(self, a: int, b: int) -> tuple[Map, Map]:
        p, count = self.problem, copies(self.problem.precision)
        x, y = (CHUNK * Images(p, name, self.images).chunks for name in "xy")
        filters = Map(b, is_bfloat(p), (y, self.pixels, count), (2 * y, 2 * y * self.pixels), self.depth)
        return pixels_map(p, a, x, self.images * count, self.spans, self.depth), filters

    def arguments(self) -> Any:
        p, tile = self.problem, self.side_tiles
        x, y = Images(p, "x", self.images), Images(p, "y", self.images)
        axes = (
            Axis(p.image[i], p.output[i], p.taps[i], p.pad[i][0], p.stride[i], p.dilation[i]) for i in (0, 1)
        )
        return by_value(Shape(
            self.images, p.groups, y.depth, y.chunks // p.groups, x.depth, x.chunks // p.groups,
            *tile, self.parts, self.length, int(p.flip), int(p.layout is Layout.NHWC),
            x.copy, y.copy, self.results, *axes,
        ))  # fmt: skip
