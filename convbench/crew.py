"""Several supervisors at once, and how they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from convbench.errors import TerminatedError
from convbench.supervise import StoppedError, Supervisor

STOPPED = (KeyboardInterrupt, TerminatedError)

Result = TypeVar("Result")


class Crew:
    """Supervisors at work, each in a thread of its own; the main thread waits, and is the one to be told."""

    def __init__(self, supervisors: Sequence[Supervisor]) -> None:
        self.supervisors = supervisors
        self._pool = ThreadPoolExecutor(len(supervisors))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self.supervisors:
            one.close()
        self._pool.shutdown()

    def each(self, do: Callable[[Supervisor], Result]) -> list[Result]:
        """Let every supervisor do something. The first failure, or Ctrl-C, stops them all."""
        futures = [self._pool.submit(do, one) for one in self.supervisors]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in futures):
                self._stop(futures)
        except STOPPED:
            self._stop(futures)
            raise
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, StoppedError)):
            raise error
        return [future.result() for future in futures]

    def _stop(self, futures: Collection[Future[Any]]) -> None:
        """End all children: politely first, at once if somebody is impatient."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for one in self.supervisors:
                one.stop(number)
            try:
                wait(futures)
                return
            except STOPPED:
                continue
