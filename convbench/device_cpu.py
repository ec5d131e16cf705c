"""The CPU as a device: arrays are NumPy's, a call is over when it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter_ns
from typing import Any

import numpy as np

from convbench import environment
from convbench.device import Block, Call
from convbench.guard import Guarded
from convbench.problem import Problem
from convbench.record import Board, Energy, Host, Limit

BLOCK_SAMPLES = 5
SLOW_CALL = 0.1


class CpuDevice:
    """The embedded default: needs nothing but the base install."""

    name = "cpu"
    cache = "warm"
    figure = "cpu"
    xp = np
    rotates = False

    def environment(self) -> dict[str, Any]:
        return environment.collect()

    def free_memory(self) -> int | None:
        return environment.free_memory()

    def guarded(self, capacity: int) -> Guarded:
        return Guarded(capacity)

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        """Samples as long as the preset wants; the first is dropped, unless a single call is slow."""
        if seconds > SLOW_CALL:
            return Block(1, 1, 0)
        return Block(max(1, ceil(sample_seconds / seconds)), BLOCK_SAMPLES - 1, 1)

    def sampler(self) -> CpuSampler:
        return CpuSampler()

    def finish(self) -> None:
        pass

    def watched(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def warm_up(self, call: Call) -> None:
        pass

    def host(self, call: Call) -> Host | None:
        return None  # the figure itself is what a user waits for

    def energy(self, call: Call, seconds: float) -> Energy | str:
        return "no energy counter is read on the CPU"

    def learn_limits(self) -> Iterator[str]:
        return iter(())

    def limit(self, problem: Problem, details: Mapping[str, Any]) -> Limit | None:
        return None

    def floor(self, problem: Problem, details: Mapping[str, Any]) -> float:
        return 0.0

    def escapes(self, call: Call, out: Any) -> bool:
        return False


@dataclass
class CpuSampler:
    """Wall time per call of calls in a row."""

    flags: list[str] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)

    def start(self) -> None:
        pass

    def board(self) -> Board | None:
        return None

    def block(self, calls: Sequence[Call], count: int, warm: Sequence[Any] = ()) -> list[float]:
        # BLAS computes on unused vector lanes too, whose garbage may raise flags that NumPy would report
        with np.errstate(all="ignore"):
            return [self._sample(calls) for _ in range(count)]

    def _sample(self, calls: Sequence[Call]) -> float:
        start = perf_counter_ns()
        for call in calls:
            call()
        return (perf_counter_ns() - start) / len(calls) * 1e-9
