"""What `lines` and `taps` have in common: few channels on Hopper in one pass, a block for each band of rows.

The rows of x that a band meets lie in shared memory, as halves; see cuda_implicit_rows.cuh.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from convbench.api import Layout, Plan, Precision, Problem, Variant

from .cuda_implicit_choice import best, good
from .cuda_implicit_operands import ceil, copies
from .cuda_implicit_products import details
from .gpu import by_value

PIXELS, AHEAD = 128, 3  # of a tile; rows that are loaded ahead
MEMORY, ALIGNMENT, STATIC = 227 << 10, 1024, 64  # bytes of shared memory
MOST_CHANNELS = 8
FULLEST = 0.5  # of a tile's pixels, at least


class Axis(ctypes.Structure):
    """As in cuda_implicit_rows.cuh."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "taps", "pad", "stride", "dilation")]


class Shape(ctypes.Structure):
    """As in cuda_implicit_lines.cu and cuda_implicit_taps.cu, where `own` has names."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("filters", "channels", "units", "bands", "height", "tiles")),
        ("own", ctypes.c_int * 2),
        *((name, ctypes.c_int) for name in ("ring", "width", "flip")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class Banded(ABC):
    """One variant: `m` filters of a block, `bands` of an image."""

    problem: Problem
    m: int
    bands: int = 1

    most_grid: ClassVar[int]  # blocks, at most, that cutting into bands may make

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def tile(self) -> str:
        """Filters and pixels, or taps, of a block."""

    @property
    @abstractmethod
    def own(self) -> tuple[int, int]:
        """What the kernel wants to know besides."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Of the rows in shared memory, with what pads them."""

    @property
    @abstractmethod
    def workspace(self) -> int: ...

    @property
    @abstractmethod
    def shared(self) -> int: ...

    @property
    @abstractmethod
    def grid(self) -> int: ...

    @property
    @abstractmethod
    def cycles(self) -> float: ...

    @abstractmethod
    def plan(self) -> Plan: ...

    @property
    def copies(self) -> int:
        return copies(self.problem.precision)

    @property
    def units(self) -> int:
        return ceil(self.problem.k, self.m)

    @property
    def height(self) -> int:
        return ceil(self.problem.p, self.bands)

    @property
    def tiles(self) -> int:
        """Of a row of y."""
        return ceil(self.problem.q, PIXELS)

    @property
    def ring(self) -> int:
        """Rows of x in shared memory."""
        p = self.problem
        return (p.r - 1) * p.dilation[0] + 1 + AHEAD * p.stride[0]

    @property
    def fits(self) -> bool:
        return self.shared + STATIC <= MEMORY

    def cut(self) -> Self:
        """Into as many bands as fill the GPU best."""
        most = max(1, min(self.problem.p, self.most_grid // self.grid))
        return best(replace(self, bands=bands) for bands in range(1, most + 1))

    def variant(self) -> Variant:
        return Variant(self.name, self.workspace, details=details(self.problem, self.tile))

    def arguments(self) -> Any:
        p = self.problem
        axes = (
            Axis(p.image[i], p.output[i], p.taps[i], p.pad[i][0], p.stride[i], p.dilation[i]) for i in (0, 1)
        )
        return by_value(Shape(
            p.k, p.c, self.units, ceil(p.p, self.height), self.height, self.tiles,
            self.own, self.ring, self.width, int(p.flip), *axes,
        ))  # fmt: skip


def serves(problem: Problem) -> bool:
    """Whether x is stored as the kernels read it and has few channels."""
    stored = problem.layout is Layout.NCHW and problem.precision in (Precision.FP32, Precision.TF32)
    return stored and problem.c <= MOST_CHANNELS and problem.groups == 1


Form = TypeVar("Form", bound=Banded)


def worth_it(possible: Iterable[Form]) -> dict[str, Form]:
    """The best, each cut into bands, and others that are nearly as good."""
    return {one.name: one for one in good(one.cut() for one in possible)}
