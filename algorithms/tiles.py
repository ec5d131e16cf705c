"""Images cut into overlapping tiles, as Winograd and FFT transform them.

Tile y of an axis holds the positions y m + i, i < window. Where the axis is split into interleaved parts (phases
of a stride, sub-images of a dilation), position q of part a is pixel q parts + a - lead. Pixels outside the image
are zero when read and dropped when written, so no padded copy of the image is ever made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from convbench.problem import Pair

from .cpu import Floats, parallel
from .phases import Axis

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
        """For every element and part: the tiles in which it lies in the image, and the pixels it holds there."""
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
        """A block (i, j, width) as (i, j, a, b, G, C, N, y, x): element (i, j) of the tiles of part (a, b)."""
        orders = ("gcabnyx", "abnyxgc"), ("gabcnyx", "nyxgabc")
        order = orders[self.stacked][not self.channels_first]
        sizes = dict(g=self.groups, c=self.channels, n=self.images)  # noqa: C408
        sizes |= dict(a=self.rows.parts, b=self.cols.parts, y=self.rows.count, x=self.cols.count)  # noqa: C408
        view = block.reshape(*block.shape[:2], *(sizes[axis] for axis in order))
        return view.transpose(0, 1, *(2 + order.index(axis) for axis in "abgcnyx"))


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
    if tiles.images * tiles.rows.count * tiles.cols.count < prod(tiles.window):
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


# ---- products -----------------------------------------------------------------------------------------------


def contract(left: Floats, right: Floats, out: Floats) -> None:
    """(F, G, K, C) x (F, G, C, T); one channel a group (depthwise) is a broadcast product, faster than BLAS."""
    if left.shape[-1] == 1:
        np.multiply(left, right, out=out)
    else:
        np.matmul(left, right, out=out)
