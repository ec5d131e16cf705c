"""Device time of one cell, by the strictest way that works for it, and what the board did meanwhile.

A call is held, so that launch gaps never count. One that cannot be held (it synchronises, or launches more
than the queue takes) is timed with its gaps and flagged. A block during which the hardware misbehaved is
taken again; if it misbehaves every time, the last one stays, with a flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import monotonic_ns
from typing import Any, Protocol

from convbench.device import HOT, Call
from convbench.record import Board
from convbench.telemetry import Summary, causes, told

RERUNS = 2


class HoldGaveUpError(RuntimeError):
    """The call did not return while the stream was held: it synchronises, or launches too much."""


class AllocatesError(RuntimeError):
    """The call asked CuPy for memory while it was timed."""


class Timer(Protocol):
    """What `cuda_timer.CudaTimer` does; a test replays it."""

    def cold(self, call: Call, warm: Sequence[Any] = ()) -> float: ...

    def hot(self, call: Call) -> float: ...

    def unheld(self, call: Call, flush: bool = True, warm: Sequence[Any] = ()) -> float: ...

    def synchronises(self, call: Call) -> bool: ...

    def clock(self) -> AbstractContextManager[list[float]]: ...


class Watch(Protocol):
    """What `telemetry.Telemetry` does."""

    @property
    def flags(self) -> list[str]: ...

    def between(self, start_ns: int, stop_ns: int) -> Summary | None: ...


@dataclass
class CudaSampler:
    """Samples of one cell. Until `start` they are warm-up, which leaves nothing but the way to time it."""

    timer: Timer
    watch: Watch
    cache: str
    top_clock: float
    no_allocation: Callable[[], AbstractContextManager[Any]]
    flags: list[str] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)
    held: bool = True
    _summaries: list[Summary] = field(default_factory=list)
    _started: bool = False

    def start(self) -> None:
        """Warm-up is over: from here on blocks count."""
        self._started = True

    def block(self, calls: Sequence[Call], count: int, warm: Sequence[Any] = ()) -> list[float]:
        for attempt in range(1 + RERUNS):
            begin = monotonic_ns()
            samples, clock = self._samples(calls, count, warm)
            if not self._started:
                return samples
            summary = self.watch.between(begin, monotonic_ns())
            found = causes(summary, clock / self.top_clock if clock else None)
            if not found:
                break
            if attempt == RERUNS:
                self._flag(*(f"hw:{cause}" for cause in found))
        self.clocks += [clock] if clock else []
        self._summaries += [summary] if summary else []
        return samples

    def board(self) -> Board | None:
        """What NVML saw during the blocks, all together."""
        self._flag(*self.watch.flags)
        return _together(self._summaries) if self._summaries else None

    def _samples(self, calls: Sequence[Call], count: int, warm: Sequence[Any]) -> tuple[list[float], float]:
        with self.timer.clock() as clock:
            if "allocates" in self.flags:
                samples = [self._sample(calls, warm) for _ in range(count)]
            else:
                with self.no_allocation():
                    samples = [self._sample(calls, warm) for _ in range(count)]
        return samples, clock[0] if clock else 0.0

    def _flag(self, *words: str) -> None:
        self.flags += [word for word in dict.fromkeys(words) if word not in self.flags]

    def _sample(self, calls: Sequence[Call], warm: Sequence[Any]) -> float:
        run = partial(_in_row, calls)
        try:
            if self.held:
                hot = self.cache == HOT
                return (self.timer.hot(run) if hot else self.timer.cold(run, warm)) / len(calls)
        except HoldGaveUpError:
            self.held = False
            self._flag("sync" if self.timer.synchronises(run) else "unblocked")
        except AllocatesError:
            self._flag("allocates")
            raise
        return self.timer.unheld(run, self.cache != HOT, warm) / len(calls)


def _in_row(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _together(blocks: Sequence[Summary]) -> Board:
    return Board(
        sm_mhz=_median(one.sm_mhz for one in blocks),
        sm_mhz_min=min(told(one.sm_mhz_min for one in blocks), default=None),
        memory_mhz=_median(one.memory_mhz for one in blocks),
        watts=_median(one.watts for one in blocks),
        celsius=max(told(one.celsius for one in blocks), default=None),
        reasons=sorted({reason for one in blocks for reason in one.reasons or ()}),
        processes=max(len(one.foreign or ()) for one in blocks),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = told(values)
    return median(known) if known else None
