"""Grids among the layers of a run: problems that differ in one or two sizes only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod
from operator import itemgetter
from typing import Any

from convbench.problem import Problem

# For each axis the fields that it sets; those that follow from it are free to change with it.
AXES: Mapping[str, tuple[str, ...]] = {
    "filter size": ("r", "s", "pad"),
    "channels": ("c", "k", "groups"),
    "image size": ("h", "w"),
    "batch": ("n",),
}
FIELDS = ("n", "c", "h", "w", "k", "r", "s", "pad", "stride", "dilation", "groups", "flip")
FEWEST = 3  # values along an axis
FILLED = 0.6  # of a row or column of a map


@dataclass(frozen=True)
class Grid:
    """Problem texts by their place: one value along each axis, and what stays the same."""

    axes: tuple[str, ...]
    places: dict[tuple[int, ...], str]
    fixed: str

    def values(self, axis: int) -> list[int]:
        return sorted({place[axis] for place in self.places})

    @property
    def whole(self) -> bool:
        """Whether every place is taken."""
        return len(self.places) == prod(len(self.values(axis)) for axis in range(len(self.axes)))


def lines(problems: Iterable[str]) -> list[Grid]:
    """For each axis the longest row of problems that differ in nothing else."""
    return _largest(problems, 1)


def maps(problems: Iterable[str]) -> list[Grid]:
    """For each pair of axes the largest rectangle of problems most of which was measured."""
    return _largest(problems, 2)


def _largest(texts: Iterable[str], dimensions: int) -> list[Grid]:
    problems = [Problem.parse(text) for text in dict.fromkeys(texts)]
    found = (_along(problems, axes) for axes in combinations(AXES, dimensions))
    return [max(grids, key=_size) for grids in found if grids]


def _size(grid: Grid) -> tuple[int, bool]:
    """More places first; among equals the filters that most layers have."""
    return len(grid.places), "3x3 filters" in grid.fixed


def _along(problems: list[Problem], axes: tuple[str, ...]) -> list[Grid]:
    free = {name for axis in axes for name in AXES[axis]}
    groups: dict[tuple[Any, ...], dict[tuple[int, ...], str]] = defaultdict(dict)
    for problem in problems:
        if all(_regular(problem, axis) for axis in axes):
            place = tuple(getattr(problem, AXES[axis][0]) for axis in axes)
            groups[_rest(problem, free, axes)].setdefault(place, str(problem))
    grids = [Grid(axes, places, _fixed(places, free)) for places in map(_dense, groups.values())]
    return [grid for grid in grids if _worth(grid)]


def _dense(places: dict[tuple[int, ...], str]) -> dict[tuple[int, ...], str]:
    """Without the rows and columns of which little was measured: lines that cross a map are no part of it."""
    while True:
        (axis, value), filled = _emptiest(places)
        if filled >= FILLED:
            return places
        places = {place: text for place, text in places.items() if place[axis] != value}


def _emptiest(places: Iterable[tuple[int, ...]]) -> tuple[tuple[int, int], float]:
    """The row or column of which the least was measured, as axis and value, and what share that is."""
    taken = Counter((axis, value) for place in places for axis, value in enumerate(place))
    sizes = Counter(axis for axis, _ in taken)
    filled = {key: count * sizes[key[0]] / prod(sizes.values()) for key, count in taken.items()}
    return min(filled.items(), key=itemgetter(1))


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
    return all(len(grid.values(axis)) >= FEWEST for axis in range(len(grid.axes)))


def _fixed(places: Mapping[tuple[int, ...], str], free: set[str]) -> str:
    """The sizes that stay the same, in words: batch 16, 56x56 pixels, 3x3 filters."""
    p = Problem.parse(min(places.values(), key=len))
    told = {
        "n": f"batch {p.n}",
        "c": f"{p.c} channels in and out" if p.c == p.k else f"{p.c} channels in, {p.k} out",
        "h": f"{p.h}x{p.w} pixels",
        "r": f"{p.r}x{p.s} filters",
        "pad": "" if p.pad == ((0, 0), (0, 0)) else f"padding {_pairs(p.pad)}",
        "stride": "" if p.stride == (1, 1) else f"stride {_pair(p.stride)}",
        "dilation": "" if p.dilation == (1, 1) else f"dilation {_pair(p.dilation)}",
        "groups": f"{p.groups} groups" if p.groups > 1 and not p.depthwise else "",
    }
    words = [text for name, text in told.items() if text and name not in free]
    return ", ".join([*words, *(["depthwise"] if p.depthwise else []), *(["flipped"] if p.flip else [])])


def _pair(sizes: Iterable[int]) -> str:
    return "x".join(str(size) for size in dict.fromkeys(sizes))


def _pairs(pads: Iterable[tuple[int, int]]) -> str:
    return "x".join(dict.fromkeys(".".join(map(str, dict.fromkeys(pair))) for pair in pads))
