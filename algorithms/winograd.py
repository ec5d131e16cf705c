"""Winograd convolution on the CPU: minimal filtering F(m x m, r x r) over tiles of the image.

    V = B^T d B     of every tile and input channel, a x a elements with a = m + r - 1
    U = G w G^T     of every filter
    M = U V         a^2 matrix products (K x C) (C x tiles) instead of m^2 r^2
    Y = A^T M A     of every tile and output channel

Each transform is one matrix product with the Kronecker product of its two axes: more arithmetic than adding
rows and columns, but all of it at the speed of BLAS. Backward-data is the same on dy with turned filters. In
backward-filter the tiles of dy act as filters of m taps, F(r x r, m x m), and products sum over the tiles. A
dilated convolution is an undilated one on each of its interleaved sub-images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from convbench.api import Array, Direction, Plan, Problem, Variant

from .cpu import Block, Floats, block_bytes, carve, channels_first, compute_dtype, converts, grouped
from .tiles import Cut, Tiles, Tiling, contract, gather, scatter
from .toomcook import EXACT, LARGEST, Transforms, minimal_filtering, nested

MULTIPLES = {Direction.FWD: (2, 4, 6), Direction.BWD_DATA: (2, 4, 6), Direction.BWD_FILTER: (2, 4)}
ROW_TILES = 512  # rows of about so many tiles: enough columns for BLAS, little enough for the cache


@dataclass(frozen=True)
class Winograd:
    """Minimal filtering; for dense, grouped and dilated filters of 2 to 7 taps an axis."""

    name: str = "winograd"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        if problem.stride != (1, 1):
            stride = "x".join(map(str, problem.stride))
            return (
                f"stride {stride}: minimal filtering computes adjacent outputs, "
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
    """Tile sizes worth having, each over the batch, one image or, of large images, some rows at a time."""
    found: dict[str, Form] = {}
    for m in MULTIPLES[problem.direction]:
        whole = Form(problem=problem, images=problem.n, m=m)
        if max(whole.sizes) > LARGEST or any(whole.count == other.count for other in found.values()):
            break  # larger tiles, and no fewer of them
        found[f"f{m}"] = whole
        if problem.n > 1:
            found[f"f{m}_chunk1"] = replace(whole, images=1)
        total = whole.cuts[0][0].count
        rows = max(1, ROW_TILES * total * problem.n // whole.count)
        if 2 * rows <= total:
            found[f"f{m}_rows{rows}"] = replace(whole, images=1, rows=rows)
    return found


@dataclass(frozen=True, kw_only=True)
class Form(Tiling):
    """F(m x m, r x r); an axis with one tap is left as it is, m = a = 1."""

    m: int
    stacked = False

    def cut(self, axis: int) -> tuple[Cut, Cut]:
        p, d, taps = self.problem, self.problem.dilation[axis], self.problem.taps[axis]
        step = self.m if taps > 1 else 1
        source, lead, result = p.image[axis], p.pad[axis][0], p.output[axis]
        if self.backward:
            source, lead, result = result, p.extent[axis] - 1 - lead, source
        count = -(-result // (d * step))
        return Cut(source, lead, d, step, step + taps - 1, count), Cut(result, 0, d, step, step, count)

    @property
    def points(self) -> int:
        """a x a."""
        return prod(self.sizes)

    @property
    def count(self) -> int:
        """Tiles of the whole problem."""
        return self.whole[1].tiles

    @property
    def filters(self) -> int:
        """Elements of w for one tap."""
        return self.problem.k * self.problem.c // self.problem.groups

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
        points = max((t.points for t in transforms(self)), key=lambda finite: len(finite))
        details = {
            "tile": "x".join(map(str, self.sizes)),
            "points": ", ".join([*map(str, points), "inf"]),
            "images": self.images,
            "rows": self.rows or self.cuts[0][0].count,
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
        self.blocks, self.parts = form.blocks(), list(form.parts())
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
        elif self.problem.flip != self.form.backward:
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
        source, result = grouped(image, self.problem), grouped(out, self.problem)
        ping, pong = blocks["ping"], blocks["pong"]
        for images, wide, narrow in self.parts:
            data = self._transform(self.data, wide, source[images], ping, pong)
            products = _rows(ping, self.form.points, narrow.width)
            contract(filters, data, narrow.matrices(products))
            tiles = _rows(pong, prod(self.form.steps), narrow.width)
            np.matmul(self.inverse, products, out=tiles)
            scatter(narrow, tiles.reshape(*self.form.steps, -1), result[images])

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Floats]) -> None:
        source, gradients = grouped(x, self.problem), grouped(dy, self.problem)
        ping, pong = blocks["ping"], blocks["pong"]
        sums = blocks.get("w", out.reshape(-1))
        for i, (images, wide, narrow) in enumerate(self.parts):
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
        return matrices.swapaxes(2, 3) if self.form.backward else matrices

    def _matrices(self, block: Floats) -> Floats:
        """(point, filters) as (point, G, K/g, C/g)."""
        p = self.problem
        return block.reshape(-1, p.groups, p.k // p.groups, p.c // p.groups)

    def _taps(self, w: Floats) -> Floats:
        """w as it lies in memory, the taps in rows: one matrix (R S, K C/g) or K of (R S, C/g)."""
        p = self.problem
        if channels_first(p):
            return w.reshape(1, self.form.filters, p.r * p.s).swapaxes(1, 2)
        return w.reshape(p.k, p.r * p.s, p.c // p.groups)

    def _spread(self, block: Floats) -> Floats:
        """(point, filters) as matrices that go with `_taps`."""
        if channels_first(self.problem):
            return block[None]
        return block.reshape(block.shape[0], self.problem.k, -1).swapaxes(0, 1)


def _rows(block: Floats, rows: int, width: int) -> Floats:
    return block[: rows * width].reshape(rows, width)


ALGORITHMS = (Winograd(),)
