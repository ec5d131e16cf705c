"""What a sweep has done so far: every record goes through here, from whichever device it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from convbench.api import Problem
from convbench.errors import one_line
from convbench.record import FAILURES, Record, Status
from convbench.store import Store

Notify = Callable[..., None]
"""Told of everything that happens in a sweep: the name of an event, and facts by name."""


def silent(event: str, **facts: Any) -> None:
    """Nobody is interested."""


@dataclass
class Summary:
    """What a sweep did. `seconds` are those of its devices, all together."""

    records: list[Record] = field(default_factory=list)
    finished_before: int = 0
    failed_before: int = 0
    kernel_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def measured(self) -> int:
        return sum(record.time is not None for record in self.records)

    @property
    def failures(self) -> list[Record]:
        return [record for record in self.records if record.status in FAILURES]

    @property
    def overhead(self) -> float:
        """Harness seconds per measured cell, besides the kernels' own."""
        return (self.seconds - self.kernel_seconds) / max(1, self.measured)


class Book:
    """Appends to a store, one writer at a time; without a store nothing is written."""

    def __init__(self, store: Store | None, notify: Notify = silent) -> None:
        self.summary = Summary()
        self._store, self._notify, self._lock = store, notify, Lock()

    def count(self, finished: int, failed: int) -> None:
        """Cells that were there before."""
        with self._lock:
            self.summary.finished_before += finished
            self.summary.failed_before += failed

    def spend(self, seconds: float) -> None:
        """Time that a device was in use for this."""
        with self._lock:
            self.summary.seconds += seconds

    def keep(self, record: Record) -> None:
        """Write it down; when this returns, it is on disk."""
        with self._lock:
            record = self._stored(record)
            self.summary.records.append(record)
        self._notify("record", **_facts(record))

    def _stored(self, record: Record) -> Record:
        if self._store is None:
            return record
        try:
            self._store.add_record(record)
        except (TypeError, ValueError) as error:
            record = _unstorable(record, error)
            self._store.add_record(record)
        return record

    def close_group(
        self, problem: Problem, environment: str, noise: float | None, kernel_seconds: float
    ) -> None:
        """What a group yielded besides its records."""
        with self._lock:
            self.summary.kernel_seconds += kernel_seconds
            if noise is not None and self._store is not None:
                content = {"kind": "noise", "problem": problem.label, "ratio": noise}
                self._store.append({**content, "environment": environment})


def _unstorable(record: Record, error: Exception) -> Record:
    reason = f"its record cannot be stored: {type(error).__name__}: {one_line(str(error))}"
    return Record(record.key, record.cell, Status.CRASHED, reason, environment=record.environment)


def _facts(record: Record) -> dict[str, Any]:
    cell = record.cell
    return {
        "key": record.key,
        "problem": cell.problem.label,
        "algorithm": cell.algorithm,
        "variant": cell.variant,
        "status": record.status.value,
        "reason": record.reason,
        "seconds": record.time.median if record.time else None,
    }
