"""One group of a sweep: all cells of one problem, verified one by one, then timed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from time import perf_counter
from typing import Any

from convbench.api import Plan, Problem
from convbench.contestant import Candidate, Ready, Watch, close, plan_facts, unwatched
from convbench.device import Device
from convbench.errors import one_line
from convbench.record import Record, Status, Timing
from convbench.sizes import format_size
from convbench.statistics import ratio_interval
from convbench.timing import Preset, Series, measure
from convbench.verify import Bench, EscapedError, HarnessError, WrongError, ask

FAILURES = (
    (WrongError, Status.WRONG),
    (MemoryError, Status.OOM),
    (TimeoutError, Status.TIMEOUT),
    (HarnessError, Status.INVALID),
    (EscapedError, Status.INVALID),
)
# Float64 arrays of the size of the largest tensor that are alive while a question is asked, at most.
REFERENCE_COPIES = 12


@dataclass
class Outcome:
    """What a group yielded: records, the A/A ratio if taken, seconds spent in samples and checked calls."""

    records: list[Record] = field(default_factory=list)
    noise: float | None = None
    kernel_seconds: float = 0.0


def needed_bytes(problem: Problem) -> int:
    """Memory a group needs besides workspace: operands, result and the float64 reference."""
    largest = max(prod(shape) for shape in problem.shapes)
    return 4 * problem.operand_bytes + 8 * REFERENCE_COPIES * largest


class GroupRunner:
    """Verifies and times the candidates of one problem; `keep` gets each record as soon as it is complete."""

    def __init__(
        self,
        device: Device,
        preset: Preset,
        environment: str,
        seed: int,
        energy: bool = False,
        keep: Callable[[Record], None] = lambda record: None,
        watch: Watch = unwatched,
    ) -> None:
        self._device, self._preset, self._environment, self._seed = device, preset, environment, seed
        self._energy, self._keep, self._watch = energy, keep, watch
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
        with self._watch("", "reference"):
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

    # ---- before the clock runs -----------------------------------------------------------------------------

    def _verified(self, candidate: Candidate, bench: Bench) -> Ready | None:
        """The candidate ready for timing, or None after its failure has been recorded."""
        plan, key = None, candidate.key
        calls: list[float] = []

        def call(plan: Plan, *arguments: Any) -> None:
            with self._watch(key, "check"):  # each call has the time that a block has
                calls.append(self._call(plan, *arguments))

        try:
            with self._watch(key, "prepare"):
                start = perf_counter()
                plan = candidate.entry.algorithm.prepare(candidate.cell.problem, candidate.variant)
                prepared = perf_counter() - start
            with self._watch(key, "check"):
                check = bench.verify(plan, candidate.variant, call)
                setup = {"prepare": prepared, "first_call": calls[0], **plan_facts(plan, "setup")}
                ready = Ready(candidate, plan, bench, check, setup, self._device, self._watch)
                if self._device.escapes(ready.call(), bench.out):
                    raise EscapedError(
                        "escaped stream: the result was written while the timed stream was held"
                    )
        except Exception as error:  # an implementation may raise anything; the cell is lost, the sweep is not
            if plan is not None:
                with self._watch(key, "close"):
                    close(plan)
            self._fail(candidate, error)
            return None
        return ready

    def _call(self, plan: Plan, *arguments: Any) -> float:
        """Seconds of one checked call; what takes as long as a cell may take in all is not called again."""
        start = perf_counter()
        plan.run(*arguments)
        self._device.finish()
        spent = perf_counter() - start
        self._outcome.kernel_seconds += spent
        if spent > self._preset.budget_seconds:
            limit = self._preset.budget_seconds
            raise TimeoutError(f"one call took {spent:.1f} s, the limit of a cell is {limit:g} s")
        return spent

    # ---- the clock -----------------------------------------------------------------------------------------

    def _time(self, ready: list[Ready], baseline: str, alias: bool) -> None:
        first = next((i for i, r in enumerate(ready) if r.candidate.cell.algorithm == baseline), 0)
        again = [replace(ready[first])] if alias else []
        contestants = [*ready, *again]
        with self._watch(ready[first].candidate.key, "warm-up"):
            self._busy(lambda: self._device.warm_up(ready[first].call()))
        series = measure(contestants, self._preset, self._seed, baseline=first)
        self._outcome.kernel_seconds += sum(one.kernel_seconds for one in contestants)
        if alias and series[first].failure is None and series[-1].failure is None:
            self._outcome.noise = ratio_interval(series[-1].medians, series[first].medians).value
        for one, result in zip(ready, series, strict=False):
            with self._watch(one.candidate.key, "finish"):
                self._finish(one, result)

    def _busy(self, work: Any) -> Any:
        """Work of the kernels, not of the harness."""
        start = perf_counter()
        try:
            return work()
        finally:
            self._outcome.kernel_seconds += perf_counter() - start

    def _finish(self, ready: Ready, series: Series) -> None:
        parts: dict[str, Any] = {"check": ready.check, "setup": ready.setup}
        details = {**ready.candidate.variant.details, **plan_facts(ready.plan, "details")}
        if series.failure is not None:
            ready.close()
            self._fail(ready.candidate, series.failure, details, **parts)
            return
        parts |= {"time": ready.timing(series), "board": ready.sampler.board()}
        parts |= {"host": self._busy(lambda: self._device.host(ready.call()))}
        parts |= {"limit": self._device.limit(ready.candidate.cell.problem, details)}
        flags = ready.flags(series)
        if self._energy:
            parts["energy"], missing = self._joules(ready, parts["time"].median)
            flags += ["no_energy"] if missing else []
            details |= {"no_energy": missing} if missing else {}
        flags += ready.close()
        status, reason = self._plausible(ready, parts["time"], details)
        self._settle(ready.candidate, status, reason, details, flags=flags, **parts)

    def _joules(self, ready: Ready, seconds: float) -> tuple[Any, str]:
        """Energy of a call, or the reason why it is not known."""
        found = self._busy(lambda: self._device.energy(ready.call(), seconds))
        return (None, found) if isinstance(found, str) else (found, "")

    def _plausible(self, ready: Ready, time: Timing, details: dict[str, Any]) -> tuple[Status, str]:
        """A figure below what the silicon allows is a broken measurement, however often it repeats."""
        floor = self._device.floor(ready.candidate.cell.problem, details)
        if time.median >= floor:
            return Status.OK, ""
        return Status.INVALID, f"implausible: {time.median:.3g} s is less than the {floor:.3g} s it must take"

    # ---- what is kept --------------------------------------------------------------------------------------

    def _fail(
        self, candidate: Candidate, error: Exception, details: dict[str, Any] | None = None, **parts: Any
    ) -> None:
        status = next((s for kind, s in FAILURES if isinstance(error, kind)), Status.CRASHED)
        name = "" if isinstance(error, WrongError | TimeoutError) else f"{type(error).__name__}: "
        reason = f"{name}{one_line(str(error))}; seed {self._seed}"
        self._settle(candidate, status, reason, details, **parts)

    def _settle(
        self,
        candidate: Candidate,
        status: Status,
        reason: str = "",
        details: dict[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        record = candidate.record(status, self._environment, reason, details, **parts)
        self._outcome.records.append(record)
        self._keep(record)
