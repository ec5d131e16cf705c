"""What a library's own choice costs: the variant that its heuristic picks against the best one it offers.

A library tells its choice as an order of preference with the workspace of each variant, so that the pick
under any limit is the first that fits, and its time is the one measured for that variant by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convbench.record import Status
from convbench.sizes import format_size
from convbench.typed import fits

from .layers import Layer
from .ranking import NOTHING, Entry, Ranking, entry_of, rankings, rows_of, unfit
from .tables import MISSING, Table, significant
from .winners import factor, floor_of, workspace

if TYPE_CHECKING:
    import pandas as pd

SELECTION_NOTE = (
    "Best: the fastest variant of {} by name that fits the limit. Pick: the first that fits in the library's "
    "own order of preference, with the time measured for it by name. Cost: how often as long as the best it "
    "takes; ≈ where that may be chance, given the intervals and the noise floor. Neighbouring limits with "
    "one answer share a row. Geometric mean: of the costs there are, each layer and direction once."
)
LONGEST_REASON = 60
NO_CHOICE = "No library's choice was measured: no variant here has a record of what a heuristic picks."

Limit = int | None
Answer = TypeVar("Answer")


class Chooser(NamedTuple):
    """One way in which a library chooses: an algorithm with `heuristic` or `find`."""

    algorithm: str
    selection: str


class Pick(NamedTuple):
    """What a library runs under a limit; without an entry, the remark says what was lost."""

    variant: str = ""
    entry: Entry | None = None
    remark: str = ""


class Choices:
    """The choices of the libraries of one scope, beside everything that was measured by name."""

    def __init__(self, ranking: Ranking, rows: Iterable[Any]) -> None:
        self._ranking = ranking
        self.named: dict[tuple[str, str], dict[tuple[str, str], Any]] = {}
        self.made: dict[tuple[str, str], dict[Chooser, list[Any]]] = {}
        for row in rows:
            place, algorithm = (row.problem, row.direction), str(row.algorithm)
            if row.selection:
                made = self.made.setdefault(place, {})
                made.setdefault(Chooser(algorithm, row.selection), []).append(row)
            else:
                self.named.setdefault(place, {})[algorithm, str(row.variant)] = row

    @property
    def choosers(self) -> list[Chooser]:
        return list(dict.fromkeys(chooser for made in self.made.values() for chooser in made))

    @property
    def libraries(self) -> list[str]:
        """Algorithms that choose by themselves: together they are what the library offers."""
        return list(dict.fromkeys(chooser.algorithm for chooser in self.choosers))

    def best(self, problem: str, direction: str, limit: Limit = None) -> Entry | None:
        entries, ours = self._ranking.variants(problem, direction, limit), self.libraries
        return next((entry for entry in entries if entry.algorithm in ours), None)

    def pick(self, chooser: Chooser, problem: str, direction: str, limit: Limit = None) -> Pick:
        made = self.made.get((problem, direction), {}).get(chooser)
        if made is None:
            return Pick(remark="not run")
        order = next(filter(None, map(_order, made)), [])
        if not order:
            return Pick(remark=trouble(made[0]) or "the library tells no order")
        name = next((name for name, size in order if limit is None or size <= limit), None)
        if name is None:
            return Pick(remark="nothing in its order fits")
        named = self.named.get((problem, direction), {}).get((chooser.algorithm, name))
        if named is not None:
            return _picked(name, named)
        itself = (_picked(name, row) for row in made if row.picked == name)
        return next(itself, Pick(name, remark="not measured"))


def choices_of(cells: pd.DataFrame, ranking: Ranking) -> Choices:
    return Choices(ranking, rows_of(cells, ranking.scope))


def trouble(row: Any) -> str:
    """Why a cell has no figure that counts, in short; empty if it has one."""
    reason = unfit(row)
    if reason is None:
        return ""
    text = reason if row.status == Status.OK else f"{row.status}: {reason}"
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _order(row: Any) -> list[tuple[str, int]]:
    """Variants and their workspace, best first; none where the record holds something else."""
    try:
        pairs = [(str(name), size) for name, size in json.loads(row.order)]
    except (TypeError, ValueError):
        return []
    return pairs if fits([size for _, size in pairs], list[int]) else []


def _picked(name: str, row: Any) -> Pick:
    if lost := trouble(row):
        return Pick(name, remark=lost)
    return Pick(name, entry_of(row), f"timed as {row.variant} only" if row.selection else "")


# ---- the tables --------------------------------------------------------------------------------------------


def selection(
    cells: pd.DataFrame,
    layers: pd.DataFrame,
    limits: Sequence[int],
    floors: Mapping[str, float] | None = None,
) -> list[Table]:
    """Per chooser and network: what its picks cost under each workspace limit, and without one."""
    bounds: list[Limit] = [*sorted(set(limits)), None]
    found = rankings(cells, layers)
    tables = [
        _chosen(ranking, network, choices, chooser, bounds, floor_of(ranking, floors))
        for ranking in found
        for choices in [choices_of(cells, ranking)]
        for network in ranking.networks
        for chooser in choices.choosers
        if any(chooser in choices.made.get((layer.problem, d), ()) for layer, d in ranking.passes(network))
    ]
    return tables or [Table("What the library's choice costs", (), [], NO_CHOICE if found else NOTHING)]


def _chosen(
    ranking: Ranking, network: str, choices: Choices, chooser: Chooser, bounds: Sequence[Limit], floor: float
) -> Table:
    rows: list[tuple[str, ...]] = []
    ratios: dict[Limit, list[float]] = {bound: [] for bound in bounds}
    passes = list(ranking.passes(network))
    for layer, direction in passes:
        answers = [_answer(choices, chooser, layer, direction, bound) for bound in bounds]
        for bound, (best, pick) in zip(bounds, answers, strict=True):
            if best and pick.entry:
                ratios[bound].append(pick.entry.ms / best.ms)
        rows += [(layer.title, direction, *_row(*one, floor)) for one in _runs(bounds, answers)]
    means = [_mean(ratios[bound], len(passes)) for bound in bounds]
    totals = [("geometric mean", "", limits, *mean) for limits, mean in _runs(bounds, means)]
    whose = f"{chooser.algorithm}'s {chooser.selection}"
    names = ("best", "best (ms)", "best needs", f"{whose} picks", "pick (ms)", "pick needs")
    return Table(
        ranking.title(f"What {whose} costs", network),
        ("layer", "direction", "workspace limit", *names, "cost"),
        [*rows, *totals],
        SELECTION_NOTE.format(" and ".join(choices.libraries)),
        totals=len(totals),
        quiet=frozenset({"best needs", "pick needs"}),
        detail=frozenset({"pick needs"}),
        whole=frozenset({"best", f"{whose} picks"}),
    )


def _answer(
    choices: Choices, chooser: Chooser, layer: Layer, direction: str, bound: Limit
) -> tuple[Entry | None, Pick]:
    place = layer.problem, direction, bound
    return choices.best(*place), choices.pick(chooser, *place)


def _row(limits: str, answer: tuple[Entry | None, Pick], floor: float) -> tuple[str, ...]:
    best, pick = answer
    name = pick.variant or MISSING
    picked = f"{name} ({pick.remark})" if pick.remark else name
    shown = best.name if best else MISSING, *_figures(best), picked, *_figures(pick.entry)
    return limits, *shown, cost(best, pick.entry, floor)


def _figures(entry: Entry | None) -> tuple[str, str]:
    return (significant(entry.ms), workspace(entry)) if entry else (MISSING, MISSING)


def cost(best: Entry | None, picked: Entry | None, floor: float) -> str:
    """How often as long as the best the pick takes."""
    if best is None or picked is None:
        return MISSING
    return significant(1.0) if picked == best else factor(best, picked, floor)


def _mean(ratios: Sequence[float], passes: int) -> tuple[str, ...]:
    """The cells of a total from `best` on."""
    mean = significant(geometric_mean(ratios)) if ratios else MISSING
    return "", "", "", f"{len(ratios)} of {passes}", "", "", mean


def _runs(bounds: Sequence[Limit], answers: Sequence[Answer]) -> Iterator[tuple[str, Answer]]:
    """Neighbouring limits with the same answer as one; `bounds` rise and end without a limit."""
    for answer, group in groupby(zip(bounds, answers, strict=True), key=lambda pair: pair[1]):
        limits = [bound for bound, _ in group]
        yield _range(limits, len(limits) == len(bounds)), answer


def _range(limits: Sequence[Limit], everything: bool) -> str:
    first, last = limits[0], limits[-1]
    if everything or first is None:
        return "any" if everything else "no limit"
    if last is None:
        return f"≥ {format_size(first)}"
    return " – ".join(dict.fromkeys(map(format_size, (first, last))))
