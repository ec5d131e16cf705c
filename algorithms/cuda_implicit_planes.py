"""Filter gradients of 1x1 convolutions on Hopper as products that read 16-bit images (nchw) as such."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from . import gpu_maps
from .cuda_implicit_operands import ceil
from .cuda_implicit_products import BYTES_A_CYCLE, MULTIPROCESSORS, PRODUCTS_A_CYCLE, SECOND_KERNEL, is_bfloat
from .cuda_implicit_stream_tiles import ALIGNMENT, COPIED_A_CYCLE, MEMORY, ROW_BYTES, Wide
from .cuda_implicit_tiles import Hopper
from .gpu import C_TYPES, by_value, pointer
from .gpu_maps import Map

DEPTH, ADDERS, ADDED = 64, 256, 32  # pixels of a step; as in cuda_implicit_planes.cu
NEIGHBOURS = 8  # pixels that the copy engine moves at once
TILES = Wide(128, 64, 1.0), Wide(128, 128, 1.0), Wide(128, 256, 1.0)
MEMORY_BYTES_A_CYCLE = 1900  # of an H200, as the rest
BLOCK_CYCLES = 4000  # before the first step and after the last
SEEN = 0.2  # of what is hidden
LONGEST = 256  # steps of a part, since tensor cores truncate when they add
FEWEST_STEPS, MOST_ROUNDS = 4, 2
SLACK = 1.25  # variants that may take this much longer than the best are offered too


class Shape(ctypes.Structure):
    """As in cuda_implicit_planes.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "channels", "blocks", "steps")),
        *((name, ctypes.c_int) for name in ("col_tiles", "tiles", "parts", "length")),
        ("results", ctypes.c_longlong),
    ]


def suits(problem: Problem) -> bool:
    """Whether pixels of one channel are neighbours in both operands, as the copy engine wants them."""
    p = problem
    stored = p.layout is Layout.NCHW and p.precision.itemsize == 2 and p.direction is Direction.BWD_FILTER
    alone = p.taps == (1, 1) and p.groups == 1 and p.stride == (1, 1) and not any(map(any, p.pad))
    return stored and alone and prod(p.image) % NEIGHBOURS == 0


@dataclass(frozen=True)
class Planes:
    """One variant: a tile of filters x channels, and parts of the sums."""

    problem: Problem
    tile: Wide
    parts: int = 1

    @property
    def name(self) -> str:
        return f"planes{self.tile.size}" + (f"-parts{self.parts}" if self.parts > 1 else "")

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
    def length(self) -> int:
        return ceil(self.steps, self.parts)

    @property
    def results(self) -> int:
        return self.problem.k * self.problem.c

    @property
    def workspace(self) -> int:
        return 4 * self.results * self.parts * (self.parts > 1)

    @property
    def cycles(self) -> float:
        """Clock cycles of steps and of reading, which hide each other but for a share, and of parts."""
        p, tile = self.problem, self.tile
        products = tile.m * tile.n * DEPTH / PRODUCTS_A_CYCLE
        copied = ROW_BYTES * (min(tile.m, p.k) + min(tile.n, p.c)) / COPIED_A_CYCLE
        rounds = ceil(self.tiles * self.parts, MULTIPROCESSORS)
        computed = rounds * (self.length * max(products, copied) + BLOCK_CYCLES)
        read = p.precision.itemsize * p.n * prod(p.image) * (p.k + p.c) / MEMORY_BYTES_A_CYCLE
        added = 2 * self.workspace / BYTES_A_CYCLE + SECOND_KERNEL if self.parts > 1 else 0
        return max(computed, read) + SEEN * min(computed, read) + added

    def cuts(self) -> Iterator[Planes]:
        """In as few parts as digits allow; in as many as fill all multiprocessors some number of times."""
        fewest, most = ceil(self.steps, LONGEST), self.steps // FEWEST_STEPS
        yield replace(self, parts=fewest)
        for filled in range(1, MOST_ROUNDS + 1):
            parts = min(filled * MULTIPROCESSORS // self.tiles, most)
            if parts > fewest:
                yield replace(self, parts=ceil(self.steps, ceil(self.steps, parts)))

    def variant(self) -> Variant:
        details = {
            "flops": self.problem.flops,
            "deterministic": True,
            "math": self.problem.precision.value,
            "arithmetic": self.problem.precision.value,
            "family": "implicit",
            "tile": self.tile.size,
            "engine": "wgmma",
        }
        return Variant(self.name, self.workspace, details=details)

    def plan(self) -> PlanesPlan:
        return PlanesPlan(self)

    def maps(self, x: int, y: int) -> tuple[Any, Any]:
        """Pixels, channels and images of both tensors."""
        p, plane = self.problem, prod(self.problem.image)
        return tuple(
            gpu_maps.encode(
                Map(address, is_bfloat(p), (plane, channels, p.n), (2 * plane, 2 * plane * channels), rows)
            )
            for address, channels, rows in ((x, p.c, self.tile.n), (y, p.k, self.tile.m))
        )  # type: ignore[return-value]

    def arguments(self) -> Any:
        p = self.problem
        return by_value(Shape(
            p.k, p.c, self.blocks, self.steps, self.side_tiles[1], self.tiles, self.parts, self.length,
            self.results,
        ))  # fmt: skip


def source(precision: Precision, tile: Wide) -> Hopper:
    macros: dict[str, str | int] = {
        "ELEMENT": C_TYPES[precision],
        "BFLOAT": int(precision is Precision.BF16),
        "TILE_M": tile.m,
        "TILE_N": tile.n,
        "SIDES": tile.sides,
    }
    return Hopper("cuda_implicit_planes.cu", ("multiply_planes", "add_planes"), tuple(macros.items()))


def sources() -> Iterator[Hopper]:
    yield from (source(precision, tile) for precision in (Precision.FP16, Precision.BF16) for tile in TILES)


def forms(problem: Problem, limit: int | None) -> dict[str, Planes]:
    """The best, others that are nearly as good, and what takes the least memory."""
    whole = [Planes(problem, tile) for tile in TILES]
    best = sorted((min(one.cuts(), key=_cycles) for one in whole), key=_cycles)
    offered = [one for one in best if one.cycles <= SLACK * best[0].cycles]
    if limit is not None and not any(one.workspace <= limit for one in offered):
        fewest = [next(replace(one, parts=1).cuts()) for one in best]
        offered.append(min(fewest, key=lambda one: (one.workspace, one.cycles)))
    return {one.name: one for one in offered}


def _cycles(one: Planes) -> float:
    return one.cycles


class PlanesPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: Planes) -> None:
        self._form, kernels = form, source(form.problem.precision, form.tile).load()
        self._multiply, self._add = kernels["multiply_planes"], kernels["add_planes"]
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
            self._add(ceil(form.results, ADDED), ADDERS, partial, result, form.results, form.parts)

    def close(self) -> None:
        pass
