"""A sweep: which cells are wanted, which of them are still missing, and one group after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any

from convbench.api import Direction, Layout, Precision, Problem, Variant
from convbench.contestant import Candidate
from convbench.device import Device
from convbench.errors import UsageError, one_line
from convbench.record import FAILURES, Cell, Record, Status, canonical
from convbench.registry import Entry
from convbench.runner import GroupRunner, needed_bytes
from convbench.sizes import format_size
from convbench.store import Store
from convbench.suites import Suite
from convbench.timing import PRESETS

SEED = 20260301
ALIAS_SHARE, ALIAS_GROUPS = 0.05, 20
LARGEST_DETAILS = 1 << 16


@dataclass(frozen=True)
class Options:
    """What a user asked for, besides the layers."""

    entries: Sequence[Entry]
    directions: Sequence[Direction] = tuple(Direction)
    precisions: Sequence[Precision] = (Precision.FP32,)
    layouts: Sequence[Layout] = (Layout.NCHW,)
    limits: Sequence[int | None] = (None,)
    preset: str = "default"
    regime: str = "sustained"
    energy: bool = False
    baseline: str = "direct"
    retry_failed: bool = False

    @property
    def cap(self) -> int | None:
        """The largest limit: cells above it are not run; tables look at the smaller ones."""
        finite = [limit for limit in self.limits if limit is not None]
        return max(finite) if len(finite) == len(self.limits) else None


@dataclass
class Group:
    """The cells of one problem: those to measure, and those that are settled without running anything."""

    problem: Problem
    candidates: list[Candidate] = field(default_factory=list)
    settled: list[Record] = field(default_factory=list)
    finished: int = 0
    failed: int = 0


@dataclass
class Summary:
    """What a sweep did."""

    records: list[Record] = field(default_factory=list)
    finished_before: int = 0
    failed_before: int = 0
    kernel_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def measured(self) -> int:
        return sum(record.time is not None for record in self.records)

    @property
    def failures(self) -> list[Record]:
        return [record for record in self.records if record.status in FAILURES]

    @property
    def overhead(self) -> float:
        """Harness seconds per measured cell, besides the kernels' own."""
        return (self.seconds - self.kernel_seconds) / max(1, self.measured)


def problems(suite: Suite, options: Options) -> list[Problem]:
    """Every problem of the sweep once, layer by layer."""
    found = (
        layer.problem.with_(direction=direction, precision=precision, layout=layout)
        for precision in options.precisions
        for layout in options.layouts
        for layer in suite.layers
        for direction in options.directions
    )
    return list(dict.fromkeys(found))


class Planner:
    """Turns problems into groups of cells, given what is in the store."""

    def __init__(
        self, options: Options, device: Device, environment: dict[str, Any], known: dict[str, Record]
    ) -> None:
        self._options, self._device = options, device
        self._environment, self._known = environment, known

    def groups(self, suite: Suite) -> list[Group]:
        return [self._group(problem) for problem in problems(suite, self._options)]

    def _group(self, problem: Problem) -> Group:
        group = Group(problem)
        for entry in self._options.entries:
            for found in self._cells(problem, entry):
                known = self._known.get(found.key)
                if known is not None and not self._again(known):
                    group.finished += 1
                    group.failed += known.status in FAILURES
                elif isinstance(found, Candidate):
                    group.candidates.append(found)
                else:
                    group.settled.append(found)
        return group

    def _again(self, known: Record) -> bool:
        return self._options.retry_failed and known.status in FAILURES

    def _cell(self, problem: Problem, entry: Entry, variant: str) -> tuple[Cell, str]:
        wishes, device = self._options, self._device
        cell = Cell(
            problem, entry.name, variant, device.name, wishes.cap, wishes.regime, wishes.preset, device.cache
        )
        return cell, cell.key(entry.source, self._environment["identity"])

    def _settled(
        self, problem: Problem, entry: Entry, status: Status, reason: str, variant: Variant | None = None
    ) -> Record:
        cell, key = self._cell(problem, entry, variant.name if variant else "")
        details = dict(variant.details) if variant else {}
        return Record(key, cell, status, reason, details=details, environment=self._environment["id"])

    def _cells(self, problem: Problem, entry: Entry) -> Iterator[Candidate | Record]:
        """Every variant of one algorithm, or the one reason why there is none."""
        try:
            reason = entry.algorithm.reject(problem)
            if reason is not None:
                yield self._settled(problem, entry, Status.UNSUPPORTED, str(reason))
                return
            variants = {
                v.name: _storable(v)
                for limit in sorted(self._options.limits, key=_largest_last)
                for v in entry.algorithm.variants(problem, limit)
            }
        except Exception as error:  # a plug-in may raise anything; its cells are lost, the sweep is not
            reason = f"{type(error).__name__} in reject or variants: {one_line(str(error))}"
            yield self._settled(problem, entry, Status.CRASHED, reason)
            return
        if not variants:
            yield self._settled(problem, entry, Status.UNSUPPORTED, "no variant is offered for this problem")
        for variant in variants.values():
            if variant.refused:
                yield self._settled(problem, entry, Status.UNSUPPORTED, variant.refused, variant)
                continue
            need, cap = variant.workspace_bytes + (variant.library_bytes or 0), self._options.cap
            if cap is not None and need > cap:
                reason = f"needs {need} bytes ({format_size(need)}), the limit is {cap} ({format_size(cap)})"
                yield self._settled(problem, entry, Status.OVER_LIMIT, reason, variant)
            else:
                yield Candidate(*self._cell(problem, entry, variant.name), entry, variant)


