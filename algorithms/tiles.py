"""Images cut into overlapping tiles, as Winograd and FFT transform them.

Tile y of an axis holds the positions y m + i, i < window. Where the axis is split into interleaved parts
(phases of a stride, sub-images of a dilation), position q of part a is pixel q parts + a - lead. Pixels
outside the image are zero when read and dropped when written: no padded copy of the image is ever made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from convbench.api import Direction, Problem
from convbench.problem import Pair

from .cpu import Floats, channels_first, parallel
from .phases import Axis

FEW = 10  # copying tile by tile pays off when tiles have this many times more elements than there are tiles

Span = tuple[slice, slice]
Body = Callable[[Floats, Floats, Span, Span], None]


@dataclass(frozen=True)
class Cut:
    """One axis of `size` pixels after `lead` zeros (negative crops), `count` tiles in each of its `parts`."""

    size: int
    lead: int
    parts: int
    step: int
    window: int
    count: int

    def across(self) -> list[list[Span]]:
        """For every element and part: the tiles in which it lies in the image, and its pixels there."""
        axis = Axis(self.size, self.lead, self.parts * self.step, self.count)
        return [[axis.pixels(i * self.parts + a) for a in range(self.parts)] for i in range(self.window)]

    def inside(self, part: int, tile: int) -> Span:
        """The elements of one tile that lie in the image, and their pixels."""
        return Axis(self.size, self._lead(tile), self.parts, self.window).pixels(part)

    def band(self, first: int, count: int) -> Cut:
        """Only `count` tiles from `first` on."""
        return replace(self, lead=self._lead(first), count=min(count, self.count - first))

    def _lead(self, tile: int) -> int:
        return self.lead - tile * self.step * self.parts


@dataclass(frozen=True)
class Tiles:
    """The tiles of some images; in memory (frequency, channels, tiles) or (frequency, tiles, channels).

    Interleaved parts are channels if `stacked` (phases of a stride), else they are tiles.
    """

    rows: Cut
    cols: Cut
    images: int
    groups: int
    channels: int
    stacked: bool
    channels_first: bool

    @property
    def window(self) -> Pair:
        return self.rows.window, self.cols.window

    @property
    def depth(self) -> int:
        """Channels of one group."""
        return self.channels * (self.rows.parts * self.cols.parts if self.stacked else 1)

    @property
    def tiles(self) -> int:
        """Tiles of one channel."""
        spots = self.images * self.rows.count * self.cols.count
        return spots * (1 if self.stacked else self.rows.parts * self.cols.parts)

    @property
    def width(self) -> int:
        """Elements of one frequency."""
        return self.groups * self.depth * self.tiles

    def band(self, first: int, count: int) -> Tiles:
        """Only `count` rows of tiles from `first` on."""
        return replace(self, rows=self.rows.band(first, count))

    def matrices(self, block: Floats) -> Floats:
        """A block (frequency, width) as (frequency, G, channels, tiles)."""
        if self.channels_first:
            return block.reshape(-1, self.groups, self.depth, self.tiles)
        return block.reshape(-1, self.tiles, self.groups, self.depth).transpose(0, 2, 3, 1)

    def elements(self, block: Floats) -> Floats:
        """A block (i, j, width) as (i, j, a, b, G, C, N, y, x): element (i, j) of part (a, b)."""
        orders = ("gcabnyx", "abnyxgc"), ("gabcnyx", "nyxgabc")
        order = orders[self.stacked][not self.channels_first]
        sizes = {"g": self.groups, "c": self.channels, "n": self.images}
        sizes |= {"a": self.rows.parts, "b": self.cols.parts, "y": self.rows.count, "x": self.cols.count}
        view = block.reshape(*block.shape[:2], *(sizes[axis] for axis in order))
        return view.transpose(0, 1, *(2 + order.index(axis) for axis in "abgcnyx"))


@dataclass(frozen=True, kw_only=True)
class Tiling(ABC):
    """A problem cut into tiles, `images` and `rows` of tiles at a time (0: all rows).

    Wide tiles overlap and are transformed: of x, or of dy in backward-data. Narrow tiles lie edge to edge: of
    y, of dx in backward-data, of dy in backward-filter. There are as many of both.
    """

    problem: Problem
    images: int
    rows: int = 0

    @abstractmethod
    def cut(self, axis: int) -> tuple[Cut, Cut]:
        """Wide and narrow tiles along one axis."""

    @property
    @abstractmethod
    def stacked(self) -> bool:
        """Whether interleaved parts of x are channels."""

    @cached_property
    def cuts(self) -> tuple[tuple[Cut, Cut], tuple[Cut, Cut]]:
        return self.cut(0), self.cut(1)

    @property
    def backward(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @property
    def sizes(self) -> Pair:
        """Elements of a wide tile on both axes."""
        return self.cuts[0][0].window, self.cuts[1][0].window

    @property
    def steps(self) -> Pair:
        """Elements of a narrow tile on both axes."""
        return self.cuts[0][1].window, self.cuts[1][1].window

    @property
    def whole(self) -> tuple[Tiles, Tiles]:
        """All wide and narrow tiles of the problem."""
        return self._tiles(0, self.problem.n), self._tiles(1, self.problem.n)

    def _tiles(self, narrow: int, images: int) -> Tiles:
        p, (rows, cols) = self.problem, self.cuts
        of_x = self.backward == bool(narrow)
        channels = (p.c if of_x else p.k) // p.groups
        stacked = self.stacked and of_x
        return Tiles(rows[narrow], cols[narrow], images, p.groups, channels, stacked, channels_first(p))

    def parts(self) -> Iterator[tuple[slice, Tiles, Tiles]]:
        """Images, wide and narrow tiles of each chunk; the first chunk is the largest."""
        n, count = self.problem.n, self.cuts[0][0].count
        step = self.rows or count
        for image in range(0, n, self.images):
            images = slice(image, min(image + self.images, n))
            wide, narrow = (self._tiles(which, images.stop - image) for which in (0, 1))
            for row in range(0, count, step):
                yield images, wide.band(row, step), narrow.band(row, step)


# ---- copies ------------------------------------------------------------------------------------------------


def gather(tiles: Tiles, block: Floats, image: Floats) -> None:
    """Cut `image` (N, G, C, H, W) into a block (i, j, width), zeros where there is padding."""
    _copy(tiles, tiles.elements(block), image, _read)


def scatter(tiles: Tiles, block: Floats, image: Floats) -> None:
    """Put the tiles of a block (i, j, width) together to `image` (N, G, C, H, W)."""
    _copy(tiles, tiles.elements(block), image, _write)


def _read(tile: Floats, pixels: Floats, rows: Span, cols: Span) -> None:
    (i, h), (j, w) = rows, cols
    if i.stop - i.start < tile.shape[-2] or j.stop - j.start < tile.shape[-1]:
        tile[...] = 0
    tile[..., i, j] = pixels[..., h, w]


def _write(tile: Floats, pixels: Floats, rows: Span, cols: Span) -> None:
    (i, h), (j, w) = rows, cols
    pixels[..., h, w] = tile[..., i, j]


def _copy(tiles: Tiles, elements: Floats, image: Floats, body: Body) -> None:
    """Call `body` on every plane of tile elements and the pixels it holds."""
    channels = image.transpose(1, 2, 0, 3, 4)
    if FEW * tiles.images * tiles.rows.count * tiles.cols.count < prod(tiles.window):
        _by_tile(tiles, elements, channels, body)
    else:
        _by_offset(tiles, elements, channels, body)


def _by_offset(tiles: Tiles, elements: Floats, image: Floats, body: Body) -> None:
    """One element of all tiles at a time, elements over threads: best for many small tiles."""
    rows, cols = tiles.rows.across(), tiles.cols.across()
    offsets = list(np.ndindex(elements.shape[:4]))

    def copy(part: slice) -> None:
        for i, j, a, b in offsets[part]:
            body(elements[i, j, a, b], image, rows[i][a], cols[j][b])

    parallel(copy, len(offsets))


def _by_tile(tiles: Tiles, elements: Floats, image: Floats, body: Body) -> None:
    """One tile of all channels at a time, channels over threads: best for few large tiles."""

    def copy(groups: slice, depth: slice) -> None:
        for n, y, x, a, b in np.ndindex(elements.shape[6:] + elements.shape[2:4]):
            tile = elements[:, :, a, b, groups, depth, n, y, x].transpose(2, 3, 0, 1)
            pixels = image[groups, depth, n]
            body(tile, pixels, tiles.rows.inside(a, y), tiles.cols.inside(b, x))

    if tiles.groups > 1:
        parallel(lambda part: copy(part, slice(None)), tiles.groups)
    else:
        parallel(lambda part: copy(slice(None), part), tiles.channels)


# ---- products ----------------------------------------------------------------------------------------------


def contract(left: Floats, right: Floats, out: Floats) -> None:
    """(F, G, K, C) x (F, G, C, T); for one channel a group a broadcast product is faster than BLAS."""
    if left.shape[-1] == 1:
        np.multiply(left, right, out=out)
    else:
        np.matmul(left, right, out=out)
