"""Direct convolution on CUDA in plain FFMA; forward and backward data can do without workspace.

Four paths. Tiles (cuda_direct_gather.cu, cuda_direct_filter.cu): any problem, as a matrix product whose
operand is never stored. Batch (cuda_direct_batch.cu): backward data with images innermost, in a workspace.
Thin (cuda_direct_thin.cu): few result channels a group, which would waste a tile. Strips
(cuda_direct_depthwise.cu): depthwise problems, limited by memory.
`direct.py` is the same convolution on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from convbench.api import Array, Direction, Layout, Plan, Precision, Problem, Variant

from . import cuda_direct_batch as batch
from . import cuda_direct_depthwise as depthwise
from . import cuda_direct_filter as filter_gradient
from . import cuda_direct_gather as gather
from . import cuda_direct_thin as thin
from .cuda_direct_shape import Launch, too_large
from .gpu import Source, missing, pointer

LARGEST_GRID = 2**31 - 1


@dataclass(frozen=True)
class Choice:
    """One variant: its launches (none with images innermost), what it needs and what it is."""

    name: str
    launches: tuple[Launch, ...]
    workspace: int
    tile: str
    batch: batch.Batch | None = None

    def variant(self, problem: Problem) -> Variant:
        facts = {"flops": problem.flops, "deterministic": True, "math": "fma", "family": "direct"}
        return Variant(self.name, self.workspace, details={**facts, "tile": self.tile})

    def plan(self, problem: Problem) -> Plan:
        return batch.BatchPlan(self.batch) if self.batch else DirectPlan(problem, self)


@dataclass(frozen=True)
class CudaDirect:
    """Sums of products in fp32 (fp64 for fp64) without tensor cores; tf32 is computed as strict fp32."""

    name: str = "direct"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        return missing() or too_large(problem) or too_many(problem)

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [choice.variant(problem) for choice in choices(problem, workspace_limit).values()]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        offered = {**choices(problem, variant.workspace_bytes), **choices(problem, None)}
        return offered[variant.name].plan(problem)


def choices(problem: Problem, limit: int | None) -> Mapping[str, Choice]:
    """The variants of a problem by name."""
    return _choices_by_name(problem, limit, gather.clusters())


@lru_cache(maxsize=256)
def _choices_by_name(problem: Problem, limit: int | None, clusters: bool) -> Mapping[str, Choice]:
    return {choice.name: choice for choice in _choices(problem, limit, clusters)}


def _choices(problem: Problem, limit: int | None, clusters: bool) -> Iterator[Choice]:
    gradient = problem.direction is Direction.BWD_FILTER
    if depthwise.serves(problem):
        if not gradient:
            yield Choice("strips", (depthwise.strips(problem),), 0, "8x1")
            return
        for strip in depthwise.gradients(problem):
            yield Choice(_cut("strips", strip.parts), tuple(strip.launches()), strip.workspace, "4x1")
    elif gradient:
        for one in filter_gradient.filters(problem, limit):
            name = _cut(f"tile{one.tile.size}", one.parts)
            yield Choice(name, tuple(one.launches()), one.workspace, one.tile.size)
    else:
        yield from _gathers(problem, clusters)


def _gathers(problem: Problem, clusters: bool) -> Iterator[Choice]:
    """Forward and backward data."""
    tiles = gather.gathers(problem, clusters)
    if tiles and thin.serves(tiles[0]):
        yield Choice("thin", (thin.launch(tiles[0]),), 0, "2x8")
        tiles = tiles[:1]
    elif tiles:
        tiles = [*tiles, *gather.cuts(tiles[0])]
    for tile in tiles:
        yield Choice(tile.name, tuple(tile.launches()), tile.workspace, tile.tile.size)
    if tiles and batch.serves(problem):
        for best in batch.batches(problem):
            yield Choice(best.name, (), best.workspace, best.tile.size, best)


def _cut(name: str, parts: int) -> str:
    return f"{name}-parts{parts}" if parts > 1 else name


def too_many(problem: Problem) -> str | None:
    """Why no grid of blocks, or no table of taps, is large enough."""
    offered = choices(problem, None)
    if not offered:
        return f"{problem.r * problem.s} taps a filter: their table does not fit into shared memory"
    if any(launch.blocks > LARGEST_GRID for choice in offered.values() for launch in choice.launches):
        return "more than 2^31 - 1 blocks of results"
    return None


class DirectPlan:
    """Launches with everything but the arrays."""

    def __init__(self, problem: Problem, choice: Choice) -> None:
        self._gradient = problem.direction is Direction.BWD_FILTER
        self._kernels = [launch.load() for launch in choice.launches]

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        first, *add = self._kernels
        partial = pointer(workspace) if add else 0
        if self._gradient:
            first(a, b, out, partial)
        else:
            first(a, b, partial if add else out)
        for kernel in add:
            kernel(partial, out)

    def close(self) -> None:
        pass


def sources() -> Iterator[Source]:
    """Every compilation there can be."""
    for precision, layout in product(Precision, Layout):
        problem = Problem.parse("n1c1h1k1r1", precision=precision, layout=layout)
        yield from gather.problem_sources(problem)
        yield filter_gradient.source(problem)
        yield depthwise.source(problem)
        yield thin.source(problem)
    yield batch.source(Problem.parse("n1c1h1k1r1", direction="bwd-data"))


ALGORITHMS = (CudaDirect(),)
