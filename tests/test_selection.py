"""What a library's choice costs: its picks under limits, what they lost, and that a choice wins nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from comparing import TEXT, blocks, holding, measured, settled
from convbench.report.costs import costs
from convbench.report.ranking import CHOICE
from convbench.report.tables import MISSING, Table, csv_text, markdown, rich_table
from convbench.report.views import VIEWS, accuracy, algorithms, by_limit, coverage, selection, tally, winners
from rich.console import Console

from convbench import cli
from convbench.frame import cells_frame, layers_frame
from convbench.problem import Problem
from convbench.record import Record, Status, Workspace

MIB = 2**20
OTHER = "n1c2h7w4k3r3p1"
ENGINE = "eng62_k2=0_k13=1_k18=0_k25=1_k27=1_k28=2"
FAILED = {"status": Status.CRASHED, "reason": "cudaErrorIllegalAddress"}


def named(variant: str, ms: float, workspace: int = 0, algorithm: str = "cudnn", **cell: Any) -> Record:
    """A variant measured by its name."""
    one = measured(blocks(ms * 1e-3, noise=1e-4), algorithm, variant, **cell)
    return replace(one, workspace=Workspace(workspace, workspace, 0))


def choice(
    order: Any, ms: float = 9.0, way: str = "heuristic", algorithm: str = "cudnn", **cell: Any
) -> Record:
    """A library's own choice with the order behind it; without one, what comes of asking in vain."""
    one = named(way, ms, 0, algorithm, **cell)
    picked = {"picked": order[0][0], "order": order} if order else {}
    return replace(one, details={"selection": way, **picked})


def frames(*records: Record, layers: Sequence[str] = ()) -> Any:
    held = holding(*records)
    held.layers = [
        {"suite": "s", "network": "net", "name": f"l{i}", "repeat": 1, "text": str(Problem.parse(text))}
        for i, text in enumerate(layers)
    ]
    return cells_frame(held), layers_frame(held)


def chosen(*records: Record, limits: Sequence[int] = (), layers: Sequence[str] = ()) -> list[Table]:
    return selection(*frames(*records, layers=layers), limits)


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def picks(table: Table) -> list[str]:
    """The column that says whose picks they are."""
    (name,) = [name for name in table.columns if name.endswith(" picks")]
    return column(table, name)


# ---- picks under limits ------------------------------------------------------------------------------------


def test_the_cost_is_the_pick_by_its_named_time_over_the_best_under_each_limit() -> None:
    records = [named("GEMM", 4.0), named("PRECOMP", 2.0, MIB), named("FFT", 1.0, 64 * MIB)]
    order = [["PRECOMP", MIB], ["GEMM", 0], ["FFT", 64 * MIB]]
    (table,) = chosen(*records, choice(order, ms=7.0), limits=[0, MIB, 16 * MIB, 64 * MIB])
    assert table.title.startswith("What cudnn's heuristic costs")
    assert [row[2:] for row in table.rows[: -table.totals]] == [
        ("0 B", "cudnn/GEMM", "4.00", "0 B", "GEMM", "4.00", "0 B", "1.00"),
        ("1 MiB – 16 MiB", "cudnn/PRECOMP", "2.00", "1 MiB", "PRECOMP", "2.00", "1 MiB", "1.00"),
        ("≥ 64 MiB", "cudnn/FFT", "1.00", "64 MiB", "PRECOMP", "2.00", "1 MiB", "2.00"),
    ]
    assert [(row[2], row[-1]) for row in table.rows[-2:]] == [("0 B – 16 MiB", "1.00"), ("≥ 64 MiB", "2.00")]


def test_every_way_of_choosing_has_its_table() -> None:
    records = [named("A", 1.0), named("B", 3.0), choice([["B", 0], ["A", 0]]), choice([["A", 0]], way="find")]
    heuristic, find = chosen(*records)
    assert picks(heuristic)[0] == "B" and column(heuristic, "cost")[0] == "3.00"
    assert picks(find)[0] == "A" and column(find, "cost")[0] == "1.00"
    assert column(find, "workspace limit") == ["any", "any"]


