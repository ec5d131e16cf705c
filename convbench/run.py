"""`convbench run`: a sweep from options to records, with progress on the way and the winners at the end."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, NoReturn

import click

from convbench import inprocess, isolated
from convbench.book import Summary
from convbench.commands import show_folder
from convbench.errors import CannotRunError, TerminatedError, UsageError, one_line
from convbench.job import Job, Preview, Where
from convbench.progress import observer
from convbench.suites import select

LARGEST_KEYS = 16 << 20


def run_sweep(
    targets: Sequence[str],
    wishes: Mapping[str, Any],
    where: Where,
    *,
    batch: int | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    json_log: bool = False,
    report_: bool = False,
    finished: Collection[str] = (),
) -> int:
    """Measure what is missing in the result folder, then show who won; `finished` are done elsewhere."""
    suite = select(targets)
    suite = suite.with_batch(batch) if batch else suite
    folder = out or Path("results") / slug(suite.name)
    engine = isolated if where.isolated else inprocess
    with observer(quiet=quiet or dry_run, json_log=json_log) as notify, terminable():
        job = Job(suite, {**wishes, "spread": where.spread}, folder, where, finished, notify)
        notify("sweep", folder=str(folder), problems=len(job.problems))
        if dry_run:
            _announce(engine.foresee(job))
            return 0
        summary = engine.measure(job)
        notify("end", measured=summary.measured, failed=len(summary.failures), seconds=summary.seconds)
    if not quiet:
        show_folder(folder, ("winners",), "terminal")
    if not (quiet and json_log):
        click.echo(_closing(summary, folder), err=quiet)
    if report_:
        from convbench.report import build

        limits = [limit for limit in job.options.limits if limit is not None]
        click.echo(f"page: {build(folder, limits or None)}")
    return _exit_code(summary)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise TerminatedError

    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def slug(name: str) -> str:
    """A file name that says what it holds and can do no harm."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")


def read_keys(file: Path) -> frozenset[str]:
    """Keys of cells from a JSON list."""
    shown = one_line(str(file))
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_KEYS + 1)
        keys = json.loads(data) if len(data) <= LARGEST_KEYS else None
    except OSError as error:
        raise UsageError(f"cannot read '{shown}': {error.strerror}") from error
    except (ValueError, RecursionError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UsageError(f"'{shown}' is no JSON list of keys of at most {LARGEST_KEYS} bytes")
    return frozenset(keys)


def _announce(previews: Iterable[Preview]) -> None:
    total = finished = groups = 0
    for preview in previews:
        names = [f"{cell.algorithm}/{cell.variant}" for cell in preview.cells]
        click.echo(f"{preview.problem.label}: {', '.join(names) or 'nothing'}")
        for record in preview.settled:
            click.echo(f"  {record.cell.algorithm} {record.cell.variant}: {record.status} ({record.reason})")
        total, finished, groups = total + len(names), finished + preview.finished, groups + 1
    click.echo(f"{total} cells in {groups} groups would be measured")
    if finished:
        click.echo(f"{finished} are there already")


def _closing(summary: Summary, folder: Path) -> str:
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


def _exit_code(summary: Summary) -> int:
    if summary.failures or summary.failed_before:
        return 1
    if not summary.measured and not summary.finished_before:
        reasons = {record.reason for record in summary.records}
        raise CannotRunError(f"no cell could run: {one_line('; '.join(sorted(reasons)))}")
    return 0
