"""Implicit matrix products on tensor cores: what both kinds have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from convbench.api import Precision, Problem

from .cuda_implicit_operands import Launch, ceil, copies
from .cuda_implicit_tiles import Engine, Tile, source
from .gpu_maps import Map

MULTIPROCESSORS = 132  # of an H200; on another card the choices made with it are less good, not wrong
PRODUCTS_A_CYCLE = 2048
FIXED_CYCLES = 5000  # what a block does before and after its steps
BYTES_A_CYCLE, SECOND_KERNEL = 2000, 5000  # of parts that are written and read; cycles
MEMORY_BYTES_A_CYCLE = 1900  # of images and results
SEEN = 0.2  # of what is hidden
FEWEST_STEPS, MOST_ROUNDS = 4, 16
MATH = {Precision.FP32: "3xfp16", Precision.TF32: "fp16", Precision.FP16: "fp16", Precision.BF16: "bf16"}


def added_cycles(partial: int) -> float:
    """Clock cycles of so many bytes of parts, which are written and read again."""
    return 2 * partial / BYTES_A_CYCLE + SECOND_KERNEL if partial else 0


def overlapped(one: float, other: float) -> float:
    """Clock cycles of two that hide each other but for a share."""
    return max(one, other) + SEEN * min(one, other)


def details(problem: Problem, tile: str, engine: str = "wgmma") -> dict[str, Any]:
    """Of a variant."""
    return {
        "flops": problem.flops * (3 if copies(problem.precision) == 2 else 1),
        "deterministic": True,
        "math": MATH[problem.precision],
        "arithmetic": MATH[problem.precision].removeprefix("3x"),
        "family": "implicit",
        "tile": tile,
        "engine": engine,
    }


@dataclass(frozen=True)
class Product:
    """One implicit matrix product over some images, on one tile, its reduction cut into `parts`."""

    problem: Problem
    images: int
    tile: Tile
    engine: Engine
    parts: int = 1

    @property
    def name(self) -> str:
        parts = f"-parts{self.parts}" if self.parts > 1 else ""
        chunk = f"-chunk{self.images}" if self.images < self.problem.n else ""
        return f"{self.engine.name}{self.tile.size}{parts}{chunk}"

    @property
    def depth(self) -> int:
        """Terms of a step."""
        return 64 // copies(self.problem.precision)

    @property
    def tiles(self) -> int:
        raise NotImplementedError

    @property
    def steps(self) -> int:
        raise NotImplementedError

    @property
    def results(self) -> int:
        """Elements of the result of these images."""
        raise NotImplementedError

    def arguments(self) -> Any:
        """The kernel's struct."""
        raise NotImplementedError

    def suits_bulk(self) -> bool:
        """Whether the copy engine can move the operands."""
        raise NotImplementedError

    def maps(self, a: int, b: int) -> tuple[Map, Map]:
        """Tensor maps of both operands at these addresses."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Steps of a part."""
        return ceil(self.steps, self.parts)

    @property
    def blocks(self) -> int:
        return self.tiles * self.parts

    @property
    def partly(self) -> bool:
        """Whether blocks leave parts of results behind, which are then added up."""
        return self.parts > 1

    @property
    def takes_filters(self) -> bool:
        """Whether filters are read as they are stored."""
        return False

    @property
    def partial(self) -> int:
        """Bytes of the parts."""
        return 4 * self.parts * self.results if self.partly else 0

    @property
    def added(self) -> float:
        """Clock cycles of parts."""
        return added_cycles(self.partial)

    @property
    def cycles(self) -> float:
        """Clock cycles of everything."""
        tile, products = self.tile, 3 if copies(self.problem.precision) == 2 else 1
        step = tile.resident * tile.m * tile.n * self.depth * products / PRODUCTS_A_CYCLE / tile.rate
        rounds = ceil(self.blocks, MULTIPROCESSORS * tile.resident)
        one = rounds * (self.length * step + FIXED_CYCLES) + self.added
        return self.problem.n // self.images * one

    def launch(self) -> Launch:
        """(operand, operand, result, parts, exponent, whether parts are added to)"""
        kernel = source(self.problem, self.tile, self.engine)["multiply"]
        shared, arguments = self.tile.shared(self.engine), self.arguments()
        kernel.allow_shared(shared)
        return lambda *arrays: kernel(self.blocks, self.tile.threads, *arrays, arguments, shared=shared)

    def cuts(self, fewest: int = 1) -> Iterator[Self]:
        """As few parts as may be; more, whose blocks fill every multiprocessor a whole number of times."""
        yield replace(self, parts=fewest)
        at_once = MULTIPROCESSORS * self.tile.resident
        for parts in sorted({fill * at_once // self.tiles for fill in range(1, MOST_ROUNDS + 1)}):
            if fewest < parts and ceil(self.steps, parts) >= FEWEST_STEPS:
                yield replace(self, parts=ceil(self.steps, ceil(self.steps, parts)))


# ---- what the copy engine can do ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Positions along an axis of an image: low + i * step, i < count; taps reach so much further."""

    low: int
    step: int
    count: int
    size: int
    reach: int

    @property
    def high(self) -> int:
        """The last position, counted from the last pixel."""
        return self.low + (self.count - 1) * self.step - (self.size - 1)

    @property
    def allowed(self) -> bool:
        near = all(-128 <= corner <= 127 for corner in (self.low, self.high))
        return near and self.step <= 8 and self.reach <= 255


def pixels_map(
    problem: Problem, address: int, depth: int, images: int, spans: Sequence[Span], rows: int
) -> Map:
    """Of images with `depth` numbers a pixel; spans of rows and of columns."""
    lines, cols = spans
    pixel, line = 2 * depth, 2 * depth * cols.size
    low, high, step = (tuple(getattr(one, of) for one in (cols, lines)) for of in ("low", "high", "step"))
    sizes, strides = (depth, cols.size, lines.size, images), (pixel, line, line * lines.size)
    return Map(address, is_bfloat(problem), sizes, strides, rows, low, high, step)


def is_bfloat(problem: Problem) -> bool:
    return problem.precision is Precision.BF16
