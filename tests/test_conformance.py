"""One suite over every registered algorithm, and proof that the suite finds what is broken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from strategies import problems

from convbench import conformance, registry
from convbench.api import Algorithm, Direction, Layout, Plan, Precision, Problem, Variant
from convbench.conformance import check_adjoint, check_case, check_taps, solve
from convbench.known import known_failure

ENTRIES = registry.select("cpu")
NAMES = [entry.name for entry in ENTRIES]
LIBRARIES = ("torch", "jax")  # optional
SLACK = 256 * 1024  # NumPy's casting buffers and Python objects


def algorithm(name: str) -> Algorithm:
    return registry.select("cpu", [name])[0].algorithm


def installed(name: str) -> None:
    if name in LIBRARIES:
        pytest.importorskip(name)


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("name", NAMES)
def test_every_case(name: str, direction: Direction, precision: Precision, layout: Layout) -> None:
    installed(name)
    failures = []
    for text in conformance.CASES:
        problem = Problem.parse(text, direction=direction, precision=precision, layout=layout)
        findings = list(check_case(algorithm(name), problem))
        assert findings, f"{problem.label} was dropped silently"
        failures += [finding for finding in findings if finding.outcome == "failed"]
    assert not failures


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("name", NAMES)
def test_every_tap(name: str, direction: Direction, layout: Layout) -> None:
    installed(name)
    for text in conformance.TAP_CASES:
        problem = Problem.parse(text, direction=direction, layout=layout)
        assert all(finding.failure is None for finding in check_taps(algorithm(name), problem))


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("name", NAMES)
def test_directions_are_adjoint(name: str, layout: Layout) -> None:
    installed(name)
    for text in conformance.ADJOINT_CASES:
        findings = list(check_adjoint(algorithm(name), Problem.parse(text, layout=layout)))
        assert findings
        assert all(finding.failure is None for finding in findings)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LIBRARIES])
@settings(max_examples=25, deadline=None)
@given(problem=problems(precisions=(Precision.FP32,)))
@example(problem=Problem.parse("n1c1h1w1k2r1s2p0x1d1x2"))  # both taps lie in the padding
def test_directions_are_adjoint_on_any_problem(name: str, problem: Problem) -> None:
    forward = problem.with_(direction=Direction.FWD)
    assert all(finding.failure is None for finding in check_adjoint(algorithm(name), forward))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LIBRARIES])
@pytest.mark.parametrize(
    "text", ["n3c24h30w26k40r3p1", "n2c8h20k8r5p2u2", "n2c16h21k16r3p1g4", "n2c8h18k8r3p1g8"]
)
def test_no_hidden_memory(name: str, text: str) -> None:
    """Whatever `run` allocates is promised: in the workspace, or as the library's own bytes."""
    for direction, layout, precision in product(Direction, Layout, (Precision.FP32, Precision.FP16)):
        problem = Problem.parse(text, direction=direction, layout=layout, precision=precision)
        if algorithm(name).reject(problem) is None:
            for variant in algorithm(name).variants(problem, None):
                assert variant.library_bytes is not None
                peak = peak_bytes(algorithm(name), problem, variant)
                assert peak <= variant.library_bytes + SLACK, f"{problem.label} {variant.name}"


def peak_bytes(algorithm: Algorithm, problem: Problem, variant: Variant) -> int:
    """Most memory that one run holds beyond what it was given."""
    a, b = conformance.questions(problem).dense.operands
    plan, out = algorithm.prepare(problem, variant), np.empty(problem.shapes[2], a.dtype)
    workspace = np.empty(variant.workspace_bytes, np.uint8)
    with np.errstate(all="ignore"):
        plan.run(a, b, out, workspace)  # whatever is made once and kept
    tracemalloc.start()
    try:
        with np.errstate(all="ignore"):
            plan.run(a, b, out, workspace)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_variants_are_facts(name: str) -> None:
    """Asked twice, or under a limit, a variant of one name is one and the same."""
    installed(name)
    problem = Problem.parse("n4c8h20k8r3p1")
    free = {v.name: v for v in algorithm(name).variants(problem, None)}
    limited = {v.name: v for v in algorithm(name).variants(problem, 1 << 16)}
    assert all(free[key] == limited[key] for key in free.keys() & limited.keys())
    assert free == {v.name: v for v in algorithm(name).variants(problem, None)}


