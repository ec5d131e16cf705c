"""The coverage matrix: counted by case, with every reason once."""

from __future__ import annotations

from conftest import Command

from convbench.conformance import Finding
from convbench.matrix import Matrix, tables
from convbench.problem import Direction

CASE = "n1c1h3k1r1/fwd/fp32/nchw"
OTHER = "n1c1h5k1r1/fwd/fp32/nchw"


def matrix(*findings: Finding) -> Matrix:
    made = Matrix("mine")
    for finding in findings:
        made.add(finding)
    return made


def cell(*findings: Finding) -> str:
    table, _ = tables([matrix(*findings)])
    return table.rows[0][table.columns.index("fp32 nchw")]


def test_a_case_passes_with_one_variant_and_counts_once() -> None:
    assert cell(Finding("case", CASE, "a"), Finding("case", CASE, "b"), Finding("case", OTHER, "a")) == "2/2"
    assert cell(Finding("case", CASE, "a"), Finding("case", CASE, "b", skipped="no")) == "1/1"


def test_rejections_and_failures_are_told_apart() -> None:
    rejected = Finding("case", OTHER, skipped="stride 2")
    assert cell(Finding("case", CASE), rejected) == "1/2"
    assert cell(Finding("case", CASE), Finding("case", OTHER, "b", failure="bad")) == "1/2 1f"
    assert cell(Finding("case", CASE, "a", failure="bad", known="since ever")) == "0/1 1k"


def test_what_was_not_asked_is_missing_not_zero() -> None:
    table, _ = tables([matrix(Finding("case", CASE))])
    assert table.rows[1][1] == Direction.BWD_DATA and set(table.rows[1][2:]) == {"–"}


def test_reasons_that_differ_in_numbers_share_a_row() -> None:
    one, two = Finding("case", CASE, skipped="stride 2"), Finding("case", OTHER, skipped="stride 3")
    assert tables([matrix(one, two)])[1].rows == [("mine", "stride #", "2")]


def test_verify_prints_it(convbench: Command) -> None:
    done = convbench(
        *("verify", "direct", "--device", "cpu", "--directions", "fwd", "--precision", "fp32"),
        *("--layout", "nchw", "--matrix", "--format", "markdown"),
    )
    assert done.code == 0
    assert "Coverage matrix" in done.out and "28/28" in done.out
