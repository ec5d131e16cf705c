"""Several result folders in one: united by key, with what contradicts each other kept aside.

Of records that share a key and differ one counts: an `ok` one before one that is not, any other before a
failure, then the latest. The order in which folders are named plays no part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convbench.errors import CannotRunError, one_line
from convbench.record import FAILURES, Record, Status, canonical
from convbench.seal import seal
from convbench.store import Contents, Store, read

CONFLICTS = "records.conflicts"


@dataclass
class Merged:
    """What a merge did. `lost` are the records that do not count, each beside the one that does."""

    cells: int = 0
    added: int = 0
    lost: list[tuple[Record, Record]] = field(default_factory=list)


def merge_folders(sources: Sequence[Path], out: Path) -> tuple[Merged, list[str]]:
    """Bring everything in `sources` into the folder `out`, and say what could not be read.

    All are read before anything is written, so that a folder of a newer convbench stops the merge early.
    """
    found = [read(source) for source in sources]
    pairs = zip(sources, found, strict=True)
    notes = [f"{one_line(str(source))}: {note}" for source, one in pairs for note in one.notes]
    with Store(out) as store:
        return unite(store, found), notes + store.contents.notes


def unite(store: Store, parts: Sequence[Contents]) -> Merged:
    """Append what a store lacks; doing it again appends nothing."""
    have = store.contents
    environments = sorted((e for part in parts for e in part.environments.values()), key=_bare)
    for environment in environments:  # the same machine may be described at two times: one description stays
        if environment["id"] not in have.environments:
            _append(store, environment)
    for layer in _missing(have.layers, (part.layers for part in parts)):
        _append(store, {"kind": "layer", **layer})
    for run in _missing(have.runs, (part.runs for part in parts)):
        _append(store, run)
    merged = _unite_cells(store, parts)
    for noise in _missing(have.noise, (part.noise for part in parts)):
        _append(store, noise)
    return merged


def _unite_cells(store: Store, parts: Sequence[Contents]) -> Merged:
    merged, have = Merged(), store.contents.cells
    candidates: dict[str, list[Record]] = {}
    for part in parts:
        for key, record in part.cells.items():
            known = candidates.setdefault(key, [have[key]] if key in have else [])
            if record not in known:
                known.append(record)
    for key, records in candidates.items():
        best = max(records, key=_rank) if len(records) > 1 else records[0]
        merged.lost += [(record, best) for record in records if record is not best]
        if have.get(key) != best:
            store.add_record(best)
            merged.added += 1
    merged.cells = len(have)
    _keep_aside(store.folder / CONFLICTS, [record for record, _ in merged.lost])
    return merged


def _rank(record: Record) -> tuple[bool, bool, str, bytes]:
    """The largest counts; the content at the end decides where nothing else does."""
    status = record.status
    return status is Status.OK, status not in FAILURES, record.started, canonical(record.to_json())


def _bare(content: Mapping[str, Any]) -> bytes:
    """What a line says, without what the store put around it."""
    return canonical({name: content[name] for name in content if name not in ("kind", "schema", "sum")})


def _missing(
    present: Iterable[Mapping[str, Any]], found: Iterable[Iterable[Mapping[str, Any]]]
) -> list[Mapping[str, Any]]:
    known = {_bare(content) for content in present}
    missing: dict[bytes, Mapping[str, Any]] = {}
    for contents in found:
        for content in contents:
            if (bare := _bare(content)) not in known:
                missing.setdefault(bare, content)
    return list(missing.values())


def _append(store: Store, content: Mapping[str, Any]) -> None:
    """With this version's schema: what was read is in its form already."""
    store.append({name: value for name, value in content.items() if name not in ("schema", "sum")})


def _keep_aside(file: Path, records: Iterable[Record]) -> None:
    """Records that do not count, in the form of the results file, each once."""
    lines = dict.fromkeys(seal(record.to_json()) for record in records)
    if not lines:
        return
    try:
        with file.open("a+b") as stream:
            stream.seek(0)
            known = set(stream)
            stream.writelines(line for line in lines if line not in known)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise CannotRunError(
            f"cannot write to '{one_line(str(file))}': {error.strerror}; the results are intact"
        ) from error
