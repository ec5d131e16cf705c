"""What stands behind the figures: the noise floor, the machine, what is missing and why, and the errors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan, nan
from statistics import median
from typing import TYPE_CHECKING, Any

from convbench.problem import Direction
from convbench.record import Status
from convbench.sizes import format_size
from convbench.statistics import noise_floor
from convbench.store import Contents

from .ranking import current, unranked
from .tables import MISSING, Table, clean

if TYPE_CHECKING:
    import pandas as pd

UNFIT = 0.02
ENOUGH_PAIRS = 20
COVERAGE = ("algorithm", "status", "reason", "cells", "example")
COVERAGE_NOTE = (
    "Every cell that is not ranked. Reasons that differ only in their numbers share a row; "
    "the reason shown is the example's."
)
ACCURACY = (
    "algorithm", "variants", "precision", "direction", "median error", "worst error", "classes",
    "repeatable", "cells",
)  # fmt: skip
ACCURACY_NOTE = (
    "Relative L2 error against a float64 reference on uniform data in [-1, 1]. "
    "Repeatable: two runs agreed bit for bit."
)
CUDA_VERSIONS = ("driver", "runtime")
_NUMBER = re.compile(r"\d+")
# Cutting the work up, to save memory or fill the machine, hardly changes errors: one family; tile sizes may.
_CHUNKS = re.compile(r"(chunk|rows|parts)\d+")


# ---- noise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """How far two measurements of the very same call lie apart; nan where nothing was measured twice."""

    environment: str
    floor: float
    pairs: int

    @property
    def fit(self) -> bool:
        return self.floor <= UNFIT

    def __str__(self) -> str:
        if isnan(self.floor):
            return "A/A noise floor unknown: nothing was measured twice; not fit for comparison"
        kind = "95th percentile" if self.pairs >= ENOUGH_PAIRS else "largest"
        pairs = "1 A/A pair" if self.pairs == 1 else f"{self.pairs} A/A pairs"
        verdict = "" if self.fit else f"; above {100 * UNFIT:.0f} %, so not fit for comparison"
        return f"A/A noise floor {100 * self.floor:.2f} % ({kind} of {pairs}){verdict}"


def noise(contents: Contents) -> list[Noise]:
    """The floor of each environment that measured something."""
    ratios: dict[str, list[float]] = {name: [] for name in _environments(contents)}
    for line in contents.noise:
        ratios.setdefault(str(line.get("environment", "")), []).append(line["ratio"])
    return [Noise(name, noise_floor(values), len(values)) for name, values in ratios.items()]


def noise_line(contents: Contents) -> str:
    """The floor in one line, for the top of every report."""
    found = noise(contents)
    if len(found) < 2:
        return str(found[0] if found else Noise("", nan, 0))
    return "; ".join(f"environment {clean(one.environment)}: {one}" for one in found)


# ---- machine ----------------------------------------------------------------------------------------------


def environment(contents: Contents) -> Table:
    """Processor, threads, libraries and versions; one column per environment."""
    names = _environments(contents)
    facts = [dict(_facts(contents.environments.get(name, {}))) for name in names]
    keys = dict.fromkeys(key for one in facts for key in one)
    rows = [(clean(key), *(clean(one.get(key, MISSING)) for one in facts)) for key in keys]
    note = "Figures of different environments are never ranked together." if len(names) > 1 else ""
    return Table("Environment", ("", *(clean(name) for name in names)), rows, note)


def _environments(contents: Contents) -> list[str]:
    """Those of the cells, in order."""
    return list(dict.fromkeys(record.environment for record in contents.cells.values()))


def _facts(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    identity = content.get("identity")
    yield from _flat(identity if isinstance(identity, Mapping) else {})
    for name in ("convbench", "python", "system"):
        if content.get(name):
            yield name, str(content[name])
    if isinstance(content.get("memory"), int):
        yield "memory", format_size(content["memory"])


def _flat(mapping: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested facts under their own names; what is not installed is left out."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif value is not None:
            yield str(key), _cuda(value) if key in CUDA_VERSIONS else str(value)


def _cuda(version: object) -> str:
    """13020, as CUDA counts its versions, is 13.2."""
    return f"CUDA {version // 1000}.{version % 1000 // 10}" if isinstance(version, int) else str(version)


# ---- what is missing --------------------------------------------------------------------------------------


def coverage(cells: pd.DataFrame) -> Table:
    """Every cell without a rank, grouped by algorithm, status and reason."""
    groups: dict[tuple[str, str, str], list[tuple[str, Any]]] = defaultdict(list)
    cells_now = current(cells)
    for row in cells_now:
        reason = unranked(row)
        if reason is not None:
            key = str(row.algorithm), _status(row), _NUMBER.sub("#", reason)
            groups[key].append((reason, row))
    rows: list[tuple[str, ...]] = [
        (algorithm, status, clean(found[0][0]), str(len(found)), _example(found[0][1]))
        for (algorithm, status, _), found in sorted(groups.items(), key=lambda group: group[0])
    ]
    note = COVERAGE_NOTE if rows else f"All {len(cells_now)} cells are ok and ranked."
    if len(cells_now) < len(cells):
        note += (
            f" {len(cells) - len(cells_now)} older records of cells that were measured again are left out."
        )
    return Table("Coverage", COVERAGE, rows, note, quiet=frozenset({"example"}))


def _status(row: Any) -> str:
    return "ok, not ranked" if row.status == Status.OK else str(row.status)


def _example(row: Any) -> str:
    variant = f" {row.variant}" if row.variant else ""
    return f"{row.problem}/{row.direction}/{row.precision}/{row.layout}{variant}"


# ---- accuracy ---------------------------------------------------------------------------------------------


def accuracy(cells: pd.DataFrame) -> Table:
    """Per family of variants, precision and direction: the errors, the classes, and whether runs repeat."""
    groups: dict[tuple[str, str, str, str], list[Any]] = defaultdict(list)
    for row in current(cells):
        if isinstance(row.relative_l2, float) and not isnan(row.relative_l2):
            family = _CHUNKS.sub(r"\1*", str(row.variant))
            groups[str(row.algorithm), family, row.precision, row.direction].append(row)
    rows = [(*key, *_errors(found)) for key, found in sorted(groups.items(), key=_order)]
    note = ACCURACY_NOTE if rows else "No cell was verified."
    return Table("Accuracy", ACCURACY, rows, note)


def _order(group: tuple[tuple[str, str, str, str], list[Any]]) -> tuple[str, str, str, int]:
    algorithm, family, precision, direction = group[0]
    return algorithm, family, precision, list(Direction).index(Direction(direction))


def _errors(found: list[Any]) -> tuple[str, ...]:
    errors = [row.relative_l2 for row in found]
    classes = {str(row.accuracy) for row in found if isinstance(row.accuracy, str)}
    repeats = _yes_no(row.deterministic for row in found)
    shown = ", ".join(sorted(classes)) or MISSING
    return f"{median(errors):.1e}", f"{max(errors):.1e}", shown, repeats, str(len(found))


def _yes_no(values: Iterable[Any]) -> str:
    """All yes, all no, or how many; cells that were never run twice do not count."""
    known = [value for value in values if isinstance(value, bool)]
    yes = sum(known)
    if not known:
        return MISSING
    return "yes" if yes == len(known) else "no" if not yes else f"{yes} of {len(known)}"
