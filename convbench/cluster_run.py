"""A sweep on a cluster, from the arguments of `convbench run` to the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from convbench import registry
from convbench.cli_options import members, parse_limits, words
from convbench.cluster import Place, Sweep
from convbench.commands import show_folder, tell
from convbench.errors import CannotRunError
from convbench.job import describe_suite
from convbench.problem import Direction, Layout, Precision
from convbench.record import FAILURES
from convbench.run import slug
from convbench.shards import Shard, common_arguments, estimate, split
from convbench.store import Store
from convbench.suites import Suite, select
from convbench.sweep import Options, problems


@dataclass(frozen=True)
class Request:
    """What is to be measured, and what of the command line stays here."""

    suite: Suite
    shards: list[Shard]
    arguments: list[str]
    folder: Path
    seconds: float
    device: str
    words: Sequence[str]
    options: dict[str, Any]

    @property
    def dry_run(self) -> bool:
        return bool(self.options["dry_run"])


def understand(arguments: Sequence[str], seconds: float, limit: float) -> Request:
    """Shards of about `seconds`, each to be ended at the limit, for a command line of `convbench run`."""
    from convbench.cli import cli

    context = cli.commands["run"].make_context("run", list(arguments))
    options = context.params
    suite = select(options["targets"])
    suite = suite.with_batch(options["batch"]) if options["batch"] else suite
    device = options["device"] or "cuda"
    wanted = Options(
        registry.select(device, words(options["algorithms"])),
        members(Direction, options["directions"]),
        members(Precision, options["precisions"]),
        members(Layout, options["layouts"]),
    )

    def cost(problem: Any) -> float:
        return estimate(problem, options["preset"], len(wanted.entries), options["energy"])

    return Request(
        suite,
        split(problems(suite, wanted), cost, seconds),
        common_arguments(context),
        options["out"] or Path("results") / slug(suite.name),
        limit,
        device,
        arguments,
        options,
    )


def announce(request: Request) -> int:
    """Say what would be handed out."""
    for number, shard in enumerate(request.shards, 1):
        command = " ".join([*shard.arguments, *request.arguments])
        click.echo(f"shard {number}, about {shard.seconds / 60:.1f} min: convbench run {command}")
    total = sum(len(shard.problems) for shard in request.shards)
    click.echo(f"{total} problems in {len(request.shards)} shards")
    return 0


def measure(request: Request, open_place: Callable[[Request], AbstractContextManager[Place]]) -> int:
    """Measure what is missing in the result folder, then show who won."""
    quiet = request.options["quiet"]
    with Store(request.folder) as store:
        tell(*(f"convbench: {note}" for note in store.contents.notes))
        before = len(store.contents.cells)
        sweep = Sweep(
            request.shards,
            request.arguments,
            request.seconds,
            request.options["retry_failed"],
            store,
            (lambda line: None) if quiet else tell,
        )
        with open_place(request) as place:
            limits, preset = parse_limits(request.options["limits"]), request.options["preset"]
            describe_suite(store, request.suite, ["run", *request.words], limits, preset)
            sweep.run(place)
        cells = store.contents.cells
    if not quiet and cells:
        show_folder(request.folder, ("winners",), "terminal")
    click.echo(f"{len(cells) - before} new cells, {before} were there already; results in {request.folder}")
    if request.options["report_"]:
        from convbench.report import build

        click.echo(f"page: {build(request.folder)}")
    if sweep.missing:
        raise CannotRunError(
            f"{len(sweep.missing)} of {len(request.shards)} shards not completed: {sweep.missing[0]}; "
            "the same command goes on from there"
        )
    wanted = {problem for shard in request.shards for problem in shard.problems}
    return int(any(record.status in FAILURES and record.cell.problem in wanted for record in cells.values()))
