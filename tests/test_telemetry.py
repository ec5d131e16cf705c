"""Telemetry by replayed readings, and once with the real process and a binding that is made up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from types import SimpleNamespace
from typing import Any, cast

import pytest

from convbench.telemetry import (
    QUESTIONS,
    Board,
    Reading,
    Summary,
    Telemetry,
    causes,
    reason_names,
    start_process,
    summarise,
)

UUID = "GPU-0000"
OURS = 40
STEADY = {
    "sm_mhz": 1980,
    "memory_mhz": 2619,
    "watts": 600.0,
    "celsius": 50,
    "reasons": 0,
    "processes": [OURS],
}
MS = 1_000_000


class Replay:
    """A process that writes what the test wants into a real pipe."""

    def __init__(self) -> None:
        end, self._end = os.pipe()
        self.stdin, self.stdout = None, os.fdopen(end, "rb", buffering=0)
        self.code: int | None = None
        self.ends: list[str] = []
        self.hangs = False

    def start(self, uuid: str, interval: float) -> subprocess.Popen[bytes]:
        return cast("subprocess.Popen[bytes]", self)

    def write(self, text: str) -> None:
        os.write(self._end, text.encode())

    def send(self, kind: str, content: object) -> None:
        self.write(json.dumps([kind, content]) + "\n")

    def read_at(self, *milliseconds: int, **changed: Any) -> None:
        for time in milliseconds:
            self.send("reading", {"time_ns": time * MS, **STEADY, **changed})

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.ends.append("terminate")

    def kill(self) -> None:
        self.ends.append("kill")

    def wait(self, timeout: float) -> None:
        if self.hangs:
            raise subprocess.TimeoutExpired("telemetry", timeout)

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def child() -> Iterator[Replay]:
    replay = Replay()
    yield replay
    replay.close()


@pytest.fixture
def telemetry(child: Replay) -> Iterator[Telemetry]:
    with Telemetry(UUID, start=child.start, own=[OURS]) as telemetry:
        yield telemetry


def reading(**changed: Any) -> Reading:
    return Reading(**{"time_ns": 0, **STEADY, **changed})


def summary(*readings: Reading) -> Summary:
    return summarise(readings, len(readings), [OURS])


# ---- what readings say ------------------------------------------------------------------------------------


def test_summary_of_a_block() -> None:
    result = summary(
        reading(sm_mhz=1980, watts=500.0, celsius=50, reasons=0x4),
        reading(sm_mhz=1200, watts=700.0, celsius=61, reasons=0x0),
        reading(sm_mhz=1900, watts=600.0, celsius=55, reasons=0x21),
    )
    assert result == Summary(
        inside=3,
        sm_mhz=1900,
        sm_mhz_min=1200,
        memory_mhz=2619,
        memory_mhz_min=2619,
        watts=600.0,
        celsius=61,
        reasons=["gpu_idle", "sw_power_cap", "sw_thermal"],
        foreign=[],
    )


def test_what_nvml_does_not_tell_is_none() -> None:
    assert summary(Reading(0)) == Summary(1, None, None, None, None, None, None, None, None)
    assert summary(Reading(0), reading(sm_mhz=1500)).sm_mhz == 1500


def test_names_of_reasons() -> None:
    assert reason_names([]) == reason_names([0]) == []
    assert reason_names([0x1FF])[-2:] == ["power_brake", "display_clock"]
    assert reason_names([0x8, 0x402]) == ["app_clocks", "hw_slowdown", "0x400"]


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0x8, ["hw_slowdown"]),
        (0x20, ["sw_thermal"]),
        (0x40, ["hw_thermal"]),
        (0x80, ["power_brake"]),
        (0x48, ["hw_slowdown", "hw_thermal"]),
        (0x4, []),
        (0x113, []),
    ],
)
def test_throttling_is_a_cause_and_a_power_cap_is_not(reasons: int, expected: list[str]) -> None:
    throttled = summary(reading(), reading(reasons=reasons), reading())
    assert causes(throttled, 1.0) == expected
    assert throttled.reasons == reason_names([reasons])


def test_a_low_clock_is_a_cause_unless_the_power_cap_explains_it() -> None:
    assert causes(summary(reading()), 0.74) == ["low_clock"]
    assert causes(summary(reading()), 0.75) == causes(summary(reading()), None) == []
    assert causes(summary(reading(reasons=0x4)), 0.70) == []


def test_a_low_clock_without_nvml_may_be_the_power_cap() -> None:
    assert causes(None, 0.74) == causes(summary(Reading(0)), 0.74) == []


def test_another_process_is_a_cause() -> None:
    shared = summary(reading(), reading(processes=[77, OURS, 12]))
    assert shared.foreign == [12, 77]
    assert causes(shared, 1.0) == ["other_process"]


@pytest.mark.parametrize(
    ("lists", "foreign"),
    [([[]], []), ([[9001]], []), ([[9001], []], []), ([[9001], [9001, 9002]], [9002])],
)
def test_numbers_from_outside_a_container_are_counted(lists: list[list[int]], foreign: list[int]) -> None:
    assert summary(*(reading(processes=pids) for pids in lists)).foreign == foreign


# ---- joining readings to blocks ---------------------------------------------------------------------------


def test_readings_of_a_block(telemetry: Telemetry, child: Replay) -> None:
    child.read_at(0, 100, reasons=0x8)
    child.read_at(200, 300)
    child.read_at(400, reasons=0x40)
    result = telemetry.between(150 * MS, 350 * MS)
    assert result is not None and result.inside == 2 and result.reasons == []
    assert telemetry.missing is None and telemetry.flags == [] and len(telemetry.readings()) == 5


def test_a_block_shorter_than_the_interval_has_its_neighbours(telemetry: Telemetry, child: Replay) -> None:
    child.read_at(0, reasons=0x80)
    child.read_at(100, reasons=0x8, sm_mhz=1000)
    child.read_at(200, reasons=0x1, sm_mhz=1200)
    child.read_at(300, reasons=0x80)
    result = telemetry.between(120 * MS, 140 * MS)
    assert result is not None and result.inside == 0
    assert (result.reasons, result.sm_mhz) == (["gpu_idle", "hw_slowdown"], 1100)


def test_a_block_far_from_any_reading_has_none(telemetry: Telemetry, child: Replay) -> None:
    assert telemetry.between(0, MS) is None
    child.read_at(1000, 2000)
    assert telemetry.between(1200 * MS, 1300 * MS) is None
    assert telemetry.missing is None


def test_a_line_may_come_in_parts(telemetry: Telemetry, child: Replay) -> None:
    child.write('["reading", {"time_')
    assert telemetry.readings() == []
    child.write('ns": 5}]\n')
    assert telemetry.readings() == [Reading(5)]


def test_unanswered_questions_are_named(telemetry: Telemetry, child: Replay) -> None:
    child.send("unread", {"watts": "Not Supported"})
    child.read_at(100, watts=None)
    result = telemetry.between(0, 200 * MS)
    assert result is not None and result.watts is None and result.sm_mhz == 1980
    assert telemetry.unread == {"watts": "Not Supported"} and telemetry.flags == []


# ---- never a failure --------------------------------------------------------------------------------------


def test_no_nvml_is_a_reason(telemetry: Telemetry, child: Replay) -> None:
    child.send("missing", "NVMLError_LibraryNotFound: no library")
    assert telemetry.between(0, 100) is None
    assert telemetry.missing == "NVMLError_LibraryNotFound: no library"
    assert telemetry.flags == ["no_nvml"] and child.ends == ["terminate"]


def test_a_board_that_answers_nothing_is_missing(telemetry: Telemetry, child: Replay) -> None:
    child.send("unread", dict.fromkeys(QUESTIONS, "GPU is lost"))
    assert telemetry.missing == "NVML answers nothing: GPU is lost"


def test_a_child_that_dies_leaves_what_it_read(telemetry: Telemetry, child: Replay) -> None:
    child.read_at(100)
    child.write('["reading", {"ti')
    child.code = -9
    assert telemetry.missing == "the telemetry process ended with exit code -9"
    assert telemetry.between(0, 200 * MS) is not None
    assert telemetry.between(900 * MS, 990 * MS) is None


def test_its_own_reason_goes_before_the_exit_code(telemetry: Telemetry, child: Replay) -> None:
    child.send("missing", "no driver")
    child.code = 0
    assert telemetry.missing == "no driver"


@pytest.mark.parametrize("line", ["hello", "[1]", '["reading", {"bad": 1}]', '["reading", 3]', "7", "\xff"])
def test_a_line_of_something_else_is_a_reason(telemetry: Telemetry, child: Replay, line: str) -> None:
    child.write(line + "\n")
    assert str(telemetry.missing).startswith("the telemetry process wrote something else: ")


def test_a_process_that_cannot_start_is_a_reason() -> None:
    def start(uuid: str, interval: float) -> subprocess.Popen[bytes]:
        raise OSError("Cannot allocate memory")

    with Telemetry(UUID, start=start) as telemetry:
        assert telemetry.between(0, 1) is None
    assert telemetry.missing == "the telemetry process cannot be started: Cannot allocate memory"


def test_a_process_that_hangs_is_not_waited_for(child: Replay) -> None:
    child.hangs = True
    with Telemetry(UUID, start=child.start) as telemetry:
        child.read_at(1)
    assert child.ends == ["terminate", "kill"]
    assert len(telemetry.readings()) == 1 and telemetry.missing is None


# ---- asking NVML ------------------------------------------------------------------------------------------


def fake_nvml(**changed: Any) -> SimpleNamespace:
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda board: 4,
        "nvmlDeviceGetClockInfo": lambda board, which: {1: 1980, 2: 2619}[which],
        "nvmlDeviceGetPowerUsage": lambda board: 612_500,
        "nvmlDeviceGetTemperature": lambda board, sensor: 50 + sensor,
        "nvmlDeviceGetComputeRunningProcesses": lambda board: [SimpleNamespace(pid=OURS)],
    }
    return SimpleNamespace(**(answers | changed))


def denied(*arguments: object) -> None:
    raise PermissionError("Insufficient Permissions")


def test_board() -> None:
    assert Board(fake_nvml(), UUID).read(lambda: 5) == Reading(5, 1980, 2619, 612.5, 50, 4, [OURS])


def test_a_question_that_is_denied_costs_only_its_answer() -> None:
    board = Board(fake_nvml(nvmlDeviceGetComputeRunningProcesses=denied), UUID)
    assert board.read(lambda: 5) == Reading(5, 1980, 2619, 612.5, 50, 4, None)
    assert board.unread == {"processes": "PermissionError: Insufficient Permissions"}


def test_a_board_that_is_denied_cannot_be_made() -> None:
    with pytest.raises(PermissionError):
        Board(fake_nvml(nvmlInit=denied), UUID)


# ---- the real process -------------------------------------------------------------------------------------

BINDING = f"""
from types import SimpleNamespace

