"""From a result folder to the passes of one network: one scope, the wanted algorithms, batches in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from convbench.accuracy import BARS
from convbench.errors import CannotRunError, UsageError, one_line, unknown
from convbench.plan import Option, Pass, Step
from convbench.plan_pieces import pieces
from convbench.problem import Direction, Problem

if TYPE_CHECKING:
    import pandas as pd

    from convbench.report.layers import Layer
    from convbench.report.ranking import Entry, Ranking

FIELDS = ("device", "figure", "precision", "layout", "regime", "preset", "environment")
"""What makes a scope; each is an option of the command."""
SPLIT = (Direction.FWD, Direction.BWD_DATA)


@dataclass(frozen=True)
class Wishes:
    """What may be chosen. None or nothing: whatever the results hold."""

    scope: dict[str, str | None]
    network: str | None = None
    batch: int | None = None
    directions: tuple[Direction, ...] = ()
    algorithms: tuple[str, ...] = ()
    accuracy: str | None = None
    split: bool = True


@dataclass(frozen=True)
class Network:
    """A network in one scope, with every way to do each pass that the wishes leave."""

    name: str
    ranking: Ranking
    directions: tuple[str, ...]
    passes: tuple[Pass, ...]


def network(cells: pd.DataFrame, layers: pd.DataFrame, wishes: Wishes) -> Network:
    """The one network of one scope that the wishes name; UsageError says which option decides."""
    ranking = _scope(cells, layers, wishes.scope)
    _known(wishes, ranking)
    name, members = _members(ranking, wishes)
    directions = wishes.directions or tuple(Direction(name) for name in ranking.directions)
    for direction in directions:
        if direction not in ranking.directions:
            raise unknown("direction in these results", direction, ranking.directions)
    batches = _batches(ranking) if wishes.split else {}
    passes = [
        Pass(
            layer.title,
            layer.problem,
            direction,
            layer.repeat,
            _options(ranking, batches, layer, direction, wishes),
        )
        for layer in members
        for direction in directions
    ]
    return Network(name, ranking, tuple(map(str, directions)), tuple(passes))


# ---- one scope ---------------------------------------------------------------------------------------------


def _scope(cells: pd.DataFrame, layers: pd.DataFrame, wanted: dict[str, str | None]) -> Ranking:
    from convbench.report.ranking import NOTHING, rankings

    for field, value in wanted.items():
        if value is not None:
            cells = _with(cells, field, value)
    found = rankings(cells, layers)
    if not found:
        raise CannotRunError(NOTHING)
    if len(found) > 1:
        raise UsageError(f"one plan is for one kind of figure; choose with {_differences(found)}")
    return found[0]


def _with(cells: pd.DataFrame, field: str, value: str) -> pd.DataFrame:
    """The cells with this value. One that was not timed has no figure and belongs to all of them."""
    held = sorted({str(one) for one in cells[field].dropna()})
    if value not in held:
        raise unknown(f"{field} in these results", value, map(one_line, held))
    return cells[(cells[field] == value) | cells[field].isna()]


def _differences(found: Sequence[Ranking]) -> str:
    """The options that tell these scopes apart, each with its values."""
    values = {field: sorted({getattr(one.scope, field) for one in found}) for field in FIELDS}
    parts = [f"--{field} {'|'.join(map(one_line, some))}" for field, some in values.items() if len(some) > 1]
    return " ".join(parts)


def _known(wishes: Wishes, ranking: Ranking) -> None:
    from convbench.report.ranking import RANKED

    for name in wishes.algorithms:
        if name not in ranking.algorithms:
            raise unknown("ranked algorithm in these results", name, ranking.algorithms)
    classes = RANKED[ranking.scope.precision]
    if wishes.accuracy and wishes.accuracy not in classes:
        raise unknown(f"accuracy class that {ranking.scope.precision} ranks", wishes.accuracy, classes)


# ---- one network -------------------------------------------------------------------------------------------


def _members(ranking: Ranking, wishes: Wishes) -> tuple[str, list[Layer]]:
    """A network that was run at several batches is several networks, named `vgg-16, N=32`."""
    found = {name: ranking.members(name) for name in ranking.networks}
    if wishes.network is not None:
        asked = wishes.network
        chosen = {
            name: some for name, some in found.items() if name == asked or name.startswith(f"{asked}, N=")
        }
        if not chosen:
            raise unknown("network in these results", asked, map(_called, found))
        found = chosen
    if wishes.batch is not None:
        sizes = {name: {Problem.parse(one.problem).n for one in some} for name, some in found.items()}
        chosen = {name: some for name, some in found.items() if sizes[name] == {wishes.batch}}
        if not chosen:
            held = ", ".join(map(str, sorted(set().union(*sizes.values()))))
            raise UsageError(f"no network at batch {wishes.batch}; the results hold N = {held}")
        found = chosen
    if len(found) > 1:
        names = "; ".join(map(_called, found))
        raise UsageError(
            f"one plan is for one network at one batch; choose with --network and --batch: {names}"
        )
    return next(iter(found.items()))


def _called(name: str) -> str:
    return one_line(name) or "''"  # problems without a suite


# ---- the ways to do a pass ---------------------------------------------------------------------------------

Batches = dict[tuple[Problem, str], list[int]]


def _batches(ranking: Ranking) -> Batches:
    """For each problem at batch 1 and direction, the batches that were measured."""
    found: Batches = {}
    for text, direction in ranking.cells:
        problem = Problem.parse(text)
        found.setdefault((problem.with_(n=1), direction), []).append(problem.n)
    return found


def _options(
    ranking: Ranking, batches: Batches, layer: Layer, direction: Direction, wishes: Wishes
) -> tuple[Option, ...]:
    whole = _cells(ranking, layer.problem, direction, wishes)
    if direction not in SPLIT:  # the pieces of a filter's gradient would have to be summed: not measured
        return tuple(whole)
    problem = Problem.parse(layer.problem)
    smaller = {
        n: some
        for n in batches.get((problem.with_(n=1), direction.value), ())
        if n < problem.n and (some := _cells(ranking, str(problem.with_(n=n)), direction, wishes))
    }
    names = {option.steps[0].entry.algorithm for some in smaller.values() for option in some}
    alone = [pieces(problem.n, _own(smaller, name)) for name in sorted(names)] if len(names) > 1 else []
    return (*whole, *pieces(problem.n, smaller), *chain.from_iterable(alone))


def _own(smaller: Mapping[int, Sequence[Option]], name: str) -> dict[int, list[Option]]:
    """What one algorithm has; a batch is also cut for each alone, to show what it can do by itself."""
    own = {n: [o for o in some if o.steps[0].entry.algorithm == name] for n, some in smaller.items()}
    return {n: some for n, some in own.items() if some}


def _cells(ranking: Ranking, problem: str, direction: str, wishes: Wishes) -> list[Option]:
    return [
        Option(entry.ms, entry.workspace if entry.known else None, (Step(entry),))
        for entry in ranking.variants(problem, direction)
        if _wanted(entry, wishes)
    ]


def _wanted(entry: Entry, wishes: Wishes) -> bool:
    if wishes.algorithms and entry.algorithm not in wishes.algorithms:
        return False
    return wishes.accuracy is None or BARS[entry.accuracy] <= BARS[wishes.accuracy]
