"""Results for other tools: CSV, Parquet, and the JSON that `pytest-benchmark compare` reads."""

from __future__ import annotations

import json
import statistics
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convbench.columns import TEXT, TRUTH, unit
from convbench.errors import CannotRunError, UsageError
from convbench.record import Record
from convbench.store import Contents

if TYPE_CHECKING:
    import pandas as pd


def exported(contents: Contents, form: str) -> str:
    """The text of an export."""
    return _csv(contents) if form == "csv" else _pytest_benchmark(contents)


def write_parquet(contents: Contents, out: Path | None) -> None:
    """The frame as a Parquet file whose fields carry unit and meaning."""
    if out is None:
        raise UsageError("Parquet is no text; name a file to write with -o results.parquet")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise CannotRunError("Parquet needs the package pyarrow; pip install 'convbench[parquet]'") from None
    from convbench.frame import COLUMNS, cells_frame

    frame = cells_frame(contents)
    schema = pa.schema([_field(pa, name, about) for name, about in COLUMNS.items()])
    columns = [_column(pa, frame[field.name], field.type) for field in schema]
    try:
        with out.open("wb") as file:
            parquet.write_table(pa.table(columns, schema=schema), file)
    except OSError as error:
        raise UsageError(f"cannot write '{out}': {error.strerror}; name a file you may write to") from error


def _field(pa: Any, name: str, about: str) -> Any:
    """Types come from the units, so that they do not depend on what a folder happens to hold."""
    kinds = {TEXT: pa.string(), TRUTH: pa.bool_(), "count": pa.int64(), "pixels": pa.int64()}
    return pa.field(
        name, kinds.get(unit(name), pa.float64()), metadata={"unit": unit(name), "meaning": about}
    )


def _column(pa: Any, values: pd.Series, kind: Any) -> Any:
    """Foreign values that are not of their column's kind are missing."""
    import pandas as pd

    if kind == pa.string():
        return pa.array([v if isinstance(v, str) else None for v in values], kind)
    if kind == pa.bool_():
        return pa.array([bool(v) if v in (True, False) else None for v in values], kind)
    return pa.array(pd.to_numeric(values, errors="coerce").astype(float), kind, from_pandas=True)


def _csv(contents: Contents) -> str:
    from convbench.frame import cells_frame

    return str(cells_frame(contents).map(_harmless).to_csv(index=False))


def _harmless(text: Any) -> Any:
    """Text that a spreadsheet could take for a formula, quoted."""
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _pytest_benchmark(contents: Contents) -> str:
    cells = [record for record in contents.cells.values() if record.time is not None]
    environment = next(iter(contents.environments.values()), {})
    identity = environment.get("identity", {})
    document = {
        "machine_info": {
            "node": environment.get("host", ""),
            "system": environment.get("system", ""),
            "python_version": environment.get("python", ""),
            "cpu": {"brand_raw": identity.get("cpu", "")},
        },
        "commit_info": {},
        "benchmarks": [_benchmark(record) for record in cells],
        "datetime": cells[0].started if cells else "",
        "version": "5.0.0",
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _benchmark(record: Record) -> dict[str, Any]:
    cell = record.cell
    name = f"{cell.problem.label}[{cell.algorithm}/{cell.variant}]"
    return {
        "group": cell.problem.label,
        "name": name,
        "fullname": f"convbench::{name}",
        "params": {"algorithm": cell.algorithm, "variant": cell.variant},
        "param": f"{cell.algorithm}/{cell.variant}",
        "extra_info": {"status": record.status.value, "flags": record.flags},
        "options": {
            "disable_gc": True,
            "timer": "perf_counter",
            "min_rounds": 1,
            "max_time": 0,
            "warmup": True,
        },
        "stats": _stats(record),
    }


def _stats(record: Record) -> dict[str, Any]:
    """Statistics over the raw samples, under the names of pytest-benchmark."""
    assert record.time is not None
    data = list(chain.from_iterable(record.time.samples))
    mean = statistics.fmean(data)
    deviation = statistics.stdev(data) if len(data) > 1 else 0.0
    middle = statistics.median(data)
    return {
        "min": min(data),
        "max": max(data),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": middle,
        "iqr": record.time.q3 - record.time.q1,
        "q1": record.time.q1,
        "q3": record.time.q3,
        "iqr_outliers": record.time.tukey,
        "stddev_outliers": sum(abs(x - mean) > deviation for x in data),
        "outliers": f"{sum(abs(x - mean) > deviation for x in data)};{record.time.tukey}",
        "ld15iqr": min(data),
        "hd15iqr": max(data),
        "ops": 1 / mean,
        "total": sum(data),
        "data": data,
        "iterations": record.time.calls,
    }
