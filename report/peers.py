"""Tables in the shapes of other benchmarks: convnet-benchmarks' layer-wise one, and DeepBench's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convbench.deepbench import FIELDS
from convbench.problem import Direction, Problem

from .layers import Layer
from .ranking import NOTHING, Ranking, rankings
from .tables import MISSING, Table, significant
from .totals import BACKWARD, BEST, Sums, timer

if TYPE_CHECKING:
    import pandas as pd

WIDEST = 12  # layers that a table has columns for
LAYERWISE_NOTE = (
    "Milliseconds per call for the whole batch, best variant of each algorithm, sorted by total; the total "
    "counts each layer as often as the network holds it. Backward is bwd-data plus bwd-filter. Last row: the "
    "fastest algorithm for each layer."
)
WIDE = "No network here has at most {} layers; the view layers shows the others."
DEEPBENCH = (
    *FIELDS, "precision", "fwd_time (ms)", "bwd_inputs_time (ms)", "bwd_params_time (ms)", "total_time (ms)",
    "fwd_algo", "bwd_inputs_algo", "bwd_params_algo",
)  # fmt: skip
DEEPBENCH_NOTE = (
    "The fastest variant of each pass; milliseconds per call for the whole batch. Left out: layers with "
    "groups, dilation or uneven padding, for which DeepBench has no columns."
)


def layerwise(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """Per network of few layers: algorithms against layers, forward and backward apart."""
    found = rankings(cells, layers)
    tables = [
        _layerwise(ranking, network, name, passes)
        for ranking in found
        for network in ranking.networks
        if len(ranking.members(network)) <= WIDEST
        for name, passes in (("forward", [Direction.FWD.value]), ("backward", list(BACKWARD)))
        if set(passes) & set(ranking.directions)
    ]
    return tables or [Table("Layer-wise", (), [], WIDE.format(WIDEST) if found else NOTHING)]


def _layerwise(ranking: Ranking, network: str, name: str, passes: Sequence[str]) -> Table:
    members = ranking.members(network)
    sums = {one: Sums(members, timer(ranking, one)) for one in ranking.algorithms}
    order = sorted(sums, key=lambda one: (_total(sums[one], passes), -sums[one].covered(passes), one))
    rows = [(one, *_row(ranking, members, one, passes)) for one in order]
    rows.append((BEST, *_row(ranking, members, None, passes)))
    best = frozenset(
        (i, j)
        for i, row in enumerate(rows[:-1])
        for j in range(1, len(row))
        if row[j] == rows[-1][j] != MISSING
    )
    columns = ("algorithm", *(layer.title for layer in members), "total (ms)")
    title = ranking.title(f"Layer-wise, {name}", network)
    return Table(title, columns, rows, LAYERWISE_NOTE, best, totals=1)


def _total(sums: Sums, passes: Sequence[str]) -> float:
    total = sums.total(passes)
    return float("inf") if total is None else total


def _row(
    ranking: Ranking, members: Sequence[Layer], name: str | None, passes: Sequence[str]
) -> tuple[str, ...]:
    clock = timer(ranking, name)
    once = [Layer(layer.network, layer.name, 1, layer.problem) for layer in members]
    each = (significant(Sums([layer], clock).total(passes)) for layer in once)
    return *each, Sums(members, clock).text(passes)


def deepbench(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """A row for each layer with the columns of DeepBench's tables."""
    tables = []
    for ranking in rankings(cells, layers):
        problems = [Problem.parse(text) for text in dict.fromkeys(layer.problem for layer in ranking.layers)]
        rows = [_deepbench(ranking, problem) for problem in problems if _told(problem)]
        detail = frozenset({"precision"})
        tables.append(Table(ranking.title("DeepBench"), DEEPBENCH, rows, DEEPBENCH_NOTE, detail=detail))
    return tables or [Table("DeepBench", DEEPBENCH, [], NOTHING)]


def _told(problem: Problem) -> bool:
    even = all(before == after for before, after in problem.pad)
    return even and problem.groups == 1 and problem.dilation == (1, 1) and not problem.flip


def _deepbench(ranking: Ranking, p: Problem) -> tuple[str, ...]:
    sizes = (p.w, p.h, p.c, p.n, p.k, p.s, p.r, p.pad[1][0], p.pad[0][0], p.stride[1], p.stride[0])
    best = [next(iter(ranking.variants(str(p), direction)), None) for direction in Direction]
    times = [entry.ms if entry else None for entry in best]
    known = [time for time in times if time is not None]
    total = sum(known) if len(known) == len(times) else None
    names = (entry.name if entry else MISSING for entry in best)
    return *map(str, sizes), ranking.scope.precision, *map(significant, (*times, total)), *names
