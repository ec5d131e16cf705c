"""How transformed tensors lie in memory, and the structs in which kernels of cuda_winograd.cu are told."""

from __future__ import annotations

from ctypes import Structure, c_int, c_longlong
from dataclasses import astuple, dataclass
from math import gcd, prod

from convbench.api import Layout, Problem

from .tiles import Cut, Tiles

SINGLE, HALF, SPLIT, PAIR, WOVEN = range(5)  # enum Form
COPIES = {SINGLE: 1, HALF: 1, SPLIT: 3}  # low, high, high
PRODUCTS = {SINGLE: 1, HALF: 1, SPLIT: 3, PAIR: 3, WOVEN: 3}
BYTES = {SINGLE: 4, HALF: 2, SPLIT: 2, PAIR: 2, WOVEN: 2}  # of what strides count
UNIT = (
    32  # rows of operands are padded to so many: what a warp writes of halves begins with a segment of memory
)


class AxisStruct(Structure):
    _fields_ = [(name, c_int) for name in ("size", "lead", "parts", "count")]


class TilesStruct(Structure):
    _fields_ = [
        *((name, c_longlong) for name in "nchw"),
        ("rows", AxisStruct),
        ("cols", AxisStruct),
        *((name, c_int) for name in ("images", "channels", "channels_last", "vector")),
    ]


class FiltersStruct(Structure):
    _fields_ = [
        *((name, c_longlong) for name in "kcrs"),
        *((name, c_int) for name in ("outputs", "depth", "per_group", "flip")),
    ]


class OperandStruct(Structure):
    _fields_ = [
        *((name, c_longlong) for name in ("point", "part", "group", "channel", "tile")),
        *((name, c_longlong) for name in ("high", "low", "again")),
        *((name, c_int) for name in ("depth", "length", "parts", "form")),
    ]


@dataclass(frozen=True)
class Operand:
    """Strides of [point][part][group] matrices of `depth` channels x `length` tiles, in numbers as stored.

    `group` is the size of one matrix; `high`, `low` and `again` are where the halves of a split number lie.
    """

    point: int
    part: int
    group: int
    channel: int
    tile: int
    high: int
    low: int
    again: int
    depth: int
    length: int
    parts: int
    form: int

    @property
    def row(self) -> int:
        """From one row of a matrix to the next."""
        return max(self.channel, self.tile)

    def struct(self) -> OperandStruct:
        return OperandStruct(*astuple(self))

    def bytes(self, points: int) -> int:
        return points * self.point * BYTES[self.form]


def operand(
    depth: int,
    length: int,
    groups: int,
    parts: int = 1,
    *,
    form: int = SINGLE,
    by_tile: bool = False,
    channels_last: bool,
    left: bool = False,
) -> Operand:
    """Products sum over channels or `by_tile`, and copies of split numbers lie along what is summed.

    They are (low, high, high), or (high, low, high) in the operand on the left.
    """
    copies = COPIES[form]
    rows, cols = (length, depth) if channels_last else (depth, length)
    along_rows = by_tile == channels_last
    row, copy = (cols, rows * cols) if along_rows else (copies * cols, cols)
    high, low = (copy, 0) if form == SPLIT and not left else (0, copy)
    channel, tile = (1, row) if channels_last else (row, 1)
    matrix = copies * rows * cols
    part = groups * matrix
    strides = parts * part, part, matrix, channel, tile
    return Operand(*strides, high, low, 2 * copy, depth, length, parts, form)


def pair(
    depth: int, length: int, groups: int, parts: int = 1, *, inner: bool, channels_last: bool
) -> Operand:
    """For products of our own, which sum along rows (`inner`) or down the rows.

    There high and low halves alternate, once each, by UNIT numbers; what is summed has to come in wholes.
    """
    rows, cols = (length, depth) if channels_last else (depth, length)
    row = -(-cols // UNIT) * UNIT * (2 if inner else 1)
    matrix = rows * row * (1 if inner else 2)
    channel, tile = (1, row) if channels_last else (row, 1)
    low, form = (UNIT, WOVEN) if inner else (UNIT * row, PAIR)
    part = groups * matrix
    return Operand(parts * part, part, matrix, channel, tile, 0, low, 0, depth, length, parts, form)


def tiles_struct(tiles: Tiles, problem: Problem, step: int) -> TilesStruct:
    """An image and how it is cut into tiles."""
    channels, (height, width) = tiles.groups * tiles.channels, (tiles.rows.size, tiles.cols.size)
    last = problem.layout is Layout.NHWC
    c, h, w = (1, width * channels, channels) if last else (height * width, width, 1)
    vector = 1 if last or tiles.cols.parts > 1 else gcd(width, step, 4)
    return TilesStruct(
        channels * height * width,
        c,
        h,
        w,
        _axis(tiles.rows),
        _axis(tiles.cols),
        tiles.images,
        channels,
        last,
        vector,
    )


def _axis(cut: Cut) -> AxisStruct:
    return AxisStruct(cut.size, cut.lead, cut.parts, cut.count)


def filters_struct(problem: Problem, turned: bool) -> FiltersStruct:
    """w, and whether its taps are read backwards."""
    p, depth = problem, problem.c // problem.groups
    last = p.layout is Layout.NHWC
    c, r, s = (1, p.s * depth, depth) if last else (p.r * p.s, p.s, 1)
    return FiltersStruct(prod((depth, p.r, p.s)), c, r, s, p.k, depth, p.k // p.groups, turned)
