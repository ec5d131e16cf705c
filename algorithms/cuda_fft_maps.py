"""Where the lanes of the tensors lie in memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace

from convbench.api import Layout, Problem

from .cuda_fft_form import Spectral
from .tiles import Cut


class Axis(ctypes.Structure):
    """struct Axis of cuda_fft_map.cuh"""

    _fields_ = [
        (name, ctypes.c_int)
        for name in ("size", "stride", "lead", "parts", "spread", "step", "window", "count", "offset")
    ]


class Map(ctypes.Structure):
    """struct Map of cuda_fft_map.cuh"""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("origin", "image", "channel")),
        *((name, Axis) for name in ("rows", "cols")),
        *((name, ctypes.c_int) for name in ("groups", "channels")),
    ]


def wide_map(form: Spectral, first: int) -> Map:
    """The image that is transformed, from image `first` on: x, or dy in backward-data."""
    cuts = [wide for wide, _ in form.cuts]
    if form.backward:  # pixels behind those that reach a result might come around
        extras = zip(form.cuts, _shifts(form), _offsets(form), strict=True)
        cuts = [
            replace(wide, lead=wide.lead - shift, window=offset + narrow.step)
            for (wide, narrow), shift, offset in extras
        ]
    return _image_map(form, not form.backward, first, cuts, (0, 0))


def narrow_map(form: Spectral, first: int) -> Map:
    """y, or dx in backward-data."""
    cuts = [narrow for _, narrow in form.cuts]
    return _image_map(form, form.backward, first, cuts, _offsets(form))


def filter_map(form: Spectral) -> Map:
    """w: lane = (output channel, phase, input channel); its taps lie `dilation` apart."""
    p = form.problem
    channels, sign = p.c // p.groups, -1 if p.flip else 1
    image, channel, *strides = _strides(p, channels, p.r, p.s)
    origin = sum((taps - 1) * stride for taps, stride in zip(p.taps, strides, strict=True)) if p.flip else 0
    rows, cols = (
        Axis(size, sign * stride, 0, u, dilation, 0, taps, 1, 0)
        for size, stride, u, dilation, taps in zip(
            p.taps, strides, p.stride, p.dilation, form.taps, strict=True
        )
    )
    return Map(origin, image, channel, rows, cols, 1, channels)


def _shifts(form: Spectral) -> list[int]:
    """Zeros before dy that backward-data can do without, where one transform holds the image."""
    return [max(0, wide.lead) if form.backward and wide.count == 1 else 0 for wide, _ in form.cuts]


def _offsets(form: Spectral) -> list[int]:
    """Backward-data spreads a pixel of dy over `taps` points from its own on; in a tile results begin where
    all that reach them are there."""
    pairs = zip(form.taps, _shifts(form), strict=True)
    return [taps - 1 - shift if form.backward else 0 for taps, shift in pairs]


def _image_map(form: Spectral, of_x: bool, first: int, cuts: Sequence[Cut], offsets: Sequence[int]) -> Map:
    p = form.problem
    channels = p.c if of_x else p.k
    image, channel, *strides = _strides(p, channels, *(p.image if of_x else p.output))
    axes = (
        Axis(cut.size, stride, cut.lead, cut.parts, 1, cut.step, cut.window, cut.count, offset)
        for cut, stride, offset in zip(cuts, strides, offsets, strict=True)
    )
    return Map(first * image, image, channel, *axes, p.groups, channels // p.groups)


def _strides(problem: Problem, channels: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Elements from one image, channel, row and column to the next."""
    if problem.layout is Layout.NCHW:
        return channels * height * width, height * width, width, 1
    return height * width * channels, 1, width * channels, channels
