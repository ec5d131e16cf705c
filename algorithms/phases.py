"""The padded image, split by stride into phases.

Phase (a, b) of a padded image holds its pixels (i u + a, j v + b). In phases every strided convolution is a
stride-1 one: tap position t reads phase t mod u at offset t div u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from convbench.api import Problem
from convbench.problem import Pair

from .cpu import Floats


@dataclass(frozen=True)
class Axis:
    """One spatial axis: `size` pixels after `lead` zeros (negative crops), `step` phases of `length`."""

    size: int
    lead: int
    step: int
    length: int

    def pixels(self, phase: int) -> tuple[slice, slice]:
        """Where this phase holds real pixels, and which pixels of the image those are."""
        first = max(0, -((phase - self.lead) // self.step))
        start = first * self.step + phase - self.lead
        count = max(0, min(self.length - first, -((start - self.size) // self.step)))
        stop = start + count * self.step
        return slice(first, first + count), slice(start, max(start, stop), self.step)


def fill(phases: Floats, image: Floats, axes: tuple[Axis, Axis]) -> None:
    """Write `image` (N, G, C, H, W) into `phases` (N, G, u, v, C, H', W'), zeros where there is padding."""
    rows, cols = axes
    for a in range(rows.step):
        for b in range(cols.step):
            (i, h), (j, w) = rows.pixels(a), cols.pixels(b)
            phase = phases[:, :, a, b]
            phase[..., : i.start, :] = 0
            phase[..., i.stop :, :] = 0
            phase[..., i, : j.start] = 0
            phase[..., i, j.stop :] = 0
            phase[..., i, j] = image[..., h, w]


def collect(image: Floats, phases: Floats, axes: tuple[Axis, Axis]) -> None:
    """The inverse of `fill`: pixels that no phase holds become zero."""
    rows, cols = axes
    image[...] = 0
    for a in range(rows.step):
        for b in range(cols.step):
            (i, h), (j, w) = rows.pixels(a), cols.pixels(b)
            image[..., h, w] = phases[:, :, a, b][..., i, j]


def axes_of(problem: Problem, length: Pair | None = None) -> tuple[Axis, Axis]:
    """Axes of x for this problem's padding and stride; by default just long enough for every output."""
    axes = []
    for axis in (0, 1):
        u = problem.stride[axis]
        needed = length[axis] if length else problem.output[axis] + (problem.extent[axis] - 1) // u
        axes.append(Axis(problem.image[axis], problem.pad[axis][0], u, needed))
    return cast(tuple[Axis, Axis], tuple(axes))
