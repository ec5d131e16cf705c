"""`convbench list algorithms`: what there is, and for one problem what each variant needs and how it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convbench import registry, sweep
from convbench.api import Variant
from convbench.commands import print_table, print_tables, tell
from convbench.device import Device
from convbench.problem import Problem
from convbench.progress import progress_bar
from convbench.record import Cell, Record, Status
from convbench.sizes import format_size
from convbench.store import Store
from convbench.suites import Layer, Suite

COLUMNS = (
    "algorithm", "variant", "workspace", "deterministic", "math", "at the limit (ms)", "time (ms)",
    "accuracy", "supported",
)  # fmt: skip
LIMIT_NOTE = "At the limit: what the rates that this machine sustains would need (convbench ceilings)."
TIME_NOTE = "Measured as with --quick and not kept; convbench run measures longer and keeps every sample."


@dataclass(frozen=True)
class Offer:
    """A variant for one problem; `record` is how it ended if that is known: refused, failed or measured."""

    cell: Cell
    variant: Variant | None
    record: Record | None

    @property
    def details(self) -> Mapping[str, Any]:
        return {
            **(self.variant.details if self.variant else {}),
            **(self.record.details if self.record else {}),
        }

    @property
    def seconds(self) -> float | None:
        measured = self.record is not None and self.record.status is Status.OK and self.record.time
        return measured.median if measured else None


def list_algorithms() -> None:
    """Every algorithm with its device and origin."""
    entries, broken = registry.load_all()
    rows = [(entry.name, entry.device, entry.origin) for entry in entries]
    rows += [(one.name, "", f"{one.origin}: cannot be loaded: {one.reason}") for one in broken]
    print_table("Algorithms", ("algorithm", "device", "origin"), rows)


def list_variants(device: Device, problem: Problem, *, timed: bool, notice: str) -> None:
    """Every variant for one problem, or why there is none; with times, the fastest first."""
    from convbench.report.tables import Table, trimmed

    offers = list(_offers(device, problem, timed, notice))
    order = [entry.name for entry in registry.select(device.name)]
    offers.sort(key=lambda offer: (offer.seconds or inf, order.index(offer.cell.algorithm)))
    table = trimmed(Table(problem.label, COLUMNS, [_row(offer, device) for offer in offers]))
    notes = {"at the limit (ms)": LIMIT_NOTE, "time (ms)": TIME_NOTE}
    note = " ".join(text for name, text in notes.items() if name in table.columns)
    whole = frozenset({"variant", "supported"})
    print_tables([Table(table.title, table.columns, table.rows, note, whole=whole)], "terminal")


def _offers(device: Device, problem: Problem, timed: bool, notice: str) -> Iterator[Offer]:
    kinds = (problem.direction,), (problem.precision,), (problem.layout,)
    options = sweep.Options(registry.select(device.name), *kinds, preset="quick")
    suite, environment = Suite(str(problem), (Layer(str(problem), problem),)), device.environment()
    groups = sweep.Planner(options, device, environment, {}).groups(suite)
    records: dict[str, Record] = {}
    if timed:
        tell(notice)
        sweep.refuse_impossible(suite, options, device)
        records = _measured(groups, options, device, environment)
    for group in groups:
        for candidate in group.candidates:
            yield Offer(candidate.cell, candidate.variant, records.get(candidate.key))
        for record in group.settled:
            yield Offer(record.cell, None, record)


def _measured(
    groups: list[sweep.Group], options: sweep.Options, device: Device, environment: dict[str, Any]
) -> dict[str, Record]:
    """A sweep whose folder is gone afterwards."""
    with (
        TemporaryDirectory() as folder,
        Store(Path(folder) / "run") as store,
        progress_bar(groups, quiet=False) as progress,
    ):
        summary = sweep.run(groups, options, device, environment, store, progress)
    return {record.key: record for record in summary.records}


# ---- cells -------------------------------------------------------------------------------------------------


def _row(offer: Offer, device: Device) -> tuple[str, ...]:
    details = offer.details
    limit = device.limit(offer.cell.problem, details) if offer.variant else None
    return (
        offer.cell.algorithm,
        _name(offer),
        _workspace(offer.variant),
        _yes_no(details.get("deterministic")),
        str(details.get("math") or ""),
        _ms(limit.seconds if limit else None),
        _ms(offer.seconds),
        _accuracy(offer.record),
        _supported(offer.record),
    )


def _name(offer: Offer) -> str:
    picked = offer.details.get("picked")
    return f"{offer.cell.variant} ({picked})" if picked else offer.cell.variant


def _workspace(variant: Variant | None) -> str:
    if variant is None:
        return ""
    library = variant.library_bytes
    return format_size(None if library is None else variant.workspace_bytes + library)


def _yes_no(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else ""


def _ms(seconds: float | None) -> str:
    from convbench.report.tables import significant

    return significant(None if seconds is None else seconds * 1e3)


def _accuracy(record: Record | None) -> str:
    check = record.check if record else None
    if check is None or check.accuracy is None:
        return ""
    return check.accuracy if check.relative_l2 is None else f"{check.accuracy} {check.relative_l2:.1e}"


def _supported(record: Record | None) -> str:
    if record is None or record.status is Status.OK:
        return "yes"
    return f"{'no' if record.status is Status.UNSUPPORTED else record.status}: {record.reason}"
