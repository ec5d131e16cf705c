"""Two algorithms on the same problems: who stands for each, and the verdict on figures of the same rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from convbench.api import Problem
from convbench.compare import Pair, State, below_class, judged
from convbench.record import FAILURES, Cell, Record, Status
from convbench.statistics import SMALLEST_EFFECT, ratio_interval


@dataclass(frozen=True)
class Side:
    """An algorithm, represented by its fastest variant or by a named one."""

    algorithm: str
    variant: str | None = None

    @property
    def name(self) -> str:
        return self.algorithm if self.variant is None else f"{self.algorithm}/{self.variant}"

    def holds(self, cell: Cell) -> bool:
        return cell.algorithm == self.algorithm and self.variant in (None, cell.variant)


Sides = tuple[Side, Side]


def effect(floor: float) -> float:
    """The smallest change that counts: 0.5 %, or the noise of the run where it is known to be larger."""
    return max(SMALLEST_EFFECT, floor)


def duel(problem: Problem, records: Sequence[Record], sides: Sides, floor: float) -> Pair:
    """The verdict on one problem: the fastest of each side, paired by round, second / first."""
    first, second = (_fastest(records, side) for side in sides)
    if first is None or second is None:
        return _walkover(problem, records, sides, (first, second))
    assert first.time is not None and second.time is not None
    ratio = ratio_interval(second.time.blocks, first.time.blocks)
    pair = judged(first, second, ratio, effect(floor))
    return replace(pair, reason="; ".join(filter(None, [pair.reason, _remarks(first, second)])))


def _fastest(records: Iterable[Record], side: Side) -> Record | None:
    """The fastest variant with the accuracy that the precision asks for."""
    timed = [
        (one.time.median, one)
        for one in records
        if side.holds(one.cell)
        and (side.variant is not None or "selection" not in one.details)  # a pick is no variant of its own
        and one.status is Status.OK
        and one.time
        and not below_class(one)
    ]
    return min(timed, key=lambda pair: pair[0])[1] if timed else None


def _remarks(first: Record, second: Record) -> str:
    classes = [record.check.accuracy if record.check else None for record in (first, second)]
    words = [f"accuracy class {classes[0]} against {classes[1]}"] if classes[0] != classes[1] else []
    return ", ".join([*words, *dict.fromkeys([*first.flags, *second.flags])])


def _walkover(
    problem: Problem, records: Sequence[Record], sides: Sides, found: tuple[Record | None, Record | None]
) -> Pair:
    """A problem without two figures, and why."""
    first, second = (one or _absent(problem, side) for one, side in zip(found, sides, strict=True))
    lost = [side for one, side in zip(found, sides, strict=True) if one is None]
    theirs = [[record for record in records if _concerns(record, side)] for side in lost]
    failed = any(record.status in FAILURES for mine in theirs for record in mine)
    reasons = [f"{side.name}: {_why(mine)}" for side, mine in zip(lost, theirs, strict=True)]
    return Pair(first, second, State.BROKEN if failed else State.MISSING, reason="; ".join(reasons))


def _concerns(record: Record, side: Side) -> bool:
    """Whether it is a cell of this side, or the one reason why the algorithm has none."""
    whole = record.cell.algorithm == side.algorithm and not record.cell.variant
    return side.holds(record.cell) or (whole and record.status is not Status.OK)


def _absent(problem: Problem, side: Side) -> Record:
    return Record("", Cell(problem, side.algorithm, side.variant or "", ""), Status.UNSUPPORTED)


def _why(records: Iterable[Record]) -> str:
    """Each reason of a side without a figure once."""
    reasons = [
        f"accuracy class {one.check.accuracy}"
        if one.status is Status.OK and one.check
        else f"{one.status}: {one.reason}"
        for one in records
    ]
    return ", ".join(dict.fromkeys(reasons)) or "no such variant for this problem"
