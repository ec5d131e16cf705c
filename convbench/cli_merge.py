"""The command that unites result folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convbench.errors import one_line

if TYPE_CHECKING:
    from convbench.merge import Merged
    from convbench.record import Record

FOLDER = click.Path(path_type=Path)
MOST_SHOWN = 10


@click.command()
@click.argument("sources", metavar="A B...", nargs=-1, required=True, type=FOLDER)
@click.option("--out", "-o", required=True, type=FOLDER, help="Folder to bring them into; it may exist.")
def merge(sources: Sequence[Path], out: Path) -> None:
    """Bring result folders together, for example those of several machines.

    Cells are united by their key. Identical ones collapse. Where two differ, an ok one counts before one that
    is not, and then the later one; the others are kept in records.conflicts.
    """
    from convbench.commands import tell
    from convbench.merge import merge_folders

    merged, notes = merge_folders(sources, out)
    tell(*(f"convbench: {note}" for note in notes), *conflicts(merged))
    click.echo(summary(merged, out))


def summary(merged: Merged, out: Path) -> str:
    """What a merge did, in one line."""
    parts = [f"{merged.cells} cells, {merged.added} of them new"]
    if merged.lost:
        from convbench.merge import CONFLICTS

        parts.append(f"{len(merged.lost)} that differ from them kept in {CONFLICTS}")
    return f"{', '.join(parts)}; results in {out}"


def conflicts(merged: Merged) -> list[str]:
    """Lines about the records that do not count, each beside the one that does."""
    lines = [f"{_name(best)}: {_told(best)} counts, not {_told(lost)}" for lost, best in merged.lost]
    more = len(lines) - MOST_SHOWN
    return lines[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _name(record: Record) -> str:
    cell = record.cell
    return one_line(f"{cell.problem.label} {cell.algorithm}/{cell.variant}")


def _told(record: Record) -> str:
    time = f" {record.time.median:.3g} s" if record.time else ""
    return one_line(f"{record.status}{time}{f' of {record.started}' if record.started else ''}")
