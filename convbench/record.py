"""What one cell of a sweep leaves behind: identity, status, figures, and every raw sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from convbench.problem import Problem

SCHEMA = 1
_Kind = TypeVar("_Kind")


class Status(StrEnum):
    OK = "ok"
    UNSUPPORTED = "unsupported"
    OVER_LIMIT = "over_limit"
    WRONG = "wrong"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    OOM = "oom"
    INVALID = "invalid"


FAILURES = {Status.WRONG, Status.CRASHED, Status.TIMEOUT, Status.OOM, Status.INVALID}


@dataclass(frozen=True)
class Check:
    """Outcome of verification. Errors are None when the run that gives them never happened."""

    relative_l2: float | None = None
    elementwise: float | None = None
    accuracy: str | None = None
    exact: bool | None = None
    deterministic: bool | None = None
    weak: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over rounds of block medians, its interval, and the samples behind it."""

    figure: str
    median: float
    lo: float | None
    hi: float | None
    smallest: float
    q1: float
    q3: float
    tukey: int
    far: int
    calls: int
    blocks: list[float]
    samples: list[list[float]]
    clocks: list[float] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return len(self.blocks)

    @property
    def plausible(self) -> bool:
        """Whether every figure behind the median is a positive time."""
        figures = [self.median, *self.blocks, *chain.from_iterable(self.samples)]
        return bool(self.blocks) and any(self.samples) and min(figures) > 0


@dataclass(frozen=True)
class Workspace:
    """Bytes promised by the variant, granted by us, and taken by a library on its own (None: not known)."""

    promised: int
    granted: int
    library: int | None


@dataclass(frozen=True)
class Cell:
    """What is measured; with the environment it decides the key of a record."""

    problem: Problem
    algorithm: str
    variant: str
    device: str
    workspace_limit: int | None = None
    regime: str = "sustained"
    preset: str = "default"

    def key(self, source: str, identity: Mapping[str, Any]) -> str:
        """Content hash of the cell, the algorithm's source, and the device with its libraries."""
        content = {
            "problem": self.problem.as_dict(),
            "algorithm": self.algorithm,
            "variant": self.variant,
            "device": self.device,
            "workspace_limit": self.workspace_limit,
            "regime": self.regime,
            "preset": self.preset,
            "source": source,
            "identity": identity,
        }
        return hashlib.sha256(canonical(content)).hexdigest()


@dataclass(frozen=True)
class Record:
    """One cell with its one status."""

    key: str
    cell: Cell
    status: Status
    reason: str = ""
    flags: list[str] = field(default_factory=list)
    check: Check | None = None
    time: Timing | None = None
    workspace: Workspace | None = None
    setup: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    started: str = ""

    def to_json(self) -> dict[str, Any]:
        body = {f.name: getattr(self, f.name) for f in fields(self)}
        cell = {f.name: getattr(self.cell, f.name) for f in fields(self.cell)}
        cell["problem"] = self.cell.problem.as_dict()
        parts = {name: asdict(body[name]) if body[name] else None for name in ("check", "time", "workspace")}
        return {"kind": "cell", "schema": SCHEMA, **body, **parts, "cell": cell, "status": self.status.value}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The record in a stored line; ValueError, TypeError or KeyError if it is not one."""
        cell = dict(line["cell"])
        cell["problem"] = Problem.from_dict(cell["problem"])
        plain = ("key", "reason", "flags", "setup", "details", "environment", "started")
        parts: dict[str, Any] = {
            name: _typed(kind, line[name]) if line[name] is not None else None
            for name, kind in (("check", Check), ("time", Timing), ("workspace", Workspace))
        }
        parts |= {"cell": _typed(Cell, cell), "status": Status(line["status"])}
        record = _typed(cls, parts | {name: line[name] for name in plain})
        if record.status is Status.OK and record.time is None:
            raise ValueError("status ok without figures")
        if record.time is not None and not record.time.plausible:
            raise ValueError("times must be positive")
        return record


def _typed(kind: Callable[..., _Kind], content: Mapping[str, Any]) -> _Kind:
    """A dataclass from the content of a file, whose values may have any type."""
    made = kind(**content)
    concrete: type = type(made)
    for name, declared in _types(concrete).items():
        if not fits(getattr(made, name), declared):
            raise TypeError(f"'{name}' has a value of the wrong type")
    return made


@lru_cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def fits(value: Any, declared: Any) -> bool:
    """Whether a value read from a file has the declared type; numbers must stay within 64 bits."""
    origin, arguments = get_origin(declared), get_args(declared)
    if declared is Any:
        return True
    if origin is UnionType:
        return any(fits(value, argument) for argument in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if declared in (int, float):
        return type(value) in (int, declared) and abs(value) < 1 << 63
    return isinstance(value, declared)


def canonical(content: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, no NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")
