"""The tables of convnet-benchmarks: one line per algorithm and network, and layer against algorithm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from convbench.problem import Direction

from .layers import Layer
from .ranking import NOTHING, Ranking, rankings
from .tables import MISSING, Table, significant

if TYPE_CHECKING:
    import pandas as pd

NETWORK = ("algorithm", "class", "total (ms)", "forward (ms)", "backward (ms)")
NETWORK_NOTE = (
    "Sums over the layers, each as often as the network holds it, best variant of the algorithm for each. "
    "Class: the variants that won, the most frequent first. "
    "Backward is bwd-data plus bwd-filter. n of m layers: the algorithm has no ranked figure for the others, "
    "so there is no total. Best per layer takes the fastest algorithm anew for every layer and direction."
)
LAYER_NOTE = (
    "Milliseconds per call for the whole batch, best variant of each algorithm. The total counts each layer "
    "as often as its repeat says; n of m layers: the others have no ranked figure, so there is no total."
)
BEST = "best per layer"
BACKWARD = (Direction.BWD_DATA.value, Direction.BWD_FILTER.value)

Timer = Callable[[str, str], float | None]  # problem, direction -> ms


def by_network(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """Per network: each algorithm's total, forward and backward time, fastest first."""
    found = rankings(cells, layers)
    tables = [_network(ranking, network) for ranking in found for network in ranking.networks]
    return tables or [Table("By network", NETWORK, [], NOTHING)]


def by_layer(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> list[Table]:
    """Per network: layers against algorithms, with the total and the best."""
    found = [ranking for ranking in rankings(cells, layers) if direction in ranking.directions]
    tables = [_matrix(ranking, network, direction) for ranking in found for network in ranking.networks]
    return tables or [Table(f"By layer, {direction}", ("layer", "repeat", "best"), [], NOTHING)]


class Sums:
    """Times of the layers of one network, each counted as often as it occurs."""

    def __init__(self, layers: Sequence[Layer], timer: Timer) -> None:
        self._layers, self._timer = layers, timer

    def covered(self, directions: Sequence[str]) -> int:
        """How many layers have a time in all of these directions."""
        return sum(self._of(layer, directions) is not None for layer in self._layers)

    def total(self, directions: Sequence[str]) -> float | None:
        """Milliseconds, or None if some layer cannot be done."""
        times = [self._of(layer, directions) for layer in self._layers]
        known = [time for time in times if time is not None]
        return sum(known) if len(known) == len(times) else None

    def text(self, directions: Sequence[str]) -> str:
        if not directions:
            return MISSING
        total = self.total(directions)
        if total is None:
            return f"{self.covered(directions)} of {len(self._layers)} layers"
        return significant(total)

    def _of(self, layer: Layer, directions: Sequence[str]) -> float | None:
        times = [self._timer(layer.problem, direction) for direction in directions]
        known = [time for time in times if time is not None]
        return layer.repeat * sum(known) if len(known) == len(times) else None


def timer(ranking: Ranking, algorithm: str | None) -> Timer:
    """The time of the algorithm's best variant; with None, of the best algorithm."""

    def ms(problem: str, direction: str) -> float | None:
        entries = ranking.fastest(problem, direction)
        return next((e.ms for e in entries if algorithm in (None, e.algorithm)), None)

    return ms


# ---- per network ------------------------------------------------------------------------------------------


def _network(ranking: Ranking, network: str) -> Table:
    members = ranking.members(network)
    sums = {name: Sums(members, timer(ranking, name)) for name in ranking.algorithms}
    order = sorted(sums, key=lambda name: (*_rank(sums[name], ranking.directions), name))
    classes = {name: _class(ranking, members, name) for name in order}
    rows = [_sums(name, classes[name], sums[name], ranking.directions) for name in order]
    best = frozenset({(0, 0), (0, 2)} if sums[order[0]].total(ranking.directions) is not None else ())
    rows.append(_sums(BEST, "", Sums(members, timer(ranking, None)), ranking.directions))
    title, quiet = ranking.title("Network", network), frozenset({"class"})
    return Table(title, NETWORK, rows, _note(ranking), best, totals=1, quiet=quiet)


def _class(ranking: Ranking, members: Sequence[Layer], name: str) -> str:
    """The variants that are the algorithm's fastest, the most frequent first."""
    found = Counter(
        entry.variant
        for layer in members
        for direction in ranking.directions
        for entry in ranking.fastest(layer.problem, direction)
        if entry.algorithm == name
    )
    named = [variant for variant, _ in found.most_common(2) if variant]
    return ", ".join([*named, *([f"{len(found) - 2} more"] if len(found) > 2 else [])])


def _rank(sums: Sums, directions: Sequence[str]) -> tuple[float, int]:
    """Complete ones by time, then the others by how much they cover."""
    total = sums.total(directions)
    return (float("inf") if total is None else total, -sums.covered(directions))


def _sums(name: str, kinds: str, sums: Sums, directions: Sequence[str]) -> tuple[str, ...]:
    forward = [d for d in directions if d == Direction.FWD]
    backward = [d for d in directions if d in BACKWARD]
    return (name, kinds, sums.text(directions), sums.text(forward), sums.text(backward))


def _note(ranking: Ranking) -> str:
    missing = [d.value for d in Direction if d not in ranking.directions]
    return (
        f"{NETWORK_NOTE} Not run, and not in the totals: {', '.join(missing)}." if missing else NETWORK_NOTE
    )


# ---- layer against algorithm ------------------------------------------------------------------------------


def _matrix(ranking: Ranking, network: str, direction: str) -> Table:
    members, names = ranking.members(network), ranking.algorithms
    timers = [timer(ranking, name) for name in names] + [timer(ranking, None)]
    times = [[ms(layer.problem, direction) for ms in timers] for layer in members]
    rows = [
        (layer.title, str(layer.repeat), *map(significant, row))
        for layer, row in zip(members, times, strict=True)
    ]
    rows.append(("total", "", *(Sums(members, ms).text([direction]) for ms in timers)))
    best = frozenset(
        (i, j + 2) for i, row in enumerate(times) for j in range(len(names)) if row[j] == row[-1] is not None
    )
    columns = ("layer", "repeat", *names, "best")
    return Table(ranking.title(f"By layer, {direction}", network), columns, rows, LAYER_NOTE, best, totals=1)
