"""Result folders: what was appended is there, whatever happened to the file since."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from samples import ENVIRONMENT, LAYER, NOISE, RUN, fails_in_one_line, lines, record

from convbench.errors import CannotRunError, UsageError
from convbench.seal import LONGEST_LINE, seal
from convbench.store import FILE, PACKED, Store, read

# ---- writing and reading -----------------------------------------------------------------------------------


def test_what_is_appended_is_read(folder: Path) -> None:
    contents = read(folder)
    assert contents.cells == {key: record(key) for key in "abcd"}
    assert contents.layers == [LAYER]
    assert contents.environments["e"].items() >= ENVIRONMENT.items()
    assert contents.noise[0]["ratio"] == NOISE["ratio"] and contents.runs[0]["limits"] == RUN["limits"]
    assert contents.notes == []


def test_a_writer_knows_what_it_has_written(tmp_path: Path) -> None:
    with Store(tmp_path / "run") as store:
        assert store.contents.cells == {}
        store.add_record(record("a"))
        assert store.contents.cells == read(tmp_path / "run").cells == {"a": record("a")}


def test_the_last_record_of_a_cell_counts(folder: Path) -> None:
    with Store(folder) as store:
        store.add_record(record("b", reason="again"))
    assert read(folder).cells["b"].reason == "again" and len(read(folder).cells) == 4


def test_a_layer_is_written_once(folder: Path) -> None:
    with Store(folder) as store:
        store.add_once("layer", [LAYER, {**LAYER, "repeat": 3}], store.contents.layers)
    assert [layer["repeat"] for layer in read(folder).layers] == [2, 3]


@pytest.mark.parametrize(
    "details", [{"x": object()}, {"x": float("inf")}, {"x": "\ud800"}, {"x": "y" * LONGEST_LINE}]
)
def test_what_could_not_be_read_back_is_not_written(folder: Path, details: dict[str, Any]) -> None:
    before = lines(folder)
    with Store(folder) as store, pytest.raises((TypeError, ValueError)):
        store.add_record(record("z", details=details))
    assert lines(folder) == before


# ---- folders that are not ours -----------------------------------------------------------------------------


def test_a_newer_schema_is_refused_with_both_versions_and_left_alone(folder: Path) -> None:
    with (folder / FILE).open("ab") as stream:
        stream.write(seal({"kind": "cell", "schema": 2, "shape": "unknown"}) + b"torn")
    before = lines(folder)
    for use in (read, Store):
        message = fails_in_one_line(UsageError, lambda use=use: use(folder))
        assert "line 9 has schema 2" in message and "reads up to 1" in message
    assert lines(folder) == before
    (folder / FILE).write_bytes(b"".join(before[:-2]))
    with Store(folder) as store:  # the refusal gave the lock back
        assert len(store.contents.cells) == 4


@pytest.mark.parametrize("schema", [0, -1, "1", True, None, 1.0])
def test_what_is_no_schema_is_noted(folder: Path, schema: object) -> None:
    with (folder / FILE).open("ab") as stream:
        stream.write(seal({"kind": "cell", "schema": schema}))
    assert "is no version" in read(folder).notes[0]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "holds other files" in fails_in_one_line(UsageError, lambda: Store(tmp_path))
    assert "is no result folder" in fails_in_one_line(UsageError, lambda: read(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "a\nb", "missing"])
def test_what_is_no_folder_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    fails_in_one_line(UsageError, lambda: read(tmp_path / name))
    if name not in ("a\nb", "missing"):
        fails_in_one_line(UsageError, lambda: Store(tmp_path / name))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    message = fails_in_one_line(UsageError, lambda: Store(tmp_path / "run"))
    assert "Permission denied" in message and str(tmp_path / "run")[:60] in message


# ---- the disk, and other processes -------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond this size fail in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_the_middle_of_a_line_costs_only_that_line(folder: Path) -> None:
    size = (folder / FILE).stat().st_size
    with Store(folder) as store, largest_file(size + 100):
        message = fails_in_one_line(CannotRunError, lambda: store.add_record(record("e")))
    assert "File too large; earlier records are intact" in message
    assert set(read(folder).cells) == set("abcd")
    with Store(folder) as store:
        store.add_record(record("e"))
    assert set(read(folder).cells) == set("abcde") and read(folder).notes == []


def test_a_disk_that_is_full_when_lines_are_to_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Store(folder) as store:
        monkeypatch.setattr(os, "fsync", full)
        message = fails_in_one_line(CannotRunError, lambda: store.add_record(record("e")))
    assert "No space left on device; earlier records are intact" in message
    assert set(read(folder).cells) >= set("abcd")


HOLDER = """
import sys
from pathlib import Path
from samples import ENVIRONMENT, LAYER, NOISE, RUN, fails_in_one_line, lines, record
from convbench.store import Store
store = Store(Path(sys.argv[1]))
store.add_record(record("from another process"))
print("held", flush=True)
sys.stdin.read()
"""


def test_two_writers_exclude_each_other_and_a_killed_one_does_not_block(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        message = fails_in_one_line(CannotRunError, lambda: Store(folder))
        assert f"in use by process {holder.pid} on {os.uname().nodename}" in message
        assert len(read(folder).cells) == 5  # reading needs no lock
        holder.kill()
    with Store(folder) as store:
        assert "from another process" in store.contents.cells


def test_a_packed_folder_reads_as_before_and_is_not_written_into(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append({"kind": "noise", "problem": "p", "ratio": 1.01, "environment": "e"})
    plain = read(tmp_path)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).unlink()
    (tmp_path / PACKED).write_bytes(gzip.compress(data))
    assert read(tmp_path) == plain
    with pytest.raises(UsageError, match="gzip -d"):
        Store(tmp_path)


@pytest.mark.parametrize("spoil", [lambda data: data[:-12], lambda data: b"no gzip", lambda data: data[:9]])
def test_a_damaged_pack_is_told(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    line = seal({"schema": 1, "kind": "noise", "problem": "p", "ratio": 1.01, "environment": "e"})
    (tmp_path / PACKED).write_bytes(spoil(gzip.compress(line * 50)))
    assert any("damaged" in note for note in read(tmp_path).notes)


def test_a_pack_is_read_up_to_its_bound_and_a_plain_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = seal({"schema": 1, "kind": "noise", "problem": "p", "ratio": 1.01, "environment": "e"}) * 50
    monkeypatch.setattr("convbench.store.MOST_UNPACKED", len(data) // 2)
    (tmp_path / PACKED).write_bytes(gzip.compress(data))
    packed = read(tmp_path)
    assert len(packed.noise) == 25 and "more than" in packed.notes[0]
    (tmp_path / FILE).write_bytes(data)
    plain = read(tmp_path)
    assert len(plain.noise) == 50 and not plain.notes
