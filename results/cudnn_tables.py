"""What docs/cudnn.md and docs/findings.md say of cuDNN alone: python results/cudnn_tables.py NAME."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from cells import MIB, MISSING, Row, contents, geometric, load, show, titles
from convbench.report.ranking import RANKED, Entry, Ranking, rankings
from convbench.report.rivals import Duel, Ratio
from convbench.report.selection import Choices, Chooser, choices_of
from convbench.report.tables import significant

from convbench.api import Direction
from convbench.fleet import as_one_machine
from convbench.frame import cells_frame, layers_frame
from convbench.sizes import format_size

FOLDER = "h200-cudnn"
PICK = Chooser("cudnn", "heuristic")
SIZES = (0, MIB, 16 * MIB, 64 * MIB, 256 * MIB, None)


class Place(NamedTuple):
    """One pass under one limit: the library's pick and its best."""

    layer: str
    direction: str
    pick: Entry
    best: Entry

    @property
    def cost(self) -> Ratio:
        pick, best = self.pick, self.best
        if pick.variant == best.variant:
            return Ratio(1.0, 1.0, 1.0)
        return Duel(self.layer, self.direction, best, pick).ratio


def scopes() -> Iterator[tuple[Ranking, Choices]]:
    """For each precision and layout the machine that measured most of it, and what was chosen there."""
    cells = cells_frame(as_one_machine(contents(FOLDER)))
    found: dict[tuple[str, str], Ranking] = {}
    for ranking in rankings(cells, layers_frame(contents(FOLDER))):
        how = ranking.scope.precision, ranking.scope.layout
        if how not in found or len(ranking.cells) > len(found[how].cells):
            found[how] = ranking
    yield from ((ranking, choices_of(cells, ranking)) for ranking in found.values())


def places(ranking: Ranking, choices: Choices, chooser: Chooser, bound: int | None) -> Iterator[Place]:
    """The passes on which the pick could be timed."""
    for layer, direction in ranking.passes():
        best = choices.best(layer.problem, direction, bound)
        pick = choices.pick(chooser, layer.problem, direction, bound).entry
        if best is not None and pick is not None:
            yield Place(layer.title, direction, pick, best)


def costs(choosers: tuple[Chooser, ...], sizes: tuple[int | None, ...]) -> Iterator[Row]:
    """Geometric means of pick over best under each limit; without choosers, for all there are."""
    limits = ("no limit" if size is None else format_size(size) for size in sizes)
    yield "precision", "layout", "chooser", *limits
    for ranking, choices in scopes():
        passes = len(list(ranking.passes()))
        for chooser in choices.choosers:
            if chooser in (choosers or choices.choosers):
                found = ([one.cost for one in places(ranking, choices, chooser, size)] for size in sizes)
                how = ranking.scope.precision, ranking.scope.layout, " ".join(chooser)
                yield *how, *(_mean(ratios, passes) for ratios in found)


def _mean(ratios: list[Ratio], passes: int) -> str:
    if not ratios:
        return MISSING
    return geometric(ratios) + (f" · {len(ratios)} of {passes}" if len(ratios) < passes else "")


def worst_picks() -> Iterator[Row]:
    """For each precision and layout where the heuristic errs most, with no workspace and without a limit."""
    yield "precision", "layout", "workspace", "layer", "direction", "picked", "ms", "best", "ms", "factor"
    for ranking, choices in scopes():
        for size, title in ((0, "none"), (None, "no limit")):
            found = list(places(ranking, choices, PICK, size))
            if found:
                worst = max(found, key=lambda one: one.cost.value)
                pick, best = worst.pick, worst.best
                sides = (text for one in (pick, best) for text in (one.name, _ms(one)))
                how = ranking.scope.precision, ranking.scope.layout, title, worst.layer, worst.direction
                yield *how, *sides, significant(worst.cost.value)


def _ms(one: Entry) -> str:
    return f"{one.ms:.3f} ({one.lo or one.ms:.3f} – {one.hi or one.ms:.3f})"


def inaccurate() -> Iterator[Row]:
    """Algorithms and engines less accurate than their precision asks for, each with its worst."""
    yield "variant", "precision", "direction", "cells", "worst on", "layout", "relative L2 error", "class"
    cells = load(FOLDER)
    allowed = [cell.accuracy in RANKED[cell.precision] for cell in cells.itertuples()]
    cells = cells[[not one for one in allowed]]
    stem = cells.algorithm + "/" + cells.variant.str.replace(r"[+_]([a-z].*)", "", regex=True)
    for (name, precision, direction), group in cells.groupby([stem, "precision", "direction"]):
        worst = group.loc[group.relative_l2.idxmax()]
        where = titles(FOLDER)[worst.problem], worst.layout
        figures = f"{worst.relative_l2:.1e}", worst.accuracy
        yield name, precision, direction, str(len(group)), *where, *figures


def strict_accuracy() -> Iterator[Row]:
    """Errors of cuDNN's Winograd where fp32 was asked for strictly."""
    yield "layer", "direction", "variant", "relative L2 error", "class"
    cells = load(FOLDER)
    cells = cells[(cells.precision == "fp32") & cells.variant.str.contains("WINOGRAD")]
    for cell in cells.sort_values("relative_l2", ascending=False).head(6).itertuples():
        layer = titles(FOLDER)[cell.problem]
        yield layer, cell.direction, cell.variant, f"{cell.relative_l2:.1e}", cell.accuracy


def tf32() -> Iterator[Row]:
    """Errors of the engines of cuDNN that were asked for TF32."""
    yield "direction", "engines x layers", "median error", "largest error"
    cells = load(FOLDER)
    cells = cells[(cells.precision == "tf32") & (cells.layout == "nchw") & (cells.algorithm == "cudnn-graph")]
    for direction in Direction:
        errors = cells[cells.direction == direction].relative_l2
        yield direction.value, str(len(errors)), f"{errors.median():.1e}", f"{errors.max():.1e}"


def engines() -> Iterator[Row]:
    """Engines of cuDNN's graph API that were timed in strict fp32, nchw, and what their notes call them."""
    yield "direction", "note", "engines", "timed on", "fastest of cuDNN-graph on"
    cells = load(FOLDER)
    cells = cells[(cells.precision == "fp32") & (cells.layout == "nchw") & (cells.algorithm == "cudnn-graph")]
    details = contents(FOLDER).cells
    notes = cells.key.map(lambda key: details[key].details["family"])
    best = cells.loc[cells.groupby(["problem", "direction"]).time_ms.idxmin()]
    for (direction, note), group in cells.groupby(["direction", notes]):
        numbers = sorted({int(name.partition("_")[0].removeprefix("eng")) for name in group.variant})
        won = best.key.isin(group.key).sum()
        layers = f"{group.problem.nunique()} layers", f"{won} layers"
        yield str(direction), str(note), ", ".join(map(str, numbers)), *layers


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "heuristic": partial(costs, (PICK,), (0, MIB, 64 * MIB, 256 * MIB, None)),
    "choosers": partial(costs, (), SIZES),
    "worst-picks": worst_picks,
    "inaccurate": inaccurate,
    "strict-accuracy": strict_accuracy,
    "tf32": tf32,
    "engines": engines,
}


if __name__ == "__main__":
    show(TABLES, sys.argv[1])
