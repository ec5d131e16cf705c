"""Shards on a Dask cluster that is there already: one in flight on each worker, each worker with one GPU.

Dask repeats nothing here: a task is tied to its worker, and when that is gone the loop in `cluster` decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import sleep
from typing import Any

from convbench.cluster import Outcome, Task
from convbench.errors import CannotRunError, UsageError, one_line
from convbench.shard_task import run_shard

CONNECT = "15s"
MOMENT = 0.3


class DaskPlace:
    """The workers of a scheduler. If some announce the resource GPU, those alone are used."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._idle: dict[str, dict[str, float] | None] = {}
        self._flying: dict[int, tuple[str, Any]] = {}

    def free(self) -> int:
        """Workers without a shard of ours, kept with the resources to ask for."""
        workers = self._workers()
        gpus = {name for name, worker in workers.items() if worker["resources"].get("GPU")}
        busy = {worker for worker, _ in self._flying.values()}
        chosen = [name for name in gpus or workers if name not in busy]
        self._idle = dict.fromkeys(chosen, {"GPU": 1.0} if gpus else None)
        return len(chosen)

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            worker, resources = self._idle.popitem()
            future = self._client.submit(
                run_shard,
                task.text,
                key=f"convbench-{os.urandom(8).hex()}",
                workers=[worker],
                allow_other_workers=False,
                resources=resources,
                retries=0,
                pure=False,
            )
            self._flying[task.number] = worker, future

    def collect(self) -> list[Outcome]:
        sleep(MOMENT)
        workers = self._workers()
        outcomes = [self._outcome(number, workers) for number in self._flying]
        ended = [outcome for outcome in outcomes if outcome is not None]
        for outcome in ended:
            del self._flying[outcome.number]
        return ended

    def close(self) -> None:
        """Forget what is in flight; a worker that is at it ends its shard by itself."""
        for _, future in self._flying.values():
            future.cancel()

    def _outcome(self, number: int, workers: dict[str, Any]) -> Outcome | None:
        worker, future = self._flying[number]
        status = future.status  # asked once: another thread changes it
        if status in ("finished", "error"):
            try:
                return Outcome(number, str(future.result(timeout=CONNECT)))  # it may die with the result
            except Exception as error:  # the engine may raise anything; the shard is lost
                return Outcome(number, None, f"worker {worker}: {one_line(str(error))}")
        if worker not in workers:
            future.cancel()
            return Outcome(number, None, f"worker {worker} is gone")
        if status != "pending":
            return Outcome(number, None, f"worker {worker} lost its task, which is {status}")
        return None

    def _workers(self) -> dict[str, Any]:
        """What the scheduler knows of its workers; without it there is no going on.

        Asked directly: what the client remembers is overwritten now and then by a list without workers.
        """
        client = self._client
        try:
            if client.status == "running":
                return dict(client.sync(client.scheduler.identity, n_workers=-1)["workers"])
        except (OSError, AttributeError):  # it went meanwhile, and the client's connection with it
            pass
        raise CannotRunError(
            "the Dask scheduler is gone; what was finished is kept, the same command goes on from there"
        )


@contextmanager
def dask_place(address: str) -> Iterator[DaskPlace]:
    """The place behind an address or a scheduler file."""
    try:
        connect = import_module("distributed").Client
    except ImportError:
        raise UsageError("Dask is not installed; pip install 'convbench[dask]'") from None
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        client = connect(timeout=CONNECT, set_as_default=False, **where)
    except (OSError, ValueError) as error:
        raise CannotRunError(f"no Dask scheduler at '{one_line(address)}': {one_line(str(error))}") from None
    with client:
        place = DaskPlace(client)
        try:
            yield place
        finally:
            place.close()
