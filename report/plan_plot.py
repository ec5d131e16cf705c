"""The network's time against the workspace there is: what each more byte buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convbench.plan import Budget, Option, Pass, curve, least
from convbench.sizes import format_size

from .drawing import blank, byte_axis, empty, head, label_all, log_time
from .plan import Plan
from .theme import INK, SOFT, label, looks, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIME_AXIS = "time of the network, ms (lower is better)"
UNKNOWN = "without a limit: with unknown workspaces"
LIMIT_AXIS = {
    Budget.CALL: "workspace limit for each call",
    Budget.SHARED: "size of the one workspace that all calls share",
    Budget.TOTAL: "limit for all workspaces together",
}

Curve = Sequence[tuple[int, float]]


def budget_figure(plan: Plan) -> Figure:
    """The best choice per layer under every limit, and each algorithm alone where it does all layers."""
    tasks = [task for task in plan.network.passes if _known(task.options)]
    with settings():
        if not tasks:
            return empty("no plan under any limit: no layer has an algorithm with a known workspace")
        figure, axes = blank(5.2)
        _curves(axes, plan, tasks)
        _mark(axes, plan)
        axes.set_yscale("log")
        log_time(axes.yaxis)
        axes.yaxis.set_major_formatter("{x:g}")  # less than a decade has steps such as 47.5
        axes.set_ylabel(TIME_AXIS)
        axes.set_xlabel(LIMIT_AXIS[plan.budget])
        axes.grid(True, axis="both")
        everything = len(plan.network.passes)
        some = f", {len(tasks)} of {everything} passes" if len(tasks) < everything else ""
        where = f"{' + '.join(plan.network.directions)}{some}; {label_all(plan.network.ranking.label)}"
        name = label(plan.network.name) or "layers"
        head(figure, axes, f"Time against workspace limit: {name}", where)
        return figure


def _curves(axes: Axes, plan: Plan, tasks: Sequence[Pass]) -> None:
    best = curve(tasks, plan.budget, plan.limit)
    alone = {} if plan.budget is Budget.TOTAL else _alone(tasks)
    byte_axis(axes, [*(limit for one in (best, *alone.values()) for limit, _ in one), plan.limit or 0])
    end, styles = axes.get_xlim()[1], looks(plan.network.ranking.algorithms)
    for name, points in alone.items():
        _steps(axes, points, end, styles[name].color, styles[name].marker, label(name))
    _steps(axes, best, end, INK, "", "best for each layer")
    free = sum(task.count * option.ms for task in tasks if (option := task.best()))
    if free < best[-1][1]:
        axes.axhline(free, color=INK, linewidth=1.2, linestyle=(0, (1, 2)), label=UNKNOWN)


def _known(options: Sequence[Option]) -> bool:
    return any(option.workspace is not None for option in options)


def _alone(tasks: Sequence[Pass]) -> dict[str, Curve]:
    """What one algorithm can do by itself, if it can do everything."""
    names = sorted({step.entry.algorithm for t in tasks for o in t.options for step in o.steps})
    found: dict[str, Curve] = {}
    for name in names:
        own = [
            replace(t, options=[o for o in t.options if {s.entry.algorithm for s in o.steps} == {name}])
            for t in tasks
        ]
        if len(names) > 1 and all(_known(task.options) for task in own):
            found[name] = curve(own, Budget.CALL)
    return found


def _steps(axes: Axes, points: Curve, end: float, color: str, marker: str, name: str) -> None:
    """A time holds until the next limit that buys something; a marker where it begins."""
    x, y = [*(limit for limit, _ in points), end], [*(ms for _, ms in points), points[-1][1]]
    width = 1.3 if marker else 2.4
    axes.step(
        x,
        y,
        where="post",
        color=color,
        linewidth=width,
        label=name,
        marker=marker,
        markersize=4,
        markevery=range(len(points)),
        zorder=2 if marker else 3,
    )


def _mark(axes: Axes, plan: Plan) -> None:
    """The limit that was asked for, and what it costs."""
    if plan.limit is None or plan.limit < least(plan.network.passes, plan.budget):
        return
    at, cost = (plan.limit, plan.chosen_ms), plan.chosen_ms / plan.chosen_free_ms - 1
    axes.axvline(plan.limit, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.plot(*at, "o", color=INK, markersize=8, markerfacecolor="none", zorder=4)
    text = f"{format_size(plan.limit)}: +{cost:.0%}" if cost > 0 else format_size(plan.limit)
    place: Any = {"xytext": (-9, -14), "textcoords": "offset points", "ha": "right"}  # below all curves
    axes.annotate(text, at, **place, fontsize=9, color=INK)
