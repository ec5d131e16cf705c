"""`convbench ab`: who is compared with whom, in which rounds, and what is said of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparing import TEXT, blocks, measured, settled
from conftest import Command
from convbench.report.comparison import duels
from faults import Offers, Rejects, WrongElement
from sweeping import SteadyDevice

from convbench.ab import run_ab
from convbench.api import Direction, Variant
from convbench.compare import Pair, State
from convbench.duel import Side, duel
from convbench.errors import UsageError
from convbench.problem import Problem
from convbench.record import Record, Status
from convbench.store import read
from convbench.timing import PRESETS

MS = 1e-3
SIDES = Side("direct"), Side("fft")
PROBLEM = Problem.parse(TEXT)
DRIFT = [1 + 0.01 * i for i in range(15)]
RUN = ("--device", "cpu", "--directions", "fwd", "--out", "try")


def fought(*records: Record, floor: float = 0.0, sides: tuple[Side, Side] = SIDES) -> Pair:
    return duel(PROBLEM, records, sides, floor)


def both(ours: Sequence[float], theirs: Sequence[float]) -> tuple[Record, Record]:
    return measured(ours), measured(theirs, "fft", "full")


# ---- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, State.SAME),
        (1.02, State.SLOW),
        (1.007, State.SLOW),
        (1.003, State.SAME),
        (0.98, State.FAST),
        (0.997, State.SAME),
    ],
)
def test_a_planted_change_is_found_through_drift(ratio: float, expected: State) -> None:
    """Both drift by 14 % during the run; only the ratio in each round tells."""
    drift = [MS * one for one in DRIFT]
    noisy = blocks(ratio, rounds=15, noise=0.001)
    pair = fought(*both(drift, [a * b for a, b in zip(drift, noisy, strict=True)]))
    assert pair.state is expected and pair.ratio is not None
    assert pair.ratio.value == pytest.approx(ratio, rel=1e-3) and pair.delta == 0.005


def test_the_noise_of_the_run_widens_the_rule() -> None:
    pair = both([MS] * 15, [1.02 * MS] * 15)
    assert fought(*pair, floor=0.01).state is State.SLOW
    assert fought(*pair, floor=0.03).state is State.SAME
    assert fought(*pair, floor=float("nan")).delta == 0.005


def test_rounds_are_paired_from_the_first_on_when_one_left_early() -> None:
    ours = [MS * 2**i for i in range(20)]
    assert fought(*both(ours, [1.5 * one for one in ours[:10]])).state is State.SLOW
    assert fought(*both(ours[:7], ours)).state is State.AMBIGUOUS


def test_the_fastest_variant_stands_for_an_algorithm_and_a_named_one_for_itself() -> None:
    records = (
        measured([2 * MS] * 15),
        measured([3 * MS] * 15, "fft", "slow"),
        measured([MS] * 15, "fft", "quick"),
        measured([MS / 2] * 15, "fft", "coarse", flags=["class_drop"], accuracy="T"),
        measured([MS / 2] * 15, "fft", "coarser", accuracy="X"),
    )
    best = fought(*records)
    assert best.candidate is not None and best.candidate.cell.variant == "quick"
    assert best.state is State.FAST
    named = fought(*records, sides=(Side("fft", "quick"), Side("fft", "slow")))
    assert named.state is State.SLOW and named.ratio is not None and named.ratio.value == 3


def test_another_accuracy_and_flags_are_told() -> None:
    ours = measured([MS] * 15, flags=["noisy:time"])
    pair = fought(ours, measured([MS] * 15, "fft", "full", accuracy="F", flags=["few", "noisy:time"]))
    assert pair.reason == "accuracy class S against F, noisy:time, few"


@pytest.mark.parametrize(
    ("other", "state", "reason"),
    [
        (settled(Status.UNSUPPORTED, "fft", ""), State.MISSING, "fft: unsupported: because"),
        (settled(Status.CRASHED, "fft", "full"), State.BROKEN, "fft: crashed: because"),
        (measured([MS], "fft", "full", accuracy="X"), State.MISSING, "fft: accuracy class X"),
        (measured([MS], "winograd"), State.MISSING, "fft: no such variant for this problem"),
    ],
)
def test_a_problem_without_two_figures_says_why(other: Record, state: State, reason: str) -> None:
    pair = fought(measured([MS] * 15), other)
    assert (pair.state, pair.reason, pair.ratio) == (state, reason, None)
    pair = fought(other, sides=(Side("fft"), Side("direct", "shift")))
    assert pair.reason == f"{reason}; direct/shift: no such variant for this problem"


def test_the_geometric_mean_stands_at_the_end_of_each_precision() -> None:
    pairs = [fought(*both([MS] * 15, [ratio * MS] * 15)) for ratio in (2.0, 0.5, 8.0)]
    table = duels([*pairs, fought(measured([MS] * 15))], ("direct", "fft"), "")
    assert table.totals == 1 and table.rows[-1][0] == "geometric mean"
    assert table.rows[-1][table.columns.index("B / A")] == "2.000" and table.rows[-1][-1] == "of 3"
    double = [measured([r * MS] * 15, name, precision="fp64") for r, name in ((1, "direct"), (4, "fft"))]
    mixed = duels([*pairs, fought(*double)], ("direct", "fft"), "")
    assert mixed.totals == 2 and mixed.rows[-1][2] == "fp64" and "precision" not in mixed.detail


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_preset_starts_at_fifteen_rounds() -> None:
    assert (PRESETS["ab"].rounds, PRESETS["ab"].last) == (15, 30)


def test_two_algorithms_on_the_cpu(convbench: Command) -> None:
    done = convbench("ab", "direct", "im2col", "n1c2h6k3r3p1", *RUN[:4])
    assert done.code == 0 and done.err.startswith("results in results/ab-direct-against-im2col-")
    counted = [int(part.split()[0]) for part in done.out.splitlines()[-1].split(", ")]
    assert sum(counted) == 1 and counted[-1] == 0
    for expected in ("direct against im2col", "n1c2h6k3r3p1", "geometric mean", "A/A noise floor"):
        assert expected in done.out
    (folder,) = Path("results").iterdir()
    contents = read(folder)
    measured_ = {(one.cell.algorithm, one.cell.preset) for one in contents.cells.values()}
    assert measured_ == {("direct", "ab"), ("im2col", "ab")}
    assert all(one.time and one.time.rounds >= 15 for one in contents.cells.values())
    assert len(contents.noise) == 1 and contents.runs[0]["pair"] == ["direct", "im2col"]


def steady(names: tuple[str, str], *targets: str, **changes: Any) -> int:
    """An A/B run without a clock: every call takes 20 ms."""
    wishes = {"directions": (Direction.FWD,)}
    options: dict[str, Any] = {"batch": None, "out": Path("try"), "form": "csv", "gates": [], "notice": ""}
    return run_ab(SteadyDevice(), names, targets or (TEXT,), wishes, **options | changes)


@pytest.fixture
def stairs(plug_in: Command) -> None:
    """An algorithm with three variants, one that is wrong, and one that wants nothing."""
    offered = tuple(Variant(name) for name in ("a", "b", "c/d"))
    plug_in(stairs=Offers("stairs", offered=offered), wrong=WrongElement("wrong"), picky=Rejects("picky"))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.usefixtures("stairs")
def test_two_variants_of_one_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert steady(("stairs/b", "stairs/c/d")) == 0
    row, mean = rows(capsys.readouterr().out)
    assert (row["A: stairs/b"], row["B: stairs/c/d"], row["state"], row["B / A"]) == (
        "b",
        "c/d",
        "SAME",
        "1.000",
    )
    assert mean["problem"] == "geometric mean"
    assert [one.cell.variant for one in read(Path("try")).cells.values()] == ["b", "c/d"]


@pytest.mark.usefixtures("stairs")
def test_a_second_run_measures_nothing_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    steady(("direct", "stairs"))
    first, cells = capsys.readouterr(), read(Path("try")).cells
    assert steady(("direct", "stairs")) == 0
    again = capsys.readouterr()
    assert again.out == first.out and read(Path("try")).cells == cells
    assert len(read(Path("try")).noise) == 1


@pytest.mark.usefixtures("stairs")
def test_a_group_with_a_missing_cell_is_measured_again_as_a_whole() -> None:
    steady(("direct", "stairs"))
    lines = Path("try/records.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"variant":"b"' not in line]
    assert len(kept) == len(lines) - 1
    Path("try/records.jsonl").write_bytes(b"".join(kept))
    steady(("direct", "stairs"))
    contents = read(Path("try"))
    assert len(contents.noise) == 2
    text = Path("try/records.jsonl").read_text()
    assert text.count('"algorithm":"direct"') == 2 * sum(
        one.cell.algorithm == "direct" for one in contents.cells.values()
    )


@pytest.mark.usefixtures("stairs")
def test_another_pair_needs_another_folder() -> None:
    steady(("direct", "stairs"))
    before = Path("try/records.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"'try' holds direct against stairs, .* name another folder"):
        steady(("direct", "stairs/b"))
    assert Path("try/records.jsonl").read_bytes() == before


@pytest.mark.usefixtures("stairs")
def test_a_failure_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert steady(("direct", "wrong")) == 1
    done = capsys.readouterr()
    assert rows(done.out)[0]["state"] == "broken" and "1 cells failed" in done.err
    assert "0 missing, 1 broken" in done.err


@pytest.fixture
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at no time: as many rounds, of single calls."""
    monkeypatch.setitem(PRESETS, "ab", replace(PRESETS["ab"], sample_seconds=1e-4))


