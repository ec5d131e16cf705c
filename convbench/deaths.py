"""Why a child is gone, and the status that its last cell gets for it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from convbench.errors import one_line
from convbench.record import Status

TAIL = 4096


@dataclass(frozen=True)
class Death:
    """The end of a child: what it was doing, and how it ended.

    code      exit code, negative for a signal
    limit     the seconds that it was given, if it was ended for taking longer
    error     what it said itself before it left
    stderr    the last lines it wrote there
    starved   the system killed a process for want of memory meanwhile
    """

    phase: str
    code: int | None = None
    limit: float | None = None
    error: str = ""
    stderr: str = ""
    starved: bool = False

    @property
    def status(self) -> Status:
        if self.limit is not None:
            return Status.TIMEOUT
        return Status.OOM if self.code == -signal.SIGKILL and self.starved else Status.CRASHED

    @property
    def reason(self) -> str:
        """One line."""
        return f"{self._cause()} in phase '{self.phase}'"

    def _cause(self) -> str:
        if self.limit is not None:
            return f"not done within {self.limit:g} s, ended"
        if self.error:
            return one_line(self.error)
        if self.code is not None and self.code < 0:
            why = ", the system ran out of memory" if self.status is Status.OOM else ""
            return f"killed by {_signal_name(-self.code)}{why}"
        last = self.stderr.rpartition(" | ")[2]
        return f"the process left with exit code {self.code}{f' ({one_line(last)})' if last else ''}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


def tail_text(tail: bytes) -> str:
    """The end of an error stream as one printable line."""
    lines = tail[-TAIL:].decode(errors="replace").splitlines()
    text = " | ".join(line.strip() for line in lines if line.strip())
    return text if text.isprintable() else ascii(text)[1:-1]


def memory_kills() -> int:
    """How often this system has killed a process to get memory back; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
