"""What every kernel of direct convolution is told about a problem, and how large a problem may be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

from convbench.api import Layout, Precision, Problem

from .gpu import C_TYPES, Source

__all__ = [
    "ALONE", "DEPTH", "MULTIPROCESSORS", "THREADS", "Axis", "Launch", "Shape", "Tile", "defines", "nhwc",
    "rounds", "shape_of", "tile_threads", "too_large",
]  # fmt: skip

THREADS, DEPTH = 256, 8  # as in cuda_direct.cuh
MULTIPROCESSORS = 132  # of an H200; on another card the choices made with it are less good, not wrong
ALONE = 0.85  # one block takes 2 ** 0.85 times as long on a multiprocessor as its share of two does
INDEX = 2**31


class Axis(ctypes.Structure):
    """As in cuda_direct.cuh."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "taps", "pad", "stride", "dilation", "coarse")]


class Shape(ctypes.Structure):
    """As in cuda_direct.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("n", "groups", "c", "k", "flip")),
        ("rows", Axis),
        ("cols", Axis),
        *((name, ctypes.c_int) for name in ("row_tiles", "pixel_tiles", "images", "run")),
        *((name, ctypes.c_int) for name in ("packed", "wide_out")),
        *((name, ctypes.c_int) for name in ("filter", "term_step", "row_step", "fours", "cells", "cuts")),
        ("cut", ctypes.c_longlong),
    ]


def shape_of(problem: Problem, **launch: int) -> Shape:
    """The problem with what a launch adds to it."""
    p = problem
    axes = {name: axis_of(p, i) for i, name in enumerate(("rows", "cols"))}
    sizes = {"n": p.n, "groups": p.groups, "c": p.c // p.groups, "k": p.k // p.groups, "flip": int(p.flip)}
    return Shape(**sizes, **axes, filter=p.r * p.s, **launch)


def axis_of(problem: Problem, axis: int) -> Axis:
    u, d = problem.stride[axis], problem.dilation[axis]
    x, y, taps, (pad, _) = problem.image[axis], problem.output[axis], problem.taps[axis], problem.pad[axis]
    return Axis(x, y, taps, pad, u, d, u // gcd(u, d))


def too_large(problem: Problem) -> str | None:
    """Offsets within one image and within the filters are 32 bits wide; tensors may be larger."""
    p = problem
    height, width = (size + sum(pad) + out for size, pad, out in zip(p.image, p.pad, p.output, strict=True))
    if (max(p.c, p.k) + 8 * p.groups) * height * width >= INDEX:
        return "one image with its padding has more than 2^31 elements: offsets within it are 32 bits wide"
    if p.k * (p.c // p.groups + 8) * p.r * p.s >= INDEX:
        return "the filters have more than 2^31 elements: offsets within them are 32 bits wide"
    return None


def nhwc(problem: Problem) -> bool:
    return problem.layout is Layout.NHWC


def tile_threads(problem: Problem) -> int:
    """Threads of a block that computes a tile."""
    return THREADS if problem.precision is Precision.FP64 else THREADS // 2


def defines(precision: Precision, layout: Layout) -> tuple[tuple[str, str | int], ...]:
    """The macros of every kernel here."""
    return ("ELEMENT", C_TYPES[precision]), ("NHWC", int(layout is Layout.NHWC))


@dataclass(frozen=True)
class Launch:
    """One kernel of a plan with all its arguments but the arrays."""

    source: Source
    function: str
    blocks: int
    arguments: tuple[Any, ...]
    shared: int = 0
    threads: int = THREADS

    def load(self) -> Callable[..., None]:
        """The kernel made resident; to be called with the arrays, which come first."""
        kernel = self.source[self.function]
        kernel.allow_shared(self.shared)
        return lambda *arrays: kernel(self.blocks, self.threads, *arrays, *self.arguments, shared=self.shared)


@dataclass(frozen=True)
class Tile:
    """M filters (channels) times N pixels (columns) of a block; `rate` is relative to the best.

    A multiprocessor holds `resident` blocks.
    """

    m: int
    n: int
    rate: float
    resident: int = 2

    @property
    def size(self) -> str:
        return f"{self.m}x{self.n}"

    def cycles(self, blocks: int) -> float:
        """Clock cycles that a step of all blocks takes at 128 products a cycle; few blocks at once idle."""
        return rounds(blocks, self.resident) * self.m * self.n * DEPTH / 128 / self.rate


def rounds(blocks: int, resident: int) -> float:
    """Blocks that a multiprocessor computes one after the other, `resident` of them sharing it."""
    whole = -(-blocks // MULTIPROCESSORS)
    rest = whole % resident
    return whole + (rest * ((resident / rest) ** ALONE - 1) if rest else 0)
