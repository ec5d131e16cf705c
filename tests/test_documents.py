"""What the documents say is so: tables come from records, commands parse, examples give what they show."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from documents import (
    DOCUMENTS,
    EARLIER,
    FENCE,
    FOUND,
    ROOT,
    ended_well,
    for_gpu,
    kept,
    plannable,
    runnable,
    writes,
)

import convbench
from convbench.accuracy import BARS
from convbench.cli import VIEWS, cli
from convbench.store import read
from convbench.suites import select

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TARGETS = ("run", "ab")  # commands whose arguments name layers


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def parsed(words: tuple[str, ...]) -> click.Context:
    """The innermost context of a command, made without running it; click's error if it does not exist."""
    context = cli.make_context("convbench", list(words) or ["--help"], help_option_names=["-h", "--help"])
    while isinstance(context.command, click.Group):
        left = [*context._protected_args, *context.args]
        _, command, rest = context.command.resolve_command(context, left)
        assert command is not None
        context = command.make_context(command.name, rest, parent=context)
    return context


# ---- tables and pictures ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("script", ["derive.py", "pictures.py"])
def test_every_table_and_picture_is_what_the_records_say(script: str) -> None:
    done = subprocess.run(
        [sys.executable, f"results/{script}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n`make results` writes them anew"


SHOWN = "convbench show results/h200-energy --format markdown"
DERIVED = f"""before
<!-- derived: {SHOWN} | table Winners (cuda, gpu_cold, fp32 | columns layer, winner -->
| layer | winner |
| --- | --- |
| mine | fft |
<!-- end -->
after
"""


def derive(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "results/derive.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_table_that_differs_from_its_records_fails_with_a_diff_and_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(DERIVED)
    failed = derive("--check", str(page))
    assert failed.returncode == 1
    assert "-| mine | fft |" in failed.stdout
    assert "+| n64c256h28k256r3p1 | **torch/" in failed.stdout
    assert "mine" in page.read_text()
    assert derive(str(page)).returncode == 0
    assert page.read_text().startswith("before\n") and page.read_text().endswith("<!-- end -->\nafter\n")
    assert "mine" not in page.read_text()
    assert derive("--check", str(page)).returncode == 0


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("rm -rf results", "must be a convbench command"),
        ("convbench show results/nowhere", "no result folder"),
        (f"{SHOWN} | table Nobody", "0 tables"),
        (
            "convbench show results/h200-energy --format markdown | table W",
            "tables have a title that begins so",
        ),
    ],
)
def test_a_block_that_cannot_be_derived_says_why(spec: str, told: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- derived: {spec} -->\n<!-- end -->\n")
    failed = derive("--check", str(page))
    assert failed.returncode == 1
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr


# ---- commands ---------------------------------------------------------------------------------------------


def test_there_are_commands_to_look_at() -> None:
    assert len(FOUND) > 50
    assert ("doctor",) in FOUND


@pytest.mark.parametrize("words", FOUND, ids=" ".join)
def test_every_command_and_option_exists(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVBENCH_PLANS", "all")  # which an option may set
    try:
        context = parsed(words)
    except click.MissingParameter:  # a command that is only mentioned; its options were looked at before
        return
    if context.info_name in TARGETS:
        for target in context.params["targets"]:
            if not target.endswith((".csv", ".onnx")):
                assert select([target]).layers


@pytest.mark.parametrize(
    "words", [["run", "quick", "--quickly"], ["sho", "x"], ["show", "x", "--view", "all-of-it"]]
)
def test_a_command_that_does_not_exist_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parsed(tuple(words))


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in FOUND if runnable(words)], ids=" ".join)
def test_commands_that_need_no_gpu_run(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, list(words), catch_exceptions=False, standalone_mode=False)
    assert result.output


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in FOUND if plannable(words)], ids=" ".join)
def test_sweeps_for_the_cpu_say_what_they_would_measure(words: tuple[str, ...], tmp_path: Path) -> None:
    line = [*words, "--device", "cpu", "--dry-run", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "convbench", *line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cells" in done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records, in which commands may write."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ROOT / "results", folder / "results")
    for missing, other in EARLIER.items():
        shutil.copytree(ROOT / other, folder / missing)
    export = CliRunner().invoke(cli, ["suite", "export", "quick", "--to", "csv"])
    (folder / "quick").write_text(export.output)  # where a document says FILE
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in FOUND if writes(words)], ids=" ".join)
def test_commands_that_write_run(
    words: tuple[str, ...], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(elsewhere)
    assert CliRunner().invoke(cli, list(words), catch_exceptions=False).exit_code == 0


RECORDED = ROOT / "results/h200-commands/README.md"
SAME = {"targets", "algorithms", "first", "second", "batch", "directions", "limits", "preset", "cache"}


@pytest.mark.parametrize("words", [words for words in FOUND if for_gpu(words)], ids=" ".join)
def test_commands_for_a_gpu_were_executed_on_one(words: tuple[str, ...]) -> None:
    """`python tests/gpu_commands.py` makes the record."""
    rows = [row.split(" | ") for row in RECORDED.read_text("utf-8").splitlines()]
    ends = [row[1] for row in rows if row[0] == f"| `convbench {shlex.join(words)}`"]
    assert ends and all(ended_well(words, end) for end in ends)


@pytest.mark.parametrize("words", [words for words in FOUND if kept(words)], ids=" ".join)
def test_measurements_whose_records_are_kept_were_made_so(words: tuple[str, ...]) -> None:
    folder, asked = kept(words), parsed(words).params
    assert folder is not None
    same = asked.keys() & SAME
    made = [parsed(tuple(run["command"])).params for run in read(folder).runs]
    alike = [run for run in made if all(run.get(key) == asked[key] for key in same)]
    assert set(asked["precisions"]) <= {one for run in alike for one in run["precisions"]}


# ---- examples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/**/*.md")), ids=name)
def test_python_sessions_give_what_they_show(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    known: dict[str, object] = {}
    blocks = [block for language, block in FENCE.findall(document.read_text("utf-8")) if language == "pycon"]
    told: list[str] = []
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, known, name(document), str(document), 0)
        doctest.DocTestRunner().run(test, out=told.append, clear_globs=False)
        known |= test.globs
    assert not told, "".join(told)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    folder = tmp_path / "tutorial"
    done = subprocess.run(
        [sys.executable, "examples/tutorial.py", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line[0] for line in done.stdout.splitlines() if line[:1].isdigit()] == [*"12345"]
    assert set(convbench.load(folder).status) == {"ok"}


# ---- the rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), target


def test_what_is_to_be_made_can_be_made() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8")))
    named = {word for page in DOCUMENTS for word in re.findall(r"`make ([a-z-]+)`", page.read_text("utf-8"))}
    assert {"test", "results", "results-check"} <= named <= targets


def test_classes_are_described_as_they_are() -> None:
    rows = re.findall(r"(?m)^\| ([A-Z]) \| (\S+) \|", (ROOT / "docs/report.md").read_text("utf-8"))
    assert {name: float(bar) for name, bar in rows} == BARS


def test_every_view_is_described() -> None:
    rows = re.findall(r"(?m)^\| (`.*?`) \|", (ROOT / "docs/report.md").read_text("utf-8"))
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(VIEWS)


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(rf"(?m)^version: {re.escape(convbench.__version__)}$", text)
