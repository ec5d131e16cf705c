"""Which cells of two result folders belong together, and how their environments differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from convbench.errors import UsageError, one_line
from convbench.record import Record, Status, canonical
from convbench.store import Contents

SHOWN = 3


class Identity(NamedTuple):
    """What a cell measures; presets, sources and environments may differ between two runs of it."""

    problem: str
    algorithm: str
    variant: str
    device: str
    regime: str


class Difference(NamedTuple):
    """A fact that the environments do not agree on."""

    fact: str
    base: str
    candidate: str


Cells = Mapping[Identity, Record]


def identity(record: Record) -> Identity:
    cell = record.cell
    return Identity(cell.problem.label, cell.algorithm, cell.variant, cell.device, cell.regime)


def latest(contents: Contents) -> dict[Identity, Record]:
    """Each cell as it was seen last; one that was left out of a smaller limit does not hide its figure."""
    found: dict[Identity, Record] = {}
    for record in contents.cells.values():
        if record.status is not Status.OVER_LIMIT or identity(record) not in found:
            found[identity(record)] = record
    return found


def matches(ours: Cells, theirs: Cells) -> Iterator[tuple[Record | None, Record | None]]:
    """Both sides of every cell. An algorithm's one reason for having no cell stands for all its variants."""
    stand_ins = {*_stand_ins(ours, theirs), *_stand_ins(theirs, ours)}
    for one in dict.fromkeys([*ours, *theirs]):
        if one not in stand_ins:
            yield _find(one, ours), _find(one, theirs)


def _find(wanted: Identity, side: Cells) -> Record | None:
    return side.get(wanted) or _reason(side, wanted._replace(variant=""))


def _reason(side: Cells, whole: Identity) -> Record | None:
    """The record that says why an algorithm has no variant to measure."""
    found = side.get(whole)
    return found if found is not None and found.status is not Status.OK else None


def _stand_ins(side: Cells, other: Cells) -> set[Identity]:
    """Reasons of whole algorithms of which the other side has variants: those are paired with them."""
    wholes = {one._replace(variant="") for one in other} - set(other)
    return {one for one in wholes if _reason(side, one) is not None}


def nothing_in_common(ours: Cells, theirs: Cells, names: tuple[str, str]) -> UsageError:
    """The error for two folders without a common cell, which says in what they differ."""
    first, second = map(one_line, names)
    for name, side in ((first, ours), (second, theirs)):
        if not side:
            return UsageError(
                f"'{name}' holds no cells, so there is nothing to compare; `convbench run` adds some"
            )
    parts = []
    for field in Identity._fields:
        values = [list(dict.fromkeys(getattr(one, field) for one in side)) for side in (ours, theirs)]
        if not set(values[0]) & set(values[1]):
            parts.append(f"{field} {_few(values[0])} against {_few(values[1])}")
    differ = "; ".join(parts) or "each problem was run with other algorithms or variants"
    return UsageError(f"'{first}' and '{second}' have no cell in common: {differ}; compare runs of one suite")


def _few(values: Sequence[str]) -> str:
    rest = [f"{len(values) - SHOWN} more"] if len(values) > SHOWN else []
    return ", ".join([*(one_line(value) or "''" for value in values[:SHOWN]), *rest])


# ---- environments ------------------------------------------------------------------------------------------


def differences(base: Contents, ours: Cells, candidate: Contents, theirs: Cells) -> Iterator[Difference]:
    """Facts of the environments' identities that are not the same on both sides."""
    before, after = _facts(base, ours), _facts(candidate, theirs)
    for fact in dict.fromkeys([*before, *after]):
        values = before.get(fact, ""), after.get(fact, "")
        if values[0] != values[1]:
            yield Difference(fact, *values)


def _facts(contents: Contents, side: Cells) -> dict[str, str]:
    """Each fact of the environments that measured these cells; several values where they are several."""
    values: dict[str, set[str]] = {}
    for environment in sorted({record.environment for record in side.values()}):
        stored = contents.environments.get(environment, {}).get("identity", {"environment": environment})
        for fact, value in _flat(stored):
            values.setdefault(fact, set()).add(value)
    return {fact: ", ".join(sorted(found)) for fact, found in values.items()}


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Facts as text, those one level down under both names."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", _text(one)) for inner, one in value.items())
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "none" if value is None else canonical(value).decode()
