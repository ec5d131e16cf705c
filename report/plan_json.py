"""A plan for programs, under names that stay; docs/planning.md says what each means."""

from __future__ import annotations

import shlex
from typing import Any

from convbench.plan import Choice, Step

from .plan import Plan

SCHEMA = 1


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan under stable names; docs/planning.md says what each means."""
    scope = plan.network.ranking.scope
    return {
        "kind": "plan",
        "schema": SCHEMA,
        "network": plan.network.name,
        "directions": list(plan.network.directions),
        **scope._asdict(),
        "budget": plan.budget.value,
        "limit_bytes": plan.limit,
        "complete": not plan.missing,
        "time_ms": plan.ms,
        "time_ms_without_limit": plan.free_ms,
        "largest_workspace_bytes": plan.largest,
        "sum_workspace_bytes": plan.together,
        "layers": [_layer(plan, choice) for choice in plan.choices],
        "missing": [{"layer": t.layer, "problem": t.problem, "direction": t.direction} for t in plan.missing],
    }


def _layer(plan: Plan, choice: Choice) -> dict[str, Any]:
    return {
        "layer": choice.task.layer,
        "problem": choice.task.problem,
        "direction": choice.task.direction,
        "repeat": choice.count,
        "time_ms": choice.option.ms,
        "workspace_bytes": choice.option.workspace,
        "steps": [_json_step(plan, step) for step in choice.option.steps],
    }


def _json_step(plan: Plan, step: Step) -> dict[str, Any]:
    entry = step.entry
    return {
        "times": step.times,
        "problem": entry.problem,
        "algorithm": entry.algorithm,
        "variant": entry.variant,
        "time_ms": entry.ms,
        "workspace_bytes": entry.workspace if entry.known else None,
        "accuracy": entry.accuracy,
        "flags": entry.flags.split(),
        "command": command(plan, step),
    }


def command(plan: Plan, step: Step) -> str:
    """What measures this step again."""
    entry, scope = step.entry, plan.network.ranking.scope
    words = [
        "convbench",
        "run",
        entry.problem,
        "--algorithms",
        entry.algorithm,
        "--directions",
        entry.direction,
    ]
    words += ["--precision", scope.precision, "--layout", scope.layout, "--device", scope.device]
    words += ["--burst"] if scope.regime == "burst" else []
    words += [f"--{scope.preset}"] if scope.preset in ("quick", "rigorous") else []
    cache = scope.figure.removeprefix("gpu_").replace("_", "-")
    words += ["--cache", cache] if cache in ("hot", "cold-weights") else []
    return shlex.join(words)
