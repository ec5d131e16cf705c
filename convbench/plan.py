"""Which way to do each layer pass so that a network takes least time in the workspace there is.

A limit for each call is a minimum for each pass. A limit on the sum of all workspaces is a multiple-choice
knapsack, solved as a mixed-integer program over the Pareto fronts of the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from convbench.errors import CannotRunError
from convbench.sizes import format_size

if TYPE_CHECKING:
    from convbench.report.ranking import Entry

MOST_SECONDS = 60
SCALE = 1e6  # of costs and sizes, because tolerances are absolute
UNITS = 2**17  # of a limit that is rounded
POINTS = 48  # of a curve whose every point is a program of its own


class Budget(StrEnum):
    """What a limit is for. Calls follow each other, so one shared workspace holds what each may take."""

    CALL = "call"
    SHARED = "shared"
    TOTAL = "total"


@dataclass(frozen=True)
class Step:
    """A measured cell, run so many times."""

    entry: Entry
    times: int = 1


@dataclass(frozen=True)
class Option:
    """One way to do a pass: steps one after the other in one workspace; None: its size cannot be known."""

    ms: float
    workspace: int | None
    steps: tuple[Step, ...] = ()

    def fits(self, limit: int | None) -> bool:
        return limit is None or (self.workspace is not None and self.workspace <= limit)


@dataclass(frozen=True)
class Pass:
    """One layer in one direction, as often as the network holds it, with every way to do it."""

    layer: str
    problem: str
    direction: str
    count: int
    options: Sequence[Option]

    def best(self, limit: int | None = None) -> Option | None:
        """The fastest way that is sure to fit; the smaller of two that are equally fast."""
        return min((o for o in self.options if o.fits(limit)), key=merit, default=None)


@dataclass(frozen=True)
class Choice:
    """A way chosen for so many of the layers of a pass."""

    task: Pass
    option: Option
    count: int

    @property
    def ms(self) -> float:
        return self.count * self.option.ms


def choose(tasks: Sequence[Pass], limit: int | None, budget: Budget = Budget.CALL) -> list[Choice]:
    """The fastest choice within the limit; passes that nothing fits are left out."""
    if budget is Budget.TOTAL and limit is not None:
        return _under_total(tasks, limit)
    found = ((task, task.best(limit)) for task in tasks)
    return [Choice(task, option, task.count) for task, option in found if option]


def least(tasks: Sequence[Pass], budget: Budget) -> int:
    """The smallest limit with which every pass can be done that can be done under any limit."""
    smallest = [(task.count, front[0].workspace or 0) for task in tasks if (front := pareto(task.options))]
    if budget is Budget.TOTAL:
        return sum(count * size for count, size in smallest)
    return max((size for _, size in smallest), default=0)


def pareto(options: Sequence[Option]) -> list[Option]:
    """Those that no other beats in both time and workspace, by rising workspace; without unknown ones."""
    front: list[Option] = []
    known = (option for option in options if option.workspace is not None)
    for option in sorted(known, key=lambda o: (o.workspace or 0, o.ms)):
        if not front or option.ms < front[-1].ms:
            front.append(option)
    return front


def curve(tasks: Sequence[Pass], budget: Budget, asked: int | None = None) -> list[tuple[int, float]]:
    """Limits and the network's time under each, from the least that works to where more is of no use.

    Between two of them the time of the lower one holds: exactly for a limit on each call, where every step
    is there; for a total there may be more steps between them. `asked` is sure to be among its points.
    """
    tasks = [replace(task, options=pareto(task.options)) for task in tasks]
    if budget is not Budget.TOTAL:
        points = [(limit, choose(tasks, limit)) for limit in _steps(tasks)]
    else:
        plans = [choose(tasks, limit, budget) for limit in _spread(tasks, asked)]
        points = [(workspaces(plan), plan) for plan in plans]
    timed = [(limit, sum(choice.ms for choice in plan)) for limit, plan in points]
    return timed[:1] + [after for before, after in pairwise(timed) if after[1] < before[1]]


def workspaces(choices: Sequence[Choice]) -> int:
    """The sum of their workspaces, as far as they are known."""
    return sum(choice.count * (choice.option.workspace or 0) for choice in choices)


def merit(option: Option) -> tuple[float, float]:
    """What makes a way the better one."""
    return option.ms, inf if option.workspace is None else option.workspace


def _steps(tasks: Sequence[Pass]) -> list[int]:
    """Every limit at which a faster way begins to fit."""
    start = least(tasks, Budget.CALL)
    sizes = {option.workspace or 0 for task in tasks for option in pareto(task.options)}
    return sorted({start, *(size for size in sizes if size > start)})


def _spread(tasks: Sequence[Pass], asked: int | None) -> list[int]:
    """Limits in equal ratios, and the one that was asked for."""
    fronts = [(task.count, front) for task in tasks if (front := pareto(task.options))]
    start = least(tasks, Budget.TOTAL)
    end = sum(count * (front[-1].workspace or 0) for count, front in fronts)
    first = max(start, end // 2**16, 1)
    ratio = max(end / first, 1) ** (1 / POINTS)
    limits = {start, end, *(min(end, int(first * ratio**i)) for i in range(POINTS))}
    return sorted(limits | ({asked} if asked is not None and asked > start else set()))


# ---- one limit for the sum ---------------------------------------------------------------------------------


def _under_total(tasks: Sequence[Pass], limit: int) -> list[Choice]:
    """Layers of one pass may be done in different ways: each has its own share of the sum.

    The solver's tolerances are about a millionth: with sizes to the byte it may go over the limit, or stop
    too early. With sizes rounded up to units it cannot; the better of the two answers is taken.
    """
    slack = limit - (needed := least(tasks, Budget.TOTAL))
    if slack < 0:
        raise CannotRunError(
            f"no plan within {format_size(limit)}: the layers together need {format_size(needed)} at least; "
            f"give --workspace {needed} or more"
        )
    fronts = [(task, front) for task in tasks if (front := pareto(task.options))]
    answers = [_solve(fronts, slack // unit, unit) for unit in {1, 1 + slack // UNITS}]
    plans = [plan for plan in answers if plan is not None and workspaces(plan) <= limit]
    if not plans:
        raise CannotRunError("the solver found no plan in time; plan fewer directions, or without --total")
    return min(plans, key=lambda plan: sum(choice.ms for choice in plan))


def _solve(fronts: Sequence[tuple[Pass, Sequence[Option]]], slack: int, unit: int) -> list[Choice] | None:
    """The mixed-integer program: how many of each pass are done in which way; None if the solver gives up.

    `slack` is what there is beyond the smallest workspaces, which every plan needs, in units.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    columns = [
        (row, task, option, extra)
        for row, (task, front) in enumerate(fronts)
        for option in front
        if (extra := -(((front[0].workspace or 0) - (option.workspace or 0)) // unit)) <= slack
    ]
    if not columns:
        return []
    rows, tasks, options, extras = zip(*columns, strict=True)
    counts = np.array([task.count for task, _ in fronts], dtype=float)
    costs = np.array([option.ms for option in options])
    each = csr_array((np.ones(len(rows)), (rows, range(len(rows)))), shape=(len(fronts), len(rows)))
    bound = min(slack, SCALE)
    sizes = np.array(extras, dtype=float)[None] * (bound / max(slack, 1))
    found = milp(
        costs * (SCALE / float(counts @ [front[-1].ms for _, front in fronts])),
        integrality=np.ones(len(rows), dtype=int),
        bounds=Bounds(0, counts[list(rows)]),
        constraints=[LinearConstraint(each, counts, counts), LinearConstraint(sizes, -np.inf, bound)],
        options={"mip_rel_gap": 0.0, "time_limit": MOST_SECONDS},
    )
    if found.status != 0:
        return None
    taken = zip(tasks, options, np.rint(found.x).astype(int).tolist(), strict=True)
    return [Choice(task, option, count) for task, option, count in taken if count]
