"""One way of Winograd on CUDA: operands, products and workspace, to the byte, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from convbench.api import Direction, Layout, Precision, Variant

from .cuda_winograd_operands import COPIES, HALF, SINGLE, SPLIT, Operand, operand
from .gpu import C_TYPES, Source
from .gpu_blas import LIBRARY_BYTES, Gemm
from .winograd import Form

Points = tuple[Fraction, ...]

ALIGNMENT = 256
UNIT = 8  # tiles are padded to so many: rows of operands then suit the widest accesses
LONGEST = 512  # tiles summed by one product: longer fp32 sums lose digits, so the parts are added up apart
MOST_PRODUCTS = 65535  # of one call
FUNCTIONS = (
    "data_tiles", "filters", "gradient_tiles", "inverse_tiles", "inverse_filters", "sum_parts",
    "channel_maxima", "data_maxima", "filter_maxima", "gradient_maxima", "peak", "scales",
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

    @property
    def source(self) -> Source:
        return source(self.problem.r, self.m, self.finite, self.problem.precision)

    @property
    def stored(self) -> int:
        return FORMS[self.math]

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
        return min(most, -(-self.images * self.spots // LONGEST))

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
        return operand(
            self.whole[narrow].channels,
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

    def gemm(self, beta: float) -> Gemm:
        """All products of a chunk."""
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
            "flops": 2 * self.points * self.count * self.filters * COPIES[self.stored],
            "deterministic": True,
        }
        return Variant(name, self.workspace_bytes, library_bytes=LIBRARY_BYTES, exact=False, details=details)


def _aligned(size: int, unit: int) -> int:
    return -(-size // unit) * unit
