"""im2col + GEMM on CUDA: our kernels copy windows into columns and cuBLAS multiplies.

    y[K, P Q] = w[K, C R S] columns[C R S, P Q]     forward
    columns   = w^T dy,  dx = col2im(columns)       backward-data: every pixel gathers, nothing is atomic
    dw        = dy columns^T                        backward-filter, in parts that are summed in fixed order

im2col.py is the readable definition. Columns are R S times the image, so variants lower the whole batch, as
many images as leave the columns in the L2 cache, or one image at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import gcd, prod

from convbench.api import Array, Direction, Plan, Precision, Problem, Variant

from . import cuda_im2col_halves as halves
from . import cuda_im2col_halves_plan as halves_plan
from . import gpu, gpu_blas
from .cuda_im2col_lowering import LARGEST, MOST_IN_GRID, Chunk, Lowering, aligned, source
from .cuda_im2col_products import parts, products, sum_length
from .gpu import Kernel, Source, pointer

L2_BYTES = 32 << 20
MATH = {Precision.FP32: "fma", Precision.TF32: "tf32"}


@dataclass(frozen=True)
class CudaIm2col:
    """Lowering and GEMM in every direction, precision and layout."""

    name: str = "im2col"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        if reason := gpu.missing():
            return reason
        largest = max(prod(problem.image), prod(problem.output))
        if largest > LARGEST:
            return f"an image of {largest} pixels: columns are counted in 32 bits, up to {LARGEST}"
        widest = problem.groups * max(problem.k // problem.groups, Chunk(problem, 1, True).length)
        if widest * problem.precision.itemsize > LARGEST:
            return (
                f"a matrix with rows of {widest} numbers: their bytes are counted in 32 bits, up to {LARGEST}"
            )
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        found = chunks(problem) | _fitting(problem, workspace_limit)
        split = (in_halves(problem) | _fitting_halves(problem, workspace_limit)).items()
        return [
            *(_variant(name, chunk) for name, chunk in found.items()),
            *(halves.Halves(chunk).variant(name) for name, chunk in split),
        ]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        known, split = chunks(problem), in_halves(problem)
        if variant.name in split:
            return halves_plan.HalvesPlan(split[variant.name])
        if variant.name in known:
            return Im2colPlan(known[variant.name])
        number, _, form = variant.name.removeprefix("n").partition("_")
        if form:
            return halves_plan.HalvesPlan(replace(_best_halves(split), images=int(number)))
        return Im2colPlan(replace(known["whole"], images=int(number)))


def sources() -> Iterator[Source]:
    yield from dict.fromkeys(source(precision) for precision in Precision)
    yield from halves_plan.sources()


def chunks(problem: Problem) -> dict[str, Chunk]:
    """The variants: from the whole batch to one image, and all of it as one matrix where that differs."""
    n = min(problem.n, LARGEST // max(prod(problem.image), prod(problem.output) + 8), MOST_IN_GRID)
    one, merged = Chunk(problem, 1, True), Chunk(problem, n, True)
    beside = {"merged": merged} if one.planes and n > 1 else {}
    if not one.lowers:
        return {"gemm": replace(merged, merged=not one.planes)} | beside
    if problem.groups > 1 or not one.planes:
        whole, beside = merged, {}
    else:
        whole = replace(merged, merged=False)
    few = min(n, L2_BYTES // one.blocks()["columns"])
    small = {"l2": replace(whole, images=few)} if 1 < few < n else {}
    return {"whole": whole} | beside | small | ({"n1": one} if n > 1 else {})


def in_halves(problem: Problem) -> dict[str, Chunk]:
    """The variants on tensor cores: all of the batch, whose columns stream through memory."""
    if not halves.serves(problem):
        return {}
    known = chunks(problem)
    return {f"{name}_3xfp16": known[name] for name in ("whole", "merged", "gemm") if name in known}


def _best_halves(split: Mapping[str, Chunk]) -> Chunk:
    """What a limit cuts into chunks: of few images one large product is the faster one."""
    return split.get("merged_3xfp16") or next(iter(split.values()))


def _fitting(problem: Problem, limit: int | None) -> dict[str, Chunk]:
    """As many images as a limit allows, if no other variant has as many."""
    known = chunks(problem)
    if limit is None or "whole" not in known:
        return {}
    most = _most(known["whole"], limit, _bytes)
    taken = {chunk.images for chunk in known.values()}
    return {} if most == 0 or most in taken else {f"n{most}": replace(known["whole"], images=most)}


def _fitting_halves(problem: Problem, limit: int | None) -> dict[str, Chunk]:
    split = in_halves(problem)
    if limit is None or not split:
        return {}
    best = _best_halves(split)
    most = _most(best, limit, lambda chunk: halves.Halves(chunk).workspace)
    step = halves.UNIT // gcd(best.plane, halves.UNIT)  # pixels in eights: cuBLAS has slow kernels for others
    most -= most % step if most > step else 0
    return {f"n{most}_3xfp16": replace(best, images=most)} if 0 < most < best.images else {}


def _most(whole: Chunk, limit: int, size: Callable[[Chunk], int]) -> int:
    """Images that fit; with one more a chunk may take less, where its sums then need fewer parts."""
    room = limit - gpu_blas.LARGE_LIBRARY_BYTES

    def taken(images: int) -> int:
        return size(replace(whole, images=images))

    most = bisect_right(range(1, whole.images + 1), room, key=taken)
    while most and taken(most) > room:
        most -= 1
    return most


def _variant(name: str, chunk: Chunk) -> Variant:
    details = {
        "images": chunk.images,
        "flops": chunk.problem.flops,
        "deterministic": True,
        "math": MATH.get(chunk.problem.precision, "tensor_op"),
    }
    return Variant(name, _bytes(chunk), gpu_blas.LARGE_LIBRARY_BYTES, details=details)


def _bytes(chunk: Chunk) -> int:
    return sum(aligned(size) for size in _blocks(chunk).values())


def _blocks(chunk: Chunk) -> dict[str, int]:
    blocks = chunk.blocks()
    if chunk.problem.direction is Direction.BWD_FILTER:
        blocks["parts"] = parts(chunk) * prod(chunk.problem.w_shape) * chunk.wide_itemsize
    return blocks


class Im2colPlan:
    """Chunk after chunk on one stream."""

    def __init__(self, chunk: Chunk) -> None:
        self._problem = p = chunk.problem
        kernels = source(p.precision).load()
        gpu_blas.prepare(gpu_blas.LARGE_LIBRARY_BYTES)
        self._parts = parts(chunk)
        self._offsets = _offsets(_blocks(chunk))
        images = [min(chunk.images, p.n - start) for start in range(0, p.n, chunk.images)]
        cut = sum_length(chunk)
        made = {(n, i > 0): Step(replace(chunk, images=n), kernels, cut, i > 0) for i, n in enumerate(images)}
        self._steps = [made[n, i > 0] for i, n in enumerate(images)]

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        p = self._problem
        addresses = {name: pointer(workspace) + offset for name, offset in self._offsets.items()}
        names = {Direction.FWD: "xwy", Direction.BWD_DATA: "ywx", Direction.BWD_FILTER: "xyw"}[p.direction]
        tensors = dict(zip(names, map(pointer, (a, b, out)), strict=True))
        for step in self._steps:
            step.run(tensors, addresses)
            tensors["x"] += step.bytes_of(p.x_shape)
            tensors["y"] += step.bytes_of(p.y_shape)
        if p.direction is Direction.BWD_FILTER:
            self._steps[0].lowering.sum_parts(addresses["parts"], tensors["w"], self._parts)

    def close(self) -> None:
        pass


class Step:
    """One chunk: lowering, products, and y in and out of the order that they need."""

    def __init__(self, chunk: Chunk, kernels: Mapping[str, Kernel], cut: int, accumulate: bool) -> None:
        self.chunk, self.lowering = chunk, Lowering(chunk, kernels)
        self.products = list(products(chunk, cut, accumulate))

    def bytes_of(self, tensor: tuple[int, ...]) -> int:
        """Of as many images as this chunk has."""
        return self.chunk.images * prod(tensor[1:]) * self.chunk.itemsize

    def run(self, tensors: Mapping[str, int], blocks: Mapping[str, int]) -> None:
        chunk, direction = self.chunk, self.chunk.problem.direction
        operands = {**tensors, "columns": tensors["x"], **blocks}
        if not chunk.copies_y:  # as a last chunk of one image, which is in order as it is
            operands["y"] = tensors["y"]
        if chunk.lowers and direction is not Direction.BWD_DATA:
            self.lowering.lower(tensors["x"], operands["columns"])
        if chunk.copies_y and direction is not Direction.FWD:
            self.lowering.gather_y(tensors["y"], operands["y"])
        for product in self.products:
            product.enqueue(operands)
        if chunk.copies_y and direction is Direction.FWD:
            self.lowering.scatter_y(operands["y"], tensors["y"])
        if chunk.lowers and direction is Direction.BWD_DATA:
            self.lowering.raise_(operands["columns"], tensors["x"])


def _offsets(blocks: Mapping[str, int]) -> dict[str, int]:
    """Where each block begins."""
    starts = accumulate((aligned(size) for size in blocks.values()), initial=0)
    return dict(zip(blocks, starts, strict=False))


ALGORITHMS = (CudaIm2col(),)
