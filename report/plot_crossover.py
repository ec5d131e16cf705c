"""Crossover maps: where each family wins over filter size, channels, image and batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from .drawing import empty, label_all, legend, log_time, panels
from .grids import Grid, lines, maps
from .ranking import Ranking, the_ranking
from .tables import significant
from .theme import BAND, GRID, INK, SOFT, Look, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_NAMES = {
    "filter size": "filter size R = S, pixels",
    "channels": "input channels C (K grows alike)",
    "image size": "image size H = W, pixels",
    "batch": "batch N",
}
# What a reader who types no names calls them; plug-ins keep theirs.
FAMILIES = {
    "im2col": "im2col + GEMM",
    "implicit": "implicit GEMM",
    "fft": "FFT",
    "winograd": "Winograd",
    "cudnn": "cuDNN's named algorithms",
    "cudnn-graph": "cuDNN's engines",
    "torch": "PyTorch",
    "jax": "JAX",
}
RATIO_AXIS = "time / time of the fastest"
RUNNER_UP = "next time / winner's"
NOT_MEASURED = "not measured"
FAR = 30.0  # a ratio beyond this says no more than "far behind"
NO_GRID = "no grid of layers that several algorithms solve; run grid-filter, grid-batch or grid-map for one"


def crossover_figure(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> Figure:
    """One panel for each size that the layers vary alone. ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        grids = lines(contested(ranking, direction)) if ranking else []
        if ranking is None or not grids:
            return empty(NO_GRID)
        styles = looks([str(name) for name in cells["algorithm"]])
        columns = min(2, len(grids))
        rows = -(-len(grids) // columns)
        figure, axes = panels(1.2 + 3.4 * rows, columns, rows)
        for grid, one in zip(grids, axes, strict=False):
            _line(one, ranking, grid, direction, styles)
        for unused in axes[len(grids) :]:
            unused.set_axis_off()
        _explain(figure, axes, f"Where each algorithm wins, {direction} ({label_all(ranking.label)})")
        return figure


def map_figure(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> Figure:
    """Two sizes at once: the winner of each place, and by how much. ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        grids = maps(solved(ranking, direction)) if ranking else []
        if ranking is None or not grids or not contested(ranking, direction):
            return empty(NO_GRID)
        styles = looks([str(name) for name in cells["algorithm"]])
        columns = min(2, len(grids))
        rows = -(-len(grids) // columns)
        figure, axes = panels(1.2 + 3.6 * rows, columns, rows)
        won = [_map(one, ranking, grid, direction, styles) for grid, one in zip(grids, axes, strict=False)]
        for unused in axes[len(grids) :]:
            unused.set_axis_off()
        names = sorted(set().union(*won))
        title = f"Who wins, {direction} ({label_all(ranking.label)})"
        shown = {family(name): _patch(styles[name]) for name in names}
        if not all(grid.whole for grid in grids):
            shown[NOT_MEASURED] = _gap()
        legend(figure, list(shown.values()), list(shown), f"{title}; number: {RUNNER_UP}")
        return figure


def family(name: str) -> str:
    """An algorithm as a legend of families calls it."""
    return FAMILIES.get(name, label(name))


def solved(ranking: Ranking, direction: str) -> list[str]:
    """Problems that some algorithm solves."""
    tried = (problem for problem, along in ranking.cells if along == direction)
    return [problem for problem in tried if ranking.fastest(problem, direction)]


def contested(ranking: Ranking, direction: str) -> list[str]:
    """Problems that several algorithms solve."""
    return [one for one in solved(ranking, direction) if len(ranking.fastest(one, direction)) > 1]


# ---- one size ----------------------------------------------------------------------------------------------


def _line(axes: Axes, ranking: Ranking, grid: Grid, direction: str, styles: dict[str, Look]) -> None:
    values = grid.values(0)
    found = {value: ranking.fastest(grid.places[(value,)], direction) for value in values}
    names = sorted({entry.algorithm for entries in found.values() for entry in entries})
    for name in names:
        own = [
            (i, min(FAR, entry.ms / found[value][0].ms))
            for i, value in enumerate(values)
            for entry in found[value]
            if entry.algorithm == name
        ]
        look = styles[name]
        axes.plot(
            *zip(*own, strict=True), color=look.color, linestyle=look.dash, marker=look.marker,
            markerfacecolor=look.face, markersize=5, linewidth=1.4, label=family(name),
        )  # fmt: skip
    axes.set_yscale("log")
    highest = max(axes.get_ylim()[1], 2.2)
    axes.set_ylim(0.72, min(highest, FAR * 1.3))
    log_time(axes.yaxis)
    axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xlabel(AXIS_NAMES[grid.axes[0]])
    axes.set_ylabel(RATIO_AXIS)
    axes.set_title(grid.fixed, loc="left", fontsize=8.5, color=SOFT)
    _strip(axes, [found[value][0].algorithm for value in values], styles)


def _strip(axes: Axes, winners: Sequence[str], styles: dict[str, Look]) -> None:
    """Who wins where, as a band of colours and hatches below the lines."""
    for i, name in enumerate(winners):
        axes.axvspan(
            i - 0.5, i + 0.5, 0, 0.055, facecolor=styles[name].color, edgecolor="white",
            hatch=styles[name].hatch, linewidth=0, zorder=2,
        )  # fmt: skip


def _explain(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    """One legend for all panels; a mark stands for its line and, hatched, for its part of the bands."""
    shown: dict[str, Any] = {}
    for one in axes:
        shown |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    names = sorted(shown, key=str.casefold)
    legend(figure, [shown[name] for name in names], names, f"{title}; band: the winner")


# ---- two sizes ---------------------------------------------------------------------------------------------


def _map(axes: Axes, ranking: Ranking, grid: Grid, direction: str, styles: dict[str, Look]) -> set[str]:
    """The winners that were drawn."""
    from matplotlib.patches import Rectangle

    across, up = grid.values(0), grid.values(1)
    won = set()
    for (x, y), problem in grid.places.items():
        first, *rest = ranking.fastest(problem, direction)
        won.add(first.algorithm)
        look, corner = styles[first.algorithm], (across.index(x) - 0.5, up.index(y) - 0.5)
        axes.add_patch(
            Rectangle(corner, 1, 1, facecolor=look.color, edgecolor="white", hatch=look.hatch, linewidth=1.2)
        )
        told = significant(rest[0].ms / first.ms) if rest else "alone"
        axes.text(
            across.index(x), up.index(y), told, ha="center", va="center", fontsize=8, color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.82, "pad": 1.5},
        )  # fmt: skip
    for x, y in product(range(len(across)), range(len(up))):
        if (across[x], up[y]) not in grid.places:
            axes.add_patch(_gap((x - 0.5, y - 0.5)))
    axes.grid(False)
    axes.set_xlim(-0.5, len(across) - 0.5)
    axes.set_ylim(-0.5, len(up) - 0.5)
    axes.set_xticks(range(len(across)), [str(value) for value in across])
    axes.set_yticks(range(len(up)), [str(value) for value in up])
    axes.set_xlabel(AXIS_NAMES[grid.axes[0]])
    axes.set_ylabel(AXIS_NAMES[grid.axes[1]])
    axes.set_title(grid.fixed, loc="left", fontsize=8.5, color=SOFT)
    return won


def _gap(corner: tuple[float, float] = (0, 0)) -> Any:
    """A place without a figure."""
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=BAND, edgecolor=GRID, hatch="////", linewidth=1.2)


def _patch(look: Look) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=look.color, edgecolor="white", hatch=look.hatch)
