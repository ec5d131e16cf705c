"""One group of a sweep: all cells of one problem, verified one by one, then timed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from math import prod
from time import perf_counter
from typing import Any

from convbench.accuracy import grade
from convbench.api import Plan, Problem, Variant
from convbench.device import Block, Call, Device, Sampler
from convbench.errors import one_line
from convbench.record import Cell, Check, Record, Status, Timing, Workspace
from convbench.registry import Entry
from convbench.sizes import format_size
from convbench.statistics import median_interval, ratio_interval, spread
from convbench.timing import Preset, Series, measure
from convbench.verify import Bench, EscapedError, HarnessError, WrongError, ask, check_dense

FAILURES = (
    (WrongError, Status.WRONG),
    (MemoryError, Status.OOM),
    (HarnessError, Status.INVALID),
    (EscapedError, Status.INVALID),
)
# Float64 arrays of the size of the largest tensor that are alive while a question is asked, at most.
REFERENCE_COPIES = 12


@dataclass(frozen=True)
class Candidate:
    """A cell that is to be measured."""

    cell: Cell
    key: str
    entry: Entry
    variant: Variant


@dataclass
class Outcome:
    """What a group yielded: records, the A/A ratio if taken, seconds spent in samples and checked calls."""

    records: list[Record] = field(default_factory=list)
    noise: float | None = None
    kernel_seconds: float = 0.0


@dataclass
class Ready:
    """A candidate that has been prepared and verified; a contestant of the timing rounds."""

    candidate: Candidate
    plan: Plan
    bench: Bench
    check: Check
    prepare_seconds: float
    device: Device
    kernel_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._workspace = self.bench.workspace(self.candidate.variant)
        self.sampler: Sampler = self.device.sampler()

    def call(self, index: int) -> Call:
        (a, b), out = self.bench.tensors(index if self.device.rotates else 0)
        return partial(self.plan.run, a, b, out, self._workspace)

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        return self.device.plan_block(seconds, sample_seconds)

    def take(self, calls: int, count: int) -> list[float]:
        chosen = [self.call(index) for index in range(calls)]
        start = perf_counter()
        samples = self.sampler.block(chosen, count)
        self.kernel_seconds += perf_counter() - start
        return samples

    def arm(self) -> None:
        self.bench.poison()

    def inspect(self) -> None:
        questions = self.bench.questions
        check_dense(questions.problem, self.candidate.variant, questions.dense, self.bench.out)


def needed_bytes(problem: Problem) -> int:
    """Memory a group needs besides workspace: operands, result and the float64 reference."""
    largest = max(prod(shape) for shape in problem.shapes)
    return 4 * problem.operand_bytes + 8 * REFERENCE_COPIES * largest


class GroupRunner:
    """Verifies and times the candidates of one problem."""

    def __init__(self, device: Device, preset: Preset, environment: str, seed: int) -> None:
        self._device, self._preset, self._environment, self._seed = device, preset, environment, seed
        self._outcome = Outcome()

    def run(self, problem: Problem, candidates: Sequence[Candidate], baseline: str, alias: bool) -> Outcome:
        """Records for every candidate; with `alias` the baseline is measured twice to learn the noise."""
        self._outcome = Outcome()
        fitting = list(self._fitting(problem, candidates))
        try:
            if fitting:
                self._run(problem, fitting, baseline, alias)
        except (MemoryError, HarnessError) as error:
            done = {record.key for record in self._outcome.records}
            for candidate in fitting:
                if candidate.key not in done:
                    self._fail(candidate, error)
        return self._outcome

    def _run(self, problem: Problem, candidates: Sequence[Candidate], baseline: str, alias: bool) -> None:
        questions = ask(problem, self._seed, self._device.xp)
        bench = Bench(self._device, questions, max(c.variant.workspace_bytes for c in candidates))
        ready = [r for c in candidates if (r := self._verified(c, bench)) is not None]
        if ready:
            self._time(ready, baseline, alias)

    def _fitting(self, problem: Problem, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Those whose memory there is; the others end as `oom` before anything is allocated."""
        free = self._device.free_memory()
        for candidate in candidates:
            variant = candidate.variant
            need = needed_bytes(problem) + variant.workspace_bytes + (variant.library_bytes or 0)
            if free is None or need <= free:
                yield candidate
            else:
                reason = f"needs {need} bytes ({format_size(need)}), {free} ({format_size(free)}) are free"
                self._settle(candidate, Status.OOM, reason)

    def _settle(self, candidate: Candidate, status: Status, reason: str = "", **parts: Any) -> None:
        variant = candidate.variant
        workspace = Workspace(variant.workspace_bytes, variant.workspace_bytes, variant.library_bytes)
        record = Record(
            key=candidate.key,
            cell=candidate.cell,
            status=status,
            reason=reason,
            workspace=workspace,
            details=dict(variant.details),
            environment=self._environment,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            **parts,
        )
        self._outcome.records.append(record)

    def _verified(self, candidate: Candidate, bench: Bench) -> Ready | None:
        """The candidate ready for timing, or None after its failure has been recorded."""
        plan = None
        try:
            start = perf_counter()
            plan = candidate.entry.algorithm.prepare(candidate.cell.problem, candidate.variant)
            prepared = perf_counter() - start
            check = bench.verify(plan, candidate.variant, self._timed_call)
            ready = Ready(candidate, plan, bench, check, prepared, self._device)
            if self._device.escapes(ready.call(0), bench.out):
                raise EscapedError("escaped stream: the result was written while the timed stream was held")
        except Exception as error:  # an implementation may raise anything; the cell is lost, the sweep is not
            self._fail(candidate, error)
            if plan is not None:
                _close(plan)
            return None
        return ready

    def _fail(self, candidate: Candidate, error: Exception, **parts: Any) -> None:
        status = next((s for kind, s in FAILURES if isinstance(error, kind)), Status.CRASHED)
        name = "" if isinstance(error, WrongError) else f"{type(error).__name__}: "
        self._settle(candidate, status, f"{name}{one_line(str(error))}; seed {self._seed}", **parts)

    def _timed_call(self, plan: Plan, *arguments: Any) -> None:
        start = perf_counter()
        plan.run(*arguments)
        self._outcome.kernel_seconds += perf_counter() - start

    def _time(self, ready: list[Ready], baseline: str, alias: bool) -> None:
        first = next((i for i, r in enumerate(ready) if r.candidate.cell.algorithm == baseline), 0)
        again = [replace(ready[first])] if alias else []
        contestants = [*ready, *again]
        series = measure(contestants, self._preset, self._seed, baseline=first)
        self._outcome.kernel_seconds += sum(one.kernel_seconds for one in contestants)
        if alias and series[first].failure is None and series[-1].failure is None:
            self._outcome.noise = ratio_interval(series[-1].medians, series[first].medians).value
        for one, result in zip(ready, series, strict=False):
            self._finish(one, result)

    def _finish(self, ready: Ready, series: Series) -> None:
        parts: dict[str, Any] = {"check": ready.check, "setup": {"prepare": ready.prepare_seconds}}
        if series.failure is not None:
            self._fail(ready.candidate, series.failure, **parts)
            _close(ready.plan)
            return
        batched = ["batched"] if self._device.rotates and series.block.calls > 1 else []
        flags = [*series.flags, *batched, *ready.sampler.flags, *_check_flags(ready), *_close(ready.plan)]
        time = timing(self._device.figure, series, ready.sampler.clocks)
        self._settle(ready.candidate, Status.OK, time=time, flags=flags, **parts)


def _close(plan: Plan) -> list[str]:
    """Close a plan; one that cannot be closed is flagged, for its figures are in by then."""
    try:
        plan.close()
    except Exception as error:
        return [f"close:{type(error).__name__}"]
    return []


def _check_flags(ready: Ready) -> list[str]:
    """What verification found that a reader of the figure should know."""
    flags = ["weak_check"] if ready.check.weak else []
    error = ready.check.relative_l2
    if error is not None and grade(ready.candidate.cell.problem.precision, error).dropped:
        flags.append("class_drop")
    return flags


def timing(figure: str, series: Series, clocks: Sequence[float]) -> Timing:
    """The stored form of a series; clocks of warm-up blocks come first and are left out."""
    middle, scatter = median_interval(series.medians), spread(list(chain.from_iterable(series.samples)))
    return Timing(
        figure=figure,
        median=middle.value,
        lo=middle.lo,
        hi=middle.hi,
        smallest=scatter.smallest,
        q1=scatter.q1,
        q3=scatter.q3,
        tukey=scatter.tukey,
        far=scatter.far,
        calls=series.block.calls,
        blocks=series.medians,
        samples=series.samples,
        clocks=list(clocks[-len(series.medians) :]),
    )
