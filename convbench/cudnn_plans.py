"""The plans cuDNN's graph API has for a problem: names, needs, notes, and what the heuristics put first.

cuDNN offers a convolution as numbered engines with knobs. An engine with its knobs set is a plan; its name
says both (`eng62_k2=0_k13=1`). Which plans there are and in what order depends on the library's version and
on its heuristics, so a plan is known by its name and never by its index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

from convbench.cudnn_graph import first_line, not_supported, planned
from convbench.problem import Problem

# cudnnBackendKnobType_t, by number
KNOBS = (
    *("SPLIT_K", "SWIZZLE", "TILE_SIZE", "USE_TEX", "EDGE", "KBLOCK", "LDGA", "LDGB", "CHUNK_K", "SPLIT_H"),
    *("WINO_TILE", "MULTIPLY", "SPLIT_K_BUF", "TILEK", "STAGES", "REDUCTION_MODE", "CTA_SPLIT_K_MODE"),
    *("SPLIT_K_SLC", "IDX_MODE", "SLICED", "SPLIT_RS", "SINGLEBUFFER", "LDGC", "SPECFILT", "KERNEL_CFG"),
    *("WORKSPACE", "TILE_CGA", "TILE_CGA_M", "TILE_CGA_N", "BLOCK_SIZE", "OCCUPANCY"),
    *("ARRAY_SIZE_PER_THREAD", "NUM_C_PER_BLOCK", "SPLIT_COLS", "TILE_ROWS", "TILE_COLS", "LOAD_SIZE"),
    *("CTA_COUNT", "STREAM_K", "SPLIT_P_SLC", "TILE_M", "TILE_N", "WARP_SPEC_CFG", "SWAP_AB"),
)
_NAME = re.compile(r"eng(\d+)((?:_k\d+=-?\d+)*)")
_FILTERED = "Deselecting"  # in the message about a plan that a filter took out


@dataclass(frozen=True)
class PlanFacts:
    """What is known of one plan of one problem.

    rank      1 is what the heuristics put first
    notes     numerical notes of its engine; None where they cannot be had
    refused   why it does not build
    """

    name: str
    rank: int
    engine: int = -1
    knobs: tuple[tuple[str, int], ...] = ()
    workspace: int = 0
    notes: frozenset[str] | None = None
    behavior: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class Listing:
    """Every plan of a problem, and the names that heuristic mode A gives by itself, in its order."""

    plans: tuple[PlanFacts, ...]
    order: tuple[str, ...]


@lru_cache(maxsize=256)
def listing(problem: Problem) -> Listing:
    """Build every plan once to learn what it needs; the graph is dropped, the facts are kept."""
    graph = planned(problem)
    plans = [_facts(graph, index, name, rank) for rank, (name, index) in enumerate(indices(graph).items(), 1)]
    speakers = {plan.engine: plan.name for plan in reversed(plans) if not plan.refused}
    notes = _notes(problem, speakers)
    return Listing(tuple(replace(plan, notes=notes.get(plan.engine)) for plan in plans), _order(problem))


def build(graph: Any, name: str) -> int:
    """Build the plan of that name and give its index, which holds for this graph alone."""
    found = indices(graph)
    if name not in found:
        raise RuntimeError(f"cuDNN no longer proposes plan {name}; list the plans of this problem anew")
    graph.build_plan_at_index(found[name])
    return found[name]


def indices(graph: Any) -> dict[str, int]:
    """Every plan once, best first; several heuristic modes may propose the same one."""
    found: dict[str, int] = {}
    for index in range(graph.get_execution_plan_count()):
        found.setdefault(graph.get_plan_name_at_index(index), index)
    return found


def _order(problem: Problem) -> tuple[str, ...]:
    """A count over several modes does not tell them apart, so mode A is asked alone."""
    try:
        return tuple(indices(planned(problem, ("A",))))
    except not_supported():
        return ()


def _facts(graph: Any, index: int, name: str, rank: int) -> PlanFacts:
    engine, knobs = parse_name(name)
    if engine is None:
        return PlanFacts(name, rank, refused="an engine of the frontend, not of cuDNN")
    _cross_check(graph, index, name, engine, knobs)
    facts = PlanFacts(name, rank, engine, tuple(knobs.items()))
    try:
        graph.build_plan_at_index(index)
        workspace = int(graph.get_workspace_size_plan_at_index(index))
        behavior = tuple(note.name for note in graph.get_behavior_notes_for_plan_at_index(index))
    except Exception as error:  # each release raises its own kinds; what it says is kept
        return replace(facts, refused=f"does not build: {first_line(error)}")
    return replace(facts, workspace=workspace, behavior=behavior)


def parse_name(name: str) -> tuple[int | None, dict[str, int]]:
    """Engine and knobs; no engine where the name is not cuDNN's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None, {}
    choices = re.findall(r"_k(\d+)=(-?\d+)", match[2])
    return int(match[1]), {_knob(int(number)): int(value) for number, value in choices}


def _knob(number: int) -> str:
    return KNOBS[number] if number < len(KNOBS) else f"k{number}"


def _cross_check(graph: Any, index: int, name: str, engine: int, knobs: Mapping[str, int]) -> None:
    """Deprecated knobs have no name in the frontend and share one entry; all others have to agree."""
    told, choices = graph.get_engine_and_knobs_at_index(index)
    named = {kind.name: value for kind, value in choices.items() if kind.name != "NOT_SET"}
    if told != engine or not named.items() <= knobs.items():
        raise RuntimeError(f"plan {name} reads as engine {engine} {knobs}, cuDNN says {told} {named}")


def _notes(problem: Problem, speakers: Mapping[int, str]) -> dict[int, frozenset[str] | None]:
    """Numerical notes of each engine, found by keeping the plans with one note and seeing which still build.

    There is no getter. Notes belong to the engine and not to its knobs, so one plan that is known to build
    speaks for all of its engine.
    """
    answers: dict[int, dict[str, bool | None]] = {engine: {} for engine in speakers}
    for note, member in import_module("cudnn").numerical_note.__members__.items():
        graph = planned(problem)
        graph.select_numeric_notes([member])  # a filter set before there are plans is lost
        found = indices(graph)
        for engine, name in speakers.items():
            answers[engine][note] = _survives(graph, found[name])
    return {engine: _held(given) for engine, given in answers.items()}


def _survives(graph: Any, index: int) -> bool | None:
    """Whether a filter lets the plan build; None when it fails for another reason."""
    try:
        graph.build_plan_at_index(index)
    except Exception as error:
        return False if _FILTERED in str(error) else None
    return True


def _held(answers: Mapping[str, bool | None]) -> frozenset[str] | None:
    """The notes. When the filter took nothing out none can be believed, for some exclude one another."""
    if None in answers.values() or all(answers.values()):
        return None
    return frozenset(note for note, held in answers.items() if held)
