"""`convbench compare` as a user meets it: tables, gates, and foreign text that stays text."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from comparing import IDENTITY, blocks, holding, measured, mixed, settled, stored
from conftest import Command

from convbench.record import Status

MS = 1e-3
BASE = measured(blocks(MS))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    ours, theirs = mixed()
    return stored(Path("before"), ours), stored(Path("after"), theirs)


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ((), 0),
        (("--fail-on", "slow"), 1),
        (("--fail-on", "wrong"), 1),
        (("--fail-on", "missing"), 1),
        (("--fail-on", "slow,missing", "--fail-on", "wrong"), 1),
        (("--fail-on", "all"), 1),
    ],
)
def test_exit_code_1_only_when_asked_for(
    convbench: Command, folders: tuple[Path, Path], gates: tuple[str, ...], code: int
) -> None:
    done = convbench("compare", *folders, *gates)
    assert done.code == code and done.err == ""
    assert done.out.splitlines()[-1].startswith("1 SAME, 2 SLOW, 1 FAST, 1 AMBG, 1 missing")


def test_a_folder_and_itself_pass_every_gate(convbench: Command, folders: tuple[Path, Path]) -> None:
    for folder in folders:
        done = convbench("compare", folder, folder, "--fail-on", "slow,wrong,missing")
        assert done.code == 0 and " 0 SLOW, 0 FAST, 1 AMBG, 0 missing" in done.out


def test_what_stayed_the_same_is_hidden_until_asked_for(
    convbench: Command, folders: tuple[Path, Path]
) -> None:
    some, everything = (convbench("compare", *folders, *more).out for more in ((), ("--all",)))
    assert "same/shift" not in some and "1 SAME not shown" in some
    assert "same/shift" in everything and "not shown" not in everything
    lines = [line for line in some.splitlines() if "/shift" in line]
    assert [line.split("│")[1].strip() for line in lines][:3] == ["SLOW", "SLOW", "broken"]
    assert "fewer than 8 rounds" in some and "A/A noise floor unknown" in some


def test_csv_is_one_table_and_markdown_a_page(convbench: Command, tmp_path: Path) -> None:
    base = stored(tmp_path / "a", holding(BASE))
    other = IDENTITY | {"threads": 4}
    slower = measured(blocks(MS * 1.5), environment="f")
    candidate = stored(tmp_path / "b", holding(slower, identity=other))
    done = convbench("compare", base, candidate, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["state"], row["algorithm"], row["B / A"]) == ("SLOW", "direct/shift", "1.500")
    assert (row["precision"], row["layout"], row["device"]) == ("fp32", "nchw", "cpu")
    assert done.err == "threads: 2 → 4\n0 SAME, 1 SLOW, 0 FAST, 0 AMBG, 0 missing\n"
    page = convbench("compare", base, candidate, "--format", "markdown").out
    assert page.startswith("### The environments differ") and "| threads | 2 | 4 |" in page
    shown = convbench("compare", base, candidate).out
    assert shown.index("threads") < shown.index("SLOW")


HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "a|b\n| --- |",
    "=HYPERLINK(0)",
    "<script>alert(1)</script>",
    "[bold red]markup[/]",
    "\u202eabc",
    "x" * 5000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", ["terminal", "markdown", "csv"])
def test_foreign_text_stays_text(convbench: Command, tmp_path: Path, text: str, form: str) -> None:
    ours = holding(measured(blocks(MS), text, text), measured(blocks(MS), "gone", text))
    failed = settled(Status.WRONG, "gone", text, reason=text)
    theirs = holding(measured(blocks(2 * MS), text, text, environment=text), failed, identity={text: [text]})
    done = convbench(
        "compare", stored(tmp_path / "a", ours), stored(tmp_path / "b", theirs), "--format", form
    )
    assert done.code == 0
    assert all(line.isprintable() for line in (done.out + done.err).splitlines())
    assert "1 SLOW" in done.out + done.err and "1 broken" in done.out + done.err
    if form == "csv":
        assert not any(cell.startswith("=") for row in csv.reader(io.StringIO(done.out)) for cell in row)
    if form == "markdown":
        assert "<script" not in done.out


def test_deep_facts_are_no_traceback(convbench: Command, tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(200):
        deep = {"a": [deep]}
    ours, theirs = holding(BASE), holding(BASE, identity={"deep": deep})
    done = convbench("compare", stored(tmp_path / "a", ours), stored(tmp_path / "b", theirs))
    assert done.code == 0 and "deep.a" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("before",), "Missing argument 'B'"),
        (("before", "missing"), "'missing' is no result folder"),
        (("before", "after", "--fail-on", "fast"), "no gate named 'fast'; known: missing, slow, wrong"),
        (("before", "after", "--fail-on", ","), "no gate given; choose from slow, wrong, missing or all"),
        (("before", "after", "--format", "html"), "--format"),
        (("before", "elsewhere"), "algorithm same, slow, slower, 5 more against other"),
    ],
)
def test_a_mistake_gets_one_line(
    convbench: Command, folders: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    stored(Path("elsewhere"), holding(measured(blocks(MS), "other")))
    done = convbench("compare", *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1) and message in done.err


def test_what_cannot_be_read_is_said(convbench: Command, folders: tuple[Path, Path]) -> None:
    with (folders[1] / "records.jsonl").open("ab") as stream:
        stream.write(b"torn")
    done = convbench("compare", *folders)
    assert done.code == 0 and "skipped" in done.err
