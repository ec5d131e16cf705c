"""Plots: time per layer and algorithm, and time against workspace for one layer. One plot, one scope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .drawing import blank, byte_axis, empty, head, label_all, log_time, points
from .layers import Layer, shape
from .plot_tags import Room, Tag, around
from .ranking import Entry, Ranking, the_ranking
from .theme import BAND, SOFT, Look, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LAYERS = 60
TIME_AXIS = "time per call, ms (whole batch; lower is better)"
WORKSPACE_AXIS = "workspace (what the harness grants plus what the library takes)"
UNKNOWN = 0.22  # the width of the column of unknown workspaces, as a share of that of the others
BELOW, BESIDE = (10, 9, 11, 12, 8, 1, 0), (0, 1, 15, 2, 14)  # where names stand best, see `around`


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
    figure, axes = blank(6)
    front, known = pareto(entries), [e for e in entries if e.known]
    byte_axis(axes, [e.workspace for e in known])
    end = axes.get_xlim()[1]
    line = _front(axes, front, end)
    # Of those whose workspace is not known only the time can be shown, and of many the best says enough.
    shown = [*known, *_best(e for e in entries if not e.known)]
    unknown = _unknown(axes, end) if len(shown) > len(known) else end
    places = {e: _Place(e.workspace if e.known else unknown, e.ms) for e in shown}
    for name in sorted({e.algorithm for e in shown}):
        own = [places[e] for e in shown if e.algorithm == name]
        points(axes, [p.x for p in own], [p.y for p in own], styles[name], name)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.8, high)  # below the front is room for its names
    log_time(axes.yaxis)
    axes.set_ylabel(TIME_AXIS)
    axes.set_xlabel(WORKSPACE_AXIS)
    axes.grid(True, axis="both")
    head(figure, axes, title, f"{shape(problem)}, {label_all(scope)}; line: the Pareto front")
    room = Room(figure, axes, places.values(), [line] if line else [])
    named = [Tag(*places[e], e.name, needed=True, until=end) for e in reversed(front)]
    room.write(named, around(BELOW))
    others = [e for e in _best(shown) if e not in front]
    room.write(
        [Tag(*places[e], e.name, SOFT, until=end if e.known else None) for e in others], around(BESIDE, 56)
    )
    return figure


class _Place(NamedTuple):
    x: float
    y: float


def _best(entries: Iterable[Entry]) -> list[Entry]:
    """The fastest of each algorithm."""
    slowest_first = sorted(entries, key=lambda entry: entry.ms, reverse=True)
    return sorted({e.algorithm: e for e in slowest_first}.values(), key=lambda e: e.algorithm)


def _front(axes: Axes, front: Sequence[Entry], end: float) -> list[tuple[float, float]]:
    """Steps: more workspace may be left unused, so the best time holds until a better one fits."""
    line: list[tuple[float, float]] = []
    for entry in front:
        line += [(entry.workspace, line[-1][1] if line else entry.ms), (entry.workspace, entry.ms)]
    if line:
        line.append((end, line[-1][1]))
        axes.plot(*zip(*line, strict=True), color=SOFT, linewidth=1.3, zorder=1)
    return line


def _unknown(axes: Axes, end: float) -> float:
    """A column of its own, right of all sizes; where its marks stand, with most of it for their names."""
    scale = axes.xaxis.get_transform()
    left, right = scale.transform([axes.get_xlim()[0], end])
    middle, edge = scale.inverted().transform(
        [right + part * (right - left) for part in (UNKNOWN / 3, UNKNOWN)]
    )
    axes.set_xlim(axes.get_xlim()[0], edge)
    axes.axvspan(end, edge, color=BAND, linewidth=0, zorder=0)
    names = [text.get_text() for text in axes.get_xticklabels()]
    axes.set_xticks([*axes.get_xticks(), middle], [*names, "unknown"])
    return float(middle)
