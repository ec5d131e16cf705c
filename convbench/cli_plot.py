"""The command that draws a result folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from convbench.cli_options import among_option, words

FOLDER = click.Path(path_type=Path)
KINDS = ("time", "pareto", "error", "roofline", "crossover", "limit", "noise")


@click.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*KINDS, "all"]),
    default=["all"],
    help="May be repeated; default: all that the records allow.",
)
@click.option("--layer", metavar="NAME|TEXT", help="For pareto; default: the layer with most variants.")
@among_option
@click.option("--out", type=FOLDER, help="Folder for the SVG and PNG files; default: FOLDER/report.")
def plot(
    folder: Path, kinds: Sequence[str], layer: str | None, algorithms: Sequence[str], out: Path | None
) -> None:
    """Plots of a result folder as SVG and PNG, one for each kind of figure that may be compared.

    \b
    time       every layer and algorithm, with intervals
    pareto     time against workspace of one layer, with the front that nothing beats
    error      error against time, with the accuracy classes
    roofline   FLOP/s against arithmetic intensity, under the measured rates
    crossover  who wins over filter size, channels, image and batch (from the grid suites)
    limit      a network's time against the workspace limit
    noise      repeated calls, widths of intervals, clock and power
    """
    from convbench.commands import shown
    from convbench.report.figures import draw

    contents = shown(folder, words(algorithms))
    chosen = list(KINDS) if "all" in kinds else list(dict.fromkeys(kinds))
    for path in draw(contents, chosen, out or folder / "report", layer):
        click.echo(path)
