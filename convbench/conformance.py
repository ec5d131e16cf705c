"""The conformance suite: what every algorithm, built in or not, has to get right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from convbench import accuracy
from convbench.api import Algorithm, Plan, Variant
from convbench.devices import open_device
from convbench.dtypes import storage_dtype
from convbench.errors import one_line
from convbench.known import known_failure
from convbench.problem import Direction, Layout, Precision, Problem
from convbench.reference import reference
from convbench.verify import Bench, Questions, WrongError, ask, norm

SEED = 7
RUNS = 3

# Geometry that hides bugs: h != w everywhere, odd sizes, and each feature alone and with others.
CASES = (
    "n2c3h7w9k4r3p1",
    "n1c5h8w6k7r3",
    "n3c13h17w19k11r3p1",
    "n1c70h6w5k65r3p1",
    "n2c16h24w20k32r3p1",
    "n2c4h9w11k6r3u2p1",
    "n2c4h9w12k6r3s2u2x3p1x0",
    "n1c3h11w13k4r3d2p2",
    "n2c2h13w12k3r3u2x1d2x3p2x3",
    "n3c7h5w6k5r1",
    "n2c6h7w9k4r1u2",
    "n2c6h8w7k4r3p1g2",
    "n2c6h9w7k6r3p1g6",
    "n1c3h6w8k6r3s5p1x2g3",
    "n2c4h9w8k8r3u2p1d2x1g2",
    "n1c1h5w4k1r3p1",
    "n2c3h3w4k5r3s4",
    "n2c3h1w1k4r3p1",
    "n1c2h2w3k3r5p2",
    "n1c2h5w4k3r2p2x3",
    "n2c3h8w7k4r3p0.1x2.0",
    "n2c3h8w9k4r4p1.2x2.1",
    "n2c3h7w8k4r3s2p1flip",
    "n2c5h12w10k6r5p2",
    "n1c4h40w37k3r5p2",
    "n2c3h6w15k4r1s5p0x2",
    "n1c3h19w17k4r7u2p3",
    "n1c3h31w27k2r11u4p2",
)
TAP_CASES = ("n1c2h9w11k3r3p1", "n1c2h12w10k2r5p2")
ADJOINT_CASES = ("n2c4h9w8k6r3p1", "n2c6h9w11k4r3u2x1p1x2d1x2g2", "n1c5h7w6k3r1")


@dataclass(frozen=True)
class Finding:
    """One check of one algorithm: `failure` is None when it passed; `skipped` is why it did not apply."""

    check: str
    problem: str
    variant: str = ""
    failure: str | None = None
    skipped: str | None = None
    known: str | None = None

    @property
    def outcome(self) -> str:
        if self.failure is not None:
            return "known" if self.known else "failed"
        return "skipped" if self.skipped is not None else "passed"


@lru_cache(maxsize=1024)  # the whole matrix
def questions(problem: Problem, device: str = "cpu") -> Questions:
    """Questions are the same for every algorithm of a device, so they are answered once."""
    return ask(problem, SEED, open_device(device).xp)


def check_all(
    algorithm: Algorithm,
    directions: tuple[Direction, ...] = tuple(Direction),
    precisions: tuple[Precision, ...] = tuple(Precision),
    layouts: tuple[Layout, ...] = tuple(Layout),
) -> Iterator[Finding]:
    """The whole suite for one algorithm."""
    for text, direction, precision, layout in product(CASES, directions, precisions, layouts):
        yield from check_case(
            algorithm, Problem.parse(text, direction=direction, precision=precision, layout=layout)
        )
    for text, direction, layout in product(TAP_CASES, directions, layouts):
        yield from check_taps(algorithm, Problem.parse(text, direction=direction, layout=layout))
    if set(directions) == set(Direction):
        for text, layout in product(ADJOINT_CASES, layouts):
            yield from check_adjoint(algorithm, Problem.parse(text, layout=layout))


def check_case(algorithm: Algorithm, problem: Problem) -> Iterator[Finding]:
    """Exact and dense fills, guards, untouched inputs, dirty workspace, repeatability: every variant."""
    reason = algorithm.reject(problem)
    if reason is not None:
        bad = (
            None if reason.strip() and "\n" not in reason else f"a reason is one line of text, not {reason!r}"
        )
        yield Finding("case", problem.label, failure=bad, skipped=reason)
        return
    variants = algorithm.variants(problem, None)
    names = [variant.name for variant in variants]
    if not names or len(set(names)) < len(names):
        yield Finding(
            "variants", problem.label, failure=f"variant names must be distinct and at least one: {names}"
        )
    for variant in variants:
        if variant.refused:
            yield Finding("case", problem.label, variant.name, skipped=variant.refused)
            continue
        failure = _attempt(algorithm, problem, variant)
        yield Finding("case", problem.label, variant.name, failure, known=_known(algorithm, problem, variant))


def _offered(algorithm: Algorithm, problem: Problem) -> list[Variant]:
    return [variant for variant in algorithm.variants(problem, None) if not variant.refused]


def _known(algorithm: Algorithm, problem: Problem, variant: Variant) -> str | None:
    return known_failure(algorithm.name, problem, variant.name)


def _attempt(algorithm: Algorithm, problem: Problem, variant: Variant) -> str | None:
    try:
        plan = algorithm.prepare(problem, variant)
        asked = questions(problem, algorithm.device)
        bench = Bench(open_device(algorithm.device), asked, variant.workspace_bytes)
        check = bench.verify(plan, variant, lambda p, *arguments: p.run(*arguments))
        if check.deterministic:
            _repeat(plan, bench, variant)
        if check.accuracy == accuracy.UNRANKED:
            return f"relative L2 {check.relative_l2:.3g} earns no accuracy class under {problem.precision}"
        plan.close()
    except WrongError as error:
        return str(error)
    except Exception as error:  # whatever an implementation raises is a finding
        return f"{type(error).__name__}: {one_line(str(error))}"
    return None


def _repeat(plan: Plan, bench: Bench, variant: Variant) -> None:
    """More runs on the same operands; a variant that claims to be deterministic has to agree with itself."""
    first, workspace = bench.out.copy(), bench.workspace(variant)
    for _ in range(RUNS - 2):
        with np.errstate(all="ignore"):
            plan.run(*bench.questions.dense.operands, bench.out, workspace)
        if variant.details.get("deterministic") and first.tobytes() != bench.out.tobytes():
            raise WrongError("nondeterministic: declared deterministic, but runs differ")


def solve(algorithm: Algorithm, problem: Problem, variant: Variant, a: Any, b: Any) -> Any:
    """One result, outside any timing."""
    plan = algorithm.prepare(problem, variant)
    device = open_device(algorithm.device)
    out = device.xp.full(problem.shapes[2], np.nan, storage_dtype(problem.precision))
    with np.errstate(all="ignore"):
        plan.run(a, b, out, device.guarded(variant.workspace_bytes).take(variant.workspace_bytes))
    plan.close()
    return out


def check_taps(algorithm: Algorithm, problem: Problem) -> Iterator[Finding]:
    """One filter tap at a time: a missing or shifted tap is then an error of 100 %, in any accuracy class."""
    if algorithm.reject(problem) is not None:
        return
    for variant in _offered(algorithm, problem):
        failures = [_tap_failure(algorithm, problem, variant, tap) for tap in np.ndindex(problem.taps)]
        first = next((failure for failure in failures if failure), None)
        yield Finding("taps", problem.label, variant.name, first, known=_known(algorithm, problem, variant))


def _tap_failure(
    algorithm: Algorithm, problem: Problem, variant: Variant, tap: tuple[int, ...]
) -> str | None:
    a, b = (operand.copy() for operand in questions(problem, algorithm.device).dense.operands)
    index: Any = (..., *tap) if problem.layout is Layout.NCHW else (slice(None), *tap)
    if problem.direction is not Direction.BWD_FILTER:
        kept = b[index].copy()
        b[...] = 0
        b[index] = kept
    answer, seen = reference(problem, a, b), index if problem.direction is Direction.BWD_FILTER else ...
    try:
        error = solve(algorithm, problem, variant, a, b)[seen].astype(np.float64) - answer[seen]
    except Exception as failure:
        return f"tap {tap}: {type(failure).__name__}: {one_line(str(failure))}"
    relative = norm(error) / (norm(answer[seen]) or 1.0)
    grade = accuracy.grade(problem.precision, relative)
    if grade.accuracy in (None, accuracy.UNRANKED):
        return f"tap {tap}: relative L2 {relative:.3g}"
    return None


def check_adjoint(algorithm: Algorithm, problem: Problem) -> Iterator[Finding]:
    """<fwd(x, w), dy> = <x, bwd-data(dy, w)> = <w, bwd-filter(x, dy)>: three views of one operator."""
    directions = [problem.with_(direction=direction) for direction in Direction]
    reasons = [reason for direction in directions if (reason := _declined(algorithm, direction))]
    if reasons:
        yield Finding("adjoint", str(problem), skipped=reasons[0])
        return
    try:
        failure = _adjoint_failure(algorithm, directions)
    except Exception as error:  # whatever an implementation raises is a finding
        failure = f"{type(error).__name__}: {one_line(str(error))}"
    yield Finding("adjoint", f"{problem}/{problem.precision}/{problem.layout}", failure=failure)


def _declined(algorithm: Algorithm, problem: Problem) -> str | None:
    """Why nothing of this algorithm solves the problem, or None."""
    reason = algorithm.reject(problem)
    if reason is None and not _offered(algorithm, problem):
        return "every variant is refused"
    return reason


def _adjoint_failure(algorithm: Algorithm, directions: list[Problem]) -> str | None:
    forward, data, filters = directions
    x, w = questions(forward, algorithm.device).dense.operands
    dy = questions(data, algorithm.device).dense.operands[0]
    results = []
    for problem, a, b in ((forward, x, w), (data, dy, w), (filters, x, dy)):
        results.append(solve(algorithm, problem, _offered(algorithm, problem)[0], a, b).astype(np.float64))
    y, dx, dw = results
    pairs = ((y, dy), (x, dx), (w, dw))
    products = [float((left.astype(np.float64) * right).sum()) for left, right in pairs]
    size = norm(x) * norm(w) * norm(dy)  # not |y|: where padding makes y zero, a transform may leave noise
    bar = accuracy.BARS[accuracy.ASKED[forward.precision]]
    gap = (max(products) - min(products)) / size
    if gap <= bar:
        return None
    return f"inner products {products} differ by {gap:.3g} of |x||w||dy|, above {bar:.3g}"