def nvmlInit():
    pass

def nvmlDeviceGetHandleByUUID(uuid):
    if uuid != "{UUID}":
        raise PermissionError("Insufficient Permissions")

def nvmlDeviceGetCurrentClocksEventReasons(board):
    return 4

def nvmlDeviceGetClockInfo(board, which):
    return 1000 * which

def nvmlDeviceGetTemperature(board, sensor):
    return 50

def nvmlDeviceGetComputeRunningProcesses(board):
    return [SimpleNamespace(pid={OURS})]
"""


@pytest.fixture
def binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text(BINDING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    limit = monotonic() + seconds
    while not condition():
        assert monotonic() < limit, "it did not happen in time"
        sleep(0.01)


@pytest.mark.usefixtures("binding")
def test_end_to_end() -> None:
    children: list[subprocess.Popen[bytes]] = []

    def start(uuid: str, interval: float) -> subprocess.Popen[bytes]:
        children.append(start_process(uuid, interval))
        return children[0]

    begin = monotonic_ns()
    with Telemetry(UUID, interval=0.01, start=start, own=[OURS]) as telemetry:
        eventually(lambda: len(telemetry.readings()) >= 3)
        result = telemetry.between(begin, monotonic_ns())
    assert result is not None and result.inside >= 3
    assert (result.sm_mhz, result.memory_mhz, result.watts) == (1000, 2000, None)
    assert (result.reasons, result.foreign) == (["sw_power_cap"], [])
    assert list(telemetry.unread) == ["watts"] and telemetry.missing is None
    assert children[0].returncode is not None
    with suppress(ProcessLookupError):
        os.kill(children[0].pid, 0)
        pytest.fail("the process is still there")


@pytest.mark.usefixtures("binding")
def test_the_process_leaves_when_its_parents_pipe_closes() -> None:
    with start_process(UUID, 0.05) as child:
        assert child.stdin is not None and child.stdout is not None
        assert json.loads(child.stdout.readline())[0] == "unread"
        child.stdin.close()
        assert child.wait(10) == 0


@pytest.mark.usefixtures("binding")
def test_no_permission_end_to_end() -> None:
    with Telemetry("GPU-other") as telemetry:
        eventually(lambda: telemetry.missing)
        assert telemetry.missing == "PermissionError: Insufficient Permissions"


@pytest.mark.usefixtures("binding")
def test_the_process_leaves_on_sigterm() -> None:
    with start_process(UUID, 0.05) as child:
        assert child.stdout is not None and child.stdout.readline()
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM
