"""Winners: the fastest algorithm of every layer and direction, and how often each one is the fastest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convbench.sizes import format_size

from .layers import Layer, shape
from .ranking import NOTHING, Entry, Ranking, rankings
from .tables import MISSING, NO_INTERVAL, Table, significant

if TYPE_CHECKING:
    import pandas as pd

WINNERS = (
    "layer", "shape", "direction", "winner", "time (ms)", "95 % interval", "GFLOP/s", "workspace",
    "accuracy", "runner-up", "factor", "flags",
)  # fmt: skip
WINNERS_NOTE = (
    "Time per call for the whole batch. GFLOP/s: effective, 2·N·K·P·Q·C/g·R·S with padding counted, whatever "
    "the algorithm really multiplies. Runner-up: the next best other algorithm; factor: how often as long it "
    "takes; ≈ where the two intervals meet or the factor is within the noise floor, so that the order may "
    "be chance. Accuracy: class and relative L2 error against float64."
)
TALLY_NOTE = "Layer passes won; clear: the order cannot be chance, given the intervals and the noise floor."
UNKNOWN = "unknown"
UNKNOWN_NOTE = "Workspace ≥ and unknown: the library takes memory of its own that cannot be known."


def winners(
    cells: pd.DataFrame, layers: pd.DataFrame, floors: Mapping[str, float] | None = None
) -> list[Table]:
    """Per layer and direction: the fastest variant, what it takes, and who comes next.

    `floors` gives the noise floor of each environment, below which no lead is called clear.
    """
    tables = [_winners(ranking, floor_of(ranking, floors)) for ranking in rankings(cells, layers)]
    return tables or [Table("Winners", WINNERS, [], NOTHING)]


def tally(
    cells: pd.DataFrame, layers: pd.DataFrame, floors: Mapping[str, float] | None = None
) -> list[Table]:
    """How often each algorithm wins: the winners in one glance."""
    tables = [_tally(ranking, floor_of(ranking, floors)) for ranking in rankings(cells, layers)]
    return tables or [Table("Wins", ("algorithm", "wins", "clear"), [], NOTHING)]


def _winners(ranking: Ranking, floor: float) -> Table:
    rows = [_winner(ranking, layer, direction, floor) for layer, direction in ranking.passes()]
    won = frozenset((i, 3) for i, row in enumerate(rows) if row[3] != MISSING)
    unknown = any(row[7].startswith(("≥", UNKNOWN)) for row in rows)
    note = f"{WINNERS_NOTE} {UNKNOWN_NOTE}" if unknown else WINNERS_NOTE
    quiet, detail = frozenset({"shape", "95 % interval", "flags"}), frozenset({"shape", "flags"})
    return Table(ranking.title("Winners"), WINNERS, rows, note, won, quiet=quiet, detail=detail)


def _winner(ranking: Ranking, layer: Layer, direction: str, floor: float) -> tuple[str, ...]:
    head = layer.title, shape(layer.problem), direction
    found = ranking.fastest(layer.problem, direction)
    if not found:
        return (*head, *[MISSING] * (len(WINNERS) - len(head)))
    best, second = found[0], found[1] if len(found) > 1 else None
    figures = significant(best.ms), interval(best), significant(best.gflops), workspace(best)
    runner_up = (second.name, factor(best, second, floor)) if second else (MISSING, MISSING)
    return (*head, best.name, *figures, accuracy(best), *runner_up, best.flags)


def interval(entry: Entry) -> str:
    if entry.lo is None or entry.hi is None:
        return NO_INTERVAL
    return f"{significant(entry.lo)} – {significant(entry.hi)}"


def workspace(entry: Entry) -> str:
    if entry.known:
        return format_size(entry.workspace)
    return f"≥ {format_size(entry.workspace)}" if entry.workspace else UNKNOWN


def accuracy(entry: Entry) -> str:
    return entry.accuracy if entry.error is None else f"{entry.accuracy} {entry.error:.1e}"


def factor(best: Entry, second: Entry, floor: float) -> str:
    """How often as long the second takes; ≈ where the order may be chance."""
    mark = "" if _leads(best, second, floor) else "≈ "
    return f"{mark}{significant(second.ms / best.ms)}"


def _leads(best: Entry, other: Entry, floor: float) -> bool:
    """Whether being faster is more than chance; a floor that is not known (nan) adds no doubt of its own."""
    return not (best.overlaps(other) or other.ms <= best.ms * (1 + floor))


def floor_of(ranking: Ranking, floors: Mapping[str, float] | None) -> float:
    return (floors or {}).get(ranking.scope.environment, 0.0)


def _tally(ranking: Ranking, floor: float) -> Table:
    wins, clear = dict.fromkeys(ranking.algorithms, 0), dict.fromkeys(ranking.algorithms, 0)
    for layer, direction in ranking.passes():
        for best, *others in filter(None, [ranking.fastest(layer.problem, direction)]):
            wins[best.algorithm] += 1
            clear[best.algorithm] += all(_leads(best, other, floor) for other in others)
    order = sorted(wins, key=lambda name: (-wins[name], -clear[name], name))
    rows: list[tuple[str, ...]] = [(name, str(wins[name]), str(clear[name])) for name in order]
    return Table(ranking.title("Wins"), ("algorithm", "wins", "clear"), rows, TALLY_NOTE)
