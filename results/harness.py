"""Tables on measuring itself, and on what one run of it yields: python results/harness.py NAME."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime

from cells import HERE, MISSING, Row, contents, figure, load, show

import convbench
from convbench.sizes import format_size

SELFTEST = HERE / "h200-selftest"
GPUS = ("h200-one-gpu", "h200-two-gpus")


def selftest() -> Iterator[Row]:
    """What `convbench selftest` found."""
    yield "check", "what", "figure", "bar", "state"
    lines = (SELFTEST / "selftest.jsonl").read_text("utf-8").splitlines()
    for one in map(json.loads, lines):
        if "check" in one:
            state = f"**{one['state']}**" if one["state"] == "fail" else one["state"]
            yield one["check"], one["about"], one["figure"], one["bar"], state


def spins() -> Iterator[Row]:
    """Check V1 length by length: what the timer adds to a kernel of known length."""
    yield "length (µs)", "added, hot (µs)", "added, cold (µs)", "share of the length, cold"
    lines = map(json.loads, (SELFTEST / "selftest.jsonl").read_text("utf-8").splitlines())
    for one in next(line["details"] for line in lines if line.get("check") == "V1"):
        true = one["true_us"]
        hot, cold = one["hot_us"] - true, one["cold_us"] - true
        yield f"{true:.0f}", f"{hot:.2f}", f"{cold:.2f}", f"{cold / true:.2%}"


def ceilings() -> Iterator[Row]:
    """What `convbench ceilings` printed."""
    yield "ceiling", "sustained", "burst", "unit", "SM clock (MHz)"
    for line in (SELFTEST / "ceilings.txt").read_text("utf-8").splitlines():
        if line.startswith("│"):
            yield tuple(cell.strip() for cell in line.strip("│").split("│"))


def energy() -> Iterator[Row]:
    """Joules per call of PyTorch on one layer."""
    yield "precision", "variant", "J per call", "W", "W idle", "window (s)", "resolution"
    for record in contents("h200-energy").cells.values():
        if record.energy is not None:
            one, cell = record.energy, record.cell
            figures = f"{one.joules:.3f}", f"{one.watts:.0f}", f"{one.idle_watts:.0f}", f"{one.window:.1f}"
            yield cell.problem.precision.value, cell.variant, *figures, f"{one.resolution:.1%}"


def gpus() -> Iterator[Row]:
    """The same sweep on one GPU and on two, timed from the start of the first cell to that of the last."""
    yield "GPUs", "cells", "seconds", "cells a second", "off by: median", "95th percentile", "largest"
    one, two = (convbench.load(HERE / folder).query("status == 'ok'").set_index("key") for folder in GPUS)
    off = (two.time_ms / one.time_ms - 1).dropna().abs()
    shown = [f"{share:.2%}" for share in (off.median(), off.quantile(0.95), off.max())]
    for count, folder, cells in (("1", GPUS[0], one), ("2", GPUS[1], two)):
        records = contents(folder).cells
        starts = [datetime.fromisoformat(records[key].started) for key in cells.index]
        seconds = (max(starts) - min(starts)).total_seconds()
        compared = [MISSING] * len(shown) if cells is one else shown
        yield count, str(len(cells)), f"{seconds:.0f}", f"{len(cells) / seconds:.1f}", *compared


def cpu_chunks() -> Iterator[Row]:
    """Time against workspace of im2col on the first layer of VGG-A on the CPU."""
    yield "variant", "workspace", "ms"
    cells = load("cpu-torch")
    cells = cells[(cells.problem == cells.problem.iloc[0]) & (cells.algorithm == "im2col")]
    for _, cell in cells.sort_values("workspace_bytes").iterrows():
        yield cell.variant, format_size(int(cell.workspace_bytes)), figure(cell)


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "selftest": selftest,
    "spins": spins,
    "ceilings": ceilings,
    "energy": energy,
    "gpus": gpus,
    "cpu-chunks": cpu_chunks,
}


if __name__ == "__main__":
    show(TABLES, sys.argv[1])
