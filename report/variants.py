"""Algorithm, workspace and time: everything that was tried on a layer, and what the library would pick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from convbench.record import Status

from .layers import Layer, shape
from .ranking import NOTHING, Entry, Ranking, entry_of, rankings, unfit
from .selection import Choices, Chooser, Pick, choices_of, cost, trouble
from .tables import MISSING, Table, significant, trimmed
from .winners import accuracy, floor_of, workspace

if TYPE_CHECKING:
    import pandas as pd

ALGORITHMS = (
    "direction", "layer", "algorithm", "variant", "time (ms)", "ratio", "workspace", "accuracy", "chosen by",
    "cost", "status",
)  # fmt: skip
ALGORITHMS_NOTE = (
    "Milliseconds per call for the whole batch. Ratio: to the fastest of the direction that is ranked."
)
CHOICE_NOTE = (
    "Chosen by: what the library picks by itself without a workspace limit (the view selection has limits); "
    "cost: how often as long that takes as the fastest of {}."
)


def algorithms(
    cells: pd.DataFrame, layers: pd.DataFrame, floors: Mapping[str, float] | None = None
) -> list[Table]:
    """Per layer: every variant of every algorithm with its time and workspace, or why there is none."""
    tables = [
        _layer(ranking, layer, choices, floor_of(ranking, floors))
        for ranking in rankings(cells, layers)
        for choices in [choices_of(cells, ranking)]
        for layer in ranking.layers
        if any((layer.problem, direction) in choices.named for direction in ranking.directions)
    ]
    return tables or [Table("Algorithms", ALGORITHMS, [], NOTHING)]


def _layer(ranking: Ranking, layer: Layer, choices: Choices, floor: float) -> Table:
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    for direction in ranking.directions:
        start = len(rows)
        rows += _rows(ranking, choices, layer, direction, floor)
        if ranking.variants(layer.problem, direction):
            best.add((start, ALGORITHMS.index("time (ms)")))
    names = " ".join(dict.fromkeys((layer.title, shape(layer.problem))))
    note = ALGORITHMS_NOTE
    if libraries := choices.libraries:
        note += " " + CHOICE_NOTE.format(" and ".join(libraries))
    title = ranking.title(f"Algorithms for {names}", layer.network)
    return trimmed(
        Table(
            title,
            ALGORITHMS,
            rows,
            note,
            best=frozenset(best),
            quiet=frozenset({"status"}),
            detail=frozenset({"layer"}),
            whole=frozenset({"variant", "status"}),
        )
    )


def _rows(
    ranking: Ranking, choices: Choices, layer: Layer, direction: str, floor: float
) -> Iterator[tuple[str, ...]]:
    """Ranked ones by time, then those that were timed, then the others."""
    place = layer.problem, direction
    picks = {chooser: choices.pick(chooser, *place) for chooser in choices.made.get(place, {})}
    fastest = next(iter(ranking.variants(*place)), None)
    for row in sorted(_shown(choices, place), key=_order):
        by = [chooser.selection for chooser, pick in picks.items() if _is(row, chooser, pick)]
        price = cost(choices.best(*place), entry_of(row), floor) if by and unfit(row) is None else ""
        yield (direction, layer.title, *_cells(row, fastest), ", ".join(by), price, trouble(row))


def _shown(choices: Choices, place: tuple[str, str]) -> list[Any]:
    """Everything by name, and choices among what was not measured by name."""
    named = choices.named.get(place, {})
    made = [row for rows in choices.made.get(place, {}).values() for row in rows]
    return [*named.values(), *(row for row in made if (str(row.algorithm), row.picked) not in named)]


def _order(row: Any) -> tuple[int, float, str, str]:
    timed = row.status == Status.OK
    rank = 0 if unfit(row) is None else 1 if timed else 2
    return rank, float(row.time_ms) if timed else inf, str(row.algorithm), str(row.variant)


def _is(row: Any, chooser: Chooser, pick: Pick) -> bool:
    if row.algorithm != chooser.algorithm or not pick.variant:
        return False
    return bool((row.picked if row.selection else row.variant) == pick.variant)


def _cells(row: Any, fastest: Entry | None) -> tuple[str, ...]:
    variant = f"{row.picked or MISSING} (as {row.variant})" if row.selection else str(row.variant)
    name = str(row.algorithm), variant
    if row.status != Status.OK:
        return (*name, *[MISSING] * 4)
    entry = entry_of(row)
    ratio = significant(entry.ms / fastest.ms) if fastest and unfit(row) is None else MISSING
    return (*name, significant(entry.ms), ratio, workspace(entry), accuracy(entry))
