"""The procedure: mirrored rounds over all cells of a group, stopped only at fixed looks.

Of a block every sample is kept but the first.

Nothing here knows a device or a clock: contestants bring the samples, so that every rule runs in a test with
replayed ones.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Protocol

from convbench.device import Block
from convbench.statistics import median_interval, ratio_interval

LOOKS = (6, 10, 15, 20, 30)
TIME_WIDTH, RATIO_WIDTH = 0.005, 0.01
WARM_CALLS, WARM_SECONDS, WARM_LIMIT, WARM_MOST = 3, 0.025, 1.0, 10_000


@dataclass(frozen=True)
class Preset:
    """How much effort a cell gets: the first look at which it may stop, the last, and its share of time."""

    name: str
    rounds: int
    last: int
    sample_seconds: float = 0.01
    budget_seconds: float = 15.0


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("quick", 6, 6, 0.004, budget_seconds=5.0),
        Preset("default", 10, 30),
        Preset("ab", 15, 30),
        Preset("rigorous", 20, 30),
    )
}


class Contestant(Protocol):
    """A cell that can be sampled."""

    @property
    def kernel_seconds(self) -> float:
        """Wall time that samples have taken so far, all that belongs to them included."""
        ...

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        """How to sample a call of this length."""
        ...

    def take(self, calls: int, count: int) -> list[float]:
        """Seconds per call of `count` samples in a row, each of so many calls."""
        ...

    def arm(self) -> None:
        """Before the block of a look round: spoil the output."""
        ...

    def inspect(self) -> None:
        """After that block: raise if the output is wrong."""
        ...


@dataclass
class Series:
    """What one contestant yielded; whatever it raised ends it and nobody else."""

    block: Block
    samples: list[list[float]] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    failure: Exception | None = None
    spent: float = 0.0


def warm_up(contestant: Contestant) -> float:
    """At least 3 calls and 25 ms, but no more once a second has passed; seconds of the last call.

    It is the wall's time that counts: a sample of a short call keeps a GPU busy with clearing its cache.
    """
    calls, spent, last, start = 0, 0.0, 0.0, contestant.kernel_seconds
    while (calls < WARM_CALLS or spent < WARM_SECONDS) and spent < WARM_LIMIT and calls < WARM_MOST:
        wanted = 1 if calls < WARM_CALLS else ceil((WARM_SECONDS - spent) * calls / max(spent, 1e-9))
        samples = contestant.take(1, min(wanted, WARM_MOST))
        calls, spent, last = calls + len(samples), contestant.kernel_seconds - start, samples[-1]
    return max(last, 1e-9)


def measure(
    contestants: Sequence[Contestant],
    preset: Preset,
    seed: int,
    *,
    baseline: int = 0,
) -> list[Series]:
    """Time all contestants interleaved and return their series in the same order."""
    series = [_start(contestant, preset) for contestant in contestants]
    active = {i for i, one in enumerate(series) if one.failure is None}
    for number, order in enumerate(_rounds(len(contestants), random.Random(seed)), start=1):
        look = number in LOOKS and number >= preset.rounds
        for index in (i for i in order if i in active):
            _take_block(contestants[index], series[index], look)
        active = {i for i in active if series[i].failure is None}
        if look:
            active -= _settled(series, active, baseline)
        active -= _over_budget(series, active, preset)
        if not active or number >= preset.last:
            break
    for one in series:
        one.flags += _quality(one, series)
    return series


def _start(contestant: Contestant, preset: Preset) -> Series:
    try:
        return Series(contestant.plan_block(warm_up(contestant), preset.sample_seconds))
    except Exception as error:
        return Series(Block(1, 1, 0), failure=error)


def _rounds(count: int, rng: random.Random) -> Iterator[list[int]]:
    """A random order, then its mirror image, again and again."""
    while True:
        order = list(range(count))
        rng.shuffle(order)
        yield order
        yield order[::-1]


def _take_block(contestant: Contestant, series: Series, look: bool) -> None:
    try:
        if look:
            contestant.arm()
        with _no_collection():
            count = series.block.keep + series.block.drop
            samples = contestant.take(series.block.calls, count)
        if look:
            contestant.inspect()
    except Exception as error:
        series.failure = error
        return
    series.spent += sum(samples) * series.block.calls
    kept = samples[series.block.drop :]
    series.samples.append(kept)
    series.medians.append(median(kept))


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _best(series: Sequence[Series]) -> Series:
    ranked = [s for s in series if s.failure is None and s.medians]
    return min(ranked, key=lambda s: median(s.medians))


def _time_met(series: Series) -> bool:
    width = median_interval(series.medians).half_width
    return width is not None and width <= TIME_WIDTH


def _ratio_met(series: Series, best: Series) -> bool:
    width = ratio_interval(series.medians, best.medians, 0.95).half_width
    return width is not None and width <= RATIO_WIDTH


def _settled(series: Sequence[Series], active: set[int], baseline: int) -> set[int]:
    """Who may leave: everybody once all are certain; before that, all but the baseline and the best."""
    if not active:
        return set()
    best = _best(series)
    met = {i for i in active if _time_met(series[i]) and _ratio_met(series[i], best)}
    return met if met == active else met - {baseline, series.index(best)}


def _over_budget(series: Sequence[Series], active: set[int], preset: Preset) -> set[int]:
    """Who would exceed its time with one more round."""
    return {i for i in active if series[i].spent * (1 + 1 / len(series[i].medians)) > preset.budget_seconds}


def _quality(one: Series, series: Sequence[Series]) -> list[str]:
    """Flags that say how far the figure can be trusted."""
    flags = ["k1"] if one.block.keep == 1 else []
    if one.failure is not None:
        return []
    if len(one.medians) < LOOKS[0]:
        return [*flags, "few"]
    if not _time_met(one):
        flags.append("noisy:time")
    if not _ratio_met(one, _best(series)):
        flags.append("noisy:ratio")
    return flags
