"""Clocks, power and temperature beside the timing, read through NVML by another process at 10 Hz.

    this process                          python -m convbench.telemetry UUID SECONDS
    Telemetry  <---- stdout, JSON lines ---- Board.read every interval
               ----- stdin, never written -> its end is the sign to leave

Nothing is polled and no thread runs in the timed process: lines wait in the pipe until somebody asks, for ten
minutes if need be. Readings are joined to blocks by time: `time.monotonic_ns` is one clock for all processes
of a Linux machine. Telemetry never fails. Without NVML its figures are None and `missing` says why.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import reduce
from importlib import import_module
from itertools import chain, takewhile
from operator import or_
from statistics import fmean, median
from time import monotonic_ns
from typing import Any, Self

from convbench.errors import one_line

REASONS = (  # of the clock being what it is, by bit
    *("gpu_idle", "app_clocks", "sw_power_cap", "hw_slowdown", "sync_boost"),
    *("sw_thermal", "hw_thermal", "power_brake", "display_clock"),
)
POWER_CAP = "sw_power_cap"
RERUN_REASONS = ("hw_slowdown", "sw_thermal", "hw_thermal", "power_brake")
LOW_CLOCK = 0.75
KEPT_READINGS = 6000
PIPE_BYTES = 1 << 20
STOP_SECONDS = 1.0


@dataclass(frozen=True)
class Reading:
    """One look at the board at a monotonic time; None is what NVML did not tell."""

    time_ns: int
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    watts: float | None = None
    celsius: float | None = None
    reasons: int | None = None
    processes: list[int] | None = None


@dataclass(frozen=True)
class Summary:
    """The readings of one block. `inside` 0: it was too short for one, the figures are those around it."""

    inside: int
    sm_mhz: float | None
    sm_mhz_min: float | None
    memory_mhz: float | None
    memory_mhz_min: float | None
    watts: float | None
    celsius: float | None
    reasons: list[str] | None
    foreign: list[int] | None


def summarise(readings: Sequence[Reading], inside: int, own: Collection[int]) -> Summary:
    """Medians and extremes of at least one reading."""
    sm, memory = told(r.sm_mhz for r in readings), told(r.memory_mhz for r in readings)
    watts, celsius = told(r.watts for r in readings), told(r.celsius for r in readings)
    reasons = [r.reasons for r in readings if r.reasons is not None]
    return Summary(
        inside=inside,
        sm_mhz=median(sm) if sm else None,
        sm_mhz_min=min(sm, default=None),
        memory_mhz=median(memory) if memory else None,
        memory_mhz_min=min(memory, default=None),
        watts=fmean(watts) if watts else None,
        celsius=max(celsius, default=None),
        reasons=reason_names(reasons) if reasons else None,
        foreign=_foreign([r.processes for r in readings if r.processes is not None], own),
    )


def told(values: Iterable[float | None]) -> list[float]:
    """The values there are."""
    return [value for value in values if value is not None]


def reason_names(masks: Iterable[int]) -> list[str]:
    """Names of all bits set in any of the masks, lowest first; an unknown bit is named by its value."""
    union = reduce(or_, masks, 0)
    names = [*REASONS, *(f"{1 << place:#x}" for place in range(len(REASONS), union.bit_length()))]
    return [name for place, name in enumerate(names) if union >> place & 1]


def _foreign(lists: Sequence[list[int]], own: Collection[int]) -> list[int] | None:
    """Compute processes that are not ours.

    In a container NVML may give the numbers that processes have outside. Then ours is none that we know, and
    all but one process of a reading are foreign: how many is certain, which is not.
    """
    if not lists:
        return None
    seen = set(chain.from_iterable(lists))
    if seen & set(own):
        return sorted(seen - set(own))
    most: list[int] = max(lists, key=len)
    return sorted(most)[1:]


def causes(summary: Summary | None, clock_ratio: float | None) -> list[str]:
    """Hardware causes that justify taking a block again; the ratio is in-kernel clock to top clock.

    A power cap in software is the normal state of a loaded board (tensor cores at full rate run at 70 % of
    the top clock) and no cause; a low clock is one only where NVML can say that it is not that.
    """
    if summary is None:
        return []
    reasons = summary.reasons or []
    found = [reason for reason in RERUN_REASONS if reason in reasons]
    found += ["other_process"] if summary.foreign else []
    capped = summary.reasons is None or POWER_CAP in reasons
    if clock_ratio is not None and clock_ratio < LOW_CLOCK and not capped:
        found.append("low_clock")
    return found


def start_process(uuid: str, interval: float) -> subprocess.Popen[bytes]:
    """The process that reads; `-P` because the working directory may hold a `statistics.py`."""
    command = [sys.executable, "-P", "-m", "convbench.telemetry", uuid, str(interval)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, pipesize=PIPE_BYTES)


class Telemetry:
    """Readings of one GPU for as long as the context lasts; those of the last minutes are kept."""

    def __init__(
        self,
        uuid: str,
        interval: float = 0.1,
        start: Callable[[str, float], subprocess.Popen[bytes]] = start_process,
        own: Collection[int] | None = None,
    ) -> None:
        self._uuid, self._interval, self._start = uuid, interval, start
        self._own = frozenset((os.getpid(),) if own is None else own)
        self._readings: deque[Reading] = deque(maxlen=KEPT_READINGS)
        self._child: subprocess.Popen[bytes] | None = None
        self._missing: str | None = None
        self._rest = b""
        self.unread: dict[str, str] = {}  # what NVML does not tell on this machine, and why

    def __enter__(self) -> Self:
        try:
            self._child = self._start(self._uuid, self._interval)
            os.set_blocking(_output(self._child), False)
        except OSError as error:
            self._missing = f"the telemetry process cannot be started: {one_line(str(error))}"
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take what has arrived and end the process."""
        self._drain()
        self._stop()

    @property
    def missing(self) -> str | None:
        """Why there are no readings, or none any more."""
        self._drain()
        return self._missing

    @property
    def flags(self) -> list[str]:
        return ["no_nvml"] if self.missing is not None else []

    def readings(self) -> list[Reading]:
        self._drain()
        return list(self._readings)

    def between(self, start_ns: int, stop_ns: int) -> Summary | None:
        """The readings from start to stop, or those right before and after if it was too short for one."""
        self._drain()
        reach = int(1.5e9 * self._interval)
        recent = [*takewhile(lambda r: r.time_ns >= start_ns - reach, reversed(self._readings))][::-1]
        inside = [r for r in recent if start_ns <= r.time_ns <= stop_ns]
        before = [r for r in recent if r.time_ns < start_ns][-1:]
        after = [r for r in recent if stop_ns < r.time_ns <= stop_ns + reach][:1]
        chosen = inside or before + after
        return summarise(chosen, len(inside), self._own) if chosen else None

    def _drain(self) -> None:
        """Take what has arrived, without waiting."""
        if self._child is None:
            return
        code = self._child.poll()  # asked first: what it wrote before its end is then all in the pipe
        while chunk := _chunk(_output(self._child)):
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._take(line)
        if code is not None and self._missing is None:
            self._missing = f"the telemetry process ended with exit code {code}"
        if self._missing is not None:
            self._stop()

    def _take(self, line: bytes) -> None:
        try:
            kind, content = json.loads(line)
            if kind == "reading":
                self._readings.append(Reading(**content))
            elif kind == "unread":
                self.unread.update(content)
                if len(self.unread) == len(QUESTIONS):
                    self._missing = f"NVML answers nothing: {self.unread['sm_mhz']}"
            else:
                self._missing = str(content)
        except (ValueError, TypeError) as error:
            self._missing = f"the telemetry process wrote something else: {one_line(str(error))}"

    def _stop(self) -> None:
        """End the process; one that hangs in the driver is left behind rather than waited for."""
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        for end in (child.terminate, child.kill):
            end()
            with suppress(subprocess.TimeoutExpired):
                child.wait(STOP_SECONDS)
                return


