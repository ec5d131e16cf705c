"""Winograd convolution on the CPU: minimal filtering F(m x m, r x r) over tiles of the image.

    V = B^T d B     of every tile and input channel, a x a elements with a = m + r - 1
    U = G w G^T     of every filter
    M = U V         a^2 matrix products (K x C) (C x tiles) instead of m^2 r^2
    Y = A^T M A     of every tile and output channel

Each transform is one matrix product with the Kronecker product of its two axes: more arithmetic than adding rows
and columns, but all of it at the speed of BLAS. Backward-data is the same on dy with turned filters. In
backward-filter the tiles of dy act as filters of m taps, F(r x r, m x m), and the products sum over the tiles.
A dilated convolution is an undilated one on each of its interleaved sub-images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import numpy as np

from convbench.api import Array, Direction, Plan, Problem, Variant
from convbench.problem import Pair

from .cpu import (
    Block,
    Floats,
    block_bytes,
    carve,
    channels_first,
    compute_dtype,
    converts,
    nchw,
)
from .tiles import Cut, Tiles, contract, gather, scatter
from .toomcook import EXACT, LARGEST, Transforms, minimal_filtering, nested

MULTIPLES = {Direction.FWD: (2, 4, 6), Direction.BWD_DATA: (2, 4, 6), Direction.BWD_FILTER: (2, 4)}
CACHE_BYTES = 1 << 23


@dataclass(frozen=True)
class Winograd:
    """Minimal filtering; for dense, grouped and dilated filters of 2 to 7 taps an axis."""

    name: str = "winograd"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        if problem.stride != (1, 1):
            return (
                f"stride {problem.stride[0]}x{problem.stride[1]}: minimal filtering computes adjacent outputs, "
                f"a strided convolution would throw most of them away"
            )
        if problem.taps == (1, 1):
            return "1x1 filter: minimal filtering shares products between taps, and there is only one"
        if max(problem.taps) > LARGEST - 1:
            return (
                f"{problem.r}x{problem.s} filter: tiles of more than {LARGEST} points lose too many digits, "
                f"and {LARGEST} points leave room for filters of up to {LARGEST - 1} taps"
            )
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant(name) for name, form in forms(problem).items()]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return WinogradPlan(forms(problem)[variant.name])


def forms(problem: Problem) -> dict[str, Form]:
    """Tile sizes worth having, each over the whole batch and one image at a time."""
    found: dict[str, Form] = {}
    for m in MULTIPLES[problem.direction]:
        steps = cast(Pair, tuple(m if taps > 1 else 1 for taps in problem.taps))
        whole = Form(problem, steps, problem.n)
        if max(whole.sizes) > LARGEST or any(whole.count == other.count for other in found.values()):
            break  # larger tiles, and no fewer of them
        found[f"f{m}"] = whole
        if problem.n > 1:
            found[f"f{m}_chunk1"] = replace(whole, images=1)
        if whole.narrow(1).rows.count > 1:
            found[f"f{m}_rows"] = replace(whole, images=1, rows=max(1, 128 // whole.narrow(1).cols.count))
    return found


@dataclass(frozen=True)
class Form:
    """F(m x m', r x r') for one problem, `images` and `rows` of tiles at a time (0: all)."""

    problem: Problem
    steps: Pair
    images: int
    rows: int = 0

    @property
    def sizes(self) -> Pair:
        """a = m + r - 1 on both axes."""
        return self.steps[0] + self.problem.taps[0] - 1, self.steps[1] + self.problem.taps[1] - 1

    @property
    def points(self) -> int:
        return prod(self.sizes)

    @property
    def count(self) -> int:
        """Tiles of the whole problem."""
        return self.narrow(self.problem.n).tiles

    @property
    def filters(self) -> int:
        """Elements of w for one tap."""
        return self.problem.k * self.problem.c // self.problem.groups

    def wide(self, images: int) -> Tiles:
        """Tiles of the image that is transformed by B: x, or dy in backward-data."""
        p, backward = self.problem, self.problem.direction is Direction.BWD_DATA
        cuts = []
        for axis in (0, 1):
            lead = p.extent[axis] - 1 - p.pad[axis][0] if backward else p.pad[axis][0]
            size = p.output[axis] if backward else p.image[axis]
            cuts.append(self._cut(axis, size, lead, self.sizes[axis]))
        return self._tiles(cuts, images, p.k if backward else p.c)

    def narrow(self, images: int) -> Tiles:
        """Tiles of m x m: y, or dy in backward-filter, or dx."""
        p, backward = self.problem, self.problem.direction is Direction.BWD_DATA
        sizes = p.image if backward else p.output
        cuts = [self._cut(axis, sizes[axis], 0, self.steps[axis]) for axis in (0, 1)]
        return self._tiles(cuts, images, p.c if backward else p.k)

    def _cut(self, axis: int, size: int, lead: int, window: int) -> Cut:
        p, step = self.problem, self.steps[axis]
        outputs = p.image[axis] if p.direction is Direction.BWD_DATA else p.output[axis]
        count = -(-outputs // (p.dilation[axis] * step))
        return Cut(size, lead, p.dilation[axis], step, window, count)

    def _tiles(self, cuts: list[Cut], images: int, channels: int) -> Tiles:
        p = self.problem
        depth = channels // p.groups
        return Tiles(*cuts, images, p.groups, depth, stacked=False, channels_first=channels_first(p))

    def parts(self) -> Iterator[tuple[slice, Tiles, Tiles]]:
        """Images, wide and narrow tiles of each chunk."""
        n, rows = self.problem.n, self.narrow(1).rows.count
        step = self.rows or rows
        for image in range(0, n, self.images):
            images = slice(image, min(image + self.images, n))
            for row in range(0, rows, step):
                count = images.stop - image
                yield images, self.wide(count).band(row, step), self.narrow(count).band(row, step)

    def blocks(self) -> dict[str, Block]:
        """Tiles and products take turns in two blocks."""
        p, dtype = self.problem, compute_dtype(self.problem.precision)
        _, wide, narrow = next(self.parts())
        transformed, outputs = self.points * wide.width, prod(self.steps) * narrow.width
        if p.direction is Direction.BWD_FILTER:
            taps = p.r * p.s * self.filters
            sizes = {
                "ping": max(transformed, outputs, self.points * self.filters),
                "pong": max(transformed, taps),
                "gradients": self.points * narrow.width,
                "w": taps if converts(p) else 0,
            }
        else:
            sizes = {
                "ping": max(transformed, self.points * narrow.width),
                "pong": max(transformed, outputs),
                "filters": self.points * self.filters,
                "w": p.r * p.s * self.filters if converts(p) else 0,
            }
        return {name: ((size,), dtype) for name, size in sizes.items() if size}

    def variant(self, name: str) -> Variant:
        details = {
            "tile": "x".join(map(str, self.sizes)),
            "points": ", ".join([*map(str, transforms(self)[0].points), "inf"]),
            "images": self.images,
            "flops": 2 * self.points * self.count * self.filters,
            "deterministic": True,
        }
        exact = max(self.sizes) <= EXACT
        return Variant(name, block_bytes(self.blocks()), exact=exact, details=details)


def transforms(form: Form) -> list[Transforms]:
    """Of both axes; in backward-filter the step of dy and the taps change places."""
    pairs = list(zip(form.steps, form.problem.taps, strict=True))
    if form.problem.direction is Direction.BWD_FILTER:
        pairs = [(r, m) for m, r in pairs]
    return [minimal_filtering(m, r) for m, r in pairs]


class WinogradPlan:
    """The three directions; the matrices depend on the shape alone."""

    def __init__(self, form: Form) -> None:
        self.form, self.problem = form, form.problem
        self.blocks = form.blocks()
        dtype = compute_dtype(form.problem.precision)
        rows, cols = transforms(form)
        self.data = nested(rows.data, cols.data, dtype)
        self.filter = nested(rows.filter, cols.filter, dtype)
        self.inverse = nested(rows.inverse, cols.inverse, dtype)
        self._turn()

    def _turn(self) -> None:
        """Turned filters cost nothing: their taps are columns of G, in backward-filter rows of A^T."""
        if self.problem.direction is Direction.BWD_FILTER:
            if self.problem.flip:
                self.inverse = self.inverse[::-1].copy()
        elif self.problem.flip != (self.problem.direction is Direction.BWD_DATA):
            self.filter = self.filter[:, ::-1].copy()

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        blocks = carve(workspace, self.blocks)
        if self.problem.direction is Direction.BWD_FILTER:
            self._backward_filter(a, b, out, blocks)
        else:
            self._correlate(a, b, out, blocks)

    def close(self) -> None:
        pass

    def _correlate(self, image: Floats, w: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        """Forward, and backward-data as forward on dy."""
        filters = self._filters(w, blocks)
        source, result = self._grouped(image), self._grouped(out)
        ping, pong = blocks["ping"], blocks["pong"]
        for images, wide, narrow in self.form.parts():
            data = self._transform(self.data, wide, source[images], ping, pong)
            products = _rows(ping, self.form.points, narrow.width)
            contract(filters, data, narrow.matrices(products))
            tiles = _rows(pong, prod(self.form.steps), narrow.width)
            np.matmul(self.inverse, products, out=tiles)
            scatter(narrow, tiles.reshape(*self.form.steps, -1), result[images])

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        source, gradients = self._grouped(x), self._grouped(dy)
        ping, pong = blocks["ping"], blocks["pong"]
        sums = blocks.get("w", out.reshape(-1))
        for i, (images, wide, narrow) in enumerate(self.form.parts()):
            gradient = self._transform(self.filter, narrow, gradients[images], ping, blocks["gradients"])
            data = self._transform(self.data, wide, source[images], ping, pong)
            products = _rows(ping, self.form.points, self.form.filters)
            contract(gradient, data.swapaxes(2, 3), self._matrices(products))
            part = pong[: sums.size] if i else sums
            np.matmul(self.inverse, self._spread(products), out=self._taps(part))
            if i:
                sums += part
        if "w" in blocks:
            out[...] = sums.reshape(out.shape)

    def _transform(
        self, matrix: Floats, tiles: Tiles, image: Floats, scratch: Floats, block: Floats
    ) -> Floats:
        """Cut the image and transform every tile; (point, G, channels, tiles)."""
        cut = _rows(scratch, prod(tiles.window), tiles.width)
        gather(tiles, cut.reshape(*tiles.window, -1), image)
        transformed = _rows(block, self.form.points, tiles.width)
        np.matmul(matrix, cut, out=transformed)
        return tiles.matrices(transformed)

    def _filters(self, w: Floats, blocks: dict[str, Floats]) -> Floats:
        """Transformed filters as (point, G, output channels, input channels)."""
        if "w" in blocks:
            blocks["w"].reshape(w.shape)[...] = w
        taps = self._taps(blocks.get("w", w))
        transformed = _rows(blocks["filters"], self.form.points, self.form.filters)
        np.matmul(self.filter, taps, out=self._spread(transformed))
        matrices = self._matrices(transformed)
        return matrices.swapaxes(2, 3) if self.problem.direction is Direction.BWD_DATA else matrices

    def _matrices(self, block: Floats) -> Floats:
        """(point, filters) as (point, G, K/g, C/g)."""
        p = self.problem
        return block.reshape(-1, p.groups, p.k // p.groups, p.c // p.groups)

    def _taps(self, w: Floats) -> Floats:
        """w as it lies in memory, as matrices with the taps in rows: one of (R S, K C/g) or K of (R S, C/g)."""
        p = self.problem
        if channels_first(p):
            return w.reshape(1, self.form.filters, p.r * p.s).swapaxes(1, 2)
        return w.reshape(p.k, p.r * p.s, p.c // p.groups)

    def _spread(self, block: Floats) -> Floats:
        """(point, filters) as matrices that go with `_taps`."""
        if channels_first(self.problem):
            return block[None]
        return block.reshape(block.shape[0], self.problem.k, -1).swapaxes(0, 1)

    def _grouped(self, tensor: Floats) -> Floats:
        """x or y as (N, G, channels, H, W)."""
        view, g = nchw(tensor, self.problem.layout), self.problem.groups
        return view.reshape(view.shape[0], g, view.shape[1] // g, *view.shape[2:])


def _rows(block: Floats, rows: int, width: int) -> Floats:
    return block[: rows * width].reshape(rows, width)


ALGORITHMS = (Winograd(),)
