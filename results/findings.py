"""The tables of docs/findings.md, each from the records beside this file: python results/findings.py NAME."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import product
from math import hypot

import pandas as pd
from cells import (
    HERE,
    MISSING,
    STRICT,
    Row,
    contents,
    duel,
    fastest,
    figure,
    geometric,
    load,
    names,
    quotient,
    ratio,
    show,
    span,
    strict,
    within_limit,
)  # fmt: skip
from convbench.report.layers import shape
from convbench.report.ranking import RANKED
from convbench.report.rivals import FOREIGN, LIBRARY, RIVALS, Ratio, mean_cell

import convbench
from convbench.api import Direction
from convbench.frame import layers_frame

Choice = Callable[[pd.DataFrame], pd.Series | None]

SIXTEEN = {"fp16": "H", "bf16": "B"}
TENSOR = ("implicit", "im2col")  # families that are one matrix product
PASSES = {"forward": [Direction.FWD], "forward and both gradients": [*Direction]}


def accurate_fft() -> Iterator[Row]:
    """Layers on which ours in class S, fp32, is faster than the fastest that cuDNN has in 16 bits."""
    yield "layer", "direction", "ours, fp32", "ms", "cuDNN, 16 bits", "ms", "factor"
    ours, theirs = _strict_and_library()
    theirs = theirs[theirs.accuracy == theirs.precision.map(SIXTEEN)]
    for (layer, problem), direction in product(names("h200-families").items(), Direction):
        mine, best = (_best(side, problem, direction) for side in (ours, theirs))
        if mine is not None and best is not None and mine.hi_ms < best.lo_ms:
            whose = f"{best.algorithm}/{best.variant}, {best.precision} {best.layout}"
            shown = f"{mine.algorithm}/{mine.variant}", figure(mine), whose, figure(best)
            yield layer, direction.value, *shown, ratio(best, mine)


def tf32() -> Iterator[Row]:
    """cuDNN's fastest where it may use TF32 over ours in class S, fp32, and where ours is faster."""
    yield "layout of cuDNN", "ours is faster on", *(direction.value for direction in Direction)
    ours, theirs = _strict_and_library()
    theirs = theirs[(theirs.precision == "tf32") & theirs.accuracy.isin([*RANKED["tf32"]])]
    for layout, side in (("nchw", theirs[theirs.layout == "nchw"]), ("nchw or nhwc", theirs)):
        ratios: dict[Direction, list[Ratio]] = {direction: [] for direction in Direction}
        for direction, problem in product(Direction, names("h200-families").values()):
            mine, best = _best(ours, problem, direction), _best(side, problem, direction)
            if mine is not None and best is not None:
                ratios[direction].append(duel(mine, best))
        every = [one for found in ratios.values() for one in found]
        won = f"{sum(one.lo > 1 for one in every)} of {len(every)} passes"
        yield layout, won, *map(mean_cell, ratios.values())


def _strict_and_library() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ours in class S, fp32, and all of cuDNN's, whatever precision and layout."""
    ours, theirs = load("h200-families"), load("h200-families", "h200-cudnn")
    ours = ours[(ours.precision == "fp32") & (ours.accuracy == "S") & ~ours.algorithm.isin(FOREIGN)]
    return ours, theirs[theirs.algorithm.isin(LIBRARY)]


def _best(
    cells: pd.DataFrame, problem: str, direction: Direction, choose: Choice = fastest
) -> pd.Series | None:
    return choose(cells[(cells.problem == problem) & (cells.direction == direction)])


def work() -> Iterator[Row]:
    """What the fastest FFT executes forward where filters are large, beside the convolution as written."""
    yield "layer", "variant", "products (GFLOP)", "transforms (GFLOP)", "as written (GFLOP)", "saved"
    cells = load("h200-families")
    cells = cells[(cells.precision == "fp32") & (cells.algorithm == "fft") & (cells.accuracy == "S")]
    for layer, problem in names("h200-families").items():
        best = _best(cells[cells.r >= 5], problem, Direction.FWD)
        if best is not None:
            details = contents("h200-families").cells[best.key].details
            flops = details["flops"], details["transform_flops"], best.flops
            saved = f"{best.flops / sum(flops[:2]):.1f} times"
            yield layer, best.variant, *(f"{count / 1e9:.1f}" for count in flops), saved


