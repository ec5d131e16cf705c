"""Comparisons as tables: what changed between two runs, and two algorithms against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, isnan
from statistics import geometric_mean

from convbench.compare import FEWEST_ROUNDS, Comparison, Pair, State
from convbench.pairing import Difference
from convbench.record import Cell, Record
from convbench.statistics import Interval

from .layers import shape
from .tables import MISSING, NO_INTERVAL, Table, significant

Sides = tuple[str, str]  # something of A and of B
PLACE = ("problem", "direction", "precision", "layout")
QUIET = frozenset({"99 % interval", "remarks", "rounds"})
HEALTHY = frozenset({State.SAME})
NAMES: Mapping[str, Callable[[Cell], str]] = {
    "problem": lambda cell: shape(str(cell.problem)),
    "direction": lambda cell: cell.problem.direction.value,
    "precision": lambda cell: cell.problem.precision.value,
    "layout": lambda cell: cell.problem.layout.value,
    "device": lambda cell: cell.device,
    "regime": lambda cell: cell.regime,
}


# ---- two runs ----------------------------------------------------------------------------------------------


def changed(
    found: Comparison, names: tuple[str, str], noise: tuple[str, str], everything: bool
) -> list[Table]:
    """How the environments differ, if they do, and then what changed; with `everything` also what did not."""
    tables = [_differences(found.differences)] if found.differences else []
    pairs = [pair for pair in found.pairs if everything or pair.state not in HEALTHY]
    columns = ("state", *NAMES, "algorithm", "A ms", "B ms", "B / A", "99 % interval", "remarks")
    rows = [(pair.state.value, *_place(pair, NAMES), _name(pair.record), *_figures(pair)) for pair in pairs]
    title = f"From A ({names[0]}) to B ({names[1]})"
    note = _note(found.pairs, len(found.pairs) - len(pairs), noise)
    return [*tables, Table(title, columns, rows, note, quiet=QUIET, detail=_detail(pairs))]


def _differences(differences: Iterable[Difference]) -> Table:
    rows: list[tuple[str, ...]] = [
        (one.fact, one.base or MISSING, one.candidate or MISSING) for one in differences
    ]
    return Table("The environments differ", ("", "A", "B"), rows)


def _note(pairs: Sequence[Pair], hidden: int, noise: Sides) -> str:
    """The rule behind the states, what it rests on, and what to do where it could not decide."""
    deltas = sorted({pair.delta for pair in pairs if not isnan(pair.delta)})
    parts = [f"Not measured in the same rounds: a change below {_percent(deltas)} is none."] if deltas else []
    parts += [f"A: {noise[0]}. B: {noise[1]}."]
    few = sum(pair.ratio is not None and pair.ratio.lo is None for pair in pairs)
    if few:
        parts.append(
            f"{few} {'pair has' if few == 1 else 'pairs have'} fewer than {FEWEST_ROUNDS} rounds and so no "
            "verdict; measure again without --quick."
        )
    return " ".join([*parts, f"{hidden} SAME not shown (--all)." if hidden else ""]).strip()


def _percent(deltas: Sequence[float]) -> str:
    """One bound, or the range of them."""
    return " to ".join(dict.fromkeys(f"{100 * delta:.1f} %" for delta in (deltas[0], deltas[-1])))


def _figures(pair: Pair) -> tuple[str, ...]:
    base, candidate = _ms(pair.base), _ms(pair.candidate)
    return base, candidate, *_ratio(pair.ratio), pair.reason


# ---- two algorithms ----------------------------------------------------------------------------------------


def duels(pairs: Sequence[Pair], names: Sides, note: str) -> Table:
    """One algorithm against another on each problem, and the geometric mean of their ratios."""
    columns = (
        *PLACE, f"A: {names[0]}", "A ms", f"B: {names[1]}", "B ms", "B / A", "99 % interval", "rounds",
        "state", "remarks",
    )  # fmt: skip
    place = {name: NAMES[name] for name in PLACE}
    means = _means(pairs)
    rows = [_duel(pair, _place(pair, place)) for pair in pairs] + [_mean(*one) for one in means]
    detail = _detail(pairs) & set(columns)
    return Table(
        f"{names[0]} against {names[1]}", columns, rows, note, frozenset(), len(means), QUIET, detail
    )


def _duel(pair: Pair, place: tuple[str, ...]) -> tuple[str, ...]:
    sides = [cell for one in (pair.base, pair.candidate) for cell in (_variant(one), _ms(one))]
    rounds = [one.time.rounds for one in (pair.base, pair.candidate) if one and one.time]
    compared = str(min(rounds)) if pair.ratio else MISSING
    return (*place, *sides, *_ratio(pair.ratio), compared, pair.state.value, pair.reason)


def _means(pairs: Sequence[Pair]) -> list[tuple[str, str, list[float]]]:
    """Ratios apart by precision and layout, which are never mixed."""
    found: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        if pair.ratio is not None and 0 < pair.ratio.value < inf:
            problem = pair.record.cell.problem
            found.setdefault((problem.precision.value, problem.layout.value), []).append(pair.ratio.value)
    return [(*scope, ratios) for scope, ratios in found.items()]


def _mean(precision: str, layout: str, ratios: Sequence[float]) -> tuple[str, ...]:
    value, remark = significant(geometric_mean(ratios), 4), f"of {len(ratios)}"
    return "geometric mean", "", precision, layout, "", "", "", "", value, "", "", "", remark


# ---- cells -------------------------------------------------------------------------------------------------


def _place(pair: Pair, names: Mapping[str, Callable[[Cell], str]]) -> tuple[str, ...]:
    return tuple(read(pair.record.cell) for read in names.values())


def _detail(pairs: Iterable[Pair]) -> frozenset[str]:
    """Columns that say the same in every row; a terminal has no room for them."""
    cells = [pair.record.cell for pair in pairs]
    optional = (name for name in NAMES if name not in ("problem", "direction"))
    return frozenset(name for name in optional if len({NAMES[name](cell) for cell in cells}) < 2)


def _name(record: Record) -> str:
    cell = record.cell
    return f"{cell.algorithm}/{cell.variant}" if cell.variant else cell.algorithm


def _variant(record: Record | None) -> str:
    return (record.cell.variant or record.cell.algorithm) if record else MISSING


def _ms(record: Record | None) -> str:
    return significant(record.time.median * 1e3) if record and record.time else MISSING


def _ratio(ratio: Interval | None) -> tuple[str, str]:
    if ratio is None:
        return MISSING, MISSING
    if ratio.lo is None or ratio.hi is None:
        return significant(ratio.value, 4), NO_INTERVAL
    return significant(ratio.value, 4), f"{significant(ratio.lo, 4)} to {significant(ratio.hi, 4)}"
