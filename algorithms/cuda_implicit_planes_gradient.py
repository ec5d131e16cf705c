"""Filter gradients of 1x1 convolutions on Hopper as products that read 16-bit images (nchw) as such."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from convbench.api import Array, Precision, Problem, Variant

from .cuda_implicit_choice import best
from .cuda_implicit_operands import ceil
from .cuda_implicit_parts import Parted, adding, choose
from .cuda_implicit_planes import BLOCK_CYCLES, DEPTH, image_map
from .cuda_implicit_products import (
    MEMORY_BYTES_A_CYCLE,
    MULTIPROCESSORS,
    PRODUCTS_A_CYCLE,
    added_cycles,
    details,
    overlapped,
)
from .cuda_implicit_stream_tiles import ALIGNMENT, COPIED_A_CYCLE, MEMORY, ROW_BYTES, Wide, macros
from .cuda_implicit_tiles import Hopper
from .gpu import by_value, pointer

TILES = Wide(128, 64, 1.0), Wide(128, 128, 1.0), Wide(128, 256, 1.0)


class Shape(ctypes.Structure):
    """As in cuda_implicit_planes_gradient.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "channels", "blocks", "steps")),
        *((name, ctypes.c_int) for name in ("col_tiles", "tiles", "parts", "length")),
        ("results", ctypes.c_longlong),
    ]


@dataclass(frozen=True)
class PlanesGradient(Parted):
    """One variant: a tile of filters x channels, and parts of the sums."""

    tile: Wide

    longest = 256  # since tensor cores truncate when they add
    rounds = 2

    @property
    def name(self) -> str:
        return f"planes{self.tile.size}{self.suffix}"

    @property
    def side_tiles(self) -> tuple[int, int]:
        return ceil(self.problem.k, self.tile.m), ceil(self.problem.c, self.tile.n)

    @property
    def tiles(self) -> int:
        return prod(self.side_tiles)

    @property
    def blocks(self) -> int:
        """Steps of an image."""
        return ceil(prod(self.problem.image), DEPTH)

    @property
    def steps(self) -> int:
        return self.problem.n * self.blocks

    @property
    def cycles(self) -> float:
        """Clock cycles of steps and of reading, which hide each other but for a share, and of parts."""
        p, tile = self.problem, self.tile
        products = tile.m * tile.n * DEPTH / PRODUCTS_A_CYCLE
        copied = ROW_BYTES * (min(tile.m, p.k) + min(tile.n, p.c)) / COPIED_A_CYCLE
        rounds = ceil(self.tiles * self.parts, MULTIPROCESSORS)
        computed = rounds * (self.length * max(products, copied) + BLOCK_CYCLES)
        read = p.precision.itemsize * p.n * prod(p.image) * (p.k + p.c) / MEMORY_BYTES_A_CYCLE
        return overlapped(computed, read) + added_cycles(self.workspace)

    def variant(self) -> Variant:
        return Variant(self.name, self.workspace, details=details(self.problem, self.tile.size))

    def plan(self) -> PlanesGradientPlan:
        return PlanesGradientPlan(self)

    def maps(self, x: int, y: int) -> tuple[Any, Any]:
        p, tile = self.problem, self.tile
        return image_map(p, x, p.c, tile.n), image_map(p, y, p.k, tile.m)

    def arguments(self) -> Any:
        p = self.problem
        return by_value(Shape(
            p.k, p.c, self.blocks, self.steps, self.side_tiles[1], self.tiles, self.parts, self.length,
            self.results,
        ))  # fmt: skip


def source(precision: Precision, tile: Wide) -> Hopper:
    functions = "planes_gradient", "add_parts"
    return Hopper("cuda_implicit_planes_gradient.cu", functions, macros(precision, tile))


def sources() -> Iterator[Hopper]:
    yield from (source(precision, tile) for precision in (Precision.FP16, Precision.BF16) for tile in TILES)


def forms(problem: Problem, limit: int | None) -> dict[str, PlanesGradient]:
    whole = [best(PlanesGradient(problem, tile).cuts()) for tile in TILES]
    return {one.name: one for one in choose(whole, limit)}


class PlanesGradientPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: PlanesGradient) -> None:
        self._form, kernels = form, source(form.problem.precision, form.tile).load()
        self._multiply = kernels["planes_gradient"]
        self._add = adding(kernels["add_parts"], form.results, form.parts)
        self._shared, self._arguments = MEMORY + ALIGNMENT, form.arguments()
        self._multiply.allow_shared(self._shared)
        self._maps: dict[tuple[int, int], tuple[Any, Any]] = {}  # by addresses

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        form, places = self._form, (pointer(a), pointer(b))
        if places not in self._maps:
            self._maps[places] = form.maps(*places)
        result, partial = pointer(out), pointer(workspace)
        blocks, threads = form.tiles * form.parts, form.tile.threads
        self._multiply(
            blocks, threads, *self._maps[places], result, partial, self._arguments, shared=self._shared
        )
        if form.parts > 1:
            self._add(partial, result)

    def close(self) -> None:
        pass