@pytest.mark.usefixtures("short_samples")
def test_the_gate_closes_on_slow_alone(convbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for ratio, code in ((1.5, 1), (1.0, 0), (0.5, 0)):
        pair = fought(*both([MS] * 15, [ratio * MS] * 15))
        monkeypatch.setattr("convbench.ab.duel", lambda *_, pair=pair: pair)
        assert convbench("ab", "direct", "im2col", TEXT, *RUN, "--fail-on", "slow").code == code
        assert convbench("ab", "direct", "im2col", TEXT, *RUN).code == 0


@pytest.mark.usefixtures("stairs", "short_samples")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("direct",), 2, "Missing argument"),
        (("direct", "im2col"), 2, "Missing argument"),
        (("direct", "dirct", TEXT), 2, "named 'dirct'; did you mean direct?"),
        (("direct", "direct", TEXT), 2, "'direct' against itself"),
        (("direct", "stairs/e", TEXT), 2, "no variant of stairs named 'e'; known: a, b, c/d"),
        (("direct", "stairs/", TEXT), 2, "no variant of stairs named ''"),
        (("direct", "a\n\x1b[2J", TEXT), 2, r"named 'a\n\x1b[2J'"),
        (("direct", "im2col", "quikc"), 2, "did you mean quick?"),
        (("direct", "im2col", TEXT, "--fail-on", "fast"), 2, "--fail-on"),
        (("direct", "im2col", TEXT, "--precision", "fp31"), 2, "no precision named 'fp31'"),
        (("direct", "picky", TEXT), 3, "with both: picky: unsupported: only on Sundays"),
    ],
    ids=str,
)
def test_a_mistake_gets_one_line(
    convbench: Command, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = convbench("ab", *arguments, *RUN)
    assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1) and message in done.err
    assert Path("try").exists() == (code == 3)
