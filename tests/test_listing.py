"""`list algorithms` for one problem: who refuses and why, what a variant promises, and how fast it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command
from faults import Correct, Offers, RaisesInVariants, Rejects, WrongElement
from sweeping import SteadyDevice, SteadySampler

from convbench import registry
from convbench.api import Problem, Variant
from convbench.listing import list_variants
from convbench.record import Limit

ASK = ("list", "algorithms", "--device", "cpu", "--problem", TINY)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No algorithm but the plug-ins of a test."""
    monkeypatch.setattr(registry, "BUILT_IN", ())
    monkeypatch.chdir(tmp_path)


@dataclass
class Sampler(SteadySampler):
    """Says that each call took so long."""

    seconds: float = 0.02
    flags: list[str] = field(default_factory=list)
    clocks: list[float] = field(default_factory=list)

    def block(self, calls: Sequence[Any], count: int, warm: Sequence[Any] = ()) -> list[float]:
        super().block(calls, count, warm)
        return [self.seconds] * count


class Device(SteadyDevice):
    """Gives one cell after the other the next of these times; knows the limit of what counts its work."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = iter(seconds)

    def sampler(self) -> Sampler:
        return Sampler(next(self._seconds))

    def limit(self, problem: Problem, details: Mapping[str, Any]) -> Limit | None:
        return Limit(details["flops"] / 1e6, "gemm fp32") if "flops" in details else None


def shown(capsys: pytest.CaptureFixture[str], device: Device, *, timed: bool) -> list[list[str]]:
    """The cells of the rows, each by its first line."""
    list_variants(device, Problem.parse(TINY), timed=timed, notice="")
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return [row for row in rows if row[0]]


VARIANTS = Offers(
    "lib",
    offered=(
        Variant("GEMM", 2048, details={"math": "fma", "deterministic": True, "flops": 3000}),
        Variant("ALGO_0", 0, library_bytes=None, details={"deterministic": False}),
        Variant("DIRECT", refused="CUDNN_STATUS_NOT_SUPPORTED"),
        Variant("heuristic", 0, details={"selection": "heuristic", "picked": "GEMM"}),
    ),
)


def test_what_each_variant_promises(plug_in: Command, capsys: pytest.CaptureFixture[str]) -> None:
    plug_in(lib=VARIANTS)
    assert shown(capsys, Device(), timed=False) == [
        ["lib", "GEMM", "2 KiB", "yes", "fma", "3.00", "yes"],
        ["lib", "ALGO_0", "unknown", "no", "", "–", "yes"],
        ["lib", "heuristic (GEMM)", "0 B", "", "", "–", "yes"],
        ["lib", "DIRECT", "", "", "", "–", "no: CUDNN_STATUS_NOT_SUPPORTED"],
    ]


def test_columns_in_which_nothing_stands_are_left_out(convbench: Command, plug_in: Command) -> None:
    plug_in(picky=Rejects("picky"), good=Correct("good"))
    done = convbench(*ASK)
    assert done.code == 0 and "no: only on Sundays" in done.out and "64 B" in done.out
    for absent in ("deterministic", "math", "at the limit", "time (ms)", "ceilings"):
        assert absent not in done.out


def test_an_algorithm_that_raises_is_a_line(convbench: Command, plug_in: Command) -> None:
    plug_in(broken=RaisesInVariants("broken"), good=Correct("good"))
    done = convbench(*ASK)
    assert done.code == 0 and "good" in done.out
    assert "crashed: RuntimeError in reject or variants: planted" in done.out


def test_with_times_the_fastest_comes_first_and_failures_last(
    plug_in: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in(bad=WrongElement("bad"), picky=Rejects("picky"), one=Correct("one"), two=Correct("two"))
    rows = shown(capsys, Device(0.05, 0.01, 0.05), timed=True)  # one, two, and one again for the noise
    assert [row[0] for row in rows] == ["two", "one", "bad", "picky"]
    assert [row[3] for row in rows] == ["10.0", "50.0", "–", "–"]
    assert [row[4][:2] for row in rows] == ["S ", "S ", "", ""]
    assert rows[0][5] == "yes" and rows[2][5].startswith("wrong: ") and rows[3][5].startswith("no: ")


def test_times_are_kept_nowhere(convbench: Command, plug_in: Command) -> None:
    plug_in(bad=WrongElement("bad"), good=Correct("good"))
    done = convbench(*ASK, "--time", "--direction", "bwd-data")
    assert done.code == 0 and "bwd-data" in done.out and "wrong: exact: 1 of" in done.out
    assert "S " in done.out and list(Path().iterdir()) == []


def test_times_are_of_one_problem(convbench: Command) -> None:
    done = convbench("list", "algorithms", "--device", "cpu", "--time")
    assert done.code == 2 and "--problem" in done.err
