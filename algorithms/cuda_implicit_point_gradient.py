"""Filter gradients of 1x1 convolutions on Hopper as products that read fp32 images (nchw) as such."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from convbench.api import Array, Problem, Variant

from .cuda_implicit_choice import best
from .cuda_implicit_operands import Launch, ceil, copies
from .cuda_implicit_parts import Parted, adding, choose
from .cuda_implicit_point import BARRIERS, DEPTH, LOADERS, PADDING, WORKERS
from .cuda_implicit_products import MEMORY_BYTES_A_CYCLE, MULTIPROCESSORS, added_cycles, details, overlapped
from .cuda_implicit_tiles import Hopper
from .gpu import Source, by_value, pointer

HEIGHT, STAGES = 128, 3  # as in cuda_implicit_point_gradient.cu
COLUMNS = 128, 64  # of a tile
STEP_CYCLES = {128: 5300, 64: 2650}  # of 64 pixels, by columns: of an H200, as the rest
APART = 1.7  # times that where pixels are copied one by one
BLOCK_CYCLES = 5000  # before the first step and after the last


class Side(ctypes.Structure):
    """As in cuda_implicit_point_gradient.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("channels", "step_row", "step_col")),
        *((name, ctypes.c_longlong) for name in ("image", "channel")),
    ]


class Shape(ctypes.Structure):
    """As in cuda_implicit_point_gradient.cu."""

    _fields_ = [
        ("left", Side),
        ("right", Side),
        *((name, ctypes.c_int) for name in ("cols", "plane", "blocks", "all", "tiles", "right_tiles")),
        *((name, ctypes.c_int) for name in ("parts", "length", "left_step", "right_step")),
        ("results", ctypes.c_longlong),
    ]


@dataclass(frozen=True)
class PointGradient(Parted):
    """One variant: tiles of 128 filters x `n` channels, or channels x filters if `turned`; parts of sums."""

    n: int
    turned: bool = False

    longest, rounds = 1024, 4

    @property
    def name(self) -> str:
        return f"point{HEIGHT}x{self.n}{self.suffix}"

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the product."""
        sides = self.problem.k, self.problem.c
        return sides[::-1] if self.turned else sides

    @property
    def tiles(self) -> int:
        return ceil(self.sides[0], HEIGHT) * ceil(self.sides[1], self.n)

    @property
    def steps(self) -> int:
        return self.problem.n * ceil(prod(self.problem.output), DEPTH)

    @property
    def cycles(self) -> float:
        """Clock cycles of products and of copies, which hide each other but for a share, and of parts."""
        count = copies(self.problem.precision)
        neighbours = self.problem.stride == (1, 1) and prod(self.problem.output) % 4 == 0
        step = STEP_CYCLES[self.n] * (count + 1) / 3 * (1 if neighbours else APART)
        rounds = ceil(self.tiles * self.parts, MULTIPROCESSORS)
        computed = rounds * (self.length * step + BLOCK_CYCLES)
        images = 4 * self.problem.n * prod(self.problem.output) * sum(self.sides)
        copied = images / MEMORY_BYTES_A_CYCLE
        return overlapped(computed, copied) + added_cycles(self.workspace)

    def variant(self) -> Variant:
        return Variant(self.name, self.workspace, details=details(self.problem, f"{HEIGHT}x{self.n}"))

    def plan(self) -> PointGradientPlan:
        return PointGradientPlan(self)

    def arguments(self) -> Any:
        p, plane, image = self.problem, prod(self.problem.output), prod(self.problem.image)
        steps = (0, 0) if p.stride == (1, 1) else (p.stride[0] * p.image[1], p.stride[1])
        sides = Side(p.k, 0, 0, p.k * plane, plane), Side(p.c, *steps, p.c * image, image)
        out = p.c, 1
        turn = -1 if self.turned else 1
        return by_value(Shape(
            *sides[::turn], p.output[1], plane, ceil(plane, DEPTH), self.steps, self.tiles,
            ceil(self.sides[1], self.n), self.parts, self.length, *out[::turn], self.results,
        ))  # fmt: skip


def source(n: int, count: int) -> Source:
    functions = "multiply_planes", "add_parts"
    return Hopper("cuda_implicit_point_gradient.cu", functions, (("TILE_N", n), ("COPIES", count)))


def sources() -> Iterator[Source]:
    yield from (source(n, count) for n in COLUMNS for count in (1, 2))


def forms(problem: Problem, limit: int | None) -> dict[str, PointGradient]:
    turns = (True, False) if problem.stride == (1, 1) else (False,)
    cuts = [[cut for turned in turns for cut in PointGradient(problem, n, turned).cuts()] for n in COLUMNS]
    return {one.name: one for one in choose([*map(best, cuts)], limit)}


class PointGradientPlan:
    """Kernels with everything but the arrays."""

    def __init__(self, form: PointGradient) -> None:
        self._form, count = form, copies(form.problem.precision)
        kernels = source(form.n, count).load()
        halves = form.n * DEPTH * 2
        shared = STAGES * (halves * count + PADDING + 2 * halves) + PADDING + BARRIERS
        multiply = kernels["multiply_planes"]
        multiply.allow_shared(shared)
        blocks, threads, arguments = form.tiles * form.parts, WORKERS + LOADERS, form.arguments()
        self._multiply: Launch = lambda *arrays: multiply(blocks, threads, *arrays, arguments, shared=shared)
        self._add = adding(kernels["add_parts"], form.results, form.parts)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        x, y, partial = pointer(a), pointer(b), pointer(workspace)
        self._multiply(*((x, y) if self._form.turned else (y, x)), pointer(out), partial)
        if self._form.parts > 1:
            self._add(partial, pointer(out))

    def close(self) -> None:
        pass
