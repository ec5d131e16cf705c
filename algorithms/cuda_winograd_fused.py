"""Winograd F(2 x 2, 3 x 3) on Hopper, fused: transformed tiles and products never reach memory.

The other variants write both, so that layers of few channels wait for memory; here x is read, y is written,
and filters, transformed before, are read from the cache. Three fp16 products, as in `3xfp16`. Powers of two
keep to the range of fp16: of filters one for each channel of a block, of tiles one that a warp finds on the
way. Workspace: transformed filters, and their powers of two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench import cuda
from convbench.api import Array, Direction, Layout, Precision, Problem, Variant

from . import gpu_maps
from .cuda_implicit_tiles import Hopper
from .cuda_winograd_operands import filters_struct
from .gpu import Source, by_value, pointer
from .gpu_launch import launch
from .gpu_maps import Map
from .winograd import Form

__all__ = ["NAME", "Fused", "FusedPlan", "fused", "sources"]

NAME = "fused2_3xfp16"
FILTERS, DEEP = 64, 16  # of a block; channels of a step; these and what follows as in cuda_winograd_fused.cu
POINTS, PRODUCTS = 16, 3
IMAGE, FACTORS = POINTS * FILTERS * DEEP * 4, DEEP * 4  # bytes of a step
THREADS, SHARED = 384, 230_400 + 1024 + 128
PARTS = 2  # of a block of filters, which blocks of threads transform
FILTER_THREADS = FILTERS // PARTS * DEEP
MAP_BYTES, MAP_ALIGNMENT, FP32, PROMOTE_128B = 128, 64, 7, 2  # CU_TENSOR_MAP_DATA_TYPE_FLOAT32
NO_MAP = np.zeros(1, f"V{MAP_BYTES}")
LONGEST = 512  # channels: tensor cores sum them without rounding, and lose digits of more
LARGEST = 2**29 - 1  # numbers of an image


@dataclass(frozen=True)
class Block:
    """Rows of tiles, pairs of them in a row, images; 32 pairs in all. `time` is relative to the best."""

    rows: int
    pairs: int
    images: int
    time: float

    @property
    def box(self) -> tuple[int, ...]:
        """Columns, rows, channels and images of a step, as they are copied at once."""
        return 4 * self.pairs + 8, 2 * self.rows + 1, DEEP, self.images

    def source(self, bulk: bool) -> Source:
        sizes = ("ROWS", self.rows), ("PAIRS", self.pairs), ("IMAGES", self.images)
        return Hopper("cuda_winograd_fused.cu", ("fused",), (*sizes, ("BULK", int(bulk))))


SIDES = (4, 8, 1, 1.0), (8, 4, 1, 1.18), (2, 8, 2, 1.03), (2, 4, 4, 1.3)  # of an H200
BLOCKS = tuple(Block(*sides) for sides in SIDES)
_FINITE = (("ELEMENT", "float"), ("STEP", 2), ("TAPS", 3), ("POINTS", "0.0,1.0,-1.0"))
TRANSFORM = Source("cuda_winograd_fused_filters.cu", ("fused_filters",), _FINITE)


def sources() -> Iterator[Source]:
    yield TRANSFORM
    yield from (block.source(bulk) for block, bulk in product(BLOCKS, (False, True)))


class ShapeStruct(ctypes.Structure):
    """Shape in cuda_winograd_fused.cu."""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("x_image", "y_image")),
        *((name, ctypes.c_int) for name in ("height", "width", "lead_rows", "lead_cols")),
        *((name, ctypes.c_int) for name in ("out_height", "out_width", "images", "channels", "filters")),
        *((name, ctypes.c_int) for name in ("steps", "filter_blocks", "patch_rows", "patch_cols", "items")),
        ("vector", ctypes.c_int),
    ]


def fused(problem: Problem, hopper: bool) -> Fused | None:
    """The kernel for this problem, if it is one of those that it is written for."""
    p = problem
    form = Fused(Form(problem=p, images=p.n, m=2))
    plain = p.taps == (3, 3) and p.dilation == (1, 1) and p.groups == 1
    stored = p.precision is Precision.FP32 and p.layout is Layout.NCHW
    small = form.channels <= LONGEST and max(p.c * p.h * p.w, p.k * p.p * p.q) <= LARGEST
    known = plain and stored and small and p.direction is not Direction.BWD_FILTER
    return form if hopper and known else None


@dataclass(frozen=True)
class Fused:
    """How a problem is cut into items: 64 tiles times 64 filters each."""

    form: Form

    @property
    def channels(self) -> int:
        """That are summed."""
        return self.form.problem.k if self.form.backward else self.form.problem.c

    @property
    def filters(self) -> int:
        """Channels of what is computed."""
        return self.form.problem.c if self.form.backward else self.form.problem.k

    @property
    def steps(self) -> int:
        return -(-self.channels // DEEP)

    @property
    def filter_blocks(self) -> int:
        return -(-self.filters // FILTERS)

    @property
    def bulk(self) -> bool:
        """Whether windows are copied at once: the copy engine wants whole 16 bytes."""
        cols = self.form.whole[0].cols
        return cols.size % 4 == 0 and cols.lead == 1

    @cached_property
    def block(self) -> Block:
        """That of the shortest time."""
        return min(BLOCKS, key=self._time)

    def _time(self, block: Block) -> float:
        """Of items that follow one another."""
        items = self._patches(block) * self.filter_blocks
        return -(-items // cuda.facts().multiprocessors) * block.time

    def cut(self, block: Block) -> tuple[int, int, int]:
        """Patches of an image, down and across; groups of images."""
        rows, cols = self.form.whole[1].rows.count, self.form.whole[1].cols.count
        sizes = (rows, block.rows), (cols, 2 * block.pairs), (self.form.problem.n, block.images)
        down, across, groups = (-(-size // step) for size, step in sizes)
        return down, across, groups

    def _patches(self, block: Block) -> int:
        down, across, groups = self.cut(block)
        return down * across * groups

    @property
    def items(self) -> int:
        return self._patches(self.block) * self.filter_blocks

    @property
    def blocks(self) -> int:
        """That stay."""
        return min(self.items, cuda.facts().multiprocessors)

    def struct(self) -> ShapeStruct:
        wide, narrow = self.form.whole
        x, y = (wide.rows.size, wide.cols.size), (narrow.rows.size, narrow.cols.size)
        images = self.channels * x[0] * x[1], self.filters * y[0] * y[1]
        counts = self.form.problem.n, self.channels, self.filters, self.steps, self.filter_blocks
        down, across, _ = self.cut(self.block)
        leads = wide.rows.lead, wide.cols.lead
        return ShapeStruct(*images, *x, *leads, *y, *counts, down, across, self.items, gcd(y[1], 4))

    def map(self, address: int) -> Map:
        """The images, for the copy engine."""
        rows, cols = self.form.whole[0].rows.size, self.form.whole[0].cols.size
        sizes = cols, rows, self.channels, self.form.problem.n
        strides = 4 * cols, 4 * cols * rows, 4 * cols * rows * self.channels
        return Map(address, False, sizes, strides, self.block.box[1])

    # ---- workspace -----------------------------------------------------------------------------------------

    @property
    def images_bytes(self) -> int:
        return self.filter_blocks * self.steps * IMAGE

    @property
    def workspace_bytes(self) -> int:
        return self.images_bytes + self.filter_blocks * self.steps * FACTORS

    def variant(self) -> Variant:
        details = {
            "tile": "x".join(map(str, self.form.sizes)),
            "points": "0, 1, -1, inf",
            "math": "3xfp16",
            "arithmetic": "fp16",
            "images": self.form.problem.n,
            "flops": 2 * self.form.points * self.form.count * self.form.filters * PRODUCTS,
            "products": f"fused{self.block.rows}x{2 * self.block.pairs}x{self.block.images}",
            "deterministic": True,
        }
        return Variant(NAME, self.workspace_bytes, exact=False, details=details)


def encode(tensor: Map, box: tuple[int, ...]) -> NDArray[np.void]:
    """The kernel argument for copies of boxes of fp32, as they are, and zeros for what is outside."""
    raw = (ctypes.c_char * (MAP_BYTES + MAP_ALIGNMENT))()
    start = -ctypes.addressof(raw) % MAP_ALIGNMENT
    place, rank = ctypes.addressof(raw) + start, len(tensor.sizes)
    sizes, strides = (ctypes.c_uint64 * rank)(*tensor.sizes), (ctypes.c_uint64 * (rank - 1))(*tensor.strides)
    boxes, steps = (ctypes.c_uint32 * rank)(*box), (ctypes.c_uint32 * rank)(*[1] * rank)
    about = ctypes.c_void_p(place), FP32, rank, ctypes.c_void_p(tensor.address), sizes, strides, boxes, steps
    status = gpu_maps._driver().cuTensorMapEncodeTiled(*about, 0, 0, PROMOTE_128B, 0)
    if status:
        raise RuntimeError(f"the driver refuses to encode {tensor}: CUresult {status}")
    return np.frombuffer(raw.raw[start : start + MAP_BYTES], dtype=f"V{MAP_BYTES}")


class FusedPlan:
    """Forward, and backward-data as forward on dy: two launches."""

    def __init__(self, form: Fused) -> None:
        problem = form.form.problem
        self.form, self.shape = form, by_value(form.struct())
        self.w = by_value(filters_struct(problem, problem.flip != form.form.backward))
        self.transform = TRANSFORM["fused_filters"]
        self.convolve = form.block.source(form.bulk)["fused"]
        self.convolve.allow_shared(SHARED)
        self.maps: dict[int, Any] = {}

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        form = self.form
        images = pointer(workspace)
        factors = images + form.images_bytes
        sizes = form.filters, form.channels, int(form.form.backward)
        grid = form.filter_blocks, form.steps, PARTS
        self.transform(grid, FILTER_THREADS, b, self.w, images, factors, *sizes)
        if (start := pointer(a)) not in self.maps:
            self.maps[start] = encode(form.map(start), form.block.box) if form.bulk else NO_MAP
        arguments = self.maps[start], a, images, factors, out, self.shape
        launch(self.convolve, (form.blocks,), (THREADS,), *arguments, shared=SHARED)

    def close(self) -> None:
        pass
