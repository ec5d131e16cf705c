"""A stand-in for the module `cudnn` of nvidia-cudnn-frontend: plans what it is told, records what is asked.

It has the two flavours that matter. 1.26 lists a plan once for every mode that proposes it; its handles are
integers. 1.32 lists a plan once, plans a graph only once, does not tell plans apart that differ in a knob
without a name, and wants its own handles. In both a filter marks only the plans that are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

NOTES = (
    *("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION", "FFT", "NONDETERMINISTIC"),
    *("WINOGRAD", "WINOGRAD_TILE_4x4", "STRICT_NAN_PROP"),
)
NAMED_KNOBS = {2: "TILE_SIZE", 12: "SPLIT_K_BUF", 13: "TILEK", 14: "STAGES", 18: "IDX_MODE", 25: "WORKSPACE"}
TENSOR = ("TENSOR_CORE",)
OPERANDS = {
    "conv_fprop": {"image", "weight"},
    "conv_dgrad": {"loss", "filter"},
    "conv_wgrad": {"image", "loss"},
}
SETTINGS = {"pre_padding", "post_padding", "stride", "dilation", "convolution_mode"}


@dataclass(frozen=True)
class FakePlan:
    """A plan that the library proposes; `error` is what building it raises."""

    name: str
    workspace: int = 0
    notes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("A", "B")
    behavior: tuple[str, ...] = ()
    error: str = ""

    @property
    def engine(self) -> int:
        return int(re.findall(r"\d+", self.name)[0])

    @property
    def knobs(self) -> dict[str, int]:
        pairs = re.findall(r"_k(\d+)=(-?\d+)", self.name)
        return {NAMED_KNOBS.get(int(number), "NOT_SET"): int(value) for number, value in pairs}


class NotSupportedError(Exception):
    """cudnnGraphNotSupportedError, which is no RuntimeError."""


def members(name: str, *names: str) -> Any:
    return Enum(name, names)


@dataclass(eq=False)
class Handle:
    stream: int = 0


class Frontend:
    """The module."""

    cudnnGraphNotSupportedError = NotSupportedError
    data_type = members("data_type", "FLOAT", "DOUBLE", "HALF", "BFLOAT16")
    heur_mode = members("heur_mode", "A", "B", "FALLBACK", "OPENSOURCE")
    numerical_note = members("numerical_note", *NOTES)
    behavior_note = members("behavior_note", "RUNTIME_COMPILATION", "CUBLASLT_DEPENDENCY")
    knob_type = members("knob_type", "NOT_SET", *NAMED_KNOBS.values())
    _compiled_module = SimpleNamespace(
        convolution_mode=members("convolution_mode", "CONVOLUTION", "CROSS_CORRELATION")
    )

    def __init__(self, *plans: FakePlan, version: str = "1.26.0", declines: str = "") -> None:
        self.__version__ = version
        self.plans, self.declines = plans, declines
        self.one_shot = version.startswith("1.32")
        self.lost_filters = False
        self.filter_error = ""
        self.graphs: list[Graph] = []
        self.streams: list[int] = []
        self.handles = 0

    def backend_version(self) -> int:
        return 91900

    def backend_version_string(self) -> str:
        return "9.19.0"

    def create_handle(self) -> Any:
        self.handles += 1
        return Handle() if self.one_shot else 0xC0DE

    def set_stream(self, *, handle: Any, stream: int) -> None:
        self.own(handle)
        self.streams.append(stream)

    def own(self, handle: Any) -> None:
        if not isinstance(handle, Handle if self.one_shot else int):
            raise TypeError(f"expected a handle of this version, got {handle!r}")

    def pygraph(self, **settings: Any) -> Graph:
        self.own(settings["handle"])
        self.graphs.append(Graph(self, settings))
        return self.graphs[-1]


class Tensor:
    """An operand, or a result that is being described."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def put(value: Any) -> Tensor:
            self.settings[name.removeprefix("set_")] = value
            return self

        return put


@dataclass(eq=False)
class Graph:
    """One operation, the plans proposed for it, and which of them were built, barred and executed."""

    frontend: Frontend
    settings: dict[str, Any]
    operation: tuple[str, dict[str, Any]] | None = None
    result: Tensor | None = None
    steps: list[str] = field(default_factory=list)
    plans: list[FakePlan] = field(default_factory=list)
    built: set[int] = field(default_factory=set)
    barred: set[int] = field(default_factory=set)
    executed: list[Any] = field(default_factory=list)

    def tensor(self, **settings: Any) -> Tensor:
        return Tensor(**settings)

    def __getattr__(self, name: str) -> Any:
        if name not in OPERANDS:
            raise AttributeError(name)

        def operation(**settings: Any) -> Tensor:
            if settings.keys() != OPERANDS[name] | SETTINGS:
                raise TypeError(f"{name} does not take {sorted(settings)}")
            self.operation, self.result = (name, settings), Tensor()
            return self.result

        return operation

    def validate(self) -> None:
        self.steps.append("validate")

    def build_operation_graph(self) -> None:
        self.steps.append("build_operation_graph")

    def create_execution_plans(self, modes: list[Any]) -> None:
        if self.frontend.one_shot and "plan" in self.steps:
            raise RuntimeError("planning is one-shot")
        self.steps.append("plan")
        if self.frontend.declines:
            raise NotSupportedError(self.frontend.declines)
        proposed = [p for mode in modes for p in self.frontend.plans if mode.name in p.modes]
        if self.frontend.one_shot:
            proposed = list({(p.engine, repr(p.knobs)): p for p in reversed(proposed)}.values())[::-1]
        if not proposed:
            raise NotSupportedError("No valid engine configs for _\n{}")
        self.plans += proposed

    def select_numeric_notes(self, notes: list[Any]) -> None:
        if self.frontend.lost_filters:
            return
        for index, plan in enumerate(self.plans):
            if any(note.name not in plan.notes for note in notes):
                self.barred.add(index)

    def get_execution_plan_count(self) -> int:
        return len(self.plans)

    def get_plan_name_at_index(self, index: int) -> str:
        return self.plans[index].name

    def get_engine_and_knobs_at_index(self, index: int) -> tuple[int, dict[Any, int]]:
        plan = self.plans[index]
        return plan.engine, {self.frontend.knob_type[name]: value for name, value in plan.knobs.items()}

    def get_behavior_notes_for_plan_at_index(self, index: int) -> list[Any]:
        return [self.frontend.behavior_note[name] for name in self.plans[index].behavior]

    def build_plan_at_index(self, index: int) -> None:
        if index in self.barred:
            raise NotSupportedError(self.frontend.filter_error or "Deselecting execution plan")
        if self.plans[index].error:
            raise RuntimeError(self.plans[index].error)
        self.built.add(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        if index not in self.built:
            raise RuntimeError(f"Plan index {index} did not build.")
        return self.plans[index].workspace

    def execute_plan_at_index(self, pack: dict[int, int], workspace: int, index: int, handle: Any) -> None:
        self.frontend.own(handle)
        if index not in self.built:
            raise RuntimeError(f"Plan index {index} did not build.")
        if not all(type(pointer) is int for pointer in (*pack, *pack.values(), workspace)):
            raise TypeError("pointers are plain integers")
        self.executed.append((self.plans[index].name, pack, workspace))
