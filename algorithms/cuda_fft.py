"""FFT convolution on CUDA: products of spectra, over the whole image or over overlapping tiles.

    Y(f) = X(f) conj(W(f))    DX(f) = DY(f) W(f)    DW(f) = sum over tiles of conj(DY(f)) X(f)

The mathematics is that of `fft.py`, geometry included: overlap-save, a stride as phases. A single kernel
gathers tiles of 16 to 128 points, transforms them and stores one matrix a frequency, another does it back;
`whole` transforms images in their own size by cuFFT. Transforms are fp32 (fp64 for fp64); `math` tells the
arithmetic of the products. For `fp16` spectra are stored as such, scaled by powers of two that the largest
operands allow. `3xfp16` has spectra in fp32 and splits them on the way to tensor cores; fp32's digits are
kept as long as channels differ by less than 2^16 in size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log2, prod

from convbench.api import Array, Plan, Problem, Variant

from . import cuda_fft_products, cuda_fft_transforms, gpu_fft
from .cuda_fft_form import Spectral, Whole, by_threads, forms, name_of, named, small_forms
from .cuda_fft_maps import filter_map, narrow_map, wide_map
from .cuda_fft_products import Products
from .cuda_fft_spectra import GIVEN, PRODUCTS, places, spectra
from .cuda_fft_transforms import Lanes, Peaks
from .fft import FFT
from .gpu import Source, by_value, missing, pointer
from .gpu_blas import LIBRARY_BYTES
from .tiles import Tiles

# A rough model tells which tiles are not worth a measurement; rates a second of a recent GPU.
HOPELESS = 2.0
MOST_FITTING = 2  # variants made for a workspace limit
RATES = {"fp64": 50e12, "fp32": 50e12, "tf32": 300e12, "fp16": 600e12}
BYTES_RATE = 4e12

Step = tuple[str, Callable[[], None]]


@dataclass(frozen=True)
class CudaFFT:
    """Fast Fourier transforms; for every filter that overlaps its neighbour."""

    name: str = "fft"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        return missing() or FFT().reject(problem)

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        found = forms(problem)
        worth_it = [form for form in found.values() if _is_worth_it(form, found.values())]
        fitting = () if workspace_limit is None else _fitting(problem, workspace_limit)
        return [variant(form) for form in dict.fromkeys((*worth_it, *fitting))]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return FFTPlan(named(problem, variant.name))


def cost(form: Spectral) -> float:
    """Seconds that products and spectra, written and read once, may take."""
    size = form.spectrum * sum(each.bytes for each in spectra(form, form.whole[1].tiles).values())
    return _flops(form) / RATES[form.arithmetic] + 2 * size / BYTES_RATE


def _is_worth_it(form: Spectral, others: Iterable[Spectral]) -> bool:
    """Whether no other tile should be much faster with the same arithmetic."""
    alike = [other for other in others if other.math == form.math and other.tile]
    return not form.tile or cost(form) <= HOPELESS * min(map(cost, alike))


def _fitting(problem: Problem, limit: int) -> list[Spectral]:
    """What costs least of all tiles for as many images at a time as keep within the limit."""
    chunks = filter(None, (_chunk_within(form, limit) for form in small_forms(problem)))
    return sorted(chunks, key=cost)[:MOST_FITTING]


def _chunk_within(whole: Spectral, limit: int) -> Spectral | None:
    """The fewest chunks of nearly equal size that fit."""

    def needs(images: int) -> int:
        form = replace(whole, images=images)
        return places(form)["end"] + _library(form)

    n = whole.problem.n
    if needs(n) <= limit:
        return whole
    most = bisect_right(range(1, n), limit, key=needs)
    return replace(whole, images=ceil(n / ceil(n / most))) if most else None


def _flops(form: Spectral) -> int:
    return (3 if form.math == "3xfp16" else 1) * 8 * form.spectrum * form.whole[1].tiles * form.filters


def _library(form: Spectral) -> int:
    return 0 if by_threads(form.problem) or form.apart or form.math == "3xfp16" else LIBRARY_BYTES


def variant(form: Spectral) -> Variant:
    """What this form costs, or why it is refused."""
    wide, narrow = form.whole
    lanes, points = wide.width + narrow.width + form.filters, prod(form.sizes)
    details = {
        "tile": "x".join(map(str, form.sizes)),
        "images": form.images,
        "flops": _flops(form),
        "transform_flops": round(2.5 * points * log2(points) * lanes),
        "math": form.math,
        "arithmetic": form.arithmetic,
        "family": "fft",
        "deterministic": True,
    }
    if isinstance(form, Whole):
        details["backend"] = "cuFFT"
    try:
        refused, size = cuda_fft_transforms.refusal(form), places(form)["end"]
    except gpu_fft.CufftError as error:
        refused, size = str(error), 0
    return Variant(name_of(form), size, _library(form), exact=False, refused=refused, details=details)


def sources() -> Iterator[Source]:
    """Every compilation there is."""
    yield from cuda_fft_transforms.sources()
    yield from cuda_fft_products.sources()


@dataclass(frozen=True)
class Chunk:
    """Some images: the lanes of x, w and y, and what is to be multiplied."""

    lanes: dict[str, Lanes]
    multiply: Products


class FFTPlan:
    """Transform both operands, multiply, transform back; image chunk by image chunk."""

    def __init__(self, form: Spectral) -> None:
        direction = form.problem.direction
        self._places = places(form)
        self._given, self._result = GIVEN[direction], PRODUCTS[direction][2]
        self._transforms = cuda_fft_transforms.transforms(form)
        self._peaks = Peaks(form.problem.precision) if form.halves else None
        self._chunks = [_chunk(form, *part) for part in form.parts()]

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        for _, step in self.steps(a, b, out, pointer(workspace)):
            step()

    def steps(self, a: Array, b: Array, out: Array, workspace: int) -> Iterator[Step]:
        """What `run` does, by name. Filters are transformed once, images chunk by chunk."""
        at = {name: workspace + start for name, start in self._places.items()}
        if self._peaks:
            yield "peaks", partial(self._peaks.find, a, b, at)
        last = len(self._chunks) - 1
        for i, chunk in enumerate(self._chunks):
            for name, operand in zip(self._given, (a, b), strict=True):
                if name != "w" or i == 0:
                    yield name, partial(self._transforms.forward, operand, at[name], chunk.lanes[name], at)
            yield "products", partial(chunk.multiply, at)
            if self._result != "w" or i == last:
                lanes = chunk.lanes[self._result]
                yield self._result, partial(self._transforms.inverse, out, at[self._result], lanes, at)

    def close(self) -> None:
        pass


def _chunk(form: Spectral, images: slice, wide: Tiles, narrow: Tiles) -> Chunk:
    given, stored = GIVEN[form.problem.direction], spectra(form, narrow.tiles)
    maps = [(wide.width, wide_map(form, images.start)), (narrow.width, narrow_map(form, images.start))]
    x, y = reversed(maps) if form.backward else maps
    lanes = {}
    for name, (count, map_) in {"x": x, "y": y, "w": (form.filters, filter_map(form))}.items():
        peak = given.index(name) if name in given else 0
        lanes[name] = Lanes(count, by_value(map_), by_value(stored[name].matrix), peak, taps=name == "w")
    adds = "w" not in given and images.start > 0
    return Chunk(lanes, cuda_fft_products.products(form, narrow.tiles, adds))


ALGORITHMS = (CudaFFT(),)
