"""pytest-benchmark over the algorithms at three sizes: `make bench`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convbench import fills, registry
from convbench.api import Direction, Problem
from convbench.dtypes import storage_dtype
from convbench.guard import Guarded

SIZES = {"small": "n1c16h14k16r3p1", "medium": "n2c64h28k64r3p1", "large": "n4c128h56k128r3p1"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("name", [entry.name for entry in registry.select("cpu")])
def test_algorithm(benchmark: Any, name: str, direction: Direction, size: str) -> None:
    """The first variant of each algorithm; `convbench run` times all of them and checks them first."""
    problem = Problem.parse(SIZES[size], direction=direction)
    algorithm = registry.select("cpu", [name])[0].algorithm
    if reason := algorithm.reject(problem):
        pytest.skip(reason)
    variant = algorithm.variants(problem, None)[0]
    dtype = storage_dtype(problem.precision)
    a, b = fills.dense(problem, dtype, np.random.default_rng(1))
    plan, out = algorithm.prepare(problem, variant), np.empty(problem.shapes[2], dtype)
    workspace = Guarded(variant.workspace_bytes).take(variant.workspace_bytes)
    benchmark.group = f"{size} {direction}"
    benchmark(plan.run, a, b, out, workspace)
