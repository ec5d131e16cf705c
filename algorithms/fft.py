"""FFT convolution on the CPU: products of spectra, over the whole image or over overlapping tiles.

    Y(f) = X(f) conj(W(f))        for every frequency one matrix product, conjugated: cross-correlation

A circular correlation of length t gives t - R + 1 outputs free of wrap-around, so images are cut into tiles of t
that overlap by R - 1 (overlap-save); `whole` is the case of one tile. Backward-data correlates dy with turned
filters; backward-filter correlates x with tiles of dy and sums over the tiles.

No output is computed to be thrown away: a stride splits image and filter into phases, which are channels of a
stride-1 convolution with filters of R' = ceil(extent / stride) taps. Spectra keep frequencies first and channels
last, ready for the products, with SciPy transforming the leading axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import log2, prod
from typing import Any, cast

import numpy as np
from scipy import fft as sf

from convbench import threads
from convbench.api import Array, Direction, Plan, Problem, Variant
from convbench.problem import Pair

from .cpu import Block, Floats, block_bytes, carve, channels_first, compute_dtype, nchw, parallel, taps_view
from .tiles import Cut, Tiles, contract, gather, scatter

TILES = (16, 32, 64)


@dataclass(frozen=True)
class FFT:
    """Fast Fourier transforms; for every filter that overlaps its neighbour."""

    name: str = "fft"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        if problem.taps == (1, 1):
            return (
                "1x1 filter: it has no neighbourhood, its transform is the matrix product im2col already does"
            )
        if all(extent <= u for extent, u in zip(problem.extent, problem.stride, strict=True)):
            return (
                f"{problem.r}x{problem.s} filter with stride {problem.stride[0]}x{problem.stride[1]}: windows do "
                f"not overlap, so there is nothing to transform"
            )
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant(name) for name, form in forms(problem).items()]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return FFTPlan(forms(problem)[variant.name])


def forms(problem: Problem) -> dict[str, Form]:
    """Whole images, and tiles from twice the filter up to the image; each over the batch or one image a time."""
    whole = Form(problem, problem.n, 0)
    found = {"whole": whole}
    for tile in TILES:
        if 2 * max(whole.taps) <= tile < max(whole.sizes):
            found[f"tile{tile}"] = replace(whole, tile=tile)
    if problem.n > 1:
        found |= {f"{name}_chunk1": replace(form, images=1) for name, form in found.items()}
    return found


@dataclass(frozen=True)
class Form:
    """One transform length for one problem, `images` at a time; tile 0 is the whole image."""

    problem: Problem
    images: int
    tile: int

    @property
    def backward(self) -> bool:
        return self.problem.direction is Direction.BWD_DATA

    @cached_property
    def taps(self) -> Pair:
        """R' and S': taps of the filter phases."""
        axes = zip(self.problem.extent, self.problem.stride, strict=True)
        return cast(Pair, tuple((extent - 1) // u + 1 for extent, u in axes))

    @cached_property
    def cuts(self) -> tuple[tuple[Cut, Cut], tuple[Cut, Cut]]:
        """On both axes, the cut of the image that is read with overlap and the cut of the other one."""
        return self._cuts(0), self._cuts(1)

    @property
    def sizes(self) -> Pair:
        """Lengths of the transforms; 1 along an axis on which the filter phases have one tap."""
        return self.cuts[0][0].window, self.cuts[1][0].window

    @property
    def steps(self) -> Pair:
        """Outputs of one tile."""
        return self.cuts[0][1].window, self.cuts[1][1].window

    @property
    def frequencies(self) -> Pair:
        """Of real data: those of the last axis are symmetric."""
        return self.sizes[0], self.sizes[1] // 2 + 1

    @property
    def filters(self) -> int:
        """Elements of w for one tap of the phases."""
        return self.problem.k * self.problem.c // self.problem.groups * prod(self.problem.stride)

    def _cuts(self, axis: int) -> tuple[Cut, Cut]:
        p, u, taps = self.problem, self.problem.stride[axis], self.taps[axis]
        if self.backward:
            outputs = -(-(p.image[axis] + p.pad[axis][0]) // u)
            wide = Cut(p.output[axis], taps - 1, 1, outputs, outputs + taps - 1, 1)
            narrow = Cut(p.image[axis], p.pad[axis][0], u, outputs, outputs, 1)
        else:
            outputs = p.output[axis]
            wide = Cut(p.image[axis], p.pad[axis][0], u, outputs, outputs + taps - 1, 1)
            narrow = Cut(outputs, 0, 1, outputs, outputs, 1)
        window, step = self._window(wide, taps)
        sizes: dict[str, int] = {"step": step, "count": -(-outputs // step)}
        return replace(wide, window=window, **sizes), replace(narrow, window=step, **sizes)

    def _window(self, whole: Cut, taps: int) -> Pair:
        """Transform length and outputs of one tile."""
        if taps == 1:
            return 1, 1
        length = cast(int, sf.next_fast_len(_circular(whole, taps), real=True))
        if 0 < self.tile < length:
            return self.tile, self.tile - taps + 1
        return length, whole.step

    def wide(self, images: int) -> Tiles:
        """Tiles of x, or of dy in backward-data."""
        return self._tiles(0, images, self.problem.k if self.backward else self.problem.c, not self.backward)

    def narrow(self, images: int) -> Tiles:
        """Tiles of y or dy, or of dx in backward-data."""
        return self._tiles(1, images, self.problem.c if self.backward else self.problem.k, self.backward)

    def _tiles(self, which: int, images: int, channels: int, stacked: bool) -> Tiles:
        p, (rows, cols) = self.problem, self.cuts
        depth = channels // p.groups
        return Tiles(rows[which], cols[which], images, p.groups, depth, stacked, channels_first(p))

    def parts(self) -> Iterator[tuple[slice, Tiles, Tiles]]:
        """Images, wide and narrow tiles of each chunk."""
        for first in range(0, self.problem.n, self.images):
            images = slice(first, min(first + self.images, self.problem.n))
            count = images.stop - images.start
            yield images, self.wide(count), self.narrow(count)

    @property
    def complex(self) -> np.dtype:
        return np.result_type(compute_dtype(self.problem.precision), np.complex64)

    def blocks(self) -> dict[str, Block]:
        """Real tiles, filters on the way to their spectra, spectra of what plays the filter, and products."""
        real, spectra = compute_dtype(self.problem.precision), prod(self.frequencies)
        wide, narrow = self.wide(self.images).width, self.narrow(self.images).width
        chunks = 1 + (self.images < self.problem.n)
        tiles, gradients = prod(self.sizes) * wide, self.steps[0] * self.sizes[1] * narrow
        filter_, products = spectra * self.filters, spectra * narrow
        if self.problem.direction is Direction.BWD_FILTER:
            tiles, filter_, products = max(tiles, gradients), products, chunks * filter_
        return {
            "tiles": ((tiles,), real),
            "taps": ((prod(self.taps) * self.filters,), self.complex),
            "cols": ((self.taps[0] * self.frequencies[1] * self.filters,), self.complex),
            "filters": ((filter_,), self.complex),
            "products": ((products,), self.complex),
        }

    def library_bytes(self) -> int:
        """The larger of SciPy's results: spectra of the tiles, and tiles of outputs or half spectra of dy."""
        half, item = 2 * self.frequencies[1], compute_dtype(self.problem.precision).itemsize
        columns = half if self.problem.direction is Direction.BWD_FILTER else self.sizes[1]
        wide, narrow = self.wide(self.images).width, self.narrow(self.images).width
        return max(self.sizes[0] * half * wide, self.steps[0] * columns * narrow) * item

    def variant(self, name: str) -> Variant:
        wide, narrow, spectra = self.wide(self.problem.n), self.narrow(self.problem.n), prod(self.frequencies)
        points = prod(self.sizes)
        transform = round(2.5 * points * log2(points)) if points > 1 else 0
        details = {
            "tile": "x".join(map(str, self.sizes)),
            "images": self.images,
            "flops": 8 * spectra * narrow.tiles * self.filters,
            "transform_flops": transform * (wide.width + narrow.width + self.filters),
            "deterministic": True,
        }
        return Variant(name, block_bytes(self.blocks()), self.library_bytes(), exact=False, details=details)


