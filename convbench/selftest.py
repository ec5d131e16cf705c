"""The harness measures itself: each check with its figure, its bar, and whether it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convbench.errors import UsageError, one_line, unknown

PASS, FAIL, NOT_RUN = "pass", "fail", "not run"


@dataclass(frozen=True)
class Outcome:
    """One check: what came out, against what bar, and the figures behind it."""

    check: str
    about: str
    figure: str
    bar: str
    state: str
    details: list[Any] = field(default_factory=list)


def outcome(
    check: str, about: str, figure: str, bar: str, holds: bool, details: Iterable[Any] = ()
) -> Outcome:
    return Outcome(check, about, figure, bar, PASS if holds else FAIL, list(details))


Check = Callable[[Any], Outcome]


def checks() -> dict[str, Check]:
    """Checks of the measuring engine by name; they need a CUDA device."""
    from convbench import selftest_engine as engine
    from convbench import selftest_peers as peers

    return {
        "V1": engine.spin_lengths,
        "V2": engine.planted_noise,
        "V3": engine.launch_floor,
        "V4": peers.nvbench,
        "V5": peers.do_bench,
        "V6": peers.kernel_span,
        "V7": engine.cold_is_cold,
        "V8": engine.verdicts,
        "V9": peers.fresh_processes,
        "V11": engine.order_relations,
    }


REPLAYED = Outcome(
    "V10", "every branch with replayed samples and a fake clock", "tests/test_timing.py", "all pass", NOT_RUN
)


def run(device: Any, names: Iterable[str] | None = None) -> Iterator[Outcome]:
    """Run the named checks, or all; one that cannot run here says why."""
    known = checks()
    for name in names or known:
        if name not in known:
            raise unknown("check", name, known)
        try:
            yield known[name](device)
        except ImportError as error:
            yield Outcome(name, "", one_line(str(error)), "", NOT_RUN)
    if names is None:
        yield REPLAYED


def write(folder: Path, environment: dict[str, Any], outcomes: Iterable[Outcome]) -> Path:
    """Keep the outcomes with their environment, one JSON line each."""
    file = folder / "selftest.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [{"environment": environment}, *(asdict(one) for one in outcomes)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise UsageError(
            f"cannot write '{file}': {error.strerror}; name a folder you may write to"
        ) from error
    return file
