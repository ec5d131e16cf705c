"""Which tiles, points, products and chunks of Winograd are worth having on CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from convbench.api import Precision, Problem

from .cuda_winograd_forms import MOST_PRODUCTS, CudaForm, Points, source
from .gpu import Source
from .toomcook import LARGEST, POINTS
from .winograd import Form

TAPS = (3, 5)
STANDARD = tuple(Fraction(p) for p in (0, 1, -1, 2, -2))  # of the literature; those of toomcook.py err less
CACHED = 25 << 20  # half of the L2 cache: what operands and products of a chunk should fit in
MOST_CHUNKS = 128  # each costs a few launches
LARGEST_COUNT = 2**31 - 1

# Products that earn the class asked for, by a = m + r - 1: the more points, the more digits are lost.
EXACTLY = ("fma", "3xfp16")
CHOICES: dict[Precision, dict[int, tuple[str, ...]]] = {
    Precision.FP32: {4: EXACTLY, 6: EXACTLY, 8: EXACTLY},
    Precision.TF32: {4: ("tf32", "fp16"), 6: ("3xfp16",), 8: ("3xfp16",)},
    Precision.FP16: {4: ("fp16",), 6: ("3xfp16",), 8: ("3xfp16",)},
    Precision.BF16: {4: ("fp16",), 6: ("fp16", "3xfp16"), 8: ("3xfp16",)},
}
MANY = 512  # filters whose fp16 rounding averages out; of fewer, some sets miss the class


def tile_sizes(taps: int) -> dict[str, tuple[int, Points]]:
    """Outputs an axis and finite points, by name."""
    sizes = {f"f{m}": (m, POINTS[: m + taps - 2]) for m in (2, 4, 6) if m + taps - 1 <= LARGEST}
    return sizes | ({"f4s": (4, STANDARD)} if taps == 3 else {})


def sources() -> Iterator[Source]:
    for taps in TAPS:
        for name, (m, points) in tile_sizes(taps).items():
            for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
                if precision is Precision.FP32 or name != "f4s":
                    yield source(taps, m, points, precision)


def too_large(problem: Problem) -> bool:
    """Whether kernels would count beyond 32 bits."""
    p = problem
    rows, pixels = max(p.w * p.c, p.q * p.k), p.n * max(p.h * p.w, p.p * p.q)
    return max(rows, pixels, 2 * Form(problem=p, images=p.n, m=2).count) > LARGEST_COUNT


def forms(problem: Problem, limit: int | None = None, hopper: bool = False) -> dict[str, CudaForm]:
    """Tile sizes and products worth having, over the batch and over chunks of images."""
    found: dict[str, CudaForm] = {}
    for size, m, points in _useful_sizes(problem):
        for math in _products(problem, size):
            name = size if math == "fma" else f"{size}_{math}"
            whole = CudaForm(problem=problem, images=problem.n, m=m, finite=points, math=math, hopper=hopper)
            found[name] = whole
            chunks = _chunks(whole)
            kept = _within(chunks, limit) if size != "f4s" else []
            if size == "f4" or math in ("tf32", "fp16"):
                kept.append(next((one for one in chunks if one.streamed <= CACHED), chunks[-1]))
            found |= {f"{name}_chunk{chunk.images}": chunk for chunk in kept if chunk.images < problem.n}
    return found


def _chunks(whole: CudaForm) -> list[CudaForm]:
    """From the whole batch to many parts of it; the first that fits somewhere has the fewest."""
    n = whole.problem.n
    counts = dict.fromkeys(-(-n // chunks) for chunks in range(1, MOST_CHUNKS + 1))
    return [replace(whole, images=images) for images in counts]


def _within(chunks: list[CudaForm], limit: int | None) -> list[CudaForm]:
    """The fewest chunks that keep within the limit, if any do."""
    if limit is None:
        return []
    return [one for one in chunks if one.workspace_bytes + one.library_bytes <= limit][:1]


def _products(problem: Problem, size: str) -> list[str]:
    if size == "f4s":  # there to be compared with f4
        return ["fma"] if problem.precision is Precision.FP32 else []
    m, _ = tile_sizes(problem.r)[size]
    averaged = problem.r == 3 and problem.k * problem.c // problem.groups >= MANY
    choices = CHOICES[problem.precision][m + problem.r - 1]
    return list(dict.fromkeys("3xfp16" if math == "fp16" and not averaged else math for math in choices))


def _useful_sizes(problem: Problem) -> Iterator[tuple[str, int, Points]]:
    """Larger tiles only as long as they are fewer."""
    counts: dict[int, int] = {}
    for name, (m, points) in tile_sizes(problem.r).items():
        form = Form(problem=problem, images=problem.n, m=m)
        counts[m] = form.count
        fewest = all(form.count < count for smaller, count in counts.items() if smaller < m)
        if fewest and form.points * problem.groups <= MOST_PRODUCTS:
            yield name, m, points
