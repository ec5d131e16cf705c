"""A result folder: one append-only file of checksummed JSON lines, read back without trusting any of them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from convbench.errors import CannotRunError, UsageError
from convbench.record import SCHEMA, Record, canonical

try:
    import fcntl
except ImportError:  # not POSIX: no lock
    fcntl = None  # type: ignore[assignment]

FILE = "records.jsonl"
QUARANTINE = "records.quarantine"
LOCK = ".lock"
LONGEST_LINE = 1 << 20


@dataclass
class Contents:
    """What a result folder holds. `notes` says what could not be read."""

    cells: dict[str, Record] = field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    noise: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def seal(content: Mapping[str, Any]) -> bytes:
    """One line of the file: canonical JSON with the first 16 hex digits of its SHA-256."""
    body = {key: value for key, value in content.items() if key != "sum"}
    body["sum"] = hashlib.sha256(canonical(body)).hexdigest()[:16]
    return canonical(body) + b"\n"


def unseal(line: bytes) -> dict[str, Any]:
    """The content of a line; ValueError if it is torn, altered or no line of ours."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"longer than {LONGEST_LINE} bytes")
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict) or "sum" not in content:
        raise ValueError("not a checksummed record")
    if seal(content) != line.rstrip(b"\n") + b"\n":
        raise ValueError("checksum does not match")
    return content


def read(folder: Path) -> Contents:
    """Everything readable in a result folder; bad lines are counted in the notes and left alone."""
    file = folder / FILE
    if not file.is_file():
        raise UsageError(
            f"'{folder}' is no result folder: it has no {FILE}; `convbench run ... --out {folder}` makes one"
        )
    contents = Contents()
    for number, line in _lines(file):
        _take(contents, line, f"{file.name} line {number}")
    return contents


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:  # skip the rest of an oversized line without holding it
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE)
                line = b" " * (LONGEST_LINE + 1)
            yield number, line


def _take(contents: Contents, line: bytes, where: str) -> None:
    try:
        content = unseal(line)
        _check_schema(content, where)
        match content.get("kind"):
            case "cell":
                record = Record.from_json(content)
                contents.cells[record.key] = record
            case "environment":
                contents.environments[str(content["id"])] = content
            case "layer":
                contents.layers.append(
                    {k: content[k] for k in ("suite", "network", "name", "repeat", "text")}
                )
            case "run":
                contents.runs.append(content)
            case "noise":
                contents.noise.append({**content, "ratio": float(content["ratio"])})
            case other:
                raise ValueError(f"unknown kind {other!r}")
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        contents.notes.append(f"{where} skipped: {type(error).__name__}: {error}")


def _check_schema(content: Mapping[str, Any], where: str) -> None:
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UsageError(
            f"{where} has schema {schema}, this convbench reads up to {SCHEMA}; open it with a newer one"
        )


class Store:
    """A result folder held for writing; one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _make(folder)
        self._lock = _lock(folder)
        repair(folder)
        self._stream = (folder / FILE).open("ab")
        self.contents = read(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._lock.close()

    def append(self, content: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on disk."""
        line = seal({"schema": SCHEMA, **content})
        try:
            self._stream.write(line)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise CannotRunError(
                f"cannot write to '{self.folder / FILE}': {error.strerror}; earlier records are intact"
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
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is a file; name a folder for the results")
    if folder.is_dir() and not (folder / FILE).exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise UsageError(f"'{folder}' holds other files and no {FILE}; name a new or empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder '{folder}': {error.strerror}; name one you may write to"
        ) from error


def _lock(folder: Path) -> IO[str]:
    """Hold the folder, or say who does. The lock goes with the process, so a dead one never blocks."""
    try:
        stream = (folder / LOCK).open("a+")
    except OSError as error:
        raise UsageError(
            f"cannot write into '{folder}': {error.strerror}; name a folder you may write to"
        ) from error
    if fcntl is None:
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        holder = stream.read().strip() or "another process"
        stream.close()
        raise CannotRunError(
            f"'{folder}' is in use by {holder}; wait for it or name another folder"
        ) from None
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    return stream


def repair(folder: Path) -> None:
    """Cut a torn last line off and move damaged lines aside, so that new lines start on a clean end."""
    file = folder / FILE
    if not file.exists():
        return
    good, bad = [], []
    for _, line in _lines(file):
        try:
            unseal(line)
            good.append(line.rstrip(b"\n") + b"\n")
        except ValueError:
            bad.append(line.rstrip(b"\n") + b"\n")
    if not bad and file.stat().st_size == sum(map(len, good)):
        return
    with (folder / QUARANTINE).open("ab") as aside:
        aside.writelines(bad)
    whole = folder / (FILE + ".new")
    with whole.open("wb") as stream:
        stream.writelines(good)
        stream.flush()
        os.fsync(stream.fileno())
    whole.replace(file)
