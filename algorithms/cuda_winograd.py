"""Winograd convolution on CUDA, unfused but for one variant: transforms of our own around batched products.

The mathematics and the names are those of winograd.py: tiles become a x a points, and every point is one
matrix product. In fp32 it goes through SGEMM ("fma") or through three fp16 products of high and low halves
("3xfp16"), which tensor cores make faster at the same accuracy; "tf32" and "fp16" products give less. cuBLAS
multiplies; on Hopper a kernel of our own makes the three products, and `details` say which did. For fp16
both operands are scaled by powers of two, which follow from their largest values in a pass over them.
Workspace: both transformed operands and the products, of the batch or of a chunk of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from convbench.api import Array, Plan, Precision, Problem, Variant

from . import gpu_blas
from .cuda_winograd_forms import MOST_PRODUCTS, CudaForm
from .cuda_winograd_fused import NAME, FusedPlan, fused
from .cuda_winograd_operands import filters_struct, tiles_struct
from .cuda_winograd_products import Multiply, can_multiply
from .cuda_winograd_variants import TAPS, forms, sources, too_large
from .gpu import by_value, missing, pointer
from .winograd import Winograd

__all__ = ["ALGORITHMS", "CudaWinograd", "sources"]

THREADS, WARP = 128, 32
BLOCKS = 2048  # of kernels whose threads loop
ACROSS, DEEP, STAGED, PLANE = 64, 4, 128, 256  # as in cuda_winograd.cu
FEW, ALL = 8192, 1024  # scales that one block makes; its threads
IMAGES = 32  # that a thread takes the maximum of
LARGEST_GRID = 65535
WIDE, NARROW = 0, 1  # images, as Tiling has them
SCALES = ("peak", "data_scales", "left_scales")
SCALE_BYTES = 4

Addresses = Mapping[str, int]
Products = gpu_blas.Gemm | Multiply
Shape = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class CudaWinograd:
    """Minimal filtering; for dense, grouped and dilated 3x3 and 5x5 filters."""

    name: str = "winograd"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        if problem.precision is Precision.FP64:
            return "fp64: the transforms are computed in fp32; Winograd in fp64 runs with --device cpu"
        if reason := Winograd().reject(problem):
            return reason
        if problem.r != problem.s or problem.r not in TAPS:
            return f"{problem.r}x{problem.s} filter: the GPU's transforms are those of 3x3 and 5x5 filters"
        if too_large(problem):
            return f"{problem}: the tiles, or the elements of an image's row, are more than 32 bits count"
        if (products := (problem.r + 1) ** 2 * problem.groups) > MOST_PRODUCTS:
            return f"g{problem.groups}: {products} products or more; a call of cuBLAS takes {MOST_PRODUCTS}"
        return missing()

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        hopper = can_multiply()
        found = forms(problem, workspace_limit, hopper)
        named = [form.named(name) for name, form in found.items()]
        return [*named, form.variant()] if (form := fused(problem, hopper)) else named

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        if variant.name == NAME and (form := fused(problem, can_multiply())):
            return FusedPlan(form)
        whole = forms(problem, hopper=can_multiply())[variant.name.partition("_chunk")[0]]
        return CudaWinogradPlan(replace(whole, images=variant.details["images"]))


class CudaWinogradPlan:
    """The three directions; all that is left for `run` is to launch."""

    def __init__(self, form: CudaForm) -> None:
        self.form, self.problem, self.kernels = form, form.problem, form.source.load()
        self.first, self.further = _products(form)
        self.w = by_value(filters_struct(form.problem, form.problem.flip != form.backward))
        self.data, self.products = by_value(form.data.struct()), by_value(form.products.struct())
        self.left = by_value(form.left.struct())
        self.starts = dict(zip(form.areas, accumulate(form.areas.values(), initial=0), strict=False))
        self.images = [_structs(form, side) for side in (WIDE, NARROW)]

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        at = {name: pointer(workspace) + start for name, start in self.starts.items()}
        if self.form.scaled:
            self._scale(a, b, at)
        if self.form.by_tile:
            self._backward_filter(a, b, out, at)
        else:
            self._correlate(a, b, out, at)

    def close(self) -> None:
        pass

    def _correlate(self, image: Array, w: Array, out: Array, at: Addresses) -> None:
        """Forward, and backward-data as forward on dy."""
        left = at["left"], self.left, at.get("left_scales", 0), int(self.form.backward)
        if self.form.across:
            grid = _ceil(self.problem.k, ACROSS), _ceil(self.form.data.depth, DEEP)
            grid = grid[0], min(grid[1], LARGEST_GRID)
            self.kernels["filters_across"](grid, (ACROSS, DEEP), w, self.w, *left)
        else:
            self._over_filters("filters", w, self.w, *left)
        for first in range(0, self.problem.n, self.form.images):
            self._transform_data(image, first, at)
            self._multiply(self.first, at)
            self._inverse_tiles(out, first, at)

    def _backward_filter(self, x: Array, dy: Array, out: Array, at: Addresses) -> None:
        for first in range(0, self.problem.n, self.form.images):
            self._transform_data(x, first, at)
            left = at["left"], self.left, self._scales("left_scales", first, at), 1
            self._over_tiles("gradient_tiles", NARROW, *self._image(NARROW, dy, first), *left)
            self._multiply(self.further if first else self.first, at)
        products = self.form.products
        if products.parts > 1:
            blocks = min(_ceil(products.part, THREADS), BLOCKS)
            self.kernels["sum_parts"]((blocks, self.form.points), THREADS, at["products"], self.products)
        self._over_filters("inverse_filters", out, self.w, at["products"], self.products, at.get("peak", 0))

    # ---- steps ---------------------------------------------------------------------------------------------

    def _transform_data(self, image: Array, first: int, at: Addresses) -> None:
        scales = self._scales("data_scales", first, at)
        source = self._image(WIDE, image, first)
        self._over_tiles("data_tiles", WIDE, *source, at["data"], self.data, scales, int(self.form.by_tile))

    def _inverse_tiles(self, out: Array, first: int, at: Addresses) -> None:
        arguments = *self._image(NARROW, out, first), at["products"], self.products, at.get("peak", 0)
        if self.form.staged:
            tiles = min(self.form.images, self.problem.n - first) * self.form.spots
            grid = _ceil(tiles, STAGED), min(self.form.results, LARGEST_GRID)
            self.kernels["inverse_staged"](grid, STAGED, *arguments)
        else:
            self._over_tiles("inverse_tiles", NARROW, *arguments)

    def _multiply(self, multiply: Products, at: Addresses) -> None:
        first, second = ("data", "left") if self.form.data_first else ("left", "data")
        multiply(at[first], at[second], at["products"])

    def _scale(self, a: Array, b: Array, at: Addresses) -> None:
        """A power of two for every channel or tile that is summed over, from the largest values there."""
        import cupy

        form, keys = self.form, self.form.keys
        size = sum(form.areas[name] for name in SCALES)
        cupy.cuda.runtime.memsetAsync(at["peak"], 0, size, cupy.cuda.get_current_stream().ptr)
        if form.by_tile:
            self._maxima("data_maxima", WIDE, a, at["data_scales"])
            self._maxima("gradient_maxima", NARROW, b, at["left_scales"])
        else:
            self._channel_maxima(a, b, at)
        maxima = at["data_scales"], at["left_scales"], at["peak"], keys
        if keys <= FEW:
            self.kernels["balance"](1, ALL, *maxima)
            return
        for kernel in ("peak", "scales"):
            self.kernels[kernel](min(_ceil(keys, THREADS), BLOCKS), THREADS, *maxima)

    def _channel_maxima(self, image: Array, w: Array, at: Addresses) -> None:
        """Of both operands; where pixels are neighbours at once, in blocks that look at several images."""
        form, n = self.form, self.problem.n
        filters = w, self.w, at["left_scales"], int(form.backward)
        if form.channels_last:
            self._maxima("channel_maxima", WIDE, image, at["data_scales"])
            self.kernels["filter_maxima"](BLOCKS, THREADS, *filters)
            return
        tiles = form.whole[WIDE]
        channels, pixels = tiles.groups * tiles.channels, tiles.rows.size * tiles.cols.size
        slices, high = min(_ceil(n, IMAGES), LARGEST_GRID - 1), min(channels, LARGEST_GRID)
        wide = min(_ceil(pixels, PLANE), max(1, BLOCKS // (slices * high)))
        planes = image, self.images[WIDE][n], at["data_scales"]
        self.kernels["plane_maxima"]((wide, high, 1 + slices), PLANE, *planes, *filters)

    def _maxima(self, kernel: str, side: int, image: Array, maxima: int) -> None:
        """A few threads for every channel or tile, which loop over what they take the maximum of."""
        form, tiles = self.form, self.form.whole[side]
        spots = form.count if form.by_tile else tiles.rows.size * tiles.cols.size
        (x, y), block = self._shape(tiles.groups * tiles.channels, spots, narrowest=WARP)
        along_warps = form.by_tile == form.channels_last
        grid = (min(x, max(1, BLOCKS // y)), y) if along_warps else (x, min(y, max(1, BLOCKS // x)))
        self.kernels[kernel](grid, block, image, self.images[side][self.problem.n], maxima)

    # ---- launches ------------------------------------------------------------------------------------------

    def _over_tiles(self, kernel: str, side: int, *arguments: Any) -> None:
        """A thread for every channel and tile of a chunk."""
        form, tiles = self.form, self.form.whole[side]
        grid, block = self._shape(tiles.groups * tiles.channels, form.length * form.tile_parts)
        self.kernels[kernel](grid, block, *arguments)

    def _over_filters(self, kernel: str, *arguments: Any) -> None:
        """A thread for every filter of one channel."""
        grid, block = _shape(self.problem.c // self.problem.groups, self.problem.k, THREADS)
        self.kernels[kernel](grid, block, *arguments)

    def _shape(self, channels: int, tiles: int, narrowest: int = 1) -> Shape:
        """Grid and block; a warp lies along what is contiguous in the operands."""
        if self.form.channels_last:
            return _shape(channels, tiles, WARP, narrowest)
        return _shape(tiles, channels, THREADS, narrowest)

    # ---- arguments -----------------------------------------------------------------------------------------

    def _image(self, side: int, array: Array, first: int) -> tuple[int, Any]:
        """A chunk of images, from the first on, and how it is cut."""
        count = min(self.form.images, self.problem.n - first)
        return pointer(array, first * (array.size // self.problem.n)), self.images[side][count]

    def _scales(self, name: str, first: int, at: Addresses) -> int:
        """Where the scales of a chunk begin; 0 if nothing is scaled."""
        if not self.form.scaled:
            return 0
        return at[name] + (SCALE_BYTES * first * self.form.spots if self.form.by_tile else 0)


def _products(form: CudaForm) -> tuple[Products, Products]:
    """What multiplies the first chunk, and what further ones."""
    if form.own:
        return Multiply(form.multiplied()), Multiply(form.multiplied(), more=form.by_tile)
    gpu_blas.prepare()
    return form.gemm(0.0), form.gemm(1.0 if form.by_tile else 0.0)


def _structs(form: CudaForm, side: int) -> dict[int, Any]:
    """How images are cut, by their number: all of them, a chunk, what is left."""
    n, tiles = form.problem.n, form.whole[side]
    cut = [replace(tiles, images=count) for count in {n, form.images, n % form.images or n}]
    return {tiles.images: by_value(tiles_struct(tiles, form.problem, form.m)) for tiles in cut}


def _shape(fast: int, slow: int, widest: int, narrowest: int = 1) -> Shape:
    """Grid and block for threads that loop over what is slow."""
    width = max(narrowest, min(widest, 1 << (fast - 1).bit_length()))
    height = THREADS // width
    return (_ceil(fast, width), min(_ceil(slow, height), LARGEST_GRID)), (width, height)


def _ceil(size: int, step: int) -> int:
    return -(-size // step)


ALGORITHMS = (CudaWinograd(),)