# ---- the suite itself --------------------------------------------------------------------------------------


class Faulty:
    """`direct`, made wrong in one way."""

    name, device = "faulty", "cpu"

    def __init__(self, fault: str) -> None:
        self.fault, self.inner = fault, algorithm("direct")

    def reject(self, problem: Problem) -> str | None:
        return "two\nlines" if self.fault == "reason" else None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        found = self.inner.variants(problem, workspace_limit)
        return [*found, *found] if self.fault == "names" else found

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        if self.fault == "stride":
            return self.inner.prepare(problem.with_(stride=(1, 1)), variant)
        if self.fault == "flip" and problem.direction is Direction.BWD_DATA:
            return self.inner.prepare(problem.with_(flip=not problem.flip), variant)
        return self.inner.prepare(problem, variant)


@pytest.mark.parametrize(
    ("fault", "text", "message"),
    [
        ("reason", "n1c1h4k1r3", "one line"),
        ("names", "n1c1h4k1r3", "distinct"),
        ("stride", "n1c2h9k2r3u2", "Error"),
    ],
)
def test_the_suite_finds(fault: str, text: str, message: str) -> None:
    failures = [f.failure for f in check_case(Faulty(fault), Problem.parse(text)) if f.failure]
    assert message in failures[0]


def test_adjointness_finds_a_direction_that_flips_its_filter() -> None:
    (finding,) = check_adjoint(Faulty("flip"), Problem.parse("n1c2h7k3r3p1"))
    assert finding.outcome == "failed"
    assert "inner products" in str(finding.failure)


def test_the_tap_sweep_finds_a_dropped_tap() -> None:
    class Dropped(Faulty):
        def prepare(self, problem: Problem, variant: Variant) -> Plan:
            plan = self.inner.prepare(problem, variant)
            run = plan.run

            def without_last_tap(a: object, b: np.ndarray, out: object, workspace: object) -> None:
                cut = b.copy()
                cut[..., -1, -1] = 0
                run(a, cut, out, workspace)

            plan.run = without_last_tap  # type: ignore[method-assign]
            return plan

    (finding,) = check_taps(Dropped("tap"), Problem.parse("n1c2h9w11k3r3p1"))
    assert "tap (2, 2)" in str(finding.failure)


def test_solve_gives_the_result() -> None:
    problem = Problem.parse("n1c1h3k1r3p1", precision="fp64")
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    direct = algorithm("direct")
    assert solve(direct, problem, direct.variants(problem, None)[0], x, w)[0, 0].tolist() == [
        [4, 6, 4],
        [6, 9, 6],
        [4, 6, 4],
    ]


def test_a_known_failure_covers_no_more_than_it_says() -> None:
    padded = Problem.parse("n2c3h8w7k4r3p0.1x2.0", direction="bwd-filter")
    even = Problem.parse("n2c3h8w7k4r3p1", direction="bwd-filter")
    assert known_failure("cudnn-graph", padded, "eng20_k2=6_k3=0")
    assert known_failure("cudnn-graph", padded, "eng200") is None
    assert known_failure("cudnn-graph", even, "eng20_k2=6_k3=0") is None
    assert known_failure("cudnn", padded, "eng20") is None
    half = even.with_(direction=Direction.BWD_DATA, precision=Precision.FP16)
    assert known_failure("cudnn", half, "ALGO_0+fma") and known_failure("cudnn", half, "ALGO_1") is None
    assert known_failure("cudnn", half.with_(precision=Precision.FP32), "ALGO_0") is None
