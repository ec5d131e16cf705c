"""How spectra are stored, so that the products find their operands; and the workspace they make up."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import ceil, log2, prod

import numpy as np

from convbench.api import Direction, Problem
from convbench.dtypes import compute_dtype

from . import gpu_fft
from .cuda_fft_form import Spectral, Whole, by_threads
from .gpu_blas import Number

ALIGNMENT = 256
SLAB_BYTES = 16 << 20  # spectra transformed at a time by cuFFT: what surrounds it finds them in cache
MOST_SLABS = 32  # of one tensor: each is three launches

# The factors of the products and their result, and the operands as the caller gives them.
PRODUCTS = {
    Direction.FWD: ("x", "w", "y"),
    Direction.BWD_DATA: ("y", "w", "x"),
    Direction.BWD_FILTER: ("y", "x", "w"),
}
GIVEN = {Direction.FWD: ("x", "w"), Direction.BWD_DATA: ("y", "w"), Direction.BWD_FILTER: ("x", "y")}
CONJUGATE = {Direction.FWD: "w", Direction.BWD_DATA: "", Direction.BWD_FILTER: "y"}


class Matrix(ctypes.Structure):
    """struct Matrix of cuda_fft_complex.cuh"""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("row", "twin")),
        *((name, ctypes.c_int) for name in ("frequency", "columns", "sign", "bits", "other_bits")),
    ]


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """One matrix a frequency of `number`s, `unit` of which make a complex one.

    A row has the channels of one group; rows are output channels, or tiles and groups. Spectra that are
    `apart` have that many frequencies one behind the other, lane by lane.
    """

    number: Number
    unit: int
    rows: int
    columns: int
    apart: int = 0
    twins: bool = False
    sign: int = 1
    bits: tuple[int, int] = (0, 0)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.number).itemsize

    @property
    def bytes(self) -> int:
        """Of one frequency."""
        return self.frequency * self.unit * self.itemsize

    @property
    def row(self) -> int:
        """From a row to the next, in complex numbers as all strides; a twin comes between them."""
        return self.columns * (1 + self.twins)

    @property
    def frequency(self) -> int:
        return self.rows * self.row

    @property
    def matrix(self) -> Matrix:
        """As the transforms see it; lanes that are apart are a matrix of one column."""
        if self.apart:
            return Matrix(self.apart, 0, 1, 1, self.sign, *self.bits)
        twin = self.columns if self.twins else 0
        return Matrix(self.row, twin, self.frequency, self.columns, self.sign, *self.bits)


def spectra(form: Spectral, tiles: int) -> dict[str, Spectra]:
    """Those of x, w and y for so many tiles of a channel.

    cuBLAS has complex products in fp32, and so have we; all others are real ones of twice the size.
    """
    p, (c, k) = form.problem, form.depths
    result = PRODUCTS[p.direction][2]
    bits = _bits(form)
    a, b = (bits[name] for name in GIVEN[p.direction])
    number: Number = (
        "float64" if _is_double(p) else "float32" if form.math in ("tf32", "fp16") else "complex64"
    )
    unit = 1 if number == "complex64" else 2
    itself = unit == 1 or by_threads(p) or form.apart  # products are complex ones

    def stored(name: str, rows: int, columns: int) -> Spectra:
        factor = name != result
        return Spectra(
            number="float16" if form.halves and factor else number,
            unit=unit,
            rows=rows,
            columns=columns,
            apart=form.spectrum if form.apart else 0,
            twins=name == "w" and not itself,
            sign=-1 if itself and name == CONJUGATE[p.direction] else 1,
            bits=(bits[name], 0) if factor else (a, b),
        )

    images = tiles * p.groups
    return {"x": stored("x", images, c), "w": stored("w", p.k, c), "y": stored("y", images, k)}


def _is_double(problem: Problem) -> bool:
    return compute_dtype(problem.precision).itemsize == 8


def _bits(form: Spectral) -> dict[str, int]:
    """log2 of what the spectra of numbers up to 1 stay below; the kernels give twice the transform."""
    wide, narrow = (ceil(log2(2 * prod(sizes))) for sizes in (form.sizes, form.steps))
    filters = ceil(log2(2 * prod(form.taps)))
    return {"x": narrow if form.backward else wide, "w": filters, "y": wide if form.backward else narrow}


# ---- workspace ---------------------------------------------------------------------------------------------


def blocks(form: Spectral) -> dict[str, int]:
    """Bytes of the spectra of the largest chunk, of the two peaks that scale halves, and of cuFFT's."""
    _, _, narrow = next(form.parts())
    sizes = {name: form.spectrum * each.bytes for name, each in spectra(form, narrow.tiles).items()}
    if form.halves:
        sizes["peaks"] = 2 * np.dtype(np.float32).itemsize
    if isinstance(form, Whole):
        number = form.complex.itemsize
        sizes["grid"] = prod(form.sizes) * slab(form) * number // 2
        sizes["slab"] = form.spectrum * slab(form) * number
        sizes["work"] = max(plan.work_bytes for plan in plans(form))
    return sizes


def places(form: Spectral) -> dict[str, int]:
    """Where each block begins, and the `end` of the last."""
    found, start = {}, 0
    for name, size in blocks(form).items():
        found[name] = start
        start += -(-size // ALIGNMENT) * ALIGNMENT
    return {**found, "end": start}


def slab(form: Whole) -> int:
    """Lanes that cuFFT transforms at a time."""
    _, wide, narrow = next(form.parts())
    lanes = max(wide.width, narrow.width, form.filters)
    return min(lanes, max(SLAB_BYTES // (form.spectrum * form.complex.itemsize), ceil(lanes / MOST_SLABS)))


def plans(form: Whole) -> tuple[gpu_fft.Transforms, gpu_fft.Transforms]:
    """cuFFT's, forward and inverse."""
    kind = compute_dtype(form.problem.precision).name
    forward, inverse = (gpu_fft.transforms(form.sizes, slab(form), kind, back) for back in (False, True))
    return forward, inverse
