"""1x1 convolutions on Hopper, forward and backward data, as products that read 16-bit nchw images as such."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from . import gpu_maps
from .cuda_implicit_choice import good
from .cuda_implicit_operands import ceil
from .cuda_implicit_products import (
    MEMORY_BYTES_A_CYCLE,
    MULTIPROCESSORS,
    PRODUCTS_A_CYCLE,
    details,
    is_bfloat,
    overlapped,
)
from .cuda_implicit_stream_tiles import (
    ALIGNMENT,
    BLOCK,
    COPIED_A_CYCLE,
    MEMORY,
    ROW_BYTES,
    WRITE_CYCLES,
    Wide,
    macros,
)
from .cuda_implicit_tiles import Hopper
from .gpu import by_value, pointer
from .gpu_maps import Map

DEPTH = 64  # channels of a step, or pixels of filter gradients
NEIGHBOURS = 8  # numbers that the copy engine moves at once
TILES = Wide(128, 128, 1.0), Wide(128, 256, 1.0), Wide(64, 256, 1.0, 2)
BLOCK_CYCLES = 4000  # before the first step and after the last: of an H200


class Shape(ctypes.Structure):
    """As in cuda_implicit_planes.cu."""

    _fields_ = [(name, ctypes.c_int) for name in ("outputs", "depth", "row_tiles", "pixel_tiles", "tiles")]


def suits(problem: Problem) -> bool:
    """Whether the copy engine can take what a product needs of the tensors: rows of pixels, of filters."""
    p = problem
    stored = p.layout is Layout.NCHW and p.precision.itemsize == 2
    alone = p.taps == (1, 1) and p.groups == 1 and p.stride == (1, 1) and not any(map(any, p.pad))
    rows = [prod(p.image), *([] if p.direction is Direction.BWD_FILTER else [p.c])]
    return stored and alone and not any(length % NEIGHBOURS for length in rows)


def image_map(problem: Problem, address: int, channels: int, rows: int) -> Any:
    """Pixels, channels and images of a tensor, so many channels at a time."""
    p, plane = problem, prod(problem.image)
    sizes, strides = (plane, channels, p.n), (2 * plane, 2 * plane * channels)
    return gpu_maps.encode(Map(address, is_bfloat(p), sizes, strides, rows))


@dataclass(frozen=True)
class Planes:
    """One variant: a tile of channels x pixels."""

    problem: Problem
    tile: Wide

    @property
    def name(self) -> str:
        return f"planes{self.tile.size}"

    @property
    def turned(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @property
    def sides(self) -> tuple[int, int]:
        """Channels that are computed, and summed."""
        sides = self.problem.k, self.problem.c
        return sides[::-1] if self.turned else sides

    @property
    def side_tiles(self) -> tuple[int, int]:
        """Along channels, and along the pixels of an image."""
        return ceil(self.sides[0], self.tile.m), ceil(prod(self.problem.image), self.tile.n)

    @property
    def tiles(self) -> int:
        return prod(self.side_tiles) * self.problem.n

    @property
    def cycles(self) -> float:
        """Clock cycles of tiles, and of reading and writing images, which hide each other but for a share."""
        p, tile = self.problem, self.tile
        products = tile.m * tile.n * DEPTH / PRODUCTS_A_CYCLE
        step = max(products, ROW_BYTES * (tile.m + tile.n) / COPIED_A_CYCLE)
        tiles = ceil(self.tiles, MULTIPROCESSORS) * (ceil(self.sides[1], DEPTH) * step + WRITE_CYCLES)
        images = p.precision.itemsize * p.n * prod(p.image) * (p.k + p.c) / MEMORY_BYTES_A_CYCLE
        return overlapped(tiles, images) + BLOCK_CYCLES

    def variant(self) -> Variant:
        return Variant(self.name, 0, details=details(self.problem, self.tile.size))

    def plan(self) -> PlanesPlan:
        return PlanesPlan(self)

    def maps(self, image: int, filter_: int, out: int) -> tuple[Any, Any, Any]:
        p, (outputs, depth) = self.problem, self.sides
        filters = Map(filter_, is_bfloat(p), (p.c, p.k), (2 * p.c,), BLOCK if self.turned else self.tile.m)
        return (
            image_map(p, image, depth, DEPTH),
            gpu_maps.encode(filters),
            image_map(p, out, outputs, BLOCK),
        )

    def arguments(self) -> Any:
        return by_value(Shape(*self.sides, *self.side_tiles, self.tiles))


def source(precision: Precision, tile: Wide, turned: bool) -> Hopper:
    defines = *macros(precision, tile), ("TURNED", int(turned))
    return Hopper("cuda_implicit_planes.cu", ("planes_product",), defines)


def sources() -> Iterator[Hopper]:
    for precision in (Precision.FP16, Precision.BF16):
        yield from (source(precision, tile, turned) for tile in TILES for turned in (False, True))


def forms(problem: Problem) -> dict[str, Planes]:
    """The best, and others that are nearly as good."""
    return {one.name: one for one in good(Planes(problem, tile) for tile in TILES)}


class PlanesPlan:
    """A kernel with everything but the arrays."""

    def __init__(self, form: Planes) -> None:
        self._form = form
        self._kernel = source(form.problem.precision, form.tile, form.turned)["planes_product"]
        self._shared, self._arguments = MEMORY + ALIGNMENT, form.arguments()
        self._kernel.allow_shared(self._shared)
        self._maps: dict[tuple[int, int, int], tuple[Any, Any, Any]] = {}  # by addresses

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        form, places = self._form, (pointer(a), pointer(b), pointer(out))
        if places not in self._maps:
            self._maps[places] = form.maps(*places)
        blocks, threads = min(form.tiles, MULTIPROCESSORS), form.tile.threads
        self._kernel(blocks, threads, *self._maps[places], self._arguments, shared=self._shared)

    def close(self) -> None:
        pass
