"""Products of spectra by kernels of our own: on tensor cores from split fp32, and element by element."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convbench.api import Direction, Precision
from convbench.dtypes import compute_dtype

from .cuda_fft_form import Spectral
from .cuda_fft_spectra import PRODUCTS, spectra
from .cuda_implicit_tiles import Hopper, capability
from .gpu import C_SUMS, Source, by_value

SIDE, SPLIT_THREADS = 64, 128  # those of cuda_fft_split.cu
SHARED = (32 + 1) << 10  # two stages, and what aligns them
HOPPER = 90  # its tensor cores have instructions of their own
LONGEST = 512  # terms summed in one product: tensor cores lose digits

ROWS, COLUMNS, APART_THREADS, COLLECT_WIDTH = 4, 4, 128, 32  # those of cuda_fft_apart.cu

Products = Callable[[Mapping[str, int]], None]


@dataclass(frozen=True)
class Factors:
    """c = a b by the names of the spectra: rows and columns of c and terms of its sums.

    Where backward-filter sums over tiles, rows of `a` as it is stored are terms; and rows of `b`, as they
    are in backward-data.
    """

    names: tuple[str, str, str]
    rows: int
    columns: int
    terms: int
    terms_first: tuple[bool, bool]

    @classmethod
    def of(cls, form: Spectral, tiles: int) -> Factors:
        direction, (c, k) = form.problem.direction, form.depths
        names = PRODUCTS[direction]
        match direction:
            case Direction.FWD:
                return cls(names, tiles, k, c, (False, False))
            case Direction.BWD_DATA:
                return cls(names, tiles, c, k, (False, True))
        return cls(names, k, c, tiles, (True, True))


# ---- on tensor cores ---------------------------------------------------------------------------------------


class Stored(ctypes.Structure):
    """struct Stored of cuda_fft_split.cu"""

    _fields_ = [("row", ctypes.c_int), ("matrix", ctypes.c_longlong)]


class SplitSizes(ctypes.Structure):
    """struct Sizes of cuda_fft_split.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "columns", "terms")),
        *((name, Stored) for name in "abc"),
    ]


def split_source(direction: Direction, hopper: bool) -> Source:
    wide = direction is Direction.BWD_FILTER, direction is not Direction.FWD
    defines = (("A_WIDE", int(wide[0])), ("B_WIDE", int(wide[1])), ("HOPPER", int(hopper)))
    return (Hopper if hopper else Source)("cuda_fft_split.cu", ("multiply",), defines)


def multiply_split(form: Spectral, tiles: int, add: bool) -> Products:
    """All products of so many tiles; long sums in parts."""
    kernel = split_source(form.problem.direction, capability() == HOPPER)["multiply"]
    factors, stored = Factors.of(form, tiles), spectra(form, tiles)
    a, b, c = factors.names
    layout = [Stored(stored[name].row, stored[name].frequency) for name in factors.names]
    grid = form.spectrum * -(-factors.rows // SIDE) * -(-factors.columns // SIDE)
    scale = compute_dtype(form.problem.precision).type(form.scale)
    steps = [
        8 * (stored[name].row if first else 1)
        for name, first in zip((a, b), factors.terms_first, strict=True)
    ]
    parts = []
    for first in range(0, factors.terms, LONGEST):
        terms = min(LONGEST, factors.terms - first)
        sizes = by_value(SplitSizes(factors.rows, factors.columns, terms, *layout))
        parts.append((first * steps[0], first * steps[1], sizes, int(add or first > 0)))

    def run(at: Mapping[str, int]) -> None:
        for of_a, of_b, sizes, keep in parts:
            kernel(grid, SPLIT_THREADS, at[a] + of_a, at[b] + of_b, at[c], sizes, scale, keep, shared=SHARED)

    return run


# ---- element by element ------------------------------------------------------------------------------------


class Strides(ctypes.Structure):
    """struct Strides of cuda_fft_apart.cu"""

    _fields_ = [(name, ctypes.c_int) for name in ("row", "term", "column")]


class ApartSizes(ctypes.Structure):
    """struct Sizes of cuda_fft_apart.cu"""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "columns", "terms", "frequencies", "pitch")),
        *((name, Strides) for name in "abc"),
    ]


def apart_source(precision: Precision) -> Source:
    return Source("cuda_fft_apart.cu", ("multiply", "collect"), (("ELEMENT", C_SUMS[precision]),))


def multiply_apart(form: Spectral, tiles: int, add: bool) -> Products:
    """Lane by lane; the long sums of backward-filter by several threads each."""
    precision, factors, stored = form.problem.precision, Factors.of(form, tiles), spectra(form, tiles)
    collects = form.problem.direction is Direction.BWD_FILTER
    kernel = apart_source(precision)["collect" if collects else "multiply"]
    a, b, c = factors.names
    steps = [stored[name].row for name in factors.names]
    strides = (
        Strides(row=1, term=steps[0]) if factors.terms_first[0] else Strides(row=steps[0], term=1),
        Strides(column=1, term=steps[1]) if factors.terms_first[1] else Strides(column=steps[1], term=1),
        Strides(row=steps[2], column=1),
    )
    used = form.tile**2 // 2 + 2
    sizes = by_value(ApartSizes(factors.rows, factors.columns, factors.terms, used, form.spectrum, *strides))
    number = compute_dtype(precision)
    width = COLLECT_WIDTH if collects else APART_THREADS
    grid = -(-used // width) * -(-factors.rows // ROWS) * -(-factors.columns // COLUMNS)
    scale = number.type(form.scale)

    def run(at: Mapping[str, int]) -> None:
        kernel(grid, APART_THREADS, at[a], at[b], at[c], sizes, scale, int(add))

    return run
