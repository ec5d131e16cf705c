"""Medians, order-statistic intervals, paired ratios and the four verdicts; no array library, no assumption of
normality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import comb, nan
from statistics import median, quantiles

TUKEY = 1.5
MAD_LIMIT = 14.8  # |x - median| / MAD beyond this counts as an outlier
SMALLEST_EFFECT = 0.005


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds that cover the true median; bounds are None with too few rounds."""

    value: float
    lo: float | None
    hi: float | None

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval relative to the value."""
        if self.lo is None or self.hi is None or not self.value:
            return None
        return (self.hi - self.lo) / 2 / self.value


@lru_cache(maxsize=256)
def ranks(count: int, confidence: float) -> tuple[int, int] | None:
    """The narrowest symmetric pair of ranks (from 1) that covers the median with this confidence, or None."""
    tail = (1 - confidence) / 2
    cumulative, below = 0.0, 0
    for i in range(count // 2 + 1):
        cumulative += comb(count, i) / 2**count
        if cumulative > tail:
            break
        below = i + 1
    return (below, count + 1 - below) if below else None


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median with its order-statistic interval."""
    middle, pair = median(values), ranks(len(values), confidence)
    if pair is None:
        return Interval(middle, None, None)
    ordered = sorted(values)
    return Interval(middle, ordered[pair[0] - 1], ordered[pair[1] - 1])


def ratio_interval(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.99) -> Interval:
    """Median of the per-round ratios ours / theirs, over the rounds that both have."""
    return median_interval([a / b for a, b in zip(ours, theirs, strict=False)], confidence)


@dataclass(frozen=True)
class Spread:
    """How samples scatter: inside blocks, and how many lie far out. Nothing is ever removed."""

    smallest: float
    q1: float
    q3: float
    tukey: int
    far: int


def spread(samples: Sequence[float]) -> Spread:
    """Quartiles and outlier counts of raw samples."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0], 0, 0)
    q1, middle, q3 = quantiles(samples, n=4, method="inclusive")
    fence = TUKEY * (q3 - q1)
    mad = median(abs(x - middle) for x in samples)
    tukey = sum(not q1 - fence <= x <= q3 + fence for x in samples)
    far = sum(abs(x - middle) > MAD_LIMIT * mad for x in samples) if mad else 0
    return Spread(min(samples), q1, q3, tukey, far)


class Verdict(StrEnum):
    SLOW = "SLOW"
    FAST = "FAST"
    SAME = "SAME"
    AMBIGUOUS = "AMBG"


def verdict(ratio: Interval, floor: float) -> Verdict:
    """One of four states for a paired ratio with its 99 % interval, given the noise floor."""
    if ratio.lo is None or ratio.hi is None:
        return Verdict.AMBIGUOUS
    delta = max(SMALLEST_EFFECT, floor)
    if ratio.lo > 1 + delta:
        return Verdict.SLOW
    if ratio.hi < 1 / (1 + delta):
        return Verdict.FAST
    if ratio.lo > 1 / (1 + 2 * delta) and ratio.hi < 1 + 2 * delta:
        return Verdict.SAME
    return Verdict.AMBIGUOUS


def noise_floor(ratios: Sequence[float]) -> float:
    """95th percentile of |ratio - 1| over A/A pairs; their maximum below 20 pairs; nan if none."""
    errors = sorted(abs(r - 1) for r in ratios)
    if not errors:
        return nan
    if len(errors) < 20:
        return errors[-1]
    return quantiles(errors, n=20, method="inclusive")[-1]
