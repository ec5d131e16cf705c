"""The fastest algorithm under each workspace limit: what a budget of memory costs in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convbench.sizes import format_size

from .layers import Layer
from .ranking import NOTHING, Ranking, rankings
from .tables import MISSING, Table, significant

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_LIMITS = (0, *(mib * 2**20 for mib in (1, 16, 64, 256)))
LIMIT_NOTE = (
    "Milliseconds per call for the whole batch, and the fastest variant that is sure to fit. Totals count "
    "each layer as often as the network holds it; n of m: only so many of the layer passes can be done, so "
    "there is no total."
)
EXCLUDED_NOTE = "Not promised to fit any limit, because their libraries' own memory is unknown: {}."


def by_limit(cells: pd.DataFrame, layers: pd.DataFrame, limits: Sequence[int]) -> list[Table]:
    """Per layer and direction: the winner under each workspace limit, and without one."""
    bounds = [*sorted(set(limits)), None]
    tables = [
        _by_limit(ranking, network, bounds)
        for ranking in rankings(cells, layers)
        for network in ranking.networks
    ]
    return tables or [Table("By workspace limit", ("layer", "direction", *map(_bound, bounds)), [], NOTHING)]


def _by_limit(ranking: Ranking, network: str, bounds: Sequence[int | None]) -> Table:
    columns = ("layer", "direction", "repeat", *map(_bound, bounds))
    passes = list(ranking.passes(network))
    rows = [
        (layer.title, direction, str(layer.repeat), *(_best(ranking, layer, direction, b) for b in bounds))
        for layer, direction in passes
    ]
    rows.append(("total", "", "", *(_total(ranking, passes, bound) for bound in bounds)))
    entries = [entry for key in ranking.cells for entry in ranking.cells[key]]
    unknown = sorted({entry.algorithm for entry in entries if not entry.known})
    note = f"{LIMIT_NOTE} {EXCLUDED_NOTE.format(', '.join(unknown))}" if unknown else LIMIT_NOTE
    return Table(ranking.title("By workspace limit", network), columns, rows, note, totals=1)


def _bound(limit: int | None) -> str:
    if limit is None:
        return "no limit"
    return f"≤ {format_size(limit)}" if limit else "none"


def _best(ranking: Ranking, layer: Layer, direction: str, limit: int | None) -> str:
    found = ranking.variants(layer.problem, direction, limit)
    return f"{significant(found[0].ms)} · {found[0].name}" if found else MISSING


def _total(ranking: Ranking, passes: Sequence[tuple[Layer, str]], limit: int | None) -> str:
    found = [(layer, ranking.variants(layer.problem, direction, limit)) for layer, direction in passes]
    possible = [layer.repeat * entries[0].ms for layer, entries in found if entries]
    if len(possible) < len(found):
        return f"{len(possible)} of {len(found)}"
    return significant(sum(possible))
