"""`convbench ab`: two algorithms, or two variants of one, timed in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from convbench import registry, sweep
from convbench.commands import print_tables, tell
from convbench.compare import Gate, Pair, counts, gated
from convbench.device import Device
from convbench.duel import Side, Sides, duel, effect
from convbench.errors import CannotRunError, UsageError, one_line, unknown
from convbench.job import describe
from convbench.progress import progress_bar
from convbench.record import FAILURES, Record
from convbench.run import slug
from convbench.statistics import noise_floor
from convbench.store import Contents, Store
from convbench.suites import Suite, select

PRESET = "ab"


def run_ab(
    device: Device,
    names: tuple[str, str],
    targets: Sequence[str],
    wishes: Mapping[str, Any],
    *,
    batch: int | None,
    out: Path | None,
    form: str,
    gates: Sequence[Gate],
    notice: str,
) -> int:
    """Measure what is missing, then print a verdict for each problem; 1 after a failure or at a gate."""
    sides = _sides(device, names)
    suite = select(targets)
    suite = suite.with_batch(batch) if batch else suite
    contest = _contest(device, sides, suite, wishes)
    folder = out or Path("results") / slug(f"ab {contest.title} {suite.name}")
    tell(notice)
    with Store(folder) as store:
        tell(*(f"convbench: {note}" for note in store.contents.notes))
        contest.measure(store, device)
    pairs, failures = contest.pairs(store.contents), contest.failures(store.contents)
    _print(contest, store.contents, pairs, form)
    if failures:
        tell(f"{len(failures)} cells failed (convbench show {folder} --view coverage)")
    tell(f"results in {folder}")
    click.echo(counts(pairs), err=form == "csv")
    return int(bool(failures) or gated(pairs, gates))


@dataclass(frozen=True)
class Contest:
    """What is to be measured, and how what was measured is read."""

    sides: Sides
    suite: Suite
    options: sweep.Options
    environment: dict[str, Any]
    groups: list[sweep.Group]

    @property
    def names(self) -> tuple[str, str]:
        return self.sides[0].name, self.sides[1].name

    @property
    def title(self) -> str:
        return " against ".join(self.names)

    def measure(self, store: Store, device: Device) -> None:
        """Groups of which a cell is missing, as a whole: only cells of the same rounds are compared."""
        _refuse_another(store, self)
        describe(store, self.suite, self.options, self.environment, pair=list(self.names))
        known = store.contents.cells.keys()
        pending = [group for group in self.groups if not known >= set(_keys(group))]
        with progress_bar(pending, quiet=False) as progress:
            sweep.run(pending, self.options, device, self.environment, store, progress)

    def pairs(self, contents: Contents) -> list[Pair]:
        """A pair for each problem; CannotRunError if there is nothing to compare and nothing has failed."""
        floor = noise_floor(self.noise(contents))
        pairs = [duel(one.problem, _records(one, contents), self.sides, floor) for one in self.groups]
        if not any(pair.ratio for pair in pairs) and not self.failures(contents):
            reasons = one_line("; ".join(dict.fromkeys(pair.reason for pair in pairs)))
            raise CannotRunError(f"no problem could be measured with both: {reasons}")
        return pairs

    def failures(self, contents: Contents) -> list[Record]:
        records = (record for group in self.groups for record in _records(group, contents))
        return [record for record in records if record.status in FAILURES]

    def noise(self, contents: Contents) -> list[float]:
        """The last A/A ratio of each problem on this machine."""
        here = self.environment["id"]
        ratios = {line["problem"]: line["ratio"] for line in contents.noise if line["environment"] == here}
        labels = [group.problem.label for group in self.groups]
        return [ratios[label] for label in labels if label in ratios]


# ---- what is measured --------------------------------------------------------------------------------------


def _sides(device: Device, names: tuple[str, str]) -> Sides:
    first, second = (_side(device, name) for name in names)
    if first == second:
        raise UsageError(
            f"'{one_line(first.name)}' against itself: name two algorithms, or two variants of one; "
            "every A/B run measures its own noise anyway"
        )
    return first, second


def _side(device: Device, name: str) -> Side:
    """`name` or `name/variant`; variants differ from problem to problem and are looked at later."""
    if name in registry.algorithms(device.name):
        return Side(name)
    algorithm, slash, variant = name.partition("/")
    registry.select(device.name, [algorithm])
    return Side(algorithm, variant if slash else None)


def _contest(device: Device, sides: Sides, suite: Suite, wishes: Mapping[str, Any]) -> Contest:
    entries = registry.select(device.name, [side.algorithm for side in sides])
    options = sweep.Options(entries, preset=PRESET, baseline=sides[0].algorithm, **wishes)
    sweep.refuse_impossible(suite, options, device)
    environment = device.environment()
    groups = sweep.Planner(options, device, environment, {}).groups(suite)
    for side in sides:
        _check_variant(side, groups)
    return Contest(sides, suite, options, environment, [_chosen(group, sides) for group in groups])


def _check_variant(side: Side, groups: Sequence[sweep.Group]) -> None:
    cells = [candidate.cell for group in groups for candidate in group.candidates]
    offered = {cell.variant for cell in cells if cell.algorithm == side.algorithm}
    if side.variant is not None and offered and side.variant not in offered:
        raise unknown(f"variant of {side.algorithm}", side.variant, offered)


def _chosen(group: sweep.Group, sides: Sides) -> sweep.Group:
    """The cells of both sides alone, the first side's first: the first of them is measured twice."""
    candidates = [c for c in group.candidates if any(side.holds(c.cell) for side in sides)]
    candidates.sort(key=lambda candidate: not sides[0].holds(candidate.cell))
    return replace(group, candidates=candidates)


def _keys(group: sweep.Group) -> list[str]:
    return [*(one.key for one in group.candidates), *(one.key for one in group.settled)]


def _records(group: sweep.Group, contents: Contents) -> list[Record]:
    return [contents.cells[key] for key in _keys(group)]


def _refuse_another(store: Store, contest: Contest) -> None:
    """Cells of two A/B runs have the same keys but not the same rounds: each pair keeps its own folder."""
    for run in store.contents.runs:
        pair = run.get("pair")
        if run["preset"] == PRESET and pair != list(contest.names):
            held = " against ".join(map(str, pair)) if isinstance(pair, list) else "another pair"
            raise UsageError(
                f"'{one_line(str(store.folder))}' holds {one_line(held)}, which was not timed together with "
                f"{one_line(contest.title)}; name another folder with --out"
            )


# ---- what it says ------------------------------------------------------------------------------------------


def _print(contest: Contest, contents: Contents, pairs: Sequence[Pair], form: str) -> None:
    from convbench.report.comparison import duels
    from convbench.report.evidence import Noise

    ratios = contest.noise(contents)
    floor = noise_floor(ratios)
    noise = Noise(contest.environment["id"], floor, len(ratios))
    note = (
        f"Timed in the same rounds; B / A is the median of each round's ratio. {noise}. "
        f"A change below {100 * effect(floor):.2f} % is none."
    )
    print_tables([duels(pairs, contest.names, note)], form)
