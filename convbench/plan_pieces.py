"""A batch done as several smaller ones in the workspace of one, where smaller batches were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import gcd, inf

from convbench.plan import Option, Step, merit, pareto

MOST_UNITS = 4096  # of a batch, in units of what the measured batches have in common


def pieces(batch: int, smaller: Mapping[int, Sequence[Option]]) -> list[Option]:
    """Ways to do a batch as several smaller ones in the same workspace, each done in one step."""
    unit = gcd(batch, *smaller)
    if not smaller or batch // unit > MOST_UNITS:
        return []
    fronts = {size // unit: [*pareto(options), *_fastest(options)] for size, options in smaller.items()}
    known = {
        option.workspace for front in fronts.values() for option in front if option.workspace is not None
    }
    ways = (_fill(batch // unit, fronts, limit) for limit in [*sorted(known), None])
    return [way for way in ways if way]


def _fastest(options: Sequence[Option]) -> Iterator[Option]:
    if options:
        yield min(options, key=merit)


def _fill(units: int, fronts: Mapping[int, Sequence[Option]], limit: int | None) -> Option | None:
    """The fastest sum of pieces that fit a limit: shortest path from 0 to the whole batch."""
    usable = {
        size: min(fitting, key=merit)
        for size, front in fronts.items()
        if (fitting := [option for option in front if option.fits(limit)])
    }
    times, last = [0.0] + [inf] * units, [0] * (units + 1)
    for done in range(1, units + 1):
        for size, option in usable.items():
            if size <= done and times[done - size] + option.ms < times[done]:
                times[done], last[done] = times[done - size] + option.ms, size
    if times[units] == inf:
        return None
    used: dict[int, int] = {}
    while units:
        used[last[units]] = used.get(last[units], 0) + 1
        units -= last[units]
    return _joined([(usable[size], times) for size, times in sorted(used.items(), reverse=True)])


def _joined(parts: Sequence[tuple[Option, int]]) -> Option:
    sizes = [option.workspace for option, _ in parts]
    return Option(
        sum(times * option.ms for option, times in parts),
        None if None in sizes else max(size or 0 for size in sizes),
        tuple(Step(step.entry, times * step.times) for option, times in parts for step in option.steps),
    )
