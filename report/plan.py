"""A plan as a table, and as one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from convbench.plan import Budget, Choice, Option, Pass, Step, choose, least
from convbench.plan_cells import Network
from convbench.problem import Problem
from convbench.sizes import format_size

from .limits import EXCLUDED_NOTE
from .tables import MISSING, Table, clean, significant

PLAN = (
    "layer", "direction", "repeat", "algorithm", "workspace", "time (ms)", "accuracy", "without a limit",
    "its workspace", "its time (ms)", "factor",
)  # fmt: skip
PLAN_NOTE = (
    "Time per call for the whole batch; the total counts each layer as often as its repeat says. "
    "Factor: how often as long the limit makes it take."
)
SPLIT_NOTE = (
    "2×n16 means two calls on 16 images each, with the times measured at that batch, one after the other in "
    "one workspace."
)
BUDGETS = {
    Budget.CALL: "for each call",
    Budget.SHARED: "in one workspace that all calls share",
    Budget.TOTAL: "for all layers together, each with a workspace of its own",
}


@dataclass(frozen=True)
class Plan:
    """What was asked, what is chosen, and what would be chosen without a limit."""

    network: Network
    budget: Budget
    limit: int | None
    choices: Sequence[Choice]

    @classmethod
    def of(cls, network: Network, budget: Budget, limit: int | None) -> Plan:
        return cls(network, budget, limit, choose(network.passes, limit, budget))

    @cached_property
    def missing(self) -> list[Pass]:
        """Passes that nothing can do within the limit."""
        done = {id(choice.task) for choice in self.choices}
        return [task for task in self.network.passes if id(task) not in done]

    @property
    def chosen_ms(self) -> float:
        """The time of what is chosen."""
        return sum(choice.ms for choice in self.choices)

    @property
    def chosen_free_ms(self) -> float:
        """The time of the same layers without a limit."""
        return sum(choice.count * free.ms for choice in self.choices if (free := choice.task.best()))

    @property
    def ms(self) -> float | None:
        """The network's time; None if something is missing."""
        return None if self.missing else self.chosen_ms

    @property
    def free_ms(self) -> float | None:
        """The network's time without a limit."""
        free = [(task.count, task.best()) for task in self.network.passes]
        times = [count * option.ms for count, option in free if option]
        return sum(times) if len(times) == len(free) else None

    @property
    def largest(self) -> int | None:
        """The one workspace that serves every call; None where it cannot be known."""
        sizes = [choice.option.workspace for choice in self.choices]
        return None if None in sizes else max((size or 0 for size in sizes), default=0)

    @property
    def together(self) -> int | None:
        """All workspaces, one for each layer and direction."""
        sizes = [(choice.count, choice.option.workspace) for choice in self.choices]
        return None if any(size is None for _, size in sizes) else sum(n * (size or 0) for n, size in sizes)

    @property
    def title(self) -> str:
        return self.network.ranking.title("Plan", self.network.name)

    @property
    def bound(self) -> str:
        return (
            "without a limit" if self.limit is None else f"≤ {format_size(self.limit)} {BUDGETS[self.budget]}"
        )


def table(plan: Plan) -> Table:
    """The choice for each layer and direction, beside the fastest without a limit."""
    chosen: dict[int, list[Choice]] = {}
    for choice in plan.choices:
        chosen.setdefault(id(choice.task), []).append(choice)
    rows = [row for task in plan.network.passes for row in _rows(task, chosen.get(id(task), []))]
    rows.append(_total(plan))
    steps = [step for choice in plan.choices for step in choice.option.steps]
    detail = frozenset({"accuracy"}) if len({step.entry.accuracy for step in steps}) < 2 else frozenset()
    quiet = frozenset(PLAN[PLAN.index("without a limit") :])
    whole = frozenset({"algorithm", "without a limit"})
    return Table(plan.title, PLAN, rows, _note(plan), totals=1, quiet=quiet, detail=detail, whole=whole)


