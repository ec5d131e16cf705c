"""Two result folders side by side: cells paired by what they measure, each pair in one state.

Nothing here opens a file or prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isnan, nan

from convbench.accuracy import UNRANKED
from convbench.pairing import Difference, differences, latest, matches, nothing_in_common
from convbench.record import FAILURES, Record, Status, Timing
from convbench.statistics import Interval, Verdict, median_interval, noise_floor, verdict
from convbench.store import Contents

UNPAIRED_EFFECT = 0.02  # runs made one after the other differ by so much for no reason
CONFIDENCE = 0.99
FEWEST_ROUNDS = 8  # below that there is no interval of this confidence
Floors = Mapping[str, float]


class State(StrEnum):
    """What became of a cell, the most severe first."""

    SLOW = "SLOW"
    BROKEN = "broken"
    MISSING = "missing"
    AMBIGUOUS = "AMBG"
    FAST = "FAST"
    FIXED = "fixed"
    NEW = "new"
    FAILED = "failed"
    SAME = "SAME"


COUNTED = (State.SAME, State.SLOW, State.FAST, State.AMBIGUOUS, State.MISSING)


class Gate(StrEnum):
    """What a comparison may be asked to fail on."""

    SLOW = "slow"
    WRONG = "wrong"
    MISSING = "missing"


GATES = {Gate.SLOW: State.SLOW, Gate.WRONG: State.BROKEN, Gate.MISSING: State.MISSING}


@dataclass(frozen=True)
class Pair:
    """A cell on both sides, or on one; the ratio is candidate / base, where both have a figure."""

    base: Record | None
    candidate: Record | None
    state: State
    ratio: Interval | None = None
    delta: float = nan
    reason: str = ""

    @property
    def record(self) -> Record:
        """Either side, for what they share."""
        found = self.candidate or self.base
        assert found is not None
        return found


@dataclass(frozen=True)
class Comparison:
    """Every pair, the most severe first, and how the environments differ."""

    pairs: list[Pair]
    differences: list[Difference]


def compare(base: Contents, candidate: Contents, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Pairs of all cells; UsageError, which says what differs, if the folders have no cell in common."""
    ours, theirs = latest(base), latest(candidate)
    found = list(matches(ours, theirs))
    if not any(one and other for one, other in found):
        raise nothing_in_common(ours, theirs, names)
    floors = _floors(base), _floors(candidate)
    pairs = [pair for one, other in found if (pair := _pair(one, other, floors)) is not None]
    return Comparison(by_severity(pairs), list(differences(base, ours, candidate, theirs)))


def by_severity(pairs: Iterable[Pair]) -> list[Pair]:
    """SLOW first; within a state the largest change first."""
    order = list(State)
    return sorted(pairs, key=lambda pair: (order.index(pair.state), -_change(pair)))


def counts(pairs: Iterable[Pair]) -> str:
    """How many pairs are in each state; what a healthy comparison has not is named only if it occurs."""
    found = Counter(pair.state for pair in pairs)
    states = [*COUNTED, *(state for state in State if state not in COUNTED and found[state])]
    return ", ".join(f"{found[state]} {state}" for state in states)


def gated(pairs: Iterable[Pair], gates: Iterable[Gate]) -> bool:
    """Whether a state occurs that was asked to fail the comparison; AMBG never does."""
    forbidden = {GATES[gate] for gate in gates}
    return any(pair.state in forbidden for pair in pairs)


def _change(pair: Pair) -> float:
    if pair.ratio is None or pair.ratio.value <= 0:
        return 0.0
    return max(pair.ratio.value, 1 / pair.ratio.value)


# ---- what became of one ------------------------------------------------------------------------------------


def _pair(base: Record | None, candidate: Record | None, floors: tuple[Floors, Floors]) -> Pair | None:
    """The pair with its state; None where neither side could or would measure anything."""
    if base is not None and candidate is not None and base.status is candidate.status is Status.OK:
        pair = _accuracy(base, candidate) or _timed(base, candidate, _delta(base, candidate, floors))
        return replace(pair, reason="; ".join(filter(None, (pair.reason, _remarks(base, candidate)))))
    before, after = base.status if base else None, candidate.status if candidate else None
    state = _changed(before, after)
    if state is None:
        return None
    reason = candidate.reason if candidate is not None else ""
    change = f"{before or 'absent'} → {after or 'absent'}"
    return Pair(base, candidate, state, reason=f"{change}: {reason}" if reason else change)


