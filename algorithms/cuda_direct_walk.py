"""Which taps the results along one axis need: what of a reduction meets only padding is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from convbench.api import Direction, Problem

from .cuda_direct_shape import Axis, axis_of

__all__ = ["Walk", "met", "walks"]


@dataclass(frozen=True)
class Walk:
    """As in cuda_direct.cuh, without the stored taps."""

    count: int
    step: int
    start: int
    dilation: int
    taps: int
    size: int


@lru_cache(maxsize=256)
def walks(problem: Problem, axis: int) -> Sequence[Walk]:
    """One for the forward direction; for gradients of x one of each phase of the stride."""
    a = axis_of(problem, axis)
    if problem.direction is Direction.BWD_DATA:
        return [_backward(a, phase) for phase in range(min(a.stride, a.x))]
    return [Walk(a.y, a.stride, -a.pad, a.dilation, a.taps, a.x)]


def _backward(a: Axis, phase: int) -> Walk:
    fitting = (
        tap for tap in range(min(a.coarse, a.taps)) if (phase + a.pad - tap * a.dilation) % a.stride == 0
    )
    count = -(-(a.x - phase) // a.stride)
    first = next(fitting, None)
    if first is None:
        return Walk(count, 1, 0, 1, 0, a.y)
    taps = (a.taps - 1 - first) // a.coarse + 1
    last = first + (taps - 1) * a.coarse
    start = (phase + a.pad - last * a.dilation) // a.stride
    return Walk(count, 1, start, a.dilation * a.coarse // a.stride, taps, a.y)


@lru_cache(maxsize=1024)
def met(walk: Walk, run: int) -> Sequence[int]:
    """Taps between the first and the last that meet pixels, of each `run` results."""
    return [_between(walk, low, min(low + run, walk.count) - 1) for low in range(0, walk.count, run)]


def _between(walk: Walk, low: int, high: int) -> int:
    begin = max(0, -((walk.start + high * walk.step) // walk.dilation))
    end = min(walk.taps, (walk.size - 1 - walk.start - low * walk.step) // walk.dilation + 1)
    return max(0, end - begin)
