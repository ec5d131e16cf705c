"""im2col + GEMM on the CPU: copy every window of the image into a column, then one matrix product.

    y[K, P Q] = w[K, C R S] cols[C R S, P Q]          forward
    cols      = w^T dy,  dx = col2im(cols)            backward-data: columns are summed back into the image
    dw        = dy cols^T                             backward-filter, summed over images

The lowered matrix is R S times the image, so it is built in chunks: some rows of one image, or some images.
Small chunks stay in cache and need little workspace; large ones make larger matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convbench.api import Array, Direction, Plan, Problem, Variant

from .cpu import (
    Block,
    Floats,
    block_bytes,
    carve,
    channels_first,
    compute_dtype,
    converts,
    nchw,
    parallel,
    taps_view,
)

CACHE_ELEMENTS = 1 << 18  # a lowered chunk of 1 MiB stays in the L2 cache


@dataclass(frozen=True)
class Chunk:
    """A part of the output lowered at once: some images, or some rows of one."""

    images: int
    rows: int


@dataclass(frozen=True)
class Im2col:
    """Lowering and GEMM; works for every problem."""

    name: str = "im2col"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        found = []
        for name, chunk in chunks(problem).items():
            details = {
                "images": chunk.images,
                "rows": chunk.rows,
                "flops": problem.flops,
                "deterministic": True,
            }
            found.append(Variant(name, block_bytes(Lowering(problem, chunk).blocks()), details=details))
        return found

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return Im2colPlan(Lowering(problem, chunks(problem)[variant.name]))


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
        """Of one tap: output rows (counted in the chunk) and columns it reaches, image rows and columns it reads."""
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


class Im2colPlan:
    """The three directions over one chunk size."""

    def __init__(self, lowering: Lowering) -> None:
        self.l = lowering
        self.problem = lowering.problem
        self.blocks = lowering.blocks()

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        blocks = carve(workspace, self.blocks)
        match self.problem.direction:
            case Direction.FWD:
                self._forward(a, b, out, blocks)
            case Direction.BWD_DATA:
                self._backward_data(a, b, out, blocks)
            case Direction.BWD_FILTER:
                self._backward_filter(a, b, out, blocks)

    def close(self) -> None:
        pass

    def _grouped(self, tensor: Floats) -> Floats:
        """x or y as (N, G, channels, H, W)."""
        view, g = nchw(tensor, self.problem.layout), self.problem.groups
        return view.reshape(view.shape[0], g, view.shape[1] // g, *view.shape[2:])

    def _filters(self, w: Floats, blocks: dict[str, Floats]) -> Floats:
        """Filters as (G, K/G, reduction), in place where they can be."""
        shape = self.problem.groups, self.l.filters, self.l.length
        if not self.l.packs_filters:
            return w.reshape(shape)
        packed = blocks["w"].reshape(w.shape)
        nchw(packed, self.problem.layout)[...] = taps_view(w, self.problem)
        return packed.reshape(shape)

    def _pixels(self, y: Floats, images: slice, rows: slice) -> Floats:
        """Part of y, (N, G, K/G, P, Q), as (G, K/G, pixels) without a copy: one image, or images in nhwc."""
        part = y[images, :, :, rows]
        pixels = part.shape[0] * part.shape[3] * part.shape[4]
        if channels_first(self.problem):
            first: Floats = part[0]
            return first.reshape(*part.shape[1:3], pixels)
        flat = part.transpose(0, 3, 4, 1, 2).reshape(pixels, *part.shape[1:3])
        return flat.transpose(1, 2, 0)

    def _block(self, block: Floats, part: Floats) -> tuple[Floats, Floats]:
        """A block holding `part` of y, as (G, K/G, pixels) and as (N, G, K/G, P, Q)."""
        images, g, filters, rows, q = part.shape
        view = block[: part.size]
        if channels_first(self.problem):
            whole = view.reshape(g, filters, images, rows, q)
            return whole.reshape(g, filters, -1), whole.transpose(2, 0, 1, 3, 4)
        flat = view.reshape(images * rows * q, g, filters).transpose(1, 2, 0)
        return flat, view.reshape(images, rows, q, g, filters).transpose(0, 3, 4, 1, 2)

    def _lowered(self, x: Floats, images: slice, rows: slice, blocks: dict[str, Floats]) -> Floats:
        """The lowered chunk as (G, reduction, pixels)."""
        if self.l.identity:
            return self._pixels(x, images, rows)
        columns = self.l.columns(blocks["cols"], images.stop - images.start, rows.stop - rows.start)
        part = x[images]
        if self.problem.groups > 1:
            parallel(lambda g: self.l.lower(columns[g], part[:, g], rows), self.problem.groups)
        else:
            parallel(lambda c: self.l.lower(columns[:, c], part[:, :, c], rows), self.l.channels)
        return self.l.matrix(columns)

    def _forward(self, x: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        filters, source, result = self._filters(w, blocks), self._grouped(x), self._grouped(out)
        for images, rows in self.l.parts():
            lowered = self._lowered(source, images, rows, blocks)
            if not self.l.copies_output:
                np.matmul(filters, lowered, out=self._pixels(result, images, rows))
                continue
            target = result[images, :, :, rows]
            product, whole = self._block(blocks["y"], target)
            np.matmul(filters, lowered, out=product)
            target[...] = whole

    def _gradient(self, dy: Floats, images: slice, rows: slice, blocks: dict[str, Floats]) -> Floats:
        """A chunk of dy as (G, K/G, pixels)."""
        if not self.l.copies_output:
            return self._pixels(dy, images, rows)
        part = dy[images, :, :, rows]
        flat, whole = self._block(blocks["y"], part)
        whole[...] = part
        return flat

    def _backward_data(self, dy: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        filters = self._filters(w, blocks).swapaxes(1, 2)
        source, result = self._grouped(dy), self._grouped(out)
        for images, rows in self.l.parts():
            gradient = self._gradient(source, images, rows, blocks)
            if self.l.identity:
                np.matmul(filters, gradient, out=self._pixels(result, images, rows))
                continue
            columns = self.l.columns(blocks["cols"], images.stop - images.start, rows.stop - rows.start)
            np.matmul(filters, gradient, out=self.l.matrix(columns))
            self._raise(columns, result[images], rows, blocks)

    def _raise(self, columns: Floats, result: Floats, rows: slice, blocks: dict[str, Floats]) -> None:
        """Sum columns into the images of this chunk; 16-bit images are summed in a wider block first."""
        sums = self._wide_image(blocks["dx"], result) if "dx" in blocks else result
        if rows.start == 0:
            sums[...] = 0
        if self.problem.groups > 1:
            parallel(lambda g: self.l.raise_(sums[:, g], columns[g], rows), self.problem.groups)
        else:
            parallel(lambda c: self.l.raise_(sums[:, :, c], columns[:, c], rows), self.l.channels)
        if "dx" in blocks and rows.stop == self.problem.p:
            result[...] = sums

    def _wide_image(self, block: Floats, result: Floats) -> Floats:
        n, g, c, h, w = result.shape
        view = block[: result.size]
        if channels_first(self.problem):
            return view.reshape(n, g, c, h, w)
        return view.reshape(n, h, w, g, c).transpose(0, 3, 4, 1, 2)

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        source, gradients = self._grouped(x), self._grouped(dy)
        shape = self.problem.groups, self.l.filters, self.l.length
        sums, product = blocks["w"].reshape(shape), blocks["product"].reshape(shape)
        for i, (images, rows) in enumerate(self.l.parts()):
            lowered = self._lowered(source, images, rows, blocks).swapaxes(1, 2)
            np.matmul(self._gradient(gradients, images, rows, blocks), lowered, out=product if i else sums)
            if i:
                sums += product
        taps_view(out, self.problem)[...] = nchw(sums.reshape(out.shape), self.problem.layout)


ALGORITHMS = (Im2col(),)
