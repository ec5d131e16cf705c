"""Layers with few channels: the taps of a row become channels, so that chunks of eight are full.

A convolution with R x S taps of C channels is one with R x 1 taps of S C channels, over images whose columns
are those of the result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convbench.api import Direction, Layout, Precision, Problem

from .cuda_implicit_operands import CHUNK, THREADS, Filters, Images, Launch, ceil
from .gpu import C_TYPES, Source, by_value


def worthwhile(problem: Problem) -> bool:
    """Whether this fills chunks that would be half empty: forward, one group, fewer than eight channels."""
    p = problem
    folded = ceil(p.c * p.s, CHUNK) < p.s * ceil(p.c, CHUNK)
    return p.direction is Direction.FWD and p.groups == 1 and p.c < CHUNK and folded


def folded(problem: Problem) -> Problem:
    """The convolution with R x 1 taps that gives the same result."""
    p = problem
    return p.with_(
        c=p.c * p.s, w=p.q, s=1, pad=(p.pad[0], (0, 0)), stride=(p.stride[0], 1), dilation=(p.dilation[0], 1)
    )


def source(precision: Precision) -> Source:
    return Source("cuda_implicit_fold.cu", ("fold",), (("ELEMENT", C_TYPES[precision]),))


def sources() -> Iterator[Source]:
    yield from (source(precision) for precision in (Precision.FP32, Precision.FP16, Precision.BF16))


class Fold(ctypes.Structure):
    """As in cuda_implicit_fold.cu."""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("outer", "row", "col", "channel")),
        *((name, ctypes.c_int) for name in ("outers", "rows", "cols", "channels", "taps", "chunks")),
        *((name, ctypes.c_int) for name in ("step", "dilation", "pad", "size")),
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
    """x with a column for each of the result's."""

    @property
    def plane(self) -> int:
        return self.problem.h * self.problem.q

    @property
    def depth(self) -> int:
        return self.problem.c * self.problem.s

    @property
    def ready(self) -> bool:
        return False

    def convert(self) -> Launch:
        p = self.problem
        fold = Fold(
            *strides(p, p.x_shape), self.images, p.h, p.q, p.c, p.s, self.chunks,
            p.stride[1], p.dilation[1], p.pad[1][0], p.w, self.low,
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
        return ceil(self.problem.c * self.problem.s, CHUNK)

    @property
    def copy(self) -> int:
        return self.problem.k * self.problem.r * self.chunks

    def convert(self) -> Launch:
        """Where filters are flipped, columns are taken from the last to the first."""
        p = self.problem
        turn, last = (-1, -(p.s - 1)) if p.flip else (1, 0)
        fold = Fold(*strides(p, p.w_shape), p.k, p.r, 1, p.c, p.s, self.chunks, 1, turn, last, p.s, self.low)
        return _launch(p, fold, self.copy)


def _launch(problem: Problem, fold: Fold, chunks: int) -> Launch:
    kernel, struct = source(problem.precision)["fold"], by_value(fold)
    return lambda *arrays: kernel(ceil(chunks, THREADS), THREADS, *arrays, struct)
