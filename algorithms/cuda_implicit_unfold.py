"""Gradients of x with few channels: taps become channels of the product, so that rows of tiles are full.

Before anything is summed over the taps of a row, dx with C channels is an image of S C channels with a column
for each of dy's, under R x 1 taps. Every I-th tap of a column can be treated in the same way: what is left is
a product with I S C channels under R / I taps and, where I is a multiple of the stride, without phases. Then
every pixel of dx adds up its I S numbers, always in the same order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, inf

from convbench.api import Direction, Layout, Precision, Problem

from .cuda_implicit_fold import strides
from .cuda_implicit_gather import Gather
from .cuda_implicit_operands import THREADS, Filters, Launch, ceil
from .cuda_implicit_products import Product
from .cuda_implicit_tiles import Engine, tiles
from .gpu import C_TYPES, Source, by_value

SIDE = 32  # as in cuda_implicit_unfold.cu
MOST_CHANNELS = 64  # of x in a group: with more no tile has idle rows
MOST_OUTPUTS = 512  # of the product: each is written and read again
CLEARLY = 0.8  # of the cycles


def source(precision: Precision) -> Source:
    macros = (("ELEMENT", C_TYPES[precision]),)
    return Source("cuda_implicit_unfold.cu", ("unfold_filters", "unfold"), macros)


def sources() -> Iterator[Source]:
    yield from (source(precision) for precision in (Precision.FP32, Precision.FP16, Precision.BF16))


# ---- the product's problem ---------------------------------------------------------------------------------


def every(problem: Problem, axis: int) -> int:
    """From a tap that meets a pixel of x to the next that does."""
    u, d = problem.stride[axis], problem.dilation[axis]
    return u // gcd(u, d)


@dataclass(frozen=True)
class Unfolding:
    """`rows` taps of a column and all of a row become channels."""

    problem: Problem
    rows: int

    @property
    def kept(self) -> int:
        return min(self.rows, self.problem.r)

    @property
    def taps(self) -> int:
        """Of a column, that are left."""
        return ceil(self.problem.r, self.rows)

    @property
    def dilation(self) -> int:
        return self.problem.dilation[0] * self.rows // self.problem.stride[0]

    @property
    def span(self) -> tuple[int, int]:
        """Rows of the product's image that are met: the first, and how many."""
        p, low, u = self.problem, self.problem.pad[0][0], self.problem.stride[0]
        first = max(0, ceil(low - p.dilation[0] * (self.kept - 1), u))
        last = min(p.p - 1 + self.dilation * (self.taps - 1), (p.h - 1 + low) // u)
        return first, last - first + 1

    @property
    def inner(self) -> Problem:
        """The gradient that gives the channels; its result lies as NCHW in any case."""
        p, (first, height) = self.problem, self.span
        high = p.p + self.dilation * (self.taps - 1) - height - first
        return p.with_(
            c=p.c * self.kept * p.s, h=height, w=p.q, r=self.taps, s=1, pad=((first, high), (0, 0)),
            stride=(1, 1), dilation=(self.dilation, 1), layout=Layout.NCHW, flip=False,
        )  # fmt: skip


def unfoldings(problem: Problem) -> list[Unfolding]:
    """Those that could pay, if any."""
    p = problem
    width = p.c // p.groups
    if p.direction is not Direction.BWD_DATA or width >= MOST_CHANNELS or p.r * p.s == 1:
        return []
    step = every(p, 0)
    found = [Unfolding(p, rows) for rows in range(step, p.r + step, step)]
    few = [one for one in found if one.rows == step or one.kept * p.s * width <= MOST_OUTPUTS]
    return [one for one in few if one.span[1] > 0]


# ---- the product -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unfolded(Gather):
    """A product whose results are added up into dx; `problem` is the inner one."""

    unfolding: Unfolding | None = None

    @property
    def name(self) -> str:
        assert self.unfolding
        rows = self.unfolding.rows if self.unfolding.rows > every(self.unfolding.problem, 0) else ""
        return f"unfold{rows}-{super().name}"

    @property
    def partly(self) -> bool:
        return True


def products(problem: Problem, images: int, wgmma: bool) -> list[Unfolded]:
    found = []
    for unfolding in unfoldings(problem):
        inner = unfolding.inner
        sample = Engine(wgmma, wgmma)
        bulk = wgmma and Gather(inner, images, tiles(problem, sample)[0], sample).suits_bulk()
        engine = Engine(wgmma, bulk)
        found += [Unfolded(inner, images, tile, engine, 1, unfolding) for tile in tiles(problem, engine)]
    return found


def instead(plain: Sequence[Product], unfolded: Sequence[Product]) -> list[Product]:
    """What is left of both: where the unfolded clearly win, no others."""
    best, other = (min((one.cycles for one in all_), default=inf) for all_ in (plain, unfolded))
    return [*unfolded] if other < CLEARLY * best else [*plain, *unfolded]


# ---- before and after it -----------------------------------------------------------------------------------


class FiltersStruct(ctypes.Structure):
    """struct Filters of cuda_implicit_unfold.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("groups", "outputs", "depth", "chunks", "channels")),
        *((name, ctypes.c_int) for name in ("kept", "height", "width", "taps")),
        *((name, ctypes.c_longlong) for name in ("k_step", "c_step", "row_step", "col_step", "first", "low")),
    ]


class Axis(ctypes.Structure):
    """As in cuda_implicit_unfold.cu."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("size", "count", "taps", "pad")),
        *((name, ctypes.c_int) for name in ("stride", "dilation", "every", "first")),
    ]


