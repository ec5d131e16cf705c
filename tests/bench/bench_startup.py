"""How long a user waits at the start: `convbench --help` (bar 0.3 s) and `import convbench` (bar 50 ms)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

IMPORT = "import time; t = time.perf_counter(); import convbench; print(time.perf_counter() - t)"


def test_help(benchmark: Any) -> None:
    benchmark(subprocess.run, [sys.executable, "-m", "convbench", "--help"], check=True, capture_output=True)


def test_import(benchmark: Any) -> None:
    """The import alone, as the interpreter itself sees it."""
    run = [sys.executable, "-c", IMPORT]
    seconds = min(float(subprocess.run(run, check=True, capture_output=True).stdout) for _ in range(5))
    benchmark.extra_info["import_seconds"] = seconds
    print(f"\nimport convbench: {seconds * 1e3:.1f} ms")
    benchmark(subprocess.run, run, check=True, capture_output=True)
