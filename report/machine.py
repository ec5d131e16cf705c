"""What stands beside a time: how near the machine's limit it is, and at what clock, power and host time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from .ranking import NOTHING, Ranking, rankings, rows_of
from .tables import MISSING, Table, significant, trimmed

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[Any], str]
Facts = Mapping[str, Read]
PLACE = ("layer", "direction", "algorithm", "time (ms)")
MACHINE_NOTE = "The fastest variant of each algorithm; milliseconds per call for the whole batch."
ABOUT = {
    "% of limit": "Limit: the time that the measured rate beside it would need; it may be exceeded.",
    "SM MHz": "SM MHz: the median clock over the timed blocks.",
    "W": "Watts, temperature and reasons for the clock are NVML's, of the whole board.",
    "enqueue (ms)": "Enqueue: until the call returns to the host.",
    "call (ms)": "Call: until its result is there.",
    "J per call": "Joules of the whole board, idle power included; ±: what the counter cannot resolve.",
}
NO_MACHINE = (
    "No cell holds a clock, power, energy, host time or limit; on CUDA `convbench run` records them, "
    "with --energy joules too."
)


def machine(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """Per layer, direction and algorithm: what the hardware did while the fastest variant was timed."""
    found = rankings(cells, layers)
    kinds = {"Machine": HARDWARE, "Energy": ENERGY}
    tables = [
        _told(ranking.title(name), ranking, rows, facts)
        for ranking in found
        for rows in [rows_of(cells, ranking.scope)]
        for name, facts in kinds.items()
    ]
    told = [table for table in tables if len(table.columns) > len(PLACE)]
    return told or [Table("Machine", (), [], NO_MACHINE if found else NOTHING)]


def _told(title: str, ranking: Ranking, rows: list[Any], facts: Facts) -> Table:
    """The facts that some cell holds."""
    held = {(row.problem, row.direction, row.algorithm, row.variant): row for row in rows}
    cells = [
        (layer.title, direction, entry.name, significant(entry.ms), *(read(row) for read in facts.values()))
        for layer, direction in ranking.passes()
        for entry in ranking.fastest(layer.problem, direction)
        for row in [held[layer.problem, direction, entry.algorithm, entry.variant]]
    ]
    quiet, whole = frozenset({"clock held by", "± %"}), frozenset({"algorithm"})
    table = trimmed(Table(title, (*PLACE, *facts), cells, quiet=quiet, whole=whole))
    about = [text for name, text in ABOUT.items() if name in table.columns]
    return replace(table, note=" ".join([MACHINE_NOTE, *about]))


def _number(row: Any, name: str) -> float | None:
    """A figure of a cell; a missing one is NaN or None in a frame."""
    value = getattr(row, name)
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _shown(name: str) -> Read:
    return lambda row: significant(_number(row, name))


def _whole(name: str) -> Read:
    """Megahertz, watts and degrees, of which fractions say nothing."""

    def read(row: Any) -> str:
        value = _number(row, name)
        return MISSING if value is None else f"{value:.0f}"

    return read


def _reasons(row: Any) -> str:
    reasons = row.clock_reasons
    return ", ".join(reasons.split()) if isinstance(reasons, str) else MISSING


def _of_limit(row: Any) -> str:
    limit = _number(row, "limit_ms")
    return MISSING if limit is None else f"{significant(100 * limit / row.time_ms)} · {row.limit_rate}"


def _gflop_a_joule(row: Any) -> str:
    joules = _number(row, "joules")
    return significant(row.flops / joules / 1e9) if joules else MISSING


def _unresolved(row: Any) -> str:
    share = _number(row, "joules_resolution")
    return MISSING if share is None else f"{100 * share:.1f}"


HARDWARE: Facts = {
    "% of limit": _of_limit,
    "SM MHz": _whole("clock_mhz"),
    "W": _whole("watts"),
    "°C": _whole("celsius"),
    "clock held by": _reasons,
    "enqueue (ms)": _shown("enqueue_ms"),
    "call (ms)": _shown("call_ms"),
}
ENERGY: Facts = {
    "J per call": _shown("joules"),
    "± %": _unresolved,
    "GFLOP/J": _gflop_a_joule,
}
