"""Sweeps without a clock, for tests of what they keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import Correct, entry

from convbench.api import Algorithm, Direction
from convbench.device_cpu import CpuDevice
from convbench.store import Store
from convbench.suites import Suite
from convbench.sweep import Options, Planner, Summary, run

CORRECT = Correct()
ENVIRONMENT: dict[str, Any] = {"id": "e", "identity": {"cpu": "some cpu"}}


class SteadyDevice(CpuDevice):
    """Runs every call, and says that each took 20 ms."""

    free: int | None = 1 << 30

    def free_memory(self) -> int | None:
        return self.free

    def seconds(self, call: Callable[[], None], calls: int) -> float:
        call()
        return 0.02


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
