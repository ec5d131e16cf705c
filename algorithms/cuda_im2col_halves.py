"""im2col in halves: fp32 products as three fp16 products on tensor cores, at fp32's accuracy.

A number, scaled by a power of two, is the sum of two fp16 numbers, high and low. Columns of both are as large
as columns of fp32. x w becomes high low + low high, one product over (low, high) times (high, low), and then
high high, whose sums are cut into steps: tensor cores lose digits of long sums, and cuBLAS adds step to step
in fp32. Where results are too few to fill the GPU the reduction is shared out to parts.

Scales have one exponent for every channel c that is summed over: those of x and w add up to the same number
for all channels, so that the largest product of scaled numbers is below 2^30 and both factors of a channel
are equally large. What high and low leave of a number is 2^-22 of it, or 2^-25 (half of fp16's smallest
step). A channel whose products are 2^-d of the largest is scaled to 2^(14 - d / 2), so a number is known to
2^-24 of its channel's largest up to d = 26, beyond which the channel does not count in fp32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import ceil, prod

from convbench.api import Direction, Precision, Problem, Variant

from . import gpu_blas
from .cuda_im2col_lowering import LARGEST, Chunk, aligned
from .cuda_im2col_products import TILE, Operand, Product, batches, shifted

LONGEST_SUM = 640  # terms that a step of high high sums; twice as many come near the bar of class S
MOST_TAPS = 1024  # of a filter, which a step cannot cut
ENOUGH_TILES = 132  # of results, to fill a GPU
UNIT = 8  # filters, and channels of NHWC images, come in so many where accesses of 16 bytes want them
FEW_CHANNELS = 32
MOST_GROUPS = 65535  # blocks along an axis of a grid


class PartsStruct(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int) for name in ("groups", "depth", "parts", "each"))


class OrderStruct(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_longlong) for name in ("outer", "part", "step_outer", "step_middle")),
        *((name, ctypes.c_int) for name in ("middle", "inner", "parts")),
    )


def serves(problem: Problem) -> bool:
    """Whether products in halves are offered."""
    if problem.precision is not Precision.FP32 or problem.direction is not Direction.FWD:
        return False
    widest = 4 * (problem.c + 2 * UNIT * problem.groups) * prod(problem.taps) * 2
    return prod(problem.taps) <= MOST_TAPS and problem.groups <= MOST_GROUPS and widest <= LARGEST


@dataclass(frozen=True)
class Halves:
    """A chunk of images in halves, cut as its own results want it or as those of `like`."""

    chunk: Chunk
    like: Chunk | None = None

    @property
    def problem(self) -> Problem:
        return self.chunk.problem

    @property
    def depth(self) -> int:
        """Channels of a group."""
        return self.problem.c // self.problem.groups

    @property
    def outputs(self) -> int:
        return self.problem.k // self.problem.groups

    @cached_property
    def cut(self) -> tuple[int, int, int]:
        """Parts that are summed apart, steps of a part, channels of a step."""
        chunk = self.like or self.chunk
        least = ceil(self.depth / max(1, LONGEST_SUM // prod(self.problem.taps)))
        tiles = ceil(self.outputs / TILE) * ceil(chunk.pixels / TILE) * self.problem.groups
        parts = 1 if not chunk.merged else min(least, ceil(ENOUGH_TILES / tiles))
        steps = ceil(least / parts)
        each = ceil(self.depth / (parts * steps))
        if not self.chunk.planes and self.depth >= FEW_CHANNELS:
            each = ceil(each / UNIT) * UNIT
        return parts, steps, each

    @property
    def pieces(self) -> int:
        """Parts times steps, of each group."""
        return self.cut[0] * self.cut[1]

    @cached_property
    def length(self) -> int:
        """Terms of a step."""
        return self.cut[2] * prod(self.problem.taps)

    @cached_property
    def lowered(self) -> Chunk:
        """The images that are lowered: every copy of a piece is a group of their channels."""
        copies = 2 * self.problem.groups * self.pieces
        stored = replace(
            self.problem, c=copies * self.cut[2], k=copies, groups=copies, precision=Precision.FP16
        )
        return replace(self.chunk, problem=stored)

    @property
    def pitch(self) -> int:
        """From one term of the filters to the next."""
        return ceil(self.outputs / UNIT) * UNIT

    @property
    def sums_apart(self) -> bool:
        """Whether products are summed in the workspace."""
        return self.chunk.copies_y or self.cut[0] > 1

    @property
    def part(self) -> int:
        """Results of a part."""
        return self.problem.k * (self.chunk.pitch if self.chunk.copies_y else self.chunk.pixels)

    @cached_property
    def blocks(self) -> dict[str, int]:
        """Bytes of each part of the workspace."""
        p, images = self.problem, self.lowered.images * prod(self.lowered.problem.image)
        found = {
            "x": 2 * images * self.lowered.problem.c,
            "w": 2 * 2 * p.groups * self.pieces * self.length * self.pitch,
        }
        if self.lowered.lowers:
            found["columns"] = self.lowered.blocks()["columns"]
        if self.sums_apart:
            found["sums"] = self.cut[0] * self.part * 4
        return found | {"x_scales": 4 * p.c, "w_scales": 4 * p.c, "scale": 4}

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each block begins; what has to be cleared lies together."""
        starts = accumulate((aligned(size) for size in self.blocks.values()), initial=0)
        return dict(zip(self.blocks, starts, strict=False))

    @property
    def workspace(self) -> int:
        return sum(aligned(size) for size in self.blocks.values())

    def variant(self, name: str) -> Variant:
        details = {
            "images": self.chunk.images,
            "flops": 3 * self.problem.flops,
            "deterministic": True,
            "math": "3xfp16",
            "arithmetic": "fp16",
        }
        return Variant(name, self.workspace, gpu_blas.LARGE_LIBRARY_BYTES, details=details)

    # ---- products ------------------------------------------------------------------------------------------

    def products(self) -> Iterator[Product]:
        """high low + low high, then high high step by step."""
        steps = self.cut[1]
        yield from self._all(2 * steps * self.length, 0.0)
        for step in range(steps):
            at = {"w": 2 * step * self.length * self.pitch, "columns": (2 * step + 1) * self._steps}
            bytes_at = {name: 2 * offset for name, offset in at.items()}
            yield from (shifted(product, bytes_at) for product in self._all(self.length, 1.0))

    @property
    def _steps(self) -> int:
        """From one step of the columns to the next."""
        return self.length * (self.lowered.columns.leading if self.chunk.planes else 1)

    def _all(self, terms: int, beta: float) -> Iterator[Product]:
        p, chunk, parts = self.problem, self.chunk, self.cut[0]
        piece = 2 * self.length
        w = Operand("w", self.pitch, self._strides(piece * self.pitch), 2, transposed=chunk.planes)
        columns = self.lowered.columns
        lowered = {**self._strides(2 * self._steps), "matrix": columns.matrix}
        x = Operand("columns", columns.leading, lowered, 2)
        result = {"group": chunk.y.group, "matrix": chunk.y.matrix, "part": self.part}
        sums = Operand("sums" if self.sums_apart else "y", chunk.y.leading, result, 4)
        sizes = {"group": p.groups, "matrix": chunk.matrices, "part": parts}
        if chunk.planes:
            shape, first, second = (self.outputs, chunk.pixels, terms), w, x
        else:
            shape, first, second = (chunk.pixels, self.outputs, terms), x, w
        yield from batches(self.lowered, sizes, shape, first, second, sums, beta)

    def _strides(self, piece: int) -> dict[str, int]:
        return {"group": self.pieces * piece, "matrix": 0, "part": self.cut[1] * piece}

    # ---- arguments of kernels ------------------------------------------------------------------------------

    @property
    def parts_struct(self) -> PartsStruct:
        return PartsStruct(self.problem.groups, self.depth, self.pieces, self.cut[2])

    @property
    def order(self) -> OrderStruct:
        """How y lies in what is summed."""
        p, chunk, parts = self.problem, self.chunk, self.cut[0]
        if chunk.copies_y:
            return OrderStruct(chunk.images, self.part, chunk.plane, chunk.pitch, p.k, chunk.plane, parts)
        inner = chunk.plane * p.k if chunk.planes else p.k
        rows = chunk.images if chunk.planes else chunk.pixels
        return OrderStruct(rows, self.part, inner, inner, 1, inner, parts)
