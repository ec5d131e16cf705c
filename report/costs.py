"""What a library's own choice costs at a glance: one row a scope and way of choosing, one column a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import geometric_mean
from typing import TYPE_CHECKING

from convbench.sizes import format_size

from .ranking import Ranking, rankings
from .selection import NO_CHOICE, Choices, Chooser, Limit, choices_of
from .tables import MISSING, Table, significant

if TYPE_CHECKING:
    import pandas as pd

TITLE = "What the library's choice costs"
PLACE = ("network", "precision", "layout", "chooser", "environment")
COSTS_NOTE = (
    "Time of the library's pick over that of the fastest variant by name that fits the same limit: geometric "
    "mean over layers and directions, and how many of them the pick could be measured on, where not all. The "
    "view selection has them one by one."
)


def costs(cells: pd.DataFrame, layers: pd.DataFrame, limits: Sequence[int]) -> list[Table]:
    """Geometric means of what every way of choosing costs."""
    bounds: list[Limit] = [*sorted(set(limits)), None]
    columns = (*PLACE, *("no limit" if bound is None else format_size(bound) for bound in bounds))
    rows: dict[str, list[tuple[str, ...]]] = {}
    for ranking in rankings(cells, layers):
        choices, scope = choices_of(cells, ranking), ranking.scope
        how = ", ".join((scope.device, scope.figure, scope.regime, scope.preset))
        for network in ranking.networks:
            rows.setdefault(how, []).extend(_rows(ranking, network, choices, bounds))
    tables = [
        Table(f"{TITLE} ({how})", columns, found, COSTS_NOTE, detail=frozenset({"environment"}))
        for how, found in rows.items()
        if found
    ]
    return tables or [Table(TITLE, columns, [], NO_CHOICE)]


def _rows(
    ranking: Ranking, network: str, choices: Choices, bounds: Sequence[Limit]
) -> Iterator[tuple[str, ...]]:
    passes, scope = (
        [(layer.problem, direction) for layer, direction in ranking.passes(network)],
        ranking.scope,
    )
    for chooser in choices.choosers:
        if any(chooser in choices.made.get(place, ()) for place in passes):
            means = (_mean(_ratios(choices, chooser, passes, bound), len(passes)) for bound in bounds)
            whose = f"{chooser.algorithm} {chooser.selection}"
            yield network, scope.precision, scope.layout, whose, scope.environment, *means


def _ratios(
    choices: Choices, chooser: Chooser, passes: Sequence[tuple[str, str]], bound: Limit
) -> list[float]:
    pairs = ((choices.best(*place, bound), choices.pick(chooser, *place, bound).entry) for place in passes)
    return [picked.ms / best.ms for best, picked in pairs if best and picked]


def _mean(ratios: Sequence[float], passes: int) -> str:
    if not ratios:
        return MISSING
    shown = significant(geometric_mean(ratios))
    return shown if len(ratios) == passes else f"{shown} · {len(ratios)} of {passes}"
