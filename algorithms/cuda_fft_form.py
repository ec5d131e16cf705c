"""The FFT on CUDA before anything runs: which tiles, how much at a time, and by which arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod

from convbench.api import Precision, Problem
from convbench.problem import Pair

from .overlap_save import Form
from .tiles import Cut

SIZES = (16, 32, 64, 128)  # there are kernels for these
SMALL_SIZES = (16, 32)  # in fp64, of which a thread cannot hold more; and for what is rare, to compile less
LARGEST_TILE = 64  # of an image that is cut; 128 points write half sectors, which whole images only are worth
CACHED = 25 << 20  # bytes of spectra that stay in the L2 cache between kernels: half of it
MOST_CHUNKS, MOST_WHOLE_CHUNKS = 64, 16  # each is three launches; where cuFFT transforms, many more
FEW = 16  # channels of a group below which a matrix product is not worth its launch
VERY_FEW = 8  # channels of x or y up to which products do next to nothing beside reading and writing

# Arithmetic of the products that keeps a precision's class, the usual one first.
MATHS = {
    Precision.FP64: ("fma",),
    Precision.FP32: ("fma", "3xfp16"),
    Precision.TF32: ("tf32", "fp16"),
    Precision.FP16: ("fp16",),
    Precision.BF16: ("fp16",),
}
WHOLE_MATHS = {Precision.TF32: "tf32", Precision.BF16: "tf32"}  # cuFFT's spectra are fp32


@dataclass(frozen=True, kw_only=True)
class Spectral(Form):
    """A form of the CPU with the arithmetic of its products.

    fma      fp32 or fp64
    tf32     factors rounded to TF32
    fp16     factors in scaled fp16, which has as many digits
    3xfp16   three products of scaled fp16 for one of fp32, split on the way: its accuracy from tensor cores
    """

    math: str

    @property
    def spectrum(self) -> int:
        """Frequencies that are stored."""
        return prod(self.frequencies)

    @property
    def scale(self) -> float:
        """What undoes the scaling of the transforms."""
        return 1 / prod(self.sizes)

    @property
    def halves(self) -> bool:
        """Whether factors are stored in fp16."""
        return self.math == "fp16"

    @property
    def arithmetic(self) -> str:
        """The precision that the factors of the products have."""
        if self.math in ("fp16", "3xfp16"):
            return "fp16"
        return self.math if self.math == "tf32" else f"fp{4 * self.complex.itemsize}"

    @property
    def depths(self) -> Pair:
        """Columns of x and of y that belong to one group."""
        return depths(self.problem)

    @property
    def apart(self) -> bool:
        """Whether the frequencies of a lane are neighbours, not the lanes of a frequency."""
        return False


@dataclass(frozen=True, kw_only=True)
class Square(Spectral):
    """Square tiles, transformed by our own kernels."""

    def _window(self, whole: Cut, taps: int) -> Pair:
        _, step = super()._window(whole, taps)
        return self.tile, min(self.tile, whole.step) if taps == 1 else step

    @property
    def is_whole(self) -> bool:
        return all(wide.count == 1 for wide, _ in self.cuts)

    @property
    def spectrum(self) -> int:
        return self.tile**2 // 2 + (4 if self.apart else 2)  # apart, lanes begin where sectors of memory do

    @property
    def apart(self) -> bool:
        return has_few_channels(self.problem)

    @property
    def scale(self) -> float:
        return 1 / (2 * self.tile) ** 2


@dataclass(frozen=True, kw_only=True)
class Whole(Spectral):
    """Whole images in their own size, transformed by cuFFT."""

    tile: int = 0


def depths(problem: Problem) -> Pair:
    """Columns of x and of y that belong to one group."""
    return problem.c // problem.groups * prod(problem.stride), problem.k // problem.groups


def has_few_channels(problem: Problem) -> bool:
    """Whether x or y has so few channels that products are element by element."""
    return problem.groups == 1 and min(depths(problem)) <= VERY_FEW


def by_threads(problem: Problem) -> bool:
    """Whether groups are so small that threads multiply them, not matrix products."""
    return problem.groups > 1 and min(problem.c, problem.k) // problem.groups < FEW


def sizes(precision: Precision, threads: bool) -> tuple[int, ...]:
    """Tiles that there are kernels for; small groups of 16-bit tensors are rare."""
    few = precision is Precision.FP64 or (threads and precision.itemsize == 2)
    return SMALL_SIZES if few else SIZES


def forms(problem: Problem) -> dict[str, Spectral]:
    """Tiles from twice the filter up to one that holds the image, then cuFFT; each for parts of the batch."""
    found = (
        replace(form, images=images)
        for form in (*_squares(problem), _whole(problem))
        for images in _chunks(form)
    )
    return {name_of(form): form for form in found}


def small_forms(problem: Problem) -> list[Spectral]:
    """Every tile that holds the filter, for the whole batch; spectra of small ones take less memory."""
    return list(_squares(problem, least=1))


def named(problem: Problem, name: str) -> Spectral:
    """The form with this name."""
    kind, _, images = name.partition("_chunk")
    whole = next(one for one in (*small_forms(problem), _whole(problem)) if name_of(one) == kind)
    return replace(whole, images=int(images or problem.n))


def name_of(form: Spectral) -> str:
    name = f"tile{form.tile}" if form.tile else "whole"
    if form.math != _maths(form.problem, form.tile)[0] and form.tile:
        name = f"{name}_{form.math}"
    return name if form.images == form.problem.n else f"{name}_chunk{form.images}"


def _maths(problem: Problem, tile: int) -> tuple[str, ...]:
    if by_threads(problem) or has_few_channels(problem):
        return ("fma",)
    maths = MATHS[problem.precision]
    return maths if problem.groups == 1 and _can_split(problem, tile) else maths[:1]


def _can_split(problem: Problem, tile: int) -> bool:
    """Whether numbers can be moved by twos, as splitting kernels do, on a tile that many channels choose."""
    if problem.precision is not Precision.FP32:
        return True
    return tile <= LARGEST_TILE and all(depth % 2 == 0 for depth in depths(problem))


def _squares(problem: Problem, least: int = 2) -> Iterator[Spectral]:
    """Tiles of at least so many filters' length, and one that holds the image."""
    for tile in sizes(problem.precision, by_threads(problem)):
        maths = _maths(problem, tile)
        made = [Square(problem=problem, images=problem.n, tile=tile, math=math) for math in maths]
        is_whole = max(made[0].taps) <= tile and made[0].is_whole
        if is_whole or least * max(made[0].taps) <= tile <= LARGEST_TILE:
            yield from made
        if is_whole:
            return


def _whole(problem: Problem) -> Spectral:
    math = "fma" if by_threads(problem) else WHOLE_MATHS.get(problem.precision, "fma")
    return Whole(problem=problem, images=problem.n, math=math)


def _chunks(form: Spectral) -> list[int]:
    """Images at a time: all, a quarter and, if fewer, what the L2 cache holds; a choice of workspaces."""
    n, (wide, narrow) = form.problem.n, form.whole
    image = form.spectrum * form.complex.itemsize * (wide.width + narrow.width) // n
    cached = max(ceil(n / (MOST_CHUNKS if form.tile else MOST_WHOLE_CHUNKS)), CACHED // image)
    return sorted({n, ceil(n / 4), cached if 8 * cached <= n else n}, reverse=True)
