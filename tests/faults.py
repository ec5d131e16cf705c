"""Algorithms with one planted fault each, around a correct one, for tests of whatever has to survive them.

Those in `DEADLY` cost the process in which they run; `DEADLY_ALGORITHMS` makes them a plug-in.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
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


# ---- deadly ones -------------------------------------------------------------------------------------------


class Segfaults(Correct):
    def spoil(self, call: Call) -> None:
        ctypes.string_at(0)


class SegfaultsLater(Correct):
    def spoil(self, call: Call) -> None:
        if call.number > CHECKED_CALLS:
            ctypes.string_at(0)


class SegfaultsInVariants(Correct):
    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        ctypes.string_at(0)
        return []


class SegfaultsInPrepare(Correct):
    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        ctypes.string_at(0)
        return super().prepare(problem, variant)


class Aborts(Correct):
    def spoil(self, call: Call) -> None:
        os.abort()


@dataclass(frozen=True)
class Exits(Correct):
    code: int = 0

    def spoil(self, call: Call) -> None:
        os._exit(self.code)


class Complains(Correct):
    """Writes where events go, and leaves with a message."""

    def spoil(self, call: Call) -> None:
        print("this goes to standard output, which is nobody's", flush=True)
        sys.stderr.write("first\x1b[31m line\nlast words\n")
        sys.stderr.flush()
        os._exit(7)


class Loops(Correct):
    def spoil(self, call: Call) -> None:
        while True:
            pass


class Sleeps(Correct):
    def spoil(self, call: Call) -> None:
        time.sleep(3600)


class IsDeaf(Correct):
    """Hangs, and cannot be told to leave."""

    def spoil(self, call: Call) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)


class LeavesSomebody(Correct):
    """Dies, but a process that it started holds its pipes open."""

    def spoil(self, call: Call) -> None:
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(9)


class OutOfMemoryLater(Correct):
    def spoil(self, call: Call) -> None:
        if call.number > CHECKED_CALLS:
            raise MemoryError("planted")


class EatsMemory(Correct):
    """Takes memory by itself until there is none: here what a limit leaves, not what the machine has."""

    def spoil(self, call: Call) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        taken = []
        while True:
            taken.append(bytearray(1 << 20))


DEADLY: tuple[tuple[Algorithm, Status, str], ...] = (
    (Segfaults("segfaults"), Status.CRASHED, "killed by SIGSEGV (signal 11) in phase 'check'"),
    (SegfaultsLater("segfaults-later"), Status.CRASHED, "killed by SIGSEGV (signal 11) in phase 'warm-up'"),
    (
        SegfaultsInVariants("segfaults-in-variants"),
        Status.CRASHED,
        "killed by SIGSEGV (signal 11) in phase 'plan'",
    ),
    (
        SegfaultsInPrepare("segfaults-in-prepare"),
        Status.CRASHED,
        "killed by SIGSEGV (signal 11) in phase 'prepare'",
    ),
    (Aborts("aborts"), Status.CRASHED, "killed by SIGABRT (signal 6) in phase 'check'"),
    (Exits("exits-0", code=0), Status.CRASHED, "the process left with exit code 0 in phase 'check'"),
    (Exits("exits-123", code=123), Status.CRASHED, "the process left with exit code 123 in phase 'check'"),
    (Complains("complains"), Status.CRASHED, "exit code 7 (last words) in phase 'check'"),
    (LeavesSomebody("leaves-somebody"), Status.CRASHED, "exit code 9 in phase 'check'"),
    (Loops("loops"), Status.TIMEOUT, "not done within 2 s, ended in phase 'check'"),
    (Sleeps("sleeps"), Status.TIMEOUT, "not done within 2 s, ended in phase 'check'"),
    (IsDeaf("is-deaf"), Status.TIMEOUT, "not done within 2 s, ended in phase 'check'"),
    (Offers("greedy", offered=(Variant("a", HUGE),)), Status.OOM, "are free"),
    (EatsMemory("eats-memory"), Status.OOM, "MemoryError"),
    (OutOfMemoryLater("out-of-memory-later"), Status.OOM, "MemoryError: planted"),
    (WritesPastResult("writes-past-result"), Status.WRONG, "out_of_bounds: bytes next to the result"),
    (WritesNan("writes-nan"), Status.WRONG, "unwritten: 1 of"),
    (WrongElement("wrong-element"), Status.WRONG, "exact: 1 of"),
)
"""Faults that a process of its own is for, besides harmless ones that share the group with them."""

DEADLY_ALGORITHMS = (Correct(), Correct("also-correct"), *(algorithm for algorithm, _, _ in DEADLY))
"""What the plug-in offers."""
