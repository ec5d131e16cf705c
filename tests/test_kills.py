"""Sweeps that are killed, interrupted or kept out at any moment lose nothing and leave nobody behind."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from isolating import alive, cells, command, contents, environment, make_site, run, start, written

from convbench.process import GRACE
from convbench.record import Status

PROBLEMS = ("n1c1h4k1r3p1", "n1c1h5k1r3p1", "n1c1h6k1r3p1")
SWEEP = (*PROBLEMS, "--algorithms", "correct,also-correct", "--baseline", "correct")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def whole(site: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The cells of an undisturbed sweep."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(site, *SWEEP, "--out", folder).returncode == 0
    assert len(set(written(folder))) == 6
    return set(written(folder))


def children(pid: int) -> list[int]:
    """Processes that a process has started, in whatever thread."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)
    return condition()


# ---- kill -9 -----------------------------------------------------------------------------------------------


def kill_at_random(site: Path, folder: Path, rng: random.Random, kills: int) -> int:
    """One sweep, of which supervisor or child is killed at random times until the supervisor is gone."""
    sweep = start(site, *SWEEP, "--out", folder, stderr=subprocess.DEVNULL)
    started: set[int] = set()
    done = 0
    while done < kills and sweep.poll() is None:
        time.sleep(rng.uniform(0.02, 0.9))
        victims = children(sweep.pid)
        started |= {*victims}
        victim = rng.choice([sweep.pid, sweep.pid, *victims])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
        started |= {*children(sweep.pid)}
    sweep.kill()
    sweep.communicate()
    assert until(lambda: not any(map(alive, started))), "a child outlived its supervisor"
    return done


def survive(site: Path, tmp_path: Path, whole: set[str], kills: int, seed: int) -> None:
    rng, number, done = random.Random(seed), 0, 0
    while done < kills:
        number, before = number + 1, list[str]()
        folder = tmp_path / str(number)
        while done < kills and set(before) != whole:
            done += kill_at_random(site, folder, rng, kills - done)
            after = written(folder)
            assert after[: len(before)] == before, "a finished cell was lost"
            before = after
        finish(site, folder, whole)


def finish(site: Path, folder: Path, whole: set[str]) -> None:
    """Go on to the end: only what was cut off by a kill of the child is measured twice, and on request."""
    code = run(site, *SWEEP, "--out", folder).returncode
    assert set(written(folder)) == whole == set(contents(folder).cells)
    assert len(written(folder)) == len(whole), "a finished cell was measured again"
    failed = {key for key, one in contents(folder).cells.items() if one.status is not Status.OK}
    reasons = {contents(folder).cells[key].reason for key in failed}
    assert code == int(bool(failed)) and all("SIGKILL" in reason for reason in reasons)
    assert run(site, *SWEEP, "--out", folder, "--retry-failed").returncode == 0
    assert set(written(folder)[len(whole) :]) == failed
    assert {one.status for one in contents(folder).cells.values()} == {Status.OK}


def test_kills_lose_nothing(site: Path, tmp_path: Path, whole: set[str]) -> None:
    survive(site, tmp_path, whole, kills=8, seed=int.from_bytes(os.urandom(4)))


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(site: Path, tmp_path: Path, whole: set[str]) -> None:
    survive(site, tmp_path, whole, kills=100, seed=1)


# ---- Ctrl-C and SIGTERM ------------------------------------------------------------------------------------


def interrupt(site: Path, folder: Path, number: int, wait: float) -> None:
    """A sweep that is told to stop after a while."""
    sweep = start(site, *SWEEP, "--out", folder, "--json-log")
    assert sweep.stderr is not None and json.loads(sweep.stderr.readline())["event"] == "sweep"
    time.sleep(wait)
    before, started = written(folder), children(sweep.pid)
    sweep.send_signal(number)
    _, error = sweep.communicate(timeout=20)
    assert not any(map(alive, started))
    assert written(folder)[: len(before)] == before
    if sweep.returncode:  # it may have been done
        assert sweep.returncode == 128 + number and "the same command goes on from there" in error
        assert "Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished_and_leaves_nobody(
    site: Path, tmp_path: Path, whole: set[str], number: int
) -> None:
    for wait in (0.0, random.uniform(0, 0.5), random.uniform(0.5, 1.5)):
        interrupt(site, tmp_path / "run", number, wait)
    assert run(site, *SWEEP, "--out", tmp_path / "run").returncode == 0
    assert sorted(written(tmp_path / "run")) == sorted(whole)


