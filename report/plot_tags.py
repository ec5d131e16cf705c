"""Names in a plot, put where they cover neither marks nor lines nor each other: the same place every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import TYPE_CHECKING

import numpy as np

from .theme import INK, SOFT, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

Point = tuple[float, float]
SIZE = 8  # points, of the letters
MARK, AIR = 4.5, 1.5  # points: half a mark, and what stays free around a name
REACH = (8, 13, 19, 26, 34, 44, 56, 70, 88, 110, 140)  # points between a mark and its name
TURNS = tuple(i * pi / 8 for i in range(16))
NEAR = 13  # points; a name further off is led to its mark
CROSSED = 25.0  # points that a name goes further to keep its leader off one line, mark or name
COVERED, NO_ROOM = 1e3, 1e6  # what it costs to cover one, and to be left out
MOST_TRIED = 60  # names in all orders that are tried
STEPS = 24  # places along a line
LEADER = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


@dataclass(frozen=True)
class Tag:
    """A name for a point, in data coordinates, that stands left of `until`. One that is `needed` is written
    even where it covers something."""

    x: float
    y: float
    text: str
    color: str = INK
    needed: bool = False
    until: float | None = None


@dataclass(frozen=True)
class Spot:
    """A place for a name: where its anchor stands from the point, in points, and which part of it that is."""

    dx: float
    dy: float
    across: float  # 0: the anchor is the left edge, 0.5: the middle, 1: the right edge
    up: float  # 0: the lower edge, ...

    @property
    def far(self) -> float:
        return hypot(self.dx, self.dy)


@dataclass(frozen=True)
class Try:
    """A name at a spot: what it takes in pixels, and what of the drawing it covers and its leader crosses."""

    tag: Tag
    spot: Spot
    box: Bbox
    leader: Path | None
    covered: int
    crossed: int


class Room:
    """What is taken of a pair of axes whose limits and layout are settled."""

    def __init__(self, figure: Figure, axes: Axes, marks: Iterable[Point], lines: Iterable[Sequence[Point]]):
        from matplotlib.path import Path

        figure.draw_without_rendering()  # or boxes would not be where they are drawn
        self.axes, self._point = axes, figure.dpi / 72
        self._place, half = axes.transData.transform, MARK * self._point
        middles = np.array([self._place(mark) for mark in marks]).reshape(-1, 2)
        self._marks = np.hstack([middles - half, middles + half])
        self._lines = [Path(self._place(line)) for line in lines]
        self._names: list[Try] = []

    def write(self, tags: Sequence[Tag], spots: Sequence[Spot]) -> bool:
        """Put names where they cover nothing, as near as their leaders allow; whether all had room. Several
        orders are tried, because who comes first takes the place of others."""
        tries = [self._tries(tag, spots) for tag in tags]
        turned = [[*tries[i::-1], *tries[i + 1 :]] for i in range(len(tries) - 1, 0, -1)]
        plans = [self._plan(order) for order in (tries, *turned[: MOST_TRIED // max(1, len(tags))])]
        _, best = min(plans, key=lambda plan: plan[0])
        for one in best:
            self._draw(one)
        self._names += best
        return len(best) == len(tags)

    def _tries(self, tag: Tag, spots: Sequence[Spot]) -> list[Try]:
        """Every spot inside the axes, the nearest first."""
        size = self._size(tag.text)
        found = [self._try(tag, spot, size) for spot in sorted(spots, key=lambda spot: spot.far)]
        return [one for one in found if self._inside(one.box, tag.until)]

    def _try(self, tag: Tag, spot: Spot, size: Point) -> Try:
        from matplotlib.path import Path
        from matplotlib.transforms import Bbox

        x, y = self._place((tag.x, tag.y))
        far_x, far_y = x + spot.dx * self._point, y + spot.dy * self._point
        left, low, air = far_x - spot.across * size[0], far_y - spot.up * size[1], AIR * self._point
        box = Bbox.from_extents(left - air, low - air, left + size[0] + air, low + size[1] + air)
        covered = len(self._under(box)) + sum(line.intersects_bbox(box, filled=False) for line in self._lines)
        if spot.far <= NEAR:
            return Try(tag, spot, box, None, covered, 0)
        start = (MARK + AIR) / spot.far  # a leader may well cross its own mark
        leader = Path([(x + start * (far_x - x), y + start * (far_y - y)), (far_x, far_y)])
        passed = sum(leader.intersects_bbox(one, filled=False) for one in self._under(leader.get_extents()))
        lines = sum(leader.intersects_path(line, filled=False) for line in self._lines)
        return Try(tag, spot, box, leader, covered, passed + lines)

    def _plan(self, order: Iterable[list[Try]]) -> tuple[float, list[Try]]:
        """The cheapest spot of each name in this order, and what all cost."""
        total, taken = 0.0, list(self._names)
        for tries in order:
            best, cost = None, NO_ROOM
            for one in tries:
                if one.spot.far >= cost:
                    break
                if (price := _price(one, taken)) < cost:
                    best, cost = one, price
            total += cost
            taken += [] if best is None else [best]
        return total, taken[len(self._names) :]

    def _draw(self, one: Try) -> None:
        tag, spot = one.tag, one.spot
        self.axes.annotate(
            label(tag.text),
            (tag.x, tag.y),
            (spot.dx, spot.dy),
            textcoords="offset points",
            ha={0: "left", 0.5: "center", 1: "right"}[spot.across],
            va={0: "bottom", 0.5: "center", 1: "top"}[spot.up],
            fontsize=SIZE,
            color=tag.color,
            zorder=5,
            arrowprops={**LEADER, "relpos": (spot.across, spot.up)} if one.leader else None,
        )

    def _size(self, text: str) -> Point:
        probe = self.axes.annotate(label(text), (0, 0), xycoords="axes fraction", fontsize=SIZE)
        box = probe.get_window_extent()
        probe.remove()
        return box.width, box.height

    def _inside(self, box: Bbox, until: float | None) -> bool:
        frame = self.axes.get_window_extent()
        right = frame.x1 if until is None else self._place((until, 1))[0]
        return bool(frame.x0 <= box.x0 <= box.x1 <= right and frame.y0 <= box.y0 <= box.y1 <= frame.y1)

    def _under(self, box: Bbox) -> list[Bbox]:
        """The marks that a box touches."""
        from matplotlib.transforms import Bbox

        x0, y0, x1, y1 = self._marks.T
        touched = (x0 < box.x1) & (x1 > box.x0) & (y0 < box.y1) & (y1 > box.y0)
        return [Bbox.from_extents(*extents) for extents in self._marks[touched]]


def _price(one: Try, taken: Iterable[Try]) -> float:
    """How far a name is from its mark, dearer by what it covers and what its leader crosses. One that is not
    needed does neither."""
    covered, crossed = one.covered, one.crossed
    for other in taken:
        covered += one.box.overlaps(other.box)
        covered += other.leader is not None and other.leader.intersects_bbox(one.box, filled=False)
        if one.leader is not None:
            crossed += one.leader.intersects_bbox(other.box, filled=False)
            crossed += other.leader is not None and one.leader.intersects_path(other.leader, filled=False)
    if covered + crossed and not one.tag.needed:
        return NO_ROOM
    return one.spot.far + CROSSED * crossed + COVERED * covered


def around(first: Sequence[int] = (), most: float = REACH[-1]) -> list[Spot]:
    """Places on rings around a mark, up to so many points from it; each ring begins with these directions,
    in eighths of a half turn."""
    turns = [*first, *(i for i in range(len(TURNS)) if i not in first)]
    ways = [(cos(TURNS[i]), sin(TURNS[i])) for i in turns]
    return [Spot(r * x, r * y, _side(x), _side(y)) for r in REACH if r <= most for x, y in ways]


def _side(along: float) -> float:
    """Which edge of a name looks at its mark."""
    return 0.5 if abs(along) < 0.3 else float(along < 0)


def name_line(room: Room, line: Sequence[Point], text: str, spots: Sequence[Spot], at: float = 1) -> None:
    """Write a name beside a straight line, as near to this share of its length as there is room; without any,
    right there."""
    start, end = room.axes.transData.transform(line)
    parts = sorted((i / STEPS for i in range(STEPS + 1)), key=lambda part: abs(part - at))
    places = room.axes.transData.inverted().transform([start + (end - start) * part for part in parts])
    if not any(room.write([Tag(x, y, text)], spots) for x, y in places):
        x, y = places[0]
        room.write([Tag(x, y, text, needed=True)], spots)