def test_the_best_is_over_all_algorithms_of_the_libraries_and_of_nobody_else() -> None:
    records = [
        named("A", 4.0),
        named("eng0", 2.0, algorithm="cudnn-graph"),
        named("chunk1", 1.0, algorithm="im2col"),
    ]
    choices = [choice([["A", 0]]), choice([["eng0", 0]], algorithm="cudnn-graph")]
    legacy, graph = chosen(*records, *choices)
    assert column(legacy, "best")[0] == column(graph, "best")[0] == "cudnn-graph/eng0"
    assert column(legacy, "cost")[0] == "2.00" and column(graph, "cost")[0] == "1.00"


def test_the_geometric_mean_is_over_the_costs_there_are() -> None:
    costs = [record for text, ms in ((TEXT, 2.0), (OTHER, 8.0)) for record in (
        named("A", 1.0, text=text), named("B", ms, text=text), choice([["B", 0]], text=text)
    )]  # fmt: skip
    lost = [named("A", 1.0, text=TEXT, direction="bwd-data"), choice([], text=TEXT, direction="bwd-data")]
    (table,) = chosen(*costs, *lost, layers=[TEXT, OTHER])
    assert table.totals == 1 and table.rows[-1][0] == "geometric mean"
    assert table.rows[-1][-1] == "4.00" and picks(table)[-1] == "2 of 4"


def test_a_cost_that_may_be_chance_is_marked() -> None:
    records = [named("A", 1.0), named("B", 1.00001), choice([["B", 0]])]
    (table,) = chosen(*records)
    assert column(table, "cost")[0] == "≈ 1.00"
    cells, layers = frames(named("A", 1.0), named("B", 1.1), choice([["B", 0]]))
    marked = [column(selection(cells, layers, [], {"e": floor})[0], "cost")[0] for floor in (0.0, 0.2)]
    assert marked == ["1.10", "≈ 1.10"]


def test_choices_for_several_limits_are_one_table() -> None:
    order = [["A", MIB], ["B", 0]]
    small = replace(choice(order), details={"selection": "heuristic", "picked": "B", "order": order})
    small = replace(small, key="small", cell=replace(small.cell, variant="heuristic_0B"))
    (table,) = chosen(named("A", 1.0, MIB), choice(order), small, limits=[0])
    assert picks(table)[:2] == ["B (timed as heuristic_0B only)", "A"]


# ---- what a pick lost --------------------------------------------------------------------------------------


BARE = replace(choice([]), details={"selection": "heuristic", "order": [["B", 0]]})  # names no pick


@pytest.mark.parametrize(
    ("records", "shown"),
    [
        ([settled(variant="B", algorithm="cudnn", **FAILED), choice([["B", 0]])], "B (crashed: cudaError"),
        ([named("B", 0.5, accuracy="X"), choice([["B", 0]])], "B (accuracy class X"),
        ([BARE], "B (not measured)"),
        ([choice([["B", 1]])], f"{MISSING} (nothing in its order fits)"),
        ([choice([])], f"{MISSING} (the library tells no order)"),
        ([replace(choice([]), **FAILED, time=None)], f"{MISSING} (crashed: cudaErrorIllegalAddress)"),
        ([replace(choice([["B", 0]]), **FAILED, time=None)], "B (crashed: cudaError"),
        ([replace(BARE, details={**BARE.details, "order": [["B", "0"]]})], f"{MISSING} (the library tells"),
        ([replace(BARE, details={**BARE.details, "order": "B"})], f"{MISSING} (the library tells"),
        ([named("B", 2.0, text=OTHER), choice([["B", 0]], text=OTHER)], f"{MISSING} (not run)"),
    ],
    ids=[
        "crashed", "class", "not measured", "nothing fits", "empty order", "choice crashed", "pick crashed",
        "sizes", "malformed", "not run",
    ],
)  # fmt: skip
def test_what_a_pick_lost_is_said(records: list[Record], shown: str) -> None:
    (table,) = chosen(named("A", 1.0), *records, limits=[0], layers=[TEXT, OTHER])
    assert picks(table)[0].startswith(shown)
    assert column(table, "cost")[0] == column(table, "pick (ms)")[0] == MISSING
    assert column(table, "best")[0] == "cudnn/A"


