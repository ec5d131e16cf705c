"""The report: what is ranked, how totals are formed, what a limit excludes; and foreign text stays text."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from convbench.report import build
from convbench.report.layers import shape
from convbench.report.plots import pareto, suite_figure, workspace_figure
from convbench.report.ranking import RANKED, rankings
from convbench.report.tables import MISSING, Table, csv_text, markdown, rich_table, significant
from convbench.report.theme import label
from convbench.report.views import (
    VIEWS,
    accuracy,
    by_layer,
    by_limit,
    by_network,
    coverage,
    environment,
    noise_line,
    tables_of,
    tally,
    winners,
)
from rich.console import Console

from convbench.accuracy import ASKED, BARS, CLASSES
from convbench.errors import UsageError
from convbench.frame import cells_frame, layers_frame
from convbench.problem import Precision, Problem
from convbench.record import SCHEMA, Cell, Check, Record, Status, Timing, Workspace
from convbench.seal import seal
from convbench.store import FILE, Contents

A, B = "n1c8h8k8r3p1", "n1c8h16k8r3p1"
MIB = 2**20
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<iframe src=https://example.org></iframe>",
    "![x](https://example.org/x.png)",
    "a|b\n| --- |\n`c` **d**",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "=HYPERLINK(0)",
    "$\\frac{$ _x \x1b[31m \u202e \u0000 \U0001f600",
]


def record(
    algorithm: str,
    ms: float | None = 1.0,
    text: str = A,
    variant: str = "v",
    *,
    status: Status = Status.OK,
    reason: str = "",
    grade: str = "S",
    workspace: int = 0,
    library: int | None = 0,
    flags: Sequence[str] = (),
    interval: bool = True,
    **problem: str,
) -> Record:
    """A record as a sweep leaves it, without one where `ms` is None."""
    cell_fields = {key: problem.pop(key) for key in ("device", "regime", "preset") if key in problem}
    environment_id = problem.pop("environment", "e1")
    cell = Cell(Problem.parse(text, **problem), algorithm, variant, **{"device": "cpu", **cell_fields})
    key = cell.key(f"{ms}", {"environment": environment_id})
    head = {"status": status, "reason": reason, "flags": list(flags), "environment": environment_id}
    if ms is None:
        return Record(key, cell, **head)
    s = ms / 1e3
    bounds = (s * 0.99, s * 1.01) if interval else (None, None)
    time = Timing("cpu", s, *bounds, s, s, s, 0, 0, 5, [s] * 6, [[s]] * 6)
    check = Check(1e-7, 1.0, grade, True, True)
    return Record(
        key, cell, check=check, time=time, workspace=Workspace(workspace, workspace, library), **head
    )


def contents(*records: Record, layers: Sequence[tuple[str, str, int]] = ()) -> Contents:
    """A folder's contents; layers as (name, text, repeat), all of the network "net"."""
    lines: list[dict[str, Any]] = [
        {"suite": "s", "network": "net", "name": name, "repeat": repeat, "text": str(Problem.parse(text))}
        for name, text, repeat in layers
    ]
    identity = {"cpu": "CPU", "threads": 2, "libraries": {"numpy": "2", "torch": None}}
    environments = {one.environment: {"id": one.environment, "identity": identity} for one in records}
    return Contents({one.key: one for one in records}, environments, lines)


