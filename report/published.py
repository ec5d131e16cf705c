"""Figures that others published, beside one's own: rows with their hardware, never ranked together."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import convbench
from convbench.problem import Direction
from convbench.store import Contents
from convbench.suites import load_suite

from .layers import Layer
from .ranking import Ranking, Scope, rankings
from .tables import MISSING, Table, clean, significant
from .totals import BACKWARD, BEST, Sums, timer

if TYPE_CHECKING:
    import pandas as pd

DATA = Path(convbench.__file__).parent / "data"
SUITE = "convnet-benchmarks"
NETWORK = ("measured on", "library", "class", "total (ms)", "forward (ms)", "backward (ms)", "source")
LAYERS = ("L1", "L2", "L3", "L4", "L5")
LAYERWISE = ("measured on", "library", "class", *(f"{name} (ms)" for name in LAYERS), "total (ms)", "source")
NOTE = (
    "Milliseconds per call for the whole batch. One's own rows come first; machines, clocks, methods and "
    "accuracy differ, so nothing is ranked. Published figures are as their source prints them."
)
NONE = "These results hold nothing of convnet-benchmarks' layers; `convbench run convnet-benchmarks` does."
PASSES = {"forward": (Direction.FWD.value,), "backward": BACKWARD}
OWN = "this run"
QUIET = frozenset({"class", "source"})


def published(contents: Contents, cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """Networks and L1 to L5 of convnet-benchmarks with the figures of 2014 to 2017."""
    found = rankings(cells, layers)
    names = {ranking.scope: _hardware(contents, ranking) for ranking in found}
    networks = [
        _network(name, found, names) for name in dict.fromkeys(row["network"] for row in _rows("networks"))
    ]
    return [*networks, *(_layerwise(passes, found, names) for passes in PASSES)]


def _hardware(contents: Contents, ranking: Ranking) -> str:
    identity = contents.environments.get(ranking.scope.environment, {}).get("identity", {})
    name = identity.get("gpu") or identity.get("cpu") if isinstance(identity, Mapping) else None
    return f"{clean(str(name or 'this machine'))} ({ranking.label})"


@cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    with (DATA / f"published_{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def _members(network: str) -> tuple[Layer, ...]:
    """The layers of a published network, which own results are recognised by, whatever their suite's name."""
    layers = (one for one in load_suite(SUITE).layers if one.network == network)
    return tuple(Layer(network, one.name, one.repeat, str(one.problem)) for one in layers)


def _own(ranking: Ranking, members: Sequence[Layer]) -> Iterator[tuple[str, Sums]]:
    """The algorithms that have any figure on these layers, and the best of all where there are several."""
    names = [
        name
        for name in ranking.algorithms
        if any(timer(ranking, name)(layer.problem, d) for layer in members for d in ranking.directions)
    ]
    for name in names:
        yield name, Sums(members, timer(ranking, name))
    if len(names) > 1:
        yield BEST, Sums(members, timer(ranking, None))


# ---- networks ----------------------------------------------------------------------------------------------


def _network(network: str, found: Sequence[Ranking], names: Mapping[Scope, str]) -> Table:
    members = _members(network)
    rows: list[tuple[str, ...]] = []
    for ranking in found:
        for name, sums in _own(ranking, members):
            texts = (sums.text(passes) for passes in ([d.value for d in Direction], *PASSES.values()))
            rows.append((names[ranking.scope], name, "best variants", *texts, OWN))
    own = len(rows)
    kept = [row for row in _rows("networks") if row["network"] == network]
    rows += [
        (
            row["hardware"],
            _library(row),
            row["class"],
            *map(_ms, (row["total_ms"], row["forward_ms"], row["backward_ms"])),
            row["source"],
        )
        for row in sorted(
            kept, key=lambda row: (row["source"], row["hardware"], float(row["total_ms"] or "inf"))
        )
    ]
    return _table(f"Published figures: {network} ({kept[0]['input']})", NETWORK, rows, own)


def _library(row: Mapping[str, str]) -> str:
    return " ".join(filter(None, (row["library"], row.get("precision"))))


def _ms(text: str) -> str:
    return f"{int(text):,}" if text else MISSING


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], own: int) -> Table:
    """`rows` end with the published ones, whose sources the note spells out."""
    full = dict.fromkeys(row[-1] for row in rows[own:])
    short = [(*row[:-1], row[-1].partition(" at ")[2] or row[-1]) for row in rows]
    note = f"{NOTE if own else f'{NONE} {NOTE}'} Sources: {'; '.join(full)}."
    return Table(title, columns, short, note, totals=len(rows) - own if own else 0, quiet=QUIET)


# ---- layer by layer ----------------------------------------------------------------------------------------


def _layerwise(passes: str, found: Sequence[Ranking], names: Mapping[Scope, str]) -> Table:
    members = _members("layerwise")
    rows: list[tuple[str, ...]] = []
    for ranking in found:
        for name, sums in _own(ranking, members):
            clock = timer(ranking, None if name == BEST else name)
            each = (significant(Sums([layer], clock).total(PASSES[passes])) for layer in members)
            rows.append((names[ranking.scope], name, "best variants", *each, sums.text(PASSES[passes]), OWN))
    own = len(rows)
    rows += [
        (
            row["hardware"],
            row["library"],
            row["class"],
            *(_ms(row[f"{name}_ms"]) for name in LAYERS),
            _ms(row["total_ms"]),
            row["source"],
        )
        for row in _rows("layerwise")
        if row["passes"] == passes
    ]
    return _table(f"Published figures: layerwise, {passes}", LAYERWISE, rows, own)
