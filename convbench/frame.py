"""Result folders as pandas frames: one row per cell."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import nan
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from convbench.problem import Problem
from convbench.record import Record
from convbench.store import Contents, read_into, uncollected

if TYPE_CHECKING:
    import pandas as pd

MOST_FLOPS = 1e30  # more is no count of any variant

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
    "algorithm_flops": "FLOPs the variant really executes, where known; without those of transforms",
    "transform_flops": "FLOPs of the variant's transforms, where they are recorded",
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
    with uncollected():
        rows = read_into(Rows(), Path(folder))
        for note in rows.notes:
            warnings.warn(note, stacklevel=2)
        return rows.frame()


def cells_frame(contents: Contents) -> pd.DataFrame:
    rows = Rows()
    with uncollected():
        for record in contents.cells.values():
            rows.add(record)
        return rows.frame()


@dataclass
class Rows(Contents):
    """Cells as rows of a frame, without the samples behind them: large folders then need little memory."""

    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    shapes: dict[Problem, tuple[Any, ...]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        problem = record.cell.problem
        shape = self.shapes.get(problem)
        if shape is None:
            shape = self.shapes[problem] = _shape(problem)
        parts = [get(held) if (held := getattr(record, name)) else gap for name, get, gap in GETTERS]
        self.rows[record.key] = (*shape, *chain(*parts), *(read(record) for read in READERS.values()))

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        columns = zip(*self.rows.values(), strict=True)
        held = {name: list(values) for name, values in zip(ORDER, columns, strict=False)}
        frame = pd.DataFrame(held, columns=list(COLUMNS))
        for name in SECONDS:
            frame[name] = frame[name].astype(float) * 1e3
        return frame


def layers_frame(contents: Contents) -> pd.DataFrame:
    """The layers of the suites that were run: suite, network, layer, repeat and problem text."""
    import pandas as pd

    frame = pd.DataFrame(contents.layers, columns=["suite", "network", "name", "repeat", "text"])
    return frame.rename(columns={"name": "layer", "text": "problem"})


# ---- columns -----------------------------------------------------------------------------------------------

SIZES = ("n", "c", "h", "w", "k", "r", "s", "groups", "flops", "inbounds_flops", "min_bytes")
SHAPE = ("problem", "direction", "precision", "layout", *SIZES)


def _shape(problem: Problem) -> tuple[Any, ...]:
    """What follows from a problem; it is worked out once for all cells that share one."""
    words = problem.direction.value, problem.precision.value, problem.layout.value
    return str(problem), *words, *(getattr(problem, name) for name in SIZES)


def _workspace(record: Record) -> Any:
    held = record.workspace
    return nan if held is None else held.granted + (held.library or 0)


def _known(record: Record) -> Any:
    return nan if record.workspace is None else record.workspace.library is not None


def _setup(record: Record, name: str) -> float:
    return record.setup[name] * 1e3 if name in record.setup else nan


def _gflops(record: Record) -> float:
    return record.cell.problem.flops / record.time.median / 1e9 if record.time else nan


def _clock(record: Record) -> float:
    return median(record.time.clocks) / 1e6 if record.time and record.time.clocks else nan


def _reasons(record: Record) -> Any:
    return " ".join(record.board.reasons) if record.board else nan


def _selection(record: Record) -> str:
    """Details may hold anything, so that only text counts as a choice."""
    selection = record.details.get("selection")
    return selection if isinstance(selection, str) else ""


def _picked(record: Record) -> Any:
    return str(record.details.get("picked") or "") if _selection(record) else nan


def _flops(record: Record, name: str) -> Any:
    """A count that the variant tells of itself, and that a figure can be made of."""
    told = record.details.get(name)
    counts = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < MOST_FLOPS
    return told if counts else None


def _order(record: Record) -> Any:
    return json.dumps(record.details.get("order")) if _selection(record) else nan


# Columns that are fields of a part of the record, and the others; what is stored in seconds is shown in ms.
FIELDS: dict[str, dict[str, str]] = {
    "cell": {
        name: name
        for name in ("algorithm", "variant", "device", "regime", "cache", "preset", "workspace_limit")
    },
    "time": {"time_ms": "median", "lo_ms": "lo", "hi_ms": "hi", "rounds": "rounds", "figure": "figure"},
    "check": {name: name for name in ("relative_l2", "elementwise", "accuracy", "deterministic")},
    "limit": {"limit_ms": "seconds", "limit_rate": "rate"},
    "board": {"watts": "watts", "celsius": "celsius"},
    "host": {"enqueue_ms": "enqueue", "call_ms": "call"},
    "energy": {"joules": "joules", "joules_resolution": "resolution"},
}
READERS: dict[str, Callable[[Record], Any]] = {
    "status": lambda record: record.status.value,
    "reason": attrgetter("reason"),
    "flags": lambda record: " ".join(record.flags),
    "environment": attrgetter("environment"),
    "key": attrgetter("key"),
    "algorithm_flops": partial(_flops, name="flops"),
    "transform_flops": partial(_flops, name="transform_flops"),
    "gflops": _gflops,
    "workspace_bytes": _workspace,
    "workspace_known": _known,
    "prepare_ms": partial(_setup, name="prepare"),
    "first_call_ms": partial(_setup, name="first_call"),
    "clock_mhz": _clock,
    "clock_reasons": _reasons,
    "selection": _selection,
    "picked": _picked,
    "order": _order,
}
GETTERS = [(part, attrgetter(*names.values()), (nan,) * len(names)) for part, names in FIELDS.items()]
ORDER = (*SHAPE, *chain(*FIELDS.values()), *READERS)
SECONDS = ("time_ms", "lo_ms", "hi_ms", "limit_ms", "enqueue_ms", "call_ms")