def frames(
    *records: Record, layers: Sequence[tuple[str, str, int]] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    held = contents(*records, layers=layers)
    return cells_frame(held), layers_frame(held)


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def stored(folder: Path, held: Contents) -> Path:
    """The contents as a result folder."""
    lines: list[dict[str, Any]] = [one.to_json() for one in held.cells.values()]
    lines += [{"kind": "environment", **one} for one in held.environments.values()]
    lines += [{"kind": "layer", **one} for one in held.layers]
    lines += [{"kind": "noise", **one} for one in held.noise]
    folder.mkdir()
    (folder / FILE).write_bytes(b"".join(seal({"schema": SCHEMA, **line}) for line in lines))
    return folder


# ---- ranking ----------------------------------------------------------------------------------------------


def test_the_ranked_classes_are_those_that_verification_grants() -> None:
    for precision in Precision:
        meets = {c for c in CLASSES[precision] if BARS[c] <= BARS[ASKED[precision]]}
        assert set(RANKED[precision]) == meets


@pytest.mark.parametrize(
    "unfit",
    [
        record("bad", 0.1, grade="X"),
        record("bad", 0.1, grade="T", flags=["class_drop"]),
        record("bad", None, status=Status.WRONG, reason="off"),
        record("bad", 0.1, status=Status.INVALID, reason="implausible"),
    ],
    ids=["X", "class_drop", "wrong", "invalid"],
)
def test_what_is_not_ranked_wins_nothing_and_is_covered(unfit: Record) -> None:
    cells, layers = frames(record("good", 1.0), unfit)
    (table,) = winners(cells, layers)
    assert column(table, "winner") == ["good/v"] and column(table, "runner-up") == [MISSING]
    assert column(by_network(cells, layers)[0], "algorithm") == ["good", "best per layer"]
    assert column(coverage(cells), "algorithm") == ["bad"]


def test_class_t_is_ranked_where_tf32_was_asked_for() -> None:
    (table,) = winners(*frames(record("fast", 0.5, grade="T", precision="tf32")))
    assert column(table, "winner") == ["fast/v"]


@pytest.mark.parametrize(
    "other",
    [
        {"precision": "fp64", "grade": "D"},
        {"layout": "nhwc"},
        {"device": "cuda"},
        {"regime": "burst"},
        {"preset": "quick"},
        {"environment": "e2"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_scopes_are_never_ranked_together(other: dict[str, Any]) -> None:
    cells, layers = frames(record("a", 1.0), record("b", 2.0, **other))
    tables = winners(cells, layers)
    assert [column(table, "winner") for table in tables] == [["a/v"], ["b/v"]]
    assert len({table.title for table in tables}) == 2
    with pytest.raises(ValueError, match="one kind of figure"):
        suite_figure(cells, layers, "fwd")


def test_the_winner_names_the_next_other_algorithm() -> None:
    cells, layers = frames(record("a", 1.0), record("a", 1.1, variant="w"), record("b", 2.0))
    (table,) = winners(cells, layers)
    assert column(table, "runner-up") == ["b/v"] and column(table, "factor") == ["2.00"]
    assert column(table, "95 % interval") == ["0.990 – 1.01"]


@pytest.mark.parametrize(
    ("ms", "interval", "floor", "factor"),
    [
        (1.005, True, 0.0, "≈ 1.00"),
        (1.1, True, 0.0, "1.10"),
        (1.1, True, 0.2, "≈ 1.10"),
        (9, False, 0, "≈ 9.00"),
    ],
    ids=["meet", "apart", "floor", "no interval"],
)
def test_a_lead_that_may_be_chance_is_marked(ms: float, interval: bool, floor: float, factor: str) -> None:
    cells, layers = frames(record("a", 1.0), record("b", ms, interval=interval))
    assert column(winners(cells, layers, {"e1": floor})[0], "factor") == [factor]
    clear = column(tally(cells, layers, {"e1": floor})[0], "clear")
    assert clear == (["0", "0"] if "≈" in factor else ["1", "0"])


def test_a_cell_measured_again_counts_as_last_seen() -> None:
    cells, layers = frames(record("a", 1.0), record("b", 2.0), record("a", 3.0))
    assert column(winners(cells, layers)[0], "winner") == ["b/v"]
    assert "1 older record" in coverage(cells).note


# ---- totals -----------------------------------------------------------------------------------------------


def test_totals_count_repeats_and_say_what_is_missing() -> None:
    layers = [("one", A, 1), ("three", B, 3)]
    cells = [
        record("all", 2.0),
        record("all", 4.0, B),
        record("part", 1.0),
        record("all", 5.0, direction="bwd-data"),
    ]
    (table,) = by_network(*frames(*cells, record("all", 7.0, B, direction="bwd-filter"), layers=layers))
    assert table.rows[0] == ("all", "v", "0 of 2 layers", "14.0", "0 of 2 layers")
    assert table.rows[1] == ("part", "v", "0 of 2 layers", "1 of 2 layers", "0 of 2 layers")
    assert table.rows[-1][3] == "13.0"


def test_networks_are_sorted_by_total_and_end_with_the_best_per_layer() -> None:
    slow, quick = (
        [record("slow", 9.0), record("slow", 1.0, B)],
        [record("quick", 2.0), record("quick", 3.0, B)],
    )
    cells, layers = frames(*slow, *quick, record("none", 0.1), layers=[("one", A, 1), ("two", B, 2)])
    (table,) = by_network(cells, layers)
    assert column(table, "algorithm") == ["quick", "slow", "none", "best per layer"]
    assert column(table, "total (ms)") == ["8.00", "11.0", "1 of 2 layers", "2.10"]
    assert "Not run" in table.note and column(table, "backward (ms)") == [MISSING] * 4


def test_layers_against_algorithms() -> None:
    cells = [record("a", 2.0), record("a", 4.0, B), record("b", 1.0), record("b", 1.5, variant="w")]
    (table,) = by_layer(*frames(*cells, layers=[("one", A, 1), ("two", B, 2)]), "fwd")
    assert table.columns == ("layer", "repeat", "a", "b", "best")
    assert table.rows == [
        ("one", "1", "2.00", "1.00", "1.00"),
        ("two", "2", "4.00", MISSING, "4.00"),
        ("total", "", "10.0", "1 of 2 layers", "9.00"),
    ]
    assert table.best == {(0, 3), (1, 2)}


def test_batch_sizes_of_one_network_are_not_added_up() -> None:
    big = A.replace("n1", "n4")
    cells, layers = frames(record("a", 1.0), record("a", 5.0, big), layers=[("one", A, 1), ("one", big, 1)])
    titles = {table.title: column(table, "total (ms)")[-1] for table in by_network(cells, layers)}
    assert sorted(titles.values()) == ["1.00", "5.00"] and any("N=4" in title for title in titles)


def test_a_bad_repeat_is_a_usage_error() -> None:
    cells, layers = frames(record("a"), layers=[("one", A, 1)])
    layers["repeat"] = "many"
    with pytest.raises(UsageError, match="repeat 'many'"):
        rankings(cells, layers)


# ---- limits -----------------------------------------------------------------------------------------------


def test_limits_choose_what_is_sure_to_fit() -> None:
    cells = [
        record("lib", 1.0, library=None),
        record("big", 2.0, workspace=MIB),
        record("big", 3.0, variant="hidden", library=MIB + 1),
        record("small", 4.0),
    ]
    (table,) = by_limit(*frames(*cells), [MIB, 0, MIB])
    assert table.columns[3:] == ("none", "≤ 1 MiB", "no limit")
    assert table.rows[0][3:] == ("4.00 · small/v", "2.00 · big/v", "1.00 · lib/v")
    assert "lib" in table.note and "unknown" in table.note


def test_a_limit_that_some_layer_cannot_keep_has_no_total() -> None:
    cells = [record("a", 1.0), record("a", 2.0, B, workspace=9)]
    (table,) = by_limit(*frames(*cells, layers=[("one", A, 2), ("two", B, 1)]), [0])
    assert table.rows[-1] == ("total", "", "", "1 of 2", "4.00")


def test_the_pareto_front() -> None:
    sizes = [("a", 4.0, 0), ("b", 5.0, 1), ("c", 2.0, 2), ("d", 2.0, 3), ("e", 1.0, 4)]
    cells = [record(name, ms, workspace=size) for name, ms, size in sizes] + [
        record("lib", 0.5, library=None)
    ]
    (ranking,) = rankings(*frames(*cells))
    assert [e.algorithm for e in pareto(ranking.variants(str(Problem.parse(A)), "fwd"))] == ["a", "c", "e"]


# ---- evidence ---------------------------------------------------------------------------------------------


def test_coverage_groups_reasons_that_differ_in_numbers() -> None:
    reasons = {A: "needs 10 bytes", B: "needs 20 bytes"}
    cells = [record("a", None, text, status=Status.OVER_LIMIT, reason=why) for text, why in reasons.items()]
    table = coverage(frames(*cells)[0])
    assert [row[:4] for row in table.rows] == [("a", "over_limit", "needs 10 bytes", "2")]


def test_accuracy_joins_chunk_sizes_but_not_tiles() -> None:
    names = ["chunk1", "chunk8", "rows4", "f2", "f4"]
    table = accuracy(frames(*(record("a", variant=name) for name in names))[0])
    assert column(table, "variants") == ["chunk*", "f2", "f4", "rows*"]
    assert column(table, "cells") == ["2", "1", "1", "1"] and set(column(table, "repeatable")) == {"yes"}


@pytest.mark.parametrize(
    ("ratios", "words"),
    [([], "unknown"), ([1.001], "0.10 % (largest of 1 A/A pair)"), ([1.03] * 20, "not fit for comparison")],
    ids=["none", "one", "noisy"],
)
def test_the_noise_floor_is_stated(ratios: list[float], words: str) -> None:
    held = contents(record("a"))
    held.noise = [{"environment": "e1", "ratio": ratio} for ratio in ratios]
    assert words in noise_line(held)
    assert noise_line(held) in tables_of(held, ["winners"])[0].note
    assert ("not fit" in noise_line(held)) == (ratios != [1.001])


def test_the_environment_lists_what_is_installed() -> None:
    table = environment(contents(record("a")))
    assert dict(row for row in table.rows) == {"cpu": "CPU", "threads": "2", "numpy": "2"}


def test_versions_of_cuda_are_shown_as_one_says_them() -> None:
    held = contents(record("a"))
    held.environments["e1"] = {"identity": {"driver": 13000, "runtime": 12090, "cpu": "CPU"}}
    rows = dict(row for row in environment(held).rows)
    assert rows == {"driver": "CUDA 13.0", "runtime": "CUDA 12.9", "cpu": "CPU"}


# ---- text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0012345, "0.00123"),
        (1.2, "1.20"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0, "0"),
        (None, MISSING),
    ],
)
def test_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize("text", [A, "n1c8h8w9k8r3s1p1x0u2d1x2g4", "n1c8h8k8r2p0.1x0.1flip"])
def test_the_short_shape_is_the_same_problem(text: str) -> None:
    problem = Problem.parse(text)
    assert Problem.parse(shape(str(problem))) == problem


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_text_stays_one_cell_of_text(payload: str) -> None:
    table = Table(payload, ("a", payload), [("x", payload)], payload)
    text = markdown(table)
    body = [line for line in text.splitlines() if line.startswith("|")]
    assert len(body) == 3 and "<" not in text and "](" not in text.replace("\\](", "")
    assert all(line.replace("\\|", "").count("|") == 3 for line in body)
    cell = list(csv.reader(io.StringIO(csv_text(table))))[1][1]
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    console.print(rich_table(table))
    assert isinstance(console.file, io.StringIO) and "\x1b" not in console.file.getvalue()
    assert label(payload).isprintable() and not label(payload).startswith("_")


class Audit(HTMLParser):
    """Collects what a page could run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form", "svg"):
            self.found.append(tag)
        for name, value in attrs:
            fetches = name in ("src", "href") and not (value or "").startswith(
                ("#", "data:image/svg+xml;base64,")
            )
            if name.startswith("on") or name == "style" or fetches:
                self.found.append(f"{tag} {name}={value}")


def hostile_contents() -> Contents:
    records = []
    for number, payload in enumerate(HOSTILE):
        records.append(record(payload, 1.0 + number, variant=payload, flags=[payload], environment=payload))
        records.append(record("a", None, B, variant=payload, status=Status.CRASHED, reason=payload))
    held = contents(*records, layers=[("one", A, 1)])
    held.layers += [{**held.layers[0], "name": payload, "network": payload} for payload in HOSTILE[:4]]
    for name, one in held.environments.items():
        one["identity"] = {"cpu": name, name: name}
    return held


def test_a_page_of_hostile_records_runs_and_fetches_nothing(tmp_path: Path) -> None:
    held = hostile_contents()
    for one in list(held.cells.values())[2::2]:  # one scope is enough: every further one draws its own plots
        object.__setattr__(one, "environment", HOSTILE[0])
    page = build(stored(tmp_path / "run", held), limits=[0]).read_text(encoding="utf-8")
    assert "Lines that could not be read" not in page
    audit = Audit()
    audit.feed(page)
    assert audit.found == ["script"] * 3  # its own: the data, the charts and what draws them
    assert "default-src 'none'" in page and "&lt;script&gt;" in page and "49" not in page.split("<table")[1]
    for drawing in (tmp_path / "run" / "report").glob("*.svg"):
        text = drawing.read_text(encoding="utf-8")
        assert "<script" not in text and "onload=" not in text.replace("svg/onload=", "")


# ---- whole reports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [Contents(), contents(record("a", None, status=Status.OOM, reason="no"))])
def test_without_a_ranked_cell_every_view_says_so(held: Contents) -> None:
    for view in VIEWS:
        for table in tables_of(held, [view]):
            assert table.rows or table.note
            assert markdown(table)
    cells, layers = cells_frame(held), layers_frame(held)
    assert suite_figure(cells, layers, "fwd").axes and workspace_figure(cells, layers, A, "fwd").axes


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    assert "Nothing to rank" in build(stored(tmp_path / "run", Contents())).read_text(encoding="utf-8")


def test_a_report_is_written_and_the_same_each_time(tmp_path: Path) -> None:
    cells = [
        record("a", 1.0),
        record("b", 2.0, workspace=MIB),
        record("c", 3.0, library=None, interval=False),
    ]
    folder = stored(tmp_path / "run", contents(*cells, layers=[("one", A, 2)]))
    written = [{file.name: file.read_bytes() for file in build(folder).parent.iterdir()} for _ in range(2)]
    assert set(written[0]) == {
        *("index.html", "tables.md"),
        *(f"{stem}.{kind}" for stem in ("time_fwd", "workspace") for kind in ("svg", "png")),
    }
    assert written[0] == written[1]


def test_importing_the_report_loads_no_array_library() -> None:
    code = (
        "import sys, convbench.report, convbench.report.tables, convbench.report.views;"
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'jinja2', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
