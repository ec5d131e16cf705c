"""GPU algorithms with one planted fault each, and how they end: `python tests/gpu_faults.py [FOLDER]`.

Needs a GPU. Runs one sweep with all of them around two correct ones, prints a table of fault, status and
reason, and leaves with exit code 1 if anything ended otherwise than it should.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convbench.api import Algorithm, Array, Plan, Problem, Variant
from convbench.reference import reference
from convbench.store import read

PROBLEM = "n2c8h9w7k8r3p1"
CHECKED_CALLS = 3  # what verification needs
LIMIT = 25  # seconds a step may take: more than the 5 that a held stream waits for a call, and 10 of warm-up

KERNELS = r"""
extern "C" __global__ void endless() { while (true) { asm volatile("nanosleep.u32 1000;"); } }
extern "C" __global__ void illegal() { *(volatile int*)16 = 1; }
extern "C" __global__ void trap() { asm volatile("trap;"); }
"""


@cache
def kernel(name: str) -> Any:
    import cupy

    return cupy.RawModule(code=KERNELS).get_function(name)


@dataclass(frozen=True)
class Correct:
    """The float64 reference as an algorithm; subclasses spoil one thing."""

    name: str = "correct"
    device: str = "cuda"
    after: int = 0  # calls that go well

    def reject(self, problem: Problem) -> str | None:
        return None

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        return [Variant("only", workspace_bytes=64)]

    def prepare(self, problem: Problem, variant: Variant) -> Plan:
        for name in ("endless", "illegal", "trap"):
            kernel(name)  # compiled here, so that no call has to
        return ReferencePlan(problem, self)

    def spoil(self, out: Array) -> None:
        """Do the damage, after the right result has been enqueued."""


class ReferencePlan:
    """Verification brings other operands in each of its calls; after it a call copies the last answer."""

    def __init__(self, problem: Problem, algorithm: Correct) -> None:
        self._problem, self._algorithm, self._calls = problem, algorithm, 0
        self._answer: Any = None

    def run(self, a: Array, b: Array, out: Array, workspace: Array) -> None:
        import cupy

        if self._calls < CHECKED_CALLS:
            self._answer = cupy.ascontiguousarray(reference(self._problem, a, b).astype(out.dtype))
        stream, device_to_device = cupy.cuda.get_current_stream().ptr, 3
        cupy.cuda.runtime.memcpyAsync(
            out.data.ptr, self._answer.data.ptr, out.nbytes, device_to_device, stream
        )
        if self._calls >= self._algorithm.after:
            self._algorithm.spoil(out)
        self._calls += 1

    def close(self) -> None:
        pass


class Endless(Correct):
    """A kernel that never ends."""

    def spoil(self, out: Array) -> None:
        kernel("endless")((1,), (1,), ())


class Illegal(Correct):
    """A kernel that writes where nothing is."""

    def spoil(self, out: Array) -> None:
        kernel("illegal")((1,), (1,), ())


class Traps(Correct):
    """A kernel that gives up."""

    def spoil(self, out: Array) -> None:
        kernel("trap")((1,), (1,), ())


class Greedy(Correct):
    """Wants more workspace than there is memory."""

    def variants(self, problem: Problem, workspace_limit: int | None) -> Sequence[Variant]:
        import cupy

        return [Variant("only", workspace_bytes=cupy.cuda.runtime.memGetInfo()[0] + (1 << 30))]


class EatsMemory(Correct):
    """Takes device memory by itself until there is none."""

    def spoil(self, out: Array) -> None:
        import cupy

        taken = []
        while True:
            taken.append(cupy.empty(1 << 30, "u1"))


class Synchronises(Correct):
    """Right, but it waits for the device in every call."""

    def spoil(self, out: Array) -> None:
        import cupy

        cupy.cuda.get_current_stream().synchronize()


class Nan(Correct):
    def spoil(self, out: Array) -> None:
        out.reshape(-1)[:1] = float("nan")


class WrongElement(Correct):
    def spoil(self, out: Array) -> None:
        out.reshape(-1)[-1:] += 1


class WritesPast(Correct):
    def spoil(self, out: Array) -> None:
        import cupy

        cupy.cuda.runtime.memsetAsync(out.data.ptr + out.nbytes, 1, 4, cupy.cuda.get_current_stream().ptr)


class Segfaults(Correct):
    def spoil(self, out: Array) -> None:
        import ctypes

        ctypes.string_at(0)


class Sleeps(Correct):
    def spoil(self, out: Array) -> None:
        time.sleep(3600)


FAULTS: tuple[tuple[Algorithm, str, str], ...] = (
    (Correct("correct"), "ok", ""),
    (Endless("endless-kernel"), "timeout", f"not done within {LIMIT} s"),
    (Endless("endless-later", after=5), "timeout", f"not done within {LIMIT} s"),
    (Illegal("illegal-address"), "crashed", "IllegalAddress"),
    (Illegal("illegal-later", after=5), "crashed", "IllegalAddress"),
    (Traps("traps"), "crashed", "cudaError"),
    (Greedy("greedy"), "oom", "are free"),
    (EatsMemory("eats-memory"), "oom", "OutOfMemoryError"),
    (Nan("writes-nan"), "wrong", "unwritten"),
    (WrongElement("wrong-element"), "wrong", "exact"),
    (WritesPast("writes-past"), "wrong", "out_of_bounds"),
    (Segfaults("segfaults"), "crashed", "SIGSEGV"),
    (Sleeps("sleeps"), "timeout", f"not done within {LIMIT} s"),
    (Synchronises("synchronises"), "ok", ""),
    (Correct("also-correct"), "ok", ""),
)
ALGORITHMS = tuple(algorithm for algorithm, _, _ in FAULTS)


def sweep(folder: Path) -> subprocess.CompletedProcess[str]:
    """One sweep whose children find the algorithms above as an installed package."""
    from isolating import environment, make_site

    site = make_site(folder / "site", "gpu_faults:ALGORITHMS")
    names = ",".join(algorithm.name for algorithm in ALGORITHMS)
    chosen = ["--algorithms", names, "--baseline", "correct", "--time-limit", str(LIMIT), "--device", "cuda"]
    words = [PROBLEM, "--directions", "fwd", "--quick", "--quiet", "--json-log", *chosen]
    command = [sys.executable, "-m", "convbench", "run", *words, "--out", str(folder / "run")]
    return subprocess.run(command, env=environment(site), capture_output=True, text=True, check=False)


def plain(reason: str) -> str:
    """The runtime and the driver spell one error in two ways."""
    return reason.replace("_", "").lower()


def main(folder: Path) -> int:
    """Print what became of each; 1 if anything ended otherwise than it should."""
    begun = time.monotonic()
    done = sweep(folder)
    (folder / "events.jsonl").write_text(done.stderr)
    if not (folder / "run").exists():
        sys.exit(done.stderr)
    found = {one.cell.algorithm: one for one in read(folder / "run").cells.values()}
    bad = done.returncode != 1
    print("| fault | status | as expected | reason and flags |\n| --- | --- | --- | --- |")
    for algorithm, status, reason in FAULTS:
        one = found.get(algorithm.name)
        good = one is not None and one.status == status and plain(reason) in plain(one.reason)
        good = good and ("sync" in one.flags) == (algorithm.name == "synchronises") if one else False
        told = f"{one.reason} {' '.join(one.flags)}".replace("|", "/") if one else "no record"
        print(f"| {algorithm.name} | {one.status if one else ''} | {'yes' if good else 'NO'} | {told} |")
        bad = bad or not good
    print(f"\nexit code {done.returncode}, {time.monotonic() - begun:.0f} s")
    return int(bad)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    target.mkdir(parents=True, exist_ok=True)
    sys.exit(main(target))
