"""The CPU as a device: arrays are NumPy's, a call is over when it returns."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench import environment

GUARD = 4096
ALIGNMENT = 64
NAN_BYTE = 0xFF  # all bits set is a NaN in every floating type


class Guarded:
    """Aligned bytes between two guards of a position-dependent pattern, to catch writes out of bounds."""

    def __init__(self, capacity: int) -> None:
        self._raw = np.empty(capacity + 2 * GUARD + ALIGNMENT, np.uint8)
        self._start = GUARD + -(self._raw.ctypes.data + GUARD) % ALIGNMENT
        self._size = capacity
        self._pattern = (np.arange(GUARD) * 167 % 251).astype(np.uint8)

    def take(self, size: int) -> NDArray[np.uint8]:
        """The first `size` bytes, with fresh guards directly before and behind them."""
        self._size = size
        before, behind = self._guards()
        before[:] = behind[:] = self._pattern
        return self._raw[self._start : self._start + size]

    def damaged(self) -> bool:
        """Whether a guard has been written to since `take`."""
        return not all(np.array_equal(guard, self._pattern) for guard in self._guards())

    def _guards(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        stop = self._start + self._size
        return self._raw[self._start - GUARD : self._start], self._raw[stop : stop + GUARD]


class CpuDevice:
    """The embedded default: needs nothing but the base install."""

    name = "cpu"
    figure = "cpu"

    def environment(self) -> dict[str, Any]:
        return environment.collect()

    def free_memory(self) -> int | None:
        return environment.free_memory()

    def guarded(self, capacity: int) -> Guarded:
        return Guarded(capacity)

    def seconds(self, call: Callable[[], None], calls: int) -> float:
        """Wall time per call of `calls` calls in a row."""
        start = perf_counter_ns()
        for _ in range(calls):
            call()
        return (perf_counter_ns() - start) / calls * 1e-9
