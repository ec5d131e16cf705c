"""What one cell of a sweep leaves behind: identity, status, figures, and every raw sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from convbench.problem import Problem

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

    @property
    def rounds(self) -> int:
        return len(self.blocks)


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
        parts: dict[str, Any] = {
            name: kind(**line[name]) if line[name] is not None else None
            for name, kind in (("check", Check), ("time", Timing), ("workspace", Workspace))
        }
        plain = {name: line[name] for name in ("key", "reason", "environment", "started")}
        if not all(isinstance(value, str) for value in plain.values()):
            raise TypeError("key, reason, environment and started must be text")
        return cls(
            **plain,
            **parts,
            cell=Cell(**cell),
            status=Status(line["status"]),
            flags=list(line["flags"]),
            setup=dict(line["setup"]),
            details=dict(line["details"]),
        )


def canonical(content: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, no NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")
