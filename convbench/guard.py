"""Memory between guards: a write out of bounds leaves a mark."""

from __future__ import annotations

from typing import Any

import numpy as np

GUARD = 4096
ALIGNMENT = 512  # what CUDA's own allocator gives
NAN_BYTE = 0xFF  # all bits set is a NaN in every floating type


class Guarded:
    """Aligned bytes between two guards of a position-dependent pattern, in the arrays of `xp`."""

    def __init__(self, capacity: int, xp: Any = np) -> None:
        self._xp = xp
        self._raw = xp.empty(capacity + 2 * GUARD + ALIGNMENT, np.uint8)
        self._start = GUARD + -(address(self._raw) + GUARD) % ALIGNMENT
        self._size = capacity
        self._pattern = xp.asarray((np.arange(GUARD) * 167 % 251).astype(np.uint8))

    def take(self, size: int) -> Any:
        """The first `size` bytes, with fresh guards directly before and behind them."""
        self._size = size
        for guard in self._guards():
            guard[...] = self._pattern
        return self._raw[self._start : self._start + size]

    def damaged(self) -> bool:
        """Whether a guard has been written to since `take`."""
        return any(bool((guard != self._pattern).any()) for guard in self._guards())

    def _guards(self) -> tuple[Any, Any]:
        stop = self._start + self._size
        return self._raw[self._start - GUARD : self._start], self._raw[stop : stop + GUARD]


def address(array: Any) -> int:
    """Where the array begins, on its device."""
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)
