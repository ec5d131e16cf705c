"""What is offered of all that could do: by the clock cycles that it would take."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol, TypeVar

SLACK = 1.25  # what may take this much longer than the best is offered too


class Costed(Protocol):
    @property
    def cycles(self) -> float: ...


C = TypeVar("C", bound=Costed)
CYCLES = attrgetter("cycles")


def best(possible: Iterable[C]) -> C:
    return min(possible, key=CYCLES)


def good(possible: Iterable[C]) -> list[C]:
    """The best, and others that are nearly as good."""
    ranked = sorted(possible, key=CYCLES)
    return [one for one in ranked if one.cycles <= SLACK * ranked[0].cycles]
