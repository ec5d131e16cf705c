"""One way of Winograd on CUDA: operands, products and workspace, to the byte, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from convbench.api import Direction, Layout, Precision, Variant

from .cuda_winograd_operands import (
    COPIES,
    HALF,
    PAIR,
    PRODUCTS,
    SINGLE,
    SPLIT,
    UNIT,
    WOVEN,
    Operand,
    operand,
    pair,
)
from .cuda_winograd_products import Multiplied
from .gpu import C_TYPES, Source
from .gpu_blas import LIBRARY_BYTES, Gemm
from .winograd import Form

Points = tuple[Fraction, ...]

ALIGNMENT = 256
LONGEST = 512  # tiles summed by one product: longer fp32 sums lose digits, so the parts are added up apart
PROMOTED = 2048  # the same of our own products, which are added up apart in the kernel as well
SHORT = 32  # tiles a row, above which rows are long enough to be written directly
MOST_PRODUCTS = 65535  # of one call
FUNCTIONS = (
    "data_tiles", "gradient_tiles", "inverse_tiles", "inverse_staged", "filters", "filters_across",
    "inverse_filters", "sum_parts", "channel_maxima", "plane_maxima", "data_maxima", "gradient_maxima",
    "filter_maxima", "peak", "scales", "balance",
)  # fmt: skip
FORMS = {
    "fma": SINGLE,
    "tf32": SINGLE,
    "fp16": HALF,
    "3xfp16": SPLIT,
}  # products, and how operands are stored
ARITHMETIC = {"fma": "fp32", "tf32": "tf32", "fp16": "fp16", "3xfp16": "fp16"}


def source(taps: int, m: int, points: Points, precision: Precision) -> Source:
    """The transforms of F(m x m, taps x taps) on tensors of this precision."""
    finite = ",".join(str(float(point)) for point in points)
    defines = ("ELEMENT", C_TYPES[precision]), ("STEP", m), ("TAPS", taps), ("POINTS", finite)
    return Source("cuda_winograd.cu", FUNCTIONS, defines)


@dataclass(frozen=True, kw_only=True)
class CudaForm(Form):
    """F(m x m, r x r) with these finite points and this arithmetic of the products."""

    finite: Points
    math: str
    hopper: bool = False

    @property
    def source(self) -> Source:
        return source(self.problem.r, self.m, self.finite, self.problem.precision)

    @property
    def own(self) -> bool:
        """Whether our own kernel multiplies; channels that it sums have to come in wholes."""
        p = self.problem
        whole = self.by_tile or (p.k if self.backward else p.c) // p.groups % UNIT == 0
        return self.hopper and self.math == "3xfp16" and whole

    @property
    def inner(self) -> bool:
        """Whether products sum along rows of the operands."""
        return self.by_tile != self.channels_last

    @property
    def across(self) -> bool:
        """Whether output channels are neighbours in transformed filters."""
        return self.own and self.backward == self.channels_last

    @property
    def staged(self) -> bool:
        """Whether results go through shared memory: rows are short, and not of pairs."""
        rows, cols = self.cuts[0][1], self.cuts[1][1]
        whole = rows.parts == cols.parts == 1 and not self.channels_last
        return whole and cols.size % 2 == 1 and cols.count <= SHORT

    @property
    def stored(self) -> int:
        return (WOVEN if self.inner else PAIR) if self.own else FORMS[self.math]

    @property
    def scaled(self) -> bool:
        return self.stored != SINGLE

    @property
    def by_tile(self) -> bool:
        """Backward-filter sums over tiles, the others over channels."""
        return self.problem.direction is Direction.BWD_FILTER

    @property
    def spots(self) -> int:
        """Tiles of an image."""
        return self.count // self.problem.n

    @property
    def results(self) -> int:
        """Channels of what is computed."""
        return self.whole[1].groups * self.whole[1].channels

    @property
    def keys(self) -> int:
        """Scales of one operand: one for every channel that is summed over, or tile with its padding."""
        if self.by_tile:
            before = (self.problem.n - 1) // self.images * self.images * self.spots
            return before + self.tile_parts * self.length
        return self.problem.k if self.backward else self.problem.c

    @property
    def tile_parts(self) -> int:
        if not self.by_tile:
            return 1
        most = max(1, MOST_PRODUCTS // (self.points * self.problem.groups))
        longest = PROMOTED if self.own else LONGEST
        return min(most, -(-self.images * self.spots // longest))

    @property
    def length(self) -> int:
        """Tiles of a part."""
        return _aligned(-(-self.images * self.spots // self.tile_parts), UNIT)

    # ---- operands ------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Operand:
        """V: transformed tiles of x, or of dy in backward-data."""
        return self._of_tiles(0, self.stored)

    @cached_property
    def left(self) -> Operand:
        """U: transformed filters, or tiles of dy that act as filters. Filters lie in memory as (K/g, C/g)."""
        if self.by_tile:
            return self._of_tiles(1, self.stored, left=True)
        return self._of_filters(self.stored)

    @cached_property
    def products(self) -> Operand:
        """M."""
        return self._of_filters(SINGLE) if self.by_tile else self._of_tiles(1, SINGLE)

    def _of_tiles(self, narrow: int, stored: int, left: bool = False) -> Operand:
        channels = self.whole[narrow].channels
        if stored in (PAIR, WOVEN):
            sizes = channels, self.length, self.problem.groups, self.tile_parts
            return pair(*sizes, inner=self.inner, channels_last=self.channels_last)
        return operand(
            channels,
            self.length,
            self.problem.groups,
            self.tile_parts,
            form=stored,
            by_tile=self.by_tile,
            channels_last=self.channels_last,
            left=left,
        )

    def _of_filters(self, stored: int) -> Operand:
        p = self.problem
        if stored in (PAIR, WOVEN):
            sizes = p.c // p.groups, p.k // p.groups, p.groups
            return pair(*sizes, inner=self.inner, channels_last=not self.across)
        return operand(
            p.c // p.groups,
            p.k // p.groups,
            p.groups,
            self.tile_parts,
            form=stored,
            by_tile=self.backward,
            channels_last=True,
            left=True,
        )

    @property
    def channels_last(self) -> bool:
        return self.problem.layout is Layout.NHWC

    # ---- products ------------------------------------------------------------------------------------------

    def multiplied(self) -> Multiplied:
        """All products of a chunk, as our own kernel is told."""
        first, second = (self.data, self.left) if self.data_first else (self.left, self.data)
        result, terms = self.products, self.length if self.by_tile else self.data.depth
        rows, cols = (result.length, result.depth) if result.channel == 1 else (result.depth, result.length)
        batch = self.points * self.tile_parts
        return Multiplied(first, second, result, rows, cols, terms, batch, self.problem.groups)

    def gemm(self, beta: float) -> Gemm:
        """The same, as cuBLAS is."""
        summed = self.length if self.by_tile else self.data.depth
        result, last = self.products, self.channels_last
        first, second = (self.data, self.left) if self.data_first else (self.left, self.data)
        if self.by_tile:
            m, n, transposed = result.length, result.depth, (last, not last)
        elif last:
            m, n, transposed = result.length, result.depth, (False, not self.backward)
        else:
            m, n, transposed = result.depth, result.length, (self.backward, False)
        return Gemm(
            m,
            n,
            COPIES[self.stored] * summed,
            input="float16" if self.scaled else "float32",
            tf32=self.math == "tf32",
            transpose_a=transposed[0],
            transpose_b=transposed[1],
            lda=first.row,
            ldb=second.row,
            batch=self.points * self.tile_parts * self.problem.groups,
            stride_a=first.group,
            stride_b=second.group,
            stride_c=result.group,
            beta=beta,
        )

    @property
    def data_first(self) -> bool:
        """Whether rows of the products are tiles: M' = V' U'."""
        return self.channels_last and not self.by_tile

    # ---- workspace -----------------------------------------------------------------------------------------

    @cached_property
    def areas(self) -> dict[str, int]:
        """Bytes of what the workspace holds, in order."""
        sizes = {name: getattr(self, name).bytes(self.points) for name in ("data", "left", "products")}
        if self.scaled:
            sizes |= {"peak": ALIGNMENT, "data_scales": 4 * self.keys, "left_scales": 4 * self.keys}
        return {name: _aligned(size, ALIGNMENT) for name, size in sizes.items()}

    @property
    def workspace_bytes(self) -> int:
        return sum(self.areas.values())

    @property
    def library_bytes(self) -> int:
        return 0 if self.own else LIBRARY_BYTES

    @property
    def streamed(self) -> int:
        """Bytes of what grows with the images."""
        return self.areas["data"] + self.areas["left" if self.by_tile else "products"]

    def named(self, name: str) -> Variant:
        details = {
            "tile": "x".join(map(str, self.sizes)),
            "points": ", ".join([*map(str, self.finite), "inf"]),
            "math": self.math,
            "arithmetic": ARITHMETIC[self.math],
            "images": self.images,
            "flops": 2 * self.points * self.count * self.filters * PRODUCTS[self.stored],
            "products": self.multiplied().tile().name if self.own else "cublas",
            "deterministic": True,
        }
        return Variant(
            name, self.workspace_bytes, library_bytes=self.library_bytes, exact=False, details=details
        )


def _aligned(size: int, unit: int) -> int:
    return -(-size // unit) * unit
