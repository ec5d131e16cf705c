"""How each of our families stands against cuDNN's algorithm of the same family, and our best against all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, hypot, log
from typing import TYPE_CHECKING, NamedTuple

from convbench.problem import Direction, Precision

from .ranking import RANKED, Entry, Ranking, rankings
from .tables import MISSING, Table

if TYPE_CHECKING:
    import pandas as pd

LIBRARY = ("cudnn", "cudnn-graph")
OPPONENTS = {"best of cuDNN": LIBRARY, "PyTorch": ("torch",), "JAX": ("jax",)}
FOREIGN = tuple(name for names in OPPONENTS.values() for name in names)
BEST = "best of ours"
FWD, BWD = Direction.FWD, (Direction.BWD_DATA, Direction.BWD_FILTER)
# cuDNN's named algorithms of a family, by direction; a family without any has no opponent there.
RIVALS: dict[str, dict[Direction, tuple[str, ...]]] = {
    "direct": {FWD: ("IMPLICIT_GEMM",), **dict.fromkeys(BWD, ("ALGO_0",))},
    "implicit": {
        FWD: ("IMPLICIT_GEMM", "IMPLICIT_PRECOMP_GEMM"),
        Direction.BWD_DATA: ("ALGO_0", "ALGO_1"),
        Direction.BWD_FILTER: ("ALGO_0", "ALGO_1", "ALGO_3"),
    },
    "im2col": {FWD: ("GEMM",)},
    "fft": dict.fromkeys(Direction, ("FFT", "FFT_TILING")),
    "winograd": dict.fromkeys(Direction, ("WINOGRAD_NONFUSED",)),
}
NOBODY = "No layer has a ranked cell of ours and one of cuDNN's."
SUMMARY = ("ours", "against", "fwd", "bwd-data", "bwd-filter")
SUMMARY_NOTE = (
    "Time of the opponent's fastest variant over ours, geometric mean over the layers where both ran "
    "(their number and the smallest ratio behind it); above 1 ours is faster. In brackets the 95 % interval. "
    "Ours is of class {ours}, the opponent of {theirs}."
)
LAYERS = (
    "layer",
    "direction",
    "ratio",
    "95 % interval",
    "ours",
    "ms",
    "class",
    "cuDNN",
    "its ms",
    "its class",
)


class Ratio(NamedTuple):
    """Their time over ours, with the bounds that both intervals allow."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Duel:
    """The fastest of both sides on one pass of one layer."""

    layer: str
    direction: str
    ours: Entry
    theirs: Entry

    @property
    def ratio(self) -> Ratio:
        ours, theirs = self.ours, self.theirs
        return Ratio(theirs.ms / ours.ms, _low(theirs) / _high(ours), _high(theirs) / _low(ours))


def rivals(cells: pd.DataFrame, layers: pd.DataFrame) -> list[Table]:
    """For each scope the summary by family, then best against best on every layer."""
    found = [table for ranking in rankings(cells, layers) for table in _tables(ranking)]
    return found or [Table("Ours beside cuDNN", SUMMARY, [], NOBODY)]


def mean(ratios: Sequence[Ratio]) -> Ratio:
    """Geometric mean; the layers were measured independently, so their uncertainties add in quadrature."""
    middle = sum(log(one.value) for one in ratios) / len(ratios)
    down = hypot(*(log(one.value / one.lo) for one in ratios)) / len(ratios)
    up = hypot(*(log(one.hi / one.value) for one in ratios)) / len(ratios)
    return Ratio(exp(middle), exp(middle - down), exp(middle + up))


def ours_classes(precision: str) -> str:
    """The classes in which ours count: in strict fp32 the best alone, elsewhere all that are ranked."""
    return "S" if precision == Precision.FP32 else RANKED[precision]


def _tables(ranking: Ranking) -> Iterator[Table]:
    ours = _families(ranking)
    best = {name: list(_duels(ranking, ours, theirs)) for name, theirs in OPPONENTS.items()}
    library, *_ = best.values()
    if not library:
        return
    rows = [
        _summary(family, ", ".join(_rivals(family)), list(_duels(ranking, (family,), LIBRARY, family)))
        for family in RIVALS
    ]
    rows = [row for row in rows if set(row[2:]) != {MISSING}]
    totals = [_summary(BEST, name, duels) for name, duels in best.items() if duels]
    precision = ranking.scope.precision
    note = SUMMARY_NOTE.format(ours=_either(ours_classes(precision)), theirs=_either(RANKED[precision]))
    yield Table(ranking.title("Ours beside cuDNN"), SUMMARY, rows + totals, note, totals=len(totals))
    against = ranking.title("Best of ours beside the best of cuDNN")
    yield Table(against, LAYERS, [_line(one) for one in library])


def _either(classes: str) -> str:
    return " or ".join(classes)


def _families(ranking: Ranking) -> tuple[str, ...]:
    return tuple(name for name in ranking.algorithms if name not in FOREIGN)


def _duels(
    ranking: Ranking, families: tuple[str, ...], opponents: tuple[str, ...], family: str | None = None
) -> Iterator[Duel]:
    """Both sides' fastest wherever both ran; with a family, theirs is one of its rivals."""
    asked = ours_classes(ranking.scope.precision)
    for layer, direction in dict.fromkeys(ranking.passes()):
        entries = ranking.variants(layer.problem, direction)
        names = RIVALS[family].get(Direction(direction), ()) if family else None
        ours = next((e for e in entries if e.algorithm in families and e.accuracy in asked), None)
        theirs = next((e for e in entries if e.algorithm in opponents and _named(e, names)), None)
        if ours and theirs:
            yield Duel(layer.title, direction, ours, theirs)


def _named(entry: Entry, names: tuple[str, ...] | None) -> bool:
    """Whether a variant, whatever its arithmetic, is of one of these algorithms."""
    return names is None or (entry.algorithm == "cudnn" and entry.variant.partition("+")[0] in names)


def _rivals(family: str) -> Iterator[str]:
    yield from dict.fromkeys(name for names in RIVALS[family].values() for name in names)


def _summary(ours: str, against: str, duels: list[Duel]) -> tuple[str, ...]:
    return ours, against, *(mean_cell([d.ratio for d in duels if d.direction == way]) for way in SUMMARY[2:])


def mean_cell(ratios: list[Ratio]) -> str:
    if not ratios:
        return MISSING
    value = mean(ratios)
    least = min(one.value for one in ratios)
    return f"{value.value:.2f} [{value.lo:.2f}, {value.hi:.2f}] · {len(ratios)} layers, {least:.2f}"


def _line(duel: Duel) -> tuple[str, ...]:
    ratio, ours, theirs = duel.ratio, duel.ours, duel.theirs
    return (
        *(duel.layer, duel.direction, f"{ratio.value:.2f}", f"{ratio.lo:.2f} to {ratio.hi:.2f}"),
        *(ours.name, f"{ours.ms:.3f}", ours.accuracy),
        *(theirs.name, f"{theirs.ms:.3f}", theirs.accuracy),
    )


def _low(entry: Entry) -> float:
    return entry.ms if entry.lo is None else entry.lo


def _high(entry: Entry) -> float:
    return entry.ms if entry.hi is None else entry.hi
