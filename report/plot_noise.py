"""Noise and clocks: how far the same call scatters, how wide the intervals are, and what the clock did."""

from __future__ import annotations

from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

from convbench.record import Status
from convbench.statistics import noise_floor
from convbench.store import Contents

from .drawing import empty, label_all, legend, log_time, panels, plain
from .ranking import Ranking, rows_of, the_ranking
from .theme import INK, SOFT, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST = 1e-3  # percent: below this a pair is as good as equal


def noise_figure(contents: Contents, cells: pd.DataFrame, layers: pd.DataFrame) -> Figure:
    """Of one scope: A/A pairs, intervals, and clocks where they are known. ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        rows = _rows(cells, ranking) if ranking else []
        if ranking is None or not rows:
            return empty("no timed cell")
        clocked = [row for row in rows if _number(row.clock_mhz) and _number(row.watts)]
        figure, axes = panels(4.2, 3 if clocked else 2)
        styles = looks([str(name) for name in cells["algorithm"]])
        _pairs(axes[0], [line for line in contents.noise if line["environment"] == ranking.scope.environment])
        _intervals(axes[1], rows, styles)
        if clocked:
            _clocks(axes[2], clocked, styles)
        handles, names = axes[1].get_legend_handles_labels()
        legend(figure, handles, names, f"Noise and clocks ({label_all(ranking.label)})")
        return figure


def _rows(cells: pd.DataFrame, ranking: Ranking) -> list[Any]:
    return [row for row in rows_of(cells, ranking.scope) if row.status == Status.OK]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _pairs(axes: Axes, lines: list[dict[str, Any]]) -> None:
    """Every A/A pair by size, and the floor that a difference must exceed to count."""
    axes.set_title("the same call measured twice", loc="left", fontsize=8.5, color=SOFT)
    axes.set_ylabel("difference, % of the time")
    axes.set_xlabel("share of the A/A pairs, %")
    if not lines:
        axes.text(0.5, 0.5, "nothing was measured twice", transform=axes.transAxes, ha="center", color=SOFT)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    errors = sorted(max(SMALLEST, 100 * abs(line["ratio"] - 1)) for line in lines)
    shares = [100 * (i + 1) / len(errors) for i in range(len(errors))]
    axes.plot(shares, errors, "o", color=INK, markersize=4)
    axes.set_yscale("log")
    log_time(axes.yaxis)
    floor = 100 * noise_floor([line["ratio"] for line in lines])
    if not isnan(floor) and floor > 0:
        axes.axhline(floor, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"noise floor {floor:.2f} %", (0, floor), (2, 4), textcoords="offset points", fontsize=8
        )
    axes.set_xlim(-3, 105)


def _intervals(axes: Axes, rows: list[Any], styles: Any) -> None:
    axes.set_title("width of the 95 % intervals", loc="left", fontsize=8.5, color=SOFT)
    axes.set_ylabel("half the width, % of the time")
    axes.set_xlabel("time per call, ms (whole batch)")
    known = [row for row in rows if _number(row.lo_ms) and _number(row.hi_ms)]
    if not known:
        axes.text(0.5, 0.5, "too few rounds for intervals", transform=axes.transAxes, ha="center", color=SOFT)
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name in sorted({str(row.algorithm) for row in known}):
        own = [row for row in known if row.algorithm == name]
        width = [max(SMALLEST, 50 * (row.hi_ms - row.lo_ms) / row.time_ms) for row in own]
        _dots(axes, [row.time_ms for row in own], width, styles[name], name)
    for axis in (axes.xaxis, axes.yaxis):
        _decades(axis)


def _clocks(axes: Axes, rows: list[Any], styles: Any) -> None:
    axes.set_title("clock and power while timed", loc="left", fontsize=8.5, color=SOFT)
    axes.set_ylabel("SM clock, MHz (median)")
    axes.set_xlabel("power of the whole board, W (mean)")
    for name in sorted({str(row.algorithm) for row in rows}):
        own = [row for row in rows if row.algorithm == name]
        _dots(axes, [row.watts for row in own], [row.clock_mhz for row in own], styles[name], name)


def _dots(axes: Axes, x: list[float], y: list[float], look: Any, name: str) -> None:
    axes.plot(
        x,
        y,
        look.marker,
        color=look.color,
        markerfacecolor=look.face,
        markersize=4.2,
        alpha=0.75,
        label=label(name),
    )


def _decades(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
