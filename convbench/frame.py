"""Result folders as pandas frames: one row per cell."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.record import Record
from convbench.store import Contents, read

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "problem": "text form of the problem",
    "direction": "fwd, bwd-data or bwd-filter",
    "precision": "fp64, fp32, tf32, fp16 or bf16",
    "layout": "nchw or nhwc",
    "n": "batch",
    "c": "input channels",
    "h": "image height",
    "w": "image width",
    "k": "filters",
    "r": "filter height",
    "s": "filter width",
    "groups": "groups",
    "algorithm": "name of the algorithm",
    "variant": "name of the variant; empty if there is none",
    "status": "ok, unsupported, over_limit, wrong, crashed, timeout, oom or invalid",
    "reason": "why not ok",
    "flags": "words that qualify the figure, space-separated",
    "time_ms": "milliseconds per call, whole batch: median of block medians",
    "lo_ms": "lower bound of the 95 % interval",
    "hi_ms": "upper bound of the 95 % interval",
    "rounds": "rounds measured",
    "figure": "what was timed: cpu, gpu_cold, gpu_hot, ...",
    "gflops": "effective GFLOP/s, padding counted",
    "workspace_bytes": "bytes granted and taken by the library",
    "workspace_known": "whether the library's own share is known",
    "flops": "effective FLOPs, padding counted",
    "inbounds_flops": "FLOPs of taps that meet real input",
    "min_bytes": "bytes of touched operands and result, once each",
    "algorithm_flops": "FLOPs the variant really executes, where known",
    "relative_l2": "error against float64",
    "elementwise": "largest error in units of epsilon x sum of |products|",
    "accuracy": "accuracy class",
    "deterministic": "whether two runs agreed bit for bit",
    "prepare_ms": "milliseconds before the first call",
    "device": "cpu or cuda",
    "regime": "sustained or burst",
    "preset": "quick, default, rigorous, or ab for an A/B test",
    "workspace_limit": "limit of the sweep in bytes, if any",
    "environment": "id of the environment record",
    "key": "identity of the cell",
}


def load(folder: str | Path) -> pd.DataFrame:
    """One row per cell of a result folder; the columns are described in `convbench.frame.COLUMNS`."""
    contents = read(Path(folder))
    for note in contents.notes:
        warnings.warn(note, stacklevel=2)
    return cells_frame(contents)


def cells_frame(contents: Contents) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([_row(record) for record in contents.cells.values()], columns=list(COLUMNS))


def layers_frame(contents: Contents) -> pd.DataFrame:
    """The layers of the suites that were run: suite, network, layer, repeat and problem text."""
    import pandas as pd

    frame = pd.DataFrame(contents.layers, columns=["suite", "network", "name", "repeat", "text"])
    return frame.rename(columns={"name": "layer", "text": "problem"})


def _row(record: Record) -> dict[str, Any]:
    cell, problem = record.cell, record.cell.problem
    row: dict[str, Any] = {
        name: getattr(problem, name) for name in ("n", "c", "h", "w", "k", "r", "s", "groups")
    }
    row |= {name: getattr(problem, name) for name in ("flops", "inbounds_flops", "min_bytes")}
    row |= {"problem": str(problem), "direction": problem.direction.value}
    row |= {"precision": problem.precision.value, "layout": problem.layout.value}
    row |= {
        name: getattr(cell, name)
        for name in ("algorithm", "variant", "device", "regime", "preset", "workspace_limit")
    }
    row |= {"status": record.status.value, "reason": record.reason, "flags": " ".join(record.flags)}
    row |= {
        "environment": record.environment,
        "key": record.key,
        "algorithm_flops": record.details.get("flops"),
    }
    if "prepare" in record.setup:
        row["prepare_ms"] = record.setup["prepare"] * 1e3
    return row | _workspace(record) | _check(record) | _time(record)


def _workspace(record: Record) -> dict[str, Any]:
    if record.workspace is None:
        return {}
    library = record.workspace.library
    return {
        "workspace_bytes": record.workspace.granted + (library or 0),
        "workspace_known": library is not None,
    }


def _check(record: Record) -> dict[str, Any]:
    check = record.check
    if check is None:
        return {}
    return {
        name: getattr(check, name) for name in ("relative_l2", "elementwise", "accuracy", "deterministic")
    }


def _time(record: Record) -> dict[str, Any]:
    time = record.time
    if time is None:
        return {}
    scaled = {
        name: value * 1e3 for name, value in (("lo_ms", time.lo), ("hi_ms", time.hi)) if value is not None
    }
    gflops = record.cell.problem.flops / time.median / 1e9
    return scaled | {
        "time_ms": time.median * 1e3,
        "rounds": time.rounds,
        "figure": time.figure,
        "gflops": gflops,
    }
