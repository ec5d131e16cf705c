"""The page's data: one compact object of columns, ranked by the rules of every other table.

Each scope holds its cells in the order that decides winners: ranked ones by time and name, then the others.
The page filters and picks the first that is left, so that it cannot disagree with the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from convbench.record import Record
from convbench.store import Contents

from .evidence import Noise, environment, noise
from .layers import shape
from .ranking import Entry, Ranking, entry_of, rankings, rows_of, unranked
from .tables import Table, clean
from .theme import DARK, looks

if TYPE_CHECKING:
    import pandas as pd

MOST_DETAILS = 24  # facts of a variant; a library may tell hundreds
BLOCK_UNIT = 1e-4  # block medians are sent as whole steps of this share of the median
SPLIT = {"backend", "family", "flops", "selection", "picked"}  # have columns of their own, or say nothing
# Columns that many sweeps lack: name, significant digits, how it reads from a row
FACTS: dict[str, tuple[int, str]] = {
    "prepare_ms": (3, "prepare_ms"),
    "enqueue_ms": (3, "enqueue_ms"),
    "call_ms": (3, "call_ms"),
    "limit_ms": (4, "limit_ms"),
    "clock_mhz": (4, "clock_mhz"),
    "watts": (3, "watts"),
    "celsius": (3, "celsius"),
    "joules": (4, "joules"),
    "workspace_limit": (18, "workspace_limit"),
}


class Words:
    """Foreign text, each once and on one line; cells hold its number. Number 0 is the empty text."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def __call__(self, text: object) -> int:
        return self._numbers.setdefault(clean("" if text is None else str(text)), len(self._numbers))

    def all(self) -> list[str]:
        return list(self._numbers)


def page_data(
    contents: Contents, cells: pd.DataFrame, layers: pd.DataFrame, tables: Mapping[str, Sequence[Table]]
) -> dict[str, Any]:
    """Everything the page shows; `tables` are finished ones by heading, shown as they are."""
    found = rankings(cells, layers)
    words = Words()
    floors = {one.environment: one for one in noise(contents)}
    return {
        "scopes": [_scope(one, cells, contents, floors, words) for one in found],
        "environments": _environments(contents),
        "dark": DARK,
        "looks": {
            clean(name): [look.color, look.marker, look.hollow]
            for name, look in looks([str(name) for name in cells["algorithm"]]).items()
        },
        "tables": {heading: [_table(one, words) for one in some] for heading, some in tables.items()},
        "words": words.all(),  # last: all words are known by now
    }


