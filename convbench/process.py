"""A child process as its supervisor sees it: requests, events, limits, and how it ended."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import IO, Any

from convbench import wire
from convbench.deaths import TAIL, Death, memory_kills, tail_text
from convbench.errors import CannotRunError, UsageError

COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "convbench.child")
GRACE = 5.0
POLL = 0.5


class DiedError(Exception):
    """The child is gone; `key` is the cell it had announced last, "" for none."""

    def __init__(self, key: str, death: Death) -> None:
        super().__init__(death.reason)
        self.key, self.death = key, death


class Process:
    """One child, from its start to its end. All but `hurry` is for the thread that made it."""

    def __init__(self, environment: Mapping[str, str], limit: Callable[[str], float]) -> None:
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            [*COMMAND, str(os.getpid())],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the supervisor alone; and the whole group can be ended
        )
        self._limit, self._kills = limit, memory_kills()
        self._lines, self._tail, self._error = wire.Splitter(), b"", ""
        self._busy = self._hurried = self._stopped = False
        self._selector = selectors.DefaultSelector()
        for stream in (self._popen.stdout, self._popen.stderr):
            self._selector.register(_open(stream), selectors.EVENT_READ)
        self.begin("", "start")

    @property
    def pid(self) -> int:
        return self._popen.pid

    def begin(self, key: str, phase: str) -> None:
        """The child is at this step now, and its clock starts anew."""
        self._key, self._phase = key, phase
        self._deadline = monotonic() + self._limit(phase)

    def ask(self, do: str, **content: Any) -> Iterator[dict[str, Any]]:
        """Send a request; yield events, the last one being `done`. DiedError if it does not come to that."""
        self.begin("", do)
        self._busy = True
        with suppress(BrokenPipeError):  # it died meanwhile, which is found out below
            stdin = _open(self._popen.stdin)
            stdin.write(wire.encode({"do": do, **content}))
            stdin.flush()
        while True:
            for event in self._arrived():
                match event["event"]:
                    case "starting":
                        self.begin(event["key"], event["phase"])
                    case "broken":
                        self._error = event["error"]
                    case "refused":
                        self._busy = False
                        raise (UsageError if event["usage"] else CannotRunError)(event["message"])
                    case "done" | "leaving":
                        self._busy = False
                yield event
                if event["event"] == "done":
                    return

    # ---- listening -----------------------------------------------------------------------------------------

    def _arrived(self) -> list[dict[str, Any]]:
        """The next events; waits for one."""
        while True:
            left = self._deadline - monotonic()
            if left <= 0 or self._hurried:
                raise self._overdue()
            gone = self._popen.poll() is not None  # asked first: what it wrote is then all in the pipe
            events = self._listen(0 if gone else min(left, POLL))
            if events:
                return events
            if events is None or gone:
                raise self._ended()

    def _listen(self, seconds: float) -> list[dict[str, Any]] | None:
        """Events of one look at the pipes; None once there will be no more."""
        events: list[dict[str, Any]] | None = []
        for ready, _ in self._selector.select(seconds):
            chunk = os.read(ready.fd, 1 << 16)
            if not chunk:
                self._selector.unregister(ready.fileobj)
            if ready.fileobj is self._popen.stderr:
                self._tail = (self._tail + chunk)[-TAIL:]
            else:
                events = self._decoded(chunk) if chunk else None
        return events

    def _decoded(self, chunk: bytes) -> list[dict[str, Any]]:
        try:
            return [wire.decode(line, "event") for line in self._lines.feed(chunk)]
        except ValueError as error:
            self._error = f"it wrote something else than events: {error}"
            self._signal(signal.SIGKILL)
            raise self._ended() from None

    # ---- the end -------------------------------------------------------------------------------------------

    def hurry(self, number: int = signal.SIGTERM) -> None:
        """From any thread: the child is to go, whatever it is doing."""
        self._hurried = True
        if not self._stopped:
            self._signal(number)

    def close(self) -> None:
        """Let a child that has nothing to do leave by itself, and make sure that nothing of it is left."""
        if not self._busy:
            with suppress(OSError):
                _open(self._popen.stdin).close()
            self._wait()
        self.stop()

    def stop(self) -> bool:
        """End the whole process group, politely and then for certain; whether it is gone."""
        if not self._stopped:
            for number in (signal.SIGTERM, signal.SIGKILL):
                self._signal(number)
                self._wait()
            self._release()
        return self._popen.poll() is not None

    def _release(self) -> None:
        self._stopped = True
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            with suppress(OSError):
                _open(stream).close()
        self._selector.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def _wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(GRACE)

    def _overdue(self) -> DiedError:
        limit = self._limit(self._phase)
        self.stop()
        return DiedError(self._key, Death(self._phase, limit=limit, stderr=tail_text(self._tail)))

    def _ended(self) -> DiedError:
        self._wait()
        self._read_rest()
        self.stop()
        death = Death(
            self._phase,
            code=self._popen.poll(),
            error=self._error,
            stderr=tail_text(self._tail),
            starved=memory_kills() > self._kills,
        )
        return DiedError(self._key, death)

    def _read_rest(self) -> None:
        """What is left on its error stream, which a process it left behind may still hold open."""
        stderr = _open(self._popen.stderr).fileno()
        os.set_blocking(stderr, False)
        with suppress(BlockingIOError):
            while chunk := os.read(stderr, 1 << 16):
                self._tail = (self._tail + chunk)[-TAIL:]


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
