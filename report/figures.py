"""Every plot by kind: one drawing for each scope, and where it matters for each direction or network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convbench.errors import CannotRunError, UsageError, one_line
from convbench.frame import cells_frame, layers_frame
from convbench.store import Contents

from .grids import lines, maps
from .plot_crossover import NO_GRID, contested, crossover_figure, map_figure
from .plot_error import error_figure
from .plot_limit import limit_figure
from .plot_noise import noise_figure
from .plot_roofline import roofline_figure
from .plots import most_varied, suite_figure, workspace_figure
from .ranking import NOTHING, Ranking, rankings, split
from .theme import save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Part(NamedTuple):
    """The cells of one scope, and the layer that a plot of one layer is to show."""

    contents: Contents
    cells: pd.DataFrame
    layers: pd.DataFrame
    ranking: Ranking
    layer: str | None

    @property
    def directions(self) -> list[str]:
        return [d for d in self.ranking.directions if any(d == along for _, along in self.ranking.cells)]


Drawn = Iterator[tuple[str, "Figure"]]  # file name without its ending, drawing


def draw(contents: Contents, kinds: Sequence[str], folder: Path, layer: str | None = None) -> list[Path]:
    """Write the plots of these kinds as SVG and PNG; the SVGs' paths."""
    cells, layers = cells_frame(contents), layers_frame(contents)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(split(cells, layers), start=1):
            suffix = f"-{number}" if number > 1 else ""
            for ranking in rankings(part, layers):
                held = Part(contents, part, layers, ranking, layer)
                for kind in kinds:
                    written += [
                        save(figure, folder / f"{stem}{suffix}") for stem, figure in KINDS[kind](held)
                    ]
    except OSError as error:
        shown = one_line(str(folder))
        raise CannotRunError(f"cannot write into '{shown}': {error.strerror}; name another folder") from error
    if not written:
        raise CannotRunError(NO_GRID if kinds == ["crossover"] else NOTHING)
    return written


def _time(part: Part) -> Drawn:
    for direction in part.directions:
        yield f"time_{direction}", suite_figure(part.cells, part.layers, direction)


def _pareto(part: Part) -> Drawn:
    """The layer that was asked for in every direction, or the one with most variants."""
    if part.layer is None:
        problem, direction = most_varied(part.ranking)
        yield "pareto", workspace_figure(part.cells, part.layers, problem, direction)
        return
    for problem in dict.fromkeys(_named(part)):
        for direction in part.directions:
            if (problem, direction) in part.ranking.cells:
                figure = workspace_figure(part.cells, part.layers, problem, direction)
                yield f"pareto_{direction}", figure


def _named(part: Part) -> list[str]:
    found = [line.problem for line in part.ranking.layers if part.layer in (line.name, line.problem)]
    if not found:
        names = ", ".join(line.title for line in part.ranking.layers[:8])
        raise UsageError(f"no layer '{one_line(str(part.layer))}' in these results; there are {names}, ...")
    return found[:1]


def _error(part: Part) -> Drawn:
    for direction in part.directions:
        yield f"error_{direction}", error_figure(part.cells, part.layers, direction)


def _roofline(part: Part) -> Drawn:
    for direction in part.directions:
        yield f"roofline_{direction}", roofline_figure(part.cells, part.layers, direction)


def _crossover(part: Part) -> Drawn:
    for direction in part.directions:
        problems = contested(part.ranking, direction)
        if lines(problems):
            yield f"crossover_{direction}", crossover_figure(part.cells, part.layers, direction)
        if maps(problems):
            yield f"map_{direction}", map_figure(part.cells, part.layers, direction)


def _limit(part: Part) -> Drawn:
    for number, network in enumerate(part.ranking.networks):
        stem = f"limit_{number + 1}" if len(part.ranking.networks) > 1 else "limit"
        yield stem, limit_figure(part.cells, part.layers, network)


def _noise(part: Part) -> Drawn:
    yield "noise", noise_figure(part.contents, part.cells, part.layers)


KINDS: Mapping[str, Callable[[Part], Drawn]] = {
    "time": _time,
    "pareto": _pareto,
    "error": _error,
    "roofline": _roofline,
    "crossover": _crossover,
    "limit": _limit,
    "noise": _noise,
}
