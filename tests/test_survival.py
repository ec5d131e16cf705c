"""Algorithms that kill, hang or starve their process: each ends in its own status, all others complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY
from faults import DEADLY, DEADLY_ALGORITHMS
from isolating import cells, make_site, run, written

from convbench.api import Algorithm
from convbench.record import Record, Status

NAMES = ",".join(algorithm.name for algorithm in DEADLY_ALGORITHMS)
SWEEP = (TINY, "--algorithms", NAMES, "--baseline", "correct", "--time-limit", "2")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def folder(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in which everything dies, around two correct algorithms."""
    folder = tmp_path_factory.mktemp("deadly") / "run"
    done = run(site, *SWEEP, "--out", folder)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Record]:
    return cells(folder)


@pytest.mark.parametrize(("fault", "status", "reason"), DEADLY, ids=[fault.name for fault, _, _ in DEADLY])
def test_each_fault_has_its_own_status_and_reason(
    found: dict[str, Record], fault: Algorithm, status: Status, reason: str
) -> None:
    record = found[fault.name]
    assert (record.status, record.time) == (status, None)
    assert reason in record.reason and record.reason.isprintable()


def test_all_others_are_complete(found: dict[str, Record]) -> None:
    assert len(found) == len(DEADLY_ALGORITHMS)
    for name in ("correct", "also-correct"):
        assert found[name].status is Status.OK and found[name].time is not None


def test_no_cell_is_written_twice(folder: Path) -> None:
    keys = written(folder)
    assert len(keys) == len(set(keys)) == len(DEADLY_ALGORITHMS)


def test_last_words_are_kept_on_one_line(found: dict[str, Record]) -> None:
    words = found["complains"].details["stderr"]
    assert "first\\x1b[31m line | last words" in words and "nobody's" in words
    assert "Segmentation fault" in found["segfaults"].details["stderr"]


def test_again_measures_nothing_and_asks_no_killer(site: Path, folder: Path) -> None:
    before = written(folder)
    again = run(site, *SWEEP, "--out", folder)
    assert again.returncode == 1 and f"0 cells measured, {len(DEADLY_ALGORITHMS)} were there" in again.stderr
    assert written(folder) == before


def test_retrying_runs_the_failed_ones_alone(site: Path, folder: Path) -> None:
    before = written(folder)
    quick = ("segfaults", "segfaults-in-variants", "correct", "wrong-element")
    chosen = (TINY, "--algorithms", ",".join(quick), "--baseline", "correct", "--out", folder)
    assert run(site, *chosen, "--retry-failed").returncode == 1
    retried = [cells(folder)[name].key for name in quick if name != "correct"]
    assert sorted(written(folder)[len(before) :]) == sorted(retried)


def test_a_killer_in_planning_costs_a_dry_run_nothing(site: Path, tmp_path: Path) -> None:
    chosen = ("--algorithms", "correct,segfaults-in-variants", "--dry-run")
    done = run(site, TINY, *chosen, "--out", tmp_path / "none")
    assert done.returncode == 0 and "1 cells in 1 groups" in done.stdout
    assert "segfaults-in-variants : crashed (killed by SIGSEGV" in done.stdout
    assert not (tmp_path / "none").exists()
