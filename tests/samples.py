"""Records as Hypothesis strategies, and one to start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from strategies import problems

from convbench.problem import Problem
from convbench.record import Cell, Check, Record, Status, Timing, Workspace
from convbench.store import FILE

LAYER = {"suite": "s", "network": "n", "name": "l", "repeat": 2, "text": "n1c2h5k3r3"}
ENVIRONMENT = {"id": "e", "identity": {"cpu": "some cpu"}}
NOISE = {"kind": "noise", "problem": "p", "ratio": 1.01, "environment": "e"}
RUN = {"kind": "run", "command": ["run", "quick"], "limits": [None, 64], "preset": "quick"}
PROBLEM = Problem.parse("n1c2h5w4k3r3p1")
TIMING = Timing("cpu", 2e-3, 1e-3, 3e-3, 1e-3, 1.5e-3, 2.5e-3, 1, 0, 7, [2e-3, 2e-3], [[1e-3, 3e-3], [2e-3]])

_text = st.text(st.characters(codec="utf-8"), max_size=12)
_positive = st.floats(1e-9, 1e9)
_size = st.integers(0, 1 << 62)
_json = st.recursive(
    st.none() | st.booleans() | _size | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_checks = st.builds(Check, relative_l2=st.none() | _positive, accuracy=st.none() | _text, weak=st.booleans())
_timings = st.builds(
    Timing,
    figure=_text,
    lo=st.none() | _positive,
    hi=st.none() | _positive,
    calls=st.integers(1, 1000),
    **dict.fromkeys(("median", "smallest", "q1", "q3"), _positive),
    **dict.fromkeys(("tukey", "far"), st.integers(0, 9)),
    blocks=st.lists(_positive, min_size=1, max_size=3),
    samples=st.lists(st.lists(_positive, min_size=1, max_size=3), min_size=1, max_size=3),
)
cells = st.builds(
    Cell,
    problems(),
    **dict.fromkeys(("algorithm", "variant", "device", "regime", "preset"), _text),
    workspace_limit=st.none() | _size,
)
records = st.builds(
    Record,
    cell=cells,
    status=st.sampled_from([status for status in Status if status is not Status.OK]),
    check=st.none() | _checks,
    time=st.none() | _timings,
    workspace=st.none() | st.builds(Workspace, _size, _size, st.none() | _size),
    flags=st.lists(_text, max_size=2),
    setup=st.dictionaries(_text, _positive, max_size=2),
    details=st.dictionaries(_text, _json, max_size=3),
    **dict.fromkeys(("key", "reason", "environment", "started"), _text),
)


def record(key: str = "k", **changes: Any) -> Record:
    """A good cell, with some fields changed."""
    fields: dict[str, Any] = {
        "cell": Cell(PROBLEM, "direct", "shift", "cpu"),
        "status": Status.OK,
        "check": Check(1e-7, 0.5, "S", True, True),
        "time": TIMING,
        "workspace": Workspace(64, 64, 0),
        "setup": {"prepare": 1e-3},
        "environment": "e",
    }
    return Record(key, **(fields | changes))


def lines(folder: Path) -> list[bytes]:
    return (folder / FILE).read_bytes().splitlines(keepends=True)


def fails_in_one_line(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)
