"""Shards as arrays of Slurm jobs, through submitit: one array task is one shard on one GPU.

The result folder lies on a disk that all nodes share. Results are read from files of our own in it; what
submitit pickles is the name of a function and two texts, and its result files are never opened.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from convbench.cluster import Outcome, Task
from convbench.errors import CannotRunError, UsageError, one_line
from convbench.shard_task import PARTS, run_shard_into

LOGS = "slurm"
MOMENT = 2.0
MARGIN = 5  # minutes of walltime beyond a shard's limit, which is to pass first


class SlurmPlace:
    """Jobs of an executor, which queues as many as it is given."""

    def __init__(self, executor: Any, folder: Path, moment: float = MOMENT) -> None:
        self._executor, self._parts, self._moment = executor, folder / PARTS, moment
        self._flying: dict[int, tuple[Any, Path]] = {}
        self._ended: set[int] = set()
        self.lost = False

    def free(self) -> int:
        return sys.maxsize

    def submit(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            return
        files = [self._parts / f"{os.urandom(8).hex()}.result" for _ in tasks]
        with self._executor.batch():  # becomes one array
            jobs = [
                self._executor.submit(run_shard_into, task.text, str(file))
                for task, file in zip(tasks, files, strict=True)
            ]
        for task, job, file in zip(tasks, jobs, files, strict=True):
            self._flying[task.number] = job, file

    def collect(self) -> list[Outcome]:
        sleep(self._moment)
        outcomes = [self._outcome(number, job, file) for number, (job, file) in self._flying.items()]
        ended = [outcome for outcome in outcomes if outcome is not None]
        for outcome in ended:
            self._flying.pop(outcome.number)[1].unlink(missing_ok=True)
            self._ended.discard(outcome.number)
        return ended

    def close(self) -> None:
        """Take back what waits or runs; its finished cells lie in the folder."""
        for job, _ in self._flying.values():
            job.cancel()

    def _outcome(self, number: int, job: Any, file: Path) -> Outcome | None:
        if file.exists():
            return Outcome(number, file.read_text("utf-8"))
        if not job.done():
            return None
        if number not in self._ended:  # a shared disk may show a file a little later
            self._ended.add(number)
            return None
        self.lost = True
        return Outcome(number, None, one_line(f"Slurm job {job.job_id} left no result: {job.state}"))


@contextmanager
def slurm_place(
    folder: Path, seconds: float, at_once: int, gpu: bool, wishes: Mapping[str, str]
) -> Iterator[SlurmPlace]:
    """The cluster whose `sbatch` is on the PATH; `wishes` are options of sbatch."""
    try:
        from submitit import AutoExecutor
    except ImportError:
        raise UsageError("submitit is not installed; pip install 'convbench[slurm]'") from None
    try:
        executor = AutoExecutor(folder / LOGS, cluster="slurm", slurm_max_num_timeout=0)
    except RuntimeError as error:
        raise CannotRunError(f"no Slurm here: {one_line(str(error))}") from None
    executor.update_parameters(
        name="convbench",
        timeout_min=int(seconds / 60) + MARGIN,
        slurm_array_parallelism=at_once,
        slurm_additional_parameters={**({"gres": "gpu:1"} if gpu else {}), **wishes},
    )
    for stale in (folder / PARTS).glob("*.result"):
        stale.unlink(missing_ok=True)
    place = SlurmPlace(executor, folder)
    try:
        yield place
    finally:
        place.close()
    if not place.lost:  # else its logs tell why
        shutil.rmtree(folder / LOGS, ignore_errors=True)
