"""The ways a CUDA call is timed, with a replayed timer and a replayed board."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from convbench.cuda_sampler import RERUNS, AllocatesError, CudaSampler, HoldGaveUpError
from convbench.telemetry import Reading, Summary, summarise

TOP = 2e9
STEADY: dict[str, Any] = {"sm_mhz": 1980, "memory_mhz": 2619, "watts": 400.0, "celsius": 50, "reasons": 0}


def board(*readings: dict[str, Any]) -> Summary:
    made = [Reading(**{"time_ns": 0, "processes": [], **STEADY, **one}) for one in readings or ({},)]
    return summarise(made, len(made), [1])


class Timer:
    """Plays back times, or the trouble of a call that cannot be held, and notes how it was asked."""

    def __init__(self, gives_up: bool = False, synchronises: bool = False, clock: float = TOP) -> None:
        self.gives_up, self.sync, self.hertz = gives_up, synchronises, clock
        self.asked: list[tuple[Any, ...]] = []

    def cold(self, call: Callable[[], None], warm: Sequence[Any] = ()) -> float:
        self.asked.append(("cold", *warm))
        call()
        if self.gives_up:
            raise HoldGaveUpError("planted")
        return 1e-3

    def hot(self, call: Callable[[], None]) -> float:
        self.asked.append(("hot",))
        call()
        return 0.5e-3

    def unheld(self, call: Callable[[], None], flush: bool = True, warm: Sequence[Any] = ()) -> float:
        self.asked.append(("unheld", flush))
        call()
        return 2e-3

    def synchronises(self, call: Callable[[], None]) -> bool:
        return self.sync

    @contextmanager
    def clock(self) -> Iterator[list[float]]:
        result: list[float] = []
        yield result
        if self.hertz:
            result.append(self.hertz)


class Watch:
    """Plays back what the board did in each block; None is a machine without NVML."""

    def __init__(self, *summaries: Summary | None) -> None:
        self.summaries, self.blocks = summaries or (board(),), 0

    @property
    def flags(self) -> list[str]:
        return ["no_nvml"] if None in self.summaries else []

    def between(self, start_ns: int, stop_ns: int) -> Summary | None:
        assert start_ns <= stop_ns
        self.blocks += 1
        return self.summaries[min(self.blocks, len(self.summaries)) - 1]


def sampler(
    timer: Timer | None = None,
    watch: Watch | None = None,
    cache: str = "cold",
    guard: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> CudaSampler:
    made = CudaSampler(timer or Timer(), watch or Watch(), cache, TOP, guard)
    made.start()
    return made


def nothing() -> None: ...


def test_a_sample_is_the_time_of_one_call() -> None:
    one = sampler()
    assert one.block([nothing] * 4, 3) == [1e-3 / 4] * 3
    assert one.clocks == [TOP] and one.flags == []


@pytest.mark.parametrize(("cache", "way"), [("cold", ("cold",)), ("hot", ("hot",))])
def test_the_cache_decides_how_it_is_taken(cache: str, way: tuple[str, ...]) -> None:
    timer = Timer()
    sampler(timer, cache=cache).block([nothing], 2)
    assert timer.asked == [way] * 2


def test_what_may_stay_in_cache_is_passed_on() -> None:
    timer = Timer()
    sampler(timer, cache="cold-weights").block([nothing], 1, warm=["activations"])
    assert timer.asked == [("cold", "activations")]


@pytest.mark.parametrize(("synchronises", "flag"), [(True, "sync"), (False, "unblocked")])
def test_a_call_that_cannot_be_held_is_timed_with_its_gaps_and_says_so(synchronises: bool, flag: str) -> None:
    timer = Timer(gives_up=True, synchronises=synchronises)
    one = sampler(timer)
    assert one.block([nothing], 3) == [2e-3] * 3
    assert one.flags == [flag]
    assert [way for way, *_ in timer.asked] == ["cold", "unheld", "unheld", "unheld"]


def test_a_call_that_allocates_fails_at_first_and_is_then_known() -> None:
    allowed: list[bool] = []

    @contextmanager
    def guard() -> Iterator[None]:
        allowed.append(False)
        yield
        allowed.pop()

    def allocates() -> None:
        if allowed:
            raise AllocatesError("planted")

    one = sampler(guard=guard)
    with pytest.raises(AllocatesError):
        one.block([allocates], 1)
    allowed.clear()
    assert one.flags == ["allocates"]
    assert one.block([allocates], 1) == [1e-3]


THROTTLED = board({"reasons": 0x40})


def test_a_throttled_block_is_taken_again() -> None:
    timer, watch = Timer(), Watch(THROTTLED, board())
    one = sampler(timer, watch)
    assert one.block([nothing], 2) == [1e-3] * 2
    assert watch.blocks == 2 and len(timer.asked) == 4
    assert one.flags == [] and one.clocks == [TOP]


@pytest.mark.parametrize(
    ("seen", "flag"),
    [
        (THROTTLED, "hw:hw_thermal"),
        (board({"reasons": 0x8}), "hw:hw_slowdown"),
        (board({"processes": [1, 77]}), "hw:other_process"),
    ],
)
def test_a_block_that_stays_bad_is_kept_with_its_cause(seen: Summary, flag: str) -> None:
    watch = Watch(seen)
    one = sampler(watch=watch)
    assert one.block([nothing], 2) == [1e-3] * 2
    assert watch.blocks == 1 + RERUNS
    assert one.flags == [flag]
    assert len(one.clocks) == 1


def test_a_low_clock_counts_unless_the_power_cap_explains_it() -> None:
    low, capped = sampler(Timer(clock=TOP / 2)), sampler(Timer(clock=TOP / 2), Watch(board({"reasons": 4})))
    for one in (low, capped):
        one.block([nothing], 1)
    assert low.flags == ["hw:low_clock"] and capped.flags == []


def test_warm_up_leaves_nothing_behind() -> None:
    watch = Watch(THROTTLED, board())
    one = CudaSampler(Timer(), watch, "cold", TOP, nullcontext)
    one.block([nothing], 5)
    assert one.clocks == [] and one.flags == [] and one.board() is None and watch.blocks == 0


def test_the_board_of_all_blocks() -> None:
    watch = Watch(
        board({"sm_mhz": 1900, "watts": 500.0, "celsius": 55, "reasons": 4}),
        board({"sm_mhz": 1700, "watts": 600.0, "celsius": 60, "reasons": 1}),
    )
    one = sampler(watch=watch)
    one.block([nothing], 1)
    one.block([nothing], 1)
    seen = one.board()
    assert seen is not None
    assert (seen.sm_mhz, seen.sm_mhz_min, seen.watts, seen.celsius) == (1800, 1700, 550.0, 60)
    assert seen.reasons == ["gpu_idle", "sw_power_cap"] and seen.processes == 0


def test_without_nvml_there_is_no_board_but_a_flag() -> None:
    one = sampler(Timer(clock=0.0), Watch(None))
    assert one.block([nothing], 2) == [1e-3] * 2
    assert one.board() is None and one.flags == ["no_nvml"] and one.clocks == []
