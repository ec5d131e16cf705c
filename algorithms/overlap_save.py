"""Overlap-save: the circular correlations that a convolution is cut into, and the memory they take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log2, prod
from typing import cast

import numpy as np
import scipy  # loads its parts when they are asked for

from convbench.api import Direction, Variant
from convbench.problem import Pair

from .cpu import Block, block_bytes, compute_dtype
from .tiles import Cut, Tiling


@dataclass(frozen=True, kw_only=True)
class Form(Tiling):
    """Transforms of length `tile`; 0 stands for the whole image."""

    tile: int
    stacked = True

    @cached_property
    def taps(self) -> Pair:
        """R' and S': taps of the filter phases."""
        axes = zip(self.problem.extent, self.problem.stride, strict=True)
        return cast(Pair, tuple((extent - 1) // u + 1 for extent, u in axes))

    def cut(self, axis: int) -> tuple[Cut, Cut]:
        p, u, taps = self.problem, self.problem.stride[axis], self.taps[axis]
        size, lead = p.image[axis], p.pad[axis][0]
        outputs = p.output[axis]
        if self.backward:
            skipped, rest = divmod(lead, u)  # outputs that lie in the padding in all phases
            source, result = (outputs, taps - 1 - skipped, 1), (size, rest, u)
            outputs = -(-(size + rest) // u)
        else:
            source, result = (size, lead, u), (outputs, 0, 1)
        window, step = self._window(Cut(*source, outputs, outputs + taps - 1, 1), taps)
        count = -(-outputs // step)
        return Cut(*source, step, window, count), Cut(*result, step, step, count)

    def _window(self, whole: Cut, taps: int) -> Pair:
        """Transform length and outputs of one tile; an axis with one tap is left as it is."""
        if taps == 1:
            return 1, 1
        length = int(scipy.fft.next_fast_len(_circular(whole, taps), real=True))
        if 0 < self.tile < length:
            return self.tile, self.tile - taps + 1
        return length, whole.step

    @property
    def frequencies(self) -> Pair:
        """Of real data: half of those along the columns follow from the others."""
        return self.sizes[0], self.sizes[1] // 2 + 1

    @property
    def filters(self) -> int:
        """Elements of w for one tap of the phases."""
        return self.problem.k * self.problem.c // self.problem.groups * prod(self.problem.stride)

    @property
    def complex(self) -> np.dtype:
        return np.result_type(compute_dtype(self.problem.precision), np.complex64)

    def blocks(self) -> dict[str, Block]:
        """Real tiles, filters on the way to their spectra, spectra of what plays the filter, and products."""
        real, spectra = compute_dtype(self.problem.precision), prod(self.frequencies)
        _, wide, narrow = next(self.parts())
        chunks = 1 + (self.images < self.problem.n)
        tiles, gradients = prod(self.sizes) * wide.width, self.steps[0] * self.sizes[1] * narrow.width
        filter_, products = spectra * self.filters, spectra * narrow.width
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
        _, wide, narrow = next(self.parts())
        return max(self.sizes[0] * half * wide.width, self.steps[0] * columns * narrow.width) * item

    def variant(self, name: str) -> Variant:
        (wide, narrow), spectra = self.whole, prod(self.frequencies)
        points, columns = prod(self.sizes), self.frequencies[1]
        image = round(2.5 * points * log2(points))
        filter_ = 8 * self.taps[0] * columns * (self.taps[1] + self.sizes[0])
        details = {
            "tile": "x".join(map(str, self.sizes)),
            "images": self.images,
            "flops": 8 * spectra * narrow.tiles * self.filters,
            "transform_flops": image * (wide.width + narrow.width) + filter_ * self.filters,
            "deterministic": True,
        }
        return Variant(name, block_bytes(self.blocks()), self.library_bytes(), exact=False, details=details)


def _circular(whole: Cut, taps: int) -> int:
    """The shortest circular length: zeros that trail all phases may be the ones that lead, wrapped around."""
    spans = [whole.inside(part, 0)[0] for part in range(whole.parts)]
    real = [span for span in spans if span.stop > span.start]
    lead = min((span.start for span in real), default=whole.window)
    trail = whole.window - max((span.stop for span in real), default=0)
    return max(whole.window - min(lead, trail), whole.step, taps)
