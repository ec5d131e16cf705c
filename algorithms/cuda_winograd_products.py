"""Products of Winograd's transformed operands by our own kernel for Hopper.

It reads both halves of a number once, where cuBLAS reads a sum three times as long: two thirds of the bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convbench import cuda

from . import gpu_maps
from .cuda_implicit_tiles import HOPPER, Hopper, capability
from .cuda_winograd_operands import UNIT, WOVEN, Operand
from .gpu import Source, by_value, missing
from .gpu_maps import Map

__all__ = ["Multiplied", "Multiply", "Tile", "can_multiply", "sources"]

STAGE_MEMORY, ALIGNMENT, BARRIERS = 205_000, 1024, 256  # the first as in cuda_winograd_products.cu
ROW_BYTES, BOX = 128, 64  # of a box: both halves of as many terms as alternate
FIXED = 64  # terms: what a block does beside them takes as long


def can_multiply() -> bool:
    """Whether the current device has what the kernel is written for."""
    return missing() is None and capability() == HOPPER


@dataclass(frozen=True)
class Tile:
    """Rows and columns of results of a block; `rate` is relative to the best."""

    m: int
    n: int
    rate: float
    inner: bool = False

    @property
    def name(self) -> str:
        return f"{self.m}x{self.n}"

    @property
    def threads(self) -> int:
        return 2 * self.m + (128 if (self.m, self.n) == (128, 192) else 32)

    @property
    def resident(self) -> int:
        """Blocks of a multiprocessor."""
        return 2 if self.m == 64 else 1

    @property
    def shared(self) -> int:
        """Bytes of the stages, both halves each; of barriers; what aligns them."""
        stage = (self.m + self.n) * ROW_BYTES
        return STAGE_MEMORY // self.resident // stage * stage + ALIGNMENT + BARRIERS

    @property
    def source(self) -> Source:
        macros = ("TILE_M", self.m), ("TILE_N", self.n), ("INNER", int(self.inner))
        return Hopper("cuda_winograd_products.cu", ("multiply",), macros)


SIDES = (128, 192, 1.0), (128, 128, 0.95), (64, 128, 0.9), (64, 64, 0.7)
TILES = tuple(Tile(*sides, inner) for inner in (False, True) for sides in SIDES)


def sources() -> Iterator[Source]:
    yield from (tile.source for tile in TILES)


class ShapeStruct(ctypes.Structure):
    """Shape in cuda_winograd_products.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "cols", "steps", "row_tiles", "col_tiles", "items")),
        *((name, ctypes.c_longlong) for name in ("pitch", "matrix")),
    ]


@dataclass(frozen=True)
class Multiplied:
    """Products of operands in halves, for every group of a batch of points and parts."""

    left: Operand
    right: Operand
    result: Operand
    rows: int
    cols: int
    terms: int
    batch: int
    groups: int

    @property
    def inner(self) -> bool:
        """Whether terms are neighbours in the operands; else rows."""
        return self.left.form == WOVEN

    def tiles(self, tile: Tile) -> tuple[int, int]:
        return -(-self.rows // tile.m), -(-self.cols // tile.n)

    def items(self, tile: Tile) -> int:
        rows, cols = self.tiles(tile)
        return rows * cols * self.batch * self.groups

    def tile(self) -> Tile:
        """That of the shortest time, if products are what takes it."""
        return min((tile for tile in TILES if tile.inner == self.inner), key=self._time)

    def _time(self, tile: Tile) -> float:
        rounds = -(-self.items(tile) // cuda.facts().multiprocessors)
        return rounds * (self.terms + FIXED) * tile.m * tile.n / tile.rate

    def struct(self, tile: Tile) -> Any:
        counts = -(-self.terms // UNIT), *self.tiles(tile), self.items(tile)
        return by_value(ShapeStruct(self.rows, self.cols, *counts, self.result.row, self.result.group))

    def maps(self, tile: Tile, left: int, right: int) -> tuple[Any, Any]:
        """How the copy engine finds both operands at these addresses."""
        return self._map(self.left, left, self.rows, tile.m), self._map(self.right, right, self.cols, tile.n)

    def _map(self, operand: Operand, address: int, results: int, side: int) -> Any:
        terms, strides, matrices = (
            2 * self.terms,
            (2 * operand.row, 2 * operand.group),
            self.batch * self.groups,
        )
        if self.inner:
            return gpu_maps.encode(Map(address, False, (terms, results, matrices), strides, side))
        return gpu_maps.encode(Map(address, False, (results, terms, matrices), strides, BOX))


class Multiply:
    """The kernel for these products, ready to be launched on any addresses; `more` adds to what is there."""

    def __init__(self, products: Multiplied, tile: Tile | None = None, *, more: bool = False) -> None:
        self._products, self._tile, self._more = products, tile or products.tile(), int(more)
        self._kernel, self._shape = self._tile.source["multiply"], products.struct(self._tile)
        self._kernel.allow_shared(self._tile.shared)
        at_once = self._tile.resident * cuda.facts().multiprocessors
        self._blocks = min(products.items(self._tile), at_once)
        self._maps: dict[tuple[int, int], tuple[Any, Any]] = {}

    def __call__(self, left: int, right: int, out: int) -> None:
        if (left, right) not in self._maps:
            self._maps[left, right] = self._products.maps(self._tile, left, right)
        maps, tile = self._maps[left, right], self._tile
        self._kernel(self._blocks, tile.threads, *maps, out, self._more, self._shape, shared=tile.shared)
