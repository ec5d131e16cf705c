"""Plots: time per layer and algorithm, and time against workspace for one layer. One plot, one scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .drawing import Tag, blank, byte_axis, empty, head, label_all, log_time, points, tag_all
from .layers import Layer, shape
from .ranking import Entry, Ranking, the_ranking
from .theme import BAND, SOFT, Look, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LAYERS = 60
TIME_AXIS = "time per call, ms (whole batch; lower is better)"
WORKSPACE_AXIS = "workspace (what the harness grants plus what the library takes)"


def suite_figure(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> Figure:
    """Every algorithm's best variant on every layer, with 95 % intervals. ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        if ranking is None or not any(ranking.fastest(x.problem, direction) for x in ranking.layers):
            return empty(f"no ranked cell for {direction}")
        return _suite(ranking, direction, looks([str(name) for name in cells["algorithm"]]))


def workspace_figure(cells: pd.DataFrame, layers: pd.DataFrame, problem: str, direction: str) -> Figure:
    """Every variant's time and workspace on one layer, with the front that no other beats in both; named are
    the front and the best of each algorithm."""
    ranking = the_ranking(cells, layers)
    with settings():
        entries = ranking.variants(problem, direction) if ranking else []
        if ranking is None or not entries:
            return empty(f"no ranked cell for {direction}")
        name = next((layer.title for layer in ranking.layers if layer.problem == problem), problem)
        title = f"Time against workspace: {label(name)}, {direction}"
        return _workspace(entries, looks([str(n) for n in cells["algorithm"]]), title, ranking.label, problem)


def pareto(entries: Sequence[Entry]) -> list[Entry]:
    """Those that no entry beats in both time and workspace, by rising workspace; without unknown shares."""
    front: list[Entry] = []
    for entry in sorted((e for e in entries if e.known), key=lambda e: (e.workspace, e.ms)):
        if not front or entry.ms < front[-1].ms:
            front.append(entry)
    return front


def most_varied(ranking: Ranking) -> tuple[str, str]:
    """The problem and direction with most ranked variants: where a workspace plot has most to show."""
    return max(ranking.cells, key=lambda key: len(ranking.cells[key]))


# ---- time per layer ---------------------------------------------------------------------------------------


def _suite(ranking: Ranking, direction: str, styles: dict[str, Look]) -> Figure:
    rows = ranking.layers[:MOST_LAYERS]
    step = max(0.36, 0.065 * len(ranking.algorithms))
    figure, axes = blank(1.6 + step * len(rows))
    _bands(axes, len(rows))
    for place, name in enumerate(ranking.algorithms):
        shift = (place - (len(ranking.algorithms) - 1) / 2) * 0.72 / len(ranking.algorithms)
        _dots(axes, ranking, rows, direction, name, styles[name], shift)
    axes.set_yticks(range(len(rows)), [_row_name(layer) for layer in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    log_time(axes.xaxis)
    axes.set_xlabel(TIME_AXIS)
    cut = f", first {len(rows)} of {len(ranking.layers)} layers" if len(rows) < len(ranking.layers) else ""
    title = f"Time per layer and algorithm, {direction}{cut}"
    head(figure, axes, title, f"{label_all(ranking.label)}; best variant each, bars: 95 % interval")
    return figure


def _dots(
    axes: Axes, ranking: Ranking, rows: Sequence[Layer], direction: str, name: str, look: Look, shift: float
) -> None:
    """One algorithm's points. Those without an interval carry no bar."""
    entries = {
        i: e
        for i, row in enumerate(rows)
        for e in ranking.fastest(row.problem, direction)
        if e.algorithm == name
    }
    places = [i + shift for i in entries]
    axes.hlines(
        places,
        [e.lo if e.lo is not None else e.ms for e in entries.values()],
        [e.hi if e.hi is not None else e.ms for e in entries.values()],
        colors=look.color,
        linewidth=1.6,
        alpha=0.55,
    )
    points(axes, [e.ms for e in entries.values()], places, look, name)


def _row_name(layer: Layer) -> str:
    return label(layer.title) + (f"  ×{layer.repeat}" if layer.repeat > 1 else "")


def _bands(axes: Axes, rows: int) -> None:
    for i in range(0, rows, 2):
        axes.axhspan(i - 0.5, i + 0.5, color=BAND, linewidth=0, zorder=0)


# ---- workspace --------------------------------------------------------------------------------------------


def _workspace(
    entries: Sequence[Entry], styles: dict[str, Look], title: str, scope: str, problem: str
) -> Figure:
    figure, axes = blank(5.2)
    front, known = pareto(entries), [e for e in entries if e.known]
    byte_axis(axes, [e.workspace for e in known])
    _front(axes, front, axes.get_xlim()[1])
    best: list[Entry] = []
    for name in sorted({e.algorithm for e in known}):
        own = sorted((e for e in known if e.algorithm == name), key=lambda e: e.ms)
        points(axes, [e.workspace for e in own], [e.ms for e in own], styles[name], name)
        best += own[:1]
    _unknown(axes, [e for e in entries if not e.known], styles)
    axes.set_yscale("log")
    log_time(axes.yaxis)
    axes.set_ylabel(TIME_AXIS)
    axes.set_xlabel(WORKSPACE_AXIS)
    axes.grid(True, axis="both")
    head(figure, axes, title, f"{shape(problem)}, {label_all(scope)}; line: the Pareto front")
    named = [Tag(e.workspace, e.ms, e.variant) for e in reversed(front)]
    named += [Tag(e.workspace, e.ms, e.variant, SOFT) for e in best if e not in front]
    tag_all(figure, axes, named, [(e.workspace, e.ms) for e in known])
    return figure


def _front(axes: Axes, front: Sequence[Entry], end: float) -> None:
    """Steps: more workspace may be left unused, so the best time holds until a better one fits."""
    if front:
        x = [*(e.workspace for e in front), end]
        axes.step(
            x, [*(e.ms for e in front), front[-1].ms], where="post", color=SOFT, linewidth=1.3, zorder=1
        )


def _unknown(axes: Axes, entries: Sequence[Entry], styles: dict[str, Look]) -> None:
    """Workspace not known: the best of each algorithm as a level, without a place on the axis."""
    slowest_first = sorted(entries, key=lambda entry: entry.ms, reverse=True)
    for entry in {entry.algorithm: entry for entry in slowest_first}.values():
        look = styles[entry.algorithm]
        axes.axhline(entry.ms, color=look.color, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
        axes.annotate(
            f"{label(entry.name)}: workspace unknown",
            (1, entry.ms),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 4),
            textcoords="offset points",
            fontsize=8,
            ha="right",
            color=look.color,
        )
