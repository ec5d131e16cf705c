"""Large folders: `show` of 5,000 cells (bar 1.5 s), `load` of 100,000 (bars 10 s and 2 GiB)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SYNTHETIC = Path(__file__).parent.parent / "synthetic.py"
LOAD = """
import resource, sys, time
start = time.perf_counter()
import convbench
cells = len(convbench.load(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(cells, time.perf_counter() - start, used)
"""


def folder(path: Path, count: int) -> str:
    subprocess.run([sys.executable, str(SYNTHETIC), str(count), str(path)], check=True, capture_output=True)
    return str(path)


def test_show(benchmark: Any, tmp_path: Path) -> None:
    """As a user waits for it: with the start of the program."""
    command = [sys.executable, "-m", "convbench", "show", folder(tmp_path / "run", 5000)]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=5)
    print(f"\nshow, 5,000 cells: {benchmark.stats.stats.min:.2f} s")


@pytest.mark.slow
def test_load(benchmark: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOAD, folder(tmp_path / "run", 100_000)]
    best = (float("inf"), 0.0)

    def load() -> None:
        nonlocal best
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        _, seconds, used = map(float, done.stdout.split())
        best = min(best, (seconds, used))

    benchmark.pedantic(load, rounds=3)
    benchmark.extra_info.update(seconds=best[0], gib=best[1])
    print(f"\nload, 100,000 cells: {best[0]:.1f} s, {best[1]:.2f} GiB")
