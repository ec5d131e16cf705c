"""Result folders of earlier commits: read out of git; nothing that is named becomes an option or a path."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from comparing import blocks, holding, measured, stored
from samples import fails_in_one_line

from convbench.cli import cli
from convbench.errors import UsageError
from convbench.revisions import contents_of
from convbench.store import FILE


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose folder `run` was committed with 1 ms and now holds 2 ms."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-config"))
    git("init", "--quiet")
    commit(0.001)
    (tmp_path / "run" / FILE).unlink()
    stored(tmp_path / "run", holding(measured(blocks(0.002))))
    return tmp_path


def git(*arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def commit(seconds: float) -> None:
    stored(Path("run"), holding(measured(blocks(seconds))))
    git("add", "run")
    git("commit", "--quiet", "-m", "x")


def median(named: str) -> float:
    (record,) = contents_of(Path(named)).cells.values()
    assert record.time is not None
    return record.time.median


def test_a_folder_is_read_as_it_was(history: Path) -> None:
    assert median("HEAD:run") == pytest.approx(0.001) and median("run") == pytest.approx(0.002)
    assert median("HEAD:./run") == pytest.approx(0.001)


def test_a_folder_below_the_working_directory(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (history / "deep").mkdir()
    git("mv", "run", "deep/run")
    git("commit", "--quiet", "--all", "-m", "y")
    monkeypatch.chdir(history / "deep")
    assert median("HEAD:run") == pytest.approx(0.002) and median("HEAD~1:../run") == pytest.approx(0.001)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(history: Path) -> None:
    stored(history / "HEAD:run", holding(measured(blocks(0.003))))
    assert median("HEAD:run") == pytest.approx(0.003)


@pytest.mark.parametrize(
    "named",
    [
        "nope:run",
        "HEAD:nope",
        "HEAD:",
        "HEAD:/etc",
        "--help:run",
        "-x:run",
        "HEAD^{tree}:run",
        "HEAD:run\nx",
        "HEAD:../..",
    ],
)
def test_what_is_not_there_is_named_in_one_line(history: Path, named: str) -> None:
    before = set(history.rglob("*"))
    fails_in_one_line(UsageError, lambda: contents_of(Path(named)))
    assert set(history.rglob("*")) == before


def test_outside_a_repository_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in fails_in_one_line(UsageError, lambda: contents_of(Path("HEAD:run")))


def test_without_git_that_is_said(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "git could not be asked" in fails_in_one_line(UsageError, lambda: contents_of(Path("HEAD:run")))


def test_two_commits_are_compared_and_drawn(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "HEAD:run", "run", "--fail-on", "slow", "--plot", "changes.svg"]
    assert cli(arguments, standalone_mode=False) == 1
    out, err = capsys.readouterr()
    assert "1 SLOW" in out and "HEAD:run" in out and "changes.svg" in err
    assert (history / "changes.svg").is_file() and (history / "changes.png").is_file()