def _changed(before: Status | None, after: Status | None) -> State | None:
    """The state of a cell that at least one side has no figure of."""
    if after in FAILURES:
        return State.FAILED if before in FAILURES else State.BROKEN
    if after is Status.OK:
        return State.FIXED if before in FAILURES else State.NEW
    if before is Status.OK:
        return State.MISSING
    if before in FAILURES:
        return State.MISSING if after is None else State.FIXED
    return None


def below_class(record: Record) -> int:
    """0 for the accuracy that the precision asks for, more for worse; times are compared at the same only."""
    if record.check is not None and record.check.accuracy == UNRANKED:
        return 2
    return int("class_drop" in record.flags)


def _accuracy(base: Record, candidate: Record) -> Pair | None:
    """The pair of a cell that lost or regained the accuracy its precision asks for."""
    before, after = below_class(base), below_class(candidate)
    if before == after:
        return None
    return Pair(base, candidate, State.BROKEN if after > before else State.FIXED)


def _remarks(base: Record, candidate: Record) -> str:
    """What to know beside the figures: another accuracy class, and the flags of either side."""
    classes = [record.check.accuracy if record.check else None for record in (base, candidate)]
    words = [f"accuracy class {classes[0]} → {classes[1]}"] if classes[0] != classes[1] else []
    return ", ".join([*words, *dict.fromkeys([*base.flags, *candidate.flags])])


def _timed(base: Record, candidate: Record, delta: float) -> Pair:
    """The verdict on two figures that were not taken in the same rounds."""
    before, after = base.time, candidate.time
    assert before is not None and after is not None
    if before.figure != after.figure:
        figures = f"figure {before.figure} against {after.figure}: never compared"
        return Pair(base, candidate, State.MISSING, reason=figures)
    ratio = unpaired(before.blocks, after.blocks)
    found = verdict(ratio, delta)
    ours, theirs = cycles(before), cycles(after)
    if found in (Verdict.FAST, Verdict.SLOW) and ours and theirs:
        in_cycles = verdict(unpaired(ours, theirs), delta)
        if in_cycles is not found:
            reason = f"{found} in time, {in_cycles} in clock cycles"
            return Pair(base, candidate, State.AMBIGUOUS, ratio, delta, reason)
    return judged(base, candidate, ratio, delta)


def judged(base: Record, candidate: Record, ratio: Interval, delta: float) -> Pair:
    """The pair with the verdict on its ratio, and why there is none."""
    found, reason = verdict(ratio, delta), ""
    if ratio.lo is None:
        rounds = min(one.time.rounds for one in (base, candidate) if one.time)
        reason = f"only {rounds} rounds, a verdict needs {FEWEST_ROUNDS}"
    return Pair(base, candidate, State(found.value), ratio, delta, reason)


def unpaired(base: Sequence[float], candidate: Sequence[float]) -> Interval:
    """Ratio of two medians with the bounds that follow from their 99 % intervals."""
    below, above = median_interval(base, CONFIDENCE), median_interval(candidate, CONFIDENCE)
    value = above.value / below.value
    if below.lo is None or below.hi is None or above.lo is None or above.hi is None:
        return Interval(value, None, None)
    return Interval(value, above.lo / below.hi, above.hi / below.lo)


def cycles(time: Timing) -> list[float] | None:
    """Clock cycles per call of each block; None where the clock was not known throughout."""
    if len(time.clocks) != len(time.blocks) or min(time.clocks, default=0) <= 0:
        return None
    return [seconds * clock for seconds, clock in zip(time.blocks, time.clocks, strict=True)]


# ---- noise -------------------------------------------------------------------------------------------------


def _floors(contents: Contents) -> dict[str, float]:
    """The A/A floor of each environment that measured something twice."""
    ratios: dict[str, list[float]] = {}
    for line in contents.noise:
        ratios.setdefault(line["environment"], []).append(line["ratio"])
    return {environment: noise_floor(values) for environment, values in ratios.items()}


def _delta(base: Record, candidate: Record, floors: tuple[Floors, Floors]) -> float:
    """The smallest change that counts: 2 %, or the noise of either run."""
    noise = floors[0].get(base.environment, nan), floors[1].get(candidate.environment, nan)
    return max([UNPAIRED_EFFECT, *(floor for floor in noise if not isnan(floor))])
