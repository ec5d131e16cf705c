"""Two bounds on the time of a cell: what measured rates of the machine would need, and what physics allows.

`limit` divides by rates that a good library sustains; "% of limit" says how much a cell leaves on the table,
and may exceed 100. `floor` divides by the peak of the silicon; a figure below it is a broken measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

from convbench.ceilings import Ceiling
from convbench.problem import Problem
from convbench.record import Limit

# FLOPs an SM does in a clock, by compute capability; fp64 and below fp32 on tensor cores where there are some
FLOPS_PER_CLOCK = {
    (8, 0): {"fp64": 128, "fp32": 128, "tf32": 1024, "fp16": 2048, "bf16": 2048},
    (9, 0): {"fp64": 256, "fp32": 256, "tf32": 2048, "fp16": 4096, "bf16": 4096},
}
TILES = (8, 16, 32, 64, 128, 256)
MARGIN, BYTES_MARGIN = 1.05, 1.15  # pure reads are faster than the copy that the rate comes from


def arithmetic(problem: Problem, details: Mapping[str, Any]) -> str:
    """The precision of the products: the problem's, unless the variant says otherwise (split operands)."""
    return str(details.get("arithmetic", problem.precision.value))


def limit(problem: Problem, details: Mapping[str, Any], ceilings: Mapping[str, Ceiling]) -> Limit | None:
    """The slower of arithmetic and memory at measured rates; None where the work or a rate is not known."""
    flops, rate = details.get("flops"), ceilings.get(f"gemm {arithmetic(problem, details)}")
    copy = ceilings.get("copy")
    if flops is None or rate is None or copy is None:
        return None
    bounds = [Limit(flops / rate.sustained, rate.name), Limit(problem.min_bytes / copy.sustained, "copy")]
    return max(bounds, key=lambda bound: bound.seconds)


def peak(capability: tuple[int, int], multiprocessors: int, clock_hz: float) -> dict[str, float]:
    """FLOP/s of the silicon by precision; empty where the architecture is not known."""
    known = FLOPS_PER_CLOCK.get(capability, {})
    return {name: flops * multiprocessors * clock_hz for name, flops in known.items()}


def floor(problem: Problem, details: Mapping[str, Any], peaks: Mapping[str, float]) -> float:
    """Seconds that the arithmetic needs at least; closed libraries are given the cheapest known algorithm."""
    flops = details.get("flops")
    rate = peaks.get(arithmetic(problem, details))
    if rate is None:
        return 0.0
    return (least_flops(problem) if flops is None else int(flops)) / rate / MARGIN


def memory_floor(problem: Problem, copy: float, cache_bytes: int) -> float:
    """Seconds to bring the touched operands from memory; as much of the result as fits may stay in cache."""
    result = prod(problem.shapes[2]) * problem.precision.itemsize
    return (problem.min_bytes - min(result, cache_bytes)) / copy / BYTES_MARGIN


def least_flops(problem: Problem) -> int:
    """The smallest count of direct, Winograd F(6,3) and tiled FFT with three-multiply products."""
    p = problem
    pairs = (p.c // p.groups) * p.k
    counts = [p.flops]
    if (p.r, p.s) == (3, 3):
        counts.append(2 * 64 * p.n * ceil(p.p / 6) * ceil(p.q / 6) * pairs)
    for tile in TILES:
        rows, columns = tile - p.r + 1, tile - p.s + 1
        if rows > 0 and columns > 0:
            tiles = p.n * ceil(p.p / rows) * ceil(p.q / columns)
            counts.append(6 * tile * (tile // 2 + 1) * tiles * pairs)
    return min(counts)
