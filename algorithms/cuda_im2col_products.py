"""The matrix products of im2col: who plays which part, batched over groups, images or parts of a sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

from convbench.api import Direction, Precision

from .cuda_im2col_lowering import Chunk, Matrix
from .gpu_blas import LARGE_LIBRARY_BYTES, Gemm, Number, stored

LONGEST_SUMS = {Precision.FP32: 4096}  # of a filter gradient: longer chains of fp32 leave accuracy class S
LONGEST_SUM = 16384
SHORTEST_SUM = 512
TILE, ENOUGH_TILES = 128, 256  # of a product, to fill a GPU twice


@dataclass(frozen=True)
class Operand:
    """A matrix of every product; `strides` in elements along group, matrix and part."""

    name: str
    leading: int
    strides: Mapping[str, int]
    itemsize: int
    transposed: bool = False


@dataclass(frozen=True)
class Product:
    """One call of cuBLAS; byte offsets from where its operands begin."""

    gemm: Gemm
    offsets: Mapping[str, int]

    def enqueue(self, addresses: Mapping[str, int]) -> None:
        self.gemm(*(addresses[name] + offset for name, offset in self.offsets.items()))


def shifted(product: Product, bytes_at: Mapping[str, int]) -> Product:
    """The same on operands that begin so many bytes later."""
    return replace(product, offsets={n: at + bytes_at.get(n, 0) for n, at in product.offsets.items()})


def products(chunk: Chunk, cut: int, accumulates: bool) -> Iterator[Product]:
    """What is multiplied for a chunk. Filter gradients are sums over pixels, in parts of this length."""
    p = chunk.problem
    outputs = p.k // p.groups
    w = _operand("w", chunk, Matrix(chunk.length, outputs * chunk.length, 0, 0))
    y, columns = _operand("y", chunk, chunk.y), _operand("columns", chunk, chunk.columns)
    sizes = {"group": p.groups, "matrix": chunk.matrices}
    if p.direction is Direction.BWD_FILTER:
        yield from _gradients(chunk, y, columns, cut, accumulates)
    elif p.direction is Direction.FWD and chunk.planes:
        yield from batches(chunk, sizes, (outputs, chunk.pixels, chunk.length), w, columns, y)
    elif p.direction is Direction.FWD:
        turned = replace(w, transposed=True)
        yield from batches(chunk, sizes, (chunk.pixels, outputs, chunk.length), columns, turned, y)
    elif chunk.planes:
        turned = replace(w, transposed=True)
        yield from batches(chunk, sizes, (chunk.length, chunk.pixels, outputs), turned, y, columns)
    else:
        yield from batches(chunk, sizes, (chunk.pixels, chunk.length, outputs), y, w, columns)


def sum_length(chunk: Chunk) -> int:
    """How many pixels of a filter gradient one product sums: few enough for accuracy and parallelism."""
    p = chunk.problem
    longest = LONGEST_SUMS.get(p.precision, LONGEST_SUM)
    tiles = ceil(p.k / p.groups / TILE) * ceil(chunk.length / TILE) * p.groups * chunk.matrices
    parallel = min(ceil(ENOUGH_TILES / tiles), ceil(chunk.pixels / SHORTEST_SUM))
    count = max(ceil(chunk.pixels / longest), parallel)
    return ceil(chunk.pixels / count / 8) * 8


def parts(chunk: Chunk) -> int:
    """Partial filter gradients of a chunk."""
    return chunk.matrices * ceil(chunk.pixels / sum_length(chunk))


def _gradients(chunk: Chunk, y: Operand, columns: Operand, cut: int, accumulates: bool) -> Iterator[Product]:
    p = chunk.problem
    outputs, whole, rest = p.k // p.groups, chunk.pixels // cut, chunk.pixels % cut
    size = p.k * chunk.length
    count = whole + (rest > 0)
    strides = {"group": outputs * chunk.length, "matrix": count * size, "part": size}
    sums = Operand("parts", chunk.length, strides, chunk.wide_itemsize)
    y = replace(y, strides={**y.strides, "part": cut * chunk.y.pixel}, transposed=not chunk.planes)
    step = cut * chunk.columns.pixel
    columns = replace(columns, strides={**columns.strides, "part": step}, transposed=chunk.planes)
    sizes = {"group": p.groups, "matrix": chunk.matrices, "part": whole}
    shape = outputs, chunk.length, cut
    if whole:
        yield from batches(chunk, sizes, shape, y, columns, sums, beta=float(accumulates))
    if rest:
        last = {**sizes, "part": 1}, (outputs, chunk.length, rest), y, columns, sums
        yield from batches(chunk, *last, beta=float(accumulates), part=whole)


def _operand(name: str, chunk: Chunk, matrix: Matrix) -> Operand:
    wide = name == "columns" and chunk.lowers and chunk.problem.direction is Direction.BWD_DATA
    size = chunk.wide_itemsize if wide else chunk.itemsize
    return Operand(name, matrix.leading, {"group": matrix.group, "matrix": matrix.matrix}, size)


def batches(
    chunk: Chunk,
    sizes: Mapping[str, int],
    shape: tuple[int, int, int],
    a: Operand,
    b: Operand,
    c: Operand,
    beta: float = 0.0,
    part: int = 0,
) -> Iterator[Product]:
    """One call over the longest axis for every index of the others."""
    along = max(sizes, key=lambda axis: sizes[axis])
    others = [axis for axis in sizes if axis != along]
    tf32 = chunk.problem.precision is Precision.TF32
    m, n, k = shape
    gemm = Gemm(
        m, n, k, _kind(chunk, a), _kind(chunk, c), tf32, a.transposed, b.transposed,
        a.leading, b.leading, c.leading, sizes[along],
        a.strides[along], b.strides[along], c.strides[along], beta=beta, library_bytes=LARGE_LIBRARY_BYTES,
    )  # fmt: skip
    for index in product(*(range(sizes[axis]) for axis in others)):
        at = dict(zip(others, index, strict=True))
        at["part"] = at.get("part", 0) + part
        offsets = {o.name: sum(i * o.strides.get(axis, 0) for axis, i in at.items()) for o in (a, b, c)}
        yield Product(gemm, {o.name: offsets[o.name] * o.itemsize for o in (a, b, c)})


def _kind(chunk: Chunk, operand: Operand) -> Number:
    return stored(chunk.problem.precision) if operand.itemsize == chunk.itemsize else "float32"
