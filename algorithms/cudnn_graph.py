"""cuDNN's graph API: the plans that its heuristics propose, and the plan they pick.

A plan is an engine with its knobs set; a problem may have a hundred. First come those that heuristic mode A
would pick under some workspace limit, then the best-ranked plan of each engine, then the second of each, and
so on. By rank alone sixteen plans can all be one engine, while engines are what other algorithms are compared
with; little is lost, for the plan ranked first tends to be the fastest (on a 3x3 layer of VGG it tied with
the best of 87 in fp16 and of 41 in tf32).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from operator import itemgetter
from time import perf_counter
from typing import Any

from convbench import cuda, cudnn_graph, cudnn_plans
from convbench.api import Array, Plan, Precision, Problem, Variant
from convbench.cudnn_plans import PlanFacts
from convbench.errors import UsageError, one_line

from . import cudnn_select as select

VARIABLE, DEFAULT = "CONVBENCH_PLANS", 16
ROUNDING = frozenset({"DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"})
FLOAT_SCALES = (
    "fp64: nvidia-cudnn-frontend hands over the scale 1.0f, which cuDNN reads as 64 bits: results x 5.3e-315"
)
# Notes that a precision rules out. 16-bit plans carry theirs in the record, and accuracy classes judge them.
BARRED = {Precision.FP32: ROUNDING | {"TENSOR_CORE"}, Precision.TF32: ROUNDING}


@dataclass(frozen=True)
class CudnnGraph:
    """Plans of cuDNN's numbered engines; `heuristic` is what mode A picks."""

    name: str = "cudnn-graph"
    device: str = "cuda"

    def reject(self, problem: Problem) -> str | None:
        reason = cuda.missing() or cudnn_graph.missing()
        if reason is not None:
            return reason
        if problem.precision is Precision.FP64:
            return FLOAT_SCALES
        try:
            cudnn_plans.listing(problem)
        except cudnn_graph.not_supported() as error:
            return f"cuDNN proposes no plan: {cudnn_graph.first_line(error)}"
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        listing, wanted = cudnn_plans.listing(problem), plan_limit()
        failed = [plan for plan in listing.plans if plan.refused]
        built = [plan for plan in listing.plans if not plan.refused]
        barred = {plan: words for plan in built if (words := why_barred(problem, plan))}
        usable = [plan for plan in built if plan not in barred]
        best = by_merit(usable, listing.order)[:wanted]
        fitting = [plan for plan in usable if workspace_limit is None or plan.workspace <= workspace_limit]
        timed = {*best, *by_merit(fitting, listing.order)[:wanted]}
        variants = [
            _heuristic(problem, usable, listing.order, workspace_limit),
            *(_variant(problem, plan) for plan in usable if plan in timed),
            *(Variant(plan.name, refused=plan.refused, details={"rank": plan.rank}) for plan in failed),
            *_barred(problem, barred, len(built)),
            *_more([plan for plan in usable if plan not in best], len(usable)),
        ]
        share = {"plans": f"{len(best)} of {len(usable)}"}
        return [replace(variant, details={**variant.details, **share}) for variant in variants]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return GraphPlan(problem, variant.details.get("picked", variant.name), variant.workspace_bytes)


def plan_limit() -> int | None:
    """How many plans of a problem are timed; None is all."""
    text = os.environ.get(VARIABLE, str(DEFAULT))
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(f"{VARIABLE} = '{one_line(text)}': must be a number from 1, or 'all'")
    return int(text)


def by_merit(plans: Sequence[PlanFacts], order: Sequence[str]) -> list[PlanFacts]:
    """All plans, those first that are worth timing first; `plans` come by rank."""
    return list(dict.fromkeys([*_picks(plans, order), *_by_engine(plans)]))


def _picks(plans: Sequence[PlanFacts], order: Sequence[str]) -> Iterator[PlanFacts]:
    """What the first fit in that order is under one workspace limit or another."""
    least = inf
    for plan in sorted((plan for plan in plans if plan.name in order), key=lambda p: order.index(p.name)):
        if plan.workspace < least:
            least = plan.workspace
            yield plan


def _by_engine(plans: Sequence[PlanFacts]) -> list[PlanFacts]:
    """The first plan of each engine, then the second of each, and so on."""
    seen: Counter[int] = Counter()
    turns = []
    for plan in plans:
        turns.append((seen[plan.engine], plan))
        seen[plan.engine] += 1
    return [plan for _, plan in sorted(turns, key=itemgetter(0))]


