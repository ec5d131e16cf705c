"""Cells of the records beside this file, and how the tables of the documents are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import pandas as pd
from convbench.report.rivals import FOREIGN, LIBRARY, Ratio, mean

import convbench
from convbench.api import Direction
from convbench.frame import layers_frame
from convbench.store import Contents, read

HERE = Path(__file__).parent
MISSING = "–"
MIB = 2**20
STRICT = ["S", "F"]  # the classes that strict fp32 asks for

Row = tuple[str, ...]


def load(*folders: str) -> pd.DataFrame:
    """Cells that were measured by name."""
    frames = [convbench.load(HERE / folder) for folder in folders]
    cells = pd.concat(frames, ignore_index=True)
    return cells[(cells.status == "ok") & (cells.selection == "")]


@lru_cache
def contents(folder: str) -> Contents:
    return read(HERE / folder)


@lru_cache
def names(folder: str) -> dict[str, str]:
    """Layers and their problems, in the order of the suite."""
    layers = layers_frame(contents(folder))
    return dict(zip(layers["layer"], layers["problem"], strict=True))


def titles(folder: str) -> dict[str, str]:
    return {problem: layer for layer, problem in names(folder).items()}


def fastest(cells: pd.DataFrame) -> pd.Series | None:
    return cells.loc[cells.time_ms.idxmin()] if len(cells) else None


def figure(cell: pd.Series) -> str:
    return f"{cell.time_ms:.3f} ({cell.lo_ms:.3f} – {cell.hi_ms:.3f})"


def ratio(slow: pd.Series, fast: pd.Series) -> str:
    return span(duel(fast, slow))


def span(one: Ratio) -> str:
    return f"{one.value:.2f} ({one.lo:.2f} – {one.hi:.2f})"


def duel(ours: pd.Series, theirs: pd.Series) -> Ratio:
    slow, fast = (Ratio(one.time_ms, one.lo_ms, one.hi_ms) for one in (theirs, ours))
    return quotient(slow, fast)


def quotient(slow: Ratio, fast: Ratio) -> Ratio:
    """Of two figures with their intervals."""
    return Ratio(slow.value / fast.value, slow.lo / fast.hi, slow.hi / fast.lo)


def geometric(ratios: Sequence[Ratio], digits: int = 2) -> str:
    """A geometric mean with its 95 % interval."""
    one = mean(ratios)
    return f"{one.value:.{digits}f} [{one.lo:.{digits}f}, {one.hi:.{digits}f}]"


def strict(*folders: str) -> Iterator[tuple[str, str, tuple[pd.DataFrame, pd.DataFrame]]]:
    """Layer, direction, cells of class S of ours, and cells of cuDNN's of class S and F; strict fp32."""
    for folder in folders or ("h200-families",):
        cells = load(folder)
        cells = cells[(cells.precision == "fp32") & (cells.layout == "nchw")]
        theirs = cells.algorithm.isin(LIBRARY) & cells.accuracy.isin(STRICT)
        ours = ~cells.algorithm.isin(FOREIGN) & (cells.accuracy == "S")
        for (layer, problem), direction in product(names(folder).items(), Direction):
            here = (cells.problem == problem) & (cells.direction == direction)
            yield layer, direction.value, (cells[here & ours], cells[here & theirs])


def within_limit(cells: pd.DataFrame) -> pd.Series | None:
    return fastest(cells[cells.workspace_known & (cells.workspace_bytes <= 64 * MIB)])


def show(tables: Mapping[str, Callable[[], Iterator[Row]]], name: str) -> None:
    """Print a table as Markdown."""
    head, *rows = tables[name]()
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
