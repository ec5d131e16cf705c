"""Records: what is stored comes back, and a cell has one key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from samples import PROBLEM, TIMING, cells, record, records

from convbench.problem import Direction, Layout, Precision
from convbench.record import LATER, Cell, Record, Status, canonical

CELL = Cell(PROBLEM, "direct", "shift", "cpu", 1 << 20)
IDENTITY = {"cpu": "some cpu", "threads": 2, "libraries": {"numpy": "2.0", "scipy": None}}


@given(records)
def test_a_record_survives_the_way_to_json_and_back(one: Record) -> None:
    stored = json.loads(canonical(one.to_json()))
    assert Record.from_json(stored) == one
    assert canonical(Record.from_json(stored).to_json()) == canonical(one.to_json())


def test_a_good_record_survives_too() -> None:
    assert Record.from_json(json.loads(canonical(record().to_json()))) == record()


WRONG: list[tuple[str, Any]] = [
    *((name, 7) for name in ("key", "reason", "environment", "started", "status", "flags", "setup", "cell")),
    ("flags", [1]),
    ("setup", {"prepare": "fast"}),
    ("details", None),
    ("status", "great"),
    ("check", []),
    ("check", {"weak": "yes"}),
    ("check", {"colour": 1}),
    ("workspace", {"promised": 1.5, "granted": 1, "library": None}),
    ("workspace", {"promised": True, "granted": 1, "library": None}),
    ("workspace", {"promised": 10**400, "granted": 1, "library": None}),
    ("time", None),
    *(("time", vars(TIMING) | change) for change in (
        {"median": "1"}, {"median": 0.0}, {"median": -1.0}, {"blocks": []}, {"samples": []},
        {"samples": [[]]}, {"samples": [[0.0]]}, {"samples": [1.0]}, {"blocks": {"a": 1}}, {"calls": 1.5},
        {"lo": "low"},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{n}={str(v)[:40]}" for n, v in WRONG])
def test_a_value_of_the_wrong_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Record.from_json(record().to_json() | {name: value})


def test_records_from_before_a_figure_was_taken_are_read() -> None:
    stored = record().to_json()
    for name in LATER:
        del stored[name]
    del stored["cell"]["cache"]
    assert Record.from_json(stored) == record()


@pytest.mark.parametrize("name", [field.name for field in fields(Record) if field.name not in LATER])
def test_a_missing_field_is_refused(name: str) -> None:
    stored = record().to_json()
    del stored[name]
    with pytest.raises((ValueError, TypeError, KeyError)):
        Record.from_json(stored)


@pytest.mark.parametrize("text", ["", "n1", "n1c2h5k3r9", "n1c3h5k3r3g2"])
def test_a_cell_needs_a_valid_problem(text: str) -> None:
    stored = record().to_json()
    stored["cell"] = stored["cell"] | {"problem": PROBLEM.as_dict() | {"text": text}}
    with pytest.raises(ValueError, match=r"."):
        Record.from_json(stored)


# ---- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "im2col"},
        {"variant": "f4"},
        {"device": "cuda"},
        {"workspace_limit": None},
        {"workspace_limit": 0},
        {"regime": "burst"},
        {"preset": "quick"},
        *(
            {"problem": problem}
            for problem in (
                PROBLEM.with_(n=2),
                PROBLEM.with_(pad=((1, 1), (1, 2))),
                PROBLEM.with_(stride=(1, 2)),
                PROBLEM.with_(flip=True),
                PROBLEM.with_(direction=Direction.BWD_DATA),
                PROBLEM.with_(precision=Precision.TF32),
                PROBLEM.with_(layout=Layout.NHWC),
            )
        ),
    ],
    ids=str,
)
def test_every_field_of_a_cell_changes_its_key(change: dict[str, Any]) -> None:
    assert replace(CELL, **change).key("source", IDENTITY) != CELL.key("source", IDENTITY)


@pytest.mark.parametrize(
    "identity",
    [
        {**IDENTITY, "threads": 4},
        {**IDENTITY, "libraries": {"numpy": "2.1", "scipy": None}},
        {**IDENTITY, "libraries": {"numpy": "2.0"}},
        {**IDENTITY, "driver": "1"},
    ],
    ids=str,
)
def test_source_and_machine_change_the_key(identity: dict[str, Any]) -> None:
    assert CELL.key("source", identity) != CELL.key("source", IDENTITY)
    assert CELL.key("changed", IDENTITY) != CELL.key("source", IDENTITY)


@given(cells, cells)
def test_equal_cells_and_no_others_share_a_key(one: Cell, other: Cell) -> None:
    assert (one.key("s", IDENTITY) == other.key("s", IDENTITY)) == (one == other)


def test_the_key_does_not_depend_on_the_order_of_a_dict() -> None:
    turned = dict(reversed(IDENTITY.items())) | {"libraries": {"scipy": None, "numpy": "2.0"}}
    assert list(turned) != list(IDENTITY)
    assert CELL.key("source", turned) == CELL.key("source", IDENTITY)


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_key_is_the_same_in_every_process(seed: str) -> None:
    code = "from test_record import *; print(CELL.key('source', IDENTITY))"
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(Path(__file__).parent),
        "LC_ALL": "C",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == CELL.key("source", IDENTITY)


def test_canonical_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": float("nan")})


def test_failures_are_what_can_be_retried() -> None:
    from convbench.record import FAILURES

    assert set(Status) - FAILURES == {Status.OK, Status.UNSUPPORTED, Status.OVER_LIMIT}
