"""Time against the workspace limit: what a budget of memory costs a whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .drawing import blank, byte_axis, empty, head, label_all, log_time
from .layers import Layer
from .ranking import Entry, Ranking, the_ranking
from .tables import significant
from .theme import INK, SOFT, Look, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT_AXIS = "workspace limit of every single call"
TOTAL_AXIS = "time of all passes, ms (whole batch; lower is better)"
UNKNOWN = "the libraries' own memory is unknown, so nothing is sure to fit a limit"
BEST = "best per layer"
Passes = Sequence[tuple[Layer, str]]
Curve = list[tuple[int, float]]


def limit_figure(cells: pd.DataFrame, layers: pd.DataFrame, network: str) -> Figure:
    """The network's time under each limit: one algorithm throughout, and the best for each layer and
    direction. A line begins where everything can be done. ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        passes = [p for p in ranking.passes(network) if _of(ranking, *p)] if ranking else []
        if ranking is None or not passes:
            return empty(UNKNOWN if ranking and ranking.cells else "no ranked cell")
        return _draw(ranking, network, passes, looks([str(name) for name in cells["algorithm"]]))


def _draw(ranking: Ranking, network: str, passes: Passes, styles: dict[str, Look]) -> Figure:
    curves = {name: curve(ranking, passes, name) for name in ranking.algorithms}
    curves = {name: found for name, found in curves.items() if found}
    best = curve(ranking, passes, None)
    if not best:
        return empty(UNKNOWN)
    figure, axes = blank(5.2)
    byte_axis(axes, [size for found in (best, *curves.values()) for size, _ in found])
    end = axes.get_xlim()[1]
    for name, found in curves.items():
        look = styles[name]
        _step(axes, found, end, color=look.color, linestyle=look.dash, linewidth=1.5, label=label(name))
    _step(axes, best, end, color=INK, linestyle="-", linewidth=2.6, label=BEST)
    axes.set_yscale("log")
    log_time(axes.yaxis)
    axes.grid(True, axis="both")
    axes.set_xlabel(LIMIT_AXIS)
    axes.set_ylabel(TOTAL_AXIS)
    everything = len(list(ranking.passes(network)))
    left = "" if len(passes) == everything else f"; {len(passes)} of {everything} passes have figures"
    title = f"Time against workspace limit{f': {label(network)}' if network else ''}"
    head(figure, axes, title, f"{label_all(ranking.label)}; {', '.join(ranking.directions)}{left}")
    for size, ms in dict.fromkeys((best[0], best[-1])):
        axes.plot([size], [ms], "o", color=INK, markersize=5, zorder=4)
        axes.annotate(f"{significant(ms)} ms", (size, ms), (4, -12), textcoords="offset points", fontsize=8.5)
    axes.set_ylim(axes.get_ylim()[0] * 0.85)
    return figure


def _of(ranking: Ranking, layer: Layer, direction: str, name: str | None = None) -> list[Entry]:
    entries = ranking.variants(layer.problem, direction)
    return [entry for entry in entries if entry.known and name in (None, entry.algorithm)]


def curve(ranking: Ranking, passes: Passes, name: str | None) -> Curve:
    """(limit, total ms) wherever the total falls; empty where some pass cannot be done at all."""
    choices = [(layer.repeat, _of(ranking, layer, direction, name)) for layer, direction in passes]
    if not all(entries for _, entries in choices):
        return []
    start = max(min(entry.workspace for entry in entries) for _, entries in choices)
    sizes = sorted({entry.workspace for _, entries in choices for entry in entries} | {start})
    found: Curve = []
    for size in (size for size in sizes if size >= start):
        total = sum(repeat * _fastest(entries, size) for repeat, entries in choices)
        if not found or total < found[-1][1]:
            found.append((size, total))
    return found


def _fastest(entries: Sequence[Entry], limit: int) -> float:
    """Entries come fastest first."""
    return next(entry.ms for entry in entries if entry.workspace <= limit)


def _step(axes: Axes, found: Curve, end: float, **style: object) -> None:
    """More workspace may be left unused, so a time holds until a better one fits."""
    x = [*(size for size, _ in found), end]
    y = [*(ms for _, ms in found), found[-1][1]]
    axes.step(x, y, where="post", solid_capstyle="butt", **style)  # type: ignore[arg-type]
    axes.plot(x[:1], y[:1], "|", color=SOFT, markersize=7)
