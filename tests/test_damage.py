"""Damaged result files: every other record is read, and what is wrong is named in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import lines, record

from convbench.frame import cells_frame
from convbench.seal import LONGEST_LINE, seal, unseal
from convbench.store import FILE, QUARANTINE, SHAPES, Store, read


def test_a_tail_torn_at_any_byte_costs_only_the_last_record(folder: Path) -> None:
    whole = lines(folder)
    last = whole.pop()
    for kept in range(len(last) - 1):
        (folder / FILE).write_bytes(b"".join(whole) + last[:kept])
        contents = read(folder)
        assert len(contents.cells) == 4 and contents.noise == []
        assert len(contents.notes) == (kept > 0)


@pytest.mark.parametrize("kept", [0, 1, 40, -2, -1])
def test_after_a_torn_tail_the_next_line_starts_cleanly(folder: Path, kept: int) -> None:
    whole = lines(folder)
    (folder / FILE).write_bytes(b"".join(whole[:-1]) + whole[-1][:kept])
    with Store(folder) as store:
        store.add_record(record("e"))
    contents = read(folder)
    assert list(contents.cells) == list("abcde") and contents.notes == []
    assert len(contents.noise) == (kept == -1)  # all but the line's end: nothing is lost


def test_a_flipped_byte_costs_one_record_which_is_named_and_moved_aside(folder: Path) -> None:
    whole = lines(folder)
    damaged = bytearray(whole[4])
    damaged[len(damaged) // 2] ^= 1
    (folder / FILE).write_bytes(b"".join([*whole[:4], bytes(damaged), *whole[5:]]))
    contents = read(folder)
    assert list(contents.cells) == list("acd")
    assert len(contents.notes) == 1 and f"{FILE} line 5" in contents.notes[0]
    with Store(folder) as store:
        assert f"{FILE} line 5" in store.contents.notes[0] and QUARANTINE in store.contents.notes[1]
        store.add_record(record("b"))
    assert (folder / QUARANTINE).read_bytes() == bytes(damaged)
    assert set(read(folder).cells) == set("abcd") and read(folder).notes == []


def test_a_good_file_is_not_touched_when_it_is_opened(folder: Path) -> None:
    before = (folder / FILE).stat()
    with Store(folder):
        pass
    assert (folder / FILE).stat().st_ino == before.st_ino and not (folder / QUARANTINE).exists()


def test_an_oversized_line_is_moved_aside_whole(folder: Path) -> None:
    whole, big = lines(folder), b"x" * (3 * LONGEST_LINE) + b"\n"
    (folder / FILE).write_bytes(whole[0] + big + b"".join(whole[1:]))
    assert len(read(folder).cells) == 4 and "line 2 skipped" in read(folder).notes[0]
    with Store(folder):
        pass
    assert lines(folder) == whole and (folder / QUARANTINE).read_bytes() == big


def mutations(whole: bytes) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(60):
        yield whole[: rng.randrange(len(whole))]
        flipped = bytearray(whole)
        for _ in range(rng.choice((1, 3, 100))):
            flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
    for _ in range(20):
        yield rng.randbytes(500)
        yield b"\n".join(rng.sample(whole.split(b"\n"), 5))
    yield from (b"", b"\n" * 50, b"\0" * 5000, b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"))
    yield from (
        whole.replace(b"\n", b"\r\n"),
        b"[" * 100_000,
        b'{"sum":' * 5000,
        b"null\n3\n[]\n{}\n" + whole,
    )
    yield from (whole.replace(b'{"', b'{"kind":"cell","', 1), whole + b"x" * (10 << 20), whole + b"9" * 5000)


def reshaped(whole: bytes) -> Iterator[bytes]:
    """Lines whose checksum is right and whose content is not."""
    values: tuple[Any, ...] = (
        None,
        True,
        10**400,
        -1,
        "\ud800",
        "x\ny\x1b[2J",
        [],
        {},
        [{"a": [[]]}],
        "n1c1h9k1r3",
    )
    for line in whole.splitlines():
        content = json.loads(line)
        for name in content:
            if name != "sum":
                yield seal({key: value for key, value in content.items() if key != name})
                yield from (seal(content | {name: value}) for value in values)
        yield from (
            seal(content | {"cell": content.get("cell", {}) | {name: 3}}) for name in ("problem", "x\ny")
        )


def test_no_damage_makes_more_than_notes(folder: Path) -> None:
    whole = (folder / FILE).read_bytes()
    (folder / "other").mkdir()
    files = [*mutations(whole), *(whole + line for line in reshaped(whole))]
    assert len(files) >= 200
    for number, data in enumerate(files):
        (folder / FILE).write_bytes(data)
        contents = read(folder)
        assert all(note.isprintable() and len(note) < 250 for note in contents.notes)
        if number % 10 == 0:
            assert len(cells_frame(contents)) == len(contents.cells)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_line_without_its_fields_is_named(folder: Path, kind: str) -> None:
    with (folder / FILE).open("ab") as stream:
        stream.write(seal({"kind": kind, "schema": 1}))
    assert f"{FILE} line 9 skipped: KeyError" in read(folder).notes[0]


def test_a_nested_line_is_no_record() -> None:
    for depth in (100, *range(900, 1100, 7), 100_000):
        with pytest.raises(ValueError, match=r"nested|checksum"):
            unseal(b'{"a":' + b"[" * depth + b"]" * depth + b',"sum":"0"}\n')
