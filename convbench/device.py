"""What the harness needs of a device; `device_cpu` and `device_cuda` are the two there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from convbench.guard import Guarded

Call = Callable[[], None]


@dataclass(frozen=True)
class Block:
    """Samples taken in a row: calls per sample, samples kept, samples dropped before them."""

    calls: int
    keep: int
    drop: int


class Sampler(Protocol):
    """Times one cell; remembers what was odd about it."""

    @property
    def flags(self) -> list[str]:
        """Words that qualify the figure, such as `sync`."""
        ...

    @property
    def clocks(self) -> list[float]:
        """Mean clock in Hz of each block, where the device tells."""
        ...

    def block(self, calls: Sequence[Call], count: int) -> list[float]:
        """Seconds per call of `count` samples, each of all `calls` in a row."""
        ...


class Device(Protocol):
    """Arrays, memory and a clock."""

    @property
    def name(self) -> str: ...

    @property
    def figure(self) -> str:
        """What its times are: cpu, gpu_cold, gpu_hot."""
        ...

    @property
    def xp(self) -> Any:
        """The array library: NumPy, or one with the same functions."""
        ...

    @property
    def rotates(self) -> bool:
        """Whether the calls of one sample must not share tensors, so that each finds its own out of cache."""
        ...

    def environment(self) -> dict[str, Any]: ...

    def free_memory(self) -> int | None: ...

    def guarded(self, capacity: int) -> Guarded: ...

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        """How to sample a call of this length."""
        ...

    def sampler(self) -> Sampler: ...

    def escapes(self, call: Call, out: Any) -> bool:
        """Whether a call works where the clock cannot see it."""
        ...
