"""One group of a supervised sweep: which of its cells are wanted, which are written, and who is to blame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from convbench.api import Problem
from convbench.errors import one_line
from convbench.process import DiedError
from convbench.record import FAILURES, Record, Status

STRIKES = 2
Keep = Callable[[Record], None]


@dataclass(frozen=True)
class Task:
    """A problem whose cells are measured together.

    twice    measure the baseline two times, to learn the noise
    written  keys of cells that another device has finished before it was lost
    """

    problem: Problem
    twice: bool = False
    written: frozenset[str] = frozenset()


class Work:
    """Tasks that several supervisors share."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks, self._lock = deque(tasks), Lock()

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self) -> Task | None:
        with self._lock:
            return self._tasks.popleft() if self._tasks else None

    def give_back(self, task: Task) -> None:
        """For somebody else."""
        with self._lock:
            self._tasks.appendleft(task)


class Known:
    """Cells that are not wanted: those in the store, and those that are finished elsewhere."""

    def __init__(
        self, cells: Mapping[str, Record], *, retry_failed: bool = False, elsewhere: Collection[str] = ()
    ) -> None:
        failed = {key: record for key, record in cells.items() if record.status in FAILURES}
        self._finished = frozenset(cells.keys() - failed.keys() if retry_failed else cells) | {*elsewhere}
        self._failed = frozenset(failed) & self._finished
        self._unplanned: dict[Problem, list[str]] = {}
        for key in self._failed:
            cell = cells[key].cell
            if not cell.variant:
                self._unplanned.setdefault(cell.problem, []).append(key)

    def __contains__(self, key: str) -> bool:
        return key in self._finished

    def failed(self, key: str) -> bool:
        return key in self._failed

    def unplanned(self, problem: Problem) -> list[str]:
        """Keys of algorithms that failed before they named a variant: they are not asked again."""
        return self._unplanned.get(problem, [])


class Trial:
    """A group on its way through as many children as it takes.

    Each cell is held as the record that it would leave if its process died: with a status and a reason that
    is what gets written for the culprit.
    """

    def __init__(self, task: Task, known: Known, keep: Keep) -> None:
        self.task, self._known, self._keep = task, known, keep
        unplanned = known.unplanned(task.problem)
        self.skip = {*unplanned, *task.written}
        self.finished = self.failed = len(unplanned)
        self.planned = False
        self.pending: dict[str, Record] = {}
        self._algorithms: dict[str, Record] = {}
        self._written = set(task.written)
        self._strikes = 0

    @property
    def done(self) -> bool:
        return self.planned and not self.pending

    @property
    def rest(self) -> Task:
        """What is left of the task, for somebody else."""
        return replace(self.task, written=frozenset(self._written))

    def find(self, key: str) -> Record | None:
        """The cell that a child has announced."""
        return self.pending.get(key) or self._algorithms.get(key)

    # ---- what a child tells --------------------------------------------------------------------------------

    def expect(self, algorithms: Sequence[Mapping[str, Any]]) -> None:
        """The algorithms that will be asked for variants now."""
        self._algorithms = {one.key: one for one in map(Record.from_json, algorithms)}

    def plan(self, pending: Sequence[Mapping[str, Any]], settled: Sequence[Mapping[str, Any]]) -> None:
        """The cells there are; a later child may be offered others by a library, but none may vanish."""
        offered = {one.key: one for one in map(Record.from_json, pending)}
        decided = {one.key: one for one in map(Record.from_json, settled)}
        if not self.planned:
            known = [key for key in (*offered, *decided) if key in self._known]
            self.finished += len(known)
            self.failed += sum(map(self._known.failed, known))
        before, self.planned = self.pending, True
        self.pending = {key: one for key, one in offered.items() if self._wanted(key)}
        for record in decided.values():
            if self._wanted(record.key):
                self._write(record)
        for key, record in before.items():
            if self._wanted(key) and key not in self.pending:
                self._end(record, Status.CRASHED, "was offered to one process, and not to the next")

    def take(self, content: Mapping[str, Any], announced: str) -> None:
        """The record of a cell; one that cannot be read is a failure of the cell announced last."""
        try:
            record = Record.from_json(content)
        except (ValueError, TypeError, KeyError) as error:
            if culprit := self.pending.get(announced):
                self._end(culprit, Status.CRASHED, f"its record cannot be read: {one_line(str(error))}")
            return
        if record.key in self.pending:
            self._write(record)

    def complete(self) -> None:
        """The child says that it has measured everything."""
        for record in list(self.pending.values()):
            self._end(record, Status.CRASHED, "the process gave no record for it")

    # ---- what is made of a death ---------------------------------------------------------------------------

    def blame(self, died: DiedError) -> bool:
        """A record for the culprit. Without one the group may try once more; False if that was before."""
        death, culprit = died.death, self.find(died.key)
        if culprit is not None and self._wanted(culprit.key):
            self._end(culprit, death.status, death.reason, death.stderr)
            self.skip |= {culprit.key} & self._algorithms.keys()
            return True
        self._strikes += 1
        if self._strikes < STRIKES:
            return True
        for record in list(self.pending.values()):
            self._end(record, death.status, death.reason, death.stderr)
        return self.planned

    def _wanted(self, key: str) -> bool:
        return key not in self._known and key not in self._written

    def _end(self, record: Record, status: Status, reason: str, stderr: str = "") -> None:
        details = {**record.details, "stderr": stderr} if stderr else record.details
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(replace(record, status=status, reason=reason, details=details, started=now))

    def _write(self, record: Record) -> None:
        self._keep(record)
        self._written.add(record.key)
        self.pending.pop(record.key, None)
