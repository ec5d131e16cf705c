"""What may be compared with what. Cells are ranked only against cells of the same device, figure, regime,
preset, precision, layout and environment, and only with the accuracy that their precision asks for."""

from __future__ import annotations

from collections import defaultdict, namedtuple
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from convbench.problem import Direction
from convbench.record import Status

from .layers import Layer, layer_lines

if TYPE_CHECKING:
    import pandas as pd

# Accuracy classes that meet what a precision asks for; X never does, and T under fp32 is a dropped class.
RANKED = {"fp64": "D", "fp32": "SF", "tf32": "SFT", "fp16": "H", "bf16": "B"}
NOTHING = "Nothing to rank: no cell is ok with the accuracy its precision asks for; the coverage says why."
CHOICE = "a library's own choice among variants that are ranked by name; the view selection shows it"


_IDENTITY = (
    "problem", "direction", "precision", "layout", "algorithm", "variant", "device", "cache", "regime",
    "preset", "environment",
)  # fmt: skip


class Scope(NamedTuple):
    """Cells of different scopes never share a table, a plot or a ratio."""

    device: str
    figure: str
    precision: str
    layout: str
    regime: str
    preset: str
    environment: str


@dataclass(frozen=True)
class Entry:
    """A cell that is ranked. `workspace` is a lower bound where the library's share is not known."""

    problem: str
    direction: str
    algorithm: str
    variant: str
    ms: float
    lo: float | None
    hi: float | None
    gflops: float
    workspace: int
    known: bool
    accuracy: str
    error: float | None
    flags: str

    @property
    def name(self) -> str:
        return f"{self.algorithm}/{self.variant}" if self.variant else self.algorithm

    def fits(self, limit: int | None) -> bool:
        """Whether it is sure to run within so many bytes of workspace."""
        return limit is None or (self.known and self.workspace <= limit)

    def overlaps(self, other: Entry) -> bool:
        """Whether the 95 % intervals meet, or one of them is missing: then the order may be chance."""
        if self.lo is None or self.hi is None or other.lo is None or other.hi is None:
            return True
        return self.lo <= other.hi and other.lo <= self.hi


