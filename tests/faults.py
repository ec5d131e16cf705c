"""Algorithms with one planted fault each, around a correct one, for tests of whatever has to survive them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convbench.api import Algorithm, Array, Plan, Problem, Variant
from convbench.record import Status
from convbench.reference import reference
from convbench.registry import Entry

CHECKED_CALLS = 3  # what verification needs; faults that hide until later begin after it


def entry(algorithm: Algorithm, source: str = "source") -> Entry:
    return Entry(algorithm, "test", source)


@dataclass(frozen=True)
class Correct:
    """The float64 reference as an algorithm; subclasses spoil one thing."""

    name: str = "correct"
    device: str = "cpu"

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [Variant("only", workspace_bytes=64)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        return ReferencePlan(problem, self)

    def spoil(self, call: Call) -> None:
        """Do the damage, after the right result has been written."""

    def close(self) -> None:
        pass


@dataclass
class Call:
    """What one run was given, what the result held before it, and how many runs came earlier."""

    a: Any
    b: Any
    out: Any
    workspace: Any
    before: Any
    number: int


@dataclass
class ReferencePlan:
    problem: Problem
    algorithm: Correct
    calls: int = 0

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        before = out.copy()
        out[...] = reference(self.problem, a, b)
        self.algorithm.spoil(Call(a, b, out, workspace, before, self.calls))
        self.calls += 1

    def close(self) -> None:
        self.algorithm.close()


class Rejects(Correct):
    def reject(self, problem: Problem) -> str | None:
        return "only on Sundays"


class NoVariants(Correct):
    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return []


class RaisesInReject(Correct):
    def reject(self, problem: Problem) -> str | None:
        raise KeyError("planted")


class RaisesInVariants(Correct):
    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        raise RuntimeError("planted")


@dataclass(frozen=True)
class Offers(Correct):
    """Offers just these variants."""

    offered: tuple[Variant, ...] = field(default=())

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return self.offered


class RaisesInPrepare(Correct):
    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        raise OSError("planted")


class RaisesInRun(Correct):
    def spoil(self, call: Call) -> None:
        raise ZeroDivisionError("planted")


class RaisesLater(Correct):
    def spoil(self, call: Call) -> None:
        if call.number > CHECKED_CALLS:
            raise ZeroDivisionError("planted")


class RaisesInClose(Correct):
    def close(self) -> None:
        raise RuntimeError("planted")


class OutOfMemory(Correct):
    def spoil(self, call: Call) -> None:
        raise MemoryError("planted")


class WritesNan(Correct):
    def spoil(self, call: Call) -> None:
        call.out.flat[0] = float("nan")


class WritesZeros(Correct):
    def spoil(self, call: Call) -> None:
        call.out[...] = 0


class WrongElement(Correct):
    def spoil(self, call: Call) -> None:
        call.out.flat[-1] += 1


class WrongLater(Correct):
    def spoil(self, call: Call) -> None:
        if call.number > CHECKED_CALLS:
            call.out.flat[-1] += 1


class LeavesUnwritten(Correct):
    def spoil(self, call: Call) -> None:
        call.out.flat[-1] = call.before.flat[-1]


class WritesPastResult(Correct):
    def spoil(self, call: Call) -> None:
        ctypes.memset(call.out.ctypes.data + call.out.nbytes, 1, 4)


class WritesBeforeWorkspace(Correct):
    def spoil(self, call: Call) -> None:
        ctypes.memset(call.workspace.ctypes.data - 4, 1, 4)


class ModifiesInput(Correct):
    def spoil(self, call: Call) -> None:
        call.a.flat[0] += 1


HUGE = 1 << 60
FAULTS: tuple[tuple[Algorithm, Status, str], ...] = (
    (Rejects("rejects"), Status.UNSUPPORTED, "only on Sundays"),
    (NoVariants("no-variants"), Status.UNSUPPORTED, "no variant"),
    (RaisesInReject("raises-in-reject"), Status.CRASHED, "KeyError in reject or variants: 'planted'"),
    (RaisesInVariants("raises-in-variants"), Status.CRASHED, "RuntimeError in reject or variants: planted"),
    (Offers("negative", offered=(Variant("a", -1),)), Status.CRASHED, "no byte counts"),
    (Offers("unstorable", offered=(Variant("a", details={"x": object()}),)), Status.CRASHED, "TypeError"),
    (Offers("not-a-number", offered=(Variant("a", details={"x": float("nan")}),)), Status.CRASHED, "float"),
    (Offers("verbose", offered=(Variant("a", details={"x": "y" * 10**6}),)), Status.CRASHED, "details"),
    (Offers("greedy", offered=(Variant("a", HUGE),)), Status.OOM, f"needs {str(HUGE)[:5]}"),
    (RaisesInPrepare("raises-in-prepare"), Status.CRASHED, "OSError: planted"),
    (RaisesInRun("raises-in-run"), Status.CRASHED, "ZeroDivisionError: planted"),
    (RaisesLater("raises-later"), Status.CRASHED, "ZeroDivisionError: planted"),
    (OutOfMemory("out-of-memory"), Status.OOM, "MemoryError: planted"),
    (WritesNan("writes-nan"), Status.WRONG, "unwritten: 1 of"),
    (WritesZeros("writes-zeros"), Status.WRONG, "exact: "),
    (WrongElement("wrong-element"), Status.WRONG, "exact: 1 of"),
    (WrongLater("wrong-later"), Status.WRONG, "error: relative L2"),
    (LeavesUnwritten("leaves-unwritten"), Status.WRONG, "unwritten: 1 of"),
    (WritesPastResult("writes-past-result"), Status.WRONG, "out_of_bounds: bytes next to the result"),
    (WritesBeforeWorkspace("writes-before-workspace"), Status.WRONG, "out_of_bounds: bytes next to the work"),
    (ModifiesInput("modifies-input"), Status.WRONG, "input_modified: operand a"),
)
"""Every fault with the status a cell ends in, and a part of the reason."""