def _circular(whole: Cut, taps: int) -> int:
    """The shortest circular length: zeros that trail all phases may be the ones that lead, wrapped around."""
    real = [whole.inside(part, 0)[0] for part in range(whole.parts)]
    lead = min(span.start for span in real)
    trail = min(whole.window - max(span.stop, span.start) for span in real)
    return max(whole.window - min(lead, trail), whole.step, taps)


class FFTPlan:
    """The three directions."""

    def __init__(self, form: Form) -> None:
        self.form, self.problem = form, form.problem
        self.blocks = form.blocks()
        self.workers = threads.count()
        self.rows = _waves(form.sizes[0], form.sizes[0], form.taps[0]).astype(form.complex)
        self.cols = _waves(form.sizes[1], form.frequencies[1], form.taps[1]).astype(form.complex)
        if self.problem.direction is Direction.BWD_FILTER:
            self.cols *= _weights(form.sizes[1], form.frequencies[1])[:, None] / prod(form.sizes)

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        blocks = carve(workspace, self.blocks)
        if self.problem.direction is Direction.BWD_FILTER:
            self._backward_filter(a, b, out, blocks)
        else:
            self._correlate(a, b, out, blocks)

    def close(self) -> None:
        pass

    def _correlate(self, image: Floats, w: Floats, out: Floats, blocks: dict[str, Any]) -> None:
        """Forward, and backward-data as forward on dy."""
        filters = self._filters(w, blocks)
        source, result = self._grouped(image), self._grouped(out)
        for images, wide, narrow in self.form.parts():
            spectra = self._spectra(wide, source[images], blocks["tiles"])
            products = self._frequencies(blocks["products"], narrow.width)
            contract(filters, wide.matrices(spectra), narrow.matrices(products))
            del spectra
            scatter(narrow, self._outputs(products), result[images])

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Any]) -> None:
        source, gradients = self._grouped(x), self._grouped(dy)
        size = prod(self.form.frequencies) * self.form.filters
        sums, product = blocks["products"][:size], blocks["products"][size:]
        for images, wide, narrow in self.form.parts():
            gradient = narrow.matrices(self._gradients(narrow, gradients[images], blocks))
            spectra = self._spectra(wide, source[images], blocks["tiles"])
            target = product if images.start else sums
            contract(gradient, wide.matrices(spectra).swapaxes(2, 3), self._matrices(target))
            del spectra
            if images.start:
                _add(sums, product)
        self._collect(sums, out, blocks)

    # ---- images ----------------------------------------------------------------------------------------------

    def _spectra(self, tiles: Tiles, image: Floats, block: Floats) -> Any:
        """Cut the image and transform every tile: (rows, half the columns, width), in SciPy's memory."""
        cut = block[: prod(tiles.window) * tiles.width].reshape(*tiles.window, tiles.width)
        gather(tiles, cut, image)
        return sf.fft(self._half(cut), axis=0, overwrite_x=True, workers=self.workers)

    def _gradients(self, tiles: Tiles, dy: Floats, blocks: dict[str, Any]) -> Any:
        """Conjugate spectra of the tiles of dy, which play the filter: zeros fill them up to the length."""
        rows, cols = tiles.window
        cut = blocks["tiles"][: rows * self.form.sizes[1] * tiles.width].reshape(rows, -1, tiles.width)
        gather(tiles, cut[:, :cols], dy)
        cut[:, cols:] = 0
        spectra = self._frequencies(blocks["filters"], tiles.width)
        np.conjugate(self._half(cut), out=spectra[:rows])
        spectra[rows:] = 0
        return sf.ifft(spectra, axis=0, norm="forward", overwrite_x=True, workers=self.workers)

    def _outputs(self, spectra: Any) -> Floats:
        """Tiles of outputs (rows, columns, width), in SciPy's memory; what wrapped around is cut off."""
        rows, cols = self.form.steps
        columns = sf.ifft(spectra, axis=0, overwrite_x=True, workers=self.workers)[:rows]
        return cast(Floats, sf.irfft(columns, self.form.sizes[1], axis=1, workers=self.workers))[:, :cols]

    def _half(self, tiles: Floats) -> Any:
        return sf.rfft(tiles, axis=1, workers=self.workers)

    def _frequencies(self, block: Any, width: int) -> Any:
        """The part of a block that holds `width` spectra."""
        return block[: prod(self.form.frequencies) * width].reshape(*self.form.frequencies, width)

    # ---- filters ---------------------------------------------------------------------------------------------

    def _filters(self, w: Floats, blocks: dict[str, Any]) -> Any:
        """Conjugate spectra of the filter phases as (frequency, G, output channels, input channels)."""
        rows, cols, spectra = self._steps(blocks["filters"], blocks)
        rows[...] = 0
        for phase, tap in self._taps(rows, w):
            phase[...] = tap
        np.matmul(self.cols, rows, out=cols)
        np.matmul(self.rows, cols.reshape(len(cols), -1), out=spectra)
        filters = self._matrices(spectra)
        return filters.swapaxes(2, 3) if self.form.backward else filters

    def _collect(self, sums: Any, out: Floats, blocks: dict[str, Any]) -> None:
        """The taps of w from their spectra."""
        taps, cols, spectra = self._steps(sums, blocks)
        np.matmul(self.rows.T, spectra, out=cols.reshape(len(cols), -1))
        np.matmul(self.cols.T, cols, out=taps)
        for phase, tap in self._taps(taps, out):
            tap[...] = phase.real

    def _steps(self, spectra: Any, blocks: dict[str, Any]) -> Any:
        """Blocks for filters before, between and after the transforms of columns and rows."""
        (r, s), (rows, half), width = self.form.taps, self.form.frequencies, self.form.filters
        taps = blocks["taps"].reshape(r, s, width)
        cols = blocks["cols"].reshape(r, half, width)
        return taps, cols, spectra.reshape(rows, half * width)

    def _taps(self, block: Floats, w: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Every tap (G, K/g, C/g) of w and its place in the block: tap position t is phase t mod u, index t div u;
        backward-data turns the phases around."""
        p, (u, v) = self.problem, self.problem.stride
        phases = block.reshape(*block.shape[:2], p.groups, p.k // p.groups, u, v, p.c // p.groups)
        filters = taps_view(w, p).reshape(p.groups, *phases.shape[3:4], p.c // p.groups, p.r, p.s)
        for r, s in product(range(p.r), range(p.s)):
            (i, a), (j, b) = divmod(r * p.dilation[0], u), divmod(s * p.dilation[1], v)
            if self.form.backward:
                i, j = self.form.taps[0] - 1 - i, self.form.taps[1] - 1 - j
            yield phases[i, j, :, :, a, b], filters[..., r, s]

    def _matrices(self, block: Any) -> Any:
        """(frequencies, filters) as (frequency, G, K/g, C')."""
        p = self.problem
        return block.reshape(prod(self.form.frequencies), p.groups, p.k // p.groups, -1)

    def _grouped(self, tensor: Floats) -> Floats:
        """x or y as (N, G, channels, H, W)."""
        view, g = nchw(tensor, self.problem.layout), self.problem.groups
        return view.reshape(view.shape[0], g, view.shape[1] // g, *view.shape[2:])


def _add(sums: Any, product: Any) -> None:
    """Accumulate in place, frequencies over threads."""

    def add(part: slice) -> None:
        sums[part] += product[part]

    parallel(add, len(sums))


def _waves(length: int, frequencies: int, taps: int) -> Any:
    """Columns of the conjugate DFT matrix: all that a filter of a few taps needs of the transform."""
    turns = np.outer(np.arange(frequencies), np.arange(taps)) % length / length
    return np.exp(2j * np.pi * turns)


def _weights(length: int, frequencies: int) -> Floats:
    """How often each frequency of real data counts: all but the first and the middle one stand for two."""
    weights = np.full(frequencies, 2.0)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    return weights


ALGORITHMS = (FFT(),)
