"""Shards on the workers of a cluster: hand out, collect, try once more what was lost, keep one result folder.

An engine only places shards; that nothing is lost is seen to here. The result folder has a single writer,
this process. Workers that see the folder leave their records in its `parts`, from where they are brought in,
by the next sweep if this one is killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from convbench.errors import CannotRunError, UsageError, one_line
from convbench.lock import hold
from convbench.merge import unite
from convbench.record import FAILURES
from convbench.shard_task import PARTS
from convbench.shards import Shard
from convbench.store import FILE, Contents, Store, read

TRIES = 2
REFUSED = 2  # exit code of a `run` that does not understand what it is asked for


@dataclass(frozen=True)
class Task:
    """A shard on its way: what `run_shard` takes."""

    number: int
    text: str


@dataclass(frozen=True)
class Outcome:
    """What became of a task: what `run_shard` gave, or why there is nothing."""

    number: int
    result: str | None
    trouble: str = ""


class Place(Protocol):
    """Workers, each with one device and one shard at a time."""

    def free(self) -> int:
        """How many more shards can be taken now; CannotRunError when the place is gone."""
        ...

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take at most as many tasks as `free` has just said."""
        ...

    def collect(self) -> list[Outcome]:
        """Tasks that have come to an end; waits a moment for one."""
        ...


@dataclass
class Sweep:
    """Shards of one sweep, and the folder their records go to."""

    shards: Sequence[Shard]
    arguments: Sequence[str]
    seconds: float  # until a shard is ended
    retry_failed: bool
    store: Store
    tell: Callable[[str], None]
    tries: dict[int, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def run(self, place: Place) -> None:
        """Measure every shard; `missing` then says which could not be completed, and why."""
        gather(self.store, self.tell)
        with _shared(self.store.folder) as token:
            waiting, flying, idle = deque(range(len(self.shards))), set[int](), False
            while waiting or flying:
                chosen = [waiting.popleft() for _ in range(min(place.free(), len(waiting)))]
                place.submit([Task(number, self._task(number, token)) for number in chosen])
                flying.update(chosen)
                if not flying and not idle:
                    self.tell("waiting for a worker")
                idle = not flying
                for outcome in place.collect():
                    flying.remove(outcome.number)
                    if self._unfinished(outcome):
                        waiting.append(outcome.number)
        gather(self.store, self.tell)

    def _task(self, number: int, token: str) -> str:
        shard = self.shards[number]
        self.tries[number] = self.tries.get(number, 0) + 1
        content = {
            "arguments": [*shard.arguments, *self.arguments],
            "finished": self._finished(shard),
            "seconds": self.seconds,
            "folder": str(self.store.folder.resolve()),
            "token": token,
        }
        return json.dumps(content)

    def _finished(self, shard: Shard) -> list[str]:
        """Keys that need no measuring again, on whatever worker they were measured."""
        problems = set(shard.problems)
        return [
            key
            for key, record in self.store.contents.cells.items()
            if record.cell.problem in problems and not (self.retry_failed and record.status in FAILURES)
        ]

    def _unfinished(self, outcome: Outcome) -> bool:
        """Take in a result; whether the shard is to be tried again."""
        name = f"shard {outcome.number + 1} of {len(self.shards)}"
        before = len(self.store.contents.cells)
        if outcome.result is None:
            gather(self.store, self.tell)  # what the lost worker had left
            trouble = outcome.trouble
        else:
            trouble = self._take(json.loads(outcome.result))
        added = len(self.store.contents.cells) - before
        if not trouble:
            self.tell(f"{name}: {added} new cells")
            return False
        if self.tries[outcome.number] < TRIES:
            self.tell(f"{name}: {trouble}; {added} new cells, the rest is tried once more")
            return True
        self.tell(f"{name}: {trouble}; given up")
        self.missing.append(f"{name}: {trouble}")
        return False

    def _take(self, result: dict[str, Any]) -> str:
        """Bring in the records of a shard; what stopped it, or nothing."""
        if result["records"]:
            part = self.store.folder / PARTS / f"received-{os.urandom(8).hex()}"
            part.mkdir()
            (part / FILE).write_text(result["records"], "ascii")
            _bring_in(self.store, part, self.tell)
        elif re.fullmatch(r"[a-z0-9-]+", result["part"]):
            _bring_in(self.store, self.store.folder / PARTS / result["part"], self.tell)
        code, said = result["code"], one_line(str(result["said"]))
        if code == REFUSED:
            raise UsageError(f"{one_line(result['where'])} refuses its shard: {said}")
        return "" if code in (0, 1) else f"ended with {code} on {one_line(result['where'])}: {said}"


@contextmanager
def _shared(folder: Path) -> Iterator[str]:
    """A mark in the folder by which a worker knows that it sees this very folder."""
    token = os.urandom(8).hex()
    mark = folder / PARTS / f"{token}.token"
    try:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    except OSError as error:
        raise CannotRunError(f"cannot write into '{one_line(str(folder))}': {error.strerror}") from error
    try:
        yield token
    finally:
        mark.unlink(missing_ok=True)


def gather(store: Store, tell: Callable[[str], None]) -> None:
    """Bring in every part that workers have left in the folder."""
    for file in sorted((store.folder / PARTS).glob(f"*/{FILE}")):
        _bring_in(store, file.parent, tell)


def _bring_in(store: Store, part: Path, tell: Callable[[str], None]) -> None:
    """The cells of a part; it is removed unless a worker still writes to it."""
    if not (part / FILE).is_file():
        return
    try:
        lock = hold(part)
    except CannotRunError:
        lock = None
    found = read(part)
    # what a shard says about layers and wishes is a fragment of what the folder says already
    unite(store, [Contents(found.cells, found.environments, noise=found.noise)])
    if lock is not None:
        for note in found.notes:
            tell(f"{part.name}: {note}")
        shutil.rmtree(part, ignore_errors=True)
        lock.close()
