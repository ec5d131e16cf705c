"""The tables of docs/findings.md, each from the records beside this file: python results/findings.py NAME."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

import pandas as pd
from convbench.report.rivals import FOREIGN, LIBRARY, RIVALS, Ratio, mean_cell

import convbench
from convbench.api import Direction

HERE = Path(__file__).parent
FRAMEWORKS = ("torch", "JAX")
MISSING = "–"
MIB = 2**20
SIXTEEN = {"fp16": "H", "bf16": "B"}

Row = tuple[str, ...]


def load(*folders: str) -> pd.DataFrame:
    """Cells that were measured by name, with the layer's name in their folder's suite."""
    frames = [convbench.load(HERE / folder) for folder in folders]
    cells = pd.concat(frames, ignore_index=True)
    return cells[(cells.status == "ok") & (cells.selection == "")]


@lru_cache
def names(folder: str) -> dict[str, str]:
    """Layers and their problems, in the order of the suite."""
    from convbench.frame import layers_frame
    from convbench.store import read

    layers = layers_frame(read(HERE / folder))
    return dict(zip(layers["layer"], layers["problem"], strict=True))


def titles(folder: str) -> dict[str, str]:
    return {problem: layer for layer, problem in names(folder).items()}


def fastest(cells: pd.DataFrame) -> pd.Series | None:
    return cells.loc[cells.time_ms.idxmin()] if len(cells) else None


def figure(cell: pd.Series) -> str:
    return f"{cell.time_ms:.3f} ({cell.lo_ms:.3f} – {cell.hi_ms:.3f})"


def ratio(slow: pd.Series, fast: pd.Series) -> str:
    one = duel(fast, slow)
    return f"{one.value:.2f} ({one.lo:.2f} – {one.hi:.2f})"


def duel(ours: pd.Series, theirs: pd.Series) -> Ratio:
    return Ratio(theirs.time_ms / ours.time_ms, theirs.lo_ms / ours.hi_ms, theirs.hi_ms / ours.lo_ms)


# ---- findings ----------------------------------------------------------------------------------------------


def accurate_fft() -> Iterator[Row]:
    """Layers on which ours in class S, fp32, is faster than the fastest that cuDNN has in 16 bits."""
    yield "layer", "direction", "ours, fp32", "ms", "cuDNN, 16 bits", "ms", "factor"
    ours, theirs = load("h200-families"), load("h200-families", "h200-cudnn")
    ours = ours[(ours.precision == "fp32") & (ours.accuracy == "S") & ~ours.algorithm.isin(FOREIGN)]
    theirs = theirs[theirs.algorithm.isin(LIBRARY) & (theirs.accuracy == theirs.precision.map(SIXTEEN))]
    for (layer, problem), direction in product(names("h200-families").items(), Direction):
        mine = fastest(ours[(ours.problem == problem) & (ours.direction == direction)])
        best = fastest(theirs[(theirs.problem == problem) & (theirs.direction == direction)])
        if mine is not None and best is not None and mine.hi_ms < best.lo_ms:
            whose = f"{best.algorithm}/{best.variant}, {best.precision} {best.layout}"
            shown = f"{mine.algorithm}/{mine.variant}", figure(mine), whose, figure(best)
            yield layer, direction.value, *shown, ratio(best, mine)


def strict_accuracy() -> Iterator[Row]:
    """Errors of cuDNN's Winograd where fp32 was asked for strictly."""
    yield "layer", "direction", "variant", "relative L2 error", "class"
    cells = load("h200-cudnn")
    cells = cells[(cells.precision == "fp32") & cells.variant.str.contains("WINOGRAD")]
    for cell in cells.sort_values("relative_l2", ascending=False).head(6).itertuples():
        layer = titles("h200-cudnn")[cell.problem]
        yield layer, cell.direction, cell.variant, f"{cell.relative_l2:.1e}", cell.accuracy


def limit() -> Iterator[Row]:
    """Both sides' fastest within 64 MiB of workspace, strict fp32, forward, and what the limit costs each."""
    yield "layer", "ours", "ms", "cost", "cuDNN", "ms", "cost", "factor"
    for layer, _, sides in strict():
        ours, theirs = map(within_limit, sides)
        if ours is not None and theirs is not None and ours.direction == "fwd":
            yield layer, *_within(ours, sides[0]), *_within(theirs, sides[1]), ratio(theirs, ours)


