"""im2col + GEMM on the CPU: copy every window of the image into a column, then one matrix product.

    y[K, P Q] = w[K, C R S] cols[C R S, P Q]          forward
    cols      = w^T dy,  dx = col2im(cols)            backward-data: columns are summed back into the image
    dw        = dy cols^T                             backward-filter, summed over images

The lowered matrix is R S times the image, so it is built in chunks: some rows of one image, or some images.
Small chunks stay in cache and need little workspace; large ones make larger matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convbench.api import Array, Direction, Plan, Problem, Variant

from .cpu import Floats, block_bytes, carve, channels_first, grouped, nchw, parallel, taps_view
from .lowering import Lowering, chunks


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


class Im2colPlan:
    """The three directions over one chunk size."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
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

    def _filters(self, w: Floats, blocks: dict[str, Floats]) -> Floats:
        """Filters as (G, K/G, reduction), in place where they can be."""
        shape = self.problem.groups, self.lowering.filters, self.lowering.length
        if not self.lowering.packs_filters:
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
        if self.lowering.identity:
            return self._pixels(x, images, rows)
        columns = self.lowering.columns(blocks["cols"], images.stop - images.start, rows.stop - rows.start)
        part = x[images]
        if self.problem.groups > 1:
            parallel(lambda g: self.lowering.lower(columns[g], part[:, g], rows), self.problem.groups)
        else:
            parallel(
                lambda c: self.lowering.lower(columns[:, c], part[:, :, c], rows), self.lowering.channels
            )
        return self.lowering.matrix(columns)

    def _forward(self, x: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        filters, source, result = (
            self._filters(w, blocks),
            grouped(x, self.problem),
            grouped(out, self.problem),
        )
        for images, rows in self.lowering.parts():
            lowered = self._lowered(source, images, rows, blocks)
            if not self.lowering.copies_output:
                np.matmul(filters, lowered, out=self._pixels(result, images, rows))
                continue
            target = result[images, :, :, rows]
            product, whole = self._block(blocks["y"], target)
            np.matmul(filters, lowered, out=product)
            target[...] = whole

    def _gradient(self, dy: Floats, images: slice, rows: slice, blocks: dict[str, Floats]) -> Floats:
        """A chunk of dy as (G, K/G, pixels)."""
        if not self.lowering.copies_output:
            return self._pixels(dy, images, rows)
        part = dy[images, :, :, rows]
        flat, whole = self._block(blocks["y"], part)
        whole[...] = part
        return flat

    def _backward_data(self, dy: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        filters = self._filters(w, blocks).swapaxes(1, 2)
        source, result = grouped(dy, self.problem), grouped(out, self.problem)
        for images, rows in self.lowering.parts():
            gradient = self._gradient(source, images, rows, blocks)
            if self.lowering.identity:
                np.matmul(filters, gradient, out=self._pixels(result, images, rows))
                continue
            columns = self.lowering.columns(
                blocks["cols"], images.stop - images.start, rows.stop - rows.start
            )
            np.matmul(filters, gradient, out=self.lowering.matrix(columns))
            self._raise(columns, result[images], rows, blocks)

    def _raise(self, columns: Floats, result: Floats, rows: slice, blocks: dict[str, Floats]) -> None:
        """Sum columns into the images of this chunk; 16-bit images are summed in a wider block first."""
        sums = self._wide_image(blocks["dx"], result) if "dx" in blocks else result
        if rows.start == 0:
            sums[...] = 0
        if self.problem.groups > 1:
            parallel(lambda g: self.lowering.raise_(sums[:, g], columns[g], rows), self.problem.groups)
        else:
            parallel(
                lambda c: self.lowering.raise_(sums[:, :, c], columns[:, c], rows), self.lowering.channels
            )
        if "dx" in blocks and rows.stop == self.problem.p:
            result[...] = sums

    def _wide_image(self, block: Floats, result: Floats) -> Floats:
        n, g, c, h, w = result.shape
        view = block[: result.size]
        if channels_first(self.problem):
            return view.reshape(n, g, c, h, w)
        return view.reshape(n, h, w, g, c).transpose(0, 3, 4, 1, 2)

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        source, gradients = grouped(x, self.problem), grouped(dy, self.problem)
        shape = self.problem.groups, self.lowering.filters, self.lowering.length
        sums, product = blocks["w"].reshape(shape), blocks["product"].reshape(shape)
        for i, (images, rows) in enumerate(self.lowering.parts()):
            lowered = self._lowered(source, images, rows, blocks).swapaxes(1, 2)
            np.matmul(self._gradient(gradients, images, rows, blocks), lowered, out=product if i else sums)
            if i:
                sums += product
        taps_view(out, self.problem)[...] = nchw(sums.reshape(out.shape), self.problem.layout)


ALGORITHMS = (Im2col(),)
