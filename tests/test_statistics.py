"""Intervals, ratios and verdicts, against the tables of the method."""

from __future__ import annotations

from math import comb, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.statistics import (
    Interval,
    Verdict,
    median_interval,
    noise_floor,
    ranks,
    ratio_interval,
    spread,
    verdict,
)

RANKS_95 = {6: (1, 6), 8: (1, 8), 10: (2, 9), 15: (4, 12), 20: (6, 15), 30: (10, 21)}
RANKS_99 = {6: None, 8: (1, 8), 10: (1, 10), 15: (3, 13), 20: (4, 17), 30: (8, 23)}


@pytest.mark.parametrize(("rounds", "expected"), RANKS_95.items())
def test_ranks_at_95_percent(rounds: int, expected: tuple[int, int]) -> None:
    assert ranks(rounds, 0.95) == expected


@pytest.mark.parametrize(("rounds", "expected"), RANKS_99.items())
def test_ranks_at_99_percent(rounds: int, expected: tuple[int, int] | None) -> None:
    assert ranks(rounds, 0.99) == expected


@given(st.integers(1, 60), st.sampled_from([0.9, 0.95, 0.99]))
def test_ranks_cover_what_they_promise_and_no_narrower_pair_does(rounds: int, confidence: float) -> None:
    def coverage(lo: int, hi: int) -> float:
        return sum(comb(rounds, i) for i in range(lo, hi)) / 2**rounds

    pair = ranks(rounds, confidence)
    if pair is None:
        assert coverage(1, rounds) < confidence
        return
    assert coverage(*pair) >= confidence
    assert pair[0] + 1 > pair[1] - 1 or coverage(pair[0] + 1, pair[1] - 1) < confidence


def test_fewer_than_six_rounds_have_no_interval() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == Interval(3.0, None, None)


def test_interval_is_made_of_order_statistics() -> None:
    assert median_interval([5.0, 1.0, 4.0, 2.0, 6.0, 3.0]) == Interval(3.5, 1.0, 6.0)


def test_ratio_is_paired_by_round() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    interval = ratio_interval([1.1 * t for t in drift], drift)
    assert interval.value == pytest.approx(1.1)
    assert interval.lo == pytest.approx(1.1)
    assert interval.hi == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("lo", "hi", "floor", "expected"),
    [
        (1.02, 1.03, 0.0, Verdict.SLOW),
        (0.95, 0.97, 0.0, Verdict.FAST),
        (0.999, 1.001, 0.0, Verdict.SAME),
        (0.98, 1.02, 0.0, Verdict.AMBIGUOUS),
        (1.02, 1.03, 0.05, Verdict.SAME),  # inside the noise of the run
        (1.004, 1.2, 0.0, Verdict.AMBIGUOUS),
        (None, None, 0.0, Verdict.AMBIGUOUS),
    ],
)
def test_four_states(lo: float | None, hi: float | None, floor: float, expected: Verdict) -> None:
    assert verdict(Interval(1.0, lo, hi), floor) is expected


def test_noise_floor_is_the_worst_pair_when_there_are_few() -> None:
    assert noise_floor([1.0, 0.97, 1.01]) == pytest.approx(0.03)


def test_noise_floor_is_a_percentile_when_there_are_many() -> None:
    assert noise_floor([1.001] * 99 + [2.0]) == pytest.approx(0.001)


def test_noise_floor_of_nothing_is_unknown() -> None:
    assert isnan(noise_floor([]))


def test_outliers_are_counted_and_kept() -> None:
    found = spread([1.0, 1.01, 0.99, 1.02, 0.98, 50.0])
    assert (found.smallest, found.tukey, found.far) == (0.98, 1, 1)