def _note(plan: Plan) -> str:
    parts = [f"{plan.bound[0].upper()}{plan.bound[1:]}. {PLAN_NOTE}"]
    shown = [*(choice.option for choice in plan.choices), *(task.best() for task in plan.network.passes)]
    parts += [SPLIT_NOTE] if any(option and _split(option) for option in shown) else []
    options = [option for task in plan.network.passes for option in task.options]
    closed = {s.entry.algorithm for option in options for s in option.steps if not s.entry.known}
    parts += [EXCLUDED_NOTE.format(", ".join(sorted(closed)))] if closed and plan.limit is not None else []
    return " ".join(parts)


def _rows(task: Pass, choices: Sequence[Choice]) -> list[tuple[str, ...]]:
    free = task.best()
    beside = (_steps(free), _size(free.workspace), significant(free.ms)) if free else (MISSING,) * 3
    if not choices:
        return [(task.layer, task.direction, str(task.count), *[MISSING] * 4, *beside, MISSING)]
    return [
        (
            task.layer,
            task.direction,
            str(choice.count),
            *_cells(choice.option, free),
            *beside,
            _factor(choice.option, free),
        )
        for choice in choices
    ]


def _cells(option: Option, free: Option | None) -> tuple[str, ...]:
    classes = "".join(sorted({step.entry.accuracy for step in option.steps}))
    return _steps(option), _size(option.workspace), significant(option.ms), classes


def _factor(option: Option, free: Option | None) -> str:
    return significant(option.ms / free.ms) if free and option.ms > free.ms else ""


def _total(plan: Plan) -> tuple[str, ...]:
    done = len(plan.network.passes) - len(plan.missing)
    time = significant(plan.ms) if plan.ms is not None else f"{done} of {len(plan.network.passes)}"
    factor = significant(plan.ms / plan.free_ms) if plan.ms and plan.free_ms else MISSING
    size = plan.together if plan.budget is Budget.TOTAL else plan.largest
    return ("total", "", "", "", _size(size), time, "", "", "", significant(plan.free_ms), factor)


def _steps(option: Option) -> str:
    return " + ".join(map(_step, option.steps)) if _split(option) else option.steps[0].entry.name


def _split(option: Option) -> bool:
    return len(option.steps) > 1 or option.steps[0].times > 1


def _step(step: Step) -> str:
    return f"{step.times}×n{Problem.parse(step.entry.problem).n} {step.entry.name}"


def _size(size: int | None) -> str:
    return format_size(size)


def closing(plan: Plan) -> str:
    """The answer in one line: the network's time, and what the limit costs."""
    what = f"{clean(plan.network.name) or 'layers'}, {' + '.join(plan.network.directions)}"
    if plan.missing:
        return f"{what}: no plan {plan.bound}. {_lack(plan)} {_rest(plan)}".rstrip()
    return f"{what}: {_price(plan)}; {_memory(plan)}."


def _price(plan: Plan) -> str:
    """The time of what is chosen, and how much more it is than without a limit."""
    ms, free = plan.chosen_ms, plan.chosen_free_ms
    time = f"{significant(ms, 4)} ms {plan.bound}"
    if plan.limit is None:
        return time
    cost = f"{significant(ms - free)} ms ({ms / free - 1:.1%})" if ms > free else "nothing"
    return f"{time}, {significant(free, 4)} ms without one: the limit costs {cost}"


def _memory(plan: Plan) -> str:
    return f"largest workspace {format_size(plan.largest)}, all together {format_size(plan.together)}"


def _lack(plan: Plan) -> str:
    """What cannot be done, and the way out."""
    never = [
        task
        for task in plan.missing
        if not any(plan.limit is None or o.workspace is not None for o in task.options)
    ]
    lacking = never or plan.missing
    names = ", ".join(f"{clean(task.layer)} {task.direction}" for task in lacking[:3])
    names += f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    if never:
        return f"Nothing that may be chosen does {names}; `convbench show --view coverage` says why."
    needed = least(plan.network.passes, plan.budget)
    return f"Nothing fits for {names}; the least that works is {needed} bytes ({format_size(needed)})."


def _rest(plan: Plan) -> str:
    count = len(plan.network.passes) - len(plan.missing)
    return f"The other {count}: {_price(plan)}." if count else ""
