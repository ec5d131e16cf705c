"""A sweep that survives its algorithms: one supervisor a device, which starts children and computes nothing.

    crew.py ── Supervisor (a thread a device) ── Process ══ pipes ══ child.py, where the algorithms run
                 Work: problems to do      Trial: the current one      Book: what is done

A child serves one problem after another until something goes wrong. When it dies, or takes longer than a step
may, the cell that it had announced last gets a record that says so, and the rest of its group is done by the
next child, which has to open the device and compute a little first.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import IO, Any

from convbench.book import Book, Notify
from convbench.errors import CannotRunError, one_line
from convbench.lock import hold_device
from convbench.process import DiedError, Process
from convbench.trial import Known, Trial, Work

START_SECONDS, PROBE_SECONDS = 60.0, 10.0
TRIES = 2


@dataclass(frozen=True)
class Limits:
    """Seconds that a step may take before its child is ended."""

    block: float = 60.0
    build: float = 300.0

    def of(self, phase: str) -> float:
        match phase:
            case "plan" | "prepare" | "reference" | "learn":
                return self.build
            case "start" | "open":
                return START_SECONDS
            case "probe":
                return PROBE_SECONDS
            case _:
                return self.block


@dataclass(frozen=True)
class Place:
    """Where a child runs: what is added to its environment, and which of several fake devices it is."""

    environment: Mapping[str, str]
    index: int | None = None


@dataclass(frozen=True)
class Hello:
    """What a child told about its device."""

    device: str
    place: str
    notice: str
    environment: dict[str, Any]
    free: int | None

    def free_memory(self) -> int | None:
        return self.free


class LostError(CannotRunError):
    """A device on which nothing can be started any more."""


class StoppedError(Exception):
    """The sweep was told to stop."""


class Supervisor:
    """Everything about one device: its lock, its children, and what becomes of a group when one dies."""

    hello: Hello
    lost: LostError | None = None

    def __init__(
        self,
        place: Place,
        device: str | None,
        cache: str,
        wishes: Mapping[str, Any],
        limits: Limits,
        notify: Notify,
    ) -> None:
        self._place, self._limits, self._notify = place, limits, notify
        self._request = {"device": device, "cache": cache, "index": place.index, "wishes": wishes}
        self._process: Process | None = None
        self._lock: IO[str] | None = None
        self._stopping = False
        self._last_step = ("", "")

    # ---- children ------------------------------------------------------------------------------------------

    def open(self) -> Hello:
        """Start the first child and take the device; CannotRunError if that does not work."""
        try:
            self._start()
        except DiedError as died:
            raise CannotRunError(f"the device cannot be opened: {died}") from None
        return self.hello

    def _start(self) -> None:
        """A new child with an open device. The lock comes before anything runs there."""
        if self._stopping:
            raise StoppedError
        try:
            process = self._process = Process(self._place.environment, self._limits.of)
        except OSError as error:
            raise LostError(f"no process can be started: {error.strerror}") from error
        if self._stopping:  # told so between the two lines above
            process.hurry(signal.SIGTERM)
        chosen = self._ask("start", **self._request)
        self._lock = self._lock or hold_device(chosen["place"])
        self.hello = Hello(**chosen, **self._ask("open"))
        self._notify("child", device=self.hello.place, pid=process.pid)

    def _restart(self) -> None:
        """A child where there is none, which is also the probe of a device that has just lost one."""
        if self._process is None and (why := self._attempts()) is not None:
            raise LostError(f"device {self.hello.place} is lost: {one_line(str(why))}")

    def _attempts(self) -> Exception | None:
        """Why no child could be started, or None."""
        last: Exception | None = None
        for _ in range(TRIES):
            try:
                self._start()
                return None
            except (DiedError, CannotRunError) as error:
                self._bury()
                last = error
        return last

    def _bury(self) -> None:
        """After a death: nothing of the child may be left, or the device is lost."""
        process, self._process = self._process, None
        if process is not None and not process.stop():
            raise LostError(f"device {self.hello.place} is lost: process {process.pid} cannot be ended")
        if self._stopping:
            raise StoppedError

    def _events(self, do: str, **content: Any) -> Iterator[dict[str, Any]]:
        """What the child says until it is done."""
        assert self._process is not None
        for event in self._process.ask(do, **content):
            if event["event"] == "note":
                self._notify("note", text=event["text"])
            yield event

    def _ask(self, do: str, **content: Any) -> dict[str, Any]:
        """Its answer alone."""
        *_, answer = self._events(do, **content)
        return {name: value for name, value in answer.items() if name != "event"}

    def stop(self, number: int) -> None:
        """From another thread: drop what is in the works."""
        self._stopping = True
        if process := self._process:
            process.hurry(number)

    def close(self) -> None:
        """End the child and give the device back."""
        self._dismiss()
        if self._lock is not None:
            self._lock.close()

    def _dismiss(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    # ---- groups --------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Rates of the machine that figures are compared with; a sweep can do without."""
        try:
            self._ask("learn")
        except DiedError as died:
            self._bury()
            self._notify("note", text=f"the rates of this machine are not known: {died}")

    def run(self, work: Work, book: Book, known: Known) -> None:
        """Do what there is to do. A device that is lost leaves its problem to the others."""
        start = perf_counter()
        try:
            while (task := work.take()) is not None:
                trial = Trial(task, known, book.keep)
                try:
                    self.work(trial, book)
                except LostError as lost:
                    work.give_back(trial.rest)
                    self.lost = lost
                    self._notify("lost", device=self.hello.place, reason=str(lost))
                    return
        except StoppedError:
            pass
        finally:
            self._dismiss()
            book.spend(perf_counter() - start)

    def work(self, trial: Trial, book: Book, *, measure: bool = True) -> None:
        """One group, with as many children as it takes."""
        while not trial.done:
            try:
                self._restart()
                self._plan(trial, book)
                if not measure:
                    return
                if trial.pending:
                    self._measure(trial, book)
            except DiedError as died:
                self._bury()
                self._notify("death", device=self.hello.place, reason=str(died))
                if not trial.blame(died):
                    raise LostError(f"device {self.hello.place} is lost: {died}") from None

    def _plan(self, trial: Trial, book: Book) -> None:
        first = not trial.planned
        for event in self._events("plan", problem=trial.task.problem.as_dict(), skip=sorted(trial.skip)):
            match event["event"]:
                case "algorithms":
                    trial.expect(event["records"])
                case "starting":
                    self._step(trial, event)
                case "done":
                    trial.plan(event["pending"], event["settled"])
        if first:
            book.count(trial.finished, trial.failed)
            facts = {
                "problem": trial.task.problem.label,
                "cells": len(trial.pending),
                "finished": trial.finished,
            }
            self._notify("group", device=self.hello.place, **facts)

    def _measure(self, trial: Trial, book: Book) -> None:
        announced = ""
        for event in self._events("measure", keys=[*trial.pending], alias=trial.task.twice):
            match event["event"]:
                case "starting":
                    announced = event["key"]
                    self._step(trial, event)
                case "record":
                    trial.take(event["record"], announced)
                case "leaving":
                    self._dismiss()
                    return
                case "done":
                    trial.complete()
                    seconds, environment = event["kernel_seconds"], self.hello.environment["id"]
                    book.close_group(trial.task.problem, environment, event["noise"], seconds)
                    if event["tainted"]:
                        self._dismiss()

    def _step(self, trial: Trial, event: Mapping[str, Any]) -> None:
        """Tell where the child is."""
        found, step = trial.find(event["key"]), (event["key"], event["phase"])
        if found and step != self._last_step:
            self._last_step, cell = step, found.cell
            names = {"problem": cell.problem.label, "algorithm": cell.algorithm, "variant": cell.variant}
            self._notify("step", device=self.hello.place, **names, phase=event["phase"])
