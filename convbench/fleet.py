"""GPUs of one kind that shared the work of a sweep count as one machine: a network is one table again.

The cells of one layer pass are timed on one device, so nothing is compared across devices by this. Where the
same cell was measured on several of them, as a study of how they differ, they stay apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from convbench.record import Cell, Record, canonical
from convbench.store import Contents


def as_one_machine(contents: Contents) -> Contents:
    """The same contents, in which environments that differ by their devices alone have one name."""
    homes = {member: home for home, members in _fleets(contents).items() for member in members}
    if not homes:
        return contents
    main = _main_environments(contents.cells.values())

    def moved(record: Record) -> Record:
        """A pass that was finished on another device keeps apart what was timed there."""
        home = homes.get(record.environment)
        belongs = record.time is None or record.environment == main[record.cell.problem.label]
        return replace(record, environment=home) if home and belongs else record

    cells = {key: moved(record) for key, record in contents.cells.items()}
    seen = {record.environment for record in cells.values()}
    environments = {
        name: _named(contents.environments, name, [m for m, home in homes.items() if home == name])
        for name in contents.environments
        if name in seen or name not in homes
    }
    noise = [
        {**line, "environment": homes.get(line["environment"], line["environment"])}
        for line in contents.noise
    ]
    return replace(contents, cells=cells, environments=environments, noise=noise)


def _fleets(contents: Contents) -> dict[str, list[str]]:
    """By the name that they get, environments of one identity none of whose cells were measured twice."""
    alike: dict[bytes, list[str]] = defaultdict(list)
    for name, environment in contents.environments.items():
        alike[canonical(environment["identity"])].append(name)
    several = {members[0]: members for members in alike.values() if len(members) > 1}
    cells: dict[str, set[Cell]] = defaultdict(set)
    for record in contents.cells.values() if several else ():
        cells[record.environment].add(record.cell)
    return {
        home: members
        for home, members in several.items()
        if sum(len(cells[name]) for name in members) == len(set().union(*(cells[name] for name in members)))
    }


def _main_environments(records: Iterable[Record]) -> dict[str, str]:
    """For each pass the environment that has most of its cells."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        counts[record.cell.problem.label][record.environment] += 1
    return {label: count.most_common(1)[0][0] for label, count in counts.items()}


def _named(environments: Mapping[str, dict[str, Any]], home: str, members: list[str]) -> dict[str, Any]:
    """The environment, with the devices of all its members."""
    one = environments[home]
    if not members or not isinstance(one.get("gpu"), dict):
        return one
    devices = (environments[name].get("gpu", {}).get("uuid", "") for name in members)
    return {**one, "gpu": {**one["gpu"], "uuid": ", ".join(map(str, devices))}}
