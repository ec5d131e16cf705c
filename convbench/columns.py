"""The columns of a result frame as a page: `python -m convbench.columns > docs/frame.md` after a change."""

from __future__ import annotations

from convbench.frame import COLUMNS

TEXT, TRUTH = "text", "true/false"
UNITS = {
    **dict.fromkeys(("n", "c", "k", "groups", "rounds"), "count"),
    **dict.fromkeys("hwrs", "pixels"),
    **{"gflops": "GFLOP/s", "clock_mhz": "MHz", "watts": "W", "celsius": "°C", "joules": "J"},
    **{"joules_resolution": "ratio", "relative_l2": "ratio", "elementwise": "ratio"},
    **{"workspace_limit": "bytes", "workspace_known": TRUTH, "deterministic": TRUTH},
}
SUFFIXES = {"_ms": "ms", "_bytes": "bytes", "flops": "FLOP"}
_PAGE = """# The result frame

`convbench.load(DIR)` gives a pandas frame with one row a cell, whatever its status. The columns are the
same in `convbench export DIR --to csv` and `--to parquet`, whose fields carry unit and meaning too. What is
not known is missing (NaN or None), never 0.

```python
import convbench

cells = convbench.load("results/cpu-torch")
fastest = cells[cells.status == "ok"].sort_values("time_ms").groupby(["problem", "direction"]).first()
```

Rank only cells that agree in device, figure, precision, layout, regime, preset and environment, and whose
accuracy class their precision asks for; `convbench show` and `convbench plan` do.

| column | unit | meaning |
| --- | --- | --- |
"""


def unit(column: str) -> str:
    """What the numbers of a column count, or that it holds text."""
    if column in UNITS:
        return UNITS[column]
    return next((one for suffix, one in SUFFIXES.items() if column.endswith(suffix)), TEXT)


def page() -> str:
    rows = (
        f"| `{name}` | {unit(name)} | {about.replace('|', chr(92) + '|')} |\n"
        for name, about in COLUMNS.items()
    )
    return _PAGE + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
