"""Powers of two for both operands of our own products: two launches ahead of the transforms.

A key is what products sum over: a channel, or in backward-filter a tile. Both operands of a key are scaled by
opposite powers, but for what all keys of a step of the products have in common: that is a factor of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import Structure, c_int, c_void_p
from typing import Any

from .cuda_winograd_forms import KEY_ROWS, CudaForm
from .cuda_winograd_operands import UNIT, filters_struct
from .gpu import by_value
from .gpu_launch import launch

__all__ = ["Keys"]

Addresses = Mapping[str, int]
Image = tuple[int, Any]  # where it begins, and how it is cut


class MaximaStruct(Structure):
    """Maxima in cuda_winograd_keys.cu."""

    _fields_ = [("at", c_void_p), ("slots", c_int)]


class Keys:
    """The launches of one form; `at` has the areas of its workspace."""

    def __init__(self, form: CudaForm) -> None:
        self._form, self._kernels = form, form.keys_source.load()
        self._w = by_value(filters_struct(form.problem, form.problem.flip != form.backward))

    def of_channels(self, w: Any, image: Image, at: Addresses) -> None:
        """Of filters, and of all images."""
        filters = w, self._w, self._left(at), int(self._form.backward)
        self._scale("channel_keys", filters, image, at)

    def of_tiles(self, dy: Image, image: Image, at: Addresses) -> None:
        """Of tiles of some images."""
        self._scale("tile_keys", (*dy, self._left(at)), image, at)

    def _left(self, at: Addresses) -> Any:
        return by_value(MaximaStruct(at["left_maxima"], self._form.left_slots.count))

    def _scale(self, kernel: str, left: tuple[Any, ...], image: Image, at: Addresses) -> None:
        """The first launch is a plain one, as it does not wait itself."""
        of_left, of_data, keys = self._form.left_slots, self._form.data_slots, self._form.keys
        data, block = by_value(MaximaStruct(at["data_maxima"], of_data.count)), (UNIT, KEY_ROWS)
        arguments = *left, of_left.blocks, *image, data, keys
        self._kernels[kernel](of_left.blocks + of_data.blocks, block, *arguments)
        maxima, scales = (self._left(at), data), (at["left_scales"], at["data_scales"], at["factors"])
        key_scales, grid = self._kernels["key_scales"], (keys // UNIT,)
        launch(key_scales, grid, block, *maxima, *scales, keys, early=self._form.keyed)
