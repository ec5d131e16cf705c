"""Records with planted times, for tests of whatever compares them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from convbench.problem import Problem
from convbench.record import Cell, Check, Record, Status, Timing
from convbench.store import Contents, Store

TEXT = "n1c2h5w4k3r3p1"
IDENTITY = {"cpu": "some cpu", "threads": 2, "libraries": {"numpy": "2.0", "torch": None}}
WOBBLE = (0.0, 1.0, -1.0, 0.5, -0.5)  # in units of the noise


def blocks(seconds: float, rounds: int = 10, noise: float = 0.002) -> list[float]:
    """Block medians around a time, with noise of this relative size."""
    return [seconds * (1 + noise * one) for one in islice(cycle(WOBBLE), rounds)]


def timing(values: Sequence[float], figure: str = "cpu", clocks: Iterable[float] = ()) -> Timing:
    middle = sorted(values)[len(values) // 2]
    ends = min(values), max(values)
    samples = [[one] for one in values]
    return Timing(figure, middle, *ends, *ends, max(values), 0, 0, 1, list(values), samples, list(clocks))


def measured(
    values: Sequence[float],
    algorithm: str = "direct",
    variant: str = "shift",
    *,
    text: str = TEXT,
    source: str = "source",
    environment: str = "e",
    accuracy: str = "S",
    flags: Sequence[str] = (),
    figure: str = "cpu",
    clocks: Sequence[float] = (),
    **cell: Any,
) -> Record:
    """An ok record with these block medians."""
    one = _cell(text, algorithm, variant, cell)
    return Record(
        one.key(source, {"environment": environment}),
        one,
        Status.OK,
        flags=list(flags),
        check=Check(1e-7, 0.5, accuracy, True, True),
        time=timing(values, figure, clocks),
        environment=environment,
    )


def settled(status: Status, algorithm: str = "direct", variant: str = "shift", **changes: Any) -> Record:
    """A record without figures."""
    reason, environment = changes.pop("reason", "because"), changes.pop("environment", "e")
    one = _cell(changes.pop("text", TEXT), algorithm, variant, changes)
    return Record(one.key(status, {}), one, status, reason, environment=environment)


def _cell(text: str, algorithm: str, variant: str, fields: dict[str, Any]) -> Cell:
    asked = {name: fields.pop(name) for name in ("direction", "precision", "layout") if name in fields}
    return Cell(Problem.parse(text, **asked), algorithm, variant, **{"device": "cpu", **fields})


def holding(
    *records: Record, noise: Sequence[float] = (), identity: dict[str, Any] | None = None
) -> Contents:
    """A result folder's contents."""
    environments = {
        one.environment: {"id": one.environment, "identity": identity or IDENTITY} for one in records
    }
    lines = [{"problem": f"p{i}", "ratio": ratio, "environment": "e"} for i, ratio in enumerate(noise)]
    return Contents({one.key: one for one in records}, environments, noise=lines)


def mixed() -> tuple[Contents, Contents]:
    """One of everything."""
    ratios = {"same": 1, "slow": 1.1, "slower": 1.5, "fast": 0.5}
    ours = [measured(blocks(1e-3), name) for name in (*ratios, "gone", "breaks")]
    theirs = [measured(blocks(1e-3 * ratio), name) for name, ratio in ratios.items()]
    few = [measured(blocks(1e-3, rounds=6), "few")]
    broken, mended = settled(Status.WRONG, "breaks"), settled(Status.CRASHED, "mended")
    return (
        holding(*ours, *few, mended),
        holding(*theirs, *few, broken, measured(blocks(1e-3), "mended"), measured(blocks(1e-3), "more")),
    )


def stored(folder: Path, held: Contents) -> Path:
    """The contents as a result folder."""
    with Store(folder) as store:
        for environment in held.environments.values():
            store.append({"kind": "environment", **environment})
        for one in held.cells.values():
            store.add_record(one)
        for line in held.noise:
            store.append({"kind": "noise", **line})
    return folder
