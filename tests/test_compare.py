"""`convbench compare`: which cells belong together, what is said of them, and what fails a gate."""

from __future__ import annotations

from typing import Any

import pytest
from comparing import blocks, holding, measured, mixed, settled
from hypothesis import given
from hypothesis import strategies as st

from convbench.compare import Comparison, Gate, State, compare, counts, gated, unpaired
from convbench.record import Record, Status

MS = 1e-3
BASE = measured(blocks(MS))


def states(found: Comparison) -> list[str]:
    return [pair.state.value for pair in found.pairs]


def state(base: Record, candidate: Record, noise: tuple[float, ...] = ()) -> str:
    (one,) = states(compare(holding(base, noise=noise), holding(candidate)))
    return one


# ---- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, "SAME"),
        (1.01, "SAME"),
        (1.02, "SAME"),
        (1.03, "SLOW"),
        (2.0, "SLOW"),
        (0.99, "SAME"),
        (0.97, "FAST"),
        (0.5, "FAST"),
    ],
)
def test_a_planted_change_is_found_from_two_percent_on(ratio: float, expected: str) -> None:
    assert state(BASE, measured(blocks(MS * ratio))) == expected


def test_what_scatters_too_much_is_ambiguous() -> None:
    wild = measured(blocks(MS * 1.05, noise=0.1))
    assert state(BASE, wild) == state(wild, BASE) == state(wild, wild) == "AMBG"


def test_fewer_rounds_than_an_interval_needs_are_ambiguous() -> None:
    (pair,) = compare(holding(BASE), holding(measured(blocks(2 * MS, rounds=7)))).pairs
    assert pair.state is State.AMBIGUOUS and pair.ratio is not None and pair.ratio.lo is None
    assert pair.reason == "only 7 rounds, a verdict needs 8"


def test_the_interval_follows_from_both() -> None:
    base, candidate = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], [2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7]
    found = unpaired(base, candidate)
    assert (found.value, found.lo, found.hi) == pytest.approx((2.35 / 1.35, 2.0 / 1.7, 2.7 / 1.0))


def test_the_noise_of_either_run_widens_the_rule() -> None:
    slower = measured(blocks(MS * 1.05))
    assert state(BASE, slower) == "SLOW"
    assert state(BASE, slower, noise=(1.0, 0.93)) == "SAME"
    (pair,) = compare(holding(BASE), holding(slower, noise=(1.07,))).pairs
    assert pair.delta == pytest.approx(0.07) and pair.state is State.SAME


def test_noise_of_another_machine_does_not_count() -> None:
    elsewhere = [measured(blocks(MS * ratio), environment="f") for ratio in (1, 1.05)]
    assert state(elsewhere[0], elsewhere[1], noise=(1.5,)) == "SLOW"


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        ([[1e9] * 10, [1e9] * 10], "SLOW"),
        ([[1e9] * 10, [0.95e9] * 10], "AMBG"),  # the clock was lower, the work was not more
        ([[1e9] * 10, [0.5e9] * 10], "AMBG"),
        ([[1e9] * 10, []], "SLOW"),
        ([[1e9] * 10, [0.95e9] * 9], "SLOW"),
        ([[1e9] * 10, [0.0] * 10], "SLOW"),
    ],
)
def test_a_change_has_to_be_seen_in_cycles_where_both_know_them(clocks: Any, expected: str) -> None:
    base, candidate = (measured(blocks(MS * r), clocks=c) for r, c in zip((1, 1.05), clocks, strict=True))
    assert state(base, candidate) == expected


def test_a_verdict_that_cycles_contradict_says_so() -> None:
    base, candidate = (measured(blocks(MS * r), clocks=[1e9 / r] * 10) for r in (1, 1.05))
    (pair,) = compare(holding(base), holding(candidate)).pairs
    assert pair.reason == "SLOW in time, SAME in clock cycles"


positive = st.floats(1e-9, 1e3)


@given(st.lists(st.lists(positive, min_size=1, max_size=30), min_size=1, max_size=4), st.floats(0.5, 2))
def test_nothing_is_faster_or_slower_than_itself(series: list[list[float]], noise: float) -> None:
    held = holding(*(measured(one, variant=f"v{i}") for i, one in enumerate(series)), noise=(noise,))
    assert set(states(compare(held, held))) <= {"SAME", "AMBG"}


# ---- what has no two figures -------------------------------------------------------------------------------

