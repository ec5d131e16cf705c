"""What the commands do once their options are understood."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convbench import registry, sweep
from convbench.device_cpu import CpuDevice
from convbench.errors import CannotRunError, UsageError, one_line
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.sizes import format_size
from convbench.store import Store
from convbench.suites import Suite, select

if TYPE_CHECKING:
    from convbench.report.tables import Table


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in the terminal; plain when piped."""
    from convbench.report.tables import Table

    _print([Table(title, tuple(columns), [tuple(row) for row in rows])], "terminal")


def _print(tables: Sequence[Table], form: str) -> None:
    from convbench.report.tables import csv_text, markdown, rich_table

    if form != "terminal":
        write = csv_text if form == "csv" else markdown
        click.echo("\n".join(write(table) for table in tables), nl=False)
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(rich_table(table))


# ---- run ---------------------------------------------------------------------------------------------------


def run_sweep(
    device: CpuDevice,
    targets: Sequence[str],
    wishes: dict[str, Any],
    *,
    batch: int | None,
    out: Path | None,
    dry_run: bool,
    quiet: bool,
    report_: bool,
) -> int:
    """Measure what is missing in the result folder, then show who won."""
    suite = select(targets)
    suite = suite.with_batch(batch) if batch else suite
    options = _options(device, wishes)
    environment = device.environment()
    sweep.refuse_impossible(suite, options, device)
    if dry_run:
        _announce(sweep.Planner(options, device, environment, {}).groups(suite))
        return 0
    folder = out or Path("results") / slug(suite.name)
    with Store(folder) as store:
        _describe(store, suite, options, environment)
        groups = sweep.Planner(options, device, environment, store.contents.cells).groups(suite)
        with _progress(groups, quiet) as progress:
            summary = sweep.run(groups, options, device, environment, store, progress)
    if not quiet:
        show_folder(folder, ("winners",), "terminal")
    click.echo(_closing(summary, folder), err=quiet)
    if report_:
        from convbench.report import build

        click.echo(f"page: {build(folder, [limit for limit in options.limits if limit is not None] or None)}")
    return _exit_code(summary)


def _options(device: CpuDevice, wishes: dict[str, Any]) -> sweep.Options:
    entries = registry.select(device.name, wishes.pop("algorithms"))
    if wishes["baseline"] not in {entry.name for entry in registry.select(device.name)}:
        registry.select(device.name, [wishes["baseline"]])
    return sweep.Options(entries, **wishes)


def slug(name: str) -> str:
    """A file name that says what it holds and can do no harm."""
    import hashlib

    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")


def _describe(store: Store, suite: Suite, options: sweep.Options, environment: dict[str, Any]) -> None:
    """Environment, layers and wishes go into the folder, so that it explains itself."""
    if environment["id"] not in store.contents.environments:
        store.append({"kind": "environment", **environment})
    layers = [
        {
            "suite": suite.name,
            "network": layer.network or suite.name,
            "name": layer.name,
            "repeat": layer.repeat,
            "text": str(layer.problem),
        }
        for layer in suite.layers
    ]
    store.add_once("layer", layers, store.contents.layers)
    store.append(
        {"kind": "run", "command": sys.argv[1:], "limits": list(options.limits), "preset": options.preset}
    )


def _announce(groups: Sequence[sweep.Group]) -> None:
    for group in groups:
        names = [f"{c.cell.algorithm}/{c.cell.variant}" for c in group.candidates]
        click.echo(f"{group.problem.label}: {', '.join(names) or 'nothing'}")
        for record in group.settled:
            click.echo(f"  {record.cell.algorithm} {record.cell.variant}: {record.status} ({record.reason})")
    total = sum(len(group.candidates) for group in groups)
    click.echo(f"{total} cells in {len(groups)} groups would be measured")


Progress = Callable[[sweep.Group, sweep.Summary], None]


