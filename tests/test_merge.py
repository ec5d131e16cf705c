"""Results of several folders in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from conftest import Command
from samples import ENVIRONMENT, LAYER, NOISE, RUN, TIMING, lines, record

from convbench.merge import CONFLICTS, merge_folders
from convbench.record import SCHEMA, Record, Status
from convbench.seal import seal
from convbench.store import FILE, Store, read

Make = Callable[..., Path]
EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(name: str, *records: Record, environment: str = "e", layers: Sequence[str] = ("l",)) -> Path:
        with Store(tmp_path / name) as store:
            store.append({"kind": "environment", **ENVIRONMENT, "id": environment, "host": name})
            store.add_once("layer", [{**LAYER, "name": layer} for layer in layers], [])
            store.append({**RUN, "command": ["run", name]})
            for one in records:
                store.add_record(one)
            store.append({**NOISE, "environment": environment})
        return tmp_path / name

    return make


def test_folders_of_two_hosts_become_one(make: Make, tmp_path: Path) -> None:
    a = make("a", record("a"), record("b", environment="e"), environment="e", layers=("l1", "l2"))
    b = make("b", record("c", environment="f"), environment="f", layers=("l2", "l3"))
    merged, notes = merge_folders([a, b], tmp_path / "c")
    contents = read(tmp_path / "c")
    assert contents.cells == read(a).cells | read(b).cells and list(contents.cells) == list("abc")
    assert (merged.cells, merged.added, merged.lost, notes) == (3, 3, [], [])
    assert set(contents.environments) == {"e", "f"} and contents.environments["f"]["host"] == "b"
    assert [layer["name"] for layer in contents.layers] == ["l1", "l2", "l3"]
    assert [run["command"][1] for run in contents.runs] == ["a", "b"]
    assert [noise["environment"] for noise in contents.noise] == ["e", "f"]
    assert not (tmp_path / "c" / CONFLICTS).exists()


def test_merging_again_writes_nothing(make: Make, tmp_path: Path) -> None:
    a, b = make("a", record("a", started=EARLY), record("b")), make("b", record("a", started=LATE))
    merge_folders([a, b], tmp_path / "c")
    before = [(tmp_path / "c" / name).read_bytes() for name in (FILE, CONFLICTS)]
    for sources in ([a, b], [b, a], [b], [tmp_path / "c", a]):
        assert merge_folders(sources, tmp_path / "c")[0].added == 0
        assert [(tmp_path / "c" / name).read_bytes() for name in (FILE, CONFLICTS)] == before


def test_identical_records_collapse(make: Make, tmp_path: Path) -> None:
    a, b = make("a", record("a"), record("b")), make("b", record("b"), record("a"))
    merged, _ = merge_folders([a, b], tmp_path / "c")
    assert (merged.cells, merged.added, merged.lost) == (2, 2, [])
    assert len([line for line in lines(tmp_path / "c") if b'"kind":"cell"' in line]) == 2


SLOW = replace(TIMING, median=1.0)
CRASHED = {"status": Status.CRASHED, "time": None, "check": None}
CONFLICTING = [
    record("k", started=EARLY),
    record("k", started=LATE, time=SLOW),
    record("k", started=LATE + "1", reason="signal 11", **CRASHED),
    record("k", started="", status=Status.UNSUPPORTED, time=None, check=None, reason="no kernel"),
]


@pytest.mark.parametrize("order", [*permutations(range(4))], ids=str)
def test_what_counts_does_not_depend_on_the_order(make: Make, tmp_path: Path, order: tuple[int, ...]) -> None:
    folders = [make(str(index), CONFLICTING[index]) for index in order]
    merged, _ = merge_folders(folders, tmp_path / "c")
    assert read(tmp_path / "c").cells == {"k": CONFLICTING[1]}  # ok before failed, then the later
    assert len(merged.lost) == 3
    aside = (tmp_path / "c" / CONFLICTS).read_bytes().splitlines(keepends=True)
    assert sorted(aside) == sorted(seal(CONFLICTING[index].to_json()) for index in (0, 2, 3))


def test_a_better_record_of_a_later_merge_takes_over(make: Make, tmp_path: Path) -> None:
    out = make("out", CONFLICTING[2])
    merge_folders([make("a", CONFLICTING[0])], out)
    merged, _ = merge_folders([make("b", CONFLICTING[1])], out)
    assert read(out).cells == {"k": CONFLICTING[1]} and merged.added == 1
    assert set((out / CONFLICTS).read_bytes().splitlines(keepends=True)) == {
        seal(CONFLICTING[index].to_json()) for index in (0, 2)
    }


def test_the_command_says_what_contradicts(make: Make, tmp_path: Path, convbench: Command) -> None:
    a, b = make("a", CONFLICTING[0], record("x")), make("b", CONFLICTING[2])
    done = convbench("merge", a, b, "-o", tmp_path / "c")
    assert done.code == 0 and "2 cells, 2 of them new, 1 that differ" in done.out
    assert "direct/shift: ok 0.002 s of 2026-01-01" in done.err and "not crashed of 2026-01-02" in done.err
    assert "2 cells, 0 of them new" in convbench("merge", a, b, "--out", tmp_path / "c").out


def test_damage_in_a_source_costs_only_what_is_damaged(
    make: Make, tmp_path: Path, convbench: Command
) -> None:
    a, b = make("a", record("a"), record("b")), make("b", record("c"))
    whole = lines(a)
    (a / FILE).write_bytes(b"".join(whole[:3]) + b"\xff\x00" + whole[3] + b"".join(whole[4:]) + b'{"torn')
    damaged = (a / FILE).read_bytes()
    done = convbench("merge", a, b, "-o", tmp_path / "c")
    assert done.code == 0 and "line 4 skipped" in done.err and "Traceback" not in done.err
    assert list(read(tmp_path / "c").cells) == ["b", "c"] and read(tmp_path / "c").notes == []
    assert (a / FILE).read_bytes() == damaged


def test_a_newer_folder_stops_the_merge_before_it_begins(
    make: Make, tmp_path: Path, convbench: Command
) -> None:
    a, b = make("a", record("a")), make("b", record("b"))
    with (b / FILE).open("ab") as stream:
        stream.write(seal({"kind": "cell", "schema": SCHEMA + 1}))
    done = convbench("merge", a, b, "-o", tmp_path / "c")
    assert done.code == 2 and f"schema {SCHEMA + 1}" in done.err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_source_must_be_a_result_folder(
    make: Make, tmp_path: Path, convbench: Command, there: bool
) -> None:
    if there:
        (tmp_path / "b").mkdir()
    done = convbench("merge", make("a", record("a")), tmp_path / "b", "-o", tmp_path / "c")
    assert done.code == 2 and "is no result folder" in done.err and not (tmp_path / "c").exists()


def test_a_folder_in_use_is_not_merged_into(make: Make, convbench: Command) -> None:
    a, b = make("a", record("a")), make("b", record("b"))
    with Store(b):
        done = convbench("merge", a, "-o", b)
    assert done.code == 3 and "in use by process" in done.err