@pytest.mark.slow
def test_fifty_signals(site: Path, tmp_path: Path, whole: set[str]) -> None:
    rng = random.Random(2)
    for index in range(50):
        folder = tmp_path / str(index // 5)
        interrupt(site, folder, rng.choice([signal.SIGINT, signal.SIGTERM]), rng.uniform(0, 1.5))
    for index in range(10):
        assert run(site, *SWEEP, "--out", tmp_path / str(index)).returncode == 0
        assert sorted(written(tmp_path / str(index))) == sorted(whole)


def test_a_second_signal_does_not_wait_for_the_deaf(site: Path, tmp_path: Path) -> None:
    sweep = start(site, PROBLEMS[0], "--algorithms", "is-deaf", "--out", tmp_path / "run", "--json-log")
    assert sweep.stderr is not None
    for line in sweep.stderr:
        if '"phase": "check"' in line:
            break
    time.sleep(0.3)  # it is in its call now
    started = children(sweep.pid)
    for _ in range(2):
        sweep.send_signal(signal.SIGINT)
        time.sleep(0.5)
    try:
        sweep.communicate(timeout=GRACE - 1)  # one signal alone would wait for as long as that
    finally:
        sweep.kill()  # or the next test finds its device in use
    assert sweep.returncode == 130
    assert started and not any(map(alive, started))


# ---- keeping each other out --------------------------------------------------------------------------------


def test_two_sweeps_exclude_each_other(site: Path, tmp_path: Path) -> None:
    first = start(site, PROBLEMS[0], "--algorithms", "sleeps", "--out", tmp_path / "a", "--json-log")
    assert first.stderr is not None
    for line in first.stderr:
        if '"phase": "check"' in line:
            break
    who = f"is in use by process {first.pid} on {socket.gethostname()}"
    same_folder = run(site, *SWEEP, "--out", tmp_path / "a")
    assert same_folder.returncode == 3 and who in same_folder.stderr
    same_device = run(site, *SWEEP, "--out", tmp_path / "b")
    assert same_device.returncode == 3 and f"device cpu {who}" in same_device.stderr
    assert not (tmp_path / "b").exists()
    first.kill()
    first.communicate()
    assert run(site, *SWEEP, "--out", tmp_path / "b").returncode == 0, "a dead sweep does not block"


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_sweeps_that_start_together_neither_lose_nor_double_a_cell(
    site: Path, whole: set[str], tmp_path: Path, times: int
) -> None:
    """Whoever comes first measures; the other leaves with 3, or goes on after it if it was late enough."""
    for number in range(times):
        folder = tmp_path / str(number)
        both = [start(site, *SWEEP, "--out", folder, stderr=subprocess.DEVNULL) for _ in range(2)]
        for one in both:
            one.communicate(timeout=60)
        codes = {one.returncode for one in both}
        assert 0 in codes and codes <= {0, 3}
        assert sorted(written(folder)) == sorted(whole)


# ---- disks -------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_what_is_there(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(site, PROBLEMS[0], "--algorithms", "correct", "--out", folder).returncode == 0
    before, size = written(folder), (folder / "records.jsonl").stat().st_size
    words = command(*SWEEP, "--out", folder)
    limited = ["sh", "-c", f'ulimit -f {size // 512 + 3}; exec "$@"', "sh", *words]
    done = subprocess.run(limited, env=environment(site), capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "earlier records are intact" in done.stderr
    assert "Traceback" not in done.stderr
    assert written(folder)[: len(before)] == before
    assert run(site, *SWEEP, "--out", folder).returncode == 0
    assert cells(folder).keys() == {"correct", "also-correct"}


def test_a_folder_that_cannot_be_written_is_refused_at_once(site: Path) -> None:
    done = run(site, *SWEEP, "--out", "/proc/convbench")
    assert done.returncode == 2 and "cannot write into '/proc/convbench'" in done.stderr
