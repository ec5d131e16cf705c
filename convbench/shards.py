"""Shards: what one worker measures in a few minutes. All cells of a problem stay in one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from convbench.errors import UsageError
from convbench.problem import Problem
from convbench.timing import PRESETS

Cost = Callable[[Problem], float]

# Only a device knows its variants and their times. A guess suffices, from the records in results/: about five
# variants an algorithm, an eighth of the time budget each, more where the problem is large.
VARIANTS, SHARE, RATE, ENERGY = 5, 1 / 8, 1e12, 5.0
# Options of `run` that are not handed on: each shard has its own, or they are for whoever waits.
OWN = {
    "targets", "directions", "precisions", "layouts", "batch", "device", "devices", "finished", "out",
    "dry_run", "report_", "quiet", "json_log",
}  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """Problems of one direction, precision and layout, with the seconds they may take."""

    problems: tuple[Problem, ...]
    seconds: float

    @property
    def arguments(self) -> list[str]:
        """How `convbench run` is asked for exactly these problems."""
        first = self.problems[0]
        kinds = ["--directions", first.direction, "--precision", first.precision, "--layout", first.layout]
        return [*map(str, self.problems), *map(str, kinds)]


def estimate(problem: Problem, preset: str, algorithms: int, energy: bool = False) -> float:
    """Seconds that the cells of a problem may take."""
    cell = PRESETS[preset].budget_seconds * SHARE + problem.flops / RATE + ENERGY * energy
    return algorithms * VARIANTS * cell


def split(problems: Iterable[Problem], cost: Cost, seconds: float) -> list[Shard]:
    """Shards of about `seconds`, in the order of the problems; a longer problem is a shard of its own."""
    kinds: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.direction, problem.precision, problem.layout), []).append(problem)
    return [shard for alike in kinds.values() for shard in _cut(alike, cost, seconds)]


def _cut(problems: Iterable[Problem], cost: Cost, seconds: float) -> Iterator[Shard]:
    chosen: list[Problem] = []
    total = 0.0
    for problem in problems:
        if chosen and total + cost(problem) > seconds:
            yield Shard(tuple(chosen), total)
            chosen, total = [], 0.0
        chosen.append(problem)
        total += cost(problem)
    yield Shard(tuple(chosen), total)


def common_arguments(context: click.Context) -> list[str]:
    """The options of a `run` command line that every shard takes over as they are."""
    return [*_common(context), *_plans(), "--device", context.params.get("device") or "cuda", "--quiet"]


def _common(context: click.Context) -> Iterator[str]:
    if context.params.get("spread"):
        raise UsageError("--spread is for the GPUs of one host; run it on each host and merge the results")
    for option in context.command.params:
        name = str(option.name)
        value: Any = context.params.get(name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in OWN or not given or not isinstance(option, click.Option) or not option.expose_value:
            continue
        if not option.is_flag:
            for one in value if option.multiple else [value]:
                yield from (option.opts[0], str(one))
        elif value is True or value == option.flag_value:
            yield option.opts[0]


def _plans() -> list[str]:
    """An option that travels in the environment, where its value is left for the algorithm."""
    return ["--plans", os.environ["CONVBENCH_PLANS"]] if os.environ.get("CONVBENCH_PLANS") else []