@contextmanager
def _progress(groups: Sequence[sweep.Group], quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda group, summary: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=sum(len(group.candidates) for group in groups))

        def advance(group: sweep.Group, summary: sweep.Summary) -> None:
            text = f"{escape(group.problem.label)}  {len(summary.failures)} failed"
            bar.update(task, advance=len(group.candidates), description=text)

        yield advance


def _closing(summary: sweep.Summary, folder: Path) -> str:
    """What happened, and what the harness itself cost."""
    parts = [f"{summary.measured} cells measured"]
    if summary.finished_before:
        parts.append(f"{summary.finished_before} were there already")
    if summary.failures:
        parts.append(f"{len(summary.failures)} failed (convbench show {folder} --view coverage)")
    text = ", ".join(parts) + f"; results in {folder}"
    if summary.measured:
        text += (
            f"\nkernels ran {summary.kernel_seconds:.1f} s of {summary.seconds:.1f} s; "
            f"the harness took {summary.overhead * 1e3:.1f} ms a cell"
        )
    return text


def _exit_code(summary: sweep.Summary) -> int:
    if summary.failures:
        return 1
    if not summary.measured and not summary.finished_before:
        reasons = {record.reason for record in summary.records}
        raise CannotRunError(f"no cell could run: {one_line('; '.join(sorted(reasons)))}")
    return 0


# ---- the other commands ------------------------------------------------------------------------------------


def verify_algorithms(
    device: CpuDevice,
    names: Sequence[str] | None,
    directions: tuple[Direction, ...],
    precisions: tuple[Precision, ...],
    layouts: tuple[Layout, ...],
) -> int:
    """Run the conformance suite and print what failed; 1 if anything did."""
    from convbench.conformance import check_all

    rows, failed = [], False
    for entry in registry.select(device.name, names):
        counts = {"passed": 0, "failed": 0, "known": 0, "skipped": 0}
        for finding in check_all(entry.algorithm, directions, precisions, layouts):
            counts[finding.outcome] += 1
            if finding.outcome == "failed":
                where = " ".join(part for part in (entry.name, finding.variant, finding.problem) if part)
                click.echo(f"{where}: {finding.check}: {finding.failure}")
        rows.append((entry.name, entry.origin, *map(str, counts.values())))
        failed = failed or counts["failed"] > 0
    print_table(
        "Conformance", ("algorithm", "origin", "passed", "failed", "known failures", "rejected"), rows
    )
    return int(failed)


def show_folder(folder: Path, views: Sequence[str], form: str) -> None:
    """Tables of a result folder."""
    from convbench.report.views import tables_of
    from convbench.store import read

    contents = read(folder)
    for note in contents.notes:
        click.echo(f"convbench: {note}", err=True)
    _print(tables_of(contents, views), form)


def list_algorithms_of(device: CpuDevice, problem: Problem | None) -> None:
    """Algorithms with origin, or with what each offers for one problem."""
    entries, broken = registry.load_all()
    mine = [entry for entry in entries if entry.device == device.name]
    if problem is None:
        rows = [(entry.name, entry.device, entry.origin) for entry in entries]
        rows += [(one.name, "", f"{one.origin}: cannot be loaded: {one.reason}") for one in broken]
        print_table("Algorithms", ("algorithm", "device", "origin"), rows)
        return
    listed: list[tuple[str, ...]] = []
    for entry in mine:
        reason = entry.algorithm.reject(problem)
        if reason is not None:
            listed.append((entry.name, "", "", f"no: {reason}"))
            continue
        for variant in entry.algorithm.variants(problem, None):
            own = None if variant.library_bytes is None else variant.workspace_bytes + variant.library_bytes
            listed.append((entry.name, variant.name, format_size(own), "yes"))
    print_table(problem.label, ("algorithm", "variant", "workspace", "supported"), listed)


def show_suite(target: str, batch: int | None) -> None:
    """Layers with their problems, repeats and work."""
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