def _output(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    return child.stdout.fileno()


def _chunk(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""


# ---- the other process -------------------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "reasons": lambda nvml, board: nvml.nvmlDeviceGetCurrentClocksEventReasons(board),
    "sm_mhz": lambda nvml, board: nvml.nvmlDeviceGetClockInfo(board, 1),
    "memory_mhz": lambda nvml, board: nvml.nvmlDeviceGetClockInfo(board, 2),
    "watts": lambda nvml, board: nvml.nvmlDeviceGetPowerUsage(board) * 1e-3,
    "celsius": lambda nvml, board: nvml.nvmlDeviceGetTemperature(board, 0),
    "processes": lambda nvml, board: [p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(board)],
}


class Board:
    """One GPU as NVML shows it; making one raises what NVML raises."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        nvml.nvmlInit()
        self._nvml, self._board = nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.unread: dict[str, str] = {}

    def read(self, now: Callable[[], int] = monotonic_ns) -> Reading:
        """A reading; questions that this board does not answer are noted in `unread` and come as None."""
        time_ns = now()
        return Reading(time_ns, **{name: self._ask(name) for name in QUESTIONS})

    def _ask(self, name: str) -> Any:
        try:
            return QUESTIONS[name](self._nvml, self._board)
        except Exception as error:  # NVML's own kinds, or a binding without the function
            self.unread[name] = _why(error)
            return None


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "pynvml":
        return "NVML's Python binding is not installed; pip install nvidia-ml-py"
    return f"{type(error).__name__}: {one_line(str(error))}"


def _send(kind: str, content: Any) -> None:
    sys.stdout.write(json.dumps([kind, content]) + "\n")
    sys.stdout.flush()


def watch(uuid: str, interval: float) -> None:
    """Write readings to stdout until stdin ends, which it does when the parent dies."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this process
    try:
        board = Board(import_module("pynvml"), uuid)
    except Exception as error:
        _send("missing", _why(error))
        return
    rest = 0.0
    while not select.select([sys.stdin], [], [], max(rest, 0.0))[0]:
        known = dict(board.unread)
        reading = board.read()
        if board.unread != known:
            _send("unread", board.unread)
        _send("reading", asdict(reading))
        rest = interval - (monotonic_ns() - reading.time_ns) * 1e-9


if __name__ == "__main__":
    watch(sys.argv[1], float(sys.argv[2]))
