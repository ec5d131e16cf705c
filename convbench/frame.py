"""Result folders as pandas frames: one row per cell."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from statistics import median
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
    "first_call_ms": "milliseconds of the first checked call, with what is loaded or compiled only then",
    "limit_ms": "milliseconds that this machine's measured rates would need, where they are known",
    "limit_rate": "the measured rate behind limit_ms: copy, gemm fp32, ...",
    "clock_mhz": "median SM clock during the timed blocks",
    "watts": "mean power of the board while it was timed",
    "celsius": "highest temperature of the GPU while it was timed",
    "clock_reasons": "why NVML says the clock was what it was, space-separated",
    "enqueue_ms": "milliseconds until a call returns to the host",
    "call_ms": "milliseconds until the result of a call is there for the host",
    "joules": "joules per call of the whole board",
    "joules_resolution": "the share of joules that the counter cannot resolve",
    "selection": "heuristic or find where the variant is the library's own choice; empty for all others",
    "picked": "the variant that this choice stands for",
    "order": "JSON, [[variant, workspace bytes], ...]: what the library would choose, best first",
    "device": "cpu or cuda",
    "regime": "sustained or burst",
    "cache": "what a timed call finds in cache: cold, hot, cold-weights; warm on the CPU",
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
        for name in ("algorithm", "variant", "device", "regime", "cache", "preset", "workspace_limit")
    }
    row |= {"status": record.status.value, "reason": record.reason, "flags": " ".join(record.flags)}
    row |= {
        "environment": record.environment,
        "key": record.key,
        "algorithm_flops": record.details.get("flops"),
    }
    row |= {
        f"{name}_ms": record.setup[name] * 1e3 for name in ("prepare", "first_call") if name in record.setup
    }
    return row | _workspace(record) | _check(record) | _time(record) | _machine(record) | _selection(record)


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


def _machine(record: Record) -> dict[str, Any]:
    """What stands beside the time; each part only where the device tells it."""
    row: dict[str, Any] = {}
    if record.time and record.time.clocks:
        row["clock_mhz"] = median(record.time.clocks) / 1e6
    if limit := record.limit:
        row |= {"limit_ms": limit.seconds * 1e3, "limit_rate": limit.rate}
    if board := record.board:
        row |= {"watts": board.watts, "celsius": board.celsius, "clock_reasons": " ".join(board.reasons)}
    if host := record.host:
        row |= {"enqueue_ms": host.enqueue * 1e3, "call_ms": host.call * 1e3}
    if energy := record.energy:
        row |= {"joules": energy.joules, "joules_resolution": energy.resolution}
    return row


def _selection(record: Record) -> dict[str, Any]:
    """Details may hold anything, so that only text counts as a choice."""
    selection = record.details.get("selection")
    if not isinstance(selection, str) or not selection:
        return {"selection": ""}
    order = json.dumps(record.details.get("order"))
    return {"selection": selection, "picked": str(record.details.get("picked") or ""), "order": order}