def block(data: Mapping[str, Any]) -> str:
    """JSON that no HTML parser can mistake for anything else."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# ---- scopes -----------------------------------------------------------------------------------------------


def _scope(
    ranking: Ranking, cells: pd.DataFrame, contents: Contents, floors: Mapping[str, Noise], words: Words
) -> dict[str, Any]:
    rows = sorted(rows_of(cells, ranking.scope), key=_order)
    problems = list(dict.fromkeys([*(layer.problem for layer in ranking.layers), *(r.problem for r in rows)]))
    place = {problem: number for number, problem in enumerate(problems)}
    floor = floors.get(ranking.scope.environment)
    value = floor.floor if floor and isfinite(floor.floor) else None
    return {
        **{name: clean(str(part)) for name, part in ranking.scope._asdict().items()},
        "label": clean(ranking.label),
        "floor": value,
        "directions": ranking.directions,
        "problems": [[problem, shape(problem)] for problem in problems],
        "layers": [
            [words(layer.network), words(layer.title), layer.repeat, place[layer.problem]]
            for layer in ranking.layers
        ],
        "cells": _columns(rows, place, contents, words),
        "ceilings": _ceilings(rows),
    }


def _order(row: Any) -> tuple[int, float, str]:
    """As `Ranking.variants`: by time and name; then what was timed, then the others."""
    if unranked(row) is None:
        entry: Entry = entry_of(row)
        return 0, entry.ms, entry.name
    timed = _number(row.time_ms)
    return (2, 0.0, str(row.algorithm)) if timed is None else (1, timed, str(row.algorithm))


def _columns(
    rows: Sequence[Any], place: Mapping[str, int], contents: Contents, words: Words
) -> dict[str, list[Any]]:
    """One list a column, all of one length; columns in which nothing stands are left out."""
    read: dict[str, Callable[[Any], Any]] = {
        "problem": lambda row: place[row.problem],
        "direction": lambda row: words(row.direction),
        "algorithm": lambda row: words(row.algorithm),
        "variant": lambda row: words(row.variant),
        "family": lambda row: words(_family(row, contents)),
        "status": lambda row: words(row.status),
        "reason": lambda row: words(unranked(row)),
        "flags": lambda row: words(row.flags),
        "accuracy": lambda row: words(row.accuracy if isinstance(row.accuracy, str) else ""),
        "cache": lambda row: words(row.cache),
        "picked": lambda row: words(_picked(row)),
        "details": lambda row: words(_details(contents.cells[row.key])),
        "ms": lambda row: _number(row.time_ms),
        "lo": lambda row: _rounded(row.lo_ms, 5),
        "hi": lambda row: _rounded(row.hi_ms, 5),
        "blocks": lambda row: _blocks(contents.cells[row.key]),
        "workspace": lambda row: _whole(row.workspace_bytes),
        "known": lambda row: int(row.workspace_known is True or row.workspace_known == 1),
        "error": lambda row: _rounded(row.relative_l2, 3),
        "flops": lambda row: _whole(row.flops),
        "bytes": lambda row: _whole(row.min_bytes),
        "rate": lambda row: words(row.limit_rate if isinstance(row.limit_rate, str) else ""),
        **{name: _fact(source, digits) for name, (digits, source) in FACTS.items()},
    }
    columns = {name: [one(row) for row in rows] for name, one in read.items()}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _fact(name: str, digits: int) -> Callable[[Any], float | None]:
    return lambda row: _rounded(getattr(row, name), digits)


def _family(row: Any, contents: Contents) -> str:
    """What the variant says of itself, else the algorithm's own name."""
    family = contents.cells[row.key].details.get("family")
    return family if isinstance(family, str) and family else str(row.algorithm)


def _picked(row: Any) -> str:
    return f"{row.selection}: {row.picked}" if row.selection else ""


def _details(record: Record) -> str:
    """The facts of the variant in one line; what is empty says nothing, and long text is cut."""
    shown = [
        f"{clean(str(name))}: {_value(value)}"
        for name, value in list(record.details.items())[:MOST_DETAILS]
        if name not in SPLIT and value not in (None, "", [], {}) and name != "order"
    ]
    return " · ".join(shown)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _blocks(record: Record) -> list[int] | None:
    time = record.time
    if time is None:
        return None
    return [round((one / time.median - 1) / BLOCK_UNIT) for one in time.blocks]


def _ceilings(rows: Iterable[Any]) -> dict[str, float]:
    """The measured rates behind the limits: bytes/s for `copy`, FLOP/s for the others."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        seconds = (_number(row.limit_ms) or 0) / 1e3
        work = _number(row.min_bytes if row.limit_rate == "copy" else row.algorithm_flops)
        if seconds > 0 and work:
            rates.setdefault(clean(str(row.limit_rate)), []).append(work / seconds)
    return {name: float(f"{median(values):.4g}") for name, values in sorted(rates.items())}


# ---- what is shown as it is -------------------------------------------------------------------------------


def _environments(contents: Contents) -> dict[str, list[tuple[str, str]]]:
    """Facts by environment."""
    table = environment(contents)
    return {name: [(row[0], row[j]) for row in table.rows] for j, name in enumerate(table.columns) if j}


def _table(table: Table, words: Words) -> dict[str, Any]:
    return {
        "title": clean(table.title),
        "columns": [clean(name) for name in table.columns],
        "rows": [[words(cell) for cell in row] for row in table.rows],
        "note": " ".join(map(clean, table.note.split())),
        "numeric": list(map(int, table.numeric)),
        "best": sorted(table.best),
        "totals": table.totals,
    }


# ---- numbers ----------------------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    """A figure of a frame, where a missing one is NaN or None."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _rounded(value: Any, digits: int) -> float | None:
    number = _number(value)
    if number is None:
        return None
    short = float(f"{number:.{digits}g}")
    return int(short) if short.is_integer() else short


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