def five_by_five() -> Iterator[Row]:
    """PyTorch's passes in strict fp32 that are less accurate than strict fp32 asks for."""
    yield "layer", "direction", "variant", "ms", "relative L2 error", "class"
    cells = load("h200-convnet")
    cells = cells[(cells.algorithm == "torch") & (cells.variant == "default")]
    for _, cell in cells[~cells.accuracy.isin(STRICT)].iterrows():
        where = shape(cell.problem), cell.direction, cell.variant
        yield *where, figure(cell), f"{cell.relative_l2:.1e}", cell.accuracy


def winograd_by_name() -> Iterator[Row]:
    """What cuDNN's Winograd loses on 5x5 filters; `wrong`: single elements are too far off to time it."""
    yield "direction", "layers", "class T", "class X", "wrong", "least error", "largest error"
    cells = convbench.load(HERE / "h200-convnet")
    cells = cells[(cells.variant == "WINOGRAD_NONFUSED") & (cells.r == 5) & (cells.selection == "")]
    for way, group in cells.groupby("direction", sort=False):
        counts = [(group.accuracy == name).sum() for name in "TX"] + [(group.status == "wrong").sum()]
        errors = (f"{error:.1e}" for error in (group.relative_l2.min(), group.relative_l2.max()))
        yield str(way), *map(str, (len(group), *counts)), *errors


def limit() -> Iterator[Row]:
    """Both sides' fastest within 64 MiB of workspace, strict fp32, forward, and what the limit costs each."""
    yield "layer", "ours", "ms", "cost", "cuDNN", "ms", "cost", "factor"
    for layer, _, sides in strict():
        ours, theirs = map(within_limit, sides)
        if ours is not None and theirs is not None and ours.direction == "fwd":
            yield layer, *_within(ours, sides[0]), *_within(theirs, sides[1]), ratio(theirs, ours)


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


def splitting() -> Iterator[Row]:
    """Families that are one product of split halves, against cuDNN's that are one product of fp32."""
    head, *rows = means()
    yield head
    yield from (row for row in rows if row[0] in TENSOR)


def frameworks() -> Iterator[Row]:
    """Forward in strict fp32: our fastest beside PyTorch's autotuned, its own best, and JAX."""
    head = "layer", "ours", "ms", "torch/autotuned (ms)", "factor"
    yield *head, "best of PyTorch", "ms", "factor", "JAX (ms)", "factor"
    cells = _accurate("h200-families")
    cells = cells[cells.direction == "fwd"]
    for layer, direction, (ours, _) in strict():
        best = fastest(ours)
        if direction != "fwd" or best is None:
            continue
        group = cells[cells.problem == best.problem]
        torch, jax = (group[group.algorithm == name] for name in ("torch", "jax"))
        own = fastest(torch)
        tuned, other = fastest(torch[torch.variant == "autotuned"]), fastest(jax)
        beside = *_beside(tuned, best), own.variant if own is not None else MISSING, *_beside(own, best)
        yield layer, f"{best.algorithm}/{best.variant}", figure(best), *beside, *_beside(other, best)


def _beside(other: pd.Series | None, best: pd.Series) -> Row:
    return (MISSING, MISSING) if other is None else (figure(other), ratio(other, best))


def autotuned() -> Iterator[Row]:
    """PyTorch's default over its autotuned, and how many calls the first autotuned call lasts."""
    yield "direction", "layers", "default / autotuned", "most", "first call / a call"
    cells = load("h200-families")
    cells = cells[(cells.algorithm == "torch") & (cells.precision == "fp32")]
    for direction in Direction:
        here = cells[cells.direction == direction]
        sides = (here[here.variant == name].set_index("problem") for name in ("autotuned", "default"))
        tuned, plain = next(sides), next(sides)
        ratios = [duel(tuned.loc[key], plain.loc[key]) for key in tuned.index.intersection(plain.index)]
        first = (tuned.first_call_ms / tuned.time_ms).median()
        most = f"{max(one.value for one in ratios):.2f}"
        yield direction.value, str(len(ratios)), geometric(ratios), most, f"{first:.0f}"


def im2col_limit() -> Iterator[Row]:
    """How far im2col is behind the fastest of all within 64 MiB, strict fp32, forward."""
    yield "layer", "fastest", "ms", "im2col", "ms", "factor"
    for layer, direction, sides in strict():
        best = within_limit(pd.concat(sides))
        own = within_limit(sides[0][sides[0].algorithm == "im2col"])
        if direction == "fwd" and best is not None and own is not None:
            first = f"{best.algorithm}/{best.variant}", figure(best)
            yield layer, *first, own.variant, figure(own), ratio(own, best)


