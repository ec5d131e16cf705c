"""Result files of every schema version there ever was: they are kept forever, and read forever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Command
from samples import fails_in_one_line, lines, record

from convbench.frame import cells_frame
from convbench.merge import merge_folders
from convbench.record import SCHEMA, Status
from convbench.seal import seal
from convbench.store import FILE, NewerError, Store, read

GOLDEN = sorted(Path(__file__).with_name("golden").glob("schema-*.jsonl"))
NAMES = [file.stem for file in GOLDEN]
EXPECTED = {  # cells, environments, layers, runs, noise lines
    "schema-1-first": (6, 1, 2, 1, 4),  # before host, board, energy and limit were recorded
    "schema-1": (8, 2, 3, 2, 6),
}


@pytest.fixture(params=GOLDEN, ids=NAMES)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A result folder with one of the files."""
    folder = tmp_path / request.param.stem
    folder.mkdir()
    shutil.copy(request.param, folder / FILE)
    return folder


def test_every_version_has_its_file() -> None:
    versions = {int(name.split("-")[1]) for name in NAMES}
    assert versions == set(range(1, SCHEMA + 1)), "a new schema needs a golden file and a line in EXPECTED"
    assert set(EXPECTED) == set(NAMES)
    for file in GOLDEN:
        schemas = {json.loads(line)["schema"] for line in file.read_bytes().splitlines()}
        assert schemas == {int(file.stem.split("-")[1])}


def test_it_is_read_whole(golden: Path) -> None:
    contents = read(golden)
    assert contents.notes == []
    kinds = contents.cells, contents.environments, contents.layers, contents.runs, contents.noise
    assert tuple(map(len, kinds)) == EXPECTED[golden.name]
    assert len(cells_frame(contents)) == len(contents.cells)


def test_what_it_says_is_what_was_written(golden: Path) -> None:
    written = [json.loads(line) for line in lines(golden)]
    for content in (content for content in written if content["kind"] == "cell"):
        cell = read(golden).cells[content["key"]]
        assert cell.status == content["status"] and cell.reason == content["reason"]
        assert cell.cell.problem.as_dict() == content["cell"]["problem"]
        assert (cell.time.samples if cell.time else None) == (content["time"] and content["time"]["samples"])
        assert (cell.energy is None) == (content.get("energy") is None)


def test_it_is_gone_on_with_and_stays_as_it_is(golden: Path) -> None:
    before = lines(golden)
    with Store(golden) as store:
        store.add_record(record("new"))
    assert lines(golden)[:-1] == before
    assert read(golden).cells.keys() == {*(json.loads(x).get("key", "new") for x in before)}


def test_it_migrates_when_it_is_merged(golden: Path, tmp_path: Path) -> None:
    merge_folders([golden], tmp_path / "merged")
    old, new = read(golden), read(tmp_path / "merged")
    assert new.cells == old.cells and new.layers == old.layers and new.notes == []
    assert {json.loads(line)["schema"] for line in lines(tmp_path / "merged")} == {SCHEMA}
    assert merge_folders([golden], tmp_path / "merged")[0].added == 0


def test_it_can_be_shown(golden: Path, convbench: Command) -> None:
    done = convbench("show", golden, "--view", "all")
    assert done.code == 0 and "winograd" in done.out and "Traceback" not in done.err


def test_a_line_of_the_next_version_is_refused_by_name(golden: Path, convbench: Command) -> None:
    whole = lines(golden)
    newer = seal(json.loads(whole[-1]) | {"schema": SCHEMA + 1})
    (golden / FILE).write_bytes(b"".join([*whole[:-1], newer]))
    message = fails_in_one_line(NewerError, lambda: read(golden))
    assert f"schema {SCHEMA + 1}" in message and f"up to {SCHEMA}" in message
    for command in ("show", "report"):
        done = convbench(command, golden)
        assert done.code == 2 and message in done.err
    with pytest.raises(NewerError):
        Store(golden)
    assert (golden / FILE).read_bytes() == b"".join([*whole[:-1], newer])


def test_statuses_keep_their_spelling() -> None:
    assert [status.value for status in Status] == [
        "ok", "unsupported", "over_limit", "wrong", "crashed", "timeout", "oom", "invalid"
    ]  # fmt: skip
