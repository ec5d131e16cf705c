"""im2col and col2im: the lowered matrix of a convolution, whole or in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from convbench.api import Direction, Problem

from .cpu import Block, Floats, channels_first, compute_dtype, converts

CACHE_ELEMENTS = 1 << 18  # a lowered chunk of 1 MiB stays in the L2 cache


@dataclass(frozen=True)
class Chunk:
    """A part of the output lowered at once: some images, or some rows of one."""

    images: int
    rows: int


def chunks(problem: Problem) -> dict[str, Chunk]:
    """From a few rows to the whole batch; where lowering is the identity there is nothing to chunk."""
    if needs_no_lowering(problem):
        return {"gemm": Chunk(1, problem.p)}
    row = problem.c * problem.r * problem.s * problem.q
    rows = max(1, min(problem.p, CACHE_ELEMENTS // row))
    found = {f"rows{rows}": Chunk(1, rows)} if rows < problem.p else {}
    images = 1
    while images < problem.n:
        found[f"chunk{images}"] = Chunk(images, problem.p)
        images *= 4
    return found | {f"chunk{problem.n}": Chunk(problem.n, problem.p)}


def needs_no_lowering(problem: Problem) -> bool:
    """A plain 1x1 convolution is a matrix product as it stands."""
    plain = problem.taps == problem.stride == (1, 1) and problem.pad == ((0, 0), (0, 0))
    return plain and not converts(problem)


class Lowering:
    """Sizes, blocks and the lowering itself for one chunk size."""

    def __init__(self, problem: Problem, chunk: Chunk) -> None:
        self.problem, self.chunk = problem, chunk
        self.identity = needs_no_lowering(problem)
        self.merged = chunk.images > 1
        self.hits = [_hits(problem, axis) for axis in (0, 1)]
        self.channels, self.filters = problem.c // problem.groups, problem.k // problem.groups
        self.length = self.channels * problem.r * problem.s

    def blocks(self) -> dict[str, Block]:
        p, dtype, chunk = self.problem, compute_dtype(self.problem.precision), self.chunk
        pixels = chunk.images * chunk.rows * p.q
        blocks: dict[str, Block] = {}
        if not self.identity:
            blocks["cols"] = ((p.groups * self.length * pixels,), dtype)
        if self.copies_output:
            blocks["y"] = ((p.k * pixels,), dtype)
        if self.packs_filters:
            blocks["w"] = ((p.k * self.length,), dtype)
        if p.direction is Direction.BWD_FILTER:
            blocks["product"] = ((p.k * self.length,), dtype)
        if p.direction is Direction.BWD_DATA and converts(p):
            blocks["dx"] = ((p.c * chunk.images * p.h * p.w,), dtype)
        return blocks

    @property
    def copies_output(self) -> bool:
        """Whether y (or dy) has to go through a block: to widen it, or to put several images side by side."""
        return converts(self.problem) or (self.merged and channels_first(self.problem))

    @property
    def packs_filters(self) -> bool:
        """Whether w cannot be used in place; sums of dw are always kept in a block."""
        return converts(self.problem) or self.problem.flip or self.problem.direction is Direction.BWD_FILTER

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Images and output rows of each chunk."""
        for n in range(0, self.problem.n, self.chunk.images):
            for row in range(0, self.problem.p, self.chunk.rows):
                rows = slice(row, min(row + self.chunk.rows, self.problem.p))
                yield slice(n, min(n + self.chunk.images, self.problem.n)), rows

    def columns(self, block: Floats, images: int, rows: int) -> Floats:
        """The lowered block as (G, C/G, R, S, N, P, Q), in the memory order of the layout."""
        p = self.problem
        size = p.groups * self.length * images * rows * p.q
        part = block[:size]
        if channels_first(p):
            return part.reshape(p.groups, self.channels, p.r, p.s, images, rows, p.q)
        view = part.reshape(images, rows, p.q, p.groups, p.r, p.s, self.channels)
        return view.transpose(3, 6, 4, 5, 0, 1, 2)

    def matrix(self, columns: Floats) -> Floats:
        """(G, C/G, R, S, N, P, Q) as (G, reduction, pixels); the reduction runs as filters lie in memory."""
        p, pixels = self.problem, columns.shape[4] * columns.shape[5] * columns.shape[6]
        if channels_first(p):
            return columns.reshape(p.groups, self.length, pixels)
        rows = columns.transpose(4, 5, 6, 0, 2, 3, 1).reshape(pixels, p.groups, self.length)
        return rows.transpose(1, 2, 0)

    def shift(self, tap: tuple[int, int], rows: slice) -> tuple[slice, slice, slice, slice]:
        """Of one tap: output rows (counted in the chunk) and columns reached, image rows and columns read."""
        p = self.problem
        (p0, p1), (q0, q1) = self.hits[0][tap[0]], self.hits[1][tap[1]]
        p0, p1 = max(p0, rows.start), max(p0, rows.start, min(p1, rows.stop))
        h, w = (tap[i] * p.dilation[i] - p.pad[i][0] for i in (0, 1))
        return (
            slice(p0 - rows.start, p1 - rows.start),
            slice(q0, q1),
            slice(p0 * p.stride[0] + h, p1 * p.stride[0] + h, p.stride[0]) if p1 > p0 else slice(0, 0),
            slice(q0 * p.stride[1] + w, q1 * p.stride[1] + w, p.stride[1]) if q1 > q0 else slice(0, 0),
        )

    def lower(self, columns: Floats, x: Floats, rows: slice) -> None:
        """im2col: x is (N, G, C/G, H, W)."""
        image = x.transpose(1, 2, 0, 3, 4)
        for r in range(self.problem.r):
            for s in range(self.problem.s):
                i, j, h, w = self.shift((r, s), rows)
                column = columns[:, :, r, s]
                column[..., : i.start, :] = 0
                column[..., i.stop :, :] = 0
                column[..., i, : j.start] = 0
                column[..., i, j.stop :] = 0
                column[..., i, j] = image[..., h, w]

    def raise_(self, dx: Floats, columns: Floats, rows: slice) -> None:
        """col2im: add every column back to the pixels it was taken from."""
        image = dx.transpose(1, 2, 0, 3, 4)
        for r in range(self.problem.r):
            for s in range(self.problem.s):
                i, j, h, w = self.shift((r, s), rows)
                image[..., h, w] += columns[:, :, r, s][..., i, j]


def _hits(problem: Problem, axis: int) -> list[tuple[int, int]]:
    """For each tap, the outputs [first, stop) for which it falls inside the image."""
    before, u, size = problem.pad[axis][0], problem.stride[axis], problem.image[axis]
    found = []
    for tap in range(problem.taps[axis]):
        shift = tap * problem.dilation[axis] - before
        first = min(max(0, -(shift // u)), problem.output[axis])
        stop = max(first, min(problem.output[axis], -((shift - size) // u)))
        found.append((first, stop))
    return found
