"""Sums of filter gradients that are cut into parts and added up by a second kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar

from convbench.api import Problem

from .cuda_implicit_choice import CYCLES, good
from .cuda_implicit_operands import Launch, ceil
from .cuda_implicit_products import MULTIPROCESSORS

ADDERS, ADDED = 256, 32  # as in cuda_implicit_parts.cuh
FEWEST_STEPS = 4  # of a part


@dataclass(frozen=True)
class Parted(ABC):
    """One variant for a 1x1 layer; `longest`: steps of a part, `rounds`: of all multiprocessors."""

    problem: Problem
    parts: int = field(default=1, kw_only=True)

    longest: ClassVar[int]
    rounds: ClassVar[int]

    @property
    @abstractmethod
    def steps(self) -> int: ...

    @property
    @abstractmethod
    def tiles(self) -> int: ...

    @property
    @abstractmethod
    def cycles(self) -> float: ...

    @property
    def suffix(self) -> str:
        """Of the name."""
        return f"-parts{self.parts}" if self.parts > 1 else ""

    @property
    def length(self) -> int:
        """Steps of a part."""
        return ceil(self.steps, self.parts)

    @property
    def results(self) -> int:
        return self.problem.k * self.problem.c

    @property
    def workspace(self) -> int:
        return 4 * self.results * self.parts * (self.parts > 1)

    def cuts(self) -> Iterator[Self]:
        """In as few parts as digits allow; in as many as fill all multiprocessors some number of times."""
        fewest, most = ceil(self.steps, self.longest), self.steps // FEWEST_STEPS
        yield replace(self, parts=fewest)
        for filled in range(1, self.rounds + 1):
            parts = min(filled * MULTIPROCESSORS // self.tiles, most)
            if parts > fewest:
                yield replace(self, parts=ceil(self.steps, ceil(self.steps, parts)))


P = TypeVar("P", bound=Parted)


def choose(whole: Sequence[P], limit: int | None) -> list[P]:
    """The best, others that are nearly as good, and what takes the least memory."""
    ranked = sorted(whole, key=CYCLES)
    offered = good(ranked)
    if limit is not None and not any(one.workspace <= limit for one in offered):
        fewest = [next(replace(one, parts=1).cuts()) for one in ranked]
        offered.append(min(fewest, key=lambda one: (one.workspace, one.cycles)))
    return offered


def adding(kernel: Callable[..., Any], results: int, parts: int) -> Launch:
    """Its launch on the parts and on what becomes of them."""
    return lambda *arrays: kernel(ceil(results, ADDED), ADDERS, *arrays, results, parts)
