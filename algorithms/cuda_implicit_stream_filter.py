"""Filter gradients of 16-bit nhwc tensors as a stream of tiles: dy times windows of x."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

from .cuda_implicit_filter import Axis, Filter
from .cuda_implicit_operands import Launch, ceil
from .cuda_implicit_products import BYTES_A_CYCLE, Product, Span, pixels_map
from .cuda_implicit_stream_tiles import BLOCK, Streamed, source
from .gpu import by_value
from .gpu_maps import Map

LONGEST = 256  # stages whose sum stays in registers, as in cuda_implicit_stream_filter.cu


class FilterShape(ctypes.Structure):
    """struct Shape of cuda_implicit_stream_filter.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "channels", "row_tiles", "col_tiles")),
        *((name, ctypes.c_int) for name in ("tiles", "parts", "length", "flip")),
        *((name, ctypes.c_longlong) for name in ("positions", "results")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class StreamedFilter(Streamed, Filter):
    """The gradient of filters."""

    @property
    def partly(self) -> bool:
        return self.parts > 1 or self.length > LONGEST

    def cuts(self, fewest: int = 1) -> Iterator[Self]:
        return Product.cuts(self, fewest)

    @property
    def added(self) -> float:
        """Sums are also handed on before a part ends."""
        return super().added + (ceil(self.length, LONGEST) - 1) * 2 * self.partial / BYTES_A_CYCLE

    @property
    def side_tiles(self) -> tuple[int, int]:
        """Along the filters; along windows of 64 channels."""
        p, taps = self.problem, self.wide.taps
        windows = ceil(p.c // p.groups, BLOCK) * ceil(p.s, taps) * p.r
        return ceil(p.k // p.groups, self.tile.m), ceil(windows, self.tile.n // (BLOCK * taps))

    @property
    def output(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        return self.problem.p, self.problem.q + self.extension

    @property
    def pixels(self) -> int:
        return self.images * prod(self.output)

    @property
    def spans(self) -> list[Span]:
        rows, cols = super().spans
        return [rows, replace(cols, count=cols.count + self.extension)]

    def maps(self, a: int, b: int) -> tuple[Map, Map]:
        p = self.problem
        own = [Span(0, 1, count, size, 0) for count, size in zip(self.output, p.output, strict=True)]
        return (
            pixels_map(p, a, p.c, self.images, self.spans, BLOCK + self.wide.spare),
            pixels_map(p, b, p.k, self.images, own, BLOCK),
        )

    def arguments(self) -> Any:
        p = self.problem
        axes = (
            Axis(p.image[i], self.output[i], p.taps[i], p.pad[i][0], p.stride[i], p.dilation[i])
            for i in (0, 1)
        )
        return by_value(FilterShape(
            p.k // p.groups, p.c // p.groups, *self.side_tiles, self.tiles, self.parts, self.length,
            int(p.flip), self.pixels, self.results, *axes,
        ))  # fmt: skip

    def launch(self) -> Launch:
        kernel = source(self.problem, self.tile)["stream_tiles"]
        shared, arguments = self.tile.shared(self.engine), self.arguments()
        kernel.allow_shared(shared)
        sizes = self.grid, self.tile.threads
        return lambda x, y, out, partial, *_: kernel(*sizes, x, y, out, partial, arguments, shared=shared)
