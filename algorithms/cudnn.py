"""NVIDIA's cuDNN through its legacy API, which names its algorithms: the opponent of the families here.

Nothing of cuDNN's support tables is repeated here: an algorithm that its workspace query refuses is listed
with that reason. The precision sets the math type. `heuristic` and `find` are what cuDNN picks by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter
from typing import Any

from convbench import cuda
from convbench.api import Plan, Problem, Variant
from convbench.errors import UsageError
from convbench.libcudnn import NotSupportedError, SetupError
from convbench.libcudnn_convolution import Convolution, Row
from convbench.libcudnn_find import MissingError
from convbench.libcudnn_types import MathType

from . import cudnn_select as select
from .cudnn_plan import OPERATIONS, CudnnPlan, compute_type, describe, find, open_handle


@dataclass(frozen=True)
class Cudnn:
    """Every named algorithm of the problem's direction, and cuDNN's own two ways to pick one."""

    name: str = "cudnn"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        if reason := cuda.missing():
            return reason
        if any(before != after for before, after in problem.pad):
            return "asymmetric padding: cuDNN's legacy API pads both sides alike"
        try:
            open_handle().library.function(f"cudnnConvolution{OPERATIONS[problem.direction]}")
            describe(problem).close()
        except (MissingError, SetupError, NotSupportedError) as error:
            return str(error)
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        with closing(describe(problem)) as convolution:
            rows, refusal = _advice(problem, convolution)
            named = list(_named(problem, convolution, rows))
        offered = {variant.name: variant for variant in named if not variant.refused}
        heuristic = _heuristic(problem, offered, rows, refusal, workspace_limit)
        return [*named, heuristic, _find(problem, offered, workspace_limit)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        if variant.details.get("selection") == "find":
            return _found(problem, variant.workspace_bytes)
        algorithm = OPERATIONS[problem.direction].algorithms[variant.details["algorithm"]]
        math = MathType[variant.details["math"].upper()]
        return CudnnPlan(problem, algorithm, math, variant.workspace_bytes)


def preferred(problem: Problem, preference: str, limit: int | None = None) -> str:
    """The variant that a workspace preference asks for: "none", "limit" or "fastest"."""
    reason, rows = Cudnn().reject(problem), list[Row]()
    if reason is None:
        with closing(describe(problem)) as convolution:
            rows, reason = _advice(problem, convolution)
    if reason:
        raise UsageError(f"cuDNN cannot be asked about '{problem}': {reason}")
    return select.preference(select.order(rows, _names(problem)), preference, limit)


def _names(problem: Problem) -> dict[tuple[IntEnum, MathType], str]:
    return select.names(OPERATIONS[problem.direction], problem.precision)


def _advice(problem: Problem, convolution: Convolution) -> tuple[list[Row], str]:
    """What the heuristic says, or why it says nothing."""
    convolution.use_math(select.usual_math(problem.precision))
    try:
        return convolution.advice(open_handle()), ""
    except NotSupportedError as error:
        return [], error.reason


def _named(problem: Problem, convolution: Convolution, rows: Sequence[Row]) -> Iterator[Variant]:
    """Every algorithm under every math type of the precision, with what it needs or why it is refused."""
    told = {(row.algorithm, row.math): row.deterministic for row in rows}
    for (algorithm, math), name in _names(problem).items():
        deterministic = told.get((algorithm, math), algorithm.name not in select.UNORDERED)
        details = _details(problem, algorithm, math, deterministic)
        convolution.use_math(math)
        try:
            size = convolution.workspace(open_handle(), algorithm)
        except NotSupportedError as error:
            yield Variant(name, refused=error.reason, details=details)
        else:
            exact = select.family(algorithm) not in select.TRANSFORMS
            yield Variant(name, size, exact=exact, details=details)


def _facts(problem: Problem) -> dict[str, Any]:
    """Details of every variant."""
    version, compute = open_handle().library.version, compute_type(problem).name.lower()
    return {"backend": "cuDNN", "cudnn": version, "compute": compute}


def _details(problem: Problem, algorithm: IntEnum, math: MathType, deterministic: bool) -> dict[str, Any]:
    family = select.family(algorithm)
    return {
        **_facts(problem),
        "algorithm": algorithm.name,
        "math": math.name.lower(),
        "family": family,
        "deterministic": deterministic,
        "flops": None if family in select.TRANSFORMS else problem.flops,
    }


def _heuristic(
    problem: Problem, offered: Mapping[str, Variant], rows: Sequence[Row], refusal: str, limit: int | None
) -> Variant:
    ranked = [one for one in select.order(rows, _names(problem)) if one[0] in offered]
    if ranked:
        return select.heuristic(ranked, offered, limit)
    reason = refusal or _nothing_usable(problem, rows)
    return Variant("heuristic", refused=reason, details={**_facts(problem), "selection": "heuristic"})


def _find(problem: Problem, offered: Mapping[str, Variant], limit: int | None) -> Variant:
    details = {**_facts(problem), "selection": "find", "flops": None}
    reason = "" if offered else "cuDNN refuses every algorithm"
    try:
        open_handle().library.function(f"cudnnFindConvolution{OPERATIONS[problem.direction]}AlgorithmEx")
    except NotSupportedError as error:
        reason = error.reason
    need = 0 if reason else select.room(offered.values(), limit)
    return Variant("find", need, exact=False, refused=reason, details=details)


def _found(problem: Problem, workspace_bytes: int) -> CudnnPlan:
    """The plan of what Find says is the fastest."""
    start = perf_counter()
    rows = find(problem, select.usual_math(problem.precision), workspace_bytes)
    setup = {"find": perf_counter() - start}
    named = _names(problem)
    best = next((row for row in rows if (row.algorithm, row.math) in named), None)
    if best is None:
        raise RuntimeError(_nothing_usable(problem, rows))
    details = _details(problem, best.algorithm, best.math, best.deterministic)
    details |= select.choice("find", named[best.algorithm, best.math], select.order(rows, named))
    return CudnnPlan(problem, best.algorithm, best.math, workspace_bytes, details, setup)


def _nothing_usable(problem: Problem, rows: Sequence[Row]) -> str:
    told = ", ".join(f"{row.algorithm.name} under {row.math.name}" for row in rows) or "nothing"
    return f"cuDNN suggests {told}: no algorithm that runs here under {problem.precision}"


ALGORITHMS = (Cudnn(),)
