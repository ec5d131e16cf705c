"""What the commands do once their options are understood."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convbench.errors import UsageError, one_line, unknown
from convbench.fleet import as_one_machine
from convbench.store import Contents, read, uncollected

if TYPE_CHECKING:
    from convbench.compare import Comparison, Gate
    from convbench.device import Device
    from convbench.problem import Direction, Layout, Precision
    from convbench.report.tables import Table


def tell(*lines: str) -> None:
    """Lines beside the answer: on standard error."""
    for line in filter(None, lines):
        click.echo(line, err=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in the terminal; plain when piped."""
    from convbench.report.tables import Table

    print_tables([Table(title, tuple(columns), [tuple(row) for row in rows])], "terminal")


def print_tables(tables: Sequence[Table], form: str) -> None:
    """Tables on standard output, as a terminal, a Markdown page or a spreadsheet shows them."""
    from convbench.report.tables import csv_text, markdown, rich_table

    if form != "terminal":
        write = csv_text if form == "csv" else markdown
        click.echo("\n".join(write(table) for table in tables), nl=False)
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(rich_table(table))


def verify_algorithms(
    device: Device,
    names: Sequence[str] | None,
    directions: tuple[Direction, ...],
    precisions: tuple[Precision, ...],
    layouts: tuple[Layout, ...],
    *,
    form: str,
    matrix: bool,
    notice: str,
) -> int:
    """Run the conformance suite and print what failed; 1 if anything did."""
    from convbench import registry
    from convbench.conformance import check_all
    from convbench.matrix import Matrix, tables
    from convbench.report.tables import Table

    rows, matrices, failed = [], [], False
    entries = registry.select(device.name, names)
    tell(notice)
    for entry in entries:
        matrices.append(Matrix(entry.name))
        counts = {"passed": 0, "failed": 0, "known": 0, "skipped": 0}
        for finding in check_all(entry.algorithm, directions, precisions, layouts):
            counts[finding.outcome] += 1
            matrices[-1].add(finding)
            if finding.outcome == "failed":
                where = " ".join(part for part in (entry.name, finding.variant, finding.problem) if part)
                click.echo(f"{where}: {finding.check}: {finding.failure}")
        rows.append((entry.name, entry.origin, *map(str, counts.values())))
        failed = failed or counts["failed"] > 0
    columns = ("algorithm", "origin", "passed", "failed", "known failures", "rejected")
    print_tables([Table("Conformance", columns, rows), *(tables(matrices) if matrix else [])], form)
    return int(failed)


def show_folder(
    folder: Path, views: Sequence[str], form: str, algorithms: Collection[str] | None = None
) -> None:
    """Tables of a result folder, or of what it holds of these algorithms."""
    from convbench.report.views import tables_of

    with uncollected():
        print_tables(tables_of(shown(folder, algorithms), views), form)


def shown(folder: Path, algorithms: Collection[str] | None = None) -> Contents:
    """A result folder as tables, plots and plans see it, or what it holds of these algorithms, having said
    what is not readable."""
    contents = as_one_machine(_contents(folder))
    return contents if algorithms is None else _only(contents, algorithms)


def _only(contents: Contents, algorithms: Collection[str]) -> Contents:
    held = sorted({record.cell.algorithm for record in contents.cells.values()})
    for name in algorithms:
        if name not in held:
            raise unknown("algorithm in these results", name, held)
    wanted = {key: one for key, one in contents.cells.items() if one.cell.algorithm in algorithms}
    return replace(contents, cells=wanted)


def _contents(folder: Path) -> Contents:
    """What is readable in a result folder, saying what is not."""
    return told(read(folder))


def told(contents: Contents) -> Contents:
    """The same, having said what could not be read."""
    tell(*(f"convbench: {note}" for note in contents.notes))
    return contents


def compare_folders(
    base: Path,
    candidate: Path,
    form: str,
    *,
    everything: bool,
    gates: Collection[Gate],
    plot: Path | None = None,
) -> int:
    """What changed between two result folders; 1 if a state occurs that a gate names."""
    from convbench.compare import compare, counts, gated
    from convbench.report.comparison import changed
    from convbench.report.evidence import noise_line
    from convbench.revisions import contents_of

    names = str(base), str(candidate)
    sides = told(contents_of(base)), told(contents_of(candidate))
    found = compare(*sides, names)
    noise = noise_line(sides[0]), noise_line(sides[1])
    tables = changed(found, names, noise, everything)
    if form == "csv":  # one table a file; the rest goes beside it
        tell(*(one_line(f"{one.fact}: {one.base} → {one.candidate}") for one in found.differences))
        tables = tables[-1:]
    print_tables(tables, form)
    click.echo(counts(found.pairs), err=form == "csv")
    if plot is not None:
        tell(f"drawn: {_drawn(found, names, plot)}")
    return int(gated(found.pairs, gates))


def _drawn(found: Comparison, names: tuple[str, str], file: Path) -> Path:
    from convbench.report.plot_compare import compare_figure
    from convbench.report.theme import save

    figure = compare_figure(found, names)
    try:
        return save(figure, file.with_suffix("") if file.suffix in (".svg", ".png") else file)
    except OSError as error:
        raise UsageError(f"cannot write '{file}': {error.strerror}; name a file you may write to") from error


def export_folder(folder: Path, form: str, out: Path | None) -> None:
    """Results in the form of another tool."""
    from convbench.export import exported, write_parquet

    contents = _contents(folder)
    if form == "parquet":
        write_parquet(contents, out)
    else:
        write_text(exported(contents, form), out)


def show_suite(target: str, batch: int | None) -> None:
    """Layers with their problems, repeats and work."""
    from convbench.suites import select

    suite = select([target])
    suite = suite.with_batch(batch) if batch else suite
    rows = [
        (layer.network, layer.name, str(layer.problem), str(layer.repeat), f"{layer.problem.flops / 1e9:.3g}")
        for layer in suite.layers
    ]
    print_table(suite.name, ("network", "layer", "problem", "repeat", "GFLOP"), rows)


def write_text(text: str, out: Path | None) -> None:
    """To a file, or to standard output."""
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write '{out}': {error.strerror}; name a file you may write to") from error
