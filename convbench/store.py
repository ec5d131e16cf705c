"""A result folder: one append-only file of checksummed JSON lines, read back without trusting any of them."""

from __future__ import annotations

import gc
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase, FileIO
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from convbench.errors import CannotRunError, UsageError, one_line
from convbench.lock import LOCK, hold
from convbench.problem import Problem
from convbench.record import SCHEMA, Record, canonical
from convbench.seal import LONGEST_LINE, seal, unseal
from convbench.typed import fits

FILE = "records.jsonl"
PACKED = FILE + ".gz"  # by `gzip`: to keep, and to read as it is
MOST_UNPACKED = 4 << 30
QUARANTINE = "records.quarantine"
# Besides cells, which check themselves: kinds of lines with what each must hold.
SHAPES: dict[str, dict[str, Any]] = {
    "environment": {"id": str, "identity": dict[str, Any]},
    "layer": {"suite": str, "network": str, "name": str, "repeat": int, "text": str},
    "run": {"command": list[str], "limits": list[int | None], "preset": str},
    "noise": {"problem": str, "ratio": float, "environment": str},
}


Held = TypeVar("Held", bound="Contents")


class NewerError(UsageError):
    """The file was written by a newer convbench."""


@dataclass
class Contents:
    """What a result folder holds. `notes` says what could not be read."""

    cells: dict[str, Record] = field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    noise: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take a cell; the last record of a cell counts."""
        self.cells[record.key] = record


def read(folder: Path) -> Contents:
    """Everything readable in a result folder; bad lines are counted in the notes and left alone."""
    return read_into(Contents(), folder)


def read_into(contents: Held, folder: Path) -> Held:
    """As `read`, into contents that may keep less of each cell."""
    shown = one_line(str(folder))
    try:
        file = next((one for one in (folder / FILE, folder / PACKED) if one.is_file()), None)
        if file is None:
            raise UsageError(
                f"'{shown}' is no result folder: it has no {FILE}; `convbench run ... --out` makes one"
            )
        packed = file.name == PACKED
        with uncollected(), gzip.open(file) if packed else file.open("rb") as stream:
            for number, line in _lines(stream, MOST_UNPACKED if packed else inf):
                _take(contents, line, f"{file.name} line {number}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        contents.notes.append(f"{PACKED} is damaged, its rest is skipped: {one_line(str(error))}")
    except OSError as error:
        raise UsageError(f"cannot read '{shown}': {error.strerror}; name a result folder") from error
    return contents


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for cycles: records have none, and it would take a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _lines(stream: BufferedIOBase, most: float) -> Iterator[tuple[int, bytes]]:
    """Lines by number, of at most so many bytes together; an oversized one is held no longer than its cap."""
    number, taken, inside = 0, 0, False
    while piece := stream.readline(LONGEST_LINE + 1):
        taken += len(piece)
        if taken > most:
            raise EOFError(f"more than {most} bytes")
        oversized = len(piece) > LONGEST_LINE
        if not inside:
            number += 1
            yield number, b" " * (LONGEST_LINE + 1) if oversized else piece
        inside = (inside or oversized) and not piece.endswith(b"\n")


def _take(contents: Contents, line: bytes, where: str) -> None:
    try:
        content = unseal(line)
        _check_schema(content, where)
        _sort_in(contents, content)
    except NewerError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        contents.notes.append(f"{where} skipped: {type(error).__name__}: {one_line(str(error))}")


def _sort_in(contents: Contents, content: dict[str, Any]) -> None:
    kind = content.get("kind")
    for name, declared in SHAPES.get(str(kind), {}).items():
        if not fits(content[name], declared):
            raise TypeError(f"'{name}' of {kind} has a value of the wrong type")
    match kind:
        case "cell":
            contents.add(Record.from_json(content))
        case "environment":
            contents.environments[content["id"]] = content
        case "layer":
            Problem.parse(content["text"])
            contents.layers.append({name: content[name] for name in SHAPES["layer"]})
        case "run":
            contents.runs.append(content)
        case "noise":
            contents.noise.append(content)
        case other:
            raise ValueError(f"unknown kind {other!r}")


def _check_schema(content: Mapping[str, Any], where: str) -> None:
    schema: Any = content.get("schema")
    if not fits(schema, int) or schema < 1:
        raise ValueError(f"schema {schema!r} is no version")
    if schema > SCHEMA:
        raise NewerError(
            f"{where} has schema {schema}, this convbench reads up to {SCHEMA}; open it with a newer one"
        )


class Store:
    """A result folder held for writing; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _make(folder)
        try:
            self._lock = hold(folder)
            self.contents, self._stream = self._open()
        except OSError as error:
            raise _unwritable(folder, error) from error

    def _open(self) -> tuple[Contents, FileIO]:
        """Read before anything is repaired: the file of a newer convbench is to stay as it is."""
        try:
            contents = read(self.folder) if (self.folder / FILE).exists() else Contents()
            if moved := repair(self.folder):
                contents.notes.append(f"{moved} damaged lines moved to {self.folder / QUARANTINE}")
            return contents, (self.folder / FILE).open("ab", buffering=0)
        except (OSError, UsageError):
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._lock.close()

    def append(self, content: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on disk; ValueError or TypeError if it cannot be stored."""
        line = seal({"schema": SCHEMA, **content})
        unseal(line)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            shown = one_line(str(self.folder / FILE))
            raise CannotRunError(
                f"cannot write to '{shown}': {error.strerror}; earlier records are intact"
            ) from error
        _take(self.contents, line, "appended line")

    def add_record(self, record: Record) -> None:
        self.append(record.to_json())

    def add_once(
        self, kind: str, contents: Iterable[Mapping[str, Any]], present: Iterable[Mapping[str, Any]]
    ) -> None:
        """Append those of `contents` that are not in `present` already."""
        known = {canonical(dict(c)) for c in present}
        for content in contents:
            if canonical(dict(content)) not in known:
                self.append({"kind": kind, **content})


def _make(folder: Path) -> None:
    shown = one_line(str(folder))
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"'{shown}' is a file; name a folder for the results")
        if (folder / PACKED).exists() and not (folder / FILE).exists():
            raise UsageError(f"'{shown}' is packed; before more is written: gzip -d {shown}/{PACKED}")
        if folder.is_dir() and not (folder / FILE).exists() and any(p.name != LOCK for p in folder.iterdir()):
            raise UsageError(f"'{shown}' holds other files and no {FILE}; name a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write into '{one_line(str(folder))}': {error.strerror}; name a folder you may write to"
    )


def repair(folder: Path) -> int:
    """Move a torn last line and damaged lines aside, so that new lines start on a clean end; how many."""
    file = folder / FILE
    if not file.exists():
        return 0
    good, bad = [], []
    with file.open("rb") as lines:
        for line in lines:
            try:
                unseal(line)
                good.append(line.rstrip(b"\n") + b"\n")
            except ValueError:
                bad.append(line.rstrip(b"\n") + b"\n")
    if not bad and file.stat().st_size == sum(map(len, good)):
        return 0
    if bad:
        with (folder / QUARANTINE).open("ab") as aside:
            aside.writelines(bad)
    whole = folder / (FILE + ".new")
    with whole.open("wb") as stream:
        stream.writelines(good)
        stream.flush()
        os.fsync(stream.fileno())
    whole.replace(file)
    return len(bad)
