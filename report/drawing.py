"""What every plot has in common: the frame, its heading, markers, and a time axis in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import TYPE_CHECKING

from .theme import GRID, INK, SOFT, Look, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 9.6  # inches
LEGEND_WIDTH = 110  # characters


def blank(height: float) -> tuple[Figure, Axes]:
    """A figure of the page's width with one quiet pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, axis="x")
    axes.tick_params(length=0)
    return figure, axes


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
    legend = figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=max(1, min(len(names), LEGEND_WIDTH // (max(map(len, names), default=0) + 6))),
        frameon=False,
        handletextpad=0.2,
        title=title,
        alignment="left",
        title_fontproperties={"size": 12, "weight": "bold"},
    )
    legend.get_title().set_color(INK)
    axes.set_title(subtitle, loc="left", fontsize=8.5, color=SOFT)


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
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{max(0, -floor(log10(value)))}f}"))
    axis.grid(True, color=GRID)
