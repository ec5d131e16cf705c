"""The roofline: the FLOP/s that algorithms reach at their arithmetic intensity, under the measured rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from .drawing import blank, empty, head, label_all, plain, points
from .plot_tags import Room, Spot, name_line
from .ranking import Ranking, rows_of, the_ranking
from .theme import GRID, INK, label, looks, settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTENSITY_AXIS = "arithmetic intensity, FLOP a byte: executed FLOPs / bytes of operands and result, once each"
RATE_AXIS = "executed {}FLOP/s (higher is better)"
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


@dataclass(frozen=True)
class Point:
    """The fastest variant of an algorithm on a layer; `executed` says whether its own FLOPs are known, and
    `transforms` whether those of transforms are among them."""

    algorithm: str
    intensity: float
    rate: float
    executed: bool
    transforms: bool


def roofline_figure(cells: pd.DataFrame, layers: pd.DataFrame, direction: str) -> Figure:
    """The fastest variant of each algorithm on each layer, under the ceilings that the records hold.
    ValueError on several scopes."""
    ranking = the_ranking(cells, layers)
    with settings():
        found = _points(cells, ranking, direction) if ranking else []
        if ranking is None or not found:
            return empty(f"no ranked cell for {direction}")
        ceilings = ceilings_of(rows_of(cells, ranking.scope))
        figure, axes = blank(5.4)
        unit = next((u for u in UNITS if max(p.rate for p in found) >= u[0]), UNITS[-1])
        _scatter(axes, found, looks([str(name) for name in cells["algorithm"]]), unit[0])
        lines = _roof(axes, ceilings, unit)
        axes.set_xlabel(INTENSITY_AXIS)
        axes.set_ylabel(RATE_AXIS.format(unit[1]))
        head(figure, axes, f"Roofline, {direction}", "\n".join(_subtitle(ranking, found, ceilings)))
        room = Room(
            figure, axes, [(p.intensity, p.rate / unit[0]) for p in found], [line for line, *_ in lines]
        )
        for line, text, spots in lines:
            name_line(room, line, text, spots, 0.5 if spots == [SLOPE] else 1)
        return figure


def _subtitle(ranking: Ranking, found: list[Point], ceilings: Mapping[str, float]) -> list[str]:
    """What was measured, and what else a reader must know."""
    transforms = sorted({label(point.algorithm) for point in found if point.transforms})
    also = f", and of transforms for {', '.join(transforms)}" if transforms else " alone"
    told = f"executed: the FLOPs of products{also}"
    if not all(point.executed for point in found):
        told += "; *: the direct method's FLOPs, its own are unknown"
    if not ceilings:
        told += "; no measured ceilings"
    return [f"{label_all(ranking.label)}; best variant each", told]


def ceilings_of(rows: list[Any]) -> dict[str, float]:
    """The measured rates behind the limits of these cells, in FLOP/s, and for `copy` in bytes/s."""
    rates: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if isinstance(row.limit_rate, str) and row.limit_ms > 0:
            work = _count(row.min_bytes if row.limit_rate == "copy" else row.algorithm_flops)
            rates[row.limit_rate] += [work / row.limit_ms * 1e3] if work else []
    found = {name: median(values) for name, values in sorted(rates.items()) if values}
    return {name: rate for name, rate in found.items() if isfinite(rate)}


def _points(cells: pd.DataFrame, ranking: Ranking, direction: str) -> list[Point]:
    held = {
        (row.problem, row.direction, row.algorithm, row.variant): row for row in rows_of(cells, ranking.scope)
    }
    return [
        _point(held[layer.problem, direction, entry.algorithm, entry.variant])
        for layer in dict.fromkeys(ranking.layers)
        for entry in ranking.fastest(layer.problem, direction)
    ]


def _point(row: Any) -> Point:
    executed, transforms = _count(row.algorithm_flops), _count(row.transform_flops)
    work = executed + transforms if executed else float(row.flops)
    known = executed > 0
    return Point(
        str(row.algorithm), work / row.min_bytes, work / row.time_ms * 1e3, known, known and transforms > 0
    )


def _count(flops: Any) -> float:
    """FLOPs, 0 where they are unknown."""
    return float(flops) if isinstance(flops, int | float) and flops > 0 else 0.0


def _scatter(axes: Axes, found: list[Point], styles: Any, unit: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name in sorted({point.algorithm for point in found}):
        own = [point for point in found if point.algorithm == name]
        mark = "" if all(point.executed for point in own) else "*"
        points(axes, [p.intensity for p in own], [p.rate / unit for p in own], styles[name], name + mark)
    for axis in (axes.xaxis, axes.yaxis):
        _ticks(axis)


def _ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.grid(True, color=GRID)


Line = tuple[list[tuple[float, float]], str, list[Spot]]  # its ends, its name, and where that may stand
ABOVE, UNDER = Spot(-2, 3, 1, 0), Spot(-2, -4, 1, 1)
SLOPE = Spot(8, -3, 0, 1)


def _roof(axes: Axes, ceilings: Mapping[str, float], unit: tuple[float, str]) -> list[Line]:
    """The copy rate as a slope up to the highest rate, and each GEMM rate as a level from there on."""
    gemms = {name: rate for name, rate in ceilings.items() if name != "copy"}
    copy = ceilings.get("copy")
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    lines: list[Line] = []
    for name, rate in gemms.items():
        start, level = max(low, rate / copy) if copy else low, rate / unit[0]
        text = f"{label(name)}: {plain_rate(level)} {unit[1]}FLOP/s"
        lines.append(([(start, level), (high, level)], text, [ABOVE, UNDER]))
    if copy:
        end = min(max(gemms.values(), default=top * unit[0]) / copy, high)
        begin = max(low, bottom * unit[0] / copy)
        slope = [(x, copy * x / unit[0]) for x in (begin, end)]
        lines.append((slope, f"copy: {copy / 1e12:.3g} TB/s", [SLOPE]))
    lines = [line for line in lines if line[0][0][0] < line[0][1][0]]
    for line, *_ in lines:
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1.4, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, max([top, *(1.6 * rate / unit[0] for rate in gemms.values())]))
    return lines


def plain_rate(rate: float) -> str:
    return f"{rate:,.3g}" if rate < 1000 else f"{rate:,.0f}"
