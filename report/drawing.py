"""What every plot has in common: the frame, its heading, markers, and a time axis in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log, log10
from typing import TYPE_CHECKING, Any

from convbench.sizes import format_size

from .theme import GRID, INK, SOFT, Look, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 9.6  # inches
LEGEND_WIDTH = 110  # characters
KIB, MIB = 2**10, 2**20


def blank(height: float) -> tuple[Figure, Axes]:
    """A figure of the page's width with one quiet pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, axis="x")
    axes.tick_params(length=0)
    return figure, axes


def panels(height: float, columns: int, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width with several axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.grid(True)
        axes.tick_params(length=0)
    return figure, list(grid.flat)


def empty(reason: str) -> Figure:
    """What stands in for a plot without data."""
    figure, axes = blank(1.6)
    axes.set_axis_off()
    axes.text(0.5, 0.5, reason, ha="center", va="center", color=SOFT)
    return figure


def points(axes: Axes, x: Sequence[float], y: Sequence[float], look: Look, name: str) -> None:
    """One algorithm's markers, named in the legend."""
    axes.plot(
        x,
        y,
        look.marker,
        color=look.color,
        markerfacecolor=look.face,
        markersize=6.2,
        label=label(name),
        zorder=3,
    )


def head(figure: Figure, axes: Axes, title: str, subtitle: str) -> None:
    """Title and legend above the axes, and what was measured right on top of them."""
    handles, names = axes.get_legend_handles_labels()
    legend(figure, handles, names, title)
    axes.set_title(subtitle, loc="left", fontsize=8.5, color=SOFT)


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], title: str) -> None:
    """The title, and below it what the marks mean, above all axes."""
    shown = figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=max(1, min(len(names), LEGEND_WIDTH // (max(map(len, names), default=0) + 6))),
        frameon=False,
        handletextpad=0.4,
        title=title,
        alignment="left",
        title_fontproperties={"size": 12, "weight": "bold"},
    )
    shown.get_title().set_color(INK)


def label_all(text: str) -> str:
    """A list of names, each as a plot can show it."""
    return ", ".join(label(part) for part in text.split(", "))


def log_time(axis: Axis) -> None:
    """Decades with as many steps between them as there is room for, in plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    decades = log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=24))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.grid(True, color=GRID)


def log_decades(axis: Axis) -> None:
    """Decades written as 1e-6."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=16))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{round(log10(value))}"))


def byte_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """A horizontal axis of bytes with room for zero, and for no more decades than these sizes take."""
    used = [size for size in sizes if size > 0] or [MIB]
    start = max(KIB, 4 ** floor(log(min(used), 4)))
    end = max(4 * max(used), 64 * start)
    axes.set_xscale("symlog", base=2, linthresh=start, linscale=0.6)
    axes.set_xlim(-0.18 * start, end)
    steps = [start * 4**i for i in range(32) if start * 4**i <= end]
    ticks = [0, *steps[:: 1 + len(steps) // 10]]
    axes.set_xticks(ticks, [format_size(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def plain(value: float) -> str:
    """A tick of a logarithmic axis without an exponent."""
    return f"{value:,.{max(0, -floor(log10(value)))}f}"