def _largest_last(limit: int | None) -> float:
    return inf if limit is None else limit


def _storable(variant: Variant) -> Variant:
    """The variant, once it is clear that it can be granted and written down."""
    if not isinstance(variant.name, str):
        raise TypeError(f"variant name {variant.name!r} is no text")
    sizes = variant.workspace_bytes, variant.library_bytes or 0
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise TypeError(f"variant {variant.name}: {sizes} are no byte counts")
    if len(canonical(dict(variant.details))) > LARGEST_DETAILS:
        raise ValueError(f"variant {variant.name}: details above {LARGEST_DETAILS} bytes")
    if not isinstance(variant.refused, str):
        raise TypeError(f"variant {variant.name}: the reason {variant.refused!r} is no text")
    return variant


def refuse_impossible(suite: Suite, options: Options, device: Device) -> None:
    """Stop before anything is written when no problem fits into memory."""
    free, needs = device.free_memory(), {p: needed_bytes(p) for p in problems(suite, options)}
    smallest = min(needs, key=lambda p: needs[p])
    need = needs[smallest]
    if free is not None and need > free:
        raise UsageError(
            f"'{smallest}' needs {need} bytes ({format_size(need)}) for its tensors and their reference, "
            f"{free} ({format_size(free)}) are free; use a smaller batch (--batch) or image"
        )


def _aliased(groups: Sequence[Group]) -> set[int]:
    """Groups in which the baseline is measured twice: at least 5 % and at least 20, if there are so many."""
    with_work = [i for i, group in enumerate(groups) if group.candidates]
    wanted = min(len(with_work), max(ALIAS_GROUPS, round(ALIAS_SHARE * len(with_work))))
    return {with_work[i * len(with_work) // wanted] for i in range(wanted)}


def run(
    groups: Sequence[Group],
    options: Options,
    device: Device,
    environment: dict[str, Any],
    store: Store,
    progress: Callable[[Group, Summary], None],
) -> Summary:
    """Measure every group, writing each record as soon as it is complete."""
    start, summary, aliased = perf_counter(), Summary(), _aliased(groups)
    runner = GroupRunner(device, PRESETS[options.preset], environment["id"], SEED, options.energy)
    with device.watched():
        for index, group in enumerate(groups):
            summary.finished_before += group.finished
            summary.failed_before += group.failed
            _keep(store, summary, group.settled)
            if group.candidates:
                outcome = runner.run(group.problem, group.candidates, options.baseline, index in aliased)
                summary.kernel_seconds += outcome.kernel_seconds
                _keep(store, summary, outcome.records)
                if outcome.noise is not None:
                    noise = {"kind": "noise", "problem": group.problem.label, "ratio": outcome.noise}
                    store.append({**noise, "environment": environment["id"]})
            summary.seconds = perf_counter() - start
            progress(group, summary)
    return summary


def _keep(store: Store, summary: Summary, records: Iterable[Record]) -> None:
    for record in records:
        store.add_record(record)
        summary.records.append(record)
