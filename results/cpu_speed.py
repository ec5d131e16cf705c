"""The table of docs/cpu-speed.md: our CPU families beside PyTorch, from the records in results/cpu-torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isnan
from pathlib import Path
from statistics import geometric_mean

import pandas as pd
from convbench.report.layers import shape

import convbench

OURS = ["direct", "im2col", "fft", "winograd"]
RATIOS = ["ours / conv2d", "im2col / unfold"]
RENAMED = {"torch": "torch conv2d", "unfold": "torch unfold + matmul"}


def times() -> pd.DataFrame:
    """Milliseconds of the best variant of each family on each layer, and ratios."""
    cells = convbench.load(Path(__file__).parent / "cpu-torch").query("status == 'ok'")
    cells["family"] = cells.algorithm.where(cells.variant != "unfold", "unfold")
    best = cells.pivot_table("time_ms", "problem", "family", "min", sort=False)[[*OURS, "torch", "unfold"]]
    best[RATIOS[0]], best[RATIOS[1]] = best[OURS].min(axis=1) / best.torch, best.im2col / best.unfold
    return best


def lines(best: pd.DataFrame) -> Iterator[Iterable[str]]:
    yield "layer", *(RENAMED.get(name, name) for name in best)
    yield "---", *["---:"] * best.shape[1]
    for problem, row in best.iterrows():
        least = row[[*OURS, "torch"]].min()
        yield shape(str(problem)), *(f"**{value:.2f}**" if value == least else figure(value) for value in row)
    means = (figure(geometric_mean(best[name])) if name in RATIOS else "" for name in best)
    yield "geometric mean", *means


def figure(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    for line in lines(times()):
        print(f"| {' | '.join(line)} |")