class UnfoldStruct(ctypes.Structure):
    """struct Unfold of cuda_implicit_unfold.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("channels", "groups", "parts")),
        *((name, ctypes.c_longlong) for name in ("results", "image", "channel", "row", "pixel")),
        ("rows", Axis),
        ("cols", Axis),
    ]


@dataclass(frozen=True)
class UnfoldedFilters(Filters):
    """w as [group][(i S + s) C + c][t][k], with its taps at (t I + i, s)."""

    rows: int = 1

    @property
    def inner(self) -> Filters:
        return Filters(Unfolding(self.problem, self.rows).inner)

    @property
    def copy(self) -> int:
        return self.inner.copy

    def convert(self) -> Launch:
        """Where filters are flipped, taps are taken from the last to the first."""
        p, unfolding, inner = self.problem, Unfolding(self.problem, self.rows), self.inner
        k, row, col, c = strides(p, p.w_shape)
        turn, first = (-1, (p.r - 1) * row + (p.s - 1) * col) if p.flip else (1, 0)
        struct = FiltersStruct(
            p.groups, *inner.sides, self.chunks, p.c // p.groups, unfolding.kept, p.r, p.s, unfolding.taps,
            k, c, turn * row, turn * col, first, self.low,
        )  # fmt: skip
        kernel, blocks = source(p.precision)["unfold_filters"], ceil(self.copy, THREADS)
        return lambda *arrays: kernel(blocks, THREADS, *arrays, by_value(struct))


def filters(problem: Problem, product: Unfolded) -> UnfoldedFilters:
    assert product.unfolding
    return UnfoldedFilters(problem, product.engine.bulk, product.unfolding.rows)


def add(problem: Problem, product: Unfolded) -> Launch:
    """(parts, dx, exponent): of the product's images."""
    p, unfolding = problem, product.unfolding
    assert unfolding
    image, row, pixel, channel = strides(p, p.x_shape)
    struct = UnfoldStruct(
        p.c, p.groups, product.parts, product.results, image, channel, row, pixel, *_axes(unfolding)
    )
    kernel = source(p.precision)["unfold"]
    blocks = product.images * p.c * ceil(p.h, SIDE) * ceil(p.w, SIDE)
    return lambda *arrays: kernel(blocks, THREADS, *arrays, by_value(struct))


def _axes(unfolding: Unfolding) -> Sequence[Axis]:
    p, (first, count) = unfolding.problem, unfolding.span
    (top, _), (left, _) = p.pad
    return (
        Axis(p.h, count, unfolding.kept, top, p.stride[0], p.dilation[0], every(p, 0), first),
        Axis(p.w, p.q, p.s, left, p.stride[1], p.dilation[1], every(p, 1), 0),
    )
