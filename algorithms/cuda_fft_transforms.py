"""From tensors to spectra and back: by our own kernels for square tiles, through cuFFT for whole images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from convbench.api import Array, Precision
from convbench.dtypes import compute_dtype

from .cuda_fft_form import Spectral, Whole, sizes
from .cuda_fft_spectra import plans, slab
from .gpu import C_TYPES, Source

FUNCTIONS = ("tiles_to_spectra", "taps_to_spectra", "spectra_to_tiles", "spectra_to_taps")
WHOLE_FUNCTIONS = ("pad", "crop", "to_matrices", "to_spectra")
# Lanes that a block transforms, in single precision; where it writes spectra; where not lanes are neighbours
# but frequencies.
LANES = {16: 16, 32: 16, 64: 8, 128: 2}
LANES_WRITTEN = {16: 16, 32: 8, 64: 4, 128: 2}
LANES_APART = {16: 16, 32: 8, 64: 4, 128: 1}
SIDE, DEPTH = 32, 8  # lanes and points that a block moves, and its threads
PEAK_BLOCKS, PEAK_THREADS = 1056, 256  # eight a multiprocessor


@dataclass(frozen=True)
class Lanes:
    """One tensor as the kernels see it; `peak` is its place among the peaks, `taps` tells filters."""

    count: int
    map: Any
    matrix: Any
    peak: int = 0
    taps: bool = False


class Transforms(Protocol):
    """Both ways between a tensor and its spectra; `at` holds the addresses of the workspace's blocks."""

    def forward(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None: ...

    def inverse(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None: ...


def transforms(form: Spectral) -> Transforms:
    return Images(form) if isinstance(form, Whole) else Squares(form)


def sources() -> Iterator[Source]:
    """Every compilation there is."""
    for precision in (Precision.FP64, Precision.FP32, Precision.FP16, Precision.BF16):
        yield whole_source(precision)
        for tile in sizes(precision, threads=True):
            yield tile_source(precision, tile)
        for tile in sizes(precision, threads=False):
            yield tile_source(precision, tile, apart=True)
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        yield peak_source(precision)
        for tile in sizes(precision, threads=False):
            yield tile_source(precision, tile, halves=True)


# ---- square tiles ------------------------------------------------------------------------------------------


def tile_source(precision: Precision, tile: int, halves: bool = False, apart: bool = False) -> Source:
    lanes = _lanes(precision, tile, halves, apart)
    defines: tuple[tuple[str, str | int], ...] = (
        *(("ELEMENT", C_TYPES[precision]), ("TILE", tile)),
        *zip(("FORWARD_LANES", "INVERSE_LANES"), lanes, strict=True),
        *(("HALVES", int(halves)), ("APART", int(apart))),
    )
    return Source("cuda_fft_tiles.cu", FUNCTIONS, defines)


def peak_source(precision: Precision) -> Source:
    return Source("cuda_fft_peak.cu", ("peak",), (("ELEMENT", C_TYPES[precision]),))


def _lanes(precision: Precision, tile: int, halves: bool, apart: bool) -> tuple[int, int]:
    """Forward, where spectra are written, and back."""
    forward, inverse = LANES if halves else LANES_WRITTEN, LANES
    if apart:
        forward = inverse = LANES_APART
    size = compute_dtype(precision).itemsize
    return forward[tile] * 4 // size, inverse[tile] * 4 // size


def shared_bytes(precision: Precision, tile: int, lanes: int) -> int:
    """What the exchange of so many lanes takes; its strides are those of the .cu."""
    lane = -(-tile // 2 * (tile + 1) // 16) * 16 + max(1, 16 // lanes)
    return lanes * lane * 2 * compute_dtype(precision).itemsize


def refusal(form: Spectral) -> str:
    """Why this device cannot transform such tiles, or nothing."""
    if not form.tile:
        return ""
    import cupy

    runtime = cupy.cuda.runtime
    precision = form.problem.precision
    need = shared_bytes(precision, form.tile, max(_lanes(precision, form.tile, form.halves, form.apart)))
    have = runtime.getDeviceProperties(runtime.getDevice())["sharedMemPerBlockOptin"]
    if need <= have:
        return ""
    return f"a block needs {need} bytes of shared memory, this device has {have}; take a smaller tile"


class Squares:
    """One kernel each way."""

    def __init__(self, form: Spectral) -> None:
        precision = form.problem.precision
        self._kernels = tile_source(precision, form.tile, form.halves, form.apart).load()
        self._tile = form.tile
        self._lanes = _lanes(precision, form.tile, form.halves, form.apart)
        self._shared = [shared_bytes(precision, form.tile, lanes) for lanes in self._lanes]
        for kernel in self._kernels.values():
            kernel.allow_shared(max(self._shared))

    def forward(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None:
        peak = at["peaks"] + 4 * lanes.peak if "peaks" in at else 0
        name = "taps_to_spectra" if lanes.taps else "tiles_to_spectra"
        self._launch(name, False, image, spectra, lanes, peak)

    def inverse(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None:
        name = "spectra_to_taps" if lanes.taps else "spectra_to_tiles"
        self._launch(name, True, image, spectra, lanes, at.get("peaks", 0))

    def _launch(self, name: str, inverse: bool, image: Array, spectra: int, lanes: Lanes, peaks: int) -> None:
        at_once = self._lanes[inverse]
        self._kernels[name](
            -(-lanes.count // at_once), at_once * self._tile,
            image, spectra, lanes.count, lanes.map, lanes.matrix, peaks, shared=self._shared[inverse],
        )  # fmt: skip


class Peaks:
    """The largest absolute values of both operands."""

    def __init__(self, precision: Precision) -> None:
        self._kernel = peak_source(precision)["peak"]

    def find(self, a: Array, b: Array, at: Mapping[str, int]) -> None:
        import cupy

        peaks = at["peaks"]
        cupy.cuda.runtime.memsetAsync(peaks, 0, 8, cupy.cuda.get_current_stream().ptr)
        for i, operand in enumerate((a, b)):
            blocks = min(PEAK_BLOCKS, -(-operand.size // PEAK_THREADS))
            self._kernel(blocks, PEAK_THREADS, operand, int(operand.size), peaks + 4 * i)


# ---- whole images ------------------------------------------------------------------------------------------


def whole_source(precision: Precision) -> Source:
    return Source("cuda_fft_whole.cu", WHOLE_FUNCTIONS, (("ELEMENT", C_TYPES[precision]),))


class Images:
    """Slab by slab: pad, transform, transpose; and the other way round."""

    def __init__(self, form: Whole) -> None:
        self._sizes, self._frequencies, self._slab = form.sizes, form.spectrum, slab(form)
        self._kernels = whole_source(form.problem.precision).load()
        self._plans = plans(form)
        for plan in self._plans:
            plan.warm_up()

    def forward(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None:
        for part in self._parts(lanes):
            self._move("pad", image, lanes, part, at)
            self._plans[0].run(at["grid"], at["slab"], at["work"])
            self._transpose("to_matrices", spectra, lanes, part, at)

    def inverse(self, image: Array, spectra: int, lanes: Lanes, at: Mapping[str, int]) -> None:
        for part in self._parts(lanes):
            self._transpose("to_spectra", spectra, lanes, part, at)
            self._plans[1].run(at["slab"], at["grid"], at["work"])
            self._move("crop", image, lanes, part, at)

    def _parts(self, lanes: Lanes) -> Iterator[range]:
        for first in range(0, lanes.count, self._slab):
            yield range(first, min(first + self._slab, lanes.count))

    def _move(self, name: str, image: Array, lanes: Lanes, part: range, at: Mapping[str, int]) -> None:
        grid = _grid(prod(self._sizes), part)
        bounds = part.start, part.stop, *self._sizes
        self._kernels[name](grid, (SIDE, DEPTH), image, at["grid"], *bounds, lanes.map)

    def _transpose(self, name: str, spectra: int, lanes: Lanes, part: range, at: Mapping[str, int]) -> None:
        grid = _grid(self._frequencies, part)
        bounds = part.start, part.stop, self._frequencies
        self._kernels[name](grid, (SIDE, DEPTH), at["slab"], spectra, *bounds, lanes.matrix)


def _grid(points: int, lanes: range) -> tuple[int, int]:
    return -(-points // SIDE), -(-len(lanes) // SIDE)
