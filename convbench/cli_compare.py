"""The commands that compare: two result folders, or two algorithms against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from convbench.cli_options import (
    batch_option,
    device_option,
    directions_option,
    format_option,
    layout_option,
    members,
    open_device,
    plans_option,
    precision_option,
    threads_option,
    why,
)
from convbench.problem import Direction, Layout, Precision

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("base", metavar="A", type=FOLDER)
@click.argument("candidate", metavar="B", type=FOLDER)
@click.option(
    "--fail-on",
    "gates",
    multiple=True,
    metavar="slow,wrong,missing",
    help="Exit with 1 if a cell of B is slower, fails now (wrong, crashed, ...), or is gone.",
)
@click.option("--all", "everything", is_flag=True, help="Show also what stayed the same.")
@click.option("--plot", type=FOLDER, metavar="FILE", help="Draw the ratios as FILE.svg and FILE.png.")
@format_option
def compare(
    base: Path, candidate: Path, gates: Sequence[str], everything: bool, plot: Path | None, form: str
) -> int:
    """What changed from result folder A to result folder B.

    A folder may be one of an earlier commit: `convbench compare HEAD~3:results/run results/run`.

    Each cell that both measured is SLOW, FAST, SAME or AMBG (cannot be told). Runs made one after the other
    differ by themselves, so less than 2 % is never SLOW or FAST; `convbench ab` sees smaller differences.
    """
    from convbench.commands import compare_folders
    from convbench.compare import Gate

    chosen = members(Gate, gates) if gates else ()
    return compare_folders(base, candidate, form, everything=everything, gates=chosen, plot=plot)


@click.command()
@click.argument("first", metavar="ALGO1")
@click.argument("second", metavar="ALGO2")
@click.argument("targets", nargs=-1, required=True, metavar="SUITE|FILE|TEXT...")
@directions_option
@precision_option
@layout_option
@batch_option
@device_option
@threads_option
@plans_option
@click.option("--out", type=FOLDER, help="Result folder; default: results/ab-NAME.")
@click.option(
    "--fail-on",
    "gates",
    multiple=True,
    type=click.Choice(["slow"]),
    help="Exit with 1 if ALGO2 is slower anywhere.",
)
@format_option
def ab(first: str, second: str, targets: Sequence[str], **options: Any) -> int:
    """Is ALGO2 faster than ALGO1? Both are timed in the same rounds, and their ratio is taken in each round.

    An algorithm stands for its fastest variant; ALGO/VARIANT names one, as in `winograd/f4`.
    """
    device = open_device(options["device"], options["threads"])
    from convbench.ab import run_ab
    from convbench.compare import Gate

    wishes = {
        "directions": members(Direction, options["directions"]),
        "precisions": members(Precision, options["precisions"]),
        "layouts": members(Layout, options["layouts"]),
    }
    gates = [Gate(gate) for gate in options["gates"]]
    keep = {name: options[name] for name in ("batch", "out", "form")} | {"notice": why(options["device"])}
    return run_ab(device, (first, second), targets, wishes, gates=gates, **keep)
