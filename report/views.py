"""Every table of a report by name. One table per scope, and per network where it sums up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from convbench.frame import cells_frame, layers_frame
from convbench.problem import Direction
from convbench.store import Contents

from .costs import costs
from .evidence import accuracy, coverage, environment, noise, noise_line
from .limits import DEFAULT_LIMITS, by_limit
from .machine import machine
from .peers import deepbench, layerwise
from .published import published
from .rivals import rivals
from .selection import selection
from .tables import Table
from .totals import by_layer, by_network
from .variants import algorithms
from .winners import tally, winners

__all__ = [
    "VIEWS", "accuracy", "algorithms", "by_layer", "by_limit", "by_network", "coverage", "deepbench",
    "environment", "layerwise", "machine", "makers", "noise", "noise_line", "published", "selection",
    "tables_of", "tally", "winners",
]  # fmt: skip
VIEWS = (
    "winners", "limits", "networks", "layers", "layerwise", "algorithms", "costs", "selection", "machine",
    "rivals", "accuracy", "deepbench", "published", "coverage",
)  # fmt: skip


def tables_of(
    contents: Contents, views: Sequence[str] = VIEWS, limits: Sequence[int] = DEFAULT_LIMITS
) -> list[Table]:
    """The tables of these views; the noise floor stands in the note of the first."""
    make = makers(contents, limits)
    tables = [table for view in views for table in make[view]()]
    if tables:
        note = f"{noise_line(contents)}. {tables[0].note}".strip()
        tables[0] = replace(tables[0], note=note)
    return tables


def makers(contents: Contents, limits: Sequence[int]) -> Mapping[str, Callable[[], list[Table]]]:
    """For each view what makes its tables."""
    cells, layers = cells_frame(contents), layers_frame(contents)
    floors = {one.environment: one.floor for one in noise(contents)}
    run = [d.value for d in Direction if d.value in set(cells["direction"])]
    return {
        "winners": partial(winners, cells, layers, floors),
        "limits": partial(by_limit, cells, layers, limits),
        "networks": partial(by_network, cells, layers),
        "layers": lambda: [table for direction in run for table in by_layer(cells, layers, direction)],
        "layerwise": partial(layerwise, cells, layers),
        "algorithms": partial(algorithms, cells, layers, floors),
        "costs": partial(costs, cells, layers, limits),
        "selection": partial(selection, cells, layers, limits, floors),
        "machine": partial(machine, cells, layers),
        "rivals": partial(rivals, cells, layers),
        "accuracy": lambda: [accuracy(cells)],
        "deepbench": partial(deepbench, cells, layers),
        "published": partial(published, contents, cells, layers),
        "coverage": lambda: [coverage(cells)],
    }
