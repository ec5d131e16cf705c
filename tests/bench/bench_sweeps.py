"""Bookkeeping of a sweep of 10,000 cells: seconds a cell to load, to resume and to append, and memory.

`pytest tests/bench/bench_sweeps.py --benchmark-only -s`; each is meant to stay under 1 ms a cell, and the
whole under 500 MiB.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convbench.book import Book
from convbench.problem import Problem
from convbench.record import Cell, Check, Record, Status, Timing, Workspace
from convbench.store import Store, read
from convbench.trial import Known, Task, Trial

CELLS, VARIANTS = 10_000, 10


def cell(number: int) -> Record:
    """A record as large as those of a sweep with the default preset."""
    rng = random.Random(number)
    samples = [[rng.uniform(1e-3, 2e-3) for _ in range(4)] for _ in range(15)]
    blocks = [sorted(block)[1] for block in samples]
    time = Timing("cpu", blocks[0], 1e-3, 2e-3, 1e-3, 1e-3, 2e-3, 0, 0, 7, blocks, samples, [1.9e9] * 15)
    problem = Problem.parse(f"n1c{number // VARIANTS + 1}h8k8r3p1")
    found = Cell(problem, "algorithm", f"variant{number % VARIANTS}", "cuda")
    check, space = Check(1e-7, 0.5, "S", True, True), Workspace(64, 64, 0)
    return Record(
        f"{number:064x}", found, Status.OK, check=check, time=time, workspace=space, environment="e"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("large") / "run"
    with Store(folder) as store:
        for number in range(CELLS):
            store.add_record(cell(number))
    yield folder
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nlargest memory of this process: {largest:.0f} MiB")


def told(benchmark: Any, what: str, cells: int = CELLS) -> None:
    print(f"\n{what}: {benchmark.stats.stats.median / cells * 1e3:.3f} ms a cell")


def test_load(benchmark: Any, folder: Path) -> None:
    assert len(benchmark.pedantic(read, (folder,), rounds=3).cells) == CELLS
    told(benchmark, "load")


def test_resume(benchmark: Any, folder: Path) -> None:
    """What a second `run` does with the folder and with what a child plans, when everything is there."""
    plans = [[cell(number).to_json() for number in range(i, i + VARIANTS)] for i in range(0, CELLS, VARIANTS)]

    def resume() -> int:
        with Store(folder) as store:
            known, finished = Known(store.contents.cells), 0
            for plan in plans:
                trial = Trial(Task(Problem.from_dict(plan[0]["cell"]["problem"])), known, store.add_record)
                trial.plan(plan, [])
                finished += trial.finished
        return finished

    assert benchmark.pedantic(resume, rounds=3) == CELLS
    told(benchmark, "resume")


@pytest.mark.parametrize("disk", [True, False], ids=["with fsync", "without the disk"])
def test_append(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: bool) -> None:
    """From a child's record to the disk."""
    if not disk:
        monkeypatch.setattr("os.fsync", lambda file: None)
    records = [cell(number).to_json() for number in range(1000)]

    def append() -> None:
        with Store(tmp_path / str(random.random())) as store:
            book = Book(store)
            for content in records:
                book.keep(Record.from_json(content))

    benchmark.pedantic(append, rounds=3)
    told(benchmark, f"append, {'with fsync' if disk else 'without waiting for the disk'}", len(records))
