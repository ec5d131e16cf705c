"""Results for other tools: what comes out is what they read, and every column is documented."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from comparing import blocks, holding, measured, settled, stored
from conftest import Command
from samples import LAYER, record

import convbench as package
from convbench.columns import TEXT, TRUTH, page, unit
from convbench.frame import COLUMNS
from convbench.record import Status, Workspace
from convbench.store import Store

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two measured cells, one with everything, and one that failed."""
    fast = replace(measured(blocks(1e-3), "fast"), workspace=Workspace(64, 64, 0))
    held = holding(fast, measured(blocks(4e-3), "slow"), settled(Status.WRONG, "wrong", reason="=1+1"))
    folder = stored(tmp_path / "results", held)
    with Store(folder) as store:
        store.add_once("layer", [LAYER], [])
    return folder


# ---- the frame --------------------------------------------------------------------------------------------


def test_the_page_of_columns_is_up_to_date() -> None:
    """If not: python -m convbench.columns > docs/frame.md"""
    assert (DOCS / "frame.md").read_text(encoding="utf-8") == page()


def test_every_column_of_a_frame_is_described(results: Path) -> None:
    frame = package.load(results)
    assert list(frame.columns) == list(COLUMNS) and all(COLUMNS.values())
    for name in frame.columns:
        known = frame[name].dropna()
        if unit(name) == TEXT:
            assert all(isinstance(value, str) for value in known), name
        elif unit(name) == TRUTH:
            assert set(known) <= {True, False}, name
        else:
            assert pd.to_numeric(known).notna().all(), name


# ---- Parquet ----------------------------------------------------------------------------------------------


def test_parquet_holds_the_frame_with_units_and_meanings(
    convbench: Command, results: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    out = tmp_path / "results.parquet"
    assert convbench("export", results, "--to", "parquet", "-o", out).code == 0
    back, frame = pd.read_parquet(out), package.load(results)
    for name in frame.columns:
        ours, theirs = ([None if pd.isna(v) else v for v in one[name]] for one in (frame, back))
        assert ours == theirs, name
    field = parquet.read_schema(out).field("time_ms")
    assert field.metadata == {b"unit": b"ms", b"meaning": COLUMNS["time_ms"].encode()}


def test_parquet_types_do_not_depend_on_what_is_there(
    convbench: Command, results: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    empty = stored(tmp_path / "empty", holding(settled(Status.CRASHED)))
    schemas = []
    for folder in (results, empty):
        assert convbench("export", folder, "--to", "parquet", "-o", tmp_path / "p").code == 0
        schemas.append(parquet.read_schema(tmp_path / "p"))
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize("flops", ["many", [1], {"a": 1}, 10**40, True, None])
def test_parquet_takes_details_of_any_kind(convbench: Command, tmp_path: Path, flops: object) -> None:
    folder = stored(tmp_path / "odd", holding(record(details={"flops": flops})))
    assert convbench("export", folder, "--to", "parquet", "-o", tmp_path / "p").code == 0
    (value,) = pd.read_parquet(tmp_path / "p")["algorithm_flops"]
    assert pd.isna(value) or value in (1e40, 1.0)


def test_parquet_needs_a_file_and_its_package(
    convbench: Command, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = convbench("export", results, "--to", "parquet")
    assert (done.code, done.out) == (2, "") and "-o results.parquet" in done.err
    done = convbench("export", results, "--to", "parquet", "-o", tmp_path / "missing" / "p")
    assert done.code == 2 and "cannot write" in done.err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = convbench("export", results, "--to", "parquet", "-o", tmp_path / "p")
    assert done.code == 3 and "pip install 'convbench[parquet]'" in done.err


# ---- pytest-benchmark -------------------------------------------------------------------------------------


def test_pytest_benchmark_compares_two_exports(convbench: Command, results: Path, tmp_path: Path) -> None:
    """As its users do: in a table, sorted and grouped, and as CSV."""
    for name in ("one.json", "two.json"):
        assert convbench("export", results, "--to", "pytest-benchmark", "-o", tmp_path / name).code == 0
    saved = json.loads((tmp_path / "one.json").read_text())
    assert [one["param"] for one in saved["benchmarks"]] == ["fast/shift", "slow/shift"]
    tool = Path(sys.executable).with_name("pytest-benchmark")
    command = [tool, "compare", "one.json", "two.json", "--csv=out.csv", "--sort=mean", "--group-by=group"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("[fast/shift]") >= 2 and done.stdout.count("[slow/shift]") >= 2
    medians = pd.read_csv(tmp_path / "out.csv")["median"].tolist()
    assert medians == pytest.approx([1e-3, 1e-3, 4e-3, 4e-3], rel=0.01)
