"""Layers with few channels: the taps of a row become channels, so that chunks of eight are full.

A convolution with R x S taps of C channels is one with R x 1 taps of S C channels, over images whose columns
are those of y. The gradient of its filters is that of the others, in the order [k][r][s][c].
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Layout, Precision, Problem

from .cuda_implicit_filter import Filter
from .cuda_implicit_gather import Gather
from .cuda_implicit_operands import CHUNK, THREADS, Filters, Images, Launch, ceil, copies
from .cuda_implicit_products import Product
from .cuda_implicit_tiles import Engine, tiles
from .gpu import C_TYPES, Source, by_value


def worthwhile(problem: Problem) -> bool:
    """Whether this fills chunks of x that would be half empty: one group, fewer than eight channels."""
    p = problem
    folded = ceil(p.c * p.s, CHUNK) < p.s * ceil(p.c, CHUNK)
    return p.direction is not Direction.BWD_DATA and p.groups == 1 and p.c < CHUNK and folded


def folded(problem: Problem, bulk: bool = False) -> Problem:
    """The convolution with R x 1 taps that gives the same result; a gradient lies as NHWC in any case.

    For the copy engine channels are padded to whole steps.
    """
    p, step = problem, 64 // copies(problem.precision) if bulk else 1
    layout = Layout.NHWC if p.direction is Direction.BWD_FILTER else p.layout
    return p.with_(
        c=ceil(p.c * p.s, step) * step, w=p.q, s=1, layout=layout,
        pad=(p.pad[0], (0, 0)), stride=(p.stride[0], 1), dilation=(p.dilation[0], 1),
    )  # fmt: skip


def source(precision: Precision) -> Source:
    return Source("cuda_implicit_fold.cu", ("fold", "add_folded"), (("ELEMENT", C_TYPES[precision]),))


def sources() -> Iterator[Source]:
    yield from (source(precision) for precision in (Precision.FP32, Precision.FP16, Precision.BF16))


class Fold(ctypes.Structure):
    """As in cuda_implicit_fold.cu."""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("outer", "row", "col", "channel")),
        *((name, ctypes.c_int) for name in ("outers", "rows", "cols", "channels", "taps", "chunks")),
        *((name, ctypes.c_int) for name in ("step", "dilation", "pad", "size", "by_image")),
        ("low", ctypes.c_longlong),
    ]


def strides(problem: Problem, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Elements from one image (or filter), row, column and channel to the next."""
    _, *inner = shape
    if problem.layout is Layout.NHWC:
        _, cols, channels = inner
        return prod(inner), cols * channels, channels, 1
    _, rows, cols = inner
    return prod(inner), cols, 1, rows * cols


@dataclass(frozen=True)
class FoldedImages(Images):
    """x with a column for each of y's."""

    @property
    def plane(self) -> int:
        return self.problem.h * self.problem.q

    @property
    def chunks(self) -> int:
        return ceil(folded(self.problem, self.bulk).c, CHUNK)

    @property
    def ready(self) -> bool:
        return False

    def convert(self) -> Launch:
        """Where gradients of filters are flipped, columns are taken from the last to the first."""
        p, dilation, pad = self.problem, self.problem.dilation[1], self.problem.pad[1][0]
        if p.flip and self.by_image:
            dilation, pad = -dilation, pad - (p.s - 1) * dilation
        fold = Fold(
            *strides(p, p.x_shape), self.images, p.h, p.q, p.c, p.s, self.chunks,
            p.stride[1], dilation, pad, p.w, int(self.by_image), self.low,
        )  # fmt: skip
        return _launch(p, fold, self.copy)

    def maxima(self) -> Launch:
        return Images(self.problem, self.name, self.images).maxima()


@dataclass(frozen=True)
class FoldedFilters(Filters):
    """w as [k][r][s C + c]."""

    @property
    def ready(self) -> bool:
        return False

    @property
    def chunks(self) -> int:
        return ceil(folded(self.problem, self.bulk).c, CHUNK)

    @property
    def copy(self) -> int:
        return self.problem.k * self.problem.r * self.chunks

    def convert(self) -> Launch:
        """Where filters are flipped, columns are taken from the last to the first."""
        p = self.problem
        turn, last = (-1, -(p.s - 1)) if p.flip else (1, 0)
        fold = Fold(
            *strides(p, p.w_shape), p.k, p.r, 1, p.c, p.s, self.chunks, 1, turn, last, p.s, 0, self.low
        )
        return _launch(p, fold, self.copy)


@dataclass(frozen=True)
class FoldedFilter(Filter):
    """The gradient of folded filters: parts of it are brought into order when they are added."""

    @property
    def partly(self) -> bool:
        return True


def products(problem: Problem, images: int, wgmma: bool) -> list[Product]:
    """Forward in both ways to copy, if the copy engine can."""
    kind = FoldedFilter if problem.direction is Direction.BWD_FILTER else Gather
    found: list[Product] = []
    for bulk in (False, True) if wgmma and kind is Gather else (False,):
        inner, engine = folded(problem, bulk), Engine(wgmma, bulk)
        whole = [kind(inner, images, tile, engine) for tile in tiles(problem, engine)]
        found += whole if not bulk or whole[0].suits_bulk() else []
    return found


def add(problem: Problem, product: Product) -> Launch:
    """(parts, dw, exponent or 0)"""
    p, kernel = problem, source(problem.precision)["add_folded"]
    order = [p.c, p.s, p.r, *(strides(p, p.w_shape)[at] for at in (3, 2, 1, 0))]
    blocks = ceil(product.results, THREADS)
    return lambda *arrays: kernel(blocks, THREADS, *arrays, product.results, product.parts, *order)


def _launch(problem: Problem, fold: Fold, chunks: int) -> Launch:
    kernel, struct = source(problem.precision)["fold"], by_value(fold)
    return lambda *arrays: kernel(ceil(chunks, THREADS), THREADS, *arrays, struct)