def test_a_pick_without_a_record_of_its_own_has_the_time_of_the_choice() -> None:
    (table,) = chosen(named("A", 1.0), choice([["B", 0]], ms=3.0))
    assert picks(table)[0] == "B (timed as heuristic only)" and column(table, "cost")[0] == "3.00"


@pytest.mark.parametrize(
    "other",
    [
        {"layout": "nhwc"}, {"precision": "fp64", "accuracy": "D"}, {"device": "cuda"}, {"regime": "burst"},
        {"preset": "quick"}, {"environment": "e2"}, {"figure": "gpu_hot"},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_scopes_are_never_mixed(other: dict[str, Any]) -> None:
    """The other scope holds the heuristic's pick, and a faster variant: neither belongs here."""
    here = [named("A", 1.0), BARE]
    there = [
        named("B", 0.5, **other),
        choice([["C", 0]], **{**other, "text": OTHER}),
        named("C", 0.1, **other),
    ]
    cells, layers = frames(*here, *there)
    ours, theirs = selection(cells, layers, [])
    assert column(ours, "best")[0] == "cudnn/A" and picks(ours)[0] == "B (not measured)"
    assert picks(theirs)[0] == f"{MISSING} (not run)" and ours.title != theirs.title
    assert column(algorithms(cells, layers)[0], "variant") == ["A", f"{MISSING} (as heuristic)"]


@pytest.mark.parametrize("records", [[named("A", 1.0)], [settled(Status.OOM)], []])
def test_without_a_choice_there_is_a_note_and_no_table(records: list[Record]) -> None:
    (table,) = chosen(*records)
    assert table.rows == [] and table.note and "|" not in markdown(table)


# ---- a choice is no variant of its own ---------------------------------------------------------------------


def test_a_choice_wins_nothing_and_is_covered() -> None:
    records = [named("A", 2.0), named("f4", 3.0, algorithm="winograd"), choice([["A", 0]], ms=0.1)]
    cells, layers = frames(*records)
    assert column(winners(cells, layers)[0], "winner") == ["cudnn/A"]
    assert [row[-1] for row in by_limit(cells, layers, [0])[0].rows] == ["2.00 · cudnn/A", "2.00"]
    assert column(tally(cells, layers)[0], "wins") == ["1", "0"]
    assert [row[:3] for row in coverage(cells).rows] == [("cudnn", "ok, not ranked", CHOICE)]
    assert "heuristic" in column(accuracy(cells), "variants")


def test_selection_in_the_details_is_only_a_choice_when_it_is_text() -> None:
    odd = replace(named("A", 1.0), details={"selection": {"a": 1}, "order": []})
    assert column(winners(*frames(odd))[0], "winner") == ["cudnn/A"]


# ---- algorithm, workspace and time -------------------------------------------------------------------------


def test_the_algorithms_of_a_layer_with_the_choices_among_them() -> None:
    records = [
        *(named("GEMM", 4.0), named("FFT", 2.0, MIB), named("T", 0.1, accuracy="T")),
        settled(Status.UNSUPPORTED, "cudnn", "DIRECT", reason="refused " * 30),
        *(choice([["GEMM", 0]]), choice([["FFT", MIB]], way="find"), named("f4", 1.0, algorithm="winograd")),
    ]
    (table,) = algorithms(*frames(*records))
    assert column(table, "variant") == ["f4", "FFT", "GEMM", "T", "DIRECT"]
    assert column(table, "ratio") == ["1.00", "2.00", "4.00", MISSING, MISSING]
    assert column(table, "workspace") == ["0 B", "1 MiB", "0 B", "0 B", MISSING]
    assert column(table, "chosen by") == ["", "find", "heuristic", "", ""]
    assert column(table, "cost") == ["", "1.00", "2.00", "", ""]
    status = column(table, "status")
    assert "class T" in status[3] and status[4].startswith("unsupported: refused") and len(status[4]) <= 60
    assert table.best == {(0, table.columns.index("time (ms)"))}


def test_a_choice_is_listed_by_itself_only_where_its_pick_is_not() -> None:
    records = [named("GEMM", 4.0), choice([["eng7", 0]], ms=3.0), replace(choice([], way="find"), **FAILED)]
    (table,) = algorithms(*frames(*records))
    assert column(table, "variant") == ["eng7 (as heuristic)", "GEMM", f"{MISSING} (as find)"]
    assert column(table, "chosen by") == ["heuristic", "", ""]
    assert column(table, "status")[2].startswith("crashed")


def test_a_layer_without_choices_has_no_columns_for_them() -> None:
    (table,) = algorithms(*frames(named("f2", 2.0, algorithm="winograd")))
    assert not {"chosen by", "cost", "status"} & set(table.columns) and "Chosen by" not in table.note


def test_a_table_for_every_layer_that_was_run() -> None:
    records = [named("A", 1.0), named("A", 2.0, text=OTHER), named("A", 2.0, direction="bwd-data")]
    first, second = algorithms(*frames(*records, layers=[TEXT, OTHER, "n9c9h9k9r1"]))
    assert column(first, "direction") == ["fwd", "bwd-data"] and column(second, "direction") == ["fwd"]
    assert "l0" in first.title and column(first, "layer") == ["l0", "l0"]


# ---- in every form -----------------------------------------------------------------------------------------


def test_long_names_are_folded_and_not_cut_in_a_terminal() -> None:
    records = [named(ENGINE, 1.0, algorithm="cudnn-graph"), choice([[ENGINE, 0]], algorithm="cudnn-graph")]
    for table in (*chosen(*records), *algorithms(*frames(*records))):
        console = Console(file=io.StringIO(), width=160)
        console.print(rich_table(table))
        assert isinstance(console.file, io.StringIO)
        shown = "".join(console.file.getvalue().split()).replace("│", "")
        assert "_k28=2" in shown and "…" not in shown
        assert ENGINE in csv_text(table) and ENGINE.replace("_", "\\_") in markdown(table)


def test_the_command_line_knows_every_view() -> None:
    assert cli.VIEWS == VIEWS


# ---- at a glance -------------------------------------------------------------------------------------------


def test_costs_are_geometric_means_by_limit_and_say_how_many_they_are_of() -> None:
    records = [
        named("FFT", 1.0, 64 * MIB),
        named("GEMM", 2.0),
        choice([["FFT", 64 * MIB], ["GEMM", 0]]),
        named("FFT", 1.0, 64 * MIB, text=OTHER),
        named("GEMM", 4.0, text=OTHER),
        choice([["GEMM", 0]], text=OTHER),
    ]
    (table,) = costs(*frames(*records, layers=(TEXT, OTHER)), limits=[0, 64 * MIB])
    (row,) = table.rows
    assert row[:4] == ("net", "fp32", "nchw", "cudnn heuristic")
    assert dict(zip(table.columns[5:], row[5:], strict=True)) == {
        "0 B": "1.00",
        "64 MiB": "2.00",
        "no limit": "2.00",
    }


def test_costs_leave_out_what_has_no_pick_and_say_when_there_is_none() -> None:
    records = [named("GEMM", 2.0), choice([["GEMM", 0]]), named("GEMM", 4.0, text=OTHER)]
    (table,) = costs(*frames(*records, layers=(TEXT, OTHER)), limits=[0])
    assert table.rows[0][5:] == ("1.00 · 1 of 2", "1.00 · 1 of 2")
    (nothing,) = costs(*frames(named("GEMM", 2.0)), limits=[0])
    assert nothing.rows == [] and "No library's choice" in nothing.note
