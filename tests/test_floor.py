"""Bounds on a time: from measured rates, and from the silicon."""

from __future__ import annotations

import pytest

from convbench.ceilings import Ceiling
from convbench.floor import arithmetic, floor, least_flops, limit, memory_floor, peak
from convbench.problem import Problem

GEMM, TENSOR, COPY = 50e12, 700e12, 4e12
CEILINGS = {
    "gemm fp32": Ceiling("gemm fp32", "FLOP/s", GEMM, GEMM, 1.9e9),
    "gemm fp16": Ceiling("gemm fp16", "FLOP/s", TENSOR, TENSOR, 1.5e9),
    "copy": Ceiling("copy", "byte/s", COPY, COPY, 1.9e9),
}
DEEP = Problem.parse("n64c256h56k256r3p1")
DEPTHWISE = Problem.parse("n64c256h56k256r3p1g256")


def test_a_deep_layer_is_limited_by_arithmetic() -> None:
    found = limit(DEEP, {"flops": DEEP.flops}, CEILINGS)
    assert found is not None
    assert found.rate == "gemm fp32" and found.seconds == DEEP.flops / GEMM


def test_a_depthwise_layer_is_limited_by_memory() -> None:
    found = limit(DEPTHWISE, {"flops": DEPTHWISE.flops}, CEILINGS)
    assert found is not None
    assert found.rate == "copy" and found.seconds == DEPTHWISE.min_bytes / COPY


def test_split_operands_are_held_against_the_arithmetic_they_use() -> None:
    details = {"flops": 3 * DEEP.flops, "arithmetic": "fp16"}
    assert arithmetic(DEEP, details) == "fp16"
    found = limit(DEEP, details, CEILINGS)
    assert found is not None and found.seconds == 3 * DEEP.flops / TENSOR


@pytest.mark.parametrize("details", [{}, {"flops": None}, {"flops": 1, "arithmetic": "bf16"}])
def test_no_limit_where_work_or_rate_is_unknown(details: dict[str, object]) -> None:
    assert limit(DEEP, details, CEILINGS) is None
    assert limit(DEEP, {"flops": 1}, {}) is None


def test_the_peak_of_an_h200() -> None:
    peaks = peak((9, 0), 132, 1.98e9)
    assert peaks["fp32"] == pytest.approx(66.9e12, rel=1e-3)
    assert peaks["tf32"] == pytest.approx(535e12, rel=1e-3)
    assert peaks["fp16"] == peaks["bf16"] == pytest.approx(1070e12, rel=1e-3)
    assert peak((1, 0), 132, 1.98e9) == {}


def test_a_floor_is_below_every_known_algorithm() -> None:
    peaks = {"fp32": 1e12}
    known, closed = floor(DEEP, {"flops": DEEP.flops}, peaks), floor(DEEP, {}, peaks)
    assert known < DEEP.flops / 1e12
    assert 0 < closed < known / 4  # F(6,3), whose tiles cover 60 of 56 rows
    assert floor(DEEP, {}, {}) == 0.0


def test_the_cheapest_algorithm_depends_on_the_filter() -> None:
    assert least_flops(Problem.parse("n1c64h14k64r1")) == Problem.parse("n1c64h14k64r1").flops
    large = Problem.parse("n64c64h64k128r9")
    assert least_flops(large) < large.flops / 15  # FFT; vendors reach ten times the arithmetic rate there


def test_memory_has_to_bring_the_operands_but_not_to_take_the_result() -> None:
    everything = memory_floor(DEEP, COPY, 0)
    cached = memory_floor(DEEP, COPY, 60_000_000)
    assert cached < everything < DEEP.min_bytes / COPY
    assert everything - cached == pytest.approx(60_000_000 / COPY / 1.15)