def strict(*folders: str) -> Iterator[tuple[str, str, tuple[pd.DataFrame, pd.DataFrame]]]:
    """Layer, direction, cells of class S of ours, and cells of cuDNN's of class S and F; strict fp32."""
    for folder in folders or ("h200-families",):
        cells = load(folder)
        cells = cells[(cells.precision == "fp32") & (cells.layout == "nchw")]
        theirs = cells.algorithm.isin(LIBRARY) & cells.accuracy.isin(["S", "F"])
        ours = ~cells.algorithm.isin(FOREIGN) & (cells.accuracy == "S")
        for (layer, problem), direction in product(names(folder).items(), Direction):
            here = (cells.problem == problem) & (cells.direction == direction)
            yield layer, direction.value, (cells[here & ours], cells[here & theirs])


def within_limit(cells: pd.DataFrame) -> pd.Series | None:
    return fastest(cells[cells.workspace_known & (cells.workspace_bytes <= 64 * MIB)])


def means() -> Iterator[Row]:
    """Geometric means over the yardstick, and over it and ResNet-50 together."""
    yield "ours", "against", "layers", *(direction.value for direction in Direction)
    for title, folders in (("yardstick", ()), ("and ResNet-50", ("h200-families", "h200-resnet50"))):
        pairs: dict[Row, list[Ratio]] = {}
        for _, direction, (ours, theirs) in strict(*folders):
            for (mine, against), (one, other) in _opponents(Direction(direction), ours, theirs):
                if one is not None and other is not None:
                    pairs.setdefault((mine, against, direction), []).append(duel(one, other))
        for mine, against in dict.fromkeys(key[:2] for key in pairs):
            ratios = (pairs.get((mine, against, direction.value), []) for direction in Direction)
            yield mine, against, title, *map(mean_cell, ratios)


Sides = tuple[tuple[str, str], tuple[pd.Series | None, pd.Series | None]]


def _opponents(direction: Direction, ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[Sides]:
    """Families and their rivals on one pass, the best of both sides, and that within 64 MiB."""
    named = theirs[theirs.algorithm == "cudnn"]
    stems = named.variant.str.partition("+")[0] if len(named) else named.variant
    for family, rivals in RIVALS.items():
        against = named[stems.isin(rivals.get(direction, ()))]
        mine, other = fastest(ours[ours.algorithm == family]), fastest(against)
        yield (family, "its rivals in cuDNN"), (mine, other)
        if family == "fft" and len(ours) and ours.r.iloc[0] >= 5:
            yield ("fft, filters of 5x5 and more", "FFT, FFT_TILING"), (mine, other)
    yield ("best of ours", "best of cuDNN"), (fastest(ours), fastest(theirs))
    yield ("best within 64 MiB", "best of cuDNN within 64 MiB"), (within_limit(ours), within_limit(theirs))


def frameworks() -> Iterator[Row]:
    """Forward in strict fp32: our fastest beside what the frameworks' autotuning finds."""
    yield (
        "layer",
        "ours",
        "ms",
        *(f"{name} (ms)" for name in FRAMEWORKS),
        *(f"{name} / ours" for name in FRAMEWORKS),
    )
    cells = load("h200-families")
    cells = cells[(cells.precision == "fp32") & (cells.direction == "fwd") & cells.accuracy.isin(["S", "F"])]
    for layer, direction, (ours, _) in strict():
        best = fastest(ours)
        if direction != "fwd" or best is None:
            continue
        group = cells[cells.problem == best.problem]
        found = [fastest(group[group.algorithm == name.lower()]) for name in FRAMEWORKS]
        times = [MISSING if one is None else figure(one) for one in found]
        factors = [MISSING if one is None else ratio(one, best) for one in found]
        yield layer, f"{best.algorithm}/{best.variant}", figure(best), *times, *factors


def _within(bound: pd.Series, side: pd.DataFrame) -> Row:
    """The fastest within the limit, and how often as long as without one it takes."""
    free = side.time_ms.min()
    return f"{bound.algorithm}/{bound.variant}", figure(bound), f"{bound.time_ms / free:.2f}"


def depthwise() -> Iterator[Row]:
    """Depthwise forward: ours beside the fastest of cuDNN's named algorithms."""
    yield "layer", "precision", "layout", "ours (ms)", "cuDNN (ms)", "variant", "factor"
    cells = load("h200-depthwise")
    for key, group in cells.groupby(["problem", "precision", "layout"], sort=False):
        library = group.algorithm.isin(LIBRARY)
        ours, theirs = fastest(group[~library]), fastest(group[library])
        if ours is not None and theirs is not None:
            yield *map(str, key), figure(ours), figure(theirs), theirs.variant, ratio(theirs, ours)


FINDINGS: dict[str, Callable[[], Iterator[Row]]] = {
    "accurate-fft": accurate_fft,
    "strict-accuracy": strict_accuracy,
    "limit": limit,
    "means": means,
    "frameworks": frameworks,
    "depthwise": depthwise,
}


def main(name: str) -> None:
    head, *rows = FINDINGS[name]()
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main(sys.argv[1])
