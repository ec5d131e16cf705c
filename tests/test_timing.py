"""The procedure with replayed samples: order, looks, budgets, failures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import count, cycle

import pytest

from convbench.device import Block
from convbench.device_cpu import CpuDevice
from convbench.timing import PRESETS, Preset, measure, warm_up

QUICK = PRESETS["quick"]
LONG = Preset("long", 6, 30)
plan_block = CpuDevice().plan_block


class Replay:
    """A contestant that plays back samples and notes when it was called."""

    def __init__(
        self,
        samples: Iterator[float],
        log: list[str] | None = None,
        name: str = "",
        bad_after: int | None = None,
    ) -> None:
        self.samples, self.log, self.name = samples, log if log is not None else [], name
        self.armed, self.inspections, self.bad_after = 0, 0, bad_after
        self.kernel_seconds, self.between = 0.0, 0.0

    def plan_block(self, seconds: float, sample_seconds: float) -> Block:
        return plan_block(seconds, sample_seconds)

    def take(self, calls: int, count: int) -> list[float]:
        self.log += [self.name] * count
        samples = [next(self.samples) for _ in range(count)]
        self.kernel_seconds += sum(samples) * calls + self.between * count
        return samples

    def arm(self) -> None:
        self.armed += 1

    def inspect(self) -> None:
        self.inspections += 1
        if self.bad_after is not None and self.inspections > self.bad_after:
            raise ValueError("went wrong")


def steady(seconds: float = 0.01) -> Iterator[float]:
    return cycle([seconds])


def noisy(seconds: float = 0.01) -> Iterator[float]:
    return (seconds * (1 + 0.1 * (i // 5 % 5)) for i in count())


def blocks_of(log: list[str]) -> list[str]:
    """The order of blocks behind the warm-up, which is three calls of 10 ms for each contestant."""
    block = plan_block(0.01, QUICK.sample_seconds)
    return log[3 * len(set(log)) :: block.keep + block.drop]


def test_slow_calls_are_single_samples() -> None:
    assert plan_block(0.2, 0.01) == Block(calls=1, keep=1, drop=0)


def test_fast_calls_fill_the_sample_and_drop_the_first() -> None:
    assert plan_block(0.001, 0.01) == Block(calls=10, keep=4, drop=1)


def test_warm_up_makes_at_least_three_calls_and_25_ms() -> None:
    short, long = Replay(steady(0.001)), Replay(steady(0.02))
    assert warm_up(short) == 0.001
    assert 25 <= len(short.log) <= 27
    warm_up(long)
    assert len(long.log) == 3


def test_warm_up_counts_what_its_samples_cost_besides_the_call() -> None:
    contestant = Replay(steady(0.00001))
    contestant.between = 0.00024  # a cache that is cleared
    warm_up(contestant)
    assert 100 <= len(contestant.log) <= 103


def test_warm_up_of_a_slow_call_ends_after_a_second() -> None:
    log: list[str] = []
    warm_up(Replay(steady(5.0), log))
    assert len(log) == 1


def test_quick_stops_at_its_first_look() -> None:
    (series,) = measure([Replay(noisy())], QUICK, seed=1)
    assert len(series.medians) == 6
    assert series.flags == ["noisy:time"]


def test_steady_cells_stop_at_the_first_look_of_any_preset() -> None:
    first, second = measure([Replay(steady()), Replay(steady(0.02))], LONG, seed=1)
    assert len(first.medians) == len(second.medians) == 6
    assert first.flags == second.flags == []


def test_noisy_cells_go_on_to_the_last_look_and_keep_their_figure() -> None:
    (series,) = measure([Replay(noisy())], LONG, seed=1)
    assert len(series.medians) == 30
    assert "noisy:time" in series.flags


def test_a_settled_cell_leaves_while_best_and_baseline_stay() -> None:
    contestants = [Replay(noisy(0.010)), Replay(steady(0.005)), Replay(steady(0.020))]
    baseline, best, other = measure(contestants, LONG, seed=1, baseline=0)
    assert len(other.medians) == 6
    assert len(best.medians) == len(baseline.medians) == 30


def test_drift_that_all_cells_share_leaves_the_ratio_certain() -> None:
    clock = {"now": 0.010}

    def drifting(factor: float) -> Iterator[float]:
        while True:
            clock["now"] *= 1.0002
            yield clock["now"] * factor

    first, second = measure([Replay(drifting(1.0)), Replay(drifting(1.5))], LONG, seed=3)
    assert "noisy:ratio" not in second.flags
    ratios = [b / a for a, b in zip(first.medians, second.medians, strict=False)]
    assert sorted(ratios)[len(ratios) // 2] == pytest.approx(1.5, rel=0.01)


def test_odd_rounds_are_shuffled_and_even_rounds_mirror_them() -> None:
    log: list[str] = []
    measure([Replay(steady(), log, name) for name in "abcd"], QUICK, seed=5)
    rounds = [blocks_of(log)[i : i + 4] for i in range(0, 24, 4)]
    assert all(rounds[i + 1] == rounds[i][::-1] for i in (0, 2, 4))
    assert all(sorted(order) == list("abcd") for order in rounds)


def test_the_seed_decides_the_order() -> None:
    def order(seed: int) -> list[str]:
        log: list[str] = []
        measure([Replay(steady(), log, name) for name in "abcdef"], QUICK, seed=seed)
        return blocks_of(log)

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_spent_budget_ends_a_cell_that_is_not_certain() -> None:
    (series,) = measure([Replay(noisy(0.5))], Preset("short", 10, 30, budget_seconds=5.0), seed=1)
    assert 6 <= len(series.medians) < 10
    assert series.flags == ["k1", "noisy:time"]


def test_a_cell_without_six_rounds_says_so() -> None:
    (series,) = measure([Replay(steady(4.0))], LONG, seed=1)
    assert len(series.medians) < 6
    assert "few" in series.flags


def test_outputs_are_looked_at_only_in_look_rounds() -> None:
    contestant = Replay(steady())
    measure([contestant], QUICK, seed=1)
    assert (contestant.armed, contestant.inspections) == (1, 1)


def test_a_cell_that_turns_wrong_ends_alone() -> None:
    good, bad = measure([Replay(steady()), Replay(noisy(), bad_after=0)], LONG, seed=1)
    assert good.failure is None
    assert str(bad.failure) == "went wrong"
    assert len(good.medians) == 6


@pytest.mark.parametrize("when", [0, 2, 9])
def test_an_exception_in_a_sample_ends_that_cell_alone(when: int) -> None:
    def failing() -> Iterator[float]:
        for i in count():
            if i == when:
                raise RuntimeError("device lost")
            yield 0.01

    good, bad = measure([Replay(steady()), Replay(failing())], QUICK, seed=1)
    assert good.failure is None
    assert isinstance(bad.failure, RuntimeError)


def test_nothing_to_measure_is_no_error() -> None:
    assert measure([], QUICK, seed=1) == []


def test_garbage_collection_is_off_in_blocks_and_back_on_afterwards() -> None:
    seen: list[bool] = []

    class Watching(Replay):
        def take(self, calls: int, count: int) -> list[float]:
            seen.append(gc.isenabled())
            return [0.01] * count

    measure([Watching(steady())], QUICK, seed=1)
    assert seen[-1] is False
    assert gc.isenabled()


def test_zero_length_samples_do_not_divide_by_zero() -> None:
    make: Callable[[], Replay] = lambda: Replay(steady(1e-12))  # noqa: E731
    (series,) = measure([make()], QUICK, seed=1)
    assert series.block.calls > 1
