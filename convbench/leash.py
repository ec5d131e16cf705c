"""`python -m convbench.leash SECONDS COMMAND...`: a command that ends with its caller, or at its limit.

A worker of a cluster can be killed at any moment, and what it had started would go on using its device.
Between the two stands this process: when its standard input ends, when it is told to stop, or when the time
is over, it ends the whole process group of the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

OVER = 124  # exit code when the limit passed, as of timeout(1)
GONE = 125  # exit code when the one who waited is gone
PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL


def hold(command: Sequence[str], seconds: float, gone: threading.Event) -> int:
    """Run a command until it ends, `gone` is set or the time is over; its exit code as a shell gives it."""
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = monotonic() + seconds
    while (code := _wait(started, 0.05)) is None:
        if gone.is_set() or monotonic() > deadline:
            end(started)
            return GONE if gone.is_set() else OVER
    _signal(started, signal.SIGKILL)  # what it may have left behind
    return code if code >= 0 else 128 - code


def end(started: subprocess.Popen[bytes]) -> None:
    """End a process group: SIGTERM, some patience, SIGKILL. What even that cannot end is left behind."""
    _signal(started, signal.SIGTERM)
    _wait(started, PATIENCE)
    _signal(started, signal.SIGKILL)
    _wait(started, 1.0)


def _wait(started: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return started.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _signal(started: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group is gone
        os.killpg(started.pid, number)


def main() -> None:
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    gone = threading.Event()

    def watch() -> None:
        while os.read(0, 1 << 12):
            pass
        gone.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: gone.set())
    threading.Thread(target=watch, daemon=True).start()
    sys.exit(hold(command, seconds, gone))


if __name__ == "__main__":
    main()
