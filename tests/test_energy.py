"""Energy from a counter that moves in steps, on a clock that moves when it is looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from convbench.energy import (
    Energy,
    board_counter,
    comparable,
    measure,
    measure_idle,
    step_seconds,
    window_seconds,
)

CALL, CALLS, STEP = 0.002, 10, 0.1
IDLE, LOAD = 100.0, 500.0
LOOK = 1e-4


class Machine:
    """A board with a clock; it draws more while it works, and its counter shows that only once a step."""

    def __init__(self, step: float = STEP) -> None:
        self.time, self.step, self.joules, self.shown, self.due = 0.0, step, 0.0, 7_000_000, step
        self.calls = self.reads = 0

    def spend(self, seconds: float, watts: float = IDLE) -> None:
        while self.time + seconds >= self.due:
            part = self.due - self.time
            self.joules += part * watts
            self.shown = 7_000_000 + round(self.joules * 1e3)
            self.time, self.due, seconds = self.due, self.due + self.step, seconds - part
        self.time, self.joules = self.time + seconds, self.joules + seconds * watts

    def now(self) -> float:
        return self.time

    def read(self) -> int:
        self.reads += 1
        self.spend(LOOK)
        return self.shown

    def batch(self) -> None:
        self.calls += CALLS
        self.spend(CALLS * CALL, LOAD)


def energy(joules: float, resolution: float = 0.02) -> Energy:
    return Energy(joules, 400.0, resolution, 5.0, 0.1, 100)


def text(result: object) -> str:
    assert isinstance(result, str)
    return result


def good(result: Energy | str) -> Energy:
    assert isinstance(result, Energy), result
    return result


# ---- the step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.02, 0.1])
def test_step_is_measured(step: float) -> None:
    machine = Machine(step)
    assert step_seconds(machine.read, machine.now) == pytest.approx(step, rel=0.01)
    assert machine.time == pytest.approx(51 * step, rel=0.01)


def test_one_late_step_does_not_move_the_median() -> None:
    machine = Machine()
    for _ in range(3):
        machine.read()
    machine.due += 0.4
    assert step_seconds(machine.read, machine.now, changes=9) == pytest.approx(STEP, rel=0.01)


def test_a_slow_counter_is_told_with_what_was_seen() -> None:
    machine = Machine(3.0)
    assert "changed 3 times in 10 s, not 51" in text(step_seconds(machine.read, machine.now))


def test_a_counter_that_never_changes_has_no_step() -> None:
    machine = Machine(1e9)
    assert "changed 0 times" in text(step_seconds(machine.read, machine.now, limit=0.5))
    assert machine.time < 0.6


def test_a_counter_that_goes_back_has_no_step() -> None:
    values = iter([500, 600, 3])
    assert (
        text(step_seconds(lambda: next(values), lambda: 0.0))
        == "the energy counter went back from 600 to 3 mJ"
    )


# ---- the window -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "window"), [(0.02, 2.0), (0.04, 2.0), (0.1, 5.0), (0.2, 10.0)])
def test_window_is_two_seconds_or_fifty_steps(step: float, window: float) -> None:
    assert window_seconds(step) == pytest.approx(window)


def test_energy_of_a_call() -> None:
    machine = Machine()
    machine.spend(0.033)
    result = good(measure(machine.batch, CALLS, machine.read, machine.now, STEP))
    assert result.joules == pytest.approx(LOAD * CALL, rel=result.resolution)
    assert result.watts == pytest.approx(LOAD, rel=result.resolution)
    assert 5.0 <= result.window < 5.0 + 2 * STEP
    assert result.resolution == pytest.approx(STEP / result.window) and result.resolution <= 0.02
    assert result.step == STEP and result.idle_watts is None


def test_calls_before_the_opening_step_are_not_counted() -> None:
    machine = Machine()
    result = good(measure(machine.batch, CALLS, machine.read, machine.now, STEP))
    before = machine.calls - result.calls
    assert 0 < before <= STEP / CALL + CALLS
    assert result.calls * CALL == pytest.approx(result.window, rel=0.01)


def test_the_counter_is_left_alone_inside_the_window() -> None:
    machine = Machine()
    good(measure(machine.batch, CALLS, machine.read, machine.now, STEP))
    assert machine.reads <= 2 * (STEP / (CALLS * CALL) + 2)


@pytest.mark.parametrize("step", [0.02, 0.1])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("seconds", [0.001, 0.015, 0.09, 0.25, 7.0])
def test_error_stays_below_the_resolution(step: float, phase: float, seconds: float) -> None:
    """For batches far shorter than a step and for single calls longer than the window."""
    machine = Machine(step)
    machine.spend(phase * step)
    result = good(measure(lambda: machine.spend(seconds, LOAD), 1, machine.read, machine.now, step))
    reading = LOOK / min(seconds, LOOK + seconds) * 2 * step / result.window
    assert result.joules == pytest.approx(LOAD * seconds, rel=result.resolution + reading)
    assert result.resolution <= 0.02


def test_a_counter_that_stops_gives_a_reason() -> None:
    machine = Machine(1e9)
    reason = text(measure(machine.batch, CALLS, machine.read, machine.now, STEP))
    assert reason == "the energy counter stood still at 7000000 mJ for 20 steps"
    assert machine.time < 2.5


def test_a_counter_that_stops_inside_the_window_gives_a_reason() -> None:
    machine = Machine()

    def batch() -> None:
        machine.batch()
        machine.due = machine.due if machine.time < 3 else 1e9

    assert "stood still" in text(measure(batch, CALLS, machine.read, machine.now, STEP))


def test_a_counter_that_is_reset_inside_the_window_gives_a_reason() -> None:
    machine = Machine()

    def read() -> int:
        return machine.read() - (7_000_000 if machine.time > 3 else 0)

    assert "went back from 70" in text(measure(machine.batch, CALLS, read, machine.now, STEP))


def test_a_counter_that_cannot_be_read_gives_a_reason() -> None:
    def read() -> int:
        raise PermissionError("Insufficient Permissions")

    machine = Machine()
    reason = "the energy counter: PermissionError: Insufficient Permissions"
    assert measure(machine.batch, CALLS, read, machine.now, STEP) == reason
    assert measure_idle(read, machine.now, STEP, machine.spend) == reason
    assert step_seconds(read, machine.now) == reason
    assert machine.calls == 0


def test_what_a_batch_raises_is_the_cells() -> None:
    def batch() -> None:
        raise MemoryError("cell")

    machine = Machine()
    with pytest.raises(MemoryError, match="cell"):
        measure(batch, CALLS, machine.read, machine.now, STEP)


# ---- idle -------------------------------------------------------------------------------------------------


def test_idle_power_stands_beside_and_is_not_subtracted() -> None:
    machine = Machine()
    idle = measure_idle(machine.read, machine.now, STEP, machine.spend)
    assert isinstance(idle, float) and idle == pytest.approx(IDLE, rel=0.001)
    assert 5.0 < machine.time < 5.4
    result = good(measure(machine.batch, CALLS, machine.read, machine.now, STEP, idle))
    assert result.idle_watts == idle
    assert result.watts == pytest.approx(LOAD, rel=0.02)


# ---- comparing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "differ"),
    [
        (energy(1.0), energy(1.0), False),
        (energy(1.0), energy(1.08), False),
        (energy(1.0), energy(1.09), True),
        (energy(1.0, 0.2), energy(1.09, 0.001), False),
        (energy(2.0), energy(1.0), True),
    ],
)
def test_energies_differ_only_beyond_their_resolutions(a: Energy, b: Energy, differ: bool) -> None:
    assert comparable(a, b) is comparable(b, a) is differ


# ---- the board --------------------------------------------------------------------------------------------


def fake_nvml(consumption: Callable[[str], int]) -> SimpleNamespace:
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )


def test_counter_of_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(len))
    counter = board_counter("GPU-123")
    assert not isinstance(counter, str) and counter() == 7


def test_no_counter_without_the_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert text(board_counter("GPU-123")).startswith("ModuleNotFoundError: ")


def test_no_counter_on_a_board_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(uuid: str) -> int:
        raise RuntimeError("Not Supported")

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(unsupported))
    assert board_counter("GPU-123") == "RuntimeError: Not Supported"
