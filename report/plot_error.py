"""Error against time: what accuracy a faster algorithm costs, over all layers of one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.accuracy import BARS, CLASSES
from convbench.problem import Precision
from convbench.record import Status

from .drawing import blank, empty, head, label_all, log_decades, log_time, points
from .ranking import Ranking, rows_of, the_ranking, unfit
from .theme import INK, SOFT, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIO_AXIS = "time, as a multiple of the fastest ranked variant of the layer (lower is better)"
ERROR_AXIS = "relative L2 error against float64 (lower is better)"


def error_figure(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> Figure:
    """Every timed variant of every layer, also those whose error is too large to be ranked (small and grey).
    ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        rows = _rows(cells, ranking, direction) if ranking else []
        if ranking is None or not rows:
            return empty(f"no verified and timed cell for {direction}")
        figure, axes = blank(5.2)
        _points(axes, ranking, rows, looks([str(name) for name in cells["algorithm"]]))
        _bars(axes, ranking.scope.precision, [row.relative_l2 for row in rows])
        axes.grid(True, axis="both")
        axes.set_xlabel(RATIO_AXIS)
        axes.set_ylabel(ERROR_AXIS)
        subtitle = f"{label_all(ranking.label)}; every variant on every layer, uniform data in [-1, 1]"
        head(figure, axes, f"Error against time, {direction}", subtitle)
        return figure


def _rows(cells: pd.DataFrame, ranking: Ranking, direction: str) -> list[Any]:
    """Timed variants with an error, on layers that have something to be compared with."""
    return [
        row
        for row in rows_of(cells, ranking.scope)
        if row.status == Status.OK and row.direction == direction and not row.selection
        if row.relative_l2 > 0 and ranking.cells.get((row.problem, direction))
    ]


def _points(axes: Axes, ranking: Ranking, rows: list[Any], styles: Any) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name in sorted({str(row.algorithm) for row in rows}):
        own = [row for row in rows if row.algorithm == name and unfit(row) is None]
        x = [_ratio(ranking, row) for row in own]
        points(axes, x, [row.relative_l2 for row in own], styles[name], name)
    lost = [row for row in rows if unfit(row) is not None]
    if lost:
        x = [_ratio(ranking, row) for row in lost]
        axes.plot(x, [row.relative_l2 for row in lost], "x", color=SOFT, markersize=4, label="not ranked")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.9), max(high, 2.2))
    log_time(axes.xaxis)
    log_decades(axes.yaxis)


def _ratio(ranking: Ranking, row: Any) -> float:
    return float(row.time_ms) / ranking.variants(row.problem, row.direction)[0].ms


def _bars(axes: Axes, precision: str, errors: list[float]) -> None:
    """Bars of the accuracy classes that this precision can earn, to the first that no error exceeds."""
    names = CLASSES[Precision(precision)]
    beyond = [BARS[name] for name in names if BARS[name] > max(errors)][:1]
    low, high = axes.get_ylim()
    axes.set_ylim(low, max([high, *(2 * bar for bar in beyond)]))
    for name in (name for name in names if low < BARS[name] < axes.get_ylim()[1]):
        axes.axhline(BARS[name], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"class {name}: up to {BARS[name]:.0e}",
            (1, BARS[name]),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
