"""Filter gradients of 1x1 convolutions on Hopper as products that read 16-bit images (nchw) as such."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from convbench.api import Array, Precision, Problem, Variant

from .cuda_implicit_operands import ceil
from .cuda_implicit_planes import BLOCK_CYCLES, DEPTH, MEMORY_BYTES_A_CYCLE, SEEN, details, image_map, macros
from .cuda_implicit_products import BYTES_A_CYCLE, MULTIPROCESSORS, PRODUCTS_A_CYCLE, SECOND_KERNEL
from .cuda_implicit_stream_tiles import ALIGNMENT, COPIED_A_CYCLE, MEMORY, ROW_BYTES, Wide
from .cuda_implicit_tiles import Hopper
from .gpu import by_value, pointer

ADDERS, ADDED = 256, 32  # as in cuda_implicit_planes_gradient.cu
TILES = Wide(128, 64, 1.0), Wide(128, 128, 1.0), Wide(128, 256, 1.0)
LONGEST = 256  # steps of a part, since tensor cores truncate when they add
FEWEST_STEPS, MOST_ROUNDS = 4, 2
SLACK = 1.25  # variants that may take this much longer than the best are offered too


class Shape(ctypes.Structure):
    """As in cuda_implicit_planes_gradient.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("outputs", "channels", "blocks", "steps")),
        *((name, ctypes.c_int) for name in ("col_tiles", "tiles", "parts", "length")),
        ("results", ctypes.c_longlong),
    ]


@dataclass(frozen=True)
class PlanesGradient:
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

    def cuts(self) -> Iterator[PlanesGradient]:
        """In as few parts as digits allow; in as many as fill all multiprocessors some number of times."""
        fewest, most = ceil(self.steps, LONGEST), self.steps // FEWEST_STEPS
        yield replace(self, parts=fewest)
        for filled in range(1, MOST_ROUNDS + 1):
            parts = min(filled * MULTIPROCESSORS // self.tiles, most)
            if parts > fewest:
                yield replace(self, parts=ceil(self.steps, ceil(self.steps, parts)))

    def variant(self) -> Variant:
        return Variant(self.name, self.workspace, details=details(self.problem, self.tile))

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
    functions = "planes_gradient", "planes_sum"
    return Hopper("cuda_implicit_planes_gradient.cu", functions, macros(precision, tile))


def sources() -> Iterator[Hopper]:
    yield from (source(precision, tile) for precision in (Precision.FP16, Precision.BF16) for tile in TILES)


def forms(problem: Problem, limit: int | None) -> dict[str, PlanesGradient]:
    """The best, others that are nearly as good, and what takes the least memory."""
    whole = [PlanesGradient(problem, tile) for tile in TILES]
    best = sorted((min(one.cuts(), key=_cycles) for one in whole), key=_cycles)
    offered = [one for one in best if one.cycles <= SLACK * best[0].cycles]
    if limit is not None and not any(one.workspace <= limit for one in offered):
        fewest = [next(replace(one, parts=1).cuts()) for one in best]
        offered.append(min(fewest, key=lambda one: (one.workspace, one.cycles)))
    return {one.name: one for one in offered}


def _cycles(one: PlanesGradient) -> float:
    return one.cycles


class PlanesGradientPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: PlanesGradient) -> None:
        self._form, kernels = form, source(form.problem.precision, form.tile).load()
        self._multiply, self._add = kernels["planes_gradient"], kernels["planes_sum"]
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
