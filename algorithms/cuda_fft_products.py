"""Products of spectra: a matrix product for every frequency and group, or threads where channels are few."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from convbench.api import Direction, Precision
from convbench.dtypes import compute_dtype

from .cuda_fft_form import Spectral, by_threads
from .cuda_fft_spectra import PRODUCTS, Spectra, spectra
from .cuda_fft_split import apart_source, multiply_apart, multiply_split, split_source
from .gpu import C_SUMS, Source, by_value
from .gpu_blas import Gemm, prepare

FUNCTIONS = {Direction.FWD: "correlate", Direction.BWD_DATA: "convolve", Direction.BWD_FILTER: "collect"}
THREADS = 256
LONGEST = 2048  # tiles summed in one product; the parts are added up apart, or fp32 loses digits
LONGEST_HALVES = 512  # tensor cores lose them faster

Products = Callable[[Mapping[str, int]], None]
"""Multiply the spectra of x, w and y, given their addresses."""


def sources() -> Iterator[Source]:
    """Every compilation there is."""
    for precision in (Precision.FP32, Precision.FP64):
        yield source(precision)
        yield apart_source(precision)
    yield from (split_source(direction, hopper) for direction in Direction for hopper in (True, False))


def source(precision: Precision) -> Source:
    return Source("cuda_fft_products.cu", tuple(FUNCTIONS.values()), (("ELEMENT", C_SUMS[precision]),))


def products(form: Spectral, tiles: int, add: bool) -> Products:
    """All products of so many tiles; `add` keeps what the result of backward-filter holds already."""
    if by_threads(form.problem):
        return _by_threads(form, tiles, add)
    if form.apart:
        return multiply_apart(form, tiles, add)
    if form.math == "3xfp16":
        return multiply_split(form, tiles, add)
    prepare()
    calls = list(_calls(form, tiles, add))

    def run(addresses: Mapping[str, int]) -> None:
        for call in calls:
            call.gemm(*(addresses[name] + start for name, start in call.operands))

    return run


# ---- small groups ------------------------------------------------------------------------------------------


class Sizes(ctypes.Structure):
    """struct Sizes of cuda_fft_products.cu"""

    _fields_ = [(name, ctypes.c_int) for name in ("frequencies", "groups", "tiles", "c", "k")]


def _by_threads(form: Spectral, tiles: int, add: bool) -> Products:
    p, (c, k) = form.problem, form.depths
    kernel = source(p.precision)[FUNCTIONS[p.direction]]
    sizes = by_value(Sizes(form.spectrum, p.groups, tiles, c, k))
    scale = compute_dtype(p.precision).type(form.scale)
    results = {Direction.FWD: tiles * k, Direction.BWD_DATA: tiles * c, Direction.BWD_FILTER: k * c}
    grid = -(-form.spectrum * p.groups * results[p.direction] // THREADS)

    def run(at: Mapping[str, int]) -> None:
        kernel(grid, THREADS, at["x"], at["w"], at["y"], sizes, scale, int(add))

    return run


# ---- matrix products ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operand:
    """x, w or y: bytes to the group's first number, elements from row to row and from matrix to matrix."""

    name: str
    start: int
    row: int
    matrix: int
    spectra: Spectra

    def at(self, row: int) -> int:
        """Bytes to a row."""
        return self.start + row * self.row * self.spectra.itemsize


@dataclass(frozen=True)
class Call:
    """A batched product, with its operands and the bytes from their addresses to where they begin."""

    gemm: Gemm
    operands: tuple[tuple[str, int], ...]


def _calls(form: Spectral, tiles: int, add: bool) -> Iterator[Call]:
    p, stored = form.problem, spectra(form, tiles)
    for group in range(p.groups):
        a, b, c = (_operand(form, name, stored[name], group) for name in PRODUCTS[p.direction])
        if p.direction is Direction.BWD_FILTER:
            yield from _sums(form, tiles, add, a, b, c)
            continue
        depth = a.spectra.unit * a.spectra.columns
        gemm = _gemm(form, tiles, depth, (a, b, c), transpose_b=p.direction is Direction.FWD)
        yield Call(gemm, tuple((operand.name, operand.start) for operand in (a, b, c)))


def _sums(form: Spectral, tiles: int, add: bool, y: Operand, x: Operand, w: Operand) -> Iterator[Call]:
    """Backward-filter sums over tiles, in parts."""
    longest = LONGEST_HALVES if form.halves else LONGEST
    for first in range(0, tiles, longest):
        count = min(longest, tiles - first)
        gemm = _gemm(form, y.spectra.unit * y.spectra.columns, count, (y, x, w), transpose_a=True, add=add)
        yield Call(gemm, ((y.name, y.at(first)), (x.name, x.at(first)), (w.name, w.start)))
        add = True


def _operand(form: Spectral, name: str, stored: Spectra, group: int) -> Operand:
    rows = form.depths[1] if name == "w" else 1
    row = stored.unit * stored.columns if name == "w" else form.problem.groups * stored.unit * stored.row
    start = group * rows * stored.row * stored.unit * stored.itemsize
    return Operand(name, start, row, stored.unit * stored.frequency, stored)


def _gemm(
    form: Spectral,
    m: int,
    depth: int,
    operands: tuple[Operand, Operand, Operand],
    transpose_a: bool = False,
    transpose_b: bool = False,
    add: bool = False,
) -> Gemm:
    a, b, c = operands
    return Gemm(
        m=m,
        n=c.spectra.unit * c.spectra.columns,
        k=depth,
        input=a.spectra.number,
        output=c.spectra.number,
        tf32=form.math == "tf32",
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        lda=a.row,
        ldb=b.row,
        ldc=c.row,
        batch=form.spectrum,
        stride_a=a.matrix,
        stride_b=b.matrix,
        stride_c=c.matrix,
        alpha=form.scale,
        beta=float(add),
    )
