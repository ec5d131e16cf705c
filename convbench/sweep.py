"""A sweep: which cells are wanted, which of them are still missing, and one group after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any, Protocol

from convbench import registry
from convbench.api import Direction, Layout, Precision, Problem, Variant
from convbench.book import Book, Notify, Summary, silent
from convbench.contestant import Candidate, Watch, unwatched
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
    spread: bool = False

    @property
    def cap(self) -> int | None:
        """The largest limit: cells above it are not run; tables look at the smaller ones."""
        finite = [limit for limit in self.limits if limit is not None]
        return max(finite) if len(finite) == len(self.limits) else None


def options_for(device: str, wishes: Mapping[str, Any]) -> Options:
    """Options with the algorithms of a device that were named, or all of them."""
    rest = dict(wishes)
    entries = registry.select(device, rest.pop("algorithms"))
    if rest["baseline"] is None:
        rest["baseline"] = Options.baseline
    else:
        registry.select(device, [rest["baseline"]])
    return Options(entries, **rest)


@dataclass
class Group:
    """The cells of one problem: those to measure, and those that are settled without running anything."""

    problem: Problem
    candidates: list[Candidate] = field(default_factory=list)
    settled: list[Record] = field(default_factory=list)
    finished: int = 0
    failed: int = 0


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
    """Turns problems into groups of cells, given what is in the store and the keys that are not wanted."""

    def __init__(
        self,
        options: Options,
        device: Device,
        environment: dict[str, Any],
        known: Mapping[str, Record],
        *,
        skip: Collection[str] = (),
        watch: Watch = unwatched,
    ) -> None:
        self._options, self._device = options, device
        self._environment, self._known, self._skip, self._watch = environment, known, skip, watch

    def groups(self, suite: Suite) -> list[Group]:
        return [self.group(problem) for problem in problems(suite, self._options)]

    def whole(self, problem: Problem) -> list[Record]:
        """What each algorithm leaves behind if its variants never become known."""
        return [self._settled(problem, entry, Status.CRASHED, "") for entry in self._options.entries]

    def group(self, problem: Problem) -> Group:
        group = Group(problem)
        for entry in self._options.entries:
            if self._cell(problem, entry, "")[1] in self._skip:
                group.finished += 1
                continue
            for found in self._cells(problem, entry):
                known = self._known.get(found.key)
                if found.key in self._skip:
                    group.finished += 1
                elif known is not None and not self._again(known):
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
            with self._watch(self._cell(problem, entry, "")[1], "plan"):
                reason = entry.algorithm.reject(problem)
                variants = {} if reason is not None else self._variants(problem, entry)
        except Exception as error:  # a plug-in may raise anything; its cells are lost, the sweep is not
            reason = f"{type(error).__name__} in reject or variants: {one_line(str(error))}"
            yield self._settled(problem, entry, Status.CRASHED, reason)
            return
        if reason is not None:
            yield self._settled(problem, entry, Status.UNSUPPORTED, str(reason))
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

    def _variants(self, problem: Problem, entry: Entry) -> dict[str, Variant]:
        return {
            v.name: _storable(v)
            for limit in sorted(self._options.limits, key=_largest_last)
            for v in entry.algorithm.variants(problem, limit)
        }


def _largest_last(limit: int | None) -> float:
    return inf if limit is None else limit


def _storable(variant: Variant) -> Variant:
    """The variant, once it is clear that it can be granted and written down."""
    if not isinstance(variant.name, str):
        raise TypeError(f"variant name {variant.name!r} is no text")
    variant.name.encode()  # half a surrogate pair is no text either
    sizes = variant.workspace_bytes, variant.library_bytes or 0
    if not all(isinstance(size, int) and 0 <= size < 1 << 63 for size in sizes):
        raise TypeError(f"variant {variant.name}: {sizes} are no byte counts")
    if len(canonical(dict(variant.details))) > LARGEST_DETAILS:
        raise ValueError(f"variant {variant.name}: details above {LARGEST_DETAILS} bytes")
    if not isinstance(variant.refused, str):
        raise TypeError(f"variant {variant.name}: the reason {variant.refused!r} is no text")
    return variant


class Memory(Protocol):
    """What knows how much memory is free: a device, or what a child told of its own."""

    def free_memory(self) -> int | None: ...


def refuse_impossible(suite: Suite, options: Options, device: Memory) -> None:
    """Stop before anything is written when no problem fits into memory."""
    free, needs = device.free_memory(), {p: needed_bytes(p) for p in problems(suite, options)}
    smallest = min(needs, key=lambda p: needs[p])
    need = needs[smallest]
    if free is not None and need > free:
        raise UsageError(
            f"'{smallest}' needs {need} bytes ({format_size(need)}) for its tensors and their reference, "
            f"{free} ({format_size(free)}) are free; use a smaller batch (--batch) or image"
        )


def aliased(indices: Sequence[int]) -> set[int]:
    """Groups in which the baseline is measured twice: at least 5 % and at least 20, if there are so many."""
    wanted = min(len(indices), max(ALIAS_GROUPS, round(ALIAS_SHARE * len(indices))))
    return {indices[i * len(indices) // wanted] for i in range(wanted)}


def run(
    groups: Sequence[Group],
    options: Options,
    device: Device,
    environment: dict[str, Any],
    store: Store,
    progress: Callable[[Group, Summary], None],
    *,
    notify: Notify = silent,
) -> Summary:
    """Measure every group in this process, writing each record as soon as it is complete."""
    start, book = perf_counter(), Book(store, notify)
    twice = aliased([index for index, group in enumerate(groups) if group.candidates])
    preset = PRESETS[options.preset]
    runner = GroupRunner(device, preset, environment["id"], SEED, options.energy, book.keep)
    with device.watched():
        for index, group in enumerate(groups):
            book.count(group.finished, group.failed)
            facts = {"problem": group.problem.label, "cells": len(group.candidates)}
            notify("group", device=device.name, **facts, finished=group.finished)
            for record in group.settled:
                book.keep(record)
            if group.candidates:
                outcome = runner.run(group.problem, group.candidates, options.baseline, index in twice)
                book.close_group(group.problem, environment["id"], outcome.noise, outcome.kernel_seconds)
            book.summary.seconds = perf_counter() - start
            progress(group, book.summary)
    return book.summary
