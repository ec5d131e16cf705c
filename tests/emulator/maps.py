"""Tensor maps as cuda_tensor.h reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from convbench.algorithms.gpu_maps import BYTES, ROW, Map
from numpy.typing import NDArray


def encode(tensor: Map) -> NDArray[np.void]:
    """struct Map; what the driver would refuse is refused."""
    assert tensor.address % 16 == 0
    assert all(stride % 16 == 0 for stride in tensor.strides)
    assert 0 < tensor.rows <= (1024 if tensor.low else 256)
    assert all(-128 <= corner <= 127 for corner in (*tensor.low, *tensor.high))
    numbers = (*_padded(tensor.sizes, 4, 1), *(_padded(tensor.low, 2)), *_padded(tensor.high, 2))
    box = *_padded(tensor.step, 2), ROW, tensor.rows
    packed = struct.pack("=4Q12i", tensor.address, *_padded(tensor.strides, 3), *numbers, *box)
    return np.frombuffer(packed.ljust(BYTES, bytes(1)), dtype=f"V{BYTES}")


def _padded(values: Sequence[int], count: int, rest: int = 0) -> list[int]:
    return [*values, *([rest] * (count - len(values)))]
