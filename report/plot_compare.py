"""What changed between two runs, as one plot: each cell's ratio of times with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

from convbench.compare import Comparison, Pair, State

from .drawing import blank, empty, head
from .layers import shape
from .theme import BAND, GRID, INK, OKABE_ITO, SOFT, label, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 50
RATIO_AXIS = "time of B / time of A (above 1: B is slower)"
BARS = "bars: from 99 % intervals, band: no change"
MARKS = {
    State.SLOW: (OKABE_ITO[1], "v"),
    State.FAST: (OKABE_ITO[0], "^"),
    State.AMBIGUOUS: (SOFT, "D"),
    State.SAME: (SOFT, "o"),
}


def compare_figure(found: Comparison, names: tuple[str, str]) -> Figure:
    """The pairs with a ratio, the largest changes of either sign where there are too many."""
    pairs = [pair for pair in found.pairs if pair.ratio is not None and pair.ratio.value > 0]
    with settings():
        if not pairs:
            return empty("no cell was timed on both sides")
        kept = sorted(pairs, key=lambda pair: -abs(_change(pair)))[:MOST_ROWS]
        return _draw(sorted(kept, key=_change, reverse=True), len(pairs), names)


def _change(pair: Pair) -> float:
    return log(pair.ratio.value) if pair.ratio else 0.0


def _draw(pairs: Sequence[Pair], of: int, names: tuple[str, str]) -> Figure:
    figure, axes = blank(1.9 + 0.21 * len(pairs))
    delta = max((pair.delta for pair in pairs if pair.delta == pair.delta), default=0.0)
    axes.axvspan(1 / (1 + delta), 1 + delta, color=BAND, linewidth=0, zorder=0)
    axes.axvline(1, color=INK, linewidth=0.9, zorder=1)
    for state, (color, marker) in MARKS.items():
        own = [(i, pair) for i, pair in enumerate(pairs) if pair.state is state]
        if own:
            _points(axes, own, color, marker, state.value)
    rest = [(i, pair) for i, pair in enumerate(pairs) if pair.state not in MARKS]
    if rest:
        _points(axes, rest, INK, "X", "accuracy lost or regained")
    axes.set_xscale("log")
    _ticks(axes)
    axes.set_yticks(range(len(pairs)), [_name(pair) for pair in pairs], fontsize=7.5)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlabel(RATIO_AXIS)
    cut = f", the {len(pairs)} largest changes of {of}" if len(pairs) < of else ""
    head(figure, axes, f"Time of B against A{cut}", f"A: {label(names[0])}; B: {label(names[1])}; {BARS}")
    return figure


def _points(axes: Axes, own: Sequence[tuple[int, Pair]], color: str, marker: str, name: str) -> None:
    for i, ratio in ((i, pair.ratio) for i, pair in own if pair.ratio):
        if ratio.lo is not None and ratio.hi is not None:
            axes.hlines(i, ratio.lo, ratio.hi, colors=color, linewidth=1.5)
    x = [pair.ratio.value for _, pair in own if pair.ratio]
    axes.plot(x, [i for i, _ in own], marker, color=color, markersize=5.5, label=name, linestyle="none")


def _ticks(axes: Axes) -> None:
    """Plain ratios, as many as there is room for."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axes.get_xlim()
    low, high = min(low, 0.94), max(high, 1.06)
    for step in (0.01, 0.02, 0.05, 0.1, 0.25):
        ticks = [t for t in (round(1 + k * step, 4) for k in range(-400, 401)) if low <= t <= high and t > 0]
        if len(ticks) <= 13:
            break
    else:
        ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True, axis="x", color=GRID)


def _name(pair: Pair) -> str:
    cell = pair.record.cell
    variant = f"{cell.algorithm}/{cell.variant}" if cell.variant else cell.algorithm
    return f"{label(variant)}  {shape(str(cell.problem))} {cell.problem.direction}"
