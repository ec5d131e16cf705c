"""Energy per call from the board's total-energy counter, whose resolution is a step in time, not 1 mJ.

The counter stands still for a step P (100 ms on an H200), then jumps. A window opens and closes right behind
a jump, and the work goes on while one is awaited: what the counter saw and the calls that are counted differ
by at most one step or one batch, whichever is shorter. That is P / window, 2 % or better, without idle time.

Energy is the board's: memory and idle draw are in it. Idle power over the same window length stands beside it
and is never subtracted. Whatever is wrong with the counter is returned as a reason, never as a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from statistics import median
from time import sleep

from convbench.errors import one_line
from convbench.record import Energy

WINDOW_SECONDS, WINDOW_STEPS = 2.0, 50
STUCK_STEPS = 20

Counter = Callable[[], int]  # millijoules since the driver was loaded
Clock = Callable[[], float]  # seconds; time.perf_counter
Batch = Callable[[], None]  # enqueues a fixed number of calls and synchronises


class _UnusableError(Exception):
    """The counter does not do what a counter does; the text is for the record."""


def board_counter(uuid: str) -> Counter | str:
    """The energy counter of a GPU, or why there is none."""
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        board = nvml.nvmlDeviceGetHandleByUUID(uuid)
        nvml.nvmlDeviceGetTotalEnergyConsumption(board)
    except Exception as error:  # no binding, no driver, no permission, a board without a counter
        return f"{type(error).__name__}: {one_line(str(error))}"
    return lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(board))


def window_seconds(step: float) -> float:
    """How long a window lasts at least."""
    return max(WINDOW_SECONDS, WINDOW_STEPS * step)


def step_seconds(read: Counter, now: Clock, changes: int = WINDOW_STEPS, limit: float = 10.0) -> float | str:
    """The median time between two changes of the counter, or why it cannot be told."""
    start = now()
    times: list[float] = []
    try:
        value = _ask(read)
        while len(times) <= changes:
            if now() - start > limit:
                return f"the energy counter changed {len(times)} times in {limit:g} s, not {changes + 1}"
            before, value = value, _ask(read, value)
            if value != before:
                times.append(now())
    except _UnusableError as error:
        return str(error)
    return median(later - earlier for earlier, later in pairwise(times))


def measure(
    batch: Batch, calls: int, read: Counter, now: Clock, step: float, idle_watts: float | None = None
) -> Energy | str:
    """Energy of a call over a window of batches of so many calls each; what a batch raises passes through.

    A batch is best a fifth of a step long: the counter is read between batches at both ends of the window.
    """
    try:
        window = _window(batch, read, now, step)
    except _UnusableError as error:
        return str(error)
    count = window.batches * calls
    return Energy(
        joules=window.joules / count,
        watts=window.joules / window.seconds,
        resolution=step / window.seconds,
        window=window.seconds,
        step=step,
        calls=count,
        idle_watts=idle_watts,
    )


def measure_idle(
    read: Counter, now: Clock, step: float, rest: Callable[[float], None] = sleep
) -> float | str:
    """Watts of the board over a window in which it is given nothing to do; once a sweep is enough."""
    try:
        window = _window(lambda: rest(step / WINDOW_STEPS), read, now, step)
    except _UnusableError as error:
        return str(error)
    return window.joules / window.seconds


def comparable(a: Energy, b: Energy) -> bool:
    """Whether two energies differ by more than twice what both cannot resolve."""
    unresolved = a.joules * a.resolution + b.joules * b.resolution
    return unresolved < abs(a.joules - b.joules) / 2


@dataclass(frozen=True)
class _Window:
    joules: float
    seconds: float
    batches: int


def _window(batch: Batch, read: Counter, now: Clock, step: float) -> _Window:
    """Batches from one change of the counter to another; the counter is left alone in between."""
    _, opening = _until_change(batch, read, now, step)
    start, batches = now(), 0
    while now() - start < window_seconds(step):
        batch()
        batches += 1
    more, closing = _until_change(batch, read, now, step, opening)
    seconds = now() - start
    return _Window((closing - opening) * 1e-3, seconds, batches + more)


def _until_change(batch: Batch, read: Counter, now: Clock, step: float, least: int = 0) -> tuple[int, int]:
    """Batches done until the counter changed, and its value then."""
    start, batches = now(), 0
    value = before = _ask(read, least)
    while value == before:
        if now() - start > STUCK_STEPS * step and batches > 0:
            raise _UnusableError(f"the energy counter stood still at {value} mJ for {STUCK_STEPS} steps")
        batch()
        batches += 1
        value = _ask(read, before)
    return batches, value


def _ask(read: Counter, least: int = 0) -> int:
    """The counter, which must answer and never go back."""
    try:
        value = read()
    except Exception as error:  # NVML's own kinds
        raise _UnusableError(f"the energy counter: {type(error).__name__}: {one_line(str(error))}") from error
    if value < least:
        raise _UnusableError(f"the energy counter went back from {least} to {value} mJ")
    return value
