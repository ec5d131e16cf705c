"""What stands beside a time: columns of the frame, and the tables of limits, clocks, power and energy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from comparing import TEXT, blocks, holding, measured, settled
from convbench.report.tables import MISSING, Table, markdown
from convbench.report.views import machine

from convbench.frame import COLUMNS, cells_frame, layers_frame
from convbench.problem import Problem
from convbench.record import Board, Energy, Host, Limit, Record, Status

FLOPS = Problem.parse(TEXT).flops
BOARD = Board(1700.0, 1500.0, 2600.0, 512.4, 61.0, ["sw_power_cap", "sw_thermal"], 0)


def told(record: Record, **parts: Any) -> Record:
    """The record with everything that a GPU tells."""
    known: dict[str, Any] = {
        "limit": Limit(0.5e-3, "gemm fp32"),
        "board": BOARD,
        "host": Host(20e-6, 1.1e-3),
        "energy": Energy(0.5, 500.0, 0.02, 2.0, 0.1, 10),
        "setup": {"prepare": 0.25, "first_call": 0.5},
    }
    return replace(record, **known | parts)


def timed(ms: float = 1.0, algorithm: str = "direct", variant: str = "shift", **changes: Any) -> Record:
    clocks = changes.pop("clocks", (1.5e9, 1.8e9, 1.6e9))
    return measured(blocks(ms * 1e-3), algorithm, variant, clocks=clocks, **changes)


def tables(*records: Record) -> list[Table]:
    held = holding(*records)
    return machine(cells_frame(held), layers_frame(held))


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


# ---- the frame ---------------------------------------------------------------------------------------------


def test_the_frame_holds_what_stands_beside_a_time() -> None:
    details = {"selection": "find", "picked": "FFT", "order": [["FFT", 64]]}
    (row,) = cells_frame(holding(told(timed(cache="hot"), details=details))).itertuples()
    assert (row.cache, row.limit_rate, row.clock_reasons) == ("hot", "gemm fp32", "sw_power_cap sw_thermal")
    assert (row.selection, row.picked, row.order) == ("find", "FFT", '[["FFT", 64]]')
    figures = (
        *(row.prepare_ms, row.first_call_ms, row.limit_ms, row.clock_mhz, row.watts, row.celsius),
        *(row.enqueue_ms, row.call_ms, row.joules, row.joules_resolution),
    )
    assert figures == pytest.approx((250, 500, 0.5, 1600, 512.4, 61, 0.02, 1.1, 0.5, 0.02))


def test_what_a_record_lacks_is_missing_in_the_frame() -> None:
    frame = cells_frame(holding(timed(clocks=()), settled(Status.OOM, "fft")))
    assert set(frame.columns) == set(COLUMNS) and all(COLUMNS.values())
    absent = ("limit_ms", "limit_rate", "clock_mhz", "watts", "clock_reasons", "call_ms", "joules", "order")
    assert frame[list(absent)].isna().all(axis=None)
    assert list(frame["selection"]) == ["", ""]


# ---- the tables --------------------------------------------------------------------------------------------


def test_every_algorithm_has_its_fastest_variant() -> None:
    cells = [told(timed(4.0)), told(timed(1.0, variant="fast")), told(timed(2.0, "fft", "whole"), board=None)]
    hardware, energy = tables(*cells)
    assert column(hardware, "algorithm") == ["direct/fast", "fft/whole"]
    assert column(hardware, "time (ms)") == ["1.00", "2.00"]
    assert column(hardware, "% of limit") == ["50.0 · gemm fp32", "25.0 · gemm fp32"]
    assert column(hardware, "SM MHz") == ["1600", "1600"]
    assert [column(hardware, name)[0] for name in ("W", "°C")] == ["512", "61"]
    assert column(hardware, "clock held by") == ["sw_power_cap, sw_thermal", MISSING]
    assert column(hardware, "W")[1] == MISSING
    assert column(hardware, "enqueue (ms)")[0] == "0.0200" and column(hardware, "call (ms)")[0] == "1.10"
    assert energy.columns[-3:] == ("J per call", "± %", "GFLOP/J")
    assert energy.rows[0][-3:-1] == ("0.500", "2.0")
    assert float(energy.rows[0][-1]) == pytest.approx(FLOPS / 0.5 / 1e9, rel=0.01)


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    (table,) = tables(timed(), told(timed(2.0, "fft"), energy=None, board=None, host=None, limit=None))
    assert table.columns == ("layer", "direction", "algorithm", "time (ms)", "SM MHz")
    assert "NVML" not in table.note and "Joules" not in table.note and "clock" in table.note


def test_a_figure_that_is_not_known_is_no_zero() -> None:
    unknown = Board(None, None, None, None, None, [], 0)
    (table,) = tables(told(timed(1.0), energy=None), told(timed(2.0, "fft"), board=unknown, energy=None))
    assert [column(table, name)[1] for name in ("W", "°C", "clock held by")] == [MISSING, MISSING, ""]
    empty = tables(told(timed(), energy=Energy(0.0, 0.0, 0.02, 2.0, 0.1, 10)))[1]
    assert "GFLOP/J" not in empty.columns


@pytest.mark.parametrize("records", [[timed(clocks=())], [settled(Status.OOM)], []])
def test_without_such_figures_there_is_a_note(records: list[Record]) -> None:
    (table,) = tables(*records)
    assert table.rows == [] and table.note and "|" not in markdown(table)


@pytest.mark.parametrize("other", [{"environment": "e2"}, {"regime": "burst"}, {"figure": "gpu_hot"}])
def test_scopes_are_never_mixed(other: dict[str, str]) -> None:
    here, there = timed(1.0), timed(2.0, "fft", **other)
    found = tables(told(here, energy=None), told(there, energy=None, limit=Limit(1e-3, "copy")))
    assert [column(table, "% of limit") for table in found] == [["50.0 · gemm fp32"], ["50.0 · copy"]]
    assert len({table.title for table in found}) == 2
