"""FFT convolution on the CPU: products of spectra, over the whole image or over overlapping tiles.

    Y(f) = X(f) conj(W(f))        one matrix product a frequency; the conjugate makes it cross-correlation

A circular correlation of length t gives t - R + 1 outputs free of wrap-around, so images are cut into tiles
of t that overlap by R - 1 (overlap-save); `whole` is the case of one tile. Backward-data correlates dy with
turned filters; backward-filter correlates x with the tiles of dy and sums over them.

No output is computed to be thrown away: a stride splits image and filter into phases, which are channels of a
stride-1 convolution with filters of R' = ceil(extent / stride) taps. SciPy transforms the two leading axes of
the tiles, so that frequencies come out first, ready for the products. Filters have few taps: their transforms
are products with a few columns of the DFT matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, cast

import numpy as np
import scipy  # loads its parts when they are asked for

from convbench import threads
from convbench.api import Array, Direction, Plan, Problem, Variant

from .cpu import Floats, carve, grouped, parallel, taps_view
from .overlap_save import Form
from .tiles import Tiles, contract, gather, scatter

TILES = (16, 32, 64)


@dataclass(frozen=True)
class FFT:
    """Fast Fourier transforms; for every filter that overlaps its neighbour."""

    name: str = "fft"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        if problem.taps == (1, 1):
            return "1x1 filter: no neighbourhood to transform, only the matrix product that im2col does"
        if all(extent <= u for extent, u in zip(problem.extent, problem.stride, strict=True)):
            stride = "x".join(map(str, problem.stride))
            return (
                f"{problem.r}x{problem.s} filter, stride {stride}: windows that do not overlap share no work"
            )
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [form.variant(name) for name, form in forms(problem).items()]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return FFTPlan(forms(problem)[variant.name])


def forms(problem: Problem) -> dict[str, Form]:
    """Whole images, and tiles from twice the filter up to the image; over the batch or by image."""
    whole = Form(problem=problem, images=problem.n, tile=0)
    found = {"whole": whole}
    for tile in TILES:
        if 2 * max(whole.taps) <= tile < max(whole.sizes):
            found[f"tile{tile}"] = replace(whole, tile=tile)
    if problem.n > 1:
        found |= {f"{name}_chunk1": replace(form, images=1) for name, form in found.items()}
    return found


class FFTPlan:
    """The three directions."""

    def __init__(self, form: Form) -> None:
        self.form, self.problem = form, form.problem
        self.blocks, self.parts = form.blocks(), list(form.parts())
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
        source, result = grouped(image, self.problem), grouped(out, self.problem)
        for images, wide, narrow in self.parts:
            spectra = self._spectra(wide, source[images], blocks["tiles"])
            products = self._frequencies(blocks["products"], narrow.width)
            contract(filters, wide.matrices(spectra), narrow.matrices(products))
            del spectra
            scatter(narrow, self._outputs(products), result[images])

    def _backward_filter(self, x: Floats, dy: Floats, out: Floats, blocks: dict[str, Any]) -> None:
        source, gradients = grouped(x, self.problem), grouped(dy, self.problem)
        size = prod(self.form.frequencies) * self.form.filters
        sums, product = blocks["products"][:size], blocks["products"][size:]
        for images, wide, narrow in self.parts:
            gradient = narrow.matrices(self._gradients(narrow, gradients[images], blocks))
            spectra = self._spectra(wide, source[images], blocks["tiles"])
            target = product if images.start else sums
            contract(gradient, wide.matrices(spectra).swapaxes(2, 3), self._matrices(target))
            del spectra
            if images.start:
                _add(sums, product)
        self._collect(sums, out, blocks)

    # ---- images ------------------------------------------------------------------------------------------

    def _spectra(self, tiles: Tiles, image: Floats, block: Floats) -> Any:
        """Cut the image and transform every tile: (rows, half the columns, width), in SciPy's memory."""
        cut = block[: prod(tiles.window) * tiles.width].reshape(*tiles.window, tiles.width)
        gather(tiles, cut, image)
        return scipy.fft.fft(self._half(cut), axis=0, overwrite_x=True, workers=self.workers)

    def _gradients(self, tiles: Tiles, dy: Floats, blocks: dict[str, Any]) -> Any:
        """Conjugate spectra of the tiles of dy, which play the filter: zeros fill them up to the length."""
        rows, cols = tiles.window
        cut = blocks["tiles"][: rows * self.form.sizes[1] * tiles.width].reshape(rows, -1, tiles.width)
        gather(tiles, cut[:, :cols], dy)
        cut[:, cols:] = 0
        spectra = self._frequencies(blocks["filters"], tiles.width)
        np.conjugate(self._half(cut), out=spectra[:rows])
        spectra[rows:] = 0
        return scipy.fft.ifft(spectra, axis=0, norm="forward", overwrite_x=True, workers=self.workers)

    def _outputs(self, spectra: Any) -> Floats:
        """Tiles of outputs (rows, columns, width), in SciPy's memory; what wrapped around is cut off."""
        rows, cols = self.form.steps
        columns = scipy.fft.ifft(spectra, axis=0, overwrite_x=True, workers=self.workers)[:rows]
        outputs = scipy.fft.irfft(columns, self.form.sizes[1], axis=1, workers=self.workers)
        return cast(Floats, outputs)[:, :cols]

    def _half(self, tiles: Floats) -> Any:
        return scipy.fft.rfft(tiles, axis=1, workers=self.workers)

    def _frequencies(self, block: Any, width: int) -> Any:
        """The part of a block that holds `width` spectra."""
        return block[: prod(self.form.frequencies) * width].reshape(*self.form.frequencies, width)

    # ---- filters -----------------------------------------------------------------------------------------

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
        """Every tap (G, K/g, C/g) of w and its place in the block: position t is index t div u of its phase.

        Backward-data turns the phases around.
        """
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
