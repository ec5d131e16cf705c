"""What is known to fail the conformance suite, and why: run, reported and not counted.

Found by the suite itself. Engine numbers hold for the cuDNN version that is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from convbench.problem import Direction, Precision, Problem

HALF = (Precision.FP16, Precision.BF16)
FIVE = "Winograd for 5x5 filters in cuDNN 9.19 errs by 1e-3 in fp32: class X"
ATOMICS = "cuDNN 9.19 adds up in 16 bits, in memory: class X on some shapes"


@dataclass(frozen=True)
class Known:
    """One entry; `variants` is a regular expression for whole names."""

    algorithm: str
    reason: str
    direction: Direction
    precisions: Collection[Precision] = tuple(Precision)
    variants: str = ".*"
    asymmetric: bool = False
    taps: tuple[int, int] | None = None

    def covers(self, algorithm: str, problem: Problem, variant: str) -> bool:
        return (
            self.algorithm == algorithm
            and self.direction is problem.direction
            and problem.precision in self.precisions
            and re.fullmatch(self.variants, variant) is not None
            and self.taps in (None, problem.taps)
            and (not self.asymmetric or any(before != after for before, after in problem.pad))
        )


KNOWN_FAILURES = (
    Known(
        "torch", "oneDNN rounds partial sums to fp16: class X on some shapes", Direction.BWD_DATA, HALF[:1]
    ),
    Known("cudnn", ATOMICS, Direction.BWD_DATA, HALF, r"ALGO_0(\+.*)?"),
    *(
        Known("cudnn", FIVE, direction, variants=r"WINOGRAD_NONFUSED(\+.*)?", taps=(5, 5))
        for direction in (Direction.BWD_DATA, Direction.BWD_FILTER)
    ),
    Known("cudnn-graph", ATOMICS, Direction.BWD_DATA, HALF, r"eng25(_.*)?|heuristic"),
    Known("cudnn-graph", ATOMICS, Direction.BWD_FILTER, HALF, r"eng47(_.*)?|heuristic"),
    Known(
        "cudnn-graph",
        "cuDNN 9.19 leaves results unwritten under asymmetric padding, and reports success",
        Direction.BWD_DATA,
        variants=r"eng50(_.*)?|heuristic",
        asymmetric=True,
    ),
    Known(
        "cudnn-graph",
        "cuDNN 9.19 computes wrong results under asymmetric padding, and reports success",
        Direction.BWD_FILTER,
        variants=r"eng(1|18|20)(_.*)?|heuristic",
        asymmetric=True,
    ),
)


def known_failure(algorithm: str, problem: Problem, variant: str) -> str | None:
    """Why this may fail, or None."""
    found = (one.reason for one in KNOWN_FAILURES if one.covers(algorithm, problem, variant))
    return next(found, None)
