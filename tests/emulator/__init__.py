"""A CUDA device on the CPU, for tests: kernels are compiled by g++, libraries are NumPy's.

pytest_plugins = ("emulator.plugin",)

@pytest.mark.usefixtures("emulated")
def test_something():
    assert not failures(Im2col(), Problem.parse("n1c2h5k3r3"))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from convbench.api import Algorithm, Plan, Problem, Variant
from convbench.conformance import Finding, check_case

from . import cupy

__all__ = ["Emulated", "failures", "slow"]


def slow(*values: object) -> list[Any]:
    """Parameters of tests that take seconds here; others see the same code."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


class Emulated:
    """A CUDA algorithm as one of the CPU, so that the harness gives it NumPy's arrays."""

    device = "cpu"

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm, self.name = algorithm, algorithm.name

    def reject(self, problem: Problem) -> str | None:
        return self.algorithm.reject(problem)

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return self.algorithm.variants(problem, workspace_limit)

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return EmulatedPlan(self.algorithm.prepare(problem, variant))


class EmulatedPlan:
    """Gives a plan CuPy's arrays, and no memory beyond them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def run(self, a: Any, b: Any, out: Any, workspace: Any) -> None:
        arrays = [np.asarray(array).view(cupy.ndarray) for array in (a, b, out, workspace)]
        with cupy.no_allocation():
            self._plan.run(*arrays)

    def close(self) -> None:
        self._plan.close()


def failures(algorithm: Algorithm, *problems: Problem) -> list[Finding]:
    """What the conformance suite finds wrong with a CUDA algorithm on these problems."""
    findings = [finding for problem in problems for finding in check_case(Emulated(algorithm), problem)]
    failed = [finding for finding in findings if finding.outcome == "failed"]
    assert failed or any(finding.outcome == "passed" for finding in findings), findings[:1]
    return failed
