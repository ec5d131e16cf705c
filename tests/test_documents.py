"""What the documents say is so: tables come from records, commands parse, examples give what they show."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import convbench
from convbench.accuracy import BARS
from convbench.cli import VIEWS, cli
from convbench.store import FILE, PACKED
from convbench.suites import select

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "results/README.md",
    *ROOT.glob("docs/**/*.md"),
]
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
INLINE = re.compile(r"`(convbench [^`\n]+)`")
COMMENT = re.compile(r"(?s)<!--.*?-->")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
LARGE = 1_500_000  # bytes of a packed folder: `results/derive.py --check` reads those above

# What stands for something else in a command, and what is put there to see whether it parses.
STANDS_FOR = {
    **dict.fromkeys(("DIR", "A", "results/base", "results/host-a"), "results/cpu-torch"),
    **dict.fromkeys(("B", "results/new", "results/host-b"), "results/cpu-torch"),
    **{
        "NAME": "direct",
        "$name": "direct",
        "OLD": "direct",
        "NEW": "im2col",
        "LAYER": "n1c1h3k1r3",
        "FILE": "quick",
    },
    **{"ADDRESS": "tcp://head:8786", "SUITE": "quick", "KIND": "csv", "$1": "nchw", "$2": "fp32", "N": "4"},
    **{"$layout": "nchw", "$precision": "fp32"},
}
TARGETS = ("run", "ab")  # commands whose arguments name layers


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def lines(text: str) -> Iterator[str]:
    """Code blocks line by line, continued lines joined; then commands in tables and sentences."""
    text = COMMENT.sub("", text)
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "bash"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(FENCE.sub("", text))


def split(line: str) -> list[str]:
    """Words and operators as a shell sees them, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every convbench command; `...` says that there may be more."""
    for line in lines(text):
        words = split(line) if "convbench" in line else []
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set(";&|<>()"):
                if command[:1] == ["convbench"]:
                    yield [STANDS_FOR.get(one, one) for one in command[1:] if one != "..."]
                command = []
            else:
                command.append(word)


FOUND = sorted(
    {tuple(command) for document in DOCUMENTS for command in commands(document.read_text("utf-8"))}
)


def parsed(words: tuple[str, ...]) -> click.Context:
    """The innermost context of a command, made without running it; click's error if it does not exist."""
    context = cli.make_context("convbench", list(words) or ["--help"], help_option_names=["-h", "--help"])
    while isinstance(context.command, click.Group):
        left = [*context._protected_args, *context.args]
        _, command, rest = context.command.resolve_command(context, left)
        assert command is not None
        context = command.make_context(command.name, rest, parent=context)
    return context


def runnable(words: tuple[str, ...]) -> bool:
    """Whether a command needs no GPU, writes nothing and is done soon."""
    first = words[0] if words else ""
    needs = any(word in ("--time", "cuda", "-o", "--out", "--plot") for word in words)
    files = [
        file for word in words[1:] for file in (ROOT / word / FILE, ROOT / word / PACKED) if file.is_file()
    ]
    reads = first in ("show", "plan") and bool(files)
    large = any(word.endswith(".csv") for word in words) or any(file.stat().st_size > LARGE for file in files)
    return not needs and not large and (reads or first == "list" or words[:2] == ("suite", "show"))


def plannable(words: tuple[str, ...]) -> bool:
    """Whether this is a sweep that a machine without a GPU could make."""
    gpu = any(word == "cuda" or word.startswith(("cudnn", "--devices")) for word in words)
    return words[:1] == ("run",) and not gpu and len(words) > 2 and not words[1].endswith(".csv")


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
