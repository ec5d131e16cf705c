"""What one cell of a sweep leaves behind: identity, status, figures, and every raw sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any, Self

from convbench.problem import Problem
from convbench.typed import typed

SCHEMA = 1


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
class Host:
    """Seconds of one call as its user sees them: until it returns, and until its result is there."""

    enqueue: float
    call: float


@dataclass(frozen=True)
class Board:
    """What NVML saw of the GPU while the cell was timed; None is what it does not tell.

    `processes` counts compute processes of others.
    """

    sm_mhz: float | None
    sm_mhz_min: float | None
    memory_mhz: float | None
    watts: float | None
    celsius: float | None
    reasons: list[str]
    processes: int


@dataclass(frozen=True)
class Energy:
    """Joules per call of the whole board, over a window of calls back to back."""

    joules: float
    watts: float
    resolution: float
    window: float
    step: float
    calls: int
    idle_watts: float | None = None


@dataclass(frozen=True)
class Limit:
    """The time this machine's measured rate would need, and the name of that rate."""

    seconds: float
    rate: str


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
    cache: str = "cold"

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
            "cache": self.cache,
            "source": source,
            "identity": identity,
        }
        return hashlib.sha256(canonical(content)).hexdigest()


PARTS: dict[str, Callable[..., Any]] = {
    "check": Check,
    "time": Timing,
    "workspace": Workspace,
    "host": Host,
    "board": Board,
    "energy": Energy,
    "limit": Limit,
}

PROBLEM = ("text", "direction", "precision", "layout")
LATER = ("host", "board", "energy", "limit")  # not in the first records there were


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
    host: Host | None = None
    board: Board | None = None
    energy: Energy | None = None
    limit: Limit | None = None
    setup: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    started: str = ""

    def to_json(self) -> dict[str, Any]:
        body, cell = _shallow(self), _shallow(self.cell)
        cell["problem"] = self.cell.problem.as_dict()
        parts = {name: _shallow(body[name]) if body[name] else None for name in PARTS}
        return {"kind": "cell", "schema": SCHEMA, **body, **parts, "cell": cell, "status": self.status.value}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The record in a stored line; ValueError, TypeError or KeyError if it is not one."""
        cell = dict(line["cell"])
        cell["problem"] = _problem(*(cell["problem"][name] for name in PROBLEM))
        plain = ("key", "reason", "flags", "setup", "details", "environment", "started")
        parts: dict[str, Any] = {
            name: typed(kind, line[name]) if line[name] is not None else None
            for name, kind in PARTS.items()
            if name in line or name not in LATER
        }
        parts |= {"cell": typed(Cell, cell), "status": Status(line["status"])}
        record = typed(cls, parts | {name: line[name] for name in plain})
        if record.status is Status.OK and record.time is None:
            raise ValueError("status ok without figures")
        if record.time is not None and not record.time.plausible:
            raise ValueError("times must be positive")
        return record


def _shallow(one: Any) -> dict[str, Any]:
    """Fields by name; unlike `asdict` it does not copy every sample."""
    return {f.name: getattr(one, f.name) for f in fields(one)}


@lru_cache(maxsize=1 << 14)
def _problem(text: str, direction: str, precision: str, layout: str) -> Problem:
    """One object for all cells of a problem; what follows from its sizes is then worked out once."""
    return Problem.parse(text, direction=direction, precision=precision, layout=layout)


def canonical(content: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, no NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")
