"""Sweeps: every cell ends in one status, is kept, and is not measured twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import FAULTS, Correct, RaisesInRun, Rejects, WrongElement, entry
from sweeping import CORRECT, ENVIRONMENT, SteadyDevice, options, sweep

from convbench.api import Algorithm, Direction, Layout, Precision
from convbench.record import Status
from convbench.store import Contents, Store, read
from convbench.suites import Suite, load_suite
from convbench.sweep import Planner, Summary, problems, run

# ---- what a sweep covers -----------------------------------------------------------------------------------


def test_every_problem_is_asked_once(suite: Suite) -> None:
    wishes = options(CORRECT, directions=tuple(Direction), layouts=tuple(Layout), precisions=tuple(Precision))
    twice = Suite("twice", suite.layers * 2)
    assert len(problems(twice, wishes)) == 2 * 3 * 2 * 5 == len(set(problems(twice, wishes)))


def test_a_measured_cell_carries_everything(tmp_path: Path, suite: Suite) -> None:
    summary = sweep(tmp_path, suite, options(CORRECT))
    assert summary.measured == 2 and not summary.failures and summary.finished_before == 0
    contents = read(tmp_path)
    assert list(contents.cells.values()) == summary.records
    for record in summary.records:
        assert record.status is Status.OK and record.reason == ""
        assert record.check is not None and record.check.accuracy == "S" and record.check.deterministic
        assert record.time is not None and record.time.median == 0.02 and record.time.rounds == 6
        assert record.workspace is not None and record.workspace.granted == 64
        assert record.setup["prepare"] >= 0 and record.environment == "e" and record.started


def test_the_baseline_is_measured_twice_to_learn_the_noise(tmp_path: Path, suite: Suite) -> None:
    sweep(tmp_path, suite, options(Correct("other"), CORRECT))
    noise = read(tmp_path).noise
    assert [one["ratio"] for one in noise] == [1.0, 1.0]
    assert {one["problem"] for one in noise} == {r.cell.problem.label for r in read(tmp_path).cells.values()}


def test_progress_is_told_after_every_group(tmp_path: Path, suite: Suite) -> None:
    told: list[tuple[str, int]] = []
    wishes, device = options(CORRECT, Rejects("rejects")), SteadyDevice()
    with Store(tmp_path) as store:
        groups = Planner(wishes, device, ENVIRONMENT, {}).groups(suite)
        run(
            groups,
            wishes,
            device,
            ENVIRONMENT,
            store,
            lambda g, s: told.append((str(g.problem), len(s.records))),
        )
    assert told == [(str(layer.problem), 2 * i) for i, layer in enumerate(suite.layers, start=1)]


# ---- resuming ----------------------------------------------------------------------------------------------


def test_a_second_sweep_measures_nothing(tmp_path: Path, suite: Suite) -> None:
    wishes = options(CORRECT, Rejects("rejects"), WrongElement("wrong"))
    sweep(tmp_path, suite, wishes)
    before = (tmp_path / "records.jsonl").read_bytes()
    again = sweep(tmp_path, suite, wishes)
    assert again.records == [] and again.finished_before == 6
    assert (tmp_path / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"preset": "default"}, {"limits": (1 << 20,)}, {"precisions": (Precision.FP64,)}], ids=str
)
def test_a_changed_option_is_another_cell(tmp_path: Path, suite: Suite, change: dict[str, Any]) -> None:
    sweep(tmp_path, suite, options(CORRECT))
    again = sweep(tmp_path, suite, options(CORRECT, **change))
    assert again.measured == 2 and again.finished_before == 0 and len(read(tmp_path).cells) == 4


def test_a_changed_machine_or_source_is_another_cell(tmp_path: Path, suite: Suite) -> None:
    sweep(tmp_path, suite, options(CORRECT))
    elsewhere = {"id": "f", "identity": {"cpu": "another cpu"}}
    assert sweep(tmp_path, suite, options(CORRECT), environment=elsewhere).measured == 2
    edited = replace(options(), entries=[entry(CORRECT, "edited source")])
    assert sweep(tmp_path, suite, edited).measured == 2
    assert len(read(tmp_path).cells) == 6


def test_only_failed_cells_are_retried_and_only_when_asked(tmp_path: Path, suite: Suite) -> None:
    algorithms = [algorithm for algorithm, _, _ in FAULTS]
    first = sweep(tmp_path, suite, options(CORRECT, *algorithms))
    again = sweep(tmp_path, suite, options(CORRECT, *algorithms, retry_failed=True))
    assert {record.key for record in again.records} == {record.key for record in first.failures}
    mended = RaisesInRun("raises-in-run")
    object.__setattr__(mended, "spoil", lambda call: None)
    sweep(tmp_path, suite, options(mended, retry_failed=True))
    cells = [cell for cell in read(tmp_path).cells.values() if cell.cell.algorithm == "raises-in-run"]
    assert [cell.status for cell in cells] == [Status.OK, Status.OK]


def test_a_sweep_that_stops_goes_on_where_it_was(tmp_path: Path, suite: Suite) -> None:
    wishes, device = options(CORRECT), SteadyDevice()

    def interrupt(group: object, summary: Summary) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Store(tmp_path) as store:
        groups = Planner(wishes, device, ENVIRONMENT, {}).groups(suite)
        run(groups, wishes, device, ENVIRONMENT, store, interrupt)
    summary = sweep(tmp_path, suite, wishes)
    assert summary.measured == 1 and summary.finished_before == 1


# ---- failures ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """A sweep of one layer in which everything goes wrong, around one correct algorithm."""
    suite = Suite("one", load_suite("quick").layers[:1]).with_batch(1)
    small = replace(suite.layers[0], problem=suite.layers[0].problem.with_(h=9, w=8, k=4))
    folder = tmp_path_factory.mktemp("mixed")
    sweep(folder, Suite("one", (small,)), options(*(fault for fault, _, _ in FAULTS), CORRECT))
    return read(folder)


@pytest.mark.parametrize(("fault", "status", "reason"), FAULTS, ids=[fault.name for fault, _, _ in FAULTS])
def test_a_fault_ends_in_its_status_with_its_reason(
    mixed: Contents, fault: Algorithm, status: Status, reason: str
) -> None:
    cells = [cell for cell in mixed.cells.values() if cell.cell.algorithm == fault.name]
    assert [cell.status for cell in cells] == [status]
    assert reason in cells[0].reason and cells[0].reason.isprintable()
    assert cells[0].time is None


def test_a_fault_harms_no_other_cell(mixed: Contents) -> None:
    assert len(mixed.cells) == len(FAULTS) + 1 and mixed.notes == []
    assert [cell.cell.algorithm for cell in mixed.cells.values() if cell.status is Status.OK] == ["correct"]


def test_a_wrong_cell_says_how_to_see_it_again(mixed: Contents) -> None:
    for cell in mixed.cells.values():
        if cell.status is Status.WRONG:
            assert "; seed " in cell.reason and cell.time is None