ABSENT = None
CHANGES = [
    (Status.OK, Status.WRONG, "broken"),
    (Status.OK, Status.CRASHED, "broken"),
    (Status.OK, Status.OOM, "broken"),
    (Status.OK, Status.UNSUPPORTED, "missing"),
    (Status.OK, Status.OVER_LIMIT, "missing"),
    (Status.OK, ABSENT, "missing"),
    (Status.WRONG, ABSENT, "missing"),
    (Status.WRONG, Status.OK, "fixed"),
    (Status.TIMEOUT, Status.UNSUPPORTED, "fixed"),
    (Status.WRONG, Status.CRASHED, "failed"),
    (Status.UNSUPPORTED, Status.OK, "new"),
    (ABSENT, Status.OK, "new"),
    (ABSENT, Status.INVALID, "broken"),
    (Status.UNSUPPORTED, Status.CRASHED, "broken"),
    (Status.UNSUPPORTED, Status.OVER_LIMIT, None),
    (ABSENT, Status.UNSUPPORTED, None),
    (Status.OVER_LIMIT, ABSENT, None),
]


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES, ids=[f"{b}-{a}" for b, a, _ in CHANGES])
def test_a_changed_status_is_told(before: Status | None, after: Status | None, expected: str | None) -> None:
    anchor = measured(blocks(MS), "anchor")
    sides = []
    for status in (before, after):
        one = [BASE] if status is Status.OK else [settled(status)] if status else []
        sides.append(holding(anchor, *one))
    found = compare(*sides)
    assert sorted(states(found)) == sorted(["SAME", *([expected] if expected else [])])
    if expected:
        (pair,) = (pair for pair in found.pairs if pair.state is not State.SAME)
        assert pair.reason.startswith(f"{before or 'absent'} → {after or 'absent'}")
        assert pair.reason.endswith(": because") == (after not in (Status.OK, ABSENT))


def test_the_reason_of_an_algorithm_stands_for_its_variants() -> None:
    variants = [measured(blocks(MS), variant=name) for name in ("a", "b")]
    for status, there, back in (
        (Status.UNSUPPORTED, "missing", "new"),
        (Status.CRASHED, "broken", "fixed"),
    ):
        none = holding(settled(status, variant=""))
        assert states(compare(holding(*variants), none)) == [there] * 2
        assert states(compare(none, holding(*variants))) == [back] * 2
        assert states(compare(none, none)) == (["failed"] if back == "fixed" else [])


@pytest.mark.parametrize(
    ("base", "candidate", "expected"),
    [
        (("S", ()), ("T", ("class_drop",)), "broken"),
        (("T", ("class_drop",)), ("S", ()), "fixed"),
        (("S", ()), ("X", ()), "broken"),
        (("T", ("class_drop",)), ("T", ("class_drop",)), "FAST"),
        (("S", ()), ("F", ()), "FAST"),
    ],
)
def test_speed_bought_with_accuracy_is_no_speed(base: Any, candidate: Any, expected: str) -> None:
    ours, theirs = (
        measured(blocks(MS * ratio), accuracy=accuracy, flags=flags)
        for ratio, (accuracy, flags) in ((1, base), (0.5, candidate))
    )
    (pair,) = compare(holding(ours), holding(theirs)).pairs
    assert pair.state.value == expected
    assert (f"accuracy class {base[0]} → {candidate[0]}" in pair.reason) == (base[0] != candidate[0])


# ---- order, counts, gates ----------------------------------------------------------------------------------


def test_the_severe_comes_first_and_everything_is_counted() -> None:
    found = compare(*mixed())
    names = [pair.record.cell.algorithm for pair in found.pairs]
    assert names == ["slower", "slow", "breaks", "gone", "few", "fast", "mended", "more", "same"]
    assert counts(found.pairs) == "1 SAME, 2 SLOW, 1 FAST, 1 AMBG, 1 missing, 1 broken, 1 fixed, 1 new"
    assert counts([]) == "0 SAME, 0 SLOW, 0 FAST, 0 AMBG, 0 missing"


def test_a_gate_looks_at_its_state_alone() -> None:
    for pair in compare(*mixed()).pairs:
        closed = {gate for gate in Gate if gated([pair], [gate])}
        expected = {State.SLOW: {Gate.SLOW}, State.BROKEN: {Gate.WRONG}, State.MISSING: {Gate.MISSING}}
        assert closed == expected.get(pair.state, set())
        assert not gated([pair], [])
