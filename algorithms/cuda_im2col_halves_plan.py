"""The launches of im2col in halves: scales, splitting, lowering, products, and y in its order."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, prod

from convbench.api import Array, Layout, Precision

from . import cuda_im2col_lowering as lowering
from . import cuda_implicit_operands as scaling
from . import gpu_blas
from .cuda_im2col_halves import Halves
from .cuda_im2col_lowering import Chunk, Lowering
from .gpu import Source, by_value, pointer

THREADS, TURNED, SCALE_THREADS = 256, 32, 1024
SOURCE = Source("cuda_im2col_halves.cu", ("split_images", "split_filters", "collect"))


class FiltersStruct(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int) for name in ("taps", "outputs", "pitch", "last"))


class HalvesPlan:
    """Scales and filters once, then chunk after chunk."""

    def __init__(self, chunk: Chunk) -> None:
        p, n = chunk.problem, chunk.problem.n
        gpu_blas.prepare(gpu_blas.LARGE_LIBRARY_BYTES)
        self._first = Halves(chunk)
        self._kernels = SOURCE.load()
        self._scales = scaling.source(Precision.FP32)["scales"]
        self._maxima = scaling.Images(p, "x", n).maxima(), scaling.Filters(p).maxima()
        images = [min(chunk.images, n - start) for start in range(0, n, chunk.images)]
        made = {count: Step(Halves(replace(chunk, images=count), like=chunk)) for count in images}
        self._steps = [made[count] for count in images]

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        at = {name: pointer(workspace) + offset for name, offset in self._first.places.items()}
        self._scale(pointer(a), pointer(b), at)
        self._split_filters(pointer(b), at)
        tensors = {"x": pointer(a), "y": pointer(out)}
        for step in self._steps:
            step.run(tensors, at)
            tensors["x"] += step.bytes_of(self._first.problem.x_shape)
            tensors["y"] += step.bytes_of(self._first.problem.y_shape)

    def close(self) -> None:
        pass

    def _scale(self, x: int, w: int, at: Mapping[str, int]) -> None:
        """An exponent for every channel, from the largest values there."""
        import cupy

        stream, size = cupy.cuda.get_current_stream().ptr, at["scale"] - at["x_scales"]
        cupy.cuda.runtime.memsetAsync(at["x_scales"], 0, size, stream)
        for maxima, tensor, name in zip(self._maxima, (x, w), ("x_scales", "w_scales"), strict=True):
            maxima(tensor, at[name])
        keys = at["x_scales"], at["w_scales"], at["scale"], self._first.problem.c
        self._scales(1, SCALE_THREADS, *keys)

    def _split_filters(self, w: int, at: Mapping[str, int]) -> None:
        halves, p = self._first, self._first.problem
        last = int(p.layout is Layout.NHWC)
        filters = FiltersStruct(prod(p.taps), halves.outputs, halves.pitch, last)
        grid = ceil(halves.pieces * halves.length / TURNED), ceil(halves.pitch / TURNED), p.groups
        structs = by_value(halves.parts_struct), by_value(filters)
        self._kernels["split_filters"](grid, THREADS, w, at["w"], at["w_scales"], *structs)


class Step:
    """One chunk: split, lowered, multiplied and put in order."""

    def __init__(self, halves: Halves) -> None:
        self.halves, chunk = halves, halves.chunk
        self._lowering = Lowering(halves.lowered, lowering.source(Precision.FP16).load())
        self._products, self._kernels = list(halves.products()), SOURCE.load()
        self._rows, self._inner = (
            (chunk.images, prod(chunk.problem.image))
            if chunk.planes
            else (chunk.images * prod(chunk.problem.image), 1)
        )

    def bytes_of(self, tensor: tuple[int, ...]) -> int:
        return self.halves.chunk.images * prod(tensor[1:]) * 4

    def run(self, tensors: Mapping[str, int], at: Mapping[str, int]) -> None:
        halves = self.halves
        vector = 4 if self._inner % 4 == 0 else 1
        blocks = ceil(self._rows * halves.lowered.problem.c // 2 * self._inner // vector / THREADS)
        parts = by_value(halves.parts_struct)
        arrays = tensors["x"], at["x"], at["x_scales"]
        self._kernels["split_images"](blocks, THREADS, *arrays, parts, self._rows, self._inner)
        operands = {"columns": at["x"], **at, "y": tensors["y"]}
        if halves.lowered.lowers:
            self._lowering.lower(at["x"], at["columns"])
        for product in self._products:
            product.enqueue(operands)
        self._collect(operands["sums" if halves.sums_apart else "y"], tensors["y"], at["scale"])

    def _collect(self, sums: int, y: int, scale: int) -> None:
        order = self.halves.order
        vector = 4 if order.inner % 4 == 0 else 1
        blocks = ceil(order.outer * order.middle * order.inner // vector / THREADS)
        self._kernels["collect"](blocks, THREADS, sums, y, scale, by_value(order))


def sources() -> Iterator[Source]:
    yield SOURCE