@dataclass
class Ranking:
    """Everything of one scope: ranked cells by problem and direction, the fastest first, the layers that were
    asked for, and in which directions."""

    scope: Scope
    label: str
    layers: list[Layer] = field(default_factory=list)
    directions: list[str] = field(default_factory=list)
    cells: dict[tuple[str, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _fastest: dict[tuple[str, str, int | None], list[Entry]] = field(default_factory=dict)

    def title(self, what: str, network: str = "") -> str:
        return ": ".join(part for part in (what, network) if part) + f" ({self.label})"

    @property
    def algorithms(self) -> list[str]:
        return sorted({entry.algorithm for entries in self.cells.values() for entry in entries})

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(layer.network for layer in self.layers))

    def members(self, network: str) -> list[Layer]:
        return [layer for layer in self.layers if layer.network == network]

    def variants(self, problem: str, direction: str, limit: int | None = None) -> list[Entry]:
        """Every variant that fits the limit, fastest first."""
        return [entry for entry in self.cells.get((problem, direction), ()) if entry.fits(limit)]

    def fastest(self, problem: str, direction: str, limit: int | None = None) -> list[Entry]:
        """The best variant of each algorithm that fits the limit, fastest first."""
        place = problem, direction, limit
        if place not in self._fastest:
            found: dict[str, Entry] = {}
            for entry in self.variants(*place):
                found.setdefault(entry.algorithm, entry)
            self._fastest[place] = list(found.values())
        return self._fastest[place]

    def passes(self, network: str | None = None) -> Iterator[tuple[Layer, str]]:
        """Each layer with each direction."""
        for layer in self.layers:
            if network is None or layer.network == network:
                yield from ((layer, direction) for direction in self.directions)


def rankings(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Ranking]:
    """The ranked cells, apart by scope."""
    rows = current(cells)
    found: dict[Scope, Ranking] = {}
    asked: dict[Scope, set[tuple[str, str]]] = defaultdict(set)
    several = len({row.environment for row in rows}) > 1
    for row in rows:
        scope = _scope(row)
        asked[scope._replace(figure="")].add((row.problem, row.direction))
        if unranked(row) is None:
            ranking = found.setdefault(scope, Ranking(scope, _label(scope, several)))
            ranking.cells[row.problem, row.direction].append(entry_of(row))
    lines = layer_lines(layers, [row.problem for row in rows])
    for scope, ranking in found.items():
        _complete(ranking, lines, asked[scope._replace(figure="")])
    return list(found.values())


def the_ranking(cells: pd.DataFrame, layers: pd.DataFrame) -> Ranking | None:
    """The one scope of these cells, or None without ranked cells; ValueError if there are several."""
    found = rankings(cells, layers)
    if len(found) > 1:
        labels = "; ".join(ranking.label for ranking in found)
        raise ValueError(
            f"one plot shows one kind of figure, not {len(found)} ({labels}); choose one of them"
        )
    return found[0] if found else None


def split(cells: pd.DataFrame, layers: pd.DataFrame) -> list[pd.DataFrame]:
    """The frame in parts of one scope each; without ranked cells the frame itself."""
    parts = []
    for ranking in rankings(cells, layers):
        chosen = [tuple(map(str, row)) == ranking.scope for row in _scope_rows(cells)]
        parts.append(cells[chosen])
    return parts or [cells]


def rows_of(cells: pd.DataFrame, scope: Scope) -> list[Any]:
    """The rows of one scope; a cell without a figure belongs to every figure's."""
    place = scope._replace(figure="")
    rows = [row for row in current(cells) if _scope(row)._replace(figure="") == place]
    return [row for row in rows if not isinstance(row.figure, str) or row.figure == scope.figure]


def unranked(row: Any) -> str | None:
    """Why a cell is not ranked, or None."""
    reason = unfit(row)
    return CHOICE if reason is None and row.selection else reason


def unfit(row: Any) -> str | None:
    """Why the figure of a cell cannot stand beside others, or None."""
    if row.status != Status.OK:
        return str(row.reason)
    allowed, accuracy = RANKED.get(row.precision, ""), str(row.accuracy)
    if len(accuracy) != 1 or accuracy not in allowed:
        return f"accuracy class {accuracy}; {row.precision} asks for {' or '.join(allowed)}"
    if not (isfinite(row.time_ms) and row.time_ms > 0):
        return "no time"
    return None


def current(cells: pd.DataFrame) -> list[Any]:
    """The rows, columns as attributes; a cell that was measured again (new code) counts as last seen."""
    named = namedtuple("Row", cells.columns)  # type: ignore[misc]
    rows = list(map(named._make, zip(*(cells[name].tolist() for name in cells.columns), strict=True)))
    keys = zip(*(cells[name].tolist() for name in _IDENTITY), strict=True)
    latest: dict[tuple[Any, ...], Any] = {}
    for key, row in zip(keys, rows, strict=True):
        latest.pop(key, None)
        latest[key] = row
    return list(latest.values())


def _scope(row: Any) -> Scope:
    return Scope(*(str(getattr(row, name)) for name in Scope._fields))


def _scope_rows(cells: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    return cells[list(Scope._fields)].itertuples(index=False, name=None)


def _label(scope: Scope, several_environments: bool) -> str:
    parts = scope if several_environments else scope[:-1]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def entry_of(row: Any) -> Entry:
    known = row.workspace_known is True or row.workspace_known == 1
    return Entry(
        problem=row.problem,
        direction=row.direction,
        algorithm=str(row.algorithm),
        variant=str(row.variant),
        ms=float(row.time_ms),
        lo=_number(row.lo_ms),
        hi=_number(row.hi_ms),
        gflops=float(row.gflops),
        workspace=int(_number(row.workspace_bytes) or 0),
        known=known,
        accuracy=str(row.accuracy),
        error=_number(row.relative_l2),
        flags=str(row.flags),
    )


def _number(value: Any) -> float | None:
    """A figure of a frame, where a missing one is NaN or None."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _complete(ranking: Ranking, lines: list[Layer], asked: set[tuple[str, str]]) -> None:
    """Sort the cells; add the layers of every network that was touched, and the directions that were run."""
    for entries in ranking.cells.values():
        entries.sort(key=lambda entry: (entry.ms, entry.name))
    problems = {problem for problem, _ in asked}
    networks = {line.network for line in lines if line.problem in problems}
    ranking.layers = [line for line in lines if line.network in networks]
    ranking.directions = [str(d) for d in Direction if any(d == direction for _, direction in asked)]
