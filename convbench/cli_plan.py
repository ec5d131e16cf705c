"""`convbench plan`: which algorithm for each layer under a workspace limit, and what the limit costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convbench.cli_options import members, words
from convbench.errors import UsageError, one_line
from convbench.plan import Budget
from convbench.problem import Direction

if TYPE_CHECKING:
    from convbench.plan_cells import Wishes
    from convbench.report.plan import Plan

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--workspace", default="none", metavar="256MiB|none", help="The limit; default: none.")
@click.option("--per-call", "budget", flag_value="call", default=True, help="For each call (default).")
@click.option(
    "--shared",
    "budget",
    flag_value="shared",
    help="For one workspace that all layers share: they run in turn, so that the choice is the same.",
)
@click.option("--total", "budget", flag_value="total", help="For the sum over all layers, each with its own.")
@click.option("--network", metavar="NAME", help="One of the networks of the results.")
@click.option("--batch", type=click.IntRange(1), help="The network at this batch size.")
@click.option(
    "--directions", multiple=True, metavar="fwd,bwd-data,bwd-filter|all", help="Default: all there are."
)
@click.option("--algorithms", multiple=True, metavar="A,B", help="Choose among these; default: all.")
@click.option(
    "--accuracy", metavar="S|F|...", help="Worst accuracy class; default: what the precision ranks."
)
@click.option("--no-split", "split", flag_value=False, default=True, help="Never run a batch in pieces.")
@click.option("--device", metavar="NAME", help="These and the next: where the results hold several.")
@click.option("--precision", metavar="NAME")
@click.option("--layout", metavar="NAME")
@click.option("--figure", metavar="NAME", help="cpu, gpu_cold, gpu_hot, ...")
@click.option("--regime", metavar="NAME", help="sustained or burst.")
@click.option("--preset", metavar="NAME", help="quick, default or rigorous.")
@click.option("--environment", metavar="ID")
@click.option(
    "--format", "form", type=click.Choice(["terminal", "markdown", "csv", "json"]), default="terminal"
)
@click.option("--plot", type=FOLDER, help="Draw time against limit: PLOT.svg and PLOT.png.")
def plan(folder: Path, workspace: str, budget: str, form: str, plot: Path | None, **wishes: Any) -> int:
    """The choice for each layer that minimises a network's time within a workspace limit.

    Batches are run in pieces where that helps and the results hold the layer at smaller batches. Exit code 1
    if some layer cannot be done within the limit.
    """
    from convbench.commands import shown
    from convbench.frame import cells_frame, layers_frame
    from convbench.plan_cells import network
    from convbench.report.plan import Plan
    from convbench.sizes import parse_size

    if workspace.endswith("%"):
        raise UsageError(f"--workspace {one_line(workspace)}: no share of a memory; write 64MiB or 2GB")
    limit = None if workspace == "none" else parse_size(workspace)
    contents = shown(folder)
    found = network(cells_frame(contents), layers_frame(contents), _wishes(**wishes))
    made = Plan.of(found, Budget(budget), limit)
    _print(made, form)
    if plot is not None:
        _draw(made, plot)
    return int(bool(made.missing))


def _wishes(
    network: str | None,
    batch: int | None,
    directions: Sequence[str],
    algorithms: Sequence[str],
    accuracy: str | None,
    split: bool,
    **scope: str | None,
) -> Wishes:
    from convbench.plan_cells import Wishes

    passes = members(Direction, directions) if directions and "all" not in directions else ()
    return Wishes(scope, network, batch, passes, tuple(words(algorithms) or ()), accuracy, split)


def _print(made: Plan, form: str) -> None:
    import json
    from dataclasses import replace

    from convbench.commands import print_tables
    from convbench.report.plan import closing, table
    from convbench.report.plan_json import as_json

    if form == "json":
        click.echo(json.dumps(as_json(made), indent=1, allow_nan=False))
        return
    shown, line = table(made), closing(made)
    if form == "markdown":  # whose writer makes foreign names harmless
        print_tables([replace(shown, note=f"{line} {shown.note}")], form)
        return
    print_tables([shown], form)
    click.echo(line, err=form == "csv")


def _draw(made: Plan, plot: Path) -> None:
    from convbench.report.plan_plot import budget_figure
    from convbench.report.theme import save

    click.echo(f"plot: {save(budget_figure(made), plot.with_suffix(''))}", err=True)
