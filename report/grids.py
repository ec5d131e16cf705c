"""Grids among the layers of a run: problems that differ in one or two sizes only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

from convbench.problem import Problem

from .layers import shape

# For each axis the fields that it sets; those that follow from it are free to change with it.
AXES: Mapping[str, tuple[str, ...]] = {
    "filter size": ("r", "s", "pad"),
    "channels": ("c", "k", "groups"),
    "image size": ("h", "w"),
    "batch": ("n",),
}
FIELDS = ("n", "c", "h", "w", "k", "r", "s", "pad", "stride", "dilation", "groups", "flip")
FEWEST = 3  # values along an axis
FILLED = 0.6  # of a map


@dataclass(frozen=True)
class Grid:
    """Problem texts by their place: one value along each axis, and what stays the same."""

    axes: tuple[str, ...]
    places: dict[tuple[int, ...], str]
    fixed: str

    def values(self, axis: int) -> list[int]:
        return sorted({place[axis] for place in self.places})


def lines(problems: Iterable[str]) -> list[Grid]:
    """For each axis the longest row of problems that differ in nothing else."""
    return _largest(problems, 1)


def maps(problems: Iterable[str]) -> list[Grid]:
    """For each pair of axes the largest rectangle of problems, if most of it was measured."""
    return _largest(problems, 2)


def _largest(texts: Iterable[str], dimensions: int) -> list[Grid]:
    problems = [Problem.parse(text) for text in dict.fromkeys(texts)]
    found = (_along(problems, axes) for axes in combinations(AXES, dimensions))
    return [max(grids, key=_size) for grids in found if grids]


def _size(grid: Grid) -> tuple[int, bool]:
    """More places first; among equals the filters that most layers have."""
    return len(grid.places), "r3" in grid.fixed


def _along(problems: list[Problem], axes: tuple[str, ...]) -> list[Grid]:
    free = {name for axis in axes for name in AXES[axis]}
    groups: dict[tuple[Any, ...], dict[tuple[int, ...], str]] = defaultdict(dict)
    for problem in problems:
        if all(_regular(problem, axis) for axis in axes):
            place = tuple(getattr(problem, AXES[axis][0]) for axis in axes)
            groups[_rest(problem, free, axes)].setdefault(place, str(problem))
    grids = [Grid(axes, places, _fixed(places, free)) for places in groups.values()]
    return [grid for grid in grids if _worth(grid)]


def _regular(problem: Problem, axis: str) -> bool:
    """Whether the axis' first field stands for the others."""
    if axis == "filter size":
        return problem.r == problem.s
    return axis != "image size" or problem.h == problem.w


def _rest(problem: Problem, free: set[str], axes: tuple[str, ...]) -> tuple[Any, ...]:
    """What must agree: all other fields, and how the free ones follow from their axis."""
    rest: list[Any] = [getattr(problem, name) for name in FIELDS if name not in free]
    if "filter size" in axes:  # padded to keep the image, or not at all
        rest.append("same" if problem.p * problem.stride[0] >= problem.h else problem.pad)
    if "channels" in axes:
        rest.append((problem.k / problem.c, "depthwise" if problem.depthwise else problem.groups))
    return tuple(rest)


def _worth(grid: Grid) -> bool:
    sizes = [len(grid.values(axis)) for axis in range(len(grid.axes))]
    return min(sizes) >= FEWEST and len(grid.places) >= FILLED * prod(sizes)


def _fixed(places: Mapping[tuple[int, ...], str], free: set[str]) -> str:
    """The shape without the sizes that change, such as n16h56u1."""
    text = shape(min(places.values(), key=len))
    letters = {"pad": "p", "groups": "g"}
    gone = "".join(letters.get(name, name) for name in free) + ("k" if "c" in free else "")
    return re.sub(rf"[{gone}][0-9.x]+", "", text)