def why_barred(problem: Problem, plan: PlanFacts) -> str:
    """Notes that keep a plan from a precision; empty if nothing does."""
    ruled_out = BARRED.get(problem.precision, frozenset())
    if plan.notes is None:
        return "unknown notes" if ruled_out else ""
    return ", ".join(sorted(plan.notes & ruled_out))


def _variant(problem: Problem, plan: PlanFacts) -> Variant:
    # engine 17 of the filter gradient is a transform without a note (cuDNN 9.19): no plan promises plain sums
    return Variant(plan.name, plan.workspace, exact=False, details=_details(problem, plan))


def family(plan: PlanFacts) -> str:
    """Engines tell transforms by their notes; implicit GEMM and direct ones only by their kernels' names."""
    if plan.notes is None:
        return "unknown"
    return next((note.lower() for note in ("FFT", "WINOGRAD") if note in plan.notes), "other")


def _is_product(plan: PlanFacts) -> bool:
    """Tensor-core engines without the note of a transform are matrix products; of others it is not known."""
    return family(plan) == "other" and "TENSOR_CORE" in (plan.notes or ())


def _details(problem: Problem, plan: PlanFacts) -> dict[str, Any]:
    details: dict[str, Any] = {
        "backend": "cuDNN",
        **cudnn_graph.versions(),
        "rank": plan.rank,
        "engine": plan.engine,
        "knobs": dict(plan.knobs),
        "family": family(plan),
        "behavior": list(plan.behavior),
        "flops": problem.flops if _is_product(plan) else None,
    }
    if plan.notes is None:
        return details
    tensor = "tf32" if problem.precision is Precision.TF32 else "tensor_op"
    return details | {
        "notes": sorted(plan.notes),
        "math": tensor if "TENSOR_CORE" in plan.notes else "fma",
        "deterministic": "NONDETERMINISTIC" not in plan.notes,
    }


def _heuristic(
    problem: Problem, usable: Sequence[PlanFacts], order: Sequence[str], limit: int | None
) -> Variant:
    """What mode A picks among the plans that the precision allows."""
    offered = {plan.name: _variant(problem, plan) for plan in usable if plan.name in order}
    ranked = [(name, offered[name].workspace_bytes) for name in order if name in offered]
    if ranked:
        return select.heuristic(ranked, offered, limit)
    reason = f"heuristic mode A proposes no plan for {problem.precision}"
    return Variant("heuristic", refused=reason, details={"selection": "heuristic"})


def _barred(problem: Problem, barred: dict[PlanFacts, str], built: int) -> Iterator[Variant]:
    """One line for all plans whose arithmetic the precision rules out."""
    if not barred:
        return
    why = "; ".join(f"{words} ({_engines(barred, words)})" for words in sorted(set(barred.values())))
    hint = "; tf32 allows TENSOR_CORE" if problem.precision is Precision.FP32 else ""
    reason = f"{len(barred)} of {built} plans may round below {problem.precision}: {why}{hint}"
    yield Variant("rounding", refused=reason, details={"left_out": [plan.name for plan in barred]})


def _engines(barred: dict[PlanFacts, str], words: str) -> str:
    return " ".join(f"eng{e}" for e in sorted({plan.engine for plan, why in barred.items() if why == words}))


def _more(left: Sequence[PlanFacts], usable: int) -> Iterator[Variant]:
    if left:
        reason = f"{len(left)} of {usable} plans are not timed; --plans all or {VARIABLE}=all times them"
        yield Variant("more", refused=reason, details={"left_out": [plan.name for plan in left]})


class GraphPlan:
    """One plan on a graph of its own. Its first call loads kernels, as the first of any cuDNN plan does."""

    def __init__(self, problem: Problem, name: str, granted: int) -> None:
        import cupy

        start = perf_counter()
        self._graph = cudnn_graph.planned(problem)
        listed = perf_counter()
        self._index = cudnn_plans.build(self._graph, name)
        self.setup = {"graph": listed - start, "build": perf_counter() - listed}
        need = self._graph.get_workspace_size_plan_at_index(self._index)
        if need > granted:
            raise RuntimeError(f"plan {name} now needs {need} bytes of workspace, {granted} were promised")
        self._session = cudnn_graph.session()
        self._stream = cupy.cuda.get_current_stream

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        pointers = {
            cudnn_graph.A: a.data.ptr,
            cudnn_graph.B: b.data.ptr,
            cudnn_graph.OUT: out.data.ptr,
        }
        handle = self._session.on(self._stream().ptr)
        self._graph.execute_plan_at_index(pointers, workspace.data.ptr, self._index, handle=handle)

    def close(self) -> None:
        self._graph = None


ALGORITHMS = (CudnnGraph(),)