def network() -> Iterator[Row]:
    """VGG-16 in strict fp32: each pass by the fastest that fits, layers as often as the network has them."""
    yield "VGG-16", "chosen from", "within 64 MiB (ms)", "no limit (ms)", "cost of the limit"
    layers, cells = layers_frame(contents("h200-vgg16")), _accurate("h200-vgg16")
    named = cells[cells.algorithm == "cudnn"]
    for title, ways in PASSES.items():
        for whose, side in (("everything", cells), ("cuDNN's named algorithms", named)):
            bound, free = (_total(side, layers, ways, choose) for choose in (within_limit, fastest))
            yield title, whose, *map(_span, (bound, free, _over(bound, free)))


def networks() -> Iterator[Row]:
    """convnet-benchmarks in strict fp32: each pass by the fastest that a side has, and that fits."""
    head = "network", "passes", "ours (ms)", "PyTorch (ms)", "cuDNN (ms)", "factor"
    yield *head, "ours within 64 MiB (ms)", "cuDNN within 64 MiB (ms)", "factor within"
    cells, frame = _accurate("h200-convnet"), layers_frame(contents("h200-convnet"))
    ours = cells[~cells.algorithm.isin(FOREIGN) & (cells.accuracy == "S")]
    library, torch = (cells[cells.algorithm == name] for name in ("cudnn", "torch"))
    for name, layers in frame[frame.network != "layerwise"].groupby("network", sort=False):
        for title, ways in PASSES.items():
            mine, framework, theirs = (_total(side, layers, ways, fastest) for side in (ours, torch, library))
            free = *map(_plain, (mine, framework, theirs)), _span(_over(theirs, mine))
            small, large = (_total(side, layers, ways, within_limit) for side in (ours, library))
            yield str(name), title, *free, _plain(small), _plain(large), _span(_over(large, small))


def _accurate(folder: str) -> pd.DataFrame:
    """Of classes S and F in fp32."""
    cells = load(folder)
    return cells[(cells.precision == "fp32") & (cells.layout == "nchw") & cells.accuracy.isin(STRICT)]


def _total(cells: pd.DataFrame, layers: pd.DataFrame, ways: list[Direction], choose: Choice) -> Ratio | None:
    """Milliseconds of a network, if there is something for each pass of it.

    Layers were measured independently, so their intervals add in squares.
    """
    total, down, up = 0.0, 0.0, 0.0
    for (problem, repeat), way in product(zip(layers.problem, layers["repeat"], strict=True), ways):
        best = _best(cells, problem, way, choose)
        if best is None:
            return None
        total += repeat * best.time_ms
        down = hypot(down, repeat * (best.time_ms - best.lo_ms))
        up = hypot(up, repeat * (best.hi_ms - best.time_ms))
    return Ratio(total, total - down, total + up)


def _over(slow: Ratio | None, fast: Ratio | None) -> Ratio | None:
    return slow and fast and quotient(slow, fast)


def _plain(one: Ratio | None) -> str:
    return f"{one.value:.2f}" if one else MISSING


def _span(one: Ratio | None) -> str:
    return span(one) if one else MISSING


def _within(bound: pd.Series, side: pd.DataFrame) -> Row:
    """The fastest within the limit, and how often as long as without one it takes."""
    free = side.loc[side.time_ms.idxmin()]
    cost = "1.00" if free.key == bound.key else ratio(bound, free)
    return f"{bound.algorithm}/{bound.variant}", figure(bound), cost


def depthwise() -> Iterator[Row]:
    """Depthwise forward: ours beside the fastest of cuDNN's named algorithms."""
    yield "layer", "precision", "layout", "ours (ms)", "cuDNN (ms)", "variant", "factor"
    cells = load("h200-depthwise")
    for (problem, *how), group in cells.groupby(["problem", "precision", "layout"], sort=False):
        library = group.algorithm.isin(LIBRARY)
        ours, theirs = fastest(group[~library]), fastest(group[library])
        if ours is not None and theirs is not None:
            yield shape(problem), *how, figure(ours), figure(theirs), theirs.variant, ratio(theirs, ours)


FINDINGS: dict[str, Callable[[], Iterator[Row]]] = {
    "accurate-fft": accurate_fft,
    "tf32": tf32,
    "work": work,
    "five-by-five": five_by_five,
    "winograd-by-name": winograd_by_name,
    "limit": limit,
    "means": means,
    "splitting": splitting,
    "frameworks": frameworks,
    "autotuned": autotuned,
    "im2col-limit": im2col_limit,
    "network": network,
    "networks": networks,
    "depthwise": depthwise,
}


if __name__ == "__main__":
    show(FINDINGS, sys.argv[1])
