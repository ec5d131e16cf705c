"""A cell that has been prepared and verified: what timing needs of it, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from time import perf_counter, sleep
from typing import Any

from convbench.accuracy import grade
from convbench.api import Direction, Plan, Variant
from convbench.device import COLD_WEIGHTS, Block, Call, Device, Sampler
from convbench.record import Cell, Check, Record, Status, Timing, Workspace
from convbench.registry import Entry
from convbench.statistics import median_interval, spread
from convbench.timing import Series
from convbench.verify import Bench, check_dense

BURST = "burst"

Watch = Callable[[str, str], AbstractContextManager[None]]
"""Around each step that an implementation may not survive: key of its cell ("" for nobody's), and phase."""


def unwatched(key: str, phase: str) -> AbstractContextManager[None]:
    """Nobody is interested."""
    return nullcontext()


@dataclass(frozen=True)
class Candidate:
    """A cell that is to be measured."""

    cell: Cell
    key: str
    entry: Entry
    variant: Variant

    def record(
        self,
        status: Status,
        environment: str,
        reason: str = "",
        details: dict[str, Any] | None = None,
        **parts: Any,
    ) -> Record:
        """What this cell leaves behind."""
        variant = self.variant
        return Record(
            key=self.key,
            cell=self.cell,
            status=status,
            reason=reason,
            workspace=Workspace(variant.workspace_bytes, variant.workspace_bytes, variant.library_bytes),
            details=dict(variant.details) if details is None else details,
            environment=environment,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            **parts,
        )


@dataclass
class Ready:
    """A candidate that has been prepared and verified; a contestant of the timing rounds."""

    candidate: Candidate
    plan: Plan
    bench: Bench
    check: Check
    setup: dict[str, float]
    device: Device
    watch: Watch = unwatched
    kernel_seconds: float = 0.0
    round: int = 0

    def __post_init__(self) -> None:
        self._workspace = self.bench.workspace(self.candidate.variant)
        self.sampler: Sampler = self.device.sampler()

    def call(self, index: int = 0) -> Call:
        (a, b), out = self._tensors(index)
        return partial(self.plan.run, a, b, out, self._workspace)

    def _tensors(self, index: int) -> tuple[tuple[Any, Any], Any]:
        return self.bench.tensors(index if self.device.rotates else 0)

    def _activations(self, calls: int) -> list[Any]:
        """What may stay in cache when only the weights are to be cold."""
        if self.device.cache != COLD_WEIGHTS:
            return []
        both = self.bench.problem.direction is Direction.BWD_FILTER
        return [x for index in range(calls) for x in self._tensors(index)[0][: 2 if both else 1]]

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        self.sampler.start()
        self.round = 1
        return self.device.plan_block(seconds, sample_seconds)

    def take(self, calls: int, count: int) -> list[float]:
        phase = f"round {self.round}" if self.round else "warm-up"
        self.round += bool(self.round)
        with self.watch(self.candidate.key, phase):
            chosen, warm = [self.call(index) for index in range(calls)], self._activations(calls)
            start = perf_counter()
            samples = self.sampler.block(chosen, count, warm)
            spent = perf_counter() - start
        self.kernel_seconds += spent
        if self.candidate.cell.regime == BURST:
            sleep(spent)
        return samples

    def arm(self) -> None:
        self.bench.poison()

    def inspect(self) -> None:
        questions = self.bench.questions
        with self.watch(self.candidate.key, "look"):
            check_dense(questions.problem, self.candidate.variant, questions.dense, self.bench.out)

    def flags(self, series: Series) -> list[str]:
        """What a reader of the figure should know."""
        flags = ["batched"] if self.device.name != "cpu" and series.block.calls > 1 else []
        flags += ["weak_check"] if self.check.weak else []
        error = self.check.relative_l2
        if error is not None and grade(self.candidate.cell.problem.precision, error).dropped:
            flags.append("class_drop")
        return [*series.flags, *flags, *self.sampler.flags]

    def timing(self, series: Series) -> Timing:
        """The stored form of the samples."""
        middle = median_interval(series.medians)
        scatter = spread(list(chain.from_iterable(series.samples)))
        return Timing(
            figure=self.device.figure,
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
            clocks=list(self.sampler.clocks),
        )

    def close(self) -> list[str]:
        """Close the plan; one that cannot be closed is flagged, for its figures are in by then."""
        return close(self.plan)


def close(plan: Plan) -> list[str]:
    try:
        plan.close()
    except Exception as error:
        return [f"close:{type(error).__name__}"]
    return []


def plan_facts(plan: Plan, name: str) -> dict[str, Any]:
    """An optional attribute of a plan: what only the prepared plan knows."""
    return dict(getattr(plan, name, None) or {})
