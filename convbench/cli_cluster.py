"""The commands that measure on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from convbench.errors import UsageError, one_line

if TYPE_CHECKING:
    from convbench.cluster import Place
    from convbench.cluster_run import Request

_WORDS: dict[str, Any] = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_arguments = click.argument(
    "arguments", metavar="ARGUMENTS-OF-RUN...", nargs=-1, required=True, type=click.UNPROCESSED
)
_minutes = click.option(
    "--shard-minutes", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True,
    help="Work handed to a worker at a time.",
)  # fmt: skip
_limit = click.option(
    "--shard-limit", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
    help="End a shard that takes longer; default: ten times --shard-minutes.",
)  # fmt: skip


@click.group()
def cluster() -> None:
    """Measure on the workers of a cluster, into one result folder.

    From the first argument on, everything is as for `convbench run`; --device is cuda unless it says cpu.
    One worker measures all cells of a problem. What is finished stays when a worker, the scheduler or this
    command dies; the same command goes on from there.
    """


@cluster.command(context_settings=_WORDS)
@click.argument("scheduler", metavar="ADDRESS|FILE")
@_minutes
@_limit
@_arguments
def dask(scheduler: str, shard_minutes: float, shard_limit: float | None, arguments: Sequence[str]) -> int:
    """On the workers of a Dask scheduler: one worker with one thread for each GPU.

    \b
    convbench cluster dask tcp://head:8786 resnet-50 --quick --out results/r50
    """
    from convbench.cluster_dask import dask_place

    def place(request: Request) -> AbstractContextManager[Place]:
        return dask_place(scheduler)

    return _measure(arguments, shard_minutes, shard_limit, place)


@cluster.command(context_settings=_WORDS)
@click.option(
    "--at-once", type=click.IntRange(1), default=256, show_default=True, help="GPUs used at a time."
)
@click.option("--sbatch", "wishes", multiple=True, metavar="NAME=VALUE", help="An option of sbatch.")
@_minutes
@_limit
@_arguments
def slurm(
    at_once: int,
    wishes: Sequence[str],
    shard_minutes: float,
    shard_limit: float | None,
    arguments: Sequence[str],
) -> int:
    """As arrays of Slurm jobs, each with one GPU; the result folder is on a disk that all nodes share.

    \b
    convbench cluster slurm --sbatch partition=gpu resnet-50 --quick --out results/r50
    """
    from convbench.cluster_slurm import slurm_place

    options = dict(_pair(wish) for wish in wishes)

    def place(request: Request) -> AbstractContextManager[Place]:
        return slurm_place(request.folder, request.seconds, at_once, request.device == "cuda", options)

    return _measure(arguments, shard_minutes, shard_limit, place)


def _pair(wish: str) -> tuple[str, str]:
    name, equals, value = wish.partition("=")
    if not equals or not name.replace("-", "").isalnum():
        raise UsageError(f"--sbatch '{one_line(wish)}': must be NAME=VALUE, such as partition=gpu")
    return name, value


def _measure(
    arguments: Sequence[str],
    minutes: float,
    limit: float | None,
    place: Callable[[Request], AbstractContextManager[Place]],
) -> int:
    from convbench.cluster_run import announce, measure, understand

    request = understand(arguments, 60 * minutes, 60 * (limit or 10 * minutes))
    return announce(request) if request.dry_run else measure(request, place)
