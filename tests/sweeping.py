"""Sweeps without a clock, for tests of what they keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults import Correct, entry

from convbench.api import Algorithm, Direction
from convbench.device import Call
from convbench.device_cpu import CpuDevice
from convbench.store import Store
from convbench.suites import Suite
from convbench.sweep import Options, Planner, Summary, run

CORRECT = Correct()
ENVIRONMENT: dict[str, Any] = {"id": "e", "identity": {"cpu": "some cpu"}}


class SteadySampler:
    """Runs every call, and says that each took 20 ms."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.clocks: list[float] = []

    def start(self) -> None:
        pass

    def board(self) -> None:
        pass

    def block(self, calls: Sequence[Call], count: int, warm: Sequence[Any] = ()) -> list[float]:
        for _ in range(count):
            for call in calls:
                call()
        return [0.02] * count


class SteadyDevice(CpuDevice):
    """A device without a clock."""

    free: int | None = 1 << 30

    def free_memory(self) -> int | None:
        return self.free

    def sampler(self) -> Any:
        return SteadySampler()


def options(*algorithms: Algorithm, **changes: Any) -> Options:
    wishes: dict[str, Any] = {"directions": (Direction.FWD,), "preset": "quick", "baseline": "correct"}
    return Options([entry(algorithm) for algorithm in algorithms], **wishes | changes)


def sweep(
    folder: Path,
    suite: Suite,
    wishes: Options,
    device: CpuDevice | None = None,
    environment: dict[str, Any] = ENVIRONMENT,
) -> Summary:
    device = device or SteadyDevice()
    with Store(folder) as store:
        groups = Planner(wishes, device, environment, store.contents.cells).groups(suite)
        return run(groups, wishes, device, environment, store, lambda group, summary: None)
