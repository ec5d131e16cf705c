"""Large folders: the short ways of reading and of making frames say what the long ones do."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import pandas as pd
import pytest
from samples import NOISE
from synthetic import write

import convbench
from convbench.frame import COLUMNS, cells_frame
from convbench.record import Record
from convbench.seal import seal, unseal
from convbench.store import FILE, Contents, read, uncollected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("large") / "run", 500)


def signed(body: bytes) -> bytes:
    """A line whose checksum is that of its bytes, whatever they mean."""
    total = hashlib.sha256(body).hexdigest()[:16].encode()
    return body[:-1] + b',"sum":"' + total + b'"}\n'


def test_a_frame_made_while_reading_is_the_frame_of_what_was_read(folder: Path) -> None:
    pd.testing.assert_frame_equal(convbench.load(folder), cells_frame(read(folder)))
    assert list(convbench.load(folder).columns) == list(COLUMNS)


def test_a_synthetic_folder_is_whole_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    held = read(folder)
    assert len(held.cells) == 500 and held.notes == []
    assert (write(tmp_path / "again", 500) / FILE).read_bytes() == (folder / FILE).read_bytes()
    for key, record in held.cells.items():
        assert Record.from_json(record.to_json()) == record and key == record.key


def test_cells_of_a_problem_share_it(folder: Path) -> None:
    problems = [record.cell.problem for record in read(folder).cells.values()]
    assert len({id(problem) for problem in problems}) == len(set(problems))


def test_a_frame_of_nothing_has_its_columns() -> None:
    assert list(cells_frame(Contents()).columns) == list(COLUMNS)


@pytest.mark.parametrize("number", [b"1e999", b"-1E999", b"1e+4000", b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_without_bounds_is_refused_with_any_checksum(number: bytes) -> None:
    assert unseal(signed(b'{"kind":"noise","ratio":2.5}'))["ratio"] == 2.5
    with pytest.raises(ValueError, match=r"number|checksum|JSON"):
        unseal(signed(b'{"kind":"noise","ratio":' + number + b"}"))


def test_depth_and_foreign_letters_are_refused_with_any_checksum() -> None:
    with pytest.raises(ValueError, match=r"nested|checksum"):
        unseal(signed(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"))
    with pytest.raises(ValueError, match="ascii"):
        unseal(signed('{"a":"é"}'.encode()))


def test_a_checksum_that_is_also_a_value_is_no_hindrance() -> None:
    content = {"kind": "noise", "inner": {"sum": "0123456789abcdef"}, **NOISE}
    assert unseal(seal(content))["inner"] == content["inner"]
    twice = {"inner": {"sum": unseal(seal(NOISE))["sum"]}}
    assert unseal(seal(twice))["inner"] == twice["inner"]


@pytest.mark.parametrize("position", [3, 20, -30, -5])
def test_a_changed_byte_is_found(position: int) -> None:
    line = bytearray(seal({"kind": "noise", **NOISE, "zone": "last"}))
    line[position] ^= 1
    with pytest.raises(ValueError, match=r"."):
        unseal(bytes(line))


def test_the_collector_is_back_after_an_error() -> None:
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
