"""What the harness needs of a device; `device_cpu` and `device_cuda` are the two there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from convbench.guard import Guarded
from convbench.problem import Problem
from convbench.record import Board, Energy, Host, Limit

Call = Callable[[], None]

COLD, HOT, COLD_WEIGHTS = "cold", "hot", "cold-weights"


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

    def start(self) -> None:
        """Warm-up is over; blocks count from here on."""
        ...

    def block(self, calls: Sequence[Call], count: int, warm: Sequence[Any] = ()) -> list[float]:
        """Seconds per call of `count` samples, each of all `calls` in a row; `warm` may stay in cache."""
        ...

    def board(self) -> Board | None:
        """The state of the hardware during the blocks, where the device tells."""
        ...


class Device(Protocol):
    """Arrays, memory and a clock."""

    @property
    def name(self) -> str: ...

    @property
    def cache(self) -> str:
        """What a timed call finds in cache: cold, hot, cold-weights."""
        ...

    @property
    def figure(self) -> str:
        """What its times are: cpu, gpu_cold, gpu_hot, ..."""
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

    def finish(self) -> None:
        """Wait until everything that was asked for is done."""
        ...

    def watched(self) -> AbstractContextManager[Any]:
        """Watch the hardware for as long as the context lasts."""
        ...

    def warm_up(self, call: Call) -> None:
        """Bring clocks and temperature to where work keeps them; does so once."""
        ...

    def host(self, call: Call) -> Host | None:
        """Seconds that a user of the call waits, where that is not the figure itself."""
        ...

    def energy(self, call: Call, seconds: float) -> Energy | str:
        """What a call costs, or why that cannot be known."""
        ...

    def learn_limits(self) -> Iterator[str]:
        """Measure the rates behind `limit`, if they are not known yet; says what it does."""
        ...

    def limit(self, problem: Problem, details: Mapping[str, Any]) -> Limit | None:
        """The time that measured rates of this machine would need, where they are known."""
        ...

    def floor(self, problem: Problem, details: Mapping[str, Any]) -> float:
        """Seconds below which no honest figure can be; 0 where nothing is known."""
        ...

    def escapes(self, call: Call, out: Any) -> bool:
        """Whether a call works where the clock cannot see it."""
        ...
