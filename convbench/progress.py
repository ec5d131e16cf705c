"""What a user sees while a sweep runs: a bar on a terminal, JSON lines on request, else nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from convbench.book import Notify, Summary
from convbench.record import FAILURES, Status

if TYPE_CHECKING:
    from rich.progress import Progress

    from convbench.sweep import Group

SETTLED = {Status.UNSUPPORTED, Status.OVER_LIMIT}
TOLD = ("note", "lost", "hint")
NOW = ("algorithm", "variant", "phase", "problem")
FINE_STEPS = ("round", "look", "warm-up", "reference", "finish", "close")


@contextmanager
def observer(*, quiet: bool, json_log: bool) -> Iterator[Notify]:
    """Something that shows what it is told."""
    if json_log:
        yield JsonLog()
    elif quiet:
        yield lambda event, **facts: None if event == "hint" else _tell(event, **facts)
    elif not sys.stderr.isatty():
        yield _tell
    else:
        with _rich() as bar:
            yield Bar(bar)


def _tell(event: str, **facts: Any) -> None:
    if event in TOLD:
        click.echo(facts.get("text") or facts.get("reason"), err=True)


class JsonLog:
    """An event a line on standard error; of the steps of a cell those that begin something new."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __call__(self, event: str, **facts: Any) -> None:
        if event == "step" and facts["phase"].startswith(FINE_STEPS):
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": now, **facts})
        with self._lock:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class Bar:
    """Cells done of all there will be, as far as the problems planned so far tell."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._lock = bar, Lock()
        self._problems = self._groups = self._cells = self._done = self._failed = 0
        self._now = ""
        self._task = bar.add_task("", total=None)

    def __call__(self, event: str, **facts: Any) -> None:
        with self._lock:
            match event:
                case "sweep":
                    self._problems = facts["problems"]
                case "group":
                    self._groups += 1
                    self._cells += facts["cells"]
                case "record":
                    self._done += facts["status"] not in SETTLED
                    self._failed += facts["status"] in FAILURES
                case "step":
                    self._now = " ".join(facts[name] for name in NOW)
                case _:
                    _tell(event, **facts)
            self._show()

    def _show(self) -> None:
        from rich.markup import escape

        expected = round(self._cells * self._problems / self._groups) if self._groups else None
        total = None if expected is None else max(expected, self._done)
        failed = f"{self._failed} failed  " if self._failed else ""
        text = escape(failed + self._now)
        self._bar.update(self._task, completed=self._done, total=total, description=text)


def _rich() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    text = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), text)
    console = Console(stderr=True)
    # cells are done in groups, minutes apart
    return Progress(*columns, console=console, transient=True, expand=True, speed_estimate_period=600)


@contextmanager
def progress_bar(groups: Sequence[Group], quiet: bool) -> Iterator[Callable[[Group, Summary], None]]:
    """For groups that are planned already: told after each, on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda group, summary: None
        return
    from rich.markup import escape

    with _rich() as bar:
        task = bar.add_task("", total=sum(len(group.candidates) for group in groups))

        def advance(group: Group, summary: Summary) -> None:
            text = f"{escape(group.problem.label)}  {len(summary.failures)} failed"
            bar.update(task, advance=len(group.candidates), description=text)

        yield advance
