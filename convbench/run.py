"""`convbench run`: a sweep from options to records, with progress on the way and the winners at the end."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from convbench import registry, sweep
from convbench.commands import show_folder, tell
from convbench.device import Device
from convbench.errors import CannotRunError, one_line
from convbench.store import FILE, Store, read
from convbench.suites import Suite, select

Progress = Callable[[sweep.Group, sweep.Summary], None]


def run_sweep(
    device: Device,
    targets: Sequence[str],
    wishes: dict[str, Any],
    *,
    batch: int | None,
    out: Path | None,
    dry_run: bool,
    quiet: bool,
    report_: bool,
    notice: str,
) -> int:
    """Measure what is missing in the result folder, then show who won."""
    suite = select(targets)
    suite = suite.with_batch(batch) if batch else suite
    options = _options(device, wishes)
    environment = device.environment()
    sweep.refuse_impossible(suite, options, device)
    folder = out or Path("results") / slug(suite.name)
    if dry_run:
        known = read(folder).cells if (folder / FILE).is_file() else {}
        _announce(sweep.Planner(options, device, environment, known).groups(suite))
        return 0
    with Store(folder) as store:
        tell(notice)
        tell(*(f"convbench: {note}" for note in store.contents.notes))
        describe(store, suite, options, environment)
        if options.preset != "quick":
            for line in device.learn_limits():  # told before it begins
                tell(line)
        groups = sweep.Planner(options, device, environment, store.contents.cells).groups(suite)
        with progress_bar(groups, quiet) as progress:
            summary = sweep.run(groups, options, device, environment, store, progress)
    if not quiet:
        show_folder(folder, ("winners",), "terminal")
    click.echo(_closing(summary, folder), err=quiet)
    if report_:
        from convbench.report import build

        click.echo(f"page: {build(folder, [limit for limit in options.limits if limit is not None] or None)}")
    return _exit_code(summary)


def _options(device: Device, wishes: dict[str, Any]) -> sweep.Options:
    entries = registry.select(device.name, wishes.pop("algorithms"))
    if wishes["baseline"] is None:
        wishes["baseline"] = sweep.Options.baseline
    else:
        registry.select(device.name, [wishes["baseline"]])
    return sweep.Options(entries, **wishes)


def slug(name: str) -> str:
    """A file name that says what it holds and can do no harm."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")


def describe(
    store: Store, suite: Suite, options: sweep.Options, environment: dict[str, Any], **extra: Any
) -> None:
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
    wishes = {"command": sys.argv[1:], "limits": list(options.limits), "preset": options.preset}
    store.append({"kind": "run", **wishes, **extra})


def _announce(groups: Sequence[sweep.Group]) -> None:
    for group in groups:
        names = [f"{c.cell.algorithm}/{c.cell.variant}" for c in group.candidates]
        click.echo(f"{group.problem.label}: {', '.join(names) or 'nothing'}")
        for record in group.settled:
            click.echo(f"  {record.cell.algorithm} {record.cell.variant}: {record.status} ({record.reason})")
    total = sum(len(group.candidates) for group in groups)
    click.echo(f"{total} cells in {len(groups)} groups would be measured")
    if finished := sum(group.finished for group in groups):
        click.echo(f"{finished} are there already")


@contextmanager
def progress_bar(groups: Sequence[sweep.Group], quiet: bool) -> Iterator[Progress]:
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
        failed = f", {summary.failed_before} of them failed (--retry-failed)" if summary.failed_before else ""
        parts.append(f"{summary.finished_before} were there already{failed}")
    if summary.failures:
        parts.append(f"{len(summary.failures)} failed (convbench show {folder} --view coverage)")
    text = ", ".join(parts) + f"; results in {folder}"
    if summary.measured:
        text += (
            f"\nsamples and calls took {summary.kernel_seconds:.1f} s of {summary.seconds:.1f} s, "
            f"the harness {summary.overhead * 1e3:.1f} ms a cell"
        )
    return text


def _exit_code(summary: sweep.Summary) -> int:
    if summary.failures or summary.failed_before:
        return 1
    if not summary.measured and not summary.finished_before:
        reasons = {record.reason for record in summary.records}
        raise CannotRunError(f"no cell could run: {one_line('; '.join(sorted(reasons)))}")
    return 0
