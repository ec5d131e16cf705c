"""The tables that documents have from results/: what is in them, and that what is asked for is there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
from documents import DOCUMENTS, ROOT

sys.path.append(str(ROOT / "results"))
findings, cudnn_tables, harness = map(import_module, ("findings", "cudnn_tables", "harness"))

SCRIPTS: dict[str, dict[str, Callable[[], Iterator[tuple[str, ...]]]]] = {
    "findings": findings.FINDINGS,
    "cudnn_tables": cudnn_tables.TABLES,
    "harness": harness.TABLES,
}
TABLES = {(script, name): table for script, tables in SCRIPTS.items() for name, table in tables.items()}
DERIVED = re.compile(r"<!-- derived: python results/(\w+)\.py ([\w-]+)")


def test_documents_show_tables_that_exist_and_all_of_them() -> None:
    shown = {found for page in DOCUMENTS for found in DERIVED.findall(page.read_text("utf-8"))}
    assert {one for one in shown if one[0] in SCRIPTS} == TABLES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES.values(), ids=map(" ".join, TABLES))
def test_every_table_has_rows_as_wide_as_its_head(table: Callable[[], Iterator[tuple[str, ...]]]) -> None:
    head, *rows = table()
    assert rows
    assert all(len(row) == len(head) and all(isinstance(cell, str) for cell in row) for row in rows)


# ---- ratios -----------------------------------------------------------------------------------------------


def cell(ms: float, width: float = 0.0, **columns: object) -> dict[str, object]:
    return {"time_ms": ms, "lo_ms": ms - width, "hi_ms": ms + width, **columns}


def use(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *cells: dict[str, object]) -> None:
    monkeypatch.setattr(module, "load", lambda *folders: pd.DataFrame(cells))


def test_a_network_counts_layers_as_often_as_it_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = pd.DataFrame({"problem": ["a", "b"], "repeat": [1, 3]})
    monkeypatch.setattr(findings, "contents", lambda folder: None)
    monkeypatch.setattr(findings, "layers_frame", lambda contents: layers)
    kind = {"precision": "fp32", "layout": "nchw", "accuracy": "S", "workspace_known": True}
    passes = [(way, name) for way in ("fwd", "bwd-data", "bwd-filter") for name in "ab"]
    cells = [
        cell(ms, 0.5, problem=name, direction=way, algorithm=who, workspace_bytes=size, **kind)
        for way, name in passes
        for ms, who, size in ((1.0, "fft", 2**30), (2.0, "direct", 0), (3.0, "cudnn", 0))
    ]
    use(monkeypatch, findings, *cells)
    _, forward, library, training, _ = findings.network()
    assert forward[2].startswith("8.00 (") and forward[3].startswith("4.00 (")
    assert forward[4].startswith("2.00 (")
    assert library[2] == library[3] and library[2].startswith("12.00 (10.42")  # 0.5 and 3 x 0.5, in squares
    assert training[2].startswith("24.00 (")


def test_autotuning_is_compared_on_passes_that_have_both(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"precision": "fp32", "algorithm": "torch"}
    cells = [
        cell(ms, problem=name, direction=way, variant=variant, first_call_ms=first, **kind)
        for way in ("fwd", "bwd-data", "bwd-filter")
        for name, variant, ms, first in (
            ("a", "default", 4.0, 4.0),
            ("a", "autotuned", 2.0, 40.0),
            ("b", "default", 1.0, 1.0),
            ("b", "autotuned", 1.0, 30.0),
            ("c", "autotuned", 1.0, 900.0),
        )
    ]
    use(monkeypatch, findings, *cells)
    _, first, *_ = findings.autotuned()
    assert first == ("fwd", "2", "1.41 [1.41, 1.41]", "2.00", "30")


def entry(name: str, ms: float) -> SimpleNamespace:
    return SimpleNamespace(name=name, variant=name, ms=ms, lo=ms * 0.9, hi=ms * 1.1)


def test_a_pick_that_is_the_best_costs_nothing_and_is_certain() -> None:
    cost = cudnn_tables.Place("L1", "fwd", entry("FFT", 1.0), entry("FFT", 1.0)).cost
    assert cost == (1.0, 1.0, 1.0)
    cost = cudnn_tables.Place("L1", "fwd", entry("GEMM", 3.0), entry("FFT", 1.0)).cost
    assert cost.value == 3.0 and cost.lo < 3.0 < cost.hi


def test_less_accurate_variants_are_grouped_by_their_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn_tables, "titles", lambda folder: {"p": "L1"})
    kind = {"problem": "p", "direction": "fwd", "layout": "nchw"}
    cells = [
        {"algorithm": who, "variant": name, "precision": precision, "relative_l2": e, "accuracy": a, **kind}
        for who, name, precision, e, a in (
            ("cudnn", "ALGO_0+fma", "fp16", 0.001, "X"),
            ("cudnn", "ALGO_0", "fp16", 0.002, "X"),
            ("cudnn", "ALGO_1", "fp16", 0.0002, "H"),
            ("cudnn-graph", "eng47_k0=23_k2=5", "fp32", 0.0001, "T"),
        )
    ]
    use(monkeypatch, cudnn_tables, *cells)
    _, *rows = cudnn_tables.inaccurate()
    assert [row[:4] for row in rows] == [
        ("cudnn-graph/eng47", "fp32", "fwd", "1"),
        ("cudnn/ALGO_0", "fp16", "fwd", "2"),
    ]
    assert rows[1][6:] == ("2.0e-03", "X")


# ---- the harness ------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "SELFTEST", tmp_path)
    spin = {"true_us": 100.0, "hot_us": 103.0, "cold_us": 102.0}
    shared = {"about": "spins", "figure": "3 µs", "bar": "2 µs"}
    lines = [
        {"environment": {}},
        {"check": "V1", "state": "fail", "details": [spin], **shared},
        {"check": "V2", "state": "pass", "details": [], **shared},
    ]
    (tmp_path / "selftest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "ceilings.txt").write_text("┃ ceiling ┃ sustained ┃\n│ copy    │      4.22 │\n", "utf-8")
    return tmp_path


def test_a_check_that_failed_stands_out(record: Path) -> None:
    _, *rows = harness.selftest()
    assert [(row[0], row[-1]) for row in rows] == [("V1", "**fail**"), ("V2", "pass")]


def test_what_the_timer_adds_is_shown_length_by_length(record: Path) -> None:
    _, *rows = harness.spins()
    assert rows == [("100", "3.00", "2.00", "2.00%")]


def test_ceilings_are_read_from_what_was_printed(record: Path) -> None:
    _, *rows = harness.ceilings()
    assert rows == [("copy", "4.22")]
