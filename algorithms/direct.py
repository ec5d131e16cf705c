"""Direct convolution on the CPU: shift and accumulate over the taps, without a lowered matrix.

Each filter tap multiplies one shifted copy of the image. The padded image lies flat, so the shift is an
offset and every tap one matrix product on a plain slice of memory:

    y[k, l] += w[k, c, r, s] x[c, l + r W' + s]

with l running over rows of the padded width W'. The last W' - Q columns of each row are computed and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from convbench.api import Array, Direction, Plan, Problem, Variant

from .cpu import (
    Block,
    Floats,
    block_bytes,
    carve,
    channels_first,
    compute_dtype,
    grouped,
    parallel,
    taps_view,
)
from .phases import axes_of, collect, fill

COLUMNS = 4096  # image chunks and column blocks of about this length keep the accumulator in the L2 cache
BLOCK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Direct:
    """Shift and accumulate; works for every problem."""

    name: str = "direct"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        geometry = Geometry(problem)
        details = {"images": geometry.images, "flops": problem.flops, "deterministic": True}
        return [Variant("shift", block_bytes(geometry.blocks()), details=details)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return DirectPlan(Geometry(problem))


class Geometry:
    """Sizes of the flat padded image; `images` of them are processed together."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.axes = axes_of(problem)
        self.grid = self.axes[0].length, self.axes[1].length
        self.images = min(problem.n, max(1, COLUMNS // prod(self.grid)))
        self.columns = self.images * prod(self.grid)
        self.channels = problem.c // problem.groups
        self.filters = problem.k // problem.groups

    def blocks(self) -> dict[str, Block]:
        """Phases of x (or dx), a flat y (or dy), packed filters, and one product."""
        p, dtype = self.problem, compute_dtype(self.problem.precision)
        rows = self.filters if p.direction is Direction.FWD else self.channels
        product = (
            (self.filters * self.channels,) if p.direction is Direction.BWD_FILTER else (rows, self.block)
        )
        return {
            "x": ((prod(p.stride) * p.c * self.columns,), dtype),
            "y": ((p.k * self.columns,), dtype),
            "w": ((p.r * p.s * p.k * self.channels,), dtype),
            "product": ((p.groups * prod(product),), dtype),
        }

    @property
    def block(self) -> int:
        """Columns multiplied at once, so that a block of the accumulator stays in cache between taps."""
        rows = max(self.problem.k, self.problem.c)
        return min(self.columns, max(512, BLOCK_ELEMENTS // rows))

    def flat(self, block: Floats, phases: int) -> Floats:
        """A flat tensor as (phase, G, channels, columns)."""
        g = self.problem.groups
        channels = block.size // (phases * g * self.columns)
        if channels_first(self.problem):
            return block.reshape(phases, g, channels, self.columns)
        return block.reshape(phases, self.columns, g, channels).transpose(0, 2, 3, 1)

    def images_view(self, flat: Floats) -> Floats:
        """(phase, G, channels, columns) as (N, G, u, v, channels, H', W') for `fill` and `collect`."""
        stride = self.problem.stride if flat.shape[0] > 1 else (1, 1)
        view = flat.reshape(*stride, *flat.shape[1:3], self.images, *self.grid)
        return view.transpose(4, 2, 0, 1, 3, 5, 6)

    def taps(self) -> Iterator[tuple[int, int, int]]:
        """Of every tap in turn: its index, the phase it reads and its offset in the flat image."""
        u, v = self.problem.stride
        for r in range(self.problem.r):
            for s in range(self.problem.s):
                i, j = r * self.problem.dilation[0], s * self.problem.dilation[1]
                phase = (i % u) * v + j % v
                yield r * self.problem.s + s, phase, (i // u) * self.grid[1] + j // v

    def length(self, images: int) -> int:
        """Flat columns up to the last output of this many images."""
        return (images - 1) * prod(self.grid) + (self.problem.p - 1) * self.grid[1] + self.problem.q


class DirectPlan:
    """All three directions over the same flat blocks."""

    def __init__(self, geometry: Geometry) -> None:
        self.g = geometry

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        blocks = carve(workspace, self.g.blocks())
        {
            Direction.FWD: self._forward,
            Direction.BWD_DATA: self._backward_data,
            Direction.BWD_FILTER: self._backward_filter,
        }[self.g.problem.direction](a, b, out, blocks)

    def close(self) -> None:
        pass

    def _chunks(self) -> Iterator[slice]:
        n = self.g.problem.n
        for first in range(0, n, self.g.images):
            yield slice(first, min(first + self.g.images, n))

    def _filters(self, w: Floats, block: Floats) -> Floats:
        """Filters packed as (tap, G, K/g, C/g), so that every tap is one dense matrix."""
        p = self.g.problem
        packed = block.reshape(p.r, p.s, p.groups, self.g.filters, self.g.channels)
        view = taps_view(w, p)
        source = view.reshape(p.groups, self.g.filters, self.g.channels, p.r, p.s)
        packed[...] = source.transpose(3, 4, 0, 1, 2)
        return packed.reshape(-1, *packed.shape[2:])

    def _load_x(self, x: Floats, part: slice, flat: Floats) -> None:
        views = self.g.images_view(flat)[: part.stop - part.start]
        source = grouped(x, self.g.problem)[part]
        if source.shape[1] > 1:
            parallel(lambda gs: fill(views[:, gs], source[:, gs], self.g.axes), source.shape[1])
        else:
            parallel(lambda cs: fill(views[..., cs, :, :], source[:, :, cs], self.g.axes), source.shape[2])

    def _load_dy(self, dy: Floats, part: slice, flat: Floats) -> None:
        """dy on the grid of the flat image, zero where a column is no output."""
        p, grid = self.g.problem, self.g.images_view(flat)[: part.stop - part.start, :, 0, 0]
        source = grouped(dy, self.g.problem)[part]
        grid[..., : p.p, : p.q] = source
        grid[..., : p.p, p.q :] = 0
        grid[..., p.p :, :] = 0

    def _column_blocks(self, length: int) -> Iterator[slice]:
        for first in range(0, length, self.g.block):
            yield slice(first, min(first + self.g.block, length))

    def _product(self, block: Floats, rows: int, columns: int) -> Floats:
        """The block for one product as (G, rows, columns), in the memory order of the layout."""
        g = self.g.problem.groups
        part = block[: g * rows * columns]
        if channels_first(self.g.problem):
            return part.reshape(g, rows, columns)
        return part.reshape(columns, g, rows).transpose(1, 2, 0)

    def _forward(self, x: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        g = self.g
        filters = self._filters(w, blocks["w"])
        xs, ys = g.flat(blocks["x"], prod(g.problem.stride)), g.flat(blocks["y"], 1)
        result = grouped(out, self.g.problem)
        for part in self._chunks():
            self._load_x(x, part, xs)
            images = part.stop - part.start
            for cols in self._column_blocks(g.length(images)):
                product = self._product(blocks["product"], g.filters, cols.stop - cols.start)
                target = ys[0, ..., cols]
                for tap, phase, offset in g.taps():
                    source = xs[phase, ..., cols.start + offset : cols.stop + offset]
                    _multiply(filters[tap], source, product if tap else target)
                    if tap:
                        target += product
            view = g.images_view(ys)[:images, :, 0, 0, ..., : g.problem.p, : g.problem.q]
            result[part] = view

    def _backward_data(self, dy: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        g = self.g
        filters = self._filters(w, blocks["w"]).swapaxes(2, 3)
        xs, ys = g.flat(blocks["x"], prod(g.problem.stride)), g.flat(blocks["y"], 1)
        result = grouped(out, self.g.problem)
        for part in self._chunks():
            self._load_dy(dy, part, ys)
            xs[...] = 0
            images = part.stop - part.start
            for cols in self._column_blocks(g.length(images)):
                product = self._product(blocks["product"], g.channels, cols.stop - cols.start)
                for tap, phase, offset in g.taps():
                    _multiply(filters[tap], ys[0, ..., cols], product)
                    target = xs[phase, ..., cols.start + offset : cols.stop + offset]
                    target += product
            collect(result[part], g.images_view(xs)[:images], g.axes)

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        g, p = self.g, self.g.problem
        sums = blocks["w"].reshape(p.r * p.s, p.groups, g.filters, g.channels)
        sums[...] = 0
        xs, ys = g.flat(blocks["x"], prod(p.stride)), g.flat(blocks["y"], 1)
        product = blocks["product"].reshape(p.groups, g.filters, g.channels)
        for part in self._chunks():
            self._load_x(x, part, xs)
            self._load_dy(dy, part, ys)
            length = g.length(part.stop - part.start)
            for tap, phase, offset in g.taps():
                shifted = xs[phase, ..., offset : offset + length].swapaxes(1, 2)
                np.matmul(ys[0, ..., :length], shifted, out=product)
                sums[tap] += product
        result = taps_view(out, p).reshape(p.groups, g.filters, g.channels, p.r, p.s)
        result[...] = sums.reshape(p.r, p.s, *sums.shape[1:]).transpose(2, 3, 4, 0, 1)


def _multiply(filters: Floats, columns: Floats, out: Floats) -> None:
    """(G, M, C) x (G, C, L); with one channel a group (depthwise) a broadcast product is faster than BLAS."""
    if columns.shape[1] == 1:
        np.multiply(filters, columns, out=out)
    else:
        np.matmul(filters, columns, out=out)


ALGORITHMS = (Direct(),)
